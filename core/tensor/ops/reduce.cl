/* Reductions of x [outer, n, inner] over n, cut into `splits` parts: y [outer,
 * splits, inner].  A second launch reduces the parts.
 *
 * In front of this source stand INIT (the neutral element) and OP(a, b), which
 * works on float and float16 alike.  The order of operations depends on the
 * shape and the device only.  Sums go through three levels of accumulators, so
 * that none takes more than a few hundred additions: a sum of 10^7 elements
 * keeps a relative error near 1e-6, where one accumulator would lose 1e-3. */
#define LEVEL 32

float fold(float16 v)
{
    const float8 a = OP(v.lo, v.hi);
    const float4 b = OP(a.lo, a.hi);
    const float2 c = OP(b.lo, b.hi);
    return OP(c.x, c.y);
}

/* n consecutive elements */
float run(global const float *x, const int n)
{
    float16 total = (float16)(INIT);
    int i = 0;
    while (i + 64 <= n) {
        float16 middle = (float16)(INIT);
        for (int m = 0; m < LEVEL && i + 64 <= n; m++) {
            float16 a = (float16)(INIT), b = a, c = a, d = a;
            for (int k = 0; k < LEVEL && i + 64 <= n; k++, i += 64) {
                a = OP(a, vload16(0, x + i));
                b = OP(b, vload16(1, x + i));
                c = OP(c, vload16(2, x + i));
                d = OP(d, vload16(3, x + i));
            }
            const float16 ab = OP(a, b), cd = OP(c, d);
            const float16 abcd = OP(ab, cd);
            middle = OP(middle, abcd);
        }
        total = OP(total, middle);
    }
    for (; i + 16 <= n; i += 16)
        total = OP(total, vload16(0, x + i));
    float result = fold(total);
    for (; i < n; i++)
        result = OP(result, x[i]);
    return result;
}

kernel void rows_cpu(PIPE_BUF(float, x), PIPE_BUF(float, y), const int outer, const int n, const int splits)
{
    PIPE_BIND(float, x);
    PIPE_BIND(float, y);
    const int part = (n + splits - 1) / splits;
    EACH(item, outer * splits) {
        const int o = item / splits, s = item - o * splits;
        const int first = min(s * part, n);
        y[item] = run(x + (long)o * n + first, min(part, n - first));
    }
}

/* 64, 16 or fewer than 16 columns of n rows that are `stride` apart. */
void columns64(global const float *x, global float *y, const int n, const int stride)
{
    float16 a2 = (float16)(INIT), b2 = a2, c2 = a2, d2 = a2;
    for (int r = 0; r < n;) {
        float16 a1 = (float16)(INIT), b1 = a1, c1 = a1, d1 = a1;
        for (int m = 0; m < LEVEL && r < n; m++) {
            float16 a = (float16)(INIT), b = a, c = a, d = a;
            for (const int end = min(n, r + LEVEL); r < end; r++) {
                global const float *const row = x + (long)r * stride;
                a = OP(a, vload16(0, row));
                b = OP(b, vload16(1, row));
                c = OP(c, vload16(2, row));
                d = OP(d, vload16(3, row));
            }
            a1 = OP(a1, a);
            b1 = OP(b1, b);
            c1 = OP(c1, c);
            d1 = OP(d1, d);
        }
        a2 = OP(a2, a1);
        b2 = OP(b2, b1);
        c2 = OP(c2, c1);
        d2 = OP(d2, d1);
    }
    vstore16(a2, 0, y);
    vstore16(b2, 1, y);
    vstore16(c2, 2, y);
    vstore16(d2, 3, y);
}

void columns16(global const float *x, global float *y, const int n, const int stride)
{
    float16 a2 = (float16)(INIT);
    for (int r = 0; r < n;) {
        float16 a1 = (float16)(INIT);
        for (int m = 0; m < LEVEL && r < n; m++) {
            float16 a = (float16)(INIT);
            for (const int end = min(n, r + LEVEL); r < end; r++)
                a = OP(a, vload16(0, x + (long)r * stride));
            a1 = OP(a1, a);
        }
        a2 = OP(a2, a1);
    }
    vstore16(a2, 0, y);
}

