/* Uses a function that no library has. */
#include "minimal.h"

void tests_function_that_no_library_has(void);

static void destroy(void *self)
{
    (void)self;
    tests_function_that_no_library_has();
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {MINIMAL("test.unresolved"), .destroy = destroy};
