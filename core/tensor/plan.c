/* Plans: the structure of a recording, and the table of plans made for it.
 *
 * The key of a plan is what its kernels depend on: ops, their integers, shapes,
 * types, edges, which values are kept or assigned.  Floats and words of
 * attributes, and which buffer a leaf is, are bound anew in each run. */
#include "core/tensor/build.h"

#include <string.h>

enum { NONE = UINT32_MAX, PLANS_KEPT = 512 };

/* ---- the request: live nodes and their structure in words ---- */

static void grow_tensors(pipe_tensor ***list, size_t *capacity, size_t n)
{
    if (n < *capacity)
        return;
    *capacity = *capacity ? 2 * *capacity : 1024;
    *list = pipe_realloc(*list, *capacity * sizeof **list);
}

static void put(request *q, uint64_t word)
{
    if (q->n_key == q->key_capacity) {
        q->key_capacity = q->key_capacity ? 2 * q->key_capacity : 8192;
        q->key = pipe_realloc(q->key, q->key_capacity * sizeof *q->key);
    }
    q->key[q->n_key++] = word;
}

/* Leaves are numbered in order of first use; their words come with that use. */
static uint64_t reference(request *q, pipe_tensor *t, uint64_t stamp)
{
    if (t->state == PIPEI_NODE)
        return t->slot;
    if (t->stamp != stamp) {
        t->stamp = stamp;
        t->slot = (uint32_t)q->n_leaves;
        grow_tensors(&q->leaves, &q->leaves_capacity, q->n_leaves);
        q->leaves[q->n_leaves++] = t;
        put(q, (uint64_t)1 << 62 | (uint64_t)t->dtype << 8 | t->shape.rank);
        for (uint32_t k = 0; k < t->shape.rank; k++)
            put(q, (uint64_t)t->shape.dim[k]);
    }
    return (uint64_t)1 << 61 | t->slot;
}

static void put_node(request *q, pipe_tensor *t, uint64_t stamp)
{
    for (uint32_t k = 0; k < t->n_in; k++)
        (void)reference(q, t->in[k], stamp);
    /* The address of a row is stable within the process, as is the table of plans. */
    put(q, (uint64_t)(uintptr_t)t->op);
    /* Fusion may merge equal uses without run-time attributes: so whether an op has
     * any is structure.  Expressions show it in their text. */
    const bool attributed = t->runtime_attr && !t->op->expression;
    put(q, (uint64_t)t->n_in | (uint64_t)t->n_int << 32 | (uint64_t)t->dtype << 40 |
               (uint64_t)t->shape.rank << 44 | (uint64_t)attributed << 48);
    for (uint32_t k = 0; k < t->n_in; k++)
        put(q, reference(q, t->in[k], stamp));
    for (uint32_t k = 0; k < t->n_int; k++)
        put(q, (uint64_t)t->attr->i[k]);
    for (uint32_t k = 0; k < t->shape.rank; k++)
        put(q, (uint64_t)t->shape.dim[k]);
}

