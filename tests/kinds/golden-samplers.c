/* Samplers against diffusers: every file of tests/data/golden/samplers (samplers_engine.py
 * beside that folder says what one holds and how it was made) is a scheduler class
 * with some configurations; the grid and the samples after every step must agree
 * to 1e-4.  Another file is another case: nothing here has to be changed for it. */
#include "support/objects.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOLDER TEST_SRCDIR "/data/golden/samplers"
#define TOLERANCE 1e-4 /* of the largest number of a state; and of each ratio of the grid */

enum { NUMBERS_MAX = 64, PARAMS_MAX = 32 };

typedef struct {
    char name[256];
} golden_case;

/* ---- a denoiser that gives another one's prediction as it is asked to, and says something of the variance ---- */
typedef struct {
    pipe_denoiser *denoiser;
    int64_t as, variance;
} as_state;

static const pipe_input as_inputs[] = {
    PIPE_INPUT(as_state, denoiser, PIPE_KIND_DENOISER, "whose prediction is converted"), PIPE_INPUT_END};

static const pipe_param as_params[] = {
    PIPE_CHOICE(as_state, as, NULL, pipe_prediction_names, "what is predicted"), PIPE_VARIANCE_PARAM(as_state),
    PIPE_PARAM_END};

static pipe_prediction as_prediction(const as_state *st)
{
    return (pipe_prediction)(PIPE_PREDICT_EPS + st->as);
}

static pipe_status as_describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    PIPE_TRY(pipe_denoiser_describe(((as_state *)self)->denoiser, info, err));
    info->predicts = as_prediction(self);
    info->variance = (pipe_variance)((as_state *)self)->variance;
    return PIPE_OK;
}

static pipe_tensor *as_predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                               const pipe_condition *c)
{
    const as_state *st = self;
    pipe_tensor *said = pipe_tanh(x), *y = pipe_predict(st->denoiser, x, l, c, as_prediction(self));

    (void)m;
    if (st->variance == PIPE_VARIANCE_NONE)
        return y;
    if (st->variance == PIPE_VARIANCE_LOG)
        said = pipe_affine(said, 0.5, -3.0);
    return pipe_concat((pipe_tensor *[]){y, said}, 2, 1);
}

static const pipe_plugin as_plugin = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "denoiser.as",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "another denoiser's prediction, converted",
    .params = as_params,
    .inputs = as_inputs,
    .state_size = sizeof(as_state),
    .denoiser = {.describe = as_describe, .predict = as_predict},
};

/* ---- the file ---- */
static const json_t *member(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);

    cr_assert(v, "no member `%s`", key);
    return v;
}

static const char *string(const json_t *o, const char *key)
{
    const char *s = json_string_value(member(o, key));

    cr_assert(s, "`%s` is no string", key);
    return s;
}

static double number(const json_t *v)
{
    return json_is_null(v) ? INFINITY : json_number_value(v);
}

/* Appends the numbers of v, an array of any depth, row by row. */
static size_t flatten(const json_t *v, double *out, size_t n)
{
    if (!json_is_array(v)) {
        cr_assert(n < NUMBERS_MAX, "more than %d numbers", NUMBERS_MAX);
        out[n] = number(v);
        return n + 1;
    }
    for (size_t i = 0; i < json_array_size(v); i++)
        n = flatten(json_array_get(v, i), out, n);
    return n;
}

/* A value as one would write it in YAML. */
static char *yaml(const json_t *v)
{
    return test_hold(json_is_string(v) ? strdup(json_string_value(v))
                                       : json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17)));
}

/* The members of o but `plugin`, as key, value, ..., NULL. */
static size_t parameters(const json_t *o, const char *out[PARAMS_MAX])
{
    const char *key;
    json_t *v;
    size_t n = 0;

    json_object_foreach((json_t *)(uintptr_t)o, key, v)
    {
        if (strcmp(key, "plugin") == 0)
            continue;
        cr_assert(n + 3 < PARAMS_MAX, "too many parameters");
        out[n++] = key;
        out[n++] = yaml(v);
    }
    out[n] = NULL;
    return n;
}

static pipe_object *object(const char *kind, const json_t *o)
{
    const char *params[PARAMS_MAX];

    parameters(o, params);
    return test_object(kind, string(o, "plugin"), params, NULL);
}

/* The mixture under a schedule, predicting what the configuration says. */
static pipe_object *denoiser(const json_t *mixture, pipe_object *schedule, const char *prediction,
                             const json_t *variance)
{
    const pipei_named_object on[] = {{"schedule", schedule}, {NULL, NULL}};
    const char *params[PARAMS_MAX], *const as[] = {"as", prediction, "variance", variance ? json_string_value(variance) : "none", NULL};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_object *out = NULL;

    parameters(mixture, params);
    const pipei_named_object of[] = {
        {"denoiser", test_object("denoiser", "denoiser.gaussian-mixture", params, on)}};
    OK(pipei_object_create(&as_plugin, "as", as, of, 1, test_context("as", 1), &out, &err));
    return test_hold(out);
}

