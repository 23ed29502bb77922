/* A plan and its making.  Internal to the compute runtime.
 *
 *   request ──values (CSE, views)──▶ fuse.c: clusters ──▶ steps: clusters (codegen.c)
 *                                                         and lowered ops (lower.c)
 *        ──▶ layout.c: order, liveness, places ──▶ kernels.c: programs ──▶ plan ──▶ replay.c
 */
#ifndef PIPE_TENSOR_BUILD_H
#define PIPE_TENSOR_BUILD_H

#include "core/tensor/call.h"
#include "core/tensor/internal.h"

/* ---- the finished plan ---- */

typedef enum place_kind { PLACE_NONE, PLACE_LEAF, PLACE_OUT, PLACE_ARENA, PLACE_DERIVED } place_kind;

/* Where a value lives while the plan runs. */
typedef struct place {
    place_kind kind;
    uint32_t slot;            /* of leaves, of outputs, of arena chunks, of what is derived from leaves */
    size_t offset;            /* bytes, in an arena chunk */
} place;

typedef enum bind_kind { BIND_BUFFER, BIND_FLOAT, BIND_WORD } bind_kind;

/* A call on the host in place of a kernel: see call.h.  Its buffers are bound as
 * the arguments of kernels are. */
typedef struct host_call {
    pipei_host_function *function;
    cl_mem *mem;
    size_t *offset;           /* elements */
    const int64_t *ints;
} host_call;

/* A kernel argument that a replay may have to set again. */
typedef struct binding {
    bind_kind kind;
    uint32_t launch, arg;
    uint32_t slot;            /* FLOAT, WORD: which live node */
    uint32_t index;           /* FLOAT, WORD: which of its attributes */
    place at;                 /* BUFFER */
    union {
        cl_mem mem;
        float f;
        uint32_t u;
    } last;                   /* what the kernel has now */
    bool set;
} binding;

typedef struct launch {
    cl_kernel kernel;         /* NULL: a call on the host */
    host_call *call;
    const char *name;         /* op and kernel, for messages */
    const char *op;           /* its row's name */
    uint32_t dims;
    size_t global[3], local[3];
    uint32_t derives;         /* 1 + which plan_derived it makes, or 0 */
    uint32_t n_args;
    const uint8_t *arg_bytes; /* of each argument; 0: a buffer */
    bool guarded;             /* does nothing without memory: see pipei_source_outline() */
    uint64_t identity;        /* hash of source, kernel and local size: what the driver compiles once */
} launch;

/* What is made of a leaf alone and kept: see derived.c. */
typedef struct plan_derived {
    uint32_t leaf;            /* slot */
    uint64_t key;
    size_t bytes;
    struct pipei_derived *now;/* in this replay */
    cl_mem mem;
    bool fresh;               /* nothing to do */
} plan_derived;

typedef struct copy {
    place from, to;
    size_t from_offset, bytes;
} copy;

struct plan {
    uint64_t hash, *key;
    size_t n_key;
    uint64_t used;            /* engine's clock */
    pipe_arena *memory;       /* of everything below */
    launch *launches;
    size_t n_launches;
    binding *bindings;
    size_t n_bindings;
    copy *before, *after;     /* of leaves that are kept or assigned; of values with several homes */
    size_t n_before, n_after;
    size_t *out_bytes;        /* buffers to make for each run */
    size_t n_out;
    uint32_t *kept_out;       /* per kept node: which of them */
    uint32_t *assign_out;     /* per assignment: which, or UINT32_MAX: written in place */
    plan_derived *derived;
    size_t n_derived;
    size_t *chunk_bytes;      /* arena needed */
    size_t n_chunks;
    uint64_t generation;      /* of the device's buffers when the arguments were set */
    bool warm;                /* has run once: its kernels are compiled */
    bool fresh;               /* its kernels were not in the driver's cache, as far as is known */
};

/* ---- access patterns ---- */

/* How a consumer's linear index moves through a source: mixed-radix digits,
 * innermost first.  stride 0: broadcast. */
typedef struct digit {
    int64_t extent, stride;
} digit;
enum { MAX_DIGITS = 20 };
typedef struct pattern {
    uint32_t n;
    digit d[MAX_DIGITS];
} pattern;

