#include "data-plugins/data-test.h"

#include <math.h>
#include <stdio.h>

pipe_dataset *data_make(pipe_shape sample, size_t n, const float *x, const int32_t *label, int64_t classes)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_dataset *d = NULL;
    pipe_dataset_info info = {.size = sizeof info, .count = n, .n_fields = label ? 2 : 1};
    const size_t each = (size_t)pipe_shape_count(&sample);

    info.field[0] = (pipe_field){.name = "x", .shape = sample, .dtype = PIPE_F32};
    info.field[1] = (pipe_field){.name = "label", .dtype = PIPE_I32, .classes = classes};
    OK(pipe_dataset_new(test_context("data", 1), &info, &d, &err));
    if (n > 0 && each > 0)
        memcpy(pipe_dataset_data(d, 0), x, n * each * sizeof *x);
    if (label)
        memcpy(pipe_dataset_data(d, 1), label, n * sizeof *label);
    return d;
}

pipe_dataset_info data_info(pipe_dataset *d)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_dataset_info info;

    OK(pipe_dataset_describe(d, &info, &err));
    return info;
}

void data_read(pipe_dataset *d, const char *field, const uint64_t *index, size_t n, uint64_t draw, void *out)
{
    pipe_error err = PIPE_ERROR_INIT;
    const pipe_dataset_info info = data_info(d);
    const int k = pipe_dataset_field(&info, field);

    cr_assert(k >= 0, "no field %s", field);
    OK(pipe_dataset_read(
        d,
        &(pipe_dataset_request){.size = sizeof(pipe_dataset_request), .index = index, .n = n, .draw = draw},
        (size_t)k, out, &err));
}

void data_x(pipe_dataset *d, uint64_t first, size_t n, float *out)
{
    uint64_t index[256];

    cr_assert(n <= COUNT(index));
    for (size_t i = 0; i < n; i++)
        index[i] = first + i;
    data_read(d, "x", index, n, 0, out);
}

pipe_status data_over(const char *kind, const char *name, const char *input, pipe_object *of,
                      const char *const *params, pipe_object **out, pipe_error *err)
{
    const pipei_named_object inputs[] = {{input, of}, {NULL, NULL}};

    return test_object_try(kind, name, params, inputs, out, err);
}

pipe_context *data_context(const char *folder)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *ctx = NULL;

    OK(pipei_context_standalone(test_engine(), "node", 1, folder, &ctx, &err));
    return ctx;
}

pipe_status data_run(pipe_context *ctx, const char *kind, const char *name, const char *const *params,
                     const pipei_named_object *inputs, pipe_error *err)
{
    size_t n = 0;

    while (inputs[n].name)
        n++;
    return pipei_step_run(test_plugin(kind, name), params, inputs, n, ctx, err);
}

double data_reported(pipe_context *ctx, const char *name)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_metrics *m = NULL;
    double value = NAN;

    OK(pipei_context_metrics(ctx, &m, &err));
    if (!pipe_metrics_last(m, name, &value))
        value = NAN;
    pipe_object_unref(m);
    return value;
}

void data_write(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");

    cr_assert(f && fwrite(bytes, 1, n, f) == n && fclose(f) == 0, "%s", path);
}
