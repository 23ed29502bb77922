/* Fusion: which elementwise values share a kernel, and which are computed again
 * where they are used instead of being stored.
 *
 * A cluster is a set of elementwise values of equal size that one kernel computes.
 * Producer and consumer join when no other kernel has to run between them.  Cheap
 * values (constants, broadcasts, scalars, a scaled copy of something in memory)
 * are "inlined": each cluster that wants them computes them again, which is
 * arithmetic in place of a trip through memory. */
#include "core/tensor/build.h"

#include <ctype.h>
#include <string.h>

enum {
    NONE = UINT32_MAX,
    CLUSTER_MEMBERS = 192,     /* bounds the compile time of one kernel */
    CLUSTER_BUFFERS = 28,      /* 16 bytes of arguments each, of the 1024 that OpenCL grants */
    CLUSTER_SCALARS = 64,
    INLINE_OPS = 4,            /* recomputed per element */
    INLINE_SCALAR_OPS = 24,    /* recomputed per work-item: nearly free */
    INLINE_SCALAR_SOURCES = 4
};

/* ---- what an expression costs ---- */

bool pipei_op_heavy(const pipe_op *op)
{
    static const char *const light[] = {"fabs", "fmin", "fmax", "min",  "max",   "clamp", "select", "mad",
                                        "fma",  "sign", "floor", "ceil", "trunc", "rint",  "isnan",  "isinf",
                                        "T",    "TI",   "PIPE_TO_T", "PIPE_TO_TI", "PIPE_TRUTH"};
    for (const char *s = op->expression; *s;) {
        if (!isalpha((unsigned char)*s) && *s != '_') {
            s++;
            continue;
        }
        const char *start = s;
        while (isalnum((unsigned char)*s) || *s == '_')
            s++;
        const size_t n = (size_t)(s - start);
        while (*s == ' ')
            s++;
        bool known = *s != '(';
        for (size_t k = 0; k < sizeof light / sizeof light[0] && !known; k++)
            known = strlen(light[k]) == n && strncmp(light[k], start, n) == 0;
        if (!known)
            return true;
    }
    return false;
}

bool pipei_op_identity(const pipe_op *op)
{
    return op->expression && op->arity == 1 && strcmp(op->expression, "a") == 0;
}

/* Whether a use of p0 ... p3 makes run-time arguments. */
static uint32_t scalars_of(const pipe_op *op)
{
    uint32_t used = 0;
    for (const char *s = op->expression; *s; s++)
        if (*s == 'p' && s[1] >= '0' && s[1] <= '3' &&
            (s == op->expression || !isalnum((unsigned char)s[-1])))
            used |= 1u << (s[1] - '0');
    return (uint32_t)__builtin_popcount(used);
}

/* ---- looking through inlined values ---- */

typedef struct collector {
    build *b;
    source *list;
    uint32_t n, capacity;
    uint32_t culprit;
    bool failed;
} collector;

static void collect(collector *c, uint32_t w, const pattern *p)
{
    build *b = c->b;
    const value *view = &b->v[w];
    const value *v = &b->v[view->root];

    if (v->inlined && view->offset == 0 && view->t->count == v->t->count) {
        for (uint32_t k = 0; k < v->n_in && !c->failed; k++) {
            pattern q, whole;
            pipei_pattern_broadcast(&v->t->shape, &b->v[v->in[k]].t->shape, &q);
            if (!pipei_pattern_compose(p, &q, &whole)) {
                c->failed = true;
                c->culprit = view->root;
                return;
            }
            collect(c, v->in[k], &whole);
        }
        return;
    }
    for (uint32_t k = 0; k < c->n; k++)
        if (c->list[k].root == view->root && c->list[k].offset == view->offset &&
            c->list[k].p.n == p->n && memcmp(c->list[k].p.d, p->d, p->n * sizeof p->d[0]) == 0)
            return;
    if (c->n == c->capacity) {
        source *more = pipe_arena_alloc(b->a, 2 * c->capacity * sizeof *more);
        memcpy(more, c->list, c->n * sizeof *more);
        c->list = more;
        c->capacity *= 2;
    }
    c->list[c->n++] = (source){view->root, view->offset, *p};
}

