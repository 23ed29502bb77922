/* Normalization with all that follows it in a network, in one kernel:
 *
 *     y = act(z),  z = gain xhat + bias,  xhat = (x - mean) / sqrt(variance + epsilon)
 *
 * with gain and bias per channel, [c], or per sample and channel, [n, c] (adaptive
 * norms).  The backward pass needs nothing of the forward one but x, so that neither
 * xhat nor z is kept: of a network's memory in training, this is a third.
 *
 * norm_affine_grad gives, in one run of memory,
 *
 *     gx            [x]          J gain gz,  gz = gy act'(z),  J as in norm.c
 *     sums of gz, of gz xhat     [2, parts, c]: the gradients of bias and gain
 *
 * where part k has a share of the samples: one each where gain is per sample, else at
 * most PARTS, whatever the device, so that the sums are the same on all.
 *
 * Attributes: i[0] groups, or 0: every run of the last axis is normalized on its own
 * (layer norm); i[1] activation.  f[0]: epsilon. */
#include "core/tensor/ops/norm.h"

#include <math.h>
#include <string.h>

enum { A_GROUPS, A_ACTIVATION };
enum { PARTS = 64 };

/* x is [n, rows, pixels, channels]; a group is pixels x channels / groups of a row. */
typedef struct geometry {
    int64_t n, rows, pixels, channels, groups;
    int64_t count, share, parts;     /* samples of a part */
    int64_t step;                    /* of gain and bias from one sample to the next: channels or 0 */
} geometry;

static geometry geometry_of(const pipe_attr *attr, const pipe_shape *x, const pipe_shape *gain)
{
    geometry g = {.n = x->dim[0], .rows = 1, .pixels = 1, .channels = x->dim[x->rank - 1],
                  .groups = pipei_max(1, attr->i[A_GROUPS]), .count = pipe_shape_count(x)};
    for (uint32_t k = 1; k + 1 < x->rank; k++)
        *(attr->i[A_GROUPS] ? &g.pixels : &g.rows) *= x->dim[k];
    g.step = gain->rank == 2 ? g.channels : 0;
    g.share = g.step ? 1 : pipei_max(1, pipei_ceil_div(g.n, PARTS));
    g.parts = pipei_ceil_div(g.n, g.share);
    return g;
}

/* ---- shapes ---- */

/* Inputs x[, gy], gain, bias. */
static pipe_status check(const pipe_op_call *c, geometry *g, pipe_error *err)
{
    const pipe_shape *x = pipe_tensor_shape(c->in[0]), *gain = pipe_tensor_shape(c->in[c->n_in - 2]);
    char text[PIPE_SHAPE_TEXT], other[PIPE_SHAPE_TEXT];

    pipe_shape_text(x, text, sizeof(text));
    for (size_t k = 0; k < c->n_in; k++)
        PIPE_TRY(pipei_need_f32(c, k, err));
    if (x->rank < 2)
        return pipe_fail(err, PIPE_ESHAPE, "%s: x %s: at least [n, channels] is needed", c->op->name, text);
    const int64_t channels = x->dim[x->rank - 1], groups = c->attr->i[A_GROUPS];
    if (groups < 0 || (groups > 0 && channels % groups))
        return pipe_fail(err, PIPE_ESHAPE, "%s: x %s: %lld channels do not divide into %lld groups", c->op->name, text,
                         (long long)channels, (long long)groups);
    const pipe_shape shared = PIPE_SHAPE(channels), own = PIPE_SHAPE(x->dim[0], channels);
    for (size_t k = c->n_in - 2; k < c->n_in; k++) {
        const pipe_shape *s = pipe_tensor_shape(c->in[k]);
        if (!pipe_shape_equal(s, gain) || (!pipe_shape_equal(s, &shared) && !pipe_shape_equal(s, &own)))
            return pipe_fail(err, PIPE_ESHAPE, "%s: x %s: gain and bias must both be [%lld] or both [%lld, %lld]; one is %s",
                             c->op->name, text, (long long)channels, (long long)x->dim[0], (long long)channels,
                             pipe_shape_text(s, other, sizeof(other)));
    }
    if (c->n_in == 4 && !pipe_shape_equal(x, pipe_tensor_shape(c->in[1])))
        return pipe_fail(err, PIPE_ESHAPE, "%s: x %s and gy %s must have one shape", c->op->name, text,
                         pipe_shape_text(pipe_tensor_shape(c->in[1]), other, sizeof(other)));
    *g = geometry_of(c->attr, x, gain);
    return PIPE_OK;
}

static pipe_status affine_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    geometry g;
    PIPE_TRY(check(c, &g, err));
    *out = (pipe_op_result){.shape = *pipe_tensor_shape(c->in[0]), .dtype = PIPE_F32};
    return PIPE_OK;
}

static pipe_status grad_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    geometry g;
    PIPE_TRY(check(c, &g, err));
    *out = (pipe_op_result){.shape = PIPE_SHAPE(g.count + 2 * g.parts * g.channels), .dtype = PIPE_F32};
    return PIPE_OK;
}

