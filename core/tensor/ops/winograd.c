/* 3 x 3 convolutions of stride 1 with 36 multiplications for 16 results instead of
 * 144: Winograd's F(4 x 4, 3 x 3), Lavin & Gray 2015, arXiv:1509.09308, section 4.
 *
 *     y  = A' [ (G g G') . (B' d B) ] A         forward; input gradient: g flipped, channels exchanged
 *     dg = G' [ (B' d B) . (A dy A') ] G        weight gradient, the adjoint in g
 *
 * d is a 6 x 6 patch of the image, y the 4 x 4 results that it gives.  Per position of
 * the 36, "." is a matrix product over tiles: [tiles, ci] [ci, co] forward,
 * [ci, tiles] [tiles, co] for the weights.
 *
 * A work-item takes `block` tiles through all stages before the next ones, so that
 * what the stages hand on stays in the level 2 cache:
 *
 *     image ──▶ v [36][block][ci] ──▶ m [36][block][columns] ──▶ image       per panel of columns
 *     x ──▶ v [36][block][ci] ─┐
 *     y ──▶ u [36][block][co] ─┴▶ acc [36][ci][co], at the end ──▶ [3][3][ci][co], its partial sum
 *
 * With 36 positions for 16 pixels, v and m are 2.25 times the images: through main memory
 * they would cost more than the multiplications saved.
 *
 * In f32, errors are about 1e-6 of the result's root mean square, the largest below 1e-4
 * (measured up to 256 channels: 5.6e-5); the direct kernels' are 10 times smaller. */
#include "core/tensor/ops/conv.h"

/* Results of a tile along an axis, and the elements of the image behind them. */
enum { OUT = 4, IN = OUT + 2, POSITIONS = IN * IN };
/* Channels of either operand that one work-item of the weight gradient accumulates. */
enum { GRAD_CHANNELS = 64 };
/* Tiles that one of its work-items visits at least: at its end it transforms its sums. */
enum { GRAD_TILES = 64 };
/* Pixels of the result from which it pays. */
enum { FEWEST_PIXELS = 192 };

/* ---- transforms along one axis ---- */
static const char transforms_text[] =
    "#define INPUT(e0, e1, e2, e3, e4, e5, d0, d1, d2, d3, d4, d5) { \\\n"                   /* B' */
    "    const $V ta = fma(($V)(-4.0f), d2, d4), tb = fma(($V)(-4.0f), d1, d3), tc = d4 - d2, td = d3 - d1; \\\n"
    "    const $V f0 = fma(($V)(4.0f), d0, fma(($V)(-5.0f), d2, d4)); \\\n"
    "    const $V f5 = fma(($V)(4.0f), d1, fma(($V)(-5.0f), d3, d5)); \\\n"
    "    e0 = f0; e1 = ta + tb; e2 = ta - tb; \\\n"
    "    e3 = fma(($V)(2.0f), td, tc); e4 = fma(($V)(-2.0f), td, tc); e5 = f5; }\n"
    "#define OUTPUT(y0, y1, y2, y3, m0, m1, m2, m3, m4, m5) { \\\n"                         /* A' */
    "    const $V sa = m1 + m2, sb = m1 - m2, sc = m3 + m4, sd = m3 - m4; \\\n"
    "    y0 = m0 + sa + sc; y1 = fma(($V)(2.0f), sd, sb); \\\n"
    "    y2 = fma(($V)(4.0f), sc, sa); y3 = fma(($V)(8.0f), sd, sb) + m5; }\n"
    "#define RESULT(e0, e1, e2, e3, e4, e5, y0, y1, y2, y3) { \\\n"                         /* A */
    "    const $V pa = y0 + y2, pb = y1 + y3; \\\n"
    "    const $V pc = fma(($V)(4.0f), y2, y0), pd = fma(($V)(4.0f), y3, y1); \\\n"
    "    const $V f5 = y3; e0 = y0; e1 = pa + pb; e2 = pa - pb; \\\n"
    "    e3 = fma(($V)(2.0f), pd, pc); e4 = fma(($V)(-2.0f), pd, pc); e5 = f5; }\n"
    "#define WEIGHT(e0, e1, e2, e3, e4, e5, g0, g1, g2) { \\\n"                             /* G */
    "    const $V ga = (g0 + g2) * (-1.0f / 6.0f), gb = g1 * (-1.0f / 6.0f); \\\n"
    "    const $V gc = fma(($V)(1.0f / 24.0f), g0, g2 * (1.0f / 6.0f)), gd = g1 * (1.0f / 12.0f), f5 = g2; \\\n"
    "    e0 = g0 * 0.25f; e1 = ga + gb; e2 = ga - gb; e3 = gc + gd; e4 = gc - gd; e5 = f5; }\n"
    "#define WEIGHT_GRAD(g0, g1, g2, m0, m1, m2, m3, m4, m5) { \\\n"                        /* G' */
    "    const $V wa = (m1 + m2) * (-1.0f / 6.0f), wb = m3 + m4, wc = (m2 - m1) * (1.0f / 6.0f), wd = m3 - m4; \\\n"
    "    g0 = fma(($V)(0.25f), m0, fma(($V)(1.0f / 24.0f), wb, wa)); \\\n"
    "    g1 = fma(($V)(1.0f / 12.0f), wd, wc); g2 = fma(($V)(1.0f / 6.0f), wb, wa) + m5; }\n";

