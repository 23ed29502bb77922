/* Tensors: lazy, differentiable, on an OpenCL device.
 *
 * Calling an operation records a node and returns at once.  pipe_eval() (or a
 * read-back) turns what has been recorded into a plan of fused kernels, looked
 * up under the structural hash of the recording, and enqueues it.  So plugin
 * code reads like eager code, with ordinary C control flow.
 *
 * Lifetime.  A tensor that an operation returns belongs to the *recording*: it
 * is valid until the next pipe_eval() of its engine.  pipe_keep() holds it
 * longer: a kept tensor is computed by the evaluation and is a leaf (a buffer
 * without history) afterwards.  Nothing else has to be freed.
 *
 * Errors.  An operation that cannot be (shapes, dtypes, a poisoned input)
 * returns a poisoned tensor carrying the first error with the operation's name
 * and both shapes; operations on it stay poisoned; pipe_check(), pipe_eval()
 * and the read-backs report it.  No operation ever returns NULL, and NULL as an
 * input gives a poisoned result.
 *
 * Layout is row-major and channels-last: images [n, height, width, channels],
 * sequences [n, length, channels], sets of points [n, features].
 * Arithmetic is f32.  Negative axes count from the end.
 *
 * Thread: one engine belongs to one thread.
 */
#ifndef PIPE_TENSOR_H
#define PIPE_TENSOR_H

#include <pipe/base.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PIPE_MAX_RANK 8

typedef enum pipe_dtype { PIPE_F32 = 0, PIPE_I32 = 1 } pipe_dtype;

typedef struct pipe_shape {
    uint32_t rank;                 /* 0: a scalar */
    int64_t dim[PIPE_MAX_RANK];    /* >= 0; entries from rank on are 0 */
} pipe_shape;

/** PIPE_SHAPE(64, 28, 28, 1); PIPE_SCALAR for rank 0. */
#define PIPE_SHAPE(...)                                                        \
    ((pipe_shape){.rank = (uint32_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), \
                  .dim = {__VA_ARGS__}})
#define PIPE_SCALAR ((pipe_shape){0})

PIPE_API int64_t pipe_shape_count(const pipe_shape *s);          /* product; 1 for a scalar */
PIPE_API bool pipe_shape_equal(const pipe_shape *a, const pipe_shape *b);
/** "[64, 28, 28, 1]" into `out`; returns out. */
PIPE_API char *pipe_shape_text(const pipe_shape *s, char *out, size_t size);
#define PIPE_SHAPE_TEXT 176   /* room for any shape */

typedef struct pipe_engine pipe_engine;   /* a device, its memory, plans and the recording */
typedef struct pipe_tensor pipe_tensor;

/* ---- what a tensor is ---- */
PIPE_API const pipe_shape *pipe_tensor_shape(const pipe_tensor *t);
PIPE_API pipe_dtype pipe_tensor_dtype(const pipe_tensor *t);
PIPE_API pipe_engine *pipe_tensor_engine(const pipe_tensor *t);
PIPE_API int64_t pipe_dim(const pipe_tensor *t, int axis);       /* 0 for an axis that is not there */
PIPE_API int64_t pipe_count(const pipe_tensor *t);
PIPE_API uint32_t pipe_rank(const pipe_tensor *t);

/* ---- evaluation ---- */
/** PIPE_OK, or the error that poisoned `t`. */
PIPE_API pipe_status pipe_check(const pipe_tensor *t, pipe_error *err);
/** Computes every kept tensor and every assignment recorded since the last
 *  evaluation, then ends the recording: tensors that are not kept are gone.
 *  Returns once the work is enqueued; errors of recording and planning are
 *  reported here.  An evaluation with nothing recorded is free. */
PIPE_API pipe_status pipe_eval(pipe_engine *e, pipe_error *err);
/** Evaluates and copies all elements to the host (f32 or i32); waits.
 *  `t` itself stays valid only if it is kept. */
