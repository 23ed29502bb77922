/* Sampling in parallel over time: Shih et al. 2023, arXiv:2305.16317 (ParaDiGMS).
 *
 * Another sampler's trajectory is the fixed point of a Picard iteration: with the answers of
 * the denoiser taken as given, the sampler's own steps give a trajectory; on it the denoiser
 * is asked again, at many points in one call.  The first point of the window is exact every
 * time, so the iteration ends; usually many points agree at once, and the window slides over
 * all of them.
 *
 * The paper adds up drifts.  Here the sampler inside takes its steps with old answers, which
 * makes its linear part exact, serves every solver (also those with a memory, and stochastic
 * ones: their noise belongs to seed and step), and leaves its result as it is: where nothing
 * changes any more, the answers are those of a trajectory taken step by step.  What is kept
 * fixed of an answer is v: like x0 at high noise and like eps at low noise, where these
 * change least along a trajectory. */
#include <pipe/pipe.h>
#include <pipe/steps.h>

#include <string.h>

/* What the sampler inside asks, in its order: one or more questions for each step. */
typedef struct question {
    double t;
    pipe_tensor *x; /* it is asked about, in the latest sweep */
    pipe_tensor *v; /* the answer that sweeps use, or a guess */
} question;

/* Where the latest sweep stood behind a step. */
typedef struct point {
    pipe_tensor *x;
    size_t asked; /* questions until there */
} point;

typedef struct {
    pipe_sampler *sampler;
    int64_t window;
    double tolerance;

    question *q;
    size_t room, asked, final, released; /* questions: allocated, asked in this sweep, with an answer that stays,
                                            not needed any more */
    point *p; /* of each step */
    size_t steps;
    pipe_tensor *first, *x; /* where sweeps begin; where the sweep stands */
    size_t from, at; /* the steps there */
    pipe_tensor *batch; /* what the denoiser was asked last: [window n, ...] */
    size_t batched, full; /* of the window: used; always computed */
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, sampler, PIPE_KIND_SAMPLER, "whose trajectory it is; its steps, grid and other options count"),
    PIPE_INPUT_END,
};

static const pipe_param params[] = {
    PIPE_INT(state, window, 16, 0, 100000, "evaluations",
             "that one call of the denoiser is for, of each sample; more takes fewer calls and more memory; 0: "
             "all steps"),
    PIPE_FLOAT(state, tolerance, 1e-3, 0.0, 1.0, NULL,
               "largest change of a sample between two iterations, root mean square relative to sqrt(alpha^2 + "
               "sigma^2), at which it is done; higher takes fewer calls and ends farther from the sampler "
               "inside; 0: no change at all"),
    PIPE_PARAM_END,
};

static pipe_sampler *inner(void *self)
{
    return ((state *)self)->sampler;
}

/* A sampler without an end() keeps nothing between steps: sweeps of it begin at the present step,
 * others at the first. */
static bool remembers(const state *st)
{
    return pipe_object_plugin(st->sampler)->sampler.end != NULL;
}

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    const state *st = self;

    if (pipe_object_plugin(st->sampler)->sampler.inner)
        return pipe_fail(err, PIPE_EINVAL, "%s: %s is around another sampler itself; put it around this one",
                         pipe_context_node(ctx), pipe_object_name(st->sampler));
    return PIPE_OK;
}

static pipe_status check(void *self, const pipe_sampling *s, const pipe_denoiser_info *info, pipe_error *err)
{
    (void)self;
    (void)info;
    return pipe_sampling_check_forgets(s, "about several at once", err);
}

static void clear(void *self)
{
    state *st = self;

    for (size_t k = 0; k < st->room; k++) {
        pipe_keep(&st->q[k].x, NULL);
        pipe_keep(&st->q[k].v, NULL);
    }
    for (size_t k = 0; k < st->steps; k++)
        pipe_keep(&st->p[k].x, NULL);
    pipe_keep(&st->first, NULL);
    pipe_keep(&st->x, NULL);
    pipe_keep(&st->batch, NULL);
    pipe_free(st->q);
    pipe_free(st->p);
    st->q = NULL;
    st->p = NULL;
    st->room = st->asked = st->final = st->released = st->steps = 0;
    st->from = st->at = st->batched = st->full = 0;
}

