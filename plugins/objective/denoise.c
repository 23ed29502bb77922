/* Denoising: noise a sample to a random level, predict the noise, the clean
 * sample or a mixture of both (Ho et al. 2020, arXiv:2006.11239, algorithm 1;
 * v: Salimans and Ho 2022, arXiv:2202.00512, appendix D).
 * Of a network that says so, the variance of the steps too (Nichol and Dhariwal
 * 2021, arXiv:2102.09672). */
#include <pipe/pipe.h>

#include <math.h>

enum { NONE, MIN_SNR, TRUNCATED_SNR, SNR_PLUS_1, EDM, ELBO };

static const char *const predictions[] = {"eps", "x0", "v", NULL};
static const pipe_prediction prediction_of[] = {PIPE_PREDICT_EPS, PIPE_PREDICT_X0, PIPE_PREDICT_V};
static const char *const weightings[] = {"none", "min-snr", "truncated-snr", "snr+1", "edm", "elbo", NULL};

typedef struct {
    pipe_schedule *schedule;
    int64_t predict, weighting, times;
    int64_t variance_steps;
    double gamma, sigma_data, mean, deviation, mode_scale, label_dropout, variance_weight;
    bool stratified;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT_DEFAULT(state, schedule, PIPE_KIND_SCHEDULE, "cosine", "noise levels to train at"),
    PIPE_INPUT_END};

static const pipe_param params[] = {
    PIPE_CHOICE(
        state, predict, "v", predictions,
        "what the network learns: eps (the noise; weak at high noise), x0 (the clean sample; weak at low "
        "noise), v (alpha eps - sigma x0; even)"),
    PIPE_CHOICE(
        state, weighting, "none", weightings,
        "of noise levels in the loss: none (as predicted), or as a weight of the error in x0: min-snr "
        "(capped at gamma: Hang et al. 2023), truncated-snr (at least 1), snr+1, edm (snr + 1 / "
        "sigma_data^2: "
        "Karras et al. 2022), elbo (the likelihood bound, with uniform times: Kingma et al. 2021)"),
    PIPE_FLOAT(state, gamma, 5.0, 0.01, 1e6, NULL, "cap of min-snr; higher gives low noise more weight"),
    PIPE_FLOAT(state, sigma_data, 0.5, 1e-6, 1e6, NULL,
               "of weighting edm: standard deviation of the data; higher gives high noise less weight"),
    PIPE_TIME_PARAMS(state),
    PIPE_FLOAT(
        state, label_dropout, 0.1, 0.0, 1.0, NULL,
        "share of samples trained without their label; guidance needs about 0.1, 0 learns the labels only"),
    PIPE_BOOL(state, stratified, true,
              "spread the levels of a batch evenly instead of drawing each alone: the loss varies less"),
    PIPE_FLOAT(state, variance_weight, 0.001, 0.0, 1e6, NULL,
               "of the bound that teaches a network with `variance` what it says of it; the prediction learns "
               "nothing from it"),
    PIPE_INT(state, variance_steps, 1000, 2, 1000000, "steps",
             "from pure noise to data, of which the variance is learned, under a schedule without steps of its own"),
    PIPE_PARAM_END};

static pipe_status declare(void *self, pipe_object *model, const pipe_dataset_info *data, pipe_error *err)
{
    const state *st = self;

    return pipe_denoising_declare(model, data, prediction_of[st->predict], st->schedule, err);
}

/* Weight of the squared error of what is predicted.  With e the error of x0, that of
 * eps is alpha / sigma e and that of v (alpha^2 + sigma^2) / sigma e. */
static double weight_at(const state *st, double t)
{
    const pipe_schedule_point p = pipe_schedule_at(st->schedule, t);
    const double a2 = p.alpha * p.alpha, s2 = fmax(p.sigma * p.sigma, 1e-12), snr = a2 / s2;
    double in_x0 = snr + 1.0;

    switch (st->weighting) {
    case MIN_SNR:
        in_x0 = fmin(snr, st->gamma);
        break;
    case TRUNCATED_SNR:
        in_x0 = fmax(snr, 1.0);
        break;
    case EDM:
        in_x0 = snr + 1.0 / (st->sigma_data * st->sigma_data);
        break;
    case ELBO:
        in_x0 = fabs(p.alpha * p.dalpha / s2 - snr * p.dsigma / p.sigma);
        break; /* 1/2 d SNR / dt */
    default:
        break;
    }

    switch (prediction_of[st->predict]) {
    case PIPE_PREDICT_EPS:
        return in_x0 / fmax(snr, 1e-12);
    case PIPE_PREDICT_V:
        return in_x0 * s2 / ((a2 + s2) * (a2 + s2));
    default:
        return in_x0;
    }
}

static pipe_tensor *target(const state *st, const pipe_level *l, pipe_tensor *x0, pipe_tensor *eps)
{
    switch (prediction_of[st->predict]) {
    case PIPE_PREDICT_EPS:
        return eps;
    case PIPE_PREDICT_V:
        return pipe_sub(pipe_mul(pipe_per_sample(l->alpha, eps), eps),
                        pipe_mul(pipe_per_sample(l->sigma, x0), x0));
    default:
        return x0;
    }
}

static pipe_tensor *weighted(const state *st, pipe_batch *b, const double *t, pipe_tensor *got,
                             pipe_tensor *want)
{
    const int64_t n = pipe_batch_size(b);
    PIPE_CLEANUP(pipe_free_ptr) float *w = pipe_alloc_array((size_t)n, sizeof *w);

    if (st->weighting == NONE)
        return pipe_mse(got, want);
    for (int64_t r = 0; r < n; r++)
        w[r] = (float)weight_at(st, t[r]);
    pipe_tensor *weight = pipe_from_f32(pipe_batch_engine(b), PIPE_SHAPE(n), w);
    return pipe_mean_all(pipe_mul(pipe_per_sample(weight, got), pipe_square(pipe_sub(got, want))));
}

