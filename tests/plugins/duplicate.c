/* The name is good.c's. */
#include "minimal.h"

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {MINIMAL("test.good")};
