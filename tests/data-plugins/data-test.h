/* What the tests of data sets, sinks, metrics and `generate` share. */
#ifndef TESTS_DATA_TEST_H
#define TESTS_DATA_TEST_H

#include "support/folder.h"
#include "support/objects.h"

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

/* n samples in memory: field x of this shape and, unless `label` is NULL, field label. */
pipe_dataset *data_make(pipe_shape sample, size_t n, const float *x, const int32_t *label, int64_t classes);
/* The named field of these samples, in epoch `draw`; fails the test on error. */
void data_read(pipe_dataset *d, const char *field, const uint64_t *index, size_t n, uint64_t draw, void *out);
/* The same of samples first ... first + n - 1 of x, in epoch 0. */
void data_x(pipe_dataset *d, uint64_t first, size_t n, float *out);
pipe_dataset_info data_info(pipe_dataset *d);
/* A component over one input named `input`. */
pipe_status data_over(const char *kind, const char *name, const char *input, pipe_object *of,
                      const char *const *params, pipe_object **out, pipe_error *err);
/* A context of node "node" that writes to `folder` (NULL: must not write). */
pipe_context *data_context(const char *folder);
/* Runs a step there; inputs end with a NULL name. */
pipe_status data_run(pipe_context *ctx, const char *kind, const char *name, const char *const *params,
                     const pipei_named_object *inputs, pipe_error *err);
/* The last value that was reported under a name; NaN: none. */
double data_reported(pipe_context *ctx, const char *name);
void data_write(const char *path, const void *bytes, size_t n);

#endif
