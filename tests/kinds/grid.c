/* Time grids against those of diffusers (tests/data/golden/grids.py), against their own
 * formulas, and what is refused. */
#include "support/objects.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <pipe/io.h>
#include <stdio.h>
#include <string.h>

enum { PAIRS = 9 };

typedef struct {
    char name[24]; /* of the golden array */
    char schedule[32];
    char schedule_param[2][2][24];
    char param[PAIRS][2][80]; /* key, value, ... up to "" */
    int skip; /* leading points that differ for a reason */
    char why[80];
} grid_case;

#define SD "schedule.scaled-linear"
#define FLOW "schedule.flow"
#define AYS "[14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0]"

static grid_case cases[] = {
    {"euler-linspace",
     "schedule.linear",
     {{{0}}},
     {{"grid", "linspace"}, {"steps", "10"}, {"whole_steps", "false"}}},
    {"euler-leading",
     "schedule.linear",
     {{{0}}},
     {{"grid", "leading"}, {"steps", "7"}, {"steps_offset", "1"}}},
    {"euler-trailing", "schedule.linear", {{{0}}}, {{"grid", "trailing"}, {"steps", "30"}}},
    {"euler-karras", "schedule.linear", {{{0}}}, {{"grid", "karras"}, {"steps", "10"}}},
    {"euler-exponential", "schedule.linear", {{{0}}}, {{"grid", "exponential"}, {"steps", "10"}}},
    {"euler-beta", "schedule.linear", {{{0}}}, {{"grid", "beta"}, {"steps", "12"}}},
    {"euler-log-linear",
     "schedule.linear",
     {{{0}}},
     {{"grid", "log-snr"}, {"steps", "10"}, {"final", "none"}}},
    {"euler-sigma-min",
     "schedule.linear",
     {{{0}}},
     {{"grid", "trailing"}, {"steps", "9"}, {"final", "first-step"}}},
    {"euler-karras-sd", SD, {{{0}}}, {{"grid", "karras"}, {"steps", "10"}}},
    {"euler-ays-sd", SD, {{{0}}}, {{"grid", "ays-sd15"}, {"steps", "10"}}},
    {"euler-ays-sd", SD, {{{0}}}, {{"grid", "custom"}, {"ratios", AYS}}},
    {"euler-zero-snr",
     SD,
     {{"zero_terminal_snr", "true"}},
     {{"grid", "trailing"}, {"steps", "10"}},
     1,
     "diffusers puts 4096 in the place of infinity"},
    {"heun-linspace",
     "schedule.linear",
     {{"beta_start", "0.00085"}, {"beta_end", "0.012"}},
     {{"grid", "linspace"}, {"steps", "10"}, {"whole_steps", "false"}}},
    {"lms-linspace-sd", SD, {{{0}}}, {{"grid", "linspace"}, {"steps", "15"}, {"whole_steps", "false"}}},
    {"dpm-linspace",
     "schedule.linear",
     {{{0}}},
     {{"grid", "linspace"}, {"steps", "13"}, {"extra_point", "true"}}},
    {"dpm-leading",
     "schedule.linear",
     {{{0}}},
     {{"grid", "leading"}, {"steps", "13"}, {"extra_point", "true"}, {"steps_offset", "1"}}},
    {"dpm-trailing", "schedule.linear", {{{0}}}, {{"grid", "trailing"}, {"steps", "13"}}},
    {"dpm-lu", "schedule.linear", {{{0}}}, {{"grid", "lu"}, {"steps", "10"}}},
    {"dpm-cosine-clipped",
     "schedule.cosine",
     {{{0}}},
     {{"grid", "linspace"}, {"steps", "10"}, {"extra_point", "true"}, {"ratio_max", "164.0219"}},
     0,
     "lambda_min_clipped -5.1"},
    {"unipc-beta-sd", SD, {{{0}}}, {{"grid", "beta"}, {"steps", "10"}}},
    {"deis-karras", "schedule.linear", {{{0}}}, {{"grid", "karras"}, {"steps", "9"}, {"final", "none"}}},
    {"ddim-leading-sd", SD, {{{0}}}, {{"grid", "leading"}, {"steps", "20"}, {"steps_offset", "1"}}},
    {"ddim-zero-snr", SD, {{"zero_terminal_snr", "true"}}, {{"grid", "trailing"}, {"steps", "8"}}},
    {"ddpm-linspace", "schedule.linear", {{{0}}}, {{"grid", "linspace"}, {"steps", "11"}}},
    {"ddpm-sigmoid", "schedule.sigmoid", {{{0}}}, {{"grid", "trailing"}, {"steps", "9"}}},
    {"edm-karras", "schedule.edm", {{{0}}}, {{"grid", "karras"}, {"steps", "18"}}},
    {"edm-exponential", "schedule.edm", {{{0}}}, {{"grid", "exponential"}, {"steps", "18"}}},
    {"flow-euler", FLOW, {{{0}}}, {{"grid", "linspace"}, {"steps", "10"}}},
    {"flow-euler-shift",
     FLOW,
     {{"shift", "3"}},
     {{"grid", "linspace"}, {"steps", "28"}, {"time_min", "0.002994011976047904"}},
     0,
     "diffusers shifts the smallest sigma twice"},
    {"flow-euler-dynamic", FLOW, {{"tokens", "1024"}}, {{"grid", "linspace"}, {"steps", "12"}}},
    {"flow-euler-linear",
     FLOW,
     {{"tokens", "1024"}, {"form", "linear"}},
     {{"grid", "linspace"}, {"steps", "12"}}},
    {"flow-euler-terminal",
     FLOW,
     {{"tokens", "1024"}},
     {{"grid", "linspace"}, {"steps", "12"}, {"terminal", "0.1"}}},
    {"flow-euler-karras",
     FLOW,
     {{{0}}},
     {{"grid", "karras"}, {"steps", "10"}, {"grid_in", "sigma"}, {"ratio_min", "0.001001001001001001"}}},
    {"flow-euler-beta",
     FLOW,
     {{{0}}},
     {{"grid", "beta"}, {"steps", "10"}, {"grid_in", "sigma"}, {"ratio_min", "0.001001001001001001"}}},
    {"flow-unipc",
     FLOW,
     {{"shift", "3"}},
     {{"grid", "sgm-uniform"}, {"steps", "10"}},
     1,
     "diffusers takes 1e-6 off a first sigma of 1"},
    {"dpm-karras", "schedule.linear", {{{0}}}, {{"grid", "karras"}, {"steps", "12"}}},
    {"dpm-exponential", "schedule.linear", {{{0}}}, {{"grid", "exponential"}, {"steps", "12"}}},
    {"dpm-beta", "schedule.linear", {{{0}}}, {{"grid", "beta"}, {"steps", "12"}}},
    {"single-karras-sd", SD, {{{0}}}, {{"grid", "karras"}, {"steps", "9"}}},
    {"single-beta", "schedule.linear", {{{0}}}, {{"grid", "beta"}, {"steps", "9"}}},
    {"unipc-karras", "schedule.linear", {{{0}}}, {{"grid", "karras"}, {"steps", "8"}}},
    {"unipc-exponential-sd", SD, {{{0}}}, {{"grid", "exponential"}, {"steps", "8"}}},
    {"sa-karras-sd", SD, {{{0}}}, {{"grid", "karras"}, {"steps", "10"}, {"final", "none"}}},
    {"heun-karras", "schedule.linear", {{{0}}}, {{"grid", "karras"}, {"steps", "10"}}},
    {"heun-exponential-sd", SD, {{{0}}}, {{"grid", "exponential"}, {"steps", "10"}}},
    {"heun-beta", "schedule.linear", {{{0}}}, {{"grid", "beta"}, {"steps", "10"}}},
    {"lms-karras", "schedule.linear", {{{0}}}, {{"grid", "karras"}, {"steps", "15"}}},
    {"lms-beta-sd", SD, {{{0}}}, {{"grid", "beta"}, {"steps", "15"}}},
    {"edm-dpm-karras", "schedule.edm", {{{0}}}, {{"grid", "karras"}, {"steps", "14"}}},
    {"flow-euler-exponential",
     FLOW,
     {{{0}}},
     {{"grid", "exponential"}, {"steps", "10"}, {"grid_in", "sigma"}, {"ratio_min", "0.001001001001001001"}}},
    {"flow-dpm", FLOW, {{"shift", "3"}}, {{"grid", "uniform"}, {"steps", "10"}, {"ratio_max", "2997"}}},
};

