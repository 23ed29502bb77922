/* pipe tune: what it refuses.  A search takes minutes of compiling on a CPU: tests/tune
 * runs one.  The file that it stores is tested in tests/runtime/tuning.c. */
#include "support/command.h"
#include "support/folder.h"

static char *folder, *cache;

static void setup(void)
{
    folder = folder_make();
    cache = pipe_format("%s/cache", folder);
}

static void teardown(void)
{
    pipe_free_ptr(&cache);
    folder_drop(&folder);
}

TestSuite(tune, .init = setup, .fini = teardown, .timeout = 300);

static const struct {
    const char *why, *line, *err;
} mistakes[] = {
    {"no time", "$PIPE tune --time-limit=0", "--time-limit=0: a number from 1 to 86400"},
    {"time in words", "$PIPE tune --time-limit=long", "--time-limit=long: a number from 1"},
    {"no candidates", "$PIPE tune --candidates=0", "--candidates=0: a number from 1 to 2000"},
    {"a size below any tile", "$PIPE tune --size=63", "--size=63: a number from 64 to 2048"},
    {"an unknown device", "$PIPE tune --device=abacus", "no OpenCL device is called \"abacus\""},
    {"an unknown class of device", "$PIPE tune --device-profile=gpv", "(did you mean gpu?)"},
    {"a CPU's products do not go through CLBlast", "$PIPE tune --device=cpu",
     "there is nothing to tune; --device-profile=gpu"},
    {"an operand", "$PIPE tune gemm", "\"gemm\" is one argument too many"},
};

Test(tune, mistakes)
{
    for (size_t k = 0; k < sizeof mistakes / sizeof mistakes[0]; k++) {
        command c = command_run(folder, cache, mistakes[k].line);
        command_expect(&c, 2, mistakes[k].why);
        cr_expect(strstr(c.err, mistakes[k].err), "%s: \"%s\" is missing in \"%s\"", mistakes[k].why,
                  mistakes[k].err, c.err);
        command_free(&c);
    }
}
