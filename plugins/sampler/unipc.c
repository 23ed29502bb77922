/* UniPC: Zhao et al. 2023, arXiv:2302.04867.  The predictor combines `order` values;
 * the value at the end of a step, which the next step needs anyway, corrects it. */
#include <pipe/pipe.h>

typedef struct {
    pipe_multistep solver; /* first: see PIPE_MULTISTEP_STATE */
    int64_t order, predict;
    bool corrector;
} state;

static const char *const weights[] = {"exact", "bh2", "bh1", NULL}; /* pipe_solver_slope */
static const char *const predictions[] = {"x0", "eps", NULL}; /* pipe_solver_form */

static const pipe_param params[] = {
    PIPE_INT(state, order, 2, 1, PIPE_SOLVER_VALUES - 1, "values",
             "combined by the predictor; more follow a smooth path better and a rough one worse"),
    PIPE_CHOICE(
        pipe_multistep, weights, "bh2", weights,
        "where two values are combined, of their slope: its exact integral, or half of the paper's B(h), "
        "which is e^h - 1 (bh2) or h (bh1: for few steps without guidance)"),
    PIPE_CHOICE(state, predict, "x0", predictions, "what is interpolated; x0 is steadier under guidance"),
    PIPE_BOOL(state, corrector, true,
              "correct each step with the value at its end: one order higher at no cost"),
    PIPE_MULTISTEP_LOWER_ORDER_FINAL,
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;

    (void)ctx;
    (void)err;
    st->solver.form = st->predict;
    st->solver.predictor = st->order;
    st->solver.corrector = st->corrector ? st->order + 1 : 0;
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.unipc",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "UniPC, predictor and corrector of any order, multistep",
    .citation = "arXiv:2302.04867",
    .example = "solver: {plugin: sampler.unipc, steps: 10, order: 3}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .sampler = {PIPE_MULTISTEP_STATE, .order = 3},
};
