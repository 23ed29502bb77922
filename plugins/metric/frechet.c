/* Frechet distance between the Gaussians that fit two sets of features: Heusel et
 * al. 2017, arXiv:1706.08500, equation 6 (theirs is called FID when the features
 * are InceptionV3's):  |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).
 * It is biased upwards by few samples: compare only equal numbers of samples. */
#include <pipe/linalg.h>
#include <pipe/pipe.h>

typedef struct {
    pipe_dataset *samples, *reference;
    pipe_encoder *encoder;
    int64_t batch;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, samples, PIPE_KIND_DATASET, "what is judged"),
    PIPE_INPUT(state, reference, PIPE_KIND_DATASET, "real data"),
    PIPE_INPUT_OPTIONAL(state, encoder, PIPE_KIND_ENCODER,
                        "whose outputs are the features; without one: the samples"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_INT_FLAGS(state, batch, 250, 1, 65536, "samples", PIPE_PARAM_NO_KEY,
                   "encoded at once; larger takes more memory"),
    PIPE_PARAM_END,
};

typedef struct {
    size_t n, d;
    float *rows; /* [n, d] */
} features;

static void features_free(features *f)
{
    pipe_free(f->rows);
}

static pipe_status make_room(features *f, size_t d, const char *name, pipe_error *err)
{
    enum { MOST = 46340 }; /* of <pipe/linalg.h> */
    size_t bytes;

    if (d < 1 || d > MOST)
        return pipe_fail(err, PIPE_ESHAPE,
                         "%s has %zu features per sample; their covariance can be had of 1 to %d: give an "
                         "`encoder` with fewer",
                         name, d, MOST);
    if (!pipe_mul_size(f->n, d * sizeof *f->rows, &bytes) || !(f->rows = pipe_try_alloc(bytes)))
        return pipe_fail(err, PIPE_ENOMEM, "no memory for the %zu features of %zu samples of %s", d, f->n,
                         name);
    f->d = d;
    return PIPE_OK;
}

static pipe_status encode_batch(const state *st, pipe_dataset *data, pipe_engine *e, uint64_t first,
                                size_t rows, size_t n, size_t k, features *f, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) float *host = NULL;
    pipe_tensor *x, *y;

    PIPE_TRY(pipe_dataset_tensor(data, e, first, n, k, &x, err));
    if (n < rows) /* the same shape as every batch: no other kernels to compile */
        x = pipe_pad(x, 0, 0, (int64_t)(rows - n), 0);
    y = st->encoder ? pipe_encode(st->encoder, x) : x;
    PIPE_TRY(pipe_check(y, err));
    const size_t d = (size_t)(pipe_count(y) / (int64_t)rows);
    if (!f->rows)
        PIPE_TRY(make_room(f, d, pipe_object_name(data), err));
    host = pipe_alloc_array(rows, (d + 1) * sizeof *host);
    PIPE_TRY(pipe_read_f32(y, host, rows * d, err));
    for (size_t i = 0; i < n * d; i++)
        f->rows[first * d + i] = host[i];
    return PIPE_OK;
}

static pipe_status encode(const state *st, pipe_dataset *data, pipe_context *ctx, uint64_t done,
                          uint64_t total, features *f, pipe_error *err)
{
    pipe_dataset_info info;
    size_t k;

    PIPE_TRY(pipe_dataset_describe(data, &info, err));
    PIPE_TRY(pipe_dataset_need(data, &info, "x", &k, err));
    if (info.count < 2)
        return pipe_fail(err, PIPE_EINVAL, "%s has %llu samples; a covariance needs at least 2",
                         pipe_object_name(data), (unsigned long long)info.count);
    f->n = (size_t)info.count;
    const size_t rows = info.count < (uint64_t)st->batch ? (size_t)info.count : (size_t)st->batch;
    for (uint64_t first = 0; first < info.count; first += rows) {
        const size_t n = info.count - first < rows ? (size_t)(info.count - first) : rows;
        PIPE_TRY(encode_batch(st, data, pipe_context_engine(ctx), first, rows, n, k, f, err));
        pipe_progress(ctx, done + first + n, total, "samples", NULL);
        if (pipe_stop_requested(ctx, NULL))
            return pipe_fail(err, PIPE_EINTERRUPTED, "stopped while encoding %s", pipe_object_name(data));
    }
    return PIPE_OK;
}

static pipe_status fit_gaussian(const features *f, const char *name, double *mean, double *covariance,
                                pipe_error *err)
{
    const pipe_status status = pipe_mean_covariance(f->rows, f->n, f->d, mean, covariance, err);

    return status == PIPE_OK ? PIPE_OK : pipe_context_fail(err, status, "features of %s", name);
}

static pipe_status run(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;
    PIPE_CLEANUP(features_free) features a = {0}, b = {0};
    PIPE_CLEANUP(pipe_free_ptr) double *work = NULL;
    pipe_dataset_info ia, ib;
    double distance;

    PIPE_TRY(pipe_dataset_describe(st->samples, &ia, err));
    PIPE_TRY(pipe_dataset_describe(st->reference, &ib, err));
    PIPE_TRY(encode(st, st->samples, ctx, 0, ia.count + ib.count, &a, err));
    PIPE_TRY(encode(st, st->reference, ctx, ia.count, ia.count + ib.count, &b, err));
    if (a.d != b.d)
        return pipe_fail(err, PIPE_ESHAPE, "features of %s have %zu numbers, those of %s %zu",
                         pipe_object_name(st->samples), a.d, pipe_object_name(st->reference), b.d);
    const size_t d = a.d;
    if (!(work = pipe_try_alloc(2 * d * (d + 1) * sizeof *work)))
        return pipe_fail(err, PIPE_ENOMEM,
                         "no memory for covariances of %zu features: give an `encoder` with fewer", d);
    double *ma = work, *mb = ma + d, *ca = mb + d, *cb = ca + d * d;
    PIPE_TRY(fit_gaussian(&a, pipe_object_name(st->samples), ma, ca, err));
    PIPE_TRY(fit_gaussian(&b, pipe_object_name(st->reference), mb, cb, err));
    PIPE_TRY(pipe_frechet_distance(ma, ca, mb, cb, d, &distance, err));
    return pipe_report(ctx, "distance", distance, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_METRIC),
    .name = "metric.frechet",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "Frechet distance between two sets in the features of an encoder",
    .help =
        "Reports `distance`: 0 for equal Gaussians. It depends on the encoder and on the number of samples; "
        "compare with the distance between two real sets of the same sizes.",
    .citation = "arXiv:1706.08500",
    .example = "fid: {plugin: metric.frechet, samples: images, reference: test, encoder: features}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .run = run,
};
