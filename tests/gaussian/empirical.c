/* denoiser.empirical and fit.mixture: the two ends between which a network lies. */
#include "gaussian/support.h"

#include <math.h>

static pipe_object *empirical(pipe_dataset *data, const char *schedule, const char *const *params)
{
    const pipei_named_object inputs[] = {
        {"schedule", test_object("schedule", schedule, NULL, NULL)}, {"data", data}, {NULL, NULL}};

    return test_object("denoiser", "denoiser.empirical", params, inputs);
}

static pipe_dataset *points_1d(const float *y, size_t n)
{
    return test_hold(data_make(PIPE_SHAPE(1), n, y, NULL, 0));
}

Test(empirical, of_one_point_is_that_point)
{
    static const float y[] = {0.7f}, x[] = {-3.0f, 0.0f, 5.0f};
    pipe_object *d = empirical(points_1d(y, 1), "schedule.edm", NULL);
    float got[3];

    gaussian_predict(d, 0.5, PIPE_SHAPE(3, 1), x, NULL, PIPE_PREDICT_X0, got);
    for (int i = 0; i < 3; i++)
        cr_expect_float_eq(got[i], 0.7, 1e-6, "%g", (double)got[i]);
}

/* Of +-y: y tanh(x y / sigma^2). */
Test(empirical, of_two_points_is_a_tanh)
{
    static const float y[] = {1.3f, -1.3f}, x[] = {-2.0f, -0.3f, 0.0f, 0.1f, 0.9f};
    static const double sigmas[] = {0.3, 1.0, 4.0, 50.0};
    pipe_object *d = empirical(points_1d(y, 2), "schedule.edm", NULL);
    float got[5];

    for (size_t k = 0; k < COUNT(sigmas); k++) {
        const double s = sigmas[k];
        gaussian_predict(d, s, PIPE_SHAPE(5, 1), x, NULL, PIPE_PREDICT_X0, got);
        for (int i = 0; i < 5; i++) {
            const double want = 1.3 * tanh((double)x[i] * 1.3 / (s * s));
            cr_expect_float_eq(got[i], want, 1e-5, "sigma %g, x %g: %g, not %g", s, (double)x[i],
                               (double)got[i], want);
        }
    }
}

/* All weights underflow but one: the nearest sample, and no NaN. */
Test(empirical, at_small_noise_is_the_nearest_sample)
{
    enum { N = 200, D = 6, B = 8 };
    pipe_dataset *data = gaussian_points(N, D, 2);
    pipe_object *d = empirical(data, "schedule.edm", (const char *const[]){"chunk", "64", NULL});
    static float y[N * D];
    float x[B * D], got[B * D];

    data_x(data, 0, N, y);
    pipe_host_randn((pipe_key){.seed = 3}, x, B * D);
    gaussian_predict(d, 0.002, PIPE_SHAPE(B, D), x, NULL, PIPE_PREDICT_X0, got);
    for (size_t i = 0; i < B; i++) {
        size_t best = 0;
        double least = INFINITY;
        for (size_t k = 0; k < N; k++) {
            double sum = 0.0;
            for (size_t j = 0; j < D; j++)
                sum += pow((double)x[i * D + j] - (double)y[k * D + j], 2);
            if (sum < least) {
                least = sum;
                best = k;
            }
        }
        cr_expect_lt(gaussian_difference(got + i * D, y + best * D, D), 1e-5, "row %zu: not sample %zu", i,
                     best);
    }
}

/* In chunks or at once; and the mixture of one flat Gaussian per sample is the same. */
Test(empirical, is_a_mixture_of_its_samples)
{
    enum { N = 50, D = 4, B = 6 };
    pipe_dataset *data = gaussian_points(N, D, 2), *set_data = NULL;
    PIPE_CLEANUP(pipe_gaussian_set_free)
    pipe_gaussian_set set = {.size = sizeof set, .sample = PIPE_SHAPE(D), .count = N};
    pipe_error err = PIPE_ERROR_INIT;
    float x[B * D], whole[B * D], chunks[B * D], mixture[B * D];

    OK(pipe_gaussian_set_alloc(&set, false, &err));
    data_x(data, 0, N, set.mean);
    for (size_t k = 0; k < N; k++)
        set.weight[k] = 2.0f; /* in any unit */
    OK(pipe_gaussian_set_dataset(&set, test_context("set", 1), &set_data, &err));
    pipe_host_randn((pipe_key){.seed = 4}, x, B * D);
    for (double t = 0.2; t < 1.0; t += 0.3) {
        gaussian_predict(empirical(data, "schedule.cosine", NULL), t, PIPE_SHAPE(B, D), x, NULL,
                         PIPE_PREDICT_X0, whole);
        gaussian_predict(empirical(data, "schedule.cosine", (const char *const[]){"chunk", "7", NULL}), t,
                         PIPE_SHAPE(B, D), x, NULL, PIPE_PREDICT_X0, chunks);
        gaussian_predict(gaussian_denoiser("denoiser.gaussian-mixture", "schedule.cosine", set_data, NULL), t,
                         PIPE_SHAPE(B, D), x, NULL, PIPE_PREDICT_X0, mixture);
        cr_expect_lt(gaussian_difference(whole, chunks, B * D), 2e-6, "t = %g", t);
        cr_expect_lt(gaussian_difference(whole, mixture, B * D), 1e-5, "t = %g", t);
    }
    pipe_object_unref(set_data);
}

