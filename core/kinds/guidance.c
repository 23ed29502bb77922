/* What guidance shares: descriptions of combinations, inner products, beginnings. */
#include "core/kinds/kinds.h"

#include <pipe/guidance.h>

#include <string.h>

const char *const pipe_guidance_space_names[] = {"x0", "own", NULL};

pipe_status pipe_guidance_describe(pipe_denoiser *inner, pipe_guidance_space space, bool classes,
                                   pipe_denoiser_info *info, pipe_error *err)
{
    PIPE_TRY(pipe_denoiser_describe(inner, info, err));
    if (classes && info->classes == 0)
        return pipe_fail(err, PIPE_EINVAL, "the model `%s` knows no classes: there is nothing to guide by",
                         pipe_object_name(inner));
    info->attention_blocks = 0; /* of the network within: what is made of it is not perturbed as a whole */
    if (space == PIPE_GUIDE_X0 && info->predicts != PIPE_PREDICT_NONE)
        info->predicts = PIPE_PREDICT_X0;
    return PIPE_OK;
}

static pipe_status check_one(pipe_denoiser *d, const pipe_denoiser_info *own, pipe_denoiser *first,
                             const pipe_denoiser_info *info, pipe_error *err)
{
    char a[PIPE_SHAPE_TEXT], b[PIPE_SHAPE_TEXT];

    if (own->predicts == PIPE_PREDICT_NONE || !own->schedule)
        return pipe_fail(err, PIPE_EINVAL, "it is not known what %s predicts: train it first (step `fit`)",
                         d->name);
    if (own->schedule != info->schedule)
        return pipe_fail(err, PIPE_EINVAL,
                         "%s works under the schedule %s, %s under %s: what is combined needs the same one",
                         first->name, info->schedule->name, d->name, own->schedule->name);
    if (own->sample.rank && info->sample.rank && !pipe_shape_equal(&own->sample, &info->sample))
        return pipe_fail(err, PIPE_ESHAPE, "samples of %s have the shape %s, those of %s %s", first->name,
                         pipe_shape_text(&info->sample, a, sizeof a), d->name,
                         pipe_shape_text(&own->sample, b, sizeof b));
    return PIPE_OK;
}

pipe_status pipe_guidance_describe_all(pipe_denoiser *const *inner, size_t n, pipe_denoiser_info *info,
                                       pipe_error *err)
{
    pipe_prediction predicts;

    if (n == 0)
        return pipe_fail(err, PIPE_EINVAL, "there is no denoiser to combine");
    PIPE_TRY(pipe_denoiser_describe(inner[0], info, err));
    predicts = info->predicts;
    for (size_t k = 0; k < n; k++) {
        pipe_denoiser_info own;
        PIPE_TRY(pipe_denoiser_describe(inner[k], &own, err));
        PIPE_TRY(check_one(inner[k], &own, inner[0], info, err));
        if (own.predicts != predicts)
            predicts = PIPE_PREDICT_X0;
        info->classes = own.classes > info->classes ? own.classes : info->classes;
    }
    info->predicts = predicts;
    info->attention_blocks = 0;
    return PIPE_OK;
}

pipe_status pipe_guidance_describe_perturbed(pipe_denoiser *inner, const pipe_perturbation *p,
                                             pipe_denoiser_info *info, pipe_error *err)
{
    PIPE_TRY(pipei_perturbation_check(inner, p, err));
    return pipe_guidance_describe(inner, PIPE_GUIDE_OWN, false, info, err);
}

pipe_tensor *pipe_guide_by_perturbation(pipe_denoiser *d, pipe_tensor *x, const pipe_level *l,
                                        const pipe_condition *c, const pipe_perturbation *p, double scale)
{
    pipe_tensor *plain = pipe_denoise(d, x, l, c);
    pipe_condition perturbed = c ? *c : (pipe_condition){.size = sizeof perturbed};

    if (scale == 0.0)
        return plain;
    perturbed.perturbation = p;
    return pipe_axpby(1.0 + scale, plain, -scale, pipe_denoise(d, x, l, &perturbed));
}

static pipe_perturbation perturbation(const pipe_perturbed_state *st)
{
    return (pipe_perturbation){
        .size = sizeof(pipe_perturbation), .kind = st->kind, .blocks = st->blocks, .sigma = st->sigma};
}

pipe_status pipe_perturbed_state_describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    const pipe_perturbed_state *st = self;
    const pipe_perturbation p = perturbation(st);

    return pipe_guidance_describe_perturbed(st->denoiser, &p, info, err);
}

pipe_tensor *pipe_perturbed_state_predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                                          const pipe_condition *c)
{
    const pipe_perturbed_state *st = self;
    const pipe_perturbation p = perturbation(st);

    (void)m;
    return pipe_guide_by_perturbation(st->denoiser, x, l, c, &p, st->scale);
}

pipe_status pipe_cfg_state_describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    const pipe_cfg_state *st = self;

    return pipe_guidance_describe(st->denoiser, (pipe_guidance_space)st->space, true, info, err);
}

pipe_tensor *pipe_cfg_state_predict(const pipe_cfg_state *st, pipe_tensor *x, const pipe_level *l,
                                    const pipe_condition *c)
{
    pipe_denoiser_info info;
    pipe_error err = PIPE_ERROR_INIT;

    if (pipe_guidance_describe(st->denoiser, (pipe_guidance_space)st->space, true, &info, &err) != PIPE_OK)
        return pipe_object_poison(st->denoiser, err.status, "%s", err.message);
    return pipe_predict(st->denoiser, x, l, c, info.predicts);
}

void pipe_level_count_begin(pipe_level_count *n)
{
    n->levels = -1;
}

int64_t pipe_level_count_at(pipe_level_count *n, const pipe_level *l)
{
    if (l->uniform && (n->levels < 0 || l->point.t != n->last)) {
        n->last = l->point.t;
        n->levels++;
    }
    return n->levels;
}

bool pipe_condition_given(const pipe_condition *c)
{
    return c && (c->labels || c->embedding);
}

pipe_tensor *pipe_sample_dot(pipe_tensor *a, pipe_tensor *b)
{
    int axes[PIPE_MAX_RANK];
    const uint32_t rank = pipe_rank(a);

    if (rank < 2) /* a sample is one number */
        return pipe_mul(a, b);
    for (uint32_t k = 1; k < rank; k++)
        axes[k - 1] = (int)k;
    return pipe_sum(pipe_mul(a, b), axes, rank - 1, true);
}

void pipe_denoiser_begin(pipe_denoiser *d)
{
    for (size_t k = 0; k < d->n_inputs; k++)
        for (size_t i = 0; i < d->linked[k].n; i++)
            if (strcmp(d->linked[k].object[i]->kind, PIPE_KIND_DENOISER) == 0)
                pipe_denoiser_begin(d->linked[k].object[i]);
    if (d->plugin->denoiser.begin)
        d->plugin->denoiser.begin(d->state);
}

bool pipei_denoiser_remembers(const pipe_denoiser *d)
{
    for (size_t k = 0; k < d->n_inputs; k++)
        for (size_t i = 0; i < d->linked[k].n; i++)
            if (strcmp(d->linked[k].object[i]->kind, PIPE_KIND_DENOISER) == 0 &&
                pipei_denoiser_remembers(d->linked[k].object[i]))
                return true;
    return d->plugin->denoiser.begin != NULL;
}
