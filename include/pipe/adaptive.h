/* Steps of adaptive length: what samplers share that choose their steps by an estimate of
 * the error.
 *
 * Every sample has a position and a step of its own, so it is the same alone and in any
 * batch.  The batch is evaluated together until its slowest sample has arrived; those that
 * have stay where they are.  After each attempt one number per sample is read back from the
 * device: the estimate of its error, from which the host chooses the next step. */
#ifndef PIPE_ADAPTIVE_H
#define PIPE_ADAPTIVE_H

#include <pipe/sampler.h>

#ifdef __cplusplus
extern "C" {
#endif

/** In a begin(): leaves of the grid its first point, the last one above sigma = 0, and
 *  sigma = 0 if it ends there.
 *  Errors: PIPE_EINVAL  these are one point; a mask is to be kept, which is done at grid points; or the denoiser
 *                       remembers earlier steps (guidance with momentum, or that counts steps) */
PIPE_API pipe_status pipe_sampling_ends(pipe_sampling *s, pipe_error *err);
/** pipe_predict_at() for sample k at time t[k]. */
PIPE_API pipe_tensor *pipe_predict_rows(pipe_sampling *s, pipe_tensor *x, const double *t, pipe_prediction want);
/** pipe_sampling_noise() of step number `step`, for samplers that count their own steps. */
PIPE_API pipe_tensor *pipe_sampling_noise_of(pipe_sampling *s, size_t step, uint32_t draw);

/** One attempted step of all samples, in whatever variable the solver integrates. */
typedef struct pipe_attempt {
    size_t size;
    size_t number;                  /* attempts before this one, of each sample that is under way */
    const double *from, *to;        /* [n] positions; equal: the sample has arrived, x must stay as it is */
    pipe_tensor *x;                 /* [n, ...] at `from` */
    pipe_tensor *carry;             /* what the last accepted step carried over, row by row; NULL at first, where the
                                       solver puts what rejected samples are to find again */
    /* out */
    pipe_tensor *next;              /* [n, ...] at `to`: x of the samples whose step is accepted */
    pipe_tensor *low;               /* a result of lower order whose size scales the error; may be `next` */
    pipe_tensor *error;             /* [n, ...] estimated, of the shape of x */
    pipe_tensor *next_carry;        /* [n, ...] to be `carry` of accepted samples, or NULL */
} pipe_attempt;

/** An adaptive solver: the members that a sampler sets, from its parameters or in its
 *  begin(), and below them what is kept between attempts.  A sampler's state begins with
 *  one, and starts zeroed. */
typedef struct pipe_adaptive {
    double rtol, atol;              /* allowed error of each number: the larger of atol and rtol times its size */
    double order;                   /* the estimated error is of order h^order */
    double p, i, d;                 /* gains of the controller (k-diffusion's: the new step is h times 1 + atan(f - 1),
                                       f = safety e^(-(p + i + d) / order) e'^((p + 2 d) / order) e''^(-d / order)
                                       of this and the last two accepted errors) */
    double safety;                  /* f at an error of exactly 1, under control by the error alone */
    double accept;                  /* smallest factor of h with which a step is accepted; 0: errors up to 1 are */
    size_t limit;                   /* attempts of a sample before PIPE_EINVAL */

    pipe_tensor *x, *low, *carry;
    size_t attempts;                /* of the slowest sample of the last run */
} pipe_adaptive;

/** Rows for a state that begins with a pipe_adaptive. */
#define PIPE_ADAPTIVE_PARAMS(rtol_fallback, atol_fallback)                                              \
    PIPE_FLOAT(pipe_adaptive, rtol, rtol_fallback, 1e-6, 1.0, NULL,                                     \
               "error allowed in a step, relative to the size of each number; lower is slower and "       \
               "closer to the exact solution"),                                                         \
    PIPE_FLOAT(pipe_adaptive, atol, atol_fallback, 1e-9, 1e3, NULL,                                     \
               "error allowed in a step in units of the data, where it is more than `rtol` allows"),    \
    PIPE_FLOAT(pipe_adaptive, p, 0.0, 0.0, 2.0, NULL,                                                   \
               "proportional gain of the step's control; higher changes the step more smoothly"),       \
    PIPE_FLOAT(pipe_adaptive, i, 1.0, 0.01, 2.0, NULL,                                                  \
               "integral gain of the step's control; higher follows the error faster"),                 \
    PIPE_FLOAT(pipe_adaptive, d, 0.0, 0.0, 2.0, NULL, "derivative gain of the step's control")

/** For begin(): pipe_sampling_ends(); the number of the grid's steps becomes the limit of attempts.  PIPE_EINVAL: there is no point above noise 0 but the first. */
PIPE_API pipe_status pipe_adaptive_begin(pipe_adaptive *a, pipe_sampling *s, pipe_error *err);
/** Takes s->x from position `start` to `end`, its first step `first` (above 0).  After each
 *  attempt the progress() of the request is asked whether to go on, with no more steps taken.
 *  Errors: PIPE_EINVAL  more attempts than the limit are needed
 *          PIPE_EDOMAIN  an estimate of the error is not finite: the sample is said */
PIPE_API pipe_status pipe_adaptive_run(pipe_adaptive *a, pipe_sampling *s, double start, double end, double first,
                                       void (*attempt)(void *self, pipe_sampling *s, pipe_attempt *t), void *self,
                                       pipe_error *err);
/** The .end of such a sampler: releases what was kept. */
PIPE_API void pipe_adaptive_end(void *self);
/** v[k] for each sample k, to multiply samples of x's rank: [n, 1, ...]. */
PIPE_API pipe_tensor *pipe_rows(pipe_sampling *s, const double *v);

#ifdef __cplusplus
}
#endif
#endif
