/* Sinks: what they write is read back. */
#include "data-plugins/data-test.h"
#include <pipe/io.h>

#include "core/run/context.h"

#include <math.h>

static pipe_status run_sink(pipe_context *ctx, const char *name, const char *input, pipe_object *value,
                            const char *const *params, pipe_error *err)
{
    const pipei_named_object inputs[] = {{input, value}, {NULL, NULL}};

    return data_run(ctx, "sink", name, params, inputs, err);
}

/* ---- png ---- */
enum { GAP = 1, ZOOM = 2, H = 2, W = 3 };

/* Byte of channel c of pixel (y, x) of picture i. */
static uint8_t shade(size_t i, size_t y, size_t x, size_t c)
{
    return (uint8_t)(10 * i + 40 * y + 15 * x + 3 * c);
}

static pipe_dataset *pictures(size_t n, size_t channels)
{
    float x[2048];

    cr_assert(n * H * W * channels <= COUNT(x));
    for (size_t i = 0; i < n; i++)
        for (size_t p = 0; p < H * W * channels; p++)
            x[i * H * W * channels + p] = (float)shade(i, p / channels / W, p / channels % W, p % channels) /
                                              127.5f -
                                          1.0f;
    return data_make(PIPE_SHAPE(H, W, (int64_t)channels), n, x, NULL, 0);
}

Test(sink, png_lays_pictures_out_in_a_grid)
{
    static const struct {
        size_t n, channels;
        const char *columns, *count;
        size_t wide, high, shown;
    } cases[] = {{7, 1, "3", "0", 3, 3, 7},
                 {7, 3, "3", "4", 3, 2, 4},
                 {2, 4, "10", "0", 2, 1, 2},
                 {1, 1, "1", "5", 1, 1, 1}};

    for (size_t k = 0; k < COUNT(cases); k++) {
        char *folder = folder_make();
        pipe_error err = PIPE_ERROR_INIT;
        pipe_context *ctx = data_context(folder);
        const size_t c = cases[k].channels;
        pipe_dataset *d = pictures(cases[k].n, c);
        const char *const params[] = {
            "columns", cases[k].columns, "count", cases[k].count, "gap", "1", "zoom", "2", NULL};
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipe_format("%s/0000.png", folder);
        PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
        pipe_png_text text = PIPE_PNG_TEXT_INIT;

        ctx->yaml = "pipeline: small\n";
        ctx->summary = "sampler.ddim, 4 steps";
        OK(run_sink(ctx, "sink.png", "images", d, params, &err));
        cr_expect_eq(data_reported(ctx, "written"), (double)cases[k].shown);
        cr_expect_eq(folder_count(folder), 1, "nothing else is left behind");
        OK(pipe_png_read(path, &a, &text, &err));
        cr_expect_str_eq(text.pipeline, "pipeline: small\n");
        cr_expect_str_eq(text.parameters, "sampler.ddim, 4 steps");
        const size_t height = cases[k].high * (H * ZOOM + GAP) + GAP,
                     width = cases[k].wide * (W * ZOOM + GAP) + GAP;
        cr_assert(pipe_shape_equal(&a->shape, &PIPE_SHAPE((int64_t)height, (int64_t)width, (int64_t)c)));
        for (size_t y = 0; y < height; y++)
            for (size_t x = 0; x < width; x++)
                for (size_t j = 0; j < c; j++) {
                    const size_t row = y / (H * ZOOM + GAP), column = x / (W * ZOOM + GAP);
                    const size_t dy = y % (H * ZOOM + GAP), dx = x % (W * ZOOM + GAP);
                    const size_t i = row * cases[k].wide + column;
                    const bool picture = dy >= GAP && dx >= GAP && i < cases[k].shown;
                    const uint8_t want = picture ? shade(i, (dy - GAP) / ZOOM, (dx - GAP) / ZOOM, j) : 255;
                    cr_assert_eq(((const uint8_t *)a->data)[(y * width + x) * c + j], want,
                                 "case %zu: row %zu, column %zu, channel %zu", k, y, x, j);
                }
        pipe_png_text_free(&text);
        pipe_object_unref(d);
        pipei_context_free(ctx);
        folder_drop(&folder);
    }
}

