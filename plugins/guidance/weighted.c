/* A weighted sum of what several denoisers predict: composition (Liu et al. 2022,
 * arXiv:2206.01714), ensembles, negation.  With weights that sum to 1 it does not
 * matter which parameterization they predict. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    pipe_objects denoisers;
    pipe_floats weights;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT_LIST(state, denoisers, PIPE_KIND_DENOISER, 0, "of one schedule; guidance counts as one too"),
    PIPE_INPUT_END};

static const pipe_param params[] = {
    PIPE_FLOATS(state, weights, NULL, -1000.0, 1000.0, NULL,
                "of each, in their order; below 0: away from what it predicts.  They must sum to 1"),
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;
    double sum = 0.0;

    (void)ctx;
    if (st->weights.n != st->denoisers.n)
        return pipe_fail(err, PIPE_EINVAL, "weights: %zu numbers for %zu denoisers", st->weights.n,
                         st->denoisers.n);
    for (size_t k = 0; k < st->weights.n; k++)
        sum += st->weights.v[k];
    if (!(fabs(sum - 1.0) < 1e-6))
        return pipe_fail(err, PIPE_EINVAL, "weights: they sum to %g; a prediction needs a sum of 1", sum);
    return PIPE_OK;
}

static pipe_status describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    const state *st = self;

    return pipe_guidance_describe_all(st->denoisers.v, st->denoisers.n, info, err);
}

static pipe_tensor *predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c)
{
    const state *st = self;
    pipe_denoiser_info info;
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *sum = NULL;

    (void)m;
    if (describe(self, &info, &err) != PIPE_OK)
        return pipe_poison(pipe_tensor_engine(x), err.status, "%s", err.message);
    for (size_t k = 0; k < st->denoisers.n; k++) {
        if (st->weights.v[k] == 0.0)
            continue;
        pipe_tensor *own = pipe_predict(st->denoisers.v[k], x, l, c, info.predicts);
        if (!sum)
            sum = st->weights.v[k] == 1.0 ? own : pipe_scale(own, st->weights.v[k]);
        else
            sum = pipe_axpby(1.0, sum, st->weights.v[k], own);
    }
    return sum;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "guidance.weighted",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "a weighted sum of denoisers",
    .citation = "arXiv:2206.01714",
    .example = "both: {plugin: guidance.weighted, denoisers: [a, b], weights: [1.5, -0.5]}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .create = create,
    .denoiser = {.describe = describe, .predict = predict},
};
