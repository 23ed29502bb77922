/* Reading safetensors: u64 little-endian N, N bytes of JSON, data to the end.
 *
 * The checks are those of the reference library (safetensors/src/tensor.rs):
 * N at most 100,000,000 and inside the file; a JSON object of known dtypes,
 * whole numbers and unique keys; sorted by their offsets, the tensors tile the
 * data without hole or overlap; each one's bytes are those of its shape. */
#include "core/io/safetensors.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const pipe_element all[] = {
    PIPE_ELEMENT_BOOL, PIPE_ELEMENT_U8, PIPE_ELEMENT_I8, PIPE_ELEMENT_U16, PIPE_ELEMENT_I16, PIPE_ELEMENT_U32,
    PIPE_ELEMENT_I32, PIPE_ELEMENT_U64, PIPE_ELEMENT_I64, PIPE_ELEMENT_F16, PIPE_ELEMENT_BF16,
    PIPE_ELEMENT_F32, PIPE_ELEMENT_F64, PIPE_ELEMENT_F8_E5M2, PIPE_ELEMENT_F8_E4M3, PIPE_ELEMENT_F8_E5M2FNUZ,
    PIPE_ELEMENT_F8_E4M3FNUZ, PIPE_ELEMENT_F8_E8M0, PIPE_ELEMENT_F4, PIPE_ELEMENT_F6_E2M3,
    PIPE_ELEMENT_F6_E3M2, PIPE_ELEMENT_C64,
};

typedef struct range {
    uint64_t begin, end;
    const char *name;
} range;

static void drop_json(json_t **j)
{
    json_decref(*j);
}

/* A member of an entry that must be a whole number >= 0. */
static bool whole(const json_t *j, uint64_t *out)
{
    if (!json_is_integer(j) || json_integer_value(j) < 0)
        return false;
    *out = (uint64_t)json_integer_value(j);
    return true;
}

static pipe_status parse_dtype(const char *file, const char *name, const json_t *j, pipe_element *out,
                               pipe_error *err)
{
    const char *text = json_string_value(j);
    for (size_t k = 0; text && k < sizeof all / sizeof all[0]; k++)
        if (strcmp(text, pipe_element_name(all[k])) == 0) {
            *out = all[k];
            return PIPE_OK;
        }
    return pipe_fail(err, PIPE_EFORMAT, "%s: \"%s\": dtype %s%s%s is unknown", file, name, text ? "\"" : "",
                     text ? text : "(not a string)", text ? "\"" : "");
}

static pipe_status parse_shape(const char *file, const char *name, const json_t *j, pipe_shape *out,
                               pipe_error *err)
{
    pipe_shape shape = {0};
    if (!json_is_array(j))
        return pipe_fail(err, PIPE_EFORMAT, "%s: \"%s\": shape is not a list", file, name);
    if (json_array_size(j) > PIPE_MAX_RANK)
        return pipe_fail(err, PIPE_EUNSUPPORTED, "%s: \"%s\": %zu dimensions, at most %d are read", file,
                         name, json_array_size(j), PIPE_MAX_RANK);
    shape.rank = (uint32_t)json_array_size(j);
    for (uint32_t k = 0; k < shape.rank; k++) {
        uint64_t d;
        if (!whole(json_array_get(j, k), &d))
            return pipe_fail(err, PIPE_EFORMAT, "%s: \"%s\": shape[%u] is not a whole number of 0 or more",
                             file, name, k);
        shape.dim[k] = (int64_t)d;
    }
    *out = shape;
    return PIPE_OK;
}

static pipe_status parse_entry(const char *file, const char *name, const json_t *j, const unsigned char *data,
                               uint64_t size, pipe_array *out, range *where, pipe_error *err)
{
    pipe_array a = {.size = sizeof a};
    if (!json_is_object(j))
        return pipe_fail(err, PIPE_EFORMAT, "%s: \"%s\": not an object of dtype, shape and data_offsets",
                         file, name);
    PIPE_TRY(parse_dtype(file, name, json_object_get(j, "dtype"), &a.element, err));
    PIPE_TRY(parse_shape(file, name, json_object_get(j, "shape"), &a.shape, err));
    if (json_object_size(j) != 3)
        return pipe_fail(err, PIPE_EFORMAT,
                         "%s: \"%s\": has other members than dtype, shape and data_offsets", file, name);
    const json_t *offsets = json_object_get(j, "data_offsets");
    if (json_array_size(offsets) != 2 || !whole(json_array_get(offsets, 0), &where->begin) ||
        !whole(json_array_get(offsets, 1), &where->end) || where->begin > where->end)
        return pipe_fail(err, PIPE_EFORMAT,
                         "%s: \"%s\": data_offsets are not two whole numbers, begin <= end", file, name);
    if (where->end > size)
        return pipe_fail(err, PIPE_EFORMAT,
                         "%s: truncated: \"%s\" ends at byte %" PRIu64 " of the data, %" PRIu64
                         " are there", file, name, where->end, size);
    size_t bytes;
    if (!pipei_array_bytes(a.element, &a.shape, &bytes))
        return pipe_fail(err, PIPE_EFORMAT,
                         "%s: \"%s\": its shape as %s overflows or does not fill whole bytes", file,
                         name, pipe_element_name(a.element));
    if (bytes != where->end - where->begin)
        return pipe_fail(err, PIPE_EFORMAT,
                         "%s: \"%s\": its shape as %s needs %zu bytes, data_offsets hold %" PRIu64,
                         file, name, pipe_element_name(a.element), bytes, where->end - where->begin);
    a.bytes = bytes;
    a.data = bytes ? data + where->begin : NULL;
    where->name = name;
    *out = a;
    return PIPE_OK;
}

