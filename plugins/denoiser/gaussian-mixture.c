/* The exact denoiser of a mixture of Gaussians: p(x0) = sum_k w_k N(mu_k, C_k).
 * At level (alpha, sigma) component k has mean alpha mu_k and covariance
 * alpha^2 C_k + sigma^2 I, so
 *
 *     E[x0 | x] = sum_k r_k E_k[x0 | x],   r = softmax_k(log w_k + log N(x; alpha mu_k, alpha^2 C_k + sigma^2
 * I))
 *
 * with E_k of the Gaussian alone.  For studying solvers where the truth is known,
 * and, fitted to data, an approximation of a trained network (Wang and Vastola
 * 2024, arXiv:2412.09726). */
#include <pipe/linalg.h>
#include <pipe/pipe.h>

#include <math.h>
#include <string.h>

typedef struct {
    pipe_schedule *schedule;
    pipe_dataset *statistics;
    pipe_floats means, covariances, weights;
    int64_t dimension, form, rank;
    bool labels, spread;
    int64_t components;
    pipe_shape sample;
    pipe_gaussians *g;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT_DEFAULT(state, schedule, PIPE_KIND_SCHEDULE, "cosine", "of the noise that it removes"),
    PIPE_INPUT_OPTIONAL(state, statistics, PIPE_KIND_DATASET,
                        "the components, of step fit.mixture or fit.gaussian; instead of `means`, "
                        "`covariances` and `weights`"),
    PIPE_INPUT_END,
};

enum { FORM_AUTO, FORM_ISOTROPIC, FORM_DIAGONAL, FORM_FULL };

static const char *const forms[] = {"auto", "isotropic", "diagonal", "full", NULL};

static const pipe_param params[] = {
    PIPE_INT(state, dimension, 2, 1, 1024, "numbers", "of a sample that `means` describe"),
    PIPE_FLOATS(state, means, "[]", 1, 0, NULL, "mean of each component, one after the other"),
    PIPE_FLOATS(
        state, covariances, "[1.0]", 1, 0, NULL,
        "of each component: one variance, `dimension` variances, or a full matrix by rows; given once "
        "it serves all components"),
    PIPE_CHOICE(state, form, "auto", forms,
                "of the covariances: isotropic (one variance), diagonal (`dimension` variances), full (a "
                "matrix), or auto: whichever their number can only mean"),
    PIPE_FLOATS(state, weights, "[]", 0.0, 1e30, NULL, "of the components, in any unit; empty: equal"),
    PIPE_INT(state, rank, -1, -1, 46340, "axes",
             "of `statistics` used, those of the largest variances; more is closer to the data and slower; "
             "-1: all that there are"),
    PIPE_BOOL(state, spread, false,
              "give every direction of `statistics` that is left out the mean variance of them all, instead "
              "of none"),
    PIPE_BOOL(state, labels, false, "component k is class k, and a label selects it"),
    PIPE_PARAM_END,
};

/* How many numbers stand for one covariance, from how many were given: where that has more than one
 * meaning (4 numbers for 2 components in 2 dimensions: one matrix, or two diagonals) `form` has to say. */
static pipe_status numbers_each(const state *st, size_t *out, pipe_error *err)
{
    const size_t d = (size_t)st->dimension, n = st->covariances.n, m = (size_t)st->components;
    const size_t each[] = {1, d, d * d};
    int found = -1;

    for (int f = 0; f < 3; f++) {
        if ((st->form != FORM_AUTO && st->form != FORM_ISOTROPIC + f) || (n != each[f] && n != m * each[f]))
            continue;
        if (found >= 0 && d > 1) /* in one dimension all forms are the same */
            return pipe_fail(
                err, PIPE_EINVAL,
                "covariances: %zu numbers for %zu components in %zu dimensions can be meant as %s "
                "or %s; say which in `form`",
                n, m, d, forms[FORM_ISOTROPIC + found], forms[FORM_ISOTROPIC + f]);
        found = f;
    }
    if (found < 0)
        return pipe_fail(err, PIPE_EINVAL,
                         "covariances: %zu numbers; for %zu components in %zu dimensions give 1 (isotropic), "
                         "%zu (diagonal) or %zu (full), or that many for each component",
                         n, m, d, d, d * d);
    *out = each[found];
    return PIPE_OK;
}

/* The full matrix of component k. */
static pipe_status covariance(const state *st, int64_t k, double *c, pipe_error *err)
{
    const size_t d = (size_t)st->dimension;
    size_t each = 1;

    PIPE_TRY(numbers_each(st, &each, err));
    const double *v = st->covariances.v + (st->covariances.n == each ? 0 : (size_t)k * each);
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j < d; j++)
            c[i * d + j] = each == d * d ? v[i * d + j] : i == j ? v[each == 1 ? 0 : i] : 0.0;
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j < i; j++)
            if (c[i * d + j] != c[j * d + i])
                return pipe_fail(err, PIPE_EINVAL,
                                 "covariances: component %lld is not symmetric at row %zu, column %zu",
                                 (long long)k, i + 1, j + 1);
    return PIPE_OK;
}

static pipe_status fill(const state *st, pipe_gaussian_set *set, pipe_error *err)
{
    const size_t d = (size_t)st->dimension;
    PIPE_CLEANUP(pipe_free_ptr) double *c = pipe_alloc_array(d * d, sizeof *c);

    for (int64_t k = 0; k < set->count; k++) {
        PIPE_TRY(covariance(st, k, c, err));
        const pipe_status status = pipe_gaussian_set_row(set, k, st->means.v + (size_t)k * d, c, err);
        if (status != PIPE_OK)
            return pipe_context_fail(err, status, "covariances");
        set->weight[k] = (float)(st->weights.n ? st->weights.v[k] : 1.0);
    }
    return PIPE_OK;
}

