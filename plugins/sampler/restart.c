/* Restart sampling: Xu et al. 2023, arXiv:2306.14878, algorithm 2.  Heun's method on the
 * probability-flow ODE; behind the end of an interval of noise levels, noise up to its
 * beginning is added and the ODE solved down again, some times over: errors of the ODE's
 * earlier part shrink as with an SDE, and its few large steps stay. */
#include <pipe/pipe.h>
#include <pipe/sde.h>

#include <math.h>

#define CURVE 7.0 /* of the inner steps: the exponent of Karras et al. 2022, as in the paper */

typedef struct {
    pipe_floats from, to;
    pipe_ints repeats, inner;
    double noise;
    int64_t variable, resolved;
} state;

static const pipe_param params[] = {
    PIPE_FLOATS(state, from, "[]", 1e-6, 1e6, NULL,
                "sigma / alpha up to which noise is added, one per interval; higher forgets more of what was "
                "made"),
    PIPE_FLOATS(state, to, "[]", 1e-6, 1e6, NULL,
                "sigma / alpha at which each interval ends: the grid point nearest to it, by its quotient"),
    PIPE_INTS(state, repeats, "[1]", 1, 60, "times",
              "that each interval is gone through again; one number serves all; more contracts errors more"),
    PIPE_INTS(state, inner, "[3]", 1, 10000, "steps",
              "of each time, denser near its end; one number serves all"),
    PIPE_FLOAT(state, noise, 1.0, 0.0, 2.0, NULL,
               "factor of the added noise; slightly above 1 makes up for detail that a network smooths away"),
    PIPE_ODE_VARIABLE_PARAM(state),
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;
    const size_t n = st->from.n;

    if (n == 0 || st->to.n != n)
        return pipe_fail(err, PIPE_EINVAL,
                         "%s: `from` holds %zu numbers and `to` %zu; give both for each interval",
                         pipe_context_node(ctx), n, st->to.n);
    if ((st->repeats.n != 1 && st->repeats.n != n) || (st->inner.n != 1 && st->inner.n != n))
        return pipe_fail(
            err, PIPE_EINVAL, "%s: `%s` must hold one number, or one for each of the %zu intervals",
            pipe_context_node(ctx), st->repeats.n != 1 && st->repeats.n != n ? "repeats" : "inner", n);
    for (size_t k = 0; k < n; k++)
        if (!(st->to.v[k] < st->from.v[k]))
            return pipe_fail(err, PIPE_EINVAL, "%s: interval %zu goes from %g to %g; it must fall",
                             pipe_context_node(ctx), k + 1, st->from.v[k], st->to.v[k]);
    return PIPE_OK;
}

/* The grid point behind the first, and above noise 0, whose ratio is nearest to `rho`; 0: there is none. */
static size_t nearest(const pipe_sampling *s, double rho)
{
    size_t best = 0;

    for (size_t i = 1; i <= s->steps && s->sigma[i] > 0.0; i++)
        if (best == 0 || fabs(s->lambda[i] + log(rho)) < fabs(s->lambda[best] + log(rho)))
            best = i;
    return best;
}

static pipe_status begin(void *self, pipe_sampling *s, pipe_error *err)
{
    state *st = self;
    pipe_schedule_info info;

    PIPE_TRY(pipe_schedule_describe(s->schedule, &info, err));
    const double most = exp(-pipe_schedule_lambda(s->schedule, info.t_max));
    for (size_t k = 0; k < st->from.n; k++) {
        const size_t i = nearest(s, st->to.v[k]);
        const double end = i ? exp(-s->lambda[i]) : INFINITY;
        if (!(st->from.v[k] > end))
            return pipe_fail(err, PIPE_EINVAL,
                             "interval %zu, from %g to %g: no grid point behind the first is in it%s", k + 1,
                             st->from.v[k], st->to.v[k], i ? "; take more steps" : "");
        if (st->from.v[k] > most * (1.0 + 1e-9))
            return pipe_fail(err, PIPE_EINVAL,
                             "interval %zu begins at sigma / alpha = %g; the schedule ends at %g", k + 1,
                             st->from.v[k], most);
    }
    return pipe_ode_resolve(s, st->variable, &st->resolved, err);
}

static int64_t of(const pipe_ints *list, size_t k)
{
    return list->v[list->n > 1 ? k : 0];
}

/* Once up and down again.  x is at `low`. */
static pipe_tensor *again(const state *st, pipe_sampling *s, pipe_tensor *x, size_t k,
                          const pipe_schedule_point *low, uint32_t draw)
{
    const int64_t steps = of(&st->inner, k);
    const double high = pow(st->from.v[k], 1.0 / CURVE), end = pow(pipe_level_ratio(low), 1.0 / CURVE);
    pipe_schedule_point from = pipe_level_of_ratio(s, st->from.v[k]), to;

    x = pipe_step_raise(s, x, low, &from, st->noise, draw);
    for (int64_t j = 1; j <= steps; j++, from = to) {
        to = j == steps ? *low
                        : pipe_level_of_ratio(s, pow(high + (double)j / (double)steps * (end - high), CURVE));
        x = pipe_runge_kutta(s, x, &from, &to, &pipe_rk_heun, st->resolved);
    }
    return x;
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const state *st = self;
    const pipe_schedule_point from = pipe_grid_point(s, s->i), to = pipe_grid_point(s, s->i + 1);
    uint32_t draw = 0;

    s->x = pipe_runge_kutta(s, s->x, &from, &to, &pipe_rk_heun, st->resolved);
    for (size_t k = 0; k < st->from.n; k++) {
        if (nearest(s, st->to.v[k]) != s->i + 1)
            continue;
        for (int64_t r = 0; r < of(&st->repeats, k); r++)
            s->x = again(st, s, s->x, k, &to, draw++);
    }
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.restart",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "Restart: Heun's method that goes through intervals of noise levels again, stochastic",
    .citation = "arXiv:2306.14878",
    .example =
        "solver: {plugin: sampler.restart, steps: 18, grid: karras, from: [0.3], to: [0.06], repeats: [5]}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .sampler = {.begin = begin,
                .step = step,
                .order = 0,
                .calls_per_step = 2,
                .stochastic = true,
                .early_begin = true},
};
