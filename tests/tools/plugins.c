/* What the program says about plugins: inspect, man, completion, new-plugin. */
#include "support/command.h"
#include "support/folder.h"

#include <jansson.h>

static char *folder, *cache;

static void start(void)
{
    folder = folder_make();
    cache = folder_make();
    setenv("PIPE_DATA_DIR", cache, 1);
    setenv("PIPE_PLUGIN_PATH", TEST_BUILDDIR "/tests/plugins/.libs", 1);
}

static void stop(void)
{
    folder_drop(&folder);
    folder_drop(&cache);
}

TestSuite(tools_plugins, .init = start, .fini = stop);

static command run(const char *line)
{
    return command_run(folder, cache, line);
}

/* Every part, separated by '|', must stand in the text. */
static void has(const char *text, const char *parts, const char *line)
{
    for (const char *p = parts; p && *p;) {
        const size_t n = strcspn(p, "|");
        char *part = pipe_format("%.*s", (int)n, p);
        cr_expect_not_null(strstr(text, part), "%s: \"%s\" is missing in:\n%s", line, part, text);
        pipe_free(part);
        p += n + (p[n] == '|');
    }
}

static const struct {
    const char *line;
    int status;
    const char *out, *err, *why;
} cases[] = {
    {"$PIPE inspect", 0, "sampler:\n|  test.good |a sampler for the tests|step:\n|test-step", "skipped",
     "the list"},
    {"$PIPE inspect sampler", 0, "test.good|test.other", NULL, "a kind"},
    {"$PIPE inspect test.good", 0,
     "test.good 1.0.0: a sampler|strength: number, 0 to 1, default 0.5, parts|how much; higher is more|"
     "mode: one of soft, hard, default soft|Parameters of every sampler:|steps: integer|helper: denoiser, "
     "optional|"
     "arXiv:0000.00000|MIT|duplicate.so|First paragraph.\n\n  Second.|solver: {plugin: test.good}",
     NULL, "one plugin in full"},
    {"$PIPE inspect test-step", 0,
     "file: path of an existing file, required|more: list of any, optional|result: dataset|same: of the kind "
     "of data|"
     "metrics: metrics|never cached",
     NULL, "a step"},
    {"$PIPE inspect --names", 0, "test.good\n|test-step\n", NULL, "names"},
    {"$PIPE inspect --broken", 0,
     "wrong-magic.so\n    its magic number|crash.so\n    crashed while it was opened|duplicate.so|good.so|"
     "`pipe inspect --rescan`",
     NULL, "reasons"},
    {"$PIPE inspect test.goood", 2, NULL, "no plugin test.goood; did you mean test.good?|--broken",
     "near name"},
    {"$PIPE inspect --exists=test.good", 0, "", NULL, "there"},
    {"$PIPE inspect --exists=test.good@1", 0, NULL, NULL, "major"},
    {"$PIPE inspect --exists test.good@1.0.0", 0, NULL, NULL, "exactly"},
    {"$PIPE inspect --exists=test.good@1.0.1", 1, NULL, NULL, "newer wanted"},
    {"$PIPE inspect --exists=test.good@2", 1, NULL, NULL, "another major"},
    {"$PIPE inspect --exists=test-step@2.0.7", 0, NULL, NULL, "at least"},
    {"$PIPE inspect --exists=test.crash", 1, NULL, NULL, "broken is not there"},
    {"$PIPE inspect --exists=test.good@x", 2, NULL, "1, 1.2 or 1.2.3", "no version"},
    {"$PIPE inspect --exists=test.good test.other", 2, NULL, NULL, "one question at a time"},
    {"$PIPE inspect --ops", 0, "matmul|silu|conv", NULL, "operations"},
    {"$PIPE inspect --plugin-path=/nowhere/x", 3, NULL, "--plugin-path: /nowhere/x",
     "a folder that is not there"},
    {"$PIPE man", 0, ".TH \"pipe\" 1|.SH EXIT STATUS|PIPE_PLUGIN_PATH|new\\-plugin", NULL, "the program"},
    {"$PIPE man run", 0, ".TH \"pipe-run\" 1|\\-\\-dry\\-run", NULL, "a verb"},
    {"$PIPE man test.good", 0, ".TH \"pipe-test.good\" 7|strength|PARAMETERS OF EVERY SAMPLER", NULL,
     "a plugin"},
    {"$PIPE man nothing-such", 2, NULL, "no verb or plugin nothing-such", "neither"},
    {"SOURCE_DATE_EPOCH=86400 $PIPE man run", 0, "\"1970-01-02\"", NULL, "reproducible"},
    {"$PIPE completion tcsh", 2, NULL, "bash, zsh or fish", "another shell"},
    {"$PIPE completion zsh", 0, "#compdef pipe|--dry-run|inspect --names", NULL, "zsh"},
    {"$PIPE completion fish", 0, "complete -c pipe|-l dry-run -s n|inspect --names", NULL, "fish"},
    {"$PIPE new-plugin", 2, NULL, "missing", "no operands"},
    {"$PIPE new-plugin samler my.x", 2, NULL, "did you mean sampler?", "a kind, mistyped"},
    {"$PIPE new-plugin denoiser my.x", 2, NULL, "no template for the kind denoiser",
     "a kind without a template"},
    {"$PIPE new-plugin sampler My.x", 2, NULL, "name \"My.x\"", "upper case"},
    {"$PIPE new-plugin sampler ../x", 2, NULL, "name \"../x\"", "no path"},
    {"$PIPE new-plugin sampler x", 2, NULL, "sampler.x", "no first part"},
    {"$PIPE new-plugin sampler my.x /proc/no/where", 3, NULL, "/proc/no", "a folder that cannot be made"},
};

