/* generate: samples depend on (seed, index) alone; guidance at scale 1 is none. */
#include "data-plugins/data-test.h"

#include <math.h>
#include <pipe/io.h>
#include <stdio.h>

static pipe_object *mixture(const char *const *params)
{
    pipe_object *s = test_object("schedule", "schedule.cosine", NULL, NULL);
    const pipei_named_object inputs[] = {{"schedule", s}, {NULL, NULL}};
    pipe_object *d = test_object("denoiser", "denoiser.gaussian-mixture", params, inputs);

    pipe_object_unref(s);
    return d;
}

static const char *const four[] = {
    "means", "[-4, 0, 4, 0, 0, 4, 0, -4]", "covariances", "[0.01]", "labels", "true", NULL};

/* Runs generate; the result lives as long as the context. */
static pipe_status generate_in(pipe_context *ctx, pipe_object *denoiser, const char *solver,
                               const char *const *params, pipe_dataset **out, pipe_error *err)
{
    pipe_object *sampler = test_object("sampler", solver, (const char *const[]){"steps", "8", NULL}, NULL);
    const pipei_named_object inputs[] = {{"denoiser", denoiser}, {"sampler", sampler}, {NULL, NULL}};
    const pipe_status status = data_run(ctx, "step", "generate", params, inputs, err);

    if (status == PIPE_OK)
        *out = pipei_context_yielded(ctx, "samples");
    pipe_object_unref(sampler);
    return status;
}

static pipe_dataset *generate(pipe_object *denoiser, const char *solver, const char *const *params)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_dataset *d = NULL;

    OK(generate_in(data_context(NULL), denoiser, solver, params, &d, &err));
    cr_assert_not_null(d);
    return d;
}

Test(generate, labels_are_used_in_turn)
{
    static const struct {
        const char *labels, *index;
        int32_t want[6];
        bool labelled;
    } cases[] = {
        {"none", "0", {0}, false},
        {"[]", "0", {0}, false},
        {"each", "0", {0, 1, 2, 3, 0, 1}, true},
        {"[each]", "3", {3, 0, 1, 2, 3, 0}, true},
        {"[2, 0]", "0", {2, 0, 2, 0, 2, 0}, true},
        {"3", "1", {3, 3, 3, 3, 3, 3}, true},
    };
    static const float mean[4][2] = {{-4, 0}, {4, 0}, {0, 4}, {0, -4}};
    pipe_object *model = mixture(four);

    for (size_t k = 0; k < COUNT(cases); k++) {
        const char *const params[] = {"count",         "6",     "batch",        "4", "labels",
                                      cases[k].labels, "index", cases[k].index, NULL};
        pipe_dataset *d = generate(model, "sampler.ddim", params);
        const pipe_dataset_info info = data_info(d);
        const uint64_t index[] = {0, 1, 2, 3, 4, 5};
        int32_t label[6];
        float x[12];

        cr_assert_eq(info.count, 6);
        cr_assert_eq(info.n_fields, cases[k].labelled ? 2 : 1, "labels: %s", cases[k].labels);
        data_x(d, 0, 6, x);
        if (!cases[k].labelled)
            continue;
        cr_expect_eq(info.field[1].classes, 4);
        data_read(d, "label", index, 6, 0, label);
        cr_expect_arr_eq(label, cases[k].want, sizeof label, "labels: %s", cases[k].labels);
        for (size_t i = 0; i < 6; i++) /* the conditions reach the model: each sample is in its component */
            cr_expect(hypot(x[2 * i] - mean[label[i]][0], x[2 * i + 1] - mean[label[i]][1]) < 1.0,
                      "labels %s: sample %zu at (%g, %g)", cases[k].labels, i, x[2 * i], x[2 * i + 1]);
    }
    pipe_object_unref(model);
}

