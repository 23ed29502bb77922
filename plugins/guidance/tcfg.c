/* Tangential damping classifier-free guidance: Kwon et al. 2025, arXiv:2503.18137.
 * The unconditional prediction keeps only its part along the first right singular
 * vector v of the matrix [conditional; unconditional], 2 x n:
 *
 *     v = (p c + q u) / s,   (p, q) the first eigenvector of the 2 x 2 products of c and u,
 *     u~ = <u, v> v,         result u~ + w (c - u~). */
#include <pipe/pipe.h>

typedef struct {
    pipe_denoiser *denoiser;
    double scale;
    int64_t space;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, denoiser, PIPE_KIND_DENOISER,
               "a conditional model that was trained to work without labels too"),
    PIPE_INPUT_END};

static const pipe_param params[] = {
    PIPE_FLOAT(state, scale, 2.0, -100.0, 100.0, NULL,
               "guidance scale; 1 = none, higher follows the condition more and loses variety"),
    PIPE_CHOICE(state, space, "x0", pipe_guidance_space_names,
                "in which it is applied: x0 (the predicted clean data) or own (whatever the model predicts)"),
    PIPE_PARAM_END};

static pipe_status describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    const state *st = self;

    return pipe_guidance_describe(st->denoiser, (pipe_guidance_space)st->space, true, info, err);
}

/* <u, v> v, v the direction that c and u have most in common. */
static pipe_tensor *tangential(pipe_tensor *c, pipe_tensor *u)
{
    pipe_tensor *cc = pipe_sample_dot(c, c), *cu = pipe_sample_dot(c, u), *uu = pipe_sample_dot(u, u);
    /* the eigenvector (p, q) = (cos, sin) of the larger eigenvalue of [cc cu; cu uu] */
    pipe_tensor *angle = pipe_scale(pipe_atan2(pipe_scale(cu, 2.0), pipe_sub(cc, uu)), 0.5);
    pipe_tensor *p = pipe_cos(angle), *q = pipe_sin(angle);
    pipe_tensor *along_u = pipe_add(pipe_mul(p, cu), pipe_mul(q, uu)); /* s <u, v> */
    pipe_tensor *along_c = pipe_add(pipe_mul(p, cc), pipe_mul(q, cu));
    pipe_tensor *square = pipe_add(pipe_mul(p, along_c), pipe_mul(q, along_u)); /* s^2 */
    pipe_tensor *direction = pipe_add(pipe_mul(p, c), pipe_mul(q, u)); /* s v */

    /* both 0: there is no direction, and the result is 0 */
    square = pipe_maximum(square, pipe_constant(pipe_tensor_engine(c), 1e-30));
    return pipe_mul(pipe_div(along_u, square), direction);
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
    pipe_tensor *without = tangential(with, pipe_predict(st->denoiser, x, l, NULL, info.predicts));
    return pipe_axpby(st->scale, with, 1.0 - st->scale, without);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "guidance.tcfg",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "classifier-free guidance with the tangential part of the unconditional prediction",
    .citation = "arXiv:2503.18137",
    .example = "guided: {plugin: guidance.tcfg, denoiser: model, scale: 3.0}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .denoiser = {.describe = describe, .predict = predict},
};
