/* Predictor-corrector sampling: Song et al. 2021, arXiv:2011.13456, algorithms 1, 4 and
 * 5: at each noise level some steps of Langevin dynamics, which bring the samples nearer
 * to the level's distribution, then a step of the reverse SDE to the next.  The length of
 * a Langevin step is that of the paper, from the norms of noise and score, per sample;
 * its factor 1 - beta of VP schedules, near 1, is left out. */
#include <pipe/pipe.h>
#include <pipe/sde.h>

#include <math.h>

typedef struct {
    int64_t corrector, variable;
    double snr;
} state;

static const pipe_param params[] = {
    PIPE_INT(state, corrector, 1, 0, 16, "steps",
             "of Langevin dynamics at each noise level, an evaluation of the denoiser each; 0: none"),
    PIPE_FLOAT(state, snr, 0.15, 1e-4, 10.0, NULL,
               "length of a Langevin step, by the signal-to-noise ratio that it aims at; higher mixes faster "
               "and leaves more noise"),
    PIPE_CHOICE(state, variable, "ratio", pipe_sde_variables,
                "what the predictor's steps are taken in: ratio (the square of sigma / alpha: the paper's "
                "reverse diffusion of VE) or time (Euler-Maruyama)"),
    PIPE_PARAM_END};

static pipe_status begin(void *self, pipe_sampling *s, pipe_error *err)
{
    (void)self;
    return pipe_sde_check(s, err);
}

/* |v| of each sample: [n] */
static pipe_tensor *norms(pipe_tensor *v)
{
    pipe_tensor *rows = pipe_reshape(v, PIPE_SHAPE(pipe_dim(v, 0), -1));

    return pipe_sqrt(pipe_sum(pipe_square(rows), (const int[]){1}, 1, false));
}

/* x + k score + sqrt(2 k) z, k = 2 (snr |z| / |score|)^2; with score = -eps / sigma and
 * r = |z| / |eps|: sqrt(2 k) = 2 snr sigma r. */
static pipe_tensor *langevin(pipe_sampling *s, pipe_tensor *x, double snr, uint32_t draw)
{
    const double sigma = s->sigma[s->i];
    pipe_tensor *eps = pipe_predict_eps(s, x), *z = pipe_sampling_noise(s, draw);
    pipe_tensor *r = pipe_per_sample(pipe_div(norms(z), norms(eps)), x);
    pipe_tensor *move = pipe_axpby(2.0 * snr * sigma, z, -2.0 * snr * snr * sigma, pipe_mul(r, eps));

    return pipe_add(x, pipe_mul(r, move));
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;
    const pipe_schedule_point from = pipe_grid_point(s, s->i), to = pipe_grid_point(s, s->i + 1);
    pipe_tensor *x = s->x;
    double deviation;

    for (int64_t k = 0; k < st->corrector; k++)
        x = langevin(s, x, st->snr, (uint32_t)k);
    x = pipe_step_reverse_sde(s, x, &from, &to, 1.0, st->variable, &deviation);
    s->x = pipe_step_add_noise(s, x, deviation, (uint32_t)st->corrector);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.pc",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "predictor-corrector: steps of the reverse SDE and Langevin dynamics, stochastic",
    .citation = "arXiv:2011.13456",
    .example = "solver: {plugin: sampler.pc, steps: 500, grid: log-snr, snr: 0.15}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.begin = begin,
                .step = step,
                .order = 0,
                .calls_per_step = 2,
                .stochastic = true,
                .early_begin = true},
};
