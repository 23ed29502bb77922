/* Objects and contexts as the core sees them.  Internal. */
#ifndef PIPE_CORE_OBJECT_H
#define PIPE_CORE_OBJECT_H

#include "core/graph/graph.h"
#include <pipe/pipe.h>

struct pipe_object {
    uint32_t refs;
    const char *kind;
    char *name;
    const pipe_plugin *plugin;       /* data: a built-in descriptor of the core */
    void *state;
    pipe_context *ctx;               /* outlives the object */
    pipe_model *model;               /* PIPE_TRAINABLE, else NULL; owned */
    pipe_denoiser_info declared;     /* by an objective or a loaded file; .schedule is a reference */
    const pipei_node *node;          /* parameters and inputs to clone from; NULL: made without a graph */
    pipe_object **held;              /* references to the inputs */
    size_t n_held;
    pipe_arena *arena;               /* strings and lists of the parameters */
};

/* Without a graph: parameters as key, value text pairs (NULL-terminated), inputs
 * as name, object pairs.  For tests, and for objects that the core itself makes. */
typedef struct pipei_named_object { const char *name; pipe_object *object; } pipei_named_object;
PIPE_INTERNAL pipe_status pipei_object_create(const pipe_plugin *plugin, const char *name, const char *const *params,
                                              const pipei_named_object *inputs, size_t n_inputs, pipe_context *ctx,
                                              pipe_object **out, pipe_error *err);
/* Parameters that a kind adds to all its plugins (a sampler's steps and grid):
 * the state of such an object is followed by the kind's common state. */
PIPE_INTERNAL const pipe_param *pipei_kind_params(const char *kind);     /* NULL: none */
PIPE_INTERNAL size_t pipei_kind_state_size(const char *kind);
PIPE_INTERNAL void *pipei_object_common(const pipe_object *o);           /* the kind's common state */

/* A context outside any run (tests, bench): reports are collected, files go to `folder` (NULL: none allowed). */
PIPE_INTERNAL pipe_status pipei_context_standalone(pipe_engine *e, const char *node, uint64_t seed, const char *folder,
                                                   pipe_context **out, pipe_error *err);
PIPE_INTERNAL void pipei_context_free(pipe_context *ctx);

/* core/model: */
PIPE_INTERNAL pipe_status pipei_model_new(pipe_context *ctx, const char *name, pipe_model **out, pipe_error *err);
PIPE_INTERNAL void pipei_model_free(pipe_model *m);

#endif
