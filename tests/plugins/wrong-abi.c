/* Built for another major version of the ABI. */
#include "minimal.h"

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    .magic = PIPE_ABI_MAGIC, .abi_major = PIPE_ABI_MAJOR + 1, .size = sizeof(pipe_plugin),
    .kind = PIPE_KIND_SAMPLER, .name = "test.wrong-abi", MINIMAL_BUT_NAME};
