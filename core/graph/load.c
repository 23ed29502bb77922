/* From a file (with its includes and overrides) to a checked graph. */
#include "core/base/file.h"
#include "core/graph/load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { INCLUDE_DEPTH = 32 };

#define STANDARD_INPUT "<stdin>"

static void read_root(pipei_loader *l, const pipei_source *s, unsigned depth);

static bool is_standard(const char *path)
{
    return strcmp(path, "-") == 0 || strcmp(path, STANDARD_INPUT) == 0;
}

void *pipei_grow(pipe_arena *a, void *old, size_t n, size_t *room, size_t each)
{
    if (n < *room)
        return old;
    *room = *room ? 2 * *room : 8;
    void *new = pipe_arena_alloc(a, *room * each);
    if (n)
        memcpy(new, old, n * each);
    return new;
}

pipei_source *pipei_source_add(pipei_loader *l, const char *name, const char *folder)
{
    pipei_reporter *r = &l->reporter;
    pipei_source *s = pipe_arena_alloc(l->arena, sizeof *s);
    s->name = pipe_arena_strdup(l->arena, name);
    s->folder = pipe_arena_strdup(l->arena, folder);
    s->text = "";
    s->order = r->n_sources;
    r->source = pipei_grow(l->arena, r->source, r->n_sources, &r->room, sizeof *r->source);
    r->source[r->n_sources++] = s;
    return s;
}

pipei_raw *pipei_raw_find(const pipei_raws *r, const char *name)
{
    const uint64_t hash = pipei_yaml_hash(name);
    for (size_t k = 0; k < r->n; k++)
        if (r->v[k].hash == hash && strcmp(r->v[k].name, name) == 0)
            return &r->v[k];
    return NULL;
}

void pipei_raw_add(pipei_loader *l, pipei_raws *r, const char *name, const pipei_position *at,
                   pipei_yaml *value)
{
    r->v = pipei_grow(l->arena, r->v, r->n, &r->room, sizeof *r->v);
    r->v[r->n++] = (pipei_raw){.name = name, .hash = pipei_yaml_hash(name), .at = *at, .value = value};
}

const char *pipei_did_you_mean(pipei_loader *l, const char *word, const char *const *names, size_t n)
{
    const char *near = pipe_nearest(word, names, n);
    return near ? pipe_arena_format(l->arena, "did you mean %s?", near) : NULL;
}

const char *pipei_raw_nearest(pipei_loader *l, const pipei_raws *r, const char *word)
{
    const char **names = pipe_arena_alloc(l->arena, (r->n + 1) * sizeof *names);
    for (size_t k = 0; k < r->n; k++)
        names[k] = r->v[k].name;
    return pipei_did_you_mean(l, word, names, r->n);
}

/* ---- include ---- */
static const char *absolute_folder(pipei_loader *l, const char *path)
{
    PIPE_CLEANUP(pipe_free_ptr) char *folder = pipei_path_folder(path);
    PIPE_CLEANUP(pipe_free_ptr) char *resolved = realpath(folder, NULL);
    return pipe_arena_strdup(l->arena, resolved ? resolved : folder);
}

static bool read_text(pipei_loader *l, pipei_source *s, const char *path, pipe_error *err)
{
    char *data = NULL;
    struct stat st;
    const bool standard = strcmp(path, "-") == 0;
    if (!standard && pipei_is_folder(path)) {
        pipe_fail(err, PIPE_EINVAL, "%s is a folder, not a pipeline", path);
        return false;
    }
    const pipe_status status =
        standard ? pipei_fd_read(STDIN_FILENO, "standard input", PIPEI_YAML_BYTES, &data, &s->length, err)
                 : pipei_file_read(path, PIPEI_YAML_BYTES, &data, &s->length, err);
    if (status != PIPE_OK)
        return false;
    s->text = pipe_arena_strndup(l->arena, data, s->length);
    if (memchr(data, '\0', s->length)) {            /* kept for the message about it */
        char *copy = pipe_arena_alloc(l->arena, s->length + 1);
        memcpy(copy, data, s->length);
        s->text = copy;
    }
    pipe_free(data);
    if (!standard && stat(path, &st) == 0) {
        s->device = st.st_dev;
        s->inode = st.st_ino;
    }
    return true;
}

