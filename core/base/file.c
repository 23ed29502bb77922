/* Reading files, folders, paths and locks; writing is in writer.c. */
#include "core/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static pipe_status status_of_errno(int code)
{
    switch (code) {
    case ENOENT: return PIPE_ENOTFOUND;
    case EEXIST: return PIPE_EEXIST;
    case ENOMEM: return PIPE_ENOMEM;
    default: return PIPE_EIO;
    }
}

static const char *advice(int code)
{
    switch (code) {
    case ENOSPC: return "; free some space or choose a folder on another disk";
    case EDQUOT: return "; the disk quota is used up";
    case EFBIG: return "; the limit of this process or file system is below what must be written";
    case EROFS: return "; choose a folder on a writable file system";
    default: return "";
    }
}

pipe_status pipei_fail_errno(pipe_error *err, int code, const char *fmt, ...)
{
    char what[1536], reason[128];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    const char *text = strerror_r(code, reason, sizeof reason);   /* GNU: returns the text */
    return pipe_fail(err, status_of_errno(code), "%s: %s%s", what, text, advice(code));
}

/* ---- reading, and descriptors ---- */

bool pipei_fd_write(int fd, const void *data, size_t n)
{
    for (const char *at = data; n;) {
        const ssize_t done = write(fd, at, n);
        if (done < 0 && errno != EINTR)
            return false;
        if (done > 0) {
            at += done;
            n -= (size_t)done;
        }
    }
    return true;
}

pipe_status pipei_fd_read(int fd, const char *name, size_t limit, char **data, size_t *size, pipe_error *err)
{
    struct stat info;
    size_t capacity = 64 * 1024, used = 0;

    if (fstat(fd, &info) < 0)
        return pipei_fail_errno(err, errno, "%s", name);
    if (S_ISDIR(info.st_mode))
        return pipe_fail(err, PIPE_EIO, "%s: is a folder, not a file", name);
    if (S_ISREG(info.st_mode) && info.st_size > 0) {
        if ((uint64_t)info.st_size > limit)
            return pipe_fail(err, PIPE_EFORMAT, "%s: %lld bytes are above the limit of %zu", name,
                             (long long)info.st_size, limit);
        capacity = (size_t)info.st_size + 1;      /* one more: so that the end is seen at once */
    }
    PIPE_CLEANUP(pipe_free_ptr) char *buffer = malloc(capacity + 1);
    if (!buffer)
        return pipe_fail(err, PIPE_ENOMEM, "%s: no memory for %zu bytes", name, capacity);
    for (;;) {
        if (used == capacity) {
            capacity *= 2;
            char *grown = realloc(buffer, capacity + 1);
            if (!grown)
                return pipe_fail(err, PIPE_ENOMEM, "%s: no memory for %zu bytes", name, capacity);
            buffer = grown;
        }
        const ssize_t n = read(fd, buffer + used, capacity - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return pipei_fail_errno(err, errno, "%s", name);
        if (n == 0)
            break;
        used += (size_t)n;
        if (used > limit)
            return pipe_fail(err, PIPE_EFORMAT, "%s: longer than the limit of %zu bytes", name, limit);
    }
    buffer[used] = '\0';
    *data = buffer;
    *size = used;
    buffer = NULL;
    return PIPE_OK;
}

pipe_status pipei_file_read(const char *path, size_t limit, char **data, size_t *size, pipe_error *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return pipei_fail_errno(err, errno, "%s", path);
    const pipe_status status = pipei_fd_read(fd, path, limit, data, size, err);
    close(fd);
    return status;
}

pipe_status pipei_map_open(const char *path, pipei_map *out, pipe_error *err)
{
    struct stat info;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return pipei_fail_errno(err, errno, "%s", path);
    pipe_status status = PIPE_OK;
    pipei_map map = {0};
    if (fstat(fd, &info) < 0) {
        status = pipei_fail_errno(err, errno, "%s", path);
    } else if (!S_ISREG(info.st_mode)) {
        status = pipe_fail(err, PIPE_EIO, "%s: is not a regular file", path);
    } else if (info.st_size > 0) {
        map.size = (size_t)info.st_size;
        void *p = mmap(NULL, map.size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            status = pipei_fail_errno(err, errno, "%s: cannot be mapped", path);
        else
            map.data = p;
    }
    close(fd);
    if (status == PIPE_OK)
        *out = map;
    return status;
}

void pipei_map_close(pipei_map *m)
{
    if (m->data)
        munmap((void *)(uintptr_t)m->data, m->size);
    *m = (pipei_map){0};
}

/* ---- folders ---- */

bool pipei_path_exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

bool pipei_is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

pipe_status pipei_make_folders(const char *path, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *copy = pipe_strdup(path);
    if (!*copy)
        return pipe_fail(err, PIPE_EINVAL, "a folder's name is empty");
    for (char *p = copy + 1;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        const char end = *p;
        *p = '\0';
        if (mkdir(copy, 0777) < 0 && !pipei_is_folder(copy)) {
            const int code = errno;               /* EEXIST here: something that is no folder */
            return code == EEXIST ? pipe_fail(err, PIPE_EEXIST, "%s: exists and is not a folder", copy)
                                  : pipei_fail_errno(err, code, "%s: cannot make this folder", copy);
        }
        if (end == '\0')
            return PIPE_OK;
        *p = end;
    }
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info;
    (void)type;
    (void)where;
    return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

pipe_status pipei_remove_tree(const char *path, pipe_error *err)
{
    if (nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS) < 0 && errno != ENOENT)
        return pipei_fail_errno(err, errno, "%s: cannot be removed", path);
    return PIPE_OK;
}

pipe_status pipei_sync_folder(const char *path, pipe_error *err)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return pipei_fail_errno(err, errno, "%s", path);
    /* Some file systems (9p, some FUSE) cannot flush a folder: EINVAL is no loss of data. */
    const int bad = fsync(fd) < 0 && errno != EINVAL && errno != ENOTSUP ? errno : 0;
    close(fd);
    return bad ? pipei_fail_errno(err, bad, "%s: cannot be flushed", path) : PIPE_OK;
}

pipe_status pipei_rename(const char *from, const char *to, pipe_error *err)
{
    if (rename(from, to) < 0)
        return pipei_fail_errno(err, errno, "%s: cannot be renamed to %s", from, to);
    PIPE_CLEANUP(pipe_free_ptr) char *folder = pipei_path_folder(to);
    return pipei_sync_folder(folder, err);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const pipei_entry *)a)->name, ((const pipei_entry *)b)->name);
}

