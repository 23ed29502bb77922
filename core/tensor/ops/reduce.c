/* Reductions over any set of axes, and cumulative sums.
 *
 * Neighbouring axes that are both reduced or both kept are joined; then the
 * groups are reduced one at a time, the last first, each as [outer, n, inner]
 * over n.  So one kernel serves rows (inner = 1: a softmax's sum), columns
 * (outer = 1: a bias gradient), the middle ([n, hw, c] -> [n, c]) and everything.
 * Attributes: i[0] the axes as bits, i[1] keep_dims. */
#include "core/tensor/ops/ops.h"

#include <inttypes.h>
#include <math.h>

extern const char pipei_kernel_reduce[];
extern const char pipei_kernel_scan[];
extern const pipe_op pipei_op_softmax, pipei_op_log_softmax, pipei_op_logsumexp;

static pipe_status reduce_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(pipei_need_f32(c, 0, err));
    const pipe_shape *in = pipe_tensor_shape(c->in[0]);
    out->dtype = PIPE_F32;
    out->shape = (pipe_shape){0};
    for (uint32_t k = 0; k < in->rank; k++) {
        if (!(c->attr->i[0] >> k & 1))
            out->shape.dim[out->shape.rank++] = in->dim[k];
        else if (c->attr->i[1])
            out->shape.dim[out->shape.rank++] = 1;
    }
    return PIPE_OK;
}

static pipe_status extremum_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(reduce_shape(c, out, err));
    const pipe_shape *in = pipe_tensor_shape(c->in[0]);
    for (uint32_t k = 0; k < in->rank; k++) {
        char text[PIPE_SHAPE_TEXT];
        if ((c->attr->i[0] >> k & 1) && in->dim[k] == 0)
            return pipe_fail(err, PIPE_ESHAPE,
                             "axis %" PRIu32 " of %s is empty and an empty set has no %simum", k,
                             pipe_shape_text(in, text, sizeof text), c->op->name);
    }
    return PIPE_OK;
}

/* ---- references ---- */
/* The output element that input element k goes to. */
static size_t target(const pipe_reference *r, size_t k)
{
    int64_t at[PIPE_MAX_RANK], to[PIPE_MAX_RANK] = {0};
    uint32_t rank = 0;
    pipei_unravel(k, &r->in_shape[0], at);
    for (uint32_t axis = 0; axis < r->in_shape[0].rank; axis++) {
        if (!(r->attr->i[0] >> axis & 1))
            to[rank++] = at[axis];
        else if (r->attr->i[1])
            to[rank++] = 0;
    }
    return pipei_ravel(to, &r->out_shape);
}

static void sum_reference(const pipe_reference *r)
{
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = 0.0;
    for (size_t k = 0; k < (size_t)pipe_shape_count(&r->in_shape[0]); k++)
        r->out[target(r, k)] += r->in[0][k];
}

static void max_reference(const pipe_reference *r)
{
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = -INFINITY;
    for (size_t k = 0; k < (size_t)pipe_shape_count(&r->in_shape[0]); k++) {
        double *const y = &r->out[target(r, k)];
        if (r->in[0][k] > *y || isnan(r->in[0][k]))
            *y = r->in[0][k];
    }
}

static void min_reference(const pipe_reference *r)
{
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = INFINITY;
    for (size_t k = 0; k < (size_t)pipe_shape_count(&r->in_shape[0]); k++) {
        double *const y = &r->out[target(r, k)];
        if (r->in[0][k] < *y || isnan(r->in[0][k]))
            *y = r->in[0][k];
    }
}

/* ---- lowering ---- */
static const char sum_combine[] = "#define INIT 0.0f\n#define OP(a, b) ((a) + (b))\n";
/* NaN wins, so that one bad element is not hidden. */
static const char max_combine[] =
    "#define INIT -INFINITY\n#define OP(a, b) ((((b) > (a)) | ((b) != (b))) ? (b) : (a))\n";
static const char min_combine[] =
    "#define INIT INFINITY\n#define OP(a, b) ((((b) < (a)) | ((b) != (b))) ? (b) : (a))\n";

/* How many parts n is cut into.  It does not depend on the number of compute
 * units, so that CPUs agree; parts are long enough to be worth a launch more. */
