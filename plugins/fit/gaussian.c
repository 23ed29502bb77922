/* Mean, principal axes and variances of a data set: the Gaussian that a denoiser
 * at high noise hardly differs from (Wang and Vastola 2024, arXiv:2412.09726). */
#include <pipe/linalg.h>
#include <pipe/pipe.h>

#include <inttypes.h>
#include <string.h>

typedef struct {
    pipe_dataset *data;
    int64_t rank;
    bool per_class;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, data, PIPE_KIND_DATASET, "whose field `x` is described"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_INT(state, rank, -1, -1, 46340, "axes",
             "kept, those of the largest variances; more explains more and is slower to use; -1: all"),
    PIPE_BOOL(state, per_class, false,
              "one Gaussian for each value of the field `label`, and one of all data for samples without"),
    PIPE_PARAM_END,
};

static const pipe_output outputs[] = {
    PIPE_OUTPUT("statistics", PIPE_KIND_DATASET,
                "one row per Gaussian: mean, axes, eigenvalues, residual (the mean variance of the other "
                "directions), weight"),
    PIPE_OUTPUT_END,
};

typedef struct {
    size_t n, d;
    float *x; /* [n, d] */
    int32_t *label; /* [n] or NULL */
    int64_t classes;
    pipe_shape sample;
} points;

static void points_free(points *p)
{
    pipe_free(p->x);
    pipe_free(p->label);
}

static pipe_status read_points(const state *st, points *p, pipe_error *err)
{
    PIPE_TRY(pipe_dataset_read_x(st->data, &p->sample, &p->n, &p->x, err));
    p->d = (size_t)pipe_shape_count(&p->sample);
    return st->per_class ? pipe_dataset_read_labels(st->data, &p->classes, &p->label, err) : PIPE_OK;
}

/* The samples of one class, packed. */
static size_t gather(const points *p, int32_t class, float *out)
{
    size_t n = 0;

    for (size_t i = 0; i < p->n; i++)
        if (p->label[i] == class)
            memcpy(out + n++ * p->d, p->x + i * p->d, p->d * sizeof *out);
    return n;
}

/* Row k from n samples; *trace: the sum of all variances. */
static pipe_status row(const float *x, size_t n, pipe_gaussian_set *set, int64_t k, double *trace,
                       pipe_error *err)
{
    const size_t d = (size_t)pipe_shape_count(&set->sample);
    PIPE_CLEANUP(pipe_free_ptr) double *mean = pipe_alloc_array(d, sizeof *mean);
    PIPE_CLEANUP(pipe_free_ptr) double *covariance = NULL;
    size_t bytes;

    if (!pipe_mul_size(d, d * sizeof *covariance, &bytes) || !(covariance = pipe_try_alloc(bytes)))
        return pipe_fail(err, PIPE_ENOMEM, "no memory for a covariance of %zu x %zu", d, d);
    PIPE_TRY(pipe_mean_covariance(x, n, d, mean, covariance, err));
    *trace = 0.0;
    for (size_t i = 0; i < d; i++)
        *trace += covariance[i * d + i];
    return pipe_gaussian_set_row(set, k, mean, covariance, err);
}

static pipe_status class_rows(const points *p, pipe_gaussian_set *set, pipe_context *ctx, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) float *own = pipe_try_alloc(p->n * p->d * sizeof *own);
    double trace;

    if (!own)
        return pipe_fail(err, PIPE_ENOMEM, "no memory for a second copy of %zu samples", p->n);
    for (int64_t k = 0; k < p->classes; k++) {
        const size_t n = gather(p, (int32_t)k, own);
        const pipe_status status = row(own, n, set, k, &trace, err);
        if (status != PIPE_OK)
            return pipe_context_fail(err, status, "class %" PRId64, k);
        set->label[k] = (int32_t)k;
        set->weight[k] = (float)((double)n / (double)p->n);
        pipe_progress(ctx, (uint64_t)k + 1, (uint64_t)p->classes + 1, "Gaussians", NULL);
        if (pipe_stop_requested(ctx, NULL))
            return pipe_fail(err, PIPE_EINTERRUPTED, "stopped after class %" PRId64, k);
    }
    return PIPE_OK;
}

/* The spectrum of row k as a curve, and what of all variance the kept axes hold. */
static pipe_status report(const pipe_gaussian_set *set, int64_t k, double trace, pipe_context *ctx,
                          pipe_error *err)
{
    double kept = 0.0;

    for (int64_t j = 0; j < set->rank; j++) {
        const double l = (double)set->eigenvalues[k * set->rank + j];
        kept += l;
        PIPE_TRY(pipe_report_at(ctx, (uint64_t)j + 1, "eigenvalue", l, err));
    }
    PIPE_TRY(pipe_report(ctx, "trace", trace, err));
    return pipe_report(ctx, "kept", trace > 0.0 ? kept / trace : 1.0, err);
}

static pipe_status run(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;
    PIPE_CLEANUP(points_free) points p = {0};
    PIPE_CLEANUP(pipe_gaussian_set_free) pipe_gaussian_set set = {.size = sizeof set};
    pipe_dataset *out = NULL;
    double trace;

    PIPE_TRY(read_points(st, &p, err));
    if (st->rank > (int64_t)p.d)
        return pipe_fail(err, PIPE_EINVAL, "rank: %" PRId64 " axes of samples of %zu numbers", st->rank, p.d);
    set.sample = p.sample;
    set.count = p.classes + 1;
    set.rank = st->rank < 0 ? (int64_t)p.d : st->rank;
    PIPE_TRY(pipe_gaussian_set_alloc(&set, st->per_class, err));
    if (st->per_class)
        PIPE_TRY(class_rows(&p, &set, ctx, err));
    PIPE_TRY(row(p.x, p.n, &set, p.classes, &trace, err));
    if (st->per_class)
        set.label[p.classes] = -1; /* of all data: not a component beside those of the classes */
    else
        set.weight[0] = 1.0f;
    PIPE_TRY(report(&set, p.classes, trace, ctx, err));
    PIPE_TRY(pipe_gaussian_set_dataset(&set, ctx, &out, err));
    const pipe_status status = pipe_yield(ctx, "statistics", out, err);
    pipe_object_unref(out);
    return status;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_STEP),
    .name = "fit.gaussian",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "mean, principal axes and variances of a data set",
    .help = "Reports `trace` (the sum of all variances), `kept` (the share of it along the axes that are "
            "kept) and the curve `eigenvalue`, of all data.",
    .citation = "arXiv:2412.09726",
    .example = "statistics: {plugin: fit.gaussian, data: train, rank: 128}",
    .params = params,
    .inputs = inputs,
    .outputs = outputs,
    .state_size = sizeof(state),
    .run = run,
};
