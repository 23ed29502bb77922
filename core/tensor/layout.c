/* Order of the steps, and where every value lives.
 *
 * Steps run in the order in which they were recorded, as far as fusion allows.
 * Temporaries share an arena: each gets the lowest address that nobody alive at
 * the same time has, the largest first (Pisarchyk and Lee 2020, arXiv:2001.03288,
 * "greedy by size": within a few per cent of the lower bound there and here). */
#include "core/tensor/build.h"

#include <stdlib.h>
#include <string.h>

enum { NONE = UINT32_MAX, ALIGNMENT = 128 };

/* ---- order ---- */

typedef struct heap {
    const step *steps;
    uint32_t *item, n;
} heap;

static bool before(const heap *h, uint32_t a, uint32_t b)
{
    return h->steps[h->item[a]].order < h->steps[h->item[b]].order;
}

static void swap_items(heap *h, uint32_t a, uint32_t b)
{
    const uint32_t t = h->item[a];
    h->item[a] = h->item[b];
    h->item[b] = t;
}

static void push(heap *h, uint32_t s)
{
    uint32_t k = h->n++;
    h->item[k] = s;
    for (; k && before(h, k, (k - 1) / 2); k = (k - 1) / 2)
        swap_items(h, k, (k - 1) / 2);
}

static uint32_t pop(heap *h)
{
    const uint32_t top = h->item[0];
    h->item[0] = h->item[--h->n];
    for (uint32_t k = 0;;) {
        uint32_t least = k;
        for (uint32_t c = 2 * k + 1; c <= 2 * k + 2 && c < h->n; c++)
            if (before(h, c, least))
                least = c;
        if (least == k)
            return top;
        swap_items(h, k, least);
        k = least;
    }
}

static pipe_status sort_steps(build *b, pipe_error *err)
{
    uint32_t *waits = pipe_arena_alloc(b->a, (b->n_steps + 1) * sizeof *waits);
    uint32_t *first = pipe_arena_alloc(b->a, (b->n_steps + 2) * sizeof *first);
    uint32_t total = 0, done = 0;
    heap h = {.steps = b->steps};

    for (uint32_t s = 0; s < b->n_steps; s++)
        for (uint32_t k = 0; k < b->steps[s].n_reads; k++) {
            const uint32_t from = b->v[b->steps[s].reads[k]].step;
            if (from != NONE)
                waits[s]++, first[from + 1]++, total++;
        }
    uint32_t *next = pipe_arena_alloc(b->a, (total + 1) * sizeof *next);
    for (uint32_t s = 0; s < b->n_steps; s++)
        first[s + 1] += first[s];
    uint32_t *fill = pipe_arena_alloc(b->a, (b->n_steps + 1) * sizeof *fill);
    memcpy(fill, first, b->n_steps * sizeof *fill);
    for (uint32_t s = 0; s < b->n_steps; s++)
        for (uint32_t k = 0; k < b->steps[s].n_reads; k++) {
            const uint32_t from = b->v[b->steps[s].reads[k]].step;
            if (from != NONE)
                next[fill[from]++] = s;
        }

    h.item = pipe_arena_alloc(b->a, (b->n_steps + 1) * sizeof *h.item);
    b->sorted = pipe_arena_alloc(b->a, (b->n_steps + 1) * sizeof *b->sorted);
    for (uint32_t s = 0; s < b->n_steps; s++)
        if (waits[s] == 0)
            push(&h, s);
    while (h.n) {
        const uint32_t s = pop(&h);
        b->sorted[done++] = s;
        for (uint32_t k = first[s]; k < first[s + 1]; k++)
            if (--waits[next[k]] == 0)
                push(&h, next[k]);
    }
    if (done != b->n_steps)
        return pipe_fail(err, PIPE_EINVAL, "internal error: fusion made a cycle of kernels");
    for (uint32_t k = 0; k < done; k++)
        b->steps[b->sorted[k]].order = k;      /* from now on: when it runs */
    return PIPE_OK;
}

/* ---- homes of what outlives the plan ---- */

static uint32_t new_out(build *b, const pipe_tensor *t)
{
    b->p->out_bytes[b->p->n_out] = (size_t)t->count * 4;
    return (uint32_t)b->p->n_out++;
}

