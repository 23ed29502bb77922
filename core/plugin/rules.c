/* What of a node's parameters and inputs goes together. */
#include "core/plugin/param.h"

#include <string.h>

enum { NAME_SIZE = 128 };

bool pipei_next_name(const char **rest, char *name, size_t size)
{
    const size_t n = *rest ? strcspn(*rest, "|") : 0;

    if (n == 0 || n >= size)
        return false;
    memcpy(name, *rest, n);
    name[n] = '\0';
    *rest += n + ((*rest)[n] == '|');
    return true;
}

bool pipei_param_changed(const pipe_param *p, const pipei_given *v)
{
    if (!v)
        return false;
    if (!p->fallback)
        return true;
    pipe_arena *a = pipe_arena_new();
    const bool same = strcmp(pipei_param_canonical(p, v, a), pipei_param_canonical(p, NULL, a)) == 0;
    pipe_arena_free(a);
    return !same;
}

static pipe_status check(const pipe_rule *r, pipei_is_given given, const void *arg, pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text all = {0};
    char name[NAME_SIZE];

    for (const char *rest = r->excludes; pipei_next_name(&rest, name, sizeof name);)
        if (given(arg, name))
            return pipe_fail(err, PIPE_EINVAL, "`%s` and `%s` exclude each other", r->name, name);
    for (const char *rest = r->needs; pipei_next_name(&rest, name, sizeof name);) {
        if (given(arg, name))
            return PIPE_OK;
        pipe_text_addf(&all, "%s`%s`", all.length ? " or " : "", name);
    }
    if (!all.length)
        return PIPE_OK;
    return pipe_fail(err, PIPE_EINVAL, "`%s` is given, but does nothing without %s", r->name, all.data);
}

pipe_status pipei_rules_check(const pipe_rule *rules, pipei_is_given given, const void *arg, const char **at,
                              pipe_error *err)
{
    for (const pipe_rule *r = rules; r && r->name; r++) {
        if (at)
            *at = r->name;
        if (given(arg, r->name))
            PIPE_TRY(check(r, given, arg, err));
    }
    return PIPE_OK;
}
