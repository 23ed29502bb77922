/* matmul: the row, its derivatives, and its lowering.
 *
 * On a CPU: register tiles (gemm-source.c).  A work-item computes chunk_m x chunk_n
 * of the output, k in blocks of K_BLOCK, so that what is read again and again stays
 * in the caches:
 *
 *     b          in panels of a tile's columns.  Weights are packed so by a launch of
 *                their own where they are transposed, where their columns do not fill
 *                vectors, or where they are large enough for the strided walk to cost
 *                more than the copy.  In a product a' b, the gradient of weights, both
 *                operands are long: a work-item packs a block as it comes to it.
 *     a          a' is packed by tiles, since its walk along k has the stride of a whole
 *                row. A block of rows that many panels read is copied: rows a multiple of
 *                4 KiB apart share the few places that one set of the level 1 cache has.
 *                What is read less often is read where it lies, by a pointer per row.
 *     sums       of a chunk's tiles in a room of the work-item's own until k is through.
 *
 * Where the output has too few chunks for all cores and k is long, k is shared among
 * work-items and their sums are added by a second launch, in the order of k. */
#include "core/tensor/ops/gemm-source.h"

#include <stdio.h>

enum { A_TA, A_TB };      /* attr->i */

#define K_BLOCK 256
/* Elements of the right operand from which packing pays, given enough rows to use it. */
#define PACK_FROM 16384
#define PACK_ROWS 32
/* A chunk packed in the kernel is read at least so often. */
#define LEAST_TILES 8
#define LEAST_PANELS 4
/* Panels that read a block of rows from which a copy of it pays. */
#define COPY_PANELS 4
/* Work-items per core: several even out a core that is busy elsewhere. */
#define ITEMS 4
/* The shortest sum that is given a work-item of its own. */
#define PART_FROM 1024

/* ---- the CPU kernel ---- */

/* One tile.  Out of line: the constants of an epilogue, hoisted out of the loops,
 * would take the accumulators' registers (3.5 times slower behind a GELU). */
static const char product_text[] =
    "static __attribute__((noinline)) void product(global const float *a, const int row_a, const int rows,\n"
    "                                              global const float *b, const int k_b, const int steps,\n"
    "                                              const int add, global float *acc)\n"
    "{\n"
    "    const int acc_stride = $COLUMNS;\n"
    "$POINT"
    "$ZERO"
    "    for (int k = 0; k < steps; k++) {\n"
    "$STEP"
    "        b += k_b;\n"
    "$NEXT"
    "    }\n"
    "    if (add) {\n"
    "$ADD"
    "    }\n"
    "$STORE"
    "}\n";
static const char gemm_text[] =
    "kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"
    "void gemm(PIPE_BUF(float, va), PIPE_BUF(float, vb), PIPE_BUF(float, out), PIPE_BUF(float, room), const int n_m,\n"
    "          const int n_n, const int n_k, const int row_a, const int k_b, const int panel_b, const int chunk_m,\n"
    "          const int chunk_n, const int chunk_k, const int tiles_row, const int tiles_panel, const int sums,\n"
    "          const int room_size)\n"
    "{\n"
    "    PIPE_BIND(float, va); PIPE_BIND(float, vb); PIPE_BIND(float, out); PIPE_BIND(float, room);\n"
    "    const int z = (int)get_group_id(2);\n"
    "    const int m0 = (int)get_group_id(0) * chunk_m, m1 = min(m0 + chunk_m, n_m);\n"
    "    const int n0 = (int)get_group_id(1) * chunk_n, n1 = min(n0 + chunk_n, n_n);\n"
    "    const int first = $FIRST, end = min(first + chunk_k, n_k);\n"
    "    global const float *base_a = va + $AT_A, *base_b = vb + $AT_B;\n"
    "    global float *mine = room + (((size_t)z * get_num_groups(1) + get_group_id(1)) * get_num_groups(0) +\n"
    "                                 get_group_id(0)) * room_size;\n"
    "$ROOM"
    "    for (int k0 = first; k0 < end; k0 += $KBLOCK) {\n"
    "        const int steps = min($KBLOCK, end - k0);\n"
    "$PACKA"
    "$PACKB"
    "        for (int n = n0; n < n1; n += $COLUMNS) {\n"
    "            const int cols = min($COLUMNS, n_n - n);\n"
    "$B"
    "            for (int m = m0; m < m1; m += $ROWS) {\n"
    "                const int rows = min($ROWS, m1 - m);\n"
    "                global float *tile = mine + (size_t)((m - m0) / $ROWS * tiles_row +\n"
    "                                                     (n - n0) / $COLUMNS * tiles_panel) * $SIZE;\n"
    "                product($A, row_a, rows, b, k_b, steps, k0 > first, tile);\n"
    "                if (k0 + $KBLOCK < end)\n"
    "                    continue;\n"
    "                #pragma nounroll\n"
    "                for (int i = 0; i < rows; i++) {\n"
    "                    const size_t o = ((size_t)z * n_m + m + i) * n_n + n;\n"
    "$STORED"
    "                }\n"
    "            }\n"
    "        }\n"
    "    }\n"
    "}\n";
