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
#include "core/tensor/build.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NONE = UINT32_MAX };

typedef enum level { CONSTANT, ROW, FULL } level;

/* One value of the generated code: a load, or an expression over other terms. */
typedef struct term {
    bool load;
    uint32_t value;           /* load: root; else the op's node */
    int64_t offset;
    uint32_t buffer;          /* load: argument x<buffer> */
    uint32_t pattern;         /* load: index into gen.patterns */
    level lv;
    pipe_dtype dtype;
    uint32_t n_in, in[4];
    bool store;
    uint32_t out;             /* store: argument y<out> */
} term;

typedef struct buffer_arg {
    uint32_t root;
    int64_t offset;
    pipe_dtype dtype;
} buffer_arg;

typedef struct scalar_arg {
    uint32_t node, index;
} scalar_arg;

typedef struct gen {
    build *b;
    uint32_t cluster;
    const pipe_device_profile *profile;
    int64_t count;
    radix digits;
    uint32_t n_dims;          /* digits of the cluster, at least 1 */
    int64_t dim[MAX_DIGITS];
    term *terms;
    uint32_t n_terms, capacity;
    pattern *patterns;        /* distinct ones of loads, split along the digits: strides per dim */
    uint32_t n_patterns;
    buffer_arg *buffers;
    uint32_t n_buffers;
    buffer_arg *outs;
    uint32_t n_outs;
    scalar_arg *scalars;
    uint32_t n_scalars;
    uint32_t *member_term;    /* per value of the build */
    pipe_text text;
    const char *index_type;
} gen;

/* ---- terms ---- */

static uint32_t add_term(gen *g, const term *t)
{
    if (g->n_terms == g->capacity) {
        term *more = pipe_arena_alloc(g->b->a, 2 * g->capacity * sizeof *more);
        memcpy(more, g->terms, g->n_terms * sizeof *more);
        g->terms = more;
        g->capacity *= 2;
    }
    g->terms[g->n_terms] = *t;
    return g->n_terms++;
}

/* Splits a pattern at all digits of the cluster: exactly one stride per dim. */
static pattern split(const gen *g, const pattern *p)
{
    pattern s = {.n = g->n_dims};
    uint32_t k = 0;
    digit rest = p->n ? p->d[0] : (digit){1, 0};
    for (uint32_t j = 0; j < g->n_dims; j++) {
        while (rest.extent == 1 && k + 1 < p->n)
            rest = p->d[++k];
        s.d[j] = (digit){g->dim[j], rest.extent == 1 ? 0 : rest.stride};
        if (rest.extent > 1)
            rest = (digit){rest.extent / g->dim[j], rest.stride * g->dim[j]};
    }
    return s;
}

static uint32_t add_pattern(gen *g, const pattern *p)
{
    const pattern s = split(g, p);
    for (uint32_t k = 0; k < g->n_patterns; k++)
        if (memcmp(g->patterns[k].d, s.d, s.n * sizeof s.d[0]) == 0)
            return k;
    g->patterns[g->n_patterns] = s;
    return g->n_patterns++;
}

static level pattern_level(const pattern *s)
{
    level lv = s->d[0].stride ? FULL : CONSTANT;
    for (uint32_t k = 1; k < s->n && lv == CONSTANT; k++)
        if (s->d[k].stride)
            lv = ROW;
    return lv;
}

static uint32_t load_term(gen *g, uint32_t root, int64_t offset, const pattern *p)
{
    term t = {.load = true, .value = root, .offset = offset, .dtype = g->b->v[root].t->dtype};
    t.pattern = add_pattern(g, p);
    for (uint32_t k = 0; k < g->n_terms; k++)
        if (g->terms[k].load && g->terms[k].value == root && g->terms[k].offset == offset &&
            g->terms[k].pattern == t.pattern)
            return k;
    for (t.buffer = 0; t.buffer < g->n_buffers; t.buffer++)
        if (g->buffers[t.buffer].root == root && g->buffers[t.buffer].offset == offset)
            break;
    if (t.buffer == g->n_buffers)
        g->buffers[g->n_buffers++] = (buffer_arg){root, offset, t.dtype};
    t.lv = pattern_level(&g->patterns[t.pattern]);
    return add_term(g, &t);
}

static uint32_t input_term(gen *g, uint32_t w, const pattern *p);

