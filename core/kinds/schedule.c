/* Schedules: dispatch, inversion, noise levels of batches, tables of VP steps. */
#include "core/run/object.h"

#include <math.h>

pipe_status pipe_schedule_describe(pipe_schedule *s, pipe_schedule_info *info, pipe_error *err)
{
    *info = (pipe_schedule_info){.size = sizeof *info, .t_min = 0.0, .t_max = 1.0, .t_start = 1.0};
    return s->plugin->schedule.describe ? s->plugin->schedule.describe(s->state, info, err) : PIPE_OK;
}

pipe_schedule_point pipe_schedule_at(pipe_schedule *s, double t)
{
    pipe_schedule_point p = {.t = t};
    s->plugin->schedule.at(s->state, &p);
    return p;
}

double pipe_schedule_lambda(pipe_schedule *s, double t)
{
    const pipe_schedule_point p = pipe_schedule_at(s, t);
    return log(p.alpha) - log(p.sigma); /* +inf at sigma = 0, -inf at alpha = 0 */
}

double pipe_schedule_time_of(pipe_schedule *s, double lambda)
{
    pipe_schedule_info info;
    double low, high;

    if (pipe_schedule_describe(s, &info, NULL) != PIPE_OK)
        return NAN;
    low = info.t_min;
    high = info.t_max;
    if (s->plugin->schedule.time_of) {
        const double t = s->plugin->schedule.time_of(s->state, lambda);
        return t < low ? low : t > high ? high : t;
    }
    /* lambda falls strictly with t; 200 halvings reach the last bit of any double */
    for (int k = 0; k < 200; k++) {
        const double middle = low + 0.5 * (high - low);
        if (middle <= low || middle >= high)
            break;
        if (pipe_schedule_lambda(s, middle) > lambda)
            low = middle;
        else
            high = middle;
    }
    return low + 0.5 * (high - low);
}

pipe_level pipe_level_uniform(pipe_schedule *s, pipe_engine *e, int64_t n, double t)
{
    const pipe_schedule_point p = pipe_schedule_at(s, t);
    const pipe_shape shape = PIPE_SHAPE(n);

    return (pipe_level){
        .size = sizeof(pipe_level),
        .t = pipe_full(e, shape, p.t),
        .alpha = pipe_full(e, shape, p.alpha),
        .sigma = pipe_full(e, shape, p.sigma),
        .dalpha = pipe_full(e, shape, p.dalpha),
        .dsigma = pipe_full(e, shape, p.dsigma),
        .uniform = true,
        .point = p,
    };
}

pipe_level pipe_level_of(pipe_schedule *s, pipe_engine *e, const double *t, int64_t n)
{
    /* one upload of five rows instead of five uploads */
    float *host = pipe_alloc_array((size_t)n, 5 * sizeof *host);
    pipe_tensor *row[5], *all;

    for (int64_t i = 0; i < n; i++) {
        const pipe_schedule_point p = pipe_schedule_at(s, t[i]);
        host[i] = (float)p.t;
        host[n + i] = (float)p.alpha;
        host[2 * n + i] = (float)p.sigma;
        host[3 * n + i] = (float)p.dalpha;
        host[4 * n + i] = (float)p.dsigma;
    }
    all = pipe_from_f32(e, PIPE_SHAPE(5, n), host);
    pipe_free(host);
    for (int64_t k = 0; k < 5; k++)
        row[k] = pipe_reshape(pipe_slice(all, 0, k, 1, 1), PIPE_SHAPE(n));
    return (pipe_level){.size = sizeof(pipe_level),
                        .t = row[0],
                        .alpha = row[1],
                        .sigma = row[2],
                        .dalpha = row[3],
                        .dsigma = row[4]};
}

pipe_posterior pipe_posterior_of(double alpha_i, double sigma_i, double alpha_j, double sigma_j)
{
    const double decay = alpha_i / alpha_j; /* of the forward step from j to i */
    const double added = sigma_i * sigma_i - decay * decay * sigma_j * sigma_j;
    const double share = added / (sigma_i * sigma_i); /* 1 - (rho_j / rho_i)^2 */
    const double variance = sigma_j * sigma_j * share;

    return (pipe_posterior){.x = decay * (sigma_j * sigma_j) / (sigma_i * sigma_i),
                            .x0 = alpha_j * share,
                            .variance = variance,
                            .forward = added,
                            .log_middle = 0.5 * (log(added) + log(variance)),
                            .log_half = 0.5 * (log(added) - log(variance))};
}

pipe_tensor *pipe_per_sample(pipe_tensor *a, const pipe_tensor *x)
{
    pipe_shape shape = {.rank = pipe_rank(x)};

    shape.dim[0] = pipe_dim(a, 0);
    for (uint32_t k = 1; k < shape.rank; k++)
        shape.dim[k] = 1;
    return pipe_reshape(a, shape);
}

