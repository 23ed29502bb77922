/* Finding, choosing and opening OpenCL devices. */
#include "core/device/internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <strings.h>
#include <time.h>

typedef struct handles {
    cl_platform_id platform;
    cl_device_id id;
} handles;

static double seconds_of(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double pipei_seconds(void) { return seconds_of(CLOCK_MONOTONIC); }
double pipei_cpu_seconds(void) { return seconds_of(CLOCK_PROCESS_CPUTIME_ID); }
double pipei_thread_seconds(void) { return seconds_of(CLOCK_THREAD_CPUTIME_ID); }

static const char *type_name(cl_device_type type)
{
    if (type & CL_DEVICE_TYPE_GPU)
        return "gpu";
    if (type & CL_DEVICE_TYPE_CPU)
        return "cpu";
    return "accelerator";
}

static void describe(const handles *h, size_t index, pipei_device_info *info)
{
    cl_device_type type = 0;
    cl_ulong memory = 0, allocation = 0;
    cl_uint units = 0;

    clGetDeviceInfo(h->id, CL_DEVICE_NAME, sizeof info->name - 1, info->name, NULL);
    clGetPlatformInfo(h->platform, CL_PLATFORM_NAME, sizeof info->platform - 1, info->platform, NULL);
    clGetDeviceInfo(h->id, CL_DEVICE_VERSION, sizeof info->version - 1, info->version, NULL);
    clGetDeviceInfo(h->id, CL_DRIVER_VERSION, sizeof info->driver - 1, info->driver, NULL);
    clGetDeviceInfo(h->id, CL_DEVICE_TYPE, sizeof type, &type, NULL);
    clGetDeviceInfo(h->id, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof memory, &memory, NULL);
    clGetDeviceInfo(h->id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof allocation, &allocation, NULL);
    clGetDeviceInfo(h->id, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof units, &units, NULL);
    snprintf(info->selector, sizeof info->selector, "%zu", index);
    snprintf(info->type, sizeof info->type, "%s", type_name(type));
    info->memory = memory;
    info->max_allocation = allocation;
    info->compute_units = units;
}

/* All devices, their handles in step with their descriptions; both arrays are the caller's. */
static pipe_status enumerate(handles **out, pipei_device_info **info, size_t *n, pipe_error *err)
{
    static const char advice[] =
        "install the Debian package pocl-opencl-icd (runs on the CPU), or your GPU's OpenCL driver";
    cl_platform_id platforms[32];
    cl_uint n_platforms = 0;
    handles *found = NULL;
    size_t total = 0;

    cl_int code = clGetPlatformIDs(32, platforms, &n_platforms);
    if (code != CL_SUCCESS || n_platforms == 0)   /* the ICD loader answers -1001 for none */
        return pipe_fail(err, PIPE_EDEVICE, "there is no OpenCL platform on this machine: %s", advice);
    if (n_platforms > 32)
        n_platforms = 32;

    for (cl_uint p = 0; p < n_platforms; p++) {
        cl_device_id ids[64];
        cl_uint n_ids = 0;
        code = clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, 64, ids, &n_ids);
        if (code != CL_SUCCESS)                   /* a platform without devices */
            continue;
        if (n_ids > 64)
            n_ids = 64;
        found = pipe_realloc(found, (total + n_ids) * sizeof *found);
        for (cl_uint k = 0; k < n_ids; k++)
            found[total++] = (handles){platforms[p], ids[k]};
    }
    if (total == 0) {
        pipe_free(found);
        return pipe_fail(err, PIPE_EDEVICE, "the OpenCL platforms of this machine offer no device: %s",
                         advice);
    }

    *info = pipe_alloc_array(total, sizeof **info);
    for (size_t k = 0; k < total; k++)
        describe(&found[k], k, &(*info)[k]);
    *out = found;
    *n = total;
    return PIPE_OK;
}

pipe_status pipei_device_list(pipei_device_info **out, size_t *n, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) handles *found = NULL;
    return enumerate(&found, out, n, err);
}

static bool contains(const char *text, const char *part)
{
    const size_t n = strlen(part);
    for (; *text; text++)
        if (strncasecmp(text, part, n) == 0)
            return true;
    return false;
}

