/* Samplers without a memory against Gaussian data N(0, 1/4) under x = x0 + rho eps,
 * where everything is known: the probability-flow ODE from rho_0 to rho_1 multiplies
 * by sqrt((1/4 + rho_1^2) / (1/4 + rho_0^2)), and every sampler is linear in its start
 * and its noise, so its law is found by feeding it one of them at a time. */
#include "support/exploding.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* One process for all rows of a table: they share the engine and its kernels. */

/* ---- one run, from the given starts, with the given noise ---- */
typedef struct {
    size_t rows, steps, draws;
} basis;

/* Row 0 gets no noise; row 1 + step draws + draw gets 1 there and 0 elsewhere. */
static pipe_tensor *unit_noise(void *arg, size_t step, uint32_t draw)
{
    const basis *b = arg;
    static float z[2 * GRID_MAX];

    if (draw >= b->draws)
        return pipe_poison(test_engine(), PIPE_EINVAL, "draw %u was not expected", draw);
    memset(z, 0, sizeof z);
    z[1 + step * b->draws + draw] = 1.0f;
    return pipe_from_f32(test_engine(), PIPE_SHAPE((int64_t)b->rows, 1), z);
}

/* The variance of the result for a start of variance rho_0^2 (and 1/4 if `exact_start`). */
static double variance_of(const char *name, const char *options, const double *rho, size_t points,
                          size_t draws, bool exact_start)
{
    static float start[2 * GRID_MAX], out[2 * GRID_MAX];
    basis b = {.rows = 1 + (points - 1) * draws, .steps = points - 1, .draws = draws};
    double sum = 0.0;

    memset(start, 0, sizeof start);
    start[0] = (float)sqrt(rho[0] * rho[0] + (exact_start ? VARIANCE : 0.0));
    test_run(test_sampler(name, options, rho, points), test_spherical(1), b.rows, start, unit_noise, &b, out);
    for (size_t i = 0; i < b.rows; i++)
        sum += (double)out[i] * (double)out[i];
    return sum;
}

/* ---- exact values (Lai et al. 2025: card of this project, computed in double precision) ---- */
typedef struct {
    char name[32], options[80];
    double value;
} known;

/* Karras's grid of 10 points from 80 to 0.002, then 0. */
static const known maps_80_to_the_known_number_cases[] = {
    {"sampler.euler", "", 0.36521307},
    {"sampler.ddim", "", 0.36521307},
    {"sampler.euler-ancestral", "eta 0", 0.36521307},
    {"sampler.rk", "method euler", 0.36521307},
    {"sampler.heun", "", 0.60979800},
    {"sampler.rk", "method heun", 0.60979800},
    {"sampler.dpm2", "", 0.56059486},
    {"sampler.dpm2-ancestral", "eta 0", 0.56059486},
    {"sampler.dpmpp-2s", "", 0.46145710},
    {"sampler.dpm-solver-singlestep", "", 0.46145710},
    {"sampler.dpm-solver-singlestep", "predict eps", 0.56059486}, /* is DPM2 */
    {"sampler.dpm-solver-singlestep", "order 1", 0.36521307},
    {"sampler.dpm-solver-singlestep", "order 3 predict eps", 0.50080810},
};

static void maps_80_to_the_known_number(const known *c)
{
    double rho[16];
    const size_t points = test_ratios(80.0, 0.002, 7.0, 10, true, rho);
    const double got = test_map(c->name, c->options, rho, points, 80.0);

    cr_expect_float_eq(got, c->value, 2e-5, "%s %s: 80 goes to %.8f, not %.8f", c->name, c->options, got,
                       c->value);
}

Test(single_step, maps_80_to_the_known_number)
{
    for (size_t k = 0;
         k < sizeof maps_80_to_the_known_number_cases / sizeof *maps_80_to_the_known_number_cases; k++)
        maps_80_to_the_known_number(&maps_80_to_the_known_number_cases[k]);
}

typedef struct {
    char name[32], options[80];
    size_t draws;
    double at_10, at_20, at_200;
} known_variance;

static const known_variance has_the_known_variance_cases[] = {
    {"sampler.ddpm", "", 1, 0.091133, 0.143096, 0.235349},
    {"sampler.ddim", "eta 1", 1, 0.091133, 0.143096, 0.235349},
    {"sampler.euler-ancestral", "", 1, 0.091133, 0.143096, 0.235349},
};

static void has_the_known_variance(const known_variance *c)
{
    static const size_t steps[] = {10, 20, 200};
    const double want[] = {c->at_10, c->at_20, c->at_200};
    double rho[GRID_MAX];

    for (size_t k = 0; k < 3; k++) {
        const size_t points = test_ratios(80.0, 0.002, 7.0, steps[k], true, rho);
        const double got = variance_of(c->name, c->options, rho, points, c->draws, false);
        cr_expect_float_eq(got, want[k], 2e-6 + 1e-5 * want[k], "%s, %zu points: variance %.7f, not %.6f",
                           c->name, steps[k], got, want[k]);
    }
}