/* The bound of Nichol and Dhariwal 2021, equations 4 to 7, in bits per number and summed over the steps: the
 * divergence of q(x_j | x_i, x0) from what is sampled, of a step that begins at each row's t.  The last step
 * adds no noise and has no part in it.  The error of the mean is that of what is predicted, `off`, times a
 * number; nothing is learned from it here. */
static pipe_tensor *variance_bound(const state *st, pipe_variance kind, pipe_batch *b, const double *t,
                                   pipe_tensor *off, pipe_tensor *variance, pipe_error *err)
{
    enum { MIDDLE, HALF, SMALL, ERROR, COUNTS, COLUMNS };
    const int64_t n = pipe_batch_size(b);
    PIPE_CLEANUP(pipe_free_ptr) float *host = pipe_alloc_array((size_t)(COLUMNS * n), sizeof *host);
    pipe_tensor *column[COLUMNS];
    pipe_schedule_info info;

    if (pipe_schedule_describe(st->schedule, &info, err) != PIPE_OK)
        return pipe_poison(pipe_batch_engine(b), err->status, "%s", err->message);
    const double steps = info.discrete > 0 ? (double)info.discrete : (double)st->variance_steps;
    for (int64_t r = 0; r < n; r++) {
        const pipe_schedule_point i = pipe_schedule_at(st->schedule, t[r]);
        const pipe_schedule_point j =
            pipe_schedule_at(st->schedule, fmax(info.t_min, t[r] - (info.t_max - info.t_min) / steps));
        const pipe_posterior q = pipe_posterior_of(i.alpha, i.sigma, j.alpha, j.sigma);
        double in_x, in_output;

        pipe_conversion_at(prediction_of[st->predict], PIPE_PREDICT_X0, &i, 1.0, &in_x, &in_output);
        const double mean = q.x0 * q.x0 * in_output * in_output / q.variance;
        const bool counts = q.variance > 0.0 && isfinite(mean);
        const double all[COLUMNS] = {q.log_middle, q.log_half, log(q.variance), mean, 1.0};
        for (int k = 0; k < COLUMNS; k++)
            host[k * n + r] = counts ? (float)all[k] : 0.0f;
    }
    for (int k = 0; k < COLUMNS; k++)
        column[k] = pipe_per_sample(pipe_from_f32(pipe_batch_engine(b), PIPE_SHAPE(n), host + k * n), off);
    if (kind == PIPE_VARIANCE_RANGE)
        variance = pipe_add(column[MIDDLE], pipe_mul(column[HALF], variance));
    /* twice the divergence: ln v - ln s - 1 + (s + error^2) / v */
    pipe_tensor *more = pipe_sub(variance, column[SMALL]);
    pipe_tensor *error = pipe_mul(column[ERROR], pipe_square(pipe_stop_gradient(off)));
    pipe_tensor *twice = pipe_add(pipe_affine(more, 1.0, -1.0),
                                  pipe_mul(pipe_exp(pipe_neg(more)), pipe_affine(error, 1.0, 1.0)));
    return pipe_scale(pipe_mean_all(pipe_mul(column[COUNTS], twice)), 0.5 * steps / log(2.0));
}

static pipe_tensor *loss(void *self, pipe_object *model, pipe_batch *b)
{
    const state *st = self;
    const pipe_time_density density = {sizeof density, (pipe_times)st->times, st->mean, st->deviation,
                                       st->mode_scale};
    PIPE_CLEANUP(pipe_free_ptr) double *t = pipe_alloc_array((size_t)pipe_batch_size(b), sizeof *t);
    pipe_tensor *variance = NULL;
    pipe_condition condition = {.size = sizeof condition, .variance = &variance};
    pipe_denoiser_info info;
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *x0 = pipe_batch_need(b, "x");

    if (pipe_check(x0, NULL) != PIPE_OK)
        return x0;
    if (pipe_training_times(&density, st->schedule, b, st->stratified, t, &err) != PIPE_OK)
        return pipe_poison(pipe_batch_engine(b), err.status, "%s", err.message);
    const pipe_level level = pipe_level_of(st->schedule, pipe_batch_engine(b), t, pipe_batch_size(b));
    pipe_tensor *eps = pipe_randn(pipe_batch_engine(b), *pipe_tensor_shape(x0), pipe_batch_key(b, "noise"));
    condition.labels = pipe_denoising_labels(model, b, st->label_dropout);
    pipe_tensor *got = pipe_denoise(model, pipe_diffuse(&level, x0, eps), &level, &condition);
    pipe_tensor *want = target(st, &level, x0, eps);
    if (!variance)
        return weighted(st, b, t, got, want);
    if (pipe_denoiser_describe(model, &info, &err) != PIPE_OK)
        return pipe_object_poison(model, err.status, "%s", err.message);
    return pipe_add(weighted(st, b, t, got, want),
                    pipe_scale(variance_bound(st, info.variance, b, t, pipe_sub(got, want), variance, &err),
                               st->variance_weight));
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_OBJECTIVE),
    .name = "objective.denoise",
    .version = "1.1.0",
    .licence = "MIT",
    .summary = "mean squared error of predicted noise, data or v",
    .citation = "arXiv:2006.11239",
    .example = "ddpm: {plugin: objective.denoise, schedule: cosine, predict: v}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .objective = {.declare = declare, .loss = loss},
};
