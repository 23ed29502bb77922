/* The cosine schedule: Nichol and Dhariwal 2021, arXiv:2102.09672, equation 17:
 * abar(t) = c(t) / c(0), c(t) = cos^2(pi/2 (t + s) / (1 + s)), in discrete steps
 * whose beta is capped, so that alpha stays above 0 at the last one. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    pipe_vp_table table; /* first: see PIPE_VP_STATE_SCHEDULE */
    int64_t timesteps;
    double offset, beta_max;
} state;

static const pipe_param params[] = {
    PIPE_INT(state, timesteps, 1000, 2, 100000, "steps",
             "training steps; more makes neighbouring noise levels closer"),
    PIPE_FLOAT(
        state, offset, 0.008, 0.0, 0.5, NULL,
        "s of the paper; higher makes the first steps noisier (a tiny beta near the data is hard to learn)"),
    PIPE_FLOAT(state, beta_max, 0.999, 0.01, 0.999999, NULL, "cap of beta; higher ends nearer to pure noise"),
    PIPE_PARAM_END};

static double cos2(const state *st, double t)
{
    const double c = cos(0.5 * 3.14159265358979323846 * (t + st->offset) / (1.0 + st->offset));
    return c * c;
}

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;
    PIPE_CLEANUP(pipe_free_ptr) double *beta = pipe_alloc_array((size_t)st->timesteps, sizeof *beta);

    (void)ctx;
    for (int64_t i = 0; i < st->timesteps; i++) {
        const double n = (double)st->timesteps;
        beta[i] = fmin(st->beta_max, 1.0 - cos2(st, (double)(i + 1) / n) / cos2(st, (double)i / n));
    }
    return pipe_vp_table_from_betas(&st->table, beta, st->timesteps, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SCHEDULE),
    .name = "schedule.cosine",
    .version = "1.0.0",
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
