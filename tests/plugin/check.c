/* What the checks of a descriptor find: a good one, changed in one place at a time. */
#include "core/plugin/scan.h"
#include "support/folder.h"

#include <math.h>
#include <stdio.h>

typedef struct state {
    int64_t a, b;
    const char *s;
    pipe_object *in;
    pipe_objects list;
} state;

static const char *const modes[] = {"x", "y", NULL}, *const none[] = {NULL},
                         *const hollow[] = {"x", "", NULL};

/* One descriptor and tables that a case may scribble on. */
typedef struct lab {
    pipe_plugin p;
    pipe_param params[4];
    pipe_input inputs[4];
    pipe_output outputs[4];
    pipe_rule rules[3];
} lab;

static pipe_status describe(void *self, pipe_dataset_info *info, pipe_error *err)
{
    (void)self;
    (void)info;
    (void)err;
    return PIPE_OK;
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    (void)self;
    (void)s;
    (void)err;
    return PIPE_OK;
}

static pipe_status run(void *self, pipe_context *ctx, pipe_error *err)
{
    (void)self;
    (void)ctx;
    (void)err;
    return PIPE_OK;
}

static void reset(lab *l)
{
    static const pipe_param params[] = {PIPE_INT(state, a, 1, 0, 9, NULL, "a"),
                                        PIPE_INT(state, b, 2, 0, 9, NULL, "b"), PIPE_PARAM_END};
    static const pipe_input inputs[] = {PIPE_INPUT(state, in, "denoiser", "in"),
                                        PIPE_INPUT_LIST(state, list, "any", 0, "list"), PIPE_INPUT_END};
    *l = (lab){.p = {PIPE_ABI(PIPE_KIND_SAMPLER), .name = "sampler.x", .version = "1.2.3", .summary = "x",
                     .state_size = sizeof(state), .sampler = {.step = step}}};
    memcpy(l->params, params, sizeof params);
    memcpy(l->inputs, inputs, sizeof inputs);
    l->p.params = l->params;
    l->p.inputs = l->inputs;
    l->p.outputs = l->outputs;
}

static void as_step(lab *l)
{
    l->p.kind = PIPE_KIND_STEP;
    l->p.name = "x";
    l->p.sampler.step = NULL;
    l->p.run = run;
    l->outputs[0] = (pipe_output)PIPE_OUTPUT("out", "dataset", "out");
}

static void rule(lab *l, const char *name, const char *needs, const char *excludes)
{
    l->rules[0] = (pipe_rule){.name = name, .needs = needs, .excludes = excludes};
    l->p.rules = l->rules;
}

