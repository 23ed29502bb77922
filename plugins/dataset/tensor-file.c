/* Samples from a .npy, .npz or .safetensors file: the first axis counts samples.
 * Not from shards: the cache would know the index's content only. */
#include <pipe/io.h>
#include <pipe/pipe.h>

#include <string.h>

typedef struct {
    const char *path, *x, *label;
    int64_t classes;
    pipe_floats range;
    pipe_array *npy;
    pipe_npz *npz;
    pipe_safetensors *safetensors;
    const pipe_array *array[2];
    pipe_dataset_info info;
} state;

static const pipe_param params[] = {
    PIPE_PATH(state, path, NULL, PIPE_PARAM_INPUT_FILE, "a .npy, .npz or .safetensors file"),
    PIPE_STRING(state, x, "x",
                "name of the array of samples within the file (a .npy has one, without a name)"),
    PIPE_STRING(state, label, "label",
                "name of the array of class numbers; `label` may be absent, another name may not"),
    PIPE_INT(state, classes, 0, 0, 1000000, NULL, "number of classes; 0: the largest label and one"),
    PIPE_FLOATS(state, range, "[]", 1, 0, NULL, "[low, high] that the values span, where that is known"),
    PIPE_PARAM_END,
};

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static size_t count_arrays(const state *st)
{
    return st->npz ? pipe_npz_count(st->npz) : st->safetensors ? pipe_safetensors_count(st->safetensors) : 0;
}

/* Says which arrays there are: the first few of them. */
static pipe_status missing(const state *st, const char *param, const char *name, pipe_error *err)
{
    enum { SHOWN = 8 };
    PIPE_CLEANUP(pipe_text_free) pipe_text have = {0};
    const size_t n = count_arrays(st);

    for (size_t k = 0; k < n && k < SHOWN; k++)
        pipe_text_addf(&have, "%s%s", k ? ", " : "",
                       st->npz ? pipe_npz_name(st->npz, k) : pipe_safetensors_name(st->safetensors, k));
    if (st->npy)
        return pipe_fail(
            err, PIPE_ENOTFOUND,
            "%s: a .npy file holds the samples alone; `%s: %s` needs a .npz or .safetensors file", st->path,
            param, name);
    return pipe_fail(err, PIPE_ENOTFOUND, "%s: has no array `%s`; set `%s` to one of those there are: %s%s",
                     st->path, name, param, n ? have.data : "none", n > SHOWN ? ", ..." : "");
}

static pipe_status open_file(state *st, pipe_error *err)
{
    if (ends_with(st->path, ".npy")) {
        PIPE_TRY(pipe_npy_read(st->path, &st->npy, err));
        st->array[0] = st->npy;
    } else if (ends_with(st->path, ".npz")) {
        PIPE_TRY(pipe_npz_read(st->path, 0, &st->npz, err));
        st->array[0] = pipe_npz_find(st->npz, st->x);
        st->array[1] = pipe_npz_find(st->npz, st->label);
    } else if (ends_with(st->path, ".safetensors")) {
        PIPE_TRY(pipe_safetensors_open(st->path, &st->safetensors, err));
        st->array[0] = pipe_safetensors_find(st->safetensors, st->x);
        st->array[1] = pipe_safetensors_find(st->safetensors, st->label);
    } else {
        return pipe_fail(err, PIPE_EFORMAT, "%s: the name ends in none of .npy, .npz, .safetensors",
                         st->path);
    }
    if (!st->array[0])
        return missing(st, "x", st->x, err);
    if (!st->array[1] && strcmp(st->label, "label") != 0)
        return missing(st, "label", st->label, err);
    return PIPE_OK;
}

