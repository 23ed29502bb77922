/* pipe inspect: what is installed, from the registry alone; nothing is opened. */
#include "core/tensor/engine.h"
#include "cli.h"
#include "describe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const cli_option options[] = {
    {"json", 0, NULL, "print one JSON document"},
    {"exists", 0, "NAME[@VERSION]",
     "print nothing; exit status 0 when there is such a plugin, of the same major version and at least as "
     "new"},
    {"broken", 0, NULL, "list the files that are not used, and why"},
    {"rescan", 0, NULL, "forget what earlier scans found and open every file again"},
    {"names", 0, NULL, "print the names alone"},
    {"ops", 0, NULL, "list the operations on tensors"},
    {NULL}};

/* ---- text ---- */

static void list_kind(pipei_registry *r, const char *kind, pipe_text *t)
{
    size_t width = 0, n = 0;
    const pipei_plugin *p;
    for (size_t k = 0; (p = pipei_registry_at(r, k)); k++)
        if (strcmp(p->meta.kind, kind) == 0 && strlen(p->meta.name) > width)
            width = strlen(p->meta.name);
    for (size_t k = 0; (p = pipei_registry_at(r, k)); k++) {
        if (strcmp(p->meta.kind, kind) != 0)
            continue;
        if (n++ == 0)
            pipe_text_addf(t, "%s%s:\n", t->length ? "\n" : "", kind);
        pipe_text_addf(t, "  %-*s  %s\n", (int)width, p->meta.name, p->meta.summary);
    }
}

/* The registry is sorted by kind, so each kind is one run of it. */
static void list_all(pipei_registry *r, pipe_text *t)
{
    const char *kind = "";
    const pipei_plugin *p;
    for (size_t k = 0; (p = pipei_registry_at(r, k)); k++)
        if (strcmp(p->meta.kind, kind) != 0) {
            kind = p->meta.kind;
            list_kind(r, kind, t);
        }
}

static void put_field(pipe_text *t, const char *name, const char *value)
{
    if (value && *value)
        pipe_text_addf(t, "  %-10s %s\n", name, value);
}

static void put_paragraphs(pipe_text *t, const char *title, const char *text)
{
    if (!text || !*text)
        return;
    pipe_text_addf(t, "\n%s:\n", title);
    describe_wrap(t, text, 2);
}

static void put_params(pipe_text *t, const pipei_plugin *p, size_t from, size_t to, const char *title)
{
    pipe_arena *a = pipe_arena_new();
    if (from < to)
        pipe_text_addf(t, "\n%s:\n", title);
    for (size_t k = from; k < to; k++) {
        const pipe_param *row = &p->meta.params[k];
        pipe_text_addf(t, "  %s: %s\n", row->name, pipei_param_describe(row, a));
        describe_wrap(t, row->help, 6);
        if (row->alias)
            pipe_text_addf(t, "      (formerly %s)\n", row->alias);
    }
    pipe_arena_free(a);
}

static void put_tables(pipe_text *t, const pipei_plugin *p)
{
    const pipe_input *in = p->meta.inputs;
    if (in && in->name)
        pipe_text_add(t, "\nInputs:\n");
    for (; in && in->name; in++) {
        pipe_text_addf(t, "  %s: %s%s", in->name, in->flags & PIPE_LIST ? "list of " : "", in->kind);
        if (in->fallback)
            pipe_text_addf(t, ", default %s", in->fallback);
        pipe_text_add(t, in->flags & PIPE_OPTIONAL ? ", optional\n" : "\n");
        describe_wrap(t, in->help, 6);
    }
    const size_t n = describe_count_params(&p->meta);
    char *common = pipe_format("Parameters of every %s", p->meta.kind);
    put_params(t, p, 0, p->own_params, "Parameters");
    put_params(t, p, p->own_params, n, common);
    pipe_free(common);
    if (p->step)
        pipe_text_add(t, "\nOutputs:\n");
    for (const pipe_output *out = p->meta.outputs; out && out->name; out++) {
        if (out->kind)
            pipe_text_addf(t, "  %s: %s\n", out->name, out->kind);
        else
            pipe_text_addf(t, "  %s: of the kind of %s\n", out->name, out->like);
        describe_wrap(t, out->help, 6);
    }
    if (p->step)
        pipe_text_add(t, "  metrics: metrics\n      the numbers that it reports\n");
}

static void put_rules(pipe_text *t, const pipe_rule *r)
{
    if (r && r->name)
        pipe_text_add(t, "\nWhat goes together:\n");
    for (; r && r->name; r++)
        pipe_text_addf(t, "  %s: %s%s%s%s%s\n", r->name, r->needs ? "needs " : "", r->needs ? r->needs : "",
                       r->needs && r->excludes ? "; " : "", r->excludes ? "not with " : "",
                       r->excludes ? r->excludes : "");
}

