/* Magnitude-aware mitigation for boosted guidance (MaMBo): classifier-free guidance
 * whose scale falls where conditional and unconditional predictions differ much,
 *
 *     u + w~ (c - u),   w~ = 1 + (w - 1) exp(-damping |c - u| / |u|),
 *
 * as in diffusers' MagnitudeAwareGuidance. */
#include <pipe/pipe.h>

typedef struct {
    pipe_cfg_state cfg; /* first */
    double damping;
} state;

static const pipe_input inputs[] = {PIPE_CFG_STATE_INPUT, PIPE_INPUT_END};

static const pipe_param params[] = {
    PIPE_CFG_STATE_SCALE,
    PIPE_FLOAT(state, damping, 8.0, 0.0, 1000.0, NULL,
               "of the scale by the relative difference; higher guides less where the model is surprised, 0: "
               "plain classifier-free guidance"),
    PIPE_CFG_STATE_SPACE("x0"), PIPE_PARAM_END};

static pipe_tensor *predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c)
{
    const state *st = self;
    pipe_tensor *with = pipe_cfg_state_predict(&st->cfg, x, l, c);

    (void)m;
    if (st->cfg.scale == 1.0 || !pipe_condition_given(c))
        return with;
    pipe_tensor *without = pipe_cfg_state_predict(&st->cfg, x, l, NULL);
    if (st->damping == 0.0)
        return pipe_axpby(st->cfg.scale, with, 1.0 - st->cfg.scale, without);
    pipe_tensor *d = pipe_sub(with, without);
    pipe_tensor *ratio = pipe_sqrt(pipe_div(pipe_sample_dot(d, d), pipe_sample_dot(without, without)));
    pipe_tensor *scale = pipe_affine(pipe_exp(pipe_scale(ratio, -st->damping)), st->cfg.scale - 1.0, 1.0);
    return pipe_add(without, pipe_mul(scale, d));
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "guidance.mambo",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "classifier-free guidance that is weaker where the predictions differ much",
    .citation = "arXiv:2508.03442",
    .example = "guided: {plugin: guidance.mambo, denoiser: model, scale: 5.0, damping: 8.0}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .denoiser = {.describe = pipe_cfg_state_describe, .predict = predict},
};
