/* What update rules ask of the denoiser while sampling: at one noise level, at several, at one per sample. */
#include "core/kinds/sampling.h"

#include <pipe/adaptive.h>

#include <float.h>
#include <math.h>

/* ---- bounds of the predicted data ---- */

/* Saharia et al. 2022, arXiv:2205.11487, section 2.3: s is a quantile of |x0| per sample (interpolated as
 * NumPy's), at least 1; x0 is clipped to [-s, s] and divided by s. */
static pipe_tensor *threshold(const pipei_sampler_common *c, pipe_tensor *x0)
{
    const int64_t n = pipe_dim(x0, 0), d = pipe_count(x0) / n;
    const double place = (1.0 - c->threshold) * (double)(d - 1); /* from the largest on */
    const int64_t k = (int64_t)floor(place);
    pipe_tensor *rows = pipe_reshape(x0, PIPE_SHAPE(n, d));
    pipe_tensor *top = pipe_top_k(pipe_abs(rows), k + 2 < d ? k + 2 : d, NULL);
    pipe_tensor *s = pipe_slice(top, 1, k, 1, 1);

    if (k + 1 < d)
        s = pipe_axpby(1.0 - (place - (double)k), s, place - (double)k, pipe_slice(top, 1, k + 1, 1, 1));
    s = pipe_clamp(s, 1.0, c->threshold_max > 0.0 ? fmax(1.0, c->threshold_max) : (double)FLT_MAX);
    rows = pipe_div(pipe_maximum(pipe_minimum(rows, s), pipe_neg(s)), s);
    return pipe_reshape(rows, *pipe_tensor_shape(x0));
}

static bool bounded(const pipei_sampler_common *c)
{
    return c->clip > 0.0 || c->threshold > 0.0;
}

static pipe_tensor *bound(const pipei_sampler_common *c, pipe_tensor *x0)
{
    return c->threshold > 0.0 ? threshold(c, x0) : pipe_clamp(x0, -c->clip, c->clip);
}

/* ---- what an update rule asks for ---- */
/* What the denoiser is asked about x: a network that knows another schedule is given the level of equal
 * log-SNR, with x scaled to its alpha.  x0 does not depend on the schedule. */
typedef struct question {
    pipe_tensor *x, *asked; /* as the sampler and as the denoiser has it */
    pipe_level here, there; /* under the sampler's and the denoiser's schedule */
} question;

/* Where the denoiser's own schedule has the log-SNR of the sampler's at p. */
static pipe_status time_there(const char *denoiser, pipe_schedule *own, const pipe_schedule_point *p, double *t,
                              pipe_error *err)
{
    if (!(p->alpha > 0.0))
        return pipe_fail(err, PIPE_EDOMAIN,
                         "at t = %g alpha is 0: a model of another schedule cannot be asked there; start lower", p->t);
    return pipei_denoiser_time_of_ratio(denoiser, own, p->sigma / p->alpha, t, err);
}

static question question_of(pipe_sampling *s, pipe_tensor *x, double t)
{
    struct pipei_sampling *in = s->internal;
    question q = {.x = x, .asked = x, .here = pipe_level_uniform(s->schedule, s->engine, s->n, t)};
    const pipe_schedule_point *p = &q.here.point;
    pipe_error err = PIPE_ERROR_INIT;

    q.there = q.here;
    if (in->own_schedule)
        return q;
    if (time_there(s->denoiser->name, in->info.schedule, p, &t, &err) != PIPE_OK) {
        q.asked = pipe_poison(s->engine, err.status, "%s", err.message);
    } else {
        q.there = pipe_level_uniform(in->info.schedule, s->engine, s->n, t);
        q.asked = pipe_scale(x, q.there.point.alpha / p->alpha);
    }
    return q;
}

