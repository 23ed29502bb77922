/* Weights in safetensors files.  Buffers are named in the metadata, so that a
 * model can be built from its file alone. */
#include "core/model/model.h"

#include <inttypes.h>
#include <pipe/io.h>
#include <string.h>

static const char buffers_key[] = "pipe.buffers"; /* names, one a line */

/* ---- saving ---- */

static pipe_status add_buffer(pipe_safetensors_writer *w, const model_weight *b, pipe_error *err)
{
    float *data = pipe_alloc_array((size_t)b->count + 1, sizeof *data);
    const pipe_status status = pipe_read_f32(b->leaf, data, (size_t)b->count, err);

    if (status != PIPE_OK) {
        pipe_free(data);
        return status;
    }
    const pipe_array a = PIPE_ARRAY_F32(b->shape, data);
    return pipe_safetensors_take(w, b->name, &a, err);
}

static pipe_status set_metadata(const pipe_model *m, pipe_safetensors_writer *w, const char *const *metadata,
                                pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text buffers = {0};

    for (size_t k = m->n_trainable; k < m->n_weights; k++)
        pipe_text_addf(&buffers, "%s\n", m->weight[k].name);
    if (buffers.length)
        PIPE_TRY(pipe_safetensors_set(w, buffers_key, buffers.data, err));
    for (size_t k = 0; metadata && metadata[k]; k += 2)
        PIPE_TRY(pipe_safetensors_set(w, metadata[k], metadata[k + 1], err));
    return PIPE_OK;
}

pipe_status pipe_model_save(pipe_model *m, const char *path, const char *const *metadata, pipe_error *err)
{
    if (m->state != MODEL_BUILT)
        return pipe_fail(err, PIPE_EINVAL, "%s has no weights yet: there is nothing to save in %s", m->node,
                         path);
    PIPE_CLEANUP(pipe_free_ptr) float *slab = pipe_try_alloc((size_t)(m->count + 1) * sizeof *slab);
    if (!slab)
        return pipe_fail(err, PIPE_ENOMEM, "%s: no memory for %" PRId64 " weights", m->node, m->count);
    PIPE_CLEANUP(pipe_safetensors_writer_free_ptr) pipe_safetensors_writer *w = pipe_safetensors_writer_new();
    PIPE_TRY(pipe_read_f32(m->slab, slab, (size_t)m->count, err));
    for (size_t k = 0; k < m->n_weights; k++) {
        const model_weight *t = &m->weight[k];
        const pipe_array a = PIPE_ARRAY_F32(t->shape, slab + t->offset);
        PIPE_TRY(t->buffer ? add_buffer(w, t, err) : pipe_safetensors_add(w, t->name, &a, err));
    }
    PIPE_TRY(set_metadata(m, w, metadata, err));
    return pipe_safetensors_write(w, path, err);
}

/* ---- what fits and what does not ---- */

static const char *nearest_array(const pipe_safetensors *f, const char *name)
{
    const size_t n = pipe_safetensors_count(f);
    PIPE_CLEANUP(pipe_free_ptr) const char **names = pipe_alloc_array(n + 1, sizeof *names);

    for (size_t k = 0; k < n; k++)
        names[k] = pipe_safetensors_name(f, k);
    return pipe_nearest(name, names, n);
}

/* Five names at most, and that there are more. */
static void mention(pipe_text *list, size_t *n, const char *text)
{
    if (++*n <= 5)
        pipe_text_addf(list, "%s%s", *n > 1 ? ", " : "", text);
    else if (*n == 6)
        pipe_text_add(list, ", ...");
}

static void mention_shape(pipe_text *list, size_t *n, const model_weight *w, const pipe_array *a)
{
    char have[PIPE_SHAPE_TEXT], want[PIPE_SHAPE_TEXT];
    PIPE_CLEANUP(pipe_free_ptr)
    char *text = pipe_format("%s is %s, needed is %s", w->name, pipe_shape_text(&a->shape, have, sizeof have),
                             pipe_shape_text(&w->shape, want, sizeof want));

    mention(list, n, text);
}

static void mention_missing(pipe_text *list, size_t *n, const pipe_model *m, const char *name,
                            const pipe_safetensors *f)
{
    const char *near = nearest_array(f, name);
    const bool hint = near && pipei_model_find(m, near) < 0;
    PIPE_CLEANUP(pipe_free_ptr)
    char *text = pipe_format("%s%s%s%s", name, hint ? " (did you mean " : "", hint ? near : "",
                             hint ? "?)" : "");

    mention(list, n, text);
}

