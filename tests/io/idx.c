/* IDX: real data, every type, every kind of damage. */
#include "io-test.h"

#include "support/data.h"

#include <zlib.h>

static const struct {
    const char *bytes;
    size_t n;
    pipe_element element;
    double values[2];
} types[] = {
    {"\0\0\x08\x01\0\0\0\x02\x01\xFF", 10, PIPE_ELEMENT_U8, {1, 255}},
    {"\0\0\x09\x01\0\0\0\x02\x01\xFF", 10, PIPE_ELEMENT_I8, {1, -1}},
    {"\0\0\x0B\x01\0\0\0\x02\x01\x02\xFF\xFE", 12, PIPE_ELEMENT_I16, {258, -2}},
    {"\0\0\x0C\x01\0\0\0\x02\0\x01\0\0\xFF\xFF\xFF\xFE", 16, PIPE_ELEMENT_I32, {65536, -2}},
    {"\0\0\x0D\x01\0\0\0\x02\x3F\xC0\0\0\xC0\0\0\0", 16, PIPE_ELEMENT_F32, {1.5, -2}},
    {"\0\0\x0E\x01\0\0\0\x02\x3F\xF8\0\0\0\0\0\0\xC0\0\0\0\0\0\0\0", 24, PIPE_ELEMENT_F64, {1.5, -2}},
};

Test(io, idx_types)
{
    for (size_t k = 0; k < COUNT(types); k++) {
        pipe_error err = PIPE_ERROR_INIT;
        PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
        PIPE_CLEANUP(pipe_free_ptr) void *bytes = exact(types[k].bytes, types[k].n);
        MUST(pipei_idx_parse("a.idx", bytes, types[k].n, &a, &err));
        cr_expect_eq(a->element, types[k].element);
        expect_shape(a, PIPE_SHAPE(2));
        expect_values(a, types[k].values, 2);
    }
}

static const struct {
    const char *bytes;
    size_t n;
    const char *parts, *why;
} damaged[] = {
    {"", 0, "truncated|4 bytes, 0", "empty"},
    {"\0\0\x08", 3, "truncated|4 bytes, 3", "cut in the magic"},
    {"\x89PNG....", 8, "not an IDX file|89 50 4e 47|expected 00 00", "something else"},
    {"\0\0\x07\x01\0\0\0\x01x", 9, "not an IDX file|00 00 07 01|08 09 0b", "an unknown type"},
    {"\0\0\x08\0x", 5, "0 dimensions", "no dimension"},
    {"\0\0\x08\x09", 4, "9 dimensions|1 to 8", "too many dimensions"},
    {"\0\0\x08\x02\0\0\0\x01\0\0", 10, "truncated|2 dimensions need 8 bytes, 6", "cut in the dimensions"},
    {"\0\0\x08\x01\0\0\0\x03xy", 10, "truncated|need 3 bytes|2 are there", "cut in the data"},
    {"\0\0\x08\x01\0\0\0\x03xyzw", 12, "longer|3 bytes", "a byte too many"},
    {"\0\0\x08\x02\0\xFF\xFF\xFF\0\xFF\xFF\xFFx", 13, "truncated", "a huge promise"},
    {"\0\0\x0E\x03\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 16, "overflows", "beyond 64 bits"},
};

Test(io, idx_damage)
{
    for (size_t k = 0; k < COUNT(damaged); k++) {
        pipe_error err = PIPE_ERROR_INIT;
        pipe_array *a = NULL;
        PIPE_CLEANUP(pipe_free_ptr) void *bytes = exact(damaged[k].bytes, damaged[k].n);
        check_failure(pipei_idx_parse("a.idx", bytes, damaged[k].n, &a, &err), PIPE_EFORMAT, &err,
                      damaged[k].parts, damaged[k].why);
        cr_expect_null(a);
    }
}

static size_t compress_gzip(const void *in, size_t n, unsigned char *out, size_t room)
{
    z_stream z = {0};
    cr_assert_eq(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)(uintptr_t)in;
    z.avail_in = (uInt)n;
    z.next_out = out;
    z.avail_out = (uInt)room;
    cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return (size_t)z.total_out;
}

Test(io, idx_gzip)
{
    enum { N = 4096 };
    static unsigned char plain[8 + N] = {0, 0, 8, 1, 0, 0, N >> 8, 0}, packed[2 * N];
    for (size_t k = 0; k < N; k++)
        plain[8 + k] = (unsigned char)(k * k >> 4);
    const size_t n = compress_gzip(plain, sizeof plain, packed, sizeof packed);
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
    MUST(pipei_idx_parse("a.gz", packed, n, &a, &err));
    cr_assert_eq(a->bytes, N);
    cr_expect_eq(memcmp(a->data, plain + 8, N), 0);
    for (size_t cut = 2; cut < n; cut += n / 10) {
        pipe_array *none = NULL;
        PIPE_CLEANUP(pipe_free_ptr) void *part = exact(packed, cut);
        check_failure(pipei_idx_parse("a.gz", part, cut, &none, &err), PIPE_EFORMAT, &err, "a.gz: truncated",
                      "cut");
    }
    packed[n - 6] ^= 1;                             /* in the checksum */
    pipe_array *none = NULL;
    check_failure(pipei_idx_parse("a.gz", packed, n, &none, &err), PIPE_EFORMAT, &err, "damaged gzip",
                  "checksum");
    /* A bomb: its header promises what deflate cannot hold, so nothing is allocated. */
    static const unsigned char bomb[8] = {0, 0, 8, 1, 0xFF, 0xFF, 0xFF, 0xFF};
    const size_t m = compress_gzip(bomb, sizeof bomb, packed, sizeof packed);
    check_failure(pipei_idx_parse("b.gz", packed, m, &none, &err), PIPE_EFORMAT, &err, "truncated|4294967295",
                  "bomb");
}

Test(io, idx_fashion_mnist)
{
    need_fashion_mnist();
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *images = NULL, *labels = NULL;
    MUST(pipe_idx_read(FASHION_MNIST "/t10k-images-idx3-ubyte.gz", &images, &err));
    MUST(pipe_idx_read(FASHION_MNIST "/t10k-labels-idx1-ubyte.gz", &labels, &err));
    expect_shape(images, PIPE_SHAPE(10000, 28, 28));
    expect_shape(labels, PIPE_SHAPE(10000));
    size_t count[10] = {0};
    for (size_t k = 0; k < 10000; k++) {
        int32_t label;
        MUST(pipe_array_i32(labels, k, 1, &label, &err));
        cr_assert(label >= 0 && label < 10);
        count[label]++;
    }
    for (int k = 0; k < 10; k++)
        cr_expect_eq(count[k], 1000, "class %d", k);
}
