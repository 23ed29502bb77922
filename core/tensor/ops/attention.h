/* What attention.c (forward) and attention-grad.c share. */
#ifndef PIPE_CORE_ATTENTION_H
#define PIPE_CORE_ATTENTION_H

#include "core/tensor/ops/gemm-source.h"

enum { PIPEI_ATTENTION_CAUSAL };  /* attr->i; f[0]: scale */

typedef struct pipei_attention {
    int64_t b, sq, sk, heads, d;
    int64_t mask[4];              /* strides over b, heads, sq, sk; 0 where it is broadcast */
    bool causal, masked;
} pipei_attention;

/* mask may be NULL. */
PIPE_INTERNAL pipei_attention pipei_attention_geometry(const pipe_attr *attr, const pipe_shape *q, const pipe_shape *k,
                                                       const pipe_shape *mask);
/* Kernel text: const $V y = exp($V x), x <= 0. */
PIPE_INTERNAL extern const char pipei_attention_exp[];
/* Kernel text, in front of a kernel: sum_lanes(v), max_lanes(v) of a vector; zeros(to, n); lines(from, apart, n, to, apart), a copy of n
 * rows of $D; panels(from, apart, n, to), n rows transposed into panels of $COLUMNS. */
PIPE_INTERNAL void pipei_attention_helpers(pipe_text *s, const pipei_tile_words *w, uint32_t width);

/* attention's vjp, in one op: attention_grad(q, k, v, gy[, mask]). */
PIPE_INTERNAL extern const pipe_op pipei_op_attention_grad;
PIPE_INTERNAL void pipei_attention_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs);
/* The probabilities [b, heads, sq, sk] in recorded ops; c->in: q, k. */
PIPE_INTERNAL pipe_tensor *pipei_attention_weights(const pipe_op_call *c, pipe_tensor *mask);

#endif