/* ---- references ---- */

static double activate(int64_t activation, double z)
{
    return activation == PIPE_ACTIVATION_SILU ? z / (1 + exp(-z)) : activation == PIPE_ACTIVATION_RELU ? fmax(z, 0) : z;
}

static double slope(int64_t activation, double z)
{
    const double s = 1 / (1 + exp(-z));
    return activation == PIPE_ACTIVATION_SILU ? s * (1 + z * (1 - s)) : activation == PIPE_ACTIVATION_RELU ? z > 0 : 1;
}

/* One group of one row: its element i is at at[i]. */
typedef struct group {
    const geometry *g;
    int64_t first, m, cg, sample, channel;
    double mean, rstd;
} group;

static size_t at(const group *k, int64_t i)
{
    return (size_t)(k->first + i / k->cg * k->g->channels + i % k->cg);
}

static void each_group(const pipe_reference *r, void (*visit)(const pipe_reference *r, const group *k))
{
    const geometry g = geometry_of(r->attr, &r->in_shape[0], &r->in_shape[r->n_in - 2]);
    group k = {.g = &g, .cg = g.channels / g.groups, .m = g.pixels * g.channels / g.groups};
    for (int64_t row = 0; row < g.n * g.rows; row++)
        for (int64_t n = 0; n < g.groups; n++) {
            k.sample = row / g.rows;
            k.channel = n * k.cg;
            k.first = row * g.pixels * g.channels + k.channel;
            k.mean = 0;
            double variance = 0;
            for (int64_t i = 0; i < k.m; i++)
                k.mean += r->in[0][at(&k, i)] / (double)k.m;
            for (int64_t i = 0; i < k.m; i++)
                variance += pow(r->in[0][at(&k, i)] - k.mean, 2) / (double)k.m;
            k.rstd = 1 / sqrt(variance + (double)r->attr->f[0]);
            visit(r, &k);
        }
}

static double gain_of(const pipe_reference *r, const group *k, int64_t i, size_t input)
{
    return r->in[input][k->sample * k->g->step + k->channel + i % k->cg];
}

static double hat(const pipe_reference *r, const group *k, int64_t i)
{
    return (r->in[0][at(k, i)] - k->mean) * k->rstd;
}

static double z_of(const pipe_reference *r, const group *k, int64_t i)
{
    return hat(r, k, i) * gain_of(r, k, i, r->n_in - 2) + gain_of(r, k, i, r->n_in - 1);
}

static void affine_group(const pipe_reference *r, const group *k)
{
    for (int64_t i = 0; i < k->m; i++)
        r->out[at(k, i)] = activate(r->attr->i[A_ACTIVATION], z_of(r, k, i));
}

static void grad_group(const pipe_reference *r, const group *k)
{
    const int64_t part = k->sample / k->g->share, c = k->g->channels;
    double *bias = r->out + k->g->count + part * c + k->channel, *gain = bias + k->g->parts * c;
    double along_1 = 0, along_hat = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < k->m; i++) {
            const double gz = r->in[1][at(k, i)] * slope(r->attr->i[A_ACTIVATION], z_of(r, k, i));
            const double gh = gz * gain_of(r, k, i, 2), h = hat(r, k, i);
            if (pass == 1) {
                r->out[at(k, i)] = k->rstd * (gh - along_1 - h * along_hat);
                continue;
            }
            bias[i % k->cg] += gz;
            gain[i % k->cg] += gz * h;
            along_1 += gh / (double)k->m;
            along_hat += gh * h / (double)k->m;
        }
}

static void affine_reference(const pipe_reference *r) { each_group(r, affine_group); }

static void grad_reference(const pipe_reference *r)
{
    memset(r->out, 0, r->n * sizeof(*r->out));
    each_group(r, grad_group);
}

/* ---- kernel text: the activation ---- */
/* ACT(V, z): the value; GATE(V, gz, z): gz times the slope at z. */
static const char *const activation_text[] = {
    [PIPE_ACTIVATION_NONE] = "#define ACT(V, z) (z)\n#define GATE(V, gz, z)\n",
    [PIPE_ACTIVATION_SILU] =
        ("#define ACT(V, z) ((z) / ((V)(1.0f) + exp(-(z))))\n"
         "#define GATE(V, gz, z) { const V s_ = (V)(1.0f) / ((V)(1.0f) + exp(-(z))); \\\n"
         "                         gz *= s_ * fma(z, (V)(1.0f) - s_, (V)(1.0f)); }\n"),
    [PIPE_ACTIVATION_RELU] =
        ("#define ACT(V, z) ((z) < (V)(0.0f) ? (V)(0.0f) : (z))\n"
         "#define GATE(V, gz, z) gz = (z) > (V)(0.0f) ? gz : (V)(0.0f);\n"),
};

