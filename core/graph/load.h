/* A pipeline between its YAML and the checked graph.  Internal to core/graph:
 *   load.c      files, includes, top-level keys
 *   override.c  --set
 *   vars.c      ${name}
 *   check.c     plugins, parameters, inputs -> pipei_graph
 *   together.c   what of a node goes together
 *   order.c     cycles, kinds, what nobody uses
 *   target.c    expect and sweep */
#ifndef PIPE_CORE_GRAPH_LOAD_H
#define PIPE_CORE_GRAPH_LOAD_H

#include "core/graph/yaml.h"

/* name: value, of nodes, vars, expect and sweep alike */
typedef struct pipei_raw {
    const char *name;
    uint64_t hash;
    pipei_position at;               /* of the name */
    pipei_yaml *value;
    bool used;                       /* a variable that something refers to or that a file defines */
    int state;                       /* vars: 0 as written, 1 being expanded, 2 expanded */
} pipei_raw;

typedef struct pipei_raws {
    pipei_raw *v;
    size_t n, room;
} pipei_raws;

/* A node while it is being checked. */
typedef struct pipei_draft {
    pipei_node node;                 /* first: the graph's nodes are these */
    pipei_yaml *map;                 /* NULL: an anonymous one of a shorthand */
    pipei_position plugin_at;
    bool used;
    int mark;                        /* of the depth-first walk: 0 new, 1 on the path, 2 done */
    size_t next_input, next_edge;    /* where the walk is */
} pipei_draft;

typedef struct pipei_loader {
    pipei_registry *registry;
    pipe_arena *arena;               /* the graph's */
    pipei_reporter reporter;
    size_t nodes;                    /* YAML nodes so far */
    size_t expanded;                 /* bytes that ${} produced so far */
    bool exploded;                   /* they were too many, which has been reported */

    pipei_yaml *pipeline, *seed, *device;    /* NULL: not given */
    pipei_raws raw, vars, expect, sweep, set;
    const pipei_source *cwd;         /* of the overrides: relative paths in them */

    pipei_draft **draft;             /* named ones as written, then anonymous ones */
    size_t n_drafts, draft_room;
    pipei_draft **order;             /* n_drafts, inputs first */
    pipei_graph *graph;
} pipei_loader;

/* Room for one more in an array of the loader's arena. */
PIPE_INTERNAL void *pipei_grow(pipe_arena *a, void *old, size_t n, size_t *room, size_t each);
PIPE_INTERNAL pipei_source *pipei_source_add(pipei_loader *l, const char *name, const char *folder);
PIPE_INTERNAL pipei_raw *pipei_raw_find(const pipei_raws *r, const char *name);
PIPE_INTERNAL void pipei_raw_add(pipei_loader *l, pipei_raws *r, const char *name, const pipei_position *at,
                                 pipei_yaml *value);
/* "did you mean X?", or NULL. */
PIPE_INTERNAL const char *pipei_did_you_mean(pipei_loader *l, const char *word, const char *const *names,
                                             size_t n);
PIPE_INTERNAL const char *pipei_raw_nearest(pipei_loader *l, const pipei_raws *r, const char *word);

/* The overrides as entries of l->set; vars.NAME are taken at once. */
PIPE_INTERNAL void pipei_overrides_read(pipei_loader *l, const char *const *overrides, size_t n);
PIPE_INTERNAL void pipei_overrides_apply(pipei_loader *l);
/* Puts `value` at "key" or "input.key" inside a node's mapping; false: reported. */
PIPE_INTERNAL bool pipei_yaml_set(pipei_loader *l, pipei_raw *node, const char *path,
                                  const pipei_position *at, pipei_yaml *value);

/* With every ${name} replaced; y itself if there is none.  NULL: reported. */
PIPE_INTERNAL pipei_yaml *pipei_expand(pipei_loader *l, pipei_yaml *y);
/* Reports --set vars.NAME of a NAME that no file has. */
PIPE_INTERNAL void pipei_check_set_vars(pipei_loader *l);

/* Each of these reports and goes on. */
PIPE_INTERNAL void pipei_check_nodes(pipei_loader *l);
PIPE_INTERNAL void pipei_check_together(pipei_loader *l, const pipei_draft *d);
PIPE_INTERNAL void pipei_check_order(pipei_loader *l);
PIPE_INTERNAL void pipei_check_targets(pipei_loader *l);

/* Inside a node: the row of a parameter by name (or deprecated alias), of an input; SIZE_MAX: none. */
PIPE_INTERNAL size_t pipei_param_index(const pipei_plugin *p, const char *name, bool *deprecated);
PIPE_INTERNAL size_t pipei_input_index(const pipei_plugin *p, const char *name);
PIPE_INTERNAL pipei_draft *pipei_draft_find(const pipei_loader *l, const char *name);
/* Checks a parameter's value; NULL: reported.  who: "solver.steps". */
PIPE_INTERNAL const pipei_given *pipei_check_param(pipei_loader *l, const pipei_plugin *p,
                                                   const pipe_param *row, const pipei_yaml *y,
                                                   const char *who);
/* The plugin that "name" or "name@major" means; NULL: reported. */
PIPE_INTERNAL const pipei_plugin *pipei_check_plugin(pipei_loader *l, const pipei_yaml *y);
/* The plugin that a shorthand means for an input of these kinds, or NULL. */
PIPE_INTERNAL const pipei_plugin *pipei_shorthand(const pipei_registry *r, const char *kinds,
                                                  const char *word);
/* Kind of an output: NULL name means the bare node; *known = false where it depends on something broken. */
PIPE_INTERNAL const char *pipei_output_kind(const pipei_draft *d, const char *output, bool *known);

#endif
