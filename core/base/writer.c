/* Atomic writing.
 *
 * The temporary is ".NAME.PID-N.tmp" in the target's folder (rename does not
 * cross file systems).  Its writer holds an flock on it, so that
 * pipei_remove_leftovers() can tell a dead process's file from a living one's;
 * process ids alone cannot, since they are reused and not shared by containers. */
#include "core/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER = 64 * 1024, NAME_KEPT = 180 };

struct pipei_writer {
    char *path, *temporary;
    int fd;
    int failed;                     /* errno of the first failure, 0 so far */
    uint64_t size;
    size_t used;
    unsigned char buffer[BUFFER];
};

static void dispose(pipei_writer *w)
{
    if (w->fd >= 0)
        close(w->fd);
    pipe_free(w->path);
    pipe_free(w->temporary);
    pipe_free(w);
}

/* Opens and locks a fresh temporary.  A cleaner may lock it in the instant before
 * we do, and delete it: then its link count is 0 and another one is made. */
static pipe_status open_temporary(pipei_writer *w, pipe_error *err)
{
    static atomic_uint counter;
    PIPE_CLEANUP(pipe_free_ptr) char *folder = pipei_path_folder(w->path);
    const char *name = pipei_path_name(w->path);
    for (int attempt = 0; attempt < 1000; attempt++) {
        PIPE_CLEANUP(pipe_free_ptr) char *file =
            pipe_format(".%.*s.%ld-%u.tmp", NAME_KEPT, name, (long)getpid(), atomic_fetch_add(&counter, 1));
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, file);
        const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 && errno == EEXIST)
            continue;
        if (fd < 0)
            return pipei_fail_errno(err, errno, "%s: cannot be written", w->path);
        struct stat info;
        flock(fd, LOCK_EX);
        if (fstat(fd, &info) == 0 && info.st_nlink > 0) {
            w->fd = fd;
            w->temporary = path;
            path = NULL;
            return PIPE_OK;
        }
        close(fd);
    }
    return pipe_fail(err, PIPE_EEXIST, "%s: no free name for a temporary file in %s", w->path, folder);
}

pipe_status pipei_writer_open(const char *path, pipei_writer **out, pipe_error *err)
{
    struct stat info;
    if (!*path)
        return pipe_fail(err, PIPE_EINVAL, "a file's name is empty");
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))   /* a rename would replace /dev/null */
        return pipe_fail(err, PIPE_EEXIST, "%s: is a %s, not a regular file", path,
                         S_ISDIR(info.st_mode) ? "folder" : "device or pipe");
    pipei_writer *w = pipe_alloc(sizeof *w);
    w->fd = -1;
    w->path = pipe_strdup(path);
    const pipe_status status = open_temporary(w, err);
    if (status != PIPE_OK) {
        dispose(w);
        return status;
    }
    *out = w;
    return PIPE_OK;
}

static void write_out(pipei_writer *w, const unsigned char *data, size_t n)
{
    if (!w->failed && !pipei_fd_write(w->fd, data, n))
        w->failed = errno;
}

void pipei_writer_put(pipei_writer *w, const void *data, size_t n)
{
    if (w->failed || n == 0)
        return;
    w->size += n;
    if (n > BUFFER - w->used) {
        write_out(w, w->buffer, w->used);
        w->used = 0;
    }
    if (n >= BUFFER) {
        write_out(w, data, n);
        return;
    }
    memcpy(w->buffer + w->used, data, n);
    w->used += n;
}

void pipei_writer_putf(pipei_writer *w, const char *fmt, ...)
{
    char text[1024];
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    const int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n >= (int)sizeof text) {
        PIPE_CLEANUP(pipe_free_ptr) char *large = pipe_alloc((size_t)n + 1);
        vsnprintf(large, (size_t)n + 1, fmt, again);
        pipei_writer_put(w, large, (size_t)n);
    } else if (n > 0) {
        pipei_writer_put(w, text, (size_t)n);
    }
    va_end(again);
}

bool pipei_writer_failed(const pipei_writer *w)
{
    return w->failed != 0;
}

uint64_t pipei_writer_size(const pipei_writer *w)
{
    return w->size;
}

/* Each flush waits for the disk: several times what a small run takes otherwise. */
static bool flushed_later(const char *path)
{
    return strstr(path, ".partial/") != NULL;
}

pipe_status pipei_writer_commit(pipei_writer *w, pipe_error *err)
{
    const bool later = flushed_later(w->path);

    write_out(w, w->buffer, w->used);
    if (!w->failed && !later && fsync(w->fd) < 0)
        w->failed = errno;
    if (!w->failed && rename(w->temporary, w->path) < 0)
        w->failed = errno;
    if (w->failed) {
        const pipe_status status = pipei_fail_errno(err, w->failed, "%s: cannot be written", w->path);
        pipei_writer_abort(w);
        return status;
    }
    PIPE_CLEANUP(pipe_free_ptr) char *folder = pipei_path_folder(w->path);
    dispose(w);
    return later ? PIPE_OK : pipei_sync_folder(folder, err);
}

void pipei_writer_abort(pipei_writer *w)
{
    if (!w)
        return;
    unlink(w->temporary);
    dispose(w);
}

void pipei_writer_cleanup(pipei_writer **w)
{
    pipei_writer_abort(*w);
    *w = NULL;
}

pipe_status pipei_file_write(const char *path, const void *data, size_t n, pipe_error *err)
{
    pipei_writer *w;
    PIPE_TRY(pipei_writer_open(path, &w, err));
    pipei_writer_put(w, data, n);
    return pipei_writer_commit(w, err);
}

/* ".NAME.PID-N.tmp" */
static bool is_temporary(const char *name)
{
    const size_t n = strlen(name);
    if (name[0] != '.' || n < 8 || strcmp(name + n - 4, ".tmp") != 0)
        return false;
    size_t end = n - 4, start = end;
    while (start > 0 && name[start - 1] >= '0' && name[start - 1] <= '9')
        start--;
    if (start == end || start < 2 || name[start - 1] != '-')
        return false;
    end = --start;
    while (start > 0 && name[start - 1] >= '0' && name[start - 1] <= '9')
        start--;
    return start < end && start > 1 && name[start - 1] == '.';
}

pipe_status pipei_remove_leftovers(const char *folder, pipe_error *err)
{
    PIPE_CLEANUP(pipei_listing_free) pipei_listing list = {0};
    if (!pipei_path_exists(folder))
        return PIPE_OK;
    PIPE_TRY(pipei_list_folder(folder, &list, err));
    for (size_t k = 0; k < list.count; k++) {
        if (list.entries[k].is_folder || !is_temporary(list.entries[k].name))
            continue;
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, list.entries[k].name);
        const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
            continue;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            unlink(path);
        close(fd);
    }
    return PIPE_OK;
}
