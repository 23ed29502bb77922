/* Convolution kernels for CPUs.
 *
 * Forward and input gradient are one kernel, a sum over taps:
 *
 *     out[n, y * osy + ory, x * osx + orx] +=
 *         in[n, y * isy + dy(t), x * isx + dx(t), :] . weight[t]         for all taps t
 *
 * Forward: o-strides 1, i-strides the convolution's, dy = ky * dilation - pad.
 * Input gradient: i-strides 1, one launch per residue (ory, orx) of the input
 * pixel modulo the stride, with those taps alone that reach it.
 *
 * A tile is `rows` consecutive pixels (across rows and images, so that a width
 * of 7 wastes nothing) by one panel of output channels.  Each pixel has a
 * pointer of its own; per tap it is moved, or set to a row of zeros where the tap
 * falls outside the image.  That costs a few instructions per pixel and tap,
 * against rows * vectors fma per input channel, and spares a padded copy of the
 * input, which at 32 channels took a fifth of the convolution's time.
 *
 * The weight gradient keeps a tile of input channels by output channels and
 * runs over pixels.  A work-item owns a share of the images; in it, bands of
 * rows small enough for the level 1 cache are visited by all tiles in turn,
 * which reload their accumulators from the work-item's partial sum.  A second
 * launch adds the partial sums in a fixed order. */
#include "core/tensor/ops/conv.h"

#include <stdio.h>

/* Output pixels that all tiles of the weight gradient visit before the next ones. */
#define WEIGHT_BLOCK 112

/* ---- forward and input gradient ---- */
typedef struct taps {
    int64_t n, h, w, ci, k;            /* the image read; k channels of it per group */
    int64_t oh, ow, co, cols;          /* the image written; cols channels of it per group */
    int64_t gh, gw;                    /* the grid of pixels */
    int64_t is[2], os[2], or[2];
    int64_t taps[2], d0[2], dd[2];     /* tap j of an axis is displaced by d0 + j * dd */
    int64_t w0[2], ws[2];              /* and is number w0 + j * ws of the weight */
    int64_t kw, groups;
} taps;

/* Everything but the tile is a run-time argument: all convolutions share few kernels.  The
 * tile has a function of its own: PoCL makes three copies of a kernel's body, and compiles
 * each. */
static const char taps_text[] =
    "static __attribute__((noinline)) void conv_tile(float *tile, global const float *image, global const float *zero,\n"
    "    global const float *weights, const int m, const int m1, const int gh, const int gw, const int h, const int w,\n"
    "    const int ci, const int n_k, const int is_y, const int is_x, const int taps_y, const int taps_x, const int dy0,\n"
    "    const int dx0, const int ddy, const int ddx, const int w_y, const int w_x, const int b_step)\n"
    "{\n"
    "    int xx = m % gw, yy = m / gw % gh, nn = m / gw / gh;\n"
    "$PLACE"
    "$ZERO"
    "    for (int jy = 0; jy < taps_y; jy++)\n"
    "        for (int jx = 0; jx < taps_x; jx++) {\n"
    "            const int dy = dy0 + jy * ddy, dx = dx0 + jx * ddx;\n"
    "            const int d = (dy * w + dx) * ci;\n"
    "            global const float *b = weights + jy * w_y + jx * w_x;\n"
    "$POINT"
    "            for (int k = 0; k < n_k; k += $KSTEP) {\n"
    "$STEP"
    "                b += $BSTEP;\n"
    "            }\n"
    "        }\n"
    "$SPILL"
    "}\n"
    "kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"
    "void conv(PIPE_BUF(float, in), PIPE_BUF(float, packed), PIPE_BUF(float, out), const int pixels, const int chunk,\n"
    "          const int gh, const int gw, const int h, const int w, const int ci, const int n_k, const int is_y,\n"
    "          const int is_x, const int out_image, const int out_row, const int out_pixel, const int out_first,\n"
    "          const int group_cols, const int panels, const int panel_step, const int panel_size, const int zero_at,\n"
    "          const int taps_y, const int taps_x, const int dy0, const int dx0, const int ddy, const int ddx,\n"
    "          const int w_first, const int w_y, const int w_x, const int b_step)\n"
    "{\n"
    "    PIPE_BIND(float, in); PIPE_BIND(float, packed); PIPE_BIND(float, out);\n"
    "    global const float *zero = packed + zero_at;\n"
    "    const int m0 = (int)get_group_id(0) * chunk, m1 = min(m0 + chunk, pixels);\n"
    "    const int group = (int)get_group_id(2);\n"
    "    const int p0 = (int)get_group_id(1) * panel_step, p1 = min(p0 + panel_step, panels);\n"
    "    global const float *image = in + group * n_k;\n"
    "    float tile[$SIZE];\n"
    "    for (int panel = p0; panel < p1; panel++) {\n"
    "        global const float *weights = packed + ((size_t)group * panels + panel) * panel_size + w_first;\n"
    "        const int cols = min($COLUMNS, group_cols - panel * $COLUMNS);\n"
    "        for (int m = m0; m < m1; m += $ROWS) {\n"
    "            conv_tile(tile, image, zero, weights, m, m1, gh, gw, h, w, ci, n_k, is_y, is_x, taps_y, taps_x, dy0, dx0,\n"
    "                      ddy, ddx, w_y, w_x, b_step);\n"
    "            int sx = m % gw, sy = m / gw % gh, sn = m / gw / gh;\n"
    "            const int rows = min($ROWS, m1 - m);\n"
    "            #pragma nounroll\n"
    "            for (int i = 0; i < rows; i++) {\n"
    "                const size_t o = (size_t)sn * out_image + (size_t)sy * out_row + (size_t)sx * out_pixel +\n"
    "                                 out_first + group * group_cols + panel * $COLUMNS;\n"
    "$OUT"
    "                if (++sx == gw) { sx = 0; if (++sy == gh) { sy = 0; sn++; } }\n"
    "            }\n"
    "        }\n"
    "    }\n"
    "}\n";

