/* DPM2: the slope at the geometric mean of both ratios sigma / alpha, applied to the
 * whole step (k-diffusion's sample_dpm_2, after Karras et al. 2022, arXiv:2206.00364,
 * algorithm 2, and Lu et al. 2022, arXiv:2206.00927).  Where a schedule starts at
 * alpha = 0 (flow) it is the midpoint rule in t. */
#include <pipe/pipe.h>

#include <math.h>

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
    pipe_tableau method = pipe_rk_midpoint;
    pipe_schedule_point from;
    pipe_tensor *x = pipe_step_churn(s, &st->churn, &from);

    if (st->resolved ==
        PIPE_ODE_RHO) /* sqrt(a b) lies at sqrt(a) / (sqrt(a) + sqrt(b)) of the way from a to b */
        method.c[1] = method.a[1][0] = 1.0 / (1.0 + sqrt(pipe_level_ratio(&to) / pipe_level_ratio(&from)));
    s->x = pipe_runge_kutta(s, x, &from, &to, &method, st->resolved);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.dpm2",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "midpoint rule in log(sigma / alpha), second order, with optional churn",
    .citation = "arXiv:2206.00364",
    .example = "solver: {plugin: sampler.dpm2, steps: 20, grid: karras}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.begin = begin, .step = step, .order = 2, .calls_per_step = 2, .early_begin = true},
};
