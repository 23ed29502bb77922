/* dataset.tensor-file: .npy, .npz and .safetensors. */
#include "data-plugins/data-test.h"
#include <pipe/io.h>

static const float numbers[] = {0, 1, 2, 3, 4, 5}; /* [3, 2] */
static const int32_t classes[] = {1, 0, 4};

static void write_npz(const char *path, const char *x, const char *label)
{
    pipe_error err = PIPE_ERROR_INIT;
    const char *const names[] = {x, label};
    const pipe_array arrays[] = {PIPE_ARRAY_F32(PIPE_SHAPE(3, 2), numbers),
                                 PIPE_ARRAY_I32(PIPE_SHAPE(3), classes)};

    OK(pipe_npz_write(path, names, arrays, label ? 2 : 1, true, &err));
}

static void write_safetensors(const char *path, const char *x, const pipe_array *a, const char *label,
                              const pipe_array *b)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_safetensors_writer *w = pipe_safetensors_writer_new();

    OK(pipe_safetensors_add(w, x, a, &err));
    if (b)
        OK(pipe_safetensors_add(w, label, b, &err));
    OK(pipe_safetensors_write(w, path, &err));
    pipe_safetensors_writer_free(w);
}

static void expect_numbers(const char *const *params, bool labels, const char *why)
{
    pipe_object *d = test_object("dataset", "dataset.tensor-file", params, NULL);
    const pipe_dataset_info info = data_info(d);
    const uint64_t order[] = {2, 0};
    int32_t label[2];
    float x[4];

    cr_assert_eq(info.count, 3, "%s", why);
    cr_assert_eq(info.n_fields, labels ? 2 : 1, "%s", why);
    data_read(d, "x", order, 2, 0, x);
    cr_expect(x[0] == 4 && x[1] == 5 && x[2] == 0 && x[3] == 1, "%s", why);
    if (labels) {
        cr_expect_eq(info.field[1].classes, 5, "%s", why);
        data_read(d, "label", order, 2, 0, label);
        cr_expect(label[0] == 4 && label[1] == 1, "%s", why);
    }
    pipe_object_unref(d);
}

Test(dataset, tensor_file_reads_three_formats)
{
    pipe_error err = PIPE_ERROR_INIT;
    char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *npy = pipe_format("%s/a.npy", folder);
    PIPE_CLEANUP(pipe_free_ptr) char *npz = pipe_format("%s/a.npz", folder);
    PIPE_CLEANUP(pipe_free_ptr) char *st = pipe_format("%s/a.safetensors", folder);
    const pipe_array x = PIPE_ARRAY_F32(PIPE_SHAPE(3, 2), numbers);
    const pipe_array y = PIPE_ARRAY_I32(PIPE_SHAPE(3), classes);

    OK(pipe_npy_write(npy, &x, &err));
    expect_numbers((const char *const[]){"path", npy, NULL}, false, "npy");
    write_npz(npz, "x", "label");
    expect_numbers((const char *const[]){"path", npz, NULL}, true, "npz");
    write_npz(npz, "x", NULL);
    expect_numbers((const char *const[]){"path", npz, NULL}, false, "npz without labels");
    write_npz(npz, "images", "classes");
    expect_numbers((const char *const[]){"path", npz, "x", "images", "label", "classes", NULL}, true,
                   "npz, other names");
    write_safetensors(st, "x", &x, "label", &y);
    expect_numbers((const char *const[]){"path", st, NULL}, true, "safetensors");
    folder_drop(&folder);
}

Test(dataset, tensor_file_tells_the_range_that_it_is_given)
{
    char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *npz = pipe_format("%s/a.npz", folder);

    write_npz(npz, "x", "label");
    pipe_object *d = test_object("dataset", "dataset.tensor-file",
                                 (const char *const[]){"path", npz, "range", "[0, 5]", "classes", "9", NULL},
                                 NULL);
    const pipe_dataset_info info = data_info(d);
    cr_expect(info.field[0].low == 0.0 && info.field[0].high == 5.0);
    cr_expect_eq(info.field[1].classes, 9);
    pipe_object_unref(d);
    folder_drop(&folder);
}

