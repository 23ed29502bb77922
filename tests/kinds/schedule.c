/* Schedules: every one is a schedule (the properties that all have), and has the
 * values of its definition. */
#include "support/folder.h"
#include "support/objects.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <pipe/io.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    char name[40], key[20], value[16];
    const char *why;
} schedule_case;

static pipe_object *make(const schedule_case *c)
{
    const char *const params[] = {c->key, c->value, NULL};
    return test_object("schedule", c->name, *c->key ? params : NULL, NULL);
}

ParameterizedTestParameters(schedule, properties)
{
    static schedule_case cases[] = {
        {"schedule.linear", "", "", "defaults"},
        {"schedule.linear", "timesteps", "2", "the shortest table"},
        {"schedule.linear", "zero_terminal_snr", "true", "alpha 0 at the end"},
        {"schedule.scaled-linear", "", "", "defaults"},
        {"schedule.scaled-linear", "zero_terminal_snr", "true", "alpha 0 at the end"},
        {"schedule.cosine", "", "", "defaults"},
        {"schedule.cosine", "timesteps", "37", "a short table"},
        {"schedule.sigmoid", "", "", "defaults"},
        {"schedule.sigmoid-continuous", "", "", "defaults"},
        {"schedule.sigmoid-continuous", "temperature", "0.3", "steep"},
        {"schedule.exponential", "", "", "defaults"},
        {"schedule.laplace", "", "", "defaults"},
        {"schedule.edm", "", "", "defaults"},
        {"schedule.ve", "", "", "defaults"},
        {"schedule.vp", "", "", "defaults"},
        {"schedule.sub-vp", "", "", "defaults"},
        {"schedule.trigflow", "", "", "defaults"},
        {"schedule.flow", "", "", "no shift"},
        {"schedule.flow", "shift", "3", "shifted"},
        {"schedule.flow", "shift", "0.5", "shifted the other way"},
        {"schedule.flow", "tokens", "4096", "shifted by resolution"},
    };
    return cr_make_param_array(schedule_case, cases, sizeof cases / sizeof *cases);
}

/* Central differences over h, with the error of the next order taken off (Richardson). */
static void slopes(pipe_object *s, double t, double h, double *dalpha, double *dsigma)
{
    double a[2], g[2];

    for (int k = 0; k < 2; k++) {
        const double step = k ? 0.5 * h : h;
        const pipe_schedule_point p = pipe_schedule_at(s, t - step), q = pipe_schedule_at(s, t + step);
        a[k] = (q.alpha - p.alpha) / (2.0 * step);
        g[k] = (q.sigma - p.sigma) / (2.0 * step);
    }
    *dalpha = (4.0 * a[1] - a[0]) / 3.0;
    *dsigma = (4.0 * g[1] - g[0]) / 3.0;
}

/* lambda falls, its inverse inverts, derivatives are those of alpha and sigma, t_min is clean data (but for
 * VE). */
ParameterizedTest(schedule_case *c, schedule, properties)
{
    pipe_object *s = make(c);
    pipe_schedule_info info;
    pipe_error err = PIPE_ERROR_INIT;
    double before = INFINITY, dalpha, dsigma;

    OK(pipe_schedule_describe(s, &info, &err));
    const double range = info.t_max - info.t_min, h = 1e-5 * range;
    pipe_schedule_point p = pipe_schedule_at(s, info.t_min);
    cr_expect_float_eq(p.alpha, 1.0, 1e-12, "%s", c->why);
    cr_expect_float_eq(p.sigma, strcmp(c->name, "schedule.ve") == 0 ? 0.01 : 0.0, 1e-12, "%s", c->why);
    for (int k = 1; k < 400; k++) {
        const double t = info.t_min + range * ((double)k + 0.317) / 400.0;
        const double lambda = pipe_schedule_lambda(s, t);
        cr_expect(lambda < before, "%s %s: lambda(%g) = %g after %g", c->name, c->why, t, lambda, before);
        before = lambda;
        cr_expect_float_eq(pipe_schedule_time_of(s, lambda), t, 1e-9 * range, "%s %s: inverse at %g", c->name,
                           c->why, t);
        p = pipe_schedule_at(s, t);
        slopes(s, t, h, &dalpha, &dsigma);
        cr_expect_float_eq(p.dalpha, dalpha, 1e-6 * (1 + fabs(p.dalpha)), "%s %s: alpha' at %g is %g, not %g",
                           c->name, c->why, t, p.dalpha, dalpha);
        cr_expect_float_eq(p.dsigma, dsigma, 1e-6 * (1 + fabs(p.dsigma)), "%s %s: sigma' at %g is %g, not %g",
                           c->name, c->why, t, p.dsigma, dsigma);
    }
    pipe_object_unref(s);
}

