/* What expect: and sweep: refer to. */
#include "core/graph/load.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_MEMBERS = 10000 };

/* "a.b" -> "a", and "b" in *rest. */
static const char *split(pipei_loader *l, const char *text, const char *dot, const char **rest)
{
    *rest = dot + 1;
    return pipe_arena_strndup(l->arena, text, (size_t)(dot - text));
}

static const char *nearest_node(pipei_loader *l, const char *name)
{
    return pipei_raw_nearest(l, &l->raw, name);
}

/* ---- expect ---- */
static bool read_bound(pipei_loader *l, const pipei_yaml *y, const char *who, double *out)
{
    char *end = NULL;
    *out = y->type == PIPEI_YAML_SCALAR ? strtod(y->text, &end) : 0.0;
    if (end && end != y->text && *end == '\0' && isfinite(*out))
        return true;
    pipei_report_error(&l->reporter, &y->at, NULL, "%s: %s%s%s is not a number", who, end ? "\"" : "",
                       end ? y->text : pipei_yaml_type_name(y), end ? "\"" : "");
    return false;
}

static void read_bounds(pipei_loader *l, const pipei_raw *raw, pipei_expect *x)
{
    static const char *const keys[] = {"min", "max"};
    const pipei_yaml *y = raw->value;
    const char *who = pipe_arena_format(l->arena, "expect %s", raw->name);
    if (y->type != PIPEI_YAML_MAP || y->n == 0) {
        pipei_report_error(&l->reporter, &y->at, "{min: 0.85}, {max: 20} or both",
                           "%s: a mapping with min or max", who);
        return;
    }
    for (size_t k = 0; k < y->n; k++) {
        const char *key = y->key[k]->text;
        if (strcmp(key, "min") == 0)
            x->has_min = read_bound(l, y->item[k], who, &x->min);
        else if (strcmp(key, "max") == 0)
            x->has_max = read_bound(l, y->item[k], who, &x->max);
        else {
            const char *near = pipei_did_you_mean(l, key, keys, 2);
            pipei_report_error(&l->reporter, &y->key[k]->at, near ? near : "min and max",
                               "%s: unknown key %s", who, key);
        }
    }
    if (x->has_min && x->has_max && x->min > x->max)
        pipei_report_error(&l->reporter, &y->at, NULL, "%s: min %g is above max %g", who, x->min, x->max);
}

static void check_expect(pipei_loader *l, const pipei_raw *raw)
{
    const char *dot = strchr(raw->name, '.');
    const char *metric = NULL;
    if (!dot || dot == raw->name || dot[1] == '\0') {
        pipei_report_error(&l->reporter, &raw->at, "expect: {grid.written: {min: 1}}",
                           "expect: %s is not of the form node.metric", raw->name);
        return;
    }
    const char *name = split(l, raw->name, dot, &metric);
    const pipei_draft *d = pipei_draft_find(l, name);
    if (!d) {
        pipei_report_error(&l->reporter, &raw->at, nearest_node(l, name), "expect %s: there is no node %s",
                           raw->name, name);
    } else if (d->node.plugin && !d->node.plugin->step) {
        pipei_report_error(&l->reporter, &raw->at, NULL, "expect %s: %s is a %s, only steps report numbers",
                           raw->name, name, d->node.plugin->meta.kind);
        d = NULL;
    }
    pipei_graph *g = l->graph;
    pipei_expect x = {.node = d ? &d->node : NULL, .metric = metric, .at = raw->at};
    if (raw->value)
        read_bounds(l, raw, &x);
    g->expect[g->n_expects++] = x;
}

/* ---- sweep ---- */
static const char *value_text(pipei_loader *l, const pipei_yaml *y)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    pipei_yaml_write(y, &t);
    return pipe_arena_strdup(l->arena, t.data);
}

