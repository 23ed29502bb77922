/* metric.explained-variance, .likelihood, .rmse, .compare, .series; fit's `keep`. */
#include "gaussian/support.h"

#include <math.h>
#include <stdio.h>

/* A mixture under a schedule that several denoisers share. */
static pipe_object *mixture(const char *name, pipe_object *schedule, const char *const *params)
{
    const pipei_named_object inputs[] = {{"schedule", schedule}, {NULL, NULL}};
    pipe_object *d = NULL;
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipei_object_create(test_plugin("denoiser", "denoiser.gaussian-mixture"), name, params, inputs, 1,
                           test_context(name, 1), &d, &err));
    return test_hold(d);
}

static pipe_metrics *metrics(pipe_context *ctx)
{
    pipe_metrics *m = NULL;
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipei_context_metrics(ctx, &m, &err));
    return test_hold(m);
}

/* Two samples of very different scores: the mean of the ratios, not the ratio of the means. */
Test(explained, is_the_mean_of_ratios_per_sample)
{
    enum { N = 2, D = 2 };
    static const float y[] = {0.1f, 0.0f, 30.0f, -20.0f};
    static const char *const a_params[] = {"means", "[0, 0, 2, 1]", "covariances", "[0.5]", NULL},
                             *const b_params[] = {"means", "[0, 0]", "covariances", "[2.0]", NULL};
    pipe_object *edm = test_object("schedule", "schedule.edm", NULL, NULL),
                *cosine = test_object("schedule", "schedule.cosine", NULL, NULL);
    pipe_object *a = mixture("net", edm, a_params), *b = mixture("other", cosine, b_params);
    pipe_dataset *data = test_hold(data_make(PIPE_SHAPE(D), N, y, NULL, 0));
    pipe_context *ctx = test_hold(data_context(NULL));
    const pipei_named_object inputs[] = {
        {"denoiser", a}, {"approximations", a}, {"approximations", b}, {"data", data}, {NULL, NULL}};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_key key = pipe_context_key(ctx, "noise");
    double score = 0.0, x0 = 0.0, top = 0.0, bottom = 0.0;

    OK(data_run(ctx, "metric", "metric.explained-variance",
                (const char *const[]){"sigmas", "[3, 0.5]", "count", "2", "batch", "1", NULL}, inputs, &err));
    cr_expect_float_eq(data_reported(ctx, "net-score-3"), 1.0, 0.0, "itself is all of it");
    cr_expect_float_eq(data_reported(ctx, "net-x0-0.5"), 1.0, 0.0);
    key.step = 1; /* the second noise level */
    for (size_t i = 0; i < N; i++) {
        float x[D], da[D], db[D];
        double left = 0.0, s = 0.0, d = 0.0;
        key.sample = i;
        pipe_host_randn(key, x, D);
        for (size_t j = 0; j < D; j++)
            x[j] = y[i * D + j] + 0.5f * x[j];
        pipe_tensor *at = pipe_from_f32(test_engine(), PIPE_SHAPE(1, D), x);
        OK(pipe_read_f32(pipe_predict_x0_of_ratio(a, at, 0.5, NULL), da, D, &err));
        at = pipe_from_f32(test_engine(), PIPE_SHAPE(1, D), x);
        OK(pipe_read_f32(pipe_predict_x0_of_ratio(b, at, 0.5, NULL), db, D, &err));
        for (size_t j = 0; j < D; j++) {
            left += pow((double)da[j] - (double)db[j], 2);
            s += pow((double)da[j] - (double)x[j], 2);
            d += pow((double)da[j], 2);
        }
        score += (1.0 - left / s) / N;
        x0 += (1.0 - left / d) / N;
        top += left;
        bottom += s;
    }
    cr_expect_float_eq(data_reported(ctx, "other-score-0.5"), score, 1e-4 * (1 + fabs(score)), "%g, not %g",
                       data_reported(ctx, "other-score-0.5"), score);
    cr_expect_float_eq(data_reported(ctx, "other-x0-0.5"), x0, 1e-4 * (1 + fabs(x0)));
    cr_expect(fabs(score - (1.0 - top / bottom)) > 1e-3, "the samples do not tell the two means apart");
}

