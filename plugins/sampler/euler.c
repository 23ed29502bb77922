/* Euler's method on the probability-flow ODE in rho = sigma / alpha,
 * d(x / alpha) / d rho = eps, with the churn of Karras et al. 2022
 * (arXiv:2206.00364, algorithm 2): noise is raised to rho_hat before the step.
 * On a flow schedule this is the Euler step along the velocity. */
#include <pipe/pipe.h>

enum { EXACT, RELEASED };

typedef struct {
    pipe_churn churn;
    int64_t compat;
} state;

static const char *const compats[] = {"exact", "released", NULL};

static const pipe_param params[] = {
    PIPE_CHURN_PARAMS(state),
    PIPE_CHOICE(
        state, compat, "exact", compats,
        "with churn, exact predicts from the samples with the added noise, as the paper; released from "
        "those without, as diffusers"),
    PIPE_PARAM_END};

/* diffusers' order: the network has seen s->x, its output is read as that of the
 * raised x at the raised level (v: of x at the level that it has seen). */
static pipe_tensor *released_x0(pipe_sampling *s, pipe_tensor *raised, const pipe_schedule_point *level)
{
    pipe_denoiser_info info;
    pipe_error err = PIPE_ERROR_INIT;

    if (pipe_denoiser_describe(s->denoiser, &info, &err) != PIPE_OK)
        return pipe_poison(s->engine, err.status, "%s", err.message);
    const double t = info.predicts == PIPE_PREDICT_V ? s->t[s->i] : level->t;
    const pipe_level at = pipe_level_uniform(s->schedule, s->engine, s->n, t);
    return pipe_convert_prediction(pipe_predict_at(s, s->x, s->t[s->i], info.predicts), info.predicts,
                                   PIPE_PREDICT_X0, pipe_scale(raised, at.point.alpha / level->alpha), &at,
                                   info.sigma_data);
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;
    const pipe_schedule_point to = pipe_grid_point(s, s->i + 1);
    pipe_schedule_point from;
    pipe_tensor *x = pipe_step_churn(s, &st->churn, &from), *x0;

    if (st->compat == RELEASED && x != s->x)
        x0 = released_x0(s, x, &from);
    else
        x0 = pipe_predict_at(s, x, from.t, PIPE_PREDICT_X0);
    s->x = pipe_step_to(x, x0, &from, &to);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.euler",
    .version = "1.1.0",
    .licence = "MIT",
    .summary = "Euler's method on the probability-flow ODE, with optional churn",
    .citation = "arXiv:2206.00364",
    .example = "solver: {plugin: sampler.euler, steps: 50, grid: karras}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.step = step, .order = 1, .calls_per_step = 1},
};
