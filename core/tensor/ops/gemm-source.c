/* Generator pieces of the register-tiled kernels.
 *
 * A work-item keeps rows x vectors accumulators in registers; each step loads
 * `vectors` vectors of one operand and multiplies them by one scalar per row of
 * the other.  With 16 registers (AVX2, SSE): 6 x 2 accumulators, 2 vectors and a
 * broadcast; with 32 (AVX-512): 14 x 2.  The work-group has one work-item: on a
 * CPU the vectors are explicit and the compiler must not invent others. */
#include "core/tensor/ops/gemm-source.h"

#include <assert.h>
#include <ctype.h>
#include <string.h>

void pipei_emit(pipe_text *s, const char *text, const pipei_word *words)
{
    for (const char *p; (p = strchr(text, '$')) != NULL;) {
        pipe_text_add_bytes(s, text, (size_t)(p - text));
        size_t n = 0;
        while (isupper((unsigned char)p[1 + n]) || p[1 + n] == '_')
            n++;
        const pipei_word *w = words;
        while (w->name && (strlen(w->name) != n || strncmp(w->name, p + 1, n) != 0))
            w++;
        assert(w->name && "a $NAME without its word");
        if (w->text)
            pipe_text_add(s, w->text);
        else
            pipe_text_addf(s, "%lld", (long long)w->number);
        text = p + 1 + n;
    }
    pipe_text_add(s, text);
}

void pipei_emit_fold(pipe_text *s, const char *name, bool max, uint32_t width)
{
    pipe_text_addf(s, "static float %s(const float%u v%u)\n{\n", name, width, width);
    for (uint32_t half = width / 2; half >= 1; half /= 2) {
        pipe_text_add(s, half > 1 ? "    const float" : "    return ");
        if (half > 1)
            pipe_text_addf(s, "%u v%u = ", half, half);
        pipe_text_addf(s, "%sv%u.%s%sv%u.%s%s;\n", max ? "max(" : "", 2 * half, half > 1 ? "lo" : "x",
                       max ? ", " : " + ", 2 * half, half > 1 ? "hi" : "y", max ? ")" : "");
    }
    pipe_text_add(s, "}\n");
}

pipei_tile pipei_tile_choose(const pipe_device_profile *p, int64_t n)
{
    const uint32_t width = p->vector_width >= 16 ? 16 : p->vector_width >= 8 ? 8 : 4;
    const bool many = p->vector_registers >= 32;
    pipei_tile t = {.width = width};
    if (n <= width) {
        t.vectors = 1;
        t.rows = many ? 24 : 12;
    } else {
        t.vectors = 2;
        t.rows = !many ? 6 : width == 16 ? 14 : 12;
    }
    t.columns = t.vectors * t.width;
    return t;
}

void pipei_tile_words_text(pipei_tile_words *w, const char *name, const char *text)
{
    assert(w->n + 1 < sizeof(w->word) / sizeof(w->word[0]));
    w->word[w->n++] = (pipei_word){.name = name, .text = text};
    w->word[w->n] = (pipei_word){0};
}

void pipei_tile_words_number(pipei_tile_words *w, const char *name, int64_t number)
{
    pipei_tile_words_text(w, name, NULL);
    w->word[w->n - 1].number = number;
}

static const char *vector_type(uint32_t width)
{
    return width == 16 ? "float16" : width == 8 ? "float8" : "float4";
}

