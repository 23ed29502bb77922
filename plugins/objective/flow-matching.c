/* Conditional flow matching: regress the velocity alpha' x0 + sigma' eps of the
 * path from data to noise (Lipman et al. 2022, arXiv:2210.02747, equation 9;
 * logit-normal times: Esser et al. 2024, arXiv:2403.03206, equation 19). */
#include <pipe/pipe.h>

typedef struct {
    pipe_schedule *schedule;
    int64_t times;
    double mean, deviation, mode_scale, label_dropout;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT_DEFAULT(state, schedule, PIPE_KIND_SCHEDULE, "flow", "path between data and noise"),
    PIPE_INPUT_END};

static const pipe_param params[] = {
    PIPE_TIME_PARAMS(state),
    PIPE_FLOAT(
        state, label_dropout, 0.1, 0.0, 1.0, NULL,
        "share of samples trained without their label; guidance needs about 0.1, 0 learns the labels only"),
    PIPE_PARAM_END};

static pipe_status declare(void *self, pipe_object *model, const pipe_dataset_info *data, pipe_error *err)
{
    pipe_denoiser_info info;

    PIPE_TRY(pipe_denoising_declare(model, data, PIPE_PREDICT_FLOW, ((state *)self)->schedule, err));
    PIPE_TRY(pipe_denoiser_describe(model, &info, err));
    if (info.variance != PIPE_VARIANCE_NONE)
        return pipe_fail(err, PIPE_EINVAL,
                         "%s predicts variances, which this objective does not teach: objective.denoise does, or set "
                         "its `variance` to none",
                         pipe_object_name(model));
    return PIPE_OK;
}

static pipe_tensor *loss(void *self, pipe_object *model, pipe_batch *b)
{
    const state *st = self;
    const pipe_time_density density = {sizeof density, (pipe_times)st->times, st->mean, st->deviation,
                                       st->mode_scale};
    PIPE_CLEANUP(pipe_free_ptr) double *t = pipe_alloc_array((size_t)pipe_batch_size(b), sizeof *t);
    pipe_condition condition = {.size = sizeof condition};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *x0 = pipe_batch_need(b, "x");

    if (pipe_check(x0, NULL) != PIPE_OK)
        return x0;
    if (pipe_training_times(&density, st->schedule, b, true, t, &err) != PIPE_OK)
        return pipe_poison(pipe_batch_engine(b), err.status, "%s", err.message);
    const pipe_level l = pipe_level_of(st->schedule, pipe_batch_engine(b), t, pipe_batch_size(b));
    pipe_tensor *eps = pipe_randn(pipe_batch_engine(b), *pipe_tensor_shape(x0), pipe_batch_key(b, "noise"));
    pipe_tensor *velocity = pipe_add(pipe_mul(pipe_per_sample(l.dalpha, x0), x0),
                                     pipe_mul(pipe_per_sample(l.dsigma, eps), eps));
    condition.labels = pipe_denoising_labels(model, b, st->label_dropout);
    return pipe_mse(pipe_denoise(model, pipe_diffuse(&l, x0, eps), &l, &condition), velocity);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_OBJECTIVE),
    .name = "objective.flow-matching",
    .version = "1.1.0",
    .licence = "MIT",
    .summary = "mean squared error of the velocity from data to noise",
    .citation = "arXiv:2210.02747",
    .example = "flow: {plugin: objective.flow-matching, times: logit-normal}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .objective = {.declare = declare, .loss = loss},
};
