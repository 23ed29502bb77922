/* Host linear algebra against closed forms and against multiplication. */
#include "support/folder.h"

#include <math.h>
#include <pipe/linalg.h>

/* A fixed positive definite matrix: B B' + I of a pseudo-random B. */
static void fill_spd(double *a, size_t n, uint64_t seed)
{
    PIPE_CLEANUP(pipe_free_ptr) double *b = pipe_alloc_array(n * n, sizeof *b);
    for (size_t k = 0; k < n * n; k++)
        b[k] = (double)(pipe_hash64(&k, sizeof k, seed) >> 11) * 0x1p-53 - 0.5;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = i == j;
            for (size_t k = 0; k < n; k++)
                sum += b[i * n + k] * b[j * n + k];
            a[i * n + j] = sum;
        }
}

static const size_t sizes[] = {1, 2, 7, 33};

Test(linalg, eigenvectors_rebuild_the_matrix)
{
    for (size_t s = 0; s < 4; s++) {
        const size_t n = sizes[s];
        pipe_error err = PIPE_ERROR_INIT;
        PIPE_CLEANUP(pipe_free_ptr) double *a = pipe_alloc_array(n * n, sizeof *a);
        PIPE_CLEANUP(pipe_free_ptr) double *v = pipe_alloc_array(n * n, sizeof *v);
        PIPE_CLEANUP(pipe_free_ptr) double *w = pipe_alloc_array(n, sizeof *w);
        fill_spd(a, n, n);
        memcpy(v, a, n * n * sizeof *v);
        for (size_t i = 0; i < n; i++)          /* only the lower triangle is read */
            for (size_t j = i + 1; j < n; j++)
                v[i * n + j] = NAN;
        MUST(pipe_eigen_symmetric(v, n, true, w, &err));
        for (size_t k = 1; k < n; k++)
            cr_expect(w[k - 1] <= w[k], "ascending");
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                double sum = 0;
                for (size_t k = 0; k < n; k++)
                    sum += w[k] * v[k * n + i] * v[k * n + j];
                cr_expect_float_eq(sum, a[i * n + j], 1e-12 * (double)n, "n = %zu", n);
            }
    }
}

Test(linalg, cholesky_and_square_root)
{
    for (size_t s = 0; s < 4; s++) {
        const size_t n = sizes[s];
        pipe_error err = PIPE_ERROR_INIT;
        PIPE_CLEANUP(pipe_free_ptr) double *a = pipe_alloc_array(n * n, sizeof *a);
        PIPE_CLEANUP(pipe_free_ptr) double *l = pipe_alloc_array(n * n, sizeof *l);
        PIPE_CLEANUP(pipe_free_ptr) double *r = pipe_alloc_array(n * n, sizeof *r);
        fill_spd(a, n, 5 + n);
        memcpy(l, a, n * n * sizeof *l);
        memcpy(r, a, n * n * sizeof *r);
        MUST(pipe_cholesky(l, n, &err));
        MUST(pipe_sqrt_symmetric(r, n, &err));
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                double from_l = 0, from_r = 0;
                for (size_t k = 0; k < n; k++) {
                    from_l += l[i * n + k] * l[j * n + k];
                    from_r += r[i * n + k] * r[k * n + j];
                }
                cr_expect_float_eq(from_l, a[i * n + j], 1e-12 * (double)n);
                cr_expect_float_eq(from_r, a[i * n + j], 1e-12 * (double)n);
                cr_expect(j <= i || l[i * n + j] == 0, "above the diagonal");
            }
    }
}

Test(linalg, mean_and_covariance)
{
    /* Far from 0, where one pass would lose everything; more rows than a block. */
    enum { N = 601, D = 3 };
    static float x[N * D];
    for (size_t i = 0; i < N; i++) {
        x[i * D] = 4096.0f + (float)(i % 2);
        x[i * D + 1] = -x[i * D];
        x[i * D + 2] = 7.0f;
    }
    double mean[D], cov[D * D];
    pipe_error err = PIPE_ERROR_INIT;
    MUST(pipe_mean_covariance(x, N, D, mean, cov, &err));
    const double p = 300.0 / 601.0, variance = p * (1 - p) * 601.0 / 600.0;
    cr_expect_float_eq(mean[0], 4096 + p, 1e-9);
    cr_expect_float_eq(mean[1], -4096 - p, 1e-9);
    const double expected[D * D] = {variance, -variance, 0, -variance, variance, 0, 0, 0, 0};
    for (size_t k = 0; k < D * D; k++)
        cr_expect_float_eq(cov[k], expected[k], 1e-12, "element %zu is %.17g", k, cov[k]);
}

