/* Gaussians on the device: density, denoiser and probability flow, all in the
 * basis of each one's axes (Wang and Vastola 2024, arXiv:2412.09726).
 *
 *     centred  c = x - alpha mu          [K, n, d]
 *     along    z = U c                   [K, n, r]
 *     across   p = c - U'z               [K, n, d], only where axes are missing
 *
 * What acts on c as a function f of the covariance is then U' f(l) z + f(q) p,
 * computed as f(q) c + U' (f(l) - f(q)) z. */
#include "core/run/object.h"

#include <pipe/gaussian.h>

#include <math.h>
#include <string.h>

struct pipe_gaussians {
    pipe_shape sample;
    int64_t count, d, rank, classes;
    float *variance, *residual; /* host copies [K, r], [K]: of the flow's factors */
    int32_t *label; /* host copy [K] or NULL */
    pipe_tensor *mean; /* [K, 1, d] */
    pipe_tensor *axes; /* [K, r, d]; NULL for rank 0 */
    pipe_tensor *along; /* [K, 1, r]: variances; NULL for rank 0 */
    pipe_tensor *across; /* [K, 1, 1]: residuals; NULL where the axes span all dimensions */
    pipe_tensor *log_weight; /* [K, 1] */
    bool flat; /* all residuals are 0 */
};

/* ---- upload ---- */
static pipe_status upload(pipe_engine *e, pipe_shape shape, const float *data, pipe_tensor **slot,
                          pipe_error *err)
{
    pipe_keep(slot, pipe_from_f32(e, shape, data));
    return pipe_check(*slot, err);
}

static pipe_status upload_weights(pipe_gaussians *g, const pipe_gaussian_set *s, pipe_engine *e,
                                  pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) float *log_weight = pipe_alloc_array((size_t)g->count, sizeof *log_weight);
    double total = 0.0;

    for (int64_t k = 0; k < g->count; k++)
        total += (double)s->weight[k];
    if (!(total > 0.0))
        return pipe_fail(err, PIPE_EINVAL, "weights: their sum is %g; it must be above 0", total);
    for (int64_t k = 0; k < g->count; k++)
        log_weight[k] = (float)fmax(log((double)s->weight[k] / total), PIPE_LOG_ZERO);
    return upload(e, PIPE_SHAPE(g->count, 1), log_weight, &g->log_weight, err);
}

static void copy_host(pipe_gaussians *g, const pipe_gaussian_set *s)
{
    const size_t k = (size_t)g->count, r = (size_t)g->rank;

    g->variance = pipe_alloc_array(k * r + 1, sizeof *g->variance);
    g->residual = pipe_alloc_array(k, sizeof *g->residual);
    memcpy(g->variance, s->eigenvalues, k * r * sizeof *g->variance);
    memcpy(g->residual, s->residual, k * sizeof *g->residual);
    g->flat = true;
    for (size_t i = 0; i < k; i++)
        g->flat = g->flat && s->residual[i] == 0.0f;
    if (!s->label)
        return;
    g->label = pipe_alloc_array(k, sizeof *g->label);
    for (size_t i = 0; i < k; i++) {
        g->label[i] = s->label[i];
        g->classes = s->label[i] >= g->classes ? s->label[i] + 1 : g->classes;
    }
}

pipe_status pipe_gaussians_new(const pipe_gaussian_set *s, pipe_engine *e, pipe_gaussians **out,
                               pipe_error *err)
{
    const int64_t d = pipe_shape_count(&s->sample);
    pipe_gaussians *g = pipe_alloc(sizeof *g);
    pipe_status status;

    *g = (pipe_gaussians){.sample = s->sample, .count = s->count, .d = d, .rank = s->rank};
    copy_host(g, s);
    status = upload_weights(g, s, e, err);
    if (status == PIPE_OK)
        status = upload(e, PIPE_SHAPE(g->count, 1, d), s->mean, &g->mean, err);
    if (status == PIPE_OK && g->rank > 0)
        status = upload(e, PIPE_SHAPE(g->count, g->rank, d), s->axes, &g->axes, err);
    if (status == PIPE_OK && g->rank > 0)
        status = upload(e, PIPE_SHAPE(g->count, 1, g->rank), s->eigenvalues, &g->along, err);
    if (status == PIPE_OK && g->rank < d)
        status = upload(e, PIPE_SHAPE(g->count, 1, 1), s->residual, &g->across, err);
    if (status != PIPE_OK) {
        pipe_gaussians_free(g);
        return status;
    }
    *out = g;
    return PIPE_OK;
}