pipe_tensor *pipe_diffuse(const pipe_level *l, pipe_tensor *x0, pipe_tensor *eps)
{
    if (l->uniform)
        return pipe_axpby(l->point.alpha, x0, l->point.sigma, eps);
    return pipe_add(pipe_mul(pipe_per_sample(l->alpha, x0), x0),
                    pipe_mul(pipe_per_sample(l->sigma, eps), eps));
}

static pipe_status table_new(pipe_vp_table *table, int64_t n, pipe_error *err)
{
    if (n < 1)
        return pipe_fail(err, PIPE_EDOMAIN, "a schedule needs at least one step, not %lld", (long long)n);
    *table = (pipe_vp_table){.n = n, .log_rho = pipe_alloc_array((size_t)n, sizeof *table->log_rho)};
    return PIPE_OK;
}

/* ln rho from ln alpha^2, which is below 0. */
static double log_ratio(double log_bar)
{
    return 0.5 * (log(-expm1(log_bar)) - log_bar);
}

pipe_status pipe_vp_table_from_betas(pipe_vp_table *table, const double *beta, int64_t n, pipe_error *err)
{
    double log_bar = 0.0; /* ln alpha^2: a product of 1,000 factors near 1 is better summed */

    PIPE_TRY(table_new(table, n, err));
    for (int64_t i = 0; i < n; i++) {
        if (!(beta[i] > 0.0 && beta[i] < 1.0)) {
            pipe_vp_table_free(table);
            return pipe_fail(err, PIPE_EDOMAIN, "beta of step %lld is %g; it must lie in (0, 1)",
                             (long long)i, beta[i]);
        }
        log_bar += log1p(-beta[i]);
        table->log_rho[i] = log_ratio(log_bar);
    }
    return PIPE_OK;
}

pipe_status pipe_vp_table_from_ratios(pipe_vp_table *table, const double *rho, int64_t n, pipe_error *err)
{
    PIPE_TRY(table_new(table, n, err));
    for (int64_t i = 0; i < n; i++) {
        const bool last = i + 1 == n && n > 1;
        if (!(rho[i] > (i > 0 ? rho[i - 1] : 0.0)) || (isinf(rho[i]) && !last)) {
            pipe_vp_table_free(table);
            return pipe_fail(err, PIPE_EDOMAIN,
                             "sigma / alpha of step %lld is %g after %g; it must rise, from above 0%s",
                             (long long)i, rho[i], i > 0 ? rho[i - 1] : 0.0,
                             last ? "" : ", and be finite but for the last step");
        }
        table->log_rho[i] = log(rho[i]);
    }
    return PIPE_OK;
}

pipe_status pipe_vp_table_from_bar(pipe_vp_table *table, double (*bar)(const void *arg, double t),
                                   const void *arg, int64_t n, double beta_max, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) double *beta = NULL;

    if (n < 1)
        return pipe_vp_table_from_betas(table, NULL, n, err);
    beta = pipe_alloc_array((size_t)n, sizeof *beta);
    for (int64_t i = 0; i < n; i++)
        beta[i] = fmin(beta_max,
                       1.0 - bar(arg, (double)(i + 1) / (double)n) / bar(arg, (double)i / (double)n));
    return pipe_vp_table_from_betas(table, beta, n, err);
}

pipe_status pipe_vp_table_zero_snr(pipe_vp_table *table, pipe_error *err)
{
    const int64_t last = table->n - 1;

    if (last < 1)
        return pipe_fail(err, PIPE_EDOMAIN,
                         "a schedule of one step cannot end at SNR 0: its only step would");
    /* q = alpha of each step; as 1 / sqrt(1 + rho^2) without overflow */
    const double first = 1.0 / sqrt(1.0 + exp(2.0 * table->log_rho[0]));
    const double end = 1.0 / sqrt(1.0 + exp(2.0 * table->log_rho[last]));
    for (int64_t i = 1; i < last; i++) {
        const double q = 1.0 / sqrt(1.0 + exp(2.0 * table->log_rho[i]));
        table->log_rho[i] = log_ratio(2.0 * log((q - end) * first / (first - end)));
    }
    table->log_rho[last] = INFINITY;
    return PIPE_OK;
}

void pipe_vp_table_free(pipe_vp_table *table)
{
    pipe_free(table->log_rho);
    *table = (pipe_vp_table){0};
}

/* alpha of the last step but one of a table that ends at SNR 0. */
static double alpha_before_zero(const pipe_vp_table *table)
{
    return 1.0 / sqrt(1.0 + exp(2.0 * table->log_rho[table->n - 2]));
}

/* Behind that step ln rho goes to infinity: there alpha falls linearly to 0. */
static void at_zero_snr(const pipe_vp_table *table, double position, pipe_schedule_point *p)
{
    const double before = alpha_before_zero(table);

    p->alpha = before * fmax(0.0, (double)(table->n - 1) - position);
    p->sigma = sqrt(1.0 - p->alpha * p->alpha);
    p->dalpha = -before * (double)table->n;
    p->dsigma = -p->alpha * p->dalpha / p->sigma;
}

