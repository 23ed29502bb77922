/* Training: the only loop.  What is minimized comes from an objective, how from
 * an optimizer.
 *
 * All weights are one vector, so a step records, beside the objective's own graph,
 * a handful of elementwise operations over it: norm, clipping, update, average.
 * Nothing is read back but the sums of what is reported, every `log_every` steps.
 *
 * A checkpoint holds all that a step depends on: weights, their average, the
 * optimizer's vectors, the model's buffers, the sums.  Batches and random numbers
 * depend on the step's number alone.  So a resumed run computes the same bits. */
#include <pipe/pipe.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CONSTANT, COSINE, LINEAR };

static const char *const schedules[] = {"constant", "cosine", "linear", NULL};

typedef struct {
    pipe_object *model, *objective, *data, *optimizer;
    int64_t steps, batch, schedule, warmup, accumulate, log_every, checkpoint_every;
    double learning_rate, final, ema, clip;
    pipe_ints keep;
} state;

static const pipe_input inputs[] = {
    PIPE_INPUT(state, model,
               PIPE_KIND_DENOISER "|" PIPE_KIND_CLASSIFIER "|" PIPE_KIND_ENCODER "|" PIPE_KIND_DECODER,
               "the network to train; one that has weights already is trained on from them"),
    PIPE_INPUT(state, objective, PIPE_KIND_OBJECTIVE, "what to minimize"),
    PIPE_INPUT_OPTIONAL(state, data, PIPE_KIND_DATASET, "what to learn from; some objectives need none"),
    PIPE_INPUT_DEFAULT(state, optimizer, PIPE_KIND_OPTIMIZER, "adamw", "how to minimize"), PIPE_INPUT_END};

static const pipe_output outputs[] = {
    PIPE_OUTPUT_LIKE("model", "model", "the trained network; with `ema`, the average of its weights"),
    PIPE_OUTPUT(
        "kept", PIPE_KIND_DATASET,
        "weights of the steps in `keep`, a row each, as `model` would have been then: fit.kept makes a "
        "network of one"),
    PIPE_OUTPUT_END};

static const pipe_param params[] = {
    PIPE_INT(state, steps, 1000, 1, 1000000000, "steps",
             "updates of the weights; more takes longer and fits better"),
    PIPE_INT(state, batch, 64, 1, 1000000, "samples", "per update; more is slower per step and steadier"),
    PIPE_FLOAT(state, learning_rate, 0.0005, 0.0, 100.0, NULL,
               "size of the updates; higher learns faster until it diverges"),
    PIPE_CHOICE(
        state, schedule, "constant", schedules,
        "of the learning rate after the warm-up: constant, or falling to `final` along a cosine or a line"),
    PIPE_FLOAT(state, final, 0.0, 0.0, 1.0, NULL,
               "learning rate of the last step, as a share of the full one"),
    PIPE_INT(state, warmup, 0, 0, 1000000000, "steps",
             "over which the learning rate grows to its full size; more starts more gently"),
    PIPE_FLOAT(state, ema, 0.0, 0.0, 0.999999, NULL,
               "memory of the average of the weights that is handed on; higher averages over more steps "
               "(0.999: about "
               "1,000), 0: the last weights.  It starts short and grows, so that early steps are forgotten"),
    PIPE_FLOAT(state, clip, 1.0, 0.0, 1e9, NULL,
               "largest norm of the gradient, larger ones are scaled down to it; lower is steadier and "
               "slower, 0: none"),
    PIPE_INT(state, accumulate, 1, 1, 100000, "batches",
             "whose gradients are averaged per update: larger batches in the same memory"),
    PIPE_INT(state, log_every, 50, 1, 1000000, "steps", "between reported values, which are means over them"),
    PIPE_INT(state, checkpoint_every, 500, 0, 1000000000, "steps",
             "between checkpoints; 0: only when asked to stop"),
    PIPE_INTS(
        state, keep, "[]", 0, 1000000000, "steps",
        "rising: after how many steps (0: before the first) the weights are kept, for a look at what was "
        "learned when"),
    PIPE_PARAM_END};

