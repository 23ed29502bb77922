#include "run/run-test.h"
#include "core/base/log.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- plugins ---- */

/* One line per run of a step: counts across processes. */
static void trace(pipe_context *ctx)
{
    FILE *f = fopen("trace", "ae");

    cr_assert_not_null(f);
    fprintf(f, "%s\n", pipe_context_node(ctx));
    fclose(f);
}

/* dataset.numbers: 0, scale, 2 scale, ... */
typedef struct numbers {
    int64_t count;
    double scale;
    const char *file;
    bool verbose;
} numbers;

static pipe_status numbers_describe(void *self, pipe_dataset_info *info, pipe_error *err)
{
    const numbers *n = self;

    (void)err;
    *info = (pipe_dataset_info){
        .size = sizeof *info,
        .count = (uint64_t)n->count,
        .n_fields = 2,
        .field = {{.name = "x", .shape = PIPE_SHAPE(2), .dtype = PIPE_F32, .high = 1.0},
                  {.name = "label", .dtype = PIPE_I32, .classes = 10}}};
    return PIPE_OK;
}

static pipe_status numbers_read(void *self, const pipe_dataset_request *r, size_t k, void *out,
                                pipe_error *err)
{
    const numbers *n = self;

    (void)err;
    for (size_t i = 0; i < r->n; i++) {
        if (k == 1)
            ((int32_t *)out)[i] = (int32_t)(r->index[i] % 10);
        else
            ((float *)out)[2 * i] = ((float *)out)[2 * i + 1] = (float)(n->scale * (double)r->index[i]);
    }
    return PIPE_OK;
}

static const pipe_param numbers_params[] = {
    PIPE_INT(numbers, count, 4, 1, 1000000, "samples", "how many"),
    PIPE_FLOAT(numbers, scale, 1.0, -100, 100, NULL, "distance of neighbours"),
    PIPE_PATH(numbers, file, "", PIPE_PARAM_INPUT_FILE, "a file that is part of the key"),
    {.name = "verbose",
     .type = PIPE_TYPE_BOOL,
     .flags = PIPE_PARAM_NO_KEY,
     .offset = offsetof(numbers, verbose),
     .fallback = "false",
     .min = 1,
     .max = 0,
     .help = "changes nothing"},
    PIPE_PARAM_END};

/* make: data + add; reports their sum, a curve, and writes a file. */
typedef struct make {
    double add;
    int64_t fail;
    pipe_dataset *data;
} make;

enum { FINE, FAIL_EARLY, FAIL_LATE, FAIL_NAN, FORGET };
static const char *const fail_names[] = {"no", "early", "late", "nan", "forget", NULL};

static const pipe_param make_params[] = {
    PIPE_FLOAT(make, add, 0.0, -1000, 1000, NULL, "what is added"),
    {.name = "fail", .type = PIPE_TYPE_CHOICE, .flags = PIPE_PARAM_NO_KEY, .offset = offsetof(make, fail),
     .fallback = "no", .min = 1, .max = 0, .choices = fail_names, .help = "how to fail"},
    PIPE_PARAM_END
};
static const pipe_input make_inputs[] = {PIPE_INPUT(make, data, "dataset", "the numbers"), PIPE_INPUT_END};
static const pipe_output make_outputs[] = {PIPE_OUTPUT("out", "dataset", "the sums"), PIPE_OUTPUT_END};

static pipe_status sums(const make *m, pipe_context *ctx, pipe_dataset **out, double *total, pipe_error *err)
{
    pipe_dataset_info info;

    PIPE_TRY(pipe_dataset_describe(m->data, &info, err));
    PIPE_TRY(pipe_dataset_new(ctx, &info, out, err));
    for (uint64_t i = 0; i < info.count; i++) {
        float *x = (float *)pipe_dataset_data(*out, 0) + 2 * i;
        const pipe_dataset_request r = {.size = sizeof r, .index = &i, .n = 1};
        PIPE_TRY(pipe_dataset_read(m->data, &r, 0, x, err));
        PIPE_TRY(pipe_dataset_read(m->data, &r, 1, (int32_t *)pipe_dataset_data(*out, 1) + i, err));
        x[0] += (float)m->add;
        x[1] += (float)m->add;
        *total += x[0];
    }
    return PIPE_OK;
}