static int by_offset(const void *a, const void *b)
{
    const range *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end != y->end ? (x->end < y->end ? -1 : 1) : 0;
}

static pipe_status check_tiling(const char *file, range *r, size_t n, uint64_t size, pipe_error *err)
{
    uint64_t at = 0;
    if (n)
        qsort(r, n, sizeof r[0], by_offset);
    for (size_t k = 0; k < n; at = r[k++].end)
        if (r[k].begin != at)
            return pipe_fail(err, PIPE_EFORMAT,
                             "%s: \"%s\" begins at byte %" PRIu64 " of the data, expected %" PRIu64
                             ": the arrays %s", file, r[k].name, r[k].begin, at,
                             r[k].begin < at ? "overlap" : "leave a hole");
    if (at != size)
        return pipe_fail(err, PIPE_EFORMAT,
                         "%s: %" PRIu64 " bytes of data are there, the arrays take %" PRIu64, file, size, at);
    return PIPE_OK;
}

static pipe_status add_metadata(pipe_safetensors *f, const char *file, json_t *j, pipe_error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(j))
        return pipe_fail(err, PIPE_EFORMAT, "%s: __metadata__ is not an object", file);
    f->metadata = pipe_alloc_array(json_object_size(j), sizeof f->metadata[0]);
    json_object_foreach(j, key, value) {
        if (!json_is_string(value))
            return pipe_fail(err, PIPE_EFORMAT, "%s: __metadata__: \"%s\" is not a string", file, key);
        f->metadata[f->metadata_count++] = (pipei_pair){pipe_strdup(key),
            pipe_strdup(json_string_value(value))};
    }
    return PIPE_OK;
}

/* The header's JSON as an object. */
static pipe_status load_header(const char *file, const unsigned char *p, size_t n, json_t **out,
                               uint64_t *start, pipe_error *err)
{
    uint64_t length = 0;
    json_error_t reason;
    if (n < 8)
        return pipe_fail(err, PIPE_EFORMAT,
                         "%s: truncated: a safetensors file has at least 8 bytes, this one %zu", file, n);
    for (int k = 8; k-- > 0; )
        length = length << 8 | p[k];
    if (length > PIPEI_SAFETENSORS_HEADER_MAX)
        return pipe_fail(err, PIPE_EFORMAT, "%s: not a safetensors file: a header of %" PRIu64
                         " bytes is above the maximum %d", file, length, PIPEI_SAFETENSORS_HEADER_MAX);
    if (length > n - 8)
        return pipe_fail(err, PIPE_EFORMAT, "%s: truncated: the header needs %" PRIu64 " bytes, %zu are left",
                         file, length, n - 8);
    json_t *root = json_loadb((const char *)p + 8, (size_t)length, JSON_REJECT_DUPLICATES, &reason);
    if (!root)
        return pipe_fail(err, PIPE_EFORMAT, "%s: header, byte %d: %s", file, reason.position, reason.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return pipe_fail(err, PIPE_EFORMAT, "%s: the header is not a JSON object", file);
    }
    *out = root;
    *start = 8 + length;
    return PIPE_OK;
}

pipe_status pipei_safetensors_add_file(pipe_safetensors *f, const char *file, const void *bytes, size_t n,
                                       bool metadata, pipe_error *err)
{
    PIPE_CLEANUP(drop_json) json_t *root = NULL;
    PIPE_CLEANUP(pipe_free_ptr) range *ranges = NULL;
    uint64_t start;
    const char *name;
    json_t *value;

    PIPE_TRY(load_header(file, bytes, n, &root, &start, err));
    const unsigned char *data = (const unsigned char *)bytes + start;
    const size_t most = json_object_size(root);
    size_t count = 0;
    ranges = pipe_alloc_array(most, sizeof ranges[0]);
    f->names = pipe_realloc(f->names, (f->count + most) * sizeof f->names[0]);
    f->arrays = pipe_realloc(f->arrays, (f->count + most) * sizeof f->arrays[0]);
    json_object_foreach(root, name, value) {
        if (strcmp(name, "__metadata__") == 0) {
            if (metadata)
                PIPE_TRY(add_metadata(f, file, value, err));
            continue;
        }
        PIPE_TRY(parse_entry(file, name, value, data, n - start, &f->arrays[f->count], &ranges[count++],
                             err));
        f->names[f->count++] = pipe_strdup(name);
    }
    return check_tiling(file, ranges, count, n - start, err);
}

