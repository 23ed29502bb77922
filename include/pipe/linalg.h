/* Linear algebra on the host, in double precision: what metrics need of it.
 *
 * Matrices are row-major; a symmetric one is read from its lower triangle.
 * Sizes go up to 46,340 (an int of n * n elements).
 * Errors: PIPE_EINVAL (a size of 0 or too large), PIPE_ENOMEM, and what each
 * function names.  Thread: any (the BLAS below may use several of its own).
 * Since ABI 1.0.
 */
#ifndef PIPE_LINALG_H
#define PIPE_LINALG_H

#include <pipe/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Mean and covariance of samples.
 *
 * @param x           [n, d] f32, n >= 2
 * @param mean        [d], written
 * @param covariance  [d, d], written; unbiased (divided by n - 1), symmetric
 * Errors: PIPE_EDOMAIN  a value is NaN or infinite: row and column are said */
PIPE_API pipe_status pipe_mean_covariance(const float *x, size_t n, size_t d, double *mean,
                                          double *covariance, pipe_error *err);

/** Eigendecomposition A = V diag(w) V' of a symmetric matrix.
 *
 * @param a  [n, n]; overwritten: row k becomes the eigenvector of w[k] (so `a`
 *           holds V'), unless `vectors` is false: then it holds nothing of use
 * @param w  [n], written, ascending
 * Errors: PIPE_EDOMAIN  not finite, or the iteration did not converge */
PIPE_API pipe_status pipe_eigen_symmetric(double *a, size_t n, bool vectors, double *w, pipe_error *err);

/** Cholesky factor A = L L' of a symmetric positive definite matrix, in place;
 *  above the diagonal there are zeros.
 * Errors: PIPE_EDOMAIN  not positive definite: the leading minor is said */
PIPE_API pipe_status pipe_cholesky(double *a, size_t n, pipe_error *err);

/** Square root of a symmetric positive semidefinite matrix, in place: S S = A,
 *  S symmetric.  Eigenvalues below 0, which rounding makes, count as 0. */
PIPE_API pipe_status pipe_sqrt_symmetric(double *a, size_t n, pipe_error *err);

/** Fréchet distance between two Gaussians (Dowson and Landau 1982; Heusel et al.
 *  2017, arXiv:1706.08500):
 *
 *      |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2)
 *
 *  The root is taken of this symmetric form, not of C1 C2: its eigenvalues are
 *  real, and those that rounding puts below 0 count as 0.  Covariances may be
 *  singular (fewer samples than dimensions).
 *
 * @param mean1, mean2  [d]
 * @param cov1, cov2    [d, d], symmetric
 * @param out           the distance (squared, as is usual), >= 0
 * Errors: PIPE_EDOMAIN  a value is not finite */
PIPE_API pipe_status pipe_frechet_distance(const double *mean1, const double *cov1, const double *mean2,
                                           const double *cov2, size_t d, double *out, pipe_error *err);

#ifdef __cplusplus
}
#endif
#endif
