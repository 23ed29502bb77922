/* Objects without a graph: parameters, inputs, kinds, life and death. */
#include "core/run/object.h"
#include "support/folder.h"

typedef struct state {
    int64_t count;
    double rate;
    bool flag;
    pipe_ints sizes;
    const char *word;
    pipe_object *one;
    pipe_objects many;
    bool created;
} state;

static int created, destroyed;      /* per test: Criterion forks */
static bool refuse;

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *s = self;

    (void)ctx;
    created++;
    if (refuse)
        return pipe_fail(err, PIPE_EINVAL, "count and rate do not fit together");
    s->created = true;
    return PIPE_OK;
}

static void destroy(void *self)
{
    (void)self;
    destroyed++;
}

static const pipe_param params[] = {
    PIPE_INT(state, count, 3, 1, 10, "things", "how many"),
    PIPE_FLOAT(state, rate, 0.5, 0.0, 1.0, NULL, "how fast"),
    PIPE_BOOL(state, flag, false, "whether"),
    PIPE_INTS(state, sizes, "[1, 2]", 1, 100, NULL, "sizes"),
    PIPE_STRING(state, word, "hello", "a word"),
    PIPE_PARAM_END
};
static const pipe_input inputs[] = {
    PIPE_INPUT_OPTIONAL(state, one, "schedule", "one of them"),
    PIPE_INPUT_LIST(state, many, "schedule|sampler", PIPE_OPTIONAL, "several"),
    PIPE_INPUT_END
};
static const pipe_plugin thing = {
    PIPE_ABI(PIPE_KIND_SCHEDULE), .name = "schedule.thing", .version = "1.0.0",
    .params = params, .inputs = inputs, .state_size = sizeof(state), .create = create, .destroy = destroy,
};
/* A state of odd size, so that the kind's common state has to be aligned. */
static const pipe_plugin odd = {PIPE_ABI(PIPE_KIND_SAMPLER), .name = "sampler.odd", .version = "1.0.0",
                                .state_size = 5};

static pipe_context *context(void)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *ctx;

    MUST(pipei_context_standalone(NULL, "node", 7, NULL, &ctx, &err));
    return ctx;
}

Test(object, defaults_and_given_values)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *ctx = context();
    pipe_object *o;

    MUST(pipei_object_create(&thing, "a", NULL, NULL, 0, ctx, &o, &err));
    const state *s = pipe_object_state(o);
    cr_expect(s->created);
    cr_expect_eq(s->count, 3);
    cr_expect_eq(s->rate, 0.5);
    cr_expect_eq(s->sizes.n, 2);
    cr_expect_str_eq(s->word, "hello");
    cr_expect_null(s->one);
    cr_expect_eq(s->many.n, 0);
    cr_expect_str_eq(pipe_object_kind(o), "schedule");
    cr_expect_str_eq(pipe_object_name(o), "a");
    pipe_object_unref(o);

    MUST(pipei_object_create(&thing, "b",
                             (const char *const[]){"count", "9", "sizes", "[4, 5 ,6]", "flag", "true", NULL},
                             NULL, 0, ctx, &o, &err));
    s = pipe_object_state(o);
    cr_expect_eq(s->count, 9);
    cr_expect_eq(s->sizes.n, 3);
    cr_expect_eq(s->sizes.v[2], 6);
    cr_expect(s->flag);
    pipe_object_unref(o);
    cr_expect_eq(destroyed, 2);
    pipei_context_free(ctx);
}

Test(object, wrong_values)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *ctx = context();
    pipe_object *o = NULL, *sampler;
    static const struct { const char *key, *value, *message; } cases[] = {
        {"count", "11", "count|11|10"},
        {"count", "x", "count|x"},
        {"speed", "1", "schedule.thing|`speed`"},
    };

    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++)
        check_failure(pipei_object_create(&thing, "a",
                                          (const char *const[]){cases[k].key, cases[k].value, NULL}, NULL, 0,
                                          ctx, &o, &err),
                      PIPE_EINVAL, &err, cases[k].message, cases[k].key);
    MUST(pipei_object_create(&odd, "s", NULL, NULL, 0, ctx, &sampler, &err));
    check_failure(
        pipei_object_create(&thing, "a", NULL, &(pipei_named_object){"one", sampler}, 1, ctx, &o, &err),
        PIPE_EINVAL, &err, "`one`|schedule|sampler", "wrong kind");
    check_failure(
        pipei_object_create(&thing, "a", NULL, &(pipei_named_object){"two", sampler}, 1, ctx, &o, &err),
        PIPE_EINVAL, &err, "`two`", "no such input");
    cr_expect_null(o, "an output was written on failure");
    cr_expect_eq(created, 0);
    pipe_object_unref(sampler);
    pipei_context_free(ctx);
}

Test(object, a_failed_create_is_destroyed)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *ctx = context();
    pipe_object *o = NULL;

    refuse = true;
    check_failure(pipei_object_create(&thing, "a", NULL, NULL, 0, ctx, &o, &err), PIPE_EINVAL, &err,
                  "do not fit", "");
    cr_expect_null(o);
    cr_expect_eq(destroyed, 1, "destroy() frees what create() had got");
    pipei_context_free(ctx);
}

Test(object, common_state_follows_the_plugins)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *ctx = context();
    pipe_object *o;

    MUST(pipei_object_create(&odd, "s", (const char *const[]){"steps", "12", NULL}, NULL, 0, ctx, &o, &err));
    cr_expect_eq((uintptr_t)pipei_object_common(o) % 16, 0);
    cr_expect_eq(*(int64_t *)pipei_object_common(o), 12,
                 "steps is the first row of a sampler's common state");
    pipe_object_unref(o);
    pipei_context_free(ctx);
}