/* Every leaf here is held. */
typedef struct {
    const state *st;
    pipe_context *ctx;
    pipe_engine *engine;
    pipe_object *object; /* the clone that is trained */
    pipe_model *model;
    pipe_tensor *flat; /* the model's own leaf */
    pipe_tensor *mask, *average, *gradient, *sums;
    pipe_tensor **moment;
    int32_t n_moments;
    pipe_tensor **kept; /* one for each of `keep` */
    char (*kept_name)[32]; /* "kept.3" */
    size_t n_kept;
    size_t n_sums; /* loss, gradient norm, what the objective reports */
    char (*sum_name)[64];
    pipe_saved *saved;
    size_t n_saved;
    char detail[64]; /* the last loss, for the progress line */
    uint64_t last_saved;
} training;

static void training_free(training *t)
{
    pipe_keep(&t->mask, NULL);
    pipe_keep(&t->average, NULL);
    pipe_keep(&t->gradient, NULL);
    pipe_keep(&t->sums, NULL);
    for (int32_t k = 0; k < t->n_moments; k++)
        pipe_keep(&t->moment[k], NULL);
    for (size_t k = 0; k < t->n_kept; k++)
        pipe_keep(&t->kept[k], NULL);
    pipe_free(t->moment);
    pipe_free(t->kept);
    pipe_free(t->kept_name);
    pipe_free(t->sum_name);
    pipe_free(t->saved);
    pipe_object_unref(t->object);
}

static void batch_free(pipe_batch **b)
{
    pipe_batch_free(*b);
}

/* ---- preparation ---- */

/* Runs the objective once: the network defines its weights by running. */
static pipe_status build(training *t, pipe_error *err)
{
    PIPE_CLEANUP(batch_free) pipe_batch *b = NULL;
    const char *name;
    pipe_tensor *value;
    pipe_status status;

    PIPE_TRY(pipe_batch_new(t->ctx, t->st->data, t->st->batch, 0, &b, err));
    PIPE_TRY(pipe_model_build_begin(t->model, err));
    pipe_tensor *loss = pipe_objective_loss(t->st->objective, t->object, b);
    status = pipe_check(loss, err);
    if (status == PIPE_OK && pipe_count(loss) != 1)
        status = pipe_fail(err, PIPE_EPLUGIN, "the objective's loss has %" PRId64 " values; it must have one",
                           pipe_count(loss));
    for (t->n_sums = 2; pipe_batch_reported(b, t->n_sums - 2, &name, &value);)
        t->n_sums++;
    t->sum_name = pipe_alloc_array(t->n_sums, sizeof *t->sum_name);
    for (size_t k = 2; k < t->n_sums && pipe_batch_reported(b, k - 2, &name, &value); k++) {
        strncpy(t->sum_name[k], name, sizeof t->sum_name[k] - 1);
        if (status == PIPE_OK)
            status = pipe_check(value, err);
    }
    if (status != PIPE_OK) {
        (void)pipe_model_build_end(t->model, NULL); /* throws the recording away */
        return status;
    }
    PIPE_TRY(pipe_model_build_end(t->model, err));
    if (pipe_model_count(t->model) == 0)
        return pipe_fail(err, PIPE_EINVAL,
                         "%s: the objective does not run this network: there are no weights to train",
                         pipe_object_name(t->object));
    return PIPE_OK;
}

/* 1 where weight decay applies: matrices and kernels; not biases, gains, padding. */
static pipe_status make_mask(training *t, pipe_error *err)
{
    const pipe_weight_info *info;
    const size_t n = pipe_model_weights(t->model, &info);
    PIPE_CLEANUP(pipe_free_ptr)
    float *mask = pipe_alloc_array((size_t)pipe_model_count(t->model), sizeof *mask);

    for (size_t k = 0; k < n; k++)
        for (int64_t j = 0; info[k].shape.rank >= 2 && j < pipe_shape_count(&info[k].shape); j++)
            mask[info[k].offset + j] = 1.0f;
    pipe_keep(&t->mask, pipe_from_f32(t->engine, PIPE_SHAPE(pipe_model_count(t->model)), mask));
    return pipe_check(t->mask, err);
}

static pipe_status zero_leaf(training *t, int64_t n, pipe_tensor **slot, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) float *zeros = pipe_try_alloc((size_t)n * sizeof *zeros);

    if (!zeros)
        return pipe_fail(err, PIPE_ENOMEM, "no memory for %" PRId64 " numbers", n);
    pipe_keep(slot, pipe_from_f32(t->engine, PIPE_SHAPE(n), zeros));
    return pipe_check(*slot, err);
}