/* b [k, n] is read in place, or in panels. */
static const char b_text[] =
    "            global const float *b = base_b + (size_t)(n / $COLUMNS) * panel_b + (size_t)k0 * k_b;\n";
/* a' b: blocks of both operands in the order in which product() reads them,
 * [tile][k][lane of the tile]; whole vectors are written, so the tiles are a vector
 * more than their own size apart.  Rows are read in runs of a chunk's length. */
static const char pack_text[] =
    "static void pack_$UNIT(global const float *from, const int row, const int lanes, const int left, const int steps,\n"
    "                       global float *to)\n"
    "{\n"
    "    for (int k = 0; k < steps; k++, from += row, to += $LANES) {\n"
    "        global float *tile = to;\n"
    "        int n = 0;\n"
    "        for (; n < lanes && n + $SPAN <= left; n += $LANES, tile += $APART)\n"
    "            for (int j = 0; j < $SPAN; j += $WIDTH)\n"
    "                vstore$WIDTH(vload$WIDTH(0, from + n + j), 0, tile + j);\n"
    "        for (; n < lanes; n += $LANES, tile += $APART)\n"
    "            for (int j = 0; j < $LANES; j++)\n"
    "                tile[j] = n + j < left ? from[n + j] : 0.0f;\n"
    "    }\n"
    "}\n";
static const char pack_a_call[] =
    "        pack_a(base_a + (size_t)k0 * n_m + m0, n_m, m1 - m0, n_m - m0, steps, packed_a);\n";
static const char pack_b_call[] =
    "        pack_b(base_b + (size_t)k0 * n_n + n0, n_n, n1 - n0, n_n - n0, steps, packed_b);\n";
/* a b: rows in the order of the tiles, $ROW apart; rows after the last are the last. */
static const char copy_text[] =
    "static void copy_a(global const float *from, const int row, const int rows, const int steps, global float *to)\n"
    "{\n"
    "    const int all = (rows + $ROWS - 1) / $ROWS * $ROWS;\n"
    "    for (int m = 0; m < all; m++, to += $ROW) {\n"
    "        global const float *a = from + (size_t)min(m, rows - 1) * row;\n"
    "        int k = 0;\n"
    "        for (; k + $WIDTH <= steps; k += $WIDTH)\n"
    "            vstore$WIDTH(vload$WIDTH(0, a + k), 0, to + k);\n"
    "        for (; k < steps; k++)\n"
    "            to[k] = a[k];\n"
    "    }\n"
    "}\n";
static const char copy_a_call[] =
    "        copy_a(base_a + (size_t)m0 * row_a + k0, row_a, m1 - m0, steps, packed_a);\n";
