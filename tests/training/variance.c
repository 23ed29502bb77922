/* Learned variances where the truth is known: with x0 of variance s^2 and the exact linear denoiser, the bound
 * is least where the variance of a step is that of x_j given x_i,
 *
 *     V_j added / (decay^2 V_j + added),   V_j = alpha_j^2 s^2 + sigma_j^2,
 *
 * which lies between the posterior's and the forward step's.  Only second moments matter: two points will do. */
#include "support/objects.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <pipe/pipe.h>

enum { STEPS = 4, D = 2, N = 1024 };

static const double variance = 0.25; /* of the data */

typedef struct {
    int64_t variance;
} said_state;

static const pipe_param said_params[] = {PIPE_VARIANCE_PARAM(said_state), PIPE_PARAM_END};

static pipe_status said_describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    (void)err;
    info->variance = (pipe_variance)((said_state *)self)->variance;
    return PIPE_OK;
}

/* E[x0 | x], and a number for each step that is learned. */
static pipe_tensor *said_predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                                 const pipe_condition *c)
{
    pipe_tensor *a2 = pipe_scale(pipe_square(l->alpha), variance);
    pipe_tensor *gain = pipe_div(pipe_scale(l->alpha, variance), pipe_add(a2, pipe_square(l->sigma)));
    pipe_tensor *step = pipe_to_i32(pipe_affine(l->t, STEPS, -0.75)); /* i + 1/4: i whichever way it is rounded */
    pipe_tensor *table = pipe_weight(m, "said", PIPE_SHAPE(STEPS, D), (pipe_init){.kind = PIPE_INIT_ZEROS});

    (void)self;
    (void)c;
    return pipe_concat((pipe_tensor *[]){pipe_mul(pipe_per_sample(gain, x), x), pipe_gather(table, step)}, 2, 1);
}

static const pipe_plugin said = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "denoiser.said",
    .version = "1.0.0",
    .summary = "exact prediction, a variance for each step",
    .flags = PIPE_TRAINABLE,
    .params = said_params,
    .state_size = sizeof(said_state),
    .denoiser = {.describe = said_describe, .predict = said_predict},
};

static pipe_dataset *points(void)
{
    const pipe_dataset_info info = {.size = sizeof info,
                                    .count = N,
                                    .n_fields = 1,
                                    .field = {{.name = "x", .shape = PIPE_SHAPE(D), .dtype = PIPE_F32}}};
    pipe_dataset *d = NULL;
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipe_dataset_new(test_context("points", 1), &info, &d, &err));
    float *x = pipe_dataset_data(d, 0);
    for (int i = 0; i < N * D; i++)
        x[i] = (float)((i / D + i) % 2 ? -sqrt(variance) : sqrt(variance));
    return test_hold(d);
}

static pipe_object *network(const char *kind)
{
    const char *const params[] = {"variance", kind, NULL};
    pipe_object *net = NULL;
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipei_object_create(&said, "net", params, NULL, 0, test_context("net", 1), &net, &err));
    return test_hold(net);
}

static pipe_object *objective(const char *name, const char *const *params, pipe_object *schedule)
{
    const pipei_named_object on[] = {{"schedule", schedule}, {NULL, NULL}};

    return test_object("objective", name, params, on);
}

/* What the table should hold at training step i. */
static double truth(pipe_object *schedule, int i, bool range)
{
    const pipe_schedule_point from = pipe_schedule_at(schedule, (i + 1.0) / STEPS),
                              to = pipe_schedule_at(schedule, (double)i / STEPS);
    const pipe_posterior q = pipe_posterior_of(from.alpha, from.sigma, to.alpha, to.sigma);
    const double v = to.alpha * to.alpha * variance + to.sigma * to.sigma, decay = from.alpha / to.alpha;
    const double log_variance = log(v * q.forward / (decay * decay * v + q.forward));

    return range ? (log_variance - q.log_middle) / q.log_half : log_variance;
}

typedef struct {
    char kind[8];
    bool range;
} variance_case;

ParameterizedTestParameters(variance, is_learned_as_it_is)
{
    static variance_case cases[] = {{"range", true}, {"log", false}};
    return cr_make_param_array(variance_case, cases, 2);
}

ParameterizedTest(variance_case *c, variance, is_learned_as_it_is)
{
    static const char *const params[] = {"steps", "250",  "batch",     "1024", "learning_rate",    "0.03",
                                         "ema",   "0.97", "log_every", "250",  "checkpoint_every", "0",
                                         NULL};
    pipe_object *schedule =
        test_object("schedule", "schedule.cosine", (const char *const[]){"timesteps", "4", NULL}, NULL);
    pipe_object *net = network(c->kind);
    pipe_context *ctx = NULL;
    pipe_error err = PIPE_ERROR_INIT;
    const pipe_weight_info *weights;

    const pipei_named_object inputs[] = {
        {"model", net},
        {"objective", objective("objective.denoise",
                                (const char *const[]){"predict", "x0", "variance_weight", "0.1", NULL}, schedule)},
        {"data", points()},
        {"optimizer", test_object("optimizer", "optimizer.adamw",
                                  (const char *const[]){"weight_decay", "0", NULL}, NULL)}};
    OK(pipei_context_standalone(test_engine(), "fit", 1, NULL, &ctx, &err));
    test_hold(ctx);
    OK(pipei_step_run(test_plugin("step", "fit"), params, inputs, 4, ctx, &err));
    pipe_model *m = pipe_object_model(pipei_context_yielded(ctx, "model"));
    const size_t n = (size_t)pipe_model_count(m);
    cr_assert_eq(pipe_model_weights(m, &weights), 1);
    float *flat = test_hold(pipe_alloc_array(n, sizeof *flat));
    OK(pipe_read_f32(pipe_model_flat(m), flat, n, &err));
    for (int i = 0; i < STEPS; i++)
        for (int k = 0; k < D; k++) {
            const double got = flat[weights->offset + i * D + k], want = i == 0 ? 0.0 : truth(schedule, i, c->range);
            cr_expect_float_eq(got, want, i == 0 ? 1e-9 : 0.03, "%s, step %d: %g, not %g", c->kind, i, got, want);
        }
    cr_expect(!c->range || (truth(schedule, 2, true) > -0.9 && truth(schedule, 2, true) < 0.9),
              "between both ends, or it would show nothing");
}

Test(variance, is_refused_by_an_objective_that_does_not_teach_it)
{
    pipe_object *schedule = test_object("schedule", "schedule.flow", NULL, NULL);
    pipe_error err = PIPE_ERROR_INIT;

    cr_expect_eq(pipe_objective_declare(objective("objective.flow-matching", NULL, schedule), network("range"),
                                        NULL, &err),
                 PIPE_EINVAL);
    cr_expect_str_eq(err.message, "net predicts variances, which this objective does not teach: objective.denoise "
                                  "does, or set its `variance` to none");
}
