/* One Brownian path per sample, whatever the steps: bisection by Brownian bridges
 * (Levy's construction) on a fixed dyadic tree.
 *
 *     0                                1     place = r / (1 + r), r = rho^(1/7)
 *     |---------------1---------------|
 *     |-------2-------|-------3-------|      node k has the children 2k, 2k + 1
 *     |---4---|---5---|---6---|---7---|      and one normal, keyed by k
 *
 * The tree knows rho = sigma / alpha alone, so the path is the same under every
 * schedule, grid and number of steps; the exponent 1/7 is that of Karras et al.
 * 2022 (arXiv:2206.00364), under which usual grids are nearly even.  The path
 * runs on the clock rho^power.  At one end of the tree the clock is 0 and the path
 * starts with value 0; at the other it is infinite, and a bridge to there is a
 * free step.
 *
 * A value of the path is a linear combination of the normals on the way down to
 * it.  The coefficients are computed on the host in double precision, so an
 * increment is one sum of normals, without cancellation between two large values.
 * Points are rounded to the 2^20 places of the tree, and increments scaled by the
 * clock *there*: their law is exact. */
#include "core/kinds/kinds.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { DEPTH = 20, TERMS = 2 * DEPTH };

#define WARP 7.0

typedef struct point {
    uint64_t node[DEPTH]; /* the way down; 0 after its end */
    double weight[DEPTH]; /* the value of the path: sum of weight times normal of the node */
    uint32_t place; /* in units of 2^-DEPTH */
    double clock;
} point;

static double clock_of(uint32_t place, double power)
{
    const double y = ldexp((double)place, -DEPTH);

    return pow(y / (1.0 - y), WARP * power);
}

static uint32_t place_of(double rho)
{
    const double r = pow(rho, 1.0 / WARP);

    return (uint32_t)lround(ldexp(isinf(r) ? 1.0 : r / (1.0 + r), DEPTH));
}

/* The bridge from clock a to clock b, at clock m: `share` of the way, and the deviation of what is random. */
static double bridge(double a, double b, double m, double *share)
{
    if (isinf(a) || isinf(b)) {
        *share = isinf(a) ? 1.0 : 0.0;
        return sqrt(fabs(m - (isinf(a) ? b : a)));
    }
    *share = (m - a) / (b - a);
    return sqrt(fabs((m - a) * (b - m) / (b - a)));
}

static point find(double rho, double power)
{
    point p = {.place = place_of(rho)};
    double high[DEPTH] = {0}; /* the value at the right end of the interval; p.weight: at the left */
    uint32_t left = 0, right = 1u << DEPTH;
    uint64_t node = 1;

    p.clock = clock_of(p.place, power);
    for (size_t d = 0; d < DEPTH && p.place != left && p.place != right; d++) {
        const uint32_t middle = left + (right - left) / 2;
        double share, spread;
        spread = bridge(clock_of(left, power), clock_of(right, power), clock_of(middle, power), &share);
        const bool up = p.place >= middle;
        double *end = up ? p.weight : high; /* which the middle replaces */
        for (size_t k = 0; k < d; k++)
            end[k] = p.weight[k] + share * (high[k] - p.weight[k]);
        end[d] = spread;
        p.node[d] = node;
        node = 2 * node + (up ? 1 : 0);
        *(up ? &left : &right) = middle;
    }
    if (p.place == right)
        memcpy(p.weight, high, sizeof high);
    return p;
}

pipe_tensor *pipe_sampling_brownian(pipe_sampling *s, uint32_t draw, double rho_from, double rho_to,
                                    double power)
{
    const point from = find(rho_from, power), to = find(rho_to, power);
    const double scale = 1.0 / sqrt(fabs(to.clock - from.clock));
    pipe_key base = pipei_sampling_key(s), key[TERMS];
    double weight[TERMS] = {0};
    pipe_tensor *supplied = pipei_sampling_supplied(s, draw);

    if (supplied)
        return supplied;
    if (!(power != 0.0 && rho_from >= 0.0 && rho_to >= 0.0 && isfinite(from.clock) && isfinite(to.clock)))
        return pipe_poison(s->engine, PIPE_EDOMAIN,
                           "Brownian noise from sigma / alpha = %g to %g: the clock, its power %g, must be "
                           "finite at both",
                           rho_from, rho_to, power);
    if (from.place == to.place)
        return pipe_poison(s->engine, PIPE_EDOMAIN,
                           "Brownian noise from sigma / alpha = %g to %g: the path does not resolve so short "
                           "a step; use fewer steps",
                           rho_from, rho_to);
    base.stream = pipe_hash64("Brownian path", strlen("Brownian path"), base.stream);
    for (size_t d = 0; d < DEPTH; d++) {
        const bool shared = from.node[d] == to.node[d];
        key[d] = key[DEPTH + d] = base;
        key[d].step = to.node[d];
        key[DEPTH + d].step = from.node[d];
        weight[d] = scale * (shared ? to.weight[d] - from.weight[d] : to.weight[d]);
        weight[DEPTH + d] = shared ? 0.0 : -scale * from.weight[d];
    }
    return pipe_randn_sum(s->engine, *pipe_tensor_shape(s->x), key, weight, TERMS);
}
