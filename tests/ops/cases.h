/* The cases of the op table: one row is one use of one op.
 *
 * tests/ops/walk.c runs every row of every array named in its list, and fails
 * for an op of the table that has no case, no reference or no derivative.  Per
 * row it checks
 *   forward   the kernel against the reference in double precision, and the
 *             composed form (where there is one) against the same reference
 *   vjp, jvp  the recorded derivatives, evaluated on the device, against
 *             central differences of the reference
 *   second    the vjp of the vjp, likewise
 * on the device as it is and once more with the kernels of a GPU.
 *
 *     const op_case op_cases_linear[] = {
 *         {"matmul", {NORMAL(7, 31), NORMAL(31, 33)}, .attr = {.i = {0, 0}},
 *          .tolerance = 1e-5, .why = "no full tile fits"},
 *         {0}
 *     };
 *
 * and the array's name goes into the list at the top of walk.c. */
#ifndef TESTS_OPS_CASES_H
#define TESTS_OPS_CASES_H

#include <pipe/op.h>

typedef enum op_fill {
    OP_NONE = 0,     /* ends the inputs */
    OP_UNIFORM,      /* f32 in [low, high) */
    OP_NORMAL,       /* f32, mean low, deviation high */
    OP_DISTINCT,     /* f32, a shuffled grid over [low, high): no two are near, for max, sort */
    OP_VALUES,       /* f32, `values`, repeated as often as needed */
    OP_INDEX,        /* i32 in [low, high) */
    OP_INDEX_VALUES  /* i32, `values`, repeated */
} op_fill;

typedef struct op_input {
    op_fill fill;
    double low, high;
    pipe_shape shape;
    size_t n_values;
    double values[20];
} op_input;

#define OP_SHAPE_(...)                                                                \
    {.rank = (uint32_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), .dim = {__VA_ARGS__}}
#define UNIFORM(low_, high_, ...) \
    {.fill = OP_UNIFORM, .low = (low_), .high = (high_), .shape = OP_SHAPE_(__VA_ARGS__)}
#define NORMAL(...) {.fill = OP_NORMAL, .low = 0, .high = 1, .shape = OP_SHAPE_(__VA_ARGS__)}
#define NORMAL_OF(mean_, deviation_, ...) \
    {.fill = OP_NORMAL, .low = (mean_), .high = (deviation_), .shape = OP_SHAPE_(__VA_ARGS__)}
#define DISTINCT(low_, high_, ...) \
    {.fill = OP_DISTINCT, .low = (low_), .high = (high_), .shape = OP_SHAPE_(__VA_ARGS__)}
#define INDEX(low_, high_, ...) \
    {.fill = OP_INDEX, .low = (low_), .high = (high_), .shape = OP_SHAPE_(__VA_ARGS__)}
/* A vector of exactly these values. */
#define VALUES(...)                                                                   \
    {.fill = OP_VALUES, .shape = {.rank = 1, .dim = {OP_COUNT_(__VA_ARGS__)}},        \
     .n_values = OP_COUNT_(__VA_ARGS__), .values = {__VA_ARGS__}}
#define INDEX_VALUES(...)                                                             \
    {.fill = OP_INDEX_VALUES, .shape = {.rank = 1, .dim = {OP_COUNT_(__VA_ARGS__)}},  \
     .n_values = OP_COUNT_(__VA_ARGS__), .values = {__VA_ARGS__}}
#define OP_COUNT_(...) (sizeof((double[]){__VA_ARGS__}) / sizeof(double))
/* Scalars: rank 0. */
#define UNIFORM_SCALAR(low_, high_) {.fill = OP_UNIFORM, .low = (low_), .high = (high_)}
#define INDEX_SCALAR(low_, high_) {.fill = OP_INDEX, .low = (low_), .high = (high_)}

enum {
    CASE_FORWARD_ONLY = 1,  /* the inputs sit on kinks or poles: say so in `why` */
    CASE_NO_SECOND = 2,     /* first derivatives only */
    CASE_LARGE = 4,         /* not on the forced GPU profile, which a CPU runs slowly */
};

typedef struct op_case {
    const char *op;
    op_input in[16];
    pipe_attr attr;
    double tolerance;       /* of |got - want| / (1 + |want|), forward */
    double gradient;        /* the same of the derivatives; 0: 2e-4 */
    uint32_t flags;
    const char *why;        /* what this row finds that the others do not */
} op_case;

/* Arrays end with a row whose op is NULL. */
extern const op_case op_cases_elementwise[], op_cases_shape[], op_cases_reduce[], op_cases_softmax[],
    op_cases_index[], op_cases_order[], op_cases_random[], op_cases_image[];
extern const op_case op_cases_linear[] __attribute__((weak));
extern const op_case op_cases_conv[] __attribute__((weak));
extern const op_case op_cases_attention[] __attribute__((weak));
extern const op_case op_cases_norm[] __attribute__((weak));

#endif
