/* generate: samples from a denoiser by a sampler, in batches.  Sample i depends
 * on (seed, i) alone, so batches of any size give the same samples.  From images it
 * makes variations, fills in what a mask leaves open, or goes back to their noise. */
#include <pipe/io.h>
#include <pipe/pipe.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    pipe_denoiser *denoiser;
    pipe_sampler *sampler;
    pipe_schedule *schedule;
    pipe_dataset *images, *mask, *noise;
    int64_t count, batch, index, seed, preview;
    pipe_ints seeds;
    double strength;
    bool invert;
    pipe_strings labels;
} state;

enum { PREVIEWED = 8 }; /* pictures of a batch that a preview shows */

static const pipe_input inputs[] = {
    PIPE_INPUT(state, denoiser, PIPE_KIND_DENOISER, "a trained, guided or closed-form model"),
    PIPE_INPUT(state, sampler, PIPE_KIND_SAMPLER, "how to get from noise to data"),
    PIPE_INPUT_OPTIONAL(state, schedule, PIPE_KIND_SCHEDULE,
                        "to integrate under another schedule than the denoiser's own"),
    PIPE_INPUT_OPTIONAL(state, images, PIPE_KIND_DATASET,
                        "to start from, in turn: noised by `strength`, kept under `mask`, or to be inverted"),
    PIPE_INPUT_OPTIONAL(state, mask, PIPE_KIND_DATASET,
                        "field x, 1 where `images` is known and stays, 0 where it is made; an axis of 1 "
                        "stands for the whole axis"),
    PIPE_INPUT_OPTIONAL(state, noise, PIPE_KIND_DATASET,
                        "to start from in place of random noise, in turn: what an inversion yielded"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_INT(state, count, 16, 1, 100000000, "samples", "how many"),
    PIPE_INT_FLAGS(state, batch, 64, 1, 65536, "samples", PIPE_PARAM_NO_KEY,
                   "computed at once; larger is faster and takes more memory, the samples stay the same"),
    PIPE_INT(state, index, 0, 0, 2147483647, NULL,
             "number of the first sample: with count 1, sample 42 is made again alone"),
    PIPE_INT(state, seed, -1, -1, 9223372036854775807, NULL, "of the noise; -1: the run's"),
    PIPE_INTS(state, seeds, "[]", 0, 9223372036854775807, NULL,
              "one per sample, in place of `seed`: each is what its seed gives alone as sample 0, computed "
              "one by one"),
    PIPE_FLOAT(state, strength, 1.0, 1e-5, 1.0, NULL,
               "share of the steps that `images` (or `noise`) go through; lower stays closer to the images"),
    PIPE_BOOL(
        state, invert, false,
        "go from `images` up to the noise they come from (DDIM inversion): feed it to `noise` of another "
        "generate; with a deterministic sampler"),
    PIPE_INT(state, preview, 0, 0, 100000, "steps",
             "write the noisy pictures of each batch, up to eight one below the other, every so many steps; "
             "0: never"),
    PIPE_STRINGS(state, labels, "[none]",
                 "conditions: none, each (all classes in turn), or class numbers that are used in turn"),
    PIPE_PARAM_END,
};

static const pipe_rule rules[] = {
    {.name = "images", .excludes = "noise"},
    {.name = "mask", .needs = "images", .excludes = "invert"},
    {.name = "invert", .needs = "images"},
    {.name = "strength", .needs = "images|noise"},
    {.name = "seeds", .excludes = "seed|index"},
    PIPE_RULE_END,
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

/* ---- what a batch starts from ---- */

/* Each axis as that of a sample, or 1 where `broadcast` allows. */
static bool fits(const pipe_shape *got, const pipe_shape *sample, bool broadcast)
{
    bool same = got->rank == sample->rank;

    for (uint32_t k = 0; same && k < got->rank; k++)
        same = got->dim[k] == sample->dim[k] || (broadcast && got->dim[k] == 1);
    return same;
}

static pipe_status check_source(pipe_dataset *d, const char *name, const pipe_shape *sample, bool broadcast,
                                pipe_error *err)
{
    char got[PIPE_SHAPE_TEXT], want[PIPE_SHAPE_TEXT];
    pipe_dataset_info info;
    size_t k;

    PIPE_TRY(pipe_dataset_describe(d, &info, err));
    PIPE_TRY(pipe_dataset_need(d, &info, "x", &k, err));
    if (info.count < 1)
        return pipe_fail(err, PIPE_EINVAL, "%s: %s is empty", name, pipe_object_name(d));
    if (info.field[k].dtype != PIPE_F32 || !fits(&info.field[k].shape, sample, broadcast))
        return pipe_fail(err, PIPE_ESHAPE, "%s: samples of %s have shape %s; those of the model have %s",
                         name, pipe_object_name(d), pipe_shape_text(&info.field[k].shape, got, sizeof got),
                         pipe_shape_text(sample, want, sizeof want));
    return PIPE_OK;
}

/* Samples first ... first + rows - 1 of field x, from the start again behind the last, into *slot. */
static pipe_status keep_rows(pipe_context *ctx, pipe_dataset *d, int64_t first, int64_t rows, bool unit,
                             pipe_tensor **slot, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) uint64_t *index = pipe_alloc_array((size_t)rows, sizeof *index);
    PIPE_CLEANUP(pipe_free_ptr) float *x = NULL;
    pipe_dataset_info info;
    size_t k;

    PIPE_TRY(pipe_dataset_describe(d, &info, err));
    PIPE_TRY(pipe_dataset_need(d, &info, "x", &k, err));
    const size_t each = (size_t)pipe_shape_count(&info.field[k].shape);
    for (int64_t r = 0; r < rows; r++)
        index[r] = (uint64_t)(first + r) % info.count;
    x = pipe_alloc_array((size_t)rows * each + 1, sizeof *x);
    PIPE_TRY(pipe_dataset_read(
        d, &(pipe_dataset_request){.size = sizeof(pipe_dataset_request), .index = index, .n = (size_t)rows},
        k, x, err));
    for (size_t j = 0; unit && j < (size_t)rows * each; j++)
        if (!(x[j] >= 0.0f && x[j] <= 1.0f))
            return pipe_fail(err, PIPE_EDOMAIN,
                             "mask: sample %llu of %s has the value %g; 0 (make) to 1 (keep)",
                             (unsigned long long)index[j / each], pipe_object_name(d), (double)x[j]);
    pipe_shape shape = {.rank = info.field[k].shape.rank + 1, .dim = {rows}};
    memcpy(shape.dim + 1, info.field[k].shape.dim, info.field[k].shape.rank * sizeof shape.dim[0]);
    pipe_keep(slot, pipe_from_f32(pipe_context_engine(ctx), shape, x));
    return PIPE_OK;
}

static pipe_status check_options(const state *st, const pipe_shape *sample, pipe_error *err)
{
    if (st->images)
        PIPE_TRY(check_source(st->images, "images", sample, false, err));
    if (st->mask)
        PIPE_TRY(check_source(st->mask, "mask", sample, true, err));
    if (st->noise)
        PIPE_TRY(check_source(st->noise, "noise", sample, false, err));
    if (st->seeds.n > 0 && st->seeds.n != (size_t)st->count)
        return pipe_fail(err, PIPE_EINVAL, "%zu `seeds` for %lld samples: one per sample is needed",
                         st->seeds.n, (long long)st->count);
    if (st->preview > 0 &&
        (sample->rank != 3 || (sample->dim[2] != 1 && sample->dim[2] != 3 && sample->dim[2] != 4)))
        return pipe_fail(err, PIPE_EINVAL,
                         "`preview` shows pictures [h, w, 1, 3 or 4]; the model's samples are none");
    return PIPE_OK;
}

/* ---- while a batch is made ---- */
typedef struct {
    const state *st;
    pipe_context *ctx;
    uint64_t batch, batches; /* this one, from 0; all */
    uint64_t calls; /* of the denoiser, in all batches */
    int64_t first, wanted; /* samples of this batch: the first, and how many do not only fill it */
} progress;

static bool on_step(void *arg, size_t step, size_t steps)
{
    const progress *p = arg;

    pipe_progress(p->ctx, p->batch * steps + step, p->batches * steps, "steps", NULL);
    return !pipe_stop_requested(p->ctx, NULL);
}

/* The batch's first pictures as they are, in [-1, 1], one below the other. */
static pipe_status on_samples(void *arg, const pipe_sampling *s, pipe_error *err)
{
    const progress *p = arg;
    const pipe_shape *shape = pipe_tensor_shape(s->x);
    const int64_t shown = p->wanted < PREVIEWED ? p->wanted : PREVIEWED;
    const size_t all = (size_t)pipe_count(s->x);
    PIPE_CLEANUP(pipe_free_ptr) float *x = NULL;
    PIPE_CLEANUP(pipe_free_ptr) uint8_t *bytes = NULL;
    PIPE_CLEANUP(pipe_text_free) pipe_text name = {0};
    const char *path;

    if ((int64_t)(s->i + 1) % p->st->preview != 0)
        return PIPE_OK;
    x = pipe_alloc_array(all + 1, sizeof *x);
    bytes = pipe_alloc(all + 1);
    PIPE_TRY(pipe_read_f32(s->x, x, all, err));
    const size_t n = all / (size_t)shape->dim[0] * (size_t)shown;
    PIPE_TRY(pipe_bytes_from_f32(x, n, -1.0, 1.0, bytes, err));
    pipe_text_addf(&name, "preview-%06lld-step-%04zu.png", (long long)p->first, s->i + 1);
    PIPE_TRY(pipe_output_path(p->ctx, name.data, &path, err));
    const pipe_array image = PIPE_ARRAY_U8(PIPE_SHAPE(shown * shape->dim[1], shape->dim[2], shape->dim[3]),
                                           bytes);
    return pipe_png_write(path, &image, NULL, err);
}

/* One batch of `rows` samples from `first` on, of which the first `wanted` are written to `out`. */
static pipe_status sample_batch(pipe_sample_request *r, size_t wanted, size_t each, progress *p, float *out,
                                pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) float *host = NULL;
    pipe_tensor *x = NULL;

    r->calls = &p->calls;
    pipe_status status = pipe_sample(r, &x, err);
    if (status == PIPE_OK) {
        const size_t total = (size_t)r->n * each; /* a sampler that changed the shape is found by the read */
        host = pipe_alloc_array(total + 1, sizeof *host);
        status = pipe_read_f32(x, host, total, err);
        if (status == PIPE_OK)
            memcpy(out, host, wanted * each * sizeof *out);
    }
    pipe_keep(&x, NULL);
    return status;
}

