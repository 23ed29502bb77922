/* Recording: tensors from a pool, nodes with their inputs, holds, poison. */
#include "core/tensor/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { TENSOR_BLOCK = 256 };

static const pipe_attr no_attr;
static const pipe_shape scalar_shape;

/* What an operation answers when there is no engine to record it on, that is when
 * all its inputs are NULL.  Never changed: holding it does nothing. */
static pipe_tensor nowhere = {.state = PIPEI_POISONED, .count = 1};
static const char nowhere_message[] = "an operation was given NULL instead of a tensor";

/* ---- shapes ---- */

/* Whether the elements can be counted, in bytes too. */
static bool countable(const pipe_shape *s, int64_t *count)
{
    int64_t n = 1, bytes;
    bool fits = s->rank <= PIPE_MAX_RANK, empty = false;
    for (uint32_t k = 0; fits && k < s->rank; k++) {
        empty |= s->dim[k] == 0;
        fits = s->dim[k] >= 0;
    }
    for (uint32_t k = 0; fits && !empty && k < s->rank; k++)
        fits = !__builtin_mul_overflow(n, s->dim[k], &n);
    *count = empty ? 0 : n;
    return fits && !__builtin_mul_overflow(n, (int64_t)4, &bytes);
}

/* ---- what a tensor is ---- */

const pipe_shape *pipe_tensor_shape(const pipe_tensor *t) { return t ? &t->shape : &scalar_shape; }
pipe_dtype pipe_tensor_dtype(const pipe_tensor *t) { return t ? t->dtype : PIPE_F32; }
pipe_engine *pipe_tensor_engine(const pipe_tensor *t) { return t ? t->engine : NULL; }
int64_t pipe_count(const pipe_tensor *t) { return t ? t->count : 0; }
uint32_t pipe_rank(const pipe_tensor *t) { return t ? t->shape.rank : 0; }

int64_t pipe_dim(const pipe_tensor *t, int axis)
{
    const int rank = (int)pipe_rank(t);
    const int k = axis < 0 ? axis + rank : axis;
    return k >= 0 && k < rank ? t->shape.dim[k] : 0;
}

/* ---- the pool ---- */

static void push_free(pipe_engine *e, pipe_tensor *t)
{
    t->state = PIPEI_FREE;
    t->op = NULL;
    t->next = NULL;
    if (e->free_last)
        e->free_last->next = t;
    else
        e->free_first = t;
    e->free_last = t;
}

static pipe_tensor *tensor_new(pipe_engine *e)
{
    if (!e->free_first) {
        pipe_tensor *block = pipe_alloc_array(TENSOR_BLOCK, sizeof *block);
        e->blocks = pipe_realloc(e->blocks, (e->n_blocks + 1) * sizeof *e->blocks);
        e->blocks[e->n_blocks++] = block;
        for (size_t k = 0; k < TENSOR_BLOCK; k++)
            push_free(e, &block[k]);
    }
    pipe_tensor *t = e->free_first;
    e->free_first = t->next;
    if (!e->free_first)
        e->free_last = NULL;
    *t = (pipe_tensor){.engine = e, .attr = &no_attr};
    return t;
}

/* Gives back what `t` owns. */
static void tensor_clear(pipe_tensor *t)
{
    if (t->state == PIPEI_LEAF) {
        pipei_derived_free(t);
        pipei_buffer_free(t->engine->device, t->mem);
    }
    if (t->state == PIPEI_POISONED)
        pipei_poison_release(t->poison);
    t->mem = NULL;
    t->poison = NULL;
    t->op = NULL;
    t->in = NULL;
    t->attr = &no_attr;
    t->n_in = 0;
}

static void list_add(pipe_engine *e, pipe_tensor *t)
{
    if (e->n_list == e->list_capacity) {
        e->list_capacity = e->list_capacity ? 2 * e->list_capacity : 1024;
        e->list = pipe_realloc(e->list, e->list_capacity * sizeof *e->list);
    }
    t->listed = true;
    t->index = (uint32_t)e->n_list;
    e->list[e->n_list++] = t;
}

void pipei_recording_open(pipe_engine *e)
{
    e->arena = pipe_arena_new();
}

void pipei_recording_close(pipe_engine *e)
{
    for (size_t b = 0; b < e->n_blocks; b++)
        for (size_t k = 0; k < TENSOR_BLOCK; k++)
            if (e->blocks[b][k].state != PIPEI_FREE)
                tensor_clear(&e->blocks[b][k]);
    for (size_t b = 0; b < e->n_blocks; b++)
        pipe_free(e->blocks[b]);
    pipe_free(e->blocks);
    pipe_free(e->list);
    pipe_free(e->assigns);
    pipe_arena_free(e->arena);
}