/* Where a pixel has fewer results than a vector lanes, the lanes run over the input's
 * channels instead and are summed at the end: one sum per pixel and result. */
enum { NARROW_COLUMNS = 4, NARROW_ROWS = 8 };

static bool is_narrow(const pipe_device_profile *p, int64_t cols, int64_t k)
{
    const int64_t width = pipei_tile_choose(p, 1).width;
    return cols <= NARROW_COLUMNS && 2 * cols <= width && k % width == 0;
}

static const char sum_text[] =
    "static float sum_lanes(const float$WIDTH v)\n"
    "{\n"
    "$HALVES"
    "    return a.x + a.y;\n"
    "}\n";
static const char halves_16[] =
    "    const float8 c = v.lo + v.hi; const float4 b = c.lo + c.hi; const float2 a = b.lo + b.hi;\n";
static const char halves_8[] = "    const float4 b = v.lo + v.hi; const float2 a = b.lo + b.hi;\n";
static const char halves_4[] = "    const float2 a = v.lo + v.hi;\n";

typedef struct narrow {
    pipe_text zero, step, spill, out;
} narrow;

static void narrow_free(narrow *n)
{
    pipe_text_free(&n->zero);
    pipe_text_free(&n->step);
    pipe_text_free(&n->spill);
    pipe_text_free(&n->out);
}

/* The words of taps_text. */
static void narrow_words(pipei_tile_words *w, narrow *n, pipei_tile t)
{
    pipe_text_addf(&n->out, "for (int j = 0; j < cols; j++)\n"
                            "    out[o + j] = PIPE_EPILOGUE1(tile[i * %u + j], o + j);\n", t.columns);
    for (uint32_t j = 0; j < t.columns; j++)
        pipe_text_addf(&n->step, "const float%u b%u = vload%u(%u, b);\n", t.width, j, t.width, j);
    for (uint32_t i = 0; i < t.rows; i++) {
        pipe_text_addf(&n->step, "{ const float%u v = vload%u(0, a%u + k);", t.width, t.width, i);
        for (uint32_t j = 0; j < t.columns; j++) {
            pipe_text_addf(&n->zero, "float%u c%u_%u = (float%u)(0.0f);\n", t.width, i, j, t.width);
            pipe_text_addf(&n->step, " c%u_%u = fma(v, b%u, c%u_%u);", i, j, j, i, j);
            pipe_text_addf(&n->spill, "tile[%u] = sum_lanes(c%u_%u);\n", i * t.columns + j, i, j);
        }
        pipe_text_add(&n->step, " }\n");
    }
    pipei_tile_words_text(w, "ZERO", n->zero.data);
    pipei_tile_words_text(w, "STEP", n->step.data);
    pipei_tile_words_text(w, "SPILL", n->spill.data);
    pipei_tile_words_text(w, "OUT", n->out.data);
    pipei_tile_words_number(w, "ROWS", t.rows);
    pipei_tile_words_number(w, "COLUMNS", t.columns);
    pipei_tile_words_number(w, "SIZE", t.rows * t.columns);
    pipei_tile_words_number(w, "KSTEP", t.width);
    pipei_tile_words_text(w, "BSTEP", "b_step");
}

