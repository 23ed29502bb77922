/* DPM-Solver++(2S), Lu et al. 2022, arXiv:2211.01095, to less noise than the next
 * point has, and fresh noise up to it (k-diffusion's sample_dpmpp_2s_ancestral). */
#include <pipe/pipe.h>

typedef struct {
    double eta, noise;
} state;

static const pipe_param params[] = {
    PIPE_FLOAT(state, eta, 1.0, 0.0, 1.0, NULL,
               "fresh noise per step: 0 none (DPM-Solver++(2S)), 1 as much as DDPM"),
    PIPE_FLOAT(state, noise, 1.0, 0.0, 2.0, NULL,
               "factor of the fresh noise; slightly above 1 makes up for detail that a network smooths away"),
    PIPE_PARAM_END};

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;
    const pipe_schedule_point from = pipe_grid_point(s, s->i), to = pipe_grid_point(s, s->i + 1);
    pipe_schedule_point kept;
    const double fresh = pipe_step_split(&from, &to, st->eta, PIPE_SPLIT_VARIANCE, &kept);

    s->x = pipe_step_add_noise(s, pipe_step_half_way(s, &from, &kept), st->noise * fresh, 0);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.dpmpp-2s-ancestral",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "DPM-Solver++(2S) steps with fresh noise, stochastic",
    .citation = "arXiv:2211.01095",
    .example = "solver: {plugin: sampler.dpmpp-2s-ancestral, steps: 25}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.step = step, .order = 0, .calls_per_step = 2, .stochastic = true},
};
