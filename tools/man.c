/* pipe man: manual pages in man(7), of the program and each verb from the tables of
 * options, of each plugin from its descriptor.  The build writes and installs them. */
#include "core/base/file.h"
#include "cli.h"
#include "describe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const cli_option options[] = {
    {"all", 0, "DIR", "write the pages of the program, of its verbs and of every plugin into a folder"},
    {NULL}};

/* ---- roff ---- */

/* One line of running text without what roff would take for its own; `words` in
 * backquotes come out bold. */
static void put_line(pipe_text *t, const char *s, size_t n)
{
    bool bold = false;
    if (n && (*s == '.' || *s == '\''))
        pipe_text_add(t, "\\&");
    for (size_t k = 0; k < n; k++)
        switch (s[k]) {
        case '\\': pipe_text_add(t, "\\e"); break;
        case '-': pipe_text_add(t, "\\-"); break;
        case '^': pipe_text_add(t, "\\(ha"); break;
        case '~': pipe_text_add(t, "\\(ti"); break;
        case '"': pipe_text_add(t, "\\(dq"); break;
        case '`':
            bold = !bold;
            pipe_text_add(t, bold ? "\\fB" : "\\fP");
            break;
        default: pipe_text_add_bytes(t, s + k, 1);
        }
    pipe_text_add(t, bold ? "\\fP\n" : "\n");
}

static void put_word(pipe_text *t, const char *s)
{
    put_line(t, s, strlen(s));
    t->data[--t->length] = '\0'; /* the newline */
}

/* Paragraphs; lines that begin with a blank are examples and stay as they are. */
static void put_prose(pipe_text *t, const char *s)
{
    bool example = false, gap = false;
    const size_t start = t->length;
    while (s && *s) {
        const size_t n = strcspn(s, "\n");
        if (n == 0) {
            gap = true;
        } else {
            const bool changes = (*s == ' ') != example;
            if (changes && example)
                pipe_text_add(t, ".EE\n");
            if ((gap || changes) && t->length > start)
                pipe_text_add(t, ".PP\n");
            if (changes && !example)
                pipe_text_add(t, ".EX\n");
            example = *s == ' ';
            gap = false;
            put_line(t, s, n);
        }
        s += n + (s[n] == '\n');
    }
    pipe_text_add(t, example ? ".EE\n" : "");
}

static void put_section(pipe_text *t, const char *title)
{
    pipe_text_addf(t, ".SH %s\n", title);
}

static void put_entry(pipe_text *t, const char *label, const char *text)
{
    pipe_text_add(t, ".TP\n\\fB");
    put_word(t, label);
    pipe_text_add(t, "\\fP\n");
    put_prose(t, text);
}

/* SOURCE_DATE_EPOCH makes builds reproducible. */
static void put_title(pipe_text *t, const char *name, int section, const char *summary)
{
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    const time_t now = epoch && *epoch ? (time_t)strtoll(epoch, NULL, 10) : time(NULL);
    struct tm when;
    char date[16] = "";
    if (gmtime_r(&now, &when))
        strftime(date, sizeof date, "%Y-%m-%d", &when);
    pipe_text_addf(t, ".\\\" Written by `pipe man`.\n.TH \"%s\" %d \"%s\" \"pipe %s\" \"pipe manual\"\n",
                   name, section, date, pipe_version());
    put_section(t, "NAME");
    put_word(t, name);
    pipe_text_add(t, " \\- ");
    put_line(t, summary, strlen(summary));
}

/* ---- the program and its verbs ---- */

static void put_option(pipe_text *t, const cli_option *o)
{
    pipe_text_add(t, ".TP\n");
    if (o->letter)
        pipe_text_addf(t, "\\fB\\-%c\\fP, ", o->letter);
    pipe_text_add(t, "\\fB\\-\\-");
    put_word(t, o->name);
    pipe_text_add(t, "\\fP");
    if (o->value && o->value[0] == '[')
        pipe_text_addf(t, "[=\\fI%.*s\\fP]", (int)strlen(o->value) - 2, o->value + 1);
    else if (o->value)
        pipe_text_addf(t, "=\\fI%s\\fP", o->value);
    pipe_text_add(t, "\n");
    put_prose(t, o->help);
}

