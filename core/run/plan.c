/* Planning: every node's key, which steps have a result already, and why the
 * others do not.
 *
 * A key is the SHA-256 of all that determines a node's result.  So that a person
 * can be told why a key changed, the same facts are kept as a *record*:
 *
 *     {"plugin", "version", "file", "engine", "seed", "params": {name: text},
 *      "files": {parameter: hash}, "inputs": {name: [{"node", "output", "key"}]}}
 *
 * The cache's index holds the records of a pipeline's steps as they last ran,
 * each with those of the components that it used then; a reason is the
 * difference of two records. */
#include "core/run/session.h"
#include "core/run/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

pipei_task *pipei_task_of(pipei_session *s, const pipei_node *n)
{
    return &s->task[n->index];
}

/* A node's parameters follow the registry's table, which may or may not end with
 * the rows that the kind adds. */
const pipe_param *pipei_node_row(const pipei_node *n, size_t k)
{
    const pipe_param *row = n->plugin->meta.params;
    size_t own = 0;

    while (row && row[own].name)
        own++;
    return k < own ? &row[k] : &pipei_kind_params(n->plugin->meta.kind)[k - own];
}

pipe_status pipei_task_fail(const pipei_task *t, pipe_status status, pipe_error *err)
{
    const pipei_position *at = &t->node->at;

    if (at->line)
        return pipe_context_fail(err, status, "%s:%u:%u: %s", at->file, at->line, at->column, t->node->name);
    return pipe_context_fail(err, status, "%s", t->node->name);
}

/* ---- records ---- */

static pipe_status add_params(pipei_session *s, pipei_task *t, pipe_arena *a, pipe_error *err)
{
    const pipei_node *n = t->node;
    json_t *params = json_object(), *files = json_object();

    json_object_set_new(t->record, "params", params);
    json_object_set_new(t->record, "files", files);
    for (size_t k = 0; k < n->n_params; k++) {
        const pipe_param *row = pipei_node_row(n, k);
        if (row->flags & PIPE_PARAM_NO_KEY)
            continue;
        if (row->type != PIPE_TYPE_PATH || !(row->flags & PIPE_PARAM_INPUT_FILE)) {
            pipei_json_set_text(params, row->name, pipei_param_canonical(row, n->param[k], a));
            continue;
        }
        const char *path = n->param[k] && n->param[k]->n ? n->param[k]->text[0] : row->fallback;
        char hex[65] = "";
        if (!path || !*path)
            continue;
        const pipe_status status = pipei_cache_file_hash(s->env->cache, path, hex, err);
        if (status != PIPE_OK)
            return pipe_context_fail(err, status, "%s", row->name);
        pipei_json_set_text(files, row->name, hex);
        json_t *file = json_object();
        pipei_json_set_text(file, "node", n->name);
        pipei_json_set_text(file, "parameter", row->name);
        pipei_json_set_text(file, "path", path);
        pipei_json_set_text(file, "sha256", hex);
        json_array_append_new(s->data, file);
    }
    return PIPE_OK;
}

static void add_inputs(pipei_session *s, pipei_task *t)
{
    const pipei_node *n = t->node;
    json_t *inputs = json_object();

    json_object_set_new(t->record, "inputs", inputs);
    for (size_t k = 0; k < n->n_inputs; k++) {
        json_t *list = json_array();
        for (size_t i = 0; i < n->input_count[k]; i++) {
            const pipei_edge *e = &n->input[k][i];
            const pipei_task *from = pipei_task_of(s, e->from);
            json_t *link = json_object();
            pipei_json_set_text(link, "node", e->from->name);
            pipei_json_set_text(link, "output", e->output ? e->output : "");
            pipei_json_set_text(link, "key", from->key);
            json_array_append_new(list, link);
            t->unstable |= from->unstable;
        }
        json_object_set_new(inputs, n->plugin->meta.inputs[k].name, list);
    }
}

static void key_of_record(const char *node, const json_t *record, char key[65])
{
    char *text = json_dumps(record, JSON_COMPACT | JSON_SORT_KEYS);
    pipe_sha256 *h = pipe_sha256_new();

    pipe_sha256_add_string(h, "pipe key 1");
    pipe_sha256_add_string(h, node);            /* names its random streams */
    pipe_sha256_add_string(h, text ? text : "");
    pipe_sha256_finish(h, key);
    free(text);
}

