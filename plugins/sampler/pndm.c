/* PNDM: Liu et al. 2022, arXiv:2202.09778: Adams-Bashforth of four values of eps with
 * the weights of even grids, then the step of DDIM.  The first values come from three
 * steps of Runge-Kutta (the paper's, four evaluations each), or from one of Heun's and
 * lower orders (PLMS, two evaluations once). */
#include <pipe/pipe.h>

enum { PLMS, RUNGE_KUTTA, RUNGE_KUTTA_STEPS = 3 };

typedef struct {
    pipe_multistep solver; /* first: see PIPE_MULTISTEP_STATE */
    int64_t warm_up;
} state;

static const char *const warm_ups[] = {"plms", "runge-kutta", NULL};

static const pipe_param params[] = {
    PIPE_CHOICE(state, warm_up, "plms", warm_ups,
                "how the first values are had: plms (one evaluation more in all), or runge-kutta (nine more, "
                "more exact)"),
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;

    (void)ctx;
    (void)err;
    st->solver.form = PIPE_SOLVER_RHO;
    st->solver.predictor = 4;
    st->solver.fixed = pipe_adams_bashforth;
    return PIPE_OK;
}

/* s->x moved along eps from grid point s->i to time t: DDIM's step. */
static pipe_tensor *moved(const pipe_sampling *s, pipe_tensor *eps, double t)
{
    const pipe_schedule_point to = pipe_schedule_at(s->schedule, t);
    const double scale = to.alpha / s->alpha[s->i];

    return pipe_axpby(scale, s->x, to.sigma - scale * s->sigma[s->i], eps);
}

static pipe_tensor *eps_after(pipe_sampling *s, pipe_tensor *eps, double t)
{
    return pipe_predict_at(s, moved(s, eps, t), t, PIPE_PREDICT_EPS);
}

/* The mean slope of the step from s->i, and in *first the one at its start. */
static pipe_tensor *mean_slope(const state *st, pipe_sampling *s, pipe_tensor **first)
{
    const double end = s->t[s->i + 1], middle = 0.5 * (s->t[s->i] + end);
    pipe_tensor *k1 = pipe_predict_eps(s, s->x), *k2, *k3, *k4;

    *first = k1;
    if (st->warm_up == PLMS)
        return pipe_axpby(0.5, k1, 0.5, eps_after(s, k1, end));
    k2 = eps_after(s, k1, middle);
    k3 = eps_after(s, k2, middle);
    k4 = eps_after(s, k3, end);
    return pipe_linear((const double[]){1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0},
                       (pipe_tensor *const[]){k1, k2, k3, k4}, 4);
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    state *st = self;
    pipe_tensor *first;

    /* eps is not determined at either end of the path: no stage is taken there */
    if (s->i >= (st->warm_up == PLMS ? 1 : RUNGE_KUTTA_STEPS) || !(s->alpha[s->i] > 0.0) ||
        !(s->sigma[s->i + 1] > 0.0))
        return pipe_multistep_step(&st->solver, s, err);
    s->x = moved(s, mean_slope(st, s, &first), s->t[s->i + 1]);
    pipe_multistep_remember(&st->solver, first, s->i);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.pndm",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "pseudo linear multistep: fixed weights on eps, then DDIM's step, with a warm-up",
    .citation = "arXiv:2202.09778",
    .example = "solver: {plugin: sampler.pndm, steps: 50}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .sampler = {.begin = pipe_multistep_state_begin,
                .step = step,
                .end = pipe_multistep_state_end,
                .order = 2,
                .calls_per_step = 1},
};
