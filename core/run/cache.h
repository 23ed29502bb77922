/* The cache of step results.  Internal to core/run.
 *
 *     ROOT/steps/KEY/            result.json and the files that it lists: complete, never changed
 *     ROOT/steps/KEY.partial/    being written by the holder of KEY's lock
 *     ROOT/checkpoints/KEY/      of a step that has not finished
 *     ROOT/locks/KEY             flock: exclusive while the step runs or is removed, shared while it is read
 *     ROOT/files/HASH.json       content hashes of input files, remembered by size, times and inode
 *     ROOT/index/HASH.json       what each pipeline's nodes were when it last ran: for "why is it stale"
 *
 * ROOT is $PIPE_CACHE_DIR, else $XDG_CACHE_HOME/pipe, else ~/.cache/pipe. */
#ifndef PIPE_CORE_CACHE_H
#define PIPE_CORE_CACHE_H

#include "core/base/file.h"
#include <jansson.h>

typedef struct pipei_cache {
    char *root, *steps, *checkpoints, *locks, *files, *index;
} pipei_cache;

/* Makes the folders and removes what dead processes left. */
PIPE_INTERNAL pipe_status pipei_cache_open(pipei_cache **out, pipe_error *err);
PIPE_INTERNAL void pipei_cache_close(pipei_cache *c);                          /* NULL is fine */
void pipei_cache_close_ptr(pipei_cache **c);                     /* for PIPE_CLEANUP */
char *pipei_cache_entry(const pipei_cache *c, const char *key);  /* its folder; owned by the caller */

/* Taken by another process and !wait: PIPE_EEXIST.  Release with pipei_unlock(). */
PIPE_INTERNAL pipe_status pipei_cache_lock(const pipei_cache *c, const char *key, bool exclusive, bool wait,
                                           int *fd, pipe_error *err);

/* Is there a result?  *result: its description, owned by the caller.  A damaged
 * entry is PIPE_EFORMAT with the reason, none at all PIPE_ENOTFOUND.  Sizes are
 * checked; contents when they are used: pipei_cache_check(). */
pipe_status pipei_cache_find(const pipei_cache *c, const char *key, json_t **result, pipe_error *err);
/* Path of a file of the entry, after its content was compared with its hash. */
pipe_status pipei_cache_check(const pipei_cache *c, const char *key, const json_t *result, const char *file,
                              char **path, pipe_error *err);
/* Marks it as used now: pipei_cache_gc() keeps what was used last. */
void pipei_cache_touch(const pipei_cache *c, const char *key);

/* With the exclusive lock: an empty folder to put files in; then either commit,
 * which adds their sizes and hashes to `result`, or drop. */
pipe_status pipei_cache_begin(const pipei_cache *c, const char *key, char **folder, pipe_error *err);
pipe_status pipei_cache_commit(const pipei_cache *c, const char *key, json_t *result, pipe_error *err);
/* Removes the entry and what is being written; with the exclusive lock. */
pipe_status pipei_cache_drop(const pipei_cache *c, const char *key, pipe_error *err);

/* SHA-256 of a file's content, or of a folder's names and contents. */
pipe_status pipei_cache_file_hash(const pipei_cache *c, const char *path, char hex[65], pipe_error *err);

#endif
