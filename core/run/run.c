/* Running a pipeline: the run folder around a plan and its execution. */
#include "core/run/session.h"
#include "core/base/log.h"
#include "core/run/json.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_DONE = 0, EXIT_EXPECTATION = 1, EXIT_PIPELINE = 2, EXIT_FAILED = 3, EXIT_SIGNAL = 128 };

int pipei_exit_status(pipe_status status)
{
    const int number = pipei_signal_pending();

    switch (status) {
    case PIPE_OK: return EXIT_DONE;
    case PIPE_EPIPELINE: return EXIT_PIPELINE;
    case PIPE_EINTERRUPTED: return EXIT_SIGNAL + (number ? number : SIGINT);
    default: return EXIT_FAILED;
    }
}

void pipei_outcome_free(pipei_outcome *o)
{
    pipe_free(o->folder);
    json_decref(o->manifest);
    pipe_text_free(&o->table);
    *o = (pipei_outcome){0};
}

/* ---- what members of a sweep share ---- */

pipe_status pipei_environment_open(pipei_registry *reg, const pipei_run_options *o, pipei_environment *env,
                                   pipe_error *err)
{
    *env = (pipei_environment){.registry = reg, .options = o};
    PIPE_TRY(pipei_progress_new(o->progress, &env->progress, err));
    const pipe_status status = pipei_cache_open(&env->cache, err);
    if (status != PIPE_OK)
        pipei_environment_close(env);
    return status;
}

void pipei_environment_close(pipei_environment *env)
{
    if (env->engine)
        pipei_engine_free(env->engine);
    pipei_progress_free(env->progress);
    pipei_cache_close(env->cache);
    pipe_free(env->device);
    *env = (pipei_environment){0};
}

/* ---- a session ---- */

pipe_status pipei_session_open(pipei_environment *env, const pipei_graph *g, pipei_session *s,
                               pipe_error *err)
{
    *s = (pipei_session){.env = env, .graph = g, .n = g->n_nodes, .started = pipei_now(), .state = "running"};
    s->task = pipe_alloc_array(s->n + 1, sizeof *s->task);
    s->expected = pipe_alloc_array(g->n_expects + 1, sizeof *s->expected);
    for (size_t k = 0; k < s->n; k++) {
        s->task[k].node = g->node[k];
        s->task[k].ctx = pipei_context_new(g->node[k]->name, g->seed);
    }
    pipei_graph_resolved(g, &s->resolved);
    const pipe_status status = pipei_plan(s, err);
    if (status != PIPE_OK)
        pipei_session_close(s);
    return status;
}

static void close_files(pipei_session *s)
{
    if (s->trace && s->env->engine)
        pipei_engine_observe(s->env->engine, NULL, NULL);
    pipei_trace_close(s->trace);
    s->trace = NULL;
    for (size_t k = 0; k < s->n; k++)
        s->task[k].ctx->journal = NULL;
    if (s->log) {
        pipei_log_attach(NULL);
        fclose(s->log);
    }
    if (s->journal)
        fclose(s->journal);
    s->log = s->journal = NULL;
}

void pipei_session_close(pipei_session *s)
{
    pipei_release(s);
    close_files(s);
    for (size_t k = 0; k < s->n; k++) {
        pipei_task *t = &s->task[k];
        pipe_free((void *)(uintptr_t)t->ctx->summary);
        pipei_context_free(t->ctx);
        json_decref(t->result);
        json_decref(t->record);
        pipe_free(t->why);
        pipe_free(t->error);
    }
    pipe_free(s->task);
    pipe_free(s->expected);
    json_decref(s->index);
    json_decref(s->data);
    pipe_free(s->index_path);
    pipe_text_free(&s->resolved);
    pipei_folder_close(&s->folder);
    pipe_free(s->error);
    *s = (pipei_session){0};
}

/* ---- a dry run ---- */

static void plan_text(const pipei_session *s, pipe_text *out)
{
    size_t steps = 0, running = 0, width = 0;

    for (size_t k = 0; k < s->n; k++) {
        const pipei_task *t = &s->task[k];
        if (!t->node->plugin->step)
            continue;
        const size_t n = strlen(t->node->name);
        width = n > width ? n : width;
        steps++;
        running += t->state != PIPEI_CACHED;
    }
    pipe_text_addf(out, "%s: %zu of %zu steps would run\n", s->graph->name, running, steps);
    for (size_t k = 0; k < s->n; k++) {
        const pipei_task *t = &s->task[k];
        if (!t->node->plugin->step)
            continue;
        if (t->state == PIPEI_CACHED) {
            pipe_text_addf(out, "  %-*s  cached\n", (int)width, t->node->name);
            continue;
        }
        PIPE_CLEANUP(pipe_free_ptr) char *checkpoints = pipei_path_join(s->env->cache->checkpoints, t->key);
        const unsigned long long newest = pipei_checkpoints_newest(checkpoints);
        pipe_text_addf(out, "  %-*s  run     %s", (int)width, t->node->name, t->why);
        if (newest)
            pipe_text_addf(out, " (there is a checkpoint of step %llu)", newest);
        pipe_text_add(out, "\n");
    }
}

