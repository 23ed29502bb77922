/* Kind `dataset`: a number of samples with named fields, read at random.
 * The fields that everything understands: "x" (f32: images [h, w, c] in [-1, 1],
 * sequences [l, c], points [d]) and "label" (i32, a scalar per sample).
 * What steps produce (generated images, latents) is a dataset too. */
#ifndef PIPE_DATASET_H
#define PIPE_DATASET_H

#include <pipe/object.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PIPE_MAX_FIELDS 16

typedef struct pipe_field {
    char name[32];
    pipe_shape shape;               /* of one sample */
    pipe_dtype dtype;
    int64_t classes;                /* of a label field; else 0 */
    double low, high;               /* range of values where known, else both 0 */
} pipe_field;

typedef struct pipe_dataset_info {
    size_t size;
    uint64_t count;
    size_t n_fields;
    pipe_field field[PIPE_MAX_FIELDS];
} pipe_dataset_info;

/** Which samples are wanted.  `draw` counts how often the data set was gone
 *  through (the epoch): random transforms key on (seed, draw, index). */
typedef struct pipe_dataset_request {
    size_t size;
    const uint64_t *index;          /* each < count */
    size_t n;
    uint64_t draw;
} pipe_dataset_request;

typedef struct pipe_dataset_api {
    pipe_status (*describe)(void *self, pipe_dataset_info *info, pipe_error *err);
    /** Writes field k of the n samples, packed, f32 or i32, into `out`. */
    pipe_status (*read)(void *self, const pipe_dataset_request *r, size_t k, void *out, pipe_error *err);
} pipe_dataset_api;

PIPE_API pipe_status pipe_dataset_describe(pipe_dataset *d, pipe_dataset_info *info, pipe_error *err);
/** Index of the field, or -1. */
PIPE_API int pipe_dataset_field(const pipe_dataset_info *info, const char *name);
/** As pipe_dataset_field, but a missing one is an error that lists those there are. */
PIPE_API pipe_status pipe_dataset_need(pipe_dataset *d, const pipe_dataset_info *info, const char *name, size_t *k,
                                       pipe_error *err);
PIPE_API pipe_status pipe_dataset_read(pipe_dataset *d, const pipe_dataset_request *r, size_t k, void *out,
                                       pipe_error *err);
/** Field k of samples first ... first + n - 1 as a tensor [n, ...]. */
PIPE_API pipe_status pipe_dataset_tensor(pipe_dataset *d, pipe_engine *e, uint64_t first, size_t n, size_t k,
                                         pipe_tensor **out, pipe_error *err);

/** Field k of all samples, packed, f32 or i32 as the field says: *out is the caller's, freed with
 *  pipe_free().  Errors: PIPE_ENOMEM (says how many samples), those of reading. */
PIPE_API pipe_status pipe_dataset_read_all(pipe_dataset *d, size_t k, void **out, pipe_error *err);
/** Field "x" of all samples, [*count, numbers of *sample]; an empty data set, or one
 *  without f32 numbers there, is an error.  *out is the caller's. */
PIPE_API pipe_status pipe_dataset_read_x(pipe_dataset *d, pipe_shape *sample, size_t *count, float **out,
                                         pipe_error *err);
/** Field "label" of all samples, one class number each, and how many classes there
 *  are; anything else there is an error.  *out is the caller's. */
PIPE_API pipe_status pipe_dataset_read_labels(pipe_dataset *d, int64_t *classes, int32_t **out, pipe_error *err);

/* ---- data sets in memory: what steps yield ---- */
/** An empty one with the fields of `info` and room for info->count samples;
 *  reference 1 belongs to the caller. */
PIPE_API pipe_status pipe_dataset_new(pipe_context *ctx, const pipe_dataset_info *info, pipe_dataset **out,
                                      pipe_error *err);
/** The memory of field k (count samples, packed), to be filled. */
PIPE_API void *pipe_dataset_data(pipe_dataset *d, size_t k);

/* ---- a training batch ---- */
typedef struct pipe_batch pipe_batch;
PIPE_API int64_t pipe_batch_size(const pipe_batch *b);
PIPE_API uint64_t pipe_batch_step(const pipe_batch *b);
PIPE_API pipe_engine *pipe_batch_engine(const pipe_batch *b);
/** The field as a tensor [n, ...], or NULL when the data set has none such. */
PIPE_API pipe_tensor *pipe_batch_field(pipe_batch *b, const char *name);
/** As above, but a missing field gives a poisoned tensor that says so. */
PIPE_API pipe_tensor *pipe_batch_need(pipe_batch *b, const char *name);
/** A key for randomness in this step: sample 0 is row 0 of the (global) batch. */
PIPE_API pipe_key pipe_batch_key(const pipe_batch *b, const char *purpose);
/** Reports a scalar beside the loss; averaged over a reporting interval. */
PIPE_API void pipe_batch_report(pipe_batch *b, const char *name, pipe_tensor *scalar);
/** For training loops: batch `step` of a data set (NULL: no data, n rows, no
 *  fields), shuffled anew every epoch by `key`; rows are uploaded. */
PIPE_API pipe_status pipe_batch_new(pipe_context *ctx, pipe_dataset *d, int64_t n, uint64_t step, pipe_batch **out,
                                    pipe_error *err);
/** What the objective reported: name and tensor of entry k, false past the end. */
PIPE_API bool pipe_batch_reported(const pipe_batch *b, size_t k, const char **name, pipe_tensor **value);
PIPE_API void pipe_batch_free(pipe_batch *b);

#ifdef __cplusplus
}
#endif
#endif
