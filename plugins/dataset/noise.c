/* Standard normal noise as data: a fixed start for several samplers, or a source
 * where the noise's distribution is itself what is studied. */
#include <pipe/pipe.h>

typedef struct {
    pipe_ints shape;
    int64_t count, seed;
    double deviation;
    pipe_shape sample;
    pipe_key key;
} state;

static const pipe_param params[] = {
    PIPE_INTS(state, shape, NULL, 1, 1000000, NULL, "of a sample: [2], [28, 28, 1]"),
    PIPE_INT(state, count, 256, 1, 1000000000, "samples", "how many"),
    PIPE_FLOAT(state, deviation, 1.0, 0.0, 1e9, NULL,
               "standard deviation; to start a sampler, the schedule's largest sigma"),
    PIPE_INT(state, seed, -1, -1, 4294967295, NULL, "of the noise; -1: the run's"),
    PIPE_PARAM_END,
};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;

    if (st->shape.n < 1 || st->shape.n >= PIPE_MAX_RANK)
        return pipe_fail(err, PIPE_EINVAL, "shape: 1 to %d sizes are needed, not %zu", PIPE_MAX_RANK - 1,
                         st->shape.n);
    st->sample.rank = (uint32_t)st->shape.n;
    for (size_t k = 0; k < st->shape.n; k++)
        st->sample.dim[k] = st->shape.v[k];
    st->key = pipe_context_key(ctx, "noise");
    if (st->seed >= 0)
        st->key.seed = (uint64_t)st->seed;
    return PIPE_OK;
}

static pipe_status describe(void *self, pipe_dataset_info *info, pipe_error *err)
{
    const state *st = self;

    (void)err;
    info->count = (uint64_t)st->count;
    info->n_fields = 1;
    info->field[0] = (pipe_field){.name = "x", .shape = st->sample, .dtype = PIPE_F32};
    return PIPE_OK;
}

static pipe_status read_field(void *self, const pipe_dataset_request *r, size_t k, void *out, pipe_error *err)
{
    const state *st = self;
    const size_t each = (size_t)pipe_shape_count(&st->sample);
    pipe_key key = st->key;
    float *x = out;

    (void)k;
    (void)err;
    for (size_t i = 0; i < r->n; i++) {
        key.sample = r->index[i];
        pipe_host_randn(key, x + i * each, each);
        for (size_t j = 0; j < each; j++)
            x[i * each + j] *= (float)st->deviation;
    }
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DATASET),
    .name = "dataset.noise",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "standard normal noise",
    .help = "Sample i depends on the seed, the node's name and i alone. As `noise` of several generate nodes "
            "it gives them the same start.",
    .example = "start: {plugin: dataset.noise, shape: [28, 28, 1], count: 256, deviation: 80}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .dataset = {.describe = describe, .read = read_field},
};
