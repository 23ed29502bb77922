/* OpenCL C for a cluster of elementwise values.
 *
 * The linear index of the cluster is cut into digits (see pattern.c) at which any
 * source changes its stride; the innermost one is the "row".  Every value is
 * computed as far outside the loops as what it reads allows:
 *
 *     CONSTANT   once per work-item                  scalars, their arithmetic
 *     ROW        once per row                        [n, 1] beside [n, c]
 *     FULL       per element, in vectors             everything else
 *
 * No division runs per element: rows are counted, not computed.  Sizes and strides
 * are arguments, so that layers of different size share one kernel. */
#include "core/tensor/codegen.h"

static void add_parameters(gen *g)
{
    pipe_text *t = &g->text;
    for (uint32_t k = 0; k < g->n_buffers; k++)
        pipe_text_addf(t, "PIPE_BUF(const %s, x%u), ", pipei_type_name(g->buffers[k].dtype), k);
    for (uint32_t k = 0; k < g->n_outs; k++)
        pipe_text_addf(t, "PIPE_BUF(%s, y%u), ", pipei_type_name(g->outs[k].dtype), k);
    for (uint32_t k = 0; k < g->n_scalars; k++)
        pipe_text_addf(t, "const float s%u, ", k);
    pipe_text_addf(t, "const %s n, const %s span", g->index_type, g->index_type);
    for (uint32_t j = 0; j + 1 < g->n_dims; j++)
        pipe_text_addf(t, ", const %s d%u", g->index_type, j);
    for (uint32_t k = 0; k < g->n_patterns; k++)
        for (uint32_t j = 1; j < g->n_dims; j++)
            if (pipei_gen_moves(g, k) && g->patterns[k].d[j].stride)
                pipe_text_addf(t, ", const %s t%u_%u", g->index_type, k, j);
}

static void add_binds(gen *g)
{
    for (uint32_t k = 0; k < g->n_buffers; k++)
        pipe_text_addf(&g->text, "    PIPE_BIND(const %s, x%u);\n", pipei_type_name(g->buffers[k].dtype), k);
    for (uint32_t k = 0; k < g->n_outs; k++)
        pipe_text_addf(&g->text, "    PIPE_BIND(%s, y%u);\n", pipei_type_name(g->outs[k].dtype), k);
}

static void add_stores(gen *g, uint32_t width, const char *indent)
{
    for (uint32_t k = 0; k < g->n_outs; k++) {
        const uint32_t t = g->b->member_term[g->outs[k].root];
        pipe_text_add(&g->text, indent);
        if (width > 1)
            pipe_text_addf(&g->text, "vstore%u(", width);
        else
            pipe_text_addf(&g->text, "y%u[i] = ", k);
        pipei_gen_operand(g, t, width);
        if (width > 1)
            pipe_text_addf(&g->text, ", 0, y%u + i)", k);
        pipe_text_add(&g->text, ";\n");
    }
}

/* The last few elements: the compiler would vectorize their loop too, which only
 * costs compile time. */
static const char plain_loop[] = "#pragma clang loop vectorize(disable) unroll(disable)";

/* One work-item per span of elements; whole vectors, then single ones. */
static void cpu_kernel(gen *g, uint32_t width)
{
    pipe_text *t = &g->text;
    const char *I = g->index_type;

    pipe_text_addf(t, "    const %s begin = (%s)get_global_id(0) * span;\n"
                   "    const %s end = min(n, begin + span);\n", I, I, I);
    pipei_gen_declare(g, CONSTANT, 1, "    ");
    if (g->n_dims == 1) {
        pipe_text_addf(t, "    %s i = begin;\n    for (; i + %u <= end; i += %u) {\n", I, width, width);
        pipei_gen_declare(g, FULL, width, "        ");
        add_stores(g, width, "        ");
        pipe_text_addf(t, "    }\n    %s\n    for (; i < end; i++) {\n", plain_loop);
        pipei_gen_declare(g, FULL, 1, "        ");
        add_stores(g, 1, "        ");
        pipe_text_add(t, "    }\n");
        return;
    }
    pipe_text_addf(t, "    %s row = begin / d0, c = begin - row * d0, i = begin;\n", I);
    pipei_gen_row_digits(g, "    ", I);
    pipe_text_add(t, "    while (i < end) {\n");
    pipe_text_addf(t, "        const %s stop = min(end, i + (d0 - c));\n", I);
    pipei_gen_row_offsets(g, "        ");
    pipei_gen_declare(g, ROW, 1, "        ");
    pipe_text_addf(t, "        for (; i + %u <= stop; i += %u, c += %u) {\n", width, width, width);
    pipei_gen_declare(g, FULL, width, "            ");
    add_stores(g, width, "            ");
    pipe_text_addf(t, "        }\n        %s\n        for (; i < stop; i++, c++) {\n", plain_loop);
    pipei_gen_declare(g, FULL, 1, "            ");
    add_stores(g, 1, "            ");
    pipe_text_add(t, "        }\n        c = 0;\n");
    for (uint32_t j = 1; j < g->n_dims; j++)
        if (j + 1 < g->n_dims)
            pipe_text_addf(t, "        if (++r%u == d%u) {\n        r%u = 0;\n", j, j, j);
        else
            pipe_text_addf(t, "        ++r%u;\n", j);
    for (uint32_t j = 1; j + 1 < g->n_dims; j++)
        pipe_text_add(t, "        }\n");
    pipe_text_add(t, "    }\n");
}

