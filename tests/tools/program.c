/* The program from outside: exit statuses, what goes to which stream, suggestions. */
#include "support/command.h"
#include "support/folder.h"

#include <jansson.h>
#include <stdio.h>
#include <sys/resource.h>

/* Needs no data and runs nothing. */
static const char pipeline[] =
    "pipeline: small\n"
    "nodes:\n"
    "  net: {plugin: denoiser.mlp}\n"
    "  loss: {plugin: objective.denoise}\n"
    "  model: {plugin: fit, model: net, objective: loss, steps: 3}\n"
    "  solver: {plugin: sampler.ddim, steps: 20}\n"
    "  points: {plugin: generate, denoiser: model, sampler: solver, count: 4}\n"
    "  file: {plugin: sink.csv, value: points}\n";

/* The same through guidance that remembers, for other samplers too. */
static const char guided[] =
    "nodes:\n"
    "  loss: {plugin: objective.denoise}\n"
    "  model: {plugin: fit, model: {plugin: denoiser.mlp, classes: 3}, objective: loss, steps: 3}\n"
    "  guided: {plugin: guidance.apg, denoiser: model, momentum: -0.5}\n"
    "  solver: {plugin: sampler.ddim, steps: 20}\n"
    "  many: {plugin: sampler.picard, sampler: solver}\n"
    "  points: {plugin: generate, denoiser: guided, sampler: solver, count: 4}\n";

static char *folder, *cache;

static void put(const char *name, const char *text)
{
    pipe_error err = PIPE_ERROR_INIT;
    char *path = pipe_format("%s/%s", folder, name);
    MUST(pipei_file_write(path, text, strlen(text), &err));
    pipe_free(path);
}

static void setup(void)
{
    folder = folder_make();
    cache = pipe_format("%s/cache", folder);
    put("q.yaml", pipeline);
    put("g.yaml", guided);
    put("t.csv", "who,n,error\na,1,0.5\na,2,0.25\nb,1,0.4\nb,2,\n");
    put("wrong.yaml", "nodes:\n  s: {plugin: sampler.ddim, steps: 0}\n  t: {plugin: sampler.hoin}\n");
}

static void teardown(void)
{
    pipe_free_ptr(&cache);
    folder_drop(&folder);
}

TestSuite(tools, .init = setup, .fini = teardown);

static void shell(const char *line)
{
    command c = command_run(folder, cache, line);
    command_expect(&c, 0, line);
    command_free(&c);
}