void pipe_gaussians_free(pipe_gaussians *g)
{
    if (!g)
        return;
    pipe_keep(&g->mean, NULL);
    pipe_keep(&g->axes, NULL);
    pipe_keep(&g->along, NULL);
    pipe_keep(&g->across, NULL);
    pipe_keep(&g->log_weight, NULL);
    pipe_free(g->variance);
    pipe_free(g->residual);
    pipe_free(g->label);
    pipe_free(g);
}

int64_t pipe_gaussians_classes(const pipe_gaussians *g)
{
    return g->classes;
}

pipe_tensor *pipe_gaussians_log_weight(const pipe_gaussians *g)
{
    return g->log_weight;
}

/* ---- coordinates ---- */
/* NULL, or a poisoned tensor that says why x cannot be of these Gaussians. */
static pipe_tensor *wrong(const pipe_gaussians *g, pipe_tensor *x)
{
    char got[PIPE_SHAPE_TEXT], want[PIPE_SHAPE_TEXT];
    const pipe_shape *have = pipe_tensor_shape(x);

    if (pipe_check(x, NULL) != PIPE_OK)
        return x;
    if (have->rank == g->sample.rank + 1 &&
        memcmp(have->dim + 1, g->sample.dim, g->sample.rank * sizeof g->sample.dim[0]) == 0)
        return NULL;
    return pipe_poison(
        pipe_tensor_engine(x), PIPE_ESHAPE, "a batch of shape %s for Gaussians over samples of shape %s",
        pipe_shape_text(have, got, sizeof got), pipe_shape_text(&g->sample, want, sizeof want));
}

/* A number per row, [n], as [1, n, 1]. */
static pipe_tensor *rows(pipe_tensor *a)
{
    return pipe_reshape(a, PIPE_SHAPE(1, pipe_dim(a, 0), 1));
}

static pipe_tensor *centre(const pipe_gaussians *g, pipe_tensor *x, pipe_tensor *alpha)
{
    return pipe_sub(pipe_reshape(x, PIPE_SHAPE(1, pipe_dim(x, 0), g->d)), pipe_mul(alpha, g->mean));
}

static pipe_tensor *coordinates(const pipe_gaussians *g, pipe_tensor *centred)
{
    return pipe_matmul(centred, g->axes, false, true);
}

static pipe_tensor *back(const pipe_gaussians *g, pipe_tensor *z)
{
    return pipe_matmul(z, g->axes, false, false);
}

/* U' f(l) z + f(q) p, with the factors along [.., r] and across [.., 1]; across NULL: 0. */
static pipe_tensor *act(const pipe_gaussians *g, pipe_tensor *centred, pipe_tensor *along,
                        pipe_tensor *across)
{
    if (g->rank == 0)
        return across ? pipe_mul(across, centred) : pipe_zeros_like(centred);
    pipe_tensor *z = coordinates(g, centred);
    if (!across)
        return back(g, pipe_mul(along, z));
    return pipe_add(pipe_mul(across, centred), back(g, pipe_mul(pipe_sub(along, across), z)));
}

/* sum_k share_k y_k with y [K, n, d], in x's shape. */
static pipe_tensor *mix(const pipe_gaussians *g, pipe_tensor *y, pipe_tensor *share, pipe_tensor *x)
{
    const int first = 0;

    if (g->count > 1 && !share)
        return pipe_poison(pipe_tensor_engine(x), PIPE_EINVAL, "%lld Gaussians and no shares of them",
                           (long long)g->count);
    if (share)
        y = pipe_sum(pipe_mul(pipe_reshape(share, PIPE_SHAPE(g->count, -1, 1)), y), &first, 1, false);
    return pipe_reshape(y, *pipe_tensor_shape(x));
}

