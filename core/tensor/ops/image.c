/* Pooling and resizing of images [n, h, w, c].
 *
 * Every op here is linear but max_pool2d, which is linear once the positions of
 * the maxima are known: its derivatives take and scatter at those, and taking and
 * scattering are each other's adjoints.  So the file is closed under
 * differentiation.  Attributes: pooling i[0] kernel, i[1] stride, i[2] pad;
 * adjoints and resizing i[3], i[4] height and width of the result. */
#include "core/tensor/ops/ops.h"

#include <inttypes.h>
#include <math.h>

extern const char pipei_kernel_image[];

enum { KERNEL, STRIDE, PAD, HEIGHT, WIDTH };

/* ---- shapes ---- */
static pipe_status image_shape(const pipe_op_call *c, size_t k, pipe_error *err)
{
    PIPE_TRY(pipei_need_f32(c, k, err));
    return pipei_need_rank(c, k, 4, err);
}

static int64_t pooled(int64_t size, const pipe_attr *attr)
{
    return (size + 2 * attr->i[PAD] - attr->i[KERNEL]) / attr->i[STRIDE] + 1;
}

static pipe_status pool_attr(const pipe_op_call *c, pipe_error *err)
{
    const int64_t kernel = c->attr->i[KERNEL], stride = c->attr->i[STRIDE], pad = c->attr->i[PAD];
    if (kernel >= 1 && stride >= 1 && pad >= 0 && 2 * pad <= kernel)
        return PIPE_OK;
    return pipe_fail(err, PIPE_EINVAL,
                     "kernel %" PRId64 ", stride %" PRId64 ", padding %" PRId64
                     ": kernel and stride must be at least 1, the padding at most half the kernel",
                     kernel, stride, pad);
}

static pipe_status pool_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(image_shape(c, 0, err));
    PIPE_TRY(pool_attr(c, err));
    const pipe_shape *in = pipe_tensor_shape(c->in[0]);
    char text[PIPE_SHAPE_TEXT];
    *out = (pipe_op_result){*in, PIPE_F32};
    for (int axis = 1; axis <= 2; axis++) {
        if (in->dim[axis] + 2 * c->attr->i[PAD] < c->attr->i[KERNEL])
            return pipe_fail(err, PIPE_ESHAPE, "a kernel of %" PRId64 " does not fit into %s with %" PRId64
                             " pixels of padding", c->attr->i[KERNEL], pipe_shape_text(in, text, sizeof text),
                             c->attr->i[PAD]);
        out->shape.dim[axis] = pooled(in->dim[axis], c->attr);
    }
    return PIPE_OK;
}

static pipe_status pool_index_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(pool_shape(c, out, err));
    out->dtype = PIPE_I32;
    return PIPE_OK;
}

/* Input 0 is what pooling [n, i[3], i[4], c] would give; the result has that shape. */
static pipe_status unpool_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(image_shape(c, 0, err));
    PIPE_TRY(pool_attr(c, err));
    const pipe_shape *in = pipe_tensor_shape(c->in[0]);
    char text[PIPE_SHAPE_TEXT];
    *out = (pipe_op_result){*in, PIPE_F32};
    out->shape.dim[1] = c->attr->i[HEIGHT];
    out->shape.dim[2] = c->attr->i[WIDTH];
    if (pooled(c->attr->i[HEIGHT], c->attr) != in->dim[1] || pooled(c->attr->i[WIDTH], c->attr) != in->dim[2])
        return pipe_fail(err, PIPE_ESHAPE, "%s is not what pooling %" PRId64 " x %" PRId64 " pixels gives",
                         pipe_shape_text(in, text, sizeof text), c->attr->i[HEIGHT], c->attr->i[WIDTH]);
    return PIPE_OK;
}

static pipe_status need_index(const pipe_op_call *c, const pipe_shape *pooled_shape, pipe_error *err)
{
    PIPE_TRY(pipei_need_i32(c, 1, err));
    char a[PIPE_SHAPE_TEXT], b[PIPE_SHAPE_TEXT];
    if (pipe_shape_equal(pipe_tensor_shape(c->in[1]), pooled_shape))
        return PIPE_OK;
    return pipe_fail(err, PIPE_ESHAPE, "the positions %s do not have the pooled shape %s",
                     pipe_shape_text(pipe_tensor_shape(c->in[1]), a, sizeof a),
                     pipe_shape_text(pooled_shape, b, sizeof b));
}

