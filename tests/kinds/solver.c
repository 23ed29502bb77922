/* The multistep solvers in double precision on the host: their coefficients are
 * doubles, so that values and orders of convergence can be checked far below what
 * single-precision samples show (those are compared with diffusers elsewhere).
 * Expected values: computed independently in double precision. */
#include "support/objects.h"

#include <pipe/solver.h>

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { STEPS_MAX = 640 };

/* ---- a path: rho falls from rho[0] to rho[steps], under a family of schedules ---- */
enum { VE, VP, FLOW };

typedef struct {
    size_t steps;
    int family;
    double alpha[STEPS_MAX + 1], sigma[STEPS_MAX + 1], lambda[STEPS_MAX + 1];
} path;

static void path_set(path *p, size_t i, double rho)
{
    p->alpha[i] = p->family == VE ? 1.0 : p->family == VP ? 1.0 / sqrt(1.0 + rho * rho) : 1.0 / (1.0 + rho);
    p->sigma[i] = rho * p->alpha[i];
    p->lambda[i] = -log(rho);
}

/* Karras et al. 2022: n points from 80 to 0.002, then 0. */
static void path_karras(path *p, size_t n, int family)
{
    *p = (path){.steps = n, .family = family};
    for (size_t i = 0; i < n; i++) {
        const double r = (double)i / (double)(n - 1), a = pow(80.0, 1.0 / 7.0), b = pow(0.002, 1.0 / 7.0);
        path_set(p, i, pow(a + r * (b - a), 7.0));
    }
    path_set(p, n, 0.0);
}

static void path_geometric(path *p, size_t n, double from, double to)
{
    *p = (path){.steps = n, .family = VE};
    for (size_t i = 0; i <= n; i++)
        path_set(p, i, from * pow(to / from, (double)i / (double)n));
}

/* ---- denoisers of one number: E[x0 | x] at (alpha, sigma) ---- */
typedef double (*denoiser)(double x, double alpha, double sigma);

static double of_gaussian(double x, double alpha, double sigma) /* variance 1/4 */
{
    return 0.25 * alpha * x / (0.25 * alpha * alpha + sigma * sigma);
}

static double of_mixture(double x, double alpha, double sigma)
{
    static const double mean[] = {-1.0, 0.6}, variance[] = {0.04, 0.09}, weight[] = {0.4, 0.6};
    double sum = 0.0, x0 = 0.0;

    for (int k = 0; k < 2; k++) {
        const double v = alpha * alpha * variance[k] + sigma * sigma, away = x - alpha * mean[k];
        const double share = weight[k] / sqrt(v) * exp(-0.5 * away * away / v);
        sum += share;
        x0 += share * (mean[k] + alpha * variance[k] / v * away);
    }
    return x0 / sum;
}

/* ---- the solver's coefficients, run on doubles ---- */
static double value_of(const pipe_multistep *m, const path *p, size_t i, double x, denoiser d)
{
    const double x0 = d(x, p->alpha[i], p->sigma[i]);

    return m->form == PIPE_SOLVER_DATA ? x0 : (x - p->alpha[i] * x0) / p->sigma[i];
}

static void push(pipe_multistep *m, double *values, double value, size_t point)
{
    memmove(values + 1, values, (PIPE_SOLVER_VALUES - 1) * sizeof *values);
    memmove(m->point + 1, m->point, (PIPE_SOLVER_VALUES - 1) * sizeof *m->point);
    values[0] = value;
    m->point[0] = point;
    if (m->known < PIPE_SOLVER_VALUES)
        m->known++;
}

static double combined(const pipe_multistep_update *u, double x, const double *values, double z)
{
    double sum = u->x * x + u->noise * z;

    for (size_t k = 0; k < u->n; k++)
        sum += u->value[k] * values[k];
    return sum;
}

/* x / alpha at the end.  noise[i]: of step i; start[i]: x at point i + 1 in place of
 * what the first two steps give; both may be NULL. */
