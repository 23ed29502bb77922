/* @NAME@: a variance-preserving schedule that goes along a quarter of a circle,
 * alpha = cos(pi u / 2), sigma = sin(pi u / 2), u = t^power.  Replace at() by your
 * own; <pipe/schedule.h> says what it must fill. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    double power;
} state;

/* Default, range and help of a parameter stand here and nowhere else. */
static const pipe_param params[] = {
    PIPE_FLOAT(state, power, 1.0, 0.1, 10.0, NULL,
               "higher spends more of the time near the data, lower near the noise"),
    PIPE_PARAM_END
};

static pipe_status describe(void *self, pipe_schedule_info *info, pipe_error *err)
{
    (void)self;
    (void)err;
    info->t_start = 0.999;      /* alpha(1) = 0, where the noise cannot be told from x */
    return PIPE_OK;
}

static void at(void *self, pipe_schedule_point *p)
{
    const double power = ((const state *)self)->power, quarter = acos(-1.0) / 2.0;
    const double u = pow(p->t, power);
    const double du = p->t > 0.0 ? power * u / p->t : power == 1.0 ? 1.0 : 0.0;

    p->alpha = cos(quarter * u);
    p->sigma = sin(quarter * u);
    p->dalpha = -quarter * du * p->sigma;
    p->dsigma = quarter * du * p->alpha;
}

/* The inverse, of lambda = log(alpha / sigma).  NULL in the table: the engine bisects. */
static double time_of(void *self, double lambda)
{
    const double power = ((const state *)self)->power, quarter = acos(-1.0) / 2.0;

    return pow(atan(exp(-lambda)) / quarter, 1.0 / power);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SCHEDULE),
    .name = "@NAME@",
    .version = "0.1.0",
    .summary = "one line about it",
    .help = "What it does, when to use it.",
    .citation = NULL,
    .licence = NULL,
    .example = "noise: {plugin: @NAME@, power: 1.0}",
    .params = params,
    .state_size = sizeof(state),
    .schedule = {.describe = describe, .at = at, .time_of = time_of},
};