/* ---- CPU, groups over pixels: after norm.c ---- */
static const char group_text[] =
    "#define store1(v, zero, p) (*(p) = (v))\n"
    "kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"
    "void norm_affine(PIPE_BUF(float, x), $GRADARG PIPE_BUF(float, gain), PIPE_BUF(float, bias), PIPE_BUF(float, out),\n"
    "                 const int samples, const int share, const int rows, const int pixels, const int step,\n"
    "                 const int count, const int parts, const float epsilon)\n"
    "{\n"
    "    PIPE_BIND(float, x); $GRADBIND PIPE_BIND(float, gain); PIPE_BIND(float, bias); PIPE_BIND(float, out);\n"
    "    const int channels = $CHANNELS, groups = $GROUPS, cg = $CG, begin = (int)get_group_id(1) * $MINE;\n"
    "    const float per = 1.0f / ((float)pixels * (float)cg);\n"
    "    const int n0 = (int)get_group_id(0) * share, n1 = min(n0 + share, samples);\n"
    "    float mean[$MINE], scale[$MINE];\n"
    "$SUMS"
    "    for (int n = n0; n < n1; n++) {\n"
    "        const size_t at = (size_t)n * pixels * channels + begin;\n"
    "        global const float *gn = gain + (size_t)n * step + begin, *bs = bias + (size_t)n * step + begin;\n";
/* What a part sums over its samples. */
static const char sums_text[] =
    "    float first[$MINE], second[$MINE], bias_sum[$MINE], gain_sum[$MINE];\n"
    "    for (int c = 0; c < $MINE; c++)\n"
    "        bias_sum[c] = gain_sum[c] = 0.0f;\n";
static const char sums_store[] =
    "    global float *sums = out + count + (size_t)get_group_id(0) * channels + begin;\n"
    "    for (int c = 0; c < $MINE; c++) {\n"
    "        sums[c] = bias_sum[c];\n"
    "        sums[c + parts * channels] = gain_sum[c];\n"
    "    }\n";
static const pipei_norm_loop affine_loop = {
    "        const $V m$X = $LOADmean + $C), a$X = $LOADscale + $C) * $LOADgn + $C), b$X = $LOADbs + $C);\n",
    "            { const $V z = fma($LOADx + q + $C) - m$X, a$X, b$X), y = ACT($V, z);\n"
    "              $STORE(PIPE_EPILOGUE$LANES(y, q + $C), 0, out + q + $C); }\n",
    "",
};
/* gz is left in `out` for the next loop: cheaper than the activation again. */
static const pipei_norm_loop sums_loop = {
    "        $V s$X = ($V)(0.0f), t$X = ($V)(0.0f);\n"
    "        const $V m$X = $LOADmean + $C), r$X = $LOADscale + $C), a$X = $LOADgn + $C), b$X = $LOADbs + $C);\n",
    "            { const $V h = ($LOADx + q + $C) - m$X) * r$X; $V gz = $LOADg + q + $C);\n"
    "              const $V z = fma(h, a$X, b$X); GATE($V, gz, z)\n"
    "              s$X += gz; t$X = fma(gz, h, t$X); $STORE(gz, 0, out + q + $C); }\n",
    "        $STORE(s$X, 0, first + $C); $STORE(t$X, 0, second + $C);\n",
};
static const char group_sums[] =
    "        for (int c = 0; c < $MINE; c++) {\n"
    "            bias_sum[c] += first[c];\n"
    "            gain_sum[c] += second[c];\n"
    "            first[c] *= gn[c];\n"
    "            second[c] *= gn[c];\n"
    "        }\n";
static const pipei_norm_loop grad_loop = {
    "        const $V m$X = $LOADmean + $C), r$X = $LOADscale + $C), a$X = $LOADgn + $C), f$X = $LOADfirst + $C),\n"
    "                 w$X = $LOADsecond + $C) * r$X;\n",
    "            { const $V y = r$X * (fma($LOADout + q + $C), a$X, -f$X) - ($LOADx + q + $C) - m$X) * w$X);\n"
    "              $STORE(PIPE_EPILOGUE$LANES(y, q + $C), 0, out + q + $C); }\n",
    "",
};

/* The groups that one work-item takes of a sample: all, unless samples are few. */
static int64_t groups_of_item(const geometry *g, int64_t width, int64_t cores)
{
    int64_t groups = g->groups;
    while (g->parts * (g->groups / groups) < 4 * cores && groups % 2 == 0 &&
           groups / 2 * (g->channels / g->groups) % width == 0)
        groups /= 2;
    return groups;
}

