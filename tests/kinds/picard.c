/* Sampling in parallel over time: the result is that of the sampler inside, taken step by
 * step; fewer calls are needed for it; and what loops add (masks, conditions, other
 * schedules) is as there. */
#include "support/objects.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { N = 3, D = 2 };

static pipe_object *mixture(const char *schedule)
{
    const char *const params[] = {"means",       "[-1, 0.5, 0.6, -0.4]",
                                  "covariances", "[0.04, 0.01, 0.01, 0.09, 0.16, -0.03, -0.03, 0.05]",
                                  "weights",     "[0.4, 0.6]",
                                  "dimension",   "2",
                                  "labels",      "true",
                                  NULL};
    const pipei_named_object on[] = {{"schedule", test_object("schedule", schedule, NULL, NULL)}, {NULL, NULL}};

    return test_object("denoiser", "denoiser.gaussian-mixture", params, on);
}

static pipe_object *picard(pipe_object *inside, const char *window, const char *tolerance)
{
    const char *const params[] = {"window", window, "tolerance", tolerance, NULL};
    const pipei_named_object inputs[] = {{"sampler", inside}, {NULL, NULL}};

    return test_object("sampler", "sampler.picard", params, inputs);
}

/* What a trajectory cost: calls of the denoiser, and evaluations of each sample. */
typedef struct {
    uint64_t calls, evaluations;
} cost;

static cost draw(pipe_sample_request *r, pipe_object *sampler, float *x)
{
    const uint64_t before = pipe_denoiser_evaluations(r->denoiser);
    cost c = {0};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *out = NULL;

    r->sampler = sampler;
    r->calls = &c.calls;
    OK(pipe_sample(r, &out, &err));
    OK(pipe_read_f32(out, x, N * D, &err));
    pipe_keep(&out, NULL);
    c.evaluations = (pipe_denoiser_evaluations(r->denoiser) - before) / N;
    return c;
}

static double largest_difference(const float *a, const float *b)
{
    double most = 0.0;

    for (int k = 0; k < N * D; k++)
        most = fmax(most, fabs((double)a[k] - (double)b[k]));
    return most;
}

typedef struct {
    char sampler[48], params[3][2][24], schedule[24], window[8], tolerance[8];
    double within;
    int most; /* calls */
    char why[64];
} picard_case;

ParameterizedTestParameters(picard, ends_where_the_sampler_inside_ends)
{
    static picard_case cases[] = {
        /* 24 steps */
        {"sampler.ddim", {{"eta", "0"}}, "schedule.cosine", "8", "1e-5", 1e-5, 12, "a window"},
        {"sampler.ddim", {{"eta", "0"}}, "schedule.cosine", "0", "1e-5", 1e-5, 10, "all steps"},
        {"sampler.ddim", {{"eta", "0"}}, "schedule.cosine", "8", "0", 1e-6, 20, "nothing may change"},
        {"sampler.ddim", {{"eta", "0"}}, "schedule.cosine", "1", "1e-5", 1e-6, 24, "one by one"},
        {"sampler.ddim", {{"eta", "0"}}, "schedule.cosine", "100", "1e-5", 1e-5, 10, "more than there are"},
        {"sampler.ddim", {{"clip", "0.7"}}, "schedule.cosine", "8", "1e-5", 1e-5, 12, "clipped"},
        {"sampler.ddpm", {{"variance", "small"}}, "schedule.cosine", "8", "1e-5", 1e-5, 15, "noise by step"},
        {"sampler.euler", {{"grid", "karras"}}, "schedule.edm", "8", "1e-5", 2e-5, 12, "exploding variance"},
        {"sampler.dpmpp-2m", {{"grid", "log-snr"}, {"ratio_max", "100"}}, "schedule.linear", "8", "1e-5", 1e-5, 13,
         "a memory of one step"},
        {"sampler.unipc", {{"order", "3"}}, "schedule.flow", "8", "1e-5", 1e-5, 15, "a corrector"},
        {"sampler.dpmpp-2m-sde", {{"ratio_max", "100"}, {"grid", "karras"}}, "schedule.linear", "8", "1e-5", 1e-5, 22,
         "a Brownian path"},
        {"sampler.heun", {{"variable", "time"}}, "schedule.flow", "16", "1e-5", 1e-5, 14, "two questions a step"},
    };
    return cr_make_param_array(picard_case, cases, sizeof cases / sizeof cases[0]);
}

ParameterizedTest(picard_case *c, picard, ends_where_the_sampler_inside_ends)
{
    const char *params[16] = {"steps", "24"};
    size_t n = 2;
    float step_by_step[N * D], parallel[N * D];
    pipe_sample_request r = {.size = sizeof r, .denoiser = mixture(c->schedule), .n = N, .key = {.seed = 5}};

    for (int k = 0; k < 3 && c->params[k][0][0]; k++) {
        params[n++] = c->params[k][0];
        params[n++] = c->params[k][1];
    }
    pipe_object *inside = test_object("sampler", c->sampler, params, NULL);
    const cost one = draw(&r, inside, step_by_step);
    const cost many = draw(&r, picard(inside, c->window, c->tolerance), parallel);
    const double away = largest_difference(parallel, step_by_step);
    cr_log_info("%s, %s: %.1e away, %d calls (%d evaluations) in place of %d", c->sampler, c->why, away,
                (int)many.calls, (int)many.evaluations, (int)one.calls);
    cr_expect(away <= c->within, "%s, %s: %g", c->sampler, c->why, away);
    cr_expect(many.calls <= (uint64_t)c->most, "%s, %s: %d calls", c->sampler, c->why, (int)many.calls);
    cr_expect(many.evaluations >= one.evaluations);
    draw(&r, picard(inside, c->window, c->tolerance), step_by_step);
    cr_expect_eq(memcmp(step_by_step, parallel, sizeof parallel), 0, "a second trajectory is the same");
}

