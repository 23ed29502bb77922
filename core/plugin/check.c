/* Is this descriptor one that the engine can use?  Runs in the scanner's child
 * process: the pointers of a bad descriptor may lead anywhere. */
#include "core/plugin/scan.h"

#include "core/run/object.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

enum {
    MAX_NAME = 64,
    MAX_TEXT = 64 * 1024,
    MAX_ROWS = 256,
    ABI_1_0_SIZE = sizeof(pipe_plugin) /* when a minor version appends fields: offsetof() the first of them */
};

/* What a kind must bring.  `functions` are offsets of pointers in the descriptor. */
typedef struct kind_rule {
    const char *kind;
    bool step;
    struct {
        size_t offset;
        const char *name;
    } function[2];
} kind_rule;

#define FN(kind_, name_) {offsetof(pipe_plugin, kind_.name_), #kind_ "." #name_}
static const kind_rule rules[] = {
    {PIPE_KIND_SCHEDULE, false, {FN(schedule, at)}},
    {PIPE_KIND_DENOISER, false, {FN(denoiser, predict)}},
    {PIPE_KIND_SAMPLER, false, {FN(sampler, step)}},
    {PIPE_KIND_ENCODER, false, {FN(encoder, encode)}},
    {PIPE_KIND_DECODER, false, {FN(decoder, decode)}},
    {PIPE_KIND_CLASSIFIER, false, {FN(classifier, classes), FN(classifier, logits)}},
    {PIPE_KIND_OBJECTIVE, false, {FN(objective, loss)}},
    {PIPE_KIND_OPTIMIZER, false, {FN(optimizer, update)}},
    {PIPE_KIND_DATASET, false, {FN(dataset, describe), FN(dataset, read)}},
    {PIPE_KIND_STEP, true, {{offsetof(pipe_plugin, run), "run"}}},
    {PIPE_KIND_METRIC, true, {{offsetof(pipe_plugin, run), "run"}}},
    {PIPE_KIND_SINK, true, {{offsetof(pipe_plugin, run), "run"}}},
};
enum { RULES = sizeof rules / sizeof rules[0] };

const char *pipei_kind_at(size_t k)
{
    return k < RULES ? rules[k].kind : NULL;
}

static const kind_rule *rule_of(const char *kind)
{
    for (size_t k = 0; k < RULES; k++)
        if (strcmp(rules[k].kind, kind) == 0)
            return &rules[k];
    return NULL;
}

bool pipei_plugin_is_step(const pipe_plugin *p)
{
    const kind_rule *rule = rule_of(p->kind);
    return rule && rule->step;
}

static pipe_status bad(pipe_error *err, const char *fmt, ...) PIPE_PRINTF(2, 3);
static pipe_status bad(pipe_error *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    pipe_vfail(err, PIPE_EPLUGIN, fmt, args);
    va_end(args);
    return PIPE_EPLUGIN;
}

/* ---- texts ---- */

/* Length of the UTF-8 character at s, or 0. */
static size_t utf8(const unsigned char *s)
{
    static const struct {
        unsigned char mask, lead;
        size_t n;
        uint32_t least;
    } form[] = {{0x80, 0x00, 1, 0}, {0xE0, 0xC0, 2, 0x80}, {0xF0, 0xE0, 3, 0x800}, {0xF8, 0xF0, 4, 0x10000}};
    for (size_t f = 0; f < sizeof form / sizeof form[0]; f++) {
        if ((s[0] & form[f].mask) != form[f].lead)
            continue;
        uint32_t c = s[0] & (unsigned char)~form[f].mask;
        for (size_t k = 1; k < form[f].n; k++) {
            if ((s[k] & 0xC0) != 0x80)
                return 0;
            c = c << 6 | (s[k] & 0x3F);
        }
        return c >= form[f].least && c <= 0x10FFFF && (c < 0xD800 || c > 0xDFFF) ? form[f].n : 0;
    }
    return 0;
}

static pipe_status check_text(const char *what, const char *s, bool required, bool one_line, pipe_error *err)
{
    if (!s || !*s)
        return required ? bad(err, "%s is missing", what) : PIPE_OK;
    const char *start = s;
    while (*s) {
        const size_t n = utf8((const unsigned char *)s);
        if (n == 0)
            return bad(err, "%s is not UTF-8", what);
        if ((unsigned char)*s < 0x20 && (one_line || *s != '\n'))
            return bad(err, "%s contains %s", what,
                       *s == '\n' ? "more than one line" : "a control character");
        s += n;
        if (s - start > MAX_TEXT)
            return bad(err, "%s is longer than %d bytes", what, MAX_TEXT);
    }
    return PIPE_OK;
}

