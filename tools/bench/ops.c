/* Operations at the sizes at which the networks of models.c use them. */
#include "bench.h"

#include <string.h>

enum { MOST = 5 };

/* What one row records. */
typedef struct op_run {
    pipe_engine *engine;
    pipe_tensor *in[MOST], *out[MOST];
    void (*record)(struct op_run *r, pipe_tensor **y); /* fills y, NULL behind the last */
    pipe_conv conv;
    int64_t size[2]; /* of the image that a gradient has, or of the kernel */
    pipe_object *optimizer;
} op_run;

static void op_free(op_run *r)
{
    for (int k = 0; k < MOST; k++) {
        pipe_keep(&r->in[k], NULL);
        pipe_keep(&r->out[k], NULL);
    }
}

static pipe_status run_op(void *arg, size_t times, pipe_error *err)
{
    op_run *r = arg;

    for (size_t k = 0; k < times; k++) {
        pipe_tensor *y[MOST] = {NULL};
        r->record(r, y);
        for (int i = 0; i < MOST && y[i]; i++)
            pipe_keep(&r->out[i], y[i]);
        PIPE_TRY(pipe_eval(r->engine, err));
    }
    return PIPE_OK;
}

static pipe_status measure_op(bench *b, op_run *r, const char *name, const char *shape, bench_unit unit,
                              double work, pipe_error *err)
{
    bench_case c = {.name = name, .work = work, .unit = unit, .run = run_op, .arg = r, .engine = b->engine};

    snprintf(c.shape, sizeof c.shape, "%s", shape);
    return bench_measure(b, &c, 1, NULL, err);
}

/* Leaves for the shapes given, up to one of rank 0. */
static pipe_status fill(bench *b, op_run *r, const pipe_shape *shapes, pipe_error *err)
{
    r->engine = b->engine;
    for (int k = 0; k < MOST && shapes[k].rank; k++)
        PIPE_TRY(bench_leaf(b->engine, shapes[k], (uint64_t)k + 1, &r->in[k], err));
    return PIPE_OK;
}

/* ---- convolution ---- */
typedef struct conv_case {
    int side, in, out, kernel, stride;
} conv_case;

/* The convolutions of the U-Net of models.c with 64 images of 28 x 28. */
static const conv_case convolutions[] = {
    {28, 1, 32, 3, 1},   {28, 32, 32, 3, 1}, {28, 64, 32, 3, 1}, {28, 96, 32, 3, 1}, {28, 64, 64, 3, 1},
    {28, 32, 1, 3, 1},   {14, 32, 64, 3, 1}, {14, 64, 64, 3, 1}, {14, 96, 64, 3, 1}, {14, 128, 64, 3, 1},
    {7, 64, 64, 3, 1},   {7, 128, 64, 3, 1}, {28, 32, 32, 3, 2}, {14, 64, 64, 3, 2}, {28, 96, 32, 1, 1},
    {14, 128, 64, 1, 1}, {7, 128, 64, 1, 1}, {28, 32, 64, 1, 2}, {14, 64, 64, 1, 2},
};
enum { CONV_BATCH = 64 };

static void record_forward(op_run *r, pipe_tensor **y)
{
    y[0] = pipe_conv2d(r->in[0], r->in[1], r->conv);
}

static void record_input_gradient(op_run *r, pipe_tensor **y)
{
    y[0] = pipe_conv2d_transpose(r->in[2], r->in[1], r->size[0], r->size[0], r->conv);
}

static void record_weight_gradient(op_run *r, pipe_tensor **y)
{
    y[0] = pipe_conv2d_weight_grad(r->in[0], r->in[2], r->size[1], r->size[1], r->conv);
}

