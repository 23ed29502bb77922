/* Times of launches, by label and op. */
#include "core/tensor/build.h"

#include <stdio.h>
#include <string.h>

pipe_status pipei_engine_profile(pipe_engine *e, bool on, pipe_error *err)
{
    PIPE_TRY(pipei_device_profiling(e->device, on, err));
    e->profiling = on;
    return PIPE_OK;
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

void pipei_profile_add_seconds(pipe_engine *e, const char *op, double seconds)
{
    pipei_profile_row *r = row_of(e, op);
    r->launches++;
    r->seconds += seconds;
}

pipe_status pipei_profile_add(pipe_engine *e, const char *op, cl_event event, pipe_error *err)
{
    cl_ulong start = 0, end = 0;
    cl_int code = clWaitForEvents(1, &event);
    if (code == CL_SUCCESS)
        code = clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_START, sizeof start, &start, NULL);
    if (code == CL_SUCCESS)
        code = clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof end, &end, NULL);
    clReleaseEvent(event);
    if (code != CL_SUCCESS)
        return pipe_fail(err, PIPE_EDEVICE, "timing %s: %s", op, pipei_cl_error(code));
    pipei_profile_add_seconds(e, op, 1e-9 * (double)(end - start));
    return PIPE_OK;
}
