/* GNU style options from tables: --name=value, --name value, -x, -xvalue, -- ends
 * them.  Abbreviations are not accepted: they would change meaning when an option
 * is added. */
#include "cli.h"

#include <stdio.h>
#include <string.h>

enum { MAX_NAMES = 128 };

typedef struct parser {
    const cli_verb *verb;
    int argc, at;
    char **argv;
    cli_args *out;
    const char **operand;
    bool *done;
} parser;

static const cli_option *find(const cli_option *o, const char *name, size_t n, char letter)
{
    for (; o && o->name; o++)
        if (name ? strlen(o->name) == n && memcmp(o->name, name, n) == 0 : o->letter == letter)
            return o;
    return NULL;
}

static const cli_option *find_any(const parser *p, const char *name, size_t n, char letter)
{
    const cli_option *o = p->verb ? find(p->verb->options, name, n, letter) : NULL;
    return o ? o : find(cli_common_options, name, n, letter);
}

static void unknown(const parser *p, const char *name, size_t n)
{
    const char *names[MAX_NAMES];
    const cli_option *const lists[] = {p->verb ? p->verb->options : NULL, cli_common_options};
    size_t count = 0;
    for (size_t k = 0; k < 2; k++)
        for (const cli_option *o = lists[k]; o && o->name && count < MAX_NAMES; o++)
            names[count++] = o->name;
    PIPE_CLEANUP(pipe_free_ptr) char *word = pipe_format("%.*s", (int)n, name);
    const char *near = pipe_nearest(word, names, count);
    cli_usage(p->verb, "unknown option --%s%s%s%s", word, near ? "; did you mean --" : "", near ? near : "",
              near ? "?" : "");
}

static bool optional(const cli_option *o)
{
    return o->value && o->value[0] == '[';
}

static void give(parser *p, const cli_option *o, const char *value)
{
    p->out->given[p->out->n_given++] = (cli_given){.option = o, .value = value};
    if (strcmp(o->name, "help") == 0 && find(cli_common_options, "help", 4, 0) == o) {
        cli_print_help(p->verb, stdout);
        *p->done = true;
    }
}

static bool take_value(parser *p, const cli_option *o, const char *shown)
{
    if (p->at >= p->argc) {
        cli_usage(p->verb, "%s needs a value: --%s=%s", shown, o->name, o->value);
        return false;
    }
    give(p, o, p->argv[p->at++]);
    return true;
}

static bool parse_long(parser *p, const char *text)
{
    const char *name = text + 2;
    const size_t n = strcspn(name, "=");
    const cli_option *o = find_any(p, name, n, 0);
    if (!o) {
        unknown(p, name, n);
        return false;
    }
    if (name[n] == '=' && !o->value) {
        cli_usage(p->verb, "--%s takes no value", o->name);
        return false;
    }
    if (name[n] == '=' || !o->value || optional(o)) {
        give(p, o, name[n] == '=' ? name + n + 1 : NULL);
        return true;
    }
    return take_value(p, o, text);
}

/* -nk is -n -k; -oDIR is -o DIR. */
static bool parse_short(parser *p, const char *text)
{
    for (const char *c = text + 1; *c && !*p->done; c++) {
        const cli_option *o = find_any(p, NULL, 0, *c);
        const char shown[] = {'-', *c, '\0'};
        if (!o) {
            cli_usage(p->verb, "unknown option -%c", *c);
            return false;
        }
        if (!o->value || optional(o)) {
            give(p, o, NULL);
        } else if (c[1]) {
            give(p, o, c + 1);
            return true;
        } else {
            return take_value(p, o, shown);
        }
    }
    return true;
}

bool cli_parse(const cli_verb *verb, int argc, char **argv, cli_args *out, bool *done)
{
    size_t letters = 0;
    for (int k = 0; k < argc; k++)
        letters += strlen(argv[k]) + 1;
    *out = (cli_args){.verb = verb, .given = pipe_alloc_array(letters + 1, sizeof(cli_given))};
    parser p = {.verb = verb, .argc = argc, .at = 1, .argv = argv, .out = out, .done = done,
                .operand = pipe_alloc_array((size_t)argc + 1, sizeof(char *))};
    *done = false;
    out->operand = p.operand;
    while (p.at < argc && !*done) {
        const char *text = argv[p.at++];
        if (strcmp(text, "--") == 0) {
            while (p.at < argc)
                p.operand[out->n_operands++] = argv[p.at++];
        } else if (strncmp(text, "--", 2) == 0) {
            if (!parse_long(&p, text))
                return false;
        } else if (text[0] == '-' && text[1]) {
            if (!parse_short(&p, text))
                return false;
        } else {
            p.operand[out->n_operands++] = text;
        }
    }
    return true;
}

void cli_args_free(cli_args *a)
{
    pipe_free((void *)a->operand);
    pipe_free(a->given);
    *a = (cli_args){0};
}

/* ---- what was given ---- */
bool cli_flag(const cli_args *a, const char *name)
{
    for (size_t k = 0; k < a->n_given; k++)
        if (strcmp(a->given[k].option->name, name) == 0)
            return true;
    return false;
}

const char *cli_value(const cli_args *a, const char *name)
{
    for (size_t k = a->n_given; k-- > 0; )
        if (strcmp(a->given[k].option->name, name) == 0 && a->given[k].value)
            return a->given[k].value;
    return NULL;
}

size_t cli_values(const cli_args *a, const char *name, const char **out, size_t max)
{
    size_t n = 0;
    for (size_t k = 0; k < a->n_given && n < max; k++)
        if (strcmp(a->given[k].option->name, name) == 0 && a->given[k].value)
            out[n++] = a->given[k].value;
    return n;
}

/* node.key=value, seed=7, vars.name=value: a word before the first '='.  A file
 * of such a name can be given as ./a=b. */
static bool is_assignment(const char *text)
{
    static const char word[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    const size_t n = strspn(text, word);
    return n > 0 && text[n] == '=' && text[0] != '.';
}

void cli_split_inputs(const cli_args *a, cli_inputs *out)
{
    const size_t room = a->n_operands + a->n_given + 2;
    *out = (cli_inputs){.file = pipe_alloc_array(room, sizeof(char *)),
                        .override = pipe_alloc_array(room, sizeof(char *))};
    for (size_t k = 0; k < a->n_operands; k++)
        if (is_assignment(a->operand[k]))
            out->override[out->n_overrides++] = a->operand[k];
        else
            out->file[out->n_files++] = a->operand[k];
    out->n_overrides += cli_values(a, "set", out->override + out->n_overrides, a->n_given);
}

void cli_inputs_free(cli_inputs *in)
{
    pipe_free(in->file);
    pipe_free(in->override);
    *in = (cli_inputs){0};
}
