/* Contexts: what a step reports, yields and writes. */
#include "core/run/context.h"
#include "core/run/json.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

pipe_context *pipei_context_new(const char *node, uint64_t seed)
{
    pipe_context *ctx = pipe_alloc(sizeof *ctx);

    ctx->node = pipe_strdup(node);
    ctx->seed = seed;
    return ctx;
}

static void drop_yielded(pipe_context *ctx)
{
    for (size_t k = ctx->n_yielded; k-- > 0; ) {
        pipe_object_unref(ctx->yielded[k].object);
        pipe_free(ctx->yielded[k].name);
    }
    pipe_free(ctx->yielded);
    ctx->yielded = NULL;
    ctx->n_yielded = 0;
}

static void drop_files(pipe_context *ctx, bool unlink_them)
{
    for (size_t k = 0; k < ctx->n_files; k++) {
        if (unlink_them)
            unlink(ctx->file_path[k]);
        pipe_free(ctx->file[k]);
        pipe_free(ctx->file_path[k]);
    }
    pipe_free(ctx->file);
    pipe_free(ctx->file_path);
    ctx->file = ctx->file_path = NULL;
    ctx->n_files = 0;
    if (unlink_them && ctx->folder)
        rmdir(ctx->folder);
}

void pipei_context_reset(pipe_context *ctx, bool files)
{
    drop_yielded(ctx);
    drop_files(ctx, files);
    pipei_metrics_free(&ctx->metrics);
    ctx->resumed = ctx->saved = 0;
}

void pipei_context_free(pipe_context *ctx)
{
    if (!ctx)
        return;
    pipei_context_reset(ctx, false);
    if (ctx->objects)
        pipe_log(PIPE_LOG_DEBUG, ctx->node, "%zu objects were never released", ctx->objects);
    pipe_free(ctx->folder);
    pipe_free(ctx->checkpoints);
    pipe_free(ctx->mirror);
    pipe_free(ctx->node);
    pipe_free(ctx);
}

pipe_status pipei_context_standalone(pipe_engine *e, const char *node, uint64_t seed, const char *folder,
                                     pipe_context **out, pipe_error *err)
{
    if (folder)
        PIPE_TRY(pipei_make_folders(folder, err));
    pipe_context *ctx = pipei_context_new(node, seed);
    ctx->engine = e;
    if (folder) {
        PIPE_CLEANUP(pipe_free_ptr) char *checkpoints = pipei_path_join(folder, "checkpoints");
        ctx->folder = pipe_strdup(folder);
        ctx->checkpoints = pipei_path_join(checkpoints, node);
        ctx->resume = true;
    }
    *out = ctx;
    return PIPE_OK;
}

pipe_object *pipei_context_yielded(const pipe_context *ctx, const char *output)
{
    for (size_t k = 0; k < ctx->n_yielded; k++)
        if (strcmp(ctx->yielded[k].name, output) == 0)
            return ctx->yielded[k].object;
    return NULL;
}

pipe_status pipei_context_metrics(pipe_context *ctx, pipe_metrics **out, pipe_error *err)
{
    return pipei_metrics_object(ctx, &ctx->metrics, out, err);
}

/* ---- what a node may ask ---- */

pipe_engine *pipe_context_engine(const pipe_context *ctx)
{
    return ctx->engine;
}

const char *pipe_context_node(const pipe_context *ctx)
{
    return ctx->node;
}

uint64_t pipe_context_seed(const pipe_context *ctx)
{
    return ctx->seed;
}

pipe_key pipe_context_key(const pipe_context *ctx, const char *purpose)
{
    return (pipe_key){.seed = ctx->seed, .stream = pipe_stream(ctx->node, purpose)};
}

void pipe_context_log(const pipe_context *ctx, pipe_log_level level, const char *fmt, ...)
{
    if (!pipe_log_enabled(level, ctx->node))
        return;
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    const size_t size = n > 0 ? (size_t)n + 1 : 1;
    PIPE_CLEANUP(pipe_free_ptr) char *text = pipe_alloc(size);
    vsnprintf(text, size, fmt, again);
    va_end(again);
    pipe_log(level, ctx->node, "%s", text);
}

