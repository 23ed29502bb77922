/* Choosing a device, its memory, its compiler. */
#include "runtime/rows.h"


static pipei_device *open_auto(void)
{
    pipei_device *d = NULL;
    OK(pipei_device_open("auto", NULL, &d, &err_));
    return d;
}

Test(device, listed_devices_can_be_opened_by_what_is_listed)
{
    pipei_device_info *list = NULL;
    size_t n = 0;
    OK(pipei_device_list(&list, &n, &err_));
    cr_assert_gt(n, 0);
    for (size_t k = 0; k < n; k++) {
        pipei_device *d = NULL;
        OK(pipei_device_open(list[k].selector, NULL, &d, &err_));
        cr_assert_str_eq(pipei_device_describe(d)->name, list[k].name);
        pipei_device_close(d);
        OK(pipei_device_open(list[k].type, NULL, &d, &err_));
        cr_assert_str_eq(pipei_device_describe(d)->type, list[k].type);
        pipei_device_close(d);
    }
    char part[6];
    snprintf(part, sizeof part, "%.5s", list[0].name);
    pipei_device *d = NULL;
    OK(pipei_device_open(part, NULL, &d, &err_));
    pipei_device_close(d);
    pipe_free(list);
}

Test(device, no_platform)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipei_device *d = NULL;
    pipei_device_info *list = NULL;
    size_t n;
    setenv("OCL_ICD_VENDORS", "/nonexistent", 1);     /* before the loader's first call */
    cr_assert_eq(pipei_device_open("auto", NULL, &d, &err), PIPE_EDEVICE);
    cr_assert(strstr(err.message, "pocl-opencl-icd"), "%s", err.message);
    cr_assert_eq(pipei_device_list(&list, &n, &err), PIPE_EDEVICE);
}

Test(device, selectors_that_name_nothing)
{
    static const char *const cases[] = {"99", "no such device", "0x"};
    pipe_error err = PIPE_ERROR_INIT;
    for (size_t k = 0; k < 3; k++) {
        pipei_device *d = NULL;
        cr_assert_eq(pipei_device_open(cases[k], NULL, &d, &err), PIPE_ENOTFOUND);
        cr_assert(strstr(err.message, cases[k]) && strstr(err.message, "\n  0: "), "%s", err.message);
        cr_assert_eq(d, NULL);
    }
}

Test(device, profiles)
{
    static const struct {
        const char *name;
        bool cpu;
        uint32_t width, registers;
    } cases[] = {{"gpu", false, 4, 0}, {"avx512", true, 16, 32}, {"avx2", true, 8, 16}, {"sse", true, 4, 16}};
    pipe_error err = PIPE_ERROR_INIT;
    pipei_device *d = NULL;
    for (size_t k = 0; k < 4; k++) {
        OK(pipei_device_open("auto", cases[k].name, &d, &err_));
        const pipe_device_profile *p = pipei_device_profile(d);
        cr_assert(p->cpu == cases[k].cpu && p->vector_width == cases[k].width &&
                  p->vector_registers == cases[k].registers && p->compute_units > 0 && p->max_work_group > 0);
        pipei_device_close(d);
    }
    d = NULL;
    cr_assert_eq(pipei_device_open("auto", "avx51", &d, &err), PIPE_EINVAL);
    cr_assert(strstr(err.message, "avx512"), "%s", err.message);
}

Test(device, copies)
{
    pipei_device *d = open_auto();
    enum { N = 100000 };
    static float out[N], in[N];
    cl_mem a, b;
    OK(pipei_buffer_new(d, sizeof in, NULL, &a, &err_));
    OK(pipei_buffer_new(d, sizeof in, NULL, &b, &err_));
    for (int turn = 0; turn < 50; turn++) {     /* the data may be reused at once */
        for (size_t k = 0; k < N; k++)
            in[k] = (float)(k + (size_t)turn);
        OK(pipei_device_write(d, a, 0, in, sizeof in, &err_));
    }
    OK(pipei_device_copy(d, a, 4, b, 0, sizeof in - 4, &err_));
    OK(pipei_device_read(d, b, 0, out, sizeof out - 4, &err_));
    for (size_t k = 0; k + 1 < N; k++)
        cr_assert_eq(out[k], (float)(k + 50));
    pipei_buffer_free(d, a);
    pipei_buffer_free(d, b);
    pipei_device_close(d);
}

Test(device, buffers_are_reused_by_size)
{
    pipei_device *d = open_auto();
    cl_mem a, b, many[300];
    OK(pipei_buffer_new(d, 100000, NULL, &a, &err_));
    const uint64_t used = pipei_device_used_memory(d);
    cr_assert(used >= 100000 && used <= 100000 * 9 / 8 + 256);
    pipei_buffer_free(d, a);
    cr_assert_eq(pipei_device_used_memory(d), 0);
    OK(pipei_buffer_new(d, 99000, NULL, &b, &err_));
    cr_assert_eq(a, b, "nearly the same size");
    cr_assert_eq(pipei_device_peak_memory(d), used);
    pipei_buffer_free(d, b);
    for (size_t k = 0; k < 300; k++)
        OK(pipei_buffer_new(d, 1 + 100 * k, NULL, &many[k], &err_));
    for (size_t k = 0; k < 300; k++)
        pipei_buffer_free(d, many[(k * 7) % 300]);
    cr_assert_eq(pipei_device_used_memory(d), 0);
    pipei_device_close(d);
}

