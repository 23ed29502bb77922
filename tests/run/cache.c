/* What is computed again and what is not, and why. */
#include "run/run-test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const char chain[] =
    "pipeline: chain\n"
    "seed: 1\n"
    "nodes:\n"
    "  data: {plugin: dataset.numbers, count: 4}\n"
    "  a: {plugin: make, data: data, add: 1}\n"
    "  b: {plugin: make, data: a, add: 2}\n"
    "  seen: {plugin: look, value: b}\n";
static const pipei_run_options plain = {.progress = "none", .device = "cpu"};

/* Every row runs in a place of its own: first the chain as it is, then changed;
 * `ran`: the steps that run again; `why`: parts of the reasons in a dry run. */
typedef struct change_case {
    const char *change, *ran, *why, *comment;
} change_case;

static const change_case changes[] = {
    {NULL, "", NULL, "nothing changed"},
    {"b.add=3", "b seen", "parameter `add` 2→3|input `value`: step `b` has changed", "a step's parameter"},
    {"b.add=2.0", "", NULL, "the same number, written in another way"},
    {"data.scale=2", "a b seen", "data: parameter `scale` 1→2", "a component's parameter"},
    {"data.verbose=true", "", NULL, "a parameter outside the key"},
    {"seed=2", "a b seen", "seed 1→2", "the seed"},
    {"b.data=data", "b seen", "input `data` a→data", "another source"},
    {"seen.value=a", "seen", "input `value` b→a", "the last step alone"},
};

static void check_parts(const char *text, const char *parts, const char *what)
{
    for (const char *p = parts; p && *p; ) {
        const size_t n = strcspn(p, "|");
        PIPE_CLEANUP(pipe_free_ptr) char *part = pipe_format("%.*s", (int)n, p);
        cr_expect_not_null(strstr(text, part), "%s: \"%s\" is missing in:\n%s", what, part, text);
        p += n + (p[n] == '|');
    }
}

Test(run_cache, what_runs_again_and_why)
{
    static const char *const steps[] = {"a", "b", "seen"};

    for (size_t k = 0; k < sizeof changes / sizeof changes[0]; k++) {
        const change_case *c = &changes[k];
        const char *const change[] = {c->change, NULL};
        PIPE_CLEANUP(run_leave) char *folder = run_place();
        PIPE_CLEANUP(result_free) result first = run_plain(chain);
        RAN(first);
        pipei_run_options dry = plain;
        dry.dry_run = true;
        PIPE_CLEANUP(result_free) result plan = run_text(chain, &dry, change);
        RAN(plan);
        cr_expect_null(plan.out.folder, "a dry run made a folder");
        check_parts(plan.out.table.data, c->why, c->comment);
        PIPE_CLEANUP(result_free) result second = run_text(chain, &plain, change);
        RAN(second);
        for (size_t i = 0; i < 3; i++) {
            const bool again = strstr(c->ran, steps[i]) != NULL;
            cr_expect_str_eq(run_state(&second, steps[i]), again ? "done" : "cached", "%s: %s", c->comment,
                             steps[i]);
            cr_expect_eq(run_count(steps[i]), again ? 2 : 1, "%s: %s", c->comment, steps[i]);
        }
    }
}

Test(run_cache, a_first_run_says_so_and_a_swap_back_is_cached)
{
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    pipei_run_options dry = plain;
    dry.dry_run = true;
    PIPE_CLEANUP(result_free) result plan = run_text(chain, &dry, NULL);
    check_parts(plan.out.table.data, "3 of 3 steps would run|it has not run before", "first");
    PIPE_CLEANUP(result_free) result one = run_plain(chain);
    PIPE_CLEANUP(result_free) result two = run_text(chain, &plain, (const char *const[]){"b.add=5", NULL});
    PIPE_CLEANUP(result_free) result three = run_plain(chain);
    RAN(three);
    cr_expect_str_eq(run_state(&three, "b"), "cached");
    cr_expect_eq(run_count("b"), 2);
}