Test(empirical, the_score_is_the_gradient_of_the_log_density)
{
    gaussian_check_score(
        empirical(gaussian_points(40, 3, 2), "schedule.flow", (const char *const[]){"chunk", "16", NULL}), 3,
        0.6, "empirical");
}

/* At x = mu + sigma w: sigma (D - mu) -> S w, with an error of O(1 / sigma^2) for symmetric data. */
Test(empirical, at_high_noise_is_the_gaussian)
{
    enum { N = 40, D = 3 };
    float y[2 * N * D], x[D], got[D];
    double error[2], cov[D][D] = {{0}};
    static const double sigmas[] = {20.0, 40.0}, w[D] = {0.5, -1.0, 0.8};

    pipe_host_randn((pipe_key){.seed = 5}, y, N * D);
    for (size_t i = 0; i < N * D; i++) /* symmetric around 0 */
        y[N * D + i] = -y[i];
    for (size_t k = 0; k < 2 * N; k++)
        for (size_t i = 0; i < D; i++)
            for (size_t j = 0; j < D; j++)
                cov[i][j] += (double)y[k * D + i] * (double)y[k * D + j] / (2 * N);
    pipe_object *d = empirical(test_hold(data_make(PIPE_SHAPE(D), 2 * N, y, NULL, 0)), "schedule.edm", NULL);
    for (int k = 0; k < 2; k++) {
        double worst = 0.0;
        for (size_t j = 0; j < D; j++)
            x[j] = (float)(sigmas[k] * w[j]);
        gaussian_predict(d, sigmas[k], PIPE_SHAPE(1, D), x, NULL, PIPE_PREDICT_X0, got);
        for (size_t i = 0; i < D; i++) {
            double want = 0.0;
            for (size_t j = 0; j < D; j++)
                want += cov[i][j] * w[j];
            worst = fmax(worst, fabs(sigmas[k] * (double)got[i] - want));
        }
        error[k] = worst;
    }
    cr_expect(error[0] < 0.05, "error %g at sigma 20", error[0]);
    cr_expect(error[0] / error[1] > 3.3 && error[0] / error[1] < 4.7, "errors %g, %g: not a factor of 4",
              error[0], error[1]);
}

Test(empirical, labels_restrict_the_points)
{
    static const float y[] = {-1.0f, -0.9f, 2.0f, 2.2f}, x[] = {0.2f, 0.2f, 0.2f};
    static const int32_t of[] = {0, 0, 1, 1}, label[] = {0, 1, -1};
    pipe_dataset *data = test_hold(data_make(PIPE_SHAPE(1), 4, y, of, 2));
    pipe_object *d = empirical(data, "schedule.edm", (const char *const[]){"labels", "true", NULL});
    float got[3], all[3], one[3];

    gaussian_predict(d, 1.0, PIPE_SHAPE(3, 1), x, label, PIPE_PREDICT_X0, got);
    gaussian_predict(empirical(points_1d(y, 2), "schedule.edm", NULL), 1.0, PIPE_SHAPE(3, 1), x, NULL,
                     PIPE_PREDICT_X0, one);
    gaussian_predict(empirical(points_1d(y, 4), "schedule.edm", NULL), 1.0, PIPE_SHAPE(3, 1), x, NULL,
                     PIPE_PREDICT_X0, all);
    cr_expect_float_eq(got[0], one[0], 1e-6, "class 0");
    cr_expect(got[1] > 1.9f && got[1] < 2.3f, "class 1: %g", (double)got[1]);
    cr_expect_float_eq(got[2], all[2], 1e-6, "no label");
}