/* An output that is a copy of something which has a home already. */
static uint32_t copied_out(build *b, uint32_t id, bool *keeps_alive)
{
    plan *p = b->p;
    const value *v = &b->v[id];
    const value *root = &b->v[v->root];
    const uint32_t slot = new_out(b, v->t);
    const copy c = {.to = {.kind = PLACE_OUT, .slot = slot}, .from_offset = (size_t)v->offset * 4,
                    .bytes = (size_t)v->t->count * 4};

    if (root->kind == VALUE_LEAF) {
        /* Before anything runs: a step may overwrite the leaf. */
        p->before[p->n_before] = c;
        p->before[p->n_before++].from = root->at;
    } else {
        p->after[p->n_after] = c;
        p->after[p->n_after++].from = (place){.slot = v->root};    /* its place is known later */
        keeps_alive[v->root] = true;
    }
    return slot;
}

static uint32_t home(build *b, uint32_t id, bool *keeps_alive)
{
    const value *v = &b->v[id];
    value *root = &b->v[v->root];

    if (root->kind != VALUE_LEAF && root->at.kind == PLACE_NONE && v->offset == 0 &&
        v->t->count == root->t->count) {
        root->at = (place){.kind = PLACE_OUT, .slot = new_out(b, v->t)};
        return root->at.slot;
    }
    return copied_out(b, id, keeps_alive);
}

/* Whether the step that computes the value may write it over the leaf: nobody reads
 * the leaf later, and the step itself reads each element only where it writes it. */
static bool may_overwrite(const build *b, uint32_t leaf, uint32_t id)
{
    const value *v = &b->v[id];
    const value *root = &b->v[v->root];

    if (root->kind != VALUE_ELEMENTWISE || root->at.kind != PLACE_NONE || root->step == NONE ||
        v->offset != 0 || v->t->count != root->t->count)
        return false;
    for (uint32_t s = 0; s < b->n_steps; s++) {
        const step *r = &b->steps[s];
        for (uint32_t k = 0; k < r->n_reads; k++)
            if (r->reads[k] == leaf && !(r->order < b->steps[root->step].order ||
                                         (s == root->step && r->same_index && r->same_index[k])))
                return false;
    }
    return true;
}

static void choose_homes(build *b, bool *keeps_alive)
{
    plan *p = b->p;
    const request *q = b->q;
    const size_t most = q->n_outs + q->n_assigns + 1;

    p->out_bytes = pipe_arena_alloc(p->memory, most * sizeof *p->out_bytes);
    p->before = pipe_arena_alloc(p->memory, most * sizeof *p->before);
    p->after = pipe_arena_alloc(p->memory, most * sizeof *p->after);
    p->kept_out = pipe_arena_alloc(p->memory, most * sizeof *p->kept_out);
    p->assign_out = pipe_arena_alloc(p->memory, most * sizeof *p->assign_out);
    for (size_t k = 0; k < q->n_outs; k++)
        p->kept_out[k] = home(b, b->merged[b->n_leaves + q->outs[k]->slot], keeps_alive);
    for (size_t k = 0; k < q->n_assigns; k++) {
        const uint32_t leaf = q->assigns[k].leaf->slot;
        const pipe_tensor *t = q->assigns[k].value;
        const uint32_t id = t->state == PIPEI_NODE ? b->merged[b->n_leaves + t->slot] : t->slot;
        if (may_overwrite(b, leaf, id)) {
            b->v[b->v[id].root].at = (place){.kind = PLACE_LEAF, .slot = leaf};
            p->assign_out[k] = NONE;
        } else {
            p->assign_out[k] = home(b, id, keeps_alive);
        }
    }
}

/* ---- the arena ---- */

typedef struct item {
    size_t bytes, offset;
    uint32_t chunk, first, last;
    place *at;
    uint32_t id;              /* breaks ties: the layout must not depend on qsort */
} item;

