/* What the safetensors reader and writer share.  Internal to core/io. */
#ifndef PIPE_CORE_SAFETENSORS_H
#define PIPE_CORE_SAFETENSORS_H

#include "core/base/file.h"
#include "core/io/formats.h"

enum { PIPEI_SAFETENSORS_HEADER_MAX = 100000000 };

typedef struct pipei_pair {
    char *key, *value;
} pipei_pair;

/* `entries` of `names`, `arrays` lie in the same order: sorted by name. */
struct pipe_safetensors {
    pipei_map *maps;                /* one for each file; none when parsed from memory */
    size_t map_count;
    char **names;
    pipe_array *arrays;
    size_t count;
    pipei_pair *metadata;           /* sorted by key */
    size_t metadata_count;
};

/* Adds what one file holds, unsorted; sort by pipei_safetensors_sort(). */
PIPE_INTERNAL pipe_status pipei_safetensors_add_file(pipe_safetensors *f, const char *name, const void *bytes,
                                                     size_t n, bool metadata, pipe_error *err);
PIPE_INTERNAL void pipei_safetensors_sort(pipe_safetensors *f);
/* safetensors' index of shards: fills `f` with the arrays of all files. */
PIPE_INTERNAL pipe_status pipei_safetensors_open_shards(pipe_safetensors *f, const char *path,
                                                        pipe_error *err);
PIPE_INTERNAL pipe_status pipei_safetensors_map(pipe_safetensors *f, const char *path, bool metadata,
                                                pipe_error *err);

#endif
