/* Data sets and weights as safetensors files. */
#include "core/run/values.h"
#include "core/run/json.h"
#include <pipe/io.h>

#include <string.h>

/* ---- shapes and descriptions ---- */

static json_t *shape_json(const pipe_shape *s)
{
    json_t *j = json_array();

    for (uint32_t k = 0; k < s->rank; k++)
        json_array_append_new(j, json_integer(s->dim[k]));
    return j;
}

static bool parse_shape(const json_t *j, pipe_shape *out)
{
    *out = (pipe_shape){0};
    if (!json_is_array(j) || json_array_size(j) > PIPE_MAX_RANK)
        return false;
    out->rank = (uint32_t)json_array_size(j);
    for (uint32_t k = 0; k < out->rank; k++) {
        out->dim[k] = json_integer_value(json_array_get(j, k));
        if (out->dim[k] < 0)
            return false;
    }
    return true;
}

json_t *pipei_object_params(const pipe_object *o)
{
    pipe_arena *a = pipe_arena_new();
    json_t *j = json_object();

    for (size_t k = 0; k < o->n_params; k++)
        pipei_json_set_text(j, pipei_param_row(o->plugin, k)->name,
                            pipei_param_canonical(pipei_param_row(o->plugin, k), o->given[k], a));
    pipe_arena_free(a);
    return j;
}

/* ---- weights ---- */

static json_t *declared_json(const pipe_object *o)
{
    const pipe_denoiser_info *d = &o->declared;
    json_t *j = json_object();

    if (d->predicts == PIPE_PREDICT_NONE)
        return j;
    pipei_json_set_text(j, "predicts", pipe_prediction_name(d->predicts));
    json_object_set_new(j, "sample", shape_json(&d->sample));
    json_object_set_new(j, "sigma_data", json_real(d->sigma_data));
    if (d->schedule) {
        json_t *schedule = json_object();
        pipei_json_set_text(schedule, "node", d->schedule->name);
        pipei_json_set_text(schedule, "plugin", d->schedule->plugin->name);
        json_object_set_new(schedule, "params", pipei_object_params(d->schedule));
        json_object_set_new(j, "schedule", schedule);
    }
    return j;
}

static pipe_status save_weights(pipe_object *o, const char *path, json_t *description, pipe_error *err)
{
    json_t *declared = declared_json(o);
    PIPE_CLEANUP(pipei_json_free) json_t *params = pipei_object_params(o);
    PIPE_CLEANUP(pipe_free_ptr) char *declared_text = pipei_json_line(declared);
    PIPE_CLEANUP(pipe_free_ptr) char *params_text = pipei_json_line(params);

    json_object_set_new(description, "type", json_string("weights"));
    pipei_json_set_text(description, "origin", o->name);
    pipei_json_set_text(description, "plugin", o->plugin->name);
    json_object_set_new(description, "declared", declared);
    return pipe_model_save(o->model, path,
                           (const char *const[]){"pipe.plugin", o->plugin->name, "pipe.params", params_text,
                                                 "pipe.declared", declared_text, NULL}, err);
}

pipe_status pipei_declared_load(const json_t *description, pipe_object *schedule, pipe_object *o,
                                pipe_error *err)
{
    const json_t *d = json_object_get(description, "declared");
    const char *predicts = pipei_json_text(d, "predicts");
    pipe_shape sample;

    if (!predicts)
        return PIPE_OK;
    for (int p = PIPE_PREDICT_EPS; pipe_prediction_names[p - PIPE_PREDICT_EPS]; p++) {
        if (strcmp(pipe_prediction_names[p - PIPE_PREDICT_EPS], predicts) != 0)
            continue;
        if (!parse_shape(json_object_get(d, "sample"), &sample))
            break;
        pipe_object_ref(schedule);
        if (o->declared.schedule)
            pipe_object_unref(o->declared.schedule);
        o->declared = (pipe_denoiser_info){.size = sizeof o->declared, .predicts = (pipe_prediction)p,
                                           .schedule = schedule, .sample = sample,
                                           .sigma_data = pipei_json_number(d, "sigma_data", 0.5)};
        return PIPE_OK;
    }
    return pipe_fail(err, PIPE_EFORMAT, "what the weights of %s predict is not understood: %s", o->name,
                     predicts);
}

/* ---- data sets ---- */

static json_t *field_json(const pipe_field *f)
{
    json_t *j = json_object();

    pipei_json_set_text(j, "name", f->name);
    json_object_set_new(j, "shape", shape_json(&f->shape));
    json_object_set_new(j, "type", json_string(f->dtype == PIPE_F32 ? "f32" : "i32"));
    json_object_set_new(j, "classes", json_integer(f->classes));
    json_object_set_new(j, "low", json_real(f->low));
    json_object_set_new(j, "high", json_real(f->high));
    return j;
}

static pipe_status save_dataset(pipe_object *o, const char *path, json_t *description, pipe_error *err)
{
    PIPE_CLEANUP(pipe_safetensors_writer_free_ptr) pipe_safetensors_writer *w = pipe_safetensors_writer_new();
    json_t *fields = json_array();
    pipe_dataset_info info;

    json_object_set_new(description, "fields", fields);
    PIPE_TRY(pipe_dataset_describe(o, &info, err));
    json_object_set_new(description, "type", json_string("dataset"));
    json_object_set_new(description, "count", json_integer((json_int_t)info.count));
    for (size_t k = 0; k < info.n_fields; k++) {
        const pipe_field *f = &info.field[k];
        pipe_shape shape = {.rank = f->shape.rank + 1};
        void *data = NULL;
        if (shape.rank > PIPE_MAX_RANK)
            return pipe_fail(err, PIPE_ESHAPE,
                             "field `%s`: samples of rank %u leave no room for the axis of samples", f->name,
                             f->shape.rank);
        shape.dim[0] = (int64_t)info.count;
        memcpy(shape.dim + 1, f->shape.dim, f->shape.rank * sizeof shape.dim[0]);
        PIPE_TRY(pipe_dataset_read_all(o, k, &data, err));
        const pipe_array a = f->dtype == PIPE_F32 ? PIPE_ARRAY_F32(shape, data) : PIPE_ARRAY_I32(shape, data);
        PIPE_TRY(pipe_safetensors_take(w, f->name, &a, err));
        json_array_append_new(fields, field_json(f));
    }
    return pipe_safetensors_write(w, path, err);
}

