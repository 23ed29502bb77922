/* Nodes against their plugins' descriptors: names, parameters, references. */
#include "core/base/file.h"
#include "core/graph/load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAME_MAX_LENGTH = 64 };

static size_t count_params(const pipe_param *p)
{
    size_t n = 0;
    while (p && p[n].name)
        n++;
    return n;
}

static size_t count_inputs(const pipe_input *p)
{
    size_t n = 0;
    while (p && p[n].name)
        n++;
    return n;
}

size_t pipei_param_index(const pipei_plugin *p, const char *name, bool *deprecated)
{
    const size_t n = count_params(p->meta.params);
    *deprecated = false;
    for (size_t k = 0; k < n; k++)
        if (strcmp(p->meta.params[k].name, name) == 0)
            return k;
    for (size_t k = 0; k < n; k++)
        if (p->meta.params[k].alias && strcmp(p->meta.params[k].alias, name) == 0) {
            *deprecated = true;
            return k;
        }
    return SIZE_MAX;
}

size_t pipei_input_index(const pipei_plugin *p, const char *name)
{
    const size_t n = count_inputs(p->meta.inputs);
    for (size_t k = 0; k < n; k++)
        if (strcmp(p->meta.inputs[k].name, name) == 0)
            return k;
    return SIZE_MAX;
}

pipei_draft *pipei_draft_find(const pipei_loader *l, const char *name)
{
    for (size_t k = 0; k < l->n_drafts; k++)
        if (strcmp(l->draft[k]->node.name, name) == 0)
            return l->draft[k];
    return NULL;
}

/* ---- plugins ---- */
const pipei_plugin *pipei_check_plugin(pipei_loader *l, const pipei_yaml *y)
{
    if (y->type != PIPEI_YAML_SCALAR) {
        pipei_report_error(&l->reporter, &y->at, "plugin: sampler.ddim", "plugin is a name, not %s",
                           pipei_yaml_type_name(y));
        return NULL;
    }
    const char *at = strchr(y->text, '@');
    const char *name = at ? pipe_arena_strndup(l->arena, y->text, (size_t)(at - y->text)) : y->text;
    const pipei_plugin *p = pipei_registry_find(l->registry, name);
    if (!p) {
        const char *near = pipei_registry_nearest(l->registry, name, NULL);
        pipei_report_error(
            &l->reporter, &y->at,
            near ? pipe_arena_format(l->arena, "did you mean %s?", near)
                 : "`pipe inspect` lists the plugins, `pipe inspect --broken` those that could not be loaded",
            "there is no plugin %s", *name ? name : "without a name");
        return NULL;
    }
    if (at) {
        char *end;
        const unsigned long wanted = strtoul(at + 1, &end, 10), major = strtoul(p->meta.version, NULL, 10);
        if (at[1] < '0' || at[1] > '9' || *end || wanted != major) {
            pipei_report_error(&l->reporter, &y->at, pipe_arena_format(l->arena, "%s@%lu", name, major),
                               "plugin %s has version %s, not %s", name, p->meta.version, at + 1);
            return NULL;
        }
    }
    return p;
}

static const char *tail(const char *plugin_name)
{
    const char *dot = strchr(plugin_name, '.');
    return dot ? dot + 1 : plugin_name;
}

/* A sampler's prefix is its kind; guidance.cfg is a denoiser too, but
 * denoiser.cfg would come first. */
const pipei_plugin *pipei_shorthand(const pipei_registry *r, const char *kinds, const char *word)
{
    const pipei_plugin *found = NULL;
    if (strcmp(kinds, "any") == 0)
        return NULL;                                /* cosine could be anything */
    for (size_t k = 0; k < pipei_registry_count(r); k++) {
        const pipei_plugin *p = pipei_registry_at(r, k);
        if (p->step || strcmp(tail(p->meta.name), word) != 0 || !pipei_kind_matches(kinds, p->meta.kind))
            continue;
        const size_t n = strlen(p->meta.kind);
        if (strncmp(p->meta.name, p->meta.kind, n) == 0 && p->meta.name[n] == '.')
            return p;
        if (!found)
            found = p;
    }
    return found;
}

