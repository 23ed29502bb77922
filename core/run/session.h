/* One run of one graph, from the inside.  Internal to core/run.
 *
 *     plan.c       keys, what is cached, why the rest is stale
 *     early.c      what can be refused before the first step works
 *     execute.c    steps and the components that they need
 *     store.c      results to the cache and back
 *     outcome.c    manifest, expectations
 *     report.c     report.html
 *     trace.c      trace.json
 *     run.c        the run folder around all that; sweep.c: many of them */
#ifndef PIPE_CORE_SESSION_H
#define PIPE_CORE_SESSION_H

#include "core/run/cache.h"
#include "core/run/context.h"
#include "core/run/folder.h"
#include "core/run/run.h"
#include "core/run/trace.h"
#include "core/tensor/engine.h"

/* What the members of a sweep share: devices and caches are opened once. */
typedef struct pipei_environment {
    pipei_registry *registry;
    const pipei_run_options *options;
    pipei_cache *cache;
    pipei_progress *progress;
    pipe_engine *engine;         /* NULL until a step has to run */
    char *device;                /* that it was opened with */
} pipei_environment;
PIPE_INTERNAL pipe_status pipei_environment_open(pipei_registry *reg, const pipei_run_options *o,
                                                 pipei_environment *env, pipe_error *err);
PIPE_INTERNAL void pipei_environment_close(pipei_environment *env);

typedef enum pipei_task_state {
    PIPEI_WAITING, PIPEI_CACHED, PIPEI_DONE, PIPEI_FAILED, PIPEI_SKIPPED, PIPEI_STOPPED
} pipei_task_state;
const char *pipei_task_state_name(pipei_task_state s);

/* A node in this run. */
typedef struct pipei_task {
    const pipei_node *node;
    char key[65];
    bool unstable;               /* it, or what it depends on, is not deterministic: no cache */
    bool forced, cacheable;
    pipei_task_state state;
    json_t *result;              /* of a cached step */
    json_t *record;              /* what the key was made of: see plan.c */
    char *why;                   /* a step that runs: the reason */
    pipe_context *ctx;
    const pipe_plugin *plugin;   /* opened; NULL until it is needed */
    pipe_object *object;         /* a component's; NULL until it is needed */
    pipe_object *metrics;        /* a step's, as a value */
    bool loaded;                 /* a cached step: its outputs are in ctx->yielded */
    size_t last_use;             /* index of the last task that may need its objects */
    double started, seconds;
    char *error;
} pipei_task;

typedef struct pipei_expected {
    const pipei_expect *claim;
    double value;
    bool met, reported;
} pipei_expected;

typedef struct pipei_session {
    pipei_environment *env;
    const pipei_graph *graph;
    pipei_task *task;            /* parallel to graph->node */
    size_t n;
    json_t *index;               /* of this pipeline's last run: see plan.c */
    char *index_path;
    json_t *data;                /* input files: [{node, parameter, path, sha256}] */
    pipe_text resolved;
    pipei_folder folder;
    FILE *log, *journal;
    pipei_trace *trace;          /* NULL without --profile */
    double started, ended;
    const char *state;           /* "running", "complete", "failed", "interrupted" */
    char *error;
    pipei_expected *expected;    /* parallel to graph->expect */
    bool unmet;
} pipei_session;

/* early.c */
pipe_status pipei_check_early(pipei_session *s, pipe_error *err);

/* plan.c */
pipe_status pipei_plan(pipei_session *s, pipe_error *err);
void pipei_plan_remember(pipei_session *s);                     /* for the next run's reasons */
pipei_task *pipei_task_of(pipei_session *s, const pipei_node *n);
const pipe_param *pipei_node_row(const pipei_node *n, size_t k);   /* of n->param[k] */
/* "file:line:column: node: " in front of a failure. */
pipe_status pipei_task_fail(const pipei_task *t, pipe_status status, pipe_error *err);

/* execute.c */
/* Runs everything.  The first failure is returned; with --keep-going, after all that can run. */
pipe_status pipei_execute(pipei_session *s, pipe_error *err);
void pipei_release(pipei_session *s);                           /* all objects, users first */
pipe_status pipei_component(pipei_session *s, pipei_task *t, pipe_object **out,
                            pipe_error *err); /* borrowed */
pipe_status pipei_live(pipei_session *s, pipei_task *t, pipe_error *err); /* t->plugin */
/* Before any object is made, so that pipe_context_engine() cannot fail. */
pipe_status pipei_need_engine(pipei_session *s, pipe_error *err);

/* store.c */
pipe_status pipei_store(pipei_session *s, pipei_task *t, pipe_error *err);
/* Files of a cached step into the run folder; numbers into t->ctx. */
pipe_status pipei_restore(pipei_session *s, pipei_task *t, pipe_error *err);
/* Values of a cached step into t->ctx->yielded. */
pipe_status pipei_load_outputs(pipei_session *s, pipei_task *t, pipe_error *err);
/* Weights that a step yielded, where a person finds them: outputs/NODE/OUTPUT.safetensors. */
pipe_status pipei_publish_weights(pipei_session *s, pipei_task *t, pipe_error *err);

/* outcome.c */
pipe_status pipei_manifest_write(const pipei_session *s, pipe_error *err);
json_t *pipei_manifest(const pipei_session *s);
/* Fills s->expected; a number that was never reported is PIPE_ENOTFOUND. */
pipe_status pipei_check_expectations(pipei_session *s, pipe_error *err);
void pipei_expectations_table(const pipei_session *s, pipe_text *out);
/* One line about how `t` was made, for pictures. */
char *pipei_summary(pipei_session *s, const pipei_task *t);

/* report.c: from a run folder's manifest and metrics, so that it can be made again at any time. */
pipe_status pipei_report_write(const pipei_session *s, pipe_error *err);

/* run.c */
typedef struct pipei_outcome {
    int exit_status;
    char *folder;                /* of the run, also of one that failed; NULL: none was made */
    json_t *manifest;            /* NULL: none was made */
    pipe_text table;             /* expectations; a dry run: the plan */
} pipei_outcome;
PIPE_INTERNAL void pipei_outcome_free(pipei_outcome *o);
/* `member`: NULL, or the folder of a sweep's member, which is replaced. */
PIPE_INTERNAL pipe_status pipei_run_graph(pipei_environment *env, const pipei_graph *g, const char *member,
                                          pipei_outcome *out, pipe_error *err);
int pipei_exit_status(pipe_status status);
pipe_status pipei_session_open(pipei_environment *env, const pipei_graph *g, pipei_session *s,
                               pipe_error *err);
void pipei_session_close(pipei_session *s);

/* sweep.c */
pipe_status pipei_run_sweep(pipei_environment *env, const char *path, const pipei_graph *g, int *exit_status,
                            pipei_diagnostics *diag, pipe_error *err);

#endif
