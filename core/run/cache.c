/* The cache of step results: entries, locks, remembered hashes. */
#include "core/run/cache.h"
#include "core/run/folder.h"
#include "core/run/json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { VERSION = 1 };           /* of result.json: others are computed again */

static void clean(const pipei_cache *c);

pipe_status pipei_cache_open(pipei_cache **out, pipe_error *err)
{
    PIPE_CLEANUP(pipei_cache_close_ptr) pipei_cache *c = pipe_alloc(sizeof *c);

    c->root = pipei_cache_folder();
    if (!c->root)
        c->root = pipe_strdup("/tmp/.cache/pipe");
    c->steps = pipei_path_join(c->root, "steps");
    c->checkpoints = pipei_path_join(c->root, "checkpoints");
    c->locks = pipei_path_join(c->root, "locks");
    c->files = pipei_path_join(c->root, "files");
    c->index = pipei_path_join(c->root, "index");
    const char *const folders[] = {c->steps, c->checkpoints, c->locks, c->files, c->index};
    for (size_t k = 0; k < sizeof folders / sizeof folders[0]; k++) {
        const pipe_status status = pipei_make_folders(folders[k], err);
        if (status != PIPE_OK)
            return pipe_context_fail(err, status,
                                     "the cache cannot be made (PIPE_CACHE_DIR names another place)");
    }
    clean(c);
    *out = c;
    c = NULL;
    return PIPE_OK;
}

void pipei_cache_close(pipei_cache *c)
{
    if (!c)
        return;
    pipe_free(c->root);
    pipe_free(c->steps);
    pipe_free(c->checkpoints);
    pipe_free(c->locks);
    pipe_free(c->files);
    pipe_free(c->index);
    pipe_free(c);
}

void pipei_cache_close_ptr(pipei_cache **c)
{
    pipei_cache_close(*c);
    *c = NULL;
}

char *pipei_cache_entry(const pipei_cache *c, const char *key)
{
    return pipei_path_join(c->steps, key);
}

static char *partial_entry(const pipei_cache *c, const char *key)
{
    return pipe_format("%s/%s.partial", c->steps, key);
}

/* A file that was deleted between our open and our lock is not the lock any more. */
pipe_status pipei_cache_lock(const pipei_cache *c, const char *key, bool exclusive, bool wait, int *fd,
                             pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(c->locks, key);

    for (;;) {
        struct stat info;
        int lock;
        PIPE_TRY(pipei_lock(path, exclusive, wait, &lock, err));
        if (fstat(lock, &info) == 0 && info.st_nlink > 0) {
            *fd = lock;
            return PIPE_OK;
        }
        pipei_unlock(lock);
    }
}

static void clean(const pipei_cache *c)
{
    const char *const folders[] = {c->files, c->index};
    PIPE_CLEANUP(pipei_listing_free) pipei_listing list = {0};
    pipe_error err = PIPE_ERROR_INIT;

    for (size_t k = 0; k < 2; k++)
        if (pipei_remove_leftovers(folders[k], &err) != PIPE_OK)
            pipe_log(PIPE_LOG_WARN, "cache", "%s", err.message);
    if (pipei_list_folder(c->steps, &list, &err) != PIPE_OK) {
        pipe_log(PIPE_LOG_WARN, "cache", "%s", err.message);
        return;
    }
    for (size_t k = 0; k < list.count; k++) {
        const char *name = list.entries[k].name;
        int lock;
        if (strcmp(pipei_path_extension(name), "partial") != 0)
            continue;
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(c->steps, name);
        PIPE_CLEANUP(pipe_free_ptr)
        char *key = pipe_format("%.*s", (int)(strlen(name) - strlen(".partial")), name);
        if (pipei_cache_lock(c, key, true, false, &lock, NULL) != PIPE_OK)
            continue;
        if (pipei_remove_tree(path, &err) != PIPE_OK)
            pipe_log(PIPE_LOG_WARN, "cache", "%s", err.message);
        pipei_unlock(lock);
    }
}

/* ---- entries ---- */

/* Over everything but "sum" itself, in a form that does not depend on the order of members. */
static void sum_of(const json_t *result, char hex[65])
{
    PIPE_CLEANUP(pipei_json_free) json_t *copy = json_copy((json_t *)(uintptr_t)result);
    json_object_del(copy, "sum");
    char *text = json_dumps(copy, JSON_COMPACT | JSON_SORT_KEYS);
    pipe_sha256 *h = pipe_sha256_new();

    pipe_sha256_add_string(h, text ? text : "");
    pipe_sha256_finish(h, hex);
    free(text);
}

static pipe_status check_sizes(const char *folder, const json_t *result, pipe_error *err)
{
    const json_t *files = json_object_get(result, "files");
    json_t *file;
    size_t k;

    if (!json_is_array(files))
        return pipe_fail(err, PIPE_EFORMAT, "%s: result.json lists no files", folder);
    json_array_foreach(files, k, file) {
        const char *name = pipei_json_text(file, "name");
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, name ? name : "?");
        struct stat info;
        if (!name || stat(path, &info) < 0)
            return pipe_fail(err, PIPE_EFORMAT, "%s: is missing", path);
        const json_int_t size = json_integer_value(json_object_get(file, "size"));
        if (info.st_size != size)
            return pipe_fail(err, PIPE_EFORMAT, "%s: has %lld bytes instead of %lld", path,
                             (long long)info.st_size, (long long)size);
    }
    return PIPE_OK;
}

