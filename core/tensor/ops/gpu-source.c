/* Matrix products and convolutions on devices with work-groups.
 *
 * One kernel: a work-group of side x side work-items computes a tile of
 * 4 side x 4 side results from tiles of both operands in local memory.  The
 * operands are given as text that loads element (m, k) or (k, n), so that a
 * convolution is the same kernel with the image gathered on the fly (implicit
 * GEMM): nothing is unrolled into memory.
 *
 *     forward          m = output pixel       n = output channel  k = (tap, input channel)
 *     input gradient   m = input pixel        n = input channel   k = (tap, output channel)
 *     weight gradient  m = (tap, input ch.)   n = output channel  k = output pixel, split
 *                                                                 among work-groups */
#include "core/tensor/ops/conv.h"

#define K_TILE 16

static const char gpu_text[] =
    "kernel __attribute__((reqd_work_group_size($SIDE, $SIDE, 1)))\n"
    "void gpu_product(PIPE_BUF(float, va), PIPE_BUF(float, vb), PIPE_BUF(float, out))\n"
    "{\n"
    "    PIPE_BIND(float, va); PIPE_BIND(float, vb); PIPE_BIND(float, out);\n"
    "    local float tile_a[$KTILE][$TILE], tile_b[$KTILE][$TILE];\n"
    "    const int lx = (int)get_local_id(0), ly = (int)get_local_id(1), id = ly * $SIDE + lx;\n"
    "    const int n0 = (int)get_group_id(0) * $TILE, m0 = (int)get_group_id(1) * $TILE;\n"
    "    const int split = (int)get_group_id(2) % $SPLITS, z = (int)get_group_id(2) / $SPLITS;\n"
    "    const int k_begin = split * $SHARE, k_end = min(k_begin + $SHARE, $K);\n"
    "    float c[4][4];\n"
    "    for (int i = 0; i < 4; i++)\n"
    "        for (int j = 0; j < 4; j++)\n"
    "            c[i][j] = 0.0f;\n"
    "    for (int k0 = k_begin; k0 < k_end; k0 += $KTILE) {\n"
    "        for (int i = id; i < $TILE * $KTILE; i += $SIDE * $SIDE) {\n"
    "            const int m = m0 + i / $KTILE, k = k0 + i % $KTILE;\n"
    "            float v = 0.0f;\n"
    "            if (m < $M && k < k_end) {\n"
    "$LOADA"
    "            }\n"
    "            tile_a[i % $KTILE][i / $KTILE] = v;\n"
    "        }\n"
    "        for (int i = id; i < $TILE * $KTILE; i += $SIDE * $SIDE) {\n"
    "            const int n = n0 + i % $TILE, k = k0 + i / $TILE;\n"
    "            float v = 0.0f;\n"
    "            if (n < $N && k < k_end) {\n"
    "$LOADB"
    "            }\n"
    "            tile_b[i / $TILE][i % $TILE] = v;\n"
    "        }\n"
    "        barrier(CLK_LOCAL_MEM_FENCE);\n"
    "        for (int k = 0; k < $KTILE; k++)\n"
    "            for (int i = 0; i < 4; i++)\n"
    "                for (int j = 0; j < 4; j++)\n"
    "                    c[i][j] = fma(tile_a[k][ly + i * $SIDE], tile_b[k][lx + j * $SIDE], c[i][j]);\n"
    "        barrier(CLK_LOCAL_MEM_FENCE);\n"
    "    }\n"
    "    for (int i = 0; i < 4; i++)\n"
    "        for (int j = 0; j < 4; j++) {\n"
    "            const int m = m0 + ly + i * $SIDE, n = n0 + lx + j * $SIDE;\n"
    "            if (m < $M && n < $N) {\n"
    "                const size_t o = $AT;\n"
    "                out[o] = $RESULT;\n"
    "            }\n"
    "        }\n"
    "}\n";

typedef struct product {
    int64_t m, n, k, z, splits;
    const char *load_a, *load_b, *at;
    const pipei_word *words;      /* of load_a, load_b, at */
    uint32_t a, b;                /* inputs */
} product;

