/* Prints when it is opened, and leaves a process behind that holds everything open:
 * works all the same, and nobody sees the text. */
#include "minimal.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void opened(void)
{
    printf("NOISE\n");
    fflush(stdout);
    fprintf(stderr, "NOISE\n");
    if (getenv("PIPE_TEST_LEAVE_PROCESS") && fork() == 0) {
        sleep(3);
        _exit(0);
    }
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {MINIMAL("test.noisy")};
