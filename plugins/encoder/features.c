/* Features: an intermediate value of a trained classifier or denoiser, as an
 * encoder (of a denoiser: Xiang et al. 2023, arXiv:2303.09769). */
#include <pipe/pipe.h>

#include <string.h>

enum { POOL_MEAN, POOL_NONE };

static const char *const pools[] = {"mean", "none", NULL};

typedef struct {
    pipe_object *of;
    const char *layer;
    int64_t pool;
    double time;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, of, PIPE_KIND_CLASSIFIER "|" PIPE_KIND_DENOISER, "the trained network"),
    PIPE_INPUT_END};

static const pipe_param params[] = {
    PIPE_STRING(state, layer, "features", "name of the layer: the network's manual page lists them"),
    PIPE_CHOICE(state, pool, "mean", pools,
                "of features that have positions: their mean over all of them, or none (as they are)"),
    PIPE_FLOAT(
        state, time, 0.05, 0.0, 1e6, NULL,
        "of a denoiser: time at which it is asked; higher gives coarser features.  The sample is scaled by "
        "alpha; no noise is added, so that features are the same in any batch"),
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;

    (void)ctx;
    if (!pipe_object_model(st->of))
        return pipe_fail(err, PIPE_EINVAL, "of: %s has no layers: the network itself is needed",
                         pipe_object_name(st->of));
    return PIPE_OK;
}

static pipe_tensor *ask(const state *st, pipe_tensor *x)
{
    pipe_denoiser_info info;
    pipe_error err = PIPE_ERROR_INIT;

    if (strcmp(pipe_object_kind(st->of), PIPE_KIND_CLASSIFIER) == 0)
        return pipe_classify(st->of, x, NULL);
    if (pipe_denoiser_describe(st->of, &info, &err) != PIPE_OK)
        return pipe_object_poison(st->of, err.status, "%s", err.message);
    if (!info.schedule)
        return pipe_object_poison(st->of, PIPE_EINVAL, "features need a trained network (step `fit`)");
    const pipe_level l = pipe_level_uniform(info.schedule, pipe_tensor_engine(x), pipe_dim(x, 0), st->time);
    return pipe_denoise(st->of, pipe_scale(x, l.point.alpha), &l, NULL);
}

static pipe_tensor *encode(void *self, pipe_model *none, pipe_tensor *x)
{
    const state *st = self;
    pipe_model *m = pipe_object_model(st->of);
    pipe_tensor *h = NULL;
    pipe_error err = PIPE_ERROR_INIT;
    int axes[PIPE_MAX_RANK];
    uint32_t n = 0;

    (void)none;
    if (pipe_check(x, NULL) != PIPE_OK)
        return x;
    pipe_model_tap(m, st->layer, &h);
    pipe_tensor *whole = ask(st, x);
    pipe_status status = pipe_check(whole, &err);
    if (status == PIPE_OK)
        status = pipe_model_tap_check(m, &err);
    pipe_model_tap(m, st->layer, NULL);
    if (status != PIPE_OK)
        return pipe_poison(pipe_tensor_engine(x), status, "%s", err.message);
    for (uint32_t k = 1; k + 1 < pipe_rank(h); k++)
        axes[n++] = (int)k;
    return st->pool == POOL_MEAN && n > 0 ? pipe_mean(h, axes, n, false) : h;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_ENCODER),
    .name = "encoder.features",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "a layer of a trained classifier or denoiser",
    .citation = "arXiv:2303.09769",
    .example = "features: {plugin: encoder.features, of: judge, layer: features}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .create = create,
    .encoder = {.encode = encode},
};