/* A cached step looks as if it had run. */
Test(run_cache, cached_results_are_the_same)
{
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    PIPE_CLEANUP(result_free) result one = run_plain(chain);
    PIPE_CLEANUP(result_free) result two = run_plain(chain);
    RAN(two);
    static const char *const steps[] = {"a", "b", "seen"};
    for (size_t k = 0; k < 3; k++) {
        cr_expect(json_equal(run_node(&one, steps[k], "metrics"), run_node(&two, steps[k], "metrics")), "%s",
                  steps[k]);
        cr_expect(json_equal(run_node(&one, steps[k], "files"), run_node(&two, steps[k], "files")), "%s",
                  steps[k]);
    }
    PIPE_CLEANUP(pipe_free_ptr) char *note = run_read(two.out.folder, "outputs/b/note.txt");
    cr_expect_str_eq(note, "a note\n");
    PIPE_CLEANUP(pipe_free_ptr) char *journal = run_read(two.out.folder, "metrics.jsonl");
    cr_expect_not_null(strstr(journal, "\"node\":\"b\",\"step\":2,\"loss\":1.0"), "%s", journal);
    cr_expect(json_is_null(json_object_get(two.out.manifest, "device")),
              "no device is opened for cached steps");
    cr_expect(json_is_object(json_object_get(one.out.manifest, "device")));
}

/* Only the last step runs: what it needs is loaded, in order and at random. */
Test(run_cache, data_sets_come_back)
{
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    PIPE_CLEANUP(result_free) result one = run_plain(chain);
    PIPE_CLEANUP(result_free)
    result two = run_text(chain, &plain, (const char *const[]){"seen.extra=10", NULL});
    RAN(two);
    cr_expect_eq(run_count("b"), 1);
    static const struct { const char *name; double value; } expected[] = {
        {"first", 16.0}, {"last", 5.0}, {"label", 3.0}, {"classes", 10.0}, {"high", 1.0}};
    const json_t *metrics = run_node(&two, "seen", "metrics");
    for (size_t k = 0; k < 5; k++)
        cr_expect_eq(pipei_json_number(metrics, expected[k].name, -1), expected[k].value, "%s",
                     expected[k].name);
}

Test(run_cache, weights_come_back_with_what_they_predict)
{
    static const char yaml[] =
        "nodes:\n"
        "  net: {plugin: denoiser.tiny, width: 3}\n"
        "  flat: {plugin: schedule.flat, start: 0.75}\n"
        "  model: {plugin: train, model: net, schedule: flat, value: 0.125}\n"
        "  again: {plugin: train, model: model, schedule: flat, value: 0.25}\n"
        "  seen: {plugin: look, value: again}\n";
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    PIPE_CLEANUP(result_free) result one = run_plain(yaml);
    RAN(one);
    PIPE_CLEANUP(result_free)
    result two = run_text(
        yaml,
        &(pipei_run_options){
            .progress = "none", .device = "cpu", .force = (const char *const[]){"seen"}, .n_force = 1},
        NULL);
    RAN(two);
    cr_expect_eq(run_count("again"), 1);
    cr_expect_eq(run_count("seen"), 2);
    cr_expect(json_equal(run_node(&one, "seen", "metrics"), run_node(&two, "seen", "metrics")));
    const json_t *metrics = run_node(&two, "seen", "metrics");
    cr_expect_eq(pipei_json_number(metrics, "first", -1), 0.25);
    cr_expect_eq(pipei_json_number(metrics, "predicts", -1), PIPE_PREDICT_V);
    cr_expect_eq(pipei_json_number(metrics, "rank", -1), 3);
    cr_expect_eq(pipei_json_number(metrics, "sigma_data", -1), 0.25);
    cr_expect_eq(pipei_json_number(metrics, "start", -1), 0.75);
    PIPE_CLEANUP(pipe_free_ptr)
    char *weights = pipei_path_join(two.out.folder, "outputs/again/model.safetensors");
    cr_expect(pipei_path_exists(weights), "weights lie in the run folder");
}

