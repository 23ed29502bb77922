/* Sweeps: the members of a grid, one after the other, in one folder.
 *
 *     runs/NAME/sweep-ID/{000,001,...,sweep.csv}
 *
 * ID is the hash of all members' keys: the same sweep finds its folder again and
 * runs only what is missing or failed; a changed one gets a folder of its own. */
#include "core/run/session.h"
#include "core/run/json.h"

#include <stdlib.h>
#include <string.h>

typedef struct member {
    pipei_graph *graph;
    const char **axis;              /* "solver.steps=20": n_axes of them */
    char *folder;
    json_t *manifest;               /* of a complete or a failed run; NULL: not run */
    char *error;
    int exit_status;
    bool kept;                      /* complete before this command */
} member;

typedef struct sweep {
    pipei_environment *env;
    const pipei_graph *base;
    member *v;
    size_t n;
    char *folder;
} sweep;

static void sweep_free(sweep *w)
{
    for (size_t k = 0; k < w->n; k++) {
        pipei_graph_free(w->v[k].graph);
        pipe_free(w->v[k].axis);
        pipe_free(w->v[k].folder);
        pipe_free(w->v[k].error);
        json_decref(w->v[k].manifest);
    }
    pipe_free(w->v);
    pipe_free(w->folder);
}

static pipe_status load_member(sweep *w, const char *path, size_t k, pipei_diagnostics *diag, pipe_error *err)
{
    const pipei_run_options *o = w->env->options;
    const size_t total = o->n_overrides + w->base->n_axes;
    PIPE_CLEANUP(pipe_free_ptr) const char **all = pipe_alloc_array(total + 1, sizeof *all);
    member *m = &w->v[k];

    m->axis = pipe_alloc_array(w->base->n_axes + 1, sizeof *m->axis);
    pipei_graph_member_overrides(w->base, k, m->axis);
    if (o->n_overrides)
        memcpy(all, o->overrides, o->n_overrides * sizeof *all);
    memcpy(all + o->n_overrides, m->axis, w->base->n_axes * sizeof *all);
    if (strcmp(path, "-") == 0)                 /* standard input was read already */
        return pipei_graph_load_text(w->base->text, w->base->text_length, w->base->path, all, total,
                                     w->env->registry, &m->graph, diag, err);
    return pipei_graph_load(path, all, total, w->env->registry, &m->graph, diag, err);
}

static pipe_status find_folder(sweep *w, pipe_error *err)
{
    const pipei_run_options *o = w->env->options;
    char hex[65];

    pipe_sha256 *h = pipe_sha256_new();
    for (size_t k = 0; k < w->n; k++) {
        pipei_session s;
        const pipe_status status = pipei_session_open(w->env, w->v[k].graph, &s, err);
        if (status != PIPE_OK) {
            pipe_sha256_finish(h, hex);
            return status;
        }
        for (size_t i = 0; i < s.n; i++)
            pipe_sha256_add_string(h, s.task[i].key);
        pipei_session_close(&s);
    }
    pipe_sha256_finish(h, hex);
    PIPE_CLEANUP(pipe_free_ptr) char *name = pipei_safe_name(w->base->name);
    w->folder = pipe_format("%s/%s/sweep-%.8s", o->output ? o->output : "runs", name, hex);
    for (size_t k = 0; k < w->n; k++)
        w->v[k].folder = pipe_format("%s/%03zu", w->folder, k);
    return PIPE_OK;
}

/* A member is done when its folder is complete and was made from the same keys. */
static bool is_done(const member *m, pipei_environment *env)
{
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(m->folder, "manifest.json");
    PIPE_CLEANUP(pipei_json_free) json_t *manifest = NULL;
    pipei_session s;
    json_t *node;
    size_t k;

    if (pipei_json_read(path, &manifest, NULL) != PIPE_OK)
        return false;
    const char *state = pipei_json_text(manifest, "state");
    if (!state || strcmp(state, "complete") != 0 || pipei_session_open(env, m->graph, &s, NULL) != PIPE_OK)
        return false;
    bool same = json_array_size(json_object_get(manifest, "nodes")) == s.n;
    json_array_foreach(json_object_get(manifest, "nodes"), k, node) {
        const char *key = pipei_json_text(node, "key");
        same = same && key && k < s.n && strcmp(key, s.task[k].key) == 0;
    }
    pipei_session_close(&s);
    return same;
}

/* ---- the table ---- */

static void csv_field(pipe_text *out, const char *text)
{
    if (!strpbrk(text, ",\"\n\r")) {
        pipe_text_add(out, text);
        return;
    }
    pipe_text_add(out, "\"");
    for (const char *p = text; *p; p++) {
        if (*p == '"')
            pipe_text_add(out, "\"");
        pipe_text_add_bytes(out, p, 1);
    }
    pipe_text_add(out, "\"");
}