static const struct {
    const char *why, *line;
    int status;
    const char *out, *err;          /* parts, separated by |; "" : nothing at all; NULL: whatever */
} cases[] = {
    {"help", "$PIPE --help", 0,
     "Usage: pipe VERB|  run  |  validate |--plugin-path=DIR|pipelines/quickstart.yaml", ""},
    {"help, short", "$PIPE -h", 0, "Usage: pipe VERB", ""},
    {"help as a verb", "$PIPE help", 0, "Usage: pipe VERB", ""},
    {"help of a verb", "$PIPE help run", 0,
     "Usage: pipe run [OPTIONS] FILE|-n, --dry-run|-f, --force[=NODE]|Exit status", ""},
    {"help as an option", "$PIPE run --bogus=1 -h", 2, "", "unknown option --bogus"},
    {"help before mistakes", "$PIPE run -h --bogus", 0, "Usage: pipe run", ""},
    {"help of no verb", "$PIPE help rn", 2, "", "there is no verb rn; did you mean run?"},
    {"nothing", "$PIPE", 2, "", "Usage: pipe VERB"},
    {"version", "$PIPE --version", 0, "pipe 0.", ""},
    {"version behind a verb", "$PIPE run --version", 0, "pipe 0.", ""},
    {"an unknown verb", "$PIPE vaildate q.yaml", 2, "",
     "pipe: error: there is no verb vaildate; did you mean validate?|--help"},
    {"a file instead of a verb", "$PIPE q.yaml", 2, "", "did you mean pipe run q.yaml?"},
    {"an unknown option", "$PIPE run --dryrun q.yaml", 2, "",
     "pipe run: error: unknown option --dryrun; did you mean --dry-run?"},
    {"an abbreviation", "$PIPE run --dry q.yaml", 2, "", "unknown option --dry"},
    {"an unknown letter", "$PIPE run -x q.yaml", 2, "", "unknown option -x"},
    {"a missing value", "$PIPE run q.yaml -o", 2, "", "-o needs a value: --output=DIR"},
    {"a value for a flag", "$PIPE run --dry-run=yes q.yaml", 2, "", "--dry-run takes no value"},
    {"a wrong colour", "$PIPE --color=blue validate q.yaml", 2, "", "--color=blue: auto, always or never"},
    {"a wrong progress", "$PIPE run --progress=jsn q.yaml", 2, "", "--progress=jsn|did you mean json?"},
    {"no file", "$PIPE run", 2, "", "the pipeline file is missing"},
    {"two files", "$PIPE run q.yaml wrong.yaml", 2, "", "\"wrong.yaml\": one pipeline at most"},
    {"an absent file", "$PIPE run q.yml", 2, "", "q.yml: No such file or directory; did you mean q.yaml?"},
    {"a folder", "$PIPE validate .", 2, "", "is a folder, not a pipeline"},
    {"too many operands", "$PIPE schema x", 2, "", "\"x\" is one argument too many"},
    {"an unknown action", "$PIPE cache clean", 2, "",
     "clean: list, gc, clear or verify; did you mean clear?"},
    {"a wrong size", "$PIPE cache gc --max-size=7Q", 2, "", "--max-size=7Q: a number of bytes"},

    {"a valid pipeline", "$PIPE validate q.yaml", 0, "q.yaml: valid, 8 nodes\n", ""},
    {"standard input", "cat q.yaml | $PIPE validate -", 0, "-: valid, 8 nodes\n", ""},
    {"a sweep through a pipe",
     "(cat q.yaml; echo 'sweep: {solver.steps: [1, 2], seed: [1, 2]}') | $PIPE validate -", 0,
     "-: valid, 8 nodes, 4 members\n", ""},
    {"a file that can be read once",
     "mkfifo once; cat wrong.yaml > once & $PIPE run --print-config once; status=$?; rm once; exit $status",
     2, "", "once:2:36: error: s.steps"},
    {"two files, one wrong", "$PIPE validate q.yaml wrong.yaml", 2, "q.yaml: valid",
     "wrong.yaml:2:36: error: s.steps: 0 is below the minimum 1\n    s: {plugin: sampler.ddim, steps: 0}\n"
     "                                     ^\nhelp: sampler.ddim steps: integer, |"
     "wrong.yaml:3:15: error: there is no plugin sampler.hoin|wrong.yaml: 2 errors"},
    {"an assignment behind the file", "$PIPE validate q.yaml solver.plugin=sampler.heun", 0, "valid", ""},
    {"--set before the file", "$PIPE validate --set solver.steps=0 q.yaml", 2, "",
     "--set: solver.steps=0: error: solver.steps: 0 is below the minimum 1"},
    {"options of a sampler that contradict each other", "$PIPE validate q.yaml solver.clip=1 solver.threshold=0.9", 2, "",
     "`clip` and `threshold` exclude each other"},
    {"a grid that does not fall", "$PIPE validate q.yaml solver.grid=custom 'solver.times=[1, 0.5, 0.7, 0]'", 2, "",
     "`times` must fall, but 0.7 comes behind 0.5"},
    {"a parameter that the grid does not use", "$PIPE validate q.yaml solver.rho=7", 2, "",
     "`rho` is given, but `grid: uniform` does not use it"},
    {"a step that lacks what an option needs", "$PIPE validate q.yaml points.strength=0.5", 2, "",
     "`strength` is given, but does nothing without `images` or `noise`"},
    {"more steps than the schedule has, before the training", "$PIPE run q.yaml solver.grid=trailing solver.steps=2000", 3, NULL,
     "points: solver: grid trailing places 2000 points on whole training steps, but there are only 1000"},
    {"a variance that no network predicts, before the training",
     "$PIPE run q.yaml solver.plugin=sampler.ddpm solver.variance=learned", 3, NULL,
     "points: solver: `variance: learned` needs a network that predicts variances: one with `variance: range`"},
    {"a model of eps at alpha = 0, before the training",
     "$PIPE run g.yaml loss.predict=eps loss.schedule=flow solver.clip=1", 3, NULL,
     "points: solver: step 1 of 20: guided predicts eps, from which x0 is not determined at t = 1 (alpha = 0, sigma = 1)"},
    {"a schedule in which the model cannot be asked, before the training", "$PIPE run q.yaml points.schedule=flow", 3,
     NULL, "points: solver: at t = 1 alpha is 0: a model of another schedule cannot be asked there"},
    {"a schedule that reaches further than the model's, before the training",
     "$PIPE run q.yaml loss.schedule=edm points.schedule=cosine", 3, NULL,
     "points: solver: model: sigma / alpha = 20291|is outside its schedule's range, 0 to 80"},
    {"guidance that remembers and many steps at once, before the training", "$PIPE run g.yaml points.sampler=many", 3,
     NULL, "points: many: guided remembers earlier steps (guidance with momentum, or that counts steps): it cannot be "
           "asked about several at once"},
    {"guidance that remembers and steps per sample, before the training",
     "$PIPE run g.yaml solver.plugin=sampler.dopri5", 3, NULL, "points: solver: guided remembers earlier steps"},
    {"options of a sampler that contradict each other, its own", "$PIPE validate q.yaml "
     "solver.plugin=sampler.euler-maruyama solver.compat=released solver.variable=ratio", 2, "",
     "`compat` and `variable` exclude each other"},
    {"options of a sampler around another one",
     "$PIPE validate q.yaml solver.plugin=sampler.picard solver.sampler=ddim", 2, "",
     "solver: `steps` is given, but grid and options are those of the sampler inside"},
    {"what goes together", "$PIPE inspect generate", 0, "  images: not with noise\n|  mask: needs images; not with invert\n", ""},
    {"what goes together, as JSON", "$PIPE inspect --json sampler.teleport", 0, "\"rules\"|\"excludes\": \"ratio\"", ""},
    {"--set=", "$PIPE validate --set=solver.steps=7 q.yaml", 0, "valid", ""},
    {"options end at --", "$PIPE validate -- -o", 2, "", "-o: No such file or directory"},
    {"no colour in a pipe", "$PIPE validate wrong.yaml 2>&1 | grep -c '\033'", 1, "0\n", ""},
    {"colour on request", "$PIPE --color=always validate wrong.yaml 2>&1 | grep -q '\033\\[1;31merror'", 0,
     "", ""},
    {"options before the verb", "$PIPE -q --color never validate q.yaml", 0, "valid", ""},

    {"dot", "$PIPE graph q.yaml", 0, "digraph \"small\"|denoiser.mlp|->", ""},
    {"dot of a wrong pipeline", "$PIPE graph wrong.yaml", 2, "", "below the minimum"},
    {"curves", "$PIPE plot t.csv -x n -y error --by=who --log-y && head -c 40 plot.svg", 0, "<", ""},
    {"one curve", "$PIPE plot t.csv -y error --by=who --only=b -o b.png && test -s b.png", 0, "", ""},
    {"curves of no table", "$PIPE plot none.csv -y error -o n.svg", 3, "", "none.csv"},
    {"no column to draw", "$PIPE plot t.csv -x n", 2, "", "--y=COLUMN is missing"},
    {"an unknown column", "$PIPE plot t.csv -y eror -o n.svg", 3, "", "no column eror; did you mean error"},
    {"a column of words", "$PIPE plot t.csv -y who -o n.svg", 3, "", "who"},
    {"a curve that is not there", "$PIPE plot t.csv -y error --by=who --only=c -o n.svg", 3, "", "no row has c in column who"},
    {"a curve of no column", "$PIPE plot t.csv -y error --only=c", 2, "", "--only needs --by"},
    {"a picture of another kind", "$PIPE plot t.csv -y error -o t.gif", 3, "", "t.gif"},
    {"not over a picture", "touch t.svg; $PIPE plot t.csv -y error -o t.svg", 2, "", "t.svg exists: --overwrite"},
    {"to a file", "$PIPE graph q.yaml -o q.dot && cat q.dot", 0, "digraph", ""},
    {"not over a file", "touch q.dot; $PIPE graph q.yaml -o q.dot", 2, "",
     "q.dot exists: --overwrite replaces it"},
    {"over a file when told", "touch q.dot; $PIPE graph q.yaml --overwrite -oq.dot && cat q.dot", 0,
     "digraph", ""},
    {"the resolved pipeline", "$PIPE run --print-config q.yaml --seed=7 solver.eta=0.5", 0,
     "seed: 7\n|plugin: sampler.ddim@|eta: 0.5\n|plugin: schedule.cosine@", ""},
    {"which is valid", "$PIPE run --print-config q.yaml | $PIPE validate -", 0, "valid", ""},
    {"schema", "$PIPE schema", 0, "draft-07|sampler.ddim", ""},
    {"a full disk", "$PIPE --help > /dev/full", 3, "", "standard output: No space left on device"},
    {"env", "$PIPE env", 0, "pipe: 0.|libyaml: 0.2|devices:|plugins:|environment:|PIPE_CACHE_DIR: ", ""},
    {"devices without a platform", "mkdir none; OCL_ICD_VENDORS=$PWD/none $PIPE devices", 3, "",
     "pocl-opencl-icd"},
    {"env without a platform", "mkdir none; OCL_ICD_VENDORS=$PWD/none $PIPE env", 0, "pocl-opencl-icd", ""},
    {"bench: no repetitions", "$PIPE bench --repeats=0", 2, "", "--repeats=0: a number from 1 to 1000"},
    {"bench: repetitions in words", "$PIPE bench --repeats=many", 2, "",
     "--repeats=many: a number from 1 to 1000"},
    {"bench: too many repetitions", "$PIPE bench --repeats=1001", 2, "",
     "--repeats=1001: a number from 1 to 1000"},
    {"bench: an unknown class of device", "$PIPE bench --device-profile=avx51", 2, "",
     "there is no device profile \"avx51\": gpu, avx512, avx2, sse or auto (did you mean avx512?)"},
    {"bench: an unknown device", "$PIPE bench --device=abacus", 2, "",
     "no OpenCL device is called \"abacus\""},
    {"bench: an operand", "$PIPE bench gemm", 2, "", "\"gemm\" is one argument too many"},
    {"tune: no time", "$PIPE tune --time-limit=0", 2, "", "--time-limit=0: a number from 1 to 86400"},
    {"tune: time in words", "$PIPE tune --time-limit=long", 2, "", "--time-limit=long: a number from 1"},
    {"tune: no candidates", "$PIPE tune --candidates=0", 2, "", "--candidates=0: a number from 1 to 2000"},
    {"tune: a size below any tile", "$PIPE tune --size=63", 2, "", "--size=63: a number from 64 to 2048"},
    {"tune: an unknown device", "$PIPE tune --device=abacus", 2, "", "no OpenCL device is called \"abacus\""},
    {"tune: an unknown class of device", "$PIPE tune --device-profile=gpv", 2, "", "(did you mean gpu?)"},
    {"tune: a CPU's products do not go through CLBlast", "$PIPE tune --device=cpu", 2, "",
     "there is nothing to tune; --device-profile=gpu"},
    {"tune: an operand", "$PIPE tune gemm", 2, "", "\"gemm\" is one argument too many"},
};

