/* Random graphs against the same graphs in double on the host: fusion, broadcasting,
 * views, windows, sharing, assignment, replay with other leaves and scalars. */
#include "runtime/rows.h"

#include <criterion/parameterized.h>

enum { NODES = 70, ROUNDS = 3, SHAPES = 13 };

typedef struct host {
    pipe_tensor *t;
    pipe_shape s;
    size_t n;
    double *x;
    bool exact;          /* values are the same floats on both sides: may be compared */
} host;

typedef struct graph {
    pipe_engine *e;
    uint64_t seed, draws;
    host v[NODES + 16];
    size_t n;
    pipe_shape shapes[SHAPES];
} graph;

static uint64_t draw(graph *g, uint64_t below)
{
    const uint64_t x[2] = {g->seed, g->draws++};
    return pipe_hash64(x, sizeof x, 1) % below;
}

/* Shapes around [p, q, r] that broadcast with, or reshape to, each other. */
static void choose_shapes(graph *g, int64_t p, int64_t q, int64_t r)
{
    const pipe_shape s[SHAPES] = {
        PIPE_SHAPE(p, q, r), PIPE_SHAPE(p, q, r), PIPE_SHAPE(p, q, r), PIPE_SHAPE(q, r), PIPE_SHAPE(r),
        PIPE_SHAPE(p, 1, r), PIPE_SHAPE(p, q, 1), PIPE_SHAPE(1, q, 1), PIPE_SCALAR, PIPE_SHAPE(p * q, r),
        PIPE_SHAPE(p, q * r), PIPE_SHAPE(p * q * r), PIPE_SHAPE(p, 1, 1),
    };
    memcpy(g->shapes, s, sizeof s);
}

static host *push(graph *g, pipe_tensor *t, bool exact)
{
    host *h = &g->v[g->n++];
    *h = (host){.t = t, .s = *pipe_tensor_shape(t), .exact = exact};
    OK(pipe_check(t, &err_));
    h->n = (size_t)pipe_count(t);
    h->x = pipe_alloc_array(h->n + 1, sizeof *h->x);
    return h;
}

/* Where element k of shape s reads in shape `in`. */
static size_t at(size_t k, const pipe_shape *s, const pipe_shape *in)
{
    size_t index = 0, stride = 1;
    for (uint32_t j = 0; j < s->rank; j++) {
        const size_t extent = (size_t)s->dim[s->rank - 1 - j];
        const size_t digit = k % extent;
        k /= extent;
        if (j < in->rank) {
            const size_t have = (size_t)in->dim[in->rank - 1 - j];
            index += have == 1 ? 0 : digit * stride;
            stride *= have;
        }
    }
    return index;
}

static bool broadcasts(const pipe_shape *a, const pipe_shape *b)
{
    for (uint32_t j = 0; j < a->rank && j < b->rank; j++) {
        const int64_t x = a->dim[a->rank - 1 - j], y = b->dim[b->rank - 1 - j];
        if (x != y && x != 1 && y != 1)
            return false;
    }
    return true;
}

static double pick(double c, double a, double b) { return c != 0.0 ? a : b; }

static double binary(int kind, double a, double b)
{
    switch (kind) {
    case 0: return a + b;
    case 1: return a - b;
    case 2: return a * b;
    case 3: return fmax(a, b);
    default: return a < b ? 1.0 : 0.0;
    }
}

static void add_binary(graph *g)
{
    const host a = g->v[draw(g, g->n)], b = g->v[draw(g, g->n)];
    const int kind = a.exact && b.exact && draw(g, 4) == 0 ? 4 : (int)draw(g, 4);
    if (!broadcasts(&a.s, &b.s))
        return;
    pipe_tensor *t = kind == 0   ? row_add(a.t, b.t)
                     : kind == 1 ? row_sub(a.t, b.t)
                     : kind == 2 ? row_mul(a.t, b.t)
                     : kind == 3 ? row_max(a.t, b.t)
                                 : row_less(a.t, b.t);
    host *h = push(g, t, kind == 4);
    for (size_t k = 0; k < h->n; k++)
        h->x[k] = binary(kind, a.x[at(k, &h->s, &a.s)], b.x[at(k, &h->s, &b.s)]);
}

static void add_where(graph *g)
{
    const host c = g->v[draw(g, g->n)], a = g->v[draw(g, g->n)], b = g->v[draw(g, g->n)];
    if (!c.exact || !broadcasts(&a.s, &b.s) || !broadcasts(&a.s, &c.s) || !broadcasts(&b.s, &c.s))
        return;
    host *h = push(g, row_where(c.t, a.t, b.t), false);
    for (size_t k = 0; k < h->n; k++)
        h->x[k] = pick(c.x[at(k, &h->s, &c.s)], a.x[at(k, &h->s, &a.s)], b.x[at(k, &h->s, &b.s)]);
}

