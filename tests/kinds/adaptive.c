/* Samplers that choose their steps themselves, on Gaussian data whose exact solution is known; and what these
 * and others refuse. */
#include "support/exploding.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* The error falls with the tolerance, which is allowed for each step. */
Test(adaptive, steps_keep_to_their_tolerance)
{
    static const struct {
        const char *name, *options;
    } cases[] = {{"sampler.dopri5", ""},
                 {"sampler.dopri5", "variable time p 0.2 i 0.8"},
                 {"sampler.dpm-adaptive", ""},
                 {"sampler.dpm-adaptive", "order 2 accept 0.9"}};
    static const double rtol[] = {1e-2, 1e-4};
    const double exact = 10.0 * sqrt((VARIANCE + 0.01) / (VARIANCE + 100.0));
    double rho[GRID_MAX];
    const size_t points = test_ratios(10.0, 0.1, 0.0, 501, false, rho);

    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        double error[2];
        for (int k = 0; k < 2; k++) {
            char options[64];
            snprintf(options, sizeof options, "rtol %g atol %g %s", rtol[k], 0.1 * rtol[k], cases[c].options);
            const double got = test_map(cases[c].name, options, rho, points, 10.0);
            error[k] = fabs(got / exact - 1.0);
            cr_expect_lt(error[k], 20.0 * rtol[k], "%s %s: error %g", cases[c].name, options, error[k]);
        }
        cr_expect_lt(error[1], 0.2 * error[0], "%s %s: errors %g and %g", cases[c].name, cases[c].options,
                     error[0], error[1]);
    }
}

/* Only the ends of the grid count, and its clean end. */
Test(adaptive, steps_ignore_the_points_between)
{
    static const char *const names[] = {"sampler.dopri5", "sampler.dpm-adaptive"};
    double fine[GRID_MAX], coarse[GRID_MAX];
    const size_t many = test_ratios(10.0, 0.1, 0.0, 90, true, fine),
                 few = test_ratios(10.0, 0.1, 3.0, 60, true, coarse);

    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        cr_expect_eq(test_map(names[k], "", fine, many, 10.0), test_map(names[k], "", coarse, few, 10.0),
                     "%s", names[k]);
}

Test(adaptive, steps_have_the_variance_of_the_data)
{
    enum { N = 256, D = 64 };
    static float start[N * D], out[N * D];
    double rho[GRID_MAX], sum = 0.0;
    const size_t points = test_ratios(10.0, 0.1, 0.0, 400, false, rho);

    pipe_host_randn((pipe_key){.seed = 3}, start, N * D);
    for (int k = 0; k < N * D; k++)
        start[k] *= (float)sqrt(100.0 + VARIANCE);
    test_run(test_sampler("sampler.dpm-adaptive", "eta 1 rtol 0.01 atol 0.002", rho, points),
             test_spherical(D), N, start, NULL, NULL, out);
    for (int k = 0; k < N * D; k++)
        sum += (double)out[k] * (double)out[k] / (N * D);
    cr_expect_float_eq(sum / (VARIANCE + 0.01), 1.0, 0.05, "variance %g", sum); /* 1.1 % by chance */
}

/* A model of another schedule is asked sample by sample too. */
Test(adaptive, steps_under_another_schedule)
{
    static const char *const names[] = {"sampler.dopri5", "sampler.dpm-adaptive"};
    const char *const params[] = {"grid", "log-snr", "ratio_max", "9",    "ratio_min", "0.1", "final", "none",
                                  "rtol", "1e-5",    "atol",      "1e-5", "steps",     "800", NULL};
    const float start[] = {9.0f, -0.3f, 4.0f};
    pipe_object *vp = test_object("schedule", "schedule.cosine", NULL, NULL), *d = test_spherical(1);
    const pipe_schedule_point high = pipe_schedule_at(vp, pipe_schedule_time_of(vp, -log(9.0)));
    const pipe_schedule_point low = pipe_schedule_at(vp, pipe_schedule_time_of(vp, -log(0.1)));

    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        pipe_error err = PIPE_ERROR_INIT;
        pipe_tensor *x = NULL, *from = NULL;
        float out[3];
        pipe_keep(&from, pipe_scale(pipe_from_f32(test_engine(), PIPE_SHAPE(3, 1), start), high.alpha));
        OK(pipe_sample(&(pipe_sample_request){.size = sizeof(pipe_sample_request),
                                              .sampler = test_object("sampler", names[k], params, NULL),
                                              .denoiser = d,
                                              .schedule = vp,
                                              .n = 3,
                                              .start = from},
                       &x, &err));
        OK(pipe_read_f32(x, out, 3, &err));
        for (int i = 0; i < 3; i++) {
            const double want = low.alpha * (double)start[i] * sqrt((VARIANCE + 0.01) / (VARIANCE + 81.0));
            cr_expect_float_eq((double)out[i], want, 2e-5 + 2e-4 * fabs(want), "%s: %g, not %g", names[k],
                               (double)out[i], want);
        }
        pipe_keep(&from, NULL);
        pipe_keep(&x, NULL);
    }
}

