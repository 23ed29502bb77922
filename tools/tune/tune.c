/* pipe tune */
#include "tune.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_SECONDS = 600, MOST_SECONDS = 86400, DEFAULT_SIDE = 1024, LEAST_SIDE = 64, MOST_SIDE = 2048 };
enum { MOST_CANDIDATES = 2000, TURNS = 3, SIZES = 5 };
#define PATIENCE 1800.0 /* seconds: also of a driver that compiles slowly on a busy machine */
#define WORTH 1.02 /* times as fast, all sizes together: less is within the error of measuring */

static const cli_option options[] = {
    {"device", 0, "DEVICE", "auto, cpu, gpu, or one that `pipe devices` lists"},
    {"device-profile", 0, "NAME",
     "kernels of another class of device; gpu: tune a device whose products do not go through CLBlast"},
    {"time-limit", 0, "SECONDS",
     "how long to search (default: 600); longer finds better parameters; the comparison at the end is not "
     "counted"},
    {"candidates", 0, "N", "sets of parameters to try for each kernel, at most (default: 2000)"},
    {"size", 0, "N", "rows and columns of the largest product that is measured, 64 to 2048 (default: 1024)"},
    {"json", 0, NULL, "print one JSON document"},
    {NULL}};

/* A product before and after. */
typedef struct row {
    size_t n;
    double before, after;      /* GFLOP/s */
} row;

typedef struct outcome {
    pipei_tuning best;
    row rows[SIZES];
    size_t n_rows;
    double ratio;              /* after by before, geometric mean */
    char *path;                /* where it is stored; NULL: it is not */
} outcome;

/* ---- the border between the two kernels ---- */
static void set_border(pipei_tuning *t, uint32_t size)
{
    t->set[PIPEI_TUNING_BORDER] = true;
    t->values[PIPEI_TUNING_BORDER].of[0] = size;
}

static uint32_t never_large(void)
{
    const pipei_tuning_param *p = &pipei_tuning_kernels[PIPEI_TUNING_BORDER].params[0];

    return p->values[p->n_values - 1];
}

/* From the size on from which the kernel for large products is always faster; twice the
 * largest size that was measured if it never is. */
static pipe_status find_border(const tune *t, tune_problem *problems, size_t n, pipei_tuning *best, pipe_error *err)
{
    uint32_t border = (uint32_t)(2 * problems[n - 1].n);

    for (size_t k = n; k-- > 0;) {
        tune_result large, small;
        set_border(best, 0);
        PIPE_TRY(tune_measure(t, best, &problems[k], false, &large, err));
        set_border(best, never_large());
        PIPE_TRY(tune_measure(t, best, &problems[k], false, &small, err));
        if (!large.right || (small.right && small.seconds <= large.seconds))
            break;
        border = (uint32_t)problems[k].n;
    }
    set_border(best, border);
    pipe_log(PIPE_LOG_INFO, "tune", "large from %u x %u x %u", border, border, border);
    return PIPE_OK;
}

/* ---- before and after ---- */
static pipe_status compare(const tune *t, tune_problem *problems, size_t n, outcome *o, pipe_error *err)
{
    const pipei_tuning none = {0};
    double sum = 0.0;

    for (size_t k = 0; k < n; k++) {
        double least[2] = {INFINITY, INFINITY};
        for (int turn = 0; turn < TURNS; turn++)
            for (int i = 0; i < 2; i++) {
                tune_result r;
                PIPE_TRY(tune_measure(t, i ? &o->best : &none, &problems[k], turn == 0, &r, err));
                if (!r.right)
                    return pipe_fail(err, PIPE_EDEVICE, "%s: products fail with %s parameters: %s",
                                     t->info.name, i ? "the tuned" : "CLBlast's own", r.why);
                least[i] = fmin(least[i], r.seconds);
            }
        o->rows[o->n_rows++] = (row){problems[k].n, tune_rate(&problems[k], least[0]),
                                     tune_rate(&problems[k], least[1])};
        sum += log(least[0] / least[1]);
    }
    o->ratio = exp(sum / (double)n);
    return PIPE_OK;
}

static pipe_status search_all(tune *t, tune_problem *problems, size_t n, outcome *o, pipe_error *err)
{
    const double start = pipei_seconds(), limit = t->end - start;
    const tune_problem *largest = &problems[n - 1], *middle = &problems[n > 2 ? n - 3 : 0];

    set_border(&o->best, 0);
    PIPE_TRY(tune_search(t, PIPEI_TUNING_LARGE, largest, start + 0.6 * limit, &o->best, err));
    set_border(&o->best, never_large());
    PIPE_TRY(tune_search(t, PIPEI_TUNING_SMALL, middle, t->end, &o->best, err));
    PIPE_TRY(find_border(t, problems, n, &o->best, err));
    return compare(t, problems, n, o, err);
}

static pipe_status store(const tune *t, outcome *o, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_tuning_path(&t->info);

    if (o->ratio < WORTH)
        return PIPE_OK;
    if (!path)
        return pipe_fail(err, PIPE_EIO, "there is no cache folder to store this in: set PIPE_CACHE_DIR or HOME");
    PIPE_TRY(pipei_tuning_write(path, &t->info, &o->best, err));
    o->path = path;
    path = NULL;
    return PIPE_OK;
}

