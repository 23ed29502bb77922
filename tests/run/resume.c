/* Killed, interrupted, asked to save: the next run continues to the same bits. */
#include "run/run-test.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static const char yaml[] = "pipeline: long\n"
                           "nodes:\n"
                           "  work: {plugin: long, steps: 20, every: 5}\n"
                           "  copy: {plugin: make, data: work, fail: no}\n";
static const char alone[] = "pipeline: long\n"
                            "nodes:\n"
                            "  work: {plugin: long, steps: 20, every: 5}\n";
static const pipei_run_options plain = {.progress = "none", .device = "cpu"};

/* The result, bit for bit: the value and the whole curve; files that were written. */
static char *fingerprint(const result *r)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(pipe_free_ptr) char *entry =
        pipe_format("cache/steps/%s", json_string_value(run_node(r, "work", "key")));
    PIPE_CLEANUP(pipe_free_ptr) char *value = pipei_path_join(entry, "values/out.safetensors");
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(entry, "result.json");
    PIPE_CLEANUP(pipei_json_free) json_t *j = NULL;
    char hex[65];

    MUST(pipe_sha256_file(value, hex, &err));
    MUST(pipei_json_read(path, &j, &err));
    char *metrics = json_dumps(json_object_get(j, "metrics"), JSON_COMPACT);
    char *files = json_dumps(json_object_get(j, "files"), JSON_COMPACT);
    char *all = pipe_format("%s %s %s", hex, metrics, files);
    free(metrics);
    free(files);
    return all;
}

static char *uninterrupted(void)
{
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    PIPE_CLEANUP(result_free) result r = run_plain(alone);

    RAN(r);
    return fingerprint(&r);
}

typedef struct stop_case {
    const char *change[4];
    int status;                     /* exit status of the run that is stopped */
    uint64_t resumed;               /* where the next one continues */
    const char *why;
} stop_case;

Test(run_resume, to_the_same_bits)
{
    static const stop_case cases[] = {
        {{"work.die_at=12"}, 128 + SIGKILL, 10, "killed between checkpoints"},
        {{"work.die_at=15"}, 128 + SIGKILL, 15, "killed right after a checkpoint"},
        {{"work.die_at=3"}, 128 + SIGKILL, 0, "killed before the first checkpoint"},
        {{"work.signal_at=7", "work.number=2"}, 130, 7, "SIGINT"},
        {{"work.signal_at=8", "work.number=15"}, 143, 8, "SIGTERM"},
        {{"work.signal_at=7", "work.number=2", "work.twice=1"}, 130, 5, "SIGINT twice: leaves at once"},
        {{"work.signal_at=7", "work.number=10", "work.die_at=9"},
         128 + SIGKILL,
         7,
         "SIGUSR1 saves, and the run goes on"},
    };
    PIPE_CLEANUP(pipe_free_ptr) char *expected = uninterrupted();

    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const stop_case *c = &cases[k];
        PIPE_CLEANUP(run_leave) char *folder = run_place();
        cr_expect_eq(run_status(alone, &plain, c->change), c->status, "%s", c->why);
        PIPE_CLEANUP(result_free) result r = run_plain(alone);
        RAN(r);
        cr_expect_eq(run_count("work"), 2, "%s", c->why);
        const json_t *from = run_node(&r, "work", "resumed_from");
        cr_expect_eq(from ? (uint64_t)json_integer_value(from) : 0, c->resumed, "%s: from %lld", c->why,
                     from ? json_integer_value(from) : 0);
        PIPE_CLEANUP(pipe_free_ptr) char *got = fingerprint(&r);
        cr_expect_str_eq(got, expected, "%s", c->why);
        cr_expect_eq(folder_count("cache/checkpoints"), 0, "%s: checkpoints of a finished step stay", c->why);
        PIPE_CLEANUP(pipe_free_ptr) char *journal = run_read(r.out.folder, "metrics.jsonl");
        size_t lines = 0;
        for (const char *p = journal; (p = strchr(p, '\n')); p++)
            lines++;
        cr_expect_eq(lines, 20, "%s: metrics.jsonl is not complete", c->why);
    }
}