static json_t *plan_json(const pipei_session *s)
{
    json_t *j = json_object(), *steps = json_array();

    for (size_t k = 0; k < s->n; k++) {
        const pipei_task *t = &s->task[k];
        if (!t->node->plugin->step)
            continue;
        json_t *step = json_object();
        pipei_json_set_text(step, "name", t->node->name);
        pipei_json_set_text(step, "plugin", t->node->plugin->meta.name);
        pipei_json_set_text(step, "action", t->state == PIPEI_CACHED ? "cached" : "run");
        pipei_json_set_text(step, "why", t->why);
        pipei_json_set_text(step, "key", t->key);
        json_array_append_new(steps, step);
    }
    pipei_json_set_text(j, "pipeline", s->graph->name);
    json_object_set_new(j, "steps", steps);
    return j;
}

/* ---- the run folder ---- */

static pipe_status write_text(const pipei_session *s, const char *name, const char *text, size_t n,
                              pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(s->folder.partial, name);

    return pipei_file_write(path, text, n, err);
}

static pipe_status open_stream(const pipei_session *s, const char *name, FILE **out, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(s->folder.partial, name);
    FILE *f = fopen(path, "we");

    if (!f)
        return pipei_fail_errno(err, errno, "%s", path);
    setvbuf(f, NULL, _IOLBF, 0);                /* whole lines, at once: a killed run can be read */
    *out = f;
    return PIPE_OK;
}

static pipe_status open_folder(pipei_session *s, const char *member, pipe_error *err)
{
    const pipei_run_options *o = s->env->options;
    char hex[65];

    if (member)
        return pipei_folder_at(member, &s->folder, err);
    pipe_sha256 *h = pipe_sha256_new();
    for (size_t k = 0; k < s->n; k++)
        pipe_sha256_add_string(h, s->task[k].key);
    pipe_sha256_finish(h, hex);
    return pipei_folder_new(o->output ? o->output : "runs", s->graph->name, hex, &s->folder, err);
}

static void prepare_contexts(pipei_session *s)
{
    for (size_t k = 0; k < s->n; k++) {
        pipei_task *t = &s->task[k];
        if (!t->node->plugin->step)
            continue;
        t->ctx->folder = pipe_format("%s/outputs/%s", s->folder.partial, t->node->name);
        t->ctx->mirror = pipe_format("%s/checkpoints/%s", s->folder.partial, t->node->name);
        if (!s->env->options->no_metadata) {
            t->ctx->yaml = s->resolved.data;
            t->ctx->summary = pipei_summary(s, t);
        }
    }
}

static pipe_status begin(pipei_session *s, const char *member, pipe_error *err)
{
    const pipei_graph *g = s->graph;

    PIPE_TRY(open_folder(s, member, err));
    PIPE_TRY(write_text(s, "pipeline.yaml", g->text ? g->text : "", g->text ? g->text_length : 0, err));
    PIPE_TRY(
        write_text(s, "resolved.yaml", s->resolved.data ? s->resolved.data : "", s->resolved.length, err));
    PIPE_TRY(open_stream(s, "metrics.jsonl", &s->journal, err));
    PIPE_TRY(open_stream(s, "log.txt", &s->log, err));
    pipei_log_attach(s->log);
    if (s->env->options->profile) {
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(s->folder.partial, "trace.json");
        PIPE_TRY(pipei_trace_open(path, &s->trace, err));
    }
    prepare_contexts(s);
    return pipei_manifest_write(s, err);
}

