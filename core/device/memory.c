/* Device memory: a pool of buffers, and copies between host and device.
 *
 *     pipei_buffer_new ──▶ live (in use, known by owner) ──pipei_buffer_free──▶ idle
 *            ▲                                                                   │
 *            └───────────────── same size class ─────────────────────────────────┘
 *
 * Sizes are rounded up to a class, eight classes to an octave, so that tensors of
 * nearly one size share buffers at a waste of at most 1/8.  Idle buffers are given
 * back to the driver when a limit is hit, oldest first.
 *
 * PIPE_DEVICE_MEMORY=exact allocates the bytes that were asked for and no more: a
 * checker of kernels (tests/oclgrind) sees the first access behind the end. */
#include "core/device/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SMALLEST = 256,            /* bytes; also the least alignment of drivers */
    IDLE_CLASSES_KEPT = 4096   /* idle buffers beyond this number are released */
};

static bool size_class(const pool *p, size_t bytes, size_t *out)
{
    if (p->exact) {
        *out = bytes ? bytes : 1; /* OpenCL has no empty buffers */
        return true;
    }
    if (bytes <= SMALLEST) {
        *out = SMALLEST;
        return true;
    }
    const int octave = 63 - __builtin_clzll((unsigned long long)(bytes - 1));
    const size_t step = (size_t)1 << (octave > 10 ? octave - 3 : 8);
    size_t padded;
    if (!pipe_add_size(bytes, step - 1, &padded))
        return false;
    *out = padded & ~(step - 1);
    return true;
}

/* "500M", "2G", plain bytes. */
static pipe_status parse_limit(const char *text, uint64_t *out, pipe_error *err)
{
    char *end;
    errno = 0;
    const unsigned long long number = strtoull(text, &end, 10);
    const unsigned shift = *end == 'K' || *end == 'k'   ? 10
                           : *end == 'M' || *end == 'm' ? 20
                           : *end == 'G' || *end == 'g' ? 30
                                                        : 0;
    const char *rest = shift ? end + 1 : end;
    if (errno || end == text || text[0] == '-' || number == 0 || *rest != '\0' ||
        (shift && number > UINT64_MAX >> shift))
        return pipe_fail(err, PIPE_EINVAL, "PIPE_DEVICE_MEMORY_LIMIT=%s: not a size such as 500M or 2G",
                         text);
    *out = (uint64_t)number << shift;
    return PIPE_OK;
}

pipe_status pipei_pool_open(pipei_device *d, pipe_error *err)
{
    const char *limit = getenv("PIPE_DEVICE_MEMORY_LIMIT"), *exact = getenv("PIPE_DEVICE_MEMORY");
    d->pool.limit = d->info.memory ? d->info.memory : UINT64_MAX;
    if (limit && limit[0])
        PIPE_TRY(parse_limit(limit, &d->pool.limit, err));
    d->pool.exact = exact && strcmp(exact, "exact") == 0;
    if (exact && exact[0] && !d->pool.exact)
        return pipe_fail(err, PIPE_EINVAL, "PIPE_DEVICE_MEMORY=%s: `exact` is the only value", exact);
    return PIPE_OK;
}

static void release_idle(pipei_device *d, size_t k)
{
    pool *p = &d->pool;
    p->cached -= p->idle[k].bytes;
    p->generation++;
    clReleaseMemObject(p->idle[k].mem);
    p->idle[k] = p->idle[--p->n_idle];
}

static void release_oldest(pipei_device *d)
{
    pool *p = &d->pool;
    size_t oldest = 0;
    for (size_t k = 1; k < p->n_idle; k++)
        if (p->idle[k].since < p->idle[oldest].since)
            oldest = k;
    release_idle(d, oldest);
}

