/* Files and folders: whole reads with a limit, atomic writes, locks.  Internal.
 * Every message names the path and the operating system's reason. */
#ifndef PIPE_CORE_FILE_H
#define PIPE_CORE_FILE_H

#include "core/base/internal.h"
#include <pipe/base.h>

/* Fills `err` from errno's value: the text, ": ", the reason.  ENOENT becomes
 * PIPE_ENOTFOUND, EEXIST PIPE_EEXIST, ENOMEM PIPE_ENOMEM, the rest PIPE_EIO;
 * a full disk, quota or size limit says what to do about it. */
PIPE_INTERNAL pipe_status pipei_fail_errno(pipe_error *err, int code, const char *fmt, ...) PIPE_PRINTF(3, 4);

/* ---- reading, and descriptors ---- */
/* Reads all of `path` (a pipe or device too) into fresh memory, with a NUL behind
 * the end that `size` does not count.  More than `limit` bytes: PIPE_EFORMAT. */
PIPE_INTERNAL pipe_status pipei_file_read(const char *path, size_t limit, char **data, size_t *size,
                                          pipe_error *err);
/* The same of an open descriptor (standard input); `name` is for messages. */
PIPE_INTERNAL pipe_status pipei_fd_read(int fd, const char *name, size_t limit, char **data, size_t *size,
                                        pipe_error *err);
/* Writes all to a descriptor; false: errno says why not. */
PIPE_INTERNAL bool pipei_fd_write(int fd, const void *data, size_t n);
/* Maps a regular file for reading; an empty one gives data NULL, size 0. */
typedef struct pipei_map {
    const unsigned char *data;
    size_t size;
} pipei_map;
PIPE_INTERNAL pipe_status pipei_map_open(const char *path, pipei_map *out, pipe_error *err);
PIPE_INTERNAL void pipei_map_close(pipei_map *m);       /* also for PIPE_CLEANUP */

/* ---- atomic writing ----
 * Bytes go to a temporary file beside `path`; commit flushes it to the disk,
 * renames it and flushes the folder.  Inside a folder NAME.partial nothing is flushed:
 * who completes the folder does it for all that is in it (pipei_sync_tree(), then
 * pipei_rename()).  Without a commit nothing is left behind.
 * Errors stick: the first one is reported by commit. */
typedef struct pipei_writer pipei_writer;
PIPE_INTERNAL pipe_status pipei_writer_open(const char *path, pipei_writer **out, pipe_error *err);
PIPE_INTERNAL void pipei_writer_put(pipei_writer *w, const void *data, size_t n);
PIPE_INTERNAL void pipei_writer_putf(pipei_writer *w, const char *fmt, ...) PIPE_PRINTF(2, 3);
PIPE_INTERNAL bool pipei_writer_failed(const pipei_writer *w);
PIPE_INTERNAL uint64_t pipei_writer_size(const pipei_writer *w);   /* bytes put so far */
/* Frees `w` whatever happens. */
PIPE_INTERNAL pipe_status pipei_writer_commit(pipei_writer *w, pipe_error *err);
PIPE_INTERNAL void pipei_writer_abort(pipei_writer *w);            /* NULL is fine */
PIPE_INTERNAL void pipei_writer_cleanup(pipei_writer **w);         /* for PIPE_CLEANUP: aborts */
/* All at once. */
PIPE_INTERNAL pipe_status pipei_file_write(const char *path, const void *data, size_t n, pipe_error *err);
/* Removes temporaries in `folder` that a killed process left; those of living
 * writers are locked and stay.  Not recursive.  A missing folder is fine. */
PIPE_INTERNAL pipe_status pipei_remove_leftovers(const char *folder, pipe_error *err);

/* ---- folders and paths ---- */
PIPE_INTERNAL bool pipei_path_exists(const char *path);
PIPE_INTERNAL bool pipei_is_folder(const char *path);
PIPE_INTERNAL pipe_status pipei_make_folders(const char *path, pipe_error *err);       /* mkdir -p */
/* absent: fine; links are not followed */
PIPE_INTERNAL pipe_status pipei_remove_tree(const char *path, pipe_error *err);
PIPE_INTERNAL pipe_status pipei_sync_folder(const char *path, pipe_error *err);
/* then flushes the folder */
PIPE_INTERNAL pipe_status pipei_rename(const char *from, const char *to, pipe_error *err);
/* "a/b" of "a" and "b"; `name` if that is absolute or `folder` is NULL or "".  Owned by the caller. */
PIPE_INTERNAL char *pipei_path_join(const char *folder, const char *name);
PIPE_INTERNAL char *pipei_path_folder(const char *path);       /* "." for a bare name; owned */
PIPE_INTERNAL const char *pipei_path_name(const char *path);   /* behind the last slash; borrowed */
PIPE_INTERNAL const char *pipei_path_extension(const char *path);   /* "png", or ""; borrowed */

/* $PIPE_CACHE_DIR, else $XDG_CACHE_HOME/pipe, else ~/.cache/pipe; NULL without any; owned. */
PIPE_INTERNAL char *pipei_cache_folder(void);

/* Names in a folder, sorted by byte, without "." and ".."; links are not followed
 * for `is_folder`. */
typedef struct pipei_entry {
    char *name;
    bool is_folder;
} pipei_entry;
typedef struct pipei_listing {
    pipei_entry *entries;
    size_t count;
} pipei_listing;
PIPE_INTERNAL pipe_status pipei_list_folder(const char *path, pipei_listing *out, pipe_error *err);
PIPE_INTERNAL void pipei_listing_free(pipei_listing *l);        /* also for PIPE_CLEANUP */

/* ---- locks: flock(2), released by the kernel when the process dies ----
 * Creates `path` if needed; never deletes it.  wait = false and taken by another:
 * PIPE_EEXIST.  `fd` is the lock: pipei_unlock() releases it. */
PIPE_INTERNAL pipe_status pipei_lock(const char *path, bool exclusive, bool wait, int *fd, pipe_error *err);
PIPE_INTERNAL void pipei_unlock(int fd);                         /* < 0 is fine */

#endif