static int64_t pick_chunk(const pipe_device_profile *p, int64_t pixels, int64_t rows, int64_t others)
{
    /* About 8 work-items per core, of at most 48 tiles. */
    const int64_t tiles = pipei_ceil_div(pixels, rows);
    const int64_t wanted = pipei_ceil_div(8 * (int64_t)pipei_max(p->compute_units, 1), others);
    return pipei_max(1, pipei_min(48, tiles / wanted)) * rows;
}

/* Packed weights, and how the kernel walks through them. */
typedef struct weights {
    pipei_tile tile;
    bool narrow;
    uint32_t scratch;
    int64_t zero_at, panel_size, tap_step;
    int64_t b_step;              /* narrow: from one vector of channels to the next */
} weights;

/* `how`: k as the channels that are summed, n as those of the result. */
static weights pack_weights(pipe_lowering *l, pipei_pack how)
{
    const pipe_device_profile *p = pipe_lower_profile(l);
    weights w = {.tile = pipei_tile_choose(p, how.n), .narrow = is_narrow(p, how.n, how.k)};
    pipei_tile tile = w.tile;
    w.panel_size = how.taps * how.k * tile.columns;
    w.tap_step = how.k * tile.columns;
    w.b_step = tile.columns;
    if (w.narrow) {
        const uint32_t width = tile.width, n = (uint32_t)how.n;
        w.tile = (pipei_tile){.rows = NARROW_ROWS, .vectors = n, .width = width, .columns = n};
        w.panel_size = how.taps * how.k * n;
        w.tap_step = n * width;
        w.b_step = how.taps * n * width;
        tile = (pipei_tile){.rows = 1, .vectors = 1, .width = width, .columns = width};
        const pipei_pack turned = {
            .kept = true, .batch = how.batch, .taps = how.taps, .k = how.n, .n = how.k,
            .batch_stride = how.batch_stride, .tap_stride = how.tap_stride, .k_stride = how.n_stride, .n_stride = how.k_stride};
        how = turned;
    }
    w.zero_at = pipei_pack_count(&how, tile);
    w.scratch = pipei_lower_pack(l, &how, tile, 1);
    return w;
}

static void emit_taps(pipe_text *s, const weights *of)
{
    const pipei_tile tile = of->tile;
    pipe_text place = {0}, point = {0};
    for (uint32_t i = 0; i < tile.rows; i++) {
        pipe_text_addf(&place,
                       "    const int y%u = yy * is_y, x%u = xx * is_x;\n"
                       "    const long at%u = (((long)nn * h + y%u) * w + x%u) * ci;\n"
                       "    if (m + %u < m1 && ++xx == gw) { xx = 0; if (++yy == gh) { yy = 0; nn++; } }\n",
                       i, i, i, i, i, i + 1);
        pipe_text_addf(&point,
                       "                    global const float *a%u = (uint)(y%u + dy) < (uint)h && "
                       "(uint)(x%u + dx) < (uint)w ? image + (at%u + d) : zero;\n",
                       i, i, i, i);
    }
    pipei_tile_words w = {0};
    narrow n = {0};
    if (of->narrow) {
        narrow_words(&w, &n, tile);
        const char *halves = tile.width == 16 ? halves_16 : tile.width == 8 ? halves_8 : halves_4;
        pipei_emit(s, sum_text, (const pipei_word[]){
            {.name = "WIDTH", .number = tile.width}, {.name = "HALVES", .text = halves}, {0}});
    } else {
        pipei_tile_words_make(&w, tile, "a%u[k]");
        pipei_tile_words_number(&w, "KSTEP", 1);
        pipei_tile_words_number(&w, "BSTEP", tile.columns);
    }
    pipei_tile_words_text(&w, "PLACE", place.data);
    pipei_tile_words_text(&w, "POINT", point.data);
    pipei_emit(s, taps_text, w.word);
    pipei_tile_words_free(&w);
    narrow_free(&n);
    pipe_text_free(&place);
    pipe_text_free(&point);
}