static pipe_status make_run(void *self, pipe_context *ctx, pipe_error *err)
{
    const make *m = self;
    pipe_dataset *out = NULL;
    const char *path;
    double total = 0;

    trace(ctx);
    if (m->fail == FAIL_EARLY)
        return pipe_fail(err, PIPE_EDOMAIN, "this cannot be computed");
    PIPE_TRY(pipe_output_path(ctx, "note.txt", &path, err));
    PIPE_TRY(pipei_file_write(path, "a note\n", 7, err));
    if (m->fail == FAIL_LATE)
        return pipe_fail(err, PIPE_EDOMAIN, "this cannot be computed to the end");
    if (m->fail == FORGET)
        return PIPE_OK;
    const pipe_status status = sums(m, ctx, &out, &total, err);
    if (status == PIPE_OK) {
        PIPE_TRY(pipe_report_at(ctx, 1, "loss", 2.0, err));
        PIPE_TRY(pipe_report_at(ctx, 2, "loss", m->fail == FAIL_NAN ? 0.0 / 0.0 : 1.0, err));
        PIPE_TRY(pipe_report(ctx, "sum", total, err));
        PIPE_TRY(pipe_yield(ctx, "out", out, err));
    }
    pipe_object_unref(out);
    return status;
}

/* long: adds 1 to a leaf, `steps` times, each after a pause (ms); dies, stops or is asked to save on the way. */
typedef struct lengthy {
    int64_t steps, every, die_at, signal_at, number, twice, pause;
    pipe_dataset *data;
} lengthy;

#define HIDDEN_INT(field_)                                                                                   \
    {                                                                                                        \
        .name = #field_, .type = PIPE_TYPE_INT, .flags = PIPE_PARAM_NO_KEY,                                  \
        .offset = offsetof(lengthy, field_), .fallback = "0", .min = 0, .max = 100000,                       \
        .help = "changes nothing"                                                                            \
    }
static const pipe_param long_params[] = {
    PIPE_INT(lengthy, steps, 20, 1, 100000, "steps", "how many"),
    PIPE_INT(lengthy, every, 5, 1, 100000, "steps", "between checkpoints"),
    HIDDEN_INT(die_at), HIDDEN_INT(signal_at), HIDDEN_INT(number), HIDDEN_INT(twice),
    HIDDEN_INT(pause),
    PIPE_PARAM_END
};
static const pipe_input long_inputs[] = {PIPE_INPUT_OPTIONAL(lengthy, data, "dataset", "not used"),
                                         PIPE_INPUT_END};
static const pipe_output long_outputs[] = {PIPE_OUTPUT("out", "dataset", "the leaf"), PIPE_OUTPUT_END};

static pipe_status long_note(pipe_context *ctx, uint64_t step, pipe_error *err)
{
    char name[32];
    const char *path;

    snprintf(name, sizeof name, "at-%04d.txt", (int)step);
    PIPE_TRY(pipe_output_path(ctx, name, &path, err));
    return pipei_file_write(path, name, strlen(name), err);
}

