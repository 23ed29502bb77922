/* Solvers of the sampling ODE and SDE that work on values of earlier steps: one
 * update that the multistep samplers share.
 *
 * Between the grid points i and j, h = lambda_j - lambda_i and
 * u = (lambda - lambda_i) / h, the values (x0 or eps) are interpolated by
 * sum c_n u^n through those that are known, and the linear part is solved exactly
 * (Lai et al. 2025, arXiv:2510.21890; Lu et al. 2022, arXiv:2211.01095; Xue et al.
 * 2023, arXiv:2305.14267).  eta is the share of the reverse SDE: 0 the
 * probability-flow ODE, 1 the reverse SDE.
 *
 *   data   x_j = (s_j / s_i) e^(-eta h) x_i + a_j sum I_n((1 + eta) h) c_n
 *                + s_j sqrt(1 - e^(-2 eta h)) z
 *   noise  x_j = (a_j / a_i) x_i - (1 + eta) a_j rho_i sum K_n(h) c_n
 *                + sqrt(eta) s_j sqrt(e^(2 h) - 1) z
 *
 * with a = alpha, s = sigma, rho = s / a.  eps may also be interpolated in rho or in
 * the schedule's time t (eta = 0): x_j / a_j = x_i / a_i + integral of it d rho.
 *
 * All coefficients are doubles on the host; a step is one linear combination of
 * x, the values and z on the device. */
#ifndef PIPE_SOLVER_H
#define PIPE_SOLVER_H

#include <pipe/sampler.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Most values that one update combines. */
enum { PIPE_SOLVER_VALUES = 8 };

/* ---- coefficients ---- */
/** I_k(H) = H integral_0^1 e^(-H (1 - u)) u^k du for k = 0 ... n - 1; H of either sign,
 *  or +inf (all 1). */
PIPE_API void pipe_solver_data_moments(double H, size_t n, double *moment);
/** K_k(h) = h integral_0^1 e^(-h u) u^k du for k = 0 ... n - 1; h of either sign, or
 *  +inf (1, 0, 0, ...). */
PIPE_API void pipe_solver_noise_moments(double h, size_t n, double *moment);
/** weight[k] such that sum_k weight[k] f(u[k]) = sum_k moment[k] c_k for the
 *  polynomial f = sum c_k u^k: n distinct nodes u, n moments. */
PIPE_API void pipe_solver_weights(const double *u, const double *moment, size_t n, double *weight);
/** sum c[k] t[k]; terms with c[k] = 0 are left out.  A coefficient that is no
 *  number poisons the result with PIPE_EDOMAIN. */
PIPE_API pipe_tensor *pipe_linear(const double *c, pipe_tensor *const *t, size_t n);

/** For `fixed` below: Adams-Bashforth on even grids, of one to four values. */
PIPE_API extern const double pipe_adams_bashforth[10];

/** What is interpolated, and in which variable. */
typedef enum pipe_solver_form {
    PIPE_SOLVER_DATA,   /* x0 in lambda */
    PIPE_SOLVER_NOISE,  /* eps in lambda */
    PIPE_SOLVER_RHO,    /* eps in rho = sigma / alpha; eta is not used */
    PIPE_SOLVER_TIME    /* eps in the schedule's t; eta is not used */
} pipe_solver_form;

/** Weight of the slope c_1 where two values are combined.  All are of second order. */
typedef enum pipe_solver_slope {
    PIPE_SOLVER_SLOPE_EXACT,    /* its integral, I_1 or K_1 */
    PIPE_SOLVER_SLOPE_MIDPOINT, /* I_0 / 2 or K_0 / 2: DPM-Solver's midpoint, UniPC's bh2 */
    PIPE_SOLVER_SLOPE_LINEAR    /* (1 + eta) h / 2, of noise times e^-h: UniPC's bh1, SA-Solver's */
} pipe_solver_slope;

/** Weight of c_2 where three values are combined.  Exact is of third order, the
 *  others, which released code has, of second. */
typedef enum pipe_solver_curve {
    PIPE_SOLVER_CURVE_EXACT,    /* I_2 or K_2 */
    PIPE_SOLVER_CURVE_HALF,     /* half of it: DPM-Solver's repository, diffusers, k-diffusion */
    PIPE_SOLVER_CURVE_SIGN      /* I_2 / 2 - 1: diffusers' third-order sde-dpmsolver++ */
} pipe_solver_curve;

/* ---- the multistep solver ---- */
/** A multistep solver: the members that a sampler sets (most in its create()), and
 *  below them what the solver keeps between steps.  A sampler's state begins with
 *  one, and starts zeroed. */
