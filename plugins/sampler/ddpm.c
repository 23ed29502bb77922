/* Ancestral sampling: Ho et al. 2020, arXiv:2006.11239, algorithm 2, between any
 * two noise levels: the posterior q(x_j | x_i, x0) with x0 predicted.  Learned variances:
 * Nichol and Dhariwal 2021, arXiv:2102.09672. */
#include <pipe/pipe.h>

#include <math.h>

enum { SMALL, LARGE, LEARNED };

typedef struct {
    int64_t variance;
} state;

static const char *const variances[] = {"small", "large", "learned", NULL};

static const pipe_param params[] = {
    PIPE_CHOICE(
        state, variance, "small", variances,
        "of the step: small is the posterior's (exact if x0 were known), large is the forward step's (exact "
        "for standard normal data), learned is what a network with the parameter `variance` predicts"),
    PIPE_PARAM_END};

static pipe_status check(void *self, const pipe_sampling *s, const pipe_denoiser_info *info, pipe_error *err)
{
    (void)s;
    if (((const state *)self)->variance == LEARNED && info && info->variance == PIPE_VARIANCE_NONE)
        return pipe_fail(err, PIPE_EINVAL,
                         "`variance: learned` needs a network that predicts variances: one with `variance: range`, "
                         "trained by objective.denoise");
    return PIPE_OK;
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const int64_t variance = ((const state *)self)->variance;
    const size_t i = s->i, j = i + 1;
    const pipe_posterior q = pipe_posterior_of(s->alpha[i], s->sigma[i], s->alpha[j], s->sigma[j]);
    const bool last = !(q.variance > 0.0); /* no noise into the end */
    pipe_tensor *log_variance, *x0;

    if (variance == LEARNED && !last) {
        x0 = pipe_predict_x0_and_log_variance(s, s->x, &q, &log_variance);
        s->x = pipe_add(pipe_axpby(q.x, s->x, q.x0, x0),
                        pipe_mul(pipe_exp(pipe_scale(log_variance, 0.5)), pipe_sampling_noise(s, 0)));
    } else {
        x0 = pipe_predict_x0(s, s->x);
        s->x = pipe_step_add_noise(s, pipe_axpby(q.x, s->x, q.x0, x0),
                                   last ? 0.0 : sqrt(variance == LARGE ? q.forward : q.variance), 0);
    }
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
    .sampler = {.check = check, .step = step, .order = 0, .calls_per_step = 1, .stochastic = true},
};