static void lower_taps(pipe_lowering *l, const taps *t, const weights *w)
{
    const pipe_device_profile *p = pipe_lower_profile(l);
    const int64_t pixels = t->n * t->gh * t->gw;
    if (pixels == 0)
        return;
    const pipei_tile tile = w->tile;
    pipe_text s = {0};
    emit_taps(&s, w);

    const int64_t panels = pipei_ceil_div(t->cols, tile.columns);
    const int64_t tiles = pipei_ceil_div(pixels, tile.rows);
    /* Few pixels (a batch of one): let the panels go to different cores too. */
    const int64_t panel_step = tiles * t->groups < 16 * (int64_t)p->compute_units ? 1 : panels;
    const int64_t chunk = pick_chunk(p, pixels, tile.rows, t->groups * pipei_ceil_div(panels, panel_step));
    pipe_launch launch = {
        .kernel = "conv", .dims = 3, .local = {1, 1, 1},
        .global = {(size_t)pipei_ceil_div(pixels, chunk), (size_t)pipei_ceil_div(panels, panel_step), (size_t)t->groups},
    };
    pipei_launch_buffer(&launch, PIPE_ARG_INPUT, 0);
    pipei_launch_buffer(&launch, PIPE_ARG_SCRATCH, w->scratch);
    pipei_launch_buffer(&launch, PIPE_ARG_OUTPUT, 0);
    const int64_t ints[] = {
        pixels, chunk, t->gh, t->gw, t->h, t->w, t->ci, t->k, t->is[0], t->is[1],
        t->oh * t->ow * t->co, t->os[0] * t->ow * t->co, t->os[1] * t->co, (t->or[0] * t->ow + t->or[1]) * t->co,
        t->cols, panels, panel_step, w->panel_size, w->zero_at, t->taps[0], t->taps[1], t->d0[0], t->d0[1], t->dd[0],
        t->dd[1], (t->w0[0] * t->kw + t->w0[1]) * w->tap_step, t->ws[0] * t->kw * w->tap_step, t->ws[1] * w->tap_step,
        w->b_step};
    for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]); i++)
        pipei_launch_int(&launch, ints[i]);
    pipei_launch_add(l, &launch, &s);
}

static void lower_forward(pipe_lowering *l, const pipei_conv_geometry *g)
{
    const weights w = pack_weights(l, (pipei_pack){
        .kept = true, .batch = g->groups, .taps = g->kh * g->kw, .k = g->cig, .n = g->cog,
        .batch_stride = g->cog, .tap_stride = g->cig * g->co, .k_stride = g->co, .n_stride = 1});
    const taps t = {
        .n = g->n, .h = g->h, .w = g->w, .ci = g->ci, .k = g->cig,
        .oh = g->oh, .ow = g->ow, .co = g->co, .cols = g->cog, .gh = g->oh, .gw = g->ow,
        .is = {g->stride[0], g->stride[1]}, .os = {1, 1},
        .taps = {g->kh, g->kw}, .d0 = {-g->pad[0], -g->pad[2]}, .dd = {g->dilation[0], g->dilation[1]},
        .ws = {1, 1}, .kw = g->kw, .groups = g->groups,
    };
    lower_taps(l, &t, &w);
}

/* One axis of the input gradient: which taps reach input positions congruent to r
 * modulo the stride.  r + pad - k * dilation = stride * y needs k in one residue
 * class modulo stride / gcd(stride, dilation), or none. */
static void reach(const pipei_conv_geometry *g, int axis, int64_t r, taps *t)
{
    const int64_t s = g->stride[axis], d = g->dilation[axis], pad = g->pad[2 * axis], k = axis ? g->kw : g->kh;
    int64_t first = -1, second = -1, count = 0;
    for (int64_t j = 0; j < k; j++) {
        if ((r + pad - j * d) % s != 0)
            continue;
        if (first < 0)
            first = j;
        else if (second < 0)
            second = j;
        count++;
    }
    const int64_t step = second < 0 ? 1 : second - first;
    t->taps[axis] = count;
    t->w0[axis] = count ? first : 0;
    t->ws[axis] = step;
    t->d0[axis] = count ? (r + pad - first * d) / s : 0;
    t->dd[axis] = count > 1 ? -(step * d) / s : 0;
    t->or[axis] = r;
    t->os[axis] = s;
    t->is[axis] = 1;
}

