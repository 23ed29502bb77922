/* What the tests of functions, autograd and random numbers share. */
#ifndef TESTS_OPS_SUPPORT_H
#define TESTS_OPS_SUPPORT_H

#include "core/tensor/engine.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#define OK(call)                                                         \
    do {                                                                 \
        pipe_error err_ = PIPE_ERROR_INIT;                               \
        (void)err_;                                                      \
        cr_assert_eq((call), PIPE_OK, "%s: %s", #call, err_.message);    \
    } while (0)

/* An engine for the test's process, which ends with the test. */
static inline pipe_engine *ops_engine(void)
{
    pipe_engine *e = NULL;
    OK(pipei_engine_new("auto", NULL, &e, &err_));
    return e;
}

static inline pipe_tensor *ops_vector(pipe_engine *e, size_t n, const float *x)
{
    return pipe_from_f32(e, PIPE_SHAPE((int64_t)n), x);
}

/* A leaf that outlives evaluations. */
static inline pipe_tensor *ops_leaf(pipe_engine *e, pipe_shape shape, const float *x)
{
    pipe_tensor *t = NULL;
    pipe_keep(&t, pipe_from_f32(e, shape, x));
    return t;
}

#define OPS_VECTOR(e, ...) \
    ops_vector((e), sizeof((float[]){__VA_ARGS__}) / sizeof(float), (float[]){__VA_ARGS__})

static inline void ops_expect(pipe_tensor *t, const float *want, size_t n, double tolerance, int line)
{
    float *got = pipe_alloc_array(n + 1, sizeof *got);
    pipe_error err = PIPE_ERROR_INIT;
    cr_assert_eq(pipe_count(t), (int64_t)n, "line %d: %lld elements, not %zu", line, (long long)pipe_count(t),
                 n);
    cr_assert_eq(pipe_read_f32(t, got, n, &err), PIPE_OK, "line %d: %s", line, err.message);
    for (size_t k = 0; k < n; k++)
        cr_expect(fabs((double)got[k] - (double)want[k]) <= tolerance * (1 + fabs((double)want[k])),
                  "line %d, element %zu: %.9g, not %.9g", line, k, (double)got[k], (double)want[k]);
    pipe_free(got);
}
/* The elements of t, in order. */
#define EXPECT(t, ...)                                                                          \
    ops_expect((t), (float[]){__VA_ARGS__}, sizeof((float[]){__VA_ARGS__}) / sizeof(float), 2e-6, __LINE__)

#endif