static pipe_status run_convolution(bench *b, const conv_case *c, pipe_error *err)
{
    static const struct {
        const char *name;
        void (*record)(op_run *r, pipe_tensor **y);
    } ways[] = {{"conv", record_forward},
                {"conv input gradient", record_input_gradient},
                {"conv weight gradient", record_weight_gradient}};
    PIPE_CLEANUP(op_free)
    op_run r = {.conv = PIPE_CONV((uint32_t)c->stride, c->kernel / 2), .size = {c->side, c->kernel}};
    const int64_t out = (c->side - 1) / c->stride + 1, k = c->kernel;
    const double work = 2.0 * CONV_BATCH * (double)(out * out * k * k * c->in * c->out);
    char shape[80];

    snprintf(shape, sizeof shape, "%dx%d s%d, %d x %dx%d, %d to %d", c->kernel, c->kernel, c->stride,
             CONV_BATCH, c->side, c->side, c->in, c->out);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        if (!bench_wanted(b, ways[i].name, shape))
            continue;
        if (!r.engine)
            PIPE_TRY(fill(b, &r,
                          (const pipe_shape[MOST]){PIPE_SHAPE(CONV_BATCH, c->side, c->side, c->in),
                                                   PIPE_SHAPE(k, k, c->in, c->out),
                                                   PIPE_SHAPE(CONV_BATCH, out, out, c->out)},
                          err));
        r.record = ways[i].record;
        PIPE_TRY(measure_op(b, &r, ways[i].name, shape, BENCH_FLOPS, work, err));
    }
    return PIPE_OK;
}

static void record_conv1d(op_run *r, pipe_tensor **y)
{
    const int32_t pad = (int32_t)(r->size[0] / 2);

    y[0] = pipe_conv1d(r->in[0], r->in[1], 1, pad, pad, 1, 1);
}

static pipe_status run_conv1d(bench *b, int64_t n, int64_t length, int64_t in, int64_t out, int64_t k,
                              pipe_error *err)
{
    PIPE_CLEANUP(op_free) op_run r = {.record = record_conv1d, .size = {k}};
    char shape[80];

    snprintf(shape, sizeof shape, "%d s1, %d x %d, %d to %d", (int)k, (int)n, (int)length, (int)in, (int)out);
    if (!bench_wanted(b, "conv1d", shape))
        return PIPE_OK;
    PIPE_TRY(fill(b, &r, (const pipe_shape[MOST]){PIPE_SHAPE(n, length, in), PIPE_SHAPE(k, in, out)}, err));
    return measure_op(b, &r, "conv1d", shape, BENCH_FLOPS, 2.0 * (double)(n * length * k * in * out), err);
}

pipe_status bench_convolutions(bench *b, pipe_error *err)
{
    for (size_t k = 0; k < sizeof convolutions / sizeof convolutions[0]; k++)
        PIPE_TRY(run_convolution(b, &convolutions[k], err));
    PIPE_TRY(run_conv1d(b, 64, 256, 64, 64, 3, err));
    return run_conv1d(b, 16, 1024, 128, 128, 5, err);
}

/* ---- attention ---- */
static const struct {
    int batch, tokens, heads, size;
} attentions[] = {
    {64, 49, 4, 16}, {64, 196, 4, 16}, {64, 196, 4, 64}, {16, 256, 8, 32}, {8, 1024, 4, 64},
};

static void record_attention(op_run *r, pipe_tensor **y)
{
    y[0] = pipe_attention(r->in[0], r->in[1], r->in[2], NULL, 0.0, false);
}

static void record_attention_gradient(op_run *r, pipe_tensor **y)
{
    pipe_tensor *out = pipe_attention(r->in[0], r->in[1], r->in[2], NULL, 0.0, false);
    pipe_error err = PIPE_ERROR_INIT;

    if (pipe_grad(out, r->in[3], r->in, 3, y, &err) != PIPE_OK)
        y[0] = pipe_poison(r->engine, err.status, "%s", err.message);
}

