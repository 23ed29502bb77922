/* What a tensor is inside, and the recording that owns it.  Internal to
 * core/tensor: recording, plans and differentiation share this picture.
 *
 *     NODE      an op waiting for an evaluation; lives in the recording
 *     LEAF      a buffer on the device without history
 *     POISONED  carries the first error instead of a value
 *     FREE      in the pool; whoever still points at it forgot pipe_keep()
 *
 * pipe_eval() turns kept NODEs into LEAFs and everything else that the
 * recording owns into FREE ones.  A LEAF that nobody holds any more joins the
 * recording, so that it lives until the next evaluation like any temporary.
 */
#ifndef PIPE_CORE_RECORD_H
#define PIPE_CORE_RECORD_H

#include "core/tensor/engine.h"

typedef enum pipei_state { PIPEI_FREE, PIPEI_NODE, PIPEI_LEAF, PIPEI_POISONED } pipei_state;

/* One error, shared by all tensors that it poisoned. */
typedef struct pipei_poison {
    uint32_t refs;
    pipe_status status;
    char message[];
} pipei_poison;

struct pipe_tensor {
    pipe_engine *engine;
    const pipe_op *op;          /* NODE only, else NULL */
    pipe_tensor **in;           /* NODE: n_in inputs, in the recording's arena */
    const pipe_attr *attr;      /* NODE: in the recording's arena; never NULL */
    uint32_t n_in;
    pipei_state state;
    pipe_dtype dtype;
    uint32_t index;             /* NODE: position in the recording; inputs come first */
    pipe_shape shape;
    int64_t count;              /* product of shape */
    uint32_t holds;             /* slots of pipe_keep() */
    uint32_t n_int;             /* NODE: attr->i is zero from here on */
    bool listed;                /* the recording owns it (and frees it when holds is 0) */
    bool runtime_attr;          /* NODE: attr->f or attr->u has something in it */
    uint32_t assign;            /* LEAF: 1 + its place among the recording's assignments, or 0 */
    uint32_t slot;              /* scratch of whoever owns `stamp` */
    uint64_t stamp;             /* == a pipei_stamp(): slot is meant for that caller */
    pipei_poison *poison;       /* POISONED */
    cl_mem mem;                 /* LEAF: its elements start at byte 0 */
    size_t bytes;
    uint64_t version;           /* LEAF: counts the writes, from 1 */
    struct pipei_derived *derived;  /* LEAF: what kernels made of it: derived.c */
    pipe_tensor *next;          /* in the pool */
};

/* A number that no tensor carries yet: walks mark tensors with it. */
PIPE_INTERNAL uint64_t pipei_stamp(pipe_engine *e);

/* The recording: nodes, and leaves that it has to free, in order of birth.  Valid
 * until something else is recorded. */
PIPE_INTERNAL pipe_tensor *const *pipei_recording(const pipe_engine *e, size_t *n);

/* The stretch between pipe_recompute_begin() and _end() that a node lies in, from 1; 0:
 * none. */
PIPE_INTERNAL uint32_t pipei_stretch_of(const pipe_tensor *t);

/* Memory that lives as long as the recording. */
PIPE_INTERNAL pipe_arena *pipei_recording_arena(pipe_engine *e);

/* A node with the given inputs, shape and dtype already checked. */
PIPE_INTERNAL pipe_tensor *pipei_node_new(pipe_engine *e, const pipe_op *op, pipe_tensor *const *in, size_t n,
                                          const pipe_attr *attr, const pipe_op_result *result);

/* A leaf with an allocated buffer of undefined content, owned by the recording;
 * poisoned when memory is out. */
PIPE_INTERNAL pipe_tensor *pipei_leaf_new(pipe_engine *e, const pipe_shape *shape, pipe_dtype dtype);

#endif
