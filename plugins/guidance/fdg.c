/* Frequency-decoupled guidance: Sadat et al. 2025, arXiv:2506.19713, algorithm 1.  Classifier-free
 * guidance with a scale of its own for each level of the Laplacian pyramid of the predictions:
 *
 *     G_0 = x,  G_(k+1) = down(blur(G_k)),   L_k = G_k - blur(up(G_(k+1))),  the last L_k = G_k;
 *     L_k of the result = u_k + w_k (c_k - u_k), and the result is built up again from them.
 *
 * blur is the binomial 1 4 6 4 1 along either axis with the image reflected at its edges, down and up
 * are bilinear.  With `parallel` the difference of a level keeps only this share of its part along c_k,
 * as in adaptive projected guidance.  Sides of any length are halved upwards; where they divide, the
 * pyramid is Kornia's, which the authors use. */
#include <pipe/pipe.h>

enum { LEVELS_MAX = 8, BLURRED_MIN = 3 }; /* reflection reaches two pixels far */

typedef struct {
    pipe_denoiser *denoiser;
    pipe_floats scales, parallel;
    int64_t space;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, denoiser, PIPE_KIND_DENOISER,
               "a conditional model of pictures [h, w, c] that was trained to work without labels too"),
    PIPE_INPUT_END};

static const pipe_param params[] = {
    PIPE_FLOATS(state, scales, "[10, 5]", -100.0, 100.0, NULL,
                "guidance scale of each level, the finest details first; 1 = none, higher follows the condition "
                "more: details get sharper, coarse structures lose variety and their colours saturate"),
    PIPE_FLOATS(state, parallel, "[]", -100.0, 100.0, NULL,
                "share of a level's difference along the conditional prediction that is kept, one for each of "
                "`scales`; below 1 saturates less; none given: 1"),
    PIPE_CHOICE(state, space, "x0", pipe_guidance_space_names,
                "in which it is applied: x0 (the predicted clean data) or own (whatever the model predicts); "
                "matters only with `parallel`"),
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;

    if (st->scales.n < 1 || st->scales.n > LEVELS_MAX)
        return pipe_fail(err, PIPE_EINVAL, "%s: %zu `scales`; one for each of 1 to %d levels",
                         pipe_context_node(ctx), st->scales.n, LEVELS_MAX);
    if (st->parallel.n > 0 && st->parallel.n != st->scales.n)
        return pipe_fail(err, PIPE_EINVAL, "%s: %zu numbers `parallel` for %zu `scales`; one for each",
                         pipe_context_node(ctx), st->parallel.n, st->scales.n);
    return PIPE_OK;
}

static int64_t halved(int64_t side)
{
    return (side + 1) / 2;
}

static pipe_status describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    const state *st = self;

    PIPE_TRY(pipe_guidance_describe(st->denoiser, (pipe_guidance_space)st->space, true, info, err));
    if (info->sample.rank == 0)
        return PIPE_OK; /* not known before training */
    if (info->sample.rank != 3)
        return pipe_fail(err, PIPE_ESHAPE, "%s: levels of frequency are those of pictures [h, w, c]",
                         pipe_object_name(st->denoiser));
    int64_t side = info->sample.dim[0] < info->sample.dim[1] ? info->sample.dim[0] : info->sample.dim[1];
    for (size_t k = 1; k < st->scales.n; k++, side = halved(side))
        if (side < BLURRED_MIN)
            return pipe_fail(err, PIPE_ESHAPE,
                             "%s: its pictures, %lld x %lld, are too small for %zu levels: give fewer `scales`",
                             pipe_object_name(st->denoiser), (long long)info->sample.dim[0],
                             (long long)info->sample.dim[1], st->scales.n);
    return PIPE_OK;
}

