/* Element types: codes against values from the formats' definitions. */
#include "io-test.h"

static const struct {
    pipe_element element;
    uint64_t code;
    double value;
    const char *why;
} codes[] = {
    {PIPE_ELEMENT_BOOL, 0, 0, "false"},
    {PIPE_ELEMENT_BOOL, 7, 1, "true is not always 1"},
    {PIPE_ELEMENT_I8, 0x80, -128, "sign"},
    {PIPE_ELEMENT_U8, 0x80, 128, "no sign"},
    {PIPE_ELEMENT_I16, 0x8000, -32768, "sign"},
    {PIPE_ELEMENT_U16, 0xFFFF, 65535, "no sign"},
    {PIPE_ELEMENT_U32, 0xFFFFFFFF, 4294967295.0, "no sign"},
    {PIPE_ELEMENT_I64, UINT64_C(1) << 63, -0x1p63, "sign"},
    {PIPE_ELEMENT_U64, UINT64_C(1) << 63, 0x1p63, "no sign"},
    {PIPE_ELEMENT_F16, 0x3C00, 1, "one"},
    {PIPE_ELEMENT_F16, 0x0001, 0x1p-24, "smallest subnormal"},
    {PIPE_ELEMENT_F16, 0x03FF, 1023 * 0x1p-24, "largest subnormal"},
    {PIPE_ELEMENT_F16, 0x7BFF, 65504, "largest"},
    {PIPE_ELEMENT_F16, 0xFC00, -INFINITY, "infinity"},
    {PIPE_ELEMENT_F16, 0x7E00, NAN, "not a number"},
    {PIPE_ELEMENT_F16, 0xC000, -2, "minus two"},
    {PIPE_ELEMENT_BF16, 0x3FC0, 1.5, "1.5"},
    {PIPE_ELEMENT_BF16, 0x0001, 0x1p-133, "smallest subnormal"},
    {PIPE_ELEMENT_BF16, 0xFF80, -INFINITY, "infinity"},
    {PIPE_ELEMENT_F32, 0x40490FDB, 3.1415927410125732, "pi"},
    {PIPE_ELEMENT_F64, UINT64_C(0x400921FB54442D18), 3.141592653589793, "pi"},
    {PIPE_ELEMENT_F8_E5M2, 0x7B, 57344, "largest"},
    {PIPE_ELEMENT_F8_E5M2, 0x7C, INFINITY, "infinity"},
    {PIPE_ELEMENT_F8_E5M2, 0x01, 0x1p-16, "smallest subnormal"},
    {PIPE_ELEMENT_F8_E4M3, 0x7E, 448, "largest: the format has no infinity"},
    {PIPE_ELEMENT_F8_E4M3, 0x7F, NAN, "the only NaN but for its sign"},
    {PIPE_ELEMENT_F8_E4M3, 0x01, 0x1p-9, "smallest subnormal"},
    {PIPE_ELEMENT_F8_E4M3FNUZ, 0x7F, 240, "largest"},
    {PIPE_ELEMENT_F8_E4M3FNUZ, 0x80, NAN, "in the place of -0"},
    {PIPE_ELEMENT_F8_E5M2FNUZ, 0x7F, 57344, "largest"},
    {PIPE_ELEMENT_F8_E5M2FNUZ, 0x80, NAN, "in the place of -0"},
    {PIPE_ELEMENT_F8_E8M0, 0x7F, 1, "bias 127"},
    {PIPE_ELEMENT_F8_E8M0, 0x00, 0x1p-127, "no zero"},
    {PIPE_ELEMENT_F8_E8M0, 0xFF, NAN, "not a number"},
};

Test(io, codes_of_elements)
{
    for (size_t k = 0; k < COUNT(codes); k++) {
        unsigned char bytes[9];                      /* unaligned on purpose */
        memcpy(bytes + 1, &codes[k].code, 8);
        const pipe_array a = pipe_array_view(codes[k].element, PIPE_SHAPE(1), bytes + 1);
        pipe_error err = PIPE_ERROR_INIT;
        double wide;
        float narrow;
        MUST(pipe_array_f64(&a, 0, 1, &wide, &err));
        MUST(pipe_array_f32(&a, 0, 1, &narrow, &err));
        const bool nan = isnan(codes[k].value);
        cr_expect(nan ? isnan(wide) : wide == codes[k].value, "%s %s: %.17g",
                  pipe_element_name(codes[k].element), codes[k].why, wide);
        cr_expect(nan ? isnan(narrow) : narrow == (float)codes[k].value, "%s %s as f32: %.9g",
                  pipe_element_name(codes[k].element), codes[k].why, (double)narrow);
    }
}

Test(io, four_bits_come_low_half_first)
{
    static const double values[16] = {0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6};
    unsigned char bytes[8];
    for (int k = 0; k < 8; k++)
        bytes[k] = (unsigned char)(2 * k | (2 * k + 1) << 4);
    const pipe_array a = pipe_array_view(PIPE_ELEMENT_F4, PIPE_SHAPE(4, 4), bytes);
    cr_expect_eq(a.bytes, 8);
    expect_values(&a, values, 16);
}

