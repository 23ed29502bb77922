/* Ops that move elements without changing them: views and strided copies.  They
 * take f32 and i32 alike: kernels copy 4-byte words. */
#include "core/tensor/ops/ops.h"

#include <inttypes.h>
#include <string.h>

extern const char pipei_kernel_copy[];

static const pipe_arg input0 = {.kind = PIPE_ARG_INPUT, .index = 0};
static const pipe_arg output = {.kind = PIPE_ARG_OUTPUT};

/* ---- reshape ---- */
static pipe_status reshape_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    const pipe_shape want = pipei_attr_shape(c->attr);
    const pipe_shape *have = pipe_tensor_shape(c->in[0]);
    PIPE_TRY(pipei_need_shape(&want, err));
    if (pipe_shape_count(have) != pipe_shape_count(&want)) {
        char a[PIPE_SHAPE_TEXT], b[PIPE_SHAPE_TEXT];
        return pipe_fail(err, PIPE_ESHAPE, "%s has %" PRId64 " elements, %s would have %" PRId64,
                         pipe_shape_text(have, a, sizeof a), pipe_shape_count(have),
                         pipe_shape_text(&want, b, sizeof b), pipe_shape_count(&want));
    }
    *out = (pipe_op_result){want, pipe_tensor_dtype(c->in[0])};
    return PIPE_OK;
}

static void copy_reference(const pipe_reference *r)
{
    memcpy(r->out, r->in[0], r->n * sizeof *r->out);
}

static void reshape_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    if (needs[0])
        gx[0] = pipe_reshape(gy, *pipe_tensor_shape(c->in[0]));
}

static const pipe_op op_reshape = {
    PIPE_OP_INIT,           .name = "reshape",           .arity = 1,
    .shape = reshape_shape, .reference = copy_reference, .view = true,
    .vjp = reshape_vjp,     .jvp = pipei_jvp_linear,
};

pipe_tensor *pipe_reshape(pipe_tensor *a, pipe_shape shape)
{
    PIPEI_SOUND(a);
    char have[PIPE_SHAPE_TEXT], want[PIPE_SHAPE_TEXT];
    int open = -1;
    int64_t known = 1;
    for (uint32_t k = 0; k < shape.rank; k++) {
        if (shape.dim[k] >= 0) {
            known *= shape.dim[k];
            continue;
        }
        if (shape.dim[k] != -1 || open >= 0)
            return pipe_poison(pipe_tensor_engine(a), PIPE_ESHAPE,
                               "reshape: %s to %s: sizes are not negative; a single one may be -1",
                               pipe_shape_text(pipe_tensor_shape(a), have, sizeof have),
                               pipe_shape_text(&shape, want, sizeof want));
        open = (int)k;
    }
    if (open >= 0) {
        if (known == 0 || pipe_count(a) % known != 0)
            return pipe_poison(pipe_tensor_engine(a), PIPE_ESHAPE,
                               "reshape: %s to %s: the known sizes' product %" PRId64
                               " does not divide %" PRId64,
                               pipe_shape_text(pipe_tensor_shape(a), have, sizeof have),
                               pipe_shape_text(&shape, want, sizeof want), known, pipe_count(a));
        shape.dim[open] = pipe_count(a) / known;
    }
    if (pipe_shape_equal(pipe_tensor_shape(a), &shape))
        return a;
    pipe_attr attr = {0};
    pipei_attr_set_shape(&attr, &shape);
    return pipei_op1(&op_reshape, a, &attr);
}

/* ---- permute: i[k] = the input axis that becomes axis k ---- */
static pipe_status permute_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    const pipe_shape *in = pipe_tensor_shape(c->in[0]);
    bool seen[PIPE_MAX_RANK] = {false};
    out->shape = (pipe_shape){.rank = in->rank};
    out->dtype = pipe_tensor_dtype(c->in[0]);
    for (uint32_t k = 0; k < in->rank; k++) {
        const int64_t from = c->attr->i[k];
        if (from < 0 || from >= in->rank || seen[from]) {
            char text[PIPE_SHAPE_TEXT];
            return pipe_fail(err, PIPE_ESHAPE, "the order must name each of the %" PRIu32
                             " axes of %s once; entry %" PRIu32 " is %" PRId64, in->rank,
                             pipe_shape_text(in, text, sizeof text), k, from);
        }
        seen[from] = true;
        out->shape.dim[k] = in->dim[from];
    }
    return PIPE_OK;
}