/* Not cryptographic, and need not be: keys are compared in full. */
static uint64_t hash_words(const uint64_t *w, size_t n)
{
    uint64_t h = 0x9e3779b97f4a7c15u ^ n;
    for (size_t k = 0; k < n; k++) {
        h = (h ^ w[k]) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    return h;
}

/* Fills the engine's request; PIPE_OK with n_outs = n_assigns = 0 when nothing is wanted. */
static pipe_status make_request(pipe_engine *e, pipe_error *err)
{
    request *q = &e->request;
    const uint64_t stamp = ++e->stamp;

    q->n_nodes = q->n_leaves = q->n_outs = q->n_key = 0;
    q->assigns = e->assigns;
    q->n_assigns = e->n_assigns;
    for (size_t k = 0; k < e->n_list; k++) {
        pipe_tensor *t = e->list[k];
        if (t->holds == 0)
            continue;
        if (t->state == PIPEI_POISONED)
            return pipei_poison_report(t->poison, err);
        if (t->state != PIPEI_NODE)
            continue;
        grow_tensors(&q->outs, &q->outs_capacity, q->n_outs);
        q->outs[q->n_outs++] = t;
        t->stamp = stamp;
    }
    for (size_t k = 0; k < e->n_assigns; k++)
        if (e->assigns[k].value->state == PIPEI_NODE)
            e->assigns[k].value->stamp = stamp;

    /* Inputs come before their users in the recording: one pass back marks all. */
    for (size_t k = e->n_list; k-- > 0;) {
        const pipe_tensor *t = e->list[k];
        if (t->state != PIPEI_NODE || t->stamp != stamp)
            continue;
        for (uint32_t j = 0; j < t->n_in; j++)
            if (t->in[j]->state == PIPEI_NODE)
                t->in[j]->stamp = stamp;
    }
    for (size_t k = 0; k < e->n_list; k++) {
        pipe_tensor *t = e->list[k];
        if (t->state != PIPEI_NODE || t->stamp != stamp)
            continue;
        t->slot = (uint32_t)q->n_nodes;
        grow_tensors(&q->nodes, &q->nodes_capacity, q->n_nodes);
        q->nodes[q->n_nodes++] = t;
        put_node(q, t, stamp);
    }
    for (size_t k = 0; k < q->n_outs; k++)
        put(q, (uint64_t)1 << 60 | q->outs[k]->slot);
    for (size_t k = 0; k < q->n_assigns; k++) {
        const uint64_t from = reference(q, q->assigns[k].value, stamp);
        const uint64_t leaf = reference(q, q->assigns[k].leaf, stamp);
        put(q, (uint64_t)1 << 59 | leaf);
        put(q, from);
    }
    q->hash = hash_words(q->key, q->n_key);
    return PIPE_OK;
}

/* ---- values ---- */

static bool same_use(const build *b, uint32_t x, uint32_t y)
{
    const value *v = &b->v[x], *w = &b->v[y];
    return v->t->op == w->t->op && v->n_in == w->n_in && v->t->n_int == w->t->n_int &&
           memcmp(v->in, w->in, v->n_in * sizeof *v->in) == 0 &&
           memcmp(v->t->attr->i, w->t->attr->i, v->t->n_int * sizeof v->t->attr->i[0]) == 0 &&
           pipe_shape_equal(&v->t->shape, &w->t->shape) && v->t->dtype == w->t->dtype;
}

static bool uses_scalars(const char *expression)
{
    for (const char *s = expression; *s; s++)
        if (*s == 'p' && s[1] >= '0' && s[1] <= '3')
            return true;
    return false;
}

/* Equal uses of an op are one value.  Not when floats or words decide: they are
 * equal now and may differ in the next run of the plan. */
static void merge_equal(build *b, uint32_t *merged)
{
    size_t capacity = 256;
    while (capacity < 2 * (size_t)b->n)
        capacity *= 2;
    uint32_t *table = pipe_arena_alloc(b->a, capacity * sizeof *table);
    memset(table, 0xff, capacity * sizeof *table);

    for (uint32_t k = 0; k < b->n; k++)
        merged[k] = k;
    for (uint32_t k = b->n_leaves; k < b->n; k++) {
        value *v = &b->v[k];
        for (uint32_t j = 0; j < v->n_in; j++)
            v->in[j] = merged[v->in[j]];
        if (v->t->op->expression ? uses_scalars(v->t->op->expression) : v->t->runtime_attr)
            continue;
        uint64_t h = (uint64_t)(uintptr_t)v->t->op * 0x9e3779b97f4a7c15u;
        for (uint32_t j = 0; j < v->n_in; j++)
            h = (h ^ v->in[j]) * 0xff51afd7ed558ccdu;
        size_t at = (h ^ h >> 32) & (capacity - 1);
        while (table[at] != NONE && !same_use(b, table[at], k))
            at = (at + 1) & (capacity - 1);
        if (table[at] == NONE)
            table[at] = k;
        else
            merged[k] = table[at];
    }
}

static bool window_of(const pipe_engine *e, pipe_tensor *t, int64_t *first)
{
    const pipe_op *op = t->op;
    const pipe_op_call c = {.op = op, .n_in = t->n_in, .in = t->in, .attr = t->attr, .out = t,
                            .engine = (pipe_engine *)e};
    const bool knows = op->size >= offsetof(pipe_op, window) + sizeof op->window;
    return knows && op->window && t->n_in == 1 && op->window(&c, first);
}

static void classify(build *b, uint32_t k)
{
    value *v = &b->v[k];
    int64_t first = 0;

    v->root = k;
    v->step = NONE;
    if (k < b->n_leaves) {
        v->kind = VALUE_LEAF;
        v->live = true;
        v->at = (place){.kind = PLACE_LEAF, .slot = k};
        return;
    }
    pipe_tensor *t = (pipe_tensor *)v->t;
    const pipe_op *op = t->op;
    const bool same = t->n_in && b->v[v->in[0]].t->count == t->count && b->v[v->in[0]].t->dtype == t->dtype;
    if ((same && (op->view || pipei_op_identity(op))) || window_of(b->e, t, &first)) {
        v->kind = VALUE_VIEW;
        v->root = b->v[v->in[0]].root;
        v->offset = b->v[v->in[0]].offset + first;
        return;
    }
    v->kind = op->expression ? VALUE_ELEMENTWISE : VALUE_LOWERED;
}

static void want(build *b, uint32_t id)
{
    value *v = &b->v[id];
    v->live = true;
    b->v[v->root].live = true;
    b->v[v->root].must_store = true;
}

/* What is alive after merging, and what has to be in memory. */
static void find_live(build *b, const uint32_t *merged)
{
    const request *q = b->q;
    for (size_t k = 0; k < q->n_outs; k++)
        want(b, merged[b->n_leaves + q->outs[k]->slot]);
    for (size_t k = 0; k < q->n_assigns; k++) {
        const pipe_tensor *t = q->assigns[k].value;
        if (t->state == PIPEI_NODE) {
            const uint32_t id = merged[b->n_leaves + t->slot];
            want(b, id);
            b->v[b->v[id].root].assigned = true;
        }
    }
    for (uint32_t k = b->n; k-- > b->n_leaves;) {
        const value *v = &b->v[k];
        if (!v->live)
            continue;
        const bool empty = v->t->count == 0;
        for (uint32_t j = 0; j < v->n_in; j++) {
            value *in = &b->v[v->in[j]];
            value *root = &b->v[in->root];
            if (empty && v->kind != VALUE_VIEW)
                continue;                       /* nothing is computed, so nothing is read */
            in->live = root->live = true;
            const bool window = in->offset != 0 || in->t->count != root->t->count;
            if (v->kind == VALUE_LOWERED || window)
                root->must_store = true;
        }
    }
}

static void make_values(build *b)
{
    const request *q = b->q;
    b->n_leaves = (uint32_t)q->n_leaves;
    b->n = b->n_leaves + (uint32_t)q->n_nodes;
    b->v = pipe_arena_alloc(b->a, (b->n + 1) * sizeof *b->v);
    uint32_t *merged = pipe_arena_alloc(b->a, (b->n + 1) * sizeof *merged);

    for (uint32_t k = 0; k < b->n_leaves; k++)
        b->v[k].t = q->leaves[k];
    for (uint32_t k = b->n_leaves; k < b->n; k++) {
        value *v = &b->v[k];
        v->t = q->nodes[k - b->n_leaves];
        v->n_in = v->t->n_in;
        v->in = pipe_arena_alloc(b->a, (v->n_in + 1) * sizeof *v->in);
        for (uint32_t j = 0; j < v->n_in; j++) {
            const pipe_tensor *in = v->t->in[j];
            v->in[j] = in->state == PIPEI_NODE ? b->n_leaves + in->slot : in->slot;
        }
    }
    merge_equal(b, merged);
    for (uint32_t k = 0; k < b->n; k++)
        classify(b, k);
    find_live(b, merged);
    b->merged = merged;
}

/* ---- steps ---- */

static void add_read(step *s, uint32_t root, bool same)
{
    for (uint32_t k = 0; k < s->n_reads; k++)
        if (s->reads[k] == root) {
            s->same_index[k] &= same;
            return;
        }
    s->reads[s->n_reads] = root;
    s->same_index[s->n_reads++] = same;
}

static void room_for_reads(build *b, step *s, size_t n)
{
    s->reads = pipe_arena_alloc(b->a, (n + 1) * sizeof *s->reads);
    s->same_index = pipe_arena_alloc(b->a, (n + 1) * sizeof *s->same_index);
}

static void lowered_step(build *b, uint32_t k)
{
    value *v = &b->v[k];
    step *s = &b->steps[b->n_steps];
    *s = (step){.id = k, .order = k, .n_writes = 1};
    s->writes = pipe_arena_alloc(b->a, sizeof *s->writes);
    s->writes[0] = k;
    room_for_reads(b, s, v->n_in);
    for (uint32_t j = 0; j < v->n_in; j++)
        add_read(s, b->v[v->in[j]].root, false);
    v->step = b->n_steps++;
}

static bool cluster_step(build *b, uint32_t k)
{
    step *s = &b->steps[b->n_steps];
    size_t most = 0, stored = 0;

    for (uint32_t m = k; m != NONE; m = b->v[m].next)
        stored += b->v[m].stored;
    if (stored == 0)
        return false;
    *s = (step){.is_cluster = true, .id = k};
    s->writes = pipe_arena_alloc(b->a, stored * sizeof *s->writes);
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1)
            room_for_reads(b, s, most);
        for (uint32_t m = k; m != NONE; m = b->v[m].next) {
            uint32_t n;
            const source *list = pipei_sources(b, m, &n, NULL);
            most += n;
            for (uint32_t j = 0; j < n && pass == 1; j++) {
                const value *root = &b->v[list[j].root];
                const bool inside = root->kind == VALUE_ELEMENTWISE && pipei_cluster_of(b, list[j].root) == k;
                if (!inside)
                    add_read(s, list[j].root, list[j].offset == 0 && pipei_pattern_linear(&list[j].p) &&
                                                  root->t->count == b->v[k].t->count);
            }
        }
    }
    for (uint32_t m = k; m != NONE; m = b->v[m].next) {
        if (m > s->order)
            s->order = m;
        if (b->v[m].stored) {
            s->writes[s->n_writes++] = m;
            b->v[m].step = b->n_steps;
        }
    }
    b->n_steps++;
    return true;
}

