/* Times of launches, by label and op, and one by one for who observes them.
 *
 * Kernels are timed by the device (events), calls on the host by the clock.  The
 * device's clock starts anywhere: a marker on the idle queue tells where. */
#include "core/tensor/build.h"

#include <stdio.h>
#include <string.h>

static pipe_status fail(cl_int code, const char *what, pipe_error *err)
{
    return pipe_fail(err, PIPE_EDEVICE, "timing %s: %s", what, pipei_cl_error(code));
}

/* Start and end in seconds of the device's clock; releases the event. */
static cl_int times_of(cl_event event, double *start, double *end)
{
    cl_ulong first = 0, last = 0;
    cl_int code = clWaitForEvents(1, &event);

    if (code == CL_SUCCESS)
        code = clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_START, sizeof first, &first, NULL);
    if (code == CL_SUCCESS)
        code = clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof last, &last, NULL);
    clReleaseEvent(event);
    *start = 1e-9 * (double)first;
    *end = 1e-9 * (double)last;
    return code;
}

/* Whatever the host does between the marker and the look at its clock makes the
 * difference larger: the least of several is the best. */
static pipe_status set_clock(pipe_engine *e, pipe_error *err)
{
    enum { LOOKS = 16 };

    for (int k = 0; k < LOOKS; k++) {
        cl_event event = NULL;
        double start, end;
        cl_int code = clEnqueueMarkerWithWaitList(pipei_device_queue(e->device), 0, NULL, &event);
        if (code == CL_SUCCESS)
            code = times_of(event, &start, &end);
        if (code != CL_SUCCESS)
            return fail(code, "a marker", err);
        const double clock = pipei_seconds() - end;
        e->device_clock = k == 0 || clock < e->device_clock ? clock : e->device_clock;
    }
    return PIPE_OK;
}

pipe_status pipei_engine_profile(pipe_engine *e, bool on, pipe_error *err)
{
    PIPE_TRY(pipei_device_profiling(e->device, on, err));
    if (on)
        PIPE_TRY(set_clock(e, err));
    e->profiling = on;
    return PIPE_OK;
}

void pipei_engine_observe(pipe_engine *e, pipei_observer *observer, void *whose)
{
    e->observer = observer;
    e->observer_arg = whose;
}

size_t pipei_engine_profile_rows(const pipe_engine *e, const pipei_profile_row **out)
{
    *out = e->profile;
    return e->n_profile;
}

static pipei_profile_row *row_of(pipe_engine *e, const char *op)
{
    for (size_t k = 0; k < e->n_profile; k++)
        if (strcmp(e->profile[k].op, op) == 0 && strcmp(e->profile[k].label, e->label) == 0)
            return &e->profile[k];
    if (e->n_profile == e->profile_capacity) {
        e->profile_capacity = e->profile_capacity ? 2 * e->profile_capacity : 64;
        e->profile = pipe_realloc(e->profile, e->profile_capacity * sizeof *e->profile);
    }
    pipei_profile_row *r = &e->profile[e->n_profile++];
    *r = (pipei_profile_row){.op = op};
    memcpy(r->label, e->label, sizeof r->label);
    return r;
}

static void add(pipe_engine *e, const char *op, const char *kernel, double start, double seconds)
{
    pipei_profile_row *r = row_of(e, op);

    r->launches++;
    r->seconds += seconds;
    if (e->observer)
        e->observer(e->observer_arg, &(pipei_timed){.label = e->label, .op = op, .kernel = kernel, .start = start,
                                                    .seconds = seconds});
}

void pipei_profile_add_seconds(pipe_engine *e, const launch *l, double start, double seconds)
{
    add(e, l->op, l->name, start, seconds);
}

void pipei_profile_add(pipe_engine *e, const launch *l, cl_event event)
{
    if (e->n_timed == e->timed_capacity) {
        e->timed_capacity = e->timed_capacity ? 2 * e->timed_capacity : 64;
        e->timed = pipe_realloc(e->timed, e->timed_capacity * sizeof *e->timed);
    }
    e->timed[e->n_timed++] = (timed_launch){.op = l->op, .kernel = l->name, .event = event};
}

pipe_status pipei_profile_collect(pipe_engine *e, pipe_error *err)
{
    cl_int worst = CL_SUCCESS;
    const char *culprit = NULL;

    for (size_t k = 0; k < e->n_timed; k++) {
        const timed_launch *t = &e->timed[k];
        double start = 0.0, end = 0.0;
        const cl_int code = times_of(t->event, &start, &end);
        if (code == CL_SUCCESS) {
            add(e, t->op, t->kernel, e->device_clock + start, end - start);
        } else if (worst == CL_SUCCESS) {
            worst = code;
            culprit = t->kernel;
        }
    }
    e->n_timed = 0;
    return worst == CL_SUCCESS ? PIPE_OK : fail(worst, culprit, err);
}

void pipei_profile_close(pipe_engine *e)
{
    for (size_t k = 0; k < e->n_timed; k++)     /* of an evaluation that failed half-way */
        clReleaseEvent(e->timed[k].event);
    pipe_free(e->timed);
    pipe_free(e->profile);
}
