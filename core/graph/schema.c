/* The JSON Schema of pipelines (draft 7, what yaml-language-server completes
 * from), made of the descriptors.
 *
 *   nodes -> every value is a #/definitions/_node
 *   node  -> plugin: one of the names; if plugin is NAME then #/definitions/NAME
 *   NAME  -> a property per parameter and input
 *
 * A scalar may always be "${name}" instead, hence the anyOf around numbers. */
#include "core/graph/graph.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REFERENCE_SIZE = 256 };

static json_t *reference(const char *name)
{
    char text[REFERENCE_SIZE];
    snprintf(text, sizeof text, "#/definitions/%s", name);
    return json_pack("{s:s}", "$ref", text);
}

static json_t *with_variable(json_t *schema)
{
    return json_pack("{s:[o, o]}", "anyOf", schema, reference("_variable"));
}

/* ---- one parameter ---- */
static void add_bounds(json_t *schema, const pipe_param *row, bool integer)
{
    if (row->min > row->max)
        return;
    if (isfinite(row->min))
        json_object_set_new(schema, "minimum",
                            integer ? json_integer((json_int_t)row->min) : json_real(row->min));
    if (isfinite(row->max) && fabs(row->max) < 9e18)
        json_object_set_new(schema, "maximum",
                            integer ? json_integer((json_int_t)row->max) : json_real(row->max));
}

static json_t *scalar(const pipe_param *row, pipe_type type)
{
    json_t *schema;
    switch (type) {
    case PIPE_TYPE_BOOL:
        return with_variable(json_pack("{s:s}", "type", "boolean"));
    case PIPE_TYPE_INT: case PIPE_TYPE_FLOAT:
        schema = json_pack("{s:s}", "type", type == PIPE_TYPE_INT ? "integer" : "number");
        add_bounds(schema, row, type == PIPE_TYPE_INT);
        return with_variable(schema);
    case PIPE_TYPE_CHOICE:
        schema = json_array();
        for (const char *const *c = row->choices; c && *c; c++)
            json_array_append_new(schema, json_string(*c));
        return with_variable(json_pack("{s:o}", "enum", schema));
    default:
        /* no, 08 and 12:30 are texts where a text is wanted */
        return json_pack("{s:[s, s, s, s]}", "type", "string", "number", "boolean", "null");
    }
}

static json_t *list_of(const pipe_param *row, pipe_type type)
{
    /* one value stands for a list of one */
    return json_pack("{s:[o, o]}", "anyOf", scalar(row, type),
                     with_variable(json_pack("{s:s, s:o}", "type", "array", "items", scalar(row, type))));
}

static json_t *default_value(const pipe_param *row)
{
    const char *text = row->fallback;
    json_t *v = NULL;
    switch (row->type) {
    case PIPE_TYPE_BOOL: return json_boolean(strcmp(text, "true") == 0);
    case PIPE_TYPE_INT: case PIPE_TYPE_FLOAT: case PIPE_TYPE_INTS: case PIPE_TYPE_FLOATS:
        v = json_loads(text, JSON_DECODE_ANY, NULL);
        break;
    default: break;
    }
    return v ? v : json_string(text);
}

static json_t *parameter(const pipe_param *row, pipe_arena *a)
{
    json_t *schema;
    switch (row->type) {
    case PIPE_TYPE_INTS: schema = list_of(row, PIPE_TYPE_INT); break;
    case PIPE_TYPE_FLOATS: schema = list_of(row, PIPE_TYPE_FLOAT); break;
    case PIPE_TYPE_STRINGS: schema = list_of(row, PIPE_TYPE_STRING); break;
    default: schema = scalar(row, row->type); break;
    }
    const char *text = pipe_arena_format(a, "%s (%s)", row->help ? row->help : row->name,
                                         pipei_param_describe(row, a));
    json_object_set_new(schema, "description", json_string(text));
    if (row->fallback)
        json_object_set_new(schema, "default", default_value(row));
    return schema;
}

