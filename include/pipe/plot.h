/* Plots of lines and points, as SVG and PNG.
 *
 *     const pipe_series curves[] = {
 *         {.label = "training", .x = step, .y = loss, .count = n},
 *         {.label = "smoothed", .x = step, .y = smooth, .count = n, .width = 2},
 *     };
 *     pipe_plot plot = PIPE_PLOT_INIT;
 *     plot.title = "Loss";  plot.x_label = "step";  plot.log_y = true;
 *     plot.series = curves;  plot.series_count = 2;
 *     pipe_plot_write(&plot, "loss.svg", err);
 *
 * Colours are those of Okabe and Ito, which the colour-blind can tell apart;
 * beyond eight series the dashes change.  Text is in the sans-serif font of the
 * system (in SVG: as outlines, so that it looks the same everywhere).
 * Thread: any.  Since ABI 1.0.
 */
#ifndef PIPE_PLOT_H
#define PIPE_PLOT_H

#include <math.h>
#include <pipe/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pipe_series_style {
    PIPE_SERIES_LINE = 0,
    PIPE_SERIES_DASHED,
    PIPE_SERIES_POINTS,
    PIPE_SERIES_LINE_POINTS
} pipe_series_style;

typedef struct pipe_series {
    const char *label;       /* in the legend; NULL: not there */
    const double *x, *y;     /* [count]; x NULL: 0, 1, 2, ...  A value that is not
                              * finite (or not above 0 on a logarithmic axis) is a gap. */
    size_t count;
    pipe_series_style style;
    double width;            /* of the line, or half the point's size, in 1/96 inch; 0: 1.5, points 2 */
    uint32_t color;          /* 0xRRGGBB; 0: the next one of the palette */
    double opacity;          /* 0: opaque; otherwise 0 < opacity <= 1 */
} pipe_series;

typedef struct pipe_plot {
    size_t size;                             /* sizeof(pipe_plot) */
    const char *title, *x_label, *y_label;   /* NULL: none */
    bool log_x, log_y;                       /* base 10 */
    bool equal_scale;                        /* one unit is as long on x as on y; not with log */
    double x_min, x_max, y_min, y_max;       /* NaN: from the data */
    const pipe_series *series;
    size_t series_count;
    double width, height;                    /* in 1/96 inch; 100 to 4,000 */
    double scale;                            /* pixels of PNG per 1/96 inch */
} pipe_plot;

#define PIPE_PLOT_INIT                                                        \
    {.size = sizeof(pipe_plot), .x_min = NAN, .x_max = NAN, .y_min = NAN,     \
     .y_max = NAN, .width = 560, .height = 360, .scale = 2}

/** Writes the plot, as what the name ends in: .svg or .png.  Atomic.
 *  A plot without a single point that can be shown has empty axes and says so.
 *  Errors: PIPE_EINVAL  another ending; a size or limits that cannot be;
 *          PIPE_EIO, PIPE_ENOTFOUND, PIPE_EEXIST  as pipe_png_write() */
PIPE_API pipe_status pipe_plot_write(const pipe_plot *plot, const char *path, pipe_error *err);
/** Appends the plot as an <svg> element (without the XML declaration), to be put into HTML. */
PIPE_API pipe_status pipe_plot_svg(const pipe_plot *plot, pipe_text *out, pipe_error *err);

#ifdef __cplusplus
}
#endif
#endif