/* ---- a sweep: the steps of the sampler inside, with given answers ---- */
static void make_room(state *st, size_t n)
{
    if (n <= st->room)
        return;
    const size_t room = n + n / 2 + 16;
    st->q = pipe_realloc(st->q, room * sizeof *st->q);
    memset(st->q + st->room, 0, (room - st->room) * sizeof *st->q);
    st->room = room;
}

/* v at x if the clean data were those of the question before; those of the first: as if v were 0. */
static pipe_tensor *guess(const state *st, const pipe_sampling *s, size_t k, pipe_tensor *x, double t)
{
    const pipe_level here = pipe_level_uniform(s->schedule, s->engine, s->n, t);

    if (k == 0)
        return pipe_zeros_like(x);
    const question *last = &st->q[k - 1];
    const pipe_level there = pipe_level_uniform(s->schedule, s->engine, s->n, last->t);
    pipe_tensor *x0 = pipe_convert_prediction(last->v, PIPE_PREDICT_V, PIPE_PREDICT_X0, last->x, &there, 1.0);
    return pipe_convert_prediction(x0, PIPE_PREDICT_X0, PIPE_PREDICT_V, x, &here, 1.0);
}

static pipe_tensor *answer(void *arg, pipe_sampling *s, pipe_tensor *x, double t)
{
    state *st = arg;
    const size_t k = st->asked++;

    make_room(st, k + 1);
    question *q = &st->q[k];
    if (!q->v)
        pipe_keep(&q->v, guess(st, s, k, x, t));
    q->t = t;
    if (k + 1 >= st->final) /* what is final is not asked again, but the last one for guesses */
        pipe_keep(&q->x, x);
    return q->v;
}

static pipe_status inner_step(state *st, pipe_sampling *s, pipe_error *err)
{
    s->answer = answer;
    s->answer_arg = st;
    const pipe_status status = pipe_sampler_step(st->sampler, s, err);
    s->answer = NULL;
    return status;
}

/* Goes on through the present step and until `questions` were asked, or to the end. */
static pipe_status sweep(state *st, pipe_sampling *s, size_t questions, pipe_error *err)
{
    const size_t i = s->i;

    for (; st->at < s->steps && (st->at <= i || st->asked < questions); st->at++) {
        s->i = st->at;
        s->x = st->x;
        PIPE_TRY(inner_step(st, s, err));
        pipe_keep(&st->p[s->i].x, s->x);
        st->p[s->i].asked = st->asked;
        s->x = pipe_sampling_known(s, s->x, s->i + 1, PIPE_SAMPLING_MASK_DRAW);
        PIPE_TRY(pipe_check(s->x, err));
        pipe_keep(&st->x, s->x);
        PIPE_TRY(pipe_eval(s->engine, err));
    }
    s->i = i;
    return PIPE_OK;
}

static pipe_status restart(state *st, pipe_sampling *s, pipe_error *err)
{
    if (remembers(st)) {
        pipe_sampler_end(st->sampler);
        s->x = st->first;
        PIPE_TRY(pipe_sampler_begin(st->sampler, s, err));
    }
    st->at = st->from;
    st->asked = st->from > 0 ? st->p[st->from - 1].asked : 0;
    pipe_keep(&st->x, st->first);
    return PIPE_OK;
}

/* ---- an iteration ---- */
static size_t window_end(const state *st)
{
    return st->window > 0 ? st->final + (size_t)st->window : SIZE_MAX;
}

/* The window's questions in one call.  At the end of the trajectory there are fewer: the last one fills up,
 * as another shape would mean other kernels to compile. */
static pipe_status ask(state *st, pipe_sampling *s, pipe_error *err)
{
    const size_t left = st->asked - st->final;
    const size_t most = st->window > 0 ? (size_t)st->window : left;
    const size_t full = st->full = st->full > 0 ? st->full : left < most ? left : most;
    PIPE_CLEANUP(pipe_free_ptr) pipe_tensor **x = pipe_alloc_array(full, sizeof(pipe_tensor *));
    PIPE_CLEANUP(pipe_free_ptr) pipe_tensor **v = pipe_alloc_array(full, sizeof(pipe_tensor *));
    PIPE_CLEANUP(pipe_free_ptr) double *t = pipe_alloc_array(full, sizeof *t);

    st->batched = left < full ? left : full;
    for (size_t k = 0; k < full; k++) {
        const question *q = &st->q[st->final + (k < st->batched ? k : st->batched - 1)];
        x[k] = q->x;
        t[k] = q->t;
    }
    PIPE_TRY(pipe_predict_points(s, x, t, full, PIPE_PREDICT_V, v, err));
    for (size_t k = 0; k < st->batched; k++)
        pipe_keep(&st->q[st->final + k].v, v[k]);
    pipe_keep(&st->batch, pipe_concat(x, st->batched, 0));
    return pipe_eval(s->engine, err);
}

