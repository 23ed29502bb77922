/* Variances that a network predicts: who is asked for them, and what sampler.ddpm makes of them.  (Against
 * diffusers: golden-samplers.c; learning them: tests/training/variance.c.) */
#include "support/objects.h"

#include <criterion/criterion.h>
#include <math.h>
#include <pipe/pipe.h>
#include <string.h>

enum { N = 2, D = 2 };

/* The mixture; of the variance it says `with`, or `without` when it is not told a label. */
typedef struct {
    pipe_denoiser *denoiser;
    int64_t variance;
    double with, without;
} said_state;

static const pipe_input said_inputs[] = {
    PIPE_INPUT(said_state, denoiser, PIPE_KIND_DENOISER, "whose prediction it gives"), PIPE_INPUT_END};

static const pipe_param said_params[] = {
    PIPE_VARIANCE_PARAM(said_state),
    PIPE_FLOAT(said_state, with, 0.0, -9.0, 9.0, NULL, "what is said under a label"),
    PIPE_FLOAT(said_state, without, 0.0, -9.0, 9.0, NULL, "what is said otherwise"), PIPE_PARAM_END};

static pipe_status said_describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    const said_state *st = self;

    PIPE_TRY(pipe_denoiser_describe(st->denoiser, info, err));
    info->variance = (pipe_variance)st->variance;
    return PIPE_OK;
}

static pipe_tensor *said_predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                                 const pipe_condition *c)
{
    const said_state *st = self;
    pipe_tensor *o = pipe_full(pipe_tensor_engine(x), *pipe_tensor_shape(x), c && c->labels ? st->with : st->without);

    (void)m;
    return pipe_concat((pipe_tensor *[]){pipe_denoise(st->denoiser, x, l, c), o}, 2, 1);
}

static const pipe_plugin said_plugin = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "denoiser.said",
    .version = "1.0.0",
    .summary = "a variance that is said",
    .params = said_params,
    .inputs = said_inputs,
    .state_size = sizeof(said_state),
    .denoiser = {.describe = said_describe, .predict = said_predict},
};

static pipe_object *mixture(void)
{
    static const char *const params[] = {"means",       "[-1, 0.5, 0.6, -0.4]",
                                         "covariances", "[0.04, 0.01, 0.01, 0.09, 0.16, -0.03, -0.03, 0.05]",
                                         "weights",     "[0.4, 0.6]",
                                         "dimension",   "2",
                                         "labels",      "true",
                                         NULL};
    const pipei_named_object on[] = {
        {"schedule", test_object("schedule", "schedule.linear", (const char *const[]){"timesteps", "50", NULL}, NULL)},
        {NULL, NULL}};

    return test_object("denoiser", "denoiser.gaussian-mixture", params, on);
}

static pipe_object *said(const char *with, const char *without)
{
    const char *const params[] = {"variance", "range", "with", with, "without", without, NULL};
    const pipei_named_object of[] = {{"denoiser", mixture()}};
    pipe_object *out = NULL;
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipei_object_create(&said_plugin, "said", params, of, 1, test_context("said", 1), &out, &err));
    return test_hold(out);
}

static pipe_object *ddpm(const char *variance)
{
    return test_object("sampler", "sampler.ddpm", (const char *const[]){"steps", "10", "variance", variance, NULL},
                       NULL);
}

static void draw(pipe_object *denoiser, pipe_object *sampler, float x[N * D])
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *out = NULL;

    OK(pipe_sample(&(pipe_sample_request){.size = sizeof(pipe_sample_request),
                                          .sampler = sampler,
                                          .denoiser = denoiser,
                                          .n = N,
                                          .key = {.seed = 3}},
                   &out, &err));
    OK(pipe_read_f32(out, x, N * D, &err));
    pipe_keep(&out, NULL);
}

Test(variance_of_steps, ends_of_the_range_are_small_and_large)
{
    static const struct {
        const char *said, *same;
    } cases[] = {{"-1", "small"}, {"1", "large"}};
    float learned[N * D], fixed[N * D], other[N * D];

    draw(said("0", "0"), ddpm("learned"), other);
    for (size_t k = 0; k < 2; k++) {
        draw(said("0", cases[k].said), ddpm("learned"), learned);
        draw(mixture(), ddpm(cases[k].same), fixed);
        for (int i = 0; i < N * D; i++) {
            cr_expect_float_eq(learned[i], fixed[i], 1e-5, "%s: %g, not %g", cases[k].same, (double)learned[i],
                               (double)fixed[i]);
            cr_expect(fabsf(other[i] - fixed[i]) > 1e-3F, "the middle is neither");
        }
    }
}

