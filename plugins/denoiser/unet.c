/* The U-Net of diffusion models: Ho et al. 2020, arXiv:2006.11239, appendix B,
 * with the options of Dhariwal and Nichol 2021, arXiv:2105.05233 (ADM).
 *
 *     in - [res (attention)] x blocks - down - ... - res attention res - ... up - out
 *              `------------- concatenated ---------------------'
 *
 * Level 0 is the finest.  Each level above the coarsest halves height and width
 * (rounding up, so that odd sizes work); on the way up the size of the level is
 * restored by repeating pixels. */
#include <pipe/pipe.h>

enum { MAX_LEVELS = 8, MAX_BLOCKS = 8, MAX_SKIPS = 1 + MAX_LEVELS * (MAX_BLOCKS + 1) };

typedef struct {
    int64_t channels, blocks, heads, groups, classes, variance;
    pipe_ints multipliers, attention;
    double dropout, time_scale;
    bool middle_attention, scale_shift, zero_init, gradient_checkpointing;
} state;

static const pipe_param params[] = {
    PIPE_INT(state, channels, 32, 1, 4096, "channels",
             "of the finest level; cost and capacity grow with the square"),
    PIPE_INTS(state, multipliers, "[1, 2, 2]", 1, 64, NULL,
              "channels of each level, finest first, in units of `channels`; one more entry halves the image "
              "once more"),
    PIPE_INT(state, blocks, 2, 1, MAX_BLOCKS, NULL, "residual blocks per level; more is deeper and slower"),
    PIPE_INTS(state, attention, "[]", 0, MAX_LEVELS - 1, NULL,
              "levels (0 is the finest) whose blocks are followed by attention; cost grows with the fourth "
              "power of "
              "the level's side"),
    PIPE_BOOL(state, middle_attention, true, "attention between the two blocks in the middle"),
    PIPE_INT(state, heads, 4, 1, 256, NULL,
             "of each attention; more look at more things with fewer channels each"),
    PIPE_INT(state, groups, 8, 1, 1024, NULL,
             "of channels that are normalized together; must divide `channels`"),
    PIPE_FLOAT(state, dropout, 0.0, 0.0, 0.9, NULL,
               "share of values zeroed in each block while training; higher overfits less and learns slower"),
    PIPE_INT(state, classes, 0, 0, 1000000, "classes", "that labels choose from; 0: unconditional"),
    PIPE_BOOL(state, scale_shift, false,
              "time and class scale and shift the normalized values (ADM) instead of being added"),
    PIPE_BOOL(
        state, zero_init, true,
        "start the last layer of each block, and of the network, at zero: the first steps are steadier"),
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
    if (st->multipliers.n < 1 || st->multipliers.n > MAX_LEVELS)
        return pipe_fail(err, PIPE_EINVAL, "multipliers: %zu levels; 1 to %d are possible", st->multipliers.n,
                         MAX_LEVELS);
    if (st->channels % st->groups)
        return pipe_fail(err, PIPE_EINVAL, "groups: %lld groups do not divide %lld channels",
                         (long long)st->groups, (long long)st->channels);
    for (size_t k = 0; k < st->attention.n; k++)
        if (st->attention.v[k] >= (int64_t)st->multipliers.n)
            return pipe_fail(err, PIPE_EINVAL, "attention: there is no level %lld; the coarsest is %zu",
                             (long long)st->attention.v[k], st->multipliers.n - 1);
    for (size_t k = 0; k < st->multipliers.n; k++)
        if ((st->attention.n || st->middle_attention) && st->channels * st->multipliers.v[k] % st->heads)
            return pipe_fail(err, PIPE_EINVAL,
                             "heads: %lld heads do not divide the %lld channels of level %zu",
                             (long long)st->heads, (long long)(st->channels * st->multipliers.v[k]), k);
    return PIPE_OK;
}

static bool attends(const state *st, size_t level)
{
    for (size_t k = 0; k < st->attention.n; k++)
        if (st->attention.v[k] == (int64_t)level)
            return true;
    return false;
}

/* Of the way down, the middle and the way up. */
static int64_t count_attention(const state *st)
{
    int64_t n = st->middle_attention;

    for (size_t level = 0; level < st->multipliers.n; level++)
        n += attends(st, level) ? 2 * st->blocks + 1 : 0;
    return n;
}

static pipe_status describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    const state *st = self;

    (void)err;
    info->classes = st->classes;
    info->attention_blocks = count_attention(st);
    info->variance = (pipe_variance)st->variance;
    return PIPE_OK;
}

