/* The program `pipe`: one file per sub-command. */
#ifndef PIPE_TOOLS_CLI_H
#define PIPE_TOOLS_CLI_H

#include "core/graph/graph.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { EXIT_UNMET = 1, EXIT_USAGE = 2, EXIT_RUN = 3, EXIT_SIGINT = 130, EXIT_SIGTERM = 143 };

/* One option; every sub-command lists its own, from which parsing, --help,
 * completion and the manual page come. */
typedef struct cli_option {
    const char *name;           /* "output" for --output; NULL ends a list */
    char letter;                /* 'o' or 0 */
    const char *value;          /* "DIR" when it takes one; "[NODE]" when optional; NULL: a flag */
    const char *help;
} cli_option;

typedef struct cli_given {
    const cli_option *option;
    const char *value;          /* NULL: none */
} cli_given;

typedef struct cli_args {
    const struct cli_verb *verb;
    const char *const *operand;          /* what is not an option */
    size_t n_operands;
    cli_given *given;                    /* options in the order given */
    size_t n_given;
    int argc;                            /* of the whole command line */
    char **argv;
} cli_args;

typedef struct cli_verb {
    const char *name, *summary;          /* no full stop */
    const char *usage;                   /* behind the name: "[OPTIONS] FILE" */
    const char *help;                    /* paragraphs; may be NULL */
    const cli_option *options;           /* ends with name NULL; may be NULL */
    int (*run)(const cli_args *a);       /* exit status */
} cli_verb;

/* The verbs, NULL-terminated: tools/verbs.c lists them. */
extern const cli_verb *const cli_verbs[];
const cli_verb *cli_find_verb(const char *name);
/* Options that all verbs share (-h, -v, -q, --color, --plugin-path, --version): main.c handles them. */
extern const cli_option cli_common_options[];

/* ---- what was given ---- */
bool cli_flag(const cli_args *a, const char *name);                  /* given at all? */
const char *cli_value(const cli_args *a, const char *name);          /* last value, or NULL */
size_t cli_values(const cli_args *a, const char *name, const char **out, size_t max);
const char *const *cli_plugin_path(void);        /* of --plugin-path, NULL-terminated; NULL: not given */
bool cli_colour_stderr(void);
/* Operands are files and bare node.key=value; --set values come behind these.
 * Both arrays have room for all; freed with pipe_free(). */
typedef struct cli_inputs {
    const char **file, **override;
    size_t n_files, n_overrides;
} cli_inputs;
void cli_split_inputs(const cli_args *a, cli_inputs *out);
void cli_inputs_free(cli_inputs *in);            /* also for PIPE_CLEANUP */

/* ---- parsing (options.c) ---- */
/* argv[0] is the verb's own name.  false: a usage error was printed, or (*done) help was. */
bool cli_parse(const cli_verb *verb, int argc, char **argv, cli_args *out, bool *done);
void cli_args_free(cli_args *a);

/* ---- help (usage.c) ---- */
void cli_print_help(const cli_verb *verb, FILE *out);                /* NULL: of the program */

/* ---- results and mistakes ---- */
/* "pipe: error: ..." on stderr; returns `status`. */
int cli_fail(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same for a wrong command line, with a pointer to --help; returns EXIT_USAGE. */
int cli_usage(const cli_verb *verb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Too few or too many operands (max SIZE_MAX: any number): prints, returns false. */
bool cli_operands(const cli_args *a, size_t min, size_t max, const char *what);
/* The exit status that a failed call of the library means. */
int cli_exit_status(pipe_status status);
int cli_fail_error(pipe_status status, const pipe_error *err);       /* prints; returns the exit status */
/* On stderr. */
void cli_print_diagnostics(const pipei_diagnostics *d);
/* Text to stdout, or to the file of --output (never overwritten without --overwrite). */
int cli_output(const cli_args *a, const pipe_text *text);
/* One JSON document to stdout; takes the reference. */
int cli_output_json(json_t *document);
/* The registry with --plugin-path; NULL: printed. */
pipei_registry *cli_open_registry(void);
void cli_close_registry(pipei_registry **r);     /* for PIPE_CLEANUP */
/* A pipeline that is no readable file: prints, with the nearest name in its folder; returns false. */
bool cli_check_file(const char *path);

#endif
