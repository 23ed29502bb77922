/* What norm.c and norm-affine.c share: the texts of loops over the pixels of a sample. */
#ifndef PIPE_CORE_NORM_H
#define PIPE_CORE_NORM_H

#include "core/tensor/ops/gemm-source.h"
#include "core/tensor/ops/ops.h"

/* One loop over pixels: `before` declares what vector v (of channel c) needs, `body`
 * uses q = the pixel's offset, `after` stores what came out.  Eight vectors of
 * channels at a time, then four, two, one, then single channels.  In the texts:
 * $V the type, $C the channel, $X the vector's name, $LANES its width, $LOADp + k)
 * and $STORE(v, 0, p + k) whole vectors.  At hand are x, at, pixels, channels, and
 * private arrays by channel. */
typedef struct pipei_norm_loop {
    const char *before, *body, *after;
} pipei_norm_loop;
PIPE_INTERNAL void pipei_norm_emit_loop(pipe_text *s, const pipei_norm_loop *l, int64_t channels, uint32_t width);
/* Sums over the pixels, per channel: of x into `mean`; of (x - mean)^2 into `scale`. */
PIPE_INTERNAL extern const pipei_norm_loop pipei_norm_mean, pipei_norm_variance;
/* Replaces each channel's sum in `array` by `value`, an expression in s, the mean of
 * the group.  At hand are groups, cg (channels of one), per = 1 / elements of one. */
PIPE_INTERNAL void pipei_norm_emit_groups(pipe_text *s, const char *array, const char *value);
/* For work-groups: s, a sum of each work-item id of $LOCAL, becomes the mean of all
 * `total` elements; `sums` is local memory. */
PIPE_INTERNAL extern const char pipei_norm_gpu_mean[];

/* J g, J the Jacobian of the norm of x (see norm.c), as recorded ops; groups 0: over the last axis. */
PIPE_INTERNAL pipe_tensor *pipei_norm_jacobian(pipe_tensor *x, pipe_tensor *g, int64_t groups, double epsilon);

#endif
