/* pipe bench */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_REPEATS = 7, MOST_REPEATS = 1000 };

static const cli_option options[] = {
    {"filter", 0, "PATTERN",
     "only rows whose name and shape have PATTERN in them, in which * and ? stand for anything; may be "
     "repeated"},
    {"repeats", 0, "N", "repetitions of each row (default: 7); more are steadier and take longer"},
    {"device", 0, "DEVICE", "auto, cpu, gpu, or one that `pipe devices` lists"},
    {"device-profile", 0, "NAME", "kernels of another class of device: gpu, avx512, avx2 or sse"},
    {"export", 0, "DIR",
     "write what the networks compute (weights, inputs, output, loss, gradients) there, for comparisons"},
    {"json", 0, NULL, "print one JSON document"},
    {NULL}};

static bench_group *const groups[] = {
    bench_machine,      bench_products, bench_convolutions, bench_attention,
    bench_memory_bound, bench_host,     bench_models,
};

pipe_status bench_leaf(pipe_engine *e, pipe_shape shape, uint64_t salt, pipe_tensor **slot, pipe_error *err)
{
    const size_t n = (size_t)pipe_shape_count(&shape);
    PIPE_CLEANUP(pipe_free_ptr) float *x = pipe_alloc_array(n + 1, sizeof *x);

    for (size_t k = 0; k < n; k++)
        x[k] = (float)(((k + 1) * (2 * salt + 1) * 2654435761u >> 7) % 2003) / 1001.5f - 1.0f;
    pipe_keep(slot, pipe_from_f32(e, shape, x));
    return pipe_check(*slot, err);
}

void bench_context_free(pipe_context **ctx)
{
    pipei_context_free(*ctx);
}

pipe_status bench_object(bench *b, const char *plugin, const char *const *params, pipe_context *ctx,
                         pipe_object **out, pipe_error *err)
{
    const pipei_plugin *found = pipei_registry_find(b->registry, plugin);
    const pipe_plugin *live = NULL;

    if (!found)
        return pipe_fail(err, PIPE_ENOTFOUND, "there is no plugin %s: `pipe inspect --broken` may tell why",
                         plugin);
    PIPE_TRY(pipei_registry_load(b->registry, found, &live, err));
    return pipei_object_create(live, plugin, params, NULL, 0, ctx, out, err);
}

static bool read_repeats(const cli_args *a, size_t *out)
{
    const char *text = cli_value(a, "repeats");
    char *end = NULL;

    *out = DEFAULT_REPEATS;
    if (!text)
        return true;
    errno = 0;
    const unsigned long n = strtoul(text, &end, 10);
    if (errno || end == text || *end || n < 1 || n > MOST_REPEATS) {
        cli_usage(a->verb, "--repeats=%s: a number from 1 to %d", text, MOST_REPEATS);
        return false;
    }
    *out = n;
    return true;
}

static pipe_status run_groups(bench *b, pipe_error *err)
{
    PIPE_TRY(pipei_engine_new(b->device, b->profile, &b->engine, err));
    for (size_t k = 0; k < sizeof groups / sizeof groups[0]; k++)
        PIPE_TRY(groups[k](b, err));
    return PIPE_OK;
}

static json_t *document(const bench *b)
{
    const pipei_device_info *d = pipei_device_describe(pipei_engine_device(b->engine));
    const pipe_device_profile *p = pipei_device_profile(pipei_engine_device(b->engine));

    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:i}", "pipe", pipe_version(), "device", d->name,
                          "driver", d->driver, "kernels", p->cpu ? "cpu" : "gpu", "lanes",
                          (int)p->vector_width, "cores", (int)p->compute_units, "repeats", (int)b->repeats);

    json_object_set_new(j, "peak_flops", json_real(b->flops));
    json_object_set_new(j, "peak_flops_per_cpu_second", json_real(b->flops_cpu));
    json_object_set_new(j, "peak_bandwidth", json_real(b->bandwidth));
    json_object_set_new(j, "peak_bandwidth_per_cpu_second", json_real(b->bandwidth_cpu));
    json_object_set(j, "rows", b->rows);
    return j;
}

static int run(const cli_args *a)
{
    PIPE_CLEANUP(cli_close_registry) pipei_registry *registry = NULL;
    PIPE_CLEANUP(pipe_free_ptr) const char **filter = pipe_alloc_array(a->n_given + 1, sizeof *filter);
    bench b = {.device = cli_value(a, "device"),
               .profile = cli_value(a, "device-profile"),
               .filter = filter,
               .n_filters = cli_values(a, "filter", filter, a->n_given),
               .export_to = cli_value(a, "export")};
    pipe_error err = PIPE_ERROR_INIT;

    if (!cli_operands(a, 0, 0, "argument") || !read_repeats(a, &b.repeats))
        return EXIT_USAGE;
    registry = b.registry = cli_open_registry();
    if (!registry)
        return EXIT_RUN;
    if (cli_flag(a, "json"))
        b.rows = json_array();
    const pipe_status status = run_groups(&b, &err);
    json_t *result = status == PIPE_OK && b.rows ? document(&b) : NULL;
    json_decref(b.rows);
    pipei_engine_free(b.engine);
    if (status != PIPE_OK)
        return status == PIPE_EINVAL || status == PIPE_ENOTFOUND ? cli_fail(EXIT_USAGE, "%s", err.message)
                                                                 : cli_fail_error(status, &err);
    return result ? cli_output_json(result) : 0;
}

const cli_verb cli_verb_bench = {
    .name = "bench",
    .summary = "Measures what this machine and its kernels do",
    .usage = "[OPTIONS]",
    .help = "First the device's limits (multiply-adds, memory), then matrix products beside CLBlast and "
            "OpenBLAS, "
            "convolutions, attention, norms, elementwise chains, the optimizer, the host's part (recording, "
            "replaying, "
            "a sampler's own work), and training steps and forward passes of three networks: a U-Net of 1.56 "
            "million "
            "weights, a transformer and a perceptron.\n\n"
            "Columns: the median of the repetitions, the least, the least CPU time of all threads together, "
            "the rate by "
            "the median, and that rate as a share of the limit measured at the start: first by the clock, "
            "then by CPU "
            "time, which other work on the machine disturbs less. Rows that are compared run in turn.",
    .options = options,
    .run = run,
};