static void add_group_kernel(pipe_text *s, const geometry *g, bool grad, int64_t groups, uint32_t width)
{
    const int64_t cg = g->channels / g->groups, mine = groups * cg;
    pipe_text sums = {0};
    pipei_word words[] = {
        {.name = "GRADARG", .text = grad ? "PIPE_BUF(float, g)," : ""}, {.name = "GRADBIND", .text = grad ? "PIPE_BIND(float, g);" : ""},
        {.name = "CHANNELS", .number = g->channels}, {.name = "GROUPS", .number = groups}, {.name = "CG", .number = cg},
        {.name = "MINE", .number = mine}, {.name = "SUMS", .text = ""}, {0}};
    if (grad) {
        pipei_emit(&sums, sums_text, words);
        words[6].text = sums.data;
    }
    pipei_emit(s, group_text, words);
    pipei_norm_emit_loop(s, &pipei_norm_mean, mine, width);
    pipei_norm_emit_groups(s, "mean", "s");
    pipei_norm_emit_loop(s, &pipei_norm_variance, mine, width);
    pipei_norm_emit_groups(s, "scale", "1.0f / sqrt(s + epsilon)");
    if (grad) {
        pipei_norm_emit_loop(s, &sums_loop, mine, width);
        pipei_emit(s, group_sums, words);
        pipei_norm_emit_groups(s, "first", "s");
        pipei_norm_emit_groups(s, "second", "s");
        pipei_norm_emit_loop(s, &grad_loop, mine, width);
    } else {
        pipei_norm_emit_loop(s, &affine_loop, mine, width);
    }
    pipe_text_add(s, "    }\n");
    if (grad)
        pipei_emit(s, sums_store, words);
    pipe_text_add(s, "}\n#undef store1\n");
    pipe_text_free(&sums);
}

/* ---- CPU, runs of the last axis: a row lies in the level 1 cache ---- */
/* The body of a loop over a row: whole vectors, then single lanes.  In the texts: $V
 * the type, $LOADp) and $STORE(v, 0, p), $LANES, and $X tells the sums apart. */
static void add_row_loop(pipe_text *s, const char *body, int64_t channels, uint32_t width)
{
    const pipei_word vector[] = {
        {.name = "V", .text = width == 16 ? "float16" : width == 8 ? "float8" : "float4"},
        {.name = "LOAD", .text = width == 16 ? "vload16(0, " : width == 8 ? "vload8(0, " : "vload4(0, "},
        {.name = "STORE", .text = width == 16 ? "vstore16" : width == 8 ? "vstore8" : "vstore4"},
        {.name = "X", .text = "v"}, {.name = "LANES", .number = width}, {.name = "END", .number = channels / width * width},
        {0}};
    const pipei_word single[] = {
        {.name = "V", .text = "float"}, {.name = "LOAD", .text = "*("}, {.name = "STORE", .text = "store1"},
        {.name = "X", .text = "s"}, {.name = "LANES", .number = 1}, {.name = "END", .number = channels}, {0}};
    pipe_text_add(s, "        c = 0;\n");
    for (int k = 0; k < 2; k++) {
        const pipei_word *words = k ? single : vector;
        if (k ? channels % width == 0 : channels < width)
            continue;
        pipei_emit(s, "        for (; c < $END; c += $LANES) {\n", words);
        pipei_emit(s, body, words);
        pipe_text_add(s, "        }\n");
    }
}

static const char row_text[] =
    "#define store1(v, zero, p) (*(p) = (v))\n"
    "kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"
    "void norm_affine(PIPE_BUF(float, x), $GRADARG PIPE_BUF(float, gain), PIPE_BUF(float, bias), PIPE_BUF(float, out),\n"
    "                 const int samples, const int share, const int rows, const int pixels, const int step,\n"
    "                 const int count, const int parts, const float epsilon)\n"
    "{\n"
    "    PIPE_BIND(float, x); $GRADBIND PIPE_BIND(float, gain); PIPE_BIND(float, bias); PIPE_BIND(float, out);\n"
    "    const int channels = $CHANNELS, begin = 0;\n"
    "    const float per = 1.0f / (float)channels;\n"
    "    const int n0 = (int)get_group_id(0) * share, n1 = min(n0 + share, samples);\n"
    "$SUMS"
    "    for (int row = n0 * rows; row < n1 * rows; row++) {\n"
    "        const size_t q = (size_t)row * channels;\n"
    "        global const float *gn = gain + (size_t)(row / rows) * step, *bs = bias + (size_t)(row / rows) * step;\n"
    "        $V sv = ($V)(0.0f), tv = ($V)(0.0f);\n"
    "        float ss = 0.0f, ts = 0.0f;\n"
    "        int c;\n";
static const char row_sums_text[] =
    "    float bias_sum[$MINE], gain_sum[$MINE];\n"
    "    for (int c = 0; c < $MINE; c++)\n"
    "        bias_sum[c] = gain_sum[c] = 0.0f;\n";
static const char row_mean[] = "            s$X += $LOADx + q + c);\n";
static const char row_variance[] =
    "            { const $V d = $LOADx + q + c) - mean; t$X = fma(d, d, t$X); }\n";
static const char row_affine[] =
    "            { const $V z = fma(($LOADx + q + c) - mean) * scale, $LOADgn + c), $LOADbs + c)), y = ACT($V, z);\n"
    "              $STORE(PIPE_EPILOGUE$LANES(y, q + c), 0, out + q + c); }\n";
