/* Maps the samples' range of values onto another one. */
#include <pipe/pipe.h>

#include <string.h>

typedef struct {
    pipe_dataset *data;
    pipe_floats from, to;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, data, PIPE_KIND_DATASET, "whose field x is mapped"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_FLOATS(state, from, "[]", 1, 0, NULL,
                "[low, high] of the values now; empty: what the data set says"),
    PIPE_FLOATS(state, to, "[-1, 1]", 1, 0, NULL, "[low, high] that they are mapped to"),
    PIPE_PARAM_END,
};

static pipe_status range(const state *st, const pipe_field *f, double *low, double *high, pipe_error *err)
{
    *low = st->from.n ? st->from.v[0] : f->low;
    *high = st->from.n ? st->from.v[1] : f->high;
    if (!(*low < *high))
        return pipe_fail(err, PIPE_EINVAL,
                         "dataset.scale: the range of %s is not known; give `from: [low, high]`",
                         pipe_object_name(st->data));
    return PIPE_OK;
}

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;

    (void)ctx;
    if ((st->from.n != 0 && (st->from.n != 2 || !(st->from.v[0] < st->from.v[1]))) || st->to.n != 2 ||
        !(st->to.v[0] < st->to.v[1]))
        return pipe_fail(err, PIPE_EINVAL,
                         "dataset.scale: `from` and `to` are two rising numbers, [low, high]");
    return PIPE_OK;
}

static pipe_status describe(void *self, pipe_dataset_info *info, pipe_error *err)
{
    const state *st = self;
    double low, high;
    size_t k;

    PIPE_TRY(pipe_dataset_describe(st->data, info, err));
    PIPE_TRY(pipe_dataset_need(st->data, info, "x", &k, err));
    PIPE_TRY(range(st, &info->field[k], &low, &high, err));
    info->field[k].low = st->to.v[0];
    info->field[k].high = st->to.v[1];
    return PIPE_OK;
}

static pipe_status read_field(void *self, const pipe_dataset_request *r, size_t k, void *out, pipe_error *err)
{
    const state *st = self;
    pipe_dataset_info info;
    double low, high;
    float *x = out;

    PIPE_TRY(pipe_dataset_describe(st->data, &info, err));
    PIPE_TRY(pipe_dataset_read(st->data, r, k, out, err));
    if (strcmp(info.field[k].name, "x") != 0)
        return PIPE_OK;
    PIPE_TRY(range(st, &info.field[k], &low, &high, err));
    const double gain = (st->to.v[1] - st->to.v[0]) / (high - low);
    for (size_t i = 0; i < r->n * (size_t)pipe_shape_count(&info.field[k].shape); i++)
        x[i] = (float)(st->to.v[0] + gain * ((double)x[i] - low));
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DATASET),
    .name = "dataset.scale",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "map the samples' range of values onto another",
    .example = "unit: {plugin: dataset.scale, data: data, to: [0, 1]}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .create = create,
    .dataset = {.describe = describe, .read = read_field},
};
