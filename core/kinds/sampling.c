/* Sampling: the loop that all samplers share. */
#include "core/kinds/kinds.h"

#include <math.h>
#include <string.h>

/* Draws of one step: keys are (step, draw); a step has at most this many. */
enum { DRAWS_PER_STEP = 64 };

struct pipei_sampling {
    const pipe_sample_request *request;
    pipe_key noise;
    bool own_schedule; /* the denoiser's own: no translation of levels */
    pipe_denoiser_info info;
};

/* ---- what an update rule asks for ---- */
pipe_tensor *pipe_predict_at(pipe_sampling *s, pipe_tensor *x, double t, pipe_prediction want)
{
    const pipe_level here = pipe_level_uniform(s->schedule, s->engine, s->n, t);
    const pipe_denoiser_info *info = &s->internal->info;
    pipe_tensor *x0;

    if (s->internal->own_schedule)
        return pipe_predict(s->denoiser, x, &here, s->condition, want);
    /* The network knows another schedule: give it the level of equal log-SNR, with x scaled to its alpha.
     * x0 does not depend on the schedule. */
    const double theirs = pipe_schedule_time_of(info->schedule,
                                                log(here.point.alpha) - log(here.point.sigma));
    const pipe_level there = pipe_level_uniform(info->schedule, s->engine, s->n, theirs);
    if (!(here.point.alpha > 0.0))
        return pipe_poison(
            s->engine, PIPE_EDOMAIN,
            "at t = %g alpha is 0: a model of another schedule cannot be asked there; start lower", t);
    x0 = pipe_predict(s->denoiser, pipe_scale(x, there.point.alpha / here.point.alpha), &there, s->condition,
                      PIPE_PREDICT_X0);
    return pipe_convert_prediction(x0, PIPE_PREDICT_X0, want, x, &here, info->sigma_data);
}

pipe_tensor *pipe_predict_x0(pipe_sampling *s, pipe_tensor *x)
{
    return pipe_predict_at(s, x, s->t[s->i], PIPE_PREDICT_X0);
}

pipe_tensor *pipe_predict_eps(pipe_sampling *s, pipe_tensor *x)
{
    return pipe_predict_at(s, x, s->t[s->i], PIPE_PREDICT_EPS);
}

static pipe_tensor *from_caller(pipe_sampling *s, uint32_t draw)
{
    const pipe_sample_request *r = s->internal->request;
    pipe_tensor *z = r->noise(r->noise_arg, s->i, draw);
    char got[PIPE_SHAPE_TEXT], want[PIPE_SHAPE_TEXT];

    if (pipe_check(z, NULL) == PIPE_OK && !pipe_shape_equal(pipe_tensor_shape(z), pipe_tensor_shape(s->x)))
        return pipe_poison(s->engine, PIPE_ESHAPE, "noise of shape %s was supplied for samples of shape %s",
                           pipe_shape_text(pipe_tensor_shape(z), got, sizeof got),
                           pipe_shape_text(pipe_tensor_shape(s->x), want, sizeof want));
    return z;
}

pipe_key pipei_sampling_key(const pipe_sampling *s)
{
    return s->internal->noise;
}

pipe_tensor *pipei_sampling_supplied(pipe_sampling *s, uint32_t draw)
{
    if (draw >= DRAWS_PER_STEP)
        return pipe_poison(s->engine, PIPE_EINVAL, "draw %u of a step; at most %d", draw, DRAWS_PER_STEP);
    return s->internal->request->noise ? from_caller(s, draw) : NULL;
}

pipe_tensor *pipe_sampling_noise(pipe_sampling *s, uint32_t draw)
{
    pipe_tensor *supplied = pipei_sampling_supplied(s, draw);
    pipe_key key = s->internal->noise;

    if (supplied)
        return supplied;
    key.step = (uint64_t)(s->i + 1) * DRAWS_PER_STEP + draw; /* step 0 is the start */
    return pipe_randn(s->engine, *pipe_tensor_shape(s->x), key);
}

/* ---- the loop ---- */
typedef struct grid {
    double *t, *alpha, *sigma, *lambda;
} grid;

static void grid_free(grid *g)
{
    pipe_free(g->t);
    pipe_free(g->alpha);
    pipe_free(g->sigma);
    pipe_free(g->lambda);
}

