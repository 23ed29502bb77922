/* Functions of probability theory that the C library lacks.  Internal. */
#ifndef PIPE_CORE_SPECIAL_H
#define PIPE_CORE_SPECIAL_H

#include "core/base/internal.h"

/* The regularized incomplete beta function I_x(a, b): the distribution function of
 * Beta(a, b); a, b > 0, x in [0, 1]. */
PIPE_INTERNAL double pipei_beta_cdf(double x, double a, double b);
/* Its inverse in x: the quantile of p in [0, 1]. */
PIPE_INTERNAL double pipei_beta_quantile(double p, double a, double b);
/* Quantile of the standard normal distribution; -inf at 0, inf at 1. */
PIPE_INTERNAL double pipei_normal_quantile(double p);

#endif
