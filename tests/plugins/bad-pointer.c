/* Opens well, but its descriptor leads nowhere. */
#include "minimal.h"

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {MINIMAL((const char *)8)};
