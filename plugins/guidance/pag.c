/* Perturbed-attention guidance: Ahn et al. 2024, arXiv:2403.17377: away
 * from what the network predicts when tokens of some blocks attend to themselves alone,
 *
 *     D + w (D - D'). */
#include <pipe/pipe.h>

static const pipe_input inputs[] = {PIPE_PERTURBED_STATE_INPUT, PIPE_INPUT_END};

static const pipe_param params[] = {PIPE_PERTURBED_STATE_SCALE(3.0),
                                    PIPE_PERTURBED_STATE_BLOCKS("whose attention becomes the identity"),
                                    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    (void)ctx;
    (void)err;
    ((pipe_perturbed_state *)self)->kind = PIPE_PERTURB_IDENTITY;
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "guidance.pag",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "guidance away from the network whose attention is the identity",
    .help = PIPE_PERTURBED_STATE_HELP,
    .citation = "arXiv:2403.17377",
    .example = "sharper: {plugin: guidance.pag, denoiser: model, blocks: [2, 3], scale: 3.0}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(pipe_perturbed_state),
    .create = create,
    .denoiser = PIPE_PERTURBED_STATE,
};