/* A checked parameter: paths are absolute by now, since --set starts elsewhere. */
static const char *given_text(pipei_loader *l, const pipei_given *given)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    pipe_text_add(&t, given->list ? "[" : "");
    for (size_t k = 0; k < given->n; k++) {
        pipe_text_add(&t, k ? ", " : "");
        pipei_yaml_write_scalar(given->text[k], &t);
    }
    pipe_text_add(&t, given->list ? "]" : "");
    return pipe_arena_strdup(l->arena, t.data);
}

static void check_reference(pipei_loader *l, const pipe_input *row, const pipei_yaml *y, const char *who)
{
    if (y->type == PIPEI_YAML_LIST) {
        for (size_t k = 0; k < y->n; k++)
            check_reference(l, row, y->item[k], who);
        return;
    }
    if (y->type == PIPEI_YAML_MAP) {
        const pipei_yaml *plugin = pipei_yaml_get(y, "plugin");
        if (plugin)
            pipei_check_plugin(l, plugin);
        else
            pipei_report_error(&l->reporter, &y->at, "{plugin: ...}", "sweep %s: the key plugin is missing",
                               who);
        return;
    }
    const size_t n = strcspn(y->text, ".");
    const pipei_draft *d = pipei_draft_find(l, pipe_arena_strndup(l->arena, y->text, n));
    if (!pipei_yaml_null(y) && (!d || d->node.anonymous) && !pipei_shorthand(l->registry, row->kind, y->text))
        pipei_report_error(&l->reporter, &y->at, nearest_node(l, y->text), "sweep %s: there is no node %s",
                           who, y->text);
}

/* Checks one value; gives the text that a command line would have. */
static const char *check_value(pipei_loader *l, const pipei_draft *d, const char *key, const pipei_yaml *y,
                               const char *target)
{
    const pipei_plugin *p = d ? d->node.plugin : NULL;
    bool deprecated;
    if (!p || strcmp(key, "plugin") == 0) {
        if (p)
            pipei_check_plugin(l, y);
        return value_text(l, y);
    }
    const size_t param = pipei_param_index(p, key, &deprecated);
    if (param != SIZE_MAX) {
        const pipei_given *given = pipei_check_param(l, p, &p->meta.params[param], y, target);
        return given ? given_text(l, given) : "";
    }
    const size_t input = pipei_input_index(p, key);
    if (input != SIZE_MAX)
        check_reference(l, &p->meta.inputs[input], y, target);
    return value_text(l, y);
}

/* Another member may have another plugin, with other keys. */
static bool plugin_is_swept(const pipei_loader *l, const char *node)
{
    const size_t n = strlen(node);
    for (size_t k = 0; k < l->sweep.n; k++)
        if (strncmp(l->sweep.v[k].name, node, n) == 0 && strcmp(l->sweep.v[k].name + n, ".plugin") == 0)
            return true;
    return false;
}

