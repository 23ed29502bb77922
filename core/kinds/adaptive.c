/* Steps of adaptive length: the loop over attempts, per sample. */
#include <pipe/adaptive.h>

#include "core/kinds/kinds.h"

#include <math.h>
#include <string.h>

/* One sample under way. */
typedef struct track {
    double at, h;
    double inverse[2]; /* 1 / error of the last two accepted steps; 0: there are none yet */
} track;

typedef struct run {
    pipe_adaptive *a;
    pipe_sampling *s;
    size_t n;
    double start, end;
    track *track;
    double *from, *to;
    float *error, *accepted;
} run;

pipe_status pipe_adaptive_begin(pipe_adaptive *a, pipe_sampling *s, pipe_error *err)
{
    a->limit = s->steps;
    return pipe_sampling_ends(s, err);
}

void pipe_adaptive_end(void *self)
{
    pipe_adaptive *a = self;

    pipe_keep(&a->x, NULL);
    pipe_keep(&a->low, NULL);
    pipe_keep(&a->carry, NULL);
}

pipe_tensor *pipe_rows(pipe_sampling *s, const double *v)
{
    const size_t n = (size_t)s->n;
    float *host = pipe_alloc_array(n, sizeof *host);

    for (size_t k = 0; k < n; k++)
        host[k] = (float)v[k];
    pipe_tensor *t = pipe_from_f32(s->engine, PIPE_SHAPE(s->n), host);
    pipe_free(host);
    return pipe_per_sample(t, s->x);
}

/* The steps that are attempted now; false: all samples have arrived. */
static bool aim(run *r)
{
    const double way = r->end - r->start, tiny = 1e-6 * fabs(way);
    bool any = false;

    for (size_t k = 0; k < r->n; k++) {
        const track *t = &r->track[k];
        const double left = fabs(r->end - t->at);
        r->from[k] = t->at;
        /* what would be left for a step of its own must be more than rounding */
        r->to[k] = left <= t->h + tiny ? r->end : t->at + copysign(t->h, way);
        any = any || left > 0.0;
    }
    return any;
}

/* Root mean square of error / max(atol, rtol max(|low|, |last low|)), per sample. */
static pipe_tensor *norm(const pipe_adaptive *a, const pipe_attempt *t)
{
    const int64_t n = pipe_dim(t->error, 0);
    pipe_tensor *size = pipe_scale(pipe_maximum(pipe_abs(t->low), pipe_abs(a->low)), a->rtol);
    pipe_tensor *allowed = pipe_maximum(size, pipe_constant(pipe_tensor_engine(t->error), a->atol));
    pipe_tensor *rows = pipe_reshape(pipe_square(pipe_div(t->error, allowed)), PIPE_SHAPE(n, -1));

    return pipe_sqrt(pipe_mean(rows, (const int[]){1}, 1, false));
}

/* The controller: is the step accepted, and how long is the next one? */
static bool control(const pipe_adaptive *a, track *t, double error)
{
    const double inverse = 1.0 / (error + 1e-8);

    if (!(t->inverse[0] > 0.0))
        t->inverse[0] = t->inverse[1] = inverse;
    const double f = a->safety * pow(inverse, (a->p + a->i + a->d) / a->order) *
                     pow(t->inverse[0], -(a->p + 2.0 * a->d) / a->order) *
                     pow(t->inverse[1], a->d / a->order);
    const double factor = 1.0 + atan(f - 1.0);
    const bool accepted = a->accept > 0.0 ? factor >= a->accept : error <= 1.0;

    if (accepted) {
        t->inverse[1] = t->inverse[0];
        t->inverse[0] = inverse;
    }
    t->h *= accepted ? factor
                     : fmin(factor, 0.9); /* a gain that ignores the error must not repeat the step */
    return accepted;
}

static pipe_status judge(run *r, const pipe_attempt *t, pipe_error *err)
{
    const pipe_key key = pipei_sampling_key(r->s);

    PIPE_TRY(pipe_read_f32(norm(r->a, t), r->error, r->n, err));
    for (size_t k = 0; k < r->n; k++) {
        const bool under_way = r->from[k] != r->to[k];
        if (under_way && !isfinite(r->error[k]))
            return pipe_fail(
                err, PIPE_EDOMAIN,
                "sample %llu: the error of a step is not finite (attempt %zu, from %g to %g): the "
                "model or the sampler diverged",
                (unsigned long long)(key.sample + k), t->number + 1, r->from[k], r->to[k]);
        const bool accepted = under_way && control(r->a, &r->track[k], (double)r->error[k]);
        r->accepted[k] = accepted ? 1.0f : 0.0f;
        if (accepted)
            r->track[k].at = r->to[k];
    }
    return PIPE_OK;
}

