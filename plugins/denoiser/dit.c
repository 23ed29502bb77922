/* The diffusion transformer: Peebles and Xie 2023, arXiv:2212.09748, with
 * adaLN-Zero (figure 3) and fixed sine positions in two dimensions. */
#include <pipe/pipe.h>

#include <math.h>

enum { TIME_FEATURES = 256 }; /* as the paper's code */

typedef struct {
    int64_t patch, width, depth, heads, classes, variance;
    double mlp_ratio, dropout, time_scale;
    bool gradient_checkpointing;
} state;

static const pipe_param params[] = {
    PIPE_INT(
        state, patch, 2, 1, 64, "pixels",
        "side of the squares that become tokens; half of it makes four times the tokens: finer and slower"),
    PIPE_INT(state, width, 128, 4, 16384, "channels",
             "of a token, a multiple of 4; cost grows with the square"),
    PIPE_INT(state, depth, 6, 1, 256, "blocks", "of the transformer; more is slower and stronger"),
    PIPE_INT(state, heads, 4, 1, 256, NULL,
             "of each attention; more look at more things with fewer channels each"),
    PIPE_FLOAT(state, mlp_ratio, 4.0, 0.25, 16.0, NULL,
               "width of each block's perceptron in units of `width`"),
    PIPE_FLOAT(
        state, dropout, 0.0, 0.0, 0.9, NULL,
        "share of values zeroed in each perceptron while training; higher overfits less and learns slower"),
    PIPE_INT(state, classes, 0, 0, 1000000, "classes", "that labels choose from; 0: unconditional"),
    PIPE_FLOAT(state, time_scale, 1000.0, 1e-6, 1e9, NULL,
               "factor of the time before its sine features; higher tells neighbouring times apart better"),
    PIPE_BOOL(state, gradient_checkpointing, false,
              "compute each block again in the backward pass in place of keeping its inner values: less "
              "memory, the "
              "same bits, about a third more time per training step"),
    PIPE_VARIANCE_PARAM(state),
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;

    (void)ctx;
    if (st->width % 4)
        return pipe_fail(err, PIPE_EINVAL, "width: %lld is not a multiple of 4, as the sine positions need",
                         (long long)st->width);
    if (st->width % st->heads)
        return pipe_fail(err, PIPE_EINVAL, "heads: %lld heads do not divide the width %lld",
                         (long long)st->heads, (long long)st->width);
    return PIPE_OK;
}

static pipe_status describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    const state *st = self;

    (void)err;
    info->classes = st->classes;
    info->attention_blocks = st->depth;
    info->variance = (pipe_variance)st->variance;
    return PIPE_OK;
}

/* Uniform with the variance of Glorot and Bengio 2010: what the paper's code uses. */
static pipe_init glorot(int64_t in, int64_t out)
{
    return (pipe_init){.kind = PIPE_INIT_UNIFORM, .value = sqrt(6.0 / (double)(in + out))};
}

static pipe_tensor *linear(pipe_model *m, const char *name, pipe_tensor *x, int64_t out)
{
    return pipe_layer_linear_with(m, name, x, out, true, glorot(pipe_dim(x, -1), out));
}

static pipe_tensor *zero_linear(pipe_model *m, const char *name, pipe_tensor *x, int64_t out)
{
    return pipe_layer_linear_with(m, name, x, out, true, (pipe_init){.kind = PIPE_INIT_ZEROS});
}

/* Chunk k of [n, parts * width]. */
static pipe_tensor *chunk(pipe_tensor *c, int64_t k, int64_t width)
{
    return pipe_slice(c, 1, k * width, width, 1);
}

/* The same for each token: [n, 1, width]. */
static pipe_tensor *gate(pipe_tensor *c, int64_t k, int64_t width)
{
    return pipe_reshape(chunk(c, k, width), PIPE_SHAPE(pipe_dim(c, 0), 1, width));
}

/* Layer norm without a gain of its own, then scale and shift by what time and class say. */
static pipe_tensor *modulate(pipe_tensor *x, pipe_tensor *shift, pipe_tensor *scale)
{
    return pipe_layer_norm_affine(x, 1e-6, pipe_affine(scale, 1.0, 1.0), shift, PIPE_ACTIVATION_NONE);
}

static pipe_tensor *heads_of(const state *st, pipe_model *m, const char *name, pipe_tensor *x)
{
    return pipe_reshape(linear(m, name, x, st->width),
                        PIPE_SHAPE(pipe_dim(x, 0), pipe_dim(x, 1), st->heads, st->width / st->heads));
}

/* Where a block is. */
typedef struct place {
    int64_t rows, columns, block;
    const pipe_condition *condition;
} place;

/* `c` is the embedding of time and class after its activation: [n, width]. */
static pipe_tensor *block(const state *st, pipe_model *m, pipe_tensor *x, pipe_tensor *c, const place *at)
{
    const int64_t d = st->width;
    pipe_tensor *a = zero_linear(m, "modulation", c, 6 * d);
    pipe_tensor *h = modulate(x, chunk(a, 0, d), chunk(a, 1, d));
    pipe_tensor *q = heads_of(st, m, "q", h), *k = heads_of(st, m, "k", h), *v = heads_of(st, m, "v", h);

    h = pipe_layer_block_attention(q, k, v, at->rows, at->columns, at->condition, at->block);
    h = pipe_reshape(h, *pipe_tensor_shape(x));
    x = pipe_add(x, pipe_mul(gate(a, 2, d), linear(m, "out", h, d)));
    h = modulate(x, chunk(a, 3, d), chunk(a, 4, d));
    h = pipe_gelu_tanh(linear(m, "fc1", h, (int64_t)llround((double)d * st->mlp_ratio)));
    h = linear(m, "fc2", pipe_layer_dropout(m, "dropout", h, st->dropout), d);
    return pipe_add(x, pipe_mul(gate(a, 5, d), h));
}

