/* Metrics against values that are known without them. */
#include "data-plugins/data-test.h"

#include <math.h>

static pipe_status frechet(pipe_dataset *a, pipe_dataset *b, pipe_object *encoder, const char *batch,
                           double *distance, pipe_error *err)
{
    pipe_context *ctx = data_context(NULL);
    const pipei_named_object inputs[] = {
        {"samples", a}, {"reference", b}, {encoder ? "encoder" : NULL, encoder}, {NULL, NULL}};
    const pipe_status status = data_run(ctx, "metric", "metric.frechet",
                                        (const char *const[]){"batch", batch, NULL}, inputs, err);

    if (status == PIPE_OK)
        *distance = data_reported(ctx, "distance");
    pipei_context_free(ctx);
    return status;
}

/* Points (+-a, 0), (0, +-b) around m have covariance diag(2 a^2, 2 b^2) / 3, exactly. */
static pipe_dataset *cross(double mx, double my, double a, double b)
{
    const float x[] = {(float)(mx + a), (float)my,       (float)(mx - a), (float)my,
                       (float)mx,       (float)(my + b), (float)mx,       (float)(my - b)};

    return data_make(PIPE_SHAPE(2), 4, x, NULL, 0);
}

/* Diagonal covariances commute: |m1 - m2|^2 + sum (s1 - s2)^2. */
Test(metric, frechet_is_the_closed_form)
{
    static const struct {
        double mx, my, a, b, c, d;
    } cases[] = {
        {0, 0, 1, 1, 1, 1}, {3, -4, 1, 1, 1, 1}, {0, 0, 1, 2, 2, 4}, {1, 2, 3, 1, 1, 3}, {0, 1, 1, 0, 2, 0}};
    static const char *const batches[] = {"1", "3", "250"}; /* one at a time; a padded last one; all */

    for (size_t k = 0; k < COUNT(cases); k++)
        for (size_t j = 0; j < COUNT(batches); j++) {
            pipe_error err = PIPE_ERROR_INIT;
            pipe_dataset *p = cross(0, 0, cases[k].a, cases[k].b),
                         *q = cross(cases[k].mx, cases[k].my, cases[k].c, cases[k].d);
            const double unit = sqrt(2.0 / 3.0), sx = unit * (cases[k].a - cases[k].c),
                         sy = unit * (cases[k].b - cases[k].d);
            const double want = cases[k].mx * cases[k].mx + cases[k].my * cases[k].my + sx * sx + sy * sy;
            double got = NAN;
            OK(frechet(p, q, NULL, batches[j], &got, &err));
            cr_expect_float_eq(got, want, 1e-6 * (1 + want), "case %zu, batch %s: %g, not %g", k, batches[j],
                               got, want);
            pipe_object_unref(p);
            pipe_object_unref(q);
        }
}

Test(metric, frechet_of_a_set_with_itself_is_zero)
{
    enum { N = 50, D = 12 };
    static float x[N * D];
    pipe_error err = PIPE_ERROR_INIT;
    double got = NAN;

    pipe_host_randn((pipe_key){.seed = 8}, x, N * D);
    pipe_dataset *a = data_make(PIPE_SHAPE(2, 2, 3), N, x, NULL, 0),
                 *b = data_make(PIPE_SHAPE(12), N, x, NULL, 0);
    OK(frechet(a, b, NULL, "7", &got, &err));
    cr_expect_float_eq(got, 0.0, 1e-9, "%g", got);
    pipe_object_unref(a);
    pipe_object_unref(b);
}

/* An encoder that adds up a sample's numbers, or does what encoders must not. */
static bool loses_rows;

static pipe_tensor *add_up(void *self, pipe_model *m, pipe_tensor *x)
{
    const int last = -1;

    (void)self;
    (void)m;
    return loses_rows ? pipe_slice(x, 0, 0, 1, 1) : pipe_sum(x, &last, 1, true);
}

static const pipe_plugin adder = {
    PIPE_ABI(PIPE_KIND_ENCODER),
    .name = "encoder.adder",
    .version = "1.0.0",
    .encoder = {.encode = add_up},
};

Test(metric, frechet_looks_at_features)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_dataset *p = cross(0, 0, 1, 1), *q = cross(3, -3, 1, 1), *r = cross(1, 1, 1, 1);
    pipe_object *encoder = NULL;
    double got = NAN;

    OK(pipei_object_create(&adder, "adder", NULL, NULL, 0, test_context("adder", 1), &encoder, &err));
    OK(frechet(p, q, encoder, "3", &got, &err));
    cr_expect_float_eq(got, 0.0, 1e-6, "sums are equal: %g", got);
    OK(frechet(p, r, encoder, "3", &got, &err));
    cr_expect_float_eq(got, 4.0, 1e-5, "sums differ by 2: %g", got);
    loses_rows = true;
    check_failure(frechet(p, q, encoder, "3", &got, &err), PIPE_EPLUGIN, &err, "encoder.adder|[3, 2]|[1, 2]",
                  "a row is lost");
    pipe_object_unref(encoder);
    pipe_object_unref(r);
    pipe_object_unref(q);
    pipe_object_unref(p);
}

