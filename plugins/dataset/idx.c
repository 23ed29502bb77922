/* IDX files, the format of MNIST and Fashion-MNIST: a folder with the four files
 * under their usual names, or files named one by one. */
#include <pipe/io.h>
#include <pipe/pipe.h>

#include <string.h>
#include <unistd.h>

enum { TRAIN, TEST };

typedef struct {
    const char *path, *images, *labels;
    int64_t split, classes;
    pipe_array *x, *y;
    pipe_dataset_info info;
} state;

static const char *const splits[] = {"train", "test", NULL};

static const pipe_param params[] = {
    PIPE_PATH(state, path, "", PIPE_PARAM_INPUT_FILE,
              "folder that holds train-images-idx3-ubyte, t10k-labels-idx1-ubyte, ..., gzipped or not"),
    PIPE_CHOICE(state, split, "train", splits, "which pair of files of the folder"),
    PIPE_PATH(state, images, "", PIPE_PARAM_INPUT_FILE, "file of the samples, instead of the folder's"),
    PIPE_PATH(state, labels, "", PIPE_PARAM_INPUT_FILE, "file of the labels, instead of the folder's"),
    PIPE_INT(state, classes, 0, 0, 1000000, NULL, "number of classes; 0: the largest label and one"),
    PIPE_PARAM_END,
};

/* PATH/NAME or PATH/NAME.gz, whichever is there. */
static pipe_status in_folder(const char *folder, const char *name, pipe_array **out, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *plain = pipe_format("%s/%s", folder, name);
    PIPE_CLEANUP(pipe_free_ptr) char *zipped = pipe_format("%s/%s.gz", folder, name);

    if (access(plain, F_OK) == 0)
        return pipe_idx_read(plain, out, err);
    if (access(zipped, F_OK) == 0)
        return pipe_idx_read(zipped, out, err);
    return pipe_fail(err, PIPE_ENOTFOUND,
                     "%s: neither there nor as %s.gz (Fashion-MNIST: Debian's package "
                     "dataset-fashion-mnist puts it in /usr/share/datasets/fashion-mnist)",
                     plain, name);
}

static pipe_status read_files(state *st, pipe_error *err)
{
    const bool test = st->split == TEST;

    if (!*st->path && !*st->images)
        return pipe_fail(err, PIPE_EINVAL, "give `path` (a folder) or `images` (a file)");
    if (*st->images)
        PIPE_TRY(pipe_idx_read(st->images, &st->x, err));
    else
        PIPE_TRY(
            in_folder(st->path, test ? "t10k-images-idx3-ubyte" : "train-images-idx3-ubyte", &st->x, err));
    if (*st->labels)
        return pipe_idx_read(st->labels, &st->y, err);
    if (*st->path)
        return in_folder(st->path, test ? "t10k-labels-idx1-ubyte" : "train-labels-idx1-ubyte", &st->y, err);
    return PIPE_OK;
}

static void describe_samples(state *st)
{
    pipe_field *f = &st->info.field[st->info.n_fields++];
    const pipe_shape *s = &st->x->shape;

    *f = (pipe_field){.name = "x", .dtype = PIPE_F32};
    f->shape.rank = s->rank - 1;
    memcpy(f->shape.dim, s->dim + 1, f->shape.rank * sizeof f->shape.dim[0]);
    if (st->x->element == PIPE_ELEMENT_U8) {
        f->low = -1.0;
        f->high = 1.0;
    }
    if (s->rank == 3) /* grey pictures [n, h, w]: one channel, last */
        f->shape.dim[f->shape.rank++] = 1;
    st->info.count = (uint64_t)s->dim[0];
}

static pipe_status describe_labels(state *st, pipe_error *err)
{
    const size_t n = pipe_array_count(st->y);
    PIPE_CLEANUP(pipe_free_ptr) int32_t *label = pipe_alloc_array(n + 1, sizeof *label);
    pipe_field *f = &st->info.field[st->info.n_fields++];
    int32_t largest = -1;

    if (st->y->shape.rank != 1 || n != st->info.count)
        return pipe_fail(err, PIPE_ESHAPE,
                         "there are %zu labels in %u axes for %llu samples; one number each is needed", n,
                         st->y->shape.rank, (unsigned long long)st->info.count);
    PIPE_TRY(pipe_array_i32(st->y, 0, n, label, err));
    for (size_t i = 0; i < n; i++) {
        if (label[i] < 0 || (st->classes > 0 && label[i] >= st->classes))
            return pipe_fail(err, PIPE_EFORMAT, "label %d of sample %zu is not a class (0 to %lld)%s",
                             label[i], i, (long long)(st->classes > 0 ? st->classes - 1 : INT32_MAX),
                             label[i] < 0 ? "" : "; `classes` says how many there are");
        largest = label[i] > largest ? label[i] : largest;
    }
    *f = (pipe_field){.name = "label", .dtype = PIPE_I32};
    f->classes = st->classes > 0 ? st->classes : (int64_t)largest + 1;
    return PIPE_OK;
}

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;

    (void)ctx;
    PIPE_TRY(read_files(st, err));
    describe_samples(st);
    return st->y ? describe_labels(st, err) : PIPE_OK;
}

static void destroy(void *self)
{
    state *st = self;

    pipe_array_free(st->x);
    pipe_array_free(st->y);
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
    const size_t each = (size_t)pipe_shape_count(&st->info.field[k].shape);

    for (size_t i = 0; i < r->n; i++) {
        const size_t first = (size_t)r->index[i] * each;
        float *x = (float *)out + i * each;
        if (k == 1)
            PIPE_TRY(pipe_array_i32(st->y, first, each, (int32_t *)out + i, err));
        else if (st->x->element == PIPE_ELEMENT_U8)
            pipe_bytes_to_f32((const uint8_t *)st->x->data + first, each, -1.0, 1.0, x);
        else
            PIPE_TRY(pipe_array_f32(st->x, first, each, x, err));
    }
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DATASET),
    .name = "dataset.idx",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "IDX files (MNIST, Fashion-MNIST); bytes become [-1, 1]",
    .example = "data: {plugin: dataset.idx, path: /usr/share/datasets/fashion-mnist, split: train}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .destroy = destroy,
    .dataset = {.describe = describe, .read = read_field},
};