static bool entry_is_folder(DIR *folder, const struct dirent *e)
{
    struct stat info;
    if (e->d_type != DT_UNKNOWN)
        return e->d_type == DT_DIR;
    return fstatat(dirfd(folder), e->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode);
}

pipe_status pipei_list_folder(const char *path, pipei_listing *out, pipe_error *err)
{
    PIPE_CLEANUP(pipei_listing_free) pipei_listing list = {0};
    size_t capacity = 0;
    DIR *folder = opendir(path);
    if (!folder)
        return pipei_fail_errno(err, errno, "%s", path);
    int code = 0;
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(folder);
        if (!e) {
            code = errno;
            break;
        }
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (list.count == capacity) {
            capacity = capacity ? capacity * 2 : 16;
            list.entries = pipe_realloc(list.entries, capacity * sizeof list.entries[0]);
        }
        list.entries[list.count++] = (pipei_entry){pipe_strdup(e->d_name), entry_is_folder(folder, e)};
    }
    closedir(folder);
    if (code)
        return pipei_fail_errno(err, code, "%s", path);
    if (list.count)
        qsort(list.entries, list.count, sizeof list.entries[0], by_name);
    *out = list;
    list = (pipei_listing){0};
    return PIPE_OK;
}

void pipei_listing_free(pipei_listing *l)
{
    for (size_t k = 0; k < l->count; k++)
        pipe_free(l->entries[k].name);
    pipe_free(l->entries);
    *l = (pipei_listing){0};
}

/* ---- paths ---- */

char *pipei_path_join(const char *folder, const char *name)
{
    if (!folder || !*folder || name[0] == '/')
        return pipe_strdup(name);
    const size_t n = strlen(folder);
    return pipe_format("%s%s%s", folder, folder[n - 1] == '/' ? "" : "/", name);
}

char *pipei_cache_folder(void)
{
    const char *own = getenv("PIPE_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");

    if (own && *own)
        return pipe_strdup(own);
    if (xdg && *xdg == '/')
        return pipei_path_join(xdg, "pipe");
    return home && *home == '/' ? pipei_path_join(home, ".cache/pipe") : NULL;
}

char *pipei_path_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return pipe_strdup(".");
    if (slash == path)
        return pipe_strdup("/");
    return pipe_format("%.*s", (int)(slash - path), path);
}

const char *pipei_path_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

const char *pipei_path_extension(const char *path)
{
    const char *name = pipei_path_name(path), *dot = strrchr(name, '.');
    return dot && dot != name ? dot + 1 : "";
}

/* ---- locks ---- */

pipe_status pipei_lock(const char *path, bool exclusive, bool wait, int *fd, pipe_error *err)
{
    const int f = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (f < 0)
        return pipei_fail_errno(err, errno, "%s", path);
    const int operation = (exclusive ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB);
    int result;
    do
        result = flock(f, operation);
    while (result < 0 && errno == EINTR && wait);
    if (result < 0) {
        const int code = errno;
        close(f);
        if (code == EWOULDBLOCK)
            return pipe_fail(err, PIPE_EEXIST, "%s: another process holds this lock", path);
        return pipei_fail_errno(err, code, "%s: cannot be locked", path);
    }
    *fd = f;
    return PIPE_OK;
}

void pipei_unlock(int fd)
{
    if (fd >= 0)
        close(fd);
}
