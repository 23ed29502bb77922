/* Crashes while it is opened. */
#include "minimal.h"

static int *volatile nowhere;

__attribute__((constructor)) static void opened(void)
{
    *nowhere = 1;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {MINIMAL("test.crash")};
