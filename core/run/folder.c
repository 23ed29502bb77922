/* Run folders and the files in them. */
#include "core/run/folder.h"
#include "core/run/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

char *pipei_safe_name(const char *name)
{
    char *safe = pipe_strdup(*name ? name : "pipeline");

    for (char *p = safe; *p; p++) {
        const bool fine = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
                          *p == '_' || *p == '-' || (*p == '.' && p > safe);
        if (!fine)
            *p = '-';
    }
    return safe;
}

/* ---- files ---- */

static pipe_status make_parent(const char *path, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *folder = pipei_path_folder(path);

    return pipei_make_folders(folder, err);
}

pipe_status pipei_copy_file(const char *from, const char *to, pipe_error *err)
{
    PIPE_CLEANUP(pipei_map_close) pipei_map map = {0};

    PIPE_TRY(make_parent(to, err));
    PIPE_TRY(pipei_map_open(from, &map, err));
    return pipei_file_write(to, map.data, map.size, err);
}

pipe_status pipei_link_file(const char *from, const char *to, pipe_error *err)
{
    PIPE_TRY(make_parent(to, err));
    if (unlink(to) < 0 && errno != ENOENT)
        return pipei_fail_errno(err, errno, "%s: cannot be replaced", to);
    return link(from, to) == 0 ? PIPE_OK : pipei_copy_file(from, to, err);
}

static pipe_status sync_file(const char *path, pipe_error *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return errno == ELOOP ? PIPE_OK : pipei_fail_errno(err, errno, "%s", path);   /* a link has no data */
    const int failed = fsync(fd) < 0 && errno != EINVAL ? errno : 0;
    close(fd);
    return failed ? pipei_fail_errno(err, failed, "%s: cannot be flushed", path) : PIPE_OK;
}

pipe_status pipei_sync_tree(const char *path, pipe_error *err)
{
    PIPE_CLEANUP(pipei_listing_free) pipei_listing list = {0};

    PIPE_TRY(pipei_list_folder(path, &list, err));
    for (size_t k = 0; k < list.count; k++) {
        PIPE_CLEANUP(pipe_free_ptr) char *entry = pipei_path_join(path, list.entries[k].name);
        PIPE_TRY(list.entries[k].is_folder ? pipei_sync_tree(entry, err) : sync_file(entry, err));
    }
    return pipei_sync_folder(path, err);
}

/* ---- folders ---- */

/* The lock is on the folder itself: it moves with a rename and leaves no file behind.
 * < 0: somebody holds it, or it is no folder. */
static int lock_folder(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

bool pipei_folder_in_use(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return false;
    const bool used = flock(fd, LOCK_SH | LOCK_NB) < 0;
    close(fd);
    return used;
}

static bool ended(const char *folder)
{
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "manifest.json");
    PIPE_CLEANUP(pipei_json_free) json_t *manifest = NULL;

    if (pipei_json_read(path, &manifest, NULL) != PIPE_OK)
        return false;
    const char *state = pipei_json_text(manifest, "state");
    return state && strcmp(state, "running") != 0;
}

pipe_status pipei_folder_clean(const char *parent, pipe_error *err)
{
    PIPE_CLEANUP(pipei_listing_free) pipei_listing list = {0};

    if (!pipei_is_folder(parent))
        return PIPE_OK;
    PIPE_TRY(pipei_remove_leftovers(parent, err));
    PIPE_TRY(pipei_list_folder(parent, &list, err));
    for (size_t k = 0; k < list.count; k++) {
        if (!list.entries[k].is_folder || strcmp(pipei_path_extension(list.entries[k].name), "partial") != 0)
            continue;
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(parent, list.entries[k].name);
        const int fd = lock_folder(path);
        if (fd < 0)
            continue;
        pipe_error reason = PIPE_ERROR_INIT;
        if (!ended(path) && pipei_remove_tree(path, &reason) != PIPE_OK)
            pipe_log(PIPE_LOG_WARN, "run", "%s", reason.message);
        close(fd);
    }
    return PIPE_OK;
}

