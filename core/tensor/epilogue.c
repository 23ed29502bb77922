/* Elementwise ops behind an op of its own kernels: they run where it stores.
 *
 * An op whose row says `epilogue` writes PIPE_EPILOGUE8(v, i) for every eight
 * elements that it stores.  When a cluster reads what it stores, at the same index,
 * and nothing has to run in between, the macro becomes a call of a function that
 * computes the cluster; buffers and scalars come as more parameters of the kernel.
 * The function returns what the op stores in place of its own result: that itself
 * when others read it too, else one result of the cluster.  Further results are
 * stored by the function.
 *
 * A kernel may evaluate the macro twice for an element, so results must not
 * overwrite what the cluster reads: the reads of such a step never count as "at
 * the same index" (see may_overwrite() in layout.c).  An optimizer's update stays a
 * kernel of its own for that reason: in place, it needs no second copy of the
 * weights and moments. */
#include "core/tensor/codegen.h"

#include <stdio.h>
#include <string.h>

enum { NONE = UINT32_MAX };

static const uint32_t widths[] = {1, 4, 8, 16};
enum { WIDTHS = sizeof widths / sizeof widths[0] };

static bool mentions(const char *text, uint32_t width)
{
    char name[32];
    const int n = snprintf(name, sizeof name, "PIPE_EPILOGUE%u", width);
    for (const char *s = strstr(text, name); s; s = strstr(s + 1, name))
        if (s[n] < '0' || s[n] > '9')
            return true;
    return false;
}

static bool uses_epilogue(const draft *d)
{
    return d->source && strstr(d->source, "PIPE_EPILOGUE");
}

/* ---- the function ---- */

typedef enum list_kind { PARAMETERS, KERNEL_PARAMETERS, ARGUMENTS } list_kind;

static void add_buffer(pipe_text *t, list_kind kind, const char *qualifier, pipe_dtype dtype, char name,
                       uint32_t k)
{
    const char *type = pipei_type_name(dtype);
    if (kind == PARAMETERS)
        pipe_text_addf(t, ", global %s%s *%c%u", qualifier, type, name, k);
    else if (kind == KERNEL_PARAMETERS)
        pipe_text_addf(t, ", PIPE_BUF(%s%s, pipe_%c%u)", qualifier, type, name, k);
    else
        pipe_text_addf(t, ", pipe_%c%u_base + pipe_%c%u_offset", name, k, name, k);
}

static void add_number(pipe_text *t, list_kind kind, const char *type, const char *name)
{
    if (kind == ARGUMENTS)
        pipe_text_addf(t, ", pipe_%s", name);
    else
        pipe_text_addf(t, ", const %s %s%s", type, kind == PARAMETERS ? "" : "pipe_", name);
}

/* In the order of pipei_gen_buffer_args() and pipei_gen_size_args(). */
static const char *list_of(gen *g, list_kind kind)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    char name[32];

    pipe_text_add(&t, "");
    for (uint32_t k = 0; k < g->n_buffers; k++)
        add_buffer(&t, kind, "const ", g->buffers[k].dtype, 'x', k);
    for (uint32_t k = 0; k < g->n_outs; k++)
        add_buffer(&t, kind, "", g->outs[k].dtype, 'y', k);
    for (uint32_t k = 0; k < g->n_scalars; k++) {
        snprintf(name, sizeof name, "s%u", k);
        add_number(&t, kind, "float", name);
    }
    for (uint32_t j = 0; j + 1 < g->n_dims; j++) {
        snprintf(name, sizeof name, "d%u", j);
        add_number(&t, kind, g->index_type, name);
    }
    for (uint32_t k = 0; k < g->n_patterns; k++)
        for (uint32_t j = 1; j < g->n_dims; j++)
            if (pipei_gen_moves(g, k) && g->patterns[k].d[j].stride) {
                snprintf(name, sizeof name, "t%u_%u", k, j);
                add_number(&t, kind, g->index_type, name);
            }
    return pipe_arena_strdup(g->b->a, t.data);
}

/* Lanes that belong to two rows are done one by one. */
static void split_rows(gen *g, uint32_t width)
{
    pipe_text_addf(&g->text,
                   "    if (c + %u > d0) {\n"
                   "        float lane[%u];\n"
                   "        vstore%u(v, 0, lane);\n"
                   "        for (int k = 0; k < %u; k++)\n"
                   "            lane[k] = pipe_epilogue1(lane[k], at + k PIPE_EPILOGUE_PASS);\n"
                   "        return vload%u(0, lane);\n"
                   "    }\n",
                   width, width, width, width, width);
}

