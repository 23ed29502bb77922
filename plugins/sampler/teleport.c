/* Gaussian teleportation (Wang and Vastola 2024, arXiv:2412.09726): at high noise a
 * trained denoiser is almost that of a Gaussian with the data's mean and covariance,
 * whose probability flow is known.  It takes the samples from the first grid point to
 * a later one in closed form; another sampler goes on from there, with no history. */
#include <pipe/gaussian.h>
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    pipe_sampler *sampler;
    pipe_denoiser *gaussian;
    int64_t skip;
    double ratio;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, sampler, PIPE_KIND_SAMPLER,
               "that goes on from there; its steps, grid and other options count"),
    PIPE_INPUT(state, gaussian, PIPE_KIND_DENOISER,
               "of the data that the model was trained on: denoiser.gaussian"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_INT(state, skip, 0, 0, 100000, "steps",
             "left out at the noisy end; more is faster and closer to the Gaussian; all of them: only the "
             "Gaussian is sampled; 0: `ratio` decides, or none is"),
    PIPE_FLOAT(state, ratio, 0.0, 0.0, 1e6, NULL,
               "sigma / alpha to go to, in place of `skip`: the grid point nearest to it, by its quotient; "
               "lower is faster and closer to the Gaussian; 0: `skip` decides"),
    PIPE_PARAM_END,
};

static const pipe_rule rules[] = {{.name = "skip", .excludes = "ratio"}, PIPE_RULE_END};

static pipe_sampler *inner(void *self)
{
    return ((state *)self)->sampler;
}

/* The grid point whose lambda = -ln ratio is nearest; outside the grid's range by more than rounding is
 * refused. */
static pipe_status nearest(const pipe_sampling *s, double ratio, size_t *k, pipe_error *err)
{
    const double lambda = -log(ratio), slack = 1e-3; /* printed ratios are rounded */
    size_t last = s->steps;

    if (isinf(s->lambda[last])) /* sigma 0: never nearest */
        last--;
    if (lambda < s->lambda[0] - slack || lambda > s->lambda[last] + slack)
        return pipe_fail(err, PIPE_EINVAL,
                         "`ratio` %g is outside the grid, whose sigma / alpha falls from %g to %g", ratio,
                         exp(-s->lambda[0]), exp(-s->lambda[last]));
    *k = 0;
    for (size_t i = 1; i <= last; i++)
        if (fabs(s->lambda[i] - lambda) < fabs(s->lambda[*k] - lambda))
            *k = i;
    return PIPE_OK;
}

static pipe_status teleport(const state *st, pipe_sampling *s, size_t k, pipe_error *err)
{
    const pipe_schedule_point from = pipe_grid_point(s, 0);

    PIPE_TRY(pipe_sampling_skip(s, k, err));
    const pipe_schedule_point to = pipe_grid_point(s, 0);
    s->x = pipe_gaussian_flow(st->gaussian, s->x, &from, &to, s->condition);
    return pipe_check(s->x, err);
}

static pipe_status begin(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;
    size_t k = (size_t)st->skip;

    if (st->ratio > 0.0)
        PIPE_TRY(nearest(s, st->ratio, &k, err));
    if (k > 0)
        PIPE_TRY(teleport(st, s, k, err));
    return s->steps > 0 ? pipe_sampler_begin(st->sampler, s, err) : PIPE_OK;
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    return pipe_sampler_step(inner(self), s, err);
}

static void end(void *self)
{
    pipe_sampler_end(inner(self));
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.teleport",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "the first steps of another sampler in closed form, by the Gaussian of the data",
    .help =
        "Steps, grid and all options that samplers share are set on the sampler inside. The Gaussian must be "
        "fitted to the data that the model was trained on, in the same scale (step fit.gaussian).",
    .citation = "arXiv:2412.09726",
    .example = "solver: {plugin: sampler.teleport, sampler: heun, gaussian: gauss, skip: 4}",
    .params = params,
    .inputs = inputs,
    .rules = rules,
    .state_size = sizeof(state),
    .sampler = {.begin = begin, .step = step, .end = end, .inner = inner},
};
