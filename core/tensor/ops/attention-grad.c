/* The gradient of attention with respect to q, k and v, in one op.
 *
 * With P the probabilities, O = P V and G the gradient of O (FlashAttention,
 * arXiv:2205.14135, appendix B.2):
 *
 *     dV = P' G      dP = G V'      dS = P (dP - rowsum(P dP))      dQ = scale dS K      dK = scale dS' Q
 *
 * The output is one vector, dQ then dK then dV; their slices are views.  P is
 * computed again, not stored: [b, heads, sq, sk] would be the largest tensor of a
 * model.
 *
 * CPU: a work-item takes a (batch, head) pair; q, k, v and g of one head are packed
 * into rows of whole vectors (k and v also transposed into panels), a few hundred
 * KB at most, which stay in the cache.  ROWS queries at a time have their
 * probabilities and their dS for all keys in memory: two products over d, then one
 * over the keys (dQ) and two over the queries (dK, dV). */
#include "core/tensor/ops/attention.h"

#include <math.h>
#include <stdio.h>

static pipei_attention geometry_of(const pipe_attr *attr, const pipe_shape *in, size_t n_in)
{
    return pipei_attention_geometry(attr, &in[0], &in[1], n_in == 5 ? &in[4] : NULL);
}

static pipe_status shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    if (c->n_in != 4 && c->n_in != 5)
        return pipe_fail(err, PIPE_EINVAL, "attention_grad takes q, k, v, gy and perhaps a mask, not %zu inputs", c->n_in);
    const pipe_shape *q = pipe_tensor_shape(c->in[0]), *k = pipe_tensor_shape(c->in[1]);
    const pipe_shape *v = pipe_tensor_shape(c->in[2]), *g = pipe_tensor_shape(c->in[3]);
    char text[3][PIPE_SHAPE_TEXT];
    for (size_t i = 0; i < c->n_in; i++)
        if (pipe_tensor_dtype(c->in[i]) != PIPE_F32)
            return pipe_fail(err, PIPE_ESHAPE, "attention_grad: input %zu must be f32, not i32", i);
    if (q->rank != 4 || k->rank != 4 || !pipe_shape_equal(k, v) || !pipe_shape_equal(q, g) || q->dim[0] != k->dim[0] ||
        q->dim[2] != k->dim[2] || q->dim[3] != k->dim[3] || q->dim[3] < 1 || k->dim[1] < 1)
        return pipe_fail(err, PIPE_ESHAPE, "attention_grad: q %s, k and v %s, gy %s do not fit",
                         pipe_shape_text(q, text[0], sizeof(text[0])), pipe_shape_text(k, text[1], sizeof(text[1])),
                         pipe_shape_text(g, text[2], sizeof(text[2])));
    *out = (pipe_op_result){.shape = PIPE_SHAPE(pipe_shape_count(q) + 2 * pipe_shape_count(k)), .dtype = PIPE_F32};
    return PIPE_OK;
}

static void reference(const pipe_reference *r)
{
    const pipei_attention g = geometry_of(r->attr, r->in_shape, r->n_in);
    const int64_t nq = pipe_shape_count(&r->in_shape[0]), nk = pipe_shape_count(&r->in_shape[1]);
    const double *q = r->in[0], *k = r->in[1], *v = r->in[2], *gy = r->in[3], scale = (double)r->attr->f[0];
    double *dq = r->out, *dk = dq + nq, *dv = dk + nk;
    double *p = pipe_alloc_array((size_t)g.sk + 1, sizeof(*p)), *dp = pipe_alloc_array((size_t)g.sk + 1, sizeof(*dp));
    for (size_t i = 0; i < r->n; i++)
        r->out[i] = 0;
    for (int64_t row = 0; row < g.b * g.sq * g.heads; row++) {
        const int64_t h = row % g.heads, i = row / g.heads % g.sq, b = row / g.heads / g.sq;
        const int64_t keys = g.causal ? pipei_min(g.sk, i + 1) : g.sk;
        double top = -INFINITY, sum = 0, along = 0;
        for (int64_t j = 0; j < keys; j++) {
            const int64_t at = ((b * g.sk + j) * g.heads + h) * g.d;
            p[j] = dp[j] = 0;
            for (int64_t e = 0; e < g.d; e++) {
                p[j] += q[row * g.d + e] * k[at + e];
                dp[j] += gy[row * g.d + e] * v[at + e];
            }
            p[j] *= scale;
            if (g.masked)
                p[j] += r->in[4][b * g.mask[0] + h * g.mask[1] + i * g.mask[2] + j * g.mask[3]];
            top = fmax(top, p[j]);
        }
        for (int64_t j = 0; j < keys; j++)
            sum += p[j] = exp(p[j] - top);
        for (int64_t j = 0; j < keys; j++)
            along += (p[j] /= sum) * dp[j];
        for (int64_t j = 0; j < keys; j++)
            for (int64_t e = 0; e < g.d; e++) {
                const int64_t at = ((b * g.sk + j) * g.heads + h) * g.d + e;
                const double ds = scale * p[j] * (dp[j] - along);
                dq[row * g.d + e] += ds * k[at];
                dk[at] += ds * q[row * g.d + e];
                dv[at] += p[j] * gy[row * g.d + e];
            }
    }
    pipe_free(p);
    pipe_free(dp);
}

