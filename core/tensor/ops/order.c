/* Order along the last axis.  Only positions are computed by kernels; sorted
 * values are taken by position, which also carries the gradient. */
#include "core/tensor/ops/ops.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

extern const char pipei_kernel_order[];

/* ---- argsort: i[0] descending ---- */
static pipe_status argsort_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    if (pipe_rank(c->in[0]) == 0)
        return pipe_fail(err, PIPE_ESHAPE, "a scalar has no axis to sort along");
    *out = (pipe_op_result){*pipe_tensor_shape(c->in[0]), PIPE_I32};
    (void)err;
    return PIPE_OK;
}

/* Whether b must come before a, which stands in front of it.  Insertion with it
 * is stable; NaN is last either way. */
static bool out_of_order(double a, double b, bool descending)
{
    if (isnan(a) || isnan(b))
        return isnan(a) && !isnan(b);
    return descending ? a < b : a > b;
}

static void argsort_reference(const pipe_reference *r)
{
    const size_t n = (size_t)r->out_shape.dim[r->out_shape.rank - 1];
    for (size_t row = 0; n > 0 && row < r->n / n; row++) {
        const double *x = r->in[0] + row * n;
        double *y = r->out + row * n;
        for (size_t i = 0; i < n; i++) {
            size_t j = i;
            for (; j > 0 && out_of_order(x[(size_t)y[j - 1]], x[i], r->attr->i[0]); j--)
                y[j] = y[j - 1];
            y[j] = (double)i;
        }
    }
}

static void lower_bitonic(pipe_lowering *l, const char *source, int64_t rows, int64_t n, bool is_int,
                          bool descending)
{
    enum { LOCAL = 512 };
    int64_t padded = 1;
    while (padded < n)
        padded *= 2;
    const uint32_t work = pipe_lower_scratch(l, (size_t)(rows * padded * 2));

    pipe_launch words = {.source = source, .kernel = "sort_words"};
    pipei_arg(&words, PIPE_ARG_INPUT, 0);
    pipei_arg(&words, PIPE_ARG_SCRATCH, work);
    pipei_arg_int(&words, rows);
    pipei_arg_int(&words, n);
    pipei_arg_int(&words, padded);
    pipei_arg_int(&words, is_int);
    pipei_arg_int(&words, descending);
    pipei_launch_items(l, &words, (size_t)(rows * padded));

    /* Runs of up to 512 words never leave a work-group. */
    for (int64_t run = 2; run <= padded; run = run == 2 && padded > LOCAL ? 2 * LOCAL : 2 * run) {
        const int64_t inside = PIPEI_MIN(padded, (int64_t)LOCAL);
        for (int64_t distance = run / 2; distance >= LOCAL; distance /= 2) {
            pipe_launch step = {.source = source, .kernel = "sort_step"};
            pipei_arg(&step, PIPE_ARG_SCRATCH, work);
            pipei_arg_int(&step, rows);
            pipei_arg_int(&step, padded);
            pipei_arg_int(&step, run);
            pipei_arg_int(&step, distance);
            pipei_launch_items(l, &step, (size_t)(rows * padded / 2));
        }
        pipe_launch local = {.source = source, .kernel = "sort_local", .dims = 1,
                             .global = {(size_t)(rows * (padded / inside) * 256)}, .local = {256}};
        pipei_arg(&local, PIPE_ARG_SCRATCH, work);
        pipei_arg_int(&local, padded);
        pipei_arg_int(&local, run);
        pipei_arg_int(&local, run == 2 ? inside : run);
        pipe_lower_launch(l, &local);
        if (run == 2 && padded <= LOCAL)
            break;
    }

    pipe_launch positions = {.source = source, .kernel = "sort_positions"};
    pipei_arg(&positions, PIPE_ARG_SCRATCH, work);
    pipei_arg(&positions, PIPE_ARG_OUTPUT, 0);
    pipei_arg_int(&positions, rows);
    pipei_arg_int(&positions, n);
    pipei_arg_int(&positions, padded);
    pipei_launch_items(l, &positions, (size_t)(rows * n));
}

