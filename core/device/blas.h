/* Matrix products through CLBlast.  Internal. */
#ifndef PIPE_CORE_BLAS_H
#define PIPE_CORE_BLAS_H

#include "core/device/tuning.h"

/* One matrix, or the first of a batch that lies `stride` elements apart (0: the same for all). */
typedef struct pipei_blas_operand {
    cl_mem mem;
    size_t offset, stride;    /* elements */
    bool transposed;
} pipei_blas_operand;

/* c [batch, m, n] = a [batch, m, k] b [batch, k, n], row-major f32, on the device's
 * queue, without waiting.  A transposed operand lies as [k, m] or [n, k].  m, n, k and
 * batch are at least 1; what c held before does not matter.
 *
 * The first use applies what `pipe tune` stored for the device (a file that cannot be
 * used is ignored with a warning) and compiles CLBlast's kernels, which the log
 * announces.  A product gives the same bits in every run on one device with the same
 * parameters. */
PIPE_INTERNAL pipe_status pipei_blas_gemm(pipei_device *d, size_t m, size_t n, size_t k, size_t batch,
                                          const pipei_blas_operand *a, const pipei_blas_operand *b,
                                          const pipei_blas_operand *c, pipe_error *err);

/* Before the first product: these parameters of kernels, instead of those that `pipe
 * tune` stored for the device.  CLBlast keeps them until the process ends. */
PIPE_INTERNAL pipe_status pipei_blas_tune(pipei_device *d, const pipei_tuning *t, pipe_error *err);

/* CLBlast's status codes in words. */
PIPE_INTERNAL const char *pipei_blas_error(int code);

#endif
