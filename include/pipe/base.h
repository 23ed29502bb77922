/* Status codes, errors, logging, memory: what every other header stands on.
 *
 * Conventions of the whole API
 *   - A function that can fail returns pipe_status and fills a caller's
 *     pipe_error; outputs are written only on success.  Tensor operations
 *     return tensors instead: a failed one is "poisoned" with its first error,
 *     which pipe_check() reports.
 *   - `err` may be NULL where the caller wants the status alone.
 *   - Structs that cross the boundary begin with their size; they grow at the
 *     end only.
 *   - Unless a declaration says otherwise: pointers are borrowed for the call,
 *     strings are UTF-8, and a function may be called from the one thread that
 *     runs the pipeline.
 */
#ifndef PIPE_BASE_H
#define PIPE_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PIPE_API __attribute__((visibility("default")))
#define PIPE_EXPORT __attribute__((visibility("default")))
#define PIPE_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

typedef enum pipe_status {
    PIPE_OK = 0,
    PIPE_EINVAL,       /* an argument or parameter is outside what is allowed */
    PIPE_ENOMEM,       /* host or device memory ran out */
    PIPE_EIO,          /* the operating system refused to read or write */
    PIPE_EFORMAT,      /* a file is not what it claims to be */
    PIPE_ESHAPE,       /* shapes or dtypes do not fit together */
    PIPE_EDOMAIN,      /* mathematically undefined (eps at alpha = 0, NaN, Inf) */
    PIPE_EDEVICE,      /* OpenCL failed */
    PIPE_ENOTFOUND,    /* no such file, node, plugin, tensor */
    PIPE_EEXIST,       /* would overwrite */
    PIPE_EUNSUPPORTED, /* the plugin or device does not offer this */
    PIPE_EINTERRUPTED, /* a signal asked to stop; state was saved */
    PIPE_EPLUGIN,      /* a plugin broke its contract */
    PIPE_EPIPELINE     /* the pipeline is invalid: see the diagnostics */
} pipe_status;

/** A short name of a status: "shape", "format", ...  Static storage. */
PIPE_API const char *pipe_status_name(pipe_status status);

/** What went wrong, for a person.  Start it as PIPE_ERROR_INIT. */
typedef struct pipe_error {
    size_t size;
    pipe_status status;
    char message[2048];   /* one line or several; no trailing newline */
} pipe_error;

#define PIPE_ERROR_INIT {.size = sizeof(pipe_error)}

/** Fills `err` (which may be NULL) and returns `status`, so that one can
 *  write `return pipe_fail(err, PIPE_EIO, "%s: %s", path, reason);`. */
PIPE_API pipe_status pipe_fail(pipe_error *err, pipe_status status, const char *fmt, ...)
    PIPE_PRINTF(3, 4);
PIPE_API pipe_status pipe_vfail(pipe_error *err, pipe_status status, const char *fmt, va_list args)
    PIPE_PRINTF(3, 0);

/** Puts "text: " before the message of a failed call; returns its status. */
PIPE_API pipe_status pipe_context_fail(pipe_error *err, pipe_status status, const char *fmt, ...)
    PIPE_PRINTF(3, 4);

/** Passes a failure on to the caller. */
#define PIPE_TRY(call)                                  \
    do {                                                \
        pipe_status pipe_try_status_ = (call);          \
        if (pipe_try_status_ != PIPE_OK)                \
            return pipe_try_status_;                    \
    } while (0)

/** Frees a local when it goes out of scope: `PIPE_CLEANUP(pipe_free_ptr) char *s = ...;`
 *  The function is given the address of the variable, which counts as its use. */
#define PIPE_CLEANUP(fn) __attribute__((cleanup(fn), unused))

/* ---- memory ----
 * Host allocations of ordinary size do not return NULL: when the machine is
 * out of memory the process says so and ends (exit status 3).  Sizes that come
 * out of a file are checked by their readers first, and use pipe_try_alloc. */
