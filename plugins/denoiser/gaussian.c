/* The exact denoiser of a Gaussian (Wang and Vastola 2024, arXiv:2412.09726,
 * section 3): with data of mean mu and covariance U' diag(l) U,
 *
 *     E[x0 | x] = mu + U' diag(alpha l / (alpha^2 l + sigma^2)) U (x - alpha mu).
 *
 * Of statistics with one Gaussian per class, labels choose. */
#include <pipe/pipe.h>

typedef struct {
    pipe_schedule *schedule;
    pipe_dataset *statistics;
    int64_t rank;
    bool spread;
    pipe_shape sample;
    pipe_gaussians *g;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, statistics, PIPE_KIND_DATASET, "of step fit.gaussian"),
    PIPE_INPUT_DEFAULT(state, schedule, PIPE_KIND_SCHEDULE, "cosine", "of the noise that it removes"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_INT(state, rank, -1, -1, 46340, "axes",
             "used, those of the largest variances; more is closer to the data and slower; -1: all that "
             "there are"),
    PIPE_BOOL(state, spread, false,
              "give every direction that is left out the mean variance of them all, instead of none; with "
              "rank 0 the Gaussian is isotropic"),
    PIPE_PARAM_END,
};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;
    PIPE_CLEANUP(pipe_gaussian_set_free) pipe_gaussian_set set = {.size = sizeof set};

    PIPE_TRY(pipe_gaussian_set_read(st->statistics, st->rank, st->spread, false, &set, err));
    if (set.count > 1 && !set.label)
        return pipe_fail(err, PIPE_EINVAL,
                         "%s holds %lld Gaussians that no labels tell apart: they are a mixture "
                         "(denoiser.gaussian-mixture)",
                         pipe_object_name(st->statistics), (long long)set.count);
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

static pipe_tensor *share(const state *st, pipe_tensor *x, const pipe_condition *c)
{
    return pipe_gaussians_by_label(st->g, c ? c->labels : NULL, pipe_dim(x, 0));
}

static pipe_tensor *predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c)
{
    const state *st = self;

    (void)m;
    return pipe_gaussians_x0(st->g, x, l, share(st, x, c));
}

static pipe_tensor *log_density(void *self, pipe_tensor *x, const pipe_level *l, const pipe_condition *c)
{
    const state *st = self;
    const int first = 0;

    return pipe_sum(pipe_mul(share(st, x, c), pipe_gaussians_log_density(st->g, x, l)), &first, 1, false);
}

static pipe_tensor *flow(void *self, pipe_tensor *x, const pipe_schedule_point *from,
                         const pipe_schedule_point *to, const pipe_condition *c)
{
    const state *st = self;

    return pipe_gaussians_flow(st->g, x, from, to, share(st, x, c));
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "denoiser.gaussian",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "the exact denoiser of a Gaussian",
    .help = "Knows its density and its probability flow in closed form: sampler.teleport skips the first "
            "steps with it.",
    .citation = "arXiv:2412.09726",
    .example = "gauss: {plugin: denoiser.gaussian, statistics: statistics, rank: 128}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .create = create,
    .destroy = destroy,
    .denoiser = {.describe = describe, .predict = predict, .log_density = log_density, .flow = flow},
};