void pipei_tile_words_make(pipei_tile_words *w, pipei_tile t, const char *row_format)
{
    *w = (pipei_tile_words){0};
    enum { ZERO, LOAD, ADD, STORE, SPILL, STEP, OUT };
    const char *v = vector_type(t.width);
    for (uint32_t i = 0; i < t.rows; i++)
        for (uint32_t j = 0; j < t.vectors; j++) {
            pipe_text_addf(&w->text[ZERO], "%s c%u_%u = (%s)(0.0f);\n", v, i, j, v);
            pipe_text_addf(&w->text[LOAD], "%s c%u_%u = vload%u(0, acc + %u * acc_stride + %u);\n", v, i, j,
                           t.width, i, j * t.width);
            pipe_text_addf(&w->text[ADD], "c%u_%u += vload%u(0, acc + %u * acc_stride + %u);\n", i, j, t.width, i,
                           j * t.width);
            pipe_text_addf(&w->text[STORE], "vstore%u(c%u_%u, 0, acc + %u * acc_stride + %u);\n", t.width, i, j, i,
                           j * t.width);
            pipe_text_addf(&w->text[SPILL], "vstore%u(c%u_%u, 0, tile + %u);\n", t.width, i, j,
                           i * t.columns + j * t.width);
        }
    for (uint32_t j = 0; j < t.vectors; j++)
        pipe_text_addf(&w->text[STEP], "const %s b%u = vload%u(0, b + %u);\n", v, j, t.width, j * t.width);
    for (uint32_t i = 0; i < t.rows; i++) {
        pipe_text_addf(&w->text[STEP], "{ const %s scalar = (%s)(", v, v);
        #pragma GCC diagnostic push
        #pragma GCC diagnostic ignored "-Wformat-nonliteral"
        pipe_text_addf(&w->text[STEP], row_format, i);
        #pragma GCC diagnostic pop
        pipe_text_add(&w->text[STEP], ");");
        for (uint32_t j = 0; j < t.vectors; j++)
            pipe_text_addf(&w->text[STEP], " c%u_%u = fma(scalar, b%u, c%u_%u);", i, j, j, i, j);
        pipe_text_add(&w->text[STEP], " }\n");
    }
    /* A loop that is not unrolled: the epilogue, which may be long, appears twice, not rows * vectors times. */
    pipe_text_addf(&w->text[OUT],
                   "{ int j = 0;\n"
                   "  for (; j + %u <= cols; j += %u)\n"
                   "      vstore%u(PIPE_EPILOGUE%u(vload%u(0, tile + i * %u + j), o + j), 0, out + o + j);\n"
                   "  for (; j < cols; j++)\n"
                   "      out[o + j] = PIPE_EPILOGUE1(tile[i * %u + j], o + j);\n"
                   "}\n",
                   t.width, t.width, t.width, t.width, t.width, t.columns, t.columns);
    pipei_tile_words_text(w, "V", v);
    pipei_tile_words_text(w, "ZERO", w->text[ZERO].data);
    pipei_tile_words_text(w, "LOAD", w->text[LOAD].data);
    pipei_tile_words_text(w, "ADD", w->text[ADD].data);
    pipei_tile_words_text(w, "STORE", w->text[STORE].data);
    pipei_tile_words_text(w, "SPILL", w->text[SPILL].data);
    pipei_tile_words_text(w, "STEP", w->text[STEP].data);
    pipei_tile_words_text(w, "OUT", w->text[OUT].data);
    pipei_tile_words_number(w, "ROWS", t.rows);
    pipei_tile_words_number(w, "VECTORS", t.vectors);
    pipei_tile_words_number(w, "WIDTH", t.width);
    pipei_tile_words_number(w, "COLUMNS", t.columns);
    pipei_tile_words_number(w, "SIZE", t.rows * t.columns);
}

void pipei_tile_words_free(pipei_tile_words *w)
{
    for (size_t k = 0; k < sizeof(w->text) / sizeof(w->text[0]); k++)
        pipe_text_free(&w->text[k]);
}

/* ---- launches ---- */
void pipei_launch_buffer(pipe_launch *l, pipe_arg_kind kind, uint32_t index)
{
    assert(l->n_args < PIPE_MAX_ARGS);
    l->args[l->n_args++] = (pipe_arg){.kind = kind, .index = index};
}

