/* Op rows of the runtime's own tests: the runtime must work with any row, and these
 * do not change when the real ones do. */
#ifndef PIPE_TEST_RUNTIME_ROWS_H
#define PIPE_TEST_RUNTIME_ROWS_H

#include "core/tensor/engine.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

pipe_tensor *row_add(pipe_tensor *a, pipe_tensor *b);
pipe_tensor *row_sub(pipe_tensor *a, pipe_tensor *b);
pipe_tensor *row_mul(pipe_tensor *a, pipe_tensor *b);
pipe_tensor *row_max(pipe_tensor *a, pipe_tensor *b);
pipe_tensor *row_less(pipe_tensor *a, pipe_tensor *b);
pipe_tensor *row_where(pipe_tensor *c, pipe_tensor *a, pipe_tensor *b);
pipe_tensor *row_affine(pipe_tensor *a, double k, double c);
pipe_tensor *row_tanh(pipe_tensor *a);              /* heavy */
pipe_tensor *row_power(pipe_tensor *a, int64_t k);  /* a to the k by a structural integer, 0 to 3 */
pipe_tensor *row_full(pipe_engine *e, pipe_shape s, double x);
pipe_tensor *row_spread(pipe_tensor *a, pipe_shape s);   /* broadcast_to */
pipe_tensor *row_to_i32(pipe_tensor *a);
pipe_tensor *row_to_f32(pipe_tensor *a);
pipe_tensor *row_reshape(pipe_tensor *a, pipe_shape s);
pipe_tensor *row_head(pipe_tensor *a, int64_t start, int64_t length);   /* slice of axis 0: a window */
pipe_tensor *row_reverse(pipe_tensor *a);           /* lowered: reverses all elements */
pipe_tensor *row_overrun(pipe_tensor *a);           /* the same, wrongly: one element behind the end of both */
pipe_tensor *row_mirror(pipe_tensor *a, int64_t width);   /* the same, with an epilogue of that width */
pipe_tensor *row_total(pipe_tensor *a);             /* lowered, with scratch: sum of all elements, a scalar */
pipe_tensor *row_words(pipe_engine *e, int64_t n, uint32_t word,
                       double x); /* lowered: word + i + x, words and floats at run time */
pipe_tensor *row_vectors(pipe_engine *e);              /* lowered: 256, by loads and stores of all types */
pipe_tensor *row_broken(pipe_tensor *a);            /* its kernel does not compile */

extern const pipe_op *const test_rows[];

/* An engine on the CPU with the given profile; aborts the test when there is none. */
pipe_engine *runtime_engine(const char *profile);
/* Uniform in [-2, 2), the same for the same seed. */
void test_fill(float *out, size_t n, uint64_t seed);
pipe_tensor *test_source(pipe_engine *e, pipe_shape s, uint64_t seed);
/* A kept leaf. */
pipe_tensor *test_leaf(pipe_engine *e, pipe_shape s, uint64_t seed);
float *test_read(pipe_tensor *t);

#define OK(call)                                                     \
    do {                                                             \
        pipe_error err_ = PIPE_ERROR_INIT;                           \
        (void)err_;                                                  \
        cr_assert_eq((call), PIPE_OK, "%s: %s", #call, err_.message); \
    } while (0)

#endif
