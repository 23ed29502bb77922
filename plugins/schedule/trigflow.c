/* The schedule of TrigFlow: Lu and Song 2024, arXiv:2410.11081, section 3: alpha = cos t,
 * sigma = sigma_data sin t, t from 0 to pi / 2. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    double sigma_data;
} state;

static const pipe_param params[] = {
    PIPE_FLOAT(state, sigma_data, 0.5, 1e-6, 1e6, NULL,
               "standard deviation of the data, which that of the noise is set to"),
    PIPE_PARAM_END};

static pipe_status describe(void *self, pipe_schedule_info *info, pipe_error *err)
{
    (void)self;
    (void)err;
    info->t_max = info->t_start = 0.5 * 3.14159265358979323846;
    return PIPE_OK;
}

static void at(void *self, pipe_schedule_point *p)
{
    const double sd = ((const state *)self)->sigma_data;

    /* cos(t) as the sine of what is left to pi / 2: exactly 0 there */
    p->alpha = sin(0.5 * 3.14159265358979323846 - p->t);
    p->sigma = sd * sin(p->t);
    p->dalpha = -sin(p->t);
    p->dsigma = sd * p->alpha;
}

static double time_of(void *self, double lambda)
{
    return atan(exp(-lambda) / ((const state *)self)->sigma_data);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SCHEDULE),
    .name = "schedule.trigflow",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "a quarter circle from data to noise (TrigFlow)",
    .citation = "arXiv:2410.11081",
    .example = "noise: {plugin: schedule.trigflow, sigma_data: 0.5}",
    .params = params,
    .state_size = sizeof(state),
    .schedule = {.describe = describe, .at = at, .time_of = time_of},
};
