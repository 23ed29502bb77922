/* Executing a plan: steps in topological order; components, devices and cached
 * values when a step that really runs needs them, and only then.
 *
 * A cached value may turn out to be damaged when it is read.  Then its step runs
 * after all, in the middle of preparing its user: hence the recursion
 *
 *     run_step -> inputs_of -> value_of -> (component | outputs of a step -> run_step)
 *
 * which ends since the graph has no cycles. */
#include "core/run/session.h"
#include "core/run/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *pipei_task_state_name(pipei_task_state s)
{
    static const char *const names[] = {"waiting", "cached", "done", "failed", "skipped", "interrupted"};

    return names[s];
}

/* ---- what a step needs ---- */

pipe_status pipei_live(pipei_session *s, pipei_task *t, pipe_error *err)
{
    const pipei_plugin *p = t->node->plugin;

    if (t->plugin)
        return PIPE_OK;
    if (!p->path) {                             /* linked into this program: meta is the descriptor itself */
        t->plugin = &p->meta;
        return PIPE_OK;
    }
    const pipe_status status = pipei_registry_load(s->env->registry, p, &t->plugin, err);
    return status == PIPE_OK ? status : pipei_task_fail(t, status, err);
}

static const char *wanted_device(const pipei_session *s)
{
    const char *variable = getenv("PIPE_DEVICE");

    if (s->env->options->device)
        return s->env->options->device;
    if (s->graph->device && strcmp(s->graph->device, "auto") != 0)
        return s->graph->device;
    return variable && *variable ? variable : "auto";
}

pipe_status pipei_need_engine(pipei_session *s, pipe_error *err)
{
    pipei_environment *env = s->env;
    const char *device = wanted_device(s);

    if (env->engine && strcmp(env->device, device) != 0) {
        pipei_engine_free(env->engine);
        env->engine = NULL;
        pipe_free(env->device);
        env->device = NULL;
    }
    if (!env->engine) {
        PIPE_TRY(pipei_engine_new(device, env->options->device_profile, &env->engine, err));
        env->device = pipe_strdup(device);
        pipei_signals_keep();
        if (env->options->profile)
            PIPE_TRY(pipei_engine_profile(env->engine, true, err));
    }
    pipei_engine_observe(env->engine, s->trace ? pipei_trace_launch : NULL, s->trace);
    for (size_t k = 0; k < s->n; k++)
        s->task[k].ctx->engine = env->engine;
    return PIPE_OK;
}

static pipe_status run_step(pipei_session *s, pipei_task *t, pipe_error *err);

static bool is_damage(pipe_status status)
{
    return status == PIPE_EFORMAT || status == PIPE_ENOTFOUND || status == PIPE_ESHAPE;
}

/* Forgets a cached result that cannot be used, and computes it. */
static pipe_status recompute(pipei_session *s, pipei_task *t, const pipe_error *reason, pipe_error *err)
{
    int lock;

    pipe_log(PIPE_LOG_WARN, t->node->name, "the cached result is damaged and is computed again: %s",
             reason->message);
    PIPE_TRY(pipei_cache_lock(s->env->cache, t->key, true, true, &lock, err));
    const pipe_status status = pipei_cache_drop(s->env->cache, t->key, err);
    pipei_unlock(lock);
    PIPE_TRY(status);
    json_decref(t->result);
    t->result = NULL;
    pipe_free(t->why);
    t->why = pipe_strdup("its cached result is damaged");
    t->state = PIPEI_WAITING;
    t->loaded = false;
    return run_step(s, t, err);
}

/* The values of a step, from this run or from the cache. */
static pipe_status need_outputs(pipei_session *s, pipei_task *t, pipe_error *err)
{
    pipe_error reason = PIPE_ERROR_INIT;

    if (t->state == PIPEI_FAILED || t->state == PIPEI_SKIPPED)
        return pipe_fail(err, PIPE_EPIPELINE, "`%s` has failed", t->node->name);
    if (t->loaded)
        return PIPE_OK;
    if (!t->result) { /* released, and never in the cache: when a damaged user is redone */
        t->state = PIPEI_WAITING;
        PIPE_TRY(run_step(s, t, err));
        return t->loaded ? PIPE_OK : need_outputs(s, t, err);
    }
    const pipe_status status = pipei_load_outputs(s, t, &reason);
    if (status == PIPE_OK)
        return PIPE_OK;
    if (!is_damage(status))
        return pipe_fail(err, status, "%s", reason.message);
    return recompute(s, t, &reason, err);
}

