/* `pipe runs` and `pipe show`: run folders, read back. */
#include "core/run/folder.h"
#include "core/run/json.h"
#include "core/run/run.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_number(const char *s)
{
    return *s && s[strspn(s, "0123456789")] == '\0';
}

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);

    return n >= m && strcmp(s + n - m, end) == 0;
}

/* *state: as the manifest says, but a run that nobody works on any more was killed. */
static const char *state_of(const char *folder, const json_t *manifest)
{
    const char *state = pipei_json_text(manifest, "state");

    if (!state || strcmp(state, "running") != 0)
        return state ? state : "unknown";
    return ends_with(folder, ".partial") && !pipei_folder_in_use(folder) ? "killed" : "running";
}

static void add_run(const char *folder, const char *name, json_t *list)
{
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "manifest.json");
    json_t *manifest = NULL;

    if (pipei_json_read(path, &manifest, NULL) != PIPE_OK)
        return;
    json_t *run = json_object();
    pipei_json_set_text(run, "run", name);
    pipei_json_set_text(run, "folder", folder);
    pipei_json_set_text(run, "pipeline", pipei_json_text(manifest, "pipeline"));
    pipei_json_set_text(run, "state", state_of(folder, manifest));
    pipei_json_set_text(run, "started", pipei_json_text(manifest, "started"));
    json_object_set(run, "seconds", json_object_get(manifest, "seconds"));
    if (json_array_size(json_object_get(manifest, "expect")))
        json_object_set(run, "expectations_met", json_object_get(manifest, "expectations_met"));
    json_array_append_new(list, run);
    json_decref(manifest);
}

/* Runs of one pipeline, and the members of its sweeps. */
static pipe_status add_pipeline(const char *folder, const char *prefix, bool sweep, json_t *list,
                                pipe_error *err)
{
    PIPE_CLEANUP(pipei_listing_free) pipei_listing entries = {0};

    PIPE_TRY(pipei_list_folder(folder, &entries, err));
    for (size_t k = 0; k < entries.count; k++) {
        const char *name = entries.entries[k].name;
        if (!entries.entries[k].is_folder || (sweep && !is_number(name) && !ends_with(name, ".partial")))
            continue;
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, name);
        PIPE_CLEANUP(pipe_free_ptr) char *full = pipe_format("%s/%s", prefix, name);
        if (!sweep && strncmp(name, "sweep-", 6) == 0)
            PIPE_TRY(add_pipeline(path, full, true, list, err));
        else
            add_run(path, full, list);
    }
    return PIPE_OK;
}

static void list_text(const json_t *list, pipe_text *out)
{
    size_t k, width = 3;
    json_t *run;

    json_array_foreach(list, k, run) {
        const size_t n = strlen(pipei_json_text(run, "run"));
        width = n > width ? n : width;
    }
    json_array_foreach(list, k, run) {
        const json_t *met = json_object_get(run, "expectations_met");
        const char *started = pipei_json_text(run, "started");
        char took[48];
        pipei_duration_text(pipei_json_number(run, "seconds", 0.0), took, sizeof took);
        pipe_text_addf(out, "%-*s  %-11s  %.19s  %12s%s\n", (int)width, pipei_json_text(run, "run"),
                       pipei_json_text(run, "state"), started ? started : "?", took,
                       !met ? "" : json_is_true(met) ? "  met" : "  NOT MET");
    }
    if (json_array_size(list) == 0)
        pipe_text_add(out, "no runs\n");
}

static void dump(const json_t *j, pipe_text *out)
{
    char *text = json_dumps(j, JSON_INDENT(2));

    pipe_text_addf(out, "%s\n", text ? text : "null");
    free(text);
}

pipe_status pipei_runs_list(const char *folder, bool json, pipe_text *out, pipe_error *err)
{
    PIPE_CLEANUP(pipei_json_free) json_t *list = json_array();
    PIPE_CLEANUP(pipei_listing_free) pipei_listing pipelines = {0};
    const char *root = folder ? folder : "runs";

    if (pipei_path_exists(root) || folder)
        PIPE_TRY(pipei_list_folder(root, &pipelines, err));
    for (size_t k = 0; k < pipelines.count; k++) {
        if (!pipelines.entries[k].is_folder)
            continue;
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(root, pipelines.entries[k].name);
        PIPE_TRY(add_pipeline(path, pipelines.entries[k].name, false, list, err));
    }
    if (json)
        dump(list, out);
    else
        list_text(list, out);
    return PIPE_OK;
}

/* ---- one run ---- */

static bool has_manifest(const char *folder)
{
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "manifest.json");

    return pipei_path_exists(path);
}

/* A folder, a name below runs/, a pipeline (its latest run), or the name of a run alone. */
static pipe_status find_run(const char *run, char **out, pipe_error *err)
{
    PIPE_CLEANUP(pipei_listing_free) pipei_listing pipelines = {0};
    char *const tries[] = {pipe_strdup(run), pipe_format("%s/latest", run), pipe_format("runs/%s", run),
                           pipe_format("runs/%s/latest", run)};

    *out = NULL;
    for (size_t k = 0; k < sizeof tries / sizeof tries[0]; k++) {
        if (!*out && has_manifest(tries[k]))
            *out = tries[k];
        else
            pipe_free(tries[k]);
    }
    if (*out || pipei_list_folder("runs", &pipelines, NULL) != PIPE_OK)
        pipelines.count = *out ? 0 : pipelines.count;
    for (size_t k = 0; k < pipelines.count && !*out; k++) {
        char *path = pipe_format("runs/%s/%s", pipelines.entries[k].name, run);
        if (has_manifest(path))
            *out = path;
        else
            pipe_free(path);
    }
    return *out ? PIPE_OK
                : pipe_fail(err, PIPE_ENOTFOUND,
                            "%s: there is no such run, neither as a folder nor below runs/; "
                            "`pipe runs` lists them",
                            run);
}

