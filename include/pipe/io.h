/* File formats: arrays in safetensors, .npy, .npz and IDX; tables in CSV;
 * pictures in PNG; sound in WAV; plots as SVG and PNG.
 *
 * Readers check everything that a file says against what it holds, before they
 * believe it: a truncated, damaged or hostile file gives PIPE_EFORMAT with the
 * path, what was found and what would be right.  Writers write to a temporary
 * file in the same folder and rename it: a reader never sees half a file, and a
 * full disk leaves the old one as it was.
 *
 * Errors common to all readers: PIPE_ENOTFOUND (no such file), PIPE_EIO,
 * PIPE_EFORMAT, PIPE_ENOMEM.  To all writers: PIPE_EIO, PIPE_ENOTFOUND (no such
 * folder), PIPE_EEXIST (the path is a folder or device), PIPE_EINVAL.
 * Existing files are replaced; whoever takes a path from a person asks first.
 *
 * Thread: any; an object belongs to one thread at a time.  Since ABI 1.0.
 */
#ifndef PIPE_IO_H
#define PIPE_IO_H

#include <pipe/base.h>
#include <pipe/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- arrays ---- */

/** How one number is stored.  Values are never renumbered. */
typedef enum pipe_element {
    PIPE_ELEMENT_BOOL = 0,
    PIPE_ELEMENT_U8, PIPE_ELEMENT_I8, PIPE_ELEMENT_U16, PIPE_ELEMENT_I16,
    PIPE_ELEMENT_U32, PIPE_ELEMENT_I32, PIPE_ELEMENT_U64, PIPE_ELEMENT_I64,
    PIPE_ELEMENT_F16, PIPE_ELEMENT_BF16, PIPE_ELEMENT_F32, PIPE_ELEMENT_F64,
    PIPE_ELEMENT_F8_E5M2, PIPE_ELEMENT_F8_E4M3,          /* OCP FP8 */
    PIPE_ELEMENT_F8_E5M2FNUZ, PIPE_ELEMENT_F8_E4M3FNUZ,  /* without infinities and -0 */
    PIPE_ELEMENT_F8_E8M0,                                /* powers of two: MX scales */
    PIPE_ELEMENT_F4,                                     /* E2M1, two in a byte, the low half first */
    PIPE_ELEMENT_F6_E2M3, PIPE_ELEMENT_F6_E3M2,          /* listed, not converted */
    PIPE_ELEMENT_C64                                     /* two f32; listed, not converted */
} pipe_element;

/** As safetensors spells it: "F32", "BF16", "BOOL".  Static storage. */
PIPE_API const char *pipe_element_name(pipe_element e);
/** Bits of one element: 1 byte for BOOL, 4 bits for F4.  0: not an element. */
PIPE_API unsigned pipe_element_bits(pipe_element e);

/** Numbers with a shape: row-major, little-endian, packed, and aligned to
 *  nothing at all (they may lie in a mapped file): never cast `data`, convert it
 *  with pipe_array_f32() or pipe_array_i32(). */
typedef struct pipe_array {
    size_t size;             /* sizeof(pipe_array) */
    pipe_element element;
    pipe_shape shape;
    const void *data;        /* `bytes` of them; may be NULL when that is 0 */
    size_t bytes;
} pipe_array;

/** An array over memory of the caller: PIPE_ARRAY_F32(shape, pointer). */
#define PIPE_ARRAY_F32(shape_, data_) pipe_array_view(PIPE_ELEMENT_F32, (shape_), (data_))
#define PIPE_ARRAY_I32(shape_, data_) pipe_array_view(PIPE_ELEMENT_I32, (shape_), (data_))
#define PIPE_ARRAY_U8(shape_, data_) pipe_array_view(PIPE_ELEMENT_U8, (shape_), (data_))
/** `data` is borrowed for as long as the view is used. */
PIPE_API pipe_array pipe_array_view(pipe_element element, pipe_shape shape, const void *data);

