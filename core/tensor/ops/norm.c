/* Normalization: zero mean and unit variance within groups of channels.
 *
 * One row, group_norm, serves group, layer and RMS norm (attr: groups, and whether
 * the mean is taken off).  With m elements in a group, xhat the output and r =
 * 1 / sqrt(variance + epsilon), its Jacobian
 *
 *     J = r (I - 1 1' / m - xhat xhat' / m)          (without 1 1' / m if not centred)
 *
 * is symmetric, so that vjp and jvp are the same op, group_norm_grad(x, g) = J g.
 *
 * Kernels: channels are last, so on a CPU a vector holds 8 channels and the
 * statistics of each lane are accumulated over the pixels and then added up by
 * group: no group is too narrow for full vectors.  The data of a sample are read
 * from memory once and then, for variance and result, from the cache.  The
 * variance is summed around the mean (two passes): a single pass with E[x^2] -
 * E[x]^2 loses all digits where the mean is large. */
#include "core/tensor/ops/norm.h"

#include <math.h>
#include <stdio.h>

enum { A_GROUPS, A_UNCENTRED };   /* attr->i; f[0]: epsilon */

typedef struct geometry {
    int64_t n, pixels, channels, groups;
    bool centred;
} geometry;

static geometry geometry_of(const pipe_attr *attr, const pipe_shape *x)
{
    geometry g = {.n = x->dim[0], .pixels = 1, .channels = x->dim[x->rank - 1], .groups = attr->i[A_GROUPS],
                  .centred = attr->i[A_UNCENTRED] == 0};
    for (uint32_t k = 1; k + 1 < x->rank; k++)
        g.pixels *= x->dim[k];
    return g;
}

/* ---- shapes and references ---- */
static pipe_status norm_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    const pipe_shape *x = pipe_tensor_shape(c->in[0]);
    char text[PIPE_SHAPE_TEXT], other[PIPE_SHAPE_TEXT];
    pipe_shape_text(x, text, sizeof(text));
    for (size_t k = 0; k < c->n_in; k++)
        if (pipe_tensor_dtype(c->in[k]) != PIPE_F32)
            return pipe_fail(err, PIPE_ESHAPE, "%s: x must be f32, not i32", c->op->name);
    if (x->rank < 2)
        return pipe_fail(err, PIPE_ESHAPE, "%s: x %s: at least [n, channels] is needed", c->op->name, text);
    const int64_t groups = c->attr->i[A_GROUPS];
    if (groups < 1 || x->dim[x->rank - 1] % groups != 0)
        return pipe_fail(err, PIPE_ESHAPE, "%s: x %s: %lld channels do not divide into %lld groups", c->op->name, text,
                         (long long)x->dim[x->rank - 1], (long long)groups);
    if (c->n_in == 2 && !pipe_shape_equal(x, pipe_tensor_shape(c->in[1])))
        return pipe_fail(err, PIPE_ESHAPE, "%s: x %s and g %s must have one shape", c->op->name, text,
                         pipe_shape_text(pipe_tensor_shape(c->in[1]), other, sizeof(other)));
    *out = (pipe_op_result){.shape = *x, .dtype = PIPE_F32};
    return PIPE_OK;
}

/* Calls visit(r, g, first, mean, 1 / deviation) for each group; its element k is at
 * first + k / cg * channels + k % cg. */
static void each_group(const pipe_reference *r, void (*visit)(const pipe_reference *r, const geometry *g, size_t first,
                                                              double mean, double rstd))
{
    const geometry g = geometry_of(r->attr, &r->in_shape[0]);
    const int64_t cg = g.channels / g.groups, m = g.pixels * cg;
    const double *x = r->in[0];
    for (int64_t n = 0; n < g.n; n++)
        for (int64_t k = 0; k < g.groups; k++) {
            const int64_t first = n * g.pixels * g.channels + k * cg;
            double mean = 0, variance = 0;
            for (int64_t i = 0; i < m && g.centred; i++)
                mean += x[first + i / cg * g.channels + i % cg] / (double)m;
            for (int64_t i = 0; i < m; i++)
                variance += pow(x[first + i / cg * g.channels + i % cg] - mean, 2) / (double)m;
            visit(r, &g, (size_t)first, mean, 1 / sqrt(variance + (double)r->attr->f[0]));
        }
}

