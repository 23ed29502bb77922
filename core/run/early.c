/* What can be known before the first step works: whether the time grid of a sampler fits the
 * schedule under which it will be used, and whether it can work with the denoiser that will be
 * trained.  A pipeline that trains for hours and then samples more steps than its schedule has
 * ends here, at once. */
#include "core/kinds/kinds.h"
#include "core/run/session.h"

#include <string.h>

/* The one node that gives this node a value of that kind; NULL: none, or several. */
static const pipei_node *only(const pipei_node *n, const char *kind)
{
    const pipei_node *found = NULL;

    for (size_t k = 0; k < n->n_inputs; k++)
        for (size_t i = 0; i < n->input_count[k]; i++) {
            if (strcmp(n->input[k][i].kind, kind) != 0)
                continue;
            if (found)
                return NULL;
            found = n->input[k][i].from;
        }
    return found;
}

/* Its own, else that which a model is trained under, which its objective knows, or that of a denoiser that
 * it is made of.  NULL: it cannot be told from the graph. */
static const pipei_node *schedule_of(const pipei_node *n)
{
    static const char *const through[] = {PIPE_KIND_OBJECTIVE, PIPE_KIND_DENOISER};
    const pipei_node *found = only(n, PIPE_KIND_SCHEDULE);

    for (size_t k = 0; k < 2 && !found; k++) {
        const pipei_node *inner = only(n, through[k]);
        if (inner)
            return schedule_of(inner);
    }
    return found;
}

static bool needs_no_step(const pipei_node *n)
{
    if (n->plugin->step)
        return false;
    for (size_t k = 0; k < n->n_inputs; k++)
        for (size_t i = 0; i < n->input_count[k]; i++)
            if (!needs_no_step(n->input[k][i].from))
                return false;
    return true;
}

/* ---- the denoiser that a step will use ---- */
typedef struct forecast {
    const pipei_node *node; /* the step's input; NULL: none, or several */
    const pipei_node *core; /* what it is made of that needs no step: the network to be trained in place of the
                               trained one; NULL: cannot be told */
    const pipei_node *objective; /* that the network will be trained by; NULL: none */
    bool remembers; /* see pipei_denoiser_remembers() */
    pipe_object *object; /* a reference; NULL: not made */
    pipe_denoiser_info info;
    bool known; /* `info` is */
} forecast;

static void forecast_free(forecast *f)
{
    pipe_object_unref(f->object);
}

static pipe_status follow(pipei_session *s, const pipei_node *n, forecast *f, pipe_error *err)
{
    for (f->core = f->node = only(n, PIPE_KIND_DENOISER); f->core; f->core = only(f->core, PIPE_KIND_DENOISER)) {
        pipei_task *t = pipei_task_of(s, f->core);
        if (needs_no_step(f->core) && f->objective)
            return PIPE_OK; /* a network: guidance is not trained */
        if (f->core->plugin->step) {
            if (!f->objective)
                f->objective = only(f->core, PIPE_KIND_OBJECTIVE);
            continue;
        }
        PIPE_TRY(pipei_live(s, t, err));
        f->remembers = f->remembers || t->plugin->denoiser.begin;
        if (needs_no_step(f->core))
            return PIPE_OK;
    }
    return PIPE_OK;
}

/* The network as it will be declared: a clone, as the node's own object stays untrained. */
static pipe_status declare(pipei_session *s, forecast *f, pipe_object *network, pipe_error *err)
{
    pipe_object *objective;

    if (!f->objective || !needs_no_step(f->objective)) {
        f->object = pipe_object_ref(network);
        return PIPE_OK;
    }
    PIPE_TRY(pipei_component(s, pipei_task_of(s, f->objective), &objective, err));
    PIPE_TRY(pipe_object_clone(network, pipei_task_of(s, f->core)->ctx, &f->object, err));
    pipe_error unfit = PIPE_ERROR_INIT; /* the training will say */
    (void)pipe_objective_declare(objective, f->object, NULL, &unfit);
    return PIPE_OK;
}

/* A closed form may be large: it is made when it is needed, or when the sampler has something to ask of it. */
static pipe_status describe(pipei_session *s, forecast *f, bool asked, pipe_error *err)
{
    pipei_task *t = pipei_task_of(s, f->core);
    pipe_object *made;

    PIPE_TRY(pipei_live(s, t, err));
    if (!asked && !(t->plugin->flags & PIPE_TRAINABLE))
        return PIPE_OK;
    PIPE_TRY(pipei_component(s, t, &made, err));
    PIPE_TRY(declare(s, f, made, err));
    f->known = pipe_denoiser_describe(f->object, &f->info, NULL) == PIPE_OK;
    return PIPE_OK;
}

/* ---- the sampler of a step ---- */

/* Given no data, it starts from noise: at the first point of the grid. */
static bool starts_from_noise(const pipei_node *n)
{
    for (size_t k = 0; k < n->n_inputs; k++)
        for (size_t i = 0; i < n->input_count[k]; i++)
            if (strcmp(n->input[k][i].kind, PIPE_KIND_DATASET) == 0)
                return false;
    return true;
}

static pipe_status check_sampler(pipei_session *s, pipei_task *t, const pipei_node *sampler, pipe_error *err)
{
    const pipei_node *schedule = schedule_of(t->node);
    PIPE_CLEANUP(forecast_free) forecast f = {0};
    pipei_sampling_outline o = {.whole = starts_from_noise(t->node)};

    PIPE_TRY(pipei_component(s, pipei_task_of(s, sampler), &o.sampler, err));
    if (schedule && needs_no_step(schedule))
        PIPE_TRY(pipei_component(s, pipei_task_of(s, schedule), &o.schedule, err));
    PIPE_TRY(follow(s, t->node, &f, err));
    if (f.core)
        PIPE_TRY(describe(s, &f, pipei_sampler_checks(o.sampler), err));
    o.denoiser = f.node ? f.node->name : NULL;
    o.info = f.known ? &f.info : NULL;
    o.remembers = f.remembers;
    const pipe_status status = pipei_sampling_check_early(&o, err);
    if (status != PIPE_OK)
        pipei_task_fail(t, status, err);
    return status;
}

pipe_status pipei_check_early(pipei_session *s, pipe_error *err)
{
    for (size_t k = 0; k < s->n; k++)
        if (s->task[k].node->plugin->step && s->task[k].state == PIPEI_WAITING) {
            PIPE_TRY(pipei_need_engine(s, err));
            const pipei_node *sampler = only(s->task[k].node, PIPE_KIND_SAMPLER);
            if (sampler && needs_no_step(sampler))
                PIPE_TRY(check_sampler(s, &s->task[k], sampler, err));
        }
    return PIPE_OK;
}
