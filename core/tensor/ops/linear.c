/* matmul: the row, its derivatives, and its lowering.
 *
 * On a CPU: register tiles (gemm-source.c).  The right operand is packed into
 * panels where it is transposed, where its columns do not fill vectors, or where
 * it is large enough for the strided walk to cost more than the copy; the left one
 * is read where it lies, through one pointer per row of the tile.  Beyond
 * K_BLOCK, k is walked in blocks that keep a panel in the level 1 cache.
 *
 * A product of the form a' b with few results and a long sum (the weight
 * gradient of a linear layer) is the weight gradient of a 1 x 1 convolution
 * and is computed as one: in parallel over the sum. */
#include "core/tensor/ops/conv.h"

#include <stdio.h>

enum { A_TA, A_TB };      /* attr->i */

#define K_BLOCK 512
/* Elements of the right operand from which packing pays, given enough rows to use it. */
#define PACK_FROM 16384
#define PACK_ROWS 32

/* ---- the CPU kernel ---- */
static const char gemm_text[] =
    "kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"
    "void gemm(PIPE_BUF(float, va), PIPE_BUF(float, vb), PIPE_BUF(float, out), PIPE_BUF(float, part), const int n_m,\n"
    "          const int n_n, const int n_k, const int row_a, const int k_a, const int k_b, const int panel_b,\n"
    "          const int chunk_m, const int chunk_n)\n"
    "{\n"
    "    PIPE_BIND(float, va); PIPE_BIND(float, vb); PIPE_BIND(float, out); PIPE_BIND(float, part);\n"
    "    const int z = (int)get_group_id(2);\n"
    "    const int m0 = (int)get_group_id(0) * chunk_m, m1 = min(m0 + chunk_m, n_m);\n"
    "    const int n0 = (int)get_group_id(1) * chunk_n, n1 = min(n0 + chunk_n, n_n);\n"
    "    global const float *base_a = va + $AT_A, *base_b = vb + $AT_B;\n"
    "    float tile[$SIZE];\n"
    "$PART"
    "    for (int k0 = 0; k0 < n_k; k0 += $KBLOCK) {\n"
    "        const int k1 = min(k0 + $KBLOCK, n_k);\n"
    "        for (int n = n0; n < n1; n += $COLUMNS) {\n"
    "            const int cols = min($COLUMNS, n_n - n);\n"
    "            for (int m = m0; m < m1; m += $ROWS) {\n"
    "                global const float *b = base_b + (size_t)(n / $COLUMNS) * panel_b + (size_t)k0 * k_b;\n"
    "$POINT"
    "$ZERO"
    "                for (int k = k0; k < k1; k++) {\n"
    "$STEP"
    "                    b += k_b;\n"
    "$NEXT"
    "                }\n"
    "$BLOCKED"
    "$SPILL"
    "                const int rows = min($ROWS, m1 - m);\n"
    "                #pragma nounroll\n"
    "                for (int i = 0; i < rows; i++) {\n"
    "                    const size_t o = ((size_t)z * n_m + m + i) * n_n + n;\n"
    "$OUT"
    "                }\n"
    "            }\n"
    "        }\n"
    "    }\n"
    "}\n";
/* Only where k is blocked: every work-item has room for its part of the output. */
static const char part_text[] =
    "    global float *mine = part + (((size_t)z * get_num_groups(1) + get_group_id(1)) * get_num_groups(0) +\n"
    "                                 get_group_id(0)) * chunk_m * chunk_n;\n"
    "    const int acc_stride = chunk_n;\n";
static const char blocked_text[] =
    "                global float *acc = mine + (size_t)(m - m0) * chunk_n + (n - n0);\n"
    "                if (k0 > 0) {\n"
    "$ADD"
    "                }\n"
    "                if (k1 < n_k) {\n"
    "$STORE"
    "                    continue;\n"
    "                }\n";

