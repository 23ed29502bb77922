/* generate: samples from a denoiser by a sampler, in batches.  Sample i depends
 * on (seed, i) alone, so batches of any size give the same samples. */
#include <pipe/pipe.h>

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    pipe_denoiser *denoiser;
    pipe_sampler *sampler;
    pipe_schedule *schedule;
    int64_t count, batch, index, seed;
    pipe_strings labels;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, denoiser, PIPE_KIND_DENOISER, "a trained, guided or closed-form model"),
    PIPE_INPUT(state, sampler, PIPE_KIND_SAMPLER, "how to get from noise to data"),
    PIPE_INPUT_OPTIONAL(state, schedule, PIPE_KIND_SCHEDULE,
                        "to integrate under another schedule than the denoiser's own"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_INT(state, count, 16, 1, 100000000, "samples", "how many"),
    PIPE_INT_FLAGS(state, batch, 64, 1, 65536, "samples", PIPE_PARAM_NO_KEY,
                   "computed at once; larger is faster and takes more memory, the samples stay the same"),
    PIPE_INT(state, index, 0, 0, 2147483647, NULL,
             "number of the first sample: with count 1, sample 42 is made again alone"),
    PIPE_INT(state, seed, -1, -1, 9223372036854775807, NULL, "of the noise; -1: the run's"),
    PIPE_STRINGS(state, labels, "[none]",
                 "conditions: none, each (all classes in turn), or class numbers that are used in turn"),
    PIPE_PARAM_END,
};

static const pipe_output outputs[] = {
    PIPE_OUTPUT("samples", PIPE_KIND_DATASET, "the samples: field x, and label where labels were asked for"),
    PIPE_OUTPUT_END,
};

/* Class numbers to go through in turn; *n = 0: unconditional. */
static pipe_status class_list(const state *st, const pipe_denoiser_info *info, int32_t **out, size_t *n,
                              pipe_error *err)
{
    const bool each = st->labels.n == 1 && strcmp(st->labels.v[0], "each") == 0;
    const bool none = st->labels.n == 0 || (st->labels.n == 1 && strcmp(st->labels.v[0], "none") == 0);
    const size_t count = none ? 0 : each ? (size_t)info->classes : st->labels.n;
    PIPE_CLEANUP(pipe_free_ptr) int32_t *list = NULL;

    if (!none && info->classes <= 0)
        return pipe_fail(err, PIPE_EINVAL, "labels: the model `%s` knows no classes; use labels: none",
                         pipe_object_name(st->denoiser));
    list = pipe_alloc_array(count + 1, sizeof *list);
    for (size_t k = 0; k < count; k++) {
        char *end = NULL;
        errno = 0;
        const long v = each ? (long)k : strtol(st->labels.v[k], &end, 10);
        if (!each && (errno || end == st->labels.v[k] || *end || v < 0 || v >= info->classes))
            return pipe_fail(err, PIPE_EINVAL,
                             "labels: `%s` is not a class; none, each, or numbers from 0 to %lld",
                             st->labels.v[k], (long long)info->classes - 1);
        list[k] = (int32_t)v;
    }
    *out = list;
    list = NULL;
    *n = count;
    return PIPE_OK;
}

typedef struct {
    pipe_context *ctx;
    uint64_t done, total; /* sampler steps over all batches */
} progress;

static bool on_step(void *arg, size_t step, size_t steps)
{
    progress *p = arg;

    (void)step;
    (void)steps;
    p->done++;
    pipe_progress(p->ctx, p->done, p->total, "steps", NULL);
    return !pipe_stop_requested(p->ctx, NULL);
}