static void expect_parts(const char *why, const char *stream, const char *got, const char *parts)
{
    if (!parts)
        return;
    if (!*parts)
        cr_expect_str_empty(got, "%s: %s is not empty: %s", why, stream, got);
    for (const char *p = parts; *p; ) {
        const size_t n = strcspn(p, "|");
        char *part = pipe_format("%.*s", (int)n, p);
        cr_expect_not_null(strstr(got, part), "%s: \"%s\" is not in %s:\n%s", why, part, stream, got);
        pipe_free(part);
        p += n + (p[n] == '|');
    }
}

Test(tools, statuses_and_streams)
{
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        command c = command_run(folder, cache, cases[k].line);
        command_expect(&c, cases[k].status, cases[k].why);
        expect_parts(cases[k].why, "stdout", c.out, cases[k].out);
        expect_parts(cases[k].why, "stderr", c.err, cases[k].err);
        command_free(&c);
        shell("rm -rf none q.dot");
    }
}

Test(tools, every_verb_has_help)
{
    command c = command_run(
        folder, cache,
        "for v in $($PIPE --help | sed -n 's/^  \\([a-z][a-z-]*\\)  .*/\\1/p'); do "
        "$PIPE $v --help > one.txt 2> err.txt || { echo \"$v fails\"; exit 1; }; "
        "test -s err.txt && { echo \"$v: stderr\"; exit 1; }; "
        "head -1 one.txt | grep -q \"^Usage: pipe $v\" || { echo \"$v: usage\"; exit 1; }; "
        "grep -q -- '--color=WHEN' one.txt || { echo \"$v: options\"; exit 1; }; "
        "awk 'length > 80 { print FILENAME \": \" $0; bad = 1 } END { exit bad }' one.txt || exit 1; "
        "n=$((n + 1)); done; echo $n");
    command_expect(&c, 0, "help of all verbs");
    cr_expect_geq(atoi(c.out), 10, "only %s verbs were found", c.out);
    command_free(&c);
}