static void show_node(const json_t *node, int width, pipe_text *out)
{
    const json_t *metrics = json_object_get(node, "metrics");
    const char *name;
    json_t *value;
    char took[48];
    size_t k;

    if (!json_is_true(json_object_get(node, "step")))
        return;
    pipei_duration_text(pipei_json_number(node, "seconds", 0.0), took, sizeof took);
    pipe_text_addf(out, "  %-*s  %-11s  %12s  %s\n", width, pipei_json_text(node, "name"),
                   pipei_json_text(node, "state"), took, pipei_json_text(node, "plugin"));
    json_object_foreach((json_t *)(uintptr_t)metrics, name, value)
        pipe_text_addf(out, "  %-*s    %s %.6g\n", width, "", name, json_number_value(value));
    json_array_foreach(json_object_get(node, "files"), k, value) {
        if (k == 8) {
            pipe_text_addf(out, "  %-*s    and %zu more files\n", width, "",
                           json_array_size(json_object_get(node, "files")) - k);
            break;
        }
        pipe_text_addf(out, "  %-*s    outputs/%s/%s\n", width, "", pipei_json_text(node, "name"),
                       json_string_value(value));
    }
    if (pipei_json_text(node, "error"))
        pipe_text_addf(out, "  %-*s    %s\n", width, "", pipei_json_text(node, "error"));
}

static void show_text(const char *folder, const json_t *m, pipe_text *out)
{
    const json_t *device = json_object_get(m, "device");
    json_t *item;
    size_t k;
    int width = 4;
    char took[48];

    pipei_duration_text(pipei_json_number(m, "seconds", 0.0), took, sizeof took);
    pipe_text_addf(out, "%s\n", folder);
    pipe_text_addf(out, "pipeline  %s\nstate     %s\nstarted   %s, took %s\n", pipei_json_text(m, "pipeline"),
                   state_of(folder, m), pipei_json_text(m, "started"), took);
    pipe_text_addf(out, "seed      %s\ndevice    %s\npipe      %s\n", pipei_json_text(m, "seed"),
                   json_is_object(device) ? pipei_json_text(device, "name")
                                          : "none: nothing had to be computed",
                   pipei_json_text(m, "pipe"));
    if (json_array_size(json_object_get(m, "command"))) {
        pipe_text_add(out, "command  ");
        json_array_foreach(json_object_get(m, "command"), k, item)
            pipe_text_addf(out, " %s", json_string_value(item));
        pipe_text_add(out, "\n");
    }
    if (pipei_json_text(m, "error"))
        pipe_text_addf(out, "error     %s\n", pipei_json_text(m, "error"));
    pipe_text_add(out, "steps\n");
    json_array_foreach(json_object_get(m, "nodes"), k, item) {
        const int n = (int)strlen(pipei_json_text(item, "name"));
        width = n > width && json_is_true(json_object_get(item, "step")) ? n : width;
    }
    json_array_foreach(json_object_get(m, "nodes"), k, item)
        show_node(item, width, out);
    if (json_array_size(json_object_get(m, "expect")))
        pipe_text_add(out, "expectations\n");
    json_array_foreach(json_object_get(m, "expect"), k, item) {
        pipe_text_addf(out, "  %s.%s ", pipei_json_text(item, "node"), pipei_json_text(item, "metric"));
        if (json_is_number(json_object_get(item, "value")))
            pipe_text_addf(out, "%.6g", pipei_json_number(item, "value", 0.0));
        else
            pipe_text_add(out, "never reported");
        if (json_object_get(item, "min"))
            pipe_text_addf(out, ", min %.6g", pipei_json_number(item, "min", 0.0));
        if (json_object_get(item, "max"))
            pipe_text_addf(out, ", max %.6g", pipei_json_number(item, "max", 0.0));
        pipe_text_addf(out, ": %s\n", json_is_true(json_object_get(item, "met")) ? "met" : "NOT MET");
    }
}

/* Everything show_text() relies on: a folder may hold anybody's manifest.json. */
static pipe_status check_manifest(const char *path, const json_t *m, pipe_error *err)
{
    static const char *const texts[] = {"pipeline", "started", "seed", "pipe"};
    json_t *node;
    size_t k;

    for (k = 0; k < sizeof texts / sizeof texts[0]; k++)
        if (!pipei_json_text(m, texts[k]))
            return pipe_fail(err, PIPE_EFORMAT, "%s: is not the manifest of a run: there is no `%s`", path,
                             texts[k]);
    json_array_foreach(json_object_get(m, "nodes"), k, node)
        if (!pipei_json_text(node, "name") || !pipei_json_text(node, "plugin"))
            return pipe_fail(err, PIPE_EFORMAT, "%s: node %zu has no name or plugin", path, k);
    return PIPE_OK;
}

pipe_status pipei_runs_show(const char *run, bool json, pipe_text *out, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *folder = NULL;
    PIPE_CLEANUP(pipei_json_free) json_t *manifest = NULL;

    PIPE_TRY(find_run(run, &folder, err));
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "manifest.json");
    PIPE_TRY(pipei_json_read(path, &manifest, err));
    PIPE_TRY(check_manifest(path, manifest, err));
    if (json)
        dump(manifest, out);
    else
        show_text(folder, manifest, out);
    return PIPE_OK;
}
