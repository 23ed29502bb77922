/* Calls on the host among an op's launches: libraries that enqueue kernels of their
 * own.  Internal; only rows of the core may use them. */
#ifndef PIPE_TENSOR_CALL_H
#define PIPE_TENSOR_CALL_H

#include "core/device/device.h"
#include <pipe/op.h>

/* Runs each time the plan does, in the order of the launches.  It enqueues on the
 * device's queue and does not wait.  Buffer k begins offset[k] elements into mem[k]. */
typedef pipe_status pipei_host_function(pipei_device *d, const cl_mem *mem, const size_t *offset,
                                        const int64_t *ints, pipe_error *err);

/* Appends a call.  buffers: inputs, the output, scratch; ints are copied; name is
 * for messages. */
PIPE_INTERNAL void pipei_lower_call(pipe_lowering *l, const char *name, pipei_host_function *function,
                                    const pipe_arg *buffers, uint32_t n_buffers, const int64_t *ints,
                                    size_t n_ints);

#endif
