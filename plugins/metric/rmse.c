/* The distance between two sets of samples, one by one: what two ways of sampling
 * make of the same noise. */
#include <pipe/pipe.h>

#include <math.h>
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

static pipe_status run(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;
    PIPE_CLEANUP(pipe_free_ptr) float *a = NULL;
    PIPE_CLEANUP(pipe_free_ptr) float *b = NULL;
    char shape_a[PIPE_SHAPE_TEXT], shape_b[PIPE_SHAPE_TEXT];
    pipe_shape sa, sb;
    size_t na, nb;
    double sum = 0.0, worst = 0.0;

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
    const size_t each = (size_t)pipe_shape_count(&sa);
    for (size_t i = 0; i < na; i++) {
        double own = 0.0;
        for (size_t j = 0; j < each; j++) {
            const double difference = (double)a[i * each + j] - (double)b[i * each + j];
            own += difference * difference;
        }
        sum += own;
        worst = fmax(worst, own);
    }
    PIPE_TRY(pipe_report(ctx, "rmse", sqrt(sum / (double)(na * each)), err));
    return pipe_report(ctx, "worst", sqrt(worst / (double)each), err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_METRIC),
    .name = "metric.rmse",
    .version = "1.1.0",
    .licence = "MIT",
    .summary = "root mean squared difference between samples that belong together",
    .help = "Reports `rmse`, over all numbers of all samples, and `worst`, that of the sample that differs "
            "most.",
    .example = "error: {plugin: metric.rmse, samples: fast, reference: exact}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .run = run,
};
