/* Ticks at 1, 2, 5 times a power of ten (linear), or at powers of ten. */
#include "core/io/axis.h"

#include <stdio.h>
#include <string.h>

/* Differences of plotted values do not overflow, and steps between them keep their digits. */
static const double largest = 1e300, least_range = 1e-290;

bool pipei_axis_place(const pipei_axis *a, double value, double *at)
{
    if (!isfinite(value) || fabs(value) > largest || (a->log && value < 1 / largest))
        return false;
    *at = a->log ? log10(value) : value;
    return true;
}

double pipei_axis_paper(const pipei_axis *a, double at)
{
    return a->from + (at - a->low) / (a->high - a->low) * (a->to - a->from);
}

pipe_status pipei_axis_range(pipei_axis *a, const char *name, double least, double most, double low,
                             double high, double margin, pipe_error *err)
{
    double lo, hi;
    if ((!isnan(low) && !pipei_axis_place(a, low, &lo)) || (!isnan(high) && !pipei_axis_place(a, high, &hi)))
        return pipe_fail(err, PIPE_EINVAL, "plot: a limit of the %s axis is %g: it must be finite%s", name,
                         isnan(low) ? high : low,
                         a->log ? " and above 0, since the axis is logarithmic" : "");
    if (!isnan(low) && !isnan(high) && !(low < high))
        return pipe_fail(err, PIPE_EINVAL, "plot: the %s axis goes from %g to %g: the first must be less",
                         name, low, high);
    if (least > most || !pipei_axis_place(a, least, &lo) || !pipei_axis_place(a, most, &hi)) {
        lo = 0;                          /* nothing to show: 0 to 1, or 1 to 10 */
        hi = 1;
    }
    const double pad = (hi - lo) * margin;
    lo -= pad;
    hi += pad;
    if (!isnan(low))
        pipei_axis_place(a, low, &lo);
    if (!isnan(high))
        pipei_axis_place(a, high, &hi);
    /* A constant, limits beyond the data, or a range lost in the digits of its ends. */
    const double size = fmax(fabs(lo), fabs(hi));
    if (!(hi - lo > fmax(size * 1e-12, least_range))) {
        const double half = a->log ? 0.5 : size > 10 * least_range ? size * 0.1 : 0.5;
        if (isnan(low))
            lo = (isnan(high) ? lo : hi) - half;
        if (isnan(high))
            hi = lo + 2 * half;
    }
    a->low = lo;
    a->high = hi;
    return PIPE_OK;
}

static double nice_step(double raw)
{
    const double power = pow(10, floor(log10(raw))), part = raw / power;
    return power * (part <= 1.0000001 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
}

/* "10" with the exponent in Unicode superscripts. */
static void power_of_ten(const char *prefix, int exponent, char *out)
{
    static const char *const digits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
    char plain[16];
    pipe_text t = {0};
    pipe_text_addf(&t, "%s10", prefix);
    snprintf(plain, sizeof plain, "%d", exponent);
    for (const char *p = plain; *p; p++)
        pipe_text_add(&t, *p == '-' ? "⁻" : digits[*p - '0']);
    snprintf(out, PIPEI_TICK_TEXT, "%s", t.data);
    pipe_text_free(&t);
}

static void add_tick(pipei_axis *a, double at)
{
    if (a->tick_count < PIPEI_TICKS)
        a->ticks[a->tick_count++].at = at;
}

static void add_minor(pipei_axis *a, double at)
{
    if (a->minor_count < PIPEI_MINOR_TICKS && at >= a->low && at <= a->high)
        a->minor[a->minor_count++] = at;
}

/* Ticks of [lo, hi], values; on a short logarithmic axis they are still placed by log10. */
static void linear_ticks(pipei_axis *a, double lo, double hi, double wanted)
{
    const double step = nice_step((hi - lo) / fmax(wanted, 1)), size = fmax(fabs(lo), fabs(hi));
    const double slack = step * 1e-9;
    int exponent = size >= 1e5 || size < 1e-3 ? (int)floor(log10(size)) : 0;
    const double unit = pow(10, exponent);
    const double digits = -floor(log10(step / unit) + 1e-9);
    const int decimals = digits > 0 ? (digits < 12 ? (int)digits : 12) : 0;

    for (double k = ceil((lo - slack) / step), n = 0; k * step <= hi + slack && n < PIPEI_TICKS; k++, n++) {
        const double value = k * step;
        double at;
        if (!pipei_axis_place(a, value, &at))
            continue;
        add_tick(a, at);
        const double shown = value == 0 ? 0 : value / unit;            /* never "-0" */
        char text[64];
        snprintf(text, sizeof text, "%.*f", decimals, fabs(shown));
        snprintf(a->ticks[a->tick_count - 1].text, PIPEI_TICK_TEXT, "%s%.20s", shown < 0 ? "−" : "", text);
    }
    if (exponent)
        power_of_ten("×", exponent, a->factor);
}

static void log_ticks(pipei_axis *a, double wanted)
{
    const double slack = 1e-9;
    const double first = ceil(a->low - slack), last = floor(a->high + slack), decades = last - first + 1;
    const double stride = fmax(1, ceil(decades / fmax(wanted, 1)));
    for (double k = first; k <= last && a->tick_count < PIPEI_TICKS; k += stride) {
        add_tick(a, k);
        power_of_ten("", (int)k, a->ticks[a->tick_count - 1].text);
    }
    if (stride > 1) {
        for (double k = first; k <= last; k++)
            add_minor(a, k);
        return;
    }
    for (double k = first - 1; k <= last; k++)
        for (int m = 2; m < 10; m++)
            add_minor(a, k + log10(m));
}

void pipei_axis_ticks(pipei_axis *a, double wanted)
{
    a->tick_count = a->minor_count = 0;
    a->factor[0] = '\0';
    if (!a->log)
        linear_ticks(a, a->low, a->high, wanted);
    else if (a->high - a->low < 1.2)
        linear_ticks(a, pow(10, a->low), pow(10, a->high), wanted);
    else
        log_ticks(a, wanted);
}
