/* DPM-Solver++(2M): Lu et al. 2022, arXiv:2211.01095, algorithm 2,
 * with their lambda = log(alpha / sigma), half the log-SNR. */
#include <pipe/pipe.h>

static const pipe_param params[] = {PIPE_MULTISTEP_WEIGHTS("midpoint"), PIPE_MULTISTEP_LOWER_ORDER_FINAL,
                                    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    pipe_multistep *m = self;

    (void)ctx;
    (void)err;
    m->form = PIPE_SOLVER_DATA;
    m->predictor = 2;
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.dpmpp-2m",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "DPM-Solver++, second order, multistep",
    .citation = "arXiv:2211.01095",
    .example = "solver: {plugin: sampler.dpmpp-2m, steps: 20}",
    .params = params,
    .state_size = sizeof(pipe_multistep),
    .create = create,
    .sampler = {PIPE_MULTISTEP_STATE, .order = 2},
};
