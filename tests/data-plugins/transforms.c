/* Data sets over data sets: subset, scale, normalize, flip, pad. */
#include "data-plugins/data-test.h"

#include <math.h>

static pipe_object *over(const char *name, pipe_object *of, const char *const *params)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_object *d = NULL;

    OK(data_over("dataset", name, "data", of, params, &d, &err));
    return d;
}

static pipe_dataset *counting(pipe_shape sample, size_t n)
{
    float x[4096];
    int32_t label[64];

    cr_assert(n <= COUNT(label) && n * (size_t)pipe_shape_count(&sample) <= COUNT(x));
    for (size_t i = 0; i < COUNT(x); i++)
        x[i] = (float)i;
    for (size_t i = 0; i < n; i++)
        label[i] = (int32_t)i;
    return data_make(sample, n, x, label, (int64_t)n);
}

Test(dataset, subset_takes_a_run_of_samples)
{
    static const struct {
        const char *first, *count;
        uint64_t from, n;
    } cases[] = {{"0", "0", 0, 10}, {"3", "0", 3, 7}, {"3", "2", 3, 2}, {"10", "0", 10, 0}, {"9", "1", 9, 1}};
    pipe_dataset *all = counting(PIPE_SHAPE(2), 10);

    for (size_t k = 0; k < COUNT(cases); k++) {
        const char *const params[] = {"first", cases[k].first, "count", cases[k].count, NULL};
        pipe_object *d = over("dataset.subset", all, params);
        cr_assert_eq(data_info(d).count, cases[k].n, "first %s count %s", cases[k].first, cases[k].count);
        for (uint64_t i = 0; i < cases[k].n; i++) {
            float x[2];
            int32_t label;
            data_x(d, i, 1, x);
            data_read(d, "label", &i, 1, 0, &label);
            cr_expect_eq(x[0], (float)(2 * (cases[k].from + i)));
            cr_expect_eq((uint64_t)label, cases[k].from + i);
        }
        pipe_object_unref(d);
    }
    pipe_object_unref(all);
}

Test(dataset, subset_refuses_what_is_not_there)
{
    static const char *const cases[][2] = {{"11", "0"}, {"0", "11"}, {"5", "6"}, {"9007199254740992", "1"}};
    pipe_dataset *all = counting(PIPE_SHAPE(2), 10);

    for (size_t k = 0; k < COUNT(cases); k++) {
        const char *const params[] = {"first", cases[k][0], "count", cases[k][1], NULL};
        pipe_error err = PIPE_ERROR_INIT;
        pipe_object *d = over("dataset.subset", all, params);
        pipe_dataset_info info;
        check_failure(pipe_dataset_describe(d, &info, &err), PIPE_EINVAL, &err, "the 10 samples of data",
                      cases[k][0]);
        pipe_object_unref(d);
    }
    pipe_object_unref(all);
}

Test(dataset, a_sample_beyond_the_end_is_refused)
{
    pipe_dataset *all = counting(PIPE_SHAPE(2), 10);
    pipe_object *d = over("dataset.subset", all, (const char *const[]){"count", "4", NULL});
    pipe_error err = PIPE_ERROR_INIT;
    const uint64_t index[] = {0, 4};
    float x[4];

    check_failure(pipe_dataset_read(
                      d,
                      &(pipe_dataset_request){.size = sizeof(pipe_dataset_request), .index = index, .n = 2},
                      0, x, &err),
                  PIPE_EINVAL, &err, "sample 4 of 4", "beyond the end");
    pipe_object_unref(d);
    pipe_object_unref(all);
}