/* ---- fit.mixture ---- */
Test(mixture_fit, finds_blobs)
{
    enum { N = 600, D = 2 };
    static const float centre[3][D] = {{-4, 0}, {4, 1}, {0, 6}}, width[3] = {0.2f, 0.5f, 1.0f};
    static float x[N * D];
    PIPE_CLEANUP(pipe_gaussian_set_free) pipe_gaussian_set set = {.size = sizeof set};
    pipe_error err = PIPE_ERROR_INIT;
    static const char *const params[] = {"components", "3",      "batch", "128", "steps",
                                         "60",         "jitter", "0",     NULL};

    pipe_host_randn((pipe_key){.seed = 6}, x, N * D);
    for (size_t i = 0; i < N; i++) { /* a half, a third, a sixth */
        const size_t k = i % 6 < 3 ? 0 : i % 6 < 5 ? 1 : 2;
        for (size_t j = 0; j < D; j++)
            x[i * D + j] = x[i * D + j] * width[k] + centre[k][j];
    }
    pipe_dataset *data = test_hold(data_make(PIPE_SHAPE(D), N, x, NULL, 0));
    OK(pipe_gaussian_set_read(gaussian_fit("fit.mixture", data, params), -1, false, true, &set, &err));
    cr_assert_eq(set.count, 3);
    for (size_t k = 0; k < 3; k++) {
        size_t found = 3;
        for (size_t i = 0; i < 3; i++)
            if (gaussian_difference(set.mean + i * D, centre[k], D) < 0.4)
                found = i;
        cr_assert(found < 3, "no component near (%g, %g)", (double)centre[k][0], (double)centre[k][1]);
        cr_expect_float_eq(set.weight[found], k == 0 ? 0.5 : k == 1 ? 1.0 / 3 : 1.0 / 6, 0.01);
        cr_expect_float_eq(sqrt((double)set.eigenvalues[found * D]), width[k], 0.25 * (double)width[k]);
    }
}

Test(mixture_fit, of_one_component_is_the_gaussian)
{
    enum { D = 5 };
    pipe_dataset *data = gaussian_points(300, D, 2);
    PIPE_CLEANUP(pipe_gaussian_set_free) pipe_gaussian_set a = {.size = sizeof a}, b = {.size = sizeof b};
    pipe_error err = PIPE_ERROR_INIT;
    static const char *const params[] = {"components", "1", "jitter", "0.25", "rank", "3", NULL},
                             *const rank[] = {"rank", "3", NULL};

    OK(pipe_gaussian_set_read(gaussian_fit("fit.mixture", data, params), -1, true, true, &a, &err));
    OK(pipe_gaussian_set_read(gaussian_fit("fit.gaussian", data, rank), -1, true, true, &b, &err));
    cr_assert(a.count == 1 && a.rank == 3 && b.rank == 3);
    cr_expect_lt(gaussian_difference(a.mean, b.mean, D), 1e-5);
    for (size_t k = 0; k < 3; k++)
        cr_expect_float_eq(a.eigenvalues[k], (double)b.eigenvalues[k] + 0.25, 1e-5);
    cr_expect_float_eq(a.residual[0], (double)b.residual[0] + 0.25, 1e-5, "jitter is in every direction");
}

Test(mixture_fit, depends_on_its_seed_alone)
{
    pipe_dataset *data = gaussian_points(200, 4, 2);
    PIPE_CLEANUP(pipe_gaussian_set_free)
    pipe_gaussian_set a = {.size = sizeof a},
                      b = {.size = sizeof b}, c = {.size = sizeof c};
    static const char *const one[] = {"components", "5", "batch", "32", "seed", "1", NULL},
                             *const two[] = {"components", "5", "batch", "32", "seed", "2", NULL};
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipe_gaussian_set_read(gaussian_fit("fit.mixture", data, one), -1, false, true, &a, &err));
    OK(pipe_gaussian_set_read(gaussian_fit("fit.mixture", data, one), -1, false, true, &b, &err));
    OK(pipe_gaussian_set_read(gaussian_fit("fit.mixture", data, two), -1, false, true, &c, &err));
    cr_assert(a.count == b.count);
    cr_expect_eq(memcmp(a.mean, b.mean, (size_t)a.count * 4 * sizeof *a.mean), 0);
    cr_expect_neq(memcmp(a.mean, c.mean, 4 * sizeof *a.mean), 0);
}

Test(mixture_fit, says_what_is_wrong)
{
    pipe_context *ctx = test_hold(data_context(NULL));
    const pipei_named_object inputs[] = {{"data", gaussian_points(4, 2, 2)}, {NULL, NULL}};
    pipe_error err = PIPE_ERROR_INIT;

    check_failure(
        data_run(ctx, "fit", "fit.mixture", (const char *const[]){"components", "5", NULL}, inputs, &err),
        PIPE_EINVAL, &err, "components: 5 for the 4 samples", "more components than samples");
    check_failure(data_run(ctx, "fit", "fit.mixture",
                           (const char *const[]){"components", "2", "rank", "3", NULL}, inputs, &err),
                  PIPE_EINVAL, &err, "rank: 3 axes of samples of 2 numbers", "more axes than dimensions");
}