/* CASE(message, statements): the statements change `l`; message NULL: it stays good. */
#define CASES(CASE) \
    CASE(NULL, (void)l) \
    CASE(NULL, l->p.size += 64) \
    CASE(NULL, l->p.params = NULL; l->p.inputs = NULL; l->p.state_size = 0) \
    CASE(NULL, l->p.name = "vendor.x") \
    CASE(NULL, l->p.kind = "vendor.kind"; l->p.name = "vendor.x") \
    CASE(NULL, l->p.version = "10.0.0-rc.1+build") \
    CASE(NULL, as_step(l)) \
    CASE(NULL, as_step(l); l->p.kind = PIPE_KIND_METRIC; l->p.name = "metric.x") \
    CASE(NULL, as_step(l); l->outputs[0] = (pipe_output)PIPE_OUTPUT_LIKE("o", "in", "o")) \
    CASE(NULL, l->params[0].fallback = NULL) \
    CASE(NULL, l->params[0].min = 1; l->params[0].max = 0; l->params[0].fallback = "100") \
    CASE("magic number is 0x00000007", l->p.magic = 7) \
    CASE("plugin ABI 9.0, this engine has 1.0", l->p.abi_major = 9) \
    CASE("newer plugin ABI 1.7", l->p.abi_minor = 7) \
    CASE("truncated", l->p.size = 8) \
    CASE("its kind \"(NULL)\"", l->p.kind = NULL) \
    CASE("did you mean \"sampler\"", l->p.kind = "samler") \
    CASE("written \"vendor.kind\"", l->p.kind = "zzzzzz") \
    CASE("its kind \"Sampler\"", l->p.kind = "Sampler") \
    CASE("name \"(NULL)\"", l->p.name = NULL) \
    CASE("name \"\"", l->p.name = "") \
    CASE("name \"sampler.X\"", l->p.name = "sampler.X") \
    CASE("name \"sampler..x\"", l->p.name = "sampler..x") \
    CASE("name \"sampler.-x\"", l->p.name = "sampler.-x") \
    CASE("at most 64 bytes", \
         l->p.name = "sampler.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa") \
    CASE("needs a first part: \"sampler.x\"", l->p.name = "x") \
    CASE("named \"denoiser.x\" but its kind is \"sampler\"", l->p.name = "denoiser.x") \
    CASE("version is missing", l->p.version = NULL) \
    CASE("version \"1.2\" is not", l->p.version = "1.2") \
    CASE("version \"1.2.03\" is not", l->p.version = "1.2.03") \
    CASE("version \"1.2.3-\" is not", l->p.version = "1.2.3-") \
    CASE("version \"1.2.3 \" is not", l->p.version = "1.2.3 ") \
    CASE("summary is missing", l->p.summary = "") \
    CASE("summary contains more than one line", l->p.summary = "a\nb") \
    CASE("summary is not UTF-8", l->p.summary = "a\xC0\xAF") \
    CASE("help is not UTF-8", l->p.help = "a\xED\xA0\x80") \
    CASE("help contains a control character", l->p.help = "a\033[1m") \
    CASE("`sampler.step`", l->p.sampler.step = NULL) \
    CASE("has no `run`", l->p.run = run) \
    CASE("must have the function `run`", as_step(l); l->p.run = NULL) \
    CASE("must have the function `dataset.read`", l->p.kind = PIPE_KIND_DATASET; l->p.name = "dataset.x"; \
         l->p.sampler.step = NULL; l->p.dataset.describe = describe) \
    CASE("parameter name \"9a\"", l->params[0].name = "9a") \
    CASE("parameter name \"plugin\" is taken", l->params[0].name = "plugin") \
    CASE("\"b\" is used twice", l->params[0].name = "b") \
    CASE("\"a\" is used twice", l->inputs[0].name = "a") \
    CASE("\"steps\" is a parameter that every sampler has", l->params[0].name = "steps") \
    CASE("unknown type 77", l->params[0].type = (pipe_type)77) \
    CASE("\"a\" lies at bytes", l->params[0].offset = sizeof(state)) \
    CASE("\"a\" lies at bytes", l->params[0].offset = SIZE_MAX - 3) \
    CASE("\"a\" is not aligned", l->params[0].offset = 3) \
    CASE("\"b\" and \"a\" share memory", l->params[1].offset = 0) \
    CASE("\"in\" and \"a\" share memory", l->inputs[0].offset = 0) \
    CASE("\"list\" lies at bytes", l->inputs[1].offset = sizeof(state) - 8) \
    CASE("bound of parameter \"a\"", l->params[0].max = NAN) \
    CASE("\"a\" has no help", l->params[0].help = NULL) \
    CASE("default of parameter \"a\": 10 is above the maximum 9", l->params[0].fallback = "10") \
    CASE("default of parameter \"a\": \"x\" is not an integer", l->params[0].fallback = "x") \
    CASE("\"a\" has no choices", l->params[0].type = PIPE_TYPE_CHOICE; l->params[0].choices = none) \
    CASE("a choice is missing", l->params[0].type = PIPE_TYPE_CHOICE; l->params[0].choices = hollow) \
    CASE("has choices but", l->params[0].choices = modes) \
    CASE("default of parameter \"a\": \"1\" is none of x, y", l->params[0].type = PIPE_TYPE_CHOICE; \
         l->params[0].choices = modes) \
    CASE("old name \"-\"", l->params[0].alias = "-") \
    CASE("input \"in\" has no kind", l->inputs[0].kind = "denoiser|") \
    CASE("input \"in\" has no help", l->inputs[0].help = "") \
    CASE("default of input \"in\"", l->inputs[0].fallback = "A b") \
    CASE("is a component and has no outputs", l->outputs[0] = (pipe_output)PIPE_OUTPUT("o", "dataset", "o")) \
    CASE("cannot be named \"metrics\"", as_step(l); l->outputs[0].name = "metrics") \
    CASE("\"out\" is listed twice", as_step(l); l->outputs[1] = l->outputs[0]) \
    CASE("needs either a kind or the input", as_step(l); l->outputs[0].like = "in") \
    CASE("which does not exist", as_step(l); l->outputs[0].kind = NULL; l->outputs[0].like = "nix") \
    CASE(NULL, rule(l, "a", "b|in", NULL)) \
    CASE(NULL, rule(l, "in", NULL, "list|a")) \
    CASE("a rule is about \"c\", which is no", rule(l, "c", "b", NULL)) \
    CASE("the rule about \"a\" says nothing", rule(l, "a", NULL, NULL)) \
    CASE("the rule about \"a\" names \"b|c\"", rule(l, "a", "b|c", NULL)) \
    CASE("the rule about \"a\" names \"steps\"", rule(l, "a", NULL, "steps")) \
    CASE("the rule about \"a\" names \"|b\"", rule(l, "a", "|b", NULL))