Test(dataset, scale_maps_one_range_onto_another)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_dataset *all = counting(PIPE_SHAPE(2), 3); /* 0 ... 5 */
    pipe_object *d = over("dataset.scale", all,
                          (const char *const[]){"from", "[0, 5]", "to", "[-1, 1]", NULL});
    pipe_object *again = over("dataset.scale", d, (const char *const[]){"to", "[0, 10]", NULL});
    pipe_object *unknown = over("dataset.scale", all, NULL), *none = NULL;
    pipe_dataset_info info = data_info(again);
    float x[6];

    data_x(d, 0, 3, x);
    for (int i = 0; i < 6; i++)
        cr_expect_float_eq(x[i], -1.0 + 0.4 * i, 1e-6);
    data_x(again, 0, 3, x); /* its range is known from the first one */
    for (int i = 0; i < 6; i++)
        cr_expect_float_eq(x[i], 2.0 * i, 1e-5);
    cr_expect(info.field[0].low == 0.0 && info.field[0].high == 10.0);
    check_failure(pipe_dataset_describe(unknown, &info, &err), PIPE_EINVAL, &err, "not known|`from",
                  "no range");
    static const char *const wrong[][2] = {
        {"from", "[1]"}, {"from", "[1, 1]"}, {"to", "[2, 1]"}, {"to", "[]"}, {"to", "[0, 1, 2]"}};
    for (size_t k = 0; k < COUNT(wrong); k++)
        check_failure(data_over("dataset", "dataset.scale", "data", all,
                                (const char *const[]){wrong[k][0], wrong[k][1], NULL}, &none, &err),
                      PIPE_EINVAL, &err, "[low, high]", wrong[k][1]);
    pipe_object_unref(unknown);
    pipe_object_unref(again);
    pipe_object_unref(d);
    pipe_object_unref(all);
}

/* Against two passes in double precision; values far from 0, where one pass over sums would cancel. */
Test(dataset, normalize_measures_mean_and_deviation_per_channel)
{
    enum { N = 300, EACH = 6, C = 3 };
    static float x[N * EACH], got[EACH];
    double mean[C] = {0}, deviation[C] = {0};

    pipe_host_randn((pipe_key){.seed = 5}, x, N * EACH);
    for (size_t i = 0; i < N * EACH; i++)
        x[i] = x[i] * (float)(1 + i % C) + 1000.0f * (float)(i % C);
    for (size_t i = 0; i < N * EACH; i++)
        mean[i % C] += (double)x[i] / (N * EACH / C);
    for (size_t i = 0; i < N * EACH; i++)
        deviation[i % C] += ((double)x[i] - mean[i % C]) * ((double)x[i] - mean[i % C]) / (N * EACH / C);
    pipe_dataset *all = data_make(PIPE_SHAPE(2, C), N, x, NULL, 0);
    pipe_object *d = over("dataset.normalize", all, NULL);
    for (uint64_t i = 0; i < N; i += 37) {
        data_x(d, i, 1, got);
        for (size_t j = 0; j < EACH; j++)
            cr_expect_float_eq(got[j], ((double)x[i * EACH + j] - mean[j % C]) / sqrt(deviation[j % C]), 2e-6,
                               "sample %d element %zu: %g", (int)i, j, got[j]);
    }
    pipe_object_unref(d);
    d = over("dataset.normalize", all, (const char *const[]){"mean", "[1, 2, 3]", "deviation", "[2]", NULL});
    data_x(d, 0, 1, got);
    for (size_t j = 0; j < EACH; j++)
        cr_expect_float_eq(got[j], ((double)x[j] - (double)(1 + j % C)) / 2.0, 1e-4);
    pipe_object_unref(d);
    pipe_object_unref(all);
}