/* A large tolerance ends elsewhere, and sooner: the parameter does something. */
Test(picard, tolerance_trades_calls_for_exactness)
{
    pipe_object *inside = test_object("sampler", "sampler.ddim", (const char *const[]){"steps", "24", NULL}, NULL);
    pipe_sample_request r = {.size = sizeof r, .denoiser = mixture("schedule.cosine"), .n = N, .key = {.seed = 5}};
    float exact[N * D], rough[N * D];

    const cost many = draw(&r, picard(inside, "8", "1e-6"), exact);
    const cost few = draw(&r, picard(inside, "8", "0.1"), rough);
    cr_expect(few.calls < many.calls, "%d and %d", (int)few.calls, (int)many.calls);
    cr_expect(few.calls >= 3, "a window of 8 cannot take 24 steps in fewer: %d", (int)few.calls);
    cr_expect(largest_difference(exact, rough) > 1e-4);
    cr_expect(largest_difference(exact, rough) < 0.3);
}

Test(picard, masks_and_other_schedules_are_as_step_by_step)
{
    static const float image[N * D] = {0.5f, 0, -0.3f, 0, 1, 0}, mask[N * D] = {1, 0, 0.5f, 0, 1, 0};
    pipe_object *inside = test_object("sampler", "sampler.ddim",
                                      (const char *const[]){"steps", "12", "grid", "log-snr", "ratio_max", "60", NULL}, NULL);
    pipe_sample_request r = {.size = sizeof r,
                             .denoiser = mixture("schedule.linear"),
                             .schedule = test_object("schedule", "schedule.flow", NULL, NULL),
                             .n = N,
                             .key = {.seed = 5}};
    float a[N * D], b[N * D];

    draw(&r, inside, a);
    draw(&r, picard(inside, "5", "1e-6"), b);
    cr_expect(largest_difference(a, b) < 1e-5, "another schedule: %g", largest_difference(a, b));
    pipe_keep(&r.image, pipe_from_f32(test_engine(), PIPE_SHAPE(N, D), image));
    pipe_keep(&r.mask, pipe_from_f32(test_engine(), PIPE_SHAPE(N, D), mask));
    draw(&r, inside, a);
    draw(&r, picard(inside, "5", "1e-6"), b);
    cr_expect(largest_difference(a, b) < 1e-5, "a mask: %g", largest_difference(a, b));
    pipe_keep(&r.image, NULL);
    pipe_keep(&r.mask, NULL);
}

Test(picard, each_sample_keeps_its_condition)
{
    static const int32_t labels[N] = {1, 0, 1};
    pipe_object *inside = test_object("sampler", "sampler.ddim", (const char *const[]){"steps", "12", NULL}, NULL);
    pipe_condition c = {.size = sizeof c};
    pipe_sample_request r = {
        .size = sizeof r, .denoiser = mixture("schedule.cosine"), .n = N, .key = {.seed = 5}, .condition = &c};
    float a[N * D], b[N * D], none[N * D];

    draw(&r, inside, none);
    pipe_keep(&c.labels, pipe_from_i32(test_engine(), PIPE_SHAPE(N), labels));
    draw(&r, inside, a);
    draw(&r, picard(inside, "5", "1e-6"), b);
    cr_expect(largest_difference(a, b) < 1e-5, "%g", largest_difference(a, b));
    cr_expect(fabs((double)a[0] - (double)none[0]) > 0.1, "labels do something");
    pipe_keep(&c.labels, NULL);
}

Test(picard, guidance_that_remembers_is_refused)
{
    static const int32_t labels[N] = {1, 0, 1};
    const pipei_named_object of[] = {{"denoiser", mixture("schedule.cosine")}, {NULL, NULL}};
    pipe_object *inside = test_object("sampler", "sampler.ddim", (const char *const[]){"steps", "4", NULL}, NULL);
    pipe_condition c = {.size = sizeof c};
    pipe_sample_request r = {.size = sizeof r,
                             .sampler = picard(inside, "3", "0"),
                             .denoiser = test_object("guidance", "guidance.apg", NULL, of),
                             .n = N,
                             .key = {.seed = 5},
                             .condition = &c};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *out = NULL;

    pipe_keep(&c.labels, pipe_from_i32(test_engine(), PIPE_SHAPE(N), labels));
    cr_expect_eq(pipe_sample(&r, &out, &err), PIPE_EINVAL);
    cr_expect(strstr(err.message, "remembers earlier steps"), "%s", err.message);
    cr_expect_null(out);
    pipe_keep(&c.labels, NULL);
}

Test(picard, a_sampler_around_another_one_is_refused)
{
    pipe_object *inside = test_object("sampler", "sampler.ddim", NULL, NULL);
    const pipei_named_object inputs[] = {{"sampler", picard(inside, "8", "0")}, {NULL, NULL}};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_object *out = NULL;

    cr_expect_eq(test_object_try("sampler", "sampler.picard", NULL, inputs, &out, &err), PIPE_EINVAL);
    cr_expect(strstr(err.message, "is around another sampler itself"), "%s", err.message);
}
