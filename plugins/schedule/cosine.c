/* The cosine schedule: Nichol and Dhariwal 2021, arXiv:2102.09672, equation 17:
 * abar(t) = c(t) / c(0), c(t) = cos^2(pi/2 (t + s) / (1 + s)), in discrete steps
 * whose beta is capped, so that alpha stays above 0 at the last one. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    pipe_vp_state vp; /* first */
    double offset;
} state;

static const pipe_param params[] = {
    PIPE_VP_STATE_TIMESTEPS,
    PIPE_FLOAT(
        state, offset, 0.008, 0.0, 0.5, NULL,
        "s of the paper; higher makes the first steps noisier (a tiny beta near the data is hard to learn)"),
    PIPE_VP_STATE_BETA_MAX, PIPE_VP_STATE_ZERO_TERMINAL_SNR, PIPE_PARAM_END};

static double bar(const void *self, double t)
{
    const double s = ((const state *)self)->offset;
    const double c = cos(0.5 * 3.14159265358979323846 * (t + s) / (1.0 + s));
    return c * c;
}

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    (void)ctx;
    return pipe_vp_state_from_bar(self, bar, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SCHEDULE),
    .name = "schedule.cosine",
    .version = "1.1.0",
    .licence = "MIT",
    .summary = "variance preserving, alpha follows a cosine",
    .citation = "arXiv:2102.09672",
    .example = "noise: {plugin: schedule.cosine, timesteps: 1000}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .destroy = pipe_vp_state_destroy,
    .schedule = PIPE_VP_STATE_SCHEDULE,
};
