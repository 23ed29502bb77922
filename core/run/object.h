/* Objects and contexts as the core sees them.  Internal. */
#ifndef PIPE_CORE_OBJECT_H
#define PIPE_CORE_OBJECT_H

#include "core/graph/graph.h"
#include <pipe/pipe.h>
#include <pipe/plugin.h>
#include <pipe/run.h>

/* What an input was given. */
typedef struct pipei_linked {
    pipe_object **object;            /* references of their own */
    size_t n;
} pipei_linked;

struct pipe_object {
    uint32_t refs;
    const char *kind;
    char *name;
    const pipe_plugin *plugin;       /* data: a built-in descriptor of the core */
    void *state;                     /* state_size bytes, then the kind's common state */
    pipe_context *ctx;               /* outlives the object */
    pipe_model *model;               /* PIPE_TRAINABLE, else NULL; owned */
    pipe_denoiser_info declared;     /* by an objective or a loaded file; .schedule is a reference */
    uint64_t evaluations;            /* samples that a denoiser was asked about */
    /* To clone from: one entry per row of plugin->params and then of the kind's
     * (NULL: the default), one per row of plugin->inputs. */
    const pipei_given **given;
    size_t n_params;
    pipei_linked *linked;
    size_t n_inputs;
    pipe_arena *arena;               /* of all that; strings and lists of the state too */
};

/* Values of parameters (own rows, then the kind's) and inputs, in the order of the descriptor's rows. */
typedef struct pipei_recipe {
    const pipe_plugin *plugin;
    const char *name;
    const pipei_given *const *given;
    const pipei_linked *linked;
} pipei_recipe;
PIPE_INTERNAL pipe_status pipei_object_build(const pipei_recipe *r, pipe_context *ctx, pipe_object **out,
                                             pipe_error *err);
PIPE_INTERNAL size_t pipei_param_rows(const pipe_plugin *p);              /* own and the kind's */
PIPE_INTERNAL const pipe_param *pipei_param_row(const pipe_plugin *p, size_t k);
PIPE_INTERNAL size_t pipei_input_rows(const pipe_plugin *p);

/* Without a graph: parameters as key, value text pairs (NULL-terminated; a list
 * as "[a, b]"), inputs as name, object pairs (a list: the same name several
 * times).  For tests, and for objects that the core itself makes. */
typedef struct pipei_named_object { const char *name; pipe_object *object; } pipei_named_object;
PIPE_INTERNAL pipe_status pipei_object_create(const pipe_plugin *plugin, const char *name,
                                              const char *const *params, const pipei_named_object *inputs,
                                              size_t n_inputs, pipe_context *ctx, pipe_object **out,
                                              pipe_error *err);
/* Parameters that a kind adds to all its plugins (a sampler's steps and grid):
 * the state of such an object is followed by the kind's common state. */
PIPE_INTERNAL const pipe_param *pipei_kind_params(const char *kind);     /* NULL: none */
PIPE_INTERNAL size_t pipei_kind_state_size(const char *kind);
/* Do the kind's parameters, stored in `common`, and what is given go together?  As
 * pipei_rules_check(). */
PIPE_INTERNAL pipe_status pipei_kind_check(const pipe_plugin *p, const void *common, pipei_is_given given,
                                           const void *arg, const char **at, pipe_error *err);
PIPE_INTERNAL void *pipei_object_common(const pipe_object *o);           /* the kind's common state */

/* A context outside any run (tests, bench): reports are collected, files and
 * checkpoints go to `folder` (NULL: none allowed). */
PIPE_INTERNAL pipe_status pipei_context_standalone(pipe_engine *e, const char *node, uint64_t seed,
                                                   const char *folder, pipe_context **out, pipe_error *err);
PIPE_INTERNAL void pipei_context_free(pipe_context *ctx);
/* What was yielded under that name so far, borrowed; NULL: nothing. */
PIPE_INTERNAL pipe_object *pipei_context_yielded(const pipe_context *ctx, const char *output);
/* What was reported so far, as a value of kind `metrics`; reference 1 is the caller's. */
PIPE_INTERNAL pipe_status pipei_context_metrics(pipe_context *ctx, pipe_metrics **out, pipe_error *err);
/* Creates the step, calls its run() and drops it: a step without a graph. */
PIPE_INTERNAL pipe_status pipei_step_run(const pipe_plugin *plugin, const char *const *params,
                                         const pipei_named_object *inputs, size_t n_inputs, pipe_context *ctx,
                                         pipe_error *err);

/* core/model: */
PIPE_INTERNAL pipe_status pipei_model_new(pipe_context *ctx, const char *name, pipe_model **out,
                                          pipe_error *err);
PIPE_INTERNAL void pipei_model_free(pipe_model *m);

#endif