static json_t *parse(const command *c, const char *why)
{
    json_error_t e;
    json_t *v = json_loads(c->out, JSON_REJECT_DUPLICATES, &e);
    cr_assert_not_null(v, "%s: %s\n%s", why, e.text, c->out);
    return v;
}

Test(tools, validate_json)
{
    command c = command_run(folder, cache, "$PIPE validate --json q.yaml wrong.yaml nowhere.yaml");
    command_expect(&c, 2, "three files");
    cr_expect_str_empty(c.err, "%s", c.err);
    json_t *v = parse(&c, "validate --json"), *files = json_object_get(v, "files");
    cr_expect(json_is_false(json_object_get(v, "valid")));
    cr_assert_eq(json_array_size(files), 3);
    cr_expect(json_is_true(json_object_get(json_array_get(files, 0), "valid")));
    cr_expect_eq(json_integer_value(json_object_get(json_array_get(files, 0), "nodes")), 8);
    const json_t *list = json_object_get(json_array_get(files, 1), "diagnostics");
    cr_assert_eq(json_array_size(list), 2);
    const json_t *first = json_array_get(list, 0);
    cr_expect_str_eq(json_string_value(json_object_get(first, "level")), "error");
    cr_expect_str_eq(json_string_value(json_object_get(first, "file")), "wrong.yaml");
    cr_expect_eq(json_integer_value(json_object_get(first, "line")), 2);
    cr_expect_eq(json_integer_value(json_object_get(first, "column")), 36);
    cr_expect_eq(json_integer_value(json_object_get(first, "length")), 1);
    cr_expect_not_null(
        strstr(json_string_value(json_object_get(json_array_get(files, 2), "error")), "nowhere.yaml"));
    json_decref(v);
    command_free(&c);
}

