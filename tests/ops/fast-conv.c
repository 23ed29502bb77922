/* The fast kernels of the convolutions against the references in double precision, over
 * shapes at their seams, under every device profile; twice, bit by bit; and with operations
 * fused behind them. */
#include "ops/support.h"

typedef struct row {
    int64_t n, h, w, ci, kh, kw, co;
    uint32_t stride, dilation;
    int32_t pad[4];                /* top, bottom, left, right */
    uint32_t groups;
    const char *why;
} row;

static const row rows[] = {
    {2, 14, 14, 32, 3, 3, 32, 1, 1, {1, 1, 1, 1}, 1, "Winograd: tiles past the right and lower edge"},
    {1, 31, 33, 17, 3, 3, 31, 1, 1, {1, 1, 1, 1}, 1, "Winograd: overlapping vectors, panels that are not full"},
    {3, 13, 11, 96, 3, 3, 70, 1, 1, {2, 0, 1, 2}, 1, "Winograd: two blocks of channels, the second of 6; four pads"},
    {2, 12, 12, 16, 3, 3, 16, 1, 1, {0, 0, 0, 0}, 1, "Winograd: no padding, channels of one vector"},
    {2, 16, 15, 20, 3, 3, 24, 1, 1, {3, 3, -1, 4}, 1, "Winograd: patches outside of the image, a pad that crops"},
    {5, 7, 7, 64, 3, 3, 33, 1, 1, {1, 1, 1, 1}, 1, "Winograd: images of less than two tiles"},
    {1, 7, 7, 31, 3, 3, 33, 1, 1, {1, 1, 1, 1}, 1, "too few pixels for Winograd"},
    {0, 16, 16, 32, 3, 3, 32, 1, 1, {1, 1, 1, 1}, 1, "an empty batch"},
    {1, 1, 1, 1, 3, 3, 1, 1, 1, {1, 1, 1, 1}, 1, "one of everything"},
    {2, 9, 13, 1, 3, 3, 37, 1, 1, {1, 1, 1, 1}, 1, "one channel to many"},
    {2, 9, 13, 37, 3, 3, 1, 1, 1, {1, 1, 1, 1}, 1, "many channels to one"},
    {2, 9, 13, 48, 3, 3, 1, 1, 1, {1, 1, 1, 1}, 1, "narrow: lanes run over the input's channels"},
    {1, 8, 9, 64, 3, 3, 6, 2, 1, {1, 1, 1, 1}, 2, "narrow: three results a group, stride 2"},
    {2, 7, 6, 2, 3, 3, 32, 2, 1, {1, 1, 1, 1}, 1, "narrow: the input gradient, stride 2"},
    {2, 15, 14, 33, 3, 3, 31, 2, 1, {1, 1, 1, 1}, 1, "stride 2"},
    {2, 17, 16, 19, 3, 3, 23, 1, 2, {2, 2, 2, 2}, 1, "dilation 2"},
    {2, 14, 14, 34, 3, 3, 62, 1, 1, {1, 1, 1, 1}, 2, "two groups"},
    {3, 7, 31, 33, 1, 1, 31, 1, 1, {0, 0, 0, 0}, 1, "1 x 1"},
    {3, 7, 9, 33, 1, 1, 31, 2, 1, {0, 0, 0, 0}, 1, "1 x 1, stride 2"},
    {2, 11, 10, 13, 5, 7, 17, 1, 1, {2, 2, 3, 3}, 1, "5 x 7"},
};
enum { ROWS = sizeof rows / sizeof rows[0], N_OPS = 3 };
static const char *const names[N_OPS] = {"conv2d", "conv2d_transpose", "conv2d_weight_grad"};

/* Of an error: the largest over the root mean square of what is wanted. */
#define TOLERANCE 1e-4

/* Sums of uniform numbers: near enough to normal, the same on every run. */
static float *random_numbers(size_t n, uint64_t *state)
{
    float *x = pipe_alloc_array(n + 1, sizeof *x);
    for (size_t k = 0; k < n; k++) {
        double sum = 0;
        for (int j = 0; j < 4; j++) {
            *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            sum += (double)(*state >> 40) * 0x1p-24 - 0.5;
        }
        x[k] = (float)(1.7 * sum);
    }
    return x;
}

