/* Scaled dot-product attention in one kernel: softmax(scale q k' + mask) v, without
 * the matrix of scores in memory.  Online softmax after Milakov and Gimelshein
 * 2018 (arXiv:1805.02867), tiled as in FlashAttention (arXiv:2205.14135).
 *
 * q, k, v keep their layout [b, s, heads, d]; no permuted copy is made.  On a CPU a
 * work-item takes one (batch, head) pair at a time, packs its keys into panels
 * (transposed) and its values into rows of whole vectors, both in the cache, and
 * then runs tiles of queries over blocks of BLOCK keys: scores by a register-tiled
 * product over d, exponentials in vectors, output by a register-tiled product
 * over the keys. */
#include "core/tensor/ops/attention.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define BLOCK 256                 /* keys */

pipei_attention pipei_attention_geometry(const pipe_attr *attr, const pipe_shape *q, const pipe_shape *k, const pipe_shape *mask)
{
    pipei_attention g = {.b = q->dim[0], .sq = q->dim[1], .heads = q->dim[2], .d = q->dim[3], .sk = k->dim[1],
                  .causal = attr->i[PIPEI_ATTENTION_CAUSAL] != 0, .masked = mask != NULL};
    int64_t step = 1;
    for (uint32_t i = 0; mask && i < mask->rank; i++) {
        const int64_t size = mask->dim[mask->rank - 1 - i];
        g.mask[3 - i] = size == 1 ? 0 : step;
        step *= size;
    }
    return g;
}

static pipe_status shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    static const char *const names[] = {"q", "k", "v", "mask"};
    char text[3][PIPE_SHAPE_TEXT];
    if (c->n_in != 3 && c->n_in != 4)
        return pipe_fail(err, PIPE_EINVAL, "attention takes q, k, v and perhaps a mask, not %zu inputs", c->n_in);
    for (size_t i = 0; i < c->n_in; i++)
        if (pipe_tensor_dtype(c->in[i]) != PIPE_F32)
            return pipe_fail(err, PIPE_ESHAPE, "attention: %s must be f32, not i32", names[i]);
    const pipe_shape *q = pipe_tensor_shape(c->in[0]), *k = pipe_tensor_shape(c->in[1]), *v = pipe_tensor_shape(c->in[2]);
    if (q->rank != 4 || k->rank != 4 || !pipe_shape_equal(k, v) || q->dim[0] != k->dim[0] || q->dim[2] != k->dim[2] ||
        q->dim[3] != k->dim[3] || q->dim[3] < 1 || k->dim[1] < 1)
        return pipe_fail(err, PIPE_ESHAPE,
                         "attention: q %s, k %s, v %s do not fit: q [b, sq, heads, d], k and v [b, sk, heads, d] with "
                         "sk and d of at least 1 are needed", pipe_shape_text(q, text[0], sizeof(text[0])),
                         pipe_shape_text(k, text[1], sizeof(text[1])), pipe_shape_text(v, text[2], sizeof(text[2])));
    if (c->n_in == 4) {
        const pipe_shape *m = pipe_tensor_shape(c->in[3]);
        const pipe_shape full = PIPE_SHAPE(q->dim[0], q->dim[2], q->dim[1], k->dim[1]);
        bool fits = m->rank <= 4;
        for (uint32_t i = 0; fits && i < m->rank; i++)
            fits = m->dim[m->rank - 1 - i] == 1 || m->dim[m->rank - 1 - i] == full.dim[3 - i];
        if (!fits)
            return pipe_fail(err, PIPE_ESHAPE, "attention: mask %s does not broadcast to the scores %s [b, heads, sq, sk]",
                             pipe_shape_text(m, text[0], sizeof(text[0])),
                             pipe_shape_text(&full, text[1], sizeof(text[1])));
    }
    *out = (pipe_op_result){.shape = *q, .dtype = PIPE_F32};
    return PIPE_OK;
}

