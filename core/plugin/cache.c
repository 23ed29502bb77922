/* The file that remembers what scans found out:
 *
 *     8 bytes   "PIPEREG" and the version of this format
 *     u64       pipe_hash64 of everything behind it
 *     the engine: version, ABI, size of the descriptor, stamp of the library
 *     u32       number of records, then the records
 *
 * One file per library (an installed one and that of a build tree do not overwrite
 * each other's), in the user's cache folder.  Anything that does not fit is an empty
 * cache: it is only ever a shortcut. */
#include "core/plugin/scan.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char magic[8] = {'P', 'I', 'P', 'E', 'R', 'E', 'G', '1'};
enum { MAX_FILE = 64 * 1024 * 1024, MAX_RECORDS = 10000 };

struct pipei_scan_cache {
    char *path; /* NULL: there is no cache folder */
    char *data; /* the file; the records point into it */
    pipei_record *records; /* by path */
    size_t n;
};

char *pipei_library_path(void)
{
    Dl_info info;
    char *real;
    if (!dladdr((void *)(uintptr_t)pipei_library_path, &info) || !info.dli_fname)
        return NULL;
    real = realpath(info.dli_fname, NULL);
    return real;
}

static char *cache_path(void)
{
    PIPE_CLEANUP(pipe_free_ptr) char *folder = pipei_cache_folder(), *library = pipei_library_path();
    if (!folder)
        return NULL;
    const uint64_t id = library ? pipe_hash64(library, strlen(library), 0) : 0;
    PIPE_CLEANUP(pipe_free_ptr) char *name = pipe_format("plugins-%016" PRIx64 ".bin", id);
    return pipei_path_join(folder, name);
}

/* What the records are only good for: this very engine. */
static void put_engine(pipe_text *t)
{
    struct stat info;
    PIPE_CLEANUP(pipe_free_ptr) char *library = pipei_library_path();
    pipei_stamp stamp = {0};
    if (library && stat(library, &info) == 0)
        stamp = pipei_stamp_of(&info);
    pipei_put_string(t, pipe_version());
    pipei_put_u32(t, PIPE_ABI_MAJOR << 16 | PIPE_ABI_MINOR);
    pipei_put_u32(t, sizeof(pipe_plugin));
    pipei_put_u64(t, stamp.size);
    pipei_put_u64(t, (uint64_t)stamp.seconds);
    pipei_put_u32(t, stamp.nanoseconds);
}

static void put_record(pipe_text *t, const pipei_record *r)
{
    pipei_put_string(t, r->path);
    pipei_put_u64(t, r->stamp.size);
    pipei_put_u64(t, (uint64_t)r->stamp.seconds);
    pipei_put_u32(t, r->stamp.nanoseconds);
    pipei_put_u32(t, (uint32_t)r->found);
    pipei_put_u64(t, r->links);
    pipei_put_string(t, r->reason);
    pipei_put_string(t, r->sha256);
    pipei_put_bytes(t, r->blob ? r->blob : "", r->blob_size);
}

static bool get_record(pipei_bytes *b, pipei_record *r)
{
    *r = (pipei_record){.path = pipei_get_string(b)};
    r->stamp.size = pipei_get_u64(b);
    r->stamp.seconds = (int64_t)pipei_get_u64(b);
    r->stamp.nanoseconds = pipei_get_u32(b);
    r->found = (pipei_found)pipei_get_u32(b);
    r->links = pipei_get_u64(b);
    r->reason = pipei_get_string(b);
    r->sha256 = pipei_get_string(b);
    r->blob = pipei_get_bytes(b, &r->blob_size);
    if (b->bad || !r->path)
        return false;
    switch (r->found) {
    case PIPEI_FOUND_PLUGIN: return r->sha256 && r->blob_size;
    case PIPEI_FOUND_LIBRARY: return true;
    case PIPEI_FOUND_BROKEN: return r->reason;
    }
    return false;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const pipei_record *)a)->path, ((const pipei_record *)b)->path);
}

