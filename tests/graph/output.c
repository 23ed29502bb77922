/* How mistakes are printed; DOT; the JSON Schema. */
#include "graph/support.h"

#include <jansson.h>

static char *printed(const char *text, bool colour)
{
    loaded l = load_text(text, NULL);
    pipe_text t = {0};
    pipei_diagnostics_print(&l.diag, &t, colour);
    pipe_text_add(&t, "");
    unload(&l);
    return t.data;
}

static const struct {
    const char *why, *text, *expected;
} prints[] = {
    {"the line, the place, help",
     "nodes:\n  p: {plugin: pass, value: s}\n  s: {plugin: sampler.ddim, steps: 2000}\n",
     "q.yaml:3:36: error: s.steps: 2000 is above the maximum 1000\n"
     "    s: {plugin: sampler.ddim, steps: 2000}\n"
     "                                     ^~~~\n"
     "help: sampler.ddim steps: integer, 1 to 1000, default 50, steps\n"},
    {"wide characters count once", "nodes:\n  p: {plugin: pass, value: \"\xC3\xA9\xE2\x82\xAC\", x: 1}\n",
     "q.yaml:2:28: error: p.value: there is no node \xC3\xA9\xE2\x82\xAC\n"
     "    p: {plugin: pass, value: \"\xC3\xA9\xE2\x82\xAC\", x: 1}\n"
     "                             ^~~~\n"
     "q.yaml:2:34: error: p.x: pass has no parameter or input of that name\n"
     "    p: {plugin: pass, value: \"\xC3\xA9\xE2\x82\xAC\", x: 1}\n"
     "                                   ^\n"
     "help: pass takes value\n"},
    {"a warning", "nodes:\n  p: {plugin: pass}\n  s: {plugin: sampler.ddim}\n",
     "q.yaml:3:3: warning: s is not used by any step\n"
     "    s: {plugin: sampler.ddim}\n"
     "    ^\n"},
    {"a value over several lines", "nodes:\n  p:\n    plugin: pass\n    value: >\n      two\n      lines\n",
     "q.yaml:4:12: error: p.value: there is no node two lines\n\n"
     "    value: >\n"
     "           ^\n"},
};

Test(graph_output, diagnostics)
{
    for (size_t k = 0; k < sizeof prints / sizeof prints[0]; k++) {
        char *text = printed(prints[k].text, false);
        cr_expect_str_eq(text, prints[k].expected, "%s:\n%s", prints[k].why, text);
        pipe_free(text);
    }
}

Test(graph_output, long_lines_are_cut_around_the_place)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    pipe_text_add(&t, "nodes:\n  p: {plugin: sink.png, images: g, names: [");
    for (int k = 0; k < 100; k++)
        pipe_text_addf(&t, "name%d, ", k);
    pipe_text_add(&t, "last], columns: 1000}\n");
    char *text = printed(t.data, false);
    const char *line = strstr(text, "columns: 1000}\n"), *caret = strstr(text, "^~~~\n");
    cr_assert(line && caret, "%s", text);
    const char *start = line, *caret_start = caret;
    while (start[-1] != '\n')
        start--;
    while (caret_start[-1] != '\n')
        caret_start--;
    cr_expect_lt(line - start, 120);
    cr_expect_eq(line + strlen("columns: ") - start, caret - caret_start, "%s", text);
    pipe_free(text);
}

Test(graph_output, colour_only_when_asked)
{
    char *plain = printed("nodes: {p: {plugin: x}}\n", false),
         *coloured = printed("nodes: {p: {plugin: x}}\n", true);
    cr_expect_null(strchr(plain, '\033'));
    cr_expect_not_null(strstr(coloured, "\033[1;31merror:"));
    pipe_free(plain);
    pipe_free(coloured);
}

static const char pipeline[] =
    "pipeline: dots\nnodes:\n  u: {plugin: denoiser.unet, channels: 1}\n  o: {plugin: objective.denoise}\n"
    "  m: {plugin: fit, model: u, objective: o}\n  g: {plugin: generate, denoiser: m.ema, sampler: heun}\n";

Test(graph_output, dot)
{
    loaded l = load_text(pipeline, NULL);
    MUST_LOAD(l);
    pipe_text t = {0};
    pipei_graph_dot(l.graph, &t);
    static const char *const parts[] = {
        "digraph \"dots\" {\n", "[label=\"u\\ndenoiser.unet\", shape=ellipse, style=\"solid\"]",
        "[label=\"m\\nfit\", shape=box, style=\"filled\"]",
        "[label=\"g.sampler\\nsampler.heun\", shape=ellipse, style=\"dashed\"]",
        "[label=\"denoiser\", tooltip=\"denoiser: ema\"]", "}\n"};
    for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++)
        cr_expect_not_null(strstr(t.data, parts[k]), "%s is missing in\n%s", parts[k], t.data);
    pipe_text_free(&t);
    unload(&l);
}

/* Follows a path of keys. */
static const json_t *at(const json_t *v, const char *const *keys)
{
    for (; *keys && v; keys++)
        v = json_object_get(v, *keys);
    return v;
}
#define AT(v, ...) at(v, (const char *const[]){__VA_ARGS__, NULL})

Test(graph_output, schema)
{
    pipei_registry *reg = graph_registry();
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    MUST(pipei_graph_schema(reg, &t, &err));
    json_t *s = json_loads(t.data, JSON_REJECT_DUPLICATES, NULL);
    cr_assert_not_null(s);
    cr_expect_str_eq(json_string_value(AT(s, "$schema")), "http://json-schema.org/draft-07/schema#");
    const json_t *steps = AT(s, "definitions", "sampler.ddim", "properties", "steps");
    const json_t *number = json_array_get(json_object_get(steps, "anyOf"), 0);
    cr_expect_eq(json_integer_value(AT(number, "minimum")), 1);
    cr_expect_eq(json_integer_value(AT(number, "maximum")), 1000);
    cr_expect_eq(json_integer_value(AT(steps, "default")), 50);
    cr_expect_not_null(strstr(json_string_value(AT(steps, "description")), "steps of the solver"));
    cr_expect(json_is_false(AT(s, "definitions", "sampler.ddim", "additionalProperties")));
    cr_expect_not_null(AT(s, "definitions", "sampler.ddim", "properties", "n_steps", "deprecationMessage"));
    const json_t *required = AT(s, "definitions", "fit", "required");
    cr_expect_eq(json_array_size(required), 2, "model and objective; data is optional");
    const json_t *cases = AT(s, "definitions", "_node", "allOf"),
                 *names = AT(s, "definitions", "_node", "properties", "plugin", "anyOf");
    cr_expect_eq(json_array_size(cases), pipei_registry_count(reg));
    cr_expect_eq(json_array_size(names), pipei_registry_count(reg) + 2);
    cr_expect_str_eq(json_string_value(AT(json_array_get(cases, 0), "if", "properties", "plugin", "pattern")),
                     "^dataset\\.idx(@[0-9]+)?$");
    const json_t *predict = AT(s, "definitions", "objective.denoise", "properties", "predict");
    cr_expect_eq(json_array_size(AT(json_array_get(json_object_get(predict, "anyOf"), 0), "enum")), 3);
    json_decref(s);
    pipei_registry_close(reg);
}
