/* What all samplers can do: bounds of the predicted data, starts from images, masks,
 * inversion, and reports of samples that are not finite.  On one Gaussian of variance
 * V the model is linear, so every outcome is known. */
#include "support/objects.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define V 0.25

enum { N = 5, D = 7 };

static pipe_object *gaussian(const char *schedule)
{
    const char *const params[] = {"means", "[0, 0, 0, 0, 0, 0, 0]", "covariances", "[0.25]", "dimension", "7",
                                  NULL};
    const pipei_named_object inputs[] = {{"schedule", test_object("schedule", schedule, NULL, NULL)},
                                         {NULL, NULL}};

    return test_object("denoiser", "denoiser.gaussian-mixture", params, inputs);
}

static pipe_tensor *upload(const float *x)
{
    pipe_tensor *kept = NULL;

    pipe_keep(&kept, pipe_from_f32(test_engine(), PIPE_SHAPE(N, D), x));
    return kept;
}

static pipe_sample_request request(const char *sampler, const char *const *params, const char *schedule)
{
    return (pipe_sample_request){.size = sizeof(pipe_sample_request),
                                 .sampler = test_object("sampler", sampler, params, NULL),
                                 .denoiser = gaussian(schedule),
                                 .n = N,
                                 .first = 3,
                                 .key = {.seed = 11, .stream = 5}};
}

static void draw(const pipe_sample_request *r, float *out)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *x = NULL;

    OK(pipe_sample(r, &x, &err));
    OK(pipe_read_f32(x, out, N * D, &err));
    pipe_keep(&x, NULL);
}

static void refuse(const pipe_sample_request *r, pipe_status status, const char *message)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *x = NULL;

    cr_expect_eq(pipe_sample(r, &x, &err), status, "%s", message);
    cr_expect(strstr(err.message, message), "\"%s\" is not in \"%s\"", message, err.message);
    cr_expect_null(x);
}

/* x0 = factor x */
static double model_factor(pipe_schedule_point p)
{
    return p.alpha * V / (p.alpha * p.alpha * V + p.sigma * p.sigma);
}

static pipe_schedule_point level(pipe_object *denoiser, double t)
{
    pipe_denoiser_info info;
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipe_denoiser_describe(denoiser, &info, &err));
    return pipe_schedule_at(info.schedule, t);
}

