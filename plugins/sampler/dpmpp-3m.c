/* DPM-Solver++(3M): Lu et al. 2022, arXiv:2211.01095, with the exact weight of the
 * curvature, which makes it third order. */
#include <pipe/pipe.h>

typedef struct {
    pipe_multistep solver; /* first: see PIPE_MULTISTEP_STATE */
    int64_t weights, compat;
} state;

static const char *const compats[] = {"exact", "released", NULL}; /* pipe_solver_curve */

static const char *const weights[] = {"exact", "midpoint", NULL}; /* pipe_solver_slope */

static const pipe_param params[] = {
    PIPE_CHOICE(state, weights, "exact", weights,
                "of the slope, in the first and last steps that combine two values: its exact integral, or "
                "midpoint, as "
                "diffusers does"),
    PIPE_CHOICE(state, compat, "exact", compats,
                "weight of the curvature through three values: exact (third order), or released: half of it, "
                "the second-order one of the released code"),
    PIPE_MULTISTEP_LOWER_ORDER_FINAL, PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;

    (void)ctx;
    (void)err;
    st->solver.form = PIPE_SOLVER_DATA;
    st->solver.predictor = 3;
    st->solver.slope = st->weights;
    st->solver.curve = st->compat;
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.dpmpp-3m",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "DPM-Solver++, third order, multistep",
    .citation = "arXiv:2211.01095",
    .example = "solver: {plugin: sampler.dpmpp-3m, steps: 20}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .sampler = {PIPE_MULTISTEP_STATE, .order = 3},
};
