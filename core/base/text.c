/* Growing text.  Capacity doubles, so n additions cost O(n). */
#include <pipe/base.h>

#include <stdio.h>
#include <string.h>

static void reserve(pipe_text *t, size_t more)
{
    size_t needed;
    if (!pipe_add_size(t->length, more, &needed) || !pipe_add_size(needed, 1, &needed))
        needed = SIZE_MAX;                       /* pipe_realloc then reports it */
    if (needed <= t->capacity)
        return;
    size_t grown = t->capacity < 32 ? 64 : t->capacity * 2;
    if (grown < needed)
        grown = needed;
    t->data = pipe_realloc(t->data, grown);
    t->capacity = grown;
}

void pipe_text_add_bytes(pipe_text *t, const void *bytes, size_t n)
{
    reserve(t, n);
    if (n)
        memcpy(t->data + t->length, bytes, n);
    t->length += n;
    t->data[t->length] = '\0';
}

void pipe_text_add(pipe_text *t, const char *s)
{
    pipe_text_add_bytes(t, s, strlen(s));
}

void pipe_text_addf(pipe_text *t, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n > 0) {
        reserve(t, (size_t)n);
        vsnprintf(t->data + t->length, (size_t)n + 1, fmt, again);
        t->length += (size_t)n;
    }
    va_end(again);
}

void pipe_text_clear(pipe_text *t)
{
    t->length = 0;
    if (t->data)
        t->data[0] = '\0';
}

void pipe_text_free(pipe_text *t)
{
    pipe_free(t->data);
    *t = (pipe_text){0};
}
