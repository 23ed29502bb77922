/* Smoothed energy guidance: Hong 2024, arXiv:2408.00760: away from what the network
 * predicts when the queries of some blocks are blurred over the grid of tokens,
 *
 *     D + w (D - D'). */
#include <pipe/pipe.h>

static const pipe_input inputs[] = {PIPE_PERTURBED_STATE_INPUT, PIPE_INPUT_END};

static const pipe_param params[] = {
    PIPE_PERTURBED_STATE_SCALE(3.0), PIPE_PERTURBED_STATE_BLOCKS("whose queries are blurred"),
    PIPE_FLOAT(pipe_perturbed_state, sigma, 1e6, 0.0, 1e9, "tokens",
               "width of the blur; 0 = none, above 9999 each query becomes the mean of all"),
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    (void)ctx;
    (void)err;
    ((pipe_perturbed_state *)self)->kind = PIPE_PERTURB_BLUR;
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DENOISER),
    .name = "guidance.seg",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "guidance away from the network whose queries are blurred",
    .help = PIPE_PERTURBED_STATE_HELP,
    .citation = "arXiv:2408.00760",
    .example = "sharper: {plugin: guidance.seg, denoiser: model, blocks: [2, 3], scale: 3.0, sigma: 1e6}",
    .params = params,
    .inputs = inputs,
    .state_size = sizeof(pipe_perturbed_state),
    .create = create,
    .denoiser = PIPE_PERTURBED_STATE,
};
