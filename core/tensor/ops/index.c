/* Gathering, scattering, counting.  Gathering and scattering are each other's
 * adjoints, so the pair is closed under differentiation. */
#include "core/tensor/ops/ops.h"

#include <inttypes.h>
#include <math.h>

extern const char pipei_kernel_index[];

/* As on the device: negative counts from the end, out of range is clamped. */
static size_t row_of(double index, int64_t size)
{
    const int64_t k = (int64_t)index < 0 ? (int64_t)index + size : (int64_t)index;
    return (size_t)PIPEI_MAX(PIPEI_MIN(k, size - 1), 0);
}

static int64_t product(const pipe_shape *s, uint32_t from, uint32_t to)
{
    int64_t n = 1;
    for (uint32_t k = from; k < to; k++)
        n *= s->dim[k];
    return n;
}

/* ---- gather: a [n, ...], index [any] -> [index..., ...] ---- */
static pipe_status gather_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(pipei_need_i32(c, 1, err));
    const pipe_shape *a = pipe_tensor_shape(c->in[0]), *index = pipe_tensor_shape(c->in[1]);
    char text[PIPE_SHAPE_TEXT];
    if (a->rank == 0 || (a->dim[0] == 0 && pipe_count(c->in[1]) > 0))
        return pipe_fail(err, PIPE_ESHAPE, "%s has no rows to gather", pipe_shape_text(a, text, sizeof text));
    if (index->rank + a->rank - 1 > PIPE_MAX_RANK)
        return pipe_fail(err, PIPE_ESHAPE, "the result would have %" PRIu32 " axes; %d are possible",
                         index->rank + a->rank - 1, PIPE_MAX_RANK);
    out->dtype = pipe_tensor_dtype(c->in[0]);
    out->shape = *index;
    for (uint32_t k = 1; k < a->rank; k++)
        out->shape.dim[out->shape.rank++] = a->dim[k];
    return PIPE_OK;
}

static void gather_reference(const pipe_reference *r)
{
    const pipe_shape *a = &r->in_shape[0];
    const size_t inner = (size_t)product(a, 1, a->rank);
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = r->in[0][row_of(r->in[1][k / inner], a->dim[0]) * inner + k % inner];
}

static pipe_status gather_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const pipe_shape *a = pipe_tensor_shape(c->in[0]);
    const int64_t n = pipe_count(c->in[1]), inner = product(a, 1, a->rank);
    const int64_t wide = pipe_lower_profile(l)->cpu ? 4096 : 1;
    pipe_launch k = {.source = pipei_source(l, pipei_kernel_index), .kernel = "gather"};
    pipei_arg(&k, PIPE_ARG_INPUT, 0);
    pipei_arg(&k, PIPE_ARG_INPUT, 1);
    pipei_arg(&k, PIPE_ARG_OUTPUT, 0);
    pipei_arg_int(&k, n);
    pipei_arg_int(&k, a->dim[0]);
    pipei_arg_int(&k, inner);
    pipei_arg_int(&k, wide);
    pipei_launch_items(l, &k, (size_t)(n * ((inner + wide - 1) / wide)));
    return PIPE_OK;
}

static void gather_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    if (needs[0])
        gx[0] = pipe_scatter_add(gy, c->in[1], pipe_dim(c->in[0], 0));
}

static const pipe_op op_gather = {
    PIPE_OP_INIT, .name = "gather", .arity = 2, .shape = gather_shape, .reference = gather_reference,
    .lower = gather_lower, .vjp = gather_vjp, .jvp = pipei_jvp_linear,
};

pipe_tensor *pipe_gather(pipe_tensor *a, pipe_tensor *index)
{
    return pipei_op2(&op_gather, a, index, NULL);
}

pipe_tensor *pipe_embedding(pipe_tensor *table, pipe_tensor *index)
{
    return pipe_gather(table, index);
}

/* ---- scatter_add: a [index..., ...], index [any] -> [rows, ...]; i[0] rows ---- */
static pipe_status scatter_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(pipei_need_f32(c, 0, err));
    PIPE_TRY(pipei_need_i32(c, 1, err));
    const pipe_shape *a = pipe_tensor_shape(c->in[0]), *index = pipe_tensor_shape(c->in[1]);
    bool fits = index->rank <= a->rank;
    for (uint32_t k = 0; fits && k < index->rank; k++)
        fits = index->dim[k] == a->dim[k];
    if (!fits) {
        char x[PIPE_SHAPE_TEXT], y[PIPE_SHAPE_TEXT];
        return pipe_fail(err, PIPE_ESHAPE, "%s does not begin with the index's shape %s",
                         pipe_shape_text(a, x, sizeof x), pipe_shape_text(index, y, sizeof y));
    }
    if (c->attr->i[0] < 0 || (c->attr->i[0] == 0 && pipe_count(c->in[1]) > 0))
        return pipe_fail(err, PIPE_ESHAPE, "%" PRId64 " rows cannot take what is scattered", c->attr->i[0]);
    *out = (pipe_op_result){.shape = {.rank = 1, .dim = {c->attr->i[0]}}, .dtype = PIPE_F32};
    for (uint32_t k = index->rank; k < a->rank; k++) {
        if (out->shape.rank == PIPE_MAX_RANK)
            return pipe_fail(err, PIPE_ESHAPE, "the result would have more than %d axes", PIPE_MAX_RANK);
        out->shape.dim[out->shape.rank++] = a->dim[k];
    }
    return PIPE_OK;
}

