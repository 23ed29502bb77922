/* Skip-layer guidance: Hyung et al. 2024, arXiv:2411.18664: away from what the network
 * predicts without some of its blocks,
 *
 *     D + w (D - D'). */
#include <pipe/pipe.h>

static const pipe_input inputs[] = {PIPE_PERTURBED_STATE_INPUT, PIPE_INPUT_END};

static const pipe_param params[] = {PIPE_PERTURBED_STATE_SCALE(2.8),
                                    PIPE_PERTURBED_STATE_BLOCKS("to leave out"), PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    (void)ctx;
    (void)err;
    ((pipe_perturbed_state *)self)->kind = PIPE_PERTURB_SKIP;
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "guidance.slg",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "guidance away from the network without some of its blocks",
    .help = PIPE_PERTURBED_STATE_HELP,
    .citation = "arXiv:2411.18664",
    .example = "sharper: {plugin: guidance.slg, denoiser: model, blocks: [2, 3], scale: 2.8}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(pipe_perturbed_state),
    .create = create,
    .denoiser = PIPE_PERTURBED_STATE,
};
