/* Reported curves as a line chart, in SVG and PNG. */
#include <pipe/pipe.h>
#include <pipe/plot.h>

#include <string.h>

typedef struct {
    pipe_objects value;
    pipe_strings names;
    bool log_x, log_y;
    const char *title, *name;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT_LIST(state, value, PIPE_KIND_METRICS, 0,
                    "numbers that steps reported (NODE.metrics), one or several"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_STRINGS(
        state, names, "[]",
        "which of the reported numbers, of each of `value`; empty: all that have more than one point"),
    PIPE_BOOL(state, log_x, false, "logarithmic axis of steps"),
    PIPE_BOOL(state, log_y, false, "logarithmic axis of values: shows late progress of a loss"),
    PIPE_STRING(state, title, "", "above the chart"),
    PIPE_STRING(state, name, "0000", "of the files, without .svg and .png"),
    PIPE_PARAM_END,
};

typedef struct {
    pipe_series *series;
    size_t n;
    pipe_arena *arena;
} curves;

static void curves_free(curves *c)
{
    pipe_free(c->series);
    pipe_arena_free(c->arena);
}

static void add(curves *c, const state *st, pipe_metrics *m, const char *name, const double *x,
                const double *y, size_t n)
{
    c->series = pipe_realloc(c->series, (c->n + 1) * sizeof *c->series);
    c->series[c->n++] = (pipe_series){
        .label = st->value.n > 1 ? pipe_arena_format(c->arena, "%s %s", pipe_object_name(m), name) : name,
        .x = x,
        .y = y,
        .count = n,
        .style = n == 1 ? PIPE_SERIES_POINTS : PIPE_SERIES_LINE};
}

static pipe_status unknown(const pipe_metrics *m, const char *name, const char *const *all, size_t n,
                           pipe_error *err)
{
    enum { SHOWN = 8 };
    PIPE_CLEANUP(pipe_text_free) pipe_text have = {0};
    const char *near = pipe_nearest(name, all, n);

    if (near)
        return pipe_fail(err, PIPE_ENOTFOUND, "%s has reported no `%s`; did you mean `%s`?",
                         pipe_object_name(m), name, near);
    for (size_t k = 0; k < n && k < SHOWN; k++)
        pipe_text_addf(&have, "%s%s", k ? ", " : "", all[k]);
    return pipe_fail(err, PIPE_ENOTFOUND, "%s has reported no `%s`; it has reported: %s%s",
                     pipe_object_name(m), name, n ? have.data : "nothing", n > SHOWN ? ", ..." : "");
}

static pipe_status collect(curves *c, const state *st, pipe_error *err)
{
    for (size_t k = 0; k < st->value.n; k++) {
        pipe_metrics *m = st->value.v[k];
        const char *const *all;
        const size_t n_all = pipe_metrics_names(m, &all);
        const double *x, *y;
        size_t n;

        for (size_t i = 0; st->names.n == 0 && i < n_all; i++)
            if (pipe_metrics_curve(m, all[i], &x, &y, &n) && n > 1)
                add(c, st, m, all[i], x, y, n);
        for (size_t i = 0; i < st->names.n; i++) {
            if (!pipe_metrics_curve(m, st->names.v[i], &x, &y, &n))
                return unknown(m, st->names.v[i], all, n_all, err);
            add(c, st, m, st->names.v[i], x, y, n);
        }
    }
    if (c->n == 0)
        return pipe_fail(err, PIPE_EINVAL, "nothing to plot: no curve of more than one point was reported");
    return PIPE_OK;
}

static pipe_status run(void *self, pipe_context *ctx, pipe_error *err)
{
    static const char *const endings[] = {".svg", ".png"};
    const state *st = self;
    PIPE_CLEANUP(curves_free) curves c = {.arena = pipe_arena_new()};
    pipe_plot plot = PIPE_PLOT_INIT;

    PIPE_TRY(collect(&c, st, err));
    plot.title = *st->title ? st->title : NULL;
    plot.x_label = "step";
    plot.y_label = c.n == 1 ? c.series[0].label : NULL;
    plot.log_x = st->log_x;
    plot.log_y = st->log_y;
    plot.series = c.series;
    plot.series_count = c.n;
    for (size_t k = 0; k < 2; k++) {
        const char *path;
        PIPE_TRY(pipe_output_path(ctx, pipe_arena_format(c.arena, "%s%s", st->name, endings[k]), &path, err));
        PIPE_TRY(pipe_plot_write(&plot, path, err));
    }
    return pipe_report(ctx, "curves", (double)c.n, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SINK),
    .name = "sink.plot",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "reported curves as a chart, SVG and PNG",
    .help = "Reports `curves`, the number of curves drawn.",
    .example = "curve: {plugin: sink.plot, value: model.metrics, names: [loss]}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .run = run,
};
