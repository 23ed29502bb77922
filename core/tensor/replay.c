/* Running a plan: bind, enqueue, hand the results over.  Nothing here waits for
 * the device, but for the evaluation before the last one: that bounds the queue
 * and the memory of buffers that are still being written. */
#include "core/tensor/build.h"

#include <string.h>

enum { NONE = UINT32_MAX };

/* Memory of temporaries grows to what the largest plan needs. */
static pipe_status fit_arena(pipe_engine *e, const plan *p, pipe_error *err)
{
    const bool exact = pipei_device_exact_memory(e->device);

    for (size_t c = 0; c < p->n_chunks; c++) {
        if (c < e->n_chunks && (exact ? e->chunks[c].bytes == p->chunk_bytes[c]
                                      : e->chunks[c].bytes >= p->chunk_bytes[c]))
            continue;
        if (c == e->n_chunks) {
            e->chunks = pipe_realloc(e->chunks, (c + 1) * sizeof *e->chunks);
            e->chunks[e->n_chunks++] = (arena_chunk){0};
        }
        arena_chunk *chunk = &e->chunks[c];
        pipei_buffer_free(e->device, chunk->mem);
        *chunk = (arena_chunk){0};
        pipei_device_trim(e->device);
        PIPE_TRY(pipei_buffer_new(e->device, p->chunk_bytes[c], "temporaries", &chunk->mem, err));
        chunk->bytes = p->chunk_bytes[c];
    }
    return PIPE_OK;
}

static cl_mem memory_at(const pipe_engine *e, const plan *p, const place *at, const cl_mem *outs)
{
    switch (at->kind) {
    case PLACE_LEAF:
        return e->request.leaves[at->slot]->mem;
    case PLACE_OUT:
        return outs[at->slot];
    case PLACE_ARENA:
        return e->chunks[at->slot].mem;
    case PLACE_DERIVED:
        return p->derived[at->slot].mem;
    case PLACE_NONE:
        break;
    }
    return NULL;
}

/* Sets what changed since the last run. */
static cl_int bind(const pipe_engine *e, plan *p, const cl_mem *outs)
{
    cl_int code = CL_SUCCESS;
    const uint64_t generation = pipei_device_generation(e->device);
    const bool stale = p->generation != generation;   /* an equal handle may be another buffer */
    p->generation = generation;
    for (size_t k = 0; k < p->n_bindings && code == CL_SUCCESS; k++) {
        binding *b = &p->bindings[k];
        const launch *l = &p->launches[b->launch];
        const cl_kernel kernel = l->kernel;
        switch (b->kind) {
        case BIND_BUFFER: {
            const cl_mem mem = memory_at(e, p, &b->at, outs);
            if (b->set && !stale && b->last.mem == mem)
                continue;
            b->last.mem = mem;
            if (l->call)
                l->call->mem[b->arg] = mem;
            else
                code = clSetKernelArg(kernel, b->arg, sizeof mem, &b->last.mem);
            break;
        }
        case BIND_FLOAT: {
            const float f = e->request.nodes[b->slot]->attr->f[b->index];
            if (b->set && memcmp(&b->last.f, &f, sizeof f) == 0)
                continue;
            b->last.f = f;
            code = clSetKernelArg(kernel, b->arg, sizeof f, &b->last.f);
            break;
        }
        case BIND_WORD: {
            const uint32_t u = e->request.nodes[b->slot]->attr->u[b->index];
            if (b->set && b->last.u == u)
                continue;
            b->last.u = u;
            code = clSetKernelArg(kernel, b->arg, sizeof u, &b->last.u);
            break;
        }
        }
        b->set = code == CL_SUCCESS;
    }
    return code;
}

static pipe_status copy_all(pipe_engine *e, const plan *p, const copy *c, size_t n, const cl_mem *outs, pipe_error *err)
{
    for (size_t k = 0; k < n; k++)
        PIPE_TRY(pipei_device_copy(e->device, memory_at(e, p, &c[k].from, outs),
                                   c[k].from.offset + c[k].from_offset, memory_at(e, p, &c[k].to, outs), 0,
                                   c[k].bytes, err));
    return PIPE_OK;
}

void pipei_say_compiling(pipe_engine *e)
{
    if (!e->said_compiling)
        pipe_log(PIPE_LOG_INFO, "engine", "compiling kernels for this device (kept for later runs) ...");
    e->said_compiling = true;
}

typedef struct moment {
    double clock, cpu;        /* seconds; cpu: of all threads */
} moment;

static moment moment_now(void) { return (moment){pipei_seconds(), pipei_cpu_seconds()}; }

/* Compilers keep one core busy, kernels that take long keep all. */
static bool has_compiled(moment since, moment now)
{
    const double cpu = now.cpu - since.cpu;
    return cpu > PIPEI_COMPILED && cpu < 1.5 * (now.clock - since.clock);
}

/* The first run compiles kernels one by one, in the driver, for a quarter of a second
 * each: it goes step by step, gets help, and says, once, what takes so long. */
static pipe_status first_run(pipe_engine *e, plan *p, size_t next, moment start, moment last, pipe_error *err)
{
    PIPE_TRY(pipei_device_finish(e->device, err));
    const moment now = moment_now();
    pipei_ahead_compiled(e, &p->launches[next - 1]);
    if (!p->fresh && has_compiled(last, now)) {
        p->fresh = true;
        pipei_ahead_kernels(e, p->launches + next, p->n_launches - next);
    }
    if (p->fresh && now.clock - start.clock > 1.0)
        pipei_say_compiling(e);
    return PIPE_OK;
}

