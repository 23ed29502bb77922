/* pipe completion: scripts for bash, zsh and fish from the tables of verbs and
 * options.  Names of plugins are asked of the program when they are needed. */
#include "cli.h"

#include <string.h>

#define PLUGINS "pipe inspect --names 2>/dev/null"

/* What completes a value or an operand, by the placeholder that --help shows. */
typedef enum what { NOTHING, WORDS, FILES, FOLDERS, YAML, PLUGIN, VERB } what;

typedef struct rule {
    const char *placeholder;
    what what;
    const char *words;
} rule;

/* The first that occurs in the text counts. */
static const rule values[] = {
    {"WHEN", WORDS, "auto always never"},
    {"HOW", WORDS, "auto bar plain json none"},
    {"DEVICE", WORDS, "auto cpu gpu"},
    {"NAME[@VERSION]", PLUGIN, NULL},
    {"DIR", FOLDERS, NULL},
    {"FILE", FILES, NULL},
    {NULL, NOTHING, NULL},
};
static const rule operands[] = {
    {"KIND NAME", WORDS, "sampler schedule dataset"},
    {"SHELL", WORDS, "bash zsh fish"},
    {"VERB", VERB, NULL},
    {"PLUGIN", PLUGIN, NULL},
    {"FILE", YAML, NULL},
    {"RUN", FOLDERS, NULL},
    {"DIR", FOLDERS, NULL},
    {"list|", WORDS, "list clear gc verify"},
    {NULL, NOTHING, NULL},
};

static const rule *rule_for(const rule *r, const char *text)
{
    while (r->placeholder && !(text && strstr(text, r->placeholder)))
        r++;
    return r;
}

static void put_verbs(pipe_text *t)
{
    for (size_t k = 0; cli_verbs[k]; k++)
        pipe_text_addf(t, "%s%s", k ? " " : "", cli_verbs[k]->name);
}

/* The words that a rule stands for, when they are known now. */
static void put_words(pipe_text *t, const rule *r)
{
    if (r->what == WORDS)
        pipe_text_add(t, r->words);
    else if (r->what == VERB)
        put_verbs(t);
}

/* ---- bash ---- */

static void bash_reply(pipe_text *t, const rule *r)
{
    switch (r->what) {
    case NOTHING: pipe_text_add(t, ":"); break;
    case FILES: pipe_text_add(t, "_pipe_files -f"); break;
    case FOLDERS: pipe_text_add(t, "_pipe_files -d"); break;
    case YAML: pipe_text_add(t, "_pipe_files -d -X '!*.yaml' -X '!*.yml'"); break;
    case PLUGIN: pipe_text_add(t, "_pipe_words \"$(" PLUGINS ")\""); break;
    default:
        pipe_text_add(t, "_pipe_words '");
        put_words(t, r);
        pipe_text_add(t, "'");
    }
}

static void bash_values(pipe_text *t, const char *verb, const cli_option *o)
{
    for (; o && o->name; o++) {
        if (!o->value || o->value[0] == '[')
            continue;
        pipe_text_addf(t, "    '%s --%s'", verb, o->name);
        if (o->letter)
            pipe_text_addf(t, " | '%s -%c'", verb, o->letter);
        pipe_text_add(t, ") ");
        bash_reply(t, rule_for(values, o->value));
        pipe_text_add(t, "; return ;;\n");
    }
}

static void bash_options(pipe_text *t, const cli_option *o)
{
    for (; o && o->name; o++)
        pipe_text_addf(t, " --%s%s", o->name, o->value && o->value[0] != '[' ? "=" : "");
}