/* Neighbouring work-items take neighbouring elements. */
static void gpu_kernel(gen *g)
{
    pipe_text *t = &g->text;
    const char *I = g->index_type;

    pipei_gen_declare(g, CONSTANT, 1, "    ");
    if (g->n_dims == 1) {
        pipe_text_addf(t, "    for (%s i = (%s)get_global_id(0) * 4; i + 4 <= n; i += span) {\n", I, I);
        pipei_gen_declare(g, FULL, 4, "        ");
        add_stores(g, 4, "        ");
        pipe_text_addf(t, "    }\n    const %s i = n / 4 * 4 + (%s)get_global_id(0);\n    if (i < n) {\n", I,
                       I);
        pipei_gen_declare(g, FULL, 1, "        ");
        add_stores(g, 1, "        ");
        pipe_text_add(t, "    }\n");
        return;
    }
    pipe_text_addf(t, "    for (%s i = (%s)get_global_id(0); i < n; i += span) {\n", I, I);
    pipe_text_addf(t, "        %s row = i / d0;\n        const %s c = i - row * d0;\n", I, I);
    pipei_gen_row_digits(g, "        ", I);
    pipei_gen_row_offsets(g, "        ");
    pipei_gen_declare(g, ROW, 1, "        ");
    pipei_gen_declare(g, FULL, 1, "        ");
    add_stores(g, 1, "        ");
    pipe_text_add(t, "    }\n");
}

/* ---- the launch ---- */

static void sizes(const gen *g, draft *d, uint32_t width, int64_t *span)
{
    const int64_t n = g->count;
    const uint32_t units = g->profile->compute_units;

    d->dims = 1;
    if (!g->profile->cpu) {
        const size_t local = g->profile->max_work_group < 128 ? g->profile->max_work_group : 128;
        const int64_t per_item = g->n_dims == 1 ? 4 : 1;
        const int64_t most = (int64_t)units * 2048;
        int64_t items = (n + per_item - 1) / per_item;
        items = items < 4 ? 4 : items > most ? most : items;     /* 4: the tail of a vector */
        const size_t groups = ((size_t)items + local - 1) / local;
        d->local[0] = local;
        d->global[0] = groups * local;
        *span = (int64_t)d->global[0] * per_item;
        return;
    }
    /* Several pieces per core even out a core that is busy elsewhere; below a few
     * thousand elements a second piece costs more than it brings. */
    const int64_t least = 4096;
    int64_t pieces = n / least;
    pieces = pieces < 1 ? 1 : pieces > 8 * (int64_t)units ? 8 * (int64_t)units : pieces;
    int64_t each = (n + pieces - 1) / pieces;
    each = (each + width - 1) / width * width;
    d->local[0] = 1;
    d->global[0] = (size_t)((n + each - 1) / each);
    *span = each;
}

pipe_status pipei_generate(build *b, step *s, pipe_error *err)
{
    gen g;
    int64_t span;

    pipei_gen_open(&g, b, s->id, NO_TERM);
    /* The body first: writing it discovers the scalars. */
    const uint32_t width = g.profile->cpu ? g.profile->vector_width : 4;
    if (g.profile->cpu)
        cpu_kernel(&g, width);
    else
        gpu_kernel(&g);
    const char *body = pipe_arena_strdup(b->a, g.text.data);
    pipe_text_clear(&g.text);
    pipe_text_add(&g.text, "kernel void elementwise(");
    add_parameters(&g);
    pipe_text_add(&g.text, ")\n{\n");
    add_binds(&g);
    pipe_text_add(&g.text, body);
    pipe_text_add(&g.text, "}\n");

    s->first_draft = b->n_drafts;
    s->n_drafts = 1;
    draft *d = pipei_draft_new(b);
    d->source = pipe_arena_strdup(b->a, g.text.data);
    d->kernel = "elementwise";
    d->who = node_of(b, s->id)->op->name;
    sizes(&g, d, width, &span);
    d->args = pipe_arena_alloc(b->a, pipei_gen_most_args(&g) * sizeof *d->args);
    pipei_gen_buffer_args(&g, d);
    pipei_gen_int_arg(&g, d, g.count);
    pipei_gen_int_arg(&g, d, span);
    pipei_gen_size_args(&g, d);
    pipei_gen_close(&g);
    (void)err;
    return PIPE_OK;
}