/* A missing tensor or another shape is fatal; tensors too many are a warning. */
static pipe_status compare(const pipe_model *m, const pipe_safetensors *f, const char *path, pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text missing = {0}, unexpected = {0}, shapes = {0}, report = {0};
    size_t n_missing = 0, n_unexpected = 0, n_shapes = 0;

    for (size_t k = 0; k < m->n_weights; k++) {
        const pipe_array *a = pipe_safetensors_find(f, m->weight[k].name);
        if (!a)
            mention_missing(&missing, &n_missing, m, m->weight[k].name, f);
        else if (!pipe_shape_equal(&a->shape, &m->weight[k].shape))
            mention_shape(&shapes, &n_shapes, &m->weight[k], a);
    }
    for (size_t k = 0; k < pipe_safetensors_count(f); k++)
        if (pipei_model_find(m, pipe_safetensors_name(f, k)) < 0)
            mention(&unexpected, &n_unexpected, pipe_safetensors_name(f, k));
    if (n_missing + n_unexpected + n_shapes == 0)
        return PIPE_OK;
    pipe_text_addf(&report, "%s: %zu of %zu tensors of %s matched", path, m->n_weights - n_missing - n_shapes,
                   m->n_weights, m->node);
    if (n_missing)
        pipe_text_addf(&report, "; missing %zu: %s", n_missing, missing.data);
    if (n_shapes)
        pipe_text_addf(&report, "; of another shape %zu: %s", n_shapes, shapes.data);
    if (n_unexpected)
        pipe_text_addf(&report, "; unexpected %zu: %s", n_unexpected, unexpected.data);
    if (n_missing + n_shapes)
        return pipe_fail(err, n_shapes ? PIPE_ESHAPE : PIPE_ENOTFOUND, "%s", report.data);
    pipe_log(PIPE_LOG_WARN, m->node, "%s", report.data);
    return PIPE_OK;
}

/* ---- loading ---- */

/* Is `name` one of the lines? */
static bool listed(const char *lines, const char *name)
{
    const size_t n = strlen(name);

    for (const char *p = lines; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
        if (strncmp(p, name, n) == 0 && (p[n] == '\n' || p[n] == '\0'))
            return true;
    return false;
}

static pipe_status declare(pipe_model *m, const pipe_safetensors *f, const char *path, pipe_error *err)
{
    const char *buffers = pipe_safetensors_metadata(f, buffers_key);
    int64_t bytes = 0;

    for (size_t k = 0; k < pipe_safetensors_count(f); k++) {
        const char *name = pipe_safetensors_name(f, k);
        const pipe_array *a = pipe_safetensors_at(f, k);
        pipei_model_add(m, name, &a->shape, (pipe_init){0}, listed(buffers, name));
        if (__builtin_add_overflow(bytes, (int64_t)pipe_array_count(a) * 4 + 128, &bytes))
            return pipe_fail(err, PIPE_EFORMAT, "%s: more weights than any memory holds", path);
    }
    pipei_model_lay_out(m);
    return PIPE_OK;
}

static pipe_status load_buffer(pipe_model *m, model_weight *w, const pipe_array *a, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) float *data = pipe_alloc_array((size_t)w->count + 1, sizeof *data);

    PIPE_TRY(pipe_array_f32(a, 0, (size_t)w->count, data, err));
    pipe_tensor *leaf = pipe_from_f32(pipe_model_engine(m), w->shape, data);
    PIPE_TRY(pipe_check(leaf, err));
    pipe_keep(&w->leaf, leaf);
    return PIPE_OK;
}

static pipe_status load(pipe_model *m, const pipe_safetensors *f, const char *path, pipe_error *err)
{
    if (m->state == MODEL_BUILT)
        PIPE_TRY(compare(m, f, path, err));
    else
        PIPE_TRY(declare(m, f, path, err));
    PIPE_CLEANUP(pipe_free_ptr) float *slab = pipe_try_alloc((size_t)(m->count + 1) * sizeof *slab);
    if (!slab)
        return pipe_fail(err, PIPE_ENOMEM, "%s: no memory for %" PRId64 " weights", path, m->count);
    for (size_t k = 0; k < m->n_weights; k++) {
        model_weight *w = &m->weight[k];
        const pipe_array *a = pipe_safetensors_find(f, w->name);
        const pipe_status status = w->buffer ? load_buffer(m, w, a, err)
                                             : pipe_array_f32(a, 0, (size_t)w->count, slab + w->offset, err);
        if (status != PIPE_OK)
            return pipe_context_fail(err, status, "%s: `%s`", path, w->name);
    }
    return pipei_model_fill(m, slab, err);
}

pipe_status pipe_model_load(pipe_model *m, const char *path, pipe_error *err)
{
    PIPE_CLEANUP(pipe_safetensors_close_ptr) pipe_safetensors *f = NULL;

    if (m->state == MODEL_BUILDING)
        return pipe_fail(err, PIPE_EINVAL, "%s: the weights are being built", m->node);
    PIPE_TRY(pipe_safetensors_open(path, &f, err));
    const bool fresh = m->state == MODEL_EMPTY;
    const pipe_status status = load(m, f, path, err);
    if (status != PIPE_OK && fresh) {
        for (size_t k = 0; k < m->n_weights; k++)
            pipe_keep(&m->weight[k].leaf, NULL);
        m->n_weights = m->n_trainable = 0;
        m->table_size = 0;
    }
    return status;
}
