/* Plots by cairo: layout, drawing, SVG and PNG.
 *
 *   +---------------------------------------+
 *   |                title                  |
 *   |  ×10⁵                                 |
 *   | y  +-------------------------------+  |
 *   | l  |                    [ legend ] |  |
 *   | a  |   grid, series (clipped)      |  |
 *   | b  |                               |  |
 *   |    +-------------------------------+  |
 *   |      ticks              x label  ×10⁵ |
 *   +---------------------------------------+ */
#include "core/base/file.h"
#include "core/io/axis.h"

#include <cairo-svg.h>
#include <cairo.h>
#include <string.h>

static const uint32_t palette[] = {0x0072B2, 0xD55E00, 0x009E73, 0xCC79A7, 0xE69F00, 0x56B4E9, 0x000000,
    0xF0E442};
enum { COLORS = sizeof palette / sizeof palette[0] };
enum { INK = 0x333333, GRID = 0xE4E4E4, FRAME = 0x808080 };
static const double text_size = 11, title_size = 13, gap = 6, tick_length = 4;

/* Drawing more points than this per line shows nothing more, and makes SVG files of megabytes. */
enum { POINTS_SHOWN = 8000 };

typedef struct canvas {
    cairo_t *cr;
    const pipe_plot *plot;
    pipei_axis x, y;
    bool empty;
} canvas;

static void set_color(cairo_t *cr, uint32_t rgb, double opacity)
{
    cairo_set_source_rgba(cr, (rgb >> 16 & 255) / 255.0, (rgb >> 8 & 255) / 255.0, (rgb & 255) / 255.0,
                          opacity);
}

