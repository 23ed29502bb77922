/* The time grid that all samplers share: the times that its parameters give.
 *
 * A grid places points between noise and data in one of four quantities: time, the
 * number of a training step, rho = sigma / alpha, or (flow schedules) sigma itself;
 * then the end of the schedule is appended.  Everything becomes times of the
 * schedule, because samplers ask the schedule for all the rest. */
#include "core/base/special.h"
#include "core/kinds/kinds.h"

#include <math.h>
#include <string.h>

/* ---- what a grid is made from ---- */
typedef struct layout {
    const pipei_sampler_common *c;
    pipe_sampler *sampler;
    pipe_schedule *schedule;
    pipe_schedule_info info;
    bool flow; /* alpha + sigma = 1 */
    bool appended; /* the end comes behind the n points */
    size_t n; /* points that the grid places */
    double *t; /* them, and the end */
    double low, high; /* rho of the last and the first of them; high may be infinite */
} layout;

static double rho_at(const layout *l, double t)
{
    return exp(-pipe_schedule_lambda(l->schedule, t));
}

static double time_at(const layout *l, double rho)
{
    return rho > 0.0 ? pipe_schedule_time_of(l->schedule, -log(rho)) : l->info.t_min;
}

/* Time of training step `index`, which counts from 0. */
static double step_time(const layout *l, double index)
{
    return (index + 1.0) / (double)l->info.discrete;
}

static bool is_flow(const layout *l)
{
    for (int k = 1; k < 8; k++) {
        const double t = l->info.t_min + (l->info.t_max - l->info.t_min) * k / 8.0;
        const pipe_schedule_point p = pipe_schedule_at(l->schedule, t);
        if (fabs(p.alpha + p.sigma - 1.0) > 1e-12)
            return false;
    }
    return true;
}

/* k-th of n numbers that go evenly from `first` to `last`, both included. */
static double evenly(double first, double last, size_t k, size_t n)
{
    return n > 1 && k + 1 == n ? last : first + (n > 1 ? (last - first) * (double)k / (double)(n - 1) : 0.0);
}

/* ---- grids in time ---- */
static double first_time(const layout *l)
{
    return l->c->ratio_max > 0.0 ? time_at(l, l->c->ratio_max) : l->info.t_start;
}

static void place_in_time(layout *l)
{
    const size_t n = l->n;

    for (size_t i = 0; i < n; i++) {
        const double left = evenly(1.0, 0.0, i, n); /* 1 at the noisiest point */
        l->t[i] = l->info.t_min +
                  (first_time(l) - l->info.t_min) * (l->c->grid == PIPEI_GRID_QUADRATIC ? left * left : left);
    }
}

static double last_time(const layout *l)
{
    if (l->c->time_min > 0.0)
        return l->c->time_min;
    return l->info.discrete > 0 ? step_time(l, 0.0) : l->info.t_min + 1e-3 * (l->info.t_max - l->info.t_min);
}

/* ComfyUI's and SGM's: N + 1 times down to the last, which is left out. */
static void place_sgm(layout *l)
{
    for (size_t i = 0; i < l->n; i++)
        l->t[i] = evenly(first_time(l), last_time(l), i, l->n + 1);
}

/* ---- grids in training steps (Lin et al. 2023, arXiv:2305.08891, table 2), rounded as diffusers does ----
 */

/* Training steps that may be used: those not noisier than ratio_max. */
static int64_t usable_steps(const layout *l)
{
    int64_t n = l->info.discrete;

    if (l->c->ratio_max > 0.0)
        while (n > 0 && rho_at(l, step_time(l, (double)(n - 1))) > l->c->ratio_max)
            n--;
    return n;
}

/* Time between two training steps, where rho is taken to be linear in the number. */
static double between_steps(const layout *l, double index)
{
    const double below = floor(index), fraction = index - below;

    if (!(fraction > 0.0))
        return step_time(l, below);
    return time_at(l, rho_at(l, step_time(l, below)) * (1.0 - fraction) +
                          rho_at(l, step_time(l, below + 1.0)) * fraction);
}

