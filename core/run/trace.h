/* trace.json: what ran when, in Chrome's trace event format (an array of events), which
 * Perfetto and about:tracing open.  Internal to core/run.
 *
 * One track for the steps, and one for each step's kernels.  Times are microseconds
 * since the trace was opened. */
#ifndef PIPE_CORE_TRACE_H
#define PIPE_CORE_TRACE_H

#include "core/tensor/engine.h"

typedef struct pipei_trace pipei_trace;

pipe_status pipei_trace_open(const char *path, pipei_trace **out, pipe_error *err);
/* A kernel of the step that the label names; for pipei_engine_observe(), `trace` is the
 * pipei_trace.  Of one step the first hundred thousand are written, then one event
 * tells how many more there were. */
void pipei_trace_launch(void *trace, const pipei_timed *t);
/* A step that has run: `start` by pipei_seconds(). */
void pipei_trace_step(pipei_trace *trace, const char *node, const char *plugin, double start, double seconds);
/* Completes the file; reports what could not be written since it was opened. */
pipe_status pipei_trace_end(pipei_trace *t, pipe_error *err);
void pipei_trace_close(pipei_trace *t);          /* NULL is fine */

#endif