/* "node.metric" of every number that any member reported, in the order of the first one that did. */
static json_t *metric_columns(const sweep *w)
{
    json_t *columns = json_object();            /* keeps the order of insertion */
    json_t *node, *value;
    const char *name;
    size_t i;

    for (size_t k = 0; k < w->n; k++)
        json_array_foreach(json_object_get(w->v[k].manifest, "nodes"), i, node)
            json_object_foreach(json_object_get(node, "metrics"), name, value) {
            PIPE_CLEANUP(pipe_free_ptr)
            char *column = pipe_format("%s.%s", pipei_json_text(node, "name"), name);
            json_object_set_new(columns, column, json_true());
            }
    return columns;
}

static const json_t *metric_of(const member *m, const char *column)
{
    json_t *node;
    size_t k;

    json_array_foreach(json_object_get(m->manifest, "nodes"), k, node) {
        const char *name = pipei_json_text(node, "name");
        const size_t n = strlen(name);
        if (strncmp(column, name, n) == 0 && column[n] == '.') {
            const json_t *value = json_object_get(json_object_get(node, "metrics"), column + n + 1);
            if (value)
                return value;
        }
    }
    return NULL;
}

static const char *member_state(const member *m)
{
    const char *state = pipei_json_text(m->manifest, "state");

    return m->error ? "failed" : !state ? "waiting" : state;
}

static void make_table(const sweep *w, pipe_text *out)
{
    PIPE_CLEANUP(pipei_json_free) json_t *columns = metric_columns(w);
    const char *column;
    json_t *unused;

    pipe_text_add(out, "member,state");
    for (size_t a = 0; a < w->base->n_axes; a++) {
        pipe_text_add(out, ",");
        csv_field(out, w->base->axis[a].target);
    }
    json_object_foreach(columns, column, unused) {
        pipe_text_add(out, ",");
        csv_field(out, column);
    }
    pipe_text_add(out, "\n");
    for (size_t k = 0; k < w->n; k++) {
        pipe_text_addf(out, "%03zu,%s", k, member_state(&w->v[k]));
        for (size_t a = 0; a < w->base->n_axes; a++) {
            const char *value = strchr(w->v[k].axis[a], '=');
            pipe_text_add(out, ",");
            csv_field(out, value ? value + 1 : "");
        }
        json_object_foreach(columns, column, unused) {
            const json_t *value = metric_of(&w->v[k], column);
            pipe_text_add(out, ",");
            if (value)
                pipe_text_addf(out, "%.9g", json_number_value(value));
        }
        pipe_text_add(out, "\n");
    }
}

static pipe_status write_table(const sweep *w, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(w->folder, "sweep.csv");
    PIPE_CLEANUP(pipe_text_free) pipe_text table = {0};

    make_table(w, &table);
    return pipei_file_write(path, table.data, table.length, err);
}

/* ---- running ---- */

static void describe(const sweep *w, size_t k, pipe_text *out)
{
    pipe_text_addf(out, "%03zu", k);
    for (size_t a = 0; a < w->base->n_axes; a++)
        pipe_text_addf(out, " %s", w->v[k].axis[a]);
}

static pipe_status run_member(sweep *w, size_t k, pipe_error *err)
{
    member *m = &w->v[k];
    PIPE_CLEANUP(pipe_text_free) pipe_text name = {0};
    pipei_outcome out;

    describe(w, k, &name);
    pipe_log(PIPE_LOG_INFO, "sweep", "%s", name.data);
    const pipe_status status = pipei_run_graph(w->env, m->graph, m->folder, &out, err);
    m->exit_status = out.exit_status;
    json_decref(m->manifest);
    m->manifest = json_incref(out.manifest);
    if (status != PIPE_OK) {
        m->error = pipe_strdup(err->message);
        if (status != PIPE_EINTERRUPTED)
            pipe_log(PIPE_LOG_ERROR, "sweep", "%s: %s", name.data, err->message);
    } else if (out.exit_status != 0) {
        pipe_log(PIPE_LOG_WARN, "sweep", "%s: an expectation is not met", name.data);
    }
    pipei_outcome_free(&out);
    return status;
}

static pipe_status run_members(sweep *w, pipe_error *err)
{
    for (size_t k = 0; k < w->n; k++) {
        member *m = &w->v[k];
        if (!w->env->options->force_all && is_done(m, w->env)) {
            PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(m->folder, "manifest.json");
            PIPE_TRY(pipei_json_read(path, &m->manifest, err));
            m->exit_status = json_is_false(json_object_get(m->manifest, "expectations_met")) ? 1 : 0;
            m->kept = true;
            continue;
        }
        pipe_error reason = PIPE_ERROR_INIT;
        const pipe_status status = run_member(w, k, &reason);
        PIPE_TRY(write_table(w, err));
        if (status == PIPE_EINTERRUPTED || (status != PIPE_OK && w->env->options->fail_fast))
            return pipe_fail(err, status, "%s", reason.message);
    }
    return write_table(w, err);
}

