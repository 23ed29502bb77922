/* Stretches that the backward pass computes again: the same bits, less memory. */
#include "ops/support.h"


enum { N = 16, S = 24, C = 32, DEPTH = 6, WIDTH = 4 * C, WEIGHTS = 2 * C * WIDTH + C * C };

typedef enum stretches { NONE, BLOCKS, NESTED } stretches;

/* Attention over itself, then a perceptron with dropout; both added. */
static pipe_tensor *block(pipe_tensor *x, pipe_tensor *flat, int k)
{
    const int64_t at = (int64_t)k * WEIGHTS;
    pipe_tensor *w0 = pipe_reshape(pipe_slice(flat, 0, at, C * WIDTH, 1), PIPE_SHAPE(C, WIDTH));
    pipe_tensor *w1 = pipe_reshape(pipe_slice(flat, 0, at + C * WIDTH, C * WIDTH, 1), PIPE_SHAPE(WIDTH, C));
    pipe_tensor *w2 = pipe_reshape(pipe_slice(flat, 0, at + 2 * C * WIDTH, C * C, 1), PIPE_SHAPE(C, C));
    pipe_tensor *h = pipe_reshape(pipe_matmul(pipe_layer_norm(x, 1e-5), w2, false, false),
                                  PIPE_SHAPE(N, S, 2, C / 2));

    h = pipe_reshape(pipe_attention(h, h, h, NULL, 0.0, false), PIPE_SHAPE(N, S, C));
    x = pipe_add(x, h);
    h = pipe_gelu(pipe_matmul(pipe_layer_norm(x, 1e-5), w0, false, false));
    h = pipe_dropout(h, 0.25, (pipe_key){.seed = 7, .stream = (uint64_t)k});
    return pipe_add(x, pipe_matmul(h, w1, false, false));
}

static pipe_tensor *network(pipe_engine *e, pipe_tensor *x, pipe_tensor *flat, stretches how)
{
    for (int k = 0; k < DEPTH; k++) {
        if (how != NONE)
            pipe_recompute_begin(e);
        if (how == NESTED)
            pipe_recompute_begin(e);
        x = block(pipe_scale(x, 0.9), flat, k);
        if (how == NESTED)
            pipe_recompute_end(e);
        if (how != NONE)
            pipe_recompute_end(e);
    }
    return x;
}

static float *numbers(size_t n, size_t salt)
{
    float *x = pipe_alloc_array(n, sizeof *x);
    for (size_t k = 0; k < n; k++)
        x[k] = 0.2f * ((float)((k + salt) * 2654435761u % 1009) / 504.5f - 1.0f);
    return x;
}

typedef struct outcome {
    float *numbers; /* loss, gradient of x, gradient of the weights */
    size_t n;
    uint64_t arena;
} outcome;

static outcome run(stretches how,
                   pipe_tensor *(*loss)(pipe_engine *e, pipe_tensor *x, pipe_tensor *flat, stretches how))
{
    enum { X = N * S * C, W = DEPTH * WEIGHTS };
    pipe_engine *e = ops_engine();
    float *a = numbers(X, 1), *b = numbers(W, 9);
    pipe_tensor *in[2] = {NULL}, *g[2], *kept[3] = {NULL};
    outcome o = {.numbers = pipe_alloc_array(1 + X + W, sizeof(float)), .n = 1 + X + W};

    pipe_keep(&in[0], pipe_scale(pipe_from_f32(e, PIPE_SHAPE(N, S, C), a), 1.0));
    pipe_keep(&in[1], pipe_from_f32(e, PIPE_SHAPE(W), b));
    OK(pipe_eval(e, &err_));
    pipe_tensor *y = loss(e, in[0], in[1], how);
    OK(pipe_grad(y, NULL, in, 2, g, &err_));
    pipe_keep(&kept[0], y);
    pipe_keep(&kept[1], g[0]);
    pipe_keep(&kept[2], g[1]);
    OK(pipe_eval(e, &err_));
    o.arena = pipei_engine_stats_get(e).arena_bytes;
    OK(pipe_read_f32(kept[0], o.numbers, 1, &err_));
    OK(pipe_read_f32(kept[1], o.numbers + 1, X, &err_));
    OK(pipe_read_f32(kept[2], o.numbers + 1 + X, W, &err_));
    pipe_free(a);
    pipe_free(b);
    pipei_engine_free(e);
    return o;
}

