/* A perceptron for points and other small samples of any shape, told of time by
 * sine features: what toy problems and latent vectors are denoised with. */
#include <pipe/pipe.h>

enum { SILU, GELU, RELU, TANH };

static const char *const activations[] = {"silu", "gelu", "relu", "tanh", NULL};

typedef struct {
    int64_t width, depth, features, classes, activation, variance;
    bool residual, zero_init, gradient_checkpointing;
    double dropout, time_scale;
} state;

static const pipe_param params[] = {
    PIPE_INT(state, width, 128, 1, 65536, "units", "of each layer; cost and capacity grow with the square"),
    PIPE_INT(state, depth, 3, 1, 256, "layers", "hidden blocks; more is slower and bends more sharply"),
    PIPE_CHOICE(state, activation, "silu", activations, "nonlinearity between the layers"),
    PIPE_BOOL(state, residual, true, "each block adds to its input: deep networks need it"),
    PIPE_INT(state, features, 64, 2, 4096, NULL,
             "sine and cosine features of the time; more tell times apart better"),
    PIPE_FLOAT(state, time_scale, 1000.0, 1e-6, 1e9, NULL,
               "factor of the time before its features; higher tells neighbouring times apart better"),
    PIPE_INT(state, classes, 0, 0, 1000000, "classes", "that labels choose from; 0: unconditional"),
    PIPE_FLOAT(state, dropout, 0.0, 0.0, 0.9, NULL,
               "share of values zeroed in each block while training; higher overfits less and learns slower"),
    PIPE_BOOL(state, zero_init, true, "start the last layer at zero: the first steps are steadier"),
    PIPE_BOOL(
        state, gradient_checkpointing, false,
        "compute each block again in the backward pass in place of keeping its inner values: less memory, the "
        "same bits, about a third more time per training step"),
    PIPE_VARIANCE_PARAM(state),
    PIPE_PARAM_END};

static pipe_status describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    const state *st = self;

    (void)err;
    info->classes = st->classes;
    info->variance = (pipe_variance)st->variance;
    return PIPE_OK;
}

static pipe_tensor *activate(const state *st, pipe_tensor *x)
{
    switch (st->activation) {
    case GELU:
        return pipe_gelu(x);
    case RELU:
        return pipe_relu(x);
    case TANH:
        return pipe_tanh(x);
    default:
        return pipe_silu(x);
    }
}

static pipe_tensor *embed(const state *st, pipe_model *m, const pipe_level *l, const pipe_condition *c)
{
    pipe_tensor *e = pipe_timestep_embedding(pipe_scale(l->t, st->time_scale), st->features, 10000.0);

    e = activate(st, pipe_layer_linear(m, "time.0", e, st->width));
    return activate(st, pipe_layer_label(m, "label", pipe_layer_linear(m, "time.1", e, st->width), c,
                                         st->classes, (pipe_init){.kind = PIPE_INIT_NORMAL, .value = 1.0}));
}

static pipe_tensor *block(const state *st, pipe_model *m, pipe_tensor *h, pipe_tensor *e)
{
    pipe_tensor *y = pipe_layer_linear(m, "fc1", h, st->width);

    y = activate(st, pipe_add(y, pipe_layer_linear(m, "embed", e, st->width)));
    y = pipe_layer_dropout(m, "dropout", y, st->dropout);
    return st->residual ? pipe_add(h, pipe_layer_linear(m, "fc2", y, st->width)) : y;
}

static pipe_tensor *predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c)
{
    const state *st = self;
    const pipe_init last = {.kind = st->zero_init ? PIPE_INIT_ZEROS : PIPE_INIT_FAN_IN, .value = 1.0};

    if (pipe_check(x, NULL) != PIPE_OK)
        return x;
    if (pipe_rank(x) < 2 || pipe_dim(x, 0) == 0)
        return pipe_poison(pipe_model_engine(m), PIPE_ESHAPE,
                           "denoiser.mlp takes samples [n, ...] with values in them");
    const int64_t n = pipe_dim(x, 0), d = pipe_count(x) / n, each = st->variance ? 2 : 1;
    pipe_tensor *e = embed(st, m, l, c);
    pipe_tensor *h = pipe_layer_linear(m, "in", pipe_reshape(x, PIPE_SHAPE(n, d)), st->width);

    for (int64_t k = 0; k < st->depth; k++) {
        pipe_scope_push(m, "block.%d", (int)k);
        if (st->gradient_checkpointing)
            pipe_recompute_begin(pipe_model_engine(m));
        h = block(st, m, h, e);
        if (st->gradient_checkpointing)
            pipe_recompute_end(pipe_model_engine(m));
        pipe_scope_pop(m);
        h = pipe_tap(m, pipe_name(m, "block.%d", (int)k), h);
    }
    h = st->residual ? activate(st, h) : h;
    pipe_shape shape = *pipe_tensor_shape(x);
    shape.dim[shape.rank - 1] *= each;
    return pipe_reshape(pipe_layer_linear_with(m, "out", h, each * d, true, last), shape);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "denoiser.mlp",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "perceptron for points and other small samples",
    .help = "Intermediate values that have a name (for encoder.features): block.K, the output of block K.",
    .example = "net: {plugin: denoiser.mlp, width: 128, depth: 3}",
    .flags = PIPE_TRAINABLE,
    .params = params,
    .state_size = sizeof(state),
    .denoiser = {.describe = describe, .predict = predict},
};
