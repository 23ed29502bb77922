/* Gaussians in closed form: fit, denoiser, density, probability flow. */
#include "gaussian/support.h"
#include "support/data.h"

#include <math.h>
#include <pipe/linalg.h>

static pipe_schedule_point ve(double sigma)
{
    return (pipe_schedule_point){.alpha = 1.0, .sigma = sigma};
}

/* ---- the flow's factor, in double ---- */
Test(gaussian, flow_factors_are_the_known_ones)
{
    static const struct {
        double variance, factor;
    } rows[] = {{4.0, .24311809}, {.25, .24198166}, {0.0, .24190566}}; /* sigma 80 -> 19.35245298 */
    const pipe_schedule_point from = ve(80.0), to = ve(19.35245298);

    for (size_t k = 0; k < COUNT(rows); k++) {
        const double got = pipe_gaussian_flow_factor(&from, &to, rows[k].variance);
        cr_expect_float_eq(got, rows[k].factor, 5e-9, "variance %g: %.10f, not %.8f", rows[k].variance, got,
                           rows[k].factor);
    }
    const pipe_schedule_point data = ve(0.0);
    cr_expect_float_eq(80.0 * pipe_gaussian_flow_factor(&from, &data, 0.25), 0.49999023, 5e-9);
}

Test(gaussian, flow_factors_compose_and_agree_between_schedules)
{
    static const char *const schedules[] = {"schedule.cosine", "schedule.linear", "schedule.flow"};
    static const double variances[] = {0.0, 1e-6, 0.3, 1.0, 79.0};

    for (size_t s = 0; s < COUNT(schedules); s++) {
        pipe_object *schedule = test_object("schedule", schedules[s], NULL, NULL);
        const pipe_schedule_point a = pipe_schedule_at(schedule, 0.97), b = pipe_schedule_at(schedule, 0.5),
                                  c = pipe_schedule_at(schedule, 0.03);
        for (size_t k = 0; k < COUNT(variances); k++) {
            const double l = variances[k], ab = pipe_gaussian_flow_factor(&a, &b, l),
                         bc = pipe_gaussian_flow_factor(&b, &c, l), ac = pipe_gaussian_flow_factor(&a, &c, l);
            cr_expect_float_eq(ab * bc, ac, 1e-12 * ac, "%s, variance %g: %.17g, not %.17g", schedules[s], l,
                               ab * bc, ac);
            /* the same in x / alpha, where sigma / alpha is the noise */
            const pipe_schedule_point va = ve(a.sigma / a.alpha), vc = ve(c.sigma / c.alpha);
            const double scaled = pipe_gaussian_flow_factor(&va, &vc, l) * c.alpha / a.alpha;
            cr_expect_float_eq(scaled, ac, 1e-12 * ac, "%s, variance %g", schedules[s], l);
        }
        if (s < 2) /* variance preserving */
            cr_expect_float_eq(pipe_gaussian_flow_factor(&a, &c, 1.0), 1.0, 1e-12, "%s", schedules[s]);
    }
}

/* ---- the fit ---- */
Test(gaussian, fit_gives_mean_axes_and_variances)
{
    enum { N = 400, D = 6 };
    pipe_error err = PIPE_ERROR_INIT;
    pipe_dataset *data = gaussian_points(N, D, 2), *s = gaussian_fit("fit.gaussian", data, NULL);
    static float x[N * D];
    double mean[D], cov[D * D];
    PIPE_CLEANUP(pipe_gaussian_set_free) pipe_gaussian_set set = {.size = sizeof set};

    for (uint64_t i = 0; i < N; i += 200)
        data_x(data, i, 200, x + i * D);
    OK(pipe_mean_covariance(x, N, D, mean, cov, &err));
    OK(pipe_gaussian_set_read(s, -1, false, true, &set, &err));
    cr_assert(set.count == 1 && set.rank == D && set.sample.rank == 1 && set.sample.dim[0] == D);
    for (size_t i = 0; i < D; i++) {
        cr_expect_float_eq(set.mean[i], mean[i], 1e-5);
        cr_expect(i == 0 || set.eigenvalues[i] <= set.eigenvalues[i - 1], "variances fall");
        for (size_t j = 0; j < D; j++) {
            double sum = 0.0, dot = 0.0;
            for (size_t k = 0; k < D; k++) {
                sum += (double)set.axes[k * D + i] * (double)set.eigenvalues[k] * (double)set.axes[k * D + j];
                dot += (double)set.axes[i * D + k] * (double)set.axes[j * D + k];
            }
            cr_expect_float_eq(sum, cov[i * D + j], 1e-5, "covariance %zu, %zu: %g, not %g", i, j, sum,
                               cov[i * D + j]);
            cr_expect_float_eq(dot, i == j, 1e-6, "axes %zu and %zu", i, j);
        }
    }
}

