/* NumPy's .npy (NEP 1, numpy/lib/format.py): magic, version, header length, a
 * Python literal, data.
 *
 * The literal is parsed by its own grammar and never evaluated:
 *     dict  := '{' entry (',' entry)* ','? '}'
 *     entry := string ':' (string | True | False | tuple)
 *     tuple := '(' (integer (',' integer)* ','?)? ')'
 *     integer := digits 'L'?                       (Python 2 wrote the L) */
#include "core/base/file.h"
#include "core/io/formats.h"

#include <string.h>

enum { HEADER_MAX = 65536, ALIGN = 64, KEY_MAX = 64 };

typedef struct header {
    char descr[KEY_MAX];
    bool fortran, has_descr, has_fortran, has_shape;
    pipe_shape shape;
} header;

typedef struct parser {
    const char *name, *p, *end, *start;
    pipe_error *err;
} parser;

static pipe_status wrong(parser *s, const char *expected)
{
    return pipe_fail(s->err, PIPE_EFORMAT, "%s: header, character %td: expected %s", s->name,
                     s->p - s->start + 1, expected);
}

static void skip_space(parser *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
        s->p++;
}

static bool take(parser *s, char c)
{
    skip_space(s);
    if (s->p == s->end || *s->p != c)
        return false;
    s->p++;
    return true;
}

static bool take_word(parser *s, const char *word)
{
    const size_t n = strlen(word);
    skip_space(s);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
        return false;
    s->p += n;
    return true;
}

static pipe_status parse_string(parser *s, char out[KEY_MAX])
{
    skip_space(s);
    if (s->p == s->end || (*s->p != '\'' && *s->p != '"'))
        return wrong(s, "a string");
    const char quote = *s->p++, *close = memchr(s->p, quote, (size_t)(s->end - s->p));
    const size_t n = close ? (size_t)(close - s->p) : 0;
    if (!close || n >= KEY_MAX || memchr(s->p, '\\', n) || memchr(s->p, '\0', n))
        return wrong(s, "a plain string of less than 64 characters");
    memcpy(out, s->p, n);
    out[n] = '\0';
    s->p = close + 1;
    return PIPE_OK;
}

static pipe_status parse_shape(parser *s, pipe_shape *out)
{
    pipe_shape shape = {0};
    if (!take(s, '('))
        return wrong(s, "a tuple of dimensions");
    while (!take(s, ')')) {
        int64_t value = 0;
        skip_space(s);
        if (s->p == s->end || *s->p < '0' || *s->p > '9')
            return wrong(s, "a dimension (digits)");
        for (; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++)
            if (__builtin_mul_overflow(value, 10, &value) ||
                __builtin_add_overflow(value, *s->p - '0', &value))
                return wrong(s, "a dimension below 2^63");
        if (s->p < s->end && *s->p == 'L')
            s->p++;
        if (shape.rank == PIPE_MAX_RANK)
            return pipe_fail(s->err, PIPE_EUNSUPPORTED, "%s: more than %d dimensions", s->name,
                             PIPE_MAX_RANK);
        shape.dim[shape.rank++] = value;
        const bool comma = take(s, ',');
        skip_space(s);
        if (!comma && (s->p == s->end || *s->p != ')' || shape.rank == 1))   /* (3) is a number, no tuple */
            return wrong(s, "a comma");
    }
    *out = shape;
    return PIPE_OK;
}

static pipe_status parse_entry(parser *s, header *h)
{
    char key[KEY_MAX];
    PIPE_TRY(parse_string(s, key));
    if (!take(s, ':'))
        return wrong(s, "a colon");
    bool *seen = strcmp(key, "descr") == 0           ? &h->has_descr
                 : strcmp(key, "fortran_order") == 0 ? &h->has_fortran
                 : strcmp(key, "shape") == 0         ? &h->has_shape
                                                     : NULL;
    if (!seen || *seen)
        return pipe_fail(s->err, PIPE_EFORMAT,
                         "%s: header: key '%s' is %s; descr, fortran_order and shape are expected",
                         s->name, key, seen ? "there twice" : "unknown");
    *seen = true;
    if (seen == &h->has_shape)
        return parse_shape(s, &h->shape);
    if (seen == &h->has_fortran) {
        h->fortran = take_word(s, "True");
        return h->fortran || take_word(s, "False") ? PIPE_OK : wrong(s, "True or False");
    }
    skip_space(s);
    if (s->p < s->end && *s->p == '[')
        return pipe_fail(s->err, PIPE_EUNSUPPORTED,
                         "%s: structured arrays are not read: save each field alone", s->name);
    return parse_string(s, h->descr);
}

