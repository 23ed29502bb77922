/* Softmax, its logarithm and the logarithm of the sum, over the last axis: one
 * kernel each, with the composed form as the definition.  Another axis is moved
 * to the end first. */
#include "core/tensor/ops/ops.h"

#include <inttypes.h>
#include <float.h>
#include <math.h>

extern const char pipei_kernel_softmax[];
extern const pipe_op pipei_op_softmax, pipei_op_log_softmax, pipei_op_logsumexp;

static int64_t last(const pipe_shape *s)
{
    return s->dim[s->rank - 1];
}

static pipe_status rows_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(pipei_need_f32(c, 0, err));
    char text[PIPE_SHAPE_TEXT];
    const pipe_shape *in = pipe_tensor_shape(c->in[0]);
    if (in->rank == 0 || last(in) == 0)
        return pipe_fail(err, PIPE_ESHAPE, "%s has no elements along the last axis",
                         pipe_shape_text(in, text, sizeof text));
    *out = (pipe_op_result){*in, PIPE_F32};
    return PIPE_OK;
}

static pipe_status logsumexp_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(rows_shape(c, out, err));
    out->shape.dim[--out->shape.rank] = 0;
    return PIPE_OK;
}

/* ---- references ---- */
static double row_logsumexp(const double *x, int64_t n)
{
    double top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        top = fmax(top, x[i]);
    if (isinf(top))
        return top;
    for (int64_t i = 0; i < n; i++)
        sum += exp(x[i] - top);
    return top + log(sum);
}

static void log_softmax_reference(const pipe_reference *r)
{
    const size_t n = (size_t)last(&r->in_shape[0]);
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = r->in[0][k] - row_logsumexp(r->in[0] + k / n * n, (int64_t)n);
}

static void softmax_reference(const pipe_reference *r)
{
    log_softmax_reference(r);
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = exp(r->out[k]);
}

static void logsumexp_reference(const pipe_reference *r)
{
    const int64_t n = last(&r->in_shape[0]);
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = row_logsumexp(r->in[0] + k * (size_t)n, n);
}

/* ---- lowering ---- */
static pipe_status rows_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const pipe_shape *in = pipe_tensor_shape(c->in[0]);
    const int64_t n = last(in), rows = pipe_shape_count(in) / n;
    pipe_launch k = {
        .source = pipei_source(l, pipei_kernel_softmax),
        .kernel = pipe_lower_text(l, "%s_%s", c->op->name, pipe_lower_profile(l)->cpu ? "cpu" : "gpu")};
    pipei_arg(&k, PIPE_ARG_INPUT, 0);
    pipei_arg(&k, PIPE_ARG_OUTPUT, 0);
    pipei_arg_int(&k, rows);
    pipei_arg_int(&k, n);
    pipei_launch_groups(l, &k, (size_t)rows, 64);
    return PIPE_OK;
}

/* ---- definitions ---- */
static pipe_tensor *sum_last(pipe_tensor *a, bool keep)
{
    const int axis = -1;
    return pipe_sum(a, &axis, 1, keep);
}

/* The maximum cancels, so no gradient need pass through it.  It is clamped for
 * rows of -inf, where x - max would be NaN. */
static pipe_tensor *shift(pipe_tensor *x)
{
    const int axis = -1;
    return pipe_clamp(pipe_stop_gradient(pipe_max(x, &axis, 1, true)), -(double)FLT_MAX, (double)FLT_MAX);
}

static pipe_tensor *softmax_composed(const pipe_op_call *c)
{
    pipe_tensor *e = pipe_exp(pipe_sub(c->in[0], shift(c->in[0])));
    return pipe_div(e, sum_last(e, true));
}

static pipe_tensor *log_softmax_composed(const pipe_op_call *c)
{
    pipe_tensor *x = pipe_sub(c->in[0], shift(c->in[0]));
    return pipe_sub(x, pipe_ln(sum_last(pipe_exp(x), true)));
}

static pipe_tensor *logsumexp_composed(const pipe_op_call *c)
{
    pipe_tensor *top = shift(c->in[0]);
    pipe_tensor *y = pipe_add(top, pipe_ln(sum_last(pipe_exp(pipe_sub(c->in[0], top)), true)));
    pipe_shape shape = *pipe_tensor_shape(y);
    shape.dim[--shape.rank] = 0;
    return pipe_reshape(y, shape);
}

/* ---- derivatives ---- */
/* J = diag(y) - y y', symmetric: so the jvp is the same map. */
static pipe_tensor *softmax_jacobian(pipe_tensor *y, pipe_tensor *v)
{
    pipe_tensor *yv = pipe_mul(y, v);
    return pipe_sub(yv, pipe_mul(y, sum_last(yv, true)));
}

static void softmax_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    if (needs[0])
        gx[0] = softmax_jacobian(c->out, gy);
}

static pipe_tensor *softmax_jvp(const pipe_op_call *c, pipe_tensor *const *dx)
{
    return dx[0] ? softmax_jacobian(c->out, dx[0]) : NULL;
}

