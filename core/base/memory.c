/* Host memory: allocations of ordinary size end the process when they fail. */
#include "core/base/internal.h"
#include <pipe/base.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

/* Nothing here may allocate; run folders stay valid because every file in them
 * is written to a temporary name first. */
static _Noreturn void out_of_memory(size_t bytes)
{
    char text[96];
    const int n = snprintf(text, sizeof text, "pipe: out of memory: %zu bytes were refused\n", bytes);
    if (n > 0) {
        const ssize_t ignored = write(STDERR_FILENO, text, (size_t)n);
        (void)ignored;
    }
    _exit(3);
}

void *pipe_try_alloc(size_t bytes)
{
    return calloc(1, bytes ? bytes : 1);
}

void *pipe_alloc(size_t bytes)
{
    void *p = pipe_try_alloc(bytes);
    if (!p)
        out_of_memory(bytes);
    return p;
}

void *pipe_alloc_array(size_t count, size_t each)
{
    size_t bytes;
    if (!pipe_mul_size(count, each, &bytes))
        out_of_memory(SIZE_MAX);
    return pipe_alloc(bytes);
}

void *pipe_realloc(void *p, size_t bytes)
{
    void *q = realloc(p, bytes ? bytes : 1);
    if (!q)
        out_of_memory(bytes);
    return q;
}

char *pipe_strdup(const char *s)
{
    if (!s)
        return NULL;
    const size_t n = strlen(s) + 1;
    return memcpy(pipe_alloc(n), s, n);
}

char *pipe_format(const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    const size_t size = n > 0 ? (size_t)n + 1 : 1;
    char *s = pipe_alloc(size);
    vsnprintf(s, size, fmt, again);
    va_end(again);
    return s;
}

void pipe_free(void *p)
{
    free(p);
}

void pipe_free_ptr(void *p)
{
    void *held;
    memcpy(&held, p, sizeof held);   /* `p` is char **, float **, ...: no aliasing assumed */
    free(held);
    held = NULL;
    memcpy(p, &held, sizeof held);
}

/* Large blocks come to lie in the heap once one of their size was freed, and pages between others stay. */
void pipei_memory_trim(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}