static bool first_of_type(const pipei_device_info *info, size_t n, const char *type, size_t *out)
{
    for (size_t k = 0; k < n; k++)
        if (strcmp(info[k].type, type) == 0) {
            *out = k;
            return true;
        }
    return false;
}

static pipe_status no_such_device(const char *selector, const pipei_device_info *info, size_t n,
                                  pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text list = {0};
    for (size_t k = 0; k < n; k++)
        pipe_text_addf(&list, "\n  %s: %s (%s, %s)", info[k].selector, info[k].name, info[k].type,
                       info[k].platform);
    return pipe_fail(
        err, PIPE_ENOTFOUND,
        "no OpenCL device is called \"%s\"; a device is auto, cpu, gpu, an index or a part of a name of:%s",
        selector, list.data);
}

static pipe_status choose(const char *selector, const pipei_device_info *info, size_t n, size_t *out,
                          pipe_error *err)
{
    if (!selector || !selector[0] || strcmp(selector, "auto") == 0) {
        if (!first_of_type(info, n, "gpu", out) && !first_of_type(info, n, "cpu", out))
            *out = 0;
        return PIPE_OK;
    }
    if (strcmp(selector, "cpu") == 0 || strcmp(selector, "gpu") == 0)
        return first_of_type(info, n, selector, out) ? PIPE_OK : no_such_device(selector, info, n, err);

    if (isdigit((unsigned char)selector[0])) {
        char *end;
        errno = 0;
        const unsigned long k = strtoul(selector, &end, 10);
        if (*end == '\0' && errno == 0 && k < n) {
            *out = k;
            return PIPE_OK;
        }
        if (*end == '\0')
            return no_such_device(selector, info, n, err);
    }
    for (size_t k = 0; k < n; k++)
        if (contains(info[k].name, selector)) {
            *out = k;
            return PIPE_OK;
        }
    return no_such_device(selector, info, n, err);
}

/* 16 lanes mean AVX-512 with 32 registers; 4 lanes are SSE (16) or NEON (32). */
static uint32_t registers_of(uint32_t lanes)
{
#if defined(__aarch64__)
    (void)lanes;
    return 32;
#else
    return lanes >= 16 ? 32 : 16;
#endif
}

/* Of one core's level 2 cache; 256 KiB is what even small cores have. */
static size_t cache_of(bool cpu)
{
    const size_t least = 256 * 1024;
#if defined(_SC_LEVEL2_CACHE_SIZE)
    const long found = cpu ? sysconf(_SC_LEVEL2_CACHE_SIZE) : 0;
    return found > (long)least ? (size_t)found : least;
#else
    (void)cpu;
    return least;
#endif
}

