/* What the files of the op table share. */
#include "core/tensor/ops/ops.h"

#include <inttypes.h>
#include <string.h>

extern const char pipei_kernel_prelude[];
extern const char pipei_kernel_copy[];

/* ---- applying ---- */
pipe_tensor *pipei_unsound(pipe_tensor *a)
{
    if (!a)
        return pipe_poison(NULL, PIPE_EINVAL, "an operation was given NULL instead of a tensor");
    return pipe_check(a, NULL) == PIPE_OK ? NULL : a;
}

pipe_tensor *pipei_op1(const pipe_op *op, pipe_tensor *a, const pipe_attr *attr)
{
    return pipe_op_apply(NULL, op, (pipe_tensor *[]){a}, 1, attr);
}

pipe_tensor *pipei_op2(const pipe_op *op, pipe_tensor *a, pipe_tensor *b, const pipe_attr *attr)
{
    return pipe_op_apply(NULL, op, (pipe_tensor *[]){a, b}, 2, attr);
}

pipe_tensor *pipei_op3(const pipe_op *op, pipe_tensor *a, pipe_tensor *b, pipe_tensor *c,
                       const pipe_attr *attr)
{
    return pipe_op_apply(NULL, op, (pipe_tensor *[]){a, b, c}, 3, attr);
}

bool pipei_axis(const pipe_tensor *a, int axis, uint32_t *out)
{
    const int rank = (int)pipe_rank(a);
    const int positive = axis < 0 ? axis + rank : axis;
    if (positive < 0 || positive >= rank)
        return false;
    *out = (uint32_t)positive;
    return true;
}

pipe_tensor *pipei_attr_axis(pipe_tensor *a, int axis, const char *name, pipe_attr *attr)
{
    uint32_t k;
    char text[PIPE_SHAPE_TEXT];
    if (!pipei_axis(a, axis, &k))
        return pipe_poison(pipe_tensor_engine(a), PIPE_ESHAPE, "%s: %s has no axis %d", name,
                           pipe_shape_text(pipe_tensor_shape(a), text, sizeof text), axis);
    attr->i[0] = k;
    return NULL;
}

/* ---- shape rules ---- */
static pipe_status need_dtype(const pipe_op_call *c, size_t k, pipe_dtype dtype, pipe_error *err)
{
    if (pipe_tensor_dtype(c->in[k]) == dtype)
        return PIPE_OK;
    char shape[PIPE_SHAPE_TEXT];
    pipe_shape_text(pipe_tensor_shape(c->in[k]), shape, sizeof shape);
    if (dtype == PIPE_F32)
        return pipe_fail(err, PIPE_ESHAPE, "input %zu, i32 %s, must be f32 (pipe_to_f32 converts)",
                         k + 1, shape);
    return pipe_fail(err, PIPE_ESHAPE, "input %zu, f32 %s, must be i32 (pipe_to_i32 converts)", k + 1, shape);
}

pipe_status pipei_need_f32(const pipe_op_call *c, size_t k, pipe_error *err)
{
    return need_dtype(c, k, PIPE_F32, err);
}

pipe_status pipei_need_i32(const pipe_op_call *c, size_t k, pipe_error *err)
{
    return need_dtype(c, k, PIPE_I32, err);
}

pipe_status pipei_need_rank(const pipe_op_call *c, size_t k, uint32_t rank, pipe_error *err)
{
    if (pipe_rank(c->in[k]) == rank)
        return PIPE_OK;
    char shape[PIPE_SHAPE_TEXT];
    return pipe_fail(err, PIPE_ESHAPE, "input %zu has shape %s; %" PRIu32 " axes are needed", k + 1,
                     pipe_shape_text(pipe_tensor_shape(c->in[k]), shape, sizeof shape), rank);
}

pipe_status pipei_need_axis(const pipe_op_call *c, size_t k, int64_t axis, pipe_error *err)
{
    if (axis >= 0 && axis < (int64_t)pipe_rank(c->in[k]))
        return PIPE_OK;
    char shape[PIPE_SHAPE_TEXT];
    return pipe_fail(err, PIPE_ESHAPE, "%s has no axis %" PRId64,
                     pipe_shape_text(pipe_tensor_shape(c->in[k]), shape, sizeof shape), axis);
}

