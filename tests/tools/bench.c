/* pipe bench: which rows there are, what they say, and that what it exports is what
 * was computed.  How fast anything is depends on the machine and is not tested. */
#include "support/command.h"
#include "support/folder.h"

#include <jansson.h>
#include <math.h>
#include <pipe/io.h>
#include <stdio.h>

static char *folder, *cache;

static void setup(void)
{
    folder = folder_make();
    cache = pipe_format("%s/cache", folder);
}

static void teardown(void)
{
    pipe_free_ptr(&cache);
    folder_drop(&folder);
}

TestSuite(bench, .init = setup, .fini = teardown);

static json_t *run_json(const char *line)
{
    command c = command_run(folder, cache, line);
    json_error_t reason;
    command_expect(&c, 0, line);
    json_t *document = json_loads(c.out, JSON_REJECT_DUPLICATES, &reason);
    cr_assert(document, "%s: %s\n%s", line, reason.text, c.out);
    command_free(&c);
    return document;
}

/* The first rows are always those of the machine; `wanted` [n] follow. */
static void check_rows(const json_t *document, const char *const (*wanted)[2], size_t n)
{
    const json_t *rows = json_object_get(document, "rows");
    const json_t *row;
    size_t k, found = 0;

    json_array_foreach(rows, k, row)
    {
        const char *name = json_string_value(json_object_get(row, "name"));
        const char *shape = json_string_value(json_object_get(row, "shape"));
        const double median = json_number_value(json_object_get(row, "ms")),
                     least = json_number_value(json_object_get(row, "least_ms")),
                     work = json_number_value(json_object_get(row, "work"));
        cr_expect(least > 0 && median >= least, "%s: %g ms, least %g ms", name, median, least);
        if (strcmp(name, "multiply-add") == 0 || strcmp(name, "memory") == 0)
            continue;
        cr_assert(found < n, "%s %s was not asked for", name, shape);
        cr_expect_str_eq(name, wanted[found][0]);
        cr_expect(strstr(shape, wanted[found][1]), "%s: shape %s", name, shape);
        const char *unit = json_string_value(json_object_get(row, "unit"));
        const double rate = json_number_value(json_object_get(row, "rate"));
        const double expected = strcmp(unit, "GFLOP/s") == 0 || strcmp(unit, "GB/s") == 0
                                    ? 1e-6 * work / median
                                    : 1e3 * median / work;
        cr_expect(fabs(rate - expected) <= 1e-9 * expected, "%s: %g %s", name, rate, unit);
        found++;
    }
    cr_expect_eq(found, n, "%zu rows of %zu", found, n);
}

Test(bench, rows)
{
    static const char *const wanted[][2] = {{"gemm", "1 of 64 x 64 x 64, nn"},
                                            {"rms norm", "12544 x 256"},
                                            {"sampler.ddim", "64 x 28x28x1"},
                                            {"sampler.ddpm", "64 x 28x28x1"}};
    json_t *document = run_json(
        "$PIPE bench --json --repeats=3 --filter='gemm 1 of 64 x 64 x 64,' --filter=rms "
        "--filter='sampler.dd?m 64 x*28x1'"
        " --filter='no such row'");

    check_rows(document, wanted, sizeof wanted / sizeof wanted[0]);
    cr_expect(json_number_value(json_object_get(document, "peak_flops")) > 0);
    cr_expect(json_number_value(json_object_get(document, "peak_bandwidth")) > 0);
    const json_t *gemm = json_array_get(json_object_get(document, "rows"),
                                        json_array_size(json_object_get(document, "rows")) - 4);
    const double share = json_number_value(json_object_get(gemm, "of_peak")),
                 rate = json_number_value(json_object_get(gemm, "rate")),
                 peak = json_number_value(json_object_get(document, "peak_flops"));
    cr_expect(fabs(share - 1e9 * rate / peak) < 1e-9 * share, "%g of the peak", share);
    json_decref(document);
}

/* One of fixed steps, one that chooses its own, one that cannot do without parameters. */
Test(bench, samplers)
{
    command c = command_run(folder, cache, "$PIPE bench --repeats=1 --filter=sampler.euler --filter=sampler.dpm-adaptive "
                                            "--filter=sampler.restart");

    command_expect(&c, 0, "samplers");
    cr_expect(strstr(c.out, "sampler.euler ") && strstr(c.out, "sampler.dpm-adaptive ") &&
                  strstr(c.out, "own work per call") && strstr(c.out, "us/call"),
              "%s", c.out);
    cr_expect(!strstr(c.out, "sampler.restart") && strstr(c.err, "sampler.restart is not measured"), "%s", c.err);
    command_free(&c);
}

