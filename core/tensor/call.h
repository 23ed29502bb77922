/* What lowering offers to rows of the core alone: calls on the host among an op's launches
 * (libraries that enqueue kernels of their own), and packed weights that are kept. */
#ifndef PIPE_TENSOR_CALL_H
#define PIPE_TENSOR_CALL_H

#include "core/device/device.h"
#include <pipe/op.h>

/* Runs each time the plan does, in the order of the launches.  It enqueues on the
 * device's queue and does not wait.  Buffer k begins offset[k] elements into mem[k]. */
typedef pipe_status pipei_host_function(pipei_device *d, const cl_mem *mem, const size_t *offset,
                                        const int64_t *ints, pipe_error *err);

/* Scratch memory that one launch, given to pipei_lower_derive(), makes of input number
 * `input` alone: kept between evaluations while that does not change. */
PIPE_INTERNAL uint32_t pipei_lower_derived(pipe_lowering *l, uint32_t input, size_t count);
PIPE_INTERNAL void pipei_lower_derive(pipe_lowering *l, const pipe_launch *launch, uint32_t scratch);

/* Appends a call.  buffers: inputs, the output, scratch; ints are copied; name is
 * for messages. */
PIPE_INTERNAL void pipei_lower_call(pipe_lowering *l, const char *name, pipei_host_function *function,
                                    const pipe_arg *buffers, uint32_t n_buffers, const int64_t *ints,
                                    size_t n_ints);

#endif