void pipei_emit_batch(pipe_text *s, const pipei_matmul *g, const int64_t *dims, int64_t stride)
{
    bool all = true, none = true;
    for (uint32_t k = 0; k < g->rank; k++) {
        all = all && dims[k] == g->batch[k];
        none = none && dims[k] == 1;
    }
    if (none) {
        pipe_text_add(s, "0");
        return;
    }
    if (all) {
        pipe_text_addf(s, "(size_t)z * %lld", (long long)stride);
        return;
    }
    int64_t below = 1, step = 1;
    pipe_text_add(s, "(size_t)(0");
    for (uint32_t k = g->rank; k-- > 0;) {
        if (dims[k] > 1)
            pipe_text_addf(s, " + z / %lld %% %lld * %lld", (long long)below, (long long)g->batch[k], (long long)step);
        below *= g->batch[k];
        step *= dims[k];
    }
    pipe_text_addf(s, ") * %lld", (long long)stride);
}

static int64_t product(const int64_t *dims, uint32_t rank)
{
    int64_t n = 1;
    for (uint32_t k = 0; k < rank; k++)
        n *= dims[k];
    return n;
}

/* With fewer rows than a tile has, wider tiles keep the registers busy. */
static pipei_tile choose(const pipe_device_profile *p, const pipei_matmul *g)
{
    pipei_tile t = pipei_tile_choose(p, g->n);
    if (g->m >= t.rows)
        return t;
    const uint32_t room = t.rows * t.vectors;
    t.rows = (uint32_t)g->m;
    uint32_t v = (uint32_t)pipei_min(8, room / t.rows);
    while (v > 1 && (g->n < v * t.width || g->n % (v * t.width) != 0))
        v--;
    if (g->n % t.width == 0)
        t.vectors = v;
    t.columns = t.vectors * t.width;
    return t;
}

/* The sum over k split among the work-items, where that alone is long. */
static bool lower_as_weight_grad(pipe_lowering *l, const pipei_matmul *g)
{
    if (!g->ta || g->tb || g->rank > 0 || g->a != 0 || g->b != 1 || g->k < 1024 || g->m * g->n > g->k * 32)
        return false;
    int64_t run = 0;
    for (int64_t r = 256; r >= 16 && !run; r--)
        if (g->k % r == 0)
            run = r;
    if (!run)
        return false;
    const pipei_conv_geometry c = {
        .n = 1, .h = g->k / run, .w = run, .ci = g->m, .oh = g->k / run, .ow = run, .co = g->n, .kh = 1, .kw = 1,
        .cig = g->m, .cog = g->n, .groups = 1, .stride = {1, 1}, .dilation = {1, 1},
    };
    pipei_lower_conv_weight_grad(l, &c);
    return true;
}

