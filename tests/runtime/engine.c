/* Recording, evaluation, holds, assignments, poison, plans. */
#include "runtime/rows.h"


static void expect(pipe_tensor *t, size_t n, const float *want)
{
    float *got = test_read(t);
    cr_assert_eq((size_t)pipe_count(t), n);
    for (size_t k = 0; k < n; k++)
        cr_assert_float_eq(got[k], want[k], 1e-5f * (1.0f + fabsf(want[k])), "element %zu: %g, not %g", k,
                           (double)got[k], (double)want[k]);
    pipe_free(got);
}

static pipe_tensor *three(pipe_engine *e, float a, float b, float c)
{
    return pipe_from_f32(e, PIPE_SHAPE(3), (float[]){a, b, c});
}

/* Launches of what has been recorded. */
static uint64_t launches_of_eval(pipe_engine *e)
{
    const uint64_t before = pipei_engine_stats_get(e).launches;
    OK(pipe_eval(e, &err_));
    return pipei_engine_stats_get(e).launches - before;
}

Test(engine, broadcasts)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *b = pipe_from_f32(e, PIPE_SHAPE(2, 1), (float[]){10, 20});
    expect(row_affine(row_add(three(e, 1, 2, 3), b), 2, 1), 6, (float[]){23, 25, 27, 43, 45, 47});
    pipei_engine_free(e);
}

Test(engine, lowered_ops_with_scratch_and_names_in_common)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *a = three(e, 1, 2, 3);
    pipe_tensor *r = row_reverse(row_add(a, a));
    expect(row_add(r, row_total(r)), 3, (float[]){18, 16, 14});
    pipei_engine_free(e);
}

Test(engine, integers)
{
    pipe_engine *e = runtime_engine(NULL);
    int32_t got[3];
    pipe_tensor *i = pipe_from_i32(e, PIPE_SHAPE(3), (int32_t[]){7, -8, 1 << 30});
    pipe_tensor *held = NULL;
    pipe_keep(&held, i);
    OK(pipe_read_i32(row_to_i32(row_affine(three(e, 1.4f, -2.6f, 0.0f), 2.0, 0.0)), got, 3, &err_));
    cr_assert(got[0] == 2 && got[1] == -5 && got[2] == 0);
    OK(pipe_read_i32(held, got, 3, &err_));
    cr_assert(got[0] == 7 && got[1] == -8 && got[2] == 1 << 30);
    expect(row_to_f32(held), 3, (float[]){7, -8, 1 << 30});
    pipei_engine_free(e);
}

/* ---- fusion ---- */

Test(engine, a_chain_is_one_launch)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *kept = NULL, *x = test_source(e, PIPE_SHAPE(1000003), 1);
    pipe_tensor *y = x;
    for (int k = 0; k < 6; k++)
        y = k % 2 ? row_tanh(row_affine(y, 0.5, 0.25)) : row_add(y, x);
    pipe_keep(&kept, y);
    cr_assert_eq(launches_of_eval(e), 1);

    float *got = test_read(kept), *in = pipe_alloc_array(1000003, sizeof *in);
    test_fill(in, 1000003, 1);
    for (size_t k = 0; k < 1000003; k++) {
        double want = in[k];
        for (int j = 0; j < 6; j++)
            want = j % 2 ? tanh(0.5 * want + 0.25) : want + in[k];
        cr_assert_float_eq(got[k], want, 1e-5, "element %zu: %g, not %g", k, (double)got[k], want);
    }
    pipe_free(got);
    pipe_free(in);
    pipei_engine_free(e);
}

Test(engine, several_results_of_one_chain_are_one_launch)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *a = NULL, *b = NULL, *x = three(e, 1, 2, 3);
    pipe_tensor *y = row_mul(x, x);
    pipe_keep(&a, y);
    pipe_keep(&b, row_add(y, x));
    cr_assert_eq(launches_of_eval(e), 1);
    expect(a, 3, (float[]){1, 4, 9});
    expect(b, 3, (float[]){2, 6, 12});
    pipei_engine_free(e);
}

Test(engine, scalars_and_broadcasts_cost_no_launch)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *kept = NULL, *s = pipe_from_f32(e, PIPE_SCALAR, (float[]){4});
    pipe_tensor *row = three(e, 1, 2, 3);
    /* tanh of a scalar, spread twice, a constant: all inside the one kernel. */
    pipe_tensor *wide = row_spread(row_reshape(row, PIPE_SHAPE(1, 3)), PIPE_SHAPE(2, 3));
    pipe_tensor *scale = row_affine(row_tanh(row_affine(s, 0.0, 0.0)), 1.0, 3.0);
    pipe_keep(&kept, row_add(row_mul(wide, scale), row_full(e, PIPE_SHAPE(2, 3), 0.5)));
    cr_assert_eq(launches_of_eval(e), 1);
    expect(kept, 6, (float[]){3.5f, 6.5f, 9.5f, 3.5f, 6.5f, 9.5f});
    pipei_engine_free(e);
}