static pipe_status step_value(pipei_session *s, const pipei_edge *e, pipe_object **out, pipe_error *err)
{
    pipei_task *t = pipei_task_of(s, e->from);
    const pipe_output *outputs = t->node->plugin->meta.outputs;
    const bool has_outputs = outputs && outputs->name;
    const bool metrics = e->output ? strcmp(e->output, "metrics") == 0 : !has_outputs;

    if (metrics) {
        if (t->state != PIPEI_DONE && t->state != PIPEI_CACHED)
            PIPE_TRY(need_outputs(s, t, err));
        if (!t->metrics)
            PIPE_TRY(pipei_metrics_object(t->ctx, &t->ctx->metrics, &t->metrics, err));
        *out = t->metrics;
        return PIPE_OK;
    }
    PIPE_TRY(need_outputs(s, t, err));
    const char *name = e->output ? e->output : outputs->name;
    *out = pipei_context_yielded(t->ctx, name);
    if (!*out)
        return pipe_fail(err, PIPE_EPLUGIN, "%s: %s did not yield its output `%s`", t->node->name,
                         t->node->plugin->meta.name, name);
    return PIPE_OK;
}

static pipe_status value_of(pipei_session *s, const pipei_edge *e, pipe_object **out, pipe_error *err)
{
    return e->from->plugin->step ? step_value(s, e, out, err)
                                 : pipei_component(s, pipei_task_of(s, e->from), out, err);
}

/* What an object of this node is made from: values into `a`, inputs borrowed. */
static pipe_status recipe_of(pipei_session *s, pipei_task *t, pipe_arena *a, pipei_recipe *r, pipe_error *err)
{
    const pipei_node *n = t->node;
    const size_t rows = pipei_param_rows(t->plugin);
    const pipei_given **given = pipe_arena_alloc(a, (rows + 1) * sizeof *given);
    pipei_linked *linked = pipe_arena_alloc(a, (pipei_input_rows(t->plugin) + 1) * sizeof *linked);

    for (size_t k = 0; k < n->n_params; k++)            /* by name: the tables need not be in one order */
        for (size_t i = 0; i < rows; i++)
            if (strcmp(pipei_param_row(t->plugin, i)->name, pipei_node_row(n, k)->name) == 0)
                given[i] = n->param[k];
    for (size_t k = 0; k < n->n_inputs; k++) {
        linked[k].object = pipe_arena_alloc(a, (n->input_count[k] + 1) * sizeof(pipe_object *));
        for (size_t i = 0; i < n->input_count[k]; i++)
            PIPE_TRY(value_of(s, &n->input[k][i], &linked[k].object[linked[k].n++], err));
    }
    *r = (pipei_recipe){.plugin = t->plugin, .name = n->name, .given = given, .linked = linked};
    return PIPE_OK;
}

static pipe_status make_object(pipei_session *s, pipei_task *t, pipe_object **out, pipe_error *err)
{
    pipei_recipe r;

    PIPE_TRY(pipei_live(s, t, err));
    pipe_arena *a = pipe_arena_new();
    pipe_status status = recipe_of(s, t, a, &r, err);
    if (status == PIPE_OK) {
        status = pipei_object_build(&r, t->ctx, out, err);
        if (status != PIPE_OK)
            pipei_task_fail(t, status, err);
    }
    pipe_arena_free(a);
    return status;
}

pipe_status pipei_component(pipei_session *s, pipei_task *t, pipe_object **out, pipe_error *err)
{
    if (!t->object)
        PIPE_TRY(make_object(s, t, &t->object, err));
    *out = t->object;
    return PIPE_OK;
}

/* ---- releasing ---- */

static void release_task(pipei_task *t)
{
    pipe_object_unref(t->object);
    pipe_object_unref(t->metrics);
    t->object = t->metrics = NULL;
    for (size_t k = t->ctx->n_yielded; k-- > 0; ) {
        pipe_object_unref(t->ctx->yielded[k].object);
        pipe_free(t->ctx->yielded[k].name);
    }
    t->ctx->n_yielded = 0;
    t->loaded = false;
}

/* What one step needed while it ran is not what the next one needs. */
static void trim(pipei_session *s)
{
    if (s->env->engine)
        pipei_engine_trim(s->env->engine);
}

void pipei_release(pipei_session *s)
{
    for (size_t k = s->n; k-- > 0; )
        release_task(&s->task[k]);
    trim(s);
    pipei_memory_trim();
}

static void release_unused(pipei_session *s, size_t now)
{
    for (size_t k = now + 1; k-- > 0; )
        if (s->task[k].last_use == now)
            release_task(&s->task[k]);
    trim(s);
}

/* ---- one step ---- */

static pipe_status interrupted(const pipei_task *t, pipe_error *err)
{
    char saved[96] = "";

    if (t && t->ctx->saved)
        snprintf(saved, sizeof saved, " after the checkpoint of step %llu",
                 (unsigned long long)t->ctx->saved);
    return pipe_fail(err, PIPE_EINTERRUPTED, "interrupted%s%s%s; the same command continues", t ? " in " : "",
                     t ? t->node->name : "", saved);
}

