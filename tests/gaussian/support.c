#include "gaussian/support.h"

#include <math.h>

pipe_dataset *gaussian_fit(const char *name, pipe_dataset *data, const char *const *params)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *ctx = test_hold(data_context(NULL));
    const pipei_named_object inputs[] = {{"data", data}, {NULL, NULL}};

    OK(data_run(ctx, "fit", name, params, inputs, &err));
    pipe_dataset *statistics = pipei_context_yielded(ctx, "statistics");
    cr_assert(statistics, "%s yielded nothing", name);
    return statistics;
}

pipe_object *gaussian_denoiser(const char *name, const char *schedule, pipe_dataset *statistics,
                               const char *const *params)
{
    const pipei_named_object inputs[] = {{"schedule", test_object("schedule", schedule, NULL, NULL)},
                                         {"statistics", statistics},
                                         {NULL, NULL}};

    return test_object("denoiser", name, params, inputs);
}

pipe_dataset *gaussian_points(size_t n, size_t d, int64_t classes)
{
    float *x = pipe_alloc_array(n * d, sizeof *x), *z = pipe_alloc_array(n * d, sizeof *z);
    int32_t *label = pipe_alloc_array(n, sizeof *label);

    pipe_host_randn((pipe_key){.seed = 17}, z, n * d);
    for (size_t i = 0; i < n; i++) {
        label[i] = (int32_t)(i % (size_t)classes);
        for (size_t j = 0; j < d; j++) /* neighbours are correlated, spreads differ */
            x[i * d + j] = (z[i * d + j] + 0.6f * z[i * d + (j + 1) % d]) / (float)(j + 1) +
                           (float)label[i] * 0.8f - 0.3f * (float)j;
    }
    pipe_dataset *out = data_make(PIPE_SHAPE((int64_t)d), n, x, label, classes);
    pipe_free(x);
    pipe_free(z);
    pipe_free(label);
    return test_hold(out);
}

pipe_schedule_point gaussian_predict(pipe_object *d, double t, pipe_shape shape, const float *x,
                                     const int32_t *label, pipe_prediction want, float *out)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_denoiser_info info;
    pipe_condition c = {.size = sizeof c};

    OK(pipe_denoiser_describe(d, &info, &err));
    const pipe_level l = pipe_level_uniform(info.schedule, test_engine(), shape.dim[0], t);
    if (label)
        c.labels = pipe_from_i32(test_engine(), PIPE_SHAPE(shape.dim[0]), label);
    OK(pipe_read_f32(pipe_predict(d, pipe_from_f32(test_engine(), shape, x), &l, &c, want), out,
                     (size_t)pipe_shape_count(&shape), &err));
    return l.point;
}

double gaussian_difference(const float *a, const float *b, size_t n)
{
    double most = 0.0;

    for (size_t i = 0; i < n; i++) {
        const double difference = fabs((double)a[i] - (double)b[i]);
        most = difference > most || isnan(difference) ? difference : most;
    }
    return most;
}

void gaussian_check_score(pipe_object *d, int64_t dim, double t, const char *what)
{
    enum { B = 3 };
    pipe_error err = PIPE_ERROR_INIT;
    pipe_engine *e = test_engine();
    pipe_denoiser_info info;
    float x[B * 8], score[B * 8], gradient[B * 8], up[B], down[B];
    const size_t n = (size_t)(B * dim);
    pipe_tensor *leaf = NULL, *g = NULL;

    OK(pipe_denoiser_describe(d, &info, &err));
    pipe_host_randn((pipe_key){.seed = 5}, x, n);
    gaussian_predict(d, t, PIPE_SHAPE(B, dim), x, NULL, PIPE_PREDICT_SCORE, score);
    const pipe_level l = pipe_level_uniform(info.schedule, e, B, t);
    pipe_keep(&leaf, pipe_from_f32(e, PIPE_SHAPE(B, dim), x));
    OK(pipe_grad(pipe_sum_all(pipe_denoiser_log_density(d, leaf, &l, NULL)), NULL, &leaf, 1, &g, &err));
    OK(pipe_read_f32(g, gradient, n, &err));
    for (size_t i = 0; i < n; i++)
        cr_expect_float_eq(gradient[i], score[i], 1e-4 * (1 + fabs((double)score[i])),
                           "%s, t = %g: score %zu is %g, the gradient %g", what, t, i, (double)score[i],
                           (double)gradient[i]);
    for (int64_t j = 0; j < dim; j++) {
        const float step = 0.02f;
        float moved[B * 8];
        for (int sign = -1; sign <= 1; sign += 2) {
            const pipe_level at = pipe_level_uniform(info.schedule, e, B, t);
            memcpy(moved, x, sizeof moved);
            for (int64_t i = 0; i < B; i++)
                moved[i * dim + j] += (float)sign * step;
            OK(pipe_read_f32(
                pipe_denoiser_log_density(d, pipe_from_f32(e, PIPE_SHAPE(B, dim), moved), &at, NULL),
                sign > 0 ? up : down, B, &err));
        }
        for (int64_t i = 0; i < B; i++) {
            const double slope = ((double)up[i] - (double)down[i]) / (2.0 * (double)step);
            cr_expect_float_eq(slope, score[i * dim + j], 5e-3 * (1 + fabs(slope)),
                               "%s: score %g, difference quotient %g", what, (double)score[i * dim + j],
                               slope);
        }
    }
    pipe_keep(&leaf, NULL);
}