static pipe_status place_in_steps(layout *l, pipe_error *err)
{
    const pipei_sampler_common *c = l->c;
    const int64_t all = usable_steps(l);
    const size_t spaced = l->n + (c->extra_point ? 1 : 0); /* points that share the steps */
    const bool whole = c->grid != PIPEI_GRID_LINSPACE || c->whole_steps;
    const double first_index = c->time_min > 0.0 ? c->time_min * (double)l->info.discrete - 1.0 : 0.0;

    if (whole && (uint64_t)all < spaced)
        return pipe_fail(err, PIPE_EINVAL,
                         "%s: grid %s places %zu points on whole training steps, but there are only %lld%s",
                         l->sampler->name, pipei_grid_names[c->grid], spaced, (long long)all,
                         c->ratio_max > 0.0 ? " up to ratio_max" : "");
    if (all < 1)
        return pipe_fail(err, PIPE_EINVAL, "%s: no training step has sigma / alpha up to ratio_max %g",
                         l->sampler->name, c->ratio_max);
    for (size_t i = 0; i < l->n; i++) {
        double index;
        if (c->grid == PIPEI_GRID_LINSPACE)
            index = evenly((double)(all - 1), first_index, i, spaced);
        else if (c->grid == PIPEI_GRID_LEADING)
            index = (double)((int64_t)(spaced - 1 - i) * (all / (int64_t)spaced) + c->steps_offset);
        else
            index = (double)all - (double)i * ((double)all / (double)spaced) - 1.0;
        l->t[i] = whole ? step_time(l, rint(index))
                        : between_steps(l, index); /* rint: halves to even, as NumPy */
    }
    return PIPE_OK;
}

/* ---- grids in rho ---- */

/* The ratios of the first and last point.  Where alpha is 0 at the start, rho is infinite there:
 * the first point stays at the start and the others are spaced from a finite ratio. */
static pipe_status find_range(layout *l, pipe_error *err)
{
    const double most = rho_at(l, l->info.t_start), least = rho_at(l, l->info.t_min);

    l->low = l->c->ratio_min;
    if (!(l->low > 0.0))
        l->low = l->info.discrete > 0 ? rho_at(l, step_time(l, 0.0)) : fmax(0.002, least);
    l->high = l->c->ratio_max > 0.0 ? l->c->ratio_max : most;
    if (l->high > most * (1.0 + 1e-12) || l->low < least * (1.0 - 1e-12))
        return pipe_fail(err, PIPE_EINVAL, "%s: ratios from %g to %g are wanted, the schedule has %g to %g",
                         l->sampler->name, l->high, l->low, most, least);
    if (!(l->low < l->high))
        return pipe_fail(err, PIPE_EINVAL, "%s: ratio_min %g is not below the largest sigma / alpha %g",
                         l->sampler->name, l->low, l->high);
    return PIPE_OK;
}

static double power(double x, double p)
{
    return x < 0.0 ? -pow(-x, p) : pow(x, p);
}

/* Between high and low in one quantity (rho, or sigma of a flow schedule), r = 0 ... 1. */
static double spaced_value(const pipei_sampler_common *c, double high, double low, double r)
{
    const double own = c->grid == PIPEI_GRID_KARRAS ? 7.0 : 1.0, rho = c->rho > 0.0 ? c->rho : own;

    switch (c->grid) {
    case PIPEI_GRID_KARRAS: {
        const double a = pow(high, 1.0 / rho), b = pow(low, 1.0 / rho);
        return pow(a + r * (b - a), rho);
    }
    case PIPEI_GRID_LU: {
        const double a = power(-log(high), 1.0 / rho), b = power(-log(low), 1.0 / rho);
        return exp(-power(a + r * (b - a), rho));
    }
    case PIPEI_GRID_BETA:
        return low + (high - low) * pipei_beta_quantile(1.0 - r, c->beta_a, c->beta_b);
    default: /* polyexponential: with rho = 1 exponential, which is uniform in log-SNR */
        return exp(log(low) + pow(1.0 - r, rho) * (log(high) - log(low)));
    }
}

static pipe_status place_in_ratio(layout *l, pipe_error *err)
{
    const bool sigma = l->c->grid_in == PIPEI_GRID_IN_SIGMA;
    double high, low;

    PIPE_TRY(find_range(l, err));
    if (sigma && !l->flow)
        return pipe_fail(err, PIPE_EINVAL,
                         "%s: `grid_in: sigma` is for flow schedules (alpha + sigma = 1), which %s is not",
                         l->sampler->name, l->schedule->name);
    high = isfinite(l->high) ? l->high : fmax(1e4, 10.0 * l->low);
    low = l->low;
    if (sigma) {
        high = isfinite(l->high) ? high / (1.0 + high) : 1.0;
        low = low / (1.0 + low);
    }
    for (size_t i = 0; i < l->n; i++) {
        const double value = spaced_value(l->c, high, low, evenly(0.0, 1.0, i, l->n));
        const double rho = sigma ? value / (1.0 - value) : value;
        l->t[i] = i == 0 && l->c->ratio_max <= 0.0 ? l->info.t_start : time_at(l, rho);
    }
    return PIPE_OK;
}