Test(run_cache, metrics_as_a_value)
{
    static const char yaml[] = "nodes:\n"
                               "  data: {plugin: dataset.numbers}\n"
                               "  a: {plugin: make, data: data, add: 1}\n"
                               "  seen: {plugin: look, value: a.metrics}\n";
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    PIPE_CLEANUP(result_free) result one = run_plain(yaml);
    RAN(one);
    cr_expect_eq(pipei_json_number(run_node(&one, "seen", "metrics"), "first", -1), 10.0);
    PIPE_CLEANUP(result_free)
    result two = run_text(yaml, &plain, (const char *const[]){"seen.extra=1", NULL});
    RAN(two);
    cr_expect_eq(pipei_json_number(run_node(&two, "seen", "metrics"), "first", -1), 11.0);
    cr_expect_eq(run_count("a"), 1);
}

Test(run_cache, options)
{
    const struct {
        pipei_run_options o;
        size_t a, b;
        const char *why;
    } cases[] = {
        {{.progress = "none", .device = "cpu", .force_all = true}, 2, 2, "--force"},
        {{.progress = "none", .device = "cpu", .force = (const char *const[]){"b"}, .n_force = 1},
         1,
         2,
         "--force=b"},
        {{.progress = "none", .device = "cpu", .no_cache = true}, 2, 2, "--no-cache"},
    };
    for (size_t k = 0; k < 3; k++) {
        PIPE_CLEANUP(run_leave) char *folder = run_place();
        PIPE_CLEANUP(result_free) result one = run_plain(chain);
        PIPE_CLEANUP(result_free) result two = run_text(chain, &cases[k].o, NULL);
        RAN(two);
        cr_expect_eq(run_count("a"), cases[k].a, "%s", cases[k].why);
        cr_expect_eq(run_count("b"), cases[k].b, "%s", cases[k].why);
        PIPE_CLEANUP(result_free) result three = run_plain(chain);
        RAN(three);
        cr_expect_eq(run_count("b"), cases[k].b, "%s: and then it is cached", cases[k].why);
    }
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    const pipei_run_options no = {.progress = "none", .device = "cpu", .no_cache = true};
    PIPE_CLEANUP(result_free) result one = run_text(chain, &no, NULL);
    RAN(one);
    cr_expect_eq(folder_count("cache/steps"), 0, "--no-cache writes nothing");
    const pipei_run_options typo = {.progress = "none", .force = (const char *const[]){"sen"}, .n_force = 1};
    PIPE_CLEANUP(result_free) result two = run_text(chain, &typo, NULL);
    check_failure(two.status, PIPE_EPIPELINE, &two.err, "--force=sen|did you mean seen", "typo");
    cr_expect_eq(two.out.exit_status, 2);
}

Test(run_cache, what_must_not_be_cached)
{
    static const char yaml[] = "nodes:\n"
                               "  data: {plugin: dataset.numbers}\n"
                               "  dice: {plugin: dice, data: data}\n"
                               "  after: {plugin: make, data: dice}\n"
                               "  always: {plugin: always, data: data}\n"
                               "  steady: {plugin: make, data: always}\n";
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    PIPE_CLEANUP(result_free) result one = run_plain(yaml);
    PIPE_CLEANUP(result_free) result two = run_plain(yaml);
    RAN(two);
    cr_expect_eq(run_count("dice"), 2);
    cr_expect_eq(run_count("after"), 2, "its input differs from run to run");
    cr_expect_eq(run_count("always"), 2);
    cr_expect_eq(run_count("steady"), 1, "what always runs gives the same each time");
    cr_expect_eq(folder_count("cache/steps"), 1);
}