static pipe_status try_sampler(const grid_case *c, pipe_object **out, pipe_error *err)
{
    const char *params[2 * PAIRS + 1] = {NULL};

    for (int k = 0; k < PAIRS && c->param[k][0][0]; k++) {
        params[2 * k] = c->param[k][0];
        params[2 * k + 1] = c->param[k][1];
    }
    return test_object_try("sampler", "sampler.ddim", params, NULL, out, err);
}

static pipe_object *make_sampler(const grid_case *c)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_object *out = NULL;

    OK(try_sampler(c, &out, &err));
    return out;
}

static pipe_object *make_schedule(const grid_case *c)
{
    const char *params[5] = {NULL};

    for (int k = 0; k < 2 && c->schedule_param[k][0][0]; k++) {
        params[2 * k] = c->schedule_param[k][0];
        params[2 * k + 1] = c->schedule_param[k][1];
    }
    return test_object("schedule", c->schedule, params, NULL);
}

ParameterizedTestParameters(grid, agrees_with_diffusers)
{
    return cr_make_param_array(grid_case, cases, sizeof cases / sizeof cases[0]);
}

/* sigma / alpha at every point, to the precision of diffusers' f32 tables. */
ParameterizedTest(grid_case *c, grid, agrees_with_diffusers)
{
    PIPE_CLEANUP(pipe_safetensors_close_ptr) pipe_safetensors *f = NULL;
    pipe_object *sampler = make_sampler(c), *schedule = make_schedule(c);
    pipe_error err = PIPE_ERROR_INIT;
    char path[4096];
    double *t = NULL;
    size_t steps = 0;

    snprintf(path, sizeof path, "%s/data/golden/grids.safetensors", TEST_SRCDIR);
    OK(pipe_safetensors_open(path, &f, &err));
    const pipe_array *golden = pipe_safetensors_find(f, c->name);
    cr_assert(golden, "no %s in the golden file", c->name);
    OK(pipe_sampler_grid(sampler, schedule, &t, &steps, &err));
    cr_assert_eq(steps + 1, pipe_array_count(golden), "%s: %zu points, %zu expected", c->name, steps + 1,
                 pipe_array_count(golden));
    for (size_t i = (size_t)c->skip; i <= steps; i++) {
        const double rho = exp(-pipe_schedule_lambda(schedule, t[i]));
        double want;
        OK(pipe_array_f64(golden, i, 1, &want, &err));
        if (isinf(want))
            cr_expect(isinf(rho), "%s: point %zu is %.9g, not infinite", c->name, i, rho);
        else
            cr_expect(fabs(rho - want) <= 1e-4 * want, "%s: point %zu is %.9g, not %.9g", c->name, i, rho,
                      want);
    }
    pipe_free(t);
    pipe_object_unref(sampler);
    pipe_object_unref(schedule);
}