/* alpha^2 l + sigma^2 */
static pipe_tensor *noisy(pipe_tensor *variance, pipe_tensor *alpha, pipe_tensor *sigma)
{
    return pipe_add(pipe_mul(pipe_square(alpha), variance), pipe_square(sigma));
}

/* ---- density and denoiser ---- */
/* sum over the last axis of y^2 / v + ln v, v broadcast to y's shape */
static pipe_tensor *distance(pipe_tensor *y, pipe_tensor *v)
{
    const int last = -1;

    return pipe_sum(pipe_add(pipe_div(pipe_square(y), v), pipe_ln(v)), &last, 1, false);
}

pipe_tensor *pipe_gaussians_log_density(const pipe_gaussians *g, pipe_tensor *x, const pipe_level *l)
{
    static const double two_pi = 6.283185307179586;
    const int last = -1;
    pipe_tensor *bad = wrong(g, x), *sum = NULL;

    if (bad)
        return bad;
    pipe_tensor *alpha = rows(l->alpha), *sigma = rows(l->sigma), *centred = centre(g, x, alpha);
    pipe_tensor *p = centred;
    if (g->rank > 0) {
        pipe_tensor *z = coordinates(g, centred);
        sum = distance(z, noisy(g->along, alpha, sigma));
        if (g->across) /* by subtraction of squares it would drown in rounding at small sigma */
            p = pipe_sub(centred, back(g, z));
    }
    if (g->across) {
        pipe_tensor *v = noisy(g->across, alpha, sigma); /* [K, n, 1] */
        pipe_tensor *square = pipe_sum(pipe_square(p), &last, 1, true);
        pipe_tensor *more = pipe_add(pipe_div(square, v), pipe_scale(pipe_ln(v), (double)(g->d - g->rank)));
        more = pipe_reshape(more, PIPE_SHAPE(g->count, -1));
        sum = sum ? pipe_add(sum, more) : more;
    }
    return pipe_affine(sum, -0.5, -0.5 * (double)g->d * log(two_pi));
}

/* alpha l / v(l) */
static pipe_tensor *shrinkage(pipe_tensor *variance, pipe_tensor *alpha, pipe_tensor *sigma)
{
    return pipe_div(pipe_mul(alpha, variance), noisy(variance, alpha, sigma));
}

pipe_tensor *pipe_gaussians_x0(const pipe_gaussians *g, pipe_tensor *x, const pipe_level *l,
                               pipe_tensor *share)
{
    pipe_tensor *bad = wrong(g, x);

    if (bad)
        return bad;
    pipe_tensor *alpha = rows(l->alpha), *sigma = rows(l->sigma);
    pipe_tensor *along = g->along ? shrinkage(g->along, alpha, sigma) : NULL;
    pipe_tensor *across = g->across && !g->flat ? shrinkage(g->across, alpha, sigma) : NULL;
    return mix(g, pipe_add(g->mean, act(g, centre(g, x, alpha), along, across)), share, x);
}

/* ---- labels ---- */
static bool has_label(const pipe_gaussians *g, int32_t label)
{
    for (int64_t k = 0; k < g->count; k++)
        if (g->label[k] == label)
            return true;
    return false;
}

