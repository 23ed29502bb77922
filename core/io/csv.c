/* Tables: comma-separated values after RFC 4180, plain or gzip.
 *
 * The whole text is kept; fields are unquoted in place (which never makes them
 * longer) and terminated, so a table costs its file's size and a pointer per
 * field. */
#include "core/base/file.h"
#include "core/io/formats.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t text_limit = (size_t)1 << 31;    /* inflated */
enum { COLUMNS_MAX = 65536 };

struct pipe_table {
    char *name;                     /* of the file */
    pipe_text text;
    char **fields;                  /* rows * columns, behind the names */
    size_t *lines;                  /* of each row */
    char **names;
    size_t rows, columns, capacity; /* capacity: of fields */
    bool first_names;
};

typedef struct cursor {
    const char *name;
    char *p, *end;
    size_t line;
    char separator;
    pipe_error *err;
} cursor;

/* Independent of the process's locale, where 1,5 may be a number. */
static bool parse_number(const char *s, double *out)
{
    static const char *const missing[] = {"", "NA", "N/A", "NaN", "nan", "NAN", "null"};
    while (*s == ' ' || *s == '\t')
        s++;
    size_t n = strlen(s);
    while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t'))
        n--;
    for (size_t k = 0; k < sizeof missing / sizeof missing[0]; k++)
        if (strlen(missing[k]) == n && memcmp(s, missing[k], n) == 0) {
            *out = NAN;
            return true;
        }
    char *end;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), before = uselocale(c);
    const double value = strtod(s, &end);
    uselocale(before);
    freelocale(c);
    if (end != s + n)
        return false;
    *out = value;
    return true;
}

/* One field, unquoted in place; *last tells whether the line ends behind it. */
static pipe_status next_field(cursor *c, char **field, bool *last)
{
    char *out = c->p;
    const size_t line = c->line;
    *field = out;
    if (c->p < c->end && *c->p == '"') {
        for (c->p++;; ) {
            if (c->p == c->end)
                return pipe_fail(c->err, PIPE_EFORMAT, "%s:%zu: a quote is opened and never closed", c->name,
                                 line);
            if (*c->p == '"') {
                if (c->p + 1 == c->end || c->p[1] != '"')
                    break;
                c->p++;
            }
            c->line += *c->p == '\n';
            *out++ = *c->p++;
        }
        c->p++;
        if (c->p < c->end && *c->p != c->separator && *c->p != '\n' && *c->p != '\r')
            return pipe_fail(c->err, PIPE_EFORMAT, "%s:%zu: text behind a closing quote", c->name, c->line);
    } else {
        while (c->p < c->end && *c->p != c->separator && *c->p != '\n' && *c->p != '\r')
            c->p++;
        out = c->p;
    }
    *last = c->p == c->end || *c->p != c->separator;
    if (c->p < c->end && *c->p == '\r' && (c->p + 1 == c->end || c->p[1] == '\n'))
        c->p++;
    else if (c->p < c->end && *c->p == '\r')
        return pipe_fail(c->err, PIPE_EFORMAT, "%s:%zu: a carriage return inside a line", c->name, c->line);
    if (c->p < c->end) {
        c->line += *c->p == '\n';
        c->p++;
    }
    *out = '\0';                    /* at most the separator that was just passed */
    return PIPE_OK;
}

static void add_field(pipe_table *t, size_t n, char *field)
{
    if (n == t->capacity) {
        t->capacity = t->capacity ? 2 * t->capacity : 256;
        t->fields = pipe_realloc(t->fields, t->capacity * sizeof t->fields[0]);
    }
    t->fields[n] = field;
}

