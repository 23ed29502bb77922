/* Collecting and printing what is wrong with a pipeline. */
#include "core/graph/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_ERRORS = 50,
    MAX_COLLECTED = 10000,      /* enough to find the first 50 in file order */
    WINDOW = 100                /* columns of a source line that are shown */
};

const pipei_source *pipei_source_of(const pipei_reporter *r, const pipei_position *at)
{
    for (size_t k = 0; k < r->n_sources; k++)
        if (r->source[k]->name == at->file)
            return r->source[k];
    return NULL;
}

const char *pipei_position_text(const pipei_reporter *r, const pipei_position *at, pipe_arena *a)
{
    const pipei_source *s = pipei_source_of(r, at);
    if (s && s->override)
        return pipe_arena_format(a, "--set %s", s->text);
    return pipe_arena_format(a, "%s:%u:%u", at->file, at->line, at->column);
}

static const char *line_of(const pipei_source *s, uint32_t line, pipe_arena *a)
{
    const char *p = s->text, *end = s->text + s->length;
    for (uint32_t k = 1; k < line && p < end; k++) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        p = newline ? newline + 1 : end;
    }
    const char *newline = memchr(p, '\n', (size_t)(end - p));
    size_t n = (size_t)((newline ? newline : end) - p);
    if (line == 1 && n >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0) {
        p += 3;
        n -= 3;
    }
    if (n > 0 && p[n - 1] == '\r')
        n--;
    return pipe_arena_strndup(a, p, n);
}

static const char *included_from(const pipei_reporter *r, const pipei_source *s, pipe_arena *a)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    for (; s && s->parent; s = s->parent)
        pipe_text_addf(&t, "%s%s", t.length ? ", included from " : "included from ",
                       pipei_position_text(r, &s->from, a));
    return t.length ? pipe_arena_strdup(a, t.data) : NULL;
}

void pipei_report(pipei_reporter *r, pipe_log_level level, const pipei_position *at, const char *help,
                  const char *fmt, ...)
{
    pipei_diagnostics *d = r->diag;
    if (!d->arena)
        d->arena = pipe_arena_new();
    if (d->n == MAX_COLLECTED) {
        d->suppressed += level == PIPE_LOG_ERROR;
        return;
    }
    char message[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);

    /* Aliases show one text to several nodes: say the same thing once. */
    for (size_t k = 0; k < d->n; k++)
        if (d->v[k].at.line == at->line && d->v[k].at.column == at->column &&
            strcmp(d->v[k].message, message) == 0 && strcmp(d->v[k].at.file, at->file) == 0)
            return;

    if ((d->n & (d->n - 1)) == 0)          /* 0, 1, 2, 4, 8 ...: full */
        d->v = pipe_realloc(d->v, (d->n ? 2 * d->n : 1) * sizeof *d->v);
    const pipei_source *s = pipei_source_of(r, at);
    pipei_diagnostic *new = &d->v[d->n++];
    *new = (pipei_diagnostic){.level = level, .at = *at, .order = s ? s->order : 0};
    new->at.file = s && s->override ? pipe_arena_format(d->arena, "--set: %s", s->text)
                                    : pipe_arena_strdup(d->arena, at->file);
    new->message = pipe_arena_strdup(d->arena, message);
    new->help = help ? pipe_arena_strdup(d->arena, help) : NULL;
    new->note = included_from(r, s, d->arena);
    if (s && s->override)
        new->at.line = new->at.column = 0;      /* the argument is there in full */
    else if (s && at->line)
        new->source_line = line_of(s, at->line, d->arena);
    d->errors += level == PIPE_LOG_ERROR;
}

static int compare(const void *a, const void *b)
{
    const pipei_diagnostic *x = a, *y = b;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    if (x->at.line != y->at.line)
        return x->at.line < y->at.line ? -1 : 1;
    if (x->at.column != y->at.column)
        return x->at.column < y->at.column ? -1 : 1;
    return strcmp(x->message, y->message);
}