static void norm_group(const pipe_reference *r, const geometry *g, size_t first, double mean, double rstd)
{
    const int64_t cg = g->channels / g->groups;
    for (int64_t i = 0; i < g->pixels * cg; i++) {
        const size_t at = first + (size_t)(i / cg * g->channels + i % cg);
        r->out[at] = (r->in[0][at] - mean) * rstd;
    }
}

static void grad_group(const pipe_reference *r, const geometry *g, size_t first, double mean, double rstd)
{
    const int64_t cg = g->channels / g->groups, m = g->pixels * cg;
    const double *x = r->in[0], *gy = r->in[1];
    double a = 0, b = 0;
    for (int64_t i = 0; i < m; i++) {
        const size_t at = first + (size_t)(i / cg * g->channels + i % cg);
        a += g->centred ? gy[at] / (double)m : 0;
        b += gy[at] * (x[at] - mean) * rstd / (double)m;
    }
    for (int64_t i = 0; i < m; i++) {
        const size_t at = first + (size_t)(i / cg * g->channels + i % cg);
        r->out[at] = rstd * (gy[at] - a - (x[at] - mean) * rstd * b);
    }
}

static void norm_reference(const pipe_reference *r) { each_group(r, norm_group); }
static void grad_reference(const pipe_reference *r) { each_group(r, grad_group); }

/* ---- the CPU kernel ---- */
void pipei_norm_emit_loop(pipe_text *s, const pipei_norm_loop *l, int64_t channels, uint32_t width)
{
    for (int64_t c = 0; c < channels;) {
        int64_t vectors = 4, lanes = width;
        while (vectors > 1 && c + vectors * lanes > channels)
            vectors /= 2;
        if (c + lanes > channels)
            lanes = 1;
        if (lanes == 1)
            vectors = pipei_min(channels - c, 8);
        const char *type = lanes == 16 ? "float16" : lanes == 8 ? "float8" : lanes == 4 ? "float4" : "float";
        pipe_text_add(s, "        {\n");
        for (int part = 0; part < 3; part++) {
            if (part == 1)
                pipe_text_add(s, "        for (int p = 0; p < pixels; p++) {\n"
                                 "            const size_t q = at + (size_t)p * channels;\n");
            for (int64_t v = 0; v < vectors; v++) {
                char load[24] = "*", store[24] = "";
                if (lanes > 1) {
                    snprintf(load, sizeof(load), "vload%d(0, ", (int)lanes);
                    snprintf(store, sizeof(store), "vstore%d", (int)lanes);
                }
                const pipei_word words[] = {
                    {.name = "V", .text = type}, {.name = "C", .number = c + v * lanes}, {.name = "X", .number = v},
                    {.name = "LANES", .number = lanes},
                    {.name = "LOAD", .text = lanes > 1 ? load : "*("},
                    {.name = "STORE", .text = lanes > 1 ? store : "store1"}, {0}};
                pipei_emit(s, part == 0 ? l->before : part == 1 ? l->body : l->after, words);
            }
            if (part == 1)
                pipe_text_add(s, "        }\n");
        }
        pipe_text_add(s, "        }\n");
        c += vectors * lanes;
    }
}

const pipei_norm_loop pipei_norm_mean = {
    "        $V s$X = ($V)(0.0f);\n",
    "            s$X += $LOADx + q + $C);\n",
    "        $STORE(s$X, 0, mean + $C);\n",
};
const pipei_norm_loop pipei_norm_variance = {
    "        $V s$X = ($V)(0.0f); const $V m$X = $LOADmean + $C);\n",
    "            { const $V d = $LOADx + q + $C) - m$X; s$X = fma(d, d, s$X); }\n",
    "        $STORE(s$X, 0, scale + $C);\n",
};
static const pipei_norm_loop norm_loop = {
    "        const $V m$X = $LOADmean + $C), r$X = $LOADscale + $C);\n",
    "            { const $V y = ($LOADx + q + $C) - m$X) * r$X;\n"
    "              $STORE(PIPE_EPILOGUE$LANES(y, q + $C), 0, out + q + $C); }\n",
    "",
};
static const pipei_norm_loop moments_loop = {
    "        $V s$X = ($V)(0.0f), t$X = ($V)(0.0f); const $V m$X = $LOADmean + $C);\n",
    "            { const $V v = $LOADg + q + $C); s$X += v; t$X = fma(v, $LOADx + q + $C) - m$X, t$X); }\n",
    "        $STORE(s$X, 0, first + $C); $STORE(t$X, 0, second + $C);\n",
};
static const pipei_norm_loop grad_loop = {
    "        const $V m$X = $LOADmean + $C), r$X = $LOADscale + $C), a$X = $LOADfirst + $C),\n"
    "                 b$X = $LOADsecond + $C);\n",
    "            { const $V y = r$X * ($LOADg + q + $C) - a$X - ($LOADx + q + $C) - m$X) * b$X);\n"
    "              $STORE(PIPE_EPILOGUE$LANES(y, q + $C), 0, out + q + $C); }\n",
    "",
};

