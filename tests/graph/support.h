/* Loading texts with the test plugins. */
#ifndef TESTS_GRAPH_SUPPORT_H
#define TESTS_GRAPH_SUPPORT_H

#include "graph/plugins.h"
#include "support/folder.h"

#include <stdio.h>

/* A valid pipeline of six lines. */
#define BASE                                                                    \
    "nodes:\n"                                                                  \
    "  unet: {plugin: denoiser.unet, channels: 32}\n"                           \
    "  ddpm: {plugin: objective.denoise}\n"                                     \
    "  model: {plugin: fit, model: unet, objective: ddpm}\n"                    \
    "  solver: {plugin: sampler.ddim, steps: 20, eta: 0.5}\n"                   \
    "  images: {plugin: generate, denoiser: model, sampler: solver}\n"

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

static inline const pipei_node *node(const loaded *l, const char *name)
{
    const pipei_node *n = pipei_graph_find(l->graph, name);
    cr_assert_not_null(n, "no node %s", name);
    return n;
}

/* A parameter as text, "" being the default; lists joined by commas. */
static inline char *param(const loaded *l, const char *name, const char *key)
{
    const pipei_node *n = node(l, name);
    pipe_text t = {0};
    pipe_text_add(&t, "");
    for (size_t k = 0; k < n->n_params; k++)
        if (strcmp(n->plugin->meta.params[k].name, key) == 0 && n->param[k])
            for (size_t i = 0; i < n->param[k]->n; i++)
                pipe_text_addf(&t, "%s%s", i ? "," : "", n->param[k]->text[i]);
    return t.data;
}

/* "model.ema:denoiser" per edge, joined by spaces. */
static inline char *input(const loaded *l, const char *name, const char *key)
{
    const pipei_node *n = node(l, name);
    pipe_text t = {0};
    pipe_text_add(&t, "");
    for (size_t k = 0; k < n->n_inputs; k++)
        if (strcmp(n->plugin->meta.inputs[k].name, key) == 0)
            for (size_t i = 0; i < n->input_count[k]; i++) {
                const pipei_edge *e = &n->input[k][i];
                pipe_text_addf(&t, "%s%s%s%s:%s", i ? " " : "", e->from->name, e->output ? "." : "",
                               e->output ? e->output : "", e->kind);
            }
    return t.data;
}

static inline void expect_text(char *got, const char *expected, const char *why)
{
    cr_expect_str_eq(got, expected, "%s: \"%s\", expected \"%s\"", why, got, expected);
    pipe_free(got);
}

#define P(n, k, v, why) expect_text(param(&l, n, k), v, why)
#define I(n, k, v, why) expect_text(input(&l, n, k), v, why)

#endif