Test(explained, says_what_cannot_be)
{
    static const float y[] = {0, 1};
    static const char *const params[] = {"dimension", "1", "means", "[0]", NULL};
    pipe_object *d = mixture("net", test_object("schedule", "schedule.cosine", NULL, NULL), params);
    pipe_context *ctx = test_hold(data_context(NULL));
    const pipei_named_object inputs[] = {{"denoiser", d},
                                         {"approximations", d},
                                         {"data", test_hold(data_make(PIPE_SHAPE(1), 2, y, NULL, 0))},
                                         {NULL, NULL}};
    pipe_error err = PIPE_ERROR_INIT;

    check_failure(data_run(ctx, "metric", "metric.explained-variance",
                           (const char *const[]){"count", "3", NULL}, inputs, &err),
                  PIPE_EINVAL, &err, "samples 0 to 2 are asked for|has 2", "more than there are");
    check_failure(data_run(ctx, "metric", "metric.explained-variance",
                           (const char *const[]){"count", "2", "sigmas", "[900000]", NULL}, inputs, &err),
                  PIPE_EDOMAIN, &err, "net|900000|range", "noisier than the schedule");
}

/* ---- likelihood ---- */
static double likelihood(pipe_object *d, pipe_dataset *data, const char *const *params, const char *what)
{
    pipe_context *ctx = test_hold(data_context(NULL));
    const pipei_named_object inputs[] = {{"denoiser", d}, {"data", data}, {NULL, NULL}};
    pipe_error err = PIPE_ERROR_INIT;

    OK(data_run(ctx, "metric", "metric.likelihood", params, inputs, &err));
    return data_reported(ctx, what);
}

/* Of mean 0: what is noise at ratio_max has none. */
Test(likelihood, of_a_gaussian_is_its_density)
{
    enum { N = 4, D = 2 };
    static const float y[] = {0.3f, -0.2f, 1.0f, 0.5f, -0.4f, 0.9f, 0.0f, 0.0f};
    static const char *const params[] = {"means", "[0, 0]", "covariances", "[0.3, 0.1, 0.1, 0.2]",
                                         "form",  "full",   NULL};
    static const char *const exact[] = {"trace", "exact", "count", "4", "batch", "3", "steps", "90", NULL},
                             *const hutchinson[] = {"trace", "hutchinson", "probes", "8", "count",
                                                    "4",     "steps",      "20",     NULL};
    pipe_dataset *data = test_hold(data_make(PIPE_SHAPE(D), N, y, NULL, 0));
    pipe_object *d = mixture("net", test_object("schedule", "schedule.edm", NULL, NULL), params);
    /* at ratio_min the variances are larger by its square */
    const double e = 0.002 * 0.002, a = 0.3 + e, b = 0.1, c = 0.2 + e, det = a * c - b * b;
    double want = 0.0;

    for (size_t i = 0; i < N; i++) {
        const double u = (double)y[2 * i], v = (double)y[2 * i + 1];
        want += -0.5 * (c * u * u - 2 * b * u * v + a * v * v) / det / N;
    }
    want += -log(6.283185307179586) - 0.5 * log(det);
    const double got = likelihood(d, data, exact, "log_likelihood");
    cr_expect_float_eq(got, want, 1e-4, "%.6f, not %.6f", got, want);
    const double about = likelihood(d, data, hutchinson, "log_likelihood");
    cr_expect(fabs(about - want) < 0.5 && about != got, "Hutchinson's estimate is %g, not about %g", about,
              want);
    cr_expect_float_eq(likelihood(d, data, exact, "bits_per_dim"), -got / (2 * log(2.0)), 1e-9);
}

