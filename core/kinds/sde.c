/* Steps of the forward and the reverse SDE. */
#include <pipe/op.h>
#include <pipe/sde.h>

#include <math.h>

pipe_tensor *pipe_step_raise(pipe_sampling *s, pipe_tensor *x, const pipe_schedule_point *from,
                             const pipe_schedule_point *to, double factor, uint32_t draw)
{
    const double low = pipe_level_ratio(from), high = pipe_level_ratio(to);
    const double added = factor * sqrt(fmax(0.0, high * high - low * low));

    return pipe_axpby(to->alpha / from->alpha, x, to->alpha * added, pipe_sampling_noise(s, draw));
}

const char *const pipe_sde_variables[] = {"time", "ratio", NULL};

pipe_status pipe_sde_check(const pipe_sampling *s, pipe_error *err)
{
    if (s->alpha[0] > 0.0)
        return PIPE_OK;
    return pipe_fail(
        err, PIPE_EDOMAIN,
        "the schedule starts at alpha = 0, where the SDE is singular; start lower (`ratio_max`)");
}

pipe_tensor *pipe_step_reverse_sde(pipe_sampling *s, pipe_tensor *x, const pipe_schedule_point *from,
                                   const pipe_schedule_point *to, double eta, int64_t variable,
                                   double *deviation)
{
    const double a = from->alpha, sigma = from->sigma;
    double keep, slope, variance; /* of x and of eps = -sigma score */

    if (variable == PIPE_SDE_TIME) {
        /* f = alpha' / alpha, g^2 = 2 sigma w, w = sigma' - f sigma */
        const double step = to->t - from->t, f = from->dalpha / a, w = from->dsigma - f * sigma;
        keep = 1.0 + f * step;
        slope = (1.0 + eta) * w * step;
        variance = 2.0 * sigma * w * fabs(step);
    } else {
        const double high = sigma / a, low = pipe_level_ratio(to), step = low * low - high * high;
        keep = to->alpha / a;
        slope = 0.5 * (1.0 + eta) * to->alpha * step / high;
        variance = to->alpha * to->alpha * fabs(step);
    }
    *deviation = to->sigma > 0.0 ? sqrt(eta * variance) : 0.0;
    return pipe_axpby(keep, x, slope, pipe_predict_at(s, x, from->t, PIPE_PREDICT_EPS));
}