static void lower_transpose(pipe_lowering *l, const pipei_conv_geometry *g)
{
    const weights w = pack_weights(l, (pipei_pack){
        .kept = true, .batch = g->groups, .taps = g->kh * g->kw, .k = g->cog, .n = g->cig,
        .batch_stride = g->cog, .tap_stride = g->cig * g->co, .k_stride = 1, .n_stride = g->co});
    for (int64_t ry = 0; ry < pipei_min(g->stride[0], g->h); ry++)
        for (int64_t rx = 0; rx < pipei_min(g->stride[1], g->w); rx++) {
            taps t = {
                .n = g->n, .h = g->oh, .w = g->ow, .ci = g->co, .k = g->cog,
                .oh = g->h, .ow = g->w, .co = g->ci, .cols = g->cig,
                .gh = pipei_ceil_div(g->h - ry, g->stride[0]), .gw = pipei_ceil_div(g->w - rx, g->stride[1]),
                .kw = g->kw, .groups = g->groups,
            };
            reach(g, 0, ry, &t);
            reach(g, 1, rx, &t);
            lower_taps(l, &t, &w);
        }
}

/* ---- weight gradient ---- */
/* One operand runs along the rows of the tile (a), the other along its vectors (b):
 * usually x and y; the other way round where y has too few channels for a vector. */
static const char weight_text[] =
    "$FUNCTIONS"
    "kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"
    "void conv_weight(PIPE_BUF(float, va), PIPE_BUF(float, vb), PIPE_BUF(float, part), const int units, const int share,\n"
    "                 const int block, const int h, const int w, const int oh, const int ow, const int n_rows,\n"
    "                 const int row_stride, const int pad_y, const int pad_x, const int pixel_a, const int group_a,\n"
    "                 const int pixel_b, const int group_b, const int panel_b)\n"
    "{\n"
    "    PIPE_BIND(float, va); PIPE_BIND(float, vb); PIPE_BIND(float, part);\n"
    "    const int group = (int)get_group_id(1), groups = (int)get_num_groups(1);\n"
    "    const int u0 = (int)get_group_id(0) * share, u1 = min(u0 + share, units);\n"
    "    const size_t size = (size_t)$KH * $KW * n_rows * row_stride;\n"
    "    global float *sum = part + ((size_t)get_group_id(0) * groups + group) * size;\n"
    "    for (size_t i = 0; i < size; i++)\n"
    "        sum[i] = 0.0f;\n"
    "    for (int v0 = u0; v0 < u1; v0 += block) {\n"
    "        const int v1 = min(v0 + block, u1);\n"
    "        for (int tap = 0; tap < $KH * $KW; tap++) {\n"
    "            const int sy = tap / $KW * $DY - pad_y, sx = tap % $KW * $DX - pad_x;\n"   /* input = output * stride + s */
    "            const int x0 = sx < 0 ? (-sx + $SX - 1) / $SX : 0;\n"
    "            const int x1 = w - 1 - sx < 0 ? 0 : min(ow, (w - 1 - sx) / $SX + 1);\n"
    "            for (int col = 0; col < row_stride; col += $COLUMNS) {\n"
    "                global const float *pa = va + (size_t)group * group_a;\n"
    "                global const float *pb = vb + (size_t)group * group_b + (size_t)(col / $COLUMNS) * panel_b;\n"
    "$CALLS"
    "            }\n"
    "        }\n"
    "    }\n"
    "}\n";
/* A tile of one height, and the tiles of that height: in functions as above. */
static const char weight_function[] =
    "static __attribute__((noinline)) void weight_tile_$ROWS(global float *acc, const int acc_stride,\n"
    "    global const float *pa, const int pixel_a, global const float *pb, const int pixel_b, const int v0, const int v1,\n"
    "    const int h, const int w, const int oh, const int ow, const int x0, const int x1, const int sy, const int sx)\n"
    "{\n"
    "$LOAD"
    "    for (int v = v0; v < v1; v++) {\n"
    "        const int y = v % oh, n = v / oh, iy = y * $SY + sy;\n"
    "        if ((uint)iy >= (uint)h)\n"
    "            continue;\n"
    "        const size_t at_x = ((size_t)n * h + iy) * w + x0 * $SX + sx;\n"
    "        const size_t at_y = ((size_t)n * oh + y) * ow + x0;\n"
    "        global const float *a = pa + at_$A * pixel_a, *b = pb + at_$B * pixel_b;\n"
    "        for (int x = x0; x < x1; x++) {\n"
    "$STEP"
    "            a += pixel_a$ASTEP;\n"
    "            b += pixel_b$BSTEP;\n"
    "        }\n"
    "    }\n"
    "$STORE"
    "}\n";
