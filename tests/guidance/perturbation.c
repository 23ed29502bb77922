/* Perturbed attention: against networks that do the same without a perturbation, and
 * against formulas in double. */
#include "gaussian/support.h"

#include <math.h>
#include <pipe/guidance.h>
#include <stdio.h>
#include <string.h>

enum { SIDE = 8, CHANNELS = 2, COUNT_X = SIDE * SIDE * CHANNELS, PATCH = 2 };

static const int64_t first_block[] = {0}, both_blocks[] = {0, 1};

static pipe_perturbation perturb(pipe_perturbation_kind kind, const int64_t *blocks, size_t n, double sigma)
{
    return (pipe_perturbation){
        .size = sizeof(pipe_perturbation), .kind = kind, .blocks = {blocks, n}, .sigma = sigma};
}

/* What `d` predicts for the square image x. */
static void predict(pipe_object *d, const float *x, int64_t side, const pipe_perturbation *p, float *out)
{
    const float t = 0.4f;
    const pipe_level level = {.size = sizeof level, .t = pipe_from_f32(test_engine(), PIPE_SHAPE(1), &t)};
    const pipe_condition c = {.size = sizeof c, .perturbation = p};
    pipe_tensor *in = pipe_from_f32(test_engine(), PIPE_SHAPE(1, side, side, CHANNELS), x);
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipe_read_f32(pipe_denoise(d, in, &level, &c), out, (size_t)(side * side * CHANNELS), &err));
}

/* Writes `scale` times normal numbers (0: zeros) to the weights whose names begin so. */
static void set_weights(pipe_object *net, const char *prefix, float scale)
{
    pipe_model *m = pipe_object_model(net);
    const size_t count = (size_t)pipe_model_count(m);
    float *slab = test_hold(pipe_alloc_array(count, sizeof *slab));
    const pipe_weight_info *w;
    pipe_error err = PIPE_ERROR_INIT;
    const size_t n = pipe_model_weights(m, &w);
    size_t found = 0;

    OK(pipe_read_f32(pipe_model_flat(m), slab, count, &err));
    for (size_t k = 0; k < n; k++) {
        if (strncmp(w[k].name, prefix, strlen(prefix)) != 0)
            continue;
        const size_t each = (size_t)pipe_shape_count(&w[k].shape);
        pipe_host_randn((pipe_key){.seed = 5, .stream = k}, slab + w[k].offset, each);
        for (size_t i = 0; i < each; i++)
            slab[(size_t)w[k].offset + i] *= scale;
        found++;
    }
    cr_assert(found > 0, "no weight begins with %s", prefix);
    OK(pipe_assign(pipe_model_flat(m), pipe_from_f32(test_engine(), PIPE_SHAPE((int64_t)count), slab), &err));
    OK(pipe_eval(test_engine(), &err));
}

static pipe_object *network(const char *name, const char *const *params)
{
    pipe_object *net = test_object("denoiser", name, params, NULL);
    pipe_model *m = pipe_object_model(net);
    const pipe_level level = {.size = sizeof level, .t = pipe_full(test_engine(), PIPE_SHAPE(1), 0.4)};
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipe_model_build_begin(m, &err));
    OK(pipe_check(
        pipe_denoise(net, pipe_zeros(test_engine(), PIPE_SHAPE(1, SIDE, SIDE, CHANNELS)), &level, NULL),
        &err));
    OK(pipe_model_build_end(m, &err));
    set_weights(net, "", 0.3f);
    return net;
}

static pipe_object *dit(void)
{
    return network("denoiser.dit",
                   (const char *const[]){"patch", "2", "width", "16", "depth", "2", "heads", "2", NULL});
}

/* Four attentions: one down, one in the middle, two up. */
static pipe_object *unet(void)
{
    return network("denoiser.unet", (const char *const[]){"channels", "8", "multipliers", "[1, 2]", "blocks",
                                                          "1", "attention", "[1]", "heads", "2", NULL});
}

