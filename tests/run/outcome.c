/* Expectations, failures, the run folder, sweeps, progress lines. */
#include "run/run-test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const pipei_run_options plain = {.progress = "none", .device = "cpu"};

static void check_parts(const char *text, const char *parts, const char *what)
{
    for (const char *p = parts; *p; ) {
        const size_t n = strcspn(p, "|");
        PIPE_CLEANUP(pipe_free_ptr) char *part = pipe_format("%.*s", (int)n, p);
        cr_expect_not_null(strstr(text, part), "%s: \"%s\" is missing in:\n%s", what, part, text);
        p += n + (p[n] == '|');
    }
}

/* ---- expectations ---- */

Test(run_outcome, expectations_decide_the_exit_status)
{
    static const struct { const char *expect; int exit_status; const char *table; } cases[] = {
        {"a.sum: {min: 10}", 0, "a.sum|10|min 10|met"},
        {"a.sum: {max: 9.5}", 1, "a.sum|max 9.5|NOT MET"},
        {"a.loss: {min: 0.5, max: 1}", 0, "a.loss|min 0.5, max 1|met"},
        {"a.sum: {min: 11, max: 12}", 1, "NOT MET"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        PIPE_CLEANUP(run_leave) char *folder = run_place();
        PIPE_CLEANUP(pipe_free_ptr) char *yaml = pipe_format("nodes:\n"
                                                             "  data: {plugin: dataset.numbers}\n"
                                                             "  a: {plugin: make, data: data, add: 1}\n"
                                                             "expect:\n  %s\n", cases[k].expect);
        PIPE_CLEANUP(result_free) result r = run_plain(yaml);
        RAN(r);
        cr_expect_eq(r.out.exit_status, cases[k].exit_status, "%s", cases[k].expect);
        check_parts(r.out.table.data, cases[k].table, cases[k].expect);
        cr_expect_eq(json_is_true(json_object_get(r.out.manifest, "expectations_met")),
                     cases[k].exit_status == 0);
        cr_expect_str_eq(pipei_json_text(r.out.manifest, "state"), "complete",
                         "an unmet bound is not a failure");
    }
}

Test(run_outcome, a_number_that_was_never_reported)
{
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    PIPE_CLEANUP(result_free) result r = run_plain("nodes:\n"
                                                   "  data: {plugin: dataset.numbers}\n"
                                                   "  a: {plugin: make, data: data}\n"
                                                   "expect:\n"
                                                   "  a.summ: {min: 1}\n");
    check_failure(r.status, PIPE_ENOTFOUND, &r.err,
                  "test.yaml:5:|`a` never reported `summ`|loss, sum|did you mean sum", "never reported");
    cr_expect_eq(r.out.exit_status, 3);
}

/* ---- failures ---- */

typedef struct failure_case {
    const char *change;
    pipe_status status;
    const char *message;
} failure_case;

Test(run_outcome, failures_name_the_node_and_leave_nothing_half_written)
{
    static const failure_case cases[] = {
        {"b.fail=early", PIPE_EDOMAIN, "test.yaml:5:|b: this cannot be computed"},
        {"b.fail=late", PIPE_EDOMAIN, "test.yaml:5:|b: this cannot be computed to the end"},
        {"b.fail=nan", PIPE_EDOMAIN, "b: `loss` is NaN at step 2"},
        {"b.fail=forget", PIPE_EPLUGIN, "b: make did not yield its output `out`"},
    };
    static const char yaml[] = "pipeline: fails\n"
                               "nodes:\n"
                               "  data: {plugin: dataset.numbers}\n"
                               "  a: {plugin: make, data: data}\n"
                               "  b: {plugin: make, data: a}\n"
                               "  c: {plugin: make, data: b}\n"
                               "  d: {plugin: make, data: a, add: 7}\n";
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        PIPE_CLEANUP(run_leave) char *folder = run_place();
        const char *const change[] = {cases[k].change, NULL};
        PIPE_CLEANUP(result_free) result r = run_text(yaml, &plain, change);
        check_failure(r.status, cases[k].status, &r.err, cases[k].message, cases[k].change);
        cr_expect_eq(r.out.exit_status, 3);
        cr_expect_str_eq(run_state(&r, "a"), "done");
        cr_expect_str_eq(run_state(&r, "b"), "failed");
        cr_expect_str_eq(pipei_json_text(r.out.manifest, "state"), "failed");
        PIPE_CLEANUP(pipe_free_ptr) char *outputs = pipei_path_join(r.out.folder, "outputs/b");
        cr_expect_not(pipei_path_exists(outputs), "%s left files", cases[k].change);
        PIPE_CLEANUP(pipe_free_ptr) char *log = run_read(r.out.folder, "log.txt");
        check_parts(log, cases[k].message, "log.txt");
        cr_expect_eq(folder_count("cache/steps"), 1, "the finished step is cached, nothing else");

        pipei_run_options on = plain;                   /* what does not need `b` goes on */
        on.keep_going = true;
        PIPE_CLEANUP(result_free) result more = run_text(yaml, &on, change);
        check_failure(more.status, cases[k].status, &more.err, "1 step has failed|b: ", "--keep-going");
        cr_expect_str_eq(run_state(&more, "a"), "cached");
        cr_expect_str_eq(run_state(&more, "c"), "skipped");
        cr_expect_str_eq(run_state(&more, "d"), "done");
        cr_expect(pipei_path_exists(r.out.folder), "the failed run is kept, to be looked at");
        PIPE_CLEANUP(result_free) result fixed = run_plain(yaml);
        RAN(fixed);
        cr_expect_eq(run_count("a"), 1);
    }
}