static void permute_reference(const pipe_reference *r)
{
    for (size_t k = 0; k < r->n; k++) {
        int64_t at[PIPE_MAX_RANK], from[PIPE_MAX_RANK] = {0};
        pipei_unravel(k, &r->out_shape, at);
        for (uint32_t axis = 0; axis < r->out_shape.rank; axis++)
            from[r->attr->i[axis]] = at[axis];
        r->out[k] = r->in[0][pipei_ravel(from, &r->in_shape[0])];
    }
}

static pipe_status permute_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const pipe_shape *in = pipe_tensor_shape(c->in[0]), *out = pipe_tensor_shape(c->out);
    int64_t x[PIPE_MAX_RANK];
    pipei_copy copy = {.rank = in->rank};
    pipei_strides(in, x);
    pipei_strides(out, copy.y);
    for (uint32_t k = 0; k < in->rank; k++) {
        copy.dim[k] = out->dim[k];
        copy.x[k] = x[c->attr->i[k]];
    }
    pipei_lower_copy(l, &copy, input0, output);
    return PIPE_OK;
}

static void permute_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    const uint32_t rank = pipe_rank(c->in[0]);
    int back[PIPE_MAX_RANK];
    for (uint32_t k = 0; k < rank; k++)
        back[c->attr->i[k]] = (int)k;
    if (needs[0])
        gx[0] = pipe_permute(gy, back, rank);
}

static const pipe_op op_permute = {
    PIPE_OP_INIT, .name = "permute", .arity = 1, .shape = permute_shape, .reference = permute_reference,
    .lower = permute_lower, .vjp = permute_vjp, .jvp = pipei_jvp_linear,
};

pipe_tensor *pipe_permute(pipe_tensor *a, const int *order, uint32_t rank)
{
    PIPEI_SOUND(a);
    char text[PIPE_SHAPE_TEXT];
    if (rank != pipe_rank(a))
        return pipe_poison(pipe_tensor_engine(a), PIPE_ESHAPE, "permute: an order of %" PRIu32 " axes for %s",
                           rank, pipe_shape_text(pipe_tensor_shape(a), text, sizeof text));
    const pipe_shape *s = pipe_tensor_shape(a);
    pipe_attr attr = {0};
    int64_t moved = -1;              /* the last axis of size > 1: in order means nothing moves */
    bool in_order = true;
    for (uint32_t k = 0; k < rank; k++) {
        const int axis = order[k] < 0 ? order[k] + (int)rank : order[k];
        attr.i[k] = axis;
        if (axis < 0 || axis >= (int)rank || s->dim[axis] == 1)
            continue;
        in_order = in_order && axis > moved;
        moved = axis;
    }
    pipe_attr identity = attr;
    bool same = true, valid = true;
    unsigned seen = 0;
    for (uint32_t k = 0; k < rank; k++) {
        same = same && identity.i[k] == k;
        valid = valid && attr.i[k] >= 0 && attr.i[k] < rank;
        if (valid)
            seen |= 1u << attr.i[k];
    }
    if (same)
        return a;
    if (valid && in_order && seen == (1u << rank) - 1) {     /* only axes of size 1 move: a view */
        pipe_shape shape = {.rank = rank};
        for (uint32_t k = 0; k < rank; k++)
            shape.dim[k] = s->dim[attr.i[k]];
        return pipe_reshape(a, shape);
    }
    return pipei_op1(&op_permute, a, &attr);
}