Test(engine, views_cost_no_launch)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *kept = NULL;
    pipe_tensor *x = pipe_from_f32(e, PIPE_SHAPE(3, 2), (float[]){1, 2, 3, 4, 5, 6});
    pipe_keep(&kept, row_reverse(row_reshape(row_head(x, 1, 2), PIPE_SHAPE(4))));
    cr_assert_eq(launches_of_eval(e), 1);
    expect(kept, 4, (float[]){6, 5, 4, 3});
    pipei_engine_free(e);
}

Test(engine, equal_uses_are_computed_once)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *a = NULL, *b = NULL, *x = three(e, 1, 2, 3);
    pipe_keep(&a, row_reverse(row_tanh(x)));
    pipe_keep(&b, row_reverse(row_tanh(x)));
    cr_assert_eq(launches_of_eval(e), 2);
    expect(b, 3, (float[]){tanhf(3), tanhf(2), tanhf(1)});
    expect(a, 3, (float[]){tanhf(3), tanhf(2), tanhf(1)});
    pipei_engine_free(e);
}

Test(engine, what_nobody_wants_is_not_computed)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *kept = NULL, *x = three(e, 1, 2, 3);
    (void)row_reverse(row_reverse(x));
    (void)row_broken(x);
    pipe_keep(&kept, row_add(x, x));
    cr_assert_eq(launches_of_eval(e), 1);
    (void)row_reverse(kept);
    cr_assert_eq(launches_of_eval(e), 0);
    pipei_engine_free(e);
}

/* A use at another index keeps a value out of the kernel that computes it. */
Test(engine, a_row_of_itself)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *x = pipe_from_f32(e, PIPE_SHAPE(2, 3), (float[]){1, 2, 3, 4, 5, 6});
    pipe_tensor *u = row_mul(x, x);
    pipe_tensor *first = row_spread(row_head(u, 0, 1), PIPE_SHAPE(2, 3));
    expect(row_add(u, first), 6, (float[]){2, 8, 18, 17, 29, 45});
    pipei_engine_free(e);
}

/* Cheap enough to compute again, were it not for the reader of a part. */
Test(engine, a_part_of_something_cheap)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *x = pipe_from_f32(e, PIPE_SHAPE(2, 2), (float[]){1, 2, 3, 4});
    pipe_tensor *part = row_head(row_affine(row_mul(x, row_add(x, x)), 10, 0), 1, 1);
    expect(row_add(part, row_tanh(part)), 2, (float[]){181, 321});
    pipei_engine_free(e);
}

/* ---- epilogues ---- */

Test(engine, elementwise_ops_run_where_a_kernel_stores)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *kept = NULL;
    for (int64_t width = 1; width <= 16; width *= width == 1 ? 4 : 2) {
        pipe_tensor *x = test_source(e, PIPE_SHAPE(5, 7), 1);
        pipe_tensor *bias = test_source(e, PIPE_SHAPE(7), 2), *per_row = test_source(e, PIPE_SHAPE(5, 1), 3);
        pipe_tensor *rest = test_source(e, PIPE_SHAPE(5, 7), 4);
        pipe_tensor *y = row_add(row_mul(row_mirror(x, width), per_row), bias);
        pipe_keep(&kept, row_add(row_affine(row_tanh(y), 2.0, 0.25), rest));
        cr_assert_eq(launches_of_eval(e), 1);
        float a[35], b[7], c[5], d[35], want[35];
        test_fill(a, 35, 1);
        test_fill(b, 7, 2);
        test_fill(c, 5, 3);
        test_fill(d, 35, 4);
        for (size_t k = 0; k < 35; k++)
            want[k] = 2.0f * tanhf(a[34 - k] * c[k / 7] + b[k % 7]) + 0.25f + d[k];
        expect(kept, 35, want);
    }
    pipei_engine_free(e);
}

Test(engine, an_epilogue_stores_what_others_need)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *raw = NULL, *sum = NULL, *top = NULL, *last = NULL;
    pipe_tensor *m = row_mirror(three(e, 1, 2, 3), 4);
    pipe_tensor *s = row_add(m, three(e, 10, 10, 10));
    pipe_keep(&raw, m);
    pipe_keep(&sum, s);
    pipe_keep(&top, row_max(s, row_full(e, PIPE_SCALAR, 12.5)));
    cr_assert_eq(launches_of_eval(e), 1);
    expect(raw, 3, (float[]){3, 2, 1});
    expect(sum, 3, (float[]){13, 12, 11});
    expect(top, 3, (float[]){13, 12.5f, 12.5f});
    /* What comes in between keeps them apart. */
    m = row_mirror(raw, 8);
    pipe_keep(&last, row_add(m, row_reverse(m)));
    cr_assert_eq(launches_of_eval(e), 3);
    expect(last, 3, (float[]){4, 4, 4});
    pipei_engine_free(e);
}

