/* Multistep solvers: moments, interpolation, and the step. */
#include <pipe/op.h>
#include <pipe/solver.h>

#include <math.h>

const char *const pipe_solver_slope_names[] = {"exact", "midpoint", NULL};
const char *const pipe_solver_curve_names[] = {"exact", "released", NULL};

/* Below, moments are summed as power series: the recursions, which divide by h
 * once for each power of u, lose n digits of it there. */
#define SERIES_BELOW 2.0

/* ---- coefficients ---- */
/* H sum_k (-H)^k n! / (n + k + 1)! */
static double data_series(double H, size_t n)
{
    double term = H / (double)(n + 1), sum = term;

    for (size_t k = 1; fabs(term) > 1e-18 * fabs(sum); k++) {
        term *= -H / (double)(n + k + 1);
        sum += term;
    }
    return sum;
}

/* h sum_k (-h)^k / (k! (n + k + 1)) */
static double noise_series(double h, size_t n)
{
    double power = h, sum = h / (double)(n + 1);

    for (size_t k = 1; fabs(power) > 1e-18 * fabs(sum); k++) {
        power *= -h / (double)k;
        sum += power / (double)(n + k + 1);
    }
    return sum;
}

void pipe_solver_data_moments(double H, size_t n, double *moment)
{
    for (size_t k = 0; k < n; k++)
        moment[k] = fabs(H) < SERIES_BELOW ? data_series(H, k)
                    : k == 0               ? -expm1(-H)
                                           : 1.0 - (double)k / H * moment[k - 1];
}

void pipe_solver_noise_moments(double h, size_t n, double *moment)
{
    for (size_t k = 0; k < n; k++)
        moment[k] = fabs(h) < SERIES_BELOW ? noise_series(h, k)
                    : k == 0               ? -expm1(-h)
                                           : (double)k / h * moment[k - 1] - exp(-h);
}

/* The Vandermonde system sum_k weight[k] u[k]^n = moment[n]: Bjorck and Pereyra
 * 1970; Golub and Van Loan, Matrix Computations, algorithm 4.6.2. */
void pipe_solver_weights(const double *u, const double *moment, size_t n, double *weight)
{
    for (size_t k = 0; k < n; k++)
        weight[k] = moment[k];
    for (size_t k = 0; k + 1 < n; k++)
        for (size_t i = n - 1; i > k; i--)
            weight[i] -= u[k] * weight[i - 1];
    for (size_t k = n - 1; k-- > 0;) {
        for (size_t i = k + 1; i < n; i++)
            weight[i] /= u[i] - u[i - k - 1];
        for (size_t i = k; i + 1 < n; i++)
            weight[i] -= weight[i + 1];
    }
}

pipe_tensor *pipe_linear(const double *c, pipe_tensor *const *t, size_t n)
{
    pipe_tensor *sum = NULL;

    for (size_t k = 0; k < n; k++) {
        if (!isfinite(c[k]))
            return pipe_poison(pipe_tensor_engine(t[k]), PIPE_EDOMAIN, "a coefficient of the step is %g",
                               c[k]);
        if (c[k] != 0.0)
            sum = sum ? pipe_axpby(1.0, sum, c[k], t[k]) : pipe_scale(t[k], c[k]);
    }
    return sum ? sum : pipe_zeros_like(t[0]);
}

const double pipe_adams_bashforth[10] = {
    1.0, /* one value */
    3.0 / 2.0,   -1.0 / 2.0, /* two */
    23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0, /* three */
    55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0, /* four */
};

/* ---- one update ---- */
/* From grid point i to j, through values at the grid points at[0 ... out.n - 1]. */
typedef struct update {
    const pipe_multistep *m;
    const pipe_sampling *s;
    size_t i, j;
    size_t at[PIPE_SOLVER_VALUES];
    double eta;
    pipe_multistep_update out;
} update;

static double ratio(const pipe_sampling *s, size_t i)
{
    return s->sigma[i] / s->alpha[i];
}