static bool check_target(pipei_loader *l, const pipei_raw *raw, const pipei_draft **draft, const char **key)
{
    const char *dot = strrchr(raw->name, '.');
    *draft = NULL;
    *key = "";
    if (strcmp(raw->name, "seed") == 0 || strcmp(raw->name, "device") == 0)
        return true;
    if (!dot || dot == raw->name || dot[1] == '\0') {
        pipei_report_error(&l->reporter, &raw->at, "node.key, vars.name, seed or device",
                           "sweep: %s cannot be varied", raw->name);
        return false;
    }
    const char *name = split(l, raw->name, dot, key);
    if (strcmp(name, "vars") == 0) {
        if (pipei_raw_find(&l->vars, *key))
            return true;
        pipei_report_error(&l->reporter, &raw->at, pipei_raw_nearest(l, &l->vars, *key),
                           "sweep %s: variable %s is not defined", raw->name, *key);
        return false;
    }
    const pipei_draft *d = pipei_draft_find(l, name);
    if (!d) {
        pipei_report_error(&l->reporter, &raw->at, nearest_node(l, name), "sweep %s: there is no node %s",
                           raw->name, name);
        return false;
    }
    *draft = d;
    if (d->node.anonymous && !d->map) {
        pipei_report_error(&l->reporter, &raw->at, pipe_arena_format(l->arena, "write it as {plugin: %s}",
                                                                     d->node.plugin->meta.name),
                           "sweep %s: %s is not written as an inline node", raw->name, name);
        return false;
    }
    bool deprecated;
    const pipei_plugin *p = d->node.plugin;
    if (!p || strcmp(*key, "plugin") == 0 || plugin_is_swept(l, name) ||
        pipei_param_index(p, *key, &deprecated) != SIZE_MAX || pipei_input_index(p, *key) != SIZE_MAX)
        return true;
    const char **names =
        pipe_arena_alloc(l->arena, (d->node.n_params + d->node.n_inputs + 1) * sizeof *names);
    size_t n = 0;
    for (size_t k = 0; k < d->node.n_params; k++)
        names[n++] = p->meta.params[k].name;
    for (size_t k = 0; k < d->node.n_inputs; k++)
        names[n++] = p->meta.inputs[k].name;
    pipei_report_error(&l->reporter, &raw->at, pipei_did_you_mean(l, *key, names, n),
                       "sweep %s: %s has no parameter or input of that name", raw->name, p->meta.name);
    return false;
}

static void check_axis(pipei_loader *l, const pipei_raw *raw)
{
    const pipei_yaml *y = raw->value;
    const pipei_draft *d;
    const char *key;
    if (!y || !check_target(l, raw, &d, &key))
        return;
    if (y->type != PIPEI_YAML_LIST || y->n == 0) {
        pipei_report_error(&l->reporter, &y->at, "[1, 2, 3]", "sweep %s: a list of values", raw->name);
        return;
    }
    const char **value = pipe_arena_alloc(l->arena, y->n * sizeof *value);
    for (size_t k = 0; k < y->n; k++)
        value[k] = check_value(l, d, key, y->item[k], raw->name);
    if (pipei_raw_find(&l->set, raw->name))
        return;                             /* --set pins it: one value, no axis */
    pipei_graph *g = l->graph;
    g->axis[g->n_axes++] = (pipei_axis){.target = raw->name, .value = value, .n = y->n, .at = raw->at};
}

void pipei_check_targets(pipei_loader *l)
{
    pipei_graph *g = l->graph;
    g->expect = pipe_arena_alloc(l->arena, (l->expect.n + 1) * sizeof *g->expect);
    g->axis = pipe_arena_alloc(l->arena, (l->sweep.n + 1) * sizeof *g->axis);
    for (size_t k = 0; k < l->expect.n; k++)
        check_expect(l, &l->expect.v[k]);
    size_t members = 1;
    for (size_t k = 0; k < l->sweep.n; k++) {
        const size_t before = g->n_axes;
        check_axis(l, &l->sweep.v[k]);
        if (g->n_axes > before &&
            (!pipe_mul_size(members, g->axis[before].n, &members) || members > MAX_MEMBERS)) {
            pipei_report_error(&l->reporter, &l->sweep.v[k].at, NULL, "the sweep has more than %d members",
                               MAX_MEMBERS);
            return;
        }
    }
}

/* ---- members: the last axis turns fastest ---- */
size_t pipei_graph_members(const pipei_graph *g)
{
    size_t n = 1;
    for (size_t k = 0; k < g->n_axes; k++)
        n *= g->axis[k].n;
    return n;
}

size_t pipei_graph_member_overrides(const pipei_graph *g, size_t k, const char **out)
{
    for (size_t a = g->n_axes; a-- > 0; ) {
        const pipei_axis *axis = &g->axis[a];
        out[a] = pipe_arena_format(g->arena, "%s=%s", axis->target, axis->value[k % axis->n]);
        k /= axis->n;
    }
    return g->n_axes;
}
