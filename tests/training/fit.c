/* The step `fit`: it learns, it repeats itself, it resumes, it says what is wrong. */
#include "support/folder.h"
#include "support/objects.h"

#include <criterion/criterion.h>
#include <math.h>
#include <pipe/pipe.h>
#include <unistd.h>

enum { COUNT = 512 };

/* Two blobs of points in the plane, labelled. */
static pipe_dataset *points(void)
{
    pipe_dataset_info info = {
        .size = sizeof info,
        .count = COUNT,
        .n_fields = 2,
        .field = {{.name = "x", .shape = PIPE_SHAPE(2), .dtype = PIPE_F32},
                  {.name = "label", .dtype = PIPE_I32, .classes = 2}},
    };
    pipe_dataset *d = NULL;
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipe_dataset_new(test_context("points", 1), &info, &d, &err));
    test_hold(d);
    float *x = pipe_dataset_data(d, 0);
    int32_t *label = pipe_dataset_data(d, 1);
    pipe_host_randn((pipe_key){.seed = 3}, x, 2 * COUNT);
    for (int k = 0; k < COUNT; k++) {
        label[k] = k % 2;
        x[2 * k] = 0.2f * x[2 * k] + (label[k] ? 1.0f : -1.0f);
        x[2 * k + 1] = 0.2f * x[2 * k + 1] + (label[k] ? -0.5f : 0.5f);
    }
    return d;
}

typedef struct {
    pipe_object *model, *objective, *data, *optimizer;
} parts;

static pipe_object *with_schedule(const char *objective, const char *const *params)
{
    const bool flow = strstr(objective, "flow") != NULL;
    const pipei_named_object inputs[] = {
        {"schedule", test_object("schedule", flow ? "schedule.flow" : "schedule.cosine", NULL, NULL)},
        {NULL, NULL}};
    return test_object("objective", objective, params, inputs);
}

static parts usual(const char *objective, const char *const *objective_params)
{
    static const char *const net[] = {"width",   "32", "depth",   "2",   "features", "16",
                                      "classes", "2",  "dropout", "0.1", NULL};
    return (parts){
        .model = test_object("denoiser", "denoiser.mlp", net, NULL),
        .objective = with_schedule(objective, objective_params),
        .data = points(),
        .optimizer = test_object("optimizer", "optimizer.adamw", NULL, NULL),
    };
}

static pipe_status fit(const parts *p, const char *const *params, const char *folder, pipe_context **ctx,
                       pipe_error *err)
{
    pipei_named_object inputs[4] = {
        {"model", p->model}, {"objective", p->objective}, {"optimizer", p->optimizer}, {"data", p->data}};

    PIPE_TRY(pipei_context_standalone(test_engine(), "fit", 1, folder, ctx, err));
    test_hold(*ctx);
    return pipei_step_run(test_plugin("step", "fit"), params, inputs, p->data ? 4 : 3, *ctx, err);
}

static double curve(pipe_context *ctx, const char *name, bool last, size_t *n)
{
    pipe_metrics *m = NULL;
    const double *step, *value;
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipei_context_metrics(ctx, &m, &err));
    test_hold(m);
    cr_assert(pipe_metrics_curve(m, name, &step, &value, n), "no curve `%s`", name);
    cr_assert_gt(*n, 0);
    return value[last ? *n - 1 : 0];
}

static float *weights(pipe_context *ctx, size_t *n)
{
    pipe_object *o = pipei_context_yielded(ctx, "model");
    pipe_error err = PIPE_ERROR_INIT;

    cr_assert(o, "nothing was yielded");
    *n = (size_t)pipe_model_count(pipe_object_model(o));
    float *w = test_hold(pipe_alloc_array(*n, sizeof *w));
    OK(pipe_read_f32(pipe_model_flat(pipe_object_model(o)), w, *n, &err));
    return w;
}

/* ---- it learns ---- */