/* ---- the pyramid, of x [n, h, w, c] ---- */
static pipe_tensor *blur_along(pipe_tensor *x, int axis)
{
    static const double weight[5] = {1.0 / 16, 4.0 / 16, 6.0 / 16, 4.0 / 16, 1.0 / 16};
    const int64_t n = pipe_dim(x, axis);
    pipe_tensor *const parts[] = {pipe_slice(x, axis, 2, 1, 1), pipe_slice(x, axis, 1, 1, 1), x,
                                  pipe_slice(x, axis, n - 2, 1, 1), pipe_slice(x, axis, n - 3, 1, 1)};
    pipe_tensor *reflected = pipe_concat(parts, 5, axis), *shifted[5];

    for (int k = 0; k < 5; k++)
        shifted[k] = pipe_slice(reflected, axis, k, n, 1);
    return pipe_linear(weight, shifted, 5);
}

static pipe_tensor *blur(pipe_tensor *x)
{
    return blur_along(blur_along(x, 1), 2);
}

static pipe_tensor *down(pipe_tensor *x)
{
    return pipe_resize_bilinear(blur(x), halved(pipe_dim(x, 1)), halved(pipe_dim(x, 2)));
}

static pipe_tensor *up(pipe_tensor *x, const pipe_tensor *like)
{
    return blur(pipe_resize_bilinear(x, pipe_dim(like, 1), pipe_dim(like, 2)));
}

/* level[k] of x, the finest first; x becomes the first one. */
static void pyramid(pipe_tensor *x, size_t n, pipe_tensor **level)
{
    for (size_t k = 0; k + 1 < n; k++) {
        pipe_tensor *coarser = down(x);
        level[k] = pipe_sub(x, up(coarser, x));
        x = coarser;
    }
    level[n - 1] = x;
}

static pipe_tensor *built(pipe_tensor *const *level, size_t n)
{
    pipe_tensor *x = level[n - 1];

    for (size_t k = n - 1; k-- > 0;)
        x = pipe_add(up(x, level[k]), level[k]);
    return x;
}

/* ---- guidance ---- */
/* d, with its part along c times `share`. */
static pipe_tensor *weigh_parallel(pipe_tensor *d, pipe_tensor *c, double share)
{
    pipe_tensor *square = pipe_maximum(pipe_sample_dot(c, c), pipe_constant(pipe_tensor_engine(c), 1e-30));

    return pipe_add(d, pipe_mul(pipe_scale(pipe_div(pipe_sample_dot(d, c), square), share - 1.0), c));
}

static pipe_tensor *guided(const state *st, pipe_tensor *with, pipe_tensor *without)
{
    pipe_tensor *c[LEVELS_MAX], *u[LEVELS_MAX];
    const size_t n = st->scales.n;

    pyramid(with, n, c);
    pyramid(without, n, u);
    for (size_t k = 0; k < n; k++) {
        const double w = st->scales.v[k], share = st->parallel.n > 0 ? st->parallel.v[k] : 1.0;
        u[k] = share == 1.0 ? pipe_axpby(w, c[k], 1.0 - w, u[k])
                            : pipe_axpby(1.0, u[k], w, weigh_parallel(pipe_sub(c[k], u[k]), c[k], share));
    }
    return built(u, n);
}

static pipe_tensor *predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c)
{
    const state *st = self;
    pipe_denoiser_info info;
    pipe_error err = PIPE_ERROR_INIT;
    bool neutral = true;

    (void)m;
    if (describe(self, &info, &err) != PIPE_OK)
        return pipe_object_poison(st->denoiser, err.status, "%s", err.message);
    for (size_t k = 0; k < st->scales.n; k++)
        neutral = neutral && st->scales.v[k] == 1.0 && (st->parallel.n == 0 || st->parallel.v[k] == 1.0);
    pipe_tensor *with = pipe_predict(st->denoiser, x, l, c, info.predicts);
    if (neutral || !pipe_condition_given(c))
        return with;
    return guided(st, with, pipe_predict(st->denoiser, x, l, NULL, info.predicts));
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "guidance.fdg",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "classifier-free guidance with a scale for each level of frequency",
    .help = "The number of `scales` is that of the levels of a Laplacian pyramid. Low scales for coarse structures "
            "keep variety and colours, high ones for details sharpen them.",
    .citation = "arXiv:2506.19713",
    .example = "guided: {plugin: guidance.fdg, denoiser: model, scales: [10, 5]}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .create = create,
    .denoiser = {.describe = describe, .predict = predict},
};