Test(run_resume, last_two_checkpoints_are_kept_and_shown)
{
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    cr_expect_eq(run_status(alone, &plain, (const char *const[]){"work.die_at=18", NULL}), 128 + SIGKILL);
    PIPE_CLEANUP(pipei_listing_free) pipei_listing keys = {0}, files = {0};
    pipe_error err = PIPE_ERROR_INIT;
    MUST(pipei_list_folder("cache/checkpoints", &keys, &err));
    cr_assert_eq(keys.count, 1);
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join("cache/checkpoints", keys.entries[0].name);
    MUST(pipei_list_folder(path, &files, &err));
    cr_assert_eq(files.count, 3, "two checkpoints and the folder of files");
    cr_expect_str_eq(files.entries[1].name, "step-00000010.safetensors");
    cr_expect_str_eq(files.entries[2].name, "step-00000015.safetensors");

    pipei_run_options dry = plain;
    dry.dry_run = true;
    PIPE_CLEANUP(result_free) result plan = run_text(alone, &dry, NULL);
    cr_expect_not_null(strstr(plan.out.table.data, "checkpoint of step 15"), "%s", plan.out.table.data);

    PIPE_CLEANUP(result_free) result r = run_plain(alone);
    RAN(r);
    PIPE_CLEANUP(pipe_free_ptr)
    char *own = pipe_format("%s/checkpoints/%s/step-00000020.safetensors", r.out.folder, "work");
    cr_expect(pipei_path_exists(own), "the run folder has its own checkpoints");
}

/* One step in at least 60 ms is at most 16.7 a second, whatever the earlier run did. */
Test(run_resume, the_rate_counts_this_run_alone)
{
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    const pipei_run_options json = {.progress = "json", .device = "cpu"};

    cr_expect_eq(run_status(alone, &plain, (const char *const[]){"work.steps=16", "work.die_at=15", NULL}),
                 128 + SIGKILL);
    fflush(stderr);
    const int saved = dup(STDERR_FILENO);
    cr_assert_not_null(freopen("said", "w", stderr));
    const int status = run_status(alone, &json, (const char *const[]){"work.steps=16", "work.pause=60", NULL});
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    cr_assert_eq(status, 0);
    PIPE_CLEANUP(pipe_free_ptr) char *said = run_read(".", "said");
    const char *last = strstr(said, "\"done\":16");
    const char *rate = last ? strstr(last, "\"rate\":") : NULL;
    cr_assert_not_null(rate, "no rate at step 16 in:\n%s", said);
    const double per_second = strtod(rate + 7, NULL);
    cr_expect(per_second > 0.0 && per_second <= 1.0 / 0.06, "%g steps/s", per_second);
}

/* A damaged one is left out: the one before it serves. */
Test(run_resume, damaged_checkpoint)
{
    PIPE_CLEANUP(pipe_free_ptr) char *expected = uninterrupted();
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    PIPE_CLEANUP(pipei_listing_free) pipei_listing keys = {0};
    pipe_error err = PIPE_ERROR_INIT;

    cr_expect_eq(run_status(alone, &plain, (const char *const[]){"work.die_at=18", NULL}), 128 + SIGKILL);
    MUST(pipei_list_folder("cache/checkpoints", &keys, &err));
    PIPE_CLEANUP(pipe_free_ptr) char *newest =
        pipe_format("cache/checkpoints/%s/step-00000015.safetensors", keys.entries[0].name);
    cr_assert_eq(truncate(newest, 100), 0);
    PIPE_CLEANUP(result_free) result r = run_plain(alone);
    RAN(r);
    cr_expect_eq(json_integer_value(run_node(&r, "work", "resumed_from")), 10);
    PIPE_CLEANUP(pipe_free_ptr) char *got = fingerprint(&r);
    cr_expect_str_eq(got, expected);
}