/* ---- what is refused ---- */
typedef struct {
    char schedule[32];
    char param[4][2][40];
    char message[160];
} refusal;

static refusal refusals[] = {
    {"schedule.cosine",
     {{"grid", "uniform"}, {"rho", "7"}},
     "`rho` is given, but `grid: uniform` does not use it"},
    {"schedule.cosine", {{"grid", "karras"}, {"times", "[1, 0]"}}, "`times` is given, but `grid: karras`"},
    {"schedule.cosine", {{"grid", "trailing"}, {"steps_offset", "1"}}, "it belongs to leading"},
    {"schedule.cosine", {{"grid", "log-snr"}, {"beta_a", "0.5"}}, "it belongs to beta"},
    {"schedule.cosine", {{"grid", "custom"}, {"times", "[1, 0.5, 0.6, 0]"}}, "`times` must fall, but 0.6 comes behind 0.5"},
    {"schedule.cosine", {{"grid", "custom"}, {"times", "[2, 0]"}}, "time 2 of the grid is outside"},
    {"schedule.cosine", {{"grid", "custom"}, {"times", "[1]"}}, "`times`: a grid has at least two points"},
    {"schedule.cosine",
     {{"grid", "custom"}, {"times", "[1, 0]"}, {"ratios", "[3, 0]"}},
     "`times` and `ratios` exclude each other"},
    {"schedule.linear",
     {{"grid", "custom"}, {"ratios", "[200, 0]"}},
     "sigma / alpha = 200 of the list is above the schedule's largest, 157"},
    {"schedule.linear",
     {{"grid", "custom"}, {"lambdas", "[-6, 0]"}},
     "sigma / alpha = 403.429 of the list is above"},
    {"schedule.linear", {{"grid", "custom"}, {"lambdas", "[-4, 1, 1]"}}, "`lambdas` must rise, but 1 comes behind 1"},
    {"schedule.linear", {{"grid", "custom"}, {"ratios", "[3, 4]"}}, "`ratios` must fall, but 4 comes behind 3"},
    {"schedule.linear",
     {{"grid", "custom"}, {"ratios", "[3, 0]"}, {"lambdas", "[-1, 1]"}},
     "`ratios` and `lambdas` exclude each other"},
    {"schedule.linear", {{"grid", "uniform"}, {"lambdas", "[-1, 1]"}}, "`lambdas` is given, but `grid: uniform`"},
    {"schedule.linear", {{"grid", "custom"}}, "`grid: custom` needs a list"},
    {"schedule.linear",
     {{"grid", "trailing"}, {"steps", "1001"}},
     "1001 points on whole training steps, but there are only 1000"},
    {"schedule.linear",
     {{"grid", "linspace"}, {"steps", "1000"}, {"extra_point", "true"}},
     "1001 points on whole training steps"},
    {"schedule.linear",
     {{"grid", "leading"}, {"steps", "1000"}, {"steps_offset", "1"}},
     "outside the schedule's range"},
    {"schedule.linear", {{"grid", "leading"}, {"final", "first-step"}}, "the grid must fall"},
    {"schedule.linear", {{"grid", "karras"}, {"ratio_max", "200"}}, "ratios from 200 to 0.0100"},
    {"schedule.linear",
     {{"grid", "karras"}, {"ratio_min", "3"}, {"ratio_max", "2"}},
     "`ratio_min` 3 is not below `ratio_max` 2"},
    {"schedule.linear", {{"grid", "karras"}, {"grid_in", "sigma"}}, "`grid_in: sigma` is for flow schedules"},
    {"schedule.linear", {{"grid", "linspace"}, {"terminal", "0.1"}}, "`terminal` is for flow schedules"},
    {"schedule.linear",
     {{"grid", "ays-svd"}},
     "grid ays-svd starts at sigma / alpha = 700, the schedule ends at 157"},
    {"schedule.linear", {{"grid", "linspace"}, {"ratio_max", "0.001"}}, "up to ratio_max"},
    {"schedule.flow", {{"grid", "trailing"}}, "trailing counts training steps, but the schedule"},
    {"schedule.flow", {{"grid", "linspace"}, {"extra_point", "true"}}, "extra_point counts training steps"},
    {"schedule.edm",
     {{"grid", "karras"}, {"final", "first-step"}},
     "`final: first-step` needs a schedule of training"},
};

