/* Cross entropy of class labels; with a schedule, of noisy samples at random
 * levels, which makes a classifier that can guide a denoiser (Dhariwal and
 * Nichol 2021, arXiv:2105.05233, section 4). */
#include <pipe/pipe.h>

#include <string.h>

typedef struct {
    pipe_schedule *schedule;
    double smoothing;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT_OPTIONAL(state, schedule, PIPE_KIND_SCHEDULE,
                        "noise the samples to random levels of this schedule; without it they stay clean"),
    PIPE_INPUT_END};

static const pipe_param params[] = {
    PIPE_FLOAT(
        state, smoothing, 0.0, 0.0, 0.9, NULL,
        "share of the label that is spread over all classes; higher makes the classifier less certain"),
    PIPE_PARAM_END};

static pipe_status declare(void *self, pipe_object *model, const pipe_dataset_info *data, pipe_error *err)
{
    int k;

    (void)self;
    if (strcmp(pipe_object_kind(model), PIPE_KIND_CLASSIFIER) != 0)
        return pipe_fail(err, PIPE_EINVAL, "this objective trains a classifier; %s is of kind %s",
                         pipe_object_name(model), pipe_object_kind(model));
    if (!data)
        return pipe_fail(err, PIPE_EINVAL, "this objective needs data with the fields `x` and `label`");
    if (pipe_dataset_field(data, "x") < 0)
        return pipe_fail(err, PIPE_ENOTFOUND, "the data have no field `x` to classify");
    if ((k = pipe_dataset_field(data, "label")) < 0 || data->field[k].dtype != PIPE_I32)
        return pipe_fail(err, PIPE_ENOTFOUND, "the data have no field `label` of whole numbers");
    if (data->field[k].classes > pipe_classifier_classes(model))
        return pipe_fail(err, PIPE_EINVAL, "the data have %lld classes, %s only %lld",
                         (long long)data->field[k].classes, pipe_object_name(model),
                         (long long)pipe_classifier_classes(model));
    return PIPE_OK;
}

static pipe_tensor *logits_of_noisy(const state *st, pipe_object *model, pipe_batch *b, pipe_tensor *x)
{
    PIPE_CLEANUP(pipe_free_ptr) double *t = pipe_alloc_array((size_t)pipe_batch_size(b), sizeof *t);
    pipe_schedule_info info;
    pipe_error err = PIPE_ERROR_INIT;

    if (pipe_schedule_describe(st->schedule, &info, &err) != PIPE_OK)
        return pipe_poison(pipe_batch_engine(b), err.status, "%s", err.message);
    pipe_batch_uniform(b, "time", true, t);
    for (int64_t r = 0; r < pipe_batch_size(b); r++)
        t[r] = info.t_min + t[r] * (info.t_max - info.t_min);
    const pipe_level level = pipe_level_of(st->schedule, pipe_batch_engine(b), t, pipe_batch_size(b));
    pipe_tensor *eps = pipe_randn(pipe_batch_engine(b), *pipe_tensor_shape(x), pipe_batch_key(b, "noise"));
    return pipe_classify(model, pipe_diffuse(&level, x, eps), &level);
}

static pipe_tensor *loss(void *self, pipe_object *model, pipe_batch *b)
{
    const state *st = self;
    pipe_tensor *x = pipe_batch_need(b, "x"), *label = pipe_batch_need(b, "label");

    if (pipe_check(x, NULL) != PIPE_OK)
        return x;
    pipe_tensor *logits = st->schedule ? logits_of_noisy(st, model, b, x) : pipe_classify(model, x, NULL);
    pipe_tensor *error = pipe_mean_all(pipe_cross_entropy(logits, label));

    pipe_batch_report(b, "accuracy", pipe_mean_all(pipe_equal(pipe_argmax(logits), label)));
    if (st->smoothing == 0.0)
        return error;
    pipe_tensor *spread = pipe_neg(pipe_mean_all(pipe_log_softmax(logits, -1)));
    return pipe_axpby(1.0 - st->smoothing, error, st->smoothing, spread);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_OBJECTIVE),
    .name = "objective.classify",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "cross entropy of class labels, on clean or noisy samples",
    .citation = "arXiv:2105.05233",
    .example = "labels: {plugin: objective.classify}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .objective = {.declare = declare, .loss = loss},
};
