/* Perturbations of a network's attention, which guidance leads away from. */
#include "core/kinds/kinds.h"

#include <inttypes.h>
#include <math.h>

/* From where on diffusers and the paper's code take the mean of all queries. */
static const double INFINITE_SIGMA = 9999.0;

pipe_status pipei_perturbation_check(pipe_denoiser *d, const pipe_perturbation *p, pipe_error *err)
{
    pipe_denoiser_info info;

    if (p->kind == PIPE_PERTURB_NONE)
        return PIPE_OK;
    PIPE_TRY(pipe_denoiser_describe(d, &info, err));
    if (info.attention_blocks == 0)
        return pipe_fail(
            err, PIPE_EINVAL,
            "`%s` (%s) has no blocks with attention to perturb: a network that has them is needed "
            "(denoiser.dit, or denoiser.unet with attention), not guidance around one",
            d->name, d->plugin->name);
    if (p->blocks.n == 0)
        return pipe_fail(err, PIPE_EINVAL, "blocks: none is named to perturb; `%s` has 0 to %" PRId64,
                         d->name, info.attention_blocks - 1);
    for (size_t k = 0; k < p->blocks.n; k++)
        if (p->blocks.v[k] < 0 || p->blocks.v[k] >= info.attention_blocks)
            return pipe_fail(err, PIPE_EINVAL,
                             "blocks: `%s` (%s) has no block %" PRId64
                             " with attention; the last is %" PRId64,
                             d->name, d->plugin->name, p->blocks.v[k], info.attention_blocks - 1);
    if (p->kind == PIPE_PERTURB_BLUR && !(p->sigma >= 0.0))
        return pipe_fail(err, PIPE_EINVAL, "sigma: %g is not the width of a blur; 0 is none", p->sigma);
    return PIPE_OK;
}

/* What is done to this block. */
static pipe_perturbation_kind perturbed_by(const pipe_condition *c, int64_t block)
{
    const pipe_perturbation *p = c ? c->perturbation : NULL;

    for (size_t k = 0; p && k < p->blocks.n; k++)
        if (p->blocks.v[k] == block)
            return p->kind;
    return PIPE_PERTURB_NONE;
}

bool pipe_block_skipped(const pipe_condition *c, int64_t block)
{
    return perturbed_by(c, block) == PIPE_PERTURB_SKIP;
}

/* Index i of an axis of n that is reflected at its ends; |i| is less than 2 n - 1. */
static int64_t reflect(int64_t i, int64_t n)
{
    i = i < 0 ? -i : i;
    return i < n ? i : 2 * (n - 1) - i;
}

/* The blur along an axis of n tokens as a matrix [n, n]. */
static pipe_tensor *blur_matrix(pipe_engine *e, int64_t n, double sigma)
{
    PIPE_CLEANUP(pipe_free_ptr) float *matrix = pipe_alloc_array((size_t)(n * n), sizeof *matrix);
    const double size = ceil(6.0 * sigma); /* of the window, made odd below: the paper's code */
    const int64_t half = (int64_t)fmin(floor(size / 2.0), (double)(n / 2));
    double sum = 0.0;

    for (int64_t o = -half; o <= half; o++)
        sum += exp(-0.5 * pow((double)o / sigma, 2.0));
    for (int64_t i = 0; i < n; i++)
        for (int64_t o = -half; o <= half; o++)
            matrix[i * n + reflect(i + o, n)] += (float)(exp(-0.5 * pow((double)o / sigma, 2.0)) / sum);
    return pipe_from_f32(e, PIPE_SHAPE(n, n), matrix);
}

/* q [n, rows * columns, heads, d] */
static pipe_tensor *blur(pipe_tensor *q, int64_t rows, int64_t columns, double sigma)
{
    const pipe_shape shape = *pipe_tensor_shape(q);
    const int64_t n = shape.dim[0], each = shape.dim[2] * shape.dim[3];
    pipe_engine *e = pipe_tensor_engine(q);
    static const int tokens = 1;

    if (sigma == 0.0)
        return q;
    if (sigma > INFINITE_SIGMA)
        return pipe_broadcast_to(pipe_mean(q, &tokens, 1, true), shape);
    q = pipe_matmul(blur_matrix(e, rows, sigma), pipe_reshape(q, PIPE_SHAPE(n, rows, columns * each)), false,
                    false);
    q = pipe_matmul(blur_matrix(e, columns, sigma), pipe_reshape(q, PIPE_SHAPE(n * rows, columns, each)),
                    false, false);
    return pipe_reshape(q, shape);
}

pipe_tensor *pipe_layer_block_attention(pipe_tensor *q, pipe_tensor *k, pipe_tensor *v, int64_t rows,
                                        int64_t columns, const pipe_condition *c, int64_t block)
{
    const pipe_perturbation_kind kind = perturbed_by(c, block);

    if (kind == PIPE_PERTURB_IDENTITY)
        return v;
    if (kind == PIPE_PERTURB_BLUR) {
        if (pipe_check(q, NULL) != PIPE_OK)
            return q;
        if (pipe_rank(q) != 4 || pipe_dim(q, 1) != rows * columns)
            return pipe_poison(pipe_tensor_engine(q), PIPE_ESHAPE,
                               "queries of a grid of %" PRId64 " x %" PRId64
                               " tokens are [n, tokens, heads, width], with as many tokens",
                               rows, columns);
        q = blur(q, rows, columns, c->perturbation->sigma);
    }
    return pipe_attention(q, k, v, NULL, 0.0, false);
}