static void reference(const pipe_reference *r)
{
    const pipei_attention g = pipei_attention_geometry(r->attr, &r->in_shape[0], &r->in_shape[1], r->n_in == 4 ? &r->in_shape[3] : NULL);
    double *score = pipe_alloc_array((size_t)g.sk, sizeof(*score));
    for (int64_t row = 0; row < g.b * g.sq * g.heads; row++) {
        const int64_t h = row % g.heads, i = row / g.heads % g.sq, b = row / g.heads / g.sq;
        const double *q = r->in[0] + row * g.d;
        double *out = r->out + row * g.d, top = -INFINITY, sum = 0;
        const int64_t keys = g.causal ? pipei_min(g.sk, i + 1) : g.sk;
        for (int64_t j = 0; j < keys; j++) {
            score[j] = 0;
            for (int64_t e = 0; e < g.d; e++)
                score[j] += q[e] * r->in[1][((b * g.sk + j) * g.heads + h) * g.d + e];
            score[j] *= (double)r->attr->f[0];
            if (g.masked)
                score[j] += r->in[3][b * g.mask[0] + h * g.mask[1] + i * g.mask[2] + j * g.mask[3]];
            top = fmax(top, score[j]);
        }
        memset(out, 0, (size_t)g.d * sizeof(*out));
        for (int64_t j = 0; j < keys; j++)
            sum += score[j] = exp(score[j] - top);
        for (int64_t j = 0; j < keys; j++)
            for (int64_t e = 0; e < g.d; e++)
                out[e] += score[j] / sum * r->in[2][((b * g.sk + j) * g.heads + h) * g.d + e];
    }
    pipe_free(score);
}

/* ---- CPU ---- */
static const char helpers_text[] =
    "static void zeros(global float *to, const int n)\n"
    "{\n"
    "    for (int k = 0; k < n; k += $WIDTH)\n"
    "        vstore$WIDTH(($V)(0.0f), 0, to + k);\n"
    "}\n"
    "static void lines(global const float *from, const int apart, const int n, global float *to, const int to_apart)\n"
    "{\n"
    "    for (int j = 0; j < n; j++, from += apart, to += to_apart) {\n"
    "        int e = 0;\n"
    "        for (; e + $WIDTH <= $D; e += $WIDTH)\n"
    "            vstore$WIDTH(vload$WIDTH(0, from + e), 0, to + e);\n"
    "        for (; e < $D; e++)\n"
    "            to[e] = from[e];\n"
    "    }\n"
    "}\n"
    "static void panels(global const float *from, const int apart, const int n, global float *to)\n"
    "{\n"
    "    for (int j0 = 0; j0 < n; j0 += $COLUMNS, to += $D * $COLUMNS)\n"
    "        for (int j = 0; j < $COLUMNS; j++, from += apart)\n"
    "            if (j0 + j < n) {\n"
    "                for (int e = 0; e < $D; e++)\n"
    "                    to[e * $COLUMNS + j] = from[e];\n"
    "            } else {\n"
    "                for (int e = 0; e < $D; e++)\n"
    "                    to[e * $COLUMNS + j] = 0.0f;\n"
    "            }\n"
    "}\n";
void pipei_attention_helpers(pipe_text *s, const pipei_tile_words *w, uint32_t width)
{
    pipei_emit_fold(s, "sum_lanes", false, width);
    pipei_emit_fold(s, "max_lanes", true, width);
    pipei_emit(s, helpers_text, w->word);
    pipe_text_addf(s, "static int%u lanes_from(const int first)\n{\n    return first + (int%u)(", width, width);
    for (uint32_t k = 0; k < width; k++)
        pipe_text_addf(s, "%s%u", k ? ", " : "", k);
    pipe_text_add(s, ");\n}\n");
}

