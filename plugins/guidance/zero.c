/* CFG-Zero*: Fan et al. 2025, arXiv:2503.18886.  The unconditional prediction is
 * scaled to fit the conditional one best, and the first steps stand still:
 *
 *     k = <c, u> / (|u|^2 + 1e-8),   result k u + w (c - k u);   0 for the first zero_steps levels.
 *
 * Theirs are flow velocities: in `own` space a flow model's first step leaves x. */
#include <pipe/pipe.h>

typedef struct {
    pipe_denoiser *denoiser;
    double scale;
    int64_t space;
    int64_t zero_steps;
    int64_t levels; /* noise levels seen in this trajectory, from 0; -1: none yet */
    double last; /* time of the last one */
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, denoiser, PIPE_KIND_DENOISER,
               "a conditional model that was trained to work without labels too"),
    PIPE_INPUT_END};

static const pipe_param params[] = {
    PIPE_FLOAT(state, scale, 2.0, -100.0, 100.0, NULL,
               "guidance scale; 1 = none, higher follows the condition more and loses variety"),
    PIPE_INT(state, zero_steps, 1, 0, 100000, "noise levels",
             "at the start at which nothing is predicted; more let a trajectory begin later"),
    PIPE_CHOICE(state, space, "own", pipe_guidance_space_names,
                "in which it is applied: x0 (the predicted clean data) or own (whatever the model predicts)"),
    PIPE_PARAM_END};

static pipe_status describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    const state *st = self;

    return pipe_guidance_describe(st->denoiser, (pipe_guidance_space)st->space, true, info, err);
}

/* Counts the noise levels since the trajectory began: a sampler may ask several times at one. */
static int64_t count_levels(state *st, const pipe_level *l)
{
    if (!l->uniform)
        return st->levels;
    if (st->levels < 0 || l->point.t != st->last) {
        st->last = l->point.t;
        st->levels++;
    }
    return st->levels;
}

static void begin(void *self)
{
    ((state *)self)->levels = -1;
}

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    (void)ctx;
    (void)err;
    begin(self);
    return PIPE_OK;
}

static pipe_tensor *predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c)
{
    state *st = self;
    pipe_denoiser_info info;
    pipe_error err = PIPE_ERROR_INIT;

    (void)m;
    if (describe(self, &info, &err) != PIPE_OK)
        return pipe_object_poison(st->denoiser, err.status, "%s", err.message);
    pipe_tensor *with = pipe_predict(st->denoiser, x, l, c, info.predicts);
    if (!pipe_condition_given(c))
        return with;
    if (count_levels(st, l) < st->zero_steps)
        return pipe_zeros_like(with);
    if (st->scale == 1.0)
        return with;
    pipe_tensor *without = pipe_predict(st->denoiser, x, l, NULL, info.predicts);
    pipe_tensor *k = pipe_div(pipe_sample_dot(with, without),
                              pipe_affine(pipe_sample_dot(without, without), 1.0, 1e-8));
    return pipe_axpby(st->scale, with, 1.0 - st->scale, pipe_mul(k, without));
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "guidance.zero",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "classifier-free guidance with a fitted unconditional prediction and a start from rest",
    .citation = "arXiv:2503.18886",
    .example = "guided: {plugin: guidance.zero, denoiser: model, scale: 4.0}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .create = create,
    .denoiser = {.describe = describe, .predict = predict, .begin = begin},
};
