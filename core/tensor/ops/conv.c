/* Convolutions: conv2d and its two adjoints.
 *
 * conv2d is bilinear in x and weight, so three ops are closed under
 * differentiation.  With <y', conv(x, w)> = <conv_transpose(y', w), x> =
 * <weight_grad(x, y'), w>, each derivative is one of the other two:
 *
 *     y  = conv(x, w)             gx = transpose(gy, w)     gw = weight_grad(x, gy)
 *     x' = transpose(y, w)        gy = conv(gx, w)          gw = weight_grad(gx, y)
 *     w' = weight_grad(x, y)      gx = transpose(y, gw)     gy = conv(x, gw) */
#include "core/tensor/ops/conv.h"

#include <string.h>

/* attr->i: the pipe_conv, then what the output's shape cannot be told from. */
enum { A_STRIDE = 0, A_DILATION = 2, A_PAD = 4, A_GROUPS = 8, A_H = 9, A_W = 10 };

static void attr_geometry(const pipe_attr *a, pipei_conv_geometry *g)
{
    for (int k = 0; k < 2; k++) {
        g->stride[k] = a->i[A_STRIDE + k];
        g->dilation[k] = a->i[A_DILATION + k];
    }
    for (int k = 0; k < 4; k++)
        g->pad[k] = a->i[A_PAD + k];
    g->groups = a->i[A_GROUPS];
}

/* Size of an output axis; below 1 when the kernel does not fit. */
static int64_t out_size(const pipei_conv_geometry *g, int axis, int64_t size, int64_t kernel)
{
    const int64_t free_ = size + g->pad[2 * axis] + g->pad[2 * axis + 1] - g->dilation[axis] * (kernel - 1) - 1;
    return free_ < 0 ? 0 : free_ / g->stride[axis] + 1;
}

static void set_x(pipei_conv_geometry *g, const pipe_shape *x)
{
    g->n = x->dim[0];
    g->h = x->dim[1];
    g->w = x->dim[2];
    g->ci = x->dim[3];
}

static void set_weight(pipei_conv_geometry *g, const pipe_shape *w)
{
    g->kh = w->dim[0];
    g->kw = w->dim[1];
    g->cig = w->dim[2];
    g->co = w->dim[3];
    g->cog = g->co / g->groups;
    g->ci = g->cig * g->groups;
}

static void set_y(pipei_conv_geometry *g, const pipe_shape *y)
{
    g->n = y->dim[0];
    g->oh = y->dim[1];
    g->ow = y->dim[2];
    g->co = y->dim[3];
    g->cog = g->co / g->groups;
}

/* ---- shapes ---- */
typedef struct texts {
    char a[PIPE_SHAPE_TEXT], b[PIPE_SHAPE_TEXT];
} texts;

static texts both(const pipe_op_call *c)
{
    texts t;
    pipe_shape_text(pipe_tensor_shape(c->in[0]), t.a, sizeof(t.a));
    pipe_shape_text(pipe_tensor_shape(c->in[1]), t.b, sizeof(t.b));
    return t;
}

/* What holds for all three: f32, rank 4, sane attributes. */
static pipe_status check_common(const pipe_op_call *c, const char *first, const char *second, pipe_error *err)
{
    const texts t = both(c);
    for (size_t k = 0; k < 2; k++) {
        if (pipe_tensor_dtype(c->in[k]) != PIPE_F32)
            return pipe_fail(err, PIPE_ESHAPE, "%s: %s must be f32, not i32", c->op->name, k ? second : first);
        if (pipe_rank(c->in[k]) != 4)
            return pipe_fail(err, PIPE_ESHAPE, "%s: %s %s and %s %s: both must have rank 4", c->op->name, first, t.a,
                             second, t.b);
    }
    for (int k = 0; k < 2; k++)
        if (c->attr->i[A_STRIDE + k] < 1 || c->attr->i[A_DILATION + k] < 1)
            return pipe_fail(err, PIPE_EINVAL, "%s: stride and dilation must be at least 1", c->op->name);
    if (c->attr->i[A_GROUPS] < 1)
        return pipe_fail(err, PIPE_EINVAL, "%s: groups must be at least 1", c->op->name);
    return PIPE_OK;
}

