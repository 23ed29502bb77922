/* The linear schedule of DDPM: Ho et al. 2020, arXiv:2006.11239, section 4. */
#include <pipe/pipe.h>

static const pipe_param params[] = {PIPE_VP_STATE_TIMESTEPS, PIPE_VP_STATE_BETAS(0.0001, 0.02),
                                    PIPE_VP_STATE_ZERO_TERMINAL_SNR, PIPE_PARAM_END};

static double rise(const void *self, double r)
{
    (void)self;
    return r;
}

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    (void)ctx;
    return pipe_vp_state_from_rise(self, rise, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SCHEDULE),
    .name = "schedule.linear",
    .version = "1.1.0",
    .licence = "MIT",
    .summary = "variance preserving, beta linear in the step (DDPM)",
    .citation = "arXiv:2006.11239",
    .example = "noise: {plugin: schedule.linear, timesteps: 1000}",
    .params = params,
    .state_size = sizeof(pipe_vp_state),
    .create = create,
    .destroy = pipe_vp_state_destroy,
    .schedule = PIPE_VP_STATE_SCHEDULE,
};
