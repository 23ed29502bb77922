/* Philox 4x32-10: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
 * 3", the same words as random.c makes.  The floating-point part has no freedom
 * either: conversions, fma and comparisons are exactly rounded in OpenCL, so
 * that host and devices agree bit for bit.
 *
 * Every work-item makes LANES blocks of four words at once, a lane each: compilers
 * for CPUs do not find this on their own (38 ns of CPU time for a normal without, 3 with, AVX-512). */
#pragma OPENCL FP_CONTRACT OFF

#define LANES 8
typedef struct {
    uint8 x, y, z, w; /* the words of LANES blocks */
} words;
typedef struct {
    float8 x, y, z, w;
} floats;

/* a m, the upper and the lower half */
uint8 product(const uint8 a, const uint m, uint8 *low)
{
    const ulong8 p = convert_ulong8(a) * (ulong8)((ulong)m);
    *low = convert_uint8(p);
    return convert_uint8(p >> (ulong8)(32ul));
}

words philox(const uint block, const ulong sample, uint k0, uint k1)
{
    words c = {(uint8)(block) + (uint8)(0, 1, 2, 3, 4, 5, 6, 7), (uint8)(0u), (uint8)((uint)sample),
               (uint8)((uint)(sample >> 32))};
    for (int round_ = 0; round_ < 10; round_++) {
        uint8 l0, l1;
        const uint8 h0 = product(c.x, 0xD2511F53u, &l0), h1 = product(c.z, 0xCD9E8D57u, &l1);
        c.x = h1 ^ c.y ^ (uint8)(k0);
        c.y = l1;
        c.z = h0 ^ c.w ^ (uint8)(k1);
        c.w = l0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

/* (0, 1), 23 bits and a half: exact */
float8 uniform(const uint8 w)
{
    return (convert_float8(w >> (uint8)(9u)) + 0.5f) * 0x1p-23f;
}

floats uniforms(const words w)
{
    return (floats){uniform(w.x), uniform(w.y), uniform(w.z), uniform(w.w)};
}

/* -2 ln u for u in (0, 1], after Moshier's logf. */
float8 minus_two_log(const float8 u)
{
    const float8 e = convert_float8(as_int8(as_uint8(u) >> (uint8)(23u)) - 127);
    float8 m = as_float8((as_uint8(u) & 0x7fffffu) | 0x3f800000u);
    const int8 above = m > 1.41421356f;
    m = select(m, m * 0.5f, above);
    /* in floats: whole numbers are added as widened booleans, which oclgrind widens to 255 */
    const float8 f = m - 1.0f, z = f * f, n = select(e, e + 1.0f, above);
    float8 p = (float8)(7.0376836292e-2f);
    p = fma(p, f, (float8)(-1.1514610310e-1f));
    p = fma(p, f, (float8)(1.1676998740e-1f));
    p = fma(p, f, (float8)(-1.2420140846e-1f));
    p = fma(p, f, (float8)(1.4249322787e-1f));
    p = fma(p, f, (float8)(-1.6668057665e-1f));
    p = fma(p, f, (float8)(2.0000714765e-1f));
    p = fma(p, f, (float8)(-2.4999993993e-1f));
    p = fma(p, f, (float8)(3.3333331174e-1f));
    p = fma(p * f, z, n * -2.12194440e-4f);
    p = fma(z, (float8)(-0.5f), p);
    p = fma(n, (float8)(0.693359375f), f + p);
    return -2.0f * p;
}

/* Correctly rounded, although sqrt() may be 3 units off: s is right when
 * s (s - ulp) < x <= s (s + ulp). */
float8 root(const float8 x)
{
    float8 s = sqrt(x);
    for (int k = 0; k < 4; k++) {
        const float8 up = as_float8(as_uint8(s) + 1u), down = as_float8(as_uint8(s) - 1u);
        const int8 low = fma(-s, up, x) > 0.0f, high = ~low & (fma(-s, down, x) <= 0.0f);
        if (!any(low | high))
            break;
        s = select(select(s, down, high), up, low);
    }
    return select((float8)(0.0f), s, x > 0.0f);
}

float8 negated_if(const float8 v, const int8 condition)
{
    return as_float8(as_uint8(v) ^ (as_uint8(condition) & 0x80000000u));
}

/* Two normals of two words: Box and Muller 1958. */
void normal_pair(const uint8 a, const uint8 b, float8 *first, float8 *second)
{
    const float8 r = root(minus_two_log(fma(convert_float8(a), (float8)(0x1p-32f), (float8)(0x1p-33f))));
    const uint8 q = (b + 0x20000000u) >> (uint8)(30u); /* the quarter */
    const float8 t = convert_float8(as_int8(b - (q << (uint8)(30u)))) * 1.4629180792671596e-9f; /* 2 pi / 2^32 */
    const float8 z = t * t;
    float8 s = fma(z, (float8)(-1.9515295891e-4f), (float8)(8.3321608736e-3f));
    s = fma(s, z, (float8)(-1.6666654611e-1f));
    s = fma(s * z, t, t);
    float8 c = fma(z, (float8)(2.443315711809948e-5f), (float8)(-1.388731625493765e-3f));
    c = fma(c, z, (float8)(4.166664568298827e-2f));
    c = fma(c * z, z, fma(z, (float8)(-0.5f), (float8)(1.0f)));
    const int8 odd = (q & 1u) != 0u;
    *first = r * negated_if(select(c, s, odd), (q == 1u) | (q == 2u)); /* c, -s, -c, s */
    *second = r * negated_if(select(s, c, odd), q >= 2u);              /* s, c, -s, -c */
}

floats normals(const words w)
{
    floats v;
    normal_pair(w.x, w.y, &v.x, &v.y);
    normal_pair(w.z, w.w, &v.z, &v.w);
    return v;
}

/* n <= 4 LANES elements, block by block */
void store(global float *y, const floats v, const int n)
{
    const float16 a = (float16)(v.x.s0, v.y.s0, v.z.s0, v.w.s0, v.x.s1, v.y.s1, v.z.s1, v.w.s1,
                                v.x.s2, v.y.s2, v.z.s2, v.w.s2, v.x.s3, v.y.s3, v.z.s3, v.w.s3);
    const float16 b = (float16)(v.x.s4, v.y.s4, v.z.s4, v.w.s4, v.x.s5, v.y.s5, v.z.s5, v.w.s5,
                                v.x.s6, v.y.s6, v.z.s6, v.w.s6, v.x.s7, v.y.s7, v.z.s7, v.w.s7);
    if (n >= 4 * LANES) {
        vstore16(a, 0, y);
        vstore16(b, 1, y);
        return;
    }
    float part[4 * LANES];
    vstore16(a, 0, part);
    vstore16(b, 1, part);
    for (int j = 0; j < n; j++)
        y[j] = part[j];
}

/* Element j of row r is word j % 4 of block j / 4 of sample r.  An item: LANES blocks, from `block` on. */
#define BLOCKS(item, block, row)                                                                    \
    const int groups = (inner + 4 * LANES - 1) / (4 * LANES);                                       \
    EACH(item, rows * groups) {                                                                     \
        const int row = item / groups, block = (item - row * groups) * LANES;                       \
        global float *const to = y + (long)row * inner + 4 * block;                                 \
        const int n = inner - 4 * block;
#define BLOCKS_END }
#define COUNTED (((ulong)sample1 << 32 | sample0) + (ulong)row)

kernel void rand_fill(PIPE_BUF(float, y), const int rows, const int inner, const uint key0, const uint key1,
                      const uint sample0, const uint sample1)
{
    PIPE_BIND(float, y);
    BLOCKS(item, block, row)
        store(to, uniforms(philox((uint)block, COUNTED, key0, key1)), n);
    BLOCKS_END
}

kernel void randn_fill(PIPE_BUF(float, y), const int rows, const int inner, const uint key0, const uint key1,
                       const uint sample0, const uint sample1)
{
    PIPE_BIND(float, y);
    BLOCKS(item, block, row)
        store(to, normals(philox((uint)block, COUNTED, key0, key1)), n);
    BLOCKS_END
}

kernel void randn_of_fill(PIPE_BUF(int, index), PIPE_BUF(float, y), const int rows, const int inner,
                          const uint key0, const uint key1)
{
    PIPE_BIND(int, index);
    PIPE_BIND(float, y);
    BLOCKS(item, block, row)
        store(to, normals(philox((uint)block, (ulong)(long)index[row], key0, key1)), n);
    BLOCKS_END
}

kernel void mask_fill(PIPE_BUF(float, y), const int rows, const int inner, const uint key0, const uint key1,
                      const uint sample0, const uint sample1, const float p, const float kept)
{
    const float8 none = (float8)(0.0f), whole = (float8)(kept);
    PIPE_BIND(float, y);
    BLOCKS(item, block, row)
        const floats u = uniforms(philox((uint)block, COUNTED, key0, key1));
        store(to, (floats){select(whole, none, u.x < p), select(whole, none, u.y < p),
                           select(whole, none, u.z < p), select(whole, none, u.w < p)}, n);
    BLOCKS_END
}

/* terms: n_terms times (key, key, bits of the weight) */
kernel void randn_sum_fill(PIPE_BUF(int, terms), PIPE_BUF(float, y), const int rows, const int inner,
                           const int n_terms, const uint sample0, const uint sample1)
{
    PIPE_BIND(int, terms);
    PIPE_BIND(float, y);
    BLOCKS(item, block, row)
        floats sum = {(float8)(0.0f), (float8)(0.0f), (float8)(0.0f), (float8)(0.0f)};
        for (int k = 0; k < n_terms; k++) {
            const float8 weight = (float8)(as_float(terms[3 * k + 2]));
            if (weight.s0 != 0.0f) {
                const floats z = normals(philox((uint)block, COUNTED, as_uint(terms[3 * k]),
                                                as_uint(terms[3 * k + 1])));
                sum.x = fma(weight, z.x, sum.x);
                sum.y = fma(weight, z.y, sum.y);
                sum.z = fma(weight, z.z, sum.z);
                sum.w = fma(weight, z.w, sum.w);
            }
        }
        store(to, sum, n);
    BLOCKS_END
}
