/* DPM-Solver, multistep: Lu et al. 2022, arXiv:2206.00927 (the multistep form: their
 * repository), on eps. */
#include <pipe/pipe.h>

typedef struct {
    pipe_multistep solver; /* first: see PIPE_MULTISTEP_STATE */
    int64_t order, weights, compat;
} state;

static const char *const weights[] = {"exact", "midpoint", NULL}; /* pipe_solver_slope */

static const char *const compats[] = {"exact", "released", NULL}; /* pipe_solver_curve */

static const pipe_param params[] = {
    PIPE_INT(state, order, 2, 1, 3, "values",
             "combined by a step; more follow a smooth path better and a rough one worse"),
    PIPE_CHOICE(
        state, weights, "midpoint", weights,
        "of the slope through two values: its exact integral, or midpoint, which the paper and released "
        "code use; both are of second order"),
    PIPE_CHOICE(state, compat, "exact", compats,
                "weight of the curvature through three values: exact (third order), or released: half of it, "
                "the second-order one of the released code"),
    PIPE_MULTISTEP_ETA(0.0),
    PIPE_MULTISTEP_NOISE,
    PIPE_MULTISTEP_LOWER_ORDER_FINAL,
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;

    (void)ctx;
    (void)err;
    st->solver.form = PIPE_SOLVER_NOISE;
    st->solver.path = true;
    st->solver.predictor = st->order;
    st->solver.slope = st->weights;
    st->solver.curve = st->compat;
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.dpm-solver",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "DPM-Solver on eps, order 1 to 3, multistep",
    .citation = "arXiv:2206.00927",
    .example = "solver: {plugin: sampler.dpm-solver, steps: 20, order: 3}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .sampler = {PIPE_MULTISTEP_STATE, .order = 2},
};