void pipei_pattern_broadcast(const pipe_shape *out, const pipe_shape *in, pattern *p);
/* p: consumer -> middle (covering all of it), q: middle -> source; false: no common digits. */
bool pipei_pattern_compose(const pattern *p, const pattern *q, pattern *out);
bool pipei_pattern_linear(const pattern *p);      /* the same index */
bool pipei_pattern_constant(const pattern *p);

/* Common digits of several patterns: the products at which any of them breaks. */
typedef struct radix {
    uint32_t n;
    int64_t cut[MAX_DIGITS];      /* ascending, each divides the next */
} radix;
bool pipei_radix_add(radix *r, const pattern *p);     /* false (r unchanged): they do not share digits */
bool pipei_radix_merge(radix *r, const radix *other);

/* ---- values ---- */

typedef enum value_kind { VALUE_LEAF, VALUE_VIEW, VALUE_ELEMENTWISE, VALUE_LOWERED } value_kind;

typedef struct value {
    const pipe_tensor *t;
    value_kind kind;
    bool live;
    bool must_store;          /* somebody needs it in memory */
    bool stored;
    bool assigned;            /* a leaf takes it: best written in place */
    bool inlined;             /* elementwise consumers compute it again instead of reading it */
    uint32_t n_in, *in;       /* values */
    uint32_t root;            /* owns the data; itself unless a view */
    int64_t offset;           /* elements into root */
    uint32_t tree, sources;   /* inlined: ops and reads that it costs */
    uint32_t cluster;         /* representative value (union-find) */
    uint32_t next;            /* member of the same cluster, UINT32_MAX ends */
    uint32_t last;            /* representative: the end of its list */
    uint32_t size;            /* representative: members */
    uint32_t step;            /* that computes it */
    place at;
    radix digits;             /* representative of a cluster */
} value;

/* A read of a cluster from outside. */
typedef struct source {
    uint32_t root;
    int64_t offset;
    pattern p;
} source;

/* ---- launches before they are kernels ---- */

typedef enum arg_kind { ARG_VALUE, ARG_SCRATCH, ARG_INT, ARG_FLOAT, ARG_WORD } arg_kind;
typedef struct arg {
    arg_kind kind;
    uint32_t slot;            /* value, scratch, live node of FLOAT and WORD */
    uint32_t index;           /* attribute */
    int64_t number;           /* INT: the value; VALUE: offset in elements */
} arg;

typedef struct draft {
    const char *source, *kernel;  /* source NULL: a call, `kernel` is its name */
    pipei_host_function *function;
    const int64_t *ints;
    uint32_t dims, n_args;
    size_t global[3], local[3];
    arg *args;
    const char *who;          /* op, for messages */
    uint32_t derives;         /* 1 + the scratch that it makes of a leaf alone, or 0 */
} draft;

typedef struct scratch {
    size_t count;
    uint32_t step;
    bool derived;             /* made of `leaf` alone: kept between replays */
    uint32_t leaf;
    place at;
} scratch;

typedef struct step {
    bool is_cluster;
    uint32_t id;              /* representative or lowered value */
    uint32_t first_draft, n_drafts;
    uint32_t n_reads, *reads; /* roots in memory */
    uint32_t n_writes, *writes;
    uint32_t order;
    bool *same_index;         /* per read: only at the index that is written */
} step;

typedef struct build {
    pipe_engine *e;
    const request *q;
    pipe_arena *a;            /* lives until the plan is made */
    plan *p;
    value *v;                 /* leaves first, then live nodes */
    uint32_t n_leaves, n;
    uint32_t *merged;         /* per value: the equal one that stands for it */
    step *steps;
    uint32_t n_steps;
    draft *drafts;
    uint32_t n_drafts, drafts_capacity;
    scratch *scratches;
    uint32_t n_scratches, scratches_capacity;
    uint32_t *member_term;    /* per value, for the cluster being generated; UINT32_MAX otherwise */
    struct readers *readers;
    uint32_t *sorted;         /* steps in order of execution */
} build;

static inline const pipe_tensor *node_of(const build *b, uint32_t v) { return b->v[v].t; }

/* fuse.c */
void pipei_fuse(build *b);
uint32_t pipei_cluster_of(build *b, uint32_t v);
/* What elementwise value v reads, inlined values looked through: returns the number
 * (the array is scratch of the build); false in *ok when digits do not fit, and
 * *culprit is the inlined value at which they do not. */
