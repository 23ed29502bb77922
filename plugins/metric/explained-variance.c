/* How much of a denoiser others explain, by noise level (Wang and Vastola 2024,
 * arXiv:2412.09726, section 4): per sample of noised data x = y + sigma z,
 *
 *     1 - |s - s'|^2 / |s|^2,   s = (D(x) - x) / sigma^2 the score, s' the approximation's,
 *
 * and the same with D in place of s; then the mean over samples.  Both are told:
 * at small noise any sensible D is nearly x, so nearly all of D is explained by
 * anything, and at high noise the same holds for the score. */
#include <pipe/pipe.h>

#include <inttypes.h>
#include <math.h>

typedef struct {
    pipe_denoiser *denoiser;
    pipe_objects approximations;
    pipe_dataset *data;
    pipe_floats sigmas;
    int64_t first, count, batch;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, denoiser, PIPE_KIND_DENOISER, "what is to be explained: a trained network"),
    PIPE_INPUT_LIST(state, approximations, PIPE_KIND_DENOISER, 0,
                    "that explain it: denoiser.gaussian, .gaussian-mixture, .empirical; one or several"),
    PIPE_INPUT(state, data, PIPE_KIND_DATASET, "whose samples are noised"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_FLOATS(
        state, sigmas, "[0.1, 0.2, 0.5, 1, 2, 5, 10]", 1e-6, 1e6, NULL,
        "noise levels, sigma / alpha: the standard deviation of the noise on data that are not scaled"),
    PIPE_INT(state, first, 0, 0, 1000000000, "samples", "passed over at the start of the data"),
    PIPE_INT(state, count, 256, 1, 1000000000, "samples", "that are noised; more is more exact and slower"),
    PIPE_INT_FLAGS(state, batch, 128, 1, 65536, "samples", PIPE_PARAM_NO_KEY,
                   "computed at once; larger takes more memory"),
    PIPE_PARAM_END,
};

enum { SCORE, X0, LEVELS };

static const char *const level_names[LEVELS] = {"score", "x0"};

/* sum over everything but the batch: [n] */
static pipe_tensor *norm2(pipe_tensor *a)
{
    static const int last = -1;

    return pipe_sum(pipe_square(pipe_reshape(a, PIPE_SHAPE(pipe_dim(a, 0), -1))), &last, 1, false);
}

/* The shares of each approximation, [approximations, LEVELS, n] in all, at one level for n samples from
 * `first` of the data on. */
static pipe_status shares(const state *st, pipe_context *ctx, size_t field, size_t which, uint64_t first,
                          size_t n, float *out, pipe_error *err)
{
    const double sigma = st->sigmas.v[which];
    pipe_engine *e = pipe_context_engine(ctx);
    pipe_key key = pipe_context_key(ctx, "noise");
    pipe_tensor *x, *part[LEVELS], *all;
    PIPE_CLEANUP(pipe_free_ptr)
    pipe_tensor **rows = pipe_alloc_array(st->approximations.n * LEVELS, sizeof(pipe_tensor *));

    key.sample = first;
    key.step = which;
    PIPE_TRY(pipe_dataset_tensor(st->data, e, first, n, field, &x, err));
    x = pipe_axpby(1.0, x, sigma, pipe_randn(e, *pipe_tensor_shape(x), key));
    pipe_tensor *d = pipe_predict_x0_of_ratio(st->denoiser, x, sigma, NULL);
    pipe_tensor *whole[LEVELS] = {norm2(pipe_sub(d, x)), norm2(d)}; /* of the score: times 1 / sigma^4 */
    for (size_t k = 0; k < st->approximations.n; k++) {
        pipe_tensor *left = norm2(
            pipe_sub(d, pipe_predict_x0_of_ratio(st->approximations.v[k], x, sigma, NULL)));
        for (int level = 0; level < LEVELS; level++) {
            part[level] = pipe_affine(pipe_div(left, whole[level]), -1.0, 1.0);
            rows[k * LEVELS + (size_t)level] = pipe_reshape(part[level], PIPE_SHAPE(1, (int64_t)n));
        }
    }
    all = pipe_concat(rows, st->approximations.n * LEVELS, 0);
    return pipe_read_f32(all, out, st->approximations.n * LEVELS * n, err);
}