static const char *body_of(gen *g, uint32_t width, uint32_t result)
{
    pipe_text *t = &g->text;
    const char *I = g->index_type;

    pipe_text_clear(t);
    pipe_text_addf(t, "    const %s i = (%s)at;\n", I, I);
    if (g->n_dims > 1) {
        pipe_text_addf(t, "    %s row = i / d0;\n    const %s c = i - row * d0;\n", I, I);
        if (width > 1)
            split_rows(g, width);
        pipei_gen_row_digits(g, "    ", I);
        pipei_gen_row_offsets(g, "    ");
    }
    pipei_gen_declare(g, CONSTANT, 1, "    ");
    pipei_gen_declare(g, ROW, 1, "    ");
    pipei_gen_declare(g, FULL, width, "    ");
    for (uint32_t k = 0; k < g->n_outs; k++) {
        pipe_text_addf(t, width > 1 ? "    vstore%u(" : "    y%u[i] = ", width > 1 ? width : k);
        pipei_gen_operand(g, g->b->member_term[g->outs[k].root], width);
        if (width > 1)
            pipe_text_addf(t, ", 0, y%u + i)", k);
        pipe_text_add(t, ";\n");
    }
    pipe_text_add(t, "    return ");
    if (result == NONE)
        pipe_text_add(t, "v");
    else
        pipei_gen_operand(g, g->b->member_term[result], width);
    pipe_text_add(t, ";\n");
    return pipe_arena_strdup(g->b->a, t->data);
}

/* The text in front of the op's source: functions, and the macros that call them. */
static const char *preamble(gen *g, const bool *wanted, uint32_t result)
{
    const char *body[WIDTHS] = {NULL};
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};

    for (size_t k = 0; k < WIDTHS; k++)         /* before the lists: bodies discover the scalars */
        if (wanted[k] || k == 0)
            body[k] = body_of(g, widths[k], result);
    const char *parameters = list_of(g, PARAMETERS);
    PIPE_CLEANUP(pipe_text_free) pipe_text pass = {0};
    for (const char *s = list_of(g, ARGUMENTS); *s; s++)
        pipe_text_add_bytes(&pass, s, 1);

    /* Inside the functions the arguments have the parameters' names. */
    pipe_text_add(&t, "#define PIPE_EPILOGUE_PASS");
    for (uint32_t k = 0; k < g->n_buffers; k++)
        pipe_text_addf(&t, ", x%u", k);
    for (uint32_t k = 0; k < g->n_outs; k++)
        pipe_text_addf(&t, ", y%u", k);
    for (uint32_t k = 0; k < g->n_scalars; k++)
        pipe_text_addf(&t, ", s%u", k);
    for (uint32_t j = 0; j + 1 < g->n_dims; j++)
        pipe_text_addf(&t, ", d%u", j);
    for (uint32_t k = 0; k < g->n_patterns; k++)
        for (uint32_t j = 1; j < g->n_dims; j++)
            if (pipei_gen_moves(g, k) && g->patterns[k].d[j].stride)
                pipe_text_addf(&t, ", t%u_%u", k, j);
    pipe_text_add(&t, "\n");
    for (size_t k = 0; k < WIDTHS; k++) {
        char type[16] = "float";
        if (!body[k])
            continue;
        if (widths[k] > 1)
            snprintf(type, sizeof type, "float%u", widths[k]);
        pipe_text_addf(&t, "static %s pipe_epilogue%u(const %s v, const size_t at%s)\n{\n%s}\n", type, widths[k],
                       type, parameters, body[k]);
    }
    for (size_t k = 0; k < WIDTHS; k++)
        if (body[k])
            pipe_text_addf(&t, "#undef PIPE_EPILOGUE%u\n#define PIPE_EPILOGUE%u(v, i) pipe_epilogue%u(v, i%s)\n",
                           widths[k], widths[k], widths[k], pass.data ? pass.data : "");
    return pipe_arena_strdup(g->b->a, t.data);
}

/* ---- the step ---- */

/* Another reader than the cluster that joined. */
static bool read_by_others(build *b, uint32_t lowered)
{
    const readers *r = b->readers;
    if (b->v[lowered].must_store)               /* also a value of which only a part goes on */
        return true;
    for (uint32_t j = r->first[lowered]; j < r->first[lowered + 1]; j++)
        if (pipei_cluster_of(b, r->list[j]) != lowered)
            return true;
    return false;
}

/* All launches that store the result can take parameters (tried on their sources).
 * A call on the host stores what it computes, so nothing follows in an op that makes one. */
static bool can_take(const build *b, const step *s)
{
    bool any = false;
    for (uint32_t k = 0; k < s->n_drafts; k++) {
        const draft *d = &b->drafts[s->first_draft + k];
        if (!d->source)
            return false;
        if (!uses_epilogue(d))
            continue;
        PIPE_CLEANUP(pipe_text_free) pipe_text tried = {0};
        if (!pipei_source_add_parameters(d->source, d->kernel, "", &tried))
            return false;
        any = true;
    }
    return any;
}