/* ---- values ---- */
typedef struct {
    char name[40], key[20], value[16];
    double bar[3]; /* alpha^2 at steps 0, 499 and 999 */
} bar_case;

ParameterizedTestParameters(schedule, alpha_squared)
{
    static bar_case cases[] = {
        {"schedule.linear", "", "", {0.9999, 0.078587243, 4.0358298e-5}},
        {"schedule.scaled-linear", "", "", {0.99915, 0.27766965, 0.0046600985}},
        {"schedule.scaled-linear", "zero_terminal_snr", "true", {0.99915, 0.24235917, 0.0}},
        {"schedule.cosine", "", "", {0.99995872, 0.49384359, 2.4287669e-9}},
        {"schedule.sigmoid", "", "", {0.99985079, 0.30193106, 3.968182e-5}},
        {"schedule.exponential", "", "", {0.9880717128, 0.002478752177, 6.144212353e-06}},
        {"schedule.laplace", "", "", {0.9788462428, 0.7074601578, 0.0316227766}},
    };
    return cr_make_param_array(bar_case, cases, sizeof cases / sizeof *cases);
}

/* Of the definitions, computed in double precision; of diffusers' schedulers in their f32. */
ParameterizedTest(bar_case *c, schedule, alpha_squared)
{
    const char *const params[] = {c->key, c->value, NULL};
    pipe_object *s = test_object("schedule", c->name, *c->key ? params : NULL, NULL);

    for (int k = 0; k < 3; k++) {
        const double alpha = pipe_schedule_at(s, k == 0 ? 0.001 : 0.5 * k).alpha;
        cr_expect_float_eq(alpha * alpha, c->bar[k], 1e-7 * c->bar[k], "%s: %.9g, not %.9g", c->name,
                           alpha * alpha, c->bar[k]);
    }
    pipe_object_unref(s);
}

Test(schedule, continuous_values)
{
    static const struct {
        const char *name, *key, *value;
        double t, alpha, sigma;
    } cases[] = {
        {"schedule.vp", NULL, NULL, 0.5, 0.28118288, 0.95965420},
        {"schedule.sub-vp", NULL, NULL, 0.5, 0.28118288, 0.92093619},
        {"schedule.flow", "shift", "3", 0.5, 0.25, 0.75},
        {"schedule.flow", "tokens", "256", 0.5, 0.37754067, 0.62245933}, /* 1 / (1 + e^mu), mu = 0.5 */
        {"schedule.flow", "tokens", "4096", 0.5, 0.24048908, 0.75951092}, /* mu = 1.15 */
        {"schedule.edm", NULL, NULL, 3.5, 1.0, 3.5},
        {"schedule.ve", NULL, NULL, 0.5, 1.0, 3.6715120},
        {"schedule.trigflow", NULL, NULL, 0.5, 0.87758256, 0.23971277},
        {"schedule.sigmoid-continuous", NULL, NULL, 0.5, 0.70710678, 0.70710678},
        {"schedule.sigmoid-continuous", NULL, NULL, 0.25, 0.92241723, 0.38619484},
    };

    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const char *const params[] = {cases[k].key, cases[k].value, NULL};
        pipe_object *s = test_object("schedule", cases[k].name, params, NULL);
        const pipe_schedule_point p = pipe_schedule_at(s, cases[k].t);
        cr_expect_float_eq(p.alpha, cases[k].alpha, 1e-7, "%s: alpha %.9g", cases[k].name, p.alpha);
        cr_expect_float_eq(p.sigma, cases[k].sigma, 1e-7 * (1 + cases[k].sigma), "%s: sigma %.9g",
                           cases[k].name, p.sigma);
        pipe_object_unref(s);
    }
}

/* At the training steps the linear schedule is the product of its betas (Ho et al. 2020). */
Test(schedule, linear_is_the_product_of_its_betas)
{
    pipe_object *s = test_object("schedule", "schedule.linear", NULL, NULL);
    double bar = 1.0;

    for (int i = 0; i < 1000; i++) {
        const pipe_schedule_point p = pipe_schedule_at(s, (double)(i + 1) / 1000.0);
        bar *= 1.0 - (1e-4 + (0.02 - 1e-4) * (double)i / 999.0);
        cr_expect_float_eq(p.alpha, sqrt(bar), 1e-10, "step %d", i);
        cr_expect_float_eq(p.sigma, sqrt(1.0 - bar), 1e-10, "step %d", i);
    }
    pipe_object_unref(s);
}

