/* Training batches: every epoch is a permutation, and a batch is known from its step alone. */
#include "data-plugins/data-test.h"

#include <math.h>

static void rows_of(pipe_context *ctx, pipe_dataset *d, int64_t n, uint64_t step, int32_t *out)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_batch *b = NULL;

    OK(pipe_batch_new(ctx, d, n, step, &b, &err));
    cr_assert_eq(pipe_batch_size(b), n);
    OK(pipe_read_i32(pipe_batch_need(b, "label"), out, (size_t)n, &err));
    pipe_batch_free(b);
}

static pipe_dataset *labelled(size_t n)
{
    float *x = pipe_alloc_array(n, sizeof *x);
    int32_t *label = pipe_alloc_array(n, sizeof *label);

    for (size_t i = 0; i < n; i++) {
        x[i] = (float)i;
        label[i] = (int32_t)i;
    }
    pipe_dataset *d = data_make(PIPE_SHAPE(1), n, x, label, (int64_t)n);
    pipe_free(x);
    pipe_free(label);
    return d;
}

/* Batches of n that cross the ends of epochs: sample s of row r of step k is place k n + r of the sequence.
 */
Test(batch, every_epoch_is_another_permutation)
{
    static const struct {
        size_t count;
        int64_t n;
    } cases[] = {{1, 1}, {2, 3}, {3, 2}, {5, 4}, {16, 16}, {17, 5}, {64, 48}, {100, 7}, {257, 100}};
    pipe_context *ctx = test_context("fit", 3);

    for (size_t k = 0; k < COUNT(cases); k++) {
        const size_t count = cases[k].count, n = (size_t)cases[k].n;
        const size_t steps = (3 * count + n - 1) / n;
        pipe_dataset *d = labelled(count);
        int32_t *all = pipe_alloc_array(steps * n, sizeof *all);
        for (size_t step = 0; step < steps; step++)
            rows_of(ctx, d, cases[k].n, step, all + step * n);
        for (size_t epoch = 0; epoch < 3; epoch++) {
            bool *seen = pipe_alloc_array(count, sizeof *seen);
            for (size_t i = 0; i < count; i++) {
                const int32_t s = all[epoch * count + i];
                cr_assert(s >= 0 && (size_t)s < count && !seen[s], "%zu samples, epoch %zu: %d twice", count,
                          epoch, s);
                seen[s] = true;
            }
            pipe_free(seen);
        }
        if (count > 16) {
            cr_expect_neq(memcmp(all, all + count, count * sizeof *all), 0, "%zu: epochs are equal", count);
            cr_expect_neq(memcmp(all + 2 * count, all + count, count * sizeof *all), 0, "%zu", count);
        }
        pipe_free(all);
        pipe_object_unref(d);
    }
}

/* No sample is preferred at any place, small counts included: each of n x n pairs within 6 sigma. */
Test(batch, no_sample_is_preferred_at_any_place)
{
    static const size_t counts[] = {2, 3, 4, 5, 7, 10};
    enum { EPOCHS = 2000 };
    pipe_context *ctx = test_context("fit", 11);

    for (size_t k = 0; k < COUNT(counts); k++) {
        const size_t n = counts[k];
        pipe_dataset *d = labelled(n);
        size_t hits[10][10] = {{0}};
        static int32_t rows[EPOCHS * 10];
        rows_of(ctx, d, (int64_t)(EPOCHS * n), 0, rows);
        for (size_t i = 0; i < EPOCHS * n; i++)
            hits[i % n][rows[i]]++;
        const double want = (double)EPOCHS / (double)n, most = 6.0 * sqrt(want * (1.0 - 1.0 / (double)n));
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                cr_expect_float_eq((double)hits[i][j], want, most, "%zu samples: %zu at place %zu: %zu times",
                                   n, j, i, hits[i][j]);
        pipe_object_unref(d);
    }
}

Test(batch, a_batch_is_known_from_its_step_alone)
{
    pipe_context *ctx = test_context("fit", 3);
    pipe_dataset *d = labelled(100);
    int32_t a[8], b[8], long_way[8], other[8];

    rows_of(ctx, d, 8, 41, a);
    for (uint64_t step = 30; step <= 41; step++)
        rows_of(ctx, d, 8, step, long_way);
    rows_of(test_context("fit", 3), d, 8, 41, b);
    cr_expect_arr_eq(a, b, sizeof a);
    cr_expect_arr_eq(a, long_way, sizeof a);
    rows_of(test_context("fit", 4), d, 8, 41, other);
    cr_expect_neq(memcmp(a, other, sizeof a), 0, "another seed shuffles otherwise");
    rows_of(test_context("other", 3), d, 8, 41, other);
    cr_expect_neq(memcmp(a, other, sizeof a), 0, "another node shuffles otherwise");
    pipe_object_unref(d);
}

