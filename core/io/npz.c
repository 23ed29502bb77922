/* NumPy's .npz: a ZIP archive of .npy files, by libzip. */
#include "core/base/file.h"
#include "core/io/formats.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

static const uint64_t default_limit = UINT64_C(8) << 30;
enum { MEMBERS_MAX = 10000 };

struct pipe_npz {
    char **names;
    pipe_array **arrays;
    size_t count;
};

static void discard(zip_t **z)
{
    if (*z)
        zip_discard(*z);
}

static void close_member(zip_file_t **f)
{
    if (*f)
        zip_fclose(*f);
}

static pipe_status zip_failure(const char *name, zip_error_t *reason, const char *doing, pipe_error *err)
{
    const pipe_status status = zip_error_code_zip(reason) == ZIP_ER_MEMORY ? PIPE_ENOMEM : PIPE_EFORMAT;
    pipe_fail(err, status, "%s: %s: %s", name, doing, zip_error_strerror(reason));
    zip_error_fini(reason);
    return status;
}

static pipe_status open_archive(const char *name, const void *bytes, size_t n, zip_t **out, pipe_error *err)
{
    zip_error_t reason;
    char text[16];
    if (n < 4 || (memcmp(bytes, "PK\x03\x04", 4) != 0 && memcmp(bytes, "PK\x05\x06", 4) != 0))
        return pipe_fail(err, PIPE_EFORMAT, "%s: not a .npz (ZIP) file: begins with %s, expected 50 4b 03 04",
                         name, pipei_bytes_text(bytes, n < 4 ? n : 4, text, sizeof text));
    zip_error_init(&reason);
    zip_source_t *source = zip_source_buffer_create(bytes, n, 0, &reason);
    if (!source)
        return zip_failure(name, &reason, "ZIP", err);
    *out = zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &reason);
    if (!*out) {
        zip_source_free(source);
        return zip_failure(name, &reason, "damaged ZIP archive", err);
    }
    return PIPE_OK;
}

/* Inflates one member; the size that the directory claims is checked against
 * `limit` before it is believed, and the checksum by libzip at the end. */
static pipe_status inflate_member(zip_t *z, zip_uint64_t index, const zip_stat_t *info, const char *name,
                                  uint64_t limit, char **data, size_t *size, pipe_error *err)
{
    if (info->encryption_method != ZIP_EM_NONE ||
        (info->comp_method != ZIP_CM_STORE && info->comp_method != ZIP_CM_DEFLATE))
        return pipe_fail(err, PIPE_EUNSUPPORTED, "%s: encrypted or compressed by something else than deflate",
                         name);
    if (info->size > limit)
        return pipe_fail(err, PIPE_EFORMAT,
                         "%s: inflates to %" PRIu64 " bytes, above what is left of the limit: %"
                         PRIu64, name, (uint64_t)info->size, limit);
    /* Deflate expands at most 1032 times: a larger claim is a lie, not a reason to allocate. */
    if (info->size / 1032 > info->comp_size)
        return pipe_fail(err, PIPE_EFORMAT, "%s: damaged: %" PRIu64 " bytes cannot come out of %" PRIu64,
                         name, (uint64_t)info->size, (uint64_t)info->comp_size);
    PIPE_CLEANUP(pipe_free_ptr) char *buffer = pipe_try_alloc((size_t)info->size + 1);
    if (!buffer)
        return pipe_fail(err, PIPE_ENOMEM, "%s: no memory for %" PRIu64 " bytes", name, (uint64_t)info->size);
    PIPE_CLEANUP(close_member) zip_file_t *f = zip_fopen_index(z, index, 0);
    if (!f)
        return pipe_fail(err, PIPE_EFORMAT, "%s: %s", name, zip_strerror(z));
    uint64_t done = 0;
    for (;;) {     /* one byte more than there should be: so the end, and the checksum, are reached */
        const zip_int64_t got = zip_fread(f, buffer + done, info->size + 1 - done);
        if (got < 0)
            return pipe_fail(err, PIPE_EFORMAT, "%s: damaged: %s", name, zip_file_strerror(f));
        done += (uint64_t)got;
        if (got == 0 || done > info->size)
            break;
    }
    if (done != info->size)
        return pipe_fail(err, PIPE_EFORMAT,
                         "%s: damaged: inflates to other than the %" PRIu64 " bytes announced", name,
                         (uint64_t)info->size);
    *data = buffer;
    *size = (size_t)done;
    buffer = NULL;
    return PIPE_OK;
}