/* What does not hold together is dropped as a whole. */
static const char *parse(pipei_scan_cache *c, size_t size)
{
    uint64_t sum;
    pipei_bytes b = {.at = (const unsigned char *)c->data, .left = size};
    PIPE_CLEANUP(pipe_text_free) pipe_text engine = {0};

    if (size < sizeof magic + sizeof sum || memcmp(c->data, magic, sizeof magic) != 0)
        return "it is of another format";
    b.at += sizeof magic;
    b.left -= sizeof magic;
    sum = pipei_get_u64(&b);
    if (sum != pipe_hash64(b.at, b.left, 0))
        return "it is damaged";
    put_engine(&engine);
    if (b.left < engine.length || memcmp(b.at, engine.data, engine.length) != 0)
        return "it was written by another engine";
    b.at += engine.length;
    b.left -= engine.length;
    const uint32_t n = pipei_get_u32(&b);
    if (n > MAX_RECORDS)
        return "it is damaged";
    c->records = pipe_alloc_array((size_t)n + 1, sizeof *c->records);
    for (uint32_t k = 0; k < n; k++) {
        if (!get_record(&b, &c->records[k]) || (k && by_path(&c->records[k - 1], &c->records[k]) >= 0))
            return "it is damaged";
    }
    c->n = n;
    return b.left ? "it is damaged" : NULL;
}

pipei_scan_cache *pipei_scan_cache_open(void)
{
    pipei_scan_cache *c = pipe_alloc(sizeof *c);
    pipe_error err = PIPE_ERROR_INIT;
    size_t size = 0;

    c->path = cache_path();
    if (!c->path)
        return c;
    const pipe_status status = pipei_file_read(c->path, MAX_FILE, &c->data, &size, &err);
    if (status != PIPE_OK) {
        if (status != PIPE_ENOTFOUND)
            pipe_log(PIPE_LOG_DEBUG, "plugins", "the cache of plugins is not used: %s", err.message);
        return c;
    }
    const char *why = parse(c, size);
    if (why) {
        pipe_log(PIPE_LOG_DEBUG, "plugins", "%s is not used: %s", c->path, why);
        c->n = 0;
    }
    return c;
}

void pipei_scan_cache_close(pipei_scan_cache *c)
{
    if (!c)
        return;
    pipe_free(c->path);
    pipe_free(c->data);
    pipe_free(c->records);
    pipe_free(c);
}

const pipei_record *pipei_scan_cache_find(const pipei_scan_cache *c, const char *path)
{
    const pipei_record key = {.path = path};
    return c->n ? bsearch(&key, c->records, c->n, sizeof key, by_path) : NULL;
}

/* Old records of files outside this run's folders: other runs have other folders. */
static bool still_holds(const pipei_record *r)
{
    struct stat info;
    return stat(r->path, &info) == 0 && pipei_stamp_equal(pipei_stamp_of(&info), r->stamp);
}

static bool has_path(const pipei_record *records, size_t n, const char *path)
{
    for (size_t k = 0; k < n; k++)
        if (strcmp(records[k].path, path) == 0)
            return true;
    return false;
}

static void write_file(const pipei_scan_cache *c, const pipei_record *records, size_t n)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text body = {0}, file = {0};
    PIPE_CLEANUP(pipe_free_ptr) char *folder = pipei_path_folder(c->path);
    pipe_error err = PIPE_ERROR_INIT;

    put_engine(&body);
    pipei_put_u32(&body, (uint32_t)n);
    for (size_t k = 0; k < n; k++)
        put_record(&body, &records[k]);
    pipe_text_add_bytes(&file, magic, sizeof magic);
    pipei_put_u64(&file, pipe_hash64(body.data, body.length, 0));
    pipe_text_add_bytes(&file, body.data, body.length);
    pipe_status status = pipei_make_folders(folder, &err);
    if (status == PIPE_OK)
        status = pipei_file_write(c->path, file.data, file.length, &err);
    if (status != PIPE_OK)
        pipe_log(PIPE_LOG_DEBUG, "plugins", "the cache of plugins is not written: %s", err.message);
}

void pipei_scan_cache_save(pipei_scan_cache *c, const pipei_record *fresh, size_t n)
{
    if (!c->path)
        return;
    PIPE_CLEANUP(pipe_free_ptr) pipei_record *all = pipe_alloc_array(c->n + n + 1, sizeof *all);
    size_t count = 0;
    for (size_t k = 0; k < n; k++)
        if (!fresh[k].transient)
            all[count++] = fresh[k];
    for (size_t k = 0; k < c->n && count < MAX_RECORDS; k++)
        if (!has_path(fresh, n, c->records[k].path) && still_holds(&c->records[k]))
            all[count++] = c->records[k];
    if (count > MAX_RECORDS)
        count = MAX_RECORDS;
    qsort(all, count, sizeof *all, by_path);
    write_file(c, all, count);
}

pipe_status pipei_registry_forget(pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *path = cache_path();
    return path ? pipei_remove_tree(path, err) : PIPE_OK;
}
