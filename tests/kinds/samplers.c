/* Samplers against the truth: denoisers in closed form.
 *
 * On one Gaussian the probability-flow ODE has an exact solution: with data
 * variance v, x(t) = x(T) sqrt((alpha_t^2 v + sigma_t^2) / (alpha_T^2 v + sigma_T^2))
 * for mean 0.  Deterministic samplers converge to it with their order; all of
 * them reproduce mean and covariance of a mixture. */
#include "support/objects.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    char name[40];
    char schedule[32];
    char grid[16];
    char key[16], value[16];
    double order; /* 0: stochastic, or of a high order that is measured in double precision (solver.c) */
    int steps; /* enough for its moments */
} sampler_case;

static sampler_case cases[] = {
    {"sampler.ddim", "schedule.cosine", "log-snr", "", "", 1, 200},
    {"sampler.ddim", "schedule.flow", "uniform", "", "", 1, 200},
    {"sampler.ddim", "schedule.cosine", "uniform", "eta", "1.0", 0, 400},
    {"sampler.euler", "schedule.flow", "uniform", "", "", 1, 200},
    {"sampler.euler", "schedule.linear", "karras", "", "", 1, 200},
    {"sampler.euler", "schedule.cosine", "log-snr", "churn", "10", 0, 400},
    {"sampler.heun", "schedule.flow", "uniform", "", "", 2, 60},
    {"sampler.heun", "schedule.cosine", "karras", "", "", 2, 60},
    {"sampler.dpmpp-2m", "schedule.cosine", "log-snr", "", "", 2, 60},
    {"sampler.dpmpp-2m", "schedule.linear", "log-snr", "", "", 2, 60},
    {"sampler.dpmpp-2m", "schedule.flow", "uniform", "", "", 0, 100},
    {"sampler.dpmpp-3m", "schedule.cosine", "log-snr", "", "", 0, 60},
    {"sampler.dpmpp-2m-sde", "schedule.cosine", "log-snr", "", "", 0, 200},
    {"sampler.dpmpp-3m-sde", "schedule.flow", "uniform", "eta", "0.5", 0, 200},
    {"sampler.dpm-solver", "schedule.cosine", "log-snr", "eta", "1", 0, 400},
    {"sampler.dpm-solver", "schedule.flow", "uniform", "order", "3", 0, 100},
    {"sampler.unipc", "schedule.flow", "uniform", "order", "3", 0, 60},
    {"sampler.deis", "schedule.cosine", "uniform", "variable", "time", 0, 60},
    {"sampler.sa-solver", "schedule.flow", "uniform", "tau_to", "1", 0, 200},
    {"sampler.lms", "schedule.linear", "karras", "", "", 0, 60},
    {"sampler.pndm", "schedule.cosine", "log-snr", "warm_up", "runge-kutta", 1, 60},
    {"sampler.ipndm", "schedule.flow", "uniform", "", "", 0, 200},
    {"sampler.res-multistep", "schedule.flow", "uniform", "eta", "1", 0, 200},
    {"sampler.gradient-estimation", "schedule.cosine", "log-snr", "", "", 1, 200},
    {"sampler.ddpm", "schedule.cosine", "uniform", "", "", 0, 500},
    {"sampler.ddpm", "schedule.linear", "uniform", "variance", "large", 0, 1000},
};

static pipe_object *sampler(const sampler_case *c, int steps)
{
    char n[16];
    const char *const params[] = {"steps", n, "grid", c->grid, *c->key ? c->key : NULL, c->value, NULL};

    snprintf(n, sizeof n, "%d", steps);
    return test_object("sampler", c->name, params, NULL);
}

static pipe_object *mixture(const char *schedule, const char *means, const char *covariances,
                            const char *dimension)
{
    const char *const params[] = {"means",   means,  "covariances", covariances, "dimension",
                                  dimension, "form", "full",        NULL};
    pipe_object *s = test_object("schedule", schedule, NULL, NULL);
    const pipei_named_object inputs[] = {{"schedule", s}, {NULL, NULL}};
    pipe_object *d = test_object("denoiser", "denoiser.gaussian-mixture", params, inputs);

    pipe_object_unref(s);
    return d;
}

