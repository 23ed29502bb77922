/* Asks for memory until there is no more. */
#include "minimal.h"
#include <stdlib.h>

__attribute__((constructor)) static void opened(void)
{
    void *volatile last;
    do
        last = malloc(256u << 20);
    while (last);
    abort();
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {MINIMAL("test.memory")};
