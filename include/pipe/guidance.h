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
/** What the state of guidance by a perturbation *begins with*: its create() sets
 *  `kind`, and .denoiser = PIPE_PERTURBED_STATE. */
typedef struct pipe_perturbed_state {
    pipe_denoiser *denoiser;
    double scale;
    pipe_ints blocks;
    pipe_perturbation_kind kind;
    double sigma;                   /* of PIPE_PERTURB_BLUR */
} pipe_perturbed_state;
PIPE_API pipe_status pipe_perturbed_state_describe(void *self, pipe_denoiser_info *info, pipe_error *err);
PIPE_API pipe_tensor *pipe_perturbed_state_predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                                                   const pipe_condition *c);
#define PIPE_PERTURBED_STATE                                                                             \
    {.describe = pipe_perturbed_state_describe, .predict = pipe_perturbed_state_predict}
#define PIPE_PERTURBED_STATE_INPUT                                                                       \
    PIPE_INPUT(pipe_perturbed_state, denoiser, PIPE_KIND_DENOISER,                                       \
               "a network with attention, not guidance around one")
#define PIPE_PERTURBED_STATE_SCALE(fallback)                                                             \
    PIPE_FLOAT(pipe_perturbed_state, scale, fallback, -100.0, 100.0, NULL,                               \
               "0 = the network alone; higher goes further from what it predicts when perturbed")
#define PIPE_PERTURBED_STATE_BLOCKS(what)                                                                \
    PIPE_INTS(pipe_perturbed_state, blocks, NULL, 0, 1000000, NULL,                                      \
              what ", as the network numbers them; those in the middle keep most of the content")
#define PIPE_PERTURBED_STATE_HELP                                                                        \
    "Works without labels too. To have it beside classifier-free guidance: guidance.weighted of both "   \
    "and the network, with weights [1, 1, -1]."

/** What the state of guidance away from the unconditional prediction *begins with*. */
typedef struct pipe_cfg_state {
    pipe_denoiser *denoiser;
    double scale;
    int64_t space;                  /* pipe_guidance_space */
} pipe_cfg_state;
PIPE_API pipe_status pipe_cfg_state_describe(void *self, pipe_denoiser_info *info, pipe_error *err);
/** What the model predicts in that space, under condition `c` or, with NULL, without one.
 *  Poisoned where pipe_cfg_state_describe() fails. */
PIPE_API pipe_tensor *pipe_cfg_state_predict(const pipe_cfg_state *st, pipe_tensor *x, const pipe_level *l,
                                             const pipe_condition *c);
#define PIPE_CFG_STATE_INPUT                                                                             \
    PIPE_INPUT(pipe_cfg_state, denoiser, PIPE_KIND_DENOISER,                                             \
               "a conditional model that was trained to work without labels too")
#define PIPE_CFG_STATE_SCALE                                                                             \
    PIPE_FLOAT(pipe_cfg_state, scale, 2.0, -100.0, 100.0, NULL,                                          \
               "guidance scale; 1 = none, higher follows the condition more and loses variety")
#define PIPE_CFG_STATE_SPACE(fallback)                                                                   \
    PIPE_CHOICE(pipe_cfg_state, space, fallback, pipe_guidance_space_names,                              \
                "in which it is applied: x0 (the predicted clean data) or own (whatever the model predicts)")

/** Counts the noise levels of a trajectory: a sampler may ask several times at one. */
typedef struct pipe_level_count {
    int64_t levels;                 /* seen so far, from 0; -1: none yet */
    double last;                    /* time of the last one */
} pipe_level_count;
PIPE_API void pipe_level_count_begin(pipe_level_count *n);
/** The number of `l`, from 0.  Rows at different levels do not count: the last one's. */
PIPE_API int64_t pipe_level_count_at(pipe_level_count *n, const pipe_level *l);
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