static pipe_tensor *softmax_of(pipe_tensor *x)
{
    return pipei_op1(&pipei_op_softmax, x, NULL);
}

static void log_softmax_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    if (needs[0])
        gx[0] = pipe_sub(gy, pipe_mul(softmax_of(c->in[0]), sum_last(gy, true)));
}

static pipe_tensor *log_softmax_jvp(const pipe_op_call *c, pipe_tensor *const *dx)
{
    return dx[0] ? pipe_sub(dx[0], sum_last(pipe_mul(softmax_of(c->in[0]), dx[0]), true)) : NULL;
}

static void logsumexp_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    pipe_shape column = *pipe_tensor_shape(c->out);
    column.dim[column.rank++] = 1;
    if (needs[0])
        gx[0] = pipe_mul(softmax_of(c->in[0]), pipe_reshape(gy, column));
}

static pipe_tensor *logsumexp_jvp(const pipe_op_call *c, pipe_tensor *const *dx)
{
    return dx[0] ? sum_last(pipe_mul(softmax_of(c->in[0]), dx[0]), false) : NULL;
}

const pipe_op pipei_op_softmax = {
    PIPE_OP_INIT, .name = "softmax", .arity = 1, .shape = rows_shape, .reference = softmax_reference,
    .lower = rows_lower, .composed = softmax_composed, .vjp = softmax_vjp, .jvp = softmax_jvp,
};
const pipe_op pipei_op_log_softmax = {
    PIPE_OP_INIT, .name = "log_softmax", .arity = 1, .shape = rows_shape, .reference = log_softmax_reference,
    .lower = rows_lower, .composed = log_softmax_composed, .vjp = log_softmax_vjp, .jvp = log_softmax_jvp,
};
const pipe_op pipei_op_logsumexp = {
    PIPE_OP_INIT, .name = "logsumexp", .arity = 1, .shape = logsumexp_shape, .reference = logsumexp_reference,
    .lower = rows_lower, .composed = logsumexp_composed, .vjp = logsumexp_vjp, .jvp = logsumexp_jvp,
};

/* ---- functions ---- */
static pipe_tensor *along(const pipe_op *op, pipe_tensor *a, int axis)
{
    PIPEI_SOUND(a);
    pipe_attr attr = {0};
    pipe_tensor *bad = pipei_attr_axis(a, axis, op->name, &attr);
    if (bad)
        return bad;
    if (attr.i[0] == pipe_rank(a) - 1)
        return pipei_op1(op, a, NULL);
    return pipe_transpose(pipei_op1(op, pipe_transpose(a, axis, -1), NULL), axis, -1);
}

pipe_tensor *pipe_softmax(pipe_tensor *a, int axis)
{
    return along(&pipei_op_softmax, a, axis);
}

pipe_tensor *pipe_log_softmax(pipe_tensor *a, int axis)
{
    return along(&pipei_op_log_softmax, a, axis);
}

pipe_tensor *pipe_logsumexp(pipe_tensor *a, int axis, bool keep_dims)
{
    PIPEI_SOUND(a);
    pipe_attr attr = {0};
    pipe_tensor *bad = pipei_attr_axis(a, axis, "logsumexp", &attr);
    if (bad)
        return bad;
    /* Move the axis to the end; the others keep their order. */
    int order[PIPE_MAX_RANK];
    uint32_t n = 0;
    pipe_shape shape = {0};
    for (uint32_t k = 0; k < pipe_rank(a); k++) {
        if (k != attr.i[0])
            order[n++] = (int)k;
        if (k != attr.i[0] || keep_dims)
            shape.dim[shape.rank++] = k == attr.i[0] ? 1 : pipe_dim(a, (int)k);
    }
    order[n] = (int)attr.i[0];
    return pipe_reshape(pipei_op1(&pipei_op_logsumexp, pipe_permute(a, order, pipe_rank(a)), NULL), shape);
}

pipe_tensor *pipe_cross_entropy(pipe_tensor *logits, pipe_tensor *labels)
{
    PIPEI_SOUND(logits);
    PIPEI_SOUND(labels);
    if (pipe_rank(logits) != 2 || pipe_rank(labels) != 1 || pipe_dim(labels, 0) != pipe_dim(logits, 0) ||
        pipe_tensor_dtype(logits) != PIPE_F32 || pipe_tensor_dtype(labels) != PIPE_I32) {
        char a[PIPE_SHAPE_TEXT], b[PIPE_SHAPE_TEXT];
        return pipe_poison(pipe_tensor_engine(logits), PIPE_ESHAPE,
                           "cross_entropy: logits %s and labels %s: f32 [n, classes] and i32 [n] are needed",
                           pipe_shape_text(pipe_tensor_shape(logits), a, sizeof a),
                           pipe_shape_text(pipe_tensor_shape(labels), b, sizeof b));
    }
    const int64_t n = pipe_dim(logits, 0);
    pipe_tensor *chosen = pipe_take_along(logits, pipe_reshape(labels, PIPE_SHAPE(n, 1)));
    return pipe_sub(pipe_logsumexp(logits, -1, false), pipe_reshape(chosen, PIPE_SHAPE(n)));
}