static pipe_tensor *plain_loss(pipe_engine *e, pipe_tensor *x, pipe_tensor *flat, stretches how)
{
    return pipe_mean_all(pipe_square(network(e, pipe_scale(x, 1.5), flat, how)));
}

static void check_same(const outcome *a, const outcome *b)
{
    size_t zeros = 0;
    for (size_t k = 0; k < a->n; k++) {
        cr_assert(memcmp(&a->numbers[k], &b->numbers[k], sizeof(float)) == 0, "number %zu is %.9g, was %.9g",
                  k, (double)b->numbers[k], (double)a->numbers[k]);
        zeros += a->numbers[k] == 0.0f;
    }
    cr_expect(zeros < a->n / 10, "%zu zeros of %zu", zeros, a->n);
}

Test(recompute, the_same_bits_in_less_memory)
{
    const outcome all = run(NONE, plain_loss), blocks = run(BLOCKS, plain_loss),
                  nested = run(NESTED, plain_loss);

    check_same(&all, &blocks);
    check_same(&all, &nested);
    cr_expect(3 * blocks.arena < 2 * all.arena, "%llu bytes in place of %llu",
              (unsigned long long)blocks.arena, (unsigned long long)all.arena);
    cr_expect_eq(nested.arena, blocks.arena);
    pipe_free(all.numbers);
    pipe_free(blocks.numbers);
    pipe_free(nested.numbers);
}

/* y = f(f(x)), f = sin(x) x in stretches: y, y', y'' against closed forms. */
static double f(double x)
{
    return x * sin(x);
}
static double df(double x)
{
    return sin(x) + x * cos(x);
}
static double ddf(double x)
{
    return 2 * cos(x) - x * sin(x);
}

Test(recompute, second_derivative)
{
    const float at[4] = {0.3f, -1.2f, 2.0f, 0.9f};
    float first[4], second[4];
    pipe_engine *e = ops_engine();
    pipe_tensor *x = ops_leaf(e, PIPE_SHAPE(4), at), *y = x, *g, *gg;

    for (int k = 0; k < 2; k++) {
        y = pipe_affine(y, 1.0, 0.0);
        pipe_recompute_begin(e);
        y = pipe_mul(pipe_sin(y), y);
        pipe_recompute_end(e);
    }
    OK(pipe_grad(pipe_sum_all(y), NULL, &x, 1, &g, &err_));
    OK(pipe_grad(pipe_sum_all(g), NULL, &x, 1, &gg, &err_));
    for (int k = 0; k < 4; k++) {
        const double a = (double)at[k];
        first[k] = (float)(df(f(a)) * df(a));
        second[k] = (float)(ddf(f(a)) * df(a) * df(a) + df(f(a)) * ddf(a));
    }
    pipe_tensor *kept = NULL;
    pipe_keep(&kept, gg);
    ops_expect(g, first, 4, 1e-5, __LINE__);
    ops_expect(kept, second, 4, 1e-5, __LINE__);
    pipe_keep(&kept, NULL);
    pipei_engine_free(e);
}

/* A stretch that was not ended ends with the recording; ends too many do nothing. */
Test(recompute, unbalanced)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *x = ops_leaf(e, PIPE_SHAPE(2), (const float[]){1, 2}), *g;

    pipe_recompute_end(e);
    pipe_recompute_begin(e);
    OK(pipe_grad(pipe_sum_all(pipe_square(pipe_scale(x, 2.0))), NULL, &x, 1, &g, &err_));
    EXPECT(g, 8, 16);
    OK(pipe_grad(pipe_sum_all(pipe_square(x)), NULL, &x, 1, &g, &err_));
    EXPECT(g, 2, 4);
    pipei_engine_free(e);
}
