/* What became of a run: expectations, the manifest. */
#include "core/run/session.h"
#include "core/run/json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* ---- expectations ---- */

static pipe_status never_reported(const pipei_expect *e, const pipei_metrics *m, pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text have = {0};
    const char **names = pipe_alloc_array(m->n + 1, sizeof *names);

    for (size_t k = 0; k < m->n; k++) {
        names[k] = m->v[k].name;
        pipe_text_addf(&have, "%s%s", k ? ", " : "", names[k]);
    }
    const char *near = pipe_nearest(e->metric, names, m->n);
    PIPE_CLEANUP(pipe_free_ptr) char *at =
        e->at.line ? pipe_format("%s:%u:%u: ", e->at.file, e->at.line, e->at.column) : pipe_strdup("");
    const pipe_status status = pipe_fail(err, PIPE_ENOTFOUND,
                                         "%sexpect: `%s` never reported `%s`; it reported: %s%s%s%s", at,
                                         e->node->name, e->metric, m->n ? have.data : "nothing",
                                         near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
    pipe_free(names);
    return status;
}

pipe_status pipei_check_expectations(pipei_session *s, pipe_error *err)
{
    pipe_status status = PIPE_OK;

    for (size_t k = 0; k < s->graph->n_expects; k++) {
        const pipei_expect *e = &s->graph->expect[k];
        const pipei_metrics *m = &pipei_task_of(s, e->node)->ctx->metrics;
        const pipei_series *series = pipei_metrics_find(m, e->metric);
        pipei_expected *x = &s->expected[k];
        *x = (pipei_expected){.claim = e, .reported = series != NULL, .value = NAN};
        if (!series) {
            if (status == PIPE_OK)
                status = never_reported(e, m, err);
            continue;
        }
        x->value = series->value[series->n - 1];
        x->met = (!e->has_min || x->value >= e->min) && (!e->has_max || x->value <= e->max);
        s->unmet |= !x->met;
    }
    return status;
}

static void bound_text(const pipei_expect *e, pipe_text *out)
{
    if (e->has_min)
        pipe_text_addf(out, "min %.6g", e->min);
    if (e->has_max)
        pipe_text_addf(out, "%smax %.6g", e->has_min ? ", " : "", e->max);
}

static const char *verdict(const pipei_expected *x)
{
    return !x->reported ? "never reported" : x->met ? "met" : "NOT MET";
}

void pipei_expectations_table(const pipei_session *s, pipe_text *out)
{
    size_t width = strlen("expectation");

    if (s->graph->n_expects == 0)
        return;
    for (size_t k = 0; k < s->graph->n_expects; k++) {
        const size_t n = strlen(s->graph->expect[k].node->name) + 1 + strlen(s->graph->expect[k].metric);
        width = n > width ? n : width;
    }
    pipe_text_addf(out, "%-*s  %12s  %-24s  %s\n", (int)width, "expectation", "value", "bound", "result");
    for (size_t k = 0; k < s->graph->n_expects; k++) {
        const pipei_expect *e = &s->graph->expect[k];
        PIPE_CLEANUP(pipe_text_free) pipe_text bound = {0};
        PIPE_CLEANUP(pipe_free_ptr) char *name = pipe_format("%s.%s", e->node->name, e->metric);
        PIPE_CLEANUP(pipe_free_ptr) char *value =
            s->expected[k].reported ? pipe_format("%.6g", s->expected[k].value) : pipe_strdup("-");
        bound_text(e, &bound);
        pipe_text_addf(out, "%-*s  %12s  %-24s  %s\n", (int)width, name, value,
                       bound.length ? bound.data : "any", verdict(&s->expected[k]));
    }
}

static json_t *expectations_json(const pipei_session *s)
{
    json_t *list = json_array();

    for (size_t k = 0; k < s->graph->n_expects; k++) {
        const pipei_expect *e = &s->graph->expect[k];
        const pipei_expected *x = &s->expected[k];
        if (!x->claim)                          /* the run did not get that far */
            continue;
        json_t *j = json_object();
        pipei_json_set_text(j, "node", e->node->name);
        pipei_json_set_text(j, "metric", e->metric);
        json_object_set_new(j, "value", x->reported ? json_real(x->value) : json_null());
        if (e->has_min)
            json_object_set_new(j, "min", json_real(e->min));
        if (e->has_max)
            json_object_set_new(j, "max", json_real(e->max));
        json_object_set_new(j, "met", json_boolean(x->met));
        json_array_append_new(list, j);
    }
    return list;
}

/* ---- the manifest ---- */

static json_t *device_json(const pipei_session *s)
{
    if (!s->env->engine)                        /* nothing had to be computed */
        return json_null();
    const pipei_device_info *d = pipei_device_describe(pipei_engine_device(s->env->engine));
    json_t *j = json_object();
    pipei_json_set_text(j, "name", d->name);
    pipei_json_set_text(j, "platform", d->platform);
    pipei_json_set_text(j, "version", d->version);
    pipei_json_set_text(j, "driver", d->driver);
    pipei_json_set_text(j, "type", d->type);
    json_object_set_new(j, "compute_units", json_integer(d->compute_units));
    json_object_set_new(j, "memory", json_integer((json_int_t)d->memory));
    return j;
}

static json_t *plugins_json(const pipei_session *s)
{
    json_t *list = json_array();

    for (size_t k = 0; k < s->n; k++) {
        const pipei_plugin *p = s->task[k].node->plugin;
        bool listed = false;
        for (size_t i = 0; i < k && !listed; i++)
            listed = s->task[i].node->plugin == p;
        if (listed)
            continue;
        json_t *j = json_object();
        pipei_json_set_text(j, "name", p->meta.name);
        pipei_json_set_text(j, "version", p->meta.version);
        pipei_json_set_text(j, "path", p->path);
        pipei_json_set_text(j, "sha256", p->sha256);
        json_array_append_new(list, j);
    }
    return list;
}

static void set_time(json_t *j, const char *key, double t)
{
    char text[32];

    if (t > 0) {
        pipei_time_text(t, text);
        pipei_json_set_text(j, key, text);
    }
}

static json_t *params_json(const pipei_node *n)
{
    pipe_arena *a = pipe_arena_new();
    json_t *j = json_object();

    for (size_t k = 0; k < n->n_params; k++)
        pipei_json_set_text(j, pipei_node_row(n, k)->name,
                            pipei_param_canonical(pipei_node_row(n, k), n->param[k], a));
    pipe_arena_free(a);
    return j;
}

static json_t *inputs_json(const pipei_node *n)
{
    json_t *j = json_object();

    for (size_t k = 0; k < n->n_inputs; k++) {
        json_t *list = json_array();
        for (size_t i = 0; i < n->input_count[k]; i++) {
            const pipei_edge *e = &n->input[k][i];
            PIPE_CLEANUP(pipe_free_ptr) char *text =
                pipe_format("%s%s%s", e->from->name, e->output ? "." : "", e->output ? e->output : "");
            json_array_append_new(list, pipei_json_string(text));
        }
        if (json_array_size(list))
            json_object_set(j, n->plugin->meta.inputs[k].name, list);
        json_decref(list);
    }
    return j;
}

static json_t *node_json(const pipei_task *t)
{
    json_t *j = json_object(), *files = json_array();

    pipei_json_set_text(j, "name", t->node->name);
    pipei_json_set_text(j, "plugin", t->node->plugin->meta.name);
    pipei_json_set_text(j, "kind", t->node->plugin->meta.kind);
    json_object_set_new(j, "step", json_boolean(t->node->plugin->step));
    json_object_set_new(j, "params", params_json(t->node));
    json_object_set_new(j, "inputs", inputs_json(t->node));
    pipei_json_set_text(j, "key", t->key);
    if (!t->node->plugin->step) {
        json_decref(files);
        return j;
    }
    pipei_json_set_text(j, "state", pipei_task_state_name(t->state));
    if (t->why)
        pipei_json_set_text(j, "why", t->why);
    set_time(j, "started", t->started);
    json_object_set_new(j, "seconds", json_real(t->seconds));
    if (t->ctx->resumed)
        json_object_set_new(j, "resumed_from", json_integer((json_int_t)t->ctx->resumed));
    if (t->ctx->saved)
        json_object_set_new(j, "last_checkpoint", json_integer((json_int_t)t->ctx->saved));
    json_object_set_new(j, "metrics", pipei_metrics_last(&t->ctx->metrics));
    for (size_t k = 0; k < t->ctx->n_files; k++)
        json_array_append_new(files, pipei_json_string(t->ctx->file[k]));
    json_object_set_new(j, "files", files);
    if (t->error)
        pipei_json_set_text(j, "error", t->error);
    return j;
}

json_t *pipei_manifest(const pipei_session *s)
{
    const pipei_run_options *o = s->env->options;
    json_t *j = json_object(), *command = json_array(), *nodes = json_array();
    char cwd[4096];

    for (int k = 0; k < o->argc; k++)
        json_array_append_new(command, pipei_json_string(o->argv[k]));
    for (size_t k = 0; k < s->n; k++)
        json_array_append_new(nodes, node_json(&s->task[k]));
    pipei_json_set_text(j, "pipeline", s->graph->name);
    pipei_json_set_text(j, "state", s->state);
    if (s->error)
        pipei_json_set_text(j, "error", s->error);
    set_time(j, "started", s->started);
    set_time(j, "ended", s->ended);
    json_object_set_new(j, "seconds", json_real((s->ended > 0 ? s->ended : pipei_now()) - s->started));
    PIPE_CLEANUP(pipe_free_ptr) char *abi = pipe_format("%d.%d", PIPE_ABI_MAJOR, PIPE_ABI_MINOR);
    pipei_json_set_text(j, "pipe", pipe_version());
    pipei_json_set_text(j, "abi", abi);
    pipei_json_set_text(j, "file", s->graph->path);
    json_object_set_new(j, "command", command);
    pipei_json_set_text(j, "folder", getcwd(cwd, sizeof cwd));
    PIPE_CLEANUP(pipe_free_ptr)
    char *seed = pipe_format("%" PRIu64, s->graph->seed); /* 64 bits: no JSON number */
    pipei_json_set_text(j, "seed", seed);
    json_object_set_new(j, "device", device_json(s));
    json_object_set_new(j, "plugins", plugins_json(s));
    json_object_set(j, "data", s->data);
    json_object_set_new(j, "nodes", nodes);
    json_object_set_new(j, "expect", expectations_json(s));
    json_object_set_new(j, "expectations_met", json_boolean(!s->unmet));
    return j;
}

pipe_status pipei_manifest_write(const pipei_session *s, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(s->folder.partial, "manifest.json");
    PIPE_CLEANUP(pipei_json_free) json_t *j = pipei_manifest(s);

    return pipei_json_write(path, j, err);
}

/* ---- one line for pictures ---- */

static void add_summary(pipei_session *s, const pipei_node *n, bool *seen, pipe_arena *a, pipe_text *out)
{
    enum { LIMIT = 1500 };

    if (seen[n->index] || out->length > LIMIT)
        return;
    seen[n->index] = true;
    pipe_text_addf(out, "; %s: %s", n->name, n->plugin->meta.name);
    for (size_t k = 0; k < n->n_params; k++) {
        const pipe_param *row = pipei_node_row(n, k);
        if (n->param[k] && row->type != PIPE_TYPE_PATH)
            pipe_text_addf(out, " %s=%s", row->name, pipei_param_canonical(row, n->param[k], a));
    }
    for (size_t k = 0; k < n->n_inputs; k++)
        for (size_t i = 0; i < n->input_count[k]; i++)
            add_summary(s, n->input[k][i].from, seen, a, out);
}

char *pipei_summary(pipei_session *s, const pipei_task *t)
{
    pipe_text out = {0};
    pipe_arena *a = pipe_arena_new();
    bool *seen = pipe_alloc_array(s->n + 1, sizeof *seen);

    pipe_text_addf(&out, "pipe %s, %s, seed %" PRIu64, pipe_version(), s->graph->name, s->graph->seed);
    add_summary(s, t->node, seen, a, &out);
    for (char *p = out.data; *p; p++)
        if (*p == '\n' || *p == '\r')
            *p = ' ';
    pipe_free(seen);
    pipe_arena_free(a);
    return out.data;
}
