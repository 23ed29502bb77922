/* ${name} in scalars.  "$${" stands for a literal "${"; any other $ is a letter.
 * A scalar that is nothing but ${name} becomes the variable's value, whatever it
 * is (a list of widths, an inline node); inside a longer text it must be a scalar. */
#include "core/graph/load.h"

#include <string.h>

static pipei_yaml *variable(pipei_loader *l, const pipei_yaml *at, const char *name)
{
    pipei_raw *var = pipei_raw_find(&l->vars, name);
    if (!var) {
        const char *help = pipei_raw_nearest(l, &l->vars, name);
        pipei_report_error(&l->reporter, &at->at,
                           help        ? help
                           : l->vars.n ? NULL
                                       : "define it under vars:, or write "
                                         "$${ for a literal ${",
                           "variable %s is not defined", name);
        return NULL;
    }
    var->used = true;
    if (var->state == 1) {
        pipei_report_error(&l->reporter, &var->at, NULL, "variable %s is defined by itself", name);
        return NULL;
    }
    if (var->state == 0 && var->value) {
        var->state = 1;
        var->value = pipei_expand(l, var->value);       /* does not move l->vars */
        var->state = 2;
    }
    return var->value;
}

static bool grew(pipei_loader *l, const pipei_yaml *at, size_t bytes, size_t nodes)
{
    l->expanded += bytes;
    l->nodes += nodes;
    if (l->expanded <= PIPEI_YAML_BYTES && l->nodes <= PIPEI_YAML_NODES)
        return true;
    if (l->exploded)
        return false;
    l->exploded = true;
    pipei_report_error(&l->reporter, &at->at, NULL, "variables expand to more than %d bytes or %d YAML nodes",
                       PIPEI_YAML_BYTES, PIPEI_YAML_NODES);
    return false;
}

static pipei_yaml *expand_scalar(pipei_loader *l, pipei_yaml *y)
{
    if (!strstr(y->text, "${"))
        return y;
    PIPE_CLEANUP(pipe_text_free) pipe_text out = {0};
    const char *origin = y->origin;
    pipe_text_add(&out, "");
    for (const char *p = y->text; *p; ) {
        const size_t n = strcspn(p, "$");
        pipe_text_add_bytes(&out, p, n);
        p += n;
        if (strncmp(p, "$${", 3) == 0) {
            pipe_text_add(&out, "${");
            p += 3;
        } else if (strncmp(p, "${", 2) == 0) {
            const char *end = strchr(p, '}');
            if (!end) {
                pipei_report_error(&l->reporter, &y->at, "write $${ for a literal ${", "${ without }");
                return NULL;
            }
            const char *name = pipe_arena_strndup(l->arena, p + 2, (size_t)(end - p) - 2);
            pipei_yaml *value = variable(l, y, name);
            if (!value)
                return NULL;
            if (p == y->text && end[1] == '\0') {
                if (!grew(l, y, value->type == PIPEI_YAML_SCALAR ? strlen(value->text) : 0, value->weight))
                    return NULL;
                const pipei_source *s = pipei_source_of(&l->reporter, &value->at);
                pipei_yaml *copy = pipei_yaml_copy(value, 0, l->arena);
                if (!s || !s->override)
                    copy->at = y->at;                   /* mistakes are shown where it is used */
                return copy;
            }
            if (value->type != PIPEI_YAML_SCALAR) {
                pipei_report_error(&l->reporter, &y->at, NULL,
                                   "variable %s is %s and cannot be part of a text", name,
                                   pipei_yaml_type_name(value));
                return NULL;
            }
            if (!grew(l, y, strlen(value->text), 0))
                return NULL;
            pipe_text_add(&out, value->text);
            if (p == y->text)
                origin = value->origin;
            p = end + 1;
        } else if (*p) {
            pipe_text_add(&out, "$");
            p++;
        }
    }
    pipei_yaml *copy = pipei_yaml_copy(y, 0, l->arena);
    copy->text = pipe_arena_strdup(l->arena, out.data);
    copy->origin = origin;
    copy->plain = false;
    return copy;
}

pipei_yaml *pipei_expand(pipei_loader *l, pipei_yaml *y)
{
    if (y->type == PIPEI_YAML_SCALAR)
        return expand_scalar(l, y);
    pipei_yaml *copy = NULL;
    bool good = true;
    for (size_t k = 0; k < y->n; k++) {
        pipei_yaml *new = pipei_expand(l, y->item[k]);
        good = good && new;
        if (new && new != y->item[k]) {
            if (!copy)
                copy = pipei_yaml_copy(y, 0, l->arena);
            copy->weight += new->weight - y->item[k]->weight;
            copy->item[k] = new;
        }
    }
    return !good ? NULL : copy ? copy : y;
}

void pipei_check_set_vars(pipei_loader *l)
{
    for (size_t k = 0; k < l->vars.n; k++) {
        const pipei_raw *var = &l->vars.v[k];
        const pipei_source *s = pipei_source_of(&l->reporter, &var->at);
        if (var->used || !s || !s->override)
            continue;
        const char **names = pipe_arena_alloc(l->arena, l->vars.n * sizeof *names);
        size_t n = 0;
        for (size_t i = 0; i < l->vars.n; i++)
            if (i != k)
                names[n++] = l->vars.v[i].name;
        pipei_report_error(&l->reporter, &var->at, pipei_did_you_mean(l, var->name, names, n),
                           "variable %s is neither defined nor used", var->name);
    }
}