/* One batch of `rows` samples from `first` on, of which the first `wanted` are written to `out`. */
static pipe_status batch(const state *st, pipe_context *ctx, const int32_t *classes, size_t n_classes,
                         int64_t first, int64_t rows, size_t wanted, size_t each, progress *p, float *out,
                         pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) float *host = NULL;
    PIPE_CLEANUP(pipe_free_ptr) int32_t *label = NULL;
    pipe_condition condition = {.size = sizeof condition};
    pipe_tensor *labels = NULL, *x = NULL;
    pipe_key key = pipe_context_key(ctx, "sample");
    pipe_status status;

    if (st->seed >= 0)
        key.seed = (uint64_t)st->seed;
    if (n_classes) {
        label = pipe_alloc_array((size_t)rows, sizeof *label);
        for (int64_t r = 0; r < rows; r++)
            label[r] = classes[(size_t)(first + r) % n_classes];
        pipe_keep(&labels, pipe_from_i32(pipe_context_engine(ctx), PIPE_SHAPE(rows), label));
        condition.labels = labels;
    }
    status = pipe_sample(&(pipe_sample_request){.size = sizeof(pipe_sample_request),
                                                .sampler = st->sampler,
                                                .denoiser = st->denoiser,
                                                .schedule = st->schedule,
                                                .condition = &condition,
                                                .n = rows,
                                                .first = (uint64_t)first,
                                                .key = key,
                                                .progress = on_step,
                                                .progress_arg = p},
                         &x, err);
    if (status == PIPE_OK) {
        const size_t total = (size_t)rows * each; /* a sampler that changed the shape is found by the read */
        host = pipe_alloc_array(total + 1, sizeof *host);
        status = pipe_read_f32(x, host, total, err);
        if (status == PIPE_OK)
            memcpy(out, host, wanted * each * sizeof *out);
    }
    pipe_keep(&labels, NULL);
    pipe_keep(&x, NULL);
    return status;
}

static pipe_status check_finite(const float *x, size_t n, size_t each, int64_t index, pipe_error *err)
{
    for (size_t k = 0; k < n; k++)
        if (!isfinite(x[k]))
            return pipe_fail(err, PIPE_EDOMAIN,
                             "sample %lld is not finite (%g at element %zu): the model or the "
                             "sampler diverged; more steps or a lower guidance scale may help",
                             (long long)index + (long long)(k / each), (double)x[k], k % each);
    return PIPE_OK;
}

static pipe_status run(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;
    PIPE_CLEANUP(pipe_free_ptr) int32_t *classes = NULL;
    pipe_denoiser_info info;
    pipe_dataset_info about = {.size = sizeof about, .count = (uint64_t)st->count, .n_fields = 1};
    pipe_dataset *data = NULL;
    size_t n_classes = 0, steps;
    double *grid = NULL;
    pipe_status status = PIPE_OK;
    const int64_t rows = st->batch < st->count ? st->batch : st->count;

    PIPE_TRY(pipe_denoiser_describe(st->denoiser, &info, err));
    PIPE_TRY(class_list(st, &info, &classes, &n_classes, err));
    if (!info.schedule)
        return pipe_fail(err, PIPE_EINVAL, "the model `%s` is not trained; run it through `fit` first",
                         pipe_object_name(st->denoiser));
    PIPE_TRY(pipe_sampler_grid(st->sampler, st->schedule ? st->schedule : info.schedule, &grid, &steps, err));
    pipe_free(grid);

    about.field[0] = (pipe_field){.name = "x", .shape = info.sample, .dtype = PIPE_F32};
    if (n_classes)
        about.field[about.n_fields++] = (pipe_field){
            .name = "label", .dtype = PIPE_I32, .classes = info.classes};
    PIPE_TRY(pipe_dataset_new(ctx, &about, &data, err));
    float *x = pipe_dataset_data(data, 0);
    const size_t each = (size_t)pipe_shape_count(&info.sample);
    progress p = {.ctx = ctx, .total = (uint64_t)((st->count + rows - 1) / rows) * steps};

    /* The last batch is computed whole too: another shape would mean other kernels to compile. */
    for (int64_t done = 0; status == PIPE_OK && done < st->count; done += rows) {
        const int64_t left = st->count - done;
        const size_t wanted = (size_t)(left < rows ? left : rows);
        float *at = x + (size_t)done * each;
        status = batch(st, ctx, classes, n_classes, st->index + done, rows, wanted, each, &p, at, err);
        if (status == PIPE_OK)
            status = check_finite(at, wanted * each, each, st->index + done, err);
    }
    for (int64_t i = 0; n_classes && i < st->count; i++)
        ((int32_t *)pipe_dataset_data(data, 1))[i] = classes[(size_t)(st->index + i) % n_classes];
    if (status == PIPE_OK)
        status = pipe_yield(ctx, "samples", data, err);
    pipe_object_unref(data);
    return status;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_STEP),
    .name = "generate",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "draw samples from a denoiser",
    .example = "images: {plugin: generate, denoiser: model, sampler: dpmpp-2m, count: 100, labels: each}",
    .params = params,
    .inputs = inputs,
    .outputs = outputs,
    .state_size = sizeof(state),
    .run = run,
};