static bool same_file(const pipei_source *a, const pipei_source *b)
{
    return a->inode && a->inode == b->inode && a->device == b->device;
}

static void include_one(pipei_loader *l, const pipei_source *from, const pipei_yaml *y, unsigned depth)
{
    pipe_error err = PIPE_ERROR_INIT;
    if (y->type != PIPEI_YAML_SCALAR || y->text[0] == '\0') {
        pipei_report_error(&l->reporter, &y->at, NULL, "include takes a file name or a list of them");
        return;
    }
    if (depth > INCLUDE_DEPTH) {
        pipei_report_error(&l->reporter, &y->at, NULL, "includes are nested more than %d deep",
                           INCLUDE_DEPTH);
        return;
    }
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(from->folder, y->text);
    /* Shown as the user would write it: beside the including file's own name. */
    PIPE_CLEANUP(pipe_free_ptr) char *beside = strchr(from->name, '/') ? pipei_path_folder(from->name) : NULL;
    PIPE_CLEANUP(pipe_free_ptr) char *name = pipei_path_join(beside, y->text);

    pipei_source *s = pipei_source_add(l, name, absolute_folder(l, path));
    s->parent = from;
    s->from = y->at;
    if (!read_text(l, s, path, &err)) {
        pipei_report_error(&l->reporter, &y->at, "include is relative to the file that it stands in",
                           "include: %s", err.message);
        return;
    }
    for (const pipei_source *p = from; p; p = p->parent)
        if (same_file(p, s)) {
            pipei_report_error(&l->reporter, &y->at, NULL, "%s includes itself%s", p->name,
                               p == from ? "" : pipe_arena_format(l->arena, " through %s", from->name));
            return;
        }
    for (size_t k = 0; k + 1 < l->reporter.n_sources; k++)
        if (same_file(l->reporter.source[k], s))
            return;                             /* two files may share a third: it counts once */
    read_root(l, s, depth);
}

/* ---- top level ---- */
static void read_scalar(pipei_loader *l, const char *key, pipei_yaml *y, pipei_yaml **out)
{
    if (y->type != PIPEI_YAML_SCALAR)
        pipei_report_error(&l->reporter, &y->at, NULL, "%s is one value, not %s", key,
                           pipei_yaml_type_name(y));
    else if (!*out)                             /* the including file comes first and wins */
        *out = y;
}

static void read_section(pipei_loader *l, const char *key, const pipei_yaml *y, pipei_raws *out,
                         bool first_wins)
{
    if (pipei_yaml_null(y))
        return;
    if (y->type != PIPEI_YAML_MAP) {
        pipei_report_error(&l->reporter, &y->at, NULL, "%s is a mapping from names, not %s", key,
                           pipei_yaml_type_name(y));
        return;
    }
    for (size_t k = 0; k < y->n; k++) {
        pipei_raw *before = pipei_raw_find(out, y->key[k]->text);
        if (before)
            before->used = true;
        if (before && first_wins)
            continue;
        if (before)
            pipei_report_error(&l->reporter, &y->key[k]->at, NULL, "%s: %s is already defined at %s", key,
                               y->key[k]->text, pipei_position_text(&l->reporter, &before->at, l->arena));
        else
            pipei_raw_add(l, out, y->key[k]->text, &y->key[k]->at, y->item[k]);
    }
}

static void check_language(pipei_loader *l, const pipei_yaml *y)
{
    const char *text = y->type == PIPEI_YAML_SCALAR ? y->text : "";
    const bool number = text[0] && text[strspn(text, "0123456789")] == '\0';
    if (strcmp(text, "1") == 0)
        return;
    if (number)
        pipei_report_error(&l->reporter, &y->at, "write language: 1",
                           "language %s is newer than this program", text);
    else
        pipei_report_error(&l->reporter, &y->at, "write language: 1", "language is a number");
}

