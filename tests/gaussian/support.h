/* What the tests of closed-form denoisers share. */
#ifndef TESTS_GAUSSIAN_SUPPORT_H
#define TESTS_GAUSSIAN_SUPPORT_H

#include "data-plugins/data-test.h"

#include <pipe/gaussian.h>

/* Runs a step fit.* over data; the data set it yields, held. */
pipe_dataset *gaussian_fit(const char *name, pipe_dataset *data, const char *const *params);
/* A denoiser of this schedule over statistics; params may be NULL. */
pipe_object *gaussian_denoiser(const char *name, const char *schedule, pipe_dataset *statistics,
                               const char *const *params);
/* n correlated points of d numbers around distinct means, with labels k % classes. */
pipe_dataset *gaussian_points(size_t n, size_t d, int64_t classes);
/* What a denoiser predicts of x0 (or another prediction) at time t of its schedule. */
pipe_schedule_point gaussian_predict(pipe_object *d, double t, pipe_shape shape, const float *x,
                                     const int32_t *label, pipe_prediction want, float *out);
/* The largest |a - b|. */
double gaussian_difference(const float *a, const float *b, size_t n);
/* The score against the derivative of the log density, at time t, of samples of `dim` numbers (at most 8):
 * by recorded gradient, and by central differences. */
void gaussian_check_score(pipe_object *d, int64_t dim, double t, const char *what);

#endif
