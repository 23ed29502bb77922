/* Models: names, layout, initial values, files, taps, binding, and what they say
 * when something does not fit. */
#include "core/model/model.h"
#include "support/folder.h"
#include "support/objects.h"

#include <criterion/criterion.h>
#include <math.h>
#include <pipe/io.h>
#include <pipe/pipe.h>

/* ---- a network of which the test can change what it asks for ---- */
typedef struct {
    int64_t width;
    bool renamed, reversed, with_bias;
} state;

static const pipe_param params[] = {
    PIPE_INT(state, width, 5, 1, 1000, NULL, "of the hidden layer"),
    PIPE_BOOL(state, renamed, false, "another name for a layer"),
    PIPE_BOOL(state, reversed, false, "asks for its weights in another order"),
    PIPE_BOOL(state, with_bias, true, "in the last layer"), PIPE_PARAM_END};

static pipe_tensor *encode(void *self, pipe_model *m, pipe_tensor *x)
{
    const state *st = self;
    const pipe_init init = {.kind = PIPE_INIT_NORMAL, .value = 0.5};
    pipe_tensor *gain = NULL;

    if (st->reversed)
        gain = pipe_weight(m, "zz.gain", PIPE_SHAPE(st->width), (pipe_init){.kind = PIPE_INIT_ONES});
    pipe_scope_push(m, "block.%d", 0);
    pipe_tensor *h = pipe_layer_linear(m, st->renamed ? "other" : "first", x, st->width);
    pipe_scope_pop(m);
    if (!gain)
        gain = pipe_weight(m, "zz.gain", PIPE_SHAPE(st->width), (pipe_init){.kind = PIPE_INIT_ONES});
    h = pipe_tap(m, "hidden", pipe_tanh(pipe_mul(h, gain)));
    pipe_tensor *count = pipe_buffer(m, "count", PIPE_SHAPE(2), 3.0);
    if (pipe_model_training(m)) {
        pipe_error err = PIPE_ERROR_INIT;
        const pipe_status status = pipe_assign(count, pipe_affine(count, 1.0, 1.0), &err);
        if (status != PIPE_OK)
            return pipe_poison(pipe_model_engine(m), status, "%s", err.message);
    }
    return pipe_layer_linear_with(m, "last", h, 2, st->with_bias, init);
}

static const pipe_plugin plugin = {
    PIPE_ABI(PIPE_KIND_ENCODER),   .name = "encoder.test", .version = "1.0.0",
    .flags = PIPE_TRAINABLE,       .params = params,       .state_size = sizeof(state),
    .encoder = {.encode = encode},
};

static pipe_object *object(uint64_t seed, const char *const *given)
{
    pipe_object *o = NULL;
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipei_object_create(&plugin, "net", given, NULL, 0, test_context("net", seed), &o, &err));
    return test_hold(o);
}

static pipe_tensor *input(void)
{
    const float x[] = {0.5f, -1.0f, 2.0f, 0.25f, 1.0f, -0.75f};
    return pipe_from_f32(test_engine(), PIPE_SHAPE(2, 3), x);
}

static pipe_object *built(uint64_t seed, const char *const *given)
{
    pipe_object *o = object(seed, given);
    pipe_model *m = pipe_object_model(o);
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipe_model_build_begin(m, &err));
    OK(pipe_check(pipe_encode(o, input()), &err));
    OK(pipe_model_build_end(m, &err));
    return o;
}

static void outputs(pipe_object *o, float out[4])
{
    pipe_error err = PIPE_ERROR_INIT;
    OK(pipe_read_f32(pipe_encode(o, input()), out, 4, &err));
}

static float *slab_of(const pipe_object *o)
{
    const pipe_model *m = pipe_object_model(o);
    pipe_error err = PIPE_ERROR_INIT;
    float *v = test_hold(pipe_alloc_array((size_t)pipe_model_count(m), sizeof *v));

    OK(pipe_read_f32(pipe_model_flat(m), v, (size_t)pipe_model_count(m), &err));
    return v;
}

/* ---- layout and initial values ---- */