/* New values in the rows that were accepted, old ones elsewhere. */
static void take(pipe_tensor **slot, pipe_tensor *accepted, pipe_tensor *now)
{
    if (now)
        pipe_keep(slot, pipe_where(accepted, now, *slot));
}

static pipe_status attempt(run *r, void (*method)(void *, pipe_sampling *, pipe_attempt *), void *self,
                           pipe_error *err)
{
    pipe_adaptive *a = r->a;
    pipe_attempt t = {
        .size = sizeof t, .number = a->attempts, .from = r->from, .to = r->to, .x = a->x, .carry = a->carry};
    pipe_tensor *next = NULL, *low = NULL, *carry = NULL;

    method(self, r->s, &t);
    pipe_keep(&a->carry, t.carry);
    pipe_keep(&next, t.next); /* over the evaluation */
    pipe_keep(&low, t.low);
    pipe_keep(&carry, t.next_carry);
    pipe_status status = judge(r, &t, err);
    if (status == PIPE_OK) {
        pipe_tensor *accepted = pipe_per_sample(pipe_from_f32(r->s->engine, PIPE_SHAPE(r->s->n), r->accepted),
                                                next);
        take(&a->x, accepted, next);
        take(&a->low, accepted, low);
        take(&a->carry, accepted, carry);
        r->s->x = a->x;
        status = pipe_eval(r->s->engine, err);
    }
    pipe_keep(&next, NULL);
    pipe_keep(&low, NULL);
    pipe_keep(&carry, NULL);
    return status;
}

static pipe_status exhausted(const run *r, pipe_error *err)
{
    size_t left = 0, slowest = 0;

    for (size_t k = 0; k < r->n; k++) {
        left += r->track[k].at != r->end;
        if (fabs(r->track[k].at - r->end) > fabs(r->track[slowest].at - r->end))
            slowest = k;
    }
    return pipe_fail(
        err, PIPE_EINVAL,
        "%zu attempted steps (`steps`) are not enough at this tolerance: %zu of %zu samples are still "
        "under way from %g to %g, the slowest at %g; raise `steps`, or `rtol` and `atol`",
        r->a->limit, left, r->n, r->start, r->end, r->track[slowest].at);
}

static pipe_status attempts(run *r, void (*method)(void *, pipe_sampling *, pipe_attempt *), void *self,
                            pipe_error *err)
{
    for (r->a->attempts = 0; aim(r); r->a->attempts++) {
        if (r->a->attempts == r->a->limit)
            return exhausted(r, err);
        PIPE_TRY(attempt(r, method, self, err));
        PIPE_TRY(pipei_sampling_poll(r->s, err));
    }
    return PIPE_OK;
}

pipe_status pipe_adaptive_run(pipe_adaptive *a, pipe_sampling *s, double start, double end, double first,
                              void (*method)(void *, pipe_sampling *, pipe_attempt *), void *self,
                              pipe_error *err)
{
    const size_t n = (size_t)s->n;
    run r = {.a = a, .s = s, .n = n, .start = start, .end = end};

    r.track = pipe_alloc_array(n, sizeof *r.track);
    r.from = pipe_alloc_array(n, 2 * sizeof *r.from);
    r.to = r.from + n;
    r.error = pipe_alloc_array(n, 2 * sizeof *r.error);
    r.accepted = r.error + n;
    for (size_t k = 0; k < n; k++)
        r.track[k] = (track){.at = start, .h = first};
    pipe_keep(&a->x, s->x); /* which s->x is all the way */
    pipe_keep(&a->low, s->x);
    pipe_keep(&a->carry, NULL);
    const pipe_status status = attempts(&r, method, self, err);
    pipe_context_log(s->denoiser->ctx, PIPE_LOG_DEBUG, "%zu attempted steps from %g to %g", a->attempts,
                     start, end);
    pipe_free(r.track);
    pipe_free(r.from);
    pipe_free(r.error);
    return status;
}