static const char cpu_text[] =
    "kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"
    "void attention(PIPE_BUF(float, q), PIPE_BUF(float, keys), PIPE_BUF(float, vals), $MASKARG PIPE_BUF(float, out),\n"
    "               PIPE_BUF(float, room), const int sq, const int sk, const int heads, const int units, const int share,\n"
    "               const int splits, const int split_rows, const float scale)\n"
    "{\n"
    "    PIPE_BIND(float, q); PIPE_BIND(float, keys); PIPE_BIND(float, vals); PIPE_BIND(float, out);\n"
    "    PIPE_BIND(float, room); $MASKBIND\n"
    "    const int skp = (sk + $BLOCK - 1) / $BLOCK * $BLOCK, stride = heads * $D;\n"
    "    global float *kt = room + (size_t)get_group_id(0) * skp * ($D + $DP), *vp = kt + (size_t)skp * $D;\n"
    "    const int u0 = (int)get_group_id(0) * share, u1 = min(u0 + share, units);\n"
    "    int packed = -1;\n"
    "    for (int u = u0; u < u1; u++) {\n"
    "        const int pair = u / splits, batch = pair / heads, head = pair % heads;\n"
    "        if (pair != packed) {\n"
    "            packed = pair;\n"                         /* what is behind d in a row of vp stays, is computed with and not stored */
    "            global const float *pk = keys + ((size_t)batch * sk * heads + head) * $D;\n"
    "            global const float *pv = vals + ((size_t)batch * sk * heads + head) * $D;\n"
    "            panels(pk, stride, sk, kt);\n"
    "            lines(pv, stride, sk, vp, $DP);\n"
    "        }\n"
    "        const int i0 = u % splits * split_rows, i1 = min(i0 + split_rows, sq);\n"
    "        for (int i = i0; i < i1; i += $ROWS) {\n"
    "            float s[$ROWS * $BLOCK], o[$ROWS * $DP], top[$ROWS], sum[$ROWS];\n"
    "            const int rows = min($ROWS, i1 - i);\n"
    "            for (int r = 0; r < $ROWS; r++) { top[r] = -INFINITY; sum[r] = 0.0f; }\n"
    "            for (int e = 0; e < $ROWS * $DP; e++)\n"
    "                o[e] = 0.0f;\n"
    "            const int last = $LAST;\n"
    "            for (int j0 = 0; j0 < last; j0 += $BLOCK) {\n"
    "                const int n = min($BLOCK, last - j0), np = (n + $COLUMNS - 1) / $COLUMNS * $COLUMNS;\n"
    "$POINT"
    "                for (int j = 0; j < np; j += $COLUMNS) {\n"
    "                    global const float *b = kt + (size_t)(j0 + j) * $D;\n"
    "$ZERO"
    "                    for (int k = 0; k < $D; k++) {\n"
    "$STEP"
    "                        b += $COLUMNS;\n"
    "                    }\n"
    "                    float *acc = s + j;\n"
    "                    const int acc_stride = $BLOCK;\n"
    "$STORE"
    "                }\n"
    "                #pragma nounroll\n"
    "                for (int r = 0; r < rows; r++) {\n"
    "                    float *p = s + r * $BLOCK;\n"
    "$ADDMASK"
    "                    const int seen = $SEEN;\n"
    "                    $V m8 = ($V)(-INFINITY);\n"
    "                    for (int j = 0; j < np; j += $WIDTH) {\n"
    "                        const $V x = lanes_from(j) < seen ? vload$WIDTH(0, p + j)$SCALED : ($V)(-INFINITY);\n"
    "                        m8 = max(m8, x);\n"
    "                        vstore$WIDTH(x, 0, p + j);\n"
    "                    }\n"
    "                    const float m = max(top[r], max_lanes(m8));\n"
    "                    $V sum8 = ($V)(0.0f);\n"
    "                    for (int j = 0; j < np; j += $WIDTH) {\n"
    "                        const $V x = vload$WIDTH(0, p + j) - m;\n"
    "$EXP"
    "                        sum8 += y;\n"
    "                        vstore$WIDTH(y, 0, p + j);\n"
    "                    }\n"
    "                    const float part = sum_lanes(sum8);\n"
    "                    if (j0 == 0) {\n"
    "                        sum[r] = part;\n"
    "                    } else {\n"
    "                        const float keep = top[r] == m ? 1.0f : exp(top[r] - m);\n"
    "                        sum[r] = sum[r] * keep + part;\n"
    "                        for (int e = 0; e < $DP; e += $WIDTH)\n"
    "                            vstore$WIDTH(vload$WIDTH(0, o + r * $DP + e) * keep, 0, o + r * $DP + e);\n"
    "                    }\n"
    "                    top[r] = m;\n"
    "                }\n"
    "                for (int r = rows; r < $ROWS; r++)\n"
    "                    for (int j = 0; j < np; j++)\n"
    "                        s[r * $BLOCK + j] = 0.0f;\n"
    "$OUTPUT"
    "            }\n"
    "            for (int r = 0; r < rows; r++) {\n"
    "                const size_t at = (((size_t)batch * sq + i + r) * heads + head) * $D;\n"
    "                const float over = 1.0f / sum[r];\n"
    "                int e = 0;\n"
    "                for (; e + $WIDTH <= $D; e += $WIDTH)\n"
    "                    vstore$WIDTH(PIPE_EPILOGUE$WIDTH(vload$WIDTH(0, o + r * $DP + e) * over, at + e), 0, out + at + e);\n"
    "                for (; e < $D; e++)\n"
    "                    out[at + e] = PIPE_EPILOGUE1(o[r * $DP + e] * over, at + e);\n"
    "            }\n"
    "        }\n"
    "    }\n"
    "}\n";
