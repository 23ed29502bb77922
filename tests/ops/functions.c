/* The public functions that are made of ops, and what they say when they cannot be. */
#include "ops/support.h"


/* ---- values ---- */
Test(functions, mean_over_axes)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *x = pipe_reshape(pipe_arange(e, 12, 0, 1), PIPE_SHAPE(2, 3, 2));
    pipe_tensor *all[] = {
        pipe_mean(x, (int[]){1}, 1, false), pipe_mean(x, (int[]){0, -1}, 2, false), pipe_mean_all(x),
    };
    for (size_t k = 0; k < 3; k++)
        all[k] = pipe_reshape(all[k], PIPE_SHAPE(-1));
    EXPECT(pipe_concat(all, 3, 0), 2, 3, 8, 9, 3.5f, 5.5f, 7.5f, 5.5f);
}

Test(functions, reductions_keep_axes)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *x = pipe_reshape(pipe_arange(e, 12, 0, 1), PIPE_SHAPE(2, 3, 2));
    pipe_tensor *kept = pipe_max(x, (int[]){1}, 1, true), *dropped = pipe_min(x, (int[]){-1, 0}, 2, false);
    cr_expect(pipe_shape_equal(pipe_tensor_shape(kept), &PIPE_SHAPE(2, 1, 2)));
    cr_expect(pipe_shape_equal(pipe_tensor_shape(dropped), &PIPE_SHAPE(3)));
    cr_expect_eq(pipe_rank(pipe_sum_all(x)), 0);
    EXPECT(pipe_concat((pipe_tensor *[]){pipe_reshape(kept, PIPE_SHAPE(4)), dropped}, 2, 0), 4, 5, 10, 11, 0,
           2, 4);
}

Test(functions, equal_maxima_share_the_gradient)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *x = OPS_VECTOR(e, 3, 1, 3, 2), *g;
    OK(pipe_grad(pipe_max(x, NULL, 0, false), NULL, &x, 1, &g, &err_));
    EXPECT(g, 0.5f, 0, 0.5f, 0);
    pipe_tensor *a = OPS_VECTOR(e, 1, 2, 3), *b = OPS_VECTOR(e, 1, 3, 2);
    OK(pipe_grad(pipe_sum_all(pipe_maximum(a, b)), NULL, &a, 1, &g, &err_));
    EXPECT(g, 0.5f, 0, 1);
}

Test(functions, sum_to_undoes_broadcasting)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *x = pipe_reshape(pipe_arange(e, 12, 0, 1), PIPE_SHAPE(2, 3, 2));
    pipe_tensor *all[] = {pipe_sum_to(x, PIPE_SHAPE(3, 1)), pipe_sum_to(x, PIPE_SHAPE(2)),
                          pipe_sum_to(x, PIPE_SCALAR)};
    for (size_t k = 0; k < 3; k++)
        all[k] = pipe_reshape(all[k], PIPE_SHAPE(-1));
    EXPECT(pipe_concat(all, 3, 0), 14, 22, 30, 30, 36, 66);
}

Test(functions, softmax_along_another_axis)
{
    pipe_engine *e = ops_engine();
    const float l = logf(2), x[6] = {0, 0, l, 0, 0, l};     /* rows (0, 0), (ln 2, 0), (0, ln 2) */
    pipe_tensor *a = ops_leaf(e, PIPE_SHAPE(3, 2), x);
    EXPECT(pipe_softmax(a, 0), 0.25f, 0.25f, 0.5f, 0.25f, 0.25f, 0.5f);
    EXPECT(pipe_log_softmax(a, 0), -2 * l, -2 * l, -l, -2 * l, -2 * l, -l);
    EXPECT(pipe_logsumexp(a, 0, false), 2 * l, 2 * l);
    pipe_tensor *kept = pipe_logsumexp(a, 0, true);
    cr_expect(pipe_shape_equal(pipe_tensor_shape(kept), &PIPE_SHAPE(1, 2)));
    pipe_tensor *three = pipe_logsumexp(pipe_reshape(a, PIPE_SHAPE(3, 2, 1)), 1, false);
    cr_expect(pipe_shape_equal(pipe_tensor_shape(three), &PIPE_SHAPE(3, 1)));
    EXPECT(three, l, logf(3), logf(3));
    pipe_keep(&a, NULL);
}