void pipei_pool_close(pipei_device *d)
{
    pool *p = &d->pool;
    while (p->n_idle)
        release_idle(d, p->n_idle - 1);
    for (size_t k = 0; k < p->live_capacity; k++)
        if (p->live[k].mem)
            clReleaseMemObject(p->live[k].mem);
    for (size_t k = 0; k < p->n_stages; k++) {
        if (p->stages[k].done)
            clReleaseEvent(p->stages[k].done);
        pipe_free(p->stages[k].data);
    }
    pipe_free(p->stages);
    pipe_free(p->live);
    pipe_free(p->idle);
    pipe_free(p->owners);
    *p = (pool){0};
}

/* ---- who owns what ---- */

static uint32_t owner_index(pool *p, const char *name)
{
    char cut[sizeof p->owners->name];
    snprintf(cut, sizeof cut, "%s", name ? name : "tensors");
    for (size_t k = 0; k < p->n_owners; k++)
        if (strcmp(p->owners[k].name, cut) == 0)
            return (uint32_t)k;
    p->owners = pipe_realloc(p->owners, (p->n_owners + 1) * sizeof *p->owners);
    p->owners[p->n_owners] = (owner){0};
    memcpy(p->owners[p->n_owners].name, cut, sizeof cut);
    return (uint32_t)p->n_owners++;
}

static size_t place_of(const pool *p, cl_mem mem)
{
    const size_t mask = p->live_capacity - 1;
    size_t k = ((uintptr_t)mem >> 4) * 0x9e3779b97f4a7c15u >> 20 & mask;
    while (p->live[k].mem && p->live[k].mem != mem)
        k = (k + 1) & mask;
    return k;
}

static void add_live(pool *p, live_buffer b)
{
    if (2 * (p->n_live + 1) > p->live_capacity) {
        live_buffer *old = p->live;
        const size_t n_old = p->live_capacity;
        p->live_capacity = n_old ? 2 * n_old : 256;
        p->live = pipe_alloc_array(p->live_capacity, sizeof *p->live);
        for (size_t k = 0; k < n_old; k++)
            if (old[k].mem)
                p->live[place_of(p, old[k].mem)] = old[k];
        pipe_free(old);
    }
    p->live[place_of(p, b.mem)] = b;
    p->n_live++;
    p->owners[b.owner].bytes += b.bytes;
    p->used += b.bytes;
    if (p->used > p->peak)
        p->peak = p->used;
}

static live_buffer take_live(pool *p, cl_mem mem)
{
    const size_t mask = p->live_capacity - 1;
    size_t hole = place_of(p, mem);
    const live_buffer found = p->live[hole];

    /* Deletion in open addressing: pull back whoever was pushed past the hole. */
    p->live[hole].mem = NULL;
    for (size_t k = (hole + 1) & mask; p->live[k].mem; k = (k + 1) & mask) {
        const live_buffer moved = p->live[k];
        p->live[k].mem = NULL;
        p->live[place_of(p, moved.mem)] = moved;
    }
    p->n_live--;
    p->owners[found.owner].bytes -= found.bytes;
    p->used -= found.bytes;
    return found;
}

static void text_of_size(uint64_t bytes, char *out, size_t size)
{
    if (bytes >= (uint64_t)1 << 30)
        snprintf(out, size, "%.2f GiB", (double)bytes / (1 << 30));
    else if (bytes >= 1 << 20)
        snprintf(out, size, "%.1f MiB", (double)bytes / (1 << 20));
    else
        snprintf(out, size, "%" PRIu64 " bytes", bytes);
}

