/* The networks against PyTorch in double precision: loss and gradients with
 * given weights.  tests/data/golden/networks.py made the numbers and says how. */
#include "support/objects.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <pipe/io.h>
#include <stdio.h>
#include <string.h>

/* ---- the same numbers as the script's ---- */

static double *hashed(const char *name, size_t n, double scale)
{
    double *out = pipe_alloc_array(n + 1, sizeof *out);
    uint32_t h = 2166136261u;

    for (const char *p = name; *p; p++)
        h = (h ^ (uint8_t)*p) * 16777619u;
    for (size_t i = 0; i < n; i++) {
        uint32_t k = (uint32_t)i * 2654435761u + h;
        k ^= k >> 16;
        k *= 2246822519u;
        k ^= k >> 13;
        k *= 3266489917u;
        k ^= k >> 16;
        out[i] = (k / 2147483648.0 - 1.0) * scale;
    }
    return out;
}

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static void fill_weight(const pipe_weight_info *w, float *slab)
{
    const size_t n = (size_t)pipe_shape_count(&w->shape);
    double *v = hashed(w->name, n, 1.0), fan = 1.0;

    for (uint32_t k = 0; k + 1 < w->shape.rank; k++)
        fan *= (double)w->shape.dim[k];
    const bool gain = strstr(w->name, "norm") && ends_with(w->name, ".weight");
    for (size_t i = 0; i < n; i++)
        slab[w->offset + (int64_t)i] = (float)(w->shape.rank >= 2 ? v[i] * 1.5 / sqrt(fan)
                                                                  : 0.1 * v[i] + (gain ? 1.0 : 0.0));
    pipe_free(v);
}

static pipe_tensor *hashed_tensor(const char *name, pipe_shape shape)
{
    const size_t n = (size_t)pipe_shape_count(&shape);
    double *v = hashed(name, n, 1.75);
    float *f = pipe_alloc_array(n, sizeof *f);

    for (size_t i = 0; i < n; i++)
        f[i] = (float)v[i];
    pipe_tensor *t = pipe_from_f32(test_engine(), shape, f);
    pipe_free(v);
    pipe_free(f);
    return t;
}

/* ---- the cases ---- */

typedef struct {
    char file[24], plugin[24];
    char param[20][24]; /* key, value, ..., "" */
    pipe_shape x;
    double tolerance; /* of norms and projections, relative to the norm */
} golden;

static golden cases[] = {
    {"unet",
     "denoiser.unet",
     {"channels", "32", "multipliers", "[1, 2, 2]", "blocks", "2"},
     {.rank = 4, .dim = {2, 28, 28, 1}},
     1e-4},
    {"unet-small",
     "denoiser.unet",
     {"channels", "8", "multipliers", "[1, 2]", "blocks", "1", "attention", "[1]", "heads", "2", "classes",
      "10"},
     {.rank = 4, .dim = {4, 9, 7, 2}},
     1e-4},
    {"dit",
     "denoiser.dit",
     {"patch", "2", "width", "16", "depth", "2", "heads", "2", "classes", "10"},
     {.rank = 4, .dim = {4, 8, 6, 2}},
     1e-4},
    {"mlp",
     "denoiser.mlp",
     {"width", "24", "depth", "3", "features", "16", "classes", "10"},
     {.rank = 2, .dim = {4, 3}},
     1e-4},
};

ParameterizedTestParameters(golden, networks_agree_with_pytorch)
{
    return cr_make_param_array(golden, cases, sizeof cases / sizeof cases[0]);
}

static const float *floats(const pipe_safetensors *f, const char *name, size_t want)
{
    pipe_error err = PIPE_ERROR_INIT;
    const pipe_array *a = pipe_safetensors_find(f, name);
    cr_assert(a, "no %s in the golden file", name);
    const size_t n = pipe_array_count(a);
    float *out = test_hold(pipe_alloc_array(n + 1, sizeof *out));

    cr_assert_eq(n, want, "%s: %zu numbers, %zu expected", name, n, want);
    OK(pipe_array_f32(a, 0, n, out, &err));
    return out;
}

static double norm_of(const float *v, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (double)v[i] * v[i];
    return sqrt(sum);
}

/* Both arrays agree relative to the norm of what is wanted. */
static void near_array(const char *what, const float *got, const float *want, size_t n, double tolerance)
{
    float *diff = pipe_alloc_array(n + 1, sizeof *diff);
    for (size_t i = 0; i < n; i++)
        diff[i] = got[i] - want[i];
    const double error = norm_of(diff, n) / norm_of(want, n);
    cr_expect(error < tolerance, "%s: relative error %g, allowed %g", what, error, tolerance);
    pipe_free(diff);
}

static double dot_hashed(const char *prefix, const char *name, const float *g, size_t n)
{
    char key[256];
    double sum = 0.0;

    snprintf(key, sizeof key, "%s%s", prefix, name);
    double *v = hashed(key, n, 1.0);
    for (size_t i = 0; i < n; i++)
        sum += v[i] * g[i];
    pipe_free(v);
    return sum;
}

