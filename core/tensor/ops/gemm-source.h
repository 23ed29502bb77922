/* OpenCL source of the register-tiled kernels: what matmul and the convolutions
 * share.  Internal to core/tensor/ops. */
#ifndef PIPE_CORE_GEMM_SOURCE_H
#define PIPE_CORE_GEMM_SOURCE_H

#include "core/tensor/call.h"

/* ---- templates: kernel text with $NAME replaced ---- */
typedef struct pipei_word {
    const char *name;      /* without the $; the last entry has NULL */
    const char *text;      /* or NULL: then `number` */
    int64_t number;
} pipei_word;
/* Adds `text` to s; every $NAME must be among the words. */
PIPE_INTERNAL void pipei_emit(pipe_text *s, const char *text, const pipei_word *words);

/* Adds the function NAME(v): the sum (max: the largest) of a vector's lanes, by halves, since a
 * chain over the lanes of a row takes as long as the exponentials of the row. */
PIPE_INTERNAL void pipei_emit_fold(pipe_text *s, const char *name, bool max, uint32_t width);

/* ---- the register tile ---- */
/* Accumulators that a work-item keeps in vector registers: `rows` scalars, each
 * broadcast over `vectors` vectors of `width` lanes. */
typedef struct pipei_tile {
    uint32_t rows, vectors, width;
    uint32_t columns;      /* vectors * width */
} pipei_tile;
/* The tile for an output of `n` columns: n <= width gets a tall, narrow one. */
PIPE_INTERNAL pipei_tile pipei_tile_choose(const pipe_device_profile *p, int64_t n);

/* Pieces of text that every tiled kernel has, as words for pipei_emit():
 *   V          the vector type: float8
 *   ZERO       declares the accumulators c<row>_<vector> as 0
 *   LOAD       declares them as the vectors at `acc`, rows `acc_stride` apart
 *   ADD        adds the vectors at `acc` to them
 *   SPILL      copies them to the private array `tile`, row by row
 *   STORE      copies them to `acc`
 *   STEP       one step: vectors at `b`, row r times the scalar ROW (see below)
 *   ROWS, VECTORS, WIDTH, COLUMNS   the numbers
 *   OUT        stores `cols` values of row i of `tile` at out + o, through the epilogue
 * row_format: printf format of row r's scalar, given r once. */
typedef struct pipei_tile_words {
    pipei_word word[32];
    size_t n;
    pipe_text text[8];
} pipei_tile_words;
PIPE_INTERNAL void pipei_tile_words_make(pipei_tile_words *w, pipei_tile t, const char *row_format);
PIPE_INTERNAL void pipei_tile_words_number(pipei_tile_words *w, const char *name, int64_t number);
PIPE_INTERNAL void pipei_tile_words_text(pipei_tile_words *w, const char *name, const char *text);
PIPE_INTERNAL void pipei_tile_words_free(pipei_tile_words *w);

/* ---- packing ---- */
/* A [batch, taps, k, n] operand into panels of tile.columns columns:
 * [batch][panel][tap][k][columns], columns past n zero, and one row of max(k, n) zeros
 * behind everything (what taps outside an image read).  Element (batch, tap, k,
 * n) is read at batch * batch_stride + tap * tap_stride + k * k_stride + n * n_stride. */
typedef struct pipei_pack {
    int64_t batch, taps, k, n;
    int64_t batch_stride, tap_stride, k_stride, n_stride;
    bool no_zero_row;
    bool kept;             /* a weight: packed anew only when it has changed (call.h) */
} pipei_pack;
PIPE_INTERNAL int64_t pipei_pack_panels(const pipei_pack *p, pipei_tile t);
/* Elements of the packed operand without the zero row: where that begins. */
PIPE_INTERNAL int64_t pipei_pack_count(const pipei_pack *p, pipei_tile t);
/* Adds the launch that packs input number `input`; returns the scratch buffer. */
PIPE_INTERNAL uint32_t pipei_lower_pack(pipe_lowering *l, const pipei_pack *p, pipei_tile t, uint32_t input);

/* ---- partial sums ---- */
/* Sums `parts` arrays of [groups, taps, rows, stride] (of a row's `stride` the first
 * `columns` count) in the order of the parts, so deterministically, into the
 * output: element (group, tap, row, column) at the linear index group *
 * group_step + tap * tap_step + row * row_step + column * column_step. */
typedef struct pipei_sum_parts {
    int64_t parts, groups, taps, rows, columns, stride;
    int64_t group_step, tap_step, row_step, column_step;
} pipei_sum_parts;
PIPE_INTERNAL void pipei_lower_sum_parts(pipe_lowering *l, const pipei_sum_parts *p, uint32_t scratch);

/* ---- matmul, for other rows ---- */
/* out [batch..., m, n] = a [batch..., m, k] b [batch..., k, n]; ta, tb: given transposed.
 * A batch axis of size 1 in a or b broadcasts. */
typedef struct pipei_matmul {
    int64_t m, n, k;
    bool ta, tb;
    uint32_t rank;                                     /* of the batch */
    int64_t batch[PIPE_MAX_RANK], a_batch[PIPE_MAX_RANK], b_batch[PIPE_MAX_RANK];
    uint32_t a, b;                                     /* which inputs of the op */
} pipei_matmul;
PIPE_INTERNAL void pipei_lower_matmul(pipe_lowering *l, const pipei_matmul *g);
/* Adds the expression of where batch number z of an operand with these batch axes
 * begins, `stride` elements a matrix. */
PIPE_INTERNAL void pipei_emit_batch(pipe_text *s, const pipei_matmul *g, const int64_t *dims, int64_t stride);
/* On a GPU: CLBlast (gemm-blas.c); false, and nothing done, where the batch axes that
 * broadcast do not make one stride. */
PIPE_INTERNAL bool pipei_lower_blas_matmul(pipe_lowering *l, const pipei_matmul *g);
/* On devices with work-groups: tiles in local memory (gpu-source.c). */
PIPE_INTERNAL void pipei_lower_gpu_matmul(pipe_lowering *l, const pipei_matmul *g);

/* ---- launches ---- */
PIPE_INTERNAL void pipei_launch_buffer(pipe_launch *l, pipe_arg_kind kind, uint32_t index);
PIPE_INTERNAL void pipei_launch_int(pipe_launch *l, int64_t value);
/* Adds the launch with the text as its source, then frees the text. */
PIPE_INTERNAL void pipei_launch_add(pipe_lowering *l, pipe_launch *launch, pipe_text *source);
/* The same for the launch that makes derived scratch memory: see call.h. */
PIPE_INTERNAL void pipei_launch_derive(pipe_lowering *l, pipe_launch *launch, pipe_text *source, uint32_t scratch);

static inline int64_t pipei_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t pipei_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t pipei_max(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