static pipe_status add_member(pipe_npz *out, const char *file, zip_t *z, zip_uint64_t index, uint64_t *limit,
                              pipe_error *err)
{
    zip_stat_t info;
    const zip_uint64_t needed = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD |
                                ZIP_STAT_ENCRYPTION_METHOD;
    if (zip_stat_index(z, index, 0, &info) < 0 || (info.valid & needed) != needed)
        return pipe_fail(err, PIPE_EFORMAT, "%s: member %" PRIu64 ": %s", file, (uint64_t)index,
                         zip_strerror(z));
    const size_t length = strlen(info.name);
    if (length < 5 || strcmp(info.name + length - 4, ".npy") != 0)
        return PIPE_OK;
    PIPE_CLEANUP(pipe_free_ptr) char *where = pipe_format("%s[%.*s]", file, (int)length - 4, info.name);
    PIPE_CLEANUP(pipe_free_ptr) char *data = NULL;
    PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
    size_t size = 0;
    PIPE_TRY(inflate_member(z, index, &info, where, *limit, &data, &size, err));
    *limit -= size;
    PIPE_TRY(pipei_npy_parse(where, data, size, &a, err));
    PIPE_CLEANUP(pipe_free_ptr) char *name = pipe_format("%.*s", (int)length - 4, info.name);
    if (pipe_npz_find(out, name))
        return pipe_fail(err, PIPE_EFORMAT, "%s: two members are called \"%s\"", file, info.name);
    out->names[out->count] = name;
    out->arrays[out->count++] = a;
    name = NULL;
    a = NULL;
    return PIPE_OK;
}

pipe_status pipei_npz_parse(const char *name, const void *bytes, size_t n, uint64_t limit, pipe_npz **out,
                            pipe_error *err)
{
    PIPE_CLEANUP(discard) zip_t *z = NULL;
    PIPE_CLEANUP(pipe_npz_free_ptr) pipe_npz *result = pipe_alloc(sizeof *result);
    if (limit == 0)
        limit = default_limit;
    PIPE_TRY(open_archive(name, bytes, n, &z, err));
    const zip_int64_t members = zip_get_num_entries(z, 0);
    if (members < 0 || members > MEMBERS_MAX)
        return pipe_fail(err, PIPE_EFORMAT, "%s: %" PRId64 " members are above the maximum %d", name,
                         (int64_t)members, MEMBERS_MAX);
    result->names = pipe_alloc_array((size_t)members, sizeof result->names[0]);
    result->arrays = pipe_alloc_array((size_t)members, sizeof result->arrays[0]);
    for (zip_int64_t k = 0; k < members; k++)
        PIPE_TRY(add_member(result, name, z, (zip_uint64_t)k, &limit, err));
    *out = result;
    result = NULL;
    return PIPE_OK;
}

pipe_status pipe_npz_read(const char *path, uint64_t limit, pipe_npz **out, pipe_error *err)
{
    PIPE_CLEANUP(pipei_map_close) pipei_map map = {0};
    PIPE_TRY(pipei_map_open(path, &map, err));
    return pipei_npz_parse(path, map.data, map.size, limit, out, err);
}

void pipe_npz_free(pipe_npz *z)
{
    if (!z)
        return;
    for (size_t k = 0; k < z->count; k++) {
        pipe_free(z->names[k]);
        pipe_array_free(z->arrays[k]);
    }
    pipe_free(z->names);
    pipe_free(z->arrays);
    pipe_free(z);
}

void pipe_npz_free_ptr(pipe_npz **z)
{
    pipe_npz_free(*z);
    *z = NULL;
}

size_t pipe_npz_count(const pipe_npz *z)
{
    return z->count;
}

const char *pipe_npz_name(const pipe_npz *z, size_t k)
{
    return k < z->count ? z->names[k] : NULL;
}

const pipe_array *pipe_npz_at(const pipe_npz *z, size_t k)
{
    return k < z->count ? z->arrays[k] : NULL;
}

