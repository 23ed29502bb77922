/* Dormand and Prince 1980 (J. Comput. Appl. Math. 6, 19-26), order 5 with an error estimate
 * of order 4, on the probability-flow ODE: the adaptive reference solver of Song et al.
 * 2021 (arXiv:2011.13456, appendix D.4), here with steps per sample.  d(x / alpha) / d rho =
 * eps, rho = sigma / alpha, or in time dx / dt = velocity. */
#include <pipe/adaptive.h>
#include <pipe/pipe.h>

#include <math.h>

enum { STAGES = 7 }; /* the last one, at the end of a step, is the first of the next */

typedef struct {
    pipe_adaptive adaptive;
    double first;
    int64_t variable, resolved;
} state;

static const pipe_param params[] = {
    PIPE_ADAPTIVE_PARAMS(1e-4, 1e-4),
    PIPE_FLOAT(state, first, 0.1, 1e-6, 1.0, NULL,
               "first step that is tried, as a share of the whole way; too large costs rejected steps, too "
               "small short ones"),
    PIPE_ODE_VARIABLE_PARAM(state), PIPE_PARAM_END};

static const double node[STAGES] = {0.0, 1.0 / 5, 3.0 / 10, 4.0 / 5, 8.0 / 9, 1.0, 1.0};
static const double inner[STAGES][STAGES] = {
    {0},
    {1.0 / 5},
    {3.0 / 40, 9.0 / 40},
    {44.0 / 45, -56.0 / 15, 32.0 / 9},
    {19372.0 / 6561, -25360.0 / 2187, 64448.0 / 6561, -212.0 / 729},
    {9017.0 / 3168, -355.0 / 33, 46732.0 / 5247, 49.0 / 176, -5103.0 / 18656},
    {35.0 / 384, 0.0, 500.0 / 1113, 125.0 / 192, -2187.0 / 6784, 11.0 / 84}, /* the result */
};
static const double difference[STAGES] = {/* of the result of order 5 from that of order 4 */
                                          71.0 / 57600,      0.0,        -71.0 / 16695, 71.0 / 1920,
                                          -17253.0 / 339200, 22.0 / 525, -1.0 / 40};

static pipe_status begin(void *self, pipe_sampling *s, pipe_error *err)
{
    state *st = self;

    st->adaptive.order = 5.0;
    st->adaptive.safety = 0.9;
    PIPE_TRY(pipe_ode_resolve(s, st->variable, &st->resolved, err));
    return pipe_adaptive_begin(&st->adaptive, s, err);
}

/* dy at `share` of the step, sample by sample. */
static pipe_tensor *slope(const state *st, pipe_sampling *s, const pipe_attempt *a, double share,
                          pipe_tensor *y)
{
    const size_t n = (size_t)s->n;
    const bool in_rho = st->resolved == PIPE_ODE_RHO;
    PIPE_CLEANUP(pipe_free_ptr) double *t = pipe_alloc_array(n, 2 * sizeof *t);
    double *alpha = t + n;

    for (size_t k = 0; k < n; k++) {
        const double at = a->from[k] + share * (a->to[k] - a->from[k]);
        const pipe_schedule_point p = in_rho ? pipe_level_of_ratio(s, at) : pipe_schedule_at(s->schedule, at);
        t[k] = p.t;
        alpha[k] = p.alpha;
    }
    return in_rho ? pipe_predict_rows(s, pipe_mul(pipe_rows(s, alpha), y), t, PIPE_PREDICT_EPS)
                  : pipe_predict_rows(s, y, t, PIPE_PREDICT_FLOW);
}

static void attempt(void *self, pipe_sampling *s, pipe_attempt *a)
{
    const state *st = self;
    const size_t n = (size_t)s->n;
    PIPE_CLEANUP(pipe_free_ptr) double *step = pipe_alloc_array(n, sizeof *step);
    pipe_tensor *k[STAGES], *y = a->x;

    for (size_t i = 0; i < n; i++)
        step[i] = a->to[i] - a->from[i];
    pipe_tensor *h = pipe_rows(s, step);
    if (!a->carry)
        a->carry = slope(st, s, a, 0.0, y);
    k[0] = a->carry;
    for (size_t i = 1; i < STAGES; i++) {
        y = pipe_add(a->x, pipe_mul(h, pipe_linear(inner[i], k, i)));
        k[i] = slope(st, s, a, node[i], y);
    }
    a->next = a->low = y;
    a->next_carry = k[STAGES - 1];
    a->error = pipe_mul(h, pipe_linear(difference, k, STAGES));
}

static double position(const state *st, const pipe_schedule_point *p)
{
    return st->resolved == PIPE_ODE_RHO ? pipe_level_ratio(p) : p->t;
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    state *st = self;
    const pipe_schedule_point from = pipe_grid_point(s, s->i), to = pipe_grid_point(s, s->i + 1);
    const bool in_rho = st->resolved == PIPE_ODE_RHO;
    const double start = position(st, &from), end = position(st, &to);

    if (!(to.sigma > 0.0)) {
        s->x = pipe_step_to(s->x, pipe_predict_x0(s, s->x), &from, &to);
        return pipe_check(s->x, err);
    }
    s->x = pipe_scale(s->x, in_rho ? 1.0 / from.alpha : 1.0);
    PIPE_TRY(
        pipe_adaptive_run(&st->adaptive, s, start, end, st->first * fabs(end - start), attempt, st, err));
    s->x = pipe_scale(s->x, in_rho ? to.alpha : 1.0);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.dopri5",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "Dormand and Prince's adaptive method of order 5 on the probability-flow ODE",
    .help =
        "Goes from the first point of the grid to its last one above noise 0 in steps of its own, at most "
        "`steps` of them; those between do not count.",
    .citation = "arXiv:2011.13456",
    .example = "solver: {plugin: sampler.dopri5, steps: 200, grid: log-snr, rtol: 1e-5, atol: 1e-5}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.begin = begin,
                .step = step,
                .end = pipe_adaptive_end,
                .order = 5,
                .calls_per_step = 6,
                .early_begin = true},
};
