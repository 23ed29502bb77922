/* sampler.teleport against the exact flow of a Gaussian and against the sampler inside. */
#include "gaussian/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { B = 4, D = 4, STEPS = 18 };

static pipe_object *model, *gauss; /* all axes; the two largest */

static void setup(void)
{
    pipe_dataset *s = gaussian_fit("fit.gaussian", gaussian_points(300, D, 2), NULL);

    model = gaussian_denoiser("denoiser.gaussian", "schedule.edm", s, NULL);
    gauss = gaussian_denoiser("denoiser.gaussian", "schedule.edm", s,
                              (const char *const[]){"rank", "2", NULL});
}
TestSuite(teleport, .init = setup);

static pipe_object *solver(const char *name, int steps)
{
    char n[16];

    snprintf(n, sizeof n, "%d", steps);
    return test_object("sampler", name, (const char *const[]){"steps", n, "grid", "karras", NULL}, NULL);
}

static pipe_object *teleport(pipe_object *inner, pipe_object *gaussian, const char *key, const char *value)
{
    const pipei_named_object inputs[] = {{"sampler", inner}, {"gaussian", gaussian}, {NULL, NULL}};

    return test_object("sampler", "sampler.teleport", (const char *const[]){key, value, NULL}, inputs);
}

static pipe_status count(void *arg, const pipe_sampling *s, pipe_error *err)
{
    (void)s;
    (void)err;
    ++*(int *)arg;
    return PIPE_OK;
}

static pipe_sample_request request(pipe_object *sampler, int *taken)
{
    return (pipe_sample_request){.size = sizeof(pipe_sample_request),
                                 .sampler = sampler,
                                 .denoiser = model,
                                 .n = B,
                                 .key = {.seed = 3, .stream = 1},
                                 .observe = count,
                                 .observe_arg = taken};
}

/* The samples; the number of steps that were taken. */
static int draw(pipe_object *sampler, float *out)
{
    pipe_error err = PIPE_ERROR_INIT;
    int taken = 0;
    const pipe_sample_request r = request(sampler, &taken);
    pipe_tensor *x = NULL;

    OK(pipe_sample(&r, &x, &err));
    OK(pipe_read_f32(x, out, B * D, &err));
    pipe_keep(&x, NULL);
    return taken;
}

static pipe_status refused(pipe_object *sampler, pipe_error *err)
{
    int taken = 0;
    const pipe_sample_request r = request(sampler, &taken);
    pipe_tensor *x = NULL;

    *err = (pipe_error)PIPE_ERROR_INIT;
    return pipe_sample(&r, &x, err);
}

Test(teleport, of_no_step_is_the_sampler_inside)
{
    static const char *const names[] = {"sampler.heun", "sampler.dpmpp-2m", "sampler.euler-ancestral"};
    float alone[B * D], wrapped[B * D];

    for (size_t k = 0; k < COUNT(names); k++) {
        pipe_object *s = solver(names[k], 6);
        cr_expect_eq(draw(s, alone), draw(teleport(s, gauss, "skip", "0"), wrapped));
        cr_expect_arr_eq(alone, wrapped, sizeof alone, "%s", names[k]);
    }
}

/* To the last point no step is left, and whatever the grid, the flow is exact. */
Test(teleport, to_the_end_is_the_exact_flow)
{
    static const char *const skip[] = {"3", "9"};
    static const int steps[] = {3, 9};
    float got[2][B * D], fine[B * D];

    for (size_t k = 0; k < 2; k++)
        cr_expect_eq(draw(teleport(solver("sampler.heun", steps[k]), model, "skip", skip[k]), got[k]), 0);
    draw(solver("sampler.heun", 400), fine);
    cr_expect_lt(gaussian_difference(got[0], got[1], B * D), 1e-6);
    cr_expect_lt(gaussian_difference(got[0], fine, B * D), 2e-3);
}

Test(teleport, heun_converges_to_the_flow_behind_it)
{
    static const char *const skip[] = {"4", "8", "16"};
    float exact[B * D], got[B * D];
    double error[2];

    draw(teleport(solver("sampler.heun", 16), model, "skip", skip[2]), exact);
    for (size_t k = 0; k < 2; k++) {
        cr_expect_eq(draw(teleport(solver("sampler.heun", 16 << k), model, "skip", skip[k]), got), 12 << k);
        error[k] = gaussian_difference(got, exact, B * D);
    }
    cr_expect(error[0] > 3.0 * error[1] && error[0] < 6.0 * error[1], "errors %g, %g", error[0], error[1]);
}