source *pipei_sources(build *b, uint32_t id, uint32_t *n, uint32_t *culprit)
{
    const value *v = &b->v[id];
    collector c = {.b = b, .capacity = 4, .culprit = NONE};
    c.list = pipe_arena_alloc(b->a, c.capacity * sizeof *c.list);
    for (uint32_t k = 0; k < v->n_in && !c.failed; k++) {
        pattern p;
        pipei_pattern_broadcast(&v->t->shape, &b->v[v->in[k]].t->shape, &p);
        collect(&c, v->in[k], &p);
    }
    *n = c.n;
    if (culprit)
        *culprit = c.failed ? c.culprit : NONE;
    return c.list;
}

/* ---- what to inline ---- */

static bool worth_inlining(build *b, value *v)
{
    uint32_t tree = 1, sources = 0;
    bool in_scalars = true;

    for (uint32_t k = 0; k < v->n_in; k++) {
        const value *in = &b->v[v->in[k]];
        const value *root = &b->v[in->root];
        in_scalars &= in->t->count == 1;
        if (root->inlined) {
            tree += root->tree;
            sources += root->sources;
        } else {
            sources++;
        }
    }
    v->tree = tree;
    v->sources = sources;
    if (v->n_in == 0)
        return true;
    if (pipei_op_identity(v->t->op) && b->v[v->in[0]].t->count < v->t->count)
        return true;
    if (v->must_store)
        return false;
    if (v->t->count == 1 && in_scalars)
        return tree <= INLINE_SCALAR_OPS && sources <= INLINE_SCALAR_SOURCES;
    return tree <= INLINE_OPS && sources <= 1 && !pipei_op_heavy(v->t->op);
}

static bool is_elementwise(const build *b, uint32_t v)
{
    return b->v[v].live && b->v[v].kind == VALUE_ELEMENTWISE && b->v[v].t->count > 0;
}

/* Elementwise values that a kernel of their own may have to compute. */
bool pipei_is_active(const build *b, uint32_t v)
{
    return is_elementwise(b, v) && (!b->v[v].inlined || b->v[v].must_store);
}

static void choose_inlined(build *b)
{
    for (uint32_t k = b->n_leaves; k < b->n; k++)
        if (is_elementwise(b, k))
            b->v[k].inlined = worth_inlining(b, &b->v[k]);

    /* Digits that do not fit (a reshape between two broadcasts) forbid it. */
    for (bool again = true; again;) {
        again = false;
        for (uint32_t k = b->n_leaves; k < b->n; k++) {
            if (!pipei_is_active(b, k))
                continue;
            uint32_t n, culprit;
            source *s = pipei_sources(b, k, &n, &culprit);
            radix r = {0};
            for (uint32_t j = 0; j < n && culprit == NONE; j++)
                if (!pipei_radix_add(&r, &s[j].p))
                    for (uint32_t i = 0; i < b->v[k].n_in && culprit == NONE; i++)
                        if (b->v[b->v[b->v[k].in[i]].root].inlined)
                            culprit = b->v[b->v[k].in[i]].root;
            if (culprit != NONE) {
                b->v[culprit].inlined = false;
                again = true;
            }
        }
    }
}

/* ---- clusters ---- */

uint32_t pipei_cluster_of(build *b, uint32_t v)
{
    while (b->v[v].cluster != v) {
        b->v[v].cluster = b->v[b->v[v].cluster].cluster;
        v = b->v[v].cluster;
    }
    return v;
}