pipe_tensor *pipe_gaussians_by_label(const pipe_gaussians *g, pipe_tensor *labels, int64_t n)
{
    pipe_engine *e = pipe_tensor_engine(g->mean);
    PIPE_CLEANUP(pipe_free_ptr) float *own = pipe_alloc_array((size_t)g->count, sizeof *own);

    if (!g->label && g->count > 1)
        return pipe_poison(e, PIPE_EINVAL,
                           "%lld Gaussians that no labels tell apart: they are a mixture "
                           "(denoiser.gaussian-mixture)",
                           (long long)g->count);
    if (!g->label)
        return pipe_full(e, PIPE_SHAPE(1, n), 1.0);
    if (!labels && !has_label(g, -1))
        return pipe_poison(e, PIPE_EINVAL,
                           "these Gaussians are of one class each: labels are needed to choose one");
    for (int64_t k = 0; k < g->count; k++)
        own[k] = (float)g->label[k];
    pipe_tensor *of = pipe_from_f32(e, PIPE_SHAPE(g->count, 1), own);
    pipe_tensor *wanted = labels ? pipe_to_f32(labels) : pipe_full(e, PIPE_SHAPE(n), -1.0);
    /* every label below 0 means none */
    wanted = pipe_maximum(pipe_reshape(wanted, PIPE_SHAPE(1, n)), pipe_constant(e, -1.0));
    return pipe_equal(of, wanted);
}

/* ---- the probability flow ---- */
double pipe_gaussian_flow_factor(const pipe_schedule_point *from, const pipe_schedule_point *to,
                                 double variance)
{
    /* hypot: neither overflow nor underflow of the squares */
    const double root = sqrt(variance);

    return hypot(to->sigma, to->alpha * root) / hypot(from->sigma, from->alpha * root);
}

/* The factors of n variances as a tensor of that shape, or poison. */
static pipe_tensor *factors(pipe_engine *e, pipe_shape shape, const float *variance,
                            const pipe_schedule_point *from, const pipe_schedule_point *to)
{
    const size_t n = (size_t)pipe_shape_count(&shape);
    PIPE_CLEANUP(pipe_free_ptr) float *f = pipe_alloc_array(n, sizeof *f);

    for (size_t i = 0; i < n; i++) {
        f[i] = (float)pipe_gaussian_flow_factor(from, to, (double)variance[i]);
        if (!isfinite(f[i]))
            return pipe_poison(e, PIPE_EDOMAIN,
                               "the flow from alpha = %g, sigma = %g is not determined along an axis of "
                               "variance %g",
                               from->alpha, from->sigma, (double)variance[i]);
    }
    return pipe_from_f32(e, shape, f);
}

pipe_tensor *pipe_gaussians_flow(const pipe_gaussians *g, pipe_tensor *x, const pipe_schedule_point *from,
                                 const pipe_schedule_point *to, pipe_tensor *share)
{
    pipe_tensor *bad = wrong(g, x), *along = NULL, *across = NULL;
    pipe_engine *e = pipe_tensor_engine(x);

    if (bad)
        return bad;
    if (g->rank > 0)
        along = factors(e, PIPE_SHAPE(g->count, 1, g->rank), g->variance, from, to);
    if (g->across)
        across = factors(e, PIPE_SHAPE(g->count, 1, 1), g->residual, from, to);
    pipe_tensor *y = act(g, centre(g, x, pipe_constant(e, from->alpha)), along, across);
    return mix(g, pipe_add(pipe_scale(g->mean, to->alpha), y), share, x);
}

/* ---- denoisers that offer it ---- */
pipe_tensor *pipe_gaussian_flow(pipe_denoiser *d, pipe_tensor *x, const pipe_schedule_point *from,
                                const pipe_schedule_point *to, const pipe_condition *c)
{
    if (!d->plugin->denoiser.flow)
        return pipe_object_poison(d, PIPE_EUNSUPPORTED,
                                  "the probability flow of %s is not known in closed form; that of "
                                  "denoiser.gaussian is",
                                  d->plugin->name);
    return d->plugin->denoiser.flow(d->state, x, from, to, c);
}

pipe_tensor *pipe_denoiser_log_density(pipe_denoiser *d, pipe_tensor *x, const pipe_level *l,
                                       const pipe_condition *c)
{
    if (!d->plugin->denoiser.log_density)
        return pipe_object_poison(d, PIPE_EUNSUPPORTED, "the density of %s is not known in closed form",
                                  d->plugin->name);
    return d->plugin->denoiser.log_density(d->state, x, l, c);
}
