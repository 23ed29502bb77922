/* Explicit Runge-Kutta methods on the probability-flow ODE, in rho = sigma / alpha
 * (rho-RK of DEIS: Zhang and Chen 2022, arXiv:2204.13902) or in time. */
#include <pipe/pipe.h>

typedef struct {
    int64_t method, variable, resolved;
} state;

static const char *const methods[] = {"euler", "midpoint", "heun", "kutta3", "ralston3", "rk4", NULL};

static const pipe_tableau euler = {.stages = 1, .b = {1.0}};
static const pipe_tableau kutta3 = {
    .stages = 3, .c = {0.0, 0.5, 1.0}, .a = {{0}, {0.5}, {-1.0, 2.0}}, .b = {1.0 / 6, 2.0 / 3, 1.0 / 6}};
static const pipe_tableau ralston3 = {
    .stages = 3, .c = {0.0, 0.5, 0.75}, .a = {{0}, {0.5}, {0.0, 0.75}}, .b = {2.0 / 9, 1.0 / 3, 4.0 / 9}};
static const pipe_tableau rk4 = {.stages = 4,
                                 .c = {0.0, 0.5, 0.5, 1.0},
                                 .a = {{0}, {0.5}, {0.0, 0.5}, {0.0, 0.0, 1.0}},
                                 .b = {1.0 / 6, 1.0 / 3, 1.0 / 3, 1.0 / 6}};
static const pipe_tableau *const tableaus[] = {&euler,  &pipe_rk_midpoint, &pipe_rk_heun,
                                               &kutta3, &ralston3,         &rk4};

static const pipe_param params[] = {
    PIPE_CHOICE(state, method, "rk4", methods,
                "of order 1, 2, 2, 3, 3 and 4; each order takes one evaluation of the denoiser per step"),
    PIPE_ODE_VARIABLE_PARAM(state), PIPE_PARAM_END};

static pipe_status begin(void *self, pipe_sampling *s, pipe_error *err)
{
    state *st = self;

    return pipe_ode_resolve(s, st->variable, &st->resolved, err);
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;
    const pipe_schedule_point from = pipe_grid_point(s, s->i), to = pipe_grid_point(s, s->i + 1);

    s->x = pipe_runge_kutta(s, s->x, &from, &to, tableaus[st->method], st->resolved);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.rk",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "explicit Runge-Kutta methods up to the fourth order",
    .citation = "arXiv:2204.13902",
    .example = "solver: {plugin: sampler.rk, method: rk4, steps: 10}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.begin = begin, .step = step, .order = 4, .calls_per_step = 4, .early_begin = true},
};