static pipe_status check_weight(const pipe_op_call *c, pipei_conv_geometry *g, const pipe_shape *w, pipe_error *err)
{
    char text[PIPE_SHAPE_TEXT];
    if (w->dim[0] < 1 || w->dim[1] < 1 || w->dim[2] < 1 || w->dim[3] < 1 || w->dim[3] % g->groups != 0)
        return pipe_fail(err, PIPE_ESHAPE,
                         "%s: weight %s: [kh, kw, ci / groups, co] needs axes of at least 1 and co divisible by "
                         "groups = %lld", c->op->name, pipe_shape_text(w, text, sizeof(text)), (long long)g->groups);
    set_weight(g, w);
    return PIPE_OK;
}

static pipe_status fits(const pipe_op_call *c, const pipei_conv_geometry *g, int64_t *oh, int64_t *ow, pipe_error *err)
{
    *oh = out_size(g, 0, g->h, g->kh);
    *ow = out_size(g, 1, g->w, g->kw);
    if (*oh < 1 || *ow < 1)
        return pipe_fail(err, PIPE_ESHAPE,
                         "%s: a kernel of %lld x %lld with dilation %lld x %lld does not fit an image of %lld x %lld "
                         "padded by %lld, %lld, %lld, %lld (top, bottom, left, right)", c->op->name,
                         (long long)g->kh, (long long)g->kw, (long long)g->dilation[0], (long long)g->dilation[1],
                         (long long)g->h, (long long)g->w, (long long)g->pad[0], (long long)g->pad[1],
                         (long long)g->pad[2], (long long)g->pad[3]);
    return PIPE_OK;
}

static pipe_status conv_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(check_common(c, "x", "weight", err));
    pipei_conv_geometry g = {0};
    attr_geometry(c->attr, &g);
    const pipe_shape *x = pipe_tensor_shape(c->in[0]), *w = pipe_tensor_shape(c->in[1]);
    PIPE_TRY(check_weight(c, &g, w, err));
    if (x->dim[3] != g.ci) {
        const texts t = both(c);
        return pipe_fail(err, PIPE_ESHAPE, "conv2d: x %s has %lld channels, weight %s with groups = %lld wants %lld",
                         t.a, (long long)x->dim[3], t.b, (long long)g.groups, (long long)g.ci);
    }
    set_x(&g, x);
    int64_t oh, ow;
    PIPE_TRY(fits(c, &g, &oh, &ow, err));
    *out = (pipe_op_result){.shape = PIPE_SHAPE(g.n, oh, ow, g.co), .dtype = PIPE_F32};
    return PIPE_OK;
}

static pipe_status transpose_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(check_common(c, "y", "weight", err));
    pipei_conv_geometry g = {0};
    attr_geometry(c->attr, &g);
    const pipe_shape *y = pipe_tensor_shape(c->in[0]), *w = pipe_tensor_shape(c->in[1]);
    PIPE_TRY(check_weight(c, &g, w, err));
    const texts t = both(c);
    if (y->dim[3] != g.co)
        return pipe_fail(err, PIPE_ESHAPE, "conv2d_transpose: y %s has %lld channels, weight %s wants %lld", t.a,
                         (long long)y->dim[3], t.b, (long long)g.co);
    g.h = c->attr->i[A_H];
    g.w = c->attr->i[A_W];
    int64_t oh, ow;
    PIPE_TRY(fits(c, &g, &oh, &ow, err));
    if (oh != y->dim[1] || ow != y->dim[2])
        return pipe_fail(err, PIPE_ESHAPE,
                         "conv2d_transpose: y %s cannot come from an image of %lld x %lld with weight %s: that gives "
                         "%lld x %lld", t.a, (long long)g.h, (long long)g.w, t.b, (long long)oh, (long long)ow);
    *out = (pipe_op_result){.shape = PIPE_SHAPE(y->dim[0], g.h, g.w, g.ci), .dtype = PIPE_F32};
    return PIPE_OK;
}

