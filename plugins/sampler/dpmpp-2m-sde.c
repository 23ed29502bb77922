/* SDE-DPM-Solver++(2M): Lu et al. 2022, arXiv:2211.01095, appendix; the solver of
 * the reverse SDE (k-diffusion's sample_dpmpp_2m_sde). */
#include <pipe/pipe.h>

static const pipe_param params[] = {PIPE_MULTISTEP_WEIGHTS("midpoint"), PIPE_MULTISTEP_ETA(1.0),
                                    PIPE_MULTISTEP_NOISE, PIPE_MULTISTEP_LOWER_ORDER_FINAL, PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    pipe_multistep *m = self;

    (void)ctx;
    (void)err;
    m->form = PIPE_SOLVER_DATA;
    m->path = true;
    m->predictor = 2;
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.dpmpp-2m-sde",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "DPM-Solver++ for the reverse SDE, two values, multistep",
    .citation = "arXiv:2211.01095",
    .example = "solver: {plugin: sampler.dpmpp-2m-sde, steps: 30}",
    .params = params,
    .state_size = sizeof(pipe_multistep),
    .create = create,
    .sampler = {PIPE_MULTISTEP_STATE, .order = 0, .stochastic = true},
};