Test(object, inputs_are_held_and_released)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *ctx = context();
    pipe_object *a, *b, *user, *copy;

    MUST(pipei_object_create(&thing, "a", NULL, NULL, 0, ctx, &a, &err));
    MUST(pipei_object_create(&odd, "b", NULL, NULL, 0, ctx, &b, &err));
    const pipei_named_object given[] = {{"one", a}, {"many", a}, {"many", b}};
    MUST(pipei_object_create(&thing, "user", (const char *const[]){"count", "5", NULL}, given, 3, ctx, &user,
                             &err));
    pipe_object_unref(a);
    pipe_object_unref(b);
    cr_expect_eq(destroyed, 0, "the user holds them");
    const state *s = pipe_object_state(user);
    cr_expect_eq(s->one, a);
    cr_expect_eq(s->many.n, 2);
    cr_expect_eq(s->many.v[1], b);

    MUST(pipe_object_clone(user, ctx, &copy, &err));
    const state *c = pipe_object_state(copy);
    cr_expect_neq(c, s);
    pipe_object_unref(user);                            /* the clone needs nothing of it */
    cr_expect_eq(c->count, 5);
    cr_expect_eq(c->one, a);
    cr_expect_eq(c->many.n, 2);
    cr_expect_str_eq(pipe_object_name(copy), "user");
    cr_expect_eq(destroyed, 1);
    pipe_object_unref(pipe_object_ref(copy));
    cr_expect_eq(destroyed, 1);
    pipe_object_unref(copy);
    cr_expect_eq(destroyed, 3, "the clone and its input");
    pipei_context_free(ctx);
}

/* ---- contexts ---- */

Test(context, reports)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *ctx = context();
    pipe_metrics *m;
    const double *step, *value;
    const char *const *names;
    double last;
    size_t n;

    MUST(pipe_report(ctx, "fid", 3.5, &err));
    MUST(pipe_report_at(ctx, 10, "loss", 1.0, &err));
    MUST(pipe_report_at(ctx, 20, "loss", 0.5, &err));
    check_failure(pipe_report_at(ctx, 30, "loss", 0.0 / 0.0, &err), PIPE_EDOMAIN, &err, "`loss`|NaN|step 30",
                  "NaN");
    check_failure(pipe_report(ctx, "fid", 1.0 / 0.0, &err), PIPE_EDOMAIN, &err, "`fid`|infinite", "infinity");
    check_failure(pipe_report(ctx, "step", 1.0, &err), PIPE_EINVAL, &err, "`step`", "reserved");
    MUST(pipei_context_metrics(ctx, &m, &err));
    cr_expect_eq(pipe_metrics_names(m, &names), 2);
    cr_expect_str_eq(names[0], "fid");
    cr_assert(pipe_metrics_curve(m, "loss", &step, &value, &n));
    cr_expect_eq(n, 2);
    cr_expect_eq(step[1], 20);
    cr_expect_eq(value[1], 0.5);
    cr_expect(pipe_metrics_last(m, "loss", &last));
    cr_expect_eq(last, 0.5);
    cr_expect_not(pipe_metrics_last(m, "accuracy", &last));
    pipe_object_unref(m);
    pipei_context_free(ctx);
}

Test(context, output_files)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    pipe_context *ctx, *none = context();
    const char *path, *again;
    static const char *const bad[] = {"", "/etc/passwd", "../x", "a/../../x", "a//b", ".hidden", "a\nb"};

    MUST(pipei_context_standalone(NULL, "node", 7, folder, &ctx, &err));
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++)
        check_failure(pipe_output_path(ctx, bad[k], &path, &err), PIPE_EINVAL, &err, "output file", bad[k]);
    MUST(pipe_output_path(ctx, "sub/0000.png", &path, &err));
    MUST(pipei_file_write(path, "x", 1, &err));
    MUST(pipe_output_path(ctx, "sub/0000.png", &again, &err));
    cr_expect_eq(path, again);
    check_failure(pipe_output_path(none, "a", &path, &err), PIPE_EUNSUPPORTED, &err, "node", "no folder");
    pipei_context_free(ctx);
    pipei_context_free(none);
}

Test(context, yields)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_context *ctx = context();
    pipe_dataset_info info = {.size = sizeof info, .count = 2, .n_fields = 1,
                              .field = {{.name = "x", .shape = PIPE_SHAPE(3), .dtype = PIPE_F32}}};
    pipe_dataset *d;
    pipe_object *o;

    MUST(pipe_dataset_new(ctx, &info, &d, &err));
    MUST(pipe_yield(ctx, "images", d, &err));
    cr_expect_eq(pipei_context_yielded(ctx, "images"), d);
    cr_expect_null(pipei_context_yielded(ctx, "labels"));
    MUST(pipei_object_create(&odd, "s", NULL, NULL, 0, ctx, &o, &err));
    check_failure(pipe_yield(ctx, "sampler", o, &err), PIPE_EUNSUPPORTED, &err, "`sampler`|without weights",
                  "sampler");
    check_failure(pipe_yield(ctx, "images", NULL, &err), PIPE_EPLUGIN, &err, "`images`", "nothing");
    pipe_object_unref(o);
    pipe_object_unref(d);
    pipei_context_free(ctx);
}