static pipe_status parse_rows(pipe_table *t, cursor *c)
{
    size_t n = 0, lines = 0;
    while (c->p < c->end) {
        if (*c->p == '\n' || (*c->p == '\r' && c->p + 1 < c->end && c->p[1] == '\n')) {   /* an empty line */
            c->p += *c->p == '\r' ? 2 : 1;
            c->line++;
            continue;
        }
        const size_t line = c->line, first = n;
        for (bool last = false; !last; ) {
            char *field;
            PIPE_TRY(next_field(c, &field, &last));
            if (n - first == COLUMNS_MAX)
                return pipe_fail(c->err, PIPE_EFORMAT, "%s:%zu: more than %d fields", c->name, line,
                                 COLUMNS_MAX);
            add_field(t, n++, field);
        }
        if (t->rows == 0)
            t->columns = n;
        if (n - first != t->columns)
            return pipe_fail(c->err, PIPE_EFORMAT, "%s:%zu: %zu fields, the first row has %zu", c->name, line,
                             n - first, t->columns);
        if (t->rows == lines) {
            lines = lines ? 2 * lines : 64;
            t->lines = pipe_realloc(t->lines, lines * sizeof t->lines[0]);
        }
        t->lines[t->rows++] = line;
    }
    return PIPE_OK;
}

static void name_columns(pipe_table *t)
{
    double ignored;
    for (size_t k = 0; k < t->columns; k++)
        if (!parse_number(t->fields[k], &ignored))
            t->first_names = true;
    t->names = pipe_alloc_array(t->columns, sizeof t->names[0]);
    for (size_t k = 0; k < t->columns; k++)
        t->names[k] = t->first_names ? pipe_strdup(t->fields[k]) : pipe_format("%zu", k);
    if (t->first_names)
        t->rows--;
}

static char guess_separator(const char *p, const char *end)
{
    static const char candidates[] = {',', ';', '\t'};
    size_t count[3] = {0};
    bool quoted = false;
    for (; p < end && (quoted || *p != '\n'); p++) {
        quoted ^= *p == '"';
        for (int k = 0; k < 3; k++)
            count[k] += !quoted && *p == candidates[k];
    }
    int best = 0;
    for (int k = 1; k < 3; k++)
        if (count[k] > count[best])
            best = k;
    return candidates[best];
}

pipe_status pipei_csv_parse(const char *name, const void *bytes, size_t n, char separator, pipe_table **out,
                            pipe_error *err)
{
    PIPE_CLEANUP(pipe_table_free_ptr) pipe_table *t = pipe_alloc(sizeof *t);
    PIPE_CLEANUP(pipei_stream_free) pipei_stream *s = pipei_stream_new(name, bytes, n);
    if (separator && separator != ',' && separator != ';' && separator != '\t')
        return pipe_fail(err, PIPE_EINVAL, "%s: separator '%c': ',', ';' or a tabulator is possible", name,
                         separator);
    t->name = pipe_strdup(name);
    PIPE_TRY(pipei_stream_all(s, text_limit, &t->text, err));
    const char *nul = memchr(t->text.data, '\0', t->text.length);
    cursor c = {.name = t->name, .p = t->text.data, .end = t->text.data + t->text.length, .line = 1,
        .err = err};
    if (nul)
        return pipe_fail(err, PIPE_EFORMAT, "%s: not a text file: byte %td is NUL", name, nul - t->text.data);
    if (t->text.length >= 3 && memcmp(c.p, "\xEF\xBB\xBF", 3) == 0)
        c.p += 3;                                /* what spreadsheets put in front */
    c.separator = separator ? separator : guess_separator(c.p, c.end);
    PIPE_TRY(parse_rows(t, &c));
    if (t->rows == 0)
        return pipe_fail(err, PIPE_EFORMAT, "%s: is empty; a table has at least one row", name);
    name_columns(t);
    *out = t;
    t = NULL;
    return PIPE_OK;
}

pipe_status pipe_csv_read(const char *path, char separator, pipe_table **out, pipe_error *err)
{
    PIPE_CLEANUP(pipei_map_close) pipei_map map = {0};
    PIPE_TRY(pipei_map_open(path, &map, err));
    return pipei_csv_parse(path, map.data, map.size, separator, out, err);
}

