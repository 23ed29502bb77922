/* From launches to OpenCL kernels: few programs with many kernels each.
 *
 * A program costs 0.14 s to compile whatever is in it (30 ms when PoCL has it in
 * its cache), so the sources that a plan needs and that are not known yet become
 * programs of sixteen, which can be compiled at the same time (ahead.c).  Each source
 * is its own name space: the names it defines are renamed with the hash of the source,
 * its macros are undefined behind it. */
#include "core/tensor/build.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PIECE = 16 };          /* sources in a program */

const char pipei_kernel_prefix[] =
    "#define PIPE_BUF(T, x) global T *x##_base, const ulong x##_offset\n"
    "#define PIPE_BIND(T, x) global T *x = x##_base + x##_offset\n"
    "#define PIPE_TRUTH1(c) ((c) ? 1.0f : 0.0f)\n"
    "#define PIPE_TRUTH4(c) ((c) ? (float4)(1.0f) : (float4)(0.0f))\n"
    "#define PIPE_TRUTH8(c) ((c) ? (float8)(1.0f) : (float8)(0.0f))\n"
    "#define PIPE_TRUTH16(c) ((c) ? (float16)(1.0f) : (float16)(0.0f))\n"
    "#define PIPE_EPILOGUE1(v, i) (v)\n"
    "#define PIPE_EPILOGUE4(v, i) (v)\n"
    "#define PIPE_EPILOGUE8(v, i) (v)\n"
    "#define PIPE_EPILOGUE16(v, i) (v)\n";

/* PoCL puts a vector together of loads of two elements, and takes it apart for stores.  Mostly the compiler
 * joins them again, but with arithmetic between, it may do that in twos as well (a norm: a quarter of its
 * time).  One load and one store of an unaligned type stay what they are.  All types and address
 * spaces, since the macros stand before kernels of plugins too. */
#define LOAD(T, n, space)                                                                                  \
    "static " #T #n " __attribute__((overloadable, always_inline)) pipe_load" #n "(size_t i, const " #space \
    " " #T " *p)\n{ return *(const " #space " pipe_" #T #n " *)(p + " #n " * i); }\n"
#define STORE(T, n, space)                                                                                 \
    "static void __attribute__((overloadable, always_inline)) pipe_store" #n "(" #T #n " v, size_t i, "    \
    #space " " #T " *p)\n{ *(" #space " pipe_" #T #n " *)(p + " #n " * i) = v; }\n"
#define VECTOR(T, n)                                                                                       \
    "typedef " #T " pipe_" #T #n " __attribute__((ext_vector_type(" #n "), aligned(sizeof(" #T "))));\n"   \
    LOAD(T, n, global) LOAD(T, n, private) LOAD(T, n, local) LOAD(T, n, constant)                          \
    STORE(T, n, global) STORE(T, n, private) STORE(T, n, local)
#define VECTORS(T) VECTOR(T, 4) VECTOR(T, 8) VECTOR(T, 16)
static const char cpu_prefix[] =
    VECTORS(float) VECTORS(int) VECTORS(uint)
    VECTORS(char) VECTORS(uchar) VECTORS(short) VECTORS(ushort) VECTORS(long) VECTORS(ulong)
    "#ifdef cl_khr_fp64\n"
    "#pragma OPENCL EXTENSION cl_khr_fp64 : enable\n"
    VECTORS(double)
    "#endif\n"
    "#define vload4(i, p) pipe_load4(i, p)\n"
    "#define vload8(i, p) pipe_load8(i, p)\n"
    "#define vload16(i, p) pipe_load16(i, p)\n"
    "#define vstore4(v, i, p) pipe_store4(v, i, p)\n"
    "#define vstore8(v, i, p) pipe_store8(v, i, p)\n"
    "#define vstore16(v, i, p) pipe_store16(v, i, p)\n";

typedef struct known {
    uint64_t hash;
    const char *source;
    cl_program program;       /* NULL until it is built */
    bool waiting;             /* in the program being put together */
    names defined;            /* at file scope: renamed */
} known;

struct kernel_cache {
    pipe_arena *memory;
    known *list;              /* open addressing */
    size_t n, capacity;
};

kernel_cache *pipei_kernels_open(void)
{
    kernel_cache *k = pipe_alloc(sizeof *k);
    k->memory = pipe_arena_new();
    return k;
}

void pipei_kernels_close(kernel_cache *k)
{
    if (!k)
        return;
    pipe_arena_free(k->memory);
    pipe_free(k->list);
    pipe_free(k);
}

