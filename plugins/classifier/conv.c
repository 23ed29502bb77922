/* A small residual convolutional classifier of images, and, told the noise level,
 * one that can guide a denoiser (Dhariwal and Nichol 2021, arXiv:2105.05233). */
#include <pipe/pipe.h>

enum { MAX_LEVELS = 8, TIME_FEATURES = 64 };
enum { POOL_NONE, POOL_MEAN };

static const char *const pools[] = {"none", "mean", NULL};

typedef struct {
    int64_t classes, channels, blocks, groups, features, pool;
    pipe_ints multipliers;
    double dropout;
    bool noise;
} state;

static const pipe_param params[] = {
    PIPE_INT_REQUIRED(state, classes, 2, 1000000, "classes", "that labels choose from"),
    PIPE_INT(state, channels, 16, 1, 4096, "channels",
             "of the finest level; cost and capacity grow with the square"),
    PIPE_INTS(state, multipliers, "[1, 2, 4]", 1, 64, NULL,
              "channels of each level, finest first, in units of `channels`; one more entry halves the image "
              "once more"),
    PIPE_INT(state, blocks, 1, 1, 8, NULL, "residual blocks per level; more is deeper and slower"),
    PIPE_INT(state, groups, 8, 1, 1024, NULL,
             "of channels that are normalized together; must divide `channels`"),
    PIPE_INT(state, features, 64, 1, 65536, NULL,
             "length of the vector before the last layer (layer `features`)"),
    PIPE_CHOICE(
        state, pool, "none", pools,
        "before the features: none (each position has weights of its own: right for small, centred images), "
        "or the mean over all positions (any size, far fewer weights)"),
    PIPE_FLOAT(state, dropout, 0.1, 0.0, 0.9, NULL,
               "share of the features zeroed while training; higher overfits less and learns slower"),
    PIPE_BOOL(state, noise, false, "tell the network the noise level: for a classifier that guides"),
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;

    (void)ctx;
    if (st->multipliers.n < 1 || st->multipliers.n > MAX_LEVELS)
        return pipe_fail(err, PIPE_EINVAL, "multipliers: %zu levels; 1 to %d are possible", st->multipliers.n,
                         MAX_LEVELS);
    if (st->channels % st->groups)
        return pipe_fail(err, PIPE_EINVAL, "groups: %lld groups do not divide %lld channels",
                         (long long)st->groups, (long long)st->channels);
    return PIPE_OK;
}

static int64_t classes(void *self)
{
    return ((const state *)self)->classes;
}

/* Clean samples are at time 0. */
static pipe_tensor *embed(const state *st, pipe_model *m, const pipe_level *l, int64_t n)
{
    const int64_t width = 4 * st->channels;

    if (!st->noise)
        return NULL;
    pipe_tensor *t = l ? pipe_scale(l->t, 1000.0) : pipe_zeros(pipe_model_engine(m), PIPE_SHAPE(n));
    pipe_tensor *e = pipe_timestep_embedding(t, TIME_FEATURES, 10000.0);
    e = pipe_silu(pipe_layer_linear(m, "time.0", e, width));
    return pipe_silu(pipe_layer_linear(m, "time.1", e, width));
}

static pipe_tensor *block(const state *st, pipe_model *m, pipe_tensor *x, pipe_tensor *e, int64_t out,
                          uint32_t stride)
{
    const uint32_t groups = (uint32_t)st->groups;
    pipe_tensor *h = pipe_layer_group_norm_with(m, "norm1", x, groups, PIPE_ACTIVATION_RELU);
    pipe_tensor *skip = x;

    if (stride != 1 || pipe_dim(x, 3) != out)
        skip = pipe_layer_conv2d_with(m, "skip", x, out, 1, PIPE_CONV(stride, 0), false,
                                      (pipe_init){.kind = PIPE_INIT_FAN_IN, .value = 1.0});
    h = pipe_layer_conv2d(m, "conv1", h, out, 3, stride);
    if (e)
        h = pipe_add(
            h, pipe_reshape(pipe_layer_linear(m, "embed", e, out), PIPE_SHAPE(pipe_dim(e, 0), 1, 1, out)));
    h = pipe_layer_group_norm_with(m, "norm2", h, groups, PIPE_ACTIVATION_RELU);
    return pipe_add(skip, pipe_layer_conv2d(m, "conv2", h, out, 3, 1));
}

static pipe_tensor *logits(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l)
{
    const state *st = self;
    char shape[PIPE_SHAPE_TEXT];

    if (pipe_check(x, NULL) != PIPE_OK)
        return x;
    if (pipe_rank(x) != 4)
        return pipe_poison(pipe_model_engine(m), PIPE_ESHAPE,
                           "classifier.conv takes images [n, height, width, channels], not %s",
                           pipe_shape_text(pipe_tensor_shape(x), shape, sizeof shape));
    pipe_tensor *e = embed(st, m, l, pipe_dim(x, 0));
    pipe_tensor *h = pipe_layer_conv2d(m, "in", x, st->channels, 3, 1);
    for (size_t level = 0; level < st->multipliers.n; level++) {
        for (int64_t b = 0; b < st->blocks; b++) {
            pipe_scope_push(m, "level.%zu.%d", level, (int)b);
            h = block(st, m, h, e, st->channels * st->multipliers.v[level], level > 0 && b == 0 ? 2 : 1);
            pipe_scope_pop(m);
        }
        h = pipe_tap(m, pipe_name(m, "level.%zu", level), h);
    }
    h = pipe_layer_group_norm_with(m, "norm", h, (uint32_t)st->groups, PIPE_ACTIVATION_RELU);
    h = st->pool == POOL_MEAN
            ? pipe_mean(h, (const int[]){1, 2}, 2, false)
            : pipe_reshape(h, PIPE_SHAPE(pipe_dim(h, 0), pipe_dim(h, 1) * pipe_dim(h, 2) * pipe_dim(h, 3)));
    h = pipe_tap(m, "features", pipe_layer_linear(m, "features", h, st->features));
    h = pipe_layer_dropout(m, "dropout", pipe_relu(h), st->dropout);
    return pipe_layer_linear(m, "out", h, st->classes);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_CLASSIFIER),
    .name = "classifier.conv",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "residual convolutional classifier of images",
    .help =
        "Intermediate values that have a name (for encoder.features): level.K, the output of level K, and "
        "features, the vector before the last layer.",
    .citation = "arXiv:1603.05027",
    .example = "judge: {plugin: classifier.conv, classes: 10}",
    .flags = PIPE_TRAINABLE,
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .classifier = {.classes = classes, .logits = logits},
};
