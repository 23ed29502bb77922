/* pipe graph */
#include "cli.h"

static const cli_option options[] = {
    {"set", 0, "NODE.KEY=VALUE", "draw the pipeline with this change; may be repeated"},
    {"output", 'o', "FILE", "write to a file instead of standard output"},
    {"overwrite", 0, NULL, "replace an existing file"},
    {NULL}
};

static int run(const cli_args *a)
{
    PIPE_CLEANUP(cli_inputs_free) cli_inputs in = {0};
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    pipe_error err = PIPE_ERROR_INIT;
    pipei_diagnostics diag = {0};
    pipei_graph *g = NULL;
    cli_split_inputs(a, &in);
    if (in.n_files != 1)
        return cli_usage(a->verb, in.n_files ? "one pipeline at most" : "the pipeline file is missing");
    if (!cli_check_file(in.file[0]))
        return EXIT_USAGE;
    PIPE_CLEANUP(cli_close_registry) pipei_registry *reg = cli_open_registry();
    if (!reg)
        return EXIT_RUN;
    const pipe_status status =
        pipei_graph_load(in.file[0], in.override, in.n_overrides, reg, &g, &diag, &err);
    cli_print_diagnostics(&diag);
    pipei_diagnostics_free(&diag);
    if (status != PIPE_OK)
        return cli_fail_error(status, &err);
    pipei_graph_dot(g, &t);
    pipei_graph_free(g);
    return cli_output(a, &t);
}

const cli_verb cli_verb_graph = {
    .name = "graph",
    .summary = "Draws a pipeline as a graph, for graphviz",
    .usage = "[OPTIONS] FILE [NODE.KEY=VALUE ...]",
    .help =
        "The text is in the DOT language: `pipe graph q.yaml | dot -Tsvg > q.svg`. Boxes are steps, ellipses "
        "components, dashed ones are written inside another node.",
    .options = options,
    .run = run,
};
