/* The verbs of `pipe`, in the order in which --help shows them. */
#include "cli.h"

#include <string.h>

extern const cli_verb cli_verb_run, cli_verb_validate, cli_verb_schema, cli_verb_graph, cli_verb_devices,
    cli_verb_env, cli_verb_cache, cli_verb_runs, cli_verb_show, cli_verb_plot, cli_verb_help, cli_verb_inspect,
    cli_verb_new_plugin, cli_verb_completion, cli_verb_man, cli_verb_bench, cli_verb_tune;

const cli_verb *const cli_verbs[] = {
    &cli_verb_run,
    &cli_verb_validate,
    &cli_verb_inspect,
    &cli_verb_graph,
    &cli_verb_schema,
    &cli_verb_runs,
    &cli_verb_show,
    &cli_verb_plot,
    &cli_verb_cache,
    &cli_verb_devices,
    &cli_verb_env,
    &cli_verb_bench,
    &cli_verb_tune,
    &cli_verb_new_plugin,
    &cli_verb_completion,
    &cli_verb_man,
    &cli_verb_help,
    NULL
};

const cli_verb *cli_find_verb(const char *name)
{
    for (size_t k = 0; cli_verbs[k]; k++)
        if (strcmp(cli_verbs[k]->name, name) == 0)
            return cli_verbs[k];
    return NULL;
}