/* [a-z][a-z0-9-]* up to `end`. */
static bool is_word(const char *s, size_t n)
{
    if (n == 0 || s[0] < 'a' || s[0] > 'z' || s[n - 1] == '-')
        return false;
    for (size_t k = 1; k < n; k++)
        if (!((s[k] >= 'a' && s[k] <= 'z') || (s[k] >= '0' && s[k] <= '9') || s[k] == '-'))
            return false;
    return true;
}

/* Words with dots between them. */
static bool is_dotted(const char *s)
{
    if (!s || strlen(s) > MAX_NAME)
        return false;
    for (;;) {
        const size_t n = strcspn(s, ".");
        if (!is_word(s, n))
            return false;
        if (s[n] == '\0')
            return true;
        s += n + 1;
    }
}

/* Of parameters, inputs and outputs: a C identifier, in which '-' may stand too. */
static bool is_key(const char *s)
{
    const size_t n = s ? strnlen(s, MAX_NAME + 1) : 0;
    if (n == 0 || n > MAX_NAME || !isalpha((unsigned char)s[0]))
        return false;
    for (size_t k = 1; k < n; k++)
        if (!isalnum((unsigned char)s[k]) && s[k] != '_' && s[k] != '-')
            return false;
    return true;
}

static const char *number_part(const char *s)
{
    const char *start = s;
    while (*s >= '0' && *s <= '9')
        s++;
    return s == start || (s - start > 1 && *start == '0') ? NULL : s;
}

