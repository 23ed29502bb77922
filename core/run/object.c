/* Objects: instances of plugins.
 *
 * One block holds the plugin's state and, behind it, what its kind adds:
 *
 *     state: [ plugin->state_size | padding to 16 | pipei_kind_state_size(kind) ]
 *
 * An object remembers what it was made from, so that a clone needs neither the
 * graph nor the registry. */
#include "core/run/context.h"

#include <stdio.h>
#include <string.h>

size_t pipei_param_rows(const pipe_plugin *p)
{
    size_t n = 0;

    for (const pipe_param *row = p->params; row && row->name; row++)
        n++;
    for (const pipe_param *row = pipei_kind_params(p->kind); row && row->name; row++)
        n++;
    return n;
}

static size_t own_rows(const pipe_plugin *p)
{
    size_t n = 0;

    for (const pipe_param *row = p->params; row && row->name; row++)
        n++;
    return n;
}

const pipe_param *pipei_param_row(const pipe_plugin *p, size_t k)
{
    const size_t own = own_rows(p);

    return k < own ? &p->params[k] : &pipei_kind_params(p->kind)[k - own];
}

size_t pipei_input_rows(const pipe_plugin *p)
{
    size_t n = 0;

    for (const pipe_input *row = p->inputs; row && row->name; row++)
        n++;
    return n;
}

static size_t common_offset(const pipe_plugin *p)
{
    return (p->state_size + 15) & ~(size_t)15;
}

void *pipei_object_common(const pipe_object *o)
{
    return (char *)o->state + common_offset(o->plugin);
}

/* ---- creation ---- */

static const pipei_given *copy_given(pipe_arena *a, const pipei_given *g)
{
    if (!g)
        return NULL;
    const char **text = pipe_arena_alloc(a, (g->n + 1) * sizeof *text);
    for (size_t k = 0; k < g->n; k++)
        text[k] = pipe_arena_strdup(a, g->text[k]);
    pipei_given *copy = pipe_arena_alloc(a, sizeof *copy);
    *copy = (pipei_given){.list = g->list, .text = text, .n = g->n};
    return copy;
}

static pipe_status fill_params(pipe_object *o, const pipei_recipe *r, pipe_error *err)
{
    const size_t own = own_rows(o->plugin);

    o->n_params = pipei_param_rows(o->plugin);
    o->given = pipe_arena_alloc(o->arena, (o->n_params + 1) * sizeof *o->given);
    for (size_t k = 0; k < o->n_params; k++) {
        const pipe_param *row = pipei_param_row(o->plugin, k);
        o->given[k] = copy_given(o->arena, r->given ? r->given[k] : NULL);
        const pipe_status status = pipei_param_store(
            row, o->given[k], k < own ? o->state : pipei_object_common(o), o->arena, err);
        if (status != PIPE_OK)
            return pipe_context_fail(err, status, "%s", row->name);
    }
    return PIPE_OK;
}

static pipe_status fill_inputs(pipe_object *o, const pipei_recipe *r, pipe_error *err)
{
    o->n_inputs = pipei_input_rows(o->plugin);
    o->linked = pipe_arena_alloc(o->arena, (o->n_inputs + 1) * sizeof *o->linked);
    for (size_t k = 0; k < o->n_inputs; k++) {
        const pipe_input *row = &o->plugin->inputs[k];
        const pipei_linked given = r->linked ? r->linked[k] : (pipei_linked){0};
        if (given.n == 0 && !(row->flags & PIPE_OPTIONAL))
            return pipe_fail(err, PIPE_EINVAL, "input `%s` is missing: %s", row->name, row->kind);
        if (given.n > 1 && !(row->flags & PIPE_LIST))
            return pipe_fail(err, PIPE_EINVAL, "input `%s` takes one object, not %zu", row->name, given.n);
        pipei_linked *mine = &o->linked[k];
        mine->object = pipe_arena_alloc(o->arena, (given.n + 1) * sizeof(pipe_object *));
        for (size_t i = 0; i < given.n; i++) {
            if (!pipei_kind_matches(row->kind, given.object[i]->kind))
                return pipe_fail(err, PIPE_EINVAL, "input `%s` takes %s; %s is of kind %s", row->name,
                                 row->kind, given.object[i]->name, given.object[i]->kind);
            mine->object[mine->n++] = pipe_object_ref(given.object[i]);
        }
        void *slot = (char *)o->state + row->offset;
        if (row->flags & PIPE_LIST)
            *(pipe_objects *)slot = (pipe_objects){.v = mine->object, .n = mine->n};
        else
            *(pipe_object **)slot = mine->n ? mine->object[0] : NULL;
    }
    return PIPE_OK;
}

