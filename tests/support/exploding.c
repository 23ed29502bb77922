#include "support/exploding.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TEXT = 32 * GRID_MAX };

/* ---- x = x0 + t eps ---- */
static pipe_status exploding_describe(void *self, pipe_schedule_info *info, pipe_error *err)
{
    (void)self;
    (void)err;
    info->t_max = info->t_start = 200.0;
    return PIPE_OK;
}

static void exploding_at(void *self, pipe_schedule_point *p)
{
    (void)self;
    p->alpha = 1.0;
    p->sigma = p->t;
    p->dalpha = 0.0;
    p->dsigma = 1.0;
}

static double exploding_time_of(void *self, double lambda)
{
    (void)self;
    return exp(-lambda);
}

static const pipe_plugin exploding = {
    PIPE_ABI(PIPE_KIND_SCHEDULE),
    .name = "schedule.exploding",
    .version = "1.0.0",
    .summary = "alpha = 1, sigma = t",
    .schedule = {.describe = exploding_describe, .at = exploding_at, .time_of = exploding_time_of},
};

pipe_object *test_spherical(int64_t dimension)
{
    static char means[512], size[16];
    const char *const params[] = {"means", means, "covariances", "[0.25]", "dimension", size, NULL};
    size_t at = 0;
    pipe_error err = PIPE_ERROR_INIT;
    pipe_object *schedule = NULL;

    for (int64_t k = 0; k < dimension; k++)
        at += (size_t)snprintf(means + at, sizeof means - at, "%s", k ? ", 0" : "[0");
    snprintf(means + at, sizeof means - at, "]");
    snprintf(size, sizeof size, "%d", (int)dimension);
    OK(pipei_object_create(&exploding, "exploding", NULL, NULL, 0, test_context("exploding", 1), &schedule,
                           &err));
    const pipei_named_object on[] = {{"schedule", test_hold(schedule)}, {NULL, NULL}};
    return test_object("denoiser", "denoiser.gaussian-mixture", params, on);
}

pipe_object *test_sampler(const char *name, const char *options, const double *rho, size_t points)
{
    static char times[TEXT], words[256];
    const char *params[16] = {"grid", "custom", "times", times};
    size_t n = 4, at = 0;
    char *rest = NULL;

    for (size_t i = 0; i < points; i++)
        at += (size_t)snprintf(times + at, sizeof times - at, "%s%.17g", i ? ", " : "[", rho[i]);
    snprintf(times + at, sizeof times - at, "]");
    snprintf(words, sizeof words, "%s", options);
    for (char *w = strtok_r(words, " ", &rest); w; w = strtok_r(NULL, " ", &rest))
        params[n++] = w;
    params[n] = NULL;
    return test_object("sampler", name, params, NULL);
}

size_t test_ratios(double high, double low, double power, size_t n, bool to_zero, double *out)
{
    for (size_t i = 0; i < n; i++) {
        const double r = (double)i / (double)(n - 1);
        out[i] = power > 0.0
                     ? pow(pow(high, 1.0 / power) + r * (pow(low, 1.0 / power) - pow(high, 1.0 / power)),
                           power)
                     : high * pow(low / high, r);
    }
    if (to_zero)
        out[n++] = 0.0;
    return n;
}

void test_run(pipe_object *solver, pipe_object *d, size_t n, const float *start,
              pipe_tensor *(*noise)(void *, size_t, uint32_t), void *arg, float *out)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *x = NULL, *from = NULL;

    pipe_denoiser_info info;

    OK(pipe_denoiser_describe(d, &info, &err));
    pipe_keep(&from, pipe_from_f32(test_engine(), PIPE_SHAPE((int64_t)n, info.sample.dim[0]), start));
    const pipe_sample_request request = {.size = sizeof request,
                                         .sampler = solver,
                                         .denoiser = d,
                                         .n = (int64_t)n,
                                         .key = {.seed = 7, .stream = 1},
                                         .start = from,
                                         .noise = noise,
                                         .noise_arg = arg};
    OK(pipe_sample(&request, &x, &err));
    OK(pipe_read_f32(x, out, n * (size_t)info.sample.dim[0], &err));
    pipe_keep(&x, NULL);
    pipe_keep(&from, NULL);
}

double test_map(const char *name, const char *options, const double *rho, size_t points, double start)
{
    const float x = (float)start;
    float out;

    test_run(test_sampler(name, options, rho, points), test_spherical(1), 1, &x, NULL, NULL, &out);
    return (double)out;
}
