/* Marks functions that cross files inside the core but are no part of the API:
 * visible to the program `pipe` and to the tests (version node PIPE_PRIVATE). */
#ifndef PIPE_CORE_INTERNAL_H
#define PIPE_CORE_INTERNAL_H

#define PIPE_INTERNAL __attribute__((visibility("default")))

/* Gives pages of freed host memory back to the system, where the C library can. (memory.c) */
PIPE_INTERNAL void pipei_memory_trim(void);

#endif
