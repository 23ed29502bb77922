/* Steps from one noise level to the next: what the single-step samplers share. */
#include <pipe/op.h>
#include <pipe/sde.h>

#include <math.h>

/* ---- noise levels ---- */
pipe_schedule_point pipe_grid_point(const pipe_sampling *s, size_t i)
{
    return pipe_schedule_at(s->schedule, s->t[i]);
}

double pipe_level_ratio(const pipe_schedule_point *p)
{
    return p->sigma / p->alpha;
}

pipe_schedule_point pipe_level_of_ratio(const pipe_sampling *s, double rho)
{
    return pipe_schedule_at(s->schedule, pipe_schedule_time_of(s->schedule, -log(rho)));
}

/* ---- first order ---- */
pipe_tensor *pipe_step_to(pipe_tensor *x, pipe_tensor *x0, const pipe_schedule_point *from,
                          const pipe_schedule_point *to)
{
    const double shrink = to->sigma / from->sigma, gain = to->alpha - shrink * from->alpha;

    return shrink > 0.0 ? pipe_axpby(shrink, x, gain, x0) : pipe_scale(x0, gain);
}

/* The ratio at which the deterministic part of the step ends. */
static double kept_ratio(double from, double to, double eta, pipe_split split)
{
    if (split == PIPE_SPLIT_TIME) {
        const double there = to / (1.0 + to), here = isinf(from) ? 1.0 : from / (1.0 + from);
        const double down = there * fmax(0.0, 1.0 + eta * (there / here - 1.0));
        return down / (1.0 - down);
    }
    const double fresh = fmin(1.0, eta * sqrt(fmax(0.0, 1.0 - to / from * (to / from))));
    return to * sqrt(1.0 - fresh * fresh);
}

double pipe_step_split(const pipe_schedule_point *from, const pipe_schedule_point *to, double eta,
                       pipe_split split, pipe_schedule_point *kept)
{
    *kept = *to;
    if (!(eta > 0.0 && to->sigma > 0.0))
        return 0.0;
    kept->sigma = to->alpha * kept_ratio(pipe_level_ratio(from), pipe_level_ratio(to), eta, split);
    return sqrt(fmax(0.0, to->sigma * to->sigma - kept->sigma * kept->sigma));
}

pipe_tensor *pipe_step_add_noise(pipe_sampling *s, pipe_tensor *x, double deviation, uint32_t draw)
{
    return deviation > 0.0 ? pipe_axpby(1.0, x, deviation, pipe_sampling_noise(s, draw)) : x;
}

pipe_tensor *pipe_step_half_way(pipe_sampling *s, const pipe_schedule_point *from,
                                const pipe_schedule_point *to)
{
    const double half = sqrt(pipe_level_ratio(from) * pipe_level_ratio(to));
    pipe_tensor *x0 = pipe_predict_at(s, s->x, from->t, PIPE_PREDICT_X0);

    if (half > 0.0 && isfinite(half)) {
        const pipe_schedule_point middle = pipe_level_of_ratio(s, half);
        x0 = pipe_predict_at(s, pipe_step_to(s->x, x0, from, &middle), middle.t, PIPE_PREDICT_X0);
    }
    return pipe_step_to(s->x, x0, from, to);
}

/* ---- churn ---- */
pipe_tensor *pipe_step_churn(pipe_sampling *s, const pipe_churn *c, pipe_schedule_point *level)
{
    const pipe_schedule_point here = pipe_grid_point(s, s->i);
    const double rho = pipe_level_ratio(&here);
    const double raise = fmin(c->amount / (double)s->steps, M_SQRT2 - 1.0);

    *level = here;
    if (!(raise > 0.0 && rho >= c->min && rho <= c->max))
        return s->x;
    *level = pipe_level_of_ratio(s, rho * (1.0 + raise));
    return pipe_step_raise(s, s->x, &here, level, c->noise, 0);
}

/* ---- Runge-Kutta ---- */
const char *const pipe_ode_variables[] = {"auto", "rho", "time", NULL};

const pipe_tableau pipe_rk_heun = {.stages = 2, .c = {0.0, 1.0}, .a = {{0}, {1.0}}, .b = {0.5, 0.5}};
const pipe_tableau pipe_rk_midpoint = {.stages = 2, .c = {0.0, 0.5}, .a = {{0}, {0.5}}, .b = {0.0, 1.0}};

pipe_status pipe_ode_resolve(const pipe_sampling *s, int64_t variable, int64_t *out, pipe_error *err)
{
    const bool finite = s->alpha[0] > 0.0;

    if (variable == PIPE_ODE_RHO && !finite)
        return pipe_fail(
            err, PIPE_EDOMAIN,
            "variable rho: the schedule starts at alpha = 0, where rho is infinite; use `time` or `auto`");
    *out = variable == PIPE_ODE_AUTO ? (finite ? PIPE_ODE_RHO : PIPE_ODE_TIME) : variable;
    return PIPE_OK;
}

/* from_x x + step sum weight[j] slope[j] */
static pipe_tensor *advance(double from_x, pipe_tensor *x, double step, const double *weight,
                            pipe_tensor *const *slope, size_t n)
{
    pipe_tensor *y = pipe_scale(x, from_x);

    for (size_t j = 0; j < n; j++)
        if (weight[j] != 0.0)
            y = pipe_axpby(1.0, y, step * weight[j], slope[j]);
    return y;
}

pipe_tensor *pipe_runge_kutta(pipe_sampling *s, pipe_tensor *x, const pipe_schedule_point *from,
                              const pipe_schedule_point *to, const pipe_tableau *method, int64_t variable)
{
    const bool in_rho = variable == PIPE_ODE_RHO;
    const double start = in_rho ? pipe_level_ratio(from) : from->t;
    const double step = (in_rho ? pipe_level_ratio(to) : to->t) - start;
    pipe_tensor *slope[PIPE_RK_STAGES];

    if (!(to->sigma > 0.0))
        return pipe_step_to(x, pipe_predict_at(s, x, from->t, PIPE_PREDICT_X0), from, to);
    for (size_t i = 0; i < method->stages; i++) {
        const double at = start + method->c[i] * step;
        const pipe_schedule_point p = i == 0   ? *from
                                      : in_rho ? pipe_level_of_ratio(s, at)
                                               : pipe_schedule_at(s->schedule, at);
        const double scale = in_rho ? p.alpha / from->alpha : 1.0;
        pipe_tensor *y = i == 0 ? x
                                : advance(scale, x, step * (in_rho ? p.alpha : 1.0), method->a[i], slope, i);
        slope[i] = pipe_predict_at(s, y, p.t, in_rho ? PIPE_PREDICT_EPS : PIPE_PREDICT_FLOW);
    }
    return advance(in_rho ? to->alpha / from->alpha : 1.0, x, step * (in_rho ? to->alpha : 1.0), method->b,
                   slope, method->stages);
}
