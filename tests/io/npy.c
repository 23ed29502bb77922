/* .npy and .npz: NumPy's files, golden bytes, damage. */
#include "io-test.h"

static const struct {
    const char *file;
    pipe_element element;
} numpys[] = {
    {GOLDEN("c-order.npy"), PIPE_ELEMENT_F32},
    {GOLDEN("fortran.npy"), PIPE_ELEMENT_F64},
    {GOLDEN("big-endian.npy"), PIPE_ELEMENT_I32},
    {GOLDEN("version-3.npy"), PIPE_ELEMENT_U8},
};

Test(io, npy_of_numpy)
{
    for (size_t k = 0; k < COUNT(numpys); k++) {
        pipe_error err = PIPE_ERROR_INIT;
        PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
        MUST(pipe_npy_read(numpys[k].file, &a, &err));
        cr_expect_eq(a->element, numpys[k].element, "%s", numpys[k].file);
        expect_shape(a, PIPE_SHAPE(2, 3, 4));
        expect_counting(a, 24);
    }
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *scalar = NULL;
    MUST(pipe_npy_read(GOLDEN("scalar.npy"), &scalar, &err));
    const double value = 1.5;
    expect_shape(scalar, PIPE_SCALAR);
    expect_values(scalar, &value, 1);
}

Test(io, npy_is_written_as_numpy_writes_it)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "a.npy");
    for (size_t k = 0; k < COUNT(numpys); k += 3) {      /* C order; version 3 differs in the version alone */
        PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
        MUST(pipe_npy_read(numpys[k].file, &a, &err));
        MUST(pipe_npy_write(path, a, &err));
        char *ours, *theirs;
        size_t n, m;
        MUST(pipei_file_read(path, 10000, &ours, &n, &err));
        MUST(pipei_file_read(numpys[k].file, 10000, &theirs, &m, &err));
        const bool first_version = theirs[6] == 1;
        const size_t from = first_version ? 0 : n - 24, skip = first_version ? 0 : m - 24;
        cr_expect(n - from == m - skip && memcmp(ours + from, theirs + skip, n - from) == 0, "%s",
                  numpys[k].file);
        cr_expect_eq((n - a->bytes) % 64, 0);
        pipe_free(ours);
        pipe_free(theirs);
    }
    const pipe_array b = pipe_array_view(PIPE_ELEMENT_BF16, PIPE_SHAPE(1), "xy");
    check_failure(pipe_npy_write(path, &b, &err), PIPE_EUNSUPPORTED, &err, "BF16", "NumPy has none");
}

/* The header's text; data are `bytes` letters. */
static const struct {
    const char *header;
    size_t bytes;
    pipe_status status;
    const char *parts, *why;
} headers[] = {
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }\n", 12, PIPE_OK, "", "as NumPy writes it"},
    {"{\"shape\":(3L,),\"descr\":\"<f4\",\"fortran_order\":False}", 12, PIPE_OK, "",
        "Python 2, other quotes and order"},
    {"{'descr': '|u1', 'fortran_order': True, 'shape': (0, 3)}", 0, PIPE_OK, "", "empty"},
    {"{'descr': '>u1', 'fortran_order': False, 'shape': ()}", 1, PIPE_OK, "", "scalar"},
    {"", 0, PIPE_EFORMAT, "'{'", "no header"},
    {"{'descr': '<f4', 'fortran_order': False}", 4, PIPE_EFORMAT, "'shape' is missing", "no shape"},
    {"{'descr': '<f4', 'shape': (1,)}", 4, PIPE_EFORMAT, "'fortran_order' is missing", "no order"},
    {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", 4, PIPE_EFORMAT, "twice",
        "twice"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}", 4, PIPE_EFORMAT, "'x' is unknown",
        "extra"},
    {"{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}", 4, PIPE_EFORMAT, "True or False", "0 for False"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1)}", 4, PIPE_EFORMAT, "comma", "not a tuple"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': [1]}", 4, PIPE_EFORMAT, "tuple", "a list"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", 4, PIPE_EFORMAT, "digits", "negative"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (__import__('os'),)}", 4, PIPE_EFORMAT, "digits",
        "code"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775808,)}", 4, PIPE_EFORMAT, "2^63",
        "too large"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", 0, PIPE_EFORMAT,
        "overflows",
     "product"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", 4, PIPE_EUNSUPPORTED,
        "8 dimensions",
     "nine axes"},
    {"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", 4, PIPE_EUNSUPPORTED, "pickle", "objects"},
    {"{'descr': '<U4', 'fortran_order': False, 'shape': (1,)}", 16, PIPE_EUNSUPPORTED, "'<U4'", "strings"},
    {"{'descr': '|f4', 'fortran_order': False, 'shape': (1,)}", 4, PIPE_EUNSUPPORTED, "'|f4'",
        "no byte order"},
    {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", 4, PIPE_EUNSUPPORTED, "structured",
        "fields"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", 4, PIPE_EFORMAT, "nothing behind",
        "text behind"},
    {"{'descr': '<f4' 'fortran_order': False, 'shape': (1,)}", 4, PIPE_EFORMAT, "comma", "no comma"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", 11, PIPE_EFORMAT, "truncated|12 bytes|11",
        "cut"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", 13, PIPE_EFORMAT, "too long|12 bytes|13",
        "longer"},
    {"{'descr': '<f4", 4, PIPE_EFORMAT, "plain string", "a quote is not closed"},
};