static uint32_t expression_term(gen *g, uint32_t id, const pattern *p)
{
    const value *v = &g->b->v[id];
    term t = {.value = id, .n_in = v->n_in, .dtype = v->t->dtype, .lv = CONSTANT};

    for (uint32_t k = 0; k < v->n_in; k++) {
        pattern q, whole;
        pipei_pattern_broadcast(&v->t->shape, &g->b->v[v->in[k]].t->shape, &q);
        const bool fits = pipei_pattern_compose(p, &q, &whole);
        (void)fits;            /* fuse.c inlines only what composes */
        t.in[k] = input_term(g, v->in[k], &whole);
        if (g->terms[t.in[k]].lv > t.lv)
            t.lv = g->terms[t.in[k]].lv;
    }
    if (pipei_op_identity(v->t->op))
        return t.in[0];        /* broadcast_to and the like: only the pattern changes */
    for (uint32_t k = 0; k < g->n_terms; k++) {
        const term *o = &g->terms[k];
        if (!o->load && o->value == id && o->n_in == t.n_in && memcmp(o->in, t.in, sizeof t.in) == 0)
            return k;
    }
    return add_term(g, &t);
}

static uint32_t input_term(gen *g, uint32_t w, const pattern *p)
{
    build *b = g->b;
    const value *view = &b->v[w];
    const value *root = &b->v[view->root];
    const bool whole = view->offset == 0 && view->t->count == root->t->count;

    if (root->kind == VALUE_ELEMENTWISE && whole) {
        if (root->inlined)
            return expression_term(g, view->root, p);
        if (pipei_pattern_linear(p) && root->t->count == g->count && g->member_term[view->root] != NONE &&
            pipei_cluster_of(b, view->root) == g->cluster)
            return g->member_term[view->root];
    }
    return load_term(g, view->root, view->offset, p);
}

static pattern linear_pattern(int64_t count)
{
    pattern p = {0};
    if (count > 1)
        p.d[p.n++] = (digit){count, 1};
    return p;
}

/* ---- text ---- */

static const char *type_of(pipe_dtype dtype)
{
    return dtype == PIPE_I32 ? "int" : "float";
}

static void add_type(gen *g, pipe_dtype dtype, uint32_t width)
{
    pipe_text_add(&g->text, type_of(dtype));
    if (width > 1)
        pipe_text_addf(&g->text, "%u", width);
}

/* Term k as an operand in code of the given width: narrower ones are widened. */
static void add_operand(gen *g, uint32_t k, uint32_t width)
{
    if (width > 1 && g->terms[k].lv < FULL) {
        pipe_text_add(&g->text, "((");
        add_type(g, g->terms[k].dtype, width);
        pipe_text_addf(&g->text, ")(v%u))", k);
    } else {
        pipe_text_addf(&g->text, "v%u", k);
    }
}

static uint32_t scalar_of(gen *g, uint32_t id, uint32_t index)
{
    const uint32_t node = id - g->b->n_leaves;
    for (uint32_t k = 0; k < g->n_scalars; k++)
        if (g->scalars[k].node == node && g->scalars[k].index == index)
            return k;
    g->scalars[g->n_scalars] = (scalar_arg){node, index};
    return g->n_scalars++;
}

/* The op's expression with its variables replaced. */
static void add_expression(gen *g, const term *t, uint32_t width)
{
    const pipe_tensor *node = node_of(g->b, t->value);
    const char *s = node->op->expression;

    while (*s) {
        if (isdigit((unsigned char)*s) || (*s == '.' && isdigit((unsigned char)s[1]))) {
            /* a number with its suffix: 1.0f, 0x7fu, 1e-5f */
            const char *start = s;
            while (isalnum((unsigned char)*s) || *s == '.' ||
                   ((*s == '+' || *s == '-') && (s[-1] == 'e' || s[-1] == 'E')))
                s++;
            pipe_text_add_bytes(&g->text, start, (size_t)(s - start));
            continue;
        }
        if (!isalpha((unsigned char)*s) && *s != '_') {
            pipe_text_add_bytes(&g->text, s++, 1);
            continue;
        }
        const char *start = s;
        while (isalnum((unsigned char)*s) || *s == '_')
            s++;
        const size_t n = (size_t)(s - start);
        if (n == 1 && *start >= 'a' && *start <= 'd' && (uint32_t)(*start - 'a') < t->n_in) {
            add_operand(g, t->in[*start - 'a'], width);
        } else if (n == 1 && *start == 'T') {
            add_type(g, PIPE_F32, width);
        } else if (n == 2 && strncmp(start, "TI", 2) == 0) {
            add_type(g, PIPE_I32, width);
        } else if (n == 2 && *start == 'p' && start[1] >= '0' && start[1] <= '3') {
            pipe_text_add(&g->text, "((");
            add_type(g, PIPE_F32, width);
            pipe_text_addf(&g->text, ")(s%u))", scalar_of(g, t->value, (uint32_t)(start[1] - '0')));
        } else if (*start == 'k' && n >= 2 && n <= 3 && isdigit((unsigned char)start[1])) {
            uint32_t k = (uint32_t)(start[1] - '0');
            if (n == 3)
                k = 10 * k + (uint32_t)(start[2] - '0');
            pipe_text_addf(&g->text, "(%" PRId64 ")", k < 24 ? node->attr->i[k] : 0);
        } else if ((n == 9 && strncmp(start, "PIPE_TO_T", n) == 0) ||
                   (n == 10 && strncmp(start, "PIPE_TO_TI", n) == 0)) {
            pipe_text_add(&g->text, "convert_");
            add_type(g, n == 10 ? PIPE_I32 : PIPE_F32, width);
        } else if (n == 10 && strncmp(start, "PIPE_TRUTH", n) == 0) {
            pipe_text_addf(&g->text, "PIPE_TRUTH%u", width);
        } else {
            pipe_text_add_bytes(&g->text, start, n);
        }
    }
}

