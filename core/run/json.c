/* JSON files, and the clock in the forms that they hold. */
#include "core/run/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LIMIT = 1 << 28 };       /* bytes of one JSON file: curves of long runs are the largest */

void pipei_json_free(json_t **j)
{
    json_decref(*j);
    *j = NULL;
}

pipe_status pipei_json_read(const char *path, json_t **out, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *data = NULL;
    size_t n;
    json_error_t e;

    PIPE_TRY(pipei_file_read(path, LIMIT, &data, &n, err));
    json_t *j = json_loadb(data, n, JSON_REJECT_DUPLICATES, &e);
    if (!j)
        return pipe_fail(err, PIPE_EFORMAT, "%s:%d:%d: is not valid JSON: %s", path, e.line, e.column,
                         e.text);
    if (!json_is_object(j)) {
        json_decref(j);
        return pipe_fail(err, PIPE_EFORMAT, "%s: a JSON object is expected", path);
    }
    *out = j;
    return PIPE_OK;
}

pipe_status pipei_json_write(const char *path, const json_t *j, pipe_error *err)
{
    char *text = json_dumps(j, JSON_INDENT(2));
    if (!text)
        return pipe_fail(err, PIPE_ENOMEM, "%s: cannot be put into JSON", path);
    pipei_writer *w;
    pipe_status status = pipei_writer_open(path, &w, err);
    if (status == PIPE_OK) {
        pipei_writer_put(w, text, strlen(text));
        pipei_writer_put(w, "\n", 1);
        status = pipei_writer_commit(w, err);
    }
    free(text);
    return status;
}

const char *pipei_json_text(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

double pipei_json_number(const json_t *object, const char *key, double fallback)
{
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

json_t *pipei_json_string(const char *value)
{
    json_t *v = json_string(value);
    if (v)
        return v;
    PIPE_CLEANUP(pipe_free_ptr) char *clean = pipe_strdup(value);
    for (char *p = clean; *p; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    return json_string(clean);
}

void pipei_json_set_text(json_t *object, const char *key, const char *value)
{
    json_object_set_new(object, key, value ? pipei_json_string(value) : json_null());
}

char *pipei_json_line(const json_t *j)
{
    char *text = json_dumps(j, JSON_COMPACT);
    char *copy = pipe_strdup(text ? text : "null");
    free(text);
    return copy;
}

double pipei_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double pipei_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void pipei_time_text(double seconds_since_epoch, char out[32])
{
    const int64_t ms = (int64_t)(seconds_since_epoch * 1e3);
    const time_t whole = (time_t)(ms / 1000);
    struct tm utc;
    char text[24] = "";

    if (gmtime_r(&whole, &utc))
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out, 32, "%s.%03dZ", text, (int)(ms % 1000));
}

void pipei_duration_text(double seconds, char *out, size_t size)
{
    const int64_t s = (int64_t)(seconds + 0.5);

    if (seconds < 0.01)
        snprintf(out, size, "%.1f ms", seconds * 1e3);
    else if (seconds < 1.0)
        snprintf(out, size, "%.0f ms", seconds * 1e3);
    else if (seconds < 60.0)
        snprintf(out, size, "%.1f s", seconds);
    else if (s < 3600)
        snprintf(out, size, "%" PRId64 " min %02d s", s / 60, (int)(s % 60));
    else
        snprintf(out, size, "%" PRId64 " h %02d min", s / 3600, (int)(s % 3600 / 60));
}

void pipei_bytes_in_words(uint64_t bytes, char *out, size_t size)
{
    static const char *const units[] = {"kB", "MB", "GB", "TB"};
    double v = (double)bytes / 1e3;
    size_t k = 0;

    if (bytes < 1000) {
        snprintf(out, size, "%" PRIu64 " B", bytes);
        return;
    }
    for (; v >= 999.5 && k < 3; k++)
        v /= 1e3;
    snprintf(out, size, "%.*f %s", v < 10 ? 1 : 0, v, units[k]);
}