/** Elements of `a`: the product of its shape, 1 for a scalar. */
PIPE_API size_t pipe_array_count(const pipe_array *a);
/** Converts elements first .. first + count - 1 (row-major) to f32.
 *  Integers and f64 are rounded to the nearest f32; BOOL is 0 or 1.
 *  Errors: PIPE_EINVAL        the range is not inside the array
 *          PIPE_EUNSUPPORTED  F6 and C64 */
PIPE_API pipe_status pipe_array_f32(const pipe_array *a, size_t first, size_t count, float *out,
                                    pipe_error *err);
/** The same to i32.
 *  Errors: also PIPE_EDOMAIN  a value is not whole or does not fit: which one is said */
PIPE_API pipe_status pipe_array_i32(const pipe_array *a, size_t first, size_t count, int32_t *out,
                                    pipe_error *err);
/** The same to double: exact but for integers above 2^53. */
PIPE_API pipe_status pipe_array_f64(const pipe_array *a, size_t first, size_t count, double *out,
                                    pipe_error *err);
/** Whether the elements are whole numbers by type (BOOL, U8 ... I64). */
PIPE_API bool pipe_array_is_integer(const pipe_array *a);
/** Frees an array that a reader returned; NULL is fine. */
PIPE_API void pipe_array_free(pipe_array *a);
PIPE_API void pipe_array_free_ptr(pipe_array **a);       /* for PIPE_CLEANUP */

/* ---- safetensors ---- */
typedef struct pipe_safetensors pipe_safetensors;

/** Opens a .safetensors file, or all shards of a *.safetensors.index.json.  The
 *  files are mapped: replace them by renaming, never truncate one that is open.
 *  Every check of the format is made here, so the arrays can be believed.
 *  Errors: also PIPE_EUNSUPPORTED  an array of more than PIPE_MAX_RANK axes */
PIPE_API pipe_status pipe_safetensors_open(const char *path, pipe_safetensors **out, pipe_error *err);
PIPE_API void pipe_safetensors_close(pipe_safetensors *f);            /* NULL is fine */
PIPE_API void pipe_safetensors_close_ptr(pipe_safetensors **f);       /* for PIPE_CLEANUP */
/** Arrays, sorted by name. */
PIPE_API size_t pipe_safetensors_count(const pipe_safetensors *f);
PIPE_API const char *pipe_safetensors_name(const pipe_safetensors *f, size_t k);      /* lives as long as f */
PIPE_API const pipe_array *pipe_safetensors_at(const pipe_safetensors *f, size_t k);  /* lives as long as f */
/** NULL: there is no such array. */
PIPE_API const pipe_array *pipe_safetensors_find(const pipe_safetensors *f, const char *name);
/** `__metadata__`; of several shards, the first one's.  NULL: no such key. */
PIPE_API const char *pipe_safetensors_metadata(const pipe_safetensors *f, const char *key);
/** Metadata by number, sorted by key: false behind the last. */
PIPE_API bool pipe_safetensors_metadata_at(const pipe_safetensors *f, size_t k, const char **key,
                                           const char **value);

typedef struct pipe_safetensors_writer pipe_safetensors_writer;
PIPE_API pipe_safetensors_writer *pipe_safetensors_writer_new(void);
PIPE_API void pipe_safetensors_writer_free(pipe_safetensors_writer *w);
PIPE_API void pipe_safetensors_writer_free_ptr(pipe_safetensors_writer **w);   /* for PIPE_CLEANUP */
/** Adds an array.  `name` is copied; the data are borrowed until the writer is freed.
 *  Errors: PIPE_EINVAL  a name twice, empty, `__metadata__` or not UTF-8; a view
 *          whose bytes are not those of its shape */
PIPE_API pipe_status pipe_safetensors_add(pipe_safetensors_writer *w, const char *name, const pipe_array *a,
                                          pipe_error *err);