/* Forward: two products.  Backward: five, since the weights are computed again. */
pipe_status bench_attention(bench *b, pipe_error *err)
{
    for (size_t i = 0; i < sizeof attentions / sizeof attentions[0]; i++) {
        const int64_t n = attentions[i].batch, s = attentions[i].tokens, h = attentions[i].heads,
                      d = attentions[i].size;
        const double product = 2.0 * (double)(n * h * s * s * d);
        const pipe_shape one = PIPE_SHAPE(n, s, h, d);
        PIPE_CLEANUP(op_free) op_run r = {.record = record_attention};
        char shape[80];

        snprintf(shape, sizeof shape, "%d x %d tokens, %d heads of %d", (int)n, (int)s, (int)h, (int)d);
        const bool forward = bench_wanted(b, "attention", shape),
                   backward = bench_wanted(b, "attention gradient", shape);
        if (!forward && !backward)
            continue;
        PIPE_TRY(fill(b, &r, (const pipe_shape[MOST]){one, one, one, one}, err));
        if (forward)
            PIPE_TRY(measure_op(b, &r, "attention", shape, BENCH_FLOPS, 2.0 * product, err));
        r.record = record_attention_gradient;
        if (backward)
            PIPE_TRY(measure_op(b, &r, "attention gradient", shape, BENCH_FLOPS, 5.0 * product, err));
    }
    return PIPE_OK;
}

/* ---- what memory bounds ---- */
static void record_group_norm(op_run *r, pipe_tensor **y)
{
    y[0] = pipe_group_norm(r->in[0], 8, 1e-5);
}

static void record_group_norm_silu(op_run *r, pipe_tensor **y)
{
    y[0] = pipe_silu(pipe_add(pipe_mul(pipe_group_norm(r->in[0], 8, 1e-5), r->in[1]), r->in[2]));
}

static void record_group_norm_gradient(op_run *r, pipe_tensor **y)
{
    pipe_error err = PIPE_ERROR_INIT;

    if (pipe_grad(pipe_group_norm(r->in[0], 8, 1e-5), r->in[1], r->in, 1, y, &err) != PIPE_OK)
        y[0] = pipe_poison(r->engine, err.status, "%s", err.message);
}

static void record_layer_norm(op_run *r, pipe_tensor **y)
{
    y[0] = pipe_layer_norm(r->in[0], 1e-5);
}

static void record_rms_norm(op_run *r, pipe_tensor **y)
{
    y[0] = pipe_rms_norm(r->in[0], 1e-5);
}

static void record_softmax(op_run *r, pipe_tensor **y)
{
    y[0] = pipe_softmax(r->in[0], -1);
}

static void record_chain(op_run *r, pipe_tensor **y)
{
    pipe_tensor *x = pipe_affine(r->in[0], 1.5, 0.5); /* 1, 2 */

    x = pipe_maximum(pipe_square(x), r->in[0]); /* 3, 4 */
    y[0] = pipe_sub(pipe_scale(x, 0.25), r->in[0]); /* 5, 6 */
}

static void record_silu(op_run *r, pipe_tensor **y)
{
    y[0] = pipe_silu(r->in[0]);
}

static void record_add(op_run *r, pipe_tensor **y)
{
    y[0] = pipe_add(r->in[0], r->in[1]);
}

static void record_sum(op_run *r, pipe_tensor **y)
{
    y[0] = pipe_sum_all(r->in[0]);
}

static void record_transpose(op_run *r, pipe_tensor **y)
{
    y[0] = pipe_transpose(r->in[0], 0, 1);
}

#define MIB64 PIPE_SHAPE(16 << 20)
#define IMAGES PIPE_SHAPE(64, 28, 28, 64)

