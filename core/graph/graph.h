/* The graph: a checked pipeline.  Everything that can be known without running
 * (syntax, names, kinds, ranges, cycles) has been checked when one of these
 * exists. */
#ifndef PIPE_CORE_GRAPH_H
#define PIPE_CORE_GRAPH_H

#include "core/plugin/registry.h"

typedef struct pipei_position {
    const char *file;            /* as the user would write it; "--set" for overrides */
    uint32_t line, column;       /* from 1; 0: unknown */
    uint32_t length;             /* of the marked text */
} pipei_position;

struct pipei_node;

/* One reference of an input. */
typedef struct pipei_edge {
    struct pipei_node *from;
    const char *output;          /* NULL: the node itself (a component) or its first output; "metrics" */
    const char *kind;            /* of the value */
    pipei_position at;
} pipei_edge;

typedef struct pipei_node {
    const char *name;            /* anonymous ones: "ddpm.schedule" (owner.input) */
    bool anonymous;
    const pipei_plugin *plugin;
    const char *kind;            /* of what the bare name means: a component's own, a step's first output's */
    pipei_position at;
    size_t index;                /* in pipei_graph.node: topological order, else as written */
    size_t written;              /* position among the nodes as written; anonymous ones behind all others */

    /* parallel to plugin->meta.params / .inputs (counted up to their ends) */
    size_t n_params, n_inputs;
    const pipei_given **param;   /* NULL: the default */
    pipei_position *param_at;
    const pipei_edge **input;    /* [n_inputs] -> array of input_count edges */
    size_t *input_count;
} pipei_node;

typedef struct pipei_expect {
    const pipei_node *node;
    const char *metric;
    bool has_min, has_max;
    double min, max;
    pipei_position at;
} pipei_expect;

/* sweep: node.key over values */
typedef struct pipei_axis {
    const char *target;                  /* "solver.steps" */
    const char *const *value;            /* as one would write them on the command line */
    size_t n;
    pipei_position at;
} pipei_axis;

typedef struct pipei_graph {
    const char *name;            /* `pipeline:`, else the file's name without .yaml */
    const char *path;
    uint64_t seed;
    const char *device;          /* "auto" unless given */
    size_t n_nodes;
    pipei_node **node;           /* topological order: inputs before users */
    size_t n_expects;
    pipei_expect *expect;
    size_t n_axes;
    pipei_axis *axis;
    const char *text;            /* the file as written */
    size_t text_length;
    pipe_arena *arena;
} pipei_graph;

typedef struct pipei_diagnostic {
    pipe_log_level level;        /* error or warn (deprecated names) */
    pipei_position at;
    const char *message;         /* "solver.steps: 2000 is above the maximum 1000" */
    const char *help;            /* may be NULL */
    const char *note;            /* "included from main.yaml:2:10"; may be NULL */
    const char *source_line;     /* may be NULL */
    size_t order;                /* of the file, in the order of reading: diagnostics are sorted by it */
} pipei_diagnostic;

typedef struct pipei_diagnostics {
    pipei_diagnostic *v;         /* in file order; at most 50 errors */
    size_t n, errors, suppressed;
    pipe_arena *arena;
} pipei_diagnostics;
PIPE_INTERNAL void pipei_diagnostics_free(pipei_diagnostics *d);
/* As conventions ask: file:line:column, the line, the caret, help. */
PIPE_INTERNAL void pipei_diagnostics_print(const pipei_diagnostics *d, pipe_text *out, bool colour);

/* path "-": standard input.  *diag is zeroed, or of an earlier load, which it
 * then forgets; warnings come with PIPE_OK too.  overrides: "node.key=value" (also seed=, device=,
 * vars.NAME=), applied after the file.  Returns PIPE_EPIPELINE with diagnostics
 * when the pipeline is invalid. The registry must outlive the graph. */
PIPE_INTERNAL pipe_status pipei_graph_load(const char *path, const char *const *overrides, size_t n_overrides,
                                           pipei_registry *reg, pipei_graph **out, pipei_diagnostics *diag,
                                           pipe_error *err);
/* The same of a text; relative paths in it start at the folder of `name`. */
PIPE_INTERNAL pipe_status pipei_graph_load_text(const char *text, size_t length, const char *name,
                                                const char *const *overrides, size_t n_overrides,
                                                pipei_registry *reg, pipei_graph **out,
                                                pipei_diagnostics *diag, pipe_error *err);
PIPE_INTERNAL void pipei_graph_free(pipei_graph *g);
/* Everything explicit: enough to repeat the run.  Parses to the same graph. */
PIPE_INTERNAL void pipei_graph_resolved(const pipei_graph *g, pipe_text *out);
PIPE_INTERNAL void pipei_graph_dot(const pipei_graph *g, pipe_text *out);
PIPE_INTERNAL const pipei_node *pipei_graph_find(const pipei_graph *g, const char *name);
/* Number of sweep members (1 without a sweep), and the overrides of member k.  An
 * axis whose target an override sets is none any more, so a member has no axes. */
PIPE_INTERNAL size_t pipei_graph_members(const pipei_graph *g);
/* Writes n_axes texts, which live as long as the graph. */
PIPE_INTERNAL size_t pipei_graph_member_overrides(const pipei_graph *g, size_t k, const char **out);
/* The JSON Schema of pipelines, from the registry. */
PIPE_INTERNAL pipe_status pipei_graph_schema(pipei_registry *reg, pipe_text *out, pipe_error *err);

#endif