pipe_tensor *pipe_transpose(pipe_tensor *a, int axis0, int axis1)
{
    PIPEI_SOUND(a);
    uint32_t p, q;
    int order[PIPE_MAX_RANK];
    if (!pipei_axis(a, axis0, &p) || !pipei_axis(a, axis1, &q)) {
        char text[PIPE_SHAPE_TEXT];
        return pipe_poison(pipe_tensor_engine(a), PIPE_ESHAPE,
                           "transpose: %s does not have the axes %d and %d",
                           pipe_shape_text(pipe_tensor_shape(a), text, sizeof text), axis0, axis1);
    }
    for (uint32_t k = 0; k < pipe_rank(a); k++)
        order[k] = (int)(k == p ? q : k == q ? p : k);
    return pipe_permute(a, order, pipe_rank(a));
}

/* ---- slice: i[0] axis, i[1] start, i[2] length, i[3] step ---- */
static pipe_status slice_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    const int64_t axis = c->attr->i[0], start = c->attr->i[1], length = c->attr->i[2], step = c->attr->i[3];
    PIPE_TRY(pipei_need_axis(c, 0, axis, err));
    const pipe_shape *in = pipe_tensor_shape(c->in[0]);
    const int64_t size = in->dim[axis];
    char text[PIPE_SHAPE_TEXT];
    if (step < 1 || start < 0 || length < 0 || start > size ||
        (length > 0 && (length - 1 > (size - 1) / step || start + (length - 1) * step >= size)))
        return pipe_fail(err, PIPE_ESHAPE, "%" PRId64 " elements from %" PRId64 " in steps of %" PRId64
                         " do not lie within axis %" PRId64 " of %s", length, start, step, axis,
                         pipe_shape_text(in, text, sizeof text));
    *out = (pipe_op_result){*in, pipe_tensor_dtype(c->in[0])};
    out->shape.dim[axis] = length;
    return PIPE_OK;
}

static void slice_reference(const pipe_reference *r)
{
    for (size_t k = 0; k < r->n; k++) {
        int64_t at[PIPE_MAX_RANK];
        pipei_unravel(k, &r->out_shape, at);
        at[r->attr->i[0]] = r->attr->i[1] + at[r->attr->i[0]] * r->attr->i[3];
        r->out[k] = r->in[0][pipei_ravel(at, &r->in_shape[0])];
    }
}

static pipe_status slice_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const pipe_shape *in = pipe_tensor_shape(c->in[0]), *out = pipe_tensor_shape(c->out);
    const int64_t axis = c->attr->i[0];
    pipei_copy copy = {.rank = in->rank};
    pipei_strides(in, copy.x);
    pipei_strides(out, copy.y);
    memcpy(copy.dim, out->dim, sizeof copy.dim);
    copy.x_offset = c->attr->i[1] * copy.x[axis];
    copy.x[axis] *= c->attr->i[3];
    pipei_lower_copy(l, &copy, input0, output);
    return PIPE_OK;
}

static void slice_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    const int64_t axis = c->attr->i[0], start = c->attr->i[1], length = c->attr->i[2], step = c->attr->i[3];
    const int64_t size = pipe_dim(c->in[0], (int)axis);
    const int64_t end = length == 0 ? start : start + (length - 1) * step + 1;
    if (needs[0])
        gx[0] = pipe_pad(gy, (int)axis, start, size - end, step - 1);
}

/* Along the leading axis of more than one index, a slice is a run of its input: the
 * weights of a network are such slices of one vector. */
static bool slice_window(const pipe_op_call *c, int64_t *first)
{
    const pipe_shape *in = pipe_tensor_shape(c->in[0]);
    const int64_t axis = c->attr->i[0], start = c->attr->i[1], length = c->attr->i[2], step = c->attr->i[3];
    int64_t run = 1;
    for (uint32_t k = 0; k < in->rank; k++) {
        if ((int64_t)k < axis && in->dim[k] != 1)
            return false;
        run *= (int64_t)k > axis ? in->dim[k] : 1;
    }
    *first = start * run;
    return step == 1 || length == 1;
}

static const pipe_op op_slice = {
    PIPE_OP_INIT, .name = "slice", .arity = 1, .shape = slice_shape, .reference = slice_reference,
    .lower = slice_lower, .vjp = slice_vjp, .jvp = pipei_jvp_linear, .window = slice_window,
};