static void put_options(pipe_text *t, const char *title, const cli_option *o)
{
    if (!o || !o->name)
        return;
    put_section(t, title);
    for (; o->name; o++)
        put_option(t, o);
}

static void put_see_also(pipe_text *t, const cli_verb *but)
{
    put_section(t, "SEE ALSO");
    if (but)
        pipe_text_add(t, ".BR pipe (1),\n");
    for (size_t k = 0; cli_verbs[k]; k++) {
        if (cli_verbs[k] == but)
            continue;
        pipe_text_add(t, ".BR pipe\\-");
        put_word(t, cli_verbs[k]->name);
        pipe_text_addf(t, " (1)%s\n",
                       cli_verbs[k + 1] && (cli_verbs[k + 1] != but || cli_verbs[k + 2]) ? "," : "");
    }
}

static const struct {
    const char *name, *text;
} statuses[] = {
    {"0", "done, and every expectation of the pipeline met"},
    {"1", "an expectation was not met; of `pipe inspect --exists`: no such plugin"},
    {"2", "wrong usage, an invalid pipeline, an unknown plugin"},
    {"3", "a failure while running"},
    {"130, 143", "interrupted by SIGINT or SIGTERM; a checkpoint was written"},
};

static const struct {
    const char *name, *text;
} variables[] = {
    {"PIPE_PLUGIN_PATH", "folders with plugins, separated by colons, searched behind `--plugin-path`"},
    {"PIPE_DATA_DIR",
     "the user's data folder, whose `plugins` is searched too; default `$XDG_DATA_HOME/pipe`"},
    {"PIPE_CACHE_DIR",
     "results of steps, checkpoints, what is known of plugins; default `$XDG_CACHE_HOME/pipe`"},
    {"PIPE_DEVICE", "the OpenCL device unless the command line or the pipeline names one"},
    {"PIPE_DEVICE_MEMORY_LIMIT", "the most device memory that is used, in bytes"},
    {"PIPE_DEVICE_MEMORY",
     "`exact`: buffers of the size asked for, a buffer for each temporary, for checkers of kernels"},
    {"PIPE_LOG", "levels of messages: `info,graph:debug`"},
    {"NO_COLOR", "when set, messages have no colours"},
};

static void put_program(pipe_text *t)
{
    put_title(t, "pipe", 1, "trains, samples and measures diffusion models as a YAML pipeline says");
    put_section(t, "SYNOPSIS");
    pipe_text_add(t, ".B pipe\n.I VERB\n[\\fIOPTIONS\\fP] [\\fIFILE\\fP] [\\fINODE.KEY=VALUE\\fP ...]\n");
    put_section(t, "DESCRIPTION");
    put_prose(
        t,
        "`pipe` loads plugins and wires them into the graph that a YAML file declares. It trains, samples, "
        "guides, classifies and measures diffusion models on any OpenCL device. Results go to standard "
        "output, everything else to standard error.");
    put_section(t, "VERBS");
    for (size_t k = 0; cli_verbs[k]; k++)
        put_entry(t, cli_verbs[k]->name, cli_verbs[k]->summary);
    put_options(t, "OPTIONS OF EVERY VERB", cli_common_options);
    put_section(t, "EXIT STATUS");
    for (size_t k = 0; k < sizeof statuses / sizeof statuses[0]; k++)
        put_entry(t, statuses[k].name, statuses[k].text);
    put_section(t, "ENVIRONMENT");
    for (size_t k = 0; k < sizeof variables / sizeof variables[0]; k++)
        put_entry(t, variables[k].name, variables[k].text);
    put_section(t, "EXAMPLES");
    put_prose(t, "  pipe run quickstart.yaml\n  pipe run quickstart.yaml solver.plugin=sampler.heun\n"
                 "  pipe inspect sampler.ddim");
    put_see_also(t, NULL);
}