static known *slot_of(kernel_cache *k, uint64_t hash, const char *text)
{
    size_t at = hash & (k->capacity - 1);
    while (k->list[at].source && (k->list[at].hash != hash || strcmp(k->list[at].source, text) != 0))
        at = (at + 1) & (k->capacity - 1);
    return &k->list[at];
}

static void grow(kernel_cache *k)
{
    known *old = k->list;
    const size_t n_old = k->capacity;
    k->capacity = n_old ? 2 * n_old : 256;
    k->list = pipe_alloc_array(k->capacity, sizeof *k->list);
    for (size_t j = 0; j < n_old; j++)
        if (old[j].source)
            *slot_of(k, old[j].hash, old[j].source) = old[j];
    pipe_free(old);
}

/* ---- programs ---- */

static void add_part(pipe_text *text, kernel_cache *cache, known *k, bool cpu)
{
    names macros = {.a = cache->memory}, defined = {.a = cache->memory};
    PIPE_CLEANUP(pipe_text_free) pipe_text outlined = {0};
    const char *body = cpu && pipei_source_outline(k->source, &outlined) ? outlined.data : k->source;

    pipei_source_names(body, &macros, &defined);
    for (size_t j = 0; j < defined.n; j++)
        pipe_text_addf(text, "#define %s %s_%016" PRIx64 "\n", defined.list[j], defined.list[j], k->hash);
    pipe_text_add(text, body);
    pipe_text_add(text, "\n");
    for (size_t j = 0; j < macros.n; j++)
        pipe_text_addf(text, "#undef %s\n", macros.list[j]);
    for (size_t j = 0; j < defined.n; j++)
        pipe_text_addf(text, "#undef %s\n", defined.list[j]);
    for (size_t j = 0; j < macros.n; j++)       /* back to what the prefix says */
        if (strncmp(macros.list[j], "PIPE_EPILOGUE", 13) == 0 && macros.list[j][13] != '_')
            pipe_text_addf(text, "#define %s(v, i) (v)\n", macros.list[j]);
    k->defined = defined;
}

/* Names that come out of ## cannot be seen, so they cannot be renamed. */
static bool needs_own_program(const char *text)
{
    return strstr(text, "##") != NULL;
}

/* A program to be: its sources and its text. */
typedef struct piece {
    known **parts;
    size_t n;
    pipe_text text;
} piece;

static void add_to_piece(const build *b, piece *p, known *k)
{
    const bool cpu = pipei_device_profile(b->e->device)->cpu;

    if (!p->n) {
        pipe_text_add(&p->text, pipei_kernel_prefix);
        if (cpu)
            pipe_text_add(&p->text, cpu_prefix);
    }
    add_part(&p->text, b->e->kernels, k, cpu);
    p->parts[p->n++] = k;
}

/* Names the ops whose sources are in a program that does not compile. */
static pipe_status build_failed(const build *b, known *const *parts, size_t n, pipe_status status,
                                pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text ops = {0};
    for (uint32_t d = 0; d < b->n_drafts && ops.length < 200; d++)
        for (size_t k = 0; k < n; k++)
            if (b->drafts[d].source && strcmp(parts[k]->source, b->drafts[d].source) == 0 &&
                (!ops.data || !strstr(ops.data, b->drafts[d].who)))
                pipe_text_addf(&ops, "%s%s", ops.length ? ", " : "", b->drafts[d].who);
    return pipe_context_fail(err, status, "kernels of %s", ops.data ? ops.data : "a plan");
}

static pipe_status build_pieces(build *b, const piece *pieces, size_t n, pipe_error *err)
{
    const char **texts = pipe_arena_alloc(b->a, (n + 1) * sizeof *texts);
    bool asked = false;

    for (size_t k = 0; k < n; k++)
        texts[k] = pieces[k].text.data;
    for (size_t k = 0; k < n; k++) {
        cl_program program = NULL;
        if (!asked && pipei_program_compiled(b->e->device)) {
            pipei_ahead_programs(b->e, texts + k, n - k);
            asked = true;
        }
        const pipe_status status = pipei_program_get(b->e->device, texts[k], &program, err);
        if (status != PIPE_OK)
            return build_failed(b, pieces[k].parts, pieces[k].n, status, err);
        b->p->fresh |= asked || pipei_program_compiled(b->e->device);
        for (size_t j = 0; j < pieces[k].n; j++)
            pieces[k].parts[j]->program = program;
    }
    return PIPE_OK;
}

