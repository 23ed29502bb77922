/* The OpenCL device: context, in-order queue, buffers, programs.
 * Internal; only core/tensor includes it (and the tools, to list devices). */
#ifndef PIPE_CORE_DEVICE_H
#define PIPE_CORE_DEVICE_H

#include <CL/cl.h>
#include <pipe/op.h>

#define PIPE_INTERNAL __attribute__((visibility("default")))

typedef struct pipei_device pipei_device;

/* One line of `pipe devices`. */
typedef struct pipei_device_info {
    char selector[32];        /* what --device takes: "0", "1", ... */
    char name[128], platform[128], version[128], driver[64];
    char type[16];            /* "cpu", "gpu", "accelerator" */
    uint64_t memory, max_allocation;
    uint32_t compute_units;
} pipei_device_info;

/* All devices of all platforms.  No platform at all is PIPE_EDEVICE with the
 * Debian package that brings one (pocl-opencl-icd). */
PIPE_INTERNAL pipe_status pipei_device_list(pipei_device_info **out, size_t *n, pipe_error *err);

/* selector: "auto" (a GPU if there is one, else the first CPU), "cpu", "gpu", an
 * index of pipei_device_list(), or a part of a device's name.  profile: NULL
 * (from the device), "gpu", "avx512", "avx2", "sse": forces the kernels of that
 * class, so that tests run them on any machine. */
PIPE_INTERNAL pipe_status pipei_device_open(const char *selector, const char *profile, pipei_device **out,
                                            pipe_error *err);
PIPE_INTERNAL void pipei_device_close(pipei_device *d);
PIPE_INTERNAL const pipe_device_profile *pipei_device_profile(const pipei_device *d);
PIPE_INTERNAL const pipei_device_info *pipei_device_describe(const pipei_device *d);
PIPE_INTERNAL cl_command_queue pipei_device_queue(const pipei_device *d);
PIPE_INTERNAL cl_context pipei_device_context(const pipei_device *d);
PIPE_INTERNAL cl_device_id pipei_device_id(const pipei_device *d);

/* Bytes of device memory that buffers may take in all: PIPE_DEVICE_MEMORY_LIMIT if
 * it is set ("500M", "2G"), else what the device has.  A test may lower it. */
PIPE_INTERNAL uint64_t pipei_device_memory_limit(const pipei_device *d);
PIPE_INTERNAL void pipei_device_limit_memory(pipei_device *d, uint64_t bytes);

/* PIPE_DEVICE_MEMORY=exact: buffers have the size asked for, temporaries a buffer each,
 * so that a checker of kernels sees the first access behind an end. */
PIPE_INTERNAL bool pipei_device_exact_memory(const pipei_device *d);

/* Buffers come from a pool: freed ones are reused by size.  The queue is in order,
 * so a buffer may be freed, and be handed out again, while enqueued commands
 * still use it.  Out of memory names what was needed, what is in use and its
 * largest owners.  owner: who shall be named (copied); NULL is "tensors". */
PIPE_INTERNAL pipe_status pipei_buffer_new(pipei_device *d, size_t bytes, const char *owner, cl_mem *out,
                                           pipe_error *err);
PIPE_INTERNAL void pipei_buffer_free(pipei_device *d, cl_mem buffer);
/* Changes whenever a buffer is given back to the driver: its handle may come again. */
PIPE_INTERNAL uint64_t pipei_device_generation(const pipei_device *d);
/* Gives all idle buffers back to the driver, and what copies to the device were staged in. */
PIPE_INTERNAL void pipei_device_trim(pipei_device *d);
/* Largest sum of buffers that were in use at one time since the device was opened. */
PIPE_INTERNAL uint64_t pipei_device_peak_memory(const pipei_device *d);
PIPE_INTERNAL uint64_t pipei_device_used_memory(const pipei_device *d);

/* Copies on the queue.  write: the data may be reused on return, and the host does
 * not wait (the bytes are staged).  read: waits. */
PIPE_INTERNAL pipe_status pipei_device_write(pipei_device *d, cl_mem b, size_t offset, const void *data,
                                             size_t bytes, pipe_error *err);
PIPE_INTERNAL pipe_status pipei_device_read(pipei_device *d, cl_mem b, size_t offset, void *data,
                                            size_t bytes, pipe_error *err);
PIPE_INTERNAL pipe_status pipei_device_copy(pipei_device *d, cl_mem from, size_t from_offset, cl_mem to,
                                            size_t to_offset, size_t bytes, pipe_error *err);
PIPE_INTERNAL pipe_status pipei_device_finish(pipei_device *d, pipe_error *err);
/* Times commands by events from now on (the queue is replaced). */
PIPE_INTERNAL pipe_status pipei_device_profiling(pipei_device *d, bool on, pipe_error *err);

/* Programs are cached by source text and live as long as the device; a build that
 * takes over a second is announced in the log.  A failed build reports the
 * compiler's own words.  The text of OpenCL errors: pipei_cl_error(code). */
PIPE_INTERNAL pipe_status pipei_program_get(pipei_device *d, const char *source, cl_program *out,
                                            pipe_error *err);
/* Of a program of this device. */
PIPE_INTERNAL const char *pipei_program_source(const pipei_device *d, cl_program handle);
/* PoCL keeps what it compiles in a cache on the disk: what took more CPU time than this, in
 * seconds, was probably not there. */
#define PIPEI_COMPILED 0.1
/* Whether that holds for the program built last. */
PIPE_INTERNAL bool pipei_program_compiled(const pipei_device *d);
PIPE_INTERNAL const char *pipei_cl_error(cl_int code);

/* CLOCK_MONOTONIC in seconds; CPU time of all threads, and of this one. */
PIPE_INTERNAL double pipei_seconds(void);
PIPE_INTERNAL double pipei_cpu_seconds(void);
PIPE_INTERNAL double pipei_thread_seconds(void);

#endif
