/* The exact denoiser of a mixture of Gaussians: p(x0) = sum_k w_k N(mu_k, C_k).
 * At level (alpha, sigma) component k has mean alpha mu_k and covariance
 * alpha^2 C_k + sigma^2 I, so with C_k = U diag(l) U'
 *
 *     E[x0 | x] = sum_k r_k (mu_k + U diag(alpha l / (alpha^2 l + sigma^2)) U' (x - alpha mu_k)),
 *     r = softmax_k(log w_k - 1/2 sum (U'(x - alpha mu_k))^2 / v - 1/2 sum log v),  v = alpha^2 l + sigma^2.
 *
 * For studying solvers where the truth is known. */
#include <pipe/linalg.h>
#include <pipe/pipe.h>

#include <math.h>

#define NEVER 1e30 /* minus this is the log of a probability that is 0 */

typedef struct {
    pipe_schedule *schedule;
    pipe_floats means, covariances, weights;
    int64_t dimension, form;
    bool labels;
    int64_t components;
    pipe_tensor *mean; /* [k, 1, d] */
    pipe_tensor *axes; /* [k, d, d]: rows are eigenvectors */
    pipe_tensor *variance; /* [k, 1, d]: eigenvalues */
    pipe_tensor *log_weight; /* [k, 1] */
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT_DEFAULT(state, schedule, PIPE_KIND_SCHEDULE, "cosine", "of the noise that it removes"),
    PIPE_INPUT_END,
};

enum { FORM_AUTO, FORM_ISOTROPIC, FORM_DIAGONAL, FORM_FULL };

static const char *const forms[] = {"auto", "isotropic", "diagonal", "full", NULL};

static const pipe_param params[] = {
    PIPE_INT(state, dimension, 2, 1, 1024, "numbers", "of a sample"),
    PIPE_FLOATS(state, means, NULL, 1, 0, NULL, "mean of each component, one after the other"),
    PIPE_FLOATS(
        state, covariances, "[1.0]", 1, 0, NULL,
        "of each component: one variance, `dimension` variances, or a full matrix by rows; given once "
        "it serves all components"),
    PIPE_CHOICE(state, form, "auto", forms,
                "of the covariances: isotropic (one variance), diagonal (`dimension` variances), full (a "
                "matrix), or auto: whichever their number can only mean"),
    PIPE_FLOATS(state, weights, "[]", 0.0, 1e30, NULL, "of the components, in any unit; empty: equal"),
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

static pipe_status component(const state *st, int64_t k, float *axes, float *variance, pipe_error *err)
{
    const size_t d = (size_t)st->dimension;
    PIPE_CLEANUP(pipe_free_ptr) double *c = pipe_alloc_array(d * d, sizeof *c);
    PIPE_CLEANUP(pipe_free_ptr) double *values = pipe_alloc_array(d, sizeof *values);

    PIPE_TRY(covariance(st, k, c, err));
    PIPE_TRY(pipe_eigen_symmetric(c, d, true, values, err)); /* row j of c: the eigenvector of values[j] */
    for (size_t j = 0; j < d; j++) {
        /* of a singular matrix rounding makes some that are hardly below 0 */
        if (!(values[j] >= -1e-12 * fabs(values[d - 1])))
            return pipe_fail(err, PIPE_EDOMAIN, "covariances: component %lld has the negative eigenvalue %g",
                             (long long)k, values[j]);
        variance[j] = (float)fmax(values[j], 0.0);
    }
    for (size_t i = 0; i < d * d; i++)
        axes[i] = (float)c[i];
    return PIPE_OK;
}

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;
    pipe_engine *e = pipe_context_engine(ctx);
    const size_t d = (size_t)st->dimension, m = st->means.n / d;
    PIPE_CLEANUP(pipe_free_ptr) float *host = NULL;
    double total = 0.0;

    if (m == 0 || st->means.n % d)
        return pipe_fail(err, PIPE_EINVAL, "means: %zu numbers are not whole points of %zu dimensions",
                         st->means.n, d);
    if (st->weights.n && st->weights.n != m)
        return pipe_fail(err, PIPE_EINVAL, "weights: %zu numbers for %zu components", st->weights.n, m);
    st->components = (int64_t)m;
    for (size_t k = 0; k < st->weights.n; k++)
        total += st->weights.v[k];
    if (st->weights.n && !(total > 0.0))
        return pipe_fail(err, PIPE_EINVAL, "weights: their sum is %g; it must be above 0", total);

    host = pipe_alloc_array(m * d * (d + 2) + m, sizeof *host);
    float *axes = host, *variance = axes + m * d * d, *mean = variance + m * d, *weight = mean + m * d;
    for (size_t k = 0; k < m; k++) {
        PIPE_TRY(component(st, (int64_t)k, axes + k * d * d, variance + k * d, err));
        /* log 0 as a number: kernels may be compiled as if there were no infinities */
        weight[k] = (float)fmax(log(st->weights.n ? st->weights.v[k] / total : 1.0 / (double)m), -NEVER);
    }
    for (size_t k = 0; k < m * d; k++)
        mean[k] = (float)st->means.v[k];
    pipe_keep(&st->axes, pipe_from_f32(e, PIPE_SHAPE((int64_t)m, (int64_t)d, (int64_t)d), axes));
    pipe_keep(&st->variance, pipe_from_f32(e, PIPE_SHAPE((int64_t)m, 1, (int64_t)d), variance));
    pipe_keep(&st->mean, pipe_from_f32(e, PIPE_SHAPE((int64_t)m, 1, (int64_t)d), mean));
    pipe_keep(&st->log_weight, pipe_from_f32(e, PIPE_SHAPE((int64_t)m, 1), weight));
    return pipe_check(st->mean, err);
}