/* Returns the scratch buffer of partial results where k is split. */
static uint32_t lower_product(pipe_lowering *l, const product *g)
{
    const pipe_device_profile *p = pipe_lower_profile(l);
    const int64_t side = p->max_work_group >= 256 ? 16 : p->max_work_group >= 64 ? 8 : 1, tile = 4 * side;
    pipe_text load_a = {0}, load_b = {0}, at = {0}, s = {0};
    pipei_emit(&load_a, g->load_a, g->words);
    pipei_emit(&load_b, g->load_b, g->words);
    pipei_emit(&at, g->at, g->words);
    const pipei_word words[] = {
        {.name = "SIDE", .number = side}, {.name = "TILE", .number = tile}, {.name = "KTILE", .number = K_TILE},
        {.name = "M", .number = g->m}, {.name = "N", .number = g->n}, {.name = "K", .number = g->k},
        {.name = "SPLITS", .number = g->splits}, {.name = "SHARE", .number = pipei_ceil_div(g->k, g->splits)},
        {.name = "LOADA", .text = load_a.data}, {.name = "LOADB", .text = load_b.data}, {.name = "AT", .text = at.data},
        {.name = "RESULT", .text = g->splits > 1 ? "c[i][j]" : "PIPE_EPILOGUE1(c[i][j], o)"}, {0}};
    pipei_emit(&s, gpu_text, words);
    pipe_text_free(&load_a);
    pipe_text_free(&load_b);
    pipe_text_free(&at);

    pipe_launch launch = {
        .kernel = "gpu_product", .dims = 3, .local = {(size_t)side, (size_t)side, 1},
        .global = {(size_t)(pipei_ceil_div(g->n, tile) * side), (size_t)(pipei_ceil_div(g->m, tile) * side),
                   (size_t)(g->z * g->splits)},
    };
    pipei_launch_buffer(&launch, PIPE_ARG_INPUT, g->a);
    pipei_launch_buffer(&launch, PIPE_ARG_INPUT, g->b);
    uint32_t part = 0;
    if (g->splits > 1) {
        part = pipe_lower_scratch(l, (size_t)(g->splits * g->z * g->m * g->n));
        pipei_launch_buffer(&launch, PIPE_ARG_SCRATCH, part);
    } else {
        pipei_launch_buffer(&launch, PIPE_ARG_OUTPUT, 0);
    }
    pipei_launch_add(l, &launch, &s);
    return part;
}

void pipei_lower_gpu_matmul(pipe_lowering *l, const pipei_matmul *g)
{
    int64_t batch = 1;
    for (uint32_t k = 0; k < g->rank; k++)
        batch *= g->batch[k];
    pipe_text a = {0}, b = {0};
    pipei_emit_batch(&a, g, g->a_batch, g->m * g->k);
    pipei_emit_batch(&b, g, g->b_batch, g->k * g->n);
    const pipei_word words[] = {{.name = "M", .number = g->m}, {.name = "N", .number = g->n},
                                {.name = "K", .number = g->k}, {.name = "ATA", .text = a.data},
                                {.name = "ATB", .text = b.data}, {0}};
    lower_product(l, &(product){
        .m = g->m, .n = g->n, .k = g->k, .z = batch, .splits = 1, .words = words, .a = g->a, .b = g->b,
        .load_a = g->ta ? "v = va[$ATA + (size_t)k * $M + m];\n" : "v = va[$ATA + (size_t)m * $K + k];\n",
        .load_b = g->tb ? "v = vb[$ATB + (size_t)n * $K + k];\n" : "v = vb[$ATB + (size_t)k * $N + n];\n",
        .at = "((size_t)z * $M + m) * $N + n",
    });
    pipe_text_free(&a);
    pipe_text_free(&b);
}

enum { MAX_WORDS = 24 };
static void conv_words(const pipei_conv_geometry *g, pipei_word w[MAX_WORDS])
{
    const pipei_word all[] = {
        {.name = "H", .number = g->h}, {.name = "W", .number = g->w}, {.name = "CI", .number = g->ci},
        {.name = "OH", .number = g->oh}, {.name = "OW", .number = g->ow}, {.name = "CO", .number = g->co},
        {.name = "KW", .number = g->kw}, {.name = "CIG", .number = g->cig}, {.name = "COG", .number = g->cog},
        {.name = "SY", .number = g->stride[0]}, {.name = "SX", .number = g->stride[1]},
        {.name = "DY", .number = g->dilation[0]}, {.name = "DX", .number = g->dilation[1]},
        {.name = "PY", .number = g->pad[0]}, {.name = "PX", .number = g->pad[2]}, {.name = "GROUPS", .number = g->groups},
        {.name = "ROWS", .number = g->kh * g->kw * g->cig}, {0}};
    for (size_t k = 0; k < sizeof(all) / sizeof(all[0]); k++)
        w[k] = all[k];
}

