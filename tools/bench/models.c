/* Training steps and forward passes of whole networks. */
#include "network.h"

static pipe_status run_step(void *arg, size_t times, pipe_error *err)
{
    network *n = arg;

    for (size_t k = 0; k < times; k++) {
        PIPE_TRY(network_step(n, err));
        PIPE_TRY(pipe_eval(n->engine, err));
    }
    return PIPE_OK;
}

static pipe_status forward(network *n, pipe_tensor *x, size_t times, pipe_error *err)
{
    pipe_model_set_training(n->model, false, 0);
    for (size_t k = 0; k < times; k++) {
        pipe_keep(&n->output, network_forward(n, x));
        PIPE_TRY(pipe_eval(n->engine, err));
    }
    return PIPE_OK;
}

static pipe_status run_forward(void *arg, size_t times, pipe_error *err)
{
    network *n = arg;

    return forward(n, n->x, times, err);
}

static pipe_status run_forward_one(void *arg, size_t times, pipe_error *err)
{
    network *n = arg;

    return forward(n, n->one, times, err);
}

enum { ONE, ALL, STEP, ROWS };

/* Operations of one forward pass of the whole batch.  Nothing is computed. */
static double count(network *n)
{
    pipe_model_set_training(n->model, false, 0);
    network_forward(n, n->x);
    const double work = network_count(n->engine);
    pipei_engine_discard(n->engine);
    return work;
}

/* A gradient costs what two forward passes do. */
static void describe(network *n, bench_case *c)
{
    const int64_t batch = n->what->batch.dim[0];
    const double work = count(n);

    for (int k = 0; k < ROWS; k++)
        c[k].arg = n, c[k].engine = n->engine;
    c[ONE].work = work / (double)batch;
    c[ALL].work = work;
    c[STEP].work = 3.0 * work;
}

static pipe_status measure(bench *b, network *n, bench_case *c, const bool *wanted, pipe_error *err)
{
    describe(n, c);
    for (int k = 0; k < ROWS; k++)
        if (wanted[k])
            PIPE_TRY(bench_measure(b, &c[k], 1, NULL, err));
    return PIPE_OK;
}

static pipe_status run_network(bench *b, const network_case *what, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *pass = pipe_format("%s forward", what->name);
    PIPE_CLEANUP(pipe_free_ptr) char *step = pipe_format("%s training step", what->name);
    /* Rising in what they hold at one time: the peak of memory is always the last one's. */
    bench_case c[ROWS] = {
        [ONE] = {.name = pass, .unit = BENCH_FLOPS, .run = run_forward_one, .memory = true},
        [ALL] = {.name = pass, .unit = BENCH_FLOPS, .run = run_forward, .memory = true},
        [STEP] = {.name = step, .unit = BENCH_FLOPS, .run = run_step, .memory = true},
    };
    bool wanted[ROWS], any = false;
    network n;

    for (int k = 0; k < ROWS; k++) {
        snprintf(c[k].shape, sizeof c[k].shape, "batch %d, %s", k == ONE ? 1 : (int)what->batch.dim[0],
                 what->about);
        wanted[k] = bench_wanted(b, c[k].name, c[k].shape);
        any = any || wanted[k];
    }
    if (!any)
        return PIPE_OK;
    c[ONE].resident = c[ALL].resident = c[STEP].resident = bench_resident();
    pipe_status status = network_open(b, what, &n, err);
    if (status == PIPE_OK && b->export_to)
        status = network_export(&n, b->export_to, err);
    if (status == PIPE_OK)
        status = measure(b, &n, c, wanted, err);
    network_close(&n);
    return status;
}

pipe_status bench_models(bench *b, pipe_error *err)
{
    PIPE_TRY(run_network(b, &network_unet, err));
    PIPE_TRY(run_network(b, &network_dit, err));
    return run_network(b, &network_mlp, err);
}