/* ---- one input ---- */
static json_t *input(const pipe_input *row, const pipei_registry *reg, pipe_arena *a)
{
    json_t *shorthands = json_array();
    const bool any = strcmp(row->kind, "any") == 0;
    for (size_t k = 0; k < pipei_registry_count(reg) && !any; k++) {
        const pipei_plugin *p = pipei_registry_at(reg, k);
        const char *dot = strchr(p->meta.name, '.');
        if (!p->step && dot && pipei_kind_matches(row->kind, p->meta.kind))
            json_array_append_new(shorthands, json_string(dot + 1));
    }
    /* The enum is there for completion: the name of any node is as good. */
    json_t *word = json_pack("{s:[s, s]}", "type", "string", "null");
    json_t *one = json_array_size(shorthands) > 0 ?
        json_pack("{s:[{s:o}, o, o]}", "anyOf", "enum", shorthands, word, reference("_node")) :
        json_pack("{s:[o, o]}", "anyOf", word, reference("_node"));
    if (json_array_size(shorthands) == 0)
        json_decref(shorthands);
    json_t *schema = row->flags & PIPE_LIST ?
        json_pack("{s:[{s:s, s:O}, o]}", "anyOf", "type", "array", "items", one, one) : one;
    const char *text =
        pipe_arena_format(a, "%s (a node of kind %s%s%s%s)", row->help ? row->help : row->name, row->kind,
                          row->flags & PIPE_OPTIONAL ? ", optional" : "", row->fallback ? ", default " : "",
                          row->fallback ? row->fallback : "");
    if (row->flags & PIPE_LIST) {
        json_object_set_new(schema, "description", json_string(text));
    } else {
        json_object_set_new(schema, "description", json_string(text));
        if (row->fallback)
            json_object_set_new(schema, "default", json_string(row->fallback));
    }
    return schema;
}

/* ---- one plugin ---- */
static json_t *plugin_schema(const pipei_plugin *p, const pipei_registry *reg, pipe_arena *a)
{
    json_t *properties = json_pack("{s:{}}", "plugin"), *required = json_array();
    for (const pipe_input *i = p->meta.inputs; i && i->name; i++) {
        json_object_set_new(properties, i->name, input(i, reg, a));
        if (!i->fallback && !(i->flags & PIPE_OPTIONAL))
            json_array_append_new(required, json_string(i->name));
    }
    for (const pipe_param *r = p->meta.params; r && r->name; r++) {
        json_object_set_new(properties, r->name, parameter(r, a));
        if (!r->fallback)
            json_array_append_new(required, json_string(r->name));
        if (r->alias) {
            json_t *old = parameter(r, a);
            json_object_set_new(old, "deprecationMessage",
                                json_string(pipe_arena_format(a, "%s is now called %s", r->alias, r->name)));
            json_object_set_new(properties, r->alias, old);
        }
    }
    json_t *schema = json_pack("{s:s, s:o, s:b}", "type", "object", "properties", properties,
                               "additionalProperties", 0);
    /* A required parameter may go by its old name: then only the engine can tell. */
    bool aliases = false;
    for (const pipe_param *r = p->meta.params; r && r->name; r++)
        aliases = aliases || (r->alias && !r->fallback);
    if (aliases || json_array_size(required) == 0)
        json_decref(required);
    else
        json_object_set_new(schema, "required", required);
    return schema;
}

/* "sampler.dpmpp-2m" as a regular expression, with or without "@1". */
static const char *name_pattern(const char *name, pipe_arena *a)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    for (const char *p = name; *p; p++)
        pipe_text_addf(&t, *p == '.' ? "\\%c" : "%c", *p);
    return pipe_arena_format(a, "^%s(@[0-9]+)?$", t.data);
}

