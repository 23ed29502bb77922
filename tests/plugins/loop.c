/* Never comes back from being opened. */
#include "minimal.h"

static volatile bool forever = true;

__attribute__((constructor)) static void opened(void)
{
    while (forever)
        ;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {MINIMAL("test.loop")};
