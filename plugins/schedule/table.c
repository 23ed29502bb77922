/* A schedule from a file: the betas, alphas_cumprod or sigmas of a released model,
 * one number per training step. */
#include <pipe/io.h>
#include <pipe/pipe.h>

#include <math.h>
#include <string.h>

enum { BETAS, ALPHAS_CUMPROD, SIGMAS };

typedef struct {
    pipe_vp_state vp; /* first */
    const char *path, *name;
    int64_t values;
} state;

static const char *const contents[] = {"betas", "alphas_cumprod", "sigmas", NULL};

static const pipe_param params[] = {
    PIPE_PATH(state, path, NULL, PIPE_PARAM_INPUT_FILE,
              "the file: .npy, .safetensors or .csv, from the cleanest training step to the noisiest"),
    PIPE_CHOICE(state, values, "betas", contents,
                "what it holds: betas, alphas_cumprod (alpha^2; may end at 0) or sigmas (sigma / alpha)"),
    PIPE_STRING(state, name, "",
                "of the array in a .safetensors or the column in a .csv; empty: the only one there"),
    PIPE_VP_STATE_ZERO_TERMINAL_SNR, PIPE_PARAM_END};

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static pipe_status from_array(const state *st, const pipe_array *a, double **v, int64_t *n, pipe_error *err)
{
    const size_t count = pipe_array_count(a);

    if (a->shape.rank != 1 || count < 1) {
        char shape[PIPE_SHAPE_TEXT];
        return pipe_fail(err, PIPE_ESHAPE, "%s: an array of shape %s; one number per training step is needed",
                         st->path, pipe_shape_text(&a->shape, shape, sizeof shape));
    }
    *v = pipe_alloc_array(count, sizeof **v);
    *n = (int64_t)count;
    return pipe_array_f64(a, 0, count, *v, err);
}

static pipe_status from_npy(const state *st, double **v, int64_t *n, pipe_error *err)
{
    PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;

    PIPE_TRY(pipe_npy_read(st->path, &a, err));
    return from_array(st, a, v, n, err);
}

static pipe_status from_safetensors(const state *st, double **v, int64_t *n, pipe_error *err)
{
    PIPE_CLEANUP(pipe_safetensors_close_ptr) pipe_safetensors *f = NULL;
    const pipe_array *a;

    PIPE_TRY(pipe_safetensors_open(st->path, &f, err));
    if (!*st->name && pipe_safetensors_count(f) != 1)
        return pipe_fail(err, PIPE_EINVAL, "%s holds %zu arrays: say which one in `name`", st->path,
                         pipe_safetensors_count(f));
    a = *st->name ? pipe_safetensors_find(f, st->name) : pipe_safetensors_at(f, 0);
    if (!a)
        return pipe_fail(err, PIPE_ENOTFOUND, "%s holds no array `%s`", st->path, st->name);
    return from_array(st, a, v, n, err);
}

static pipe_status from_csv(const state *st, double **v, int64_t *n, pipe_error *err)
{
    PIPE_CLEANUP(pipe_table_free_ptr) pipe_table *t = NULL;
    size_t column = 0;

    PIPE_TRY(pipe_csv_read(st->path, 0, &t, err));
    if (!*st->name && pipe_table_columns(t) != 1)
        return pipe_fail(err, PIPE_EINVAL, "%s has %zu columns: say which one in `name`", st->path,
                         pipe_table_columns(t));
    if (*st->name)
        column = pipe_table_find(t, st->name);
    if (column >= pipe_table_columns(t))
        return pipe_fail(err, PIPE_ENOTFOUND, "%s has no column `%s`", st->path, st->name);
    *n = (int64_t)pipe_table_rows(t);
    *v = pipe_alloc_array((size_t)*n + 1, sizeof **v);
    return pipe_table_numbers(t, column, *v, err);
}

static pipe_status read_values(const state *st, double **v, int64_t *n, pipe_error *err)
{
    if (ends_with(st->path, ".npy"))
        return from_npy(st, v, n, err);
    if (ends_with(st->path, ".safetensors"))
        return from_safetensors(st, v, n, err);
    if (ends_with(st->path, ".csv"))
        return from_csv(st, v, n, err);
    return pipe_fail(err, PIPE_EINVAL, "%s: the name must end in .npy, .safetensors or .csv", st->path);
}

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;
    PIPE_CLEANUP(pipe_free_ptr) double *v = NULL;
    int64_t n = 0;
    pipe_status status;

    (void)ctx;
    PIPE_TRY(read_values(st, &v, &n, err));
    for (int64_t i = 0; st->values == ALPHAS_CUMPROD && i < n; i++) {
        if (!(v[i] >= 0.0 && v[i] < 1.0))
            return pipe_fail(err, PIPE_EDOMAIN,
                             "%s: alphas_cumprod of step %lld is %g; it must lie in [0, 1)", st->path,
                             (long long)i, v[i]);
        v[i] = sqrt((1.0 - v[i]) / v[i]);
    }
    status = st->values == BETAS ? pipe_vp_table_from_betas(&st->vp.table, v, n, err)
                                 : pipe_vp_table_from_ratios(&st->vp.table, v, n, err);
    if (status == PIPE_OK && st->vp.zero_terminal_snr)
        status = pipe_vp_table_zero_snr(&st->vp.table, err);
    return status == PIPE_OK ? PIPE_OK : pipe_context_fail(err, status, "%s", st->path);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SCHEDULE),
    .name = "schedule.table",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "variance preserving, from a file of betas, alphas_cumprod or sigmas",
    .example = "noise: {plugin: schedule.table, path: scheduler.npy, values: alphas_cumprod}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .destroy = pipe_vp_state_destroy,
    .schedule = PIPE_VP_STATE_SCHEDULE,
};