source *pipei_sources(build *b, uint32_t v, uint32_t *n, uint32_t *culprit);
bool pipei_op_heavy(const pipe_op *op);           /* calls a transcendental function */
bool pipei_op_identity(const pipe_op *op);        /* the expression is "a" */

/* Edges between values in memory: who reads root k, inlined values looked through. */
typedef struct readers {
    uint32_t *first, *list;    /* of k: list[first[k]] ... list[first[k + 1]] */
    source **sources;          /* of active values */
    uint32_t *n_sources;
    uint32_t *order;           /* representative: its position in a topological order of clusters */
    uint32_t *at;              /* position: the representative there, or UINT32_MAX */
    uint32_t *seen;            /* stamp of the last search for paths */
    uint32_t stamp, *stack;
} readers;
bool pipei_is_active(const build *b, uint32_t v);
/* Whether value k reads root at its own index. */
bool pipei_reads_straight(const readers *r, uint32_t k, uint32_t root);
/* How many elements of a lowered value its kernels store through the epilogue. */
int64_t pipei_epilogue_count(const build *b, uint32_t lowered);
/* Joins a cluster to the lowered value behind which it is to run, if that may be. */
bool pipei_join_behind(build *b, uint32_t lowered, uint32_t cluster);

/* epilogue.c */
void pipei_epilogues(build *b);
/* source.c */
typedef struct names {
    pipe_arena *a;
    char **list;
    size_t n, capacity;
} names;
bool pipei_names_have(const names *l, const char *start, size_t n);
void pipei_source_names(const char *s, names *macros, names *defined);
/* false: the source has no such kernel, or uses PIPE_EPILOGUE outside of kernels. */
bool pipei_source_add_parameters(const char *s, const char *kernel, const char *extra, pipe_text *out);
/* Copies the source, each kernel's body in a function PIPEI_BODY<name> that the kernel calls if
 * its first buffer is not NULL; kernels whose work-items share memory stay as they are, and those
 * without a PIPE_BUF.  false: all do. */
#define PIPEI_BODY "pipe_body_of_"
PIPE_INTERNAL bool pipei_source_outline(const char *s, pipe_text *out);

/* codegen.c */
pipe_status pipei_generate(build *b, step *s, pipe_error *err);
/* lower.c */
pipe_status pipei_lower(build *b, step *s, pipe_error *err);
draft *pipei_draft_new(build *b);
/* layout.c */
pipe_status pipei_layout(build *b, pipe_error *err);
/* kernels.c */
kernel_cache *pipei_kernels_open(void);
void pipei_kernels_close(kernel_cache *k);
pipe_status pipei_kernels_make(build *b, pipe_error *err);
extern const char pipei_kernel_prefix[];
/* plan.c */
pipe_status pipei_plan_get(pipe_engine *e, plan **out, pipe_error *err);
void pipei_plans_close(pipe_engine *e);
/* derived.c */
uint64_t pipei_derived_key(const draft *d);
/* Finds or makes the buffers, and tells what is there already. */
pipe_status pipei_derived_bind(pipe_engine *e, plan *p, pipe_error *err);
/* All launches are enqueued. */
void pipei_derived_made(pipe_engine *e, plan *p);
/* replay.c */
pipe_status pipei_replay(pipe_engine *e, plan *p, pipe_error *err);
void pipei_say_compiling(pipe_engine *e);         /* in the log, once */
/* ahead.c: has programs, or the kernels of launches, compiled by several processes into the
 * driver's cache, and waits. */
void pipei_ahead_programs(pipe_engine *e, const char *const *sources, size_t n);
void pipei_ahead_kernels(pipe_engine *e, const launch *launches, size_t n);
void pipei_ahead_compiled(pipe_engine *e, const launch *l); /* it has run: no need to ask for it */
/* profile.c: notes a launch whose event it takes over, for pipei_profile_collect(). */
void pipei_profile_add(pipe_engine *e, const launch *l, cl_event event);
void pipei_profile_add_seconds(pipe_engine *e, const launch *l, double start, double seconds);
/* Waits for the launches noted and adds their times. */
pipe_status pipei_profile_collect(pipe_engine *e, pipe_error *err);
void pipei_profile_close(pipe_engine *e);

#endif
