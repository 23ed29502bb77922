/* The schedule of latent diffusion and Stable Diffusion: sqrt(beta) is linear in the
 * step (Rombach et al. 2022, arXiv:2112.10752; its code calls it "linear"). */
#include <pipe/pipe.h>

#include <math.h>

static const pipe_param params[] = {PIPE_VP_STATE_TIMESTEPS, PIPE_VP_STATE_BETAS(0.00085, 0.012),
                                    PIPE_VP_STATE_ZERO_TERMINAL_SNR, PIPE_PARAM_END};

/* (sqrt(beta) - sqrt(start)) / (sqrt(end) - sqrt(start)) = r, solved for beta's share of the way */
static double rise(const void *self, double r)
{
    const pipe_vp_state *st = self;
    const double start = sqrt(st->beta_start), end = sqrt(st->beta_end);

    return r * (2.0 * start + (end - start) * r) / (end + start);
}

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    (void)ctx;
    return pipe_vp_state_from_rise(self, rise, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SCHEDULE),
    .name = "schedule.scaled-linear",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "variance preserving, sqrt(beta) linear in the step (Stable Diffusion)",
    .citation = "arXiv:2112.10752",
    .example = "noise: {plugin: schedule.scaled-linear, timesteps: 1000, zero_terminal_snr: true}",
    .params = params,
    .state_size = sizeof(pipe_vp_state),
    .create = create,
    .destroy = pipe_vp_state_destroy,
    .schedule = PIPE_VP_STATE_SCHEDULE,
};