Test(single_step, has_the_known_variance)
{
    for (size_t k = 0; k < sizeof has_the_known_variance_cases / sizeof *has_the_known_variance_cases; k++)
        has_the_known_variance(&has_the_known_variance_cases[k]);
}

/* ---- orders of convergence ---- */
typedef struct {
    char name[32], options[80];
    double order;
    size_t coarse; /* steps; as many as f32 resolves the error of twice of */
} ordered;

static double ode_error(const ordered *c, size_t steps)
{
    double rho[GRID_MAX];
    const size_t points = test_ratios(10.0, 0.1, 0.0, steps + 1, false, rho);
    const double exact = 10.0 * sqrt((VARIANCE + 0.01) / (VARIANCE + 100.0));

    return fabs(test_map(c->name, c->options, rho, points, 10.0) - exact) / exact;
}

static const ordered converges_with_its_order_cases[] = {
    {"sampler.euler", "", 1, 160},
    {"sampler.ddim", "", 1, 160},
    {"sampler.euler-ancestral", "eta 0 split time", 1, 160},
    {"sampler.heun", "", 2, 60},
    {"sampler.heun", "variable time", 2, 60},
    {"sampler.euler-maruyama", "eta 0", 1, 160},
    {"sampler.euler-maruyama", "eta 0 variable ratio", 1, 160},
    {"sampler.dpm2", "", 2, 40},
    {"sampler.dpm2-ancestral", "eta 0", 2, 40},
    {"sampler.dpmpp-2s", "", 2, 40},
    {"sampler.dpmpp-2s-ancestral", "eta 0", 2, 40},
    {"sampler.dpmpp-sde", "eta 0", 2, 40},
    {"sampler.dpmpp-sde", "eta 0 ratio 0.3", 2, 40},
    {"sampler.dpm-solver-singlestep", "order 1", 1, 160},
    {"sampler.dpm-solver-singlestep", "", 2, 40},
    {"sampler.dpm-solver-singlestep", "predict eps", 2, 40},
    {"sampler.dpm-solver-singlestep", "weights exact", 2, 40},
    {"sampler.dpm-solver-singlestep", "inner grid", 2, 80},
    {"sampler.dpm-solver-singlestep", "order 3 weights exact predict eps", 3, 8},
    {"sampler.dpm-solver-singlestep", "order 3 weights exact", 3, 10},
    {"sampler.dpm-solver-singlestep", "order 3 predict eps final_orders [2]", 3, 24},
    {"sampler.dpm-solver-singlestep", "order 3 predict eps final_orders [2,1]", 2, 20},
    {"sampler.rk", "method euler", 1, 160},
    /* its error of second order, h^3 (x''' / 24 + f_x x'' / 8), is 0 for x = sqrt(1/4 + rho^2) */
    {"sampler.rk", "method midpoint", 3, 20},
    {"sampler.rk", "method heun", 2, 60},
    {"sampler.rk", "method kutta3", 3, 30},
    {"sampler.rk", "method ralston3", 3, 30},
    {"sampler.rk", "method rk4", 4, 16},
};

static void converges_with_its_order(const ordered *c)
{
    const double a = ode_error(c, c->coarse), b = ode_error(c, 2 * c->coarse), slope = log2(a / b);

    cr_expect_float_eq(slope, c->order, 0.15, "%s %s: order %g, not %g (errors %g, %g)", c->name, c->options,
                       slope, c->order, a, b);
}

Test(single_step, converges_with_its_order)
{
    for (size_t k = 0; k < sizeof converges_with_its_order_cases / sizeof *converges_with_its_order_cases;
         k++)
        converges_with_its_order(&converges_with_its_order_cases[k]);
}

/* ---- stochastic ones: the variance converges to that of the data, with weak order 1 or better ---- */
typedef struct {
    char name[32], options[80];
    size_t draws;
    double order;
} weak;