const char *pipe_context_pipeline_yaml(const pipe_context *ctx)
{
    return ctx->yaml ? ctx->yaml : "";
}

const char *pipe_context_summary(const pipe_context *ctx)
{
    return ctx->summary ? ctx->summary : "";
}

void pipe_progress(pipe_context *ctx, uint64_t done, uint64_t total, const char *unit, const char *detail)
{
    if (ctx->progress)
        pipei_progress_update(ctx->progress, ctx->node, done, total, unit, detail);
}

/* ---- numbers ---- */

pipe_status pipei_journal(FILE *f, const char *path, const char *node, const double *step, const char *name,
                          double value, bool cached, pipe_error *err)
{
    char now[32];
    json_t *line = json_object();

    pipei_time_text(pipei_now(), now);
    json_object_set_new(line, "time", json_string(now));
    pipei_json_set_text(line, "node", node);
    if (step)
        json_object_set_new(line, "step", json_integer((json_int_t)*step));
    json_object_set_new(line, name, json_real(value));
    if (cached)
        json_object_set_new(line, "cached", json_true());
    PIPE_CLEANUP(pipe_free_ptr) char *text = pipei_json_line(line);
    json_decref(line);
    errno = 0;
    if (fprintf(f, "%s\n", text) < 0 || ferror(f))
        return pipei_fail_errno(err, errno, "%s", path);
    return PIPE_OK;
}

static pipe_status report(pipe_context *ctx, const double *step, const char *name, double value,
                          pipe_error *err)
{
    static const char *const reserved[] = {"time", "node", "step", "cached"};

    if (!*name)
        return pipe_fail(err, PIPE_EINVAL, "a reported number needs a name");
    for (size_t k = 0; k < sizeof reserved / sizeof reserved[0]; k++)
        if (strcmp(name, reserved[k]) == 0)
            return pipe_fail(err, PIPE_EINVAL,
                             "`%s` cannot be the name of a reported number: metrics.jsonl uses it", name);
    if (!isfinite(value)) {
        char at[96] = "", saved[96] = "";
        if (step)
            snprintf(at, sizeof at, " at step %.0f", *step);
        if (ctx->saved)
            snprintf(saved, sizeof saved, "; the last good checkpoint is of step %llu",
                     (unsigned long long)ctx->saved);
        return pipe_fail(err, PIPE_EDOMAIN, "`%s` is %s%s%s", name, isnan(value) ? "NaN" : "infinite", at,
                         saved);
    }
    pipei_metrics_add(&ctx->metrics, name, step != NULL, step ? *step : 0.0, value);
    return ctx->journal
               ? pipei_journal(ctx->journal, "metrics.jsonl", ctx->node, step, name, value, false, err)
               : PIPE_OK;
}

pipe_status pipe_report(pipe_context *ctx, const char *name, double value, pipe_error *err)
{
    return report(ctx, NULL, name, value, err);
}

pipe_status pipe_report_at(pipe_context *ctx, uint64_t step, const char *name, double value, pipe_error *err)
{
    const double at = (double)step;

    return report(ctx, &at, name, value, err);
}

/* ---- values ---- */

static const char *kind_of_output(const pipe_context *ctx, const pipe_output *o)
{
    if (o->kind || !o->like || !ctx->step)
        return o->kind;
    for (size_t k = 0; k < ctx->step->n_inputs; k++)
        if (strcmp(ctx->step->plugin->inputs[k].name, o->like) == 0 && ctx->step->linked[k].n > 0)
            return ctx->step->linked[k].object[0]->kind;
    return NULL;
}

