/* matmul: i[0] a is given transposed, i[1] b is. */
#include "ops/cases.h"

#define T(ta, tb) .attr = {.i = {ta, tb}}, .tolerance = 2e-5
/* Thousands of terms: their rounding grows with the root of their number, whatever they add up to. */
#define LONG(ta, tb) .attr = {.i = {ta, tb}}, .tolerance = 2e-4

const op_case op_cases_linear[] = {
    {"matmul", {NORMAL(1, 1), NORMAL(1, 1)}, T(0, 0), .why = "one product"},
    {"matmul", {NORMAL(7, 31), NORMAL(31, 33)}, T(0, 0), .why = "no full tile fits"},
    {"matmul", {NORMAL(31, 7), NORMAL(31, 33)}, T(1, 0), .why = "a transposed"},
    {"matmul", {NORMAL(7, 31), NORMAL(33, 31)}, T(0, 1), .why = "b transposed"},
    {"matmul", {NORMAL(31, 7), NORMAL(33, 31)}, T(1, 1), .why = "both transposed"},
    {"matmul", {NORMAL(12, 8), NORMAL(8, 32)}, T(0, 0), .why = "whole tiles, b read where it lies"},
    {"matmul", {NORMAL(1, 33), NORMAL(33, 64)}, T(0, 0), .why = "one row: wide tiles"},
    {"matmul", {NORMAL(3, 5), NORMAL(5, 48)}, T(0, 0), .why = "three rows"},
    {"matmul", {NORMAL(33, 17), NORMAL(17, 1)}, T(0, 0), .why = "one column: a tall tile"},
    {"matmul", {NORMAL(13, 9), NORMAL(9, 7)}, T(0, 0), .why = "less than one vector of columns"},
    {"matmul", {NORMAL(5, 600), NORMAL(600, 17)}, T(0, 0), .flags = CASE_NO_SECOND, .why = "k in two blocks"},
    {"matmul", {NORMAL(40, 520), NORMAL(520, 40)}, T(0, 0), .flags = CASE_FORWARD_ONLY,
     .why = "k in two blocks and b packed for its size; the derivatives are matmuls of other rows"},
    {"matmul", {NORMAL(30, 333), NORMAL(333, 2080)}, T(0, 0), .flags = CASE_FORWARD_ONLY | CASE_LARGE,
     .why = "rows of a copied for many panels: the last tile short, k in a whole block and one of no whole vectors"},
    {"matmul", {NORMAL(2048, 5), NORMAL(2048, 17)}, LONG(1, 0), .flags = CASE_FORWARD_ONLY | CASE_LARGE,
     .why = "a long sum of few results: shared out among work-items"},
    {"matmul", {NORMAL(2053, 5), NORMAL(2053, 17)}, LONG(1, 0), .flags = CASE_FORWARD_ONLY | CASE_LARGE,
     .why = "the same with a prime length: unequal shares"},
    {"matmul", {NORMAL(2100, 47), NORMAL(2100, 70)}, LONG(1, 0), .flags = CASE_FORWARD_ONLY | CASE_LARGE,
     .why = "a shared sum: several tiles and panels packed in the kernel, the last ones narrower"},
    {"matmul", {NORMAL(70000, 5), NORMAL(70000, 20)}, LONG(1, 0), .flags = CASE_FORWARD_ONLY | CASE_LARGE,
     .why = "so long a sum that every core gets a part of it"},
    {"matmul", {NORMAL(257, 150), NORMAL(257, 129)}, T(1, 0), .flags = CASE_FORWARD_ONLY,
     .why = "packed in the kernel, a second block of one k"},
    {"matmul", {NORMAL(600, 31), NORMAL(33, 600)}, T(1, 1), .flags = CASE_FORWARD_ONLY,
     .why = "a packed in the kernel, b by a launch, k in three blocks"},
    {"matmul", {NORMAL(3, 300, 20), NORMAL(3, 300, 40)}, T(1, 0), .flags = CASE_FORWARD_ONLY,
     .why = "batched, both packed in the kernel"},
    {"matmul", {NORMAL(3, 5, 7, 9), NORMAL(3, 5, 9, 16)}, T(0, 0), .flags = CASE_NO_SECOND, .why = "batched"},
    {"matmul", {NORMAL(4, 9, 7), NORMAL(4, 11, 9)}, T(1, 1), .why = "batched, both transposed"},
    {"matmul", {NORMAL(3, 1, 3, 4), NORMAL(5, 4, 6)}, T(0, 0), .why = "both broadcast, ranks differ"},
    {"matmul", {NORMAL(4, 7, 9), NORMAL(9, 16)}, T(0, 0), .why = "one b for the batch: folded into rows"},
    {"matmul", {NORMAL(4, 9, 7), NORMAL(9, 16)}, T(1, 0), .why = "one b for a batch of transposed a"},
    {"matmul", {NORMAL(4, 7, 9), NORMAL(16, 9)}, T(0, 1), .why = "one transposed b for the batch"},
    {"matmul", {NORMAL(7, 9), NORMAL(2, 3, 9, 5)}, T(0, 0), .why = "one a for the batch"},
    {"matmul", {NORMAL(0, 3), NORMAL(3, 4)}, T(0, 0), .why = "no rows"},
    {"matmul", {NORMAL(3, 4), NORMAL(4, 0)}, T(0, 0), .why = "no columns"},
    {"matmul", {NORMAL(3, 0), NORMAL(0, 4)}, T(0, 0), .why = "an empty sum is zero"},
    {"matmul", {NORMAL(0, 3, 4), NORMAL(4, 5)}, T(0, 0), .why = "no batch: the gradient of b is zero"},
    {0}
};