static void find_readers(build *b, readers *r)
{
    uint32_t total = 0;

    r->first = pipe_arena_alloc(b->a, (b->n + 2) * sizeof *r->first);
    r->sources = pipe_arena_alloc(b->a, (b->n + 1) * sizeof *r->sources);
    r->n_sources = pipe_arena_alloc(b->a, (b->n + 1) * sizeof *r->n_sources);
    r->seen = pipe_arena_alloc(b->a, (b->n + 1) * sizeof *r->seen);
    r->stack = pipe_arena_alloc(b->a, (b->n + 1) * sizeof *r->stack);
    r->order = pipe_arena_alloc(b->a, (b->n + 1) * sizeof *r->order);
    r->at = pipe_arena_alloc(b->a, (b->n + 1) * sizeof *r->at);

    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t k = b->n_leaves; k < b->n; k++) {
            const value *v = &b->v[k];
            if (pipei_is_active(b, k)) {
                if (pass == 0)
                    r->sources[k] = pipei_sources(b, k, &r->n_sources[k], NULL);
                for (uint32_t j = 0; j < r->n_sources[k]; j++) {
                    const uint32_t root = r->sources[k][j].root;
                    if (pass == 0)
                        r->first[root + 1]++, total++;
                    else
                        r->list[r->first[root]++] = k;
                }
            } else if (v->live && v->kind == VALUE_LOWERED) {
                for (uint32_t j = 0; j < v->n_in; j++) {
                    const uint32_t root = b->v[v->in[j]].root;
                    if (pass == 0)
                        r->first[root + 1]++, total++;
                    else
                        r->list[r->first[root]++] = k;
                }
            }
        }
        if (pass == 0) {
            for (uint32_t k = 0; k < b->n; k++)
                r->first[k + 1] += r->first[k];
            r->list = pipe_arena_alloc(b->a, (total + 1) * sizeof *r->list);
        } else {
            for (uint32_t k = b->n; k > 0; k--)      /* filling moved each start to its end */
                r->first[k] = r->first[k - 1];
            r->first[0] = 0;
        }
    }
}

/* The node of the cluster graph that value v belongs to. */
static uint32_t node_at(build *b, uint32_t v)
{
    return pipei_cluster_of(b, v);
}

/* Pushes the clusters that read `from`; true when one of them is `target`. */
static bool push_readers(build *b, readers *r, uint32_t from, uint32_t target, uint32_t *depth, bool first)
{
    for (uint32_t m = from; m != NONE; m = b->v[m].next)
        for (uint32_t j = r->first[m]; j < r->first[m + 1]; j++) {
            const uint32_t to = node_at(b, r->list[j]);
            if (to == target && !first)
                return true;
            if (r->order[to] >= r->order[target] || r->seen[to] == r->stamp)
                continue;
            r->seen[to] = r->stamp;
            r->stack[(*depth)++] = to;
        }
    return false;
}

/* Whether something has to run between clusters p and c (p comes first), so that they
 * cannot be one.  What lies behind c in the order cannot lead to it, so the search is
 * short.  When the answer is no, what it has seen is all that p leads to before c. */
static bool path_between(build *b, readers *r, uint32_t p, uint32_t c)
{
    uint32_t depth = 0;
    r->stamp++;
    r->seen[p] = r->stamp;
    push_readers(b, r, p, c, &depth, true);
    while (depth)
        if (push_readers(b, r, r->stack[--depth], c, &depth, false))
            return true;
    return false;
}

/* Keeps the order topological when p and c, between which there is no path, become
 * one: between their places come first the others, then both, then what p leads to
 * (marked by the search of path_between). */
static void reorder(readers *r, uint32_t p, uint32_t c)
{
    const uint32_t low = r->order[p], high = r->order[c];
    uint32_t *after = r->stack, n_after = 0, write = low;
    for (uint32_t k = low + 1; k < high; k++) {
        const uint32_t x = r->at[k];
        if (x == NONE)
            continue;
        if (r->seen[x] == r->stamp) {
            after[n_after++] = x;
        } else {
            r->at[write] = x;
            r->order[x] = write++;
        }
    }
    r->at[write] = p;
    r->order[p] = write++;
    for (uint32_t k = 0; k < n_after; k++) {
        r->at[write] = after[k];
        r->order[after[k]] = write++;
    }
    while (write <= high)
        r->at[write++] = NONE;
}