Test(dataset, tensor_file_says_what_is_wrong)
{
    static const float halves[] = {0, 0.5f, 1};
    static const int32_t negative[] = {0, -3, 1};
    static const unsigned char bytes[64] = {0};
    char *folder = folder_make();
    const pipe_array x = PIPE_ARRAY_F32(PIPE_SHAPE(3, 2), numbers),
                     flat = PIPE_ARRAY_F32(PIPE_SHAPE(3), halves);
    const pipe_array scalar = PIPE_ARRAY_F32(PIPE_SCALAR, halves),
                     two = PIPE_ARRAY_I32(PIPE_SHAPE(2), classes);
    const pipe_array column = PIPE_ARRAY_I32(PIPE_SHAPE(3, 1), classes);
    const pipe_array bad = PIPE_ARRAY_I32(PIPE_SHAPE(3), negative);
    const pipe_array complex = pipe_array_view(PIPE_ELEMENT_C64, PIPE_SHAPE(3, 2), bytes);
    const struct {
        const char *why, *name;
        const pipe_array *x, *label;
        const char *const params[5];
        pipe_status status;
        const char *says;
    } cases[] = {
        {"a name that says nothing", "a.bin", &x, NULL, {0}, PIPE_EFORMAT, "a.bin|.npy, .npz, .safetensors"},
        {"another array",
         "a.safetensors",
         &x,
         NULL,
         {"x", "samples"},
         PIPE_ENOTFOUND,
         "no array `samples`|`x`|there are: x"},
        {"labels that were asked for by name",
         "a.safetensors",
         &x,
         NULL,
         {"label", "y"},
         PIPE_ENOTFOUND,
         "no array `y`|`label`"},
        {"a scalar", "a.safetensors", &scalar, NULL, {0}, PIPE_ESHAPE, "`x`|scalar"},
        {"too few labels", "a.safetensors", &x, &two, {0}, PIPE_ESHAPE, "`label`|2 rows|3 samples"},
        {"labels in two axes", "a.safetensors", &x, &column, {0}, PIPE_ESHAPE, "`label`|2 axes"},
        {"fractions as labels", "a.safetensors", &x, &flat, {0}, PIPE_EDOMAIN, "a.safetensors|`label`|0.5"},
        {"a negative label", "a.safetensors", &x, &bad, {0}, PIPE_EFORMAT, "label -3 of sample 1"},
        {"complex numbers", "a.safetensors", &complex, NULL, {0}, PIPE_EUNSUPPORTED, "a.safetensors|`x`|C64"},
        {"a range that falls",
         "a.safetensors",
         &x,
         NULL,
         {"range", "[1, 0]"},
         PIPE_EINVAL,
         "range|[low, high]"},
    };

    for (size_t k = 0; k < COUNT(cases); k++) {
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipe_format("%s/%s", folder, cases[k].name);
        const char *const params[] = {"path", path, cases[k].params[0], cases[k].params[1], NULL};
        pipe_error err = PIPE_ERROR_INIT;
        pipe_object *d = NULL;
        write_safetensors(path, "x", cases[k].x, "label", cases[k].label);
        check_failure(test_object_try("dataset", "dataset.tensor-file", params, NULL, &d, &err),
                      cases[k].status, &err, cases[k].says, cases[k].why);
    }
    pipe_error err = PIPE_ERROR_INIT;
    pipe_object *d = NULL;
    check_failure(test_object_try("dataset", "dataset.tensor-file",
                                  (const char *const[]){"path", "/nowhere/a.npz", NULL}, NULL, &d, &err),
                  PIPE_ENOTFOUND, &err, "/nowhere/a.npz", "no such file");
    folder_drop(&folder);
}