static pipe_status launch_kernel(pipe_engine *e, const launch *l, pipe_error *err)
{
    cl_event event = NULL;
    const cl_int code =
        clEnqueueNDRangeKernel(pipei_device_queue(e->device), l->kernel, l->dims, NULL, l->global, l->local,
                               0, NULL, e->profiling ? &event : NULL);
    if (code != CL_SUCCESS)
        return pipe_fail(err, PIPE_EDEVICE,
                         "%s: launching %s (global %zu x %zu x %zu, local %zu x %zu x %zu): %s",
                         pipei_device_describe(e->device)->name, l->name, l->global[0], l->global[1],
                         l->global[2], l->local[0], l->local[1], l->local[2], pipei_cl_error(code));
    if (event)
        pipei_profile_add(e, l, event);
    return PIPE_OK;
}

/* A call enqueues as many commands as it likes: timed by the clock, on an idle queue. */
static pipe_status launch_call(pipe_engine *e, const launch *l, pipe_error *err)
{
    const host_call *c = l->call;
    if (e->profiling) {
        PIPE_TRY(pipei_profile_collect(e, err));
        PIPE_TRY(pipei_device_finish(e->device, err));
    }
    const double start = pipei_seconds();
    const pipe_status status = c->function(e->device, c->mem, c->offset, c->ints, err);
    if (status != PIPE_OK)
        return pipe_context_fail(err, status, "%s", l->name);
    if (e->profiling) {
        PIPE_TRY(pipei_device_finish(e->device, err));
        pipei_profile_add_seconds(e, l, start, pipei_seconds() - start);
    }
    return PIPE_OK;
}

static pipe_status enqueue(pipe_engine *e, plan *p, pipe_error *err)
{
    const moment start = p->warm ? (moment){0} : moment_now();

    if (p->fresh && !p->warm)
        pipei_ahead_kernels(e, p->launches, p->n_launches);
    for (size_t k = 0; k < p->n_launches; k++) {
        const launch *l = &p->launches[k];
        if (l->derives && p->derived[l->derives - 1].fresh)
            continue;
        e->stats.launches++;
        const moment last = p->warm ? start : moment_now();
        PIPE_TRY(l->call ? launch_call(e, l, err) : launch_kernel(e, l, err));
        if (!p->warm)
            PIPE_TRY(first_run(e, p, k + 1, start, last, err));
    }
    p->warm = true;
    return PIPE_OK;
}

/* Marks the end of this evaluation, and waits for that of the one before the last. */
static pipe_status bound_queue(pipe_engine *e, pipe_error *err)
{
    cl_event *turn = &e->in_flight[e->turn++ % PIPELINE_DEPTH];
    cl_int code = CL_SUCCESS;
    if (*turn) {
        code = clWaitForEvents(1, turn);
        clReleaseEvent(*turn);
        *turn = NULL;
    }
    if (code == CL_SUCCESS)
        code = clEnqueueMarkerWithWaitList(pipei_device_queue(e->device), 0, NULL, turn);
    if (code == CL_SUCCESS)
        code = clFlush(pipei_device_queue(e->device));
    if (code != CL_SUCCESS)
        return pipe_fail(err, PIPE_EDEVICE, "%s: %s", pipei_device_describe(e->device)->name,
                         pipei_cl_error(code));
    return PIPE_OK;
}

/* Results become the tensors' buffers. */
static void hand_over(pipe_engine *e, const plan *p, const cl_mem *outs)
{
    const request *q = &e->request;
    for (size_t k = 0; k < q->n_assigns; k++) {
        if (p->assign_out[k] == NONE)
            continue;                           /* written in place */
        pipe_tensor *leaf = q->assigns[k].leaf;
        pipei_buffer_free(e->device, leaf->mem);
        leaf->mem = outs[p->assign_out[k]];
    }
    for (size_t k = 0; k < q->n_outs; k++)
        pipei_tensor_become_leaf(q->outs[k], outs[p->kept_out[k]], p->out_bytes[p->kept_out[k]]);
}

pipe_status pipei_replay(pipe_engine *e, plan *p, pipe_error *err)
{
    cl_mem *outs = pipe_arena_alloc(e->arena, (p->n_out + 1) * sizeof *outs);
    pipe_status status = fit_arena(e, p, err);

    for (size_t k = 0; k < p->n_out && status == PIPE_OK; k++)
        status = pipei_buffer_new(e->device, p->out_bytes[k], e->label, &outs[k], err);
    for (size_t k = 0; k < e->request.n_assigns; k++)
        e->request.assigns[k].leaf->version++;  /* even if this fails half-way */
    if (status == PIPE_OK)
        status = pipei_derived_bind(e, p, err);
    if (status == PIPE_OK)
        status = copy_all(e, p, p->before, p->n_before, outs, err);
    if (status == PIPE_OK) {
        const cl_int code = bind(e, p, outs);
        if (code != CL_SUCCESS)
            status = pipe_fail(err, PIPE_EDEVICE, "setting a kernel argument: %s", pipei_cl_error(code));
    }
    if (status == PIPE_OK)
        status = enqueue(e, p, err);
    if (status == PIPE_OK)
        status = copy_all(e, p, p->after, p->n_after, outs, err);
    if (status == PIPE_OK)
        status = bound_queue(e, err);
    if (e->profiling) {                         /* also of what was enqueued before a failure: the plan may go */
        const pipe_status collected = pipei_profile_collect(e, status == PIPE_OK ? err : NULL);
        status = status == PIPE_OK ? collected : status;
    }
    if (status != PIPE_OK) {
        for (size_t k = 0; k < p->n_out; k++)
            pipei_buffer_free(e->device, outs[k]);
        return status;
    }
    pipei_derived_made(e, p);
    hand_over(e, p, outs);
    e->stats.plans_replayed++;
    return PIPE_OK;
}
