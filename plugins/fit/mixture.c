/* A mixture of Gaussians for a data set: mini-batch k-means (Sculley 2010), then
 * mean, covariance and frequency of each cluster, as Wang and Vastola 2024
 * (arXiv:2412.09726) fit theirs.
 *
 * Centres start by k-means++ (Arthur and Vassilvitskii 2007) on a subset.  Each
 * step assigns a random batch to its nearest centres and moves a centre towards
 * each of its points by 1 / (points it has had so far). */
#include <pipe/linalg.h>
#include <pipe/pipe.h>

#include <inttypes.h>
#include <math.h>
#include <string.h>

typedef struct {
    pipe_dataset *data;
    int64_t components, rank, steps, batch, seed;
    double jitter;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, data, PIPE_KIND_DATASET, "whose field `x` is described"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_INT(state, components, 10, 1, 100000, NULL,
             "of the mixture; more follow the data more closely and are slower to use"),
    PIPE_INT(state, rank, -1, -1, 46340, "axes",
             "kept of each component, those of the largest variances; more explains more and is slower to "
             "use; -1: all"),
    PIPE_FLOAT(state, jitter, 1e-5, 0.0, 1e6, NULL,
               "variance added in every direction; higher keeps components with few samples from being flat"),
    PIPE_INT(state, steps, 300, 0, 1000000, "steps", "of k-means; more settle the centres better"),
    PIPE_INT(state, batch, 1024, 1, 10000000, "samples", "per step; larger is steadier and slower"),
    PIPE_INT(state, seed, -1, -1, 4294967295, NULL, "of the batches; -1: the run's"),
    PIPE_PARAM_END,
};

static const pipe_output outputs[] = {
    PIPE_OUTPUT("statistics", PIPE_KIND_DATASET,
                "one row per component: mean, axes, eigenvalues, residual (the mean variance of the other "
                "directions), weight"),
    PIPE_OUTPUT_END,
};

typedef struct {
    pipe_engine *engine;
    pipe_key key;
    size_t n, d, k;
    float *x; /* [n, d] */
    float *centre; /* [k, d] */
    pipe_shape sample;
} clustering;

static void clustering_free(clustering *c)
{
    pipe_free(c->x);
    pipe_free(c->centre);
}

static pipe_status prepare(const state *st, pipe_context *ctx, clustering *c, pipe_error *err)
{
    PIPE_TRY(pipe_dataset_read_x(st->data, &c->sample, &c->n, &c->x, err));
    c->d = (size_t)pipe_shape_count(&c->sample);
    c->k = (size_t)st->components;
    if (c->n < c->k)
        return pipe_fail(err, PIPE_EINVAL, "components: %zu for the %zu samples of %s", c->k, c->n,
                         pipe_object_name(st->data));
    if (st->rank > (int64_t)c->d)
        return pipe_fail(err, PIPE_EINVAL, "rank: %" PRId64 " axes of samples of %zu numbers", st->rank,
                         c->d);
    for (size_t i = 0; i < c->n * c->d; i++)
        if (!isfinite(c->x[i]))
            return pipe_fail(err, PIPE_EDOMAIN, "sample %zu, number %zu is %g", i / c->d, i % c->d,
                             (double)c->x[i]);
    c->centre = pipe_alloc_array(c->k * c->d, sizeof *c->centre);
    c->engine = pipe_context_engine(ctx);
    c->key = pipe_context_key(ctx, "k-means");
    if (st->seed >= 0)
        c->key.seed = (uint64_t)st->seed;
    return PIPE_OK;
}

/* ---- the start ---- */
static double square_distance(const float *a, const float *b, size_t d)
{
    float sum = 0.0f; /* of a choice at random: f32 is enough, and fast */

    for (size_t j = 0; j < d; j++)
        sum += (a[j] - b[j]) * (a[j] - b[j]);
    return (double)sum;
}

/* The index at which the running sum of v first exceeds u of the total; the last one where all is 0. */
static size_t pick(const double *v, size_t n, double u)
{
    double total = 0.0, sum = 0.0;

    for (size_t i = 0; i < n; i++)
        total += v[i];
    for (size_t i = 0; i < n; i++)
        if ((sum += v[i]) > u * total)
            return i;
    return n - 1;
}