void pipe_table_free(pipe_table *t)
{
    if (!t)
        return;
    for (size_t k = 0; t->names && k < t->columns; k++)
        pipe_free(t->names[k]);
    pipe_text_free(&t->text);
    pipe_free(t->names);
    pipe_free(t->fields);
    pipe_free(t->lines);
    pipe_free(t->name);
    pipe_free(t);
}

void pipe_table_free_ptr(pipe_table **t)
{
    pipe_table_free(*t);
    *t = NULL;
}

size_t pipe_table_rows(const pipe_table *t)
{
    return t->rows;
}

size_t pipe_table_columns(const pipe_table *t)
{
    return t->columns;
}

const char *pipe_table_name(const pipe_table *t, size_t column)
{
    return column < t->columns ? t->names[column] : NULL;
}

size_t pipe_table_find(const pipe_table *t, const char *name)
{
    size_t k = 0;
    while (k < t->columns && strcmp(t->names[k], name) != 0)
        k++;
    return k;
}

const char *pipe_table_text(const pipe_table *t, size_t row, size_t column)
{
    if (row >= t->rows || column >= t->columns)
        return NULL;
    return t->fields[(row + t->first_names) * t->columns + column];
}

bool pipe_table_is_number(const pipe_table *t, size_t column)
{
    double ignored;
    for (size_t r = 0; r < t->rows; r++)
        if (column >= t->columns || !parse_number(pipe_table_text(t, r, column), &ignored))
            return false;
    return column < t->columns;
}

pipe_status pipe_table_numbers(const pipe_table *t, size_t column, double *out, pipe_error *err)
{
    if (column >= t->columns)
        return pipe_fail(err, PIPE_EINVAL, "%s: column %zu of %zu", t->name, column, t->columns);
    for (size_t r = 0; r < t->rows; r++) {
        const char *text = pipe_table_text(t, r, column);
        if (!parse_number(text, &out[r]))
            return pipe_fail(err, PIPE_EFORMAT, "%s:%zu: column \"%s\": \"%.60s\" is not a number", t->name,
                             t->lines[r + t->first_names], t->names[column], text);
    }
    return PIPE_OK;
}

/* ---- writing ---- */

static void put_quoted(pipei_writer *w, const char *s)
{
    if (!strpbrk(s, ",\"\r\n")) {
        pipei_writer_put(w, s, strlen(s));
        return;
    }
    pipei_writer_put(w, "\"", 1);
    for (; *s; s++)
        pipei_writer_put(w, *s == '"' ? "\"\"" : s, *s == '"' ? 2 : 1);
    pipei_writer_put(w, "\"", 1);
}

static void put_number(pipei_writer *w, double v)
{
    char text[40];
    double again;
    if (isnan(v))
        return;
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        for (char *comma = text; (comma = strchr(comma, ',')); )
            *comma = '.';                         /* of a locale */
        if (parse_number(text, &again) && again == v)
            break;
    }
    pipei_writer_put(w, text, strlen(text));
}

pipe_status pipe_csv_write(const char *path, const char *const *names, const double *values, size_t rows,
                           size_t columns, pipe_error *err)
{
    pipei_writer *w;
    if (columns == 0)
        return pipe_fail(err, PIPE_EINVAL, "%s: a table without columns", path);
    PIPE_TRY(pipei_writer_open(path, &w, err));
    for (size_t k = 0; names && k < columns; k++) {
        put_quoted(w, names[k]);
        pipei_writer_put(w, k + 1 < columns ? "," : "\n", 1);
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t k = 0; k < columns; k++) {
            if (columns == 1 && isnan(values[r]))
                pipei_writer_put(w, "nan", 3);     /* an empty line would be no row */
            put_number(w, values[r * columns + k]);
            pipei_writer_put(w, k + 1 < columns ? "," : "\n", 1);
        }
    return pipei_writer_commit(w, err);
}