static const char row_sums[] =
    "            { const $V h = ($LOADx + q + c) - mean) * scale, a = $LOADgn + c); $V gz = $LOADg + q + c);\n"
    "              const $V z = fma(h, a, $LOADbs + c)); GATE($V, gz, z)\n"
    "              $STORE($LOADbias_sum + c) + gz, 0, bias_sum + c);\n"
    "              $STORE(fma(gz, h, $LOADgain_sum + c)), 0, gain_sum + c);\n"
    "              gz *= a; s$X += gz; t$X = fma(gz, h, t$X); $STORE(gz, 0, out + q + c); }\n";
static const char row_grad[] =
    "            { const $V h = ($LOADx + q + c) - mean) * scale, y = scale * ($LOADout + q + c) - first - h * second);\n"
    "              $STORE(PIPE_EPILOGUE$LANES(y, q + c), 0, out + q + c); }\n";

static void add_row_kernel(pipe_text *s, const geometry *g, bool grad, uint32_t width)
{
    pipe_text sums = {0};
    pipei_word words[] = {
        {.name = "GRADARG", .text = grad ? "PIPE_BUF(float, g)," : ""}, {.name = "GRADBIND", .text = grad ? "PIPE_BIND(float, g);" : ""},
        {.name = "CHANNELS", .number = g->channels}, {.name = "MINE", .number = g->channels},
        {.name = "V", .text = width == 16 ? "float16" : width == 8 ? "float8" : "float4"}, {.name = "SUMS", .text = ""}, {0}};
    if (grad) {
        pipei_emit(&sums, row_sums_text, words);
        words[5].text = sums.data;
    }
    pipei_emit_fold(s, "lanes", false, width);
    pipei_emit(s, row_text, words);
    add_row_loop(s, row_mean, g->channels, width);
    pipe_text_add(s, "        const float mean = (lanes(sv) + ss) * per;\n");
    add_row_loop(s, row_variance, g->channels, width);
    pipe_text_add(s, "        const float scale = 1.0f / sqrt((lanes(tv) + ts) * per + epsilon);\n");
    if (grad) {
        pipei_emit(s, "        sv = tv = ($V)(0.0f);\n        ss = ts = 0.0f;\n", words);
        add_row_loop(s, row_sums, g->channels, width);
        pipe_text_add(s, "        const float first = (lanes(sv) + ss) * per, second = (lanes(tv) + ts) * per;\n");
        add_row_loop(s, row_grad, g->channels, width);
    } else {
        add_row_loop(s, row_affine, g->channels, width);
    }
    pipe_text_add(s, "    }\n");
    if (grad)
        pipei_emit(s, sums_store, words);
    pipe_text_add(s, "}\n#undef store1\n");
    pipe_text_free(&sums);
}

/* The arguments that all kernels of the file begin with. */
static void add_buffers(pipe_launch *k, bool grad)
{
    for (uint32_t input = 0; input < (grad ? 4u : 3u); input++)
        pipei_launch_buffer(k, PIPE_ARG_INPUT, input);
    pipei_launch_buffer(k, PIPE_ARG_OUTPUT, 0);
}

static void lower_cpu(pipe_lowering *l, const geometry *g, const pipe_attr *attr, bool grad)
{
    const pipe_device_profile *p = pipe_lower_profile(l);
    const uint32_t width = p->vector_width >= 16 ? 16 : p->vector_width >= 8 ? 8 : 4;
    const bool rows = attr->i[A_GROUPS] == 0;
    const int64_t groups = rows ? 1 : groups_of_item(g, width, pipei_max(1, p->compute_units));
    pipe_text s = {0};

    pipe_text_add(&s, activation_text[attr->i[A_ACTIVATION]]);
    if (rows)
        add_row_kernel(&s, g, grad, width);
    else
        add_group_kernel(&s, g, grad, groups, width);
    pipe_text_add(&s, "#undef ACT\n#undef GATE\n");
    pipe_launch launch = {
        .kernel = "norm_affine", .dims = 2, .local = {1, 1},
        .global = {(size_t)g->parts, (size_t)(g->groups / groups)},
    };
    add_buffers(&launch, grad);
    const int64_t ints[] = {g->n, g->share, g->rows, g->pixels, g->step, g->count, g->parts};
    for (size_t k = 0; k < sizeof(ints) / sizeof(ints[0]); k++)
        pipei_launch_int(&launch, ints[k]);
    pipei_launch_buffer(&launch, PIPE_ARG_FLOAT, 0);
    pipei_launch_add(l, &launch, &s);
}

/* ---- with work-groups: one per row and group ---- */
static const char gpu_text[] =
    "kernel __attribute__((reqd_work_group_size($LOCAL, 1, 1)))\n"
    "void norm_affine(PIPE_BUF(float, x), $GRADARG PIPE_BUF(float, gain), PIPE_BUF(float, bias), PIPE_BUF(float, out),\n"
    "                 $STATARG const int rows, const int step, const float epsilon)\n"
    "{\n"
    "    PIPE_BIND(float, x); $GRADBIND PIPE_BIND(float, gain); PIPE_BIND(float, bias); PIPE_BIND(float, out); $STATBIND\n"
    "    local float sums[$LOCAL];\n"
    "    const int id = (int)get_local_id(0), total = $PIXELS * $CG, row = (int)get_group_id(0) / $GROUPS;\n"
    "    const size_t at = (size_t)row * $PIXELS * $CHANNELS + get_group_id(0) % $GROUPS * $CG;\n"
    "    global const float *gn = gain + (size_t)(row / rows) * step + get_group_id(0) % $GROUPS * $CG;\n"
    "    global const float *bs = bias + (size_t)(row / rows) * step + get_group_id(0) % $GROUPS * $CG;\n"
    "    float mean = 0.0f, scale = 1.0f, s;\n";
