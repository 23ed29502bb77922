/* Progress of the running step, in the way that was asked for.  Internal to core/run. */
#ifndef PIPE_CORE_PROGRESS_H
#define PIPE_CORE_PROGRESS_H

#include "core/base/internal.h"
#include <pipe/base.h>

typedef struct pipei_progress pipei_progress;

/* mode: "auto" or NULL (a bar on a terminal, else plain), "bar", "plain", "json",
 * "none".  Draws on stderr. */
pipe_status pipei_progress_new(const char *mode, pipei_progress **out, pipe_error *err);
void pipei_progress_free(pipei_progress *p);
/* A step begins: the rate starts afresh. */
void pipei_progress_begin(pipei_progress *p, const char *node);
/* It continues an earlier run: what its next update says is done was done there, and does not count. */
PIPE_INTERNAL void pipei_progress_resume(pipei_progress *p);
/* Cheap unless something is due to be drawn. */
void pipei_progress_update(pipei_progress *p, const char *node, uint64_t done, uint64_t total,
                           const char *unit, const char *detail);
/* The step is over: the bar is taken away. */
void pipei_progress_end(pipei_progress *p);

/* One line of text without colours, at most `columns` wide (0: no limit): for tests. */
PIPE_INTERNAL void pipei_progress_line(const char *node, uint64_t done, uint64_t total, const char *unit,
                                       const char *detail, double rate, unsigned columns, bool bar,
                                       pipe_text *out);

#endif