static pipe_status weight_grad_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(check_common(c, "x", "y", err));
    pipei_conv_geometry g = {0};
    attr_geometry(c->attr, &g);
    const pipe_shape *x = pipe_tensor_shape(c->in[0]), *y = pipe_tensor_shape(c->in[1]);
    const texts t = both(c);
    set_x(&g, x);
    g.kh = c->attr->i[A_H];
    g.kw = c->attr->i[A_W];
    if (g.kh < 1 || g.kw < 1)
        return pipe_fail(err, PIPE_EINVAL, "conv2d_weight_grad: the kernel's size must be at least 1 x 1");
    if (g.ci < 1 || y->dim[3] < 1 || g.ci % g.groups != 0 || y->dim[3] % g.groups != 0 || x->dim[0] != y->dim[0])
        return pipe_fail(err, PIPE_ESHAPE,
                         "conv2d_weight_grad: x %s and y %s need the same batch and channels divisible by groups = %lld",
                         t.a, t.b, (long long)g.groups);
    int64_t oh, ow;
    PIPE_TRY(fits(c, &g, &oh, &ow, err));
    if (oh != y->dim[1] || ow != y->dim[2])
        return pipe_fail(err, PIPE_ESHAPE, "conv2d_weight_grad: x %s with a kernel of %lld x %lld gives %lld x %lld, y is %s",
                         t.a, (long long)g.kh, (long long)g.kw, (long long)oh, (long long)ow, t.b);
    *out = (pipe_op_result){.shape = PIPE_SHAPE(g.kh, g.kw, g.ci / g.groups, y->dim[3]), .dtype = PIPE_F32};
    return PIPE_OK;
}

/* ---- geometry of a call that passed its check ---- */
static pipei_conv_geometry conv_geometry(const pipe_attr *attr, const pipe_shape *x, const pipe_shape *w,
                                         const pipe_shape *y)
{
    pipei_conv_geometry g = {0};
    attr_geometry(attr, &g);
    set_weight(&g, w);
    set_y(&g, y);
    set_x(&g, x);
    return g;
}

/* ---- references ---- */
/* Calls for every product x[ix] * weight[iw] -> y[iy] of the convolution. */
typedef void product_fn(const pipe_reference *r, size_t ix, size_t iw, size_t iy);

static void each_product(const pipei_conv_geometry *g, const pipe_reference *r, product_fn *f)
{
    for (int64_t n = 0; n < g->n; n++)
        for (int64_t oy = 0; oy < g->oh; oy++)
            for (int64_t ox = 0; ox < g->ow; ox++)
                for (int64_t ky = 0; ky < g->kh; ky++)
                    for (int64_t kx = 0; kx < g->kw; kx++) {
                        const int64_t y = oy * g->stride[0] + ky * g->dilation[0] - g->pad[0];
                        const int64_t x = ox * g->stride[1] + kx * g->dilation[1] - g->pad[2];
                        if (y < 0 || y >= g->h || x < 0 || x >= g->w)
                            continue;
                        for (int64_t co = 0; co < g->co; co++)
                            for (int64_t k = 0; k < g->cig; k++)
                                f(r, (size_t)(((n * g->h + y) * g->w + x) * g->ci + co / g->cog * g->cig + k),
                                  (size_t)(((ky * g->kw + kx) * g->cig + k) * g->co + co),
                                  (size_t)(((n * g->oh + oy) * g->ow + ox) * g->co + co));
                    }
}

static void conv_product(const pipe_reference *r, size_t ix, size_t iw, size_t iy)
{
    r->out[iy] += r->in[0][ix] * r->in[1][iw];
}
static void transpose_product(const pipe_reference *r, size_t ix, size_t iw, size_t iy)
{
    r->out[ix] += r->in[0][iy] * r->in[1][iw];
}
static void weight_grad_product(const pipe_reference *r, size_t ix, size_t iw, size_t iy)
{
    r->out[iw] += r->in[0][ix] * r->in[1][iy];
}