/* Over the elements of the group: q the element, c its channel in the group, h its xhat. */
static const char gpu_loop[] =
    "    for (int i = id; i < total; i += $LOCAL) {\n"
    "        const int c = i % $CG;\n"
    "        const size_t q = at + (size_t)(i / $CG) * $CHANNELS + c;\n"
    "        const float h = (x[q] - mean) * scale, z = fma(h, gn[c], bs[c]);\n"
    "$GZ"
    "        $BODY;\n"
    "    }\n";
static const char gpu_gz[] = "        float gz = g[q]; GATE(float, gz, z)\n";
/* Sums of a part and channel over its samples, with the statistics that the first kernel left. */
static const char gpu_sums[] =
    "kernel void sums(PIPE_BUF(float, x), PIPE_BUF(float, g), PIPE_BUF(float, gain), PIPE_BUF(float, bias),\n"
    "                 PIPE_BUF(float, out), PIPE_BUF(float, stat), const int rows, const int step, const int samples,\n"
    "                 const int share, const int count, const int parts)\n"
    "{\n"
    "    PIPE_BIND(float, x); PIPE_BIND(float, g); PIPE_BIND(float, gain); PIPE_BIND(float, bias); PIPE_BIND(float, out);\n"
    "    PIPE_BIND(float, stat);\n"
    "    const int k = (int)get_global_id(0), c = k % $CHANNELS, part = k / $CHANNELS;\n"
    "    const int end = min((part + 1) * share, samples) * rows;\n"
    "    float bias_sum = 0.0f, gain_sum = 0.0f;\n"
    "    for (int row = part * share * rows; row < end; row++) {\n"
    "        global const float *st = stat + 2 * (row * $GROUPS + c / $CG);\n"
    "        const float a = gain[row / rows * step + c], b = bias[row / rows * step + c];\n"
    "        for (int i = 0; i < $PIXELS; i++) {\n"
    "            const size_t q = ((size_t)row * $PIXELS + i) * $CHANNELS + c;\n"
    "            const float h = (x[q] - st[0]) * st[1], z = fma(h, a, b);\n"
    "            float gz = g[q]; GATE(float, gz, z)\n"
    "            bias_sum += gz;\n"
    "            gain_sum = fma(gz, h, gain_sum);\n"
    "        }\n"
    "    }\n"
    "    out[count + k] = bias_sum;\n"
    "    out[count + parts * $CHANNELS + k] = gain_sum;\n"
    "}\n";

enum { BODY, GZ, LOCAL };

/* s becomes the mean of `value` over the group. */
static void add_gpu_mean(pipe_text *s, pipei_word *words, const char *value, const char *then)
{
    words[BODY].text = value;
    pipe_text_add(s, "    s = 0.0f;\n");
    pipei_emit(s, gpu_loop, words);
    pipei_emit(s, pipei_norm_gpu_mean, words);
    pipe_text_add(s, then);
}