pipe_tensor *pipe_slice(pipe_tensor *a, int axis, int64_t start, int64_t length, int64_t step)
{
    PIPEI_SOUND(a);
    pipe_attr attr = {.i = {0, start, length, step}};
    pipe_tensor *bad = pipei_attr_axis(a, axis, "slice", &attr);
    if (bad)
        return bad;
    if (start == 0 && step == 1 && length == pipe_dim(a, (int)attr.i[0]))
        return a;
    return pipei_op1(&op_slice, a, &attr);
}

/* ---- pad: i[0] axis, i[1] before, i[2] after, i[3] interior ---- */
static int64_t padded(int64_t size, const pipe_attr *attr)
{
    return attr->i[1] + attr->i[2] + size + (size > 1 ? (size - 1) * attr->i[3] : 0);
}

static pipe_status pad_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    const pipe_shape *in = pipe_tensor_shape(c->in[0]);
    const pipe_attr *attr = c->attr;
    char text[PIPE_SHAPE_TEXT];
    PIPE_TRY(pipei_need_axis(c, 0, attr->i[0], err));
    if (attr->i[1] < 0 || attr->i[2] < 0 || attr->i[3] < 0)
        return pipe_fail(err, PIPE_ESHAPE,
                         "%" PRId64 " before, %" PRId64 " after, %" PRId64 " between elements "
                         "of axis %" PRId64 " of %s: none may be negative (pipe_slice removes elements)",
                         attr->i[1], attr->i[2], attr->i[3], attr->i[0],
                         pipe_shape_text(in, text, sizeof text));
    *out = (pipe_op_result){*in, pipe_tensor_dtype(c->in[0])};
    out->shape.dim[attr->i[0]] = padded(in->dim[attr->i[0]], attr);
    return PIPE_OK;
}

static void pad_reference(const pipe_reference *r)
{
    const int64_t axis = r->attr->i[0], before = r->attr->i[1], step = r->attr->i[3] + 1;
    for (size_t k = 0; k < r->n; k++) {
        int64_t at[PIPE_MAX_RANK];
        pipei_unravel(k, &r->out_shape, at);
        const int64_t p = at[axis] - before;
        at[axis] = p / step;
        r->out[k] = p >= 0 && p % step == 0 && p / step < r->in_shape[0].dim[axis]
                        ? r->in[0][pipei_ravel(at, &r->in_shape[0])] : 0.0;
    }
}

static pipe_status pad_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const pipe_shape *in = pipe_tensor_shape(c->in[0]), *out = pipe_tensor_shape(c->out);
    const int64_t axis = c->attr->i[0], n = pipe_shape_count(out);

    pipe_launch k = {.source = pipei_source(l, pipei_kernel_copy), .kernel = "fill"};
    pipei_arg(&k, PIPE_ARG_OUTPUT, 0);
    pipei_arg_int(&k, n);
    pipei_arg_int(&k, 0);
    pipei_launch_items(l, &k, (size_t)(n + 15) / 16);

    pipei_copy copy = {.rank = in->rank};
    pipei_strides(in, copy.x);
    pipei_strides(out, copy.y);
    memcpy(copy.dim, in->dim, sizeof copy.dim);
    copy.y_offset = c->attr->i[1] * copy.y[axis];
    copy.y[axis] *= c->attr->i[3] + 1;
    pipei_lower_copy(l, &copy, input0, output);
    return PIPE_OK;
}

static void pad_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    const int64_t axis = c->attr->i[0];
    if (needs[0])
        gx[0] = pipe_slice(gy, (int)axis, c->attr->i[1], pipe_dim(c->in[0], (int)axis), c->attr->i[3] + 1);
}

const pipe_op pipei_op_pad = {
    PIPE_OP_INIT,
    .name = "pad",
    .arity = 1,
    .shape = pad_shape,
    .reference = pad_reference,
    .lower = pad_lower,
    .vjp = pad_vjp,
    .jvp = pipei_jvp_linear,
};

