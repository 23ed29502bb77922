/* Every writer where the disk is full: a clear error, the old file as it was,
 * no temporary.  RLIMIT_FSIZE refuses in the same place as a full disk. */
#include "io-test.h"

#include <pipe/plot.h>
#include <signal.h>
#include <sys/resource.h>

enum { N = 40000, LIMIT = 2000 };
static float numbers[N];
static uint8_t pixels[N];
static double values[N];

static pipe_status write_safetensors(const char *path, pipe_error *err)
{
    PIPE_CLEANUP(pipe_safetensors_writer_free_ptr) pipe_safetensors_writer *w = pipe_safetensors_writer_new();
    const pipe_array a = PIPE_ARRAY_F32(PIPE_SHAPE(N), numbers);
    PIPE_TRY(pipe_safetensors_add(w, "a", &a, err));
    return pipe_safetensors_write(w, path, err);
}

static pipe_status write_npy(const char *path, pipe_error *err)
{
    const pipe_array a = PIPE_ARRAY_F32(PIPE_SHAPE(N), numbers);
    return pipe_npy_write(path, &a, err);
}

static pipe_status write_npz(const char *path, pipe_error *err)
{
    const pipe_array a = PIPE_ARRAY_F32(PIPE_SHAPE(N), numbers);
    const char *const name = "a";
    return pipe_npz_write(path, &name, &a, 1, false, err);
}

static pipe_status write_csv(const char *path, pipe_error *err)
{
    return pipe_csv_write(path, NULL, values, N, 1, err);
}

static pipe_status write_png(const char *path, pipe_error *err)
{
    const pipe_array a = PIPE_ARRAY_U8(PIPE_SHAPE(200, 200), pixels);
    return pipe_png_write(path, &a, NULL, err);
}

static pipe_status write_wav(const char *path, pipe_error *err)
{
    const pipe_array a = PIPE_ARRAY_F32(PIPE_SHAPE(N), numbers);
    return pipe_wav_write(path, &a, 8000, err);
}

static pipe_status write_plot(const char *path, pipe_error *err)
{
    const pipe_series s = {.y = values, .count = 100};
    pipe_plot plot = PIPE_PLOT_INIT;
    plot.series = &s;
    plot.series_count = 1;
    return pipe_plot_write(&plot, path, err);
}

static const struct {
    const char *file;
    pipe_status (*write)(const char *path, pipe_error *err);
} writers[] = {
    {"a.safetensors", write_safetensors}, {"a.npy", write_npy}, {"a.npz", write_npz}, {"a.csv", write_csv},
    {"a.png", write_png}, {"a.wav", write_wav}, {"a.svg", write_plot},
};

Test(io, a_full_disk_leaves_the_old_file_and_nothing_else)
{
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    for (size_t k = 0; k < N; k++) {
        pixels[k] = (uint8_t)pipe_hash64(&k, sizeof k, 0);      /* does not compress */
        values[k] = pixels[k] / 7.0;
    }
    signal(SIGXFSZ, SIG_IGN);
    for (size_t k = 0; k < COUNT(writers); k++) {
        pipe_error err = PIPE_ERROR_INIT;
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, writers[k].file);
        MUST(pipei_file_write(path, "old", 3, &err));
        const struct rlimit little = {LIMIT, RLIM_INFINITY}, all = {RLIM_INFINITY, RLIM_INFINITY};
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &little), 0);
        const pipe_status status = writers[k].write(path, &err);
        setrlimit(RLIMIT_FSIZE, &all);
        check_failure(status, PIPE_EIO, &err, path, writers[k].file);
        char *bytes;
        size_t n;
        MUST(pipei_file_read(path, 100, &bytes, &n, &err));
        cr_expect_str_eq(bytes, "old", "%s was changed", writers[k].file);
        pipe_free(bytes);
        cr_expect_eq(folder_count(folder), k + 1, "%s left a temporary", writers[k].file);
        MUST(writers[k].write(path, &err));              /* with room again it works */
    }
}