static pipe_status parse_header(parser *s, header *h)
{
    if (!take(s, '{'))
        return wrong(s, "'{'");
    while (!take(s, '}')) {
        PIPE_TRY(parse_entry(s, h));
        const bool comma = take(s, ',');
        skip_space(s);
        if (!comma && (s->p == s->end || *s->p != '}'))
            return wrong(s, "a comma or '}'");
    }
    skip_space(s);
    if (s->p != s->end)
        return wrong(s, "nothing behind '}'");
    if (!h->has_descr || !h->has_fortran || !h->has_shape)
        return pipe_fail(s->err, PIPE_EFORMAT, "%s: header: key '%s' is missing", s->name,
                         !h->has_descr ? "descr" : !h->has_shape ? "shape" : "fortran_order");
    return PIPE_OK;
}

static const struct {
    const char *code;
    pipe_element element;
} types[] = {
    {"b1", PIPE_ELEMENT_BOOL}, {"u1", PIPE_ELEMENT_U8}, {"i1", PIPE_ELEMENT_I8}, {"u2", PIPE_ELEMENT_U16},
    {"i2", PIPE_ELEMENT_I16}, {"u4", PIPE_ELEMENT_U32}, {"i4", PIPE_ELEMENT_I32}, {"u8", PIPE_ELEMENT_U64},
    {"i8", PIPE_ELEMENT_I64}, {"f2", PIPE_ELEMENT_F16}, {"f4", PIPE_ELEMENT_F32}, {"f8", PIPE_ELEMENT_F64},
};
enum { TYPES = sizeof types / sizeof types[0] };

static pipe_status element_of(const char *name, const char *descr, pipe_element *element, bool *swap,
                              pipe_error *err)
{
    const char order = descr[0];
    for (size_t k = 0; k < TYPES && (order == '<' || order == '>' || order == '|'); k++)
        if (strcmp(descr + 1, types[k].code) == 0 && (order != '|' || descr[2] == '1')) {
            *element = types[k].element;
            *swap = order == '>' && descr[2] != '1';
            return PIPE_OK;
        }
    if (strchr(descr, 'O'))
        return pipe_fail(err, PIPE_EUNSUPPORTED, "%s: holds Python objects (pickle), which are never read",
                         name);
    return pipe_fail(err, PIPE_EUNSUPPORTED,
                     "%s: descr '%s' is not read: <, > or | with b1, i1, i2, i4, i8, u1, u2, "
                     "u4, u8, f2, f4 or f8 is", name, descr);
}

/* Fortran order runs through the first axis fastest: walk the output in order
 * and step through the input by its strides. */
static void from_fortran(const unsigned char *in, unsigned char *out, const pipe_shape *shape, size_t count,
                         size_t width)
{
    size_t stride[PIPE_MAX_RANK], index[PIPE_MAX_RANK] = {0}, at = 0;
    for (uint32_t k = 0; k < shape->rank; k++)
        stride[k] = k ? stride[k - 1] * (size_t)shape->dim[k - 1] : width;
    for (size_t n = 0; n < count; n++, out += width) {
        memcpy(out, in + at, width);
        for (uint32_t k = shape->rank; k-- > 0; ) {
            at += stride[k];
            if (++index[k] < (size_t)shape->dim[k])
                break;
            at -= index[k] * stride[k];
            index[k] = 0;
        }
    }
}

/* Where the literal lies: checks the first bytes and the length. */
static pipe_status locate_header(const char *name, const unsigned char *p, size_t n, size_t *start,
                                 size_t *length, pipe_error *err)
{
    static const unsigned char magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
    char text[24];
    if (n < 10)
        return pipe_fail(err, PIPE_EFORMAT, "%s: truncated: a .npy file has at least 10 bytes, this one %zu",
                         name, n);
    if (memcmp(p, magic, sizeof magic) != 0)
        return pipe_fail(err, PIPE_EFORMAT, "%s: not a .npy file: begins with %s, expected 93 4e 55 4d 50 59",
                         name, pipei_bytes_text(p, 6, text, sizeof text));
    if (p[6] < 1 || p[6] > 3 || p[7] != 0)
        return pipe_fail(err, PIPE_EUNSUPPORTED, "%s: .npy version %u.%u; 1.0, 2.0 and 3.0 are read", name,
                         p[6], p[7]);
    *start = p[6] == 1 ? 10 : 12;
    if (n < *start)
        return pipe_fail(err, PIPE_EFORMAT, "%s: truncated inside the header's length", name);
    *length = (size_t)p[8] | (size_t)p[9] << 8;
    if (p[6] > 1)
        *length |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
    if (*length > HEADER_MAX)
        return pipe_fail(err, PIPE_EFORMAT, "%s: a header of %zu bytes is above the maximum %d", name,
                         *length, HEADER_MAX);
    if (*length > n - *start)
        return pipe_fail(err, PIPE_EFORMAT, "%s: truncated: the header needs %zu bytes, %zu are left", name,
                         *length, n - *start);
    return PIPE_OK;
}

