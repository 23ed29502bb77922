/* Gaussians in closed form: the exact denoiser, density and probability flow of
 * data that are a Gaussian, or one of several (Wang and Vastola 2024,
 * arXiv:2412.09726).  What `denoiser.gaussian`, `denoiser.gaussian-mixture` and
 * `sampler.teleport` are made of.
 *
 * Gaussian k has mean mu_k and covariance U_k' diag(l_k) U_k + q_k (I - U_k' U_k):
 * the rows of U_k are `rank` orthonormal axes, l_k the variances along them and
 * q_k, the *residual*, the variance along each direction orthogonal to them
 * (0: the Gaussian is flat there; rank 0 and q > 0: it is isotropic).  At level
 * (alpha, sigma) its mean is alpha mu_k, and a variance l becomes
 * v(l) = alpha^2 l + sigma^2 along the same axes, so nothing is inverted but numbers.
 *
 * A set of Gaussians travels between nodes as a data set with one row each:
 *
 *     mean         the shape of a sample     axes      [rank, d], rows orthonormal
 *     eigenvalues  [rank], falling           residual  q; what the cut-off axes had on average
 *     weight       a probability; 0: not a component of the mixture
 *     label        (optional, i32) the class that it is of; -1: of all data
 */
#ifndef PIPE_GAUSSIAN_H
#define PIPE_GAUSSIAN_H

#include <pipe/dataset.h>
#include <pipe/denoiser.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The logarithm of a probability that is 0, as a number: kernels may be compiled
 *  as if there were no infinities. */
#define PIPE_LOG_ZERO (-1e30)

/** Gaussians on the host; arrays are the owner's. Start as {.size = sizeof(...)}. */
typedef struct pipe_gaussian_set {
    size_t size;
    pipe_shape sample;          /* of one sample: d numbers in all */
    int64_t count, rank;        /* K >= 1 Gaussians with `rank` axes each, 0 ... d */
    float *mean;                /* [K, d] */
    float *axes;                /* [K, rank, d] */
    float *eigenvalues;         /* [K, rank], >= 0 */
    float *residual;            /* [K], >= 0 */
    float *weight;              /* [K], >= 0, not all 0, in any unit */
    int32_t *label;             /* [K] or NULL */
} pipe_gaussian_set;

/** Allocates zeroed arrays for s->sample, count and rank, which are set already.
 * Errors: PIPE_EINVAL (count or rank out of range), PIPE_ENOMEM */
PIPE_API pipe_status pipe_gaussian_set_alloc(pipe_gaussian_set *s, bool labels, pipe_error *err);
/** Frees the arrays; also for PIPE_CLEANUP. */
PIPE_API void pipe_gaussian_set_free(pipe_gaussian_set *s);
/** Fills row k from a covariance: its mean and the s->rank largest eigenpairs; the
 *  residual is the mean of the other eigenvalues.  Eigenvalues that rounding puts
 *  below 0 count as 0.
 * @param mean        [d]
 * @param covariance  [d, d], symmetric; destroyed
 * Errors: PIPE_EDOMAIN  an eigenvalue is truly negative, or those of pipe_eigen_symmetric() */
PIPE_API pipe_status pipe_gaussian_set_row(pipe_gaussian_set *s, int64_t k, const double *mean,
                                           double *covariance, pipe_error *err);
/** The data set of the layout above; reference 1 is the caller's. */
PIPE_API pipe_status pipe_gaussian_set_dataset(const pipe_gaussian_set *s, pipe_context *ctx,
                                               pipe_dataset **out, pipe_error *err);
/** Reads it back, cut to the `rank` largest variances (-1: all that there are).
 *  With `spread` the residual becomes the mean variance of all directions left
 *  out, else 0.  With `components` rows of weight 0 are left out.
 * Errors: PIPE_ENOTFOUND  not such a data set (the missing field is named)
 *         PIPE_EINVAL     more axes are asked for than it holds; no row is left
 *         PIPE_EDOMAIN    a number that cannot be (not finite, a negative variance) */
PIPE_API pipe_status pipe_gaussian_set_read(pipe_dataset *d, int64_t rank, bool spread, bool components,
                                            pipe_gaussian_set *out, pipe_error *err);

