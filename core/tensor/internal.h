/* The engine inside: shared by the files of the compute runtime only. */
#ifndef PIPE_TENSOR_INTERNAL_H
#define PIPE_TENSOR_INTERNAL_H

#include "core/tensor/record.h"

typedef struct plan plan;              /* build.h */
typedef struct kernel_cache kernel_cache;

typedef struct assignment {
    pipe_tensor *leaf, *value;
} assignment;

/* Memory of temporaries, shared by all plans: only one runs at a time. */
typedef struct arena_chunk {
    cl_mem mem;
    size_t bytes;
} arena_chunk;

/* Nodes first ... end - 1 of the recording, which the backward pass computes again. */
typedef struct stretch {
    uint32_t first, end;
} stretch;

/* What an evaluation asks for, and the graph behind it. */
typedef struct request {
    pipe_tensor **nodes;               /* live nodes, inputs first; slot = position */
    size_t n_nodes;
    pipe_tensor **leaves;              /* in order of first use; slot = position */
    size_t n_leaves;
    pipe_tensor **outs;                /* nodes to be kept */
    size_t n_outs;
    const assignment *assigns;
    size_t n_assigns;
    uint64_t *key;                     /* the structure in words */
    size_t n_key;
    uint64_t hash;
    size_t nodes_capacity, leaves_capacity, outs_capacity, key_capacity;
} request;

/* Enqueued, and to be asked for its times once it is done. */
typedef struct timed_launch {
    const char *op, *kernel;           /* the plan's */
    cl_event event;
} timed_launch;

enum { PIPELINE_DEPTH = 2 };           /* evaluations in flight */

struct pipe_engine {
    pipei_device *device;
    char label[64];

    pipe_tensor *free_first, *free_last;   /* first in, first out: stale pointers are seen longer */
    pipe_tensor **blocks;                  /* of tensors, TENSOR_BLOCK each */
    size_t n_blocks;

    pipe_tensor **list;                    /* the recording */
    size_t n_list, list_capacity;
    pipe_arena *arena;                     /* inputs and attributes of its nodes */
    assignment *assigns;
    size_t n_assigns, assigns_capacity;
    stretch *stretches;                    /* of the recording, in order; the last one may be open */
    size_t n_stretches, stretches_capacity;
    uint32_t stretch_depth;                /* begun and not ended */
    uint64_t stamp;

    request request;
    pipe_arena *scratch;                   /* of one plan being built */
    plan **plans;                          /* open addressing by key hash */
    size_t n_plans, plans_capacity;
    uint64_t clock;                        /* of plan use */
    kernel_cache *kernels;
    uint64_t *compiled;                    /* identities of kernels that have run */
    size_t n_compiled, compiled_capacity;
    arena_chunk *chunks;
    size_t n_chunks;
    cl_event in_flight[PIPELINE_DEPTH];    /* last command of recent evaluations; may be NULL */
    uint32_t turn;

    bool said_compiling;
    pipei_engine_stats stats;
    bool profiling;
    pipei_profile_row *profile;
    size_t n_profile, profile_capacity;
    timed_launch *timed;               /* of the evaluation that is being enqueued */
    size_t n_timed, timed_capacity;
    double device_clock;               /* pipei_seconds() at zero of the device's clock */
    pipei_observer *observer;
    void *observer_arg;
};

/* record.c */
void pipei_recording_open(pipe_engine *e);
void pipei_recording_close(pipe_engine *e);
/* Ends the recording: frees what nobody holds. */
void pipei_recording_end(pipe_engine *e);
void pipei_tensor_become_leaf(pipe_tensor *t, cl_mem mem, size_t bytes);
void pipei_derived_free(pipe_tensor *leaf);    /* derived.c */
void pipei_tensor_become_poisoned(pipe_tensor *t, pipei_poison *poison);   /* takes a reference */
pipei_poison *pipei_poison_new(pipe_status status, const char *message);  /* refs 1 */
void pipei_poison_release(pipei_poison *p);
pipe_status pipei_poison_report(const pipei_poison *p, pipe_error *err);

#endif