static const float *image(void)
{
    static float x[COUNT_X];

    pipe_host_randn((pipe_key){.seed = 3}, x, COUNT_X);
    return x;
}

/* A token that attends to itself alone is predicted as on an image of one patch, where
 * attention has nothing else to look at; the first patch has the same position in both. */
Test(perturbation, identity_attention_gives_each_token_its_own_value)
{
    pipe_object *net = dit();
    const pipe_perturbation p = perturb(PIPE_PERTURB_IDENTITY, both_blocks, 2, 0.0);
    const float *x = image();
    float crop[PATCH * PATCH * CHANNELS], want[PATCH * PATCH * CHANNELS], got[COUNT_X], plain[COUNT_X];
    double worst = 0.0, moved = 0.0;

    for (size_t i = 0; i < PATCH; i++)
        memcpy(crop + i * PATCH * CHANNELS, x + i * SIDE * CHANNELS, PATCH * CHANNELS * sizeof *x);
    predict(net, crop, PATCH, NULL, want);
    predict(net, x, SIDE, &p, got);
    predict(net, x, SIDE, NULL, plain);
    for (size_t i = 0; i < PATCH; i++)
        for (size_t j = 0; j < PATCH * CHANNELS; j++) {
            const float own = got[i * SIDE * CHANNELS + j];
            worst = fmax(worst, fabs((double)(own - want[i * PATCH * CHANNELS + j])));
            moved = fmax(moved, fabs((double)(own - plain[i * SIDE * CHANNELS + j])));
        }
    cr_expect_lt(worst, 1e-5, "differs by %g from the patch alone", worst);
    cr_expect_gt(moved, 1e-3, "attention to others makes a difference");
}

/* Where the map is the identity, queries and keys do not matter; elsewhere they do. */
Test(perturbation, identity_attention_of_the_unet_asks_no_queries)
{
    static const int64_t middle[] = {1};
    pipe_object *net = unet();
    const pipe_perturbation p = perturb(PIPE_PERTURB_IDENTITY, middle, 1, 0.0);
    float before[COUNT_X], after[COUNT_X], plain[COUNT_X], changed[COUNT_X];

    predict(net, image(), SIDE, &p, before);
    predict(net, image(), SIDE, NULL, plain);
    set_weights(net, "mid.0.attention.q.", 3.0f);
    predict(net, image(), SIDE, &p, after);
    predict(net, image(), SIDE, NULL, changed);
    cr_expect_eq(memcmp(before, after, sizeof after), 0);
    cr_expect_neq(memcmp(plain, changed, sizeof changed), 0);
    cr_expect_neq(memcmp(plain, before, sizeof before), 0);
}

/* A block whose last layer is zero adds nothing: the network without it. */
Test(perturbation, a_skipped_block_is_not_there)
{
    static const int64_t last_up[] = {3};
    const struct {
        pipe_object *net;
        const int64_t *block;
        const char *branch;
    } rows[] = {{dit(), first_block, "block.0.modulation."},
                {unet(), first_block, "down.1.0.attention.out."},
                {unet(), last_up, "up.1.1.attention.out."}};
    float got[COUNT_X], want[COUNT_X], plain[COUNT_X];

    for (size_t k = 0; k < COUNT(rows); k++) {
        const pipe_perturbation p = perturb(PIPE_PERTURB_SKIP, rows[k].block, 1, 0.0);
        predict(rows[k].net, image(), SIDE, &p, got);
        predict(rows[k].net, image(), SIDE, NULL, plain);
        set_weights(rows[k].net, rows[k].branch, 0.0f);
        predict(rows[k].net, image(), SIDE, NULL, want);
        cr_expect_lt(gaussian_difference(got, want, COUNT_X), 1e-5, "%s", rows[k].branch);
        cr_expect_gt(gaussian_difference(got, plain, COUNT_X), 1e-3, "%s made a difference", rows[k].branch);
    }
}

/* ---- the blur, in double ---- */
enum { ROWS = 5, COLUMNS = 4, TOKENS = ROWS * COLUMNS, WIDTH = 3 };