static void scatter_reference(const pipe_reference *r)
{
    const size_t inner = (size_t)product(&r->out_shape, 1, r->out_shape.rank);
    const size_t n = (size_t)pipe_shape_count(&r->in_shape[1]);
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < inner; j++)
            r->out[row_of(r->in[1][i], r->attr->i[0]) * inner + j] += r->in[0][i * inner + j];
}

static pipe_status scatter_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const pipe_shape *out = pipe_tensor_shape(c->out);
    const pipe_device_profile *p = pipe_lower_profile(l);
    const int64_t n = pipe_count(c->in[1]), rows = out->dim[0], inner = product(out, 1, out->rank);
    pipe_launch k = {.source = pipei_source(l, pipei_kernel_index),
                     .kernel = p->cpu ? "scatter_cpu" : "scatter_gpu"};
    pipei_arg(&k, PIPE_ARG_INPUT, 0);
    pipei_arg(&k, PIPE_ARG_INPUT, 1);
    pipei_arg(&k, PIPE_ARG_OUTPUT, 0);
    pipei_arg_int(&k, n);
    pipei_arg_int(&k, rows);
    pipei_arg_int(&k, inner);
    if (p->cpu) {
        /* Every item reads all indices: no more items than keep the device busy. */
        const int64_t items = PIPEI_MIN(rows, (int64_t)pipei_cpu_items(p) / 4),
                      share = (rows + items - 1) / items;
        pipei_arg_int(&k, share);
        pipei_launch_items(l, &k, (size_t)((rows + share - 1) / share));
    } else {
        pipei_launch_groups(l, &k, (size_t)(rows * ((inner + 63) / 64)), 64);
    }
    return PIPE_OK;
}

static void scatter_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    if (needs[0])
        gx[0] = pipe_gather(gy, c->in[1]);
}

static const pipe_op op_scatter_add = {
    PIPE_OP_INIT, .name = "scatter_add", .arity = 2, .shape = scatter_shape, .reference = scatter_reference,
    .lower = scatter_lower, .vjp = scatter_vjp, .jvp = pipei_jvp_linear,
};

pipe_tensor *pipe_scatter_add(pipe_tensor *a, pipe_tensor *index, int64_t rows)
{
    const pipe_attr attr = {.i = {rows}};
    return pipei_op2(&op_scatter_add, a, index, &attr);
}

/* ---- take_along: a [..., n], index [..., k] -> [..., k] ---- */
static pipe_status along_shapes(const pipe_op_call *c, pipe_error *err)
{
    PIPE_TRY(pipei_need_i32(c, 1, err));
    const pipe_shape *a = pipe_tensor_shape(c->in[0]), *index = pipe_tensor_shape(c->in[1]);
    bool fits = a->rank == index->rank && a->rank > 0;
    for (uint32_t k = 0; fits && k + 1 < a->rank; k++)
        fits = a->dim[k] == index->dim[k];
    if (fits)
        return PIPE_OK;
    char x[PIPE_SHAPE_TEXT], y[PIPE_SHAPE_TEXT];
    return pipe_fail(err, PIPE_ESHAPE, "%s and the index %s must agree in all axes but the last",
                     pipe_shape_text(a, x, sizeof x), pipe_shape_text(index, y, sizeof y));
}

static pipe_status take_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(along_shapes(c, err));
    const pipe_shape *a = pipe_tensor_shape(c->in[0]);
    char text[PIPE_SHAPE_TEXT];
    if (a->dim[a->rank - 1] == 0 && pipe_count(c->in[1]) > 0)
        return pipe_fail(err, PIPE_ESHAPE, "%s has nothing to take", pipe_shape_text(a, text, sizeof text));
    *out = (pipe_op_result){*pipe_tensor_shape(c->in[1]), pipe_tensor_dtype(c->in[0])};
    return PIPE_OK;
}

static void take_reference(const pipe_reference *r)
{
    const int64_t n = r->in_shape[0].dim[r->in_shape[0].rank - 1];
    const size_t k = (size_t)r->out_shape.dim[r->out_shape.rank - 1];
    for (size_t j = 0; j < r->n; j++)
        r->out[j] = r->in[0][j / k * (size_t)n + row_of(r->in[1][j], n)];
}

