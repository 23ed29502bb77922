/* dataset.idx: what MNIST looks like on disk, and what is wrong with some files. */
#include "data-plugins/data-test.h"
#include <pipe/io.h>

#include <stdio.h>
#include <zlib.h>

/* An IDX file: type, dimensions, bytes. */
static void write_idx(const char *folder, const char *name, bool gz, unsigned char type, const uint32_t *dim,
                      size_t rank, const void *bytes, size_t n)
{
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipe_format("%s/%s", folder, name);
    unsigned char head[64] = {0, 0, type, (unsigned char)rank};

    for (size_t k = 0; k < rank; k++)
        for (size_t b = 0; b < 4; b++)
            head[4 + 4 * k + b] = (unsigned char)(dim[k] >> (24 - 8 * b));
    gzFile f = gzopen(path, gz ? "wb" : "wbT"); /* T: as it is */
    cr_assert(f && gzwrite(f, head, (unsigned)(4 + 4 * rank)) > 0, "%s", path);
    cr_assert(n == 0 || gzwrite(f, bytes, (unsigned)n) == (int)n, "%s", path);
    cr_assert_eq(gzclose(f), Z_OK);
}

static const unsigned char pixels[] = {0, 51, 102, 153, 204, 255, 255, 204, 153, 102, 51, 0}; /* [3, 2, 2] */
static const uint32_t three[] = {3, 2, 2}, images_1d[] = {3};

static void write_mnist(const char *folder, const char *split, bool gz)
{
    static const unsigned char labels[] = {2, 0, 1};
    char name[64];

    snprintf(name, sizeof name, "%s-images-idx3-ubyte%s", split, gz ? ".gz" : "");
    write_idx(folder, name, gz, 8, three, 3, pixels, sizeof pixels);
    snprintf(name, sizeof name, "%s-labels-idx1-ubyte%s", split, gz ? ".gz" : "");
    write_idx(folder, name, gz, 8, images_1d, 1, labels, sizeof labels);
}

static void expect_mnist(pipe_dataset *d)
{
    const pipe_dataset_info info = data_info(d);
    const uint64_t order[] = {2, 0, 2};
    int32_t label[3];
    float x[12];

    cr_assert_eq(info.count, 3);
    cr_assert_eq(info.n_fields, 2);
    cr_expect(pipe_shape_equal(&info.field[0].shape, &PIPE_SHAPE(2, 2, 1)), "grey pictures have a channel");
    cr_expect(info.field[0].low == -1.0 && info.field[0].high == 1.0);
    cr_expect_eq(info.field[1].classes, 3);
    data_read(d, "x", order, 3, 0, x);
    data_read(d, "label", order, 3, 0, label);
    for (size_t i = 0; i < 3; i++) {
        cr_expect_eq(label[i], i == 1 ? 2 : 1);
        for (size_t j = 0; j < 4; j++)
            cr_expect_float_eq(x[4 * i + j], -1.0 + pixels[4 * order[i] + j] / 127.5, 1e-6);
    }
}

Test(dataset, idx_reads_a_folder_plain_and_gzipped_by_split)
{
    char *folder = folder_make();
    const char *const train[] = {"path", folder, NULL};
    const char *const test[] = {"path", folder, "split", "test", NULL};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_object *d = NULL;

    write_mnist(folder, "train", true);
    d = test_object("dataset", "dataset.idx", train, NULL);
    expect_mnist(d);
    pipe_object_unref(d);
    check_failure(test_object_try("dataset", "dataset.idx", test, NULL, &d, &err), PIPE_ENOTFOUND, &err,
                  "t10k-images-idx3-ubyte|.gz|dataset-fashion-mnist", "the other split is missing");
    write_mnist(folder, "t10k", false);
    d = test_object("dataset", "dataset.idx", test, NULL);
    expect_mnist(d);
    pipe_object_unref(d);
    folder_drop(&folder);
}

