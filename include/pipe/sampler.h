/* Kind `sampler`: an update rule.  The core owns the loop, the time grid, the
 * conversions, the noise and the options that all samplers share. */
#ifndef PIPE_SAMPLER_H
#define PIPE_SAMPLER_H

#include <pipe/denoiser.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Sampling in progress: arrays have steps + 1 entries, from the noisiest (0) to
 *  the end (steps), of the schedule that the sampler integrates under. */
typedef struct pipe_sampling {
    size_t size;
    pipe_engine *engine;
    int64_t n;                      /* samples in this batch */
    size_t steps, i;                /* now stepping from grid point i to i + 1; in an inversion the points rise */
    const double *t, *alpha, *sigma, *lambda;   /* lambda[steps] is +inf when sigma ends at 0 */
    pipe_tensor *x;                 /* the state; step() replaces it */
    pipe_denoiser *denoiser;
    pipe_schedule *schedule;
    const pipe_condition *condition;
    struct pipei_sampling *internal;
    /** Set by a sampler around another one while it calls that one: answers in the
     *  denoiser's place, with v (PIPE_PREDICT_V) of the samples x at time t.  NULL: the
     *  denoiser is asked. */
    pipe_tensor *(*answer)(void *arg, struct pipe_sampling *s, pipe_tensor *x, double t);
    void *answer_arg;
} pipe_sampling;

typedef struct pipe_sampler_api {
    /** Before every batch: nothing of the last one may be left over.  May be NULL. */
    pipe_status (*begin)(void *self, pipe_sampling *s, pipe_error *err);
    /** From grid point s->i to s->i + 1: reads and replaces s->x. */
    pipe_status (*step)(void *self, pipe_sampling *s, pipe_error *err);
    /** Releases what was kept.  May be NULL. */
    void (*end)(void *self);
    /** Can it work with such a denoiser, on such a grid?  Asked before every batch and, with what the pipeline
     *  tells, before the first step of the run works.  `s` has no samples yet; s->t and the other arrays are
     *  NULL, and steps 0, where the grid is not known, or where a sampler around this one may begin on a later
     *  point.  `info` is NULL where the denoiser is not known, and of a network without an objective `predicts`
     *  and `schedule` are not.  NULL: it can with all.
     *  Since ABI 1.0. */
    pipe_status (*check)(void *self, const pipe_sampling *s, const pipe_denoiser_info *info, pipe_error *err);
    int32_t order;                  /* of convergence in the step size (0: stochastic) */
    int32_t calls_per_step;         /* denoiser evaluations */
    bool stochastic;
    /** Of a sampler that wraps another: that one, borrowed, whose grid and options
     *  (all parameters that samplers share) then count; of a sampler with an input of
     *  kind sampler they must be left at their defaults.  Its begin(), step() and end() call the inner sampler's
     *  through pipe_sampler_begin(), ...  NULL: wraps none. */
    pipe_sampler *(*inner)(void *self);
    /** Does it step from alpha = 0 without asking the denoiser there?  Else a denoiser is refused that cannot
     *  tell the clean data of pure noise.  NULL: it asks.
     *  Since ABI 1.0. */
    bool (*skips_pure_noise)(void *self);
    /** begin() reads the grid, the schedule and its parameters alone: with s->x NULL it is called, and end() behind
     *  it, before the first step of the run works, so that what it refuses is refused then.
     *  Since ABI 1.0. */
    bool early_begin;
} pipe_sampler_api;

/** The functions of a wrapped sampler, for those of its wrapper; errors of
 *  begin carry the sampler's name. */
PIPE_API pipe_status pipe_sampler_begin(pipe_sampler *sampler, pipe_sampling *s, pipe_error *err);
PIPE_API pipe_status pipe_sampler_step(pipe_sampler *sampler, pipe_sampling *s, pipe_error *err);
PIPE_API void pipe_sampler_end(pipe_sampler *sampler);
/** In a begin(): leaves out the first k grid points.  Point k becomes point 0, with
 *  s->x still to be brought to its noise level; k = s->steps leaves no step at all.
 *  Errors: PIPE_EINVAL  there are fewer than k steps
 *  Since ABI 1.0. */
PIPE_API pipe_status pipe_sampling_skip(pipe_sampling *s, size_t k, pipe_error *err);

/** For check(): PIPE_EINVAL where the denoiser remembers earlier steps, so that it must be asked once per step;
 *  `how` ends "it cannot be asked ...".
 *  Since ABI 1.0. */
PIPE_API pipe_status pipe_sampling_check_forgets(const pipe_sampling *s, const char *how, pipe_error *err);

/** Predictions at grid point s->i for the noisy samples x (same shape as s->x). */
PIPE_API pipe_tensor *pipe_predict_x0(pipe_sampling *s, pipe_tensor *x);
PIPE_API pipe_tensor *pipe_predict_eps(pipe_sampling *s, pipe_tensor *x);
/** At any time t of the schedule (for the inner points of a step, or i + 1). */
PIPE_API pipe_tensor *pipe_predict_at(pipe_sampling *s, pipe_tensor *x, double t, pipe_prediction want);
/** pipe_predict_x0(), and ln of the variance of a step that the network predicts, of x's shape.  Both are poisoned
 *  with PIPE_EINVAL where no network was asked that predicts one.
 *  Since ABI 1.0. */
PIPE_API pipe_tensor *pipe_predict_x0_and_log_variance(pipe_sampling *s, pipe_tensor *x, const pipe_posterior *step,
                                                       pipe_tensor **log_variance);