static pipe_status take_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const pipe_shape *a = pipe_tensor_shape(c->in[0]), *out = pipe_tensor_shape(c->out);
    const int64_t count = pipe_shape_count(out), k_last = out->dim[out->rank - 1];
    if (count == 0)
        return PIPE_OK;
    pipe_launch k = {.source = pipei_source(l, pipei_kernel_index), .kernel = "take_along"};
    pipei_arg(&k, PIPE_ARG_INPUT, 0);
    pipei_arg(&k, PIPE_ARG_INPUT, 1);
    pipei_arg(&k, PIPE_ARG_OUTPUT, 0);
    pipei_arg_int(&k, count / k_last);
    pipei_arg_int(&k, a->dim[a->rank - 1]);
    pipei_arg_int(&k, k_last);
    pipei_launch_items(l, &k, (size_t)count);
    return PIPE_OK;
}

static void take_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    if (needs[0])
        gx[0] = pipe_put_along(gy, c->in[1], pipe_dim(c->in[0], -1));
}

static const pipe_op op_take_along = {
    PIPE_OP_INIT, .name = "take_along", .arity = 2, .shape = take_shape, .reference = take_reference,
    .lower = take_lower, .vjp = take_vjp, .jvp = pipei_jvp_linear,
};

pipe_tensor *pipe_take_along(pipe_tensor *a, pipe_tensor *index)
{
    return pipei_op2(&op_take_along, a, index, NULL);
}

/* ---- put_along: a, index [..., k] -> [..., size]; i[0] size ---- */
static pipe_status put_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(pipei_need_f32(c, 0, err));
    PIPE_TRY(along_shapes(c, err));
    const pipe_shape *a = pipe_tensor_shape(c->in[0]), *index = pipe_tensor_shape(c->in[1]);
    if (!pipe_shape_equal(a, index)) {
        char x[PIPE_SHAPE_TEXT], y[PIPE_SHAPE_TEXT];
        return pipe_fail(err, PIPE_ESHAPE, "%s and the index %s must have one shape",
                         pipe_shape_text(a, x, sizeof x), pipe_shape_text(index, y, sizeof y));
    }
    if (c->attr->i[0] < 0 || (c->attr->i[0] == 0 && pipe_count(c->in[1]) > 0))
        return pipe_fail(err, PIPE_ESHAPE, "a last axis of size %" PRId64 " cannot take what is put",
                         c->attr->i[0]);
    *out = (pipe_op_result){*a, PIPE_F32};
    out->shape.dim[a->rank - 1] = c->attr->i[0];
    return PIPE_OK;
}

static void put_reference(const pipe_reference *r)
{
    const int64_t size = r->attr->i[0];
    const size_t n = (size_t)pipe_shape_count(&r->in_shape[0]);
    const size_t k = (size_t)r->in_shape[0].dim[r->in_shape[0].rank - 1];
    for (size_t j = 0; j < r->n; j++)
        r->out[j] = 0;
    for (size_t j = 0; j < n; j++)
        r->out[j / k * (size_t)size + row_of(r->in[1][j], size)] += r->in[0][j];
}

static pipe_status put_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const pipe_shape *a = pipe_tensor_shape(c->in[0]);
    const bool cpu = pipe_lower_profile(l)->cpu;
    const int64_t size = c->attr->i[0], outer = product(a, 0, a->rank - 1);
    pipe_launch k = {.source = pipei_source(l, pipei_kernel_index),
                     .kernel = cpu ? "put_along_cpu" : "put_along_gpu"};
    pipei_arg(&k, PIPE_ARG_INPUT, 0);
    pipei_arg(&k, PIPE_ARG_INPUT, 1);
    pipei_arg(&k, PIPE_ARG_OUTPUT, 0);
    pipei_arg_int(&k, outer);
    pipei_arg_int(&k, size);
    pipei_arg_int(&k, a->dim[a->rank - 1]);
    if (cpu)
        pipei_launch_items(l, &k, (size_t)outer);
    else
        pipei_launch_groups(l, &k, (size_t)(outer * ((size + 63) / 64)), 64);
    return PIPE_OK;
}

static void put_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    if (needs[0])
        gx[0] = pipe_take_along(gy, c->in[1]);
}

static const pipe_op op_put_along = {
    PIPE_OP_INIT, .name = "put_along", .arity = 2, .shape = put_shape, .reference = put_reference,
    .lower = put_lower, .vjp = put_vjp, .jvp = pipei_jvp_linear,
};

pipe_tensor *pipe_put_along(pipe_tensor *a, pipe_tensor *index, int64_t size)
{
    const pipe_attr attr = {.i = {size}};
    return pipei_op2(&op_put_along, a, index, &attr);
}

