/* Arrays: element types, conversion, memory. */
#include "core/io/formats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "arrays are stored little-endian and converted by memcpy");

static const struct {
    const char *name;
    unsigned bits;
    bool integer;
} elements[] = {
    [PIPE_ELEMENT_BOOL] = {"BOOL", 8, true},
    [PIPE_ELEMENT_U8] = {"U8", 8, true},
    [PIPE_ELEMENT_I8] = {"I8", 8, true},
    [PIPE_ELEMENT_U16] = {"U16", 16, true},
    [PIPE_ELEMENT_I16] = {"I16", 16, true},
    [PIPE_ELEMENT_U32] = {"U32", 32, true},
    [PIPE_ELEMENT_I32] = {"I32", 32, true},
    [PIPE_ELEMENT_U64] = {"U64", 64, true},
    [PIPE_ELEMENT_I64] = {"I64", 64, true},
    [PIPE_ELEMENT_F16] = {"F16", 16, false},
    [PIPE_ELEMENT_BF16] = {"BF16", 16, false},
    [PIPE_ELEMENT_F32] = {"F32", 32, false},
    [PIPE_ELEMENT_F64] = {"F64", 64, false},
    [PIPE_ELEMENT_F8_E5M2] = {"F8_E5M2", 8, false},
    [PIPE_ELEMENT_F8_E4M3] = {"F8_E4M3", 8, false},
    [PIPE_ELEMENT_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 8, false},
    [PIPE_ELEMENT_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 8, false},
    [PIPE_ELEMENT_F8_E8M0] = {"F8_E8M0", 8, false},
    [PIPE_ELEMENT_F4] = {"F4", 4, false},
    [PIPE_ELEMENT_F6_E2M3] = {"F6_E2M3", 6, false},
    [PIPE_ELEMENT_F6_E3M2] = {"F6_E3M2", 6, false},
    [PIPE_ELEMENT_C64] = {"C64", 64, false},
};
enum { ELEMENTS = sizeof elements / sizeof elements[0] };

const char *pipe_element_name(pipe_element e)
{
    return (unsigned)e < ELEMENTS ? elements[e].name : "unknown";
}

unsigned pipe_element_bits(pipe_element e)
{
    return (unsigned)e < ELEMENTS ? elements[e].bits : 0;
}

/* ---- sizes ---- */

bool pipei_shape_elements(const pipe_shape *shape, size_t *out)
{
    size_t n = 1;
    bool empty = false;
    if (shape->rank > PIPE_MAX_RANK)
        return false;
    for (uint32_t k = 0; k < shape->rank; k++) {
        if (shape->dim[k] < 0)
            return false;
        if (shape->dim[k] == 0)
            empty = true;
        /* [huge, huge, 0] overflows too: its strides could not be computed. */
        else if (!pipe_mul_size(n, (size_t)shape->dim[k], &n))
            return false;
    }
    *out = empty ? 0 : n;
    return true;
}

bool pipei_array_bytes(pipe_element element, const pipe_shape *shape, size_t *out)
{
    size_t count, bits;
    if ((unsigned)element >= ELEMENTS || !pipei_shape_elements(shape, &count) ||
        !pipe_mul_size(count, elements[element].bits, &bits) || bits % 8)
        return false;
    *out = bits / 8;
    return true;
}

pipe_array pipe_array_view(pipe_element element, pipe_shape shape, const void *data)
{
    pipe_array a = {.size = sizeof a, .element = element, .shape = shape, .data = data};
    if (!pipei_array_bytes(element, &shape, &a.bytes))
        a.bytes = SIZE_MAX;          /* writers refuse it: see pipei_array_check() */
    return a;
}

pipe_status pipei_array_check(const pipe_array *a, const char *what, pipe_error *err)
{
    size_t bytes;
    if (!a || a->size < sizeof *a)
        return pipe_fail(err, PIPE_EINVAL, "%s: no array was given, or its size field was not set", what);
    if ((unsigned)a->element >= ELEMENTS)
        return pipe_fail(err, PIPE_EINVAL, "%s: element type %d is unknown", what, (int)a->element);
    if (!pipei_array_bytes(a->element, &a->shape, &bytes) || bytes != a->bytes)
        return pipe_fail(err, PIPE_EINVAL, "%s: its %zu bytes are not those of its shape as %s", what,
                         a->bytes, elements[a->element].name);
    if (bytes > 0 && !a->data)
        return pipe_fail(err, PIPE_EINVAL, "%s: %zu bytes are announced, but there are none", what, bytes);
    return PIPE_OK;
}

