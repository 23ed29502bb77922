/* Convolutions: i[0], i[1] stride; i[2], i[3] dilation; i[4] ... i[7] pad (top, bottom,
 * left, right); i[8] groups; i[9], i[10] the image of conv2d_transpose, the kernel of
 * conv2d_weight_grad. */
#include "ops/cases.h"

/* The three ops of one geometry: an image of (n, h, w, ci), a kernel of (kh, kw, cig,
 * co), a result of (n, oh, ow, co). */
#define ARGS(...) __VA_ARGS__
#define CONV(n_, h_, w_, ci_, kh_, kw_, cig_, co_, oh_, ow_, attrs, flags_, why_)                              \
    {"conv2d", {NORMAL(n_, h_, w_, ci_), NORMAL(kh_, kw_, cig_, co_)}, .attr = {.i = {attrs}},                 \
     .tolerance = 2e-5, .flags = (flags_), .why = why_},                                                       \
    {"conv2d_transpose", {NORMAL(n_, oh_, ow_, co_), NORMAL(kh_, kw_, cig_, co_)},                             \
     .attr = {.i = {attrs, h_, w_}}, .tolerance = 2e-5, .flags = (flags_), .why = why_},                       \
    {"conv2d_weight_grad", {NORMAL(n_, h_, w_, ci_), NORMAL(n_, oh_, ow_, co_)},                               \
     .attr = {.i = {attrs, kh_, kw_}}, .tolerance = 5e-5, .flags = (flags_), .why = why_}

#define DEFAULT 1, 1, 1, 1, 1, 1, 1, 1, 1      /* stride 1, dilation 1, one pixel of padding, one group */

const op_case op_cases_conv[] = {
    CONV(2, 5, 4, 3, 3, 3, 3, 7, 5, 4, ARGS(DEFAULT), 0, "channels below a vector"),
    CONV(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, ARGS(1, 1, 1, 1, 0, 0, 0, 0, 1), 0, "one pixel"),
    CONV(2, 3, 4, 16, 1, 1, 16, 24, 3, 4, ARGS(1, 1, 1, 1, 0, 0, 0, 0, 1), CASE_NO_SECOND, "a matrix product"),
    CONV(2, 5, 3, 5, 1, 1, 5, 16, 3, 2, ARGS(2, 2, 1, 1, 0, 0, 0, 0, 1), 0, "1 x 1 that skips pixels"),
    CONV(1, 4, 5, 31, 3, 3, 31, 33, 4, 5, ARGS(DEFAULT), CASE_FORWARD_ONLY,
         "two panels, the second one column; the derivatives are the rows below"),
    CONV(2, 7, 7, 4, 5, 3, 4, 1, 3, 3, ARGS(2, 3, 1, 1, 2, 1, 1, 1, 1), CASE_NO_SECOND, "strides 2 and 3, one filter"),
    CONV(1, 7, 8, 6, 3, 2, 3, 8, 8, 4, ARGS(1, 2, 2, 3, 2, 3, 1, 2, 2), CASE_NO_SECOND, "dilation, groups, four pads"),
    CONV(2, 6, 5, 8, 3, 3, 1, 8, 6, 5, ARGS(1, 1, 1, 1, 1, 1, 1, 1, 8), 0, "depthwise"),
    CONV(1, 5, 6, 11, 3, 3, 1, 11, 3, 3, ARGS(2, 2, 1, 1, 1, 1, 1, 1, 11), 0, "depthwise, stride 2, 11 channels"),
    CONV(1, 5, 6, 3, 3, 3, 1, 6, 5, 6, ARGS(1, 1, 1, 1, 1, 1, 1, 1, 3), 0, "depthwise, two filters a channel"),
    CONV(1, 8, 7, 8, 7, 7, 2, 12, 4, 4, ARGS(2, 2, 1, 1, 3, 3, 3, 3, 4), CASE_FORWARD_ONLY, "7 x 7 in 4 groups"),
    CONV(1, 6, 6, 2, 3, 3, 2, 2, 3, 3, ARGS(2, 2, 2, 2, 2, 2, 2, 2, 1), 0, "stride and dilation share a factor"),
    CONV(1, 9, 9, 2, 3, 3, 2, 3, 2, 2, ARGS(4, 3, 2, 2, 0, 0, 2, -1, 1), 0, "a negative pad crops"),
    CONV(2, 4, 4, 3, 2, 2, 3, 5, 9, 9, ARGS(1, 1, 1, 1, 3, 3, 3, 3, 1), CASE_NO_SECOND, "taps that see padding alone"),
    CONV(1, 2, 2, 4, 3, 3, 4, 4, 1, 1, ARGS(3, 3, 1, 1, 1, 1, 1, 1, 1), 0, "stride above the image"),
    CONV(1, 3, 3, 2, 1, 1, 2, 3, 1, 1, ARGS(4, 4, 1, 1, 0, 0, 0, 0, 1), 0, "pixels that no tap reaches"),
    CONV(3, 1, 17, 3, 1, 5, 3, 9, 1, 17, ARGS(1, 1, 1, 2, 0, 0, 4, 4, 1), CASE_NO_SECOND, "one dimension, dilated"),
    CONV(0, 4, 4, 3, 3, 3, 3, 8, 4, 4, ARGS(DEFAULT), 0, "empty batch: the weight's gradient is zero"),
    CONV(2, 9, 9, 16, 3, 3, 16, 32, 9, 9, ARGS(DEFAULT), CASE_FORWARD_ONLY | CASE_LARGE,
         "full panels; fast-conv.c goes on with what has fast kernels"),
    {0}
};
