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

/** At which times to train; the choices of PIPE_TIME_PARAMS, in their order. */
typedef enum pipe_times {
    PIPE_TIMES_UNIFORM,
    PIPE_TIMES_LOGIT_NORMAL,        /* logit t ~ N(mean, deviation^2), t from 0 to 1 over the schedule */
    PIPE_TIMES_MODE,                /* Esser et al. 2024, arXiv:2403.03206, equation 20 */
    PIPE_TIMES_LOG_NORMAL           /* ln(sigma / alpha) ~ N(mean, deviation^2) (Karras et al. 2022) */
} pipe_times;
typedef struct pipe_time_density {
    size_t size;
    pipe_times times;
    double mean, deviation, mode_scale;
} pipe_time_density;
PIPE_API extern const char *const pipe_times_names[];
/** The rows of a state with int64_t times and double mean, deviation, mode_scale. */
#define PIPE_TIME_PARAMS(state)                                                                                 \
    PIPE_CHOICE(state, times, "uniform", pipe_times_names,                                                      \
                "at which times to train: uniform, logit-normal or mode (more often in the middle, where it is " \
                "hard), log-normal (of sigma / alpha; EDM's has mean -1.2 and deviation 1.2)"),                 \
    PIPE_FLOAT(state, mean, 0.0, -20.0, 20.0, NULL,                                                             \
               "of logit-normal and log-normal; higher trains more at high noise"),                             \
    PIPE_FLOAT(state, deviation, 1.0, 0.01, 20.0, NULL,                                                         \
               "of logit-normal and log-normal; higher spreads towards both ends"),                             \
    PIPE_FLOAT(state, mode_scale, 1.29, -1.0, 1.75, NULL,                                                       \
               "of mode; above 0 trains more in the middle, below 0 more at both ends")
/** Quantile u in (0, 1) of a density: the time of the schedule below which a share u of the times lies.
 *  A log-normal one is cut off at the schedule's ends. */
PIPE_API double pipe_time_quantile(const pipe_time_density *d, pipe_schedule *s, double u);
/** A time per row, t [batch size], as pipe_batch_uniform() of purpose "time" draws its quantile; of a
 *  discrete schedule always one of its steps. */
PIPE_API pipe_status pipe_training_times(const pipe_time_density *d, pipe_schedule *s, const pipe_batch *b,
                                         bool stratified, double *t, pipe_error *err);

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
