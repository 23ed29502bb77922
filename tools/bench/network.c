/* Networks and their training step. */
#include "network.h"
#include "core/base/file.h"
#include "core/tensor/record.h"

#include <pipe/io.h>
#include <string.h>

/* The reference U-Net that the targets name. */
const network_case network_unet = {
    .name = "unet",
    .about = "32 channels, 28x28x1",
    .plugin = "denoiser.unet",
    .params = (const char *const[]){"channels", "32", "multipliers", "[1, 2, 2]", "blocks", "2", "heads", "4",
                                    "groups", "8", "zero_init", "false", NULL},
    .batch = PIPE_SHAPE(64, 28, 28, 1),
};
const network_case network_dit = {
    .name = "dit",
    .about = "depth 6, width 256, patch 2, 28x28x1",
    .plugin = "denoiser.dit",
    .params = (const char *const[]){"depth", "6", "width", "256", "heads", "4", "patch", "2", NULL},
    .batch = PIPE_SHAPE(64, 28, 28, 1),
};
const network_case network_mlp = {
    .name = "mlp",
    .about = "width 256, 2 values",
    .plugin = "denoiser.mlp",
    .params = (const char *const[]){"width", "256", "zero_init", "false", NULL},
    .batch = PIPE_SHAPE(1024, 2),
};

/* ---- making one ---- */

static pipe_status build(network *n, pipe_error *err)
{
    PIPE_TRY(pipe_model_build_begin(n->model, err));
    pipe_tensor *y = network_forward(n, pipe_zeros(n->engine, n->what->batch));
    const pipe_status status = pipe_check(y, err);
    if (status != PIPE_OK) {
        (void)pipe_model_build_end(n->model, NULL); /* throws the recording away */
        return status;
    }
    return pipe_model_build_end(n->model, err);
}

static double rank_of_row(const network *n, int64_t r)
{
    return ((double)r + 0.5) / (double)n->what->batch.dim[0];
}

/* A network that starts with layers of zeros has gradients of zero behind them: small
 * numbers everywhere make the step an ordinary one. */
static pipe_status disturb(network *n, pipe_error *err)
{
    pipe_tensor *flat = pipe_model_flat(n->model), *noise = NULL;
    const pipe_weight_info *info;
    const size_t count = pipe_model_weights(n->model, &info);
    PIPE_CLEANUP(pipe_free_ptr) float *mask = pipe_alloc_array((size_t)pipe_count(flat), sizeof *mask);

    for (size_t k = 0; k < count; k++)
        for (int64_t j = 0; j < pipe_shape_count(&info[k].shape); j++)
            mask[info[k].offset + j] = 0.02f;
    PIPE_TRY(bench_leaf(n->engine, PIPE_SHAPE(pipe_count(flat)), 3, &noise, err));
    pipe_status status = pipe_assign(
        flat, pipe_add(flat, pipe_mul(noise, pipe_from_f32(n->engine, PIPE_SHAPE(pipe_count(flat)), mask))),
        err);
    if (status == PIPE_OK)
        status = pipe_eval(n->engine, err);
    pipe_keep(&noise, NULL);
    return status;
}

/* 1 where the optimizer's weight decay applies. */
static pipe_status fill_state(network *n, pipe_error *err)
{
    const int64_t count = pipe_model_count(n->model);
    const pipe_weight_info *info;
    const size_t weights = pipe_model_weights(n->model, &info);
    PIPE_CLEANUP(pipe_free_ptr) float *x = pipe_alloc_array((size_t)count, sizeof *x);

    for (int k = 0; k < NETWORK_MOMENTS; k++)
        pipe_keep(&n->moment[k], pipe_from_f32(n->engine, PIPE_SHAPE(count), x));
    for (size_t k = 0; k < weights; k++)
        for (int64_t j = 0; info[k].shape.rank >= 2 && j < pipe_shape_count(&info[k].shape); j++)
            x[info[k].offset + j] = 1.0f;
    pipe_keep(&n->mask, pipe_from_f32(n->engine, PIPE_SHAPE(count), x));
    return pipe_check(n->mask, err);
}