/** As pipe_safetensors_add(), but the writer frees the data with pipe_free(), in an error too. */
PIPE_API pipe_status pipe_safetensors_take(pipe_safetensors_writer *w, const char *name, const pipe_array *a,
                                           pipe_error *err);
/** Sets a string of `__metadata__`; {"format": "pt"} is always there (other readers want it). */
PIPE_API pipe_status pipe_safetensors_set(pipe_safetensors_writer *w, const char *key, const char *value,
                                          pipe_error *err);
/** Writes everything: wide elements first, then by name.  May be called again. */
PIPE_API pipe_status pipe_safetensors_write(pipe_safetensors_writer *w, const char *path, pipe_error *err);
/** Writes STEM-00001-of-0000N.safetensors of at most `shard_bytes` of data each
 *  (one array may be larger), then STEM.safetensors.index.json, last.
 *  `path` is STEM or STEM.safetensors. */
PIPE_API pipe_status pipe_safetensors_write_shards(pipe_safetensors_writer *w, const char *path,
                                                   uint64_t shard_bytes, pipe_error *err);

/* ---- NumPy ---- */
/** Reads .npy 1.0 to 3.0: bool, integers, f2, f4, f8; either byte order, C or
 *  Fortran order.  Objects (pickle), structures and strings are PIPE_EUNSUPPORTED. */
PIPE_API pipe_status pipe_npy_read(const char *path, pipe_array **out, pipe_error *err);
/** BOOL, U8 ... I64, F16, F32, F64; the rest is PIPE_EUNSUPPORTED. */
PIPE_API pipe_status pipe_npy_write(const char *path, const pipe_array *a, pipe_error *err);

typedef struct pipe_npz pipe_npz;
/** Reads all arrays of a .npz into memory.  Members that are not .npy are left out.
 *  @param limit  most bytes that all arrays may take inflated; 0: 8 GiB */
PIPE_API pipe_status pipe_npz_read(const char *path, uint64_t limit, pipe_npz **out, pipe_error *err);
PIPE_API void pipe_npz_free(pipe_npz *z);
PIPE_API void pipe_npz_free_ptr(pipe_npz **z);                        /* for PIPE_CLEANUP */
PIPE_API size_t pipe_npz_count(const pipe_npz *z);                    /* in the file's order */
PIPE_API const char *pipe_npz_name(const pipe_npz *z, size_t k);      /* without ".npy"; lives as long as z */
PIPE_API const pipe_array *pipe_npz_at(const pipe_npz *z, size_t k);  /* lives as long as z */
PIPE_API const pipe_array *pipe_npz_find(const pipe_npz *z, const char *name);   /* NULL: none */
/** Writes n arrays.  @param deflate  compress (slower) or store */
PIPE_API pipe_status pipe_npz_write(const char *path, const char *const *names, const pipe_array *arrays,
                                    size_t n, bool deflate, pipe_error *err);

/* ---- IDX, the format of MNIST ---- */
/** Gzip is recognised by content.  Elements are made little-endian. */
PIPE_API pipe_status pipe_idx_read(const char *path, pipe_array **out, pipe_error *err);

/* ---- tables: CSV (RFC 4180) ---- */
typedef struct pipe_table pipe_table;

/** Reads a table; gzip is recognised by content.  Fields may be quoted; lines end
 *  in LF or CRLF; every row has as many fields as the first one.  If a field of the
 *  first row is not a number, that row names the columns; otherwise they are "0",
 *  "1", ...  Empty fields, "NA" and "nan" are NaN.
 *  @param separator  ',' ';' or '\t'; 0: whichever the first line has most of */
