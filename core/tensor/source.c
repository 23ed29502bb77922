/* OpenCL C as text: which names a source defines, and parameters added to its kernels.
 *
 * A scanner, not a parser: comments, strings, directives, words, brackets. */
#include "core/tensor/build.h"

#include <ctype.h>
#include <string.h>

static void add_name(names *l, const char *start, size_t n)
{
    for (size_t k = 0; k < l->n; k++)
        if (strlen(l->list[k]) == n && strncmp(l->list[k], start, n) == 0)
            return;
    if (l->n == l->capacity) {
        char **more = pipe_arena_alloc(l->a, (l->capacity + 16) * sizeof *more);
        if (l->n)
            memcpy(more, l->list, l->n * sizeof *more);
        l->list = more;
        l->capacity += 16;
    }
    l->list[l->n++] = pipe_arena_strndup(l->a, start, n);
}

bool pipei_names_have(const names *l, const char *start, size_t n)
{
    for (size_t k = 0; k < l->n; k++)
        if (strlen(l->list[k]) == n && strncmp(l->list[k], start, n) == 0)
            return true;
    return false;
}

/* Past a comment, a string, or white space; where it is when there is none. */
static const char *skip_blank(const char *s)
{
    for (;;) {
        while (isspace((unsigned char)*s) || (s[0] == '\\' && s[1] == '\n'))
            s++;
        if (s[0] == '/' && s[1] == '/') {
            while (*s && *s != '\n')
                s++;
        } else if (s[0] == '/' && s[1] == '*') {
            const char *end = strstr(s + 2, "*/");
            s = end ? end + 2 : s + strlen(s);
        } else {
            return s;
        }
    }
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* A directive up to the end of its last continued line. */
static const char *directive(const char *s, names *macros)
{
    const char *at = s + 1;
    while (*at == ' ' || *at == '\t')
        at++;
    if (strncmp(at, "define", 6) == 0 && !is_word(at[6])) {
        at += 6;
        while (*at == ' ' || *at == '\t')
            at++;
        const char *name = at;
        while (is_word(*at))
            at++;
        add_name(macros, name, (size_t)(at - name));
    }
    while (*at && !(*at == '\n' && at[-1] != '\\'))
        at++;
    return at;
}

/* Which names the source defines: macros, and functions, variables and types at
 * file scope (an identifier outside all braces and parentheses, followed by one
 * of ( [ = ; or {). */
void pipei_source_names(const char *s, names *macros, names *defined)
{
    static const char *const keywords[] = {"__attribute__", "struct",   "union", "enum",
                                           "kernel",        "__kernel", "void"};
    int braces = 0, parens = 0;

    for (s = skip_blank(s); *s; s = skip_blank(s)) {
        if (*s == '#') {
            s = directive(s, macros);
        } else if (*s == '"' || *s == '\'') {
            const char quote = *s++;
            while (*s && *s != quote)
                s += *s == '\\' && s[1] ? 2 : 1;
            s += *s != '\0';
        } else if (is_word(*s)) {
            const char *start = s;
            while (is_word(*s))
                s++;
            const size_t n = (size_t)(s - start);
            const char next = *skip_blank(s);
            bool keyword = isdigit((unsigned char)*start);
            for (size_t k = 0; k < sizeof keywords / sizeof keywords[0]; k++)
                keyword |= strlen(keywords[k]) == n && strncmp(keywords[k], start, n) == 0;
            if (!braces && !parens && !keyword && next && strchr("([=;{", next) &&
                !pipei_names_have(macros, start, n))
                add_name(defined, start, n);
        } else {
            braces += (*s == '{') - (*s == '}');
            parens += (*s == '(') - (*s == ')');
            s++;
        }
    }
}

/* ---- parameters for kernels ---- */

static bool word_is(const char *start, size_t n, const char *word)
{
    return strlen(word) == n && strncmp(start, word, n) == 0;
}

/* Past the bracket that matches the one at s. */
static const char *past_parens(const char *s)
{
    int depth = 0;
    for (s = skip_blank(s); *s; s = skip_blank(s + 1)) {
        depth += (*s == '(') - (*s == ')');
        if (depth == 0)
            return s + 1;
    }
    return s;
}

/* The macro behind every store may stand in kernels only: their parameters are what
 * it needs.  Copies the source with `extra` at the end of all kernels' parameters. */
bool pipei_source_add_parameters(const char *s, const char *kernel, const char *extra, pipe_text *out)
{
    static const char macro[] = "PIPE_EPILOGUE";
    const char *copied = s;
    int braces = 0;
    bool in_kernel = false, found = false;
    names macros = {.a = pipe_arena_new()};

    for (s = skip_blank(s); *s; s = skip_blank(s)) {
        if (*s == '#') {
            s = directive(s, &macros);
        } else if (is_word(*s)) {
            const char *start = s;
            while (is_word(*s))
                s++;
            const size_t n = (size_t)(s - start);
            if (n > strlen(macro) && strncmp(start, macro, strlen(macro)) == 0 && !in_kernel) {
                found = false;
                break;
            }
            if (braces)
                continue;
            if (word_is(start, n, "kernel") || word_is(start, n, "__kernel")) {
                in_kernel = true;
            } else if (word_is(start, n, "__attribute__")) {
                s = past_parens(s);
            } else if (in_kernel && *skip_blank(s) == '(') {
                found |= word_is(start, n, kernel);
                s = past_parens(s);
                pipe_text_add_bytes(out, copied, (size_t)(s - 1 - copied));
                pipe_text_add(out, extra);
                copied = s - 1;
            }
        } else {
            braces += (*s == '{') - (*s == '}');
            if (*s == '}' && braces == 0)
                in_kernel = false;
            s++;
        }
    }
    pipe_text_add(out, copied);
    pipe_arena_free(macros.a);
    return found;
}
