/* What the tests of the formats share. */
#ifndef TESTS_IO_TEST_H
#define TESTS_IO_TEST_H

#include "core/io/formats.h"
#include "support/folder.h"

#include <math.h>

#define GOLDEN(name) (TEST_SRCDIR "/data/io/" name)
#define COUNT(table) (sizeof(table) / sizeof(table)[0])

static inline void expect_shape(const pipe_array *a, pipe_shape shape)
{
    char got[PIPE_SHAPE_TEXT], want[PIPE_SHAPE_TEXT];
    cr_expect(pipe_shape_equal(&a->shape, &shape), "shape %s, expected %s",
              pipe_shape_text(&a->shape, got, sizeof got), pipe_shape_text(&shape, want, sizeof want));
}

/* All elements, as doubles. */
static inline void expect_values(const pipe_array *a, const double *values, size_t n)
{
    pipe_error err = PIPE_ERROR_INIT;
    double *got = pipe_alloc_array(n, sizeof *got);
    cr_assert_eq(pipe_array_count(a), n, "%zu elements, expected %zu", pipe_array_count(a), n);
    MUST(pipe_array_f64(a, 0, n, got, &err));
    for (size_t k = 0; k < n; k++)
        cr_expect(got[k] == values[k] || (isnan(got[k]) && isnan(values[k])),
                  "element %zu is %.17g, not %.17g", k, got[k], values[k]);
    pipe_free(got);
}

/* 0, 1, 2, ... */
static inline void expect_counting(const pipe_array *a, size_t n)
{
    double values[64];
    cr_assert(n <= 64);
    for (size_t k = 0; k < n; k++)
        values[k] = (double)k;
    expect_values(a, values, n);
}

/* A buffer of exactly n bytes, so that a sanitizer sees the first read beyond. */
static inline void *exact(const void *bytes, size_t n)
{
    void *p = malloc(n ? n : 1);
    cr_assert_not_null(p);
    memcpy(p, bytes, n);
    return p;
}

#endif