void pipe_vp_table_at(const pipe_vp_table *table, pipe_schedule_point *p)
{
    const double position = p->t * (double)table->n - 1.0; /* the step's index, between steps a fraction */
    double log_rho, slope; /* of ln rho in t */

    if (p->t <= 0.0) {
        p->alpha = 1.0;
        p->sigma = 0.0;
        p->dalpha = 0.0;
        p->dsigma = exp(table->log_rho[0]) * (double)table->n;
        return;
    }
    if (isinf(table->log_rho[table->n - 1]) && position > (double)(table->n - 2)) {
        at_zero_snr(table, position, p);
        return;
    }
    if (position <= 0.0 || table->n == 1) {
        log_rho = table->log_rho[0] + log(p->t * (double)table->n);
        slope = 1.0 / p->t;
    } else {
        const double last = (double)(table->n - 1);
        const double clamped = position < last ? position : last;
        const int64_t i = clamped < last ? (int64_t)clamped : table->n - 2;
        const double step = table->log_rho[i + 1] - table->log_rho[i];
        log_rho = table->log_rho[i] + (clamped - (double)i) * step;
        slope = step * (double)table->n;
    }
    /* rho = sigma / alpha and alpha^2 + sigma^2 = 1, without overflow at either end */
    p->alpha = 1.0 / sqrt(1.0 + exp(2.0 * log_rho));
    p->sigma = 1.0 / sqrt(1.0 + exp(-2.0 * log_rho));
    p->dsigma = slope * p->alpha * p->alpha * p->sigma;
    p->dalpha = -slope * p->sigma * p->sigma * p->alpha;
}

double pipe_vp_table_time_of(const pipe_vp_table *table, double lambda)
{
    const double log_rho = -lambda;
    int64_t low = 0, high = table->n - 1;

    if (log_rho <= table->log_rho[0])
        return exp(log_rho - table->log_rho[0]) / (double)table->n;
    if (log_rho >= table->log_rho[high])
        return 1.0;
    if (isinf(table->log_rho[high]) && log_rho > table->log_rho[high - 1])
        return 1.0 - 1.0 / sqrt(1.0 + exp(2.0 * log_rho)) / alpha_before_zero(table) / (double)table->n;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (table->log_rho[middle] <= log_rho)
            low = middle;
        else
            high = middle;
    }
    return ((double)low + 1.0 +
            (log_rho - table->log_rho[low]) / (table->log_rho[high] - table->log_rho[low])) /
           (double)table->n;
}

static pipe_status with_zero_snr(pipe_vp_state *st, pipe_error *err)
{
    return st->zero_terminal_snr ? pipe_vp_table_zero_snr(&st->table, err) : PIPE_OK;
}

pipe_status pipe_vp_state_from_rise(void *self, double (*rise)(const void *self, double r), pipe_error *err)
{
    pipe_vp_state *st = self;
    PIPE_CLEANUP(pipe_free_ptr) double *beta = pipe_alloc_array((size_t)st->timesteps, sizeof *beta);

    for (int64_t i = 0; i < st->timesteps; i++)
        beta[i] = st->beta_start +
                  (st->beta_end - st->beta_start) * rise(self, (double)i / (double)(st->timesteps - 1));
    PIPE_TRY(pipe_vp_table_from_betas(&st->table, beta, st->timesteps, err));
    return with_zero_snr(st, err);
}

pipe_status pipe_vp_state_from_bar(void *self, double (*bar)(const void *self, double t), pipe_error *err)
{
    pipe_vp_state *st = self;

    PIPE_TRY(pipe_vp_table_from_bar(&st->table, bar, self, st->timesteps, st->beta_max, err));
    return with_zero_snr(st, err);
}

void pipe_vp_state_destroy(void *self)
{
    pipe_vp_table_free(self);
}

pipe_status pipe_vp_state_describe(void *self, pipe_schedule_info *info, pipe_error *err)
{
    (void)err;
    info->discrete = ((const pipe_vp_table *)self)->n;
    return PIPE_OK;
}

void pipe_vp_state_at(void *self, pipe_schedule_point *p)
{
    pipe_vp_table_at(self, p);
}

double pipe_vp_state_time_of(void *self, double lambda)
{
    return pipe_vp_table_time_of(self, lambda);
}

double pipe_noise_rate_log_alpha(const pipe_noise_rate *r, double t, double *slope)
{
    const double rise = r->beta_max - r->beta_min;

    *slope = -0.5 * (r->beta_min + t * rise);
    return -0.25 * t * t * rise - 0.5 * t * r->beta_min;
}

double pipe_noise_rate_time_of(const pipe_noise_rate *r, double log_alpha)
{
    const double half = 0.5 * r->beta_min;

    /* the root of a quadratic without the difference of near numbers */
    return -2.0 * log_alpha / (half + sqrt(half * half - (r->beta_max - r->beta_min) * log_alpha));
}
