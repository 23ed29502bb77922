/* Objects (the values on a pipeline's edges), parameters, inputs, context. */
#ifndef PIPE_OBJECT_H
#define PIPE_OBJECT_H

#include <pipe/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- kinds ---- */
#define PIPE_KIND_SCHEDULE "schedule"
#define PIPE_KIND_DENOISER "denoiser"       /* guidance is a denoiser too */
#define PIPE_KIND_SAMPLER "sampler"
#define PIPE_KIND_ENCODER "encoder"
#define PIPE_KIND_DECODER "decoder"
#define PIPE_KIND_CLASSIFIER "classifier"
#define PIPE_KIND_OBJECTIVE "objective"
#define PIPE_KIND_OPTIMIZER "optimizer"
#define PIPE_KIND_DATASET "dataset"
#define PIPE_KIND_METRICS "metrics"         /* numbers that a step reported; every step has the output `metrics` */
#define PIPE_KIND_STEP "step"
#define PIPE_KIND_METRIC "metric"           /* a step that measures */
#define PIPE_KIND_SINK "sink"               /* a step that writes files */

struct pipe_plugin;
typedef struct pipe_object pipe_object;     /* reference-counted; an instance of a plugin, or data */
typedef struct pipe_context pipe_context;   /* one node of one run */

/* The same type under the name of what is expected. */
typedef pipe_object pipe_schedule, pipe_denoiser, pipe_sampler, pipe_encoder, pipe_decoder, pipe_classifier,
    pipe_objective, pipe_optimizer, pipe_dataset, pipe_metrics;

PIPE_API const char *pipe_object_kind(const pipe_object *o);
PIPE_API const char *pipe_object_name(const pipe_object *o);      /* of the node it came from */
PIPE_API const struct pipe_plugin *pipe_object_plugin(const pipe_object *o);  /* of data: one that the core brings */
PIPE_API void *pipe_object_state(const pipe_object *o);
PIPE_API pipe_context *pipe_object_context(const pipe_object *o);
PIPE_API pipe_object *pipe_object_ref(pipe_object *o);
PIPE_API void pipe_object_unref(pipe_object *o);
/** A fresh instance: same plugin, parameters and inputs; weights not built yet.
 *  This is how `fit` trains without touching the untrained node. */
PIPE_API pipe_status pipe_object_clone(pipe_object *o, pipe_context *ctx, pipe_object **out, pipe_error *err);
/** Poisons with "NODE: ..." : for kind functions that return tensors. */
PIPE_API pipe_tensor *pipe_object_poison(const pipe_object *o, pipe_status status, const char *fmt, ...)
    PIPE_PRINTF(3, 4);

/* ---- parameters ----
 * The row is the only place where default, range, choices, unit and help stand.
 * Help says what changes as the value grows. */
typedef enum pipe_type {
    PIPE_TYPE_BOOL = 1,     /* bool */
    PIPE_TYPE_INT,          /* int64_t */
    PIPE_TYPE_FLOAT,        /* double */
    PIPE_TYPE_STRING,       /* const char * */
    PIPE_TYPE_CHOICE,       /* int64_t: index into choices */
    PIPE_TYPE_PATH,         /* const char *: absolute; relative ones are resolved against the YAML file */
    PIPE_TYPE_INTS,         /* pipe_ints */
    PIPE_TYPE_FLOATS,       /* pipe_floats */
    PIPE_TYPE_STRINGS       /* pipe_strings */
} pipe_type;

typedef struct pipe_ints { const int64_t *v; size_t n; } pipe_ints;
typedef struct pipe_floats { const double *v; size_t n; } pipe_floats;
typedef struct pipe_strings { const char *const *v; size_t n; } pipe_strings;

enum {
    PIPE_PARAM_INPUT_FILE = 1u << 0,    /* a path whose content belongs to the cache key and must exist */
    PIPE_PARAM_NO_KEY = 1u << 1         /* does not change the result (batch size of a measurement, verbosity) */
};

typedef struct pipe_param {
    const char *name;
    pipe_type type;
    uint32_t flags;
    size_t offset;                  /* of the field in the state */
    const char *fallback;           /* the default, as one would write it in YAML; NULL: required */
    double min, max;                /* of numbers and of list elements; min > max: no bounds */
    const char *const *choices;     /* NULL-terminated */
    const char *unit;               /* "steps", "pixels", ...; may be NULL */
    const char *help;
    const char *alias;              /* deprecated old name; may be NULL */
} pipe_param;

#define PIPE_BOOL(state, field, fallback_, help_)                                                       \
    {.name = #field, .type = PIPE_TYPE_BOOL, .offset = offsetof(state, field), .fallback = #fallback_,  \
     .min = 1, .max = 0, .help = (help_)}
#define PIPE_INT(state, field, fallback_, min_, max_, unit_, help_)                                     \
    {.name = #field, .type = PIPE_TYPE_INT, .offset = offsetof(state, field), .fallback = #fallback_,   \
     .min = (double)(min_), .max = (double)(max_), .unit = (unit_), .help = (help_)}
