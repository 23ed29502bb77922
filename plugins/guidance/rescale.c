/* Rescaled guidance: Lin et al. 2024, arXiv:2305.08891, section 3.4: the guided
 * prediction G takes (in part) the standard deviation, per sample, of the
 * conditional one C,
 *
 *     share G std(C) / std(G) + (1 - share) G. */
#include <pipe/pipe.h>

typedef struct {
    pipe_denoiser *denoiser, *conditional;
    double share;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, denoiser, PIPE_KIND_DENOISER, "guidance of any kind, which oversaturates"),
    PIPE_INPUT(state, conditional, PIPE_KIND_DENOISER, "the model without guidance, whose spread is right"),
    PIPE_INPUT_END};

static const pipe_param params[] = {
    PIPE_FLOAT(state, share, 0.7, 0.0, 1.0, NULL,
               "of the rescaled prediction in the result; 0 = none, higher is less saturated"),
    PIPE_PARAM_END};

static pipe_status describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    const state *st = self;

    return pipe_guidance_describe_all((pipe_denoiser *const[]){st->denoiser, st->conditional}, 2, info, err);
}

/* Sum of squares around the mean of each sample; of both sets n is the same, so n cancels. */
static pipe_tensor *spread(pipe_tensor *a)
{
    const double n = (double)(pipe_count(a) / pipe_dim(a, 0));
    pipe_tensor *mean = pipe_scale(pipe_sample_dot(a, pipe_ones_like(a)), 1.0 / n);
    pipe_tensor *centred = pipe_sub(a, mean);

    return pipe_sample_dot(centred, centred);
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
    pipe_tensor *guided = pipe_predict(st->denoiser, x, l, c, info.predicts);
    if (st->share == 0.0)
        return guided;
    pipe_tensor *plain = pipe_predict(st->conditional, x, l, c, info.predicts);
    pipe_tensor *factor = pipe_sqrt(pipe_div(spread(plain), spread(guided)));
    return pipe_mul(guided, pipe_affine(factor, st->share, 1.0 - st->share));
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "guidance.rescale",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "guidance with the spread of the conditional prediction",
    .citation = "arXiv:2305.08891",
    .example = "natural: {plugin: guidance.rescale, denoiser: guided, conditional: model, share: 0.7}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .denoiser = {.describe = describe, .predict = predict},
};