Test(sink, png_maps_the_range_that_it_is_given)
{
    static const float x[] = {0, 1, 2, 4};
    static const struct {
        const char *range;
        uint8_t want[4];
    } cases[] = {{"[0, 4]", {0, 64, 128, 255}}, {"[1, 2]", {0, 0, 255, 255}}};

    for (size_t k = 0; k < COUNT(cases); k++) {
        char *folder = folder_make();
        pipe_error err = PIPE_ERROR_INIT;
        pipe_context *ctx = data_context(folder);
        pipe_dataset *d = data_make(PIPE_SHAPE(2, 2, 1), 1, x, NULL, 0);
        const char *const params[] = {"range", cases[k].range, "gap",     "0", "zoom",
                                      "1",     "name",         "a/b.png", NULL};
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipe_format("%s/a/b.png", folder);
        PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
        OK(run_sink(ctx, "sink.png", "images", d, params, &err));
        OK(pipe_png_read(path, &a, NULL, &err));
        cr_expect_arr_eq(a->data, cases[k].want, 4, "range %s: %d %d %d %d", cases[k].range,
                         ((const uint8_t *)a->data)[0], ((const uint8_t *)a->data)[1],
                         ((const uint8_t *)a->data)[2], ((const uint8_t *)a->data)[3]);
        pipe_object_unref(d);
        pipei_context_free(ctx);
        folder_drop(&folder);
    }
}

/* An endless data set, which no memory holds. */
static pipe_status endless_describe(void *self, pipe_dataset_info *info, pipe_error *err)
{
    (void)self;
    (void)err;
    info->count = UINT64_MAX;
    info->n_fields = 1;
    info->field[0] = (pipe_field){.name = "x", .shape = PIPE_SHAPE(28, 28, 1)};
    return PIPE_OK;
}

static pipe_status endless_read(void *self, const pipe_dataset_request *r, size_t k, void *out,
                                pipe_error *err)
{
    (void)self;
    (void)k;
    (void)out;
    return pipe_fail(err, PIPE_EIO, "sample %llu is lost", (unsigned long long)r->index[0]);
}

static const pipe_plugin endless = {
    PIPE_ABI(PIPE_KIND_DATASET),
    .name = "dataset.endless",
    .version = "1.0.0",
    .dataset = {.describe = endless_describe, .read = endless_read},
};

