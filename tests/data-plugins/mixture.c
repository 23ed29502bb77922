/* denoiser.gaussian-mixture against numerical integration, and its parameters. */
#include "data-plugins/data-test.h"

#include <math.h>

static pipe_status try_mixture(const char *const *params, pipe_object **out, pipe_error *err)
{
    pipe_object *s = test_object("schedule", "schedule.cosine", NULL, NULL);
    const pipe_status status = data_over("denoiser", "denoiser.gaussian-mixture", "schedule", s, params, out,
                                         err);

    pipe_object_unref(s);
    return status;
}

static pipe_object *mixture(const char *const *params)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_object *d = NULL;

    OK(try_mixture(params, &d, &err));
    return d;
}

static pipe_schedule_point predict(pipe_object *d, double t, const float *x, int64_t n, int64_t dim,
                                   const int32_t *label, float *out)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_denoiser_info info;
    pipe_condition c = {.size = sizeof c};

    OK(pipe_denoiser_describe(d, &info, &err));
    const pipe_level l = pipe_level_uniform(info.schedule, test_engine(), n, t);
    if (label)
        c.labels = pipe_from_i32(test_engine(), PIPE_SHAPE(n), label);
    OK(pipe_read_f32(pipe_denoise(d, pipe_from_f32(test_engine(), PIPE_SHAPE(n, dim), x), &l, &c), out,
                     (size_t)(n * dim), &err));
    return l.point;
}

/* E[x0 | x] = int x0 p(x0) N(x; alpha x0, sigma^2) / int p(x0) N(...), by 40,000 points. */
static double posterior_mean(const double *w, const double *mu, const double *var, size_t k, double alpha,
                             double sigma, double x)
{
    double top = 0.0, bottom = 0.0;

    for (int i = 0; i < 40000; i++) {
        const double x0 = -10.0 + 20.0 * (i + 0.5) / 40000, r = (x - alpha * x0) / sigma;
        double p = 0.0;
        for (size_t j = 0; j < k; j++)
            p += w[j] / sqrt(var[j]) * exp(-0.5 * (x0 - mu[j]) * (x0 - mu[j]) / var[j]);
        p *= exp(-0.5 * r * r);
        top += x0 * p;
        bottom += p;
    }
    return top / bottom;
}

Test(mixture, is_the_posterior_mean)
{
    static const double w[] = {0.2, 0.3, 0.5}, mu[] = {-2, 0.5, 3}, var[] = {0.3, 0.05, 1.0};
    static const float x[] = {-3, -1.5f, -0.2f, 0, 0.4f, 1, 2.2f, 3.5f};
    static const double times[] = {0.1, 0.3, 0.5, 0.8, 0.95};
    pipe_object *d = mixture((const char *const[]){"dimension", "1", "means", "[-2, 0.5, 3]", "covariances",
                                                   "[0.3, 0.05, 1.0]", "weights", "[2, 3, 5]", NULL});
    float got[8];

    for (size_t k = 0; k < COUNT(times); k++) {
        const pipe_schedule_point p = predict(d, times[k], x, 8, 1, NULL, got);
        for (size_t i = 0; i < 8; i++) {
            const double want = posterior_mean(w, mu, var, 3, p.alpha, p.sigma, (double)x[i]);
            cr_expect_float_eq(got[i], want, 1e-4, "t = %g, x = %g: %g, not %g", times[k], x[i], got[i],
                               want);
        }
    }
    pipe_object_unref(d);
}

/* One Gaussian with a full matrix: mu + alpha C (alpha^2 C + sigma^2)^-1 (x - alpha mu), by Cramer's rule. */
Test(mixture, a_full_covariance_turns_the_axes)
{
    const double a = 2, b = 0.9, c = 0.5, mu[] = {1, -2};
    static const float x[] = {0.7f, 1.9f};
    pipe_object *d = mixture(
        (const char *const[]){"means", "[1, -2]", "covariances", "[2, 0.9, 0.9, 0.5]", NULL});
    float got[2];
    const pipe_schedule_point p = predict(d, 0.4, x, 1, 2, NULL, got);
    const double al = p.alpha, va = al * al * a + p.sigma * p.sigma, vb = al * al * b,
                 vc = al * al * c + p.sigma * p.sigma, det = va * vc - vb * vb;
    const double u = (double)x[0] - al * mu[0], v = (double)x[1] - al * mu[1];
    const double s = (vc * u - vb * v) / det, t = (va * v - vb * u) / det;

    cr_expect_float_eq(got[0], mu[0] + al * (a * s + b * t), 1e-4);
    cr_expect_float_eq(got[1], mu[1] + al * (b * s + c * t), 1e-4);
    pipe_object_unref(d);
}

Test(mixture, a_label_selects_a_component_whatever_its_weight)
{
    static const double one[] = {1}, mu[] = {-2, 3}, var[] = {0.3, 1.0};
    static const float x[] = {0.4f, 0.4f, 0.4f};
    static const int32_t label[] = {0, 1, -1};
    pipe_object *d = mixture((const char *const[]){"dimension", "1", "means", "[-2, 3]", "covariances",
                                                   "[0.3, 1]", "weights", "[0, 1]", "labels", "true", NULL});
    pipe_denoiser_info info;
    pipe_error err = PIPE_ERROR_INIT;
    float got[3];
    const pipe_schedule_point p = predict(d, 0.5, x, 3, 1, label, got);

    OK(pipe_denoiser_describe(d, &info, &err));
    cr_expect_eq(info.classes, 2);
    cr_expect_float_eq(got[0], posterior_mean(one, mu, var, 1, p.alpha, p.sigma, (double)x[0]), 1e-4);
    cr_expect_float_eq(got[1], posterior_mean(one, mu + 1, var + 1, 1, p.alpha, p.sigma, (double)x[0]), 1e-4);
    cr_expect_float_eq(got[2], got[1], 1e-5, "no label: the component that has all the weight");
    pipe_object_unref(d);
}

