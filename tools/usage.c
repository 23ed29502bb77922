/* --help, of the program and of each verb, from their tables; and `pipe help`. */
#include "cli.h"

#include <stdio.h>
#include <string.h>

enum { WIDTH = 80, COLUMN = 26 };

/* Words of `text`, broken at WIDTH; the first line starts at column `at`. */
static void wrap(FILE *out, const char *text, int at, int indent)
{
    int column = at;
    while (*text) {
        const int n = (int)strcspn(text, " \n");
        if (column > indent && column + 1 + n > WIDTH) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
        } else if (column > at || (column > indent && at > indent)) {
            fputc(' ', out);
            column++;
        }
        fwrite(text, 1, (size_t)n, out);
        column += n;
        text += n;
        while (*text == ' ')
            text++;
        if (*text == '\n') {
            text++;
            fprintf(out, "\n%*s", *text == '\n' || !*text ? 0 : indent, "");
            column = at = indent;
        }
    }
    fputc('\n', out);
}

static void print_option(FILE *out, const cli_option *o)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text left = {0};
    if (o->letter)
        pipe_text_addf(&left, "  -%c, --%s", o->letter, o->name);
    else
        pipe_text_addf(&left, "      --%s", o->name);
    if (o->value && o->value[0] == '[')
        pipe_text_addf(&left, "[=%s", o->value + 1);
    else if (o->value)
        pipe_text_addf(&left, "=%s", o->value);
    fprintf(out, "%s", left.data);
    const int used = (int)left.length;
    if (used > COLUMN - 2)
        fprintf(out, "\n%*s", COLUMN, "");
    else
        fprintf(out, "%*s", COLUMN - used, "");
    wrap(out, o->help, COLUMN, COLUMN);
}

static void print_options(FILE *out, const char *title, const cli_option *o)
{
    if (!o || !o->name)
        return;
    fprintf(out, "\n%s:\n", title);
    for (; o->name; o++)
        print_option(out, o);
}

static void print_program_help(FILE *out)
{
    fprintf(out, "Usage: pipe VERB [OPTIONS] [FILE] [NODE.KEY=VALUE ...]\n\n"
            "Trains, samples and measures diffusion models as a YAML pipeline says.\n\nVerbs:\n");
    for (size_t k = 0; cli_verbs[k]; k++)
        fprintf(out, "  %-12s %s\n", cli_verbs[k]->name, cli_verbs[k]->summary);
    print_options(out, "Options of every verb", cli_common_options);
    fprintf(out, "\n`pipe VERB --help` tells about one of them.  Start with\n"
            "  pipe run pipelines/quickstart.yaml\n");
}

void cli_print_help(const cli_verb *verb, FILE *out)
{
    if (!verb) {
        print_program_help(out);
        return;
    }
    fprintf(out, "Usage: pipe %s%s%s\n\n%s.\n", verb->name, verb->usage && *verb->usage ? " " : "",
            verb->usage ? verb->usage : "", verb->summary);
    if (verb->help) {
        fputc('\n', out);
        wrap(out, verb->help, 0, 0);
    }
    print_options(out, "Options", verb->options);
    print_options(out, "Options of every verb", cli_common_options);
}

/* ---- pipe help ---- */
static int run_help(const cli_args *a)
{
    if (!cli_operands(a, 0, 1, "verb"))
        return EXIT_USAGE;
    const cli_verb *verb = NULL;
    if (a->n_operands) {
        verb = cli_find_verb(a->operand[0]);
        if (!verb) {
            const char *names[64];
            size_t n = 0;
            for (; cli_verbs[n] && n < 64; n++)
                names[n] = cli_verbs[n]->name;
            const char *near = pipe_nearest(a->operand[0], names, n);
            return cli_usage(NULL, "there is no verb %s%s%s%s", a->operand[0], near ? "; did you mean " : "",
                             near ? near : "", near ? "?" : "");
        }
    }
    cli_print_help(verb, stdout);
    return 0;
}

const cli_verb cli_verb_help = {
    .name = "help", .summary = "Tells how to use a verb", .usage = "[VERB]", .run = run_help,
};