/* ---- CPU ---- */
static const char cpu_text[] =
    "kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"
    "void attention_grad(PIPE_BUF(float, q), PIPE_BUF(float, keys), PIPE_BUF(float, vals), PIPE_BUF(float, g),\n"
    "                    $MASKARG PIPE_BUF(float, out), PIPE_BUF(float, room), const int batches, const int sq,\n"
    "                    const int sk, const int heads, const int share, const float scale)\n"
    "{\n"
    "    PIPE_BIND(float, q); PIPE_BIND(float, keys); PIPE_BIND(float, vals); PIPE_BIND(float, g);\n"
    "    PIPE_BIND(float, out); PIPE_BIND(float, room); $MASKBIND\n"
    "    const int skp = max((sk + $COLUMNS - 1) / $COLUMNS * $COLUMNS, (sk + $ROWS - 1) / $ROWS * $ROWS);\n"
    "    const int sqp = (sq + $BLOCK - 1) / $BLOCK * $BLOCK;\n"
    "    const int stride = heads * $D;\n"
    "    const size_t nq = (size_t)batches * sq * stride, nk = (size_t)batches * sk * stride;\n"
    "    global float *kt = room + (size_t)get_group_id(0) * ((size_t)skp * (2 * $D + 3 * $DP + 2 * $BLOCK) +\n"
    "                                                         (size_t)sqp * 2 * $DP);\n"
    "    global float *vt = kt + (size_t)skp * $D, *kp = vt + (size_t)skp * $D, *dk = kp + (size_t)skp * $DP;\n"
    "    global float *dv = dk + (size_t)skp * $DP, *p = dv + (size_t)skp * $DP, *ds = p + (size_t)skp * $BLOCK;\n"
    "    global float *qp = ds + (size_t)skp * $BLOCK, *gp = qp + (size_t)sqp * $DP;\n"
    "    const int u0 = (int)get_group_id(0) * share, u1 = min(u0 + share, batches * heads);\n"
    "    for (int u = u0; u < u1; u++) {\n"
    "        const int batch = u / heads, head = u % heads;\n"
    "        const size_t at_q = (size_t)batch * sq * stride + head * $D, at_k = (size_t)batch * sk * stride + head * $D;\n"
    "        panels(keys + at_k, stride, sk, kt);\n"
    "        panels(vals + at_k, stride, sk, vt);\n"
    "        zeros(kp, skp * 3 * $DP);\n"                        /* and dk, dv */
    "        lines(keys + at_k, stride, sk, kp, $DP);\n"
    "        zeros(qp, sqp * 2 * $DP);\n"                        /* and gp */
    "        lines(q + at_q, stride, sq, qp, $DP);\n"
    "        lines(g + at_q, stride, sq, gp, $DP);\n"
    "        for (int i0 = 0; i0 < sq; i0 += $BLOCK) {\n"
    "            const int i1 = min(i0 + $BLOCK, sq), last = $LAST;\n"
    "            const int np = (last + $COLUMNS - 1) / $COLUMNS * $COLUMNS, nt = (last + $ROWS - 1) / $ROWS * $ROWS;\n"
    "            for (int i = i0; i < i1; i += $ROWS) {\n"
    "$SCORES"
    "                #pragma nounroll\n"
    "                for (int r = 0; r < $ROWS; r++) {\n"
    "                    global float *pr = p + (size_t)(i - i0 + r) * skp, *dr = ds + (size_t)(i - i0 + r) * skp;\n"
    "                    const int seen = i + r < sq ? $SEEN : 0;\n"
    "                    for (int j = np; j < nt; j++)\n"          /* the last tile of keys reaches there */
    "                        pr[j] = dr[j] = 0.0f;\n"
    "                    if (seen == 0) {\n"                     /* below the last query: nothing */
    "                        zeros(pr, np);\n"
    "                        zeros(dr, np);\n"
    "                        continue;\n"
    "                    }\n"
    "$ADDMASK"
    "                    $V m8 = ($V)(-INFINITY);\n"
    "                    for (int j = 0; j < np; j += $WIDTH) {\n"
    "                        const $V x = lanes_from(j) < seen ? vload$WIDTH(0, pr + j)$SCALED : ($V)(-INFINITY);\n"
    "                        m8 = max(m8, x);\n"
    "                        vstore$WIDTH(x, 0, pr + j);\n"
    "                    }\n"
    "                    const float m = max_lanes(m8);\n"
    "                    $V sum8 = ($V)(0.0f), along8 = ($V)(0.0f);\n"
    "                    for (int j = 0; j < np; j += $WIDTH) {\n"
    "                        const $V x = vload$WIDTH(0, pr + j) - m;\n"
    "$EXP"
    "                        sum8 += y;\n"
    "                        along8 = fma(y, vload$WIDTH(0, dr + j), along8);\n"
    "                        vstore$WIDTH(y, 0, pr + j);\n"
    "                    }\n"
    "                    const float over = 1.0f / sum_lanes(sum8), along = sum_lanes(along8) * over;\n"
    "                    for (int j = 0; j < np; j += $WIDTH) {\n"
    "                        const $V y = vload$WIDTH(0, pr + j) * over;\n"
    "                        vstore$WIDTH(y, 0, pr + j);\n"
    "                        vstore$WIDTH(y * (vload$WIDTH(0, dr + j) - along) * scale, 0, dr + j);\n"
    "                    }\n"
    "                }\n"
    "$QUERIES"
    "            }\n"
    "            const int filled = (i1 - i0 + $ROWS - 1) / $ROWS * $ROWS;\n"
    "            for (int j = 0; j < nt; j += $ROWS) {\n"
    "$KEYS"
    "            }\n"
    "        }\n"
    "        lines(dk, $DP, sk, out + nq + at_k, stride);\n"
    "        lines(dv, $DP, sk, out + nq + nk + at_k, stride);\n"
    "    }\n"
    "}\n";