static void put_plugin(pipe_text *t, const pipei_plugin *p)
{
    const pipe_plugin *m = &p->meta;
    pipe_text_addf(t, "%s %s: %s\n\n", m->name, m->version, m->summary);
    put_field(t, "kind", m->kind);
    if (strcmp(m->kind, PIPE_KIND_SAMPLER) == 0) {
        PIPE_CLEANUP(pipe_free_ptr) char *cost = describe_sampler(m);
        put_field(t, "method", cost);
    }
    put_field(t, "trainable", p->trainable ? "yes: `fit` trains it" : NULL);
    put_field(t, "results",
              m->flags & PIPE_NONDETERMINISTIC ? "may differ from run to run: never cached" : NULL);
    put_field(t, "citation", m->citation);
    put_field(t, "licence", m->licence);
    put_field(t, "file", p->path);
    put_paragraphs(t, "About", m->help);
    put_tables(t, p);
    put_rules(t, m->rules);
    if (m->example && *m->example) {
        pipe_text_add(t, "\nExample:\n");
        describe_indent(t, m->example, 2);
    }
}

/* ---- JSON ---- */

static json_t *number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *typed(const pipe_param *p, const char *text, pipe_type type)
{
    double v;
    switch (type) {
    case PIPE_TYPE_BOOL: return json_boolean(strcmp(text, "true") == 0);
    case PIPE_TYPE_INT:
    case PIPE_TYPE_INTS: return json_integer(strtoll(text, NULL, 10));
    case PIPE_TYPE_FLOAT:
    case PIPE_TYPE_FLOATS: return pipei_parse_double(text, &v) ? json_real(v) : json_null();
    default: (void)p; return json_string(text);
    }
}

static json_t *default_of(const pipe_param *p)
{
    pipe_arena *a = pipe_arena_new();
    const pipei_given v = pipei_given_of_text(p, p->fallback, a);
    json_t *json = v.list ? json_array() : typed(p, v.text[0], p->type);
    for (size_t k = 0; v.list && k < v.n; k++)
        json_array_append_new(json, typed(p, v.text[k], p->type));
    pipe_arena_free(a);
    return json;
}

static json_t *param_json(const pipe_param *p, bool common)
{
    json_t *o = json_pack("{s:s, s:s, s:s, s:b, s:b}", "name", p->name, "type", describe_type(p->type),
                          "help", p->help ? p->help : "", "required", !p->fallback, "common", common);
    if (p->fallback)
        json_object_set_new(o, "default", default_of(p));
    if (!(p->min > p->max) && p->type != PIPE_TYPE_CHOICE) {
        json_object_set_new(o, "minimum", number(p->min));
        json_object_set_new(o, "maximum", number(p->max));
    }
    if (p->choices) {
        json_t *choices = json_array();
        for (size_t k = 0; p->choices[k]; k++)
            json_array_append_new(choices, json_string(p->choices[k]));
        json_object_set_new(o, "choices", choices);
    }
    if (p->unit)
        json_object_set_new(o, "unit", json_string(p->unit));
    if (p->alias)
        json_object_set_new(o, "alias", json_string(p->alias));
    return o;
}

static json_t *input_json(const pipe_input *in)
{
    json_t *kinds = json_array();
    for (const char *s = in->kind; *s;) {
        const size_t n = strcspn(s, "|");
        json_array_append_new(kinds, json_stringn(s, n));
        s += n + (s[n] == '|');
    }
    return json_pack("{s:s, s:o, s:b, s:b, s:s?, s:s}", "name", in->name, "kinds", kinds, "optional",
                     (in->flags & PIPE_OPTIONAL) != 0, "list", (in->flags & PIPE_LIST) != 0, "default",
                     in->fallback, "help", in->help ? in->help : "");
}