/* Work-items are many, so that the cores share them evenly; those that run at a time are
 * as many as cores.  They take turns in as many stretches of scratch memory, which so stay
 * in the caches.  A stretch's results do not depend on who had it before. */
static const char slot_text[] =
    "static int take_slot(volatile global int *slots, const int n)\n"
    "{\n"
    "    for (int s = 0;; s = s + 1 < n ? s + 1 : 0)\n"
    "        if (atomic_cmpxchg(slots + s, 0, 1) == 0)\n"
    "            return s;\n"
    "}\n"
    "static void leave_slot(volatile global int *slots, const int s)\n"
    "{\n"
    "    mem_fence(CLK_GLOBAL_MEM_FENCE);\n"
    "    atomic_xchg(slots + s, 0);\n"
    "}\n";
static const char clear_text[] =
    "kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"
    "void winograd_clear(PIPE_BUF(float, slots), const int n)\n"
    "{\n"
    "    PIPE_BIND(float, slots);\n"
    "    for (int s = 0; s < n; s++)\n"
    "        slots[s] = 0.0f;\n"
    "}\n";

/* How the transforms read and write element i of a patch. */
static const char access_text[] =
    "#define CHANNELS(i) vload$WIDTH(0, p[i] + c)\n"
    "#define PUT_CHANNELS(i, e) vstore$WIDTH(e, 0, v + (i) * step + c)\n"
    "#define TAPS(i) g[i]\n"
    "#define PUT_TAPS(i, e) vstore$WIDTH(e, 0, v + (i) * step)\n"
    "#define PRODUCTS(i) vload$WIDTH(0, m + (i) * step)\n"
    "#define PUT_RESULTS(i, e) vstore$WIDTH(e, 0, tile + (i) * $COLUMNS + j)\n"
    "#define PUT_GRAD(i, e) vstore$WIDTH(e, 0, g + (size_t)(i) * ci * row_stride)\n";

/* A patch of the image that begins at (y, x), transformed, all channels: those of
 * position k at v + k * step.  What lies outside of the image is 0.  The last vector ends
 * with the channels and may overlap the one before. */
static const char patch_text[] =
    "static __attribute__((noinline)) void $NAME(global const float *image, const int pixel,\n"
    "    const int y, const int x, const int h, const int w, const int n_c, global const float *zero,\n"
    "    global float *v, const int step)\n"
    "{\n"
    "    global const float *p[$SIDE * $SIDE];\n"
    "    for (int i = 0; i < $SIDE; i++)\n"
    "        for (int j = 0; j < $SIDE; j++)\n"
    "            p[i * $SIDE + j] = (uint)(y + i) < (uint)h && (uint)(x + j) < (uint)w ?\n"
    "                               image + (size_t)((y + i) * w + x + j) * pixel : zero;\n"
    "    for (int next = 0; next < n_c; next += $WIDTH) {\n"
    "        const int c = min(next, n_c - $WIDTH);\n"
    "        $V d[$SIDE * 6], e0, e1, e2, e3, e4, e5;\n"
    "$DOWN"
    "$ACROSS"
    "    }\n"
    "}\n";

