/* after: a copy of its first input that waits for the second.
 *
 * What is computed from the copy is computed later, and is not the same value as what
 * is computed from the original: so grad.c records a stretch anew for the backward
 * pass (Chen et al. 2016, arXiv:1604.06174), and the first one's values need not stay. */
#include "core/tensor/ops/ops.h"

#include <string.h>

static void reference(const pipe_reference *r)
{
    memcpy(r->out, r->in[0], r->n * sizeof *r->out);
}

static pipe_status lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    const int64_t n = pipe_count(c->out);
    const pipei_copy copy = {.rank = 1, .dim = {n}, .x = {1}, .y = {1}};

    (void)err;
    if (n > 0)
        pipei_lower_copy(l, &copy, (pipe_arg){.kind = PIPE_ARG_INPUT, .index = 0},
                         (pipe_arg){.kind = PIPE_ARG_OUTPUT});
    return PIPE_OK;
}

static void vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    (void)c;
    if (needs[0])
        gx[0] = gy;
}

static pipe_tensor *jvp(const pipe_op_call *c, pipe_tensor *const *dx)
{
    (void)c;
    return dx[0];
}

static const pipe_op op_after = {
    PIPE_OP_INIT,           .name = "after", .arity = 2, .shape = pipe_shape_same,
    .reference = reference, .lower = lower,  .vjp = vjp, .jvp = jvp,
};

pipe_tensor *pipei_after(pipe_tensor *a, pipe_tensor *gate)
{
    return pipei_op2(&op_after, a, gate, NULL);
}

const pipe_op *const pipei_ops_recompute[] = {&op_after, NULL};