/* y = exp(x) for x <= 0, to 2 units in the last place: x = n ln 2 + f, a Taylor series for
 * exp(f), |f| <= ln 2 / 2, and n added to the exponent.  Adding 1.5 * 2^23 rounds
 * x / ln 2 and leaves n in the low bits. */
const char pipei_attention_exp[] =
    "                        const $V t = fma(max(x, ($V)(-87.0f)), ($V)(1.44269504f), ($V)(12582912.0f));\n"
    "                        const $V n_ = t - 12582912.0f;\n"
    "                        const $V f = fma(n_, ($V)(-1.42860677e-6f), fma(n_, ($V)(-0.693145752f), max(x, ($V)(-87.0f))));\n"
    "                        $V y = fma(f, ($V)(1.0f / 720.0f), ($V)(1.0f / 120.0f));\n"
    "                        y = fma(f, y, ($V)(1.0f / 24.0f));\n"
    "                        y = fma(f, y, ($V)(1.0f / 6.0f));\n"
    "                        y = fma(f, y, ($V)(0.5f));\n"
    "                        y = fma(f, y, ($V)(1.0f));\n"
    "                        y = fma(f, y, ($V)(1.0f));\n"
    "                        y = as_$V(as_int$WIDTH(y) + (as_int$WIDTH(t) << 23));\n"
    "                        y = x < ($V)(-87.0f) ? ($V)(0.0f) : y;\n";
static const char output_text[] =
    "                {\n"
    "                    float *acc = o + $FROM;\n"
    "                    const int acc_stride = $DP;\n"
    "                    global const float *b = vp + (size_t)j0 * $DP + $FROM;\n"
    "$LOAD"
    "                    for (int k = 0; k < n; k++) {\n"
    "$STEP"
    "                        b += $DP;\n"
    "                    }\n"
    "$STORE"
    "                }\n";

static void lower_cpu(pipe_lowering *l, const pipei_attention *g)
{
    const pipe_device_profile *p = pipe_lower_profile(l);
    const pipei_tile tile = pipei_tile_choose(p, INT64_MAX);
    const int64_t dp = pipei_ceil_div(g->d, tile.width) * tile.width;

    pipe_text point = {0}, exp_ = {0}, output = {0}, mask = {0}, s = {0};
    for (uint32_t r = 0; r < tile.rows; r++)
        pipe_text_addf(&point,
                       "                global const float *q%u = q + (((size_t)batch * sq + min(i + %u, sq - 1)) * heads "
                       "+ head) * %d;\n", r, r, (int)g->d);
    if (g->masked)
        pipe_text_addf(&mask,
                       "                    {\n"
                       "                        global const float *pm = mask + (size_t)batch * %lld + (size_t)head * %lld +\n"
                       "                                                 (size_t)(i + r) * %lld + (size_t)j0 * %lld;\n"
                       "                        for (int j = 0; j < n; j++)\n"
                       "                            p[j] = fma(p[j], scale, pm[(size_t)j * %lld]);\n"
                       "                    }\n", (long long)g->mask[0], (long long)g->mask[1], (long long)g->mask[2],
                       (long long)g->mask[3], (long long)g->mask[3]);
    for (int64_t from = 0; from < dp;) {
        pipei_tile t = tile;
        t.vectors = dp - from >= 2 * (int64_t)tile.width ? 2 : 1;
        t.columns = t.vectors * t.width;
        char row[32];
        snprintf(row, sizeof(row), "s[%%u * %d + k]", BLOCK);
        pipei_tile_words w;
        pipei_tile_words_make(&w, t, row);
        pipei_tile_words_number(&w, "FROM", from);
        pipei_tile_words_number(&w, "DP", dp);
        pipei_emit(&output, output_text, w.word);
        pipei_tile_words_free(&w);
        from += t.columns;
    }
    pipei_tile_words w;
    pipei_tile_words_make(&w, tile, "q%u[k]");
    pipei_emit(&exp_, pipei_attention_exp, w.word);
    pipei_tile_words_text(&w, "EXP", exp_.data);
    pipei_tile_words_text(&w, "POINT", point.data);
    pipei_tile_words_text(&w, "OUTPUT", output.data);
    pipei_tile_words_text(&w, "ADDMASK", g->masked ? mask.data : "");
    pipei_tile_words_text(&w, "SCALED", g->masked ? "" : " * scale");
    pipei_tile_words_text(&w, "MASKARG", g->masked ? "PIPE_BUF(float, mask)," : "");
    pipei_tile_words_text(&w, "MASKBIND", g->masked ? "PIPE_BIND(float, mask);" : "");
    pipei_tile_words_text(&w, "LAST", g->causal ? "min(sk, i + rows)" : "sk");
    pipei_tile_words_text(&w, "SEEN", g->causal ? "min(n, i + r + 1 - j0)" : "n");
    pipei_tile_words_number(&w, "D", g->d);
    pipei_tile_words_number(&w, "DP", dp);
    pipei_tile_words_number(&w, "BLOCK", BLOCK);
    pipei_attention_helpers(&s, &w, tile.width);
    pipei_emit(&s, cpu_text, w.word);
    pipei_tile_words_free(&w);
    pipe_text_free(&point);
    pipe_text_free(&exp_);
    pipe_text_free(&output);
    pipe_text_free(&mask);

    /* A unit is a (batch, head) pair, or a part of its queries where there are few pairs. */
    const int64_t cores = (int64_t)pipei_max(1, p->compute_units), pairs = g->b * g->heads;
    const int64_t wanted = pipei_min(pipei_ceil_div(4 * cores, pairs), pipei_ceil_div(g->sq, 4 * tile.rows));
    const int64_t split_rows = pipei_ceil_div(pipei_ceil_div(g->sq, wanted), tile.rows) * tile.rows;
    const int64_t splits = pipei_ceil_div(g->sq, split_rows), units = pairs * splits;
    const int64_t share = pipei_ceil_div(units, pipei_min(units, 16 * cores)), items = pipei_ceil_div(units, share);
    const int64_t skp = pipei_ceil_div(g->sk, BLOCK) * BLOCK;
    const uint32_t room = pipe_lower_scratch(l, (size_t)(items * skp * (g->d + dp)));
    pipe_launch launch = {.kernel = "attention", .dims = 1, .local = {1}, .global = {(size_t)items}};
    for (uint32_t k = 0; k < (g->masked ? 4u : 3u); k++)
        pipei_launch_buffer(&launch, PIPE_ARG_INPUT, k);
    pipei_launch_buffer(&launch, PIPE_ARG_OUTPUT, 0);
    pipei_launch_buffer(&launch, PIPE_ARG_SCRATCH, room);
    const int64_t ints[] = {g->sq, g->sk, g->heads, units, share, splits, split_rows};
    for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]); i++)
        pipei_launch_int(&launch, ints[i]);
    pipei_launch_buffer(&launch, PIPE_ARG_FLOAT, 0);
    pipei_launch_add(l, &launch, &s);
}

