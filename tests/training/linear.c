/* Linear learning dynamics, where the truth is known (Wang and Vastola 2024, arXiv:2412.09726, and their
 * follow-up): D = W x + b learns x0 from x = x0 + sigma eps by gradient descent of rate r on |D - x0|^2.
 * With centred data of covariance diag(l_k), W stays diagonal and
 *
 *     w_k(t) = w_k* + (w_k(0) - w_k*) exp(-2 r (l_k + sigma^2) t),   w_k* = l_k / (l_k + sigma^2):
 *
 * what varies most is learned first.  The loss is a mean over the D numbers of a sample: r is the learning
 * rate / D. */
#include "support/objects.h"

#include <criterion/criterion.h>
#include <math.h>
#include <pipe/pipe.h>
#include <stdio.h>

enum { D = 3, COPIES = 512, N = 2 * D * COPIES, KEPT = 4 };

static const double variances[D] = {4.0, 1.0, 0.25}, sigma = 0.5, rate = 0.0035;
static const int32_t kept[KEPT] = {40, 120, 240, 400};

static pipe_tensor *linear(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                           const pipe_condition *c)
{
    (void)self;
    (void)l;
    (void)c;
    return pipe_layer_linear_with(m, "map", x, D, true, (pipe_init){.kind = PIPE_INIT_ZEROS});
}

static const pipe_plugin linear_denoiser = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "denoiser.linear",
    .version = "1.0.0",
    .summary = "W x + b",
    .flags = PIPE_TRAINABLE,
    .denoiser = {.predict = linear},
};

/* Points +-a_k along axis k, many times each: mean 0 and the covariance exactly. */
static pipe_dataset *points(void)
{
    const pipe_dataset_info info = {
        .size = sizeof info,
        .count = N,
        .n_fields = 1,
        .field = {{.name = "x", .shape = PIPE_SHAPE(D), .dtype = PIPE_F32}},
    };
    pipe_dataset *d = NULL;
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipe_dataset_new(test_context("points", 1), &info, &d, &err));
    float *x = pipe_dataset_data(d, 0);
    for (int i = 0; i < N * D; i++)
        x[i] = 0.0f;
    for (int i = 0; i < N; i++) {
        const int k = i / 2 % D;
        x[i * D + k] = (float)((i % 2 ? -1.0 : 1.0) * sqrt(variances[k] * D));
    }
    return test_hold(d);
}

/* Row k of `kept`: W and b after kept[k] steps. */
static void read_kept(pipe_context *ctx, pipe_dataset *rows, int k, float w[D][D], float b[D])
{
    const pipe_model *m = pipe_object_model(pipei_context_yielded(ctx, "model"));
    const pipe_weight_info *info;
    const size_t n = pipe_model_weights(m, &info);
    pipe_error err = PIPE_ERROR_INIT;
    float *all = test_hold(pipe_alloc_array((size_t)pipe_model_count(m), sizeof *all));
    pipe_tensor *row;

    OK(pipe_dataset_tensor(rows, test_engine(), (uint64_t)k, 1, 0, &row, &err));
    OK(pipe_read_f32(row, all, (size_t)pipe_model_count(m), &err));
    cr_assert_eq(n, 2);
    for (size_t i = 0; i < n; i++)
        for (int64_t j = 0; j < pipe_shape_count(&info[i].shape); j++)
            (info[i].shape.rank == 2 ? &w[0][0] : b)[j] = all[info[i].offset + j];
}

Test(linear, is_learned_by_the_known_law)
{
    static const char *const params[] = {"steps",  "400",         "batch",     "3072", "learning_rate",
                                         "0.0035", "clip",        "0",         "keep", "[40, 120, 240, 400]",
                                         "log_every", "400",      "checkpoint_every", "0", NULL};
    char mean[32];
    const char *const at_sigma[] = {"predict", "x0",        "times", "log-normal", "mean",
                                    mean,      "deviation", "0.01",  NULL};
    const pipei_named_object on[] = {{"schedule", test_object("schedule", "schedule.edm", NULL, NULL)},
                                     {NULL, NULL}};
    pipe_object *net = NULL;
    pipe_context *ctx = NULL;
    pipe_error err = PIPE_ERROR_INIT;

    snprintf(mean, sizeof mean, "%.17g", log(sigma));
    OK(pipei_object_create(&linear_denoiser, "net", NULL, NULL, 0, test_context("net", 1), &net, &err));
    const pipei_named_object inputs[] = {
        {"model", test_hold(net)},
        {"objective", test_object("objective", "objective.denoise", at_sigma, on)},
        {"data", points()},
        {"optimizer",
         test_object("optimizer", "optimizer.sgd", (const char *const[]){"momentum", "0", NULL}, NULL)}};
    OK(pipei_context_standalone(test_engine(), "fit", 1, NULL, &ctx, &err));
    test_hold(ctx);
    OK(pipei_step_run(test_plugin("step", "fit"), params, inputs, 4, ctx, &err));
    pipe_dataset *rows = pipei_context_yielded(ctx, "kept");
    for (int t = 0; t < KEPT; t++) {
        float w[D][D], b[D];
        read_kept(ctx, rows, t, w, b);
        for (int k = 0; k < D; k++) {
            const double v = variances[k] + sigma * sigma, end = variances[k] / v,
                         want = end * -expm1(-2.0 * rate / D * v * kept[t]);
            cr_expect_float_eq(w[k][k], want, 0.01 * want, "variance %g after %d steps: %g, not %g",
                               variances[k], kept[t], (double)w[k][k], want);
            cr_expect_lt(fabs((double)b[k]), 0.01, "the data are centred");
            for (int j = 0; j < D; j++)
                cr_expect(j == k || fabs((double)w[k][j]) < 0.01, "off the diagonal: %g", (double)w[k][j]);
        }
    }
}