/* The gradient of x lies before the sums for gain and bias: what follows x's does not touch them. */
Test(engine, an_epilogue_behind_the_first_elements)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *in[3] = {NULL}, *w = NULL, *g[3], *alone[3] = {NULL}, *sum = NULL, *gain = NULL;
    pipe_keep(&in[0], test_source(e, PIPE_SHAPE(5, 3, 7), 1));
    pipe_keep(&in[1], test_source(e, PIPE_SHAPE(7), 2));
    pipe_keep(&in[2], test_source(e, PIPE_SHAPE(7), 3));
    pipe_keep(&w, test_source(e, PIPE_SHAPE(5, 3, 7), 4));
    uint64_t launches[2];
    for (int follow = 0; follow < 2; follow++) {
        pipe_tensor *y = pipe_group_norm_affine(in[0], 7, 1e-3, in[1], in[2], PIPE_ACTIVATION_SILU);
        OK(pipe_grad(pipe_sum_all(pipe_mul(y, w)), NULL, in, 3, g, &err_));
        pipe_keep(follow ? &sum : &alone[0], follow ? pipe_add(g[0], in[0]) : g[0]);
        pipe_keep(follow ? &gain : &alone[1], g[1]);
        launches[follow] = launches_of_eval(e);
    }
    cr_assert_eq(launches[1], launches[0], "the sum costs %d launches", (int)(launches[1] - launches[0]));
    float *x = test_read(in[0]), *gx = test_read(alone[0]), *gw = test_read(alone[1]);
    for (int k = 0; k < 105; k++)
        gx[k] += x[k];
    expect(sum, 105, gx);
    expect(gain, 7, gw);
    pipe_free(x);
    pipe_free(gx);
    pipe_free(gw);
    pipei_engine_free(e);
}

/* p leads to c by way of x and of the cluster {left, right}, though x and right were
 * recorded after c: p and c must not be one kernel. */
Test(engine, no_epilogue_across_a_path_through_later_ops)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *c = NULL, *right = NULL;
    pipe_tensor *p = row_mirror(three(e, 1, 2, 3), 4);
    pipe_tensor *left = row_tanh(three(e, 0, 1, 2));
    pipe_keep(&c, row_add(p, row_reverse(left)));
    pipe_tensor *x = row_reverse(p);
    pipe_keep(&right, row_add(left, x));
    OK(pipe_eval(e, &err_));
    expect(c, 3, (float[]){3 + tanhf(2), 2 + tanhf(1), 1});
    expect(right, 3, (float[]){1, tanhf(1) + 2, tanhf(2) + 3});
    pipei_engine_free(e);
}

/* A kernel may evaluate its epilogue twice, so an update in place stays outside. */
Test(engine, an_update_behind_a_kernel_is_in_place)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *w = NULL;
    pipe_keep(&w, three(e, 1, 2, 3));
    OK(pipe_eval(e, &err_));
    const uint64_t used = pipei_device_used_memory(pipei_engine_device(e));
    for (int k = 0; k < 2; k++) {
        OK(pipe_assign(w, row_sub(w, row_affine(row_mirror(w, 4), 0.5, 0)), &err_));
        cr_assert_eq(launches_of_eval(e), 2);
    }
    cr_assert_eq(pipei_device_used_memory(pipei_engine_device(e)), used + 256, "one temporary");
    cr_assert_eq(pipei_device_peak_memory(pipei_engine_device(e)), used + 256);
    expect(w, 3, (float[]){-0.5f - 1.25f, 1 - 0.5f, 2.5f + 0.25f});
    pipei_engine_free(e);
}

Test(engine, temporaries_share_memory)
{
    pipe_engine *e = runtime_engine(NULL);
    const int64_t n = 64 * 1024;
    pipe_tensor *kept = NULL, *y = test_source(e, PIPE_SHAPE(n), 3);
    for (int k = 0; k < 40; k++)
        y = row_reverse(row_add(y, y));
    pipe_keep(&kept, y);
    cr_assert_eq(launches_of_eval(e), 80);
    cr_assert_leq(pipei_engine_stats_get(e).arena_bytes, 3 * (uint64_t)n * 4,
                  "80 temporaries take the memory of two");
    pipei_engine_free(e);
}

/* ---- plans ---- */

/* On a CPU these are the engine's own, in kernels of plugins too. */
Test(engine, kernels_load_and_store_vectors_of_every_type)
{
    pipe_engine *e = runtime_engine(NULL);
    expect(row_vectors(e), 1, (float[]){9 * (4 + 8 + 16) + 4});
    pipei_engine_free(e);
}

Test(engine, plans_are_found_again)
{
    pipe_engine *e = runtime_engine(NULL);
    for (int k = 0; k < 5; k++) {
        const float f = (float)k;
        pipe_tensor *x = three(e, f, f + 1, f + 2);
        expect(row_add(row_affine(x, k, 0.5 * k), row_words(e, 3, (uint32_t)k, 0.5)), 3,
               (float[]){f * f + 0.5f * f + f + 0.5f, f * (f + 1) + 0.5f * f + f + 1.5f,
                         f * (f + 2) + 0.5f * f + f + 2.5f});
    }
    cr_assert_eq(pipei_engine_stats_get(e).plans_built, 1,
                 "scalars, words and leaves are bound, not built in");
    cr_assert_eq(pipei_engine_stats_get(e).plans_replayed, 5);

    static const struct {
        int64_t shape, power;
        const char *why;
    } cases[] = {{3, 2, "an op not seen"}, {4, 2, "another shape"}, {4, 3, "another integer"}};
    for (size_t k = 0; k < 3; k++) {
        for (int again = 0; again < 2; again++)
            pipe_free(test_read(row_power(test_source(e, PIPE_SHAPE(cases[k].shape), 1), cases[k].power)));
        cr_assert_eq(pipei_engine_stats_get(e).plans_built, 2 + k, "%s", cases[k].why);
    }
    pipei_engine_free(e);
}