Test(gaussian, a_cut_fit_equals_a_cut_of_the_whole_one)
{
    enum { D = 6 };
    pipe_error err = PIPE_ERROR_INIT;
    pipe_dataset *data = gaussian_points(300, D, 2);
    pipe_dataset *whole = gaussian_fit("fit.gaussian", data, NULL),
                 *two = gaussian_fit("fit.gaussian", data, (const char *const[]){"rank", "2", NULL});
    PIPE_CLEANUP(pipe_gaussian_set_free) pipe_gaussian_set a = {.size = sizeof a}, b = {.size = sizeof b};

    OK(pipe_gaussian_set_read(whole, 1, true, true, &a, &err));
    OK(pipe_gaussian_set_read(two, 1, true, true, &b, &err));
    cr_expect_eq(a.rank, 1);
    cr_expect_float_eq(a.residual[0], b.residual[0], 1e-6f * a.residual[0], "%g, %g", (double)a.residual[0],
                       (double)b.residual[0]);
    cr_expect_lt(gaussian_difference(a.axes, b.axes, D), 1e-6);
    pipe_gaussian_set_free(&a);
    check_failure(pipe_gaussian_set_read(two, 3, false, true, &a, &err), PIPE_EINVAL, &err,
                  "rank: 3 axes are asked for; node holds 2", "more than were kept");
    check_failure(pipe_gaussian_set_read(data, -1, false, true, &a, &err), PIPE_ENOTFOUND, &err,
                  "no field `mean`", "no statistics at all");
}

/* ---- the denoiser ---- */
/* mu + alpha S (alpha^2 S + sigma^2)^-1 (x - alpha mu) by elimination in double. */
static void posterior(const double *mean, const double *cov, size_t d, const pipe_schedule_point *p,
                      const float *x, double *out)
{
    double a[8][9];

    for (size_t i = 0; i < d; i++) {
        for (size_t j = 0; j < d; j++)
            a[i][j] = p->alpha * p->alpha * cov[i * d + j] + (i == j ? p->sigma * p->sigma : 0.0);
        a[i][d] = (double)x[i] - p->alpha * mean[i];
    }
    for (size_t k = 0; k < d; k++)
        for (size_t i = 0; i < d; i++) {
            if (i == k)
                continue;
            const double f = a[i][k] / a[k][k];
            for (size_t j = k; j <= d; j++)
                a[i][j] -= f * a[k][j];
        }
    for (size_t i = 0; i < d; i++) {
        out[i] = mean[i];
        for (size_t j = 0; j < d; j++)
            out[i] += p->alpha * cov[i * d + j] * a[j][d] / a[j][j];
    }
}

Test(gaussian, is_the_posterior_mean)
{
    enum { N = 400, D = 6, B = 5 };
    static const double times[] = {0.01, 0.2, 0.5, 0.9, 1.0};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_dataset *data = gaussian_points(N, D, 2), *s = gaussian_fit("fit.gaussian", data, NULL);
    pipe_object *g = gaussian_denoiser("denoiser.gaussian", "schedule.cosine", s, NULL);
    pipe_object *m = gaussian_denoiser("denoiser.gaussian-mixture", "schedule.cosine", s, NULL);
    static float all[N * D];
    float x[B * D], got[B * D], same[B * D];
    double mean[D], cov[D * D], want[D];

    for (uint64_t i = 0; i < N; i += 200)
        data_x(data, i, 200, all + i * D);
    OK(pipe_mean_covariance(all, N, D, mean, cov, &err));
    pipe_host_randn((pipe_key){.seed = 4}, x, B * D);
    for (size_t k = 0; k < COUNT(times); k++) {
        const pipe_schedule_point p = gaussian_predict(g, times[k], PIPE_SHAPE(B, D), x, NULL,
                                                       PIPE_PREDICT_X0, got);
        for (size_t i = 0; i < B; i++) {
            posterior(mean, cov, D, &p, x + i * D, want);
            for (size_t j = 0; j < D; j++)
                cr_expect_float_eq(got[i * D + j], want[j], 2e-5 * (1 + fabs(want[j])), "t = %g: %g, not %g",
                                   times[k], (double)got[i * D + j], want[j]);
        }
        gaussian_predict(m, times[k], PIPE_SHAPE(B, D), x, NULL, PIPE_PREDICT_X0, same);
        cr_expect_eq(memcmp(got, same, sizeof got), 0, "a mixture of one is the Gaussian");
    }
}