static int rising(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- bounds ---- */

/* One step of DDIM to sigma = 0 is the bounded prediction itself. */
static void bounded_prediction(const char *const *params, float *start, float *got, double *plain)
{
    pipe_sample_request r = request("sampler.ddim", params, "schedule.edm");

    pipe_host_randn((pipe_key){.seed = 3}, start, N * D);
    for (int k = 0; k < N * D; k++)
        start[k] *= 0.4f * (float)(k / D + 1); /* rows within 1 and far beyond it */
    r.start = upload(start);
    draw(&r, got);
    const double factor = model_factor(level(r.denoiser, 0.3));
    for (int k = 0; k < N * D; k++)
        plain[k] = factor * (double)start[k];
}

Test(options, clip_bounds_the_prediction)
{
    static const char *const params[] = {"grid", "custom", "times", "[0.3, 0]", "clip", "0.5", NULL};
    float start[N * D], got[N * D];
    double plain[N * D];
    int clipped = 0;

    bounded_prediction(params, start, got, plain);
    for (int k = 0; k < N * D; k++) {
        clipped += fabs(plain[k]) > 0.5;
        cr_expect_float_eq(got[k], fmin(0.5, fmax(-0.5, plain[k])), 1e-5, "element %d", k);
    }
    cr_expect(clipped > 3 && clipped < N * D - 3, "%d elements were beyond the bound", clipped);
}

/* The quantile of NumPy, row by row. */
Test(options, dynamic_thresholding_scales_by_the_quantile)
{
    static const char *const quantiles[] = {"0.9", "0.5", "1"}, *const most[] = {"0", "0", "1.2"};

    for (size_t q = 0; q < 3; q++) {
        const char *const params[] = {"grid",       "custom",        "times", "[0.3, 0]", "threshold",
                                      quantiles[q], "threshold_max", most[q], NULL};
        float start[N * D], got[N * D];
        double plain[N * D];
        bounded_prediction(params, start, got, plain);
        for (int r = 0; r < N; r++) {
            double size[D];
            for (int k = 0; k < D; k++)
                size[k] = fabs(plain[r * D + k]);
            qsort(size, D, sizeof *size, rising);
            const double at = atof(quantiles[q]) * (D - 1);
            const int low = (int)at < D - 1 ? (int)at : D - 2;
            double s = fmax(1.0, size[low] + (at - low) * (size[low + 1] - size[low]));
            if (q == 2)
                s = fmin(s, 1.2);
            for (int k = 0; k < D; k++)
                cr_expect_float_eq(got[r * D + k], fmin(s, fmax(-s, plain[r * D + k])) / s, 1e-5,
                                   "quantile %s, row %d", quantiles[q], r);
        }
    }
}

Test(options, one_bound_at_a_time)
{
    static const struct {
        const char *params[5], *message;
    } cases[] = {{{"clip", "1", "threshold", "0.9", NULL}, "`clip` and `threshold` exclude each other"},
                 {{"threshold_max", "2", NULL}, "`threshold_max` is given, but does nothing without `threshold`"}};

    for (size_t k = 0; k < 2; k++) {
        pipe_error err = PIPE_ERROR_INIT;
        pipe_object *out = NULL;
        cr_expect_eq(test_object_try("sampler", "sampler.ddim", cases[k].params, NULL, &out, &err), PIPE_EINVAL);
        cr_expect(strstr(err.message, cases[k].message), "%s", err.message);
    }
}

Test(options, the_last_samples_can_be_denoised)
{
    static const char *const params[] = {"steps", "6", "grid", "karras", "denoise_last", "false", NULL};
    static const char *const denoised[] = {"steps", "6", "grid", "karras", "denoise_last", "true", NULL};
    float a[N * D], b[N * D];
    pipe_sample_request r = request("sampler.euler", params, "schedule.ve");

    draw(&r, a);
    r.sampler = test_object("sampler", "sampler.euler", denoised, NULL);
    draw(&r, b);
    for (int k = 0; k < N * D; k++)
        cr_expect_float_eq(b[k], (double)a[k] * V / (V + 1e-4), 1e-6);
}

/* ---- starts from images ---- */
static bool count_steps(void *arg, size_t step, size_t steps)
{
    (void)step;
    *(size_t *)arg = steps;
    return true;
}

/* With strength 1 / steps one step is left: the prediction from the image, noised to the last point but one.
 */
Test(options, strength_starts_from_a_noised_image)
{
    static const char *const params[] = {"steps", "10", NULL};
    pipe_sample_request r = request("sampler.ddim", params, "schedule.cosine");
    const pipe_schedule_point p = level(r.denoiser, 0.1);
    float image[N * D], z[D], got[N * D];
    size_t steps = 0;

    pipe_host_randn((pipe_key){.seed = 4}, image, N * D);
    r.image = upload(image);
    r.progress = count_steps;
    r.progress_arg = &steps;
    r.strength = 0.1;
    draw(&r, got);
    cr_expect_eq(steps, 1);
    for (int row = 0; row < N; row++) {
        pipe_host_randn((pipe_key){.seed = 11, .stream = 5, .sample = 3 + (uint64_t)row}, z, D);
        for (int k = 0; k < D; k++)
            cr_expect_float_eq(
                got[row * D + k],
                model_factor(p) * (p.alpha * (double)image[row * D + k] + p.sigma * (double)z[k]), 1e-5);
    }
    r.strength = 0.7; /* 0.7 * 10 is not 7 in binary */
    draw(&r, got);
    cr_expect_eq(steps, 7);
    r.strength = 0.05;
    refuse(&r, PIPE_EINVAL, "strength 0.05 of 10 steps leaves none");
}

/* ---- another schedule ---- */

/* In x / alpha, over the same ratios, DDIM takes the same steps under every schedule. */
Test(options, the_schedule_of_the_sampler_does_not_change_its_samples)
{
    static const char *const params[] = {"grid", "custom", "ratios", "[20, 5, 1, 0.2, 0]", NULL};
    static const char *const others[] = {"schedule.edm", "schedule.flow", "schedule.cosine"};
    pipe_sample_request r = request("sampler.ddim", params, "schedule.linear");
    float own[N * D], got[N * D];

    draw(&r, own);
    for (size_t k = 0; k < 3; k++) {
        r.schedule = test_object("schedule", others[k], NULL, NULL);
        draw(&r, got);
        for (int j = 0; j < N * D; j++)
            cr_expect_float_eq(got[j], own[j], 1e-5, "%s: %g, not %g", others[k], (double)got[j],
                               (double)own[j]);
    }
    r.schedule = test_object("schedule", "schedule.flow", NULL, NULL);
    r.sampler = test_object("sampler", "sampler.ddim", (const char *const[]){"steps", "4", NULL}, NULL);
    refuse(&r, PIPE_EDOMAIN, "a model of another schedule cannot be asked there");
}

/* ---- masks ---- */
typedef struct {
    const float *image, *mask;
} known;

/* Under the mask: the image at the new level, with the noise of draw 63 of the step. */
static pipe_status check_known(void *arg, const pipe_sampling *s, pipe_error *err)
{
    const known *want = arg;
    float x[N * D], z[D];

    PIPE_TRY(pipe_read_f32(s->x, x, N * D, err));
    for (int row = 0; row < N; row++) {
        pipe_host_randn(
            (pipe_key){.seed = 11, .stream = 5, .sample = 3 + (uint64_t)row, .step = (s->i + 1) * 64 + 63}, z,
            D);
        for (int k = 0; k < D; k++)
            if (want->mask[row * D + k] == 1.0f)
                cr_expect_float_eq(x[row * D + k],
                                   s->alpha[s->i + 1] * (double)want->image[row * D + k] +
                                       s->sigma[s->i + 1] * (double)z[k],
                                   1e-5, "step %zu, row %d, element %d", s->i, row, k);
    }
    return PIPE_OK;
}

Test(options, what_the_mask_covers_follows_the_image)
{
    static const char *const params[] = {"steps", "6", NULL};
    pipe_sample_request r = request("sampler.dpmpp-2m", params, "schedule.cosine");
    float image[N * D], mask[N * D], got[N * D];
    double beyond = 0.0;

    for (int k = 0; k < N * D; k++) {
        mask[k] = k % 3 == 0 ? 1.0f : 0.0f;
        image[k] = 3.0f;
    }
    r.image = upload(image);
    r.mask = upload(mask);
    r.observe = check_known;
    r.observe_arg = &(known){image, mask};
    draw(&r, got);
    for (int k = 0; k < N * D; k++) {
        if (mask[k] == 1.0f)
            cr_expect_eq(got[k], 3.0f, "known elements are the image's bits");
        else
            beyond = fmax(beyond, fabs((double)got[k]));
    }
    cr_expect(beyond > 0.05 && beyond < 5 * sqrt(V), "what is made is the model's: %g", beyond);
    r.image = NULL;
    refuse(&r, PIPE_EINVAL, "a mask needs an image");
}

/* ---- inversion ---- */
Test(options, an_inversion_finds_the_noise_and_comes_back)
{
    static const struct {
        const char *sampler, *steps;
        double tolerance; /* of first and second order */
    } cases[] = {{"sampler.ddim", "100", 0.05},
                 {"sampler.dpmpp-2m", "60", 0.01},
                 {"sampler.dpm-solver-singlestep", "60", 0.01}};

    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const char *const params[] = {"steps", cases[k].steps, "grid", "log-snr", NULL};
        pipe_sample_request r = request(cases[k].sampler, params, "schedule.linear");
        const pipe_schedule_point low = level(r.denoiser, 0.001), high = level(r.denoiser, 1.0);
        const double grow = low.alpha * sqrt((high.alpha * high.alpha * V + high.sigma * high.sigma) /
                                             (low.alpha * low.alpha * V + low.sigma * low.sigma));
        float image[N * D], noise[N * D], back[N * D];
        pipe_host_randn((pipe_key){.seed = 6}, image, N * D);
        r.image = upload(image);
        r.upward = true;
        draw(&r, noise);
        for (int j = 0; j < N * D; j++)
            cr_expect_float_eq(noise[j], grow * (double)image[j],
                               cases[k].tolerance * (1.0 + fabs((double)noise[j])), "%s: noise %g, not %g",
                               cases[k].sampler, (double)noise[j], grow * (double)image[j]);
        r.image = NULL;
        r.upward = false;
        r.start = upload(noise);
        draw(&r, back);
        for (int j = 0; j < N * D; j++)
            cr_expect_float_eq(back[j], image[j], cases[k].tolerance * (1.0 + fabs((double)image[j])),
                               "%s: %g came back as %g", cases[k].sampler, (double)image[j], (double)back[j]);
    }
}