/* ---- drafts ---- */
static pipei_draft *new_draft(pipei_loader *l, const char *name, bool anonymous, const pipei_position *at,
                              const pipei_plugin *plugin)
{
    pipei_draft *d = pipe_arena_alloc(l->arena, sizeof *d);
    pipei_node *n = &d->node;
    n->name = name;
    n->anonymous = anonymous;
    n->at = *at;
    n->plugin = plugin;
    n->written = l->n_drafts;
    d->plugin_at = *at;
    if (plugin) {
        n->n_params = count_params(plugin->meta.params);
        n->n_inputs = count_inputs(plugin->meta.inputs);
        n->param = pipe_arena_alloc(l->arena, (n->n_params + 1) * sizeof *n->param);
        n->param_at = pipe_arena_alloc(l->arena, (n->n_params + 1) * sizeof *n->param_at);
        n->input = pipe_arena_alloc(l->arena, (n->n_inputs + 1) * sizeof *n->input);
        n->input_count = pipe_arena_alloc(l->arena, (n->n_inputs + 1) * sizeof *n->input_count);
    }
    l->draft = pipei_grow(l->arena, l->draft, l->n_drafts, &l->draft_room, sizeof *l->draft);
    l->draft[l->n_drafts++] = d;
    return d;
}

static pipei_draft *draft_of_map(pipei_loader *l, const char *name, bool anonymous, const pipei_position *at,
                                 pipei_yaml *map)
{
    const pipei_plugin *plugin = NULL;
    const pipei_yaml *y = NULL;
    if (map && map->type != PIPEI_YAML_MAP) {
        pipei_report_error(&l->reporter, at, pipe_arena_format(l->arena, "%s: {plugin: ...}", name),
                           "%s: a node is a mapping with the key plugin, not %s", name,
                           pipei_yaml_type_name(map));
        map = NULL;
    } else if (map) {
        y = pipei_yaml_get(map, "plugin");
        if (y)
            plugin = pipei_check_plugin(l, y);
        else
            pipei_report_error(&l->reporter, at, pipe_arena_format(l->arena, "%s: {plugin: ...}", name),
                               "%s: the key plugin is missing", name);
    }
    pipei_draft *d = new_draft(l, name, anonymous, at, plugin);
    d->map = map;
    if (y)
        d->plugin_at = y->at;
    return d;
}

static void check_name(pipei_loader *l, const pipei_raw *raw)
{
    static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    static const char rest[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789-";
    const char *s = raw->name;
    if (*s == '\0' || !strchr(first, *s) || s[strspn(s, rest)] != '\0' || strlen(s) > NAME_MAX_LENGTH)
        pipei_report_error(&l->reporter, &raw->at, NULL,
                           "\"%s\" cannot name a node: letters, digits, hyphens and "
                           "underscores, a letter first, at most %d",
                           s, NAME_MAX_LENGTH);
    else if (strcmp(s, "vars") == 0)
        pipei_report_error(&l->reporter, &raw->at, NULL,
                           "a node cannot be called vars: vars.NAME means a variable");
}

/* ---- parameters ---- */
static const char *nearest_file(pipei_loader *l, const char *path)
{
    PIPE_CLEANUP(pipe_free_ptr) char *folder = pipei_path_folder(path);
    PIPE_CLEANUP(pipei_listing_free) pipei_listing list = {0};
    pipe_error err = PIPE_ERROR_INIT;
    if (!pipei_path_exists(folder))
        return pipe_arena_format(l->arena, "the folder %s does not exist either", folder);
    if (pipei_list_folder(folder, &list, &err) != PIPE_OK)
        return NULL;
    const char **names = pipe_arena_alloc(l->arena, (list.count + 1) * sizeof *names);
    for (size_t k = 0; k < list.count; k++)
        names[k] = list.entries[k].name;
    const char *near = pipe_nearest(pipei_path_name(path), names, list.count);
    return near ? pipe_arena_format(l->arena, "%s has %s", folder, near) : NULL;
}

static bool check_file(pipei_loader *l, const char *path, const pipei_yaml *y, const char *who)
{
    if (path[0] == '\0' || access(path, R_OK) == 0)
        return true;
    const int code = errno;
    const bool absent = code == ENOENT || code == ENOTDIR;
    pipei_report_error(&l->reporter, &y->at, absent ? nearest_file(l, path) : NULL, "%s: %s%s%s", who, path,
                       absent ? " does not exist" : ": ", absent ? "" : strerror(code));
    return false;
}

static const char *absolute_path(pipei_loader *l, const char *text, const char *folder)
{
    while (strncmp(text, "./", 2) == 0)
        text += 2;
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, text);
    return pipe_arena_strdup(l->arena, path);
}