/** As PIPE_INT, with flags (PIPE_PARAM_NO_KEY: the size of a batch that changes no result). */
#define PIPE_INT_FLAGS(state, field, fallback_, min_, max_, unit_, flags_, help_)                       \
    {.name = #field, .type = PIPE_TYPE_INT, .flags = (flags_), .offset = offsetof(state, field),        \
     .fallback = #fallback_, .min = (double)(min_), .max = (double)(max_), .unit = (unit_), .help = (help_)}
#define PIPE_FLOAT(state, field, fallback_, min_, max_, unit_, help_)                                   \
    {.name = #field, .type = PIPE_TYPE_FLOAT, .offset = offsetof(state, field), .fallback = #fallback_, \
     .min = (double)(min_), .max = (double)(max_), .unit = (unit_), .help = (help_)}
/* the defaults of the following are string literals, or NULL for "required" */
#define PIPE_STRING(state, field, fallback_, help_)                                                     \
    {.name = #field, .type = PIPE_TYPE_STRING, .offset = offsetof(state, field), .fallback = (fallback_), \
     .min = 1, .max = 0, .help = (help_)}
#define PIPE_CHOICE(state, field, fallback_, choices_, help_)                                           \
    {.name = #field, .type = PIPE_TYPE_CHOICE, .offset = offsetof(state, field), .fallback = (fallback_), \
     .min = 1, .max = 0, .choices = (choices_), .help = (help_)}
#define PIPE_PATH(state, field, fallback_, flags_, help_)                                               \
    {.name = #field, .type = PIPE_TYPE_PATH, .flags = (flags_), .offset = offsetof(state, field),       \
     .fallback = (fallback_), .min = 1, .max = 0, .help = (help_)}
#define PIPE_INTS(state, field, fallback_, min_, max_, unit_, help_)                                    \
    {.name = #field, .type = PIPE_TYPE_INTS, .offset = offsetof(state, field), .fallback = (fallback_), \
     .min = (double)(min_), .max = (double)(max_), .unit = (unit_), .help = (help_)}
#define PIPE_FLOATS(state, field, fallback_, min_, max_, unit_, help_)                                  \
    {.name = #field, .type = PIPE_TYPE_FLOATS, .offset = offsetof(state, field), .fallback = (fallback_), \
     .min = (double)(min_), .max = (double)(max_), .unit = (unit_), .help = (help_)}
#define PIPE_STRINGS(state, field, fallback_, help_)                                                    \
    {.name = #field, .type = PIPE_TYPE_STRINGS, .offset = offsetof(state, field), .fallback = (fallback_), \
     .min = 1, .max = 0, .help = (help_)}
/** A required number: no default. */
#define PIPE_INT_REQUIRED(state, field, min_, max_, unit_, help_)                                       \
    {.name = #field, .type = PIPE_TYPE_INT, .offset = offsetof(state, field), .min = (double)(min_),    \
     .max = (double)(max_), .unit = (unit_), .help = (help_)}
#define PIPE_FLOAT_REQUIRED(state, field, min_, max_, unit_, help_)                                     \
    {.name = #field, .type = PIPE_TYPE_FLOAT, .offset = offsetof(state, field), .min = (double)(min_),  \
     .max = (double)(max_), .unit = (unit_), .help = (help_)}
#define PIPE_PARAM_END {.name = NULL}

/* ---- inputs ----
 * In YAML an input is given a node (`model`, `model.metrics`), or an inline node
 * (`schedule: {plugin: schedule.flow, shift: 3}`), or, where no node has that
 * name, the last part of a plugin's name of the input's kind (`schedule: cosine`
 * is an anonymous `schedule.cosine` with its defaults). */
typedef struct pipe_objects { pipe_object *const *v; size_t n; } pipe_objects;

enum { PIPE_OPTIONAL = 1u << 0, PIPE_LIST = 1u << 1 };

typedef struct pipe_input {
    const char *name;
    const char *kind;           /* alternatives are separated by '|'; "any" */
    uint32_t flags;
    size_t offset;              /* of a pipe_object * (borrowed, lives as long as the state); a list: of a
                                   pipe_objects */
    const char *fallback;       /* shorthand used when it is not given ("cosine"); may be NULL */
    const char *help;
} pipe_input;

#define PIPE_INPUT(state, field, kind_, help_)                                                          \
    {.name = #field, .kind = (kind_), .offset = offsetof(state, field), .help = (help_)}
#define PIPE_INPUT_OPTIONAL(state, field, kind_, help_)                                                 \
    {.name = #field, .kind = (kind_), .flags = PIPE_OPTIONAL, .offset = offsetof(state, field), .help = (help_)}
#define PIPE_INPUT_DEFAULT(state, field, kind_, fallback_, help_)                                       \
    {.name = #field, .kind = (kind_), .offset = offsetof(state, field), .fallback = (fallback_), .help = (help_)}
#define PIPE_INPUT_LIST(state, field, kind_, flags_, help_)                                             \
    {.name = #field, .kind = (kind_), .flags = PIPE_LIST | (flags_), .offset = offsetof(state, field),  \
     .help = (help_)}
#define PIPE_INPUT_END {.name = NULL}

/* ---- outputs of steps ---- */
typedef struct pipe_output {
    const char *name;
    const char *kind;           /* NULL: the kind of the input named by `like` */
    const char *like;
    const char *help;
} pipe_output;
#define PIPE_OUTPUT(name_, kind_, help_) {.name = (name_), .kind = (kind_), .help = (help_)}
#define PIPE_OUTPUT_LIKE(name_, input_, help_) {.name = (name_), .like = (input_), .help = (help_)}
#define PIPE_OUTPUT_END {.name = NULL}

/* ---- context: what a node knows of its run ---- */
PIPE_API pipe_engine *pipe_context_engine(const pipe_context *ctx);
PIPE_API const char *pipe_context_node(const pipe_context *ctx);
PIPE_API uint64_t pipe_context_seed(const pipe_context *ctx);
/** The run's seed, this node's stream for `purpose`, sample 0, step 0. */
PIPE_API pipe_key pipe_context_key(const pipe_context *ctx, const char *purpose);
/** Logs with the node as prefix. */
PIPE_API void pipe_context_log(const pipe_context *ctx, pipe_log_level level, const char *fmt, ...)
    PIPE_PRINTF(3, 4);

#ifdef __cplusplus
}
#endif
#endif