static pipe_status long_loop(const lengthy *l, pipe_context *ctx, pipe_tensor *leaf, float *value,
                             pipe_error *err)
{
    const pipe_saved items[] = {{"leaf", leaf}};
    uint64_t step;

    PIPE_TRY(pipe_checkpoint_load(ctx, &step, items, 1, err));
    PIPE_TRY(pipe_read_f32(leaf, value, 2, err));
    pipe_progress(ctx, step, (uint64_t)l->steps, "steps", NULL);
    while (step < (uint64_t)l->steps) {
        bool save;
        usleep((useconds_t)l->pause * 1000);
        step++;
        value[0] += 1.0f;
        value[1] += 0.1f * value[0];            /* depends on the whole history */
        PIPE_TRY(pipei_tensor_write(leaf, value, 2 * sizeof *value, err));
        PIPE_TRY(pipe_report_at(ctx, step, "value", value[1], err));
        if (step % 4 == 0)
            PIPE_TRY(long_note(ctx, step, err));
        pipe_progress(ctx, step, (uint64_t)l->steps, "steps", NULL);
        if ((int64_t)step == l->signal_at) {
            raise((int)l->number);
            if (l->twice)
                raise((int)l->number);
        }
        const bool stop = pipe_stop_requested(ctx, &save);
        if (save || step % (uint64_t)l->every == 0)
            PIPE_TRY(pipe_checkpoint_save(ctx, step, items, 1, err));
        if (stop)
            return pipe_fail(err, PIPE_EINTERRUPTED, "stopped");
        if ((int64_t)step == l->die_at)
            raise(SIGKILL);
    }
    return PIPE_OK;
}

static pipe_status long_run(void *self, pipe_context *ctx, pipe_error *err)
{
    const lengthy *l = self;
    pipe_dataset_info info = {.size = sizeof info, .count = 1, .n_fields = 2,
                              .field = {{.name = "x", .shape = PIPE_SHAPE(2), .dtype = PIPE_F32},
                                        {.name = "label", .dtype = PIPE_I32}}};
    pipe_dataset *out;
    pipe_tensor *leaf = NULL;

    trace(ctx);
    PIPE_TRY(pipe_dataset_new(ctx, &info, &out, err));
    pipe_keep(&leaf, pipe_from_f32(pipe_context_engine(ctx), PIPE_SHAPE(2), (float[]){0, 0}));
    pipe_status status = pipe_eval(pipe_context_engine(ctx), err);
    if (status == PIPE_OK)
        status = long_loop(l, ctx, leaf, pipe_dataset_data(out, 0), err);
    if (status == PIPE_OK)
        status = pipe_yield(ctx, "out", out, err);
    pipe_keep(&leaf, NULL);
    pipe_object_unref(out);
    return status;
}

/* train: a clone of its input with one weight of its own choice. */
typedef struct tiny { int64_t width; } tiny;
static const pipe_param tiny_params[] = {PIPE_INT(tiny, width, 3, 1, 100, NULL, "of the weight"),
                                         PIPE_PARAM_END};

static pipe_tensor *tiny_predict(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                                 const pipe_condition *c)
{
    (void)l;
    (void)c;
    pipe_weight(m, "w", PIPE_SHAPE(((tiny *)self)->width), (pipe_init){.kind = PIPE_INIT_ONES});
    return x;
}

typedef struct flat { double start; } flat;
static const pipe_param flat_params[] = {PIPE_FLOAT(flat, start, 1.0, 0, 1, NULL, "where it starts"),
                                         PIPE_PARAM_END};

static pipe_status flat_describe(void *self, pipe_schedule_info *info, pipe_error *err)
{
    (void)err;
    info->t_max = info->t_start = ((flat *)self)->start;
    return PIPE_OK;
}

typedef struct train {
    double value;
    pipe_object *model, *schedule;
} train;
static const pipe_param train_params[] = {PIPE_FLOAT(train, value, 0.5, -10, 10, NULL, "of the weight"),
                                          PIPE_PARAM_END};
static const pipe_input train_inputs[] = {PIPE_INPUT(train, model, "denoiser", "what is trained"),
                                          PIPE_INPUT(train, schedule, "schedule", "under which"),
                                          PIPE_INPUT_END};
static const pipe_output train_outputs[] = {PIPE_OUTPUT_LIKE("model", "model", "the trained one"),
                                            PIPE_OUTPUT_END};

