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

#endif