void pipei_launch_int(pipe_launch *l, int64_t value)
{
    assert(l->n_args < PIPE_MAX_ARGS && value >= INT32_MIN && value <= INT32_MAX);
    l->args[l->n_args++] = (pipe_arg){.kind = PIPE_ARG_INT, .value = (int32_t)value};
}

void pipei_launch_add(pipe_lowering *l, pipe_launch *launch, pipe_text *source)
{
    launch->source = source->data;
    pipe_lower_launch(l, launch);
    pipe_text_free(source);
}

void pipei_launch_derive(pipe_lowering *l, pipe_launch *launch, pipe_text *source, uint32_t scratch)
{
    launch->source = source->data;
    pipei_lower_derive(l, launch, scratch);
    pipe_text_free(source);
}

/* ---- packing ---- */
int64_t pipei_pack_panels(const pipei_pack *p, pipei_tile t)
{
    return pipei_ceil_div(p->n, t.columns);
}

int64_t pipei_pack_count(const pipei_pack *p, pipei_tile t)
{
    return p->batch * pipei_pack_panels(p, t) * p->taps * p->k * t.columns;
}

uint32_t pipei_lower_pack(pipe_lowering *l, const pipei_pack *p, pipei_tile t, uint32_t input)
{
    /* One work-item packs a strip of 64 k of one tap of one panel. */
    static const char text[] =
        "kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"
        "void pack(PIPE_BUF(float, w), PIPE_BUF(float, packed), const int taps, const int n_k, const int n_n,\n"
        "          const int batch_stride, const int tap_stride, const int k_stride, const int n_stride,\n"
        "          const int n_zero)\n"
        "{\n"
        "    PIPE_BIND(float, w); PIPE_BIND(float, packed);\n"
        "    const int strips = (n_k + 63) / 64;\n"
        "    const int tap = (int)get_group_id(0) / strips, k0 = (int)get_group_id(0) % strips * 64;\n"
        "    const int k1 = min(k0 + 64, n_k), panel = (int)get_group_id(1), batch = (int)get_group_id(2);\n"
        "    const int panels = (int)get_num_groups(1), n0 = panel * $COLUMNS, cols = min($COLUMNS, n_n - n0);\n"
        "    global const float *src = w + (size_t)batch * batch_stride + (size_t)tap * tap_stride +\n"
        "                              (size_t)n0 * n_stride;\n"
        "    global float *dst = packed + ((((size_t)batch * panels + panel) * taps + tap) * n_k + k0) * $COLUMNS;\n"
        "    if (cols == $COLUMNS && n_stride == 1) {\n"
        "        for (int k = k0; k < k1; k++, dst += $COLUMNS)\n"
        "            for (int j = 0; j < $COLUMNS; j += $WIDTH)\n"
        "                vstore$WIDTH(vload$WIDTH(0, src + (size_t)k * k_stride + j), 0, dst + j);\n"
        "    } else {\n"
        "        for (int k = k0; k < k1; k++, dst += $COLUMNS)\n"
        "            for (int j = 0; j < $COLUMNS; j++)\n"
        "                dst[j] = j < cols ? src[(size_t)k * k_stride + (size_t)j * n_stride] : 0.0f;\n"
        "    }\n"
        "    if (n_zero && get_group_id(0) == 0 && panel == 0 && batch == 0) {\n"
        "        global float *zero = packed + (size_t)get_num_groups(2) * panels * taps * n_k * $COLUMNS;\n"
        "        for (int k = 0; k < n_zero; k++)\n"
        "            zero[k] = 0.0f;\n"
        "    }\n"
        "}\n";
    const int64_t zero = p->no_zero_row ? 0 : pipei_max(p->k, p->n);
    const size_t count = (size_t)(pipei_pack_count(p, t) + zero);
    const uint32_t scratch = p->kept ? pipei_lower_derived(l, input, count) : pipe_lower_scratch(l, count);
    const pipei_word words[] = {{.name = "COLUMNS", .number = t.columns}, {.name = "WIDTH", .number = t.width}, {0}};
    pipe_text s = {0};
    pipei_emit(&s, text, words);
    pipe_launch launch = {
        .kernel = "pack", .dims = 3, .local = {1, 1, 1},
        .global = {(size_t)(p->taps * pipei_ceil_div(p->k, 64)), (size_t)pipei_pack_panels(p, t), (size_t)p->batch},
    };
    pipei_launch_buffer(&launch, PIPE_ARG_INPUT, input);
    pipei_launch_buffer(&launch, PIPE_ARG_SCRATCH, scratch);
    pipei_launch_int(&launch, p->taps);
    pipei_launch_int(&launch, p->k);
    pipei_launch_int(&launch, p->n);
    pipei_launch_int(&launch, p->batch_stride);
    pipei_launch_int(&launch, p->tap_stride);
    pipei_launch_int(&launch, p->k_stride);
    pipei_launch_int(&launch, p->n_stride);
    pipei_launch_int(&launch, zero);
    if (p->kept)
        pipei_launch_derive(l, &launch, &s, scratch);
    else
        pipei_launch_add(l, &launch, &s);
    return scratch;
}