static json_t *node_schema(const pipei_registry *reg, pipe_arena *a)
{
    json_t *names = json_array(), *cases = json_array();
    for (size_t k = 0; k < pipei_registry_count(reg); k++) {
        const pipe_plugin *meta = &pipei_registry_at(reg, k)->meta;
        json_array_append_new(names, json_pack("{s:s, s:s}", "const", meta->name, "description",
                                               meta->summary ? meta->summary : meta->name));
        json_array_append_new(cases, json_pack("{s:{s:{s:{s:s}}, s:[s]}, s:o}", "if", "properties", "plugin",
                                               "pattern", name_pattern(meta->name, a), "required", "plugin",
                                               "then", reference(meta->name)));
    }
    json_array_append_new(names, json_pack("{s:s, s:s, s:s}", "type", "string", "pattern", "@[0-9]+$",
                                           "description", "NAME@MAJOR: a plugin of that major version"));
    json_array_append_new(names, reference("_variable"));
    return json_pack("{s:s, s:{s:{s:s, s:o}}, s:[s], s:o}", "type", "object", "properties", "plugin",
                     "description", "what the node is: `pipe inspect` lists all", "anyOf", names, "required",
                     "plugin", "allOf", cases);
}

static json_t *root_properties(void)
{
    return json_pack(
        "{s:{s:i, s:s}, s:{s:s, s:s}, s:{s:[{s:s, s:i}, o], s:s}, s:{s:s, s:s}, s:{s:[s, s], s:{s:s}, s:s},"
        " s:{s:s, s:s}, s:{s:s, s:o, s:s}, s:{s:s, s:{s:s}, s:s}, s:{s:s, s:o, s:s}}",
        "language", "const", 1, "description", "version of this language", "pipeline", "type", "string",
        "description", "name of the folder of runs", "seed", "anyOf", "type", "integer", "minimum", 0,
        reference("_variable"), "description", "all randomness follows from it", "device", "type", "string",
        "description", "auto, cpu, gpu, or one that `pipe devices` lists", "include", "type", "string",
        "array", "items", "type", "string", "description",
        "other files whose nodes are added; relative to this file", "vars", "type", "object", "description",
        "values for ${name}", "nodes", "type", "object", "additionalProperties", reference("_node"),
        "description", "name: {plugin: ..., parameters and inputs}", "sweep", "type", "object",
        "additionalProperties", "type", "array", "description",
        "node.key: [values]; the run does all combinations", "expect", "type", "object",
        "additionalProperties", reference("_bounds"), "description",
        "node.metric: {min:, max:}; decides the exit status");
}

pipe_status pipei_graph_schema(pipei_registry *reg, pipe_text *out, pipe_error *err)
{
    pipe_arena *a = pipe_arena_new();
    json_t *definitions =
        json_pack("{s:{s:s, s:s}, s:{s:s, s:{s:{s:o}, s:{s:o}}, s:b, s:i}}", "_variable", "type", "string",
                  "pattern", "\\$\\{[^}]+\\}", "_bounds", "type", "object", "properties", "min", "anyOf",
                  json_pack("[{s:s}, o]", "type", "number", reference("_variable")), "max", "anyOf",
                  json_pack("[{s:s}, o]", "type", "number", reference("_variable")), "additionalProperties",
                  0, "minProperties", 1);
    json_object_set_new(definitions, "_node", node_schema(reg, a));
    for (size_t k = 0; k < pipei_registry_count(reg); k++) {
        const pipei_plugin *p = pipei_registry_at(reg, k);
        json_object_set_new(definitions, p->meta.name, plugin_schema(p, reg, a));
    }
    json_t *root = json_pack("{s:s, s:s, s:s, s:o, s:b, s:[s], s:o}",
                             "$schema", "http://json-schema.org/draft-07/schema#",
                             "title", "pipe pipeline", "type", "object", "properties", root_properties(),
                             "additionalProperties", 0, "required", "nodes", "definitions", definitions);
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    if (text) {
        pipe_text_add(out, text);
        pipe_text_add(out, "\n");
    }
    json_decref(root);
    pipe_arena_free(a);
    if (!text)
        return pipe_fail(err, PIPE_EPLUGIN,
                         "a plugin's descriptor is not UTF-8: no schema can be made of it");
    free(text);
    return PIPE_OK;
}
