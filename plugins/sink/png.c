/* Pictures of a data set as one grid, with the resolved pipeline in the file. */
#include <pipe/io.h>
#include <pipe/pipe.h>

#include <string.h>

typedef struct {
    pipe_dataset *images;
    int64_t columns, count, gap, zoom;
    pipe_floats range;
    const char *name;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, images, PIPE_KIND_DATASET, "pictures [h, w, c] in field x, c = 1 (grey), 3 or 4"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_INT(state, columns, 10, 1, 10000, "pictures", "in a row"),
    PIPE_INT(state, count, 0, 0, 1000000, "pictures", "at most; 0: all"),
    PIPE_INT(state, gap, 2, 0, 1000, "pixels", "between pictures"),
    PIPE_INT(state, zoom, 2, 1, 64, NULL, "pixels of the file per pixel of a picture"),
    PIPE_FLOATS(state, range, "[]", 1, 0, NULL,
                "[black, white]; empty: the data set's own range, or -1 to 1 where it is not known"),
    PIPE_STRING(state, name, "0000.png", "of the file"),
    PIPE_PARAM_END,
};

enum { MOST_SIDE = 32768, MOST_PIXELS = 1 << 28 }; /* what pipe_png_read() takes */

typedef struct {
    size_t n, h, w, c, columns, rows, height, width; /* pictures, and the sheet in pixels */
} layout;

static pipe_status plan(const state *st, const pipe_dataset_info *info, size_t k, layout *l, pipe_error *err)
{
    const pipe_shape *s = &info->field[k].shape;
    const uint64_t n = st->count && (uint64_t)st->count < info->count ? (uint64_t)st->count : info->count;

    if (s->rank != 3 || (s->dim[2] != 1 && s->dim[2] != 3 && s->dim[2] != 4) || s->dim[0] < 1 ||
        s->dim[1] < 1) {
        char got[PIPE_SHAPE_TEXT];
        return pipe_fail(err, PIPE_ESHAPE,
                         "samples of %s have shape %s; pictures [h, w, 1, 3 or 4] are needed",
                         pipe_object_name(st->images), pipe_shape_text(s, got, sizeof got));
    }
    if (n == 0)
        return pipe_fail(err, PIPE_EINVAL, "%s is empty", pipe_object_name(st->images));
    if (n > MOST_PIXELS || s->dim[0] > MOST_SIDE || s->dim[1] > MOST_SIDE) /* the products below fit */
        return pipe_fail(err, PIPE_EINVAL,
                         "%llu pictures of %lld x %lld pixels do not fit one sheet: lower `count`",
                         (unsigned long long)n, (long long)s->dim[1], (long long)s->dim[0]);
    *l = (layout){.n = (size_t)n, .h = (size_t)s->dim[0], .w = (size_t)s->dim[1], .c = (size_t)s->dim[2]};
    l->columns = l->n < (size_t)st->columns ? l->n : (size_t)st->columns;
    l->rows = (l->n + l->columns - 1) / l->columns;
    l->height = l->rows * (l->h * (size_t)st->zoom + (size_t)st->gap) + (size_t)st->gap;
    l->width = l->columns * (l->w * (size_t)st->zoom + (size_t)st->gap) + (size_t)st->gap;
    if (l->height > MOST_SIDE || l->width > MOST_SIDE || l->height * l->width > MOST_PIXELS)
        return pipe_fail(
            err, PIPE_EINVAL,
            "the sheet would be %zu x %zu pixels; at most %d a side and %d in all: lower `zoom`, "
            "`count` or `columns`",
            l->width, l->height, MOST_SIDE, MOST_PIXELS);
    return PIPE_OK;
}

static void place(const layout *l, size_t i, size_t gap, size_t zoom, const uint8_t *picture, uint8_t *sheet)
{
    const size_t top = gap + i / l->columns * (l->h * zoom + gap),
                 left = gap + i % l->columns * (l->w * zoom + gap);

    for (size_t y = 0; y < l->h * zoom; y++)
        for (size_t x = 0; x < l->w * zoom; x++)
            memcpy(sheet + ((top + y) * l->width + left + x) * l->c,
                   picture + ((y / zoom) * l->w + x / zoom) * l->c, l->c);
}

static pipe_status run(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;
    PIPE_CLEANUP(pipe_free_ptr) uint8_t *sheet = NULL, *picture = NULL;
    PIPE_CLEANUP(pipe_free_ptr) float *x = NULL;
    pipe_dataset_info info;
    const char *path;
    double low, high;
    layout l = {0};
    size_t k;

    if (st->range.n != 0 && (st->range.n != 2 || !(st->range.v[0] < st->range.v[1])))
        return pipe_fail(err, PIPE_EINVAL, "range: two rising numbers are needed, [black, white]");
    PIPE_TRY(pipe_dataset_describe(st->images, &info, err));
    PIPE_TRY(pipe_dataset_need(st->images, &info, "x", &k, err));
    PIPE_TRY(plan(st, &info, k, &l, err));
    const bool known = info.field[k].low < info.field[k].high;
    low = st->range.n ? st->range.v[0] : known ? info.field[k].low : -1.0;
    high = st->range.n ? st->range.v[1] : known ? info.field[k].high : 1.0;

    const size_t each = l.h * l.w * l.c;
    x = pipe_alloc_array(each, sizeof *x);
    picture = pipe_alloc(each);
    sheet = pipe_alloc_array(l.height, l.width * l.c);
    memset(sheet, 255, l.height * l.width * l.c);
    for (uint64_t i = 0; i < l.n; i++) {
        PIPE_TRY(pipe_dataset_read(
            st->images, &(pipe_dataset_request){.size = sizeof(pipe_dataset_request), .index = &i, .n = 1}, k,
            x, err));
        const pipe_status status = pipe_bytes_from_f32(x, each, low, high, picture, err);
        if (status != PIPE_OK)
            return pipe_context_fail(err, status, "picture %llu of %s", (unsigned long long)i,
                                     pipe_object_name(st->images));
        place(&l, (size_t)i, (size_t)st->gap, (size_t)st->zoom, picture, sheet);
    }
    const pipe_array image = PIPE_ARRAY_U8(PIPE_SHAPE((int64_t)l.height, (int64_t)l.width, (int64_t)l.c),
                                           sheet);
    pipe_png_text text = PIPE_PNG_TEXT_INIT;
    PIPE_CLEANUP(pipe_free_ptr) char *yaml = pipe_strdup(pipe_context_pipeline_yaml(ctx));
    PIPE_CLEANUP(pipe_free_ptr) char *summary = pipe_strdup(pipe_context_summary(ctx));
    text.pipeline = yaml && *yaml ? yaml : NULL;
    text.parameters = summary && *summary ? summary : NULL;
    PIPE_TRY(pipe_output_path(ctx, st->name, &path, err));
    PIPE_TRY(pipe_png_write(path, &image, &text, err));
    return pipe_report(ctx, "written", (double)l.n, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SINK),
    .name = "sink.png",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "pictures as one grid",
    .help = "Reports `written`, the number of pictures. The file carries the resolved pipeline, so that it "
            "can be made again from itself.",
    .example = "grid: {plugin: sink.png, images: images, columns: 10}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .run = run,
};
