/* Differentiation of the recording: reverse mode (pipe_grad), forward mode
 * (pipe_jvp).  Both record ordinary operations, so their results can be
 * differentiated again.
 *
 * A walk collects what y is computed from and sorts it by age, which is a
 * topological order.  Only nodes that depend on some x are differentiated.
 *
 * Nodes of a stretch between pipe_recompute_begin() and _end() are recorded a second
 * time when the reverse walk comes to them, from copies of what the stretch reads; the
 * copies wait for the adjoint that the walk brings, and so does all that is computed
 * from them.  The vjps see the second recording, the walk goes on over the first.
 *
 * Where an op has no vjp (jvp), its composed form is recorded and differentiated
 * as a function of the op's inputs: such a walk is "cut" at them, so that a path
 * from one input to another is not counted twice. */
#include "core/tensor/ops/ops.h"
#include "core/tensor/record.h"

#include <inttypes.h>
#include <stdlib.h>

typedef struct part {
    pipe_tensor *t;
    struct part *next;
} part;

typedef struct entry {
    pipe_tensor *t;
    part *first, *last;        /* reverse: contributions, in the order they came */
    pipe_tensor *tangent;      /* forward */
    pipe_tensor *again;        /* reverse: recorded again, or copied for a stretch */
    uint32_t again_in;         /* which stretch */
    size_t x;                  /* index into x, or SIZE_MAX */
    bool depends;              /* on some x */
} entry;

typedef struct walk {
    pipe_arena *arena;
    entry **order;             /* inputs before what uses them */
    size_t n, capacity;
    entry **table;             /* open addressing by address; a power of two */
    size_t table_size;
    pipe_tensor *const *x;
    size_t n_x;
    bool cut;                  /* do not look behind the x */
} walk;

/* ---- the walk ---- */
static entry **slot_of(const walk *w, const pipe_tensor *t)
{
    size_t k = (size_t)((uintptr_t)t / sizeof(pipe_tensor) * UINT64_C(0x9E3779B97F4A7C15) >> 20);
    while (w->table[k & (w->table_size - 1)] && w->table[k & (w->table_size - 1)]->t != t)
        k++;
    return &w->table[k & (w->table_size - 1)];
}

static entry *find(const walk *w, const pipe_tensor *t)
{
    return *slot_of(w, t);
}

static void grow_table(walk *w)
{
    w->table_size = w->table_size ? 2 * w->table_size : 256;
    w->table = pipe_realloc(w->table, w->table_size * sizeof *w->table);
    for (size_t k = 0; k < w->table_size; k++)
        w->table[k] = NULL;
    for (size_t k = 0; k < w->n; k++)
        *slot_of(w, w->order[k]->t) = w->order[k];
}

/* The entry of t; new ones are appended to `order`. */
static entry *visit(walk *w, pipe_tensor *t)
{
    if (2 * (w->n + 1) > w->table_size)
        grow_table(w);
    entry **slot = slot_of(w, t);
    if (*slot)
        return *slot;
    entry *e = pipe_arena_alloc(w->arena, sizeof *e);
    e->t = t;
    e->x = SIZE_MAX;
    *slot = e;
    if (w->n == w->capacity) {
        w->capacity = w->capacity ? 2 * w->capacity : 128;
        w->order = pipe_realloc(w->order, w->capacity * sizeof *w->order);
    }
    w->order[w->n++] = e;
    return e;
}

static size_t inputs_of(const walk *w, const entry *e)
{
    return e->t->state != PIPEI_NODE || (w->cut && e->x != SIZE_MAX) ? 0 : e->t->n_in;
}

/* Leaves are as old as can be. */
static int by_age(const void *a, const void *b)
{
    const pipe_tensor *s = (*(entry *const *)a)->t, *t = (*(entry *const *)b)->t;
    const uint64_t i = s->state == PIPEI_NODE ? s->index + UINT64_C(1) : 0;
    const uint64_t j = t->state == PIPEI_NODE ? t->index + UINT64_C(1) : 0;
    return (i > j) - (i < j);
}