/* Order: the plugin may use its inputs and weights until its destroy() returns. */
static void destroy(pipe_object *o)
{
    if (o->plugin->destroy)
        o->plugin->destroy(o->state);
    if (o->model)
        pipei_model_free(o->model);
    if (o->declared.schedule)
        pipe_object_unref(o->declared.schedule);
    for (size_t k = o->n_inputs; k-- > 0; )
        for (size_t i = o->linked[k].n; i-- > 0; )
            pipe_object_unref(o->linked[k].object[i]);
    o->ctx->objects--;
    pipe_arena_free(o->arena);
    pipe_free(o->state);
    pipe_free(o->name);
    pipe_free(o);
}

static bool is_given(const void *arg, const char *name)
{
    const pipe_object *o = arg;

    for (size_t k = 0; k < o->n_params; k++)
        if (strcmp(pipei_param_row(o->plugin, k)->name, name) == 0)
            return pipei_param_changed(pipei_param_row(o->plugin, k), o->given[k]);
    for (size_t k = 0; k < o->n_inputs; k++)
        if (strcmp(o->plugin->inputs[k].name, name) == 0)
            return o->linked[k].n > 0;
    return false;
}

static pipe_status check_together(const pipe_object *o, pipe_error *err)
{
    pipe_status status = pipei_rules_check(o->plugin->rules, is_given, o, NULL, err);

    if (status == PIPE_OK)
        status = pipei_kind_check(o->plugin, pipei_object_common(o), is_given, o, NULL, err);
    return status == PIPE_OK ? PIPE_OK : pipe_context_fail(err, status, "%s", o->name);
}

static pipe_status build(pipe_object *o, const pipei_recipe *r, pipe_error *err)
{
    PIPE_TRY(fill_params(o, r, err));
    PIPE_TRY(fill_inputs(o, r, err));
    PIPE_TRY(check_together(o, err));
    if (o->plugin->flags & PIPE_TRAINABLE)
        PIPE_TRY(pipei_model_new(o->ctx, o->name, &o->model, err));
    return o->plugin->create ? o->plugin->create(o->state, o->ctx, err) : PIPE_OK;
}

pipe_status pipei_object_build(const pipei_recipe *r, pipe_context *ctx, pipe_object **out, pipe_error *err)
{
    const pipe_plugin *p = r->plugin;
    size_t bytes;

    if (!pipe_add_size(common_offset(p), pipei_kind_state_size(p->kind), &bytes))
        return pipe_fail(err, PIPE_EPLUGIN, "%s: state of %zu bytes", p->name, p->state_size);
    pipe_object *o = pipe_alloc(sizeof *o);
    *o = (pipe_object){.refs = 1, .kind = p->kind, .name = pipe_strdup(r->name), .plugin = p,
                       .state = pipe_alloc(bytes ? bytes : 1), .ctx = ctx, .arena = pipe_arena_new()};
    ctx->objects++;
    const pipe_status status = build(o, r, err);
    if (status != PIPE_OK) {
        destroy(o);
        return status;
    }
    *out = o;
    return PIPE_OK;
}

pipe_status pipe_object_clone(pipe_object *o, pipe_context *ctx, pipe_object **out, pipe_error *err)
{
    const pipei_recipe r = {.plugin = o->plugin, .name = o->name, .given = o->given, .linked = o->linked};

    return pipei_object_build(&r, ctx, out, err);
}

/* ---- without a graph ---- */

/* "[a, b]" is a list where the row is one; the rest is a scalar. */
static const pipei_given *given_of_text(const pipe_param *row, const char *text, pipe_arena *a)
{
    const bool list = row->type == PIPE_TYPE_INTS || row->type == PIPE_TYPE_FLOATS ||
                      row->type == PIPE_TYPE_STRINGS;
    const size_t n = strlen(text);
    pipei_given *g = pipe_arena_alloc(a, sizeof *g);

    if (!list || n < 2 || text[0] != '[' || text[n - 1] != ']') {
        const char **one = pipe_arena_alloc(a, sizeof *one);
        one[0] = pipe_arena_strdup(a, text);
        *g = (pipei_given){.text = one, .n = 1};
        return g;
    }
    const char **items = pipe_arena_alloc(a, n * sizeof *items);
    size_t count = 0;
    for (const char *p = text + 1; p < text + n - 1; ) {
        p += strspn(p, " ");
        size_t length = strcspn(p, ",]");
        const char *next = p + length + (p[length] == ',');
        while (length > 0 && p[length - 1] == ' ')
            length--;
        if (length > 0)
            items[count++] = pipe_arena_strndup(a, p, length);
        p = next;
    }
    *g = (pipei_given){.list = true, .text = items, .n = count};
    return g;
}

