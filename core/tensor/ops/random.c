/* Random tensors: Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers:
 * as easy as 1, 2, 3"), counter-based.
 *
 *     key     = the first two words of Philox(counter: stream, step; key: seed)
 *     counter = (block, 0, sample), block = element / 4: four words, one each
 *
 * Nothing but (seed, stream, sample, step, element) enters, so a sample does not
 * depend on its batch.  The words become floats with operations that IEEE 754 and
 * OpenCL both define exactly (conversion, multiplication, fma), so host and
 * devices agree to the last bit; random.cl mirrors this file line by line.
 *
 * Attributes: the shape in i[0] ..., u[0], u[1] the key, u[2], u[3] the sample.
 * randn_sum has its keys, and its weights as bits, in its input. */
#include "core/tensor/ops/ops.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

extern const char pipei_kernel_random[];

/* ---- words ---- */
void pipei_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c[4], k0 = key[0], k1 = key[1];
    memcpy(c, counter, sizeof c);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
        const uint32_t next[4] = {(uint32_t)(p1 >> 32) ^ c[1] ^ k0, (uint32_t)p1,
                                  (uint32_t)(p0 >> 32) ^ c[3] ^ k1, (uint32_t)p0};
        memcpy(c, next, sizeof c);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
}

static void derive(pipe_key key, uint32_t out[2])
{
    const uint32_t counter[4] = {(uint32_t)key.stream, (uint32_t)(key.stream >> 32), (uint32_t)key.step,
                                 (uint32_t)(key.step >> 32)};
    const uint32_t seed[2] = {(uint32_t)key.seed, (uint32_t)(key.seed >> 32)};
    uint32_t words[4];
    pipei_philox(counter, seed, words);
    memcpy(out, words, 2 * sizeof *out);
}

static void block_of(const uint32_t key[2], uint64_t sample, uint64_t block, uint32_t out[4])
{
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)sample,
                                 (uint32_t)(sample >> 32)};
    pipei_philox(counter, key, out);
}

uint64_t pipe_stream(const char *node, const char *purpose)
{
    return pipe_hash64(purpose, strlen(purpose), pipe_hash64(node, strlen(node), 0));
}

