/* Steps of the forward and the reverse SDE: what stochastic samplers share (Song et al.
 * 2021, arXiv:2011.13456).  Levels and samples are as in <pipe/steps.h>. */
#ifndef PIPE_SDE_H
#define PIPE_SDE_H

#include <pipe/steps.h>

#ifdef __cplusplus
extern "C" {
#endif

/** x of level `from` with its noise raised to the higher level `to`: the forward process; the
 *  added noise times `factor`, and draw number `draw` of the step. */
PIPE_API pipe_tensor *pipe_step_raise(pipe_sampling *s, pipe_tensor *x, const pipe_schedule_point *from,
                                      const pipe_schedule_point *to, double factor, uint32_t draw);

/** What a step of it is taken in: its coefficients are those at the start of the step. */
typedef enum pipe_sde_variable {
    PIPE_SDE_TIME,          /* the schedule's t: Euler-Maruyama */
    PIPE_SDE_RATIO          /* rho^2 of x / alpha, on which the forward process is Brownian motion: the paper's
                               "reverse diffusion" sampler of VE schedules, for any */
} pipe_sde_variable;
PIPE_API extern const char *const pipe_sde_variables[];
/** For `begin`: PIPE_EDOMAIN where the SDE is singular at the start, alpha = 0. */
PIPE_API pipe_status pipe_sde_check(const pipe_sampling *s, pipe_error *err);
/** The mean of a step of dx = [f x - (1 + eta) / 2 g^2 score] dt + sqrt(eta) g dw from x at `from` to `to`, of which
 *  only t counts for PIPE_SDE_TIME; one evaluation of the denoiser.  *deviation is that of the noise to be added,
 *  in units of x: 0 into sigma = 0, where the mean is the result. */
PIPE_API pipe_tensor *pipe_step_reverse_sde(pipe_sampling *s, pipe_tensor *x, const pipe_schedule_point *from,
                                            const pipe_schedule_point *to, double eta, int64_t variable,
                                            double *deviation);

#ifdef __cplusplus
}
#endif
#endif