static void conv_reference(const pipe_reference *r)
{
    const pipei_conv_geometry g = conv_geometry(r->attr, &r->in_shape[0], &r->in_shape[1], &r->out_shape);
    memset(r->out, 0, r->n * sizeof(r->out[0]));
    each_product(&g, r, conv_product);
}
static void transpose_reference(const pipe_reference *r)
{
    const pipei_conv_geometry g = conv_geometry(r->attr, &r->out_shape, &r->in_shape[1], &r->in_shape[0]);
    memset(r->out, 0, r->n * sizeof(r->out[0]));
    each_product(&g, r, transpose_product);
}
static void weight_grad_reference(const pipe_reference *r)
{
    const pipei_conv_geometry g = conv_geometry(r->attr, &r->in_shape[0], &r->out_shape, &r->in_shape[1]);
    memset(r->out, 0, r->n * sizeof(r->out[0]));
    each_product(&g, r, weight_grad_product);
}

/* ---- lowering ---- */
static pipe_status conv_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const pipei_conv_geometry g = conv_geometry(c->attr, pipe_tensor_shape(c->in[0]), pipe_tensor_shape(c->in[1]),
                                                pipe_tensor_shape(c->out));
    pipei_lower_conv(l, &g);
    return PIPE_OK;
}
static pipe_status transpose_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const pipei_conv_geometry g = conv_geometry(c->attr, pipe_tensor_shape(c->out), pipe_tensor_shape(c->in[1]),
                                                pipe_tensor_shape(c->in[0]));
    pipei_lower_conv_transpose(l, &g);
    return PIPE_OK;
}
static pipe_status weight_grad_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const pipei_conv_geometry g = conv_geometry(c->attr, pipe_tensor_shape(c->in[0]), pipe_tensor_shape(c->out),
                                                pipe_tensor_shape(c->in[1]));
    pipei_lower_conv_weight_grad(l, &g);
    return PIPE_OK;
}

/* ---- derivatives ---- */
static const pipe_op conv2d_row, conv2d_transpose_row, conv2d_weight_grad_row;

static pipe_tensor *apply(const pipe_op *op, const pipe_attr *attr, pipe_tensor *a, pipe_tensor *b, int64_t h, int64_t w)
{
    pipe_attr with = *attr;
    with.i[A_H] = h;
    with.i[A_W] = w;
    return pipe_op_apply(pipe_tensor_engine(a), op, (pipe_tensor *[]){a, b}, 2, &with);
}
static pipe_tensor *conv_of(const pipe_op_call *c, pipe_tensor *x, pipe_tensor *w)
{
    return apply(&conv2d_row, c->attr, x, w, 0, 0);
}
static pipe_tensor *transpose_of(const pipe_op_call *c, pipe_tensor *y, pipe_tensor *w, pipe_tensor *like_x)
{
    return apply(&conv2d_transpose_row, c->attr, y, w, pipe_dim(like_x, 1), pipe_dim(like_x, 2));
}
static pipe_tensor *weight_grad_of(const pipe_op_call *c, pipe_tensor *x, pipe_tensor *y, pipe_tensor *like_w)
{
    return apply(&conv2d_weight_grad_row, c->attr, x, y, pipe_dim(like_w, 0), pipe_dim(like_w, 1));
}

static void conv_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    if (needs[0])
        gx[0] = transpose_of(c, gy, c->in[1], c->in[0]);
    if (needs[1])
        gx[1] = weight_grad_of(c, c->in[0], gy, c->in[1]);
}
static void transpose_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    if (needs[0])
        gx[0] = conv_of(c, gy, c->in[1]);
    if (needs[1])
        gx[1] = weight_grad_of(c, gy, c->in[0], c->in[1]);
}
static void weight_grad_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    if (needs[0])
        gx[0] = transpose_of(c, c->in[1], gy, c->in[0]);
    if (needs[1])
        gx[1] = conv_of(c, c->in[0], gy);
}

/* A bilinear op's tangent: op(dx0, x1) + op(x0, dx1). */
static pipe_tensor *bilinear_jvp(const pipe_op_call *c, pipe_tensor *const *dx)
{
    pipe_tensor *d[2] = {NULL, NULL};
    for (size_t k = 0; k < 2; k++)
        if (dx[k])
            d[k] = pipe_op_apply(c->engine, c->op, (pipe_tensor *[]){k ? c->in[0] : dx[0], k ? dx[1] : c->in[1]}, 2,
                                 c->attr);
    return d[0] && d[1] ? pipe_add(d[0], d[1]) : d[0] ? d[0] : d[1];
}

