/* Shared by the files of core/device only. */
#ifndef PIPE_DEVICE_INTERNAL_H
#define PIPE_DEVICE_INTERNAL_H

#include "core/device/device.h"

/* Buffers in use, by owner, for out-of-memory messages. */
typedef struct owner {
    char name[64];
    uint64_t bytes;
} owner;

typedef struct live_buffer {
    cl_mem mem;              /* NULL: an empty place in the table */
    uint32_t owner;
    size_t bytes;            /* as allocated: a size class */
} live_buffer;

typedef struct free_buffer {
    cl_mem mem;
    size_t bytes;
    uint64_t since;          /* pool->clock when it came back */
} free_buffer;

typedef struct staging {
    void *data;
    size_t capacity;
    cl_event done;           /* NULL: free to use */
} staging;

typedef struct pool {
    live_buffer *live;       /* open addressing by handle; capacity is a power of two */
    size_t n_live, live_capacity;
    free_buffer *idle;
    size_t n_idle, idle_capacity;
    owner *owners;
    size_t n_owners;
    staging *stages;
    size_t n_stages;
    uint64_t used, cached, peak, limit, clock, generation;
    bool exact;              /* buffers of the size asked for */
} pool;

typedef struct program {
    uint64_t hash;
    char *source;
    cl_program handle;
} program;

struct pipei_device {
    cl_platform_id platform;
    cl_device_id id;
    cl_context context;
    cl_command_queue queue;
    pipei_device_info info;
    pipe_device_profile profile;
    pool pool;
    program *programs;
    size_t n_programs, program_capacity;
    double compile_seconds;  /* CPU time of the latest program */
    struct blas *blas;       /* NULL until the first product (blas.c) */
};

pipe_status pipei_pool_open(pipei_device *d, pipe_error *err);
void pipei_pool_close(pipei_device *d);
void pipei_programs_close(pipei_device *d);
void pipei_blas_close(pipei_device *d);

#endif
