/* Timing and rows. */
#include "bench.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SHORTEST 0.01 /* seconds of a repetition */
enum { MOST_RUNS = 2000 }; /* in one */

bool bench_wanted(const bench *b, const char *name, const char *shape)
{
    PIPE_CLEANUP(pipe_free_ptr) char *row = pipe_format("%s %s", name, shape);

    for (size_t k = 0; k < b->n_filters; k++) {
        PIPE_CLEANUP(pipe_free_ptr) char *pattern = pipe_format("*%s*", b->filter[k]);
        if (fnmatch(pattern, row, 0) == 0)
            return true;
    }
    return b->n_filters == 0;
}

/* ---- memory of the process: of all its parts, drivers included ---- */
static uint64_t status_bytes(const char *key)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "re");

    while (f && kib == 0 && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0)
            kib = strtoull(line + strlen(key), NULL, 10);
    if (f)
        fclose(f);
    return 1024ull * kib;
}

uint64_t bench_resident(void)
{
    return status_bytes("VmRSS:");
}

/* What was measured before may have been larger (proc(5), clear_refs). */
static void reset_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "we");

    if (f) {
        fputs("5", f);
        fclose(f);
    }
}

static uint64_t growth(const bench_case *c)
{
    const uint64_t peak = status_bytes("VmHWM:");

    return peak > c->resident ? peak - c->resident : 0;
}

/* ---- timing ---- */
typedef struct timer {
    size_t runs; /* per repetition */
    double *wall; /* [repeats], of one run */
    double cpu; /* least */
} timer;

static pipe_status run_times(const bench_case *c, size_t times, pipe_error *err)
{
    PIPE_TRY(c->run(c->arg, times, err));
    return c->engine ? pipe_finish(c->engine, err) : PIPE_OK;
}

/* Two runs compile and touch everything; the third tells how many a repetition needs. */
static pipe_status warm_up(const bench_case *c, timer *t, pipe_error *err)
{
    PIPE_TRY(run_times(c, 1, err));
    PIPE_TRY(run_times(c, 1, err));
    const double start = pipei_seconds();
    PIPE_TRY(run_times(c, 1, err));
    const double one = pipei_seconds() - start;
    t->runs = one >= SHORTEST ? 1 : (size_t)(SHORTEST / (one > 1e-6 ? one : 1e-6)) + 1;
    if (t->runs > MOST_RUNS)
        t->runs = MOST_RUNS;
    return PIPE_OK;
}

static void rest(double seconds)
{
    const time_t whole = (time_t)seconds;
    const struct timespec t = {.tv_sec = whole, .tv_nsec = (long)(1e9 * (seconds - (double)whole))};

    nanosleep(&t, NULL);
}

static pipe_status repeat(const bench_case *c, timer *t, size_t k, pipe_error *err)
{
    const double start = pipei_seconds(), cpu = pipei_cpu_seconds();

    PIPE_TRY(run_times(c, t->runs, err));
    const double used = (pipei_cpu_seconds() - cpu) / (double)t->runs;
    t->wall[k] = (pipei_seconds() - start) / (double)t->runs;
    t->cpu = k == 0 || used < t->cpu ? used : t->cpu;
    if (c->settle > 0.0)
        rest(c->settle);
    return PIPE_OK;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

bench_time bench_summary(double *seconds, size_t n, double cpu)
{
    qsort(seconds, n, sizeof *seconds, by_size);
    return (bench_time){
        .median = 0.5 * (seconds[(n - 1) / 2] + seconds[n / 2]), .least = seconds[0], .cpu = cpu};
}

static pipe_status time_all(const bench *b, const bench_case *c, size_t n, timer *t, pipe_error *err)
{
    for (size_t i = 0; i < n; i++)
        PIPE_TRY(warm_up(&c[i], &t[i], err));
    for (size_t k = 0; k < b->repeats; k++)
        for (size_t i = 0; i < n; i++)
            PIPE_TRY(repeat(&c[i], &t[i], k, err));
    return PIPE_OK;
}

pipe_status bench_measure(bench *b, bench_case *cases, size_t n, bench_time *out, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) timer *t = pipe_alloc_array(n + 1, sizeof *t);
    PIPE_CLEANUP(pipe_free_ptr) double *wall = pipe_alloc_array(n * b->repeats + 1, sizeof *wall);
    double first = 0.0;

    for (size_t i = 0; i < n; i++)
        t[i].wall = wall + i * b->repeats;
    reset_peak();
    PIPE_TRY(time_all(b, cases, n, t, err));
    for (size_t i = 0; i < n; i++) {
        const bench_time m = bench_summary(t[i].wall, b->repeats, t[i].cpu);
        PIPE_CLEANUP(pipe_free_ptr)
        char *note = i ? pipe_format("%s is %.2fx as fast", cases[0].name, m.median / first) : NULL;
        if (i == 0)
            first = m.median;
        if (out)
            out[i] = m;
        bench_add_row(b, &cases[i], &m, note);
    }
    return PIPE_OK;
}