/* `passes`: of the first input's bytes, read or written. */
static const struct {
    const char *name, *shape;
    void (*record)(op_run *r, pipe_tensor **y);
    double passes;
    pipe_shape in[MOST];
} streams[] = {
    {"chain of 6 operations", "64 MiB", record_chain, 2, {MIB64}},
    {"add", "64 MiB + 64 MiB", record_add, 3, {MIB64, MIB64}},
    {"silu", "64 MiB", record_silu, 2, {MIB64}},
    {"sum", "64 MiB", record_sum, 1, {MIB64}},
    {"transpose", "4096 x 4096", record_transpose, 2, {PIPE_SHAPE(4096, 4096)}},
    {"group norm", "64 x 28x28 x 64, 8 groups", record_group_norm, 2, {IMAGES}},
    {"group norm, affine, silu",
     "64 x 28x28 x 64, 8 groups",
     record_group_norm_silu,
     2,
     {IMAGES, PIPE_SHAPE(64), PIPE_SHAPE(64)}},
    {"group norm gradient", "64 x 28x28 x 64, 8 groups", record_group_norm_gradient, 3, {IMAGES, IMAGES}},
    {"layer norm", "12544 x 256", record_layer_norm, 2, {PIPE_SHAPE(12544, 256)}},
    {"rms norm", "12544 x 256", record_rms_norm, 2, {PIPE_SHAPE(12544, 256)}},
    {"softmax", "50176 x 196", record_softmax, 2, {PIPE_SHAPE(50176, 196)}},
};

/* Reads weights, gradient, two moments and the mask; writes weights and moments. */
enum { ADAM_PASSES = 8 };

static pipe_status run_update(void *arg, size_t times, pipe_error *err)
{
    op_run *r = arg;
    uint64_t step = 0;

    for (size_t k = 0; k < times; k++) {
        pipe_tensor *next[2] = {NULL};
        pipe_update u = {.size = sizeof u,
                         .p = r->in[0],
                         .g = r->in[1],
                         .state = r->in + 2,
                         .state_new = next,
                         .learning_rate = 1e-4,
                         .step = ++step,
                         .decay_mask = r->in[4]};
        PIPE_TRY(pipe_optimizer_update(r->optimizer, &u, err));
        PIPE_TRY(pipe_assign(r->in[0], u.p_new, err));
        for (int i = 0; i < 2; i++)
            PIPE_TRY(pipe_assign(r->in[2 + i], next[i], err));
        PIPE_TRY(pipe_eval(r->engine, err));
    }
    return PIPE_OK;
}

static pipe_status measure_update(bench *b, int64_t n, pipe_context *ctx, pipe_error *err)
{
    PIPE_CLEANUP(op_free) op_run r = {.engine = b->engine};
    const pipe_shape one = PIPE_SHAPE(n);
    bench_case c = {.name = "optimizer.adamw",
                    .work = 4.0 * ADAM_PASSES * (double)n,
                    .unit = BENCH_BYTES,
                    .run = run_update,
                    .arg = &r,
                    .engine = b->engine};

    snprintf(c.shape, sizeof c.shape, "%.2f million weights", 1e-6 * (double)n);
    if (!bench_wanted(b, c.name, c.shape))
        return PIPE_OK;
    PIPE_TRY(fill(b, &r, (const pipe_shape[MOST]){one, one, one, one, one}, err));
    /* A square's average is not negative. */
    PIPE_TRY(pipe_assign(r.in[3], pipe_square(r.in[3]), err));
    PIPE_TRY(bench_object(b, c.name, NULL, ctx, &r.optimizer, err));
    const pipe_status status = bench_measure(b, &c, 1, NULL, err);
    pipe_object_unref(r.optimizer);
    return status;
}

pipe_status bench_memory_bound(bench *b, pipe_error *err)
{
    for (size_t k = 0; k < sizeof streams / sizeof streams[0]; k++) {
        PIPE_CLEANUP(op_free) op_run r = {.record = streams[k].record};
        if (!bench_wanted(b, streams[k].name, streams[k].shape))
            continue;
        PIPE_TRY(fill(b, &r, streams[k].in, err));
        PIPE_TRY(measure_op(b, &r, streams[k].name, streams[k].shape, BENCH_BYTES,
                            4.0 * streams[k].passes * (double)pipe_shape_count(&streams[k].in[0]), err));
    }
    PIPE_CLEANUP(bench_context_free) pipe_context *ctx = NULL;
    PIPE_TRY(pipei_context_standalone(b->engine, "bench", 1, NULL, &ctx, err));
    PIPE_TRY(measure_update(b, 1560000, ctx, err));
    return measure_update(b, 16000000, ctx, err);
}
