/* What the host does: recording and replaying, and the part of a sampling step that
 * is not the denoiser's. */
#include "network.h"

#include <string.h>

/* ---- recording and replaying a training step ---- */

typedef struct host_times {
    double *record, *replay;
    double ops;
} host_times;

static pipe_status time_host(network *n, size_t repeats, host_times *h, pipe_error *err)
{
    enum { WARM = 2 };

    for (size_t k = 0; k < WARM + repeats; k++) {
        const uint64_t before = pipei_engine_stats_get(n->engine).ops_recorded;
        const double start = pipei_thread_seconds();
        PIPE_TRY(network_step(n, err));
        const double recorded = pipei_thread_seconds();
        PIPE_TRY(pipe_eval(n->engine, err));
        const double replayed = pipei_thread_seconds();
        PIPE_TRY(pipe_finish(n->engine, err));
        if (k < WARM)
            continue;
        h->ops = (double)(pipei_engine_stats_get(n->engine).ops_recorded - before);
        h->record[k - WARM] = recorded - start;
        h->replay[k - WARM] = replayed - recorded;
    }
    return PIPE_OK;
}

static pipe_status host_rows(bench *b, const network_case *what, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) double *times = pipe_alloc_array(2 * b->repeats, sizeof *times);
    host_times h = {.record = times, .replay = times + b->repeats};
    bench_case c = {.unit = BENCH_OPS};
    network n;

    snprintf(c.shape, sizeof c.shape, "%s training step", what->name);
    const bool record = bench_wanted(b, "host: record", c.shape),
               replay = bench_wanted(b, "host: replay", c.shape);
    if (!record && !replay)
        return PIPE_OK;
    pipe_status status = network_open(b, what, &n, err);
    if (status == PIPE_OK)
        status = time_host(&n, b->repeats, &h, err);
    network_close(&n);
    PIPE_TRY(status);
    c.work = h.ops;
    snprintf(c.shape, sizeof c.shape, "%s training step, %.0f operations", what->name, h.ops);
    for (int k = 0; k < 2; k++) {
        bench_time t = bench_summary(k ? h.replay : h.record, b->repeats, 0.0);
        t.cpu = t.least; /* the clock was the thread's CPU time */
        c.name = k ? "host: replay" : "host: record";
        if (k ? replay : record)
            bench_add_row(b, &c, &t, NULL);
    }
    return PIPE_OK;
}

/* ---- samplers, with a denoiser that costs next to nothing ---- */
enum { SAMPLES = 64, SIDE = 28 };

static pipe_tensor *cheap_predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                                  const pipe_condition *c)
{
    (void)self;
    (void)m;
    (void)l;
    (void)c;
    return pipe_scale(x, 0.5);
}

static const pipe_plugin cheap_denoiser = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "denoiser.bench",
    .version = "1.0.0",
    .summary = "half of its input",
    .denoiser = {.predict = cheap_predict},
};

typedef struct sampling_run {
    pipe_sample_request request;
    pipe_tensor *x;
} sampling_run;

static pipe_status run_sampling(void *arg, size_t times, pipe_error *err)
{
    sampling_run *r = arg;

    for (size_t k = 0; k < times; k++)
        PIPE_TRY(pipe_sample(&r->request, &r->x, err));
    return PIPE_OK;
}

/* One run to begin with: how often it asks the denoiser, and how many kernels that takes. */
static pipe_status try_sampler(bench *b, const char *name, const char *steps, pipe_context *ctx,
                               sampling_run *r, bench_case *c, pipe_error *err)
{
    const uint64_t asked = pipe_denoiser_evaluations(r->request.denoiser),
                   launched = pipei_engine_stats_get(b->engine).launches;

    PIPE_TRY(bench_object(b, name, (const char *const[]){"steps", steps, NULL}, ctx, &r->request.sampler, err));
    PIPE_TRY(run_sampling(r, 1, err));
    c->work = (double)(pipe_denoiser_evaluations(r->request.denoiser) - asked) / SAMPLES;
    snprintf(c->shape, sizeof c->shape, "%d x %dx%dx1, own work per call, %.1f kernels", SAMPLES, SIDE, SIDE,
             (double)(pipei_engine_stats_get(b->engine).launches - launched) / c->work);
    return PIPE_OK;
}

static pipe_status measure_sampler(bench *b, const char *name, pipe_context *ctx, pipe_denoiser *denoiser,
                                   pipe_error *err)
{
    sampling_run r = {.request = {.size = sizeof r.request, .denoiser = denoiser, .n = SAMPLES}};
    bench_case c = {
        .name = name, .unit = BENCH_EVALUATIONS, .run = run_sampling, .arg = &r, .engine = b->engine};

    snprintf(c.shape, sizeof c.shape, "%d x %dx%dx1", SAMPLES, SIDE, SIDE);
    if (!bench_wanted(b, c.name, c.shape))
        return PIPE_OK;
    pipe_status status = try_sampler(b, name, "20", ctx, &r, &c, err);
    if (status == PIPE_EINVAL && r.request.sampler) { /* adaptive ones take `steps` as a limit */
        pipe_object_unref(r.request.sampler);
        r.request.sampler = NULL;
        status = try_sampler(b, name, "1000", ctx, &r, &c, err);
    }
    if (status != PIPE_OK && !r.request.sampler) { /* there are parameters that must be given */
        pipe_log(PIPE_LOG_WARN, "bench", "%s is not measured: %s", name, err->message);
        return PIPE_OK;
    }
    if (status == PIPE_OK)
        status = bench_measure(b, &c, 1, NULL, err);
    pipe_keep(&r.x, NULL);
    pipe_object_unref(r.request.sampler);
    return status;
}

/* Every sampler that there is and that needs no input of its own. */
static pipe_status sampler_rows(bench *b, pipe_context *ctx, pipe_denoiser *denoiser, pipe_error *err)
{
    for (size_t k = 0; k < pipei_registry_count(b->registry); k++) {
        const pipe_plugin *p = &pipei_registry_at(b->registry, k)->meta;
        if (strcmp(p->kind, PIPE_KIND_SAMPLER) == 0 && (!p->inputs || !p->inputs->name))
            PIPE_TRY(measure_sampler(b, p->name, ctx, denoiser, err));
    }
    return PIPE_OK;
}

static pipe_status samplers(bench *b, pipe_context *ctx, pipe_error *err)
{
    const pipe_shape sample = PIPE_SHAPE(SIDE, SIDE, 1);
    pipe_object *denoiser = NULL, *schedule = NULL;

    pipe_status status = pipei_object_create(&cheap_denoiser, "denoiser", NULL, NULL, 0, ctx, &denoiser, err);
    if (status == PIPE_OK)
        status = bench_object(b, "schedule.cosine", NULL, ctx, &schedule, err);
    if (status == PIPE_OK)
        status = pipe_denoiser_declare(denoiser, PIPE_PREDICT_V, schedule, &sample, 0.5, err);
    if (status == PIPE_OK)
        status = sampler_rows(b, ctx, denoiser, err);
    pipe_object_unref(denoiser);
    pipe_object_unref(schedule);
    return status;
}

pipe_status bench_host(bench *b, pipe_error *err)
{
    PIPE_CLEANUP(bench_context_free) pipe_context *ctx = NULL;

    PIPE_TRY(host_rows(b, &network_unet, err));
    PIPE_TRY(host_rows(b, &network_mlp, err));
    PIPE_TRY(pipei_context_standalone(b->engine, "bench", 1, NULL, &ctx, err));
    return samplers(b, ctx, err);
}