Test(gaussian, the_score_is_the_gradient_of_the_log_density)
{
    pipe_dataset *data = gaussian_points(300, 6, 2), *s = gaussian_fit("fit.gaussian", data, NULL);
    static const char *const low[] = {"rank", "2", NULL},
                             *const spread[] = {"rank", "2", "spread", "true", NULL},
                             *const isotropic[] = {"rank", "0", "spread", "true", NULL},
                             *const flat[] = {"rank", "0", NULL};
    static const char *const two[] = {"means", "[-1, 0, 2, 1]", "covariances", "[0.3, 0.1, 0.1, 0.2]",
                                      "form",  "full",          "weights",     "[1, 3]",
                                      NULL};
    const pipei_named_object on[] = {{"schedule", test_object("schedule", "schedule.flow", NULL, NULL)},
                                     {NULL, NULL}};

    gaussian_check_score(gaussian_denoiser("denoiser.gaussian", "schedule.flow", s, NULL), 6, 0.4,
                         "full rank");
    gaussian_check_score(gaussian_denoiser("denoiser.gaussian", "schedule.flow", s, low), 6, 0.4, "rank 2");
    gaussian_check_score(gaussian_denoiser("denoiser.gaussian", "schedule.cosine", s, spread), 6, 0.6,
                         "rank 2, spread");
    gaussian_check_score(gaussian_denoiser("denoiser.gaussian", "schedule.cosine", s, isotropic), 6, 0.6,
                         "isotropic");
    gaussian_check_score(gaussian_denoiser("denoiser.gaussian", "schedule.cosine", s, flat), 6, 0.6,
                         "mean alone");
    gaussian_check_score(test_object("denoiser", "denoiser.gaussian-mixture", two, on), 2, 0.5, "a mixture");
}

/* The normalization: of a standard normal, which diffusion leaves alone, -d/2 ln 2 pi - |x|^2 / 2. */
Test(gaussian, the_density_is_normalized)
{
    static const char *const unit[] = {"dimension", "3", "means", "[0, 0, 0]", "covariances", "[1]", NULL};
    static const float x[] = {0.5f, -1.0f, 2.0f};
    const pipei_named_object on[] = {{"schedule", test_object("schedule", "schedule.cosine", NULL, NULL)},
                                     {NULL, NULL}};
    pipe_object *d = test_object("denoiser", "denoiser.gaussian-mixture", unit, on);
    pipe_error err = PIPE_ERROR_INIT;
    pipe_denoiser_info info;
    float got;

    OK(pipe_denoiser_describe(d, &info, &err));
    const pipe_level l = pipe_level_uniform(info.schedule, test_engine(), 1, 0.3);
    OK(pipe_read_f32(
        pipe_denoiser_log_density(d, pipe_from_f32(test_engine(), PIPE_SHAPE(1, 3), x), &l, NULL), &got, 1,
        &err));
    cr_expect_float_eq(got, -1.5 * log(6.283185307179586) - 0.5 * 5.25, 1e-5, "%g", (double)got);
}