/* An upper bound of the arguments that the union would have. */
static bool arguments_fit(build *b, const readers *r, uint32_t p, uint32_t c)
{
    uint32_t buffers = 0, scalars = 0;
    const uint32_t part[2] = {p, c};
    for (int k = 0; k < 2; k++)
        for (uint32_t m = part[k]; m != NONE; m = b->v[m].next) {
            for (uint32_t j = 0; j < r->n_sources[m]; j++) {
                const uint32_t root = r->sources[m][j].root;
                const uint32_t home = node_at(b, root);
                buffers += home != p && home != c;
            }
            buffers += b->v[m].must_store;
            scalars += scalars_of(b->v[m].t->op);
            for (uint32_t j = 0; j < b->v[m].n_in; j++) {
                const value *in = &b->v[b->v[b->v[m].in[j]].root];
                scalars += in->inlined ? 2 * in->tree : 0;
            }
        }
    /* Sources shared by members were counted once for each of them. */
    return buffers <= 2 * CLUSTER_BUFFERS && scalars <= CLUSTER_SCALARS;
}

/* Distinct buffers of the union: exact, for sizes near the limit. */
static bool buffers_fit(build *b, readers *r, uint32_t p, uint32_t c)
{
    uint32_t buffers = 0;
    const uint32_t part[2] = {p, c};
    r->stamp++;
    for (int k = 0; k < 2; k++)
        for (uint32_t m = part[k]; m != NONE; m = b->v[m].next) {
            for (uint32_t j = 0; j < r->n_sources[m]; j++) {
                const uint32_t root = r->sources[m][j].root;
                const uint32_t home = node_at(b, root);
                if (home == p || home == c || r->seen[root] == r->stamp)
                    continue;
                r->seen[root] = r->stamp;
                buffers++;
            }
            bool outside = b->v[m].must_store;
            for (uint32_t j = r->first[m]; j < r->first[m + 1] && !outside; j++) {
                const uint32_t home = node_at(b, r->list[j]);
                outside = home != p && home != c;
            }
            buffers += outside;
        }
    return buffers <= CLUSTER_BUFFERS;
}

/* Right after path_between(p, c). */
static void join(build *b, readers *r, uint32_t p, uint32_t c)
{
    value *a = &b->v[p], *z = &b->v[c];
    b->v[a->last].next = c;
    a->last = z->last;
    a->size += z->size;
    z->cluster = p;
    reorder(r, p, c);
    const bool fits = pipei_radix_merge(&a->digits, &z->digits);
    (void)fits;                /* tried before */
}

/* A kernel cannot read at one index what it writes at another. */
static bool reads_elsewhere(build *b, const readers *r, uint32_t p, uint32_t c)
{
    for (uint32_t m = c; m != NONE; m = b->v[m].next)
        for (uint32_t j = 0; j < r->n_sources[m]; j++) {
            const source *s = &r->sources[m][j];
            if (node_at(b, s->root) == p && !(s->offset == 0 && pipei_pattern_linear(&s->p)))
                return true;
        }
    return false;
}

static void try_join(build *b, readers *r, uint32_t p, uint32_t c)
{
    if (r->order[p] > r->order[c]) {
        const uint32_t later = p;
        p = c;
        c = later;
    }
    radix both = b->v[p].digits;
    if (p == c || b->v[p].size + b->v[c].size > CLUSTER_MEMBERS || !pipei_radix_merge(&both, &b->v[c].digits))
        return;
    if (!arguments_fit(b, r, p, c) || !buffers_fit(b, r, p, c) || reads_elsewhere(b, r, p, c) ||
        path_between(b, r, p, c))
        return;
    join(b, r, p, c);
}

