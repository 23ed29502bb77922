/* Ancestral sampling: Ho et al. 2020, arXiv:2006.11239, algorithm 2, between any
 * two noise levels: the posterior q(x_j | x_i, x0) with x0 predicted. */
#include <pipe/pipe.h>

#include <math.h>

enum { SMALL, LARGE };

typedef struct {
    int64_t variance;
} state;

static const char *const variances[] = {"small", "large", NULL};

static const pipe_param params[] = {
    PIPE_CHOICE(
        state, variance, "small", variances,
        "of the step: small is the posterior's (exact if x0 were known), large is the forward step's (exact "
        "for standard normal data)"),
    PIPE_PARAM_END};

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;
    const size_t i = s->i, j = i + 1;
    const double decay = s->alpha[i] / s->alpha[j]; /* of the forward step from j to i */
    const double added = s->sigma[i] * s->sigma[i] - decay * decay * s->sigma[j] * s->sigma[j];
    const double share = added / (s->sigma[i] * s->sigma[i]); /* 1 - (rho_j / rho_i)^2 */
    const double small = s->sigma[j] * s->sigma[j] * share;
    const double variance = s->sigma[j] > 0.0 ? (st->variance == LARGE ? added : small) : 0.0;
    pipe_tensor *x0 = pipe_predict_x0(s, s->x);

    s->x = pipe_axpby(decay * (s->sigma[j] * s->sigma[j]) / (s->sigma[i] * s->sigma[i]), s->x,
                      s->alpha[j] * share, x0);
    if (variance > 0.0)
        s->x = pipe_axpby(1.0, s->x, sqrt(variance), pipe_sampling_noise(s, 0));
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.ddpm",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "ancestral sampling of DDPM, stochastic",
    .citation = "arXiv:2006.11239",
    .example = "solver: {plugin: sampler.ddpm, steps: 250}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.step = step, .order = 0, .calls_per_step = 1, .stochastic = true},
};
