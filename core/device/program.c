/* OpenCL programs, cached by source text; the names of OpenCL errors.
 *
 * Only in memory: PoCL keeps its own cache on disk, and asking it for a binary
 * compiles everything a second time. */
#include "core/device/internal.h"

#include <string.h>

/* -cl-finite-math-only (and so -cl-fast-relaxed-math) is left out: comparisons
 * with NaN and infinity must hold, the search for NaN in losses relies on them. */
static const char build_options[] =
    "-cl-std=CL1.2 -cl-mad-enable -cl-no-signed-zeros -cl-denorms-are-zero -w";

const char *pipei_cl_error(cl_int code)
{
    static const struct {
        cl_int code;
        const char *text;
    } names[] = {
        {CL_DEVICE_NOT_FOUND, "device not found"},
        {CL_DEVICE_NOT_AVAILABLE, "device not available"},
        {CL_COMPILER_NOT_AVAILABLE, "compiler not available"},
        {CL_MEM_OBJECT_ALLOCATION_FAILURE, "memory object allocation failure"},
        {CL_OUT_OF_RESOURCES, "out of resources"},
        {CL_OUT_OF_HOST_MEMORY, "out of host memory"},
        {CL_MEM_COPY_OVERLAP, "copy overlaps"},
        {CL_BUILD_PROGRAM_FAILURE, "program build failure"},
        {CL_MISALIGNED_SUB_BUFFER_OFFSET, "misaligned sub-buffer offset"},
        {CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST, "an awaited command failed"},
        {CL_INVALID_VALUE, "invalid value"},
        {CL_INVALID_DEVICE, "invalid device"},
        {CL_INVALID_CONTEXT, "invalid context"},
        {CL_INVALID_QUEUE_PROPERTIES, "invalid queue properties"},
        {CL_INVALID_COMMAND_QUEUE, "invalid command queue"},
        {CL_INVALID_MEM_OBJECT, "invalid memory object"},
        {CL_INVALID_BUILD_OPTIONS, "invalid build options"},
        {CL_INVALID_PROGRAM, "invalid program"},
        {CL_INVALID_PROGRAM_EXECUTABLE, "invalid program executable"},
        {CL_INVALID_KERNEL_NAME, "no such kernel in the program"},
        {CL_INVALID_KERNEL, "invalid kernel"},
        {CL_INVALID_ARG_INDEX, "invalid argument index"},
        {CL_INVALID_ARG_VALUE, "invalid argument value"},
        {CL_INVALID_ARG_SIZE, "invalid argument size"},
        {CL_INVALID_KERNEL_ARGS, "a kernel argument is not set"},
        {CL_INVALID_WORK_DIMENSION, "invalid work dimension"},
        {CL_INVALID_WORK_GROUP_SIZE, "invalid work-group size"},
        {CL_INVALID_WORK_ITEM_SIZE, "invalid work-item size"},
        {CL_INVALID_GLOBAL_OFFSET, "invalid global offset"},
        {CL_INVALID_EVENT_WAIT_LIST, "invalid wait list"},
        {CL_INVALID_EVENT, "invalid event"},
        {CL_INVALID_OPERATION, "invalid operation"},
        {CL_INVALID_BUFFER_SIZE, "invalid buffer size"},
        {CL_INVALID_GLOBAL_WORK_SIZE, "invalid global work size"},
        {-1001, "no OpenCL platform"},
    };
    if (code == CL_SUCCESS)
        return "success";
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++)
        if (names[k].code == code)
            return names[k].text;
    return "unknown OpenCL error";
}

void pipei_programs_close(pipei_device *d)
{
    for (size_t k = 0; k < d->n_programs; k++) {
        clReleaseProgram(d->programs[k].handle);
        pipe_free(d->programs[k].source);
    }
    pipe_free(d->programs);
    d->programs = NULL;
    d->n_programs = d->program_capacity = 0;
}

/* The compiler's log begins with what matters; the rest would bury it. */
static pipe_status build_failed(const pipei_device *d, cl_program p, cl_int code, pipe_error *err)
{
    size_t size = 0;
    clGetProgramBuildInfo(p, d->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &size);
    PIPE_CLEANUP(pipe_free_ptr) char *text = pipe_alloc(size + 1);
    clGetProgramBuildInfo(p, d->id, CL_PROGRAM_BUILD_LOG, size, text, NULL);
    const char *first = strstr(text, "error:");
    while (first && first > text && first[-1] != '\n')
        first--;
    return pipe_fail(err, PIPE_EDEVICE, "%s: a kernel does not compile (%s):\n%.1200s", d->info.name,
                     pipei_cl_error(code), first ? first : text);
}

pipe_status pipei_program_get(pipei_device *d, const char *source, cl_program *out, pipe_error *err)
{
    const size_t length = strlen(source);
    const uint64_t hash = pipe_hash64(source, length, 0);
    cl_int code = CL_SUCCESS;

    for (size_t k = 0; k < d->n_programs; k++)
        if (d->programs[k].hash == hash && strcmp(d->programs[k].source, source) == 0) {
            *out = d->programs[k].handle;
            return PIPE_OK;
        }

    const double start = pipei_seconds(), worked = pipei_thread_seconds();
    cl_program p = clCreateProgramWithSource(d->context, 1, &source, &length, &code);
    if (code != CL_SUCCESS)
        return pipe_fail(err, PIPE_EDEVICE, "%s: clCreateProgramWithSource: %s", d->info.name,
                         pipei_cl_error(code));
    code = clBuildProgram(p, 1, &d->id, build_options, NULL, NULL);
    const double seconds = pipei_seconds() - start;
    d->compile_seconds = pipei_thread_seconds() - worked;
    if (code != CL_SUCCESS) {
        const pipe_status status = build_failed(d, p, code, err);
        pipe_log(PIPE_LOG_DEBUG, "device", "the source that does not compile:\n%s", source);
        clReleaseProgram(p);
        return status;
    }
    if (seconds > 1.0)
        pipe_log(PIPE_LOG_DEBUG, "device", "compiled kernels for %s in %.1f s", d->info.name, seconds);

    if (d->n_programs == d->program_capacity) {
        d->program_capacity = d->program_capacity ? 2 * d->program_capacity : 64;
        d->programs = pipe_realloc(d->programs, d->program_capacity * sizeof *d->programs);
    }
    d->programs[d->n_programs++] = (program){hash, pipe_strdup(source), p};
    *out = p;
    return PIPE_OK;
}

const char *pipei_program_source(const pipei_device *d, cl_program handle)
{
    size_t k = 0;
    while (k < d->n_programs && d->programs[k].handle != handle)
        k++;
    return k < d->n_programs ? d->programs[k].source : "";
}

bool pipei_program_compiled(const pipei_device *d) { return d->compile_seconds > PIPEI_COMPILED; }
