/* The graph as YAML with everything explicit, and as a picture for graphviz. */
#include "core/graph/yaml.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void pad(pipe_text *out, unsigned n)
{
    pipe_text_addf(out, "%*s", (int)n, "");
}

static void write_list(const char *const *text, size_t n, pipe_text *out)
{
    pipe_text_add(out, "[");
    for (size_t k = 0; k < n; k++) {
        pipe_text_add(out, k ? ", " : "");
        pipei_yaml_write_scalar(text[k], out);
    }
    pipe_text_add(out, "]");
}

/* Numbers in their one canonical form; texts as given, quoted here. */
static void write_param(const pipe_param *row, const pipei_given *given, pipe_arena *a, pipe_text *out)
{
    const bool is_text = row->type == PIPE_TYPE_STRING || row->type == PIPE_TYPE_PATH ||
                         row->type == PIPE_TYPE_CHOICE;
    if (row->type == PIPE_TYPE_STRINGS && given)
        write_list(given->text, given->n, out);
    else if (is_text)
        pipei_yaml_write_scalar(given ? given->text[0] : row->fallback, out);
    else
        pipe_text_add(out, pipei_param_canonical(row, given, a));
}

/* The keys of a node; the first one stands behind "- " where it is in a list. */
static void write_keys(const pipei_node *n, unsigned indent, bool after_dash, pipe_arena *a, pipe_text *out)
{
    const pipe_plugin *meta = &n->plugin->meta;
    if (!after_dash)
        pad(out, indent);
    pipe_text_addf(out, "plugin: %s@%lu\n", meta->name, strtoul(meta->version, NULL, 10));
    for (size_t k = 0; k < n->n_inputs; k++) {
        const bool list = meta->inputs[k].flags & PIPE_LIST;
        if (n->input_count[k] == 0)
            continue;
        pad(out, indent);
        pipe_text_addf(out, "%s:%s", meta->inputs[k].name, list ? "\n" : "");
        for (size_t i = 0; i < n->input_count[k]; i++) {
            const pipei_edge *e = &n->input[k][i];
            if (list) {
                pad(out, indent + 2);
                pipe_text_add(out, "- ");
            }
            if (e->from->anonymous) {
                pipe_text_add(out, list ? "" : "\n");
                write_keys(e->from, indent + (list ? 4 : 2), list, a, out);
            } else {
                pipe_text_addf(out, "%s%s%s%s\n", list ? "" : " ", e->from->name, e->output ? "." : "",
                               e->output ? e->output : "");
            }
        }
    }
    for (size_t k = 0; k < n->n_params; k++) {
        pad(out, indent);
        pipe_text_addf(out, "%s: ", meta->params[k].name);
        write_param(&meta->params[k], n->param[k], a, out);
        pipe_text_add(out, "\n");
    }
}

static void write_expects(const pipei_graph *g, pipe_text *out)
{
    if (g->n_expects)
        pipe_text_add(out, "expect:\n");
    for (size_t k = 0; k < g->n_expects; k++) {
        const pipei_expect *x = &g->expect[k];
        const char *name = pipe_arena_format(g->arena, "%s.%s", x->node->name, x->metric);
        pipe_text_add(out, "  ");
        pipei_yaml_write_scalar(name, out);
        pipe_text_add(out, ": {");
        if (x->has_min)
            pipe_text_addf(out, "min: %.17g", x->min);
        if (x->has_max)
            pipe_text_addf(out, "%smax: %.17g", x->has_min ? ", " : "", x->max);
        pipe_text_add(out, "}\n");
    }
}

/* Values stand as one would write them on the command line, where a text without
 * quotes is taken letter by letter; all of ours are valid YAML too. */
static void write_sweep(const pipei_graph *g, pipe_text *out)
{
    if (g->n_axes)
        pipe_text_add(out, "sweep:\n");
    for (size_t k = 0; k < g->n_axes; k++) {
        pipe_text_addf(out, "  %s: [", g->axis[k].target);
        for (size_t i = 0; i < g->axis[k].n; i++)
            pipe_text_addf(out, "%s%s", i ? ", " : "", g->axis[k].value[i]);
        pipe_text_add(out, "]\n");
    }
}

/* Nodes as they were written, not in the order of execution. */
static int by_position(const void *a, const void *b)
{
    const pipei_node *x = *(const pipei_node *const *)a, *y = *(const pipei_node *const *)b;
    return x->written < y->written ? -1 : x->written > y->written;
}

void pipei_graph_resolved(const pipei_graph *g, pipe_text *out)
{
    pipe_text_add(out, "language: 1\npipeline: ");
    pipei_yaml_write_scalar(g->name, out);
    pipe_text_addf(out, "\nseed: %" PRIu64 "\ndevice: ", g->seed);
    pipei_yaml_write_scalar(g->device, out);
    pipe_text_add(out, "\nnodes:\n");
    const pipei_node **node = pipe_arena_alloc(g->arena, (g->n_nodes + 1) * sizeof *node);
    for (size_t k = 0; k < g->n_nodes; k++)
        node[k] = g->node[k];
    qsort(node, g->n_nodes, sizeof *node, by_position);
    for (size_t k = 0; k < g->n_nodes; k++) {
        if (node[k]->anonymous)
            continue;
        pipe_text_addf(out, "  %s:\n", node[k]->name);
        write_keys(node[k], 4, false, g->arena, out);
    }
    write_sweep(g, out);
    write_expects(g, out);
}

const pipei_node *pipei_graph_find(const pipei_graph *g, const char *name)
{
    for (size_t k = 0; k < g->n_nodes; k++)
        if (strcmp(g->node[k]->name, name) == 0)
            return g->node[k];
    return NULL;
}

/* ---- graphviz ---- */
void pipei_graph_dot(const pipei_graph *g, pipe_text *out)
{
    pipe_text_addf(out,
                   "digraph \"%s\" {\n    rankdir=LR;\n    node [fontname=\"sans-serif\", fontsize=10];\n"
                   "    edge [fontname=\"sans-serif\", fontsize=8];\n",
                   g->name);
    for (size_t k = 0; k < g->n_nodes; k++) {
        const pipei_node *n = g->node[k];
        const bool step = n->plugin->step;
        /* Steps are boxes; what was written inside another node is dashed. */
        pipe_text_addf(out, "    n%zu [label=\"%s\\n%s\", shape=%s, style=\"%s\"];\n", n->index, n->name,
                       n->plugin->meta.name, step ? "box" : "ellipse",
                       n->anonymous ? "dashed" : step ? "filled" : "solid");
    }
    for (size_t k = 0; k < g->n_nodes; k++) {
        const pipei_node *n = g->node[k];
        for (size_t i = 0; i < n->n_inputs; i++)
            for (size_t j = 0; j < n->input_count[i]; j++) {
                const pipei_edge *e = &n->input[i][j];
                pipe_text_addf(out, "    n%zu -> n%zu [label=\"%s\", tooltip=\"%s%s%s\"];\n", e->from->index,
                               n->index, n->plugin->meta.inputs[i].name, e->kind, e->output ? ": " : "",
                               e->output ? e->output : "");
            }
    }
    pipe_text_add(out, "}\n");
}