/* An axis of variance 0 more, or none: the same denoiser. */
Test(gaussian, an_axis_without_variance_changes_nothing)
{
    enum { D = 5, B = 4 };
    float axes[2][2 * D] = {{0}}, eigenvalues[2][2] = {{1.5f, 0.0f}, {1.5f, 0.0f}};
    float mean[D] = {1, -1, 0, 2, 0.5f}, residual = 0.0f, weight = 1.0f, x[B * D], out[2][B * D],
          density[2][B];
    pipe_error err = PIPE_ERROR_INIT;
    pipe_object *schedule = test_object("schedule", "schedule.cosine", NULL, NULL);

    pipe_host_randn((pipe_key){.seed = 6}, x, B * D);
    for (int k = 0; k < 2; k++) {
        axes[k][0] = 0.6f;
        axes[k][3] = 0.8f;
        axes[k][D + 1] = 1.0f;
        pipe_gaussian_set set = {.size = sizeof set,
                                 .sample = PIPE_SHAPE(D),
                                 .count = 1,
                                 .rank = k + 1,
                                 .mean = mean,
                                 .axes = axes[k],
                                 .eigenvalues = eigenvalues[k],
                                 .residual = &residual,
                                 .weight = &weight};
        pipe_gaussians *g = NULL;
        OK(pipe_gaussians_new(&set, test_engine(), &g, &err));
        for (int what = 0; what < 2; what++) {
            const pipe_level l = pipe_level_uniform(schedule, test_engine(), B, 0.4);
            pipe_tensor *at = pipe_from_f32(test_engine(), PIPE_SHAPE(B, D), x);
            if (what == 0)
                OK(pipe_read_f32(pipe_gaussians_x0(g, at, &l, NULL), out[k], B * D, &err));
            else
                OK(pipe_read_f32(pipe_gaussians_log_density(g, at, &l), density[k], B, &err));
        }
        pipe_gaussians_free(g);
    }
    cr_expect_lt(gaussian_difference(out[0], out[1], B * D), 1e-6);
    cr_expect_lt(gaussian_difference(density[0], density[1], B), 2e-5);
}

/* ---- the flow ---- */
static void flow(pipe_object *d, double from, double to, pipe_shape shape, const float *x,
                 const int32_t *label, float *out)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_denoiser_info info;
    pipe_condition c = {.size = sizeof c};

    OK(pipe_denoiser_describe(d, &info, &err));
    const pipe_schedule_point a = pipe_schedule_at(info.schedule, from),
                              b = pipe_schedule_at(info.schedule, to);
    if (label)
        c.labels = pipe_from_i32(test_engine(), PIPE_SHAPE(shape.dim[0]), label);
    OK(pipe_read_f32(pipe_gaussian_flow(d, pipe_from_f32(test_engine(), shape, x), &a, &b, &c), out,
                     (size_t)pipe_shape_count(&shape), &err));
}

/* The error of Heun's method on the denoiser, with `steps` steps from t = 0.8 to 0.2, against the flow. */
static double heun_error(pipe_object *d, int steps)
{
    enum { D = 6, B = 3 };
    PIPE_CLEANUP(pipe_text_free) pipe_text times = {0};
    float start[B * D], want[B * D], end[B * D];
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *x = NULL, *at = NULL;

    for (int i = 0; i <= steps; i++)
        pipe_text_addf(&times, "%s%.9g", i ? ", " : "[", 0.8 - 0.6 * i / steps);
    pipe_text_add(&times, "]");
    pipe_object *heun = test_object("sampler", "sampler.heun",
                                    (const char *const[]){"grid", "custom", "times", times.data, NULL}, NULL);
    pipe_host_randn((pipe_key){.seed = 8}, start, B * D);
    pipe_keep(&at, pipe_from_f32(test_engine(), PIPE_SHAPE(B, D), start));
    OK(pipe_sample(
        &(pipe_sample_request){
            .size = sizeof(pipe_sample_request), .sampler = heun, .denoiser = d, .n = B, .start = at},
        &x, &err));
    OK(pipe_read_f32(x, end, B * D, &err));
    pipe_keep(&x, NULL);
    pipe_keep(&at, NULL);
    flow(d, 0.8, 0.2, PIPE_SHAPE(B, D), start, NULL, want);
    return gaussian_difference(end, want, B * D);
}

Test(gaussian, heun_converges_to_the_flow)
{
    static const char *const schedules[] = {"schedule.flow", "schedule.cosine"};
    static const char *const rank[] = {"rank", "2", "spread", "true", NULL};
    pipe_dataset *s = gaussian_fit("fit.gaussian", gaussian_points(300, 6, 2), NULL);

    for (size_t k = 0; k < COUNT(schedules); k++) {
        pipe_object *d = gaussian_denoiser("denoiser.gaussian", schedules[k], s, k ? rank : NULL);
        const double coarse = heun_error(d, 8), fine = heun_error(d, 32);
        const double slope = log(coarse / fine) / log(4.0);
        cr_expect(slope > 1.85 && slope < 2.3, "%s: order %g (errors %g, %g)", schedules[k], slope, coarse,
                  fine);
    }
}