/* ---- the kernels ---- */
static const char weights_text[] =
    "kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"
    "void winograd_weights(PIPE_BUF(float, w), PIPE_BUF(float, packed), const int n_k, const int n_n,\n"
    "                      const int first, const int tap_stride, const int k_stride, const int n_stride,\n"
    "                      const int step, const int n_zero)\n"
    "{\n"
    "    PIPE_BIND(float, w); PIPE_BIND(float, packed);\n"
    "    const int panel = (int)get_group_id(1), panels = (int)get_num_groups(1);\n"
    "    const int k0 = (int)get_group_id(0) * 8, k1 = min(k0 + 8, n_k);\n"
    "    for (int k = k0; k < k1; k++)\n"
    "        for (int j = 0; j < $COLUMNS; j += $WIDTH) {\n"
    "            const int n = panel * $COLUMNS + j, left = n_n - n;\n"
    "            global float *v = packed + (size_t)panel * 36 * step + k * $COLUMNS + j;\n"
    "            $V g[9], d[18], e0, e1, e2, e3, e4, e5;\n"
    "            for (int tap = 0; tap < 9; tap++) {\n"
    "                global const float *src = w + first + tap * tap_stride + (size_t)k * k_stride +\n"
    "                                          (size_t)n * n_stride;\n"
    "                if (n_stride == 1 && left >= $WIDTH) {\n"
    "                    g[tap] = vload$WIDTH(0, src);\n"
    "                    continue;\n"
    "                }\n"
    "                float lane[$WIDTH];\n"
    "                for (int i = 0; i < $WIDTH; i++)\n"
    "                    lane[i] = i < left ? src[(size_t)i * n_stride] : 0.0f;\n"
    "                g[tap] = vload$WIDTH(0, lane);\n"
    "            }\n"
    "$DOWN"
    "$ACROSS"
    "        }\n"
    "    if (get_group_id(0) == 0 && panel == 0)\n"
    "        for (int k = 0; k < n_zero; k++)\n"
    "            packed[(size_t)panels * 36 * step + k] = 0.0f;\n"
    "}\n";

static const char forward_text[] =
    "static __attribute__((noinline)) void product(global const float *a, const int row_a, global const float *b,\n"
    "                                              const int n_k, global float *acc)\n"
    "{\n"
    "    const int acc_stride = $COLUMNS;\n"
    "$POINT"
    "$ZERO"
    "    for (int k = 0; k < n_k; k++) {\n"
    "$STEP"
    "        b += $COLUMNS;\n"
    "    }\n"
    "$STORE"
    "}\n"
    "static __attribute__((noinline)) void results(global const float *m, const int step, float *tile)\n"
    "{\n"
    "    for (int j = 0; j < $COLUMNS; j += $WIDTH, m += $WIDTH) {\n"
    "        $V d[24], e0, e1, e2, e3;\n"
    "$DOWN"
    "$ACROSS"
    "    }\n"
    "}\n"
    "kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"
    "void winograd(PIPE_BUF(float, in), PIPE_BUF(float, packed), PIPE_BUF(float, work), PIPE_BUF(float, out),\n"
    "              const int tiles, const int share, const int block, const int tiles_y, const int tiles_x,\n"
    "              const int h, const int w, const int n_k, const int oh, const int ow, const int n_n,\n"
    "              const int pad_y, const int pad_x, const int panel_step, const int step_w,\n"
    "              const int step_v, const int step_m, const int n_slots)\n"
    "{\n"
    "    PIPE_BIND(float, in); PIPE_BIND(float, packed); PIPE_BIND(float, work); PIPE_BIND(float, out);\n"
    "    const int panels = (n_n + $COLUMNS - 1) / $COLUMNS;\n"
    "    const int t0 = (int)get_group_id(0) * share, t1 = min(t0 + share, tiles);\n"
    "    const int p0 = (int)get_group_id(1) * panel_step, p1 = min(p0 + panel_step, panels);\n"
    "    global float *zero = packed + (size_t)panels * 36 * step_w;\n"
    "    volatile global int *slots = (volatile global int *)(zero + n_k);\n"
    "    const int slot = take_slot(slots, n_slots);\n"
    "    global float *v = work + (size_t)slot * 36 * (step_v + step_m);\n"
    "    global float *m = v + (size_t)36 * step_v;\n"
    "    float tile[16 * $COLUMNS];\n"
    "    for (int first = t0; first < t1; first += block) {\n"
    "        const int n_t = min(block, t1 - first), rows = (n_t + $ROWS - 1) / $ROWS * $ROWS;\n"
    "        for (int t = 0; t < rows; t++) {\n"
    "            const int at = first + t, image = at / (tiles_x * tiles_y);\n"
    "            const int y = t < n_t ? at / tiles_x % tiles_y * 4 - pad_y : -6, x = at % tiles_x * 4 - pad_x;\n"
    "            patch(in + (size_t)image * h * w * n_k, n_k, y, x, h, w, n_k, zero, v + t * n_k, step_v);\n"
    "        }\n"
    "        for (int panel = p0; panel < p1; panel++) {\n"
    "            for (int p = 0; p < 36; p++)\n"
    "                for (int t = 0; t < rows; t += $ROWS)\n"
    "                    product(v + (size_t)p * step_v + t * n_k, n_k,\n"
    "                            packed + ((size_t)panel * 36 + p) * step_w, n_k,\n"
    "                            m + (size_t)p * step_m + t * $COLUMNS);\n"
    "            const int cols = min($COLUMNS, n_n - panel * $COLUMNS);\n"
    "            for (int t = 0; t < n_t; t++) {\n"
    "                const int at = first + t, image = at / (tiles_x * tiles_y);\n"
    "                const int y = at / tiles_x % tiles_y * 4, x = at % tiles_x * 4;\n"
    "                results(m + t * $COLUMNS, step_m, tile);\n"
    "                const int y1 = min(4, oh - y), x1 = min(4, ow - x);\n"
    "                for (int yy = 0; yy < y1; yy++)\n"
    "                    #pragma nounroll\n"
    "                    for (int xx = 0; xx < x1; xx++) {\n"
    "                        const int i = yy * 4 + xx;\n"
    "                        const size_t o = (((size_t)image * oh + y + yy) * ow + x + xx) * n_n + panel * $COLUMNS;\n"
    "$OUT"
    "                    }\n"
    "            }\n"
    "        }\n"
    "    }\n"
    "    leave_slot(slots, slot);\n"
    "}\n";