static pipe_status make_steps(build *b, pipe_error *err)
{
    b->steps = pipe_arena_alloc(b->a, (b->n + 1) * sizeof *b->steps);
    b->member_term = pipe_arena_alloc(b->a, (b->n + 1) * sizeof *b->member_term);
    memset(b->member_term, 0xff, (b->n + 1) * sizeof *b->member_term);
    /* Lowered ops first: what they launch tells whether elementwise ops may follow in
     * their kernels. */
    for (uint32_t k = b->n_leaves; k < b->n; k++)
        if (b->v[k].live && b->v[k].kind == VALUE_LOWERED && b->v[k].t->count) {
            lowered_step(b, k);
            PIPE_TRY(pipei_lower(b, &b->steps[b->n_steps - 1], err));
        }
    pipei_epilogues(b);
    for (uint32_t k = b->n_leaves; k < b->n; k++)
        if (b->v[k].live && b->v[k].kind == VALUE_ELEMENTWISE && b->v[k].t->count &&
            pipei_cluster_of(b, k) == k && cluster_step(b, k))
            PIPE_TRY(pipei_generate(b, &b->steps[b->n_steps - 1], err));
    return PIPE_OK;
}

/* ---- plans ---- */

static void plan_free(plan *p)
{
    if (!p)
        return;
    for (size_t k = 0; k < p->n_launches; k++)
        if (p->launches[k].kernel)
            clReleaseKernel(p->launches[k].kernel);
    pipe_arena_free(p->memory);
    pipe_free(p->key);
    pipe_free(p);
}

