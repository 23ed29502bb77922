/* Kind `schedule`: x_t = alpha(t) x0 + sigma(t) eps, t in [t_min, t_max], t_min
 * nearest to the data.  lambda = ln(alpha / sigma), half the log-SNR, falls
 * strictly with t.  VP, VE, EDM and flow are all instances. */
#ifndef PIPE_SCHEDULE_H
#define PIPE_SCHEDULE_H

#include <pipe/object.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pipe_schedule_point {
    double t, alpha, sigma;
    double dalpha, dsigma;          /* derivatives in t */
} pipe_schedule_point;

typedef struct pipe_schedule_info {
    size_t size;
    double t_min, t_max;            /* where it is defined */
    double t_start;                 /* where samplers begin: t_max, or a little below where alpha(t_max) = 0
                                       makes eps undetermined */
    int64_t discrete;               /* number of training steps; step i (from 0) is t = (i + 1) / discrete;
                                       0: continuous */
} pipe_schedule_info;

typedef struct pipe_schedule_api {
    pipe_status (*describe)(void *self, pipe_schedule_info *info, pipe_error *err);    /* NULL: continuous on [0, 1] */
    void (*at)(void *self, pipe_schedule_point *p);             /* p->t is given */
    double (*time_of)(void *self, double lambda);               /* inverse; NULL: the core bisects */
} pipe_schedule_api;

PIPE_API pipe_status pipe_schedule_describe(pipe_schedule *s, pipe_schedule_info *info, pipe_error *err);
PIPE_API pipe_schedule_point pipe_schedule_at(pipe_schedule *s, double t);
PIPE_API double pipe_schedule_lambda(pipe_schedule *s, double t);   /* +inf at sigma = 0 */
/** t with the given lambda, clamped to [t_min, t_max]. */
PIPE_API double pipe_schedule_time_of(pipe_schedule *s, double lambda);

/** The noise level of each row of a batch, as tensors [n]. */
typedef struct pipe_level {
    size_t size;
    pipe_tensor *t, *alpha, *sigma, *dalpha, *dsigma;
    bool uniform;                   /* all rows share one time: */
    pipe_schedule_point point;      /* ... this one */
} pipe_level;

/** All n rows at time t.  The tensors are run-time scalars: free. */
PIPE_API pipe_level pipe_level_uniform(pipe_schedule *s, pipe_engine *e, int64_t n, double t);
/** Row i at time t[i] (uploads n numbers). */
PIPE_API pipe_level pipe_level_of(pipe_schedule *s, pipe_engine *e, const double *t, int64_t n);
/** q(x_j | x_i, x0) of two noise levels of one schedule, i the noisier one: a Gaussian (Ho et al. 2020,
 *  arXiv:2006.11239, equations 6 and 7, here for any alpha and sigma). */
typedef struct pipe_posterior {
    double x, x0;                   /* its mean is x x_i + x0 x0 */
    double variance;                /* of the posterior: the step's if x0 were known; 0 for sigma_j = 0 */
    double forward;                 /* of x_i given x_j: the step's for standard normal data */
    double log_middle, log_half;    /* exp(log_middle + log_half o), o from -1 to 1, leads from `variance` to `forward` */
} pipe_posterior;
PIPE_API pipe_posterior pipe_posterior_of(double alpha_i, double sigma_i, double alpha_j, double sigma_j);
/** `a` [n] reshaped to multiply samples of x's rank: [n, 1, 1, ...]. */
PIPE_API pipe_tensor *pipe_per_sample(pipe_tensor *a, const pipe_tensor *x);
/** A variance-preserving schedule given by a table of its training steps: what the
 *  discrete schedules of DDPM and its kin share.  Between steps ln(sigma / alpha)
 *  is interpolated linearly, below the first one sigma / alpha falls linearly to
 *  0 at t = 0.  A table may end at alpha = 0 (SNR 0): alpha then falls linearly
 *  behind the last step but one. */
typedef struct pipe_vp_table {
    int64_t n;
    double *log_rho;                /* ln(sigma / alpha) of step i, at t = (i + 1) / n; rising; the last may be
                                       infinite */
} pipe_vp_table;
/** From beta[0 ... n - 1]: alpha^2 = prod (1 - beta).  Betas outside (0, 1) are PIPE_EDOMAIN. */
PIPE_API pipe_status pipe_vp_table_from_betas(pipe_vp_table *table, const double *beta, int64_t n, pipe_error *err);
/** From rho[i] = sigma / alpha of step i, rising from above 0; the last may be infinite
 *  (if there are two or more).  Otherwise PIPE_EDOMAIN. */
PIPE_API pipe_status pipe_vp_table_from_ratios(pipe_vp_table *table, const double *rho, int64_t n,
                                               pipe_error *err);
/** From a function abar(t) of t in [0, 1] (falling): beta_i = min(beta_max,
 *  1 - abar((i + 1) / n) / abar(i / n)), as Nichol and Dhariwal 2021, arXiv:2102.09672. */
