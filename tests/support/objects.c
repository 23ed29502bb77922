#include "support/objects.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

void test_ok(pipe_status status, const pipe_error *err, const char *file, int line)
{
    cr_assert(status == PIPE_OK, "%s:%d: %s: %s", file, line, pipe_status_name(status), err->message);
}

void *test_hold(void *p)
{
    static void **held;
    static size_t n;

    held = pipe_realloc(held, (n + 1) * sizeof *held);
    return held[n++] = p;
}

pipe_engine *test_engine(void)
{
    static pipe_engine *engine;
    pipe_error err = PIPE_ERROR_INIT;

    if (!engine)
        OK(pipei_engine_new("cpu", NULL, &engine, &err));
    return engine;
}

pipe_context *test_context(const char *node, uint64_t seed)
{
    pipe_context *ctx = NULL;
    pipe_error err = PIPE_ERROR_INIT;

    OK(pipei_context_standalone(test_engine(), node, seed, NULL, &ctx, &err));
    return test_hold(ctx);
}

const pipe_plugin *test_plugin(const char *kind, const char *name)
{
    char path[4096];
    const char *dot = strchr(name, '.');
    const pipe_plugin *plugin;
    void *handle;

    snprintf(path, sizeof path, "%s/plugins/.libs/%s-%s.so", TEST_BUILDDIR, kind, dot ? dot + 1 : name);
    handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    cr_assert(handle, "%s", dlerror());
    plugin = dlsym(handle, PIPE_ENTRY_SYMBOL);
    cr_assert(plugin, "%s: no %s", path, PIPE_ENTRY_SYMBOL);
    cr_assert_str_eq(plugin->name, name);
    return plugin;
}

pipe_status test_object_try(const char *kind, const char *name, const char *const *params,
                            const pipei_named_object *inputs, pipe_object **out, pipe_error *err)
{
    size_t n = 0;

    while (inputs && inputs[n].name)
        n++;
    return pipei_object_create(test_plugin(kind, name), name, params, inputs, n, test_context(name, 1), out,
                               err);
}

pipe_object *test_object(const char *kind, const char *name, const char *const *params,
                         const pipei_named_object *inputs)
{
    pipe_object *object = NULL;
    pipe_error err = PIPE_ERROR_INIT;

    OK(test_object_try(kind, name, params, inputs, &object, &err));
    return test_hold(object);
}
