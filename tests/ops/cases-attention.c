/* attention: i[0] causal, f[0] scale; q, k, v [b, s, heads, d], perhaps a mask.
 * attention_grad: the same, with the output's gradient before the mask. */
#include "ops/cases.h"

#define A(causal, scale) .tolerance = 1e-5, .attr = {.i = {causal}, .f = {scale}}

const op_case op_cases_attention[] = {
    {"attention", {NORMAL(1, 1, 1, 1), NORMAL(1, 1, 1, 1), NORMAL(1, 1, 1, 1)}, A(0, 1), .why = "one key"},
    {"attention", {NORMAL(2, 5, 3, 8), NORMAL(2, 7, 3, 8), NORMAL(2, 7, 3, 8)}, A(0, 0.35f), .why = "whole vectors"},
    {"attention", {NORMAL(1, 4, 2, 7), NORMAL(1, 5, 2, 7), NORMAL(1, 5, 2, 7)}, A(0, 0.38f),
     .why = "head size not a multiple of the vector"},
    {"attention", {NORMAL(1, 7, 2, 16), NORMAL(1, 7, 2, 16), NORMAL(1, 7, 2, 16)}, A(1, 0.25f),
     .why = "causal"},
    {"attention", {NORMAL(1, 6, 1, 4), NORMAL(1, 4, 1, 4), NORMAL(1, 4, 1, 4)}, A(1, 0.5f),
     .why = "causal, more queries than keys"},
    {"attention", {NORMAL(2, 3, 2, 4), NORMAL(2, 5, 2, 4), NORMAL(2, 5, 2, 4), NORMAL(3, 5)}, A(0, 0.5f),
     .why = "one mask for all heads; it has a gradient too"},
    {"attention", {NORMAL(2, 3, 2, 4), NORMAL(2, 5, 2, 4), NORMAL(2, 5, 2, 4), NORMAL(2, 1, 1, 5)}, A(0, 0.5f),
     .why = "a mask over keys per sample"},
    {"attention", {NORMAL(2, 3, 2, 4), NORMAL(2, 5, 2, 4), NORMAL(2, 5, 2, 4), NORMAL(2, 2, 3, 5)}, A(1, 0.5f),
     .why = "a full mask, and causal"},
    {"attention", {NORMAL(1, 13, 2, 24), NORMAL(1, 300, 2, 24), NORMAL(1, 300, 2, 24)}, A(0, 0.2f),
     .flags = CASE_FORWARD_ONLY | CASE_LARGE, .why = "three blocks of keys, queries shared out"},
    {"attention", {NORMAL_OF(0, 30, 1, 9, 1, 33), NORMAL(1, 257, 1, 33), NORMAL(1, 257, 1, 33)}, .attr = {.f = {1}},
     .tolerance = 2e-4, .flags = CASE_FORWARD_ONLY, .why = "scores of some hundreds: exp needs the maximum taken off"},
    {"attention", {NORMAL(0, 3, 2, 8), NORMAL(0, 3, 2, 8), NORMAL(0, 3, 2, 8)}, A(0, 1), .why = "empty batch"},
    {"attention", {NORMAL(2, 0, 2, 8), NORMAL(2, 3, 2, 8), NORMAL(2, 3, 2, 8)}, A(0, 1), .why = "no queries"},
    {"attention_grad", {NORMAL(1, 1, 1, 1), NORMAL(1, 1, 1, 1), NORMAL(1, 1, 1, 1), NORMAL(1, 1, 1, 1)}, A(0, 1),
     .why = "one key: no gradient reaches q and k"},
    {"attention_grad", {NORMAL(2, 3, 2, 8), NORMAL(2, 4, 2, 8), NORMAL(2, 4, 2, 8), NORMAL(2, 3, 2, 8)}, A(0, 0.35f),
     .why = "whole vectors"},
    {"attention_grad", {NORMAL(1, 4, 2, 5), NORMAL(1, 3, 2, 5), NORMAL(1, 3, 2, 5), NORMAL(1, 4, 2, 5)}, A(1, 0.45f),
     .why = "causal, odd head size"},
    {"attention_grad", {NORMAL(1, 3, 2, 4), NORMAL(1, 5, 2, 4), NORMAL(1, 5, 2, 4), NORMAL(1, 3, 2, 4), NORMAL(3, 5)},
     A(0, 0.5f), .why = "a mask"},
    {"attention_grad", {NORMAL(2, 29, 2, 24), NORMAL(2, 50, 2, 24), NORMAL(2, 50, 2, 24), NORMAL(2, 29, 2, 24)},
     A(1, 0.2f), .flags = CASE_FORWARD_ONLY | CASE_LARGE, .why = "two blocks of queries, keys past the last query"},
    {"attention_grad", {NORMAL(2, 7, 2, 16), NORMAL(2, 60, 2, 16), NORMAL(2, 60, 2, 16), NORMAL(2, 7, 2, 16)},
     A(0, 0.25f), .flags = CASE_FORWARD_ONLY, .why = "tiles of keys that reach past their panels"},
    {"attention_grad", {NORMAL(3, 49, 2, 16), NORMAL(3, 49, 2, 16), NORMAL(3, 49, 2, 16), NORMAL(3, 49, 2, 16)},
     A(0, 0.25f), .flags = CASE_FORWARD_ONLY | CASE_LARGE, .why = "a U-Net's 7 x 7 pixels"},
    {"attention_grad", {NORMAL(0, 3, 2, 8), NORMAL(0, 3, 2, 8), NORMAL(0, 3, 2, 8), NORMAL(0, 3, 2, 8)}, A(0, 1),
     .why = "empty batch"},
    {"attention_grad", {NORMAL(1, 0, 2, 4), NORMAL(1, 3, 2, 4), NORMAL(1, 3, 2, 4), NORMAL(1, 0, 2, 4)}, A(0, 1),
     .why = "no queries: the gradients of k and v are zero"},
    {0}
};