/* The sampler, on the scheduler's own points unless it names a grid. */
static pipe_object *sampler(const json_t *o, pipe_object *schedule, const json_t *ratios, bool inverse)
{
    const char *params[PARAMS_MAX];
    size_t n = parameters(o, params), points = json_array_size(ratios);
    char steps[16];
    pipe_text times = {0};

    if (json_object_get(o, "grid")) {
        snprintf(steps, sizeof steps, "%zu", points - 1);
        params[n++] = "steps";
        params[n++] = steps;
    } else {
        for (size_t i = 0; i < points; i++)
            pipe_text_addf(&times, "%s%.17g", i ? ", " : "[",
                           pipe_schedule_time_of(schedule, -log(number(json_array_get(ratios, inverse ? points - 1 - i : i)))));
        pipe_text_add(&times, "]");
        params[n++] = "grid";
        params[n++] = "custom";
        params[n++] = "times";
        params[n++] = test_hold(times.data);
    }
    params[n] = NULL;
    return test_object("sampler", string(o, "plugin"), params, NULL);
}

/* ---- one configuration ---- */
typedef struct {
    const char *name; /* of the configuration */
    const json_t *x, *noise; /* by step */
    pipe_shape shape;
    bool per_alpha; /* the file's states are x / alpha */
    double worst; /* relative deviation */
} expected;

static double deviation(const double *got, const double *want, size_t n)
{
    double largest = 0.0, away = 0.0;

    for (size_t k = 0; k < n; k++) {
        largest = fmax(largest, fabs(want[k]));
        away = fmax(away, isnan(got[k]) ? INFINITY : fabs(got[k] - want[k]));
    }
    return away / largest;
}

/* [n, d] as rows of a JSON array; times factor */
static pipe_tensor *upload(const json_t *rows, pipe_shape shape, double factor)
{
    double host[NUMBERS_MAX];
    float values[NUMBERS_MAX];
    const size_t n = flatten(rows, host, 0);

    cr_assert_eq(n, (size_t)pipe_shape_count(&shape));
    for (size_t k = 0; k < n; k++)
        values[k] = (float)(factor * host[k]);
    return pipe_from_f32(test_engine(), shape, values);
}

static pipe_tensor *noise(void *arg, size_t step, uint32_t draw)
{
    const expected *e = arg;
    const json_t *all = json_array_get(e->noise, step), *z;
    char name[16];

    snprintf(name, sizeof name, "%u", draw);
    z = json_is_object(all) ? json_object_get(all, name) : json_array_get(all, draw);

    if (!z)
        return pipe_poison(test_engine(), PIPE_ENOTFOUND, "diffusers draws no noise %u in step %zu", draw,
                           step + 1);
    return upload(z, e->shape, 1.0);
}

static pipe_status observe(void *arg, const pipe_sampling *s, pipe_error *err)
{
    expected *e = arg;
    const size_t n = (size_t)pipe_shape_count(&e->shape);
    float x[NUMBERS_MAX];
    double got[NUMBERS_MAX], want[NUMBERS_MAX];

    PIPE_TRY(pipe_read_f32(s->x, x, n, err));
    cr_assert_eq(flatten(json_array_get(e->x, s->i), want, 0), n);
    for (size_t k = 0; k < n; k++)
        got[k] = (double)x[k] / (e->per_alpha ? s->alpha[s->i + 1] : 1.0);
    const double away = deviation(got, want, n);
    cr_expect(away <= TOLERANCE, "%s: step %zu deviates by %.2g: %g %g ..., not %g %g ...", e->name, s->i + 1,
              away, got[0], got[1], want[0], want[1]);
    e->worst = fmax(e->worst, away);
    return PIPE_OK;
}

