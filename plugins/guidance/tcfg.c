/* Tangential damping classifier-free guidance: Kwon et al. 2025, arXiv:2503.18137.
 * The unconditional prediction keeps only its part along the first right singular
 * vector v of the matrix [conditional; unconditional], 2 x n:
 *
 *     v = (p c + q u) / s,   (p, q) the first eigenvector of the 2 x 2 products of c and u,
 *     u~ = <u, v> v,         result u~ + w (c - u~). */
#include <pipe/pipe.h>

static const pipe_input inputs[] = {PIPE_CFG_STATE_INPUT, PIPE_INPUT_END};

static const pipe_param params[] = {PIPE_CFG_STATE_SCALE, PIPE_CFG_STATE_SPACE("x0"), PIPE_PARAM_END};

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
    const pipe_cfg_state *st = self;
    pipe_tensor *with = pipe_cfg_state_predict(st, x, l, c);

    (void)m;
    if (st->scale == 1.0 || !pipe_condition_given(c))
        return with;
    pipe_tensor *without = tangential(with, pipe_cfg_state_predict(st, x, l, NULL));
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
    .state_size = sizeof(pipe_cfg_state),
    .denoiser = {.describe = pipe_cfg_state_describe, .predict = predict},
};