static long mirrored(long i, long n)
{
    return labs(i) < n ? labs(i) : 2 * (n - 1) - labs(i);
}

/* Queries [TOKENS, WIDTH] blurred by a window of 2 half + 1 each way. */
static void blurred(const float *q, double sigma, const long half[2], double *out)
{
    memset(out, 0, TOKENS * WIDTH * sizeof *out);
    for (long t = 0; t < TOKENS; t++) {
        double sum = 0.0;
        for (long i = -half[0]; i <= half[0]; i++)
            for (long j = -half[1]; j <= half[1]; j++) {
                const double w = exp(-0.5 * (double)(i * i + j * j) / (sigma * sigma));
                const long from = mirrored(t / COLUMNS + i, ROWS) * COLUMNS +
                                  mirrored(t % COLUMNS + j, COLUMNS);
                for (long c = 0; c < WIDTH; c++)
                    out[t * WIDTH + c] += w * (double)q[from * WIDTH + c];
                sum += w;
            }
        for (long c = 0; c < WIDTH; c++)
            out[t * WIDTH + c] /= sum;
    }
}

static void attend(const double *q, const float *k, const float *v, double *out)
{
    for (size_t i = 0; i < TOKENS; i++) {
        double sum = 0.0, mix[WIDTH] = {0.0};
        for (size_t j = 0; j < TOKENS; j++) {
            double score = 0.0;
            for (size_t c = 0; c < WIDTH; c++)
                score += q[i * WIDTH + c] * (double)k[j * WIDTH + c];
            score = exp(score / sqrt((double)WIDTH));
            sum += score;
            for (size_t c = 0; c < WIDTH; c++)
                mix[c] += score * (double)v[j * WIDTH + c];
        }
        for (size_t c = 0; c < WIDTH; c++)
            out[i * WIDTH + c] = mix[c] / sum;
    }
}

static void attend_blurred(const float (*qkv)[TOKENS * WIDTH], double sigma, float *out)
{
    const pipe_shape shape = PIPE_SHAPE(1, TOKENS, 1, WIDTH);
    const pipe_perturbation p = perturb(PIPE_PERTURB_BLUR, first_block, 1, sigma);
    const pipe_condition c = {.size = sizeof c, .perturbation = &p};
    pipe_engine *e = test_engine();
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipe_read_f32(pipe_layer_block_attention(pipe_from_f32(e, shape, qkv[0]),
                                                pipe_from_f32(e, shape, qkv[1]),
                                                pipe_from_f32(e, shape, qkv[2]), ROWS, COLUMNS, &c, 0),
                     out, TOKENS * WIDTH, &err));
}

Test(perturbation, blurs_queries_over_the_grid)
{
    /* half windows: 3 sigma, at most half of each side */
    static const struct {
        double sigma;
        long half[2];
    } rows[] = {{0.4, {1, 1}}, {0.6, {2, 2}}, {3.0, {2, 2}}};
    static float qkv[3][TOKENS * WIDTH];
    float got[TOKENS * WIDTH];
    double q[TOKENS * WIDTH], want[TOKENS * WIDTH];

    pipe_host_randn((pipe_key){.seed = 8}, qkv[0], 3 * TOKENS * WIDTH);
    for (size_t k = 0; k <= COUNT(rows); k++) {
        if (k < COUNT(rows)) {
            blurred(qkv[0], rows[k].sigma, rows[k].half, q);
        } else { /* infinite: the mean */
            memset(q, 0, sizeof q);
            for (size_t i = 0; i < TOKENS * TOKENS * WIDTH; i++)
                q[i / (TOKENS * WIDTH) * WIDTH + i % WIDTH] += (double)qkv[0][i % (TOKENS * WIDTH)] / TOKENS;
        }
        attend(q, qkv[1], qkv[2], want);
        attend_blurred((const float(*)[TOKENS * WIDTH]) qkv, k < COUNT(rows) ? rows[k].sigma : INFINITY, got);
        for (size_t i = 0; i < TOKENS * WIDTH; i++)
            cr_assert_float_eq(got[i], want[i], 1e-5, "row %zu, number %zu: %g, not %g", k, i, (double)got[i],
                               want[i]);
    }
}