bool pipei_reads_straight(const readers *r, uint32_t k, uint32_t root)
{
    for (uint32_t j = 0; j < r->n_sources[k]; j++)
        if (r->sources[k][j].root == root && r->sources[k][j].offset == 0 &&
            pipei_pattern_linear(&r->sources[k][j].p))
            return true;
    return false;
}

/* Clusters that read the same memory at the same index share the read, and a launch. */
static void join_siblings(build *b, readers *r, uint32_t root)
{
    uint32_t last = NONE;
    for (uint32_t j = r->first[root]; j < r->first[root + 1]; j++) {
        const uint32_t k = r->list[j];
        if (!pipei_is_active(b, k) || b->v[k].t->count != b->v[root].t->count || !pipei_reads_straight(r, k, root))
            continue;
        if (last != NONE)
            try_join(b, r, pipei_cluster_of(b, last), pipei_cluster_of(b, k));
        last = k;
    }
}

int64_t pipei_epilogue_count(const build *b, uint32_t lowered)
{
    const pipe_tensor *t = node_of(b, lowered);
    const pipe_op *op = t->op;
    const pipe_op_call c = {.op = op, .n_in = t->n_in, .in = t->in, .attr = t->attr, .out = (pipe_tensor *)t, .engine = b->e};
    const bool knows = op->size >= offsetof(pipe_op, epilogue_count) + sizeof op->epilogue_count;
    return knows && op->epilogue_count ? op->epilogue_count(&c) : t->count;
}

bool pipei_join_behind(build *b, uint32_t lowered, uint32_t cluster)
{
    readers *r = b->readers;
    if (pipei_epilogue_count(b, lowered) != b->v[cluster].t->count || reads_elsewhere(b, r, lowered, cluster) ||
        path_between(b, r, lowered, cluster))
        return false;
    join(b, r, lowered, cluster);
    return true;
}

void pipei_fuse(build *b)
{
    b->readers = pipe_arena_alloc(b->a, sizeof *b->readers);
    readers *r = b->readers;

    choose_inlined(b);
    find_readers(b, r);
    for (uint32_t k = 0; k < b->n; k++) {
        value *v = &b->v[k];
        v->cluster = v->last = k;
        v->next = NONE;
        v->size = 1;
        r->order[k] = r->at[k] = k;             /* inputs come before their users */
        for (uint32_t j = 0; j < r->n_sources[k]; j++) {
            const bool fits = pipei_radix_add(&v->digits, &r->sources[k][j].p);
            (void)fits;        /* choose_inlined() saw to it for inlined sources; plain ones always do */
        }
    }
    for (uint32_t k = b->n_leaves; k < b->n; k++) {
        if (!pipei_is_active(b, k))
            continue;
        for (uint32_t j = 0; j < r->n_sources[k]; j++) {
            const source *s = &r->sources[k][j];
            if (pipei_is_active(b, s->root) && s->offset == 0 && pipei_pattern_linear(&s->p) &&
                b->v[s->root].t->count == b->v[k].t->count)
                try_join(b, r, pipei_cluster_of(b, s->root), pipei_cluster_of(b, k));
        }
    }

    for (uint32_t k = 0; k < b->n; k++)
        if (b->v[k].live && b->v[k].t->count > 1)
            join_siblings(b, r, k);

    /* What another kernel reads is stored. */
    for (uint32_t k = b->n_leaves; k < b->n; k++) {
        value *v = &b->v[k];
        if (!pipei_is_active(b, k))
            continue;
        v->stored |= v->must_store;
        for (uint32_t j = 0; j < r->n_sources[k]; j++) {
            const source *s = &r->sources[k][j];
            value *root = &b->v[s->root];
            const bool inside = root->kind == VALUE_ELEMENTWISE &&
                                pipei_cluster_of(b, s->root) == pipei_cluster_of(b, k) && s->offset == 0 &&
                                pipei_pattern_linear(&s->p);
            if (!inside)
                root->stored = true;
        }
    }
}
