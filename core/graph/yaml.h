/* YAML text to a tree that keeps the position of everything.  Internal to core/graph. */
#ifndef PIPE_CORE_GRAPH_YAML_H
#define PIPE_CORE_GRAPH_YAML_H

#include "core/graph/graph.h"

enum {
    PIPEI_YAML_BYTES = 1 << 20,      /* of a file, and of the text that ${} may produce */
    PIPEI_YAML_DEPTH = 64,
    PIPEI_YAML_NODES = 10000         /* of a pipeline with its includes, after alias expansion */
};

/* ---- where text comes from ---- */
typedef struct pipei_source {
    const char *name;                /* as the user would write it; positions point to this very string */
    const char *folder;              /* absolute: relative paths in the text start here */
    const char *text;
    size_t length;
    const struct pipei_source *parent;   /* the file that includes this one, */
    pipei_position from;                 /* and where; parent NULL: none */
    uint64_t device, inode;          /* 0: no file */
    size_t order;
    bool override;                   /* an argument node.key=value */
} pipei_source;

/* ---- collecting what is wrong ---- */
typedef struct pipei_reporter {
    pipei_diagnostics *diag;
    pipei_source **source;
    size_t n_sources, room;
} pipei_reporter;

PIPE_INTERNAL const pipei_source *pipei_source_of(const pipei_reporter *r, const pipei_position *at);
/* "q.yaml:3:5", or "--set: node.key=value". */
PIPE_INTERNAL const char *pipei_position_text(const pipei_reporter *r, const pipei_position *at,
                                              pipe_arena *a);
/* `help` may be NULL. */
PIPE_INTERNAL void pipei_report(pipei_reporter *r, pipe_log_level level, const pipei_position *at,
                                const char *help, const char *fmt, ...) PIPE_PRINTF(5, 6);
#define pipei_report_error(r, at, help, ...) pipei_report(r, PIPE_LOG_ERROR, at, help, __VA_ARGS__)
/* Sorts, keeps the first 50 errors. */
PIPE_INTERNAL void pipei_report_finish(pipei_reporter *r);

/* ---- the tree ----
 * Aliases share their anchor's node, so it is a DAG: never change a node in
 * place, copy it.  `weight` is its size after expansion. */
typedef enum pipei_yaml_type { PIPEI_YAML_SCALAR, PIPEI_YAML_LIST, PIPEI_YAML_MAP } pipei_yaml_type;

typedef struct pipei_yaml {
    pipei_yaml_type type;
    bool plain;                      /* a scalar without quotes */
    pipei_position at;
    const char *origin;              /* position.file of the text itself, where a variable brought it here: a
                                        relative path starts there */
    const char *text;                /* scalar */
    uint64_t hash;                   /* of the text: a mapping may have thousands of keys */
    size_t n;                        /* items or pairs */
    struct pipei_yaml **key;         /* map: scalars */
    struct pipei_yaml **item;        /* list: items; map: values */
    size_t weight;
} pipei_yaml;

/* Parses one document.  `shift`: columns in front of the text (an override's
 * "node.key=").  *nodes is the number of nodes so far of PIPEI_YAML_NODES.
 * NULL: it could not be parsed, which has been reported. */
PIPE_INTERNAL pipei_yaml *pipei_yaml_parse(const pipei_source *source, const char *text, size_t length,
                                           uint32_t shift, size_t *nodes, pipe_arena *a, pipei_reporter *r);
PIPE_INTERNAL uint64_t pipei_yaml_hash(const char *text);
/* The value of a key, or NULL. */
PIPE_INTERNAL pipei_yaml *pipei_yaml_get(const pipei_yaml *map, const char *key);
/* A copy whose pairs or items can be replaced, with room for `more`. */
PIPE_INTERNAL pipei_yaml *pipei_yaml_copy(const pipei_yaml *y, size_t more, pipe_arena *a);
PIPE_INTERNAL pipei_yaml *pipei_yaml_scalar(const char *text, const pipei_position *at, pipe_arena *a);
/* "a list", "a mapping", "a scalar" */
PIPE_INTERNAL const char *pipei_yaml_type_name(const pipei_yaml *y);
/* Plain null, ~ or nothing at all. */
PIPE_INTERNAL bool pipei_yaml_null(const pipei_yaml *y);
/* Flow style on one line, quoted where needed, "${" escaped: parses to the same. */
PIPE_INTERNAL void pipei_yaml_write(const pipei_yaml *y, pipe_text *out);
PIPE_INTERNAL void pipei_yaml_write_scalar(const char *text, pipe_text *out);

#endif