/* ---- the run folder ---- */

Test(run_outcome, folder_as_promised)
{
    static const char yaml[] = "pipeline: layout\n"
                               "seed: 18446744073709551615\n"
                               "nodes:\n"
                               "  data: {plugin: dataset.numbers}\n"
                               "  a: {plugin: make, data: data, add: 1}\n";
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    pipei_run_options o = plain;
    char *argv[] = {(char[]){"pipe"}, (char[]){"run"}, (char[]){"x <&> y"}};
    o.argc = 3;
    o.argv = argv;
    PIPE_CLEANUP(result_free) result r = run_text(yaml, &o, NULL);
    RAN(r);
    static const char *const files[] = {"pipeline.yaml",     "resolved.yaml", "manifest.json",
                                        "metrics.jsonl",     "log.txt",       "report.html",
                                        "outputs/a/note.txt"};
    for (size_t k = 0; k < sizeof files / sizeof files[0]; k++) {
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(r.out.folder, files[k]);
        cr_expect(pipei_path_exists(path), "%s", path);
    }
    cr_expect_eq(folder_count(r.out.folder), 7, "nothing else");
    char latest[64] = "";
    cr_assert_gt(readlink("runs/layout/latest", latest, sizeof latest - 1), 0);
    cr_expect_str_eq(latest, pipei_path_name(r.out.folder));
    cr_expect_eq(strlen(latest), strlen("20261123-201500-3fa9c1"));
    cr_expect_eq(strspn(latest, "0123456789"), 8);

    PIPE_CLEANUP(pipe_free_ptr) char *written = run_read(r.out.folder, "pipeline.yaml");
    cr_expect_str_eq(written, yaml);
    cr_expect_str_eq(pipei_json_text(r.out.manifest, "seed"), "18446744073709551615");
    cr_expect_str_eq(json_string_value(json_array_get(json_object_get(r.out.manifest, "command"), 2)),
                     "x <&> y");
    cr_expect_eq(json_array_size(json_object_get(r.out.manifest, "plugins")), 2);
    PIPE_CLEANUP(pipe_free_ptr) char *report = run_read(r.out.folder, "report.html");
    check_parts(report, "<!doctype html>|<svg|layout|complete|note.txt|</html>", "report.html");
    cr_expect_null(strstr(report, "<script"), "no script");
    cr_expect_null(strstr(report, "src=\"http"), "nothing from elsewhere");

    /* what was resolved is the same pipeline */
    PIPE_CLEANUP(pipe_free_ptr) char *resolved = run_read(r.out.folder, "resolved.yaml");
    PIPE_CLEANUP(result_free) result again = run_plain(resolved);
    RAN(again);
    cr_expect_str_eq(run_state(&again, "a"), "cached");

    PIPE_CLEANUP(pipe_text_free) pipe_text text = {0};
    pipe_error err = PIPE_ERROR_INIT;
    MUST(pipei_runs_list(NULL, false, &text, &err));
    check_parts(text.data, "layout/20|complete", "runs");
    pipe_text_clear(&text);
    MUST(pipei_runs_show("layout", false, &text, &err));
    check_parts(text.data, "pipeline  layout|state     complete|sum 10|outputs/a/note.txt", "show");
    check_failure(pipei_runs_show("nothing", false, &text, &err), PIPE_ENOTFOUND, &err, "nothing|pipe runs",
                  "show");
}