/* Nothing is left in the folder by a sink that failed, not half a file either. */
Test(sink, failures_leave_nothing_behind)
{
    static const float nan[] = {0, 0, 0, 0, 0, NAN, 0, 0};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_object *lost = NULL;
    pipe_dataset *good = pictures(7, 1), *two = pictures(7, 2), *none = pictures(0, 1);
    pipe_dataset *points = data_make(PIPE_SHAPE(2), 2, nan, NULL, 0);
    pipe_dataset *broken = data_make(PIPE_SHAPE(2, 2, 1), 2, nan, NULL, 0);
    pipe_object *untrained = NULL;

    OK(pipei_object_create(&endless, "endless", NULL, NULL, 0, test_context("endless", 1), &lost, &err));
    OK(test_object_try("denoiser", "denoiser.mlp", NULL, NULL, &untrained, &err));
    const struct {
        const char *why, *sink, *input;
        pipe_object *value;
        const char *const params[7];
        pipe_status status;
        const char *says;
    } cases[] = {
        {"two channels", "sink.png", "images", two, {0}, PIPE_ESHAPE, "[2, 3, 2]|[h, w, 1, 3 or 4]"},
        {"points", "sink.png", "images", points, {0}, PIPE_ESHAPE, "[2]"},
        {"empty", "sink.png", "images", none, {0}, PIPE_EINVAL, "empty"},
        {"too wide", "sink.png", "images", good, {"gap", "1000", "zoom", "64", "columns", "7"}, PIPE_OK, ""},
        {"endless", "sink.png", "images", lost, {0}, PIPE_EINVAL, "`count`"},
        {"too high",
         "sink.png",
         "images",
         lost,
         {"count", "1000000", "columns", "1"},
         PIPE_EINVAL,
         "at most 32768 a side|`zoom`"},
        {"too many pixels",
         "sink.png",
         "images",
         lost,
         {"count", "300000", "columns", "560"},
         PIPE_EINVAL,
         "268435456 in all"},
        {"a sample that is lost", "sink.png", "images", lost, {"count", "1"}, PIPE_EIO, "sample 0 is lost"},
        {"not a number", "sink.png", "images", broken, {0}, PIPE_EDOMAIN, "picture 1 of data"},
        {"one number as range", "sink.png", "images", good, {"range", "[1]"}, PIPE_EINVAL, "range"},
        {"no range", "sink.png", "images", good, {"range", "[1, 1]"}, PIPE_EINVAL, "range|rising"},
        {"a range that falls", "sink.png", "images", good, {"range", "[1, 0]"}, PIPE_EINVAL, "range|rising"},
        {"out of the folder", "sink.png", "images", good, {"name", "../a.png"}, PIPE_EINVAL, "../a.png"},
        {"endless", "sink.safetensors", "value", lost, {0}, PIPE_ENOMEM, "`x`|dataset.subset"},
        {"untrained", "sink.safetensors", "value", untrained, {0}, PIPE_EINVAL, "no weights yet|fit"},
        {"endless", "sink.csv", "value", lost, {0}, PIPE_ENOMEM, "784 columns"},
        {"out of the folder", "sink.csv", "value", points, {"name", "/a.csv"}, PIPE_EINVAL, "/a.csv"},
    };
    for (size_t k = 0; k < COUNT(cases); k++) {
        char *folder = folder_make();
        pipe_context *ctx = data_context(folder);
        err = (pipe_error)PIPE_ERROR_INIT;
        check_failure(run_sink(ctx, cases[k].sink, cases[k].input, cases[k].value, cases[k].params, &err),
                      cases[k].status, &err, cases[k].says, cases[k].why);
        cr_expect_eq(folder_count(folder), cases[k].status == PIPE_OK, "%s: files in the folder",
                     cases[k].why);
        pipei_context_free(ctx);
        folder_drop(&folder);
    }
    pipe_object_unref(untrained);
    pipe_object_unref(lost);
    pipe_object_unref(broken);
    pipe_object_unref(points);
    pipe_object_unref(none);
    pipe_object_unref(two);
    pipe_object_unref(good);
}

/* ---- safetensors ---- */
Test(sink, safetensors_come_back_as_a_data_set)
{
    enum { N = 600 };
    static float x[N * 6], got[N * 6];
    static int32_t label[N], labels[N];
    static uint64_t index[N];
    char *folder = folder_make();
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *ctx = data_context(folder);
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipe_format("%s/all.safetensors", folder);
    pipe_safetensors *f = NULL;

    pipe_host_randn((pipe_key){.seed = 3}, x, N * 6);
    for (size_t i = 0; i < N; i++) {
        label[i] = (int32_t)(i % 7);
        index[i] = i;
    }
    pipe_dataset *d = data_make(PIPE_SHAPE(2, 3), N, x, label, 7);
    ctx->yaml = "pipeline: small\n";
    OK(run_sink(ctx, "sink.safetensors", "value", d, (const char *const[]){"name", "all.safetensors", NULL},
                &err));
    cr_expect_eq(data_reported(ctx, "written"), 1.0);
    OK(pipe_safetensors_open(path, &f, &err));
    cr_expect_str_eq(pipe_safetensors_metadata(f, "pipe"), "pipeline: small\n");
    pipe_safetensors_close(f);
    pipe_object *back = test_object("dataset", "dataset.tensor-file",
                                    (const char *const[]){"path", path, NULL}, NULL);
    cr_assert_eq(data_info(back).count, N);
    cr_assert_eq(data_info(back).n_fields, 2);
    cr_expect(pipe_shape_equal(&data_info(back).field[0].shape, &PIPE_SHAPE(2, 3)));
    data_read(back, "x", index, N, 0, got);
    data_read(back, "label", index, N, 0, labels);
    cr_expect_arr_eq(got, x, sizeof x);
    cr_expect_arr_eq(labels, label, sizeof label);
    pipe_object_unref(back);
    pipe_object_unref(d);
    pipei_context_free(ctx);
    folder_drop(&folder);
}

