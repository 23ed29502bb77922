/* DPM2 with fresh noise: a step by the slope at the geometric mean of both ratios
 * sigma / alpha to less noise than the next point has, and noise up to it
 * (k-diffusion's sample_dpm_2_ancestral). */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    double eta, noise;
} state;

static const pipe_param params[] = {
    PIPE_FLOAT(state, eta, 1.0, 0.0, 1.0, NULL, "fresh noise per step: 0 none (DPM2), 1 as much as DDPM"),
    PIPE_FLOAT(state, noise, 1.0, 0.0, 2.0, NULL,
               "factor of the fresh noise; slightly above 1 makes up for detail that a network smooths away"),
    PIPE_PARAM_END};

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;
    const pipe_schedule_point from = pipe_grid_point(s, s->i), to = pipe_grid_point(s, s->i + 1);
    pipe_schedule_point kept;
    const double fresh = pipe_step_split(&from, &to, st->eta, PIPE_SPLIT_VARIANCE, &kept);
    pipe_tensor *x;

    if (from.alpha > 0.0) {
        const double way = 1.0 / (1.0 + sqrt(pipe_level_ratio(&kept) / pipe_level_ratio(&from)));
        const pipe_tableau method = {.stages = 2, .c = {0.0, way}, .a = {{0}, {way}}, .b = {0.0, 1.0}};
        x = pipe_runge_kutta(s, s->x, &from, &kept, &method, PIPE_ODE_RHO);
    } else { /* no mean with an infinite ratio: Euler's method */
        x = pipe_step_to(s->x, pipe_predict_x0(s, s->x), &from, &kept);
    }
    s->x = pipe_step_add_noise(s, x, st->noise * fresh, 0);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.dpm2-ancestral",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "DPM2 steps with fresh noise, stochastic",
    .citation = "arXiv:2206.00364",
    .example = "solver: {plugin: sampler.dpm2-ancestral, steps: 25}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.step = step, .order = 0, .calls_per_step = 2, .stochastic = true},
};