static void draw(pipe_object *solver, pipe_object *denoiser, int64_t n, uint64_t first, pipe_tensor *start,
                 float *out, size_t count)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *x = NULL;
    const pipe_sample_request request = {.size = sizeof request,
                                         .sampler = solver,
                                         .denoiser = denoiser,
                                         .n = n,
                                         .first = first,
                                         .key = {.seed = 7, .stream = 1},
                                         .start = start};

    OK(pipe_sample(&request, &x, &err));
    OK(pipe_read_f32(x, out, count, &err));
    pipe_keep(&x, NULL);
}

ParameterizedTestParameters(sampler, reproduces_a_mixture)
{
    return cr_make_param_array(sampler_case, cases, sizeof cases / sizeof *cases);
}

/* Mean and covariance of two unequal, correlated components in the plane. */
ParameterizedTest(sampler_case *c, sampler, reproduces_a_mixture)
{
    enum { N = 20000 };
    static float x[N * 2];
    pipe_object *d = mixture(c->schedule, "[-2, 0, 2, 1]", "[0.30, 0.10, 0.10, 0.20]", "2");
    pipe_object *s = sampler(c, c->steps);
    /* covariance within the components, and between their means */
    const double mean[2] = {0.0, 0.5}, cov[3] = {0.30 + 4.0, 0.10 + 1.0, 0.20 + 0.25};
    double m[2] = {0}, v[3] = {0};

    draw(s, d, N, 0, NULL, x, N * 2);
    for (int i = 0; i < N; i++)
        for (int k = 0; k < 2; k++)
            m[k] += (double)x[2 * i + k] / N;
    for (int i = 0; i < N; i++) {
        const double a = (double)x[2 * i] - m[0], b = (double)x[2 * i + 1] - m[1];
        v[0] += a * a / N;
        v[1] += a * b / N;
        v[2] += b * b / N;
    }
    /* five standard errors of 20,000 samples, and as much again for the steps */
    for (int k = 0; k < 2; k++)
        cr_expect_float_eq(m[k], mean[k], 10.0 * sqrt(cov[2 * k] / N), "%s %s: mean %d is %g, not %g",
                           c->name, c->schedule, k, m[k], mean[k]);
    for (int k = 0; k < 3; k++)
        cr_expect_float_eq(v[k], cov[k], 10.0 * sqrt((cov[0] * cov[2] + cov[k] * cov[k]) / N),
                           "%s %s: covariance %d is %g, not %g", c->name, c->schedule, k, v[k], cov[k]);
    pipe_object_unref(s);
    pipe_object_unref(d);
}

/* Error at the end against the exact solution, of one trajectory per start, with `steps` steps. */
static double global_error(const sampler_case *c, pipe_object *d, int steps, double variance)
{
    static const float unit[2] = {1.0f, -0.7f};
    pipe_object *s = sampler(c, steps);
    pipe_error err = PIPE_ERROR_INIT;
    pipe_denoiser_info info;
    double *t = NULL, worst = 0.0;
    float start[2], end[2];
    size_t n;
    pipe_tensor *x = NULL;

    OK(pipe_denoiser_describe(d, &info, &err));
    OK(pipe_sampler_grid(s, info.schedule, &t, &n, &err));
    const pipe_schedule_point a = pipe_schedule_at(info.schedule, t[0]),
                              b = pipe_schedule_at(info.schedule, t[n]);
    const double grow = sqrt((b.alpha * b.alpha * variance + b.sigma * b.sigma) /
                             (a.alpha * a.alpha * variance + a.sigma * a.sigma));
    for (int k = 0; k < 2; k++)
        start[k] = (float)a.sigma * unit[k];
    pipe_keep(&x, pipe_from_f32(test_engine(), PIPE_SHAPE(2, 1), start));
    draw(s, d, 2, 0, x, end, 2);
    for (int k = 0; k < 2; k++)
        worst = fmax(worst, fabs((double)end[k] - grow * (double)start[k]));
    pipe_keep(&x, NULL);
    pipe_free(t);
    pipe_object_unref(s);
    return worst;
}

