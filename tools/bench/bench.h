/* pipe bench, from the inside.
 *
 *     bench.c      the verb: options, the list of groups, the device
 *     measure.c    timing in turn; rows as a table and as JSON
 *     machine.c    what the device can do: multiply-adds, memory
 *     products.c   matrix products, ours beside CLBlast and OpenBLAS
 *     ops.c        convolution, attention, norms, elementwise chains, the optimizer
 *     models.c     training steps and forward passes of three networks
 *     host.c       recording and replaying, a sampler's own cost */
#ifndef PIPE_TOOLS_BENCH_H
#define PIPE_TOOLS_BENCH_H

#include "core/plugin/registry.h"
#include "core/run/object.h"
#include "core/tensor/engine.h"
#include "tools/cli.h"

typedef struct bench_case bench_case;

typedef struct bench {
    const char *device, *profile; /* as given; NULL: chosen by the machine */
    pipe_engine *engine; /* that the operations share; models open their own */
    pipei_registry *registry;
    const char **filter; /* a row is wanted if one fits; none: all */
    size_t n_filters;
    size_t repeats;
    const char *export_to; /* folder for what the models compute; NULL: none */
    double flops, flops_cpu; /* best rate of multiply-adds: per second, per CPU second; 0: not known */
    double bandwidth, bandwidth_cpu; /* bytes, likewise */
    json_t *rows; /* NULL: printed as they come */
    bool titled; /* the table has its heading */
} bench;

typedef enum bench_unit {
    BENCH_FLOPS, /* floating point operations: a multiply-add is two */
    BENCH_BYTES, /* moved between memory and device, at least */
    BENCH_OPS, /* recorded operations: the row is about the host */
    BENCH_EVALUATIONS /* of a denoiser by a sampler */
} bench_unit;

/* One row to be. */
struct bench_case {
    const char *name;
    char shape[80];
    double work; /* of one run, in `unit` */
    bench_unit unit;
    /* Enqueues `times` runs, without waiting where that is possible. */
    pipe_status (*run)(void *arg, size_t times, pipe_error *err);
    void *arg;
    pipe_engine *engine; /* to wait for after them; NULL: run() has waited */
    double settle; /* seconds of rest behind a repetition, not counted */
    bool memory; /* tell the engine's peak of memory, too, and */
    uint64_t resident; /* how far the process grew since it had this many bytes */
};

/* Seconds of one run: of the repetitions the median and the least by the clock, and
 * the least of all threads' CPU time. */
typedef struct bench_time {
    double median, least, cpu;
} bench_time;

/* Bytes of memory that this process has. */
uint64_t bench_resident(void);

/* Is there a filter that fits "NAME SHAPE"? */
bool bench_wanted(const bench *b, const char *name, const char *shape);

/* Times the cases that are wanted: each is run twice to be warm, then all in turn,
 * A B A B, so that what else the machine does meets all alike.  A repetition lasts
 * 10 ms at least.  Adds a row for each; those behind the first are compared with
 * it. `out` [n] may be NULL. */
pipe_status bench_measure(bench *b, bench_case *cases, size_t n, bench_time *out, pipe_error *err);
void bench_add_row(bench *b, const bench_case *c, const bench_time *t, const char *note);
/* For rows that time themselves: median and least of n values (which are sorted), CPU
 * time as least. */
bench_time bench_summary(double *seconds, size_t n, double cpu);
/* A row that says what is not there, and what to do about it. */
void bench_add_missing(bench *b, const char *name, const char *what, const char *advice);

/* n numbers in [-1, 1), the same in every run; a leaf, held by the caller's slot. */
pipe_status bench_leaf(pipe_engine *e, pipe_shape shape, uint64_t salt, pipe_tensor **slot, pipe_error *err);

/* A plugin's object by name; the registry must have it. */
pipe_status bench_object(bench *b, const char *plugin, const char *const *params, pipe_context *ctx,
                         pipe_object **out, pipe_error *err);

void bench_context_free(pipe_context **ctx); /* for PIPE_CLEANUP */

/* ---- the groups ---- */
typedef pipe_status bench_group(bench *b, pipe_error *err);
bench_group bench_machine, bench_products, bench_convolutions, bench_attention, bench_memory_bound,
    bench_models, bench_host;

#endif
