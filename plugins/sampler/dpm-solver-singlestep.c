/* DPM-Solver and DPM-Solver++, single step: Lu et al. 2022, arXiv:2206.00927,
 * algorithms 1 and 2, and arXiv:2211.01095, algorithm 1.  A step of order p starts
 * over: it combines the values at p points of its own, the first one its start.  With
 * eta, and with orders of the last steps, as in k-diffusion's sample_dpm_fast. */
#include <pipe/pipe.h>

#include <math.h>

enum { DATA, NOISE };
enum { PAPER, EXACT, RELEASED };
enum { BETWEEN, GRID };
enum { ORDER_MAX = 3 };

/* A step of the solver under way. */
typedef struct {
    size_t order, known; /* points it will have, and has */
    int64_t form; /* pipe_solver_form */
    pipe_tensor *from; /* x at its start */
    pipe_tensor *value[ORDER_MAX]; /* oldest first */
    pipe_schedule_point point[ORDER_MAX];
} block;

typedef struct {
    int64_t order, predict, weights, inner;
    pipe_ints final_orders;
    double eta, noise;
    block block;
} state;

static const char *const predictions[] = {"x0", "eps", NULL};
static const char *const weights[] = {"paper", "exact", "released", NULL};
static const char *const inners[] = {"between", "grid", NULL};

static const pipe_param params[] = {
    PIPE_INT(state, order, 2, 1, ORDER_MAX, "points",
             "whose predictions a step combines; more follow a smooth path better"),
    PIPE_CHOICE(state, predict, "x0", predictions,
                "what is combined: x0 (DPM-Solver++, steadier under guidance) or eps (DPM-Solver)"),
    PIPE_CHOICE(
        state, weights, "paper", weights,
        "paper: of the first and the last point; exact: of the polynomial through all points, of full "
        "order wherever they lie (diffusers' heun); released: as paper, but the midpoint rule within "
        "third-order steps too (diffusers' midpoint)"),
    PIPE_CHOICE(
        state, inner, "between", inners,
        "points: between (even in lambda between two grid points; `order` evaluations per step) or grid "
        "(`order` steps of the grid are one of the solver, fewer at the end; one evaluation each)"),
    PIPE_INTS(state, final_orders, "[]", 1, ORDER_MAX, "points",
              "of the last steps, in place of `order`; lower saves evaluations where the path is nearly straight"),
    PIPE_FLOAT(state, eta, 0.0, 0.0, 1.0, NULL,
               "fresh noise per step: 0 none (deterministic), 1 as much as DDPM; never more than leaves the "
               "grid's end"),
    PIPE_FLOAT(state, noise, 1.0, 0.0, 2.0, NULL,
               "factor of the fresh noise; slightly above 1 makes up for detail that a network smooths away"),
    PIPE_PARAM_END};

static const pipe_rule rules[] = {{.name = "inner", .excludes = "final_orders|eta"},
                                  {.name = "noise", .needs = "eta"},
                                  PIPE_RULE_END};

static void clear(block *b)
{
    pipe_keep(&b->from, NULL);
    for (size_t k = 0; k < ORDER_MAX; k++)
        pipe_keep(&b->value[k], NULL);
    b->known = b->order = 0;
}

/* A step of the solver from grid point s->i.  Where alpha is 0, eps does not determine
 * x0, and no other point can be interpolated with that one. */
static void start(state *st, const pipe_sampling *s, size_t order)
{
    block *b = &st->block;
    const bool pure_noise = !(s->alpha[s->i] > 0.0);

    clear(b);
    b->order = pure_noise ? 1 : order;
    b->form = pure_noise || st->predict == DATA ? PIPE_SOLVER_DATA : PIPE_SOLVER_NOISE;
    pipe_keep(&b->from, s->x);
}

static void evaluate(block *b, pipe_sampling *s, pipe_tensor *x, const pipe_schedule_point *at)
{
    const pipe_prediction want = b->form == PIPE_SOLVER_DATA ? PIPE_PREDICT_X0 : PIPE_PREDICT_EPS;

    pipe_keep(&b->value[b->known], pipe_predict_at(s, x, at->t, want));
    b->point[b->known++] = *at;
}

/* x at `to`, through the values known: the multistep solver's update, on a grid of the
 * step's start, its end and its inner points. */