static void read_root(pipei_loader *l, const pipei_source *s, unsigned depth)
{
    static const char *const keys[] = {"language", "pipeline", "seed",  "device", "include",
                                       "vars",     "nodes",    "sweep", "expect"};
    pipei_yaml *root = pipei_yaml_parse(s, s->text, s->length, 0, &l->nodes, l->arena, &l->reporter);
    if (!root)
        return;
    if (root->type != PIPEI_YAML_MAP) {
        pipei_report_error(&l->reporter, &root->at, "nodes: {solver: {plugin: sampler.ddim}}",
                           "a pipeline is a mapping with the key nodes, not %s", pipei_yaml_type_name(root));
        return;
    }
    pipei_yaml *include = NULL;
    for (size_t k = 0; k < root->n; k++) {
        const char *key = root->key[k]->text;
        pipei_yaml *y = root->item[k];
        if (strcmp(key, "language") == 0)
            check_language(l, y);
        else if (strcmp(key, "pipeline") == 0)
            read_scalar(l, key, y, &l->pipeline);
        else if (strcmp(key, "seed") == 0)
            read_scalar(l, key, y, &l->seed);
        else if (strcmp(key, "device") == 0)
            read_scalar(l, key, y, &l->device);
        else if (strcmp(key, "vars") == 0)
            read_section(l, key, y, &l->vars, true);
        else if (strcmp(key, "nodes") == 0)
            read_section(l, key, y, &l->raw, false);
        else if (strcmp(key, "sweep") == 0)
            read_section(l, key, y, &l->sweep, true);
        else if (strcmp(key, "expect") == 0)
            read_section(l, key, y, &l->expect, true);
        else if (strcmp(key, "include") == 0)
            include = y;
        else {
            const char *help = pipei_did_you_mean(l, key, keys, sizeof keys / sizeof keys[0]);
            pipei_report_error(
                &l->reporter, &root->key[k]->at,
                help ? help
                     : "at the top level: language, pipeline, seed, device, include, vars, nodes, sweep, "
                       "expect; nodes go under nodes:",
                "unknown key %s", key);
        }
    }
    /* After this file's own names, which win over those of what it includes. */
    include = include ? pipei_expand(l, include) : NULL;
    if (include && include->type == PIPEI_YAML_LIST)
        for (size_t k = 0; k < include->n; k++)
            include_one(l, s, include->item[k], depth + 1);
    else if (include)
        include_one(l, s, include, depth + 1);
}

static void expand_section(pipei_loader *l, pipei_raws *r)
{
    for (size_t k = 0; k < r->n; k++) {
        pipei_raw *raw = &r->v[k];
        if (!raw->value || raw->state != 0)     /* expanding twice would undo the escape $${ */
            continue;
        raw->state = 1;
        raw->value = pipei_expand(l, raw->value);
        raw->state = 2;
    }
}

static void expand_scalar(pipei_loader *l, const char *key, pipei_yaml **y)
{
    pipei_yaml *new = *y ? pipei_expand(l, *y) : NULL;
    *y = NULL;
    if (new)
        read_scalar(l, key, new, y);
}

static void finish_header(pipei_loader *l, const char *path)
{
    pipei_graph *g = l->graph;
    expand_scalar(l, "pipeline", &l->pipeline);
    expand_scalar(l, "seed", &l->seed);
    expand_scalar(l, "device", &l->device);
    if (l->pipeline) {
        g->name = l->pipeline->text;
        if (g->name[0] == '\0' || g->name[0] == '.' || strlen(g->name) > 100 || strpbrk(g->name, "/\\ :\t\n"))
            pipei_report_error(&l->reporter, &l->pipeline->at, NULL,
                               "pipeline: \"%s\" cannot name a folder: letters, "
                               "digits, hyphens, underscores and dots, at most 100",
                               g->name);
    } else {
        const char *name = is_standard(path) ? "pipeline" : pipei_path_name(path);
        const char *extension = pipei_path_extension(name);
        const bool yaml = strcmp(extension, "yaml") == 0 || strcmp(extension, "yml") == 0;
        const size_t n = strlen(name) - (yaml ? strlen(extension) + 1 : 0);
        g->name = pipe_arena_strndup(l->arena, name, n);
    }
    if (l->seed) {
        char *end;
        errno = 0;
        g->seed = strtoull(l->seed->text, &end, 10);
        if (l->seed->text[0] < '0' || l->seed->text[0] > '9' || *end || errno)
            pipei_report_error(&l->reporter, &l->seed->at, "an integer from 0 to 18446744073709551615",
                               "seed: \"%s\" is not a seed", l->seed->text);
    }
    g->device = l->device ? l->device->text : "auto";
}