static const char grad_text[] =
    "static __attribute__((noinline)) void product(global const float *a, const int step_a, global const float *b,\n"
    "                                              const int step_b, const int n_k, global float *acc,\n"
    "                                              const int acc_stride)\n"
    "{\n"
    "$LOAD"
    "    for (int k = 0; k < n_k; k++) {\n"
    "$STEP"
    "        a += step_a;\n"
    "        b += step_b;\n"
    "    }\n"
    "$STORE"
    "}\n"
    "kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"
    "void winograd_grad(PIPE_BUF(float, vx), PIPE_BUF(float, vy), PIPE_BUF(float, work), PIPE_BUF(float, part),\n"
    "                   PIPE_BUF(float, slots), const int tiles, const int share, const int block, const int tiles_y,\n"
    "                   const int tiles_x, const int h, const int w, const int ci, const int oh, const int ow,\n"
    "                   const int co, const int pad_y, const int pad_x, const int rows, const int cols,\n"
    "                   const int row_stride, const int step_v, const int step_u, const int step_m, const int n_work,\n"
    "                   const int n_slots)\n"
    "{\n"
    "    PIPE_BIND(float, vx); PIPE_BIND(float, vy); PIPE_BIND(float, work); PIPE_BIND(float, part);\n"
    "    PIPE_BIND(float, slots);\n"
    "    const int slot = take_slot((volatile global int *)slots, n_slots);\n"
    "    const int t0 = (int)get_group_id(0) * share, t1 = min(t0 + share, tiles);\n"
    "    const int own_c = (int)get_group_id(1) * rows, own_o = (int)get_group_id(2) * cols;\n"
    "    const int c0 = min(own_c, ci - $WIDTH), n_c = min(rows, ci - c0);\n"      /* a vector at least */
    "    const int o0 = min(own_o, co - $WIDTH), n_o = min(cols, co - o0);\n"
    "    const int tall = (n_c + $ROWS - 1) / $ROWS * $ROWS;\n"
    "    const int wide = (n_o + $COLUMNS - 1) / $COLUMNS * $COLUMNS;\n"
    "    global float *zero = work + (size_t)slot * n_work;\n"
    "    global float *acc = zero + $ZEROS, *u = acc + (size_t)36 * step_m, *v = u + (size_t)36 * step_u;\n"
    "    for (size_t i = 0; i < $ZEROS + (size_t)36 * (step_m + step_u); i += $WIDTH)\n"
    "        vstore$WIDTH(($V)(0.0f), 0, zero + i);\n"
    "    for (int first = t0; first < t1; first += block) {\n"
    "        const int n_t = min(block, t1 - first);\n"
    "        for (int t = 0; t < n_t; t++) {\n"
    "            const int at = first + t, image = at / (tiles_x * tiles_y);\n"
    "            const int y = at / tiles_x % tiles_y * 4, x = at % tiles_x * 4;\n"
    "            patch(vx + (size_t)image * h * w * ci + c0, ci, y - pad_y, x - pad_x, h, w, n_c, zero, v + t * n_c,\n"
    "                  step_v);\n"
    "            patch_y(vy + (size_t)image * oh * ow * co + o0, co, y, x, oh, ow, n_o, zero, u + t * wide,\n"
    "                    step_u);\n"
    "        }\n"
    "        for (int p = 0; p < 36; p++)\n"
    "            for (int o = 0; o < wide; o += $COLUMNS)\n"
    "                for (int c = 0; c < tall; c += $ROWS)\n"
    "                    product(v + (size_t)p * step_v + c, n_c, u + (size_t)p * step_u + o, wide, n_t,\n"
    "                            acc + (size_t)p * step_m + c * wide + o, wide);\n"
    "    }\n"
    "    const int step = step_m;\n"
    "    for (int c = own_c - c0; c < n_c; c++)\n"
    "        for (int o = own_o - o0; o < n_o; o += $WIDTH) {\n"
    "            global const float *m = acc + (size_t)c * wide + o;\n"
    "            global float *g = part + ((size_t)get_group_id(0) * 9 * ci + c0 + c) * row_stride + o0 + o;\n"
    "            $V d[18], e0, e1, e2;\n"
    "$DOWN"
    "$ACROSS"
    "        }\n"
    "    leave_slot((volatile global int *)slots, slot);\n"
    "}\n";