const pipei_given *pipei_check_param(pipei_loader *l, const pipei_plugin *p, const pipe_param *row,
                                     const pipei_yaml *y, const char *who)
{
    const char *help = pipe_arena_format(l->arena, "%s %s: %s", p->meta.name, row->name,
                                         pipei_param_describe(row, l->arena));
    if (y->type == PIPEI_YAML_MAP) {
        pipei_report_error(&l->reporter, &y->at, help, "%s: a parameter cannot be a mapping", who);
        return NULL;
    }
    const bool list = y->type == PIPEI_YAML_LIST;
    const size_t n = list ? y->n : 1;
    const char **text = pipe_arena_alloc(l->arena, (n + 1) * sizeof *text);
    for (size_t k = 0; k < n; k++) {
        const pipei_yaml *item = list ? y->item[k] : y;
        if (item->type != PIPEI_YAML_SCALAR) {
            pipei_report_error(&l->reporter, &item->at, help, "%s: a list of lists or mappings is no value",
                               who);
            return NULL;
        }
        text[k] = item->text;
    }
    pipei_given *given = pipe_arena_alloc(l->arena, sizeof *given);
    *given = (pipei_given){.list = list, .text = text, .n = n};
    pipe_error err = PIPE_ERROR_INIT;
    size_t bad = 0;
    if (pipei_param_check(row, given, &bad, &err) != PIPE_OK) {
        const pipei_yaml *where = list && bad < n ? y->item[bad] : y;
        pipei_report_error(&l->reporter, &where->at, help, "%s: %s", who, err.message);
        return NULL;
    }
    if (row->type == PIPE_TYPE_PATH && text[0][0] != '\0') {
        const pipei_position origin = {.file = y->origin};
        const pipei_source *s = pipei_source_of(&l->reporter, &origin);
        text[0] = absolute_path(l, text[0], s ? s->folder : l->cwd->folder);
        if ((row->flags & PIPE_PARAM_INPUT_FILE) && !check_file(l, text[0], y, who))
            return NULL;
    }
    return given;
}

/* ---- references ---- */
static void report_unknown_reference(pipei_loader *l, const pipe_input *row, const pipei_yaml *y,
                                     const char *who)
{
    const size_t count = pipei_registry_count(l->registry);
    const char **names = pipe_arena_alloc(l->arena, (l->n_drafts + count + 1) * sizeof *names);
    size_t n = 0;
    for (size_t k = 0; k < l->n_drafts; k++)
        if (!l->draft[k]->node.anonymous)
            names[n++] = l->draft[k]->node.name;
    const char *near = pipe_nearest(y->text, names, n);
    PIPE_CLEANUP(pipe_text_free) pipe_text shorthands = {0};
    const bool any = strcmp(row->kind, "any") == 0;
    for (size_t k = 0; k < count && !any; k++) {
        const pipei_plugin *p = pipei_registry_at(l->registry, k);
        if (p->step || !strchr(p->meta.name, '.') || !pipei_kind_matches(row->kind, p->meta.kind))
            continue;
        names[n++] = tail(p->meta.name);
        pipe_text_addf(&shorthands, "%s%s", shorthands.length ? ", " : "", tail(p->meta.name));
    }
    if (!near)
        near = pipe_nearest(y->text, names, n);
    const char *help =
        near ? pipe_arena_format(l->arena, "did you mean %s?", near)
        : shorthands.length && shorthands.length < 300
            ? pipe_arena_format(l->arena, "a node of kind %s, or one of %s", row->kind, shorthands.data)
        : any ? NULL
              : pipe_arena_format(l->arena, "a node of kind %s", row->kind);
    pipei_report_error(&l->reporter, &y->at, help, "%s: there is no node %s", who, y->text);
}