void pipei_lower_gpu_conv(pipe_lowering *l, const pipei_conv_geometry *g)
{
    pipei_word words[MAX_WORDS];
    conv_words(g, words);
    lower_product(l, &(product){
        .m = g->n * g->oh * g->ow, .n = g->cog, .k = g->kh * g->kw * g->cig, .z = g->groups, .splits = 1,
        .words = words, .a = 0, .b = 1,
        .load_a = "const int tap = k / $CIG, y = m / $OW % $OH * $SY + tap / $KW * $DY - ($PY);\n"
                  "const int x = m % $OW * $SX + tap % $KW * $DX - ($PX);\n"
                  "if (y >= 0 && y < $H && x >= 0 && x < $W)\n"
                  "    v = va[(((size_t)(m / ($OH * $OW)) * $H + y) * $W + x) * $CI + z * $CIG + k % $CIG];\n",
        .load_b = "v = vb[(size_t)k * $CO + z * $COG + n];\n",
        .at = "(size_t)m * $CO + z * $COG + n",
    });
}

void pipei_lower_gpu_conv_transpose(pipe_lowering *l, const pipei_conv_geometry *g)
{
    pipei_word words[MAX_WORDS];
    conv_words(g, words);
    lower_product(l, &(product){
        .m = g->n * g->h * g->w, .n = g->cig, .k = g->kh * g->kw * g->cog, .z = g->groups, .splits = 1,
        .words = words, .a = 0, .b = 1,
        .load_a = "const int tap = k / $COG, y = m / $W % $H + ($PY) - tap / $KW * $DY;\n"
                  "const int x = m % $W + ($PX) - tap % $KW * $DX;\n"
                  "if (y >= 0 && y % $SY == 0 && y / $SY < $OH && x >= 0 && x % $SX == 0 && x / $SX < $OW)\n"
                  "    v = va[(((size_t)(m / ($H * $W)) * $OH + y / $SY) * $OW + x / $SX) * $CO + z * $COG + k % $COG];\n",
        .load_b = "v = vb[((size_t)(k / $COG) * $CIG + n) * $CO + z * $COG + k % $COG];\n",
        .at = "(size_t)m * $CI + z * $CIG + n",
    });
}

void pipei_lower_gpu_conv_weight_grad(pipe_lowering *l, const pipei_conv_geometry *g)
{
    pipei_word words[MAX_WORDS];
    conv_words(g, words);
    /* Always split in at least two, so that an empty batch is only an empty sum. */
    const int64_t pixels = g->n * g->oh * g->ow, rows = g->kh * g->kw * g->cig;
    const int64_t splits = pipei_max(2, pipei_min(64, pixels / 512));
    const uint32_t part = lower_product(l, &(product){
        .m = rows, .n = g->cog, .k = pixels, .z = g->groups, .splits = splits, .words = words, .a = 0, .b = 1,
        .load_a = "const int tap = m / $CIG, y = k / $OW % $OH * $SY + tap / $KW * $DY - ($PY);\n"
                  "const int x = k % $OW * $SX + tap % $KW * $DX - ($PX);\n"
                  "if (y >= 0 && y < $H && x >= 0 && x < $W)\n"
                  "    v = va[(((size_t)(k / ($OH * $OW)) * $H + y) * $W + x) * $CI + z * $CIG + m % $CIG];\n",
        .load_b = "v = vb[(size_t)k * $CO + z * $COG + n];\n",
        .at = "(((size_t)split * $GROUPS + z) * $ROWS + m) * $COG + n",
    });
    const pipei_sum_parts sum = {
        .parts = splits, .groups = g->groups, .taps = 1, .rows = rows, .columns = g->cog, .stride = g->cog,
        .group_step = g->cog, .row_step = g->co, .column_step = 1,
    };
    pipei_lower_sum_parts(l, &sum, part);
}