static void lower_gemm(pipe_lowering *l, const pipei_matmul *g)
{
    const pipe_device_profile *p = pipe_lower_profile(l);
    const pipei_tile tile = choose(p, g);
    const int64_t batch = product(g->batch, g->rank), batch_b = product(g->b_batch, g->rank);
    const int64_t panels = pipei_ceil_div(g->n, tile.columns);

    const bool pack = g->tb || g->n % tile.columns != 0 || (g->k * g->n >= PACK_FROM && g->m >= PACK_ROWS);
    uint32_t packed = 0;
    if (pack) {
        const pipei_pack how = {
            .batch = batch_b, .taps = 1, .k = g->k, .n = g->n, .batch_stride = g->k * g->n,
            .k_stride = g->tb ? 1 : g->n, .n_stride = g->tb ? g->k : 1, .no_zero_row = true,
        };
        packed = pipei_lower_pack(l, &how, tile, g->b);
    }

    /* Chunks of rows that the level 2 cache holds, small enough to keep all cores busy. */
    const int64_t cores = (int64_t)pipei_max(1, p->compute_units), tiles = pipei_ceil_div(g->m, tile.rows);
    const int64_t k_used = pipei_min(g->k, K_BLOCK);
    int64_t chunk_tiles = pipei_max(1, (int64_t)(p->cache_bytes / 4) / (k_used * 4 * tile.rows));
    chunk_tiles = pipei_min(chunk_tiles, pipei_max(1, tiles * batch / (8 * cores)));
    chunk_tiles = pipei_min(chunk_tiles, tiles);
    const int64_t chunk_m = chunk_tiles * tile.rows, m_items = pipei_ceil_div(g->m, chunk_m);
    int64_t chunk_panels = pipei_max(1, panels * m_items * batch / (8 * cores));
    chunk_panels = pipei_min(pipei_min(chunk_panels, panels), g->k > K_BLOCK ? pipei_max(1, 512 / tile.columns) : panels);
    const int64_t chunk_n = chunk_panels * tile.columns, n_items = pipei_ceil_div(panels, chunk_panels);

    pipe_text at_a = {0}, at_b = {0}, point = {0}, blocked = {0}, s = {0};
    pipei_emit_batch(&at_a, g, g->a_batch, g->m * g->k);
    pipei_emit_batch(&at_b, g, g->b_batch, pack ? panels * g->k * tile.columns : g->k * g->n);
    for (uint32_t i = 0; i < tile.rows; i++)
        pipe_text_addf(&point,
                       "                global const float *a%u = base_a + (size_t)min(m + %u, n_m - 1) * row_a%s;\n", i, i,
                       g->ta ? " + (size_t)k0 * k_a" : "");
    pipei_tile_words w;
    pipei_tile_words_make(&w, tile, g->ta ? "a%u[at]" : "a%u[k]");
    pipei_tile_words_text(&w, "AT_A", at_a.data);
    pipei_tile_words_text(&w, "AT_B", at_b.data);
    pipe_text_add(&point, g->ta ? "                size_t at = 0;\n" : "");
    pipei_tile_words_text(&w, "POINT", point.data);
    pipei_tile_words_text(&w, "NEXT", g->ta ? "                    at += k_a;\n" : "");
    pipei_tile_words_number(&w, "KBLOCK", K_BLOCK);
    const bool block = g->k > K_BLOCK;
    if (block)
        pipei_emit(&blocked, blocked_text, w.word);
    pipei_tile_words_text(&w, "BLOCKED", block ? blocked.data : "");
    pipei_tile_words_text(&w, "PART", block ? part_text : "");
    pipei_emit(&s, gemm_text, w.word);
    pipei_tile_words_free(&w);
    pipe_text_free(&at_a);
    pipe_text_free(&at_b);
    pipe_text_free(&point);
    pipe_text_free(&blocked);

    const uint32_t part =
        pipe_lower_scratch(l, block ? (size_t)(batch * n_items * m_items * chunk_m * chunk_n) : 1);
    pipe_launch launch = {
        .kernel = "gemm", .dims = 3, .local = {1, 1, 1},
        .global = {(size_t)m_items, (size_t)n_items, (size_t)batch},
    };
    pipei_launch_buffer(&launch, PIPE_ARG_INPUT, g->a);
    pipei_launch_buffer(&launch, pack ? PIPE_ARG_SCRATCH : PIPE_ARG_INPUT, pack ? packed : g->b);
    pipei_launch_buffer(&launch, PIPE_ARG_OUTPUT, 0);
    pipei_launch_buffer(&launch, PIPE_ARG_SCRATCH, part);
    const int64_t ints[] = {
        g->m, g->n, g->k, g->ta ? 1 : g->k, g->ta ? g->m : 1, pack ? tile.columns : g->n,
        pack ? g->k * tile.columns : tile.columns, chunk_m, chunk_n,
    };
    for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]); i++)
        pipei_launch_int(&launch, ints[i]);
    pipei_launch_add(l, &launch, &s);
}

/* An empty sum: zeros, through the epilogue. */
static void lower_zero(pipe_lowering *l, int64_t count)
{
    const pipei_sum_parts none = {.groups = 1, .taps = 1, .rows = count, .columns = 1, .stride = 1, .row_step = 1};
    pipei_lower_sum_parts(l, &none, pipe_lower_scratch(l, 1));
}