Test(run_outcome, a_pipeline_that_does_nothing)
{
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    PIPE_CLEANUP(result_free) result r = run_plain("nodes:\n  data: {plugin: dataset.numbers}\n");
    RAN(r);
    cr_expect(json_is_null(json_object_get(r.out.manifest, "device")), "a device was opened for nothing");
}

/* Root may write anywhere, so the folder is made impossible in another way as well. */
Test(run_outcome, a_folder_that_cannot_be_written)
{
    static const char yaml[] = "pipeline: p\nnodes:\n  data: {plugin: dataset.numbers}\n";
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    MUST(pipei_file_write("runs", "x", 1, &err));
    PIPE_CLEANUP(result_free) result r = run_plain(yaml);
    check_failure(r.status, r.status, &r.err, "runs|--output", "a file in the way");
    cr_expect_eq(r.out.exit_status, 3);
    cr_expect_null(r.out.folder);
    if (geteuid() == 0)
        return;
    MUST(pipei_make_folders("locked", &err));
    cr_assert_eq(chmod("locked", 0555), 0);
    pipei_run_options o = plain;
    o.output = "locked";
    PIPE_CLEANUP(result_free) result two = run_text(yaml, &o, NULL);
    check_failure(two.status, PIPE_EIO, &two.err, "locked|Permission denied|--output", "read-only");
}

/* The limit of file sizes stands for a full disk: the same error at the same place. */
Test(run_outcome, a_full_disk)
{
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    static const char yaml[] = "pipeline: p\nnodes:\n"
                               "  data: {plugin: dataset.numbers, count: 20000}\n"
                               "  a: {plugin: make, data: data}\n";
    const struct rlimit limit = {100000, RLIM_INFINITY};        /* the value has 240,000 bytes */
    struct rlimit before;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    PIPE_CLEANUP(result_free) result full = run_plain(yaml);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    cr_expect_eq(full.out.exit_status, 3);
    check_parts(full.err.message, "a: |cache|File too large", "message");
    cr_expect_null(strchr(full.err.message, '\n'), "one message: %s", full.err.message);
    cr_expect_eq(folder_count("cache/steps"), 0, "a half-written entry was left");
    PIPE_CLEANUP(result_free) result r = run_plain(yaml);
    RAN(r);
    cr_expect_eq(run_count("a"), 2);
}

/* ---- sweeps: through the file, as the program does ---- */