static int64_t splits_of(const pipe_device_profile *p, int64_t outer, int64_t n, int64_t inner)
{
    const int64_t wanted = p->cpu ? 32 : inner == 1 ? 512 : 65536;
    const int64_t there = p->cpu ? outer * ((inner + 63) / 64) : outer * inner;
    const int64_t least = p->cpu ? PIPEI_MAX(8192 / PIPEI_MIN(inner, 64), 32) : inner == 1 ? 4096 : 64;
    const int64_t splits = PIPEI_MIN((wanted + there - 1) / PIPEI_MAX(there, 1), n / least);
    return PIPEI_MAX(splits, 1);
}

static void launch_part(pipe_lowering *l, const char *source, pipe_arg x, pipe_arg y, int64_t outer,
                        int64_t n, int64_t inner, int64_t splits)
{
    const bool cpu = pipe_lower_profile(l)->cpu;
    pipe_launch k = {.source = source};
    k.args[k.n_args++] = x;
    k.args[k.n_args++] = y;
    pipei_arg_int(&k, outer);
    pipei_arg_int(&k, n);
    if (inner == 1) {
        pipei_arg_int(&k, splits);
        k.kernel = cpu ? "rows_cpu" : "rows_gpu";
        pipei_launch_groups(l, &k, (size_t)(outer * splits), 128);
        return;
    }
    pipei_arg_int(&k, inner);
    pipei_arg_int(&k, splits);
    k.kernel = cpu ? "columns_cpu" : "columns_gpu";
    if (cpu) {
        /* All columns in one item where there are items enough: rows are then
         * read through once, in order. */
        const int64_t wide = outer * splits >= 32 ? PIPEI_MIN((inner + 15) / 16 * 16, 256) : 64;
        pipei_arg_int(&k, wide);
        pipei_launch_items(l, &k, (size_t)(outer * splits * ((inner + wide - 1) / wide)));
        return;
    }
    pipei_launch_items(l, &k, (size_t)(outer * splits * inner));
}

/* One group: x [outer, n, inner] -> y [outer, inner]. */
static void reduce_group(pipe_lowering *l, const char *source, pipe_arg x, pipe_arg y, int64_t outer,
                         int64_t n, int64_t inner)
{
    const int64_t splits = splits_of(pipe_lower_profile(l), outer, n, inner);
    if (splits == 1) {
        launch_part(l, source, x, y, outer, n, inner, 1);
        return;
    }
    const pipe_arg parts = {.kind = PIPE_ARG_SCRATCH,
                            .index = pipe_lower_scratch(l, (size_t)(outer * splits * inner))};
    launch_part(l, source, x, parts, outer, n, inner, splits);
    launch_part(l, source, parts, y, outer, splits, inner, 1);
}

static pipe_status reduce_lower(pipe_lowering *l, const pipe_op_call *c, const char *combine)
{
    const pipe_shape *in = pipe_tensor_shape(c->in[0]);
    int64_t size[PIPE_MAX_RANK];
    bool reduced[PIPE_MAX_RANK];
    uint32_t groups = 0;
    for (uint32_t k = 0; k < in->rank; k++) {
        const bool r = c->attr->i[0] >> k & 1;
        if (in->dim[k] == 1)
            continue;
        if (groups > 0 && reduced[groups - 1] == r) {
            size[groups - 1] *= in->dim[k];
            continue;
        }
        size[groups] = in->dim[k];
        reduced[groups++] = r;
    }

    const char *source = pipe_lower_text(l, "%s%s", combine, pipei_source(l, pipei_kernel_reduce));
    pipe_arg x = {.kind = PIPE_ARG_INPUT}, y = {.kind = PIPE_ARG_OUTPUT};
    uint32_t left = 0;
    for (uint32_t g = 0; g < groups; g++)
        left += reduced[g];
    if (left == 0) {        /* only axes of size 1 are reduced */
        const pipei_copy copy = {.rank = 1, .dim = {pipe_shape_count(in)}, .x = {1}, .y = {1}};
        pipei_lower_copy(l, &copy, x, y);
        return PIPE_OK;
    }
    int64_t inner = 1;
    for (uint32_t g = groups; g-- > 0;) {
        if (!reduced[g]) {
            inner *= size[g];
            continue;
        }
        int64_t outer = 1;
        for (uint32_t j = 0; j < g; j++)
            outer *= size[j];
        const pipe_arg to = --left == 0 ? y : (pipe_arg){.kind = PIPE_ARG_SCRATCH,
                                               .index = pipe_lower_scratch(l, (size_t)(outer * inner))};
        reduce_group(l, source, x, to, outer, size[g], inner);
        x = to;
    }
    return PIPE_OK;
}