/* ---- floats of words: see random.cl ---- */
static float as_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint32_t as_uint(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float uniform(uint32_t w)
{
    return ((float)(w >> 9) + 0.5f) * 0x1p-23f;
}

static float minus_two_log(float u)
{
    int e = (int)(as_uint(u) >> 23) - 127;
    float m = as_float((as_uint(u) & 0x7fffffu) | 0x3f800000u);
    if (m > 1.41421356f) {
        m *= 0.5f;
        e++;
    }
    const float f = m - 1.0f, z = f * f, n = (float)e;
    float p = 7.0376836292e-2f;
    p = fmaf(p, f, -1.1514610310e-1f);
    p = fmaf(p, f, 1.1676998740e-1f);
    p = fmaf(p, f, -1.2420140846e-1f);
    p = fmaf(p, f, 1.4249322787e-1f);
    p = fmaf(p, f, -1.6668057665e-1f);
    p = fmaf(p, f, 2.0000714765e-1f);
    p = fmaf(p, f, -2.4999993993e-1f);
    p = fmaf(p, f, 3.3333331174e-1f);
    p = fmaf(p * f, z, n * -2.12194440e-4f);
    p = fmaf(z, -0.5f, p);
    p = fmaf(n, 0.693359375f, f + p);
    return -2.0f * p;
}

static void normals(uint32_t a, uint32_t b, float out[2])
{
    const float x = minus_two_log(fmaf((float)a, 0x1p-32f, 0x1p-33f));
    const float r = x > 0 ? sqrtf(x) : 0.0f;
    const uint32_t q = (b + 0x20000000u) >> 30;
    const float t = (float)(int32_t)(b - (q << 30)) * 1.4629180792671596e-9f;    /* 2 pi / 2^32 */
    const float z = t * t;
    float s = fmaf(z, -1.9515295891e-4f, 8.3321608736e-3f);
    s = fmaf(s, z, -1.6666654611e-1f);
    s = fmaf(s * z, t, t);
    float c = fmaf(z, 2.443315711809948e-5f, -1.388731625493765e-3f);
    c = fmaf(c, z, 4.166664568298827e-2f);
    c = fmaf(c * z, z, fmaf(z, -0.5f, 1.0f));
    out[0] = r * (q == 0 ? c : q == 1 ? -s : q == 2 ? -c : s);
    out[1] = r * (q == 0 ? s : q == 1 ? c : q == 2 ? -s : -c);
}

/* n elements of one sample, as (0, 1) or as normals. */
static void fill(const uint32_t key[2], uint64_t sample, bool normal, float *out, size_t n)
{
    for (size_t j = 0; j < n; j += 4) {
        uint32_t w[4];
        float v[4];
        block_of(key, sample, j / 4, w);
        if (normal) {
            normals(w[0], w[1], v);
            normals(w[2], w[3], v + 2);
        } else {
            for (int k = 0; k < 4; k++)
                v[k] = uniform(w[k]);
        }
        memcpy(out + j, v, PIPEI_MIN(n - j, (size_t)4) * sizeof *out);
    }
}

/* ---- the host's side ---- */
void pipe_host_rand(pipe_key key, float *out, size_t n)
{
    uint32_t k[2];
    derive(key, k);
    fill(k, key.sample, false, out, n);
}

void pipe_host_randn(pipe_key key, float *out, size_t n)
{
    uint32_t k[2];
    derive(key, k);
    fill(k, key.sample, true, out, n);
}

uint32_t pipe_host_bits(pipe_key key, uint64_t j)
{
    uint32_t k[2], w[4];
    derive(key, k);
    block_of(k, key.sample, j / 4, w);
    return w[j % 4];
}

/* Fisher-Yates; the numbers below `bound` are Lemire's (2019, arXiv:1805.10941),
 * which rejects what would favour some. */
void pipe_host_shuffle(pipe_key key, uint32_t *out, size_t n)
{
    uint32_t k[2], w[4];
    uint64_t drawn = 0;
    derive(key, k);
    for (size_t i = 0; i < n; i++)
        out[i] = (uint32_t)i;
    for (size_t i = n; i > 1; i--) {
        const uint32_t bound = (uint32_t)i, reject = (uint32_t)-bound % bound;
        uint64_t m;
        do {
            if (drawn % 4 == 0)
                block_of(k, key.sample, drawn / 4, w);
            m = (uint64_t)w[drawn++ % 4] * bound;
        } while ((uint32_t)m < reject);
        const size_t j = (size_t)(m >> 32);
        const uint32_t swap = out[i - 1];
        out[i - 1] = out[j];
        out[j] = swap;
    }
}

/* ---- rows ---- */
static pipe_status random_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    const pipe_shape s = pipei_attr_shape(c->attr);
    PIPE_TRY(pipei_need_shape(&s, err));
    *out = (pipe_op_result){s, PIPE_F32};
    return PIPE_OK;
}

/* shape [rows, ...]: a scalar is one sample of one element */
static void rows_of(const pipe_shape *s, size_t *rows, size_t *inner)
{
    *rows = s->rank > 0 ? (size_t)s->dim[0] : 1;
    *inner = *rows > 0 ? (size_t)pipe_shape_count(s) / *rows : 0;
}

static uint64_t first_sample(const pipe_attr *attr)
{
    return (uint64_t)attr->u[3] << 32 | attr->u[2];
}

/* Row r as floats, in `out`: the definition of all four ops. */
static void reference_row(const pipe_reference *r, uint64_t sample, bool normal, size_t row, size_t inner)
{
    float *values = pipe_alloc_array(inner, sizeof *values);
    fill(r->attr->u, sample, normal, values, inner);
    for (size_t j = 0; j < inner; j++)
        r->out[row * inner + j] = (double)values[j];
    pipe_free(values);
}

static void reference_rows(const pipe_reference *r, bool normal)
{
    size_t rows, inner;
    rows_of(&r->out_shape, &rows, &inner);
    for (size_t row = 0; row < rows; row++)
        reference_row(r, first_sample(r->attr) + row, normal, row, inner);
}

static void rand_reference(const pipe_reference *r)
{
    reference_rows(r, false);
}

static void randn_reference(const pipe_reference *r)
{
    reference_rows(r, true);
}

static void randn_of_reference(const pipe_reference *r)
{
    size_t rows, inner;
    rows_of(&r->out_shape, &rows, &inner);
    for (size_t row = 0; row < rows; row++)
        reference_row(r, (uint64_t)(int64_t)r->in[0][row], true, row, inner);
}

static void mask_reference(const pipe_reference *r)
{
    reference_rows(r, false);
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = r->out[k] < (double)r->attr->f[0] ? 0.0 : (double)r->attr->f[1];
}

/* Term k of randn_sum: two words of the key, the bits of the weight. */
enum { TERM_WORDS = 3 };

