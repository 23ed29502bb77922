/* A plugin that works: the others differ from it in what their name says. */
#include "minimal.h"

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {MINIMAL("test.good")};