/* ---- csv and plot ---- */
static pipe_metrics *numbers(void)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *ctx = test_context("model", 1);
    pipe_metrics *m = NULL;

    OK(pipe_report_at(ctx, 10, "loss", 0.1, &err));
    OK(pipe_report_at(ctx, 20, "loss", 0.05, &err));
    OK(pipe_report_at(ctx, 20, "rate", 1e-3, &err));
    OK(pipe_report_at(ctx, 30, "rate", 5e-4, &err));
    OK(pipe_report_at(ctx, 30, "accuracy", 0.5, &err));
    OK(pipei_context_metrics(ctx, &m, &err));
    return m;
}

Test(sink, csv_writes_reported_numbers_with_gaps)
{
    static const double want[3][4] = {{10, 0.1, NAN, NAN}, {20, 0.05, 1e-3, NAN}, {30, NAN, 5e-4, 0.5}};
    static const char *const names[] = {"step", "loss", "rate", "accuracy"};
    char *folder = folder_make();
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *ctx = data_context(folder);
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipe_format("%s/0000.csv", folder);
    pipe_metrics *m = numbers();
    pipe_table *t = NULL;

    OK(run_sink(ctx, "sink.csv", "value", m, NULL, &err));
    cr_expect_eq(data_reported(ctx, "rows"), 3.0);
    OK(pipe_csv_read(path, 0, &t, &err));
    cr_assert_eq(pipe_table_rows(t), 3);
    cr_assert_eq(pipe_table_columns(t), 4);
    for (size_t c = 0; c < 4; c++) {
        double v[3];
        cr_expect_str_eq(pipe_table_name(t, c), names[c]);
        OK(pipe_table_numbers(t, c, v, &err));
        for (size_t r = 0; r < 3; r++)
            cr_expect(v[r] == want[r][c] || (isnan(v[r]) && isnan(want[r][c])), "%s of row %zu: %g", names[c],
                      r, v[r]);
    }
    pipe_table_free(t);
    pipe_object_unref(m);
    pipei_context_free(ctx);
    folder_drop(&folder);
}

Test(sink, csv_writes_a_data_set)
{
    static const float x[] = {0.5f, -1, 2, 1e-7f};
    static const int32_t label[] = {3, 1};
    static const char *const names[] = {"x.0", "x.1", "label"};
    static const double want[2][3] = {{0.5, -1, 3}, {2, (double)1e-7f, 1}};
    char *folder = folder_make();
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *ctx = data_context(folder);
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipe_format("%s/t.csv", folder);
    pipe_dataset *d = data_make(PIPE_SHAPE(2), 2, x, label, 4);
    pipe_table *t = NULL;

    OK(run_sink(ctx, "sink.csv", "value", d, (const char *const[]){"name", "t.csv", NULL}, &err));
    OK(pipe_csv_read(path, 0, &t, &err));
    cr_assert(pipe_table_rows(t) == 2 && pipe_table_columns(t) == 3);
    for (size_t c = 0; c < 3; c++) {
        double v[2];
        cr_expect_str_eq(pipe_table_name(t, c), names[c]);
        OK(pipe_table_numbers(t, c, v, &err));
        cr_expect(v[0] == want[0][c] && v[1] == want[1][c], "%s: %g %g", names[c], v[0], v[1]);
    }
    pipe_table_free(t);
    pipe_object_unref(d);
    pipei_context_free(ctx);
    folder_drop(&folder);
}