static void put_bash(pipe_text *t)
{
    pipe_text_add(
        t, "# bash completion for pipe; written by `pipe completion bash`\n"
           "_pipe_words()\n{\n"
           "    mapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$cur\")\n"
           "}\n"
           "# -f: files; -d: folders; -X PATTERN: files too, but those that match\n"
           "_pipe_files()\n{\n"
           "    local kind=$1\n"
           "    mapfile -t COMPREPLY < <(\n"
           "        compgen \"$kind\" -- \"$cur\"; shift\n"
           "        while (($# > 1)); do compgen -f -X \"$2\" -- \"$cur\"; shift 2; done)\n"
           "    compopt -o filenames 2>/dev/null\n"
           "}\n"
           "_pipe()\n{\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD-1]} verb= i options\n"
           "    COMPREPLY=()\n"
           "    # --name=value comes as three words\n"
           "    if [[ $cur == '=' ]]; then cur=; elif [[ $option == '=' ]]; then "
           "option=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
           "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
           "        case ${COMP_WORDS[i]} in\n"
           "        --color | --plugin-path) [[ ${COMP_WORDS[i+1]} == '=' ]] && ((i++)); ((i++)) ;;\n"
           "        -* | =) ;;\n"
           "        *) verb=${COMP_WORDS[i]}; break ;;\n"
           "        esac\n"
           "    done\n"
           "    case \"$verb $option\" in\n");
    for (size_t k = 0; cli_verbs[k]; k++)
        bash_values(t, cli_verbs[k]->name, cli_verbs[k]->options);
    for (const cli_option *o = cli_common_options; o->name; o++)
        if (o->value) {
            pipe_text_addf(t, "    *' --%s') ", o->name);
            bash_reply(t, rule_for(values, o->value));
            pipe_text_add(t, "; return ;;\n");
        }
    pipe_text_add(t, "    esac\n    options='");
    bash_options(t, cli_common_options);
    pipe_text_add(t, "'\n    case $verb in\n");
    for (size_t k = 0; cli_verbs[k]; k++) {
        pipe_text_addf(t, "    %s) options+='", cli_verbs[k]->name);
        bash_options(t, cli_verbs[k]->options);
        pipe_text_add(t, "' ;;\n");
    }
    pipe_text_add(t, "    esac\n"
                     "    if [[ $cur == -* ]]; then\n"
                     "        _pipe_words \"$options\"\n"
                     "        [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null\n"
                     "        return\n"
                     "    fi\n"
                     "    case $verb in\n    '') ");
    bash_reply(t, &(rule){NULL, VERB, NULL});
    pipe_text_add(t, " ;;\n");
    for (size_t k = 0; cli_verbs[k]; k++) {
        pipe_text_addf(t, "    %s) ", cli_verbs[k]->name);
        bash_reply(t, rule_for(operands, cli_verbs[k]->usage));
        pipe_text_add(t, " ;;\n");
    }
    pipe_text_add(t, "    esac\n"
                     "}\n"
                     "complete -F _pipe pipe\n");
}

/* ---- zsh ---- */

/* Inside '...' of an _arguments specification. */
static void zsh_text(pipe_text *t, const char *s)
{
    for (; *s; s++) {
        if (strchr("[]:\\", *s))
            pipe_text_addf(t, "\\%c", *s);
        else if (*s == '\'')
            pipe_text_add(t, "'\\''");
        else if (*s == '`')
            pipe_text_add(t, "\"");
        else
            pipe_text_add_bytes(t, s, 1);
    }
}

static void zsh_action(pipe_text *t, const rule *r)
{
    switch (r->what) {
    case NOTHING: pipe_text_add(t, " "); break;
    case FILES: pipe_text_add(t, "_files"); break;
    case FOLDERS: pipe_text_add(t, "_files -/"); break;
    case YAML: pipe_text_add(t, "_files -g \"*.(yaml|yml)(-.)\""); break;
    case PLUGIN: pipe_text_add(t, "compadd -- ${(f)\"$(" PLUGINS ")\"}"); break;
    default:
        pipe_text_add(t, "(");
        put_words(t, r);
        pipe_text_add(t, ")");
    }
}

static void zsh_options(pipe_text *t, const cli_option *o)
{
    for (; o && o->name; o++) {
        pipe_text_add(t, " \\\n            ");
        if (o->letter)
            pipe_text_addf(t, "'(-%c --%s)'{-%c,--%s}'", o->letter, o->name, o->letter, o->name);
        else
            pipe_text_addf(t, "'--%s", o->name);
        pipe_text_add(t, o->value ? "=[" : "[");
        zsh_text(t, o->help);
        pipe_text_add(t, "]");
        if (o->value) {
            pipe_text_add(t, o->value[0] == '[' ? "::" : ":");
            zsh_text(t, o->value);
            pipe_text_add(t, ":");
            zsh_action(t, rule_for(values, o->value));
        }
        pipe_text_add(t, "'");
    }
}

