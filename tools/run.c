/* pipe run */
#include "core/run/run.h"
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const cli_option options[] = {
    {"dry-run", 'n', NULL, "list every step with run or cached, and why; run nothing"},
    {"output", 'o', "DIR", "folder that holds the runs (default: runs)"},
    {"set", 0, "NODE.KEY=VALUE", "change a parameter or input; may be repeated"},
    {"seed", 0, "N", "the same as --set seed=N"},
    {"device", 0, "DEVICE", "auto, cpu, gpu, or one that `pipe devices` lists"},
    {"device-profile", 0, "NAME", "kernels of another class of device: gpu, avx512, avx2 or sse"},
    {"profile", 0, NULL, "time every kernel and write trace.json, for Perfetto or about:tracing; slows the run down"},
    {"force", 'f', "[NODE]", "run this step although its result is cached; without NODE, all"},
    {"no-cache", 0, NULL, "neither read nor write cached results"},
    {"resume", 0, NULL, "continue the last run of this pipeline from its checkpoints"},
    {"keep-going", 'k', NULL, "after a failure, run the steps that do not need what failed"},
    {"fail-fast", 0, NULL, "end a sweep at its first failure"},
    {"no-metadata", 0, NULL, "leave the pipeline out of the files that are written"},
    {"progress", 0, "HOW", "auto, bar, plain, json or none"},
    {"print-config", 0, NULL, "print the pipeline with all defaults and run nothing"},
    {"json", 0, NULL, "print one JSON document about the run"},
    {NULL}
};

static bool check_progress(const cli_args *a, const char *value)
{
    static const char *const known[] = {"auto", "bar", "plain", "json", "none"};
    for (size_t k = 0; k < 5; k++)
        if (strcmp(value, known[k]) == 0)
            return true;
    const char *near = pipe_nearest(value, known, 5);
    cli_usage(a->verb, "--progress=%s: auto, bar, plain, json or none%s%s%s", value,
              near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    return false;
}

static int print_config(const char *path, const cli_inputs *in, pipei_registry *reg)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    pipe_error err = PIPE_ERROR_INIT;
    pipei_diagnostics diag = {0};
    pipei_graph *g = NULL;
    const pipe_status status = pipei_graph_load(path, in->override, in->n_overrides, reg, &g, &diag, &err);
    cli_print_diagnostics(&diag);
    pipei_diagnostics_free(&diag);
    if (status != PIPE_OK)
        return cli_fail_error(status, &err);
    pipei_graph_resolved(g, &t);
    pipei_graph_free(g);
    fwrite(t.data, 1, t.length, stdout);
    return 0;
}

/* Warnings must not wait for the end of a run of hours.  false: invalid, which has been said. */
static bool check_first(const char *path, const cli_inputs *in, pipei_registry *reg)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipei_diagnostics diag = {0};
    pipei_graph *g = NULL;
    const pipe_status status = pipei_graph_load(path, in->override, in->n_overrides, reg, &g, &diag, &err);
    cli_print_diagnostics(&diag);
    pipei_diagnostics_free(&diag);
    pipei_graph_free(g);
    if (status != PIPE_OK)
        cli_fail_error(status, &err);
    return status == PIPE_OK;
}

static int run_pipeline(const cli_args *a, const char *path, const cli_inputs *in, pipei_registry *reg)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipei_diagnostics diag = {0};
    const char **force = pipe_alloc_array(a->n_given + 1, sizeof *force);
    const char *progress = cli_value(a, "progress");
    pipei_run_options o = {
        .output = cli_value(a, "output"),
        .device = cli_value(a, "device"),
        .device_profile = cli_value(a, "device-profile"),
        .profile = cli_flag(a, "profile"),
        .dry_run = cli_flag(a, "dry-run"),
        .no_cache = cli_flag(a, "no-cache"),
        .resume = cli_flag(a, "resume"),
        .keep_going = cli_flag(a, "keep-going"),
        .fail_fast = cli_flag(a, "fail-fast"),
        .no_metadata = cli_flag(a, "no-metadata"),
        .json = cli_flag(a, "json"),
        .force = force,
        .progress = progress ? progress : "auto",
        .overrides = in->override,
        .n_overrides = in->n_overrides,
        .argc = a->argc,
        .argv = a->argv,
    };
    o.n_force = cli_values(a, "force", force, a->n_given);
    for (size_t k = 0; k < a->n_given; k++)
        o.force_all = o.force_all || (strcmp(a->given[k].option->name, "force") == 0 && !a->given[k].value);
    int exit_status = -1;
    struct stat st;
    const bool twice = stat(path, &st) == 0 && S_ISREG(st.st_mode);     /* a pipe can be read once */
    if (twice && !check_first(path, in, reg)) {
        pipe_free(force);
        return EXIT_USAGE;
    }
    const pipe_status status = pipei_run_file(path, reg, &o, &exit_status, &diag, &err);
    if (status == PIPE_EPIPELINE || !twice)
        cli_print_diagnostics(&diag);
    pipei_diagnostics_free(&diag);
    pipe_free(force);
    if (status == PIPE_OK)
        return exit_status;
    const int mapped = cli_fail_error(status, &err);
    return exit_status > 0 ? exit_status : mapped;
}

static int run(const cli_args *a)
{
    PIPE_CLEANUP(cli_inputs_free) cli_inputs in = {0};
    PIPE_CLEANUP(pipe_free_ptr) char *seed = NULL;
    const char *progress = cli_value(a, "progress");
    cli_split_inputs(a, &in);
    if (in.n_files == 0)
        return cli_usage(a->verb, "the pipeline file is missing");
    if (in.n_files > 1)
        return cli_usage(a->verb, "\"%s\": one pipeline at most", in.file[1]);
    if (progress && !check_progress(a, progress))
        return EXIT_USAGE;
    if (cli_value(a, "seed")) {
        seed = pipe_format("seed=%s", cli_value(a, "seed"));
        in.override[in.n_overrides++] = seed;
    }
    if (!cli_check_file(in.file[0]))
        return EXIT_USAGE;
    PIPE_CLEANUP(cli_close_registry) pipei_registry *reg = cli_open_registry();
    if (!reg)
        return EXIT_RUN;
    return cli_flag(a, "print-config") ? print_config(in.file[0], &in, reg)
                                       : run_pipeline(a, in.file[0], &in, reg);
}

const cli_verb cli_verb_run = {
    .name = "run",
    .summary = "Runs a pipeline",
    .usage = "[OPTIONS] FILE [NODE.KEY=VALUE ...]",
    .help = "FILE is a YAML pipeline, or - for standard input. Every argument NODE.KEY=VALUE behind it "
            "changes one "
            "parameter or input, as --set does: `pipe run quickstart.yaml solver.plugin=sampler.heun`. Also "
            "seed=N, "
            "device=NAME and vars.NAME=VALUE.\n\n"
            "Steps whose plugin, parameters and inputs did not change are taken from the cache. Results are "
            "written "
            "to runs/PIPELINE/TIME-HASH/.\n\n"
            "Exit status: 0 done and every expectation met, 1 an expectation not met, 2 wrong usage or an "
            "invalid "
            "pipeline, 3 a failure while running, 130 or 143 ended by a signal after writing a checkpoint.",
    .options = options,
    .run = run,
};
