/* Values that steps yield, as files and back.  Internal to core/run. */
#ifndef PIPE_CORE_VALUES_H
#define PIPE_CORE_VALUES_H

#include "core/run/object.h"
#include <jansson.h>

/* Writes a data set's samples, or an object's weights, to a safetensors file;
 * *description says the rest: what result.json keeps. */
pipe_status pipei_value_save(pipe_object *o, const char *path, json_t **description, pipe_error *err);

/* A data set over such a file, which is mapped and read when samples are asked for. */
pipe_status pipei_dataset_load(const char *path, const json_t *description, pipe_context *ctx,
                               pipe_object **out, pipe_error *err);
/* Prediction, sample shape, sigma_data from `description` into the object; `schedule` may be NULL. */
pipe_status pipei_declared_load(const json_t *description, pipe_object *schedule, pipe_object *o,
                                pipe_error *err);
/* {name: canonical text} of all parameters of an object. */
json_t *pipei_object_params(const pipe_object *o);

#endif
