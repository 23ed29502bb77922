/* The sub-VP SDE in continuous time: Song et al. 2021, arXiv:2011.13456, appendix C:
 * alpha of the VP SDE, sigma = 1 - alpha^2, so that less noise is added on the way. */
#include <pipe/pipe.h>

#include <math.h>

static const pipe_param params[] = {PIPE_NOISE_RATE_ROWS, PIPE_PARAM_END};

static void at(void *self, pipe_schedule_point *p)
{
    double slope; /* of ln alpha */
    const double log_alpha = pipe_noise_rate_log_alpha(self, p->t, &slope);

    p->alpha = exp(log_alpha);
    p->sigma = -expm1(2.0 * log_alpha);
    p->dalpha = slope * p->alpha;
    p->dsigma = -2.0 * p->alpha * p->dalpha;
}

static double time_of(void *self, double lambda)
{
    return pipe_noise_rate_time_of(
        self, -asinh(0.5 * exp(-lambda))); /* rho = 1 / alpha - alpha = 2 sinh(-ln alpha) */
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SCHEDULE),
    .name = "schedule.sub-vp",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "sub-VP SDE in continuous time: alpha of VP, sigma = 1 - alpha^2",
    .citation = "arXiv:2011.13456",
    .example = "noise: {plugin: schedule.sub-vp, beta_min: 0.1, beta_max: 20}",
    .params = params,
    .state_size = sizeof(pipe_noise_rate),
    .schedule = {.at = at, .time_of = time_of},
};