/* k-diffusion's get_sigmas_vp: the ratios of the continuous VP schedule with beta from 0.1 to 20, at
 * even times from 1 to 0.001. */
static double vp_ratio(double r)
{
    const double t = 1.0 + r * (1e-3 - 1.0);
    return sqrt(expm1(0.5 * 19.9 * t * t + 0.1 * t));
}

/* Sabour et al. 2024, arXiv:2404.14507: ten ratios for each model; another number of steps is
 * interpolated in ln rho, as the authors do. */
static double ays_ratio(pipei_grid grid, double r)
{
    enum { POINTS = 10 };
    static const double tables[3][POINTS] = {
        {14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152},
        {14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113},
        {700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034},
    };
    const double *table = tables[grid - PIPEI_GRID_AYS_SD15], at = r * (POINTS - 1);
    const int k = at < POINTS - 2 ? (int)at : POINTS - 2;

    return exp(log(table[k]) + (at - k) * (log(table[k + 1]) - log(table[k])));
}

static pipe_status place_table(layout *l, pipe_error *err)
{
    const double most = rho_at(l, l->info.t_start);

    for (size_t i = 0; i < l->n; i++) {
        const double r = evenly(0.0, 1.0, i, l->n);
        const double rho = l->c->grid == PIPEI_GRID_VP ? vp_ratio(r) : ays_ratio((pipei_grid)l->c->grid, r);
        if (rho >
            most * (1.0 + 1e-3)) /* the tables are rounded: 14.615 stands for Stable Diffusion's 14.6146 */
            return pipe_fail(err, PIPE_EINVAL,
                             "%s: grid %s starts at sigma / alpha = %g, the schedule ends at %g",
                             l->sampler->name, pipei_grid_names[l->c->grid], rho, most);
        l->t[i] = time_at(l, rho);
    }
    return PIPE_OK;
}

/* ---- the end ---- */

/* LTX-Video's stretch: 1 - sigma is scaled so that sigma at the last point is `terminal`. */
static pipe_status stretch(layout *l, pipe_error *err)
{
    const double scale = (1.0 - l->c->terminal) / pipe_schedule_at(l->schedule, l->t[l->n - 1]).alpha;

    if (!l->flow)
        return pipe_fail(err, PIPE_EINVAL,
                         "%s: `terminal` is for flow schedules (alpha + sigma = 1), which %s is not",
                         l->sampler->name, l->schedule->name);
    for (size_t i = 0; i < l->n; i++) {
        const double alpha = scale * pipe_schedule_at(l->schedule, l->t[i]).alpha;
        if (alpha > 0.0)
            l->t[i] = time_at(l, (1.0 - alpha) / alpha);
    }
    return PIPE_OK;
}

static pipe_status append_end(layout *l, pipe_error *err)
{
    if (!l->appended)
        return PIPE_OK;
    if (l->c->final == PIPEI_FINAL_FIRST_STEP && l->info.discrete == 0)
        return pipe_fail(err, PIPE_EINVAL,
                         "%s: `final: first-step` needs a schedule of training steps; %s is continuous",
                         l->sampler->name, l->schedule->name);
    l->t[l->n] = l->c->final == PIPEI_FINAL_FIRST_STEP ? step_time(l, 0.0) : l->info.t_min;
    return PIPE_OK;
}

static pipe_status check_falls(const layout *l, size_t points, pipe_error *err)
{
    for (size_t i = 0; i < points; i++) {
        if (!(l->t[i] >= l->info.t_min && l->t[i] <= l->info.t_max))
            return pipe_fail(err, PIPE_EINVAL,
                             "%s: time %g of the grid is outside the schedule's range %g to %g",
                             l->sampler->name, l->t[i], l->info.t_min, l->info.t_max);
        if (i > 0 && !(l->t[i] < l->t[i - 1]))
            return pipe_fail(err, PIPE_EINVAL, "%s: the grid must fall, but point %zu is %g after %g",
                             l->sampler->name, i, l->t[i], l->t[i - 1]);
    }
    return PIPE_OK;
}