PIPE_API pipe_status pipe_csv_read(const char *path, char separator, pipe_table **out, pipe_error *err);
PIPE_API void pipe_table_free(pipe_table *t);
PIPE_API void pipe_table_free_ptr(pipe_table **t);                    /* for PIPE_CLEANUP */
PIPE_API size_t pipe_table_rows(const pipe_table *t);
PIPE_API size_t pipe_table_columns(const pipe_table *t);
PIPE_API const char *pipe_table_name(const pipe_table *t, size_t column);       /* lives as long as t */
/** Position of a column, or pipe_table_columns() if there is none. */
PIPE_API size_t pipe_table_find(const pipe_table *t, const char *name);
/** Text of a field, unquoted; lives as long as t. */
PIPE_API const char *pipe_table_text(const pipe_table *t, size_t row, size_t column);
/** Whether every field of the column is a number (or missing). */
PIPE_API bool pipe_table_is_number(const pipe_table *t, size_t column);
/** A column as `rows` numbers.
 *  Errors: PIPE_EFORMAT  a field is not a number: file, line and text are said */
PIPE_API pipe_status pipe_table_numbers(const pipe_table *t, size_t column, double *out, pipe_error *err);
/** Writes rows x columns numbers (row-major), each with the fewest digits that
 *  read back to the same double; NaN is an empty field.
 *  @param names  of the columns; NULL: no first line of names */
PIPE_API pipe_status pipe_csv_write(const char *path, const char *const *names, const double *values,
                                    size_t rows, size_t columns, pipe_error *err);

/* ---- pictures ---- */
/** Text of a PNG file. */
typedef struct pipe_png_text {
    size_t size;             /* sizeof(pipe_png_text) */
    char *pipeline;          /* iTXt `pipe`: the resolved YAML; NULL: none */
    char *parameters;        /* iTXt `parameters`: one line, as viewers show it; NULL: none */
    char *software;          /* tEXt `Software`; on writing, NULL means this library */
} pipe_png_text;
#define PIPE_PNG_TEXT_INIT {.size = sizeof(pipe_png_text)}
/** Frees the strings that pipe_png_read() put there. */
PIPE_API void pipe_png_text_free(pipe_png_text *t);

/** Reads a picture as U8 [height, width, channels], channels 1 (grey), 2 (grey,
 *  alpha), 3 (RGB) or 4 (RGBA).  Palettes are resolved, 1 to 4 bits widened, 16
 *  bits scaled to 8; gamma is left alone.  At most 32,768 pixels a side and
 *  2^28 pixels; checksums are verified.
 *  @param text  filled if not NULL; free it */
PIPE_API pipe_status pipe_png_read(const char *path, pipe_array **out, pipe_png_text *text, pipe_error *err);
/** Writes U8 [height, width] or [height, width, 1 ... 4].
 *  @param text  NULL: `Software` alone.  Neither text may be 1 MB or longer. */
PIPE_API pipe_status pipe_png_write(const char *path, const pipe_array *image, const pipe_png_text *text,
                                    pipe_error *err);
/** Converts count values to bytes: round(255 (x - low) / (high - low)), halves up,
 *  clamped to 0 ... 255.  Pictures of models are in [-1, 1] or [0, 1].
 *  Errors: PIPE_EDOMAIN  a value is NaN: which one is said */
PIPE_API pipe_status pipe_bytes_from_f32(const float *x, size_t count, double low, double high, uint8_t *out,
                                         pipe_error *err);
/** The inverse: low + byte / 255 (high - low). */
PIPE_API void pipe_bytes_to_f32(const uint8_t *x, size_t count, double low, double high, float *out);

/* ---- sound ---- */
/** Reads a WAV file as F32 [frames, channels], full scale = 1. */
PIPE_API pipe_status pipe_wav_read(const char *path, pipe_array **out, uint32_t *rate, pipe_error *err);
/** Writes F32 [frames] or [frames, channels] as 32-bit float WAV (values are not clipped).
 *  @param rate  frames per second, 1 to 768,000 */
PIPE_API pipe_status pipe_wav_write(const char *path, const pipe_array *sound, uint32_t rate,
                                    pipe_error *err);

#ifdef __cplusplus
}
#endif
#endif
