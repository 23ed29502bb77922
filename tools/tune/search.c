/* Candidates for one kernel: a few that suit many devices, then random changes of the
 * best so far.  CLBlast's own values cannot be asked for through its C interface: they
 * are measured as they are, and whatever is not faster is not stored. */
#include "tune.h"

#include <math.h>
#include <string.h>

enum { MOST_CHANGES = 3, MOST_TRIES = 2000 };
#define LEAST_PATIENCE 300.0
#define PATIENCE 5.0  /* times as long as compiling and running CLBlast's own takes: more is a kernel that hangs */
#define WORTH 0.98    /* of CLBlast's own time: less is within the error of measuring */
#define SILENCE 10.0  /* seconds between two lines about progress */

/* In the order of pipei_tuning_kernels' parameters; small tiles first: they compile fast. */
static const struct {
    size_t kernel;
    pipei_tuning_values values;
} starts[] = {
    {PIPEI_TUNING_LARGE, {{0, 1, 16, 2, 8, 8, 16, 8, 8, 16, 0, 0, 0, 0, 1, 1}}},
    {PIPEI_TUNING_LARGE, {{0, 1, 16, 2, 8, 8, 32, 8, 8, 32, 1, 1, 0, 0, 2, 2}}},
    {PIPEI_TUNING_LARGE, {{0, 1, 16, 2, 8, 8, 64, 8, 8, 64, 0, 0, 0, 0, 4, 4}}},
    {PIPEI_TUNING_LARGE, {{0, 1, 16, 2, 16, 16, 64, 8, 8, 64, 0, 1, 0, 0, 2, 4}}},
    {PIPEI_TUNING_LARGE, {{0, 1, 32, 2, 16, 16, 128, 16, 16, 128, 1, 1, 0, 0, 4, 4}}},
    {PIPEI_TUNING_SMALL, {{2, 8, 8, 8, 8, 1, 1, 1, 1, 8}}},
    {PIPEI_TUNING_SMALL, {{2, 8, 8, 8, 8, 1, 1, 2, 2, 16}}},
    {PIPEI_TUNING_SMALL, {{2, 16, 16, 16, 16, 1, 1, 2, 2, 32}}},
    {PIPEI_TUNING_SMALL, {{2, 8, 8, 8, 8, 1, 1, 4, 4, 32}}},
    {PIPEI_TUNING_SMALL, {{8, 16, 16, 16, 16, 0, 0, 4, 4, 64}}},
};

typedef struct search {
    const tune *t;
    size_t kernel;
    const tune_problem *problem;
    double end, own, spoken;        /* own: seconds with CLBlast's parameters */
    pipei_tuning *best;
    double seconds;                 /* of the best; CLBlast's own count */
    pipei_tuning_values from;       /* where changes start: the fastest that was tried */
    double from_seconds;
    pipei_tuning_values *seen;
    size_t n_seen, wrong;
    uint64_t draws;
} search;

static bool is_new(search *s, const pipei_tuning_values *v)
{
    for (size_t k = 0; k < s->n_seen; k++)
        if (memcmp(&s->seen[k], v, sizeof *v) == 0)
            return false;
    return true;
}

static bool over(const search *s)
{
    return s->n_seen >= s->t->candidates || pipei_seconds() >= s->end;
}

static void tell(search *s, const char *what)
{
    s->spoken = pipei_seconds();
    pipe_log(PIPE_LOG_INFO, "tune", "%s: %s%.2f GFLOP/s, CLBlast's own %.2f; %zu tried, %zu dropped, %.0f s left",
             pipei_tuning_kernels[s->kernel].name, what, tune_rate(s->problem, s->seconds),
             tune_rate(s->problem, s->own), s->n_seen, s->wrong, s->end > s->spoken ? s->end - s->spoken : 0.0);
}

/* Measures a candidate; the best is also multiplied in all the ways there are before
 * it is accepted. */
