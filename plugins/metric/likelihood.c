/* Exact log-likelihood by the probability-flow ODE (Song et al. 2021,
 * arXiv:2011.13456, section 4.3).  In x / alpha as a function of u = ln rho,
 * rho = sigma / alpha, with D = E[x0 | x] and n numbers per sample,
 *
 *     dx/du = x - D(x, rho),    d log p/du = -(n - tr dD/dx),
 *     log p_lo(x_lo) = log N(x_hi; 0, rho_hi^2) + int_lo^hi (n - tr dD/dx) du,
 *
 * integrated by the classical Runge-Kutta method from the data up.  The trace is
 * exact, from one Jacobian-vector product per number, or Hutchinson's estimate
 * v.(dD/dx v) with v of random signs, the same all along a trajectory. */
#include <pipe/pipe.h>

#include <inttypes.h>
#include <math.h>

typedef struct {
    pipe_denoiser *denoiser;
    pipe_dataset *data;
    int64_t steps, trace, probes, count, first, batch, levels;
    double ratio_min, ratio_max;
    bool labels;
} state;

enum { EXACT, HUTCHINSON };

static const char *const traces[] = {"exact", "hutchinson", NULL};

static const pipe_input inputs[] = {
    PIPE_INPUT(state, denoiser, PIPE_KIND_DENOISER, "the model"),
    PIPE_INPUT(state, data, PIPE_KIND_DATASET, "whose samples' likelihood is wanted"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_INT(state, steps, 50, 1, 100000, "steps", "of the ODE's solver; more is slower and more exact"),
    PIPE_CHOICE(state, trace, "hutchinson", traces,
                "of the Jacobian: exact (as many products as a sample has numbers) or hutchinson (`probes` "
                "of them, unbiased)"),
    PIPE_INT(state, probes, 1, 1, 10000, NULL, "of hutchinson; more is slower and less noisy"),
    PIPE_INT(state, first, 0, 0, 1000000000, "samples", "passed over at the start of the data"),
    PIPE_INT(state, count, 64, 1, 1000000000, "samples", "that are measured; more is more exact and slower"),
    PIPE_INT_FLAGS(state, batch, 64, 1, 65536, "samples", PIPE_PARAM_NO_KEY,
                   "computed at once; larger takes more memory"),
    PIPE_INT(state, levels, 0, 0, 65536, NULL,
             "of data that are whole steps between -1 and 1 (256: 8-bit images): they are dequantized by "
             "uniform noise, and bits_per_dim is a bound for the discrete data; 0: data are continuous"),
    PIPE_FLOAT(state, ratio_min, 0.002, 1e-6, 1e6, NULL,
               "smallest sigma / alpha, where the data are taken to lie; lower is stiffer"),
    PIPE_FLOAT(state, ratio_max, 80.0, 1e-6, 1e6, NULL,
               "largest sigma / alpha, where samples are taken to be pure noise; must be far above the data"),
    PIPE_BOOL(state, labels, false, "condition on the field `label`"),
    PIPE_PARAM_END,
};

typedef struct {
    const state *st;
    pipe_context *ctx;
    pipe_engine *engine;
    int64_t n, d; /* rows, numbers per sample */
    pipe_shape shape; /* of the batch */
    pipe_tensor *labels; /* or NULL; held */
    pipe_tensor **probe; /* [number of probes] held; of EXACT: none, they are made as needed */
    size_t probes;
} flow;

static void flow_free(flow *f)
{
    pipe_keep(&f->labels, NULL);
    for (size_t k = 0; f->probe && k < f->probes; k++)
        pipe_keep(&f->probe[k], NULL);
    pipe_free(f->probe);
}

/* sum over everything but the batch: [n] */
static pipe_tensor *dot(const flow *f, pipe_tensor *a, pipe_tensor *b)
{
    static const int last = -1;

    return pipe_sum(pipe_reshape(pipe_mul(a, b), PIPE_SHAPE(f->n, f->d)), &last, 1, false);
}

static pipe_tensor *denoised(const flow *f, pipe_tensor *x, double ratio)
{
    const pipe_condition c = {.size = sizeof c, .labels = f->labels};

    return pipe_predict_x0_of_ratio(f->st->denoiser, x, ratio, &c);
}

/* The direction of number k, for all rows. */
static pipe_tensor *axis(const flow *f, size_t k)
{
    PIPE_CLEANUP(pipe_free_ptr) float *unit = pipe_alloc_array((size_t)f->d, sizeof *unit);
    pipe_shape one = f->shape;

    unit[k] = 1.0f;
    one.dim[0] = 1;
    return pipe_broadcast_to(pipe_from_f32(f->engine, one, unit), f->shape);
}

/* Adds share * v.(dD/dx v) of a few probes to *sum, [n] held: each recording has the same structure,
 * so one plan serves them all. */
static pipe_status add_products(const flow *f, pipe_tensor *x, double ratio, size_t first, size_t n,
                                pipe_tensor **sum, pipe_error *err)
{
    const bool exact = f->st->trace == EXACT;
    const double share = exact ? 1.0 : 1.0 / (double)f->probes;
    pipe_tensor *d = denoised(f, x, ratio), *trace = NULL;

    for (size_t k = first; k < first + n; k++) {
        pipe_tensor *v = exact ? axis(f, k) : f->probe[k];
        pipe_tensor *own = pipe_scale(dot(f, v, pipe_jvp(d, &x, &v, 1)), share);
        trace = trace ? pipe_add(trace, own) : own;
    }
    trace = *sum ? pipe_add(*sum, trace) : trace;
    PIPE_TRY(pipe_check(trace, err));
    pipe_keep(sum, trace);
    return pipe_eval(f->engine, err);
}

/* Slopes at x (held): of x, and of the integral; both are held by the caller's slots. */
static pipe_status slopes(const flow *f, pipe_tensor *x, double u, pipe_tensor **dx, pipe_tensor **dl,
                          pipe_error *err)
{
    enum { AT_ONCE = 4 };
    const double ratio = exp(u);
    const size_t total = f->st->trace == EXACT ? (size_t)f->d : f->probes;
    pipe_tensor *trace = NULL;
    pipe_status status = PIPE_OK;

    for (size_t k = 0; k < total && status == PIPE_OK; k += AT_ONCE)
        status = add_products(f, x, ratio, k, total - k < AT_ONCE ? total - k : AT_ONCE, &trace, err);
    if (status == PIPE_OK) {
        pipe_keep(dx, pipe_sub(x, denoised(f, x, ratio)));
        pipe_keep(dl, pipe_affine(trace, -1.0, (double)f->d));
        status = pipe_check(*dx, err);
    }
    if (status == PIPE_OK)
        status = pipe_eval(f->engine, err);
    pipe_keep(&trace, NULL);
    return status;
}

/* One step of length h from u on: x and l, held by their slots, move. */
static pipe_status step(const flow *f, double u, double h, pipe_tensor **x, pipe_tensor **l, pipe_error *err)
{
    static const double at[4] = {0.0, 0.5, 0.5, 1.0}, weight[4] = {1.0 / 6, 1.0 / 3, 1.0 / 3, 1.0 / 6};
    pipe_tensor *dx[4] = {NULL}, *dl[4] = {NULL}, *stage = NULL;
    pipe_status status = PIPE_OK;

    for (int k = 0; k < 4 && status == PIPE_OK; k++) {
        pipe_keep(&stage, k == 0 ? *x : pipe_axpby(1.0, *x, at[k] * h, dx[k - 1]));
        if ((status = pipe_eval(f->engine, err)) == PIPE_OK)
            status = slopes(f, stage, u + at[k] * h, &dx[k], &dl[k], err);
    }
    if (status == PIPE_OK) {
        pipe_tensor *x_new = *x, *l_new = *l;
        for (int k = 0; k < 4; k++) {
            x_new = pipe_axpby(1.0, x_new, weight[k] * h, dx[k]);
            l_new = pipe_axpby(1.0, l_new, weight[k] * h, dl[k]);
        }
        pipe_keep(x, x_new);
        pipe_keep(l, l_new);
        status = pipe_eval(f->engine, err);
    }
    for (int k = 0; k < 4; k++) {
        pipe_keep(&dx[k], NULL);
        pipe_keep(&dl[k], NULL);
    }
    pipe_keep(&stage, NULL);
    return status;
}

/* ln N(x; 0, ratio^2): [n] */
static pipe_tensor *prior(const flow *f, pipe_tensor *x, double ratio)
{
    static const double two_pi = 6.283185307179586;

    return pipe_affine(dot(f, x, x), -0.5 / (ratio * ratio),
                       -0.5 * (double)f->d * log(two_pi * ratio * ratio));
}

static pipe_status integrate(const flow *f, pipe_tensor **x, uint64_t done, uint64_t total, float *out,
                             pipe_error *err)
{
    const double low = log(f->st->ratio_min), high = log(f->st->ratio_max),
                 h = (high - low) / (double)f->st->steps;
    pipe_tensor *l = NULL;
    pipe_status status;

    pipe_keep(&l, pipe_zeros(f->engine, PIPE_SHAPE(f->n)));
    status = pipe_eval(f->engine, err);
    for (int64_t k = 0; k < f->st->steps && status == PIPE_OK; k++) {
        status = step(f, low + h * (double)k, h, x, &l, err);
        pipe_progress(f->ctx, done + (uint64_t)k + 1, total, "steps", NULL);
        if (status == PIPE_OK && pipe_stop_requested(f->ctx, NULL))
            status = pipe_fail(err, PIPE_EINTERRUPTED, "stopped at step %" PRId64, k + 1);
    }
    if (status == PIPE_OK)
        status = pipe_read_f32(pipe_add(l, prior(f, *x, f->st->ratio_max)), out, (size_t)f->n, err);
    pipe_keep(&l, NULL);
    return status;
}

/* The distance between two values of the data; 0 where they are continuous. */
static double bin(const state *st)
{
    return st->levels > 1 ? 2.0 / (double)(st->levels - 1) : 0.0;
}

/* Log-likelihoods of n samples from `first` on. */
static pipe_status batch(const state *st, pipe_context *ctx, uint64_t first, size_t n, uint64_t done,
                         uint64_t total, float *out, pipe_error *err)
{
    PIPE_CLEANUP(flow_free)
    flow f = {.st = st, .ctx = ctx, .engine = pipe_context_engine(ctx), .n = (int64_t)n};
    pipe_dataset_info info;
    pipe_key key = pipe_context_key(ctx, "dequantize");
    pipe_tensor *x = NULL, *held = NULL;
    size_t k;

    PIPE_TRY(pipe_dataset_describe(st->data, &info, err));
    if (st->labels) {
        PIPE_TRY(pipe_dataset_need(st->data, &info, "label", &k, err));
        PIPE_TRY(pipe_dataset_tensor(st->data, f.engine, first, n, k, &x, err));
        pipe_keep(&f.labels, x);
    }
    PIPE_TRY(pipe_dataset_need(st->data, &info, "x", &k, err));
    PIPE_TRY(pipe_dataset_tensor(st->data, f.engine, first, n, k, &x, err));
    f.shape = *pipe_tensor_shape(x);
    f.d = pipe_count(x) / f.n;
    key.sample = first;
    if (bin(st) > 0.0)
        x = pipe_axpby(1.0, x, bin(st), pipe_affine(pipe_rand(f.engine, f.shape, key), 1.0, -0.5));
    f.probes = st->trace == EXACT ? 0 : (size_t)st->probes;
    f.probe = pipe_alloc_array(f.probes + 1, sizeof(pipe_tensor *));
    key = pipe_context_key(ctx, "probe");
    key.sample = first;
    for (size_t i = 0; i < f.probes; i++) {
        key.step = i;
        pipe_keep(&f.probe[i], pipe_sign(pipe_affine(pipe_rand(f.engine, f.shape, key), 1.0, -0.5)));
    }
    pipe_keep(&held, x);
    pipe_status status = pipe_eval(f.engine, err);
    if (status == PIPE_OK)
        status = integrate(&f, &held, done, total, out, err);
    pipe_keep(&held, NULL);
    return status;
}

static pipe_status report(const state *st, pipe_context *ctx, const float *log_p, size_t d, pipe_error *err)
{
    const double n = (double)st->count, width = bin(st);
    double mean = 0.0, square = 0.0;

    for (int64_t i = 0; i < st->count; i++)
        mean += (double)log_p[i] / n;
    for (int64_t i = 0; i < st->count; i++)
        square += ((double)log_p[i] - mean) * ((double)log_p[i] - mean);
    PIPE_TRY(pipe_report(ctx, "log_likelihood", mean, err));
    PIPE_TRY(pipe_report(ctx, "standard_error", st->count > 1 ? sqrt(square / (n - 1.0) / n) : 0.0, err));
    /* a density in units of the bin: log2 of its width goes off */
    return pipe_report(ctx, "bits_per_dim",
                       -mean / (log(2.0) * (double)d) - (width > 0.0 ? log2(width) : 0.0), err);
}

static pipe_status check(const state *st, size_t *d, pipe_error *err)
{
    pipe_dataset_info info;
    size_t k;

    PIPE_TRY(pipe_dataset_describe(st->data, &info, err));
    PIPE_TRY(pipe_dataset_need(st->data, &info, "x", &k, err));
    *d = (size_t)pipe_shape_count(&info.field[k].shape);
    if (info.field[k].dtype != PIPE_F32 || *d == 0)
        return pipe_fail(err, PIPE_ESHAPE, "%s: field `x` must hold f32 numbers", pipe_object_name(st->data));
    if ((uint64_t)(st->first + st->count) > info.count)
        return pipe_fail(err, PIPE_EINVAL,
                         "count: samples %" PRId64 " to %" PRId64 " are asked for; %s has %" PRIu64,
                         st->first, st->first + st->count - 1, pipe_object_name(st->data), info.count);
    if (!(st->ratio_min < st->ratio_max))
        return pipe_fail(err, PIPE_EINVAL, "ratio_min %g is not below ratio_max %g", st->ratio_min,
                         st->ratio_max);
    if (st->levels == 1)
        return pipe_fail(err, PIPE_EINVAL, "levels: data of one value are no data; 0 or at least 2");
    return PIPE_OK;
}

static pipe_status run(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;
    PIPE_CLEANUP(pipe_free_ptr) float *log_p = pipe_alloc_array((size_t)st->count, sizeof *log_p);
    const uint64_t rows = (uint64_t)(st->batch < st->count ? st->batch : st->count),
                   count = (uint64_t)st->count, steps = (uint64_t)st->steps,
                   total = (count + rows - 1) / rows * steps;
    size_t d;

    PIPE_TRY(check(st, &d, err));
    for (uint64_t at = 0; at < count; at += rows)
        PIPE_TRY(batch(st, ctx, (uint64_t)st->first + at,
                       count - at < rows ? (size_t)(count - at) : (size_t)rows, at / rows * steps, total,
                       log_p + at, err));
    return report(st, ctx, log_p, d, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_METRIC),
    .name = "metric.likelihood",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "log-likelihood of data under a denoiser, by its probability flow",
    .help = "Reports `log_likelihood` (nats per sample, mean), its `standard_error` over samples, and "
            "`bits_per_dim`.",
    .citation = "arXiv:2011.13456",
    .example = "nll: {plugin: metric.likelihood, denoiser: model, data: test, levels: 256}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .run = run,
};