static pipe_status argsort_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const int64_t n = pipe_dim(c->in[0], -1);
    if (n == 0)
        return PIPE_OK;
    const int64_t rows = pipe_count(c->in[0]) / n;
    const bool is_int = pipe_tensor_dtype(c->in[0]) == PIPE_I32, descending = c->attr->i[0];
    const char *source = pipei_source(l, pipei_kernel_order);
    if (!pipe_lower_profile(l)->cpu) {
        lower_bitonic(l, source, rows, n, is_int, descending);
        return PIPE_OK;
    }
    pipe_launch k = {.source = source, .kernel = "argsort_cpu"};
    pipei_arg(&k, PIPE_ARG_INPUT, 0);
    pipei_arg(&k, PIPE_ARG_SCRATCH, pipe_lower_scratch(l, (size_t)(rows * n * 4)));
    pipei_arg(&k, PIPE_ARG_OUTPUT, 0);
    pipei_arg_int(&k, rows);
    pipei_arg_int(&k, n);
    pipei_arg_int(&k, is_int);
    pipei_arg_int(&k, descending);
    pipei_launch_items(l, &k, (size_t)rows);
    return PIPE_OK;
}

static const pipe_op op_argsort = {
    PIPE_OP_INIT, .name = "argsort", .arity = 1, .shape = argsort_shape, .reference = argsort_reference,
    .lower = argsort_lower, .vjp = pipei_vjp_zero, .jvp = pipei_jvp_zero,
};

pipe_tensor *pipe_argsort(pipe_tensor *a, bool descending)
{
    const pipe_attr attr = {.i = {descending}};
    return pipei_op1(&op_argsort, a, &attr);
}

pipe_tensor *pipe_sort(pipe_tensor *a, bool descending)
{
    return pipe_take_along(a, pipe_argsort(a, descending));
}

pipe_tensor *pipe_top_k(pipe_tensor *a, int64_t k, pipe_tensor **indices)
{
    pipe_tensor *order = pipei_unsound(a) ? pipei_unsound(a) : pipe_argsort(a, true);
    char text[PIPE_SHAPE_TEXT];
    if (!pipei_unsound(order) && (k < 0 || k > pipe_dim(a, -1)))
        order = pipe_poison(pipe_tensor_engine(a), PIPE_ESHAPE,
                            "top_k: the last axis of %s does not have %" PRId64 " elements",
                            pipe_shape_text(pipe_tensor_shape(a), text, sizeof text), k);
    order = pipe_slice(order, -1, 0, k, 1);
    if (indices)
        *indices = order;
    return pipe_take_along(a, order);
}

/* ---- argmax ---- */
static pipe_status argmax_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    const pipe_shape *in = pipe_tensor_shape(c->in[0]);
    char text[PIPE_SHAPE_TEXT];
    if (in->rank == 0 || in->dim[in->rank - 1] == 0)
        return pipe_fail(err, PIPE_ESHAPE, "%s has no elements along the last axis",
                         pipe_shape_text(in, text, sizeof text));
    *out = (pipe_op_result){*in, PIPE_I32};
    out->shape.dim[--out->shape.rank] = 0;
    return PIPE_OK;
}

static void argmax_reference(const pipe_reference *r)
{
    const size_t n = (size_t)r->in_shape[0].dim[r->in_shape[0].rank - 1];
    for (size_t row = 0; row < r->n; row++) {
        const double *x = r->in[0] + row * n;
        size_t best = 0;
        for (size_t i = 1; i < n && !isnan(x[best]); i++)
            if (x[i] > x[best] || isnan(x[i]))
                best = i;
        r->out[row] = (double)best;
    }
}

static pipe_status argmax_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const int64_t n = pipe_dim(c->in[0], -1), rows = pipe_count(c->in[0]) / n;
    pipe_launch k = {.source = pipei_source(l, pipei_kernel_order),
                     .kernel = pipe_lower_profile(l)->cpu ? "argmax_cpu" : "argmax_gpu"};
    pipei_arg(&k, PIPE_ARG_INPUT, 0);
    pipei_arg(&k, PIPE_ARG_OUTPUT, 0);
    pipei_arg_int(&k, rows);
    pipei_arg_int(&k, n);
    pipei_arg_int(&k, pipe_tensor_dtype(c->in[0]) == PIPE_I32);
    pipei_launch_groups(l, &k, (size_t)rows, 64);
    return PIPE_OK;
}

static const pipe_op op_argmax = {
    PIPE_OP_INIT, .name = "argmax", .arity = 1, .shape = argmax_shape, .reference = argmax_reference,
    .lower = argmax_lower, .vjp = pipei_vjp_zero, .jvp = pipei_jvp_zero,
};

pipe_tensor *pipe_argmax(pipe_tensor *a)
{
    return pipei_op1(&op_argmax, a, NULL);
}

const pipe_op *const pipei_ops_order[] = {&op_argsort, &op_argmax, NULL};