/** Predictions for samples of several noise levels, x[k] at time t[k], in one call of the
 *  denoiser on all of them: out[k] is what pipe_predict_at() would give.
 *  Errors: PIPE_EINVAL  the denoiser remembers earlier steps (guidance with momentum)
 *  Since ABI 1.0. */
PIPE_API pipe_status pipe_predict_points(pipe_sampling *s, pipe_tensor *const *x, const double *t, size_t points,
                                         pipe_prediction want, pipe_tensor **out, pipe_error *err);
/** Standard normal noise of x's shape, keyed by (seed, node, sample, step i,
 *  draw): draw distinguishes several within one step. */
PIPE_API pipe_tensor *pipe_sampling_noise(pipe_sampling *s, uint32_t draw);
/** x, which is at grid point `point`, with what a mask knows replaced by the image, noised
 *  to that level by draw `draw` of the step; x itself without a mask.  The loop does so
 *  after every step, with the draw PIPE_SAMPLING_MASK_DRAW; a sampler calls it only where
 *  it goes through several points in one step.
 *  Since ABI 1.0. */
PIPE_API pipe_tensor *pipe_sampling_known(pipe_sampling *s, pipe_tensor *x, size_t point, uint32_t draw);
enum { PIPE_SAMPLING_MASK_DRAW = 63 };  /* the last of a step */
/** Standard normal noise of x's shape that is shared between step counts: the
 *  increment, divided by its standard deviation, of one Brownian path per
 *  (seed, node, sample) between two noise levels rho = sigma / alpha.
 *
 *  The path runs on the clock rho^power, so the increment over a long step is the
 *  sum of those over short ones, each times sqrt(|clock difference|).  An SDE
 *  solver is exact in its noise with the clock of its Ito integral: power -2 eta in
 *  the data form (variance 1 - e^{-2 eta h}), 2 in the noise form (e^{2h} - 1).
 *  The path depends on no grid and no schedule; every call takes one kernel.
 *
 *  Poisoned with PIPE_EDOMAIN where the clock is infinite (rho 0 with a power below
 *  0), and for steps shorter than the resolution of the path, 3e-5 of rho. */
PIPE_API pipe_tensor *pipe_sampling_brownian(pipe_sampling *s, uint32_t draw, double rho_from, double rho_to, double power);

/** What `generate` asks for. */
typedef struct pipe_sample_request {
    size_t size;
    pipe_sampler *sampler;
    pipe_denoiser *denoiser;
    pipe_schedule *schedule;        /* NULL: the denoiser's own */
    const pipe_condition *condition;   /* of this batch */
    int64_t n;
    uint64_t first;                 /* index of the first sample */
    pipe_key key;                   /* seed and stream */
    pipe_tensor *start;             /* x at the first grid point; NULL: sigma[0] times noise.  Not with `image`
                                       but under `mask`, whose known part is then left to the first step */
    bool (*progress)(void *arg, size_t step, size_t steps);   /* false: stop; may be NULL */
    void *progress_arg;
    /** After every step (NULL: not wanted): s->i is the step that was taken and
     *  s->x, computed and readable, the samples at grid point s->i + 1; both are
     *  the loop's.  Anything but PIPE_OK ends the run with that error. */
    pipe_status (*observe)(void *arg, const pipe_sampling *s, pipe_error *err);
    void *observe_arg;
    /** Noise supplied by the caller in place of pipe_sampling_noise()'s own (NULL:
     *  keyed by seed and sample): a tensor of the samples' shape for draw `draw`
     *  of the step from grid point `step` (from 0).  A poisoned tensor is an
     *  error of the step.  The start is `start`'s. */
    pipe_tensor *(*noise)(void *arg, size_t step, uint32_t draw);
    void *noise_arg;
    pipe_tensor *image;             /* clean samples [n, ...] to start from: noised to the first grid point
                                       (image to image), kept under `mask`, or the beginning of an inversion */
    double strength;                /* share of the steps that are taken, at the data's end of the grid; 0 or 1:
                                       all.  `start` is then at the first point of those */
    pipe_tensor *mask;              /* broadcasts to the samples: 1 where `image` is known and stays, noised anew
                                       at each point (Lugmayr et al. 2022, arXiv:2201.09865, equation 8) */
    bool upward;                    /* inversion: from `image` to noise, over the grid in reverse without its
                                       end at sigma = 0.  PIPE_EINVAL: the sampler draws noise */
    int64_t padding;                /* of the n samples, how many at the end only fill the batch: whether they stay
                                       finite is not asked */
    uint64_t *calls;                /* calls of the denoiser, one after another, are added to it; may be NULL */
} pipe_sample_request;

/** Runs the loop; *out (kept in the caller's slot) is x at the end, [n, ...].
 *  Errors: those of the grid and of the sampler's step, with its number, and
 *          PIPE_EDOMAIN  a sample became NaN or infinite: sampler, step and sample
 *                        are said */
PIPE_API pipe_status pipe_sample(const pipe_sample_request *r, pipe_tensor **out, pipe_error *err);

/** The time grid that `steps`, `grid`, ... of a sampler give under a schedule:
 *  steps + 1 times, falling. For steps that integrate on their own.  A wrapper's is
 *  that of the sampler inside. */
PIPE_API pipe_status pipe_sampler_grid(pipe_sampler *sampler, pipe_schedule *schedule, double **t, size_t *steps,
                                       pipe_error *err);

#ifdef __cplusplus
}
#endif
#endif
