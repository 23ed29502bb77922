/* Lowering: collecting the launches of ops that bring their own kernels. */
#include "core/tensor/build.h"

#include <stdio.h>
#include <string.h>

struct pipe_lowering {
    build *b;
    step *s;
    uint32_t value;
    pipe_error error;         /* the first mistake of the op's lower() */
};

const pipe_device_profile *pipe_lower_profile(const pipe_lowering *l)
{
    return pipei_device_profile(l->b->e->device);
}

static uint32_t add_scratch(build *b, scratch s)
{
    if (b->n_scratches == b->scratches_capacity) {
        const uint32_t capacity = b->scratches_capacity ? 2 * b->scratches_capacity : 32;
        scratch *more = pipe_arena_alloc(b->a, capacity * sizeof *more);
        if (b->n_scratches)
            memcpy(more, b->scratches, b->n_scratches * sizeof *more);
        b->scratches = more;
        b->scratches_capacity = capacity;
    }
    b->scratches[b->n_scratches] = s;
    return b->n_scratches++;
}

/* Ops see indices that count from 0 for each of them; drafts know them by their
 * place among all.  A step's scratches are neighbours, so one number tells. */
static uint32_t first_scratch(const build *b, uint32_t s)
{
    uint32_t k = b->n_scratches;
    while (k > 0 && b->scratches[k - 1].step == s)
        k--;
    return k;
}

uint32_t pipe_lower_scratch(pipe_lowering *l, size_t count)
{
    const uint32_t id = (uint32_t)(l->s - l->b->steps);
    const uint32_t k = add_scratch(l->b, (scratch){.count = count ? count : 1, .step = id});
    return k - first_scratch(l->b, id);
}

/* A leaf that the plan does not write. */
static bool unchanging(const build *b, uint32_t root)
{
    bool leaf = b->v[root].kind == VALUE_LEAF;
    for (size_t k = 0; k < b->q->n_assigns; k++)
        leaf &= b->q->assigns[k].leaf != b->v[root].t;
    return leaf;
}

uint32_t pipei_lower_derived(pipe_lowering *l, uint32_t input, size_t count)
{
    build *b = l->b;
    const uint32_t k = pipe_lower_scratch(l, count), root = b->v[b->v[l->value].in[input]].root;
    scratch *s = &b->scratches[b->n_scratches - 1];
    s->derived = unchanging(b, root);
    s->leaf = root;
    return k;
}

void pipei_lower_derive(pipe_lowering *l, const pipe_launch *given, uint32_t made)
{
    build *b = l->b;
    const uint32_t before = b->n_drafts, id = first_scratch(b, (uint32_t)(l->s - b->steps)) + made;
    pipe_lower_launch(l, given);
    if (b->n_drafts > before && b->scratches[id].derived)
        b->drafts[before].derives = id + 1;
}

draft *pipei_draft_new(build *b)
{
    if (b->n_drafts == b->drafts_capacity) {
        const uint32_t capacity = b->drafts_capacity ? 2 * b->drafts_capacity : 256;
        draft *more = pipe_arena_alloc(b->a, capacity * sizeof *more);
        if (b->n_drafts)
            memcpy(more, b->drafts, b->n_drafts * sizeof *more);
        b->drafts = more;
        b->drafts_capacity = capacity;
    }
    draft *d = &b->drafts[b->n_drafts++];
    *d = (draft){0};
    return d;
}

static void mistake(pipe_lowering *l, const char *kernel, const char *what)
{
    if (l->error.status == PIPE_OK)
        pipe_fail(&l->error, PIPE_EPLUGIN, "op %s, kernel %s: %s", node_of(l->b, l->value)->op->name, kernel,
                  what);
}