void pipei_lower_matmul(pipe_lowering *l, const pipei_matmul *given)
{
    pipei_matmul g = *given;
    const int64_t batch = product(g.batch, g.rank);
    if (g.m * g.n * batch == 0)
        return;
    if (g.k == 0) {
        lower_zero(l, g.m * g.n * batch);
        return;
    }
    /* One right operand for the whole batch: more rows of one product. */
    if (!g.ta && product(g.b_batch, g.rank) == 1 && product(g.a_batch, g.rank) == batch) {
        g.m *= batch;
        g.rank = 0;
    }
    if (pipe_lower_profile(l)->cpu) {
        if (!lower_as_weight_grad(l, &g))
            lower_gemm(l, &g);
    } else if (!pipei_lower_blas_matmul(l, &g)) {
        pipei_lower_gpu_matmul(l, &g);
    }
}

/* ---- the row ---- */
/* The batch axes, aligned from the right; false where they do not broadcast. */
static bool batches(const pipe_shape *a, const pipe_shape *b, pipei_matmul *g)
{
    const uint32_t na = a->rank - 2, nb = b->rank - 2;
    g->rank = na > nb ? na : nb;
    for (uint32_t k = 0; k < g->rank; k++) {
        const int64_t da = k + na < g->rank ? 1 : a->dim[k + na - g->rank];
        const int64_t db = k + nb < g->rank ? 1 : b->dim[k + nb - g->rank];
        if (da != db && da != 1 && db != 1)
            return false;
        g->a_batch[k] = da;
        g->b_batch[k] = db;
        g->batch[k] = da == 1 ? db : da;
    }
    return true;
}

static bool geometry(const pipe_attr *attr, const pipe_shape *a, const pipe_shape *b, pipei_matmul *g)
{
    *g = (pipei_matmul){.ta = attr->i[A_TA] != 0, .tb = attr->i[A_TB] != 0, .a = 0, .b = 1};
    if (a->rank < 2 || b->rank < 2 || !batches(a, b, g))
        return false;
    const int64_t *ma = a->dim + a->rank - 2, *mb = b->dim + b->rank - 2;
    g->m = ma[g->ta];
    g->k = ma[!g->ta];
    g->n = mb[!g->tb];
    return mb[g->tb] == g->k;
}

static pipe_status matmul_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    const pipe_shape *a = pipe_tensor_shape(c->in[0]), *b = pipe_tensor_shape(c->in[1]);
    if (pipe_tensor_dtype(c->in[0]) != PIPE_F32 || pipe_tensor_dtype(c->in[1]) != PIPE_F32)
        return pipe_fail(err, PIPE_ESHAPE, "matmul: both operands must be f32");
    pipei_matmul g;
    if (!geometry(c->attr, a, b, &g)) {
        char ta[PIPE_SHAPE_TEXT], tb[PIPE_SHAPE_TEXT];
        return pipe_fail(err, PIPE_ESHAPE,
                         "matmul: a %s%s and b %s%s do not fit: [..., m, k] x [..., k, n] with leading axes that "
                         "broadcast is needed", pipe_shape_text(a, ta, sizeof(ta)), g.ta ? " (transposed)" : "",
                         pipe_shape_text(b, tb, sizeof(tb)), g.tb ? " (transposed)" : "");
    }
    out->dtype = PIPE_F32;
    out->shape = (pipe_shape){.rank = g.rank + 2};
    for (uint32_t k = 0; k < g.rank; k++)
        out->shape.dim[k] = g.batch[k];
    out->shape.dim[g.rank] = g.m;
    out->shape.dim[g.rank + 1] = g.n;
    return PIPE_OK;
}

