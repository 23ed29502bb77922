/* Adaptive projected guidance: Sadat et al. 2024, arXiv:2410.02416.  With the
 * conditional and unconditional predictions c, u:
 *
 *     d <- (c - u) + momentum d_last,   d <- d min(1, threshold / |d|),
 *     d = d_par + d_orth along and across c,
 *     result  base + factor (d_orth + eta d_par),
 *
 * base, factor: c, w - 1 in the paper; diffusers' default is u, w (`form: released`),
 * which is the same only for eta 1 without threshold and momentum.  The first
 * `cfg_steps` noise levels may be left to plain guidance of scale `cfg_scale`
 * (diffusers' AdaptiveProjectedMixGuidance); the momentum is gathered there too. */
#include <pipe/pipe.h>

enum { PAPER, RELEASED };

static const char *const forms[] = {"paper", "released", NULL};

typedef struct {
    pipe_cfg_state cfg; /* first */
    double eta, threshold, momentum, cfg_scale;
    int64_t form, cfg_steps;
    pipe_level_count count; /* of this trajectory */
    pipe_tensor *average; /* of the differences; NULL at the start */
} state;

static const pipe_input inputs[] = {PIPE_CFG_STATE_INPUT, PIPE_INPUT_END};

static const pipe_param params[] = {
    PIPE_CFG_STATE_SCALE,
    PIPE_FLOAT(state, eta, 0.0, -10.0, 10.0, NULL,
               "share of the part along the conditional prediction, which oversaturates; 1: all of it"),
    PIPE_FLOAT(state, threshold, 15.0, 0.0, 1e9, NULL,
               "largest norm of the difference of a sample, larger ones are scaled down to it; lower guides "
               "less; 0: no limit"),
    PIPE_FLOAT(state, momentum, -0.5, -1.0, 1.0, NULL,
               "by which the last difference is added to this one; below 0 it pushes away from it; 0: none"),
    PIPE_CHOICE(state, form, "paper", forms,
                "paper: the conditional prediction and (scale - 1) times the update; released: the "
                "unconditional one and scale times it, as diffusers does by default"),
    PIPE_INT(state, cfg_steps, 0, 0, 100000, "noise levels", "at the start that plain guidance is left to"),
    PIPE_FLOAT(state, cfg_scale, 2.0, -100.0, 100.0, NULL, "guidance scale there; 1 = none"),
    PIPE_CFG_STATE_SPACE("x0"),
    PIPE_PARAM_END};

static void begin(void *self)
{
    state *st = self;

    pipe_level_count_begin(&st->count);
    pipe_keep(&st->average, NULL);
}

static void destroy(void *self)
{
    pipe_keep(&((state *)self)->average, NULL);
}

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    (void)ctx;
    (void)err;
    begin(self);
    return PIPE_OK;
}

/* The difference with what momentum adds to it. */
static pipe_tensor *remember(state *st, pipe_tensor *d)
{
    if (st->momentum == 0.0)
        return d;
    if (st->average && pipe_shape_equal(pipe_tensor_shape(st->average), pipe_tensor_shape(d)))
        d = pipe_axpby(1.0, d, st->momentum, st->average);
    pipe_keep(&st->average, d);
    return d;
}

static pipe_tensor *limit(const state *st, pipe_tensor *d)
{
    pipe_engine *e = pipe_tensor_engine(d);

    if (st->threshold == 0.0)
        return d;
    pipe_tensor *norm = pipe_sqrt(pipe_sample_dot(d, d)), *most = pipe_constant(e, st->threshold);
    return pipe_mul(d, pipe_div(most, pipe_maximum(norm, most)));
}

/* d across c, and eta of what is along it. */
static pipe_tensor *project(const state *st, pipe_tensor *d, pipe_tensor *c)
{
    if (st->eta == 1.0)
        return d;
    pipe_tensor *square = pipe_maximum(pipe_sample_dot(c, c), pipe_constant(pipe_tensor_engine(c), 1e-24));
    pipe_tensor *along = pipe_mul(pipe_div(pipe_sample_dot(d, c), square), c);
    return pipe_axpby(1.0, d, st->eta - 1.0, along);
}

static pipe_tensor *predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c)
{
    state *st = self;
    pipe_tensor *with = pipe_cfg_state_predict(&st->cfg, x, l, c);

    (void)m;
    if (!pipe_condition_given(c))
        return with;
    const bool plain = pipe_level_count_at(&st->count, l) < st->cfg_steps;
    const double scale = plain ? st->cfg_scale : st->cfg.scale;
    if (scale == 1.0 && st->momentum == 0.0)
        return with;
    pipe_tensor *without = pipe_cfg_state_predict(&st->cfg, x, l, NULL);
    pipe_tensor *d = remember(st, pipe_sub(with, without));
    if (scale == 1.0)
        return with;
    if (plain || (st->eta == 1.0 && st->threshold == 0.0 && st->momentum == 0.0))
        return pipe_axpby(scale, with, 1.0 - scale, without);
    d = project(st, limit(st, d), with);
    return st->form == PAPER ? pipe_axpby(1.0, with, scale - 1.0, d) : pipe_axpby(1.0, without, scale, d);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "guidance.apg",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "adaptive projected guidance",
    .citation = "arXiv:2410.02416",
    .example = "guided: {plugin: guidance.apg, denoiser: model, scale: 8.0}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .create = create,
    .destroy = destroy,
    .denoiser = {.describe = pipe_cfg_state_describe, .predict = predict, .begin = begin},
};
