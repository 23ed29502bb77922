/* The schedule of Karras et al. 2022, arXiv:2206.00364: alpha = 1, sigma = t. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    double sigma_max;
} state;

static const pipe_param params[] = {
    PIPE_FLOAT(state, sigma_max, 80.0, 0.01, 1e6, NULL,
               "where sampling starts; far above the data's standard deviation"),
    PIPE_PARAM_END};

static pipe_status describe(void *self, pipe_schedule_info *info, pipe_error *err)
{
    (void)err;
    info->t_max = info->t_start = ((const state *)self)->sigma_max;
    return PIPE_OK;
}

static void at(void *self, pipe_schedule_point *p)
{
    (void)self;
    p->alpha = 1.0;
    p->dalpha = 0.0;
    p->sigma = p->t;
    p->dsigma = 1.0;
}

static double time_of(void *self, double lambda)
{
    (void)self;
    return exp(-lambda);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SCHEDULE),
    .name = "schedule.edm",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "alpha = 1, sigma = t (Karras et al.)",
    .citation = "arXiv:2206.00364",
    .example = "noise: {plugin: schedule.edm, sigma_max: 80}",
    .params = params,
    .state_size = sizeof(state),
    .schedule = {.describe = describe, .at = at, .time_of = time_of},
};
