/* OpenCL C as text: which names a source defines, parameters added to its kernels,
 * bodies of kernels put into functions.
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
static const char *past_brackets(const char *s, char open, char close)
{
    int depth = 0;
    for (s = skip_blank(s); *s; s = skip_blank(s + 1)) {
        depth += (*s == open) - (*s == close);
        if (depth == 0)
            return s + 1;
    }
    return s;
}

static const char *past_parens(const char *s) { return past_brackets(s, '(', ')'); }

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

/* ---- bodies of kernels as functions ---- */

/* What a kernel may ask about its place in the grid: given to the body's function. */
static const char *const places[] = {"get_global_id", "get_group_id", "get_global_size", "get_num_groups"};
enum { PLACES = sizeof places / sizeof places[0], DIMS = 3 };

static bool is_place(const char *start, size_t n)
{
    for (size_t k = 0; k < PLACES; k++)
        if (word_is(start, n, places[k]))
            return true;
    return false;
}

/* Words of kernels whose work-items know of each other: these keep their bodies. */
static bool is_shared(const char *start, size_t n)
{
    static const char *const words[] = {"local", "__local", "barrier"}, *const starts[] = {
        "get_", "work_group_", "async_work_group_", "wait_group_"};
    for (size_t k = 0; k < sizeof words / sizeof words[0]; k++)
        if (word_is(start, n, words[k]))
            return true;
    for (size_t k = 0; k < sizeof starts / sizeof starts[0]; k++)
        if (n > strlen(starts[k]) && strncmp(start, starts[k], strlen(starts[k])) == 0)
            return !is_place(start, n);
    return false;
}

/* Whether s stands behind a place, as in get_group_id(0). */
static bool is_literal_dim(const char *s)
{
    s = skip_blank(s);
    if (*s != '(')
        return false;
    s = skip_blank(s + 1);
    return *s >= '0' && *s < '0' + DIMS && *skip_blank(s + 1) == ')';
}

/* Copies one parameter list's names, as arguments, and the first buffer's name, as a condition:
 * false where one has none that is seen, or none is a buffer. */
static bool add_arguments(pipe_text *out, pipe_text *condition, const char *s, const char *end)
{
    while (s < end) {
        const char *word = NULL, *at = s;
        size_t n = 0;
        bool buffer = false;
        int depth = 0, words = 0;               /* a macro of several parameters is one word */
        for (at = skip_blank(at); at < end && !(depth == 0 && *at == ','); at = skip_blank(at)) {
            if (is_word(*at)) {
                word = at;
                while (is_word(*at))
                    at++;
                n = (size_t)(at - word);
                buffer |= word_is(word, n, "PIPE_BUF");
                words += depth == 0;
                continue;
            }
            if (*at == '[')
                return false;
            depth += (*at == '(') - (*at == ')');
            at++;
        }
        if (!buffer && words < 2)
            return false;
        if (buffer) {
            pipe_text_add_bytes(out, word, n);
            pipe_text_add(out, "_base, ");
        }
        if (buffer && !condition->length) {
            pipe_text_add(condition, "if (");
            pipe_text_add_bytes(condition, word, n);
            pipe_text_add(condition, "_base)");
        }
        pipe_text_add_bytes(out, word, n);
        pipe_text_add(out, buffer ? "_offset, " : ", ");
        s = at + 1;
    }
    return condition->length > 0;
}