Test(options, an_inversion_needs_a_deterministic_sampler_and_an_image)
{
    float image[N * D] = {0};
    pipe_sample_request r = request("sampler.ddpm", NULL, "schedule.cosine");

    r.upward = true;
    refuse(&r, PIPE_EINVAL, "inversion needs an image");
    r.image = upload(image);
    refuse(&r, PIPE_EINVAL, "an inversion needs a deterministic sampler");
    r.mask = r.image;
    refuse(&r, PIPE_EINVAL, "an inversion takes no mask");
    r.mask = NULL;
    r.start = r.image;
    refuse(&r, PIPE_EINVAL, "an image and a start exclude each other");
    r.upward = false;
    refuse(&r, PIPE_EINVAL, "an image and a start exclude each other");
    r = request("sampler.euler", (const char *const[]){"churn", "5", "steps", "4", NULL}, "schedule.cosine");
    r.image = upload(image);
    r.upward = true;
    refuse(&r, PIPE_EINVAL, "an inversion needs a deterministic one");
}

/* ---- not finite ---- */
typedef struct {
    pipe_schedule *schedule;
} wrapped;

static pipe_status failing_describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    (void)err;
    info->sample = PIPE_SHAPE(D);
    info->predicts = PIPE_PREDICT_X0;
    info->schedule = ((wrapped *)self)->schedule;
    return PIPE_OK;
}