Test(model, lays_weights_out_by_name)
{
    static const struct {
        const char *name;
        int64_t count, offset;
    } want[] = {
        {"block.0.first.bias", 5, 0}, {"block.0.first.weight", 15, 32},
        {"last.bias", 2, 64},         {"last.weight", 10, 96},
        {"zz.gain", 5, 128},
    };
    pipe_object *o = built(1, NULL);
    const pipe_weight_info *w;
    const size_t n = pipe_model_weights(pipe_object_model(o), &w);
    float *slab = slab_of(o);

    cr_assert_eq(n, 5);
    cr_expect_eq(pipe_model_count(pipe_object_model(o)), 160);
    cr_expect_eq(pipe_model_parameters(pipe_object_model(o)), 37);
    for (size_t k = 0; k < n; k++) {
        cr_expect_str_eq(w[k].name, want[k].name);
        cr_expect_eq(pipe_shape_count(&w[k].shape), want[k].count);
        cr_expect_eq(w[k].offset, want[k].offset);
        for (int64_t j = want[k].count; j < 32; j++)
            cr_expect_eq(slab[w[k].offset + j], 0.0f, "padding of %s", w[k].name);
    }
}

Test(model, starts_as_the_layers_say)
{
    pipe_object *o = built(1, NULL);
    float *slab = slab_of(o), spread = 0.0f;
    const float bound = 1.0f / sqrtf(3.0f); /* 3 inputs */

    for (int k = 0; k < 15; k++) {
        cr_expect(fabsf(slab[32 + k]) <= bound);
        spread = fmaxf(spread, fabsf(slab[32 + k]));
    }
    cr_expect(spread > 0.5f * bound, "all 15 weights below %g", spread);
    cr_expect(slab[0] != 0.0f && fabsf(slab[0]) <= bound, "PyTorch draws biases too");
    cr_expect_eq(slab[64], 0.0f, "the bias of a normal layer starts at 0");
    cr_expect_eq(slab[128 + 4], 1.0f);
}

Test(model, starts_with_the_same_bits)
{
    static const char *const reversed[] = {"reversed", "true", NULL};
    float *a = slab_of(built(1, NULL)), *b = slab_of(built(1, NULL)), *c = slab_of(built(2, NULL)),
          *d = slab_of(built(1, reversed));

    cr_expect_arr_eq(a, b, 160 * sizeof *a, "same seed");
    cr_expect_arr_eq(a, d, 160 * sizeof *a, "the order of asking does not matter");
    cr_expect_neq(a[32], c[32], "another seed");
}

Test(model, time_features_are_sines_then_cosines)
{
    const float t[] = {0.0f, 1.0f, 250.0f};
    float got[3 * 7];
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipe_read_f32(pipe_timestep_embedding(pipe_from_f32(test_engine(), PIPE_SHAPE(3), t), 7, 10000.0), got,
                     21, &err));
    for (int r = 0; r < 3; r++) {
        for (int k = 0; k < 3; k++) {
            const double angle = t[r] * pow(10000.0, -k / 3.0);
            cr_expect(fabs(got[7 * r + k] - sin(angle)) < 2e-5, "sine %d of t = %g", k, t[r]);
            cr_expect(fabs(got[7 * r + 3 + k] - cos(angle)) < 2e-5, "cosine %d of t = %g", k, t[r]);
        }
        cr_expect_eq(got[7 * r + 6], 0.0f, "an odd width is filled with 0");
    }
}

/* ---- what is said ---- */

Test(model, says_that_there_are_no_weights)
{
    pipe_object *o = object(1, NULL);
    pipe_error err = PIPE_ERROR_INIT;

    check_failure(pipe_check(pipe_encode(o, input()), &err), PIPE_EINVAL, &err, "net|no weights yet|fit",
                  "untrained");
    check_failure(pipe_model_save(pipe_object_model(o), "/nowhere", NULL, &err), PIPE_EINVAL, &err,
                  "no weights yet", "saving");
    OK(pipe_model_build_begin(pipe_object_model(o), &err));
    check_failure(pipe_model_build_begin(pipe_object_model(o), &err), PIPE_EINVAL, &err, "being built",
                  "twice");
}