typedef struct named {
    char *name;
    pipe_array array;
} named;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const named *)a)->name, ((const named *)b)->name);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const pipei_pair *)a)->key, ((const pipei_pair *)b)->key);
}

void pipei_safetensors_sort(pipe_safetensors *f)
{
    named *all_named = pipe_alloc_array(f->count, sizeof *all_named);
    for (size_t k = 0; k < f->count; k++)
        all_named[k] = (named){f->names[k], f->arrays[k]};
    if (f->count)
        qsort(all_named, f->count, sizeof *all_named, by_name);
    for (size_t k = 0; k < f->count; k++) {
        f->names[k] = all_named[k].name;
        f->arrays[k] = all_named[k].array;
    }
    pipe_free(all_named);
    if (f->metadata_count)
        qsort(f->metadata, f->metadata_count, sizeof f->metadata[0], by_key);
}

pipe_status pipei_safetensors_parse(const char *name, const void *bytes, size_t n, pipe_safetensors **out,
                                    pipe_error *err)
{
    PIPE_CLEANUP(pipe_safetensors_close_ptr) pipe_safetensors *f = pipe_alloc(sizeof *f);
    PIPE_TRY(pipei_safetensors_add_file(f, name, bytes, n, true, err));
    pipei_safetensors_sort(f);
    *out = f;
    f = NULL;
    return PIPE_OK;
}

pipe_status pipei_safetensors_map(pipe_safetensors *f, const char *path, bool metadata, pipe_error *err)
{
    pipei_map map;
    PIPE_TRY(pipei_map_open(path, &map, err));
    f->maps = pipe_realloc(f->maps, (f->map_count + 1) * sizeof f->maps[0]);
    f->maps[f->map_count++] = map;
    return pipei_safetensors_add_file(f, path, map.data, map.size, metadata, err);
}

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

pipe_status pipe_safetensors_open(const char *path, pipe_safetensors **out, pipe_error *err)
{
    PIPE_CLEANUP(pipe_safetensors_close_ptr) pipe_safetensors *f = pipe_alloc(sizeof *f);
    if (ends_with(path, ".index.json"))
        PIPE_TRY(pipei_safetensors_open_shards(f, path, err));
    else
        PIPE_TRY(pipei_safetensors_map(f, path, true, err));
    pipei_safetensors_sort(f);
    *out = f;
    f = NULL;
    return PIPE_OK;
}

void pipe_safetensors_close(pipe_safetensors *f)
{
    if (!f)
        return;
    for (size_t k = 0; k < f->count; k++)
        pipe_free(f->names[k]);
    for (size_t k = 0; k < f->metadata_count; k++) {
        pipe_free(f->metadata[k].key);
        pipe_free(f->metadata[k].value);
    }
    for (size_t k = 0; k < f->map_count; k++)
        pipei_map_close(&f->maps[k]);
    pipe_free(f->names);
    pipe_free(f->arrays);
    pipe_free(f->metadata);
    pipe_free(f->maps);
    pipe_free(f);
}

void pipe_safetensors_close_ptr(pipe_safetensors **f)
{
    pipe_safetensors_close(*f);
    *f = NULL;
}

size_t pipe_safetensors_count(const pipe_safetensors *f)
{
    return f->count;
}

const char *pipe_safetensors_name(const pipe_safetensors *f, size_t k)
{
    return k < f->count ? f->names[k] : NULL;
}

const pipe_array *pipe_safetensors_at(const pipe_safetensors *f, size_t k)
{
    return k < f->count ? &f->arrays[k] : NULL;
}

static int name_order(const void *key, const void *item)
{
    return strcmp(key, *(char *const *)item);
}

const pipe_array *pipe_safetensors_find(const pipe_safetensors *f, const char *name)
{
    char **found = f->count ? bsearch(name, f->names, f->count, sizeof f->names[0], name_order) : NULL;
    return found ? &f->arrays[found - f->names] : NULL;
}

const char *pipe_safetensors_metadata(const pipe_safetensors *f, const char *key)
{
    for (size_t k = 0; k < f->metadata_count; k++)
        if (strcmp(f->metadata[k].key, key) == 0)
            return f->metadata[k].value;
    return NULL;
}

bool pipe_safetensors_metadata_at(const pipe_safetensors *f, size_t k, const char **key, const char **value)
{
    if (k >= f->metadata_count)
        return false;
    *key = f->metadata[k].key;
    *value = f->metadata[k].value;
    return true;
}