static pipe_status train_weights(const train *t, pipe_object *o, pipe_context *ctx, pipe_error *err)
{
    pipe_model *m = pipe_object_model(o);
    float slab[128];

    PIPE_TRY(pipe_model_build_begin(m, err));
    o->plugin->denoiser.predict(o->state, m, pipe_zeros(pipe_context_engine(ctx), PIPE_SHAPE(1)), NULL, NULL);
    PIPE_TRY(pipe_model_build_end(m, err));
    const size_t n = (size_t)pipe_model_count(m);
    for (size_t k = 0; k < n; k++)
        slab[k] = k < 3 ? (float)t->value : 0.0f;
    PIPE_TRY(pipei_tensor_write(pipe_model_flat(m), slab, n * sizeof *slab, err));
    return pipe_denoiser_declare(o, PIPE_PREDICT_V, t->schedule, &PIPE_SHAPE(28, 28, 1), 0.25, err);
}

static pipe_status train_run(void *self, pipe_context *ctx, pipe_error *err)
{
    const train *t = self;
    pipe_object *o;

    trace(ctx);
    PIPE_TRY(pipe_object_clone(t->model, ctx, &o, err));
    pipe_status status = train_weights(t, o, ctx, err);
    if (status == PIPE_OK)
        status = pipe_yield(ctx, "model", o, err);
    pipe_object_unref(o);
    return status;
}

/* look: reports what a model or data set is. */
typedef struct look { pipe_object *value; double extra; } look;
static const pipe_param look_params[] = {PIPE_FLOAT(look, extra, 0.0, 0, 100, NULL, "added to `first`"),
                                         PIPE_PARAM_END};
static const pipe_input look_inputs[] = {PIPE_INPUT(look, value, "any", "what is looked at"), PIPE_INPUT_END};

static pipe_status look_at_model(pipe_object *o, pipe_context *ctx, pipe_error *err)
{
    float slab[128];
    pipe_denoiser_info info;

    PIPE_TRY(pipe_read_f32(pipe_model_flat(o->model), slab, (size_t)pipe_model_count(o->model), err));
    PIPE_TRY(pipe_denoiser_describe(o, &info, err));
    PIPE_TRY(pipe_report(ctx, "first", slab[0], err));
    PIPE_TRY(pipe_report(ctx, "predicts", info.predicts, err));
    PIPE_TRY(pipe_report(ctx, "rank", info.sample.rank, err));
    PIPE_TRY(pipe_report(ctx, "sigma_data", info.sigma_data, err));
    pipe_schedule_info schedule;
    PIPE_TRY(pipe_schedule_describe(info.schedule, &schedule, err));
    return pipe_report(ctx, "start", schedule.t_start, err);
}

static pipe_status look_at_data(pipe_object *o, pipe_context *ctx, double extra, pipe_error *err)
{
    const uint64_t index[] = {3, 0, 1, 2};      /* a jump, then a run */
    const pipe_dataset_request r = {.size = sizeof r, .index = index, .n = 4};
    pipe_dataset_info info;
    float x[8];
    int32_t label[4];

    PIPE_TRY(pipe_dataset_describe(o, &info, err));
    PIPE_TRY(pipe_dataset_read(o, &r, 0, x, err));
    PIPE_TRY(pipe_dataset_read(o, &r, 1, label, err));
    PIPE_TRY(pipe_report(ctx, "first", x[0] + extra, err));
    PIPE_TRY(pipe_report(ctx, "last", x[7], err));
    PIPE_TRY(pipe_report(ctx, "label", label[0], err));
    PIPE_TRY(pipe_report(ctx, "classes", (double)info.field[1].classes, err));
    return pipe_report(ctx, "high", info.field[0].high, err);
}

static pipe_status look_run(void *self, pipe_context *ctx, pipe_error *err)
{
    look *l = self;
    double last;

    trace(ctx);
    if (l->value->model)
        return look_at_model(l->value, ctx, err);
    if (strcmp(l->value->kind, "dataset") == 0)
        return look_at_data(l->value, ctx, l->extra, err);
    if (!pipe_metrics_last(l->value, "sum", &last))
        return pipe_fail(err, PIPE_ENOTFOUND, "no `sum`");
    return pipe_report(ctx, "first", last + l->extra, err);
}