Test(dataset, normalize_says_what_it_cannot_do)
{
    static const float flat[] = {1, 7, 2, 7, 3, 7}, nan[] = {1, 2, NAN, 3, 4, 5};
    static const struct {
        const char *why;
        const float *x;
        const char *const params[5];
        pipe_status status;
        const char *says;
    } cases[] = {
        {"a constant channel", flat, {0}, PIPE_EDOMAIN, "channel 1 of data is constant|`deviation`"},
        {"its deviation is given: only the mean is measured", flat, {"deviation", "[2, 2]"}, PIPE_OK, ""},
        {"its mean is given: the deviation is measured", flat, {"mean", "[0]"}, PIPE_EDOMAIN, "channel 1"},
        {"not a number", nan, {0}, PIPE_EDOMAIN, "channel 0 of data|not finite"},
        {"three means for two channels",
         flat,
         {"mean", "[1, 2, 3]", "deviation", "[1]"},
         PIPE_ESHAPE,
         "mean has 3 numbers for 2 channels"},
    };

    for (size_t k = 0; k < COUNT(cases); k++) {
        pipe_error err = PIPE_ERROR_INIT;
        pipe_dataset *all = data_make(PIPE_SHAPE(2), 3, cases[k].x, NULL, 0);
        pipe_object *d = over("dataset.normalize", all, cases[k].params);
        const uint64_t first = 0;
        float x[2];
        check_failure(
            pipe_dataset_read(
                d, &(pipe_dataset_request){.size = sizeof(pipe_dataset_request), .index = &first, .n = 1}, 0,
                x, &err),
            cases[k].status, &err, cases[k].says, cases[k].why);
        if (cases[k].status == PIPE_OK)
            cr_expect(x[0] == -0.5f && x[1] == 0.0f, "%s: %g %g", cases[k].why, x[0], x[1]);
        pipe_object_unref(d);
        pipe_object_unref(all);
    }
}

/* ---- flip ---- */
enum { PICTURES = 40, PIXELS = 2 * 3 * 2 };

/* Whether picture i came mirrored; fails unless it is whole. */
static bool mirrored(const float *x, const float *from)
{
    bool same = true, turned = true;

    for (size_t y = 0; y < 2; y++)
        for (size_t k = 0; k < 3; k++)
            for (size_t c = 0; c < 2; c++) {
                const float v = x[(y * 3 + k) * 2 + c];
                same &= v == from[(y * 3 + k) * 2 + c];
                turned &= v == from[(y * 3 + 2 - k) * 2 + c];
            }
    cr_assert(same != turned);
    return turned;
}

static size_t flips(pipe_dataset *d, const float *from, uint64_t draw, bool *which)
{
    uint64_t index[PICTURES];
    float x[PICTURES * PIXELS];
    size_t n = 0;

    for (uint64_t i = 0; i < PICTURES; i++)
        index[i] = PICTURES - 1 - i; /* the order of a request plays no part */
    data_read(d, "x", index, PICTURES, draw, x);
    for (size_t i = 0; i < PICTURES; i++)
        n += which[index[i]] = mirrored(x + i * PIXELS, from + index[i] * PIXELS);
    return n;
}

Test(dataset, flip_is_keyed_by_sample_and_epoch)
{
    pipe_dataset *all = counting(PIPE_SHAPE(2, 3, 2), PICTURES);
    const float *from = pipe_dataset_data(all, 0);
    bool a[PICTURES], b[PICTURES];
    pipe_object *d = over("dataset.flip", all, NULL);
    const size_t n = flips(d, from, 0, a);

    cr_expect(n > 8 && n < 32, "%zu of 40 at probability 0.5", n);
    flips(d, from, 0, b);
    cr_expect_arr_eq(a, b, sizeof a, "the same request gives the same pictures");
    flips(d, from, 1, b);
    cr_expect_neq(memcmp(a, b, sizeof a), 0, "another epoch mirrors others");
    for (uint64_t i = 0; i < PICTURES; i++) {
        float x[PIXELS];
        data_x(d, i, 1, x);
        cr_expect_eq(mirrored(x, from + i * PIXELS), a[i], "picture %d alone", (int)i);
    }
    pipe_object_unref(d);
    d = over("dataset.flip", all, (const char *const[]){"probability", "0", NULL});
    cr_expect_eq(flips(d, from, 3, a), 0);
    pipe_object_unref(d);
    d = over("dataset.flip", all, (const char *const[]){"probability", "1", NULL});
    cr_expect_eq(flips(d, from, 3, a), PICTURES);
    pipe_object_unref(d);
    pipe_object_unref(all);
}