/* ---- the rows ---- */
static const pipe_op conv2d_row = {
    PIPE_OP_INIT, .name = "conv2d", .arity = 2, .shape = conv_shape, .reference = conv_reference,
    .lower = conv_lower, .vjp = conv_vjp, .jvp = bilinear_jvp, .epilogue = true,
};
static const pipe_op conv2d_transpose_row = {
    PIPE_OP_INIT, .name = "conv2d_transpose", .arity = 2, .shape = transpose_shape,
    .reference = transpose_reference, .lower = transpose_lower, .vjp = transpose_vjp, .jvp = bilinear_jvp,
    .epilogue = true,
};
static const pipe_op conv2d_weight_grad_row = {
    PIPE_OP_INIT, .name = "conv2d_weight_grad", .arity = 2, .shape = weight_grad_shape,
    .reference = weight_grad_reference, .lower = weight_grad_lower, .vjp = weight_grad_vjp, .jvp = bilinear_jvp,
    .epilogue = true,
};

const pipe_op *const pipei_ops_conv[] = {&conv2d_row, &conv2d_transpose_row, &conv2d_weight_grad_row, NULL};

/* ---- the public functions ---- */
static pipe_attr to_attr(const pipe_conv *conv)
{
    pipe_attr a = {0};
    for (int k = 0; k < 2; k++) {
        a.i[A_STRIDE + k] = conv->stride[k] ? conv->stride[k] : 1;
        a.i[A_DILATION + k] = conv->dilation[k] ? conv->dilation[k] : 1;
    }
    for (int k = 0; k < 4; k++)
        a.i[A_PAD + k] = conv->pad[k];
    a.i[A_GROUPS] = conv->groups ? conv->groups : 1;
    return a;
}

pipe_tensor *pipe_conv2d(pipe_tensor *x, pipe_tensor *weight, pipe_conv attr)
{
    const pipe_attr a = to_attr(&attr);
    return apply(&conv2d_row, &a, x, weight, 0, 0);
}

pipe_tensor *pipe_conv2d_transpose(pipe_tensor *y, pipe_tensor *weight, int64_t h, int64_t w, pipe_conv attr)
{
    const pipe_attr a = to_attr(&attr);
    return apply(&conv2d_transpose_row, &a, y, weight, h, w);
}

pipe_tensor *pipe_conv2d_weight_grad(pipe_tensor *x, pipe_tensor *y, int64_t kh, int64_t kw, pipe_conv attr)
{
    const pipe_attr a = to_attr(&attr);
    return apply(&conv2d_weight_grad_row, &a, x, y, kh, kw);
}

pipe_tensor *pipe_conv1d(pipe_tensor *x, pipe_tensor *weight, uint32_t stride, int32_t before, int32_t after,
                         uint32_t dilation, uint32_t groups)
{
    if (pipe_rank(x) != 3 || pipe_rank(weight) != 3) {
        char a[PIPE_SHAPE_TEXT], b[PIPE_SHAPE_TEXT];
        if (pipe_check(x, NULL) != PIPE_OK)
            return x;
        if (pipe_check(weight, NULL) != PIPE_OK)
            return weight;
        return pipe_poison(pipe_tensor_engine(x), PIPE_ESHAPE,
                           "conv1d: x %s and weight %s: both must have rank 3, [n, l, ci] and [k, ci / groups, co]",
                           pipe_shape_text(pipe_tensor_shape(x), a, sizeof(a)),
                           pipe_shape_text(pipe_tensor_shape(weight), b, sizeof(b)));
    }
    const pipe_conv attr = {
        .stride = {1, stride}, .dilation = {1, dilation}, .pad = {0, 0, before, after}, .groups = groups};
    pipe_tensor *image = pipe_reshape(x, PIPE_SHAPE(pipe_dim(x, 0), 1, pipe_dim(x, 1), pipe_dim(x, 2)));
    pipe_tensor *kernel = pipe_reshape(weight, PIPE_SHAPE(1, pipe_dim(weight, 0), pipe_dim(weight, 1), pipe_dim(weight, 2)));
    pipe_tensor *y = pipe_conv2d(image, kernel, attr);
    return pipe_reshape(y, PIPE_SHAPE(pipe_dim(y, 0), pipe_dim(y, 2), pipe_dim(y, 3)));
}