/* ---- writing the texts ---- */
/* Both axes of a transform of from x from to to x to elements, first down the columns into
 * the array d, then across its rows.  Element k is read as load(k) and written as
 * store(k, value): macros. */
static void emit_transform(pipe_text *down, pipe_text *across, const char *name, int from, int to, const char *load,
                           const char *store)
{
    for (int j = 0; j < from; j++) {
        pipe_text_addf(down, "        %s(", name);
        for (int i = 0; i < to; i++)
            pipe_text_addf(down, "d[%d], ", i * from + j);
        for (int i = 0; i < from; i++)
            pipe_text_addf(down, "%s(%d)%s", load, i * from + j, i + 1 < from ? ", " : ")\n");
    }
    for (int i = 0; i < to; i++) {
        pipe_text_addf(across, "        %s(", name);
        for (int j = 0; j < to; j++)
            pipe_text_addf(across, "e%d, ", j);
        for (int j = 0; j < from; j++)
            pipe_text_addf(across, "d[%d]%s", i * from + j, j + 1 < from ? ", " : ")\n");
        pipe_text_add(across, "        ");
        for (int j = 0; j < to; j++)
            pipe_text_addf(across, "%s(%d, e%d);%s", store, i * to + j, j, j + 1 < to ? " " : "\n");
    }
}

/* `text` with DOWN and ACROSS of one transform among the words; more words may be set before. */
static void emit_with(pipe_text *s, const char *text, pipei_tile_words *w, const char *name, int from, int to,
                      const char *load, const char *store)
{
    const size_t n = w->n;
    PIPE_CLEANUP(pipe_text_free) pipe_text down = {0}, across = {0};
    emit_transform(&down, &across, name, from, to, load, store);
    pipei_tile_words_text(w, "DOWN", down.data);
    pipei_tile_words_text(w, "ACROSS", across.data);
    pipei_emit(s, text, w->word);
    w->n = n;
    w->word[n] = (pipei_word){0};
}

static void emit_patch(pipe_text *s, pipei_tile_words *w, const char *function, const char *name, int side)
{
    const size_t n = w->n;
    pipei_tile_words_text(w, "NAME", function);
    pipei_tile_words_number(w, "SIDE", side);
    emit_with(s, patch_text, w, name, side, IN, "CHANNELS", "PUT_CHANNELS");
    w->n = n;
    w->word[n] = (pipei_word){0};
}

/* ---- lowering ---- */
/* Which pixels of `in` [n, h, w, k] give which of `out` [n, oh, ow, cols], and where element
 * (tap, k, column) of the weight is. */
typedef struct images {
    int64_t n, h, w, k, oh, ow, cols, pad_y, pad_x;
    int64_t first, tap_stride, k_stride, n_stride;
} images;

/* Distances between positions are odd numbers of cache lines: 36 even ones would share a
 * few sets of the level 1 cache. */
static int64_t odd(int64_t n) { return (n + 15) / 32 * 32 + 16; }
static int64_t tiles_along(int64_t size) { return pipei_ceil_div(size, OUT); }