static pipe_status build(pipei_loader *l, const char *path, const pipei_source *main,
                         const char *const *overrides, size_t n_overrides, pipe_error *err)
{
    pipei_overrides_read(l, overrides, n_overrides);
    read_root(l, main, 0);
    /* A file that could not be read as YAML makes everything else look wrong. */
    const bool readable = l->reporter.diag->errors == 0 || l->raw.n > 0;
    if (readable) {
        pipei_overrides_apply(l);
        finish_header(l, path);
        pipei_raws *sections[] = {&l->vars, &l->raw, &l->expect, &l->sweep};
        for (size_t k = 0; k < 4; k++)
            expand_section(l, sections[k]);
        pipei_check_set_vars(l);
        if (l->raw.n == 0) {
            const pipei_position at = {.file = main->name, .line = 1, .column = 1, .length = 1};
            pipei_report_error(&l->reporter, &at, "nodes: {solver: {plugin: sampler.ddim}}",
                               "there are no nodes");
        } else {
            pipei_check_nodes(l);
            pipei_check_order(l);
            pipei_check_targets(l);
        }
    }
    pipei_report_finish(&l->reporter);
    const size_t errors = l->reporter.diag->errors;
    if (errors)
        return pipe_fail(err, PIPE_EPIPELINE, "%s: %zu error%s", main->name, errors, errors == 1 ? "" : "s");
    return PIPE_OK;
}

static pipei_graph *new_graph(void)
{
    pipe_arena *a = pipe_arena_new();
    pipei_graph *g = pipe_arena_alloc(a, sizeof *g);
    g->arena = a;
    return g;
}

static pipe_status load(const char *path, const char *text, size_t length, const char *const *overrides,
                        size_t n_overrides, pipei_registry *reg, pipei_graph **out, pipei_diagnostics *diag,
                        pipe_error *err)
{
    pipei_graph *g = new_graph();
    pipei_loader l = {.registry = reg, .arena = g->arena, .graph = g, .reporter = {.diag = diag}};
    const bool standard = is_standard(path);
    PIPE_CLEANUP(pipe_free_ptr) char *cwd = realpath(".", NULL);
    struct stat st;
    pipei_diagnostics_free(diag);           /* a caller may load again with the same one */

    /* What comes through a pipe stands nowhere: its paths are relative to the working directory. */
    const bool nowhere = standard || (stat(path, &st) == 0 && !S_ISREG(st.st_mode));
    const char *folder = !nowhere ? absolute_folder(&l, path) : cwd ? cwd : ".";
    pipei_source *s = pipei_source_add(&l, standard ? STANDARD_INPUT : path, folder);
    l.cwd = pipei_source_add(&l, "--set", cwd ? cwd : ".");
    pipe_status status = PIPE_OK;
    if (text) {
        char *copy = pipe_arena_alloc(l.arena, length + 1);
        if (length)
            memcpy(copy, text, length);
        s->text = copy;
        s->length = length;
    } else if (!read_text(&l, s, path, err)) {
        status = err ? err->status : PIPE_EIO;
    }
    if (status == PIPE_OK)
        status = build(&l, path, s, overrides, n_overrides, err);
    if (status != PIPE_OK) {
        pipe_arena_free(g->arena);
        return status;
    }
    g->path = s->name;
    g->text = s->text;
    g->text_length = s->length;
    *out = g;
    return PIPE_OK;
}

pipe_status pipei_graph_load(const char *path, const char *const *overrides, size_t n_overrides,
                             pipei_registry *reg, pipei_graph **out, pipei_diagnostics *diag, pipe_error *err)
{
    return load(path, NULL, 0, overrides, n_overrides, reg, out, diag, err);
}

pipe_status pipei_graph_load_text(const char *text, size_t length, const char *name,
                                  const char *const *overrides, size_t n_overrides, pipei_registry *reg,
                                  pipei_graph **out, pipei_diagnostics *diag, pipe_error *err)
{
    return load(name, text, length, overrides, n_overrides, reg, out, diag, err);
}

void pipei_graph_free(pipei_graph *g)
{
    if (g)
        pipe_arena_free(g->arena);
}