static void save_item(training *t, const char *name, pipe_tensor *leaf)
{
    t->saved[t->n_saved++] = (pipe_saved){.name = name, .tensor = leaf};
}

/* All that a step depends on. */
static void list_saved(training *t)
{
    static const char *const moment_names[] = {"optimizer.0", "optimizer.1", "optimizer.2", "optimizer.3"};
    size_t n_buffers = 0;
    const char *name;
    pipe_tensor *leaf;

    while (pipe_model_buffer_at(t->model, n_buffers, &name))
        n_buffers++;
    t->saved = pipe_alloc_array(3 + (size_t)t->n_moments + t->n_kept + n_buffers, sizeof *t->saved);
    save_item(t, "weights", t->flat);
    save_item(t, "sums", t->sums);
    if (t->average)
        save_item(t, "average", t->average);
    for (int32_t k = 0; k < t->n_moments; k++)
        save_item(t, moment_names[k], t->moment[k]);
    for (size_t k = 0; k < t->n_kept; k++)
        save_item(t, t->kept_name[k], t->kept[k]);
    for (size_t k = 0; (leaf = pipe_model_buffer_at(t->model, k, &name)); k++)
        save_item(t, name, leaf);
}

static pipe_status check_keep(const training *t, pipe_error *err)
{
    const pipe_ints keep = t->st->keep;
    const char *name;

    for (size_t k = 0; k < keep.n; k++)
        if (keep.v[k] > t->st->steps || (k > 0 && keep.v[k] <= keep.v[k - 1]))
            return pipe_fail(err, PIPE_EINVAL,
                             "keep: step %" PRId64 "; the steps must rise, from 0 to at most %" PRId64,
                             keep.v[k], t->st->steps);
    if (keep.n > 0 && pipe_model_buffer_at(t->model, 0, &name))
        return pipe_fail(err, PIPE_EUNSUPPORTED,
                         "keep: %s has running statistics (`%s`), which are not kept with the weights",
                         pipe_object_name(t->object), name);
    return PIPE_OK;
}

static pipe_status prepare(training *t, pipe_error *err)
{
    const state *st = t->st;
    pipe_dataset_info info;

    if (!pipe_object_model(st->model))
        return pipe_fail(err, PIPE_EINVAL, "%s has no weights to train: %s is computed from other nodes",
                         pipe_object_name(st->model), pipe_object_plugin(st->model)->name);
    if (st->data)
        PIPE_TRY(pipe_dataset_describe(st->data, &info, err));
    PIPE_TRY(pipe_object_clone(st->model, t->ctx, &t->object, err));
    t->model = pipe_object_model(t->object);
    PIPE_TRY(pipe_objective_declare(st->objective, t->object, st->data ? &info : NULL, err));
    pipe_model_set_training(t->model, true, 0);
    PIPE_TRY(build(t, err));
    if (pipe_model_built(pipe_object_model(st->model)))
        PIPE_TRY(pipe_model_copy(t->model, pipe_object_model(st->model), err));

    const int64_t n = pipe_model_count(t->model);
    t->flat = pipe_model_flat(t->model);
    PIPE_TRY(make_mask(t, err));
    PIPE_TRY(zero_leaf(t, (int64_t)t->n_sums, &t->sums, err));
    if (st->accumulate > 1)
        PIPE_TRY(zero_leaf(t, n, &t->gradient, err));
    const int32_t moments = pipe_optimizer_state_count(st->optimizer);
    if (moments < 0 || moments > 4)
        return pipe_fail(err, PIPE_EPLUGIN, "%s: an optimizer may keep 0 to 4 vectors, not %d",
                         pipe_object_name(st->optimizer), moments);
    t->moment = pipe_alloc_array(4, sizeof(pipe_tensor *));
    for (; t->n_moments < moments; t->n_moments++)
        PIPE_TRY(zero_leaf(t, n, &t->moment[t->n_moments], err));
    if (st->ema > 0.0) {
        PIPE_TRY(zero_leaf(t, n, &t->average, err));
        PIPE_TRY(pipe_assign(t->average, t->flat, err));
    }
    PIPE_TRY(check_keep(t, err));
    t->kept = pipe_alloc_array(st->keep.n + 1, sizeof(pipe_tensor *));
    t->kept_name = pipe_alloc_array(st->keep.n + 1, sizeof *t->kept_name);
    for (; t->n_kept < st->keep.n; t->n_kept++) {
        snprintf(t->kept_name[t->n_kept], sizeof *t->kept_name, "kept.%zu", t->n_kept);
        PIPE_TRY(zero_leaf(t, n, &t->kept[t->n_kept], err));
    }
    list_saved(t);
    return pipe_eval(t->engine, err);
}