static void matmul_reference(const pipe_reference *r)
{
    pipei_matmul g;
    geometry(r->attr, &r->in_shape[0], &r->in_shape[1], &g);
    const int64_t batch = product(g.batch, g.rank);
    for (int64_t z = 0; z < batch; z++) {
        int64_t za = 0, zb = 0, sa = 1, sb = 1, rest = z;
        for (uint32_t k = g.rank; k-- > 0;) {
            const int64_t digit = rest % g.batch[k];
            rest /= g.batch[k];
            za += g.a_batch[k] > 1 ? digit * sa : 0;
            zb += g.b_batch[k] > 1 ? digit * sb : 0;
            sa *= g.a_batch[k];
            sb *= g.b_batch[k];
        }
        const double *a = r->in[0] + za * g.m * g.k, *b = r->in[1] + zb * g.k * g.n;
        for (int64_t i = 0; i < g.m; i++)
            for (int64_t j = 0; j < g.n; j++) {
                double sum = 0;
                for (int64_t k = 0; k < g.k; k++)
                    sum += a[g.ta ? k * g.m + i : i * g.k + k] * b[g.tb ? j * g.k + k : k * g.n + j];
                r->out[(z * g.m + i) * g.n + j] = sum;
            }
    }
}

static pipe_status matmul_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    pipei_matmul g;
    geometry(c->attr, pipe_tensor_shape(c->in[0]), pipe_tensor_shape(c->in[1]), &g);
    pipei_lower_matmul(l, &g);
    return PIPE_OK;
}

/* With A = a or a', B likewise, C = A B: gA = g B', gB = A' g, transposed back. */
static void matmul_vjp(const pipe_op_call *c, pipe_tensor *g, pipe_tensor **gx, const bool *needs)
{
    pipe_tensor *a = c->in[0], *b = c->in[1];
    const bool ta = c->attr->i[A_TA] != 0, tb = c->attr->i[A_TB] != 0;
    if (needs[0]) {
        pipe_tensor *ga = ta ? pipe_matmul(b, g, tb, true) : pipe_matmul(g, b, false, !tb);
        gx[0] = pipe_sum_to(ga, *pipe_tensor_shape(a));
    }
    if (needs[1]) {
        /* Broadcast over the batch of a matrix product is a longer sum. */
        if (pipe_rank(b) == 2 && pipe_rank(a) > 2 && !ta) {
            const int64_t rows = product(pipe_tensor_shape(a)->dim, pipe_rank(a) - 1);
            a = pipe_reshape(a, PIPE_SHAPE(rows, pipe_dim(a, -1)));
            g = pipe_reshape(g, PIPE_SHAPE(rows, pipe_dim(g, -1)));
        }
        pipe_tensor *gb = tb ? pipe_matmul(g, a, true, ta) : pipe_matmul(a, g, !ta, false);
        gx[1] = pipe_sum_to(gb, *pipe_tensor_shape(b));
    }
}

static pipe_tensor *matmul_jvp(const pipe_op_call *c, pipe_tensor *const *dx)
{
    const bool ta = c->attr->i[A_TA] != 0, tb = c->attr->i[A_TB] != 0;
    pipe_tensor *da = dx[0] ? pipe_matmul(dx[0], c->in[1], ta, tb) : NULL;
    pipe_tensor *db = dx[1] ? pipe_matmul(c->in[0], dx[1], ta, tb) : NULL;
    return da && db ? pipe_add(da, db) : da ? da : db;
}

static const pipe_op matmul_row = {
    PIPE_OP_INIT, .name = "matmul", .arity = 2, .shape = matmul_shape, .reference = matmul_reference,
    .lower = matmul_lower, .vjp = matmul_vjp, .jvp = matmul_jvp, .epilogue = true,
};

const pipe_op *const pipei_ops_linear[] = {&matmul_row, NULL};

pipe_tensor *pipe_matmul(pipe_tensor *a, pipe_tensor *b, bool ta, bool tb)
{
    const pipe_attr attr = {.i = {ta, tb}};
    return pipe_op_apply(pipe_tensor_engine(a), &matmul_row, (pipe_tensor *[]){a, b}, 2, &attr);
}