pipe_status pipei_npy_parse(const char *name, const void *bytes, size_t n, pipe_array **out, pipe_error *err)
{
    const unsigned char *p = bytes;
    size_t start = 0, length = 0, needed;
    header h = {0};
    pipe_element element = PIPE_ELEMENT_U8;
    bool swap = false;

    PIPE_TRY(locate_header(name, p, n, &start, &length, err));
    const char *text = (const char *)p + start;
    parser s = {.name = name, .p = text, .start = text, .end = text + length, .err = err};
    PIPE_TRY(parse_header(&s, &h));
    PIPE_TRY(element_of(name, h.descr, &element, &swap, err));
    if (!pipei_array_bytes(element, &h.shape, &needed))
        return pipe_fail(err, PIPE_EFORMAT, "%s: the product of its shape overflows", name);
    if (needed != n - start - length)
        return pipe_fail(err, PIPE_EFORMAT, "%s: %s: its shape needs %zu bytes of data, %zu are there", name,
                         needed > n - start - length ? "truncated" : "too long", needed, n - start - length);

    PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
    void *data;
    PIPE_TRY(pipei_array_new(name, element, h.shape, &a, &data, err));
    const size_t width = pipe_element_bits(element) / 8, count = needed / width;
    if (h.fortran && h.shape.rank > 1)
        from_fortran(p + start + length, data, &h.shape, count, width);
    else if (needed)
        memcpy(data, p + start + length, needed);
    if (swap)
        pipei_swap_bytes(data, count, width);
    *out = a;
    a = NULL;
    return PIPE_OK;
}

pipe_status pipe_npy_read(const char *path, pipe_array **out, pipe_error *err)
{
    PIPE_CLEANUP(pipei_map_close) pipei_map map = {0};
    PIPE_TRY(pipei_map_open(path, &map, err));
    return pipei_npy_parse(path, map.data, map.size, out, err);
}

/* Everything in front of the data, as NumPy writes it. */
pipe_status pipei_npy_header(const pipe_array *a, pipe_text *out, pipe_error *err)
{
    const char *code = NULL;
    for (size_t k = 0; k < TYPES; k++)
        if (types[k].element == a->element)
            code = types[k].code;
    if (!code)
        return pipe_fail(err, PIPE_EUNSUPPORTED, "NumPy has no %s; convert to f32 first",
                         pipe_element_name(a->element));

    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    pipe_text_addf(&t, "{'descr': '%c%s', 'fortran_order': False, 'shape': (", code[1] == '1' ? '|' : '<',
                   code);
    for (uint32_t k = 0; k < a->shape.rank; k++)
        pipe_text_addf(&t, "%s%lld%s", k ? " " : "", (long long)a->shape.dim[k],
                       k + 1 < a->shape.rank || a->shape.rank == 1 ? "," : "");
    pipe_text_add(&t, "), }");
    while ((10 + t.length + 1) % ALIGN)
        pipe_text_add(&t, " ");
    pipe_text_add(&t, "\n");
    /* Eight dimensions of 19 digits stay far below the 65,535 bytes of version 1.0. */
    const unsigned char length[2] = {(unsigned char)t.length, (unsigned char)(t.length >> 8)};
    pipe_text_add_bytes(out, "\x93NUMPY\x01\0", 8);
    pipe_text_add_bytes(out, length, 2);
    pipe_text_add_bytes(out, t.data, t.length);
    return PIPE_OK;
}

pipe_status pipe_npy_write(const char *path, const pipe_array *a, pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text head = {0};
    PIPE_TRY(pipei_array_check(a, path, err));
    PIPE_TRY(pipei_npy_header(a, &head, err));
    pipei_writer *w;
    PIPE_TRY(pipei_writer_open(path, &w, err));
    pipei_writer_put(w, head.data, head.length);
    pipei_writer_put(w, a->data, a->bytes);
    return pipei_writer_commit(w, err);
}
