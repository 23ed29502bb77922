/* Stochastic gradient descent with momentum, in the form of Sutskever et al. 2013
 * that PyTorch uses: the buffer holds gradients, not steps. */
#include <pipe/pipe.h>

typedef struct {
    double momentum, weight_decay;
    bool nesterov;
} state;

static const pipe_param params[] = {
    PIPE_FLOAT(state, momentum, 0.9, 0.0, 0.9999, NULL,
               "memory of past gradients; higher is faster along valleys and overshoots more"),
    PIPE_BOOL(state, nesterov, false, "look ahead along the momentum before stepping"),
    PIPE_FLOAT(state, weight_decay, 0.0, 0.0, 100.0, NULL,
               "pull of matrices towards 0, added to the gradient; biases and gains are left alone"),
    PIPE_PARAM_END};

static pipe_status update(void *self, pipe_update *u, pipe_error *err)
{
    const state *st = self;
    pipe_tensor *g = u->g, *direction;

    (void)err;
    if (st->weight_decay > 0.0)
        g = pipe_axpby(1.0, g, st->weight_decay, pipe_mul(u->p, u->decay_mask));
    u->state_new[0] = pipe_axpby(st->momentum, u->state[0], 1.0, g);
    direction = st->nesterov ? pipe_axpby(1.0, g, st->momentum, u->state_new[0]) : u->state_new[0];
    u->p_new = pipe_axpby(1.0, u->p, -u->learning_rate, direction);
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_OPTIMIZER),
    .name = "optimizer.sgd",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "gradient descent with momentum",
    .example = "sgd: {plugin: optimizer.sgd, momentum: 0.9, nesterov: true}",
    .params = params,
    .state_size = sizeof(state),
    .optimizer = {.state_count = 1, .update = update},
};
