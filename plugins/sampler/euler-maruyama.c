/* Euler-Maruyama on the reverse SDE (Song et al. 2021, arXiv:2011.13456, equation 6, and
 * for other eta than 1 the family with the same marginals), under any schedule. */
#include <pipe/pipe.h>
#include <pipe/sde.h>

enum { EXACT, RELEASED };

typedef struct {
    double eta, noise;
    int64_t variable, compat;
} state;

static const char *const compats[] = {"exact", "released", NULL};

static const pipe_param params[] = {
    PIPE_FLOAT(state, eta, 1.0, 0.0, 1e3, NULL,
               "fresh noise: 0 none (Euler's method on the probability-flow ODE), 1 that of the reverse SDE"),
    PIPE_FLOAT(state, noise, 1.0, 0.0, 2.0, NULL,
               "factor of the fresh noise; slightly above 1 makes up for detail that a network smooths away"),
    PIPE_CHOICE(
        state, variable, "time", pipe_sde_variables,
        "what a step is taken in: time, or ratio (the square of sigma / alpha, in which the last step "
        "gives the predicted clean data)"),
    PIPE_CHOICE(state, compat, "exact", compats,
                "exact goes from grid point to grid point; released goes 1 / steps down in time wherever the "
                "next grid point is, as diffusers"),
    PIPE_PARAM_END};

/* released steps in time */
static const pipe_rule rules[] = {{.name = "compat", .excludes = "variable"}, PIPE_RULE_END};

static pipe_status begin(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;

    if (st->compat == RELEASED && s->steps > 0 && s->t[1] > s->t[0])
        return pipe_fail(err, PIPE_EINVAL,
                         "`compat: released`: an inversion goes from grid point to grid point");
    return pipe_sde_check(s, err);
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;
    const pipe_schedule_point from = pipe_grid_point(s, s->i);
    pipe_schedule_point to = pipe_grid_point(s, s->i + 1);
    double deviation;

    if (st->compat == RELEASED)
        to.t = from.t - 1.0 / (double)s->steps;
    pipe_tensor *x = pipe_step_reverse_sde(s, s->x, &from, &to, st->eta, st->variable, &deviation);
    s->x = pipe_step_add_noise(s, x, st->noise * deviation, 0);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.euler-maruyama",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "Euler-Maruyama on the reverse SDE, stochastic",
    .citation = "arXiv:2011.13456",
    .example = "solver: {plugin: sampler.euler-maruyama, steps: 500}",
    .params = params,
    .rules = rules,
    .state_size = sizeof(state),
    .sampler = {.begin = begin,
                .step = step,
                .order = 0,
                .calls_per_step = 1,
                .stochastic = true,
                .early_begin = true},
};
