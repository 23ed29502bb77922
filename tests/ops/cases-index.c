/* Gathering, scattering, sorting. */
#include "ops/cases.h"

#include <math.h>

const op_case op_cases_index[] = {
    {"gather", {NORMAL(7, 33), INDEX(0, 7, 5)}, .why = "rows, repeated and left out"},
    {"gather", {NORMAL(7), INDEX(-7, 7, 3, 4)}, .why = "elements by a matrix, from the end too"},
    {"gather", {NORMAL(3, 2, 5), INDEX_VALUES(-100, 0, 2, 100)}, .why = "out of range is clamped"},
    {"gather", {INDEX(-9, 9, 4, 3), INDEX(0, 4, 6)}, .why = "i32"},
    {"gather", {NORMAL(4, 3), INDEX_SCALAR(0, 4)}, .why = "one row, by a scalar"},
    {"gather", {NORMAL(4, 3), INDEX(0, 4, 0)}, .why = "nothing"},
    {"scatter_add", {NORMAL(9, 33), INDEX(0, 5, 9)}, .attr = {.i = {5}}, .tolerance = 2e-6,
     .why = "collisions"},
    {"scatter_add", {NORMAL(3, 4), INDEX(-70, 70, 3, 4)}, .attr = {.i = {70}}, .tolerance = 2e-6,
     .why = "single elements, from the end too"},
    {"scatter_add", {NORMAL(130, 2), INDEX(0, 3, 130)}, .attr = {.i = {3}}, .tolerance = 5e-6,
     .why = "more indices than a work-group reads at once"},
    {"scatter_add", {NORMAL(0, 3), INDEX(0, 4, 0)}, .attr = {.i = {4}}, .why = "nothing: zeros"},
    {"take_along", {NORMAL(7, 11), INDEX(0, 11, 7, 3)}, .why = "three of each row"},
    {"take_along", {NORMAL(5), INDEX(-5, 5, 9)}, .why = "from the end too"},
    {"take_along", {INDEX(0, 9, 2, 3, 4), INDEX(0, 4, 2, 3, 5)}, .why = "i32, three axes"},
    {"put_along", {NORMAL(7, 3), INDEX(0, 11, 7, 3)}, .attr = {.i = {11}}, .tolerance = 2e-6, .why = "a few"},
    {"put_along", {NORMAL(3, 130), INDEX(-70, 70, 3, 130)}, .attr = {.i = {70}}, .tolerance = 2e-6,
     .why = "collisions, more than a work-group reads at once"},
    {"put_along", {NORMAL(3, 0), INDEX(0, 4, 3, 0)}, .attr = {.i = {4}}, .why = "nothing: zeros"},
    {"one_hot", {INDEX(-1, 8, 3, 5)}, .attr = {.i = {7}}, .why = "-1 and 7 of 7 classes give zeros"},
    {"arange", {{0}}, .attr = {.i = {33}, .f = {-2, 0.25f}}, .why = "two vectors and one more"},
    {"arange", {{0}}, .attr = {.i = {0}}, .why = "empty"},
    {"arange_i32", {{0}}, .attr = {.i = {33}, .u = {(uint32_t)-5}}, .why = "from a negative start"},
    {0},
};

const op_case op_cases_order[] = {
    {"argsort", {NORMAL(7, 31)}, .why = "ascending"},
    {"argsort", {NORMAL(3, 33)}, .attr = {.i = {1}}, .why = "descending"},
    {"argsort", {UNIFORM(0, 1, 1)}, .why = "one element"},
    {"argsort", {NORMAL(2, 3, 8)}, .attr = {.i = {1}}, .why = "exactly one run"},
    {"argsort", {VALUES(3, NAN, -INFINITY, 3, -0.0, 0, INFINITY, NAN, -1)},
     .why = "ties keep order, NaN last"},
    {"argsort", {VALUES(3, NAN, -INFINITY, 3, -0.0, 0, INFINITY, NAN, -1)}, .attr = {.i = {1}},
     .why = "descending: ties keep order, NaN last"},
    {"argsort", {INDEX(-3, 3, 2, 100)}, .why = "i32, many ties"},
    {"argsort", {INDEX(-3, 3, 2, 100)}, .attr = {.i = {1}}, .why = "i32, many ties, descending"},
    {"argsort", {NORMAL(2, 1500)}, .why = "more than a work-group holds"},
    {"argsort", {NORMAL(3, 0)}, .why = "empty"},
    {"argmax", {NORMAL(7, 31)}, .why = "rows"},
    {"argmax", {NORMAL(2, 3, 130)}, .why = "more than a work-group"},
    {"argmax", {VALUES(1, 5, 5, -2)}, .why = "the first of equals"},
    {"argmax", {VALUES(1, INFINITY, NAN, NAN)}, .why = "the first NaN"},
    {"argmax", {VALUES(-INFINITY, -INFINITY)}, .why = "all -inf: the first"},
    {"argmax", {INDEX(-100, -3, 3, 9)}, .why = "i32"},
    {0},
};
