/* The Brownian path that samplers share between step counts. */
#include "support/objects.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { COUNT = 4096 };

/* A sampler that does nothing but draw one increment. */
static double from, to, power;

static pipe_status draw(void *self, pipe_sampling *s, pipe_error *err)
{
    (void)self;
    s->x = pipe_sampling_brownian(s, 0, from, to, power);
    return pipe_check(s->x, err);
}

static const pipe_plugin probe = {
    PIPE_ABI(PIPE_KIND_SAMPLER), .name = "sampler.probe",
    .version = "1.0.0",          .summary = "draws one Brownian increment",
    .sampler = {.step = draw},
};

static pipe_object *truth(void)
{
    const char *const params[] = {"means", "[0]", "covariances", "[1]", "dimension", "1", NULL};

    pipe_object *schedule = test_object("schedule", "schedule.cosine", NULL, NULL);
    const pipei_named_object inputs[] = {{"schedule", schedule}, {NULL, NULL}};

    return test_object("denoiser", "denoiser.gaussian-mixture", params, inputs);
}

static pipe_status try_increment(double a, double b, double clock_power, const char *steps, uint64_t seed,
                                 uint64_t first, int64_t n, float *out, pipe_error *why)
{
    const char *const params[] = {"steps", steps, NULL};
    const pipei_named_object none[] = {{NULL, NULL}};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_object *sampler = NULL, *d = truth();
    pipe_tensor *x = NULL;
    pipe_status status;

    from = a;
    to = b;
    power = clock_power;
    OK(pipei_object_create(&probe, probe.name, params, none, 0, test_context("probe", 1), &sampler, &err));
    const pipe_sample_request request = {.size = sizeof request,
                                         .sampler = sampler,
                                         .denoiser = d,
                                         .n = n,
                                         .first = first,
                                         .key = {.seed = seed, .stream = 5}};
    status = pipe_sample(&request, &x, why);
    if (status == PIPE_OK)
        status = pipe_read_f32(x, out, (size_t)n, why);
    pipe_keep(&x, NULL);
    pipe_object_unref(sampler);
    pipe_object_unref(d);
    return status;
}

static void increment(double a, double b, double clock_power, float *out)
{
    pipe_error err = PIPE_ERROR_INIT;

    OK(try_increment(a, b, clock_power, "1", 9, 0, COUNT, out, &err));
}

/* Two increments that meet sum to the increment over both, whatever the grid: W is one path. */
Test(brownian, increments_add_up)
{
    static const struct {
        double a, b, c, power;
    } cases[] = {
        {80.0, 3.1, 0.7, -2.0}, {14.6, 14.2, 14.0, -2.0},     {0.5, 0.01, 0.002, -2.0},
        {7.0, 6.5, 0.03, 2.0},  {0.31, 0.02, 0.0, 2.0},       {INFINITY, 40.0, 1.0, -2.0},
        {1.0, 0.25, 0.1, -0.7}, {0.02, 0.01999, 0.015, -2.0},
    };
    static float one[COUNT], two[COUNT], both[COUNT];

    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const double p = cases[k].power, a = pow(cases[k].a, p), b = pow(cases[k].b, p),
                     c = pow(cases[k].c, p);
        increment(cases[k].a, cases[k].b, p, one);
        increment(cases[k].b, cases[k].c, p, two);
        increment(cases[k].a, cases[k].c, p, both);
        /* the clocks are those of the tree's places, 3e-5 of rho from those asked for */
        const double slack = 1e-5 + 3e-5 * fmax(b, fmax(a, c)) / fmin(fabs(b - a), fabs(c - b));
        for (int i = 0; i < COUNT; i++) {
            const double sum = ((double)one[i] * sqrt(fabs(b - a)) + (double)two[i] * sqrt(fabs(c - b))) /
                               sqrt(fabs(c - a));
            cr_assert_float_eq(sum, both[i], 5.0 * slack, "case %zu: %.9g, not %.9g", k, sum,
                               (double)both[i]);
        }
    }
}

/* Mean 0, variance 1, and no correlation between increments that do not overlap. */
Test(brownian, increments_are_normal_and_independent)
{
    static const double rho[] = {INFINITY, 120.0, 31.0, 30.0, 2.5, 1.0, 0.99, 0.2, 0.03, 0.002};
    enum { STEPS = sizeof rho / sizeof *rho - 1 };
    static float z[STEPS][COUNT];
    const double deviation = 1.0 / sqrt(COUNT);

    for (size_t k = 0; k < STEPS; k++)
        increment(rho[k], rho[k + 1], -2.0, z[k]);
    for (size_t k = 0; k < STEPS; k++)
        for (size_t j = 0; j <= k; j++) {
            double mean = 0.0, product = 0.0;
            for (int i = 0; i < COUNT; i++) {
                mean += (double)z[k][i] / COUNT;
                product += (double)z[k][i] * (double)z[j][i] / COUNT;
            }
            cr_expect_float_eq(mean, 0.0, 5.0 * deviation, "step %zu: mean %g", k, mean);
            cr_expect_float_eq(product, j == k ? 1.0 : 0.0, 5.0 * (j == k ? M_SQRT2 : 1.0) * deviation,
                               "steps %zu, %zu: covariance %g", k, j, product);
        }
}

/* The path is keyed by seed and sample: not by the batch, and not by the number of steps. */
Test(brownian, a_path_belongs_to_seed_and_sample)
{
    pipe_error err = PIPE_ERROR_INIT;
    float batch[16], alone, steps[16], other[16];

    OK(try_increment(3.0, 1.0, -2.0, "1", 9, 100, 16, batch, &err));
    OK(try_increment(3.0, 1.0, -2.0, "1", 9, 107, 1, &alone, &err));
    OK(try_increment(3.0, 1.0, -2.0, "7", 9, 100, 16, steps, &err));
    OK(try_increment(3.0, 1.0, -2.0, "1", 10, 100, 16, other, &err));
    cr_expect(memcmp(batch + 7, &alone, sizeof alone) == 0);
    cr_expect(memcmp(batch, steps, sizeof batch) == 0);
    for (int i = 0; i < 16; i++)
        cr_expect(batch[i] != other[i], "sample %d does not depend on the seed", i);
}

Test(brownian, what_is_not_defined_is_refused)
{
    static const struct {
        double a, b, power;
        const char *says;
    } cases[] = {
        {1.0, 0.0, -2.0, "must be finite"},
        {INFINITY, 1.0, 2.0, "must be finite"},
        {2.0, 1.0, 0.0, "must be finite"},
        {1.0, 0.9999999, -2.0, "does not resolve"},
    };
    float out[1];

    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        pipe_error err = PIPE_ERROR_INIT;
        cr_expect_eq(try_increment(cases[k].a, cases[k].b, cases[k].power, "1", 9, 0, 1, out, &err),
                     PIPE_EDOMAIN, "case %zu", k);
        cr_expect(strstr(err.message, cases[k].says), "case %zu: %s", k, err.message);
    }
}