Test(device, out_of_memory_says_who_has_it)
{
    pipei_device *d = open_auto();
    pipe_error err = PIPE_ERROR_INIT;
    cl_mem a, b, c, e = NULL;
    pipei_device_limit_memory(d, 10 << 20);
    OK(pipei_buffer_new(d, 4 << 20, "unet", &a, &err_));
    OK(pipei_buffer_new(d, 3 << 20, "temporaries", &b, &err_));
    OK(pipei_buffer_new(d, 1 << 20, "batch", &c, &err_));
    cr_assert_eq(pipei_buffer_new(d, 5 << 20, "images", &e, &err), PIPE_ENOMEM);
    static const char *const says[] = {"images needs 5.0 MiB", "8.0 MiB of 10.0 MiB",
                                       "largest: unet 4.0 MiB, temporaries 3.0 MiB, batch 1.0 MiB"};
    for (size_t k = 0; k < 3; k++)
        cr_assert(strstr(err.message, says[k]), "%s", err.message);
    pipei_buffer_free(d, a);
    OK(pipei_buffer_new(d, 5 << 20, "images", &e, &err_));   /* idle buffers make room */
    cr_assert_eq(pipei_buffer_new(d, SIZE_MAX - 5, "images", &a, &err), PIPE_ENOMEM);
    pipei_device_close(d);
}

Test(device, memory_limit_of_the_environment)
{
    static const struct {
        const char *text;
        uint64_t bytes;        /* 0: refused */
    } cases[] = {{"1000000", 1000000}, {"500M", 500 << 20}, {"2G", 2ull << 30}, {"7k", 7168}, {"", 1},
                 {"2X", 0}, {"-5", 0}, {"G", 0}, {"0", 0}, {"99999999999999999999", 0}, {"99999999999G", 0}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        pipe_error err = PIPE_ERROR_INIT;
        pipei_device *d = NULL;
        setenv("PIPE_DEVICE_MEMORY_LIMIT", cases[k].text, 1);
        const pipe_status status = pipei_device_open("auto", NULL, &d, &err);
        if (cases[k].bytes == 0) {
            cr_assert_eq(status, PIPE_EINVAL, "%s", cases[k].text);
            cr_assert(strstr(err.message, "PIPE_DEVICE_MEMORY_LIMIT"), "%s", err.message);
            continue;
        }
        cr_assert_eq(status, PIPE_OK, "%s: %s", cases[k].text, err.message);
        if (cases[k].bytes > 1)
            cr_assert_eq(pipei_device_memory_limit(d), cases[k].bytes);
        pipei_device_close(d);
    }
}

Test(device, memory_of_exact_size)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipei_device *d = NULL;
    cl_mem m[2];
    size_t bytes;

    setenv("PIPE_DEVICE_MEMORY", "large", 1);
    cr_assert_eq(pipei_device_open("auto", NULL, &d, &err), PIPE_EINVAL);
    cr_assert(strstr(err.message, "PIPE_DEVICE_MEMORY=large") && strstr(err.message, "exact"), "%s", err.message);
    for (int exact = 0; exact < 2; exact++) {
        setenv("PIPE_DEVICE_MEMORY", exact ? "exact" : "", 1);
        OK(pipei_device_open("auto", NULL, &d, &err_));
        for (size_t k = 0; k < 2; k++) {
            OK(pipei_buffer_new(d, 1001 * k, "test", &m[k], &err_));
            clGetMemObjectInfo(m[k], CL_MEM_SIZE, sizeof bytes, &bytes, NULL);
            cr_expect_eq(bytes, exact ? (k ? 1001 : 1) : k ? 1024 : 256, "%zu bytes", bytes);
            pipei_buffer_free(d, m[k]);
        }
        pipei_device_close(d);
    }
}

/* A mistake for checkers to find: with the usual memory the element behind the end
 * is padding, with PIPE_DEVICE_MEMORY=exact under a checker it must be reported. */
Test(device, planted_overrun)
{
    pipe_engine *e = runtime_engine(NULL);
    float *y = test_read(row_overrun(test_leaf(e, PIPE_SHAPE(1000), 1)));
    pipe_free(y);
    pipei_engine_free(e);
}

Test(device, an_engine_out_of_memory_goes_on)
{
    pipe_engine *e = runtime_engine(NULL);
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *x = test_leaf(e, PIPE_SHAPE(1000), 1), *big = NULL;
    pipei_device_limit_memory(pipei_engine_device(e), 1 << 20);
    cr_assert_eq(pipe_check(test_source(e, PIPE_SHAPE(1 << 20), 1), &err), PIPE_ENOMEM);
    pipe_keep(&big, row_reverse(row_spread(x, PIPE_SHAPE(1000, 1000))));
    cr_assert_eq(pipe_eval(e, &err), PIPE_ENOMEM);
    cr_assert(strstr(err.message, "4.0 MiB") || strstr(err.message, "3.8 MiB"), "%s", err.message);
    cr_assert_eq(pipe_check(big, NULL), PIPE_ENOMEM);
    pipe_free(test_read(row_reverse(x)));
    pipei_engine_free(e);
}

Test(device, programs)
{
    pipei_device *d = open_auto();
    pipe_error err = PIPE_ERROR_INIT;
    cl_program a, b, c;
    OK(pipei_program_get(d, "kernel void one(global int *x) { x[0] = 1; }", &a, &err_));
    OK(pipei_program_get(d, "kernel void two(global int *x) { x[0] = 2; }", &b, &err_));
    OK(pipei_program_get(d, "kernel void one(global int *x) { x[0] = 1; }", &c, &err_));
    cr_assert(a != b && a == c);
    cr_assert_eq(pipei_program_get(d, "kernel void bad() { nonsense }", &a, &err), PIPE_EDEVICE);
    cr_assert(strstr(err.message, "nonsense"), "%s", err.message);
    cr_assert_str_eq(pipei_cl_error(CL_OUT_OF_RESOURCES), "out of resources");
    pipei_device_close(d);
}