/* Semantic versioning: 1.2.3, optionally -word or +word behind. */
static bool is_version(const char *s)
{
    for (int part = 0; part < 3; part++) {
        if (part && *s++ != '.')
            return false;
        s = number_part(s);
        if (!s)
            return false;
    }
    if (*s != '\0' && *s != '-' && *s != '+')
        return false;
    return *s == '\0' || (s[1] != '\0' && strspn(s, "-+.0123456789abcdefghijklmnopqrstuvwxyz"
                                                    "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(s));
}

/* ---- kind and name ---- */

static pipe_status check_kind(const char *kind, pipe_error *err)
{
    if (!is_dotted(kind))
        return bad(err, "its kind \"%.*s\" is not lower-case words", MAX_NAME, kind ? kind : "(NULL)");
    if (rule_of(kind) || strchr(kind, '.'))
        return PIPE_OK;
    const char *known[RULES];
    for (size_t k = 0; k < RULES; k++)
        known[k] = rules[k].kind;
    const char *near = pipe_nearest(kind, known, RULES);
    return bad(err, "the kind \"%s\" is unknown%s%s%s; a kind of your own is written \"vendor.kind\"", kind,
               near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

pipe_status pipei_plugin_name_check(const char *name, const char *kind, pipe_error *err)
{
    if (!is_dotted(name))
        return bad(err,
                   "the name \"%.*s\" is not lower-case words (letters, digits, hyphens) with dots between "
                   "them, at most %d bytes",
                   MAX_NAME, name ? name : "(NULL)", MAX_NAME);
    const char *dot = strchr(name, '.');
    if (!dot) {
        if (strcmp(kind, PIPE_KIND_STEP) == 0)
            return PIPE_OK;
        return bad(err, "the name \"%s\" needs a first part: \"%s.%s\", or \"vendor.%s\"", name, kind, name,
                   name);
    }
    /* A first part that is a kind must be its own; anything else is a vendor or a family (guidance.cfg). */
    for (size_t k = 0; k < RULES; k++) {
        const char *other = rules[k].kind;
        const size_t n = strlen(other);
        if (n == (size_t)(dot - name) && memcmp(other, name, n) == 0 && strcmp(other, kind) != 0)
            return bad(err, "it is named \"%s\" but its kind is \"%s\"", name, kind);
    }
    return PIPE_OK;
}

static pipe_status check_functions(const pipe_plugin *p, pipe_error *err)
{
    const kind_rule *rule = rule_of(p->kind);
    if (!rule)
        return PIPE_OK; /* a third party's kind: it knows itself */
    if (!rule->step && p->run)
        return bad(err, "a %s is a component and has no `run`: steps are of kind step, metric or sink",
                   p->kind);
    for (size_t k = 0; k < 2 && rule->function[k].name; k++) {
        void *function;
        memcpy(&function, (const char *)p + rule->function[k].offset, sizeof function);
        if (!function)
            return bad(err, "a %s must have the function `%s`", p->kind, rule->function[k].name);
    }
    return PIPE_OK;
}

/* ---- tables ---- */

/* What the rows occupy in the state, and the names they use. */
typedef struct fields {
    struct {
        const char *name;
        size_t from, to;
    } field[2 * MAX_ROWS];
    size_t n;
} fields;

static size_t size_of(pipe_type type, size_t *alignment)
{
#define OF(T) (*alignment = _Alignof(T), sizeof(T))
    switch (type) {
    case PIPE_TYPE_BOOL: return OF(bool);
    case PIPE_TYPE_INT:
    case PIPE_TYPE_CHOICE: return OF(int64_t);
    case PIPE_TYPE_FLOAT: return OF(double);
    case PIPE_TYPE_STRING:
    case PIPE_TYPE_PATH: return OF(const char *);
    case PIPE_TYPE_INTS: return OF(pipe_ints);
    case PIPE_TYPE_FLOATS: return OF(pipe_floats);
    case PIPE_TYPE_STRINGS: return OF(pipe_strings);
    }
    return 0;
#undef OF
}

static pipe_status add_name(fields *f, const char *what, const char *name, pipe_error *err)
{
    if (!is_key(name))
        return bad(err, "the %s name \"%.*s\" is not a letter followed by letters, digits, '_' or '-'", what,
                   MAX_NAME, name);
    if (strcmp(name, "plugin") == 0)
        return bad(err, "the %s name \"plugin\" is taken by the pipeline language", what);
    for (size_t k = 0; k < f->n; k++)
        if (strcmp(f->field[k].name, name) == 0)
            return bad(err, "the name \"%s\" is used twice among parameters and inputs", name);
    f->field[f->n].name = name;
    f->field[f->n].from = f->field[f->n].to = 0;
    f->n++;
    return PIPE_OK;
}

/* Puts the place of the row that was named last. */
static pipe_status add_place(fields *f, const pipe_plugin *p, const char *what, size_t offset, size_t size,
                             size_t alignment, pipe_error *err)
{
    const size_t last = f->n - 1;
    const char *name = f->field[last].name;
    if (offset > p->state_size || size > p->state_size - offset)
        return bad(err, "%s \"%s\" lies at bytes %zu to %zu of a state of %zu bytes", what, name, offset,
                   offset + size, p->state_size);
    if (offset % alignment)
        return bad(err, "%s \"%s\" is not aligned: its offset %zu is no multiple of %zu", what, name, offset,
                   alignment);
    for (size_t k = 0; k < last; k++)
        if (offset < f->field[k].to && f->field[k].from < offset + size)
            return bad(err, "%s \"%s\" and \"%s\" share memory of the state", what, name, f->field[k].name);
    f->field[last].from = offset;
    f->field[last].to = offset + size;
    return PIPE_OK;
}

static pipe_status check_choices(const pipe_param *p, pipe_error *err)
{
    if (p->type != PIPE_TYPE_CHOICE)
        return p->choices ? bad(err, "parameter \"%s\" has choices but is no PIPE_CHOICE", p->name) : PIPE_OK;
    if (!p->choices || !p->choices[0])
        return bad(err, "parameter \"%s\" has no choices", p->name);
    for (size_t k = 0; p->choices[k]; k++) {
        if (k >= MAX_ROWS)
            return bad(err, "the choices of parameter \"%s\" do not end with NULL", p->name);
        PIPE_TRY(check_text("a choice", p->choices[k], true, true, err));
    }
    return PIPE_OK;
}

static pipe_status check_param(const pipe_plugin *plugin, const pipe_param *p, fields *f, pipe_error *err)
{
    size_t alignment = 1;
    const size_t size = size_of(p->type, &alignment);

    PIPE_TRY(add_name(f, "parameter", p->name, err));
    if (size == 0)
        return bad(err, "parameter \"%s\" is of unknown type %d", p->name, (int)p->type);
    PIPE_TRY(add_place(f, plugin, "parameter", p->offset, size, alignment, err));
    if (isnan(p->min) || isnan(p->max))
        return bad(err, "a bound of parameter \"%s\" is not a number", p->name);
    if (!p->help || !*p->help)
        return bad(err, "parameter \"%s\" has no help", p->name);
    PIPE_TRY(check_text("its help", p->help, true, false, err));
    PIPE_TRY(check_text("its unit", p->unit, false, true, err));
    PIPE_TRY(check_choices(p, err));
    if (p->alias && !is_key(p->alias))
        return bad(err, "the old name \"%.*s\" of parameter \"%s\" is no name", MAX_NAME, p->alias, p->name);
    if (!p->fallback)
        return PIPE_OK;
    PIPE_TRY(check_text("its default", p->fallback, false, false, err));
    pipe_arena *a = pipe_arena_new();
    const pipei_given given = pipei_given_of_text(p, p->fallback, a);
    const pipe_status status = pipei_param_check(p, &given, NULL, err);
    pipe_arena_free(a);
    return status == PIPE_OK
               ? PIPE_OK
               : pipe_context_fail(err, PIPE_EPLUGIN, "the default of parameter \"%s\"", p->name);
}

/* "a|b", "any" */
static bool is_alternatives(const char *s)
{
    char one[MAX_NAME + 1];
    if (!s)
        return false;
    for (;;) {
        const size_t n = strcspn(s, "|");
        if (n > MAX_NAME)
            return false;
        memcpy(one, s, n);
        one[n] = '\0';
        if (!is_dotted(one))
            return false;
        if (s[n] == '\0')
            return true;
        s += n + 1;
    }
}

static pipe_status check_input(const pipe_plugin *plugin, const pipe_input *in, fields *f, pipe_error *err)
{
    const bool list = in->flags & PIPE_LIST;
    PIPE_TRY(add_name(f, "input", in->name, err));
    if (!is_alternatives(in->kind))
        return bad(err, "input \"%s\" has no kind such as \"denoiser\" or \"encoder|denoiser\"", in->name);
    PIPE_TRY(add_place(f, plugin, "input", in->offset, list ? sizeof(pipe_objects) : sizeof(pipe_object *),
                       _Alignof(pipe_objects), err));
    if (!in->help || !*in->help)
        return bad(err, "input \"%s\" has no help", in->name);
    PIPE_TRY(check_text("its help", in->help, true, false, err));
    if (in->fallback && (list || !is_dotted(in->fallback)))
        return bad(err, "the default of input \"%s\" is not the name of one plugin", in->name);
    return PIPE_OK;
}

static pipe_status check_output(const pipe_plugin *p, size_t k, pipe_error *err)
{
    const pipe_output *out = &p->outputs[k];
    if (!is_key(out->name) || strcmp(out->name, PIPE_KIND_METRICS) == 0)
        return bad(err, "an output cannot be named \"%.*s\"", MAX_NAME, out->name);
    for (size_t j = 0; j < k; j++)
        if (strcmp(p->outputs[j].name, out->name) == 0)
            return bad(err, "the output \"%s\" is listed twice", out->name);
    if (!out->kind == !out->like)
        return bad(err, "output \"%s\" needs either a kind or the input whose kind it has", out->name);
    if (out->kind && !is_dotted(out->kind))
        return bad(err, "output \"%s\" has the kind \"%.*s\", which is not lower-case words", out->name,
                   MAX_NAME, out->kind);
    PIPE_TRY(check_text("the help of an output", out->help, false, false, err));
    if (!out->like)
        return PIPE_OK;
    for (const pipe_input *in = p->inputs; in && in->name; in++)
        if (strcmp(in->name, out->like) == 0)
            return PIPE_OK;
    return bad(err, "output \"%s\" has the kind of the input \"%.*s\", which does not exist", out->name,
               MAX_NAME, out->like);
}

static bool has_row(const pipe_plugin *p, const char *name)
{
    for (const pipe_param *row = p->params; row && row->name; row++)
        if (strcmp(row->name, name) == 0)
            return true;
    for (const pipe_input *row = p->inputs; row && row->name; row++)
        if (strcmp(row->name, name) == 0)
            return true;
    return false;
}

static pipe_status check_rule(const pipe_plugin *p, const pipe_rule *r, pipe_error *err)
{
    const char *const others[] = {r->needs, r->excludes};
    char name[MAX_NAME + 1];

    if (!has_row(p, r->name))
        return bad(err, "a rule is about \"%.*s\", which is no parameter or input", MAX_NAME, r->name);
    if (!r->needs && !r->excludes)
        return bad(err, "the rule about \"%s\" says nothing", r->name);
    for (size_t k = 0; k < 2; k++)
        for (const char *rest = others[k]; rest && *rest;)
            if (!pipei_next_name(&rest, name, sizeof name) || !has_row(p, name))
                return bad(err, "the rule about \"%s\" names \"%.*s\", which is no parameter or input", r->name,
                           MAX_NAME, others[k]);
    return PIPE_OK;
}

static pipe_status check_tables(const pipe_plugin *p, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) fields *f = pipe_alloc(sizeof *f);
    size_t n = 0;
    for (const pipe_param *row = p->params; row && row->name; row++) {
        if (n++ == MAX_ROWS)
            return bad(err, "the table of parameters does not end with PIPE_PARAM_END");
        PIPE_TRY(check_param(p, row, f, err));
    }
    n = 0;
    for (const pipe_input *row = p->inputs; row && row->name; row++) {
        if (n++ == MAX_ROWS)
            return bad(err, "the table of inputs does not end with PIPE_INPUT_END");
        PIPE_TRY(check_input(p, row, f, err));
    }
    for (const pipe_param *row = pipei_kind_params(p->kind); row && row->name; row++)
        for (size_t k = 0; k < f->n; k++)
            if (strcmp(f->field[k].name, row->name) == 0)
                return bad(err, "\"%s\" is a parameter that every %s has already", row->name, p->kind);
    n = 0;
    for (const pipe_output *row = p->outputs; row && row->name; row++) {
        if (!pipei_plugin_is_step(p))
            return bad(err, "a %s is a component and has no outputs", p->kind);
        if (n++ == MAX_ROWS)
            return bad(err, "the table of outputs does not end with PIPE_OUTPUT_END");
        PIPE_TRY(check_output(p, n - 1, err));
    }
    n = 0;
    for (const pipe_rule *row = p->rules; row && row->name; row++) {
        if (n++ == MAX_ROWS)
            return bad(err, "the table of rules does not end with PIPE_RULE_END");
        PIPE_TRY(check_rule(p, row, err));
    }
    return PIPE_OK;
}

/* Nothing behind the ABI version may be read before that version is known to be ours. */
static pipe_status check_abi(const pipe_plugin *p, pipe_error *err)
{
    if (p->magic != PIPE_ABI_MAGIC)
        return bad(err,
                   "its magic number is 0x%08x, not 0x%08x: the entry is no descriptor (begin it with "
                   "PIPE_ABI(kind))",
                   p->magic, PIPE_ABI_MAGIC);
    if (p->abi_major != PIPE_ABI_MAJOR)
        return bad(err,
                   "it was built for plugin ABI %u.%u, this engine has %d.%d: build it again with this "
                   "engine's headers",
                   p->abi_major, p->abi_minor, PIPE_ABI_MAJOR, PIPE_ABI_MINOR);
    if (p->abi_minor > PIPE_ABI_MINOR)
        return bad(
            err, "it was built for the newer plugin ABI %u.%u, this engine has %d.%d: install a newer engine",
            p->abi_major, p->abi_minor, PIPE_ABI_MAJOR, PIPE_ABI_MINOR);
    if (p->size < ABI_1_0_SIZE)
        return bad(err, "its descriptor has %u bytes, ABI %d.%d has %zu: it is truncated", p->size,
                   PIPE_ABI_MAJOR, PIPE_ABI_MINOR, (size_t)ABI_1_0_SIZE);
    return PIPE_OK;
}

pipe_status pipei_plugin_check(const pipe_plugin *p, pipe_error *err)
{
    PIPE_TRY(check_abi(p, err));
    PIPE_TRY(check_kind(p->kind, err));
    PIPE_TRY(pipei_plugin_name_check(p->name, p->kind, err));
    PIPE_TRY(check_text("its version", p->version, true, true, err));
    if (!is_version(p->version))
        return bad(err, "its version \"%.*s\" is not of the form 1.2.3", MAX_NAME, p->version);
    PIPE_TRY(check_text("its summary", p->summary, true, true, err));
    PIPE_TRY(check_text("its licence", p->licence, false, true, err));
    PIPE_TRY(check_text("its citation", p->citation, false, false, err));
    PIPE_TRY(check_text("its help", p->help, false, false, err));
    PIPE_TRY(check_text("its example", p->example, false, false, err));
    PIPE_TRY(check_functions(p, err));
    return check_tables(p, err);
}