void pipei_report_finish(pipei_reporter *r)
{
    pipei_diagnostics *d = r->diag;
    if (d->n)
        qsort(d->v, d->n, sizeof *d->v, compare);
    size_t kept = 0, errors = 0;
    for (size_t k = 0; k < d->n; k++) {
        if (d->v[k].level == PIPE_LOG_ERROR && errors++ >= MAX_ERRORS)
            continue;
        d->v[kept++] = d->v[k];
    }
    if (errors > MAX_ERRORS)
        d->suppressed += errors - MAX_ERRORS;
    d->n = kept;
}

void pipei_diagnostics_free(pipei_diagnostics *d)
{
    pipe_free(d->v);
    pipe_arena_free(d->arena);
    *d = (pipei_diagnostics){0};
}

/* ---- printing ---- */
static const char *after_characters(const char *s, size_t n)
{
    for (; n > 0 && *s; n--) {
        s++;
        while (((unsigned char)*s & 0xC0) == 0x80)
            s++;
    }
    return s;
}

static size_t characters(const char *s)
{
    size_t n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

/* The line without its indentation, four spaces in front, a window of it when it
 * is long; below it the marked part. */
static void print_source(const pipei_diagnostic *d, pipe_text *out, const char *mark, const char *off)
{
    const char *line = d->source_line;
    size_t column = d->at.column ? d->at.column - 1 : 0;
    size_t indent = strspn(line, " \t");
    if (indent > column)
        indent = column;
    line = after_characters(line, indent);
    column -= indent;
    const bool cut_left = column > WINDOW - 20;
    if (cut_left) {
        line = after_characters(line, column - WINDOW / 2);
        column = WINDOW / 2;
    }
    const char *end = after_characters(line, WINDOW);
    pipe_text_add(out, cut_left ? " ..." : "    ");
    pipe_text_add_bytes(out, line, (size_t)(end - line));
    pipe_text_addf(out, "%s\n    ", *end ? "..." : "");
    const char *p = line;
    for (size_t k = 0; k < column; k++) {
        pipe_text_add(out, *p == '\t' ? "\t" : " ");
        p = after_characters(p, 1);
    }
    const size_t left = characters(p) - characters(end);
    size_t length = d->at.length ? d->at.length : 1;
    if (length > left)
        length = left ? left : 1;
    pipe_text_addf(out, "%s^", mark);
    for (size_t k = 1; k < length; k++)
        pipe_text_add(out, "~");
    pipe_text_addf(out, "%s\n", off);
}

void pipei_diagnostics_print(const pipei_diagnostics *d, pipe_text *out, bool colour)
{
    const char *bold = colour ? "\033[1m" : "", *off = colour ? "\033[0m" : "";
    const char *red = colour ? "\033[1;31m" : "", *yellow = colour ? "\033[1;33m" : "";
    const char *green = colour ? "\033[32m" : "", *cyan = colour ? "\033[36m" : "";
    for (size_t k = 0; k < d->n; k++) {
        const pipei_diagnostic *x = &d->v[k];
        const bool error = x->level == PIPE_LOG_ERROR;
        pipe_text_addf(out, "%s%s", bold, x->at.file);
        if (x->at.line)
            pipe_text_addf(out, ":%u:%u", x->at.line, x->at.column);
        pipe_text_addf(out, ":%s %s%s:%s %s\n", off, error ? red : yellow, error ? "error" : "warning", off,
                       x->message);
        if (x->source_line && *x->source_line)
            print_source(x, out, green, off);
        if (x->help)
            pipe_text_addf(out, "%shelp:%s %s\n", cyan, off, x->help);
        if (x->note)
            pipe_text_addf(out, "note: %s\n", x->note);
    }
    if (d->suppressed)
        pipe_text_addf(out, "and %zu more error%s\n", d->suppressed, d->suppressed == 1 ? "" : "s");
}