/* Rows of both epochs in one batch: each is read in its own. */
typedef struct {
    size_t requests;
} counter;
static uint64_t draws[8];
static size_t n_draws, described;

static pipe_status count_describe(void *self, pipe_dataset_info *info, pipe_error *err)
{
    (void)self;
    (void)err;
    described++;
    info->count = 10;
    info->n_fields = 1;
    info->field[0] = (pipe_field){.name = "x", .dtype = PIPE_F32, .shape = PIPE_SHAPE(1)};
    return PIPE_OK;
}

static pipe_status count_read(void *self, const pipe_dataset_request *r, size_t k, void *out, pipe_error *err)
{
    (void)self;
    (void)k;
    (void)err;
    for (size_t i = 0; i < r->n; i++)
        ((float *)out)[i] = (float)(100 * r->draw + r->index[i]);
    draws[n_draws++ % 8] = r->draw;
    return PIPE_OK;
}

static const pipe_plugin counting_plugin = {
    PIPE_ABI(PIPE_KIND_DATASET),
    .name = "dataset.counting",
    .version = "1.0.0",
    .state_size = sizeof(counter),
    .dataset = {.describe = count_describe, .read = count_read},
};

Test(batch, the_end_of_an_epoch_splits_a_batch)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_object *d = NULL;
    pipe_batch *b = NULL;
    float x[8];

    OK(pipei_object_create(&counting_plugin, "counting", NULL, NULL, 0, test_context("counting", 1), &d,
                           &err));
    OK(pipe_batch_new(test_context("fit", 3), d, 8, 1, &b, &err)); /* places 8 ... 15 of epochs of 10 */
    pipe_tensor *t = pipe_batch_field(b, "x");
    cr_expect_eq(t, pipe_batch_field(b, "x"), "a field is read once");
    OK(pipe_read_f32(t, x, 8, &err));
    pipe_batch_free(b);
    cr_assert_eq(n_draws, 2);
    cr_expect(draws[0] == 0 && draws[1] == 1);
    for (int i = 0; i < 8; i++)
        cr_expect(i < 2 ? x[i] < 10 : x[i] >= 100, "row %d: %g", i, x[i]);
    cr_expect(described < 10, "a batch describes its data %zu times", described);
    pipe_object_unref(d);
}

Test(batch, what_is_missing_is_said)
{
    pipe_error err = PIPE_ERROR_INIT;
    static const float x[] = {1, 2};
    pipe_dataset *d = data_make(PIPE_SHAPE(1), 2, x, NULL, 0),
                 *empty = data_make(PIPE_SHAPE(1), 0, x, NULL, 0);
    pipe_context *ctx = test_context("fit", 3);
    pipe_batch *b = NULL;

    OK(pipe_batch_new(ctx, d, 2, 0, &b, &err));
    cr_expect_null(pipe_batch_field(b, "label"));
    check_failure(pipe_check(pipe_batch_need(b, "label"), &err), PIPE_ENOTFOUND, &err,
                  "data|`label`|it has: x", "a missing field");
    pipe_batch_free(b);
    OK(pipe_batch_new(ctx, NULL, 2, 0, &b, &err));
    cr_expect_null(pipe_batch_field(b, "x"));
    check_failure(pipe_check(pipe_batch_need(b, "x"), &err), PIPE_ENOTFOUND, &err, "needs data|`x`|`data`",
                  "no data set at all");
    pipe_batch_free(b);
    check_failure(pipe_batch_new(ctx, empty, 2, 0, &b, &err), PIPE_EINVAL, &err, "data is empty", "empty");
    check_failure(pipe_batch_new(ctx, d, 0, 0, &b, &err), PIPE_EINVAL, &err, "at least one row", "no rows");
    pipe_object_unref(empty);
    pipe_object_unref(d);
}

Test(batch, reports_are_kept_in_order)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *ctx = test_context("fit", 3);
    pipe_batch *b = NULL;
    const char *name;
    pipe_tensor *value;

    OK(pipe_batch_new(ctx, NULL, 4, 9, &b, &err));
    cr_expect_eq(pipe_batch_step(b), 9);
    cr_expect_eq(pipe_batch_key(b, "noise").step, 9);
    cr_expect_neq(pipe_batch_key(b, "noise").stream, pipe_batch_key(b, "time").stream);
    pipe_batch_report(b, "a", pipe_constant(test_engine(), 1));
    pipe_batch_report(b, "b", pipe_constant(test_engine(), 2));
    cr_assert(pipe_batch_reported(b, 0, &name, &value));
    cr_expect_str_eq(name, "a");
    cr_assert(pipe_batch_reported(b, 1, &name, &value));
    cr_expect_str_eq(name, "b");
    cr_expect_not(pipe_batch_reported(b, 2, &name, &value));
    pipe_batch_free(b);
}
