/* The variance-preserving SDE in continuous time: Song et al. 2021, arXiv:2011.13456,
 * appendix C: beta(t) goes linearly from beta_min to beta_max, ln alpha = -1/2 int beta. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    double beta_min, beta_max;
} state;

static const pipe_param params[] = {PIPE_FLOAT(state, beta_min, 0.1, 1e-6, 1000.0, NULL,
                                               "rate of noise at t = 0; higher hides fine detail earlier"),
                                    PIPE_FLOAT(state, beta_max, 20.0, 1e-6, 1000.0, NULL,
                                               "rate of noise at t = 1; higher ends nearer to pure noise"),
                                    PIPE_PARAM_END};

static pipe_status describe(void *self, pipe_schedule_info *info, pipe_error *err)
{
    (void)self;
    (void)info; /* continuous on [0, 1], as set by the core */
    (void)err;
    return PIPE_OK;
}

static void at(void *self, pipe_schedule_point *p)
{
    const state *st = self;
    const double log_alpha = -0.25 * p->t * p->t * (st->beta_max - st->beta_min) - 0.5 * p->t * st->beta_min;
    const double slope = -0.5 * (st->beta_min + p->t * (st->beta_max - st->beta_min)); /* of ln alpha */

    p->alpha = exp(log_alpha);
    p->sigma = sqrt(-expm1(2.0 * log_alpha));
    p->dalpha = slope * p->alpha;
    p->dsigma = -slope * p->alpha * p->alpha / p->sigma; /* infinite at t = 0 */
}

/* t where -ln alpha = decay */
static double time_at(const state *st, double decay)
{
    const double half = 0.5 * st->beta_min;
    return 2.0 * decay / (half + sqrt(half * half + (st->beta_max - st->beta_min) * decay));
}

static double time_of(void *self, double lambda)
{
    return time_at(self, 0.5 * log1p(exp(-2.0 * lambda))); /* alpha^2 = 1 / (1 + rho^2) */
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
    .state_size = sizeof(state),
    .schedule = {.describe = describe, .at = at, .time_of = time_of},
};