Test(sink, csv_refuses_wide_tables_and_silent_steps)
{
    pipe_error err = PIPE_ERROR_INIT;
    float *x = pipe_alloc_array(65537, sizeof *x);
    pipe_dataset *d = data_make(PIPE_SHAPE(65537), 1, x, NULL, 0);
    pipe_metrics *nothing = NULL;

    check_failure(run_sink(data_context(NULL), "sink.csv", "value", d, NULL, &err), PIPE_EINVAL, &err,
                  "65536|sink.safetensors", "too wide");
    OK(pipei_context_metrics(test_context("silent", 1), &nothing, &err));
    check_failure(run_sink(data_context(NULL), "sink.csv", "value", nothing, NULL, &err), PIPE_EINVAL, &err,
                  "silent has reported nothing", "silent");
    check_failure(run_sink(data_context(NULL), "sink.plot", "value", nothing, NULL, &err), PIPE_EINVAL, &err,
                  "nothing to plot", "silent");
    pipe_object_unref(nothing);
    pipe_object_unref(d);
    pipe_free(x);
}

Test(sink, plot_draws_curves_and_knows_their_names)
{
    static const struct {
        const char *names;
        double curves;
    } cases[] = {{"[]", 2}, {"[loss]", 1}, {"loss", 1}, {"[loss, accuracy]", 2}};
    pipe_metrics *m = numbers();
    pipe_error err = PIPE_ERROR_INIT;

    for (size_t k = 0; k < COUNT(cases); k++) {
        char *folder = folder_make();
        pipe_context *ctx = data_context(folder);
        PIPE_CLEANUP(pipe_free_ptr) char *svg = pipe_format("%s/curve.svg", folder);
        PIPE_CLEANUP(pipe_free_ptr) char *png = pipe_format("%s/curve.png", folder);
        PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
        pipei_map map = {0};
        const char *const params[] = {"names", cases[k].names, "name", "curve", "log_y", "true", NULL};
        OK(run_sink(ctx, "sink.plot", "value", m, params, &err));
        cr_expect_eq(data_reported(ctx, "curves"), cases[k].curves, "%s", cases[k].names);
        OK(pipe_png_read(png, &a, NULL, &err));
        OK(pipei_map_open(svg, &map, &err));
        cr_expect(map.size > 100 && memmem(map.data, map.size, "<svg", 4));
        pipei_map_close(&map);
        pipei_context_free(ctx);
        folder_drop(&folder);
    }
    check_failure(run_sink(data_context(NULL), "sink.plot", "value", m,
                           (const char *const[]){"names", "[los]", NULL}, &err),
                  PIPE_ENOTFOUND, &err, "model has reported no `los`|did you mean `loss`?", "nearly right");
    check_failure(run_sink(data_context(NULL), "sink.plot", "value", m,
                           (const char *const[]){"names", "[temperature]", NULL}, &err),
                  PIPE_ENOTFOUND, &err, "no `temperature`|loss, rate, accuracy", "nothing like it");
    pipe_object_unref(m);
}

/* Several sources: a curve of each. */
Test(sink, plot_compares_steps)
{
    char *folder = folder_make();
    pipe_context *ctx = data_context(folder);
    pipe_error err = PIPE_ERROR_INIT;
    pipe_metrics *a = numbers(), *b = numbers();
    const pipei_named_object inputs[] = {{"value", a}, {"value", b}, {NULL, NULL}};

    OK(data_run(ctx, "sink", "sink.plot", (const char *const[]){"names", "[loss]", NULL}, inputs, &err));
    cr_expect_eq(data_reported(ctx, "curves"), 2.0);
    pipe_object_unref(a);
    pipe_object_unref(b);
    pipei_context_free(ctx);
    folder_drop(&folder);
}
