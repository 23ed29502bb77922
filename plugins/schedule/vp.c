/* The variance-preserving SDE in continuous time: Song et al. 2021, arXiv:2011.13456,
 * appendix C: beta(t) goes linearly from beta_min to beta_max, ln alpha = -1/2 int beta. */
#include <pipe/pipe.h>

#include <math.h>

static const pipe_param params[] = {PIPE_NOISE_RATE_ROWS, PIPE_PARAM_END};

static void at(void *self, pipe_schedule_point *p)
{
    double slope; /* of ln alpha */
    const double log_alpha = pipe_noise_rate_log_alpha(self, p->t, &slope);

    p->alpha = exp(log_alpha);
    p->sigma = sqrt(-expm1(2.0 * log_alpha));
    p->dalpha = slope * p->alpha;
    p->dsigma = -slope * p->alpha * p->alpha / p->sigma; /* infinite at t = 0 */
}

static double time_of(void *self, double lambda)
{
    return pipe_noise_rate_time_of(self, -0.5 * log1p(exp(-2.0 * lambda))); /* alpha^2 = 1 / (1 + rho^2) */
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SCHEDULE),
    .name = "schedule.vp",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "variance-preserving SDE in continuous time",
    .citation = "arXiv:2011.13456",
    .example = "noise: {plugin: schedule.vp, beta_min: 0.1, beta_max: 20}",
    .params = params,
    .state_size = sizeof(pipe_noise_rate),
    .schedule = {.at = at, .time_of = time_of},
};