/* How many of the questions asked last are asked again as they were: their answers stay.  The first one
 * always is. */
static pipe_status settle(state *st, pipe_sampling *s, pipe_error *err)
{
    const size_t rows = st->batched * (size_t)s->n;
    PIPE_CLEANUP(pipe_free_ptr) pipe_tensor **x = pipe_alloc_array(st->batched, sizeof(pipe_tensor *));
    PIPE_CLEANUP(pipe_free_ptr) float *change = pipe_alloc_array(rows, sizeof *change);
    size_t same = 0, r = 0;

    for (size_t k = 0; k < st->batched; k++)
        x[k] = st->q[st->final + k].x;
    pipe_tensor *away = pipe_square(pipe_sub(pipe_concat(x, st->batched, 0), st->batch));
    away = pipe_mean(pipe_reshape(away, PIPE_SHAPE((int64_t)rows, -1)), (const int[]){1}, 1, false);
    PIPE_TRY(pipe_read_f32(away, change, rows, err));
    for (; same < st->batched; same++) {
        const pipe_schedule_point p = pipe_schedule_at(s->schedule, st->q[st->final + same].t);
        const double most = st->tolerance * st->tolerance * (p.alpha * p.alpha + p.sigma * p.sigma);
        while (r < (same + 1) * (size_t)s->n && (double)change[r] <= most)
            r++;
        if (r < (same + 1) * (size_t)s->n)
            break;
    }
    st->final += same > 0 ? same : 1;
    return PIPE_OK;
}

static pipe_status iterate(state *st, pipe_sampling *s, pipe_error *err)
{
    PIPE_TRY(ask(st, s, err));
    PIPE_TRY(restart(st, s, err));
    PIPE_TRY(sweep(st, s, st->final + st->batched, err));
    PIPE_TRY(settle(st, s, err));
    return sweep(st, s, window_end(st), err);
}

/* ---- the sampler ---- */
static pipe_status begin(void *self, pipe_sampling *s, pipe_error *err)
{
    state *st = self;

    clear(st);
    st->steps = s->steps;
    st->p = pipe_alloc_array(s->steps, sizeof *st->p);
    return pipe_sampler_begin(st->sampler, s, err);
}

/* What no sweep from here on comes back to; the questions of the last step serve guesses. */
static void release(state *st, size_t i)
{
    for (; i > 1 && st->released < st->p[i - 2].asked; st->released++) {
        pipe_keep(&st->q[st->released].x, NULL);
        pipe_keep(&st->q[st->released].v, NULL);
    }
    if (i > 0)
        pipe_keep(&st->p[i - 1].x, NULL);
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    state *st = self;
    const size_t i = s->i;

    if (i == 0 || !remembers(st)) {
        pipe_keep(&st->first, s->x);
        st->from = i;
    }
    if (i == 0)
        pipe_keep(&st->x, s->x);
    if (st->at <= i)
        PIPE_TRY(sweep(st, s, window_end(st), err));
    while (st->p[i].asked > st->final)
        PIPE_TRY(iterate(st, s, err));
    if (!remembers(st))
        release(st, i);
    s->x = st->p[i].x;
    return pipe_check(s->x, err);
}

static void end(void *self)
{
    pipe_sampler_end(inner(self));
    clear(self);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.picard",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "another sampler's trajectory, many of its steps at once: Picard iteration, ParaDiGMS",
    .help =
        "Steps, grid and all options that samplers share are set on the sampler inside. Fewer calls of the "
        "denoiser one after another, more evaluations in all: faster where a larger batch takes little longer. "
        "`generate` reports both numbers. Not with guidance that remembers earlier steps.",
    .citation = "arXiv:2305.16317",
    .example = "solver: {plugin: sampler.picard, sampler: {plugin: sampler.ddim, steps: 100}, window: 20}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .create = create,
    .sampler = {.begin = begin, .step = step, .end = end, .check = check, .inner = inner},
};