Test(dataset, pad_puts_pictures_in_the_middle)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_dataset *all = counting(PIPE_SHAPE(2, 3, 1), 2);
    pipe_object *d = over("dataset.pad", all, (const char *const[]){"size", "5", "value", "-9", NULL});
    const pipe_dataset_info info = data_info(d);
    const uint64_t order[] = {1, 0};
    int32_t label[2];
    float x[50];

    cr_assert(pipe_shape_equal(&info.field[0].shape, &PIPE_SHAPE(5, 5, 1)));
    data_read(d, "x", order, 2, 0, x);
    for (int i = 0; i < 2; i++)
        for (int y = 0; y < 5; y++)
            for (int k = 0; k < 5; k++) {
                const bool in = y >= 1 && y < 3 && k >= 1 && k < 4;
                cr_expect_eq(x[(i * 5 + y) * 5 + k], in ? (float)((1 - i) * 6 + (y - 1) * 3 + k - 1) : -9.0f,
                             "picture %d row %d column %d", i, y, k);
            }
    data_read(d, "label", order, 2, 0, label);
    cr_expect(label[0] == 1 && label[1] == 0);
    pipe_object_unref(d);
    d = over("dataset.pad", all, (const char *const[]){"size", "2", NULL});
    pipe_dataset_info ignored;
    check_failure(pipe_dataset_describe(d, &ignored, &err), PIPE_ESHAPE, &err, "[2, 3, 1]|at most 2",
                  "too large");
    pipe_object_unref(d);
    pipe_object_unref(all);
}

Test(dataset, transforms_of_pictures_refuse_points)
{
    static const struct {
        const char *name;
        const char *const params[3];
        const char *says;
    } cases[] = {{"dataset.flip", {0}, "1 axes"}, {"dataset.pad", {"size", "8"}, "[2]"}};
    pipe_dataset *points = counting(PIPE_SHAPE(2), 3);

    for (size_t k = 0; k < COUNT(cases); k++) {
        pipe_error err = PIPE_ERROR_INIT;
        pipe_object *d = over(cases[k].name, points, cases[k].params);
        pipe_dataset_info info;
        check_failure(pipe_dataset_describe(d, &info, &err), PIPE_ESHAPE, &err, cases[k].says, cases[k].name);
        pipe_object_unref(d);
    }
    pipe_object_unref(points);
}

/* What a plugin of somebody else may get wrong is found before anybody computes with it. */
Test(dataset, fields_that_cannot_be_are_refused)
{
    const struct {
        const char *why;
        pipe_dataset_info info;
        const char *says;
    } cases[] = {
        {"no name", {.n_fields = 1, .field = {{.dtype = PIPE_F32}}}, "field 0 has no name"},
        {"an endless name",
         {.n_fields = 1, .field = {{.name = "abcdefghijklmnopqrstuvwxyzabcdef"}}},
         "field 0 has no name"},
        {"eight axes", {.n_fields = 1, .field = {{.name = "x", .shape = {.rank = 8}}}}, "`x`|7 axes"},
        {"a negative axis", {.n_fields = 1, .field = {{.name = "x", .shape = PIPE_SHAPE(-1)}}}, "`x`"},
        {"a size that overflows",
         {.n_fields = 1, .field = {{.name = "x", .shape = PIPE_SHAPE(1LL << 40, 1LL << 40)}}},
         "`x`"},
        {"an unknown type", {.n_fields = 1, .field = {{.name = "x", .dtype = (pipe_dtype)7}}}, "f32 nor i32"},
        {"too many", {.n_fields = 17}, "17 fields"},
    };

    for (size_t k = 0; k < COUNT(cases); k++) {
        pipe_error err = PIPE_ERROR_INIT;
        pipe_dataset *d = NULL;
        check_failure(pipe_dataset_new(test_context("maker", 1), &cases[k].info, &d, &err), PIPE_EINVAL, &err,
                      cases[k].says, cases[k].why);
    }
}