static void lower_gpu(pipe_lowering *l, const geometry *g, const pipe_attr *attr, bool grad)
{
    const pipe_device_profile *p = pipe_lower_profile(l);
    int64_t size = 1;
    while (size * 2 <= pipei_min(p->max_work_group, 256) && size < g->pixels * g->channels / g->groups)
        size *= 2;
    pipei_word words[] = {
        [BODY] = {.name = "BODY", .text = ""}, [GZ] = {.name = "GZ", .text = ""}, [LOCAL] = {.name = "LOCAL", .number = size},
        {.name = "GRADARG", .text = grad ? "PIPE_BUF(float, g)," : ""}, {.name = "GRADBIND", .text = grad ? "PIPE_BIND(float, g);" : ""},
        {.name = "STATARG", .text = grad ? "PIPE_BUF(float, stat)," : ""}, {.name = "STATBIND", .text = grad ? "PIPE_BIND(float, stat);" : ""},
        {.name = "PIXELS", .number = g->pixels}, {.name = "CHANNELS", .number = g->channels},
        {.name = "GROUPS", .number = g->groups}, {.name = "CG", .number = g->channels / g->groups}, {0}};
    const uint32_t stat = grad ? pipe_lower_scratch(l, (size_t)(2 * g->n * g->rows * g->groups)) : 0;
    pipe_text s = {0};

    pipe_text_add(&s, activation_text[attr->i[A_ACTIVATION]]);
    pipei_emit(&s, gpu_text, words);
    add_gpu_mean(&s, words, "s += x[q]", "    mean = s;\n");
    add_gpu_mean(&s, words, "s = fma(h, h, s)", "    scale = 1.0f / sqrt(s + epsilon);\n");
    if (grad) {
        words[GZ].text = gpu_gz;
        pipe_text_add(&s, "    if (id == 0) {\n        stat[2 * get_group_id(0)] = mean;\n"
                          "        stat[2 * get_group_id(0) + 1] = scale;\n    }\n");
        add_gpu_mean(&s, words, "s = fma(gz, gn[c], s)", "    const float first = s;\n");
        add_gpu_mean(&s, words, "s = fma(gz * gn[c], h, s)", "    const float second = s;\n");
    }
    words[BODY].text = grad ? "const float y = scale * (gz * gn[c] - first - h * second); out[q] = PIPE_EPILOGUE1(y, q)"
                            : "const float y = ACT(float, z); out[q] = PIPE_EPILOGUE1(y, q)";
    pipei_emit(&s, gpu_loop, words);
    pipe_text_add(&s, "}\n#undef ACT\n#undef GATE\n");

    pipe_launch launch = {
        .kernel = "norm_affine", .dims = 1, .local = {(size_t)size}, .global = {(size_t)(g->n * g->rows * g->groups * size)},
    };
    add_buffers(&launch, grad);
    if (grad)
        pipei_launch_buffer(&launch, PIPE_ARG_SCRATCH, stat);
    pipei_launch_int(&launch, g->rows);
    pipei_launch_int(&launch, g->step);
    pipei_launch_buffer(&launch, PIPE_ARG_FLOAT, 0);
    pipei_launch_add(l, &launch, &s);
    if (!grad)
        return;
    pipe_text_add(&s, activation_text[attr->i[A_ACTIVATION]]);
    pipei_emit(&s, gpu_sums, words);
    pipe_text_add(&s, "#undef ACT\n#undef GATE\n");
    pipe_launch sums = {.kernel = "sums", .dims = 1, .global = {(size_t)(g->parts * g->channels)}};
    add_buffers(&sums, grad);
    pipei_launch_buffer(&sums, PIPE_ARG_SCRATCH, stat);
    const int64_t ints[] = {g->rows, g->step, g->n, g->share, g->count, g->parts};
    for (size_t k = 0; k < sizeof(ints) / sizeof(ints[0]); k++)
        pipei_launch_int(&sums, ints[k]);
    pipei_launch_add(l, &sums, &s);
}

static pipe_status lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    const bool grad = c->n_in == 4;
    (void)err;
    const geometry g = geometry_of(c->attr, pipe_tensor_shape(c->in[0]), pipe_tensor_shape(c->in[c->n_in - 2]));
    if (g.parts * g.channels == 0)
        return PIPE_OK;
    if (pipe_lower_profile(l)->cpu)
        lower_cpu(l, &g, c->attr, grad);
    else
        lower_gpu(l, &g, c->attr, grad);
    return PIPE_OK;
}

/* ---- in other ops: the definition ---- */

/* gain or bias as [n or 1, 1, ..., c], beside x. */
static pipe_tensor *beside(const pipe_op_call *c, pipe_tensor *gain)
{
    const pipe_shape *x = pipe_tensor_shape(c->in[0]);
    pipe_shape s = {.rank = x->rank};
    for (uint32_t k = 0; k < s.rank; k++)
        s.dim[k] = k + 1 == s.rank ? x->dim[k] : k == 0 && pipe_rank(gain) == 2 ? x->dim[0] : 1;
    return pipe_reshape(gain, s);
}

static pipe_tensor *normalized(const pipe_op_call *c)
{
    const double epsilon = (double)c->attr->f[0];
    return c->attr->i[A_GROUPS] ? pipe_group_norm(c->in[0], (uint32_t)c->attr->i[A_GROUPS], epsilon)
                                : pipe_layer_norm(c->in[0], epsilon);
}

static pipe_tensor *apply_activation(int64_t activation, pipe_tensor *z)
{
    return activation == PIPE_ACTIVATION_SILU ? pipe_silu(z) : activation == PIPE_ACTIVATION_RELU ? pipe_relu(z) : z;
}

static pipe_tensor *affine_composed(const pipe_op_call *c)
{
    pipe_tensor *z = pipe_add(pipe_mul(normalized(c), beside(c, c->in[1])), beside(c, c->in[2]));
    return apply_activation(c->attr->i[A_ACTIVATION], z);
}

/* Sums over a part's samples and pixels: [parts, c] in a row. */
static pipe_tensor *part_sums(const geometry *g, pipe_tensor *t)
{
    const int64_t whole = g->n / g->share, rest = g->n - whole * g->share, size = g->rows * g->pixels;
    const int over[] = {1};
    pipe_tensor *flat = pipe_reshape(t, PIPE_SHAPE(g->n, size, g->channels)), *part[2];
    size_t n = 0;
    if (whole)
        part[n++] = pipe_sum(pipe_reshape(pipe_slice(flat, 0, 0, whole * g->share, 1),
                                          PIPE_SHAPE(whole, g->share * size, g->channels)), over, 1, false);
    if (rest)
        part[n++] = pipe_sum(pipe_reshape(pipe_slice(flat, 0, whole * g->share, rest, 1),
                                          PIPE_SHAPE(1, rest * size, g->channels)), over, 1, false);
    pipe_tensor *sums = n == 2 ? pipe_concat(part, 2, 0) : n ? part[0] : pipe_zeros(pipe_tensor_engine(t), PIPE_SHAPE(0));
    return pipe_reshape(sums, PIPE_SHAPE(g->parts * g->channels));
}

