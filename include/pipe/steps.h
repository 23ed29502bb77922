/* Building blocks of samplers that go from one noise level to the next without
 * a memory of earlier steps.
 *
 * With rho = sigma / alpha the probability-flow ODE is d(x / alpha) / d rho = eps
 * (Karras et al. 2022, arXiv:2206.00364; Lai et al. 2025, arXiv:2510.21890).  A
 * noise level is a pipe_schedule_point; samples x at a level are those of the
 * schedule, alpha x0 + sigma eps.  All coefficients are doubles on the host. */
#ifndef PIPE_STEPS_H
#define PIPE_STEPS_H

#include <pipe/sampler.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- noise levels ---- */
/** Grid point i. */
PIPE_API pipe_schedule_point pipe_grid_point(const pipe_sampling *s, size_t i);
/** sigma / alpha; +inf at alpha = 0. */
PIPE_API double pipe_level_ratio(const pipe_schedule_point *p);
/** The level of the sampler's schedule with this ratio, or the nearest that it has. */
PIPE_API pipe_schedule_point pipe_level_of_ratio(const pipe_sampling *s, double rho);

/* ---- first order ---- */
/** x at `from` taken to `to` exactly as if x0 were right: DDIM's step, alpha' x0 +
 *  sigma' eps with eps from x and x0.  Defined from alpha = 0 and to sigma = 0. */
PIPE_API pipe_tensor *pipe_step_to(pipe_tensor *x, pipe_tensor *x0, const pipe_schedule_point *from,
                                   const pipe_schedule_point *to);

/** How a stochastic step divides the noise at its end into old and fresh. */
typedef enum pipe_split {
    PIPE_SPLIT_VARIANCE,    /* as DDIM and k-diffusion: fresh = eta rho' sqrt(1 - (rho' / rho)^2) */
    PIPE_SPLIT_TIME         /* as ancestral rectified flow: the deterministic part ends at tau' (1 + eta (tau' / tau
                               - 1)), where tau = rho / (1 + rho) is a flow's time */
} pipe_split;

/** The step from `from` to `to` as a deterministic step to *kept (the alpha of `to`,
 *  less sigma) and fresh noise of the standard deviation that is returned, in units
 *  of x: 0 for eta 0 and into sigma = 0.  Never more than the sigma of `to`. */
PIPE_API double pipe_step_split(const pipe_schedule_point *from, const pipe_schedule_point *to, double eta,
                                pipe_split split, pipe_schedule_point *kept);
/** x + deviation z, x itself if the deviation is 0; z is draw number `draw` of the step. */
PIPE_API pipe_tensor *pipe_step_add_noise(pipe_sampling *s, pipe_tensor *x, double deviation, uint32_t draw);

/** One step of the data form with x0 from half-way in lambda (DPM-Solver++(2S): Lu et al. 2022,
 *  arXiv:2211.01095, algorithm 1, r = 1/2): second order, two evaluations.  Into sigma = 0 and
 *  from alpha = 0, where there is no half-way, one evaluation and first order.  `to` need not be
 *  of the schedule. */
PIPE_API pipe_tensor *pipe_step_half_way(pipe_sampling *s, const pipe_schedule_point *from,
                                         const pipe_schedule_point *to);

/* ---- churn: Karras et al. 2022, algorithm 2 ---- */
typedef struct pipe_churn {
    double amount, min, max, noise;
} pipe_churn;
/** Rows for a state with a member `churn` of type pipe_churn. */
#define PIPE_CHURN_PARAMS(state)                                                                        \
    PIPE_CHURN_ROW(state, "churn", amount, "0.0", 0.0, 1000.0,                                          \
                   "noise added and removed again over the whole path; higher corrects more errors "    \
                   "and is more random"),                                                               \
    PIPE_CHURN_ROW(state, "churn_min", min, "0.0", 0.0, 1e6,                                            \
                   "smallest sigma / alpha at which noise is added"),                                   \
    PIPE_CHURN_ROW(state, "churn_max", max, "1e6", 0.0, 1e6,                                            \
                   "largest sigma / alpha at which noise is added"),                                    \
    PIPE_CHURN_ROW(state, "churn_noise", noise, "1.0", 0.5, 2.0,                                        \
                   "standard deviation of the added noise; slightly above 1 makes up for detail that "  \
                   "a network smooths away")
#define PIPE_CHURN_ROW(state, name_, member, fallback_, min_, max_, help_)                              \
    {.name = (name_), .type = PIPE_TYPE_FLOAT,                                                          \
     .offset = offsetof(state, churn) + offsetof(pipe_churn, member), .fallback = (fallback_),          \
     .min = (min_), .max = (max_), .help = (help_)}
/** s->x with its noise raised to rho (1 + min(amount / steps, sqrt 2 - 1)), or to the
 *  schedule's end if that is less; *level is the grid point s->i before and the raised
 *  level after.  Uses draw 0. */
PIPE_API pipe_tensor *pipe_step_churn(pipe_sampling *s, const pipe_churn *c, pipe_schedule_point *level);

/* ---- Runge-Kutta ---- */
/** What the ODE is integrated in. */
typedef enum pipe_ode_variable {
    PIPE_ODE_AUTO,  /* rho; time if the grid starts at alpha = 0, where rho is infinite */
    PIPE_ODE_RHO,   /* d(x / alpha) / d rho = eps */
    PIPE_ODE_TIME   /* dx / dt = velocity */
} pipe_ode_variable;
PIPE_API extern const char *const pipe_ode_variables[];
#define PIPE_ODE_VARIABLE_PARAM(state)                                                                  \
    PIPE_CHOICE(state, variable, "auto", pipe_ode_variables,                                            \
                "what the ODE is integrated in: rho (sigma / alpha), time, or auto (rho unless alpha "  \
                "is 0 at the start)")
/** For `begin`: PIPE_ODE_RHO or PIPE_ODE_TIME, whichever AUTO means here; PIPE_EDOMAIN: rho is
 *  infinite at the start. */
PIPE_API pipe_status pipe_ode_resolve(const pipe_sampling *s, int64_t variable, int64_t *out, pipe_error *err);

enum { PIPE_RK_STAGES = 4 };
/** An explicit Runge-Kutta method: stage i is the slope at c[i] of the step, at x plus
 *  the step times sum a[i][j] slope j; the result takes sum b[j] slope j. */
typedef struct pipe_tableau {
    size_t stages;
    double c[PIPE_RK_STAGES], a[PIPE_RK_STAGES][PIPE_RK_STAGES], b[PIPE_RK_STAGES];
} pipe_tableau;
/** One step in `variable` (RHO or TIME); `stages` evaluations of the denoiser.  Into
 *  sigma = 0, where the slope is not defined for every network, pipe_step_to(). */
PIPE_API pipe_tensor *pipe_runge_kutta(pipe_sampling *s, pipe_tensor *x, const pipe_schedule_point *from,
                                       const pipe_schedule_point *to, const pipe_tableau *method,
                                       int64_t variable);
PIPE_API extern const pipe_tableau pipe_rk_heun;        /* the mean of the slopes at both ends */
PIPE_API extern const pipe_tableau pipe_rk_midpoint;

#ifdef __cplusplus
}
#endif
#endif