/* ---- a step ---- */

static double learning_rate(const state *st, uint64_t step)
{
    const double warmup = (double)st->warmup, at = (double)step,
                 left = fmax(1.0, (double)st->steps - 1.0 - warmup);
    const double done = fmin(1.0, fmax(0.0, (at - warmup) / left));
    double share = 1.0;

    if (at < warmup)
        return st->learning_rate * (at + 1.0) / (warmup + 1.0);
    if (st->schedule == COSINE)
        share = 0.5 * (1.0 + cos(3.14159265358979323846 * done));
    else if (st->schedule == LINEAR)
        share = 1.0 - done;
    return st->learning_rate * (st->final + (1.0 - st->final) * share);
}

/* The new sums: old + [share loss, norm, share reports ...]; `norm` is NULL but for a step's last part. */
static pipe_status add_sums(training *t, pipe_batch *b, pipe_tensor *loss, pipe_tensor *norm, double share,
                            pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) pipe_tensor **part = pipe_alloc_array(t->n_sums, sizeof(pipe_tensor *));
    const char *name;

    part[0] = pipe_reshape(pipe_scale(loss, share), PIPE_SHAPE(1));
    part[1] = norm ? pipe_reshape(norm, PIPE_SHAPE(1)) : pipe_zeros(t->engine, PIPE_SHAPE(1));
    for (size_t k = 2; k < t->n_sums; k++) {
        if (!pipe_batch_reported(b, k - 2, &name, &part[k]))
            return pipe_fail(err, PIPE_EPLUGIN, "the objective reported %zu values at first, now %zu",
                             t->n_sums - 2, k - 2);
        part[k] = pipe_reshape(pipe_scale(part[k], share), PIPE_SHAPE(1));
    }
    return pipe_assign(t->sums, pipe_add(t->sums, pipe_concat(part, t->n_sums, 0)), err);
}

static pipe_status update(training *t, uint64_t step, pipe_tensor *g, pipe_error *err)
{
    pipe_tensor *next[4] = {NULL};
    pipe_update u = {.size = sizeof u,
                     .p = t->flat,
                     .g = g,
                     .state = t->moment,
                     .state_new = next,
                     .learning_rate = learning_rate(t->st, step),
                     .step = step + 1,
                     .decay_mask = t->mask};

    PIPE_TRY(pipe_optimizer_update(t->st->optimizer, &u, err));
    for (int32_t k = 0; k < t->n_moments; k++)
        PIPE_TRY(pipe_assign(t->moment[k], next[k], err));
    PIPE_TRY(pipe_assign(t->flat, u.p_new, err));
    if (!t->average)
        return PIPE_OK;
    const double decay = fmin(t->st->ema, (1.0 + (double)step) / (10.0 + (double)step));
    return pipe_assign(t->average, pipe_axpby(decay, t->average, 1.0 - decay, u.p_new), err);
}

