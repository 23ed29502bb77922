/* pipe run --profile: the trace opens as JSON, and tells of every kernel when and for
 * which node it ran. */
#include "support/command.h"
#include "support/folder.h"

#include <jansson.h>
#include <stdio.h>

static const char pipeline[] =
    "pipeline: traced\n"
    "nodes:\n"
    "  truth: {plugin: denoiser.gaussian-mixture, means: [0, 1], covariances: [0.25]}\n"
    "  data: {plugin: generate, denoiser: truth, sampler: ddim, count: 16}\n"
    "  net: {plugin: denoiser.mlp, width: 8, depth: 1, features: 4}\n"
    "  model: {plugin: fit, model: net, objective: denoise, data: data, steps: 3, batch: 4}\n"
    "  file: {plugin: sink.csv, value: data}\n";

static char *folder, *cache;

static void put(const char *name, const char *text)
{
    pipe_error err = PIPE_ERROR_INIT;
    char *path = pipe_format("%s/%s", folder, name);
    MUST(pipei_file_write(path, text, strlen(text), &err));
    pipe_free(path);
}

static void setup(void)
{
    folder = folder_make();
    cache = pipe_format("%s/cache", folder);
    put("q.yaml", pipeline);
}

static void teardown(void)
{
    pipe_free_ptr(&cache);
    folder_drop(&folder);
}

TestSuite(trace, .init = setup, .fini = teardown);

static json_t *trace_of(const char *line)
{
    json_error_t reason;
    command c = command_run(folder, cache, line);
    command_expect(&c, 0, line);
    command_free(&c);
    char *path = pipe_format("%s/runs/traced/latest/trace.json", folder);
    json_t *trace = json_load_file(path, JSON_REJECT_DUPLICATES, &reason);
    cr_assert(trace && json_is_array(trace), "%s: %s", path, reason.text);
    pipe_free(path);
    return trace;
}

static bool is(const json_t *event, const char *key, const char *value)
{
    const char *text = json_string_value(json_object_get(event, key));
    return text && strcmp(text, value) == 0;
}

static double start_of(const json_t *event)
{
    return json_number_value(json_object_get(event, "ts"));
}

static double end_of(const json_t *event)
{
    return start_of(event) + json_number_value(json_object_get(event, "dur"));
}

static const json_t *step_of(const json_t *trace, const char *node)
{
    const json_t *event;
    size_t k;
    json_array_foreach(trace, k, event) if (is(event, "cat", "step") && is(event, "name", node)) return event;
    return NULL;
}

static const json_t *name_of_track(const json_t *trace, const json_t *of)
{
    const json_t *event;
    size_t k;
    json_array_foreach(
        trace, k,
        event) if (is(event, "ph", "M") &&
                   json_equal(json_object_get(event, "tid"),
                              json_object_get(
                                  of, "tid"))) return json_object_get(json_object_get(event, "args"), "name");
    return NULL;
}

Test(trace, every_kernel_by_node)
{
    enum { SLACK = 2000 }; /* microseconds: two clocks */
    json_t *trace = trace_of("$PIPE run --profile --progress=none q.yaml");
    const json_t *event;
    double last = 0.0;
    size_t k, of_data = 0, of_model = 0, updates = 0;

    json_array_foreach(trace, k, event)
    {
        if (!is(event, "cat", "kernel"))
            continue;
        const json_t *args = json_object_get(event, "args");
        const char *node = json_string_value(json_object_get(args, "node"));
        const char *op = json_string_value(json_object_get(event, "name"));
        const char *kernel = json_string_value(json_object_get(args, "kernel"));
        cr_assert(node && op && kernel && is(event, "ph", "X"), "event %zu", k);
        cr_expect(strncmp(kernel, op, strlen(op)) == 0, "kernel %s of %s", kernel, op);
        const json_t *step = step_of(trace, node);
        cr_assert(step, "there is no step %s", node);
        cr_expect(end_of(event) > start_of(event), "%s takes %g us", kernel, end_of(event) - start_of(event));
        cr_expect(start_of(event) >= last - 0.01, "%s begins at %g us, before the end of the last at %g",
                  kernel, start_of(event), last);
        cr_expect(start_of(event) >= start_of(step) - SLACK && end_of(event) <= end_of(step) + SLACK,
                  "%s runs from %g to %g us, %s from %g to %g", kernel, start_of(event), end_of(event), node,
                  start_of(step), end_of(step));
        char *track = pipe_format("%s: kernels", node);
        cr_expect_str_eq(json_string_value(name_of_track(trace, event)), track);
        pipe_free(track);
        last = end_of(event);
        of_data += strcmp(node, "data") == 0;
        of_model += strcmp(node, "model") == 0;
        updates += strcmp(node, "model") == 0 && strcmp(op, "matmul") == 0;
    }
    cr_expect(of_data >= 50, "%zu kernels in 50 steps of a sampler", of_data);
    cr_expect(of_model >= 3 && updates >= 3, "%zu kernels of the training, %zu products", of_model, updates);
    cr_expect(step_of(trace, "file"), "a step without kernels is missing");
    cr_expect(!step_of(trace, "net") && !step_of(trace, "truth"), "components are no steps");
    json_decref(trace);
}

/* Cached steps run nothing; a run that fails half-way leaves a whole file, too. */
Test(trace, what_did_not_run_is_not_in_it)
{
    const json_t *event;
    size_t k, steps = 0;
    json_decref(trace_of("$PIPE run --profile --progress=none q.yaml"));
    json_t *trace = trace_of("$PIPE run --profile --progress=none q.yaml");

    json_array_foreach(trace, k, event) steps += !is(event, "ph", "M");
    cr_expect_eq(steps, 0, "%zu events of cached steps", steps);
    json_decref(trace);

    put("wrong.yaml", pipeline);
    command c = command_run(folder, cache,
                            "sed -i 's/denoiser.mlp.*}/denoiser.unet}/' wrong.yaml; "
                            "$PIPE run --profile --progress=none wrong.yaml");
    command_expect(&c, 3, "a network for images that gets points");
    json_error_t reason;
    command_free(&c);
    c = command_run(folder, cache, "cat runs/traced/*.partial/trace.json");
    trace = json_loads(c.out, JSON_REJECT_DUPLICATES, &reason);
    cr_assert(trace, "%s", reason.text);
    cr_expect(step_of(trace, "model"), "the step that failed is missing");
    json_decref(trace);
    command_free(&c);
}

Test(trace, none_without_the_option)
{
    command c = command_run(folder, cache,
                            "$PIPE run --progress=none q.yaml && ! test -e runs/traced/latest/trace.json");
    command_expect(&c, 0, "no trace");
    command_free(&c);
}