/* Point 4 of Karras' 18 is sigma 19.352, and the tail from there is their grid of 14 (arXiv:2412.09726). */
Test(teleport, a_ratio_names_a_point)
{
    char fourth[32];
    const char *const shorter[] = {"steps", "14", "grid", "karras", "ratio_max", fourth, NULL};
    pipe_object *s = solver("sampler.dpmpp-2m", STEPS);
    pipe_error err = PIPE_ERROR_INIT;
    pipe_denoiser_info info;
    float by_skip[B * D], by_ratio[B * D];
    double *t = NULL, *tail = NULL;
    size_t n, m;

    cr_expect_eq(draw(teleport(s, gauss, "skip", "4"), by_skip), STEPS - 4);
    cr_expect_eq(draw(teleport(s, gauss, "ratio", "19.352"), by_ratio), STEPS - 4);
    cr_expect_arr_eq(by_skip, by_ratio, sizeof by_skip);
    OK(pipe_denoiser_describe(model, &info, &err));
    OK(pipe_sampler_grid(teleport(s, gauss, "skip", "4"), info.schedule, &t, &n, &err));
    snprintf(fourth, sizeof fourth, "%.17g", pipe_schedule_at(info.schedule, t[4]).sigma);
    cr_expect_float_eq(atof(fourth), 19.35245298, 5e-9);
    OK(pipe_sampler_grid(test_object("sampler", "sampler.heun", shorter, NULL), info.schedule, &tail, &m,
                         &err));
    cr_assert(n == STEPS && m == STEPS - 4, "the wrapper has the whole grid");
    for (size_t i = 0; i <= m; i++) {
        const double a = pipe_schedule_at(info.schedule, t[i + 4]).sigma,
                     b = pipe_schedule_at(info.schedule, tail[i]).sigma;
        cr_expect_float_eq(a, b, 1e-13 * a, "point %zu: %.12g, %.12g", i, a, b);
    }
    pipe_free(t);
    pipe_free(tail);
}

/* What is known stays: it is noised to the point that is gone to, not carried there by the flow. */
Test(teleport, keeps_the_known_part)
{
    static const float image[B * D] = {1.0f, -2.0f, 0.5f, 3.0f};
    pipe_engine *e = test_engine();
    pipe_error err = PIPE_ERROR_INIT;
    int taken = 0;
    pipe_sample_request r = request(teleport(solver("sampler.heun", 4), gauss, "skip", "4"), &taken);
    pipe_tensor *x = NULL, *known = NULL, *all = NULL;
    float got[B * D];

    pipe_keep(&known, pipe_from_f32(e, PIPE_SHAPE(B, D), image));
    pipe_keep(&all, pipe_affine(known, 0.0, 1.0));
    r.image = known;
    r.mask = all;
    OK(pipe_sample(&r, &x, &err));
    OK(pipe_read_f32(x, got, B * D, &err));
    cr_expect_lt(gaussian_difference(got, image, B * D), 1e-5);
    r.upward = true;
    r.mask = NULL;
    check_failure(pipe_sample(&r, &x, &err), PIPE_EINVAL, &err, "an inversion takes|itself", "inversion");
    pipe_keep(&x, NULL);
    pipe_keep(&known, NULL);
    pipe_keep(&all, NULL);
}

Test(teleport, refuses_what_cannot_be)
{
    pipe_object *heun = solver("sampler.heun", 6), *none = NULL;
    const pipei_named_object inputs[] = {{"sampler", heun}, {"gaussian", gauss}, {NULL, NULL}};
    static const char *const both[] = {"skip", "1", "ratio", "2", NULL};
    pipe_error err = PIPE_ERROR_INIT;

    check_failure(refused(teleport(heun, gauss, "skip", "7"), &err), PIPE_EINVAL, &err,
                  "cannot skip 7 steps|has 6", "more steps than there are");
    check_failure(refused(teleport(heun, gauss, "ratio", "81"), &err), PIPE_EINVAL, &err,
                  "`ratio` 81|from 80 to 0.002", "above the grid");
    check_failure(test_object_try("sampler", "sampler.teleport", (const char *const[]){"steps", "7", NULL}, inputs,
                                  &none, &err),
                  PIPE_EINVAL, &err, "`steps` is given|sampler inside", "options of the wrapper");
    check_failure(test_object_try("sampler", "sampler.teleport", (const char *const[]){"clip", "1", NULL}, inputs,
                                  &none, &err),
                  PIPE_EINVAL, &err, "`clip` is given", "options of the wrapper");
    check_failure(test_object_try("sampler", "sampler.teleport", both, inputs, &none, &err), PIPE_EINVAL,
                  &err, "`skip` and `ratio` exclude", "both");
}