static pipe_status named_params(const pipe_plugin *p, const char *const *params, const pipei_given **given,
                                pipe_arena *a, pipe_error *err)
{
    const size_t rows = pipei_param_rows(p);

    for (size_t i = 0; params && params[i]; i += 2) {
        size_t k = 0, item = 0;
        while (k < rows && strcmp(pipei_param_row(p, k)->name, params[i]) != 0)
            k++;
        if (k == rows)
            return pipe_fail(err, PIPE_EINVAL, "%s has no parameter `%s`", p->name, params[i]);
        given[k] = given_of_text(pipei_param_row(p, k), params[i + 1], a);
        const pipe_status status = pipei_param_check(pipei_param_row(p, k), given[k], &item, err);
        if (status != PIPE_OK)
            return pipe_context_fail(err, status, "%s", params[i]);
    }
    for (size_t k = 0; k < rows; k++)
        if (!given[k] && !pipei_param_row(p, k)->fallback)
            return pipe_fail(err, PIPE_EINVAL, "%s: parameter `%s` is required", p->name,
                             pipei_param_row(p, k)->name);
    return PIPE_OK;
}

static pipe_status named_inputs(const pipe_plugin *p, const pipei_named_object *inputs, size_t n,
                                pipei_linked *linked, pipe_arena *a, pipe_error *err)
{
    const size_t rows = pipei_input_rows(p);

    for (size_t k = 0; k < rows; k++)
        linked[k].object = pipe_arena_alloc(a, (n + 1) * sizeof(pipe_object *));
    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        while (k < rows && strcmp(p->inputs[k].name, inputs[i].name) != 0)
            k++;
        if (k == rows)
            return pipe_fail(err, PIPE_EINVAL, "%s has no input `%s`", p->name, inputs[i].name);
        linked[k].object[linked[k].n++] = inputs[i].object;
    }
    return PIPE_OK;
}

static void arena_cleanup(pipe_arena **a)
{
    pipe_arena_free(*a);
}

pipe_status pipei_object_create(const pipe_plugin *plugin, const char *name, const char *const *params,
                                const pipei_named_object *inputs, size_t n_inputs, pipe_context *ctx,
                                pipe_object **out, pipe_error *err)
{
    PIPE_CLEANUP(arena_cleanup) pipe_arena *a = pipe_arena_new();
    const pipei_given **given = pipe_arena_alloc(a, (pipei_param_rows(plugin) + 1) * sizeof *given);
    pipei_linked *linked = pipe_arena_alloc(a, (pipei_input_rows(plugin) + 1) * sizeof *linked);

    PIPE_TRY(named_params(plugin, params, given, a, err));
    PIPE_TRY(named_inputs(plugin, inputs, n_inputs, linked, a, err));
    const pipei_recipe r = {.plugin = plugin, .name = name, .given = given, .linked = linked};
    return pipei_object_build(&r, ctx, out, err);
}

pipe_status pipei_step_run(const pipe_plugin *plugin, const char *const *params,
                           const pipei_named_object *inputs, size_t n_inputs, pipe_context *ctx,
                           pipe_error *err)
{
    pipe_object *step;

    PIPE_TRY(pipei_object_create(plugin, pipe_context_node(ctx), params, inputs, n_inputs, ctx, &step, err));
    ctx->plugin = plugin;
    ctx->step = step;
    const pipe_status status = plugin->run(step->state, ctx, err);
    ctx->step = NULL;
    pipe_object_unref(step);
    return status;
}

/* ---- the public face ---- */

const char *pipe_object_kind(const pipe_object *o)
{
    return o->kind;
}

const char *pipe_object_name(const pipe_object *o)
{
    return o->name;
}

const pipe_plugin *pipe_object_plugin(const pipe_object *o)
{
    return o->plugin;
}

void *pipe_object_state(const pipe_object *o)
{
    return o->state;
}

pipe_context *pipe_object_context(const pipe_object *o)
{
    return o->ctx;
}

pipe_object *pipe_object_ref(pipe_object *o)
{
    if (o)
        o->refs++;
    return o;
}

void pipe_object_unref(pipe_object *o)
{
    if (o && --o->refs == 0)
        destroy(o);
}

pipe_tensor *pipe_object_poison(const pipe_object *o, pipe_status status, const char *fmt, ...)
{
    char text[1536];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return pipe_poison(pipe_context_engine(o->ctx), status, "%s: %s", o->name, text);
}
