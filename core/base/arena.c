/* A bump allocator over a list of blocks.
 *
 *   first -> [used..........free] -> [used....free] -> [free] -> NULL
 *                                     ^ current
 *
 * A request that does not fit the current block goes to the next one that is
 * large enough; what remains of the current block is lost until the reset.
 * pipe_arena_reset() rewinds to the first block and keeps them all, so a loop
 * that does the same work in every turn stops calling malloc after the first. */
#include <pipe/base.h>

#include <stdio.h>
#include <string.h>

enum { ALIGNMENT = 16, BLOCK = 64 * 1024 };

typedef struct block {
    struct block *next;
    size_t size, used;                             /* of data */
    _Alignas(ALIGNMENT) unsigned char data[];
} block;

struct pipe_arena {
    block *first, *current;
};

static block *block_new(size_t size)
{
    size_t bytes;
    if (!pipe_add_size(sizeof(block), size, &bytes))
        bytes = SIZE_MAX;
    block *b = pipe_realloc(NULL, bytes);          /* zeroed piece by piece, when given out */
    b->next = NULL;
    b->size = size;
    b->used = 0;
    return b;
}

pipe_arena *pipe_arena_new(void)
{
    return pipe_alloc(sizeof(pipe_arena));
}

void *pipe_arena_alloc(pipe_arena *a, size_t bytes)
{
    size_t rounded;
    if (!pipe_add_size(bytes, ALIGNMENT - 1, &rounded))
        return pipe_alloc(SIZE_MAX);               /* ends the process */
    rounded &= ~(size_t)(ALIGNMENT - 1);

    block *b = a->current;
    while (b && b->size - b->used < rounded && b->next && b->next->used == 0)
        b = a->current = b->next;
    if (!b || b->size - b->used < rounded) {
        block *fresh = block_new(rounded > BLOCK ? rounded : BLOCK);
        if (b) {
            fresh->next = b->next;
            b->next = fresh;
        } else {
            a->first = fresh;
        }
        b = a->current = fresh;
    }
    void *p = b->data + b->used;
    b->used += rounded;
    return memset(p, 0, rounded);
}

char *pipe_arena_strndup(pipe_arena *a, const char *s, size_t n)
{
    n = strnlen(s, n);
    char *copy = pipe_arena_alloc(a, n + 1);
    memcpy(copy, s, n);
    return copy;
}

char *pipe_arena_strdup(pipe_arena *a, const char *s)
{
    return s ? pipe_arena_strndup(a, s, strlen(s)) : NULL;
}

char *pipe_arena_format(pipe_arena *a, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    const size_t size = n > 0 ? (size_t)n + 1 : 1;
    char *s = pipe_arena_alloc(a, size);
    vsnprintf(s, size, fmt, again);
    va_end(again);
    return s;
}

void pipe_arena_reset(pipe_arena *a)
{
    for (block *b = a->first; b; b = b->next)
        b->used = 0;
    a->current = a->first;
}

void pipe_arena_free(pipe_arena *a)
{
    if (!a)
        return;
    for (block *b = a->first, *next; b; b = next) {
        next = b->next;
        pipe_free(b);
    }
    pipe_free(a);
}