Test(fit, learns_two_blobs)
{
    static const struct {
        const char *objective, *key, *value;
        double most; /* loss at the end; about what 600 steps reach, with room */
    } rows[] = {
        {"objective.denoise", "predict", "v", 0.45},
        {"objective.denoise", "predict", "eps", 0.35},
        {"objective.denoise", "predict", "x0", 0.35},
        {"objective.denoise", "weighting", "min-snr", 0.4},
        {"objective.flow-matching", "times", "uniform", 0.6},
        {"objective.flow-matching", "times", "logit-normal", 0.6},
    };
    static const char *const params[] = {
        "steps",    "600",    "batch",  "128", "learning_rate",    "0.003", "log_every", "100", "ema", "0.99",
        "schedule", "cosine", "warmup", "20",  "checkpoint_every", "0",     NULL};

    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        const char *const objective[] = {rows[k].key, rows[k].value, NULL};
        const parts p = usual(rows[k].objective, objective);
        pipe_error err = PIPE_ERROR_INIT;
        pipe_context *ctx = NULL;
        size_t n;

        OK(fit(&p, params, NULL, &ctx, &err));
        const double first = curve(ctx, "loss", false, &n), last = curve(ctx, "loss", true, &n);
        cr_expect_eq(n, 6, "%zu points of the curve", n);
        cr_expect(last < rows[k].most && last < first, "%s, %s: loss from %g to %g", rows[k].objective,
                  rows[k].value, first, last);
        cr_expect(fabs(curve(ctx, "learning_rate", true, &n)) < 1e-9, "the cosine ends at 0");
        cr_expect_gt(curve(ctx, "gradient_norm", true, &n), 0.0);
        pipe_denoiser_info info;
        OK(pipe_denoiser_describe(pipei_context_yielded(ctx, "model"), &info, &err));
        cr_expect_eq(info.sample.dim[0], 2);
        cr_expect(info.predicts != PIPE_PREDICT_NONE && info.schedule && info.classes == 2);
    }
}

/* ---- the same bits ---- */

static const char *const short_params[] = {
    "steps", "24",       "batch",  "32", "ema", "0.9", "log_every", "7", "checkpoint_every",
    "10",    "schedule", "linear", NULL};

Test(fit, repeats_itself)
{
    PIPE_CLEANUP(folder_drop) char *folder_a = folder_make(), *folder_b = folder_make();
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *a = NULL, *b = NULL;
    const parts p = usual("objective.denoise", NULL), q = usual("objective.denoise", NULL);
    size_t n, m;

    OK(fit(&p, short_params, folder_a, &a, &err));
    OK(fit(&q, short_params, folder_b, &b, &err));
    float *x = weights(a, &n), *y = weights(b, &m);
    cr_assert_eq(n, m);
    cr_expect_arr_eq(x, y, n * sizeof *x);
}

Test(fit, resumes_to_the_same_bits)
{
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *a = NULL, *b = NULL;
    const parts p = usual("objective.denoise", NULL);
    size_t n, m, points_a, points_b;

    OK(fit(&p, short_params, folder, &a, &err)); /* leaves the checkpoints of steps 10 and 20 */
    PIPE_CLEANUP(pipe_free_ptr)
    char *newest = pipe_format("%s/checkpoints/fit/step-00000020.safetensors", folder);
    cr_assert_eq(unlink(newest), 0, "%s", newest);
    OK(fit(&p, short_params, folder, &b, &err)); /* from step 10, in the middle of an interval of the log */
    float *x = weights(a, &n), *y = weights(b, &m);
    cr_assert_eq(n, m);
    cr_expect_arr_eq(x, y, n * sizeof *x);
    cr_expect_eq(curve(a, "loss", true, &points_a), curve(b, "loss", true, &points_b));
    cr_expect_eq(points_a, points_b, "the curve has the points from before, too");
}

/* ---- gradients are averaged, weights go on ---- */

static parts classifier(const char *pool)
{
    const char *const net[] = {"pool",   pool, "classes",  "2", "channels", "8", "multipliers", "[1]",
                               "groups", "4",  "features", "8", "dropout",  "0", NULL};
    pipe_dataset_info info = {
        .size = sizeof info,
        .count = 96,
        .n_fields = 2,
        .field = {{.name = "x", .shape = PIPE_SHAPE(6, 6, 1), .dtype = PIPE_F32},
                  {.name = "label", .dtype = PIPE_I32, .classes = 2}},
    };
    pipe_dataset *d = NULL;
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipe_dataset_new(test_context("images", 1), &info, &d, &err));
    test_hold(d);
    float *x = pipe_dataset_data(d, 0);
    int32_t *label = pipe_dataset_data(d, 1);
    pipe_host_randn((pipe_key){.seed = 4}, x, 96 * 36);
    for (int k = 0; k < 96; k++) { /* stripes across, stripes along */
        label[k] = k % 2;
        for (int i = 0; i < 36; i++)
            x[36 * k + i] = 0.3f * x[36 * k + i] + ((label[k] ? i / 6 : i % 6) % 2 ? 0.7f : -0.7f);
    }
    return (parts){
        .model = test_object("classifier", "classifier.conv", net, NULL),
        .objective = test_object("objective", "objective.classify", NULL, NULL),
        .data = d,
        .optimizer = test_object("optimizer", "optimizer.sgd", NULL, NULL),
    };
}