static pipe_status out_of_memory(pipei_device *d, size_t bytes, const char *who, const char *why,
                                 pipe_error *err)
{
    const pool *p = &d->pool;
    char needed[32], used[32], limit[32];
    PIPE_CLEANUP(pipe_text_free) pipe_text list = {0};
    size_t taken[3] = {SIZE_MAX, SIZE_MAX, SIZE_MAX};

    for (size_t rank = 0; rank < 3; rank++) {
        size_t best = SIZE_MAX;
        for (size_t k = 0; k < p->n_owners; k++)
            if (p->owners[k].bytes && k != taken[0] && k != taken[1] &&
                (best == SIZE_MAX || p->owners[k].bytes > p->owners[best].bytes))
                best = k;
        if (best == SIZE_MAX)
            break;
        taken[rank] = best;
        text_of_size(p->owners[best].bytes, used, sizeof used);
        pipe_text_addf(&list, "%s%s %s", rank ? ", " : "; largest: ", p->owners[best].name, used);
    }
    text_of_size(bytes, needed, sizeof needed);
    text_of_size(p->used, used, sizeof used);
    text_of_size(p->limit, limit, sizeof limit);
    return pipe_fail(err, PIPE_ENOMEM,
                     "%s: out of device memory (%s): %s needs %s more, %s of %s are in use%s. "
                     "A smaller batch, fewer channels or a smaller image needs less",
                     d->info.name, why, who ? who : "tensors", needed, used, limit,
                     list.data ? list.data : "");
}

/* ---- buffers ---- */

static bool reuse(pool *p, size_t bytes, cl_mem *out)
{
    for (size_t k = p->n_idle; k-- > 0;)        /* the latest is likeliest in a cache */
        if (p->idle[k].bytes == bytes) {
            *out = p->idle[k].mem;
            p->cached -= bytes;
            p->idle[k] = p->idle[--p->n_idle];
            return true;
        }
    return false;
}

pipe_status pipei_buffer_new(pipei_device *d, size_t bytes, const char *who, cl_mem *out, pipe_error *err)
{
    pool *p = &d->pool;
    size_t size;
    cl_mem mem = NULL;

    if (!size_class(p, bytes, &size))
        return out_of_memory(d, bytes, who, "beyond the address space", err);
    if (size > d->info.max_allocation && d->info.max_allocation)
        size = bytes;                            /* rounding up must not be what fails */
    if (size > d->info.max_allocation && d->info.max_allocation)
        return out_of_memory(d, bytes, who, "more than the device allows for one buffer", err);
    if (p->used > p->limit || size > p->limit - p->used)
        return out_of_memory(d, bytes, who, "limit", err);

    if (!reuse(p, size, &mem)) {
        while (p->n_idle && p->used + p->cached + size > p->limit)
            release_oldest(d);
        cl_int code = CL_SUCCESS;
        mem = clCreateBuffer(d->context, CL_MEM_READ_WRITE, size, NULL, &code);
        if (code != CL_SUCCESS && p->n_idle) {
            while (p->n_idle)
                release_oldest(d);
            clFinish(d->queue);                  /* what was released is in use until then */
            mem = clCreateBuffer(d->context, CL_MEM_READ_WRITE, size, NULL, &code);
        }
        if (code != CL_SUCCESS)
            return out_of_memory(d, bytes, who, pipei_cl_error(code), err);
    }
    add_live(p, (live_buffer){mem, owner_index(p, who), size});
    *out = mem;
    return PIPE_OK;
}

void pipei_buffer_free(pipei_device *d, cl_mem buffer)
{
    pool *p = &d->pool;
    if (!buffer)
        return;
    const live_buffer b = take_live(p, buffer);
    if (p->n_idle == p->idle_capacity) {
        p->idle_capacity = p->idle_capacity ? 2 * p->idle_capacity : 64;
        p->idle = pipe_realloc(p->idle, p->idle_capacity * sizeof *p->idle);
    }
    p->idle[p->n_idle++] = (free_buffer){b.mem, b.bytes, p->clock++};
    p->cached += b.bytes;
    if (p->n_idle > IDLE_CLASSES_KEPT)
        release_oldest(d);
}

/* Does no copy read it any more? */
static bool is_free(staging *s)
{
    cl_int state = CL_QUEUED;

    if (!s->done)
        return true;
    clGetEventInfo(s->done, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof state, &state, NULL);
    if (state > CL_COMPLETE)
        return false;
    clReleaseEvent(s->done);
    s->done = NULL;
    return true;
}