/* The variable in which values are interpolated, at grid point k. */
static double position(const update *p, size_t k)
{
    switch (p->m->form) {
    case PIPE_SOLVER_RHO:
        return ratio(p->s, k);
    case PIPE_SOLVER_TIME:
        return p->s->t[k];
    default:
        return p->s->lambda[k];
    }
}

/* integral of w^n d rho from t_i to t_j, w = (t - t_i) / (t_j - t_i): by parts, so
 * that rho is needed and not its derivative, which tables have with jumps. */
static double time_moment(const update *p, size_t n)
{
    enum { PANELS = 32 };
    static const double node[] = {0.06943184420297371, 0.33000947820757187, 0.66999052179242813,
                                  0.93056815579702629}; /* Gauss and Legendre, on [0, 1] */
    static const double weight[] = {0.17392742256872693, 0.32607257743127307, 0.32607257743127307,
                                    0.17392742256872693};
    const double from = p->s->t[p->i], to = p->s->t[p->j];
    double integral = 0.0;

    if (n == 0)
        return ratio(p->s, p->j) - ratio(p->s, p->i);
    for (int panel = 0; panel < PANELS; panel++)
        for (int k = 0; k < 4; k++) {
            const double w = (panel + node[k]) / PANELS;
            const pipe_schedule_point q = pipe_schedule_at(p->s->schedule, from + w * (to - from));
            integral += weight[k] / PANELS * pow(w, (double)n - 1.0) * q.sigma / q.alpha;
        }
    return ratio(p->s, p->j) - (double)n * integral;
}

/* The moments of the linear part, and the coefficients of x and z. */
static void exponential(update *p, double *moment)
{
    const pipe_sampling *s = p->s;
    const int64_t slope = p->out.n == 2 ? p->m->weights : PIPE_SOLVER_SLOPE_EXACT;
    const int64_t curve = p->out.n == 3 ? p->m->compat : PIPE_SOLVER_CURVE_EXACT;
    const double h = s->lambda[p->j] - s->lambda[p->i];
    const bool data = p->m->form == PIPE_SOLVER_DATA, random = p->eta > 0.0 && s->sigma[p->j] > 0.0;
    const double eta = random ? p->eta : 0.0, H = (1.0 + eta) * h;
    double factor;

    if (data) {
        pipe_solver_data_moments(H, p->out.n, moment);
        factor = s->alpha[p->j];
        p->out.x = s->sigma[p->j] / s->sigma[p->i] * (random ? exp(-eta * h) : 1.0);
        p->out.noise = random ? s->sigma[p->j] * sqrt(-expm1(-2.0 * eta * h)) : 0.0;
    } else {
        pipe_solver_noise_moments(h, p->out.n, moment);
        factor = -(1.0 + eta) * s->alpha[p->j] * ratio(s, p->i);
        p->out.x = s->alpha[p->j] / s->alpha[p->i];
        p->out.noise = random ? s->sigma[p->j] * sqrt(eta * expm1(2.0 * h)) : 0.0;
    }
    if (slope == PIPE_SOLVER_SLOPE_MIDPOINT)
        moment[1] = 0.5 * moment[0];
    else if (slope == PIPE_SOLVER_SLOPE_LINEAR)
        moment[1] = data ? 0.5 * H : 0.5 * h * exp(-h);
    if (curve != PIPE_SOLVER_CURVE_EXACT)
        moment[2] = 0.5 * moment[2] - (curve == PIPE_SOLVER_CURVE_SIGN ? 1.0 : 0.0);
    for (size_t k = 0; k < p->out.n; k++)
        moment[k] *= factor;
}

