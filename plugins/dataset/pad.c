/* Puts a border around pictures [h, w, c]: 28 x 28 becomes 32 x 32, which can be
 * halved five times. */
#include <pipe/pipe.h>

#include <string.h>

typedef struct {
    pipe_dataset *data;
    int64_t size;
    double value;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, data, PIPE_KIND_DATASET, "of pictures in field x"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_INT_REQUIRED(state, size, 1, 65536, "pixels",
                      "height and width afterwards; the picture stays in the middle"),
    PIPE_FLOAT(state, value, -1.0, -1e30, 1e30, NULL, "of the border: -1 is black for pictures in [-1, 1]"),
    PIPE_PARAM_END,
};

static pipe_status inner(const state *st, pipe_dataset_info *info, size_t *k, pipe_error *err)
{
    PIPE_TRY(pipe_dataset_describe(st->data, info, err));
    PIPE_TRY(pipe_dataset_need(st->data, info, "x", k, err));
    const pipe_shape *s = &info->field[*k].shape;
    if (s->rank != 3 || s->dim[0] > st->size || s->dim[1] > st->size) {
        char got[PIPE_SHAPE_TEXT];
        return pipe_fail(err, PIPE_ESHAPE,
                         "dataset.pad: samples of %s have shape %s; pictures [h, w, c] of at most "
                         "%lld pixels a side are needed",
                         pipe_object_name(st->data), pipe_shape_text(s, got, sizeof got),
                         (long long)st->size);
    }
    return PIPE_OK;
}

static pipe_status describe(void *self, pipe_dataset_info *info, pipe_error *err)
{
    const state *st = self;
    size_t k;

    PIPE_TRY(inner(st, info, &k, err));
    info->field[k].shape.dim[0] = info->field[k].shape.dim[1] = st->size;
    return PIPE_OK;
}

static pipe_status read_field(void *self, const pipe_dataset_request *r, size_t k, void *out, pipe_error *err)
{
    const state *st = self;
    PIPE_CLEANUP(pipe_free_ptr) float *small = NULL;
    pipe_dataset_info info;
    size_t x;

    PIPE_TRY(inner(st, &info, &x, err));
    if (k != x)
        return pipe_dataset_read(st->data, r, k, out, err);
    const int64_t *dim = info.field[k].shape.dim;
    const size_t h = (size_t)dim[0], w = (size_t)dim[1], c = (size_t)dim[2], s = (size_t)st->size;
    const size_t top = (s - h) / 2, left = (s - w) / 2;
    float *large = out;

    small = pipe_alloc_array(r->n, (h * w * c + 1) * sizeof *small);
    PIPE_TRY(pipe_dataset_read(st->data, r, k, small, err));
    for (size_t i = 0; i < r->n * s * s * c; i++)
        large[i] = (float)st->value;
    for (size_t i = 0; i < r->n; i++)
        for (size_t y = 0; y < h; y++)
            memcpy(large + ((i * s + top + y) * s + left) * c, small + (i * h + y) * w * c,
                   w * c * sizeof *large);
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DATASET),
    .name = "dataset.pad",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "a border around pictures",
    .example = "padded: {plugin: dataset.pad, data: data, size: 32}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .dataset = {.describe = describe, .read = read_field},
};