pipe_status pipei_cache_find(const pipei_cache *c, const char *key, json_t **result, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *folder = pipei_cache_entry(c, key);
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "result.json");
    PIPE_CLEANUP(pipei_json_free) json_t *j = NULL;
    char sum[65];

    if (!pipei_path_exists(folder))
        return pipe_fail(err, PIPE_ENOTFOUND, "%s: no such result", key);
    const pipe_status status = pipei_json_read(path, &j, err);
    if (status != PIPE_OK)          /* an entry without a description is as damaged as one that is not JSON */
        return status == PIPE_ENOTFOUND ? pipe_fail(err, PIPE_EFORMAT, "%s: is missing", path) : status;
    if (json_integer_value(json_object_get(j, "version")) != VERSION)
        return pipe_fail(err, PIPE_EFORMAT, "%s: is of another version of this program", path);
    sum_of(j, sum);
    const char *written = pipei_json_text(j, "sum");
    if (!written || strcmp(written, sum) != 0)
        return pipe_fail(err, PIPE_EFORMAT, "%s: its content does not match its checksum", path);
    PIPE_TRY(check_sizes(folder, j, err));
    *result = j;
    j = NULL;
    return PIPE_OK;
}

pipe_status pipei_cache_check(const pipei_cache *c, const char *key, const json_t *result, const char *file,
                              char **path, pipe_error *err)
{
    const json_t *files = json_object_get(result, "files");
    PIPE_CLEANUP(pipe_free_ptr) char *folder = pipei_cache_entry(c, key);
    PIPE_CLEANUP(pipe_free_ptr) char *full = pipei_path_join(folder, file);
    json_t *entry;
    size_t k;

    json_array_foreach(files, k, entry) {
        const char *name = pipei_json_text(entry, "name"), *hash = pipei_json_text(entry, "sha256");
        char hex[65];
        if (!name || strcmp(name, file) != 0)
            continue;
        PIPE_TRY(pipe_sha256_file(full, hex, err));
        if (!hash || strcmp(hash, hex) != 0)
            return pipe_fail(err, PIPE_EFORMAT, "%s: its content does not match its checksum", full);
        *path = full;
        full = NULL;
        return PIPE_OK;
    }
    return pipe_fail(err, PIPE_EFORMAT, "%s: result.json does not list it", full);
}

void pipei_cache_touch(const pipei_cache *c, const char *key)
{
    PIPE_CLEANUP(pipe_free_ptr) char *folder = pipei_cache_entry(c, key);
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "result.json");

    utimensat(AT_FDCWD, path, NULL, 0);         /* a read-only cache only loses the order of use */
}

pipe_status pipei_cache_begin(const pipei_cache *c, const char *key, char **folder, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *path = partial_entry(c, key);

    PIPE_TRY(pipei_remove_tree(path, err));
    PIPE_TRY(pipei_make_folders(path, err));
    *folder = path;
    path = NULL;
    return PIPE_OK;
}

/* Entries are read-only: a run folder may hold hard links to them. */
static pipe_status describe_files(const char *folder, const char *inside, json_t *files, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *here = pipei_path_join(folder, inside);
    PIPE_CLEANUP(pipei_listing_free) pipei_listing list = {0};

    PIPE_TRY(pipei_list_folder(here, &list, err));
    for (size_t k = 0; k < list.count; k++) {
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(here, list.entries[k].name);
        PIPE_CLEANUP(pipe_free_ptr) char *name = pipei_path_join(inside, list.entries[k].name);
        struct stat info;
        char hex[65];
        if (list.entries[k].is_folder) {
            PIPE_TRY(describe_files(folder, name, files, err));
            continue;
        }
        PIPE_TRY(pipe_sha256_file(path, hex, err));
        if (stat(path, &info) < 0 || chmod(path, 0444) < 0)
            return pipei_fail_errno(err, errno, "%s", path);
        json_t *file = json_object();
        pipei_json_set_text(file, "name", name);
        json_object_set_new(file, "size", json_integer(info.st_size));
        json_object_set_new(file, "sha256", json_string(hex));
        json_array_append_new(files, file);
    }
    return PIPE_OK;
}

pipe_status pipei_cache_commit(const pipei_cache *c, const char *key, json_t *result, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *partial = partial_entry(c, key);
    PIPE_CLEANUP(pipe_free_ptr) char *final = pipei_cache_entry(c, key);
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(partial, "result.json");
    PIPE_CLEANUP(pipei_json_free) json_t *files = json_array();
    char sum[65];

    PIPE_TRY(describe_files(partial, "", files, err));
    json_object_set(result, "files", files);
    json_object_set_new(result, "version", json_integer(VERSION));
    sum_of(result, sum);
    json_object_set_new(result, "sum", json_string(sum));
    PIPE_TRY(pipei_json_write(path, result, err));
    PIPE_TRY(pipei_sync_tree(partial, err));
    PIPE_TRY(pipei_remove_tree(final, err));        /* a forced run replaces what was there */
    return pipei_rename(partial, final, err);
}

