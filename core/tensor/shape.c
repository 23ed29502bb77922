/* Shapes: counting, comparing, printing.  Apart from the engine, so that readers of
 * files (and their fuzz targets) need no device. */
#include <pipe/tensor.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int64_t pipe_shape_count(const pipe_shape *s)
{
    int64_t n = 1;
    for (uint32_t k = 0; k < s->rank; k++)
        n *= s->dim[k];
    return n;
}

bool pipe_shape_equal(const pipe_shape *a, const pipe_shape *b)
{
    return a->rank == b->rank && memcmp(a->dim, b->dim, a->rank * sizeof a->dim[0]) == 0;
}

char *pipe_shape_text(const pipe_shape *s, char *out, size_t size)
{
    size_t at = 0;
    if (size == 0)
        return out;
    out[0] = '\0';
    for (uint32_t k = 0; k <= s->rank && at < size; k++) {
        const char *before = k == 0 ? "[" : k < s->rank ? ", " : "";
        const int n = k < s->rank ? snprintf(out + at, size - at, "%s%" PRId64, before, s->dim[k])
                                  : snprintf(out + at, size - at, "%s]", before);
        at += n > 0 ? (size_t)n : 0;
    }
    return out;
}