/* $TO (rows i ... of $TO) = rows of $FROM times panels. */
static const char scores_text[] =
    "                for (int j = 0; j < np; j += $COLUMNS) {\n"
    "                    global const float *b = $PANELS + (size_t)j * $D, *a = $FROM + (size_t)i * $DP;\n"
    "                    global float *acc = $TO + (size_t)(i - i0) * skp + j;\n"
    "                    const int acc_stride = skp;\n"
    "$ZERO"
    "                    for (int k = 0; k < $D; k++) {\n"
    "$STEP"
    "                        b += $COLUMNS;\n"
    "                    }\n"
    "$STORE"
    "                }\n";
static const char queries_text[] =
    "                {\n"
    "                    global const float *b = kp + $FIRST, *a = ds + (size_t)(i - i0) * skp;\n"
    "                    float tile[$SIZE];\n"
    "$POINT"
    "$ZERO"
    "                    for (int k = 0; k < np; k++) {\n"
    "$STEP"
    "                        b += $DP;\n"
    "                    }\n"
    "$SPILL"
    "                    const int cols = min($COLUMNS, $D - $FIRST);\n"
    "                    for (int r = 0; r < min($ROWS, sq - i); r++)\n"
    "                        for (int e = 0; e < cols; e++)\n"
    "                            out[at_q + (size_t)(i + r) * stride + $FIRST + e] = tile[r * $COLUMNS + e];\n"
    "                }\n";
