/* SOURCES: core/base/ core/graph/ core/plugin/ core/kinds/kinds.c core/kinds/sampler-params.c core/kinds/grid.c */
/* The graph language on any bytes.  The first byte selects how many lines at the
 * beginning are overrides instead of text. */
#include "tests/graph/plugins.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_SETS = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static pipei_registry *registry;
    char *sets[MAX_SETS];
    size_t n = 0;
    if (!registry)
        registry = graph_registry();
    const size_t wanted = size ? data[0] % (MAX_SETS + 1) : 0;
    const char *p = (const char *)data + (size > 0), *end = (const char *)data + size;
    while (n < wanted && p < end) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        const size_t length = (size_t)((newline ? newline : end) - p);
        sets[n++] = pipe_format("%.*s", (int)length, p);
        p = newline ? newline + 1 : end;
    }

    pipe_error err = PIPE_ERROR_INIT;
    pipei_diagnostics diag = {0};
    pipei_graph *g = NULL;
    pipe_text t = {0};
    const pipe_status status = pipei_graph_load_text(p, (size_t)(end - p), "fuzz.yaml",
                                                     (const char *const *)sets, n, registry, &g, &diag, &err);
    if ((status == PIPE_OK) != (g != NULL) || (status != PIPE_OK && diag.errors == 0))
        abort();
    pipei_diagnostics_print(&diag, &t, true);
    if (g) {
        /* What is resolved must be valid, and resolve to itself. */
        pipei_diagnostics again = {0};
        pipei_graph *h = NULL;
        pipe_text u = {0};
        const char *overrides[64];
        pipe_text_clear(&t);
        pipei_graph_resolved(g, &t);
        if (pipei_graph_load_text(t.data, t.length, "fuzz.yaml", NULL, 0, registry, &h, &again, &err) !=
            PIPE_OK)
            abort();
        pipei_graph_resolved(h, &u);
        if (strcmp(t.data, u.data) != 0)
            abort();
        if (g->n_axes < 64)
            for (size_t k = 0; k < pipei_graph_members(g) && k < 4; k++)
                pipei_graph_member_overrides(g, k, overrides);
        pipei_graph_dot(g, &u);
        pipe_text_free(&u);
        pipei_diagnostics_free(&again);
        pipei_graph_free(h);
    }
    pipe_text_free(&t);
    pipei_graph_free(g);
    pipei_diagnostics_free(&diag);
    for (size_t k = 0; k < n; k++)
        pipe_free(sets[k]);
    return 0;
}
