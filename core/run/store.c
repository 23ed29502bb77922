/* Results of steps to the cache and back. */
#include "core/run/session.h"
#include "core/run/json.h"
#include "core/run/values.h"

#include <string.h>

/* ---- to the cache ---- */

static pipe_status store_values(const pipei_task *t, const char *folder, json_t *outputs, pipe_error *err)
{
    for (size_t k = 0; k < t->ctx->n_yielded; k++) {
        const pipei_yielded *y = &t->ctx->yielded[k];
        PIPE_CLEANUP(pipe_free_ptr) char *file = pipe_format("values/%s.safetensors", y->name);
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, file);
        PIPE_CLEANUP(pipe_free_ptr) char *parent = pipei_path_folder(path);
        json_t *description;
        PIPE_TRY(pipei_make_folders(parent, err));
        const pipe_status status = pipei_value_save(y->object, path, &description, err);
        if (status != PIPE_OK)
            return pipe_context_fail(err, status, "output `%s`", y->name);
        pipei_json_set_text(description, "name", y->name);
        pipei_json_set_text(description, "file", file);
        json_array_append_new(outputs, description);
    }
    return PIPE_OK;
}

static pipe_status store_files(const pipei_task *t, const char *folder, json_t *names, pipe_error *err)
{
    for (size_t k = 0; k < t->ctx->n_files; k++) {
        if (!pipei_path_exists(t->ctx->file_path[k])) {
            pipe_log(PIPE_LOG_DEBUG, t->node->name, "asked for the output file %s and did not write it",
                     t->ctx->file[k]);
            continue;
        }
        PIPE_CLEANUP(pipe_free_ptr) char *to = pipe_format("%s/files/%s", folder, t->ctx->file[k]);
        PIPE_TRY(pipei_copy_file(t->ctx->file_path[k], to, err));
        json_array_append_new(names, pipei_json_string(t->ctx->file[k]));
    }
    return PIPE_OK;
}

static pipe_status fill_entry(const pipei_session *s, const pipei_task *t, const char *folder, json_t *result,
                              pipe_error *err)
{
    json_t *outputs = json_array(), *files = json_array();
    char now[32];

    pipei_time_text(pipei_now(), now);
    pipei_json_set_text(result, "key", t->key);
    pipei_json_set_text(result, "pipeline", s->graph->name);
    pipei_json_set_text(result, "node", t->node->name);
    pipei_json_set_text(result, "plugin", t->node->plugin->meta.name);
    pipei_json_set_text(result, "plugin_version", t->node->plugin->meta.version);
    pipei_json_set_text(result, "made", now);
    json_object_set_new(result, "seconds", json_real(t->seconds));
    json_object_set_new(result, "metrics", pipei_metrics_json(&t->ctx->metrics));
    json_object_set_new(result, "outputs", outputs);
    json_object_set_new(result, "written", files);
    PIPE_TRY(store_values(t, folder, outputs, err));
    return store_files(t, folder, files, err);
}

pipe_status pipei_store(pipei_session *s, pipei_task *t, pipe_error *err)
{
    PIPE_CLEANUP(pipei_json_free) json_t *result = json_object();
    PIPE_CLEANUP(pipe_free_ptr) char *folder = NULL;

    PIPE_TRY(pipei_cache_begin(s->env->cache, t->key, &folder, err));
    pipe_status status = fill_entry(s, t, folder, result, err);
    if (status == PIPE_OK)
        status = pipei_cache_commit(s->env->cache, t->key, result, err);
    if (status != PIPE_OK) {
        pipei_remove_tree(folder, NULL);
        return pipe_context_fail(err, status, "the result cannot be kept in the cache");
    }
    t->result = json_incref(result);
    return PIPE_OK;
}

/* ---- and back ---- */