static pipe_status pool_take_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(pool_shape(c, out, err));
    return need_index(c, &out->shape, err);
}

static pipe_status pool_scatter_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(unpool_shape(c, out, err));
    return need_index(c, pipe_tensor_shape(c->in[0]), err);
}

static pipe_status resize_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(image_shape(c, 0, err));
    const pipe_shape *in = pipe_tensor_shape(c->in[0]);
    const int64_t h = c->attr->i[HEIGHT], w = c->attr->i[WIDTH];
    char text[PIPE_SHAPE_TEXT];
    if (h < 1 || w < 1 || in->dim[1] < 1 || in->dim[2] < 1)
        return pipe_fail(err, PIPE_ESHAPE,
                         "%s to %" PRId64 " x %" PRId64 " pixels: both sides need at least one",
                         pipe_shape_text(in, text, sizeof text), h, w);
    *out = (pipe_op_result){*in, PIPE_F32};
    out->shape.dim[1] = h;
    out->shape.dim[2] = w;
    return PIPE_OK;
}

/* ---- references ---- */
static size_t at(const pipe_shape *s, int64_t n, int64_t y, int64_t x, int64_t c)
{
    return (size_t)(((n * s->dim[1] + y) * s->dim[2] + x) * s->dim[3] + c);
}

/* Calls f(o, i) for every pixel i in the window of every pooled pixel o. */
static void each_window(const pipe_reference *r, const pipe_shape *full, const pipe_shape *small,
                        void (*f)(const pipe_reference *r, size_t o, size_t i, int64_t position))
{
    const int64_t kernel = r->attr->i[KERNEL], stride = r->attr->i[STRIDE], pad = r->attr->i[PAD];
    for (int64_t n = 0; n < small->dim[0]; n++)
        for (int64_t oy = 0; oy < small->dim[1]; oy++)
            for (int64_t ox = 0; ox < small->dim[2]; ox++)
                for (int64_t c = 0; c < small->dim[3]; c++)
                    for (int64_t ky = 0; ky < kernel; ky++)
                        for (int64_t kx = 0; kx < kernel; kx++) {
                            const int64_t y = oy * stride - pad + ky, x = ox * stride - pad + kx;
                            if (y >= 0 && y < full->dim[1] && x >= 0 && x < full->dim[2])
                                f(r, at(small, n, oy, ox, c), at(full, n, y, x, c), y * full->dim[2] + x);
                        }
}

static void set_all(const pipe_reference *r, double value)
{
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = value;
}

static void add_average(const pipe_reference *r, size_t o, size_t i, int64_t position)
{
    (void)position;
    r->out[o] += r->in[0][i] / (double)(r->attr->i[KERNEL] * r->attr->i[KERNEL]);
}

static void add_share(const pipe_reference *r, size_t o, size_t i, int64_t position)
{
    (void)position;
    r->out[i] += r->in[0][o] / (double)(r->attr->i[KERNEL] * r->attr->i[KERNEL]);
}

static void take_maximum(const pipe_reference *r, size_t o, size_t i, int64_t position)
{
    (void)position;
    if (r->in[0][i] > r->out[o] || isnan(r->in[0][i]))
        r->out[o] = r->in[0][i];
}

static void avg_pool_reference(const pipe_reference *r)
{
    set_all(r, 0);
    each_window(r, &r->in_shape[0], &r->out_shape, add_average);
}

static void avg_pool_adjoint_reference(const pipe_reference *r)
{
    set_all(r, 0);
    each_window(r, &r->out_shape, &r->in_shape[0], add_share);
}

static void max_pool_reference(const pipe_reference *r)
{
    set_all(r, -INFINITY);
    each_window(r, &r->in_shape[0], &r->out_shape, take_maximum);
}

static void max_pool_index_reference(const pipe_reference *r)
{
    const pipe_shape *in = &r->in_shape[0], *out = &r->out_shape;
    const int64_t kernel = r->attr->i[KERNEL], stride = r->attr->i[STRIDE], pad = r->attr->i[PAD];
    for (size_t k = 0; k < r->n; k++) {
        int64_t o[PIPE_MAX_RANK];
        double best = -INFINITY;
        pipei_unravel(k, out, o);
        r->out[k] = -1;
        for (int64_t y = o[1] * stride - pad; y < o[1] * stride - pad + kernel; y++)
            for (int64_t x = o[2] * stride - pad; x < o[2] * stride - pad + kernel; x++) {
                if (y < 0 || y >= in->dim[1] || x < 0 || x >= in->dim[2])
                    continue;
                const double v = r->in[0][at(in, o[0], y, x, o[3])];
                if (r->out[k] < 0 || v > best || (isnan(v) && !isnan(best))) {
                    best = v;
                    r->out[k] = (double)(y * in->dim[2] + x);
                }
            }
    }
}

