/* Matrix products on a GPU: CLBlast. */
#include "core/device/blas.h"
#include "core/tensor/call.h"
#include "core/tensor/ops/gemm-source.h"

enum { M, N, K, BATCH, STRIDE_A, STRIDE_B, TRANSPOSE_A, TRANSPOSE_B, N_INTS };

static pipe_status run(pipei_device *d, const cl_mem *mem, const size_t *offset, const int64_t *ints,
                       pipe_error *err)
{
    const size_t m = (size_t)ints[M], n = (size_t)ints[N];
    const pipei_blas_operand a = {mem[0], offset[0], (size_t)ints[STRIDE_A], ints[TRANSPOSE_A] != 0};
    const pipei_blas_operand b = {mem[1], offset[1], (size_t)ints[STRIDE_B], ints[TRANSPOSE_B] != 0};
    const pipei_blas_operand c = {mem[2], offset[2], m * n, false};
    return pipei_blas_gemm(d, m, n, (size_t)ints[K], (size_t)ints[BATCH], &a, &b, &c, err);
}

/* Where batch number z of an operand begins is z * *stride; false where it is not. */
static bool one_stride(const pipei_matmul *g, const int64_t *dims, int64_t matrix, int64_t *stride)
{
    bool all = true, none = true;
    for (uint32_t k = 0; k < g->rank; k++) {
        all = all && dims[k] == g->batch[k];
        none = none && dims[k] == 1;
    }
    *stride = all ? matrix : 0;
    return all || none;
}

bool pipei_lower_blas_matmul(pipe_lowering *l, const pipei_matmul *g)
{
    const pipe_arg buffers[] = {{.kind = PIPE_ARG_INPUT, .index = g->a},
                                {.kind = PIPE_ARG_INPUT, .index = g->b},
                                {.kind = PIPE_ARG_OUTPUT}};
    int64_t ints[N_INTS] = {
        [M] = g->m, [N] = g->n, [K] = g->k, [BATCH] = 1, [TRANSPOSE_A] = g->ta, [TRANSPOSE_B] = g->tb};
    for (uint32_t k = 0; k < g->rank; k++)
        ints[BATCH] *= g->batch[k];
    if (!one_stride(g, g->a_batch, g->m * g->k, &ints[STRIDE_A]) ||
        !one_stride(g, g->b_batch, g->k * g->n, &ints[STRIDE_B]))
        return false;
    pipei_lower_call(l, "CLBlast", run, buffers, 3, ints, N_INTS);
    return true;
}
