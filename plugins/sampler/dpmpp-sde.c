/* DPM-Solver++ (SDE): k-diffusion's sample_dpmpp_sde, a stochastic step to `ratio` of
 * the way in lambda, whose prediction corrects the whole one; the data form of Lu et
 * al. 2022, arXiv:2211.01095, and fresh noise as in ancestral sampling.  The noise of
 * both is one Brownian path, the same for any number of steps. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    double eta, noise, ratio;
} state;

static const pipe_param params[] = {
    PIPE_FLOAT(state, eta, 1.0, 0.0, 1.0, NULL,
               "fresh noise per step: 0 none (DPM-Solver++(2S)), 1 as much as DDPM"),
    PIPE_FLOAT(state, noise, 1.0, 0.0, 2.0, NULL,
               "factor of the fresh noise; slightly above 1 makes up for detail that a network smooths away"),
    PIPE_FLOAT(state, ratio, 0.5, 0.05, 1.0, NULL,
               "where in a step, in lambda, the second prediction is made; 1: at its end"),
    PIPE_PARAM_END};

/* A stochastic step with x0 as it is; the increment of the path is draw number `draw`. */
static pipe_tensor *leap(pipe_sampling *s, const state *st, pipe_tensor *x0, const pipe_schedule_point *from,
                         const pipe_schedule_point *to, uint32_t draw)
{
    pipe_schedule_point kept;
    const double fresh = st->noise * pipe_step_split(from, to, st->eta, PIPE_SPLIT_VARIANCE, &kept);
    pipe_tensor *x = pipe_step_to(s->x, x0, from, &kept);

    if (!(fresh > 0.0))
        return x;
    return pipe_axpby(1.0, x, fresh,
                      pipe_sampling_brownian(s, draw, pipe_level_ratio(from), pipe_level_ratio(to), -2.0));
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;
    const pipe_schedule_point from = pipe_grid_point(s, s->i), to = pipe_grid_point(s, s->i + 1);
    pipe_tensor *x0 = pipe_predict_x0(s, s->x);

    if (to.sigma > 0.0 && from.alpha > 0.0) {
        const double high = pipe_level_ratio(&from), low = pipe_level_ratio(&to);
        const pipe_schedule_point inner = pipe_level_of_ratio(s, high * pow(low / high, st->ratio));
        pipe_tensor *second = pipe_predict_at(s, leap(s, st, x0, &from, &inner, 0), inner.t, PIPE_PREDICT_X0);
        x0 = pipe_axpby(1.0 - 0.5 / st->ratio, x0, 0.5 / st->ratio, second);
    }
    s->x = leap(s, st, x0, &from, &to, 1);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.dpmpp-sde",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "DPM-Solver++ for the reverse SDE, single step, on a Brownian path",
    .citation = "arXiv:2211.01095",
    .example = "solver: {plugin: sampler.dpmpp-sde, steps: 25, grid: karras}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.step = step, .order = 0, .calls_per_step = 2, .stochastic = true},
};
