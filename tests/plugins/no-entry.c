/* A library that is no plugin: nothing to report. */
#include <pipe/base.h>

PIPE_EXPORT int tests_no_entry(void);
int tests_no_entry(void)
{
    return 1;
}
