/* Pictures, sound and plots. */
#include "io-test.h"

#include <pipe/plot.h>
#include <zlib.h>

Test(io, png_round_trip)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "a.png");
    uint8_t pixels[3 * 5 * 4];
    for (size_t k = 0; k < sizeof pixels; k++)
        pixels[k] = (uint8_t)(k * 37);
    for (int64_t channels = 1; channels <= 4; channels++) {
        PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
        const pipe_array image = PIPE_ARRAY_U8(PIPE_SHAPE(3, 5, channels), pixels);
        MUST(pipe_png_write(path, &image, NULL, &err));
        MUST(pipe_png_read(path, &a, NULL, &err));
        expect_shape(a, image.shape);
        cr_expect_eq(memcmp(a->data, pixels, a->bytes), 0, "%d channels", (int)channels);
    }
    const pipe_array flat = PIPE_ARRAY_U8(PIPE_SHAPE(5, 3), pixels);
    MUST(pipe_png_write(path, &flat, NULL, &err));
    PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
    MUST(pipe_png_read(path, &a, NULL, &err));
    expect_shape(a, PIPE_SHAPE(5, 3, 1));
    cr_expect_eq(folder_count(folder), 1);
}

/* Type and place of each chunk, in order: "IHDR iTXt iTXt tEXt IDAT IEND". */
static char *chunks_of(const char *path, pipe_text *bytes)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_text order = {0};
    char *data;
    size_t n;
    MUST(pipei_file_read(path, 1 << 24, &data, &n, &err));
    for (size_t at = 8; at + 12 <= n; ) {
        const unsigned char *p = (unsigned char *)data + at;
        pipe_text_addf(&order, "%s%.4s", at > 8 ? " " : "", (const char *)p + 4);
        at += 12 + ((size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3]);
    }
    pipe_text_add_bytes(bytes, data, n);
    pipe_free(data);
    return order.data;
}

Test(io, png_carries_its_pipeline)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "a.png");
    const uint8_t pixel = 9;
    const pipe_array image = PIPE_ARRAY_U8(PIPE_SHAPE(1, 1), &pixel);
    char *large = pipe_alloc(200001);
    memset(large, 'y', 200000);
    const char *const pipelines[2] = {"pipeline: ä\nseed: 1\n", large};
    for (int k = 0; k < 2; k++) {
        PIPE_CLEANUP(pipe_text_free) pipe_text bytes = {0};
        pipe_png_text in = PIPE_PNG_TEXT_INIT, out = PIPE_PNG_TEXT_INIT;
        in.pipeline = (char *)(uintptr_t)pipelines[k];
        in.parameters = (char *)(uintptr_t)"steps: 20, seed: 1";
        MUST(pipe_png_write(path, &image, &in, &err));
        PIPE_CLEANUP(pipe_free_ptr) char *order = chunks_of(path, &bytes);
        cr_expect_str_eq(order, "IHDR iTXt iTXt tEXt IDAT IEND", "text comes before the picture");
        cr_expect_eq(bytes.length > 10000, false, "long text is compressed: %zu", bytes.length);
        PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
        MUST(pipe_png_read(path, &a, &out, &err));
        cr_expect_str_eq(out.pipeline, pipelines[k]);
        cr_expect_str_eq(out.parameters, "steps: 20, seed: 1");
        PIPE_CLEANUP(pipe_free_ptr) char *software = pipe_format("pipe %s", pipe_version());
        cr_expect_str_eq(out.software, software);
        pipe_png_text_free(&out);
    }
    char *huge = pipe_alloc(1000001);
    memset(huge, 'y', 1000000);
    pipe_png_text in = PIPE_PNG_TEXT_INIT;
    in.pipeline = huge;
    check_failure(pipe_png_write(path, &image, &in, &err), PIPE_EINVAL, &err, "\"pipe\"|1000000",
                  "readers drop it");
    pipe_free(huge);
    pipe_free(large);
}