void pipei_recording_end(pipe_engine *e)
{
    for (size_t k = 0; k < e->n_assigns; k++)
        e->assigns[k].leaf->assign = 0;
    e->n_assigns = 0;
    for (size_t k = 0; k < e->n_list; k++) {
        pipe_tensor *t = e->list[k];
        t->listed = false;
        if (t->holds == 0) {
            tensor_clear(t);
            push_free(e, t);
        }
    }
    e->n_list = 0;
    e->n_stretches = 0;
    e->stretch_depth = 0;
    pipe_arena_reset(e->arena);
}

/* ---- stretches to compute again ---- */

void pipe_recompute_begin(pipe_engine *e)
{
    if (e->stretch_depth++ > 0)
        return;
    if (e->n_stretches == e->stretches_capacity) {
        e->stretches_capacity = e->stretches_capacity ? 2 * e->stretches_capacity : 32;
        e->stretches = pipe_realloc(e->stretches, e->stretches_capacity * sizeof *e->stretches);
    }
    e->stretches[e->n_stretches++] = (stretch){.first = (uint32_t)e->n_list, .end = UINT32_MAX};
}

void pipe_recompute_end(pipe_engine *e)
{
    if (e->stretch_depth > 0 && --e->stretch_depth == 0)
        e->stretches[e->n_stretches - 1].end = (uint32_t)e->n_list;
}

uint32_t pipei_stretch_of(const pipe_tensor *t)
{
    const pipe_engine *e = t->engine;
    size_t low = 0, high = t->state == PIPEI_NODE ? e->n_stretches : 0;

    while (low < high) {                        /* the first that ends behind t */
        const size_t middle = (low + high) / 2;
        if (e->stretches[middle].end <= t->index)
            low = middle + 1;
        else
            high = middle;
    }
    return t->state == PIPEI_NODE && low < e->n_stretches && e->stretches[low].first <= t->index ? (uint32_t)low + 1 : 0;
}

pipe_tensor *const *pipei_recording(const pipe_engine *e, size_t *n)
{
    *n = e->n_list;
    return e->list;
}

pipe_arena *pipei_recording_arena(pipe_engine *e) { return e->arena; }
uint64_t pipei_stamp(pipe_engine *e) { return ++e->stamp; }

void pipei_tensor_become_leaf(pipe_tensor *t, cl_mem mem, size_t bytes)
{
    tensor_clear(t);
    t->state = PIPEI_LEAF;
    t->mem = mem;
    t->bytes = bytes;
    t->version = 1;
}

/* ---- poison ---- */

pipei_poison *pipei_poison_new(pipe_status status, const char *message)
{
    const size_t n = strlen(message) + 1;
    pipei_poison *p = pipe_alloc(sizeof *p + n);
    p->refs = 1;
    p->status = status == PIPE_OK ? PIPE_EINVAL : status;
    memcpy(p->message, message, n);
    return p;
}

void pipei_poison_release(pipei_poison *p)
{
    if (p && --p->refs == 0)
        pipe_free(p);
}

pipe_status pipei_poison_report(const pipei_poison *p, pipe_error *err)
{
    if (!p)
        return pipe_fail(err, PIPE_EINVAL, "%s", nowhere_message);
    return pipe_fail(err, p->status, "%s", p->message);
}

void pipei_tensor_become_poisoned(pipe_tensor *t, pipei_poison *poison)
{
    tensor_clear(t);
    t->state = PIPEI_POISONED;
    t->poison = poison;
    poison->refs++;
}

/* `poison` is taken over, not counted again. */
static pipe_tensor *poisoned_new(pipe_engine *e, pipei_poison *poison)
{
    pipe_tensor *t = tensor_new(e);
    t->state = PIPEI_POISONED;
    t->poison = poison;
    t->count = 1;
    list_add(e, t);
    return t;
}

pipe_tensor *pipe_poison(pipe_engine *e, pipe_status status, const char *fmt, ...)
{
    pipe_error err = PIPE_ERROR_INIT;
    va_list args;

    if (!e)
        return &nowhere;
    va_start(args, fmt);
    pipe_vfail(&err, status, fmt, args);
    va_end(args);
    return poisoned_new(e, pipei_poison_new(status, err.message));
}

pipe_status pipe_check(const pipe_tensor *t, pipe_error *err)
{
    if (!t)
        return pipe_fail(err, PIPE_EINVAL, "%s", nowhere_message);
    switch (t->state) {
    case PIPEI_POISONED:
        return pipei_poison_report(t->poison, err);
    case PIPEI_FREE:
        return pipe_fail(err, PIPE_EINVAL,
                         "a tensor of an earlier recording is used after pipe_eval(): pipe_keep() holds it");
    case PIPEI_NODE:
    case PIPEI_LEAF:
        break;
    }
    return PIPE_OK;
}

/* ---- recording ---- */

