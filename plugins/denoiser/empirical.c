/* The exact denoiser of a data set taken as it is: N equal points y_i, so that
 *
 *     E[x0 | x] = sum_i w_i y_i,   w = softmax_i(-|x - alpha y_i|^2 / (2 sigma^2)).
 *
 * It memorizes: at small noise it returns the nearest sample.  What a trained
 * network does differently is what it has learned beyond its data (Wang and
 * Vastola 2024, arXiv:2412.09726, there "delta"; Kamb and Ganguli 2024).
 *
 * The points are gone through in chunks with a running maximum m, sum s and
 * weighted sum a of exp(logit - m), so no [n, N] matrix is ever held.  They are
 * centred first: what is subtracted in a distance is then smaller. */
#include <pipe/pipe.h>

#include <math.h>
#include <string.h>

typedef struct {
    pipe_tensor *y; /* [rows, d], centred */
    pipe_tensor *half_square; /* [1, rows]: |y|^2 / 2 */
    pipe_tensor *label; /* [1, rows] or NULL */
} chunk;

typedef struct {
    pipe_schedule *schedule;
    pipe_dataset *data;
    int64_t chunk;
    bool labels;
    pipe_shape sample;
    int64_t d, classes;
    size_t count;
    pipe_tensor *mean; /* [1, d] */
    chunk *chunks;
    size_t n_chunks;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, data, PIPE_KIND_DATASET, "whose field `x` holds the points"),
    PIPE_INPUT_DEFAULT(state, schedule, PIPE_KIND_SCHEDULE, "cosine", "of the noise that it removes"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_INT_FLAGS(state, chunk, 4096, 1, 1000000, "samples", PIPE_PARAM_NO_KEY,
                   "compared at once; larger takes more memory"),
    PIPE_BOOL(state, labels, false, "a label restricts the points to those of its class"),
    PIPE_PARAM_END,
};

/* ---- the points ---- */
static void find_mean(const float *x, size_t n, size_t d, double *mean)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < d; j++)
            mean[j] += (double)x[i * d + j];
    for (size_t j = 0; j < d; j++)
        mean[j] /= (double)n;
}

static pipe_status upload(state *st, pipe_engine *e, float *x, const double *mean, const int32_t *label,
                          size_t n, chunk *c, pipe_error *err)
{
    const size_t d = (size_t)st->d;
    PIPE_CLEANUP(pipe_free_ptr) float *square = pipe_alloc_array(n, 2 * sizeof *square);
    float *own = square + n;

    for (size_t i = 0; i < n; i++) {
        double sum = 0.0;
        for (size_t j = 0; j < d; j++) {
            x[i * d + j] = (float)((double)x[i * d + j] - mean[j]);
            sum += (double)x[i * d + j] * (double)x[i * d + j];
        }
        square[i] = (float)(0.5 * sum);
        own[i] = label ? (float)label[i] : 0.0f;
    }
    pipe_keep(&c->y, pipe_from_f32(e, PIPE_SHAPE((int64_t)n, st->d), x));
    pipe_keep(&c->half_square, pipe_from_f32(e, PIPE_SHAPE(1, (int64_t)n), square));
    if (label)
        pipe_keep(&c->label, pipe_from_f32(e, PIPE_SHAPE(1, (int64_t)n), own));
    PIPE_TRY(pipe_check(c->y, err));
    return pipe_check(c->half_square, err);
}

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;
    pipe_engine *e = pipe_context_engine(ctx);
    PIPE_CLEANUP(pipe_free_ptr) float *points = NULL;
    PIPE_CLEANUP(pipe_free_ptr) int32_t *label = NULL;

    PIPE_TRY(pipe_dataset_read_x(st->data, &st->sample, &st->count, &points, err));
    if (st->labels)
        PIPE_TRY(pipe_dataset_read_labels(st->data, &st->classes, &label, err));
    st->d = pipe_shape_count(&st->sample);
    const size_t n = st->count, d = (size_t)st->d, rows = (size_t)st->chunk;
    PIPE_CLEANUP(pipe_free_ptr) double *mean = pipe_alloc_array(d, sizeof *mean);
    PIPE_CLEANUP(pipe_free_ptr) float *rounded = pipe_alloc_array(d, sizeof *rounded);
    find_mean(points, n, d, mean);
    for (size_t j = 0; j < d; j++)
        mean[j] = (double)(rounded[j] = (float)mean[j]); /* what is subtracted is what is added again */
    pipe_keep(&st->mean, pipe_from_f32(e, PIPE_SHAPE(1, st->d), rounded));
    st->n_chunks = (n + rows - 1) / rows;
    st->chunks = pipe_alloc_array(st->n_chunks, sizeof *st->chunks);
    for (size_t k = 0, first = 0; k < st->n_chunks; k++, first += rows)
        PIPE_TRY(upload(st, e, points + first * d, mean, label ? label + first : NULL,
                        n - first < rows ? n - first : rows, &st->chunks[k], err));
    return pipe_check(st->mean, err);
}