pipe_tensor *pipe_pad(pipe_tensor *a, int axis, int64_t before, int64_t after, int64_t interior)
{
    PIPEI_SOUND(a);
    pipe_attr attr = {.i = {0, before, after, interior}};
    pipe_tensor *bad = pipei_attr_axis(a, axis, "pad", &attr);
    if (bad)
        return bad;
    if (before == 0 && after == 0 && (interior == 0 || (interior > 0 && pipe_dim(a, (int)attr.i[0]) < 2)))
        return a;
    return pipei_op1(&pipei_op_pad, a, &attr);
}

/* ---- concat: i[0] axis ---- */
static pipe_status concat_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    const int64_t axis = c->attr->i[0];
    if (c->n_in == 0)
        return pipe_fail(err, PIPE_ESHAPE, "there are no parts");
    PIPE_TRY(pipei_need_axis(c, 0, axis, err));
    *out = (pipe_op_result){*pipe_tensor_shape(c->in[0]), pipe_tensor_dtype(c->in[0])};
    for (size_t k = 1; k < c->n_in; k++) {
        const pipe_shape *s = pipe_tensor_shape(c->in[k]);
        pipe_shape expected = out->shape;
        expected.dim[axis] = s->rank == expected.rank ? s->dim[axis] : -1;
        if (!pipe_shape_equal(s, &expected) || pipe_tensor_dtype(c->in[k]) != out->dtype) {
            char a[PIPE_SHAPE_TEXT], b[PIPE_SHAPE_TEXT];
            return pipe_fail(err, PIPE_ESHAPE,
                             "part %zu, %s %s, does not fit part 1, %s %s: all axes but axis "
                             "%" PRId64 " and the dtype must be the same",
                             k + 1, pipe_tensor_dtype(c->in[k]) == PIPE_F32 ? "f32" : "i32",
                             pipe_shape_text(s, a, sizeof a), out->dtype == PIPE_F32 ? "f32" : "i32",
                             pipe_shape_text(pipe_tensor_shape(c->in[0]), b, sizeof b), axis);
        }
        out->shape.dim[axis] += s->dim[axis];
    }
    return PIPE_OK;
}

static void concat_reference(const pipe_reference *r)
{
    const int64_t axis = r->attr->i[0];
    for (size_t k = 0; k < r->n; k++) {
        int64_t at[PIPE_MAX_RANK];
        size_t part = 0;
        pipei_unravel(k, &r->out_shape, at);
        while (at[axis] >= r->in_shape[part].dim[axis])
            at[axis] -= r->in_shape[part++].dim[axis];
        r->out[k] = r->in[part][pipei_ravel(at, &r->in_shape[part])];
    }
}

/* Eight parts per launch: a parameter slab's gradient has hundreds. */
static pipe_status concat_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    enum { PARTS = 8 };
    const pipe_shape *out = pipe_tensor_shape(c->out);
    const int64_t axis = c->attr->i[0];
    int64_t outer = 1, inner = 1, start = 0;
    for (int64_t k = 0; k < axis; k++)
        outer *= out->dim[k];
    for (uint32_t k = (uint32_t)axis + 1; k < out->rank; k++)
        inner *= out->dim[k];

    for (size_t first = 0; first < c->n_in; first += PARTS) {
        const size_t n = PIPEI_MIN(c->n_in - first, (size_t)PARTS);
        int64_t width = 0;
        pipe_launch k = {.source = pipei_source(l, pipei_kernel_copy), .kernel = "concat"};
        for (size_t j = 0; j < PARTS; j++)
            pipei_arg(&k, PIPE_ARG_INPUT, (uint32_t)(first + (j < n ? j : 0)));
        pipei_arg(&k, PIPE_ARG_OUTPUT, 0);
        for (size_t j = 0; j < PARTS; j++) {
            const int64_t run = j < n ? pipe_dim(c->in[first + j], (int)axis) * inner : 0;
            pipei_arg_int(&k, run);
            width += run;
        }
        pipei_arg_int(&k, start);
        pipei_arg_int(&k, out->dim[axis] * inner);
        pipei_arg_int(&k, outer);
        const size_t total = (size_t)(width * outer);
        pipei_launch_items(l, &k, pipe_lower_profile(l)->cpu ? (total + 1023) / 1024 : total);
        start += width;
    }
    return PIPE_OK;
}

