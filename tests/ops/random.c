/* Random numbers: known answers, host against device, moments, independence. */
#include "core/tensor/ops/ops.h"
#include "ops/support.h"

#include <inttypes.h>


/* Vectors of Random123's kat_vectors, philox4x32 with 10 rounds. */
Test(random, philox_known_answers)
{
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } answers[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t k = 0; k < 3; k++) {
        uint32_t got[4];
        pipei_philox(answers[k].counter, answers[k].key, got);
        for (int j = 0; j < 4; j++)
            cr_expect_eq(got[j], answers[k].want[j], "vector %zu, word %d: %08" PRIx32, k, j, got[j]);
    }
}

/* The mapping from keys to numbers is part of what a seed means: it never changes. */
Test(random, values_never_change)
{
    const pipe_key key = {.seed = 7, .stream = pipe_stream("unet", "weights"), .sample = 3, .step = 11};
    float u[4], n[4];
    pipe_host_rand(key, u, 4);
    pipe_host_randn(key, n, 4);
    static const uint32_t words[4] = {0x128ebe5e, 0x7f25bee5, 0xac0e94b9, 0xeb8522df};
    cr_expect_eq(key.stream, UINT64_C(0xdbcd7c62a22ab4e0));
    for (uint32_t j = 0; j < 4; j++) {
        cr_expect_eq(pipe_host_bits(key, j), words[j], "word %" PRIu32 ": %08" PRIx32, j,
                     pipe_host_bits(key, j));
        cr_expect_eq(u[j], ((float)(words[j] >> 9) + 0.5f) * 0x1p-23f);
    }
    cr_expect_eq(n[0], -0x1.252e74p+1f);
    cr_expect_eq(n[3], -0x1.b7c554p-2f);
}

/* Host and device agree to the last bit, whatever the shape. */
Test(random, host_is_device)
{
    pipe_engine *e = ops_engine();
    enum { ROWS = 3, EACH = 1001 };
    const pipe_key key = {
        .seed = UINT64_C(0x123456789abcdef0), .stream = 5, .sample = UINT64_C(0xfffffffe), .step = 1};
    static float device[ROWS * EACH], host[EACH];
    for (int normal = 0; normal < 2; normal++) {
        pipe_tensor *t = (normal ? pipe_randn : pipe_rand)(e, PIPE_SHAPE(ROWS, 7, 143), key);
        OK(pipe_read_f32(t, device, ROWS * EACH, &err_));
        for (uint64_t r = 0; r < ROWS; r++) {
            pipe_key row = key;
            row.sample += r;
            (normal ? pipe_host_randn : pipe_host_rand)(row, host, EACH);
            cr_expect_arr_eq(device + r * EACH, host, sizeof host, "%s, row %" PRIu64,
                             normal ? "randn" : "rand", r);
        }
    }
}

/* A sample is the same alone, in any batch, and by index. */
Test(random, batch_position_does_not_matter)
{
    pipe_engine *e = ops_engine();
    enum { EACH = 30 };
    const pipe_key key = {.seed = 1, .stream = 2, .sample = 40, .step = 3};
    float batch[8 * EACH], alone[EACH], by_index[3 * EACH];
    OK(pipe_read_f32(pipe_randn(e, PIPE_SHAPE(8, 5, 6), key), batch, 8 * EACH, &err_));
    pipe_key fifth = key;
    fifth.sample = 45;
    OK(pipe_read_f32(pipe_randn(e, PIPE_SHAPE(1, EACH), fifth), alone, EACH, &err_));
    pipe_tensor *index = pipe_from_i32(e, PIPE_SHAPE(3), (int32_t[]){47, 40, 45});
    OK(pipe_read_f32(pipe_randn_of(index, PIPE_SHAPE(3, EACH), key), by_index, 3 * EACH, &err_));
    cr_expect_arr_eq(batch + 5 * EACH, alone, sizeof alone);
    cr_expect_arr_eq(by_index, batch + 7 * EACH, sizeof alone);
    cr_expect_arr_eq(by_index + EACH, batch, sizeof alone);
    cr_expect_arr_eq(by_index + 2 * EACH, alone, sizeof alone);
}

