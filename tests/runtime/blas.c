/* CLBlast against products in double.  One process: the first call compiles for seconds. */
#include "core/device/blas.h"
#include "runtime/rows.h"


/* Small numbers that differ from one another: a misplaced element shows. */
static float number(size_t k) { return (float)((k * 2654435761u >> 7) % 2003) / 1001.5f - 1.0f; }

typedef struct product {
    size_t m, n, k, batch;
    bool one_a, one_b;            /* the same matrix for the whole batch */
    const char *why;
} product;

static const product products[] = {
    {1, 1, 1, 1, .why = "one element"},
    {1, 33, 7, 1, .why = "one row"},
    {33, 1, 31, 1, .why = "one column"},
    {7, 31, 33, 1, .why = "nothing fits a tile"},
    {13, 17, 1, 1, .why = "a sum of one"},
    {127, 131, 67, 1, .why = "primes, more than one tile each"},
    {521, 257, 263, 1, .why = "above the direct kernel's size: operands are padded"},
    {7, 13, 31, 5, .why = "a batch"},
    {5, 7, 3, 4, .one_a = true, .why = "one a for the batch"},
    {5, 7, 3, 4, .one_b = true, .why = "one b for the batch"},
};

enum { OFFSET_A = 3, OFFSET_B = 11, OFFSET_C = 5, BEHIND = 64 };

static float *numbers(size_t n, size_t salt)
{
    float *x = pipe_alloc_array(n + 1, sizeof *x);
    for (size_t k = 0; k < n; k++)
        x[k] = number(k + salt);
    return x;
}

static cl_mem upload(pipei_device *d, const float *x, size_t n)
{
    cl_mem mem = NULL;
    OK(pipei_buffer_new(d, n * 4, "test", &mem, &err_));
    OK(pipei_device_write(d, mem, 0, x, n * 4, &err_));
    return mem;
}

/* What lies around the result, and was in its place before, is NaN. */
static void check(const product *p, const float *a, const float *b, const float *got, bool ta, bool tb)
{
    const size_t count = p->m * p->n * p->batch;
    for (size_t k = 0; k < OFFSET_C; k++)
        cr_expect(isnan(got[k]), "%s: wrote in front of the result", p->why);
    for (size_t k = 0; k < BEHIND; k++)
        cr_expect(isnan(got[OFFSET_C + count + k]), "%s: wrote behind the result", p->why);
    for (size_t at = 0; at < count; at++) {
        const size_t z = at / (p->m * p->n), i = at / p->n % p->m, j = at % p->n;
        const float *za = a + OFFSET_A + (p->one_a ? 0 : z * p->m * p->k);
        const float *zb = b + OFFSET_B + (p->one_b ? 0 : z * p->k * p->n);
        double want = 0, size = 1;
        for (size_t k = 0; k < p->k; k++) {
            const double x = (double)za[ta ? k * p->m + i : i * p->k + k] *
                             zb[tb ? j * p->k + k : k * p->n + j];
            want += x;
            size += fabs(x);
        }
        const double off = fabs(got[OFFSET_C + at] - want);
        cr_assert(off <= 1e-6 * size, "%s, %s %s: element %zu is %.9g instead of %.9g", p->why, ta ? "a'" : "a",
                  tb ? "b'" : "b", at, (double)got[OFFSET_C + at], want);
    }
}

