/* @NAME@: one step of first order from grid point i to i + 1, with as much fresh
 * noise as `eta` asks for.  Replace step() by your method; <pipe/sampler.h> says
 * what it is given. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    double eta;
} state;

/* Default, range and help of a parameter stand here and nowhere else. */
static const pipe_param params[] = {
    PIPE_FLOAT(state, eta, 0.0, 0.0, 1.0, NULL,
               "fresh noise per step: 0 none (deterministic), 1 as much as was removed"),
    PIPE_PARAM_END
};

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;
    const size_t i = s->i, j = i + 1;
    /* the part of the noise at j that is fresh; finite where alpha[i] is 0 */
    const double ratio = s->sigma[j] * s->alpha[i] / (s->alpha[j] * s->sigma[i]);
    const double fresh = st->eta * s->sigma[j] * sqrt(fmax(0.0, 1.0 - ratio * ratio));
    const double kept = sqrt(fmax(0.0, s->sigma[j] * s->sigma[j] - fresh * fresh));

    pipe_tensor *x0 = pipe_predict_x0(s, s->x);
    pipe_tensor *x = pipe_scale(x0, s->alpha[j]);
    if (kept > 0.0)     /* eps = (x - alpha x0) / sigma */
        x = pipe_add(x, pipe_axpby(kept / s->sigma[i], s->x, -kept * s->alpha[i] / s->sigma[i], x0));
    if (fresh > 0.0)
        x = pipe_axpby(1.0, x, fresh, pipe_sampling_noise(s, 0));
    s->x = x;
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "@NAME@",
    .version = "0.1.0",
    .summary = "one line about it",
    .help = "What it does, when to use it.",
    .citation = NULL,
    .licence = NULL,
    .example = "solver: {plugin: @NAME@, steps: 50, eta: 0.0}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.step = step, .order = 1, .calls_per_step = 1},
};
