/* RePaint: what it goes through, and that going back and forth makes what it fills in agree
 * with what is known.  Golden values are in golden-samplers.c. */
#include "support/objects.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

enum { N = 400, D = 2 };

/* A Gaussian in the plane with variance 1/4 and correlation 0.8, known at 0.5 in the first number:
 * the second one has the mean 0.4 and the variance 0.09. */
#define KNOWN 0.5
#define MEAN 0.4
#define VARIANCE 0.09

static size_t calls;

typedef struct {
    pipe_denoiser *denoiser;
} counted;

static pipe_status describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    return pipe_denoiser_describe(((counted *)self)->denoiser, info, err);
}

static pipe_tensor *predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c)
{
    (void)m;
    calls++;
    return pipe_denoise(((counted *)self)->denoiser, x, l, c);
}

static const pipe_input inputs[] = {PIPE_INPUT(counted, denoiser, PIPE_KIND_DENOISER, "whose calls are counted"),
                                    PIPE_INPUT_END};
static const pipe_plugin counting = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "denoiser.counting",
    .version = "1.0.0",
    .inputs = inputs,
    .state_size = sizeof(counted),
    .denoiser = {.describe = describe, .predict = predict},
};

static pipe_object *denoiser(void)
{
    const char *const params[] = {"means",     "[0, 0]", "covariances", "[0.25, 0.2, 0.2, 0.25]",
                                  "dimension", "2",      NULL};
    const pipei_named_object on[] = {{"schedule", test_object("schedule", "schedule.cosine", NULL, NULL)},
                                     {NULL, NULL}};
    const pipei_named_object of[] = {
        {"denoiser", test_object("denoiser", "denoiser.gaussian-mixture", params, on)}};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_object *out = NULL;

    OK(pipei_object_create(&counting, "model", NULL, of, 1, test_context("model", 1), &out, &err));
    return test_hold(out);
}

static pipe_tensor *rows(float first, float second)
{
    float x[N * D];
    pipe_tensor *kept = NULL;

    for (int k = 0; k < N; k++) {
        x[D * k] = first;
        x[D * k + 1] = second;
    }
    pipe_keep(&kept, pipe_from_f32(test_engine(), PIPE_SHAPE(N, D), x));
    return kept;
}

/* Mean and variance of what is filled in. */
static void fill(const char *steps, const char *length, const char *visits, double *mean, double *variance)
{
    const char *const params[] = {"steps",       steps,          "grid", "log-snr", "ratio_max", "50",
                                  "jump_length", length,         "jump_n_sample",  visits, NULL};
    pipe_sample_request r = {.size = sizeof r,
                             .sampler = test_object("sampler", "sampler.repaint", params, NULL),
                             .denoiser = denoiser(),
                             .n = N,
                             .key = {.seed = 3, .stream = 1},
                             .image = rows(KNOWN, 7.0f),
                             .mask = rows(1.0f, 0.0f)};
    float x[N * D];
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *out = NULL;
    double sum = 0.0, squares = 0.0;

    calls = 0;
    OK(pipe_sample(&r, &out, &err));
    OK(pipe_read_f32(out, x, N * D, &err));
    for (int k = 0; k < N; k++) {
        cr_assert_eq(x[D * k], (float)KNOWN, "what is known stays");
        sum += (double)x[D * k + 1];
        squares += (double)x[D * k + 1] * (double)x[D * k + 1];
    }
    *mean = sum / N;
    *variance = squares / N - *mean * *mean;
    pipe_keep(&out, NULL);
    pipe_keep(&r.image, NULL);
    pipe_keep(&r.mask, NULL);
}

/* Standard errors of 400 samples: 0.015 of the mean, 0.0064 of the variance, of which forty steps of an
 * SDE leave some out. */
Test(repaint, going_back_and_forth_makes_the_parts_agree)
{
    double plain, again, variance;

    fill("40", "1", "1", &plain, &variance);
    cr_expect_eq(calls, 40);
    fill("40", "1", "10", &again, &variance);
    cr_expect_eq(calls, 40 + 39 * 9);
    cr_log_info("mean %.3f without a way back, %.3f with 9 (%.3f), variance %.3f (%.3f)", plain, again, MEAN,
                variance, VARIANCE);
    cr_expect(fabs(plain - MEAN) > 0.05, "without a way back it is not right: %g", plain);
    cr_expect(fabs(again - MEAN) < 0.045, "%g", again);
    cr_expect(fabs(variance - VARIANCE) < 0.025, "%g", variance);
}

/* Of 20 steps in jumps of 4, the points 0, 4, 8 and 12 from the end are gone back from: not the one
 * from where the way would lead to the first point. */
Test(repaint, jumps_count_from_the_end)
{
    double mean, variance;

    fill("20", "4", "3", &mean, &variance);
    cr_expect_eq(calls, 20 + 4 * 4 * 2);
    fill("3", "4", "3", &mean, &variance);
    cr_expect_eq(calls, 3, "a jump longer than the path is none");
}
