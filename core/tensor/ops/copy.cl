/* Strided copies of 4-byte elements, whatever they are.  n0 ... n6 are the outer
 * axes' sizes (slowest first, 1 where there is none), x0 ..., y0 ... strides. */
#define OUTER_ARGS                                                                          \
    const int n0, const int n1, const int n2, const int n3, const int n4, const int n5, const int n6,  \
    const int x0, const int x1, const int x2, const int x3, const int x4, const int x5, const int x6,  \
    const int y0, const int y1, const int y2, const int y3, const int y4, const int y5, const int y6
#define OUTER_AXIS(k)                       \
    if (n##k > 1) {                         \
        const int left = rest / n##k;       \
        const int at = rest - left * n##k;  \
        from += (long)at * x##k;            \
        to += (long)at * y##k;              \
        rest = left;                        \
    }
#define OUTER_AXES                                                                      \
    OUTER_AXIS(6) OUTER_AXIS(5) OUTER_AXIS(4) OUTER_AXIS(3) OUTER_AXIS(2) OUTER_AXIS(1) OUTER_AXIS(0)

kernel void copy_rows(PIPE_BUF(int, x), PIPE_BUF(int, y), const int x_start, const int y_start, const int run,
                      const int block, const int run_x, const int run_y, const int items, OUTER_ARGS)
{
    PIPE_BIND(int, x);
    PIPE_BIND(int, y);
    const int blocks = (run + block - 1) / block;
    EACH(item, items) {
        int rest = item / blocks;
        const int first = (item - rest * blocks) * block;
        const int n = min(block, run - first);
        long from = x_start + (long)first * run_x;
        long to = y_start + (long)first * run_y;
        OUTER_AXES
        if (run_x == 1 && run_y == 1) {
            int i = 0;
            for (; i + 16 <= n; i += 16)
                vstore16(vload16(0, x + from + i), 0, y + to + i);
            for (; i < n; i++)
                y[to + i] = x[from + i];
        } else {
            for (int i = 0; i < n; i++)
                y[to + (long)i * run_y] = x[from + (long)i * run_x];
        }
    }
}

/* Axis a (size na) is contiguous in x and has stride a_y in y; axis b (nb) is
 * contiguous in y and has stride b_x in x. */
kernel void copy_tiles(PIPE_BUF(int, x), PIPE_BUF(int, y), const int x_start, const int y_start, const int na,
                       const int nb, const int b_x, const int a_y, const int items, OUTER_ARGS)
{
    PIPE_BIND(int, x);
    PIPE_BIND(int, y);
    const int tiles_a = (na + 15) / 16, tiles_b = (nb + 15) / 16;
    EACH(item, items) {
        int rest = item / tiles_b;
        const int b = (item - rest * tiles_b) * 16;
        const int row = rest;
        rest = row / tiles_a;
        const int a = (row - rest * tiles_a) * 16;
        long from = x_start + a + (long)b * b_x;
        long to = y_start + b + (long)a * a_y;
        OUTER_AXES
        const int wa = min(16, na - a), wb = min(16, nb - b);
        int tile[16][16];
        if (wa == 16 && wb == 16) {
            for (int i = 0; i < 16; i++)
                vstore16(vload16(0, x + from + (long)i * b_x), 0, tile[i]);
            for (int j = 0; j < 16; j++)
                for (int i = 0; i < 16; i++)
                    y[to + (long)j * a_y + i] = tile[i][j];
        } else {
            for (int j = 0; j < wa; j++)
                for (int i = 0; i < wb; i++)
                    y[to + (long)j * a_y + i] = x[from + (long)i * b_x + j];
        }
    }
}

kernel void fill(PIPE_BUF(int, y), const int n, const int value)
{
    PIPE_BIND(int, y);
    const int blocks = (n + 15) / 16;
    EACH(block, blocks) {
        const int first = block * 16;
        if (first + 16 <= n)
            vstore16((int16)(value), 0, y + first);
        else
            for (int i = first; i < n; i++)
                y[i] = value;
    }
}

/* Up to 8 parts, joined along one axis: part k contributes r_k elements to each
 * of `outer` rows of y, which are y_row apart and begin at y_start. */
kernel void concat(PIPE_BUF(int, a), PIPE_BUF(int, b), PIPE_BUF(int, c), PIPE_BUF(int, d), PIPE_BUF(int, e),
                   PIPE_BUF(int, f), PIPE_BUF(int, g), PIPE_BUF(int, h), PIPE_BUF(int, y), const int ra,
                   const int rb, const int rc, const int rd, const int re, const int rf, const int rg,
                   const int rh, const int y_start, const int y_row, const int outer)
{
    PIPE_BIND(int, a);
    PIPE_BIND(int, b);
    PIPE_BIND(int, c);
    PIPE_BIND(int, d);
    PIPE_BIND(int, e);
    PIPE_BIND(int, f);
    PIPE_BIND(int, g);
    PIPE_BIND(int, h);
    PIPE_BIND(int, y);
    global const int *const part[8] = {a, b, c, d, e, f, g, h};
    const int run[8] = {ra, rb, rc, rd, re, rf, rg, rh};
    const int width = ra + rb + rc + rd + re + rf + rg + rh;
    const int n = width * outer;
    const int per = (int)(((uint)n + (uint)get_global_size(0) - 1u) / (uint)get_global_size(0));
    int at = (int)get_global_id(0) * per;
    const int end = min(n, at + per);

    while (at < end) {
        const int row = at / width;
        int within = at - row * width, k = 0, start = 0;
        while (within >= start + run[k])
            start += run[k++];
        const int first = within - start;
        const int m = min(run[k] - first, end - at);
        global const int *from = part[k] + (long)row * run[k] + first;
        global int *to = y + y_start + (long)row * y_row + within;
        int i = 0;
        for (; i + 16 <= m; i += 16)
            vstore16(vload16(0, from + i), 0, to + i);
        for (; i < m; i++)
            to[i] = from[i];
        at += m;
    }
}
