/* Writing safetensors: one file or shards.
 *
 * The order is that of the reference library, wide elements first, then by name,
 * so that with the padded header every array is aligned to its element. */
#include "core/io/safetensors.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
    char *name;
    pipe_array array;
    bool owned;
} entry;

struct pipe_safetensors_writer {
    entry *entries;
    size_t count, capacity;
    pipei_pair *metadata;
    size_t metadata_count;
};

pipe_safetensors_writer *pipe_safetensors_writer_new(void)
{
    pipe_safetensors_writer *w = pipe_alloc(sizeof *w);
    pipe_safetensors_set(w, "format", "pt", NULL);
    return w;
}

static void free_data(const pipe_array *a)
{
    pipe_free((void *)(uintptr_t)a->data);
}

void pipe_safetensors_writer_free(pipe_safetensors_writer *w)
{
    if (!w)
        return;
    for (size_t k = 0; k < w->count; k++) {
        if (w->entries[k].owned)
            free_data(&w->entries[k].array);
        pipe_free(w->entries[k].name);
    }
    for (size_t k = 0; k < w->metadata_count; k++) {
        pipe_free(w->metadata[k].key);
        pipe_free(w->metadata[k].value);
    }
    pipe_free(w->entries);
    pipe_free(w->metadata);
    pipe_free(w);
}

void pipe_safetensors_writer_free_ptr(pipe_safetensors_writer **w)
{
    pipe_safetensors_writer_free(*w);
    *w = NULL;
}

static bool is_utf8(const char *s)
{
    json_t *j = json_string(s);       /* NULL for anything else */
    json_decref(j);
    return j != NULL;
}

static pipe_status add(pipe_safetensors_writer *w, const char *name, const pipe_array *a, bool owned,
                       pipe_error *err)
{
    if (!name || !*name || !is_utf8(name) || strcmp(name, "__metadata__") == 0)
        return pipe_fail(err, PIPE_EINVAL, "safetensors: \"%s\" cannot be the name of an array",
                         name ? name : "");
    PIPE_TRY(pipei_array_check(a, name, err));
    for (size_t k = 0; k < w->count; k++)
        if (strcmp(w->entries[k].name, name) == 0)
            return pipe_fail(err, PIPE_EINVAL, "safetensors: two arrays are called \"%s\"", name);
    if (w->count == w->capacity) {
        w->capacity = w->capacity ? 2 * w->capacity : 16;
        w->entries = pipe_realloc(w->entries, w->capacity * sizeof w->entries[0]);
    }
    w->entries[w->count++] = (entry){pipe_strdup(name), *a, owned};
    return PIPE_OK;
}

pipe_status pipe_safetensors_add(pipe_safetensors_writer *w, const char *name, const pipe_array *a,
                                 pipe_error *err)
{
    return add(w, name, a, false, err);
}

pipe_status pipe_safetensors_take(pipe_safetensors_writer *w, const char *name, const pipe_array *a,
                                  pipe_error *err)
{
    const pipe_status status = add(w, name, a, true, err);
    if (status != PIPE_OK && a)
        free_data(a);
    return status;
}

pipe_status pipe_safetensors_set(pipe_safetensors_writer *w, const char *key, const char *value,
                                 pipe_error *err)
{
    if (!key || !value || !is_utf8(key) || !is_utf8(value))
        return pipe_fail(err, PIPE_EINVAL, "safetensors: metadata must be two UTF-8 strings");
    for (size_t k = 0; k < w->metadata_count; k++)
        if (strcmp(w->metadata[k].key, key) == 0) {
            pipe_free(w->metadata[k].value);
            w->metadata[k].value = pipe_strdup(value);
            return PIPE_OK;
        }
    w->metadata = pipe_realloc(w->metadata, (w->metadata_count + 1) * sizeof w->metadata[0]);
    w->metadata[w->metadata_count++] = (pipei_pair){pipe_strdup(key), pipe_strdup(value)};
    return PIPE_OK;
}

static int file_order(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    const unsigned bx = pipe_element_bits(x->array.element), by = pipe_element_bits(y->array.element);
    if (bx != by)
        return bx > by ? -1 : 1;
    return strcmp(x->name, y->name);
}

static void add_quoted(pipe_text *t, const char *s)
{
    json_t *j = json_string(s);
    char *quoted = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL;
    pipe_text_add(t, quoted ? quoted : "\"\"");      /* only without memory; names were checked */
    free(quoted);
    json_decref(j);
}

