/* The plugin ABI: one exported const descriptor, from which everything else
 * about a plugin is derived (validation, `pipe inspect`, man pages, JSON Schema,
 * completion).  Nothing is described twice.
 *
 *     #include <pipe/sampler.h>
 *
 *     typedef struct { double eta; } state;
 *     static const pipe_param params[] = {
 *         PIPE_FLOAT(state, eta, 0.0, 0.0, 1.0, NULL, "noise added per step: 0 none (an ODE) ... 1 as DDPM"),
 *         PIPE_PARAM_END
 *     };
 *     static pipe_status step(void *self, pipe_sampling *s, pipe_error *err) { ... }
 *
 *     PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
 *         PIPE_ABI(PIPE_KIND_SAMPLER),
 *         .name = "sampler.mine", .version = "1.0.0", .licence = "MIT",
 *         .summary = "one line", .params = params, .state_size = sizeof(state),
 *         .sampler = {.step = step},
 *     };
 *
 * A node of a pipeline names a plugin.  There are two sorts: a *component* is
 * configured and handed on; a *step* (its `run` is set) does work and yields
 * values.  The values on edges are objects, typed by kind.
 *
 * Life of an object: state (state_size bytes, zeroed) -> inputs and parameters
 * written into it -> create() -> calls of the kind's functions -> destroy().
 * destroy() is called after a failed create(), too: a create() may return at any
 * point, and a destroy() must cope with what is still zero.
 * All on the thread that runs the pipeline.
 */
#ifndef PIPE_PLUGIN_H
#define PIPE_PLUGIN_H

#include <pipe/schedule.h>
#include <pipe/denoiser.h>
#include <pipe/sampler.h>
#include <pipe/encoder.h>
#include <pipe/objective.h>
#include <pipe/dataset.h>

/* see <pipe/object.h> for parameters, inputs and objects; this header closes
 * the circle with the descriptor itself. */

#ifdef __cplusplus
extern "C" {
#endif

#define PIPE_ABI_MAGIC 0x45504950u      /* "PIPE" */
#define PIPE_ABI_MAJOR 1                /* differs: not loaded */
#define PIPE_ABI_MINOR 0                /* greater than the engine's: not loaded */

enum {
    PIPE_NONDETERMINISTIC = 1u << 0,    /* results may differ between runs: never cached */
    PIPE_TRAINABLE = 1u << 1,           /* instances have weights (see model.h) */
    PIPE_ALWAYS_RUN = 1u << 2           /* a step that is never skipped */
};

/** What of a node's parameters and inputs goes together: `pipe validate` finds the rest.
 *  Given is an input that is linked, and a parameter that has not its default. */
typedef struct pipe_rule {
    const char *name;                   /* where this one is given ... */
    const char *needs;                  /* ... one of these is, too, separated by '|'; or NULL */
    const char *excludes;               /* ... none of these is, separated by '|'; or NULL */
} pipe_rule;
#define PIPE_RULE_END {.name = NULL}

typedef struct pipe_plugin {
    uint32_t magic;                     /* PIPE_ABI() fills these four */
    uint16_t abi_major, abi_minor;
    uint32_t size;
    const char *kind;                   /* kind of what a component is; of a step: "step", "metric" or "sink" */

    const char *name;                   /* "sampler.dpmpp-2m": kind, dot, lower-case words with hyphens;
                                           steps of kind "step" have no prefix: "fit" */
    const char *version;                /* "1.0.0"; a changed version makes cached results stale */
    const char *summary;                /* one line, no full stop */
    const char *help;                   /* paragraphs for the manual page; may be NULL */
    const char *citation, *licence;
    const char *example;                /* a YAML node: "solver: {plugin: sampler.mine, steps: 20}" */
    uint32_t flags;

    const pipe_param *params;           /* ends with PIPE_PARAM_END; may be NULL */
    const pipe_input *inputs;           /* ends with PIPE_INPUT_END; may be NULL */
    const pipe_output *outputs;         /* of steps; the first is the one that the bare node name means */

    size_t state_size;
    pipe_status (*create)(void *self, pipe_context *ctx, pipe_error *err);   /* may be NULL */
    void (*destroy)(void *self);                                             /* may be NULL */
    pipe_status (*run)(void *self, pipe_context *ctx, pipe_error *err);      /* a step's work */

    union {                             /* the kind's functions; the rest stays zero */
        pipe_schedule_api schedule;
        pipe_denoiser_api denoiser;
        pipe_sampler_api sampler;
        pipe_encoder_api encoder;
        pipe_decoder_api decoder;
        pipe_classifier_api classifier;
        pipe_objective_api objective;
        pipe_optimizer_api optimizer;
        pipe_dataset_api dataset;
        void *reserved[32];
    };
    const pipe_rule *rules;             /* ends with PIPE_RULE_END; may be NULL */
} pipe_plugin;

#define PIPE_ABI(kind_)                                                                     \
    .magic = PIPE_ABI_MAGIC, .abi_major = PIPE_ABI_MAJOR, .abi_minor = PIPE_ABI_MINOR,      \
    .size = sizeof(pipe_plugin), .kind = (kind_)

/** The one symbol that a plugin exports. */
#define PIPE_ENTRY_SYMBOL "pipe_plugin_entry"
extern PIPE_EXPORT const pipe_plugin pipe_plugin_entry;

#ifdef __cplusplus
}
#endif
#endif