static pipe_status sum_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    return reduce_lower(l, c, sum_combine);
}

static pipe_status max_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    return reduce_lower(l, c, max_combine);
}

static pipe_status min_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    return reduce_lower(l, c, min_combine);
}

/* ---- derivatives ---- */
/* t, of the output's shape, spread over the input's. */
static pipe_tensor *spread(const pipe_op_call *c, pipe_tensor *t)
{
    const pipe_shape in = *pipe_tensor_shape(c->in[0]);
    pipe_shape kept = in;
    for (uint32_t k = 0; k < in.rank; k++)
        if (c->attr->i[0] >> k & 1)
            kept.dim[k] = 1;
    return pipe_broadcast_to(pipe_reshape(t, kept), in);
}

static void sum_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    if (needs[0])
        gx[0] = spread(c, gy);
}

static pipe_tensor *again(const pipe_op_call *c, pipe_tensor *t)
{
    return pipe_op_apply(c->engine, c->op, (pipe_tensor *[]){t}, 1, c->attr);
}

extern const pipe_op pipei_op_sum;
static pipe_tensor *sum_like(const pipe_op_call *c, pipe_tensor *t)
{
    return pipe_op_apply(c->engine, &pipei_op_sum, (pipe_tensor *[]){t}, 1, c->attr);
}

/* Elements that equal the extremum share its gradient evenly, as torch.amax. */
static void extremum_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    if (!needs[0])
        return;
    pipe_tensor *hit = pipe_equal(c->in[0], spread(c, c->out));
    gx[0] = pipe_mul(hit, spread(c, pipe_div(gy, sum_like(c, hit))));
}

static pipe_tensor *extremum_jvp(const pipe_op_call *c, pipe_tensor *const *dx)
{
    if (!dx[0])
        return NULL;
    pipe_tensor *hit = pipe_equal(c->in[0], spread(c, c->out));
    return pipe_div(sum_like(c, pipe_mul(hit, dx[0])), sum_like(c, hit));
}

static pipe_tensor *sum_jvp(const pipe_op_call *c, pipe_tensor *const *dx)
{
    return dx[0] ? again(c, dx[0]) : NULL;
}

const pipe_op pipei_op_sum = {
    PIPE_OP_INIT, .name = "sum", .arity = 1, .shape = reduce_shape, .reference = sum_reference,
    .lower = sum_lower, .vjp = sum_vjp, .jvp = sum_jvp,
};
static const pipe_op op_max = {
    PIPE_OP_INIT, .name = "max", .arity = 1, .shape = extremum_shape, .reference = max_reference,
    .lower = max_lower, .vjp = extremum_vjp, .jvp = extremum_jvp,
};
static const pipe_op op_min = {
    PIPE_OP_INIT, .name = "min", .arity = 1, .shape = extremum_shape, .reference = min_reference,
    .lower = min_lower, .vjp = extremum_vjp, .jvp = extremum_jvp,
};

/* ---- functions ---- */
/* The axes as bits: all of them when n is 0. */
static pipe_tensor *axes_attr(pipe_tensor *a, const pipe_op *op, const int *axes, uint32_t n, bool keep,
                              pipe_attr *attr)
{
    attr->i[0] = n == 0 ? (1 << pipe_rank(a)) - 1 : 0;
    attr->i[1] = keep;
    for (uint32_t k = 0; k < n; k++) {
        uint32_t axis;
        char text[PIPE_SHAPE_TEXT];
        const char *shape = pipe_shape_text(pipe_tensor_shape(a), text, sizeof text);
        if (!pipei_axis(a, axes[k], &axis))
            return pipe_poison(pipe_tensor_engine(a), PIPE_ESHAPE, "%s: %s has no axis %d", op->name, shape,
                               axes[k]);
        if (attr->i[0] >> axis & 1)
            return pipe_poison(pipe_tensor_engine(a), PIPE_ESHAPE, "%s: axis %d of %s is named twice",
                               op->name, axes[k], shape);
        attr->i[0] |= 1 << axis;
    }
    return NULL;
}

