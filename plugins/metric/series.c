/* A number that several steps report, as a curve: how it develops over
 * checkpoints, over settings, and when it has nearly come to its best. */
#include <pipe/pipe.h>

#include <inttypes.h>
#include <math.h>

typedef struct {
    pipe_objects values;
    pipe_ints at;
    pipe_strings names;
    double share;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT_LIST(state, values, PIPE_KIND_METRICS, 0, "the metrics (NODE.metrics) of the steps, in order"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_INTS(state, at, NULL, 0, 1000000000, NULL,
              "rising: where on the curve each of `values` lies (the training step of a checkpoint)"),
    PIPE_STRINGS(state, names, NULL, "of the numbers: each becomes a curve of that name"),
    PIPE_FLOAT(state, share, 0.95, 0.0, 1.0, NULL,
               "of its maximum that a curve must come to, to count as having reached it"),
    PIPE_PARAM_END,
};

static pipe_status check(const state *st, pipe_error *err)
{
    if (st->at.n != st->values.n)
        return pipe_fail(err, PIPE_EINVAL, "at: %zu places for %zu values", st->at.n, st->values.n);
    for (size_t k = 1; k < st->at.n; k++)
        if (st->at.v[k] <= st->at.v[k - 1])
            return pipe_fail(err, PIPE_EINVAL, "at: the places must rise, but %" PRId64 " follows %" PRId64,
                             st->at.v[k], st->at.v[k - 1]);
    return PIPE_OK;
}

static pipe_status report_as(pipe_context *ctx, const char *what, const char *name, double value,
                             pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *full = pipe_format("%s-%s", what, name);

    return pipe_report(ctx, full, value, err);
}

static pipe_status curve(const state *st, pipe_context *ctx, const char *name, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) double *v = pipe_alloc_array(st->values.n, sizeof *v);
    double most = -INFINITY;
    size_t k;

    for (k = 0; k < st->values.n; k++) {
        if (!pipe_metrics_last(st->values.v[k], name, &v[k]))
            return pipe_fail(err, PIPE_ENOTFOUND, "values: %s does not report `%s`",
                             pipe_object_name(st->values.v[k]), name);
        most = fmax(most, v[k]);
        PIPE_TRY(pipe_report_at(ctx, (uint64_t)st->at.v[k], name, v[k], err));
    }
    PIPE_TRY(report_as(ctx, "maximum", name, most, err));
    for (k = 0; k + 1 < st->values.n && v[k] < st->share * most;)
        k++;
    return report_as(ctx, "reached", name, (double)st->at.v[k], err);
}

static pipe_status run(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;

    PIPE_TRY(check(st, err));
    for (size_t k = 0; k < st->names.n; k++)
        PIPE_TRY(curve(st, ctx, st->names.v[k], err));
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_METRIC),
    .name = "metric.series",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "a number that several steps report, as a curve",
    .help = "Reports each of `names` as a curve over `at`, its maximum as maximum-NAME, and as reached-NAME "
            "the first place at which it is at least `share` of that.",
    .example = "learned: {plugin: metric.series, values: [early.metrics, late.metrics], at: [100, 800], "
               "names: [distance]}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .run = run,
};
