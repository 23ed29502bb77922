/* Kinds `objective` (what is minimized) and `optimizer` (how).  `fit` is the only
 * training loop: a paper adds an objective, not a loop. */
#ifndef PIPE_OBJECTIVE_H
#define PIPE_OBJECTIVE_H

#include <pipe/dataset.h>
#include <pipe/denoiser.h>
#include <pipe/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pipe_objective_api {
    /** Says what the model will have learned (pipe_denoiser_declare) and checks
     *  that model and data fit.  `data` may be NULL. May be NULL itself. */
    pipe_status (*declare)(void *self, pipe_object *model, const pipe_dataset_info *data, pipe_error *err);
    /** Mean loss over the batch: a scalar on the recording.  Also run once, in
     *  build mode, to create the model's weights. */
    pipe_tensor *(*loss)(void *self, pipe_object *model, pipe_batch *batch);
} pipe_objective_api;

PIPE_API pipe_status pipe_objective_declare(pipe_objective *o, pipe_object *model, const pipe_dataset_info *data,
                                            pipe_error *err);
PIPE_API pipe_tensor *pipe_objective_loss(pipe_objective *o, pipe_object *model, pipe_batch *batch);

/* ---- what objectives that train denoisers share ---- */
/** Checks that `model` is a denoiser, that `data` (may be NULL: no checks) has a
 *  field "x" and, for a model with classes, a field "label" of no more classes; then
 *  declares what the model will have learned. */
PIPE_API pipe_status pipe_denoising_declare(pipe_object *model, const pipe_dataset_info *data,
                                            pipe_prediction predicts, pipe_schedule *schedule, pipe_error *err);
/** The batch's labels as the model takes them: i32 [n], -1 with probability
 *  `dropout` (for classifier-free guidance).  NULL for a model without classes. */
PIPE_API pipe_tensor *pipe_denoising_labels(pipe_denoiser *model, pipe_batch *b, double dropout);
/** A number in (0, 1) per row, [batch size], keyed by (purpose, step, row).  Stratified:
 *  row r lies at (r + u) / n, with one u for the whole batch (Kingma et al. 2021,
 *  arXiv:2107.00630, appendix I.1): each is uniform, the batch covers the range. */
PIPE_API void pipe_batch_uniform(const pipe_batch *b, const char *purpose, bool stratified, double *u);

/** One update of a flat vector of weights. */
typedef struct pipe_update {
    size_t size;
    pipe_tensor *p, *g;             /* weights and gradient, [count]; */
    pipe_tensor *const *state;      /* state_count leaves [count], zero at the start */
    pipe_tensor *p_new;             /* to be filled */
    pipe_tensor **state_new;        /* to be filled, state_count */
    double learning_rate;
    uint64_t step;                  /* from 1 */
    pipe_tensor *decay_mask;        /* [count]: 1 where weight decay applies (matrices), 0 elsewhere (biases, gains) */
} pipe_update;

typedef struct pipe_optimizer_api {
    int32_t state_count;            /* vectors of state per weight */
    pipe_status (*update)(void *self, pipe_update *u, pipe_error *err);
} pipe_optimizer_api;
PIPE_API int32_t pipe_optimizer_state_count(pipe_optimizer *o);
PIPE_API pipe_status pipe_optimizer_update(pipe_optimizer *o, pipe_update *u, pipe_error *err);

#ifdef __cplusplus
}
#endif
#endif