static void add_unary(graph *g, int round)
{
    const host a = g->v[draw(g, g->n)];
    const int kind = (int)draw(g, 4);
    const double p = (double)draw(g, 8) / 8.0 + 0.125 * round, q = (double)draw(g, 8) / 8.0 - 0.5 * round;
    const int64_t power = (int64_t)draw(g, 4);
    pipe_tensor *t = kind == 0   ? row_affine(a.t, p, q)
                     : kind == 1 ? row_tanh(a.t)
                     : kind == 2 ? row_power(row_tanh(a.t), power)
                                 : row_to_f32(row_to_i32(row_affine(row_less(a.t, a.t), 3.0, q)));
    host *h = push(g, t, kind == 3);
    for (size_t k = 0; k < h->n; k++)
        h->x[k] = kind == 0   ? (double)(float)p * a.x[k] + (double)(float)q
                  : kind == 1 ? tanh(a.x[k])
                  : kind == 2 ? pow(tanh(a.x[k]), (double)power)
                              : trunc(q);
}

static void add_shape_op(graph *g)
{
    const host a = g->v[draw(g, g->n)];
    const pipe_shape want = g->shapes[draw(g, SHAPES)];
    const int kind = (int)draw(g, 4);

    if (kind == 0 && pipe_shape_count(&want) == (int64_t)a.n) {
        host *h = push(g, row_reshape(a.t, want), a.exact);
        memcpy(h->x, a.x, a.n * sizeof *a.x);
    } else if (kind == 1 && a.s.rank && a.s.dim[0] > 1) {
        const int64_t start = (int64_t)draw(g, (uint64_t)a.s.dim[0] - 1);
        const int64_t length = 1 + (int64_t)draw(g, (uint64_t)(a.s.dim[0] - start));
        host *h = push(g, row_head(a.t, start, length), a.exact);
        memcpy(h->x, a.x + (size_t)start * (a.n / (size_t)a.s.dim[0]), h->n * sizeof *a.x);
    } else if (kind == 2 && broadcasts(&a.s, &want) && a.s.rank <= want.rank) {
        for (uint32_t j = 0; j < a.s.rank; j++)
            if (a.s.dim[a.s.rank - 1 - j] != 1 && a.s.dim[a.s.rank - 1 - j] != want.dim[want.rank - 1 - j])
                return;
        host *h = push(g, row_spread(a.t, want), a.exact);
        for (size_t k = 0; k < h->n; k++)
            h->x[k] = a.x[at(k, &want, &a.s)];
    } else if (kind == 3) {
        static const int64_t width[4] = {1, 4, 8, 16};
        const uint64_t which = draw(g, 6);
        host *h = push(g, which < 4 ? row_mirror(a.t, width[which]) : row_reverse(a.t), a.exact);
        for (size_t k = 0; k < h->n; k++)
            h->x[k] = a.x[a.n - 1 - k];
    }
}

static void add_source(graph *g, int round)
{
    const pipe_shape s = g->shapes[draw(g, SHAPES)];
    if (draw(g, 3) == 0) {
        const double value = (double)draw(g, 16) / 8.0 + round;
        host *h = push(g, row_full(g->e, s, value), false);
        for (size_t k = 0; k < h->n; k++)
            h->x[k] = value;
        return;
    }
    const size_t n = (size_t)pipe_shape_count(&s);
    float *data = pipe_alloc_array(n + 1, sizeof *data);
    test_fill(data, n, g->seed + 1000 * (uint64_t)round + g->draws++);
    host *h = push(g, pipe_from_f32(g->e, s, data), true);
    for (size_t k = 0; k < n; k++)
        h->x[k] = (double)data[k];
    pipe_free(data);
}

static void compare(const host *h, const char *what, size_t id, uint64_t seed, int round)
{
    float *got = test_read(h->t);
    for (size_t k = 0; k < h->n; k++)
        cr_assert(fabs((double)got[k] - h->x[k]) <= 2e-4 * (1.0 + fabs(h->x[k])),
                  "graph %llu, round %d, %s %zu, element %zu of %zu: %.9g, not %.9g",
                  (unsigned long long)seed, round, what, id, k, h->n, (double)got[k], h->x[k]);
    pipe_free(got);
}

static void grow(graph *g, int round)
{
    for (int k = 0; k < 5; k++)
        add_source(g, round);
    for (int turn = 0; turn < 400 && g->n < NODES; turn++) {
        const uint64_t kind = draw(g, 12);
        if (kind < 5)
            add_binary(g);
        else if (kind < 6)
            add_where(g);
        else if (kind < 8)
            add_unary(g, round);
        else if (kind < 11)
            add_shape_op(g);
        else
            add_source(g, round);
        host *last = &g->v[g->n - 1];
        double largest = 0.0;
        for (size_t k = 0; k < last->n; k++)
            largest = fmax(largest, fabs(last->x[k]));
        if (largest > 6.0) {                    /* keep rounding errors comparable */
            const host a = *last;
            host *h = push(g, row_tanh(a.t), false);
            for (size_t k = 0; k < h->n; k++)
                h->x[k] = tanh(a.x[k]);
        }
    }
}

