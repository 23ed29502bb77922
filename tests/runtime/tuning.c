/* Parameters of CLBlast's kernels: the file, and that a device uses it. */
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/device/blas.h"
#include "runtime/rows.h"
#include "support/folder.h"

#include <unistd.h>

static char *folder;

static void setup(void)
{
    folder = folder_make();
    setenv("PIPE_CACHE_DIR", folder, 1);
}

static void teardown(void) { folder_drop(&folder); }

TestSuite(tuning, .init = setup, .fini = teardown);

static const pipei_tuned_device device = {
    .name = "A device", .vendor = "A vendor", .driver = "1.2", .local_memory = 32768, .max_work_group = 256};

/* Tiles as small as there are: they compile in seconds. */
static const pipei_tuning small_tiles = {
    .set = {true, true, true},
    .values = {{{0, 1, 16, 2, 8, 8, 16, 8, 8, 16, 0, 0, 0, 0, 1, 1}}, {{2, 8, 8, 8, 8, 1, 1, 1, 1, 8}}, {{64}}}};

/* ---- conditions ---- */
enum { KWG_ = 2, MDIMC_ = 5, MWG_ = 6, NDIMC_ = 8, NWG_ = 9, SA_ = 10, SB_ = 11, VWM_ = 14 };
enum { KWID_ = 0, MDIMCD_ = 2, NDIMCD_ = 4, PADA_ = 5, VWMD_ = 7, WGD_ = 9 };

static const struct {
    const char *why;
    size_t kernel, param[3];
    uint32_t value[3];
    const char *flaw;      /* NULL: none */
} changes[] = {
    {"as it is", PIPEI_TUNING_LARGE, {KWG_}, {16}, NULL},
    {"larger tiles", PIPEI_TUNING_LARGE, {MWG_, NWG_}, {64, 64}, NULL},
    {"none of the values", PIPEI_TUNING_LARGE, {MWG_}, {48}, "none of those"},
    {"a tile smaller than its threads' vectors", PIPEI_TUNING_LARGE, {VWM_}, {8}, "MWG is no multiple"},
    {"more threads than the depth feeds", PIPEI_TUNING_LARGE, {MDIMC_, MWG_, NDIMC_}, {32, 32, 16},
     "NWG is no multiple|KWG is no multiple"},
    {"no multiple of what a round copies", PIPEI_TUNING_LARGE, {MDIMC_, MWG_}, {32, 32}, "KWG is no multiple"},
    {"all that fits the local memory", PIPEI_TUNING_LARGE, {MWG_, SA_, SB_}, {128, 1, 1}, NULL},
    {"as it is", PIPEI_TUNING_SMALL, {WGD_}, {8}, NULL},
    {"steps that do not divide the tile", PIPEI_TUNING_SMALL, {KWID_}, {16}, "KWID"},
    {"a tile smaller than its threads", PIPEI_TUNING_SMALL, {MDIMCD_}, {16}, "MDIMCD"},
    {"vectors across the tile", PIPEI_TUNING_SMALL, {VWMD_}, {2}, "VWMD"},
    {"more local memory than there is", PIPEI_TUNING_SMALL, {WGD_}, {64}, "local memory"},
    {"a border there is", PIPEI_TUNING_BORDER, {0}, {512}, NULL},
    {"a border there is not", PIPEI_TUNING_BORDER, {0}, {65}, "none of those"},
};

static bool has_one(const char *text, const char *wanted)
{
    PIPE_CLEANUP(pipe_free_ptr) char *list = pipe_strdup(wanted);
    char *rest = list, *one;

    while ((one = strsep(&rest, "|")))
        if (strstr(text, one))
            return true;
    return false;
}

Test(tuning, conditions)
{
    for (size_t k = 0; k < sizeof changes / sizeof changes[0]; k++) {
        pipei_tuning_values v = small_tiles.values[changes[k].kernel];
        for (size_t i = 0; i < 3 && changes[k].value[i]; i++)
            v.of[changes[k].param[i]] = changes[k].value[i];
        const char *flaw = pipei_tuning_flaw(changes[k].kernel, &v, &device);
        cr_expect(changes[k].flaw ? flaw && has_one(flaw, changes[k].flaw) : !flaw, "%s: %s", changes[k].why,
                  flaw ? flaw : "no flaw");
    }
    pipei_tuned_device small = device;
    small.max_work_group = 32;
    cr_expect(strstr(pipei_tuning_flaw(PIPEI_TUNING_LARGE, &small_tiles.values[0], &small), "work-groups"));
    cr_expect(strstr(pipei_tuning_flaw(PIPEI_TUNING_SMALL, &small_tiles.values[1], &small), "work-groups"));
}

