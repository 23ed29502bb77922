/* Heun's second-order method on the probability-flow ODE (Karras et al. 2022,
 * arXiv:2206.00364, algorithm 1).  In rho = sigma / alpha the ODE is
 * d(x / alpha) / d rho = eps; where a schedule starts at alpha = 0 (flow) rho is
 * infinite there and the ODE is taken in t instead, dx/dt = velocity. */
#include <pipe/pipe.h>

enum { AUTO, RHO, TIME };

typedef struct {
    int64_t variable;
} state;

static const char *const variables[] = {"auto", "rho", "time", NULL};

static const pipe_param params[] = {PIPE_CHOICE(state, variable, "auto", variables,
                                                "what the ODE is integrated in: rho (sigma / alpha), time, "
                                                "or auto (rho unless alpha is 0 at the start)"),
                                    PIPE_PARAM_END};

static pipe_status begin(void *self, pipe_sampling *s, pipe_error *err)
{
    if (((state *)self)->variable == RHO && !(s->alpha[0] > 0.0))
        return pipe_fail(
            err, PIPE_EDOMAIN,
            "variable rho: the schedule starts at alpha = 0, where rho is infinite; use `time` or `auto`");
    return PIPE_OK;
}

static pipe_status step_in_time(pipe_sampling *s, pipe_error *err)
{
    const double dt = s->t[s->i + 1] - s->t[s->i];
    pipe_tensor *u = pipe_predict_at(s, s->x, s->t[s->i], PIPE_PREDICT_FLOW);
    pipe_tensor *end = pipe_axpby(1.0, s->x, dt, u);

    if (s->sigma[s->i + 1] > 0.0) {
        pipe_tensor *u2 = pipe_predict_at(s, end, s->t[s->i + 1], PIPE_PREDICT_FLOW);
        end = pipe_axpby(1.0, s->x, 0.5 * dt, pipe_add(u, u2));
    }
    s->x = end;
    return pipe_check(s->x, err);
}

static pipe_status step_in_rho(pipe_sampling *s, pipe_error *err)
{
    const size_t i = s->i, j = i + 1;
    const double h = s->sigma[j] / s->alpha[j] - s->sigma[i] / s->alpha[i],
                 shrink = s->alpha[j] / s->alpha[i];
    pipe_tensor *eps = pipe_predict_eps(s, s->x);
    pipe_tensor *end = pipe_axpby(shrink, s->x, s->alpha[j] * h, eps);

    if (s->sigma[j] >
        0.0) { /* at sigma = 0 the slope is not defined for every network: Euler, as in the paper */
        pipe_tensor *eps2 = pipe_predict_at(s, end, s->t[j], PIPE_PREDICT_EPS);
        end = pipe_axpby(shrink, s->x, 0.5 * s->alpha[j] * h, pipe_add(eps, eps2));
    }
    s->x = end;
    return pipe_check(s->x, err);
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const int64_t variable = ((state *)self)->variable;

    if (variable == TIME || (variable == AUTO && !(s->alpha[0] > 0.0)))
        return step_in_time(s, err);
    return step_in_rho(s, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.heun",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "Heun's method on the probability-flow ODE, second order",
    .citation = "arXiv:2206.00364",
    .example = "solver: {plugin: sampler.heun, steps: 20, grid: karras}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.begin = begin, .step = step, .order = 2, .calls_per_step = 2},
};
