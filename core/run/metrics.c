/* The numbers that a step reported, and the value of kind `metrics` that holds them. */
#include "core/run/metrics.h"
#include "core/run/json.h"

#include <math.h>
#include <string.h>

void pipei_metrics_free(pipei_metrics *m)
{
    for (size_t k = 0; k < m->n; k++) {
        pipe_free(m->v[k].name);
        pipe_free(m->v[k].step);
        pipe_free(m->v[k].value);
    }
    pipe_free(m->v);
    *m = (pipei_metrics){0};
}

const pipei_series *pipei_metrics_find(const pipei_metrics *m, const char *name)
{
    for (size_t k = 0; k < m->n; k++)
        if (strcmp(m->v[k].name, name) == 0)
            return &m->v[k];
    return NULL;
}

static pipei_series *series_of(pipei_metrics *m, const char *name)
{
    for (size_t k = 0; k < m->n; k++)
        if (strcmp(m->v[k].name, name) == 0)
            return &m->v[k];
    if (m->n == m->capacity) {
        m->capacity = m->capacity ? 2 * m->capacity : 8;
        m->v = pipe_realloc(m->v, m->capacity * sizeof *m->v);
    }
    pipei_series *s = &m->v[m->n++];
    *s = (pipei_series){.name = pipe_strdup(name)};
    return s;
}

void pipei_metrics_add(pipei_metrics *m, const char *name, bool curve, double step, double value)
{
    pipei_series *s = series_of(m, name);

    if (s->n == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 4;
        s->step = pipe_realloc(s->step, s->capacity * sizeof *s->step);
        s->value = pipe_realloc(s->value, s->capacity * sizeof *s->value);
    }
    s->curve |= curve;
    s->step[s->n] = curve ? step : (double)s->n;
    s->value[s->n++] = value;
}

void pipei_metrics_copy(pipei_metrics *to, const pipei_metrics *from)
{
    pipei_metrics copy = {0};

    for (size_t k = 0; k < from->n; k++)
        for (size_t i = 0; i < from->v[k].n; i++)
            pipei_metrics_add(&copy, from->v[k].name, from->v[k].curve, from->v[k].step[i],
                              from->v[k].value[i]);
    pipei_metrics_free(to);
    *to = copy;
}

json_t *pipei_metrics_json(const pipei_metrics *m)
{
    json_t *list = json_array();

    for (size_t k = 0; k < m->n; k++) {
        const pipei_series *s = &m->v[k];
        json_t *steps = json_array(), *values = json_array();
        for (size_t i = 0; i < s->n; i++) {
            json_array_append_new(steps, json_real(s->step[i]));
            json_array_append_new(values, json_real(s->value[i]));
        }
        json_t *entry = json_object();
        pipei_json_set_text(entry, "name", s->name);
        json_object_set_new(entry, "curve", json_boolean(s->curve));
        json_object_set_new(entry, "steps", steps);
        json_object_set_new(entry, "values", values);
        json_array_append_new(list, entry);
    }
    return list;
}

pipe_status pipei_metrics_parse(const json_t *j, pipei_metrics *m, pipe_error *err)
{
    pipei_metrics read = {0};
    size_t k;
    json_t *entry;

    json_array_foreach(j, k, entry) {
        const char *name = pipei_json_text(entry, "name");
        const json_t *steps = json_object_get(entry, "steps"), *values = json_object_get(entry, "values");
        const size_t n = json_array_size(values);
        if (!name || json_array_size(steps) != n) {
            pipei_metrics_free(&read);
            return pipe_fail(err, PIPE_EFORMAT, "entry %zu of the metrics is damaged", k);
        }
        for (size_t i = 0; i < n; i++)
            pipei_metrics_add(&read, name, json_is_true(json_object_get(entry, "curve")),
                              json_number_value(json_array_get(steps, i)),
                              json_number_value(json_array_get(values, i)));
    }
    pipei_metrics_free(m);
    *m = read;
    return PIPE_OK;
}

json_t *pipei_metrics_last(const pipei_metrics *m)
{
    json_t *j = json_object();

    for (size_t k = 0; k < m->n; k++)
        json_object_set_new(j, m->v[k].name, json_real(m->v[k].value[m->v[k].n - 1]));
    return j;
}

/* ---- as a value ---- */
typedef struct numbers {
    pipei_metrics m;
    const char **names;
} numbers;

static void numbers_destroy(void *self)
{
    numbers *v = self;

    pipei_metrics_free(&v->m);
    pipe_free(v->names);
}

static const pipe_plugin numbers_plugin = {
    PIPE_ABI(PIPE_KIND_METRICS),
    .name = "metrics.reported", .version = "1.0.0", .licence = "MIT",
    .summary = "numbers that a step reported",
    .state_size = sizeof(numbers), .destroy = numbers_destroy,
};

pipe_status pipei_metrics_object(pipe_context *ctx, const pipei_metrics *m, pipe_object **out,
                                 pipe_error *err)
{
    pipe_object *o;

    PIPE_TRY(pipei_object_create(&numbers_plugin, pipe_context_node(ctx), NULL, NULL, 0, ctx, &o, err));
    numbers *v = o->state;
    pipei_metrics_copy(&v->m, m);
    v->names = pipe_alloc_array(v->m.n + 1, sizeof *v->names);
    for (size_t k = 0; k < v->m.n; k++)
        v->names[k] = v->m.v[k].name;
    *out = o;
    return PIPE_OK;
}

size_t pipe_metrics_names(pipe_metrics *m, const char *const **names)
{
    const numbers *v = m->plugin == &numbers_plugin ? m->state : NULL;

    *names = v ? v->names : NULL;
    return v ? v->m.n : 0;
}

bool pipe_metrics_curve(pipe_metrics *m, const char *name, const double **step, const double **value,
                        size_t *n)
{
    const numbers *v = m->plugin == &numbers_plugin ? m->state : NULL;
    const pipei_series *s = v ? pipei_metrics_find(&v->m, name) : NULL;

    if (!s)
        return false;
    *step = s->step;
    *value = s->value;
    *n = s->n;
    return true;
}

bool pipe_metrics_last(pipe_metrics *m, const char *name, double *value)
{
    const double *step, *v;
    size_t n;

    if (!pipe_metrics_curve(m, name, &step, &v, &n))
        return false;
    *value = v[n - 1];
    return true;
}