/* Which outputs a node offers, for messages. */
static const char *list_outputs(pipei_loader *l, const pipei_plugin *p, const char *node)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    for (const pipe_output *o = p->meta.outputs; o && o->name; o++)
        pipe_text_addf(&t, "%s.%s, ", node, o->name);
    pipe_text_addf(&t, "%s.metrics", node);
    return pipe_arena_strdup(l->arena, t.data);
}

static bool check_output(pipei_loader *l, const pipei_draft *from, const char *output, const pipei_yaml *y,
                         const char *who)
{
    const pipei_plugin *p = from->node.plugin;
    if (!p->step) {
        pipei_report_error(&l->reporter, &y->at, pipe_arena_format(l->arena, "write %s", from->node.name),
                           "%s: %s is a %s and has no outputs", who, from->node.name, p->meta.kind);
        return false;
    }
    if (strcmp(output, "metrics") == 0)
        return true;
    const char *names[64];
    size_t n = 0;
    for (const pipe_output *o = p->meta.outputs; o && o->name; o++) {
        if (strcmp(o->name, output) == 0)
            return true;
        if (n < 63)
            names[n++] = o->name;
    }
    names[n++] = "metrics";
    const char *near = pipei_did_you_mean(l, output, names, n);
    pipei_report_error(&l->reporter, &y->at, near ? near : list_outputs(l, p, from->node.name),
                       "%s: %s (%s) has no output %s", who, from->node.name, p->meta.name, output);
    return false;
}

static void refer_scalar(pipei_loader *l, const char *name, const pipe_input *row, const pipei_yaml *y,
                         const char *who, pipei_edge *edge)
{
    pipei_draft *from = pipei_draft_find(l, y->text);
    if (from && !from->node.anonymous) {
        edge->from = &from->node;
        return;
    }
    const char *dot = strchr(y->text, '.');
    if (dot) {
        from = pipei_draft_find(l, pipe_arena_strndup(l->arena, y->text, (size_t)(dot - y->text)));
        if (from && !from->node.anonymous) {
            if (!from->node.plugin || check_output(l, from, dot + 1, y, who)) {
                edge->from = &from->node;
                edge->output = pipe_arena_strdup(l->arena, dot + 1);
            }
            return;
        }
    } else {
        const pipei_plugin *p = pipei_shorthand(l->registry, row->kind, y->text);
        if (p) {
            edge->from = &new_draft(l, name, true, &y->at, p)->node;
            return;
        }
    }
    report_unknown_reference(l, row, y, who);
}

static void refer(pipei_loader *l, pipei_draft *d, const pipe_input *row, pipei_yaml *y, const char *name,
                  pipei_edge *edge)
{
    const char *who = pipe_arena_format(l->arena, "%s.%s", d->node.name, row->name);
    edge->at = y->at;
    if (y->type == PIPEI_YAML_LIST)
        pipei_report_error(&l->reporter, &y->at, NULL, "%s: a list cannot stand in a list", who);
    else if (y->type == PIPEI_YAML_MAP)
        edge->from = &draft_of_map(l, name, true, &y->at, y)->node;
    else
        refer_scalar(l, name, row, y, who, edge);
}

static void check_input(pipei_loader *l, pipei_draft *d, size_t k, pipei_yaml *y)
{
    const pipe_input *row = &d->node.plugin->meta.inputs[k];
    const char *base = pipe_arena_format(l->arena, "%s.%s", d->node.name, row->name);
    const bool list = y->type == PIPEI_YAML_LIST;
    if (pipei_yaml_null(y))
        return;                                     /* the same as not given: an override can take it back */
    const size_t n = list ? y->n : 1;
    pipei_edge *edges = pipe_arena_alloc(l->arena, (n + 1) * sizeof *edges);
    d->node.input[k] = edges;
    d->node.input_count[k] = n;
    if (list && !(row->flags & PIPE_LIST)) {
        pipei_report_error(&l->reporter, &y->at, NULL, "%s: takes one %s, not a list", base, row->kind);
        edges[0].at = y->at;
        d->node.input_count[k] = 1;                 /* so that it is not missing as well */
        return;
    }
    for (size_t i = 0; i < n; i++)
        refer(l, d, row, list ? y->item[i] : y,
              row->flags & PIPE_LIST ? pipe_arena_format(l->arena, "%s.%zu", base, i) : base, &edges[i]);
    if (n == 0 && !(row->flags & PIPE_OPTIONAL)) {
        pipei_report_error(&l->reporter, &y->at, NULL, "%s: needs at least one %s", base, row->kind);
        d->node.input_count[k] = 1;
    }
}