static pipe_status report(const state *st, pipe_context *ctx, const double *sum, double sigma,
                          pipe_error *err)
{
    for (size_t k = 0; k < st->approximations.n; k++)
        for (int level = 0; level < LEVELS; level++) {
            PIPE_CLEANUP(pipe_free_ptr)
            char *name = pipe_format("%s-%s-%g", pipe_object_name(st->approximations.v[k]),
                                     level_names[level], sigma);
            PIPE_TRY(pipe_report(ctx, name, sum[k * LEVELS + (size_t)level] / (double)st->count, err));
        }
    return PIPE_OK;
}

static pipe_status check(const state *st, size_t *field, pipe_error *err)
{
    pipe_dataset_info info;

    PIPE_TRY(pipe_dataset_describe(st->data, &info, err));
    PIPE_TRY(pipe_dataset_need(st->data, &info, "x", field, err));
    if (info.field[*field].dtype != PIPE_F32)
        return pipe_fail(err, PIPE_ESHAPE, "%s: field `x` must be f32", pipe_object_name(st->data));
    if ((uint64_t)(st->first + st->count) > info.count)
        return pipe_fail(err, PIPE_EINVAL,
                         "count: samples %" PRId64 " to %" PRId64 " are asked for; %s has %" PRIu64,
                         st->first, st->first + st->count - 1, pipe_object_name(st->data), info.count);
    if (st->sigmas.n == 0)
        return pipe_fail(err, PIPE_EINVAL, "sigmas: at least one noise level is needed");
    return PIPE_OK;
}

static pipe_status run(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;
    const size_t series = st->approximations.n * LEVELS,
                 rows = (size_t)(st->batch < st->count ? st->batch : st->count);
    PIPE_CLEANUP(pipe_free_ptr) float *part = pipe_alloc_array(series * rows, sizeof *part);
    PIPE_CLEANUP(pipe_free_ptr) double *sum = pipe_alloc_array(series, sizeof *sum);
    size_t field;

    PIPE_TRY(check(st, &field, err));
    for (size_t s = 0; s < st->sigmas.n; s++) {
        for (size_t k = 0; k < series; k++)
            sum[k] = 0.0;
        for (size_t done = 0; done < (size_t)st->count; done += rows) {
            const size_t left = (size_t)st->count - done, n = left < rows ? left : rows;
            PIPE_TRY(shares(st, ctx, field, s, (uint64_t)st->first + done, n, part, err));
            for (size_t k = 0; k < series; k++)
                for (size_t i = 0; i < n; i++)
                    sum[k] += (double)part[k * n + i];
            if (pipe_stop_requested(ctx, NULL))
                return pipe_fail(err, PIPE_EINTERRUPTED, "stopped at sigma %g", st->sigmas.v[s]);
        }
        PIPE_TRY(report(st, ctx, sum, st->sigmas.v[s], err));
        pipe_progress(ctx, s + 1, st->sigmas.n, "noise levels", NULL);
    }
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_METRIC),
    .name = "metric.explained-variance",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "the share of a denoiser that other denoisers explain, by noise level",
    .help = "Reports NODE-score-SIGMA and NODE-x0-SIGMA for every approximation NODE and noise level: the "
            "share of the score, and of the predicted data, mean over samples of the ratios; 1 is all, "
            "below 0 is worse than nothing.",
    .citation = "arXiv:2412.09726",
    .example = "explained: {plugin: metric.explained-variance, denoiser: model, approximations: [gauss], "
               "data: test}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .run = run,
};
