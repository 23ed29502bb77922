/* The values of a cluster as terms of OpenCL C: loads and expressions, each at the
 * loop level that it needs (see codegen.c). */
#include "core/tensor/codegen.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
        if (g->terms[k].load && g->terms[k].buffer != GIVEN && g->terms[k].value == root && g->terms[k].offset == offset &&
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

static uint32_t given_term(gen *g)
{
    const term t = {.load = true, .value = g->given, .buffer = GIVEN, .lv = FULL, .dtype = PIPE_F32};
    for (uint32_t k = 0; k < g->n_terms; k++)
        if (g->terms[k].load && g->terms[k].buffer == GIVEN)
            return k;
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

    if (view->root == g->given)
        return given_term(g);
    if (root->kind == VALUE_ELEMENTWISE && whole) {
        if (root->inlined)
            return expression_term(g, view->root, p);
        if (pipei_pattern_linear(p) && root->t->count == g->count && g->b->member_term[view->root] != NO_TERM &&
            pipei_cluster_of(b, view->root) == g->cluster)
            return g->b->member_term[view->root];
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

void pipei_gen_type(gen *g, pipe_dtype dtype, uint32_t width)
{
    pipe_text_add(&g->text, pipei_type_name(dtype));
    if (width > 1)
        pipe_text_addf(&g->text, "%u", width);
}

/* Term k as an operand in code of the given width: narrower ones are widened. */
void pipei_gen_operand(gen *g, uint32_t k, uint32_t width)
{
    if (width > 1 && g->terms[k].lv < FULL) {
        pipe_text_add(&g->text, "((");
        pipei_gen_type(g, g->terms[k].dtype, width);
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
            pipei_gen_operand(g, t->in[*start - 'a'], width);
        } else if (n == 1 && *start == 'T') {
            pipei_gen_type(g, PIPE_F32, width);
        } else if (n == 2 && strncmp(start, "TI", 2) == 0) {
            pipei_gen_type(g, PIPE_I32, width);
        } else if (n == 2 && *start == 'p' && start[1] >= '0' && start[1] <= '3') {
            pipe_text_add(&g->text, "((");
            pipei_gen_type(g, PIPE_F32, width);
            pipe_text_addf(&g->text, ")(s%u))", scalar_of(g, t->value, (uint32_t)(start[1] - '0')));
        } else if (*start == 'k' && n >= 2 && n <= 3 && isdigit((unsigned char)start[1])) {
            uint32_t k = (uint32_t)(start[1] - '0');
            if (n == 3)
                k = 10 * k + (uint32_t)(start[2] - '0');
            pipe_text_addf(&g->text, "(%" PRId64 ")", k < 24 ? node->attr->i[k] : 0);
        } else if ((n == 9 && strncmp(start, "PIPE_TO_T", n) == 0) ||
                   (n == 10 && strncmp(start, "PIPE_TO_TI", n) == 0)) {
            pipe_text_add(&g->text, "convert_");
            pipei_gen_type(g, n == 10 ? PIPE_I32 : PIPE_F32, width);
        } else if (n == 10 && strncmp(start, "PIPE_TRUTH", n) == 0) {
            pipe_text_addf(&g->text, "PIPE_TRUTH%u", width);
        } else {
            pipe_text_add_bytes(&g->text, start, n);
        }
    }
}

void pipei_gen_declare(gen *g, level lv, uint32_t width, const char *indent)
{
    for (uint32_t k = 0; k < g->n_terms; k++) {
        const term *t = &g->terms[k];
        if (t->lv != lv)
            continue;
        pipe_text_addf(&g->text, "%sconst ", indent);
        pipei_gen_type(g, t->dtype, width);
        pipe_text_addf(&g->text, " v%u = ", k);
        if (!t->load) {
            add_expression(g, t, width);
        } else if (t->buffer == GIVEN) {
            pipe_text_add(&g->text, "v");
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

/* Offsets of the row, for patterns that move with anything but the row itself. */
bool pipei_gen_moves(const gen *g, uint32_t pattern_index)
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

void pipei_gen_row_offsets(gen *g, const char *indent)
{
    for (uint32_t k = 0; k < g->n_patterns; k++) {
        if (!pipei_gen_moves(g, k))
            continue;
        pipe_text_addf(&g->text, "%sconst %s o%u = 0", indent, g->index_type, k);
        for (uint32_t j = 1; j < g->n_dims; j++)
            if (g->patterns[k].d[j].stride)
                pipe_text_addf(&g->text, " + r%u * t%u_%u", j, k, j);
        pipe_text_add(&g->text, ";\n");
    }
}

/* r1, r2, ...: the digits of row number `row`. */
void pipei_gen_row_digits(gen *g, const char *indent, const char *declare)
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

/* ---- arguments ---- */

uint32_t pipei_gen_most_args(const gen *g)
{
    return g->n_buffers + g->n_outs + g->n_scalars + 2 + g->n_dims + g->n_patterns * g->n_dims;
}

void pipei_gen_buffer_args(gen *g, draft *d)
{
    for (uint32_t k = 0; k < g->n_buffers; k++)
        d->args[d->n_args++] =
            (arg){.kind = ARG_VALUE, .slot = g->buffers[k].root, .number = g->buffers[k].offset};
    for (uint32_t k = 0; k < g->n_outs; k++)
        d->args[d->n_args++] = (arg){.kind = ARG_VALUE, .slot = g->outs[k].root};
    for (uint32_t k = 0; k < g->n_scalars; k++)
        d->args[d->n_args++] =
            (arg){.kind = ARG_FLOAT, .slot = g->scalars[k].node, .index = g->scalars[k].index};
}

void pipei_gen_int_arg(gen *g, draft *d, int64_t number)
{
    d->args[d->n_args++] = (arg){.kind = ARG_INT, .number = number, .index = g->index_type[0] == 'l'};
}

void pipei_gen_size_args(gen *g, draft *d)
{
    for (uint32_t j = 0; j + 1 < g->n_dims; j++)
        pipei_gen_int_arg(g, d, g->dim[j]);
    for (uint32_t k = 0; k < g->n_patterns; k++)
        for (uint32_t j = 1; j < g->n_dims; j++)
            if (pipei_gen_moves(g, k) && g->patterns[k].d[j].stride)
                pipei_gen_int_arg(g, d, g->patterns[k].d[j].stride);
}

/* ---- a cluster ---- */

/* Room for what the members could need at most. */
static void allocate(gen *g, uint32_t members)
{
    build *b = g->b;
    uint32_t reads = 1, scalars = 1;
    for (uint32_t m = g->cluster; m != NO_TERM; m = b->v[m].next) {
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

void pipei_gen_open(gen *g, build *b, uint32_t cluster, uint32_t given)
{
    uint32_t n = 0;

    *g = (gen){.b = b, .cluster = cluster, .given = given, .count = given == NO_TERM ? b->v[cluster].t->count : pipei_epilogue_count(b, given)};
    g->profile = pipei_device_profile(b->e->device);
    g->index_type = g->count < INT32_MAX / 2 ? "int" : "long";
    uint32_t *members = pipe_arena_alloc(b->a, b->v[cluster].size * sizeof *members);
    for (uint32_t m = cluster; m != NO_TERM; m = b->v[m].next)
        members[n++] = m;
    qsort(members, n, sizeof *members, by_number);
    allocate(g, n);
    set_dims(g);

    const pattern straight = linear_pattern(g->count);
    for (uint32_t k = 0; k < n; k++) {
        const uint32_t m = members[k];
        if (m == given)
            continue;
        b->member_term[m] = expression_term(g, m, &straight);
        if (b->v[m].stored)
            g->outs[g->n_outs++] = (buffer_arg){m, 0, b->v[m].t->dtype};
    }
}

void pipei_gen_close(gen *g)
{
    for (uint32_t m = g->cluster; m != NO_TERM; m = g->b->v[m].next)
        g->b->member_term[m] = NO_TERM;
    pipe_text_free(&g->text);
}