Test(model, says_what_changed)
{
    pipe_object *o = built(1, NULL);
    state *st = pipe_object_state(o);
    pipe_error err = PIPE_ERROR_INIT;

    st->width = 6;
    check_failure(pipe_check(pipe_encode(o, input()), &err), PIPE_ESHAPE, &err,
                  "net|block.0.first.weight|[3, 5]|[3, 6]", "another width");
    st->width = 5;
    st->renamed = true;
    check_failure(pipe_check(pipe_encode(o, input()), &err), PIPE_ENOTFOUND, &err, "block.0.other.weight",
                  "another name");
}

Test(model, layers_refuse_what_they_cannot_take)
{
    pipe_object *o = built(1, NULL);
    pipe_model *m = pipe_object_model(o);
    pipe_error err = PIPE_ERROR_INIT;

    pipe_scope_push(m, "deep");
    check_failure(pipe_check(pipe_layer_conv2d(m, "c", input(), 4, 3, 1), &err), PIPE_ESHAPE, &err,
                  "deep.c|[n, height, width, channels]|[2, 3]", "conv2d of a matrix");
    check_failure(pipe_check(pipe_layer_attention(m, "a", pipe_zeros(test_engine(), PIPE_SHAPE(1, 2, 6)),
                                                  NULL, 4, NULL),
                             &err),
                  PIPE_ESHAPE, &err, "deep.a|heads|[1, 2, 6]", "4 heads of 6 channels");
    pipe_scope_pop(m);
}

/* ---- binding, copying, taps ---- */

Test(model, binds_other_weights)
{
    pipe_object *o = built(1, NULL);
    pipe_model *m = pipe_object_model(o);
    pipe_error err = PIPE_ERROR_INIT;
    float before[4], zero[4], after[4];

    outputs(o, before);
    OK(pipe_model_bind(m, pipe_scale(pipe_model_flat(m), 0.0), &err));
    outputs(o, zero);
    outputs(o, zero); /* bound until the next bind, over evaluations */
    OK(pipe_model_bind(m, NULL, &err));
    outputs(o, after);
    for (int k = 0; k < 4; k++)
        cr_expect_eq(zero[k], 0.0f);
    cr_expect_arr_eq(before, after, sizeof before);
    check_failure(pipe_model_bind(m, input(), &err), PIPE_ESHAPE, &err, "[160]|[2, 3]", "a wrong vector");
}

Test(model, gradients_of_bound_weights_are_theirs)
{
    pipe_object *o = built(1, NULL);
    pipe_model *m = pipe_object_model(o);
    pipe_error err = PIPE_ERROR_INIT;
    float got[160], want[160];
    pipe_tensor *flat = pipe_model_flat(m), *g;

    OK(pipe_grad(pipe_sum_all(pipe_encode(o, input())), NULL, &flat, 1, &g, &err));
    OK(pipe_read_f32(g, want, 160, &err));
    pipe_tensor *leaf = pipe_scale(flat, 1.0);
    OK(pipe_model_bind(m, leaf, &err));
    OK(pipe_grad(pipe_sum_all(pipe_encode(o, input())), NULL, &leaf, 1, &g, &err));
    OK(pipe_read_f32(g, got, 160, &err));
    cr_expect_arr_eq(got, want, sizeof got);
    cr_expect(want[64] == 2.0f, "each bias of the last layer is in 2 rows");
    for (int k = 0; k < 160; k++)
        cr_expect(isfinite(want[k]));
}

Test(model, copies_weights_and_buffers)
{
    static const char *const wider[] = {"width", "6", NULL};
    pipe_object *a = built(1, NULL), *b = built(2, NULL), *c = built(1, wider);
    pipe_error err = PIPE_ERROR_INIT;
    float x[4], y[4];

    OK(pipe_model_copy(pipe_object_model(b), pipe_object_model(a), &err));
    outputs(a, x);
    outputs(b, y);
    cr_expect_arr_eq(x, y, sizeof x);
    check_failure(pipe_model_copy(pipe_object_model(c), pipe_object_model(a), &err), PIPE_ESHAPE, &err,
                  "block.0.first.bias|[5]|[6]", "another width");
}

