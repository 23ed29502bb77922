/* Host linear algebra by LAPACK and BLAS. */
#include <pipe/linalg.h>

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <string.h>

enum { SIZE_LIMIT = 46340, BLOCK = 256 };

static pipe_status check_size(size_t n, pipe_error *err)
{
    if (n == 0 || n > SIZE_LIMIT)
        return pipe_fail(err, PIPE_EINVAL, "a matrix of size %zu: 1 to %d is possible", n, SIZE_LIMIT);
    return PIPE_OK;
}

static pipe_status new_matrix(size_t n, double **out, pipe_error *err)
{
    *out = pipe_try_alloc(n * n * sizeof **out);
    return *out ? PIPE_OK : pipe_fail(err, PIPE_ENOMEM, "no memory for a matrix of %zu x %zu", n, n);
}

static void mirror_lower(double *a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            a[i * n + j] = a[j * n + i];
}

static pipe_status check_finite(const double *a, size_t n, const char *what, pipe_error *err)
{
    for (size_t k = 0; k < n; k++)
        if (!isfinite(a[k]))
            return pipe_fail(err, PIPE_EDOMAIN, "%s: element %zu is %g", what, k, a[k]);
    return PIPE_OK;
}

/* Two passes: the mean first, so that nothing cancels in the sum of squares. */
pipe_status pipe_mean_covariance(const float *x, size_t n, size_t d, double *mean, double *covariance,
                                 pipe_error *err)
{
    PIPE_TRY(check_size(d, err));
    if (n < 2)
        return pipe_fail(err, PIPE_EINVAL, "a covariance needs at least 2 samples, %zu are there", n);
    for (size_t k = 0; k < n * d; k++)
        if (!isfinite(x[k]))
            return pipe_fail(err, PIPE_EDOMAIN, "sample %zu, feature %zu is %g", k / d, k % d, (double)x[k]);

    PIPE_CLEANUP(pipe_free_ptr) double *block = pipe_try_alloc(BLOCK * d * sizeof *block);
    if (!block)
        return pipe_fail(err, PIPE_ENOMEM, "no memory for %d rows of %zu", BLOCK, d);
    memset(mean, 0, d * sizeof *mean);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < d; j++)
            mean[j] += x[i * d + j];
    for (size_t j = 0; j < d; j++)
        mean[j] /= (double)n;

    memset(covariance, 0, d * d * sizeof *covariance);
    for (size_t first = 0; first < n; first += BLOCK) {
        const size_t rows = n - first < BLOCK ? n - first : BLOCK;
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < d; j++)
                block[i * d + j] = x[(first + i) * d + j] - mean[j];
        cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, (int)d, (int)rows, 1.0 / (double)(n - 1), block,
                    (int)d, 1.0, covariance, (int)d);
    }
    mirror_lower(covariance, d);
    return PIPE_OK;
}

/* LAPACK is column-major: its upper triangle is our lower one, and its columns
 * of eigenvectors are our rows, so nothing is transposed. */
pipe_status pipe_eigen_symmetric(double *a, size_t n, bool vectors, double *w, pipe_error *err)
{
    PIPE_TRY(check_size(n, err));
    for (size_t i = 0; i < n; i++)
        PIPE_TRY(check_finite(a + i * n, i + 1, "eigenvalues", err));
    const lapack_int info = LAPACKE_dsyevd(LAPACK_COL_MAJOR, vectors ? 'V' : 'N', 'U', (lapack_int)n, a,
                                           (lapack_int)n, w);
    if (info == LAPACK_WORK_MEMORY_ERROR)
        return pipe_fail(err, PIPE_ENOMEM, "no memory for the eigenvectors of %zu x %zu", n, n);
    if (info != 0)
        return pipe_fail(err, PIPE_EDOMAIN, "the eigenvalues of a %zu x %zu matrix did not converge (%d)", n,
                         n, (int)info);
    return PIPE_OK;
}