/* ---- rows ---- */
typedef struct rate {
    const char *unit;
    double value, best, best_cpu; /* `best`: of the machine, 0: not known */
} rate;

static rate rate_of(const bench *b, const bench_case *c, double seconds)
{
    switch (c->unit) {
    case BENCH_FLOPS:
        return (rate){"GFLOP/s", 1e-9 * c->work / seconds, 1e-9 * b->flops, 1e-9 * b->flops_cpu};
    case BENCH_BYTES:
        return (rate){"GB/s", 1e-9 * c->work / seconds, 1e-9 * b->bandwidth, 1e-9 * b->bandwidth_cpu};
    case BENCH_OPS:
        return (rate){"us/op", 1e6 * seconds / c->work, 0.0, 0.0};
    case BENCH_EVALUATIONS:
        break;
    }
    return (rate){"us/call", 1e6 * seconds / c->work, 0.0, 0.0};
}

static uint64_t peak_memory(const bench_case *c)
{
    return pipei_device_peak_memory(pipei_engine_device(c->engine));
}

static void add_json(bench *b, const bench_case *c, const bench_time *t, const char *note)
{
    const rate r = rate_of(b, c, t->median);
    json_t *row = json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:s}", "name", c->name, "shape", c->shape, "ms",
                            1e3 * t->median, "least_ms", 1e3 * t->least, "cpu_ms", 1e3 * t->cpu, "rate",
                            r.value, "unit", r.unit);

    json_object_set_new(row, "work", json_real(c->work));
    if (r.best > 0.0) {
        json_object_set_new(row, "of_peak", json_real(r.value / r.best));
        json_object_set_new(row, "of_peak_cpu", json_real(rate_of(b, c, t->cpu).value / r.best_cpu));
    }
    if (c->memory) {
        json_object_set_new(row, "peak_memory", json_integer((json_int_t)peak_memory(c)));
        json_object_set_new(row, "resident_growth", json_integer((json_int_t)growth(c)));
    }
    if (note)
        json_object_set_new(row, "note", json_string(note));
    json_array_append_new(b->rows, row);
}

static void print_heading(void)
{
    printf("%-26s %-36s %9s %9s %9s %9s %-7s %5s %5s\n", "name", "shape", "ms", "least", "CPU ms", "rate",
           "unit", "peak", "CPU");
}

static void print_row(const bench *b, const bench_case *c, const bench_time *t, const char *note)
{
    const rate r = rate_of(b, c, t->median);

    printf("%-26s %-36s %9.3f %9.3f %9.3f %9.2f %-7s", c->name, c->shape, 1e3 * t->median, 1e3 * t->least,
           1e3 * t->cpu, r.value, r.unit);
    if (r.best > 0.0)
        printf(" %4.0f%% %4.0f%%", 100.0 * r.value / r.best,
               100.0 * rate_of(b, c, t->cpu).value / r.best_cpu);
    else if (note || c->memory)
        printf(" %5s %5s", "", "");
    if (c->memory)
        printf("  %.0f MiB at most", (double)peak_memory(c) / (1 << 20));
    if (note)
        printf("  %s", note);
    printf("\n");
    fflush(stdout);
}

void bench_add_row(bench *b, const bench_case *c, const bench_time *t, const char *note)
{
    if (b->rows) {
        add_json(b, c, t, note);
        return;
    }
    if (!b->titled)
        print_heading();
    b->titled = true;
    print_row(b, c, t, note);
}

void bench_add_missing(bench *b, const char *name, const char *what, const char *advice)
{
    if (b->rows)
        json_array_append_new(b->rows,
                              json_pack("{s:s, s:s, s:s}", "name", name, "missing", what, "advice", advice));
    else
        printf("%-26s %s is not there: %s\n", name, what, advice);
}