static const char weight_call[] =
    "                for (int row = $FIRST; row < $LAST; row += $ROWS)\n"
    "                    weight_tile_$ROWS(sum + ((size_t)tap * n_rows + row) * row_stride + col, row_stride, pa + row,\n"
    "                                      pixel_a, pb, pixel_b, v0, v1, h, w, oh, ow, x0, x1, sy, sx);\n";

static void emit_weight_tiles(pipe_text *functions, pipe_text *calls, const pipei_conv_geometry *g, pipei_tile tile,
                              int64_t first, int64_t last, bool swap)
{
    if (first == last)
        return;
    pipei_tile_words w;
    pipei_tile_words_make(&w, tile, "a[%u]");
    pipei_tile_words_number(&w, "FIRST", first);
    pipei_tile_words_number(&w, "LAST", last);
    pipei_tile_words_number(&w, "SX", g->stride[1]);
    pipei_tile_words_number(&w, "SY", g->stride[0]);
    char step[32];
    snprintf(step, sizeof(step), " * %d", (int)g->stride[1]);
    pipei_tile_words_text(&w, "A", swap ? "y" : "x");
    pipei_tile_words_text(&w, "B", swap ? "x" : "y");
    pipei_tile_words_text(&w, "ASTEP", swap ? "" : step);
    pipei_tile_words_text(&w, "BSTEP", swap ? step : "");
    pipei_emit(functions, weight_function, w.word);
    pipei_emit(calls, weight_call, w.word);
    pipei_tile_words_free(&w);
}

static void lower_weight_grad(pipe_lowering *l, const pipei_conv_geometry *g)
{
    const pipe_device_profile *p = pipe_lower_profile(l);
    const pipei_tile wide = pipei_tile_choose(p, INT64_MAX);
    const bool swap = g->cog < wide.width && g->cig > g->cog;
    const int64_t n_rows = swap ? g->cog : g->cig, n_cols = swap ? g->cig : g->cog;
    pipei_tile tile = n_cols % wide.columns == 0 ? wide : pipei_tile_choose(p, n_cols % wide.width == 0 ? 1 : n_cols);

    /* Vectors that would end past the channels need a padded copy of that operand. */
    const int64_t pixels_x = g->n * g->h * g->w, pixels_y = g->n * g->oh * g->ow;
    const bool pad = n_cols % tile.columns != 0;
    const int64_t row_stride = pipei_ceil_div(n_cols, tile.columns) * tile.columns;
    int64_t pixel_b = swap ? g->ci : g->co, group_b = n_cols, panel_b = tile.columns;
    uint32_t packed = 0;
    if (pad) {
        const pipei_pack pack = {
            .batch = g->groups, .taps = 1, .k = swap ? pixels_x : pixels_y, .n = n_cols,
            .batch_stride = n_cols, .k_stride = pixel_b, .n_stride = 1, .no_zero_row = true,
        };
        packed = pipei_lower_pack(l, &pack, tile, swap ? 0 : 1);
        pixel_b = tile.columns;
        panel_b = pack.k * tile.columns;
        group_b = panel_b * pipei_pack_panels(&pack, tile);
    }

    /* Tiles of two heights at most, so that none is much lower than the best. */
    const int64_t tiles = pipei_max(1, pipei_ceil_div(n_rows, tile.rows)), low = n_rows / tiles, high = n_rows % tiles;
    pipe_text functions = {0}, calls = {0}, s = {0};
    pipei_tile part = tile;
    part.rows = (uint32_t)low + 1;
    emit_weight_tiles(&functions, &calls, g, part, 0, high * (low + 1), swap);
    part.rows = (uint32_t)low;
    emit_weight_tiles(&functions, &calls, g, part, high * (low + 1), n_rows, swap);

    const pipei_word words[] = {
        {.name = "KH", .number = g->kh}, {.name = "KW", .number = g->kw},
        {.name = "DY", .number = g->dilation[0]}, {.name = "DX", .number = g->dilation[1]},
        {.name = "SX", .number = g->stride[1]}, {.name = "COLUMNS", .number = tile.columns},
        {.name = "FUNCTIONS", .text = functions.data}, {.name = "CALLS", .text = calls.data}, {0}};
    pipei_emit(&s, weight_text, words);
    pipe_text_free(&functions);
    pipe_text_free(&calls);

    const int64_t units = g->n * g->oh;
    const int64_t block = pipei_max(1, (WEIGHT_BLOCK + g->ow / 2) / pipei_max(1, g->ow));
    const int64_t blocks = pipei_ceil_div(units, block);     /* 0 for an empty batch: then the sum is of no parts */
    const int64_t workers = pipei_max(1, pipei_min(blocks, 8 * (int64_t)pipei_max(1, p->compute_units)));
    const int64_t share = pipei_max(1, pipei_ceil_div(blocks, workers)) * block;
    const int64_t parts = pipei_ceil_div(units, share);
    const uint32_t partial =
        pipe_lower_scratch(l, (size_t)(parts * g->groups * g->kh * g->kw * n_rows * row_stride));
    pipe_launch launch = {
        .kernel = "conv_weight", .dims = 2, .local = {1, 1}, .global = {(size_t)parts, (size_t)g->groups},
    };
    pipei_launch_buffer(&launch, PIPE_ARG_INPUT, swap ? 1 : 0);
    pipei_launch_buffer(&launch, pad ? PIPE_ARG_SCRATCH : PIPE_ARG_INPUT, pad ? packed : swap ? 0 : 1);
    pipei_launch_buffer(&launch, PIPE_ARG_SCRATCH, partial);
    const int64_t ints[] = {units, share, block, g->h, g->w, g->oh, g->ow, n_rows, row_stride, g->pad[0], g->pad[2],
                            swap ? g->co : g->ci, n_rows, pixel_b, group_b, panel_b};
    for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]); i++)
        pipei_launch_int(&launch, ints[i]);
    pipei_launch_add(l, &launch, &s);

    const pipei_sum_parts sum = {
        .parts = parts, .groups = g->groups, .taps = g->kh * g->kw, .rows = n_rows, .columns = n_cols,
        .stride = row_stride, .group_step = g->cog, .tap_step = g->cig * g->co,
        .row_step = swap ? 1 : g->co, .column_step = swap ? g->co : 1,
    };
    pipei_lower_sum_parts(l, &sum, partial);
}