/* The last layer of a branch. */
static pipe_init last(const state *st)
{
    return (pipe_init){.kind = st->zero_init ? PIPE_INIT_ZEROS : PIPE_INIT_FAN_IN, .value = 1.0};
}

/* [n, e] -> [n, 1, 1, e] */
static pipe_tensor *over_pixels(pipe_tensor *e)
{
    return pipe_reshape(e, PIPE_SHAPE(pipe_dim(e, 0), 1, 1, pipe_dim(e, 1)));
}

/* `e` is the embedding of time and class after its activation: [n, 4 channels]. */
static pipe_tensor *residual(const state *st, pipe_model *m, pipe_tensor *x, pipe_tensor *e, int64_t out)
{
    const uint32_t groups = (uint32_t)st->groups;
    const int64_t in = pipe_dim(x, 3);
    pipe_tensor *h = pipe_layer_group_norm_with(m, "norm1", x, groups, PIPE_ACTIVATION_SILU);

    h = pipe_layer_conv2d(m, "conv1", h, out, 3, 1);
    e = pipe_layer_linear(m, "embed", e, st->scale_shift ? 2 * out : out);
    if (st->scale_shift) {
        h = pipe_layer_group_norm(m, "norm2", h, groups);
        h = pipe_add(pipe_mul(h, pipe_affine(over_pixels(pipe_slice(e, 1, 0, out, 1)), 1.0, 1.0)),
                     over_pixels(pipe_slice(e, 1, out, out, 1)));
        h = pipe_silu(h);
    } else {
        h = pipe_layer_group_norm_with(m, "norm2", pipe_add(h, over_pixels(e)), groups, PIPE_ACTIVATION_SILU);
    }
    h = pipe_layer_dropout(m, "dropout", h, st->dropout);
    h = pipe_layer_conv2d_with(m, "conv2", h, out, 3, PIPE_CONV(1, 1), true, last(st));
    return pipe_add(in == out ? x : pipe_layer_conv2d(m, "skip", x, out, 1, 1), h);
}

static pipe_tensor *heads_of(const state *st, pipe_model *m, const char *name, pipe_tensor *x)
{
    const int64_t c = pipe_dim(x, 2);

    return pipe_reshape(pipe_layer_linear(m, name, x, c),
                        PIPE_SHAPE(pipe_dim(x, 0), pipe_dim(x, 1), st->heads, c / st->heads));
}

/* What all blocks share, and where on the way the network is. */
typedef struct walk {
    pipe_tensor *e; /* the embedding of time and class after its activation: [n, 4 channels] */
    const pipe_condition *c;
    int64_t attention; /* the number of the next one */
    pipe_tensor *skip[MAX_SKIPS];
    size_t n;
    int64_t h[MAX_LEVELS], w[MAX_LEVELS]; /* sizes to restore on the way up */
} walk;

static pipe_tensor *attend(const state *st, pipe_model *m, const walk *at, pipe_tensor *x)
{
    const int64_t n = pipe_dim(x, 0), c = pipe_dim(x, 3);
    pipe_tensor *h = pipe_layer_group_norm(m, "norm", x, (uint32_t)st->groups);

    h = pipe_reshape(h, PIPE_SHAPE(n, pipe_dim(x, 1) * pipe_dim(x, 2), c));
    pipe_tensor *q = heads_of(st, m, "q", h), *k = heads_of(st, m, "k", h), *v = heads_of(st, m, "v", h);
    pipe_tensor *y = pipe_layer_block_attention(q, k, v, pipe_dim(x, 1), pipe_dim(x, 2), at->c,
                                                at->attention);
    h = pipe_reshape(y, *pipe_tensor_shape(h));
    h = pipe_layer_linear_with(m, "out", h, c, true, last(st));
    return pipe_add(x, pipe_reshape(h, *pipe_tensor_shape(x)));
}

/* A residual block and the attention behind it, under the scope NAME; with `skip` (or
 * NULL) beside x. */
static pipe_tensor *block(const state *st, pipe_model *m, walk *at, const char *name, pipe_tensor *x,
                          pipe_tensor *skip, int64_t out, bool attention)
{
    pipe_tensor *both[2] = {x, skip};

    if (st->gradient_checkpointing)
        pipe_recompute_begin(pipe_model_engine(m));
    pipe_scope_push(m, "%s", name);
    x = residual(st, m, skip ? pipe_concat(both, 2, 3) : x, at->e, out);
    if (attention && !pipe_block_skipped(at->c, at->attention)) {
        pipe_scope_push(m, "attention");
        x = attend(st, m, at, x);
        pipe_scope_pop(m);
    }
    at->attention += attention;
    pipe_scope_pop(m);
    if (st->gradient_checkpointing)
        pipe_recompute_end(pipe_model_engine(m));
    return x;
}