/* The moments of the integral in rho or in t, and the coefficient of x. */
static void polynomial(update *p, double *moment)
{
    const pipe_sampling *s = p->s;

    for (size_t k = 0; k < p->out.n; k++)
        moment[k] = s->alpha[p->j] * (p->m->form == PIPE_SOLVER_TIME
                                          ? time_moment(p, k)
                                          : (ratio(s, p->j) - ratio(s, p->i)) / (double)(k + 1));
    p->out.x = s->alpha[p->j] / s->alpha[p->i];
    p->out.noise = 0.0;
}

static void coefficients(update *p)
{
    double moment[PIPE_SOLVER_VALUES], u[PIPE_SOLVER_VALUES];
    const double from = position(p, p->i), length = position(p, p->j) - from;

    if (p->m->form == PIPE_SOLVER_DATA || p->m->form == PIPE_SOLVER_NOISE)
        exponential(p, moment);
    else
        polynomial(p, moment);
    if (p->m->fixed) {
        for (size_t k = 0; k < p->out.n; k++)
            p->out.value[k] = moment[0] * p->m->fixed[p->out.n * (p->out.n - 1) / 2 + k];
        return;
    }
    for (size_t k = 0; k < p->out.n; k++)
        u[k] = (position(p, p->at[k]) - from) / length;
    pipe_solver_weights(u, moment, p->out.n, p->out.value);
}

static pipe_tensor *apply(const pipe_multistep_update *u, pipe_tensor *x, pipe_tensor *const *value,
                          double noise, pipe_tensor *z)
{
    double c[PIPE_SOLVER_VALUES + 2];
    pipe_tensor *t[PIPE_SOLVER_VALUES + 2];
    size_t n = 0;

    t[n] = x;
    c[n++] = u->x;
    for (size_t k = 0; k < u->n; k++) {
        t[n] = value[k];
        c[n++] = u->value[k];
    }
    if (z) {
        t[n] = z;
        c[n++] = u->noise * noise;
    }
    return pipe_linear(c, t, n);
}

/* ---- the multistep solver ---- */
static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* How many of n values can be interpolated between i and j. */
static size_t usable(const update *p, size_t n)
{
    if (p->m->form != PIPE_SOLVER_DATA && p->m->form != PIPE_SOLVER_NOISE)
        return n;
    if (isinf(p->s->lambda[p->j]))
        return 1;
    while (n > 1 && isinf(p->s->lambda[p->at[n - 1]])) /* a start at alpha = 0 */
        n--;
    return n;
}

pipe_multistep_update pipe_multistep_predictor(const pipe_multistep *m, const pipe_sampling *s)
{
    update p = {.m = m, .s = s, .i = s->i, .j = s->i + 1, .eta = m->eta};
    size_t n = smaller((size_t)m->predictor, m->known);

    if (m->lower_order_final)
        n = smaller(n, s->steps - s->i);
    for (size_t k = 0; k < n; k++)
        p.at[k] = m->point[k];
    p.out.n = usable(&p, n);
    coefficients(&p);
    return p.out;
}

pipe_multistep_update pipe_multistep_corrector(const pipe_multistep *m, const pipe_sampling *s)
{
    update p = {.m = m, .s = s, .i = s->i - 1, .j = s->i, .eta = m->last_eta};
    size_t n = smaller((size_t)m->corrector, m->known + 1);

    if (m->lower_order_final)
        n = smaller(n, s->steps - s->i + 2);
    p.at[0] = s->i;
    for (size_t k = 1; k < n; k++)
        p.at[k] = m->point[k - 1];
    p.out.n = usable(&p, n);
    coefficients(&p);
    return p.out;
}

void pipe_multistep_remember(pipe_multistep *m, pipe_tensor *value, size_t point)
{
    pipe_keep(&m->value[PIPE_SOLVER_VALUES - 1], NULL);
    for (size_t k = PIPE_SOLVER_VALUES - 1; k > 0; k--) {
        m->value[k] = m->value[k - 1]; /* the slots move with what they keep */
        m->point[k] = m->point[k - 1];
    }
    m->value[0] = NULL;
    pipe_keep(&m->value[0], value);
    m->point[0] = point;
    m->known = smaller(m->known + 1, PIPE_SOLVER_VALUES);
}