Test(functions, cross_entropy)
{
    pipe_engine *e = ops_engine();
    const float logits[6] = {1, 2, 3, -1, 0, 5};
    pipe_tensor *x = pipe_from_f32(e, PIPE_SHAPE(2, 3), logits), *labels = pipe_from_i32(e, PIPE_SHAPE(2),
                                                                                         (int32_t[]){0, 2});
    pipe_tensor *y = pipe_cross_entropy(x, labels), *g;
    OK(pipe_grad(pipe_sum_all(y), NULL, &x, 1, &g, &err_));
    float want[8], *gradient = want + 2;
    for (int r = 0; r < 2; r++) {
        const float *row = logits + 3 * r;
        const int label = r == 0 ? 0 : 2;
        const float sum = expf(row[0]) + expf(row[1]) + expf(row[2]);
        want[r] = logf(sum) - row[label];
        for (int k = 0; k < 3; k++)
            gradient[3 * r + k] = expf(row[k]) / sum - (k == label ? 1.0f : 0.0f);
    }
    ops_expect(pipe_concat((pipe_tensor *[]){y, pipe_reshape(g, PIPE_SHAPE(6))}, 2, 0), want, 8, 2e-6,
               __LINE__);
}

Test(functions, sort_and_top_k)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *x = pipe_from_f32(e, PIPE_SHAPE(2, 4), (float[]){3, 1, 4, 2, -1, -3, NAN, 7}), *index, *g;
    pipe_tensor *top = pipe_top_k(x, 2, &index), *up = pipe_sort(x, false);
    OK(pipe_grad(top, pipe_from_f32(e, PIPE_SHAPE(2, 2), (float[]){10, 20, 30, 40}), &x, 1, &g, &err_));
    pipe_tensor *all[] = {top, pipe_to_f32(index), g, pipe_slice(up, 1, 0, 3, 1)};
    for (size_t k = 0; k < 4; k++)
        all[k] = pipe_reshape(all[k], PIPE_SHAPE(-1));
    EXPECT(pipe_concat(all, 4, 0), 4, 3, 7, -1, 2, 0, 3, 0, 20, 0, 10, 0, 40, 0, 0, 30, 1, 2, 3, -3, -1, 7);
}

/* The first of equal maxima takes the gradient; windows may share it. */
Test(functions, max_pool_gradient)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *x = pipe_from_f32(e, PIPE_SHAPE(1, 3, 3, 1), (float[]){1, 1, 0, 1, 5, 2, 0, 2, 2}), *g;
    pipe_tensor *y = pipe_max_pool2d(x, 2, 1, 0);
    OK(pipe_grad(y, pipe_from_f32(e, PIPE_SHAPE(1, 2, 2, 1), (float[]){1, 10, 100, 1000}), &x, 1, &g, &err_));
    EXPECT(g, 0, 0, 0, 0, 1111, 0, 0, 0, 0);
    x = pipe_from_f32(e, PIPE_SHAPE(1, 2, 2, 1), (float[]){0, 3, 3, 3});
    OK(pipe_grad(pipe_sum_all(pipe_max_pool2d(x, 2, 2, 0)), NULL, &x, 1, &g, &err_));
    EXPECT(g, 0, 1, 0, 0);
}

/* What does nothing records nothing. */
Test(functions, nothing_to_do)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *x = pipe_from_f32(e, PIPE_SHAPE(2, 3), (float[6]){0});
    cr_expect_eq(pipe_reshape(x, PIPE_SHAPE(2, -1)), x);
    cr_expect_eq(pipe_permute(x, (int[]){0, 1}, 2), x);
    cr_expect_eq(pipe_slice(x, 0, 0, 2, 1), x);
    cr_expect_eq(pipe_pad(x, 1, 0, 0, 0), x);
    cr_expect_eq(pipe_concat(&x, 1, 0), x);
    cr_expect_eq(pipe_broadcast_to(x, PIPE_SHAPE(2, 3)), x);
    cr_expect_eq(pipe_to_f32(x), x);
    cr_expect_eq(pipe_powf(x, 1), x);
    cr_expect_eq(pipe_dropout(x, 0, (pipe_key){0}), x);
    cr_expect_eq(pipe_sum_to(x, PIPE_SHAPE(2, 3)), x);
    pipe_tensor *image = pipe_reshape(x, PIPE_SHAPE(1, 2, 3, 1));
    cr_expect_eq(pipe_resize_nearest(image, 2, 3), image);
    cr_expect_eq(pipe_resize_bilinear(image, 2, 3), image);
}

