/* Kernels compiled ahead by other processes (core/tensor/ahead.c): where they are not in the
 * driver's cache, and with the same results as from the cache. */
#include "support/command.h"
#include "support/folder.h"

#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <string.h>
#include <unistd.h>

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

/* What the run of q.yaml drew; err: what it said (free it). */
static char *run(const char *cache, char **err)
{
    char *line = pipe_format("POCL_CACHE_DIR=$PWD/pocl $PIPE run -v -o runs q.yaml >/dev/null && "
                             "cat runs/small/latest/outputs/file/*.csv && rm -r runs");
    command c = command_run(folder, cache, line);
    command_expect(&c, 0, line);
    char *out = pipe_strdup(c.out);
    *err = pipe_strdup(c.err);
    command_free(&c);
    pipe_free(line);
    return out;
}

Test(ahead, helpers_compile_what_is_not_in_the_cache)
{
    char *first_cache = pipe_format("%s/first", folder), *second_cache = pipe_format("%s/second", folder);
    char *said, *said_later;

    if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
        cr_skip_test("helpers need two cores");
    char *first = run(first_cache, &said), *second = run(second_cache, &said_later);
    cr_expect(strstr(said, "processes compiled") != NULL, "%s", said);
    cr_expect(strstr(said, " kernels in ") != NULL, "%s", said);
    cr_expect_null(strstr(said, "ended early"), "%s", said);
    cr_expect(strlen(first) > 32);
    cr_expect_str_eq(first, second);
    pipe_free(first);
    pipe_free(second);
    pipe_free(said);
    pipe_free(said_later);
    pipe_free(first_cache);
    pipe_free(second_cache);
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
