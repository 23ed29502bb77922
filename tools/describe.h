/* Texts about plugins that inspect, the manual pages and new-plugin share. */
#ifndef PIPE_TOOLS_DESCRIBE_H
#define PIPE_TOOLS_DESCRIBE_H

#include "core/plugin/registry.h"

/* Adds `text` in lines of at most 80 columns; an empty line separates paragraphs, a
 * line that begins with a blank stays as it is. */
void describe_wrap(pipe_text *t, const char *text, size_t indent);
void describe_indent(pipe_text *t, const char *text, size_t indent);     /* the lines as they are */
size_t describe_count_params(const pipe_plugin *p);      /* own and the kind's */
/* "bool", "int", "floats", ...: what the JSON says. */
const char *describe_type(pipe_type type);
/* "order 2, 1 call of the denoiser per step, deterministic"; owned by the caller. */
char *describe_sampler(const pipe_plugin *p);
/* On stderr: where plugins were looked for. */
void describe_no_plugins(const pipei_registry *r);

#endif
