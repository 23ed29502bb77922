/* The linear schedule of DDPM: Ho et al. 2020, arXiv:2006.11239, section 4. */
#include <pipe/pipe.h>

typedef struct {
    pipe_vp_table table; /* first: see PIPE_VP_STATE_SCHEDULE */
    int64_t timesteps;
    double beta_start, beta_end;
    bool zero_terminal_snr;
} state;

static const pipe_param params[] = {
    PIPE_INT(state, timesteps, 1000, 2, 100000, "steps",
             "training steps; more makes neighbouring noise levels closer"),
    PIPE_FLOAT(state, beta_start, 0.0001, 1e-9, 0.999, NULL,
               "noise added by the first step; higher hides fine detail earlier"),
    PIPE_FLOAT(state, beta_end, 0.02, 1e-9, 0.999, NULL,
               "noise added by the last step; higher ends nearer to pure noise"),
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
        const double r = (double)i / (double)(st->timesteps - 1);
        beta[i] = st->beta_start + (st->beta_end - st->beta_start) * r;
    }
    PIPE_TRY(pipe_vp_table_from_betas(&st->table, beta, st->timesteps, err));
    return st->zero_terminal_snr ? pipe_vp_table_zero_snr(&st->table, err) : PIPE_OK;
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
    .state_size = sizeof(state),
    .create = create,
    .destroy = pipe_vp_state_destroy,
    .schedule = PIPE_VP_STATE_SCHEDULE,
};
