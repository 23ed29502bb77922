/* DDIM: Song et al. 2020, arXiv:2010.02502, equation 12, in terms of
 * rho = sigma / alpha: the next point has noise rho_j, of which q is fresh. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    double eta;
    int64_t stride;
} state;

static const pipe_param params[] = {
    PIPE_FLOAT(state, eta, 0.0, 0.0, 1.0, NULL,
               "fresh noise per step: 0 none (deterministic), 1 as much as DDPM"),
    PIPE_INT(state, stride, 0, 0, 1000000, "training steps",
             "that every step goes down wherever the next grid point is: diffusers' T // N, which misses the "
             "points of its linspace grid; 0: to the next grid point"),
    PIPE_PARAM_END};

static pipe_status begin(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;
    pipe_schedule_info info;

    PIPE_TRY(pipe_schedule_describe(s->schedule, &info, err));
    if (st->stride > 0 && info.discrete == 0)
        return pipe_fail(
            err, PIPE_EINVAL,
            "stride %lld: the schedule is continuous, without training steps to count; leave it 0",
            (long long)st->stride);
    if (st->stride > 0 && s->steps > 0 && s->t[1] > s->t[0])
        return pipe_fail(err, PIPE_EINVAL,
                         "stride %lld: an inversion goes from grid point to grid point; leave it 0",
                         (long long)st->stride);
    return PIPE_OK;
}

/* Where the step ends: with a stride in the table, or below it where the grid ends. */
static pipe_status target(const state *st, const pipe_sampling *s, pipe_schedule_point *to, pipe_error *err)
{
    pipe_schedule_info info;

    PIPE_TRY(pipe_schedule_describe(s->schedule, &info, err));
    *to = pipe_grid_point(s, s->i + 1);
    if (st->stride == 0)
        return PIPE_OK;
    const double index = round(s->t[s->i] * (double)info.discrete) - 1.0 - (double)st->stride;
    *to = index < 0.0 ? pipe_grid_point(s, s->steps)
                      : pipe_schedule_at(s->schedule, (index + 1.0) / (double)info.discrete);
    return PIPE_OK;
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;
    const size_t i = s->i;
    pipe_schedule_point to;

    PIPE_TRY(target(st, s, &to, err));
    /* sigma_j sqrt(1 - (rho_j / rho_i)^2): the fresh part, in units of x; finite where alpha_i = 0 */
    const double ratio = to.sigma * s->alpha[i] / (to.alpha * s->sigma[i]);
    const double fresh = st->eta * to.sigma * sqrt(fmax(0.0, 1.0 - ratio * ratio));
    const double kept = sqrt(fmax(0.0, to.sigma * to.sigma - fresh * fresh));
    pipe_tensor *x0 = pipe_predict_x0(s, s->x), *x = pipe_scale(x0, to.alpha);

    if (kept > 0.0) /* eps from x and x0: one evaluation */
        x = pipe_add(x, pipe_axpby(kept / s->sigma[i], s->x, -kept * s->alpha[i] / s->sigma[i], x0));
    if (fresh > 0.0)
        x = pipe_axpby(1.0, x, fresh, pipe_sampling_noise(s, 0));
    s->x = x;
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.ddim",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "DDIM: first order, deterministic at eta 0",
    .citation = "arXiv:2010.02502",
    .example = "solver: {plugin: sampler.ddim, steps: 50, eta: 0.0}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.begin = begin, .step = step, .order = 1, .calls_per_step = 1, .early_begin = true},
};
