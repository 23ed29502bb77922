/* Classifier guidance: Dhariwal and Nichol 2021, arXiv:2105.05233, algorithm 2:
 *
 *     eps - sigma w grad_x log p(y | x),
 *
 * p of a classifier that knows noisy samples (it is given the noise level). */
#include <pipe/pipe.h>

typedef struct {
    pipe_denoiser *denoiser;
    pipe_classifier *classifier;
    double scale;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, denoiser, PIPE_KIND_DENOISER, "a model; it need not know classes"),
    PIPE_INPUT(state, classifier, PIPE_KIND_CLASSIFIER, "of noisy samples"), PIPE_INPUT_END};

static const pipe_param params[] = {
    PIPE_FLOAT(state, scale, 1.0, -1000.0, 1000.0, NULL,
               "of the gradient; 0 = none, higher follows the class more and loses variety"),
    PIPE_PARAM_END};

static pipe_status describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    const state *st = self;

    PIPE_TRY(pipe_guidance_describe(st->denoiser, PIPE_GUIDE_OWN, false, info, err));
    if (info->predicts != PIPE_PREDICT_NONE && st->scale != 0.0)
        info->predicts = PIPE_PREDICT_EPS;
    info->classes = pipe_classifier_classes(st->classifier);
    return PIPE_OK;
}

/* What the model is conditioned on: without labels where it knows none. */
static pipe_tensor *unguided(const state *st, pipe_tensor *x, const pipe_level *l, const pipe_condition *c,
                             pipe_prediction want)
{
    pipe_denoiser_info info;
    pipe_error err = PIPE_ERROR_INIT;
    pipe_condition plain = c ? *c : (pipe_condition){.size = sizeof plain};

    if (pipe_denoiser_describe(st->denoiser, &info, &err) != PIPE_OK)
        return pipe_object_poison(st->denoiser, err.status, "%s", err.message);
    if (info.classes == 0)
        plain.labels = NULL;
    return pipe_predict(st->denoiser, x, l, &plain, want);
}

/* grad_x log p(label | x); rows of label -1 get none. */
static pipe_tensor *gradient(const state *st, pipe_tensor *x, const pipe_level *l, pipe_tensor *labels)
{
    pipe_engine *e = pipe_tensor_engine(x);
    const int64_t n = pipe_dim(x, 0);
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *g, *known = pipe_less_equal(pipe_constant(e, 0.0), pipe_to_f32(labels));
    pipe_tensor *valid = pipe_to_i32(pipe_maximum(pipe_to_f32(labels), pipe_constant(e, 0.0)));
    pipe_tensor *log_p = pipe_neg(pipe_cross_entropy(pipe_classify(st->classifier, x, l), valid));

    log_p = pipe_sum_all(pipe_mul(log_p, pipe_reshape(known, PIPE_SHAPE(n))));
    if (pipe_grad(log_p, NULL, &x, 1, &g, &err) != PIPE_OK)
        return pipe_poison(e, err.status, "guidance.classifier: %s", err.message);
    return g;
}

static pipe_tensor *predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c)
{
    const state *st = self;
    pipe_denoiser_info info;
    pipe_error err = PIPE_ERROR_INIT;

    (void)m;
    if (describe(self, &info, &err) != PIPE_OK)
        return pipe_object_poison(st->denoiser, err.status, "%s", err.message);
    pipe_tensor *eps = unguided(st, x, l, c, info.predicts);
    if (st->scale == 0.0 || !c || !c->labels)
        return eps;
    return pipe_sub(
        eps, pipe_mul(pipe_per_sample(pipe_scale(l->sigma, st->scale), x), gradient(st, x, l, c->labels)));
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "guidance.classifier",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "guidance by the gradient of a classifier",
    .citation = "arXiv:2105.05233",
    .example = "guided: {plugin: guidance.classifier, denoiser: model, classifier: judge, scale: 2.0}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .denoiser = {.describe = describe, .predict = predict},
};
