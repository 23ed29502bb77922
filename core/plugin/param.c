/* Parameters: text to typed values, ranges, canonical text, descriptions. */
#include "core/plugin/param.h"

#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_TEXT = 32 };

/* One parsed scalar. */
typedef union scalar {
    bool b;
    int64_t i;
    double f;
    const char *s;
} scalar;

static bool is_list(pipe_type type)
{
    return type == PIPE_TYPE_INTS || type == PIPE_TYPE_FLOATS || type == PIPE_TYPE_STRINGS;
}

static pipe_type element_of(pipe_type type)
{
    switch (type) {
    case PIPE_TYPE_INTS: return PIPE_TYPE_INT;
    case PIPE_TYPE_FLOATS: return PIPE_TYPE_FLOAT;
    case PIPE_TYPE_STRINGS: return PIPE_TYPE_STRING;
    default: return type;
    }
}

static bool has_bounds(const pipe_param *p)
{
    const pipe_type t = element_of(p->type);
    return (t == PIPE_TYPE_INT || t == PIPE_TYPE_FLOAT) && !(p->min > p->max);
}

/* ---- numbers ----
 * The C library's conversions follow the locale of the thread, and a program that
 * embeds the engine may have set one with a decimal comma.  newlocale("C") returns
 * a static object: it costs nothing. */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t digits(const char *s)
{
    size_t n = 0;
    while (is_digit(s[n]))
        n++;
    return n;
}

/* [+-] digits [. digits] [e [+-] digits], with a digit before or after the point. */
static bool is_decimal(const char *s)
{
    s += *s == '+' || *s == '-';
    const size_t whole = digits(s);
    size_t fraction = 0;
    s += whole;
    if (*s == '.') {
        fraction = digits(++s);
        s += fraction;
    }
    if (whole + fraction == 0)
        return false;
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '+' || *s == '-';
        const size_t exponent = digits(s);
        if (exponent == 0)
            return false;
        s += exponent;
    }
    return *s == '\0';
}

bool pipei_parse_double(const char *text, double *out)
{
    if (!is_decimal(text))
        return false;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    const double v = strtod_l(text, NULL, c);
    freelocale(c);
    if (!isfinite(v)) /* overflow; an underflow to 0 is what was meant */
        return false;
    *out = v;
    return true;
}

void pipei_format_double(double v, char *text, size_t size)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), before = uselocale(c);
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(text, size, "%.*g", precision, v);
        if (strtod(text, NULL) == v)
            break;
    }
    uselocale(before);
    freelocale(c);
}

static pipe_status parse_int(const char *s, int64_t *out, pipe_error *err)
{
    double ignored;
    const size_t sign = *s == '+' || *s == '-', n = digits(s + sign);
    if (n == 0 || s[sign + n] != '\0') {
        if (pipei_parse_double(s, &ignored))
            return pipe_fail(err, PIPE_EINVAL, "%s is not an integer: write the digits alone", s);
        return pipe_fail(err, PIPE_EINVAL, "\"%s\" is not an integer", s);
    }
    errno = 0;
    const long long v = strtoll(s, NULL, 10); /* decimal always: 08 is 8 */
    if (errno == ERANGE)
        return pipe_fail(err, PIPE_EINVAL, "%s does not fit 64 bits", s);
    *out = v;
    return PIPE_OK;
}

static pipe_status parse_float(const char *s, double *out, pipe_error *err)
{
    if (pipei_parse_double(s, out))
        return PIPE_OK;
    if (is_decimal(s))
        return pipe_fail(err, PIPE_EINVAL, "%s is too large for a number", s);
    return pipe_fail(err, PIPE_EINVAL, "\"%s\" is not a finite number", s);
}

static pipe_status check_range(const pipe_param *p, const char *text, long double v, pipe_error *err)
{
    char bound[NUMBER_TEXT];
    if (!has_bounds(p))
        return PIPE_OK;
    if (v < (long double)p->min) {
        pipei_format_double(p->min, bound, sizeof bound);
        return pipe_fail(err, PIPE_EINVAL, "%s is below the minimum %s", text, bound);
    }
    if (v > (long double)p->max) {
        pipei_format_double(p->max, bound, sizeof bound);
        return pipe_fail(err, PIPE_EINVAL, "%s is above the maximum %s", text, bound);
    }
    return PIPE_OK;
}

