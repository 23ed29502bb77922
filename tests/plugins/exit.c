/* Ends the process while it is opened. */
#include "minimal.h"
#include <stdlib.h>

__attribute__((constructor)) static void opened(void)
{
    exit(7);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {MINIMAL("test.exit")};
