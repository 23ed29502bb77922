/* Subtracts a mean and divides by a standard deviation, per channel (the last
 * axis); either given, or measured once over the data set. */
#include <pipe/pipe.h>

#include <math.h>
#include <string.h>

typedef struct {
    pipe_dataset *data;
    pipe_floats mean, deviation;
    double *m, *s; /* [channels]; measured or given, at the first read */
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, data, PIPE_KIND_DATASET, "whose field x is normalized"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_FLOATS(state, mean, "[]", 1, 0, NULL,
                "per channel, or one for all; empty: measured over the data set"),
    PIPE_FLOATS(state, deviation, "[]", 1e-12, 1e30, NULL,
                "standard deviation per channel, or one for all; empty: measured over the data set"),
    PIPE_PARAM_END,
};

static size_t channels_of(const pipe_field *f)
{
    return f->shape.rank ? (size_t)f->shape.dim[f->shape.rank - 1] : 1;
}

/* Mean and deviation of every channel in one pass (Welford: no cancellation), of the samples as they
 * are when the data set is gone through for the first time. */
static pipe_status measure(const state *st, const pipe_dataset_info *info, size_t k, double *m, double *s,
                           pipe_error *err)
{
    enum { CHUNK = 256, NUMBERS = 1 << 22 };
    const size_t each = (size_t)pipe_shape_count(&info->field[k].shape), c = channels_of(&info->field[k]);
    const size_t rows = each > NUMBERS / CHUNK ? (each < NUMBERS ? NUMBERS / each : 1) : CHUNK;
    PIPE_CLEANUP(pipe_free_ptr) float *x = pipe_alloc_array(rows, (each + 1) * sizeof *x);
    uint64_t index[CHUNK];
    double seen = 0.0;

    for (uint64_t first = 0; first < info->count; first += rows) {
        const size_t n = info->count - first < rows ? (size_t)(info->count - first) : rows;
        for (size_t i = 0; i < n; i++)
            index[i] = first + i;
        PIPE_TRY(pipe_dataset_read(
            st->data, &(pipe_dataset_request){.size = sizeof(pipe_dataset_request), .index = index, .n = n},
            k, x, err));
        for (size_t i = 0; i < n * each; i += c) {
            seen += 1.0;
            for (size_t j = 0; j < c; j++) {
                const double d = (double)x[i + j] - m[j];
                m[j] += d / seen;
                s[j] += d * ((double)x[i + j] - m[j]);
            }
        }
    }
    for (size_t j = 0; j < c; j++) {
        s[j] = sqrt(s[j] / seen);
        if (!isfinite(s[j]))
            return pipe_fail(err, PIPE_EDOMAIN,
                             "dataset.normalize: channel %zu of %s has values that are not finite", j,
                             pipe_object_name(st->data));
        if (!st->deviation.n && !(s[j] > 0.0))
            return pipe_fail(err, PIPE_EDOMAIN,
                             "dataset.normalize: channel %zu of %s is constant; give `deviation`", j,
                             pipe_object_name(st->data));
    }
    return PIPE_OK;
}

static pipe_status given(const pipe_floats *v, const char *name, size_t c, double *out, pipe_error *err)
{
    if (v->n != 1 && v->n != c)
        return pipe_fail(err, PIPE_ESHAPE, "dataset.normalize: %s has %zu numbers for %zu channels", name,
                         v->n, c);
    for (size_t j = 0; j < c; j++)
        out[j] = v->v[v->n == 1 ? 0 : j];
    return PIPE_OK;
}

static pipe_status prepare(state *st, const pipe_dataset_info *info, size_t k, pipe_error *err)
{
    const size_t c = channels_of(&info->field[k]);
    PIPE_CLEANUP(pipe_free_ptr) double *m = NULL, *s = NULL;

    if (st->m)
        return PIPE_OK;
    m = pipe_alloc_array(c + 1, sizeof *m);
    s = pipe_alloc_array(c + 1, sizeof *s);
    if (!st->mean.n || !st->deviation.n)
        PIPE_TRY(measure(st, info, k, m, s, err));
    if (st->mean.n)
        PIPE_TRY(given(&st->mean, "mean", c, m, err));
    if (st->deviation.n)
        PIPE_TRY(given(&st->deviation, "deviation", c, s, err));
    st->m = m;
    st->s = s;
    m = s = NULL;
    return PIPE_OK;
}

static void destroy(void *self)
{
    state *st = self;

    pipe_free(st->m);
    pipe_free(st->s);
}

static pipe_status describe(void *self, pipe_dataset_info *info, pipe_error *err)
{
    const state *st = self;
    size_t k;

    PIPE_TRY(pipe_dataset_describe(st->data, info, err));
    PIPE_TRY(pipe_dataset_need(st->data, info, "x", &k, err));
    info->field[k].low = info->field[k].high = 0.0; /* no fixed range any more */
    return PIPE_OK;
}

static pipe_status read_field(void *self, const pipe_dataset_request *r, size_t k, void *out, pipe_error *err)
{
    state *st = self;
    pipe_dataset_info info;
    float *x = out;

    PIPE_TRY(pipe_dataset_describe(st->data, &info, err));
    PIPE_TRY(pipe_dataset_read(st->data, r, k, out, err));
    if (strcmp(info.field[k].name, "x") != 0)
        return PIPE_OK;
    PIPE_TRY(prepare(st, &info, k, err));
    const size_t c = channels_of(&info.field[k]), n = r->n * (size_t)pipe_shape_count(&info.field[k].shape);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(((double)x[i] - st->m[i % c]) / st->s[i % c]);
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DATASET),
    .name = "dataset.normalize",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "mean 0 and standard deviation 1 per channel",
    .example = "white: {plugin: dataset.normalize, data: data}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .destroy = destroy,
    .dataset = {.describe = describe, .read = read_field},
};
