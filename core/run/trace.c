#include "core/run/trace.h"
#include "core/run/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS_TRACK = 0, MOST_LAUNCHES = 100000 };

/* A step's kernels; its track is its position + 1. */
typedef struct track {
    char *node;
    uint64_t launches;
    double end; /* of the last kernel, microseconds */
} track;

struct pipei_trace {
    FILE *file;
    char *path;
    double zero; /* pipei_seconds() */
    track *tracks;
    size_t n_tracks;
    bool any; /* an event was written */
};

/* ---- events ---- */

/* Takes the reference.  A failure stays with the stream, for pipei_trace_end(). */
static void put(pipei_trace *t, json_t *event)
{
    char *text = json_dumps(event, JSON_COMPACT | JSON_REAL_PRECISION(15));

    fprintf(t->file, "%s%s", t->any ? ",\n" : "", text ? text : "{}");
    t->any = true;
    free(text);
    json_decref(event);
}

static void name_track(pipei_trace *t, size_t id, const char *name)
{
    put(t, json_pack("{s:s, s:s, s:i, s:i, s:{s:o}}", "ph", "M", "name", "thread_name", "pid", 1, "tid",
                     (int)id, "args", "name", pipei_json_string(name)));
}

/* Nanoseconds are all that clocks tell. */
static double microseconds(double seconds)
{
    return round(1e9 * seconds) / 1e3;
}

static json_t *slice(const char *name, const char *category, size_t track_id, double start, double length)
{
    return json_pack("{s:s, s:o, s:s, s:f, s:f, s:i, s:i}", "ph", "X", "name", pipei_json_string(name), "cat",
                     category, "ts", start, "dur", length, "pid", 1, "tid", (int)track_id);
}

static track *track_of(pipei_trace *t, const char *node)
{
    for (size_t k = 0; k < t->n_tracks; k++)
        if (strcmp(t->tracks[k].node, node) == 0)
            return &t->tracks[k];
    t->tracks = pipe_realloc(t->tracks, (t->n_tracks + 1) * sizeof *t->tracks);
    t->tracks[t->n_tracks] = (track){.node = pipe_strdup(node)};
    PIPE_CLEANUP(pipe_free_ptr) char *name = pipe_format("%s: kernels", node);
    name_track(t, t->n_tracks + 1, name);
    return &t->tracks[t->n_tracks++];
}

void pipei_trace_launch(void *trace, const pipei_timed *timed)
{
    pipei_trace *t = trace;
    track *k = track_of(t, timed->label);
    const double start = microseconds(timed->start - t->zero), length = microseconds(timed->seconds);

    k->end = start + length;
    if (k->launches++ >= MOST_LAUNCHES)
        return;
    json_t *event = slice(timed->op, "kernel", (size_t)(k - t->tracks) + 1, start, length);
    json_object_set_new(event, "args",
                        json_pack("{s:o, s:o}", "node", pipei_json_string(timed->label), "kernel",
                                  pipei_json_string(timed->kernel)));
    put(t, event);
}

void pipei_trace_step(pipei_trace *t, const char *node, const char *plugin, double start, double seconds)
{
    json_t *event = slice(node, "step", STEPS_TRACK, microseconds(start - t->zero), microseconds(seconds));

    json_object_set_new(event, "args", json_pack("{s:o}", "plugin", pipei_json_string(plugin)));
    put(t, event);
}

/* ---- the file ---- */

pipe_status pipei_trace_open(const char *path, pipei_trace **out, pipe_error *err)
{
    FILE *f = fopen(path, "we");

    if (!f)
        return pipei_fail_errno(err, errno, "%s", path);
    pipei_trace *t = pipe_alloc(sizeof *t);
    *t = (pipei_trace){.file = f, .path = pipe_strdup(path), .zero = pipei_seconds()};
    fputs("[", f);
    name_track(t, STEPS_TRACK, "steps");
    *out = t;
    return PIPE_OK;
}

static void tell_omitted(pipei_trace *t)
{
    for (size_t k = 0; k < t->n_tracks; k++) {
        const track *of = &t->tracks[k];
        if (of->launches <= MOST_LAUNCHES)
            continue;
        const unsigned long long more = of->launches - MOST_LAUNCHES;
        PIPE_CLEANUP(pipe_free_ptr) char *name = pipe_format("%llu more kernels are not in this file", more);
        put(t, json_pack("{s:s, s:s, s:s, s:f, s:i, s:i}", "ph", "i", "name", name, "s", "t", "ts", of->end,
                         "pid", 1, "tid", (int)k + 1));
        pipe_log(PIPE_LOG_WARN, of->node, "trace.json holds the first %d kernels; %llu more ran",
                 MOST_LAUNCHES, more);
    }
}

pipe_status pipei_trace_end(pipei_trace *t, pipe_error *err)
{
    tell_omitted(t);
    errno = 0;
    fputs("]\n", t->file);
    if (fflush(t->file) != 0 || ferror(t->file))
        return pipei_fail_errno(err, errno, "%s", t->path);
    return PIPE_OK;
}

void pipei_trace_close(pipei_trace *t)
{
    if (!t)
        return;
    fclose(t->file);
    for (size_t k = 0; k < t->n_tracks; k++)
        pipe_free(t->tracks[k].node);
    pipe_free(t->tracks);
    pipe_free(t->path);
    pipe_free(t);
}