static pipe_status add_field(state *st, const pipe_array *a, pipe_field f, pipe_error *err)
{
    if (a->shape.rank < 1)
        return pipe_fail(err, PIPE_ESHAPE, "%s: `%s` is a scalar; the first axis counts samples", st->path,
                         f.name);
    if (st->info.n_fields && (uint64_t)a->shape.dim[0] != st->info.count)
        return pipe_fail(err, PIPE_ESHAPE, "%s: `%s` has %lld rows for %llu samples", st->path, f.name,
                         (long long)a->shape.dim[0], (unsigned long long)st->info.count);
    if (f.dtype == PIPE_F32 && a->shape.dim[0] > 0 && pipe_array_count(a) > 0) {
        float first; /* an element that cannot be converted is found now, not in the middle of training */
        const pipe_status status = pipe_array_f32(a, 0, 1, &first, err);
        if (status != PIPE_OK)
            return pipe_context_fail(err, status, "%s: `%s`", st->path, f.name);
    }
    f.shape.rank = a->shape.rank - 1;
    memcpy(f.shape.dim, a->shape.dim + 1, f.shape.rank * sizeof f.shape.dim[0]);
    st->info.count = (uint64_t)a->shape.dim[0];
    st->info.field[st->info.n_fields++] = f;
    return PIPE_OK;
}

static pipe_status add_labels(state *st, pipe_error *err)
{
    const pipe_array *a = st->array[1];
    const size_t n = pipe_array_count(a);
    PIPE_CLEANUP(pipe_free_ptr) int32_t *label = pipe_alloc_array(n + 1, sizeof *label);
    int64_t classes = st->classes;

    if (a->shape.rank != 1)
        return pipe_fail(err, PIPE_ESHAPE, "%s: `%s` has %u axes; labels are one number per sample", st->path,
                         st->label, a->shape.rank);
    const pipe_status status = pipe_array_i32(a, 0, n, label, err);
    if (status != PIPE_OK)
        return pipe_context_fail(err, status, "%s: `%s`", st->path, st->label);
    for (size_t i = 0; i < n; i++) {
        if (label[i] < 0 || (st->classes > 0 && label[i] >= st->classes))
            return pipe_fail(err, PIPE_EFORMAT, "%s: label %d of sample %zu is not a class (0 to %lld)%s",
                             st->path, label[i], i,
                             (long long)(st->classes > 0 ? st->classes - 1 : INT32_MAX),
                             label[i] < 0 ? "" : "; `classes` says how many there are");
        classes = classes > label[i] ? classes : (int64_t)label[i] + 1;
    }
    return add_field(st, a, (pipe_field){.name = "label", .dtype = PIPE_I32, .classes = classes}, err);
}

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;
    pipe_field x = {.name = "x", .dtype = PIPE_F32};

    (void)ctx;
    if (st->range.n != 0 && (st->range.n != 2 || !(st->range.v[0] < st->range.v[1])))
        return pipe_fail(err, PIPE_EINVAL, "range: two rising numbers are needed, [low, high]");
    if (st->range.n) {
        x.low = st->range.v[0];
        x.high = st->range.v[1];
    }
    PIPE_TRY(open_file(st, err));
    PIPE_TRY(add_field(st, st->array[0], x, err));
    return st->array[1] ? add_labels(st, err) : PIPE_OK;
}

static void destroy(void *self)
{
    state *st = self;

    pipe_array_free(st->npy);
    pipe_npz_free(st->npz);
    pipe_safetensors_close(st->safetensors);
}

static pipe_status describe(void *self, pipe_dataset_info *info, pipe_error *err)
{
    (void)err;
    *info = ((state *)self)->info;
    return PIPE_OK;
}

static pipe_status read_field(void *self, const pipe_dataset_request *r, size_t k, void *out, pipe_error *err)
{
    const state *st = self;
    const pipe_field *f = &st->info.field[k];
    const size_t each = (size_t)pipe_shape_count(&f->shape);

    for (size_t i = 0; i < r->n; i++) {
        const size_t first = (size_t)r->index[i] * each;
        if (f->dtype == PIPE_I32)
            PIPE_TRY(pipe_array_i32(st->array[k], first, each, (int32_t *)out + i * each, err));
        else
            PIPE_TRY(pipe_array_f32(st->array[k], first, each, (float *)out + i * each, err));
    }
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DATASET),
    .name = "dataset.tensor-file",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "samples from .npy, .npz or .safetensors files",
    .example = "data: {plugin: dataset.tensor-file, path: images.npz, x: images, label: labels}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .destroy = destroy,
    .dataset = {.describe = describe, .read = read_field},
};