#define STEP(name_, kind_, state_, flags_, params_, inputs_, outputs_, run_)                                 \
    {                                                                                                        \
        .meta = {PIPE_ABI(kind_),       .name = (name_),                                                     \
                 .version = "1.0.0",    .flags = (flags_),                                                   \
                 .params = (params_),   .inputs = (inputs_),                                                 \
                 .outputs = (outputs_), .state_size = sizeof(state_),                                        \
                 .run = (run_)},                                                                             \
        .step = true                                                                                         \
    }

static const pipei_plugin plugins[] = {
    {.meta = {PIPE_ABI("dataset"), .name = "dataset.numbers", .version = "1.0.0", .params = numbers_params,
              .state_size = sizeof(numbers),
              .dataset = {.describe = numbers_describe, .read = numbers_read}}},
    {.meta = {PIPE_ABI("denoiser"), .name = "denoiser.tiny", .version = "1.0.0", .flags = PIPE_TRAINABLE,
              .params = tiny_params, .state_size = sizeof(tiny), .denoiser = {.predict = tiny_predict}},
     .trainable = true},
    {.meta = {PIPE_ABI("schedule"), .name = "schedule.flat", .version = "1.0.0", .params = flat_params,
              .state_size = sizeof(flat), .schedule = {.describe = flat_describe}}},
    STEP("always", "step", make, PIPE_ALWAYS_RUN, make_params, make_inputs, make_outputs, make_run),
    STEP("dice", "step", make, PIPE_NONDETERMINISTIC, make_params, make_inputs, make_outputs, make_run),
    STEP("long", "step", lengthy, 0, long_params, long_inputs, long_outputs, long_run),
    STEP("look", "step", look, 0, look_params, look_inputs, NULL, look_run),
    STEP("make", "step", make, 0, make_params, make_inputs, make_outputs, make_run),
    STEP("train", "step", train, 0, train_params, train_inputs, train_outputs, train_run),
};

pipei_registry *run_registry(void)
{
    return pipei_registry_of(plugins, sizeof plugins / sizeof plugins[0]);
}

/* ---- the place ---- */

char *run_place(void)
{
    char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *cache = pipei_path_join(folder, "cache");

    cr_assert_eq(chdir(folder), 0);
    setenv("PIPE_CACHE_DIR", cache, 1);
    unsetenv("PIPE_DEVICE");
    pipei_log_set_level(PIPE_LOG_ERROR);        /* what is expected need not be read */
    return folder;
}

void run_leave(char **folder)
{
    cr_assert_eq(chdir("/"), 0);
    folder_drop(folder);
}

/* ---- running ---- */

/* With the leak checker of AddressSanitizer, where there is one. */
extern int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static void run_here(const char *yaml, const pipei_run_options *o, const char *const *change, result *r)
{
    pipei_diagnostics diag = {0};
    pipei_environment env;
    pipei_registry *registry = run_registry();
    pipei_graph *g = NULL;
    size_t n = 0;

    while (change && change[n])
        n++;
    r->status = pipei_graph_load_text(yaml, strlen(yaml), "test.yaml", change, n, registry, &g, &diag,
                                      &r->err);
    if (r->status != PIPE_OK) {
        pipei_diagnostics_print(&diag, &r->out.table, false);
        pipe_context_fail(&r->err, r->status, "%s", r->out.table.data ? r->out.table.data : "invalid");
    } else {
        r->status = pipei_environment_open(registry, o, &env, &r->err);
        if (r->status == PIPE_OK) {
            r->status = pipei_run_graph(&env, g, NULL, &r->out, &r->err);
            if (env.engine && pipei_device_used_memory(pipei_engine_device(env.engine)) > 0)
                r->out.exit_status = 98;
            pipei_environment_close(&env);
        }
        pipei_graph_free(g);
    }
    pipei_diagnostics_free(&diag);
    pipei_registry_close(registry);
}