Test(run_resume, when_checkpoints_do_not_count)
{
    const struct {
        pipei_run_options o;
        const char *change;
        uint64_t resumed;
        const char *why;
    } cases[] = {
        {{.progress = "none", .device = "cpu", .force_all = true}, NULL, 0, "--force computes afresh"},
        {{.progress = "none", .device = "cpu", .force_all = true, .resume = true},
         NULL,
         10,
         "--force --resume"},
        {{.progress = "none", .device = "cpu", .no_cache = true}, NULL, 0, "--no-cache"},
        {{.progress = "none", .device = "cpu", .no_cache = true, .resume = true},
         NULL,
         10,
         "--no-cache --resume"},
        {{.progress = "none", .device = "cpu"}, "work.steps=21", 0, "another step"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        PIPE_CLEANUP(run_leave) char *folder = run_place();
        cr_expect_eq(run_status(alone, &plain, (const char *const[]){"work.die_at=12", NULL}), 128 + SIGKILL);
        PIPE_CLEANUP(result_free) result r =
            run_text(alone, &cases[k].o, (const char *const[]){cases[k].change, NULL});
        RAN(r);
        const json_t *from = run_node(&r, "work", "resumed_from");
        cr_expect_eq(from ? (uint64_t)json_integer_value(from) : 0, cases[k].resumed, "%s", cases[k].why);
    }
}

/* Checkpoints of an older attempt, further on, must not outlive a forced one. */
Test(run_resume, a_forced_run_starts_a_new_line_of_checkpoints)
{
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    pipei_run_options forced = plain;
    forced.force_all = true;
    cr_expect_eq(run_status(alone, &plain, (const char *const[]){"work.die_at=18", NULL}), 128 + SIGKILL);
    cr_expect_eq(run_status(alone, &forced, (const char *const[]){"work.die_at=7", NULL}), 128 + SIGKILL);
    PIPE_CLEANUP(result_free) result r = run_plain(alone);
    RAN(r);
    cr_expect_eq(json_integer_value(run_node(&r, "work", "resumed_from")), 5);
}

Test(run_resume, an_interrupted_run_says_how_to_go_on)
{
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    PIPE_CLEANUP(result_free) result r =
        run_text(yaml, &plain, (const char *const[]){"work.signal_at=7", "work.number=2", NULL});
    check_failure(r.status, PIPE_EINTERRUPTED, &r.err, "interrupted in work|checkpoint of step 7|continues",
                  "");
    cr_expect_eq(r.out.exit_status, 130);
    cr_expect_str_eq(run_state(&r, "work"), "interrupted");
    cr_expect_str_eq(run_state(&r, "copy"), "waiting");
    cr_expect_str_eq(pipei_json_text(r.out.manifest, "state"), "interrupted");
    const size_t n = strlen(r.out.folder);
    cr_expect_str_eq(r.out.folder + n - 8, ".partial");
    cr_expect(pipei_path_exists(r.out.folder), "the partial folder stays");
    cr_expect_not(pipei_path_exists("runs/long/latest"));
    PIPE_CLEANUP(pipe_free_ptr) char *outputs = pipei_path_join(r.out.folder, "outputs/work");
    cr_expect_not(pipei_path_exists(outputs), "outputs of an unfinished step were left");
}

Test(run_resume, signal_in_the_last_iteration)
{
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    PIPE_CLEANUP(result_free)
    result r = run_text(yaml, &plain,
                        (const char *const[]){"work.signal_at=20", "work.number=15", "work.every=19", NULL});
    cr_expect_eq(r.out.exit_status, 143);
    PIPE_CLEANUP(result_free)
    result two = run_text(yaml, &plain, (const char *const[]){"work.every=19", NULL});
    RAN(two);
    cr_expect_eq(json_integer_value(run_node(&two, "work", "resumed_from")), 20);
}

/* ---- two processes ---- */

Test(run_resume, two_runs_at_once_compute_a_step_once)
{
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    pid_t pids[4];

    fflush(NULL);
    for (size_t k = 0; k < 4; k++) {
        pids[k] = fork();
        if (pids[k] == 0) {
            result r = run_plain("pipeline: both\n"
                                 "nodes:\n"
                                 "  work: {plugin: long, steps: 2000, every: 1000}\n");
            _exit(r.out.exit_status);
        }
    }
    for (size_t k = 0; k < 4; k++) {
        int status;
        cr_assert_eq(waitpid(pids[k], &status, 0), pids[k]);
        cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
    }
    cr_expect_eq(run_count("work"), 1);
    cr_expect_eq(folder_count("runs/both"), 5, "four folders and the link to the last");
    cr_expect(pipei_path_exists("runs/both/latest/report.html"));
}

Test(run_resume, what_a_killed_run_left_goes)
{
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    pipe_error err = PIPE_ERROR_INIT;

    cr_expect_eq(run_status(alone, &plain, (const char *const[]){"work.die_at=12", NULL}), 128 + SIGKILL);
    cr_expect_eq(folder_count("runs/long"), 1);
    PIPE_CLEANUP(pipe_text_free) pipe_text list = {0};
    MUST(pipei_runs_list(NULL, false, &list, &err));
    cr_expect_not_null(strstr(list.data, "killed"), "%s", list.data);
    MUST(pipei_file_write("runs/long/.x.1-2.tmp", "x", 1, &err));
    MUST(pipei_make_folders("cache/steps/abc.partial/values", &err));
    MUST(pipei_make_folders("runs/long/20200101-000000-abcdef.partial", &err));     /* not even a manifest */
    PIPE_CLEANUP(result_free) result r = run_plain(alone);
    RAN(r);
    cr_expect_eq(folder_count("runs/long"), 2, "the run and the link to it");
    cr_expect_eq(folder_count("cache/steps"), 1);
}