/* ---- with many work-items: one per query and head ---- */
static const char gpu_text[] =
    "kernel void attention(PIPE_BUF(float, q), PIPE_BUF(float, keys), PIPE_BUF(float, vals), $MASKARG PIPE_BUF(float, out),\n"
    "                      const float scale)\n"
    "{\n"
    "    PIPE_BIND(float, q); PIPE_BIND(float, keys); PIPE_BIND(float, vals); PIPE_BIND(float, out); $MASKBIND\n"
    "    const int row = (int)get_global_id(0), head = row % $HEADS, i = row / $HEADS % $SQ, batch = row / $HEADS / $SQ;\n"
    "    float o[$D], x[$D], top = -INFINITY, sum = 0.0f;\n"
    "    for (int e = 0; e < $D; e++) { o[e] = 0.0f; x[e] = q[(size_t)row * $D + e] * scale; }\n"
    "    const int last = $LAST;\n"
    "    for (int j = 0; j < last; j++) {\n"
    "        const size_t at = (((size_t)batch * $SK + j) * $HEADS + head) * $D;\n"
    "        float s = 0.0f;\n"
    "        for (int e = 0; e < $D; e++)\n"
    "            s = fma(x[e], keys[at + e], s);\n"
    "        $ADDMASK\n"
    "        const float m = max(top, s), keep = top == m ? 1.0f : exp(top - m), p = s == m ? 1.0f : exp(s - m);\n"
    "        top = m;\n"
    "        sum = fma(sum, keep, p);\n"
    "        for (int e = 0; e < $D; e++)\n"
    "            o[e] = fma(o[e], keep, p * vals[at + e]);\n"
    "    }\n"
    "    for (int e = 0; e < $D; e++) {\n"
    "        const size_t at = (size_t)row * $D + e;\n"
    "        out[at] = PIPE_EPILOGUE1(o[e] / sum, at);\n"
    "    }\n"
    "}\n";