/* ---- scalars ---- */

static void add_choices(pipe_text *t, const pipe_param *p)
{
    for (size_t k = 0; p->choices && p->choices[k]; k++)
        pipe_text_addf(t, "%s%s", k ? ", " : "", p->choices[k]);
}

static pipe_status parse_choice(const pipe_param *p, const char *s, int64_t *out, pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text all = {0};
    size_t n = 0;
    for (; p->choices && p->choices[n]; n++)
        if (strcmp(p->choices[n], s) == 0) {
            *out = (int64_t)n;
            return PIPE_OK;
        }
    const char *near = n ? pipe_nearest(s, p->choices, n) : NULL;
    add_choices(&all, p);
    return pipe_fail(err, PIPE_EINVAL, "\"%s\" is none of %s%s%s%s", s, all.data ? all.data : "(nothing)",
                     near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static pipe_status parse_scalar(const pipe_param *p, const char *s, scalar *out, pipe_error *err)
{
    switch (element_of(p->type)) {
    case PIPE_TYPE_BOOL:
        if (strcmp(s, "true") != 0 && strcmp(s, "false") != 0)
            return pipe_fail(err, PIPE_EINVAL, "\"%s\" is neither true nor false", s);
        out->b = s[0] == 't';
        return PIPE_OK;
    case PIPE_TYPE_INT:
        PIPE_TRY(parse_int(s, &out->i, err));
        return check_range(p, s, (long double)out->i, err);
    case PIPE_TYPE_FLOAT:
        PIPE_TRY(parse_float(s, &out->f, err));
        return check_range(p, s, (long double)out->f, err);
    case PIPE_TYPE_CHOICE: return parse_choice(p, s, &out->i, err);
    case PIPE_TYPE_STRING:
    case PIPE_TYPE_PATH: out->s = s; return PIPE_OK;
    default:
        return pipe_fail(err, PIPE_EPLUGIN, "parameter \"%s\" is of unknown type %d", p->name, (int)p->type);
    }
}

/* ---- values ---- */

static const char *skip_blanks(const char *s)
{
    while (*s == ' ' || *s == '\t' || *s == '\n')
        s++;
    return s;
}

/* One element of "[a, 'b c', "d"]"; NULL when a quote is not closed. */
static const char *list_element(const char **at, pipe_arena *a)
{
    const char *s = skip_blanks(*at);
    if (*s == '\'' || *s == '"') {
        const char *end = strchr(s + 1, *s);
        if (!end)
            return NULL;
        *at = skip_blanks(end + 1);
        return pipe_arena_strndup(a, s + 1, (size_t)(end - s - 1));
    }
    size_t n = strcspn(s, ",]");
    *at = s + n;
    while (n && (s[n - 1] == ' ' || s[n - 1] == '\t' || s[n - 1] == '\n'))
        n--;
    return pipe_arena_strndup(a, s, n);
}

static bool parse_list(const char *text, pipe_arena *a, pipei_given *out)
{
    const char *s = skip_blanks(text);
    size_t most = 1, n = 0;
    if (*s++ != '[')
        return false;
    for (const char *c = s; *c; c++)
        most += *c == ',';
    const char **element = pipe_arena_alloc(a, most * sizeof *element);
    s = skip_blanks(s);
    while (*s != ']') {
        element[n] = list_element(&s, a);
        if (!element[n++] || (*s != ',' && *s != ']'))
            return false;
        if (*s == ',')
            s = skip_blanks(s + 1);
    }
    if (*skip_blanks(s + 1) != '\0')
        return false;
    *out = (pipei_given){true, element, n};
    return true;
}

pipei_given pipei_given_of_text(const pipe_param *p, const char *text, pipe_arena *a)
{
    pipei_given v;
    if (is_list(p->type) && parse_list(text, a, &v))
        return v;
    const char **one = pipe_arena_alloc(a, sizeof *one);
    one[0] = pipe_arena_strdup(a, text);
    return (pipei_given){false, one, 1};
}

static pipe_status check_form(const pipe_param *p, const pipei_given *v, pipe_error *err)
{
    /* one value where a list is wanted is a list of one */
    if (v->list && !is_list(p->type))
        return pipe_fail(err, PIPE_EINVAL, "a list is given where one %s is wanted",
                         pipei_param_type_name(p));
    if (!v->list && is_list(p->type) && *skip_blanks(v->text[0]) == '[')
        return pipe_fail(err, PIPE_EINVAL, "\"%s\" is a list that is not closed", v->text[0]);
    return PIPE_OK;
}

pipe_status pipei_param_check(const pipe_param *p, const pipei_given *v, size_t *item, pipe_error *err)
{
    scalar ignored;
    size_t k = 0;
    pipe_status status = check_form(p, v, err);
    for (; status == PIPE_OK && k < v->n; k++)
        status = parse_scalar(p, v->text[k], &ignored, err);
    if (status != PIPE_OK && item)
        *item = k ? k - 1 : 0;
    return status;
}

static void store_list(const pipe_param *p, const scalar *v, size_t n, void *field, pipe_arena *a)
{
    int64_t *ints = p->type == PIPE_TYPE_INTS ? pipe_arena_alloc(a, n * sizeof *ints) : NULL;
    double *floats = p->type == PIPE_TYPE_FLOATS ? pipe_arena_alloc(a, n * sizeof *floats) : NULL;
    const char **strings = p->type == PIPE_TYPE_STRINGS ? pipe_arena_alloc(a, n * sizeof *strings) : NULL;
    for (size_t k = 0; k < n; k++) {
        if (ints)
            ints[k] = v[k].i;
        else if (floats)
            floats[k] = v[k].f;
        else
            strings[k] = pipe_arena_strdup(a, v[k].s);
    }
    if (ints)
        *(pipe_ints *)field = (pipe_ints){ints, n};
    else if (floats)
        *(pipe_floats *)field = (pipe_floats){floats, n};
    else
        *(pipe_strings *)field = (pipe_strings){strings, n};
}

static void store_scalar(const pipe_param *p, const scalar *v, void *field, pipe_arena *a)
{
    switch (p->type) {
    case PIPE_TYPE_BOOL: *(bool *)field = v->b; break;
    case PIPE_TYPE_INT:
    case PIPE_TYPE_CHOICE: *(int64_t *)field = v->i; break;
    case PIPE_TYPE_FLOAT: *(double *)field = v->f; break;
    default: *(const char **)field = pipe_arena_strdup(a, v->s); break;
    }
}

pipe_status pipei_param_store(const pipe_param *p, const pipei_given *v, void *state, pipe_arena *a,
                              pipe_error *err)
{
    pipei_given fallback;
    if (!v) {
        if (!p->fallback)
            return pipe_fail(err, PIPE_EINVAL, "the parameter \"%s\" is required", p->name);
        fallback = pipei_given_of_text(p, p->fallback, a);
        v = &fallback;
    }
    PIPE_TRY(check_form(p, v, err));
    PIPE_CLEANUP(pipe_free_ptr) scalar *values = pipe_alloc_array(v->n + 1, sizeof *values);
    for (size_t k = 0; k < v->n; k++)
        PIPE_TRY(parse_scalar(p, v->text[k], &values[k], err));
    void *field = (char *)state + p->offset;
    if (is_list(p->type))
        store_list(p, values, v->n, field, a);
    else
        store_scalar(p, values, field, a);
    return PIPE_OK;
}

/* ---- canonical text ---- */

static void add_quoted(pipe_text *t, const char *s)
{
    pipe_text_add(t, "\"");
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            pipe_text_addf(t, "\\%c", c);
        else if (c < 0x20)
            pipe_text_addf(t, "\\u%04x", c);
        else
            pipe_text_add_bytes(t, s, 1);
    }
    pipe_text_add(t, "\"");
}

static void add_scalar(pipe_text *t, const pipe_param *p, const char *s)
{
    char number[NUMBER_TEXT];
    pipe_error err = PIPE_ERROR_INIT;
    scalar v;
    if (parse_scalar(p, s, &v, &err) != PIPE_OK) { /* not checked before: nothing to normalise */
        pipe_text_add(t, s);
        return;
    }
    switch (element_of(p->type)) {
    case PIPE_TYPE_INT: pipe_text_addf(t, "%" PRId64, v.i); break;
    case PIPE_TYPE_FLOAT:
        pipei_format_double(v.f, number, sizeof number);
        pipe_text_add(t, number);
        break;
    case PIPE_TYPE_STRING:
        if (p->type == PIPE_TYPE_STRINGS) {
            add_quoted(t, s);
            break;
        }
        /* fallthrough */
    default: pipe_text_add(t, s);
    }
}

const char *pipei_param_canonical(const pipe_param *p, const pipei_given *v, pipe_arena *a)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    pipei_given fallback;
    if (!v) {
        if (!p->fallback)
            return NULL;
        fallback = pipei_given_of_text(p, p->fallback, a);
        v = &fallback;
    }
    pipe_text_add(&t, is_list(p->type) ? "[" : "");
    for (size_t k = 0; k < v->n; k++) {
        pipe_text_add(&t, k ? ", " : "");
        add_scalar(&t, p, v->text[k]);
    }
    pipe_text_add(&t, is_list(p->type) ? "]" : "");
    return pipe_arena_strdup(a, t.data ? t.data : "");
}

