/* The readers, from memory: what the public ones call after reading or mapping a
 * file, and what the fuzz targets call.  `name` stands for the path in messages.
 * Internal. */
#ifndef PIPE_CORE_FORMATS_H
#define PIPE_CORE_FORMATS_H

#include "core/base/internal.h"
#include <pipe/io.h>

PIPE_INTERNAL pipe_status pipei_npy_parse(const char *name, const void *bytes, size_t n, pipe_array **out,
                                          pipe_error *err);
PIPE_INTERNAL pipe_status pipei_npy_header(const pipe_array *a, pipe_text *out, pipe_error *err);
PIPE_INTERNAL pipe_status pipei_npz_parse(const char *name, const void *bytes, size_t n, uint64_t limit,
                                          pipe_npz **out, pipe_error *err);
PIPE_INTERNAL pipe_status pipei_idx_parse(const char *name, const void *bytes, size_t n, pipe_array **out,
                                          pipe_error *err);
PIPE_INTERNAL pipe_status pipei_csv_parse(const char *name, const void *bytes, size_t n, char separator,
                                          pipe_table **out, pipe_error *err);
PIPE_INTERNAL pipe_status pipei_png_parse(const char *name, const void *bytes, size_t n, pipe_array **out,
                                          pipe_png_text *text, pipe_error *err);
PIPE_INTERNAL pipe_status pipei_wav_parse(const char *name, const void *bytes, size_t n, pipe_array **out,
                                          uint32_t *rate, pipe_error *err);
/* The bytes stay the caller's and must outlive the result. */
PIPE_INTERNAL pipe_status pipei_safetensors_parse(const char *name, const void *bytes, size_t n,
                                                  pipe_safetensors **out, pipe_error *err);

/* ---- arrays ---- */
/* A fresh array with uninitialised-free (zeroed) memory of its own; `data` is the
 * writable address of that memory.  PIPE_ENOMEM and overflow are reported. */
PIPE_INTERNAL pipe_status pipei_array_new(const char *name, pipe_element element, pipe_shape shape,
                                          pipe_array **out, void **data, pipe_error *err);
/* Checked sizes: false when the product or the bytes overflow, or bits do not fill bytes. */
PIPE_INTERNAL bool pipei_shape_elements(const pipe_shape *shape, size_t *out);
PIPE_INTERNAL bool pipei_array_bytes(pipe_element element, const pipe_shape *shape, size_t *out);
/* An array that a caller handed in: element known, dimensions sane, bytes right. */
PIPE_INTERNAL pipe_status pipei_array_check(const pipe_array *a, const char *what, pipe_error *err);
/* Reverses the bytes of each of `count` elements of `width` bytes. */
PIPE_INTERNAL void pipei_swap_bytes(void *data, size_t count, size_t width);
/* "\x00\x01ab" -> "00 01 61 62": the first bytes of a file, for messages. */
PIPE_INTERNAL char *pipei_bytes_text(const void *bytes, size_t n, char *out, size_t size);

/* ---- bytes in memory, plain or gzip (recognised by 1f 8b) ----
 * A gzip file may have several members, one after the other. */
typedef struct pipei_stream pipei_stream;
PIPE_INTERNAL pipei_stream *pipei_stream_new(const char *name, const void *bytes, size_t n);
PIPE_INTERNAL void pipei_stream_free(pipei_stream **s);       /* for PIPE_CLEANUP */
PIPE_INTERNAL bool pipei_stream_is_gzip(const pipei_stream *s);
/* Reads up to n bytes; *got < n only at the end.  Damaged or truncated gzip fails. */
PIPE_INTERNAL pipe_status pipei_stream_read(pipei_stream *s, void *out, size_t n, size_t *got,
                                            pipe_error *err);
/* Upper bound of the bytes still to come: deflate expands at most 1032 times. */
PIPE_INTERNAL uint64_t pipei_stream_bound(const pipei_stream *s);
/* Everything, with a NUL behind it; above `limit` is PIPE_EFORMAT. */
PIPE_INTERNAL pipe_status pipei_stream_all(pipei_stream *s, size_t limit, pipe_text *out, pipe_error *err);

#endif
