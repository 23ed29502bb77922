/* `pipe`: finds the verb, handles the options that all share, and maps outcomes
 * to exit statuses. */
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/tensor/engine.h"
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const cli_option cli_common_options[] = {
    {"help", 'h', NULL, "show this help"},
    {"verbose", 'v', NULL, "say more: debug messages; -vv traces"},
    {"quiet", 'q', NULL, "say less: warnings and errors only"},
    {"color", 0, "WHEN", "colours on the terminal: auto, always or never"},
    {"plugin-path", 0, "DIR", "look for plugins here first; may be repeated"},
    {"version", 0, NULL, "print the version"},
    {NULL}
};

static const char **plugin_path;        /* set once, before a verb runs */

const char *const *cli_plugin_path(void)
{
    return plugin_path;
}

bool cli_colour_stderr(void)
{
    return pipei_color_wanted(STDERR_FILENO);
}

/* ---- mistakes ---- */
static __attribute__((format(printf, 2, 0))) void print_error(const char *who, const char *fmt, va_list args)
{
    const bool colour = cli_colour_stderr();
    fflush(stdout);
    fprintf(stderr, "%s: %serror:%s ", who, colour ? "\033[1;31m" : "", colour ? "\033[0m" : "");
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
}

int cli_fail(int status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    print_error("pipe", fmt, args);
    va_end(args);
    return status;
}

int cli_usage(const cli_verb *verb, const char *fmt, ...)
{
    va_list args;
    PIPE_CLEANUP(pipe_free_ptr) char *who = verb ? pipe_format("pipe %s", verb->name) : pipe_strdup("pipe");
    va_start(args, fmt);
    print_error(who, fmt, args);
    va_end(args);
    fprintf(stderr, "`%s --help` lists what there is\n", who);
    return EXIT_USAGE;
}

bool cli_operands(const cli_args *a, size_t min, size_t max, const char *what)
{
    if (a->n_operands < min)
        cli_usage(a->verb, "%s is missing", what);
    else if (a->n_operands > max)
        cli_usage(a->verb, max == 0 ? "\"%s\" is one argument too many" : "\"%s\": one %s at most",
                  a->operand[max], what);
    else
        return true;
    return false;
}

int cli_exit_status(pipe_status status)
{
    return status == PIPE_OK ? 0 : status == PIPE_EPIPELINE ? EXIT_USAGE :
           status == PIPE_EINTERRUPTED ? EXIT_SIGINT : EXIT_RUN;
}

int cli_fail_error(pipe_status status, const pipe_error *err)
{
    return cli_fail(cli_exit_status(status), "%s", err->message[0] ? err->message : pipe_status_name(status));
}

void cli_print_diagnostics(const pipei_diagnostics *d)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    pipei_diagnostics_print(d, &t, cli_colour_stderr());
    fflush(stdout);
    if (t.length)
        fwrite(t.data, 1, t.length, stderr);
}

bool cli_check_file(const char *path)
{
    if (strcmp(path, "-") == 0 || access(path, R_OK) == 0)
        return true;
    const int code = errno;
    PIPE_CLEANUP(pipe_free_ptr) char *folder = pipei_path_folder(path);
    PIPE_CLEANUP(pipei_listing_free) pipei_listing list = {0};
    const char *near = NULL;
    if (code == ENOENT && pipei_list_folder(folder, &list, NULL) == PIPE_OK) {
        const char **names = pipe_alloc_array(list.count + 1, sizeof *names);
        for (size_t k = 0; k < list.count; k++)
            names[k] = list.entries[k].name;
        near = pipe_nearest(pipei_path_name(path), names, list.count);
        pipe_free(names);
    }
    cli_fail(EXIT_USAGE, "%s: %s%s%s%s", path, strerror(code), near ? "; did you mean " : "",
             near ? near : "", near ? "?" : "");
    return false;
}

/* ---- results ---- */
int cli_output(const cli_args *a, const pipe_text *text)
{
    pipe_error err = PIPE_ERROR_INIT;
    const char *path = cli_value(a, "output");
    if (!path || strcmp(path, "-") == 0) {
        fwrite(text->data ? text->data : "", 1, text->length, stdout);
        return 0;
    }
    if (pipei_path_exists(path) && !cli_flag(a, "overwrite"))
        return cli_fail(EXIT_USAGE, "%s exists: --overwrite replaces it", path);
    const pipe_status status = pipei_file_write(path, text->data ? text->data : "", text->length, &err);
    return status == PIPE_OK ? 0 : cli_fail_error(status, &err);
}