static pipe_status try_one(search *s, const pipei_tuning_values *v, pipe_error *err)
{
    pipei_tuning with = *s->best;
    tune_result r;

    s->seen[s->n_seen++] = *v;
    with.set[s->kernel] = true;
    with.values[s->kernel] = *v;
    PIPE_TRY(tune_measure(s->t, &with, s->problem, false, &r, err));
    const bool faster = r.right && r.seconds < s->seconds && r.seconds < WORTH * s->own;
    if (faster)
        PIPE_TRY(tune_measure(s->t, &with, s->problem, true, &r, err));
    if (!r.right) {
        s->wrong++;
        pipe_log(PIPE_LOG_DEBUG, "tune", "%s: dropped: %s", pipei_tuning_kernels[s->kernel].name, r.why);
        return PIPE_OK;
    }
    if (s->from_seconds == 0.0 || r.seconds < s->from_seconds) {
        s->from = *v;
        s->from_seconds = r.seconds;
    }
    if (faster && r.seconds < s->seconds) {
        *s->best = with;
        s->seconds = r.seconds;
        tell(s, "better: ");
    } else if (pipei_seconds() - s->spoken > SILENCE) {
        tell(s, "");
    }
    return PIPE_OK;
}

/* The same numbers in every run: a search can be repeated. */
static size_t draw(search *s, size_t below)
{
    s->draws++;
    return (size_t)(pipe_hash64(&s->draws, sizeof s->draws, s->kernel) % below);
}

/* One to three other values.  Most points are no kernel at all: false if none was found. */
static bool change(search *s, pipei_tuning_values *out)
{
    const pipei_tuning_kernel *k = &pipei_tuning_kernels[s->kernel];

    for (size_t tries = 0; tries < MOST_TRIES; tries++) {
        *out = s->from;
        for (size_t n = 1 + draw(s, MOST_CHANGES); n > 0; n--) {
            const size_t p = draw(s, k->n_params);
            out->of[p] = k->params[p].values[draw(s, k->params[p].n_values)];
        }
        if (!pipei_tuning_flaw(s->kernel, out, &s->t->info) && is_new(s, out))
            return true;
    }
    return false;
}

static pipe_status try_all(search *s, pipe_error *err)
{
    pipei_tuning_values v;

    for (size_t k = 0; k < sizeof starts / sizeof starts[0] && !over(s); k++)
        if (starts[k].kernel == s->kernel && !pipei_tuning_flaw(s->kernel, &starts[k].values, &s->t->info)) {
            v = starts[k].values;
            PIPE_TRY(try_one(s, &v, err));
        }
    if (s->from_seconds == 0.0)
        return PIPE_OK; /* nothing to change */
    while (!over(s) && change(s, &v))
        PIPE_TRY(try_one(s, &v, err));
    return PIPE_OK;
}

pipe_status tune_search(tune *t, size_t kernel, const tune_problem *p, double end, pipei_tuning *best,
                        pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) pipei_tuning_values *seen = pipe_alloc_array(t->candidates + 1, sizeof *seen);
    search s = {.t = t, .kernel = kernel, .problem = p, .end = end, .best = best, .seen = seen};
    tune_result own;

    best->set[kernel] = false;
    const double start = pipei_seconds(), patience = t->patience;
    PIPE_TRY(tune_measure(t, best, p, false, &own, err));
    if (!own.right)
        return pipe_fail(err, PIPE_EDEVICE, "CLBlast's own parameters of %s do not work on %s: %s",
                         pipei_tuning_kernels[kernel].name, t->info.name, own.why);
    t->patience = fmax(LEAST_PATIENCE, PATIENCE * (pipei_seconds() - start));
    s.own = s.seconds = own.seconds;
    tell(&s, "");
    const pipe_status status = try_all(&s, err);
    t->patience = patience;
    if (status == PIPE_OK)
        tell(&s, "best: ");
    return status;
}