/* ---- the file ---- */
Test(tuning, is_read_as_it_was_written)
{
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_tuning_path(&device);
    pipei_tuning t, part = small_tiles;
    pipe_error err = PIPE_ERROR_INIT;

    cr_expect_eq(pipei_tuning_read(path, &device, &t, &err), PIPE_ENOTFOUND);
    OK(pipei_tuning_write(path, &device, &small_tiles, &err_));
    OK(pipei_tuning_read(path, &device, &t, &err_));
    for (size_t k = 0; k < PIPEI_TUNING_KERNELS; k++) {
        cr_expect(t.set[k]);
        cr_expect_eq(memcmp(&t.values[k], &small_tiles.values[k], sizeof t.values[k]), 0, "kernel %zu", k);
    }
    part.set[PIPEI_TUNING_LARGE] = false;
    OK(pipei_tuning_write(path, &device, &part, &err_));
    OK(pipei_tuning_read(path, &device, &t, &err_));
    cr_expect(!t.set[PIPEI_TUNING_LARGE] && t.set[PIPEI_TUNING_SMALL] && t.set[PIPEI_TUNING_BORDER]);

    pipei_tuned_device other = device;
    other.name[0] = 'B';
    PIPE_CLEANUP(pipe_free_ptr) char *elsewhere = pipei_tuning_path(&other);
    cr_expect_str_neq(path, elsewhere);
}

#define HEAD "{\"format\": 1, \"device\": \"A device\", \"vendor\": \"A vendor\", \"driver\": \"1.2\", "
#define BORDER "\"GemmRoutine\": {\"XGEMM_MIN_INDIRECT_SIZE\": "

static const struct {
    const char *why, *text, *message;
} files[] = {
    {"empty", "", "'[' or '{' expected"},
    {"cut off", HEAD, "expected"},
    {"a list", "[1]", "\"format\""},
    {"bytes behind the end", HEAD "\"kernels\": {}} x", "end of file expected"},
    {"twice the same", HEAD "\"format\": 1, \"kernels\": {}}", "duplicate"},
    {"a later format", "{\"format\": 2}", "\"format\" is not 1"},
    {"no device", "{\"format\": 1}", "\"device\" is missing"},
    {"another driver",
     "{\"format\": 1, \"device\": \"A device\", \"vendor\": \"A vendor\", \"driver\": \"1.1\", \"kernels\": {}}",
     "measured with driver \"1.1\", and this is \"1.2\""},
    {"no kernels", HEAD "\"x\": 1}", "must hold"},
    {"kernels of another type", HEAD "\"kernels\": 1}", "must hold"},
    {"something else beside them", HEAD "\"kernels\": {}, \"x\": 1}", "must hold"},
    {"an unknown kernel", HEAD "\"kernels\": {\"Xger\": {}}}", "one that is not known"},
    {"a value of another type", HEAD "\"kernels\": {" BORDER "64.0}}}", "XGEMM_MIN_INDIRECT_SIZE is missing or"},
    {"a value that wraps to an allowed one", HEAD "\"kernels\": {" BORDER "4294967360}}}", "is missing or none"},
    {"a negative value", HEAD "\"kernels\": {" BORDER "-64}}}", "is missing or none"},
    {"a parameter too many", HEAD "\"kernels\": {" BORDER "64, \"X\": 1}}}", "has 2 parameters, not 1"},
    {"parameters of another name", HEAD "\"kernels\": {\"GemmRoutine\": {\"X\": 64}}}", "is missing or none"},
    {"values that make no kernel",
     HEAD "\"kernels\": {\"XgemmDirect\": {\"KWID\": 16, \"MDIMAD\": 8, \"MDIMCD\": 8, \"NDIMBD\": 8, \"NDIMCD\": 8, "
          "\"PADA\": 1, \"PADB\": 1, \"VWMD\": 1, \"VWND\": 1, \"WGD\": 8}}}",
     "XgemmDirect: WGD is no multiple of KWID"},
};

