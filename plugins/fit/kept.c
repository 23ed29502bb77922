/* A network as it was at a step of its training. */
#include <pipe/pipe.h>

#include <inttypes.h>
#include <string.h>

typedef struct {
    pipe_object *model;
    pipe_dataset *kept;
    int64_t step;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, model,
               PIPE_KIND_DENOISER "|" PIPE_KIND_CLASSIFIER "|" PIPE_KIND_ENCODER "|" PIPE_KIND_DECODER,
               "the trained network, of step fit"),
    PIPE_INPUT(state, kept, PIPE_KIND_DATASET, "the output `kept` of the same step"),
    PIPE_INPUT_END,
};

static const pipe_output outputs[] = {
    PIPE_OUTPUT_LIKE("model", "model", "the network with the weights of that step"),
    PIPE_OUTPUT_END,
};

static const pipe_param params[] = {
    PIPE_INT_REQUIRED(state, step, 0, 1000000000, "steps", "one of `keep` of that fit"),
    PIPE_PARAM_END,
};

/* The row of the step, or which steps there are. */
static pipe_status find(const state *st, uint64_t count, size_t field, uint64_t *row, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) int32_t *step = NULL;
    PIPE_CLEANUP(pipe_text_free) pipe_text have = {0};
    void *data;

    PIPE_TRY(pipe_dataset_read_all(st->kept, field, &data, err));
    step = data;
    for (uint64_t k = 0; k < count; k++) {
        if ((int64_t)step[k] == st->step) {
            *row = k;
            return PIPE_OK;
        }
        pipe_text_addf(&have, "%s%" PRId32, k ? ", " : "", step[k]);
    }
    return pipe_fail(err, PIPE_ENOTFOUND, "step: %" PRId64 " was not kept; %s has: %s", st->step,
                     pipe_object_name(st->kept), count ? have.data : "none (set `keep` of the fit)");
}

static pipe_status declare(pipe_object *of, pipe_object *copy, pipe_error *err)
{
    pipe_denoiser_info info;

    if (strcmp(pipe_object_kind(of), PIPE_KIND_DENOISER) != 0)
        return PIPE_OK;
    PIPE_TRY(pipe_denoiser_describe(of, &info, err));
    return pipe_denoiser_declare(copy, info.predicts, info.schedule, &info.sample, info.sigma_data, err);
}

static pipe_status fill(const state *st, pipe_object *copy, pipe_context *ctx, pipe_error *err)
{
    pipe_model *from = pipe_object_model(st->model), *to = pipe_object_model(copy);
    pipe_dataset_info info;
    pipe_tensor *row;
    uint64_t at = 0;
    size_t weights, step;

    if (!from || !pipe_model_built(from))
        return pipe_fail(err, PIPE_EINVAL, "model: %s has no trained weights", pipe_object_name(st->model));
    PIPE_TRY(pipe_dataset_describe(st->kept, &info, err));
    PIPE_TRY(pipe_dataset_need(st->kept, &info, "weights", &weights, err));
    PIPE_TRY(pipe_dataset_need(st->kept, &info, "step", &step, err));
    if (info.field[weights].shape.rank != 1 || info.field[weights].shape.dim[0] != pipe_model_count(from))
        return pipe_fail(err, PIPE_ESHAPE, "kept: the weights of %s are not those of %s",
                         pipe_object_name(st->kept), pipe_object_name(st->model));
    PIPE_TRY(find(st, info.count, step, &at, err));
    PIPE_TRY(pipe_model_copy(to, from, err));
    PIPE_TRY(pipe_dataset_tensor(st->kept, pipe_context_engine(ctx), at, 1, weights, &row, err));
    PIPE_TRY(pipe_assign(pipe_model_flat(to), pipe_reshape(row, PIPE_SHAPE(pipe_model_count(to))), err));
    return pipe_eval(pipe_context_engine(ctx), err);
}

static pipe_status run(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;
    pipe_object *copy = NULL;

    PIPE_TRY(pipe_object_clone(st->model, ctx, &copy, err));
    pipe_status status = declare(st->model, copy, err);
    if (status == PIPE_OK)
        status = fill(st, copy, ctx, err);
    if (status == PIPE_OK)
        status = pipe_yield(ctx, "model", copy, err);
    pipe_object_unref(copy);
    return status;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_STEP),
    .name = "fit.kept",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "a network as it was at a step of its training",
    .example = "early: {plugin: fit.kept, model: model, kept: model.kept, step: 400}",
    .params = params,
    .inputs = inputs,
    .outputs = outputs,
    .state_size = sizeof(state),
    .run = run,
};
