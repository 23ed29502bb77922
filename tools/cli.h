/* The program `pipe`: one file per sub-command. */
#ifndef PIPE_TOOLS_CLI_H
#define PIPE_TOOLS_CLI_H

#include <stdbool.h>
#include <stddef.h>

enum { EXIT_UNMET = 1, EXIT_USAGE = 2, EXIT_RUN = 3, EXIT_SIGINT = 130, EXIT_SIGTERM = 143 };

/* One option; every sub-command lists its own, from which parsing, --help,
 * completion and the manual page come. */
typedef struct cli_option {
    const char *name;           /* "output" for --output */
    char letter;                /* 'o' or 0 */
    const char *value;          /* "DIR" when it takes one; "[NODE]" when optional; NULL: a flag */
    const char *help;
} cli_option;

typedef struct cli_args {
    const struct cli_verb *verb;
    const char *const *operand;          /* what is not an option */
    size_t n_operands;
    /* options in the order given */
    struct { const cli_option *option; const char *value; } *given;
    size_t n_given;
    int argc;
    char **argv;
} cli_args;

typedef struct cli_verb {
    const char *name, *summary, *usage;
    const char *help;                    /* paragraphs; may be NULL */
    const cli_option *options;           /* ends with name NULL */
    int (*run)(const cli_args *a);       /* exit status */
} cli_verb;

/* The verbs, NULL-terminated: tools/verbs.c lists them. */
extern const cli_verb *const cli_verbs[];

bool cli_flag(const cli_args *a, const char *name);                  /* given at all? */
const char *cli_value(const cli_args *a, const char *name);          /* last value, or NULL */
size_t cli_values(const cli_args *a, const char *name, const char **out, size_t max);
/* Options that all verbs share (-h, -v, -q, --color, --plugin-path) are handled in main.c. */
const char *const *cli_plugin_path(void);
bool cli_colour_stderr(void);
/* "pipe: error: ..." on stderr; returns `status`. */
int cli_fail(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