/* x at grid point s->i once more, now that the value there is known. */
static pipe_tensor *corrected(const pipe_multistep *m, const pipe_sampling *s, pipe_tensor *value)
{
    const pipe_multistep_update u = pipe_multistep_corrector(m, s);
    pipe_tensor *values[PIPE_SOLVER_VALUES] = {value};

    for (size_t k = 1; k < u.n; k++)
        values[k] = m->value[k - 1];
    return apply(&u, m->from, values, m->noise, m->z);
}

/* z of the step from s->i: of a path on the clock under which the Ito integral of
 * the form is a plain increment. */
static pipe_tensor *step_noise(const pipe_multistep *m, pipe_sampling *s)
{
    if (!m->path)
        return pipe_sampling_noise(s, 0);
    return pipe_sampling_brownian(s, 0, ratio(s, s->i), ratio(s, s->i + 1),
                                  m->form == PIPE_SOLVER_DATA ? -2.0 * m->eta : 2.0);
}

static pipe_tensor *predicted(pipe_multistep *m, pipe_sampling *s)
{
    const pipe_multistep_update u = pipe_multistep_predictor(m, s);

    pipe_keep(&m->z, u.noise > 0.0 ? step_noise(m, s) : NULL);
    pipe_keep(&m->from, m->corrector > 0 ? s->x : NULL);
    m->last_eta = m->eta;
    return apply(&u, s->x, m->value, m->noise, m->z);
}

/* Where alpha is 0, rho is infinite and eps does not determine x0: the step of one
 * value in x0, which is the same there. */
static pipe_tensor *away_from_pure_noise(pipe_multistep *m, pipe_sampling *s)
{
    const pipe_multistep first = {.form = PIPE_SOLVER_DATA, .predictor = 1, .known = 1, .eta = m->eta};
    const pipe_multistep_update u = pipe_multistep_predictor(&first, s);
    pipe_tensor *x0 = pipe_predict_x0(s, s->x);

    if (m->fixed) /* needs no node at infinity: eps there is x / sigma */
        pipe_multistep_remember(m, pipe_scale(s->x, 1.0 / s->sigma[s->i]), s->i);
    return apply(&u, s->x, &x0, m->noise, u.noise > 0.0 ? pipe_sampling_noise(s, 0) : NULL);
}

pipe_status pipe_multistep_step(pipe_multistep *m, pipe_sampling *s, pipe_error *err)
{
    pipe_tensor *value;

    if (m->form != PIPE_SOLVER_DATA && !(s->alpha[s->i] > 0.0)) {
        s->x = away_from_pure_noise(m, s);
        return pipe_check(s->x, err);
    }
    value = m->form == PIPE_SOLVER_DATA ? pipe_predict_x0(s, s->x) : pipe_predict_eps(s, s->x);
    if (m->from && s->alpha[s->i - 1] > 0.0)
        s->x = corrected(m, s, value);
    pipe_multistep_remember(m, value, s->i);
    s->x = predicted(m, s);
    return pipe_check(s->x, err);
}

void pipe_multistep_clear(pipe_multistep *m)
{
    for (size_t k = 0; k < PIPE_SOLVER_VALUES; k++)
        pipe_keep(&m->value[k], NULL);
    pipe_keep(&m->from, NULL);
    pipe_keep(&m->z, NULL);
    m->known = 0;
}

pipe_status pipe_multistep_state_begin(void *self, pipe_sampling *s, pipe_error *err)
{
    (void)s;
    (void)err;
    pipe_multistep_clear(self);
    return PIPE_OK;
}

pipe_status pipe_multistep_state_step(void *self, pipe_sampling *s, pipe_error *err)
{
    return pipe_multistep_step(self, s, err);
}

void pipe_multistep_state_end(void *self)
{
    pipe_multistep_clear(self);
}
