/* dataset.noise: normal, and each sample known from its number alone. */
#include "data-plugins/data-test.h"

#include <math.h>

Test(noise, is_normal_and_known_from_its_number)
{
    enum { N = 200, EACH = 6 };
    pipe_dataset *d = test_object(
        "dataset", "dataset.noise",
        (const char *const[]){"shape", "[2, 3]", "count", "300", "deviation", "80", "seed", "5", NULL}, NULL);
    pipe_dataset *other = test_object("dataset", "dataset.noise",
                                      (const char *const[]){"shape", "[2, 3]", "seed", "6", NULL}, NULL);
    const pipe_dataset_info info = data_info(d);
    static float x[N * EACH];
    float alone[EACH];
    double mean = 0.0, square = 0.0;

    cr_assert(info.count == 300 && info.field[0].shape.rank == 2 && info.field[0].shape.dim[1] == 3);
    data_x(d, 0, N, x);
    for (size_t i = 0; i < N * EACH; i++) {
        mean += (double)x[i] / (N * EACH);
        square += (double)x[i] * (double)x[i] / (N * EACH);
    }
    /* five standard errors of 1,200 numbers */
    cr_expect_float_eq(mean, 0.0, 5 * 80 / sqrt(N * EACH), "mean %g", mean);
    cr_expect_float_eq(sqrt(square), 80.0, 5 * 80 / sqrt(2.0 * N * EACH), "deviation %g", sqrt(square));
    data_x(d, 42, 1, alone);
    cr_expect_eq(memcmp(alone, x + 42 * EACH, sizeof alone), 0, "sample 42 alone");
    data_x(other, 42, 1, alone);
    cr_expect_neq(memcmp(alone, x + 42 * EACH, sizeof alone), 0, "another seed");
}

Test(noise, needs_a_shape)
{
    pipe_object *d = NULL;
    pipe_error err = PIPE_ERROR_INIT;

    check_failure(test_object_try("dataset", "dataset.noise", (const char *const[]){"shape", "[]", NULL},
                                  NULL, &d, &err),
                  PIPE_EINVAL, &err, "shape: 1 to 7 sizes", "no size at all");
}
