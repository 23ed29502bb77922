/* The variance-exploding SDE: Song et al. 2021, arXiv:2011.13456, appendix C:
 * alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^t.  It ends at sigma_min, not at 0. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    double sigma_min, sigma_max;
} state;

static const pipe_param params[] = {
    PIPE_FLOAT(state, sigma_min, 0.01, 1e-9, 1e6, NULL, "at t = 0; lower ends cleaner and needs more steps"),
    PIPE_FLOAT(state, sigma_max, 1348.0, 1e-9, 1e6, NULL,
               "at t = 1; about the largest distance between two samples"),
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;

    (void)ctx;
    if (!(st->sigma_min < st->sigma_max))
        return pipe_fail(err, PIPE_EINVAL, "sigma_min %g must be below sigma_max %g", st->sigma_min,
                         st->sigma_max);
    return PIPE_OK;
}

static void at(void *self, pipe_schedule_point *p)
{
    const state *st = self;
    const double range = log(st->sigma_max / st->sigma_min);

    p->alpha = 1.0;
    p->dalpha = 0.0;
    p->sigma = st->sigma_min * exp(p->t * range);
    p->dsigma = range * p->sigma;
}

static double time_of(void *self, double lambda)
{
    const state *st = self;
    return (-lambda - log(st->sigma_min)) / log(st->sigma_max / st->sigma_min);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SCHEDULE),
    .name = "schedule.ve",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "variance-exploding SDE: sigma grows exponentially",
    .citation = "arXiv:2011.13456",
    .example = "noise: {plugin: schedule.ve, sigma_max: 50}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .schedule = {.at = at, .time_of = time_of},
};
