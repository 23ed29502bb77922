/* Crashes while it is opened. */
#include "minimal.h"
#include <signal.h>

__attribute__((constructor)) static void opened(void)
{
    raise(SIGSEGV); /* a bad pointer would end differently under UndefinedBehaviorSanitizer */
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {MINIMAL("test.crash")};