/* Each centre is a sample, taken with probability proportional to its squared distance to those before. */
static void start(clustering *c, size_t batch)
{
    const size_t wanted = 3 * (batch > c->k ? batch : c->k), m = wanted < c->n ? wanted : c->n;
    PIPE_CLEANUP(pipe_free_ptr) uint32_t *order = pipe_alloc_array(c->n, sizeof *order);
    PIPE_CLEANUP(pipe_free_ptr) double *nearest = pipe_alloc_array(m, sizeof *nearest);
    PIPE_CLEANUP(pipe_free_ptr) float *u = pipe_alloc_array(c->k, sizeof *u);

    pipe_host_shuffle(c->key, order, c->n);
    pipe_host_rand(c->key, u, c->k);
    for (size_t i = 0; i < m; i++)
        nearest[i] = 1.0;
    for (size_t k = 0; k < c->k; k++) {
        const float *chosen = c->x + order[pick(nearest, m, (double)u[k])] * c->d;
        memcpy(c->centre + k * c->d, chosen, c->d * sizeof *chosen);
        for (size_t i = 0; i < m; i++) {
            const double far = square_distance(c->x + order[i] * c->d, chosen, c->d);
            nearest[i] = k == 0 || far < nearest[i] ? far : nearest[i];
        }
    }
}

/* ---- k-means ---- */
/* The nearest centre of each of n rows: the one with the largest x.c - |c|^2 / 2. */
static pipe_status assign(const clustering *c, const float *x, size_t n, int32_t *out, pipe_error *err)
{
    static const int last = -1;
    pipe_tensor *rows = pipe_from_f32(c->engine, PIPE_SHAPE((int64_t)n, (int64_t)c->d), x);
    pipe_tensor *centre = pipe_from_f32(c->engine, PIPE_SHAPE((int64_t)c->k, (int64_t)c->d), c->centre);
    pipe_tensor *square = pipe_sum(pipe_square(centre), &last, 1, false);

    return pipe_read_i32(pipe_argmax(pipe_axpby(1.0, pipe_matmul(rows, centre, false, true), -0.5, square)),
                         out, n, err);
}

static pipe_status move_centres(const state *st, clustering *c, pipe_context *ctx, pipe_error *err)
{
    const size_t b = (size_t)st->batch < c->n ? (size_t)st->batch : c->n, d = c->d;
    PIPE_CLEANUP(pipe_free_ptr) float *rows = pipe_alloc_array(b * d, sizeof *rows);
    PIPE_CLEANUP(pipe_free_ptr) int32_t *of = pipe_alloc_array(b, sizeof *of);
    PIPE_CLEANUP(pipe_free_ptr) uint64_t *had = pipe_alloc_array(c->k, sizeof *had);
    pipe_key key = c->key;

    for (int64_t step = 0; step < st->steps; step++) {
        key.step = (uint64_t)step + 1; /* 0: the start's */
        for (size_t i = 0; i < b; i++) /* all of them where the batch is that large */
            memcpy(rows + i * d, c->x + (b == c->n ? i : pipe_host_bits(key, i) % c->n) * d,
                   d * sizeof *rows);
        PIPE_TRY(assign(c, rows, b, of, err));
        for (size_t i = 0; i < b; i++) {
            float *centre = c->centre + (size_t)of[i] * d;
            const float rate = 1.0f / (float)++had[of[i]];
            for (size_t j = 0; j < d; j++)
                centre[j] += rate * (rows[i * d + j] - centre[j]);
        }
        pipe_progress(ctx, (uint64_t)step + 1, (uint64_t)st->steps, "steps", NULL);
        if (pipe_stop_requested(ctx, NULL))
            return pipe_fail(err, PIPE_EINTERRUPTED, "stopped after step %" PRId64, step + 1);
    }
    return PIPE_OK;
}

static pipe_status assign_all(const clustering *c, int32_t *of, pipe_error *err)
{
    enum { ROWS = 4096 };

    for (size_t first = 0; first < c->n; first += ROWS)
        PIPE_TRY(assign(c, c->x + first * c->d, c->n - first < ROWS ? c->n - first : ROWS, of + first, err));
    return PIPE_OK;
}

