/* The log as the program and the runner steer it.  Internal. */
#ifndef PIPE_CORE_LOG_H
#define PIPE_CORE_LOG_H

#include "core/base/internal.h"
#include <pipe/base.h>
#include <stdio.h>

/* The level of everybody that PIPE_LOG's `who:level` rules do not name; -q sets
 * PIPE_LOG_WARN, -v PIPE_LOG_DEBUG, -vv PIPE_LOG_TRACE.  Option > variable. */
PIPE_INTERNAL void pipei_log_set_level(pipe_log_level level);
PIPE_INTERNAL pipe_log_level pipei_log_level(void);
/* Reads "info,graph:debug": a level for all, then levels by who.  `who` also
 * covers "who.x" and "who/x".  On an error nothing changes. */
PIPE_INTERNAL pipe_status pipei_log_set_rules(const char *rules, pipe_error *err);

typedef enum pipei_color { PIPEI_COLOR_AUTO, PIPEI_COLOR_ALWAYS, PIPEI_COLOR_NEVER } pipei_color;
/* --color; AUTO: a terminal, without NO_COLOR, that is not "dumb". */
PIPE_INTERNAL void pipei_log_set_color(pipei_color mode);
PIPE_INTERNAL bool pipei_color_wanted(int fd);

/* Also writes every message of level info and above (and what is enabled below)
 * to `file`, with the time in front, until detached with NULL.  -q does not
 * silence it.  The caller keeps `file` and closes it after detaching. */
PIPE_INTERNAL void pipei_log_attach(FILE *file);

/* A progress line on stderr: `clear` is called before a message is printed and
 * `redraw` after it (each may be NULL), with the log's lock held: they must not
 * log.  pipei_log_lock() lets the progress itself draw without being interrupted. */
PIPE_INTERNAL void pipei_log_set_progress(void (*clear)(void *), void (*redraw)(void *), void *data);
PIPE_INTERNAL void pipei_log_lock(void);
PIPE_INTERNAL void pipei_log_unlock(void);

/* "error", "warn", ... and back; false for an unknown name. */
PIPE_INTERNAL const char *pipei_log_level_name(pipe_log_level level);
PIPE_INTERNAL bool pipei_log_level_parse(const char *name, size_t n, pipe_log_level *out);

#endif
