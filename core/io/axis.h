/* Axes of plots: range, ticks, labels; no drawing.  Internal to core/io. */
#ifndef PIPE_CORE_AXIS_H
#define PIPE_CORE_AXIS_H

#include "core/base/internal.h"
#include <pipe/plot.h>

enum { PIPEI_TICKS = 64, PIPEI_MINOR_TICKS = 256, PIPEI_TICK_TEXT = 32 };

/* Positions are in the axis's own units: the value, or its log10. */
typedef struct pipei_axis {
    bool log;
    double low, high;                    /* low < high */
    double from, to;                     /* where these lie on the paper */
    struct {
        double at;
        char text[PIPEI_TICK_TEXT];
    } ticks[PIPEI_TICKS];
    size_t tick_count;
    double minor[PIPEI_MINOR_TICKS];
    size_t minor_count;
    char factor[PIPEI_TICK_TEXT];        /* "×10⁵", or empty */
} pipei_axis;

/* Whether a value has a place on the axis; *at is that place in its units. */
PIPE_INTERNAL bool pipei_axis_place(const pipei_axis *a, double value, double *at);
/* From [least, most] of the data (least > most: none) and the wanted limits (NaN:
 * open), in values; `margin` is the part of the range to leave at open ends. */
PIPE_INTERNAL pipe_status pipei_axis_range(pipei_axis *a, const char *name, double least, double most,
                                           double low, double high, double margin, pipe_error *err);
/* About `wanted` ticks between low and high. */
PIPE_INTERNAL void pipei_axis_ticks(pipei_axis *a, double wanted);
/* Position on the paper. */
PIPE_INTERNAL double pipei_axis_paper(const pipei_axis *a, double at);

#endif