/* From t = 0.5 on down, NaN in the third row; infinity in the fifth from t = 0.3 on. */
static pipe_tensor *failing_predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                                    const pipe_condition *c)
{
    static const float one[N * D] = {[2 * D + 4] = 1.0f}, other[N * D] = {[4 * D] = 1.0f};
    pipe_tensor *y = pipe_scale(x, 0.5);

    (void)self;
    (void)m;
    (void)c;
    if (l->point.t <= 0.5)
        y = pipe_sub(y, pipe_sqrt(pipe_neg(pipe_from_f32(test_engine(), PIPE_SHAPE(N, D), one))));
    if (l->point.t <= 0.3)
        y = pipe_add(y, pipe_exp(pipe_scale(pipe_from_f32(test_engine(), PIPE_SHAPE(N, D), other), 1000.0)));
    return y;
}

static const pipe_input failing_inputs[] = {PIPE_INPUT(wrapped, schedule, PIPE_KIND_SCHEDULE, "its schedule"),
                                            PIPE_INPUT_END};
static const pipe_plugin failing = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "denoiser.failing",
    .version = "1.0.0",
    .inputs = failing_inputs,
    .state_size = sizeof(wrapped),
    .denoiser = {.describe = failing_describe, .predict = failing_predict},
};

/* Steps of a tenth from t = 1: the sixth is the first that asks at t = 0.5. */
Test(options, samples_that_are_not_finite_are_reported_with_their_step)
{
    static const char *const params[] = {"steps", "10", NULL};
    pipe_sample_request r = request("sampler.ddim", params, "schedule.cosine");
    const pipei_named_object inputs[] = {
        {"schedule", test_object("schedule", "schedule.cosine", NULL, NULL)}};
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipei_object_create(&failing, "model", NULL, inputs, 1, test_context("model", 1), &r.denoiser, &err));
    refuse(&r, PIPE_EDOMAIN,
           "sampler.ddim: step 6 of 10: sample 5 is not finite (NaN or infinite): the model `model`");
    r.padding = 2;
    refuse(&r, PIPE_EDOMAIN, "step 6 of 10: sample 5 is not finite");
}

