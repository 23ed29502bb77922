/* Checkpoints of a long step.
 *
 * They live in the cache under the step's key, so that whoever computes the same
 * step next finds them (after kill -9, in another run folder, with --resume or
 * without), and are linked into the run folder for people.  A checkpoint holds
 * what the step saved and also what it had reported and written so far: a
 * resumed step ends with the same curves and files as one that ran through. */
#include "core/run/context.h"
#include "core/run/folder.h"
#include "core/run/json.h"
#include "core/tensor/engine.h"
#include <pipe/io.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEPT = 2 };

static char *checkpoint_name(uint64_t step)
{
    return pipe_format("step-%08" PRIu64 ".safetensors", step);
}

/* The step in "step-NNNNNNNN.safetensors"; 0: another file. */
static uint64_t step_of_name(const char *name)
{
    char *end;

    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9')
        return 0;
    const uint64_t step = strtoull(name + 5, &end, 10);
    return strcmp(end, ".safetensors") == 0 ? step : 0;
}

static int by_step_falling(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? 1 : x > y ? -1 : 0;
}

/* Steps of the checkpoints in a folder, newest first; owned by the caller. */
static size_t list_steps(const char *folder, uint64_t **out)
{
    PIPE_CLEANUP(pipei_listing_free) pipei_listing list = {0};
    size_t n = 0;

    *out = NULL;
    if (!folder || pipei_list_folder(folder, &list, NULL) != PIPE_OK)
        return 0;
    *out = pipe_alloc_array(list.count + 1, sizeof **out);
    for (size_t k = 0; k < list.count; k++) {
        const uint64_t step = step_of_name(list.entries[k].name);
        if (step && !list.entries[k].is_folder)
            (*out)[n++] = step;
    }
    qsort(*out, n, sizeof **out, by_step_falling);
    return n;
}

static void drop_old(const char *folder)
{
    PIPE_CLEANUP(pipe_free_ptr) uint64_t *steps = NULL;
    const size_t n = list_steps(folder, &steps);

    for (size_t k = KEPT; k < n; k++) {
        PIPE_CLEANUP(pipe_free_ptr) char *name = checkpoint_name(steps[k]);
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, name);
        unlink(path);
    }
}

void pipei_checkpoints_drop(const char *folder)
{
    pipe_error err = PIPE_ERROR_INIT;

    if (pipei_remove_tree(folder, &err) != PIPE_OK)
        pipe_log(PIPE_LOG_WARN, "cache", "%s", err.message);
}

uint64_t pipei_checkpoints_newest(const char *folder)
{
    PIPE_CLEANUP(pipe_free_ptr) uint64_t *steps = NULL;

    return list_steps(folder, &steps) ? steps[0] : 0;
}

/* ---- saving ---- */

static pipe_status add_tensor(pipe_safetensors_writer *w, const char *name, pipe_tensor *t, pipe_error *err)
{
    const size_t n = (size_t)pipe_count(t);
    void *data = pipe_try_alloc(n ? 4 * n : 4);

    if (!data)
        return pipe_fail(err, PIPE_ENOMEM, "no memory for %zu bytes of the checkpoint's `%s`", 4 * n, name);
    const bool f32 = pipe_tensor_dtype(t) == PIPE_F32;
    const pipe_status status = f32 ? pipe_read_f32(t, data, n, err) : pipe_read_i32(t, data, n, err);
    if (status != PIPE_OK) {
        pipe_free(data);
        return pipe_context_fail(err, status, "checkpoint, `%s`", name);
    }
    const pipe_array a = f32 ? PIPE_ARRAY_F32(*pipe_tensor_shape(t), data)
                             : PIPE_ARRAY_I32(*pipe_tensor_shape(t), data);
    return pipe_safetensors_take(w, name, &a, err);
}

/* Files written so far are copied beside the checkpoints: the step may still change them. */
static pipe_status save_files(pipe_context *ctx, json_t *names, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *folder = pipei_path_join(ctx->checkpoints, "files");

    for (size_t k = 0; k < ctx->n_files; k++) {
        if (!pipei_path_exists(ctx->file_path[k]))
            continue;
        PIPE_CLEANUP(pipe_free_ptr) char *to = pipei_path_join(folder, ctx->file[k]);
        PIPE_TRY(pipei_copy_file(ctx->file_path[k], to, err));
        json_array_append_new(names, pipei_json_string(ctx->file[k]));
    }
    return PIPE_OK;
}

