/* Recording, evaluation, holds, assignments, poison. */
#include "runtime/rows.h"

TestSuite(engine, .timeout = 120);

static void expect(pipe_tensor *t, size_t n, const float *want)
{
    float *got = test_read(t);
    for (size_t k = 0; k < n; k++)
        cr_assert_float_eq(got[k], want[k], 1e-5f * (1.0f + fabsf(want[k])), "element %zu: %g, not %g", k,
                           (double)got[k], (double)want[k]);
    pipe_free(got);
}

Test(engine, add)
{
    pipe_engine *e = test_engine(NULL);
    pipe_tensor *a = pipe_from_f32(e, PIPE_SHAPE(3), (float[]){1, 2, 3});
    pipe_tensor *b = pipe_from_f32(e, PIPE_SHAPE(2, 1), (float[]){10, 20});
    expect(row_affine(row_add(a, b), 2, 1), 6, (float[]){23, 25, 27, 43, 45, 47});
    pipei_engine_free(e);
}

Test(engine, lowered)
{
    pipe_engine *e = test_engine(NULL);
    pipe_tensor *a = pipe_from_f32(e, PIPE_SHAPE(5), (float[]){1, 2, 3, 4, 5});
    pipe_tensor *r = row_reverse(row_add(a, a));
    pipe_tensor *s = row_total(r);
    expect(row_add(r, s), 5, (float[]){40, 38, 36, 34, 32});
    pipei_engine_free(e);
}