static void lower_gpu(pipe_lowering *l, const pipei_attention *g)
{
    pipe_text s = {0}, mask = {0};
    pipe_text_addf(&mask, "s += mask[(size_t)batch * %lld + (size_t)head * %lld + (size_t)i * %lld + (size_t)j * %lld];",
                   (long long)g->mask[0], (long long)g->mask[1], (long long)g->mask[2], (long long)g->mask[3]);
    const pipei_word words[] = {
        {.name = "D", .number = g->d}, {.name = "HEADS", .number = g->heads}, {.name = "SQ", .number = g->sq},
        {.name = "SK", .number = g->sk}, {.name = "ADDMASK", .text = g->masked ? mask.data : ""},
        {.name = "MASKARG", .text = g->masked ? "PIPE_BUF(float, mask)," : ""},
        {.name = "MASKBIND", .text = g->masked ? "PIPE_BIND(float, mask);" : ""},
        {.name = "LAST", .text = g->causal ? "min($SK, i + 1)" : "$SK"}, {0}};
    pipe_text first = {0};
    pipei_emit(&first, gpu_text, words);
    pipei_emit(&s, first.data, words);         /* LAST holds a word of its own */
    pipe_text_free(&first);
    pipe_text_free(&mask);
    pipe_launch launch = {.kernel = "attention", .dims = 1, .global = {(size_t)(g->b * g->heads * g->sq)}};
    for (uint32_t k = 0; k < (g->masked ? 4u : 3u); k++)
        pipei_launch_buffer(&launch, PIPE_ARG_INPUT, k);
    pipei_launch_buffer(&launch, PIPE_ARG_OUTPUT, 0);
    pipei_launch_buffer(&launch, PIPE_ARG_FLOAT, 0);
    pipei_launch_add(l, &launch, &s);
}

static pipe_status lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const pipei_attention g = pipei_attention_geometry(c->attr, pipe_tensor_shape(c->in[0]), pipe_tensor_shape(c->in[1]),
                                   c->n_in == 4 ? pipe_tensor_shape(c->in[3]) : NULL);
    if (g.b * g.heads * g.sq == 0)
        return PIPE_OK;
    if (pipe_lower_profile(l)->cpu)
        lower_cpu(l, &g);
    else
        lower_gpu(l, &g);
    return PIPE_OK;
}

/* ---- the definition ---- */
static const int heads_first[] = {0, 2, 1, 3};

pipe_tensor *pipei_attention_weights(const pipe_op_call *c, pipe_tensor *mask)
{
    pipe_tensor *q = pipe_permute(c->in[0], heads_first, 4), *k = pipe_permute(c->in[1], heads_first, 4);
    pipe_tensor *s = pipe_scale(pipe_matmul(q, k, false, true), (double)c->attr->f[0]);
    if (mask)
        s = pipe_add(s, mask);
    if (c->attr->i[PIPEI_ATTENTION_CAUSAL]) {
        const int64_t sq = pipe_dim(s, 2), sk = pipe_dim(s, 3);
        pipe_tensor *i = pipe_reshape(pipe_arange_i32(c->engine, sq, 0), PIPE_SHAPE(sq, 1));
        s = pipe_where(pipe_less_equal(pipe_arange_i32(c->engine, sk, 0), i), s, pipe_constant(c->engine, -1e30));
    }
    return pipe_softmax(s, -1);
}

static pipe_tensor *composed(const pipe_op_call *c)
{
    pipe_tensor *p = pipei_attention_weights(c, c->n_in == 4 ? c->in[3] : NULL);
    pipe_tensor *v = pipe_permute(c->in[2], heads_first, 4);
    return pipe_permute(pipe_matmul(p, v, false, false), heads_first, 4);
}

static const pipe_op attention_row = {
    PIPE_OP_INIT, .name = "attention", .arity = -1, .shape = shape, .reference = reference, .lower = lower,
    .composed = composed, .vjp = pipei_attention_vjp, .epilogue = true,
};

const pipe_op *const pipei_ops_attention[] = {&attention_row, &pipei_op_attention_grad, NULL};

pipe_tensor *pipe_attention(pipe_tensor *q, pipe_tensor *k, pipe_tensor *v, pipe_tensor *mask, double scale, bool causal)
{
    const int64_t d = pipe_dim(q, 3);
    const pipe_attr attr = {.i = {causal}, .f = {(float)(scale != 0 ? scale : d > 0 ? 1 / sqrt((double)d) : 1)}};
    return pipe_op_apply(pipe_tensor_engine(q), &attention_row, (pipe_tensor *[]){q, k, v, mask}, mask ? 4 : 3, &attr);
}