static pipe_status plan_make(pipe_engine *e, plan **out, pipe_error *err)
{
    const request *q = &e->request;
    build b = {.e = e, .q = q, .a = e->scratch};

    b.p = pipe_alloc(sizeof *b.p);
    b.p->memory = pipe_arena_new();
    b.p->hash = q->hash;
    b.p->n_key = q->n_key;
    b.p->key = pipe_alloc_array(q->n_key + 1, sizeof *b.p->key);
    memcpy(b.p->key, q->key, q->n_key * sizeof *q->key);

    make_values(&b);
    pipei_fuse(&b);
    pipe_status status = make_steps(&b, err);
    if (status == PIPE_OK)
        status = pipei_layout(&b, err);
    if (status == PIPE_OK)
        status = pipei_kernels_make(&b, err);
    pipe_arena_reset(e->scratch);
    if (status != PIPE_OK) {
        plan_free(b.p);
        return status;
    }
    *out = b.p;
    return PIPE_OK;
}

static plan **slot_of(pipe_engine *e, const plan *p)
{
    size_t at = p->hash & (e->plans_capacity - 1);
    while (e->plans[at] && e->plans[at] != p)
        at = (at + 1) & (e->plans_capacity - 1);
    return &e->plans[at];
}

static void rehash(pipe_engine *e, size_t capacity, const plan *without)
{
    plan **old = e->plans;
    const size_t n_old = e->plans_capacity;
    e->plans = pipe_alloc_array(capacity, sizeof *e->plans);
    e->plans_capacity = capacity;
    e->n_plans = 0;
    for (size_t k = 0; k < n_old; k++)
        if (old[k] && old[k] != without) {
            *slot_of(e, old[k]) = old[k];
            e->n_plans++;
        }
    pipe_free(old);
}

