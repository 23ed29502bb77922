/* SDE-DPM-Solver++(3M): Lu et al. 2022, arXiv:2211.01095; the third-order form of
 * k-diffusion and diffusers, which differ from it and from each other. */
#include <pipe/pipe.h>

static const char *const compats[] = {"exact", "k-diffusion", "released", NULL}; /* pipe_solver_curve */

static const pipe_param params[] = {
    PIPE_MULTISTEP_WEIGHTS("exact"),
    PIPE_CHOICE(pipe_multistep, compat, "exact", compats,
                "weight of the curvature through three values: exact, k-diffusion (half of it), or released: "
                "diffusers', which has the wrong sign"),
    PIPE_MULTISTEP_ETA(1.0),
    PIPE_MULTISTEP_NOISE,
    PIPE_MULTISTEP_LOWER_ORDER_FINAL,
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    pipe_multistep *m = self;

    (void)ctx;
    (void)err;
    m->form = PIPE_SOLVER_DATA;
    m->path = true;
    m->predictor = 3;
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.dpmpp-3m-sde",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "DPM-Solver++ for the reverse SDE, three values, multistep",
    .citation = "arXiv:2211.01095",
    .example = "solver: {plugin: sampler.dpmpp-3m-sde, steps: 30}",
    .params = params,
    .state_size = sizeof(pipe_multistep),
    .create = create,
    .sampler = {PIPE_MULTISTEP_STATE, .order = 0, .stochastic = true},
};