typedef struct pipe_multistep {
    int64_t form;           /* pipe_solver_form */
    int64_t predictor;      /* values that a step combines, 1 ... PIPE_SOLVER_VALUES - 1; fewer at the start */
    int64_t corrector;      /* values that correct a step once its end was evaluated (which the next step needs
                               anyway), that end included; 0: no corrector */
    int64_t weights;        /* pipe_solver_slope */
    int64_t compat;         /* pipe_solver_curve */
    const double *fixed;    /* NULL; or weights that take the place of interpolation: of rho_j - rho_i (form
                               PIPE_SOLVER_RHO only), predictor rows of 1, 2, ... numbers, newest value first,
                               one row for each number of values known */
    bool lower_order_final; /* the last step combines 1 value, the last but one at most 2, ... */
    double eta;             /* of the coming step */
    double noise;           /* factor of the added noise; 1 is that of the SDE */
    bool path;              /* its noise is one Brownian path per sample, the same for any number of steps
                               (pipe_sampling_brownian); only where eta is the same in all steps */

    /* kept between steps */
    pipe_tensor *value[PIPE_SOLVER_VALUES];     /* newest first */
    size_t point[PIPE_SOLVER_VALUES];           /* their grid points */
    size_t known;
    pipe_tensor *from, *z;                      /* what the last step started from and added */
    double last_eta;
} pipe_multistep;

/** x_j = x * x_i + sum value[k] m_k + noise * z over n values m_k. */
typedef struct pipe_multistep_update {
    size_t n;
    double x, noise, value[PIPE_SOLVER_VALUES];
} pipe_multistep_update;

/** The coefficients of the step from s->i, of the newest values that m knows. */
PIPE_API pipe_multistep_update pipe_multistep_predictor(const pipe_multistep *m, const pipe_sampling *s);
/** Those that correct x at s->i from the start of the step that led there; the first
 *  value is the one at s->i, which m does not know yet, the others its newest. */
PIPE_API pipe_multistep_update pipe_multistep_corrector(const pipe_multistep *m, const pipe_sampling *s);

/** From grid point s->i to s->i + 1, with one evaluation of the denoiser; replaces
 *  s->x.  A step into sigma = 0 gives x0, one from alpha = 0 combines one value.
 *  Uses draw 0 of the step's noise, or of the path, if eta > 0. */
PIPE_API pipe_status pipe_multistep_step(pipe_multistep *m, pipe_sampling *s, pipe_error *err);
/** Takes in a value that the caller had evaluated at grid point `point`: newer than
 *  all before, and part of the coming steps. */
PIPE_API void pipe_multistep_remember(pipe_multistep *m, pipe_tensor *value, size_t point);
/** Forgets what was kept: for `begin` and `end`. */
PIPE_API void pipe_multistep_clear(pipe_multistep *m);

/* The functions of a sampler whose state begins with a pipe_multistep:
 * .sampler = {PIPE_MULTISTEP_STATE, .order = ...}. */
PIPE_API pipe_status pipe_multistep_state_begin(void *self, pipe_sampling *s, pipe_error *err);
PIPE_API pipe_status pipe_multistep_state_step(void *self, pipe_sampling *s, pipe_error *err);
PIPE_API void pipe_multistep_state_end(void *self);
#define PIPE_MULTISTEP_STATE                                                         \
    .begin = pipe_multistep_state_begin, .step = pipe_multistep_state_step,          \
    .end = pipe_multistep_state_end, .calls_per_step = 1

/* ... and rows of its parameters. */
/** The first two of pipe_solver_slope: "exact", "midpoint", NULL. */
PIPE_API extern const char *const pipe_solver_slope_names[];
/** The first two of pipe_solver_curve: "exact", "released", NULL. */
PIPE_API extern const char *const pipe_solver_curve_names[];
#define PIPE_MULTISTEP_WEIGHTS(fallback)                                             \
    PIPE_CHOICE(pipe_multistep, weights, fallback, pipe_solver_slope_names,          \
                "of the slope where two values are combined: its exact integral, or midpoint, as the paper " \
                "and released code have it; both are of second order")
#define PIPE_MULTISTEP_COMPAT                                                        \
    PIPE_CHOICE(pipe_multistep, compat, "exact", pipe_solver_curve_names,            \
                "weight of the curvature through three values: exact (third order), or released: half of " \
                "it, the second-order one of the released code")
#define PIPE_MULTISTEP_LOWER_ORDER_FINAL                                             \
    PIPE_BOOL(pipe_multistep, lower_order_final, true,                               \
              "combine fewer values in the last steps, one in the last: steadier below 15 steps")
#define PIPE_MULTISTEP_ETA(fallback)                                                 \
    PIPE_FLOAT(pipe_multistep, eta, fallback, 0.0, 1e3, NULL,                        \
               "fresh noise per step: 0 none (the deterministic solver), 1 that of the reverse SDE")
#define PIPE_MULTISTEP_NOISE                                                         \
    PIPE_FLOAT(pipe_multistep, noise, 1.0, 0.0, 2.0, NULL,                           \
               "factor of the added noise; slightly above 1 makes up for detail that a network smooths away")

#ifdef __cplusplus
}
#endif
#endif
