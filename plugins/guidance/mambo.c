/* Magnitude-aware mitigation for boosted guidance (MaMBo): classifier-free guidance
 * whose scale falls where conditional and unconditional predictions differ much,
 *
 *     u + w~ (c - u),   w~ = 1 + (w - 1) exp(-damping |c - u| / |u|),
 *
 * as in diffusers' MagnitudeAwareGuidance. */
#include <pipe/pipe.h>

typedef struct {
    pipe_denoiser *denoiser;
    double scale;
    int64_t space;
    double damping;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, denoiser, PIPE_KIND_DENOISER,
               "a conditional model that was trained to work without labels too"),
    PIPE_INPUT_END};

static const pipe_param params[] = {
    PIPE_FLOAT(state, scale, 2.0, -100.0, 100.0, NULL,
               "guidance scale; 1 = none, higher follows the condition more and loses variety"),
    PIPE_FLOAT(state, damping, 8.0, 0.0, 1000.0, NULL,
               "of the scale by the relative difference; higher guides less where the model is surprised, 0: "
               "plain classifier-free guidance"),
    PIPE_CHOICE(state, space, "x0", pipe_guidance_space_names,
                "in which it is applied: x0 (the predicted clean data) or own (whatever the model predicts)"),
    PIPE_PARAM_END};

static pipe_status describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    const state *st = self;

    return pipe_guidance_describe(st->denoiser, (pipe_guidance_space)st->space, true, info, err);
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
    pipe_tensor *with = pipe_predict(st->denoiser, x, l, c, info.predicts);
    if (st->scale == 1.0 || !pipe_condition_given(c))
        return with;
    pipe_tensor *without = pipe_predict(st->denoiser, x, l, NULL, info.predicts);
    if (st->damping == 0.0)
        return pipe_axpby(st->scale, with, 1.0 - st->scale, without);
    pipe_tensor *d = pipe_sub(with, without);
    pipe_tensor *ratio = pipe_sqrt(pipe_div(pipe_sample_dot(d, d), pipe_sample_dot(without, without)));
    pipe_tensor *scale = pipe_affine(pipe_exp(pipe_scale(ratio, -st->damping)), st->scale - 1.0, 1.0);
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
    .denoiser = {.describe = describe, .predict = predict},
};
