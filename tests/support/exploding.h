/* Samplers on Gaussian data N(0, 1/4) under x = x0 + rho eps, where everything is known:
 * the probability-flow ODE from rho_0 to rho_1 multiplies by
 * sqrt((1/4 + rho_1^2) / (1/4 + rho_0^2)). */
#ifndef TESTS_SUPPORT_EXPLODING_H
#define TESTS_SUPPORT_EXPLODING_H

#include "support/objects.h"

#define VARIANCE 0.25

enum { GRID_MAX = 512 };

/* The denoiser of N(0, 1/4) in each of `dimension` directions, under sigma = t up to 200. */
pipe_object *test_spherical(int64_t dimension);
/* A sampler on given ratios; options: "key value key value ...". */
pipe_object *test_sampler(const char *name, const char *options, const double *rho, size_t points);
/* n ratios from `high` to `low`, even in ratio^(1 / power) (power 0: in its logarithm), and then 0 if
 * `to_zero`; returns how many. */
size_t test_ratios(double high, double low, double power, size_t n, bool to_zero, double *out);
/* One run of n samples, from the given starts, with the given noise (NULL: its own). */
void test_run(pipe_object *solver, pipe_object *d, size_t n, const float *start,
              pipe_tensor *(*noise)(void *, size_t, uint32_t), void *arg, float *out);
/* Where one number goes. */
double test_map(const char *name, const char *options, const double *rho, size_t points, double start);

#endif