/* The components that the parameters describe. */
static pipe_status given(state *st, pipe_gaussian_set *set, pipe_error *err)
{
    const size_t d = (size_t)st->dimension, m = st->means.n / d;
    double total = 0.0;

    if (m == 0 || st->means.n % d)
        return pipe_fail(err, PIPE_EINVAL, "means: %zu numbers are not whole points of %zu dimensions",
                         st->means.n, d);
    if (st->weights.n && st->weights.n != m)
        return pipe_fail(err, PIPE_EINVAL, "weights: %zu numbers for %zu components", st->weights.n, m);
    for (size_t k = 0; k < st->weights.n; k++)
        total += st->weights.v[k];
    if (st->weights.n && !(total > 0.0))
        return pipe_fail(err, PIPE_EINVAL, "weights: their sum is %g; it must be above 0", total);
    st->components = (int64_t)m;
    set->sample = PIPE_SHAPE(st->dimension);
    set->count = st->components;
    set->rank = st->dimension;
    PIPE_TRY(pipe_gaussian_set_alloc(set, st->labels, err));
    for (int64_t k = 0; st->labels && k < set->count; k++)
        set->label[k] = (int32_t)k;
    return fill(st, set, err);
}

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;
    PIPE_CLEANUP(pipe_gaussian_set_free) pipe_gaussian_set set = {.size = sizeof set};

    if (st->statistics && (st->means.n || st->weights.n || st->labels))
        return pipe_fail(err, PIPE_EINVAL,
                         "`statistics` holds the components: `means`, `weights` and `labels` are not used");
    if (!st->statistics && (st->rank >= 0 || st->spread))
        return pipe_fail(err, PIPE_EINVAL, "`rank` and `spread` are of `statistics`, which are not given");
    PIPE_TRY(st->statistics ? pipe_gaussian_set_read(st->statistics, st->rank, st->spread, true, &set, err)
                            : given(st, &set, err));
    st->components = set.count;
    st->sample = set.sample;
    return pipe_gaussians_new(&set, pipe_context_engine(ctx), &st->g, err);
}

static void destroy(void *self)
{
    pipe_gaussians_free(((state *)self)->g);
}

static pipe_status describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    const state *st = self;

    (void)err;
    info->sample = st->sample;
    info->predicts = PIPE_PREDICT_X0;
    info->schedule = st->schedule;
    info->classes = pipe_gaussians_classes(st->g);
    return PIPE_OK;
}

/* log weights [k, n] or [k, 1]: of a row with a label, 0 for its component whatever its weight,
 * PIPE_LOG_ZERO for the others */
static pipe_tensor *log_weights(const state *st, pipe_tensor *x, const pipe_condition *c)
{
    pipe_tensor *all = pipe_gaussians_log_weight(st->g);
    pipe_engine *e = pipe_tensor_engine(x);
    const int64_t n = pipe_dim(x, 0);

    if (pipe_gaussians_classes(st->g) == 0 || !c || !c->labels)
        return all;
    pipe_tensor *label = pipe_reshape(pipe_to_f32(c->labels), PIPE_SHAPE(1, n));
    pipe_tensor *own = pipe_gaussians_by_label(st->g, c->labels, n);
    pipe_tensor *chosen = pipe_where(own, pipe_constant(e, 0.0), pipe_constant(e, PIPE_LOG_ZERO));
    return pipe_where(pipe_less(label, pipe_constant(e, 0.0)), all, chosen);
}

/* log w_k + log N_k(x): [k, n] */
static pipe_tensor *log_joint(const state *st, pipe_tensor *x, const pipe_level *l, const pipe_condition *c)
{
    return pipe_add(pipe_gaussians_log_density(st->g, x, l), log_weights(st, x, c));
}

static pipe_tensor *predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c)
{
    const state *st = self;

    (void)m;
    if (st->components == 1)
        return pipe_gaussians_x0(st->g, x, l, NULL);
    return pipe_gaussians_x0(st->g, x, l, pipe_softmax(log_joint(st, x, l, c), 0));
}

static pipe_tensor *log_density(void *self, pipe_tensor *x, const pipe_level *l, const pipe_condition *c)
{
    return pipe_logsumexp(log_joint(self, x, l, c), 0, false);
}

static pipe_tensor *flow(void *self, pipe_tensor *x, const pipe_schedule_point *from,
                         const pipe_schedule_point *to, const pipe_condition *c)
{
    const state *st = self;

    (void)c; /* one component is the same whatever the label */
    if (st->components > 1)
        return pipe_poison(pipe_tensor_engine(x), PIPE_EUNSUPPORTED,
                           "the probability flow of a mixture of %lld Gaussians is not known in closed form",
                           (long long)st->components);
    return pipe_gaussians_flow(st->g, x, from, to, NULL);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "denoiser.gaussian-mixture",
    .version = "1.1.0",
    .licence = "MIT",
    .summary = "the exact denoiser of a mixture of Gaussians",
    .citation = "arXiv:2510.21890",
    .example = "truth: {plugin: denoiser.gaussian-mixture, means: [-2, 0, 2, 0], covariances: [0.25]}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .create = create,
    .destroy = destroy,
    .denoiser = {.describe = describe, .predict = predict, .log_density = log_density, .flow = flow},
};
