/* Beta follows a sigmoid in the step, from -6 to 6: GeoDiff (Xu et al. 2022,
 * arXiv:2203.02923), as diffusers' beta_schedule `sigmoid`.  The schedule whose alpha^2
 * is a sigmoid is schedule.sigmoid-continuous. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    pipe_vp_state vp; /* first */
    double steepness;
} state;

static const pipe_param params[] = {
    PIPE_VP_STATE_TIMESTEPS, PIPE_VP_STATE_BETAS(0.0001, 0.02),
    PIPE_FLOAT(state, steepness, 6.0, 0.01, 100.0, NULL,
               "the sigmoid runs from minus this to this; higher moves the change of beta into the middle"),
    PIPE_VP_STATE_ZERO_TERMINAL_SNR, PIPE_PARAM_END};

static double rise(const void *self, double r)
{
    return 1.0 / (1.0 + exp(-((const state *)self)->steepness * (2.0 * r - 1.0)));
}

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    (void)ctx;
    return pipe_vp_state_from_rise(self, rise, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SCHEDULE),
    .name = "schedule.sigmoid",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "variance preserving, beta a sigmoid of the step",
    .citation = "arXiv:2203.02923",
    .example = "noise: {plugin: schedule.sigmoid, timesteps: 1000}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .destroy = pipe_vp_state_destroy,
    .schedule = PIPE_VP_STATE_SCHEDULE,
};
