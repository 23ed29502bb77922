/* What the files of the op table share: how a row is applied, how its shape rule
 * fails, how its launches are put together.  Internal. */
#ifndef PIPE_CORE_OPS_H
#define PIPE_CORE_OPS_H

#include "core/device/device.h"
#include <pipe/op.h>

/* ---- the table: NULL-terminated groups, listed by core/tensor/op-table.c ---- */
extern const pipe_op *const pipei_ops_elementwise[];
extern const pipe_op *const pipei_ops_shape[];
extern const pipe_op *const pipei_ops_reduce[];
extern const pipe_op *const pipei_ops_index[];
extern const pipe_op *const pipei_ops_order[];
extern const pipe_op *const pipei_ops_random[];
extern const pipe_op *const pipei_ops_image[];

/* The row of slices' adjoints: pipe_grad() makes one concat of those that tile a
 * leaf.  Its attributes: i[0] axis, i[1] before, i[2] after, i[3] interior. */
extern const pipe_op pipei_op_pad;

/* ---- applying ---- */
/* A poisoned (or NULL) input, as a poisoned tensor; NULL when `a` is sound.
 * Functions that look at shapes before they record anything begin with it. */
PIPE_INTERNAL pipe_tensor *pipei_unsound(pipe_tensor *a);
#define PIPEI_SOUND(a)                                     \
    do {                                                   \
        pipe_tensor *pipei_unsound_ = pipei_unsound(a);    \
        if (pipei_unsound_)                                \
            return pipei_unsound_;                         \
    } while (0)

/* The engine is that of the inputs; NULL and poison among them are handled. */
PIPE_INTERNAL pipe_tensor *pipei_op1(const pipe_op *op, pipe_tensor *a, const pipe_attr *attr);
PIPE_INTERNAL pipe_tensor *pipei_op2(const pipe_op *op, pipe_tensor *a, pipe_tensor *b,
                                     const pipe_attr *attr);
PIPE_INTERNAL pipe_tensor *pipei_op3(const pipe_op *op, pipe_tensor *a, pipe_tensor *b, pipe_tensor *c,
                                     const pipe_attr *attr);

/* A negative axis counts from the end; false when there is no such axis. */
PIPE_INTERNAL bool pipei_axis(const pipe_tensor *a, int axis, uint32_t *out);
/* Puts the axis, counted from the front, into attr->i[0]; a poisoned tensor when
 * there is no such axis, else NULL. */
PIPE_INTERNAL pipe_tensor *pipei_attr_axis(pipe_tensor *a, int axis, const char *name, pipe_attr *attr);

/* `a`, copied once `gate` has been computed. */
PIPE_INTERNAL pipe_tensor *pipei_after(pipe_tensor *a, pipe_tensor *gate);

/* ---- shape rules ---- */
PIPE_INTERNAL pipe_status pipei_need_f32(const pipe_op_call *c, size_t k, pipe_error *err);
PIPE_INTERNAL pipe_status pipei_need_i32(const pipe_op_call *c, size_t k, pipe_error *err);
PIPE_INTERNAL pipe_status pipei_need_rank(const pipe_op_call *c, size_t k, uint32_t rank, pipe_error *err);
PIPE_INTERNAL pipe_status pipei_need_axis(const pipe_op_call *c, size_t k, int64_t axis, pipe_error *err);
/* A shape that came from a caller: rank, signs, and a count that fits 31 bits. */
PIPE_INTERNAL pipe_status pipei_need_shape(const pipe_shape *s, pipe_error *err);
/* The shape in i[0] (rank) and i[1], i[2], ... */
PIPE_INTERNAL void pipei_attr_set_shape(pipe_attr *attr, const pipe_shape *s);
PIPE_INTERNAL pipe_shape pipei_attr_shape(const pipe_attr *attr);
/* One shape that all inputs broadcast to, whatever their dtype. */
PIPE_INTERNAL pipe_status pipei_broadcast(const pipe_op_call *c, pipe_shape *out, pipe_error *err);
PIPE_INTERNAL pipe_status pipei_shape_f32_same(const pipe_op_call *c, pipe_op_result *out, pipe_error *err);

/* ---- derivatives ---- */
/* Declares that the derivative is zero everywhere. */
PIPE_INTERNAL void pipei_vjp_zero(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx,
                                  const bool *needs);
PIPE_INTERNAL pipe_tensor *pipei_jvp_zero(const pipe_op_call *c, pipe_tensor *const *dx);
/* Ops that are linear in input 0 and have no other f32 input: the op itself. */
PIPE_INTERNAL pipe_tensor *pipei_jvp_linear(const pipe_op_call *c, pipe_tensor *const *dx);

/* ---- references ---- */
/* Element k of a shape by its coordinates, and back. */
PIPE_INTERNAL void pipei_unravel(size_t k, const pipe_shape *s, int64_t at[PIPE_MAX_RANK]);
PIPE_INTERNAL size_t pipei_ravel(const int64_t at[PIPE_MAX_RANK], const pipe_shape *s);
/* The element of `in` that broadcasting puts at element k of `out`. */
PIPE_INTERNAL size_t pipei_broadcast_index(size_t k, const pipe_shape *out, const pipe_shape *in);

/* ---- launches ---- */
/* The prelude (prelude.cl) and a body, as one source. */
PIPE_INTERNAL const char *pipei_source(pipe_lowering *l, const char *body);
/* Adds an argument. */
PIPE_INTERNAL void pipei_arg(pipe_launch *k, pipe_arg_kind kind, uint32_t index);
PIPE_INTERNAL void pipei_arg_int(pipe_launch *k, int64_t value);
/* One dimension over `items`: on a CPU few work-items of size 1, each taking a
 * contiguous share (EACH in prelude.cl); on a GPU one work-item per item. */
PIPE_INTERNAL void pipei_launch_items(pipe_lowering *l, pipe_launch *k, size_t items);
/* On a GPU one work-group of `local` work-items per item; on a CPU as above. */
PIPE_INTERNAL void pipei_launch_groups(pipe_lowering *l, pipe_launch *k, size_t items, size_t local);
/* How many work-items keep a CPU device busy and balanced. */
PIPE_INTERNAL size_t pipei_cpu_items(const pipe_device_profile *p);

/* A copy of a box between two strided layouts (strides and offsets in elements).
 * Axes go from slowest to fastest in y; x strides may be negative or zero. */
typedef struct pipei_copy {
    uint32_t rank;
    int64_t dim[PIPE_MAX_RANK], x[PIPE_MAX_RANK], y[PIPE_MAX_RANK];
    int64_t x_offset, y_offset;
} pipei_copy;
PIPE_INTERNAL void pipei_lower_copy(pipe_lowering *l, const pipei_copy *copy, pipe_arg x, pipe_arg y);
/* Row-major strides of a shape. */
PIPE_INTERNAL void pipei_strides(const pipe_shape *s, int64_t out[PIPE_MAX_RANK]);

/* Ten rounds of Philox 4x32. */
PIPE_INTERNAL void pipei_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

#define PIPEI_MIN(a, b) ((a) < (b) ? (a) : (b))
#define PIPEI_MAX(a, b) ((a) > (b) ? (a) : (b))

#endif
