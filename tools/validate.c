/* pipe validate */
#include "cli.h"

#include <stdio.h>
#include <string.h>

enum { MEMBERS_CHECKED = 256 };

static const cli_option options[] = {
    {"set", 0, "NODE.KEY=VALUE", "check the pipeline with this change; may be repeated"},
    {"json", 0, NULL, "print one JSON document with all diagnostics"},
    {NULL}
};

static json_t *diagnostics_json(const pipei_diagnostics *d)
{
    json_t *list = json_array();
    for (size_t k = 0; k < d->n; k++) {
        const pipei_diagnostic *x = &d->v[k];
        json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:i, s:i, s:s, s:s?, s:s?}", "level",
                                              x->level == PIPE_LOG_ERROR ? "error" : "warning", "file",
                                              x->at.file, "line", (int)x->at.line, "column",
                                              (int)x->at.column, "length", (int)x->at.length, "message",
                                              x->message, "help", x->help, "note", x->note));
    }
    return list;
}

/* The combinations of a sweep can be wrong where its axes alone are not. */
static pipe_status check_members(const pipei_graph *g, const cli_inputs *in,
                                 pipei_registry *reg, pipei_diagnostics *diag, pipe_error *err)
{
    const size_t members = pipei_graph_members(g);
    const char **override = pipe_alloc_array(in->n_overrides + g->n_axes + 1, sizeof *override);
    pipe_status status = PIPE_OK;
    for (size_t k = 0; k < in->n_overrides; k++)
        override[k] = in->override[k];
    for (size_t k = 0; k < members && members > 1 && k < MEMBERS_CHECKED && status == PIPE_OK; k++) {
        pipei_graph *member = NULL;
        const size_t n = pipei_graph_member_overrides(g, k, override + in->n_overrides);
        pipei_diagnostics_free(diag);
        /* the text again, not the file: it may have come through a pipe */
        status = pipei_graph_load_text(g->text, g->text_length, g->path, override, in->n_overrides + n, reg,
                                       &member, diag, err);
        pipei_graph_free(member);
    }
    pipe_free(override);
    return status;
}

static int check(const char *path, const cli_inputs *in, pipei_registry *reg, json_t *files)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipei_diagnostics diag = {0};
    pipei_graph *g = NULL;
    size_t nodes = 0, members = 0;
    if (!files && !cli_check_file(path))
        return EXIT_USAGE;
    pipe_status status = pipei_graph_load(path, in->override, in->n_overrides, reg, &g, &diag, &err);
    if (status == PIPE_OK) {
        nodes = g->n_nodes;
        members = pipei_graph_members(g);
        status = check_members(g, in, reg, &diag, &err);
        pipei_graph_free(g);
    }
    /* Anything that went wrong here concerns the file. */
    const int exit_status = status == PIPE_OK ? 0 : EXIT_USAGE;
    if (files) {
        json_t *file = json_pack("{s:s, s:b, s:o}", "file", path, "valid", status == PIPE_OK, "diagnostics",
                                 diagnostics_json(&diag));
        if (status == PIPE_OK)
            json_object_update_new(file, json_pack("{s:I, s:I}", "nodes", (json_int_t)nodes, "members",
                                                   (json_int_t)members));
        else if (diag.n == 0)
            json_object_set_new(file, "error", json_string(err.message));
        json_array_append_new(files, file);
    } else {
        cli_print_diagnostics(&diag);
        if (status == PIPE_OK && members > 1)
            printf("%s: valid, %zu nodes, %zu members\n", path, nodes, members);
        else if (status == PIPE_OK)
            printf("%s: valid, %zu node%s\n", path, nodes, nodes == 1 ? "" : "s");
        else
            cli_fail(EXIT_USAGE, "%s", err.message);
    }
    pipei_diagnostics_free(&diag);
    return exit_status;
}

static int run(const cli_args *a)
{
    PIPE_CLEANUP(cli_inputs_free) cli_inputs in = {0};
    cli_split_inputs(a, &in);
    if (in.n_files == 0)
        return cli_usage(a->verb, "the pipeline file is missing");
    PIPE_CLEANUP(cli_close_registry) pipei_registry *reg = cli_open_registry();
    if (!reg)
        return EXIT_RUN;
    json_t *files = cli_flag(a, "json") ? json_array() : NULL;
    int status = 0;
    for (size_t k = 0; k < in.n_files; k++) {
        const int one = check(in.file[k], &in, reg, files);
        status = one ? one : status;
    }
    if (files) {
        const int printed = cli_output_json(json_pack("{s:b, s:o}", "valid", status == 0, "files", files));
        status = printed ? printed : status;
    }
    return status;
}

const cli_verb cli_verb_validate = {
    .name = "validate",
    .summary = "Checks pipelines without running them",
    .usage = "[OPTIONS] FILE... [NODE.KEY=VALUE ...]",
    .help = "Finds unknown names, wrong kinds, values out of range, missing files and cycles, all in one "
            "pass, each "
            "with its line and the nearest valid name. No plugin is opened and no device touched.\n\n"
            "Exit status: 0 all valid, 2 otherwise.",
    .options = options,
    .run = run,
};