/* A part of the sum: what is to follow follows the whole. */
static const char plain_out_text[] =
    "                    for (int j = 0; j < cols; j++)\n"
    "                        out[o + j] = tile[i * $COLUMNS + j];\n";

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

/* How a product is cut among work-items. */
typedef struct cut {
    bool pack_b;                     /* by a launch of its own */
    bool inside;                     /* both operands, block by block in the kernel */
    bool copy_a;                     /* rows of a, block by block in the kernel */
    int64_t a_tile;                  /* floats of a tile of a in a work-item's room; 0: read where it lies */
    int64_t batch, tiles, panels;
    int64_t chunk_tiles, chunk_panels, chunk_k, parts;
    int64_t sums;                    /* floats of sums in a work-item's room */
} cut;

/* Floats between two tiles of `lanes` lanes that are packed in the kernel. */
static int64_t apart(pipei_tile t, int64_t lanes) { return K_BLOCK * lanes + t.width; }

/* Floats between two rows that are copied. */
static int64_t copied_row(pipei_tile t) { return K_BLOCK + t.width; }

/* n in equal shares of at most `most`: the size of one. */
static int64_t even(int64_t n, int64_t most) { return pipei_ceil_div(n, pipei_ceil_div(n, pipei_max(1, most))); }

static cut cut_up(const pipe_device_profile *p, const pipei_matmul *g, pipei_tile tile)
{
    const int64_t items = ITEMS * (int64_t)pipei_max(1, p->compute_units);
    cut c = {.batch = product(g->batch, g->rank), .tiles = pipei_ceil_div(g->m, tile.rows),
             .panels = pipei_ceil_div(g->n, tile.columns), .inside = g->ta && !g->tb, .parts = 1};
    c.pack_b = !c.inside && (g->tb || g->n % tile.columns != 0 || (g->k * g->n >= PACK_FROM && g->m >= PACK_ROWS));

    /* A chunk's rows fill a part of the level 2 cache, so that what is read of b serves
     * many rows.  If there are too few chunks for all cores, columns are shared out,
     * then rows, then k; but a long k first, since its parts read nothing twice. */
    const int64_t line = pipei_min(g->k, K_BLOCK) * 4, room = (int64_t)(p->cache_bytes / 4);
    const int64_t least_tiles = g->ta ? LEAST_TILES : 1, least_panels = g->ta ? LEAST_PANELS : 1;
    c.chunk_tiles = even(c.tiles, room / (line * tile.rows));
    int64_t m_items = pipei_ceil_div(c.tiles, c.chunk_tiles) * c.batch;
    const int64_t most_panels = pipei_max(1, room / (line * tile.columns));
    const int64_t chunks = m_items * pipei_ceil_div(c.panels, most_panels);
    const bool long_k = c.inside && g->rank == 0 && g->k / PART_FROM >= pipei_ceil_div(items, chunks);
    c.chunk_panels = long_k ? most_panels : pipei_max(least_panels, c.panels * m_items / items);
    if (c.inside)
        c.chunk_panels = pipei_min(c.chunk_panels, most_panels);
    else if (g->k > K_BLOCK)
        c.chunk_panels = pipei_min(c.chunk_panels, 512 / tile.columns);
    c.chunk_panels = even(c.panels, c.chunk_panels);
    const int64_t n_items = pipei_ceil_div(c.panels, c.chunk_panels);
    if (!long_k)
        c.chunk_tiles = even(c.tiles, pipei_min(c.chunk_tiles,
                                                pipei_max(least_tiles, c.tiles * c.batch * n_items / items)));
    m_items = pipei_ceil_div(c.tiles, c.chunk_tiles) * c.batch;
    if (g->rank == 0)
        c.parts = pipei_max(1, pipei_min(pipei_ceil_div(items, m_items * n_items), g->k / PART_FROM));
    c.chunk_k = pipei_ceil_div(pipei_ceil_div(g->k, c.parts), K_BLOCK) * K_BLOCK;
    c.parts = pipei_ceil_div(g->k, c.chunk_k);
    c.copy_a = !g->ta && c.chunk_panels >= COPY_PANELS;
    c.a_tile = g->ta ? apart(tile, tile.rows) : c.copy_a ? tile.rows * copied_row(tile) : 0;
    c.sums = (c.chunk_k > K_BLOCK ? c.chunk_tiles * c.chunk_panels : 1) * (int64_t)tile.rows * tile.columns;
    return c;
}