static json_t *plugin_json(const pipei_plugin *p)
{
    const pipe_plugin *m = &p->meta;
    json_t *params = json_array(), *inputs = json_array(), *outputs = json_array(), *rules = json_array();
    for (size_t k = 0; m->params && m->params[k].name; k++)
        json_array_append_new(params, param_json(&m->params[k], k >= p->own_params));
    for (const pipe_input *in = m->inputs; in && in->name; in++)
        json_array_append_new(inputs, input_json(in));
    for (const pipe_output *out = m->outputs; out && out->name; out++)
        json_array_append_new(outputs, json_pack("{s:s, s:s?, s:s?, s:s?}", "name", out->name, "kind",
                                                 out->kind, "like", out->like, "help", out->help));
    for (const pipe_rule *r = m->rules; r && r->name; r++)
        json_array_append_new(rules, json_pack("{s:s, s:s?, s:s?}", "name", r->name, "needs", r->needs,
                                               "excludes", r->excludes));
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s?, s:s?, s:s?, s:s?}", "name", m->name, "kind", m->kind,
                          "version", m->version, "summary", m->summary, "help", m->help, "citation",
                          m->citation, "licence", m->licence, "example", m->example);
    json_object_set_new(o, "file", json_string(p->path));
    json_object_set_new(o, "sha256", json_string(p->sha256));
    json_object_set_new(o, "origin", json_string(p->origin));
    json_object_set_new(o, "step", json_boolean(p->step));
    json_object_set_new(o, "trainable", json_boolean(p->trainable));
    json_object_set_new(o, "deterministic", json_boolean(!(m->flags & PIPE_NONDETERMINISTIC)));
    if (strcmp(m->kind, PIPE_KIND_SAMPLER) == 0)
        json_object_set_new(o, "method",
                            json_pack("{s:i, s:i, s:b}", "order", (int)m->sampler.order, "calls_per_step",
                                      (int)m->sampler.calls_per_step, "stochastic", m->sampler.stochastic));
    json_object_set_new(o, "inputs", inputs);
    json_object_set_new(o, "parameters", params);
    json_object_set_new(o, "outputs", outputs);
    json_object_set_new(o, "rules", rules);
    return o;
}

/* ---- what was asked ---- */

static int show_broken(const cli_args *a, pipei_registry *r)
{
    const pipei_broken *b;
    const size_t n = pipei_registry_broken(r, &b);
    if (cli_flag(a, "json")) {
        json_t *list = json_array();
        for (size_t k = 0; k < n; k++)
            json_array_append_new(list, json_pack("{s:s, s:s}", "file", b[k].path, "reason", b[k].reason));
        return cli_output_json(json_pack("{s:o, s:s}", "broken", list, "rescan", "pipe inspect --rescan"));
    }
    for (size_t k = 0; k < n; k++)
        printf("%s\n    %s\n", b[k].path, b[k].reason);
    if (n == 0)
        printf("all plugins can be used\n");
    else
        printf("A file is tried again when it, or a library that it links to, changes;\n"
               "`pipe inspect --rescan` tries all of them again now.\n");
    return 0;
}

static const char *derivative(const pipe_op *op)
{
    if (op->vjp && op->jvp)
        return "vjp jvp";
    if (op->vjp)
        return op->composed ? "vjp, jvp composed" : "vjp";
    return op->composed ? "composed" : op->jvp ? "jvp" : "none";
}

static int show_ops(const cli_args *a)
{
    const bool as_json = cli_flag(a, "json");
    json_t *list = json_array();
    if (!as_json)
        printf("%-28s %-7s %-12s %s\n", "operation", "inputs", "computed", "derivatives");
    for (size_t k = 0; k < pipei_op_count(); k++) {
        const pipe_op *op = pipei_op_at(k);
        const char *how = op->view         ? "as a view"
                          : op->expression ? "fused"
                          : op->lower      ? "by kernels"
                                           : "composed";
        if (as_json) {
            json_array_append_new(list,
                                  json_pack("{s:s, s:i, s:s, s:b, s:b, s:b}", "name", op->name, "inputs",
                                            (int)op->arity, "computed", how, "vjp", op->vjp != NULL, "jvp",
                                            op->jvp != NULL, "composed", op->composed != NULL));
            continue;
        }
        char inputs[16] = "any";
        if (op->arity >= 0)
            snprintf(inputs, sizeof inputs, "%d", (int)op->arity);
        printf("%-28s %-7s %-12s %s\n", op->name, inputs, how, derivative(op));
    }
    if (as_json)
        return cli_output_json(json_pack("{s:o}", "ops", list));
    json_decref(list);
    return 0;
}

/* Up to three numbers of "1.2.3"; what is not given is 0. */
static bool parse_version(const char *s, unsigned long v[3])
{
    v[0] = v[1] = v[2] = 0;
    for (size_t k = 0; k < 3; k++) {
        char *end;
        if (*s < '0' || *s > '9')
            return false;
        v[k] = strtoul(s, &end, 10);
        s = end;
        if (*s != '.')
            break;
        s++;
    }
    return *s == '\0' || *s == '-' || *s == '+';
}

