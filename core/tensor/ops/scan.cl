/* Cumulative sums of x [outer, n, inner] along n, in parts: every part is summed,
 * the sums are scanned, then every part is scanned from where it starts.  Along a
 * reversed axis position r stands for n - 1 - r. */
#define AT(r) (((long)o * n + (reverse ? n - 1 - (r) : (r))) * inner + c)

kernel void part_sums(PIPE_BUF(float, x), PIPE_BUF(float, sums), const int outer, const int n,
                      const int inner, const int parts, const int part, const int reverse)
{
    PIPE_BIND(float, x);
    PIPE_BIND(float, sums);
    EACH(item, outer * parts * inner) {
        const int op = item / inner, c = item - op * inner;
        const int o = op / parts, first = (op - o * parts) * part, end = min(n, first + part);
        float total = 0.0f;
        for (int r = first; r < end;) {
            float a = 0.0f;
            for (const int stop = min(end, r + 32); r < stop; r++)
                a += x[AT(r)];
            total += a;
        }
        sums[item] = total;
    }
}

/* sums [outer, parts, inner]: each becomes the sum of those before it.  The
 * rounding error of the long chain is carried along (Neumaier 1974). */
kernel void part_starts(PIPE_BUF(float, sums), const int outer, const int parts, const int inner)
{
    PIPE_BIND(float, sums);
    EACH(item, outer * inner) {
        const int o = item / inner, c = item - o * inner;
        float total = 0.0f, lost = 0.0f;
        for (int p = 0; p < parts; p++) {
            global float *const s = sums + ((long)o * parts + p) * inner + c;
            const float add = *s;
            *s = total + lost;
            const float sum = total + add;
            lost += fabs(total) >= fabs(add) ? (total - sum) + add : (add - sum) + total;
            total = sum;
        }
    }
}

kernel void part_scans(PIPE_BUF(float, x), PIPE_BUF(float, sums), PIPE_BUF(float, y), const int outer,
                       const int n, const int inner, const int parts, const int part, const int exclusive,
                       const int reverse)
{
    PIPE_BIND(float, x);
    PIPE_BIND(float, sums);
    PIPE_BIND(float, y);
    EACH(item, outer * parts * inner) {
        const int op = item / inner, c = item - op * inner;
        const int o = op / parts, first = (op - o * parts) * part, end = min(n, first + part);
        const float start = sums[item];
        float within = 0.0f;
        for (int r = first; r < end; r++) {
            const float value = x[AT(r)];
            y[AT(r)] = start + (exclusive ? within : within + value);
            within += value;
        }
    }
}