Test(fit, accumulates_to_the_gradient_of_the_larger_batch)
{
    static const char *const whole[] = {"steps", "4", "batch", "32", "learning_rate", "0.05", NULL};
    static const char *const halves[] = {"steps",         "4",    "batch", "8", "accumulate", "4",
                                         "learning_rate", "0.05", NULL};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *a = NULL, *b = NULL;
    const parts p = classifier("none");
    size_t n, m;

    OK(fit(&p, whole, NULL, &a, &err));
    OK(fit(&p, halves, NULL, &b, &err));
    float *x = weights(a, &n), *y = weights(b, &m);
    for (size_t k = 0; k < n; k++)
        cr_expect(fabsf(x[k] - y[k]) < 2e-5f, "weight %zu: %g, %g", k, x[k], y[k]);
    /* what is reported is of all parts too */
    cr_expect_float_eq(curve(a, "loss", true, &n), curve(b, "loss", true, &m), 1e-5);
    cr_expect_float_eq(curve(a, "accuracy", true, &n), curve(b, "accuracy", true, &m), 1e-6);
}

Test(fit, classifies_stripes_and_gives_features)
{
    static const char *const params[] = {"steps", "120",       "batch", "32", "learning_rate",
                                         "0.05",  "log_every", "20",    NULL};
    static const char *const wrong[] = {"layer", "featurs", NULL};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *ctx = NULL;
    const parts p = classifier("mean"), q = classifier("none");
    size_t n;

    OK(fit(&q, params, NULL, &ctx, &err));
    cr_expect_gt(curve(ctx, "accuracy", true, &n), 0.97);
    OK(fit(&p, params, NULL, &ctx, &err));
    cr_expect_gt(curve(ctx, "accuracy", true, &n), 0.97);
    const pipei_named_object of[] = {{"of", pipei_context_yielded(ctx, "model")}, {NULL, NULL}};
    pipe_tensor *x = NULL;
    OK(pipe_dataset_tensor(p.data, test_engine(), 0, 10, 0, &x, &err));
    pipe_tensor *h = pipe_encode(test_object("encoder", "encoder.features", NULL, of), x);
    OK(pipe_check(h, &err));
    cr_expect(pipe_rank(h) == 2 && pipe_dim(h, 0) == 10 && pipe_dim(h, 1) == 8);
    check_failure(pipe_check(pipe_encode(test_object("encoder", "encoder.features", wrong, of), x), &err),
                  PIPE_ENOTFOUND, &err, "featurs|features|level.0", "no such layer");
}

Test(fit, goes_on_from_trained_weights)
{
    PIPE_CLEANUP(folder_drop) char *folder_a = folder_make();
    static const char *const still[] = {"steps", "1", "batch", "8", "learning_rate", "0", NULL};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *a = NULL, *b = NULL;
    parts p = usual("objective.denoise", NULL);
    size_t n, m;

    OK(fit(&p, short_params, folder_a, &a, &err));
    p.model = pipei_context_yielded(a, "model");
    OK(fit(&p, still, NULL, &b, &err));
    float *x = weights(a, &n), *y = weights(b, &m);
    cr_expect_arr_eq(x, y, n * sizeof *x);
    cr_expect(pipei_context_yielded(a, "model") != pipei_context_yielded(b, "model"));
}

/* ---- what is said ---- */

Test(fit, stops_when_the_loss_is_not_finite)
{
    static const char *const params[] = {"steps", "40", "batch",     "16", "learning_rate",    "100",
                                         "clip",  "0",  "log_every", "20", "checkpoint_every", "1",
                                         NULL};
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *ctx = NULL;
    parts p = usual("objective.denoise", NULL);

    p.optimizer = test_object("optimizer", "optimizer.sgd", NULL, NULL);
    check_failure(fit(&p, params, folder, &ctx, &err), PIPE_EDOMAIN, &err,
                  "the last good checkpoint is that of step|learning_rate (now 100)",
                  "a learning rate of 100");
    cr_expect_null(pipei_context_yielded(ctx, "model"));
}

Test(fit, says_what_does_not_fit)
{
    static const char *const params[] = {"steps", "2", NULL};
    static const char *const one_class[] = {"classes", "1", "width", "8", NULL};
    static const struct {
        const char *why, *parts;
        pipe_status status;
    } rows[] = {
        {"a denoiser for a classifier's objective", "trains a classifier|denoiser.mlp is of kind denoiser",
         PIPE_EINVAL},
        {"too few classes", "the data have 2 classes|only 1", PIPE_EINVAL},
        {"no data", "`x`|give `data` a data set", PIPE_ENOTFOUND},
    };

    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        pipe_error err = PIPE_ERROR_INIT;
        pipe_context *ctx = NULL;
        parts p = usual("objective.denoise", NULL);
        if (k == 0)
            p.objective = test_object("objective", "objective.classify", NULL, NULL);
        if (k == 1)
            p.model = test_object("denoiser", "denoiser.mlp", one_class, NULL);
        if (k == 2)
            p.data = NULL;
        check_failure(fit(&p, params, NULL, &ctx, &err), rows[k].status, &err, rows[k].parts, rows[k].why);
    }
}