pipe_status pipei_cache_drop(const pipei_cache *c, const char *key, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *partial = partial_entry(c, key);
    PIPE_CLEANUP(pipe_free_ptr) char *final = pipei_cache_entry(c, key);

    PIPE_TRY(pipei_remove_tree(partial, err));
    return pipei_remove_tree(final, err);
}

/* ---- content hashes of input files ---- */

static json_int_t nanoseconds(struct timespec t)
{
    return (json_int_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static json_t *identity(const char *path, const struct stat *s)
{
    json_t *j = json_object();

    pipei_json_set_text(j, "path", path);
    json_object_set_new(j, "size", json_integer(s->st_size));
    json_object_set_new(j, "mtime", json_integer(nanoseconds(s->st_mtim)));
    json_object_set_new(j, "ctime", json_integer(nanoseconds(s->st_ctim)));
    json_object_set_new(j, "inode", json_integer((json_int_t)s->st_ino));
    json_object_set_new(j, "device", json_integer((json_int_t)s->st_dev));
    return j;
}

static bool same_identity(const json_t *remembered, const json_t *now)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)now, key, value)
        if (!json_equal(json_object_get(remembered, key), value))
            return false;
    return true;
}

/* A file changed within the clock's resolution keeps its times: what is younger
 * than this is hashed again next time. */
static bool settled(const struct stat *s)
{
    return (double)s->st_mtim.tv_sec + 2.0 < pipei_now();
}

static pipe_status hash_one(const pipei_cache *c, const char *path, const struct stat *s, char hex[65],
                            pipe_error *err)
{
    PIPE_CLEANUP(pipei_json_free) json_t *now = identity(path, s);
    PIPE_CLEANUP(pipei_json_free) json_t *remembered = NULL;
    char name[65];

    pipe_sha256 *h = pipe_sha256_new();
    pipe_sha256_add_string(h, path);
    pipe_sha256_finish(h, name);
    PIPE_CLEANUP(pipe_free_ptr) char *memory = pipe_format("%s/%.40s.json", c->files, name);
    if (pipei_json_read(memory, &remembered, NULL) == PIPE_OK && same_identity(remembered, now)) {
        const char *hash = pipei_json_text(remembered, "sha256");
        if (hash && strlen(hash) == 64) {
            memcpy(hex, hash, 65);
            return PIPE_OK;
        }
    }
    PIPE_TRY(pipe_sha256_file(path, hex, err));
    if (!settled(s))
        return PIPE_OK;
    pipe_error ignored = PIPE_ERROR_INIT;
    json_object_set_new(now, "sha256", json_string(hex));
    if (pipei_json_write(memory, now, &ignored) != PIPE_OK)     /* only costs the next run some time */
        pipe_log(PIPE_LOG_WARN, "cache", "%s", ignored.message);
    return PIPE_OK;
}

static pipe_status hash_folder(const pipei_cache *c, const char *path, unsigned depth, char hex[65],
                               pipe_error *err)
{
    PIPE_CLEANUP(pipei_listing_free) pipei_listing list = {0};

    if (depth > 32)
        return pipe_fail(err, PIPE_EFORMAT, "%s: more than 32 folders deep", path);
    PIPE_TRY(pipei_list_folder(path, &list, err));
    pipe_sha256 *h = pipe_sha256_new();
    pipe_status status = PIPE_OK;
    for (size_t k = 0; k < list.count && status == PIPE_OK; k++) {
        PIPE_CLEANUP(pipe_free_ptr) char *entry = pipei_path_join(path, list.entries[k].name);
        struct stat s;
        char part[65] = "";
        if (stat(entry, &s) < 0)
            status = pipei_fail_errno(err, errno, "%s", entry);
        else if (S_ISDIR(s.st_mode))
            status = hash_folder(c, entry, depth + 1, part, err);
        else if (S_ISREG(s.st_mode))
            status = hash_one(c, entry, &s, part, err);
        pipe_sha256_add_string(h, list.entries[k].name);
        pipe_sha256_add_string(h, part);
    }
    pipe_sha256_finish(h, hex);
    return status;
}

pipe_status pipei_cache_file_hash(const pipei_cache *c, const char *path, char hex[65], pipe_error *err)
{
    char *real = realpath(path, NULL);
    struct stat s;

    if (!real || stat(real, &s) < 0) {
        const int code = errno;
        free(real);
        return pipei_fail_errno(err, code, "%s", path);
    }
    const pipe_status status = S_ISDIR(s.st_mode) ? hash_folder(c, real, 0, hex, err)
                                                  : hash_one(c, real, &s, hex, err);
    free(real);
    return status;
}
