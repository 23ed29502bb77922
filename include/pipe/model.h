/* Weights: what a trainable plugin's network code is written in.
 *
 * A network is one function that calls layers by name; the first call creates
 * the weights, every later one uses them:
 *
 *     h = pipe_layer_conv2d(m, "in", x, 32, 3, 1);
 *     h = pipe_silu(pipe_layer_group_norm(m, pipe_name(m, "norm.%d", k), h, 8));
 *
 * All weights of one model are views of one flat tensor (its slab), so that an
 * optimizer step, EMA or a norm is one kernel over everything, and weights can
 * be handled as data (pipe_model_flat, pipe_model_bind).
 *
 * Names are dotted paths and are the tensor names in safetensors files.
 * Layouts in files equal those in memory: linear [in, out], conv [kh, kw, in, out].
 */
#ifndef PIPE_MODEL_H
#define PIPE_MODEL_H

#include <pipe/object.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pipe_model pipe_model;

/* ---- inside network code ---- */
typedef enum pipe_init_kind {
    PIPE_INIT_ZEROS, PIPE_INIT_ONES, PIPE_INIT_CONSTANT,
    PIPE_INIT_NORMAL,        /* standard deviation `value` */
    PIPE_INIT_UNIFORM,       /* in [-value, value] */
    PIPE_INIT_FAN_IN         /* uniform in +-value / sqrt(fan_in): PyTorch's default at value 1 */
} pipe_init_kind;
typedef struct pipe_init { pipe_init_kind kind; double value; int64_t fan_in; } pipe_init;

/** The trainable tensor of that name; created (in build mode) with `init`, from
 *  the stream (seed, node, name).  Another shape than before, or than in the
 *  loaded file, is PIPE_ESHAPE and names both. */
PIPE_API pipe_tensor *pipe_weight(pipe_model *m, const char *name, pipe_shape shape, pipe_init init);
/** As pipe_weight, but not trained: running statistics.  Update it with pipe_assign. */
PIPE_API pipe_tensor *pipe_buffer(pipe_model *m, const char *name, pipe_shape shape, double value);
/** printf a name; lives until the model's next call (layers may be called with it). */
PIPE_API const char *pipe_name(pipe_model *m, const char *fmt, ...) PIPE_PRINTF(2, 3);
/** Prefixes names from here on with "scope."; pops the last one. */
PIPE_API void pipe_scope_push(pipe_model *m, const char *fmt, ...) PIPE_PRINTF(2, 3);
PIPE_API void pipe_scope_pop(pipe_model *m);
PIPE_API bool pipe_model_training(const pipe_model *m);
PIPE_API pipe_engine *pipe_model_engine(const pipe_model *m);
/** Dropout while training (keyed by step and layer name), else the identity. */
PIPE_API pipe_tensor *pipe_layer_dropout(pipe_model *m, const char *name, pipe_tensor *x, double p);

/** x [..., in] -> [..., out]: x weight + bias ("NAME.weight", "NAME.bias"). */
PIPE_API pipe_tensor *pipe_layer_linear(pipe_model *m, const char *name, pipe_tensor *x, int64_t out);
PIPE_API pipe_tensor *pipe_layer_linear_with(pipe_model *m, const char *name, pipe_tensor *x, int64_t out,
                                             bool bias, pipe_init init);
/** x [n, h, w, in]; "same" padding kernel / 2 on each side. */
PIPE_API pipe_tensor *pipe_layer_conv2d(pipe_model *m, const char *name, pipe_tensor *x, int64_t out,
                                        int64_t kernel, uint32_t stride);
PIPE_API pipe_tensor *pipe_layer_conv2d_with(pipe_model *m, const char *name, pipe_tensor *x, int64_t out,
                                             int64_t kernel, pipe_conv attr, bool bias, pipe_init init);
PIPE_API pipe_tensor *pipe_layer_conv1d(pipe_model *m, const char *name, pipe_tensor *x, int64_t out,
                                        int64_t kernel, uint32_t stride, uint32_t dilation);
/** With weight and bias per channel. */
PIPE_API pipe_tensor *pipe_layer_group_norm(pipe_model *m, const char *name, pipe_tensor *x, uint32_t groups);
/** The same with an activation behind it, in one kernel. */
PIPE_API pipe_tensor *pipe_layer_group_norm_with(pipe_model *m, const char *name, pipe_tensor *x, uint32_t groups,
                                                 pipe_activation activation);
