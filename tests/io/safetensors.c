/* safetensors: PyTorch's file, golden bytes, round trips, shards, damage. */
#include "io-test.h"

#include <inttypes.h>

Test(io, safetensors_of_pytorch)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(pipe_safetensors_close_ptr) pipe_safetensors *f = NULL;
    MUST(pipe_safetensors_open(GOLDEN("torch.safetensors"), &f, &err));
    static const struct {
        const char *name;
        pipe_element element;
        size_t n;
        double values[4];
    } expected[] = {
        {"a.bias", PIPE_ELEMENT_F32, 3, {1, 2, 3}},
        {"b.weight", PIPE_ELEMENT_BF16, 4, {1.5, -2, 0.25, 3}},
        {"e4m3", PIPE_ELEMENT_F8_E4M3, 2, {1.75, -448}},
        {"e5m2", PIPE_ELEMENT_F8_E5M2, 2, {1.75, -57344}},
        {"half", PIPE_ELEMENT_F16, 3, {1023 * 0x1p-24, 65504, INFINITY}},
        {"long", PIPE_ELEMENT_I64, 1, {0x1p40}},
    };
    cr_assert_eq(pipe_safetensors_count(f), COUNT(expected));
    for (size_t k = 0; k < COUNT(expected); k++) {
        cr_expect_str_eq(pipe_safetensors_name(f, k), expected[k].name);
        const pipe_array *a = pipe_safetensors_find(f, expected[k].name);
        cr_assert_eq(a, pipe_safetensors_at(f, k));
        cr_expect_eq(a->element, expected[k].element);
        expect_values(a, expected[k].values, expected[k].n);
    }
    expect_shape(pipe_safetensors_find(f, "b.weight"), PIPE_SHAPE(2, 2));
    expect_shape(pipe_safetensors_find(f, "long"), PIPE_SCALAR);
    cr_expect_null(pipe_safetensors_find(f, "absent"));
    cr_expect_null(pipe_safetensors_at(f, 6));
    cr_expect_str_eq(pipe_safetensors_metadata(f, "note"), "ä");
    cr_expect_null(pipe_safetensors_metadata(f, "absent"));
    const char *key, *value;
    cr_expect(pipe_safetensors_metadata_at(f, 1, &key, &value) && strcmp(key, "note") == 0);
    cr_expect_not(pipe_safetensors_metadata_at(f, 2, &key, &value));
}

Test(io, safetensors_golden_bytes)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "m.safetensors");
    PIPE_CLEANUP(pipe_safetensors_writer_free_ptr) pipe_safetensors_writer *w = pipe_safetensors_writer_new();
    const uint8_t byte = 7;
    const double wide = 1;
    const int32_t two[2] = {-1, 5};
    const pipe_array a = PIPE_ARRAY_U8(PIPE_SCALAR, &byte),
        b = pipe_array_view(PIPE_ELEMENT_F64, PIPE_SHAPE(1), &wide),
                     c = PIPE_ARRAY_I32(PIPE_SHAPE(1, 2), two), d = PIPE_ARRAY_F32(PIPE_SHAPE(0, 3), NULL);
    MUST(pipe_safetensors_add(w, "a", &a, &err));
    MUST(pipe_safetensors_add(w, "z", &b, &err));
    MUST(pipe_safetensors_add(w, "n\"ö", &c, &err));
    MUST(pipe_safetensors_add(w, "empty", &d, &err));
    MUST(pipe_safetensors_set(w, "step", "3", &err));
    MUST(pipe_safetensors_set(w, "step", "4", &err));
    MUST(pipe_safetensors_write(w, path, &err));
    static const char head[] =
        "{\"__metadata__\":{\"format\":\"pt\",\"step\":\"4\"},"
        "\"z\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]},"
        "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[8,8]},"
        "\"n\\\"ö\":{\"dtype\":\"I32\",\"shape\":[1,2],\"data_offsets\":[8,16]},"
        "\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[16,17]}}";
    const size_t n = sizeof head - 1, padded = (n + 7) / 8 * 8;
    char *bytes;
    size_t size;
    MUST(pipei_file_read(path, 10000, &bytes, &size, &err));
    uint64_t length;
    memcpy(&length, bytes, 8);
    cr_expect_eq(length, padded);
    cr_assert_eq(size, 8 + padded + 17);
    cr_expect_eq(strncmp(bytes + 8, head, n), 0, "%s", bytes + 8);
    for (size_t k = n; k < padded; k++)
        cr_expect_eq(bytes[8 + k], ' ');
    cr_expect_eq(memcmp(bytes + 8 + padded, &wide, 8), 0);
    cr_expect_eq(memcmp(bytes + 16 + padded, two, 8), 0);
    cr_expect_eq(bytes[24 + padded], 7);
    pipe_free(bytes);

    PIPE_CLEANUP(pipe_safetensors_close_ptr) pipe_safetensors *f = NULL;
    MUST(pipe_safetensors_open(path, &f, &err));
    cr_expect_eq(pipe_safetensors_count(f), 4);
    expect_shape(pipe_safetensors_find(f, "empty"), PIPE_SHAPE(0, 3));
    const double values[2] = {-1, 5};
    expect_values(pipe_safetensors_find(f, "n\"ö"), values, 2);
}