static pipe_status grid_make(pipe_sampler *sampler, pipe_schedule *schedule, grid *g, size_t *steps,
                             pipe_error *err)
{
    PIPE_TRY(pipe_sampler_grid(sampler, schedule, &g->t, steps, err));
    g->alpha = pipe_alloc_array(*steps + 1, sizeof *g->alpha);
    g->sigma = pipe_alloc_array(*steps + 1, sizeof *g->sigma);
    g->lambda = pipe_alloc_array(*steps + 1, sizeof *g->lambda);
    for (size_t i = 0; i <= *steps; i++) {
        const pipe_schedule_point p = pipe_schedule_at(schedule, g->t[i]);
        g->alpha[i] = p.alpha;
        g->sigma[i] = p.sigma;
        g->lambda[i] = log(p.alpha) - log(p.sigma);
    }
    return PIPE_OK;
}

static pipe_status start(const pipe_sample_request *r, const pipe_denoiser_info *info, pipe_sampling *s,
                         pipe_error *err)
{
    pipe_shape shape = {.rank = info->sample.rank + 1};

    if (r->start) {
        s->x = r->start;
        if (pipe_dim(s->x, 0) != r->n)
            return pipe_fail(err, PIPE_ESHAPE, "%s: %lld samples were asked for, but the start holds %lld",
                             r->sampler->name, (long long)r->n, (long long)pipe_dim(s->x, 0));
        return pipe_check(s->x, err);
    }
    if (info->sample.rank == 0)
        return pipe_fail(err, PIPE_EINVAL, "%s: the shape of a sample is not known: train the model first",
                         r->denoiser->name);
    shape.dim[0] = r->n;
    memcpy(shape.dim + 1, info->sample.dim, info->sample.rank * sizeof shape.dim[0]);
    s->x = pipe_scale(pipe_randn(s->engine, shape, s->internal->noise), s->sigma[0]);
    return pipe_check(s->x, err);
}

static pipe_status loop(const pipe_sample_request *r, pipe_sampling *s, pipe_tensor **x, pipe_error *err)
{
    const pipe_plugin *p = r->sampler->plugin;

    pipe_keep(x, s->x);
    if (p->sampler.begin)
        PIPE_TRY(p->sampler.begin(r->sampler->state, s, err));
    for (s->i = 0; s->i < s->steps; s->i++) {
        pipe_status status = p->sampler.step(r->sampler->state, s, err);
        if (status == PIPE_OK)
            status = pipe_check(s->x, err);
        if (status == PIPE_OK) {
            pipe_keep(x, s->x);
            status = pipe_eval(s->engine, err);
        }
        if (status == PIPE_OK && r->observe)
            status = r->observe(r->observe_arg, s, err);
        if (status != PIPE_OK)
            return pipe_context_fail(err, status, "%s: step %zu of %zu", r->sampler->name, s->i + 1,
                                     s->steps);
        if (r->progress && !r->progress(r->progress_arg, s->i + 1, s->steps))
            return pipe_fail(err, PIPE_EINTERRUPTED, "stopped at step %zu of %zu", s->i + 1, s->steps);
    }
    return PIPE_OK;
}

pipe_status pipe_sample(const pipe_sample_request *r, pipe_tensor **out, pipe_error *err)
{
    const pipe_plugin *p = r->sampler->plugin;
    PIPE_CLEANUP(grid_free) grid g = {0};
    struct pipei_sampling internal = {.request = r, .noise = r->key};
    pipe_tensor *x = NULL;
    pipe_sampling s = {.size = sizeof s,
                       .n = r->n,
                       .denoiser = r->denoiser,
                       .condition = r->condition,
                       .internal = &internal};
    pipe_status status;

    PIPE_TRY(pipe_denoiser_describe(r->denoiser, &internal.info, err));
    if (internal.info.predicts == PIPE_PREDICT_NONE || !internal.info.schedule)
        return pipe_fail(err, PIPE_EINVAL,
                         "%s: it is not known what this denoiser predicts: train it first (step `fit`)",
                         r->denoiser->name);
    if (r->n < 1)
        return pipe_fail(err, PIPE_EINVAL, "%s: %lld samples were asked for; at least 1", r->sampler->name,
                         (long long)r->n);
    internal.noise.sample = r->first;
    internal.noise.step = 0;
    s.engine = pipe_context_engine(r->denoiser->ctx);
    s.schedule = r->schedule ? r->schedule : internal.info.schedule;
    internal.own_schedule = s.schedule == internal.info.schedule;
    PIPE_TRY(grid_make(r->sampler, s.schedule, &g, &s.steps, err));
    s.t = g.t;
    s.alpha = g.alpha;
    s.sigma = g.sigma;
    s.lambda = g.lambda;
    PIPE_TRY(start(r, &internal.info, &s, err));
    status = loop(r, &s, &x, err);
    if (p->sampler.end)
        p->sampler.end(r->sampler->state);
    if (status == PIPE_OK)
        pipe_keep(out, x);
    pipe_keep(&x, NULL);
    return status;
}