Test(tools, json_is_one_document)
{
    static const char *const lines[] = {
        "$PIPE validate --json q.yaml", "$PIPE env --json", "$PIPE devices --json", "$PIPE cache list --json",
        "$PIPE runs --json", "$PIPE schema", "$PIPE run --json -n q.yaml",
    };
    for (size_t k = 0; k < sizeof lines / sizeof lines[0]; k++) {
        command c = command_run(folder, cache, lines[k]);
        command_expect(&c, 0, lines[k]);
        json_decref(parse(&c, lines[k]));
        command_free(&c);
    }
}

Test(tools, one_device_is_the_default)
{
    command c = command_run(folder, cache, "$PIPE devices --json");
    command_expect(&c, 0, "devices");
    json_t *v = parse(&c, "devices"), *d;
    size_t k, defaults = 0;
    json_array_foreach(json_object_get(v, "devices"), k, d)
        defaults += json_is_true(json_object_get(d, "default"));
    cr_expect_eq(defaults, 1);
    json_decref(v);
    command_free(&c);
}

Test(tools, a_sweep_is_checked_member_by_member)
{
    put("sweep.yaml",
        "include: q.yaml\nsweep: {solver.plugin: [sampler.ddim, sampler.heun], solver.steps: [5, 6]}\n");
    command c = command_run(folder, cache, "$PIPE validate sweep.yaml");
    command_expect(&c, 0, "a sweep");
    cr_expect_str_eq(c.out, "sweep.yaml: valid, 8 nodes, 4 members\n");
    command_free(&c);
    put("sweep.yaml",
        "include: q.yaml\nsweep: {solver.plugin: [sampler.ddim, sampler.heun], solver.eta: [0.5]}\n");
    c = command_run(folder, cache, "$PIPE validate sweep.yaml");
    command_expect(&c, 2, "a combination that does not work");
    cr_expect_not_null(
        strstr(c.err, "--set: solver.eta=0.5: error: solver.eta: sampler.heun has no parameter"), "%s",
        c.err);
    command_free(&c);
}