Test(engine, zero_is_no_other_structure)
{
    pipe_engine *e = runtime_engine(NULL);
    for (int k = 0; k < 3; k++)
        expect(row_affine(three(e, 1, 2, 3), k, 0.0), 3,
               (float[]){(float)k, 2.0f * (float)k, 3.0f * (float)k});
    cr_assert_eq(pipei_engine_stats_get(e).plans_built, 1);
    pipei_engine_free(e);
}

Test(engine, which_leaf_is_used_twice_is_structure)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *a = test_leaf(e, PIPE_SHAPE(3), 1), *b = test_leaf(e, PIPE_SHAPE(3), 2);
    float x[3], y[3];
    test_fill(x, 3, 1);
    test_fill(y, 3, 2);
    expect(row_sub(a, b), 3, (float[]){x[0] - y[0], x[1] - y[1], x[2] - y[2]});
    expect(row_sub(a, a), 3, (float[]){0, 0, 0});
    expect(row_sub(b, a), 3, (float[]){y[0] - x[0], y[1] - x[1], y[2] - x[2]});
    cr_assert_eq(pipei_engine_stats_get(e).plans_built, 2);
    pipei_engine_free(e);
}

static void work(pipe_engine *e, float *out)
{
    pipe_tensor *x = test_source(e, PIPE_SHAPE(7, 131), 5);
    pipe_tensor *y = row_add(row_tanh(row_mul(x, x)), row_total(x));
    OK(pipe_read_f32(row_mul(y, row_total(row_reverse(y))), out, 7 * 131, &err_));
}

Test(engine, results_are_the_same_bits_every_time)
{
    static float first[7 * 131], again[7 * 131];
    pipe_engine *e = runtime_engine(NULL);
    work(e, first);
    work(e, again);
    cr_assert_eq(memcmp(first, again, sizeof first), 0, "replayed");
    pipei_engine_forget_plans(e);
    work(e, again);
    cr_assert_eq(memcmp(first, again, sizeof first), 0, "planned again");
    pipei_engine_free(e);
    e = runtime_engine(NULL);
    work(e, again);
    cr_assert_eq(memcmp(first, again, sizeof first), 0, "another engine");
    pipei_engine_free(e);
}

/* What a kept tensor holds stays, everything else goes: temporaries, idle buffers, tensors that were let go. */
Test(engine, trimming_leaves_what_is_kept)
{
    static float first[7 * 131], again[7 * 131];
    pipe_engine *e = runtime_engine(NULL);
    const pipei_device *d = pipei_engine_device(e);
    pipe_tensor *kept = NULL, *late = NULL;

    work(e, first);
    pipei_engine_trim(e);
    cr_assert_eq(pipei_device_used_memory(d), 0, "%llu bytes", (unsigned long long)pipei_device_used_memory(d));
    pipe_keep(&kept, three(e, 1, 2, 3));
    OK(pipe_eval(e, &err_));
    const uint64_t three_bytes = pipei_device_used_memory(d);
    work(e, again);
    cr_assert_eq(memcmp(first, again, sizeof first), 0, "the same plan, in other memory");
    cr_expect_gt(pipei_device_used_memory(d), three_bytes, "an evaluation leaves nothing to be trimmed");
    pipei_engine_trim(e);
    cr_expect_eq(pipei_device_used_memory(d), three_bytes);
    pipe_keep(&late, row_add(kept, kept)); /* recorded, and not computed yet */
    pipe_keep(&kept, NULL);
    pipei_engine_trim(e);
    cr_expect_eq(pipei_device_used_memory(d), three_bytes, "the sum has taken the place of its source");
    expect(late, 3, (float[]){2, 4, 6});
    pipe_keep(&late, NULL);
    pipei_engine_trim(e);
    cr_expect_eq(pipei_device_used_memory(d), 0);
    pipei_engine_free(e);
}

/* ---- holds ---- */

Test(engine, kept_tensors_become_leaves)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *a = NULL, *b = NULL, *x = three(e, 1, 2, 3);
    pipe_tensor *y = row_add(x, x);
    pipe_keep(&a, y);
    pipe_keep(&b, y);
    OK(pipe_eval(e, &err_));
    cr_assert_eq(pipe_check(x, NULL), PIPE_EINVAL, "a source lives as long as its recording");
    cr_assert_eq(pipe_check(a, NULL), PIPE_OK);
    pipe_keep(&a, NULL);
    OK(pipe_eval(e, &err_));
    expect(b, 3, (float[]){2, 4, 6});
    pipe_tensor *z = row_add(b, b);             /* released while the recording uses it */
    pipe_keep(&b, NULL);
    expect(z, 3, (float[]){4, 8, 12});
    cr_assert_eq(pipe_check(y, NULL), PIPE_EINVAL, "nobody holds it now");
    pipei_engine_free(e);
}