/* Rows 3 and 5 of five are not finite: of the two first ones nothing is to be said. */
Test(options, rows_that_only_fill_the_batch_are_not_looked_at)
{
    static const char *const params[] = {"steps", "10", NULL};
    pipe_sample_request r = request("sampler.ddim", params, "schedule.cosine");
    const pipei_named_object inputs[] = {
        {"schedule", test_object("schedule", "schedule.cosine", NULL, NULL)}};
    pipe_error err = PIPE_ERROR_INIT;
    float got[N * D];

    OK(pipei_object_create(&failing, "model", NULL, inputs, 1, test_context("model", 1), &r.denoiser, &err));
    r.padding = 3;
    draw(&r, got);
    for (int k = 0; k < 2 * D; k++)
        cr_expect(isfinite(got[k]));
    r.padding = N;
    refuse(&r, PIPE_EINVAL, "5 of 5 samples only fill the batch");
    r.padding = -1;
    refuse(&r, PIPE_EINVAL, "-1 of 5 samples only fill the batch");
}

/* ---- what a model of eps does not know ---- */
static pipe_status noise_describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    (void)err;
    info->sample = PIPE_SHAPE(D);
    info->predicts = PIPE_PREDICT_EPS;
    info->schedule = ((wrapped *)self)->schedule;
    return PIPE_OK;
}

static pipe_tensor *noise_predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                                  const pipe_condition *c)
{
    (void)self;
    (void)m;
    (void)l;
    (void)c;
    return x;
}

static const pipe_plugin noise_alone = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "denoiser.noise",
    .version = "1.0.0",
    .inputs = failing_inputs,
    .state_size = sizeof(wrapped),
    .denoiser = {.describe = noise_describe, .predict = noise_predict},
};

/* At alpha = 0, the start of the flow schedule: refused, unless the sampler does not ask there. */
Test(options, eps_at_pure_noise)
{
    static const struct {
        const char *sampler, *params[5];
        bool works;
        const char *why;
    } cases[] = {
        {"sampler.ddim", {"steps", "4"}, false, "takes x0"},
        {"sampler.ipndm", {"steps", "4"}, false, "takes x0, exactly"},
        {"sampler.ipndm", {"steps", "4", "compat", "released"}, true, "the first step leaves x0 out"},
        {"sampler.ddim", {"times", "[0.9, 0.5, 0.0]", "grid", "custom"}, true, "starts below"},
    };
    const pipei_named_object inputs[] = {{"schedule", test_object("schedule", "schedule.flow", NULL, NULL)},
                                         {NULL, NULL}};
    pipe_error err = PIPE_ERROR_INIT;
    float got[N * D];

    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        pipe_sample_request r = request(cases[k].sampler, cases[k].params, "schedule.flow");
        OK(pipei_object_create(&noise_alone, "model", NULL, inputs, 1, test_context("model", 1), &r.denoiser, &err));
        if (cases[k].works)
            draw(&r, got);
        else
            refuse(&r, PIPE_EDOMAIN, "step 1 of 4: model predicts eps, from which x0 is not determined at t = 1");
        for (size_t j = 0; cases[k].works && j < N * D; j++)
            cr_expect(isfinite(got[j]), "%s: %s", cases[k].sampler, cases[k].why);
    }
    pipe_sample_request r = request("sampler.ddim", cases[0].params, "schedule.flow");
    const pipei_named_object parts[] = {{"sampler", r.sampler}, {"gaussian", gaussian("schedule.flow")}, {NULL, NULL}};
    r.sampler = test_object("sampler", "sampler.teleport", (const char *const[]){"skip", "1", NULL}, parts);
    OK(pipei_object_create(&noise_alone, "model", NULL, inputs, 1, test_context("model", 1), &r.denoiser, &err));
    draw(&r, got);
    cr_expect(isfinite(got[0]), "a sampler around it skips the point");
}

Test(options, a_stride_of_ddim_needs_a_table_and_a_way_down)
{
    static const char *const params[] = {"stride", "250", "steps", "4", NULL};
    float image[N * D] = {0};
    pipe_sample_request r = request("sampler.ddim", params, "schedule.flow");

    refuse(&r, PIPE_EINVAL, "stride 250: the schedule is continuous");
    r = request("sampler.ddim", params, "schedule.linear");
    r.image = upload(image);
    r.upward = true;
    refuse(&r, PIPE_EINVAL, "stride 250: an inversion goes from grid point to grid point");
}