pipe_status pipei_need_shape(const pipe_shape *s, pipe_error *err)
{
    if (s->rank > PIPE_MAX_RANK)
        return pipe_fail(err, PIPE_ESHAPE, "rank %" PRIu32 " is above the maximum %d", s->rank,
                         PIPE_MAX_RANK);
    char text[PIPE_SHAPE_TEXT];
    int64_t count = 1;
    for (uint32_t k = 0; k < s->rank; k++) {
        if (s->dim[k] < 0)
            return pipe_fail(err, PIPE_ESHAPE, "%s has a negative size",
                             pipe_shape_text(s, text, sizeof text));
        if (__builtin_mul_overflow(count, s->dim[k], &count) || count > INT32_MAX)
            return pipe_fail(err, PIPE_ESHAPE, "%s has more than %" PRId32 " elements",
                             pipe_shape_text(s, text, sizeof text), INT32_MAX);
    }
    return PIPE_OK;
}

void pipei_attr_set_shape(pipe_attr *attr, const pipe_shape *s)
{
    attr->i[0] = s->rank;       /* a rank above the maximum is for the shape rule to refuse */
    for (uint32_t k = 0; k < PIPE_MAX_RANK; k++)
        attr->i[1 + k] = k < s->rank ? s->dim[k] : 0;
}

pipe_shape pipei_attr_shape(const pipe_attr *attr)
{
    pipe_shape s = {.rank = (uint32_t)attr->i[0]};
    for (uint32_t k = 0; k < PIPEI_MIN(s.rank, (uint32_t)PIPE_MAX_RANK); k++)
        s.dim[k] = attr->i[1 + k];
    return s;
}

pipe_status pipei_broadcast(const pipe_op_call *c, pipe_shape *out, pipe_error *err)
{
    pipe_shape s = {0};
    for (size_t k = 0; k < c->n_in; k++)
        s.rank = PIPEI_MAX(s.rank, pipe_rank(c->in[k]));
    for (uint32_t axis = 0; axis < s.rank; axis++)
        s.dim[axis] = 1;
    for (size_t k = 0; k < c->n_in; k++) {
        const pipe_shape *in = pipe_tensor_shape(c->in[k]);
        for (uint32_t from_end = 1; from_end <= in->rank; from_end++) {
            int64_t *d = &s.dim[s.rank - from_end];
            const int64_t size = in->dim[in->rank - from_end];
            if (size == *d || size == 1)
                continue;
            if (*d == 1) {
                *d = size;
                continue;
            }
            pipe_text all = {0};
            char text[PIPE_SHAPE_TEXT];
            for (size_t j = 0; j < c->n_in; j++)
                pipe_text_addf(&all, "%s%s", j == 0 ? "" : j + 1 < c->n_in ? ", " : " and ",
                               pipe_shape_text(pipe_tensor_shape(c->in[j]), text, sizeof text));
            const pipe_status status =
                pipe_fail(err, PIPE_ESHAPE,
                          "%s do not broadcast: axis -%" PRIu32 " has sizes %" PRId64 " and %" PRId64
                          ", which must be equal unless one of them is 1",
                          all.data, from_end, *d, size);
            pipe_text_free(&all);
            return status;
        }
    }
    *out = s;
    return PIPE_OK;
}

pipe_status pipei_shape_f32_same(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(pipei_need_f32(c, 0, err));
    return pipe_shape_same(c, out, err);
}

pipe_status pipe_shape_same(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    (void)err;
    *out = (pipe_op_result){*pipe_tensor_shape(c->in[0]), pipe_tensor_dtype(c->in[0])};
    return PIPE_OK;
}

pipe_status pipe_shape_broadcast(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    for (size_t k = 0; k < c->n_in; k++)
        PIPE_TRY(pipei_need_f32(c, k, err));
    PIPE_TRY(pipei_broadcast(c, &out->shape, err));
    out->dtype = PIPE_F32;
    return PIPE_OK;
}

/* ---- derivatives ---- */
void pipei_vjp_zero(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    (void)gy;
    (void)needs;
    for (size_t k = 0; k < c->n_in; k++)
        gx[k] = NULL;
}

pipe_tensor *pipei_jvp_zero(const pipe_op_call *c, pipe_tensor *const *dx)
{
    (void)c;
    (void)dx;
    return NULL;
}

pipe_tensor *pipei_jvp_linear(const pipe_op_call *c, pipe_tensor *const *dx)
{
    if (!dx[0])
        return NULL;
    pipe_tensor *in[PIPE_MAX_INPUTS] = {dx[0]};
    for (size_t k = 1; k < c->n_in; k++)
        in[k] = c->in[k];
    return pipe_op_apply(c->engine, c->op, in, c->n_in, c->attr);
}