static pipe_tensor *run_block(const state *st, pipe_model *m, pipe_tensor *x, pipe_tensor *c, const place *at)
{
    pipe_scope_push(m, "block.%d", (int)at->block);
    if (st->gradient_checkpointing)
        pipe_recompute_begin(pipe_model_engine(m));
    x = block(st, m, x, c, at);
    if (st->gradient_checkpointing)
        pipe_recompute_end(pipe_model_engine(m));
    pipe_scope_pop(m);
    return x;
}

/* [1, rows * columns, width]: the first half tells the column, the second the row. */
static pipe_tensor *positions(pipe_engine *e, int64_t rows, int64_t columns, int64_t width)
{
    const pipe_shape grid = PIPE_SHAPE(rows, columns, width / 2);
    pipe_tensor *column = pipe_timestep_embedding(pipe_arange(e, columns, 0.0, 1.0), width / 2, 10000.0);
    pipe_tensor *row = pipe_timestep_embedding(pipe_arange(e, rows, 0.0, 1.0), width / 2, 10000.0);
    pipe_tensor *both[2] = {
        pipe_broadcast_to(pipe_reshape(column, PIPE_SHAPE(1, columns, width / 2)), grid),
        pipe_broadcast_to(pipe_reshape(row, PIPE_SHAPE(rows, 1, width / 2)), grid),
    };

    return pipe_reshape(pipe_concat(both, 2, 2), PIPE_SHAPE(1, rows * columns, width));
}

static pipe_tensor *embed(const state *st, pipe_model *m, const pipe_level *l, const pipe_condition *c)
{
    const pipe_init init = {.kind = PIPE_INIT_NORMAL, .value = 0.02};
    pipe_tensor *e = pipe_timestep_embedding(pipe_scale(l->t, st->time_scale), TIME_FEATURES, 10000.0);

    e = pipe_silu(pipe_layer_linear_with(m, "time.0", e, st->width, true, init));
    return pipe_silu(pipe_layer_label(
        m, "label", pipe_layer_linear_with(m, "time.1", e, st->width, true, init), c, st->classes, init));
}

/* [n, rows * columns, patch * patch * channels] -> images */
static pipe_tensor *unpatch(pipe_tensor *x, int64_t rows, int64_t columns, int64_t p, int64_t channels)
{
    const int64_t n = pipe_dim(x, 0);

    x = pipe_reshape(x, PIPE_SHAPE(n, rows, columns, p, p, channels));
    x = pipe_permute(x, (const int[]){0, 1, 3, 2, 4, 5}, 6);
    return pipe_reshape(x, PIPE_SHAPE(n, rows * p, columns * p, channels));
}

static pipe_tensor *predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c)
{
    const state *st = self;
    const int64_t p = st->patch, d = st->width;
    char shape[PIPE_SHAPE_TEXT];

    if (pipe_check(x, NULL) != PIPE_OK)
        return x;
    if (pipe_rank(x) != 4 || pipe_dim(x, 1) % p || pipe_dim(x, 2) % p)
        return pipe_poison(
            pipe_model_engine(m), PIPE_ESHAPE,
            "denoiser.dit takes images [n, height, width, channels] whose sides are multiples of the "
            "patch, %lld; not %s",
            (long long)p, pipe_shape_text(pipe_tensor_shape(x), shape, sizeof shape));
    const int64_t rows = pipe_dim(x, 1) / p, columns = pipe_dim(x, 2) / p, channels = pipe_dim(x, 3),
                  outputs = (st->variance ? 2 : 1) * channels;
    pipe_tensor *e = embed(st, m, l, c);
    pipe_tensor *h = pipe_layer_conv2d_with(m, "patch", x, d, p, PIPE_CONV((uint32_t)p, 0), true,
                                            glorot(p * p * channels, d));

    h = pipe_add(pipe_reshape(h, PIPE_SHAPE(pipe_dim(x, 0), rows * columns, d)),
                 positions(pipe_model_engine(m), rows, columns, d));
    for (int64_t k = 0; k < st->depth; k++) {
        if (!pipe_block_skipped(c, k))
            h = run_block(st, m, h, e, &(place){rows, columns, k, c});
        h = pipe_tap(m, pipe_name(m, "block.%d", (int)k), h);
    }
    pipe_tensor *a = zero_linear(m, "out.modulation", e, 2 * d);
    h = zero_linear(m, "out.linear", modulate(h, chunk(a, 0, d), chunk(a, 1, d)), p * p * outputs);
    return unpatch(h, rows, columns, p, outputs);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "denoiser.dit",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "diffusion transformer with adaptive layer norm",
    .help =
        "Intermediate values that have a name (for encoder.features): block.K, the tokens behind block K. "
        "The blocks that guidance.pag, guidance.slg and guidance.seg name are numbered in the same way, from "
        "0.",
    .citation = "arXiv:2212.09748",
    .example = "dit: {plugin: denoiser.dit, patch: 2, width: 128, depth: 6, classes: 10}",
    .flags = PIPE_TRAINABLE,
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .denoiser = {.describe = describe, .predict = predict},
};