/* All samplers ask for the clean data, or what follows from them, at every point that they step from. */
pipe_status pipei_sampling_check_levels(const pipe_sampling *s, const char *denoiser, const pipe_denoiser_info *info,
                                        size_t first, pipe_error *err)
{
    for (size_t i = first; i < s->steps; i++) {
        pipe_schedule_point p = pipe_schedule_at(s->schedule, s->t[i]);
        double t, x, output;

        if (s->schedule != info->schedule) {
            PIPE_TRY(time_there(denoiser, info->schedule, &p, &t, err));
            p = pipe_schedule_at(info->schedule, t);
        }
        pipe_conversion_at(info->predicts, PIPE_PREDICT_X0, &p, info->sigma_data, &x, &output);
        if (!isfinite(x) || !isfinite(output))
            return pipe_fail(err, PIPE_EDOMAIN,
                             "step %zu of %zu: %s predicts %s, from which x0 is not determined at t = %g (alpha = "
                             "%g, sigma = %g); a grid that starts lower, or a model of v, x0 or flow",
                             i + 1, s->steps, denoiser, pipe_prediction_name(info->predicts), p.t, p.alpha, p.sigma);
    }
    return PIPE_OK;
}

static pipe_tensor *answered(pipe_sampling *s, const question *q, pipe_tensor *output, pipe_prediction want)
{
    const struct pipei_sampling *in = s->internal;
    const pipe_denoiser_info *d = &in->info;
    pipe_tensor *x0;

    if (in->own_schedule && !bounded(in->common))
        return pipe_convert_prediction(output, d->predicts, want, q->x, &q->here, d->sigma_data);
    x0 = pipe_convert_prediction(output, d->predicts, PIPE_PREDICT_X0, q->asked, &q->there, d->sigma_data);
    if (bounded(in->common)) /* what follows from x0 is bounded with it: eps, v, ... */
        x0 = bound(in->common, x0);
    return pipe_convert_prediction(x0, PIPE_PREDICT_X0, want, q->x, &q->here, d->sigma_data);
}

pipe_tensor *pipe_predict_at(pipe_sampling *s, pipe_tensor *x, double t, pipe_prediction want)
{
    const question q = question_of(s, x, t);

    if (s->answer)
        return pipe_convert_prediction(s->answer(s->answer_arg, s, x, t), PIPE_PREDICT_V, want, x, &q.here,
                                       s->internal->info.sigma_data);
    s->internal->calls++;
    return answered(s, &q, pipe_denoise(s->denoiser, q.asked, &q.there, s->condition), want);
}

pipe_tensor *pipe_predict_x0_and_log_variance(pipe_sampling *s, pipe_tensor *x, const pipe_posterior *step,
                                              pipe_tensor **log_variance)
{
    const pipe_condition *before = s->condition;
    pipe_condition condition = before ? *before : (pipe_condition){.size = sizeof condition};
    pipe_tensor *said = NULL;

    if (s->answer)
        return *log_variance = pipe_poison(s->engine, PIPE_EINVAL,
                                           "a variance that is learned cannot be had by a sampler inside one that "
                                           "takes many steps at once");
    condition.variance = &said;
    s->condition = &condition;
    pipe_tensor *x0 = pipe_predict_x0(s, x);
    s->condition = before;
    if (pipe_check(x0, NULL) != PIPE_OK) /* perhaps before a network was asked */
        return *log_variance = x0;
    if (!said)
        return *log_variance = pipe_poison(s->engine, PIPE_EINVAL,
                                           "%s: no network was asked that says anything of the variance",
                                           s->denoiser->name);
    *log_variance = s->internal->info.variance == PIPE_VARIANCE_RANGE
                        ? pipe_affine(said, step->log_half, step->log_middle)
                        : said;
    return x0;
}

/* ---- several noise levels in one call ---- */
pipe_status pipe_sampling_check_forgets(const pipe_sampling *s, const char *how, pipe_error *err)
{
    if (!s->internal->remembers)
        return PIPE_OK;
    return pipe_fail(err, PIPE_EINVAL,
                     "%s remembers earlier steps (guidance with momentum, or that counts steps): it cannot be asked %s",
                     s->internal->remembers, how);
}

static pipe_tensor *repeated(pipe_tensor *a, size_t times)
{
    PIPE_CLEANUP(pipe_free_ptr) pipe_tensor **parts = pipe_alloc_array(times, sizeof(pipe_tensor *));

    for (size_t k = 0; k < times; k++)
        parts[k] = a;
    return a ? pipe_concat(parts, times, 0) : NULL;
}

