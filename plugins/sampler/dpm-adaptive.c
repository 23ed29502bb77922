/* DPM-Solver-12 and -23, adaptive: Lu et al. 2022, arXiv:2206.00927, appendix C, with the
 * controller and the noise of k-diffusion's sample_dpm_adaptive, and steps per sample.
 * Everything is in y = x / alpha and lambda = -ln rho, rho = sigma / alpha. */
#include <pipe/adaptive.h>
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    pipe_adaptive adaptive;
    int64_t order;
    double first, eta, noise;
} state;

static const pipe_param params[] = {
    PIPE_INT(state, order, 3, 2, 3, NULL,
             "of the steps, which is also their number of evaluations; the error is the difference from one "
             "order lower"),
    PIPE_ADAPTIVE_PARAMS(0.05, 0.0078),
    PIPE_FLOAT(
        pipe_adaptive, accept, 0.81, 0.25, 1.0, NULL,
        "smallest factor of the next step with which a step is accepted; higher rejects more and keeps "
        "closer to the tolerance"),
    PIPE_FLOAT(state, first, 0.05, 1e-4, 10.0, NULL,
               "first step that is tried, in lambda = ln(alpha / sigma)"),
    PIPE_FLOAT(state, eta, 0.0, 0.0, 1.0, NULL,
               "fresh noise per step: 0 none (deterministic), 1 as much as DDPM"),
    PIPE_FLOAT(state, noise, 1.0, 0.0, 2.0, NULL,
               "factor of the fresh noise; slightly above 1 makes up for detail that a network smooths away"),
    PIPE_PARAM_END};

static pipe_status begin(void *self, pipe_sampling *s, pipe_error *err)
{
    state *st = self;

    if (!(s->alpha[0] > 0.0))
        return pipe_fail(
            err, PIPE_EDOMAIN,
            "the schedule starts at alpha = 0, where lambda is infinite; start lower (`ratio_max`)");
    st->adaptive.order = st->eta > 0.0 ? 1.5 : (double)st->order;
    st->adaptive.safety = 1.0;
    return pipe_adaptive_begin(&st->adaptive, s, err);
}

/* ---- one attempt; coefficients per sample ---- */
typedef struct {
    pipe_sampling *s;
    const pipe_attempt *a;
    double *h, *c; /* [n] steps of the deterministic part; one coefficient */
} trial;

/* eps of y at `share` of the steps. */
static pipe_tensor *eps(const trial *r, double share, pipe_tensor *y)
{
    const size_t n = (size_t)r->s->n;
    PIPE_CLEANUP(pipe_free_ptr) double *t = pipe_alloc_array(n, sizeof *t);

    for (size_t k = 0; k < n; k++) {
        const pipe_schedule_point p = pipe_level_of_ratio(r->s, exp(-r->a->from[k] - share * r->h[k]));
        t[k] = p.t;
        r->c[k] = p.alpha;
    }
    return pipe_predict_rows(r->s, pipe_mul(pipe_rows(r->s, r->c), y), t, PIPE_PREDICT_EPS);
}

/* rho (e^(share h) - 1), rho that at `share` of the step: the weight of -eps. */
static pipe_tensor *constant_part(const trial *r, double share)
{
    for (size_t k = 0; k < (size_t)r->s->n; k++)
        r->c[k] = exp(-r->a->from[k] - share * r->h[k]) * expm1(share * r->h[k]);
    return pipe_rows(r->s, r->c);
}

/* rho ((e^(share h) - 1) / (share h) - 1): the weight of -(eps at r - eps) share / r. */
static pipe_tensor *linear_part(const trial *r, double share)
{
    for (size_t k = 0; k < (size_t)r->s->n; k++) {
        const double h = share * r->h[k];
        r->c[k] = h != 0.0 ? exp(-r->a->from[k] - h) * (expm1(h) / h - 1.0) : 0.0;
    }
    return pipe_rows(r->s, r->c);
}

