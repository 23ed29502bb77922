/* Generated code for clusters of elementwise values: what its writers share. */
#ifndef PIPE_TENSOR_CODEGEN_H
#define PIPE_TENSOR_CODEGEN_H

#include "core/tensor/build.h"

enum { NO_TERM = UINT32_MAX, GIVEN = UINT32_MAX - 1 };

typedef enum level { CONSTANT, ROW, FULL } level;

/* One value of the generated code: a load, or an expression over other terms. */
typedef struct term {
    bool load;
    uint32_t value;           /* load: root; else the op's node */
    int64_t offset;
    uint32_t buffer;          /* load: argument x<buffer>; GIVEN: the variable v */
    uint32_t pattern;         /* load: index into gen.patterns */
    level lv;
    pipe_dtype dtype;
    uint32_t n_in, in[4];
} term;

typedef struct buffer_arg {
    uint32_t root;
    int64_t offset;
    pipe_dtype dtype;
} buffer_arg;

typedef struct scalar_arg {
    uint32_t node, index;
} scalar_arg;

typedef struct gen {
    build *b;
    uint32_t cluster;         /* its representative */
    uint32_t given;           /* lowered value whose elements are at hand as v, or NO_TERM */
    const pipe_device_profile *profile;
    int64_t count;
    radix digits;
    uint32_t n_dims;          /* digits of the cluster, at least 1 */
    int64_t dim[MAX_DIGITS];
    term *terms;
    uint32_t n_terms, capacity;
    pattern *patterns;        /* distinct ones of loads, split along the digits: strides per dim */
    uint32_t n_patterns;
    buffer_arg *buffers;
    uint32_t n_buffers;
    buffer_arg *outs;
    uint32_t n_outs;
    scalar_arg *scalars;
    uint32_t n_scalars;
    pipe_text text;
    const char *index_type;
} gen;

/* terms.c */

/* Makes the terms of all members of a cluster.  given: see gen; else NO_TERM. */
void pipei_gen_open(gen *g, build *b, uint32_t cluster, uint32_t given);
void pipei_gen_close(gen *g);
/* Declares the terms of one level, in code of the given vector width. */
void pipei_gen_declare(gen *g, level lv, uint32_t width, const char *indent);
void pipei_gen_operand(gen *g, uint32_t t, uint32_t width);
void pipei_gen_type(gen *g, pipe_dtype dtype, uint32_t width);
/* Whether the loads of a pattern need an offset that is computed per row. */
bool pipei_gen_moves(const gen *g, uint32_t pattern_index);
void pipei_gen_row_offsets(gen *g, const char *indent);
/* r1, r2, ...: the digits of row number `row`, which is destroyed. */
void pipei_gen_row_digits(gen *g, const char *indent, const char *declare);
/* The arguments: buffers x, outputs y, scalars s first, sizes d and strides t last. */
void pipei_gen_buffer_args(gen *g, draft *d);
void pipei_gen_size_args(gen *g, draft *d);
void pipei_gen_int_arg(gen *g, draft *d, int64_t number);
uint32_t pipei_gen_most_args(const gen *g);

static inline const char *pipei_type_name(pipe_dtype dtype)
{
    return dtype == PIPE_I32 ? "int" : "float";
}

#endif
