/* Texts about plugins that inspect, the manual pages and new-plugin share. */
#include "describe.h"

#include <stdio.h>
#include <string.h>

enum { WIDTH = 80 };

/* One paragraph's words, up to `end`. */
static void wrap_words(pipe_text *t, const char *s, const char *end, size_t indent)
{
    size_t column = 0;
    while (s < end) {
        while (s < end && (*s == ' ' || *s == '\n'))
            s++;
        size_t n = 0;
        while (s + n < end && s[n] != ' ' && s[n] != '\n')
            n++;
        if (n == 0)
            break;
        if (column && column + 1 + n > WIDTH) {
            pipe_text_add(t, "\n");
            column = 0;
        }
        if (column == 0) {
            pipe_text_addf(t, "%*s", (int)indent, "");
            column = indent;
        } else {
            pipe_text_add(t, " ");
            column++;
        }
        pipe_text_add_bytes(t, s, n);
        column += n;
        s += n;
    }
    if (column)
        pipe_text_add(t, "\n");
}

void describe_wrap(pipe_text *t, const char *text, size_t indent)
{
    const char *s = text;
    while (s && *s) {
        if (*s == '\n') {
            pipe_text_add(t, s[1] ? "\n" : "");
            s++;
            continue;
        }
        if (*s == ' ') {
            const size_t n = strcspn(s, "\n");
            pipe_text_addf(t, "%*s%.*s\n", (int)indent, "", (int)n, s);
            s += n + (s[n] == '\n');
            continue;
        }
        const char *end = s;
        while (*end && !(*end == '\n' && (end[1] == '\n' || end[1] == ' ')))
            end++;
        wrap_words(t, s, end, indent);
        s = end + (*end == '\n');
    }
}

void describe_indent(pipe_text *t, const char *text, size_t indent)
{
    while (*text) {
        const size_t n = strcspn(text, "\n");
        pipe_text_addf(t, "%*s%.*s\n", (int)indent, "", (int)n, text);
        text += n + (text[n] == '\n');
    }
}

size_t describe_count_params(const pipe_plugin *p)
{
    size_t n = 0;
    while (p->params && p->params[n].name)
        n++;
    return n;
}

const char *describe_type(pipe_type type)
{
    switch (type) {
    case PIPE_TYPE_BOOL: return "bool";
    case PIPE_TYPE_INT: return "int";
    case PIPE_TYPE_FLOAT: return "float";
    case PIPE_TYPE_STRING: return "string";
    case PIPE_TYPE_CHOICE: return "choice";
    case PIPE_TYPE_PATH: return "path";
    case PIPE_TYPE_INTS: return "ints";
    case PIPE_TYPE_FLOATS: return "floats";
    case PIPE_TYPE_STRINGS: return "strings";
    }
    return "unknown";
}

char *describe_sampler(const pipe_plugin *p)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    if (p->sampler.order > 0)
        pipe_text_addf(&t, "order %d, ", (int)p->sampler.order);
    if (p->sampler.calls_per_step > 0)
        pipe_text_addf(&t, "%d call%s of the denoiser per step, ", (int)p->sampler.calls_per_step,
                       p->sampler.calls_per_step == 1 ? "" : "s");
    pipe_text_add(&t, p->sampler.stochastic ? "stochastic" : "deterministic unless a parameter adds noise");
    return pipe_strdup(t.data);
}

void describe_no_plugins(const pipei_registry *r)
{
    const char *const *folders;
    const size_t n = pipei_registry_folders(r, &folders);
    fprintf(stderr, "no plugins; looked in:\n");
    for (size_t k = 0; k < n; k++)
        fprintf(stderr, "  %s\n", folders[k]);
    fprintf(stderr, "--plugin-path=DIR or PIPE_PLUGIN_PATH names another folder\n");
}