typedef struct stored {
    pipe_dataset_info info;
    pipe_safetensors *file;
    const pipe_array *field[PIPE_MAX_FIELDS];
} stored;

static pipe_status stored_describe(void *self, pipe_dataset_info *info, pipe_error *err)
{
    (void)err;
    *info = ((const stored *)self)->info;
    return PIPE_OK;
}

/* Runs of consecutive samples are converted at once. */
static pipe_status stored_read(void *self, const pipe_dataset_request *r, size_t k, void *out,
                               pipe_error *err)
{
    const stored *d = self;
    const size_t each = (size_t)pipe_shape_count(&d->info.field[k].shape);
    const bool f32 = d->info.field[k].dtype == PIPE_F32;

    for (size_t i = 0; i < r->n; ) {
        size_t end = i + 1;
        while (end < r->n && r->index[end] == r->index[end - 1] + 1)
            end++;
        const size_t first = (size_t)r->index[i] * each, count = (end - i) * each;
        PIPE_TRY(f32 ? pipe_array_f32(d->field[k], first, count, (float *)out + i * each, err)
                     : pipe_array_i32(d->field[k], first, count, (int32_t *)out + i * each, err));
        i = end;
    }
    return PIPE_OK;
}

static void stored_destroy(void *self)
{
    pipe_safetensors_close(((stored *)self)->file);
}

static const pipe_plugin stored_plugin = {
    PIPE_ABI(PIPE_KIND_DATASET),
    .name = "dataset.stored", .version = "1.0.0", .licence = "MIT",
    .summary = "samples that a step has made, from the cache",
    .state_size = sizeof(stored), .destroy = stored_destroy,
    .dataset = {.describe = stored_describe, .read = stored_read},
};

static pipe_status parse_field(const json_t *j, uint64_t count, stored *d, const char *path, pipe_error *err)
{
    pipe_field *f = &d->info.field[d->info.n_fields];
    const char *name = pipei_json_text(j, "name"), *type = pipei_json_text(j, "type");
    const pipe_array *a = name ? pipe_safetensors_find(d->file, name) : NULL;

    if (!a || !type || strlen(name) >= sizeof f->name || !parse_shape(json_object_get(j, "shape"), &f->shape))
        return pipe_fail(err, PIPE_EFORMAT, "%s: field `%s` is missing or damaged", path, name ? name : "?");
    memcpy(f->name, name, strlen(name) + 1);
    f->dtype = strcmp(type, "f32") == 0 ? PIPE_F32 : PIPE_I32;
    f->classes = json_integer_value(json_object_get(j, "classes"));
    f->low = pipei_json_number(j, "low", 0.0);
    f->high = pipei_json_number(j, "high", 0.0);
    if (a->shape.rank != f->shape.rank + 1 || (uint64_t)a->shape.dim[0] != count ||
        memcmp(a->shape.dim + 1, f->shape.dim, f->shape.rank * sizeof f->shape.dim[0]) != 0)
        return pipe_fail(err, PIPE_EFORMAT, "%s: field `%s` has another shape than described", path, name);
    d->field[d->info.n_fields++] = a;
    return PIPE_OK;
}

static pipe_status fill_stored(stored *d, const char *path, const json_t *description, pipe_error *err)
{
    json_t *field;
    size_t k;

    PIPE_TRY(pipe_safetensors_open(path, &d->file, err));
    d->info = (pipe_dataset_info){
        .size = sizeof d->info, .count = (uint64_t)json_integer_value(json_object_get(description, "count"))};
    if (json_array_size(json_object_get(description, "fields")) > PIPE_MAX_FIELDS)
        return pipe_fail(err, PIPE_EFORMAT, "%s: more than %d fields", path, PIPE_MAX_FIELDS);
    json_array_foreach(json_object_get(description, "fields"), k, field)
        PIPE_TRY(parse_field(field, d->info.count, d, path, err));
    return PIPE_OK;
}

pipe_status pipei_dataset_load(const char *path, const json_t *description, pipe_context *ctx,
                               pipe_object **out, pipe_error *err)
{
    pipe_object *o;

    PIPE_TRY(pipei_object_create(&stored_plugin, pipe_context_node(ctx), NULL, NULL, 0, ctx, &o, err));
    const pipe_status status = fill_stored(o->state, path, description, err);
    if (status != PIPE_OK) {
        pipe_object_unref(o);
        return status;
    }
    *out = o;
    return PIPE_OK;
}

pipe_status pipei_value_save(pipe_object *o, const char *path, json_t **description, pipe_error *err)
{
    json_t *j = json_object();

    pipei_json_set_text(j, "kind", o->kind);
    const pipe_status status = o->model ? save_weights(o, path, j, err) : save_dataset(o, path, j, err);
    if (status != PIPE_OK) {
        json_decref(j);
        return status;
    }
    *description = j;
    return PIPE_OK;
}
