/* DPM-Solver, multistep: Lu et al. 2022, arXiv:2206.00927 (the multistep form: their
 * repository), on eps. */
#include <pipe/pipe.h>

typedef struct {
    pipe_multistep solver; /* first: see PIPE_MULTISTEP_STATE */
    int64_t order;
} state;

static const pipe_param params[] = {
    PIPE_INT(state, order, 2, 1, 3, "values",
             "combined by a step; more follow a smooth path better and a rough one worse"),
    PIPE_MULTISTEP_WEIGHTS("midpoint"),
    PIPE_MULTISTEP_COMPAT,
    PIPE_MULTISTEP_ETA(0.0),
    PIPE_MULTISTEP_NOISE,
    PIPE_MULTISTEP_LOWER_ORDER_FINAL,
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    pipe_multistep *m = self;

    (void)ctx;
    (void)err;
    m->form = PIPE_SOLVER_NOISE;
    m->path = true;
    m->predictor = ((state *)self)->order;
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