static void words_make(pipei_tile_words *w, pipe_text *s, pipei_tile tile, const char *row_format)
{
    pipei_tile_words_make(w, tile, row_format);
    pipei_emit(s, transforms_text, w->word);
    pipei_emit(s, access_text, w->word);
    pipei_emit(s, slot_text, w->word);
}

static int64_t n_slots(const pipe_device_profile *p) { return (int64_t)pipei_max(1, p->compute_units); }

static void launch_ints(pipe_launch *launch, size_t n, const int64_t *ints)
{
    for (size_t i = 0; i < n; i++)
        pipei_launch_int(launch, ints[i]);
}

/* [panel][36][k][columns], positions `step` apart; behind them zeros: the channels of a pixel
 * outside of the image, and the slots, which are zero again after each use. */
static uint32_t lower_weights(pipe_lowering *l, const images *g, pipei_tile tile, int64_t step)
{
    const int64_t panels = pipei_ceil_div(g->cols, tile.columns), n_zero = g->k + n_slots(pipe_lower_profile(l));
    const uint32_t scratch = pipei_lower_derived(l, 1, (size_t)(panels * POSITIONS * step + n_zero));
    pipei_tile_words w;
    pipe_text s = {0};
    words_make(&w, &s, tile, "a%u");
    emit_with(&s, weights_text, &w, "WEIGHT", 3, IN, "TAPS", "PUT_TAPS");
    pipei_tile_words_free(&w);

    pipe_launch launch = {
        .kernel = "winograd_weights", .dims = 2, .local = {1, 1},
        .global = {(size_t)pipei_ceil_div(g->k, 8), (size_t)panels},
    };
    pipei_launch_buffer(&launch, PIPE_ARG_INPUT, 1);
    pipei_launch_buffer(&launch, PIPE_ARG_SCRATCH, scratch);
    launch_ints(&launch, 8, (int64_t[]){
        g->k, g->cols, g->first, g->tap_stride, g->k_stride, g->n_stride, step, n_zero});
    pipei_launch_derive(l, &launch, &s, scratch);
    return scratch;
}

/* The height of a tile that leaves the fewest rows of the last one unused. */
static uint32_t fit_rows(int64_t n, uint32_t most)
{
    uint32_t best = most;
    for (uint32_t r = most; r > most / 2; r--)
        if (pipei_ceil_div(n, r) * r < pipei_ceil_div(n, best) * best)
            best = r;
    return best;
}

static void emit_forward(pipe_text *s, pipei_tile tile)
{
    pipei_tile_words w;
    pipe_text point = {0};
    for (uint32_t i = 0; i < tile.rows; i++)
        pipe_text_addf(&point, "    global const float *a%u = a + %u * row_a;\n", i, i);
    words_make(&w, s, tile, "a%u[k]");
    pipei_tile_words_text(&w, "POINT", point.data);
    emit_patch(s, &w, "patch", "INPUT", IN);
    emit_with(s, forward_text, &w, "OUTPUT", IN, OUT, "PRODUCTS", "PUT_RESULTS");
    pipei_tile_words_free(&w);
    pipe_text_free(&point);
}

static void lower_images(pipe_lowering *l, const images *g)
{
    const pipe_device_profile *p = pipe_lower_profile(l);
    const int64_t tiles_y = tiles_along(g->oh), tiles_x = tiles_along(g->ow), tiles = g->n * tiles_y * tiles_x;
    pipei_tile tile = pipei_tile_choose(p, g->cols);
    if (tiles < 4 * tile.rows)
        tile.rows = fit_rows(tiles, tile.rows);

    /* What the stages hand on fits into a quarter of the level 2 cache; weights stream through the rest. */
    const int64_t cores = n_slots(p), panels = pipei_ceil_div(g->cols, tile.columns);
    const int64_t strip_bytes = POSITIONS * (g->k + tile.columns) * 4 * tile.rows;
    const int64_t strips = pipei_max(1, pipei_min(4, (int64_t)p->cache_bytes / 4 / strip_bytes));
    const int64_t spread = pipei_max(1, tiles / (4 * cores * tile.rows));     /* four work-items per core at least */
    const int64_t block = pipei_min(strips, spread) * tile.rows, blocks = pipei_ceil_div(tiles, block);
    const int64_t share = pipei_max(1, blocks / (8 * cores)) * block, items = pipei_ceil_div(tiles, share);
    /* Few tiles (a batch of one): let the panels go to different cores too. */
    const int64_t panel_step = items < 2 * cores ? 1 : panels;
    const int64_t step_w = odd(g->k * tile.columns), step_v = odd(block * g->k), step_m = odd(block * tile.columns);
    const uint32_t packed = lower_weights(l, g, tile, step_w);
    const uint32_t work = pipe_lower_scratch(l, (size_t)(cores * POSITIONS * (step_v + step_m)));

    pipe_text s = {0};
    emit_forward(&s, tile);
    pipe_launch launch = {
        .kernel = "winograd", .dims = 2, .local = {1, 1},
        .global = {(size_t)items, (size_t)pipei_ceil_div(panels, panel_step)},
    };
    pipei_launch_buffer(&launch, PIPE_ARG_INPUT, 0);
    pipei_launch_buffer(&launch, PIPE_ARG_SCRATCH, packed);
    pipei_launch_buffer(&launch, PIPE_ARG_SCRATCH, work);
    pipei_launch_buffer(&launch, PIPE_ARG_OUTPUT, 0);
    launch_ints(&launch, 18, (int64_t[]){
        tiles, share, block, tiles_y, tiles_x, g->h, g->w, g->k, g->oh, g->ow, g->cols, g->pad_y, g->pad_x,
        panel_step, step_w, step_v, step_m, cores});
    pipei_launch_add(l, &launch, &s);
}