/* ---- which kernel ---- */
/* A 1 x 1 convolution that skips nothing is a matrix product over all pixels. */
static bool is_product(const pipei_conv_geometry *g)
{
    return g->kh == 1 && g->kw == 1 && g->groups == 1 && g->stride[0] == 1 && g->stride[1] == 1 && !g->pad[0] &&
           !g->pad[1] && !g->pad[2] && !g->pad[3];
}

void pipei_lower_conv(pipe_lowering *l, const pipei_conv_geometry *g)
{
    if (is_product(g))
        pipei_lower_matmul(l, &(pipei_matmul){.m = g->n * g->h * g->w, .n = g->co, .k = g->ci, .a = 0, .b = 1});
    else if (!pipe_lower_profile(l)->cpu)
        pipei_lower_gpu_conv(l, g);
    else if (pipei_winograd_pays(pipe_lower_profile(l), g))
        pipei_lower_winograd(l, g);
    else
        lower_forward(l, g);
}

void pipei_lower_conv_transpose(pipe_lowering *l, const pipei_conv_geometry *g)
{
    if (is_product(g))
        pipei_lower_matmul(l, &(pipei_matmul){
            .m = g->n * g->h * g->w, .n = g->ci, .k = g->co, .tb = true, .a = 0, .b = 1});
    else if (!pipe_lower_profile(l)->cpu)
        pipei_lower_gpu_conv_transpose(l, g);
    else if (pipei_winograd_pays(pipe_lower_profile(l), g))
        pipei_lower_winograd_transpose(l, g);
    else
        lower_transpose(l, g);
}

void pipei_lower_conv_weight_grad(pipe_lowering *l, const pipei_conv_geometry *g)
{
    if (!pipe_lower_profile(l)->cpu)
        pipei_lower_gpu_conv_weight_grad(l, g);
    else if (pipei_winograd_pays(pipe_lower_profile(l), g))
        pipei_lower_winograd_weight_grad(l, g);
    else
        lower_weight_grad(l, g);
}