static void set_font(cairo_t *cr, double size, bool bold)
{
    cairo_select_font_face(cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL,
                           bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(cr, size);
}

static double text_width(cairo_t *cr, const char *s)
{
    cairo_text_extents_t e;
    cairo_text_extents(cr, s, &e);
    return e.x_advance;
}

/* align: 0 the text begins at x, 0.5 is centred there, 1 ends there; y is its base line. */
static void draw_text(cairo_t *cr, double x, double y, double align, const char *s)
{
    cairo_move_to(cr, x - align * text_width(cr, s), y);
    cairo_show_text(cr, s);
}

static void set_series_color(const canvas *c, size_t k)
{
    const pipe_series *s = &c->plot->series[k];
    const double opacity = s->opacity > 0 && s->opacity < 1 ? s->opacity : 1;
    set_color(c->cr, s->color ? s->color : palette[k % COLORS], opacity);
}

static double series_x(const pipe_series *s, size_t k)
{
    return s->x ? s->x[k] : (double)k;
}

/* Place of point k on the paper; false: a gap. */
static bool locate(const canvas *c, const pipe_series *s, size_t k, double *px, double *py)
{
    double x, y;
    if (!pipei_axis_place(&c->x, series_x(s, k), &x) || !pipei_axis_place(&c->y, s->y[k], &y))
        return false;
    *px = pipei_axis_paper(&c->x, x);
    *py = pipei_axis_paper(&c->y, y);
    return true;
}

/* ---- layout ---- */

static pipe_status check_plot(const pipe_plot *p, pipe_error *err)
{
    if (!p || p->size < sizeof *p)
        return pipe_fail(err, PIPE_EINVAL, "plot: start it as PIPE_PLOT_INIT");
    if (!(p->width >= 100 && p->width <= 4000 && p->height >= 100 && p->height <= 4000))
        return pipe_fail(err, PIPE_EINVAL, "plot: its size is %g x %g; 100 to 4000 each is possible",
                         p->width, p->height);
    if (!(p->scale > 0 && p->scale <= 8))
        return pipe_fail(err, PIPE_EINVAL, "plot: scale is %g; above 0 to 8 is possible", p->scale);
    if (p->equal_scale && (p->log_x || p->log_y))
        return pipe_fail(err, PIPE_EINVAL, "plot: equal_scale is not possible with a logarithmic axis");
    for (size_t k = 0; k < p->series_count; k++)
        if (p->series[k].count && !p->series[k].y)
            return pipe_fail(err, PIPE_EINVAL, "plot: series %zu has no values", k);
    return PIPE_OK;
}

/* Both axes from the points that have a place on both. */
static pipe_status find_ranges(canvas *c, pipe_error *err)
{
    const pipe_plot *p = c->plot;
    double x0 = INFINITY, x1 = -INFINITY, y0 = INFINITY, y1 = -INFINITY, ignored;
    c->x.log = p->log_x;
    c->y.log = p->log_y;
    for (size_t k = 0; k < p->series_count; k++)
        for (size_t i = 0; i < p->series[k].count; i++) {
            const double x = series_x(&p->series[k], i), y = p->series[k].y[i];
            if (!pipei_axis_place(&c->x, x, &ignored) || !pipei_axis_place(&c->y, y, &ignored))
                continue;
            x0 = fmin(x0, x);
            x1 = fmax(x1, x);
            y0 = fmin(y0, y);
            y1 = fmax(y1, y);
        }
    c->empty = x0 > x1;
    PIPE_TRY(pipei_axis_range(&c->x, "x", x0, x1, p->x_min, p->x_max, 0.02, err));
    return pipei_axis_range(&c->y, "y", y0, y1, p->y_min, p->y_max, 0.05, err);
}

/* Widens the axis that has more room. */
static void equalise(canvas *c)
{
    const double ux = (c->x.high - c->x.low) / fabs(c->x.to - c->x.from);
    const double uy = (c->y.high - c->y.low) / fabs(c->y.to - c->y.from);
    pipei_axis *a = ux < uy ? &c->x : &c->y;
    const double grow = (ux < uy ? uy / ux : ux / uy), middle = (a->low + a->high) / 2,
        half = (a->high - a->low) / 2;
    a->low = middle - half * grow;
    a->high = middle + half * grow;
}

static void make_ticks(canvas *c)
{
    pipei_axis_ticks(&c->x, fabs(c->x.to - c->x.from) / 75);
    pipei_axis_ticks(&c->y, fabs(c->y.to - c->y.from) / 42);
}

/* The frame depends on the width of the labels, those on the frame: twice is enough. */
static void lay_out(canvas *c)
{
    const pipe_plot *p = c->plot;
    double left = 50;
    set_font(c->cr, text_size, false);
    for (int round = 0; round < 2; round++) {
        c->x.from = left;
        c->x.to = p->width - 14;
        c->y.from = p->height - (p->x_label ? 44 : 26);
        c->y.to = (p->title ? 34 : 14);
        make_ticks(c);
        if (c->y.factor[0])
            c->y.to += text_size + 2;
        if (c->x.factor[0] && !p->x_label)
            c->y.from -= text_size + 4;
        if (p->equal_scale)
            equalise(c);
        make_ticks(c);
        double widest = 0;
        for (size_t k = 0; k < c->y.tick_count; k++)
            widest = fmax(widest, text_width(c->cr, c->y.ticks[k].text));
        left = ceil(widest + tick_length + gap + (p->y_label ? text_size + 12 : 6));
    }
}

/* ---- drawing ---- */

static double crisp(double v)
{
    return floor(v) + 0.5;           /* a line of width 1 fills one row of pixels */
}

static void line(cairo_t *cr, double x0, double y0, double x1, double y1)
{
    cairo_move_to(cr, x0, y0);
    cairo_line_to(cr, x1, y1);
}

static void draw_grid(const canvas *c)
{
    cairo_t *cr = c->cr;
    cairo_set_line_width(cr, 1);
    set_color(cr, GRID, 1);
    for (size_t k = 0; k < c->x.tick_count; k++) {
        const double x = crisp(pipei_axis_paper(&c->x, c->x.ticks[k].at));
        line(cr, x, c->y.from, x, c->y.to);
    }
    for (size_t k = 0; k < c->y.tick_count; k++) {
        const double y = crisp(pipei_axis_paper(&c->y, c->y.ticks[k].at));
        line(cr, c->x.from, y, c->x.to, y);
    }
    cairo_stroke(cr);
}

static void draw_axes(const canvas *c)
{
    cairo_t *cr = c->cr;
    const pipe_plot *p = c->plot;
    cairo_set_line_width(cr, 1);
    set_color(cr, FRAME, 1);
    line(cr, crisp(c->x.from), c->y.to, crisp(c->x.from), crisp(c->y.from));
    cairo_line_to(cr, c->x.to, crisp(c->y.from));
    for (size_t k = 0; k < c->x.tick_count; k++) {
        const double x = crisp(pipei_axis_paper(&c->x, c->x.ticks[k].at));
        line(cr, x, c->y.from, x, c->y.from + tick_length);
    }
    for (size_t k = 0; k < c->y.tick_count; k++) {
        const double y = crisp(pipei_axis_paper(&c->y, c->y.ticks[k].at));
        line(cr, c->x.from, y, c->x.from - tick_length, y);
    }
    for (size_t k = 0; k < c->x.minor_count; k++) {
        const double x = crisp(pipei_axis_paper(&c->x, c->x.minor[k]));
        line(cr, x, c->y.from, x, c->y.from + tick_length / 2);
    }
    for (size_t k = 0; k < c->y.minor_count; k++) {
        const double y = crisp(pipei_axis_paper(&c->y, c->y.minor[k]));
        line(cr, c->x.from, y, c->x.from - tick_length / 2, y);
    }
    cairo_stroke(cr);

    set_color(cr, INK, 1);
    set_font(cr, text_size, false);
    for (size_t k = 0; k < c->x.tick_count; k++)
        draw_text(cr, pipei_axis_paper(&c->x, c->x.ticks[k].at), c->y.from + tick_length + text_size + 1, 0.5,
                  c->x.ticks[k].text);
    for (size_t k = 0; k < c->y.tick_count; k++)
        draw_text(cr, c->x.from - tick_length - 3,
                  pipei_axis_paper(&c->y, c->y.ticks[k].at) + text_size * 0.36, 1, c->y.ticks[k].text);
    draw_text(cr, c->x.from, c->y.to - 5, 0, c->y.factor);
    draw_text(cr, c->x.to, p->height - 8, 1, c->x.factor);
}

static void draw_labels(const canvas *c)
{
    cairo_t *cr = c->cr;
    const pipe_plot *p = c->plot;
    const double middle_x = (c->x.from + c->x.to) / 2, middle_y = (c->y.from + c->y.to) / 2;
    set_color(cr, INK, 1);
    set_font(cr, text_size + 0.5, false);
    if (p->x_label)
        draw_text(cr, middle_x, p->height - 8, 0.5, p->x_label);
    if (p->y_label) {
        cairo_save(cr);
        cairo_translate(cr, text_size + 5, middle_y);
        cairo_rotate(cr, -M_PI / 2);
        draw_text(cr, 0, 0, 0.5, p->y_label);
        cairo_restore(cr);
    }
    if (p->title) {
        set_font(cr, title_size, true);
        draw_text(cr, middle_x, 21, 0.5, p->title);
    }
    if (c->empty) {
        set_font(cr, text_size, false);
        set_color(cr, FRAME, 1);
        draw_text(cr, middle_x, middle_y, 0.5, "no data");
    }
}

/* Liang-Barsky: cairo's coordinates are fixed-point and wrap far outside the paper. */
static bool clip_segment(double limit, double *x0, double *y0, double *x1, double *y1)
{
    const double dx = *x1 - *x0, dy = *y1 - *y0, p[4] = {-dx, dx, -dy, dy};
    const double q[4] = {*x0 + limit, limit - *x0, *y0 + limit, limit - *y0};
    double t0 = 0, t1 = 1;
    for (int k = 0; k < 4; k++) {
        if (p[k] == 0) {
            if (q[k] < 0)
                return false;
        } else if (p[k] < 0) {
            t0 = fmax(t0, q[k] / p[k]);
        } else {
            t1 = fmin(t1, q[k] / p[k]);
        }
    }
    if (t0 > t1)
        return false;
    const double ax = *x0, ay = *y0;
    *x0 = ax + t0 * dx;
    *y0 = ay + t0 * dy;
    *x1 = ax + t1 * dx;
    *y1 = ay + t1 * dy;
    return true;
}

typedef struct pen {
    cairo_t *cr;
    bool down;                       /* a point came before */
    double x, y;                     /* it */
    double end_x, end_y;             /* where cairo's path ends */
    bool has_path;
} pen;

static void pen_to(pen *p, double x, double y)
{
    if (p->down) {
        double x0 = p->x, y0 = p->y, x1 = x, y1 = y;
        if (clip_segment(20000, &x0, &y0, &x1, &y1)) {
            if (!p->has_path || x0 != p->end_x || y0 != p->end_y)
                cairo_move_to(p->cr, x0, y0);
            cairo_line_to(p->cr, x1, y1);
            p->has_path = true;
            p->end_x = x1;
            p->end_y = y1;
        }
    }
    p->down = true;
    p->x = x;
    p->y = y;
}

static bool ascending(const pipe_series *s)
{
    for (size_t k = 1; s->x && k < s->count; k++)
        if (!(s->x[k] >= s->x[k - 1]))
            return false;
    return true;
}

/* Every point, or of each bucket of a long ascending series the first, the lowest,
 * the highest and the last: the drawing is the same at this resolution. */
static void trace_line(const canvas *c, const pipe_series *s)
{
    const size_t bucket = s->count > POINTS_SHOWN && ascending(s) ? s->count / (POINTS_SHOWN / 4) : 1;
    pen p = {.cr = c->cr};
    for (size_t first = 0; first < s->count; first += bucket) {
        const size_t end = first + bucket < s->count ? first + bucket : s->count;
        size_t low = first, high = first;
        for (size_t k = first; k < end; k++) {
            if (s->y[k] < s->y[low])
                low = k;
            if (s->y[k] > s->y[high])
                high = k;
        }
        const size_t order[4] = {first, low < high ? low : high, low < high ? high : low, end - 1};
        for (int k = 0; k < 4; k++) {
            double x, y;
            if (k > 0 && order[k] <= order[k - 1])
                continue;
            if (locate(c, s, order[k], &x, &y))
                pen_to(&p, x, y);
            else
                p.down = false;
        }
    }
}

static void set_dashes(cairo_t *cr, const pipe_series *s, size_t k)
{
    static const double patterns[3][2] = {{6, 3}, {2, 2}, {9, 4}};
    const size_t round = k / COLORS + (s->style == PIPE_SERIES_DASHED);
    cairo_set_dash(cr, patterns[(round + 2) % 3], round ? 2 : 0, 0);
}

static void draw_point(cairo_t *cr, double x, double y, double radius)
{
    cairo_new_sub_path(cr);
    cairo_arc(cr, x, y, radius, 0, 2 * M_PI);
    cairo_fill(cr);
}

static double line_width(const pipe_series *s)
{
    return s->width > 0 ? s->width : 1.5;
}

static double point_radius(const pipe_series *s)
{
    return s->style == PIPE_SERIES_LINE_POINTS ? line_width(s) + 1 : s->width > 0 ? s->width : 2;
}

static void draw_series(const canvas *c, size_t k)
{
    const pipe_series *s = &c->plot->series[k];
    set_series_color(c, k);
    if (s->style != PIPE_SERIES_POINTS) {
        cairo_set_line_width(c->cr, line_width(s));
        cairo_set_line_join(c->cr, CAIRO_LINE_JOIN_ROUND);
        set_dashes(c->cr, s, k);
        cairo_new_path(c->cr);
        trace_line(c, s);
        cairo_stroke(c->cr);
        cairo_set_dash(c->cr, NULL, 0, 0);
    }
    const double margin = 50;
    for (size_t i = 0; i < s->count &&
         (s->style == PIPE_SERIES_POINTS || s->style == PIPE_SERIES_LINE_POINTS); i++) {
        double x, y;
        if (locate(c, s, i, &x, &y) && x > -margin && y > -margin && x < c->plot->width + margin &&
            y < c->plot->height + margin)
            draw_point(c->cr, x, y, point_radius(s));
    }
}

/* ---- legend ---- */

typedef struct box {
    double x, y, width, height;
} box;

static size_t points_inside(const canvas *c, box b)
{
    size_t n = 0;
    for (size_t k = 0; k < c->plot->series_count; k++) {
        const pipe_series *s = &c->plot->series[k];
        const size_t stride = s->count / 2000 + 1;
        for (size_t i = 0; i < s->count; i += stride) {
            double x, y;
            if (locate(c, s, i, &x, &y) && x >= b.x && x <= b.x + b.width && y >= b.y && y <= b.y + b.height)
                n += stride;
        }
    }
    return n;
}

/* The corner that hides the fewest points; the upper right one in a tie. */
static void place_legend(const canvas *c, box *b)
{
    const double left = c->x.from + gap, right = c->x.to - gap - b->width;
    const double top = c->y.to + gap, bottom = c->y.from - gap - b->height;
    const double corners[4][2] = {{right, top}, {left, top}, {right, bottom}, {left, bottom}};
    size_t fewest = SIZE_MAX;
    for (int k = 0; k < 4; k++) {
        const box here = {corners[k][0], corners[k][1], b->width, b->height};
        const size_t n = points_inside(c, here);
        if (n < fewest) {
            fewest = n;
            *b = here;
        }
    }
}

static void draw_legend_key(const canvas *c, size_t k, double x, double y)
{
    const pipe_series *s = &c->plot->series[k];
    set_series_color(c, k);
    if (s->style != PIPE_SERIES_POINTS) {
        cairo_set_line_width(c->cr, fmax(line_width(s), 1.5));
        set_dashes(c->cr, s, k);
        line(c->cr, x, y, x + 20, y);
        cairo_stroke(c->cr);
        cairo_set_dash(c->cr, NULL, 0, 0);
    }
    if (s->style == PIPE_SERIES_POINTS || s->style == PIPE_SERIES_LINE_POINTS)
        draw_point(c->cr, x + 10, y, fmax(point_radius(s), 2));
}

static void draw_legend(const canvas *c)
{
    const pipe_plot *p = c->plot;
    const double row = text_size + 5, key = 20, inside = 6;
    double widest = 0;
    size_t n = 0;
    set_font(c->cr, text_size, false);
    for (size_t k = 0; k < p->series_count; k++)
        if (p->series[k].label) {
            widest = fmax(widest, text_width(c->cr, p->series[k].label));
            n++;
        }
    if (n == 0)
        return;
    box b = {.width = widest + key + 3 * inside, .height = (double)n * row + inside};
    place_legend(c, &b);
    cairo_rectangle(c->cr, crisp(b.x), crisp(b.y), floor(b.width), floor(b.height));
    set_color(c->cr, 0xFFFFFF, 0.85);
    cairo_fill_preserve(c->cr);
    set_color(c->cr, GRID, 1);
    cairo_set_line_width(c->cr, 1);
    cairo_stroke(c->cr);
    double y = b.y + inside / 2 + row / 2;
    for (size_t k = 0; k < p->series_count; k++) {
        if (!p->series[k].label)
            continue;
        draw_legend_key(c, k, b.x + inside, y);
        set_color(c->cr, INK, 1);
        draw_text(c->cr, b.x + inside + key + inside, y + text_size * 0.36, 0, p->series[k].label);
        y += row;
    }
}

static pipe_status draw(cairo_t *cr, const pipe_plot *p, pipe_error *err)
{
    canvas c = {.cr = cr, .plot = p};
    PIPE_TRY(find_ranges(&c, err));
    set_color(cr, 0xFFFFFF, 1);
    cairo_paint(cr);
    lay_out(&c);
    draw_grid(&c);
    cairo_save(cr);
    cairo_rectangle(cr, c.x.from, c.y.to, c.x.to - c.x.from, c.y.from - c.y.to);
    cairo_clip(cr);
    for (size_t k = 0; k < p->series_count; k++)
        draw_series(&c, k);
    cairo_restore(cr);
    draw_axes(&c);
    draw_labels(&c);
    draw_legend(&c);
    return PIPE_OK;
}

/* ---- output ---- */

static cairo_status_t append(void *closure, const unsigned char *data, unsigned n)
{
    pipe_text_add_bytes(closure, data, n);
    return CAIRO_STATUS_SUCCESS;
}

static pipe_status cairo_failure(cairo_status_t status, pipe_error *err)
{
    return pipe_fail(err, status == CAIRO_STATUS_NO_MEMORY ? PIPE_ENOMEM : PIPE_EINVAL, "plot: cairo: %s",
                     cairo_status_to_string(status));
}

static pipe_status draw_on(cairo_surface_t *surface, const pipe_plot *p, double scale, pipe_error *err)
{
    cairo_t *cr = cairo_create(surface);
    cairo_scale(cr, scale, scale);
    pipe_status status = draw(cr, p, err);
    if (status == PIPE_OK && cairo_status(cr) != CAIRO_STATUS_SUCCESS)
        status = cairo_failure(cairo_status(cr), err);
    cairo_destroy(cr);
    return status;
}

static pipe_status render_svg(const pipe_plot *p, pipe_text *out, pipe_error *err)
{
    cairo_surface_t *surface = cairo_svg_surface_create_for_stream(append, out, p->width, p->height);
    cairo_svg_surface_set_document_unit(surface, CAIRO_SVG_UNIT_PX);
    pipe_status status = draw_on(surface, p, 1, err);
    cairo_surface_finish(surface);
    if (status == PIPE_OK && cairo_surface_status(surface) != CAIRO_STATUS_SUCCESS)
        status = cairo_failure(cairo_surface_status(surface), err);
    cairo_surface_destroy(surface);
    return status;
}

static pipe_status render_png(const pipe_plot *p, pipe_text *out, pipe_error *err)
{
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)ceil(p->width * p->scale),
                                                          (int)ceil(p->height * p->scale));
    pipe_status status = draw_on(surface, p, p->scale, err);
    const cairo_status_t written = status == PIPE_OK ? cairo_surface_write_to_png_stream(surface, append, out)
                                                     : CAIRO_STATUS_SUCCESS;
    if (written != CAIRO_STATUS_SUCCESS)
        status = cairo_failure(written, err);
    cairo_surface_destroy(surface);
    return status;
}