/* A sum of normals is the sum of what its keys give one by one; keys of two samples are refused. */
Test(random, sums_of_normals)
{
    pipe_engine *e = ops_engine();
    enum { N = 3 * 101, TERMS = 3 };
    static const double weight[TERMS] = {0.5, -2.0, 0.0};
    pipe_key key[TERMS];
    static float sum[N], part[N];
    static double want[N];
    for (uint64_t k = 0; k < TERMS; k++)
        key[k] = (pipe_key){.seed = 3, .stream = k, .sample = 17, .step = 2 * k};
    OK(pipe_read_f32(pipe_randn_sum(e, PIPE_SHAPE(3, 101), key, weight, TERMS), sum, N, &err_));
    for (int k = 0; k < TERMS; k++) {
        OK(pipe_read_f32(pipe_randn(e, PIPE_SHAPE(3, 101), key[k]), part, N, &err_));
        for (int j = 0; j < N; j++)
            want[j] += weight[k] * (double)part[j];
    }
    for (int j = 0; j < N; j++)
        cr_assert_float_eq(sum[j], want[j], 2e-6, "element %d: %.9g, not %.9g", j, (double)sum[j], want[j]);
    key[1].sample++;
    cr_expect_eq(pipe_check(pipe_randn_sum(e, PIPE_SHAPE(3, 101), key, weight, TERMS), NULL), PIPE_EINVAL);
}

/* Any other key gives other numbers: correlations within 5 deviations. */
Test(random, keys_are_independent)
{
    enum { N = 20000 };
    static float a[N], b[N];
    const pipe_key key = {.seed = 1, .stream = 2, .sample = 3, .step = 4};
    pipe_host_randn(key, a, N);
    pipe_key others[] = {key, key, key, key, key};
    others[0].seed++;
    others[1].stream++;
    others[2].sample++;
    others[3].step++;
    others[4].sample += UINT64_C(1) << 32;
    for (size_t k = 0; k < 5; k++) {
        double product = 0;
        pipe_host_randn(others[k], b, N);
        for (int j = 0; j < N; j++)
            product += (double)a[j] * (double)b[j];
        cr_expect_lt(fabs(product) / sqrt(N), 5, "key %zu: %g deviations", k, product / sqrt(N));
    }
    double lag = 0;
    for (int j = 1; j < N; j++)
        lag += (double)a[j] * (double)a[j - 1];
    cr_expect_lt(fabs(lag) / sqrt(N), 5, "neighbours: %g deviations", lag / sqrt(N));
}

/* Moments of 2^20 normals within 5 deviations of what they should be. */
Test(random, normals_are_normal)
{
    enum { N = 1 << 20 };
    static float x[N];
    double m[5] = {0};
    int beyond[4] = {0};
    pipe_host_randn((pipe_key){.seed = 12}, x, N);
    for (int j = 0; j < N; j++) {
        double power = 1;
        for (int p = 1; p <= 4; p++)
            m[p] += (power *= (double)x[j]);
        for (int s = 1; s <= 3; s++)
            beyond[s] += fabsf(x[j]) > (float)s;
    }
    /* variances of the powers: 1, 2, 15, 96 */
    static const double want[5] = {0, 0, 1, 0, 3}, variance[5] = {0, 1, 2, 15, 96};
    for (int p = 1; p <= 4; p++)
        cr_expect_lt(fabs(m[p] / N - want[p]), 5 * sqrt(variance[p] / N), "moment %d: %g", p, m[p] / N);
    for (int s = 1; s <= 3; s++) {
        const double p = erfc(s * M_SQRT1_2);
        cr_expect_lt(fabs(beyond[s] - p * N), 5 * sqrt(p * (1 - p) * N), "beyond %d: %d of %g", s, beyond[s],
                     p * N);
    }
}