/* ---- descriptions ---- */

const char *pipei_param_type_name(const pipe_param *p)
{
    switch (p->type) {
    case PIPE_TYPE_BOOL: return "true or false";
    case PIPE_TYPE_INT: return "integer";
    case PIPE_TYPE_FLOAT: return "number";
    case PIPE_TYPE_STRING: return "text";
    case PIPE_TYPE_CHOICE: return "choice";
    case PIPE_TYPE_PATH: return p->flags & PIPE_PARAM_INPUT_FILE ? "path of an existing file" : "path";
    case PIPE_TYPE_INTS: return "list of integers";
    case PIPE_TYPE_FLOATS: return "list of numbers";
    case PIPE_TYPE_STRINGS: return "list of texts";
    }
    return "unknown type";
}

const char *pipei_param_range(const pipe_param *p, pipe_arena *a)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    char low[NUMBER_TEXT], high[NUMBER_TEXT];

    if (p->choices && p->choices[0]) {
        add_choices(&t, p);
        return pipe_arena_strdup(a, t.data);
    }
    if (!has_bounds(p) || (isinf(p->min) && isinf(p->max)))
        return NULL;
    pipei_format_double(p->min, low, sizeof low);
    pipei_format_double(p->max, high, sizeof high);
    if (isinf(p->max))
        return pipe_arena_format(a, "at least %s", low);
    if (isinf(p->min))
        return pipe_arena_format(a, "at most %s", high);
    return pipe_arena_format(a, "%s to %s", low, high);
}

const char *pipei_param_describe(const pipe_param *p, pipe_arena *a)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    const char *range = pipei_param_range(p, a);

    if (p->type == PIPE_TYPE_CHOICE)
        pipe_text_addf(&t, "one of %s", range ? range : "nothing");
    else
        pipe_text_add(&t, pipei_param_type_name(p));
    if (range && p->type != PIPE_TYPE_CHOICE)
        pipe_text_addf(&t, ", %s%s", is_list(p->type) ? "each " : "", range);
    if (!p->fallback)
        pipe_text_add(&t, ", required");
    else
        pipe_text_addf(&t, ", default %s", *p->fallback ? p->fallback : "\"\"");
    if (p->unit)
        pipe_text_addf(&t, ", %s", p->unit);
    return pipe_arena_strdup(a, t.data);
}