static void put_verb(pipe_text *t, const cli_verb *verb)
{
    PIPE_CLEANUP(pipe_free_ptr) char *name = pipe_format("pipe-%s", verb->name);
    put_title(t, name, 1, verb->summary);
    put_section(t, "SYNOPSIS");
    pipe_text_add(t, ".B pipe ");
    put_line(t, verb->name, strlen(verb->name));
    if (verb->usage && *verb->usage)
        put_line(t, verb->usage, strlen(verb->usage));
    put_section(t, "DESCRIPTION");
    put_word(t, verb->summary);
    pipe_text_add(t, ".\n");
    if (verb->help) {
        pipe_text_add(t, ".PP\n");
        put_prose(t, verb->help);
    }
    put_options(t, "OPTIONS", verb->options);
    put_options(t, "OPTIONS OF EVERY VERB", cli_common_options);
    put_see_also(t, verb);
}

/* ---- plugins ---- */

static void put_param_rows(pipe_text *t, const pipe_param *p, size_t n, const char *title)
{
    pipe_arena *a = pipe_arena_new();
    if (n)
        put_section(t, title);
    for (size_t k = 0; k < n; k++) {
        pipe_text_add(t, ".TP\n\\fB");
        put_word(t, p[k].name);
        pipe_text_add(t, "\\fP: ");
        const char *form = pipei_param_describe(&p[k], a);
        put_line(t, form, strlen(form));
        put_prose(t, p[k].help);
        if (p[k].alias)
            pipe_text_addf(t, "Formerly %s.\n", p[k].alias);
    }
    pipe_arena_free(a);
}

static void put_inputs(pipe_text *t, const pipe_input *in)
{
    if (in && in->name)
        put_section(t, "INPUTS");
    for (; in && in->name; in++) {
        pipe_text_add(t, ".TP\n\\fB");
        put_word(t, in->name);
        pipe_text_addf(t, "\\fP: %s%s%s", in->flags & PIPE_LIST ? "list of " : "", in->kind,
                       in->flags & PIPE_OPTIONAL ? ", optional" : "");
        if (in->fallback)
            pipe_text_addf(t, ", default %s", in->fallback);
        pipe_text_add(t, "\n");
        put_prose(t, in->help);
    }
}

static void put_outputs(pipe_text *t, const pipei_plugin *p)
{
    if (!p->step)
        return;
    put_section(t, "OUTPUTS");
    for (const pipe_output *out = p->meta.outputs; out && out->name; out++) {
        pipe_text_add(t, ".TP\n\\fB");
        put_word(t, out->name);
        pipe_text_addf(t, "\\fP: %s%s\n", out->kind ? "" : "of the kind of ",
                       out->kind ? out->kind : out->like);
        put_prose(t, out->help);
    }
    put_entry(t, "metrics", "the numbers that it reports");
}

static void put_about(pipe_text *t, const char *title, const char *text)
{
    if (!text || !*text)
        return;
    put_section(t, title);
    put_prose(t, text);
}

