/* abar(t) = exp(-k t), in discrete steps: every step adds the same share of noise.
 * diffusers' alpha_transform_type `exp` (with k = 12). */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    pipe_vp_state vp; /* first */
    double rate;
} state;

static const pipe_param params[] = {
    PIPE_VP_STATE_TIMESTEPS,
    PIPE_FLOAT(state, rate, 12.0, 0.1, 1000.0, NULL,
               "-ln alpha^2 at the end; higher ends nearer to pure noise and passes detail faster"),
    PIPE_VP_STATE_BETA_MAX, PIPE_VP_STATE_ZERO_TERMINAL_SNR, PIPE_PARAM_END};

static double bar(const void *self, double t)
{
    return exp(-((const state *)self)->rate * t);
}

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    (void)ctx;
    return pipe_vp_state_from_bar(self, bar, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SCHEDULE),
    .name = "schedule.exponential",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "variance preserving, alpha falls exponentially",
    .example = "noise: {plugin: schedule.exponential, timesteps: 1000}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .destroy = pipe_vp_state_destroy,
    .schedule = PIPE_VP_STATE_SCHEDULE,
};