static void randn_sum_reference(const pipe_reference *r)
{
    size_t rows, inner;
    rows_of(&r->out_shape, &rows, &inner);
    float *values = pipe_alloc_array(inner, sizeof *values);
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = 0.0;
    for (int64_t t = 0; t < r->in_shape[0].dim[0] / TERM_WORDS; t++) {
        const double *term = r->in[0] + t * TERM_WORDS;
        const uint32_t key[2] = {(uint32_t)(int32_t)term[0], (uint32_t)(int32_t)term[1]};
        const double weight = (double)as_float((uint32_t)(int32_t)term[2]);
        for (size_t row = 0; row < rows; row++) {
            fill(key, first_sample(r->attr) + row, true, values, inner);
            for (size_t j = 0; j < inner; j++)
                r->out[row * inner + j] += weight * (double)values[j];
        }
    }
    pipe_free(values);
}

enum { ITEM = 32 }; /* elements of a work-item: 4 LANES of random.cl */

static void launch(pipe_lowering *l, const pipe_op_call *c, const char *kernel)
{
    size_t rows, inner;
    rows_of(pipe_tensor_shape(c->out), &rows, &inner);
    pipe_launch k = {.source = pipei_source(l, pipei_kernel_random), .kernel = kernel};
    if (c->n_in > 0)
        pipei_arg(&k, PIPE_ARG_INPUT, 0);
    pipei_arg(&k, PIPE_ARG_OUTPUT, 0);
    pipei_arg_int(&k, (int64_t)rows);
    pipei_arg_int(&k, (int64_t)inner);
    for (uint32_t j = 0; j < (c->n_in > 0 ? 2u : 4u); j++)
        pipei_arg(&k, PIPE_ARG_WORD, j);
    if (strcmp(kernel, "mask_fill") == 0) {
        pipei_arg(&k, PIPE_ARG_FLOAT, 0);
        pipei_arg(&k, PIPE_ARG_FLOAT, 1);
    }
    pipei_launch_items(l, &k, rows * ((inner + ITEM - 1) / ITEM));
}

static pipe_status rand_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    launch(l, c, "rand_fill");
    return PIPE_OK;
}

static pipe_status randn_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    launch(l, c, "randn_fill");
    return PIPE_OK;
}

static pipe_status randn_of_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    launch(l, c, "randn_of_fill");
    return PIPE_OK;
}

static pipe_status randn_sum_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    size_t rows, inner;
    pipe_launch k = {.source = pipei_source(l, pipei_kernel_random), .kernel = "randn_sum_fill"};
    (void)err;
    rows_of(pipe_tensor_shape(c->out), &rows, &inner);
    pipei_arg(&k, PIPE_ARG_INPUT, 0);
    pipei_arg(&k, PIPE_ARG_OUTPUT, 0);
    pipei_arg_int(&k, (int64_t)rows);
    pipei_arg_int(&k, (int64_t)inner);
    pipei_arg_int(&k, pipe_dim(c->in[0], 0) / TERM_WORDS);
    pipei_arg(&k, PIPE_ARG_WORD, 2);
    pipei_arg(&k, PIPE_ARG_WORD, 3);
    pipei_launch_items(l, &k, rows * ((inner + ITEM - 1) / ITEM));
    return PIPE_OK;
}

static pipe_status mask_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    launch(l, c, "mask_fill");
    return PIPE_OK;
}

static pipe_status randn_of_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(random_shape(c, out, err));
    PIPE_TRY(pipei_need_i32(c, 0, err));
    PIPE_TRY(pipei_need_rank(c, 0, 1, err));
    const int64_t n = pipe_dim(c->in[0], 0), rows = out->shape.rank > 0 ? out->shape.dim[0] : -1;
    char text[PIPE_SHAPE_TEXT];
    if (n != rows)
        return pipe_fail(err, PIPE_ESHAPE,
                         "randn_of: %" PRId64 " indices for shape %s: one is needed per row", n,
                         pipe_shape_text(&out->shape, text, sizeof text));
    return PIPE_OK;
}

static pipe_status randn_sum_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(random_shape(c, out, err));
    PIPE_TRY(pipei_need_i32(c, 0, err));
    PIPE_TRY(pipei_need_rank(c, 0, 1, err));
    if (pipe_dim(c->in[0], 0) % TERM_WORDS != 0)
        return pipe_fail(err, PIPE_ESHAPE, "randn_sum: %" PRId64 " words are not whole terms of %d",
                         pipe_dim(c->in[0], 0), TERM_WORDS);
    return PIPE_OK;
}

