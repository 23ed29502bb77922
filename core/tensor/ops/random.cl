/* Philox 4x32-10: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
 * 3", the same words as random.c makes.  The floating-point part has no freedom
 * either: conversions, fma and comparisons are exactly rounded in OpenCL, so
 * that host and devices agree bit for bit. */
#pragma OPENCL FP_CONTRACT OFF

uint4 philox(uint4 c, uint2 k)
{
    for (int round_ = 0; round_ < 10; round_++) {
        const uint h0 = mul_hi(0xD2511F53u, c.x), l0 = 0xD2511F53u * c.x;
        const uint h1 = mul_hi(0xCD9E8D57u, c.z), l1 = 0xCD9E8D57u * c.z;
        c = (uint4)(h1 ^ c.y ^ k.x, l1, h0 ^ c.w ^ k.y, l0);
        k += (uint2)(0x9E3779B9u, 0xBB67AE85u);
    }
    return c;
}

/* (0, 1), 23 bits and a half: exact */
float uniform(const uint w)
{
    return ((float)(w >> 9) + 0.5f) * 0x1p-23f;
}

/* -2 ln u for u in (0, 1], after Moshier's logf. */
float minus_two_log(const float u)
{
    int e = (int)(as_uint(u) >> 23) - 127;
    float m = as_float((as_uint(u) & 0x7fffffu) | 0x3f800000u);
    if (m > 1.41421356f) {
        m *= 0.5f;
        e++;
    }
    const float f = m - 1.0f, z = f * f, n = (float)e;
    float p = 7.0376836292e-2f;
    p = fma(p, f, -1.1514610310e-1f);
    p = fma(p, f, 1.1676998740e-1f);
    p = fma(p, f, -1.2420140846e-1f);
    p = fma(p, f, 1.4249322787e-1f);
    p = fma(p, f, -1.6668057665e-1f);
    p = fma(p, f, 2.0000714765e-1f);
    p = fma(p, f, -2.4999993993e-1f);
    p = fma(p, f, 3.3333331174e-1f);
    p = fma(p * f, z, n * -2.12194440e-4f);
    p = fma(z, -0.5f, p);
    p = fma(n, 0.693359375f, f + p);
    return -2.0f * p;
}

/* Correctly rounded, although sqrt() may be 3 units off: s is right when
 * s (s - ulp) < x <= s (s + ulp). */
float root(const float x)
{
    if (!(x > 0.0f))
        return 0.0f;
    float s = sqrt(x);
    for (int k = 0; k < 4; k++) {
        const float up = as_float(as_uint(s) + 1u), down = as_float(as_uint(s) - 1u);
        if (fma(-s, up, x) > 0.0f)
            s = up;
        else if (fma(-s, down, x) <= 0.0f)
            s = down;
        else
            break;
    }
    return s;
}

/* Two normals of two words: Box and Muller 1958. */
float2 normals(const uint a, const uint b)
{
    const float r = root(minus_two_log(fma((float)a, 0x1p-32f, 0x1p-33f)));
    const uint q = (b + 0x20000000u) >> 30;
    const float t = (float)(int)(b - (q << 30)) * 1.4629180792671596e-9f;    /* 2 pi / 2^32 */
    const float z = t * t;
    float s = fma(z, -1.9515295891e-4f, 8.3321608736e-3f);
    s = fma(s, z, -1.6666654611e-1f);
    s = fma(s * z, t, t);
    float c = fma(z, 2.443315711809948e-5f, -1.388731625493765e-3f);
    c = fma(c, z, 4.166664568298827e-2f);
    c = fma(c * z, z, fma(z, -0.5f, 1.0f));
    const float x = q == 0 ? c : q == 1 ? -s : q == 2 ? -c : s;
    const float y = q == 0 ? s : q == 1 ? c : q == 2 ? -s : -c;
    return (float2)(r * x, r * y);
}

