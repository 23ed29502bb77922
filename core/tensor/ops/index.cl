/* Gathering and scattering.  An index k < 0 means size + k; out of range is
 * clamped, so that a bad index cannot read outside of a buffer. */
int row_of(const int k, const int size)
{
    return clamp(k < 0 ? k + size : k, 0, size - 1);
}

/* y[i, :] = x[index[i], :]: items are (i, block of `wide` elements). */
kernel void gather(PIPE_BUF(int, x), PIPE_BUF(int, index), PIPE_BUF(int, y), const int n, const int rows,
                   const int inner, const int wide)
{
    PIPE_BIND(int, x);
    PIPE_BIND(int, index);
    PIPE_BIND(int, y);
    const int blocks = (inner + wide - 1) / wide;
    EACH(item, n * blocks) {
        const int i = item / blocks, first = (item - i * blocks) * wide;
        const int end = min(inner, first + wide);
        global const int *const from = x + (long)row_of(index[i], rows) * inner;
        global int *const to = y + (long)i * inner;
        int j = first;
        for (; j + 16 <= end; j += 16)
            vstore16(vload16(0, from + j), 0, to + j);
        for (; j < end; j++)
            to[j] = from[j];
    }
}

/* y[r, :] = sum of x[i, :] over index[i] = r, in the order of i, so that the sum
 * is the same every time.  An item owns a range of rows (CPU) and reads all
 * indices; it has `share` rows. */
kernel void scatter_cpu(PIPE_BUF(float, x), PIPE_BUF(int, index), PIPE_BUF(float, y), const int n,
                        const int rows, const int inner, const int share)
{
    PIPE_BIND(float, x);
    PIPE_BIND(int, index);
    PIPE_BIND(float, y);
    EACH(item, (rows + share - 1) / share) {
        const int first = item * share, end = min(rows, first + share);
        for (long k = (long)first * inner; k < (long)end * inner; k++)
            y[k] = 0.0f;
        for (int i = 0; i < n; i++) {
            const int r = row_of(index[i], rows);
            if (r < first || r >= end)
                continue;
            global const float *const from = x + (long)i * inner;
            global float *const to = y + (long)r * inner;
            int j = 0;
            for (; j + 16 <= inner; j += 16)
                vstore16(vload16(0, to + j) + vload16(0, from + j), 0, to + j);
            for (; j < inner; j++)
                to[j] += from[j];
        }
    }
}

/* One work-group of 64 per (row, 64 columns); indices pass through local memory. */
kernel void scatter_gpu(PIPE_BUF(float, x), PIPE_BUF(int, index), PIPE_BUF(float, y), const int n,
                        const int rows, const int inner)
{
    PIPE_BIND(float, x);
    PIPE_BIND(int, index);
    PIPE_BIND(float, y);
    local int seen[64];
    const int blocks = (inner + 63) / 64, me = (int)get_local_id(0);
    const int r = (int)get_group_id(0) / blocks;
    const int j = ((int)get_group_id(0) - r * blocks) * 64 + me;
    float sum = 0.0f;
    for (int first = 0; first < n; first += 64) {
        barrier(CLK_LOCAL_MEM_FENCE);
        seen[me] = first + me < n ? row_of(index[first + me], rows) : -1;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int k = 0; k < 64; k++)
            if (seen[k] == r && j < inner)
                sum += x[(long)(first + k) * inner + j];
    }
    if (j < inner)
        y[(long)r * inner + j] = sum;
}

/* y[o, j] = x[o, index[o, j]] */
kernel void take_along(PIPE_BUF(int, x), PIPE_BUF(int, index), PIPE_BUF(int, y), const int outer,
                       const int size, const int k)
{
    PIPE_BIND(int, x);
    PIPE_BIND(int, index);
    PIPE_BIND(int, y);
    EACH(item, outer * k)
        y[item] = x[(long)(item / k) * size + row_of(index[item], size)];
}

/* y[o, :] = sum over j of x[o, j] at index[o, j], in the order of j. */
kernel void put_along_cpu(PIPE_BUF(float, x), PIPE_BUF(int, index), PIPE_BUF(float, y), const int outer,
                          const int size, const int k)
{
    PIPE_BIND(float, x);
    PIPE_BIND(int, index);
    PIPE_BIND(float, y);
    EACH(o, outer) {
        global float *const to = y + (long)o * size;
        for (int i = 0; i < size; i++)
            to[i] = 0.0f;
        for (int j = 0; j < k; j++)
            to[row_of(index[(long)o * k + j], size)] += x[(long)o * k + j];
    }
}

/* One work-group of 64 per (o, 64 elements of the row). */
kernel void put_along_gpu(PIPE_BUF(float, x), PIPE_BUF(int, index), PIPE_BUF(float, y), const int outer,
                          const int size, const int k)
{
    PIPE_BIND(float, x);
    PIPE_BIND(int, index);
    PIPE_BIND(float, y);
    local int seen[64];
    local float value[64];
    const int blocks = (size + 63) / 64, me = (int)get_local_id(0);
    const int o = (int)get_group_id(0) / blocks;
    const int i = ((int)get_group_id(0) - o * blocks) * 64 + me;
    float sum = 0.0f;
    for (int first = 0; first < k; first += 64) {
        barrier(CLK_LOCAL_MEM_FENCE);
        const bool there = first + me < k;
        seen[me] = there ? row_of(index[(long)o * k + first + me], size) : -1;
        value[me] = there ? x[(long)o * k + first + me] : 0.0f;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int j = 0; j < 64; j++)
            if (seen[j] == i)
                sum += value[j];
    }
    if (i < size)
        y[(long)o * size + i] = sum;
}

kernel void one_hot(PIPE_BUF(int, index), PIPE_BUF(float, y), const int n, const int classes)
{
    PIPE_BIND(int, index);
    PIPE_BIND(float, y);
    EACH(item, n * classes) {
        const int i = item / classes;
        y[item] = index[i] == item - i * classes ? 1.0f : 0.0f;
    }
}

kernel void arange(PIPE_BUF(float, y), const int n, const float start, const float step_)
{
    PIPE_BIND(float, y);
    EACH(i, n)
        y[i] = fma((float)i, step_, start);
}

kernel void arange_i32(PIPE_BUF(int, y), const int n, const uint start)
{
    PIPE_BIND(int, y);
    EACH(i, n)
        y[i] = (int)(start + (uint)i);
}