static pipe_tensor *reduce(const pipe_op *op, pipe_tensor *a, const int *axes, uint32_t n, bool keep)
{
    PIPEI_SOUND(a);
    pipe_attr attr = {0};
    pipe_tensor *bad = axes_attr(a, op, axes, n, keep, &attr);
    if (bad)
        return bad;
    const pipe_shape *in = pipe_tensor_shape(a);
    pipe_shape left = {0};
    bool trivial = pipe_tensor_dtype(a) == PIPE_F32;         /* only axes of size 1: a view */
    for (uint32_t k = 0; k < in->rank; k++) {
        const bool r = attr.i[0] >> k & 1;
        trivial = trivial && (!r || in->dim[k] == 1);
        if (!r || keep)
            left.dim[left.rank++] = r ? 1 : in->dim[k];
    }
    return trivial ? pipe_reshape(a, left) : pipei_op1(op, a, &attr);
}

pipe_tensor *pipe_sum(pipe_tensor *a, const int *axes, uint32_t n, bool keep_dims)
{
    return reduce(&pipei_op_sum, a, axes, n, keep_dims);
}

pipe_tensor *pipe_max(pipe_tensor *a, const int *axes, uint32_t n, bool keep_dims)
{
    return reduce(&op_max, a, axes, n, keep_dims);
}

pipe_tensor *pipe_min(pipe_tensor *a, const int *axes, uint32_t n, bool keep_dims)
{
    return reduce(&op_min, a, axes, n, keep_dims);
}

pipe_tensor *pipe_mean(pipe_tensor *a, const int *axes, uint32_t n, bool keep_dims)
{
    pipe_tensor *sum = pipe_sum(a, axes, n, keep_dims);
    PIPEI_SOUND(sum);
    int64_t count = 1;
    for (uint32_t k = 0; k < pipe_rank(a); k++) {
        bool reduced = n == 0;
        for (uint32_t j = 0; j < n; j++)
            reduced = reduced || axes[j] == (int)k || axes[j] + (int)pipe_rank(a) == (int)k;
        if (reduced)
            count *= pipe_dim(a, (int)k);
    }
    return pipe_scale(sum, 1.0 / (double)count);
}

pipe_tensor *pipe_sum_all(pipe_tensor *a)
{
    return pipe_sum(a, NULL, 0, false);
}

pipe_tensor *pipe_mean_all(pipe_tensor *a)
{
    return pipe_mean(a, NULL, 0, false);
}

pipe_tensor *pipe_sum_to(pipe_tensor *a, pipe_shape shape)
{
    PIPEI_SOUND(a);
    const pipe_shape *have = pipe_tensor_shape(a);
    if (pipe_shape_equal(have, &shape))
        return a;
    int axes[PIPE_MAX_RANK];
    uint32_t n = 0;
    bool fits = shape.rank <= have->rank;
    for (uint32_t k = 0; fits && k < have->rank; k++) {
        const uint32_t missing = have->rank - shape.rank;
        const int64_t to = k < missing ? 1 : shape.dim[k - missing];
        if (to != have->dim[k] || k < missing)
            axes[n++] = (int)k;
        fits = to == have->dim[k] || to == 1;
    }
    if (!fits) {
        char from[PIPE_SHAPE_TEXT], to[PIPE_SHAPE_TEXT];
        return pipe_poison(pipe_tensor_engine(a), PIPE_ESHAPE, "sum_to: %s does not broadcast to %s",
                           pipe_shape_text(&shape, to, sizeof to), pipe_shape_text(have, from, sizeof from));
    }
    return pipe_reshape(n == 0 ? a : pipe_sum(a, axes, n, false), shape);
}

pipe_tensor *pipe_mse(pipe_tensor *a, pipe_tensor *b)
{
    return pipe_mean_all(pipe_square(pipe_sub(a, b)));
}

/* ---- cumsum: i[0] axis, i[1] exclusive, i[2] reverse ---- */
static pipe_status cumsum_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(pipei_need_axis(c, 0, c->attr->i[0], err));
    return pipei_shape_f32_same(c, out, err);
}

