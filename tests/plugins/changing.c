/* Describes itself differently each time: by PIPE_TEST_VERSION. */
#include "minimal.h"
#include <stdlib.h>
#include <string.h>

static char version[16];

__attribute__((constructor)) static void opened(void)
{
    const char *v = getenv("PIPE_TEST_VERSION");
    strncpy(version, v ? v : "1.0.0", sizeof version - 1);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER), .name = "test.changing", .version = version, .summary = "changes",
    .params = params, .inputs = inputs, .state_size = sizeof(state), .sampler = {.step = step}};