static pipe_status build_sources(build *b, pipe_error *err)
{
    kernel_cache *cache = b->e->kernels;
    piece *pieces = pipe_arena_alloc(b->a, (b->n_drafts + 1) * sizeof *pieces);
    piece *open = NULL;                         /* what the next source goes into */
    size_t n = 0;

    while (2 * (cache->n + b->n_drafts + 1) > cache->capacity)
        grow(cache);                            /* now: pointers into the table stay good below */
    for (uint32_t d = 0; d < b->n_drafts; d++) {
        const char *text = b->drafts[d].source;
        if (!text)
            continue;                           /* a call on the host */
        const uint64_t hash = pipe_hash64(text, strlen(text), 0);
        known *k = slot_of(cache, hash, text);
        if (!k->source) {
            *k = (known){.hash = hash, .source = pipe_arena_strdup(cache->memory, text)};
            cache->n++;
        }
        if (k->program || k->waiting)
            continue;
        k->waiting = true;
        const bool own = needs_own_program(text);
        piece *to = own ? NULL : open;
        if (!to) {
            to = &pieces[n++];
            to->parts = pipe_arena_alloc(b->a, (own ? 1 : PIECE) * sizeof(known *));
        }
        add_to_piece(b, to, k);
        if (!own)
            open = to->n < PIECE ? to : NULL;
    }
    const pipe_status status = build_pieces(b, pieces, n, err);
    for (size_t k = 0; k < n; k++) {
        for (size_t j = 0; j < pieces[k].n; j++)
            pieces[k].parts[j]->waiting = false;
        pipe_text_free(&pieces[k].text);
    }
    return status;
}

/* ---- kernels and their arguments ---- */

static pipe_status create(build *b, const draft *d, launch *l, pipe_error *err)
{
    const known *k = slot_of(b->e->kernels, pipe_hash64(d->source, strlen(d->source), 0), d->source);
    char name[256];
    cl_int code = CL_SUCCESS;

    snprintf(name, sizeof name, PIPEI_BODY "%s", d->kernel);
    l->guarded = pipei_names_have(&k->defined, name, strlen(name));
    if (pipei_names_have(&k->defined, d->kernel, strlen(d->kernel)))
        snprintf(name, sizeof name, "%s_%016" PRIx64, d->kernel, k->hash);
    else
        snprintf(name, sizeof name, "%s", d->kernel);
    l->identity = pipe_hash64(d->kernel, strlen(d->kernel), k->hash);
    l->kernel = clCreateKernel(k->program, name, &code);
    if (code != CL_SUCCESS)
        return pipe_fail(err, PIPE_EPLUGIN, "op %s: kernel %s: %s", d->who, d->kernel, pipei_cl_error(code));
    return PIPE_OK;
}

static pipe_status shape_launch(const build *b, const draft *d, launch *l, pipe_error *err)
{
    const pipe_device_profile *profile = pipei_device_profile(b->e->device);

    l->name = pipe_arena_format(b->p->memory, "%s (kernel %s)", d->who, d->kernel);
    l->op = d->who;                             /* rows outlive the process */
    l->dims = d->dims;
    for (uint32_t k = 0; k < d->dims; k++) {
        l->global[k] = d->global[k];
        l->local[k] = d->local[k];
        if (l->local[k] == 0) {
            /* Fixed here, never left to the driver: each size is compiled anew. */
            l->local[k] = 1;
            while (k == 0 && !profile->cpu && l->local[0] < 64 && l->local[0] < profile->max_work_group &&
                   l->global[0] % (2 * l->local[0]) == 0)
                l->local[0] *= 2;
        }
        if (l->global[k] % l->local[k])
            return pipe_fail(err, PIPE_EPLUGIN,
                             "op %s, kernel %s: global size %zu is not a multiple of local size %zu", d->who,
                             d->kernel, l->global[k], l->local[k]);
    }
    l->identity = pipe_hash64(l->local, sizeof l->local, l->identity);
    return PIPE_OK;
}

static binding *add_binding(plan *p, bind_kind kind, uint32_t at, uint32_t index)
{
    binding *x = &p->bindings[p->n_bindings++];
    *x = (binding){.kind = kind, .launch = at, .arg = index};
    return x;
}