/* ---- partial sums ---- */
void pipei_lower_sum_parts(pipe_lowering *l, const pipei_sum_parts *p, uint32_t scratch)
{
    static const char text[] =
        "kernel void sum_parts(PIPE_BUF(float, part), PIPE_BUF(float, out), const int parts, const int taps,\n"
        "                      const int rows, const int columns, const int stride, const int group_step,\n"
        "                      const int tap_step, const int row_step, const int column_step)\n"
        "{\n"
        "    PIPE_BIND(float, part); PIPE_BIND(float, out);\n"
        "    const int r = (int)get_global_id(0);\n"               /* (group, tap, row) */
        "    const int row = r % rows, tap = r / rows % taps, group = r / rows / taps;\n"
        "    const size_t size = get_global_size(0) * (size_t)stride;\n"
        "    global const float *src = part + (size_t)r * stride;\n"
        "    const size_t o = (size_t)group * group_step + (size_t)tap * tap_step + (size_t)row * row_step;\n"
        "    int c = 0;\n"
        "    if (column_step == 1)\n"
        "        for (; c + 8 <= columns; c += 8) {\n"
        "            float8 s = (float8)(0.0f);\n"
        "            for (int p = 0; p < parts; p++)\n"
        "                s += vload8(0, src + p * size + c);\n"
        "            vstore8(PIPE_EPILOGUE8(s, o + c), 0, out + o + c);\n"
        "        }\n"
        "    for (; c < columns; c++) {\n"
        "        float s = 0.0f;\n"
        "        for (int p = 0; p < parts; p++)\n"
        "            s += src[p * size + c];\n"
        "        const size_t at = o + (size_t)c * column_step;\n"
        "        out[at] = PIPE_EPILOGUE1(s, at);\n"
        "    }\n"
        "}\n";
    pipe_text s = {0};
    pipe_text_add(&s, text);
    pipe_launch launch = {
        .kernel = "sum_parts", .dims = 1, .global = {(size_t)(p->groups * p->taps * p->rows)},
        .local = {pipe_lower_profile(l)->cpu ? 1 : 0},
    };
    pipei_launch_buffer(&launch, PIPE_ARG_SCRATCH, scratch);
    pipei_launch_buffer(&launch, PIPE_ARG_OUTPUT, 0);
    pipei_launch_int(&launch, p->parts);
    pipei_launch_int(&launch, p->taps);
    pipei_launch_int(&launch, p->rows);
    pipei_launch_int(&launch, p->columns);
    pipei_launch_int(&launch, p->stride);
    pipei_launch_int(&launch, p->group_step);
    pipei_launch_int(&launch, p->tap_step);
    pipei_launch_int(&launch, p->row_step);
    pipei_launch_int(&launch, p->column_step);
    pipei_launch_add(l, &launch, &s);
}
