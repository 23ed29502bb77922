/* Skip-layer guidance: Hyung et al. 2024, arXiv:2411.18664: away from what the network
 * predicts without some of its blocks,
 *
 *     D + w (D - D'). */
#include <pipe/pipe.h>

typedef struct {
    pipe_denoiser *denoiser;
    pipe_ints blocks;
    double scale;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, denoiser, PIPE_KIND_DENOISER, "a network with attention, not guidance around one"),
    PIPE_INPUT_END};

static const pipe_param params[] = {
    PIPE_FLOAT(state, scale, 2.8, -100.0, 100.0, NULL,
               "0 = the network alone; higher goes further from what it predicts when perturbed"),
    PIPE_INTS(state, blocks, NULL, 0, 1000000, NULL,
              "to leave out, as the network numbers them; those in the middle keep most of the content"),
    PIPE_PARAM_END};

static pipe_perturbation perturbation(const state *st)
{
    return (pipe_perturbation){
        .size = sizeof(pipe_perturbation), .kind = PIPE_PERTURB_SKIP, .blocks = st->blocks};
}

static pipe_status describe(void *self, pipe_denoiser_info *info, pipe_error *err)
{
    const state *st = self;
    const pipe_perturbation p = perturbation(st);

    return pipe_guidance_describe_perturbed(st->denoiser, &p, info, err);
}

static pipe_tensor *predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c)
{
    const state *st = self;
    const pipe_perturbation p = perturbation(st);

    (void)m;
    return pipe_guide_by_perturbation(st->denoiser, x, l, c, &p, st->scale);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "guidance.slg",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "guidance away from the network without some of its blocks",
    .help = "Works without labels too. To have it beside classifier-free guidance: guidance.weighted of both "
            "and the network, with weights [1, 1, -1].",
    .citation = "arXiv:2411.18664",
    .example = "sharper: {plugin: guidance.slg, denoiser: model, blocks: [2, 3], scale: 2.8}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(state),
    .denoiser = {.describe = describe, .predict = predict},
};