/* The Jacobian of an elementwise op is diagonal per input, so its transpose,
 * applied to dx[k], is itself.  With several inputs that broadcast, the vjp of
 * the op on inputs already spread to the output's shape does it, because there
 * is then nothing to sum.  (broadcast_to is free: it fuses.) */
pipe_tensor *pipe_jvp_diagonal(const pipe_op_call *c, pipe_tensor *const *dx)
{
    const pipe_shape shape = *pipe_tensor_shape(c->out);
    pipe_tensor *in[PIPE_MAX_INPUTS];
    for (size_t k = 0; k < c->n_in; k++)
        in[k] = pipe_broadcast_to(c->in[k], shape);
    pipe_op_call spread = *c;
    spread.in = in;

    pipe_tensor *sum = NULL;
    for (size_t k = 0; k < c->n_in; k++) {
        if (!dx[k])
            continue;
        pipe_tensor *gx[PIPE_MAX_INPUTS] = {NULL};
        bool needs[PIPE_MAX_INPUTS] = {false};
        needs[k] = true;
        c->op->vjp(&spread, pipe_broadcast_to(dx[k], shape), gx, needs);
        if (gx[k])
            sum = sum ? pipe_add(sum, gx[k]) : gx[k];
    }
    return sum;
}

/* ---- references ---- */
void pipei_unravel(size_t k, const pipe_shape *s, int64_t at[PIPE_MAX_RANK])
{
    for (uint32_t axis = s->rank; axis-- > 0;) {
        at[axis] = (int64_t)(k % (size_t)s->dim[axis]);
        k /= (size_t)s->dim[axis];
    }
}

size_t pipei_ravel(const int64_t at[PIPE_MAX_RANK], const pipe_shape *s)
{
    size_t k = 0;
    for (uint32_t axis = 0; axis < s->rank; axis++)
        k = k * (size_t)s->dim[axis] + (size_t)at[axis];
    return k;
}

size_t pipei_broadcast_index(size_t k, const pipe_shape *out, const pipe_shape *in)
{
    size_t at = 0, stride = 1;
    for (uint32_t from_end = 1; from_end <= in->rank; from_end++) {
        const size_t size = (size_t)in->dim[in->rank - from_end];
        const size_t full = (size_t)out->dim[out->rank - from_end];
        if (size > 1)
            at += k % full * stride;
        k /= full;
        stride *= size;
    }
    return at;
}

/* ---- launches ---- */
const char *pipei_source(pipe_lowering *l, const char *body)
{
    return pipe_lower_text(l, "%s%s", pipei_kernel_prelude, body);
}

void pipei_arg(pipe_launch *k, pipe_arg_kind kind, uint32_t index)
{
    k->args[k->n_args++] = (pipe_arg){.kind = kind, .index = index};
}

void pipei_arg_int(pipe_launch *k, int64_t value)
{
    k->args[k->n_args++] = (pipe_arg){.kind = PIPE_ARG_INT, .value = (int32_t)value};
}

size_t pipei_cpu_items(const pipe_device_profile *p)
{
    return (size_t)PIPEI_MAX(p->compute_units, 1u) * 8;
}

void pipei_launch_items(pipe_lowering *l, pipe_launch *k, size_t items)
{
    const pipe_device_profile *p = pipe_lower_profile(l);
    const size_t local = p->cpu ? 1 : 64;
    size_t global = p->cpu ? PIPEI_MIN(items, pipei_cpu_items(p)) : (items + local - 1) / local * local;
    if (items == 0)
        return;
    k->dims = 1;
    k->global[0] = global;
    k->local[0] = local;
    pipe_lower_launch(l, k);
}

void pipei_launch_groups(pipe_lowering *l, pipe_launch *k, size_t items, size_t local)
{
    const pipe_device_profile *p = pipe_lower_profile(l);
    if (items == 0)
        return;
    k->dims = 1;
    k->local[0] = p->cpu ? 1 : local;
    k->global[0] = p->cpu ? PIPEI_MIN(items, pipei_cpu_items(p)) : items * local;
    pipe_lower_launch(l, k);
}

void pipei_strides(const pipe_shape *s, int64_t out[PIPE_MAX_RANK])
{
    int64_t stride = 1;
    for (uint32_t axis = s->rank; axis-- > 0;) {
        out[axis] = stride;
        stride *= s->dim[axis];
    }
}