size_t pipe_array_count(const pipe_array *a)
{
    size_t n = 0;
    pipei_shape_elements(&a->shape, &n);
    return n;
}

bool pipe_array_is_integer(const pipe_array *a)
{
    return (unsigned)a->element < ELEMENTS && elements[a->element].integer;
}

/* ---- memory ---- */

pipe_status pipei_array_new(const char *name, pipe_element element, pipe_shape shape, pipe_array **out,
                            void **data, pipe_error *err)
{
    size_t bytes;
    if (!pipei_array_bytes(element, &shape, &bytes))
        return pipe_fail(err, PIPE_EFORMAT, "%s: the shape's product overflows", name);
    void *memory = pipe_try_alloc(bytes);
    if (!memory)
        return pipe_fail(err, PIPE_ENOMEM, "%s: no memory for %zu bytes", name, bytes);
    pipe_array *a = pipe_alloc(sizeof *a);
    *a = (pipe_array){.size = sizeof *a, .element = element, .shape = shape, .data = memory, .bytes = bytes};
    *out = a;
    *data = memory;
    return PIPE_OK;
}

void pipe_array_free(pipe_array *a)
{
    if (!a)
        return;
    pipe_free((void *)(uintptr_t)a->data);
    pipe_free(a);
}

void pipe_array_free_ptr(pipe_array **a)
{
    pipe_array_free(*a);
    *a = NULL;
}

void pipei_swap_bytes(void *data, size_t count, size_t width)
{
    unsigned char *p = data;
    for (size_t k = 0; k < count; k++, p += width)
        for (size_t i = 0, j = width - 1; i < j; i++, j--) {
            const unsigned char t = p[i];
            p[i] = p[j];
            p[j] = t;
        }
}

char *pipei_bytes_text(const void *bytes, size_t n, char *out, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *p = bytes;
    size_t used = 0;
    for (size_t k = 0; k < n && used + 3 < size; k++) {
        if (k)
            out[used++] = ' ';
        out[used++] = digits[p[k] >> 4];
        out[used++] = digits[p[k] & 15];
    }
    out[used] = '\0';
    return out;
}

/* ---- conversion: everything goes through double, which holds each of these
 * exactly but for 64-bit integers above 2^53 ---- */

/* sign, `e` exponent bits, `m` mantissa bits, from an IEEE-like code without its
 * special values. */
static double small_float(unsigned code, unsigned e, unsigned m, int bias)
{
    const unsigned mantissa = code & ((1u << m) - 1), exponent = (code >> m) & ((1u << e) - 1);
    const double magnitude = exponent ? ldexp(1.0 + ldexp(mantissa, -(int)m), (int)exponent - bias)
                                      : ldexp(mantissa, 1 - bias - (int)m);
    return code >> (e + m) & 1 ? -magnitude : magnitude;
}

static double ieee_float(unsigned code, unsigned e, unsigned m)
{
    const unsigned top = (1u << e) - 1;
    if (((code >> m) & top) == top) {
        const double special = code & ((1u << m) - 1) ? NAN : INFINITY;
        return code >> (e + m) & 1 ? -special : special;
    }
    return small_float(code, e, m, (int)(top >> 1));
}

/* OCP 8-bit floating point specification 1.0; FNUZ: Noune et al. 2022,
 * arXiv:2206.02915: one NaN in the place of -0, a bias larger by one. */
static double float8(pipe_element e, unsigned code)
{
    switch (e) {
    case PIPE_ELEMENT_F8_E5M2: return ieee_float(code, 5, 2);
    case PIPE_ELEMENT_F8_E4M3: return (code & 0x7F) == 0x7F ? NAN : small_float(code, 4, 3, 7);
    case PIPE_ELEMENT_F8_E5M2FNUZ: return code == 0x80 ? NAN : small_float(code, 5, 2, 16);
    case PIPE_ELEMENT_F8_E4M3FNUZ: return code == 0x80 ? NAN : small_float(code, 4, 3, 8);
    default: return code == 0xFF ? NAN : ldexp(1.0, (int)code - 127);      /* E8M0 */
    }
}

#define LOAD(type)                                              \
    do {                                                        \
        type value_;                                            \
        memcpy(&value_, p + k * sizeof value_, sizeof value_);  \
        return (double)value_;                                  \
    } while (0)

