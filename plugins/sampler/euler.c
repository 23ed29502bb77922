/* Euler's method on the probability-flow ODE in rho = sigma / alpha,
 * d(x / alpha) / d rho = eps, with the churn of Karras et al. 2022
 * (arXiv:2206.00364, algorithm 2): noise is raised to rho_hat before the step.
 * On a flow schedule this is the Euler step along the velocity. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    double churn, churn_min, churn_max, churn_noise;
} state;

static const pipe_param params[] = {
    PIPE_FLOAT(
        state, churn, 0.0, 0.0, 1000.0, NULL,
        "noise added and removed again over the whole path; higher corrects more errors and is more random"),
    PIPE_FLOAT(state, churn_min, 0.0, 0.0, 1e6, NULL, "smallest sigma / alpha at which noise is added"),
    PIPE_FLOAT(state, churn_max, 1e6, 0.0, 1e6, NULL, "largest sigma / alpha at which noise is added"),
    PIPE_FLOAT(state, churn_noise, 1.0, 0.5, 2.0, NULL,
               "standard deviation of the added noise; slightly above 1 makes up for detail that a network "
               "smooths away"),
    PIPE_PARAM_END};

/* alpha and sigma of the point with ratio rho on the same schedule */
static pipe_schedule_point point_of(pipe_sampling *s, double rho)
{
    return pipe_schedule_at(s->schedule, pipe_schedule_time_of(s->schedule, -log(rho)));
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;
    const size_t i = s->i, j = i + 1;
    const double rho = s->sigma[i] / s->alpha[i];
    pipe_schedule_point here = {.t = s->t[i], .alpha = s->alpha[i], .sigma = s->sigma[i]};
    pipe_tensor *x = s->x, *x0;

    if (st->churn > 0.0 && rho >= st->churn_min && rho <= st->churn_max) {
        const double gamma = fmin(st->churn / (double)s->steps, sqrt(2.0) - 1.0);
        here = point_of(s, rho * (1.0 + gamma));
        const double raised = here.sigma / here.alpha; /* less than asked for at the schedule's end */
        const double added = st->churn_noise * sqrt(fmax(0.0, raised * raised - rho * rho));
        x = pipe_axpby(here.alpha / s->alpha[i], x, here.alpha * added, pipe_sampling_noise(s, 0));
    }
    /* x0 + rho_j eps, in units of x and without a division by alpha_i, which may be 0 */
    x0 = pipe_predict_at(s, x, here.t, PIPE_PREDICT_X0);
    s->x = pipe_axpby(s->sigma[j] / here.sigma, x, s->alpha[j] - s->sigma[j] * here.alpha / here.sigma, x0);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.euler",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "Euler's method on the probability-flow ODE, with optional churn",
    .citation = "arXiv:2206.00364",
    .example = "solver: {plugin: sampler.euler, steps: 50, grid: karras}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.step = step, .order = 1, .calls_per_step = 1},
};