static void pool_take_reference(const pipe_reference *r)
{
    const pipe_shape *in = &r->in_shape[0];
    for (size_t k = 0; k < r->n; k++) {
        int64_t o[PIPE_MAX_RANK];
        pipei_unravel(k, &r->out_shape, o);
        r->out[k] = r->in[0][at(in, o[0], 0, (int64_t)r->in[1][k], o[3])];
    }
}

static void add_at_position(const pipe_reference *r, size_t o, size_t i, int64_t position)
{
    if ((int64_t)r->in[1][o] == position)
        r->out[i] += r->in[0][o];
}

static void pool_scatter_reference(const pipe_reference *r)
{
    set_all(r, 0);
    each_window(r, &r->out_shape, &r->in_shape[0], add_at_position);
}

/* Weight of input s in output i, one axis at a time. */
static double nearest_weight(int64_t i, int64_t s, int64_t in, int64_t out)
{
    return i * in / out == s ? 1 : 0;
}

static double bilinear_weight(int64_t i, int64_t s, int64_t in, int64_t out)
{
    const double centre = fmax(0, ((double)i + 0.5) * (double)in / (double)out - 0.5);
    const double near_edge = fmin(centre, (double)(in - 1));
    return fmax(0, 1 - fabs(near_edge - (double)s));
}

/* forward: out has the new size; else the adjoint, from the new size back. */
static void resize_reference(const pipe_reference *r, bool forward,
                             double (*weight)(int64_t i, int64_t s, int64_t in, int64_t out))
{
    const pipe_shape *old = forward ? &r->in_shape[0] : &r->out_shape;
    const pipe_shape *new = forward ? &r->out_shape : &r->in_shape[0];
    set_all(r, 0);
    for (int64_t n = 0; n < new->dim[0]; n++)
        for (int64_t i = 0; i < new->dim[1]; i++)
            for (int64_t y = 0; y < old->dim[1]; y++) {
                const double v = weight(i, y, old->dim[1], new->dim[1]);
                for (int64_t j = 0; v != 0 && j < new->dim[2]; j++)
                    for (int64_t x = 0; x < old->dim[2]; x++) {
                        const double u = weight(j, x, old->dim[2], new->dim[2]);
                        for (int64_t c = 0; u != 0 && c < new->dim[3]; c++) {
                            const size_t p = at(new, n, i, j, c), q = at(old, n, y, x, c);
                            r->out[forward ? p : q] += v * u * r->in[0][forward ? q : p];
                        }
                    }
            }
}

static void resize_nearest_reference(const pipe_reference *r) { resize_reference(r, true, nearest_weight); }
static void resize_nearest_adjoint_reference(const pipe_reference *r)
{
    resize_reference(r, false, nearest_weight);
}
static void resize_bilinear_reference(const pipe_reference *r) { resize_reference(r, true, bilinear_weight); }
static void resize_bilinear_adjoint_reference(const pipe_reference *r)
{
    resize_reference(r, false, bilinear_weight);
}

/* ---- lowering: the kernel has the op's name ---- */
static void lower(pipe_lowering *l, const pipe_op_call *c, const pipe_shape *full, const pipe_shape *small,
                  bool pool)
{
    const pipe_shape *out = pipe_tensor_shape(c->out);
    const int64_t wide = pipe_lower_profile(l)->cpu ? 1024 : 1;
    pipe_launch k = {.source = pipei_source(l, pipei_kernel_image), .kernel = c->op->name};
    for (uint32_t j = 0; j < c->n_in; j++)
        pipei_arg(&k, PIPE_ARG_INPUT, j);
    pipei_arg(&k, PIPE_ARG_OUTPUT, 0);
    for (int axis = 0; axis < 4; axis++)
        pipei_arg_int(&k, full->dim[axis]);
    pipei_arg_int(&k, small->dim[1]);
    pipei_arg_int(&k, small->dim[2]);
    for (int j = KERNEL; pool && j <= PAD; j++)
        pipei_arg_int(&k, c->attr->i[j]);
    pipei_arg_int(&k, wide);
    const int64_t pixels = out->dim[0] * out->dim[1] * out->dim[2];
    pipei_launch_items(l, &k, (size_t)(pixels * ((out->dim[3] + wide - 1) / wide)));
}