static pipe_status batch(const state *st, pipe_context *ctx, const int32_t *classes, size_t n_classes,
                         int64_t first, int64_t rows, size_t wanted, size_t each, progress *p, float *out,
                         pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) int32_t *label = NULL;
    pipe_condition condition = {.size = sizeof condition};
    pipe_tensor *labels = NULL;
    pipe_sample_request r = {.size = sizeof r,
                             .sampler = st->sampler,
                             .denoiser = st->denoiser,
                             .schedule = st->schedule,
                             .condition = &condition,
                             .n = rows,
                             .first = (uint64_t)first,
                             .key = pipe_context_key(ctx, "sample"),
                             .progress = on_step,
                             .progress_arg = p,
                             .observe = st->preview > 0 ? on_samples : NULL,
                             .observe_arg = p,
                             .strength = st->strength,
                             .padding = rows - (int64_t)wanted,
                             .upward = st->invert};
    pipe_status status = PIPE_OK;

    p->first = first;
    p->wanted = (int64_t)wanted;
    if (st->seed >= 0)
        r.key.seed = (uint64_t)st->seed;
    if (st->seeds.n > 0) {
        r.key.seed = (uint64_t)st->seeds.v[first];
        r.first = 0;
    }
    if (n_classes) {
        label = pipe_alloc_array((size_t)rows, sizeof *label);
        for (int64_t k = 0; k < rows; k++)
            label[k] = classes[(size_t)(first + k) % n_classes];
        pipe_keep(&labels, pipe_from_i32(pipe_context_engine(ctx), PIPE_SHAPE(rows), label));
        condition.labels = labels;
    }
    if (st->images)
        status = keep_rows(ctx, st->images, first, rows, false, &r.image, err);
    if (status == PIPE_OK && st->mask)
        status = keep_rows(ctx, st->mask, first, rows, true, &r.mask, err);
    if (status == PIPE_OK && st->noise)
        status = keep_rows(ctx, st->noise, first, rows, false, &r.start, err);
    if (status == PIPE_OK)
        status = sample_batch(&r, wanted, each, p, out, err);
    pipe_keep(&labels, NULL);
    pipe_keep(&r.image, NULL);
    pipe_keep(&r.mask, NULL);
    pipe_keep(&r.start, NULL);
    return status;
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
    const int64_t most = st->seeds.n > 0 ? 1 : st->batch, rows = most < st->count ? most : st->count;

    PIPE_TRY(pipe_denoiser_describe(st->denoiser, &info, err));
    PIPE_TRY(class_list(st, &info, &classes, &n_classes, err));
    if (!info.schedule)
        return pipe_fail(err, PIPE_EINVAL, "the model `%s` is not trained; run it through `fit` first",
                         pipe_object_name(st->denoiser));
    PIPE_TRY(pipe_sampler_grid(st->sampler, st->schedule ? st->schedule : info.schedule, &grid, &steps, err));
    pipe_free(grid);
    PIPE_TRY(check_options(st, &info.sample, err));

    about.field[0] = (pipe_field){.name = "x", .shape = info.sample, .dtype = PIPE_F32};
    if (n_classes)
        about.field[about.n_fields++] = (pipe_field){
            .name = "label", .dtype = PIPE_I32, .classes = info.classes};
    PIPE_TRY(pipe_dataset_new(ctx, &about, &data, err));
    float *x = pipe_dataset_data(data, 0);
    const size_t each = (size_t)pipe_shape_count(&info.sample);
    const uint64_t before = pipe_denoiser_evaluations(st->denoiser);
    progress p = {.st = st, .ctx = ctx, .batches = (uint64_t)((st->count + rows - 1) / rows)};

    /* The last batch is computed whole too: another shape would mean other kernels to compile. */
    for (int64_t done = 0; status == PIPE_OK && done < st->count; done += rows, p.batch++) {
        const int64_t left = st->count - done;
        const size_t wanted = (size_t)(left < rows ? left : rows);
        float *at = x + (size_t)done * each;
        status = batch(st, ctx, classes, n_classes, st->index + done, rows, wanted, each, &p, at, err);
    }
    for (int64_t i = 0; n_classes && i < st->count; i++)
        ((int32_t *)pipe_dataset_data(data, 1))[i] = classes[(size_t)(st->index + i) % n_classes];
    if (status == PIPE_OK) /* per sample; what fills up the last batch is computed too, but not counted */
        status = pipe_report(ctx, "evaluations",
                             (double)(pipe_denoiser_evaluations(st->denoiser) - before) /
                                 ((double)p.batches * (double)rows),
                             err);
    if (status == PIPE_OK)
        status = pipe_report(ctx, "calls", (double)p.calls / (double)p.batches, err);
    if (status == PIPE_OK)
        status = pipe_yield(ctx, "samples", data, err);
    pipe_object_unref(data);
    return status;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_STEP),
    .name = "generate",
    .version = "1.2.0",
    .licence = "MIT",
    .summary = "draw samples from a denoiser",
    .help =
        "Reports `evaluations`, how often the denoiser was asked per sample (a network under guidance is asked "
        "more often than its guidance), and `calls` of it for a batch, one after another (fewer where one call is "
        "for several noise levels). With `images`, image to image (`strength` below 1), inpainting (`mask`) and "
        "inversion (`invert`); "
        "images, masks and noise are used in turn when there are fewer than samples.",
    .example = "images: {plugin: generate, denoiser: model, sampler: dpmpp-2m, count: 100, labels: each}",
    .params = params,
    .inputs = inputs,
    .outputs = outputs,
    .rules = rules,
    .state_size = sizeof(state),
    .run = run,
};
