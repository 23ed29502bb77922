/* Run folders: NAME.partial while it runs, NAME once complete.  Internal to core/run. */
#ifndef PIPE_CORE_FOLDER_H
#define PIPE_CORE_FOLDER_H

#include "core/base/file.h"

typedef struct pipei_folder {
    char *partial;          /* where to write */
    char *final;            /* where it will be */
    int lock;               /* flock on the folder itself: held while the run lives */
    bool latest;            /* completing it moves the link `latest` beside it */
    bool replace;           /* a complete one of that name is replaced */
} pipei_folder;

/* ROOT/PIPELINE/YYYYmmdd-HHMMSS-HASH6; `hash`: hex digits that tell runs of one second apart. */
pipe_status pipei_folder_new(const char *root, const char *pipeline, const char *hash, pipei_folder *out,
                             pipe_error *err);
/* Exactly `path`; completing it replaces what is there. */
pipe_status pipei_folder_at(const char *path, pipei_folder *out, pipe_error *err);
/* Flushes everything to the disk, then the final name. */
pipe_status pipei_folder_complete(pipei_folder *f, pipe_error *err);
void pipei_folder_close(pipei_folder *f);      /* releases the lock; also for PIPE_CLEANUP */
/* Removes what killed runs left in `parent`: *.partial that nobody holds and whose
 * manifest does not say how it ended (a failed run stays to be looked at), and
 * temporary files. */
pipe_status pipei_folder_clean(const char *parent, pipe_error *err);
/* Does a living run hold it? */
bool pipei_folder_in_use(const char *path);
/* A name that is safe as a folder's: other characters than A-Z a-z 0-9 . _ - become '-'. */
char *pipei_safe_name(const char *name);

/* Copies atomically; makes the folder of `to`. */
pipe_status pipei_copy_file(const char *from, const char *to, pipe_error *err);
/* A hard link where the file system can, else a copy; replaces `to`. */
pipe_status pipei_link_file(const char *from, const char *to, pipe_error *err);
/* Flushes every file and folder below `path`. */
pipe_status pipei_sync_tree(const char *path, pipe_error *err);

#endif