/* Whoever computes the same step in another process is waited for: its result serves us too. */
static pipe_status lock_step(pipei_session *s, pipei_task *t, int *lock, pipe_error *err)
{
    for (bool told = false; ; told = true) {
        const pipe_status status = pipei_cache_lock(s->env->cache, t->key, true, false, lock, err);
        if (status != PIPE_EEXIST)
            return status;
        if (!told)
            pipe_log(PIPE_LOG_INFO, t->node->name, "waits for another process that computes the same step");
        if (pipei_signal_pending())
            return interrupted(t, err);
        usleep(100 * 1000);
    }
}

static void prepare_context(pipei_session *s, pipei_task *t)
{
    pipe_context *ctx = t->ctx;
    const pipei_run_options *o = s->env->options;

    pipei_context_reset(ctx, true);
    ctx->plugin = t->plugin;
    ctx->journal = s->journal;
    ctx->progress = s->env->progress;
    if (!ctx->checkpoints)
        ctx->checkpoints = pipei_path_join(s->env->cache->checkpoints, t->key);
    /* A checkpoint is of this very step by its key.  Without a trustworthy key, or
     * when the step is to be computed afresh, only --resume takes it. */
    ctx->resume = o->resume || !(t->unstable || t->forced || o->no_cache);
    if (ctx->resume)
        pipei_remove_leftovers(ctx->checkpoints, NULL);
    else                                        /* later steps of an older attempt would pass for the newest */
        pipei_checkpoints_drop(ctx->checkpoints);
}

static pipe_status check_yielded(const pipei_task *t, pipe_error *err)
{
    for (const pipe_output *o = t->plugin->outputs; o && o->name; o++)
        if (!pipei_context_yielded(t->ctx, o->name))
            return pipe_fail(err, PIPE_EPLUGIN, "%s did not yield its output `%s`", t->plugin->name, o->name);
    return PIPE_OK;
}

static pipe_status work(pipei_session *s, pipei_task *t, pipe_error *err)
{
    pipe_object *step;
    const pipe_status made = make_object(s, t, &step, err);

    if (made != PIPE_OK)
        return made;
    t->ctx->step = step;
    pipei_engine_label(s->env->engine, t->node->name);
    pipei_progress_begin(s->env->progress, t->node->name);
    const double started = pipei_seconds();
    pipe_status status = t->plugin->run(step->state, t->ctx, err);
    if (status == PIPE_OK) /* errors of the device belong to this step, and so does its time */
        status = pipe_finish(s->env->engine, err);
    pipei_progress_end(s->env->progress);
    if (s->trace)
        pipei_trace_step(s->trace, t->node->name, t->plugin->name, started, pipei_seconds() - started);
    t->ctx->step = NULL;
    pipe_object_unref(step);
    if (status == PIPE_OK)
        status = check_yielded(t, err);
    return status == PIPE_OK ? status : pipei_task_fail(t, status, err);
}

static pipe_status keep_result(pipei_session *s, pipei_task *t, pipe_error *err)
{
    pipe_status status = PIPE_OK;

    if (t->cacheable)
        status = pipei_store(s, t, err);
    if (status == PIPE_OK)
        status = pipei_publish_weights(s, t, err);
    if (status != PIPE_OK)
        return pipei_task_fail(t, status, err);
    pipei_checkpoints_drop(t->ctx->checkpoints);
    return PIPE_OK;
}

static pipe_status run_locked(pipei_session *s, pipei_task *t, pipe_error *err)
{
    char took[32];

    PIPE_TRY(pipei_need_engine(s, err));
    PIPE_TRY(pipei_live(s, t, err));
    prepare_context(s, t);
    pipe_log(PIPE_LOG_DEBUG, t->node->name, "runs: %s", t->why);
    t->started = pipei_now();
    const double begun = pipei_clock();
    pipe_status status = work(s, t, err);
    t->seconds = pipei_clock() - begun;
    if (status == PIPE_OK)
        status = keep_result(s, t, err);
    t->ctx->plugin = NULL;
    if (status == PIPE_OK) {
        t->state = PIPEI_DONE;
        t->loaded = true;
        pipei_duration_text(t->seconds, took, sizeof took);
        pipe_log(PIPE_LOG_INFO, t->node->name, "done in %s", took);
    }
    return status;
}

static pipe_status use_cached(pipei_session *s, pipei_task *t, pipe_error *err);

/* Another process may have finished it while we waited for the lock. */
static pipe_status run_unless_made(pipei_session *s, pipei_task *t, pipe_error *err)
{
    json_t *result;

    if (t->cacheable && !t->forced && pipei_cache_find(s->env->cache, t->key, &result, NULL) == PIPE_OK) {
        t->result = result;
        t->state = PIPEI_CACHED;
        return PIPE_OK;
    }
    return run_locked(s, t, err);
}