static pipe_status set_args(build *b, const draft *d, uint32_t at, pipe_error *err)
{
    plan *p = b->p;
    launch *l = &p->launches[at];
    cl_kernel kernel = l->kernel;
    uint8_t *bytes = pipe_arena_alloc(p->memory, 2 * (size_t)d->n_args + 1); /* a buffer is two arguments */
    cl_uint index = 0, expected = 0;
    cl_int code = CL_SUCCESS;

    for (uint32_t k = 0; k < d->n_args && code == CL_SUCCESS; k++) {
        const arg *a = &d->args[k];
        switch (a->kind) {
        case ARG_VALUE:
        case ARG_SCRATCH: {
            const place where = a->kind == ARG_VALUE ? b->v[a->slot].at : b->scratches[a->slot].at;
            const cl_ulong offset = where.offset / 4 + (cl_ulong)a->number;
            add_binding(p, BIND_BUFFER, at, index++)->at = where;
            bytes[index] = sizeof offset;
            code = clSetKernelArg(kernel, index++, sizeof offset, &offset);
            break;
        }
        case ARG_INT: {
            const cl_int small = (cl_int)a->number;
            const cl_long wide = a->number;
            bytes[index] = a->index ? sizeof wide : sizeof small;
            code = a->index ? clSetKernelArg(kernel, index, sizeof wide, &wide)
                            : clSetKernelArg(kernel, index, sizeof small, &small);
            index++;
            break;
        }
        case ARG_FLOAT:
        case ARG_WORD: {
            bytes[index] = 4;
            binding *x = add_binding(p, a->kind == ARG_FLOAT ? BIND_FLOAT : BIND_WORD, at, index++);
            x->slot = a->slot;
            x->index = a->index;
            break;
        }
        }
    }
    l->n_args = index;
    l->arg_bytes = bytes;
    clGetKernelInfo(kernel, CL_KERNEL_NUM_ARGS, sizeof expected, &expected, NULL);
    if (code != CL_SUCCESS || index != expected)
        return pipe_fail(err, PIPE_EPLUGIN,
                         "op %s: kernel %s takes %u arguments (a buffer counts as two), the launch "
                         "gives %u: %s",
                         d->who, d->kernel, expected, index, pipei_cl_error(code));
    return PIPE_OK;
}

static void make_call(build *b, const draft *d, uint32_t at)
{
    plan *p = b->p;
    host_call *c = pipe_arena_alloc(p->memory, sizeof *c);

    *c = (host_call){.function = d->function, .ints = d->ints};
    c->mem = pipe_arena_alloc(p->memory, (d->n_args + 1) * sizeof *c->mem);
    c->offset = pipe_arena_alloc(p->memory, (d->n_args + 1) * sizeof *c->offset);
    for (uint32_t k = 0; k < d->n_args; k++) {
        const arg *a = &d->args[k];
        const place where = a->kind == ARG_VALUE ? b->v[a->slot].at : b->scratches[a->slot].at;
        c->offset[k] = where.offset / 4 + (size_t)a->number;
        add_binding(p, BIND_BUFFER, at, k)->at = where;
    }
    p->launches[at] = (launch){
        .call = c, .op = d->who, .name = pipe_arena_format(p->memory, "%s (%s)", d->who, d->kernel)};
}

static pipe_status make_kernel(build *b, const draft *d, uint32_t at, pipe_error *err)
{
    launch *l = &b->p->launches[at];
    PIPE_TRY(create(b, d, l, err));
    b->p->n_launches = at + 1;                  /* from here on the plan releases the kernel */
    PIPE_TRY(shape_launch(b, d, l, err));
    if (d->derives) {
        const uint32_t slot = b->scratches[d->derives - 1].at.slot;
        l->derives = slot + 1;
        b->p->derived[slot].key = pipei_derived_key(d);
    }
    return set_args(b, d, at, err);
}

pipe_status pipei_kernels_make(build *b, pipe_error *err)
{
    plan *p = b->p;
    size_t n_args = 0;

    PIPE_TRY(build_sources(b, err));
    for (uint32_t d = 0; d < b->n_drafts; d++)
        n_args += b->drafts[d].n_args;
    p->launches = pipe_arena_alloc(p->memory, (b->n_drafts + 1) * sizeof *p->launches);
    p->bindings = pipe_arena_alloc(p->memory, (n_args + 1) * sizeof *p->bindings);
    for (uint32_t s = 0; s < b->n_steps; s++) {
        const step *st = &b->steps[b->sorted[s]];
        for (uint32_t k = 0; k < st->n_drafts; k++) {
            const draft *d = &b->drafts[st->first_draft + k];
            const uint32_t at = (uint32_t)p->n_launches;
            if (d->source)
                PIPE_TRY(make_kernel(b, d, at, err));
            else
                make_call(b, d, at);
            p->n_launches = at + 1;
            if (pipe_log_enabled(PIPE_LOG_TRACE, "engine"))
                pipe_log(PIPE_LOG_TRACE, "engine", "launch %u: %s, global %zu x %zu x %zu", at,
                         p->launches[at].name, d->global[0], d->global[1], d->global[2]);
        }
    }
    return PIPE_OK;
}
