/* pipe plot: curves of a table, as the one that a sweep writes. */
#include "core/base/file.h"
#include "cli.h"

#include <pipe/io.h>
#include <pipe/plot.h>
#include <string.h>

static const cli_option options[] = {
    {"x", 'x', "COLUMN", "along the horizontal axis; without it: the row's number"},
    {"y", 'y', "COLUMN", "along the vertical axis"},
    {"by", 0, "COLUMN", "one curve for each value of this column; without it: one curve"},
    {"only", 0, "VALUE", "of --by, no curves of others; may be repeated; they are drawn in this order"},
    {"log-x", 0, NULL, "logarithmic horizontal axis"},
    {"log-y", 0, NULL, "logarithmic vertical axis"},
    {"title", 0, "TEXT", "above the chart"},
    {"output", 'o', "FILE", "write to this .svg or .png (default: plot.svg)"},
    {"overwrite", 0, NULL, "replace an existing file"},
    {NULL}
};

typedef struct {
    pipe_table *table;
    size_t rows;
    double *x, *y;
    const char **by;            /* the value of each row; NULL: one curve */
    const char **label;         /* of the curves */
    pipe_series *series;
    double *points;             /* those of the curves, x and y */
    size_t n;
} drawing;

static void drawing_free(drawing *d)
{
    pipe_table_free(d->table);
    pipe_free(d->x);
    pipe_free(d->y);
    pipe_free(d->by);
    pipe_free(d->label);
    pipe_free(d->series);
    pipe_free(d->points);
}

static pipe_status column_of(const pipe_table *t, const char *name, size_t *k, pipe_error *err)
{
    const size_t n = pipe_table_columns(t);
    PIPE_CLEANUP(pipe_free_ptr) const char **names = pipe_alloc_array(n + 1, sizeof *names);

    if ((*k = pipe_table_find(t, name)) < n)
        return PIPE_OK;
    for (size_t i = 0; i < n; i++)
        names[i] = pipe_table_name(t, i);
    const char *near = pipe_nearest(name, names, n);
    return pipe_fail(err, PIPE_ENOTFOUND, "the table has no column %s%s%s", name, near ? "; did you mean " : "",
                     near ? near : "");
}

static pipe_status read_numbers(const drawing *d, const char *name, double *out, pipe_error *err)
{
    size_t k;

    if (name) {
        PIPE_TRY(column_of(d->table, name, &k, err));
        return pipe_table_numbers(d->table, k, out, err);
    }
    for (size_t i = 0; i < d->rows; i++)
        out[i] = (double)i;
    return PIPE_OK;
}

static bool listed(const char *const *list, size_t n, const char *value)
{
    for (size_t k = 0; k < n; k++)
        if (strcmp(list[k], value) == 0)
            return true;
    return false;
}

/* The values of --by in the order of --only, else of the table. */
static pipe_status find_labels(const cli_args *a, drawing *d, const char *by, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) const char **only = pipe_alloc_array(a->n_given + 1, sizeof *only);
    const size_t n_only = cli_values(a, "only", only, a->n_given);
    size_t k;

    PIPE_TRY(column_of(d->table, by, &k, err));
    d->by = pipe_alloc_array(d->rows + 1, sizeof *d->by);
    for (size_t i = 0; i < d->rows; i++)
        d->by[i] = pipe_table_text(d->table, i, k);
    for (size_t i = 0; i < n_only; i++)
        if (!listed(d->by, d->rows, only[i]))
            return pipe_fail(err, PIPE_ENOTFOUND, "no row has %s in column %s", only[i], by);
    const char *const *from = n_only ? only : d->by;
    const size_t most = n_only ? n_only : d->rows;
    d->label = pipe_alloc_array(most + 1, sizeof *d->label);
    for (size_t i = 0; i < most; i++)
        if (!listed(d->label, d->n, from[i]))
            d->label[d->n++] = from[i];
    return PIPE_OK;
}

static void collect(drawing *d)
{
    double *at;

    d->series = pipe_alloc_array(d->n + 1, sizeof *d->series);
    at = d->points = pipe_alloc_array(2 * d->rows + 1, sizeof *d->points);
    for (size_t k = 0; k < d->n; k++) {
        size_t count = 0;
        for (size_t i = 0; i < d->rows; i++)
            count += !d->by || strcmp(d->by[i], d->label[k]) == 0;
        double *x = at, *y = at + count;
        at += 2 * count;
        d->series[k] = (pipe_series){.label = d->by ? d->label[k] : NULL, .x = x, .y = y, .count = count,
                                     .style = PIPE_SERIES_LINE_POINTS};
        for (size_t i = 0; i < d->rows; i++)
            if (!d->by || strcmp(d->by[i], d->label[k]) == 0) {
                *x++ = d->x[i];
                *y++ = d->y[i];
            }
    }
}

static pipe_status draw(const cli_args *a, const char *path, pipe_error *err)
{
    PIPE_CLEANUP(drawing_free) drawing d = {0};
    const char *x = cli_value(a, "x"), *y = cli_value(a, "y"), *by = cli_value(a, "by");
    pipe_plot plot = PIPE_PLOT_INIT;

    PIPE_TRY(pipe_csv_read(a->operand[0], 0, &d.table, err));
    d.rows = pipe_table_rows(d.table);
    d.x = pipe_alloc_array(d.rows + 1, sizeof *d.x);
    d.y = pipe_alloc_array(d.rows + 1, sizeof *d.y);
    PIPE_TRY(read_numbers(&d, x, d.x, err));
    PIPE_TRY(read_numbers(&d, y, d.y, err));
    if (by)
        PIPE_TRY(find_labels(a, &d, by, err));
    else
        d.n = 1;
    collect(&d);
    plot.title = cli_value(a, "title");
    plot.x_label = x ? x : "row";
    plot.y_label = y;
    plot.log_x = cli_flag(a, "log-x");
    plot.log_y = cli_flag(a, "log-y");
    plot.height = 360.0 + (d.n > 12 ? 18.0 * (double)(d.n - 12) : 0.0); /* room for the legend */
    plot.width = 720.0;
    plot.series = d.series;
    plot.series_count = d.n;
    return pipe_plot_write(&plot, path, err);
}

static int run(const cli_args *a)
{
    const char *path = cli_value(a, "output");
    pipe_error err = PIPE_ERROR_INIT;

    if (!cli_operands(a, 1, 1, "table"))
        return EXIT_USAGE;
    if (!cli_value(a, "y"))
        return cli_usage(a->verb, "--y=COLUMN is missing");
    if (cli_value(a, "only") && !cli_value(a, "by"))
        return cli_usage(a->verb, "--only needs --by=COLUMN");
    path = path ? path : "plot.svg";
    if (pipei_path_exists(path) && !cli_flag(a, "overwrite"))
        return cli_fail(EXIT_USAGE, "%s exists: --overwrite replaces it", path);
    const pipe_status status = draw(a, path, &err);
    return status == PIPE_OK ? 0 : cli_fail_error(status, &err);
}

const cli_verb cli_verb_plot = {
    .name = "plot",
    .summary = "Draws curves of a table",
    .usage = "[OPTIONS] TABLE.csv",
    .help = "TABLE.csv is the sweep.csv of a sweep, or any table whose first row names its columns. Rows without a "
            "number are gaps.",
    .options = options,
    .run = run,
};
