/* Classifier-free guidance: Ho and Salimans 2022, arXiv:2207.12598, equation 6,
 * in the convention of most software: scale 1 is the conditional model alone.
 * Predictions of every parameterization are linear in eps, so it is applied to
 * whatever the model predicts. */
#include <pipe/pipe.h>

static const pipe_input inputs[] = {PIPE_CFG_STATE_INPUT, PIPE_INPUT_END};

static const pipe_param params[] = {PIPE_CFG_STATE_SCALE, PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    (void)ctx;
    (void)err;
    ((pipe_cfg_state *)self)->space = PIPE_GUIDE_OWN;
    return PIPE_OK;
}

static pipe_tensor *predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c)
{
    const pipe_cfg_state *st = self;
    pipe_tensor *with = pipe_cfg_state_predict(st, x, l, c);

    (void)m;
    if (st->scale == 1.0 || !pipe_condition_given(c))
        return with;
    return pipe_axpby(st->scale, with, 1.0 - st->scale, pipe_cfg_state_predict(st, x, l, NULL));
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
    .state_size = sizeof(pipe_cfg_state),
    .create = create,
    .denoiser = {.describe = pipe_cfg_state_describe, .predict = predict},
};