/* ---- input files ---- */

static void put(const char *path, const char *text)
{
    pipe_error err = PIPE_ERROR_INIT;

    MUST(pipei_file_write(path, text, strlen(text), &err));
}

Test(run_cache, content_of_input_files_counts)
{
    static const char yaml[] = "nodes:\n"
                               "  data: {plugin: dataset.numbers, file: input.txt}\n"
                               "  a: {plugin: make, data: data}\n";
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    const struct timespec old[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
    put("input.txt", "one");
    PIPE_CLEANUP(result_free) result one = run_plain(yaml);
    RAN(one);
    put("input.txt", "one");                                /* other times and inode, the same content */
    cr_assert_eq(utimensat(AT_FDCWD, "input.txt", old, 0), 0);
    PIPE_CLEANUP(result_free) result two = run_plain(yaml);
    cr_expect_eq(run_count("a"), 1);
    PIPE_CLEANUP(result_free) result three = run_plain(yaml);   /* now from the remembered hash */
    cr_expect_eq(run_count("a"), 1);
    put("input.txt", "two");                                /* same size and times, other content */
    cr_assert_eq(utimensat(AT_FDCWD, "input.txt", old, 0), 0);
    pipei_run_options dry = plain;
    dry.dry_run = true;
    PIPE_CLEANUP(result_free) result plan = run_text(yaml, &dry, NULL);
    check_parts(plan.out.table.data, "data: the content of `file` has changed", "plan");
    PIPE_CLEANUP(result_free) result four = run_plain(yaml);
    RAN(four);
    cr_expect_eq(run_count("a"), 2);
    const json_t *data = json_array_get(json_object_get(four.out.manifest, "data"), 0);
    cr_expect_str_eq(pipei_json_text(data, "sha256"),
                     "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3");
}

/* ---- damage ---- */

static char *entry_of(const result *r, const char *node)
{
    return pipe_format("cache/steps/%s", json_string_value(run_node(r, node, "key")));
}

static void overwrite(const char *path, const char *text)
{
    chmod(path, 0644);                          /* in place, as a faulty disk would */
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    cr_assert_geq(fd, 0, "%s", path);
    cr_assert_eq(pwrite(fd, text, strlen(text), 0), (ssize_t)strlen(text));
    close(fd);
}

typedef struct damage_case {
    const char *file, *text;                    /* text NULL: removed; "": cut */
    const char *why;
} damage_case;

Test(run_cache, damaged_entries_are_computed_again)
{
    static const damage_case cases[] = {
        {"result.json", "{\"x\"", "no JSON"},
        {"result.json", NULL, "no description"},
        {"result.json", "", "an empty description"},
        {"files/note.txt", "A", "a changed byte in a file"},
        {"files/note.txt", NULL, "a missing file"},
        {"values/out.safetensors", "", "a cut value"},
        {"values/out.safetensors", "\1", "a changed byte in a value"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        PIPE_CLEANUP(run_leave) char *folder = run_place();
        PIPE_CLEANUP(result_free) result one = run_plain(chain);
        RAN(one);
        PIPE_CLEANUP(pipe_free_ptr) char *entry = entry_of(&one, "b");
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(entry, cases[k].file);
        if (!cases[k].text)
            cr_assert_eq(unlink(path), 0, "%s", path);
        else if (!*cases[k].text)
            cr_assert_eq(truncate(path, 0), 0, "%s", path);
        else
            overwrite(path, cases[k].text);
        PIPE_CLEANUP(pipe_text_free) pipe_text found = {0};
        pipe_error err = PIPE_ERROR_INIT;
        size_t bad;
        MUST(pipei_cache_verify(&found, &bad, &err));
        cr_expect_eq(bad, 1, "%s: verify says %s", cases[k].why, found.data);

        /* `seen` runs and needs the value of `b` */
        PIPE_CLEANUP(result_free)
        result two = run_text(chain, &plain, (const char *const[]){"seen.extra=1", NULL});
        RAN(two);
        cr_expect_eq(run_count("b"), 2, "%s", cases[k].why);
        cr_expect_eq(run_count("a"), 1, "%s", cases[k].why);
        cr_expect_eq(pipei_json_number(run_node(&two, "seen", "metrics"), "first", -1), 7.0, "%s",
                     cases[k].why);
        PIPE_CLEANUP(pipe_text_free) pipe_text after = {0};
        MUST(pipei_cache_verify(&after, &bad, &err));
        cr_expect_eq(bad, 0, "%s: %s", cases[k].why, after.data);
    }
}

/* What a damaged step needs was released long ago, and cannot come from the cache. */
Test(run_cache, a_damaged_step_behind_one_that_is_never_cached)
{
    static const char yaml[] = "nodes:\n"
                               "  data: {plugin: dataset.numbers}\n"
                               "  always: {plugin: always, data: data, add: 1}\n"
                               "  a: {plugin: make, data: always, add: 1}\n"
                               "  seen: {plugin: look, value: a}\n";
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    PIPE_CLEANUP(result_free) result one = run_plain(yaml);
    RAN(one);
    PIPE_CLEANUP(pipe_free_ptr) char *entry = entry_of(&one, "a");
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(entry, "values/out.safetensors");
    overwrite(path, "\1");
    PIPE_CLEANUP(result_free)
    result two = run_text(yaml, &plain, (const char *const[]){"seen.extra=1", NULL});
    RAN(two);
    cr_expect_eq(run_count("a"), 2);
    cr_expect_eq(pipei_json_number(run_node(&two, "seen", "metrics"), "first", -1), 6.0);
}

/* ---- pipe cache ---- */

Test(run_cache, list_gc_clear)
{
    PIPE_CLEANUP(run_leave) char *folder = run_place();
    PIPE_CLEANUP(result_free) result one = run_plain(chain);
    PIPE_CLEANUP(pipe_text_free) pipe_text text = {0};
    pipe_error err = PIPE_ERROR_INIT;
    RAN(one);
    MUST(pipei_cache_list(&text, false, &err));
    check_parts(text.data, "3 entries|chain/b (make)|result", "list");
    pipe_text_clear(&text);
    MUST(pipei_cache_list(&text, true, &err));
    PIPE_CLEANUP(pipei_json_free) json_t *j = json_loads(text.data, 0, NULL);
    cr_expect_eq(json_array_size(json_object_get(j, "entries")), 3);
    const uint64_t all = (uint64_t)json_integer_value(json_object_get(j, "bytes"));

    pipe_text_clear(&text);
    MUST(pipei_cache_gc(all, &text, &err));
    cr_expect_eq(folder_count("cache/steps"), 3, "%s", text.data);
    MUST(pipei_cache_gc(all - 1, &text, &err));
    cr_expect_eq(folder_count("cache/steps"), 2, "%s", text.data);

    pipei_cache *c;                             /* in use elsewhere: stays */
    int lock;
    MUST(pipei_cache_open(&c, &err));
    MUST(pipei_cache_lock(c, json_string_value(run_node(&one, "seen", "key")), false, true, &lock, &err));
    pipe_text_clear(&text);
    MUST(pipei_cache_clear(&text, &err));
    check_parts(text.data, "1 entries removed|1 in use stayed", "clear");
    cr_expect_eq(folder_count("cache/steps"), 1);
    pipei_unlock(lock);
    pipei_cache_close(c);
    MUST(pipei_cache_clear(&text, &err));
    cr_expect_eq(folder_count("cache/steps"), 0);
    cr_expect_eq(folder_count("cache/files"), 0);
    PIPE_CLEANUP(result_free) result two = run_plain(chain);
    RAN(two);
    cr_expect_eq(run_count("b"), 2);
}
