/* Linear multistep: Adams-Bashforth on d(x / alpha) / d rho = eps, rho = sigma / alpha,
 * with the exact integrals of the Lagrange polynomials on uneven grids (Katherine
 * Crowson's k-diffusion, sample_lms). */
#include <pipe/pipe.h>

typedef struct {
    pipe_multistep solver; /* first: see PIPE_MULTISTEP_STATE */
    int64_t order;
} state;

static const pipe_param params[] = {
    PIPE_INT(state, order, 4, 1, 4, "values",
             "combined by a step; more follow a smooth path better and a rough one worse"),
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;

    (void)ctx;
    (void)err;
    st->solver.form = PIPE_SOLVER_RHO;
    st->solver.predictor = st->order;
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.lms",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "linear multistep in sigma / alpha, order 1 to 4",
    .citation = "https://github.com/crowsonkb/k-diffusion",
    .example = "solver: {plugin: sampler.lms, steps: 30, grid: karras}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .sampler = {PIPE_MULTISTEP_STATE, .order = 4},
};