ParameterizedTestParameters(grid, refuses)
{
    return cr_make_param_array(refusal, refusals, sizeof refusals / sizeof refusals[0]);
}

ParameterizedTest(refusal *r, grid, refuses)
{
    grid_case c = {{0}};
    pipe_error err = PIPE_ERROR_INIT;
    double *t = NULL;
    size_t steps;

    memcpy(c.schedule, r->schedule, sizeof r->schedule);
    for (int k = 0; k < 4; k++)
        for (int side = 0; side < 2; side++)
            snprintf(c.param[k][side], sizeof c.param[k][side], "%s", r->param[k][side]);
    pipe_object *sampler = NULL, *schedule = make_schedule(&c);
    pipe_status status = try_sampler(&c, &sampler, &err); /* what is wrong whatever the schedule is */
    if (status == PIPE_OK)
        status = pipe_sampler_grid(sampler, schedule, &t, &steps, &err);
    cr_expect_eq(status, PIPE_EINVAL, "%s", r->message);
    cr_expect(strstr(err.message, r->message), "\"%s\" is not in \"%s\"", r->message, err.message);
    cr_expect_null(t);
    pipe_object_unref(sampler);
    pipe_object_unref(schedule);
}

/* Half the log-SNR is -ln of what `ratios` lists. */
Test(grid, a_list_of_lambdas_is_one_of_ratios)
{
    static const grid_case lambdas = {"", "schedule.cosine", {{{0}}},
                                      {{"grid", "custom"}, {"lambdas", "[-4, -1.5, 0, 2.25]"}}},
                           ratios = {"", "schedule.cosine", {{{0}}},
                                     {{"grid", "custom"},
                                      {"ratios", "[54.598150033144236, 4.4816890703380645, 1, 0.10539922456186433]"}}};
    pipe_object *schedule = make_schedule(&lambdas), *a = make_sampler(&lambdas), *b = make_sampler(&ratios);
    double *t = NULL, *want = NULL;
    size_t steps, other;
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipe_sampler_grid(a, schedule, &t, &steps, &err));
    OK(pipe_sampler_grid(b, schedule, &want, &other, &err));
    cr_assert_eq(steps, 3);
    cr_assert_eq(other, 3);
    for (size_t i = 0; i <= steps; i++)
        cr_expect_float_eq(t[i], want[i], 1e-12);
    cr_expect_float_eq(pipe_schedule_lambda(schedule, t[3]), 2.25, 1e-9);
    pipe_free(t);
    pipe_free(want);
    pipe_object_unref(a);
    pipe_object_unref(b);
    pipe_object_unref(schedule);
}