Test(fit, networks_say_which_parameters_do_not_fit)
{
    static const struct {
        const char *kind, *plugin, *param[7], *parts;
    } rows[] = {
        {"denoiser", "denoiser.unet", {"channels", "12", NULL}, "groups|8 groups do not divide 12 channels"},
        {"denoiser", "denoiser.unet", {"attention", "[3]", NULL}, "there is no level 3|coarsest is 2"},
        {"denoiser",
         "denoiser.unet",
         {"channels", "24", "heads", "7", NULL},
         "7 heads do not divide the 24 channels"},
        {"denoiser", "denoiser.unet", {"multipliers", "[]", NULL}, "multipliers|1 to 8"},
        {"denoiser", "denoiser.dit", {"width", "30", NULL}, "30 is not a multiple of 4"},
        {"denoiser",
         "denoiser.dit",
         {"width", "32", "heads", "5", NULL},
         "5 heads do not divide the width 32"},
        {"classifier",
         "classifier.conv",
         {"classes", "3", "channels", "9", NULL},
         "8 groups do not divide 9 channels"},
    };

    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        pipe_error err = PIPE_ERROR_INIT;
        pipe_object *o = NULL;
        check_failure(test_object_try(rows[k].kind, rows[k].plugin, rows[k].param, NULL, &o, &err),
                      PIPE_EINVAL, &err, rows[k].parts, rows[k].plugin);
    }
}

/* ---- what was learned when ---- */

/* The flat weights that fit.kept makes of a step. */
static float *kept_at(pipe_context *trained, const char *step, size_t *n)
{
    pipe_context *ctx = NULL;
    const pipei_named_object inputs[] = {{"model", pipei_context_yielded(trained, "model")},
                                         {"kept", pipei_context_yielded(trained, "kept")}};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_denoiser_info info;

    OK(pipei_context_standalone(test_engine(), "kept", 1, NULL, &ctx, &err));
    test_hold(ctx);
    OK(pipei_step_run(test_plugin("fit", "fit.kept"), (const char *const[]){"step", step, NULL}, inputs, 2,
                      ctx, &err));
    OK(pipe_denoiser_describe(pipei_context_yielded(ctx, "model"), &info, &err));
    cr_expect(info.predicts == PIPE_PREDICT_EPS && info.schedule && info.sample.dim[0] == 2,
              "what was declared goes with the weights");
    return weights(ctx, n);
}

/* What is kept at a step is what a run of so many steps hands on, also after a resumption. */
Test(fit, keeps_weights_of_steps)
{
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    static const char *const all[] = {
        "steps", "24",   "batch",       "32", "ema", "0.9", "log_every", "7", "checkpoint_every",
        "10",    "keep", "[0, 10, 24]", NULL};
    static const char *const ten[] = {"steps", "10", "batch", "32", "ema", "0.9", "log_every", "7", NULL};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *a = NULL, *b = NULL, *none = NULL;
    const parts p = usual("objective.denoise", (const char *const[]){"predict", "eps", NULL});
    size_t n, m;

    OK(fit(&p, all, folder, &a, &err));
    OK(fit(&p, ten, NULL, &b, &err));
    const float *final = weights(a, &n), *at_ten = weights(b, &m);
    cr_expect_eq(memcmp(final, kept_at(a, "24", &m), n * sizeof *final), 0, "the last step");
    cr_expect_eq(memcmp(at_ten, kept_at(a, "10", &m), n * sizeof *final), 0, "a run of 10 steps");
    cr_expect_neq(memcmp(at_ten, kept_at(a, "0", &m), n * sizeof *final), 0, "before the first step");

    /* goes on from the checkpoint of step 20, which holds what was kept at 10 */
    OK(fit(&p, all, folder, &b, &err));
    cr_expect_eq(memcmp(at_ten, kept_at(b, "10", &m), n * sizeof *final), 0, "after a resumption");

    const pipei_named_object inputs[] = {{"model", pipei_context_yielded(a, "model")},
                                         {"kept", pipei_context_yielded(a, "kept")}};
    OK(pipei_context_standalone(test_engine(), "kept", 1, NULL, &none, &err));
    test_hold(none);
    check_failure(pipei_step_run(test_plugin("fit", "fit.kept"), (const char *const[]){"step", "11", NULL},
                                 inputs, 2, none, &err),
                  PIPE_ENOTFOUND, &err, "step: 11 was not kept|0, 10, 24", "another step");
    static const char *const late[] = {"steps", "10", "keep", "[5, 11]", NULL};
    check_failure(fit(&p, late, NULL, &b, &err), PIPE_EINVAL, &err, "keep: step 11|at most 10",
                  "after the end");
}