Test(tools_plugins, each_verb_says_what_it_should)
{
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        command c = run(cases[k].line);
        command_expect(&c, cases[k].status, cases[k].line);
        has(c.out, cases[k].out, cases[k].line);
        has(c.err, cases[k].err, cases[k].line);
        if (cases[k].status)
            cr_expect_str_eq(c.out, "", "%s: mistakes go to standard error", cases[k].line);
        command_free(&c);
    }
}

/* The document that a command prints. */
static json_t *document(const char *line)
{
    json_error_t why;
    command c = run(line);
    command_expect(&c, 0, line);
    json_t *d = json_loads(c.out, JSON_REJECT_DUPLICATES, &why);
    cr_assert_not_null(d, "%s: %s", line, why.text);
    command_free(&c);
    return d;
}

static const json_t *named(const json_t *list, const char *name)
{
    size_t k;
    const json_t *v;
    json_array_foreach(list, k,
                       v) if (strcmp(json_string_value(json_object_get(v, "name")), name) == 0) return v;
    cr_assert_fail("no \"%s\" in the JSON", name);
    return NULL;
}

Test(tools_plugins, json_tells_all)
{
    json_t *d = document("$PIPE inspect --json test.good");
    const json_t *p = named(json_object_get(d, "plugins"), "test.good");
    const json_t *params = json_object_get(p, "parameters"), *sizes = named(params, "sizes");
    cr_expect_str_eq(json_string_value(json_object_get(p, "kind")), "sampler");
    cr_expect_eq(json_array_size(json_object_get(sizes, "default")), 3);
    cr_expect_eq(json_integer_value(json_array_get(json_object_get(sizes, "default"), 2)), 3);
    cr_expect_eq(json_number_value(json_object_get(sizes, "maximum")), 64);
    cr_expect_str_eq(json_string_value(json_object_get(sizes, "unit")), "pixels");
    cr_expect_eq(json_real_value(json_object_get(named(params, "strength"), "default")), 0.5);
    cr_expect_eq(json_array_size(json_object_get(named(params, "mode"), "choices")), 2);
    cr_expect(json_is_false(json_object_get(sizes, "common")));
    cr_expect(json_is_true(json_object_get(named(params, "steps"), "common")));
    cr_expect(json_is_true(json_object_get(named(json_object_get(p, "inputs"), "helper"), "optional")));
    json_decref(d);

    d = document("$PIPE inspect --json");
    named(json_object_get(d, "plugins"), "test-step");
    json_decref(d);
    d = document("$PIPE inspect --broken --json");
    cr_expect_gt(json_array_size(json_object_get(d, "broken")), 8);
    json_decref(d);
    d = document("$PIPE inspect --ops --json");
    cr_expect(json_is_true(json_object_get(named(json_object_get(d, "ops"), "matmul"), "vjp")));
    json_decref(d);
}