/* ---- keys ---- */
static bool overridden(const pipei_loader *l, const pipei_position *at)
{
    const pipei_source *s = pipei_source_of(&l->reporter, at);
    return s && s->override;
}

static void report_unknown_key(pipei_loader *l, const pipei_draft *d, const pipei_yaml *key)
{
    const pipei_node *node = &d->node;
    const pipei_plugin *p = node->plugin;
    const char **names = pipe_arena_alloc(l->arena, (node->n_params + node->n_inputs + 1) * sizeof *names);
    PIPE_CLEANUP(pipe_text_free) pipe_text all = {0};
    size_t n = 0;
    for (size_t k = 0; k < node->n_inputs; k++)
        names[n++] = p->meta.inputs[k].name;
    for (size_t k = 0; k < node->n_params; k++)
        names[n++] = p->meta.params[k].name;
    for (size_t k = 0; k < n; k++)
        pipe_text_addf(&all, "%s%s", k ? ", " : "", names[k]);
    const char *near = pipei_did_you_mean(l, key->text, names, n);
    const char *help = near ? near : n ? pipe_arena_format(l->arena, "%s takes %s", p->meta.name, all.data) :
                       pipe_arena_format(l->arena, "%s takes no keys", p->meta.name);
    pipei_report_error(&l->reporter, &key->at, help, "%s.%s: %s has no parameter or input of that name",
                       node->name, key->text, p->meta.name);
}

static void check_key(pipei_loader *l, pipei_draft *d, const pipei_yaml *key, pipei_yaml *value)
{
    pipei_node *node = &d->node;
    const pipei_plugin *p = node->plugin;
    bool deprecated;
    const size_t param = pipei_param_index(p, key->text, &deprecated);
    const size_t input = param == SIZE_MAX || deprecated ? pipei_input_index(p, key->text) : SIZE_MAX;
    if (input != SIZE_MAX) {
        check_input(l, d, input, value);
        return;
    }
    if (param == SIZE_MAX) {
        if (overridden(l, &d->plugin_at) && !overridden(l, &key->at))
            pipei_report(&l->reporter, PIPE_LOG_WARN, &key->at, NULL,
                         "%s.%s is left out: %s does not have it", node->name, key->text, p->meta.name);
        else
            report_unknown_key(l, d, key);
        return;
    }
    const pipe_param *row = &p->meta.params[param];
    if (deprecated) {
        if (pipei_yaml_get(d->map, row->name)) {
            pipei_report_error(&l->reporter, &key->at, NULL,
                               "%s: %s is the old name of %s, which is given too", node->name, key->text,
                               row->name);
            return;
        }
        pipei_report(&l->reporter, PIPE_LOG_WARN, &key->at,
                     pipe_arena_format(l->arena, "write %s", row->name), "%s: %s is deprecated", node->name,
                     key->text);
    }
    node->param_at[param] = value->at;
    node->param[param] = pipei_check_param(l, p, row, value, pipe_arena_format(l->arena, "%s.%s", node->name,
                                                                              row->name));
    if (!node->param[param])
        node->param_at[param].length = 0;           /* given, but wrong */
}

/* A sweep over a key that the node does not have gives it: the first value stands in. */
static pipei_yaml *swept(const pipei_loader *l, const pipei_draft *d, const char *key)
{
    for (size_t k = 0; k < l->sweep.n; k++) {
        const pipei_raw *axis = &l->sweep.v[k];
        const size_t n = strlen(d->node.name);
        if (axis->value && axis->value->type == PIPEI_YAML_LIST && axis->value->n > 0 &&
            strncmp(axis->name, d->node.name, n) == 0 && axis->name[n] == '.' &&
            strcmp(axis->name + n + 1, key) == 0)
            return axis->value->item[0];
    }
    return NULL;
}

