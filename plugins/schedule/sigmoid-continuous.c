/* alpha^2 follows a sigmoid in continuous time: Jabri et al. 2022, arXiv:2212.11972,
 * algorithm 1:
 *
 *     alpha^2 = [S(e) - S(b + t (e - b))] / [S(e) - S(b)],  S(z) = 1 / (1 + exp(-z / k))
 *
 * alpha is 0 at t = 1: models must predict v, x0 or the velocity there. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    double begin, end, temperature;
} state;

static const pipe_param params[] = {
    PIPE_FLOAT(state, begin, -3.0, -100.0, 100.0, NULL,
               "b, where the sigmoid begins; lower stays clean longer"),
    PIPE_FLOAT(state, end, 3.0, -100.0, 100.0, NULL, "e, where it ends; higher stays noisy longer"),
    PIPE_FLOAT(state, temperature, 1.0, 0.01, 100.0, NULL, "k; higher is closer to a straight line"),
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;

    (void)ctx;
    if (!(st->begin < st->end))
        return pipe_fail(err, PIPE_EINVAL, "begin %g must be below end %g", st->begin, st->end);
    return PIPE_OK;
}

/* (S(p) - S(q)) without the cancellation of a difference: sinh((p - q) / 2k) / (2 cosh(p / 2k) cosh(q / 2k))
 */
static double difference(const state *st, double p, double q)
{
    const double k = 2.0 * st->temperature;
    return sinh((p - q) / k) / (2.0 * cosh(p / k) * cosh(q / k));
}

static void at(void *self, pipe_schedule_point *p)
{
    const state *st = self;
    const double z = st->begin + p->t * (st->end - st->begin), all = difference(st, st->end, st->begin);
    const double c = cosh(z / (2.0 * st->temperature));
    const double slope = (st->end - st->begin) / (4.0 * st->temperature * c * c * all); /* of sigma^2 */

    p->alpha = sqrt(difference(st, st->end, z) / all);
    p->sigma = sqrt(difference(st, z, st->begin) / all);
    p->dalpha = -0.5 * slope / p->alpha;
    p->dsigma = 0.5 * slope / p->sigma;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SCHEDULE),
    .name = "schedule.sigmoid-continuous",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "variance preserving, alpha^2 a sigmoid of continuous time",
    .citation = "arXiv:2212.11972",
    .example = "noise: {plugin: schedule.sigmoid-continuous, begin: -3, end: 3}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .schedule = {.at = at}, /* the core inverts it */
};