static pipe_status pool_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    lower(l, c, pipe_tensor_shape(c->in[0]), pipe_tensor_shape(c->out), true);
    return PIPE_OK;
}

static pipe_status unpool_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    lower(l, c, pipe_tensor_shape(c->out), pipe_tensor_shape(c->in[0]), true);
    return PIPE_OK;
}

static pipe_status resize_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    lower(l, c, pipe_tensor_shape(c->in[0]), pipe_tensor_shape(c->out), false);
    return PIPE_OK;
}

static pipe_status resize_adjoint_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    lower(l, c, pipe_tensor_shape(c->out), pipe_tensor_shape(c->in[0]), false);
    return PIPE_OK;
}

static pipe_status pool_take_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const pipe_shape *in = pipe_tensor_shape(c->in[0]), *out = pipe_tensor_shape(c->out);
    pipe_launch k = {.source = pipei_source(l, pipei_kernel_image), .kernel = "pool_take"};
    pipei_arg(&k, PIPE_ARG_INPUT, 0);
    pipei_arg(&k, PIPE_ARG_INPUT, 1);
    pipei_arg(&k, PIPE_ARG_OUTPUT, 0);
    for (int axis = 0; axis < 4; axis++)
        pipei_arg_int(&k, in->dim[axis]);
    pipei_arg_int(&k, out->dim[1]);
    pipei_arg_int(&k, out->dim[2]);
    pipei_launch_items(l, &k, (size_t)pipe_shape_count(out));
    return PIPE_OK;
}

/* ---- derivatives: pairs of adjoints ---- */
/* The same attributes, with the height and width of t. */
static pipe_attr sized(const pipe_attr *attr, const pipe_tensor *t)
{
    pipe_attr a = *attr;
    a.i[HEIGHT] = pipe_dim(t, 1);
    a.i[WIDTH] = pipe_dim(t, 2);
    return a;
}

/* name_ and name_##_adjoint, each the other's vjp. */
#define PAIR(name_, shape_, adjoint_shape_, reference_, lower_, adjoint_lower_, adjoint_attr_)               \
    static const pipe_op op_##name_##_adjoint;                                                               \
    static void name_##_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)     \
    {                                                                                                        \
        const pipe_attr attr = sized(c->attr, c->in[0]);                                                     \
        if (needs[0])                                                                                        \
            gx[0] = pipei_op1(&op_##name_##_adjoint, gy, &attr);                                             \
    }                                                                                                        \
    static const pipe_op op_##name_ = {                                                                      \
        PIPE_OP_INIT,                                                                                        \
        .name = #name_,                                                                                      \
        .arity = 1,                                                                                          \
        .shape = shape_,                                                                                     \
        .reference = reference_##_reference,                                                                 \
        .lower = lower_,                                                                                     \
        .vjp = name_##_vjp,                                                                                  \
        .jvp = pipei_jvp_linear,                                                                             \
    };                                                                                                       \
    static void name_##_adjoint_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx,                \
                                    const bool *needs)                                                       \
    {                                                                                                        \
        const pipe_attr attr = adjoint_attr_;                                                                \
        if (needs[0])                                                                                        \
            gx[0] = pipei_op1(&op_##name_, gy, &attr);                                                       \
    }                                                                                                        \
    static const pipe_op op_##name_##_adjoint = {                                                            \
        PIPE_OP_INIT,                                                                                        \
        .name = #name_ "_adjoint",                                                                           \
        .arity = 1,                                                                                          \
        .shape = adjoint_shape_,                                                                             \
        .reference = reference_##_adjoint_reference,                                                         \
        .lower = adjoint_lower_,                                                                             \
        .vjp = name_##_adjoint_vjp,                                                                          \
        .jvp = pipei_jvp_linear,                                                                             \
    };

PAIR(avg_pool2d, pool_shape, unpool_shape, avg_pool, pool_lower, unpool_lower, *c->attr)
PAIR(resize_nearest, resize_shape, resize_shape, resize_nearest, resize_lower, resize_adjoint_lower,
     sized(c->attr, c->in[0]))
PAIR(resize_bilinear, resize_shape, resize_shape, resize_bilinear, resize_lower, resize_adjoint_lower,
     sized(c->attr, c->in[0]))