/* Closes the books.  A failure here must not hide the one that `status` stands for. */
static pipe_status end(pipei_session *s, pipe_status status, pipe_error *err)
{
    s->ended = pipei_now();
    s->state = status == PIPE_OK ? "complete" : status == PIPE_EINTERRUPTED ? "interrupted" : "failed";
    if (status != PIPE_OK) {
        s->error = pipe_strdup(err->message);
        if (s->log)
            fprintf(s->log, "%s: %s\n", s->state, s->error);
    }
    pipe_error second = PIPE_ERROR_INIT;
    pipe_status closing = s->trace ? pipei_trace_end(s->trace, &second) : PIPE_OK;
    close_files(s);
    if (closing == PIPE_OK)
        closing = pipei_manifest_write(s, &second);
    if (closing == PIPE_OK)
        closing = pipei_report_write(s, &second);
    if (status == PIPE_OK && closing == PIPE_OK)
        closing = pipei_folder_complete(&s->folder, &second);
    if (status != PIPE_OK || closing == PIPE_OK)
        return status;
    s->state = "failed"; /* a full disk, most likely: say so where it still can be said */
    s->error = pipe_strdup(second.message);
    pipei_manifest_write(s, NULL);
    return pipe_fail(err, closing, "%s", second.message);
}

static pipe_status run_session(pipei_session *s, const char *member, pipei_outcome *out, pipe_error *err)
{
    pipe_error reason = PIPE_ERROR_INIT;

    pipe_status status = begin(s, member, &reason);
    if (!s->folder.partial)
        return pipe_fail(err, status, "%s", reason.message);
    if (status == PIPE_OK)
        status = pipei_execute(s, &reason);
    pipei_release(s);
    if (status == PIPE_OK)
        status = pipei_check_expectations(s, &reason);
    pipei_plan_remember(s);
    status = end(s, status, &reason);
    const bool complete = status == PIPE_OK;
    out->folder = pipe_strdup(complete ? s->folder.final : s->folder.partial);
    out->manifest = pipei_manifest(s);
    if (complete || s->unmet)
        pipei_expectations_table(s, &out->table);
    return complete ? PIPE_OK : pipe_fail(err, status, "%s", reason.message);
}

pipe_status pipei_run_graph(pipei_environment *env, const pipei_graph *g, const char *member,
                            pipei_outcome *out, pipe_error *err)
{
    pipei_session s;
    pipe_status status = pipei_session_open(env, g, &s, err);

    *out = (pipei_outcome){0};
    if (status == PIPE_OK && env->options->dry_run) {
        plan_text(&s, &out->table);
        out->manifest = plan_json(&s);
    } else if (status == PIPE_OK) {
        pipei_signals_begin();
        status = run_session(&s, member, out, err);
    }
    out->exit_status = pipei_exit_status(status);
    if (status == PIPE_OK && s.unmet)
        out->exit_status = EXIT_EXPECTATION;
    if (s.task) {
        if (!env->options->dry_run)
            pipei_signals_end();
        pipei_session_close(&s);
    }
    return status;
}

/* ---- the command ---- */

static void print_json(const json_t *j)
{
    char *text = json_dumps(j, JSON_INDENT(2));

    printf("%s\n", text ? text : "null");
    free(text);
}

static void print_outcome(const pipei_run_options *o, const pipei_outcome *out)
{
    const char *state = pipei_json_text(out->manifest, "state");
    const bool complete = state && strcmp(state, "complete") == 0;

    if (o->json) {
        if (!out->manifest)
            return;
        if (out->folder)
            pipei_json_set_text(out->manifest, "run", out->folder);
        print_json(out->manifest);
    } else {
        if (out->table.length)
            fputs(out->table.data, stdout);
        if (out->folder && complete)
            printf("%s\n", out->folder);
    }
    if (out->folder && !complete)
        pipe_log(PIPE_LOG_INFO, "run", "what there is of this run is in %s", out->folder);
    fflush(stdout);
}

static pipe_status run_one(pipei_environment *env, const pipei_graph *g, int *exit_status, pipe_error *err)
{
    pipei_outcome out;
    const pipe_status status = pipei_run_graph(env, g, NULL, &out, err);

    *exit_status = out.exit_status;
    print_outcome(env->options, &out);
    pipei_outcome_free(&out);
    return status;
}

pipe_status pipei_run_file(const char *path, pipei_registry *reg, const pipei_run_options *o,
                           int *exit_status, pipei_diagnostics *diag, pipe_error *err)
{
    pipei_environment env;
    pipei_graph *g;

    *exit_status = EXIT_PIPELINE;
    PIPE_TRY(pipei_graph_load(path, o->overrides, o->n_overrides, reg, &g, diag, err));
    pipe_status status = pipei_environment_open(reg, o, &env, err);
    if (status != PIPE_OK) {
        *exit_status = status == PIPE_EINVAL ? EXIT_PIPELINE : EXIT_FAILED; /* a wrong --progress is usage */
    } else {
        status = g->n_axes ? pipei_run_sweep(&env, path, g, exit_status, diag, err)
                           : run_one(&env, g, exit_status, err);
        pipei_environment_close(&env);
    }
    pipei_graph_free(g);
    return status;
}