static void patch(gen *g, draft *d, const char *before, const char *parameters)
{
    build *b = g->b;
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};

    pipe_text_add(&t, before);
    (void)pipei_source_add_parameters(d->source, d->kernel, parameters, &t);
    d->source = pipe_arena_strdup(b->a, t.data);
    arg *args = pipe_arena_alloc(b->a, (d->n_args + pipei_gen_most_args(g)) * sizeof *args);
    memcpy(args, d->args, d->n_args * sizeof *args);
    d->args = args;
    pipei_gen_buffer_args(g, d);
    pipei_gen_size_args(g, d);
}

static void add_reads(gen *g, step *s)
{
    uint32_t *reads = pipe_arena_alloc(g->b->a, (s->n_reads + g->n_buffers + 1) * sizeof *reads);
    memcpy(reads, s->reads, s->n_reads * sizeof *reads);
    for (uint32_t k = 0; k < g->n_buffers; k++) {
        bool known = false;
        for (uint32_t j = 0; j < s->n_reads; j++)
            known |= reads[j] == g->buffers[k].root;
        if (!known)
            reads[s->n_reads++] = g->buffers[k].root;
    }
    s->reads = reads;
    s->same_index = NULL;
}

/* The step of `lowered` takes over its cluster. */
static void merge(build *b, step *s, bool keep_raw)
{
    gen g;
    uint32_t result = NONE, n_writes = 0;
    bool wanted[WIDTHS] = {false};

    pipei_gen_open(&g, b, s->id, s->id);
    s->writes = pipe_arena_alloc(b->a, (g.n_outs + 1) * sizeof *s->writes);
    if (keep_raw)
        s->writes[n_writes++] = s->id;
    for (uint32_t k = 0; k < g.n_outs; k++) {
        s->writes[n_writes++] = g.outs[k].root;
        b->v[g.outs[k].root].step = (uint32_t)(s - b->steps);
    }
    s->n_writes = n_writes;
    for (uint32_t k = 0; k < g.n_outs && !keep_raw && result == NONE; k++)
        if (g.outs[k].dtype == PIPE_F32) {
            result = g.outs[k].root;
            memmove(&g.outs[k], &g.outs[k + 1], (g.n_outs - k - 1) * sizeof g.outs[0]);
            g.n_outs--;
        }
    if (!keep_raw)
        b->v[s->id].step = NONE;                /* it is never in memory */

    for (uint32_t k = 0; k < s->n_drafts; k++)
        for (size_t w = 0; w < WIDTHS; w++)
            wanted[w] |= b->drafts[s->first_draft + k].source &&
                         mentions(b->drafts[s->first_draft + k].source, widths[w]);
    const char *before = preamble(&g, wanted, result);
    const char *parameters = list_of(&g, KERNEL_PARAMETERS);
    for (uint32_t k = 0; k < s->n_drafts; k++) {
        draft *d = &b->drafts[s->first_draft + k];
        for (uint32_t j = 0; j < d->n_args && result != NONE; j++)
            if (d->args[j].kind == ARG_VALUE && d->args[j].slot == s->id)
                d->args[j].slot = result;
        if (uses_epilogue(d))
            patch(&g, d, before, parameters);
    }
    add_reads(&g, s);
    pipei_gen_close(&g);
}

static bool may_follow(const build *b, uint32_t cluster)
{
    bool floats = false, assigned = false;
    for (uint32_t m = cluster; m != NONE; m = b->v[m].next) {
        floats |= b->v[m].stored && b->v[m].t->dtype == PIPE_F32;
        assigned |= b->v[m].assigned;
    }
    return floats && !assigned;
}

void pipei_epilogues(build *b)
{
    const readers *r = b->readers;
    const uint32_t n = b->n_steps;

    for (uint32_t k = 0; k < n; k++) {
        step *s = &b->steps[k];
        const pipe_tensor *t = node_of(b, s->id);
        if (!t->op->epilogue || t->dtype != PIPE_F32 || !can_take(b, s))
            continue;
        for (uint32_t j = r->first[s->id]; j < r->first[s->id + 1]; j++) {
            const uint32_t reader = r->list[j];
            const uint32_t c = pipei_cluster_of(b, reader);
            if (b->v[reader].kind == VALUE_ELEMENTWISE && b->v[c].kind == VALUE_ELEMENTWISE &&
                pipei_reads_straight(r, reader, s->id) && may_follow(b, c) && pipei_join_behind(b, s->id, c)) {
                merge(b, s, read_by_others(b, s->id));
                break;
            }
        }
    }
}