/* Declares the terms of one level, in code of the given width. */
static void add_terms(gen *g, level lv, uint32_t width, const char *indent)
{
    for (uint32_t k = 0; k < g->n_terms; k++) {
        const term *t = &g->terms[k];
        if (t->lv != lv)
            continue;
        pipe_text_addf(&g->text, "%sconst ", indent);
        add_type(g, t->dtype, width);
        pipe_text_addf(&g->text, " v%u = ", k);
        if (!t->load) {
            add_expression(g, t, width);
        } else {
            char at[64] = "0";
            const pattern *p = &g->patterns[t->pattern];
            const bool linear = lv == FULL && pipei_pattern_linear(p) && g->n_dims == 1;
            bool flat = linear;
            if (lv == FULL && !linear) {
                flat = true;           /* contiguous through all digits, though others break here */
                int64_t stride = 1;
                for (uint32_t j = 0; j < g->n_dims; j++) {
                    flat &= p->d[j].stride == stride;
                    stride *= g->dim[j];
                }
            }
            if (lv == ROW)
                snprintf(at, sizeof at, "o%u", t->pattern);
            else if (lv == FULL)
                snprintf(at, sizeof at, flat ? "i" : "o%u + c", t->pattern);
            if (width > 1)
                pipe_text_addf(&g->text, "vload%u(0, x%u + %s)", width, t->buffer, at);
            else
                pipe_text_addf(&g->text, "x%u[%s]", t->buffer, at);
        }
        pipe_text_add(&g->text, ";\n");
    }
}

static void add_stores(gen *g, uint32_t width, const char *indent)
{
    for (uint32_t k = 0; k < g->n_outs; k++) {
        const uint32_t t = g->member_term[g->outs[k].root];
        pipe_text_add(&g->text, indent);
        if (width > 1)
            pipe_text_addf(&g->text, "vstore%u(", width);
        else
            pipe_text_addf(&g->text, "y%u[i] = ", k);
        add_operand(g, t, width);
        if (width > 1)
            pipe_text_addf(&g->text, ", 0, y%u + i)", k);
        pipe_text_add(&g->text, ";\n");
    }
}

/* Offsets of the row, for patterns that move with anything but the row itself. */
static bool needs_offset(const gen *g, uint32_t pattern_index)
{
    const pattern *p = &g->patterns[pattern_index];
    int64_t stride = 1;
    bool flat = true, still = true;
    for (uint32_t j = 0; j < g->n_dims; j++) {
        flat &= p->d[j].stride == stride;
        still &= p->d[j].stride == 0;
        stride *= g->dim[j];
    }
    return !flat && !still;
}

static void add_row_offsets(gen *g, const char *indent)
{
    for (uint32_t k = 0; k < g->n_patterns; k++) {
        if (!needs_offset(g, k))
            continue;
        pipe_text_addf(&g->text, "%sconst %s o%u = 0", indent, g->index_type, k);
        for (uint32_t j = 1; j < g->n_dims; j++)
            if (g->patterns[k].d[j].stride)
                pipe_text_addf(&g->text, " + r%u * t%u_%u", j, k, j);
        pipe_text_add(&g->text, ";\n");
    }
}