static void walk_open(walk *w, pipe_tensor *y, pipe_tensor *const *x, size_t n_x, bool cut)
{
    *w = (walk){.arena = pipe_arena_new(), .x = x, .n_x = n_x, .cut = cut};
    for (size_t k = 0; k < n_x; k++) {
        entry *e = visit(w, x[k]);
        if (e->x == SIZE_MAX)              /* the same tensor twice: the first counts */
            e->x = k;
    }
    visit(w, y);
    /* `order` is at first the queue of a breadth-first search. */
    for (size_t k = 0; k < w->n; k++)
        for (size_t j = 0; j < inputs_of(w, w->order[k]); j++)
            visit(w, w->order[k]->t->in[j]);
    qsort(w->order, w->n, sizeof *w->order, by_age);
    for (size_t k = 0; k < w->n; k++) {
        entry *e = w->order[k];
        e->depends = e->x != SIZE_MAX;
        for (size_t j = 0; j < inputs_of(w, e) && !e->depends; j++)
            e->depends = find(w, e->t->in[j])->depends;
    }
}

static void walk_close(walk *w)
{
    pipe_free(w->order);
    pipe_free(w->table);
    pipe_arena_free(w->arena);
}

static pipe_op_call call_of(pipe_tensor *t)
{
    return (pipe_op_call){
        .op = t->op, .n_in = t->n_in, .in = t->in, .attr = t->attr, .out = t, .engine = t->engine};
}

/* ---- reverse mode ---- */
static void contribute(walk *w, entry *e, pipe_tensor *t)
{
    part *p = pipe_arena_alloc(w->arena, sizeof *p);
    p->t = t;
    if (e->last)
        e->last->next = p;
    else
        e->first = p;
    e->last = p;
}

/* A slice's adjoint within a vector: zeros around one piece. */
static bool is_piece(const pipe_tensor *t)
{
    return t->state == PIPEI_NODE && t->op == &pipei_op_pad && t->shape.rank == 1 && t->attr->i[3] == 0;
}

static int64_t piece_start(const pipe_tensor *t)
{
    return t->attr->i[1];
}

static int64_t piece_end(const pipe_tensor *t)
{
    return t->attr->i[1] + t->in[0]->shape.dim[0];
}

static int by_start(const void *a, const void *b)
{
    const pipe_tensor *s = *(pipe_tensor *const *)a, *t = *(pipe_tensor *const *)b;
    const int64_t i = piece_start(s), j = piece_start(t);
    return i != j ? (i > j) - (i < j) : (s->index > t->index) - (s->index < t->index);
}

/* Pieces of a vector that do not overlap are laid side by side: the gradient of a
 * parameter slab, of which hundreds of slices are used, is one concat instead of
 * hundreds of sums of vectors that are zero nearly everywhere.  Pieces at the same
 * place are added first (shared weights).  NULL when others overlap. */
static pipe_tensor *join_pieces(walk *w, pipe_tensor **pieces, size_t n)
{
    qsort(pieces, n, sizeof *pieces, by_start);
    for (size_t k = 1; k < n; k++) {
        const bool same = piece_start(pieces[k]) == piece_start(pieces[k - 1]) &&
                          piece_end(pieces[k]) == piece_end(pieces[k - 1]);
        if (!same && piece_start(pieces[k]) < piece_end(pieces[k - 1]))
            return NULL;
    }
    pipe_engine *e = pieces[0]->engine;
    const int64_t size = pieces[0]->shape.dim[0];
    pipe_tensor **side_by_side = pipe_arena_alloc(w->arena, (2 * n + 1) * sizeof *side_by_side);
    size_t count = 0;
    int64_t end = 0;
    for (size_t k = 0; k < n;) {
        const int64_t start = piece_start(pieces[k]), stop = piece_end(pieces[k]);
        if (start > end)
            side_by_side[count++] = pipe_zeros(e, PIPE_SHAPE(start - end));
        pipe_tensor *sum = pieces[k]->in[0];
        for (k++; k < n && piece_start(pieces[k]) == start && piece_end(pieces[k]) == stop; k++)
            sum = pipe_add(sum, pieces[k]->in[0]);
        side_by_side[count++] = sum;
        end = stop;
    }
    if (end < size)
        side_by_side[count++] = pipe_zeros(e, PIPE_SHAPE(size - end));
    return pipe_concat(side_by_side, count, 0);
}

/* The sum of all contributions; NULL when there are none. */
static pipe_tensor *total(walk *w, const entry *e)
{
    if (!e->first || !e->first->next)
        return e->first ? e->first->t : NULL;
    size_t n = 0, pieces = 0;
    for (part *p = e->first; p; p = p->next, n++)
        pieces += is_piece(p->t);
    pipe_tensor *sum = NULL;
    if (pieces > 1) {
        pipe_tensor **list = pipe_arena_alloc(w->arena, pieces * sizeof *list);
        pieces = 0;
        for (part *p = e->first; p; p = p->next)
            if (is_piece(p->t))
                list[pieces++] = p->t;
        sum = join_pieces(w, list, pieces);
    }
    const bool joined = sum;
    for (part *p = e->first; p; p = p->next)
        if (!joined || !is_piece(p->t))
            sum = sum ? pipe_add(sum, p->t) : p->t;
    return sum;
}