static const weak has_the_variance_of_the_data_cases[] = {
    {"sampler.euler-ancestral", "", 1, 1},
    {"sampler.euler-ancestral", "eta 0.5", 1, 1},
    {"sampler.euler-ancestral", "eta 0.5 split time", 1, 1},
    {"sampler.ddim", "eta 1", 1, 1},
    {"sampler.euler", "churn 3", 1, 1},
    {"sampler.heun", "churn 3", 1, 2},
    {"sampler.dpm2", "churn 3", 1, 2},
    {"sampler.dpm2-ancestral", "", 1, 1},
    {"sampler.dpmpp-2s-ancestral", "", 1, 1},
    {"sampler.dpmpp-sde", "", 2, 1},
    {"sampler.dpm-solver-singlestep", "order 3 eta 1", 1, 1},
    {"sampler.dpm-solver-singlestep", "order 3 predict eps eta 0.5 final_orders [2,1]", 1, 1},
    {"sampler.euler-maruyama", "", 1, 1},
    {"sampler.euler-maruyama", "eta 0.5", 1, 1},
    {"sampler.euler-maruyama", "variable ratio", 1, 1},
    {"sampler.euler-maruyama", "eta 2 variable ratio", 1, 1},
    {"sampler.pc", "corrector 0", 1, 1},
    /* the steps within an interval stay as they are */
    {"sampler.restart", "from [4] to [0.5] repeats [3] inner [30]", 3, 0},
    {"sampler.restart", "from [8,1] to [2,0.3] repeats [1,2] inner [15,30] variable time", 2, 0},
};

static void has_the_variance_of_the_data(const weak *c)
{
    const double exact = VARIANCE + 0.01;
    double rho[GRID_MAX], error[2];

    for (size_t k = 0; k < 2; k++) {
        const size_t points = test_ratios(10.0, 0.1, 0.0, (k ? 161 : 81), false, rho);
        error[k] = fabs(variance_of(c->name, c->options, rho, points, c->draws, true) / exact - 1.0);
    }
    cr_expect_lt(error[1], 0.05, "%s %s: variance off by %g", c->name, c->options, error[1]);
    cr_expect(log2(error[0] / error[1]) > c->order - 0.15, "%s %s: weak order %g (errors %g, %g)", c->name,
              c->options, log2(error[0] / error[1]), error[0], error[1]);
}

Test(single_step, has_the_variance_of_the_data)
{
    for (size_t k = 0;
         k < sizeof has_the_variance_of_the_data_cases / sizeof *has_the_variance_of_the_data_cases; k++)
        has_the_variance_of_the_data(&has_the_variance_of_the_data_cases[k]);
}

/* Langevin steps x' = x + k score + sqrt(2 k) z with k = 2 (snr V |z| / |x|)^2 lead to |x|^2 = d V (1 + snr^2
 * + 2 / d) (1 + 2 / d), to first order in 1 / d: of chi-squared numbers of variance 2 d, |z|^4 and 1 / |x|^2
 * have such means. */
Test(single_step, langevin_steps_lead_to_the_levels_distribution)
{
    enum { N = 256, D = 64 };
    const double rho[] = {0.5, 0.499}, snr = 0.3,
                 exact = (VARIANCE + 0.25) * (1.0 + snr * snr + 2.0 / D) * (1.0 + 2.0 / D);
    static float start[N * D], out[N * D];
    double sum = 0.0;
    pipe_object *d = test_spherical(D);

    for (int k = 0; k < N * D; k++)
        start[k] = k % 3 ? 0.9f : -0.7f;
    test_run(test_sampler("sampler.pc", "corrector 16 snr 0.3", rho, 2), d, N, start, NULL, NULL, out);
    for (int k = 0; k < N * D; k++)
        sum += (double)out[k] * (double)out[k] / (N * D);
    cr_expect_float_eq(sum / exact, 1.0, 0.04, "variance %g, not %g", sum, exact); /* 1.1 % by chance */
}

/* ---- samplers that are the same, sample by sample ---- */
Test(single_step, ancestral_samplers_agree_given_the_noise)
{
    enum { N = 8 };
    static const struct {
        const char *name, *options;
    } same[][3] = {
        {{"sampler.ddpm", ""}, {"sampler.ddim", "eta 1"}, {"sampler.euler-ancestral", ""}},
        {{"sampler.ddim", "eta 0.4"}, {"sampler.euler-ancestral", "eta 0.4"}, {NULL, NULL}},
        {{"sampler.consistency", "epsilon 0"},
         {"sampler.tcd", "gamma 1"},
         {"sampler.lcm", "timestep_scaling 0"}},
        {{"sampler.tcd", "gamma 0"}, {"sampler.euler", ""}, {NULL, NULL}},
    };
    double rho[GRID_MAX];
    const size_t points = test_ratios(80.0, 0.002, 7.0, 12, true, rho);
    float start[N], first[N], other[N];

    for (int i = 0; i < N; i++)
        start[i] = (float)(80.0 * cos(i));
    for (size_t k = 0; k < sizeof same / sizeof *same; k++) {
        test_run(test_sampler(same[k][0].name, same[k][0].options, rho, points), test_spherical(1), N, start,
                 NULL, NULL, first);
        for (size_t j = 1; j < 3 && same[k][j].name; j++) {
            test_run(test_sampler(same[k][j].name, same[k][j].options, rho, points), test_spherical(1), N,
                     start, NULL, NULL, other);
            for (int i = 0; i < N; i++)
                cr_expect_float_eq(first[i], other[i], 2e-5, "%s and %s: %g and %g", same[k][0].name,
                                   same[k][j].name, (double)first[i], (double)other[i]);
        }
    }
}