static void cumsum_reference(const pipe_reference *r)
{
    const pipe_shape *s = &r->out_shape;
    const int64_t axis = r->attr->i[0];
    const bool exclusive = r->attr->i[1], reverse = r->attr->i[2];
    for (size_t k = 0; k < r->n; k++) {
        int64_t at[PIPE_MAX_RANK];
        pipei_unravel(k, s, at);
        const int64_t p = at[axis];
        double sum = 0;
        for (at[axis] = 0; at[axis] < s->dim[axis]; at[axis]++) {
            const int64_t ahead = reverse ? at[axis] - p : p - at[axis];
            if (ahead > 0 || (ahead == 0 && !exclusive))
                sum += r->in[0][pipei_ravel(at, s)];
        }
        r->out[k] = sum;
    }
}

static pipe_status cumsum_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const pipe_shape *s = pipe_tensor_shape(c->out);
    const int64_t axis = c->attr->i[0], n = s->dim[axis];
    int64_t outer = 1, inner = 1;
    for (int64_t k = 0; k < axis; k++)
        outer *= s->dim[k];
    for (uint32_t k = (uint32_t)axis + 1; k < s->rank; k++)
        inner *= s->dim[k];
    const int64_t part = n <= 2048 ? PIPEI_MAX(n, 1) : 512, parts = PIPEI_MAX((n + part - 1) / part, 1);
    const char *source = pipei_source(l, pipei_kernel_scan);
    const uint32_t sums = pipe_lower_scratch(l, (size_t)(outer * parts * inner));

    pipe_launch sum = {.source = source, .kernel = "part_sums"};
    pipei_arg(&sum, PIPE_ARG_INPUT, 0);
    pipei_arg(&sum, PIPE_ARG_SCRATCH, sums);
    pipei_arg_int(&sum, outer);
    pipei_arg_int(&sum, n);
    pipei_arg_int(&sum, inner);
    pipei_arg_int(&sum, parts);
    pipei_arg_int(&sum, part);
    pipei_arg_int(&sum, c->attr->i[2]);
    pipei_launch_items(l, &sum, (size_t)(outer * parts * inner));

    pipe_launch start = {.source = source, .kernel = "part_starts"};
    pipei_arg(&start, PIPE_ARG_SCRATCH, sums);
    pipei_arg_int(&start, outer);
    pipei_arg_int(&start, parts);
    pipei_arg_int(&start, inner);
    pipei_launch_items(l, &start, (size_t)(outer * inner));

    pipe_launch scan = {.source = source, .kernel = "part_scans"};
    pipei_arg(&scan, PIPE_ARG_INPUT, 0);
    pipei_arg(&scan, PIPE_ARG_SCRATCH, sums);
    pipei_arg(&scan, PIPE_ARG_OUTPUT, 0);
    pipei_arg_int(&scan, outer);
    pipei_arg_int(&scan, n);
    pipei_arg_int(&scan, inner);
    pipei_arg_int(&scan, parts);
    pipei_arg_int(&scan, part);
    pipei_arg_int(&scan, c->attr->i[1]);
    pipei_arg_int(&scan, c->attr->i[2]);
    pipei_launch_items(l, &scan, (size_t)(outer * parts * inner));
    return PIPE_OK;
}

static void cumsum_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    if (needs[0])
        gx[0] = pipe_cumsum(gy, (int)c->attr->i[0], c->attr->i[1], !c->attr->i[2]);
}

static const pipe_op op_cumsum = {
    PIPE_OP_INIT, .name = "cumsum", .arity = 1, .shape = cumsum_shape, .reference = cumsum_reference,
    .lower = cumsum_lower, .vjp = cumsum_vjp, .jvp = pipei_jvp_linear,
};

pipe_tensor *pipe_cumsum(pipe_tensor *a, int axis, bool exclusive, bool reverse)
{
    PIPEI_SOUND(a);
    pipe_attr attr = {.i = {0, exclusive, reverse}};
    pipe_tensor *bad = pipei_attr_axis(a, axis, "cumsum", &attr);
    return bad ? bad : pipei_op1(&op_cumsum, a, &attr);
}

const pipe_op *const pipei_ops_reduce[] = {
    &pipei_op_sum,       &op_max, &op_min, &op_cumsum, &pipei_op_softmax, &pipei_op_log_softmax,
    &pipei_op_logsumexp, NULL,
};