static void run_product(pipei_device *d, const product *p)
{
    const size_t n_a = OFFSET_A + p->m * p->k * (p->one_a ? 1 : p->batch);
    const size_t n_b = OFFSET_B + p->k * p->n * (p->one_b ? 1 : p->batch);
    const size_t n_c = OFFSET_C + p->m * p->n * p->batch + BEHIND;
    float *a = numbers(n_a, 1), *b = numbers(n_b, 77), *nan = pipe_alloc_array(n_c, sizeof *nan);
    float *got = pipe_alloc_array(n_c, sizeof *got), *again = pipe_alloc_array(n_c, sizeof *again);
    for (size_t k = 0; k < n_c; k++)
        nan[k] = NAN;
    const cl_mem ma = upload(d, a, n_a), mb = upload(d, b, n_b), mc = upload(d, nan, n_c);

    for (int t = 0; t < 4; t++) {
        const bool ta = t & 1, tb = t & 2;
        const pipei_blas_operand oa = {ma, OFFSET_A, p->one_a ? 0 : p->m * p->k, ta};
        const pipei_blas_operand ob = {mb, OFFSET_B, p->one_b ? 0 : p->k * p->n, tb};
        const pipei_blas_operand oc = {mc, OFFSET_C, p->m * p->n, false};
        for (int time = 0; time < 2; time++) {
            OK(pipei_device_write(d, mc, 0, nan, n_c * 4, &err_));
            OK(pipei_blas_gemm(d, p->m, p->n, p->k, p->batch, &oa, &ob, &oc, &err_));
            OK(pipei_device_read(d, mc, 0, time ? again : got, n_c * 4, &err_));
        }
        check(p, a, b, got, ta, tb);
        cr_expect_eq(memcmp(got, again, n_c * 4), 0, "%s: the second time gave other bits", p->why);
    }
    pipei_buffer_free(d, ma);
    pipei_buffer_free(d, mb);
    pipei_buffer_free(d, mc);
    pipe_free(a);
    pipe_free(b);
    pipe_free(nan);
    pipe_free(got);
    pipe_free(again);
}

/* The same through the engine: lowered to calls, between kernels, replayed. */
static void in_a_plan(void)
{
    enum { M_ = 7, K_ = 33, N_ = 31 };
    pipe_engine *e = NULL;
    OK(pipei_engine_new("auto", "gpu", &e, &err_));
    float *a = numbers(3 * M_ * K_, 1), *b = numbers(K_ * N_, 77);
    float *got = pipe_alloc_array(M_ * N_, sizeof *got);
    pipe_tensor *ta = NULL, *tb = NULL;
    pipe_keep(&ta, pipe_from_f32(e, PIPE_SHAPE(3, M_, K_), a));
    pipe_keep(&tb, pipe_from_f32(e, PIPE_SHAPE(K_, N_), b));
    OK(pipei_engine_profile(e, true, &err_));
    for (int run = 0; run < 3; run++) {
        /* An operand that begins inside a buffer, ops behind. */
        pipe_tensor *part = pipe_reshape(pipe_slice(ta, 0, 1, 1, 1), PIPE_SHAPE(M_, K_)), *y = NULL;
        pipe_keep(&y, pipe_affine(pipe_relu(pipe_matmul(part, tb, false, false)), 2.0, 1.0));
        OK(pipe_read_f32(y, got, M_ * N_, &err_));
        for (size_t at = 0; at < M_ * N_; at++) {
            double want = 0;
            for (size_t k = 0; k < K_; k++)
                want += (double)a[M_ * K_ + at / N_ * K_ + k] * b[k * N_ + at % N_];
            want = 2 * fmax(want, 0) + 1;
            cr_assert(fabs(got[at] - want) < 1e-4, "run %d, element %zu: %.9g instead of %.9g", run, at,
                      (double)got[at], want);
        }
        pipe_keep(&y, NULL);
    }
    cr_expect_eq(pipei_engine_stats_get(e).plans_built, 1);
    const pipei_profile_row *rows;
    uint64_t calls = 0;
    for (size_t k = pipei_engine_profile_rows(e, &rows); k-- > 0;)
        calls += strcmp(rows[k].op, "matmul") == 0 ? rows[k].launches : 0;
    cr_expect_eq(calls, 3, "the products were launched %d times", (int)calls);
    pipe_keep(&ta, NULL);
    pipe_keep(&tb, NULL);
    pipe_free(a);
    pipe_free(b);
    pipe_free(got);
    pipei_engine_free(e);
}

Test(blas, products)
{
    pipei_device *d = NULL;
    OK(pipei_device_open("auto", "gpu", &d, &err_));
    for (size_t k = 0; k < sizeof products / sizeof products[0]; k++)
        run_product(d, &products[k]);

    pipe_error err = PIPE_ERROR_INIT;
    cl_mem small = NULL;
    OK(pipei_buffer_new(d, 64, "test", &small, &err_));
    const pipei_blas_operand x = {.mem = small};
    cr_expect_eq(pipei_blas_gemm(d, 1000, 1000, 1000, 1, &x, &x, &x, &err), PIPE_EDEVICE);
    cr_expect(strstr(err.message, "1000 x 1000 x 1000") && strstr(err.message, "past the end of its buffer"),
              "%s", err.message);
    pipei_buffer_free(d, small);
    pipei_device_close(d);
    in_a_plan();
}
