/* Kinds whose functions only pass calls on, and which kind adds parameters to all
 * its plugins. */
#include "core/kinds/kinds.h"

#include <string.h>

const pipe_param *pipei_kind_params(const char *kind)
{
    return strcmp(kind, PIPE_KIND_SAMPLER) == 0 ? pipei_sampler_params : NULL;
}

size_t pipei_kind_state_size(const char *kind)
{
    return strcmp(kind, PIPE_KIND_SAMPLER) == 0 ? sizeof(pipei_sampler_common) : 0;
}

pipe_status pipei_kind_check(const pipe_plugin *p, const void *common, pipei_is_given given, const void *arg,
                             const char **at, pipe_error *err)
{
    bool around = false;

    if (strcmp(p->kind, PIPE_KIND_SAMPLER) != 0)
        return PIPE_OK;
    for (const pipe_input *row = p->inputs; row && row->name; row++)
        around = around || strcmp(row->kind, PIPE_KIND_SAMPLER) == 0;
    return pipei_sampler_check(common, around, given, arg, at, err);
}

static pipe_tensor *wrong_shape(const pipe_object *o, const char *what, const pipe_tensor *x,
                                const pipe_tensor *y)
{
    char from[PIPE_SHAPE_TEXT], to[PIPE_SHAPE_TEXT];

    return pipe_object_poison(o, PIPE_EPLUGIN, "%s has %s samples of shape %s to shape %s: not one row each",
                              o->plugin->name, what, pipe_shape_text(pipe_tensor_shape(x), from, sizeof from),
                              pipe_shape_text(pipe_tensor_shape(y), to, sizeof to));
}

pipe_tensor *pipe_encode(pipe_encoder *e, pipe_tensor *x)
{
    pipe_tensor *y = e->plugin->encoder.encode(e->state, e->model, x);

    if (pipe_check(y, NULL) == PIPE_OK && (pipe_rank(y) < 1 || pipe_dim(y, 0) != pipe_dim(x, 0)))
        return wrong_shape(e, "encoded", x, y);
    return y;
}

pipe_tensor *pipe_decode(pipe_decoder *d, pipe_tensor *z)
{
    pipe_tensor *x = d->plugin->decoder.decode(d->state, d->model, z);

    if (pipe_check(x, NULL) == PIPE_OK && (pipe_rank(x) < 1 || pipe_dim(x, 0) != pipe_dim(z, 0)))
        return wrong_shape(d, "decoded", z, x);
    return x;
}

int64_t pipe_classifier_classes(pipe_classifier *c)
{
    return c->plugin->classifier.classes(c->state);
}

pipe_tensor *pipe_classify(pipe_classifier *c, pipe_tensor *x, const pipe_level *l)
{
    pipe_tensor *y = c->plugin->classifier.logits(c->state, c->model, x, l);

    if (pipe_check(y, NULL) == PIPE_OK && (pipe_rank(y) != 2 || pipe_dim(y, 0) != pipe_dim(x, 0) ||
                                           pipe_dim(y, 1) != pipe_classifier_classes(c)))
        return wrong_shape(c, "classified", x, y);
    return y;
}

pipe_status pipe_objective_declare(pipe_objective *o, pipe_object *model, const pipe_dataset_info *data,
                                   pipe_error *err)
{
    return o->plugin->objective.declare ? o->plugin->objective.declare(o->state, model, data, err) : PIPE_OK;
}

pipe_tensor *pipe_objective_loss(pipe_objective *o, pipe_object *model, pipe_batch *batch)
{
    return o->plugin->objective.loss(o->state, model, batch);
}

int32_t pipe_optimizer_state_count(pipe_optimizer *o)
{
    return o->plugin->optimizer.state_count;
}

pipe_status pipe_optimizer_update(pipe_optimizer *o, pipe_update *u, pipe_error *err)
{
    PIPE_TRY(o->plugin->optimizer.update(o->state, u, err));
    return pipe_check(u->p_new, err);
}