static const pipe_op op_max_pool2d_index = {
    PIPE_OP_INIT, .name = "max_pool2d_index", .arity = 1, .shape = pool_index_shape,
    .reference = max_pool_index_reference, .lower = pool_lower, .vjp = pipei_vjp_zero, .jvp = pipei_jvp_zero,
};

static const pipe_op op_pool_take, op_pool_scatter;

static void pool_take_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    const pipe_attr attr = sized(c->attr, c->in[0]);
    if (needs[0])
        gx[0] = pipei_op2(&op_pool_scatter, gy, c->in[1], &attr);
}

static void pool_scatter_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    if (needs[0])
        gx[0] = pipei_op2(&op_pool_take, gy, c->in[1], c->attr);
}

/* out[n, y, x, c] = in[n, positions[n, y, x, c], c] */
static const pipe_op op_pool_take = {
    PIPE_OP_INIT, .name = "pool_take", .arity = 2, .shape = pool_take_shape, .reference = pool_take_reference,
    .lower = pool_take_lower, .vjp = pool_take_vjp, .jvp = pipei_jvp_linear,
};
static const pipe_op op_pool_scatter = {
    PIPE_OP_INIT,
    .name = "pool_scatter",
    .arity = 2,
    .shape = pool_scatter_shape,
    .reference = pool_scatter_reference,
    .lower = unpool_lower,
    .vjp = pool_scatter_vjp,
    .jvp = pipei_jvp_linear,
};

static pipe_tensor *positions(const pipe_op_call *c)
{
    return pipei_op1(&op_max_pool2d_index, c->in[0], c->attr);
}

static void max_pool2d_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    const pipe_attr attr = sized(c->attr, c->in[0]);
    if (needs[0])
        gx[0] = pipei_op2(&op_pool_scatter, gy, positions(c), &attr);
}

static pipe_tensor *max_pool2d_jvp(const pipe_op_call *c, pipe_tensor *const *dx)
{
    return dx[0] ? pipei_op2(&op_pool_take, dx[0], positions(c), c->attr) : NULL;
}

static pipe_tensor *max_pool2d_composed(const pipe_op_call *c)
{
    return pipei_op2(&op_pool_take, c->in[0], positions(c), c->attr);
}

/* Of equal maxima the first takes the gradient, as in PyTorch. */
static const pipe_op op_max_pool2d = {
    PIPE_OP_INIT, .name = "max_pool2d", .arity = 1, .shape = pool_shape, .reference = max_pool_reference,
    .lower = pool_lower, .composed = max_pool2d_composed, .vjp = max_pool2d_vjp, .jvp = max_pool2d_jvp,
};

/* ---- functions ---- */
pipe_tensor *pipe_avg_pool2d(pipe_tensor *x, int64_t kernel, int64_t stride, int64_t pad)
{
    const pipe_attr attr = {.i = {kernel, stride, pad}};
    return pipei_op1(&op_avg_pool2d, x, &attr);
}

pipe_tensor *pipe_max_pool2d(pipe_tensor *x, int64_t kernel, int64_t stride, int64_t pad)
{
    const pipe_attr attr = {.i = {kernel, stride, pad}};
    return pipei_op1(&op_max_pool2d, x, &attr);
}

static pipe_tensor *resize(const pipe_op *op, pipe_tensor *x, int64_t h, int64_t w)
{
    PIPEI_SOUND(x);
    if (pipe_rank(x) == 4 && pipe_dim(x, 1) == h && pipe_dim(x, 2) == w)
        return x;
    const pipe_attr attr = {.i = {[HEIGHT] = h, [WIDTH] = w}};
    return pipei_op1(op, x, &attr);
}

pipe_tensor *pipe_resize_nearest(pipe_tensor *x, int64_t h, int64_t w)
{
    return resize(&op_resize_nearest, x, h, w);
}

pipe_tensor *pipe_resize_bilinear(pipe_tensor *x, int64_t h, int64_t w)
{
    return resize(&op_resize_bilinear, x, h, w);
}

const pipe_op *const pipei_ops_image[] = {
    &op_avg_pool2d,
    &op_avg_pool2d_adjoint,
    &op_max_pool2d,
    &op_max_pool2d_index,
    &op_pool_take,
    &op_pool_scatter,
    &op_resize_nearest,
    &op_resize_nearest_adjoint,
    &op_resize_bilinear,
    &op_resize_bilinear_adjoint,
    NULL,
};
