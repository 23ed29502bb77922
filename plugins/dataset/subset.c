/* A run of samples of another data set. */
#include <pipe/pipe.h>

typedef struct {
    pipe_dataset *data;
    int64_t first, count;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, data, PIPE_KIND_DATASET, "to take samples from"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_INT(state, first, 0, 0, 9007199254740992, "samples", "how many to leave out at the start"),
    PIPE_INT(state, count, 0, 0, 9007199254740992, "samples", "how many to take; 0: all that are left"),
    PIPE_PARAM_END,
};

static pipe_status describe(void *self, pipe_dataset_info *info, pipe_error *err)
{
    const state *st = self;

    PIPE_TRY(pipe_dataset_describe(st->data, info, err));
    if ((uint64_t)st->first > info->count || (uint64_t)st->count > info->count - (uint64_t)st->first)
        return pipe_fail(err, PIPE_EINVAL,
                         "dataset.subset: first %lld and count %lld are outside the %llu samples of %s",
                         (long long)st->first, (long long)st->count, (unsigned long long)info->count,
                         pipe_object_name(st->data));
    info->count = st->count ? (uint64_t)st->count : info->count - (uint64_t)st->first;
    return PIPE_OK;
}

static pipe_status read_field(void *self, const pipe_dataset_request *r, size_t k, void *out, pipe_error *err)
{
    const state *st = self;
    PIPE_CLEANUP(pipe_free_ptr) uint64_t *index = pipe_alloc_array(r->n + 1, sizeof *index);
    pipe_dataset_request inner = *r;

    for (size_t i = 0; i < r->n; i++)
        index[i] = r->index[i] + (uint64_t)st->first;
    inner.index = index;
    return pipe_dataset_read(st->data, &inner, k, out, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DATASET),
    .name = "dataset.subset",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "some consecutive samples of another data set",
    .example = "half: {plugin: dataset.subset, data: data, first: 0, count: 5000}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .dataset = {.describe = describe, .read = read_field},
};