Test(linalg, frechet_closed_forms)
{
    pipe_error err = PIPE_ERROR_INIT;
    const double m0[2] = {0, 0}, m1[2] = {3, 4}, zero[4] = {0};
    const double c1[4] = {4, 0, 0, 9}, c2[4] = {1, 0, 0, 16}, c3[4] = {2, 1, 1, 2};
    double d = -1;
    MUST(pipe_frechet_distance(m0, c1, m1, c2, 2, &d, &err));
    cr_expect_float_eq(d, 25 + 1 + 1, 1e-12, "diagonal: (2 - 1)^2 + (3 - 4)^2, got %.17g", d);
    MUST(pipe_frechet_distance(m0, c3, m0, c3, 2, &d, &err));
    cr_expect(d >= 0 && d < 1e-12, "equal: %.17g", d);
    MUST(pipe_frechet_distance(m0, c3, m0, zero, 2, &d, &err));
    cr_expect_float_eq(d, 4, 1e-12, "to a point: the trace, got %.17g", d);
    /* 2 x 2: tr M^1/2 = sqrt(tr M + 2 sqrt(det M)), with M similar to C1 C3. */
    const double trace = 4 * 2 + 9 * 2, det = 36.0 * 3;
    MUST(pipe_frechet_distance(m0, c1, m0, c3, 2, &d, &err));
    cr_expect_float_eq(d, 13 + 4 - 2 * sqrt(trace + 2 * sqrt(det)), 1e-12, "oblique: %.17g", d);
}

Test(linalg, frechet_is_symmetric_and_accepts_singular_covariances)
{
    enum { N = 5, D = 12 };              /* fewer samples than dimensions */
    float x[N * D], y[N * D];
    double m[2][D], c[2][D * D], there = 0, back = 0;
    pipe_error err = PIPE_ERROR_INIT;
    for (size_t k = 0; k < N * D; k++) {
        x[k] = (float)(pipe_hash64(&k, sizeof k, 1) >> 40) * 0x1p-24f;
        y[k] = (float)(pipe_hash64(&k, sizeof k, 2) >> 40) * 0x1p-24f;
    }
    MUST(pipe_mean_covariance(x, N, D, m[0], c[0], &err));
    MUST(pipe_mean_covariance(y, N, D, m[1], c[1], &err));
    MUST(pipe_frechet_distance(m[0], c[0], m[1], c[1], D, &there, &err));
    MUST(pipe_frechet_distance(m[1], c[1], m[0], c[0], D, &back, &err));
    cr_expect(there > 0.1);
    cr_expect_float_eq(there, back, 1e-7);       /* roots of eigenvalues that are 0 within 1e-16 */
}

Test(linalg, what_cannot_be)
{
    pipe_error err = PIPE_ERROR_INIT;
    double a[4] = {1, 0, 2, 1}, w[2], out = 7;
    check_failure(pipe_cholesky(a, 2, &err), PIPE_EDOMAIN, &err, "not positive definite|minor 2",
                  "indefinite");
    double nan[4] = {1, 0, NAN, 1};
    check_failure(pipe_eigen_symmetric(nan, 2, true, w, &err), PIPE_EDOMAIN, &err, "nan", "NaN");
    check_failure(pipe_frechet_distance(nan, a, nan, a, 1, &out, NULL), PIPE_OK, &err, "", "finite 1 x 1");
    check_failure(pipe_frechet_distance(a, nan, a, a, 2, &out, &err), PIPE_EDOMAIN, &err,
                  "first covariance|nan", "NaN");
    check_failure(pipe_eigen_symmetric(a, 0, true, w, &err), PIPE_EINVAL, &err, "size 0", "empty");
    const float x[4] = {1, 2, INFINITY, 4};
    check_failure(pipe_mean_covariance(x, 2, 2, w, a, &err), PIPE_EDOMAIN, &err, "sample 1, feature 0|inf",
                  "infinite");
    check_failure(pipe_mean_covariance(x, 1, 2, w, a, &err), PIPE_EINVAL, &err, "at least 2", "one sample");
}