/* Data that are discrete: noise of one bin is added, and the bin's width is counted. */
Test(likelihood, dequantizes)
{
    enum { N = 64 };
    static const char *const params[] = {"dimension", "1", "means", "[0]", "covariances", "[0.09]", NULL};
    static const char *const levels[] = {"trace",  "exact", "steps",     "30", "count", "64",
                                         "levels", "3",     "ratio_max", "80", NULL};
    static const float zeros[N] = {0};
    pipe_object *d = mixture("net", test_object("schedule", "schedule.edm", NULL, NULL), params);
    double want = 0.0;
    pipe_dataset *data = test_hold(data_make(PIPE_SHAPE(1), N, zeros, NULL, 0));
    const double bits = likelihood(d, data, levels, "bits_per_dim");

    /* values -1, 0, 1: a bin is 1 wide; E log N(u; 0, .09) for u uniform in +-1/2 is -(1/12) / .18 - ... */
    want = (0.5 * log(6.283185307179586 * 0.09) + 1.0 / 12 / 0.18) / log(2.0);
    cr_expect_float_eq(bits, want, 0.25, "%g, not about %g", bits, want);
}

/* ---- sets and numbers ---- */
Test(numbers, rmse)
{
    static const float a[] = {1, 2, 3, 4}, b[] = {1, 0, 3, 8, 9, 9};
    pipe_dataset *p = test_hold(data_make(PIPE_SHAPE(2), 2, a, NULL, 0)),
                 *q = test_hold(data_make(PIPE_SHAPE(2), 3, b, NULL, 0));
    pipe_context *ctx = test_hold(data_context(NULL));
    pipe_error err = PIPE_ERROR_INIT;

    OK(data_run(ctx, "metric", "metric.rmse", NULL,
                (const pipei_named_object[]){{"samples", p}, {"reference", q}, {NULL, NULL}}, &err));
    cr_expect_float_eq(data_reported(ctx, "rmse"), sqrt((4.0 + 16.0) / 4), 1e-12);
    cr_expect_float_eq(data_reported(ctx, "worst"), sqrt(16.0 / 2), 1e-12);
    check_failure(data_run(ctx, "metric", "metric.rmse", NULL,
                           (const pipei_named_object[]){{"samples", q}, {"reference", p}, {NULL, NULL}},
                           &err),
                  PIPE_EINVAL, &err, "3 samples|more than the 2", "more samples than references");
    OK(data_run(ctx, "metric", "metric.rmse", (const char *const[]){"count", "1", NULL},
                (const pipei_named_object[]){{"samples", q}, {"reference", p}, {NULL, NULL}}, &err));
    cr_expect_float_eq(data_reported(ctx, "rmse"), sqrt(4.0 / 2), 1e-12, "of the first sample alone");
    check_failure(data_run(ctx, "metric", "metric.rmse", (const char *const[]){"count", "3", NULL},
                           (const pipei_named_object[]){{"samples", p}, {"reference", q}, {NULL, NULL}},
                           &err),
                  PIPE_EINVAL, &err, "count|2 samples", "more than there are");
}

Test(numbers, rmse_has_a_median)
{
    /* by sample 5, 1, 300, 0, each sqrt(1/2) of it: unsorted, and one far off */
    static const float a[] = {3, 4, 1, 0, 300, 0, 0, 0}, zero[8] = {0}, bad[] = {0, 0, NAN, 1, 0, 0, 0, 0};
    static const struct {
        const char *count;
        double median;
        const char *why;
    } cases[] = {
        {"1", 5.0, "one sample is its own median"},
        {"2", 3.0, "even: the mean of both"},
        {"3", 5.0, "odd: the middle one, not that of the middle row"},
        {"4", 3.0, "even: the two in the middle; 300 moves nothing"},
    };
    pipe_dataset *p = test_hold(data_make(PIPE_SHAPE(2), 4, a, NULL, 0)),
                 *q = test_hold(data_make(PIPE_SHAPE(2), 4, zero, NULL, 0)),
                 *r = test_hold(data_make(PIPE_SHAPE(2), 4, bad, NULL, 0));
    pipe_context *ctx = test_hold(data_context(NULL));
    pipe_error err = PIPE_ERROR_INIT;

    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        OK(data_run(ctx, "metric", "metric.rmse", (const char *const[]){"count", cases[k].count, NULL},
                    (const pipei_named_object[]){{"samples", p}, {"reference", q}, {NULL, NULL}}, &err));
        cr_expect_float_eq(data_reported(ctx, "median"), cases[k].median * sqrt(0.5), 1e-12, "%s",
                           cases[k].why);
    }
    check_failure(data_run(ctx, "metric", "metric.rmse", NULL,
                           (const pipei_named_object[]){{"samples", p}, {"reference", r}, {NULL, NULL}},
                           &err),
                  PIPE_EDOMAIN, &err, "sample 1|NaN", "a NaN has no place in an order");
}

