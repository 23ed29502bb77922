/* Weights by name: building, looking up, binding, taps. */
#include "core/model/model.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

pipe_status pipei_model_new(pipe_context *ctx, const char *name, pipe_model **out, pipe_error *err)
{
    (void)err;
    pipe_model *m = pipe_alloc(sizeof *m);
    m->ctx = ctx;
    m->node = pipe_strdup(name);
    m->arena = pipe_arena_new();
    *out = m;
    return PIPE_OK;
}

void pipei_model_free(pipe_model *m)
{
    if (!m)
        return;
    for (size_t k = 0; k < m->n_weights; k++)
        pipe_keep(&m->weight[k].leaf, NULL);
    pipe_keep(&m->slab, NULL);
    pipe_keep(&m->bound, NULL);
    for (size_t k = 0; k < sizeof m->ring / sizeof m->ring[0]; k++)
        pipe_text_free(&m->ring[k]);
    pipe_text_free(&m->scope);
    pipe_text_free(&m->scratch);
    pipe_free(m->scope_length);
    pipe_free(m->weight);
    pipe_free(m->table);
    pipe_free(m->info);
    pipe_free(m->tap);
    pipe_arena_free(m->arena);
    pipe_free(m->node);
    pipe_free(m);
}

pipe_model *pipe_object_model(const pipe_object *o)
{
    return o->model;
}

bool pipe_model_built(const pipe_model *m)
{
    return m->state == MODEL_BUILT;
}

pipe_engine *pipe_model_engine(const pipe_model *m)
{
    return pipe_context_engine(m->ctx);
}

/* ---- names ---- */

const char *pipe_name(pipe_model *m, const char *fmt, ...)
{
    pipe_text *t = &m->ring[m->ring_at++ % (sizeof m->ring / sizeof m->ring[0])];
    char text[256];
    va_list args;

    va_start(args, fmt);
    const int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    pipe_text_clear(t);
    if (n >= (int)sizeof text) {
        char *whole = pipe_alloc((size_t)n + 1);
        va_start(args, fmt);
        vsnprintf(whole, (size_t)n + 1, fmt, args);
        va_end(args);
        pipe_text_add(t, whole);
        pipe_free(whole);
    } else {
        pipe_text_add(t, text);
    }
    return t->data;
}