Test(io, safetensors_names_that_are_refused)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(pipe_safetensors_writer_free_ptr) pipe_safetensors_writer *w = pipe_safetensors_writer_new();
    const float x = 1;
    const pipe_array a = PIPE_ARRAY_F32(PIPE_SHAPE(1), &x),
        lying = {.size = sizeof lying, .element = PIPE_ELEMENT_F32,
                                                                    .shape = PIPE_SHAPE(2), .data = &x,
                                                                    .bytes = 4};
    MUST(pipe_safetensors_add(w, "a", &a, &err));
    check_failure(pipe_safetensors_add(w, "a", &a, &err), PIPE_EINVAL, &err, "two arrays|\"a\"", "twice");
    check_failure(pipe_safetensors_add(w, "", &a, &err), PIPE_EINVAL, &err, "name", "empty");
    check_failure(pipe_safetensors_add(w, "__metadata__", &a, &err), PIPE_EINVAL, &err, "__metadata__",
                  "reserved");
    check_failure(pipe_safetensors_add(w, "\xFF", &a, &err), PIPE_EINVAL, &err, "name", "not UTF-8");
    check_failure(pipe_safetensors_add(w, "b", &lying, &err), PIPE_EINVAL, &err, "b:|4 bytes", "wrong size");
    check_failure(pipe_safetensors_set(w, "k", "\xFF", &err), PIPE_EINVAL, &err, "UTF-8", "metadata");
    float *owned = pipe_alloc(4);                /* a sanitizer sees whether it is freed */
    const pipe_array taken = PIPE_ARRAY_F32(PIPE_SHAPE(1), owned);
    check_failure(pipe_safetensors_take(w, "a", &taken, &err), PIPE_EINVAL, &err, "two arrays",
                  "taken twice");
}