ParameterizedTestParameters(sampler, converges_with_its_order)
{
    static sampler_case deterministic[sizeof cases / sizeof *cases];
    size_t n = 0;

    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        if (cases[k].order > 0)
            deterministic[n++] = cases[k];
    return cr_make_param_array(sampler_case, deterministic, n);
}

ParameterizedTest(sampler_case *c, sampler, converges_with_its_order)
{
    pipe_object *d = mixture(c->schedule, "[0]", "[0.25]", "1");
    const int coarse = 40, fine = 160;
    const double a = global_error(c, d, coarse, 0.25), b = global_error(c, d, fine, 0.25);
    const double slope = log(a / b) / log((double)fine / coarse);

    cr_expect(slope > c->order - 0.25, "%s %s %s: order %g, not %g (errors %g, %g)", c->name, c->schedule,
              c->grid, slope, c->order, a, b);
    pipe_object_unref(d);
}

/* Sample i is the same alone and in any batch. */
ParameterizedTestParameters(sampler, a_sample_does_not_depend_on_its_batch)
{
    return cr_make_param_array(sampler_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(sampler_case *c, sampler, a_sample_does_not_depend_on_its_batch)
{
    pipe_object *d = mixture(c->schedule, "[-2, 0, 2, 1]", "[0.30, 0.10, 0.10, 0.20]", "2");
    pipe_object *s = sampler(c, 12);
    float batch[7 * 2], alone[2];

    draw(s, d, 7, 10, NULL, batch, 14);
    draw(s, d, 1, 14, NULL, alone, 2);
    cr_expect(memcmp(batch + 8, alone, sizeof alone) == 0,
              "%s: sample 14 is (%.9g, %.9g) in a batch, (%.9g, %.9g) alone", c->name, (double)batch[8],
              (double)batch[9], (double)alone[0], (double)alone[1]);
    pipe_object_unref(s);
    pipe_object_unref(d);
}

/* ---- grids ---- */
Test(sampler, grids_fall_from_start_to_end)
{
    static const char *const names[] = {"uniform", "log-snr", "karras", "quadratic", "beta", "lu",
                                        "sgm-uniform"};
    static const char *const schedules[] = {"schedule.linear", "schedule.cosine", "schedule.flow"};
    pipe_error err = PIPE_ERROR_INIT;

    for (size_t g = 0; g < sizeof names / sizeof names[0]; g++)
        for (size_t k = 0; k < 3; k++)
            for (int steps = 1; steps < 60; steps += 7) {
                const sampler_case c = {.name = "sampler.ddim"};
                sampler_case with = c;
                snprintf(with.grid, sizeof with.grid, "%s", names[g]);
                pipe_object *s = sampler(&with, steps),
                            *schedule = test_object("schedule", schedules[k], NULL, NULL);
                double *t = NULL;
                size_t n = 0;
                OK(pipe_sampler_grid(s, schedule, &t, &n, &err));
                cr_expect_eq(n, (size_t)steps);
                cr_expect_eq(t[0], 1.0, "%s on %s starts at %g", names[g], schedules[k], t[0]);
                cr_expect_eq(t[n], 0.0, "%s on %s ends at %g", names[g], schedules[k], t[n]);
                pipe_free(t);
                pipe_object_unref(s);
                pipe_object_unref(schedule);
            }
}

static pipe_tensor *short_noise(void *arg, size_t step, uint32_t draw)
{
    (void)arg;
    (void)step;
    (void)draw;
    return pipe_zeros(test_engine(), PIPE_SHAPE(1, 2));
}

static pipe_status refuse_third(void *arg, const pipe_sampling *s, pipe_error *err)
{
    *(size_t *)arg += 1;
    return s->i < 2 ? PIPE_OK : pipe_fail(err, PIPE_EIO, "no room for the preview");
}

Test(sampler, what_the_caller_supplies_is_checked)
{
    const sampler_case c = {.name = "sampler.ddpm", .grid = "uniform"};
    pipe_object *d = mixture("schedule.cosine", "[0, 0]", "[1, 0, 0, 1]", "2"), *s = sampler(&c, 4);
    pipe_sample_request r = {.size = sizeof r, .sampler = s, .denoiser = d, .n = 3, .noise = short_noise};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *x = NULL;
    size_t seen = 0;

    cr_expect_eq(pipe_sample(&r, &x, &err), PIPE_ESHAPE);
    cr_expect(strstr(err.message, "sampler.ddpm: step 1 of 4: noise of shape [1, 2] was supplied for samples "
                                  "of shape [3, 2]"),
              "%s", err.message);
    r.noise = NULL;
    r.observe = refuse_third;
    r.observe_arg = &seen;
    err = (pipe_error)PIPE_ERROR_INIT;
    cr_expect_eq(pipe_sample(&r, &x, &err), PIPE_EIO);
    cr_expect_str_eq(err.message, "sampler.ddpm: step 3 of 4: no room for the preview");
    cr_expect_eq(seen, 3);
    pipe_object_unref(s);
    pipe_object_unref(d);
}

/* Guidance of scale 1 is the model; labels select a component; scale 3 moves samples further that way. */
Test(sampler, classifier_free_guidance)
{
    enum { N = 4000 };
    static float x[N];
    static int32_t ones[N];
    const char *const params[] = {"means", "[-1, 1]", "covariances", "[0.5]", "dimension",
                                  "1",     "labels",  "true",        NULL};
    const sampler_case c = {.name = "sampler.dpmpp-2m", .grid = "log-snr"};
    pipe_object *schedule = test_object("schedule", "schedule.cosine", NULL, NULL);
    const pipei_named_object on[] = {{"schedule", schedule}, {NULL, NULL}};
    pipe_object *d = test_object("denoiser", "denoiser.gaussian-mixture", params, on), *s = sampler(&c, 40);
    pipe_error err = PIPE_ERROR_INIT;
    double mean[3];

    for (int i = 0; i < N; i++)
        ones[i] = 1;
    for (int k = 0; k < 3; k++) {
        const char *const scale[] = {"scale", k == 0 ? "0" : k == 1 ? "1" : "3", NULL};
        const pipei_named_object inputs[] = {{"denoiser", d}, {NULL, NULL}};
        pipe_object *g = test_object("guidance", "guidance.cfg", scale, inputs);
        pipe_tensor *labels = NULL, *out = NULL;
        pipe_keep(&labels, pipe_from_i32(test_engine(), PIPE_SHAPE(N), ones));
        const pipe_condition condition = {.size = sizeof condition, .labels = labels};
        OK(pipe_sample(&(pipe_sample_request){.size = sizeof(pipe_sample_request),
                                              .sampler = s,
                                              .denoiser = g,
                                              .condition = &condition,
                                              .n = N,
                                              .key = {.seed = 3}},
                       &out, &err));
        OK(pipe_read_f32(out, x, N, &err));
        mean[k] = 0.0;
        for (int i = 0; i < N; i++)
            mean[k] += (double)x[i] / N;
        pipe_keep(&labels, NULL);
        pipe_keep(&out, NULL);
        pipe_object_unref(g);
    }
    cr_expect_float_eq(mean[0], 0.0, 0.1, "scale 0 is unconditional: mean %g", mean[0]);
    cr_expect_float_eq(mean[1], 1.0, 0.06, "scale 1 is the class: mean %g", mean[1]);
    cr_expect(mean[2] > mean[1] + 0.1, "scale 3 goes further: mean %g", mean[2]);
    pipe_object_unref(s);
    pipe_object_unref(d);
    pipe_object_unref(schedule);
}