/* A kernel: `start` is where its declaration begins, `name` its name; false where it must stay as it is. */
static bool add_outlined(pipe_text *out, const char *start, const char *name, size_t n, const char **end)
{
    const char *parens = skip_blank(name + n), *past = past_parens(parens), *body = skip_blank(past);
    if (*parens != '(' || *body != '{')
        return false;
    *end = past_brackets(body, '{', '}');
    for (const char *s = body; s < *end; s = skip_blank(s)) {
        const char *word = s;
        while (is_word(*s))
            s++;
        if (is_shared(word, (size_t)(s - word)))
            return false;
        s += s == word;
    }
    PIPE_CLEANUP(pipe_text_free) pipe_text arguments = {0}, condition = {0};
    if (!add_arguments(&arguments, &condition, parens + 1, past - 1))
        return false;
    for (size_t k = 0; k < PLACES; k++)
        pipe_text_addf(out, "#define %s(d) pipe_%s_##d\n", places[k], places[k]);
    pipe_text_add(out, "static __attribute__((noinline)) void " PIPEI_BODY);
    pipe_text_add_bytes(out, name, (size_t)(past - 1 - name));
    for (size_t k = 0; k < PLACES * DIMS; k++)
        pipe_text_addf(out, ", const size_t pipe_%s_%zu", places[k / DIMS], k % DIMS);
    pipe_text_add(out, ")\n");
    pipe_text_add_bytes(out, body, (size_t)(*end - body));
    pipe_text_add(out, "\n");
    for (size_t k = 0; k < PLACES; k++)
        pipe_text_addf(out, "#undef %s\n", places[k]);
    pipe_text_add_bytes(out, start, (size_t)(past - start));
    pipe_text_addf(out, "\n{\n    %s\n        " PIPEI_BODY, condition.data);
    pipe_text_add_bytes(out, name, n);
    pipe_text_add(out, "(");
    pipe_text_add(out, arguments.data);
    for (size_t k = 0; k < PLACES * DIMS; k++)
        pipe_text_addf(out, "%s(%zu)%s", places[k / DIMS], k % DIMS, k + 1 < PLACES * DIMS ? ", " : ");\n}\n");
    return true;
}

/* Places are asked for in kernels (and macros) alone and by number; macros share nothing. */
static bool can_outline(const char *s)
{
    names macros = {.a = pipe_arena_new()};
    const char *directive_end = s, *kernel_end = s;
    bool fit = true, in_kernel = false;

    for (s = skip_blank(s); *s && fit; s = skip_blank(s)) {
        const char *word = s;
        while (is_word(*s))
            s++;
        const size_t n = (size_t)(s - word);
        const bool in_directive = word < directive_end;
        if (n == 0) {
            if (*s == '#')
                directive_end = directive(s, &macros);
            if (*s == '{' && in_kernel && s >= directive_end) {
                kernel_end = past_brackets(s, '{', '}');
                in_kernel = false;
            }
            s++;
            continue;
        }
        if (!in_directive && (word_is(word, n, "kernel") || word_is(word, n, "__kernel")))
            in_kernel = true;
        if (is_place(word, n))
            fit = is_literal_dim(s) && (in_directive || word < kernel_end);
        if (in_directive && is_shared(word, n))
            fit = false;
    }
    pipe_arena_free(macros.a);
    return fit;
}

/* PoCL makes three functions of a kernel and compiles the body in each: as a function of
 * its own, called by all three, it is compiled once. */
bool pipei_source_outline(const char *s, pipe_text *out)
{
    const char *copied = s, *declaration = NULL;
    names macros = {.a = pipe_arena_new()};
    int braces = 0;
    bool any = false, kernel = false;
    const bool fit = can_outline(s);

    for (s = skip_blank(s); fit && *s; s = skip_blank(s)) {
        if (*s == '#') {
            s = directive(s, &macros);
            continue;
        }
        const char *word = s;
        if (!declaration)
            declaration = s;
        while (is_word(*s))
            s++;
        const size_t n = (size_t)(s - word);
        if (n == 0) {
            braces += (*s == '{') - (*s == '}');
            if (!braces && (*s == '}' || *s == ';')) {
                declaration = NULL;
                kernel = false;
            }
            s++;
        } else if (!braces && (word_is(word, n, "kernel") || word_is(word, n, "__kernel"))) {
            kernel = true;
        } else if (!braces && word_is(word, n, "__attribute__")) {
            s = past_parens(s);
        } else if (!braces && kernel && *skip_blank(s) == '(') {
            PIPE_CLEANUP(pipe_text_free) pipe_text outlined = {0};
            const char *end;
            if (add_outlined(&outlined, declaration, word, n, &end)) {
                pipe_text_add_bytes(out, copied, (size_t)(declaration - copied));
                pipe_text_add(out, outlined.data);
                copied = s = end;
                declaration = NULL;
                any = true;
            } else {
                s = past_parens(s);
            }
            kernel = false;
        }
    }
    pipe_text_add(out, copied);
    pipe_arena_free(macros.a);
    return any;
}