/* The resolved pipeline of a run writes out every parameter: defaults are no wishes. */
Test(grid, parameters_at_their_default_are_not_refused)
{
    const grid_case c = {"",
                         "schedule.cosine",
                         {{{0}}},
                         {{"grid", "uniform"},
                          {"rho", "0"},
                          {"ratio_min", "0.0"},
                          {"grid_in", "ratio"},
                          {"whole_steps", "true"},
                          {"beta_a", "0.60"},
                          {"final", "zero"},
                          {"times", "[]"},
                          {"ratios", "[]"}},
                         0,
                         ""};
    pipe_object *sampler = make_sampler(&c), *schedule = make_schedule(&c);
    pipe_error err = PIPE_ERROR_INIT;
    double *t = NULL;
    size_t steps;

    OK(pipe_sampler_grid(sampler, schedule, &t, &steps, &err));
    cr_expect_eq(steps, 50);
    pipe_free(t);
    pipe_object_unref(sampler);
    pipe_object_unref(schedule);
}

/* ---- formulas that diffusers lacks ---- */
static double *grid_of(const grid_case *c, size_t *steps)
{
    pipe_object *sampler = make_sampler(c), *schedule = make_schedule(c);
    pipe_error err = PIPE_ERROR_INIT;
    double *t = NULL;

    OK(pipe_sampler_grid(sampler, schedule, &t, steps, &err));
    for (size_t i = 0; i <= *steps; i++)
        t[i] = exp(-pipe_schedule_lambda(schedule, t[i]));
    pipe_object_unref(sampler);
    pipe_object_unref(schedule);
    return t;
}

/* k-diffusion's get_sigmas_polyexponential and get_sigmas_vp; lu with a power that lambda keeps its sign
 * under. */
Test(grid, polyexponential_lu_and_vp_follow_their_formulas)
{
    static const grid_case made[] = {
        {"", "schedule.edm", {{{0}}}, {{"grid", "polyexponential"}, {"steps", "7"}, {"rho", "2"}}, 0, ""},
        {"", "schedule.edm", {{{0}}}, {{"grid", "lu"}, {"steps", "7"}, {"rho", "3"}}, 0, ""},
        {"", "schedule.ve", {{{0}}}, {{"grid", "vp"}, {"steps", "6"}}, 0, ""},
    };

    for (size_t g = 0; g < 3; g++) {
        size_t steps;
        double *rho = grid_of(&made[g], &steps);
        for (size_t i = 0; i < 7; i++) {
            const double r = (double)i / 6.0, t = 1.0 + r * (1e-3 - 1.0);
            const double a = -cbrt(log(80.0)), b = cbrt(-log(0.002));
            const double want[3] = {
                exp(log(0.002) + (1.0 - r) * (1.0 - r) * (log(80.0) - log(0.002))),
                exp(-pow(fabs(a + r * (b - a)), 3.0) * (a + r * (b - a) < 0.0 ? -1.0 : 1.0)),
                sqrt(exp(9.95 * t * t + 0.1 * t) - 1.0),
            };
            if (g == 2 && want[2] < 0.01) /* the schedule ends above it */
                continue;
            cr_expect_float_eq(rho[i], want[g], 1e-9 * want[g], "grid %zu, point %zu: %g, not %g", g, i,
                               rho[i], want[g]);
        }
        pipe_free(rho);
    }
}

/* Between the ten published points the grid of another length is linear in ln rho. */
Test(grid, align_your_steps_is_interpolated)
{
    const grid_case c = {"", SD, {{{0}}}, {{"grid", "ays-sd15"}, {"steps", "19"}}, 0, ""};
    size_t steps;
    double *rho = grid_of(&c, &steps);

    cr_assert_eq(steps, 19);
    cr_expect_float_eq(rho[2], 6.475, 1e-9);
    cr_expect_float_eq(rho[3], sqrt(6.475 * 3.861), 1e-9);
    cr_expect_float_eq(rho[18], 0.152, 1e-9);
    cr_expect_eq(rho[19], 0.0);
    pipe_free(rho);
}

/* A schedule that ends above sigma = 0 has its smallest sigma at the end, once. */
Test(grid, ends_where_the_schedule_ends)
{
    const grid_case c = {"", "schedule.ve", {{{0}}}, {{"grid", "karras"}, {"steps", "12"}}, 0, ""};
    size_t steps;
    double *rho = grid_of(&c, &steps);

    cr_expect_eq(steps, 12);
    cr_expect_float_eq(rho[12], 0.01, 1e-12);
    cr_expect_float_eq(rho[0], 1348.0, 1e-9);
    pipe_free(rho);
}