static double run(pipe_multistep m, const path *p, double x, denoiser d, const double *noise,
                  const double *start)
{
    pipe_sampling s = {
        .size = sizeof s, .steps = p->steps, .alpha = p->alpha, .sigma = p->sigma, .lambda = p->lambda};
    double values[PIPE_SOLVER_VALUES] = {0}, all[PIPE_SOLVER_VALUES], from = 0.0, z = 0.0;

    m.known = 0;
    x *= p->alpha[0];
    for (s.i = 0; s.i < s.steps; s.i++) {
        const double value = value_of(&m, p, s.i, x, d);
        if (m.corrector > 0 && s.i > (start ? 2 : 0)) {
            const pipe_multistep_update u = pipe_multistep_corrector(&m, &s);
            all[0] = value;
            memcpy(all + 1, values, (PIPE_SOLVER_VALUES - 1) * sizeof *all);
            x = combined(&u, from, all, z);
        }
        push(&m, values, value, s.i);
        const pipe_multistep_update u = pipe_multistep_predictor(&m, &s);
        from = x;
        z = noise ? noise[s.i] : 0.0;
        m.last_eta = m.eta;
        x = start && s.i < 2 ? start[s.i] : combined(&u, x, values, z);
    }
    return x / p->alpha[p->steps];
}

/* The solver of a sampler's plugin with some parameters: "key=value key=value". */
static pipe_multistep solver_of(const char *name, const char *params)
{
    static char text[256];
    const char *list[16] = {NULL};
    size_t n = 0;

    snprintf(text, sizeof text, "%s", params);
    for (char *at = text; *at && n + 2 < sizeof list / sizeof *list;) {
        char *value = strchr(at, '='), *end = strchr(at, ' ');
        cr_assert(value);
        *value++ = '\0';
        list[n++] = at;
        list[n++] = value;
        at = end ? end + 1 : at + strlen(at);
        if (end) {
            *end = '\0';
            continue;
        }
        break;
    }
    return *(const pipe_multistep *)pipe_object_state(test_object("sampler", name, list, NULL));
}

/* ---- moments ---- */
/* By Simpson's rule on a fine grid. */
static double moment_by_quadrature(double h, size_t n, bool data)
{
    enum { PANELS = 20000 };
    double sum = 0.0;

    for (int k = 0; k <= PANELS; k++) {
        const double u = (double)k / PANELS, f = exp(data ? -h * (1.0 - u) : -h * u) * pow(u, (double)n);
        sum += (k == 0 || k == PANELS ? 1.0 : k % 2 ? 4.0 : 2.0) * f;
    }
    return h * sum / (3.0 * PANELS);
}

Test(solver, moments_are_the_integrals)
{
    static const double steps[] = {1e-12, 1e-4, 0.0099, 0.3, 1.999, 2.001, 7.0, 20.0, -0.4, -3.0};
    double moment[PIPE_SOLVER_VALUES];

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        for (int data = 0; data < 2; data++) {
            if (data)
                pipe_solver_data_moments(steps[i], PIPE_SOLVER_VALUES, moment);
            else
                pipe_solver_noise_moments(steps[i], PIPE_SOLVER_VALUES, moment);
            for (size_t n = 0; n < PIPE_SOLVER_VALUES; n++) {
                const double want = moment_by_quadrature(steps[i], n, data);
                cr_expect_float_eq(moment[n], want, 1e-10 * fabs(want),
                                   "%s moment %zu of %g: %.15g, not %.15g", data ? "data" : "noise", n,
                                   steps[i], moment[n], want);
            }
        }
    pipe_solver_data_moments(INFINITY, 3, moment);
    cr_expect(moment[0] == 1.0 && moment[1] == 1.0 && moment[2] == 1.0);
    pipe_solver_noise_moments(INFINITY, 3, moment);
    cr_expect(moment[0] == 1.0 && moment[1] == 0.0 && moment[2] == 0.0);
}