Test(io, png_damage)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "a.png");
    uint8_t pixels[64];
    for (size_t k = 0; k < 64; k++)
        pixels[k] = (uint8_t)(k * k);
    const pipe_array image = PIPE_ARRAY_U8(PIPE_SHAPE(8, 8), pixels);
    MUST(pipe_png_write(path, &image, NULL, &err));
    char *bytes;
    size_t n;
    MUST(pipei_file_read(path, 10000, &bytes, &n, &err));
    pipe_array *a = NULL;
    check_failure(pipei_png_parse("a.png", "GIF89a..", 8, &a, NULL, &err), PIPE_EFORMAT, &err,
                  "a.png: not a PNG file|47 49 46|expected 89 50", "a GIF");
    for (size_t cut = 0; cut < n; cut++) {
        PIPE_CLEANUP(pipe_free_ptr) void *part = exact(bytes, cut);
        cr_expect_eq(pipei_png_parse("a.png", part, cut, &a, NULL, &err), PIPE_EFORMAT, "cut at %zu", cut);
    }
    /* every bit outside the last chunk is under a checksum */
    for (size_t k = 8; k + 12 < n; k++) {
        bytes[k] ^= 4;
        PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *b = NULL;
        cr_expect_eq(pipei_png_parse("a.png", bytes, n, &b, NULL, &err), PIPE_EFORMAT, "byte %zu", k);
        bytes[k] ^= 4;
    }
    /* A header of 30,000 x 30,000 pixels with a right checksum. */
    unsigned char head[17] = {'I', 'H', 'D', 'R', 0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30, 8, 0, 0, 0, 0};
    memcpy(bytes + 12, head, 17);
    const uint32_t crc = (uint32_t)crc32(0, head, 17);
    for (int k = 0; k < 4; k++)
        bytes[29 + k] = (char)(crc >> (24 - 8 * k));
    check_failure(pipei_png_parse("a.png", bytes, n, &a, NULL, &err), PIPE_EFORMAT, &err, "30000 x 30000",
                  "huge");
    /* 2 GB promised by the first chunk behind the header */
    memcpy(bytes + 33, "\x7f\xff\xff\xff", 4);
    check_failure(pipei_png_parse("a.png", bytes, n, &a, NULL, &err), PIPE_EFORMAT, &err,
                  "truncated|chunk at byte 33|2147483647", "a chunk beyond the file");
    pipe_free(bytes);
    const float f = 0;
    const pipe_array floats = PIPE_ARRAY_F32(PIPE_SHAPE(1, 1), &f),
        five = PIPE_ARRAY_U8(PIPE_SHAPE(2, 2, 5), pixels);
    check_failure(pipe_png_write(path, &floats, NULL, &err), PIPE_ESHAPE, &err, "F32 [1, 1]", "floats");
    check_failure(pipe_png_write(path, &five, NULL, &err), PIPE_ESHAPE, &err, "[2, 2, 5]", "five channels");
}

Test(io, bytes_of_pictures)
{
    pipe_error err = PIPE_ERROR_INIT;
    const float x[7] = {-1, 1, 0, -2, 3, -1 + 1.001f / 255, -1 + 0.999f / 255};
    /* 127.5 up; above half a step up, below down */
    const uint8_t expected[7] = {0, 255, 128, 0, 255, 1, 0};
    uint8_t out[7];
    MUST(pipe_bytes_from_f32(x, 7, -1, 1, out, &err));
    for (int k = 0; k < 7; k++)
        cr_expect_eq(out[k], expected[k], "%g gives %d", (double)x[k], out[k]);
    float back[2];
    pipe_bytes_to_f32((const uint8_t[]){0, 255}, 2, -1, 1, back);
    cr_expect(back[0] == -1 && back[1] == 1);
    for (int k = 0; k < 256; k++) {
        const uint8_t byte = (uint8_t)k;
        uint8_t again;
        pipe_bytes_to_f32(&byte, 1, -1, 1, back);
        MUST(pipe_bytes_from_f32(back, 1, -1, 1, &again, &err));
        cr_expect_eq(again, byte);
    }
    const float bad[2] = {0, NAN};
    check_failure(pipe_bytes_from_f32(bad, 2, 0, 1, out, &err), PIPE_EDOMAIN, &err, "value 1|NaN", "NaN");
    check_failure(pipe_bytes_from_f32(bad, 1, 1, 1, out, &err), PIPE_EINVAL, &err, "empty", "no range");
}

