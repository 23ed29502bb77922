/* Rectified flow: alpha = 1 - u, sigma = u (Liu et al. 2022, arXiv:2209.03003;
 * Lipman et al. 2022), with the static shift of Esser et al. 2024
 * (arXiv:2403.03206, equation 23): u = k t / (1 + (k - 1) t). */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    double shift;
} state;

static const pipe_param params[] = {
    PIPE_FLOAT(state, shift, 1.0, 0.01, 100.0, NULL,
               "above 1 spends more of the time at high noise (larger images want it), below 1 less"),
    PIPE_PARAM_END};

static pipe_status describe(void *self, pipe_schedule_info *info, pipe_error *err)
{
    (void)self;
    (void)info; /* continuous on [0, 1], as set by the core; velocity and v are determined at t = 1 too */
    (void)err;
    return PIPE_OK;
}

static void at(void *self, pipe_schedule_point *p)
{
    const double k = ((state *)self)->shift, d = 1.0 + (k - 1.0) * p->t;

    p->sigma = k * p->t / d;
    p->alpha = (1.0 - p->t) / d; /* 1 - sigma, without its cancellation near t = 1 */
    p->dsigma = k / (d * d);
    p->dalpha = -p->dsigma;
}

static double time_of(void *self, double lambda)
{
    const double k = ((state *)self)->shift, u = 1.0 / (1.0 + exp(lambda)); /* sigma */

    return u / (k - (k - 1.0) * u);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SCHEDULE),
    .name = "schedule.flow",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "rectified flow: straight lines from data to noise",
    .citation = "arXiv:2209.03003",
    .example = "noise: {plugin: schedule.flow, shift: 3.0}",
    .params = params,
    .state_size = sizeof(state),
    .schedule = {.describe = describe, .at = at, .time_of = time_of},
};