static void add_parameters(gen *g)
{
    pipe_text *t = &g->text;
    for (uint32_t k = 0; k < g->n_buffers; k++)
        pipe_text_addf(t, "PIPE_BUF(const %s, x%u), ", type_of(g->buffers[k].dtype), k);
    for (uint32_t k = 0; k < g->n_outs; k++)
        pipe_text_addf(t, "PIPE_BUF(%s, y%u), ", type_of(g->outs[k].dtype), k);
    for (uint32_t k = 0; k < g->n_scalars; k++)
        pipe_text_addf(t, "const float s%u, ", k);
    pipe_text_addf(t, "const %s n, const %s span", g->index_type, g->index_type);
    for (uint32_t j = 0; j + 1 < g->n_dims; j++)
        pipe_text_addf(t, ", const %s d%u", g->index_type, j);
    for (uint32_t k = 0; k < g->n_patterns; k++)
        for (uint32_t j = 1; j < g->n_dims; j++)
            if (needs_offset(g, k) && g->patterns[k].d[j].stride)
                pipe_text_addf(t, ", const %s t%u_%u", g->index_type, k, j);
}

static void add_binds(gen *g)
{
    for (uint32_t k = 0; k < g->n_buffers; k++)
        pipe_text_addf(&g->text, "    PIPE_BIND(const %s, x%u);\n", type_of(g->buffers[k].dtype), k);
    for (uint32_t k = 0; k < g->n_outs; k++)
        pipe_text_addf(&g->text, "    PIPE_BIND(%s, y%u);\n", type_of(g->outs[k].dtype), k);
}