static void check_grid(const json_t *c, pipe_object *sampler, pipe_object *schedule)
{
    const json_t *ratios = member(c, "ratios"), *timesteps = json_object_get(c, "timesteps");
    const bool inverse = json_object_get(c, "inverse") != NULL;
    const char *name = string(c, "configuration");
    PIPE_CLEANUP(pipe_free_ptr) double *t = NULL;
    pipe_error err = PIPE_ERROR_INIT;
    pipe_schedule_info info;
    size_t steps;

    OK(pipe_sampler_grid(sampler, schedule, &t, &steps, &err));
    OK(pipe_schedule_describe(schedule, &info, &err));
    cr_assert_eq(steps + 1, json_array_size(ratios), "%s: %zu steps", name, steps);
    for (size_t i = 0; i <= steps; i++) {
        const pipe_schedule_point p = pipe_schedule_at(schedule, t[inverse ? steps - i : i]);
        const double want = number(json_array_get(ratios, i)), got = p.sigma / p.alpha;
        /* 2e-15: what the rounding of t leaves of a ratio that is infinite */
        cr_expect(isinf(want) ? p.alpha <= 2e-15 : fabs(got - want) <= TOLERANCE * want,
                  "%s: sigma / alpha of point %zu is %.9g, not %.9g", name, i, got, want);
        if (timesteps && i < steps && info.discrete > 0 && !inverse) {
            const double step = number(json_array_get(timesteps, i)),
                         ours = t[i] * (double)info.discrete - 1.0;
            cr_expect(fabs(ours - step) <= 0.5 + 1e-3, "%s: point %zu is at timestep %.9g, not %.9g", name, i,
                      ours, step); /* some classes round the timestep that they hand to the model */
        }
    }
}

static double check(const json_t *file, const json_t *c)
{
    const json_t *first = member(c, "start");
    pipe_object *schedule = object("schedule", member(c, "schedule"));
    pipe_object *d = denoiser(member(file, "mixture"), schedule, string(c, "prediction"),
                              json_object_get(c, "variance"));
    const bool inverse = json_object_get(c, "inverse") != NULL;
    pipe_object *s = sampler(member(c, "sampler"), schedule, member(c, "ratios"), inverse);
    expected e = {.name = string(c, "configuration"),
                  .x = member(c, "x"),
                  .noise = json_object_get(c, "noise"),
                  .per_alpha = strcmp(string(c, "state"), "x/alpha") == 0};
    pipe_tensor *x = NULL, *image = NULL, *mask = NULL, *out = NULL;
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(pipe_free_ptr) double *t = NULL;
    size_t steps;

    e.shape = PIPE_SHAPE((int64_t)json_array_size(first), (int64_t)json_array_size(json_array_get(first, 0)));
    check_grid(c, s, schedule);
    OK(pipe_sampler_grid(s, schedule, &t, &steps, &err));
    if (inverse) /* begins with clean data */
        pipe_keep(&image, upload(first, e.shape, 1.0 / pipe_schedule_at(schedule, t[steps]).alpha));
    else
        pipe_keep(&x, upload(first, e.shape, e.per_alpha ? pipe_schedule_at(schedule, t[0]).alpha : 1.0));
    if (json_object_get(c, "mask")) {
        pipe_keep(&image, upload(member(c, "image"), e.shape, 1.0));
        pipe_keep(&mask, upload(member(c, "mask"), e.shape, 1.0));
    }
    OK(pipe_sample(&(pipe_sample_request){.size = sizeof(pipe_sample_request),
                                          .sampler = s,
                                          .denoiser = d,
                                          .n = e.shape.dim[0],
                                          .upward = inverse,
                                          .start = x,
                                          .image = image,
                                          .mask = mask,
                                          .observe = observe,
                                          .observe_arg = &e,
                                          .noise = noise,
                                          .noise_arg = &e},
                   &out, &err));
    pipe_keep(&x, NULL);
    pipe_keep(&image, NULL);
    pipe_keep(&mask, NULL);
    pipe_keep(&out, NULL);
    return e.worst;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const golden_case *)a)->name, ((const golden_case *)b)->name);
}

ParameterizedTestParameters(golden_samplers, agrees_with_diffusers)
{
    static golden_case cases[256];
    size_t n = 0;
    DIR *d = opendir(FOLDER);

    cr_assert(d, "%s cannot be read", FOLDER);
    for (const struct dirent *f; (f = readdir(d));) {
        const char *end = strrchr(f->d_name, '.');
        if (end && strcmp(end, ".json") == 0 && n < sizeof cases / sizeof *cases)
            snprintf(cases[n++].name, sizeof cases->name, "%s", f->d_name);
    }
    closedir(d);
    qsort(cases, n, sizeof *cases, by_name);
    return cr_make_param_array(golden_case, cases, n);
}

ParameterizedTest(golden_case *c, golden_samplers, agrees_with_diffusers)
{
    char path[sizeof FOLDER + sizeof c->name + 1];
    json_error_t why;
    double worst = 0.0;

    snprintf(path, sizeof path, "%s/%s", FOLDER, c->name);
    json_t *file = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    cr_assert(file, "%s: line %d: %s", c->name, why.line, why.text);
    const json_t *all = member(file, "configurations");
    cr_expect(json_array_size(all) >= 3, "%s: at least three configurations", c->name);
    for (size_t i = 0; i < json_array_size(all); i++)
        worst = fmax(worst, check(file, json_array_get(all, i)));
    cr_log_info("%s: %zu configurations, largest deviation %.1e", c->name, json_array_size(all), worst);
    json_decref(file);
}