Test(engine, a_slot_moves_on)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *state = NULL;
    uint64_t used = 0;
    pipe_keep(&state, three(e, 1, 1, 1));
    for (int k = 0; k < 20; k++) {
        pipe_keep(&state, row_add(state, state));
        OK(pipe_eval(e, &err_));
        if (k == 3)
            used = pipei_device_used_memory(pipei_engine_device(e));
    }
    cr_assert_eq(pipei_device_used_memory(pipei_engine_device(e)), used,
                 "memory does not grow with the steps");
    expect(state, 3, (float[]){1048576, 1048576, 1048576});
    pipei_engine_free(e);
}

Test(engine, views_of_leaves_are_kept_as_copies)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *x = NULL, *head = NULL, *again = NULL, *y = NULL;
    pipe_keep(&x, pipe_from_f32(e, PIPE_SHAPE(2, 2), (float[]){1, 2, 3, 4}));
    OK(pipe_eval(e, &err_));
    pipe_keep(&head, row_head(x, 1, 1));
    pipe_keep(&again, row_reshape(x, PIPE_SHAPE(4)));
    pipe_tensor *sum = row_add(x, x);
    pipe_keep(&y, row_reshape(sum, PIPE_SHAPE(4)));
    OK(pipe_assign(x, sum, &err_));
    OK(pipe_eval(e, &err_));
    expect(head, 2, (float[]){3, 4});
    expect(again, 4, (float[]){1, 2, 3, 4});
    expect(x, 4, (float[]){2, 4, 6, 8});
    expect(y, 4, (float[]){2, 4, 6, 8});
    pipei_engine_free(e);
}

/* ---- assignments ---- */

Test(engine, assignment_shows_after_the_evaluation)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *w = NULL, *before = NULL, *after = NULL;
    pipe_keep(&w, three(e, 1, 2, 3));
    OK(pipe_eval(e, &err_));
    pipe_keep(&before, row_reverse(w));
    OK(pipe_assign(w, row_affine(w, 10, 0), &err_));
    pipe_keep(&after, row_reverse(w));
    OK(pipe_eval(e, &err_));
    expect(before, 3, (float[]){3, 2, 1});
    expect(after, 3, (float[]){3, 2, 1});
    expect(w, 3, (float[]){10, 20, 30});
    pipei_engine_free(e);
}

Test(engine, leaves_swap)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *a = NULL, *b = NULL;
    pipe_keep(&a, three(e, 1, 2, 3));
    pipe_keep(&b, three(e, 4, 5, 6));
    OK(pipe_eval(e, &err_));
    for (int k = 0; k < 2; k++) {               /* once planned, once replayed */
        OK(pipe_assign(a, b, &err_));
        OK(pipe_assign(b, a, &err_));
        OK(pipe_eval(e, &err_));
    }
    OK(pipe_assign(a, b, &err_));
    OK(pipe_assign(b, row_add(a, b), &err_));
    OK(pipe_eval(e, &err_));
    expect(a, 3, (float[]){4, 5, 6});
    expect(b, 3, (float[]){5, 7, 9});
    pipei_engine_free(e);
}

Test(engine, an_update_is_written_in_place)
{
    pipe_engine *e = runtime_engine(NULL);
    const int64_t n = 1 << 16;
    pipe_tensor *p = test_leaf(e, PIPE_SHAPE(n), 1), *m = test_leaf(e, PIPE_SHAPE(n), 2);
    pipe_tensor *g = test_leaf(e, PIPE_SHAPE(n), 3);
    float *x = test_read(p), *y = test_read(m), *z = test_read(g);
    const uint64_t used = pipei_device_used_memory(pipei_engine_device(e));
    for (int step = 0; step < 3; step++) {
        pipe_tensor *momentum = row_add(row_affine(m, 0.9, 0), row_affine(g, 0.1, 0));
        OK(pipe_assign(m, momentum, &err_));
        OK(pipe_assign(p, row_sub(p, row_affine(momentum, 0.5, 0)), &err_));
        cr_assert_eq(launches_of_eval(e), 1);
        for (int64_t k = 0; k < n; k++) {
            y[k] = 0.9f * y[k] + 0.1f * z[k];
            x[k] = x[k] - 0.5f * y[k];
        }
    }
    cr_assert_eq(pipei_device_peak_memory(pipei_engine_device(e)), used, "no second copy of the weights");
    expect(p, (size_t)n, x);
    expect(m, (size_t)n, y);
    pipe_free(x);
    pipe_free(y);
    pipe_free(z);
    pipei_engine_free(e);
}

/* A reader at another index, or a later reader: then the old value must survive. */
Test(engine, an_update_waits_for_other_readers)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *w = NULL, *r = NULL;
    pipe_keep(&w, pipe_from_f32(e, PIPE_SHAPE(2, 2), (float[]){1, 2, 3, 4}));
    OK(pipe_eval(e, &err_));
    OK(pipe_assign(w, row_add(w, row_head(w, 0, 1)), &err_));
    OK(pipe_eval(e, &err_));
    expect(w, 4, (float[]){2, 4, 4, 6});
    pipe_tensor *doubled = row_add(w, w);
    OK(pipe_assign(w, doubled, &err_));
    pipe_keep(&r, row_add(row_reverse(doubled), row_reverse(w)));
    OK(pipe_eval(e, &err_));
    expect(w, 4, (float[]){4, 8, 8, 12});
    expect(r, 4, (float[]){18, 12, 12, 6});
    pipei_engine_free(e);
}