static void add_pack(pipe_text *s, const char *unit, pipei_tile t, int64_t lanes)
{
    const pipei_word words[] = {
        {.name = "UNIT", .text = unit}, {.name = "LANES", .number = lanes}, {.name = "WIDTH", .number = t.width},
        {.name = "SPAN", .number = pipei_ceil_div(lanes, t.width) * t.width}, {.name = "APART", .number = apart(t, lanes)},
        {0}};
    pipei_emit(s, pack_text, words);
}

/* The text of the kernel. */
static void gemm_source(pipe_text *s, const pipei_matmul *g, const cut *c, pipei_tile tile)
{
    pipe_text at_a = {0}, at_b = {0}, point = {0}, room = {0}, next = {0}, b = {0}, a = {0}, stored = {0}, at = {0};

    pipei_emit_batch(&at_a, g, g->a_batch, g->m * g->k);
    pipei_emit_batch(&at_b, g, g->b_batch, c->pack_b ? c->panels * g->k * tile.columns : g->k * g->n);
    for (uint32_t i = 0; i < tile.rows && c->a_tile == 0; i++)
        pipe_text_addf(&point, "    global const float *a%u = a + (size_t)min(%u, rows - 1) * row_a;\n", i, i);
    if (c->a_tile > 0) {
        pipe_text_addf(&a, "packed_a + (m - m0) / %u * %lld", tile.rows, (long long)c->a_tile);
        pipe_text_add(&room, "    global float *packed_a = mine + sums;\n");
    } else {
        pipe_text_add(&a, "base_a + (size_t)m * row_a + k0");
    }
    if (g->ta) {
        add_pack(s, "a", tile, tile.rows);
        pipe_text_add(&at, "a[%u]");
        pipe_text_addf(&next, "        a += %u;\n", tile.rows);
    } else if (c->copy_a) {
        const pipei_word words[] = {{.name = "ROWS", .number = tile.rows}, {.name = "ROW", .number = copied_row(tile)},
                                    {.name = "WIDTH", .number = tile.width}, {0}};
        pipei_emit(s, copy_text, words);
        pipe_text_addf(&at, "a[k + %%u * %lld]", (long long)copied_row(tile));
    } else {
        pipe_text_add(&at, "a%u[k]");
    }
    if (c->inside) {
        add_pack(s, "b", tile, tile.columns);
        pipe_text_addf(&room, "    global float *packed_b = packed_a + chunk_m / %u * %lld;\n", tile.rows,
                       (long long)c->a_tile);
        pipe_text_addf(&b, "            global const float *b = packed_b + (n - n0) / %u * %lld;\n", tile.columns,
                       (long long)apart(tile, tile.columns));
    }
    pipei_tile_words w;
    pipei_tile_words_make(&w, tile, at.data);
    pipei_tile_words_number(&w, "KBLOCK", K_BLOCK);
    if (!c->inside)
        pipei_emit(&b, b_text, w.word);
    pipei_emit(&stored, c->parts > 1 ? plain_out_text : "$OUT", w.word);
    const pipei_word pieces[] = {
        {.name = "AT_A", .text = c->parts > 1 ? "0" : at_a.data}, {.name = "AT_B", .text = c->parts > 1 ? "0" : at_b.data},
        {.name = "FIRST", .text = c->parts > 1 ? "z * chunk_k" : "0"}, {.name = "A", .text = a.data},
        {.name = "POINT", .text = point.data ? point.data : ""}, {.name = "ROOM", .text = room.data ? room.data : ""},
        {.name = "PACKA", .text = g->ta ? pack_a_call : c->copy_a ? copy_a_call : ""},
        {.name = "PACKB", .text = c->inside ? pack_b_call : ""}, {.name = "NEXT", .text = next.data ? next.data : ""},
        {.name = "B", .text = b.data}, {.name = "STORED", .text = stored.data}};
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++)
        pipei_tile_words_text(&w, pieces[i].name, pieces[i].text);
    pipei_emit(s, product_text, w.word);
    pipei_emit(s, gemm_text, w.word);
    pipei_tile_words_free(&w);
    pipe_text *const all[] = {&at_a, &at_b, &point, &room, &next, &b, &a, &stored, &at};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        pipe_text_free(all[i]);
}

