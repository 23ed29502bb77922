/* Reported curves, or the numbers of a data set, as a CSV table. */
#include <pipe/io.h>
#include <pipe/pipe.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    pipe_object *value;
    const char *name;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, value, "metrics|dataset", "numbers that a step reported (NODE.metrics), or a data set"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_STRING(state, name, "0000.csv", "of the file"),
    PIPE_PARAM_END,
};

/* A table under construction: column names and rows of numbers. */
typedef struct {
    pipe_arena *arena;
    const char **names;
    double *values; /* [rows, columns] */
    size_t rows, columns;
} table;

static void table_free(table *t)
{
    pipe_arena_free(t->arena);
    pipe_free(t->values);
}

static pipe_status table_make(table *t, uint64_t rows, size_t columns, pipe_error *err)
{
    size_t bytes;

    if (!pipe_mul_size(rows, columns, &bytes) || !pipe_mul_size(bytes, sizeof *t->values, &bytes) ||
        !(t->values = pipe_try_alloc(bytes ? bytes : 1)))
        return pipe_fail(err, PIPE_ENOMEM, "no memory for a table of %llu rows and %zu columns",
                         (unsigned long long)rows, columns);
    t->rows = (size_t)rows;
    t->columns = columns;
    t->names = pipe_arena_alloc(t->arena, (columns + 1) * sizeof *t->names);
    return PIPE_OK;
}

static int rising(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Column `step` and one column per name; a name without a value at a step leaves the field empty. */
static pipe_status from_metrics(pipe_metrics *m, table *t, pipe_error *err)
{
    const char *const *names;
    const size_t n_names = pipe_metrics_names(m, &names);
    const double *step, *value;
    size_t n, all = 0, distinct = 0;
    double *steps;

    for (size_t k = 0; k < n_names; k++)
        if (pipe_metrics_curve(m, names[k], &step, &value, &n))
            all += n;
    if (all == 0)
        return pipe_fail(err, PIPE_EINVAL, "%s has reported nothing", pipe_object_name(m));
    steps = pipe_arena_alloc(t->arena, all * sizeof *steps);
    all = 0;
    for (size_t k = 0; k < n_names; k++)
        if (pipe_metrics_curve(m, names[k], &step, &value, &n)) {
            memcpy(steps + all, step, n * sizeof *steps);
            all += n;
        }
    qsort(steps, all, sizeof *steps, rising);
    for (size_t i = 0; i < all; i++)
        if (distinct == 0 || steps[i] != steps[distinct - 1])
            steps[distinct++] = steps[i];
    PIPE_TRY(table_make(t, distinct, n_names + 1, err));
    t->names[0] = "step";
    for (size_t i = 0; i < distinct; i++) {
        t->values[i * t->columns] = steps[i];
        for (size_t k = 0; k < n_names; k++)
            t->values[i * t->columns + k + 1] = NAN;
    }
    for (size_t k = 0; k < n_names; k++) {
        t->names[k + 1] = names[k];
        if (!pipe_metrics_curve(m, names[k], &step, &value, &n))
            continue;
        for (size_t j = 0; j < n; j++) {
            const double *found = bsearch(&step[j], steps, distinct, sizeof *steps, rising);
            t->values[(size_t)(found - steps) * t->columns + k + 1] = value[j];
        }
    }
    return PIPE_OK;
}

/* A column per number of a sample: x.0, x.1, ..., label. */
static pipe_status from_dataset(pipe_dataset *d, table *t, pipe_error *err)
{
    enum { MOST_COLUMNS = 65536 };
    pipe_dataset_info info;
    size_t columns = 0, first = 0;

    PIPE_TRY(pipe_dataset_describe(d, &info, err));
    for (size_t k = 0; k < info.n_fields; k++) {
        const size_t each = (size_t)pipe_shape_count(&info.field[k].shape);
        columns = each > MOST_COLUMNS - columns ? MOST_COLUMNS + 1 : columns + each;
        if (columns > MOST_COLUMNS)
            return pipe_fail(err, PIPE_EINVAL,
                             "%s has more than %d numbers per sample, the most columns of a table "
                             "(sink.safetensors takes any)",
                             pipe_object_name(d), MOST_COLUMNS);
    }
    if (columns == 0)
        return pipe_fail(err, PIPE_EINVAL, "%s has no numbers to write", pipe_object_name(d));
    PIPE_TRY(table_make(t, info.count, columns, err));
    for (size_t k = 0; k < info.n_fields; k++) {
        const pipe_field *f = &info.field[k];
        const size_t each = (size_t)pipe_shape_count(&f->shape);
        int32_t *row = pipe_arena_alloc(t->arena, (each + 1) * 4);
        for (size_t j = 0; j < each; j++)
            t->names[first + j] = f->shape.rank ? pipe_arena_format(t->arena, "%s.%zu", f->name, j)
                                                : pipe_arena_strdup(t->arena, f->name);
        for (uint64_t i = 0; i < info.count; i++) {
            PIPE_TRY(pipe_dataset_read(
                d, &(pipe_dataset_request){.size = sizeof(pipe_dataset_request), .index = &i, .n = 1}, k, row,
                err));
            for (size_t j = 0; j < each; j++) {
                float real;
                memcpy(&real, row + j, sizeof real);
                t->values[i * columns + first + j] = f->dtype == PIPE_F32 ? (double)real : (double)row[j];
            }
        }
        first += each;
    }
    return PIPE_OK;
}

static pipe_status run(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;
    PIPE_CLEANUP(table_free) table t = {.arena = pipe_arena_new()};
    const char *path;

    if (strcmp(pipe_object_kind(st->value), PIPE_KIND_METRICS) == 0)
        PIPE_TRY(from_metrics(st->value, &t, err));
    else
        PIPE_TRY(from_dataset(st->value, &t, err));
    PIPE_TRY(pipe_output_path(ctx, st->name, &path, err));
    PIPE_TRY(pipe_csv_write(path, t.names, t.values, t.rows, t.columns, err));
    return pipe_report(ctx, "rows", (double)t.rows, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SINK),
    .name = "sink.csv",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "reported numbers or a data set as a CSV table",
    .help = "Reports `rows`, the number of rows written.",
    .example = "table: {plugin: sink.csv, value: model.metrics}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .run = run,
};
