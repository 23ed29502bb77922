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
    return pipe_guidance_describe(((state *)self)->denoiser, PIPE_GUIDE_OWN, true, info, err);
}

static pipe_tensor *predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c)
{
    const state *st = self;
    pipe_tensor *with, *without;

    (void)m;
    with = pipe_denoise(st->denoiser, x, l, c);
    if (st->scale == 1.0 || !pipe_condition_given(c))
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
    .help = "unconditional + scale (conditional - unconditional). What some call the original form, "
            "conditional + w (conditional - unconditional), is the same with scale = 1 + w.",
    .citation = "arXiv:2207.12598",
    .example = "guided: {plugin: guidance.cfg, denoiser: model, scale: 2.0}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .denoiser = {.describe = describe, .predict = predict},
};