/* ---- what is made of leaves and kept ---- */
/* 9 numbers times 9 weights; expects `launches` kernels, one of which packs. */
static void expect_product(pipe_engine *e, pipe_tensor *x, pipe_tensor *w, float factor, float want,
                           uint64_t launches)
{
    pipe_tensor *y = NULL;
    pipe_keep(&y, pipe_conv2d(x, w, (pipe_conv){0}));
    if (factor != 1.0f)                         /* another plan */
        pipe_keep(&y, row_affine(y, factor, 0));
    cr_expect_eq(launches_of_eval(e), launches, "%g: not %d launches", (double)want, (int)launches);
    expect(y, 1, (float[]){want});
    pipe_keep(&y, NULL);
}

Test(engine, weights_are_packed_when_they_have_changed)
{
    pipe_engine *e = runtime_engine("avx2");
    const float numbers[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, ones[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    pipe_tensor *x = NULL, *w = NULL, *y = NULL;
    pipe_keep(&x, pipe_from_f32(e, PIPE_SHAPE(1, 3, 3, 1), numbers));
    pipe_keep(&w, pipe_from_f32(e, PIPE_SHAPE(3, 3, 1, 1), ones));
    expect_product(e, x, w, 1, 45, 2);
    expect_product(e, x, w, 1, 45, 1);
    expect_product(e, x, w, 2, 90, 1);          /* another plan finds them */
    OK(pipei_tensor_write(w, numbers, sizeof numbers, &err_));
    expect_product(e, x, w, 2, 570, 2);
    expect_product(e, x, w, 1, 285, 1);
    OK(pipe_assign(w, row_affine(w, 10, 0), &err_));
    OK(pipe_eval(e, &err_));
    expect_product(e, x, w, 1, 2850, 2);
    expect_product(e, x, w, 1, 2850, 1);

    /* A plan that writes the weights packs them every time. */
    for (int step = 0; step < 2; step++) {
        pipe_keep(&y, pipe_conv2d(x, w, (pipe_conv){0}));
        OK(pipe_assign(w, row_affine(w, 0.1, 0), &err_));
        cr_expect_eq(launches_of_eval(e), 3, "step %d", step);
        expect(y, 1, (float[]){step == 0 ? 2850 : 285});
    }
    expect_product(e, x, w, 1, 28.5f, 2);
    pipe_keep(&x, NULL);
    pipe_keep(&w, NULL);
    pipe_keep(&y, NULL);
    pipei_engine_free(e);
}

Test(engine, the_last_assignment_counts)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *w = NULL, *x = NULL;
    pipe_keep(&w, three(e, 1, 2, 3));
    pipe_keep(&x, three(e, 7, 8, 9));
    OK(pipe_eval(e, &err_));
    OK(pipe_assign(w, row_affine(w, 2, 0), &err_));
    OK(pipe_assign(w, row_affine(w, 3, 0), &err_));
    OK(pipe_assign(x, w, &err_));
    OK(pipe_eval(e, &err_));
    expect(w, 3, (float[]){3, 6, 9});
    expect(x, 3, (float[]){1, 2, 3});
    pipei_engine_free(e);
}

Test(engine, assignments_that_cannot_be)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *w = NULL;
    pipe_keep(&w, three(e, 1, 2, 3));
    cr_assert_eq(pipe_assign(w, test_source(e, PIPE_SHAPE(4), 1), &err), PIPE_ESHAPE);
    cr_assert(strstr(err.message, "[3]") && strstr(err.message, "[4]"), "%s", err.message);
    cr_assert_eq(pipe_assign(w, row_to_i32(w), &err), PIPE_ESHAPE);
    cr_assert_eq(pipe_assign(row_add(w, w), w, &err), PIPE_EINVAL, "not a leaf");
    cr_assert_eq(pipe_assign(w, NULL, &err), PIPE_EINVAL);
    cr_assert_eq(pipe_assign(w, pipe_poison(e, PIPE_EDOMAIN, "spoilt"), &err), PIPE_EDOMAIN);
    cr_assert_str_eq(err.message, "spoilt");
    expect(w, 3, (float[]){1, 2, 3});
    pipei_engine_free(e);
}

/* ---- errors ---- */

Test(engine, poison_names_the_op_and_the_shapes)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *bad = row_add(test_source(e, PIPE_SHAPE(3, 4), 1), test_source(e, PIPE_SHAPE(5), 1));
    pipe_tensor *later = row_tanh(row_mul(row_full(e, PIPE_SCALAR, 1), bad));
    cr_assert_eq(pipe_check(later, &err), PIPE_ESHAPE);
    cr_assert(strstr(err.message, "test.add") && strstr(err.message, "[3, 4]") && strstr(err.message, "[5]"),
              "%s", err.message);
    float x;
    cr_assert_eq(pipe_read_f32(later, &x, 1, &err), PIPE_ESHAPE);
    OK(pipe_eval(e, &err_));                    /* nobody keeps it */

    pipe_tensor *kept = NULL, *good = NULL;
    pipe_keep(&good, three(e, 1, 2, 3));
    OK(pipe_eval(e, &err_));
    bad = row_add(good, test_source(e, PIPE_SHAPE(2), 1));
    pipe_keep(&kept, bad);
    cr_assert_eq(pipe_eval(e, &err), PIPE_ESHAPE);
    cr_assert(strstr(err.message, "test.add"), "%s", err.message);
    cr_assert_eq(pipe_check(kept, NULL), PIPE_ESHAPE, "it stays what it is");
    OK(pipe_eval(e, &err_));
    expect(good, 3, (float[]){1, 2, 3});
    pipei_engine_free(e);
}

