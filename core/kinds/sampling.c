/* Sampling: the loop that all samplers share. */
#include "core/kinds/sampling.h"

#include <pipe/adaptive.h>

#include <float.h>
#include <math.h>
#include <string.h>

/* Draws of one step, the last one that of a mask: keys are (step, draw). */
enum { DRAWS_PER_STEP = PIPE_SAMPLING_MASK_DRAW + 1 };

static pipe_tensor *from_caller(pipe_sampling *s, size_t step, uint32_t draw)
{
    const pipe_sample_request *r = s->internal->request;
    pipe_tensor *z = r->noise(r->noise_arg, step, draw);
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

static pipe_tensor *supplied(pipe_sampling *s, size_t step, uint32_t draw)
{
    if (draw >= DRAWS_PER_STEP)
        return pipe_poison(s->engine, PIPE_EINVAL, "draw %u of a step; at most %d", draw, DRAWS_PER_STEP);
    if (s->internal->request->upward)
        return pipe_poison(
            s->engine, PIPE_EINVAL,
            "this sampler draws noise: an inversion needs a deterministic one (ddim with eta 0, "
            "euler without churn, ...)");
    return s->internal->request->noise ? from_caller(s, step, draw) : NULL;
}

pipe_tensor *pipei_sampling_supplied(pipe_sampling *s, uint32_t draw)
{
    return supplied(s, s->i, draw);
}

pipe_tensor *pipe_sampling_noise_of(pipe_sampling *s, size_t step, uint32_t draw)
{
    pipe_tensor *given = supplied(s, step, draw);
    pipe_key key = s->internal->noise;

    if (given)
        return given;
    key.step = (uint64_t)(step + 1) * DRAWS_PER_STEP + draw; /* step 0 is the start */
    return pipe_randn(s->engine, *pipe_tensor_shape(s->x), key);
}

pipe_tensor *pipe_sampling_noise(pipe_sampling *s, uint32_t draw)
{
    return pipe_sampling_noise_of(s, s->i, draw);
}

pipe_status pipei_sampling_poll(pipe_sampling *s, pipe_error *err)
{
    const pipe_sample_request *r = s->internal->request;

    if (r->progress && !r->progress(r->progress_arg, s->i, s->steps))
        return pipe_fail(err, PIPE_EINTERRUPTED, "stopped");
    return PIPE_OK;
}

/* ---- samplers within samplers ---- */
pipe_status pipe_sampler_begin(pipe_sampler *sampler, pipe_sampling *s, pipe_error *err)
{
    const pipe_sampler_api *api = &sampler->plugin->sampler;
    const pipe_status status = api->begin ? api->begin(sampler->state, s, err) : PIPE_OK;

    return status == PIPE_OK ? PIPE_OK : pipe_context_fail(err, status, "%s", sampler->name);
}

bool pipei_sampler_checks(pipe_sampler *sampler)
{
    const pipe_sampler_api *api = &sampler->plugin->sampler;

    return api->check || (api->inner && pipei_sampler_checks(api->inner(sampler->state)));
}

/* `info` is NULL where the denoiser is not known, s->t where the grid is not. */
static pipe_status check_sampler(pipe_sampler *sampler, const pipe_sampling *s, const char *denoiser,
                                 const pipe_denoiser_info *info, pipe_error *err)
{
    const pipe_sampler_api *api = &sampler->plugin->sampler;
    const bool known = s->t && info && info->schedule && info->predicts != PIPE_PREDICT_NONE;
    pipe_status status = api->check ? api->check(sampler->state, s, info, err) : PIPE_OK;

    if (status == PIPE_OK && known && !api->inner) {
        const bool skips = api->skips_pure_noise && api->skips_pure_noise(sampler->state) && !(s->alpha[0] > 0.0);
        status = pipei_sampling_check_levels(s, denoiser, info, skips ? 1 : 0, err);
    }
    if (status != PIPE_OK)
        return pipe_context_fail(err, status, "%s", sampler->name);
    if (!api->inner)
        return PIPE_OK;
    pipe_sampling within = *s; /* which may begin later */
    within.t = within.alpha = within.sigma = within.lambda = NULL;
    within.steps = 0;
    return check_sampler(api->inner(sampler->state), &within, denoiser, info, err);
}

pipe_status pipe_sampler_step(pipe_sampler *sampler, pipe_sampling *s, pipe_error *err)
{
    return sampler->plugin->sampler.step(sampler->state, s, err);
}

void pipe_sampler_end(pipe_sampler *sampler)
{
    if (sampler->plugin->sampler.end)
        sampler->plugin->sampler.end(sampler->state);
}

pipe_status pipe_sampling_skip(pipe_sampling *s, size_t k, pipe_error *err)
{
    if (k > s->steps)
        return pipe_fail(err, PIPE_EINVAL, "cannot skip %zu steps: the grid has %zu", k, s->steps);
    s->t += k;
    s->alpha += k;
    s->sigma += k;
    s->lambda += k;
    s->steps -= k;
    return PIPE_OK;
}

pipe_status pipe_sampling_ends(pipe_sampling *s, pipe_error *err)
{
    double(*end)[3] = s->internal->ends;
    const bool to_zero = !(s->sigma[s->steps] > 0.0);
    const size_t last = s->steps - (to_zero ? 1 : 0), point[] = {0, last, s->steps};

    if (s->internal->request->mask)
        return pipe_fail(err, PIPE_EINVAL,
                         "what a mask keeps is noised anew at grid points, but this sampler uses "
                         "only the ends of the grid");
    PIPE_TRY(pipe_sampling_check_forgets(s, "by a sampler that has each sample at a level of its own", err));
    if (last == 0)
        return pipe_fail(err, PIPE_EINVAL,
                         "between the ends of the grid there is nothing to integrate: its only "
                         "point above noise 0 is the first; take more steps");
    for (size_t k = 0; k < 3; k++) {
        end[0][k] = s->t[point[k]];
        end[1][k] = s->alpha[point[k]];
        end[2][k] = s->sigma[point[k]];
        end[3][k] = s->lambda[point[k]];
    }
    s->t = end[0];
    s->alpha = end[1];
    s->sigma = end[2];
    s->lambda = end[3];
    s->steps = to_zero ? 2 : 1;
    return PIPE_OK;
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

static void reverse(double *v, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        const double first = v[i];
        v[i] = v[n - 1 - i];
        v[n - 1 - i] = first;
    }
}

static void grid_reverse(grid *g, size_t points)
{
    reverse(g->t, points);
    reverse(g->alpha, points);
    reverse(g->sigma, points);
    reverse(g->lambda, points);
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

pipe_status pipei_sampling_check_early(const pipei_sampling_outline *o, pipe_error *err)
{
    PIPE_CLEANUP(grid_free) grid g = {0};
    const pipe_sample_request request = {.size = sizeof request, .sampler = o->sampler};
    struct pipei_sampling internal = {.request = &request, .remembers = o->remembers ? o->denoiser : NULL};
    pipe_sampling s = {.size = sizeof s, .schedule = o->schedule, .internal = &internal};
    size_t steps;

    if (o->schedule)
        PIPE_TRY(grid_make(pipei_sampler_inmost(o->sampler), o->schedule, &g, &steps, err));
    if (o->schedule && o->whole) {
        s.t = g.t;
        s.alpha = g.alpha;
        s.sigma = g.sigma;
        s.lambda = g.lambda;
        s.steps = steps;
    }
    PIPE_TRY(check_sampler(o->sampler, &s, o->denoiser, o->info, err));
    if (!s.t || !o->sampler->plugin->sampler.early_begin)
        return PIPE_OK;
    const pipe_status status = pipe_sampler_begin(o->sampler, &s, err);
    pipe_sampler_end(o->sampler);
    return status;
}

/* The part of the grid that is walked: all of it, or what `strength` leaves, or upwards without a clean end.
 */
static pipe_status choose_part(const pipe_sample_request *r, grid *g, pipe_sampling *s, pipe_error *err)
{
    const double strength = r->strength > 0.0 ? r->strength : 1.0;
    size_t first = 0;

    if (r->upward) {
        if (!(g->sigma[s->steps] > 0.0)) /* there eps is not determined: begin one point above */
            s->steps--;
        grid_reverse(g, s->steps + 1);
    }
    const size_t taken = (size_t)(strength * (double)s->steps + 1e-9);
    if (taken < 1)
        return pipe_fail(err, PIPE_EINVAL, "%s: strength %g of %zu steps leaves none: raise it or `steps`",
                         r->sampler->name, strength, s->steps);
    if (!r->upward)
        first = s->steps - taken;
    s->steps = taken;
    s->t = g->t + first;
    s->alpha = g->alpha + first;
    s->sigma = g->sigma + first;
    s->lambda = g->lambda + first;
    return PIPE_OK;
}

static pipe_status check_rows(const pipe_sample_request *r, const pipe_tensor *x, const char *what,
                              pipe_error *err)
{
    PIPE_TRY(pipe_check(x, err));
    if (pipe_dim(x, 0) != r->n)
        return pipe_fail(err, PIPE_ESHAPE, "%s: %lld samples were asked for, but the %s holds %lld",
                         r->sampler->name, (long long)r->n, what, (long long)pipe_dim(x, 0));
    return PIPE_OK;
}

static pipe_status check_request(const pipe_sample_request *r, const pipe_sampler *options, pipe_error *err)
{
    if (r->n < 1)
        return pipe_fail(err, PIPE_EINVAL, "%s: %lld samples were asked for; at least 1", r->sampler->name,
                         (long long)r->n);
    if (!(r->padding >= 0 && r->padding < r->n))
        return pipe_fail(err, PIPE_EINVAL, "%s: %lld of %lld samples only fill the batch; at least 1 must not",
                         r->sampler->name, (long long)r->padding, (long long)r->n);
    if ((r->upward || r->mask) && !r->image)
        return pipe_fail(err, PIPE_EINVAL, "%s: %s needs an image", r->sampler->name,
                         r->upward ? "inversion" : "a mask");
    if (r->image && r->start && !r->mask)
        return pipe_fail(err, PIPE_EINVAL, "%s: an image and a start exclude each other, but under a mask",
                         r->sampler->name);
    if (r->upward && (r->mask || r->sampler->plugin->sampler.stochastic))
        return pipe_fail(err, PIPE_EINVAL,
                         r->mask ? "%s: an inversion takes no mask"
                                 : "%s: an inversion needs a deterministic sampler, not one that draws noise",
                         r->sampler->name);
    if (r->upward && r->sampler->plugin->sampler.inner)
        return pipe_fail(err, PIPE_EINVAL, "%s: an inversion takes %s itself, not what wraps it",
                         r->sampler->name, options->name);
    if (!(r->strength >= 0.0 && r->strength <= 1.0))
        return pipe_fail(err, PIPE_EINVAL, "%s: strength %g is not within 0 to 1", r->sampler->name,
                         r->strength);
    return PIPE_OK;
}

/* mask (alpha image + sigma z) + (1 - mask) x: the known part at the level of point k. */
static pipe_tensor *with_known(const pipe_sample_request *r, const pipe_sampling *s, size_t k, pipe_tensor *z,
                               pipe_tensor *x)
{
    pipe_tensor *known = pipe_axpby(s->alpha[k], r->image, s->sigma[k], z);
    return pipe_add(x, pipe_mul(r->mask, pipe_sub(known, x)));
}

pipe_tensor *pipe_sampling_known(pipe_sampling *s, pipe_tensor *x, size_t point, uint32_t draw)
{
    const pipe_sample_request *r = s->internal->request;

    return r->mask ? with_known(r, s, point, pipe_sampling_noise(s, draw), x) : x;
}

static pipe_status start(const pipe_sample_request *r, const pipe_denoiser_info *info, pipe_sampling *s,
                         pipe_error *err)
{
    pipe_shape shape = {.rank = info->sample.rank + 1};
    pipe_tensor *z;

    if (r->start) {
        s->x = r->start;
        return check_rows(r, s->x, "start", err);
    }
    if (info->sample.rank == 0)
        return pipe_fail(err, PIPE_EINVAL, "%s: the shape of a sample is not known: train the model first",
                         r->denoiser->name);
    if (r->image)
        PIPE_TRY(check_rows(r, r->image, "image", err));
    if (r->upward) { /* the first point is taken for clean: its noise is not known */
        s->x = pipe_scale(r->image, s->alpha[0]);
        return pipe_check(s->x, err);
    }
    shape.dim[0] = r->n;
    memcpy(shape.dim + 1, info->sample.dim, info->sample.rank * sizeof shape.dim[0]);
    z = pipe_randn(s->engine, shape, s->internal->noise);
    s->x = pipe_scale(z, s->sigma[0]);
    if (r->image && (!r->mask || (r->strength > 0.0 && r->strength < 1.0)))
        s->x = pipe_axpby(s->alpha[0], r->image, 1.0, s->x);
    if (r->mask)
        s->x = with_known(r, s, 0, z, s->x);
    return pipe_check(s->x, err);
}

/* ---- NaN and infinity: noted on the device, asked for once at the end ---- */
static void note_bad(pipe_sampling *s)
{
    struct pipei_sampling *in = s->internal;
    pipe_tensor *rows = pipe_reshape(s->x, PIPE_SHAPE(s->n, -1));
    pipe_tensor *finite = pipe_min(pipe_less_equal(pipe_abs(rows), pipe_constant(s->engine, (double)FLT_MAX)),
                                   (const int[]){1}, 1, false);
    pipe_tensor *now = pipe_affine(finite, -(double)(s->i + 1), (double)(s->i + 1));

    pipe_keep(&in->first_bad, in->first_bad ? pipe_where(in->first_bad, in->first_bad, now) : now);
}

static pipe_status check_finite(const pipe_sample_request *r, pipe_sampling *s, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) float *step = pipe_alloc_array((size_t)s->n, sizeof *step);
    int64_t worst = -1;

    if (!s->internal->first_bad) /* samples of no elements */
        return PIPE_OK;
    PIPE_TRY(pipe_read_f32(s->internal->first_bad, step, (size_t)s->n, err));
    for (int64_t k = 0; k < s->n - r->padding; k++)
        if (step[k] > 0.0f && (worst < 0 || step[k] < step[worst]))
            worst = k;
    if (worst < 0)
        return PIPE_OK;
    return pipe_fail(err, PIPE_EDOMAIN,
                     "%s: step %d of %zu: sample %llu is not finite (NaN or infinite): the model `%s` or the "
                     "sampler diverged; more steps or a lower guidance scale may help",
                     r->sampler->name, (int)step[worst], s->steps,
                     (unsigned long long)(r->first + (uint64_t)worst), r->denoiser->name);
}

/* A sampler may begin at a later point: the known part is brought there with the noise of the start. */
static pipe_status begin(const pipe_sample_request *r, pipe_sampling *s, pipe_tensor **x, pipe_error *err)
{
    const double *first = s->t;

    pipe_keep(x, s->x);
    PIPE_TRY(pipe_sampler_begin(r->sampler, s, err));
    if (r->mask && s->t != first)
        s->x = with_known(r, s, 0, pipe_randn(s->engine, *pipe_tensor_shape(s->x), s->internal->noise), s->x);
    PIPE_TRY(pipe_check(s->x, err));
    pipe_keep(x, s->x);
    return PIPE_OK;
}

static pipe_status loop(const pipe_sample_request *r, pipe_sampling *s, pipe_tensor **x, pipe_error *err)
{
    PIPE_TRY(begin(r, s, x, err));
    for (s->i = 0; s->i < s->steps; s->i++) {
        pipe_status status = pipe_sampler_step(r->sampler, s, err);
        if (status == PIPE_OK)
            s->x = pipe_sampling_known(s, s->x, s->i + 1, PIPE_SAMPLING_MASK_DRAW);
        if (status == PIPE_OK)
            status = pipe_check(s->x, err);
        if (status == PIPE_OK) {
            if (pipe_count(s->x) > 0)
                note_bad(s);
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
    if (s->internal->common->denoise_last && s->sigma[s->steps] > 0.0) {
        s->x = pipe_predict_at(s, s->x, s->t[s->steps], PIPE_PREDICT_X0);
        PIPE_TRY(pipe_check(s->x, err));
        pipe_keep(x, s->x);
        PIPE_TRY(pipe_eval(s->engine, err));
    }
    return check_finite(r, s, err);
}

pipe_status pipe_sample(const pipe_sample_request *r, pipe_tensor **out, pipe_error *err)
{
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
    pipe_sampler *options = pipei_sampler_inmost(r->sampler);
    internal.common = pipei_object_common(options);
    internal.remembers = pipei_denoiser_remembers(r->denoiser) ? r->denoiser->name : NULL;
    PIPE_TRY(check_request(r, options, err));
    internal.noise.sample = r->first;
    internal.noise.step = 0;
    s.engine = pipe_context_engine(r->denoiser->ctx);
    s.schedule = r->schedule ? r->schedule : internal.info.schedule;
    internal.own_schedule = s.schedule == internal.info.schedule;
    PIPE_TRY(grid_make(options, s.schedule, &g, &s.steps, err));
    PIPE_TRY(choose_part(r, &g, &s, err));
    PIPE_TRY(check_sampler(r->sampler, &s, r->denoiser->name, &internal.info, err));
    PIPE_TRY(start(r, &internal.info, &s, err));
    pipe_denoiser_begin(r->denoiser);
    status = loop(r, &s, &x, err);
    pipe_sampler_end(r->sampler);
    if (r->calls)
        *r->calls += internal.calls;
    if (status == PIPE_OK)
        pipe_keep(out, x);
    pipe_keep(&x, NULL);
    pipe_keep(&internal.first_bad, NULL);
    return status;
}