Test(generate, says_what_is_wrong_with_labels)
{
    static const char *const wrong[] = {
        "4", "-1", "cat", "[1, each]", "[none, 1]", "1.5", "99999999999999999999"};
    pipe_object *model = mixture(four), *bare = mixture((const char *const[]){"means", "[0, 0]", NULL});
    pipe_error err = PIPE_ERROR_INIT;
    pipe_dataset *d = NULL;

    for (size_t k = 0; k < COUNT(wrong); k++)
        check_failure(generate_in(data_context(NULL), model, "sampler.ddim",
                                  (const char *const[]){"labels", wrong[k], NULL}, &d, &err),
                      PIPE_EINVAL, &err, "labels|is not a class|from 0 to 3", wrong[k]);
    check_failure(generate_in(data_context(NULL), bare, "sampler.ddim",
                              (const char *const[]){"labels", "each", NULL}, &d, &err),
                  PIPE_EINVAL, &err, "knows no classes|labels: none", "an unconditional model");
    pipe_object_unref(model);
    pipe_object_unref(bare);
}

/* Whatever the batches, and with a stochastic sampler too. */
Test(generate, samples_are_the_same_bits_in_batches_of_any_size)
{
    static const char *const batches[] = {"1", "3", "4", "10", "64"}, *const solvers[] = {"sampler.ddim",
                                                                                          "sampler.ddpm"};
    pipe_object *model = mixture(four);
    float first[20], x[20];

    for (size_t s = 0; s < COUNT(solvers); s++)
        for (size_t k = 0; k < COUNT(batches); k++) {
            const char *const params[] = {"count", "10", "batch", batches[k], "labels", "each", NULL};
            data_x(generate(model, solvers[s], params), 0, 10, k ? x : first);
            if (k > 0)
                cr_expect_arr_eq(x, first, sizeof x, "%s in batches of %s", solvers[s], batches[k]);
        }
    pipe_object_unref(model);
}

Test(generate, a_sample_can_be_made_again_alone)
{
    pipe_object *model = mixture(four);
    float all[20], one[2], other[2];

    data_x(generate(model, "sampler.ddpm",
                    (const char *const[]){"count", "10", "batch", "4", "labels", "each", "seed", "7", NULL}),
           0, 10, all);
    data_x(generate(model, "sampler.ddpm",
                    (const char *const[]){"count", "1", "index", "6", "labels", "each", "seed", "7", NULL}),
           0, 1, one);
    cr_expect_arr_eq(one, all + 12, sizeof one, "sample 6 alone");
    data_x(generate(model, "sampler.ddpm",
                    (const char *const[]){"count", "1", "index", "6", "labels", "each", "seed", "8", NULL}),
           0, 1, other);
    cr_expect_neq(memcmp(one, other, sizeof one), 0, "another seed");
    data_x(generate(model, "sampler.ddpm",
                    (const char *const[]){"count", "1", "index", "6", "labels", "each", NULL}),
           0, 1, other);
    cr_expect_neq(memcmp(one, other, sizeof one), 0, "the run's seed");
    pipe_object_unref(model);
}

Test(generate, counts_what_the_model_is_asked)
{
    static const struct {
        const char *solver;
        double calls; /* for 8 steps to sigma 0 */
    } rows[] = {{"sampler.ddim", 8}, {"sampler.heun", 15}, {"sampler.pndm", 9}};
    static const char *const params[] = {"count", "10", "batch", "4", NULL}; /* the last batch is filled up */
    pipe_object *model = mixture(four);
    pipe_error err = PIPE_ERROR_INIT;
    pipe_dataset *d;

    for (size_t k = 0; k < COUNT(rows); k++) {
        pipe_context *ctx = data_context(NULL);
        const uint64_t before = pipe_denoiser_evaluations(model);
        OK(generate_in(ctx, model, rows[k].solver, params, &d, &err));
        cr_expect_float_eq(data_reported(ctx, "evaluations"), rows[k].calls, 1e-12, "%s", rows[k].solver);
        cr_expect_eq(pipe_denoiser_evaluations(model) - before, (uint64_t)rows[k].calls * 12, "%s",
                     rows[k].solver);
    }
    pipe_object_unref(model);
}

/* ---- denoisers that go wrong ---- */
typedef struct {
    pipe_schedule *schedule;
} wrapped;
static enum { NAN_AT_ONCE, NO_SCHEDULE, PICTURES } how;