/* ---- one_hot: index [...] -> [..., classes]; i[0] classes ---- */
static pipe_status one_hot_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(pipei_need_i32(c, 0, err));
    *out = (pipe_op_result){*pipe_tensor_shape(c->in[0]), PIPE_F32};
    if (out->shape.rank == PIPE_MAX_RANK || c->attr->i[0] < 0)
        return pipe_fail(err, PIPE_ESHAPE,
                         "an axis of %" PRId64 " classes cannot be added to %" PRIu32 " axes", c->attr->i[0],
                         out->shape.rank);
    out->shape.dim[out->shape.rank++] = c->attr->i[0];
    return PIPE_OK;
}

static void one_hot_reference(const pipe_reference *r)
{
    const size_t classes = (size_t)r->attr->i[0];
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = r->in[0][k / classes] == (double)(k % classes) ? 1.0 : 0.0;
}

static pipe_status one_hot_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    pipe_launch k = {.source = pipei_source(l, pipei_kernel_index), .kernel = "one_hot"};
    pipei_arg(&k, PIPE_ARG_INPUT, 0);
    pipei_arg(&k, PIPE_ARG_OUTPUT, 0);
    pipei_arg_int(&k, pipe_count(c->in[0]));
    pipei_arg_int(&k, c->attr->i[0]);
    pipei_launch_items(l, &k, (size_t)(pipe_count(c->in[0]) * c->attr->i[0]));
    return PIPE_OK;
}

static const pipe_op op_one_hot = {
    PIPE_OP_INIT, .name = "one_hot", .arity = 1, .shape = one_hot_shape, .reference = one_hot_reference,
    .lower = one_hot_lower, .vjp = pipei_vjp_zero, .jvp = pipei_jvp_zero,
};

pipe_tensor *pipe_one_hot(pipe_tensor *index, int64_t classes)
{
    const pipe_attr attr = {.i = {classes}};
    return pipei_op1(&op_one_hot, index, &attr);
}

/* ---- arange: i[0] n; f[0] start, f[1] step, or u[0] start ---- */
static pipe_status arange_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    *out = (pipe_op_result){.shape = {.rank = 1, .dim = {c->attr->i[0]}}, .dtype = PIPE_F32};
    return pipei_need_shape(&out->shape, err);
}

static pipe_status arange_i32_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(arange_shape(c, out, err));
    out->dtype = PIPE_I32;
    return PIPE_OK;
}

static void arange_reference(const pipe_reference *r)
{
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = (double)r->attr->f[0] + (double)k * (double)r->attr->f[1];
}

static void arange_i32_reference(const pipe_reference *r)
{
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = (double)(int32_t)(r->attr->u[0] + (uint32_t)k);
}

static pipe_status arange_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    pipe_launch k = {.source = pipei_source(l, pipei_kernel_index), .kernel = c->op->name};
    pipei_arg(&k, PIPE_ARG_OUTPUT, 0);
    pipei_arg_int(&k, c->attr->i[0]);
    if (pipe_tensor_dtype(c->out) == PIPE_F32) {
        pipei_arg(&k, PIPE_ARG_FLOAT, 0);
        pipei_arg(&k, PIPE_ARG_FLOAT, 1);
    } else {
        pipei_arg(&k, PIPE_ARG_WORD, 0);
    }
    pipei_launch_items(l, &k, (size_t)c->attr->i[0]);
    return PIPE_OK;
}

static const pipe_op op_arange = {
    PIPE_OP_INIT, .name = "arange", .arity = 0, .shape = arange_shape, .reference = arange_reference,
    .lower = arange_lower, .vjp = pipei_vjp_zero, .jvp = pipei_jvp_zero,
};
static const pipe_op op_arange_i32 = {
    PIPE_OP_INIT,
    .name = "arange_i32",
    .arity = 0,
    .shape = arange_i32_shape,
    .reference = arange_i32_reference,
    .lower = arange_lower,
    .vjp = pipei_vjp_zero,
    .jvp = pipei_jvp_zero,
};

pipe_tensor *pipe_arange(pipe_engine *e, int64_t n, double start, double step)
{
    const pipe_attr attr = {.i = {n}, .f = {(float)start, (float)step}};
    return pipe_op_apply(e, &op_arange, NULL, 0, &attr);
}

pipe_tensor *pipe_arange_i32(pipe_engine *e, int64_t n, int32_t start)
{
    const pipe_attr attr = {.i = {n}, .u = {(uint32_t)start}};
    return pipe_op_apply(e, &op_arange_i32, NULL, 0, &attr);
}

const pipe_op *const pipei_ops_index[] = {
    &op_gather, &op_scatter_add, &op_take_along, &op_put_along, &op_one_hot, &op_arange, &op_arange_i32, NULL,
};