pipe_status pipe_predict_points(pipe_sampling *s, pipe_tensor *const *x, const double *t, size_t points,
                                pipe_prediction want, pipe_tensor **out, pipe_error *err)
{
    struct pipei_sampling *in = s->internal;
    const int64_t n = s->n, rows = n * (int64_t)points;
    PIPE_CLEANUP(pipe_free_ptr) question *q = pipe_alloc_array(points, sizeof *q);
    PIPE_CLEANUP(pipe_free_ptr) pipe_tensor **asked = pipe_alloc_array(points, sizeof(pipe_tensor *));
    PIPE_CLEANUP(pipe_free_ptr) double *times = pipe_alloc_array((size_t)rows, sizeof *times);
    pipe_condition condition = s->condition ? *s->condition : (pipe_condition){.size = sizeof condition};

    PIPE_TRY(pipe_sampling_check_forgets(s, "about several at once", err));
    for (size_t k = 0; k < points; k++) {
        q[k] = question_of(s, x[k], t[k]);
        asked[k] = q[k].asked;
        for (int64_t r = 0; r < n; r++)
            times[(int64_t)k * n + r] = q[k].there.point.t;
    }
    condition.labels = repeated(condition.labels, points);
    condition.embedding = repeated(condition.embedding, points);
    condition.mask = repeated(condition.mask, points);
    const pipe_level level = pipe_level_of(in->info.schedule, s->engine, times, rows);
    pipe_tensor *output = pipe_denoise(s->denoiser, pipe_concat(asked, points, 0), &level, &condition);
    PIPE_TRY(pipe_check(output, err));
    for (size_t k = 0; k < points; k++) {
        out[k] = answered(s, &q[k], pipe_slice(output, 0, (int64_t)k * n, n, 1), want);
        PIPE_TRY(pipe_check(out[k], err));
    }
    in->calls++;
    return PIPE_OK;
}

/* ---- a noise level per sample ---- */
/* As question_of(). */
static question question_of_rows(pipe_sampling *s, pipe_tensor *x, const double *t)
{
    struct pipei_sampling *in = s->internal;
    const size_t n = (size_t)s->n;
    question q = {.x = x, .asked = x, .here = pipe_level_of(s->schedule, s->engine, t, s->n)};
    PIPE_CLEANUP(pipe_free_ptr) double *there = pipe_alloc_array(n, sizeof *there);
    pipe_error err = PIPE_ERROR_INIT;
    pipe_status status = PIPE_OK;

    q.there = q.here;
    if (in->own_schedule)
        return q;
    for (size_t k = 0; k < n && status == PIPE_OK; k++) {
        const pipe_schedule_point p = pipe_schedule_at(s->schedule, t[k]);
        status = time_there(s->denoiser->name, in->info.schedule, &p, &there[k], &err);
    }
    if (status != PIPE_OK) {
        q.asked = pipe_poison(s->engine, status, "%s", err.message);
        return q;
    }
    q.there = pipe_level_of(in->info.schedule, s->engine, there, s->n);
    q.asked = pipe_mul(x, pipe_per_sample(pipe_div(q.there.alpha, q.here.alpha), x));
    return q;
}

pipe_tensor *pipe_predict_rows(pipe_sampling *s, pipe_tensor *x, const double *t, pipe_prediction want)
{
    if (s->answer)
        return pipe_poison(s->engine, PIPE_EINVAL,
                           "a sampler with steps of its own cannot be inside one that takes many steps at once");
    const question q = question_of_rows(s, x, t);
    s->internal->calls++;
    return answered(s, &q, pipe_denoise(s->denoiser, q.asked, &q.there, s->condition), want);
}

pipe_tensor *pipe_predict_x0(pipe_sampling *s, pipe_tensor *x)
{
    return pipe_predict_at(s, x, s->t[s->i], PIPE_PREDICT_X0);
}

pipe_tensor *pipe_predict_eps(pipe_sampling *s, pipe_tensor *x)
{
    return pipe_predict_at(s, x, s->t[s->i], PIPE_PREDICT_EPS);
}