PIPE_API pipe_status pipe_read_f32(pipe_tensor *t, float *out, size_t count, pipe_error *err);
PIPE_API pipe_status pipe_read_i32(pipe_tensor *t, int32_t *out, size_t count, pipe_error *err);
/** Waits until the device has done everything enqueued. */
PIPE_API pipe_status pipe_finish(pipe_engine *e, pipe_error *err);

/** Makes `*slot` hold `t` beyond the next evaluation and releases what it held
 *  before; t = NULL only releases.  A tensor may be held by several slots. */
PIPE_API void pipe_keep(pipe_tensor **slot, pipe_tensor *t);
/** Records that the buffer of `leaf` (a kept, evaluated tensor) takes the value
 *  of `value` (same shape and dtype) when the recording is evaluated.  Reads of
 *  `leaf` in this recording, before or after the call, see the old value. */
PIPE_API pipe_status pipe_assign(pipe_tensor *leaf, pipe_tensor *value, pipe_error *err);

/* ---- sources ---- */
PIPE_API pipe_tensor *pipe_from_f32(pipe_engine *e, pipe_shape shape, const float *data);   /* copies */
PIPE_API pipe_tensor *pipe_from_i32(pipe_engine *e, pipe_shape shape, const int32_t *data); /* copies */
PIPE_API pipe_tensor *pipe_full(pipe_engine *e, pipe_shape shape, double value);
PIPE_API pipe_tensor *pipe_zeros(pipe_engine *e, pipe_shape shape);
PIPE_API pipe_tensor *pipe_zeros_like(pipe_tensor *t);
PIPE_API pipe_tensor *pipe_ones_like(pipe_tensor *t);
PIPE_API pipe_tensor *pipe_constant(pipe_engine *e, double value);       /* a scalar */
/** start, start + step, ...: [n] f32 */
PIPE_API pipe_tensor *pipe_arange(pipe_engine *e, int64_t n, double start, double step);
PIPE_API pipe_tensor *pipe_arange_i32(pipe_engine *e, int64_t n, int32_t start);

/* ---- elementwise, with NumPy's broadcasting ----
 * Scalars given as double are run-time arguments of the kernel: a changed value
 * does not make another plan. */