/* What the parent is to know, as one JSON document. */
static void tell(FILE *f, const result *r)
{
    PIPE_CLEANUP(pipei_json_free) json_t *j = json_object();

    json_object_set_new(j, "status", json_integer(r->status));
    json_object_set_new(j, "exit_status", json_integer(r->out.exit_status));
    json_object_set_new(j, "message", json_string(r->err.message));
    json_object_set_new(j, "table", json_string(r->out.table.data ? r->out.table.data : ""));
    json_object_set_new(j, "folder", r->out.folder ? json_string(r->out.folder) : json_null());
    json_object_set_new(j, "manifest", r->out.manifest ? json_incref(r->out.manifest) : json_null());
    json_dumpf(j, f, 0);
    fflush(f);
}

static void listen(FILE *f, result *r)
{
    rewind(f);
    PIPE_CLEANUP(pipei_json_free) json_t *j = json_loadf(f, 0, NULL);
    const char *folder = pipei_json_text(j, "folder"), *message = pipei_json_text(j, "message");

    if (!j)                                     /* it died */
        return;
    r->status = (pipe_status)json_integer_value(json_object_get(j, "status"));
    if (r->status != PIPE_OK)
        pipe_fail(&r->err, r->status, "%s", message);
    pipe_text_add(&r->out.table, pipei_json_text(j, "table"));
    r->out.folder = pipe_strdup(folder);
    if (json_is_object(json_object_get(j, "manifest")))
        r->out.manifest = json_incref(json_object_get(j, "manifest"));
}

/* Each run is a process of its own, as in life: OpenCL drivers do not survive a
 * fork, and a run may kill itself. */
result run_text(const char *yaml, const pipei_run_options *o, const char *const *change)
{
    result r = {.err = PIPE_ERROR_INIT, .status = PIPE_EINTERRUPTED};
    FILE *f = tmpfile();
    int status;

    cr_assert_not_null(f);
    fflush(NULL);
    const pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        signal(SIGINT, SIG_DFL);                /* ignored when the tests run in the background */
        run_here(yaml, o, change, &r);
        tell(f, &r);
        const int exit_status = r.out.exit_status;
        result_free(&r);
        fclose(f);
        _exit(__lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check() ? 99 : exit_status);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    listen(f, &r);
    fclose(f);
    r.out.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    cr_assert_neq(r.out.exit_status, 99, "memory was leaked");
    cr_assert_neq(r.out.exit_status, 98, "a run left memory of the device to the next one");
    return r;
}

result run_plain(const char *yaml)
{
    return run_text(yaml, &(pipei_run_options){.progress = "none", .device = "cpu"}, NULL);
}

void result_free(result *r)
{
    pipei_outcome_free(&r->out);
}

int run_status(const char *yaml, const pipei_run_options *o, const char *const *change)
{
    PIPE_CLEANUP(result_free) result r = run_text(yaml, o, change);

    return r.out.exit_status;
}

/* ---- looking at it ---- */

char *run_read(const char *folder, const char *name)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, name);
    char *data;
    size_t n;

    MUST(pipei_file_read(path, 1 << 26, &data, &n, &err));
    return data;
}

size_t run_count(const char *node)
{
    size_t n = 0;

    if (!pipei_path_exists("trace"))
        return 0;
    PIPE_CLEANUP(pipe_free_ptr) char *text = run_read(".", "trace");
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        n += strcmp(line, node) == 0;
    return n;
}

json_t *run_node(const result *r, const char *node, const char *key)
{
    json_t *entry;
    size_t k;

    json_array_foreach(json_object_get(r->out.manifest, "nodes"), k, entry)
        if (strcmp(pipei_json_text(entry, "name"), node) == 0)
            return json_object_get(entry, key);
    return NULL;
}

const char *run_state(const result *r, const char *node)
{
    const char *state = json_string_value(run_node(r, node, "state"));

    return state ? state : "none";
}
