/* Kernels compiled ahead by other processes (core/tensor/ahead.c): where they are not in the
 * driver's cache, and with the same results as from the cache. */
#include "support/command.h"
#include "support/folder.h"

#include <criterion/criterion.h>
#include <string.h>

static const char pipeline[] =
    "pipeline: small\n"
    "nodes:\n"
    "  truth: {plugin: denoiser.gaussian-mixture, means: [0, 1], covariances: [0.25]}\n"
    "  data: {plugin: generate, denoiser: truth, sampler: ddim, count: 16}\n"
    "  net: {plugin: denoiser.mlp, width: 8, depth: 1, features: 4}\n"
    "  model: {plugin: fit, model: net, objective: denoise, data: data, steps: 3, batch: 4}\n"
    "  drawn: {plugin: generate, denoiser: model, sampler: ddim, count: 16}\n"
    "  file: {plugin: sink.csv, value: drawn}\n";

static char *folder;

static void setup(void)
{
    pipe_error err = PIPE_ERROR_INIT;
    folder = folder_make();
    char *path = pipe_format("%s/q.yaml", folder);
    MUST(pipei_file_write(path, pipeline, strlen(pipeline), &err));
    pipe_free(path);
}

static void teardown(void) { folder_drop(&folder); }

TestSuite(ahead, .init = setup, .fini = teardown);

/* What a run of q.yaml drew with as many threads, which PoCL takes for cores; `said` is its log.
 * Both are the caller's. */
static char *run(int threads, char **said)
{
    char *cache = pipe_format("%s/cache-%d", folder, threads);
    char *line = pipe_format("export POCL_CACHE_DIR=$PWD/pocl POCL_MAX_PTHREAD_COUNT=%d; "
                             "$PIPE run -v -o runs q.yaml >/dev/null && "
                             "cat runs/small/latest/outputs/file/*.csv && rm -r runs", threads);
    command c = command_run(folder, cache, line);
    command_expect(&c, 0, line);
    char *drawn = pipe_strdup(c.out);
    *said = pipe_strdup(c.err);
    command_free(&c);
    pipe_free(line);
    pipe_free(cache);
    return drawn;
}

Test(ahead, helpers_compile_what_is_not_in_the_cache)
{
    char *said, *said_alone;
    char *drawn = run(2, &said), *drawn_alone = run(1, &said_alone);

    cr_expect_not_null(strstr(said, ": 2 processes compiled "), "%s", said);
    cr_expect_not_null(strstr(said, " programs in "), "%s", said);
    cr_expect_not_null(strstr(said, " kernels in "), "%s", said);
    cr_expect_null(strstr(said, "ended early"), "%s", said);
    cr_expect_null(strstr(said_alone, "processes compiled"), "%s", said_alone);
    cr_expect_not_null(strstr(drawn, "x.0,x.1\n"), "%s", drawn);
    cr_expect_str_eq(drawn, drawn_alone);
    pipe_free(drawn);
    pipe_free(drawn_alone);
    pipe_free(said);
    pipe_free(said_alone);
}

Test(ahead, lists_that_are_none)
{
    static const char *const lines[] = {
        "$PIPE --compile-kernels 3<&-",
        "$PIPE --compile-kernels 3</dev/null",
        "$PIPE --compile-kernels 3<q.yaml",
        "head -c 100000 /dev/zero >zero; $PIPE --compile-kernels 3<zero 4</dev/null",
        "head -c 100000 /dev/zero | tr '\\0' '\\377' >ones; $PIPE --compile-kernels 3<ones 4</dev/null",
    };
    for (size_t k = 0; k < sizeof lines / sizeof lines[0]; k++) {
        command c = command_run(folder, NULL, lines[k]);
        command_expect(&c, 1, lines[k]);
        cr_expect(strstr(c.err, "pipe: helper: ") != NULL, "%s: %s", lines[k], c.err);
        command_free(&c);
    }
}