static pipe_metrics *reported(const char *name, double value, const char *other, double second)
{
    pipe_context *ctx = test_hold(data_context(NULL));
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipe_report(ctx, name, value, &err));
    OK(pipe_report(ctx, other, second, &err));
    return metrics(ctx);
}

Test(numbers, compare_and_series)
{
    pipe_metrics *a = reported("p", 1.0, "q", 8.0), *b = reported("p", 9.6, "q", 2.0),
                 *c = reported("p", 10.0, "q", 4.0);
    pipe_context *ctx = test_hold(data_context(NULL));
    const pipei_named_object two[] = {{"values", a}, {"values", b}, {"against", c}, {NULL, NULL}},
                             three[] = {{"values", a}, {"values", b}, {"values", c}, {NULL, NULL}};
    const double *step, *value;
    size_t n;
    pipe_error err = PIPE_ERROR_INIT;

    OK(data_run(ctx, "metric", "metric.compare",
                (const char *const[]){"names", "[p, q]", "against_name", "q", "pick", "largest", NULL}, two,
                &err));
    cr_expect_float_eq(data_reported(ctx, "value"), 9.6, 1e-12);
    cr_expect_float_eq(data_reported(ctx, "difference"), 5.6, 1e-12);
    cr_expect_float_eq(data_reported(ctx, "ratio"), 2.4, 1e-12);
    OK(data_run(ctx, "metric", "metric.compare", (const char *const[]){"names", "[q]", "pick", "mean", NULL},
                two, &err));
    cr_expect_float_eq(data_reported(ctx, "value"), 5.0, 1e-12);
    OK(data_run(ctx, "metric", "metric.compare",
                (const char *const[]){"names", "[q]", "pick", "smallest", NULL}, two, &err));
    cr_expect_float_eq(data_reported(ctx, "value"), 2.0, 1e-12);
    check_failure(
        data_run(ctx, "metric", "metric.compare", (const char *const[]){"names", "[q]", NULL}, two, &err),
        PIPE_EINVAL, &err, "2 numbers are found|pick", "two, and no pick");
    check_failure(
        data_run(ctx, "metric", "metric.compare", (const char *const[]){"names", "[z]", NULL}, two, &err),
        PIPE_ENOTFOUND, &err, "no step reports `z`", "an unknown name");

    OK(data_run(ctx, "metric", "metric.series",
                (const char *const[]){"at", "[0, 100, 800]", "names", "[p, q]", NULL}, three, &err));
    cr_expect_float_eq(data_reported(ctx, "maximum-p"), 10.0, 1e-12);
    cr_expect_float_eq(data_reported(ctx, "reached-p"), 100.0, 1e-12, "9.6 is 95 %% of 10");
    cr_expect_float_eq(data_reported(ctx, "reached-q"), 0.0, 1e-12, "the first is the largest");
    cr_assert(pipe_metrics_curve(metrics(ctx), "p", &step, &value, &n) && n == 3);
    cr_expect(step[1] == 100.0 && value[1] == 9.6);
    check_failure(data_run(ctx, "metric", "metric.series",
                           (const char *const[]){"at", "[0, 100]", "names", "[p]", NULL}, three, &err),
                  PIPE_EINVAL, &err, "2 places for 3 values", "a place too few");
}