void pipei_lower_winograd(pipe_lowering *l, const pipei_conv_geometry *g)
{
    lower_images(l, &(images){
        .n = g->n, .h = g->h, .w = g->w, .k = g->ci, .oh = g->oh, .ow = g->ow, .cols = g->co,
        .pad_y = g->pad[0], .pad_x = g->pad[2], .tap_stride = g->ci * g->co, .k_stride = g->co, .n_stride = 1});
}

void pipei_lower_winograd_transpose(pipe_lowering *l, const pipei_conv_geometry *g)
{
    lower_images(l, &(images){
        .n = g->n, .h = g->oh, .w = g->ow, .k = g->co, .oh = g->h, .ow = g->w, .cols = g->ci,
        .pad_y = 2 - g->pad[0], .pad_x = 2 - g->pad[2], .first = 8 * g->ci * g->co, .tap_stride = -g->ci * g->co,
        .k_stride = 1, .n_stride = g->co});
}

static uint32_t lower_slots(pipe_lowering *l, int64_t n)
{
    const uint32_t slots = pipe_lower_scratch(l, (size_t)n);
    pipe_launch launch = {.kernel = "winograd_clear", .dims = 1, .local = {1}, .global = {1}};
    pipe_text s = {0};
    pipe_text_add(&s, clear_text);
    pipei_launch_buffer(&launch, PIPE_ARG_SCRATCH, slots);
    pipei_launch_int(&launch, n);
    pipei_launch_add(l, &launch, &s);
    return slots;
}

/* How the weight gradient is cut up. */
typedef struct grad {
    pipei_tile tile;
    int64_t rows, row_blocks, cols, col_blocks;        /* channels of x and of y that a work-item takes */
    int64_t tiles_y, tiles_x, tiles, share, block, parts;
    int64_t row_stride, step_v, step_u, step_m, n_zero, n_work;
} grad;

static grad cut_grad(const pipe_device_profile *p, const pipei_conv_geometry *g)
{
    grad c = {.tile = pipei_tile_choose(p, g->co), .tiles_y = tiles_along(g->oh), .tiles_x = tiles_along(g->ow)};
    c.tiles = g->n * c.tiles_y * c.tiles_x;
    c.row_blocks = pipei_ceil_div(g->ci, GRAD_CHANNELS);
    c.rows = pipei_ceil_div(g->ci, c.row_blocks);
    const int64_t panels = pipei_ceil_div(g->co, c.tile.columns);
    c.row_stride = panels * c.tile.columns;
    c.cols = pipei_ceil_div(panels, pipei_ceil_div(c.row_stride, GRAD_CHANNELS)) * c.tile.columns;
    c.col_blocks = pipei_ceil_div(c.row_stride, c.cols);
    c.tile.rows = fit_rows(c.rows, c.tile.rows);

    /* Operands and sums of a work-item fit into three quarters of the level 2 cache. */
    const int64_t tall = pipei_ceil_div(c.rows, c.tile.rows) * c.tile.rows;
    const int64_t room = (int64_t)p->cache_bytes * 3 / 16 / POSITIONS - tall * c.cols;
    c.block = pipei_max(16, pipei_min(64, room / (c.rows + c.cols)));
    const int64_t even = pipei_ceil_div(pipei_ceil_div(c.tiles, c.block) * c.row_blocks * c.col_blocks, 8 * n_slots(p));
    c.share = pipei_max(pipei_ceil_div(GRAD_TILES, c.block), even) * c.block;
    c.parts = pipei_ceil_div(c.tiles, c.share);
    c.step_v = odd(c.block * c.rows);
    c.step_u = odd(c.block * c.cols);
    c.step_m = odd(tall * c.cols);
    c.n_zero = GRAD_CHANNELS;
    /* The last tile of rows reads on into what follows v. */
    c.n_work = odd(c.n_zero + POSITIONS * (c.step_v + c.step_u + c.step_m) + c.tile.rows);
    return c;
}