Test(tuning, refuses_what_it_does_not_understand)
{
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_tuning_path(&device);

    for (size_t k = 0; k < sizeof files / sizeof files[0]; k++) {
        pipe_error err = PIPE_ERROR_INIT;
        pipei_tuning t = {.set = {false}};
        OK(pipei_file_write(path, files[k].text, strlen(files[k].text), &err_));
        cr_expect_eq(pipei_tuning_read(path, &device, &t, &err), PIPE_EFORMAT, "%s", files[k].why);
        cr_expect(strstr(err.message, files[k].message) && strstr(err.message, path), "%s: %s", files[k].why,
                  err.message);
        cr_expect(!t.set[0] && !t.set[1] && !t.set[2], "%s: something was taken", files[k].why);
    }
}

/* ---- its use ---- */
/* A product of an odd size; returns the bytes that CLBlast took for padded copies, which
 * only the kernel for large products makes. */
static uint64_t multiply(pipei_device *d)
{
    enum { M_ = 19, N_ = 13, K_ = 7 };
    float x[3][M_ * N_];
    cl_mem mem[3];

    for (int i = 0; i < 3; i++) {
        for (size_t k = 0; k < M_ * N_; k++)
            x[i][k] = i == 2 ? NAN : (float)((k * 37 + (size_t)i) % 19) - 9.0f;
        OK(pipei_buffer_new(d, sizeof x[i], "test", &mem[i], &err_));
        OK(pipei_device_write(d, mem[i], 0, x[i], sizeof x[i], &err_));
    }
    const uint64_t before = pipei_device_used_memory(d);
    const pipei_blas_operand a = {.mem = mem[0]}, b = {.mem = mem[1]}, c = {.mem = mem[2]};
    OK(pipei_blas_gemm(d, M_, N_, K_, 1, &a, &b, &c, &err_));
    OK(pipei_device_read(d, mem[2], 0, x[2], sizeof x[2], &err_));
    for (size_t at = 0; at < M_ * N_; at++) {
        float want = 0;
        for (size_t k = 0; k < K_; k++)
            want += x[0][at / N_ * K_ + k] * x[1][k * N_ + at % N_];
        cr_assert_eq(x[2][at], want, "element %zu is %g instead of %g", at, (double)x[2][at], (double)want);
    }
    const uint64_t taken = pipei_device_used_memory(d) - before;
    for (int i = 0; i < 3; i++)
        pipei_buffer_free(d, mem[i]);
    return taken;
}

static uint64_t multiply_with(uint32_t border, const char *driver)
{
    pipei_tuning t = small_tiles;
    pipei_tuned_device now;
    pipei_device *d = NULL;

    OK(pipei_device_open("auto", "gpu", &d, &err_));
    pipei_tuned_device_of(d, &now);
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_tuning_path(&now);
    if (driver)
        snprintf(now.driver, sizeof now.driver, "%s", driver);
    t.values[PIPEI_TUNING_BORDER].of[0] = border;
    OK(pipei_tuning_write(path, &now, &t, &err_));
    const uint64_t taken = multiply(d);
    pipei_device_close(d);
    return taken;
}

Test(tuning, is_used_by_products)
{
    cr_expect_gt(multiply_with(0, NULL), 0, "the kernel for large products pads its operands");
}

/* A border of 0 would make copies; CLBlast's own is above 19 x 13 x 7. */
Test(tuning, of_another_driver_is_left_alone_with_a_warning)
{
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "log"), *text = NULL;
    FILE *log = fopen(path, "w");
    size_t n = 0;

    cr_assert(log);
    pipei_log_attach(log);
    cr_expect_eq(multiply_with(0, "another"), 0);
    pipei_log_attach(NULL);
    fclose(log);
    OK(pipei_file_read(path, 100000, &text, &n, &err_));
    const char *warning = strstr(text, "measured with driver \"another\"");
    cr_assert(warning && strstr(warning, "CLBlast's own parameters are used"), "%s", text);
    cr_expect(!strstr(warning + 1, "measured with driver"), "twice: %s", text);
}