/* With the moments of plain integration, polynomials below degree n are integrated exactly. */
Test(solver, weights_are_exact_on_polynomials)
{
    static const double u[] = {0.0, -1.3, -2.1, -4.0, 1.0, -5.5, 0.4, -0.2};

    for (size_t n = 1; n <= PIPE_SOLVER_VALUES; n++) {
        double moment[PIPE_SOLVER_VALUES], weight[PIPE_SOLVER_VALUES];
        for (size_t k = 0; k < n; k++)
            moment[k] = 1.0 / (double)(k + 1);
        pipe_solver_weights(u, moment, n, weight);
        for (size_t degree = 0; degree < n; degree++) {
            double sum = 0.0, size = 0.0;
            for (size_t k = 0; k < n; k++) {
                sum += weight[k] * pow(u[k], (double)degree);
                size += fabs(weight[k] * pow(u[k], (double)degree));
            }
            cr_expect_float_eq(sum, moment[degree], 1e-10 * (1.0 + size),
                               "%zu nodes, degree %zu: %.15g, not %.15g", n, degree, sum, moment[degree]);
        }
    }
}

/* ---- the end of one path, N(0, 1/4) from x = 80 on 10 Karras steps and 0 ---- */
typedef struct {
    char sampler[40], params[96];
    double end;
} value_case;

static value_case values[] = {
    {"sampler.dpmpp-2m", "weights=midpoint", 0.57938666},
    {"sampler.dpmpp-2m", "weights=exact", 0.67718510},
    {"sampler.dpmpp-3m", "lower_order_final=false", 0.64817843},
    {"sampler.dpmpp-3m", "lower_order_final=false compat=released", 0.65085826},
    {"sampler.deis", "order=2 lower_order_final=false", 0.45362570},
    {"sampler.deis", "order=3 lower_order_final=false", 0.49768731},
    {"sampler.unipc", "order=2 weights=bh2", 0.59493353},
    {"sampler.unipc", "order=2 weights=bh1", 1.13726674},
    {"sampler.unipc", "order=3", 0.74174098},
    {"sampler.unipc", "order=2 weights=bh2 corrector=false", 0.57938666}, /* is 2M with the midpoint weight */
    {"sampler.lms", "", 0.41326022},
    {"sampler.ipndm", "", 0.53182971},
    {"sampler.deis", "variable=rho order=4 lower_order_final=false", 0.41326022}, /* is LMS */
};

ParameterizedTestParameters(solver, has_its_value)
{
    return cr_make_param_array(value_case, values, sizeof values / sizeof *values);
}

ParameterizedTest(value_case *c, solver, has_its_value)
{
    static path p;

    for (int family = VE; family <= FLOW; family++) {
        path_karras(&p, 10, family);
        const double end = run(solver_of(c->sampler, c->params), &p, 80.0, of_gaussian, NULL, NULL);
        /* in x / alpha a solver does not know under which schedule it works */
        cr_expect_float_eq(end, c->end, 1e-7, "%s %s, family %d: %.9f, not %.9f", c->sampler, c->params,
                           family, end, c->end);
    }
}

/* ---- variances ---- */
typedef struct {
    char sampler[40], params[96];
    double variance[3]; /* after 10, 20, 200 steps */
} variance_case;

static variance_case variances[] = {
    {"sampler.sa-solver", "predictor=1 corrector=0", {0.091133, 0.143096, 0.235349}}, /* = DDPM */
    {"sampler.dpmpp-2m-sde", "weights=midpoint", {0.340371, 0.309046, 0.250482}},
    {"sampler.dpmpp-2m-sde", "weights=exact", {0.749108, 0.416593, 0.250819}},
};

ParameterizedTestParameters(solver, has_its_variance)
{
    return cr_make_param_array(variance_case, variances, sizeof variances / sizeof *variances);
}

/* All is linear: the end is a combination of the start, of variance 6400, and of each step's noise. */
ParameterizedTest(variance_case *c, solver, has_its_variance)
{
    static const size_t steps[] = {10, 20, 200};
    static path p;
    pipe_multistep m = solver_of(c->sampler, c->params);

    m.eta = 1.0;
    for (int k = 0; k < 3; k++) {
        static double noise[STEPS_MAX];
        path_karras(&p, steps[k], VE);
        double variance = 6400.0 * pow(run(m, &p, 1.0, of_gaussian, NULL, NULL), 2.0);
        for (size_t i = 0; i < steps[k]; i++) {
            noise[i] = 1.0;
            variance += pow(run(m, &p, 0.0, of_gaussian, noise, NULL), 2.0);
            noise[i] = 0.0;
        }
        cr_expect_float_eq(variance, c->variance[k], 1e-6, "%s %s, %zu steps: %.7f, not %.7f", c->sampler,
                           c->params, steps[k], variance, c->variance[k]);
    }
}