static void put_zsh(pipe_text *t)
{
    pipe_text_add(t,
                  "#compdef pipe\n# written by `pipe completion zsh`\n_pipe()\n{\n"
                  "    local context state line\n    typeset -A opt_args\n    local -a verbs\n    verbs=(\n");
    for (size_t k = 0; cli_verbs[k]; k++) {
        pipe_text_addf(t, "        '%s:", cli_verbs[k]->name);
        zsh_text(t, cli_verbs[k]->summary);
        pipe_text_add(t, "'\n");
    }
    pipe_text_add(t, "    )\n    _arguments -C");
    zsh_options(t, cli_common_options);
    pipe_text_add(t, " \\\n            '1:verb:->verb' '*::argument:->arguments'\n"
                     "    case $state in\n"
                     "    verb) _describe verb verbs ;;\n"
                     "    arguments)\n        case $line[1] in\n");
    for (size_t k = 0; cli_verbs[k]; k++) {
        const rule *r = rule_for(operands, cli_verbs[k]->usage);
        pipe_text_addf(t, "        %s) _arguments", cli_verbs[k]->name);
        zsh_options(t, cli_verbs[k]->options);
        zsh_options(t, cli_common_options);
        if (r->what != NOTHING) {
            pipe_text_add(t, " \\\n            '*:argument:");
            zsh_action(t, r);
            pipe_text_add(t, "'");
        }
        pipe_text_add(t, " ;;\n");
    }
    pipe_text_add(t, "        esac ;;\n    esac\n}\n\n_pipe \"$@\"\n");
}

/* ---- fish ---- */

static void fish_text(pipe_text *t, const char *s)
{
    pipe_text_add(t, "'");
    for (; *s; s++) {
        if (*s == '\'' || *s == '\\')
            pipe_text_add(t, "\\");
        pipe_text_add_bytes(t, s, 1);
    }
    pipe_text_add(t, "'");
}

static void fish_action(pipe_text *t, const rule *r)
{
    switch (r->what) {
    case NOTHING: break;
    case FILES: pipe_text_add(t, " -F"); break;
    case FOLDERS: pipe_text_add(t, " -f -a '(__fish_complete_directories)'"); break;
    case YAML: pipe_text_add(t, " -k -f -a '(__fish_complete_suffix .yaml)'"); break;
    case PLUGIN: pipe_text_add(t, " -f -a '(" PLUGINS ")'"); break;
    default:
        pipe_text_add(t, " -f -a '");
        put_words(t, r);
        pipe_text_add(t, "'");
    }
}

static void fish_options(pipe_text *t, const char *condition, const cli_option *o)
{
    for (; o && o->name; o++) {
        pipe_text_addf(t, "complete -c pipe%s -l %s", condition, o->name);
        if (o->letter)
            pipe_text_addf(t, " -s %c", o->letter);
        if (o->value && o->value[0] != '[') {
            pipe_text_add(t, " -r");
            fish_action(t, rule_for(values, o->value));
        }
        pipe_text_add(t, " -d ");
        fish_text(t, o->help);
        pipe_text_add(t, "\n");
    }
}

static void put_fish(pipe_text *t)
{
    pipe_text_add(t, "# fish completion for pipe; written by `pipe completion fish`\ncomplete -c pipe -f\n");
    for (size_t k = 0; cli_verbs[k]; k++) {
        pipe_text_addf(t, "complete -c pipe -n __fish_use_subcommand -a %s -d ", cli_verbs[k]->name);
        fish_text(t, cli_verbs[k]->summary);
        pipe_text_add(t, "\n");
    }
    fish_options(t, "", cli_common_options);
    for (size_t k = 0; cli_verbs[k]; k++) {
        const rule *r = rule_for(operands, cli_verbs[k]->usage);
        PIPE_CLEANUP(pipe_free_ptr)
        char *seen = pipe_format(" -n '__fish_seen_subcommand_from %s'", cli_verbs[k]->name);
        if (r->what != NOTHING) {
            pipe_text_addf(t, "complete -c pipe%s", seen);
            fish_action(t, r);
            pipe_text_add(t, "\n");
        }
        fish_options(t, seen, cli_verbs[k]->options);
    }
}

static const struct {
    const char *shell;
    void (*put)(pipe_text *t);
} shells[] = {{"bash", put_bash}, {"zsh", put_zsh}, {"fish", put_fish}};

static int run(const cli_args *a)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    if (!cli_operands(a, 1, 1, "shell"))
        return EXIT_USAGE;
    for (size_t k = 0; k < sizeof shells / sizeof shells[0]; k++)
        if (strcmp(a->operand[0], shells[k].shell) == 0) {
            shells[k].put(&t);
            fwrite(t.data, 1, t.length, stdout);
            return 0;
        }
    return cli_usage(a->verb, "there is no completion for %s: bash, zsh or fish", a->operand[0]);
}

const cli_verb cli_verb_completion = {
    .name = "completion",
    .summary = "Prints a completion script for a shell",
    .usage = "SHELL",
    .help = "SHELL is bash, zsh or fish. The installation puts the scripts where the shells look for them; "
            "otherwise\n"
            "  source <(pipe completion bash)",
    .run = run,
};