static void destroy(void *self)
{
    state *st = self;

    pipe_keep(&st->mean, NULL);
    pipe_keep(&st->axes, NULL);
    pipe_keep(&st->variance, NULL);
    pipe_keep(&st->log_weight, NULL);
}

static pipe_status describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    const state *st = self;

    (void)err;
    info->sample = PIPE_SHAPE(st->dimension);
    info->predicts = PIPE_PREDICT_X0;
    info->schedule = st->schedule;
    info->classes = st->labels ? st->components : 0;
    return PIPE_OK;
}

/* log weights [k, n]: of a row with a label, 0 for its component whatever its weight, -NEVER for the others
 */
static pipe_tensor *selected(const state *st, pipe_engine *e, const pipe_condition *c, int64_t n)
{
    pipe_tensor *label, *component_index, *chosen;

    if (!st->labels || !c || !c->labels)
        return st->log_weight;
    label = pipe_reshape(pipe_to_f32(c->labels), PIPE_SHAPE(1, n));
    component_index = pipe_reshape(pipe_arange(e, st->components, 0.0, 1.0), PIPE_SHAPE(st->components, 1));
    chosen = pipe_where(pipe_equal(label, component_index), pipe_constant(e, 0.0), pipe_constant(e, -NEVER));
    return pipe_where(pipe_less(label, pipe_constant(e, 0.0)), st->log_weight, chosen);
}

static pipe_tensor *predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c)
{
    const state *st = self;
    const int64_t n = pipe_dim(x, 0), d = st->dimension;
    const int last = -1, first = 0;
    pipe_engine *e = pipe_tensor_engine(x);
    pipe_tensor *alpha, *sigma, *centred, *z, *v, *score, *r, *x0;

    (void)m;
    if (pipe_rank(x) != 2 || pipe_dim(x, 1) != d) {
        char got[PIPE_SHAPE_TEXT];
        return pipe_poison(e, PIPE_ESHAPE,
                           "denoiser.gaussian-mixture: samples of shape %s; [n, %lld] is needed",
                           pipe_shape_text(pipe_tensor_shape(x), got, sizeof got), (long long)d);
    }
    alpha = pipe_reshape(l->alpha, PIPE_SHAPE(1, n, 1));
    sigma = pipe_reshape(l->sigma, PIPE_SHAPE(1, n, 1));
    centred = pipe_sub(pipe_reshape(x, PIPE_SHAPE(1, n, d)), pipe_mul(alpha, st->mean)); /* [k, n, d] */
    z = pipe_matmul(centred, st->axes, false, true); /* rows U'(x - a mu) */
    v = pipe_add(pipe_mul(pipe_square(alpha), st->variance), pipe_square(sigma));
    score = pipe_scale(pipe_sum(pipe_add(pipe_div(pipe_square(z), v), pipe_ln(v)), &last, 1, false), -0.5);
    r = pipe_softmax(pipe_add(score, selected(st, e, c, n)), 0); /* [k, n] */
    z = pipe_mul(z, pipe_div(pipe_mul(alpha, st->variance), v));
    x0 = pipe_add(st->mean, pipe_matmul(z, st->axes, false, false));
    return pipe_sum(pipe_mul(pipe_reshape(r, PIPE_SHAPE(st->components, n, 1)), x0), &first, 1, false);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "denoiser.gaussian-mixture",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "the exact denoiser of a mixture of Gaussians",
    .citation = "arXiv:2510.21890",
    .example = "truth: {plugin: denoiser.gaussian-mixture, means: [-2, 0, 2, 0], covariances: [0.25]}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .create = create,
    .destroy = destroy,
    .denoiser = {.describe = describe, .predict = predict},
};
