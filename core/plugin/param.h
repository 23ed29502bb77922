/* Parameters: from the text of a pipeline to typed values in a plugin's state.
 * Scalars take their type from the declared parameter, never by guessing. */
#ifndef PIPE_CORE_PARAM_H
#define PIPE_CORE_PARAM_H

#include "core/base/internal.h"
#include <pipe/plugin.h>

/* A value as given: one scalar, or a list of scalars. */
typedef struct pipei_given {
    bool list;
    const char *const *text;
    size_t n;
} pipei_given;

/* Of what was given: one text (a default, a command line): a list type takes
 * "[a, b]" (elements may be quoted with ' or "), everything else the text as it
 * is.  A list that is not closed comes back as a scalar, which the check refuses. */
PIPE_INTERNAL pipei_given pipei_given_of_text(const pipe_param *p, const char *text, pipe_arena *a);

/* Is it of the declared type, within range, one of the choices?  The message has
 * no location: "2000 is above the maximum 1000"; *item (may be NULL) is the offending list
 * element (0 for a scalar); help text for "help:" lines: pipei_param_describe(). */
PIPE_INTERNAL pipe_status pipei_param_check(const pipe_param *p, const pipei_given *v, size_t *item,
                                            pipe_error *err);
/* Checked values into the state; strings and lists live in `a`.  v NULL: the default.
 * `state` is what p->offset counts from: the object's state for rows of the plugin
 * itself, the kind's common state for those that the kind adds (see pipei_plugin). */
PIPE_INTERNAL pipe_status pipei_param_store(const pipe_param *p, const pipei_given *v, void *state,
                                            pipe_arena *a, pipe_error *err);
/* One text per value, whatever way it was written (1e-4 and 0.0001 give the same;
 * lists as [a, b]): what the cache key and resolved.yaml hold.  v NULL: the default
 * (of a required parameter: NULL).  A scalar string or path is the text itself,
 * unquoted; the elements of a list of strings are quoted as in JSON. `v` was checked. */
PIPE_INTERNAL const char *pipei_param_canonical(const pipe_param *p, const pipei_given *v, pipe_arena *a);
/* Is it another value than the default's?  Both are canonical: 0.50 is 0.5. */
PIPE_INTERNAL bool pipei_param_changed(const pipe_param *p, const pipei_given *v);
/* "integer, 1 to 1000, default 50, steps" */
PIPE_INTERNAL const char *pipei_param_describe(const pipe_param *p, pipe_arena *a);
/* The parts of that text, for those who lay it out themselves.  Range: "1 to 1000",
 * "at least 0", "uniform, karras"; NULL when anything goes. */
PIPE_INTERNAL const char *pipei_param_type_name(const pipe_param *p);     /* "integer", "list of numbers" */
PIPE_INTERNAL const char *pipei_param_range(const pipe_param *p, pipe_arena *a);
/* Does what is given go together?  `given` tells of a name, `arg` is its own.  The
 * message names no node; *at (may be NULL) is the parameter or input that it is about. */
typedef bool (*pipei_is_given)(const void *arg, const char *name);
PIPE_INTERNAL pipe_status pipei_rules_check(const pipe_rule *rules, pipei_is_given given, const void *arg,
                                            const char **at, pipe_error *err);
/* The next of names that '|' separates, from *rest on; false: there is none. */
PIPE_INTERNAL bool pipei_next_name(const char **rest, char *name, size_t size);
/* The shortest decimal text that reads back as the same double, in any locale. */
PIPE_INTERNAL void pipei_format_double(double v, char *text, size_t size);
/* All of `text` is a finite decimal number, in any locale. */
PIPE_INTERNAL bool pipei_parse_double(const char *text, double *out);

#endif
