/* abar(t) = exp(-k t), in discrete steps: every step adds the same share of noise.
 * diffusers' alpha_transform_type `exp` (with k = 12). */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    pipe_vp_table table; /* first: see PIPE_VP_STATE_SCHEDULE */
    int64_t timesteps;
    double rate, beta_max;
    bool zero_terminal_snr;
} state;

static const pipe_param params[] = {
    PIPE_INT(state, timesteps, 1000, 2, 100000, "steps",
             "training steps; more makes neighbouring noise levels closer"),
    PIPE_FLOAT(state, rate, 12.0, 0.1, 1000.0, NULL,
               "-ln alpha^2 at the end; higher ends nearer to pure noise and passes detail faster"),
    PIPE_FLOAT(state, beta_max, 0.999, 0.01, 0.999999, NULL, "cap of beta; higher ends nearer to pure noise"),
    PIPE_BOOL(
        state, zero_terminal_snr, false,
        "rescale so that the last step is pure noise (arXiv:2305.08891); models must predict v, x0 or flow"),
    PIPE_PARAM_END};

static double bar(const void *self, double t)
{
    return exp(-((const state *)self)->rate * t);
}

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;

    (void)ctx;
    PIPE_TRY(pipe_vp_table_from_bar(&st->table, bar, st, st->timesteps, st->beta_max, err));
    return st->zero_terminal_snr ? pipe_vp_table_zero_snr(&st->table, err) : PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SCHEDULE),
    .name = "schedule.exponential",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "variance preserving, alpha falls exponentially",
    .citation = "arXiv:2006.11239",
    .example = "noise: {plugin: schedule.exponential, timesteps: 1000}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .destroy = pipe_vp_state_destroy,
    .schedule = PIPE_VP_STATE_SCHEDULE,
};
