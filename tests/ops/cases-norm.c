/* group_norm: i[0] groups, i[1] the mean is left in (RMS norm), f[0] epsilon. */
#include "ops/cases.h"

#define G(groups, uncentred) .attr = {.i = {groups, uncentred}, .f = {1e-3f}}, .tolerance = 2e-5
#define BOTH(groups, uncentred, flags_, why_, ...)                                                            \
    {"group_norm", {NORMAL(__VA_ARGS__)}, G(groups, uncentred), .flags = (flags_), .why = why_},              \
    {"group_norm_grad", {NORMAL(__VA_ARGS__), NORMAL(__VA_ARGS__)}, G(groups, uncentred), .flags = (flags_), \
     .why = why_}

/* norm_affine: i[0] groups, 0 of the last axis; i[1] activation. */
#define BARE(...) __VA_ARGS__
#define AFFINE(groups, act, flags_, why_, gain_, ...)                                                          \
    {"norm_affine", {NORMAL(__VA_ARGS__), BARE gain_, BARE gain_}, G(groups, act), .flags = (flags_), .why = why_}, \
    {"norm_affine_grad", {NORMAL(__VA_ARGS__), NORMAL(__VA_ARGS__), BARE gain_, BARE gain_}, G(groups, act),    \
     .flags = (flags_), .why = why_}

const op_case op_cases_norm[] = {
    BOTH(1, 0, 0, "layer norm: a run cut into rows of vectors", 3, 32),
    BOTH(1, 0, 0, "layer norm of 31: vectors and single lanes", 4, 31),
    BOTH(1, 1, 0, "RMS norm", 5, 24),
    BOTH(1, 1, 0, "RMS norm of 7", 3, 7),
    BOTH(8, 0, CASE_NO_SECOND, "groups narrower than a vector", 2, 3, 3, 32),
    BOTH(2, 0, 0, "groups of 3 channels", 2, 5, 6),
    BOTH(3, 0, 0, "instance norm", 2, 4, 5, 3),
    BOTH(2, 1, 0, "groups, uncentred", 2, 3, 2, 8),
    BOTH(4, 0, CASE_FORWARD_ONLY, "groups of 12: a vector spans two", 2, 3, 3, 48),
    BOTH(4, 0, CASE_FORWARD_ONLY, "groups of 25, odd lanes", 2, 7, 100),
    BOTH(8, 0, CASE_FORWARD_ONLY | CASE_LARGE, "many samples", 70, 7, 7, 64),
    BOTH(2, 0, 0, "empty", 0, 3, 4),
    {"group_norm", {NORMAL_OF(1000, 1, 2, 9, 9, 8)}, .attr = {.i = {2, 0}, .f = {1e-3f}}, .tolerance = 2e-3,
     .flags = CASE_FORWARD_ONLY,
     .why = "a mean of 1000 deviations: E[x^2] - E[x]^2 would lose it"},
    AFFINE(8, PIPE_ACTIVATION_SILU, CASE_NO_SECOND, "the norm of a U-Net", (NORMAL(32)), 2, 3, 3, 32),
    AFFINE(2, PIPE_ACTIVATION_NONE, 0, "groups of 3 channels", (NORMAL(6)), 2, 5, 6),
    AFFINE(2, PIPE_ACTIVATION_SILU, 0, "gain and bias per sample", (NORMAL(3, 4)), 3, 5, 4),
    AFFINE(7, PIPE_ACTIVATION_NONE, CASE_NO_SECOND, "instance norm of 7 channels", (NORMAL(7)), 2, 4, 5, 7),
    AFFINE(1, PIPE_ACTIVATION_RELU, CASE_FORWARD_ONLY, "ReLU: some values sit at its kink", (NORMAL(31)), 2, 3, 31),
    AFFINE(4, PIPE_ACTIVATION_SILU, CASE_FORWARD_ONLY, "groups of 25, odd lanes", (NORMAL(100)), 2, 7, 100),
    AFFINE(4, PIPE_ACTIVATION_SILU, CASE_FORWARD_ONLY | CASE_LARGE, "several samples to a part, the last part smaller",
           (NORMAL(64)), 131, 2, 64),
    AFFINE(0, PIPE_ACTIVATION_NONE, 0, "layer norm, adaptive", (NORMAL(2, 24)), 2, 3, 24),
    AFFINE(0, PIPE_ACTIVATION_SILU, 0, "layer norm of 33: vectors and one lane", (NORMAL(33)), 3, 2, 33),
    AFFINE(0, PIPE_ACTIVATION_NONE, 0, "layer norm of 7, samples in the first axis alone", (NORMAL(7)), 5, 7),
    AFFINE(0, PIPE_ACTIVATION_RELU, CASE_FORWARD_ONLY | CASE_LARGE, "layer norm, two samples to a part", (NORMAL(1)),
           127, 3, 1),
    AFFINE(2, PIPE_ACTIVATION_SILU, 0, "empty", (NORMAL(4)), 0, 3, 4),
    {"norm_affine", {NORMAL(2, 3, 40), NORMAL_OF(0, 60, 40), NORMAL_OF(0, 60, 40)},
     .attr = {.i = {4, PIPE_ACTIVATION_SILU}, .f = {1e-3f}}, .tolerance = 2e-5, .flags = CASE_FORWARD_ONLY,
     .why = "SiLU where exp() overflows and underflows"},
    {"norm_affine", {NORMAL_OF(1000, 1, 2, 9, 9, 8), NORMAL(8), NORMAL(8)}, .attr = {.i = {2, 0}, .f = {1e-3f}},
     .tolerance = 2e-3, .flags = CASE_FORWARD_ONLY, .why = "a mean of 1000 deviations"},
    {0}
};