/* ---- the guiders ---- */
static pipe_object *guide(const char *name, const char *const *params, pipe_object *net)
{
    const pipei_named_object inputs[] = {{"denoiser", net}, {NULL, NULL}};

    return test_object("guidance", name, params, inputs);
}

Test(perturbation, guides_away_from_the_perturbed_network)
{
    static const struct {
        const char *plugin;
        pipe_perturbation_kind kind;
        const char *params[8];
    } rows[] = {
        {"guidance.pag", PIPE_PERTURB_IDENTITY, {"blocks", "[0]", "scale", "2"}},
        {"guidance.slg", PIPE_PERTURB_SKIP, {"blocks", "[0]", "scale", "2"}},
        {"guidance.seg", PIPE_PERTURB_BLUR, {"blocks", "[0]", "scale", "2", "sigma", "0.8"}},
    };
    pipe_object *nets[] = {dit(), unet()};
    float plain[COUNT_X], worse[COUNT_X], got[COUNT_X];

    for (size_t k = 0; k < COUNT(rows) * COUNT(nets); k++) {
        pipe_object *net = nets[k % COUNT(nets)];
        const char *plugin = rows[k / COUNT(nets)].plugin;
        const pipe_perturbation p = perturb(rows[k / COUNT(nets)].kind, first_block, 1, 0.8);
        predict(net, image(), SIDE, NULL, plain);
        predict(net, image(), SIDE, &p, worse);
        cr_expect_gt(gaussian_difference(plain, worse, COUNT_X), 1e-4, "%s perturbs", plugin);
        predict(guide(plugin, rows[k / COUNT(nets)].params, net), image(), SIDE, NULL, got);
        for (size_t i = 0; i < COUNT_X; i++)
            cr_assert_float_eq(got[i], 3.0 * (double)plain[i] - 2.0 * (double)worse[i],
                               1e-4 * (1.0 + fabs((double)got[i])), "%s", plugin);
        predict(guide(plugin, (const char *const[]){"blocks", "[0]", "scale", "0", NULL}, net), image(), SIDE,
                NULL, got);
        cr_expect_eq(memcmp(got, plain, sizeof got), 0, "%s at scale 0", plugin);
    }
    const pipe_perturbation none = perturb(PIPE_PERTURB_BLUR, both_blocks, 2, 0.0);
    predict(nets[0], image(), SIDE, NULL, plain);
    predict(nets[0], image(), SIDE, &none, got);
    cr_expect_eq(memcmp(got, plain, sizeof got), 0, "a blur of width 0");
}

Test(perturbation, refuses_blocks_that_are_not_there)
{
    pipe_object *mlp = test_object("denoiser", "denoiser.mlp", NULL, NULL), *net = unet();
    const char *const pag[] = {"blocks", "[0]", NULL}, *const past[] = {"blocks", "[4]", NULL},
                      *const empty[] = {"blocks", "[]", NULL};
    pipe_denoiser_info info;
    pipe_error err = PIPE_ERROR_INIT;

    check_failure(pipe_denoiser_describe(guide("guidance.pag", pag, mlp), &info, &err), PIPE_EINVAL, &err,
                  "denoiser.mlp|no blocks with attention", "no attention");
    check_failure(pipe_denoiser_describe(guide("guidance.slg", past, net), &info, &err), PIPE_EINVAL, &err,
                  "denoiser.unet|no block 4|the last is 3", "a block too far");
    check_failure(pipe_denoiser_describe(guide("guidance.seg", empty, net), &info, &err), PIPE_EINVAL, &err,
                  "none is named|0 to 3", "no block");
    check_failure(
        pipe_denoiser_describe(guide("guidance.pag", pag, guide("guidance.slg", pag, net)), &info, &err),
        PIPE_EINVAL, &err, "guidance.slg|not guidance around one", "guidance around guidance");
}