void pipei_norm_emit_groups(pipe_text *s, const char *array, const char *value)
{
    pipe_text_addf(s,
                   "        for (int k = 0; k < groups; k++) {\n"
                   "            float s = 0.0f;\n"
                   "            for (int c = 0; c < cg; c++)\n"
                   "                s += %s[k * cg + c];\n"
                   "            s *= per;\n"
                   "            const float v = %s;\n"
                   "            for (int c = 0; c < cg; c++)\n"
                   "                %s[k * cg + c] = v;\n"
                   "        }\n", array, value, array);
}

static const char cpu_text[] =
    "#define store1(v, zero, p) (*(p) = (v))\n"
    "kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"
    "void norm($INPUTS, PIPE_BUF(float, out), const int samples, const int share, const int pixels,\n"
    "          const float epsilon)\n"
    "{\n"
    "    $BIND PIPE_BIND(float, out);\n"
    "    const int channels = $CHANNELS, groups = $GROUPS, cg = $CG;\n"
    "    const float per = 1.0f / ((float)pixels * (float)cg);\n"
    "    float mean[$MINE], scale[$MINE];\n"
    "    const int n0 = (int)get_group_id(0) * share, n1 = min(n0 + share, samples);\n"
    "    for (int n = n0; n < n1; n++) {\n"
    "        const size_t at = (size_t)n * pixels * channels + get_group_id(1) * $MINE;\n";

static void lower_cpu(pipe_lowering *l, const geometry *given, bool grad)
{
    const pipe_device_profile *p = pipe_lower_profile(l);
    const uint32_t width = p->vector_width >= 16 ? 16 : p->vector_width >= 8 ? 8 : 4;
    geometry g = *given;
    /* One group is one run of memory: cut it so that four vectors fit a row. */
    if (g.groups == 1)
        for (int64_t c = 4 * (int64_t)width; c >= width; c /= 2)
            if (g.pixels * g.channels % c == 0) {
                g.pixels = g.pixels * g.channels / c;
                g.channels = c;
                break;
            }
    const int64_t cg = g.channels / g.groups, cores = (int64_t)pipei_max(1, p->compute_units);
    /* Few samples: share the groups of one among the cores. */
    int64_t groups = g.groups;
    while (g.n * (g.groups / groups) < 4 * cores && groups % 2 == 0 && groups / 2 * cg % width == 0)
        groups /= 2;
    const int64_t mine = groups * cg;

    pipe_text s = {0};
    const pipei_word words[] = {
        {.name = "INPUTS", .text = grad ? "PIPE_BUF(float, x), PIPE_BUF(float, g)" : "PIPE_BUF(float, x)"},
        {.name = "BIND", .text = grad ? "PIPE_BIND(float, x); PIPE_BIND(float, g);" : "PIPE_BIND(float, x);"},
        {.name = "CHANNELS", .number = g.channels}, {.name = "GROUPS", .number = groups}, {.name = "CG", .number = cg},
        {.name = "MINE", .number = mine}, {0}};
    pipei_emit(&s, cpu_text, words);
    if (grad)
        pipe_text_addf(&s, "        float first[%d], second[%d];\n", (int)mine, (int)mine);
    if (g.centred) {
        pipei_norm_emit_loop(&s, &pipei_norm_mean, mine, width);
        pipei_norm_emit_groups(&s, "mean", "s");
    } else {
        pipe_text_addf(&s, "        for (int c = 0; c < %d; c++)\n            mean[c] = 0.0f;\n", (int)mine);
    }
    pipei_norm_emit_loop(&s, &pipei_norm_variance, mine, width);
    pipei_norm_emit_groups(&s, "scale", "1.0f / sqrt(s + epsilon)");
    if (grad) {
        pipei_norm_emit_loop(&s, &moments_loop, mine, width);
        pipei_norm_emit_groups(&s, "first", g.centred ? "s" : "0.0f");
        pipei_norm_emit_groups(&s, "second", "s * scale[k * cg] * scale[k * cg]");
        pipei_norm_emit_loop(&s, &grad_loop, mine, width);
    } else {
        pipei_norm_emit_loop(&s, &norm_loop, mine, width);
    }
    pipe_text_add(&s, "    }\n}\n#undef store1\n");

    const int64_t share = pipei_max(1, g.n / (16 * cores));
    pipe_launch launch = {
        .kernel = "norm", .dims = 2, .local = {1, 1},
        .global = {(size_t)pipei_ceil_div(g.n, share), (size_t)(g.groups / groups)},
    };
    pipei_launch_buffer(&launch, PIPE_ARG_INPUT, 0);
    if (grad)
        pipei_launch_buffer(&launch, PIPE_ARG_INPUT, 1);
    pipei_launch_buffer(&launch, PIPE_ARG_OUTPUT, 0);
    pipei_launch_int(&launch, g.n);
    pipei_launch_int(&launch, share);
    pipei_launch_int(&launch, g.pixels);
    pipei_launch_buffer(&launch, PIPE_ARG_FLOAT, 0);
    pipei_launch_add(l, &launch, &s);
}