PIPE_API pipe_tensor *pipe_layer_layer_norm(pipe_model *m, const char *name, pipe_tensor *x);
PIPE_API pipe_tensor *pipe_layer_rms_norm(pipe_model *m, const char *name, pipe_tensor *x);
/** index i32 [...] -> [..., width]; negative indices count from the last row. */
PIPE_API pipe_tensor *pipe_layer_embedding(pipe_model *m, const char *name, pipe_tensor *index, int64_t rows,
                                           int64_t width);
/** x [n, s, c] (and context [n, sc, cc] for cross-attention, else NULL):
 *  projections "NAME.q", ".k", ".v", ".out" around pipe_attention. */
PIPE_API pipe_tensor *pipe_layer_attention(pipe_model *m, const char *name, pipe_tensor *x, pipe_tensor *context,
                                           int64_t heads, pipe_tensor *mask);
/** [n] -> [n, width]: sin and cos of t * frequencies from 1 to 1 / max_period
 *  (Vaswani et al. 2017; first half sines, second half cosines). */
PIPE_API pipe_tensor *pipe_timestep_embedding(pipe_tensor *t, int64_t width, double max_period);

/** Names an intermediate value; returns it, possibly replaced by a tap that is
 *  set (see pipe_model_tap). */
PIPE_API pipe_tensor *pipe_tap(pipe_model *m, const char *name, pipe_tensor *value);

/* ---- outside: training, loading, weights as data ---- */
typedef struct pipe_weight_info {
    const char *name;
    pipe_shape shape;
    int64_t offset;          /* of the first element in the slab */
} pipe_weight_info;

/** The weights of a trainable object, or NULL. */
PIPE_API pipe_model *pipe_object_model(const pipe_object *o);
PIPE_API bool pipe_model_built(const pipe_model *m);
/** Between begin and end, calls of the network declare weights; what they
 *  compute is thrown away.  end() allocates and initializes the slab.  Run the
 *  objective once in between: a network defines its weights by running. */
PIPE_API pipe_status pipe_model_build_begin(pipe_model *m, pipe_error *err);
PIPE_API pipe_status pipe_model_build_end(pipe_model *m, pipe_error *err);
PIPE_API size_t pipe_model_weights(const pipe_model *m, const pipe_weight_info **out);
/** Buffer k by name: a leaf; NULL past the end. */
PIPE_API pipe_tensor *pipe_model_buffer_at(const pipe_model *m, size_t k, const char **name);
PIPE_API int64_t pipe_model_count(const pipe_model *m);        /* elements of the slab, padding included */
PIPE_API int64_t pipe_model_parameters(const pipe_model *m);   /* trainable numbers */
/** The slab, [count] f32: a leaf.  Weights lie in the order of their names and begin
 *  at multiples of 32 elements; the padding is 0. */
PIPE_API pipe_tensor *pipe_model_flat(const pipe_model *m);
/** Until the next bind, weights are views of `flat` ([count]; recorded or leaf;
 *  kept by the model); NULL: of the model's own slab again. */
PIPE_API pipe_status pipe_model_bind(pipe_model *m, pipe_tensor *flat, pipe_error *err);
/** Takes over the weights and buffers of `from`: a model without weights is built
 *  from its names and shapes; one that has them must have the same ones (else
 *  PIPE_ESHAPE); evaluates. */
PIPE_API pipe_status pipe_model_copy(pipe_model *m, const pipe_model *from, pipe_error *err);
PIPE_API void pipe_model_set_training(pipe_model *m, bool training, uint64_t step);
/** Asks the next calls to leave the named tap's value in *slot (recorded; NULL
 *  slot: stop asking).  Unknown names are reported by pipe_model_tap_check
 *  after a call, with those there are. */
PIPE_API void pipe_model_tap(pipe_model *m, const char *name, pipe_tensor **slot);
PIPE_API pipe_status pipe_model_tap_check(pipe_model *m, pipe_error *err);

/** safetensors, one tensor per weight and buffer; atomic.  `metadata`: pairs of
 *  key, value, NULL-terminated; may be NULL. */
PIPE_API pipe_status pipe_model_save(pipe_model *m, const char *path, const char *const *metadata, pipe_error *err);
/** A model without weights is built from the file's names and shapes.  One that has
 *  them takes the file's: a missing tensor or another shape is an error that names
 *  up to five of each, tensors too many are a warning. */
PIPE_API pipe_status pipe_model_load(pipe_model *m, const char *path, pipe_error *err);

#ifdef __cplusplus
}
#endif
#endif