Test(engine, inputs_that_cannot_be)
{
    pipe_engine *e = runtime_engine(NULL), *other = runtime_engine(NULL);
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *x = three(e, 1, 2, 3), *slot = NULL;
    const struct {
        pipe_tensor *t;
        const char *says;
    } cases[] = {
        {row_add(x, NULL), "input 1 is NULL"},
        {row_add(NULL, x), "NULL"},
        {row_add(NULL, NULL), "NULL"},
        {row_add(x, row_add(NULL, NULL)), "NULL"},
        {row_add(x, three(other, 1, 2, 3)), "another engine"},
        {pipe_op_apply(e, test_rows[0], (pipe_tensor *[]){x}, 1, NULL), "takes 2 inputs, not 1"},
        {pipe_from_f32(e, PIPE_SHAPE(3, -1), NULL), "shape"},
        {row_full(e, PIPE_SHAPE(1ll << 40, 1ll << 40), 0), "shape"},
        {pipe_poison(e, PIPE_OK, "a poison must have a status"), "status"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        cr_assert_neq(pipe_check(cases[k].t, &err), PIPE_OK, "case %zu", k);
        cr_assert(strstr(err.message, cases[k].says), "case %zu: %s", k, err.message);
    }
    pipe_keep(&slot, row_add(NULL, NULL));      /* belongs to no engine: holding it does nothing */
    pipe_keep(&slot, NULL);

    OK(pipe_eval(e, &err_));
    pipe_tensor *stale = row_add(x, three(e, 1, 2, 3));
    cr_assert_neq(pipe_check(stale, &err), PIPE_OK);
    cr_assert(strstr(err.message, "pipe_keep"), "%s", err.message);
    pipei_engine_free(other);
    pipei_engine_free(e);
}

Test(engine, reads_that_cannot_be)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *x = NULL;
    float room[4];
    int32_t whole[3];
    pipe_keep(&x, three(e, 1, 2, 3));
    cr_assert_eq(pipe_read_f32(x, room, 4, &err), PIPE_ESHAPE);
    cr_assert(strstr(err.message, "[3]"), "%s", err.message);
    cr_assert_eq(pipe_read_i32(x, whole, 3, &err), PIPE_ESHAPE);
    cr_assert_eq(pipe_read_f32(NULL, room, 1, &err), PIPE_EINVAL);
    OK(pipe_read_f32(x, room, 3, &err_));
    cr_assert_eq(pipei_tensor_write(x, room, 4, &err), PIPE_ESHAPE);
    OK(pipei_tensor_write(x, (float[]){4, 5, 6}, 12, &err_));
    expect(x, 3, (float[]){4, 5, 6});
    pipei_engine_free(e);
}

Test(engine, a_kernel_that_does_not_compile)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *x = NULL, *bad = NULL;
    pipe_keep(&x, three(e, 1, 2, 3));
    pipe_keep(&bad, row_broken(row_add(x, x)));
    cr_assert_eq(pipe_eval(e, &err), PIPE_EDEVICE);
    cr_assert(strstr(err.message, "test.broken") && strstr(err.message, "undeclared"), "%s", err.message);
    cr_assert_eq(pipe_check(bad, NULL), PIPE_EDEVICE);
    expect(row_add(x, x), 3, (float[]){2, 4, 6});
    pipei_engine_free(e);
}

Test(engine, discarded_recordings)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *x = NULL, *y = NULL;
    pipe_keep(&x, three(e, 1, 2, 3));
    OK(pipe_eval(e, &err_));
    pipe_keep(&y, row_add(x, x));
    OK(pipe_assign(x, y, &err_));
    cr_assert_eq(pipe_dim(y, -1), 3);
    pipei_engine_discard(e);
    cr_assert_neq(pipe_check(y, &err), PIPE_OK);
    cr_assert_eq(launches_of_eval(e), 0);
    expect(x, 3, (float[]){1, 2, 3});
    pipei_engine_free(e);
}

Test(engine, empty_tensors)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *kept = NULL, *x = pipe_from_f32(e, PIPE_SHAPE(0, 3), NULL);
    pipe_keep(&kept, row_tanh(row_add(x, three(e, 1, 2, 3))));
    cr_assert_eq(launches_of_eval(e), 0);
    cr_assert_eq(pipe_count(kept), 0);
    expect(row_total(row_affine(kept, 2, 0)), 1, (float[]){0});
    pipei_engine_free(e);
}