Test(dataset, idx_reads_named_files_of_every_type)
{
    static const struct {
        const char *why;
        unsigned char type;
        size_t width;
        unsigned char bytes[16];
        float want[2];
    } cases[] = {
        {"u8: into [-1, 1]", 8, 1, {0, 255}, {-1, 1}},
        {"i8: as it is", 9, 1, {0x80, 0x7f}, {-128, 127}},
        {"i16, big-endian", 11, 2, {0xff, 0xfe, 0x01, 0x00}, {-2, 256}},
        {"i32, big-endian", 12, 4, {0xff, 0xff, 0xff, 0xff, 0, 1, 0, 0}, {-1, 65536}},
        {"f32, big-endian", 13, 4, {0x3f, 0x80, 0, 0, 0xbf, 0, 0, 0}, {1, -0.5f}},
        {"f64, big-endian", 14, 8, {0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0xbf, 0xe0, 0, 0, 0, 0, 0, 0}, {1, -0.5f}},
    };
    char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipe_format("%s/some", folder);
    const char *const params[] = {"images", path, NULL};
    const uint32_t dim[] = {2, 1};

    for (size_t k = 0; k < COUNT(cases); k++) {
        float x[2];
        write_idx(folder, "some", false, cases[k].type, dim, 2, cases[k].bytes, 2 * cases[k].width);
        pipe_object *d = test_object("dataset", "dataset.idx", params, NULL);
        const pipe_dataset_info info = data_info(d);
        data_x(d, 0, 2, x);
        cr_expect(x[0] == cases[k].want[0] && x[1] == cases[k].want[1], "%s: %g %g", cases[k].why, x[0],
                  x[1]);
        cr_expect_eq(info.n_fields, 1, "%s: no labels were given", cases[k].why);
        cr_expect((info.field[0].low < info.field[0].high) == (cases[k].type == 8), "%s: range",
                  cases[k].why);
        cr_expect(pipe_shape_equal(&info.field[0].shape, &PIPE_SHAPE(1)), "%s: shape", cases[k].why);
        pipe_object_unref(d);
    }
    folder_drop(&folder);
}

Test(dataset, idx_refuses_what_does_not_fit_together)
{
    static const unsigned char labels[] = {0, 7, 1, 1}, negative[] = {0, 0xff, 1};
    static const unsigned char halves[] = {0, 0, 0, 0, 0x3f, 0, 0, 0, 0, 0, 0, 0}; /* f32 0, 0.5, 0 */
    const uint32_t four[] = {4}, column[] = {3, 1};
    char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *images = pipe_format("%s/images", folder);
    const struct {
        const char *why, *labels, *classes;
        pipe_status status;
        const char *says;
    } cases[] = {
        {"one label too many", "four", "0", PIPE_ESHAPE, "4 labels|3 samples"},
        {"labels in two axes", "column", "0", PIPE_ESHAPE, "3 labels|2 axes"},
        {"a negative label", "negative", "0", PIPE_EFORMAT, "label -1 of sample 1"},
        {"a label that is no class", "labels", "7", PIPE_EFORMAT, "label 7 of sample 1|0 to 6|`classes`"},
        {"a fraction as label", "halves", "0", PIPE_EDOMAIN, "0.5"},
        {"a missing file", "nowhere", "0", PIPE_ENOTFOUND, "nowhere"},
    };

    write_idx(folder, "images", false, 8, three, 3, pixels, sizeof pixels);
    write_idx(folder, "four", false, 8, four, 1, labels, 4);
    write_idx(folder, "column", false, 8, column, 2, labels, 3);
    write_idx(folder, "labels", false, 8, images_1d, 1, labels, 3);
    write_idx(folder, "negative", false, 9, images_1d, 1, negative, 3);
    write_idx(folder, "halves", false, 13, images_1d, 1, halves, 12);
    for (size_t k = 0; k < COUNT(cases); k++) {
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipe_format("%s/%s", folder, cases[k].labels);
        const char *const params[] = {"images", images, "labels", path, "classes", cases[k].classes, NULL};
        pipe_error err = PIPE_ERROR_INIT;
        pipe_object *d = NULL;
        check_failure(test_object_try("dataset", "dataset.idx", params, NULL, &d, &err), cases[k].status,
                      &err, cases[k].says, cases[k].why);
    }
    pipe_error err = PIPE_ERROR_INIT;
    pipe_object *d = NULL;
    check_failure(test_object_try("dataset", "dataset.idx", NULL, NULL, &d, &err), PIPE_EINVAL, &err,
                  "`path`|`images`", "neither path nor images");
    folder_drop(&folder);
}

Test(dataset, idx_takes_the_number_of_classes_that_is_given)
{
    char *folder = folder_make();
    const char *const params[] = {"path", folder, "classes", "10", NULL};

    write_mnist(folder, "train", false);
    pipe_object *d = test_object("dataset", "dataset.idx", params, NULL);
    cr_expect_eq(data_info(d).field[1].classes, 10);
    pipe_object_unref(d);
    folder_drop(&folder);
}
