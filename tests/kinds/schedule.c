/* Schedules: every one is a schedule (the properties that all have), and has the
 * values of its definition. */
#include "support/objects.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
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
    float x0[N * D], eps[N * D], want[6][N * D], x[N * D], got[N * D];

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
        }
        for (int from = 0; from < 6; from++)
            for (int to = 0; to < 6; to++) {
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