Test(engine, nothing_recorded_is_free)
{
    pipe_engine *e = runtime_engine(NULL);
    OK(pipe_eval(e, &err_));
    OK(pipe_finish(e, &err_));
    cr_assert_eq(pipei_engine_stats_get(e).plans_built, 0);
    pipei_engine_free(e);
}

/* ---- many evaluations ---- */

Test(engine, a_long_loop_without_waiting)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *w = test_leaf(e, PIPE_SHAPE(4096), 1);
    float *want = test_read(w);
    for (int k = 0; k < 500; k++) {
        pipe_tensor *x = test_source(e, PIPE_SHAPE(4096), (uint64_t)k);
        OK(pipe_assign(w, row_add(row_affine(w, 0.9, 0), row_affine(x, 0.1, 0)), &err_));
        OK(pipe_eval(e, &err_));
    }
    float *x = pipe_alloc_array(4096, sizeof *x);
    for (int k = 0; k < 500; k++) {
        test_fill(x, 4096, (uint64_t)k);
        for (int j = 0; j < 4096; j++)
            want[j] = 0.9f * want[j] + 0.1f * x[j];
    }
    expect(w, 4096, want);
    cr_assert_eq(pipei_engine_stats_get(e).plans_built, 1);
    cr_assert_leq(pipei_device_peak_memory(pipei_engine_device(e)), 8 * 4096 * 4);
    pipe_free(x);
    pipe_free(want);
    pipei_engine_free(e);
}

Test(engine, profiles_tell_what_runs)
{
    pipe_engine *e = runtime_engine(NULL);
    const pipei_profile_row *rows;
    pipe_tensor *x = test_leaf(e, PIPE_SHAPE(100000), 1);
    OK(pipei_engine_profile(e, true, &err_));
    for (int k = 0; k < 3; k++) {
        pipei_engine_label(e, k < 2 ? "first" : "second");
        pipe_free(test_read(row_total(row_reverse(row_tanh(x)))));
    }
    OK(pipei_engine_profile(e, false, &err_));
    pipe_free(test_read(row_reverse(x)));
    const size_t n = pipei_engine_profile_rows(e, &rows);
    uint64_t launches = 0;
    for (size_t k = 0; k < n; k++) {
        launches += rows[k].launches;
        cr_assert(rows[k].seconds > 0.0 && rows[k].seconds < 60.0);
        cr_assert(strcmp(rows[k].label, "first") == 0 || strcmp(rows[k].label, "second") == 0);
        if (strcmp(rows[k].label, "first") == 0 && strcmp(rows[k].op, "test.total") == 0)
            cr_assert_eq(rows[k].launches, 4, "two launches, twice");
    }
    cr_assert_eq(n, 6, "tanh, reverse and total under two labels");
    cr_assert_eq(launches, 12);
    pipei_engine_free(e);
}

/* ---- what a tensor is ---- */

Test(engine, shapes)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_tensor *x = test_source(e, PIPE_SHAPE(2, 3, 4), 1);
    char text[PIPE_SHAPE_TEXT];
    cr_assert_eq(pipe_dim(x, 0), 2);
    cr_assert_eq(pipe_dim(x, -1), 4);
    cr_assert_eq(pipe_dim(x, 3), 0);
    cr_assert_eq(pipe_dim(x, -4), 0);
    cr_assert_eq(pipe_count(x), 24);
    cr_assert_eq(pipe_rank(x), 3);
    cr_assert_str_eq(pipe_shape_text(pipe_tensor_shape(x), text, sizeof text), "[2, 3, 4]");
    cr_assert_str_eq(pipe_shape_text(&PIPE_SCALAR, text, sizeof text), "[]");
    cr_assert_str_eq(pipe_shape_text(pipe_tensor_shape(x), text, 5), "[2, ");
    cr_assert(!pipe_shape_equal(&PIPE_SHAPE(2, 3), &PIPE_SHAPE(3, 2)));
    cr_assert_eq(pipe_tensor_engine(x), e);
    cr_assert_eq(pipe_tensor_engine(NULL), NULL);
    cr_assert_eq(pipe_rank(NULL), 0);
    pipei_engine_free(e);
}

Test(engine, op_rows_are_registered_once)
{
    pipe_error err = PIPE_ERROR_INIT;
    const size_t n = pipei_op_count();
    OK(pipe_op_register(test_rows, &err_));
    cr_assert_eq(pipe_op_register(test_rows, &err), PIPE_EEXIST);
    cr_assert(strstr(err.message, "test.add"), "%s", err.message);
    cr_assert_eq(pipei_op_count(), n + 20);
    cr_assert_eq(pipei_op_find("test.add"), test_rows[0]);
    cr_assert_eq(pipei_op_at(n), test_rows[0]);
    cr_assert_eq(pipei_op_at(n + 20), NULL);
    cr_assert_eq(pipei_op_find("test.none"), NULL);

    static const pipe_op nameless = {PIPE_OP_INIT}, idle = {PIPE_OP_INIT, .name = "test.idle"},
                         old = {.name = "test.old"};
    const pipe_op *const bad[] = {&nameless, &idle, &old};
    for (size_t k = 0; k < 3; k++)
        cr_assert_eq(pipe_op_register((const pipe_op *const[]){bad[k], NULL}, &err), PIPE_EPLUGIN);
}