static size_t set(lab *l, size_t k, const char **message)
{
    size_t n = 0;
#define APPLY(message_, change) \
    if (n++ == k) { \
        *message = (message_); \
        change; \
    }
    CASES(APPLY)
#undef APPLY
    return n;
}

Test(plugin, descriptors_are_checked_in_every_place)
{
    const char *message = NULL;
    lab *l = pipe_alloc(sizeof *l);
    const size_t n = set(l, SIZE_MAX, &message);
    for (size_t k = 0; k < n; k++) {
        pipe_error err = PIPE_ERROR_INIT;
        reset(l);
        message = NULL;
        set(l, k, &message);
        const pipe_status status = pipei_plugin_check(&l->p, &err);
        if (message)
            check_failure(status, PIPE_EPLUGIN, &err, message, message);
        else
            cr_expect_eq(status, PIPE_OK, "case %zu: %s", k, err.message);
    }
    pipe_free(l);
}

Test(plugin, a_table_without_an_end_is_found)
{
    pipe_error err = PIPE_ERROR_INIT;
    enum { MANY = 300 };
    static pipe_param many[MANY + 1];
    static char names[MANY][8];
    pipe_plugin p = {
        PIPE_ABI(PIPE_KIND_SAMPLER), .name = "sampler.x",       .version = "1.0.0", .summary = "x",
        .state_size = 8 * MANY,      .sampler = {.step = step}, .params = many};
    for (size_t k = 0; k < MANY; k++) {
        snprintf(names[k], sizeof names[k], "p%zu", k);
        many[k] = (pipe_param){
            .name = names[k], .type = PIPE_TYPE_INT, .offset = 8 * k, .fallback = "0", .min = 1, .help = "p"};
    }
    check_failure(pipei_plugin_check(&p, &err), PIPE_EPLUGIN, &err, "does not end with PIPE_PARAM_END",
                  "300 rows");
}

Test(plugin, descriptors_survive_encoding)
{
    lab *l = pipe_alloc(sizeof *l);
    pipe_arena *a = pipe_arena_new();
    pipe_text blob = {0};
    pipei_plugin p = {0};
    reset(l);
    l->params[0].type = PIPE_TYPE_CHOICE;
    l->params[0].choices = modes;
    l->params[0].fallback = "y";
    l->p.help = "two\nlines";
    l->p.sampler.order = 2;
    l->p.sampler.stochastic = true;
    pipei_plugin_encode(&l->p, &blob);
    cr_assert(pipei_plugin_decode(blob.data, blob.length, a, &p));
    cr_expect_str_eq(p.meta.name, "sampler.x");
    cr_expect_str_eq(p.meta.help, "two\nlines");
    cr_expect_null(p.meta.citation, "NULL stays NULL");
    cr_expect_null(p.meta.sampler.step, "no function crosses");
    cr_expect(p.meta.sampler.order == 2 && p.meta.sampler.stochastic);
    cr_expect_eq(p.own_params, 2);
    cr_expect_str_eq(p.meta.params[0].choices[1], "y");
    cr_expect_null(p.meta.params[0].choices[2]);
    cr_expect_str_eq(p.meta.params[2].name, "steps", "the kind's parameters are behind the plugin's");
    cr_expect_str_eq(p.meta.inputs[1].name, "list");
    cr_expect_null(p.meta.inputs[2].name);

    /* every shorter piece, and every changed length, is refused without harm */
    for (size_t n = 0; n < blob.length; n++) {
        char *cut = memcpy(malloc(n + 1), blob.data, n);
        cr_expect_not(pipei_plugin_decode(cut, n, a, &p), "cut at %zu", n);
        free(cut);
    }
    pipe_text_free(&blob);
    pipe_arena_free(a);
    pipe_free(l);
}