void columns(global const float *x, global float *y, const int n, const int stride, const int width)
{
    float a2[16];
    for (int k = 0; k < width; k++)
        a2[k] = INIT;
    for (int r = 0; r < n;) {
        float a1[16];
        for (int k = 0; k < width; k++)
            a1[k] = INIT;
        for (int m = 0; m < LEVEL && r < n; m++) {
            float a[16];
            for (int k = 0; k < width; k++)
                a[k] = INIT;
            for (const int end = min(n, r + LEVEL); r < end; r++)
                for (int k = 0; k < width; k++)
                    a[k] = OP(a[k], x[(long)r * stride + k]);
            for (int k = 0; k < width; k++)
                a1[k] = OP(a1[k], a[k]);
        }
        for (int k = 0; k < width; k++)
            a2[k] = OP(a2[k], a1[k]);
    }
    for (int k = 0; k < width; k++)
        y[k] = a2[k];
}

/* An item is a part of the rows of one `outer` by up to `wide` columns. */
kernel void columns_cpu(PIPE_BUF(float, x), PIPE_BUF(float, y), const int outer, const int n, const int inner,
                        const int splits, const int wide)
{
    PIPE_BIND(float, x);
    PIPE_BIND(float, y);
    const int part = (n + splits - 1) / splits, blocks = (inner + wide - 1) / wide;
    EACH(item, outer * splits * blocks) {
        const int os = item / blocks;
        const int o = os / splits, s = os - o * splits;
        const int first = min(s * part, n), rows = min(part, n - first);
        int c = (item - os * blocks) * wide;
        const int end = min(inner, c + wide);
        global const float *const from = x + ((long)o * n + first) * inner;
        global float *const to = y + (long)os * inner;
        for (; c + 64 <= end; c += 64)
            columns64(from + c, to + c, rows, inner);
        for (; c + 16 <= end; c += 16)
            columns16(from + c, to + c, rows, inner);
        if (c < end)
            columns(from + c, to + c, rows, inner, end - c);
    }
}

/* One work-group of 128 per part. */
kernel void rows_gpu(PIPE_BUF(float, x), PIPE_BUF(float, y), const int outer, const int n, const int splits)
{
    PIPE_BIND(float, x);
    PIPE_BIND(float, y);
    local float partial[128];
    const int me = (int)get_local_id(0), part = (n + splits - 1) / splits;
    const int item = (int)get_group_id(0), o = item / splits, s = item - o * splits;
    const int first = min(s * part, n), end = min(n, first + part);
    global const float *const row = x + (long)o * n;

    float total = INIT;
    for (int i = first + me; i < end;) {
        float a = INIT;
        for (int k = 0; k < LEVEL && i < end; k++, i += 128)
            a = OP(a, row[i]);
        total = OP(total, a);
    }
    partial[me] = total;
    for (int half_ = 64; half_ > 0; half_ >>= 1) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (me < half_)
            partial[me] = OP(partial[me], partial[me + half_]);
    }
    if (me == 0)
        y[item] = partial[0];
}

kernel void columns_gpu(PIPE_BUF(float, x), PIPE_BUF(float, y), const int outer, const int n, const int inner,
                        const int splits)
{
    PIPE_BIND(float, x);
    PIPE_BIND(float, y);
    const int part = (n + splits - 1) / splits;
    EACH(item, outer * splits * inner) {
        const int os = item / inner, c = item - os * inner;
        const int o = os / splits, s = os - o * splits;
        const int first = min(s * part, n), end = min(n, first + part);
        global const float *const from = x + (long)o * n * inner + c;
        float total = INIT;
        for (int r = first; r < end;) {
            float a = INIT;
            for (const int stop = min(end, r + LEVEL); r < stop; r++)
                a = OP(a, from[(long)r * inner]);
            total = OP(total, a);
        }
        y[item] = total;
    }
}