PIPE_API pipe_tensor *pipe_add(pipe_tensor *a, pipe_tensor *b);
PIPE_API pipe_tensor *pipe_sub(pipe_tensor *a, pipe_tensor *b);
PIPE_API pipe_tensor *pipe_mul(pipe_tensor *a, pipe_tensor *b);
PIPE_API pipe_tensor *pipe_div(pipe_tensor *a, pipe_tensor *b);
PIPE_API pipe_tensor *pipe_maximum(pipe_tensor *a, pipe_tensor *b);
PIPE_API pipe_tensor *pipe_minimum(pipe_tensor *a, pipe_tensor *b);
PIPE_API pipe_tensor *pipe_pow(pipe_tensor *a, pipe_tensor *b);
PIPE_API pipe_tensor *pipe_atan2(pipe_tensor *y, pipe_tensor *x);
PIPE_API pipe_tensor *pipe_neg(pipe_tensor *a);
PIPE_API pipe_tensor *pipe_scale(pipe_tensor *a, double k);              /* k a */
PIPE_API pipe_tensor *pipe_affine(pipe_tensor *a, double k, double c);   /* k a + c */
PIPE_API pipe_tensor *pipe_axpby(double p, pipe_tensor *a, double q, pipe_tensor *b); /* p a + q b */
PIPE_API pipe_tensor *pipe_powf(pipe_tensor *a, double exponent);
PIPE_API pipe_tensor *pipe_clamp(pipe_tensor *a, double low, double high);
PIPE_API pipe_tensor *pipe_square(pipe_tensor *a);
PIPE_API pipe_tensor *pipe_abs(pipe_tensor *a);
PIPE_API pipe_tensor *pipe_sign(pipe_tensor *a);       /* derivative 0 */
PIPE_API pipe_tensor *pipe_floor(pipe_tensor *a);      /* derivative 0 */
PIPE_API pipe_tensor *pipe_exp(pipe_tensor *a);
PIPE_API pipe_tensor *pipe_expm1(pipe_tensor *a);
PIPE_API pipe_tensor *pipe_ln(pipe_tensor *a);         /* natural logarithm; pipe_log() is the logger */
PIPE_API pipe_tensor *pipe_log1p(pipe_tensor *a);
PIPE_API pipe_tensor *pipe_sqrt(pipe_tensor *a);
PIPE_API pipe_tensor *pipe_rsqrt(pipe_tensor *a);
PIPE_API pipe_tensor *pipe_reciprocal(pipe_tensor *a);
PIPE_API pipe_tensor *pipe_sin(pipe_tensor *a);
PIPE_API pipe_tensor *pipe_cos(pipe_tensor *a);
PIPE_API pipe_tensor *pipe_tanh(pipe_tensor *a);
PIPE_API pipe_tensor *pipe_erf(pipe_tensor *a);
PIPE_API pipe_tensor *pipe_sigmoid(pipe_tensor *a);
PIPE_API pipe_tensor *pipe_softplus(pipe_tensor *a);
PIPE_API pipe_tensor *pipe_silu(pipe_tensor *a);
PIPE_API pipe_tensor *pipe_relu(pipe_tensor *a);
PIPE_API pipe_tensor *pipe_gelu(pipe_tensor *a);       /* exact: a Phi(a) */
PIPE_API pipe_tensor *pipe_gelu_tanh(pipe_tensor *a);  /* the tanh approximation */
/** 1 where the comparison holds, else 0 (f32; of i32 too); derivative 0. */
PIPE_API pipe_tensor *pipe_less(pipe_tensor *a, pipe_tensor *b);
PIPE_API pipe_tensor *pipe_less_equal(pipe_tensor *a, pipe_tensor *b);
PIPE_API pipe_tensor *pipe_equal(pipe_tensor *a, pipe_tensor *b);
/** condition != 0 ? a : b */
PIPE_API pipe_tensor *pipe_where(pipe_tensor *condition, pipe_tensor *a, pipe_tensor *b);
PIPE_API pipe_tensor *pipe_to_f32(pipe_tensor *a);     /* of i32; the identity on f32 */
PIPE_API pipe_tensor *pipe_to_i32(pipe_tensor *a);     /* rounds towards zero; derivative 0 */
/** The same value without history: no gradient passes. */
PIPE_API pipe_tensor *pipe_stop_gradient(pipe_tensor *a);

/* ---- shape ---- */
/** One entry of `shape` may be -1: what is left over. */
PIPE_API pipe_tensor *pipe_reshape(pipe_tensor *a, pipe_shape shape);
PIPE_API pipe_tensor *pipe_broadcast_to(pipe_tensor *a, pipe_shape shape);
/** order[k] = the axis of `a` that becomes axis k. */
PIPE_API pipe_tensor *pipe_permute(pipe_tensor *a, const int *order, uint32_t rank);
PIPE_API pipe_tensor *pipe_transpose(pipe_tensor *a, int axis0, int axis1);
/** Elements start, start + step, ... (`length` of them) along one axis; step >= 1. */
PIPE_API pipe_tensor *pipe_slice(pipe_tensor *a, int axis, int64_t start, int64_t length, int64_t step);
/** Adds `before` and `after` elements of value 0 along one axis; between
 *  neighbours `interior` zeros. */
PIPE_API pipe_tensor *pipe_pad(pipe_tensor *a, int axis, int64_t before, int64_t after, int64_t interior);
PIPE_API pipe_tensor *pipe_concat(pipe_tensor *const *parts, size_t n, int axis);
PIPE_API pipe_tensor *pipe_flip(pipe_tensor *a, int axis);