Test(metric, frechet_says_what_cannot_be_compared)
{
    static const float x[] = {1, 2, 3, 4, 5, 6}, nan[] = {1, 2, NAN, 4};
    float *wide = pipe_alloc_array(2 * 50000, sizeof *wide);
    pipe_dataset *good = data_make(PIPE_SHAPE(2), 3, x, NULL, 0),
                 *other = data_make(PIPE_SHAPE(3), 2, x, NULL, 0);
    pipe_dataset *one = data_make(PIPE_SHAPE(2), 1, x, NULL, 0),
                 *none = data_make(PIPE_SHAPE(2), 0, x, NULL, 0);
    pipe_dataset *bad = data_make(PIPE_SHAPE(2), 2, nan, NULL, 0),
                 *large = data_make(PIPE_SHAPE(50000), 2, wide, NULL, 0);
    const struct {
        const char *why;
        pipe_dataset *a, *b;
        pipe_status status;
        const char *says;
    } cases[] = {
        {"one sample", one, good, PIPE_EINVAL, "1 samples|at least 2"},
        {"no sample", good, none, PIPE_EINVAL, "0 samples"},
        {"other features", good, other, PIPE_ESHAPE, "2 numbers|3"},
        {"not a number", good, bad, PIPE_EDOMAIN, "features of data"},
        {"too many features", large, large, PIPE_ESHAPE, "50000 features|`encoder`"},
    };

    for (size_t k = 0; k < COUNT(cases); k++) {
        pipe_error err = PIPE_ERROR_INIT;
        double got;
        check_failure(frechet(cases[k].a, cases[k].b, NULL, "250", &got, &err), cases[k].status, &err,
                      cases[k].says, cases[k].why);
    }
    pipe_object_unref(large);
    pipe_object_unref(bad);
    pipe_object_unref(none);
    pipe_object_unref(one);
    pipe_object_unref(other);
    pipe_object_unref(good);
    pipe_free(wide);
}

/* ---- accuracy ---- */
/* x [n, 3] are the logits themselves; `wrong` makes it return what a classifier must not. */
static bool wrong;

static int64_t three(void *self)
{
    (void)self;
    return 3;
}

static pipe_tensor *themselves(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l)
{
    (void)self;
    (void)m;
    cr_expect_null(l, "clean data have no noise level");
    return wrong ? pipe_slice(x, 1, 0, 2, 1) : x;
}

static const pipe_plugin judge = {
    PIPE_ABI(PIPE_KIND_CLASSIFIER),
    .name = "classifier.themselves",
    .version = "1.0.0",
    .classifier = {.classes = three, .logits = themselves},
};

static pipe_object *make_judge(void)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_object *c = NULL;

    OK(pipei_object_create(&judge, "judge", NULL, NULL, 0, test_context("judge", 1), &c, &err));
    return c;
}

static pipe_status accuracy(pipe_dataset *d, const char *batch, double *share, pipe_error *err)
{
    pipe_context *ctx = data_context(NULL);
    pipe_object *c = make_judge();
    const pipei_named_object inputs[] = {{"samples", d}, {"classifier", c}, {NULL, NULL}};
    const pipe_status status = data_run(ctx, "metric", "metric.accuracy",
                                        (const char *const[]){"batch", batch, NULL}, inputs, err);
    if (status == PIPE_OK)
        *share = data_reported(ctx, "accuracy");
    pipe_object_unref(c);
    pipei_context_free(ctx);
    return status;
}

Test(metric, accuracy_counts_what_is_right)
{
    static const float x[] = {9, 0, 1, 0, 5, 1, 1, 2, 3, -1, -2, -3, 0, 0, 7};
    static const int32_t label[] = {0, 1, 2, 1, 0}; /* the last two are wrong */
    static const char *const batches[] = {"1", "2", "3", "5", "250"};
    pipe_dataset *d = data_make(PIPE_SHAPE(3), 5, x, label, 3);

    for (size_t k = 0; k < COUNT(batches); k++) {
        pipe_error err = PIPE_ERROR_INIT;
        double share = NAN;
        OK(accuracy(d, batches[k], &share, &err));
        cr_expect_float_eq(share, 0.6, 1e-12, "batch %s: %g", batches[k], share);
    }
    pipe_object_unref(d);
}

Test(metric, accuracy_says_what_it_cannot_judge)
{
    static const float x[] = {1, 2, 3};
    static const int32_t label[] = {0};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_dataset *bare = data_make(PIPE_SHAPE(3), 1, x, NULL, 0),
                 *none = data_make(PIPE_SHAPE(3), 0, x, label, 3);
    pipe_dataset *ten = data_make(PIPE_SHAPE(3), 1, x, label, 10),
                 *good = data_make(PIPE_SHAPE(3), 1, x, label, 3);
    pipe_dataset_info info = {.size = sizeof info, .count = 4, .n_fields = 2};
    pipe_dataset *vectors = NULL;
    double share;

    info.field[0] = (pipe_field){.name = "x", .shape = PIPE_SHAPE(3)};
    info.field[1] = (pipe_field){.name = "label", .shape = PIPE_SHAPE(5), .dtype = PIPE_I32};
    OK(pipe_dataset_new(test_context("data", 1), &info, &vectors, &err));
    check_failure(accuracy(bare, "9", &share, &err), PIPE_ENOTFOUND, &err, "data|`label`|it has: x",
                  "no labels");
    check_failure(accuracy(none, "9", &share, &err), PIPE_EINVAL, &err, "data is empty", "empty");
    check_failure(accuracy(ten, "9", &share, &err), PIPE_ESHAPE, &err, "10 classes|judge knows 3", "classes");
    check_failure(accuracy(vectors, "9", &share, &err), PIPE_ESHAPE, &err, "`label`|one whole number",
                  "vectors");
    wrong = true;
    check_failure(accuracy(good, "9", &share, &err), PIPE_EPLUGIN, &err,
                  "classifier.themselves|[1, 3]|[1, 2]", "two logits for three classes");
    pipe_object_unref(vectors);
    pipe_object_unref(good);
    pipe_object_unref(ten);
    pipe_object_unref(none);
    pipe_object_unref(bare);
}
