/* Built for a later minor version of the ABI: may use what this engine has not. */
#include "minimal.h"

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    .magic = PIPE_ABI_MAGIC, .abi_major = PIPE_ABI_MAJOR, .abi_minor = PIPE_ABI_MINOR + 1,
    .size = sizeof(pipe_plugin), .kind = PIPE_KIND_SAMPLER, .name = "test.newer-abi", MINIMAL_BUT_NAME};
