/* The share of samples that a classifier gives the class they are labelled with. */
#include <pipe/pipe.h>

typedef struct {
    pipe_classifier *classifier;
    pipe_dataset *samples;
    int64_t batch;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, samples, PIPE_KIND_DATASET, "with fields x and label"),
    PIPE_INPUT(state, classifier, PIPE_KIND_CLASSIFIER, "the judge: trained on real data"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_INT_FLAGS(state, batch, 250, 1, 65536, "samples", PIPE_PARAM_NO_KEY,
                   "classified at once; larger takes more memory"),
    PIPE_PARAM_END,
};

/* How many of samples first ... first + n - 1 are classified as their label says; rows past the end are
 * zeros that nobody looks at. */
static pipe_status count_right(const state *st, pipe_engine *e, uint64_t first, size_t rows, size_t n,
                               size_t kx, size_t ky, size_t *right, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) int32_t *is = pipe_alloc_array(rows, sizeof *is);
    PIPE_CLEANUP(pipe_free_ptr) int32_t *want = pipe_alloc_array(rows, sizeof *want);
    PIPE_CLEANUP(pipe_free_ptr) uint64_t *index = pipe_alloc_array(n, sizeof *index);
    pipe_tensor *x;

    for (size_t i = 0; i < n; i++)
        index[i] = first + i;
    PIPE_TRY(pipe_dataset_read(
        st->samples, &(pipe_dataset_request){.size = sizeof(pipe_dataset_request), .index = index, .n = n},
        ky, want, err));
    PIPE_TRY(pipe_dataset_tensor(st->samples, e, first, n, kx, &x, err));
    if (n < rows) /* the same shape as every batch: no other kernels to compile */
        x = pipe_pad(x, 0, 0, (int64_t)(rows - n), 0);
    PIPE_TRY(pipe_read_i32(pipe_argmax(pipe_classify(st->classifier, x, NULL)), is, rows, err));
    for (size_t i = 0; i < n; i++)
        *right += is[i] == want[i];
    return PIPE_OK;
}

static pipe_status run(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;
    pipe_dataset_info info;
    size_t kx, ky, right = 0;

    PIPE_TRY(pipe_dataset_describe(st->samples, &info, err));
    PIPE_TRY(pipe_dataset_need(st->samples, &info, "x", &kx, err));
    PIPE_TRY(pipe_dataset_need(st->samples, &info, "label", &ky, err));
    if (info.field[ky].dtype != PIPE_I32 || info.field[ky].shape.rank != 0)
        return pipe_fail(err, PIPE_ESHAPE, "the field `label` of %s must be one whole number per sample",
                         pipe_object_name(st->samples));
    if (info.count == 0)
        return pipe_fail(err, PIPE_EINVAL, "%s is empty", pipe_object_name(st->samples));
    if (info.field[ky].classes > pipe_classifier_classes(st->classifier))
        return pipe_fail(err, PIPE_ESHAPE, "%s has %lld classes, the classifier %s knows %lld",
                         pipe_object_name(st->samples), (long long)info.field[ky].classes,
                         pipe_object_name(st->classifier),
                         (long long)pipe_classifier_classes(st->classifier));
    const size_t rows = info.count < (uint64_t)st->batch ? (size_t)info.count : (size_t)st->batch;
    for (uint64_t first = 0; first < info.count; first += rows) {
        const size_t n = info.count - first < rows ? (size_t)(info.count - first) : rows;
        PIPE_TRY(count_right(st, pipe_context_engine(ctx), first, rows, n, kx, ky, &right, err));
        pipe_progress(ctx, first + n, info.count, "samples", NULL);
        if (pipe_stop_requested(ctx, NULL))
            return pipe_fail(err, PIPE_EINTERRUPTED, "stopped after %llu samples",
                             (unsigned long long)(first + n));
    }
    return pipe_report(ctx, "accuracy", (double)right / (double)info.count, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_METRIC),
    .name = "metric.accuracy",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "share of samples that a classifier gives their label's class",
    .help = "Reports `accuracy`, from 0 to 1.",
    .example = "judged: {plugin: metric.accuracy, samples: images, classifier: judge}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .run = run,
};