const pipe_array *pipe_npz_find(const pipe_npz *z, const char *name)
{
    for (size_t k = 0; k < z->count; k++)
        if (strcmp(z->names[k], name) == 0)
            return z->arrays[k];
    return NULL;
}

/* ---- writing: the archive is made in memory, then written as every other file ---- */

static void free_source(zip_source_t **s)
{
    if (*s)
        zip_source_free(*s);
}

static pipe_status add_array(zip_t *z, const char *path, const char *name, const pipe_array *a, bool deflate,
                             pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text head = {0};
    PIPE_CLEANUP(pipe_free_ptr) char *file = pipe_format("%s.npy", name);
    PIPE_TRY(pipei_array_check(a, name, err));
    PIPE_TRY(pipei_npy_header(a, &head, err));
    char *both = malloc(head.length + a->bytes);    /* libzip frees it with free() */
    if (!both)
        return pipe_fail(err, PIPE_ENOMEM, "%s: no memory for %zu bytes", path, head.length + a->bytes);
    memcpy(both, head.data, head.length);
    if (a->bytes)
        memcpy(both + head.length, a->data, a->bytes);
    zip_source_t *source = zip_source_buffer(z, both, head.length + a->bytes, 1);
    if (!source) {
        free(both);
        return pipe_fail(err, PIPE_ENOMEM, "%s: %s", path, zip_strerror(z));
    }
    const zip_int64_t index = zip_file_add(z, file, source, ZIP_FL_ENC_UTF_8);
    if (index < 0) {
        zip_source_free(source);
        return pipe_fail(err, PIPE_EINVAL, "%s: \"%s\": %s", path, name, zip_strerror(z));
    }
    /* 1980-01-01, as NumPy writes it: equal arrays give equal files. */
    if (zip_set_file_compression(z, (zip_uint64_t)index, deflate ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0) < 0 ||
        zip_file_set_dostime(z, (zip_uint64_t)index, 0, 0x21, 0) < 0)
        return pipe_fail(err, PIPE_EINVAL, "%s: \"%s\": %s", path, name, zip_strerror(z));
    return PIPE_OK;
}

static pipe_status copy_source(zip_source_t *source, const char *path, pipe_error *err)
{
    PIPE_CLEANUP(pipei_writer_cleanup) pipei_writer *w = NULL;
    char chunk[16384];
    zip_int64_t got;
    PIPE_TRY(pipei_writer_open(path, &w, err));
    if (zip_source_open(source) < 0)
        return pipe_fail(err, PIPE_EIO, "%s: %s", path, zip_error_strerror(zip_source_error(source)));
    while ((got = zip_source_read(source, chunk, sizeof chunk)) > 0)
        pipei_writer_put(w, chunk, (size_t)got);
    zip_source_close(source);
    if (got < 0)
        return pipe_fail(err, PIPE_EIO, "%s: %s", path, zip_error_strerror(zip_source_error(source)));
    pipei_writer *done = w;
    w = NULL;
    return pipei_writer_commit(done, err);
}

pipe_status pipe_npz_write(const char *path, const char *const *names, const pipe_array *arrays, size_t n,
                           bool deflate, pipe_error *err)
{
    PIPE_CLEANUP(free_source) zip_source_t *source = NULL;
    PIPE_CLEANUP(discard) zip_t *z = NULL;
    zip_error_t reason;

    if (n == 0)
        return pipe_fail(err, PIPE_EINVAL, "%s: a .npz needs at least one array", path);
    zip_error_init(&reason);
    source = zip_source_buffer_create(NULL, 0, 0, &reason);
    if (!source)
        return zip_failure(path, &reason, "ZIP", err);
    zip_source_keep(source);                        /* zip_close() lets go of one of the two */
    z = zip_open_from_source(source, ZIP_TRUNCATE, &reason);
    if (!z) {
        zip_source_free(source);
        return zip_failure(path, &reason, "ZIP", err);
    }
    for (size_t k = 0; k < n; k++) {
        if (!names[k] || !*names[k])
            return pipe_fail(err, PIPE_EINVAL, "%s: array %zu has no name", path, k);
        PIPE_TRY(add_array(z, path, names[k], &arrays[k], deflate, err));
    }
    if (zip_close(z) < 0)
        return pipe_fail(err, PIPE_EIO, "%s: %s", path, zip_strerror(z));
    z = NULL;
    return copy_source(source, path, err);
}