static void fill_params(pipei_loader *l, pipei_draft *d)
{
    pipei_node *node = &d->node;
    const pipei_plugin *p = node->plugin;
    for (size_t k = 0; k < node->n_params; k++) {
        const pipe_param *row = &p->meta.params[k];
        if (node->param[k] || node->param_at[k].file)
            continue;
        const char *who = pipe_arena_format(l->arena, "%s.%s", node->name, row->name);
        const pipei_yaml *first = swept(l, d, row->name);
        if (first) {
            node->param[k] = pipei_check_param(l, p, row, first, who);
            node->param_at[k] = first->at;
        } else if (!row->fallback) {
            pipei_report_error(&l->reporter, &node->at,
                               pipe_arena_format(l->arena, "%s %s: %s", p->meta.name, row->name,
                                                 pipei_param_describe(row, l->arena)), "%s is missing", who);
        } else if (row->type == PIPE_TYPE_PATH && row->fallback[0] != '\0' && row->fallback[0] != '/') {
            /* a default that is a relative path: beside the pipeline */
            pipei_given *given = pipe_arena_alloc(l->arena, sizeof *given);
            const char **text = pipe_arena_alloc(l->arena, sizeof *text);
            text[0] = absolute_path(l, row->fallback, l->reporter.source[0]->folder);
            *given = (pipei_given){.text = text, .n = 1};
            node->param[k] = given;
        }
    }
}

static void fill_inputs(pipei_loader *l, pipei_draft *d)
{
    pipei_node *node = &d->node;
    const pipei_plugin *p = node->plugin;
    for (size_t k = 0; k < node->n_inputs; k++) {
        const pipe_input *row = &p->meta.inputs[k];
        if (node->input_count[k])
            continue;
        pipei_yaml *first = swept(l, d, row->name);
        if (first) {
            check_input(l, d, k, first);
        } else if (row->fallback) {
            const pipei_plugin *shorthand = pipei_shorthand(l->registry, row->kind, row->fallback);
            if (!shorthand) {
                pipei_report_error(&l->reporter, &node->at, NULL,
                                   "%s.%s is missing, and its default, %s %s, is not "
                                   "installed",
                                   node->name, row->name, row->kind, row->fallback);
                continue;
            }
            const char *base = pipe_arena_format(l->arena, "%s.%s", node->name, row->name);
            const char *name = row->flags & PIPE_LIST ? pipe_arena_format(l->arena, "%s.0", base) : base;
            pipei_edge *edge = pipe_arena_alloc(l->arena, sizeof *edge);
            edge->from = &new_draft(l, name, true, &node->at, shorthand)->node;
            edge->at = node->at;
            node->input[k] = edge;
            node->input_count[k] = 1;
        } else if (!(row->flags & PIPE_OPTIONAL)) {
            pipei_report_error(&l->reporter, &node->at,
                               pipe_arena_format(l->arena, "%s %s: a node of kind %s%s%s", p->meta.name,
                                                 row->name, row->kind, row->help ? "; " : "",
                                                 row->help ? row->help : ""),
                               "%s.%s is missing", node->name, row->name);
        }
    }
}

void pipei_check_nodes(pipei_loader *l)
{
    for (size_t k = 0; k < l->raw.n; k++) {
        pipei_raw *raw = &l->raw.v[k];
        check_name(l, raw);
        draft_of_map(l, raw->name, false, &raw->at, raw->value);
    }
    /* Inline nodes are appended while their owners are looked at. */
    for (size_t k = 0; k < l->n_drafts; k++) {
        pipei_draft *d = l->draft[k];
        if (!d->node.plugin)
            continue;
        if (d->map)
            for (size_t i = 0; i < d->map->n; i++)
                if (strcmp(d->map->key[i]->text, "plugin") != 0)
                    check_key(l, d, d->map->key[i], d->map->item[i]);
        fill_params(l, d);
        fill_inputs(l, d);
        pipei_check_together(l, d);
    }
}
