/* What a step does with its run: yields values, reports numbers, writes files,
 * shows progress, saves checkpoints.  All of it is remembered with the step's
 * result in the cache, so a cached step looks as if it had run. */
#ifndef PIPE_RUN_H
#define PIPE_RUN_H

#include <pipe/object.h>
#include <pipe/dataset.h>
#include <pipe/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Sets an output.  Takes a reference of its own.  Data sets and objects with
 *  weights can be yielded (they can be saved).  A step must yield all its outputs. */
PIPE_API pipe_status pipe_yield(pipe_context *ctx, const char *output, pipe_object *value, pipe_error *err);

/** A number that `expect:` can bound as NODE.NAME; the last one reported counts.  Not finite: PIPE_EDOMAIN. */
PIPE_API pipe_status pipe_report(pipe_context *ctx, const char *name, double value, pipe_error *err);
/** A point of a curve: also in metrics.jsonl under `step`; as pipe_report otherwise. */
PIPE_API pipe_status pipe_report_at(pipe_context *ctx, uint64_t step, const char *name, double value, pipe_error *err);

/** The path (in the run's outputs/NODE/) at which to write a file of that name;
 *  valid until the step ends. */
PIPE_API pipe_status pipe_output_path(pipe_context *ctx, const char *name, const char **path, pipe_error *err);
/** Metadata for PNG files: the resolved pipeline and a one-line summary; "" with --no-metadata. */
PIPE_API const char *pipe_context_pipeline_yaml(const pipe_context *ctx);
PIPE_API const char *pipe_context_summary(const pipe_context *ctx);

/** Progress of this step; `detail` ("loss 0.123") may be NULL.  Cheap: call it every iteration, and once behind
 *  pipe_checkpoint_load(): the rate that is shown counts what is done from there on. */
PIPE_API void pipe_progress(pipe_context *ctx, uint64_t done, uint64_t total, const char *unit, const char *detail);
/** True once a signal asked to stop: save a checkpoint, return PIPE_EINTERRUPTED.
 *  *save (may be NULL) is true then, and once for each SIGUSR1, which asks for a
 *  checkpoint alone: save and go on. */
PIPE_API bool pipe_stop_requested(pipe_context *ctx, bool *save);

/* ---- checkpoints of a long step ---- */
/** One named array of a checkpoint: a tensor (leaf) or, where tensor is NULL, nothing but metadata. */
typedef struct pipe_saved {
    const char *name;
    pipe_tensor *tensor;
} pipe_saved;
/** Writes checkpoints/NODE/step-NNNNNNNN.safetensors, atomically; keeps the last two.
 *  What was reported and written to files so far is saved with it.  step >= 1. */
PIPE_API pipe_status pipe_checkpoint_save(pipe_context *ctx, uint64_t step, const pipe_saved *items, size_t n,
                                          pipe_error *err);
/** The newest checkpoint of this very step (same key) into the given leaves
 *  (shapes must fit), with the numbers and files of that moment; *step = 0 when
 *  there is none, or when the step is to be computed afresh (--force, --no-cache). */
PIPE_API pipe_status pipe_checkpoint_load(pipe_context *ctx, uint64_t *step, const pipe_saved *items, size_t n,
                                          pipe_error *err);

/* ---- reported numbers as a value (kind `metrics`) ---- */
PIPE_API size_t pipe_metrics_names(pipe_metrics *m, const char *const **names);
/** The curve of one name: n points (step, value); borrowed. false: no such name. */
PIPE_API bool pipe_metrics_curve(pipe_metrics *m, const char *name, const double **step, const double **value,
                                 size_t *n);
PIPE_API bool pipe_metrics_last(pipe_metrics *m, const char *name, double *value);

#ifdef __cplusplus
}
#endif
#endif
