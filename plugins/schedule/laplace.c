/* The log-SNR is spread as a Laplace distribution, most steps at SNR 1: Hang and Gu 2024,
 * arXiv:2407.03297, as diffusers' beta_schedule `laplace`:
 *
 *     abar(t) = sqrt(S / (1 + S)),  ln S = -b sign(1/2 - t) ln(1 - 2 |1/2 - t| + 1e-6) */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    pipe_vp_state vp; /* first */
    double scale;
} state;

static const pipe_param params[] = {
    PIPE_VP_STATE_TIMESTEPS,
    PIPE_FLOAT(state, scale, 0.5, 0.01, 10.0, NULL,
               "b, the scale of the distribution; higher spreads the steps over more noise levels"),
    PIPE_VP_STATE_BETA_MAX, PIPE_VP_STATE_ZERO_TERMINAL_SNR, PIPE_PARAM_END};

static double bar(const void *self, double t)
{
    const double b = ((const state *)self)->scale;
    const double log_snr = -b * copysign(1.0, 0.5 - t) * log(1.0 - 2.0 * fabs(0.5 - t) + 1e-6);

    return 1.0 / sqrt(1.0 + exp(-log_snr));
}

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    (void)ctx;
    return pipe_vp_state_from_bar(self, bar, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SCHEDULE),
    .name = "schedule.laplace",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "variance preserving, log-SNR spread as a Laplace distribution",
    .citation = "arXiv:2407.03297",
    .example = "noise: {plugin: schedule.laplace, timesteps: 1000}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .destroy = pipe_vp_state_destroy,
    .schedule = PIPE_VP_STATE_SCHEDULE,
};
