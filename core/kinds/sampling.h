/* Sampling in progress, as its loop and what asks the denoiser know it.  Internal. */
#ifndef PIPE_CORE_SAMPLING_H
#define PIPE_CORE_SAMPLING_H

#include "core/kinds/kinds.h"

struct pipei_sampling {
    const pipe_sample_request *request;
    pipe_key noise;
    bool own_schedule; /* the denoiser's own: no translation of levels */
    pipe_denoiser_info info;
    const pipei_sampler_common *common;
    const char *remembers; /* the denoiser that does; NULL: it does not */
    uint64_t calls; /* of the denoiser */
    double ends[4][3]; /* t, alpha, sigma, lambda of a grid that was reduced to its ends */
    pipe_tensor *first_bad; /* [n]: the step behind which a row was first not finite, from 1; 0: none */
};

/* Can the denoiser be asked about the clean data at the grid points from `first` on? (asking.c) */
PIPE_INTERNAL pipe_status pipei_sampling_check_levels(const pipe_sampling *s, const char *denoiser,
                                                      const pipe_denoiser_info *info, size_t first, pipe_error *err);

#endif