static void destroy(void *self)
{
    state *st = self;

    pipe_keep(&st->mean, NULL);
    for (size_t k = 0; k < st->n_chunks; k++) {
        pipe_keep(&st->chunks[k].y, NULL);
        pipe_keep(&st->chunks[k].half_square, NULL);
        pipe_keep(&st->chunks[k].label, NULL);
    }
    pipe_free(st->chunks);
}

static pipe_status describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    const state *st = self;

    (void)err;
    info->sample = st->sample;
    info->predicts = PIPE_PREDICT_X0;
    info->schedule = st->schedule;
    info->classes = st->classes;
    return PIPE_OK;
}

/* ---- the sums ---- */
typedef struct {
    pipe_tensor *alpha, *inverse; /* [n, 1]: alpha, 1 / sigma^2 */
    pipe_tensor *centred; /* [n, d]: x - alpha mean */
    pipe_tensor *wanted; /* [n, 1]: labels, or NULL */
    pipe_tensor *most, *sum, *weighted; /* [n, 1], [n, 1], [n, d] or NULL: so far */
} sums;

/* alpha x.y - alpha^2 |y|^2 / 2, over sigma^2: [n, rows].  What does not depend on y is left out. */
static pipe_tensor *logits(const sums *s, const chunk *c)
{
    pipe_tensor *product = pipe_matmul(pipe_mul(s->alpha, s->centred), c->y, false, true);
    pipe_tensor *l = pipe_mul(pipe_sub(product, pipe_mul(pipe_square(s->alpha), c->half_square)), s->inverse);
    pipe_engine *e = pipe_tensor_engine(l);

    if (!s->wanted)
        return l;
    pipe_tensor *none = pipe_less(s->wanted, pipe_constant(e, 0.0)); /* all classes */
    pipe_tensor *own = pipe_maximum(pipe_equal(s->wanted, c->label), none);
    return pipe_where(own, l, pipe_constant(e, PIPE_LOG_ZERO));
}

static void add_chunk(sums *s, const chunk *c, bool weigh)
{
    static const int last = -1;
    pipe_tensor *l = logits(s, c), *top = pipe_stop_gradient(pipe_max(l, &last, 1, true));
    pipe_tensor *most = s->most ? pipe_maximum(s->most, top) : top; /* sums do not depend on it */
    pipe_tensor *p = pipe_exp(pipe_sub(l, most)), *sum = pipe_sum(p, &last, 1, true);
    pipe_tensor *weighted = weigh ? pipe_matmul(p, c->y, false, false) : NULL;

    if (s->most) {
        pipe_tensor *fade = pipe_exp(pipe_sub(s->most, most));
        sum = pipe_add(pipe_mul(s->sum, fade), sum);
        if (weigh)
            weighted = pipe_add(pipe_mul(s->weighted, fade), weighted);
    }
    s->most = most;
    s->sum = sum;
    s->weighted = weighted;
}