/* ---- with work-groups: one per sample and group ---- */
static const char gpu_text[] =
    "kernel __attribute__((reqd_work_group_size($LOCAL, 1, 1)))\n"
    "void norm($INPUTS, PIPE_BUF(float, out), const float epsilon)\n"
    "{\n"
    "    $BIND PIPE_BIND(float, out);\n"
    "    local float sums[$LOCAL];\n"
    "    const int id = (int)get_local_id(0), total = $PIXELS * $CG;\n"
    "    const size_t at = (size_t)get_group_id(0) / $GROUPS * $PIXELS * $CHANNELS + get_group_id(0) % $GROUPS * $CG;\n"
    "    float mean = 0.0f, s;\n";
const char pipei_norm_gpu_mean[] =
    "    sums[id] = s;\n"
    "    barrier(CLK_LOCAL_MEM_FENCE);\n"
    "    for (int half_ = $LOCAL / 2; half_ > 0; half_ /= 2) {\n"
    "        if (id < half_)\n"
    "            sums[id] += sums[id + half_];\n"
    "        barrier(CLK_LOCAL_MEM_FENCE);\n"
    "    }\n"
    "    s = sums[0] / (float)total;\n"
    "    barrier(CLK_LOCAL_MEM_FENCE);\n";
/* s = the mean of $VALUE over the group; q is the element's index. */
static const char gpu_mean[] =
    "    s = 0.0f;\n"
    "    for (int i = id; i < total; i += $LOCAL) {\n"
    "        const size_t q = at + (size_t)(i / $CG) * $CHANNELS + i % $CG;\n"
    "        s += $VALUE;\n"
    "    }\n";
static const char gpu_store[] =
    "    for (int i = id; i < total; i += $LOCAL) {\n"
    "        const size_t q = at + (size_t)(i / $CG) * $CHANNELS + i % $CG;\n"
    "        const float y = $VALUE;\n"
    "        out[q] = PIPE_EPILOGUE1(y, q);\n"
    "    }\n"
    "}\n";

