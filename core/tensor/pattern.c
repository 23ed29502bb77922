/* Access patterns: broadcasting, and views in between, as mixed-radix digits.
 *
 * [n, h, w, c] reading [n, 1, 1, c]: digits (innermost first) (c, 1) (h w, 0) (n, c).
 * Neighbouring digits that continue each other are merged, so that most tensors
 * of a network come down to one or two loops. */
#include "core/tensor/build.h"

static void push(pattern *p, int64_t extent, int64_t stride)
{
    if (extent == 1)
        return;
    if (p->n) {
        digit *last = &p->d[p->n - 1];
        const bool both_still = last->stride == 0 && stride == 0;
        const bool continues = last->stride != 0 && stride == last->stride * last->extent;
        if (both_still || continues) {
            last->extent *= extent;
            return;
        }
    }
    p->d[p->n++] = (digit){extent, stride};
}

void pipei_pattern_broadcast(const pipe_shape *out, const pipe_shape *in, pattern *p)
{
    int64_t stride = 1;
    p->n = 0;
    for (uint32_t k = 0; k < out->rank; k++) {
        const int64_t extent = out->dim[out->rank - 1 - k];
        const int64_t have = k < in->rank ? in->dim[in->rank - 1 - k] : 1;
        push(p, extent, have == 1 ? 0 : stride);
        stride *= have;
    }
}

bool pipei_pattern_compose(const pattern *p, const pattern *q, pattern *out)
{
    uint32_t k = 0;
    digit rest = q->n ? q->d[0] : (digit){1, 0};

    out->n = 0;
    for (uint32_t j = 0; j < p->n; j++) {
        int64_t extent = p->d[j].extent;
        if (p->d[j].stride == 0) {
            push(out, extent, 0);
            continue;
        }
        while (extent > 1) {
            while (rest.extent == 1) {
                if (++k >= q->n)
                    return false;
                rest = q->d[k];
            }
            const int64_t take = extent < rest.extent ? extent : rest.extent;
            if (extent % take || rest.extent % take || out->n + 2 >= MAX_DIGITS)
                return false;
            push(out, take, rest.stride);
            extent /= take;
            rest = (digit){rest.extent / take, rest.stride * take};
        }
    }
    return true;
}

bool pipei_pattern_linear(const pattern *p)
{
    return p->n == 0 || (p->n == 1 && p->d[0].stride == 1);
}

bool pipei_pattern_constant(const pattern *p)
{
    return p->n == 0 || (p->n == 1 && p->d[0].stride == 0);
}

static bool add_cut(radix *r, int64_t cut)
{
    uint32_t at = 0;
    while (at < r->n && r->cut[at] < cut)
        at++;
    if (at < r->n && r->cut[at] == cut)
        return true;
    if (r->n == MAX_DIGITS || (at > 0 && cut % r->cut[at - 1]) || (at < r->n && r->cut[at] % cut))
        return false;
    for (uint32_t k = r->n; k > at; k--)
        r->cut[k] = r->cut[k - 1];
    r->cut[at] = cut;
    r->n++;
    return true;
}

bool pipei_radix_add(radix *r, const pattern *p)
{
    radix sum = *r;
    int64_t product = 1;
    for (uint32_t k = 0; k + 1 < p->n; k++) {
        product *= p->d[k].extent;
        if (!add_cut(&sum, product))
            return false;
    }
    *r = sum;
    return true;
}

bool pipei_radix_merge(radix *r, const radix *other)
{
    radix sum = *r;
    for (uint32_t k = 0; k < other->n; k++)
        if (!add_cut(&sum, other->cut[k]))
            return false;
    *r = sum;
    return true;
}