/* ---- the components ---- */
/* Row `row` from the samples of cluster k. */
static pipe_status component(const state *st, const clustering *c, const int32_t *of, size_t k, size_t count,
                             pipe_gaussian_set *set, int64_t row, pipe_error *err)
{
    const size_t d = c->d;
    PIPE_CLEANUP(pipe_free_ptr) float *own = pipe_alloc_array((count < 2 ? 2 : count) * d, sizeof *own);
    PIPE_CLEANUP(pipe_free_ptr) double *mean = pipe_alloc_array(d * (d + 1), sizeof *mean);
    double *covariance = mean + d;
    size_t n = 0;

    for (size_t i = 0; i < c->n; i++)
        if (of[i] == (int32_t)k)
            memcpy(own + n++ * d, c->x + i * d, d * sizeof *own);
    if (n == 1) /* a point has no spread: twice the same */
        memcpy(own + n++ * d, own, d * sizeof *own);
    PIPE_TRY(pipe_mean_covariance(own, n, d, mean, covariance, err));
    for (size_t j = 0; j < d; j++)
        covariance[j * d + j] += st->jitter;
    set->weight[row] = (float)((double)count / (double)c->n);
    return pipe_gaussian_set_row(set, row, mean, covariance, err);
}

static pipe_status describe_clusters(const state *st, const clustering *c, const int32_t *of,
                                     pipe_context *ctx, pipe_gaussian_set *set, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) size_t *count = pipe_alloc_array(c->k, sizeof *count);
    int64_t row = 0;

    for (size_t i = 0; i < c->n; i++)
        count[of[i]]++;
    for (size_t k = 0; k < c->k; k++)
        set->count += count[k] > 0;
    if (set->count < st->components)
        pipe_context_log(ctx, PIPE_LOG_WARN, "%" PRId64 " of %" PRId64 " clusters are empty and left out",
                         st->components - set->count, st->components);
    set->sample = c->sample;
    set->rank = st->rank < 0 ? (int64_t)c->d : st->rank;
    PIPE_TRY(pipe_gaussian_set_alloc(set, false, err));
    for (size_t k = 0; k < c->k; k++) {
        if (count[k] == 0)
            continue;
        PIPE_TRY(component(st, c, of, k, count[k], set, row++, err));
        pipe_progress(ctx, (uint64_t)row, (uint64_t)set->count, "components", NULL);
        if (pipe_stop_requested(ctx, NULL))
            return pipe_fail(err, PIPE_EINTERRUPTED, "stopped after component %" PRId64, row);
    }
    return PIPE_OK;
}

static double inertia(const clustering *c, const int32_t *of)
{
    double sum = 0.0;

    for (size_t i = 0; i < c->n; i++)
        sum += square_distance(c->x + i * c->d, c->centre + (size_t)of[i] * c->d, c->d);
    return sum / (double)c->n;
}

static pipe_status run(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;
    PIPE_CLEANUP(clustering_free) clustering c = {0};
    PIPE_CLEANUP(pipe_gaussian_set_free) pipe_gaussian_set set = {.size = sizeof set};
    PIPE_CLEANUP(pipe_free_ptr) int32_t *of = NULL;
    pipe_dataset *out = NULL;

    PIPE_TRY(prepare(st, ctx, &c, err));
    start(&c, (size_t)st->batch);
    PIPE_TRY(move_centres(st, &c, ctx, err));
    of = pipe_alloc_array(c.n, sizeof *of);
    PIPE_TRY(assign_all(&c, of, err));
    PIPE_TRY(describe_clusters(st, &c, of, ctx, &set, err));
    PIPE_TRY(pipe_report(ctx, "components", (double)set.count, err));
    PIPE_TRY(pipe_report(ctx, "inertia", inertia(&c, of), err));
    PIPE_TRY(pipe_gaussian_set_dataset(&set, ctx, &out, err));
    const pipe_status status = pipe_yield(ctx, "statistics", out, err);
    pipe_object_unref(out);
    return status;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_STEP),
    .name = "fit.mixture",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "a mixture of Gaussians for a data set, by k-means",
    .help = "Reports `components` (clusters that are not empty) and `inertia` (the mean squared distance to "
            "the nearest centre).",
    .citation = "arXiv:2412.09726",
    .example = "statistics: {plugin: fit.mixture, data: train, components: 50}",
    .params = params,
    .inputs = inputs,
    .outputs = outputs,
    .state_size = sizeof(state),
    .run = run,
};