Test(schedule, cosine_follows_the_cosine_until_the_cap)
{
    pipe_object *s = test_object("schedule", "schedule.cosine", NULL, NULL);

    for (int i = 0; i < 990; i++) {
        const double t = (double)(i + 1) / 1000.0, pi = 3.14159265358979323846;
        const double want = cos(0.5 * pi * (t + 0.008) / 1.008) / cos(0.5 * pi * 0.008 / 1.008);
        cr_expect_float_eq(pipe_schedule_at(s, t).alpha, want, 1e-9, "step %d", i);
    }
    cr_expect(pipe_schedule_at(s, 1.0).alpha > 0.0, "the cap keeps alpha above 0");
    pipe_object_unref(s);
}

/* Every prediction converts into every other and back, at uniform and at mixed levels. */
Test(schedule, conversions_agree_with_their_definition)
{
    enum { N = 3, D = 4 };
    pipe_object *s = test_object("schedule", "schedule.flow", NULL, NULL);
    pipe_engine *e = test_engine();
    const double t[N] = {0.2, 0.5, 0.9}, sd = 0.5;
    pipe_error err = PIPE_ERROR_INIT;
    float x0[N * D], eps[N * D], want[7][N * D], x[N * D], got[N * D];

    pipe_host_randn((pipe_key){.seed = 1}, x0, N * D);
    pipe_host_randn((pipe_key){.seed = 2}, eps, N * D);
    for (int uniform = 0; uniform < 2; uniform++) {
        for (int i = 0; i < N * D; i++) {
            const pipe_schedule_point p = pipe_schedule_at(s, uniform ? 0.4 : t[i / D]);
            const double a = p.alpha, g = p.sigma, rho = g / a, d = rho * rho + sd * sd;
            x[i] = (float)(a * (double)x0[i] + g * (double)eps[i]);
            want[0][i] = eps[i];
            want[1][i] = x0[i];
            want[2][i] = (float)(a * (double)eps[i] - g * (double)x0[i]);
            want[3][i] = (float)(-(double)eps[i] / g);
            want[4][i] = (float)(p.dalpha * (double)x0[i] + p.dsigma * (double)eps[i]);
            want[5][i] = (float)(((double)x0[i] - sd * sd / d * (double)x[i] / a) / (rho * sd / sqrt(d)));
            /* of TrigFlow's own definition: x there is cos x0 + sin eps' with eps' of the data's deviation */
            const double angle = atan(rho / sd), trig = cos(angle) * (double)x[i] / a;
            want[6][i] = (float)((cos(angle) * trig - (double)x0[i]) / (sin(angle) * sd));
        }
        for (int from = 0; from < 7; from++)
            for (int to = 0; to < 7; to++) {
                const pipe_level l = uniform ? pipe_level_uniform(s, e, N, 0.4) : pipe_level_of(s, e, t, N);
                pipe_tensor *f = pipe_from_f32(e, PIPE_SHAPE(N, D), want[from]);
                pipe_tensor *y = pipe_convert_prediction(f, (pipe_prediction)(from + 1),
                                                         (pipe_prediction)(to + 1),
                                                         pipe_from_f32(e, PIPE_SHAPE(N, D), x), &l, sd);
                OK(pipe_read_f32(y, got, N * D, &err));
                for (int i = 0; i < N * D; i++)
                    cr_expect_float_eq(got[i], want[to][i], 2e-5 * (1 + fabs((double)want[to][i])),
                                       "%s to %s, element %d: %g, not %g", pipe_prediction_names[from],
                                       pipe_prediction_names[to], i, (double)got[i], (double)want[to][i]);
            }
    }
    pipe_object_unref(s);
}

/* There and back is the identity in double precision, through all pairs under all schedules; and an error of
 * what is given becomes one of x0 by the factor of the table of conversions (arXiv:2510.21890). */