static pipe_status add_history(pipe_context *ctx, pipe_safetensors_writer *w, uint64_t step, pipe_error *err)
{
    PIPE_CLEANUP(pipei_json_free) json_t *files = json_array();
    PIPE_CLEANUP(pipei_json_free) json_t *metrics = pipei_metrics_json(&ctx->metrics);
    PIPE_CLEANUP(pipe_free_ptr) char *metrics_text = pipei_json_line(metrics);
    PIPE_CLEANUP(pipe_free_ptr) char *number = pipe_format("%" PRIu64, step);

    PIPE_TRY(save_files(ctx, files, err));
    PIPE_CLEANUP(pipe_free_ptr) char *files_text = pipei_json_line(files);
    PIPE_TRY(pipe_safetensors_set(w, "pipe.node", ctx->node, err));
    PIPE_TRY(pipe_safetensors_set(w, "pipe.step", number, err));
    PIPE_TRY(pipe_safetensors_set(w, "pipe.metrics", metrics_text, err));
    return pipe_safetensors_set(w, "pipe.files", files_text, err);
}

pipe_status pipe_checkpoint_save(pipe_context *ctx, uint64_t step, const pipe_saved *items, size_t n,
                                 pipe_error *err)
{
    if (!ctx->checkpoints)
        return pipe_fail(err, PIPE_EUNSUPPORTED, "checkpoints cannot be written here: %s has no folder",
                         ctx->node);
    if (step == 0)
        return pipe_fail(err, PIPE_EINVAL, "a checkpoint is of step 1 or later");

    PIPE_CLEANUP(pipe_safetensors_writer_free_ptr) pipe_safetensors_writer *w = pipe_safetensors_writer_new();
    PIPE_CLEANUP(pipe_free_ptr) char *name = checkpoint_name(step);
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(ctx->checkpoints, name);
    PIPE_TRY(pipei_make_folders(ctx->checkpoints, err));
    for (size_t k = 0; k < n; k++)
        PIPE_TRY(items[k].tensor ? add_tensor(w, items[k].name, items[k].tensor, err)
                                 : pipe_safetensors_set(w, items[k].name, "", err));
    PIPE_TRY(add_history(ctx, w, step, err));
    PIPE_TRY(pipe_safetensors_write(w, path, err));
    drop_old(ctx->checkpoints);
    if (ctx->mirror) {
        PIPE_CLEANUP(pipe_free_ptr) char *copy = pipei_path_join(ctx->mirror, name);
        PIPE_TRY(pipei_link_file(path, copy, err));
        drop_old(ctx->mirror);
    }
    ctx->saved = step;
    pipe_log(PIPE_LOG_DEBUG, ctx->node, "checkpoint of step %" PRIu64, step);
    return PIPE_OK;
}

/* ---- loading ---- */

static pipe_status check_tensor(const pipe_safetensors *f, const pipe_saved *item, const char *path,
                                pipe_error *err)
{
    const pipe_array *a = pipe_safetensors_find(f, item->name);
    char have[PIPE_SHAPE_TEXT], want[PIPE_SHAPE_TEXT];

    if (!a)
        return pipe_fail(err, PIPE_ENOTFOUND, "%s: there is no tensor `%s`", path, item->name);
    const pipe_shape *shape = pipe_tensor_shape(item->tensor);
    const pipe_element element = pipe_tensor_dtype(item->tensor) == PIPE_F32 ? PIPE_ELEMENT_F32
                                                                             : PIPE_ELEMENT_I32;
    if (!pipe_shape_equal(&a->shape, shape) || a->element != element)
        return pipe_fail(err, PIPE_ESHAPE, "%s: `%s` is %s %s, %s %s is needed", path, item->name,
                         pipe_element_name(a->element), pipe_shape_text(&a->shape, have, sizeof have),
                         pipe_element_name(element), pipe_shape_text(shape, want, sizeof want));
    return PIPE_OK;
}