static pipe_status grad(pipe_tensor *y, pipe_tensor *gy, pipe_tensor *const *x, size_t n, bool cut,
                        pipe_tensor **gx, pipe_error *err);

/* gx[k] where needs[k]; NULL where it is zero. */
static pipe_status op_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs,
                          pipe_error *err)
{
    if (c->op->vjp) {
        c->op->vjp(c, gy, gx, needs);
        return PIPE_OK;
    }
    if (!c->op->composed)
        return pipe_fail(err, PIPE_EUNSUPPORTED,
                         "op %s has neither a vjp nor a composed form to differentiate", c->op->name);
    pipe_tensor *y = c->op->composed(c);
    PIPE_TRY(pipe_check(y, err));
    return grad(y, gy, c->in, c->n_in, true, gx, err);
}

static pipe_status check_adjoint(const pipe_op_call *c, size_t k, const pipe_tensor *g, pipe_error *err)
{
    PIPE_TRY(pipe_check(g, err));
    if (pipe_shape_equal(&g->shape, &c->in[k]->shape) && g->dtype == PIPE_F32)
        return PIPE_OK;
    char have[PIPE_SHAPE_TEXT], want[PIPE_SHAPE_TEXT];
    return pipe_fail(err, PIPE_EPLUGIN, "op %s: its vjp gave %s for input %zu, whose shape is %s",
                     c->op->name, pipe_shape_text(&g->shape, have, sizeof have), k,
                     pipe_shape_text(&c->in[k]->shape, want, sizeof want));
}

/* What stands for t in the backward pass of a stretch: outside of it a copy that waits
 * for `gate`, inside the same use of what stands for its inputs. */
static pipe_tensor *again(walk *w, pipe_tensor *t, uint32_t within, pipe_tensor *gate)
{
    entry *e = find(w, t);
    if (t->state != PIPEI_NODE || e->x != SIZE_MAX)    /* in memory anyway */
        return t;
    if (e->again && e->again_in == within)
        return e->again;
    e->again_in = within;
    if (pipei_stretch_of(t) != within)
        return e->again = pipei_after(t, gate);
    pipe_tensor **in = pipe_arena_alloc(w->arena, (t->n_in + 1) * sizeof *in);
    for (size_t k = 0; k < t->n_in; k++)
        in[k] = again(w, t->in[k], within, gate);
    return e->again = pipe_op_apply(t->engine, t->op, in, t->n_in, t->attr);
}

/* Sends the adjoint g of e's tensor on to its inputs. */
static pipe_status push_back(walk *w, entry *e, pipe_tensor *g, pipe_error *err)
{
    const size_t n = inputs_of(w, e);
    const uint32_t within = w->cut ? 0 : pipei_stretch_of(e->t);
    if (n == 0)
        return PIPE_OK;
    pipe_tensor *t = within ? again(w, e->t, within, g) : e->t;
    PIPE_TRY(pipe_check(t, err));
    const pipe_op_call c = call_of(t);
    pipe_tensor **gx = pipe_arena_alloc(w->arena, n * sizeof *gx);
    bool *needs = pipe_arena_alloc(w->arena, n * sizeof *needs), any = false;
    for (size_t k = 0; k < n; k++) {
        needs[k] = find(w, e->t->in[k])->depends && c.in[k]->dtype == PIPE_F32;
        any = any || needs[k];
    }
    if (!any)
        return PIPE_OK;
    PIPE_TRY(op_vjp(&c, g, gx, needs, err));
    for (size_t k = 0; k < n; k++) {
        if (!gx[k] || !needs[k])
            continue;
        PIPE_TRY(check_adjoint(&c, k, gx[k], err));
        contribute(w, find(w, e->t->in[k]), gx[k]);
    }
    return PIPE_OK;
}