void pipei_lower_winograd_weight_grad(pipe_lowering *l, const pipei_conv_geometry *g)
{
    const int64_t cores = n_slots(pipe_lower_profile(l));
    const grad c = cut_grad(pipe_lower_profile(l), g);
    const uint32_t work = pipe_lower_scratch(l, (size_t)(cores * c.n_work)), slots = lower_slots(l, cores);
    const uint32_t partial = pipe_lower_scratch(l, (size_t)(c.parts * 9 * g->ci * c.row_stride));

    pipei_tile_words w;
    pipe_text s = {0};
    words_make(&w, &s, c.tile, "a[%u]");
    pipei_tile_words_number(&w, "ZEROS", c.n_zero);
    emit_patch(&s, &w, "patch", "INPUT", IN);
    emit_patch(&s, &w, "patch_y", "RESULT", OUT);
    emit_with(&s, grad_text, &w, "WEIGHT_GRAD", IN, 3, "PRODUCTS", "PUT_GRAD");
    pipei_tile_words_free(&w);

    pipe_launch launch = {
        .kernel = "winograd_grad", .dims = 3, .local = {1, 1, 1},
        .global = {(size_t)c.parts, (size_t)c.row_blocks, (size_t)c.col_blocks},
    };
    pipei_launch_buffer(&launch, PIPE_ARG_INPUT, 0);
    pipei_launch_buffer(&launch, PIPE_ARG_INPUT, 1);
    pipei_launch_buffer(&launch, PIPE_ARG_SCRATCH, work);
    pipei_launch_buffer(&launch, PIPE_ARG_SCRATCH, partial);
    pipei_launch_buffer(&launch, PIPE_ARG_SCRATCH, slots);
    launch_ints(&launch, 21, (int64_t[]){
        c.tiles, c.share, c.block, c.tiles_y, c.tiles_x, g->h, g->w, g->ci, g->oh, g->ow, g->co, g->pad[0], g->pad[2],
        c.rows, c.cols, c.row_stride, c.step_v, c.step_u, c.step_m, c.n_work, cores});
    pipei_launch_add(l, &launch, &s);

    const pipei_sum_parts sum = {
        .parts = c.parts, .groups = 1, .taps = 9, .rows = g->ci, .columns = g->co, .stride = c.row_stride,
        .tap_step = g->ci * g->co, .row_step = g->co, .column_step = 1,
    };
    pipei_lower_sum_parts(l, &sum, partial);
}

/* Measured on two AVX-512 cores, ms of CPU time, direct / Winograd:
 *                          forward        input gradient   weight gradient
 *     64 x 28 x 28, 32 -> 32   7.8 / 4.3       7.8 / 4.4        7.0 / 4.4
 *     64 x 14 x 14, 64 -> 64   7.6 / 3.8       7.9 / 3.9        7.9 / 4.8
 *     64 x 7 x 7,   64 -> 64   1.9 / 1.0       2.0 / 1.0        1.9 / 1.2
 *     1 x 28 x 28,  32 -> 32   .12 / .08       .12 / .08        .12 / .08
 *     1 x 7 x 7,    64 -> 64   .05 / .06       .07 / .10        .05 / .10
 * Below, the transform of the weights is not won back. */
bool pipei_winograd_pays(const pipe_device_profile *p, const pipei_conv_geometry *g)
{
    const int64_t width = pipei_tile_choose(p, INT64_MAX).width;
    return g->kh == 3 && g->kw == 3 && g->groups == 1 && g->stride[0] == 1 && g->stride[1] == 1 &&
           g->dilation[0] == 1 && g->dilation[1] == 1 && g->ci >= width && g->co >= width &&
           g->n * g->oh * g->ow >= FEWEST_PIXELS;
}
