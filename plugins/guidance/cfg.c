/* Classifier-free guidance: Ho and Salimans 2022, arXiv:2207.12598, equation 6,
 * in the convention of most software: scale 1 is the conditional model alone.
 * Predictions of every parameterization are linear in eps, so it is applied to
 * whatever the model predicts. */
#include <pipe/pipe.h>

typedef struct {
    pipe_denoiser *denoiser;
    double scale;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, denoiser, PIPE_KIND_DENOISER,
               "a conditional model that was trained to work without labels too"),
    PIPE_INPUT_END};

static const pipe_param params[] = {
    PIPE_FLOAT(state, scale, 2.0, -100.0, 100.0, NULL,
               "guidance scale; 1 = none, higher follows the condition more and loses variety"),
    PIPE_PARAM_END};

static pipe_status describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    pipe_denoiser *inner = ((state *)self)->denoiser;

    PIPE_TRY(pipe_denoiser_describe(inner, info, err));
    if (info->classes == 0)
        return pipe_fail(err, PIPE_EINVAL,
                         "guidance.cfg: the model `%s` knows no classes: there is nothing to guide by",
                         pipe_object_name(inner));
    return PIPE_OK;
}

static pipe_tensor *predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c)
{
    const state *st = self;
    pipe_tensor *with, *without;

    (void)m;
    with = pipe_denoise(st->denoiser, x, l, c);
    if (st->scale == 1.0 || !c || (!c->labels && !c->embedding))
        return with;
    without = pipe_denoise(st->denoiser, x, l, NULL);
    return pipe_axpby(st->scale, with, 1.0 - st->scale, without);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "guidance.cfg",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "classifier-free guidance",
    .citation = "arXiv:2207.12598",
    .example = "guided: {plugin: guidance.cfg, denoiser: model, scale: 2.0}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .denoiser = {.describe = describe, .predict = predict},
};
