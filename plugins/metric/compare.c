/* One reported number against another, so that a claim can be about both. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    pipe_objects values, against;
    const char *against_name;
    pipe_strings names;
    int64_t pick;
} state;

enum { ONE, LARGEST, SMALLEST, MEAN };

static const char *const picks[] = {"one", "largest", "smallest", "mean", NULL};

static const pipe_input inputs[] = {
    PIPE_INPUT_LIST(state, values, PIPE_KIND_METRICS, 0, "the metrics of one step (NODE.metrics) or several"),
    PIPE_INPUT_LIST(state, against, PIPE_KIND_METRICS, 0, "those that they are compared with"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_STRINGS(state, names, NULL, "of the numbers in `values`: each one that is reported there counts"),
    PIPE_STRING(state, against_name, "", "of the number in `against`; empty: the first of `names`"),
    PIPE_CHOICE(state, pick, "one", picks,
                "where there are several numbers: one (that is a mistake), largest, smallest or mean"),
    PIPE_PARAM_END,
};

/* Adds a number to those picked so far. */
static double add(const state *st, double so_far, double v, size_t n)
{
    if (n == 0)
        return v;
    return st->pick == LARGEST ? fmax(so_far, v) : st->pick == SMALLEST ? fmin(so_far, v) : so_far + v;
}

static pipe_status pick(const state *st, const pipe_objects *of, const char *const *names, size_t n_names,
                        const char *what, double *out, pipe_error *err)
{
    size_t n = 0;
    double v, sum = 0.0;

    for (size_t k = 0; k < of->n; k++)
        for (size_t i = 0; i < n_names; i++)
            if (pipe_metrics_last(of->v[k], names[i], &v)) {
                sum = add(st, sum, v, n);
                n++;
            }
    if (n == 0)
        return pipe_fail(err, PIPE_ENOTFOUND, "%s: no step reports `%s`", what, n_names ? names[0] : "");
    if (n > 1 && st->pick == ONE)
        return pipe_fail(err, PIPE_EINVAL,
                         "%s: %zu numbers are found; `pick` says what to do with them: largest, smallest, "
                         "mean",
                         what, n);
    *out = st->pick == MEAN ? sum / (double)n : sum;
    return PIPE_OK;
}

static pipe_status run(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;
    double a, b;

    if (st->names.n == 0)
        return pipe_fail(err, PIPE_EINVAL, "names: at least one is needed");
    const char *const other = *st->against_name ? st->against_name : st->names.v[0];
    PIPE_TRY(pick(st, &st->values, st->names.v, st->names.n, "values", &a, err));
    PIPE_TRY(pick(st, &st->against, &other, 1, "against", &b, err));
    PIPE_TRY(pipe_report(ctx, "value", a, err));
    PIPE_TRY(pipe_report(ctx, "against", b, err));
    PIPE_TRY(pipe_report(ctx, "difference", a - b, err));
    return b != 0.0 ? pipe_report(ctx, "ratio", a / b, err) : PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_METRIC),
    .name = "metric.compare",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "one reported number against another",
    .help = "Reports `value`, `against`, `difference` (value - against) and `ratio` (value / against; not "
            "where `against` is 0).",
    .example = "gain: {plugin: metric.compare, values: fast.metrics, against: slow.metrics, names: [rmse]}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .run = run,
};
