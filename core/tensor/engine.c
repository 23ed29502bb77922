/* The engine: opening, evaluating, reading back, counting. */
#include "core/tensor/build.h"

#include <stdio.h>
#include <string.h>

pipe_status pipei_engine_new(const char *device, const char *profile, pipe_engine **out, pipe_error *err)
{
    pipei_device *d = NULL;
    PIPE_TRY(pipei_device_open(device, profile, &d, err));
    pipe_engine *e = pipe_alloc(sizeof *e);
    e->device = d;
    e->scratch = pipe_arena_new();
    e->kernels = pipei_kernels_open();
    pipei_recording_open(e);
    pipei_engine_label(e, "tensors");
    *out = e;
    return PIPE_OK;
}

void pipei_engine_free(pipe_engine *e)
{
    if (!e)
        return;
    clFinish(pipei_device_queue(e->device));
    for (size_t k = 0; k < PIPELINE_DEPTH; k++)
        if (e->in_flight[k])
            clReleaseEvent(e->in_flight[k]);
    pipei_plans_close(e);
    pipei_kernels_close(e->kernels);
    pipei_recording_close(e);
    pipe_arena_free(e->scratch);
    pipei_device_close(e->device);              /* and with it all buffers */
    pipe_free(e->chunks);
    pipe_free(e->compiled);
    pipe_free(e->stretches);
    pipei_profile_close(e);
    pipe_free(e->request.nodes);
    pipe_free(e->request.leaves);
    pipe_free(e->request.outs);
    pipe_free(e->request.key);
    pipe_free(e);
}

pipei_device *pipei_engine_device(pipe_engine *e) { return e->device; }
pipei_engine_stats pipei_engine_stats_get(const pipe_engine *e) { return e->stats; }

void pipei_engine_label(pipe_engine *e, const char *label)
{
    snprintf(e->label, sizeof e->label, "%s", label ? label : "tensors");
}

void pipei_engine_trim(pipe_engine *e)
{
    (void)pipe_eval(e, NULL); /* tensors that failed carry the reason; those that are let go stay until then */
    for (size_t k = 0; k < e->n_chunks; k++)
        pipei_buffer_free(e->device, e->chunks[k].mem);
    e->n_chunks = 0;
    pipei_device_trim(e->device);
}

void pipei_engine_forget_plans(pipe_engine *e)
{
    clFinish(pipei_device_queue(e->device));
    pipei_plans_close(e);
}

/* Nothing of the recording was computed: what is kept carries the reason. */
static void poison_kept(pipe_engine *e, pipe_status status, const char *message)
{
    pipei_poison *p = pipei_poison_new(status, message);
    for (size_t k = 0; k < e->n_list; k++)
        if (e->list[k]->state == PIPEI_NODE && e->list[k]->holds)
            pipei_tensor_become_poisoned(e->list[k], p);
    pipei_poison_release(p);
}

void pipei_engine_discard(pipe_engine *e)
{
    poison_kept(e, PIPE_EINVAL,
                "this tensor was recorded while a model was being built: it has a shape, but no value");
    pipei_recording_end(e);
}

pipe_status pipe_eval(pipe_engine *e, pipe_error *err)
{
    pipe_error own = PIPE_ERROR_INIT;
    plan *p = NULL;

    if (e->n_list == 0 && e->n_assigns == 0)
        return PIPE_OK;
    pipe_status status = pipei_plan_get(e, &p, &own);
    if (status == PIPE_OK && p)
        status = pipei_replay(e, p, &own);
    if (status != PIPE_OK) {
        poison_kept(e, status, own.message);
        pipe_fail(err, status, "%s", own.message);
    }
    pipei_recording_end(e);
    return status;
}

pipe_status pipe_finish(pipe_engine *e, pipe_error *err)
{
    return pipei_device_finish(e->device, err);
}

static pipe_status read_back(pipe_tensor *t, pipe_dtype dtype, void *out, size_t count, pipe_error *err)
{
    char shape[PIPE_SHAPE_TEXT];

    PIPE_TRY(pipe_check(t, err));
    if (t->dtype != dtype)
        return pipe_fail(err, PIPE_ESHAPE, "a tensor of %s is read as %s",
                         t->dtype == PIPE_I32 ? "i32" : "f32", dtype == PIPE_I32 ? "i32" : "f32");
    if ((int64_t)count != t->count)
        return pipe_fail(err, PIPE_ESHAPE, "a tensor of shape %s is read into room for %zu elements",
                         pipe_shape_text(&t->shape, shape, sizeof shape), count);

    pipe_tensor *held = NULL;
    pipe_keep(&held, t);
    pipe_status status = pipe_eval(t->engine, err);
    if (status == PIPE_OK)
        status = pipe_check(held, err);
    if (status == PIPE_OK)
        status = pipei_device_read(t->engine->device, held->mem, 0, out, count * 4, err);
    pipe_keep(&held, NULL);
    return status;
}

pipe_status pipe_read_f32(pipe_tensor *t, float *out, size_t count, pipe_error *err)
{
    return read_back(t, PIPE_F32, out, count, err);
}

pipe_status pipe_read_i32(pipe_tensor *t, int32_t *out, size_t count, pipe_error *err)
{
    return read_back(t, PIPE_I32, out, count, err);
}