/* Linear in x: columns A of the flow to sigma = 0 carry N(alpha mu, alpha^2 S + sigma^2) to N(mu, S):
 * A (alpha^2 S + sigma^2) A' = S, and the mean goes to the mean. */
Test(gaussian, the_flow_carries_one_gaussian_to_the_other)
{
    enum { N = 400, D = 6 };
    pipe_error err = PIPE_ERROR_INIT;
    pipe_dataset *data = gaussian_points(N, D, 2), *s = gaussian_fit("fit.gaussian", data, NULL);
    pipe_object *d = gaussian_denoiser("denoiser.gaussian", "schedule.cosine", s, NULL);
    pipe_denoiser_info info;
    static float all[N * D];
    float x[(D + 1) * D] = {0}, y[(D + 1) * D];
    double mean[D], cov[D * D];

    for (uint64_t i = 0; i < N; i += 200)
        data_x(data, i, 200, all + i * D);
    OK(pipe_mean_covariance(all, N, D, mean, cov, &err));
    OK(pipe_denoiser_describe(d, &info, &err));
    const pipe_schedule_point from = pipe_schedule_at(info.schedule, 0.7);
    for (size_t i = 0; i <= D; i++)
        for (size_t j = 0; j < D; j++)
            x[i * D + j] = (float)(from.alpha * mean[j] + (i > 0 && i - 1 == j));
    flow(d, 0.7, 0.0, PIPE_SHAPE(D + 1, D), x, NULL, y);
    for (size_t i = 0; i < D; i++) {
        cr_expect_float_eq(y[i], mean[i], 1e-5, "the mean");
        for (size_t j = 0; j < D; j++) {
            double sum = 0.0;
            for (size_t p = 0; p < D; p++)
                for (size_t q = 0; q < D; q++)
                    sum += ((double)y[(p + 1) * D + i] - (double)y[i]) *
                           (from.alpha * from.alpha * cov[p * D + q] +
                            (p == q ? from.sigma * from.sigma : 0.0)) *
                           ((double)y[(q + 1) * D + j] - (double)y[j]);
            cr_expect_float_eq(sum, cov[i * D + j], 2e-5, "covariance %zu, %zu: %g, not %g", i, j, sum,
                               cov[i * D + j]);
        }
    }
}

/* What lies outside the kept axes is scaled by the noise's ratio, not dropped. */
Test(gaussian, the_flow_scales_the_residual)
{
    enum { D = 6, B = 2 };
    pipe_dataset *s = gaussian_fit("fit.gaussian", gaussian_points(300, D, 2), NULL);
    pipe_object *d = gaussian_denoiser("denoiser.gaussian", "schedule.cosine", s,
                                       (const char *const[]){"rank", "2", NULL});
    PIPE_CLEANUP(pipe_gaussian_set_free) pipe_gaussian_set set = {.size = sizeof set};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_denoiser_info info;
    float x[B * D], y[B * D], twice[B * D];

    OK(pipe_gaussian_set_read(s, -1, false, true, &set, &err));
    OK(pipe_denoiser_describe(d, &info, &err));
    const pipe_schedule_point a = pipe_schedule_at(info.schedule, 0.9),
                              b = pipe_schedule_at(info.schedule, 0.1);
    pipe_host_randn((pipe_key){.seed = 9}, x, B * D);
    flow(d, 0.9, 0.1, PIPE_SHAPE(B, D), x, NULL, y);
    for (size_t i = 0; i < B; i++)
        for (size_t k = 0; k < D; k++) {
            double before = 0.0, after = 0.0;
            for (size_t j = 0; j < D; j++) {
                before += (double)set.axes[k * D + j] *
                          ((double)x[i * D + j] - a.alpha * (double)set.mean[j]);
                after += (double)set.axes[k * D + j] * ((double)y[i * D + j] - b.alpha * (double)set.mean[j]);
            }
            const double want = before *
                                pipe_gaussian_flow_factor(&a, &b, k < 2 ? (double)set.eigenvalues[k] : 0.0);
            cr_expect_float_eq(after, want, 1e-5, "axis %zu: %g, not %g", k, after, want);
        }
    flow(d, 0.9, 0.5, PIPE_SHAPE(B, D), x, NULL, twice);
    flow(d, 0.5, 0.1, PIPE_SHAPE(B, D), twice, NULL, twice);
    cr_expect_lt(gaussian_difference(y, twice, B * D), 2e-6, "by way of a point between");
    flow(d, 0.1, 0.9, PIPE_SHAPE(B, D), y, NULL, twice);
    cr_expect_lt(gaussian_difference(x, twice, B * D), 1e-4, "and back");
}