static int64_t result_size(int64_t size, int64_t kernel, const row *r, int axis)
{
    return (size + r->pad[2 * axis] + r->pad[2 * axis + 1] - r->dilation * (kernel - 1) - 1) / r->stride + 1;
}

/* The three arrays of a convolution: x, weight, y.  Op k computes one of them from the others. */
typedef struct trial {
    const row *r;
    pipe_conv conv;
    pipe_shape shape[3];
    float *values[3];
    pipe_tensor *leaf[3];
    pipe_tensor *result[N_OPS], *again[N_OPS];
} trial;
static const int first_of[N_OPS] = {0, 2, 0}, second_of[N_OPS] = {1, 1, 2}, result_of[N_OPS] = {2, 0, 1};

static pipe_tensor *apply(const trial *t, int op)
{
    pipe_tensor *a = t->leaf[first_of[op]], *b = t->leaf[second_of[op]];
    return op == 0   ? pipe_conv2d(a, b, t->conv)
           : op == 1 ? pipe_conv2d_transpose(a, b, t->r->h, t->r->w, t->conv)
                     : pipe_conv2d_weight_grad(a, b, t->r->kh, t->r->kw, t->conv);
}

static void trial_open(trial *t, pipe_engine *e, const row *r)
{
    uint64_t state = (uint64_t)(r - rows) + 1;
    *t = (trial){.r = r, .conv = {.stride = {r->stride, r->stride}, .dilation = {r->dilation, r->dilation},
                                  .pad = {r->pad[0], r->pad[1], r->pad[2], r->pad[3]}, .groups = r->groups}};
    t->shape[0] = PIPE_SHAPE(r->n, r->h, r->w, r->ci);
    t->shape[1] = PIPE_SHAPE(r->kh, r->kw, r->ci / r->groups, r->co);
    t->shape[2] = PIPE_SHAPE(r->n, result_size(r->h, r->kh, r, 0), result_size(r->w, r->kw, r, 1), r->co);
    for (int k = 0; k < 3; k++) {
        t->values[k] = random_numbers((size_t)pipe_shape_count(&t->shape[k]), &state);
        t->leaf[k] = ops_leaf(e, t->shape[k], t->values[k]);
    }
    for (int op = 0; op < N_OPS; op++)
        pipe_keep(&t->result[op], apply(t, op));
}

static void trial_close(trial *t)
{
    for (int k = 0; k < 3; k++) {
        pipe_keep(&t->leaf[k], NULL);
        pipe_free(t->values[k]);
        pipe_keep(&t->result[k], NULL);
        pipe_keep(&t->again[k], NULL);
    }
}

/* What op gives, in double precision, from the values as f32 has them. */
static double *reference(const trial *t, int op)
{
    const int in[2] = {first_of[op], second_of[op]};
    double *x[2];
    for (int j = 0; j < 2; j++) {
        const size_t n = (size_t)pipe_shape_count(&t->shape[in[j]]);
        x[j] = pipe_alloc_array(n + 1, sizeof **x);
        for (size_t k = 0; k < n; k++)
            x[j][k] = (double)t->values[in[j]][k];
    }
    const row *r = t->r;
    const int64_t size[N_OPS][2] = {{0, 0}, {r->h, r->w}, {r->kh, r->kw}};
    const pipe_attr attr = {.i = {r->stride, r->stride, r->dilation, r->dilation, r->pad[0], r->pad[1], r->pad[2],
                                  r->pad[3], r->groups, size[op][0], size[op][1]}};
    const pipe_shape shapes[2] = {t->shape[in[0]], t->shape[in[1]]}, *out = &t->shape[result_of[op]];
    const size_t n = (size_t)pipe_shape_count(out);
    double *y = pipe_alloc_array(n + 1, sizeof *y);
    const pipe_reference ref = {.n_in = 2, .in = (const double *const[]){x[0], x[1]}, .in_shape = shapes,
                                .out = y, .out_shape = *out, .n = n, .attr = &attr};
    pipei_op_find(names[op])->reference(&ref);
    pipe_free(x[0]);
    pipe_free(x[1]);
    return y;
}