PIPE_API void *pipe_alloc(size_t bytes);                 /* zeroed */
PIPE_API void *pipe_alloc_array(size_t count, size_t each);  /* zeroed; checks the product */
PIPE_API void *pipe_realloc(void *p, size_t bytes);
PIPE_API void *pipe_try_alloc(size_t bytes);             /* zeroed; NULL when it fails */
PIPE_API char *pipe_strdup(const char *s);               /* NULL gives NULL */
PIPE_API char *pipe_format(const char *fmt, ...) PIPE_PRINTF(1, 2);   /* owned by the caller */
PIPE_API void pipe_free(void *p);
/** For PIPE_CLEANUP: `p` is the address of any pointer. */
PIPE_API void pipe_free_ptr(void *p);

/** true when a*b (a+b) fits size_t; writes the result. */
static inline bool pipe_mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool pipe_add_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* ---- growing text ---- */
typedef struct pipe_text {
    char *data;       /* always terminated once something was added; may be NULL before */
    size_t length, capacity;
} pipe_text;

PIPE_API void pipe_text_add(pipe_text *t, const char *s);
PIPE_API void pipe_text_addf(pipe_text *t, const char *fmt, ...) PIPE_PRINTF(2, 3);
PIPE_API void pipe_text_add_bytes(pipe_text *t, const void *bytes, size_t n);
PIPE_API void pipe_text_clear(pipe_text *t);             /* keeps the memory */
PIPE_API void pipe_text_free(pipe_text *t);              /* also for PIPE_CLEANUP */

/* ---- an arena: many small pieces, freed at once ---- */
typedef struct pipe_arena pipe_arena;
PIPE_API pipe_arena *pipe_arena_new(void);
PIPE_API void *pipe_arena_alloc(pipe_arena *a, size_t bytes);   /* zeroed, aligned to 16 */
PIPE_API char *pipe_arena_strdup(pipe_arena *a, const char *s);
PIPE_API char *pipe_arena_strndup(pipe_arena *a, const char *s, size_t n);
PIPE_API char *pipe_arena_format(pipe_arena *a, const char *fmt, ...) PIPE_PRINTF(2, 3);
PIPE_API void pipe_arena_reset(pipe_arena *a);            /* keeps the blocks */
PIPE_API void pipe_arena_free(pipe_arena *a);

/* ---- log ----
 * Levels and PIPE_LOG=info,graph:debug; the prefix is the node (or the part of
 * the engine), never a source line.  Goes to stderr and, in a run, to log.txt.
 * Safe from any thread. */
typedef enum pipe_log_level {
    PIPE_LOG_ERROR, PIPE_LOG_WARN, PIPE_LOG_INFO, PIPE_LOG_DEBUG, PIPE_LOG_TRACE
} pipe_log_level;
PIPE_API void pipe_log(pipe_log_level level, const char *who, const char *fmt, ...)
    PIPE_PRINTF(3, 4);
PIPE_API bool pipe_log_enabled(pipe_log_level level, const char *who);

/** The nearest of `n` names to `word` by edit distance, or NULL when none is
 *  near enough to be what was meant. */
PIPE_API const char *pipe_nearest(const char *word, const char *const *names, size_t n);

/** Version of the library: "0.1.0". */
PIPE_API const char *pipe_version(void);

/* ---- SHA-256 (libcrypto), incremental ---- */
typedef struct pipe_sha256 pipe_sha256;
PIPE_API pipe_sha256 *pipe_sha256_new(void);
PIPE_API void pipe_sha256_add(pipe_sha256 *h, const void *data, size_t n);
/** Adds the length, then the bytes, so that ("ab","c") differs from ("a","bc"). */
PIPE_API void pipe_sha256_add_string(pipe_sha256 *h, const char *s);
/** Writes 64 hexadecimal digits and a NUL; frees `h`. */
PIPE_API void pipe_sha256_finish(pipe_sha256 *h, char hex[65]);
PIPE_API pipe_status pipe_sha256_file(const char *path, char hex[65], pipe_error *err);

/** 64-bit non-cryptographic hash for tables and random streams (FNV-1a, then mixed).
 *  Its values are part of the file formats: they never change. */
PIPE_API uint64_t pipe_hash64(const void *data, size_t n, uint64_t seed);

#ifdef __cplusplus
}
#endif
#endif
