/* Guidance in an interval of noise levels only: Kynkaanniemi et al. 2024,
 * arXiv:2404.07724.  Outside, the plain model. */
#include <pipe/pipe.h>

typedef struct {
    pipe_denoiser *denoiser, *outside;
    double low, high;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, denoiser, PIPE_KIND_DENOISER, "used inside the interval: guidance of any kind"),
    PIPE_INPUT(state, outside, PIPE_KIND_DENOISER, "used at all other noise levels: the plain model"),
    PIPE_INPUT_END};

static const pipe_param params[] = {
    PIPE_FLOAT(state, low, 0.0, 0.0, 1e9, NULL,
               "smallest sigma / alpha inside; lower guides longer into the details"),
    PIPE_FLOAT(state, high, 1e9, 0.0, 1e9, NULL,
               "largest sigma / alpha inside; higher guides the coarse layout too"),
    PIPE_PARAM_END};

static pipe_status describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    const state *st = self;

    return pipe_guidance_describe_all((pipe_denoiser *const[]){st->denoiser, st->outside}, 2, info, err);
}

/* 1 inside: [n, 1, ...] */
static pipe_tensor *is_inside(const state *st, const pipe_level *l, const pipe_tensor *x)
{
    pipe_tensor *low = pipe_less_equal(pipe_scale(l->alpha, st->low), l->sigma);
    pipe_tensor *high = pipe_less_equal(l->sigma, pipe_scale(l->alpha, st->high));

    return pipe_per_sample(pipe_mul(low, high), x);
}

static pipe_tensor *predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c)
{
    const state *st = self;
    pipe_denoiser_info info;
    pipe_error err = PIPE_ERROR_INIT;

    (void)m;
    if (describe(self, &info, &err) != PIPE_OK)
        return pipe_object_poison(st->denoiser, err.status, "%s", err.message);
    if (l->uniform) { /* only one of them is asked */
        const bool inside = l->point.sigma >= st->low * l->point.alpha &&
                            l->point.sigma <= st->high * l->point.alpha;
        return pipe_predict(inside ? st->denoiser : st->outside, x, l, c, info.predicts);
    }
    return pipe_where(is_inside(st, l, x), pipe_predict(st->denoiser, x, l, c, info.predicts),
                      pipe_predict(st->outside, x, l, c, info.predicts));
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "guidance.interval",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "guidance in an interval of noise levels",
    .citation = "arXiv:2404.07724",
    .example = "limited: {plugin: guidance.interval, denoiser: guided, outside: model, low: 0.2, high: 5.0}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .denoiser = {.describe = describe, .predict = predict},
};
