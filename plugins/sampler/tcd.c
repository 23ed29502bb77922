/* Strategic stochastic sampling of trajectory consistency models: Zheng et al. 2024,
 * arXiv:2402.19159, algorithm 4.  Each step goes along the trajectory to
 * (1 - gamma) of the next time and noises the samples up to it. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    double gamma;
} state;

static const pipe_param params[] = {
    PIPE_FLOAT(state, gamma, 0.3, 0.0, 1.0, NULL,
               "share of a step that is fresh noise: 0 none (deterministic), 1 consistency sampling"),
    PIPE_PARAM_END};

/* The level that the trajectory is followed to. */
static pipe_schedule_point landing(const state *st, const pipe_sampling *s, const pipe_schedule_info *info)
{
    const double n = (double)info->discrete, next = s->t[s->i + 1];

    if (info->discrete == 0)
        return pipe_schedule_at(s->schedule, info->t_min + (1.0 - st->gamma) * (next - info->t_min));
    /* as the paper's code: the training step at (1 - gamma) of the next one's index, rounded down */
    const double index = floor((1.0 - st->gamma) * fmax(0.0, next * n - 1.0) + 1e-9);
    return pipe_schedule_at(s->schedule, (index + 1.0) / n);
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;
    const bool last = s->i + 1 == s->steps;
    const pipe_schedule_point from = pipe_grid_point(s, s->i), to = pipe_grid_point(s, s->i + 1);
    pipe_tensor *x0 = pipe_predict_x0(s, s->x);
    pipe_schedule_info info;
    pipe_schedule_point at;
    double shrink;

    PIPE_TRY(pipe_schedule_describe(s->schedule, &info, err));
    at = last || st->gamma == 0.0 ? to : landing(st, s, &info);
    shrink = to.alpha / at.alpha;
    s->x = pipe_step_add_noise(s, pipe_scale(pipe_step_to(s->x, x0, &from, &at), shrink),
                               sqrt(fmax(0.0, to.sigma * to.sigma - shrink * shrink * at.sigma * at.sigma)),
                               0);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.tcd",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "sampling of trajectory consistency models, stochastic",
    .citation = "arXiv:2402.19159",
    .example = "solver: {plugin: sampler.tcd, steps: 4, gamma: 0.3}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.step = step, .order = 0, .calls_per_step = 1, .stochastic = true},
};
