/* pipe runs, pipe show */
#include "core/run/run.h"
#include "cli.h"

static const cli_option options[] = {
    {"json", 0, NULL, "print one JSON document"},
    {NULL}
};

static int finish(const cli_args *a, pipe_status status, const pipe_text *t, const pipe_error *err)
{
    return status == PIPE_OK ? cli_output(a, t) : cli_fail_error(status, err);
}

static int run_runs(const cli_args *a)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    pipe_error err = PIPE_ERROR_INIT;
    if (!cli_operands(a, 0, 1, "folder"))
        return EXIT_USAGE;
    const char *folder = a->n_operands ? a->operand[0] : NULL;
    return finish(a, pipei_runs_list(folder, cli_flag(a, "json"), &t, &err), &t, &err);
}

static int run_show(const cli_args *a)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    pipe_error err = PIPE_ERROR_INIT;
    if (!cli_operands(a, 1, 1, "run"))
        return EXIT_USAGE;
    return finish(a, pipei_runs_show(a->operand[0], cli_flag(a, "json"), &t, &err), &t, &err);
}

const cli_verb cli_verb_runs = {
    .name = "runs", .summary = "Lists finished and unfinished runs", .usage = "[OPTIONS] [FOLDER]",
    .help = "FOLDER holds the runs; without it, runs/ in the working directory, if there is one.",
    .options = options, .run = run_runs,
};

const cli_verb cli_verb_show = {
    .name = "show",
    .summary = "Shows one run: steps, numbers, expectations, files",
    .usage = "[OPTIONS] RUN",
    .help = "RUN is the folder of a run, a pipeline (its latest run), or the name of a run in runs/.",
    .options = options,
    .run = run_show,
};
