/* Guidance: against diffusers' guiders, against formulas in double, and bit by bit
 * against the plain form at neutral settings. */
#include "gaussian/support.h"

#include <math.h>
#include <pipe/io.h>
#include <stdio.h>

enum { STEPS = 3, N = 2, EACH = 4 * 5 * 3 };

/* A denoiser that predicts what it is told to, with and without a condition, at each of STEPS levels. */
static float table[2][STEPS * N * EACH]; /* [unconditional, conditional] */

typedef struct {
    pipe_schedule *schedule;
} fixed_state;

static const pipe_input fixed_inputs[] = {
    PIPE_INPUT(fixed_state, schedule, PIPE_KIND_SCHEDULE, "any"),
    PIPE_INPUT_END,
};

static const double times[STEPS] = {0.9, 0.5, 0.1};

static pipe_status fixed_describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    (void)err;
    info->sample = PIPE_SHAPE(4, 5, 3);
    info->predicts = PIPE_PREDICT_V;
    info->schedule = ((fixed_state *)self)->schedule;
    info->classes = 2;
    return PIPE_OK;
}

static pipe_tensor *fixed_predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                                  const pipe_condition *c)
{
    (void)self;
    (void)m;
    for (int k = 0; k < STEPS; k++)
        if (l->point.t == times[k])
            return pipe_from_f32(pipe_tensor_engine(x), *pipe_tensor_shape(x),
                                 table[pipe_condition_given(c)] + k * N * EACH);
    return pipe_poison(pipe_tensor_engine(x), PIPE_EINVAL, "t = %g", l->point.t);
}

static const pipe_plugin fixed = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "denoiser.fixed",
    .version = "1.0.0",
    .inputs = fixed_inputs,
    .state_size = sizeof(fixed_state),
    .denoiser = {.describe = fixed_describe, .predict = fixed_predict},
};

/* The same, whatever the condition: the conditional one. */
static pipe_tensor *conditional_predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                                        const pipe_condition *c)
{
    static const pipe_condition given = {.size = sizeof given, .labels = (pipe_tensor *)table};

    (void)c;
    return fixed_predict(self, m, x, l, &given);
}

static pipe_tensor *unconditional_predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                                          const pipe_condition *c)
{
    (void)c;
    return fixed_predict(self, m, x, l, NULL);
}

static pipe_object *schedule(void)
{
    static pipe_object *s;

    return s ? s : (s = test_object("schedule", "schedule.cosine", NULL, NULL));
}

static pipe_object *model(pipe_tensor *(*predict)(void *, pipe_model *, pipe_tensor *, const pipe_level *,
                                                  const pipe_condition *))
{
    const pipei_named_object inputs[] = {{"schedule", schedule()}};
    pipe_plugin *p = test_hold(pipe_alloc(sizeof *p));
    pipe_object *d = NULL;
    pipe_error err = PIPE_ERROR_INIT;

    memcpy(p, &fixed, sizeof *p);
    p->denoiser.predict = predict;
    OK(pipei_object_create(p, "model", NULL, inputs, 1, test_context("model", 1), &d, &err));
    return test_hold(d);
}

static pipe_object *guide(const char *name, const char *const *params, const char *other, pipe_object *second)
{
    const pipei_named_object inputs[] = {
        {"denoiser", model(other ? conditional_predict : fixed_predict)}, {other, second}, {NULL, NULL}};

    return test_object("guidance", name, params, inputs);
}

/* What `d` predicts at each of the levels, one trajectory: [STEPS, N, EACH], in its own parameterization. */
static void ask(pipe_object *d, bool condition, float *out)
{
    static const int32_t label[N] = {0, 1};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_engine *e = test_engine();

    pipe_denoiser_begin(d);
    for (int k = 0; k < STEPS; k++) {
        const pipe_level l = pipe_level_uniform(schedule(), e, N, times[k]);
        const pipe_condition c = {.size = sizeof c,
                                  .labels = condition ? pipe_from_i32(e, PIPE_SHAPE(N), label) : NULL};
        OK(pipe_read_f32(pipe_denoise(d, pipe_zeros(e, PIPE_SHAPE(N, 4, 5, 3)), &l, &c), out + k * N * EACH,
                         N * EACH, &err));
    }
}