static arg argument(pipe_lowering *l, const char *kernel, const pipe_arg *from)
{
    build *b = l->b;
    const value *v = &b->v[l->value];
    arg a = {0};

    switch (from->kind) {
    case PIPE_ARG_INPUT:
        if (from->index >= v->n_in) {
            mistake(l, kernel, "an argument names an input that the op does not have");
            break;
        }
        const value *in = &b->v[v->in[from->index]];
        a = (arg){.kind = ARG_VALUE, .slot = in->root, .number = in->offset};
        break;
    case PIPE_ARG_OUTPUT:
        a = (arg){.kind = ARG_VALUE, .slot = l->value};
        break;
    case PIPE_ARG_SCRATCH: {
        const uint32_t id = first_scratch(b, (uint32_t)(l->s - b->steps)) + from->index;
        if (id >= b->n_scratches)
            mistake(l, kernel, "an argument names scratch memory that was not asked for");
        a = (arg){.kind = ARG_SCRATCH, .slot = id};
        break;
    }
    case PIPE_ARG_INT:
        a = (arg){.kind = ARG_INT, .number = from->value};
        break;
    case PIPE_ARG_FLOAT:
    case PIPE_ARG_WORD: {
        const bool real = from->kind == PIPE_ARG_FLOAT;
        if (from->index >= (real ? 4u : 8u))
            mistake(l, kernel, "an argument names an attribute out of range");
        a = (arg){.kind = real ? ARG_FLOAT : ARG_WORD, .slot = l->value - b->n_leaves, .index = from->index};
        break;
    }
    }
    return a;
}

void pipe_lower_launch(pipe_lowering *l, const pipe_launch *given)
{
    build *b = l->b;
    if (given->n_args > PIPE_MAX_ARGS || given->dims < 1 || given->dims > 3) {
        mistake(l, given->kernel, "dims or the number of arguments is out of range");
        return;
    }
    for (uint32_t k = 0; k < given->dims; k++)
        if (given->global[k] == 0)
            return;                              /* nothing to do; OpenCL refuses it */

    draft *d = pipei_draft_new(b);
    d->source = pipe_arena_strdup(b->a, given->source);
    d->kernel = pipe_arena_strdup(b->a, given->kernel);
    d->who = node_of(b, l->value)->op->name;
    d->dims = given->dims;
    memcpy(d->global, given->global, sizeof d->global);
    memcpy(d->local, given->local, sizeof d->local);
    d->n_args = given->n_args;
    d->args = pipe_arena_alloc(b->a, (given->n_args + 1) * sizeof *d->args);
    for (uint32_t k = 0; k < given->n_args; k++)
        d->args[k] = argument(l, given->kernel, &given->args[k]);
}

void pipei_lower_call(pipe_lowering *l, const char *name, pipei_host_function *function,
                      const pipe_arg *buffers, uint32_t n_buffers, const int64_t *ints, size_t n_ints)
{
    build *b = l->b;
    draft *d = pipei_draft_new(b);

    d->function = function;
    d->kernel = pipe_arena_strdup(b->a, name);
    d->who = node_of(b, l->value)->op->name;
    int64_t *own = pipe_arena_alloc(b->p->memory, (n_ints + 1) * sizeof *own);
    memcpy(own, ints, n_ints * sizeof *own);
    d->ints = own;
    d->n_args = n_buffers;
    d->args = pipe_arena_alloc(b->a, (n_buffers + 1) * sizeof *d->args);
    for (uint32_t k = 0; k < n_buffers; k++)
        d->args[k] = argument(l, name, &buffers[k]);
}

const char *pipe_lower_text(pipe_lowering *l, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    const size_t size = n > 0 ? (size_t)n + 1 : 1;
    char *text = pipe_arena_alloc(l->b->a, size);
    vsnprintf(text, size, fmt, again);
    va_end(again);
    return text;
}

pipe_status pipei_lower(build *b, step *s, pipe_error *err)
{
    pipe_tensor *t = (pipe_tensor *)node_of(b, s->id);   /* lower() may read it only */
    pipe_lowering l = {.b = b, .s = s, .value = s->id, .error = PIPE_ERROR_INIT};
    const pipe_op_call c = {
        .op = t->op, .n_in = t->n_in, .in = t->in, .attr = t->attr, .out = t, .engine = b->e};

    s->first_draft = b->n_drafts;
    pipe_status status = t->op->lower(&l, &c, err);
    if (status != PIPE_OK)
        return pipe_context_fail(err, status, "op %s", t->op->name);
    if (l.error.status != PIPE_OK)
        return pipe_fail(err, l.error.status, "%s", l.error.message);
    s->n_drafts = b->n_drafts - s->first_draft;
    return PIPE_OK;
}
