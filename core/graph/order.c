/* Cycles, the order of execution, the kinds on edges, what nobody uses. */
#include "core/graph/load.h"

#include <string.h>

enum { NEW, ON_PATH, DONE };

static void report_cycle(pipei_loader *l, pipei_draft *const *path, size_t depth, const pipei_draft *to,
                         const pipei_position *at)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    size_t first = depth;
    while (path[first - 1] != to)
        first--;
    for (size_t k = first - 1; k < depth; k++)
        pipe_text_addf(&t, "%s -> ", path[k]->node.name);
    pipe_text_add(&t, to->node.name);
    pipei_report_error(&l->reporter, at, NULL, "nodes need each other in a circle: %s", t.data);
}

/* Depth first with an explicit stack: a chain may be thousands of nodes long. */
static void visit(pipei_loader *l, pipei_draft *start, pipei_draft **path, size_t *n_order)
{
    size_t depth = 0;
    if (start->mark != NEW)
        return;
    start->mark = ON_PATH;
    path[depth++] = start;
    while (depth > 0) {
        pipei_draft *d = path[depth - 1];
        const pipei_node *node = &d->node;
        while (d->next_input < node->n_inputs && d->next_edge >= node->input_count[d->next_input]) {
            d->next_input++;
            d->next_edge = 0;
        }
        if (d->next_input >= node->n_inputs) {
            d->mark = DONE;
            l->order[(*n_order)++] = d;
            depth--;
            continue;
        }
        const pipei_edge *edge = &node->input[d->next_input][d->next_edge++];
        pipei_draft *from = (pipei_draft *)edge->from;
        if (!from || from->mark == DONE)
            continue;
        if (from->mark == ON_PATH) {
            report_cycle(l, path, depth, from, &edge->at);
            continue;
        }
        from->mark = ON_PATH;
        path[depth++] = from;
    }
}

const char *pipei_output_kind(const pipei_draft *d, const char *output, bool *known)
{
    const pipei_plugin *p = d->node.plugin;
    *known = true;
    if (!p) {
        *known = false;
        return NULL;
    }
    if (!p->step)
        return p->meta.kind;
    const pipe_output *o = p->meta.outputs;
    while (output && o && o->name && strcmp(o->name, output) != 0)
        o++;
    if (!o || !o->name)
        return PIPE_KIND_METRICS;               /* the output that every step has */
    if (o->kind)
        return o->kind;
    const size_t k = pipei_input_index(p, o->like);
    if (k == SIZE_MAX || d->node.input_count[k] == 0)
        return NULL;                            /* follows an optional input that is not given */
    const pipei_edge *edge = &d->node.input[k][0];
    *known = edge->from && edge->kind;
    return edge->kind;
}

static const char *nodes_of_kind(pipei_loader *l, const char *kinds)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    for (size_t k = 0; k < l->n_drafts && t.length < 200; k++) {
        const pipei_node *n = &l->draft[k]->node;
        if (!n->anonymous && n->kind && pipei_kind_matches(kinds, n->kind))
            pipe_text_addf(&t, "%s%s", t.length ? ", " : "", n->name);
    }
    return t.length ? pipe_arena_format(l->arena, "nodes of that kind: %s", t.data) : NULL;
}

static void check_edge(pipei_loader *l, pipei_draft *d, const pipe_input *row, pipei_edge *edge, bool report)
{
    const pipei_draft *from = (const pipei_draft *)edge->from;
    bool known;
    if (!from)
        return;
    const char *kind = pipei_output_kind(from, edge->output, &known);
    const char *what = edge->output ? pipe_arena_format(l->arena, "%s.%s", from->node.name, edge->output)
                                    : from->node.name;
    if (!report) {
        edge->kind = known ? kind : NULL;
        return;
    }
    if (!known)
        return;
    if (!kind)
        pipei_report_error(&l->reporter, &edge->at, NULL,
                           "%s.%s: %s has no value, since an optional input of %s is "
                           "not given",
                           d->node.name, row->name, what, from->node.name);
    else if (!pipei_kind_matches(row->kind, kind))
        pipei_report_error(&l->reporter, &edge->at, nodes_of_kind(l, row->kind),
                           "%s.%s needs kind %s, but %s (%s) is of kind %s", d->node.name, row->name,
                           row->kind, what, from->node.plugin->meta.name, kind);
}

static void check_edges(pipei_loader *l, pipei_draft *d, bool report)
{
    for (size_t k = 0; k < d->node.n_inputs; k++)
        for (size_t i = 0; i < d->node.input_count[k]; i++)
            check_edge(l, d, &d->node.plugin->meta.inputs[k], (pipei_edge *)&d->node.input[k][i], report);
}

static void warn_unused(pipei_loader *l, size_t n)
{
    size_t steps = 0;
    for (size_t k = n; k-- > 0; ) {
        pipei_draft *d = l->order[k];
        if (d->node.plugin->step)
            steps++;
        if (!d->node.plugin->step && !d->used)
            continue;
        for (size_t i = 0; i < d->node.n_inputs; i++)
            for (size_t j = 0; j < d->node.input_count[i]; j++)
                ((pipei_draft *)d->node.input[i][j].from)->used = true;
    }
    if (steps == 0) {
        pipei_report(&l->reporter, PIPE_LOG_WARN, &l->draft[0]->node.at, NULL,
                     "no node does anything: there is no step such as fit, generate or a sink");
        return;
    }
    for (size_t k = 0; k < n; k++) {
        const pipei_draft *d = l->order[k];
        /* An included file may hold more than one pipeline needs. */
        if (!d->used && !d->node.plugin->step && d->node.at.file == l->reporter.source[0]->name)
            pipei_report(&l->reporter, PIPE_LOG_WARN, &d->node.at, NULL, "%s is not used by any step",
                         d->node.name);
    }
}

void pipei_check_order(pipei_loader *l)
{
    pipei_draft **path = pipe_arena_alloc(l->arena, (l->n_drafts + 1) * sizeof *path);
    size_t n = 0;
    l->order = pipe_arena_alloc(l->arena, (l->n_drafts + 1) * sizeof *l->order);
    for (size_t k = 0; k < l->n_drafts; k++)
        visit(l, l->draft[k], path, &n);
    for (size_t k = 0; k < n; k++) {
        bool known;
        check_edges(l, l->order[k], false);
        l->order[k]->node.kind = pipei_output_kind(l->order[k], NULL, &known);
        l->order[k]->node.index = k;
    }
    for (size_t k = 0; k < n; k++)
        check_edges(l, l->order[k], true);
    if (l->reporter.diag->errors == 0)
        warn_unused(l, n);

    pipei_graph *g = l->graph;
    g->n_nodes = n;
    g->node = pipe_arena_alloc(l->arena, (n + 1) * sizeof *g->node);
    for (size_t k = 0; k < n; k++)
        g->node[k] = &l->order[k]->node;
}