pipe_status pipe_cholesky(double *a, size_t n, pipe_error *err)
{
    PIPE_TRY(check_size(n, err));
    for (size_t i = 0; i < n; i++)
        PIPE_TRY(check_finite(a + i * n, i + 1, "Cholesky", err));
    const lapack_int info = LAPACKE_dpotrf(LAPACK_COL_MAJOR, 'U', (lapack_int)n, a, (lapack_int)n);
    if (info != 0)
        return pipe_fail(err, PIPE_EDOMAIN,
                         "a %zu x %zu matrix is not positive definite: its leading minor %d is not "
                         "above 0", n, n, (int)info);
    for (size_t i = 0; i < n; i++)
        memset(a + i * n + i + 1, 0, (n - i - 1) * sizeof *a);
    return PIPE_OK;
}

pipe_status pipe_sqrt_symmetric(double *a, size_t n, pipe_error *err)
{
    PIPE_TRY(check_size(n, err));
    PIPE_CLEANUP(pipe_free_ptr) double *v = NULL;
    PIPE_CLEANUP(pipe_free_ptr) double *w = pipe_alloc_array(n, sizeof *w);
    PIPE_TRY(new_matrix(n, &v, err));
    memcpy(v, a, n * n * sizeof *v);
    PIPE_TRY(pipe_eigen_symmetric(v, n, true, w, err));
    /* S = sum of sqrt(w) v v' = R' R, the rows of R scaled by w^1/4. */
    for (size_t k = 0; k < n; k++) {
        const double scale = w[k] > 0 ? sqrt(sqrt(w[k])) : 0;
        for (size_t j = 0; j < n; j++)
            v[k * n + j] *= scale;
    }
    cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, (int)n, (int)n, 1.0, v, (int)n, 0.0, a, (int)n);
    mirror_lower(a, n);
    return PIPE_OK;
}

/* tr (S C S)^1/2 with S = cov1^1/2: the sum of the roots of its eigenvalues. */
static pipe_status trace_of_root(const double *cov1, const double *cov2, size_t d, double *out,
                                 pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) double *s = NULL;
    PIPE_CLEANUP(pipe_free_ptr) double *half = NULL;
    PIPE_CLEANUP(pipe_free_ptr) double *whole = NULL;
    PIPE_CLEANUP(pipe_free_ptr) double *w = pipe_alloc_array(d, sizeof *w);
    const int n = (int)d;
    PIPE_TRY(new_matrix(d, &s, err));
    PIPE_TRY(new_matrix(d, &half, err));
    PIPE_TRY(new_matrix(d, &whole, err));
    memcpy(s, cov1, d * d * sizeof *s);
    PIPE_TRY(pipe_sqrt_symmetric(s, d, err));
    cblas_dsymm(CblasRowMajor, CblasRight, CblasLower, n, n, 1.0, cov2, n, s, n, 0.0, half, n);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1.0, half, n, s, n, 0.0, whole, n);
    PIPE_TRY(pipe_eigen_symmetric(whole, d, false, w, err));
    double sum = 0;
    for (size_t k = 0; k < d; k++)
        sum += w[k] > 0 ? sqrt(w[k]) : 0;
    *out = sum;
    return PIPE_OK;
}

pipe_status pipe_frechet_distance(const double *mean1, const double *cov1, const double *mean2,
                                  const double *cov2, size_t d, double *out, pipe_error *err)
{
    double root = 0, sum = 0;
    PIPE_TRY(check_size(d, err));
    PIPE_TRY(check_finite(mean1, d, "first mean", err));
    PIPE_TRY(check_finite(mean2, d, "second mean", err));
    PIPE_TRY(check_finite(cov1, d * d, "first covariance", err));
    PIPE_TRY(check_finite(cov2, d * d, "second covariance", err));
    PIPE_TRY(trace_of_root(cov1, cov2, d, &root, err));
    for (size_t k = 0; k < d; k++) {
        const double delta = mean1[k] - mean2[k];
        sum += delta * delta + cov1[k * d + k] + cov2[k * d + k];
    }
    sum -= 2 * root;
    *out = sum > 0 ? sum : 0;        /* equal Gaussians: rounding leaves about -1e-12 */
    return PIPE_OK;
}
