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

static pipe_status add_field(pipe_safetensors_writer *w, pipe_dataset *d, const pipe_dataset_info *info,
                             size_t k, pipe_error *err)
{
    const pipe_field *f = &info->field[k];
    PIPE_CLEANUP(pipe_free_ptr) uint64_t *index = pipe_alloc_array((size_t)info->count + 1, sizeof *index);
    pipe_shape shape = {.rank = f->shape.rank + 1};
    void *data = pipe_alloc_array((size_t)info->count + 1, (size_t)(pipe_shape_count(&f->shape) + 1) * 4);
    pipe_status status;

    for (uint64_t i = 0; i < info->count; i++)
        index[i] = i;
    shape.dim[0] = (int64_t)info->count;
    memcpy(shape.dim + 1, f->shape.dim, f->shape.rank * sizeof shape.dim[0]);
    status = pipe_dataset_read(d,
                               &(pipe_dataset_request){.size = sizeof(pipe_dataset_request),
                                                       .index = index,
                                                       .n = (size_t)info->count},
                               k, data, err);
    if (status != PIPE_OK) {
        pipe_free(data);
        return status;
    }
    const pipe_array a = f->dtype == PIPE_F32 ? PIPE_ARRAY_F32(shape, data) : PIPE_ARRAY_I32(shape, data);
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