static void record_failure(pipei_task *t, pipe_status status, const pipe_error *err)
{
    t->state = status == PIPE_EINTERRUPTED ? PIPEI_STOPPED : PIPEI_FAILED;
    pipe_free(t->error);
    t->error = pipe_strdup(err->message);
    pipei_context_reset(t->ctx, true);          /* no half-written files */
}

static pipe_status run_step(pipei_session *s, pipei_task *t, pipe_error *err)
{
    int lock = -1;

    if (pipei_signal_pending())
        return interrupted(NULL, err);
    pipe_error reason = PIPE_ERROR_INIT;
    pipe_status status = lock_step(s, t, &lock, &reason);
    if (status == PIPE_OK)
        status = run_unless_made(s, t, &reason);
    pipei_unlock(lock);
    if (status == PIPE_EINTERRUPTED) {
        const uint64_t saved = t->ctx->saved;
        record_failure(t, status, &reason);
        t->ctx->saved = saved;
        return interrupted(t, err);
    }
    if (status != PIPE_OK) {
        if (t->state == PIPEI_WAITING)
            record_failure(t, status, &reason);
        return pipe_fail(err, status, "%s", reason.message);
    }
    return t->state == PIPEI_CACHED ? use_cached(s, t, err) : PIPE_OK;
}

/* ---- a cached step: as if it had run ---- */

static pipe_status use_cached(pipei_session *s, pipei_task *t, pipe_error *err)
{
    pipe_error reason = PIPE_ERROR_INIT;
    const pipe_status status = pipei_restore(s, t, &reason);

    if (is_damage(status)) {
        pipei_context_reset(t->ctx, true);
        return recompute(s, t, &reason, err);
    }
    if (status != PIPE_OK) {
        record_failure(t, status, &reason);
        pipe_fail(err, status, "%s", reason.message);
        return pipei_task_fail(t, status, err);
    }
    pipei_cache_touch(s->env->cache, t->key);
    t->seconds = pipei_json_number(t->result, "seconds", 0.0);
    pipe_log(PIPE_LOG_INFO, t->node->name, "cached");
    return PIPE_OK;
}

/* ---- all of them ---- */

/* With --keep-going: does it depend on a step that failed? */
static bool is_blocked(pipei_session *s, const pipei_node *n)
{
    for (size_t k = 0; k < n->n_inputs; k++)
        for (size_t i = 0; i < n->input_count[k]; i++) {
            const pipei_task_state state = pipei_task_of(s, n->input[k][i].from)->state;
            if (state == PIPEI_FAILED || state == PIPEI_SKIPPED)
                return true;
        }
    return false;
}

static pipe_status execute_one(pipei_session *s, pipei_task *t, pipe_error *err)
{
    if (is_blocked(s, t->node)) {               /* components carry it on to their users */
        t->state = PIPEI_SKIPPED;
        return PIPE_OK;
    }
    if (!t->node->plugin->step || t->state == PIPEI_DONE)
        return PIPE_OK;
    return t->state == PIPEI_CACHED ? use_cached(s, t, err) : run_step(s, t, err);
}

pipe_status pipei_execute(pipei_session *s, pipe_error *err)
{
    size_t failed = 0;
    pipe_error first = PIPE_ERROR_INIT;

    if (!s->env->options->keep_going)           /* there, what is wrong fails in its turn */
        PIPE_TRY(pipei_check_early(s, err));
    for (size_t k = 0; k < s->n; k++) {
        pipei_task *t = &s->task[k];
        const pipei_task_state before = t->state;
        pipe_error reason = PIPE_ERROR_INIT;
        const pipe_status status = execute_one(s, t, &reason);
        if (t->node->plugin->step && t->state != before && t->state != PIPEI_SKIPPED)
            PIPE_TRY(pipei_manifest_write(s, err));     /* what is known should the process die */
        if (status == PIPE_OK) {
            release_unused(s, k);
            continue;
        }
        if (status == PIPE_EINTERRUPTED || !s->env->options->keep_going)
            return pipe_fail(err, status, "%s", reason.message);
        if (t->state != PIPEI_FAILED) {                 /* an input failed while it was being made ready */
            t->state = PIPEI_FAILED;
            t->error = pipe_strdup(reason.message);
        }
        pipe_log(PIPE_LOG_ERROR, NULL, "%s", reason.message);
        if (failed++ == 0)
            first = reason;
    }
    if (failed == 0)
        return PIPE_OK;
    return pipe_fail(err, first.status, "%zu %s failed; the first: %s", failed,
                     failed == 1 ? "step has" : "steps have", first.message);
}