Test(schedule, conversions_are_exact)
{
    static const char *const names[] = {
        "linear",  "scaled-linear", "cosine",  "sigmoid", "sigmoid-continuous",
        "laplace", "exponential",   "edm",     "ve",      "vp",
        "sub-vp",  "flow",          "trigflow"};
    const double sd = 0.7;

    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        char name[48];
        pipe_schedule_info info;
        pipe_error err = PIPE_ERROR_INIT;
        snprintf(name, sizeof name, "schedule.%s", names[k]);
        pipe_object *s = test_object("schedule", name, NULL, NULL);
        OK(pipe_schedule_describe(s, &info, &err));
        for (int i = 0; i < 25; i++) {
            const double t = info.t_min + (info.t_max - info.t_min) * (0.02 + 0.04 * i);
            const pipe_schedule_point p = pipe_schedule_at(s, t);
            const double a = p.alpha, g = p.sigma, rho = g / a, w = a * p.dsigma - p.dalpha * g;
            const double out = rho * sd / sqrt(rho * rho + sd * sd);
            const double factor[] = {rho, 1.0, g / (a * a + g * g), g * g / a, g / w, out, out};
            for (int from = PIPE_PREDICT_EPS; from <= PIPE_PREDICT_TRIGFLOW; from++) {
                double x, f;
                pipe_conversion_at((pipe_prediction)from, PIPE_PREDICT_X0, &p, sd, &x, &f);
                cr_expect_float_eq(fabs(f), factor[from - 1], 1e-10 * factor[from - 1], "%s: %s at %g", name,
                                   pipe_prediction_name((pipe_prediction)from), t);
                for (int to = PIPE_PREDICT_EPS; to <= PIPE_PREDICT_TRIGFLOW; to++) {
                    double bx, bf;
                    pipe_conversion_at((pipe_prediction)from, (pipe_prediction)to, &p, sd, &x, &f);
                    pipe_conversion_at((pipe_prediction)to, (pipe_prediction)from, &p, sd, &bx, &bf);
                    cr_expect(fabs(bf * f - 1.0) < 1e-10 && fabs(bx + bf * x) < 1e-10 * (1.0 + fabs(bx)),
                              "%s: %s to %s and back at %g: %.17g F + %.3g x", name,
                              pipe_prediction_name((pipe_prediction)from),
                              pipe_prediction_name((pipe_prediction)to), t, bf * f, bx + bf * x);
                }
            }
        }
        pipe_object_unref(s);
    }
}

/* ---- densities of training times ---- */
Test(schedule, training_times_have_their_quantiles)
{
    const double one = 0.5 * erfc(-sqrt(0.5)),
                 pi = 3.14159265358979323846; /* the normal quantile of `one` is 1 */
    pipe_object *flow = test_object("schedule", "schedule.flow", NULL, NULL),
                *edm = test_object("schedule", "schedule.edm", NULL, NULL);
    const pipe_time_density uniform = {sizeof uniform, PIPE_TIMES_UNIFORM, 0, 1, 0},
                            logit = {sizeof logit, PIPE_TIMES_LOGIT_NORMAL, -0.4, 1.5, 0},
                            mode = {sizeof mode, PIPE_TIMES_MODE, 0, 1, 1.29},
                            karras = {sizeof karras, PIPE_TIMES_LOG_NORMAL, -1.2, 1.2, 0};
    double mean = 0.0, square = 0.0, before = 0.0;

    cr_expect_float_eq(pipe_time_quantile(&uniform, edm, 0.3), 24.0, 1e-12);
    cr_expect_float_eq(pipe_time_quantile(&logit, flow, 0.5), 1.0 / (1.0 + exp(0.4)), 1e-12);
    cr_expect_float_eq(pipe_time_quantile(&logit, flow, one), 1.0 / (1.0 + exp(0.4 - 1.5)), 1e-12);
    cr_expect_float_eq(pipe_time_quantile(&logit, flow, 1.0 - one), 1.0 / (1.0 + exp(0.4 + 1.5)), 1e-12);
    cr_expect_float_eq(pipe_time_quantile(&karras, edm, 0.5), exp(-1.2), 1e-12);
    cr_expect_float_eq(pipe_time_quantile(&karras, edm, one), 1.0, 1e-12);
    cr_expect_eq(pipe_time_quantile(&karras, edm, 1.0), 80.0, "cut off at the schedule's end");
    /* equation 20 of the paper at u: 1 - u - s (cos^2(pi u / 2) - 1 + u), which falls */
    for (int k = 1; k < 100; k++) {
        const double u = k / 100.0, c = cos(0.5 * pi * u), t = pipe_time_quantile(&mode, flow, 1.0 - u);
        cr_expect_float_eq(t, 1.0 - u - 1.29 * (c * c - 1.0 + u), 1e-12);
    }
    for (int k = 0; k < 20000; k++) { /* moments of ln sigma, and that quantiles rise */
        const double t = pipe_time_quantile(&karras, edm, (k + 0.5) / 20000.0);
        cr_expect(t > before);
        before = t;
        mean += log(t) / 20000.0;
        square += log(t) * log(t) / 20000.0;
    }
    cr_expect_float_eq(mean, -1.2, 1e-3);
    cr_expect_float_eq(square - mean * mean, 1.44, 1e-3);
    pipe_object_unref(flow);
    pipe_object_unref(edm);
}