/* Inversion: the exact solution upwards. */
Test(adaptive, steps_go_upwards)
{
    static const char *const names[] = {"sampler.dopri5", "sampler.dpm-adaptive"};
    double rho[GRID_MAX];
    const size_t points = test_ratios(10.0, 0.1, 0.0, 200, true, rho);
    const float clean = 0.4f;

    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        pipe_error err = PIPE_ERROR_INIT;
        pipe_tensor *x = NULL, *image = NULL;
        float out;
        pipe_keep(&image, pipe_from_f32(test_engine(), PIPE_SHAPE(1, 1), &clean));
        OK(pipe_sample(
            &(pipe_sample_request){.size = sizeof(pipe_sample_request),
                                   .sampler = test_sampler(names[k], "rtol 1e-4 atol 1e-4", rho, points),
                                   .denoiser = test_spherical(1),
                                   .n = 1,
                                   .image = image,
                                   .upward = true},
            &x, &err));
        OK(pipe_read_f32(x, &out, 1, &err));
        const double want = 0.4 * sqrt((VARIANCE + 100.0) / (VARIANCE + 0.01));
        cr_expect_float_eq((double)out, want, 2e-3 * want, "%s: %g, not %g", names[k], (double)out, want);
        pipe_keep(&image, NULL);
        pipe_keep(&x, NULL);
    }
}

typedef struct {
    const char *name, *options;
    size_t points;
    enum { PLAIN, MASKED, GUIDED } with;
    const char *message;
} refused;

/* Guidance with momentum, around a model of two classes. */
static pipe_object *guided(void)
{
    static const char *const model[] = {"dimension", "1", "means", "[0, 1]", "labels", "true", NULL};
    const pipei_named_object on[] = {{"schedule", test_object("schedule", "schedule.edm", NULL, NULL)},
                                     {NULL, NULL}};
    const pipei_named_object of[] = {
        {"denoiser", test_object("denoiser", "denoiser.gaussian-mixture", model, on)}, {NULL, NULL}};

    return test_object("guidance", "guidance.apg", NULL, of);
}

/* What is refused when a batch begins or, of too many steps, where they are used up. */
static const refused refused_cases[] = {
    {"sampler.dopri5", "", 5, PLAIN, "4 attempted steps (`steps`) are not enough at this tolerance: 1 of 1"},
    {"sampler.dpm-adaptive", "", 5, PLAIN, "raise `steps`, or `rtol` and `atol`"},
    {"sampler.dopri5", "", 1, PLAIN, "there is nothing to integrate"},
    {"sampler.dopri5", "", 50, MASKED, "only the ends of the grid"},
    {"sampler.restart", "from [0.05] to [0.01]", 3, PLAIN,
     "no grid point behind the first is in it; take more steps"},
    {"sampler.restart", "from [0.05] to [0.01]", 1, PLAIN, "no grid point behind the first is in it"},
    {"sampler.restart", "from [300] to [1]", 8, PLAIN,
     "begins at sigma / alpha = 300; the schedule ends at 200"},
    {"sampler.dpm-solver-singlestep", "final_orders [3,2,1]", 3, PLAIN,
     "`final_orders` holds the orders of 3 steps, but there are only 2"},
    {"sampler.dopri5", "", 50, GUIDED,
     "remembers earlier steps (guidance with momentum, or that counts steps)"},
};

Test(adaptive, refuses_with_a_reason)
{
    for (size_t k = 0; k < sizeof refused_cases / sizeof *refused_cases; k++) {
        const refused *c = &refused_cases[k];
        double rho[GRID_MAX] = {10.0, 0.0};
        const size_t points = c->points > 1 ? test_ratios(10.0, 0.1, 0.0, c->points, true, rho) - 1 : 2;
        pipe_error err = PIPE_ERROR_INIT;
        pipe_tensor *x = NULL, *one = NULL;
        pipe_keep(&one, pipe_full(test_engine(), PIPE_SHAPE(1, 1), 1.0));
        const pipe_status status = pipe_sample(
            &(pipe_sample_request){.size = sizeof(pipe_sample_request),
                                   .sampler = test_sampler(c->name, c->options, rho, points),
                                   .denoiser = c->with == GUIDED ? guided() : test_spherical(1),
                                   .n = 1,
                                   .image = c->with == MASKED ? one : NULL,
                                   .mask = c->with == MASKED ? one : NULL},
            &x, &err);
        cr_expect_neq(status, PIPE_OK, "%s %s was accepted", c->name, c->options);
        cr_expect(strstr(err.message, c->message), "%s %s: %s", c->name, c->options, err.message);
        pipe_keep(&one, NULL);
        pipe_keep(&x, NULL);
    }
}