PIPE_API pipe_status pipe_vp_table_from_bar(pipe_vp_table *table, double (*bar)(const void *arg, double t),
                                            const void *arg, int64_t n, double beta_max, pipe_error *err);
/** Shifts and scales alpha so that it is 0 at the last step and as it was at step 0
 *  (Lin et al. 2023, arXiv:2305.08891, algorithm 1).  There eps says nothing about
 *  x0: models must predict v, x0 or the velocity.  PIPE_EDOMAIN: a table of one step. */
PIPE_API pipe_status pipe_vp_table_zero_snr(pipe_vp_table *table, pipe_error *err);
PIPE_API void pipe_vp_table_at(const pipe_vp_table *table, pipe_schedule_point *p);
PIPE_API double pipe_vp_table_time_of(const pipe_vp_table *table, double lambda);
PIPE_API void pipe_vp_table_free(pipe_vp_table *table);
/** What the state of a schedule of training steps *begins with*; its create() fills the
 *  table by one of the functions below, and its descriptor has
 *  .destroy = pipe_vp_state_destroy, .schedule = PIPE_VP_STATE_SCHEDULE. */
typedef struct pipe_vp_state {
    pipe_vp_table table;
    int64_t timesteps;              /* rows of parameters: see PIPE_VP_STATE_TIMESTEPS ... below */
    double beta_start, beta_end, beta_max;
    bool zero_terminal_snr;
} pipe_vp_state;
/** Betas beta_start + (beta_end - beta_start) rise(self, r), r from 0 at the first of
 *  `timesteps` to 1 at the last; then zero_terminal_snr.  Errors: as the table's. */
PIPE_API pipe_status pipe_vp_state_from_rise(void *self, double (*rise)(const void *self, double r),
                                             pipe_error *err);
/** pipe_vp_table_from_bar() with `timesteps` and beta_max; then zero_terminal_snr. */
PIPE_API pipe_status pipe_vp_state_from_bar(void *self, double (*bar)(const void *self, double t),
                                            pipe_error *err);
#define PIPE_VP_STATE_TIMESTEPS                                                                          \
    PIPE_INT(pipe_vp_state, timesteps, 1000, 2, 100000, "steps",                                         \
             "training steps; more makes neighbouring noise levels closer")
#define PIPE_VP_STATE_BETAS(first, last)                                                                 \
    PIPE_FLOAT(pipe_vp_state, beta_start, first, 1e-9, 0.999, NULL,                                      \
               "noise added by the first step; higher hides fine detail earlier"),                       \
        PIPE_FLOAT(pipe_vp_state, beta_end, last, 1e-9, 0.999, NULL,                                     \
                   "noise added by the last step; higher ends nearer to pure noise")
#define PIPE_VP_STATE_BETA_MAX                                                                           \
    PIPE_FLOAT(pipe_vp_state, beta_max, 0.999, 0.01, 0.999999, NULL,                                     \
               "cap of beta; higher ends nearer to pure noise")
#define PIPE_VP_STATE_ZERO_TERMINAL_SNR                                                                  \
    PIPE_BOOL(pipe_vp_state, zero_terminal_snr, false,                                                   \
              "rescale so that the last step is pure noise (arXiv:2305.08891); models must predict v, "  \
              "x0 or flow")
PIPE_API void pipe_vp_state_destroy(void *self);
PIPE_API pipe_status pipe_vp_state_describe(void *self, pipe_schedule_info *info, pipe_error *err);
PIPE_API void pipe_vp_state_at(void *self, pipe_schedule_point *p);
PIPE_API double pipe_vp_state_time_of(void *self, double lambda);
#define PIPE_VP_STATE_SCHEDULE \
    {.describe = pipe_vp_state_describe, .at = pipe_vp_state_at, .time_of = pipe_vp_state_time_of}

/** beta(t), linear in continuous time: the rate of noise of the VP and sub-VP SDEs (Song
 *  et al. 2021, arXiv:2011.13456, appendix C), whose ln alpha is -1/2 int beta. */
typedef struct pipe_noise_rate {
    double beta_min, beta_max;
} pipe_noise_rate;
#define PIPE_NOISE_RATE_ROWS                                                                             \
    PIPE_FLOAT(pipe_noise_rate, beta_min, 0.1, 1e-6, 1000.0, NULL,                                       \
               "rate of noise at t = 0; higher hides fine detail earlier"),                              \
        PIPE_FLOAT(pipe_noise_rate, beta_max, 20.0, 1e-6, 1000.0, NULL,                                  \
                   "rate of noise at t = 1; higher ends nearer to pure noise")
/** ln alpha(t), and its derivative in *slope. */
PIPE_API double pipe_noise_rate_log_alpha(const pipe_noise_rate *r, double t, double *slope);
/** t at which ln alpha is `log_alpha` (at most 0). */
PIPE_API double pipe_noise_rate_time_of(const pipe_noise_rate *r, double log_alpha);

/** alpha x0 + sigma eps */
PIPE_API pipe_tensor *pipe_diffuse(const pipe_level *l, pipe_tensor *x0, pipe_tensor *eps);

#ifdef __cplusplus
}
#endif
#endif