static pipe_status make_key(pipei_session *s, pipei_task *t, pipe_arena *a, pipe_error *err)
{
    const pipei_plugin *p = t->node->plugin;

    t->record = json_object();
    pipei_json_set_text(t->record, "plugin", p->meta.name);
    pipei_json_set_text(t->record, "version", p->meta.version);
    pipei_json_set_text(t->record, "file", p->sha256 ? p->sha256 : "");
    PIPE_CLEANUP(pipe_free_ptr) char *engine =
        pipe_format("%s, ABI %d.%d", pipe_version(), PIPE_ABI_MAJOR, PIPE_ABI_MINOR);
    pipei_json_set_text(t->record, "engine", engine);
    PIPE_CLEANUP(pipe_free_ptr) char *seed = pipe_format("%llu", (unsigned long long)s->graph->seed);
    pipei_json_set_text(t->record, "seed", seed);
    if (s->env->options->no_metadata && strcmp(p->meta.kind, PIPE_KIND_SINK) == 0)
        json_object_set_new(t->record, "no_metadata", json_true());     /* pictures without text differ */
    t->unstable = (p->meta.flags & PIPE_NONDETERMINISTIC) != 0;
    const pipe_status status = add_params(s, t, a, err);
    if (status != PIPE_OK)
        return pipei_task_fail(t, status, err);
    add_inputs(s, t);
    key_of_record(t->node->name, t->record, t->key);
    return PIPE_OK;
}

/* ---- reasons ---- */

/* What is compared: records of components then and now, and those done already
 * (a component that many others use is compared once). */
typedef struct comparison {
    pipei_session *s;
    const json_t *components;       /* name -> record, of the last run */
    json_t *done;                   /* a set of names */
    pipe_text *out;
} comparison;

static void add_reason(comparison *c, const char *who, const char *fmt, ...) PIPE_PRINTF(3, 4);

