/* The descriptor is shorter than the ABI it claims. */
#include "minimal.h"

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    .magic = PIPE_ABI_MAGIC, .abi_major = PIPE_ABI_MAJOR, .size = 40, .kind = PIPE_KIND_SAMPLER,
    .name = "test.truncated", MINIMAL_BUT_NAME};
