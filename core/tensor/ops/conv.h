/* What conv.c (the rows) and conv-source.c (their kernels) share. */
#ifndef PIPE_CORE_CONV_H
#define PIPE_CORE_CONV_H

#include "core/tensor/ops/gemm-source.h"

/* A convolution: x [n, h, w, ci], weight [kh, kw, cig, co], y [n, oh, ow, co];
 * cig = ci / groups, cog = co / groups. */
typedef struct pipei_conv_geometry {
    int64_t n, h, w, ci, oh, ow, co, kh, kw, cig, cog, groups;
    int64_t stride[2], dilation[2], pad[4];      /* pad: top, bottom, left, right */
} pipei_conv_geometry;

/* The launches.  Inputs are numbered as the rows number them. */
PIPE_INTERNAL void pipei_lower_conv(pipe_lowering *l, const pipei_conv_geometry *g);            /* x, weight -> y */
PIPE_INTERNAL void pipei_lower_conv_transpose(pipe_lowering *l, const pipei_conv_geometry *g);  /* y, weight -> x */
PIPE_INTERNAL void pipei_lower_conv_weight_grad(pipe_lowering *l, const pipei_conv_geometry *g);/* x, y -> weight */
/* On a CPU, where it pays: Winograd's F(4 x 4, 3 x 3) (winograd.c). */
PIPE_INTERNAL bool pipei_winograd_pays(const pipe_device_profile *p, const pipei_conv_geometry *g);
PIPE_INTERNAL void pipei_lower_winograd(pipe_lowering *l, const pipei_conv_geometry *g);
PIPE_INTERNAL void pipei_lower_winograd_transpose(pipe_lowering *l, const pipei_conv_geometry *g);
PIPE_INTERNAL void pipei_lower_winograd_weight_grad(pipe_lowering *l, const pipei_conv_geometry *g);
/* The same on devices with work-groups (gpu-source.c). */
PIPE_INTERNAL void pipei_lower_gpu_conv(pipe_lowering *l, const pipei_conv_geometry *g);
PIPE_INTERNAL void pipei_lower_gpu_conv_transpose(pipe_lowering *l, const pipei_conv_geometry *g);
PIPE_INTERNAL void pipei_lower_gpu_conv_weight_grad(pipe_lowering *l, const pipei_conv_geometry *g);

#endif