static void lower_gemm(pipe_lowering *l, const pipei_matmul *g)
{
    const pipe_device_profile *p = pipe_lower_profile(l);
    const pipei_tile tile = choose(p, g);
    const cut c = cut_up(p, g, tile);
    const int64_t m_items = pipei_ceil_div(c.tiles, c.chunk_tiles), n_items = pipei_ceil_div(c.panels, c.chunk_panels);

    uint32_t packed = 0, part = 0;
    if (c.pack_b) {
        const pipei_pack how = {
            .batch = product(g->b_batch, g->rank), .taps = 1, .k = g->k, .n = g->n, .batch_stride = g->k * g->n,
            .k_stride = g->tb ? 1 : g->n, .n_stride = g->tb ? g->k : 1, .no_zero_row = true, .kept = true,
        };
        packed = pipei_lower_pack(l, &how, tile, g->b);
    }
    if (c.parts > 1)
        part = pipe_lower_scratch(l, (size_t)(c.parts * g->m * g->n));
    const int64_t z_items = c.batch * c.parts;
    const int64_t room = c.sums + c.chunk_tiles * c.a_tile +
                         (c.inside ? c.chunk_panels * apart(tile, tile.columns) : 0);

    pipe_text s = {0};
    gemm_source(&s, g, &c, tile);
    pipe_launch launch = {
        .kernel = "gemm", .dims = 3, .local = {1, 1, 1},
        .global = {(size_t)m_items, (size_t)n_items, (size_t)z_items},
    };
    pipei_launch_buffer(&launch, PIPE_ARG_INPUT, g->a);
    pipei_launch_buffer(&launch, c.pack_b ? PIPE_ARG_SCRATCH : PIPE_ARG_INPUT, c.pack_b ? packed : g->b);
    pipei_launch_buffer(&launch, c.parts > 1 ? PIPE_ARG_SCRATCH : PIPE_ARG_OUTPUT, c.parts > 1 ? part : 0);
    pipei_launch_buffer(&launch, PIPE_ARG_SCRATCH, pipe_lower_scratch(l, (size_t)(room * m_items * n_items * z_items)));
    const bool blocked = c.chunk_k > K_BLOCK;
    const int64_t ints[] = {
        g->m, g->n, g->k, g->k, c.pack_b || c.inside ? tile.columns : g->n, c.pack_b ? g->k * tile.columns : tile.columns,
        c.chunk_tiles * tile.rows, c.chunk_panels * tile.columns, c.chunk_k, blocked ? c.chunk_panels : 0, blocked, c.sums,
        room,
    };
    for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]); i++)
        pipei_launch_int(&launch, ints[i]);
    pipei_launch_add(l, &launch, &s);
    if (c.parts > 1) {
        const pipei_sum_parts sum = {.parts = c.parts, .groups = 1, .taps = 1, .rows = g->m, .columns = g->n,
                                     .stride = g->n, .row_step = g->n, .column_step = 1};
        pipei_lower_sum_parts(l, &sum, part);
    }
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
    if (pipe_lower_profile(l)->cpu)
        lower_gemm(l, &g);
    else if (!pipei_lower_blas_matmul(l, &g))
        pipei_lower_gpu_matmul(l, &g);
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
