/* DDIM: Song et al. 2020, arXiv:2010.02502, equation 12, in terms of
 * rho = sigma / alpha: the next point has noise rho_j, of which q is fresh. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    double eta;
} state;

static const pipe_param params[] = {
    PIPE_FLOAT(state, eta, 0.0, 0.0, 1.0, NULL,
               "fresh noise per step: 0 none (deterministic), 1 as much as DDPM"),
    PIPE_PARAM_END};

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;
    const size_t i = s->i, j = i + 1;
    /* sigma_j sqrt(1 - (rho_j / rho_i)^2): the fresh part, in units of x; finite where alpha_i = 0 */
    const double ratio = s->sigma[j] * s->alpha[i] / (s->alpha[j] * s->sigma[i]);
    const double fresh = st->eta * s->sigma[j] * sqrt(fmax(0.0, 1.0 - ratio * ratio));
    const double kept = sqrt(fmax(0.0, s->sigma[j] * s->sigma[j] - fresh * fresh));
    pipe_tensor *x0 = pipe_predict_x0(s, s->x), *x = pipe_scale(x0, s->alpha[j]);

    if (kept > 0.0) /* eps from x and x0: one evaluation */
        x = pipe_add(x, pipe_axpby(kept / s->sigma[i], s->x, -kept * s->alpha[i] / s->sigma[i], x0));
    if (fresh > 0.0)
        x = pipe_axpby(1.0, x, fresh, pipe_sampling_noise(s, 0));
    s->x = x;
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.ddim",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "DDIM: first order, deterministic at eta 0",
    .citation = "arXiv:2010.02502",
    .example = "solver: {plugin: sampler.ddim, steps: 50, eta: 0.0}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.step = step, .order = 1, .calls_per_step = 1},
};