/* What is said under the condition is what guidance passes on, however it is nested. */
Test(variance_of_steps, guidance_passes_on_that_of_the_condition)
{
    static const int32_t labels[N] = {1, 0};
    pipe_object *inner = said("0.25", "-0.5");
    const pipei_named_object of[] = {{"denoiser", inner}, {NULL, NULL}};
    pipe_object *cfg = test_object("guidance", "guidance.cfg", (const char *const[]){"scale", "3", NULL}, of);
    const pipei_named_object around[] = {{"denoiser", cfg}, {"outside", inner}, {NULL, NULL}};
    pipe_object *const denoisers[] = {inner, cfg, test_object("guidance", "guidance.interval", NULL, around)};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_denoiser_info info;

    for (size_t k = 0; k < 3; k++)
        for (int given = 0; given < 2; given++) {
            pipe_tensor *variance = NULL, *x = pipe_full(test_engine(), PIPE_SHAPE(N, D), 0.3);
            const pipe_condition c = {
                .size = sizeof c,
                .labels = given ? pipe_from_i32(test_engine(), PIPE_SHAPE(N), labels) : NULL,
                .variance = &variance};
            float v[N * D];
            OK(pipe_denoiser_describe(denoisers[k], &info, &err));
            cr_expect_eq(info.variance, PIPE_VARIANCE_RANGE);
            const pipe_level l = pipe_level_uniform(info.schedule, test_engine(), N, 0.5);
            pipe_tensor *y = pipe_denoise(denoisers[k], x, &l, &c);
            OK(pipe_check(y, &err));
            cr_expect(pipe_shape_equal(pipe_tensor_shape(y), pipe_tensor_shape(x)));
            cr_assert_not_null(variance, "denoiser %zu", k);
            OK(pipe_read_f32(variance, v, N * D, &err));
            cr_expect_eq(v[N * D - 1], given ? 0.25F : -0.5F, "denoiser %zu: %g", k, (double)v[N * D - 1]);
        }
}

/* Each network with the parameter gives samples' shape, and as many numbers of the variance, its own. */
Test(variance_of_steps, networks_have_an_output_for_it)
{
    static const struct {
        const char *plugin, *params[8];
    } cases[] = {
        {"denoiser.unet", {"variance", "range", "channels", "8", "multipliers", "[1]", "zero_init", "false"}},
        {"denoiser.dit", {"variance", "log", "width", "16", "heads", "2", "depth", "1"}},
        {"denoiser.mlp", {"variance", "range", "width", "8", "zero_init", "false", "depth", "1"}},
    };

    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const char *params[9] = {NULL};
        pipe_tensor *variance = NULL, *weights;
        pipe_error err = PIPE_ERROR_INIT;
        float y[2][N * 8 * 8];

        memcpy(params, cases[k].params, sizeof cases[k].params);
        pipe_object *net = test_object("denoiser", cases[k].plugin, params, NULL);
        pipe_object *schedule = test_object("schedule", "schedule.cosine", NULL, NULL);
        pipe_model *m = pipe_object_model(net);
        pipe_level l = pipe_level_uniform(schedule, test_engine(), N, 0.4);
        OK(pipe_model_build_begin(m, &err));
        OK(pipe_check(pipe_denoise(net, pipe_zeros(test_engine(), PIPE_SHAPE(N, 8, 8, 1)), &l, NULL), &err));
        OK(pipe_model_build_end(m, &err));
        /* no layer of zeros, whose outputs could not be told apart */
        weights = pipe_randn(test_engine(), PIPE_SHAPE(pipe_model_count(m)), (pipe_key){.seed = 7});
        OK(pipe_assign(pipe_model_flat(m), pipe_scale(weights, 0.3), &err));
        OK(pipe_eval(test_engine(), &err));
        l = pipe_level_uniform(schedule, test_engine(), N, 0.4);
        const pipe_condition c = {.size = sizeof c, .variance = &variance};
        pipe_tensor *out = pipe_denoise(
            net, pipe_randn(test_engine(), PIPE_SHAPE(N, 8, 8, 1), (pipe_key){.seed = 2}), &l, &c);
        OK(pipe_check(out, &err));
        cr_assert_not_null(variance, "%s", cases[k].plugin);
        cr_expect(pipe_shape_equal(pipe_tensor_shape(out), &PIPE_SHAPE(N, 8, 8, 1)));
        cr_expect(pipe_shape_equal(pipe_tensor_shape(variance), &PIPE_SHAPE(N, 8, 8, 1)));
        OK(pipe_read_f32(pipe_concat((pipe_tensor *[]){out, variance}, 2, 0), y[0], sizeof y / sizeof(float), &err));
        int same = 0;
        for (int i = 0; i < N * 8 * 8; i++) {
            cr_expect(isfinite(y[0][i]) && isfinite(y[1][i]));
            same += y[0][i] == y[1][i];
        }
        cr_expect_lt(same, 4, "%s: they are two outputs, %d are equal", cases[k].plugin, same);
    }
}

Test(variance_of_steps, a_network_that_says_nothing_is_refused)
{
    const pipei_named_object inside[] = {{"sampler", ddpm("learned")}, {NULL, NULL}};
    pipe_object *picard = test_object("sampler", "sampler.picard", NULL, inside);
    /* a step that fails before the network is asked */
    pipe_object *narrow = ddpm("learned"), *wide = test_object("schedule", "schedule.edm", NULL, NULL);
    const struct {
        pipe_object *denoiser, *sampler;
        pipe_status status;
        const char *message;
    } cases[] = {
        {mixture(), ddpm("learned"), PIPE_EINVAL, "needs a network that predicts variances"},
        {mixture(), picard, PIPE_EINVAL, "needs a network that predicts variances"},
        {said("0", "0"), picard, PIPE_EINVAL, "inside one that takes many steps at once"},
        {said("0", "0"), narrow, PIPE_EDOMAIN, "sigma / alpha"},
    };

    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        pipe_error err = PIPE_ERROR_INIT;
        pipe_tensor *out = NULL;
        cr_expect_eq(pipe_sample(&(pipe_sample_request){.size = sizeof(pipe_sample_request),
                                                       .sampler = cases[k].sampler,
                                                       .denoiser = cases[k].denoiser,
                                                       .schedule = cases[k].sampler == narrow ? wide : NULL,
                                                       .n = N},
                                 &out, &err),
                     cases[k].status, "%zu", k);
        cr_expect(strstr(err.message, cases[k].message), "%zu: %s", k, err.message);
        cr_expect_null(out);
    }
}