/* Adds part `k` of the step's gradient, and updates the weights after the last part. */
static pipe_status part_of_step(training *t, uint64_t step, int64_t k, pipe_error *err)
{
    PIPE_CLEANUP(batch_free) pipe_batch *b = NULL;
    const double share = 1.0 / (double)t->st->accumulate;
    const uint64_t number = step * (uint64_t)t->st->accumulate + (uint64_t)k;
    pipe_tensor *g, *norm;

    PIPE_TRY(pipe_batch_new(t->ctx, t->st->data, t->st->batch, number, &b, err));
    pipe_model_set_training(t->model, true, number);
    pipe_tensor *loss = pipe_objective_loss(t->st->objective, t->object, b);
    PIPE_TRY(pipe_grad(loss, NULL, &t->flat, 1, &g, err));
    if (t->gradient)
        g = k == 0 ? pipe_scale(g, share) : pipe_axpby(1.0, t->gradient, share, g);
    if (k + 1 < t->st->accumulate) {
        PIPE_TRY(pipe_assign(t->gradient, g, err));
        PIPE_TRY(add_sums(t, b, loss, NULL, share, err));
        return pipe_eval(t->engine, err);
    }
    norm = pipe_sqrt(pipe_sum_all(pipe_square(g)));
    PIPE_TRY(add_sums(t, b, loss, norm, share, err));
    if (t->st->clip > 0.0) {
        pipe_tensor *limit = pipe_constant(t->engine, t->st->clip);
        g = pipe_mul(g, pipe_div(limit, pipe_maximum(norm, limit)));
    }
    PIPE_TRY(update(t, step, g, err));
    return pipe_eval(t->engine, err);
}

/* ---- reports and checkpoints ---- */

static pipe_status diverged(const training *t, uint64_t step, const char *what, double value, pipe_error *err)
{
    char last[96] = "there is no checkpoint before it";

    if (t->last_saved)
        snprintf(last, sizeof last, "the last good checkpoint is that of step %" PRIu64, t->last_saved);
    return pipe_fail(err, PIPE_EDOMAIN,
                     "by step %" PRIu64
                     " the %s is %g; %s; a lower learning_rate (now %g) or a lower clip (%g) may help",
                     step, what, value, last, t->st->learning_rate, t->st->clip);
}

static pipe_status read_sums(const training *t, float *sums, uint64_t done, pipe_error *err)
{
    PIPE_TRY(pipe_read_f32(t->sums, sums, t->n_sums, err));
    if (!isfinite(sums[0]))
        return diverged(t, done, "loss", sums[0], err);
    return isfinite(sums[1]) ? PIPE_OK : diverged(t, done, "norm of the gradient", sums[1], err);
}

/* Means over the `count` steps before step `done`. */
static pipe_status report(training *t, uint64_t done, uint64_t count, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) float *sums = pipe_alloc_array(t->n_sums, sizeof *sums);

    PIPE_TRY(read_sums(t, sums, done, err));
    PIPE_TRY(pipe_report_at(t->ctx, done, "loss", sums[0] / (double)count, err));
    PIPE_TRY(pipe_report_at(t->ctx, done, "learning_rate", learning_rate(t->st, done - 1), err));
    PIPE_TRY(pipe_report_at(t->ctx, done, "gradient_norm", sums[1] / (double)count, err));
    for (size_t k = 2; k < t->n_sums; k++)
        PIPE_TRY(pipe_report_at(t->ctx, done, t->sum_name[k], sums[k] / (double)count, err));
    snprintf(t->detail, sizeof t->detail, "loss %.4g", sums[0] / (double)count);
    PIPE_TRY(pipe_assign(t->sums, pipe_zeros(t->engine, PIPE_SHAPE((int64_t)t->n_sums)), err));
    return pipe_eval(t->engine, err);
}

/* Weights that are not finite are never saved: the sums show them. */
static pipe_status save(training *t, uint64_t done, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) float *sums = pipe_alloc_array(t->n_sums, sizeof *sums);

    if (t->last_saved == done)
        return PIPE_OK;
    PIPE_TRY(read_sums(t, sums, done, err));
    PIPE_TRY(pipe_checkpoint_save(t->ctx, done, t->saved, t->n_saved, err));
    t->last_saved = done;
    return PIPE_OK;
}

/* The weights that would be handed on after `done` steps, where they are wanted. */
static pipe_status keep_weights(training *t, uint64_t done, pipe_error *err)
{
    for (size_t k = 0; k < t->n_kept; k++)
        if ((uint64_t)t->st->keep.v[k] == done) {
            PIPE_TRY(pipe_assign(t->kept[k], t->average ? t->average : t->flat, err));
            return pipe_eval(t->engine, err);
        }
    return PIPE_OK;
}