static void lower_gpu(pipe_lowering *l, const geometry *g, bool grad)
{
    const pipe_device_profile *p = pipe_lower_profile(l);
    int64_t size = 1;
    while (size * 2 <= pipei_min(p->max_work_group, 256) && size < g->pixels * g->channels / g->groups)
        size *= 2;
    enum { VALUE };
    pipei_word words[] = {
        [VALUE] = {.name = "VALUE", .text = ""}, {.name = "LOCAL", .number = size},
        {.name = "INPUTS", .text = grad ? "PIPE_BUF(float, x), PIPE_BUF(float, g)" : "PIPE_BUF(float, x)"},
        {.name = "BIND", .text = grad ? "PIPE_BIND(float, x); PIPE_BIND(float, g);" : "PIPE_BIND(float, x);"},
        {.name = "PIXELS", .number = g->pixels}, {.name = "CHANNELS", .number = g->channels},
        {.name = "GROUPS", .number = g->groups}, {.name = "CG", .number = g->channels / g->groups}, {0}};
    pipe_text s = {0};
    pipei_emit(&s, gpu_text, words);
    const struct { bool wanted; const char *value, *then; } means[] = {
        {g->centred, "x[q]", "    mean = s;\n"},
        {true, "(x[q] - mean) * (x[q] - mean)", "    const float scale = 1.0f / sqrt(s + epsilon);\n"},
        {grad && g->centred, "g[q]", "    const float first = s;\n"},
        {grad && !g->centred, "0.0f", "    const float first = 0.0f;\n"},
        {grad, "g[q] * (x[q] - mean)", "    const float second = s * scale * scale;\n"},
    };
    for (size_t k = 0; k < sizeof(means) / sizeof(means[0]); k++)
        if (means[k].wanted) {
            words[VALUE].text = means[k].value;
            pipei_emit(&s, gpu_mean, words);
            pipei_emit(&s, pipei_norm_gpu_mean, words);
            pipe_text_add(&s, means[k].then);
        }
    words[VALUE].text = grad ? "scale * (g[q] - first - (x[q] - mean) * second)" : "(x[q] - mean) * scale";
    pipei_emit(&s, gpu_store, words);

    pipe_launch launch = {
        .kernel = "norm", .dims = 1, .local = {(size_t)size}, .global = {(size_t)(g->n * g->groups * size)},
    };
    pipei_launch_buffer(&launch, PIPE_ARG_INPUT, 0);
    if (grad)
        pipei_launch_buffer(&launch, PIPE_ARG_INPUT, 1);
    pipei_launch_buffer(&launch, PIPE_ARG_OUTPUT, 0);
    pipei_launch_buffer(&launch, PIPE_ARG_FLOAT, 0);
    pipei_launch_add(l, &launch, &s);
}

static pipe_status lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const geometry g = geometry_of(c->attr, pipe_tensor_shape(c->in[0]));
    if (g.n * g.pixels * g.channels == 0)
        return PIPE_OK;
    if (pipe_lower_profile(l)->cpu)
        lower_cpu(l, &g, c->n_in == 2);
    else
        lower_gpu(l, &g, c->n_in == 2);
    return PIPE_OK;
}

/* ---- in other ops: the definition ---- */
static const int over[] = {1, 3};     /* of [n, pixels, groups, channels of a group] */

static pipe_tensor *mean_over(pipe_tensor *a) { return pipe_mean(a, over, 2, true); }

typedef struct split {
    pipe_tensor *d, *rstd;            /* x - mean; 1 / sqrt(variance + epsilon) */
    pipe_shape shape;
} split;

static split split_of(const pipe_op_call *c)
{
    const geometry g = geometry_of(c->attr, pipe_tensor_shape(c->in[0]));
    split s = {.shape = PIPE_SHAPE(g.n, g.pixels, g.groups, g.channels / g.groups)};
    pipe_tensor *x = pipe_reshape(c->in[0], s.shape);
    s.d = g.centred ? pipe_sub(x, mean_over(x)) : x;
    s.rstd = pipe_rsqrt(pipe_affine(mean_over(pipe_square(s.d)), 1.0, (double)c->attr->f[0]));
    return s;
}

static pipe_tensor *norm_composed(const pipe_op_call *c)
{
    const split s = split_of(c);
    return pipe_reshape(pipe_mul(s.d, s.rstd), *pipe_tensor_shape(c->in[0]));
}

static pipe_tensor *grad_composed(const pipe_op_call *c)
{
    const split s = split_of(c);
    pipe_tensor *g = pipe_reshape(c->in[1], s.shape), *xhat = pipe_mul(s.d, s.rstd);
    pipe_tensor *along = pipe_mul(xhat, mean_over(pipe_mul(g, xhat)));
    if (c->attr->i[A_UNCENTRED] == 0)
        g = pipe_sub(g, mean_over(g));
    return pipe_reshape(pipe_mul(s.rstd, pipe_sub(g, along)), *pipe_tensor_shape(c->in[0]));
}