static pipe_status tune_device(tune *t, size_t side, outcome *o, pipe_error *err)
{
    tune_problem problems[SIZES];
    size_t n = 0;

    for (size_t k = SIZES; k-- > 0;)                /* side / 16 up to side, none below the least */
        if (side >> k >= LEAST_SIDE)
            tune_problem_make(&problems[n++], side >> k);
    pipe_status status = search_all(t, problems, n, o, err);
    if (status == PIPE_OK)
        status = store(t, o, err);
    while (n > 0)
        tune_problem_free(&problems[--n]);
    return status;
}

/* ---- results ---- */
static json_t *document(const tune *t, const outcome *o)
{
    json_t *kernels = json_object(), *rows = json_array();

    for (size_t k = 0; k < PIPEI_TUNING_KERNELS; k++) {
        const pipei_tuning_kernel *kernel = &pipei_tuning_kernels[k];
        json_t *one = o->best.set[k] ? json_object() : NULL;
        for (size_t i = 0; one && i < kernel->n_params; i++)
            json_object_set_new(one, kernel->params[i].name, json_integer(o->best.values[k].of[i]));
        if (one)
            json_object_set_new(kernels, kernel->name, one);
    }
    for (size_t k = 0; k < o->n_rows; k++)
        json_array_append_new(rows, json_pack("{s:I, s:f, s:f}", "size", (json_int_t)o->rows[k].n, "before",
                                              o->rows[k].before, "after", o->rows[k].after));
    json_t *path = o->path ? json_string(o->path) : json_null();
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:f, s:o}", "device", t->info.name, "vendor", t->info.vendor,
                     "driver", t->info.driver, "kernels", kernels, "products", rows, "ratio", o->ratio, "stored",
                     path);
}

static void print(const tune *t, const outcome *o)
{
    printf("%s, driver %s\n\n", t->info.name, t->info.driver);
    printf("%-22s %12s %12s %8s\n", "product", "before", "after", "ratio");
    for (size_t k = 0; k < o->n_rows; k++) {
        const row *r = &o->rows[k];
        char shape[64];
        snprintf(shape, sizeof shape, "%zu x %zu x %zu", r->n, r->n, r->n);
        printf("%-22s %12.2f %12.2f %8.2f\n", shape, r->before, r->after, r->after / r->before);
    }
    printf("GFLOP/s; %.2fx as fast, all together\n", o->ratio);
    if (o->path)
        printf("stored in %s\n", o->path);
    else
        printf("not stored: CLBlast's own parameters are as good\n");
}

/* ---- the verb ---- */
static bool number(const cli_args *a, const char *name, long least, long most, long otherwise, long *out)
{
    const char *text = cli_value(a, name);
    char *end = NULL;

    *out = otherwise;
    if (!text)
        return true;
    errno = 0;
    const long n = strtol(text, &end, 10);
    if (errno || end == text || *end || n < least || n > most) {
        cli_usage(a->verb, "--%s=%s: a number from %ld to %ld", name, text, least, most);
        return false;
    }
    *out = n;
    return true;
}

static int failed(pipe_status status, const pipe_error *err)
{
    return status == PIPE_EINVAL || status == PIPE_ENOTFOUND ? cli_fail(EXIT_USAGE, "%s", err->message)
                                                             : cli_fail_error(status, err);
}

static int run(const cli_args *a)
{
    tune t = {.device = cli_value(a, "device"), .profile = cli_value(a, "device-profile"), .patience = PATIENCE};
    outcome o = {0};
    pipe_error err = PIPE_ERROR_INIT;
    long seconds, candidates, side;

    if (!cli_operands(a, 0, 0, "argument") ||
        !number(a, "time-limit", 1, MOST_SECONDS, DEFAULT_SECONDS, &seconds) ||
        !number(a, "candidates", 1, MOST_CANDIDATES, MOST_CANDIDATES, &candidates) ||
        !number(a, "size", LEAST_SIDE, MOST_SIDE, DEFAULT_SIDE, &side))
        return EXIT_USAGE;
    t.candidates = (size_t)candidates;
    pipe_status status = tune_identify(&t, &err);
    if (status != PIPE_OK)
        return failed(status, &err);
    if (t.cpu)
        return cli_fail(EXIT_USAGE,
                        "%s: its products do not go through CLBlast, so there is nothing to tune; "
                        "--device-profile=gpu tunes it for runs with the same option",
                        t.info.name);
    t.end = pipei_seconds() + (double)seconds;
    status = tune_device(&t, (size_t)side, &o, &err);
    int code = 0;
    if (status != PIPE_OK)
        code = failed(status, &err);
    else if (cli_flag(a, "json"))
        code = cli_output_json(document(&t, &o));
    else
        print(&t, &o);
    pipe_free(o.path);
    return code;
}

const cli_verb cli_verb_tune = {
    .name = "tune",
    .summary = "Measures the parameters of matrix products on a GPU",
    .usage = "[OPTIONS]",
    .help =
        "On GPUs, matrix products go through CLBlast, whose kernels have parameters: sizes of tiles and "
        "work-groups, widths of vectors, use of local memory. This searches for the fastest ones for the "
        "device: those for large products, those for small ones, and the size that parts them. Every set of "
        "parameters is compiled, verified against products in double precision and timed in a process of its "
        "own, so that one which crashes or hangs the driver does no harm.\n\n"
        "What is faster than CLBlast's own parameters is stored in the cache folder for the device, its vendor "
        "and its driver, and used by all later runs; another driver makes it void, which runs say. "
        "Parameters change the order of sums, so results differ in their last bits from those before.",
    .options = options,
    .run = run,
};