Test(io, sixty_four_bits_are_rounded_once)
{
    /* Halfway between two floats, plus one: through double it would round down. */
    const uint64_t v = (UINT64_C(1) << 60) + (UINT64_C(1) << 36) + 1;
    const pipe_array a = pipe_array_view(PIPE_ELEMENT_U64, PIPE_SHAPE(1), &v);
    float out;
    pipe_error err = PIPE_ERROR_INIT;
    MUST(pipe_array_f32(&a, 0, 1, &out, &err));
    cr_expect_eq(out, 0x1p60f + 0x1p37f);
}

static const struct {
    double value;
    bool fits;
    const char *why;
} whole[] = {
    {7, true, "whole"}, {-2147483648.0, true, "the least"}, {2147483647.0, true, "the greatest"},
    {2147483648.0, false, "one more"}, {0.5, false, "a fraction"}, {NAN, false, "NaN"},
    {-INFINITY, false, "infinite"},
};

Test(io, only_whole_numbers_become_i32)
{
    for (size_t k = 0; k < COUNT(whole); k++) {
        const pipe_array a = pipe_array_view(PIPE_ELEMENT_F64, PIPE_SCALAR, &whole[k].value);
        pipe_error err = PIPE_ERROR_INIT;
        int32_t out = 99;
        const pipe_status status = pipe_array_i32(&a, 0, 1, &out, &err);
        cr_expect_eq(status, whole[k].fits ? PIPE_OK : PIPE_EDOMAIN, "%s", whole[k].why);
        cr_expect_eq(out, whole[k].fits ? (int32_t)whole[k].value : 99, "%s", whole[k].why);
    }
}

Test(io, ranges_of_arrays)
{
    const float data[4] = {1, 2, 3, 4};
    const pipe_array a = PIPE_ARRAY_F32(PIPE_SHAPE(4), data);
    pipe_error err = PIPE_ERROR_INIT;
    float out[4] = {0};
    MUST(pipe_array_f32(&a, 1, 2, out, &err));
    cr_expect(out[0] == 2 && out[1] == 3 && out[2] == 0);
    MUST(pipe_array_f32(&a, 4, 0, out, &err));
    check_failure(pipe_array_f32(&a, 3, 2, out, &err), PIPE_EINVAL, &err, "array of 4", "beyond the end");
    check_failure(pipe_array_f32(&a, 5, SIZE_MAX, out, &err), PIPE_EINVAL, &err, "array of 4", "overflow");
    const pipe_array c = pipe_array_view(PIPE_ELEMENT_C64, PIPE_SHAPE(2), data);
    check_failure(pipe_array_f32(&c, 0, 1, out, &err), PIPE_EUNSUPPORTED, &err, "C64", "complex");
}

Test(io, gzip_may_have_several_members)
{
    /* printf abc | gzip -n; printf def | gzip -n */
    static const unsigned char two[] = {
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b, 0x4c, 0x4a, 6, 0, 0xc2, 0x41, 0x24, 0x35, 3, 0, 0, 0,
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b, 0x49, 0x4d, 3, 0, 0x61, 0xe1, 0xc4, 0x0c, 3, 0, 0, 0,
    };
    static const struct {
        size_t n;
        const char *tail, *expected, *parts, *why;
    } cases[] = {
        {46, "", "abcdef", "", "both"},
        {23, "", "abc", "", "one"},
        {23, "\0\0\0", "abc", "", "padding"},
        {23, "junk", NULL, "4 bytes that are not gzip", "something else behind"},
        {40, "", NULL, "truncated", "the second one is cut"},
        {9, "", NULL, "truncated", "cut in the header"},
    };
    for (size_t k = 0; k < COUNT(cases); k++) {
        pipe_error err = PIPE_ERROR_INIT;
        PIPE_CLEANUP(pipe_text_free) pipe_text in = {0}, out = {0};
        pipe_text_add_bytes(&in, two, cases[k].n);
        pipe_text_add_bytes(&in, cases[k].tail, cases[k].tail[0] ? strlen(cases[k].tail) : k == 2 ? 3 : 0);
        PIPE_CLEANUP(pipei_stream_free) pipei_stream *s = pipei_stream_new("f.gz", in.data, in.length);
        cr_expect(pipei_stream_is_gzip(s));
        const pipe_status status = pipei_stream_all(s, 100, &out, &err);
        if (cases[k].expected) {
            MUST(status);
            cr_expect_str_eq(out.data, cases[k].expected, "%s", cases[k].why);
        } else {
            check_failure(status, PIPE_EFORMAT, &err, cases[k].parts, cases[k].why);
        }
    }
    pipe_error err = PIPE_ERROR_INIT;
    pipe_text out = {0};
    PIPE_CLEANUP(pipei_stream_free) pipei_stream *s = pipei_stream_new("f.gz", two, sizeof two);
    check_failure(pipei_stream_all(s, 5, &out, &err), PIPE_EFORMAT, &err, "limit of 5", "limit");
}
