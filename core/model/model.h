/* What a model is inside.  Internal to core/model.
 *
 *     slab   [ weight 0 | 0 ... | weight 1 | 0 ... | ... ]      one leaf, f32
 *              ^ offset: a multiple of 32
 *
 * Weights lie in the slab in the order of their names, whatever order the network
 * asks for them: so a model that was built and one that was loaded from its file
 * have the same slab. */
#ifndef PIPE_CORE_MODEL_H
#define PIPE_CORE_MODEL_H

#include "core/run/object.h"
#include "core/tensor/engine.h"

enum { SLAB_ALIGNMENT = 32 };

typedef enum model_state {
    MODEL_EMPTY,
    MODEL_BUILDING, /* between build_begin and build_end */
    MODEL_BUILT
} model_state;

typedef struct model_weight {
    const char *name; /* in the arena */
    pipe_shape shape;
    pipe_init init;
    int64_t count;
    int64_t offset; /* in the slab; meaningless for buffers */
    bool buffer;
    pipe_tensor *leaf; /* of a buffer: held */
} model_weight;

typedef struct model_tap {
    const char *name;
    pipe_tensor **slot; /* NULL: known, not asked for */
    bool seen; /* the network has it */
} model_tap;

struct pipe_model {
    pipe_context *ctx;
    char *node; /* of the object: names the random streams */
    model_state state;
    pipe_arena *arena; /* names */

    model_weight *weight; /* after the build: trainable ones by name, then buffers by name */
    size_t n_weights, n_trainable;
    uint32_t *table; /* open addressing: position + 1 in `weight`, 0 empty */
    size_t table_size; /* a power of two */
    pipe_weight_info *info; /* [n_trainable], once built */
    int64_t count, parameters;
    pipe_tensor *slab; /* held */
    pipe_tensor *bound; /* held; NULL: the slab */

    pipe_text scope; /* "a.b." */
    size_t *scope_length; /* what to go back to */
    size_t n_scopes;
    pipe_text scratch; /* a full name being looked up */
    pipe_text ring[16]; /* pipe_name() */
    size_t ring_at;

    model_tap *tap;
    size_t n_taps;
    bool training;
    uint64_t step;
};

/* The position of a weight or buffer of that full name, or -1. */
PIPE_INTERNAL int64_t pipei_model_find(const pipe_model *m, const char *full);
/* Adds one; the name is copied.  The model is not built yet. */
PIPE_INTERNAL model_weight *pipei_model_add(pipe_model *m, const char *full, const pipe_shape *shape,
                                            pipe_init init, bool buffer);
/* Orders the weights and gives them their offsets. */
PIPE_INTERNAL void pipei_model_lay_out(pipe_model *m);
/* Values for the whole slab ([count]), now; the model is built afterwards. */
PIPE_INTERNAL pipe_status pipei_model_fill(pipe_model *m, const float *values, pipe_error *err);

#endif