static int larger_first(const void *a, const void *b)
{
    const item *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

/* The lowest free address of the chunk for `it`; placed[] is in order of address. */
static size_t lowest_gap(const item *const *placed, size_t n, const item *it)
{
    size_t at = 0;
    for (size_t k = 0; k < n; k++) {
        const item *o = placed[k];
        if (o->last < it->first || it->last < o->first)
            continue;
        if (o->offset >= at + it->bytes)
            break;
        if (o->offset + o->bytes > at)
            at = o->offset + o->bytes;
    }
    return at;
}

typedef struct chunk_items {
    item **placed;
    size_t n, top;
} chunk_items;

static pipe_status place_items(build *b, item *items, uint32_t n, pipe_error *err)
{
    plan *p = b->p;
    const size_t device_limit = pipei_device_describe(b->e->device)->max_allocation;
    const size_t limit = device_limit ? device_limit / ALIGNMENT * ALIGNMENT : SIZE_MAX / 2;
    const bool exact = pipei_device_exact_memory(b->e->device);
    chunk_items *chunks = NULL;
    size_t n_chunks = 0;

    qsort(items, n, sizeof *items, larger_first);
    for (uint32_t k = 0; k < n; k++) {
        item *it = &items[k];
        if (it->bytes > limit) {
            pipe_free(chunks);
            return pipe_fail(err, PIPE_ENOMEM,
                             "a tensor of %zu bytes is larger than the device allows for one "
                             "buffer (%zu bytes): a smaller batch or image needs less",
                             it->bytes, limit);
        }
        for (size_t c = exact ? n_chunks : 0;; c++) { /* exact: a buffer of its own */
            if (c == n_chunks) {
                chunks = pipe_realloc(chunks, ++n_chunks * sizeof *chunks);
                chunks[c] = (chunk_items){.placed = pipe_arena_alloc(b->a, (n + 1) * sizeof(item *))};
            }
            chunk_items *ch = &chunks[c];
            const size_t at = lowest_gap((const item *const *)ch->placed, ch->n, it);
            if (at + it->bytes > limit)
                continue;
            it->offset = at;
            it->chunk = (uint32_t)c;
            size_t pos = ch->n++;
            for (; pos && ch->placed[pos - 1]->offset > at; pos--)
                ch->placed[pos] = ch->placed[pos - 1];
            ch->placed[pos] = it;
            if (at + it->bytes > ch->top)
                ch->top = at + it->bytes;
            break;
        }
        *it->at = (place){.kind = PLACE_ARENA, .slot = it->chunk, .offset = it->offset};
    }
    p->n_chunks = n_chunks;
    p->chunk_bytes = pipe_arena_alloc(p->memory, (n_chunks + 1) * sizeof *p->chunk_bytes);
    for (size_t c = 0; c < n_chunks; c++)
        p->chunk_bytes[c] = chunks[c].top;
    pipe_free(chunks);
    return PIPE_OK;
}

static size_t padded(const build *b, int64_t count)
{
    const size_t bytes = (size_t)(count > 0 ? count : 1) * 4;
    if (pipei_device_exact_memory(b->e->device))
        return bytes;
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static pipe_status fill_arena(build *b, const bool *keeps_alive, pipe_error *err)
{
    item *items = pipe_arena_alloc(b->a, (b->n + b->n_scratches + 1) * sizeof *items);
    uint32_t *item_of = pipe_arena_alloc(b->a, (b->n + 1) * sizeof *item_of);
    uint32_t n = 0;

    for (uint32_t k = b->n_leaves; k < b->n; k++) {
        value *v = &b->v[k];
        item_of[k] = NONE;
        if (!v->live || v->kind == VALUE_VIEW || v->at.kind != PLACE_NONE)
            continue;
        const bool empty = v->t->count == 0;       /* never written, but kernels take its address */
        if (!empty && v->step == NONE)
            continue;
        item_of[k] = n;
        items[n++] = (item){.bytes = padded(b, v->t->count), .at = &v->at, .id = k,
                            .first = empty ? 0 : b->steps[v->step].order,
                            .last = empty || keeps_alive[k] ? b->n_steps : b->steps[v->step].order};
    }
    for (uint32_t s = 0; s < b->n_steps; s++)
        for (uint32_t k = 0; k < b->steps[s].n_reads; k++) {
            const uint32_t it = item_of[b->steps[s].reads[k]];
            if (it != NONE && items[it].last < b->steps[s].order)
                items[it].last = b->steps[s].order;
        }
    plan *p = b->p;
    p->derived = pipe_arena_alloc(p->memory, (b->n_scratches + 1) * sizeof *p->derived);
    for (uint32_t k = 0; k < b->n_scratches; k++) {
        scratch *s = &b->scratches[k];
        if (s->derived) {
            s->at = (place){.kind = PLACE_DERIVED, .slot = (uint32_t)p->n_derived};
            p->derived[p->n_derived++] = (plan_derived){.leaf = s->leaf, .bytes = padded(b, (int64_t)s->count)};
            continue;
        }
        const uint32_t at = b->steps[s->step].order;
        items[n++] = (item){
            .bytes = padded(b, (int64_t)s->count), .at = &s->at, .id = b->n + k, .first = at, .last = at};
    }
    return place_items(b, items, n, err);
}

pipe_status pipei_layout(build *b, pipe_error *err)
{
    plan *p = b->p;
    bool *keeps_alive = pipe_arena_alloc(b->a, (b->n + 1) * sizeof *keeps_alive);

    PIPE_TRY(sort_steps(b, err));
    choose_homes(b, keeps_alive);
    PIPE_TRY(fill_arena(b, keeps_alive, err));
    for (size_t k = 0; k < p->n_after; k++)
        p->after[k].from = b->v[p->after[k].from.slot].at;
    return PIPE_OK;
}
