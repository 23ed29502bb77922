/* Heun's second-order method on the probability-flow ODE, with the churn of Karras
 * et al. 2022 (arXiv:2206.00364, algorithms 1 and 2).  In rho = sigma / alpha the
 * ODE is d(x / alpha) / d rho = eps; where a schedule starts at alpha = 0 (flow) rho
 * is infinite there and the ODE is taken in t instead, dx/dt = velocity. */
#include <pipe/pipe.h>

typedef struct {
    pipe_churn churn;
    int64_t variable, resolved;
} state;

static const pipe_param params[] = {PIPE_ODE_VARIABLE_PARAM(state), PIPE_CHURN_PARAMS(state), PIPE_PARAM_END};

static pipe_status begin(void *self, pipe_sampling *s, pipe_error *err)
{
    state *st = self;

    return pipe_ode_resolve(s, st->variable, &st->resolved, err);
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;
    const pipe_schedule_point to = pipe_grid_point(s, s->i + 1);
    pipe_schedule_point from;
    pipe_tensor *x = pipe_step_churn(s, &st->churn, &from);

    s->x = pipe_runge_kutta(s, x, &from, &to, &pipe_rk_heun, st->resolved);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.heun",
    .version = "1.1.0",
    .licence = "MIT",
    .summary = "Heun's method on the probability-flow ODE, second order, with optional churn",
    .citation = "arXiv:2206.00364",
    .example = "solver: {plugin: sampler.heun, steps: 20, grid: karras}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.begin = begin, .step = step, .order = 2, .calls_per_step = 2, .early_begin = true},
};
