/* A default outside its own range. */
#include "minimal.h"

static const pipe_param wrong[] = {PIPE_FLOAT(state, strength, 2.0, 0.0, 1.0, NULL, "how much"),
                                   PIPE_PARAM_END};

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {PIPE_ABI(PIPE_KIND_SAMPLER),
                                                   .name = "test.bad-default",
                                                   .version = "1.0.0",
                                                   .summary = "a bad default",
                                                   .params = wrong,
                                                   .inputs = inputs,
                                                   .state_size = sizeof(state),
                                                   .sampler = {.step = step}};
