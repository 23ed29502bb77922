/* Hostile and huge texts: one clear message, quickly. */
#include "graph/support.h"

#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Loads; exactly one error, whose message has `part`, within a second. */
static void refused(const pipe_text *text, const char *part, const char *why)
{
    const double start = now();
    loaded l = load_text_n(text->data, text->length, NULL);
    const double took = now() - start;
    cr_expect_eq(l.status, PIPE_EPIPELINE, "%s", why);
    cr_assert_eq(l.diag.errors, 1, "%s: %zu errors", why, l.diag.errors);
    cr_expect_not_null(strstr(l.diag.v[0].message, part), "%s: %s", why, l.diag.v[0].message);
    cr_expect_lt(took, 1.0, "%s took %.2f s", why, took);
    unload(&l);
}

Test(graph_limits, nesting)
{
    static const char *const open[] = {"[", "{a: ", "- ", "? "};
    for (size_t k = 0; k < 4; k++) {
        PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
        pipe_text_add(&t, "vars: \n  ");
        for (size_t i = 0; i < 10000; i++)
            pipe_text_add(&t, open[k]);
        refused(&t, "more than 64 levels of nesting", open[k]);
    }
}

Test(graph_limits, just_deep_enough)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    pipe_text_add(&t, "nodes: {p: {plugin: pass}}\nvars: {a: ");       /* levels 1 and 2 */
    for (size_t k = 0; k < 61; k++)
        pipe_text_add(&t, "[");
    pipe_text_add(&t, "x");
    for (size_t k = 0; k < 61; k++)
        pipe_text_add(&t, "]");
    pipe_text_add(&t, "}\n");
    loaded l = load_text(t.data, NULL);
    MUST_LOAD(l);
    unload(&l);
}

Test(graph_limits, billion_laughs)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    pipe_text_add(&t, "vars:\n  a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for (int k = 1; k < 12; k++) {
        pipe_text_addf(&t, "  a%d: &a%d [", k, k);
        for (int i = 0; i < 9; i++)
            pipe_text_addf(&t, "%s*a%d", i ? ", " : "", k - 1);
        pipe_text_add(&t, "]\n");
    }
    pipe_text_add(&t, "nodes: {p: {plugin: pass}}\n");
    refused(&t, "more than 10000 YAML nodes", "aliases");
}

Test(graph_limits, laughs_by_merging)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    pipe_text_add(&t, "vars:\n  m0: &m0 {");
    for (int k = 0; k < 400; k++)
        pipe_text_addf(&t, "%sk%d: 1", k ? ", " : "", k);
    pipe_text_add(&t, "}\n");
    for (int k = 1; k < 40; k++)
        pipe_text_addf(&t, "  m%d: &m%d {<<: *m%d}\n", k, k, k - 1);
    pipe_text_add(&t, "nodes: {p: {plugin: pass}}\n");
    refused(&t, "more than 10000 YAML nodes", "merges");
}

Test(graph_limits, laughs_by_variables)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text lists = {0}, texts = {0};
    pipe_text_add(&lists, "nodes: {p: {plugin: pass}}\nvars:\n  v0: x\n");
    pipe_text_add(&texts, "nodes: {p: {plugin: pass}}\nvars:\n  v0: xxxxxxxxxx\n");
    for (int k = 1; k < 30; k++) {
        pipe_text_addf(&lists, "  v%d: [\"${v%d}\", \"${v%d}\", \"${v%d}\"]\n", k, k - 1, k - 1, k - 1);
        pipe_text_addf(&texts, "  v%d: \"${v%d}${v%d}${v%d}.\"\n", k, k - 1, k - 1, k - 1);
    }
    refused(&lists, "variables expand to more than", "lists");
    refused(&texts, "variables expand to more than", "texts");
}

Test(graph_limits, too_many_bytes)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    for (size_t k = 0; k < (1 << 20) / 16 + 1; k++)
        pipe_text_add(&t, "# a comment...\n\n");
    refused(&t, "at most 1048576 bytes", "comments");
}

Test(graph_limits, too_many_nodes)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    pipe_text_add(&t, "vars:\n");
    for (size_t k = 0; k < 6000; k++)
        pipe_text_addf(&t, "  v%zu: 1\n", k);
    refused(&t, "more than 10000 YAML nodes", "variables");
}

Test(graph_limits, a_long_chain_is_fine)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    pipe_text_add(&t, "nodes:\n");
    for (int k = 0; k < 1500; k++)
        pipe_text_addf(&t, "  n%d: {plugin: pass, value: n%d}\n", k, k + 1);
    pipe_text_add(&t, "  n1500: {plugin: denoiser.unet, channels: 1}\n");
    const double start = now();
    loaded l = load_text(t.data, NULL);
    MUST_LOAD(l);
    cr_expect_lt(now() - start, 2.0);
    cr_expect_str_eq(l.graph->node[0]->name, "n1500");
    cr_expect_str_eq(l.graph->node[1500]->kind, "denoiser");
    unload(&l);
}

Test(graph_limits, fifty_errors_and_the_number_of_the_others)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0}, out = {0};
    pipe_text_add(&t, "nodes:\n");
    for (int k = 0; k < 60; k++)
        pipe_text_addf(&t, "  n%d: {plugin: quux}\n", k);
    loaded l = load_text(t.data, NULL);
    cr_expect_eq(l.diag.n, 50);
    cr_expect_eq(l.diag.errors, 60);
    cr_expect_eq(l.diag.suppressed, 10);
    for (uint32_t k = 0; k < 50; k++)
        cr_expect_eq(l.diag.v[k].at.line, k + 2, "in file order");
    cr_expect_str_eq(l.err.message, "q.yaml: 60 errors");
    pipei_diagnostics_print(&l.diag, &out, false);
    cr_expect_not_null(strstr(out.data, "and 10 more errors\n"));
    unload(&l);
}

Test(graph_limits, every_cut_of_a_pipeline_is_survived)
{
    static const char text[] =
        "vars: {w: &w 3, l: [1, 2]}\nnodes:\n  u: {plugin: denoiser.unet, channels: \"${w}\", "
        "multipliers: *w}\n  o: &o\n    plugin: objective.denoise\n    schedule: {plugin: "
        "schedule.cosine}\n  m: {<<: *o, plugin: fit, model: u, objective: o}\n"
        "expect: {m.loss: {max: 1}}\nsweep: {u.channels: [1, 2]}\n";
    for (size_t n = 0; n < sizeof text; n++) {
        loaded l = load_text_n(text, n, NULL);
        cr_expect(l.status == PIPE_OK || l.diag.errors > 0, "cut at %zu", n);
        unload(&l);
    }
}
