/* A second one that works. */
#include "minimal.h"

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {MINIMAL("test.other")};