static int exists(const cli_args *a, pipei_registry *r, const char *what)
{
    unsigned long want[3], have[3];
    const char *at = strchr(what, '@');
    PIPE_CLEANUP(pipe_free_ptr) char *name = pipe_format("%.*s", (int)strcspn(what, "@"), what);
    if (at && !parse_version(at + 1, want))
        return cli_usage(a->verb, "--exists=%s: a version is written 1, 1.2 or 1.2.3", what);
    const pipei_plugin *p = pipei_registry_find(r, name);
    if (!p)
        return EXIT_UNMET;
    if (!at || !parse_version(p->meta.version, have))
        return at ? EXIT_UNMET : 0;
    if (have[0] != want[0])
        return EXIT_UNMET;
    return have[1] > want[1] || (have[1] == want[1] && have[2] >= want[2]) ? 0 : EXIT_UNMET;
}

static bool is_kind(pipei_registry *r, const char *name)
{
    const pipei_plugin *p;
    for (size_t k = 0; (p = pipei_registry_at(r, k)); k++)
        if (strcmp(p->meta.kind, name) == 0)
            return true;
    return false;
}

static int unknown(pipei_registry *r, const char *name)
{
    const pipei_broken *b;
    const char *near = pipei_registry_nearest(r, name, NULL);
    const size_t broken = pipei_registry_broken(r, &b);
    return cli_fail(EXIT_USAGE, "there is no plugin %s%s%s%s%s", name, near ? "; did you mean " : "",
                    near ? near : "", near ? "?" : "",
                    broken ? " (`pipe inspect --broken` lists files that are not used)" : "");
}

static int show_named(const cli_args *a, pipei_registry *r)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    const bool as_json = cli_flag(a, "json");
    json_t *list = json_array();
    int status = 0;
    for (size_t k = 0; k < a->n_operands && status == 0; k++) {
        const char *name = a->operand[k];
        const pipei_plugin *p = pipei_registry_find(r, name);
        if (p) {
            pipe_text_add(&t, t.length ? "\n" : "");
            put_plugin(&t, p);
            json_array_append_new(list, plugin_json(p));
        } else if (is_kind(r, name)) {
            list_kind(r, name, &t);
            for (size_t j = 0; (p = pipei_registry_at(r, j)); j++)
                if (strcmp(p->meta.kind, name) == 0)
                    json_array_append_new(list, plugin_json(p));
        } else {
            status = unknown(r, name);
        }
    }
    if (status == 0 && as_json)
        return cli_output_json(json_pack("{s:o}", "plugins", list));
    json_decref(list);
    if (status == 0 && t.length)
        fwrite(t.data, 1, t.length, stdout);
    return status;
}

static int show_all(const cli_args *a, pipei_registry *r)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    const pipei_plugin *p;
    if (cli_flag(a, "json")) {
        json_t *list = json_array();
        for (size_t k = 0; (p = pipei_registry_at(r, k)); k++)
            json_array_append_new(list, plugin_json(p));
        return cli_output_json(json_pack("{s:o}", "plugins", list));
    }
    if (cli_flag(a, "names"))
        for (size_t k = 0; (p = pipei_registry_at(r, k)); k++)
            pipe_text_addf(&t, "%s\n", p->meta.name);
    else
        list_all(r, &t);
    if (t.length)
        fwrite(t.data, 1, t.length, stdout);
    if (pipei_registry_count(r) == 0)
        describe_no_plugins(r);
    return 0;
}

static int run(const cli_args *a)
{
    pipe_error err = PIPE_ERROR_INIT;
    const char *wanted = cli_value(a, "exists");
    if (!cli_operands(a, 0, wanted || cli_flag(a, "ops") ? 0 : SIZE_MAX, "plugin"))
        return EXIT_USAGE;
    if (cli_flag(a, "ops"))
        return show_ops(a);
    if (cli_flag(a, "rescan") && pipei_registry_forget(&err) != PIPE_OK)
        return cli_fail_error(err.status, &err);
    PIPE_CLEANUP(cli_close_registry) pipei_registry *r = cli_open_registry();
    if (!r)
        return EXIT_RUN;
    if (wanted)
        return exists(a, r, wanted);
    if (cli_flag(a, "broken"))
        return show_broken(a, r);
    return a->n_operands ? show_named(a, r) : show_all(a, r);
}

const cli_verb cli_verb_inspect = {
    .name = "inspect",
    .summary = "Lists the plugins, or tells all about one",
    .usage = "[OPTIONS] [PLUGIN | KIND ...]",
    .help =
        "Without an argument: every plugin by kind, one line each. With names: inputs, outputs and "
        "parameters "
        "with type, default, range and unit, citation, licence, version, file and an example. A kind lists "
        "its plugins.",
    .options = options,
    .run = run,
};