/* ---- reductions; `axes` NULL with n = 0 means all axes ---- */
PIPE_API pipe_tensor *pipe_sum(pipe_tensor *a, const int *axes, uint32_t n, bool keep_dims);
PIPE_API pipe_tensor *pipe_mean(pipe_tensor *a, const int *axes, uint32_t n, bool keep_dims);
/* Elements that equal the maximum (minimum) share its gradient evenly; NaN wins. */
PIPE_API pipe_tensor *pipe_max(pipe_tensor *a, const int *axes, uint32_t n, bool keep_dims);
PIPE_API pipe_tensor *pipe_min(pipe_tensor *a, const int *axes, uint32_t n, bool keep_dims);
PIPE_API pipe_tensor *pipe_sum_all(pipe_tensor *a);     /* to a scalar */
PIPE_API pipe_tensor *pipe_mean_all(pipe_tensor *a);
/** Sums over what broadcasting `shape` to a's shape repeated: broadcast_to's adjoint. */
PIPE_API pipe_tensor *pipe_sum_to(pipe_tensor *a, pipe_shape shape);
PIPE_API pipe_tensor *pipe_cumsum(pipe_tensor *a, int axis, bool exclusive, bool reverse);
PIPE_API pipe_tensor *pipe_logsumexp(pipe_tensor *a, int axis, bool keep_dims);
PIPE_API pipe_tensor *pipe_softmax(pipe_tensor *a, int axis);
PIPE_API pipe_tensor *pipe_log_softmax(pipe_tensor *a, int axis);
/** Per-sample -log softmax(logits)[label]: logits [n, classes], labels i32 [n] -> [n]. */
PIPE_API pipe_tensor *pipe_cross_entropy(pipe_tensor *logits, pipe_tensor *labels);
/** Mean of squared differences over everything: a scalar. */
PIPE_API pipe_tensor *pipe_mse(pipe_tensor *a, pipe_tensor *b);

/* ---- order ---- */
/** Positions (i32) that sort along the last axis, stable; NaN last. */
PIPE_API pipe_tensor *pipe_argsort(pipe_tensor *a, bool descending);
PIPE_API pipe_tensor *pipe_sort(pipe_tensor *a, bool descending);       /* last axis */
/** The k largest along the last axis, descending; `indices` (i32) may be NULL. */
PIPE_API pipe_tensor *pipe_top_k(pipe_tensor *a, int64_t k, pipe_tensor **indices);
PIPE_API pipe_tensor *pipe_argmax(pipe_tensor *a);                      /* last axis; i32, axis dropped */

/* ---- indexing; an index k < 0 means size + k, as in Python; out of range is
 * clamped on the device (host-side data is checked by whoever made it) ---- */
/** rows[i] = a[index[i]]: a [n, ...], index i32 [any shape] -> [index..., ...]. */
PIPE_API pipe_tensor *pipe_gather(pipe_tensor *a, pipe_tensor *index);
/** out[index[i]] += a[i] into zeros of `rows` rows: gather's adjoint; deterministic. */
PIPE_API pipe_tensor *pipe_scatter_add(pipe_tensor *a, pipe_tensor *index, int64_t rows);
/** out[..., j] = a[..., index[..., j]]: same leading shape. */
PIPE_API pipe_tensor *pipe_take_along(pipe_tensor *a, pipe_tensor *index);
/** take_along's adjoint: adds a[..., j] at index[..., j] into zeros of last size `size`. */
PIPE_API pipe_tensor *pipe_put_along(pipe_tensor *a, pipe_tensor *index, int64_t size);
PIPE_API pipe_tensor *pipe_embedding(pipe_tensor *table, pipe_tensor *index);  /* = gather */
/** f32 [index..., classes]; an index outside 0 ... classes - 1, -1 too, gives zeros. */
PIPE_API pipe_tensor *pipe_one_hot(pipe_tensor *index, int64_t classes);

/* ---- linear algebra ---- */
/** a [..., m, k] x b [..., k, n] -> [..., m, n]; leading axes broadcast;
 *  ta (tb): `a` (`b`) is given transposed, as [..., k, m] ([..., n, k]). */
PIPE_API pipe_tensor *pipe_matmul(pipe_tensor *a, pipe_tensor *b, bool ta, bool tb);

typedef struct pipe_conv {
    uint32_t stride[2];     /* height, width; 0 means 1 */
    uint32_t dilation[2];   /* 0 means 1 */
    int32_t pad[4];         /* top, bottom, left, right */
    uint32_t groups;        /* 0 means 1 */
} pipe_conv;
/** The attributes of a square kernel: stride, and `pad` on all four sides. */
#define PIPE_CONV(stride_, pad_)                                                  ((pipe_conv){.stride = {(stride_), (stride_)}, .pad = {(pad_), (pad_), (pad_), (pad_)}})