void pipe_scope_push(pipe_model *m, const char *fmt, ...)
{
    char text[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    m->scope_length = pipe_realloc(m->scope_length, (m->n_scopes + 1) * sizeof *m->scope_length);
    m->scope_length[m->n_scopes++] = m->scope.length;
    pipe_text_add(&m->scope, text);
    pipe_text_add(&m->scope, ".");
}

void pipe_scope_pop(pipe_model *m)
{
    if (m->n_scopes == 0)
        return;
    m->scope.length = m->scope_length[--m->n_scopes];
    m->scope.data[m->scope.length] = '\0';
}

static const char *full_name(pipe_model *m, const char *name)
{
    pipe_text_clear(&m->scratch);
    if (m->scope.length)
        pipe_text_add(&m->scratch, m->scope.data);
    pipe_text_add(&m->scratch, name);
    return m->scratch.data;
}

/* ---- the table of weights ---- */

static size_t slot_of(const pipe_model *m, const char *full)
{
    size_t k = (size_t)pipe_hash64(full, strlen(full), 0) & (m->table_size - 1);

    while (m->table[k] && strcmp(m->weight[m->table[k] - 1].name, full) != 0)
        k = (k + 1) & (m->table_size - 1);
    return k;
}

static void rehash(pipe_model *m, size_t size)
{
    pipe_free(m->table);
    m->table_size = size;
    m->table = pipe_alloc_array(size, sizeof *m->table);
    for (size_t k = 0; k < m->n_weights; k++)
        m->table[slot_of(m, m->weight[k].name)] = (uint32_t)(k + 1);
}

int64_t pipei_model_find(const pipe_model *m, const char *full)
{
    return m->table_size ? (int64_t)m->table[slot_of(m, full)] - 1 : -1;
}

model_weight *pipei_model_add(pipe_model *m, const char *full, const pipe_shape *shape, pipe_init init,
                              bool buffer)
{
    if (2 * (m->n_weights + 1) > m->table_size)
        rehash(m, m->table_size ? 2 * m->table_size : 64);
    m->weight = pipe_realloc(m->weight, (m->n_weights + 1) * sizeof *m->weight);
    model_weight *w = &m->weight[m->n_weights++];
    *w = (model_weight){.name = pipe_arena_strdup(m->arena, full),
                        .shape = *shape,
                        .init = init,
                        .count = pipe_shape_count(shape),
                        .buffer = buffer};
    m->table[slot_of(m, w->name)] = (uint32_t)m->n_weights;
    return w;
}

static int by_kind_and_name(const void *a, const void *b)
{
    const model_weight *x = a, *y = b;

    return x->buffer != y->buffer ? (int)x->buffer - (int)y->buffer : strcmp(x->name, y->name);
}

void pipei_model_lay_out(pipe_model *m)
{
    m->count = m->parameters = 0;
    m->n_trainable = 0;
    if (m->n_weights == 0)
        return;
    qsort(m->weight, m->n_weights, sizeof *m->weight, by_kind_and_name);
    rehash(m, m->table_size);
    while (m->n_trainable < m->n_weights && !m->weight[m->n_trainable].buffer)
        m->n_trainable++;
    pipe_free(m->info);
    m->info = pipe_alloc_array(m->n_trainable + 1, sizeof *m->info);
    for (size_t k = 0; k < m->n_trainable; k++) {
        model_weight *w = &m->weight[k];
        w->offset = m->count;
        m->info[k] = (pipe_weight_info){.name = w->name, .shape = w->shape, .offset = w->offset};
        m->count += (w->count + SLAB_ALIGNMENT - 1) / SLAB_ALIGNMENT * SLAB_ALIGNMENT;
        m->parameters += w->count;
    }
}

pipe_status pipei_model_fill(pipe_model *m, const float *values, pipe_error *err)
{
    pipe_tensor *slab = pipe_from_f32(pipe_model_engine(m), PIPE_SHAPE(m->count), values);

    PIPE_TRY(pipe_check(slab, err));
    pipe_keep(&m->slab, slab);
    pipe_keep(&m->bound, NULL);
    m->state = MODEL_BUILT;
    return PIPE_OK;
}

/* ---- weights as the network sees them ---- */

static pipe_tensor *wrong_shape(pipe_model *m, const model_weight *w, const pipe_shape *wanted)
{
    char have[PIPE_SHAPE_TEXT], want[PIPE_SHAPE_TEXT];

    return pipe_poison(
        pipe_model_engine(m), PIPE_ESHAPE, "%s: the %s `%s` is of shape %s, but the network now asks for %s",
        m->node, w->buffer ? "buffer" : "weight", w->name, pipe_shape_text(&w->shape, have, sizeof have),
        pipe_shape_text(wanted, want, sizeof want));
}

static const char *nearest_weight(const pipe_model *m, const char *full)
{
    PIPE_CLEANUP(pipe_free_ptr) const char **names = pipe_alloc_array(m->n_weights + 1, sizeof *names);

    for (size_t k = 0; k < m->n_weights; k++)
        names[k] = m->weight[k].name;
    return pipe_nearest(full, names, m->n_weights);
}

static pipe_tensor *no_such_weight(pipe_model *m, const char *full)
{
    const char *near = nearest_weight(m, full);

    if (m->state == MODEL_EMPTY)
        return pipe_poison(pipe_model_engine(m), PIPE_EINVAL,
                           "%s has no weights yet: train it (step `fit`) or load them", m->node);
    return pipe_poison(pipe_model_engine(m), PIPE_ENOTFOUND,
                       "%s: the network asks for a weight `%s` that the model "
                       "does not have%s%s%s",
                       m->node, full, near ? " (nearest: `" : "", near ? near : "", near ? "`)" : "");
}

/* The entry, or NULL with the poisoned tensor that explains why. */
static model_weight *look_up(pipe_model *m, const char *name, const pipe_shape *shape, pipe_init init,
                             bool buffer, pipe_tensor **poison)
{
    const char *full = full_name(m, name);
    const int64_t k = pipei_model_find(m, full);

    if (k < 0 && m->state == MODEL_BUILDING)
        return pipei_model_add(m, full, shape, init, buffer);
    if (k < 0)
        *poison = no_such_weight(m, full);
    else if (!pipe_shape_equal(&m->weight[k].shape, shape))
        *poison = wrong_shape(m, &m->weight[k], shape);
    else if (m->weight[k].buffer != buffer)
        *poison = pipe_poison(pipe_model_engine(m), PIPE_EINVAL,
                              "%s: `%s` is used both as a weight and as a buffer", m->node, full);
    else
        return &m->weight[k];
    return NULL;
}

pipe_tensor *pipe_weight(pipe_model *m, const char *name, pipe_shape shape, pipe_init init)
{
    pipe_tensor *poison = NULL;
    const model_weight *w = look_up(m, name, &shape, init, false, &poison);

    if (!w)
        return poison;
    if (m->state == MODEL_BUILDING) /* of the right shape; what comes of it is thrown away */
        return pipe_zeros(pipe_model_engine(m), shape);
    pipe_tensor *flat = m->bound ? m->bound : m->slab;
    return pipe_reshape(pipe_slice(flat, 0, w->offset, w->count, 1), shape);
}

static pipe_tensor *buffer_leaf(pipe_model *m, const pipe_shape *shape, double value)
{
    const size_t n = (size_t)pipe_shape_count(shape);
    PIPE_CLEANUP(pipe_free_ptr) float *data = pipe_alloc_array(n ? n : 1, sizeof *data);

    for (size_t k = 0; k < n; k++)
        data[k] = (float)value;
    return pipe_from_f32(pipe_model_engine(m), *shape, data);
}

pipe_tensor *pipe_buffer(pipe_model *m, const char *name, pipe_shape shape, double value)
{
    pipe_tensor *poison = NULL;
    model_weight *w = look_up(m, name, &shape, (pipe_init){.kind = PIPE_INIT_CONSTANT, .value = value}, true,
                              &poison);

    if (!w)
        return poison;
    if (!w->leaf) /* a leaf from the start: the network may pipe_assign() to it */
        pipe_keep(&w->leaf, buffer_leaf(m, &shape, value));
    return w->leaf;
}

bool pipe_model_training(const pipe_model *m)
{
    return m->training;
}

pipe_tensor *pipe_layer_dropout(pipe_model *m, const char *name, pipe_tensor *x, double p)
{
    if (p <= 0.0 || !m->training)
        return x;
    return pipe_dropout(x, p,
                        (pipe_key){.seed = pipe_context_seed(m->ctx),
                                   .stream = pipe_stream(m->node, full_name(m, name)),
                                   .step = m->step});
}

/* ---- building ---- */

static void initialize(const pipe_model *m, const model_weight *w, float *out)
{
    PIPE_CLEANUP(pipe_free_ptr) char *purpose = pipe_format("init %s", w->name);
    const pipe_key key = {.seed = pipe_context_seed(m->ctx), .stream = pipe_stream(m->node, purpose)};
    const size_t n = (size_t)w->count;
    double scale = w->init.value;

    switch (w->init.kind) {
    case PIPE_INIT_ZEROS:
        return; /* the slab starts as zeros */
    case PIPE_INIT_ONES:
    case PIPE_INIT_CONSTANT:
        for (size_t k = 0; k < n; k++)
            out[k] = w->init.kind == PIPE_INIT_ONES ? 1.0f : (float)w->init.value;
        return;
    case PIPE_INIT_NORMAL:
        pipe_host_randn(key, out, n);
        for (size_t k = 0; k < n; k++)
            out[k] = (float)(scale * out[k]);
        return;
    case PIPE_INIT_FAN_IN:
        scale /= sqrt((double)(w->init.fan_in > 0 ? w->init.fan_in : 1));
        break;
    case PIPE_INIT_UNIFORM:
        break;
    }
    pipe_host_rand(key, out, n);
    for (size_t k = 0; k < n; k++)
        out[k] = (float)(scale * (2.0 * out[k] - 1.0));
}

pipe_status pipe_model_build_begin(pipe_model *m, pipe_error *err)
{
    if (m->state != MODEL_EMPTY)
        return pipe_fail(err, PIPE_EINVAL, "%s: the weights are %s already", m->node,
                         m->state == MODEL_BUILT ? "there" : "being built");
    m->state = MODEL_BUILDING;
    return PIPE_OK;
}

pipe_status pipe_model_build_end(pipe_model *m, pipe_error *err)
{
    if (m->state != MODEL_BUILDING)
        return pipe_fail(err, PIPE_EINVAL, "%s: build_end without build_begin", m->node);
    pipei_engine_discard(pipe_model_engine(m));
    m->state = MODEL_EMPTY;
    pipei_model_lay_out(m);
    PIPE_CLEANUP(pipe_free_ptr) float *values = pipe_try_alloc((size_t)(m->count + 1) * sizeof *values);
    if (!values)
        return pipe_fail(err, PIPE_ENOMEM, "%s: no memory for %" PRId64 " weights", m->node, m->count);
    for (size_t k = 0; k < m->n_trainable; k++)
        initialize(m, &m->weight[k], values + m->weight[k].offset);
    return pipei_model_fill(m, values, err);
}

/* ---- weights as data ---- */

size_t pipe_model_weights(const pipe_model *m, const pipe_weight_info **out)
{
    *out = m->info;
    return m->state == MODEL_BUILT ? m->n_trainable : 0;
}

pipe_tensor *pipe_model_buffer_at(const pipe_model *m, size_t k, const char **name)
{
    if (m->state != MODEL_BUILT || k >= m->n_weights - m->n_trainable)
        return NULL;
    *name = m->weight[m->n_trainable + k].name;
    return m->weight[m->n_trainable + k].leaf;
}

int64_t pipe_model_count(const pipe_model *m)
{
    return m->state == MODEL_BUILT ? m->count : 0;
}

int64_t pipe_model_parameters(const pipe_model *m)
{
    return m->state == MODEL_BUILT ? m->parameters : 0;
}

pipe_tensor *pipe_model_flat(const pipe_model *m)
{
    if (!m->slab)
        return pipe_poison(pipe_model_engine(m), PIPE_EINVAL, "%s has no weights yet", m->node);
    return m->slab;
}

pipe_status pipe_model_bind(pipe_model *m, pipe_tensor *flat, pipe_error *err)
{
    char have[PIPE_SHAPE_TEXT];

    if (!flat) {
        pipe_keep(&m->bound, NULL);
        return PIPE_OK;
    }
    if (m->state != MODEL_BUILT)
        return pipe_fail(err, PIPE_EINVAL, "%s has no weights yet: nothing can be bound in their place",
                         m->node);
    PIPE_TRY(pipe_check(flat, err));
    if (pipe_tensor_dtype(flat) != PIPE_F32 || pipe_rank(flat) != 1 || pipe_dim(flat, 0) != m->count)
        return pipe_fail(err, PIPE_ESHAPE, "%s: weights to bind must be f32 [%" PRId64 "], not %s", m->node,
                         m->count, pipe_shape_text(pipe_tensor_shape(flat), have, sizeof have));
    pipe_keep(&m->bound, flat);
    return PIPE_OK;
}

/* The names and shapes of another model, all zero. */
static pipe_status build_like(pipe_model *m, const pipe_model *from, pipe_error *err)
{
    for (size_t k = 0; k < from->n_weights; k++)
        pipei_model_add(m, from->weight[k].name, &from->weight[k].shape, (pipe_init){0}, from->weight[k].buffer);
    pipei_model_lay_out(m);
    for (size_t k = m->n_trainable; k < m->n_weights; k++) {
        PIPE_CLEANUP(pipe_free_ptr)
        float *zeros = pipe_alloc_array((size_t)m->weight[k].count + 1, sizeof *zeros);
        pipe_keep(&m->weight[k].leaf, pipe_from_f32(pipe_model_engine(m), m->weight[k].shape, zeros));
        PIPE_TRY(pipe_check(m->weight[k].leaf, err));
    }
    PIPE_CLEANUP(pipe_free_ptr) float *slab = pipe_try_alloc((size_t)(m->count + 1) * sizeof *slab);
    if (!slab)
        return pipe_fail(err, PIPE_ENOMEM, "%s: no memory for %lld weights", m->node, (long long)m->count);
    return pipei_model_fill(m, slab, err);
}

pipe_status pipe_model_copy(pipe_model *m, const pipe_model *from, pipe_error *err)
{
    if (m->state == MODEL_EMPTY && from->state == MODEL_BUILT)
        PIPE_TRY(build_like(m, from, err));
    if (m->state != MODEL_BUILT || from->state != MODEL_BUILT)
        return pipe_fail(err, PIPE_EINVAL, "%s has no weights yet",
                         m->state == MODEL_BUILT ? from->node : m->node);
    for (size_t k = 0; k < m->n_weights || k < from->n_weights; k++) {
        const model_weight *a = k < m->n_weights ? &m->weight[k] : NULL;
        const model_weight *b = k < from->n_weights ? &from->weight[k] : NULL;
        char have[PIPE_SHAPE_TEXT], want[PIPE_SHAPE_TEXT];
        if (!a || !b || strcmp(a->name, b->name) != 0 || a->buffer != b->buffer)
            return pipe_fail(err, PIPE_ESHAPE, "the weights of %s do not fit %s: `%s` is in one of them only",
                             from->node, m->node,
                             !b || (a && strcmp(a->name, b->name) < 0) ? a->name : b->name);
        if (!pipe_shape_equal(&a->shape, &b->shape))
            return pipe_fail(err, PIPE_ESHAPE, "the weights of %s do not fit %s: `%s` is of shape %s, not %s",
                             from->node, m->node, a->name, pipe_shape_text(&b->shape, have, sizeof have),
                             pipe_shape_text(&a->shape, want, sizeof want));
    }
    for (size_t k = m->n_trainable; k < m->n_weights; k++)
        PIPE_TRY(pipe_assign(m->weight[k].leaf, from->weight[k].leaf, err));
    PIPE_TRY(pipe_assign(m->slab, from->slab, err));
    return pipe_eval(pipe_model_engine(m), err);
}

void pipe_model_set_training(pipe_model *m, bool training, uint64_t step)
{
    m->training = training;
    m->step = step;
}

/* ---- taps ---- */

static model_tap *tap_entry(pipe_model *m, const char *name)
{
    for (size_t k = 0; k < m->n_taps; k++)
        if (strcmp(m->tap[k].name, name) == 0)
            return &m->tap[k];
    m->tap = pipe_realloc(m->tap, (m->n_taps + 1) * sizeof *m->tap);
    m->tap[m->n_taps] = (model_tap){.name = pipe_arena_strdup(m->arena, name)};
    return &m->tap[m->n_taps++];
}

pipe_tensor *pipe_tap(pipe_model *m, const char *name, pipe_tensor *value)
{
    model_tap *t = tap_entry(m, full_name(m, name));

    t->seen = true;
    if (t->slot)
        *t->slot = value;
    return value;
}

void pipe_model_tap(pipe_model *m, const char *name, pipe_tensor **slot)
{
    model_tap *t = tap_entry(m, name);

    t->slot = slot;
    t->seen = slot ? false : t->seen; /* a request is answered by the calls after it */
}

pipe_status pipe_model_tap_check(pipe_model *m, pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text have = {0};

    for (size_t k = 0; k < m->n_taps; k++)
        if (m->tap[k].seen)
            pipe_text_addf(&have, "%s%s", have.length ? ", " : "", m->tap[k].name);
    for (size_t k = 0; k < m->n_taps; k++)
        if (m->tap[k].slot && !m->tap[k].seen)
            return pipe_fail(err, PIPE_ENOTFOUND, "%s has no layer `%s`; those that have a name are: %s",
                             m->node, m->tap[k].name, have.length ? have.data : "none");
    return PIPE_OK;
}