static void expect_near(const trial *t, const char *what, const float *got, const double *want, size_t n)
{
    double square = 0, worst = 0;
    for (size_t k = 0; k < n; k++) {
        const double error = fabs((double)got[k] - want[k]);
        square += want[k] * want[k];
        worst = error > worst || isnan(error) ? error : worst;
    }
    const double limit = TOLERANCE * sqrt(square / (double)(n ? n : 1));
    cr_expect(worst <= limit, "%s (%s): off by %.3g, more than %.3g", what, t->r->why, worst, limit);
}

static void check(const trial *t, int op)
{
    const size_t n = (size_t)pipe_shape_count(&t->shape[result_of[op]]);
    float *got = pipe_alloc_array(n + 1, sizeof *got), *again = pipe_alloc_array(n + 1, sizeof *again);
    double *want = reference(t, op);
    OK(pipe_read_f32(t->result[op], got, n, &err_));
    OK(pipe_read_f32(t->again[op], again, n, &err_));
    expect_near(t, names[op], got, want, n);
    cr_expect_arr_eq(got, again, n * sizeof *got, "%s (%s): another result the second time", names[op], t->r->why);
    pipe_free(want);
    pipe_free(got);
    pipe_free(again);
}

/* All rows are one plan, so their kernels are compiled together. */
static void check_profile(const char *profile)
{
    pipe_engine *e = NULL;
    static trial trials[ROWS];
    OK(pipei_engine_new("auto", profile, &e, &err_));
    for (size_t k = 0; k < ROWS; k++)
        trial_open(&trials[k], e, &rows[k]);
    OK(pipe_eval(e, &err_));
    for (size_t k = 0; k < ROWS; k++)
        for (int op = 0; op < N_OPS; op++)
            pipe_keep(&trials[k].again[op], apply(&trials[k], op));
    OK(pipe_eval(e, &err_));
    for (size_t k = 0; k < ROWS; k++) {
        for (int op = 0; op < N_OPS; op++)
            check(&trials[k], op);
        trial_close(&trials[k]);
    }
    pipei_engine_free(e);
}

Test(fast_conv, avx512) { check_profile("avx512"); }
Test(fast_conv, avx2) { check_profile("avx2"); }
Test(fast_conv, sse) { check_profile("sse"); }
Test(fast_conv, gpu) { check_profile("gpu"); }

/* silu(conv(x, w) + bias) + residual, stored by the convolution's kernel. */
static void check_epilogue(const row *r)
{
    pipe_engine *e = ops_engine();
    trial t;
    uint64_t state = 99;
    trial_open(&t, e, r);
    const size_t n = (size_t)pipe_shape_count(&t.shape[2]), co = (size_t)r->co;
    float *bias = random_numbers(co, &state);
    pipe_tensor *y = NULL, *b = ops_leaf(e, PIPE_SHAPE(r->co), bias);
    pipe_keep(&y, pipe_add(pipe_silu(pipe_add(apply(&t, 0), b)), t.leaf[2]));
    float *got = pipe_alloc_array(n + 1, sizeof *got);
    OK(pipe_read_f32(y, got, n, &err_));
    double *want = reference(&t, 0);
    for (size_t k = 0; k < n; k++) {
        const double v = want[k] + (double)bias[k % co];
        want[k] = v / (1 + exp(-v)) + (double)t.values[2][k];
    }
    expect_near(&t, "with an epilogue", got, want, n);
    pipe_free(want);
    pipe_free(got);
    pipe_free(bias);
    pipe_keep(&y, NULL);
    pipe_keep(&b, NULL);
    trial_close(&t);
    pipei_engine_free(e);
}

Test(fast_conv, epilogue_of_winograd) { check_epilogue(&rows[1]); }
Test(fast_conv, epilogue_of_direct) { check_epilogue(&rows[6]); }
