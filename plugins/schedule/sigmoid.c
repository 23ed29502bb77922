/* Beta follows a sigmoid in the step, from -6 to 6: GeoDiff (Xu et al. 2022,
 * arXiv:2203.02923), as diffusers' beta_schedule `sigmoid`.  The schedule whose alpha^2
 * is a sigmoid is schedule.sigmoid-continuous. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    pipe_vp_table table; /* first: see PIPE_VP_STATE_SCHEDULE */
    int64_t timesteps;
    double beta_start, beta_end, steepness;
    bool zero_terminal_snr;
} state;

static const pipe_param params[] = {
    PIPE_INT(state, timesteps, 1000, 2, 100000, "steps",
             "training steps; more makes neighbouring noise levels closer"),
    PIPE_FLOAT(state, beta_start, 0.0001, 1e-9, 0.999, NULL,
               "noise added by the first step; higher hides fine detail earlier"),
    PIPE_FLOAT(state, beta_end, 0.02, 1e-9, 0.999, NULL,
               "noise added by the last step; higher ends nearer to pure noise"),
    PIPE_FLOAT(state, steepness, 6.0, 0.01, 100.0, NULL,
               "the sigmoid runs from minus this to this; higher moves the change of beta into the middle"),
    PIPE_BOOL(
        state, zero_terminal_snr, false,
        "rescale so that the last step is pure noise (arXiv:2305.08891); models must predict v, x0 or flow"),
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;
    PIPE_CLEANUP(pipe_free_ptr) double *beta = pipe_alloc_array((size_t)st->timesteps, sizeof *beta);

    (void)ctx;
    for (int64_t i = 0; i < st->timesteps; i++) {
        const double z = st->steepness * (2.0 * (double)i / (double)(st->timesteps - 1) - 1.0);
        beta[i] = st->beta_start + (st->beta_end - st->beta_start) / (1.0 + exp(-z));
    }
    PIPE_TRY(pipe_vp_table_from_betas(&st->table, beta, st->timesteps, err));
    return st->zero_terminal_snr ? pipe_vp_table_zero_snr(&st->table, err) : PIPE_OK;
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