Test(gaussian, labels_choose_a_class)
{
    enum { D = 4, B = 3 };
    pipe_dataset *data = gaussian_points(300, D, 2);
    pipe_dataset *both = gaussian_fit("fit.gaussian", data, (const char *const[]){"per_class", "true", NULL});
    pipe_dataset *all = gaussian_fit("fit.gaussian", data, NULL);
    pipe_object *d = gaussian_denoiser("denoiser.gaussian", "schedule.cosine", both, NULL);
    pipe_object *whole = gaussian_denoiser("denoiser.gaussian", "schedule.cosine", all, NULL);
    static const int32_t label[B] = {1, -1, 0};
    PIPE_CLEANUP(pipe_gaussian_set_free) pipe_gaussian_set set = {.size = sizeof set};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_denoiser_info info;
    float x[B * D], got[B * D], want[B * D];
    double mean[D], cov[D * D], by_hand[D];
    static float own[150 * D];

    OK(pipe_denoiser_describe(d, &info, &err));
    cr_expect_eq(info.classes, 2);
    pipe_host_randn((pipe_key){.seed = 10}, x, B * D);
    const pipe_schedule_point p = gaussian_predict(d, 0.4, PIPE_SHAPE(B, D), x, label, PIPE_PREDICT_X0, got);
    gaussian_predict(whole, 0.4, PIPE_SHAPE(B, D), x, NULL, PIPE_PREDICT_X0, want);
    cr_expect_lt(gaussian_difference(got + D, want + D, D), 1e-6, "label -1: the Gaussian of all data");
    for (uint64_t i = 0; i < 150; i++) /* class 1 has the odd samples */
        data_x(data, 2 * i + 1, 1, own + i * D);
    OK(pipe_mean_covariance(own, 150, D, mean, cov, &err));
    posterior(mean, cov, D, &p, x, by_hand);
    for (size_t j = 0; j < D; j++)
        cr_expect_float_eq(got[j], by_hand[j], 1e-5, "class 1: %g, not %g", (double)got[j], by_hand[j]);
    gaussian_predict(d, 0.4, PIPE_SHAPE(B, D), x, NULL, PIPE_PREDICT_X0, got);
    cr_expect_lt(gaussian_difference(got, want, B * D), 1e-6, "no labels: the Gaussian of all data");
    flow(d, 0.9, 0.2, PIPE_SHAPE(B, D), x, NULL, got);
    flow(whole, 0.9, 0.2, PIPE_SHAPE(B, D), x, NULL, want);
    cr_expect_lt(gaussian_difference(got, want, B * D), 1e-6);
    /* as a mixture: the classes, without the row of all data */
    OK(pipe_gaussian_set_read(both, -1, false, true, &set, &err));
    cr_expect_eq(set.count, 2);
    cr_expect_float_eq(set.weight[0] + set.weight[1], 1.0, 1e-6);
}