/* "add([3, 4], [5])": what was attempted. */
static char *describe_call(const pipe_op *op, pipe_tensor *const *in, size_t n, char *out, size_t size)
{
    size_t at = 0;
    int wrote = snprintf(out, size, "%s(", op->name);
    at += wrote > 0 ? (size_t)wrote : 0;
    for (size_t k = 0; k < n && at < size; k++) {
        char shape[PIPE_SHAPE_TEXT];
        wrote = snprintf(out + at, size - at, "%s%s%s", k ? ", " : "",
                         pipe_shape_text(&in[k]->shape, shape, sizeof shape),
                         in[k]->dtype == PIPE_I32 ? " i32" : "");
        at += wrote > 0 ? (size_t)wrote : 0;
        if (k == 7 && n > 8) {
            snprintf(out + at, at < size ? size - at : 0, ", ... %zu inputs", n);
            at = strlen(out);
            break;
        }
    }
    if (at < size - 1)
        snprintf(out + at, size - at, ")");
    return out;
}

pipe_tensor *pipei_node_new(pipe_engine *e, const pipe_op *op, pipe_tensor *const *in, size_t n,
                            const pipe_attr *attr, const pipe_op_result *result)
{
    pipe_tensor *t = tensor_new(e);
    t->state = PIPEI_NODE;
    t->op = op;
    t->n_in = (uint32_t)n;
    t->shape = result->shape;
    memset(t->shape.dim + t->shape.rank, 0, (PIPE_MAX_RANK - t->shape.rank) * sizeof t->shape.dim[0]);
    t->dtype = result->dtype;
    t->count = pipe_shape_count(&t->shape);
    if (n) {
        t->in = pipe_arena_alloc(e->arena, n * sizeof *t->in);
        memcpy(t->in, in, n * sizeof *t->in);
    }
    if (attr && memcmp(attr, &no_attr, sizeof *attr) != 0) {
        pipe_attr *own = pipe_arena_alloc(e->arena, sizeof *own);
        *own = *attr;
        t->attr = own;
        t->n_int = 24;
        while (t->n_int && own->i[t->n_int - 1] == 0)
            t->n_int--;
        t->runtime_attr = memcmp(own->f, no_attr.f, sizeof own->f) ||
                          memcmp(own->u, no_attr.u, sizeof own->u);
    }
    list_add(e, t);
    e->stats.ops_recorded++;
    return t;
}

pipe_tensor *pipe_op_apply(pipe_engine *e, const pipe_op *op, pipe_tensor *const *in, size_t n,
                           const pipe_attr *attr)
{
    pipe_error err = PIPE_ERROR_INIT;
    char call[512];

    for (size_t k = 0; k < n && !e; k++)
        e = pipe_tensor_engine(in[k]);
    if (!e)
        return &nowhere;
    for (size_t k = 0; k < n; k++) {
        if (!in[k] || in[k] == &nowhere)
            return pipe_poison(e, PIPE_EINVAL, "%s: input %zu is NULL", op->name, k);
        if (in[k]->state == PIPEI_POISONED) {
            in[k]->poison->refs++;
            return poisoned_new(e, in[k]->poison);
        }
        if (in[k]->state == PIPEI_FREE)
            return pipe_poison(e, PIPE_EINVAL, "%s: input %zu is a tensor of an earlier recording: "
                               "pipe_keep() holds it beyond pipe_eval()", op->name, k);
        if (in[k]->engine != e)
            return pipe_poison(e, PIPE_EINVAL, "%s: input %zu belongs to another engine", op->name, k);
    }
    if (op->arity >= 0 && (size_t)op->arity != n)
        return pipe_poison(e, PIPE_EINVAL, "%s takes %d inputs, not %zu", op->name, op->arity, n);

    const pipe_op_call c = {.op = op, .n_in = n, .in = in, .attr = attr ? attr : &no_attr, .engine = e};
    pipe_op_result result = {0};
    int64_t count;
    const pipe_status status = op->shape(&c, &result, &err);
    if (status != PIPE_OK)
        return pipe_poison(e, status, "%s: %s", describe_call(op, in, n, call, sizeof call), err.message);
    if (!countable(&result.shape, &count))
        return pipe_poison(e, PIPE_ESHAPE, "%s: the result's shape is not one that memory could hold",
                           describe_call(op, in, n, call, sizeof call));
    /* Kernels of ops count elements in int. */
    for (size_t k = 0; op->lower && k < n; k++)
        count = in[k]->count > count ? in[k]->count : count;
    if (op->lower && count > INT32_MAX)
        return pipe_poison(e, PIPE_ESHAPE, "%s: more than %" PRId32 " elements in one tensor",
                           describe_call(op, in, n, call, sizeof call), INT32_MAX);
    return pipei_node_new(e, op, in, n, attr, &result);
}

