/* JSON files of the cache and of run folders (jansson).  Internal to core/run. */
#ifndef PIPE_CORE_JSON_H
#define PIPE_CORE_JSON_H

#include "core/base/file.h"
#include <jansson.h>

/* For PIPE_CLEANUP. */
PIPE_INTERNAL void pipei_json_free(json_t **j);
/* Reads an object; anything else is PIPE_EFORMAT. */
PIPE_INTERNAL pipe_status pipei_json_read(const char *path, json_t **out, pipe_error *err);
/* Atomically, indented, with a final newline. */
pipe_status pipei_json_write(const char *path, const json_t *j, pipe_error *err);
/* The text of a member, or NULL; its number, or `fallback`. */
PIPE_INTERNAL const char *pipei_json_text(const json_t *object, const char *key);
PIPE_INTERNAL double pipei_json_number(const json_t *object, const char *key, double fallback);
/* Sets a member to a string; bytes that are not UTF-8 become '?'. */
void pipei_json_set_text(json_t *object, const char *key, const char *value);
json_t *pipei_json_string(const char *value);
/* One line, no newline; owned by the caller. */
char *pipei_json_line(const json_t *j);
/* "2026-11-23T20:15:00.123Z" */
PIPE_INTERNAL void pipei_time_text(double seconds_since_epoch, char out[32]);
double pipei_now(void);                    /* seconds since the epoch */
double pipei_clock(void);                  /* monotonic seconds */
/* "1.2 s", "3 min 05 s", "2 h 10 min" */
PIPE_INTERNAL void pipei_duration_text(double seconds, char *out, size_t size);
/* "12.3 MB" */
PIPE_INTERNAL void pipei_bytes_in_words(uint64_t bytes, char *out, size_t size);

#endif