static int sweep_file(const char *yaml, const pipei_run_options *o, pipe_error *err)
{
    FILE *told = tmpfile();
    int status;

    cr_assert_eq(pipei_file_write("sweep.yaml", yaml, strlen(yaml), err), PIPE_OK, "%s", err->message);
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        pipei_diagnostics diag = {0};
        pipei_registry *registry = run_registry();
        int exit_status = -1;
        dup2(open("/dev/null", O_WRONLY), 1);
        if (pipei_run_file("sweep.yaml", registry, o, &exit_status, &diag, err) != PIPE_OK)
            fputs(err->message, told);
        fflush(told);
        pipei_diagnostics_free(&diag);
        pipei_registry_close(registry);
        _exit(exit_status);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    rewind(told);
    err->message[fread(err->message, 1, sizeof err->message - 1, told)] = '\0';
    fclose(told);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static char *only_sweep(void)
{
    PIPE_CLEANUP(pipei_listing_free) pipei_listing list = {0};
    pipe_error err = PIPE_ERROR_INIT;

    MUST(pipei_list_folder("runs/grid", &list, &err));
    cr_assert_eq(list.count, 1);
    return pipe_format("runs/grid/%s", list.entries[0].name);
}

Test(run_sweep, members_table_and_only_what_is_missing)
{
    static const char yaml[] = "pipeline: grid\n"
                               "nodes:\n"
                               "  data: {plugin: dataset.numbers}\n"
                               "  a: {plugin: make, data: data}\n"
                               "sweep:\n"
                               "  a.add: [1, 2]\n"
                               "  data.scale: [1, 3]\n";
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    pipe_error err = PIPE_ERROR_INIT;
    cr_expect_eq(sweep_file(yaml, &plain, &err), 0, "%s", err.message);
    PIPE_CLEANUP(pipe_free_ptr) char *sweep = only_sweep();
    PIPE_CLEANUP(pipe_free_ptr) char *table = run_read(sweep, "sweep.csv");
    check_parts(
        table, "member,state,a.add,data.scale,a.loss,a.sum\n|000,complete,1,1,1,10\n|003,complete,2,3,1,26\n",
        "sweep.csv");
    cr_expect_eq(run_count("a"), 4);

    PIPE_CLEANUP(pipe_free_ptr) char *one = pipei_path_join(sweep, "001");
    MUST(pipei_remove_tree(one, &err));
    MUST(pipei_remove_tree("cache", &err));
    cr_expect_eq(sweep_file(yaml, &plain, &err), 0, "%s", err.message);
    cr_expect_eq(run_count("a"), 5, "only the missing member runs");
    PIPE_CLEANUP(pipe_free_ptr) char *again = run_read(sweep, "sweep.csv");
    cr_expect_str_eq(again, table);
}

Test(run_sweep, failures_do_not_stop_the_others)
{
    static const char yaml[] = "pipeline: grid\n"
                               "nodes:\n"
                               "  data: {plugin: dataset.numbers}\n"
                               "  a: {plugin: make, data: data}\n"
                               "sweep:\n"
                               "  a.fail: [no, late, early, no]\n"
                               "expect:\n"
                               "  a.sum: {min: 0}\n";
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    pipe_error err = PIPE_ERROR_INIT;
    pipei_run_options o = plain;
    o.no_cache = true;                          /* `fail` is outside the key */
    cr_expect_eq(sweep_file(yaml, &o, &err), 3);
    check_parts(err.message, "2 of 4 members failed|001 a.fail=late|002 a.fail=early|this cannot be computed",
                "summary");
    PIPE_CLEANUP(pipe_free_ptr) char *sweep = only_sweep();
    PIPE_CLEANUP(pipe_free_ptr) char *table = run_read(sweep, "sweep.csv");
    check_parts(table, "000,complete,no|001,failed,late|002,failed,early|003,complete,no", "sweep.csv");
    cr_expect_eq(run_count("a"), 4);
    cr_expect_eq(sweep_file(yaml, &o, &err), 3);
    cr_expect_eq(run_count("a"), 6, "the failed ones are tried again, the others are kept");

    PIPE_CLEANUP(run_leave) char *other = run_place();
    o.fail_fast = true;
    cr_expect_eq(sweep_file(yaml, &o, &err), 3);
    cr_expect_eq(run_count("a"), 2, "--fail-fast");
}

Test(run_sweep, an_unmet_expectation_is_not_a_failure)
{
    static const char yaml[] = "pipeline: grid\n"
                               "nodes:\n"
                               "  data: {plugin: dataset.numbers}\n"
                               "  a: {plugin: make, data: data}\n"
                               "sweep:\n"
                               "  a.add: [1, 100]\n"
                               "expect:\n"
                               "  a.sum: {max: 50}\n";
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    pipe_error err = PIPE_ERROR_INIT;
    cr_expect_eq(sweep_file(yaml, &plain, &err), 1, "%s", err.message);
    cr_expect_eq(sweep_file(yaml, &plain, &err), 1, "also when all members are kept");
    cr_expect_eq(run_count("a"), 2);
}

/* ---- progress ---- */

Test(run_progress, lines)
{
    static const struct {
        uint64_t done, total;
        const char *detail;
        double rate;
        unsigned columns;
        bool bar;
        const char *line;
    } cases[] = {
        {50, 100, "loss 0.5", 10.0, 0, false, "model 50/100 steps  10.0/s  loss 0.5  5.0 s left"},
        {7, 0, NULL, 0.0, 0, false, "model 7 steps"},
        {1, 10, NULL, 0.25, 0, false, "model 1/10 steps  4.0 s each  36.0 s left"},
        {100, 100, NULL, 250.0, 0, false, "model 100/100 steps  250/s"},
        {50, 100, NULL, 0.0, 0, true, "model ██████████·········· 50/100 steps"},
        {150, 100, NULL, 0.0, 0, true, "model ████████████████████ 150/100 steps"},
        {50, 100, NULL, 0.0, 12, true, "model ██████"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        PIPE_CLEANUP(pipe_text_free) pipe_text line = {0};
        pipei_progress_line("model", cases[k].done, cases[k].total, "steps", cases[k].detail, cases[k].rate,
                            cases[k].columns, cases[k].bar, &line);
        cr_expect_str_eq(line.data, cases[k].line);
    }
}

Test(run_progress, an_unknown_mode)
{
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    PIPE_CLEANUP(result_free) result r = run_text("nodes:\n  data: {plugin: dataset.numbers}\n",
                                                  &(pipei_run_options){.progress = "plan"}, NULL);
    check_failure(r.status, PIPE_EINVAL, &r.err, "plan|auto, bar, plain, json or none|did you mean plain",
                  "progress");
}
