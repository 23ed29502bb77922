/* Over rows of n: softmax, log_softmax (both [rows, n]) and logsumexp ([rows]).
 * The maximum is clamped to finite values, so that rows of -inf give log 0 =
 * -inf and not NaN. */
float high(global const float *x, const int n)
{
    float top = -INFINITY;
    int i = 0;
    if (n >= 16) {
        float16 v = vload16(0, x);
        for (i = 16; i + 16 <= n; i += 16)
            v = fmax(v, vload16(0, x + i));
        const float8 a = fmax(v.lo, v.hi);
        const float4 b = fmax(a.lo, a.hi);
        const float2 c = fmax(b.lo, b.hi);
        top = fmax(c.x, c.y);
    }
    for (; i < n; i++)
        top = fmax(top, x[i]);
    return clamp(top, -FLT_MAX, FLT_MAX);
}

/* sum of exp(x - top); y, unless it is 0, takes the terms */
float sum_exp(global const float *x, global float *y, const int n, const float top, const int keep)
{
    float16 v = (float16)(0.0f);
    int i = 0;
    while (i + 16 <= n) {
        float16 a = (float16)(0.0f);
        for (int k = 0; k < 64 && i + 16 <= n; k++, i += 16) {
            const float16 t = exp(vload16(0, x + i) - (float16)(top));
            if (keep)
                vstore16(t, 0, y + i);
            a += t;
        }
        v += a;
    }
    const float8 a = v.lo + v.hi;
    const float4 b = a.lo + a.hi;
    float sum = (b.x + b.y) + (b.z + b.w);
    for (; i < n; i++) {
        const float t = exp(x[i] - top);
        if (keep)
            y[i] = t;
        sum += t;
    }
    return sum;
}

kernel void softmax_cpu(PIPE_BUF(float, x), PIPE_BUF(float, y), const int rows, const int n)
{
    PIPE_BIND(float, x);
    PIPE_BIND(float, y);
    EACH(row, rows) {
        global const float *const from = x + (long)row * n;
        global float *const to = y + (long)row * n;
        const float scale = 1.0f / sum_exp(from, to, n, high(from, n), 1);
        int i = 0;
        for (; i + 16 <= n; i += 16)
            vstore16(vload16(0, to + i) * scale, 0, to + i);
        for (; i < n; i++)
            to[i] *= scale;
    }
}

kernel void log_softmax_cpu(PIPE_BUF(float, x), PIPE_BUF(float, y), const int rows, const int n)
{
    PIPE_BIND(float, x);
    PIPE_BIND(float, y);
    EACH(row, rows) {
        global const float *const from = x + (long)row * n;
        global float *const to = y + (long)row * n;
        const float top = high(from, n);
        const float log_sum = log(sum_exp(from, to, n, top, 0));
        int i = 0;
        for (; i + 16 <= n; i += 16)
            vstore16((vload16(0, from + i) - top) - log_sum, 0, to + i);
        for (; i < n; i++)
            to[i] = (from[i] - top) - log_sum;
    }
}

kernel void logsumexp_cpu(PIPE_BUF(float, x), PIPE_BUF(float, y), const int rows, const int n)
{
    PIPE_BIND(float, x);
    PIPE_BIND(float, y);
    EACH(row, rows) {
        global const float *const from = x + (long)row * n;
        const float top = high(from, n);
        y[row] = top + log(sum_exp(from, y, n, top, 0));
    }
}

/* ---- GPU: one work-group of 64 per row ---- */
#define GROUP 64
#define TREE(combine)                                              \
    for (int half_ = GROUP / 2; half_ > 0; half_ >>= 1) {          \
        barrier(CLK_LOCAL_MEM_FENCE);                              \
        if (me < half_)                                            \
            part[me] = combine(part[me], part[me + half_]);        \
    }                                                              \
    barrier(CLK_LOCAL_MEM_FENCE);
#define ADD(a, b) ((a) + (b))

/* What all three need of a row: its clamped maximum, and the sum. */
#define ROW_SUM                                                            \
    local float part[GROUP];                                               \
    const int row = (int)get_group_id(0), me = (int)get_local_id(0);       \
    global const float *const from = x + (long)row * n;                    \
    float most = -INFINITY;                                                \
    for (int i = me; i < n; i += GROUP)                                    \
        most = fmax(most, from[i]);                                        \
    part[me] = most;                                                       \
    TREE(fmax)                                                             \
    const float top = clamp(part[0], -FLT_MAX, FLT_MAX);                   \
    barrier(CLK_LOCAL_MEM_FENCE);                                          \
    float mine = 0.0f;                                                     \
    for (int i = me; i < n; i += GROUP)                                    \
        mine += exp(from[i] - top);                                        \
    part[me] = mine;                                                       \
    TREE(ADD)                                                              \
    const float sum = part[0];

kernel void softmax_gpu(PIPE_BUF(float, x), PIPE_BUF(float, y), const int rows, const int n)
{
    PIPE_BIND(float, x);
    PIPE_BIND(float, y);
    ROW_SUM
    for (int i = me; i < n; i += GROUP)
        y[(long)row * n + i] = exp(from[i] - top) / sum;
}

kernel void log_softmax_gpu(PIPE_BUF(float, x), PIPE_BUF(float, y), const int rows, const int n)
{
    PIPE_BIND(float, x);
    PIPE_BIND(float, y);
    ROW_SUM
    for (int i = me; i < n; i += GROUP)
        y[(long)row * n + i] = (from[i] - top) - log(sum);
}

kernel void logsumexp_gpu(PIPE_BUF(float, x), PIPE_BUF(float, y), const int rows, const int n)
{
    PIPE_BIND(float, x);
    PIPE_BIND(float, y);
    ROW_SUM
    if (me == 0)
        y[row] = top + log(sum);
}
