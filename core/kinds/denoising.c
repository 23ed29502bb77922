/* What objectives that train denoisers share. */
#include "core/base/special.h"
#include "core/run/object.h"

#include <math.h>
#include <string.h>

const char *const pipe_times_names[] = {"uniform", "logit-normal", "mode", "log-normal", NULL};

static pipe_status check_labels(const pipe_object *model, const pipe_dataset_info *data, int64_t classes,
                                pipe_error *err)
{
    const int k = pipe_dataset_field(data, "label");

    if (k < 0)
        return pipe_fail(
            err, PIPE_ENOTFOUND,
            "%s takes %lld classes, but the data have no field `label`; set its `classes` to 0 for "
            "an unconditional model",
            model->name, (long long)classes);
    if (data->field[k].dtype != PIPE_I32 || data->field[k].shape.rank != 0)
        return pipe_fail(err, PIPE_ESHAPE, "the data's field `label` must be one whole number per sample");
    if (data->field[k].classes > classes)
        return pipe_fail(err, PIPE_EINVAL, "the data have %lld classes, %s only %lld",
                         (long long)data->field[k].classes, model->name, (long long)classes);
    return PIPE_OK;
}

pipe_status pipe_denoising_declare(pipe_object *model, const pipe_dataset_info *data,
                                   pipe_prediction predicts, pipe_schedule *schedule, pipe_error *err)
{
    pipe_denoiser_info info;
    pipe_shape sample = {0};
    int k;

    if (strcmp(model->kind, PIPE_KIND_DENOISER) != 0)
        return pipe_fail(err, PIPE_EINVAL, "this objective trains a denoiser; %s is of kind %s", model->name,
                         model->kind);
    PIPE_TRY(pipe_denoiser_describe(model, &info, err));
    if (data) {
        if ((k = pipe_dataset_field(data, "x")) < 0 || data->field[k].dtype != PIPE_F32)
            return pipe_fail(err, PIPE_ENOTFOUND, "the data need a field `x` of numbers to be noised");
        sample = data->field[k].shape;
        if (info.classes > 0)
            PIPE_TRY(check_labels(model, data, info.classes, err));
    }
    return pipe_denoiser_declare(model, predicts, schedule, &sample, info.sigma_data, err);
}

pipe_tensor *pipe_denoising_labels(pipe_denoiser *model, pipe_batch *b, double dropout)
{
    pipe_denoiser_info info;
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *labels, *u;

    if (pipe_denoiser_describe(model, &info, &err) != PIPE_OK)
        return pipe_object_poison(model, err.status, "%s", err.message);
    if (info.classes == 0)
        return NULL;
    labels = pipe_batch_need(b, "label");
    if (dropout <= 0.0)
        return labels;
    u = pipe_rand(pipe_batch_engine(b), PIPE_SHAPE(pipe_batch_size(b)), pipe_batch_key(b, "label dropout"));
    /* labels are small whole numbers: exact in f32 */
    return pipe_to_i32(pipe_where(pipe_less(u, pipe_constant(pipe_batch_engine(b), dropout)),
                                  pipe_constant(pipe_batch_engine(b), -1.0), pipe_to_f32(labels)));
}

void pipe_batch_uniform(const pipe_batch *b, const char *purpose, bool stratified, double *u)
{
    const int64_t n = pipe_batch_size(b);
    pipe_key key = pipe_batch_key(b, purpose);
    float value;

    for (int64_t r = 0; r < n; r++) {
        key.sample = stratified ? 0 : (uint64_t)r;
        if (r == 0 || !stratified)
            pipe_host_rand(key, &value, 1);
        u[r] = stratified ? ((double)r + value) / (double)n : value;
    }
}

double pipe_time_quantile(const pipe_time_density *d, pipe_schedule *s, double u)
{
    const double pi = 3.14159265358979323846, z = d->mean + d->deviation * pipei_normal_quantile(u);
    pipe_schedule_info info;

    if (pipe_schedule_describe(s, &info, NULL) != PIPE_OK)
        return NAN;
    switch (d->times) {
    case PIPE_TIMES_LOGIT_NORMAL:
        u = 1.0 / (1.0 + exp(-z));
        break;
    case PIPE_TIMES_MODE: { /* the paper's f(1 - u), which rises */
        const double sine = sin(0.5 * pi * u);
        u -= d->mode_scale * (sine * sine - u);
        break;
    }
    case PIPE_TIMES_LOG_NORMAL:
        return pipe_schedule_time_of(s, -z);
    default:
        break;
    }
    return info.t_min + u * (info.t_max - info.t_min);
}

pipe_status pipe_training_times(const pipe_time_density *d, pipe_schedule *s, const pipe_batch *b,
                                bool stratified, double *t, pipe_error *err)
{
    pipe_schedule_info info;

    PIPE_TRY(pipe_schedule_describe(s, &info, err));
    pipe_batch_uniform(b, "time", stratified, t);
    for (int64_t r = 0; r < pipe_batch_size(b); r++) {
        const double n = (double)info.discrete;
        t[r] = pipe_time_quantile(d, s, t[r]);
        if (info.discrete > 0)
            t[r] = fmin(floor(t[r] * n) + 1.0, n) / n;
    }
    return PIPE_OK;
}