static pipe_tensor *grad_composed(const pipe_op_call *c)
{
    const geometry g = geometry_of(c->attr, pipe_tensor_shape(c->in[0]), pipe_tensor_shape(c->in[2]));
    pipe_tensor *hat = normalized(c), *gain = beside(c, c->in[2]), *gz = c->in[1];
    if (c->attr->i[A_ACTIVATION] != PIPE_ACTIVATION_NONE) {
        pipe_tensor *z = pipe_add(pipe_mul(hat, gain), beside(c, c->in[3]));
        pipe_tensor *zero = pipe_constant(c->engine, 0.0), *s = pipe_sigmoid(z);
        gz = pipe_mul(gz, c->attr->i[A_ACTIVATION] == PIPE_ACTIVATION_RELU
                              ? pipe_less(zero, z)
                              : pipe_mul(s, pipe_affine(pipe_mul(z, pipe_affine(s, -1.0, 1.0)), 1.0, 1.0)));
    }
    pipe_tensor *parts[] = {
        pipe_reshape(pipei_norm_jacobian(c->in[0], pipe_mul(gz, gain), c->attr->i[A_GROUPS], (double)c->attr->f[0]),
                     PIPE_SHAPE(g.count)),
        part_sums(&g, gz), part_sums(&g, pipe_mul(gz, hat))};
    return pipe_concat(parts, 3, 0);
}

/* ---- the rows ---- */
/* Behind the gradient of x; the sums are never one of a network's tensors. */
static int64_t grad_epilogue_count(const pipe_op_call *c) { return pipe_count(c->in[0]); }

static const pipe_op grad_row = {
    PIPE_OP_INIT, .name = "norm_affine_grad", .arity = 4, .shape = grad_shape, .reference = grad_reference,
    .lower = lower, .composed = grad_composed, .epilogue = true, .epilogue_count = grad_epilogue_count,
};

static void affine_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    const geometry g = geometry_of(c->attr, pipe_tensor_shape(c->in[0]), pipe_tensor_shape(c->in[1]));
    const int over[] = {1};
    pipe_tensor *all = pipe_op_apply(c->engine, &grad_row, (pipe_tensor *[]){c->in[0], gy, c->in[1], c->in[2]}, 4, c->attr);
    if (needs[0])
        gx[0] = pipe_reshape(pipe_slice(all, 0, 0, g.count, 1), *pipe_tensor_shape(c->in[0]));
    if (!needs[1] && !needs[2])
        return;
    pipe_tensor *sums = pipe_slice(all, 0, g.count, 2 * g.parts * g.channels, 1);
    sums = pipe_reshape(sums, PIPE_SHAPE(2, g.parts, g.channels));
    if (!g.step)
        sums = pipe_sum(sums, over, 1, false);
    for (int64_t k = 0; k < 2; k++)
        if (needs[2 - k])
            gx[2 - k] = pipe_reshape(pipe_slice(sums, 0, k, 1, 1), *pipe_tensor_shape(c->in[2 - k]));
}

static const pipe_op affine_row = {
    PIPE_OP_INIT, .name = "norm_affine", .arity = 3, .shape = affine_shape, .reference = affine_reference,
    .lower = lower, .composed = affine_composed, .vjp = affine_vjp, .epilogue = true,
};

const pipe_op *const pipei_ops_norm_affine[] = {&affine_row, &grad_row, NULL};

/* ---- the public functions ---- */
static pipe_tensor *apply(pipe_tensor *x, int64_t groups, double epsilon, pipe_tensor *gain, pipe_tensor *bias,
                          pipe_activation activation)
{
    const pipe_attr attr = {.i = {groups, activation}, .f = {(float)epsilon}};
    return pipei_op3(&affine_row, x, gain, bias, &attr);
}

pipe_tensor *pipe_group_norm_affine(pipe_tensor *x, uint32_t groups, double epsilon, pipe_tensor *gain, pipe_tensor *bias,
                                    pipe_activation activation)
{
    PIPEI_SOUND(x);
    if (groups == 0)
        return pipe_poison(pipe_tensor_engine(x), PIPE_EINVAL, "group_norm_affine: at least one group is needed");
    return apply(x, groups, epsilon, gain, bias, activation);
}

pipe_tensor *pipe_layer_norm_affine(pipe_tensor *x, double epsilon, pipe_tensor *gain, pipe_tensor *bias,
                                    pipe_activation activation)
{
    return apply(x, 0, epsilon, gain, bias, activation);
}