static void add_header(const pipe_safetensors_writer *w, const entry *entries, size_t n, pipe_text *t)
{
    uint64_t at = 0;
    pipe_text_add(t, "{\"__metadata__\":{");
    for (size_t k = 0; k < w->metadata_count; k++) {
        pipe_text_add(t, k ? "," : "");
        add_quoted(t, w->metadata[k].key);
        pipe_text_add(t, ":");
        add_quoted(t, w->metadata[k].value);
    }
    pipe_text_add(t, "}");
    for (size_t k = 0; k < n; k++) {
        const pipe_array *a = &entries[k].array;
        pipe_text_add(t, ",");
        add_quoted(t, entries[k].name);
        pipe_text_addf(t, ":{\"dtype\":\"%s\",\"shape\":[", pipe_element_name(a->element));
        for (uint32_t i = 0; i < a->shape.rank; i++)
            pipe_text_addf(t, "%s%" PRId64, i ? "," : "", a->shape.dim[i]);
        pipe_text_addf(t, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + a->bytes);
        at += a->bytes;
    }
    pipe_text_add(t, "}");
    while (t->length % 8)
        pipe_text_add(t, " ");
}

static pipe_status write_entries(const pipe_safetensors_writer *w, const entry *entries, size_t n,
                                 const char *path, pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text head = {0};
    unsigned char length[8];
    pipei_writer *out;

    add_header(w, entries, n, &head);
    if (head.length > PIPEI_SAFETENSORS_HEADER_MAX)
        return pipe_fail(err, PIPE_EINVAL, "%s: a header of %zu bytes is above the maximum %d of safetensors",
                         path, head.length, PIPEI_SAFETENSORS_HEADER_MAX);
    for (int k = 0; k < 8; k++)
        length[k] = (unsigned char)((uint64_t)head.length >> (8 * k));
    PIPE_TRY(pipei_writer_open(path, &out, err));
    pipei_writer_put(out, length, sizeof length);
    pipei_writer_put(out, head.data, head.length);
    for (size_t k = 0; k < n; k++)
        pipei_writer_put(out, entries[k].array.data, entries[k].array.bytes);
    return pipei_writer_commit(out, err);
}

pipe_status pipe_safetensors_write(pipe_safetensors_writer *w, const char *path, pipe_error *err)
{
    if (w->count)
        qsort(w->entries, w->count, sizeof w->entries[0], file_order);
    return write_entries(w, w->entries, w->count, path, err);
}

/* First entry behind the shard that begins at `first`. */
static size_t shard_end(const pipe_safetensors_writer *w, size_t first, uint64_t most)
{
    uint64_t bytes = 0;
    size_t k = first;
    while (k < w->count && (k == first || w->entries[k].array.bytes <= most - bytes)) {
        bytes += w->entries[k].array.bytes;
        if (++k < w->count && bytes >= most)
            break;
    }
    return k;
}

static char *shard_name(const char *stem, size_t k, size_t n)
{
    return pipe_format("%s-%05zu-of-%05zu.safetensors", stem, k + 1, n);
}

pipe_status pipe_safetensors_write_shards(pipe_safetensors_writer *w, const char *path, uint64_t shard_bytes,
                                          pipe_error *err)
{
    static const char suffix[] = ".safetensors";
    const size_t length = strlen(path), m = sizeof suffix - 1;
    const bool has_suffix = length > m && strcmp(path + length - m, suffix) == 0;
    PIPE_CLEANUP(pipe_free_ptr) char *stem = pipe_format("%.*s", (int)(has_suffix ? length - m : length),
                                                         path);
    PIPE_CLEANUP(pipe_free_ptr) char *index = pipe_format("%s.safetensors.index.json", stem);
    PIPE_CLEANUP(pipe_text_free) pipe_text map = {0};
    uint64_t total = 0;
    size_t shards = 0;

    if (w->count == 0 || shard_bytes == 0)
        return pipe_fail(err, PIPE_EINVAL, "%s: shards need at least one array and one byte each", path);
    qsort(w->entries, w->count, sizeof w->entries[0], file_order);
    for (size_t k = 0; k < w->count; k = shard_end(w, k, shard_bytes))
        shards++;
    for (size_t k = 0; k < w->count; k++)
        total += w->entries[k].array.bytes;

    pipe_text_addf(&map, "{\n  \"metadata\": {\n    \"total_size\": %" PRIu64 "\n  },\n  \"weight_map\": {",
                   total);
    for (size_t first = 0, shard = 0; first < w->count; shard++) {
        const size_t end = shard_end(w, first, shard_bytes);
        PIPE_CLEANUP(pipe_free_ptr) char *file = shard_name(stem, shard, shards);
        PIPE_TRY(write_entries(w, w->entries + first, end - first, file, err));
        for (; first < end; first++) {
            pipe_text_add(&map, first ? ",\n    " : "\n    ");
            add_quoted(&map, w->entries[first].name);
            pipe_text_add(&map, ": ");
            add_quoted(&map, pipei_path_name(file));
        }
    }
    pipe_text_add(&map, "\n  }\n}\n");
    return pipei_file_write(index, map.data, map.length, err);
}