/* r1, r2, ...: the digits of row number `row`. */
static void add_row_digits(gen *g, const char *indent, const char *declare)
{
    const char *rest = "row";
    for (uint32_t j = 1; j < g->n_dims; j++) {
        const bool outermost = j + 1 == g->n_dims;
        pipe_text_addf(&g->text, "%s%s r%u = %s", indent, declare, j, rest);
        if (!outermost)
            pipe_text_addf(&g->text, " %% d%u", j);
        pipe_text_add(&g->text, ";\n");
        if (!outermost)
            pipe_text_addf(&g->text, "%srow /= d%u;\n", indent, j);
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
    add_terms(g, CONSTANT, 1, "    ");
    if (g->n_dims == 1) {
        pipe_text_addf(t, "    %s i = begin;\n    for (; i + %u <= end; i += %u) {\n", I, width, width);
        add_terms(g, FULL, width, "        ");
        add_stores(g, width, "        ");
        pipe_text_addf(t, "    }\n    %s\n    for (; i < end; i++) {\n", plain_loop);
        add_terms(g, FULL, 1, "        ");
        add_stores(g, 1, "        ");
        pipe_text_add(t, "    }\n");
        return;
    }
    pipe_text_addf(t, "    %s row = begin / d0, c = begin - row * d0, i = begin;\n", I);
    add_row_digits(g, "    ", I);
    pipe_text_add(t, "    while (i < end) {\n");
    pipe_text_addf(t, "        const %s stop = min(end, i + (d0 - c));\n", I);
    add_row_offsets(g, "        ");
    add_terms(g, ROW, 1, "        ");
    pipe_text_addf(t, "        for (; i + %u <= stop; i += %u, c += %u) {\n", width, width, width);
    add_terms(g, FULL, width, "            ");
    add_stores(g, width, "            ");
    pipe_text_addf(t, "        }\n        %s\n        for (; i < stop; i++, c++) {\n", plain_loop);
    add_terms(g, FULL, 1, "            ");
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

    add_terms(g, CONSTANT, 1, "    ");
    if (g->n_dims == 1) {
        pipe_text_addf(t, "    for (%s i = (%s)get_global_id(0) * 4; i + 4 <= n; i += span) {\n", I, I);
        add_terms(g, FULL, 4, "        ");
        add_stores(g, 4, "        ");
        pipe_text_addf(t, "    }\n    const %s i = n / 4 * 4 + (%s)get_global_id(0);\n    if (i < n) {\n", I,
                       I);
        add_terms(g, FULL, 1, "        ");
        add_stores(g, 1, "        ");
        pipe_text_add(t, "    }\n");
        return;
    }
    pipe_text_addf(t, "    for (%s i = (%s)get_global_id(0); i < n; i += span) {\n", I, I);
    pipe_text_addf(t, "        %s row = i / d0;\n        const %s c = i - row * d0;\n", I, I);
    add_row_digits(g, "        ", I);
    add_row_offsets(g, "        ");
    add_terms(g, ROW, 1, "        ");
    add_terms(g, FULL, 1, "        ");
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

static void add_args(gen *g, draft *d, int64_t span)
{
    const uint32_t most = g->n_buffers + g->n_outs + g->n_scalars + 2 + g->n_dims + g->n_patterns * g->n_dims;
    d->args = pipe_arena_alloc(g->b->a, most * sizeof *d->args);
    for (uint32_t k = 0; k < g->n_buffers; k++)
        d->args[d->n_args++] = (arg){
            .kind = ARG_VALUE, .slot = g->buffers[k].root, .number = g->buffers[k].offset};
    for (uint32_t k = 0; k < g->n_outs; k++)
        d->args[d->n_args++] = (arg){.kind = ARG_VALUE, .slot = g->outs[k].root};
    for (uint32_t k = 0; k < g->n_scalars; k++)
        d->args[d->n_args++] = (arg){
            .kind = ARG_FLOAT, .slot = g->scalars[k].node, .index = g->scalars[k].index};
    d->args[d->n_args++] = (arg){.kind = ARG_INT, .number = g->count};
    d->args[d->n_args++] = (arg){.kind = ARG_INT, .number = span};
    for (uint32_t j = 0; j + 1 < g->n_dims; j++)
        d->args[d->n_args++] = (arg){.kind = ARG_INT, .number = g->dim[j]};
    for (uint32_t k = 0; k < g->n_patterns; k++)
        for (uint32_t j = 1; j < g->n_dims; j++)
            if (needs_offset(g, k) && g->patterns[k].d[j].stride)
                d->args[d->n_args++] = (arg){.kind = ARG_INT, .number = g->patterns[k].d[j].stride};
    const bool wide = g->index_type[0] == 'l';
    for (uint32_t k = 0; k < d->n_args; k++)
        if (d->args[k].kind == ARG_INT)
            d->args[k].index = wide;
}

/* Room for what the members could need at most. */
static void allocate(gen *g, uint32_t members)
{
    build *b = g->b;
    uint32_t reads = 1, scalars = 1;
    for (uint32_t m = g->cluster; m != NONE; m = b->v[m].next) {
        reads += 4;
        scalars += 4;
        for (uint32_t k = 0; k < b->v[m].n_in; k++) {
            const value *in = &b->v[b->v[b->v[m].in[k]].root];
            if (in->inlined) {
                reads += in->sources + 4;
                scalars += 4 * in->tree;
            }
        }
    }
    g->capacity = 64;
    g->terms = pipe_arena_alloc(b->a, g->capacity * sizeof *g->terms);
    g->patterns = pipe_arena_alloc(b->a, reads * sizeof *g->patterns);
    g->buffers = pipe_arena_alloc(b->a, reads * sizeof *g->buffers);
    g->outs = pipe_arena_alloc(b->a, (members + 1) * sizeof *g->outs);
    g->scalars = pipe_arena_alloc(b->a, scalars * sizeof *g->scalars);
    g->member_term = pipe_arena_alloc(b->a, (b->n + 1) * sizeof *g->member_term);
    memset(g->member_term, 0xff, b->n * sizeof *g->member_term);
}

static void set_dims(gen *g)
{
    int64_t before = 1;
    g->digits = g->b->v[g->cluster].digits;
    for (uint32_t k = 0; k < g->digits.n; k++) {
        g->dim[g->n_dims++] = g->digits.cut[k] / before;
        before = g->digits.cut[k];
    }
    g->dim[g->n_dims++] = g->count / before;
}

static int by_number(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

pipe_status pipei_generate(build *b, step *s, pipe_error *err)
{
    gen g = {.b = b, .cluster = s->id, .count = b->v[s->id].t->count};
    uint32_t n_members = 0;
    int64_t span;

    g.profile = pipei_device_profile(b->e->device);
    uint32_t *members = pipe_arena_alloc(b->a, b->v[s->id].size * sizeof *members);
    for (uint32_t m = s->id; m != NONE; m = b->v[m].next)
        members[n_members++] = m;
    qsort(members, n_members, sizeof *members, by_number);
    allocate(&g, n_members);
    set_dims(&g);
    g.index_type = g.count < INT32_MAX / 2 ? "int" : "long";

    const pattern straight = linear_pattern(g.count);
    for (uint32_t k = 0; k < n_members; k++) {
        const uint32_t m = members[k];
        g.member_term[m] = expression_term(&g, m, &straight);
        if (b->v[m].stored)
            g.outs[g.n_outs++] = (buffer_arg){m, 0, b->v[m].t->dtype};
    }

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
    d->who = node_of(b, members[n_members - 1])->op->name;
    sizes(&g, d, width, &span);
    add_args(&g, d, span);
    pipe_text_free(&g.text);
    (void)err;
    return PIPE_OK;
}
