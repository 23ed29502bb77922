/* SA-Solver: Xue et al. 2023, arXiv:2309.05019: stochastic Adams, predictor and
 * corrector.  tau^2 is the share of the reverse SDE; a step and its correction add
 * the same noise. */
#include <pipe/pipe.h>

typedef struct {
    pipe_multistep solver; /* first: see PIPE_MULTISTEP_STATE */
    int64_t predictor, corrector, predict, compat;
    double tau, tau_from, tau_to;
} state;

static const char *const predictions[] = {"x0", "eps", NULL}; /* pipe_solver_form */
static const char *const compats[] = {"exact", "released", NULL};

static const pipe_param params[] = {
    PIPE_INT(state, predictor, 2, 1, 4, "values",
             "that the predictor combines; more follow a smooth path better and a rough one worse"),
    PIPE_INT(state, corrector, 2, 0, 4, "values",
             "that the corrector combines, the one at the step's end included; 0: no correction"),
    PIPE_CHOICE(state, predict, "x0", predictions, "what is interpolated; x0 is steadier under guidance"),
    PIPE_FLOAT(
        state, tau, 1.0, 0.0, 10.0, NULL,
        "fresh noise: 0 none, 1 that of the reverse SDE; higher forgets early errors and needs more steps"),
    PIPE_FLOAT(state, tau_from, 0.2, 0.0, 1e6, NULL, "smallest time of the schedule at which noise is added"),
    PIPE_FLOAT(state, tau_to, 0.8, 0.0, 1e6, NULL, "largest time of the schedule at which noise is added"),
    PIPE_CHOICE(state, compat, "exact", compats,
                "weight of the slope through two values of x0: its exact integral, or released: (1 + tau^2) "
                "h / 2, as "
                "in the released code"),
    PIPE_MULTISTEP_LOWER_ORDER_FINAL,
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;

    (void)ctx;
    (void)err;
    st->solver.form = st->predict;
    st->solver.predictor = st->predictor;
    st->solver.corrector = st->corrector;
    st->solver.noise = 1.0;
    /* released code changes the weight in the data form only */
    if (st->compat && st->predict == PIPE_SOLVER_DATA)
        st->solver.weights = PIPE_SOLVER_SLOPE_LINEAR;
    return PIPE_OK;
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    state *st = self;
    const double t = s->t[s->i];

    st->solver.eta = t >= st->tau_from && t <= st->tau_to ? st->tau * st->tau : 0.0;
    return pipe_multistep_step(&st->solver, s, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.sa-solver",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "SA-Solver, stochastic Adams predictor and corrector",
    .citation = "arXiv:2309.05019",
    .example = "solver: {plugin: sampler.sa-solver, steps: 20}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .sampler = {.begin = pipe_multistep_state_begin,
                .step = step,
                .end = pipe_multistep_state_end,
                .order = 0,
                .calls_per_step = 1,
                .stochastic = true},
};
