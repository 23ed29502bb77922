/* --set node.key=value, seed=7, device=gpu, vars.NAME=value. */
#include "core/graph/load.h"

#include <string.h>

/* A value that begins like a list, mapping or quoted text is parsed as YAML;
 * anything else is one scalar, letter by letter, so that a path or a text with
 * ": " or " #" in it needs no second pair of quotes on a command line. */
static pipei_yaml *parse_value(pipei_loader *l, const pipei_source *s, size_t start)
{
    const char *text = s->text + start;
    const pipei_position at = {.file = s->name, .line = 1, .column = (uint32_t)start + 1,
                               .length = (uint32_t)strlen(text)};
    if (*text && strchr("[{\"'", *text))
        return pipei_yaml_parse(s, text, strlen(text), (uint32_t)start, &l->nodes, l->arena, &l->reporter);
    pipei_yaml *y = pipei_yaml_scalar(text, &at, l->arena);
    l->nodes++;
    return y;
}

static void read_one(pipei_loader *l, const char *text)
{
    pipei_source *s = pipei_source_add(l, "--set", l->cwd->folder);
    s->text = pipe_arena_strdup(l->arena, text);
    s->length = strlen(text);
    s->override = true;
    const size_t n = strcspn(text, "=");
    const pipei_position at = {.file = s->name, .line = 1, .column = 1, .length = (uint32_t)(n ? n : 1)};
    const char *target = pipe_arena_strndup(l->arena, text, n);
    if (text[n] == '\0' || n == 0 || text[0] == '.' || text[n - 1] == '.' || strstr(target, "..")) {
        pipei_report_error(&l->reporter, &at, "node.key=value, seed=value, device=value or vars.name=value",
                           "this is no assignment");
        return;
    }
    pipei_yaml *value = parse_value(l, s, n + 1);
    if (!value)
        return;
    if (strcmp(target, "seed") == 0 || strcmp(target, "device") == 0) {
        if (value->type != PIPEI_YAML_SCALAR)
            pipei_report_error(&l->reporter, &value->at, NULL, "%s is one value, not %s", target,
                               pipei_yaml_type_name(value));
        else if (target[0] == 's')
            l->seed = value;
        else
            l->device = value;
        pipei_raw_add(l, &l->set, target, &at, NULL);       /* pins a sweep over it */
    } else if (strncmp(target, "vars.", 5) == 0) {
        pipei_raw *before = pipei_raw_find(&l->vars, target + 5);
        if (before)
            before->value = value;
        else
            pipei_raw_add(l, &l->vars, target + 5, &at, value);
        pipei_raw_add(l, &l->set, target, &at, NULL);
    } else if (!strchr(target, '.')) {
        static const char *const plain[] = {"seed", "device"};
        const char *help = pipei_did_you_mean(l, target, plain, 2);
        pipei_report_error(&l->reporter, &at, help ? help : "node.key=value, seed=value, device=value or "
                           "vars.name=value", "%s cannot be set", target);
    } else {
        pipei_raw_add(l, &l->set, target, &at, value);
    }
}

void pipei_overrides_read(pipei_loader *l, const char *const *overrides, size_t n)
{
    for (size_t k = 0; k < n; k++)
        read_one(l, overrides[k]);
    /* They are already variables: now reading the file keeps them, since the first wins. */
}

static size_t index_of(const pipei_yaml *y, const char *word, size_t n)
{
    if (y->type == PIPEI_YAML_MAP) {
        for (size_t k = 0; k < y->n; k++)
            if (strlen(y->key[k]->text) == n && memcmp(y->key[k]->text, word, n) == 0)
                return k;
    } else if (y->type == PIPEI_YAML_LIST && n > 0 && n < 6) {
        size_t k = 0;
        for (size_t c = 0; c < n; c++) {
            if (word[c] < '0' || word[c] > '9')
                return SIZE_MAX;
            k = 10 * k + (size_t)(word[c] - '0');
        }
        return k < y->n ? k : SIZE_MAX;
    }
    return SIZE_MAX;
}

/* A copy of `y` with the value at `path` replaced; NULL: it is not there. */
static pipei_yaml *replaced(pipei_loader *l, pipei_yaml *y, const char *path, const pipei_position *at,
                            pipei_yaml *value)
{
    const size_t n = strcspn(path, ".");
    size_t k = index_of(y, path, n);
    const bool last = path[n] == '\0';
    if (k == SIZE_MAX && (!last || y->type != PIPEI_YAML_MAP || n == 0))
        return NULL;
    pipei_yaml *copy = pipei_yaml_copy(y, 1, l->arena);
    if (k == SIZE_MAX)
        k = copy->n++;
    pipei_yaml *new = last ? value : replaced(l, copy->item[k], path + n + 1, at, value);
    if (!new)
        return NULL;
    copy->item[k] = new;
    if (last && copy->type == PIPEI_YAML_MAP)
        copy->key[k] = pipei_yaml_scalar(path, at, l->arena);
    return copy;
}

bool pipei_yaml_set(pipei_loader *l, pipei_raw *node, const char *path, const pipei_position *at,
                    pipei_yaml *value)
{
    if (!node->value || node->value->type != PIPEI_YAML_MAP)
        return false;                                   /* reported with the node itself */
    pipei_yaml *new = replaced(l, node->value, path, at, value);
    if (new) {
        node->value = new;
        return true;
    }
    const char *dot = strrchr(path, '.');
    const char *owner = dot ? pipe_arena_strndup(l->arena, path, (size_t)(dot - path)) : path;
    pipei_report_error(&l->reporter, at,
                       pipe_arena_format(l->arena, "give all of it: %s.%s={plugin: ..., %s: ...}", node->name,
                                         owner, dot ? dot + 1 : "key"),
                       "%s.%s is not written as an inline node, so nothing in it can be set", node->name,
                       owner);
    return false;
}

void pipei_overrides_apply(pipei_loader *l)
{
    for (size_t k = 0; k < l->set.n; k++) {
        const pipei_raw *set = &l->set.v[k];
        const char *dot = strchr(set->name, '.');
        if (!set->value || !dot)
            continue;
        const char *name = pipe_arena_strndup(l->arena, set->name, (size_t)(dot - set->name));
        pipei_raw *node = pipei_raw_find(&l->raw, name);
        if (node)
            pipei_yaml_set(l, node, dot + 1, &set->at, set->value);
        else
            pipei_report_error(&l->reporter, &set->at, pipei_raw_nearest(l, &l->raw, name),
                               "there is no node %s", name);
    }
}