/* Times, or numbers that stand for sigma / alpha. */
static pipe_status place_custom(layout *l, pipe_error *err)
{
    const pipei_sampler_common *c = l->c;
    const pipe_floats *list = c->times.n > 0 ? &c->times : c->ratios.n > 0 ? &c->ratios : &c->lambdas;

    l->n = list->n;
    l->t = pipe_alloc_array(l->n, sizeof *l->t);
    for (size_t i = 0; i < l->n; i++) {
        const double rho = list == &c->lambdas ? exp(-list->v[i]) : list->v[i];
        if (list != &c->times && rho > rho_at(l, l->info.t_max) * (1.0 + 1e-3)) /* as place_table */
            return pipe_fail(err, PIPE_EINVAL,
                             "%s: sigma / alpha = %g of the list is above the schedule's largest, %g",
                             l->sampler->name, rho, rho_at(l, l->info.t_max));
        l->t[i] = list == &c->times ? list->v[i] : time_at(l, rho);
    }
    return PIPE_OK;
}

static pipe_status place(layout *l, pipe_error *err)
{
    const bool stepped = l->c->grid == PIPEI_GRID_LEADING || l->c->grid == PIPEI_GRID_TRAILING;

    switch (l->c->grid) {
    case PIPEI_GRID_UNIFORM:
    case PIPEI_GRID_QUADRATIC:
        place_in_time(l);
        return PIPE_OK;
    case PIPEI_GRID_SGM_UNIFORM:
        place_sgm(l);
        return PIPE_OK;
    case PIPEI_GRID_LINSPACE:
    case PIPEI_GRID_LEADING:
    case PIPEI_GRID_TRAILING:
        if (l->info.discrete > 0)
            return place_in_steps(l, err);
        if (stepped || l->c->extra_point)
            return pipe_fail(err, PIPE_EINVAL,
                             "%s: %s counts training steps, but the schedule %s is continuous; use grid "
                             "linspace, sgm-uniform or uniform",
                             l->sampler->name, stepped ? pipei_grid_names[l->c->grid] : "extra_point",
                             l->schedule->name);
        for (size_t i = 0; i < l->n; i++)
            l->t[i] = evenly(first_time(l), last_time(l), i, l->n);
        return PIPE_OK;
    case PIPEI_GRID_VP:
    case PIPEI_GRID_AYS_SD15:
    case PIPEI_GRID_AYS_SDXL:
    case PIPEI_GRID_AYS_SVD:
        return place_table(l, err);
    default:
        return place_in_ratio(l, err);
    }
}

static pipe_status make(layout *l, pipe_error *err)
{
    const bool in_time = l->c->grid == PIPEI_GRID_UNIFORM || l->c->grid == PIPEI_GRID_QUADRATIC;
    const bool clean = !(pipe_schedule_at(l->schedule, l->info.t_min).sigma > 0.0);

    if (l->c->grid == PIPEI_GRID_CUSTOM)
        return place_custom(l, err);
    /* a schedule whose own end is noisy (VE) has nothing cleaner to append */
    l->appended = !in_time &&
                  (l->c->final == PIPEI_FINAL_FIRST_STEP || (l->c->final == PIPEI_FINAL_ZERO && clean));
    l->n = (size_t)l->c->steps + (l->appended ? 0 : 1);
    l->t = pipe_alloc_array((size_t)l->c->steps + 1, sizeof *l->t);
    PIPE_TRY(place(l, err));
    if (l->c->terminal > 0.0)
        PIPE_TRY(stretch(l, err));
    return append_end(l, err);
}

pipe_status pipe_sampler_grid(pipe_sampler *sampler, pipe_schedule *schedule, double **t, size_t *steps,
                              pipe_error *err)
{
    layout l = {.schedule = schedule};
    pipe_status status;

    l.sampler = pipei_sampler_inmost(sampler);
    l.c = pipei_object_common(l.sampler);
    PIPE_TRY(pipe_schedule_describe(schedule, &l.info, err));
    l.flow = is_flow(&l);
    status = make(&l, err);
    if (status == PIPE_OK)
        status = check_falls(&l, l.n + (l.appended ? 1 : 0), err);
    if (status != PIPE_OK) {
        pipe_free(l.t);
        return status;
    }
    *t = l.t;
    *steps = l.n + (l.appended ? 1 : 0) - 1;
    return PIPE_OK;
}