static double load(pipe_element e, const unsigned char *p, size_t k)
{
    switch (e) {
    case PIPE_ELEMENT_BOOL: return p[k] != 0;
    case PIPE_ELEMENT_U8: return p[k];
    case PIPE_ELEMENT_I8: LOAD(int8_t);
    case PIPE_ELEMENT_U16: LOAD(uint16_t);
    case PIPE_ELEMENT_I16: LOAD(int16_t);
    case PIPE_ELEMENT_U32: LOAD(uint32_t);
    case PIPE_ELEMENT_I32: LOAD(int32_t);
    case PIPE_ELEMENT_U64: LOAD(uint64_t);
    case PIPE_ELEMENT_I64: LOAD(int64_t);
    case PIPE_ELEMENT_F16: return ieee_float(p[2 * k] | (unsigned)p[2 * k + 1] << 8, 5, 10);
    case PIPE_ELEMENT_BF16: {
        const uint32_t bits = (uint32_t)p[2 * k] << 16 | (uint32_t)p[2 * k + 1] << 24;
        float value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    case PIPE_ELEMENT_F32: LOAD(float);
    case PIPE_ELEMENT_F64: LOAD(double);
    case PIPE_ELEMENT_F4: return small_float(k % 2 ? p[k / 2] >> 4 : p[k / 2] & 15, 2, 1, 1);
    default: return float8(e, p[k]);
    }
}

static pipe_status check_range(const pipe_array *a, size_t first, size_t count, pipe_error *err)
{
    const size_t n = pipe_array_count(a);
    if (first > n || count > n - first)
        return pipe_fail(err, PIPE_EINVAL, "elements %zu to %zu of an array of %zu", first, first + count, n);
    if (a->element == PIPE_ELEMENT_F6_E2M3 || a->element == PIPE_ELEMENT_F6_E3M2 ||
        a->element == PIPE_ELEMENT_C64)
        return pipe_fail(err, PIPE_EUNSUPPORTED, "%s cannot be converted to real numbers here",
                         elements[a->element].name);
    return PIPE_OK;
}

pipe_status pipe_array_f32(const pipe_array *a, size_t first, size_t count, float *out, pipe_error *err)
{
    const unsigned char *p = a->data;
    PIPE_TRY(check_range(a, first, count, err));
    if (count == 0)
        return PIPE_OK;
    switch (a->element) {
    case PIPE_ELEMENT_F32:
        memcpy(out, p + first * sizeof(float), count * sizeof(float));
        return PIPE_OK;
    case PIPE_ELEMENT_U8:                       /* whole data sets of pictures */
        for (size_t k = 0; k < count; k++)
            out[k] = p[first + k];
        return PIPE_OK;
    case PIPE_ELEMENT_U64:                      /* through double they would be rounded twice */
        for (size_t k = 0; k < count; k++) {
            uint64_t v;
            memcpy(&v, p + (first + k) * 8, sizeof v);
            out[k] = (float)v;
        }
        return PIPE_OK;
    case PIPE_ELEMENT_I64:
        for (size_t k = 0; k < count; k++) {
            int64_t v;
            memcpy(&v, p + (first + k) * 8, sizeof v);
            out[k] = (float)v;
        }
        return PIPE_OK;
    default:
        for (size_t k = 0; k < count; k++)
            out[k] = (float)load(a->element, p, first + k);
        return PIPE_OK;
    }
}

pipe_status pipe_array_f64(const pipe_array *a, size_t first, size_t count, double *out, pipe_error *err)
{
    PIPE_TRY(check_range(a, first, count, err));
    for (size_t k = 0; k < count; k++)
        out[k] = load(a->element, a->data, first + k);
    return PIPE_OK;
}

/* 64-bit integers beyond 2^53 are far outside i32, so their rounding to double
 * changes no decision here. */
pipe_status pipe_array_i32(const pipe_array *a, size_t first, size_t count, int32_t *out, pipe_error *err)
{
    PIPE_TRY(check_range(a, first, count, err));
    for (size_t k = 0; k < count; k++) {
        const double v = load(a->element, a->data, first + k);
        if (!(v >= INT32_MIN && v <= INT32_MAX) || v != floor(v))
            return pipe_fail(err, PIPE_EDOMAIN, "element %zu is %.17g: not a whole number of 32 bits",
                             first + k, v);
    }
    for (size_t k = 0; k < count; k++)
        out[k] = (int32_t)load(a->element, a->data, first + k);
    return PIPE_OK;
}
