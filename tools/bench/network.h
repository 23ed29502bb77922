/* A network with what a training step needs, on an engine of its own (so that its peak
 * of memory is its own).  The step is that of any trainer, without data, clipping and
 * averages: mean squared error over a fixed batch, gradients, AdamW. */
#ifndef PIPE_TOOLS_BENCH_NETWORK_H
#define PIPE_TOOLS_BENCH_NETWORK_H

#include "bench.h"

typedef struct network_case {
    const char *name, *about; /* "unet"; of the row: "channels 32, 28x28x1" */
    const char *plugin;
    const char *const *params;
    pipe_shape batch; /* of the training step */
} network_case;

enum { NETWORK_MOMENTS = 2 };

typedef struct network {
    const network_case *what;
    pipe_engine *engine;
    pipe_context *ctx;
    pipe_object *net, *schedule, *optimizer;
    pipe_model *model;
    double *t; /* [batch] */
    pipe_tensor *x, *one, *target; /* one: the first sample alone */
    pipe_tensor *mask, *moment[NETWORK_MOMENTS];
    pipe_tensor *output, *loss; /* of the last pass, of the last step */
    uint64_t steps;
} network;

/* The network with initial weights; network_close() also after a failure. */
pipe_status network_open(bench *b, const network_case *what, network *n, pipe_error *err);
void network_close(network *n);

/* Records; what is recorded is computed by the next pipe_eval(). */
pipe_tensor *network_forward(network *n, pipe_tensor *x); /* at time 0.5 */
pipe_status network_step(network *n, pipe_error *err);

/* Floating point operations of products, convolutions and attention in what is
 * recorded now. */
double network_count(pipe_engine *e);

/* DIR/NAME.weights.safetensors and DIR/NAME.results.safetensors: x, t, target, output,
 * loss and gradient.WEIGHT, of the weights as they are. */
pipe_status network_export(network *n, const char *folder, pipe_error *err);

extern const network_case network_unet, network_dit, network_mlp;

#endif
