/* Autoguidance: Karras et al. 2024, arXiv:2406.02507: away from a worse version of
 * the model (smaller, less trained, with layers dropped),
 *
 *     bad + w (good - bad). */
#include <pipe/pipe.h>

typedef struct {
    pipe_denoiser *denoiser, *bad;
    double scale;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, denoiser, PIPE_KIND_DENOISER, "the good model"),
    PIPE_INPUT(state, bad, PIPE_KIND_DENOISER, "a worse version of it, under the same schedule"),
    PIPE_INPUT_END};

static const pipe_param params[] = {
    PIPE_FLOAT(state, scale, 2.0, -100.0, 100.0, NULL,
               "1 = the good model alone; higher goes further from what the bad one predicts"),
    PIPE_PARAM_END};

static pipe_status describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    const state *st = self;

    return pipe_guidance_describe_all((pipe_denoiser *const[]){st->denoiser, st->bad}, 2, info, err);
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
    pipe_tensor *good = pipe_predict(st->denoiser, x, l, c, info.predicts);
    if (st->scale == 1.0)
        return good;
    return pipe_axpby(st->scale, good, 1.0 - st->scale, pipe_predict(st->bad, x, l, c, info.predicts));
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "guidance.auto",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "guidance by a worse version of the model",
    .citation = "arXiv:2406.02507",
    .example = "guided: {plugin: guidance.auto, denoiser: model, bad: early, scale: 2.0}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .denoiser = {.describe = describe, .predict = predict},
};