void pipei_device_trim(pipei_device *d)
{
    pool *p = &d->pool;

    while (p->n_idle)
        release_idle(d, p->n_idle - 1);
    for (size_t k = p->n_stages; k-- > 0;)
        if (is_free(&p->stages[k])) {
            pipe_free(p->stages[k].data);
            p->stages[k] = p->stages[--p->n_stages];
        }
}

bool pipei_device_exact_memory(const pipei_device *d) { return d->pool.exact; }
uint64_t pipei_device_peak_memory(const pipei_device *d) { return d->pool.peak; }
uint64_t pipei_device_generation(const pipei_device *d) { return d->pool.generation; }
uint64_t pipei_device_used_memory(const pipei_device *d) { return d->pool.used; }
uint64_t pipei_device_memory_limit(const pipei_device *d) { return d->pool.limit; }
void pipei_device_limit_memory(pipei_device *d, uint64_t bytes) { d->pool.limit = bytes; }

/* ---- copies ---- */

static pipe_status copy_failed(const pipei_device *d, const char *what, size_t bytes, cl_int code,
                               pipe_error *err)
{
    return pipe_fail(err, PIPE_EDEVICE, "%s: %s of %zu bytes: %s", d->info.name, what, bytes,
                     pipei_cl_error(code));
}

/* A staging buffer that no copy is reading any more, of at least `bytes`. */
static staging *free_stage(pool *p, size_t bytes)
{
    staging *best = NULL;
    for (size_t k = 0; k < p->n_stages; k++) {
        staging *s = &p->stages[k];
        if (!is_free(s))
            continue;
        const bool fits = s->capacity >= bytes;
        if (!best || (fits && (best->capacity < bytes || s->capacity < best->capacity)) ||
            (!fits && best->capacity < bytes && s->capacity > best->capacity))
            best = s;
    }
    if (!best) {
        p->stages = pipe_realloc(p->stages, (p->n_stages + 1) * sizeof *p->stages);
        best = &p->stages[p->n_stages++];
        *best = (staging){0};
    }
    if (best->capacity < bytes) {
        pipe_free(best->data);
        *best = (staging){.data = pipe_try_alloc(bytes), .capacity = bytes};
        if (!best->data)
            best->capacity = 0;
    }
    return best;
}

pipe_status pipei_device_write(pipei_device *d, cl_mem b, size_t offset, const void *data, size_t bytes,
                               pipe_error *err)
{
    if (bytes == 0)
        return PIPE_OK;
    staging *s = free_stage(&d->pool, bytes);
    if (!s->data)
        return pipe_fail(err, PIPE_ENOMEM, "out of host memory: staging %zu bytes for the device", bytes);
    memcpy(s->data, data, bytes);
    const cl_int code = clEnqueueWriteBuffer(d->queue, b, CL_FALSE, offset, bytes, s->data, 0, NULL,
                                             &s->done);
    return code == CL_SUCCESS ? PIPE_OK : copy_failed(d, "a write", bytes, code, err);
}

pipe_status pipei_device_read(pipei_device *d, cl_mem b, size_t offset, void *data, size_t bytes,
                              pipe_error *err)
{
    if (bytes == 0)
        return PIPE_OK;
    const cl_int code = clEnqueueReadBuffer(d->queue, b, CL_TRUE, offset, bytes, data, 0, NULL, NULL);
    return code == CL_SUCCESS ? PIPE_OK : copy_failed(d, "a read", bytes, code, err);
}

pipe_status pipei_device_copy(pipei_device *d, cl_mem from, size_t from_offset, cl_mem to, size_t to_offset,
                              size_t bytes, pipe_error *err)
{
    if (bytes == 0)
        return PIPE_OK;
    const cl_int code = clEnqueueCopyBuffer(d->queue, from, to, from_offset, to_offset, bytes, 0, NULL, NULL);
    return code == CL_SUCCESS ? PIPE_OK : copy_failed(d, "a copy", bytes, code, err);
}
