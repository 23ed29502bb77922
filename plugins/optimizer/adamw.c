/* AdamW: Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    double beta1, beta2, epsilon, weight_decay;
} state;

static const pipe_param params[] = {
    PIPE_FLOAT(state, beta1, 0.9, 0.0, 0.99999, NULL,
               "memory of the gradient; higher averages over more steps"),
    PIPE_FLOAT(state, beta2, 0.999, 0.0, 0.999999, NULL,
               "memory of its square; lower adapts faster and is noisier"),
    PIPE_FLOAT(state, epsilon, 1e-8, 1e-20, 1.0, NULL,
               "floor of the divisor; higher tames rare, small gradients"),
    PIPE_FLOAT(state, weight_decay, 0.01, 0.0, 100.0, NULL,
               "pull of matrices towards 0 per unit of learning rate; biases and gains are left alone"),
    PIPE_PARAM_END};

static pipe_status update(void *self, pipe_update *u, pipe_error *err)
{
    const state *st = self;
    const double correction1 = 1.0 - pow(st->beta1, (double)u->step);
    const double correction2 = 1.0 - pow(st->beta2, (double)u->step);
    pipe_tensor *m = pipe_axpby(st->beta1, u->state[0], 1.0 - st->beta1, u->g);
    pipe_tensor *v = pipe_axpby(st->beta2, u->state[1], 1.0 - st->beta2, pipe_square(u->g));
    pipe_tensor *divisor = pipe_affine(pipe_sqrt(pipe_scale(v, 1.0 / correction2)), 1.0, st->epsilon);
    pipe_tensor *p = u->p;

    (void)err;
    if (st->weight_decay > 0.0)
        p = pipe_mul(p, pipe_affine(u->decay_mask, -u->learning_rate * st->weight_decay, 1.0));
    u->p_new = pipe_axpby(1.0, p, -u->learning_rate / correction1, pipe_div(m, divisor));
    u->state_new[0] = m;
    u->state_new[1] = v;
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_OPTIMIZER),
    .name = "optimizer.adamw",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "Adam with decoupled weight decay",
    .citation = "arXiv:1711.05101",
    .example = "adam: {plugin: optimizer.adamw, weight_decay: 0.01}",
    .params = params,
    .state_size = sizeof(state),
    .optimizer = {.state_count = 2, .update = update},
};