/* Headers and data that must be refused.  The length is put in front. */
static const struct {
    const char *header, *data, *parts;
    pipe_status status;
    const char *why;
} damaged[] = {
    {"{}", "", "", PIPE_OK, "nothing at all"},
    {"  {}  ", "", "", PIPE_OK, "white space around"},
    {"{\"__metadata__\":{}}", "", "", PIPE_OK, "empty metadata"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", "xy", "", PIPE_OK, "one array"},
    {"{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]}}", "x", "", PIPE_OK, "half bytes"},
    {"", "", "header", PIPE_EFORMAT, "no JSON"},
    {"[]", "", "not a JSON object", PIPE_EFORMAT, "a list"},
    {"{\"a\":", "", "header, byte", PIPE_EFORMAT, "cut JSON"},
    {"{} x", "", "header, byte", PIPE_EFORMAT, "text behind"},
    {"{\"a\":1}", "", "\"a\"|not an object", PIPE_EFORMAT, "an entry that is a number"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[],"
     "\"data_offsets\":[1,2]}}", "xy", "duplicate", PIPE_EFORMAT, "a key twice"},
    {"{\"__metadata__\":{\"k\":1}}", "", "__metadata__|\"k\"|string", PIPE_EFORMAT, "metadata with a number"},
    {"{\"__metadata__\":[]}", "", "__metadata__|object", PIPE_EFORMAT, "metadata as a list"},
    {"{\"a\":{\"dtype\":\"Q8\",\"shape\":[],\"data_offsets\":[0,1]}}", "x", "\"a\"|Q8|unknown", PIPE_EFORMAT,
        "dtype"},
    {"{\"a\":{\"dtype\":8,\"shape\":[],\"data_offsets\":[0,1]}}", "x", "dtype|not a string", PIPE_EFORMAT,
        "dtype"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", "x", "shape[0]", PIPE_EFORMAT,
        "negative"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", "x", "shape[0]", PIPE_EFORMAT,
        "not whole"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":1,\"data_offsets\":[0,1]}}", "x", "shape|list", PIPE_EFORMAT,
        "no list"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", "x", "9 dimensions",
     PIPE_EUNSUPPORTED, "nine axes"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0]}}", "x", "data_offsets", PIPE_EFORMAT,
        "one offset"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[]}}", "", "data_offsets|members", PIPE_EFORMAT, "no offsets"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1],\"x\":1}}", "x", "other members",
        PIPE_EFORMAT,
     "a member too many"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[1,0]}}", "x", "begin <= end", PIPE_EFORMAT,
        "backwards"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[-1,0]}}", "x", "data_offsets", PIPE_EFORMAT,
        "negative"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", "xy", "truncated|\"a\"|3|2",
        PIPE_EFORMAT,
     "behind the end"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,3]}}", "xyz", "needs 4 bytes|hold 3",
        PIPE_EFORMAT,
     "bytes and shape"},
    {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", "xy", "whole bytes", PIPE_EFORMAT,
     "half a byte over"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", "", "overflows",
     PIPE_EFORMAT, "product is 0 modulo 2^64"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4,0],\"data_offsets\":[0,0]}}", "",
        "overflows",
     PIPE_EFORMAT, "overflows although empty"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", "xy", "hole", PIPE_EFORMAT,
        "a hole first"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "xy", "2 bytes|take 1", PIPE_EFORMAT,
     "a hole last"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],"
     "\"data_offsets\":[1,3]}}", "xyz", "\"b\"|overlap", PIPE_EFORMAT, "overlap"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1e400],\"data_offsets\":[0,1]}}", "x", "header, byte", PIPE_EFORMAT,
     "a number beyond double"},
    {"{\"\xFF\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", "x", "header", PIPE_EFORMAT,
        "not UTF-8"},
};

Test(io, safetensors_damage)
{
    for (size_t k = 0; k < COUNT(damaged); k++) {
        pipe_error err = PIPE_ERROR_INIT;
        PIPE_CLEANUP(pipe_safetensors_close_ptr) pipe_safetensors *f = NULL;
        PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
        const uint64_t length = strlen(damaged[k].header);
        pipe_text_add_bytes(&t, &length, 8);
        pipe_text_add(&t, damaged[k].header);
        pipe_text_add(&t, damaged[k].data);
        PIPE_CLEANUP(pipe_free_ptr) void *bytes = exact(t.data, t.length);
        check_failure(pipei_safetensors_parse("m.safetensors", bytes, t.length, &f, &err), damaged[k].status,
                      &err, damaged[k].status == PIPE_OK ? "" : damaged[k].parts, damaged[k].why);
        if (damaged[k].status != PIPE_OK)
            check_failure(damaged[k].status, damaged[k].status, &err, "m.safetensors", damaged[k].why);
    }
}