Test(model, hands_out_what_is_tapped)
{
    pipe_object *o = built(1, NULL);
    pipe_model *m = pipe_object_model(o);
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *hidden = NULL, *none = NULL;
    float h[10];

    pipe_model_tap(m, "hidden", &hidden);
    cr_assert(pipe_encode(o, input()));
    OK(pipe_model_tap_check(m, &err));
    cr_assert_eq(pipe_dim(hidden, 1), 5);
    OK(pipe_read_f32(hidden, h, 10, &err));
    cr_expect(fabsf(h[0]) > 0.0f && fabsf(h[0]) < 1.0f);
    pipe_model_tap(m, "hidden", NULL);
    pipe_model_tap(m, "hiden", &none);
    cr_assert(pipe_encode(o, input()));
    check_failure(pipe_model_tap_check(m, &err), PIPE_ENOTFOUND, &err, "net|`hiden`|hidden", "a wrong name");
}

/* ---- files ---- */

Test(model, file_brings_back_the_same_bits)
{
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipe_format("%s/net.safetensors", folder);
    PIPE_CLEANUP(pipe_safetensors_close_ptr) pipe_safetensors *f = NULL;
    static const char *const metadata[] = {"answer", "42", NULL};
    pipe_object *a = built(1, NULL), *b = object(9, NULL);
    pipe_error err = PIPE_ERROR_INIT;
    const char *name;
    float x[4], y[4], count[2];

    pipe_model_set_training(pipe_object_model(a), true, 0);
    outputs(a, x); /* counts */
    pipe_model_set_training(pipe_object_model(a), false, 0);
    OK(pipe_model_save(pipe_object_model(a), path, metadata, &err));
    OK(pipe_model_load(pipe_object_model(b), path, &err));
    outputs(a, x);
    outputs(b, y);
    cr_expect_arr_eq(x, y, sizeof x);
    cr_expect_arr_eq(slab_of(a), slab_of(b), 160 * sizeof(float));
    OK(pipe_read_f32(pipe_model_buffer_at(pipe_object_model(b), 0, &name), count, 2, &err));
    cr_expect_eq(count[1], 4.0f, "a buffer of 3, counted up once");
    cr_expect_str_eq(name, "count");
    cr_expect_null(pipe_model_buffer_at(pipe_object_model(b), 1, &name));
    OK(pipe_safetensors_open(path, &f, &err));
    cr_expect_str_eq(pipe_safetensors_metadata(f, "answer"), "42");
    cr_expect_eq(pipe_safetensors_count(f), 6);
}

Test(model, says_which_tensors_of_a_file_do_not_fit)
{
    static const struct {
        const char *file[3], *model[3];
        pipe_status status;
        const char *parts, *why;
    } rows[] = {
        {{"renamed", "true", NULL},
         {NULL},
         PIPE_ENOTFOUND,
         "4 of 6 tensors of net matched|missing 2: block.0.first.bias|unexpected 2: block.0.other.bias",
         "renamed"},
        {{"width", "6", NULL},
         {NULL},
         PIPE_ESHAPE,
         "2 of 6 tensors|of another shape 4|last.weight is [6, 2], needed is [5, 2]",
         "shapes"},
        {{"with_bias", "false", NULL},
         {NULL},
         PIPE_ENOTFOUND,
         "5 of 6 tensors|missing 1: last.bias",
         "missing"},
        {{NULL}, {"with_bias", "false", NULL}, PIPE_OK, "", "too many are a warning"},
    };
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipe_format("%s/net.safetensors", folder);
    pipe_error err = PIPE_ERROR_INIT;

    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        pipe_object *a = built(1, rows[k].file), *b = built(1, rows[k].model);
        float *before = slab_of(b);
        OK(pipe_model_save(pipe_object_model(a), path, NULL, &err));
        check_failure(pipe_model_load(pipe_object_model(b), path, &err), rows[k].status, &err, rows[k].parts,
                      rows[k].why);
        if (rows[k].status != PIPE_OK)
            cr_expect_arr_eq(before, slab_of(b),
                             (size_t)pipe_model_count(pipe_object_model(b)) * sizeof(float),
                             "%s: a failed load changes nothing", rows[k].why);
    }
    pipe_object *empty = object(1, NULL);
    PIPE_CLEANUP(pipe_free_ptr) char *nowhere = pipe_format("%s/none.safetensors", folder);
    check_failure(pipe_model_load(pipe_object_model(empty), nowhere, &err), PIPE_ENOTFOUND, &err,
                  "none.safetensors", "no file");
}
