/* Ancestral sampling in rho = sigma / alpha: an Euler step to less noise than the
 * next point has, and fresh noise up to it (k-diffusion's sample_euler_ancestral;
 * for every eta the step of DDIM, Song et al. 2020, arXiv:2010.02502, equation 12).
 * The rectified-flow variant (ComfyUI, LTX) divides the step in the flow's time. */
#include <pipe/pipe.h>

typedef struct {
    double eta, noise;
    int64_t split;
} state;

static const char *const splits[] = {"variance", "time", NULL};

static const pipe_param params[] = {
    PIPE_FLOAT(state, eta, 1.0, 0.0, 1.0, NULL,
               "fresh noise per step: 0 none (Euler's method), 1 as much as DDPM"),
    PIPE_CHOICE(state, split, "variance", splits,
                "how the end of a step divides into old and fresh noise: by variance (DDIM, k-diffusion), or "
                "by the time of a flow (ancestral rectified flow)"),
    PIPE_FLOAT(state, noise, 1.0, 0.0, 2.0, NULL,
               "factor of the fresh noise; slightly above 1 makes up for detail that a network smooths away"),
    PIPE_PARAM_END};

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;
    const pipe_schedule_point from = pipe_grid_point(s, s->i), to = pipe_grid_point(s, s->i + 1);
    pipe_schedule_point kept;
    const double fresh = pipe_step_split(&from, &to, st->eta, (pipe_split)st->split, &kept);
    pipe_tensor *x = pipe_step_to(s->x, pipe_predict_x0(s, s->x), &from, &kept);

    s->x = pipe_step_add_noise(s, x, st->noise * fresh, 0);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.euler-ancestral",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "Euler steps with fresh noise, stochastic",
    .citation = "arXiv:2010.02502",
    .example = "solver: {plugin: sampler.euler-ancestral, steps: 50}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.step = step, .order = 0, .calls_per_step = 1, .stochastic = true},
};
