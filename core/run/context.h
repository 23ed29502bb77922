/* What a node knows of its run, from inside.  Internal to core/run. */
#ifndef PIPE_CORE_CONTEXT_H
#define PIPE_CORE_CONTEXT_H

#include "core/run/metrics.h"
#include "core/run/object.h"
#include "core/run/progress.h"
#include <stdio.h>

typedef struct pipei_yielded {
    const pipe_output *output;      /* NULL: of a context without a plugin */
    char *name;
    pipe_object *object;            /* a reference */
} pipei_yielded;

struct pipe_context {
    char *node;
    uint64_t seed;
    pipe_engine *engine;            /* NULL until a step of the run needs it; set before any object is made */
    const pipe_plugin *plugin;      /* of the step that runs; NULL: of a component, or standalone */
    pipe_object *step;              /* while it runs */
    size_t objects;                 /* that live in this context */

    pipei_metrics metrics;
    FILE *journal;                  /* metrics.jsonl; NULL: none */
    pipei_yielded *yielded;
    size_t n_yielded;

    char *folder;                   /* of output files; NULL: none allowed; made when first needed */
    char **file, **file_path;       /* names and paths handed out */
    size_t n_files;
    const char *yaml, *summary;     /* borrowed; NULL: "" */

    pipei_progress *progress;       /* NULL: silent */

    char *checkpoints;              /* folder; NULL: none allowed */
    char *mirror;                   /* the same in the run folder; NULL: none */
    bool resume;                    /* may pipe_checkpoint_load() find anything? */
    uint64_t resumed;               /* step that it found; 0: none */
    uint64_t saved;                 /* step of the last checkpoint written; 0: none */
};

pipe_context *pipei_context_new(const char *node, uint64_t seed);
/* Forgets what the step reported, yielded and wrote (its files are removed if `files`): before it runs again.
 */
void pipei_context_reset(pipe_context *ctx, bool files);
/* One line of metrics.jsonl; `cached`: it is told again, not measured now. */
pipe_status pipei_journal(FILE *f, const char *path, const char *node, const double *step, const char *name,
                          double value, bool cached, pipe_error *err);

/* ---- signals: process-wide ---- */
/* From here on the first SIGINT or SIGTERM asks steps to stop and the second one
 * leaves at once; SIGUSR1 asks for a checkpoint.  Calls nest. */
void pipei_signals_begin(void);
void pipei_signals_end(void);
/* Takes them back from whoever has installed handlers meanwhile. */
void pipei_signals_keep(void);
/* SIGINT, SIGTERM or 0. */
int pipei_signal_pending(void);

/* Removes the checkpoints of a step whose result is kept. */
void pipei_checkpoints_drop(const char *folder);
/* Step of the newest one, 0: none. */
uint64_t pipei_checkpoints_newest(const char *folder);

#endif