#ifdef __SANITIZE_ADDRESS__
#define MAX_CPU 0.5
#else
#define MAX_CPU 0.05
#endif

static double cpu_of_children(void)
{
    struct rusage u;
    getrusage(RUSAGE_CHILDREN, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Without libtool's wrapper script. */
#define LIBS TEST_BUILDDIR "/.libs"
#define BARE LIBS "/pipe"

/* Processor time, since the tests may run beside others; and nothing is opened
 * while the program runs: no plugin, no OpenCL driver. */
Test(tools, start_up_is_fast_and_opens_nothing)
{
    static const char *const lines[] = {BARE " --help", BARE " validate q.yaml", BARE " inspect sampler.ddim",
                                        BARE " inspect", BARE " run --print-config q.yaml"};
    for (size_t k = 0; k < sizeof lines / sizeof lines[0]; k++) {
        double best = 1e9;
        char *line = pipe_format("export LD_LIBRARY_PATH=" LIBS "; exec %s", lines[k]);
        shell(line);                                        /* fills the registry's cache */
        for (int i = 0; i < 5; i++) {
            const double before = cpu_of_children();
            shell(line);
            const double took = cpu_of_children() - before;
            best = took < best ? took : best;
        }
        pipe_free(line);
        cr_expect_lt(best, MAX_CPU, "%s took %.3f s of processor time", lines[k], best);
        line = pipe_format("export LD_LIBRARY_PATH=" LIBS
                           "; LD_DEBUG=files LD_DEBUG_OUTPUT=$PWD/ld %s > /dev/null; "
                           "cat ld.* | grep 'dynamically loaded by'; rm -f ld.*",
                           lines[k]);
        command c = command_run(folder, cache, line);
        cr_expect_str_empty(c.out, "%s opened:\n%s", lines[k], c.out);
        command_free(&c);
        pipe_free(line);
    }
}