static void forget_oldest(pipe_engine *e)
{
    plan *oldest = NULL;
    for (size_t k = 0; k < e->plans_capacity; k++)
        if (e->plans[k] && (!oldest || e->plans[k]->used < oldest->used))
            oldest = e->plans[k];
    rehash(e, e->plans_capacity, oldest);
    plan_free(oldest);
}

pipe_status pipei_plan_get(pipe_engine *e, plan **out, pipe_error *err)
{
    const request *q = &e->request;

    *out = NULL;
    PIPE_TRY(make_request(e, err));
    if (q->n_outs == 0 && q->n_assigns == 0)
        return PIPE_OK;
    if (!e->plans)
        rehash(e, 2 * PLANS_KEPT, NULL);
    for (size_t at = q->hash & (e->plans_capacity - 1); e->plans[at];
         at = (at + 1) & (e->plans_capacity - 1)) {
        plan *p = e->plans[at];
        if (p->hash == q->hash && p->n_key == q->n_key &&
            memcmp(p->key, q->key, q->n_key * sizeof *q->key) == 0) {
            p->used = ++e->clock;
            *out = p;
            return PIPE_OK;
        }
    }

    plan *p = NULL;
    PIPE_TRY(plan_make(e, &p, err));
    e->stats.plans_built++;
    uint64_t arena = 0;
    for (size_t k = 0; k < p->n_chunks; k++)
        arena += p->chunk_bytes[k];
    if (arena > e->stats.arena_bytes)
        e->stats.arena_bytes = arena;
    pipe_log(PIPE_LOG_DEBUG, "engine", "plan of %zu ops: %zu launches, %.1f MiB of temporaries", q->n_nodes,
             p->n_launches, (double)arena / (1 << 20));

    if (e->n_plans == PLANS_KEPT)
        forget_oldest(e);
    p->used = ++e->clock;
    *slot_of(e, p) = p;
    e->n_plans++;
    *out = p;
    return PIPE_OK;
}

void pipei_plans_close(pipe_engine *e)
{
    for (size_t k = 0; k < e->plans_capacity; k++)
        plan_free(e->plans[k]);
    pipe_free(e->plans);
    e->plans = NULL;
    e->n_plans = e->plans_capacity = 0;
}