static const char keys_text[] =
    "                {\n"
    "                    global const float *b = $FROM + (size_t)i0 * $DP + $FIRST, *a = $WEIGHTS + j;\n"
    "                    global float *acc = $TO + (size_t)j * $DP + $FIRST;\n"
    "                    const int acc_stride = $DP;\n"
    "$LOAD"
    "                    for (int k = 0; k < filled; k++) {\n"
    "$STEP"
    "                        a += skp;\n"
    "                        b += $DP;\n"
    "                    }\n"
    "$STORE"
    "                }\n";

typedef struct pair { const char *name, *text; } pair;

static void emit_product(pipe_text *s, const char *text, pipei_tile t, const char *row, const pipei_attention *g,
                         int64_t dp, int64_t first, const pair *names)
{
    pipei_tile_words w;
    pipei_tile_words_make(&w, t, row);
    pipei_tile_words_number(&w, "D", g->d);
    pipei_tile_words_number(&w, "DP", dp);
    pipei_tile_words_number(&w, "FIRST", first);
    for (; names && names->name; names++)
        pipei_tile_words_text(&w, names->name, names->text);
    pipei_emit(s, text, w.word);
    pipei_tile_words_free(&w);
}

static void lower_cpu(pipe_lowering *l, const pipei_attention *g)
{
    const pipe_device_profile *p = pipe_lower_profile(l);
    const pipei_tile tile = pipei_tile_choose(p, INT64_MAX);
    const int64_t dp = pipei_ceil_div(g->d, tile.width) * tile.width;
    /* Queries per block: a multiple of the tile's rows, so that dK and dV amortise
     * loading their accumulators.  Keys have room for whole panels and for whole tiles. */
    const int64_t block = 4 * tile.rows;

    pipe_text scores = {0}, queries = {0}, keys = {0}, mask = {0}, exp_ = {0}, point = {0}, s = {0};
    char row[32];
    snprintf(row, sizeof(row), "a[%%u * %d + k]", (int)dp);
    emit_product(&scores, scores_text, tile, row, g, dp, 0,
                 (pair[]){{"PANELS", "kt"}, {"FROM", "qp"}, {"TO", "p"}, {0}});
    emit_product(&scores, scores_text, tile, row, g, dp, 0,
                 (pair[]){{"PANELS", "vt"}, {"FROM", "gp"}, {"TO", "ds"}, {0}});
    for (uint32_t r = 0; r < tile.rows; r++)
        pipe_text_addf(&point, "                    global const float *a%u = a + (size_t)%u * skp;\n", r, r);
    for (int64_t from = 0; from < dp;) {
        pipei_tile t = tile;
        t.vectors = dp - from >= 2 * (int64_t)tile.width ? 2 : 1;
        t.columns = t.vectors * t.width;
        emit_product(&queries, queries_text, t, "a%u[k]", g, dp, from, (pair[]){{"POINT", point.data}, {0}});
        emit_product(&keys, keys_text, t, "a[%u]", g, dp, from,
                     (pair[]){{"FROM", "qp"}, {"WEIGHTS", "ds"}, {"TO", "dk"}, {0}});
        emit_product(&keys, keys_text, t, "a[%u]", g, dp, from,
                     (pair[]){{"FROM", "gp"}, {"WEIGHTS", "p"}, {"TO", "dv"}, {0}});
        from += t.columns;
    }
    if (g->masked)
        pipe_text_addf(&mask,
                       "                    {\n"
                       "                        global const float *pm = mask + (size_t)batch * %lld + (size_t)head * %lld +\n"
                       "                                                 (size_t)(i + r) * %lld;\n"
                       "                        for (int j = 0; j < seen; j++)\n"
                       "                            pr[j] = fma(pr[j], scale, pm[(size_t)j * %lld]);\n"
                       "                    }\n", (long long)g->mask[0], (long long)g->mask[1], (long long)g->mask[2],
                       (long long)g->mask[3]);
    pipei_tile_words w;
    pipei_tile_words_make(&w, tile, "a%u");
    pipei_emit(&exp_, pipei_attention_exp, w.word);
    pipei_tile_words_text(&w, "EXP", exp_.data);
    pipei_tile_words_text(&w, "SCORES", scores.data);
    pipei_tile_words_text(&w, "QUERIES", queries.data);
    pipei_tile_words_text(&w, "KEYS", keys.data);
    pipei_tile_words_text(&w, "ADDMASK", g->masked ? mask.data : "");
    pipei_tile_words_text(&w, "SCALED", g->masked ? "" : " * scale");
    pipei_tile_words_text(&w, "MASKARG", g->masked ? "PIPE_BUF(float, mask)," : "");
    pipei_tile_words_text(&w, "MASKBIND", g->masked ? "PIPE_BIND(float, mask);" : "");
    pipei_tile_words_text(&w, "LAST", g->causal ? "min(sk, i1)" : "sk");
    pipei_tile_words_text(&w, "SEEN", g->causal ? "min(sk, i + r + 1)" : "sk");
    pipei_tile_words_number(&w, "D", g->d);
    pipei_tile_words_number(&w, "DP", dp);
    pipei_tile_words_number(&w, "BLOCK", block);
    pipei_attention_helpers(&s, &w, tile.width);
    pipei_emit(&s, cpu_text, w.word);
    pipei_tile_words_free(&w);
    pipe_text *const texts[] = {&scores, &queries, &keys, &mask, &exp_, &point};
    for (size_t k = 0; k < sizeof(texts) / sizeof(texts[0]); k++)
        pipe_text_free(texts[k]);

    const int64_t pairs = g->b * g->heads, cores = (int64_t)pipei_max(1, p->compute_units);
    const int64_t share = pipei_ceil_div(pairs, pipei_min(pairs, 16 * cores)), items = pipei_ceil_div(pairs, share);
    const int64_t skp = pipei_max(pipei_ceil_div(g->sk, tile.columns) * tile.columns,
                                  pipei_ceil_div(g->sk, tile.rows) * tile.rows);
    const int64_t sqp = pipei_ceil_div(g->sq, block) * block;
    const uint32_t room =
        pipe_lower_scratch(l, (size_t)(items * (skp * (2 * g->d + 3 * dp + 2 * block) + sqp * 2 * dp)));
    pipe_launch launch = {.kernel = "attention_grad", .dims = 1, .local = {1}, .global = {(size_t)items}};
    for (uint32_t k = 0; k < (g->masked ? 5u : 4u); k++)
        pipei_launch_buffer(&launch, PIPE_ARG_INPUT, k);
    pipei_launch_buffer(&launch, PIPE_ARG_OUTPUT, 0);
    pipei_launch_buffer(&launch, PIPE_ARG_SCRATCH, room);
    const int64_t ints[] = {g->b, g->sq, g->sk, g->heads, share};
    for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]); i++)
        pipei_launch_int(&launch, ints[i]);
    pipei_launch_buffer(&launch, PIPE_ARG_FLOAT, 0);
    pipei_launch_add(l, &launch, &s);
}

