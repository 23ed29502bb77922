/* Guidance: denoisers made of the predictions of other denoisers.  What the
 * plugins guidance.* share. */
#ifndef PIPE_GUIDANCE_H
#define PIPE_GUIDANCE_H

#include <pipe/denoiser.h>

#ifdef __cplusplus
extern "C" {
#endif

/** In what a rule is applied that is not linear (norms, projections). */
typedef enum pipe_guidance_space {
    PIPE_GUIDE_X0,      /* the predicted clean data, whatever the model predicts */
    PIPE_GUIDE_OWN      /* what the model predicts: as most software does it */
} pipe_guidance_space;
/** "x0", "own", NULL: choices for a parameter. */
PIPE_API extern const char *const pipe_guidance_space_names[];

/** describe() of guidance around `inner`: what it is, predicting in `space`.
 *  With `classes` a model that knows none is an error: there is nothing to guide by. */
PIPE_API pipe_status pipe_guidance_describe(pipe_denoiser *inner, pipe_guidance_space space, bool classes,
                                            pipe_denoiser_info *info, pipe_error *err);
/** describe() of a combination: like the first of them; predicts what all predict, or
 *  x0 where they differ.
 * Errors: PIPE_EINVAL  their schedules differ, or one is not trained (it is named)
 *         PIPE_ESHAPE  their samples differ */
PIPE_API pipe_status pipe_guidance_describe_all(pipe_denoiser *const *inner, size_t n, pipe_denoiser_info *info,
                                                pipe_error *err);
/** describe() of guidance by a perturbation of `inner`.
 * Errors: PIPE_EINVAL  `inner` has no such blocks; none is named; sigma is negative */
PIPE_API pipe_status pipe_guidance_describe_perturbed(pipe_denoiser *inner, const pipe_perturbation *p,
                                                      pipe_denoiser_info *info, pipe_error *err);
/** D + scale (D - D'), where D' is what `d` predicts when it is perturbed, under the same
 *  condition; at scale 0 D itself.
 *
 * @param x  [n, ...] at level l; borrowed, as are all
 * @param c  may be NULL
 * @return   x's shape, recorded; poisoned as pipe_denoise() says */
PIPE_API pipe_tensor *pipe_guide_by_perturbation(pipe_denoiser *d, pipe_tensor *x, const pipe_level *l,
                                                 const pipe_condition *c, const pipe_perturbation *p,
                                                 double scale);
/** Is there a condition to guide by? */
PIPE_API bool pipe_condition_given(const pipe_condition *c);
/** <a_i, b_i> of each sample: [n, 1, ...], to be broadcast over samples again. */
PIPE_API pipe_tensor *pipe_sample_dot(pipe_tensor *a, pipe_tensor *b);
/** Tells a denoiser, and all that it is made of, that a new trajectory begins: what was
 *  remembered of the last one is forgotten.  pipe_sample() calls it. */
PIPE_API void pipe_denoiser_begin(pipe_denoiser *d);

#ifdef __cplusplus
}
#endif
#endif
