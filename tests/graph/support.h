/* Loading texts with the test plugins. */
#ifndef TESTS_GRAPH_SUPPORT_H
#define TESTS_GRAPH_SUPPORT_H

#include "graph/plugins.h"
#include "support/folder.h"

#include <stdio.h>

typedef struct loaded {
    pipei_registry *registry;
    pipei_graph *graph;             /* NULL: invalid */
    pipei_diagnostics diag;
    pipe_error err;
    pipe_status status;
} loaded;

static inline size_t count_texts(const char *const *texts)
{
    size_t n = 0;
    while (texts && texts[n])
        n++;
    return n;
}

/* sets: NULL-terminated overrides, or NULL */
static inline loaded load_text_n(const char *text, size_t n, const char *const *sets)
{
    loaded l = {.registry = graph_registry(), .err = PIPE_ERROR_INIT};
    l.status = pipei_graph_load_text(text, n, "q.yaml", sets, count_texts(sets), l.registry, &l.graph,
                                     &l.diag, &l.err);
    return l;
}

static inline loaded load_text(const char *text, const char *const *sets)
{
    return load_text_n(text, strlen(text), sets);
}

static inline loaded load_file(const char *path, const char *const *sets)
{
    loaded l = {.registry = graph_registry(), .err = PIPE_ERROR_INIT};
    l.status = pipei_graph_load(path, sets, count_texts(sets), l.registry, &l.graph, &l.diag, &l.err);
    return l;
}

static inline void unload(loaded *l)
{
    pipei_graph_free(l->graph);
    pipei_diagnostics_free(&l->diag);
    pipei_registry_close(l->registry);
}

/* "3:5 error: message; help" per diagnostic, one line each. */
static inline char *summary(const pipei_diagnostics *d)
{
    pipe_text t = {0};
    pipe_text_add(&t, "");
    for (size_t k = 0; k < d->n; k++)
        pipe_text_addf(&t, "%u:%u %s: %s%s%s\n", d->v[k].at.line, d->v[k].at.column,
                       d->v[k].level == PIPE_LOG_ERROR ? "error" : "warning", d->v[k].message,
                       d->v[k].help ? "; " : "", d->v[k].help ? d->v[k].help : "");
    return t.data;
}

#define MUST_LOAD(l)                                                                                    \
    do {                                                                                                \
        char *said_ = summary(&(l).diag);                                                               \
        cr_assert_eq((l).status, PIPE_OK, "%s\n%s", (l).err.message, said_);                            \
        pipe_free(said_);                                                                               \
    } while (0)

#endif