static void fill_table(void)
{
    pipe_host_randn((pipe_key){.seed = 12}, table[1], STEPS * N * EACH);
    pipe_host_randn((pipe_key){.seed = 13}, table[0], STEPS * N * EACH);
    for (size_t i = 0; i < STEPS * N * EACH; i++)
        table[0][i] = 0.7f * table[1][i] + 0.5f * table[0][i];
}

/* ---- diffusers ---- */
typedef struct {
    char golden[16];
    char plugin[24];
    const char *params[14];
    const char *other; /* second input, which predicts the unconditional table (or the conditional one) */
    bool conditional;
} golden_case;

static const golden_case golden_cases[] = {
    {"cfg", "guidance.cfg", {"scale", "3"}, NULL, false},
    {"cfg.original", "guidance.cfg", {"scale", "3"}, NULL, false}, /* scale 2 there */
    {"auto", "guidance.auto", {"scale", "2.5"}, "bad", false},
    {"zero", "guidance.zero", {"scale", "4"}, NULL, false},
    {"tcfg", "guidance.tcfg", {"scale", "3", "space", "own"}, NULL, false},
    {"mambo", "guidance.mambo", {"scale", "5", "damping", "2", "space", "own"}, NULL, false},
    {"apg.released",
     "guidance.apg",
     {"scale", "4", "threshold", "3", "eta", "0.25", "form", "released", "space", "own"},
     NULL,
     false},
    {"apg.paper", "guidance.apg", {"scale", "4", "threshold", "3", "space", "own"}, NULL, false},
    {"apg.mix",
     "guidance.apg",
     {"scale", "6", "threshold", "3", "form", "released", "space", "own", "cfg_steps", "1", "cfg_scale", "2"},
     NULL,
     false},
};

static pipe_safetensors *open_golden(void)
{
    char path[4096];
    pipe_safetensors *f = NULL;
    pipe_error err = PIPE_ERROR_INIT;

    snprintf(path, sizeof path, "%s/data/golden/guiders.safetensors", TEST_SRCDIR);
    OK(pipe_safetensors_open(path, &f, &err));
    return f;
}

static void read_golden(pipe_safetensors *f, const char *name, float *out)
{
    const pipe_array *a = pipe_safetensors_find(f, name);
    pipe_error err = PIPE_ERROR_INIT;

    cr_assert(a && pipe_array_count(a) == STEPS * N * EACH, "no %s in the golden file", name);
    OK(pipe_array_f32(a, 0, STEPS * N * EACH, out, &err));
}

Test(guidance, agrees_with_diffusers)
{
    pipe_safetensors *f = open_golden();
    static float want[STEPS * N * EACH], got[STEPS * N * EACH];

    read_golden(f, "conditional", table[1]);
    read_golden(f, "unconditional", table[0]);
    for (size_t k = 0; k < COUNT(golden_cases); k++) {
        const golden_case *c = &golden_cases[k];
        pipe_object *second = c->other ? model(unconditional_predict) : NULL;
        read_golden(f, c->golden, want);
        ask(guide(c->plugin, c->params, c->other, second), true, got);
        cr_expect_lt(gaussian_difference(got, want, STEPS * N * EACH), 2e-5, "%s: %g", c->golden,
                     gaussian_difference(got, want, STEPS * N * EACH));
        ask(guide(c->plugin, c->params, c->other, second), true, got); /* forgets the last trajectory */
        cr_expect_lt(gaussian_difference(got, want, STEPS * N * EACH), 2e-5, "%s, again", c->golden);
    }
    /* the two that are around other guidance */
    pipe_object *cfg = guide("guidance.cfg", (const char *const[]){"scale", "3", NULL}, NULL, NULL);
    const pipei_named_object rescale[] = {
        {"denoiser", cfg}, {"conditional", model(conditional_predict)}, {NULL, NULL}};
    read_golden(f, "cfg.rescale", want);
    ask(test_object("guidance", "guidance.rescale", NULL, rescale), true, got);
    cr_expect_lt(gaussian_difference(got, want, STEPS * N * EACH), 2e-5, "rescale");
    const pipei_named_object interval[] = {
        {"denoiser", cfg}, {"outside", model(conditional_predict)}, {NULL, NULL}};
    read_golden(f, "cfg.interval", want); /* the second of three steps there; by noise level here */
    ask(test_object("guidance", "guidance.interval", (const char *const[]){"low", "0.5", "high", "2", NULL},
                    interval),
        true, got);
    cr_expect_lt(gaussian_difference(got, want, STEPS * N * EACH), 2e-5, "interval");
    pipe_safetensors_close(f);
}