/* Removes axes of size 1 and joins neighbours that are contiguous in both. */
static void simplify(pipei_copy *c)
{
    uint32_t rank = 0;
    for (uint32_t k = 0; k < c->rank; k++) {
        if (c->dim[k] == 1)
            continue;
        if (rank > 0 && c->x[rank - 1] == c->x[k] * c->dim[k] && c->y[rank - 1] == c->y[k] * c->dim[k]) {
            c->dim[rank - 1] *= c->dim[k];
            c->x[rank - 1] = c->x[k];
            c->y[rank - 1] = c->y[k];
            continue;
        }
        c->dim[rank] = c->dim[k];
        c->x[rank] = c->x[k];
        c->y[rank] = c->y[k];
        rank++;
    }
    if (rank == 0) {
        c->dim[0] = c->x[0] = c->y[0] = 1;
        rank = 1;
    }
    c->rank = rank;
}

enum { COPY_OUTER = 7, TILE = 16 };

/* Sizes and strides of the axes outside the innermost loop, fastest last: the
 * kernels take a fixed number of them. */
static void outer_args(pipe_launch *k, const pipei_copy *c, uint32_t n_outer)
{
    for (int what = 0; what < 3; what++)
        for (uint32_t j = 0; j < COPY_OUTER; j++) {
            const bool there = j + n_outer >= COPY_OUTER;
            const uint32_t axis = j + n_outer - COPY_OUTER;
            const int64_t value = what == 0   ? c->dim[axis % PIPE_MAX_RANK]
                                  : what == 1 ? c->x[axis % PIPE_MAX_RANK]
                                              : c->y[axis % PIPE_MAX_RANK];
            pipei_arg_int(k, there ? value : what == 0 ? 1 : 0);
        }
}

/* Two kernels.  Where the innermost axis is contiguous on both sides, runs of it
 * are copied with vectors.  Where it is contiguous in y only and another axis is
 * in x (a transposition), a CPU moves 16x16 tiles, so that each cache line is
 * read once; a GPU's cache does that on its own. */
void pipei_lower_copy(pipe_lowering *l, const pipei_copy *copy, pipe_arg x, pipe_arg y)
{
    const pipe_device_profile *p = pipe_lower_profile(l);
    pipei_copy c = *copy;
    for (uint32_t k = 0; k < c.rank; k++)
        if (c.dim[k] == 0)
            return;
    simplify(&c);

    const uint32_t last = c.rank - 1;
    uint32_t unit = last;
    for (uint32_t k = 0; k < last; k++)
        if (c.x[k] == 1 && c.dim[k] >= 4)
            unit = k;
    pipe_launch k = {.source = pipei_source(l, pipei_kernel_copy)};
    k.args[k.n_args++] = x;
    k.args[k.n_args++] = y;
    pipei_arg_int(&k, c.x_offset);
    pipei_arg_int(&k, c.y_offset);

    size_t items = 1;
    if (p->cpu && unit != last && c.y[last] == 1 && c.dim[last] >= 4) {
        pipei_arg_int(&k, c.dim[unit]);
        pipei_arg_int(&k, c.dim[last]);
        pipei_arg_int(&k, c.x[last]);
        pipei_arg_int(&k, c.y[unit]);
        items = (size_t)((c.dim[unit] + TILE - 1) / TILE * ((c.dim[last] + TILE - 1) / TILE));
        for (uint32_t j = unit; j + 1 < last; j++) {
            c.dim[j] = c.dim[j + 1];
            c.x[j] = c.x[j + 1];
            c.y[j] = c.y[j + 1];
        }
        for (uint32_t j = 0; j + 1 < last; j++)
            items *= (size_t)c.dim[j];
        pipei_arg_int(&k, (int64_t)items);
        outer_args(&k, &c, last - 1);
        k.kernel = "copy_tiles";
    } else {
        /* A share of a run is a multiple of a page, or one element on a GPU. */
        const int64_t block = p->cpu ? PIPEI_MIN(c.dim[last], 4096) : 1;
        items = (size_t)((c.dim[last] + block - 1) / block);
        for (uint32_t j = 0; j < last; j++)
            items *= (size_t)c.dim[j];
        pipei_arg_int(&k, c.dim[last]);
        pipei_arg_int(&k, block);
        pipei_arg_int(&k, c.x[last]);
        pipei_arg_int(&k, c.y[last]);
        pipei_arg_int(&k, (int64_t)items);
        outer_args(&k, &c, last);
        k.kernel = "copy_rows";
    }
    pipei_launch_items(l, &k, items);
}