/* ---- with many work-items: one per query for dQ, then one per key for dK and dV ---- */
static const char gpu_text[] =
    /* Also leaves maximum, 1 / sum and rowsum(P dP) of each query for the second launch. */
    "kernel void grad_queries(PIPE_BUF(float, q), PIPE_BUF(float, keys), PIPE_BUF(float, vals), PIPE_BUF(float, g),\n"
    "                         $MASKARG PIPE_BUF(float, out), PIPE_BUF(float, stats), const float scale)\n"
    "{\n"
    "    PIPE_BIND(float, q); PIPE_BIND(float, keys); PIPE_BIND(float, vals); PIPE_BIND(float, g);\n"
    "    PIPE_BIND(float, out); PIPE_BIND(float, stats); $MASKBIND\n"
    "    const int row = (int)get_global_id(0), head = row % $HEADS, i = row / $HEADS % $SQ, batch = row / $HEADS / $SQ;\n"
    "    const int last = $LAST;\n"
    "    float d[$D], top = -INFINITY, sum = 0.0f, along = 0.0f;\n"
    "    for (int pass = 0; pass < 3; pass++) {\n"
    "        if (pass == 2) {\n"
    "            sum = 1.0f / sum;\n"
    "            along *= sum;\n"
    "            for (int e = 0; e < $D; e++)\n"
    "                d[e] = 0.0f;\n"
    "        }\n"
    "        for (int j = 0; j < last; j++) {\n"
    "            const size_t at = (((size_t)batch * $SK + j) * $HEADS + head) * $D;\n"
    "            float s = 0.0f, t = 0.0f;\n"
    "            for (int e = 0; e < $D; e++) {\n"
    "                s = fma(q[(size_t)row * $D + e], keys[at + e], s);\n"
    "                t = fma(g[(size_t)row * $D + e], vals[at + e], t);\n"
    "            }\n"
    "            s *= scale;\n"
    "            $ADDMASK\n"
    "            if (pass == 0) {\n"
    "                top = max(top, s);\n"
    "            } else if (pass == 1) {\n"
    "                sum += exp(s - top);\n"
    "                along += exp(s - top) * t;\n"
    "            } else {\n"
    "                const float ds = scale * exp(s - top) * sum * (t - along);\n"
    "                for (int e = 0; e < $D; e++)\n"
    "                    d[e] = fma(ds, keys[at + e], d[e]);\n"
    "            }\n"
    "        }\n"
    "    }\n"
    "    for (int e = 0; e < $D; e++)\n"
    "        out[(size_t)row * $D + e] = d[e];\n"
    "    vstore3((float3)(top, sum, along), row, stats);\n"
    "}\n"
    "kernel void grad_keys(PIPE_BUF(float, q), PIPE_BUF(float, keys), PIPE_BUF(float, vals), PIPE_BUF(float, g),\n"
    "                      $MASKARG PIPE_BUF(float, out), PIPE_BUF(float, stats), const float scale)\n"
    "{\n"
    "    PIPE_BIND(float, q); PIPE_BIND(float, keys); PIPE_BIND(float, vals); PIPE_BIND(float, g);\n"
    "    PIPE_BIND(float, out); PIPE_BIND(float, stats); $MASKBIND\n"
    "    const int key = (int)get_global_id(0), head = key % $HEADS, j = key / $HEADS % $SK, batch = key / $HEADS / $SK;\n"
    "    const size_t at = (size_t)key * $D, nq = (size_t)$B * $SQ * $HEADS * $D, nk = (size_t)$B * $SK * $HEADS * $D;\n"
    "    float dk[$D], dv[$D];\n"
    "    for (int e = 0; e < $D; e++)\n"
    "        dk[e] = dv[e] = 0.0f;\n"
    "    for (int i = $FIRSTQUERY; i < $SQ; i++) {\n"
    "        const int row = (batch * $SQ + i) * $HEADS + head;\n"
    "        const float3 stat = vload3(row, stats);\n"
    "        float s = 0.0f, t = 0.0f;\n"
    "        for (int e = 0; e < $D; e++) {\n"
    "            s = fma(q[(size_t)row * $D + e], keys[at + e], s);\n"
    "            t = fma(g[(size_t)row * $D + e], vals[at + e], t);\n"
    "        }\n"
    "        s *= scale;\n"
    "        $ADDMASK\n"
    "        const float w = exp(s - stat.x) * stat.y, ds = scale * w * (t - stat.z);\n"
    "        for (int e = 0; e < $D; e++) {\n"
    "            dk[e] = fma(ds, q[(size_t)row * $D + e], dk[e]);\n"
    "            dv[e] = fma(w, g[(size_t)row * $D + e], dv[e]);\n"
    "        }\n"
    "    }\n"
    "    for (int e = 0; e < $D; e++) {\n"
    "        out[nq + at + e] = dk[e];\n"
    "        out[nq + nk + at + e] = dv[e];\n"
    "    }\n"
    "}\n";