pipe_status network_open(bench *b, const network_case *what, network *n, pipe_error *err)
{
    pipe_shape one = what->batch;

    *n = (network){.what = what, .t = pipe_alloc_array((size_t)what->batch.dim[0], sizeof *n->t)};
    one.dim[0] = 1;
    for (int64_t r = 0; r < what->batch.dim[0]; r++)
        n->t[r] = rank_of_row(n, r);
    PIPE_TRY(pipei_engine_new(b->device, b->profile, &n->engine, err));
    PIPE_TRY(pipei_context_standalone(n->engine, what->name, 1, NULL, &n->ctx, err));
    PIPE_TRY(bench_object(b, "schedule.cosine", NULL, n->ctx, &n->schedule, err));
    PIPE_TRY(bench_object(b, "optimizer.adamw", NULL, n->ctx, &n->optimizer, err));
    PIPE_TRY(bench_object(b, what->plugin, what->params, n->ctx, &n->net, err));
    n->model = pipe_object_model(n->net);
    PIPE_TRY(build(n, err));
    PIPE_TRY(disturb(n, err));
    PIPE_TRY(bench_leaf(n->engine, what->batch, 1, &n->x, err));
    PIPE_TRY(bench_leaf(n->engine, what->batch, 2, &n->target, err));
    PIPE_TRY(bench_leaf(n->engine, one, 1, &n->one, err));
    return PIPE_OK;
}

void network_close(network *n)
{
    pipe_tensor **const held[] = {&n->x, &n->one, &n->target, &n->mask, &n->output, &n->loss};

    if (!n->engine) {
        pipe_free(n->t);
        return;
    }
    for (size_t k = 0; k < sizeof held / sizeof held[0]; k++)
        pipe_keep(held[k], NULL);
    for (int k = 0; k < NETWORK_MOMENTS; k++)
        pipe_keep(&n->moment[k], NULL);
    pipe_object_unref(n->net);
    pipe_object_unref(n->optimizer);
    pipe_object_unref(n->schedule);
    pipei_context_free(n->ctx);
    pipei_engine_free(n->engine);
    pipe_free(n->t);
}

/* ---- running it ---- */

pipe_tensor *network_forward(network *n, pipe_tensor *x)
{
    const pipe_level level = pipe_level_uniform(n->schedule, n->engine, pipe_dim(x, 0), 0.5);

    return pipe_denoise(n->net, x, &level, NULL);
}

static pipe_tensor *loss_of(network *n, pipe_tensor **output)
{
    const pipe_level level = pipe_level_of(n->schedule, n->engine, n->t, n->what->batch.dim[0]);

    *output = pipe_denoise(n->net, n->x, &level, NULL);
    return pipe_mse(*output, n->target);
}

pipe_status network_step(network *n, pipe_error *err)
{
    pipe_tensor *flat = pipe_model_flat(n->model), *next[NETWORK_MOMENTS] = {NULL}, *output, *g;

    if (!n->mask)
        PIPE_TRY(fill_state(n, err));
    pipe_model_set_training(n->model, true, n->steps);
    pipe_tensor *loss = loss_of(n, &output);
    PIPE_TRY(pipe_grad(loss, NULL, &flat, 1, &g, err));
    pipe_update u = {.size = sizeof u,
                     .p = flat,
                     .g = g,
                     .state = n->moment,
                     .state_new = next,
                     .learning_rate = 1e-4,
                     .step = ++n->steps,
                     .decay_mask = n->mask};
    PIPE_TRY(pipe_optimizer_update(n->optimizer, &u, err));
    for (int k = 0; k < NETWORK_MOMENTS; k++)
        PIPE_TRY(pipe_assign(n->moment[k], next[k], err));
    PIPE_TRY(pipe_assign(flat, u.p_new, err));
    pipe_keep(&n->loss, loss);
    return PIPE_OK;
}

/* ---- what it costs ---- */

static double cost_of(const pipe_tensor *t)
{
    const pipe_shape *b = t->n_in > 1 ? &t->in[1]->shape : NULL;

    if (strcmp(t->op->name, "matmul") == 0) /* each number of the first factor meets a row of the second */
        return 2.0 * (double)t->in[0]->count * (double)t->shape.dim[t->shape.rank - 1];
    if (strcmp(t->op->name, "conv2d") == 0)
        return 2.0 * (double)t->count * (double)(b->dim[0] * b->dim[1] * b->dim[2]);
    if (strcmp(t->op->name, "attention") == 0)
        return 4.0 * (double)t->count * (double)b->dim[1];
    return 0.0;
}