/* Two leaves that take values of the graph while others of it read them. */
static void run_graph(pipe_engine *e, uint64_t seed, const int64_t size[3], uint64_t *plans)
{
    graph g = {.e = e};
    pipe_tensor *leaf[2] = {NULL, NULL}, *kept[6] = {NULL};
    host state[2] = {{0}, {0}};

    for (int round = 0; round < ROUNDS; round++) {
        g.seed = seed;
        g.draws = 0;
        g.n = 0;
        choose_shapes(&g, size[0], size[1], size[2]);
        if (round == 0)
            for (int k = 0; k < 2; k++) {
                add_source(&g, round);
                while (!pipe_shape_equal(&g.v[g.n - 1].s, &g.shapes[0]) || !g.v[g.n - 1].exact) {
                    pipe_free(g.v[--g.n].x);
                    add_source(&g, round);
                }
                state[k] = g.v[--g.n];
                pipe_keep(&leaf[k], state[k].t);
                OK(pipe_eval(e, &err_));
            }
        g.draws = 1000;
        g.n = 0;
        for (int k = 0; k < 2; k++) {
            host *h = push(&g, leaf[k], round == 0);
            memcpy(h->x, state[k].x, h->n * sizeof *h->x);
            h->exact = false;
        }
        grow(&g, round);

        size_t keeps[6], takes[2] = {0, 1};
        for (int k = 0; k < 6; k++) {
            keeps[k] = draw(&g, g.n);
            pipe_keep(&kept[k], g.v[keeps[k]].t);
        }
        for (int k = 0; k < 2; k++) {
            for (int turn = 0; turn < 200; turn++) {
                const size_t id = draw(&g, g.n);
                if (pipe_shape_equal(&g.v[id].s, &g.shapes[0]) && g.v[id].n) {
                    takes[k] = id;
                    break;
                }
            }
            OK(pipe_assign(leaf[k], g.v[takes[k]].t, &err_));
        }
        OK(pipe_eval(e, &err_));
        for (int k = 0; k < 6; k++) {
            host h = g.v[keeps[k]];
            if (keeps[k] > 1) {                 /* 0 and 1 are the leaves: they have new values now */
                h.t = kept[k];
                compare(&h, "kept", keeps[k], seed, round);
            }
        }
        for (int k = 0; k < 2; k++) {
            host h = g.v[takes[k]];
            h.t = leaf[k];
            compare(&h, "assigned", takes[k], seed, round);
            memcpy(state[k].x, h.x, h.n * sizeof *h.x);
        }
        for (size_t k = 0; k < g.n; k++)
            pipe_free(g.v[k].x);
    }
    for (int k = 0; k < 6; k++)
        pipe_keep(&kept[k], NULL);
    for (int k = 0; k < 2; k++) {
        pipe_keep(&leaf[k], NULL);
        pipe_free(state[k].x);
    }
    *plans = pipei_engine_stats_get(e).plans_built;
}

typedef struct graph_case {
    char profile[8];
    uint64_t seed;
    int64_t size[3];
    char why[64];
} graph_case;

ParameterizedTestParameters(random_graphs, host)
{
    static graph_case cases[] = {
        {"auto", 1, {3, 5, 7}, "no full vector"},
        {"auto", 2, {2, 3, 31}, "rows of one vector and a tail"},
        {"auto", 3, {4, 1, 33}, "an axis of one"},
        {"auto", 4, {1, 1, 1}, "all scalars"},
        {"auto", 5, {2, 0, 5}, "empty"},
        {"auto", 6, {13, 17, 64}, "several pieces"},
        {"auto", 7, {101, 9, 1}, "one channel"},
        {"gpu", 8, {3, 5, 7}, "GPU kernels"},
        {"gpu", 9, {13, 17, 64}, "GPU kernels, more items"},
        {"sse", 10, {5, 3, 33}, "four lanes"},
        {"avx512", 11, {2, 3, 37}, "sixteen lanes"},
        {"auto", 12, {2, 3, 4}, "a power of two"},
    };
    return cr_make_param_array(graph_case, cases, sizeof cases / sizeof cases[0]);
}

ParameterizedTest(graph_case *c, random_graphs, host)
{
    pipe_engine *e = runtime_engine(c->profile);
    uint64_t plans;
    run_graph(e, c->seed, c->size, &plans);
    pipei_engine_free(e);
}