static pipe_status restore_file(pipei_session *s, pipei_task *t, const char *name, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *inside = pipe_format("files/%s", name);
    PIPE_CLEANUP(pipe_free_ptr) char *from = NULL;
    const char *to;

    PIPE_TRY(pipei_cache_check(s->env->cache, t->key, t->result, inside, &from, err));
    PIPE_TRY(pipe_output_path(t->ctx, name, &to, err));
    return pipei_copy_file(from, to, err);
}

static pipe_status tell_again(pipei_session *s, const pipei_task *t, pipe_error *err)
{
    for (size_t k = 0; s->journal && k < t->ctx->metrics.n; k++) {
        const pipei_series *m = &t->ctx->metrics.v[k];
        for (size_t i = 0; i < m->n; i++)
            PIPE_TRY(pipei_journal(s->journal, "metrics.jsonl", t->node->name, m->curve ? &m->step[i] : NULL,
                                   m->name, m->value[i], true, err));
    }
    return PIPE_OK;
}

pipe_status pipei_restore(pipei_session *s, pipei_task *t, pipe_error *err)
{
    json_t *name;
    size_t k;

    PIPE_TRY(pipei_metrics_parse(json_object_get(t->result, "metrics"), &t->ctx->metrics, err));
    json_array_foreach(json_object_get(t->result, "written"), k, name) {
        if (!json_is_string(name))
            return pipe_fail(err, PIPE_EFORMAT, "result.json names a file that is no text");
        PIPE_TRY(restore_file(s, t, json_string_value(name), err));
    }
    PIPE_TRY(pipei_publish_weights(s, t, err));
    return tell_again(s, t, err);
}

/* The schedule that the weights were trained under: the graph's node, which the
 * step depends on; by plugin and parameters where the graph has none such. */
static pipe_status find_schedule(pipei_session *s, pipei_task *t, const json_t *declared, pipe_object **out,
                                 pipe_error *err)
{
    const json_t *j = json_object_get(declared, "schedule");
    const char *node = pipei_json_text(j, "node"), *plugin = pipei_json_text(j, "plugin");
    const pipei_node *n = node ? pipei_graph_find(s->graph, node) : NULL;
    const pipe_plugin *live;

    *out = NULL;
    if (!plugin)
        return PIPE_OK;
    if (n && strcmp(n->plugin->meta.name, plugin) == 0) {
        pipe_object *o;
        PIPE_TRY(pipei_component(s, pipei_task_of(s, n), &o, err));
        *out = pipe_object_ref(o);
        return PIPE_OK;
    }
    const pipei_plugin *p = s->env->registry ? pipei_registry_find(s->env->registry, plugin) : NULL;
    if (!p)
        return pipe_fail(err, PIPE_ENOTFOUND,
                         "the schedule %s, which the weights were trained under, is not installed", plugin);
    PIPE_TRY(pipei_registry_load(s->env->registry, p, &live, err));
    const json_t *params = json_object_get(j, "params");
    const char **pairs = pipe_alloc_array(2 * json_object_size(params) + 1, sizeof *pairs);
    const char *key;
    json_t *value;
    size_t count = 0;
    json_object_foreach((json_t *)(uintptr_t)params, key, value) {
        pairs[count++] = key;
        pairs[count++] = json_string_value(value);
    }
    const pipe_status status = pipei_object_create(live, node ? node : plugin, pairs, NULL, 0, t->ctx, out,
                                                   err);
    pipe_free(pairs);
    return status;
}

