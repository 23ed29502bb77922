/* The entry is something else. */
#include "minimal.h"

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    .magic = 0x12345678, .abi_major = PIPE_ABI_MAJOR, .size = sizeof(pipe_plugin), .kind = PIPE_KIND_SAMPLER,
    .name = "test.wrong-magic", MINIMAL_BUT_NAME};
