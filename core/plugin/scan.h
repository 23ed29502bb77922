/* The parts of the registry: what they say to each other.  Internal to core/plugin.
 *
 *   registry.c   search path, duplicates, lookup, opening
 *     scan.c     one child process per shared object: opens it, checks it, reports
 *       check.c  is this descriptor one that the engine can use?
 *       codec.c  descriptor <-> bytes: what the child reports and the cache holds
 *     elf.c      what can be known of a shared object without opening it
 *     cache.c    the file that remembers the reports
 */
#ifndef PIPE_CORE_SCAN_H
#define PIPE_CORE_SCAN_H

#include "core/base/file.h"
#include "core/plugin/registry.h"
#include <sys/stat.h>

/* What identifies the content of a file without reading it. */
typedef struct pipei_stamp {
    uint64_t size;
    int64_t seconds;             /* of the modification time */
    uint32_t nanoseconds;
} pipei_stamp;

static inline pipei_stamp pipei_stamp_of(const struct stat *info)
{
    return (pipei_stamp){(uint64_t)info->st_size, (int64_t)info->st_mtim.tv_sec,
                         (uint32_t)info->st_mtim.tv_nsec};
}
static inline bool pipei_stamp_equal(pipei_stamp a, pipei_stamp b)
{
    return a.size == b.size && a.seconds == b.seconds && a.nanoseconds == b.nanoseconds;
}

typedef enum pipei_found {
    PIPEI_FOUND_PLUGIN = 1,
    PIPEI_FOUND_LIBRARY,         /* no entry symbol: none of our business */
    PIPEI_FOUND_BROKEN           /* with the reason */
} pipei_found;

/* All that a scan finds out about one file. */
typedef struct pipei_record {
    const char *path;
    pipei_stamp stamp;
    pipei_found found;
    uint64_t links;              /* BROKEN: pipei_elf_links() when it was tried */
    const char *reason;          /* BROKEN */
    bool transient;              /* BROKEN: not to be remembered */
    const char *sha256;          /* PLUGIN */
    const void *blob;            /* PLUGIN: the encoded descriptor */
    size_t blob_size;
} pipei_record;

/* ---- scan.c ---- */
/* Opens `path` in a child process, whatever that does there, and fills all of
 * *out but path, stamp, links and sha256; its texts live in `a`. */
PIPE_INTERNAL void pipei_scan_file(const char *path, pipe_arena *a, pipei_record *out);

/* ---- check.c ---- */
/* The first thing that is wrong with a descriptor, for its author. */
PIPE_INTERNAL pipe_status pipei_plugin_check(const pipe_plugin *p, pipe_error *err);
PIPE_INTERNAL bool pipei_plugin_is_step(const pipe_plugin *p);            /* by its kind */
/* May a plugin of this kind be named so?  Also for `pipe new-plugin`. */
PIPE_INTERNAL pipe_status pipei_plugin_name_check(const char *name, const char *kind, pipe_error *err);

/* ---- codec.c ---- */
PIPE_INTERNAL void pipei_plugin_encode(const pipe_plugin *p, pipe_text *out);
/* The texts stay in `blob`, the tables come from `a`; the kind's common parameters
 * are appended to the plugin's own.  false: the bytes are not a descriptor. */
PIPE_INTERNAL bool pipei_plugin_decode(const void *blob, size_t size, pipe_arena *a, pipei_plugin *out);

/* ---- bytes: shared by the codec and the cache ---- */
PIPE_INTERNAL void pipei_put_u32(pipe_text *t, uint32_t v);
PIPE_INTERNAL void pipei_put_u64(pipe_text *t, uint64_t v);
PIPE_INTERNAL void pipei_put_string(pipe_text *t, const char *s);         /* NULL stays NULL */
PIPE_INTERNAL void pipei_put_bytes(pipe_text *t, const void *data, size_t n);
typedef struct pipei_bytes {
    const unsigned char *at;
    size_t left;
    bool bad;                    /* something did not fit: everything since is 0 or NULL */
} pipei_bytes;
PIPE_INTERNAL uint32_t pipei_get_u32(pipei_bytes *b);
PIPE_INTERNAL uint64_t pipei_get_u64(pipei_bytes *b);
PIPE_INTERNAL const char *pipei_get_string(pipei_bytes *b);               /* inside the buffer */
PIPE_INTERNAL const void *pipei_get_bytes(pipei_bytes *b, size_t *n);     /* inside the buffer */

/* ---- elf.c ---- */
typedef enum pipei_symbol { PIPEI_SYMBOL_ABSENT, PIPEI_SYMBOL_PRESENT, PIPEI_SYMBOL_UNKNOWN } pipei_symbol;
/* Does the file define this dynamic symbol?  UNKNOWN: not a shared object of this
 * machine, damaged, or stripped of its section table; only the loader can tell. */
PIPE_INTERNAL pipei_symbol pipei_elf_symbol(const char *path, const char *symbol);
/* A hash that changes when a library that `path` links to (directly or not)
 * appears, disappears or changes. */
PIPE_INTERNAL uint64_t pipei_elf_links(const char *path);

/* ---- cache.c ---- */
typedef struct pipei_scan_cache pipei_scan_cache;
/* Never fails: a missing, foreign or damaged file is an empty cache. */
PIPE_INTERNAL pipei_scan_cache *pipei_scan_cache_open(void);
PIPE_INTERNAL void pipei_scan_cache_close(pipei_scan_cache *c);
PIPE_INTERNAL const pipei_record *pipei_scan_cache_find(const pipei_scan_cache *c, const char *path);
/* Writes `fresh` and those old records of other files that still hold.  A folder
 * that cannot be written is a debug message. */
PIPE_INTERNAL void pipei_scan_cache_save(pipei_scan_cache *c, const pipei_record *fresh, size_t n);
/* Path of the shared object or program that holds the engine; NULL: unknown.  Owned by the caller. */
PIPE_INTERNAL char *pipei_library_path(void);

#endif
