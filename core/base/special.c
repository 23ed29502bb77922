/* Distribution functions and quantiles, in double precision. */
#include "core/base/special.h"

#include <float.h>
#include <math.h>

/* The continued fraction of I_x(a, b) (Abramowitz and Stegun 26.5.8) by Lentz's
 * method; it converges fast for x < (a + 1) / (a + b + 2). */
static double beta_fraction(double x, double a, double b)
{
    const double tiny = DBL_MIN / DBL_EPSILON; /* stands for a partial denominator of 0 */
    double c = 1.0, d = 1.0 - (a + b) * x / (a + 1.0), h;

    d = 1.0 / (fabs(d) < tiny ? tiny : d);
    h = d;
    for (int m = 1; m <= 1000; m++) {
        const double even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m));
        const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0));
        const double term[2] = {even, odd};
        double change = 1.0;
        for (int k = 0; k < 2; k++) {
            d = 1.0 + term[k] * d;
            d = 1.0 / (fabs(d) < tiny ? tiny : d);
            c = 1.0 + term[k] / c;
            c = fabs(c) < tiny ? tiny : c;
            change = c * d;
            h *= change;
        }
        if (fabs(change - 1.0) < DBL_EPSILON)
            break;
    }
    return h;
}

double pipei_beta_cdf(double x, double a, double b)
{
    if (x <= 0.0)
        return 0.0;
    if (x >= 1.0)
        return 1.0;
    if (x > (a + 1.0) / (a + b + 2.0)) /* the mirror image, where the fraction converges */
        return 1.0 - pipei_beta_cdf(1.0 - x, b, a);
    return exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) * beta_fraction(x, a, b) /
           a;
}

double pipei_beta_quantile(double p, double a, double b)
{
    double low = 0.0, high = 1.0;

    if (!(p > 0.0))
        return 0.0;
    if (!(p < 1.0))
        return 1.0;
    /* Near 0 quantiles are tiny (p^(1/a)): halving the exponent first keeps their digits. */
    while (low == 0.0 && high > DBL_MIN) {
        if (pipei_beta_cdf(0.5 * high, a, b) < p)
            low = 0.5 * high;
        else
            high *= 0.5;
    }
    for (int k = 0; k < 60; k++) {
        const double middle = low + 0.5 * (high - low);
        if (pipei_beta_cdf(middle, a, b) < p)
            low = middle;
        else
            high = middle;
    }
    return low + 0.5 * (high - low);
}

double pipei_normal_quantile(double p)
{
    if (!(p > 0.0))
        return -INFINITY;
    if (!(p < 1.0))
        return INFINITY;
    if (p > 0.5)
        return -pipei_normal_quantile(1.0 - p);
    /* Newton on ln Phi, which is concave: from a start below the root it converges
     * monotonically, in the far tail in a few steps too. */
    double z = -sqrt(-2.0 * log(p));
    for (int k = 0; k < 100; k++) {
        const double cdf = 0.5 * erfc(-z * sqrt(0.5));
        const double slope = exp(-0.5 * z * z) / sqrt(2.0 * 3.14159265358979323846) / cdf;
        const double change = (log(p) - log(cdf)) / slope;
        z += change;
        if (fabs(change) <= 2.0 * DBL_EPSILON * fabs(z) || z == 0.0)
            break;
    }
    return z;
}
