/* Schedules: every one is a schedule (the properties that all have), and has the
 * values of its definition. */
#include "support/objects.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <string.h>

typedef struct {
    char name[32], key[16], value[16];
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
        {"schedule.cosine", "", "", "defaults"},
        {"schedule.cosine", "timesteps", "37", "a short table"},
        {"schedule.flow", "", "", "no shift"},
        {"schedule.flow", "shift", "3", "shifted"},
        {"schedule.flow", "shift", "0.5", "shifted the other way"},
    };
    return cr_make_param_array(schedule_case, cases, sizeof cases / sizeof *cases);
}

/* lambda falls, its inverse inverts, derivatives are those of alpha and sigma, t = 0 is clean data. */
ParameterizedTest(schedule_case *c, schedule, properties)
{
    pipe_object *s = make(c);
    pipe_schedule_info info;
    pipe_error err = PIPE_ERROR_INIT;
    double before = INFINITY;

    OK(pipe_schedule_describe(s, &info, &err));
    pipe_schedule_point p = pipe_schedule_at(s, info.t_min);
    cr_expect_float_eq(p.alpha, 1.0, 1e-12, "%s", c->why);
    cr_expect_float_eq(p.sigma, 0.0, 1e-12, "%s", c->why);
    for (int k = 1; k < 400; k++) {
        const double t = info.t_min + (info.t_max - info.t_min) * ((double)k + 0.317) / 400.0, h = 1e-7;
        const double lambda = pipe_schedule_lambda(s, t);
        cr_expect(lambda < before, "%s %s: lambda(%g) = %g after %g", c->name, c->why, t, lambda, before);
        before = lambda;
        cr_expect_float_eq(pipe_schedule_time_of(s, lambda), t, 1e-9, "%s %s: inverse at %g", c->name, c->why,
                           t);
        const pipe_schedule_point a = pipe_schedule_at(s, t - h), b = pipe_schedule_at(s, t + h);
        p = pipe_schedule_at(s, t);
        cr_expect_float_eq(p.dalpha, (b.alpha - a.alpha) / (2 * h), 1e-5 * (1 + fabs(p.dalpha)),
                           "%s %s: alpha' at %g", c->name, c->why, t);
        cr_expect_float_eq(p.dsigma, (b.sigma - a.sigma) / (2 * h), 1e-5 * (1 + fabs(p.dsigma)),
                           "%s %s: sigma' at %g", c->name, c->why, t);
    }
    pipe_object_unref(s);
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