/* ---- the pyramid ---- */
enum { TALL = 8, WIDE = 12, PICTURE = TALL * WIDE * 3 };
static float pictures[2][N * PICTURE]; /* [unconditional, conditional] */

static pipe_status pictures_describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    PIPE_TRY(fixed_describe(self, info, err));
    info->sample = PIPE_SHAPE(TALL, WIDE, 3);
    return PIPE_OK;
}

static pipe_tensor *pictures_predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                                     const pipe_condition *c)
{
    (void)self;
    (void)m;
    (void)l;
    return pipe_from_f32(pipe_tensor_engine(x), *pipe_tensor_shape(x), pictures[pipe_condition_given(c)]);
}

/* What fdg with these parameters makes of the pictures. */
static void decouple(const char *const *params, float *out)
{
    static const int32_t label[N] = {0, 1};
    const pipei_named_object on[] = {{"schedule", schedule()}};
    pipe_plugin *p = test_hold(pipe_alloc(sizeof *p));
    pipe_engine *e = test_engine();
    pipe_object *d = NULL;
    pipe_error err = PIPE_ERROR_INIT;

    memcpy(p, &fixed, sizeof *p);
    p->denoiser.describe = pictures_describe;
    p->denoiser.predict = pictures_predict;
    OK(pipei_object_create(p, "model", NULL, on, 1, test_context("model", 1), &d, &err));
    const pipei_named_object of[] = {{"denoiser", test_hold(d)}, {NULL, NULL}};
    const pipe_level l = pipe_level_uniform(schedule(), e, N, 0.5);
    const pipe_condition c = {.size = sizeof c, .labels = pipe_from_i32(e, PIPE_SHAPE(N), label)};
    OK(pipe_read_f32(pipe_denoise(test_object("guidance", "guidance.fdg", params, of),
                                  pipe_zeros(e, PIPE_SHAPE(N, TALL, WIDE, 3)), &l, &c),
                     out, N * PICTURE, &err));
}

Test(guidance, decouples_frequencies_as_diffusers)
{
    static const struct {
        const char *golden, *params[7];
    } rows[] = {
        {"fdg", {"space", "own"}},
        {"fdg.levels", {"scales", "[6, 1.5, 2]", "space", "own"}},
        {"fdg.parallel", {"scales", "[6, 2]", "parallel", "[0.25, 1.5]", "space", "own"}},
    };
    pipe_safetensors *f = open_golden();
    static float want[N * PICTURE], got[N * PICTURE];
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipe_array_f32(pipe_safetensors_find(f, "fdg.conditional"), 0, N * PICTURE, pictures[1], &err));
    OK(pipe_array_f32(pipe_safetensors_find(f, "fdg.unconditional"), 0, N * PICTURE, pictures[0], &err));
    for (size_t k = 0; k < COUNT(rows); k++) {
        OK(pipe_array_f32(pipe_safetensors_find(f, rows[k].golden), 0, N * PICTURE, want, &err));
        decouple(rows[k].params, got);
        cr_expect_lt(gaussian_difference(got, want, N * PICTURE), 2e-5, "%s: %g", rows[k].golden,
                     gaussian_difference(got, want, N * PICTURE));
    }
    pipe_safetensors_close(f);
}

