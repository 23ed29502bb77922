/* Data sets: checked dispatch, data sets in memory, training batches. */
#include "core/run/object.h"

#include <inttypes.h>
#include <string.h>

/* The bytes of one sample fit a size_t, and the batch axis has room beside its own. */
static bool sample_fits(const pipe_shape *s)
{
    size_t bytes = 4;

    if (s->rank >= PIPE_MAX_RANK)
        return false;
    for (uint32_t k = 0; k < s->rank; k++)
        if (s->dim[k] < 0 || s->dim[k] > INT64_MAX / 8 || !pipe_mul_size(bytes, (size_t)s->dim[k], &bytes))
            return false;
    return true;
}

/* Everything that reads a data set computes with these numbers: believed once they were checked here. */
static pipe_status check_fields(const char *who, const pipe_dataset_info *info, pipe_status blame,
                                pipe_error *err)
{
    if (info->n_fields > PIPE_MAX_FIELDS)
        return pipe_fail(err, blame, "%s: %zu fields are described; at most %d are allowed", who,
                         info->n_fields, PIPE_MAX_FIELDS);
    for (size_t k = 0; k < info->n_fields; k++) {
        const pipe_field *f = &info->field[k];
        if (!*f->name || !memchr(f->name, '\0', sizeof f->name))
            return pipe_fail(err, blame, "%s: field %zu has no name of 1 to %zu bytes", who, k,
                             sizeof f->name - 1);
        if (f->dtype != PIPE_F32 && f->dtype != PIPE_I32)
            return pipe_fail(err, blame, "%s: field `%s` is neither f32 nor i32", who, f->name);
        if (!sample_fits(&f->shape))
            return pipe_fail(err, blame,
                             "%s: field `%s`: a sample has at most %d axes, none of them negative, and a "
                             "size that can be counted",
                             who, f->name, PIPE_MAX_RANK - 1);
    }
    return PIPE_OK;
}

pipe_status pipe_dataset_describe(pipe_dataset *d, pipe_dataset_info *info, pipe_error *err)
{
    *info = (pipe_dataset_info){.size = sizeof *info};
    PIPE_TRY(d->plugin->dataset.describe(d->state, info, err));
    return check_fields(d->name, info, PIPE_EPLUGIN, err);
}

int pipe_dataset_field(const pipe_dataset_info *info, const char *name)
{
    for (size_t k = 0; k < info->n_fields; k++)
        if (strcmp(info->field[k].name, name) == 0)
            return (int)k;
    return -1;
}

static void list_fields(const pipe_dataset_info *info, pipe_text *out)
{
    for (size_t k = 0; k < info->n_fields; k++)
        pipe_text_addf(out, "%s%s", k ? ", " : "", info->field[k].name);
    if (info->n_fields == 0)
        pipe_text_add(out, "none");
}

pipe_status pipe_dataset_need(pipe_dataset *d, const pipe_dataset_info *info, const char *name, size_t *k,
                              pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text have = {0};
    const int found = pipe_dataset_field(info, name);

    if (found < 0) {
        list_fields(info, &have);
        return pipe_fail(err, PIPE_ENOTFOUND, "the data set %s has no field `%s`; it has: %s", d->name, name,
                         have.data);
    }
    *k = (size_t)found;
    return PIPE_OK;
}

pipe_status pipe_dataset_read(pipe_dataset *d, const pipe_dataset_request *r, size_t k, void *out,
                              pipe_error *err)
{
    pipe_dataset_info info;

    PIPE_TRY(pipe_dataset_describe(d, &info, err));
    if (k >= info.n_fields)
        return pipe_fail(err, PIPE_EINVAL, "%s: field %zu of %zu", d->name, k, info.n_fields);
    for (size_t i = 0; i < r->n; i++)
        if (r->index[i] >= info.count)
            return pipe_fail(err, PIPE_EINVAL, "%s: sample %" PRIu64 " of %" PRIu64, d->name, r->index[i],
                             info.count);
    if (r->n == 0 || pipe_shape_count(&info.field[k].shape) == 0)
        return PIPE_OK;
    return d->plugin->dataset.read(d->state, r, k, out, err);
}

static pipe_tensor *upload(pipe_engine *e, const pipe_field *f, size_t n, const void *data)
{
    pipe_shape shape = {.rank = f->shape.rank + 1};

    shape.dim[0] = (int64_t)n;
    memcpy(shape.dim + 1, f->shape.dim, f->shape.rank * sizeof shape.dim[0]);
    return f->dtype == PIPE_F32 ? pipe_from_f32(e, shape, data) : pipe_from_i32(e, shape, data);
}