static pipe_status check_output(const pipe_context *ctx, const char *name, const pipe_object *value,
                                const pipe_output **found, pipe_error *err)
{
    const pipe_output *o = ctx->plugin->outputs;

    while (o && o->name && strcmp(o->name, name) != 0)
        o++;
    if (!o || !o->name)
        return pipe_fail(err, PIPE_EPLUGIN, "%s yields `%s`, which is not among its outputs",
                         ctx->plugin->name, name);
    const char *kind = kind_of_output(ctx, o);
    if (kind && strcmp(kind, value->kind) != 0)
        return pipe_fail(err, PIPE_EPLUGIN, "%s yields a %s as its output `%s` of kind %s", ctx->plugin->name,
                         value->kind, name, kind);
    *found = o;
    return PIPE_OK;
}

pipe_status pipe_yield(pipe_context *ctx, const char *output, pipe_object *value, pipe_error *err)
{
    const pipe_output *row = NULL;

    if (!value)
        return pipe_fail(err, PIPE_EPLUGIN, "nothing was given for the output `%s`", output);
    if (ctx->plugin)
        PIPE_TRY(check_output(ctx, output, value, &row, err));
    if (strcmp(value->kind, PIPE_KIND_DATASET) != 0 && !value->model)
        return pipe_fail(err, PIPE_EUNSUPPORTED,
                         "output `%s`: %s is a %s without weights; steps can yield data sets "
                         "and objects with weights",
                         output, value->name, value->kind);
    if (value->model && !pipe_model_built(value->model))
        return pipe_fail(err, PIPE_EPLUGIN, "output `%s`: the weights of %s were never built", output,
                         value->name);

    pipe_object_ref(value);
    for (size_t k = 0; k < ctx->n_yielded; k++)
        if (strcmp(ctx->yielded[k].name, output) == 0) {
            pipe_object_unref(ctx->yielded[k].object);
            ctx->yielded[k].object = value;
            return PIPE_OK;
        }
    ctx->yielded = pipe_realloc(ctx->yielded, (ctx->n_yielded + 1) * sizeof *ctx->yielded);
    ctx->yielded[ctx->n_yielded++] = (pipei_yielded){
        .output = row, .name = pipe_strdup(output), .object = value};
    return PIPE_OK;
}

/* ---- files ---- */

/* A plain relative name: no component is empty, "." or ".."; no control characters. */
static bool safe_name(const char *name)
{
    if (!*name || strlen(name) > 1000)
        return false;
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    for (const char *p = name; ; ) {
        const size_t n = strcspn(p, "/");
        if (n == 0 || n > 200 || p[0] == '.')
            return false;
        p += n;
        if (!*p)
            return true;
        p++;
    }
}

pipe_status pipe_output_path(pipe_context *ctx, const char *name, const char **path, pipe_error *err)
{
    if (!safe_name(name))
        return pipe_fail(err, PIPE_EINVAL,
                         "\"%s\" is no name for an output file: a relative path without \"..\" and "
                         "without a dot at the start of a part",
                         name);
    if (!ctx->folder)
        return pipe_fail(err, PIPE_EUNSUPPORTED, "files cannot be written here: %s has no output folder",
                         ctx->node);
    for (size_t k = 0; k < ctx->n_files; k++)
        if (strcmp(ctx->file[k], name) == 0) {
            *path = ctx->file_path[k];
            return PIPE_OK;
        }
    PIPE_CLEANUP(pipe_free_ptr) char *full = pipei_path_join(ctx->folder, name);
    PIPE_CLEANUP(pipe_free_ptr) char *parent = pipei_path_folder(full);
    PIPE_TRY(pipei_make_folders(parent, err));
    ctx->file = pipe_realloc(ctx->file, (ctx->n_files + 1) * sizeof *ctx->file);
    ctx->file_path = pipe_realloc(ctx->file_path, (ctx->n_files + 1) * sizeof *ctx->file_path);
    ctx->file[ctx->n_files] = pipe_strdup(name);
    ctx->file_path[ctx->n_files] = full;
    *path = full;
    full = NULL;
    ctx->n_files++;
    return PIPE_OK;
}