void pipe_keep(pipe_tensor **slot, pipe_tensor *t)
{
    pipe_tensor *old = *slot;

    if (t && t->state == PIPEI_FREE)
        t = pipe_poison(t->engine, PIPE_EINVAL,
                        "a tensor of an earlier recording is kept after pipe_eval(): keep it before");
    if (t && t->engine)
        t->holds++;
    *slot = t;
    if (!old || !old->engine)
        return;
    old->holds--;
    if (old->holds == 0 && !old->listed)
        list_add(old->engine, old);
}

pipe_status pipe_assign(pipe_tensor *leaf, pipe_tensor *value, pipe_error *err)
{
    char a[PIPE_SHAPE_TEXT], b[PIPE_SHAPE_TEXT];

    PIPE_TRY(pipe_check(leaf, err));
    PIPE_TRY(pipe_check(value, err));
    if (leaf->state != PIPEI_LEAF)
        return pipe_fail(err, PIPE_EINVAL, "assign: the target has not been evaluated yet");
    if (leaf->engine != value->engine)
        return pipe_fail(err, PIPE_EINVAL, "assign: the value belongs to another engine");
    if (!pipe_shape_equal(&leaf->shape, &value->shape) || leaf->dtype != value->dtype)
        return pipe_fail(err, PIPE_ESHAPE, "assign: a value of shape %s (%s) does not fit the target %s (%s)",
                         pipe_shape_text(&value->shape, a, sizeof a),
                         value->dtype == PIPE_I32 ? "i32" : "f32", pipe_shape_text(&leaf->shape, b, sizeof b),
                         leaf->dtype == PIPE_I32 ? "i32" : "f32");

    pipe_engine *e = leaf->engine;
    if (leaf->assign) {                         /* the last one counts */
        e->assigns[leaf->assign - 1].value = value;
        return PIPE_OK;
    }
    if (e->n_assigns == e->assigns_capacity) {
        e->assigns_capacity = e->assigns_capacity ? 2 * e->assigns_capacity : 256;
        e->assigns = pipe_realloc(e->assigns, e->assigns_capacity * sizeof *e->assigns);
    }
    e->assigns[e->n_assigns++] = (assignment){leaf, value};
    leaf->assign = (uint32_t)e->n_assigns;
    return PIPE_OK;
}

/* ---- sources ---- */

pipe_tensor *pipei_leaf_new(pipe_engine *e, const pipe_shape *shape, pipe_dtype dtype)
{
    pipe_error err = PIPE_ERROR_INIT;
    int64_t count;
    cl_mem mem = NULL;

    if (!countable(shape, &count))
        return pipe_poison(e, PIPE_ESHAPE, "a tensor cannot have this shape: rank %u, negative or too large",
                           shape->rank);
    const size_t bytes = (size_t)count * 4;
    const pipe_status status = pipei_buffer_new(e->device, bytes, e->label, &mem, &err);
    if (status != PIPE_OK)
        return pipe_poison(e, status, "%s", err.message);
    pipe_tensor *t = tensor_new(e);
    t->state = PIPEI_LEAF;
    t->shape = *shape;
    memset(t->shape.dim + shape->rank, 0, (PIPE_MAX_RANK - shape->rank) * sizeof shape->dim[0]);
    t->dtype = dtype;
    t->count = count;
    t->mem = mem;
    t->bytes = bytes;
    t->version = 1;
    list_add(e, t);
    return t;
}

static pipe_tensor *upload(pipe_engine *e, const pipe_shape *shape, pipe_dtype dtype, const void *data)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *t = pipei_leaf_new(e, shape, dtype);
    if (t->state != PIPEI_LEAF)
        return t;
    const pipe_status status = pipei_device_write(e->device, t->mem, 0, data, t->bytes, &err);
    return status == PIPE_OK ? t : pipe_poison(e, status, "%s", err.message);
}

pipe_tensor *pipe_from_f32(pipe_engine *e, pipe_shape shape, const float *data)
{
    return upload(e, &shape, PIPE_F32, data);
}

pipe_tensor *pipe_from_i32(pipe_engine *e, pipe_shape shape, const int32_t *data)
{
    return upload(e, &shape, PIPE_I32, data);
}

pipe_status pipei_tensor_write(pipe_tensor *leaf, const void *data, size_t bytes, pipe_error *err)
{
    PIPE_TRY(pipe_check(leaf, err));
    if (leaf->state != PIPEI_LEAF)
        return pipe_fail(err, PIPE_EINVAL, "a tensor that has not been evaluated cannot be written to");
    if (bytes != leaf->bytes)
        return pipe_fail(err, PIPE_ESHAPE, "%zu bytes were given to a tensor of %zu", bytes, leaf->bytes);
    leaf->version++;
    return pipei_device_write(leaf->engine->device, leaf->mem, 0, data, bytes, err);
}