static pipe_status load_weights(pipei_session *s, pipei_task *t, const char *path, const json_t *description,
                                pipe_object **out, pipe_error *err)
{
    const char *origin = pipei_json_text(description, "origin");
    const pipei_node *n = origin ? pipei_graph_find(s->graph, origin) : NULL;
    pipe_object *made, *untrained, *schedule;

    if (!n || n->plugin->step)
        return pipe_fail(err, PIPE_EFORMAT, "the weights are of a node `%s` that the pipeline does not have",
                         origin ? origin : "?");
    PIPE_TRY(pipei_component(s, pipei_task_of(s, n), &untrained, err));
    PIPE_TRY(pipe_object_clone(untrained, t->ctx, &made, err));
    pipe_status status = made->model ? pipe_model_load(made->model, path, err)
                                     : pipe_fail(err, PIPE_EFORMAT, "%s has no weights", origin);
    if (status == PIPE_OK)
        status = find_schedule(s, t, json_object_get(description, "declared"), &schedule, err);
    if (status == PIPE_OK) {
        status = pipei_declared_load(description, schedule, made, err);
        pipe_object_unref(schedule);
    }
    if (status != PIPE_OK) {
        pipe_object_unref(made);
        return status;
    }
    *out = made;
    return PIPE_OK;
}

static pipe_status load_output(pipei_session *s, pipei_task *t, const json_t *description, pipe_error *err)
{
    const char *name = pipei_json_text(description, "name"), *file = pipei_json_text(description, "file");
    const char *type = pipei_json_text(description, "type");
    PIPE_CLEANUP(pipe_free_ptr) char *path = NULL;
    pipe_object *o;

    if (!name || !file || !type)
        return pipe_fail(err, PIPE_EFORMAT, "result.json describes an output without a name, file or type");
    PIPE_TRY(pipei_cache_check(s->env->cache, t->key, t->result, file, &path, err));
    PIPE_TRY(strcmp(type, "weights") == 0 ? load_weights(s, t, path, description, &o, err)
                                          : pipei_dataset_load(path, description, t->ctx, &o, err));
    const pipe_status status = pipe_yield(t->ctx, name, o, err);
    pipe_object_unref(o);
    return status;
}

/* A shared lock keeps `pipe cache gc` away meanwhile; what is mapped stays readable after it. */
pipe_status pipei_load_outputs(pipei_session *s, pipei_task *t, pipe_error *err)
{
    json_t *description;
    pipe_status status = PIPE_OK;
    size_t k;
    int lock;

    PIPE_TRY(pipei_cache_lock(s->env->cache, t->key, false, true, &lock, err));
    json_array_foreach(json_object_get(t->result, "outputs"), k, description)
        if (status == PIPE_OK)
            status = load_output(s, t, description, err);
    pipei_unlock(lock);
    if (status == PIPE_OK)
        t->loaded = true;
    return status;
}

/* ---- for people ---- */

pipe_status pipei_publish_weights(pipei_session *s, pipei_task *t, pipe_error *err)
{
    json_t *description;
    size_t k;

    if (!s->folder.partial)
        return PIPE_OK;
    json_array_foreach(json_object_get(t->result, "outputs"), k, description) {
        const char *name = pipei_json_text(description, "name"), *file = pipei_json_text(description, "file");
        const char *type = pipei_json_text(description, "type");
        if (!name || !file || !type || strcmp(type, "weights") != 0)
            continue;
        PIPE_CLEANUP(pipe_free_ptr) char *from = pipe_format("%s/%s/%s", s->env->cache->steps, t->key, file);
        PIPE_CLEANUP(pipe_free_ptr) char *to =
            pipe_format("%s/outputs/%s/%s.safetensors", s->folder.partial, t->node->name, name);
        if (!pipei_path_exists(to))                 /* the step's own file of that name comes first */
            PIPE_TRY(pipei_link_file(from, to, err));
    }
    if (t->result)
        return PIPE_OK;
    for (k = 0; k < t->ctx->n_yielded; k++) {       /* without a cache: written here and nowhere else */
        const pipei_yielded *y = &t->ctx->yielded[k];
        if (!y->object->model)
            continue;
        const char *path;
        json_t *unused;
        PIPE_CLEANUP(pipe_free_ptr) char *name = pipe_format("%s.safetensors", y->name);
        PIPE_TRY(pipe_output_path(t->ctx, name, &path, err));
        PIPE_TRY(pipei_value_save(y->object, path, &unused, err));
        json_decref(unused);
    }
    return PIPE_OK;
}