/* ---- orders of convergence ---- */
typedef struct {
    char sampler[40], params[96];
    double from; /* rho at the start */
    bool exact_start; /* what a solver of three values needs: its own first steps are of second order */
    double low, high; /* of the slope from 80 to 320 steps */
} order_case;

static order_case orders[] = {
    {"sampler.dpmpp-2m", "weights=midpoint", 10, false, 1.85, 2.15},
    {"sampler.dpmpp-2m", "weights=exact", 10, false, 1.85, 2.15},
    {"sampler.dpmpp-3m", "lower_order_final=false", 3, true, 2.85, 3.6},
    {"sampler.dpmpp-3m", "lower_order_final=false compat=released", 3, true, 1.85, 2.3},
    {"sampler.dpm-solver", "order=1", 10, false, 0.85, 1.15},
    {"sampler.dpm-solver", "order=2", 10, false, 1.85, 2.15},
    {"sampler.dpm-solver", "order=2 weights=exact", 10, false, 1.85, 2.15},
    {"sampler.dpm-solver", "order=3 lower_order_final=false", 3, true, 2.85, 3.15},
    {"sampler.dpm-solver", "order=3 lower_order_final=false compat=released", 3, true, 1.85, 2.3},
    {"sampler.deis", "order=2", 10, false, 1.85, 2.15},
    {"sampler.deis", "order=2 variable=rho", 10, false, 1.85, 2.15},
    {"sampler.unipc", "order=1", 10, false, 1.85, 2.15},
    {"sampler.unipc", "order=2 weights=bh2 lower_order_final=false", 10, false, 2.85, 3.15},
    {"sampler.unipc", "order=2 weights=exact lower_order_final=false", 10, false, 2.85, 3.15},
    {"sampler.unipc", "order=2 corrector=false", 10, false, 1.85, 2.15},
    {"sampler.unipc", "order=3 lower_order_final=false", 10, false, 3.6, 4.15},
    {"sampler.unipc", "order=3 predict=eps lower_order_final=false", 3, true, 3.6, 4.4},
};

ParameterizedTestParameters(solver, converges_with_its_order)
{
    return cr_make_param_array(order_case, orders, sizeof orders / sizeof *orders);
}

/* The mixture's exact flow, as good as 640 steps of a higher order. */
static double flowed(double x, double from, double to)
{
    static path p;

    path_geometric(&p, STEPS_MAX, from, to);
    return run(solver_of("sampler.unipc", "order=4 lower_order_final=false"), &p, x, of_mixture, NULL, NULL);
}

/* The worst error of three paths with `steps` steps: that of one may pass through 0. */
static double worst_error(const order_case *c, const pipe_multistep *m, size_t steps)
{
    static const double at[] = {0.7, -0.45, 0.2};
    static path p;
    double worst = 0.0, start[2];

    for (int k = 0; k < 3; k++) {
        const double x = at[k] * c->from;
        path_geometric(&p, steps, c->from, 0.1);
        for (int i = 0; i < 2; i++)
            start[i] = flowed(x, c->from, p.sigma[i + 1]);
        const double end = run(*m, &p, x, of_mixture, NULL, c->exact_start ? start : NULL);
        worst = fmax(worst, fabs(end - flowed(x, c->from, 0.1)));
    }
    return worst;
}

ParameterizedTest(order_case *c, solver, converges_with_its_order)
{
    const pipe_multistep m = solver_of(c->sampler, c->params);
    const double coarse = worst_error(c, &m, 80), fine = worst_error(c, &m, 320);
    const double slope = log(coarse / fine) / log(4.0);

    cr_expect(slope >= c->low && slope <= c->high, "%s %s: order %.2f, not %.2f to %.2f (errors %g, %g)",
              c->sampler, c->params, slope, c->low, c->high, coarse, fine);
    cr_log_info("%s %s: order %.2f", c->sampler, c->params, slope);
}