static pipe_tensor *advance(const state *st, const pipe_schedule_point *to)
{
    const block *b = &st->block;
    const size_t last = b->known - 1, n = st->weights == EXACT || b->known == 1 ? b->known : 2;
    double alpha[ORDER_MAX + 1], sigma[ORDER_MAX + 1], lambda[ORDER_MAX + 1], c[ORDER_MAX + 1];
    pipe_tensor *t[ORDER_MAX + 1] = {b->from};
    pipe_multistep m = {.form = b->form, .predictor = (int64_t)n, .known = n};
    const pipe_sampling s = {.size = sizeof s, .steps = 1, .alpha = alpha, .sigma = sigma, .lambda = lambda};

    for (size_t k = 0; k <= b->known; k++) { /* start, end, inner points */
        const pipe_schedule_point *p = k == 1 ? to : &b->point[k > 1 ? k - 1 : 0];
        alpha[k] = p->alpha;
        sigma[k] = p->sigma;
        lambda[k] = log(p->alpha / p->sigma);
    }
    for (size_t k = 0; k < n; k++) { /* newest first; of two, the last and the first */
        const size_t of = k + 1 == n ? 0 : last - k;
        m.point[k] = of > 0 ? of + 1 : 0;
        t[k + 1] = b->value[of];
    }
    if (b->known == 2 && (st->weights == RELEASED || (st->weights == PAPER && b->order == 2)))
        m.weights = PIPE_SOLVER_SLOPE_MIDPOINT;
    const pipe_multistep_update u = pipe_multistep_predictor(&m, &s);
    c[0] = u.x;
    for (size_t k = 0; k < u.n; k++)
        c[k + 1] = u.value[k];
    return pipe_linear(c, t, u.n + 1);
}

/* Of the step between grid points s->i and s->i + 1. */
static size_t order_of(const state *st, const pipe_sampling *s)
{
    const size_t left = s->steps - s->i, n = st->final_orders.n;

    return (size_t)(left > n ? st->order : st->final_orders.v[n - left]);
}

/* The deterministic part of a step to `to` ends at *kept, at the grid's end at most; the deviation of the fresh
 * noise. */
static double split(const state *st, const pipe_sampling *s, const pipe_schedule_point *from,
                    const pipe_schedule_point *to, pipe_schedule_point *kept)
{
    const double fresh = pipe_step_split(from, to, st->eta, PIPE_SPLIT_VARIANCE, kept);
    const double least = to->alpha * s->sigma[s->steps] / s->alpha[s->steps];

    if (!(fresh > 0.0 && kept->sigma < least))
        return fresh;
    kept->sigma = fmin(least, to->sigma);
    return sqrt(to->sigma * to->sigma - kept->sigma * kept->sigma);
}

/* All points of one grid step. */
static void step_between(state *st, pipe_sampling *s)
{
    const pipe_schedule_point from = pipe_grid_point(s, s->i), end = pipe_grid_point(s, s->i + 1);
    pipe_schedule_point to;
    const double fresh = split(st, s, &from, &end, &to);
    const double high = pipe_level_ratio(&from), low = pipe_level_ratio(&to);

    start(st, s, to.sigma > 0.0 ? order_of(st, s) : 1);
    evaluate(&st->block, s, s->x, &from);
    while (st->block.known < st->block.order) {
        const double u = (double)st->block.known / (double)st->block.order;
        const pipe_schedule_point at = pipe_level_of_ratio(s, pow(high, 1.0 - u) * pow(low, u));
        evaluate(&st->block, s, advance(st, &at), &at);
    }
    s->x = pipe_step_add_noise(s, advance(st, &to), st->noise * fresh, 0);
}

/* Grid steps that the step of the solver from s->i takes: the paper's orders p ... p,
 * p - 1, 1 (or less of that), which use up the grid. */
static size_t next_order(const state *st, const pipe_sampling *s)
{
    const size_t order = (size_t)st->order, left = s->steps - s->i;

    return left > order ? order : left == order && order > 1 ? order - 1 : left;
}

/* One point: x goes on from the start of the solver's step, with what is known now. */
static void step_on_grid(state *st, pipe_sampling *s)
{
    const pipe_schedule_point from = pipe_grid_point(s, s->i), to = pipe_grid_point(s, s->i + 1);

    if (st->block.known == st->block.order || !(to.sigma > 0.0))
        start(st, s, next_order(st, s));
    evaluate(&st->block, s, s->x, &from);
    s->x = advance(st, &to);
}

static pipe_status begin(void *self, pipe_sampling *s, pipe_error *err)
{
    state *st = self;

    clear(&st->block);
    if (st->final_orders.n > s->steps)
        return pipe_fail(err, PIPE_EINVAL, "`final_orders` holds the orders of %zu steps, but there are only %zu",
                         st->final_orders.n, s->steps);
    return PIPE_OK;
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    state *st = self;

    if (st->inner == GRID)
        step_on_grid(st, s);
    else
        step_between(st, s);
    return pipe_check(s->x, err);
}

static void end(void *self)
{
    clear(&((state *)self)->block);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.dpm-solver-singlestep",
    .version = "1.1.0",
    .licence = "MIT",
    .summary = "DPM-Solver and DPM-Solver++ of order 1 to 3, single step",
    .help = "DPM-Solver-fast of n evaluations (k-diffusion's sample_dpm_fast): `order: 3`, `predict: eps`, `grid: log-snr`, "
            "`final: none`, n / 3 + 1 `steps` (rounded down), and as `final_orders` [2, 1] where 3 divides n, else the "
            "remainder alone.",
    .citation = "arXiv:2206.00927",
    .example = "solver: {plugin: sampler.dpm-solver-singlestep, steps: 18, order: 3, inner: grid}",
    .params = params,
    .rules = rules,
    .state_size = sizeof(state),
    .sampler = {.begin = begin, .step = step, .end = end, .order = 2, .calls_per_step = 2, .early_begin = true},
};
