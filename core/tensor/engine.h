/* The engine as the rest of the core sees it.  Internal. */
#ifndef PIPE_CORE_ENGINE_H
#define PIPE_CORE_ENGINE_H

#include "core/device/device.h"
#include <pipe/op.h>

/* Opens a device and an empty recording.  See pipei_device_open(). */
PIPE_INTERNAL pipe_status pipei_engine_new(const char *device, const char *profile, pipe_engine **out,
                                           pipe_error *err);
PIPE_INTERNAL void pipei_engine_free(pipe_engine *e);
PIPE_INTERNAL pipei_device *pipei_engine_device(pipe_engine *e);

/* The program that helpers run to compile kernels ahead (ahead.c): it calls pipei_ahead_main()
 * for its one argument PIPEI_AHEAD_OPTION, and ends with the status that this returns.  NULL,
 * as at first: no helpers.  To be set before an engine is opened. */
#define PIPEI_AHEAD_OPTION "--compile-kernels"
PIPE_INTERNAL void pipei_ahead_helper(const char *program);
PIPE_INTERNAL int pipei_ahead_main(void);

/* Counters for tests, `pipe bench` and --profile. */
typedef struct pipei_engine_stats {
    uint64_t plans_built, plans_replayed, ops_recorded, launches;
    uint64_t arena_bytes;            /* of the largest plan */
} pipei_engine_stats;
PIPE_INTERNAL pipei_engine_stats pipei_engine_stats_get(const pipe_engine *e);
/* Computes what is recorded, as pipe_eval(), and gives back all memory that no tensor holds: that of temporaries (as
 * much as the largest plan so far needed), of freed tensors, of copies to the device.  Plans and kernels stay. */
PIPE_INTERNAL void pipei_engine_trim(pipe_engine *e);
/* Drops every cached plan (tests: the results must not change). */
PIPE_INTERNAL void pipei_engine_forget_plans(pipe_engine *e);

/* Build mode of models: operations record shapes but pipei_engine_discard()
 * throws the recording away without computing anything (kept tensors recorded
 * since then become poisoned). */
PIPE_INTERNAL void pipei_engine_discard(pipe_engine *e);

/* Bytes-for-bytes access to leaves: checkpoints, data on its way in. */
PIPE_INTERNAL pipe_status pipei_tensor_write(pipe_tensor *leaf, const void *data, size_t bytes,
                                             pipe_error *err);

/* What the evaluations that follow are for (a node's name; copied): the owner of
 * their memory in out-of-memory messages, and what --profile charges. */
PIPE_INTERNAL void pipei_engine_label(pipe_engine *e, const char *label);

/* Times every launch from now on, for `pipe run --profile`: evaluations then wait
 * for the device, so that the run is slower. */
typedef struct pipei_profile_row {
    char label[64];                  /* of pipei_engine_label() when it ran */
    const char *op;                  /* the op, or one of those that a kernel fuses */
    uint64_t launches;
    double seconds;                  /* on the device */
} pipei_profile_row;
PIPE_INTERNAL pipe_status pipei_engine_profile(pipe_engine *e, bool on, pipe_error *err);
/* What has been timed so far, in order of first appearance; valid until the next
 * evaluation. */
PIPE_INTERNAL size_t pipei_engine_profile_rows(const pipe_engine *e, const pipei_profile_row **out);
/* One launch; the texts live for the call alone. */
typedef struct pipei_timed {
    const char *label, *op;          /* as in a row */
    const char *kernel;              /* op and kernel, as messages name it */
    double start, seconds;           /* start: by pipei_seconds() */
} pipei_timed;
typedef void pipei_observer(void *arg, const pipei_timed *t);
/* While launches are timed, tells `observer` of each, in the order in which they ran;
 * NULL: nobody. */
PIPE_INTERNAL void pipei_engine_observe(pipe_engine *e, pipei_observer *observer, void *arg);

/* The op table: the built-in rows (core/tensor/op-table.c lists their groups), then
 * those that pipe_op_register() added. */
PIPE_INTERNAL size_t pipei_op_count(void);
PIPE_INTERNAL const pipe_op *pipei_op_at(size_t k);
PIPE_INTERNAL const pipe_op *pipei_op_find(const char *name);

#endif