Test(io, safetensors_lengths_that_lie)
{
    static const struct {
        uint64_t length;
        size_t size;
        const char *parts;
    } cases[] = {
        {0, 3, "truncated|at least 8 bytes|3"},
        {UINT64_MAX, 100, "18446744073709551615|maximum 100000000"},
        {100000001, 100, "100000001|maximum"},
        {93, 100, "truncated|needs 93 bytes|92 are left"},
    };
    for (size_t k = 0; k < COUNT(cases); k++) {
        unsigned char bytes[100] = {0};
        pipe_error err = PIPE_ERROR_INIT;
        pipe_safetensors *f = NULL;
        memcpy(bytes, &cases[k].length, 8);
        check_failure(pipei_safetensors_parse("m", bytes, cases[k].size, &f, &err), PIPE_EFORMAT, &err,
                      cases[k].parts, "length");
        cr_expect_null(f, "outputs are written on success only");
    }
}

Test(io, safetensors_shards)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "m.safetensors");
    PIPE_CLEANUP(pipe_free_ptr) char *index = pipei_path_join(folder, "m.safetensors.index.json");
    PIPE_CLEANUP(pipe_free_ptr) char *second = pipei_path_join(folder, "m-00002-of-00003.safetensors");
    const float x[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    {
        PIPE_CLEANUP(pipe_safetensors_writer_free_ptr) pipe_safetensors_writer *w =
            pipe_safetensors_writer_new();
        const pipe_array two = PIPE_ARRAY_F32(PIPE_SHAPE(2), x), ten = PIPE_ARRAY_F32(PIPE_SHAPE(10), x);
        check_failure(pipe_safetensors_write_shards(w, path, 16, &err), PIPE_EINVAL, &err, "at least one",
                      "empty");
        MUST(pipe_safetensors_add(w, "a", &two, &err));
        MUST(pipe_safetensors_add(w, "b", &two, &err));
        MUST(pipe_safetensors_add(w, "large", &ten, &err));
        MUST(pipe_safetensors_add(w, "z", &two, &err));
        MUST(pipe_safetensors_write_shards(w, path, 16, &err));
    }
    cr_expect_eq(folder_count(folder), 4, "a and b; large; z; the index");
    PIPE_CLEANUP(pipe_safetensors_close_ptr) pipe_safetensors *f = NULL;
    MUST(pipe_safetensors_open(index, &f, &err));
    cr_expect_eq(pipe_safetensors_count(f), 4);
    expect_counting(pipe_safetensors_find(f, "large"), 10);
    expect_counting(pipe_safetensors_find(f, "z"), 2);
    cr_expect_str_eq(pipe_safetensors_metadata(f, "format"), "pt");

    static const struct {
        const char *json, *parts;
    } wrong[] = {
        {"{", "m.safetensors.index.json:1:"},
        {"{\"weight_map\": 1}", "weight_map"},
        {"{\"weight_map\": {\"a\": \"../x.safetensors\"}}", "same folder|../x"},
        {"{\"weight_map\": {\"a\": \"/x.safetensors\"}}", "same folder"},
        {"{\"weight_map\": {\"a\": 3}}", "same folder"},
        {"{\"weight_map\": {\"a\": \"m-00001-of-00003.safetensors\"}}", "\"b\"|nothing of it"},
        {"{\"weight_map\": {\"a\": \"m-00001-of-00003.safetensors\", \"b\": \"m-00001-of-00003.safetensors\","
         "\"c\": \"m-00001-of-00003.safetensors\"}}", "\"c\"|not in"},
    };
    for (size_t k = 0; k < COUNT(wrong); k++) {
        pipe_safetensors *g = NULL;
        MUST(pipei_file_write(index, wrong[k].json, strlen(wrong[k].json), &err));
        check_failure(pipe_safetensors_open(index, &g, &err), PIPE_EFORMAT, &err, wrong[k].parts,
                      wrong[k].json);
    }
    static const char missing[] = "{\"weight_map\": {\"z\": \"absent.safetensors\"}}";
    pipe_safetensors *g = NULL;
    MUST(pipei_file_write(index, missing, strlen(missing), &err));
    check_failure(pipe_safetensors_open(index, &g, &err), PIPE_ENOTFOUND, &err, "absent.safetensors",
                  "a shard is gone");
}