static void add_reason(comparison *c, const char *who, const char *fmt, ...)
{
    char text[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    pipe_text_addf(c->out, "%s%s%s%s", c->out->length ? "; " : "", who ? who : "", who ? ": " : "", text);
}

static bool differs(const json_t *a, const json_t *b, const char *key, const char **from, const char **to)
{
    *from = pipei_json_text(a, key);
    *to = pipei_json_text(b, key);
    if (!*from)
        *from = "nothing";
    if (!*to)
        *to = "nothing";
    return strcmp(*from, *to) != 0;
}

static void compare(comparison *c, const json_t *old, const json_t *new, const char *who);

static void compare_link(comparison *c, const char *input, const json_t *old, const json_t *new,
                         const char *who)
{
    const char *from, *to, *output_from, *output_to;
    const bool moved = differs(old, new, "node", &from, &to);

    if (differs(old, new, "output", &output_from, &output_to) || moved) {
        add_reason(c, who, "input `%s` %s%s%s→%s%s%s", input, from, *output_from ? "." : "", output_from, to,
                   *output_to ? "." : "", output_to);
        return;
    }
    const char *node = pipei_json_text(new, "node");
    if (!differs(old, new, "key", &from, &to) || json_object_get(c->done, node))
        return;
    json_object_set_new(c->done, node, json_true());
    const json_t *before = json_object_get(c->components, node);
    const pipei_node *n = pipei_graph_find(c->s->graph, node);
    if (before && n && !n->plugin->step)
        compare(c, before, pipei_task_of(c->s, n)->record, node);
    else
        add_reason(c, who, "input `%s`: step `%s` has changed", input, node);
}

static void compare_inputs(comparison *c, const json_t *old, const json_t *new, const char *who)
{
    const char *name;
    json_t *list, *link;
    size_t k;

    json_object_foreach((json_t *)(uintptr_t)new, name, list) {
        const json_t *before = json_object_get(old, name);
        if (json_array_size(before) != json_array_size(list)) {
            add_reason(c, who, "input `%s` has %zu sources instead of %zu", name, json_array_size(list),
                       json_array_size(before));
            continue;
        }
        json_array_foreach(list, k, link)
            compare_link(c, name, json_array_get(before, k), link, who);
    }
}

static void compare(comparison *c, const json_t *old, const json_t *new, const char *who)
{
    static const struct { const char *key, *words; bool global; } facts[] = {
        {"version", "plugin version", false}, {"engine", "pipe version", true}, {"seed", "seed", true},
    };
    const char *from, *to, *name;
    json_t *value;

    if (differs(old, new, "plugin", &from, &to)) {
        add_reason(c, who, "plugin %s→%s", from, to);
        return;                                 /* its parameters have nothing to do with the other's */
    }
    for (size_t k = 0; k < sizeof facts / sizeof facts[0]; k++)
        if (differs(old, new, facts[k].key, &from, &to) && !(facts[k].global && who))   /* once is enough */
            add_reason(c, who, "%s %s→%s", facts[k].words, from, to);
    if (differs(old, new, "file", &from, &to))
        add_reason(c, who, "the plugin's file has changed");
    if (json_is_true(json_object_get(old, "no_metadata")) !=
        json_is_true(json_object_get(new, "no_metadata")))
        add_reason(c, who, "--no-metadata");
    json_object_foreach(json_object_get(new, "params"), name, value)
        if (differs(json_object_get(old, "params"), json_object_get(new, "params"), name, &from, &to))
            add_reason(c, who, "parameter `%s` %s→%s", name, from, to);
    json_object_foreach(json_object_get(new, "files"), name, value)
        if (differs(json_object_get(old, "files"), json_object_get(new, "files"), name, &from, &to))
            add_reason(c, who, "the content of `%s` has changed", name);
    compare_inputs(c, json_object_get(old, "inputs"), json_object_get(new, "inputs"), who);
}

static char *reason(pipei_session *s, const pipei_task *t)
{
    const json_t *last = json_object_get(json_object_get(s->index, "nodes"), t->node->name);
    const char *key = pipei_json_text(last, "key");
    PIPE_CLEANUP(pipe_text_free) pipe_text out = {0};

    if (!key)
        return pipe_strdup("it has not run before");
    if (strcmp(key, t->key) == 0)
        return pipe_strdup("its result is not in the cache any more");
    PIPE_CLEANUP(pipei_json_free) json_t *done = json_object();
    comparison c = {.s = s, .components = json_object_get(last, "components"), .done = done, .out = &out};
    compare(&c, json_object_get(last, "record"), t->record, NULL);
    return pipe_strdup(out.length ? out.data : "it has changed");
}

/* The records of all components that `n` uses, directly or through others. */
static void add_components(pipei_session *s, const pipei_node *n, json_t *out)
{
    for (size_t k = 0; k < n->n_inputs; k++)
        for (size_t i = 0; i < n->input_count[k]; i++) {
            const pipei_node *from = n->input[k][i].from;
            if (from->plugin->step || json_object_get(out, from->name))
                continue;
            json_object_set(out, from->name, pipei_task_of(s, from)->record);
            add_components(s, from, out);
        }
}

/* ---- the index ---- */

static char *index_path(const pipei_session *s)
{
    PIPE_CLEANUP(pipe_free_ptr) char *identity = NULL;
    char *real = realpath(s->graph->path, NULL);
    char hex[65];

    identity = pipe_format("%s\n%s", real ? real : s->graph->path, s->graph->name);
    free(real);
    pipe_sha256 *h = pipe_sha256_new();
    pipe_sha256_add_string(h, identity);
    pipe_sha256_finish(h, hex);
    return pipe_format("%s/%.40s.json", s->env->cache->index, hex);
}

void pipei_plan_remember(pipei_session *s)
{
    json_t *nodes = json_object_get(s->index, "nodes");
    pipe_error err = PIPE_ERROR_INIT;
    bool changed = false;

    if (!nodes) {
        nodes = json_object();
        json_object_set_new(s->index, "nodes", nodes);
    }
    pipei_json_set_text(s->index, "pipeline", s->graph->name);
    pipei_json_set_text(s->index, "path", s->graph->path);
    for (size_t k = 0; k < s->n; k++) {
        const pipei_task *t = &s->task[k];
        const char *known = pipei_json_text(json_object_get(nodes, t->node->name), "key");
        if (!t->node->plugin->step || (t->state != PIPEI_DONE && t->state != PIPEI_CACHED) ||
            (known && strcmp(known, t->key) == 0))
            continue;
        json_t *entry = json_object();
        pipei_json_set_text(entry, "key", t->key);
        json_object_set(entry, "record", t->record);
        json_t *components = json_object();
        add_components(s, t->node, components);
        json_object_set_new(entry, "components", components);
        json_object_set_new(nodes, t->node->name, entry);
        changed = true;
    }
    if (changed && pipei_json_write(s->index_path, s->index, &err) != PIPE_OK)
        pipe_log(PIPE_LOG_WARN, "cache", "%s", err.message);
}

/* ---- the plan ---- */

static bool is_forced(const pipei_run_options *o, const char *node)
{
    if (o->force_all)
        return true;
    for (size_t k = 0; k < o->n_force; k++)
        if (strcmp(o->force[k], node) == 0)
            return true;
    return false;
}

/* A cached step whose input runs again keeps its key: the input's result will be the same. */
static void look_up(pipei_session *s, pipei_task *t)
{
    const uint32_t flags = t->node->plugin->meta.flags;
    const pipei_run_options *o = s->env->options;
    pipe_error err = PIPE_ERROR_INIT;

    t->forced = is_forced(o, t->node->name);
    t->cacheable = !t->unstable && !(flags & PIPE_ALWAYS_RUN) && !o->no_cache;
    if (flags & PIPE_ALWAYS_RUN)
        t->why = pipe_strdup("it always runs");
    else if (flags & PIPE_NONDETERMINISTIC)
        t->why = pipe_strdup("its results differ from run to run");
    else if (t->unstable)
        t->why = pipe_strdup("an input differs from run to run");
    else if (t->forced)
        t->why = pipe_strdup("--force");
    else if (o->no_cache)
        t->why = pipe_strdup("--no-cache");
    else {
        const pipe_status status = pipei_cache_find(s->env->cache, t->key, &t->result, &err);
        if (status == PIPE_OK) {
            t->state = PIPEI_CACHED;
            return;
        }
        if (status != PIPE_ENOTFOUND) {
            pipe_log(PIPE_LOG_WARN, t->node->name,
                     "the cached result is damaged and will be computed again: %s", err.message);
            t->why = pipe_strdup("its cached result is damaged");
        } else {
            t->why = reason(s, t);
        }
    }
    t->state = PIPEI_WAITING;
}

static pipe_status check_forced(const pipei_session *s, pipe_error *err)
{
    const pipei_run_options *o = s->env->options;

    for (size_t k = 0; k < o->n_force; k++) {
        const char **names = pipe_alloc_array(s->n + 1, sizeof *names);
        size_t n = 0;
        bool found = false;
        for (size_t i = 0; i < s->n; i++)
            if (s->task[i].node->plugin->step) {
                names[n++] = s->task[i].node->name;
                found |= strcmp(s->task[i].node->name, o->force[k]) == 0;
            }
        const char *near = pipe_nearest(o->force[k], names, n);
        pipe_free(names);
        if (!found)
            return pipe_fail(err, PIPE_EPIPELINE, "--force=%s: the pipeline has no step of that name%s%s%s",
                             o->force[k], near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
    }
    return PIPE_OK;
}

static void find_last_uses(pipei_session *s)
{
    for (size_t k = 0; k < s->n; k++)
        s->task[k].last_use = k;
    for (size_t k = s->n; k-- > 0; ) {          /* users come later: theirs is final when ours is asked for */
        const pipei_node *n = s->task[k].node;
        /* A component is needed for as long as its users are; a step's inputs end with the step. */
        const size_t use = n->plugin->step ? k : s->task[k].last_use;
        for (size_t i = 0; i < n->n_inputs; i++)
            for (size_t j = 0; j < n->input_count[i]; j++) {
                pipei_task *from = pipei_task_of(s, n->input[i][j].from);
                if (from->last_use < use)
                    from->last_use = use;
            }
    }
}

pipe_status pipei_plan(pipei_session *s, pipe_error *err)
{
    pipe_arena *a = pipe_arena_new();
    pipe_status status = PIPE_OK;

    s->index_path = index_path(s);
    if (pipei_json_read(s->index_path, &s->index, NULL) != PIPE_OK)
        s->index = json_object();
    s->data = json_array();
    for (size_t k = 0; k < s->n && status == PIPE_OK; k++)
        status = make_key(s, &s->task[k], a, err);
    pipe_arena_free(a);
    PIPE_TRY(status);
    PIPE_TRY(check_forced(s, err));
    for (size_t k = 0; k < s->n; k++)
        if (s->task[k].node->plugin->step)
            look_up(s, &s->task[k]);
    find_last_uses(s);
    return PIPE_OK;
}