static pipe_status run_back(walk *w, pipe_tensor *y, pipe_tensor *gy, pipe_tensor **gx, pipe_error *err)
{
    contribute(w, find(w, y), gy);
    for (size_t k = w->n; k-- > 0;) {
        entry *e = w->order[k];
        pipe_tensor *g = e->depends ? total(w, e) : NULL;
        if (!g)
            continue;
        PIPE_TRY(pipe_check(g, err));
        if (e->x != SIZE_MAX)
            gx[e->x] = g;
        PIPE_TRY(push_back(w, e, g, err));
    }
    return PIPE_OK;
}

/* gx[k] stays NULL where y does not depend on x[k]. */
static pipe_status grad(pipe_tensor *y, pipe_tensor *gy, pipe_tensor *const *x, size_t n, bool cut,
                        pipe_tensor **gx, pipe_error *err)
{
    walk w;
    walk_open(&w, y, x, n, cut);
    const pipe_status status = run_back(&w, y, gy, gx, err);
    walk_close(&w);
    return status;
}

static pipe_status check_grad(pipe_tensor *y, pipe_tensor *gy, pipe_tensor *const *x, size_t n,
                              pipe_error *err)
{
    char a[PIPE_SHAPE_TEXT], b[PIPE_SHAPE_TEXT];
    PIPE_TRY(pipe_check(y, err));
    if (y->dtype != PIPE_F32)
        return pipe_fail(err, PIPE_ESHAPE, "grad: the result to differentiate is i32, which has no gradient");
    if (gy) {
        PIPE_TRY(pipe_check(gy, err));
        if (!pipe_shape_equal(&gy->shape, &y->shape) || gy->dtype != PIPE_F32)
            return pipe_fail(err, PIPE_ESHAPE, "grad: the weights %s do not have the result's shape %s",
                             pipe_shape_text(&gy->shape, a, sizeof a),
                             pipe_shape_text(&y->shape, b, sizeof b));
    }
    for (size_t k = 0; k < n; k++) {
        PIPE_TRY(pipe_check(x[k], err));
        if (x[k]->dtype != PIPE_F32)
            return pipe_fail(err, PIPE_ESHAPE, "grad: x[%zu], %s, is i32, which has no gradient", k,
                             pipe_shape_text(&x[k]->shape, a, sizeof a));
        if (x[k]->engine != y->engine)
            return pipe_fail(err, PIPE_EINVAL, "grad: x[%zu] belongs to another engine", k);
    }
    return PIPE_OK;
}

pipe_status pipe_grad(pipe_tensor *y, pipe_tensor *gy, pipe_tensor *const *x, size_t n, pipe_tensor **gx,
                      pipe_error *err)
{
    PIPE_TRY(check_grad(y, gy, x, n, err));
    if (n == 0)
        return PIPE_OK;
    PIPE_CLEANUP(pipe_free_ptr) pipe_tensor **found = pipe_alloc_array(n, sizeof *found);
    PIPE_TRY(grad(y, gy ? gy : pipe_ones_like(y), x, n, false, found, err));
    for (size_t k = 0; k < n; k++) {
        /* A tensor named twice has its gradient in the first place. */
        for (size_t j = 0; j < k && !found[k]; j++)
            if (x[j] == x[k])
                found[k] = found[j];
        gx[k] = found[k] ? found[k] : pipe_zeros_like(x[k]);
    }
    return PIPE_OK;
}

/* ---- forward mode ---- */
static pipe_tensor *jvp(pipe_tensor *y, pipe_tensor *const *x, pipe_tensor *const *dx, size_t n, bool cut,
                        pipe_status *status, pipe_error *err);

/* J v of an op that knows only J' u: J' u is linear in u, so the derivative of
 * <J' u, v> with respect to u, at any u, is J v. */
static pipe_tensor *transposed_twice(const pipe_op_call *c, pipe_tensor *const *dx, pipe_status *status,
                                     pipe_error *err)
{
    pipe_tensor *u = pipe_zeros(c->engine, c->out->shape), *sum = NULL, *v = NULL;
    pipe_tensor **gx = pipe_alloc_array(c->n_in, sizeof *gx);
    bool *needs = pipe_alloc_array(c->n_in, sizeof *needs);
    for (size_t k = 0; k < c->n_in; k++)
        needs[k] = dx[k];
    c->op->vjp(c, u, gx, needs);
    for (size_t k = 0; k < c->n_in; k++) {
        if (!gx[k] || !dx[k])
            continue;
        pipe_tensor *product = pipe_sum_all(pipe_mul(gx[k], dx[k]));
        sum = sum ? pipe_add(sum, product) : product;
    }
    pipe_free(gx);
    pipe_free(needs);
    if (sum && (*status = pipe_check(sum, err)) == PIPE_OK)
        *status = grad(sum, pipe_ones_like(sum), &u, 1, true, &v, err);
    return v;
}

