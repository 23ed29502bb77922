/* A data set, or a model's weights, as a safetensors file. */
#include <pipe/io.h>
#include <pipe/pipe.h>

#include <string.h>

typedef struct {
    pipe_object *value;
    const char *name;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, value, "dataset|denoiser|classifier|encoder|decoder",
               "a data set or a model with weights"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_STRING(state, name, "0000.safetensors", "of the file"),
    PIPE_PARAM_END,
};

static pipe_status read_all(pipe_dataset *d, uint64_t count, size_t each, size_t k, char *out,
                            pipe_error *err)
{
    enum { CHUNK = 256 };
    uint64_t index[CHUNK];

    for (uint64_t first = 0; first < count; first += CHUNK) {
        const size_t n = count - first < CHUNK ? (size_t)(count - first) : CHUNK;
        for (size_t i = 0; i < n; i++)
            index[i] = first + i;
        PIPE_TRY(pipe_dataset_read(
            d, &(pipe_dataset_request){.size = sizeof(pipe_dataset_request), .index = index, .n = n}, k,
            out + first * each, err));
    }
    return PIPE_OK;
}

static pipe_status add_field(pipe_safetensors_writer *w, pipe_dataset *d, const pipe_dataset_info *info,
                             size_t k, pipe_error *err)
{
    const pipe_field *f = &info->field[k];
    const size_t each = (size_t)pipe_shape_count(&f->shape) * 4;
    PIPE_CLEANUP(pipe_free_ptr) char *data = NULL;
    pipe_shape shape = {.rank = f->shape.rank + 1};
    size_t bytes;

    if (!pipe_mul_size(info->count, each, &bytes) || !(data = pipe_try_alloc(bytes ? bytes : 4)))
        return pipe_fail(err, PIPE_ENOMEM, "no memory for the %llu samples of field `%s`; see dataset.subset",
                         (unsigned long long)info->count, f->name);
    PIPE_TRY(read_all(d, info->count, each, k, data, err));
    shape.dim[0] = (int64_t)info->count;
    memcpy(shape.dim + 1, f->shape.dim, f->shape.rank * sizeof shape.dim[0]);
    const pipe_array a = f->dtype == PIPE_F32 ? PIPE_ARRAY_F32(shape, data) : PIPE_ARRAY_I32(shape, data);
    data = NULL; /* the writer's, in an error too */
    return pipe_safetensors_take(w, f->name, &a, err);
}

static pipe_status write_dataset(pipe_dataset *d, const char *path, const char *yaml, pipe_error *err)
{
    PIPE_CLEANUP(pipe_safetensors_writer_free_ptr) pipe_safetensors_writer *w = pipe_safetensors_writer_new();
    pipe_dataset_info info;

    PIPE_TRY(pipe_dataset_describe(d, &info, err));
    for (size_t k = 0; k < info.n_fields; k++)
        PIPE_TRY(add_field(w, d, &info, k, err));
    if (*yaml)
        PIPE_TRY(pipe_safetensors_set(w, "pipe", yaml, err));
    return pipe_safetensors_write(w, path, err);
}

static pipe_status run(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;
    const char *yaml = pipe_context_pipeline_yaml(ctx), *path;
    pipe_model *m = pipe_object_model(st->value);

    PIPE_TRY(pipe_output_path(ctx, st->name, &path, err));
    if (strcmp(pipe_object_kind(st->value), PIPE_KIND_DATASET) == 0) {
        PIPE_TRY(write_dataset(st->value, path, yaml, err));
    } else {
        if (!m || !pipe_model_built(m))
            return pipe_fail(err, PIPE_EINVAL, "%s has no weights yet: train it first (step `fit`)",
                             pipe_object_name(st->value));
        PIPE_TRY(pipe_model_save(m, path, (const char *const[]){"pipe", yaml, NULL}, err));
    }
    return pipe_report(ctx, "written", 1.0, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SINK),
    .name = "sink.safetensors",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "a data set or a model's weights as a safetensors file",
    .help = "Reports `written`, the number of files.",
    .example = "weights: {plugin: sink.safetensors, value: model}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .run = run,
};
