/* gradient_checkpointing of the networks: the same loss, output and gradients, to the
 * bit, in less memory.  Dropout is on: what is computed again must draw the same. */
#include "support/objects.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <string.h>

enum { PARAMS = 20 };

typedef struct network {
    char why[48], plugin[24];
    char param[PARAMS][24]; /* key, value, ..., "" */
    pipe_shape x;
    double share; /* of the memory without: at most */
} network;

/* Deep enough that the inner values of the blocks are most of what a step holds. */
static network networks[] = {
    {"residual blocks, attention, skips",
     "denoiser.unet",
     {"channels", "8", "multipliers", "[1, 2]", "blocks", "3", "attention", "[1]", "heads", "2", "dropout", "0.1"},
     {.rank = 4, .dim = {8, 16, 16, 1}},
     0.9},
    {"transformer blocks",
     "denoiser.dit",
     {"patch", "2", "width", "16", "depth", "8", "heads", "2", "dropout", "0.1"},
     {.rank = 4, .dim = {8, 16, 16, 1}},
     0.6},
    {"blocks of a perceptron",
     "denoiser.mlp",
     {"width", "64", "depth", "12", "features", "16", "zero_init", "false", "dropout", "0.1"},
     {.rank = 2, .dim = {512, 2}},
     0.8},
};

typedef struct result {
    float loss, *gradient;
    size_t n;
    uint64_t arena; /* of the largest plan so far */
} result;

static pipe_tensor *leaf(pipe_shape shape, uint32_t salt)
{
    const size_t n = (size_t)pipe_shape_count(&shape);
    float *x = pipe_alloc_array(n + 1, sizeof *x);

    for (size_t k = 0; k < n; k++)
        x[k] = (float)(((uint32_t)k + 1) * (2 * salt + 1) * 2654435761u >> 12 & 1023) / 512.0f - 1.0f;
    pipe_tensor *t = pipe_from_f32(test_engine(), shape, x);
    pipe_free(x);
    return t;
}

static pipe_tensor *predict(pipe_object *net, pipe_tensor *x)
{
    const pipe_level level = {.size = sizeof level,
                              .t = pipe_affine(pipe_arange(test_engine(), pipe_dim(x, 0), 0.0, 1.0), 1e-3, 0.2)};

    return pipe_denoise(net, x, &level, NULL);
}

static void build(pipe_object *net, pipe_shape shape)
{
    pipe_model *m = pipe_object_model(net);
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipe_model_build_begin(m, &err));
    pipe_tensor *y = predict(net, pipe_zeros(test_engine(), shape));
    OK(pipe_check(y, &err));
    OK(pipe_model_build_end(m, &err));
    /* No layer of zeros, behind which there would be no gradient. */
    OK(pipe_assign(pipe_model_flat(m), pipe_scale(leaf(PIPE_SHAPE(pipe_model_count(m)), 7), 0.3), &err));
    OK(pipe_eval(test_engine(), &err));
}

/* Twice: the second time is a replay of the plan. */
static result run(const network *c, bool again)
{
    const char *params[PARAMS + 3] = {NULL};
    pipe_tensor *x = NULL, *want = NULL, *loss = NULL, *gradient = NULL;
    pipe_error err = PIPE_ERROR_INIT;
    result r = {0};
    size_t n = 0;

    while (n < PARAMS && c->param[n][0]) {
        params[n] = c->param[n];
        n++;
    }
    params[n] = "gradient_checkpointing";
    params[n + 1] = again ? "true" : "false";
    pipe_object *net = test_object("denoiser", c->plugin, params, NULL);
    pipe_model *m = pipe_object_model(net);
    build(net, c->x);
    pipe_keep(&x, leaf(c->x, 1));
    pipe_keep(&want, leaf(c->x, 2));
    r.n = (size_t)pipe_model_count(m);
    r.gradient = test_hold(pipe_alloc_array(r.n, sizeof *r.gradient));
    for (int turn = 0; turn < 2; turn++) {
        pipe_tensor *flat = pipe_model_flat(m), *g;
        pipe_model_set_training(m, true, 5);
        pipe_keep(&loss, pipe_mse(predict(net, x), want));
        OK(pipe_grad(loss, NULL, &flat, 1, &g, &err));
        pipe_keep(&gradient, g);
        OK(pipe_eval(test_engine(), &err));
    }
    OK(pipe_read_f32(loss, &r.loss, 1, &err));
    OK(pipe_read_f32(gradient, r.gradient, r.n, &err));
    pipe_tensor **const held[] = {&x, &want, &loss, &gradient};
    for (size_t k = 0; k < 4; k++)
        pipe_keep(held[k], NULL);
    pipe_object_unref(net);
    r.arena = pipei_engine_stats_get(test_engine()).arena_bytes;
    return r;
}

ParameterizedTestParameters(checkpointing, the_same_bits_in_less_memory)
{
    return cr_make_param_array(network, networks, sizeof networks / sizeof networks[0]);
}

/* The largest plan of the process is what can be asked for: what must need less runs first. */
ParameterizedTest(network *c, checkpointing, the_same_bits_in_less_memory)
{
    const result with = run(c, true), without = run(c, false);
    double sum = 0.0;

    for (size_t k = 0; k < without.n; k++)
        sum += (double)without.gradient[k] * without.gradient[k];
    cr_assert(without.loss > 0.0f && sum > 0.0, "%s: loss %g, gradient %g", c->why, (double)without.loss, sum);
    cr_expect_eq(memcmp(&with.loss, &without.loss, sizeof with.loss), 0, "%s: loss %.9g, not %.9g", c->why,
                 (double)with.loss, (double)without.loss);
    cr_assert_eq(with.n, without.n);
    for (size_t k = 0; k < with.n; k++)
        cr_assert_eq(memcmp(&with.gradient[k], &without.gradient[k], sizeof(float)), 0,
                     "%s: gradient %zu is %.9g, not %.9g", c->why, k, (double)with.gradient[k],
                     (double)without.gradient[k]);
    cr_expect((double)with.arena < c->share * (double)without.arena, "%s: %llu bytes of %llu without", c->why,
              (unsigned long long)with.arena, (unsigned long long)without.arena);
}