/* One accumulator would be off by 1e-3 here; the tree keeps 1e-6. */
Test(functions, long_sums_are_accurate)
{
    pipe_engine *e = ops_engine();
    const int64_t n = 10000000;
    pipe_tensor *x = pipe_rand(e, PIPE_SHAPE(n / 1000, 1000), (pipe_key){.seed = 3}), *kept = NULL;
    pipe_keep(&kept, x);
    float *host = pipe_alloc_array((size_t)n, sizeof *host), sums[2];
    OK(pipe_read_f32(kept, host, (size_t)n, &err_));
    double want = 0;
    for (int64_t k = 0; k < n; k++)
        want += (double)host[k];
    pipe_tensor *columns = pipe_sum_all(pipe_sum(kept, (int[]){0}, 1, false));
    pipe_tensor *both = pipe_concat((pipe_tensor *[]){pipe_reshape(pipe_sum_all(kept), PIPE_SHAPE(1)),
                                                      pipe_reshape(columns, PIPE_SHAPE(1))}, 2, 0);
    OK(pipe_read_f32(both, sums, 2, &err_));
    cr_expect_float_eq((double)sums[0] / want, 1, 1e-6, "all at once: %.9g, not %.9g", (double)sums[0], want);
    cr_expect_float_eq((double)sums[1] / want, 1, 1e-6, "by columns: %.9g, not %.9g", (double)sums[1], want);
    pipe_tensor *last = pipe_slice(pipe_cumsum(pipe_reshape(kept, PIPE_SHAPE(n)), 0, false, false), 0, n - 1,
                                   1, 1);
    OK(pipe_read_f32(last, sums, 1, &err_));
    cr_expect_float_eq((double)sums[0] / want, 1, 1e-6, "cumulative: %.9g, not %.9g", (double)sums[0], want);
    pipe_keep(&kept, NULL);
    pipe_free(host);
}

/* ---- mistakes ---- */
typedef struct mistake {
    pipe_tensor *t;
    pipe_status status;
    const char *part[3];      /* of the message */
} mistake;