/* Every way to say the same: unit and quarter variances in two dimensions. */
Test(mixture, covariances_are_given_in_one_of_three_forms)
{
    static const struct {
        const char *means, *covariances, *form;
    } same[] = {
        {"[0, 1, 2, 3, 4, 5]", "[0.25]", "auto"},
        {"[0, 1, 2, 3, 4, 5]", "0.25", "auto"},
        {"[0, 1, 2, 3, 4, 5]", "[0.25, 0.25, 0.25]", "auto"},
        {"[0, 1, 2, 3, 4, 5]", "[0.25, 0.25]", "auto"},
        {"[0, 1, 2, 3, 4, 5]", "[0.25, 0, 0, 0.25]", "auto"},
        {"[0, 1, 2, 3, 4, 5]", "[0.25, 0.25, 0.25, 0.25, 0.25, 0.25]", "diagonal"},
        {"[0, 1, 2, 3, 4, 5]", "[0.25, 0, 0, 0.25, 0.25, 0, 0, 0.25, 0.25, 0, 0, 0.25]", "full"},
    };
    static const float x[] = {0.5f, 2.0f};
    float first[2], got[2];

    for (size_t k = 0; k < COUNT(same); k++) {
        pipe_object *d = mixture((const char *const[]){"means", same[k].means, "covariances",
                                                       same[k].covariances, "form", same[k].form, NULL});
        predict(d, 0.5, x, 1, 2, NULL, k ? got : first);
        if (k > 0)
            cr_expect(fabsf(got[0] - first[0]) < 1e-5f && fabsf(got[1] - first[1]) < 1e-5f, "%s %s",
                      same[k].covariances, same[k].form);
        pipe_object_unref(d);
    }
    /* singular, with an eigenvalue that rounding may put below 0 */
    pipe_object_unref(
        mixture((const char *const[]){"means", "[0, 0]", "covariances", "[0.1, 0.3, 0.3, 0.9]", NULL}));
}

Test(mixture, says_what_is_wrong_with_its_parameters)
{
    static const struct {
        const char *why;
        const char *const params[9];
        const char *says;
        pipe_status status;
    } cases[] = {
        {"half a point", {"means", "[1, 2, 3]"}, "means: 3 numbers|2 dimensions", PIPE_EINVAL},
        {"no point", {"means", "[]"}, "means: 0 numbers", PIPE_EINVAL},
        {"too few weights",
         {"means", "[1, 2, 3, 4]", "weights", "[1]"},
         "weights: 1 numbers for 2",
         PIPE_EINVAL},
        {"weights of 0", {"means", "[1, 2]", "weights", "[0]"}, "weights: their sum is 0", PIPE_EINVAL},
        {"a negative weight",
         {"means", "[1, 2]", "weights", "[-1]"},
         "weights|below the minimum",
         PIPE_EINVAL},
        {"three numbers",
         {"means", "[1, 2]", "covariances", "[1, 2, 3]"},
         "covariances: 3 numbers|1 (isotropic)|4 (full)",
         PIPE_EINVAL},
        {"two meanings",
         {"means", "[1, 2, 3, 4]", "covariances", "[1, 0.5, 0.5, 1]"},
         "diagonal or full|`form`",
         PIPE_EINVAL},
        {"two meanings",
         {"means", "[1, 2, 3, 4]", "covariances", "[1, 2]"},
         "isotropic or diagonal|`form`",
         PIPE_EINVAL},
        {"another form",
         {"means", "[1, 2]", "covariances", "[1, 0, 0, 1]", "form", "diagonal"},
         "covariances: 4 numbers",
         PIPE_EINVAL},
        {"not symmetric",
         {"means", "[1, 2]", "covariances", "[1, 0.5, 0.4, 1]"},
         "component 0 is not symmetric at row 2, column 1",
         PIPE_EINVAL},
        {"not positive",
         {"means", "[1, 2]", "covariances", "[1, 2, 2, 1]"},
         "negative eigenvalue -1",
         PIPE_EDOMAIN},
        {"a negative variance",
         {"means", "[1, 2]", "covariances", "[-1]"},
         "negative eigenvalue -1",
         PIPE_EDOMAIN},
    };

    for (size_t k = 0; k < COUNT(cases); k++) {
        pipe_error err = PIPE_ERROR_INIT;
        pipe_object *d = NULL;
        check_failure(try_mixture(cases[k].params, &d, &err), cases[k].status, &err, cases[k].says,
                      cases[k].why);
    }
}

Test(mixture, refuses_samples_of_another_shape)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_denoiser_info info;
    pipe_object *d = mixture((const char *const[]){"means", "[1, 2]", NULL});

    OK(pipe_denoiser_describe(d, &info, &err));
    const pipe_level l = pipe_level_uniform(info.schedule, test_engine(), 4, 0.5);
    check_failure(pipe_check(pipe_denoise(d, pipe_zeros(test_engine(), PIPE_SHAPE(4, 3)), &l, NULL), &err),
                  PIPE_ESHAPE, &err, "[4, 3]|[2]", "three dimensions");
    pipe_object_unref(d);
}
