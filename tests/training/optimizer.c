/* Optimizers against their papers, in double precision, over several steps. */
#include "support/objects.h"

#include <criterion/criterion.h>
#include <math.h>
#include <pipe/pipe.h>

enum { N = 5, STEPS = 7 };

static const float start[N] = {1.0f, -2.0f, 0.5f, 0.0f, 3.0f};
static const float mask[N] = {1.0f, 1.0f, 0.0f, 0.0f, 1.0f};

/* A gradient that changes with the step; element 3's is always 0. */
static float gradient(int step, int k)
{
    return k == 3 ? 0.0f : (float)(sin(1.0 + 2.0 * step + 3.0 * k) * (k == 4 ? 1e-3 : 1.0));
}

static void run(pipe_object *optimizer, double rate, double out[N])
{
    const int32_t moments = pipe_optimizer_state_count(optimizer);
    pipe_tensor *p = NULL, *decay = NULL, *state[4] = {NULL}, *next[4] = {NULL};
    pipe_error err = PIPE_ERROR_INIT;
    float g[N], v[N];

    pipe_keep(&p, pipe_from_f32(test_engine(), PIPE_SHAPE(N), start));
    pipe_keep(&decay, pipe_from_f32(test_engine(), PIPE_SHAPE(N), mask));
    for (int32_t k = 0; k < moments; k++)
        pipe_keep(&state[k], pipe_from_f32(test_engine(), PIPE_SHAPE(N), (float[N]){0}));
    for (int s = 0; s < STEPS; s++) {
        for (int k = 0; k < N; k++)
            g[k] = gradient(s, k);
        pipe_update u = {.size = sizeof u,
                         .p = p,
                         .g = pipe_from_f32(test_engine(), PIPE_SHAPE(N), g),
                         .state = state,
                         .state_new = next,
                         .learning_rate = rate,
                         .step = (uint64_t)s + 1,
                         .decay_mask = decay};
        OK(pipe_optimizer_update(optimizer, &u, &err));
        for (int32_t k = 0; k < moments; k++)
            OK(pipe_assign(state[k], next[k], &err));
        OK(pipe_assign(p, u.p_new, &err));
        OK(pipe_eval(test_engine(), &err));
    }
    OK(pipe_read_f32(p, v, N, &err));
    for (int k = 0; k < N; k++)
        out[k] = v[k];
}

static void compare(const double *got, const double *want, const char *what)
{
    for (int k = 0; k < N; k++)
        cr_expect(fabs(got[k] - want[k]) < 2e-6 * (1.0 + fabs(want[k])), "%s: weight %d is %.8g, want %.8g",
                  what, k, got[k], want[k]);
}

Test(optimizer, adamw)
{
    static const char *const params[] = {"beta1", "0.8",          "beta2", "0.95", "epsilon",
                                         "1e-6",  "weight_decay", "0.3",   NULL};
    double got[N], want[N];

    run(test_object("optimizer", "optimizer.adamw", params, NULL), 0.1, got);
    for (int k = 0; k < N; k++) {
        double p = start[k], m = 0.0, v = 0.0;
        for (int s = 0; s < STEPS; s++) {
            const double g = gradient(s, k);
            m = 0.8 * m + 0.2 * g;
            v = 0.95 * v + 0.05 * g * g;
            p -= 0.1 * 0.3 * mask[k] * p;
            p -= 0.1 * (m / (1.0 - pow(0.8, s + 1))) / (sqrt(v / (1.0 - pow(0.95, s + 1))) + 1e-6);
        }
        want[k] = p;
    }
    compare(got, want, "adamw");
    cr_expect_eq(got[3], 0.0, "no gradient, no decay: nothing happens");
}

Test(optimizer, sgd)
{
    static const struct {
        const char *param[7];
        double momentum, decay;
        bool nesterov;
    } rows[] = {
        {{"momentum", "0", NULL}, 0.0, 0.0, false},
        {{"momentum", "0.9", "weight_decay", "0.2", NULL}, 0.9, 0.2, false},
        {{"momentum", "0.7", "nesterov", "true", "weight_decay", "0.1", NULL}, 0.7, 0.1, true},
    };

    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        double got[N], want[N];
        run(test_object("optimizer", "optimizer.sgd", rows[r].param, NULL), 0.05, got);
        for (int k = 0; k < N; k++) {
            double p = start[k], b = 0.0;
            for (int s = 0; s < STEPS; s++) {
                const double g = gradient(s, k) + rows[r].decay * mask[k] * p;
                b = rows[r].momentum * b + g;
                p -= 0.05 * (rows[r].nesterov ? g + rows[r].momentum * b : b);
            }
            want[k] = p;
        }
        compare(got, want, "sgd");
    }
}
