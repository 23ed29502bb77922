/* pipe schema */
#include "cli.h"

static const cli_option options[] = {
    {"output", 'o', "FILE", "write to a file instead of standard output"},
    {"overwrite", 0, NULL, "replace an existing file"},
    {NULL}
};

static int run(const cli_args *a)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    pipe_error err = PIPE_ERROR_INIT;
    if (!cli_operands(a, 0, 0, "argument"))
        return EXIT_USAGE;
    PIPE_CLEANUP(cli_close_registry) pipei_registry *reg = cli_open_registry();
    if (!reg)
        return EXIT_RUN;
    const pipe_status status = pipei_graph_schema(reg, &t, &err);
    return status == PIPE_OK ? cli_output(a, &t) : cli_fail_error(status, &err);
}

const cli_verb cli_verb_schema = {
    .name = "schema",
    .summary = "Prints the JSON Schema of pipelines, for editors",
    .usage = "[OPTIONS]",
    .help =
        "It describes every plugin that is installed. With `pipe schema -o pipe.schema.json` and the line\n"
        "  # yaml-language-server: $schema=pipe.schema.json\n"
        "at the top of a pipeline, an editor completes and checks names, keys and ranges.",
    .options = options,
    .run = run,
};