/* Reads and uploads; both dtypes have 4 bytes. */
static pipe_status read_tensor(pipe_dataset *d, pipe_engine *e, const pipe_field *f,
                               const pipe_dataset_request *r, size_t k, pipe_tensor **out, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) void *data = NULL;
    size_t bytes;

    if (!pipe_mul_size(r->n, (size_t)pipe_shape_count(&f->shape), &bytes) ||
        !pipe_mul_size(bytes, 4, &bytes) || !(data = pipe_try_alloc(bytes ? bytes : 4)))
        return pipe_fail(err, PIPE_ENOMEM, "%s: no memory for %zu samples of field `%s`", d->name, r->n,
                         f->name);
    PIPE_TRY(pipe_dataset_read(d, r, k, data, err));
    *out = upload(e, f, r->n, data);
    return pipe_check(*out, err);
}

pipe_status pipe_dataset_tensor(pipe_dataset *d, pipe_engine *e, uint64_t first, size_t n, size_t k,
                                pipe_tensor **out, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) uint64_t *index = pipe_alloc_array(n ? n : 1, sizeof *index);
    pipe_dataset_info info;

    PIPE_TRY(pipe_dataset_describe(d, &info, err));
    if (k >= info.n_fields)
        return pipe_fail(err, PIPE_EINVAL, "%s: field %zu of %zu", d->name, k, info.n_fields);
    for (size_t i = 0; i < n; i++)
        index[i] = first + i;
    return read_tensor(d, e, &info.field[k],
                       &(pipe_dataset_request){.size = sizeof(pipe_dataset_request), .index = index, .n = n},
                       k, out, err);
}

pipe_status pipe_dataset_read_all(pipe_dataset *d, size_t k, void **out, pipe_error *err)
{
    enum { CHUNK = 1024 };
    PIPE_CLEANUP(pipe_free_ptr) char *data = NULL;
    uint64_t index[CHUNK];
    pipe_dataset_info info;
    size_t bytes;

    PIPE_TRY(pipe_dataset_describe(d, &info, err));
    if (k >= info.n_fields)
        return pipe_fail(err, PIPE_EINVAL, "%s: field %zu of %zu", d->name, k, info.n_fields);
    const size_t each = (size_t)pipe_shape_count(&info.field[k].shape) * 4; /* of both dtypes */
    if (!pipe_mul_size(info.count, each, &bytes) || !(data = pipe_try_alloc(bytes ? bytes : 4)))
        return pipe_fail(err, PIPE_ENOMEM, "%s: no memory for %" PRIu64 " samples of field `%s`", d->name,
                         info.count, info.field[k].name);
    for (uint64_t first = 0; first < info.count; first += CHUNK) {
        const size_t n = info.count - first < CHUNK ? (size_t)(info.count - first) : CHUNK;
        for (size_t i = 0; i < n; i++)
            index[i] = first + i;
        PIPE_TRY(pipe_dataset_read(
            d, &(pipe_dataset_request){.size = sizeof(pipe_dataset_request), .index = index, .n = n}, k,
            data + first * each, err));
    }
    *out = data;
    data = NULL;
    return PIPE_OK;
}

pipe_status pipe_dataset_read_x(pipe_dataset *d, pipe_shape *sample, size_t *count, float **out,
                                pipe_error *err)
{
    pipe_dataset_info info;
    size_t k;
    void *data;

    PIPE_TRY(pipe_dataset_describe(d, &info, err));
    PIPE_TRY(pipe_dataset_need(d, &info, "x", &k, err));
    if (info.field[k].dtype != PIPE_F32 || info.count == 0 || pipe_shape_count(&info.field[k].shape) == 0)
        return pipe_fail(err, PIPE_EINVAL, "%s: there are no f32 numbers in field `x`", d->name);
    PIPE_TRY(pipe_dataset_read_all(d, k, &data, err));
    *sample = info.field[k].shape;
    *count = (size_t)info.count;
    *out = data;
    return PIPE_OK;
}

pipe_status pipe_dataset_read_labels(pipe_dataset *d, int64_t *classes, int32_t **out, pipe_error *err)
{
    pipe_dataset_info info;
    size_t k;
    void *data;

    PIPE_TRY(pipe_dataset_describe(d, &info, err));
    PIPE_TRY(pipe_dataset_need(d, &info, "label", &k, err));
    if (info.field[k].dtype != PIPE_I32 || info.field[k].shape.rank != 0 || info.field[k].classes < 1)
        return pipe_fail(err, PIPE_ESHAPE, "%s: field `label` must be one class number per sample", d->name);
    PIPE_TRY(pipe_dataset_read_all(d, k, &data, err));
    *classes = info.field[k].classes;
    *out = data;
    return PIPE_OK;
}