static pipe_status broken_describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    (void)err;
    info->sample = how == PICTURES ? PIPE_SHAPE(3, 2, 1) : PIPE_SHAPE(2);
    info->predicts = PIPE_PREDICT_X0;
    info->schedule = how == NO_SCHEDULE ? NULL : ((wrapped *)self)->schedule;
    return PIPE_OK;
}

/* NaN for positive first coordinates: some samples only. */
static pipe_tensor *broken_predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                                   const pipe_condition *c)
{
    pipe_engine *e = pipe_tensor_engine(x);

    (void)self;
    (void)m;
    (void)l;
    (void)c;
    if (how == PICTURES)
        return pipe_scale(x, 0.5);
    return pipe_where(pipe_less(x, pipe_constant(e, 0.0)), x, pipe_sqrt(pipe_sub(pipe_constant(e, -1.0), x)));
}

static const pipe_input broken_inputs[] = {PIPE_INPUT(wrapped, schedule, PIPE_KIND_SCHEDULE, "its schedule"),
                                           PIPE_INPUT_END};
static const pipe_plugin broken = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "denoiser.broken",
    .version = "1.0.0",
    .inputs = broken_inputs,
    .state_size = sizeof(wrapped),
    .denoiser = {.describe = broken_describe, .predict = broken_predict},
};

Test(generate, a_model_that_fails_is_reported)
{
    pipe_object *s = test_object("schedule", "schedule.cosine", NULL, NULL), *model = NULL;
    const pipei_named_object inputs[] = {{"schedule", s}};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_dataset *d = NULL;

    OK(pipei_object_create(&broken, "broken", NULL, inputs, 1, test_context("broken", 1), &model, &err));
    check_failure(generate_in(data_context(NULL), model, "sampler.ddim",
                              (const char *const[]){"count", "5", "batch", "2", NULL}, &d, &err),
                  PIPE_EDOMAIN, &err,
                  "sampler.ddim: step 1 of 8: sample |is not finite|`broken`|guidance scale", "NaN");
    how = NO_SCHEDULE;
    check_failure(generate_in(data_context(NULL), model, "sampler.ddim", NULL, &d, &err), PIPE_EINVAL, &err,
                  "`broken` is not trained|fit", "no schedule");
    pipe_object_unref(model);
    pipe_object_unref(s);
}

/* ---- starts, masks, seeds, previews ---- */
static pipe_status generate_from(pipe_object *denoiser, const char *solver, const char *input,
                                 pipe_object *of, const char *other, pipe_object *with,
                                 const char *const *params, pipe_dataset **out, pipe_context *ctx,
                                 pipe_error *err)
{
    pipe_object *sampler = test_object("sampler", solver, (const char *const[]){"steps", "40", NULL}, NULL);
    const pipei_named_object inputs[] = {{"denoiser", denoiser},
                                         {"sampler", sampler},
                                         {input, of},
                                         {input ? other : NULL, with},
                                         {NULL, NULL}};
    const pipe_status status = data_run(ctx, "step", "generate", params, inputs, err);

    if (status == PIPE_OK)
        *out = pipei_context_yielded(ctx, "samples");
    pipe_object_unref(sampler);
    return status;
}

/* The noise that an inversion finds gives the images again; three samples go through two images in turn. */
Test(generate, inverts_images_and_starts_from_noise)
{
    static const float image[] = {0.5f, -0.25f, -1.0f, 0.75f};
    static const char *const wide[] = {"means", "[0, 0]", "covariances", "[1]", NULL};
    pipe_object *model = mixture(wide), *images = data_make(PIPE_SHAPE(2), 2, image, NULL, 0);
    pipe_dataset *noise = NULL, *back = NULL;
    pipe_error err = PIPE_ERROR_INIT;
    float x[6], z[6];

    OK(generate_from(model, "sampler.dpmpp-2m", "images", images, NULL, NULL,
                     (const char *const[]){"invert", "true", "count", "3", NULL}, &noise, data_context(NULL),
                     &err));
    data_x(noise, 0, 3, z);
    cr_expect(memcmp(z, z + 4, 2 * sizeof *z) == 0, "sample 2 starts from image 0 again");
    OK(generate_from(model, "sampler.dpmpp-2m", "noise", noise, NULL, NULL,
                     (const char *const[]){"count", "3", "batch", "2", NULL}, &back, data_context(NULL),
                     &err));
    data_x(back, 0, 3, x);
    for (size_t k = 0; k < 6; k++)
        cr_expect_float_eq(x[k], image[k % 4], 0.03, "element %zu came back as %g", k, (double)x[k]);
    pipe_object_unref(images);
    pipe_object_unref(model);
}