static pipe_status after_step(training *t, uint64_t done, pipe_error *err)
{
    const uint64_t steps = (uint64_t)t->st->steps, every = (uint64_t)t->st->log_every;
    const uint64_t at = (uint64_t)t->st->checkpoint_every;
    bool wanted = false;

    PIPE_TRY(keep_weights(t, done, err));
    if (done % every == 0 || done == steps)
        PIPE_TRY(report(t, done, done % every ? done % every : every, err));
    pipe_progress(t->ctx, done, steps, "steps", t->detail);
    const bool stop = pipe_stop_requested(t->ctx, &wanted);
    if (done == steps)
        return PIPE_OK; /* the result is the checkpoint */
    if (stop || wanted || (at && done % at == 0))
        PIPE_TRY(save(t, done, err));
    if (stop)
        return pipe_fail(err, PIPE_EINTERRUPTED,
                         "stopped after step %" PRIu64 " of %" PRIu64 "; a checkpoint is saved", done, steps);
    return PIPE_OK;
}

static pipe_status yield_kept(training *t, pipe_error *err)
{
    const int64_t n = pipe_model_count(t->model);
    const pipe_dataset_info info = {
        .size = sizeof info,
        .count = t->n_kept,
        .n_fields = 2,
        .field = {{.name = "weights", .shape = PIPE_SHAPE(n), .dtype = PIPE_F32},
                  {.name = "step", .dtype = PIPE_I32}},
    };
    pipe_dataset *d = NULL;
    pipe_status status;

    PIPE_TRY(pipe_dataset_new(t->ctx, &info, &d, err));
    float *weights = pipe_dataset_data(d, 0);
    int32_t *step = pipe_dataset_data(d, 1);
    status = PIPE_OK;
    for (size_t k = 0; k < t->n_kept && status == PIPE_OK; k++) {
        step[k] = (int32_t)t->st->keep.v[k];
        status = pipe_read_f32(t->kept[k], weights + k * (size_t)n, (size_t)n, err);
    }
    if (status == PIPE_OK)
        status = pipe_yield(t->ctx, "kept", d, err);
    pipe_object_unref(d);
    return status;
}

static pipe_status finish(training *t, pipe_error *err)
{
    if (t->average)
        PIPE_TRY(pipe_assign(t->flat, t->average, err));
    PIPE_TRY(pipe_eval(t->engine, err));
    pipe_model_set_training(t->model, false, 0);
    PIPE_TRY(pipe_report(t->ctx, "parameters", (double)pipe_model_parameters(t->model), err));
    PIPE_TRY(yield_kept(t, err));
    return pipe_yield(t->ctx, "model", t->object, err);
}

static pipe_status run(void *self, pipe_context *ctx, pipe_error *err)
{
    PIPE_CLEANUP(training_free) training t = {.st = self, .ctx = ctx, .engine = pipe_context_engine(ctx)};
    uint64_t step = 0;

    PIPE_TRY(prepare(&t, err));
    PIPE_TRY(pipe_checkpoint_load(ctx, &step, t.saved, t.n_saved, err));
    t.last_saved = step;
    pipe_context_log(ctx, PIPE_LOG_INFO,
                     "%s: %" PRId64 " parameters, %" PRId64 " steps of %" PRId64 " samples",
                     pipe_object_name(t.object), pipe_model_parameters(t.model), t.st->steps,
                     t.st->batch * t.st->accumulate);
    pipe_progress(ctx, step, (uint64_t)t.st->steps, "steps", NULL);
    if (step == 0)
        PIPE_TRY(keep_weights(&t, 0, err));
    for (; step < (uint64_t)t.st->steps; step++) {
        for (int64_t k = 0; k < t.st->accumulate; k++) {
            const pipe_status status = part_of_step(&t, step, k, err);
            if (status != PIPE_OK)
                return pipe_context_fail(err, status, "step %" PRIu64, step + 1);
        }
        PIPE_TRY(after_step(&t, step + 1, err));
    }
    return finish(&t, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_STEP),
    .name = "fit",
    .version = "1.1.0",
    .licence = "MIT",
    .summary = "train a network",
    .help =
        "Reports the curves loss, gradient_norm (before clipping) and learning_rate, and what the objective "
        "reports, "
        "as means over log_every steps.  A run that is stopped or killed goes on from its last checkpoint "
        "(--resume) and ends with the same bits.",
    .example = "model: {plugin: fit, model: unet, objective: ddpm, data: data, steps: 3000, batch: 64}",
    .params = params,
    .inputs = inputs,
    .outputs = outputs,
    .state_size = sizeof(state),
    .run = run,
};