/* ---- in memory ---- */
typedef struct memory {
    pipe_dataset_info info;
    void *data[PIPE_MAX_FIELDS];
} memory;

static pipe_status memory_describe(void *self, pipe_dataset_info *info, pipe_error *err)
{
    (void)err;
    *info = ((memory *)self)->info;
    return PIPE_OK;
}

static pipe_status memory_read(void *self, const pipe_dataset_request *r, size_t k, void *out,
                               pipe_error *err)
{
    const memory *m = self;
    const size_t bytes = (size_t)pipe_shape_count(&m->info.field[k].shape) * 4;

    (void)err;
    for (size_t i = 0; i < r->n; i++)
        memcpy((char *)out + i * bytes, (const char *)m->data[k] + r->index[i] * bytes, bytes);
    return PIPE_OK;
}

static void memory_destroy(void *self)
{
    memory *m = self;

    for (size_t k = 0; k < PIPE_MAX_FIELDS; k++)
        pipe_free(m->data[k]);
}

static const pipe_plugin memory_plugin = {
    PIPE_ABI(PIPE_KIND_DATASET),
    .name = "dataset.memory",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "samples that a step has made",
    .state_size = sizeof(memory),
    .destroy = memory_destroy,
    .dataset = {.describe = memory_describe, .read = memory_read},
};

pipe_status pipe_dataset_new(pipe_context *ctx, const pipe_dataset_info *info, pipe_dataset **out,
                             pipe_error *err)
{
    pipe_object *o = NULL;
    memory *m;

    PIPE_TRY(check_fields(pipe_context_node(ctx), info, PIPE_EINVAL, err));
    PIPE_TRY(pipei_object_create(&memory_plugin, pipe_context_node(ctx), NULL, NULL, 0, ctx, &o, err));
    m = o->state;
    m->info = *info;
    m->info.size = sizeof m->info;
    for (size_t k = 0; k < info->n_fields; k++) {
        size_t bytes;
        if (!pipe_mul_size(info->count, (size_t)pipe_shape_count(&info->field[k].shape), &bytes) ||
            !pipe_mul_size(bytes, 4, &bytes) || !(m->data[k] = pipe_try_alloc(bytes ? bytes : 4))) {
            pipe_object_unref(o);
            return pipe_fail(err, PIPE_ENOMEM, "no memory for %" PRIu64 " samples of field `%s`", info->count,
                             info->field[k].name);
        }
    }
    *out = o;
    return PIPE_OK;
}

void *pipe_dataset_data(pipe_dataset *d, size_t k)
{
    return d->plugin == &memory_plugin && k < PIPE_MAX_FIELDS ? ((memory *)d->state)->data[k] : NULL;
}

/* ---- batches ---- */
typedef struct report {
    const char *name;
    pipe_tensor *value;
} report;

struct pipe_batch {
    pipe_context *ctx;
    pipe_dataset *data;
    pipe_dataset_info info;
    int64_t n;
    uint64_t step;
    pipe_tensor *field[PIPE_MAX_FIELDS]; /* of this recording; NULL until asked for */
    uint64_t *index, *draw; /* [n]: sample and epoch of each row */
    report *reports;
    size_t n_reports;
    pipe_arena *arena;
};

/* A keyed permutation of 0 ... count - 1 that can be asked for one element: a
 * Feistel network over the next even power of two, walked until it lands inside
 * (at most a few steps: the domain is less than four times too large).  So a
 * batch is known from its step alone, with no shuffled list to save and resume. */
