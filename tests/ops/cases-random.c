/* Random ops: the host's generator is the reference, so the words and the floats
 * made of them are the same to the last bit.  u: key, key, sample, sample. */
#include "ops/cases.h"

const op_case op_cases_random[] = {
    {"rand", {{0}}, .attr = {.i = {2, 7, 31}, .u = {1, 2, 3, 0}}, .why = "a block is cut off"},
    {"rand", {{0}}, .attr = {.i = {1, 33}, .u = {1, 2, 3, 0}}, .why = "one element per sample"},
    {"rand", {{0}}, .attr = {.i = {0}, .u = {9, 9, 0, 0}}, .why = "a scalar is a sample"},
    {"rand", {{0}}, .attr = {.i = {2, 0, 5}}, .why = "empty"},
    {"randn", {{0}}, .attr = {.i = {2, 7, 31}, .u = {0xffffffff, 0x80000000, 0xfffffffd, 1}},
     .why = "the sample's low word overflows into the high one"},
    {"randn", {{0}}, .attr = {.i = {3, 64, 28, 28}, .u = {5, 6, 7, 8}}, .why = "50,176 elements, exactly"},
    {"randn_of", {INDEX(0, 1000000, 33)}, .attr = {.i = {3, 33, 3, 2}, .u = {1, 2}}, .why = "rows by index"},
    {"randn_sum", {INDEX_VALUES(1, 2, 0x3f800000, -7, 8, 0x40200000, 9, 9, 0, 5, 6, -0x40800000)},
     .attr = {.i = {3, 3, 7, 5}, .u = {0, 0, 0xfffffffe, 1}}, .tolerance = 1e-6,
     .why = "weights 1, 2.5, 0 and -1; the sample's low word overflows"},
    {"randn_sum", {{.fill = OP_INDEX_VALUES, .shape = {.rank = 1, .dim = {0}}}}, .attr = {.i = {2, 2, 3}},
     .why = "no term: zeros"},
    {"dropout_mask", {{0}}, .attr = {.i = {2, 33, 5}, .f = {0.25f, 4.0f / 3.0f}, .u = {1, 2, 3, 0}},
     .why = "a quarter is zero"},
    {"dropout_mask", {{0}}, .attr = {.i = {2, 3, 5}, .f = {1, 0}, .u = {1, 2, 3, 0}},
     .why = "nothing is kept"},
    {0},
};
