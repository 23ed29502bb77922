/* Multistep consistency sampling: Song et al. 2023, arXiv:2303.01469, algorithm 1:
 * predict clean data, noise them again, to the next point.  The data that a
 * consistency model predicts have noise epsilon, so less is added.  With epsilon 0 on
 * schedule.trigflow this is the sampler of sCM (Lu and Song 2024, arXiv:2410.11081). */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    double epsilon, noise;
} state;

static const pipe_param params[] = {
    PIPE_FLOAT(state, epsilon, 0.002, 0.0, 1.0, NULL,
               "sigma / alpha of what the model predicts: the smallest that it was trained at"),
    PIPE_FLOAT(state, noise, 1.0, 0.0, 2.0, NULL, "factor of the noise that is added again"), PIPE_PARAM_END};

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;
    const size_t j = s->i + 1;
    const double epsilon = st->epsilon * s->alpha[j];
    const double added = sqrt(fmax(0.0, s->sigma[j] * s->sigma[j] - epsilon * epsilon));

    s->x = pipe_step_add_noise(s, pipe_scale(pipe_predict_x0(s, s->x), s->alpha[j]), st->noise * added, 0);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.consistency",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "multistep consistency sampling, stochastic",
    .citation = "arXiv:2303.01469",
    .example = "solver: {plugin: sampler.consistency, steps: 2}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.step = step, .order = 0, .calls_per_step = 1, .stochastic = true},
};