double network_count(pipe_engine *e)
{
    size_t n;
    pipe_tensor *const *list = pipei_recording(e, &n);
    double sum = 0.0;

    for (size_t k = 0; k < n; k++)
        if (list[k]->state == PIPEI_NODE)
            sum += cost_of(list[k]);
    return sum;
}

/* ---- for comparisons ---- */

/* `x` is freed with the writer, or now. */
static pipe_status add_numbers(pipe_safetensors_writer *w, const char *name, pipe_shape shape, float *x,
                               pipe_error *err)
{
    const pipe_array a = PIPE_ARRAY_F32(shape, x);

    return pipe_safetensors_take(w, name, &a, err);
}

static pipe_status add_tensor(pipe_safetensors_writer *w, const char *name, pipe_tensor *t, pipe_error *err)
{
    const pipe_shape shape = *pipe_tensor_shape(t);
    const size_t n = (size_t)pipe_shape_count(&shape);
    float *x = pipe_alloc_array(n + 1, sizeof *x);
    const pipe_status status = pipe_read_f32(t, x, n, err);

    if (status == PIPE_OK)
        return add_numbers(w, name, shape, x, err);
    pipe_free(x);
    return status;
}

static pipe_status add_gradients(pipe_safetensors_writer *w, const network *n, pipe_tensor *g,
                                 pipe_error *err)
{
    const size_t count = (size_t)pipe_count(g);
    PIPE_CLEANUP(pipe_free_ptr) float *all = pipe_alloc_array(count + 1, sizeof *all);
    const pipe_weight_info *info;
    const size_t weights = pipe_model_weights(n->model, &info);

    PIPE_TRY(pipe_read_f32(g, all, count, err));
    for (size_t k = 0; k < weights; k++) {
        const size_t size = (size_t)pipe_shape_count(&info[k].shape);
        PIPE_CLEANUP(pipe_free_ptr) char *name = pipe_format("gradient.%s", info[k].name);
        float *x = pipe_alloc_array(size + 1, sizeof *x);
        memcpy(x, all + info[k].offset, size * sizeof *x);
        PIPE_TRY(add_numbers(w, name, info[k].shape, x, err));
    }
    return PIPE_OK;
}

static pipe_status add_results(pipe_safetensors_writer *w, network *n, pipe_tensor **loss,
                               pipe_tensor **output, pipe_tensor **g, pipe_error *err)
{
    const int64_t rows = n->what->batch.dim[0];
    pipe_tensor *flat = pipe_model_flat(n->model), *y, *gradient;
    float *t = pipe_alloc_array((size_t)rows, sizeof *t);

    for (int64_t r = 0; r < rows; r++)
        t[r] = (float)n->t[r];
    PIPE_TRY(add_numbers(w, "t", PIPE_SHAPE(rows), t, err));
    PIPE_TRY(add_tensor(w, "x", n->x, err));
    PIPE_TRY(add_tensor(w, "target", n->target, err));
    pipe_tensor *l = loss_of(n, &y);
    PIPE_TRY(pipe_grad(l, NULL, &flat, 1, &gradient, err));
    pipe_keep(loss, l);
    pipe_keep(output, y);
    pipe_keep(g, gradient);
    PIPE_TRY(pipe_eval(n->engine, err));
    PIPE_TRY(add_tensor(w, "loss", *loss, err));
    PIPE_TRY(add_tensor(w, "output", *output, err));
    return add_gradients(w, n, *g, err);
}

pipe_status network_export(network *n, const char *folder, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr)
    char *weights = pipe_format("%s/%s.weights.safetensors", folder, n->what->name);
    PIPE_CLEANUP(pipe_free_ptr)
    char *results = pipe_format("%s/%s.results.safetensors", folder, n->what->name);
    PIPE_CLEANUP(pipe_safetensors_writer_free_ptr) pipe_safetensors_writer *w = pipe_safetensors_writer_new();
    pipe_tensor *loss = NULL, *output = NULL, *g = NULL;

    PIPE_TRY(pipei_make_folders(folder, err));
    PIPE_TRY(pipe_model_save(n->model, weights, NULL, err));
    pipe_status status = add_results(w, n, &loss, &output, &g, err);
    pipe_keep(&loss, NULL);
    pipe_keep(&output, NULL);
    pipe_keep(&g, NULL);
    if (status == PIPE_OK)
        status = pipe_safetensors_write(w, results, err);
    return status;
}
