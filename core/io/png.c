/* PNG by libpng.
 *
 * libpng reports errors by longjmp().  Each jump stays inside decode() or
 * encode(), which own nothing: all memory hangs on a `png_job` of the caller,
 * so nothing is lost and no local is read after a jump. */
#include "core/base/file.h"
#include "core/io/formats.h"

#include <math.h>
#include <png.h>
#include <setjmp.h>
#include <string.h>

enum { SIDE_MAX = 32768, PIXELS_MAX = 1 << 28, CHUNK_MAX = 8000000, CHUNKS_MAX = 1000, TEXT_MAX = 1000000 };

typedef struct png_job {
    const char *name;
    png_structp png;
    png_infop info;
    char message[160];
    /* reading */
    const unsigned char *bytes;
    size_t size, at;
    pipe_array *array;
    png_bytep *rows;
    /* writing */
    pipei_writer *writer;
} png_job;

static void on_error(png_structp png, png_const_charp text)
{
    png_job *job = png_get_error_ptr(png);
    snprintf(job->message, sizeof job->message, "%s", text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    const png_job *job = png_get_error_ptr(png);
    pipe_log(PIPE_LOG_DEBUG, "png", "%s: %s", job->name, text);
}

/* ---- reading ---- */

/* libpng allocates what a chunk's header promises before it reads the chunk: 2 GB
 * for 12 bytes.  So every length is first checked against the file. */
static pipe_status check_chunks(const png_job *job, pipe_error *err)
{
    size_t at = 8; /* behind the signature */

    while (job->size - at >= 8) {
        const unsigned char *head = job->bytes + at;
        const uint32_t length = png_get_uint_32(head);
        const size_t left = job->size - at - 8;
        if ((uint64_t)length + 4 > left) { /* data and checksum */
            char type[16];
            return pipe_fail(err, PIPE_EFORMAT,
                             "%s: truncated PNG: the chunk at byte %zu (type %s) promises %lu bytes, but %zu are left",
                             job->name, at, pipei_bytes_text(head + 4, 4, type, sizeof type),
                             (unsigned long)length, left);
        }
        if (memcmp(head + 4, "IEND", 4) == 0)
            return PIPE_OK;
        at += (size_t)length + 12;
    }
    return PIPE_OK; /* without its end: libpng says so */
}

static void read_bytes(png_structp png, png_bytep out, size_t n)
{
    png_job *job = png_get_io_ptr(png);
    if (n > job->size - job->at)
        png_error(png, "truncated");
    memcpy(out, job->bytes + job->at, n);
    job->at += n;
}

static void end_reading(png_job *job)
{
    png_destroy_read_struct(&job->png, &job->info, NULL);
    pipe_array_free(job->array);
    pipe_free(job->rows);
}

static void take_text(char **slot, const char *text)
{
    if (!*slot)                                  /* the first one counts */
        *slot = pipe_strdup(text);
}

static void read_text(const png_job *job, pipe_png_text *out)
{
    png_textp text;
    const int n = png_get_text(job->png, job->info, &text, NULL);
    for (int k = 0; k < n; k++) {
        if (strcmp(text[k].key, "pipe") == 0)
            take_text(&out->pipeline, text[k].text);
        else if (strcmp(text[k].key, "parameters") == 0)
            take_text(&out->parameters, text[k].text);
        else if (strcmp(text[k].key, "Software") == 0)
            take_text(&out->software, text[k].text);
    }
}

/* 8 bits, no palette; returns the number of channels. */
static unsigned normalise(png_structp png, png_infop info)
{
    const png_byte type = png_get_color_type(png, info);
    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(png);
    if (type == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(png, info) < 8)
        png_set_expand_gray_1_2_4_to_8(png);
    if (png_get_valid(png, info, PNG_INFO_tRNS))
        png_set_tRNS_to_alpha(png);
    png_set_scale_16(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    return png_get_channels(png, info);
}

static pipe_status decode(png_job *job, pipe_error *err)
{
    if (setjmp(png_jmpbuf(job->png)))
        return pipe_fail(err, PIPE_EFORMAT, "%s: damaged PNG: %s", job->name, job->message);
    png_set_read_fn(job->png, job, read_bytes);
    png_set_user_limits(job->png, SIDE_MAX, SIDE_MAX);
    png_set_chunk_malloc_max(job->png, CHUNK_MAX);
    png_set_chunk_cache_max(job->png, CHUNKS_MAX);
    png_set_crc_action(job->png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    PIPE_TRY(check_chunks(job, err));
    png_read_info(job->png, job->info);

    const uint64_t width = png_get_image_width(job->png, job->info),
        height = png_get_image_height(job->png, job->info);
    if (width * height > PIXELS_MAX)
        return pipe_fail(err, PIPE_EFORMAT, "%s: %llu x %llu pixels are above the maximum of %d", job->name,
                         (unsigned long long)width, (unsigned long long)height, PIXELS_MAX);
    /* Deflate expands at most 1032 times: the file cannot hold what a larger header promises. */
    if (width * height / 8 / 1032 > job->size)
        return pipe_fail(err, PIPE_EFORMAT, "%s: truncated: %llu x %llu pixels cannot be in %zu bytes",
                         job->name, (unsigned long long)width, (unsigned long long)height, job->size);
    const unsigned channels = normalise(job->png, job->info);
    void *data;
    PIPE_TRY(pipei_array_new(job->name, PIPE_ELEMENT_U8,
                             PIPE_SHAPE((int64_t)height, (int64_t)width, channels), &job->array, &data, err));
    job->rows = pipe_alloc_array((size_t)height, sizeof job->rows[0]);
    for (size_t y = 0; y < height; y++)
        job->rows[y] = (png_bytep)data + y * (size_t)width * channels;
    png_read_image(job->png, job->rows);
    png_read_end(job->png, job->info);
    return PIPE_OK;
}

pipe_status pipei_png_parse(const char *name, const void *bytes, size_t n, pipe_array **out,
                            pipe_png_text *text, pipe_error *err)
{
    png_job job = {.name = name, .bytes = bytes, .size = n};
    char begin[32];
    if (n < 8 || png_sig_cmp(bytes, 0, 8) != 0)
        return pipe_fail(err, PIPE_EFORMAT,
                         "%s: not a PNG file: begins with %s, expected 89 50 4e 47 0d 0a 1a 0a", name,
                         pipei_bytes_text(bytes, n < 8 ? n : 8, begin, sizeof begin));
    job.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &job, on_error, on_warning);
    if (job.png)
        job.info = png_create_info_struct(job.png);
    if (!job.info) {
        end_reading(&job);
        return pipe_fail(err, PIPE_ENOMEM, "%s: libpng cannot be started", name);
    }
    const pipe_status status = decode(&job, err);
    if (status == PIPE_OK) {
        if (text)
            read_text(&job, text);
        *out = job.array;
        job.array = NULL;
    }
    end_reading(&job);
    return status;
}

pipe_status pipe_png_read(const char *path, pipe_array **out, pipe_png_text *text, pipe_error *err)
{
    PIPE_CLEANUP(pipei_map_close) pipei_map map = {0};
    PIPE_TRY(pipei_map_open(path, &map, err));
    return pipei_png_parse(path, map.data, map.size, out, text, err);
}

void pipe_png_text_free(pipe_png_text *t)
{
    pipe_free(t->pipeline);
    pipe_free(t->parameters);
    pipe_free(t->software);
    *t = (pipe_png_text)PIPE_PNG_TEXT_INIT;
}

/* ---- writing ---- */

static void write_bytes(png_structp png, png_bytep data, size_t n)
{
    png_job *job = png_get_io_ptr(png);
    pipei_writer_put(job->writer, data, n);
}

static void flush(png_structp png)
{
    (void)png;
}

/* tEXt holds Latin-1, iTXt UTF-8; long text is compressed. */
static void add_text(png_job *job, const char *key, const char *text, bool international)
{
    if (!text)
        return;
    png_text t = {.key = (png_charp)(uintptr_t)key, .text = (png_charp)(uintptr_t)text};
    if (international) {
        t.compression = strlen(text) > 1024 ? PNG_ITXT_COMPRESSION_zTXt : PNG_ITXT_COMPRESSION_NONE;
        t.itxt_length = strlen(text);
    } else {
        t.compression = PNG_TEXT_COMPRESSION_NONE;
        t.text_length = strlen(text);
    }
    png_set_text(job->png, job->info, &t, 1);
}

static pipe_status encode(png_job *job, uint32_t width, uint32_t height, unsigned channels,
                          const unsigned char *data,
                          const pipe_png_text *text, const char *software, pipe_error *err)
{
    static const int types[] = {0, PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_COLOR_TYPE_RGB,
                                PNG_COLOR_TYPE_RGB_ALPHA};
    if (setjmp(png_jmpbuf(job->png)))
        return pipe_fail(err, PIPE_EINVAL, "%s: libpng: %s", job->name, job->message);
    png_set_write_fn(job->png, job, write_bytes, flush);
    png_set_user_limits(job->png, SIDE_MAX, SIDE_MAX);
    png_set_IHDR(job->png, job->info, width, height, 8, types[channels], PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    add_text(job, "pipe", text->pipeline, true);
    add_text(job, "parameters", text->parameters, true);
    add_text(job, "Software", software, false);
    png_write_info(job->png, job->info);
    for (size_t y = 0; y < height; y++)
        png_write_row(job->png, data + y * width * channels);
    png_write_end(job->png, NULL);
    return PIPE_OK;
}

static pipe_status check_text(const char *path, const char *key, const char *text, pipe_error *err)
{
    if (text && strlen(text) >= TEXT_MAX)
        return pipe_fail(err, PIPE_EINVAL, "%s: its text \"%s\" has %zu bytes, below %d are possible", path,
                         key, strlen(text), TEXT_MAX);
    return PIPE_OK;
}

pipe_status pipe_png_write(const char *path, const pipe_array *image, const pipe_png_text *text,
                           pipe_error *err)
{
    static const pipe_png_text none = PIPE_PNG_TEXT_INIT;
    char shape[PIPE_SHAPE_TEXT];
    if (!text)
        text = &none;
    PIPE_TRY(pipei_array_check(image, path, err));
    const pipe_shape *s = &image->shape;
    const int64_t channels = s->rank == 3 ? s->dim[2] : 1;
    if (image->element != PIPE_ELEMENT_U8 || (s->rank != 2 && s->rank != 3) || channels < 1 || channels > 4 ||
        s->dim[0] < 1 || s->dim[1] < 1 || s->dim[0] > SIDE_MAX || s->dim[1] > SIDE_MAX)
        return pipe_fail(err, PIPE_ESHAPE,
                         "%s: a picture is U8 [height, width] or [height, width, 1 to 4], sides of 1 "
                         "to %d pixels, not %s %s", path, SIDE_MAX, pipe_element_name(image->element),
                         pipe_shape_text(s, shape, sizeof shape));
    PIPE_TRY(check_text(path, "pipe", text->pipeline, err));
    PIPE_TRY(check_text(path, "parameters", text->parameters, err));
    PIPE_CLEANUP(pipe_free_ptr) char *software = text->software ? pipe_strdup(text->software)
                                                                : pipe_format("pipe %s", pipe_version());

    png_job job = {.name = path};
    PIPE_TRY(pipei_writer_open(path, &job.writer, err));
    job.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &job, on_error, on_warning);
    if (job.png)
        job.info = png_create_info_struct(job.png);
    const pipe_status status = job.info ? encode(&job, (uint32_t)s->dim[1], (uint32_t)s->dim[0],
                                                 (unsigned)channels, image->data, text, software, err)
                                        : pipe_fail(err, PIPE_ENOMEM, "%s: libpng cannot be started", path);
    png_destroy_write_struct(&job.png, &job.info);
    if (status != PIPE_OK) {
        pipei_writer_abort(job.writer);
        return status;
    }
    return pipei_writer_commit(job.writer, err);
}

/* ---- pixels and numbers ---- */

pipe_status pipe_bytes_from_f32(const float *x, size_t count, double low, double high, uint8_t *out,
                                pipe_error *err)
{
    if (!(high > low))
        return pipe_fail(err, PIPE_EINVAL, "the range of a picture's values is empty: %g to %g", low, high);
    const double scale = 255.0 / (high - low);
    for (size_t k = 0; k < count; k++) {
        const double v = floor((x[k] - low) * scale + 0.5);
        if (isnan(v))
            return pipe_fail(err, PIPE_EDOMAIN, "value %zu of a picture is NaN", k);
        out[k] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
    return PIPE_OK;
}

void pipe_bytes_to_f32(const uint8_t *x, size_t count, double low, double high, float *out)
{
    for (size_t k = 0; k < count; k++)
        out[k] = (float)(low + x[k] / 255.0 * (high - low));
}