/** x [n, h, w, ci], weight [kh, kw, ci / groups, co] -> [n, oh, ow, co]; cross-correlation. */
PIPE_API pipe_tensor *pipe_conv2d(pipe_tensor *x, pipe_tensor *weight, pipe_conv attr);
/** The adjoint in x (a transposed convolution): y [n, oh, ow, co] -> [n, h, w, ci]
 *  with the given h, w (a stride leaves their remainder open). */
PIPE_API pipe_tensor *pipe_conv2d_transpose(pipe_tensor *y, pipe_tensor *weight, int64_t h, int64_t w,
                                            pipe_conv attr);
/** The adjoint in the weight: x, y -> [kh, kw, ci / groups, co]. */
PIPE_API pipe_tensor *pipe_conv2d_weight_grad(pipe_tensor *x, pipe_tensor *y, int64_t kh, int64_t kw,
                                              pipe_conv attr);
/** x [n, l, ci], weight [k, ci / groups, co]; pad before and after. */
PIPE_API pipe_tensor *pipe_conv1d(pipe_tensor *x, pipe_tensor *weight, uint32_t stride, int32_t before,
                                  int32_t after, uint32_t dilation, uint32_t groups);

/** Scaled dot-product attention: q [b, sq, heads, d], k, v [b, sk, heads, d] ->
 *  [b, sq, heads, d]: softmax(scale q k') v per head.  `mask` NULL or f32
 *  broadcastable to [b, heads, sq, sk], added to the scores; `causal` hides
 *  keys after the query. scale 0 means 1 / sqrt(d). */
PIPE_API pipe_tensor *pipe_attention(pipe_tensor *q, pipe_tensor *k, pipe_tensor *v, pipe_tensor *mask,
                                     double scale, bool causal);

/* ---- normalization (statistics only, but for those with _affine) ---- */
/** x [n, ..., c]: mean 0, variance 1 over everything but n within each of
 *  `groups` groups of channels. */
PIPE_API pipe_tensor *pipe_group_norm(pipe_tensor *x, uint32_t groups, double epsilon);
PIPE_API pipe_tensor *pipe_layer_norm(pipe_tensor *x, double epsilon);   /* over the last axis */
PIPE_API pipe_tensor *pipe_rms_norm(pipe_tensor *x, double epsilon);     /* over the last axis */
/** What follows a norm in the same kernel. */
typedef enum pipe_activation { PIPE_ACTIVATION_NONE, PIPE_ACTIVATION_SILU, PIPE_ACTIVATION_RELU } pipe_activation;
/** activation(group_norm(x) * gain + bias) in one kernel, and its gradient in another,
 *  which needs no more than x: faster and smaller than the ops one by one.
 *  gain, bias: both [c], or both [n, c], another for each sample.
 *  Errors: PIPE_ESHAPE, PIPE_EINVAL (no groups).  Since ABI 1.0. */
PIPE_API pipe_tensor *pipe_group_norm_affine(pipe_tensor *x, uint32_t groups, double epsilon, pipe_tensor *gain,
                                             pipe_tensor *bias, pipe_activation activation);
/** The same of layer_norm: x [n, ..., c], each run of the last axis on its own. */
PIPE_API pipe_tensor *pipe_layer_norm_affine(pipe_tensor *x, double epsilon, pipe_tensor *gain, pipe_tensor *bias,
                                             pipe_activation activation);
/** Over all axes but the last; mean and variance (biased), [c], may be taken
 *  out for running statistics. */
PIPE_API pipe_tensor *pipe_batch_norm(pipe_tensor *x, double epsilon, pipe_tensor **mean,
                                      pipe_tensor **variance);

