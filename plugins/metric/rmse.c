/* The distance between two sets of samples, one by one: what two ways of sampling
 * make of the same noise. */
#include <pipe/pipe.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    pipe_dataset *samples, *reference;
    int64_t count;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, samples, PIPE_KIND_DATASET, "what is judged"),
    PIPE_INPUT(state, reference, PIPE_KIND_DATASET,
               "what it should be: sample i belongs to sample i; it may have more"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_INT(state, count, 0, 0, 1000000000, "samples",
             "compared, the first ones of both; more is more exact; 0: all of `samples`"),
    PIPE_PARAM_END,
};

static int smaller_first(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static pipe_status run(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;
    PIPE_CLEANUP(pipe_free_ptr) float *a = NULL;
    PIPE_CLEANUP(pipe_free_ptr) float *b = NULL;
    PIPE_CLEANUP(pipe_free_ptr) double *own = NULL;
    char shape_a[PIPE_SHAPE_TEXT], shape_b[PIPE_SHAPE_TEXT];
    pipe_shape sa, sb;
    size_t na, nb;
    double sum = 0.0;

    PIPE_TRY(pipe_dataset_read_x(st->samples, &sa, &na, &a, err));
    PIPE_TRY(pipe_dataset_read_x(st->reference, &sb, &nb, &b, err));
    if (!pipe_shape_equal(&sa, &sb))
        return pipe_fail(err, PIPE_ESHAPE, "samples of %s have the shape %s, those of %s %s",
                         pipe_object_name(st->samples), pipe_shape_text(&sa, shape_a, sizeof shape_a),
                         pipe_object_name(st->reference), pipe_shape_text(&sb, shape_b, sizeof shape_b));
    if ((size_t)st->count > na)
        return pipe_fail(err, PIPE_EINVAL, "count: %s has %zu samples", pipe_object_name(st->samples), na);
    if (st->count > 0)
        na = (size_t)st->count;
    if (na > nb)
        return pipe_fail(err, PIPE_EINVAL, "%zu samples of %s are compared, more than the %zu of %s", na,
                         pipe_object_name(st->samples), nb, pipe_object_name(st->reference));
    if (na == 0)
        return pipe_fail(err, PIPE_EINVAL, "%s has no samples", pipe_object_name(st->samples));
    const size_t each = (size_t)pipe_shape_count(&sa);
    own = pipe_alloc(na * sizeof *own);
    for (size_t i = 0; i < na; i++) {
        double squares = 0.0;
        for (size_t j = 0; j < each; j++) {
            const double difference = (double)a[i * each + j] - (double)b[i * each + j];
            squares += difference * difference;
        }
        if (!isfinite(squares))
            return pipe_fail(err, PIPE_EDOMAIN, "sample %zu of %s and of %s: their difference is %s", i,
                             pipe_object_name(st->samples), pipe_object_name(st->reference),
                             isnan(squares) ? "NaN" : "infinite");
        sum += squares;
        own[i] = sqrt(squares / (double)each);
    }
    qsort(own, na, sizeof *own, smaller_first);
    PIPE_TRY(pipe_report(ctx, "rmse", sqrt(sum / (double)(na * each)), err));
    PIPE_TRY(pipe_report(ctx, "median", 0.5 * (own[(na - 1) / 2] + own[na / 2]), err));
    return pipe_report(ctx, "worst", own[na - 1], err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_METRIC),
    .name = "metric.rmse",
    .version = "1.2.0",
    .licence = "MIT",
    .summary = "root mean squared difference between samples that belong together",
    .help = "Reports `rmse`, over all numbers of all samples; `median`, of the samples' own (the mean of the two "
            "in the middle where their number is even), which a few that differ much do not move; and "
            "`worst`, that of the sample that differs most.",
    .example = "error: {plugin: metric.rmse, samples: fast, reference: exact}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .run = run,
};
