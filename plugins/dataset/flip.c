/* Mirrors pictures [h, w, c] from left to right, at random: which ones depends on
 * (seed, how often the data set was gone through, sample) alone. */
#include <pipe/pipe.h>

#include <string.h>

typedef struct {
    pipe_dataset *data;
    double probability;
    pipe_key key;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, data, PIPE_KIND_DATASET, "of pictures in field x"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_FLOAT(state, probability, 0.5, 0.0, 1.0, NULL, "of a picture to be mirrored; 1 mirrors all"),
    PIPE_PARAM_END,
};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    (void)err;
    ((state *)self)->key = pipe_context_key(ctx, "flip");
    return PIPE_OK;
}

static pipe_status describe(void *self, pipe_dataset_info *info, pipe_error *err)
{
    const state *st = self;
    size_t k;

    PIPE_TRY(pipe_dataset_describe(st->data, info, err));
    PIPE_TRY(pipe_dataset_need(st->data, info, "x", &k, err));
    if (info->field[k].shape.rank != 3)
        return pipe_fail(err, PIPE_ESHAPE,
                         "dataset.flip: samples of %s have %u axes; pictures [h, w, c] are needed",
                         pipe_object_name(st->data), info->field[k].shape.rank);
    return PIPE_OK;
}

static void mirror(float *row, size_t width, size_t channels)
{
    for (size_t a = 0, b = width - 1; a < b; a++, b--)
        for (size_t c = 0; c < channels; c++) {
            const float t = row[a * channels + c];
            row[a * channels + c] = row[b * channels + c];
            row[b * channels + c] = t;
        }
}

static pipe_status read_field(void *self, const pipe_dataset_request *r, size_t k, void *out, pipe_error *err)
{
    const state *st = self;
    pipe_dataset_info info;
    pipe_key key = st->key;

    PIPE_TRY(describe(self, &info, err));
    PIPE_TRY(pipe_dataset_read(st->data, r, k, out, err));
    if (strcmp(info.field[k].name, "x") != 0)
        return PIPE_OK;
    const int64_t *dim = info.field[k].shape.dim;
    const size_t h = (size_t)dim[0], w = (size_t)dim[1], c = (size_t)dim[2];
    key.step = r->draw;
    for (size_t i = 0; i < r->n; i++) {
        float u;
        key.sample = r->index[i];
        pipe_host_rand(key, &u, 1);
        for (size_t y = 0; (double)u < st->probability && w > 0 && y < h; y++)
            mirror((float *)out + (i * h + y) * w * c, w, c);
    }
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DATASET),
    .name = "dataset.flip",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "mirror pictures at random",
    .example = "more: {plugin: dataset.flip, data: data, probability: 0.5}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .create = create,
    .dataset = {.describe = describe, .read = read_field},
};