int cli_output_json(json_t *document)
{
    char *text = document ? json_dumps(document, JSON_INDENT(2)) : NULL;
    json_decref(document);
    if (!text)
        return cli_fail(EXIT_RUN, "a text is not UTF-8: it cannot be written as JSON");
    puts(text);
    free(text);
    return 0;
}

pipei_registry *cli_open_registry(void)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipei_registry *r = NULL;
    if (pipei_registry_open(plugin_path, &r, &err) != PIPE_OK) {
        cli_fail_error(err.status, &err);
        return NULL;
    }
    return r;
}

void cli_close_registry(pipei_registry **r)
{
    if (*r)
        pipei_registry_close(*r);
}

/* ---- shared options ---- */
static bool apply_color(const cli_args *a)
{
    static const char *const modes[] = {"auto", "always", "never"};
    const char *value = cli_value(a, "color");
    for (size_t k = 0; value && k < 3; k++)
        if (strcmp(value, modes[k]) == 0) {
            pipei_log_set_color((pipei_color)k);
            return true;
        }
    if (value)
        cli_usage(a->verb, "--color=%s: auto, always or never", value);
    return !value;
}

static bool apply_common(const cli_args *a)
{
    unsigned verbose = 0;
    for (size_t k = 0; k < a->n_given; k++)
        verbose += strcmp(a->given[k].option->name, "verbose") == 0;
    if (cli_flag(a, "quiet"))
        pipei_log_set_level(PIPE_LOG_WARN);
    else if (verbose)
        pipei_log_set_level(verbose > 1 ? PIPE_LOG_TRACE : PIPE_LOG_DEBUG);
    return apply_color(a);
}

static int print_version(void)
{
    printf("pipe %s\n", pipe_version());
    return 0;
}

static bool is_verb_position(const char *text)
{
    return text[0] != '-' || text[1] == '\0';
}

/* Where the verb stands: behind the shared options, of which two take a value. */
static int find_verb(int argc, char **argv)
{
    int k = 1;
    while (k < argc && !is_verb_position(argv[k])) {
        const bool takes = strcmp(argv[k], "--color") == 0 || strcmp(argv[k], "--plugin-path") == 0;
        k += takes ? 2 : 1;
    }
    return k < argc ? k : argc;
}

static const cli_verb *need_verb(const char *name)
{
    const cli_verb *verb = cli_find_verb(name);
    if (verb)
        return verb;
    const char *names[64];
    size_t n = 0;
    for (; cli_verbs[n] && n < 64; n++)
        names[n] = cli_verbs[n]->name;
    const char *near = pipe_nearest(name, names, n);
    const size_t length = strlen(name);
    if (near)
        cli_usage(NULL, "there is no verb %s; did you mean %s?", name, near);
    else if (length > 5 && strcmp(name + length - 5, ".yaml") == 0)
        cli_usage(NULL, "there is no verb %s; did you mean pipe run %s?", name, name);
    else
        cli_usage(NULL, "there is no verb %s", name);
    return NULL;
}

static int run(int argc, char **argv)
{
    cli_args before, after;
    bool done;
    int status = EXIT_USAGE;
    const int at = find_verb(argc, argv);
    const bool parsed = cli_parse(NULL, at, argv, &before, &done);
    after = (cli_args){0};
    if (done) {
        status = 0;
    } else if (parsed && apply_common(&before)) {
        const cli_verb *verb = at < argc ? need_verb(argv[at]) : NULL;
        if (cli_flag(&before, "version")) {
            status = print_version();
        } else if (at == argc) {
            cli_print_help(NULL, stderr);
        } else if (verb && cli_parse(verb, argc - at, argv + at, &after, &done)) {
            plugin_path = pipe_alloc_array(before.n_given + after.n_given + 1, sizeof *plugin_path);
            size_t n = cli_values(&before, "plugin-path", plugin_path, before.n_given);
            n += cli_values(&after, "plugin-path", plugin_path + n, after.n_given);
            after.argc = argc;
            after.argv = argv;
            if (done)
                status = 0;
            else if (cli_flag(&after, "version"))
                status = print_version();
            else if (apply_common(&after))
                status = verb->run(&after);
            pipe_free(plugin_path);
        }
    }
    cli_args_free(&before);
    cli_args_free(&after);
    return status;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], PIPEI_AHEAD_OPTION) == 0) /* what pipe itself starts */
        return pipei_ahead_main();
    pipei_ahead_helper("/proc/self/exe");
    const int status = run(argc, argv);
    /* A full disk behind `> file` must not look like success. */
    if (fflush(stdout) != 0 || ferror(stdout))
        return cli_fail(status ? status : EXIT_RUN, "standard output: %s", strerror(errno));
    return status;
}