static pipe_status make_profile(pipei_device *d, const char *forced, pipe_error *err)
{
    static const struct {
        const char *name;
        bool cpu;
        uint32_t width, registers;
    } classes[] = {
        {"gpu", false, 4, 0}, {"avx512", true, 16, 32}, {"avx2", true, 8, 16}, {"sse", true, 4, 16},
    };
    pipe_device_profile *p = &d->profile;
    size_t group = 1;
    cl_ulong local = 0;
    cl_uint width = 0;

    clGetDeviceInfo(d->id, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof group, &group, NULL);
    clGetDeviceInfo(d->id, CL_DEVICE_LOCAL_MEM_SIZE, sizeof local, &local, NULL);
    clGetDeviceInfo(d->id, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, sizeof width, &width, NULL);

    *p = (pipe_device_profile){
        .size = sizeof *p,
        .cpu = strcmp(d->info.type, "cpu") == 0,
        .compute_units = d->info.compute_units ? d->info.compute_units : 1,
        .max_work_group = (uint32_t)group,
        .local_memory = local,
        .cache_bytes = cache_of(strcmp(d->info.type, "cpu") == 0),
    };
    p->vector_width = !p->cpu ? 4 : width >= 16 ? 16 : width >= 8 ? 8 : 4;
    p->vector_registers = p->cpu ? registers_of(p->vector_width) : 0;
    if (!forced || strcmp(forced, "auto") == 0)
        return PIPE_OK;

    const char *names[sizeof classes / sizeof classes[0]];
    for (size_t k = 0; k < sizeof classes / sizeof classes[0]; k++) {
        names[k] = classes[k].name;
        if (strcmp(forced, classes[k].name) == 0) {
            p->cpu = classes[k].cpu;
            p->vector_width = classes[k].width;
            p->vector_registers = classes[k].registers;
            return PIPE_OK;
        }
    }
    const char *near = pipe_nearest(forced, names, sizeof names / sizeof names[0]);
    return pipe_fail(err, PIPE_EINVAL,
                     "there is no device profile \"%s\": gpu, avx512, avx2, sse or auto%s%s%s", forced,
                     near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
}

static pipe_status open_queue(pipei_device *d, bool timed, pipe_error *err)
{
    cl_int code = CL_SUCCESS;
    cl_command_queue queue =
        clCreateCommandQueue(d->context, d->id, timed ? CL_QUEUE_PROFILING_ENABLE : 0, &code);
    if (code != CL_SUCCESS)
        return pipe_fail(err, PIPE_EDEVICE, "%s: clCreateCommandQueue: %s", d->info.name,
                         pipei_cl_error(code));
    if (d->queue)
        clReleaseCommandQueue(d->queue);
    d->queue = queue;
    return PIPE_OK;
}

static pipe_status open_device(pipei_device *d, const char *profile, pipe_error *err)
{
    cl_int code = CL_SUCCESS;

    PIPE_TRY(make_profile(d, profile, err));
    const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM, (cl_context_properties)d->platform, 0};
    d->context = clCreateContext(properties, 1, &d->id, NULL, NULL, &code);
    if (code != CL_SUCCESS)
        return pipe_fail(err, PIPE_EDEVICE, "%s: clCreateContext: %s", d->info.name, pipei_cl_error(code));
    PIPE_TRY(open_queue(d, false, err));
    PIPE_TRY(pipei_pool_open(d, err));
    pipe_log(PIPE_LOG_DEBUG, "device", "%s (%s): %u compute units, %u lanes%s", d->info.name, d->info.type,
             d->info.compute_units, d->profile.vector_width, d->profile.cpu ? "" : ", GPU kernels");
    return PIPE_OK;
}

pipe_status pipei_device_open(const char *selector, const char *profile, pipei_device **out, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) handles *found = NULL;
    PIPE_CLEANUP(pipe_free_ptr) pipei_device_info *info = NULL;
    size_t n = 0, chosen = 0;

    PIPE_TRY(enumerate(&found, &info, &n, err));
    PIPE_TRY(choose(selector, info, n, &chosen, err));

    pipei_device *d = pipe_alloc(sizeof *d);
    d->platform = found[chosen].platform;
    d->id = found[chosen].id;
    d->info = info[chosen];
    const pipe_status status = open_device(d, profile, err);
    if (status != PIPE_OK) {
        pipei_device_close(d);
        return status;
    }
    *out = d;
    return PIPE_OK;
}

void pipei_device_close(pipei_device *d)
{
    if (!d)
        return;
    if (d->queue)
        clFinish(d->queue);
    pipei_programs_close(d);
    pipei_blas_close(d);
    pipei_pool_close(d);
    if (d->queue)
        clReleaseCommandQueue(d->queue);
    if (d->context)
        clReleaseContext(d->context);
    pipe_free(d);
}

pipe_status pipei_device_profiling(pipei_device *d, bool on, pipe_error *err)
{
    PIPE_TRY(pipei_device_finish(d, err));
    return open_queue(d, on, err);
}

pipe_status pipei_device_finish(pipei_device *d, pipe_error *err)
{
    const cl_int code = clFinish(d->queue);
    if (code != CL_SUCCESS)
        return pipe_fail(err, PIPE_EDEVICE, "%s: clFinish: %s", d->info.name, pipei_cl_error(code));
    return PIPE_OK;
}

const pipe_device_profile *pipei_device_profile(const pipei_device *d) { return &d->profile; }
const pipei_device_info *pipei_device_describe(const pipei_device *d) { return &d->info; }
cl_command_queue pipei_device_queue(const pipei_device *d) { return d->queue; }
cl_context pipei_device_context(const pipei_device *d) { return d->context; }
cl_device_id pipei_device_id(const pipei_device *d) { return d->id; }