/* The output's tangent, NULL when it is zero. */
static pipe_tensor *op_jvp(const pipe_op_call *c, pipe_tensor *const *dx, pipe_status *status,
                           pipe_error *err)
{
    if (c->op->jvp)
        return c->op->jvp(c, dx);
    if (c->op->composed) {
        pipe_tensor *y = c->op->composed(c);
        if ((*status = pipe_check(y, err)) != PIPE_OK)
            return NULL;
        return jvp(y, c->in, dx, c->n_in, true, status, err);
    }
    if (c->op->vjp)
        return transposed_twice(c, dx, status, err);
    *status = pipe_fail(err, PIPE_EUNSUPPORTED,
                        "op %s has no derivative: neither jvp, vjp nor a composed form", c->op->name);
    return NULL;
}

static pipe_tensor *push_forward(walk *w, entry *e, pipe_status *status, pipe_error *err)
{
    const size_t n = inputs_of(w, e);
    pipe_tensor **dx = pipe_arena_alloc(w->arena, (n + 1) * sizeof *dx);
    bool any = false;
    for (size_t k = 0; k < n; k++) {
        dx[k] = find(w, e->t->in[k])->tangent;
        any = any || dx[k];
    }
    if (!any || e->t->dtype != PIPE_F32)
        return NULL;
    const pipe_op_call c = call_of(e->t);
    pipe_tensor *t = op_jvp(&c, dx, status, err);
    if (!t || *status != PIPE_OK || (*status = pipe_check(t, err)) != PIPE_OK)
        return NULL;
    if (!pipe_shape_equal(&t->shape, &e->t->shape)) {
        char have[PIPE_SHAPE_TEXT], want[PIPE_SHAPE_TEXT];
        *status = pipe_fail(err, PIPE_EPLUGIN, "op %s: its jvp gave %s for an output of shape %s", c.op->name,
                            pipe_shape_text(&t->shape, have, sizeof have),
                            pipe_shape_text(&e->t->shape, want, sizeof want));
    }
    return t;
}

/* NULL where y does not depend on x, or *status says what went wrong.  dx[k] may be
 * NULL: zero. */
static pipe_tensor *jvp(pipe_tensor *y, pipe_tensor *const *x, pipe_tensor *const *dx, size_t n, bool cut,
                        pipe_status *status, pipe_error *err)
{
    walk w;
    walk_open(&w, y, x, n, cut);
    for (size_t k = 0; k < w.n && *status == PIPE_OK; k++) {
        entry *e = w.order[k];
        if (!e->depends)
            continue;
        e->tangent = push_forward(&w, e, status, err);
        /* x[k] may itself depend on another x: its own direction comes on top. */
        if (e->x != SIZE_MAX && dx[e->x])
            e->tangent = e->tangent ? pipe_add(e->tangent, dx[e->x]) : dx[e->x];
    }
    pipe_tensor *t = *status == PIPE_OK ? find(&w, y)->tangent : NULL;
    walk_close(&w);
    return t;
}

pipe_tensor *pipe_jvp(pipe_tensor *y, pipe_tensor *const *x, pipe_tensor *const *dx, size_t n)
{
    PIPEI_SOUND(y);
    char a[PIPE_SHAPE_TEXT], b[PIPE_SHAPE_TEXT];
    for (size_t k = 0; k < n; k++) {
        PIPEI_SOUND(x[k]);
        PIPEI_SOUND(dx[k]);
        if (!pipe_shape_equal(&x[k]->shape, &dx[k]->shape) || x[k]->dtype != PIPE_F32 ||
            dx[k]->dtype != PIPE_F32)
            return pipe_poison(y->engine, PIPE_ESHAPE,
                               "jvp: the direction %s does not have the shape of x[%zu], f32 %s",
                               pipe_shape_text(&dx[k]->shape, a, sizeof a), k,
                               pipe_shape_text(&x[k]->shape, b, sizeof b));
    }
    pipe_error err = PIPE_ERROR_INIT;
    pipe_status status = PIPE_OK;
    pipe_tensor *t = jvp(y, x, dx, n, false, &status, &err);
    if (status != PIPE_OK)
        return pipe_poison(y->engine, status, "jvp: %s", err.message);
    return t ? t : pipe_zeros_like(y);
}