Test(io, wav_round_trip)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "a.wav");
    const float samples[6] = {0, -0.5f, 1.5f, 0x1p-24f, -1, 0.1f};
    const pipe_array stereo = PIPE_ARRAY_F32(PIPE_SHAPE(3, 2), samples),
        mono = PIPE_ARRAY_F32(PIPE_SHAPE(6), samples);
    char hex[2][65];
    for (int k = 0; k < 2; k++) {
        MUST(pipe_wav_write(path, &stereo, 22050, &err));
        MUST(pipe_sha256_file(path, hex[k], &err));
    }
    cr_expect_str_eq(hex[0], hex[1]);
    PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL, *b = NULL;
    uint32_t rate = 0;
    MUST(pipe_wav_read(path, &a, &rate, &err));
    cr_expect_eq(rate, 22050);
    expect_shape(a, PIPE_SHAPE(3, 2));
    cr_expect_eq(memcmp(a->data, samples, sizeof samples), 0, "bit-exact, not clipped");
    MUST(pipe_wav_write(path, &mono, 8000, &err));
    MUST(pipe_wav_read(path, &b, &rate, &err));
    expect_shape(b, PIPE_SHAPE(6, 1));
    const pipe_array cube = PIPE_ARRAY_F32(PIPE_SHAPE(1, 2, 3), samples);
    check_failure(pipe_wav_write(path, &cube, 8000, &err), PIPE_ESHAPE, &err, "[1, 2, 3]", "three axes");
    check_failure(pipe_wav_write(path, &mono, 0, &err), PIPE_EINVAL, &err, "0 frames per second", "no rate");
}

Test(io, wav_damage)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "a.wav");
    const float samples[64] = {0};
    const pipe_array mono = PIPE_ARRAY_F32(PIPE_SHAPE(64), samples);
    pipe_array *a = NULL;
    uint32_t rate;
    MUST(pipe_wav_write(path, &mono, 8000, &err));
    char *bytes;
    size_t n;
    MUST(pipei_file_read(path, 10000, &bytes, &n, &err));
    check_failure(pipei_wav_parse("a.wav", "OggS............", 16, &a, &rate, &err), PIPE_EFORMAT, &err,
                  "a.wav: not a WAV file|4f 67 67 53", "an Ogg");
    check_failure(pipei_wav_parse("a.wav", bytes, 20, &a, &rate, &err), PIPE_EFORMAT, &err, "a.wav: ", "cut");
    pipe_free(bytes);
}

/* ---- plots ---- */

Test(io, plot_svg_is_one_element_with_its_own_ids)
{
    pipe_error err = PIPE_ERROR_INIT;
    const double y[3] = {1, 10, 100}, z[3] = {3, 2, 1};
    const pipe_series one = {.label = "loss", .y = y, .count = 3},
        two = {.label = "loss", .y = z, .count = 3};
    pipe_text svg[2] = {{0}};
    for (int k = 0; k < 2; k++) {
        pipe_plot plot = PIPE_PLOT_INIT;
        plot.title = "A & B < C";
        plot.log_y = k == 0;
        plot.series = k ? &two : &one;
        plot.series_count = 1;
        MUST(pipe_plot_svg(&plot, &svg[k], &err));
        cr_expect_eq(strncmp(svg[k].data, "<svg", 4), 0);
        cr_expect_not_null(strstr(svg[k].data, "</svg>"));
    }
    /* No id of the first is used by the second. */
    size_t ids = 0;
    for (const char *p = svg[0].data; (p = strstr(p, "id=\"")); ids++) {
        p += 4;
        PIPE_CLEANUP(pipe_free_ptr) char *reference = pipe_format("#%.*s\"", (int)strcspn(p, "\""), p);
        cr_expect_null(strstr(svg[1].data, reference), "%s", reference);
    }
    cr_expect(ids > 5);
    cr_expect_not_null(strstr(svg[0].data, "href=\"#p"), "references are renamed too");
    pipe_text_free(&svg[0]);
    pipe_text_free(&svg[1]);
}