/* More steps refine the path of one seed; with noise drawn anew for every step they do not. */
Test(single_step, brownian_samplers_converge_path_by_path)
{
    enum { N = 64 };
    static const struct {
        const char *name, *options;
    } cases[] = {{"sampler.dpmpp-sde", ""},
                 {"sampler.dpmpp-2m-sde", ""},
                 {"sampler.dpmpp-2m-sde", "eta 0.5"},
                 {"sampler.dpmpp-3m-sde", ""},
                 {"sampler.dpm-solver", "eta 1"}};
    static float x[3][N], start[N];
    double rho[GRID_MAX];

    for (int i = 0; i < N; i++)
        start[i] = (float)(10.0 * sin(3.0 * i));
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        double change[2] = {0};
        for (size_t k = 0; k < 3; k++) {
            const size_t points = test_ratios(10.0, 0.1, 0.0, ((size_t)80 << k) + 1, false, rho);
            test_run(test_sampler(cases[c].name, cases[c].options, rho, points), test_spherical(1), N, start,
                     NULL, NULL, x[k]);
        }
        for (int k = 0; k < 2; k++)
            for (int i = 0; i < N; i++)
                change[k] += pow((double)x[k + 1][i] - (double)x[k][i], 2.0) / N;
        cr_expect_lt(sqrt(change[0]), 0.05, "%s %s: 80 and 160 steps differ by %g", cases[c].name,
                     cases[c].options, sqrt(change[0]));
        cr_expect_gt(0.5 * log2(change[0] / change[1]), 0.8,
                     "%s %s: the difference falls with order %g (%g, %g)", cases[c].name, cases[c].options,
                     0.5 * log2(change[0] / change[1]), sqrt(change[0]), sqrt(change[1]));
    }
}

/* Sample i is the same alone and in any batch. */
typedef struct {
    char name[32], options[80];
    size_t points; /* 0: 8 */
} plain;

static const plain a_sample_does_not_depend_on_its_batch_cases[] = {
    {"sampler.euler", "churn 10"},
    {"sampler.euler-ancestral", ""},
    {"sampler.heun", "churn 10"},
    {"sampler.dpm2", "churn 10"},
    {"sampler.dpm2-ancestral", ""},
    {"sampler.rk", ""},
    {"sampler.dpm-solver-singlestep", "order 3"},
    {"sampler.dpm-solver-singlestep", "order 3 inner grid"},
    {"sampler.dpmpp-2s-ancestral", ""},
    {"sampler.dpmpp-sde", ""},
    {"sampler.lcm", ""},
    {"sampler.tcd", ""},
    {"sampler.consistency", ""},
    {"sampler.euler-maruyama", ""},
    {"sampler.pc", ""},
    {"sampler.restart", "from [4] to [0.5] repeats [2]"},
    {"sampler.dopri5", "", 120},
    {"sampler.dpm-adaptive", "", 120},
    {"sampler.dpm-adaptive", "eta 1 order 2", 120},
};

static void a_sample_does_not_depend_on_its_batch(const plain *c)
{
    enum { D = 5 };
    double rho[GRID_MAX];
    const size_t points = test_ratios(80.0, 0.002, 7.0, c->points ? c->points : 8, true, rho);
    pipe_object *s = test_sampler(c->name, c->options, rho, points), *d = test_spherical(D);
    pipe_error err = PIPE_ERROR_INIT;
    float batch[7 * D], alone[D];

    for (int k = 0; k < 2; k++) {
        pipe_tensor *x = NULL;
        const pipe_sample_request request = {.size = sizeof request,
                                             .sampler = s,
                                             .denoiser = d,
                                             .n = k ? 1 : 7,
                                             .first = k ? 14 : 10,
                                             .key = {.seed = 7, .stream = 1}};
        OK(pipe_sample(&request, &x, &err));
        OK(pipe_read_f32(x, k ? alone : batch, k ? D : 7 * D, &err));
        pipe_keep(&x, NULL);
    }
    cr_expect(memcmp(batch + 4 * D, alone, sizeof alone) == 0, "%s %s: %.9g in a batch, %.9g alone", c->name,
              c->options, (double)batch[4 * D], (double)alone[0]);
}

Test(single_step, a_sample_does_not_depend_on_its_batch)
{
    for (size_t k = 0; k < sizeof a_sample_does_not_depend_on_its_batch_cases /
                               sizeof *a_sample_does_not_depend_on_its_batch_cases;
         k++)
        a_sample_does_not_depend_on_its_batch(&a_sample_does_not_depend_on_its_batch_cases[k]);
}