/* One scale for all levels is classifier-free guidance, for sides of 4 x 5 pixels too: a pyramid loses nothing. */
Test(guidance, decoupled_frequencies_of_one_scale_are_one)
{
    static float got[STEPS * N * EACH], cfg[STEPS * N * EACH];

    fill_table();
    ask(guide("guidance.cfg", (const char *const[]){"scale", "3", NULL}, NULL, NULL), true, cfg);
    ask(guide("guidance.fdg", (const char *const[]){"scales", "[3, 3]", "space", "own", NULL}, NULL, NULL), true,
        got);
    cr_expect_lt(gaussian_difference(got, cfg, STEPS * N * EACH), 2e-6);
}

Test(guidance, frequencies_are_those_of_pictures_large_enough)
{
    static const struct {
        const char *params[5], *message;
    } rows[] = {
        {{"scales", "[]"}, "0 `scales`"},
        {{"scales", "[2, 3]", "parallel", "[1]"}, "1 numbers `parallel` for 2 `scales`"},
        {{"scales", "[2, 3, 4]"}, "4 x 5, are too small for 3 levels"},
    };

    for (size_t k = 0; k < COUNT(rows); k++) {
        const pipei_named_object of[] = {{"denoiser", model(fixed_predict)}, {NULL, NULL}};
        pipe_denoiser_info info;
        pipe_object *d = NULL;
        pipe_error err = PIPE_ERROR_INIT;
        pipe_status status = test_object_try("guidance", "guidance.fdg", rows[k].params, of, &d, &err);
        if (status == PIPE_OK)
            status = pipe_denoiser_describe(d, &info, &err);
        check_failure(status, k == 2 ? PIPE_ESHAPE : PIPE_EINVAL, &err, rows[k].message, rows[k].message);
    }
}