Test(bench, table)
{
    command c = command_run(folder, cache, "$PIPE bench --repeats=1 --filter='host: record mlp'");

    command_expect(&c, 0, "a table");
    cr_expect(strstr(c.out, "name ") == c.out && strstr(c.out, "multiply-add ") && strstr(c.out, "memory "),
              "%s", c.out);
    cr_expect(strstr(c.out, "host: record ") && strstr(c.out, "mlp training step, ") &&
                  strstr(c.out, "us/op"),
              "%s", c.out);
    cr_expect(!strstr(c.out, "gemm") && !strstr(c.out, "host: replay"), "%s", c.out);
    command_free(&c);
}

/* ---- what it exports ---- */
static float *numbers(const pipe_safetensors *f, const char *name, size_t n)
{
    pipe_error err = PIPE_ERROR_INIT;
    const pipe_array *a = pipe_safetensors_find(f, name);
    float *x = pipe_alloc_array(n, sizeof *x);

    cr_assert(a, "%s is missing", name);
    cr_assert_eq(pipe_array_count(a), n, "%s has %zu values", name, pipe_array_count(a));
    MUST(pipe_array_f32(a, 0, n, x, &err));
    return x;
}

/* The loss and the gradient of the last bias follow from output and target. */
Test(bench, export)
{
    enum { ROWS = 1024, D = 2, N = ROWS * D };
    pipe_error err = PIPE_ERROR_INIT;
    pipe_safetensors *f = NULL, *w = NULL;
    json_t *document = run_json(
        "$PIPE bench --json --repeats=1 --filter='mlp forward batch 1,' --export=out/there");

    check_rows(document, (const char *const[][2]){{"mlp forward", "batch 1, width 256"}}, 1);
    const json_t *row = json_array_get(json_object_get(document, "rows"),
                                       json_array_size(json_object_get(document, "rows")) - 1);
    cr_expect(json_integer_value(json_object_get(row, "peak_memory")) > 0);
    json_decref(document);

    char *results = pipe_format("%s/out/there/mlp.results.safetensors", folder),
         *weights = pipe_format("%s/out/there/mlp.weights.safetensors", folder);
    MUST(pipe_safetensors_open(results, &f, &err));
    MUST(pipe_safetensors_open(weights, &w, &err));
    float *output = numbers(f, "output", N), *target = numbers(f, "target", N), *loss = numbers(f, "loss", 1),
          *gradient = numbers(f, "gradient.out.bias", D), *t = numbers(f, "t", ROWS);
    double sum = 0, bias[D] = {0};
    for (size_t k = 0; k < N; k++) {
        const double d = (double)output[k] - target[k];
        sum += d * d / N;
        bias[k % D] += 2 * d / N;
    }
    cr_expect(sum > 0.1 && fabs(loss[0] - sum) < 1e-5 * sum, "loss %g, not %g", (double)loss[0], sum);
    for (size_t k = 0; k < D; k++)
        cr_expect(fabs(gradient[k] - bias[k]) < 1e-5 * (fabs(bias[k]) + 0.01), "gradient %g, not %g",
                  (double)gradient[k], bias[k]);
    for (size_t k = 1; k < ROWS; k++)
        cr_assert(t[k] > t[k - 1] && t[k] < 1, "time %zu is %g", k, (double)t[k]);
    for (size_t k = 0; k < pipe_safetensors_count(w); k++) {
        char *name = pipe_format("gradient.%s", pipe_safetensors_name(w, k));
        const pipe_array *g = pipe_safetensors_find(f, name);
        cr_assert(g, "%s is missing", name);
        cr_expect(pipe_shape_equal(&g->shape, &pipe_safetensors_at(w, k)->shape), "%s", name);
        pipe_free(name);
    }
    float *const all[] = {output, target, loss, gradient, t};
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++)
        pipe_free(all[k]);
    pipe_free(results);
    pipe_free(weights);
    pipe_safetensors_close(f);
    pipe_safetensors_close(w);
}