/* ---- the rows ---- */
static const pipe_op grad_row = {
    PIPE_OP_INIT, .name = "group_norm_grad", .arity = 2, .shape = norm_shape, .reference = grad_reference,
    .lower = lower, .composed = grad_composed, .epilogue = true,
};

static pipe_tensor *jacobian(const pipe_op_call *c, pipe_tensor *g)
{
    return pipe_op_apply(c->engine, &grad_row, (pipe_tensor *[]){c->in[0], g}, 2, c->attr);
}
static void norm_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    if (needs[0])
        gx[0] = jacobian(c, gy);
}
static pipe_tensor *norm_jvp(const pipe_op_call *c, pipe_tensor *const *dx)
{
    return dx[0] ? jacobian(c, dx[0]) : NULL;
}

static const pipe_op norm_row = {
    PIPE_OP_INIT, .name = "group_norm", .arity = 1, .shape = norm_shape, .reference = norm_reference,
    .lower = lower, .composed = norm_composed, .vjp = norm_vjp, .jvp = norm_jvp, .epilogue = true,
};

pipe_tensor *pipei_norm_jacobian(pipe_tensor *x, pipe_tensor *g, int64_t groups, double epsilon)
{
    const pipe_shape shape = *pipe_tensor_shape(x);
    const pipe_attr attr = {.i = {groups ? groups : 1}, .f = {(float)epsilon}};
    if (!groups) {
        const int64_t last = shape.dim[shape.rank - 1];
        x = pipe_reshape(x, PIPE_SHAPE(last ? pipe_shape_count(&shape) / last : 0, last));
        g = pipe_reshape(g, *pipe_tensor_shape(x));
    }
    return pipe_reshape(pipei_op2(&grad_row, x, g, &attr), shape);
}

const pipe_op *const pipei_ops_norm[] = {&norm_row, &grad_row, NULL};

/* ---- the public functions ---- */
static pipe_tensor *apply(pipe_tensor *x, int64_t groups, bool uncentred, double epsilon)
{
    const pipe_attr attr = {.i = {groups, uncentred}, .f = {(float)epsilon}};
    return pipe_op_apply(pipe_tensor_engine(x), &norm_row, &x, 1, &attr);
}

/* Over the last axis: every other index is a sample. */
static pipe_tensor *over_last(pipe_tensor *x, bool uncentred, double epsilon)
{
    const pipe_shape shape = *pipe_tensor_shape(x);
    if (shape.rank < 1)
        return pipe_check(x, NULL) != PIPE_OK ? x : apply(x, 1, uncentred, epsilon);   /* its shape rule refuses */
    int64_t rows = 1;
    for (uint32_t k = 0; k + 1 < shape.rank; k++)
        rows *= shape.dim[k];
    pipe_tensor *flat = pipe_reshape(x, PIPE_SHAPE(rows, shape.dim[shape.rank - 1]));
    return pipe_reshape(apply(flat, 1, uncentred, epsilon), shape);
}

pipe_tensor *pipe_group_norm(pipe_tensor *x, uint32_t groups, double epsilon)
{
    return apply(x, groups, false, epsilon);
}
pipe_tensor *pipe_layer_norm(pipe_tensor *x, double epsilon) { return over_last(x, false, epsilon); }
pipe_tensor *pipe_rms_norm(pipe_tensor *x, double epsilon) { return over_last(x, true, epsilon); }

pipe_tensor *pipe_batch_norm(pipe_tensor *x, double epsilon, pipe_tensor **mean, pipe_tensor **variance)
{
    int axes[PIPE_MAX_RANK];
    const uint32_t rank = pipe_rank(x), n = rank ? rank - 1 : 0;
    for (uint32_t k = 0; k < n; k++)
        axes[k] = (int)k;
    pipe_tensor *m, *v, *y;
    if (rank < 2) {
        m = v = y = pipe_check(x, NULL) != PIPE_OK
                        ? x
                        : pipe_poison(pipe_tensor_engine(x), PIPE_ESHAPE, "batch_norm: at least [n, channels] is needed");
    } else {
        m = pipe_mean(x, axes, n, false);
        pipe_tensor *d = pipe_sub(x, m);
        v = pipe_mean(pipe_square(d), axes, n, false);
        y = pipe_mul(d, pipe_rsqrt(pipe_affine(v, 1.0, epsilon)));
    }
    if (mean)
        *mean = m;
    if (variance)
        *variance = v;
    return y;
}