/* ---- sampling grids of images [n, h, w, c] ---- */
PIPE_API pipe_tensor *pipe_avg_pool2d(pipe_tensor *x, int64_t kernel, int64_t stride, int64_t pad);
/** Of equal maxima the first, in reading order, takes the gradient. */
PIPE_API pipe_tensor *pipe_max_pool2d(pipe_tensor *x, int64_t kernel, int64_t stride, int64_t pad);
PIPE_API pipe_tensor *pipe_resize_nearest(pipe_tensor *x, int64_t h, int64_t w);
PIPE_API pipe_tensor *pipe_resize_bilinear(pipe_tensor *x, int64_t h, int64_t w);  /* half-pixel centres */

/* ---- random numbers: Philox 4x32-10, counter-based ----
 * The value of element j of sample i depends on (seed, stream, i, step, j) and
 * nothing else, so a sample is the same alone, in any batch, on any device.
 * shape[0] counts samples. */
typedef struct pipe_key {
    uint64_t seed;      /* of the run */
    uint64_t stream;    /* which randomness: pipe_stream("node", "purpose") */
    uint64_t sample;    /* index of row 0; row r is sample + r */
    uint64_t step;
} pipe_key;
PIPE_API uint64_t pipe_stream(const char *node, const char *purpose);
PIPE_API pipe_tensor *pipe_randn(pipe_engine *e, pipe_shape shape, pipe_key key);
PIPE_API pipe_tensor *pipe_rand(pipe_engine *e, pipe_shape shape, pipe_key key);   /* in (0, 1) */
/** As pipe_randn, but row r is sample index[r] (i32 [shape[0]]); key.sample is not used. */
PIPE_API pipe_tensor *pipe_randn_of(pipe_tensor *index, pipe_shape shape, pipe_key key);
/** The sum over n terms of weight[k] pipe_randn(e, shape, key[k]), made at once in one
 *  kernel; a term of weight 0 is skipped.  All keys must have the same `sample`.
 *  Keys and weights are run-time values; another n is another plan. */
PIPE_API pipe_tensor *pipe_randn_sum(pipe_engine *e, pipe_shape shape, const pipe_key *key,
                                     const double *weight, size_t n);
/** Zeroes each element with probability p and scales the others by 1 / (1 - p). */
PIPE_API pipe_tensor *pipe_dropout(pipe_tensor *x, double p, pipe_key key);
/** The same generator on the host: fills n values of sample key.sample. */
PIPE_API void pipe_host_randn(pipe_key key, float *out, size_t n);
PIPE_API void pipe_host_rand(pipe_key key, float *out, size_t n);
PIPE_API uint32_t pipe_host_bits(pipe_key key, uint64_t j);     /* element j's raw 32 bits */
/** A permutation of 0..n-1 (Fisher-Yates, unbiased). */
PIPE_API void pipe_host_shuffle(pipe_key key, uint32_t *out, size_t n);

/* ---- differentiation ----
 * Reverse and forward mode record ordinary operations, so results can be
 * differentiated again.  History reaches back to the last evaluation: leaves
 * are where it ends. */
/** gx[i] = d <gy, y> / d x[i].  gy NULL: ones (y a scalar, usually).  x[i] that
 *  y does not depend on gets zeros. */
PIPE_API pipe_status pipe_grad(pipe_tensor *y, pipe_tensor *gy, pipe_tensor *const *x, size_t n,
                               pipe_tensor **gx, pipe_error *err);
/** What is recorded between begin and end is computed again in the backward pass of
 *  pipe_grad(), to the same bits, in place of being kept in memory: of that stretch
 *  only its inputs, and what is used behind it, stay.  For blocks of a deep network: a third
 *  more time, memory of one block's inner values instead of all blocks'.  Random
 *  numbers are keyed, so dropout zeroes the same values again.  Calls nest: the
 *  outermost counts.  Evaluation ends an open stretch.  Since ABI 1.0. */
PIPE_API void pipe_recompute_begin(pipe_engine *e);
PIPE_API void pipe_recompute_end(pipe_engine *e);
/** The directional derivative of y along dx[i] at x[i]: y's shape. */
PIPE_API pipe_tensor *pipe_jvp(pipe_tensor *y, pipe_tensor *const *x, pipe_tensor *const *dx, size_t n);

#ifdef __cplusplus
}
#endif
#endif