static void lower_gpu(pipe_lowering *l, const pipei_attention *g)
{
    pipe_text mask = {0}, s = {0};
    pipe_text_addf(&mask, "s += mask[(size_t)batch * %lld + (size_t)head * %lld + (size_t)i * %lld + (size_t)j * %lld];",
                   (long long)g->mask[0], (long long)g->mask[1], (long long)g->mask[2], (long long)g->mask[3]);
    char last[40];
    snprintf(last, sizeof(last), g->causal ? "min(%d, i + 1)" : "%d", (int)g->sk);
    const pipei_word words[] = {
        {.name = "B", .number = g->b}, {.name = "D", .number = g->d}, {.name = "HEADS", .number = g->heads},
        {.name = "SQ", .number = g->sq}, {.name = "SK", .number = g->sk}, {.name = "LAST", .text = last},
        {.name = "FIRSTQUERY", .text = g->causal ? "j" : "0"}, {.name = "ADDMASK", .text = g->masked ? mask.data : ""},
        {.name = "MASKARG", .text = g->masked ? "PIPE_BUF(float, mask)," : ""},
        {.name = "MASKBIND", .text = g->masked ? "PIPE_BIND(float, mask);" : ""}, {0}};
    pipei_emit(&s, gpu_text, words);
    pipe_text_free(&mask);
    const uint32_t stats = pipe_lower_scratch(l, (size_t)(3 * g->b * g->heads * g->sq));
    for (int half = 0; half < 2; half++) {
        pipe_launch launch = {.source = s.data, .kernel = half ? "grad_keys" : "grad_queries", .dims = 1,
                              .global = {(size_t)(g->b * g->heads * (half ? g->sk : g->sq))}};
        for (uint32_t k = 0; k < (g->masked ? 5u : 4u); k++)
            pipei_launch_buffer(&launch, PIPE_ARG_INPUT, k);
        pipei_launch_buffer(&launch, PIPE_ARG_OUTPUT, 0);
        pipei_launch_buffer(&launch, PIPE_ARG_SCRATCH, stats);
        pipei_launch_buffer(&launch, PIPE_ARG_FLOAT, 0);
        pipe_lower_launch(l, &launch);
    }
    pipe_text_free(&s);
}

