/* Sorting rows: an element becomes a 64-bit word, its value in the upper half as
 * an unsigned number of the same order, its position in the lower.  All words
 * differ, so any sort is stable. */
ulong word_of(const int bits, const int position, const int is_int, const int descending)
{
    uint u = (uint)bits;
    if (is_int) {
        u ^= 0x80000000u;
        u = descending ? ~u : u;
    } else if ((u & 0x7fffffffu) > 0x7f800000u) {
        u = 0xffffffffu;                                        /* NaN: last either way */
    } else {
        u = (u & 0x7fffffffu) == 0u ? 0u : u;                   /* -0 = 0 */
        u = (u >> 31) ? ~u : u | 0x80000000u;
        u = descending ? ~u : u;
    }
    return (ulong)u << 32 | (uint)position;
}

/* Merge sort, bottom up, from runs of 8; a and b hold a row of words each. */
kernel void argsort_cpu(PIPE_BUF(int, x), PIPE_BUF(uint, space), PIPE_BUF(int, y), const int rows,
                        const int n, const int is_int, const int descending)
{
    PIPE_BIND(int, x);
    PIPE_BIND(uint, space);
    global ulong *const work = (global ulong *)space;
    PIPE_BIND(int, y);
    EACH(row, rows) {
        global const int *const from = x + (long)row * n;
        global ulong *a = work + (long)row * 2 * n, *b = a + n;
        for (int i = 0; i < n; i++)
            a[i] = word_of(from[i], i, is_int, descending);
        for (int first = 0; first < n; first += 8)
            for (int i = first + 1; i < min(n, first + 8); i++) {
                const ulong w = a[i];
                int j = i;
                for (; j > first && a[j - 1] > w; j--)
                    a[j] = a[j - 1];
                a[j] = w;
            }
        for (long width = 8; width < n; width *= 2) {
            for (long first = 0; first < n; first += 2 * width) {
                const long middle = min(first + width, (long)n), end = min(first + 2 * width, (long)n);
                long i = first, j = middle;
                for (long k = first; k < end; k++)
                    b[k] = i < middle && (j >= end || a[i] < a[j]) ? a[i++] : a[j++];
            }
            global ulong *const swap = a;
            a = b;
            b = swap;
        }
        for (int i = 0; i < n; i++)
            y[(long)row * n + i] = (int)(uint)a[i];
    }
}

/* ---- GPU: bitonic, on rows padded to `padded`, a power of two ---- */
kernel void sort_words(PIPE_BUF(int, x), PIPE_BUF(uint, space), const int rows, const int n, const int padded,
                       const int is_int, const int descending)
{
    PIPE_BIND(int, x);
    PIPE_BIND(uint, space);
    global ulong *const work = (global ulong *)space;
    EACH(item, rows * padded) {
        const int row = item / padded, i = item - row * padded;
        work[item] = i < n ? word_of(x[(long)row * n + i], i, is_int, descending) : ULONG_MAX;
    }
}

/* One step: words `distance` apart are exchanged towards the order of their run. */
kernel void sort_step(PIPE_BUF(uint, space), const int rows, const int padded, const int run,
                      const int distance)
{
    PIPE_BIND(uint, space);
    global ulong *const work = (global ulong *)space;
    EACH(item, rows * (padded / 2)) {
        const int row = item / (padded / 2), k = item - row * (padded / 2);
        const int i = (k / distance) * 2 * distance + k % distance;
        global ulong *const p = work + (long)row * padded + i, *const q = p + distance;
        const ulong a = *p, b = *q;
        if ((a > b) == ((i & run) == 0)) {
            *p = b;
            *q = a;
        }
    }
}

/* All steps up to runs of 512 words, or all steps of distance below 512 of a
 * longer run, in local memory: one work-group of 256 per 512 words. */
kernel void sort_local(PIPE_BUF(uint, space), const int padded, const int first_run, const int last_run)
{
    PIPE_BIND(uint, space);
    global ulong *const work = (global ulong *)space;
    local ulong w[512];
    const int me = (int)get_local_id(0);
    const int size = min(padded, 512);
    const int groups = padded / size;
    const int row = (int)get_group_id(0) / groups;
    const int base = ((int)get_group_id(0) - row * groups) * size;
    global ulong *const p = work + (long)row * padded + base;
    for (int i = me; i < size; i += 256)
        w[i] = p[i];
    for (int run = first_run; run <= last_run; run *= 2)
        for (int distance = min(run, size) / 2; distance > 0; distance /= 2) {
            barrier(CLK_LOCAL_MEM_FENCE);
            if (me < size / 2) {
                const int i = (me / distance) * 2 * distance + me % distance;
                const ulong a = w[i], b = w[i + distance];
                if ((a > b) == (((base + i) & run) == 0)) {
                    w[i] = b;
                    w[i + distance] = a;
                }
            }
        }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = me; i < size; i += 256)
        p[i] = w[i];
}

kernel void sort_positions(PIPE_BUF(uint, space), PIPE_BUF(int, y), const int rows, const int n,
                           const int padded)
{
    PIPE_BIND(uint, space);
    global ulong *const work = (global ulong *)space;
    PIPE_BIND(int, y);
    EACH(item, rows * n) {
        const int row = item / n;
        y[item] = (int)(uint)work[(long)row * padded + (item - row * n)];
    }
}

/* ---- argmax: the first of equals; NaN is above everything ---- */
kernel void argmax_cpu(PIPE_BUF(int, x), PIPE_BUF(int, y), const int rows, const int n, const int is_int)
{
    PIPE_BIND(int, x);
    PIPE_BIND(int, y);
    EACH(row, rows) {
        int best = 0;
        if (is_int) {
            global const int *const from = x + (long)row * n;
            for (int i = 1; i < n; i++)
                best = from[i] > from[best] ? i : best;
        } else {
            global const float *const from = (global const float *)x + (long)row * n;
            float top = from[0];
            for (int i = 1; i < n && top == top; i++)
                if (from[i] > top || from[i] != from[i]) {
                    top = from[i];
                    best = i;
                }
        }
        y[row] = best;
    }
}

/* One work-group of 64 per row: the smallest word is the first maximum. */
kernel void argmax_gpu(PIPE_BUF(int, x), PIPE_BUF(int, y), const int rows, const int n, const int is_int)
{
    PIPE_BIND(int, x);
    PIPE_BIND(int, y);
    local ulong best[64];
    const int row = (int)get_group_id(0), me = (int)get_local_id(0);
    ulong mine = ULONG_MAX;
    for (int i = me; i < n; i += 64) {
        const int bits = x[(long)row * n + i];
        const bool nan = !is_int && (bits & 0x7fffffff) > 0x7f800000;
        mine = min(mine, nan ? (ulong)(uint)i : word_of(bits, i, is_int, 1));
    }
    best[me] = mine;
    for (int half_ = 32; half_ > 0; half_ >>= 1) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (me < half_)
            best[me] = min(best[me], best[me + half_]);
    }
    if (me == 0)
        y[row] = (int)(uint)best[0];
}