static void put_plugin(pipe_text *t, const pipei_plugin *p)
{
    const pipe_plugin *m = &p->meta;
    const size_t n = describe_count_params(m);
    PIPE_CLEANUP(pipe_free_ptr) char *name = pipe_format("pipe-%s", m->name);
    PIPE_CLEANUP(pipe_free_ptr) char *common = pipe_format("PARAMETERS OF EVERY %s", m->kind);
    for (char *c = common; *c; c++)
        *c = (char)(*c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
    put_title(t, name, 7, m->summary);
    put_section(t, "SYNOPSIS");
    if (m->example) {
        pipe_text_add(t, ".EX\n");
        for (const char *s = m->example; *s;) {
            const size_t k = strcspn(s, "\n");
            put_line(t, s, k);
            s += k + (s[k] == '\n');
        }
        pipe_text_add(t, ".EE\n");
    } else {
        pipe_text_addf(t, "plugin: %s\n", m->name);
    }
    put_section(t, "DESCRIPTION");
    pipe_text_addf(t, "A plugin of kind %s, version %s.\n", m->kind, m->version);
    if (strcmp(m->kind, PIPE_KIND_SAMPLER) == 0) {
        PIPE_CLEANUP(pipe_free_ptr) char *method = describe_sampler(m);
        pipe_text_addf(t, "Method: %s.\n", method);
    }
    if (p->trainable)
        pipe_text_add(t, "It has weights, which \\fBfit\\fP trains.\n");
    if (m->flags & PIPE_NONDETERMINISTIC)
        pipe_text_add(t, "Its results may differ from run to run and are never cached.\n");
    if (m->help) {
        pipe_text_add(t, ".PP\n");
        put_prose(t, m->help);
    }
    put_inputs(t, m->inputs);
    put_param_rows(t, m->params, p->own_params, "PARAMETERS");
    put_param_rows(t, m->params ? m->params + p->own_params : NULL, n - p->own_params, common);
    put_outputs(t, p);
    put_about(t, "CITATION", m->citation);
    put_about(t, "LICENCE", m->licence);
    put_section(t, "SEE ALSO");
    pipe_text_add(t, ".BR pipe (1),\n.BR pipe\\-inspect (1)\n");
}

/* ---- pages ---- */

static pipe_status write_page(const char *folder, const char *name, int section, const pipe_text *t,
                              pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipe_format("%s/%s.%d", folder, name, section);
    return pipei_file_write(path, t->data, t->length, err);
}

static pipe_status write_all(const char *folder, pipei_registry *r, pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    const pipei_plugin *p;
    PIPE_TRY(pipei_make_folders(folder, err));
    put_program(&t);
    PIPE_TRY(write_page(folder, "pipe", 1, &t, err));
    for (size_t k = 0; cli_verbs[k]; k++) {
        PIPE_CLEANUP(pipe_free_ptr) char *name = pipe_format("pipe-%s", cli_verbs[k]->name);
        pipe_text_clear(&t);
        put_verb(&t, cli_verbs[k]);
        PIPE_TRY(write_page(folder, name, 1, &t, err));
    }
    for (size_t k = 0; (p = pipei_registry_at(r, k)); k++) {
        PIPE_CLEANUP(pipe_free_ptr) char *name = pipe_format("pipe-%s", p->meta.name);
        pipe_text_clear(&t);
        put_plugin(&t, p);
        PIPE_TRY(write_page(folder, name, 7, &t, err));
    }
    return PIPE_OK;
}

static int unknown(pipei_registry *r, const char *name)
{
    const char *names[64];
    size_t n = 0;
    for (; cli_verbs[n] && n < 64; n++)
        names[n] = cli_verbs[n]->name;
    const char *near = pipe_nearest(name, names, n);
    if (!near)
        near = pipei_registry_nearest(r, name, NULL);
    return cli_fail(EXIT_USAGE, "there is no verb or plugin %s%s%s%s", name, near ? "; did you mean " : "",
                    near ? near : "", near ? "?" : "");
}

static int run(const cli_args *a)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    pipe_error err = PIPE_ERROR_INIT;
    const char *folder = cli_value(a, "all"), *name = a->n_operands ? a->operand[0] : "pipe";
    if (!cli_operands(a, 0, folder ? 0 : 1, "verb or plugin"))
        return EXIT_USAGE;
    const cli_verb *verb = cli_find_verb(name);
    if (!folder && strcmp(name, "pipe") == 0) {
        put_program(&t);
    } else if (!folder && verb) {
        put_verb(&t, verb);
    } else {
        PIPE_CLEANUP(cli_close_registry) pipei_registry *r = cli_open_registry();
        if (!r)
            return EXIT_RUN;
        if (folder)
            return write_all(folder, r, &err) == PIPE_OK ? 0 : cli_fail_error(err.status, &err);
        const pipei_plugin *p = pipei_registry_find(r, name);
        if (!p)
            return unknown(r, name);
        put_plugin(&t, p);
    }
    fwrite(t.data, 1, t.length, stdout);
    return 0;
}

const cli_verb cli_verb_man = {
    .name = "man",
    .summary = "Prints a manual page of the program, a verb or a plugin",
    .usage = "[OPTIONS] [VERB | PLUGIN]",
    .help = "The page is in man(7) and made from the same tables as --help and `pipe inspect`:\n"
            "  pipe man sampler.ddim | man -l -",
    .options = options,
    .run = run,
};
