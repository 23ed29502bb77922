/* CFG-Zero*: Fan et al. 2025, arXiv:2503.18886.  The unconditional prediction is
 * scaled to fit the conditional one best, and the first steps stand still:
 *
 *     k = <c, u> / (|u|^2 + 1e-8),   result k u + w (c - k u);   0 for the first zero_steps levels.
 *
 * Theirs are flow velocities: in `own` space a flow model's first step leaves x. */
#include <pipe/pipe.h>

typedef struct {
    pipe_cfg_state cfg; /* first */
    int64_t zero_steps;
    pipe_level_count count; /* of this trajectory */
} state;

static const pipe_input inputs[] = {PIPE_CFG_STATE_INPUT, PIPE_INPUT_END};

static const pipe_param params[] = {
    PIPE_CFG_STATE_SCALE,
    PIPE_INT(state, zero_steps, 1, 0, 100000, "noise levels",
             "at the start at which nothing is predicted; more let a trajectory begin later"),
    PIPE_CFG_STATE_SPACE("own"), PIPE_PARAM_END};

static void begin(void *self)
{
    pipe_level_count_begin(&((state *)self)->count);
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
    pipe_tensor *with = pipe_cfg_state_predict(&st->cfg, x, l, c);

    (void)m;
    if (!pipe_condition_given(c))
        return with;
    if (pipe_level_count_at(&st->count, l) < st->zero_steps)
        return pipe_zeros_like(with);
    if (st->cfg.scale == 1.0)
        return with;
    pipe_tensor *without = pipe_cfg_state_predict(&st->cfg, x, l, NULL);
    pipe_tensor *k = pipe_div(pipe_sample_dot(with, without),
                              pipe_affine(pipe_sample_dot(without, without), 1.0, 1e-8));
    return pipe_axpby(st->cfg.scale, with, 1.0 - st->cfg.scale, pipe_mul(k, without));
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
    .denoiser = {.describe = pipe_cfg_state_describe, .predict = predict, .begin = begin},
};