pipe_status pipe_plot_write(const pipe_plot *plot, const char *path, pipe_error *err)
{
    const char *extension = pipei_path_extension(path);
    const bool svg = strcmp(extension, "svg") == 0;
    PIPE_CLEANUP(pipe_text_free) pipe_text bytes = {0};
    PIPE_TRY(check_plot(plot, err));
    if (!svg && strcmp(extension, "png") != 0)
        return pipe_fail(err, PIPE_EINVAL, "%s: a plot is written as .svg or .png", path);
    PIPE_TRY((svg ? render_svg : render_png)(plot, &bytes, err));
    return pipei_file_write(path, bytes.data, bytes.length, err);
}

/* cairo calls its parts "glyph-0-1", "clip-0": of two plots in one page the second
 * would be drawn with the first one's letters.  So ids get a prefix made of the
 * picture's hash. */
static void add_with_own_ids(pipe_text *out, const char *svg, size_t n)
{
    static const char *const marks[] = {"id=\"", "href=\"#", "url(#"};
    const uint64_t hash = pipe_hash64(svg, n, 0);
    for (const char *p = svg; *p; ) {
        size_t nearest = strlen(p);
        const char *mark = "";
        for (int k = 0; k < 3; k++) {
            const char *found = strstr(p, marks[k]);
            if (found && (size_t)(found - p) < nearest) {
                nearest = (size_t)(found - p);
                mark = marks[k];
            }
        }
        pipe_text_add_bytes(out, p, nearest + strlen(mark));
        if (*mark)
            pipe_text_addf(out, "p%08x-", (unsigned)hash);
        p += nearest + strlen(mark);
    }
}

pipe_status pipe_plot_svg(const pipe_plot *plot, pipe_text *out, pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text text = {0};
    PIPE_TRY(check_plot(plot, err));
    PIPE_TRY(render_svg(plot, &text, err));
    const char *start = strstr(text.data, "<svg");
    if (!start)
        return pipe_fail(err, PIPE_EINVAL, "plot: cairo wrote no SVG");
    add_with_own_ids(out, start, text.length - (size_t)(start - text.data));
    return PIPE_OK;
}
