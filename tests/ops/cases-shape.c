/* Ops that move elements: exact. */
#include "ops/cases.h"

const op_case op_cases_shape[] = {
    {"reshape", {NORMAL(6, 7)}, .attr = {.i = {3, 2, 3, 7}}, .why = "an axis is split"},
    {"reshape", {NORMAL(1, 1)}, .attr = {.i = {0}}, .why = "to a scalar"},
    {"reshape", {INDEX(0, 9, 4, 3)}, .attr = {.i = {1, 12}}, .why = "i32"},
    {"reshape", {NORMAL(0, 3)}, .attr = {.i = {2, 5, 0}}, .why = "empty"},

    {"permute", {NORMAL(7, 31)}, .attr = {.i = {1, 0}}, .why = "a transposition without a full tile"},
    {"permute", {NORMAL(37, 33)}, .attr = {.i = {1, 0}}, .why = "full tiles and parts of tiles"},
    {"permute", {NORMAL(5, 3, 4, 19)}, .attr = {.i = {0, 2, 1, 3}}, .why = "heads: runs stay whole"},
    {"permute", {NORMAL(3, 17, 20)}, .attr = {.i = {2, 0, 1}},
     .why = "the innermost axis becomes the outermost"},
    {"permute", {NORMAL(2, 3, 2, 3, 2)}, .attr = {.i = {4, 2, 0, 3, 1}}, .why = "five axes that do not join"},
    {"permute", {NORMAL(2, 3, 2, 3, 2, 2, 3, 2)}, .attr = {.i = {7, 5, 3, 1, 6, 4, 2, 0}},
     .why = "all eight axes"},
    {"permute", {INDEX(-9, 9, 3, 5)}, .attr = {.i = {1, 0}}, .why = "i32"},
    {"permute", {NORMAL(3, 0, 2)}, .attr = {.i = {2, 1, 0}}, .why = "empty"},

    {"slice", {NORMAL(9, 5)}, .attr = {.i = {0, 2, 4, 1}}, .why = "the leading axis: a view"},
    {"slice", {NORMAL(101)}, .attr = {.i = {0, 13, 57, 1}}, .why = "a piece of a vector: a view"},
    {"slice", {NORMAL(3, 40)}, .attr = {.i = {1, 3, 35, 1}}, .why = "rows with vectors and a rest"},
    {"slice", {NORMAL(3, 31)}, .attr = {.i = {1, 1, 10, 3}}, .why = "steps along the last axis"},
    {"slice", {NORMAL(3, 11, 7)}, .attr = {.i = {1, 2, 4, 2}}, .why = "steps along the middle"},
    {"slice", {NORMAL(33)}, .attr = {.i = {0, 32, 1, 5}}, .why = "the last element"},
    {"slice", {NORMAL(3, 7)}, .attr = {.i = {1, 4, 0, 2}}, .why = "nothing"},
    {"slice", {INDEX(-9, 9, 4, 6)}, .attr = {.i = {1, 1, 3, 2}}, .why = "i32"},

    {"pad", {NORMAL(5, 7)}, .attr = {.i = {0, 2, 1, 0}}, .why = "rows"},
    {"pad", {NORMAL(3, 33)}, .attr = {.i = {1, 3, 4, 0}}, .why = "columns"},
    {"pad", {NORMAL(3, 4, 5)}, .attr = {.i = {1, 0, 2, 2}}, .why = "zeros between"},
    {"pad", {NORMAL(2, 7)}, .attr = {.i = {1, 1, 0, 1}}, .why = "zeros between, along the last axis"},
    {"pad", {NORMAL(2, 0)}, .attr = {.i = {1, 3, 4, 0}}, .why = "nothing becomes zeros"},
    {"pad", {INDEX(1, 9, 5)}, .attr = {.i = {0, 1, 1, 0}}, .why = "i32"},

    {"concat", {NORMAL(3, 5), NORMAL(4, 5)}, .attr = {.i = {0}}, .why = "rows"},
    {"concat", {NORMAL(3, 5), NORMAL(3, 33), NORMAL(3, 1)}, .attr = {.i = {1}},
     .why = "columns of three widths"},
    {"concat", {NORMAL(2, 3, 7), NORMAL(2, 0, 7), NORMAL(2, 4, 7)}, .attr = {.i = {1}},
     .why = "an empty part"},
    {"concat",
     {NORMAL(3), NORMAL(1), NORMAL(17), NORMAL(2), NORMAL(5), NORMAL(4), NORMAL(6), NORMAL(7),
     NORMAL(9), NORMAL(1)},
     .attr = {.i = {0}}, .why = "more parts than one launch takes"},
    {"concat", {INDEX(0, 9, 3), INDEX(0, 9, 4)}, .attr = {.i = {0}}, .why = "i32"},

    {"flip", {NORMAL(7, 5)}, .attr = {.i = {0}}, .why = "rows"},
    {"flip", {NORMAL(3, 33)}, .attr = {.i = {1}}, .why = "columns"},
    {"flip", {NORMAL(2, 5, 3)}, .attr = {.i = {1}}, .why = "the middle"},
    {"flip", {INDEX(0, 9, 7)}, .attr = {.i = {0}}, .why = "i32"},
    {"flip", {NORMAL(0, 7)}, .attr = {.i = {0}}, .why = "empty"},
    {0},
};