void store(global float *y, const float4 v, const int n)
{
    if (n >= 4) {
        vstore4(v, 0, y);
        return;
    }
    y[0] = v.x;
    if (n > 1)
        y[1] = v.y;
    if (n > 2)
        y[2] = v.z;
}

/* Element j of row r is word j % 4 of block j / 4 of sample r. */
#define BLOCKS(item, block, row, words, sample_of_row)                                              \
    const int blocks = (inner + 3) / 4;                                                             \
    EACH(item, rows * blocks) {                                                                     \
        const int row = item / blocks, block = item - row * blocks;                                 \
        const ulong sample = (sample_of_row);                                                       \
        const uint4 words = philox((uint4)((uint)block, 0u, (uint)sample, (uint)(sample >> 32)),    \
                                   (uint2)(key0, key1));                                            \
        global float *const to = y + (long)row * inner + 4 * block;                                 \
        const int n = inner - 4 * block;
#define BLOCKS_END }
#define COUNTED (((ulong)sample1 << 32 | sample0) + (ulong)row)

kernel void rand_fill(PIPE_BUF(float, y), const int rows, const int inner, const uint key0, const uint key1,
                      const uint sample0, const uint sample1)
{
    PIPE_BIND(float, y);
    BLOCKS(item, block, row, w, COUNTED)
        store(to, (float4)(uniform(w.x), uniform(w.y), uniform(w.z), uniform(w.w)), n);
    BLOCKS_END
}

kernel void randn_fill(PIPE_BUF(float, y), const int rows, const int inner, const uint key0, const uint key1,
                       const uint sample0, const uint sample1)
{
    PIPE_BIND(float, y);
    BLOCKS(item, block, row, w, COUNTED)
        store(to, (float4)(normals(w.x, w.y), normals(w.z, w.w)), n);
    BLOCKS_END
}

kernel void randn_of_fill(PIPE_BUF(int, index), PIPE_BUF(float, y), const int rows, const int inner,
                          const uint key0, const uint key1)
{
    PIPE_BIND(int, index);
    PIPE_BIND(float, y);
    BLOCKS(item, block, row, w, (ulong)(long)index[row])
        store(to, (float4)(normals(w.x, w.y), normals(w.z, w.w)), n);
    BLOCKS_END
}

kernel void mask_fill(PIPE_BUF(float, y), const int rows, const int inner, const uint key0, const uint key1,
                      const uint sample0, const uint sample1, const float p, const float kept)
{
    PIPE_BIND(float, y);
    BLOCKS(item, block, row, w, COUNTED)
        store(to, (float4)(uniform(w.x) < p ? 0.0f : kept, uniform(w.y) < p ? 0.0f : kept,
                           uniform(w.z) < p ? 0.0f : kept, uniform(w.w) < p ? 0.0f : kept), n);
    BLOCKS_END
}

/* terms: n_terms times (key, key, bits of the weight) */
kernel void randn_sum_fill(PIPE_BUF(int, terms), PIPE_BUF(float, y), const int rows, const int inner,
                           const int n_terms, const uint sample0, const uint sample1)
{
    PIPE_BIND(int, terms);
    PIPE_BIND(float, y);
    const int blocks = (inner + 3) / 4;
    EACH(item, rows * blocks) {
        const int row = item / blocks, block = item - row * blocks;
        const ulong sample = COUNTED;
        const uint4 counter = (uint4)((uint)block, 0u, (uint)sample, (uint)(sample >> 32));
        float4 sum = (float4)(0.0f);
        for (int k = 0; k < n_terms; k++) {
            const float weight = as_float(terms[3 * k + 2]);
            if (weight != 0.0f) {
                const uint4 w = philox(counter, (uint2)(as_uint(terms[3 * k]), as_uint(terms[3 * k + 1])));
                sum = fma((float4)(weight), (float4)(normals(w.x, w.y), normals(w.z, w.w)), sum);
            }
        }
        store(y + (long)row * inner + 4 * block, sum, inner - 4 * block);
    }
}