static void check_gradient(const pipe_safetensors *f, const pipe_weight_info *w, const float *g,
                           const float *want, double floor_norm, double tolerance)
{
    const size_t n = (size_t)pipe_shape_count(&w->shape);
    const double scale = fmax(want[0],
                              floor_norm); /* keys' biases have no gradient at all: softmax ignores them */
    char name[256];

    cr_expect(fabs(norm_of(g, n) - want[0]) < tolerance * scale, "%s: norm %.8g, want %.8g", w->name,
              norm_of(g, n), want[0]);
    for (int k = 0; k < 2; k++) {
        const double got = dot_hashed(k ? "2 " : "1 ", w->name, g, n);
        cr_expect(fabs(got - want[1 + k]) < tolerance * scale * sqrt((double)n / 3.0 + 1.0),
                  "%s: projection %d is %.8g, want %.8g", w->name, k, got, want[1 + k]);
    }
    snprintf(name, sizeof name, "gradient.%s", w->name);
    if (pipe_safetensors_find(f, name) && want[0] > floor_norm)
        near_array(name, g, floats(f, name, n), n, tolerance);
}

/* The names in the golden file's metadata, one a line, are exactly the model's. */
static void check_names(const pipe_safetensors *f, const pipe_weight_info *w, size_t n)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text all = {0};
    for (size_t k = 0; k < n; k++)
        pipe_text_addf(&all, "%s%s", k ? "\n" : "", w[k].name);
    cr_assert_str_eq(all.data, pipe_safetensors_metadata(f, "names"));
}

static void predict(pipe_object *net, pipe_tensor *x, pipe_tensor **out)
{
    const float t[] = {0.125f, 0.25f, 0.375f, 0.5f};
    const int32_t label[] = {3, -1, 0, 7};
    const pipe_shape n = PIPE_SHAPE(pipe_dim(x, 0));
    const pipe_level level = {.size = sizeof level, .t = pipe_from_f32(test_engine(), n, t)};
    const pipe_condition condition = {.size = sizeof condition,
                                      .labels = pipe_from_i32(test_engine(), n, label)};

    *out = pipe_denoise(net, x, &level, &condition);
}

ParameterizedTest(golden *c, golden, networks_agree_with_pytorch)
{
    PIPE_CLEANUP(pipe_safetensors_close_ptr) pipe_safetensors *f = NULL;
    pipe_error err = PIPE_ERROR_INIT;
    const char *params[21] = {NULL};
    char path[4096];
    const pipe_weight_info *w;
    pipe_tensor *out, *g[2], *loss, *kept[4] = {NULL};
    const size_t count = (size_t)pipe_shape_count(&c->x);

    for (int k = 0; k < 20 && c->param[k][0]; k++)
        params[k] = c->param[k];
    snprintf(path, sizeof path, "%s/data/golden/%s.safetensors", TEST_SRCDIR, c->file);
    OK(pipe_safetensors_open(path, &f, &err));
    pipe_object *net = test_object("denoiser", c->plugin, params, NULL);
    pipe_model *m = pipe_object_model(net);

    OK(pipe_model_build_begin(m, &err));
    predict(net, hashed_tensor("x", c->x), &out);
    OK(pipe_check(out, &err));
    OK(pipe_model_build_end(m, &err));
    const size_t n = pipe_model_weights(m, &w);
    check_names(f, w, n);
    float *slab = test_hold(pipe_alloc_array((size_t)pipe_model_count(m), sizeof *slab));
    for (size_t k = 0; k < n; k++)
        fill_weight(&w[k], slab);
    OK(pipe_assign(pipe_model_flat(m), pipe_from_f32(test_engine(), PIPE_SHAPE(pipe_model_count(m)), slab),
                   &err));
    OK(pipe_eval(test_engine(), &err));

    pipe_tensor *x = hashed_tensor("x", c->x), *of[2] = {pipe_model_flat(m), x};
    predict(net, x, &out);
    loss = pipe_mse(out, hashed_tensor("want", c->x));
    OK(pipe_grad(loss, NULL, of, 2, g, &err));
    pipe_tensor *all[4] = {loss, out, g[0], g[1]};
    for (int k = 0; k < 4; k++)
        pipe_keep(&kept[k], all[k]);
    OK(pipe_eval(test_engine(), &err));

    float value, *y = test_hold(pipe_alloc_array(count, sizeof *y));
    const float *want = floats(f, "loss", 1), *rows = floats(f, "gradient", 3 * n);
    OK(pipe_read_f32(kept[0], &value, 1, &err));
    cr_expect(fabsf(value - want[0]) < 1e-5f * want[0], "loss %.8g, want %.8g", value, want[0]);
    OK(pipe_read_f32(kept[1], y, count, &err));
    near_array("output", y, floats(f, "output", count), count, 1e-5);
    OK(pipe_read_f32(kept[3], y, count, &err));
    near_array("gradient in x", y, floats(f, "input", count), count, c->tolerance);
    OK(pipe_read_f32(kept[2], slab, (size_t)pipe_model_count(m), &err));
    double total = 0.0;
    for (size_t k = 0; k < n; k++)
        total += (double)rows[3 * k] * rows[3 * k];
    for (size_t k = 0; k < n; k++)
        check_gradient(f, &w[k], slab + w[k].offset, rows + 3 * k, 1e-3 * sqrt(total), c->tolerance);
    for (int k = 0; k < 4; k++)
        pipe_keep(&kept[k], NULL);
}
