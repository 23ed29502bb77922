/* Parameters: from the text of a pipeline to typed values in a plugin's state.
 * Scalars take their type from the declared parameter, never by guessing. */
#ifndef PIPE_CORE_PARAM_H
#define PIPE_CORE_PARAM_H

#include "core/device/device.h" /* PIPE_INTERNAL */
#include <pipe/plugin.h>

/* A value as given: one scalar, or a list of scalars. */
typedef struct pipei_given {
    bool list;
    const char *const *text;
    size_t n;
} pipei_given;

/* Is it of the declared type, within range, one of the choices?  The message has
 * no location: "2000 is above the maximum 1000"; *item is the offending list
 * element (0 for a scalar); help text for "help:" lines: pipei_param_describe(). */
PIPE_INTERNAL pipe_status pipei_param_check(const pipe_param *p, const pipei_given *v, size_t *item, pipe_error *err);
/* Checked values into the state; strings and lists live in `a`.  v NULL: the default. */
PIPE_INTERNAL pipe_status pipei_param_store(const pipe_param *p, const pipei_given *v, void *state, pipe_arena *a,
                                            pipe_error *err);
/* One text per value, whatever way it was written (1e-4 and 0.0001 give the same;
 * lists as [a, b]): what the cache key and resolved.yaml hold.  v NULL: the default. */
PIPE_INTERNAL const char *pipei_param_canonical(const pipe_param *p, const pipei_given *v, pipe_arena *a);
/* "integer, 1 to 1000, default 50, steps" */
PIPE_INTERNAL const char *pipei_param_describe(const pipe_param *p, pipe_arena *a);

#endif