Test(generate, keeps_what_the_mask_covers)
{
    static const float image[] = {4.0f, 0.0f}, mask[] = {1.0f, 0.0f}, wrong[] = {2.0f, 0.0f};
    pipe_object *model = mixture(four), *images = data_make(PIPE_SHAPE(2), 1, image, NULL, 0),
                *known = data_make(PIPE_SHAPE(2), 1, mask, NULL, 0),
                *bad = data_make(PIPE_SHAPE(2), 1, wrong, NULL, 0);
    pipe_dataset *d = NULL;
    pipe_error err = PIPE_ERROR_INIT;
    float x[8];

    OK(generate_from(model, "sampler.ddim", "images", images, "mask", known,
                     (const char *const[]){"count", "4", NULL}, &d, data_context(NULL), &err));
    data_x(d, 0, 4, x);
    for (size_t k = 0; k < 4; k++) { /* of the four components one has x = 4: it is at y = 0 */
        cr_expect_eq(x[2 * k], 4.0f);
        cr_expect(fabs((double)x[2 * k + 1]) < 0.6, "sample %zu: y is %g", k, (double)x[2 * k + 1]);
    }
    check_failure(generate_from(model, "sampler.ddim", "images", images, "mask", bad, NULL, &d,
                                data_context(NULL), &err),
                  PIPE_EDOMAIN, &err, "mask: sample 0|has the value 2|0 (make) to 1 (keep)",
                  "a mask beyond 1");
    pipe_object_unref(images);
    pipe_object_unref(known);
    pipe_object_unref(bad);
    pipe_object_unref(model);
}

Test(generate, a_seed_per_sample_is_that_seed_alone)
{
    pipe_object *model = mixture(four);
    float all[6], one[2];

    data_x(generate(model, "sampler.ddpm", (const char *const[]){"count", "3", "seeds", "[7, 0, 8]", NULL}),
           0, 3, all);
    data_x(generate(model, "sampler.ddpm", (const char *const[]){"count", "1", "seed", "8", NULL}), 0, 1,
           one);
    cr_expect_arr_eq(one, all + 4, sizeof one);
    cr_expect_neq(memcmp(all, all + 4, sizeof one), 0);
    pipe_object_unref(model);
}

Test(generate, refuses_options_that_contradict_each_other)
{
    static const float two[] = {0.0f, 0.0f}, three[] = {0.0f, 0.0f, 0.0f};
    pipe_object *model = mixture(four), *images = data_make(PIPE_SHAPE(2), 1, two, NULL, 0),
                *wide = data_make(PIPE_SHAPE(3), 1, three, NULL, 0);
    const struct {
        const char *input, *other, *params[7], *message;
        pipe_object *of;
    } cases[] = {
        {NULL, NULL, {"strength", "0.5"}, "`strength` is given, but does nothing without `images` or `noise`", NULL},
        {NULL, NULL, {"invert", "true"}, "`invert` is given, but does nothing without `images`", NULL},
        {NULL, NULL, {"seeds", "[1, 2]"}, "2 `seeds` for 16 samples|one per sample", NULL},
        {NULL, NULL, {"seeds", "[1]", "count", "1", "seed", "3"}, "`seeds` and `seed` exclude each other", NULL},
        {NULL, NULL, {"preview", "2"}, "`preview` shows pictures", NULL},
        {"images", NULL, {"strength", "0"}, "0 is below the minimum", images},
        {"mask", NULL, {NULL}, "`mask` is given, but does nothing without `images`", images},
        {"images", "mask", {"invert", "true"}, "`mask` and `invert` exclude each other", images},
        {"images", "noise", {NULL}, "`images` and `noise` exclude each other", images},
        {"images", NULL, {NULL}, "images: samples of|shape [3]|[2]", wide},
    };
    pipe_dataset *d = NULL;

    for (size_t k = 0; k < COUNT(cases); k++) {
        pipe_error err = PIPE_ERROR_INIT;
        check_failure(generate_from(model, "sampler.ddim", cases[k].input, cases[k].of, cases[k].other,
                                    images, cases[k].params, &d, data_context(NULL), &err),
                      cases[k].of == wide ? PIPE_ESHAPE : PIPE_EINVAL, &err, cases[k].message,
                      cases[k].message);
    }
    pipe_object_unref(images);
    pipe_object_unref(wide);
    pipe_object_unref(model);
}

