/* What can be known before the first step works: whether the time grid of a sampler fits the
 * schedule under which it will be used, and whether it can work with the network.  A pipeline that
 * trains for hours and then samples more steps than its schedule has ends here, at once. */
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

/* The denoiser that this node uses, as far as it can be made before anything is trained: the network to be
 * trained in place of the trained one.  NULL: it cannot be told from the graph. */
static const pipei_node *denoiser_of(const pipei_node *n)
{
    const pipei_node *found = only(n, PIPE_KIND_DENOISER);

    return !found || needs_no_step(found) ? found : denoiser_of(found);
}

static pipe_status check_denoiser(pipei_session *s, pipei_task *t, pipe_error *err)
{
    const pipei_node *sampler = only(t->node, PIPE_KIND_SAMPLER), *denoiser = denoiser_of(t->node);
    pipe_denoiser_info info;
    pipe_object *made, *with;

    if (!sampler || !denoiser || !needs_no_step(sampler))
        return PIPE_OK;
    PIPE_TRY(pipei_component(s, pipei_task_of(s, sampler), &made, err));
    if (!pipei_sampler_checks_denoiser(made)) /* a denoiser may be large: it is made when it is needed */
        return PIPE_OK;
    PIPE_TRY(pipei_component(s, pipei_task_of(s, denoiser), &with, err));
    if (pipe_denoiser_describe(with, &info, NULL) != PIPE_OK) /* it will be described when it is trained */
        return PIPE_OK;
    const pipe_status status = pipei_sampler_check_denoiser(made, &info, err);
    if (status != PIPE_OK)
        pipei_task_fail(t, status, err);
    return status;
}

static pipe_status check_grid(pipei_session *s, pipei_task *t, pipe_error *err)
{
    const pipei_node *sampler = only(t->node, PIPE_KIND_SAMPLER), *schedule = schedule_of(t->node);
    pipe_object *made, *under;
    double *times;
    size_t steps;

    if (!sampler || !schedule || !needs_no_step(sampler) || !needs_no_step(schedule))
        return PIPE_OK;
    PIPE_TRY(pipei_component(s, pipei_task_of(s, sampler), &made, err));
    PIPE_TRY(pipei_component(s, pipei_task_of(s, schedule), &under, err));
    const pipe_status status = pipe_sampler_grid(made, under, &times, &steps, err);
    if (status == PIPE_OK)
        pipe_free(times);
    else
        pipei_task_fail(t, status, err);
    return status;
}

pipe_status pipei_check_early(pipei_session *s, pipe_error *err)
{
    for (size_t k = 0; k < s->n; k++)
        if (s->task[k].node->plugin->step && s->task[k].state == PIPEI_WAITING) {
            PIPE_TRY(pipei_need_engine(s, err));
            PIPE_TRY(check_grid(s, &s->task[k], err));
            PIPE_TRY(check_denoiser(s, &s->task[k], err));
        }
    return PIPE_OK;
}