/* ---- tables from files ---- */
static pipe_status table(const char *path, const char *values, const char *zero, pipe_object **out,
                         pipe_error *err)
{
    const char *const params[] = {"path", path, "values", values, "zero_terminal_snr", zero, NULL};
    return test_object_try("schedule", "schedule.table", params, NULL, out, err);
}

/* The values of another schedule, read from each format, give that schedule. */
Test(schedule, a_table_is_the_schedule_it_was_taken_from)
{
    enum { T = 20 };
    const char *const steps[] = {"timesteps", "20", NULL};
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr)
    char *npy = pipe_format("%s/bars.npy", folder),
         *csv = pipe_format("%s/sigmas.csv", folder);
    pipe_object *cosine = test_object("schedule", "schedule.cosine", steps, NULL), *s[3] = {NULL},
                *bad = NULL;
    const char *const column[] = {"sigma"};
    pipe_error err = PIPE_ERROR_INIT;
    double bar[T], sigma[T];

    for (int i = 0; i < T; i++) {
        const pipe_schedule_point p = pipe_schedule_at(cosine, (i + 1.0) / T);
        bar[i] = p.alpha * p.alpha;
        sigma[i] = p.sigma / p.alpha;
    }
    const pipe_array a = pipe_array_view(PIPE_ELEMENT_F64, PIPE_SHAPE(T), bar);
    OK(pipe_npy_write(npy, &a, &err));
    OK(pipe_csv_write(csv, column, sigma, T, 1, &err));
    OK(table(npy, "alphas_cumprod", "false", &s[0], &err));
    OK(table(csv, "sigmas", "false", &s[1], &err));
    OK(table(csv, "sigmas", "true", &s[2], &err));
    for (int i = 1; i <= 200; i++)
        for (int k = 0; k < 2; k++)
            cr_expect_float_eq(pipe_schedule_at(s[k], i / 200.0).alpha,
                               pipe_schedule_at(cosine, i / 200.0).alpha, 1e-9, "file %d", k);
    cr_expect_eq(pipe_schedule_at(s[2], 1.0).alpha, 0.0);
    cr_expect_eq(table(csv, "betas", "false", &bad, &err), PIPE_EDOMAIN);
    cr_expect(strstr(err.message, "sigmas.csv: beta of step") && strstr(err.message, "must lie in (0, 1)"),
              "%s", err.message);
    sigma[7] = sigma[6];
    OK(pipe_csv_write(csv, column, sigma, T, 1, &err));
    cr_expect_eq(table(csv, "sigmas", "false", &bad, &err), PIPE_EDOMAIN);
    cr_expect(strstr(err.message, "of step 7 is") && strstr(err.message, "it must rise"), "%s", err.message);
    for (int k = 0; k < 3; k++)
        pipe_object_unref(s[k]);
    pipe_object_unref(cosine);
}

Test(schedule, an_undetermined_conversion_is_refused)
{
    pipe_object *s = test_object("schedule", "schedule.flow", NULL, NULL);
    pipe_engine *e = test_engine();
    const pipe_level l = pipe_level_uniform(s, e, 1, 1.0); /* alpha = 0 */
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *x = pipe_zeros(e, PIPE_SHAPE(1, 2));

    pipe_tensor *y = pipe_convert_prediction(x, PIPE_PREDICT_EPS, PIPE_PREDICT_X0, x, &l, 0.5);
    cr_expect_eq(pipe_check(y, &err), PIPE_EDOMAIN);
    cr_expect(strstr(err.message, "x0 cannot be had from eps at t = 1"), "%s", err.message);
    y = pipe_convert_prediction(x, PIPE_PREDICT_FLOW, PIPE_PREDICT_X0, x, &l, 0.5);
    cr_expect_eq(pipe_check(y, &err), PIPE_OK, "a velocity determines x0 there");
    pipe_object_unref(s);
}