/* Steps of the deterministic part; returns how much noise to add in r->c, false: none. */
static bool split(const state *st, const trial *r)
{
    const double end = r->s->lambda[r->s->i + 1];
    bool any = false;

    for (size_t k = 0; k < (size_t)r->s->n; k++) {
        const pipe_schedule_point from = {.alpha = 1.0, .sigma = exp(-r->a->from[k])};
        const pipe_schedule_point to = {.alpha = 1.0, .sigma = exp(-r->a->to[k])};
        pipe_schedule_point kept;
        double down = r->a->to[k];
        if (st->eta > 0.0 && r->a->from[k] != r->a->to[k]) {
            pipe_step_split(&from, &to, st->eta, PIPE_SPLIT_VARIANCE, &kept);
            down = fmin(end, -log(kept.sigma)); /* as k-diffusion: not beyond the end, for less noise */
        }
        r->h[k] = down - r->a->from[k];
        r->c[k] = down > r->a->to[k] ? st->noise * sqrt(to.sigma * to.sigma - exp(-2.0 * down)) : 0.0;
        any = any || r->c[k] > 0.0;
    }
    return any;
}

static void attempt(void *self, pipe_sampling *s, pipe_attempt *a)
{
    const state *st = self;
    const size_t n = (size_t)s->n;
    PIPE_CLEANUP(pipe_free_ptr) double *numbers = pipe_alloc_array(n, 2 * sizeof *numbers);
    const trial r = {.s = s, .a = a, .h = numbers, .c = numbers + n};
    const double inner = st->order == 2 ? 0.5 : 1.0 / 3.0, outer = 2.0 / 3.0;
    pipe_tensor *noise = split(st, &r) ? pipe_mul(pipe_rows(s, r.c), pipe_sampling_noise_of(s, a->number, 0))
                                       : NULL;
    pipe_tensor *whole = constant_part(&r, 1.0), *y = a->x, *e = eps(&r, 0.0, y);
    pipe_tensor *first = pipe_sub(y, pipe_mul(whole, e));
    pipe_tensor *change = pipe_sub(eps(&r, inner, pipe_sub(y, pipe_mul(constant_part(&r, inner), e))), e);
    pipe_tensor *bend = pipe_mul(whole, pipe_scale(change, 0.5 / inner));

    /* the error is the difference of two results, without the cancellation of their common part */
    if (st->order == 2) {
        a->low = first;
        a->next = pipe_sub(first, bend);
        a->error = bend;
    } else {
        pipe_tensor *at = pipe_sub(pipe_sub(y, pipe_mul(constant_part(&r, outer), e)),
                                   pipe_mul(linear_part(&r, outer), pipe_scale(change, outer / inner)));
        pipe_tensor *last = pipe_mul(linear_part(&r, 1.0),
                                     pipe_scale(pipe_sub(eps(&r, outer, at), e), 1.0 / outer));
        a->low = pipe_sub(first, bend);
        a->next = pipe_sub(first, last);
        a->error = pipe_sub(last, bend);
    }
    if (noise)
        a->next = pipe_add(a->next, noise);
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    state *st = self;
    const pipe_schedule_point from = pipe_grid_point(s, s->i), to = pipe_grid_point(s, s->i + 1);

    if (!(to.sigma > 0.0)) {
        s->x = pipe_step_to(s->x, pipe_predict_x0(s, s->x), &from, &to);
        return pipe_check(s->x, err);
    }
    s->x = pipe_scale(s->x, 1.0 / from.alpha);
    PIPE_TRY(pipe_adaptive_run(&st->adaptive, s, s->lambda[s->i], s->lambda[s->i + 1], st->first, attempt, st,
                               err));
    s->x = pipe_scale(s->x, to.alpha);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.dpm-adaptive",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "DPM-Solver-12 and -23 with adaptive steps",
    .help =
        "Goes from the first point of the grid to its last one above noise 0 in steps of its own, at most "
        "`steps` of them; those between do not count.",
    .citation = "arXiv:2206.00927",
    .example = "solver: {plugin: sampler.dpm-adaptive, steps: 100, grid: karras, rtol: 0.05}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.begin = begin,
                .step = step,
                .end = pipe_adaptive_end,
                .order = 3,
                .calls_per_step = 3,
                .early_begin = true},
};