/* Told again: the new metrics.jsonl is complete. */
static pipe_status retell(pipe_context *ctx, pipe_error *err)
{
    for (size_t k = 0; ctx->journal && k < ctx->metrics.n; k++) {
        const pipei_series *s = &ctx->metrics.v[k];
        for (size_t i = 0; i < s->n; i++)
            PIPE_TRY(pipei_journal(ctx->journal, "metrics.jsonl", ctx->node, s->curve ? &s->step[i] : NULL,
                                   s->name, s->value[i], true, err));
    }
    return PIPE_OK;
}

static pipe_status load_files(pipe_context *ctx, const pipe_safetensors *f, const char *path, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *folder = pipei_path_join(ctx->checkpoints, "files");
    const char *text = pipe_safetensors_metadata(f, "pipe.files");
    PIPE_CLEANUP(pipei_json_free) json_t *names = text ? json_loads(text, 0, NULL) : NULL;
    json_t *name;
    size_t k;

    if (!json_is_array(names))
        return pipe_fail(err, PIPE_EFORMAT, "%s: is no checkpoint of a step", path);
    json_array_foreach(names, k, name) {
        const char *to;
        PIPE_CLEANUP(pipe_free_ptr) char *from = pipei_path_join(folder, json_string_value(name));
        PIPE_TRY(pipe_output_path(ctx, json_string_value(name), &to, err));
        PIPE_TRY(pipei_copy_file(from, to, err));
    }
    return PIPE_OK;
}

static pipe_status load_history(pipe_context *ctx, const pipe_safetensors *f, const char *path,
                                pipe_error *err)
{
    const char *text = pipe_safetensors_metadata(f, "pipe.metrics");
    PIPE_CLEANUP(pipei_json_free) json_t *metrics = text ? json_loads(text, 0, NULL) : NULL;

    if (!json_is_array(metrics))
        return pipe_fail(err, PIPE_EFORMAT, "%s: is no checkpoint of a step", path);
    PIPE_TRY(load_files(ctx, f, path, err));
    PIPE_TRY(pipei_metrics_parse(metrics, &ctx->metrics, err));
    return retell(ctx, err);
}

static pipe_status load(pipe_context *ctx, const char *path, const pipe_saved *items, size_t n,
                        pipe_error *err)
{
    PIPE_CLEANUP(pipe_safetensors_close_ptr) pipe_safetensors *f = NULL;

    PIPE_TRY(pipe_safetensors_open(path, &f, err));
    for (size_t k = 0; k < n; k++)              /* all checks first: no leaf is touched by a damaged file */
        if (items[k].tensor)
            PIPE_TRY(check_tensor(f, &items[k], path, err));
    PIPE_TRY(load_history(ctx, f, path, err));
    for (size_t k = 0; k < n; k++) {
        const pipe_array *a = items[k].tensor ? pipe_safetensors_find(f, items[k].name) : NULL;
        if (a)
            PIPE_TRY(pipei_tensor_write(items[k].tensor, a->data, a->bytes, err));
    }
    return PIPE_OK;
}

/* The newest one that can be read.  A damaged file is skipped with a warning; one
 * of other shapes is an error, since the key says that it is of this very step. */
pipe_status pipe_checkpoint_load(pipe_context *ctx, uint64_t *step, const pipe_saved *items, size_t n,
                                 pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) uint64_t *steps = NULL;
    const size_t found = ctx->resume ? list_steps(ctx->checkpoints, &steps) : 0;

    for (size_t k = 0; k < found; k++) {
        PIPE_CLEANUP(pipe_free_ptr) char *name = checkpoint_name(steps[k]);
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(ctx->checkpoints, name);
        pipe_error reason = PIPE_ERROR_INIT;
        const pipe_status status = load(ctx, path, items, n, &reason);
        if (status == PIPE_EFORMAT || status == PIPE_ENOTFOUND) {
            pipe_log(PIPE_LOG_WARN, ctx->node, "a checkpoint is damaged and left out: %s", reason.message);
            unlink(path);
            continue;
        }
        if (status != PIPE_OK)
            return pipe_fail(err, status, "%s", reason.message);
        pipe_log(PIPE_LOG_INFO, ctx->node, "continues from the checkpoint of step %" PRIu64, steps[k]);
        *step = ctx->resumed = ctx->saved = steps[k];
        if (ctx->progress)
            pipei_progress_resume(ctx->progress);
        return PIPE_OK;
    }
    *step = 0;
    return PIPE_OK;
}
