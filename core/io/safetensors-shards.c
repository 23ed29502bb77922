/* The index of a model in several safetensors files (transformers' convention):
 * {"metadata": {"total_size": ...}, "weight_map": {array name: file name}}. */
#include "core/io/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { INDEX_MAX = 64 << 20 };

static void drop_json(json_t **j)
{
    json_decref(*j);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The shards' names, sorted, each once; they may not leave the index's folder. */
static pipe_status list_shards(const char *path, json_t *map, const char ***out, size_t *count,
                               pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) const char **files = pipe_alloc_array(json_object_size(map), sizeof *files);
    size_t n = 0, kept = 0;
    const char *name;
    json_t *value;
    json_object_foreach(map, name, value) {
        const char *file = json_string_value(value);
        if (!file || !*file || file[0] == '.' || strchr(file, '/'))
            return pipe_fail(err, PIPE_EFORMAT,
                             "%s: weight_map: \"%s\" must be in a file of the same folder, not in %s",
                             path, name, file ? file : "something that is no string");
        files[n++] = file;
    }
    if (n)
        qsort(files, n, sizeof *files, by_text);
    for (size_t k = 0; k < n; k++)
        if (kept == 0 || strcmp(files[kept - 1], files[k]) != 0)
            files[kept++] = files[k];
    *out = files;
    *count = kept;
    files = NULL;
    return PIPE_OK;
}

/* Every array of the index is in its file, and every array of the files is in the index. */
static pipe_status check_against(const pipe_safetensors *f, size_t first, const char *path, const char *file,
                                 const json_t *map, size_t *found, pipe_error *err)
{
    for (size_t k = first; k < f->count; k++) {
        const char *expected = json_string_value(json_object_get(map, f->names[k]));
        if (!expected || strcmp(expected, file) != 0)
            return pipe_fail(err, PIPE_EFORMAT, "%s: \"%s\" is in %s, but weight_map says %s", path,
                             f->names[k], file, expected ? expected : "nothing of it");
        ++*found;
    }
    return PIPE_OK;
}

static pipe_status find_missing(pipe_safetensors *f, const char *path, json_t *map, pipe_error *err)
{
    const char *name;
    json_t *value;
    pipei_safetensors_sort(f);                   /* for pipe_safetensors_find() */
    json_object_foreach(map, name, value) {
        if (!pipe_safetensors_find(f, name))
            return pipe_fail(err, PIPE_EFORMAT, "%s: \"%s\" is not in %s, where weight_map says it is", path,
                             name, json_string_value(value));
    }
    return PIPE_OK;
}

pipe_status pipei_safetensors_open_shards(pipe_safetensors *f, const char *path, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *text = NULL;
    PIPE_CLEANUP(pipe_free_ptr) const char **files = NULL;
    PIPE_CLEANUP(pipe_free_ptr) char *folder = pipei_path_folder(path);
    PIPE_CLEANUP(drop_json) json_t *root = NULL;
    json_error_t reason;
    size_t n = 0, count = 0, found = 0;

    PIPE_TRY(pipei_file_read(path, INDEX_MAX, &text, &n, err));
    root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &reason);
    if (!root)
        return pipe_fail(err, PIPE_EFORMAT, "%s:%d:%d: %s", path, reason.line, reason.column, reason.text);
    json_t *map = json_object_get(root, "weight_map");
    if (!json_is_object(map))
        return pipe_fail(err, PIPE_EFORMAT, "%s: weight_map is missing or not an object", path);
    PIPE_TRY(list_shards(path, map, &files, &count, err));
    for (size_t k = 0; k < count; k++) {
        PIPE_CLEANUP(pipe_free_ptr) char *shard = pipei_path_join(folder, files[k]);
        const size_t first = f->count;
        PIPE_TRY(pipei_safetensors_map(f, shard, k == 0, err));
        PIPE_TRY(check_against(f, first, path, files[k], map, &found, err));
    }
    return found == json_object_size(map) ? PIPE_OK : find_missing(f, path, map, err);
}