static const struct {
    pipe_plot plot;
    const char *file, *parts, *why;
} refused_plots[] = {
    {PIPE_PLOT_INIT, "a.pdf", "a.pdf|.svg or .png", "another ending"},
    {{0}, "a.svg", "PIPE_PLOT_INIT", "not initialised"},
    {{.size = sizeof(pipe_plot), .width = 5, .height = 100, .scale = 1}, "a.svg", "5 x 100", "tiny"},
    {{.size = sizeof(pipe_plot), .width = 200, .height = 100, .scale = 1, .x_min = 2, .x_max = 1,
        .y_min = NAN,
      .y_max = NAN}, "a.svg", "x axis goes from 2 to 1", "backwards"},
    {{.size = sizeof(pipe_plot), .width = 200, .height = 100, .scale = 1, .x_min = NAN, .x_max = NAN,
        .y_min = 0,
      .y_max = NAN, .log_y = true}, "a.svg", "y axis|above 0", "0 on a logarithmic axis"},
};

Test(io, plots_that_are_refused)
{
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    for (size_t k = 0; k < COUNT(refused_plots); k++) {
        pipe_error err = PIPE_ERROR_INIT;
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, refused_plots[k].file);
        check_failure(pipe_plot_write(&refused_plots[k].plot, path, &err), PIPE_EINVAL, &err,
                      refused_plots[k].parts, refused_plots[k].why);
    }
    cr_expect_eq(folder_count(folder), 0);
}

static const double odd[][4] = {
    {1, 1, 1, 1}, {0, 0, 0, 0}, {NAN, INFINITY, -INFINITY, NAN}, {1e308, -1e308, 1, 2}, {1e-320, 0, 0, 0},
    {1e16, 1e16 + 2, 1e16, 1e16}, {-1, 0, 1, 1e9}, {1e-9, 1e-8, 1e-9, 1e-8},
};

Test(io, plots_of_odd_data_are_drawn)
{
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "a.png");
    for (size_t k = 0; k < COUNT(odd); k++)
        for (int options = 0; options < 8; options++) {
            pipe_error err = PIPE_ERROR_INIT;
            const pipe_series s[2] = {{.y = odd[k], .count = 4, .label = "y"},
                                      {.x = odd[k], .y = odd[k], .count = 4, .style = PIPE_SERIES_POINTS}};
            pipe_plot plot = PIPE_PLOT_INIT;
            plot.scale = 0.5;
            plot.log_x = options & 1;
            plot.log_y = options & 2;
            plot.equal_scale = options == 4;
            if (options == 5)
                plot.x_min = 1e-3, plot.x_max = 2e-3;
            plot.series = s;
            plot.series_count = 2;
            MUST(pipe_plot_write(&plot, path, &err));
            PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
            MUST(pipe_png_read(path, &a, NULL, &err));
            expect_shape(a, PIPE_SHAPE(180, 280, 3));
        }
}

/* A red line at y = 5 from x = 0 to 10 must be where the axes say. */
Test(io, plot_draws_where_the_axes_say)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "a.png");
    const double x[2] = {0, 10}, y[2] = {5, 5};
    const pipe_series s = {.x = x, .y = y, .count = 2, .color = 0xFF0000, .width = 3};
    pipe_plot plot = PIPE_PLOT_INIT;
    plot.x_min = plot.y_min = 0;
    plot.x_max = plot.y_max = 10;
    plot.scale = 1;
    plot.series = &s;
    plot.series_count = 1;
    MUST(pipe_plot_write(&plot, path, &err));
    PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
    MUST(pipe_png_read(path, &a, NULL, &err));
    const uint8_t *p = a->data;
    size_t red = 0, top = 1000, bottom = 0, left = 1000, right = 0;
    for (size_t r = 0; r < 360; r++)
        for (size_t c = 0; c < 560; c++)
            if (p[(r * 560 + c) * 3] == 255 && p[(r * 560 + c) * 3 + 1] == 0) {
                red++;
                top = r < top ? r : top;
                bottom = r > bottom ? r : bottom;
                left = c < left ? c : left;
                right = c > right ? c : right;
            }
    cr_expect(red > 900, "%zu red points", red);
    /* The frame is from 14 (no title) to 360 - 26 (no label): the middle is 174. */
    cr_expect(top >= 172 && bottom <= 176, "rows %zu to %zu", top, bottom);
    cr_expect(right >= 543 && right <= 546 && left < 60, "columns %zu to %zu", left, right);
}
