/* Executing a checked graph: cache keys, run folder, manifest, metrics, report. */
#ifndef PIPE_CORE_RUN_H
#define PIPE_CORE_RUN_H

#include "core/graph/graph.h"

typedef struct pipei_run_options {
    const char *output;              /* -o: the folder that holds the runs; NULL: "runs" */
    const char *device;              /* NULL: the pipeline's */
    const char *device_profile;      /* NULL: the device's own */
    bool profile;                    /* write trace.json */
    bool dry_run, no_cache, resume, keep_going, fail_fast, no_metadata, json;
    bool force_all;
    const char *const *force;        /* node names */
    size_t n_force;
    const char *progress;            /* auto, bar, plain, json, none */
    const char *const *overrides;
    size_t n_overrides;
    int argc;                        /* for the manifest */
    char **argv;
} pipei_run_options;

/* Runs a pipeline file (or its sweep).  *exit_status: as the command line promises. */
PIPE_INTERNAL pipe_status pipei_run_file(const char *path, pipei_registry *reg, const pipei_run_options *o,
                                         int *exit_status, pipei_diagnostics *diag, pipe_error *err);

/* The cache of step results: `pipe cache`. */
PIPE_INTERNAL pipe_status pipei_cache_list(pipe_text *out, bool json, pipe_error *err);
PIPE_INTERNAL pipe_status pipei_cache_clear(pipe_text *out, pipe_error *err);
PIPE_INTERNAL pipe_status pipei_cache_gc(uint64_t max_bytes, pipe_text *out, pipe_error *err);
PIPE_INTERNAL pipe_status pipei_cache_verify(pipe_text *out, size_t *bad, pipe_error *err);

/* `pipe runs`, `pipe show RUN`. */
PIPE_INTERNAL pipe_status pipei_runs_list(const char *folder, bool json, pipe_text *out, pipe_error *err);
PIPE_INTERNAL pipe_status pipei_runs_show(const char *run, bool json, pipe_text *out, pipe_error *err);

#endif