Test(functions, mistakes_are_named)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *a = pipe_zeros(e, PIPE_SHAPE(3, 4)), *b = pipe_zeros(e, PIPE_SHAPE(5)),
                *s = pipe_constant(e, 1);
    pipe_tensor *s2 = pipe_zeros(e, PIPE_SHAPE(1));
    pipe_tensor *i = pipe_arange_i32(e, 3, 0), *none = pipe_zeros(e, PIPE_SHAPE(3, 0));
    pipe_tensor *image = pipe_zeros(e, PIPE_SHAPE(1, 4, 4, 2));
    const mistake all[] = {
        {pipe_add(a, b),
         PIPE_ESHAPE,
         {"add([3, 4], [5])", "axis -1 has sizes 4 and 5", "equal unless one of them is 1"}},
        {pipe_where(a, b, a), PIPE_ESHAPE, {"where(", "[3, 4], [5] and [3, 4] do not broadcast"}},
        {pipe_mul(a, i), PIPE_ESHAPE, {"input 2", "i32 [3]", "pipe_to_f32"}},
        {pipe_exp(i), PIPE_ESHAPE, {"exp([3] i32)", "must be f32"}},
        {pipe_less(a, i), PIPE_ESHAPE, {"f32 [3, 4] and i32 [3] must have one dtype"}},
        {pipe_add(NULL, a), PIPE_EINVAL, {"add", "NULL"}},
        {pipe_exp(NULL), PIPE_EINVAL, {"NULL"}},
        {pipe_exp(pipe_add(a, b)), PIPE_ESHAPE, {"add([3, 4], [5])"}},
        {pipe_clamp(a, 2, 1), PIPE_EINVAL, {"2 and 1 are not in order"}},
        {pipe_reshape(a, PIPE_SHAPE(5, 2)), PIPE_ESHAPE, {"[3, 4] has 12 elements", "[5, 2] would have 10"}},
        {pipe_reshape(a, PIPE_SHAPE(5, -1)), PIPE_ESHAPE, {"5 does not divide 12"}},
        {pipe_reshape(a, PIPE_SHAPE(-1, -1)), PIPE_ESHAPE, {"a single one may be -1"}},
        {pipe_broadcast_to(a, PIPE_SHAPE(3, 5)), PIPE_ESHAPE, {"[3, 4] does not broadcast to [3, 5]"}},
        {pipe_permute(a, (int[]){0, 0}, 2), PIPE_ESHAPE, {"each of the 2 axes of [3, 4] once"}},
        {pipe_permute(a, (int[]){0}, 1), PIPE_ESHAPE, {"1 axes for [3, 4]"}},
        {pipe_transpose(a, 0, 2), PIPE_ESHAPE, {"[3, 4] does not have the axes 0 and 2"}},
        {pipe_slice(a, 1, 2, 3, 1), PIPE_ESHAPE, {"3 elements from 2", "axis 1 of [3, 4]"}},
        {pipe_slice(a, 0, 0, 2, 0), PIPE_ESHAPE, {"in steps of 0"}},
        {pipe_slice(a, -3, 0, 1, 1), PIPE_ESHAPE, {"[3, 4] has no axis -3"}},
        {pipe_pad(a, 0, -1, 0, 0), PIPE_ESHAPE, {"-1 before", "none may be negative"}},
        {pipe_concat((pipe_tensor *[]){a, b}, 2, 0),
         PIPE_ESHAPE,
         {"part 2, f32 [5], does not fit part 1, f32 [3, 4]"}},
        {pipe_sum(a, (int[]){2}, 1, false), PIPE_ESHAPE, {"sum: [3, 4] has no axis 2"}},
        {pipe_mean(a, (int[]){0, -2}, 2, false), PIPE_ESHAPE, {"axis -2 of [3, 4] is named twice"}},
        {pipe_max(none, NULL, 0, false), PIPE_ESHAPE, {"axis 1 of [3, 0] is empty", "no maximum"}},
        {pipe_softmax(s, 0), PIPE_ESHAPE, {"softmax: [] has no axis 0"}},
        {pipe_softmax(none, -1), PIPE_ESHAPE, {"[3, 0] has no elements along the last axis"}},
        {pipe_cross_entropy(a, b), PIPE_ESHAPE, {"logits [3, 4] and labels [5]", "i32 [n]"}},
        {pipe_gather(a, b), PIPE_ESHAPE, {"input 2", "must be i32"}},
        {pipe_scatter_add(a, pipe_arange_i32(e, 4, 0), 9),
         PIPE_ESHAPE,
         {"[3, 4] does not begin with", "[4]"}},
        {pipe_take_along(a, i), PIPE_ESHAPE, {"[3, 4] and the index [3]", "all axes but the last"}},
        {pipe_argsort(s, false), PIPE_ESHAPE, {"a scalar has no axis"}},
        {pipe_top_k(a, 5, NULL), PIPE_ESHAPE, {"top_k: the last axis of [3, 4] does not have 5"}},
        {pipe_argmax(none), PIPE_ESHAPE, {"[3, 0]"}},
        {pipe_max_pool2d(a, 2, 2, 0), PIPE_ESHAPE, {"[3, 4]; 4 axes are needed"}},
        {pipe_max_pool2d(image, 5, 1, 0), PIPE_ESHAPE, {"a kernel of 5 does not fit into [1, 4, 4, 2]"}},
        {pipe_avg_pool2d(image, 2, 0, 0), PIPE_EINVAL, {"stride 0", "at least 1"}},
        {pipe_resize_bilinear(image, 0, 4), PIPE_ESHAPE, {"[1, 4, 4, 2] to 0 x 4 pixels"}},
        {pipe_dropout(a, 1.5, (pipe_key){0}), PIPE_EINVAL, {"1.5 is not a probability"}},
        {pipe_zeros(e, PIPE_SHAPE(-1)), PIPE_ESHAPE, {"[-1] has a negative size"}},
        {pipe_randn(e, PIPE_SHAPE(65536, 65536), (pipe_key){0}),
         PIPE_ESHAPE,
         {"[65536, 65536] has more than"}},
        {pipe_flip(pipe_broadcast_to(s, PIPE_SHAPE(2, INT32_MAX)), 0), PIPE_ESHAPE, {"more than 2147483647"}},
        {pipe_concat((pipe_tensor *[]){pipe_broadcast_to(s, PIPE_SHAPE(INT32_MAX)), s2}, 2, 0),
         PIPE_ESHAPE,
         {"concat([2147483647], [1])", "more than 2147483647"}},
        {pipe_randn_of(i, PIPE_SHAPE(4, 2), (pipe_key){0}), PIPE_ESHAPE, {"3 indices for shape [4, 2]"}},
        {pipe_sum_to(a, PIPE_SHAPE(3)), PIPE_ESHAPE, {"[3] does not broadcast to [3, 4]"}},
    };
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) {
        pipe_error err = PIPE_ERROR_INIT;
        cr_expect_eq(pipe_check(all[k].t, &err), all[k].status, "mistake %zu: %s: %s", k,
                     pipe_status_name(err.status), err.message);
        for (size_t j = 0; j < 3 && all[k].part[j]; j++)
            cr_expect(strstr(err.message, all[k].part[j]), "mistake %zu: \"%s\" is not in \"%s\"", k,
                      all[k].part[j], err.message);
    }
}