/* Makes and locks `final`.partial; *taken: a living run has it. */
static pipe_status make_partial(const char *final, pipei_folder *out, bool *taken, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *partial = pipe_format("%s.partial", final);

    *taken = false;
    for (int attempt = 0; attempt < 100; attempt++) {
        if (mkdir(partial, 0777) < 0) {
            if (errno != EEXIST)
                return pipei_fail_errno(err, errno, "%s: the run folder cannot be made", partial);
            const int old = lock_folder(partial);
            if (old < 0) {
                *taken = true;
                return PIPE_OK;
            }
            const pipe_status status = pipei_remove_tree(partial, err);     /* of a run that is over */
            close(old);
            PIPE_TRY(status);
            continue;
        }
        struct stat info;
        const int fd = lock_folder(partial);
        if (fd >= 0 && fstat(fd, &info) == 0 && info.st_nlink > 0) {
            *out = (pipei_folder){.partial = partial, .final = pipe_strdup(final), .lock = fd};
            partial = NULL;
            return PIPE_OK;
        }
        if (fd >= 0)                        /* a cleaner was faster than our lock */
            close(fd);
    }
    return pipe_fail(err, PIPE_EIO, "%s: the run folder cannot be made: it is removed again and again",
                     partial);
}

pipe_status pipei_folder_new(const char *root, const char *pipeline, const char *hash, pipei_folder *out,
                             pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *name = pipei_safe_name(pipeline);
    PIPE_CLEANUP(pipe_free_ptr) char *parent = pipei_path_join(root, name);
    const time_t now = time(NULL);
    struct tm utc;
    char stamp[24] = "";

    const pipe_status status = pipei_make_folders(parent, err);
    if (status != PIPE_OK)
        return pipe_context_fail(err, status, "the run folder cannot be made (choose another with --output)");
    PIPE_TRY(pipei_folder_clean(parent, err));
    if (gmtime_r(&now, &utc))
        strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &utc);
    for (unsigned attempt = 0; attempt < 1000; attempt++) {
        char hex[65];
        bool taken;
        PIPE_CLEANUP(pipe_free_ptr) char *mix = pipe_format("%s %ld %u", hash, (long)getpid(), attempt);
        pipe_sha256 *h = pipe_sha256_new();
        pipe_sha256_add_string(h, mix);
        pipe_sha256_finish(h, hex);
        PIPE_CLEANUP(pipe_free_ptr) char *final = pipe_format("%s/%s-%.6s", parent, stamp, hex);
        if (pipei_path_exists(final))
            continue;
        PIPE_TRY(make_partial(final, out, &taken, err));
        if (!taken) {
            out->latest = true;
            return PIPE_OK;
        }
    }
    return pipe_fail(err, PIPE_EEXIST, "%s: no free name for a run folder", parent);
}

static bool is_empty(const char *path)
{
    PIPE_CLEANUP(pipei_listing_free) pipei_listing list = {0};

    return pipei_list_folder(path, &list, NULL) == PIPE_OK && list.count == 0;
}

pipe_status pipei_folder_at(const char *path, pipei_folder *out, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *final = pipe_strdup(path);
    bool taken;

    const pipe_status status = make_parent(final, err);
    if (status != PIPE_OK)
        return pipe_context_fail(err, status, "the run folder cannot be made (choose another with --output)");
    PIPE_TRY(make_partial(final, out, &taken, err));
    if (taken)
        return pipe_fail(err, PIPE_EEXIST, "%s.partial: another run is writing there", final);
    out->replace = true;
    return PIPE_OK;
}

static pipe_status move_latest(const char *final, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *parent = pipei_path_folder(final);
    PIPE_CLEANUP(pipe_free_ptr) char *link = pipei_path_join(parent, "latest");
    PIPE_CLEANUP(pipe_free_ptr) char *temporary = pipe_format("%s/.latest.%ld-0.tmp", parent, (long)getpid());

    unlink(temporary);
    if (symlink(pipei_path_name(final), temporary) < 0)
        return errno == EPERM ? PIPE_OK       /* a file system without links */
                              : pipei_fail_errno(err, errno, "%s", link);
    if (rename(temporary, link) < 0) {
        const int code = errno;
        unlink(temporary);
        return pipei_fail_errno(err, code, "%s", link);
    }
    return PIPE_OK;
}

pipe_status pipei_folder_complete(pipei_folder *f, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *old = NULL;

    PIPE_TRY(pipei_sync_tree(f->partial, err));
    if (f->replace && pipei_path_exists(f->final) && !is_empty(f->final)) {
        old = pipe_format("%s.%ld.old", f->final, (long)getpid());
        PIPE_TRY(pipei_rename(f->final, old, err));
    }
    PIPE_TRY(pipei_rename(f->partial, f->final, err));
    if (old)
        PIPE_TRY(pipei_remove_tree(old, err));
    return f->latest ? move_latest(f->final, err) : PIPE_OK;
}

void pipei_folder_close(pipei_folder *f)
{
    if (f->partial)
        close(f->lock);
    pipe_free(f->partial);
    pipe_free(f->final);
    *f = (pipei_folder){0};
}