/* 64 bins, chi squared with 63 degrees of freedom: mean 63, deviation 11. */
Test(random, uniforms_are_uniform)
{
    enum { N = 1 << 20, BINS = 64 };
    static float x[N];
    int bin[BINS] = {0};
    pipe_host_rand((pipe_key){.seed = 12, .stream = 1}, x, N);
    for (int j = 0; j < N; j++) {
        cr_assert(x[j] > 0 && x[j] < 1, "%g is not within (0, 1)", (double)x[j]);
        bin[(int)(x[j] * BINS)]++;
    }
    double chi = 0;
    for (int k = 0; k < BINS; k++)
        chi += (bin[k] - N / BINS) * (double)(bin[k] - N / BINS) / (N / BINS);
    cr_expect(chi > 20 && chi < 130, "chi squared %g", chi);
}

/* All 120 orders of five, 600 each: chi squared, 119 degrees of freedom. */
Test(random, shuffles_are_uniform)
{
    enum { N = 5, ORDERS = 3125, DRAWS = 72000 };
    static int seen[ORDERS];
    for (uint64_t s = 0; s < DRAWS; s++) {
        uint32_t order[N];
        pipe_host_shuffle((pipe_key){.seed = 4, .sample = s}, order, N);
        uint32_t mask = 0, code = 0;
        for (int k = 0; k < N; k++) {
            mask |= 1u << order[k];
            code = code * N + order[k];
        }
        cr_assert_eq(mask, (1u << N) - 1, "shuffle %" PRIu64 " is no permutation", s);
        seen[code]++;
    }
    double chi = 0;
    int orders = 0;
    for (int k = 0; k < ORDERS; k++)
        if (seen[k]) {
            orders++;
            chi += (seen[k] - 600) * (double)(seen[k] - 600) / 600;
        }
    cr_expect_eq(orders, 120);
    cr_expect(chi > 60 && chi < 200, "chi squared %g", chi);
    uint32_t one[1] = {9};
    pipe_host_shuffle((pipe_key){0}, one, 1);
    cr_expect_eq(one[0], 0);
    pipe_host_shuffle((pipe_key){0}, NULL, 0);
}

/* The expected fraction is dropped, the rest is scaled, the gradient has the mask. */
Test(random, dropout)
{
    pipe_engine *e = ops_engine();
    enum { N = 40000 };
    static float ones[N], y[N], gradient[N];
    for (int k = 0; k < N; k++)
        ones[k] = 1;
    pipe_tensor *x = ops_leaf(e, PIPE_SHAPE(N / 100, 100), ones), *t = NULL, *g = NULL;
    pipe_tensor *d = pipe_dropout(x, 0.3, (pipe_key){.seed = 5});
    pipe_keep(&t, d);
    OK(pipe_grad(pipe_sum_all(d), NULL, &x, 1, &d, &err_));
    pipe_keep(&g, d);
    OK(pipe_read_f32(t, y, N, &err_));
    OK(pipe_read_f32(g, gradient, N, &err_));
    int dropped = 0;
    for (int k = 0; k < N; k++) {
        cr_assert(y[k] == 0 || fabsf(y[k] - 1 / 0.7f) < 1e-6f, "element %d: %g", k, (double)y[k]);
        dropped += y[k] == 0;
    }
    cr_expect_arr_eq(y, gradient, sizeof y);
    cr_expect_lt(fabs(dropped - 0.3 * N), 5 * sqrt(0.21 * N), "%d of %d dropped", dropped, N);
    EXPECT(pipe_dropout(OPS_VECTOR(e, 1, 2, 3), 1, (pipe_key){0}), 0, 0, 0);
}

/* A changed key does not make another plan: keys are arguments of the kernel. */
Test(random, keys_do_not_make_plans)
{
    pipe_engine *e = ops_engine();
    float x[8], y[8];
    OK(pipe_read_f32(pipe_randn(e, PIPE_SHAPE(8), (pipe_key){.step = 1}), x, 8, &err_));
    const uint64_t plans = pipei_engine_stats_get(e).plans_built;
    for (uint64_t s = 2; s < 6; s++) {
        OK(pipe_read_f32(pipe_randn(e, PIPE_SHAPE(8), (pipe_key){.step = s}), y, 8, &err_));
        cr_expect(memcmp(x, y, sizeof x) != 0, "step %" PRIu64 " has the numbers of step 1", s);
    }
    cr_expect_eq(pipei_engine_stats_get(e).plans_built, plans);
}