static pipe_tensor *embed(const state *st, pipe_model *m, const pipe_level *l, const pipe_condition *c)
{
    const int64_t width = 4 * st->channels;
    pipe_tensor *e = pipe_timestep_embedding(pipe_scale(l->t, st->time_scale), st->channels, 10000.0);

    e = pipe_silu(pipe_layer_linear(m, "time.0", e, width));
    e = pipe_layer_label(m, "label", pipe_layer_linear(m, "time.1", e, width), c, st->classes,
                         (pipe_init){.kind = PIPE_INIT_NORMAL, .value = 1.0});
    return pipe_silu(e);
}

static pipe_tensor *go_down(const state *st, pipe_model *m, walk *k, pipe_tensor *h)
{
    k->skip[k->n++] = h;
    for (size_t level = 0; level < st->multipliers.n; level++) {
        const int64_t c = st->channels * st->multipliers.v[level];
        for (int64_t b = 0; b < st->blocks; b++) {
            h = block(st, m, k, pipe_name(m, "down.%zu.%d", level, (int)b), h, NULL, c, attends(st, level));
            k->skip[k->n++] = h;
        }
        pipe_tap(m, pipe_name(m, "down.%zu", level), h);
        k->h[level] = pipe_dim(h, 1);
        k->w[level] = pipe_dim(h, 2);
        if (level + 1 < st->multipliers.n) {
            h = pipe_layer_conv2d(m, pipe_name(m, "down.%zu.down", level), h, c, 3, 2);
            k->skip[k->n++] = h;
        }
    }
    return h;
}

static pipe_tensor *go_up(const state *st, pipe_model *m, walk *k, pipe_tensor *h)
{
    for (size_t level = st->multipliers.n; level-- > 0;) {
        const int64_t c = st->channels * st->multipliers.v[level];
        for (int64_t b = 0; b <= st->blocks; b++) {
            k->n--;
            h = block(st, m, k, pipe_name(m, "up.%zu.%d", level, (int)b), h, k->skip[k->n], c,
                      attends(st, level));
        }
        pipe_tap(m, pipe_name(m, "up.%zu", level), h);
        if (level > 0)
            h = pipe_layer_conv2d(m, pipe_name(m, "up.%zu.up", level),
                                  pipe_resize_nearest(h, k->h[level - 1], k->w[level - 1]), c, 3, 1);
    }
    return h;
}

static pipe_tensor *predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c)
{
    const state *st = self;
    char shape[PIPE_SHAPE_TEXT];
    walk k = {.c = c};

    if (pipe_check(x, NULL) != PIPE_OK)
        return x;
    if (pipe_rank(x) != 4)
        return pipe_poison(pipe_model_engine(m), PIPE_ESHAPE,
                           "denoiser.unet takes images [n, height, width, channels], not %s",
                           pipe_shape_text(pipe_tensor_shape(x), shape, sizeof shape));
    k.e = embed(st, m, l, c);
    pipe_tensor *h = go_down(st, m, &k, pipe_layer_conv2d(m, "in", x, st->channels, 3, 1));

    h = block(st, m, &k, "mid.0", h, NULL, pipe_dim(h, 3), st->middle_attention);
    h = pipe_tap(m, "mid", block(st, m, &k, "mid.1", h, NULL, pipe_dim(h, 3), false));
    h = go_up(st, m, &k, h);
    h = pipe_layer_group_norm_with(m, "out.norm", h, (uint32_t)st->groups, PIPE_ACTIVATION_SILU);
    return pipe_layer_conv2d_with(m, "out.conv", h, (st->variance ? 2 : 1) * pipe_dim(x, 3), 3, PIPE_CONV(1, 1),
                                  true, last(st));
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "denoiser.unet",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "convolutional U-Net for images, with attention and class labels",
    .help = "Intermediate values that have a name (for encoder.features): down.K and up.K, the output of "
            "level K on "
            "either side, and mid. The blocks that guidance.pag, guidance.slg and guidance.seg name are the "
            "attentions alone, numbered from 0 on the way down, in the middle and on the way up.",
    .citation = "arXiv:2105.05233",
    .example = "unet: {plugin: denoiser.unet, channels: 32, multipliers: [1, 2, 2], classes: 10}",
    .flags = PIPE_TRAINABLE,
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .denoiser = {.describe = describe, .predict = predict},
};