static void concat_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    const int axis = (int)c->attr->i[0];
    int64_t start = 0;
    for (size_t k = 0; k < c->n_in; k++) {
        const int64_t length = pipe_dim(c->in[k], axis);
        if (needs[k])
            gx[k] = pipe_slice(gy, axis, start, length, 1);
        start += length;
    }
}

static pipe_tensor *concat_jvp(const pipe_op_call *c, pipe_tensor *const *dx)
{
    pipe_tensor **parts = pipe_alloc_array(c->n_in, sizeof *parts);
    for (size_t k = 0; k < c->n_in; k++)
        parts[k] = dx[k] ? dx[k] : pipe_zeros_like(c->in[k]);
    pipe_tensor *y = pipe_concat(parts, c->n_in, (int)c->attr->i[0]);
    pipe_free(parts);
    return y;
}

static const pipe_op op_concat = {
    PIPE_OP_INIT, .name = "concat", .arity = -1, .shape = concat_shape, .reference = concat_reference,
    .lower = concat_lower, .vjp = concat_vjp, .jvp = concat_jvp,
};

pipe_tensor *pipe_concat(pipe_tensor *const *parts, size_t n, int axis)
{
    if (n == 0)
        return pipe_poison(NULL, PIPE_ESHAPE, "concat: there are no parts");
    for (size_t k = 0; k < n; k++)
        PIPEI_SOUND(parts[k]);
    pipe_attr attr = {0};
    pipe_tensor *bad = pipei_attr_axis(parts[0], axis, "concat", &attr);
    if (bad)
        return bad;
    if (n == 1)
        return parts[0];
    return pipe_op_apply(pipe_tensor_engine(parts[0]), &op_concat, parts, n, &attr);
}

/* ---- flip: i[0] axis ---- */
static pipe_status flip_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(pipei_need_axis(c, 0, c->attr->i[0], err));
    return pipe_shape_same(c, out, err);
}

static void flip_reference(const pipe_reference *r)
{
    for (size_t k = 0; k < r->n; k++) {
        int64_t at[PIPE_MAX_RANK], *const p = &at[r->attr->i[0]];
        pipei_unravel(k, &r->out_shape, at);
        *p = r->out_shape.dim[r->attr->i[0]] - 1 - *p;
        r->out[k] = r->in[0][pipei_ravel(at, &r->in_shape[0])];
    }
}

static pipe_status flip_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const pipe_shape *s = pipe_tensor_shape(c->out);
    const int64_t axis = c->attr->i[0];
    pipei_copy copy = {.rank = s->rank};
    pipei_strides(s, copy.x);
    pipei_strides(s, copy.y);
    memcpy(copy.dim, s->dim, sizeof copy.dim);
    copy.x_offset = (s->dim[axis] - 1) * copy.x[axis];
    copy.x[axis] = -copy.x[axis];
    pipei_lower_copy(l, &copy, input0, output);
    return PIPE_OK;
}

static void flip_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    if (needs[0])
        gx[0] = pipe_flip(gy, (int)c->attr->i[0]);
}

static const pipe_op op_flip = {
    PIPE_OP_INIT, .name = "flip", .arity = 1, .shape = flip_shape, .reference = flip_reference,
    .lower = flip_lower, .vjp = flip_vjp, .jvp = pipei_jvp_linear,
};

pipe_tensor *pipe_flip(pipe_tensor *a, int axis)
{
    PIPEI_SOUND(a);
    pipe_attr attr = {0};
    pipe_tensor *bad = pipei_attr_axis(a, axis, "flip", &attr);
    if (bad)
        return bad;
    return pipe_dim(a, (int)attr.i[0]) == 1 ? a : pipei_op1(&op_flip, a, &attr);
}

const pipe_op *const pipei_ops_shape[] = {
    &op_reshape, &op_permute, &op_slice, &pipei_op_pad, &op_concat, &op_flip, NULL,
};