static pipe_status lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const pipei_attention g = pipei_attention_geometry(c->attr, pipe_tensor_shape(c->in[0]), pipe_tensor_shape(c->in[1]),
                                                       c->n_in == 5 ? pipe_tensor_shape(c->in[4]) : NULL);
    if (g.b * g.heads == 0)
        return PIPE_OK;
    if (pipe_lower_profile(l)->cpu)
        lower_cpu(l, &g);
    else
        lower_gpu(l, &g);
    return PIPE_OK;
}

/* ---- the definition, in recorded ops ---- */
static const int heads_first[] = {0, 2, 1, 3};

static pipe_tensor *swap_heads(pipe_tensor *a) { return pipe_permute(a, heads_first, 4); }

typedef struct parts {
    pipe_tensor *p, *ds;              /* [b, heads, sq, sk]; ds is the gradient of the scores */
} parts;

/* c->in: q, k, v, ... */
static parts parts_of(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor *mask)
{
    const int last = -1;
    parts r = {.p = pipei_attention_weights(c, mask)};
    pipe_tensor *dp = pipe_matmul(swap_heads(gy), swap_heads(c->in[2]), false, true);
    r.ds = pipe_mul(r.p, pipe_sub(dp, pipe_sum(pipe_mul(r.p, dp), &last, 1, true)));
    return r;
}

static pipe_tensor *composed(const pipe_op_call *c)
{
    const parts r = parts_of(c, c->in[3], c->n_in == 5 ? c->in[4] : NULL);
    pipe_tensor *ds = pipe_scale(r.ds, (double)c->attr->f[0]);
    pipe_tensor *all[] = {
        swap_heads(pipe_matmul(ds, swap_heads(c->in[1]), false, false)),
        swap_heads(pipe_matmul(ds, swap_heads(c->in[0]), true, false)),
        swap_heads(pipe_matmul(r.p, swap_heads(c->in[3]), true, false)),
    };
    for (size_t k = 0; k < 3; k++)
        all[k] = pipe_reshape(all[k], PIPE_SHAPE(pipe_count(all[k])));
    return pipe_concat(all, 3, 0);
}

const pipe_op pipei_op_attention_grad = {
    PIPE_OP_INIT, .name = "attention_grad", .arity = -1, .shape = shape, .reference = reference, .lower = lower,
    .composed = composed,
};

void pipei_attention_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    pipe_tensor *mask = c->n_in == 4 ? c->in[3] : NULL;
    if (needs[0] || needs[1] || needs[2]) {
        pipe_tensor *all = pipe_op_apply(c->engine, &pipei_op_attention_grad,
                                         (pipe_tensor *[]){c->in[0], c->in[1], c->in[2], gy, mask}, mask ? 5 : 4, c->attr);
        int64_t at = 0;
        for (size_t k = 0; k < 3; k++) {
            const int64_t n = pipe_count(c->in[k]);
            if (needs[k])
                gx[k] = pipe_reshape(pipe_slice(all, 0, at, n, 1), *pipe_tensor_shape(c->in[k]));
            at += n;
        }
    }
    if (mask && needs[3])
        gx[3] = pipe_sum_to(parts_of(c, gy, mask).ds, *pipe_tensor_shape(mask));
}