static const pipe_op op_rand = {
    PIPE_OP_INIT, .name = "rand", .arity = 0, .shape = random_shape, .reference = rand_reference,
    .lower = rand_lower, .vjp = pipei_vjp_zero, .jvp = pipei_jvp_zero,
};
static const pipe_op op_randn = {
    PIPE_OP_INIT, .name = "randn", .arity = 0, .shape = random_shape, .reference = randn_reference,
    .lower = randn_lower, .vjp = pipei_vjp_zero, .jvp = pipei_jvp_zero,
};
static const pipe_op op_randn_of = {
    PIPE_OP_INIT, .name = "randn_of", .arity = 1, .shape = randn_of_shape, .reference = randn_of_reference,
    .lower = randn_of_lower, .vjp = pipei_vjp_zero, .jvp = pipei_jvp_zero,
};
static const pipe_op op_randn_sum = {
    PIPE_OP_INIT, .name = "randn_sum", .arity = 1, .shape = randn_sum_shape, .reference = randn_sum_reference,
    .lower = randn_sum_lower, .vjp = pipei_vjp_zero, .jvp = pipei_jvp_zero,
};
/* 0 with probability f[0], else f[1]. */
static const pipe_op op_dropout_mask = {
    PIPE_OP_INIT, .name = "dropout_mask", .arity = 0, .shape = random_shape, .reference = mask_reference,
    .lower = mask_lower, .vjp = pipei_vjp_zero, .jvp = pipei_jvp_zero,
};

/* ---- functions ---- */
static pipe_attr random_attr(const pipe_shape *shape, pipe_key key)
{
    pipe_attr attr = {0};
    pipei_attr_set_shape(&attr, shape);
    derive(key, attr.u);
    attr.u[2] = (uint32_t)key.sample;
    attr.u[3] = (uint32_t)(key.sample >> 32);
    return attr;
}

pipe_tensor *pipe_rand(pipe_engine *e, pipe_shape shape, pipe_key key)
{
    const pipe_attr attr = random_attr(&shape, key);
    return pipe_op_apply(e, &op_rand, NULL, 0, &attr);
}

pipe_tensor *pipe_randn(pipe_engine *e, pipe_shape shape, pipe_key key)
{
    const pipe_attr attr = random_attr(&shape, key);
    return pipe_op_apply(e, &op_randn, NULL, 0, &attr);
}

pipe_tensor *pipe_randn_of(pipe_tensor *index, pipe_shape shape, pipe_key key)
{
    key.sample = 0;      /* the index says which */
    const pipe_attr attr = random_attr(&shape, key);
    return pipei_op1(&op_randn_of, index, &attr);
}

pipe_tensor *pipe_randn_sum(pipe_engine *e, pipe_shape shape, const pipe_key *key, const double *weight,
                            size_t n)
{
    PIPE_CLEANUP(pipe_free_ptr) int32_t *words = pipe_alloc_array(n, TERM_WORDS * sizeof *words);
    const pipe_attr attr = random_attr(&shape, n > 0 ? key[0] : (pipe_key){0});

    for (size_t k = 0; k < n; k++) {
        uint32_t term[TERM_WORDS];
        if (key[k].sample != key[0].sample)
            return pipe_poison(e, PIPE_EINVAL,
                               "randn_sum: key %zu counts from sample %" PRIu64 ", the first from %" PRIu64,
                               k, key[k].sample, key[0].sample);
        derive(key[k], term);
        term[2] = as_uint((float)weight[k]);
        memcpy(words + k * TERM_WORDS, term, sizeof term);
    }
    return pipei_op1(&op_randn_sum, pipe_from_i32(e, PIPE_SHAPE((int64_t)(n * TERM_WORDS)), words), &attr);
}

pipe_tensor *pipe_dropout(pipe_tensor *x, double p, pipe_key key)
{
    PIPEI_SOUND(x);
    if (!(p >= 0 && p <= 1))
        return pipe_poison(pipe_tensor_engine(x), PIPE_EINVAL, "dropout: %g is not a probability", p);
    if (p == 0)
        return x;
    pipe_attr attr = random_attr(pipe_tensor_shape(x), key);
    attr.f[0] = (float)p;
    attr.f[1] = p < 1 ? (float)(1 / (1 - p)) : 0.0f;
    return pipe_mul(x, pipe_op_apply(pipe_tensor_engine(x), &op_dropout_mask, NULL, 0, &attr));
}

const pipe_op *const pipei_ops_random[] = {&op_rand, &op_randn, &op_randn_of, &op_randn_sum, &op_dropout_mask, NULL};