/* Every second of eight steps, of both batches; of the last, which is padded to four, only its two pictures of 3 x 2. */
Test(generate, writes_previews_as_it_goes)
{
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *picture = NULL;
    pipe_object *s = test_object("schedule", "schedule.cosine", NULL, NULL), *model = NULL;
    const pipei_named_object inputs[] = {{"schedule", s}};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_dataset *d = NULL;
    char path[4096];

    how = PICTURES;
    OK(pipei_object_create(&broken, "pictures", NULL, inputs, 1, test_context("pictures", 1), &model, &err));
    OK(generate_in(data_context(folder), model, "sampler.ddim",
                   (const char *const[]){"count", "6", "batch", "4", "preview", "2", NULL}, &d, &err));
    cr_expect_eq(folder_count(folder), 8);
    snprintf(path, sizeof path, "%s/preview-000004-step-0006.png", folder);
    OK(pipe_png_read(path, &picture, NULL, &err));
    cr_expect(picture->shape.dim[0] == 6 && picture->shape.dim[1] == 2 && picture->shape.dim[2] == 1);
    pipe_object_unref(model);
    pipe_object_unref(s);
}

/* ---- guidance.cfg ---- */
static void guided_prediction(pipe_object *denoiser, const int32_t *label, float *out)
{
    static const float x[] = {0.3f, -1.2f, 2.0f, 0.1f};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_denoiser_info info;
    pipe_condition c = {.size = sizeof c};

    OK(pipe_denoiser_describe(denoiser, &info, &err));
    const pipe_level l = pipe_level_uniform(info.schedule, test_engine(), 2, 0.6);
    if (label)
        c.labels = pipe_from_i32(test_engine(), PIPE_SHAPE(2), label);
    OK(pipe_read_f32(pipe_denoise(denoiser, pipe_from_f32(test_engine(), PIPE_SHAPE(2, 2), x), &l, &c), out,
                     4, &err));
}

Test(generate, guidance_is_linear_in_its_scale_and_none_at_one)
{
    static const char *const scales[] = {"0", "1", "2", "-1.5"};
    static const double value[] = {0, 1, 2, -1.5};
    const int32_t label[] = {0, 3}, half[] = {-1, 3};
    pipe_object *model = mixture(four);
    float with[4], without[4], mixed[4], got[4];

    guided_prediction(model, label, with);
    guided_prediction(model, NULL, without);
    guided_prediction(model, half, mixed);
    for (size_t k = 0; k < COUNT(scales); k++) {
        pipe_error err = PIPE_ERROR_INIT;
        pipe_object *cfg = NULL;
        OK(data_over("guidance", "guidance.cfg", "denoiser", model,
                     (const char *const[]){"scale", scales[k], NULL}, &cfg, &err));
        guided_prediction(cfg, label, got);
        for (size_t i = 0; i < 4; i++)
            cr_expect_float_eq(got[i], value[k] * with[i] + (1 - value[k]) * without[i], 2e-5, "scale %s",
                               scales[k]);
        if (value[k] == 1.0)
            cr_expect_arr_eq(got, with, sizeof got, "scale 1 is the model itself");
        guided_prediction(cfg, NULL, got);
        cr_expect_arr_eq(got, without, sizeof got, "scale %s without labels", scales[k]);
        guided_prediction(cfg, half, got); /* a row without a label is guided by nothing */
        for (size_t i = 0; i < 2; i++)
            cr_expect_float_eq(got[i], mixed[i], 2e-5, "scale %s: row without a label", scales[k]);
        pipe_object_unref(cfg);
    }
    pipe_object_unref(model);
}
