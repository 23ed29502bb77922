/* The numbers that a step reported.  Internal to core/run. */
#ifndef PIPE_CORE_METRICS_H
#define PIPE_CORE_METRICS_H

#include "core/run/object.h"
#include <jansson.h>

typedef struct pipei_series {
    char *name;
    double *step, *value;
    size_t n, capacity;
    bool curve;                 /* reported with steps */
} pipei_series;

typedef struct pipei_metrics {
    pipei_series *v;            /* in the order of their first report */
    size_t n, capacity;
} pipei_metrics;

void pipei_metrics_free(pipei_metrics *m);
const pipei_series *pipei_metrics_find(const pipei_metrics *m, const char *name);
/* `step` counts only with `curve`; else the number of earlier reports is taken. */
void pipei_metrics_add(pipei_metrics *m, const char *name, bool curve, double step, double value);
void pipei_metrics_copy(pipei_metrics *to, const pipei_metrics *from);      /* replaces */
/* [{"name", "curve", "steps": [...], "values": [...]}], and back (replaces). */
json_t *pipei_metrics_json(const pipei_metrics *m);
pipe_status pipei_metrics_parse(const json_t *j, pipei_metrics *m, pipe_error *err);
/* {"loss": 0.12, ...}: the last of each */
json_t *pipei_metrics_last(const pipei_metrics *m);
/* A value of kind `metrics` with a copy of the numbers; reference 1 is the caller's. */
pipe_status pipei_metrics_object(pipe_context *ctx, const pipei_metrics *m, pipe_object **out,
                                 pipe_error *err);

#endif