static uint64_t permute(pipe_key key, uint64_t count, uint64_t i)
{
    uint32_t half = 1;

    while (half < 32 && (UINT64_C(1) << (2 * half)) < count)
        half++;
    const uint64_t mask = (UINT64_C(1) << half) - 1;
    do {
        uint64_t left = i >> half, right = i & mask;
        for (uint64_t round = 0; round < 6; round++) {
            key.sample = right;
            const uint64_t next = left ^ (pipe_host_bits(key, round) & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= count);
    return i;
}

pipe_status pipe_batch_new(pipe_context *ctx, pipe_dataset *d, int64_t n, uint64_t step, pipe_batch **out,
                           pipe_error *err)
{
    pipe_batch *b;
    pipe_dataset_info info = {.size = sizeof info};

    if (n < 1)
        return pipe_fail(err, PIPE_EINVAL, "a batch needs at least one row, not %" PRId64, n);
    if (d) {
        PIPE_TRY(pipe_dataset_describe(d, &info, err));
        if (info.count == 0)
            return pipe_fail(err, PIPE_EINVAL, "the data set %s is empty", d->name);
    }
    b = pipe_alloc(sizeof *b);
    b->ctx = ctx;
    b->data = d;
    b->info = info;
    b->n = n;
    b->step = step;
    b->arena = pipe_arena_new();
    if (d) {
        pipe_key key = pipe_context_key(ctx, "shuffle");
        b->index = pipe_arena_alloc(b->arena, (size_t)n * sizeof *b->index);
        b->draw = pipe_arena_alloc(b->arena, (size_t)n * sizeof *b->draw);
        for (int64_t r = 0; r < n; r++) {
            const uint64_t position = step * (uint64_t)n + (uint64_t)r;
            b->draw[r] = position / info.count;
            key.step = b->draw[r];
            b->index[r] = permute(key, info.count, position % info.count);
        }
    }
    *out = b;
    return PIPE_OK;
}

void pipe_batch_free(pipe_batch *b)
{
    if (!b)
        return;
    pipe_arena_free(b->arena);
    pipe_free(b->reports);
    pipe_free(b);
}

int64_t pipe_batch_size(const pipe_batch *b)
{
    return b->n;
}

uint64_t pipe_batch_step(const pipe_batch *b)
{
    return b->step;
}

pipe_engine *pipe_batch_engine(const pipe_batch *b)
{
    return pipe_context_engine(b->ctx);
}

/* Rows of one epoch are read in one request: nearly always the whole batch. */
static pipe_status read_rows(pipe_batch *b, size_t k, char *out, pipe_error *err)
{
    const size_t bytes = (size_t)pipe_shape_count(&b->info.field[k].shape) * 4;

    for (size_t r = 0; r < (size_t)b->n;) {
        size_t end = r + 1;
        while (end < (size_t)b->n && b->draw[end] == b->draw[r])
            end++;
        const pipe_dataset_request request = {
            .size = sizeof request, .index = b->index + r, .n = end - r, .draw = b->draw[r]};
        PIPE_TRY(pipe_dataset_read(b->data, &request, k, out + r * bytes, err));
        r = end;
    }
    return PIPE_OK;
}

pipe_tensor *pipe_batch_field(pipe_batch *b, const char *name)
{
    pipe_error err = PIPE_ERROR_INIT;
    const int k = b->data ? pipe_dataset_field(&b->info, name) : -1;

    if (k < 0)
        return NULL;
    if (!b->field[k]) {
        const pipe_field *f = &b->info.field[k];
        void *data = pipe_alloc_array((size_t)b->n, (size_t)(pipe_shape_count(&f->shape) + 1) * 4);
        b->field[k] = read_rows(b, (size_t)k, data, &err) == PIPE_OK
                          ? upload(pipe_batch_engine(b), f, (size_t)b->n, data)
                          : pipe_poison(pipe_batch_engine(b), err.status, "%s", err.message);
        pipe_free(data);
    }
    return b->field[k];
}

pipe_tensor *pipe_batch_need(pipe_batch *b, const char *name)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text have = {0};
    pipe_tensor *t = pipe_batch_field(b, name);

    if (t)
        return t;
    if (!b->data)
        return pipe_poison(pipe_batch_engine(b), PIPE_ENOTFOUND,
                           "this objective needs data (field `%s`); give `data` a data set", name);
    list_fields(&b->info, &have);
    return pipe_poison(pipe_batch_engine(b), PIPE_ENOTFOUND, "the data set %s has no field `%s`; it has: %s",
                       pipe_object_name(b->data), name, have.data);
}

pipe_key pipe_batch_key(const pipe_batch *b, const char *purpose)
{
    pipe_key key = pipe_context_key(b->ctx, purpose);

    key.step = b->step;
    return key;
}

void pipe_batch_report(pipe_batch *b, const char *name, pipe_tensor *scalar)
{
    b->reports = pipe_realloc(b->reports, (b->n_reports + 1) * sizeof *b->reports);
    b->reports[b->n_reports++] = (report){.name = pipe_arena_strdup(b->arena, name), .value = scalar};
}

bool pipe_batch_reported(const pipe_batch *b, size_t k, const char **name, pipe_tensor **value)
{
    if (k >= b->n_reports)
        return false;
    *name = b->reports[k].name;
    *value = b->reports[k].value;
    return true;
}
