/* Versions of the libraries that libpipe runs with, for `pipe env` and manifests.  Internal. */
#ifndef PIPE_CORE_LIBRARIES_H
#define PIPE_CORE_LIBRARIES_H

#include "core/base/internal.h"
#include <stddef.h>

typedef struct pipei_library {
    const char *name, *version;     /* static storage */
} pipei_library;

/* As they are at run time, not as they were when libpipe was built. */
PIPE_INTERNAL size_t pipei_libraries(const pipei_library **out);
/* "gcc 12.2.0": what compiled libpipe. */
PIPE_INTERNAL const char *pipei_compiler(void);

#endif