Test(gaussian, says_what_it_cannot_do)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_denoiser_info info;
    pipe_engine *e = test_engine();
    pipe_dataset *s = gaussian_fit("fit.gaussian", gaussian_points(300, 4, 2), NULL);
    pipe_object *d = gaussian_denoiser("denoiser.gaussian", "schedule.cosine", s,
                                       (const char *const[]){"rank", "2", NULL});
    pipe_object *net = test_object("denoiser", "denoiser.mlp", NULL, NULL), *none = NULL;
    static const char *const two[] = {"dimension", "1", "means", "[-1, 1]", NULL};
    const pipei_named_object on[] = {{"schedule", test_object("schedule", "schedule.cosine", NULL, NULL)},
                                     {NULL, NULL}};
    pipe_object *mixture = test_object("denoiser", "denoiser.gaussian-mixture", two, on);

    OK(pipe_denoiser_describe(d, &info, &err));
    const pipe_schedule_point a = pipe_schedule_at(info.schedule, 0.0),
                              b = pipe_schedule_at(info.schedule, 0.5);
    const pipe_level l = pipe_level_uniform(info.schedule, e, 1, 0.5);
    check_failure(pipe_check(pipe_gaussian_flow(d, pipe_zeros(e, PIPE_SHAPE(1, 4)), &a, &b, NULL), &err),
                  PIPE_EDOMAIN, &err, "sigma = 0 is not determined|variance 0", "noise from flat data");
    check_failure(pipe_check(pipe_gaussian_flow(d, pipe_zeros(e, PIPE_SHAPE(1, 5)), &b, &a, NULL), &err),
                  PIPE_ESHAPE, &err, "[1, 5]|[4]", "another shape");
    check_failure(pipe_check(pipe_gaussian_flow(net, pipe_zeros(e, PIPE_SHAPE(1, 4)), &b, &a, NULL), &err),
                  PIPE_EUNSUPPORTED, &err, "denoiser.mlp|closed form|denoiser.gaussian", "a network");
    check_failure(
        pipe_check(pipe_gaussian_flow(mixture, pipe_zeros(e, PIPE_SHAPE(1, 1)), &b, &a, NULL), &err),
        PIPE_EUNSUPPORTED, &err, "a mixture of 2 Gaussians", "a mixture");
    check_failure(pipe_check(pipe_denoiser_log_density(net, pipe_zeros(e, PIPE_SHAPE(1, 4)), &l, NULL), &err),
                  PIPE_EUNSUPPORTED, &err, "the density of denoiser.mlp", "a network's density");
    check_failure(
        data_over("denoiser", "denoiser.gaussian", "statistics", gaussian_points(4, 2, 2), NULL, &none, &err),
        PIPE_EINVAL, &err, "input `schedule` is missing", "no schedule");
}

/* ---- facts of Fashion-MNIST, computed for the paper's card in double ---- */
Test(gaussian, knows_fashion_mnist)
{
    static const double eigenvalues[] = {79.238, 48.448, 16.424, 13.527, 10.499, 9.443};
    static const struct {
        int axis;
        double share;
    } shares[] = {{84, 0.90}, {187, 0.95}, {459, 0.99}};
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(pipe_gaussian_set_free) pipe_gaussian_set set = {.size = sizeof set};
    double trace = 0.0, mean = 0.0, sum = 0.0;

    need_fashion_mnist();
    pipe_dataset *train = test_object("dataset", "dataset.idx",
                                      (const char *const[]){"path", FASHION_MNIST, "split", "train", NULL}, NULL);
    pipe_dataset *s = gaussian_fit("fit.gaussian", train, NULL);
    OK(pipe_gaussian_set_read(s, -1, false, true, &set, &err));
    cr_assert_eq(set.rank, 784);
    for (size_t i = 0; i < 784; i++) {
        trace += (double)set.eigenvalues[i];
        mean += (double)set.mean[i] / 784;
    }
    cr_expect_float_eq(trace, 272.865, 0.01, "the trace is %g", trace);
    cr_expect_float_eq(mean, -0.427919, 1e-5, "the mean is %g", mean);
    for (size_t i = 0; i < COUNT(eigenvalues); i++)
        cr_expect_float_eq(set.eigenvalues[i], eigenvalues[i], 2e-3, "eigenvalue %zu is %g", i + 1,
                           (double)set.eigenvalues[i]);
    cr_expect_float_eq(set.eigenvalues[31], 0.7233, 1e-4);
    cr_expect_float_eq(set.eigenvalues[99], 0.1804, 1e-4);
    for (int i = 0, k = 0; i < 784 && k < (int)COUNT(shares); i++) {
        sum += (double)set.eigenvalues[i];
        if (sum < shares[k].share * trace)
            continue;
        cr_expect_eq(i + 1, shares[k].axis, "%g of the variance: %d axes", shares[k].share, i + 1);
        k++;
    }
}