static pipe_status summary(const sweep *w, int *exit_status, pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text failed = {0};
    size_t n = 0;

    *exit_status = 0;
    for (size_t k = 0; k < w->n; k++) {
        if (w->v[k].exit_status > *exit_status)
            *exit_status = w->v[k].exit_status;
        if (!w->v[k].error)
            continue;
        n++;
        pipe_text_add(&failed, "\n  ");
        describe(w, k, &failed);
        pipe_text_addf(&failed, ": %s", w->v[k].error);
    }
    return n == 0 ? PIPE_OK
                  : pipe_fail(err, PIPE_EINVAL, "%zu of %zu members failed:%s", n, w->n, failed.data);
}

static void print_sweep(const sweep *w)
{
    if (!w->env->options->json) {
        PIPE_CLEANUP(pipe_text_free) pipe_text table = {0};
        make_table(w, &table);
        fputs(table.data, stdout);
        printf("%s\n", w->folder);
        fflush(stdout);
        return;
    }
    PIPE_CLEANUP(pipei_json_free) json_t *j = json_object();
    json_t *members = json_array();
    pipei_json_set_text(j, "sweep", w->folder);
    json_object_set_new(j, "members", members);
    for (size_t k = 0; k < w->n; k++) {
        json_t *m = w->v[k].manifest ? json_copy(w->v[k].manifest) : json_object();
        pipei_json_set_text(m, "run", w->v[k].folder);
        pipei_json_set_text(m, "state", member_state(&w->v[k]));
        json_object_set_new(m, "kept", json_boolean(w->v[k].kept));
        json_array_append_new(members, m);
    }
    char *text = json_dumps(j, JSON_INDENT(2));
    printf("%s\n", text ? text : "null");
    free(text);
    fflush(stdout);
}

static pipe_status dry_run(sweep *w, int *exit_status, pipe_error *err)
{
    PIPE_CLEANUP(pipei_json_free) json_t *plans = json_array();

    for (size_t k = 0; k < w->n; k++) {
        PIPE_CLEANUP(pipe_text_free) pipe_text name = {0};
        pipei_outcome out;
        const pipe_status status = pipei_run_graph(w->env, w->v[k].graph, NULL, &out, err);
        *exit_status = out.exit_status;
        if (status == PIPE_OK && w->env->options->json) {
            json_array_append(plans, out.manifest);
        } else if (status == PIPE_OK) {
            describe(w, k, &name);
            printf("%s%s\n%s", name.data, is_done(&w->v[k], w->env) ? " (complete)" : "", out.table.data);
        }
        pipei_outcome_free(&out);
        PIPE_TRY(status);
    }
    if (w->env->options->json) {
        char *text = json_dumps(plans, JSON_INDENT(2));
        printf("%s\n", text ? text : "null");
        free(text);
    }
    return PIPE_OK;
}

static pipe_status run_sweep(sweep *w, const char *path, int *exit_status, pipei_diagnostics *diag,
                             pipe_error *err)
{
    for (size_t k = 0; k < w->n; k++) {
        const pipe_status status = load_member(w, path, k, diag, err);
        *exit_status = pipei_exit_status(status);
        PIPE_TRY(status);
    }
    pipe_status status = find_folder(w, err);
    *exit_status = pipei_exit_status(status);
    PIPE_TRY(status);
    if (w->env->options->dry_run)
        return dry_run(w, exit_status, err);
    status = pipei_make_folders(w->folder, err);
    if (status == PIPE_OK)
        status = pipei_folder_clean(w->folder, err);
    if (status == PIPE_OK)
        status = run_members(w, err);
    print_sweep(w);
    if (status != PIPE_OK) {
        *exit_status = pipei_exit_status(status);
        return status;
    }
    return summary(w, exit_status, err);
}

pipe_status pipei_run_sweep(pipei_environment *env, const char *path, const pipei_graph *g, int *exit_status,
                            pipei_diagnostics *diag, pipe_error *err)
{
    sweep w = {.env = env, .base = g, .n = pipei_graph_members(g)};

    w.v = pipe_alloc_array(w.n + 1, sizeof *w.v);
    pipei_signals_begin();
    const pipe_status status = run_sweep(&w, path, exit_status, diag, err);
    pipei_signals_end();
    sweep_free(&w);
    return status;
}