Test(tools_plugins, the_completion_of_bash_completes)
{
    static const struct {
        const char *words, *want, *why;
    } lines[] = {
        {"in", "inspect", "verbs"},
        {"inspect test.goo", "test.good", "plugins"},
        {"inspect --exists = test.oth", "test.other", "plugins as a value"},
        {"run --dry", "--dry-run", "options of the verb"},
        {"run --quie", "--quiet", "options of every verb"},
        {"run --progress = js", "json", "words of a value, after ="},
        {"run --progress js", "json", "and after a blank"},
        {"--color never va", "validate", "a verb behind options"},
        {"run q", "q.yaml", "pipelines"},
        {"help comple", "completion", "verbs as an operand"},
        {"completion fi", "fish", "shells"},
        {"new-plugin sa", "sampler", "kinds"},
    };
    if (system("bash -c : 2>/dev/null") != 0)
        cr_skip_test("no bash");
    command c = run(
        "mkdir bin && ln -s $PIPE bin/pipe && touch q.yaml q.txt && $PIPE completion bash > script");
    command_expect(&c, 0, "setup");
    command_free(&c);
    for (size_t k = 0; k < sizeof lines / sizeof lines[0]; k++) {
        char *line = pipe_format(
            "PATH=$PWD/bin:$PATH bash -c '. ./script; COMP_WORDS=(pipe \"$@\"); COMP_CWORD=$#; "
            "_pipe; echo \"${COMPREPLY[*]}\"' x %s",
            lines[k].words);
        char *want = pipe_format("%s\n", lines[k].want);
        c = run(line);
        cr_expect_str_eq(c.out, want, "%s (%s): \"%s\"%s", lines[k].words, lines[k].why, c.out, c.err);
        command_free(&c);
        pipe_free(line);
        pipe_free(want);
    }
}

/* Compiling and running them is tests/out-of-tree, which installs first. */
Test(tools_plugins, new_plugins_are_written_whole_and_never_over_others)
{
    static const char *const kinds[] = {"sampler", "schedule", "dataset"};
    for (size_t k = 0; k < 3; k++) {
        char *line = pipe_format("$PIPE new-plugin %s my.%s && cd my.%s && ls -A | tr '\\n' ' ' && "
                                 "grep -l '@NAME@\\|@KIND@\\|@RUNS@' * .gitignore; test -x test.sh",
                                 kinds[k], kinds[k], kinds[k]);
        char *files = pipe_format(".gitignore Makefile README.md my.%s.c test.sh test.yaml ", kinds[k]);
        command c = run(line);
        command_expect(&c, 0, line);
        const char *last = strrchr(c.out, '\n');
        cr_expect_str_eq(last ? last + 1 : c.out, files, "a mark was left, or a file is missing");
        command_free(&c);
        pipe_free(line);
        pipe_free(files);
    }
    command c = run("echo mine > my.sampler/my.sampler.c; $PIPE new-plugin sampler my.sampler; s=$?; "
                    "cat my.sampler/my.sampler.c; exit $s");
    command_expect(&c, 2, "exists");
    has(c.err, "my.sampler exists|--overwrite", "exists");
    cr_expect_str_eq(c.out, "mine\n");
    command_free(&c);
    c = run("echo keep > my.sampler/other; $PIPE new-plugin --overwrite sampler my.sampler && "
            "grep -c pipe_plugin_entry my.sampler/my.sampler.c && cat my.sampler/other");
    command_expect(&c, 0, "--overwrite");
    has(c.out, "1\nkeep", "--overwrite");
    command_free(&c);
}

Test(tools_plugins, every_manual_page_is_written)
{
    command c = run("$PIPE man --all=pages && ls pages && ! grep -L '^\\.SH NAME' pages/* | grep .");
    command_expect(&c, 0, "a page has no name");
    has(c.out, "pipe.1|pipe-run.1|pipe-inspect.1|pipe-man.1|pipe-test.good.7|pipe-test-step.7", "pages");
    command_free(&c);
    if (system("mandoc -T lint /dev/null >/dev/null 2>&1; test $? -le 2") != 0)
        cr_skip_test("SKIPPED: pages are not checked without mandoc");
    c = run("mandoc -T lint -W warning pages/*");
    cr_expect_eq(c.status, 0, "%s", c.out);
    command_free(&c);
}