static pipe_tensor *go_through(const state *st, pipe_tensor *x, const pipe_level *l, const pipe_condition *c,
                               bool weigh, sums *s)
{
    enum { SMALLEST = -24 }; /* sigma^2 from 2^-24 on: below, the nearest point has all the weight */
    const pipe_shape *shape = pipe_tensor_shape(x);
    const int64_t n = pipe_dim(x, 0);
    char got[PIPE_SHAPE_TEXT], want[PIPE_SHAPE_TEXT];

    if (pipe_check(x, NULL) != PIPE_OK)
        return x;
    if (shape->rank != st->sample.rank + 1 ||
        memcmp(shape->dim + 1, st->sample.dim, st->sample.rank * sizeof shape->dim[0]) != 0)
        return pipe_poison(pipe_tensor_engine(x), PIPE_ESHAPE,
                           "denoiser.empirical: a batch of shape %s for samples of shape %s",
                           pipe_shape_text(shape, got, sizeof got),
                           pipe_shape_text(&st->sample, want, sizeof want));
    pipe_tensor *sigma = pipe_reshape(l->sigma, PIPE_SHAPE(n, 1));
    *s = (sums){.alpha = pipe_reshape(l->alpha, PIPE_SHAPE(n, 1)),
                .inverse = pipe_reciprocal(pipe_maximum(
                    pipe_square(sigma), pipe_constant(pipe_tensor_engine(x), ldexp(1.0, SMALLEST))))};
    s->centred = pipe_sub(pipe_reshape(x, PIPE_SHAPE(n, st->d)), pipe_mul(s->alpha, st->mean));
    if (st->labels && c && c->labels)
        s->wanted = pipe_reshape(pipe_to_f32(c->labels), PIPE_SHAPE(n, 1));
    for (size_t k = 0; k < st->n_chunks; k++)
        add_chunk(s, &st->chunks[k], weigh);
    return NULL;
}

static pipe_tensor *predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c)
{
    const state *st = self;
    sums s;
    pipe_tensor *bad = go_through(st, x, l, c, true, &s);

    (void)m;
    return bad ? bad : pipe_reshape(pipe_add(st->mean, pipe_div(s.weighted, s.sum)), *pipe_tensor_shape(x));
}

/* ln (1 / N) sum_i N(x; alpha y_i, sigma^2) */
static pipe_tensor *log_density(void *self, pipe_tensor *x, const pipe_level *l, const pipe_condition *c)
{
    static const double two_pi = 6.283185307179586;
    static const int last = -1;
    const state *st = self;
    sums s;
    pipe_tensor *bad = go_through(st, x, l, c, false, &s);

    if (bad)
        return bad;
    if (s.wanted)
        return pipe_poison(pipe_tensor_engine(x), PIPE_EUNSUPPORTED,
                           "denoiser.empirical: the density given a class is not known");
    pipe_tensor *square = pipe_mul(pipe_sum(pipe_square(s.centred), &last, 1, true), s.inverse);
    pipe_tensor *norm = pipe_affine(pipe_ln(s.inverse), -0.5 * (double)st->d,
                                    log((double)st->count) + 0.5 * (double)st->d * log(two_pi));
    pipe_tensor *sum = pipe_add(s.most, pipe_ln(s.sum));
    return pipe_reshape(pipe_sub(pipe_axpby(1.0, sum, -0.5, square), norm), PIPE_SHAPE(pipe_dim(x, 0)));
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "denoiser.empirical",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "the exact denoiser of a data set: it memorizes",
    .help = "One evaluation compares each row with every sample of the data set.",
    .citation = "arXiv:2412.09726",
    .example = "memory: {plugin: denoiser.empirical, data: train, schedule: cosine}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .create = create,
    .destroy = destroy,
    .denoiser = {.describe = describe, .predict = predict, .log_density = log_density},
};
