/* State that kinds add to their plugins.  Internal. */
#ifndef PIPE_CORE_KINDS_H
#define PIPE_CORE_KINDS_H

#include "core/run/object.h"

enum { PIPEI_GRID_UNIFORM, PIPEI_GRID_LOG_SNR, PIPEI_GRID_KARRAS, PIPEI_GRID_QUADRATIC, PIPEI_GRID_CUSTOM };

typedef struct pipei_sampler_common {
    int64_t steps, grid;
    double rho, ratio_min;
    pipe_floats times;
} pipei_sampler_common;

/* What the noise of this batch is keyed by: `sample` is that of its first row, `step` 0. */
PIPE_INTERNAL pipe_key pipei_sampling_key(const pipe_sampling *s);
/* Draw number `draw` of this step as the caller of pipe_sample() supplies it; poison where there is no such
 * draw; NULL: it has to be made. */
PIPE_INTERNAL pipe_tensor *pipei_sampling_supplied(pipe_sampling *s, uint32_t draw);

#endif