/* ---- on the device ---- */
typedef struct pipe_gaussians pipe_gaussians;
/** Uploads; `s` may be freed afterwards. */
PIPE_API pipe_status pipe_gaussians_new(const pipe_gaussian_set *s, pipe_engine *e, pipe_gaussians **out,
                                        pipe_error *err);
PIPE_API void pipe_gaussians_free(pipe_gaussians *g);
/** Classes that labels can select: 0 without labels. */
PIPE_API int64_t pipe_gaussians_classes(const pipe_gaussians *g);

/* In the following x is [n, ...] with samples of the set's shape, and a `share`
 * is [K, n]: how much of each Gaussian is meant for each row (columns sum to 1);
 * it may be NULL where K = 1.  Levels may differ between rows. */

/** [K, 1]: ln of the weights, which sum to 1; PIPE_LOG_ZERO for a weight of 0. */
PIPE_API pipe_tensor *pipe_gaussians_log_weight(const pipe_gaussians *g);
/** ln N(x; alpha mu_k, v(cov_k)): [K, n], in nats.  Needs sigma > 0 where a variance is 0. */
PIPE_API pipe_tensor *pipe_gaussians_log_density(const pipe_gaussians *g, pipe_tensor *x, const pipe_level *l);
/** E[x0 | x] = sum_k share_k (mu_k + cov_k alpha v(cov_k)^-1 (x - alpha mu_k)): x's shape. */
PIPE_API pipe_tensor *pipe_gaussians_x0(const pipe_gaussians *g, pipe_tensor *x, const pipe_level *l,
                                        pipe_tensor *share);
/** The share that labels select: 1 for the row of that class; the row of label -1
 *  for label -1, and for all where `labels` (i32 [n]) is NULL.  Poisoned with
 *  PIPE_EINVAL where such a row would be needed and is not there. */
PIPE_API pipe_tensor *pipe_gaussians_by_label(const pipe_gaussians *g, pipe_tensor *labels, int64_t n);
/** The solution of the probability-flow ODE, see pipe_gaussian_flow(). */
PIPE_API pipe_tensor *pipe_gaussians_flow(const pipe_gaussians *g, pipe_tensor *x, const pipe_schedule_point *from,
                                          const pipe_schedule_point *to, pipe_tensor *share);

/* ---- of denoisers that know their data in closed form ---- */
/** By what the probability flow multiplies the part of x - alpha mu that lies along
 *  an axis of variance `variance`, on the way between two points of any schedule:
 *  sqrt((s_to^2 + a_to^2 l) / (s_from^2 + a_from^2 l)), in double. */
PIPE_API double pipe_gaussian_flow_factor(const pipe_schedule_point *from, const pipe_schedule_point *to,
                                          double variance);
/** The exact probability flow of a denoiser that offers it (`denoiser.gaussian`;
 *  a mixture only where it is one Gaussian): where the ODE
 *  dx/dt = alpha' x0(x) + sigma' eps(x) takes x from one noise level to another,
 *
 *      x_to = a_to mu + U' diag(factor(l)) U (x - a_from mu) + factor(q) (I - U'U) (x - a_from mu)
 *
 *  in either direction and in one step.  Holds for any schedule, and from
 *  alpha = 0; the points need not be of the denoiser's own schedule.
 *
 * @param gaussian  a denoiser
 * @param x         [n, ...] at `from`; borrowed
 * @param c         labels select a Gaussian where there is one per class; may be NULL
 * @return          x's shape, recorded
 * Errors (poisoned): PIPE_EUNSUPPORTED  this denoiser's flow is not known in closed form
 *                    PIPE_ESHAPE        x is not of its shape
 *                    PIPE_EDOMAIN       from sigma = 0 along an axis of variance 0: not determined
 * Since ABI 1.0. */
PIPE_API pipe_tensor *pipe_gaussian_flow(pipe_denoiser *gaussian, pipe_tensor *x, const pipe_schedule_point *from,
                                         const pipe_schedule_point *to, const pipe_condition *c);
/** ln p(x) of noisy samples at level l: [n], in nats, of a denoiser that offers it.
 *  Poisoned with PIPE_EUNSUPPORTED where it does not. */
PIPE_API pipe_tensor *pipe_denoiser_log_density(pipe_denoiser *d, pipe_tensor *x, const pipe_level *l,
                                                const pipe_condition *c);

#ifdef __cplusplus
}
#endif
#endif