Test(io, npy_headers)
{
    for (size_t k = 0; k < COUNT(headers); k++) {
        pipe_error err = PIPE_ERROR_INIT;
        PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
        PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
        const uint16_t length = (uint16_t)strlen(headers[k].header);
        pipe_text_add_bytes(&t, "\x93NUMPY\x01\0", 8);
        pipe_text_add_bytes(&t, &length, 2);
        pipe_text_add(&t, headers[k].header);
        for (size_t i = 0; i < headers[k].bytes; i++)
            pipe_text_add(&t, "x");
        PIPE_CLEANUP(pipe_free_ptr) void *bytes = exact(t.data, t.length);
        check_failure(pipei_npy_parse("a.npy", bytes, t.length, &a, &err), headers[k].status, &err,
                      headers[k].status == PIPE_OK ? "" : headers[k].parts, headers[k].why);
    }
}

static const struct {
    const char *bytes;
    size_t n;
    pipe_status status;
    const char *parts;
} beginnings[] = {
    {"", 0, PIPE_EFORMAT, "at least 10 bytes, this one 0"},
    {"PK\x03\x04xxxxxx", 10, PIPE_EFORMAT, "not a .npy file|50 4b 03 04|expected 93 4e"},
    {"\x93NUMPY\x04\0xx", 10, PIPE_EUNSUPPORTED, "version 4.0"},
    {"\x93NUMPY\x02\0xx", 10, PIPE_EFORMAT, "truncated"},
    {"\x93NUMPY\x02\0\0\0\0\x01", 12, PIPE_EFORMAT, "16777216|maximum"},
    {"\x93NUMPY\x01\0\x09\0{", 11, PIPE_EFORMAT, "truncated|9 bytes, 1"},
};

Test(io, npy_beginnings)
{
    for (size_t k = 0; k < COUNT(beginnings); k++) {
        pipe_error err = PIPE_ERROR_INIT;
        pipe_array *a = NULL;
        PIPE_CLEANUP(pipe_free_ptr) void *bytes = exact(beginnings[k].bytes, beginnings[k].n);
        check_failure(pipei_npy_parse("a.npy", bytes, beginnings[k].n, &a, &err), beginnings[k].status, &err,
                      beginnings[k].parts, "beginning");
    }
}

Test(io, npz_of_numpy)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(pipe_npz_free_ptr) pipe_npz *z = NULL;
    MUST(pipe_npz_read(GOLDEN("two.npz"), 0, &z, &err));
    cr_assert_eq(pipe_npz_count(z), 2);
    cr_expect_str_eq(pipe_npz_name(z, 0), "first");
    expect_shape(pipe_npz_at(z, 0), PIPE_SHAPE(2, 3, 4));
    expect_counting(pipe_npz_find(z, "first"), 24);
    const double second[2] = {0.5, -2};
    expect_values(pipe_npz_find(z, "second"), second, 2);
    cr_expect_null(pipe_npz_find(z, "third"));
    cr_expect_null(pipe_npz_at(z, 2));
    pipe_npz *none = NULL;
    check_failure(pipe_npz_read(GOLDEN("two.npz"), 300, &none, &err), PIPE_EFORMAT, &err,
                  "two.npz[first]|limit", "the limit");
}

Test(io, npz_round_trip)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "a.npz");
    static float x[10000];
    const int32_t y[2] = {3, -4};
    const pipe_array arrays[2] = {PIPE_ARRAY_F32(PIPE_SHAPE(100, 100), x), PIPE_ARRAY_I32(PIPE_SHAPE(2), y)};
    const char *const names[2] = {"images", "labels"};
    char hex[2][65];
    size_t sizes[2];
    for (int deflate = 0; deflate < 2; deflate++) {
        MUST(pipe_npz_write(path, names, arrays, 2, deflate, &err));
        PIPE_CLEANUP(pipe_npz_free_ptr) pipe_npz *z = NULL;
        MUST(pipe_npz_read(path, 0, &z, &err));
        expect_shape(pipe_npz_find(z, "images"), PIPE_SHAPE(100, 100));
        const double labels[2] = {3, -4};
        expect_values(pipe_npz_find(z, "labels"), labels, 2);
        char *bytes;
        MUST(pipei_file_read(path, 1 << 20, &bytes, &sizes[deflate], &err));
        pipe_free(bytes);
        MUST(pipe_sha256_file(path, hex[0], &err));
        MUST(pipe_npz_write(path, names, arrays, 2, deflate, &err));
        MUST(pipe_sha256_file(path, hex[1], &err));
        cr_expect_str_eq(hex[0], hex[1], "equal arrays give equal files");
    }
    cr_expect(sizes[0] > 40000 && sizes[1] < 2000, "%zu stored, %zu deflated", sizes[0], sizes[1]);
    cr_expect_eq(folder_count(folder), 1);
}

Test(io, npz_damage)
{
    pipe_error err = PIPE_ERROR_INIT;
    char *bytes;
    size_t n;
    MUST(pipei_file_read(GOLDEN("two.npz"), 10000, &bytes, &n, &err));
    pipe_npz *z = NULL;
    check_failure(pipei_npz_parse("a.npz", "\x93NUMPY", 6, 0, &z, &err), PIPE_EFORMAT, &err,
                  "not a .npz|93 4e", "npy");
    for (size_t cut = 0; cut < n; cut += 7) {
        PIPE_CLEANUP(pipe_free_ptr) void *part = exact(bytes, cut);
        cr_expect_eq(pipei_npz_parse("a.npz", part, cut, 0, &z, &err), PIPE_EFORMAT, "cut at %zu", cut);
        cr_expect_not_null(strstr(err.message, "a.npz"));
    }
    bytes[60] ^= 0x10;                              /* inside the deflated data of the first member */
    check_failure(pipei_npz_parse("a.npz", bytes, n, 0, &z, &err), PIPE_EFORMAT, &err, "a.npz|damaged",
                  "one bit");
    pipe_free(bytes);
}