/* ---- formulas, in double ---- */
static double dot(const float *a, const float *b)
{
    double sum = 0.0;

    for (size_t i = 0; i < EACH; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Of sample `i` at the first level, from the rule's own definition. */
static void by_hand(const char *rule, size_t i, double *out)
{
    const float *c = table[1] + i * EACH, *u = table[0] + i * EACH;
    const double cc = dot(c, c), cu = dot(c, u), uu = dot(u, u), dd = cc - 2 * cu + uu;

    for (size_t j = 0; j < EACH; j++) {
        const double a = (double)c[j], b = (double)u[j], d = a - b;
        if (strcmp(rule, "mambo") == 0) {
            out[j] = b + (1.0 + 3.0 * exp(-2.0 * sqrt(dd / uu))) * d;
        } else if (strcmp(rule, "zero") == 0) {
            const double k = cu / (uu + 1e-8);
            out[j] = k * b + 4.0 * (a - k * b);
        } else if (strcmp(rule, "apg") == 0) { /* threshold 3, eta 0, scale 4, paper */
            const double shrink = fmin(1.0, 3.0 / sqrt(dd)), along = (cc - cu) / cc;
            out[j] = a + 3.0 * shrink * (d - along * a);
        } else { /* tcfg by power iteration on the 2 x n matrix */
            double p = 1.0, q = 1.0;
            for (int it = 0; it < 200; it++) {
                const double r = cc * p + cu * q, s = cu * p + uu * q, n = hypot(r, s);
                p = r / n;
                q = s / n;
            }
            const double square = p * p * cc + 2 * p * q * cu + q * q * uu;
            const double t = (p * cu + q * uu) / square * (p * a + q * b);
            out[j] = t + 4.0 * (a - t);
        }
    }
}

Test(guidance, follows_its_formulas)
{
    static const struct {
        const char *rule, *plugin;
        const char *params[10];
    } rows[] = {
        {"mambo", "guidance.mambo", {"scale", "4", "damping", "2", "space", "own"}},
        {"zero", "guidance.zero", {"scale", "4", "zero_steps", "0"}},
        {"apg", "guidance.apg", {"scale", "4", "threshold", "3", "momentum", "0", "space", "own"}},
        {"tcfg", "guidance.tcfg", {"scale", "4", "space", "own"}},
    };
    static float got[STEPS * N * EACH];
    double want[EACH];

    fill_table();
    for (size_t k = 0; k < COUNT(rows); k++) {
        ask(guide(rows[k].plugin, rows[k].params, NULL, NULL), true, got);
        for (size_t i = 0; i < N; i++) {
            by_hand(rows[k].rule, i, want);
            for (size_t j = 0; j < EACH; j++)
                cr_expect_float_eq(got[i * EACH + j], want[j], 2e-5 * (1 + fabs(want[j])),
                                   "%s: sample %zu, number %zu is %g, not %g", rows[k].rule, i, j,
                                   (double)got[i * EACH + j], want[j]);
        }
    }
}

/* In x0, whatever the model predicts: the same as the rule on predictions that were converted before. */
Test(guidance, is_applied_in_the_space_asked_for)
{
    pipe_object *own = guide("guidance.cfg", (const char *const[]){"scale", "3", NULL}, NULL, NULL);
    pipe_object *apg = guide("guidance.apg",
                             (const char *const[]){"scale", "3", "eta", "1", "threshold", "0", "momentum",
                                                   "0", "space", "x0", NULL},
                             NULL, NULL);
    pipe_denoiser_info info;
    pipe_error err = PIPE_ERROR_INIT;
    static float a[N * EACH], b[N * EACH];
    static const int32_t label[N] = {0, 1};
    pipe_engine *e = test_engine();

    fill_table();
    OK(pipe_denoiser_describe(apg, &info, &err));
    cr_expect_eq(info.predicts, PIPE_PREDICT_X0);
    cr_expect_eq(info.classes, 2);
    for (int k = 0; k < 2; k++) {
        const pipe_level l = pipe_level_uniform(schedule(), e, N, 0.5);
        const pipe_condition c = {.size = sizeof c, .labels = pipe_from_i32(e, PIPE_SHAPE(N), label)};
        OK(pipe_read_f32(
            pipe_predict(k ? apg : own, pipe_full(e, PIPE_SHAPE(N, 4, 5, 3), 0.3), &l, &c, PIPE_PREDICT_EPS),
            k ? a : b, N * EACH, &err));
    }
    cr_expect_lt(gaussian_difference(a, b, N * EACH), 1e-5, "a linear rule is the same in any");
}

/* ---- neutral settings ---- */
typedef struct {
    const char *plugin;
    const char *params[14];
    const char *other;
    const char *as; /* what the result must be, bit by bit: conditional, or cfg of scale 3 */
} neutral_case;

static const neutral_case neutral_cases[] = {
    {"guidance.cfg", {"scale", "1"}, NULL, "conditional"},
    {"guidance.auto", {"scale", "1"}, "bad", "conditional"},
    {"guidance.tcfg", {"scale", "1", "space", "own"}, NULL, "conditional"},
    {"guidance.mambo", {"scale", "1", "space", "own"}, NULL, "conditional"},
    {"guidance.mambo", {"scale", "3", "damping", "0", "space", "own"}, NULL, "cfg"},
    {"guidance.zero", {"scale", "1", "zero_steps", "0"}, NULL, "conditional"},
    {"guidance.apg", {"scale", "1", "momentum", "0", "space", "own"}, NULL, "conditional"},
    {"guidance.apg", {"scale", "1", "space", "own"}, NULL, "conditional"},
    {"guidance.apg",
     {"scale", "3", "eta", "1", "threshold", "0", "momentum", "0", "space", "own"},
     NULL,
     "cfg"},
    {"guidance.apg", {"cfg_steps", "100", "cfg_scale", "3", "space", "own"}, NULL, "cfg"},
    {"guidance.fdg", {"scales", "[1, 1]", "space", "own"}, NULL, "conditional"},
    {"guidance.fdg", {"scales", "[3]", "space", "own"}, NULL, "cfg"},
    {"guidance.rescale", {"share", "0"}, "conditional", "conditional"},
    {"guidance.interval", {"low", "3", "high", "2"}, "outside", "unconditional"}, /* empty */
    {"guidance.interval", {NULL}, "outside", "conditional"}, /* all */
};

Test(guidance, neutral_settings_are_bit_equal_to_the_plain_form)
{
    static float got[STEPS * N * EACH], cfg[STEPS * N * EACH];

    fill_table();
    ask(guide("guidance.cfg", (const char *const[]){"scale", "3", NULL}, NULL, NULL), true, cfg);
    for (size_t k = 0; k < COUNT(neutral_cases); k++) {
        const neutral_case *c = &neutral_cases[k];
        const float *want = strcmp(c->as, "cfg") == 0 ? cfg : table[strcmp(c->as, "conditional") == 0];
        ask(guide(c->plugin, c->params, c->other, c->other ? model(unconditional_predict) : NULL), true, got);
        cr_expect_eq(memcmp(got, want, sizeof got), 0, "%s, case %zu: not %s", c->plugin, k, c->as);
        if (c->other)
            continue;
        ask(guide(c->plugin, c->params, NULL, NULL), false, got);
        cr_expect_eq(memcmp(got, table[0], sizeof got), 0, "%s, case %zu: without a condition", c->plugin, k);
    }
}

Test(guidance, weights_denoisers)
{
    static float got[STEPS * N * EACH];
    pipe_object *c = model(conditional_predict), *u = model(unconditional_predict), *none = NULL;
    const pipei_named_object both[] = {{"denoisers", c}, {"denoisers", u}, {NULL, NULL}},
                             one[] = {{"denoisers", c}, {NULL, NULL}};
    pipe_error err = PIPE_ERROR_INIT;

    fill_table();
    ask(test_object("guidance", "guidance.weighted", (const char *const[]){"weights", "[1.5, -0.5]", NULL},
                    both),
        true, got);
    for (size_t i = 0; i < STEPS * N * EACH; i++)
        cr_assert_float_eq(got[i], 1.5 * (double)table[1][i] - 0.5 * (double)table[0][i], 1e-5);
    ask(test_object("guidance", "guidance.weighted", (const char *const[]){"weights", "[1]", NULL}, one),
        true, got);
    cr_expect_eq(memcmp(got, table[1], sizeof got), 0);
    ask(test_object("guidance", "guidance.weighted", (const char *const[]){"weights", "[0, 1]", NULL}, both),
        true, got);
    cr_expect_eq(memcmp(got, table[0], sizeof got), 0);
    check_failure(test_object_try("guidance", "guidance.weighted",
                                  (const char *const[]){"weights", "[1, 1]", NULL}, both, &none, &err),
                  PIPE_EINVAL, &err, "sum to 2", "no prediction");
    check_failure(test_object_try("guidance", "guidance.weighted",
                                  (const char *const[]){"weights", "[1]", NULL}, both, &none, &err),
                  PIPE_EINVAL, &err, "1 numbers for 2", "a weight too few");
}

/* Two schedules cannot be combined at one level; a model without classes has nothing to guide by. */
Test(guidance, says_what_cannot_be_combined)
{
    static const char *const params[] = {"dimension", "1", "means", "[0]", NULL};
    const pipei_named_object flow[] = {{"schedule", test_object("schedule", "schedule.flow", NULL, NULL)},
                                       {NULL, NULL}};
    pipe_object *d = test_object("denoiser", "denoiser.gaussian-mixture", params, flow);
    pipe_denoiser_info info;
    pipe_error err = PIPE_ERROR_INIT;

    check_failure(pipe_denoiser_describe(guide("guidance.auto", NULL, "bad", d), &info, &err), PIPE_EINVAL,
                  &err, "schedule.flow|schedule.cosine|the same", "two schedules");
    const pipei_named_object of[] = {{"denoiser", d}, {NULL, NULL}};
    check_failure(pipe_denoiser_describe(test_object("guidance", "guidance.apg", NULL, of), &info, &err),
                  PIPE_EINVAL, &err, "knows no classes", "an unconditional model");
}

/* ---- a classifier ---- */
static int64_t two_classes(void *self)
{
    (void)self;
    return 2;
}

/* logits (0, 2 sum x): grad log p(1 | x) = 2 (1 - p), of each number. */
static pipe_tensor *linear_logits(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l)
{
    static const int last = -1;
    pipe_tensor *sum = pipe_scale(pipe_sum(x, &last, 1, true), 2.0);

    (void)self;
    (void)m;
    cr_assert(l, "it is told the noise level");
    return pipe_concat((pipe_tensor *const[]){pipe_zeros_like(sum), sum}, 2, 1);
}

static const pipe_plugin linear_classifier = {
    PIPE_ABI(PIPE_KIND_CLASSIFIER),
    .name = "classifier.linear",
    .version = "1.0.0",
    .classifier = {.classes = two_classes, .logits = linear_logits},
};

Test(guidance, follows_a_classifier)
{
    enum { B = 3, D = 2 };
    static const char *const params[] = {"means", "[0, 0]", "covariances", "[0.5]", NULL};
    const pipei_named_object on[] = {{"schedule", schedule()}, {NULL, NULL}};
    static const float x[B * D] = {0.2f, -0.1f, 0.5f, 0.4f, -0.3f, 0.2f};
    static const int32_t label[B] = {1, 0, -1};
    pipe_object *d = test_object("denoiser", "denoiser.gaussian-mixture", params, on), *judge = NULL;
    pipe_error err = PIPE_ERROR_INIT;
    float plain[B * D], got[B * D], off[B * D];

    OK(pipei_object_create(&linear_classifier, "judge", NULL, NULL, 0, test_context("judge", 1), &judge,
                           &err));
    test_hold(judge);
    const pipei_named_object inputs[] = {{"denoiser", d}, {"classifier", judge}, {NULL, NULL}};
    pipe_object *g = test_object("guidance", "guidance.classifier", (const char *const[]){"scale", "3", NULL},
                                 inputs);
    pipe_object *zero = test_object("guidance", "guidance.classifier",
                                    (const char *const[]){"scale", "0", NULL}, inputs);
    const pipe_schedule_point p = gaussian_predict(d, 0.5, PIPE_SHAPE(B, D), x, label, PIPE_PREDICT_EPS,
                                                   plain);
    gaussian_predict(g, 0.5, PIPE_SHAPE(B, D), x, label, PIPE_PREDICT_EPS, got);
    gaussian_predict(zero, 0.5, PIPE_SHAPE(B, D), x, label, PIPE_PREDICT_EPS, off);
    cr_expect_eq(memcmp(plain, off, sizeof off), 0, "scale 0 is the model");
    for (size_t i = 0; i < B; i++) {
        const double sum = 2.0 * ((double)x[i * D] + (double)x[i * D + 1]), one = 1.0 / (1.0 + exp(-sum));
        const double slope = label[i] < 0 ? 0.0 : label[i] == 1 ? 2.0 * (1.0 - one) : -2.0 * one;
        for (size_t j = 0; j < D; j++)
            cr_expect_float_eq(got[i * D + j], (double)plain[i * D + j] - p.sigma * 3.0 * slope, 1e-5,
                               "row %zu of label %d", i, label[i]);
    }
}
