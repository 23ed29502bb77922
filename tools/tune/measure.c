/* One set of parameters, verified and timed in a process of its own. */
#include "tune.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REPEATS = 5, MOST_RUNS = 200 };
#define SHORTEST 0.01 /* seconds of a repetition */
#define TOLERANCE 1e-5 /* of the sum of an element's terms: rounding stays a factor of ten below */

/* ---- references ---- */
static float number(size_t k, size_t salt)
{
    return (float)(((k + 1) * (2 * salt + 1) * 2654435761u >> 7) % 2003) / 1001.5f - 1.0f;
}

static float *numbers(size_t n, size_t salt)
{
    float *x = pipe_alloc_array(n, sizeof *x);

    for (size_t k = 0; k < n; k++)
        x[k] = number(k, salt);
    return x;
}

/* want = a b and size = |a| |b|, all row-major; a is [m, k] or, transposed, [k, m]. */
static void reference(size_t m, size_t n, size_t k, bool ta, bool tb, const float *a, const float *b,
                      double *want, double *size)
{
    memset(want, 0, m * n * sizeof *want);
    memset(size, 0, m * n * sizeof *size);
    for (size_t i = 0; i < m; i++)
        for (size_t l = 0; l < k; l++) {
            const double x = ta ? a[l * m + i] : a[i * k + l];
            for (size_t j = 0; j < n; j++) {
                const double y = x * (tb ? b[j * k + l] : b[l * n + j]);
                want[i * n + j] += y;
                size[i * n + j] += fabs(y);
            }
        }
}

void tune_problem_make(tune_problem *p, size_t n)
{
    *p = (tune_problem){.n = n,
                        .a = numbers(n * n, 1),
                        .b = numbers(n * n, 2),
                        .want = pipe_alloc_array(n * n, sizeof(double)),
                        .size = pipe_alloc_array(n * n, sizeof(double))};
    reference(n, n, n, false, false, p->a, p->b, p->want, p->size);
}

void tune_problem_free(tune_problem *p)
{
    pipe_free(p->a);
    pipe_free(p->b);
    pipe_free(p->want);
    pipe_free(p->size);
    *p = (tune_problem){0};
}

double tune_rate(const tune_problem *p, double seconds)
{
    return seconds > 0.0 ? 2e-9 * (double)(p->n * p->n * p->n) / seconds : 0.0;
}

/* ---- the child ---- */
typedef struct product {
    pipei_device *device;
    size_t m, n, k, batch;
    pipei_blas_operand a, b, c;
} product;

static void release(product *x)
{
    cl_mem const all[] = {x->a.mem, x->b.mem, x->c.mem};

    for (size_t k = 0; k < 3; k++)
        if (all[k])
            pipei_buffer_free(x->device, all[k]);
}

static pipe_status put(pipei_device *d, const float *data, size_t n, cl_mem *out, pipe_error *err)
{
    PIPE_TRY(pipei_buffer_new(d, n * sizeof(float), "pipe tune", out, err));
    return pipei_device_write(d, *out, 0, data, n * sizeof(float), err);
}

/* The result begins as NaN: what a kernel leaves out is wrong, whatever lay there. */
static pipe_status prepare(product *x, const float *a, const float *b, pipe_error *err)
{
    const size_t n = x->m * x->n * x->batch;
    PIPE_CLEANUP(pipe_free_ptr) float *nan = pipe_alloc_array(n, sizeof *nan);

    for (size_t k = 0; k < n; k++)
        nan[k] = NAN;
    PIPE_TRY(put(x->device, a, x->m * x->k * x->batch, &x->a.mem, err));
    PIPE_TRY(put(x->device, b, x->k * x->n * x->batch, &x->b.mem, err));
    return put(x->device, nan, n, &x->c.mem, err);
}

static pipe_status multiply(const product *x, size_t times, pipe_error *err)
{
    for (size_t k = 0; k < times; k++)
        PIPE_TRY(pipei_blas_gemm(x->device, x->m, x->n, x->k, x->batch, &x->a, &x->b, &x->c, err));
    return pipei_device_finish(x->device, err);
}

static pipe_status check(const product *x, const double *want, const double *size, pipe_error *err)
{
    const size_t n = x->m * x->n * x->batch;
    PIPE_CLEANUP(pipe_free_ptr) float *got = pipe_alloc_array(n, sizeof *got);

    PIPE_TRY(pipei_device_read(x->device, x->c.mem, 0, got, n * sizeof *got, err));
    for (size_t k = 0; k < n; k++)
        if (!(fabs(got[k] - want[k]) <= TOLERANCE * size[k]))
            return pipe_fail(err, PIPE_EDEVICE,
                             "%zu x %zu x %zu, batch %zu, %c%c: element %zu is %g instead of %g", x->m, x->n,
                             x->k, x->batch, x->a.transposed ? 't' : 'n', x->b.transposed ? 't' : 'n', k,
                             (double)got[k], want[k]);
    return PIPE_OK;
}

static pipe_status time_product(const product *x, double *out, pipe_error *err)
{
    double start = pipei_seconds(), least = 0.0;

    PIPE_TRY(multiply(x, 1, err));
    const double one = pipei_seconds() - start;
    const size_t times = one >= SHORTEST ? 1 : (size_t)fmin(MOST_RUNS, SHORTEST / fmax(one, 1e-6)) + 1;
    for (size_t k = 0; k < REPEATS; k++) {
        start = pipei_seconds();
        PIPE_TRY(multiply(x, times, err));
        const double now = (pipei_seconds() - start) / (double)times;
        least = k == 0 || now < least ? now : least;
    }
    *out = least;
    return PIPE_OK;
}

static pipe_status main_product(pipei_device *d, const tune_problem *p, double *seconds, pipe_error *err)
{
    PIPE_CLEANUP(release) product x = {.device = d, .m = p->n, .n = p->n, .k = p->n, .batch = 1};

    PIPE_TRY(prepare(&x, p->a, p->b, err));
    PIPE_TRY(multiply(&x, 1, err));
    PIPE_TRY(check(&x, p->want, p->size, err));
    PIPE_TRY(time_product(&x, seconds, err));
    return check(&x, p->want, p->size, err);
}

static pipe_status odd_product(pipei_device *d, size_t m, size_t n, size_t k, size_t batch, int t, pipe_error *err)
{
    const bool ta = t & 1, tb = t & 2;
    PIPE_CLEANUP(release) product x = {.device = d, .m = m, .n = n, .k = k, .batch = batch};
    PIPE_CLEANUP(pipe_free_ptr) float *a = numbers(batch * m * k, 3), *b = numbers(batch * k * n, 4);
    PIPE_CLEANUP(pipe_free_ptr) double *want = pipe_alloc_array(batch * m * n, sizeof *want),
                                       *size = pipe_alloc_array(batch * m * n, sizeof *size);

    x.a = (pipei_blas_operand){.stride = m * k, .transposed = ta};
    x.b = (pipei_blas_operand){.stride = k * n, .transposed = tb};
    x.c = (pipei_blas_operand){.stride = m * n};
    for (size_t z = 0; z < batch; z++)
        reference(m, n, k, ta, tb, a + z * m * k, b + z * k * n, want + z * m * n, size + z * m * n);
    PIPE_TRY(prepare(&x, a, b, err));
    PIPE_TRY(multiply(&x, 1, err));
    return check(&x, want, size, err);
}

static pipe_status odd_products(pipei_device *d, pipe_error *err)
{
    for (int t = 0; t < 4; t++) {
        PIPE_TRY(odd_product(d, 67, 131, 45, 1, t, err));
        PIPE_TRY(odd_product(d, 33, 31, 17, 3, t, err));
    }
    return odd_product(d, 1, 7, 1, 1, 0, err);
}

typedef struct answer {
    pipe_status status;
    double seconds;
    bool cpu;
    pipei_tuned_device info;
    char message[256];
} answer;

typedef struct task {
    const tune *t;
    const pipei_tuning *parameters; /* NULL: only say what the device is */
    const tune_problem *problem;
    bool all;
} task;

static pipe_status work_on(const task *w, pipei_device *d, answer *a, pipe_error *err)
{
    a->cpu = pipei_device_profile(d)->cpu;
    pipei_tuned_device_of(d, &a->info);
    if (!w->parameters)
        return PIPE_OK;
    PIPE_TRY(pipei_blas_tune(d, w->parameters, err));
    PIPE_TRY(main_product(d, w->problem, &a->seconds, err));
    return w->all ? odd_products(d, err) : PIPE_OK;
}

/* Its log would repeat itself for each candidate, and what compilers print is about
 * candidates that are dropped. */
static _Noreturn void child(const task *w, int fd, pid_t parent)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipei_device *d = NULL;
    answer a = {0};
    const int null = open("/dev/null", O_RDWR);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0);
    for (int k = 0; null >= 0 && k < 3; k++)
        dup2(null, k);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    a.status = pipei_device_open(w->t->device, w->t->profile, &d, &err);
    if (a.status == PIPE_OK)
        a.status = work_on(w, d, &a, &err);
    memcpy(a.message, err.message, sizeof a.message - 1); /* as much as a pipe takes at once */
    const ssize_t n = write(fd, &a, sizeof a); /* less than a pipe holds: all or nothing */
    pipei_device_close(d);
    _exit(n == (ssize_t)sizeof a ? 0 : 1);
}

/* ---- the parent ---- */
/* Reads the answer; false: there is none, and `how` says what became of the child. */
static bool wait_for(pid_t pid, int fd, double patience, answer *a, char *how, size_t size)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    const double end = pipei_seconds() + patience;
    int status = 0, ready = 0;
    double left;

    while (ready == 0 && (left = end - pipei_seconds()) > 0.0) {
        ready = poll(&p, 1, (int)(1000.0 * left) + 1);
        if (ready < 0 && errno == EINTR)
            ready = 0;
    }
    const bool heard = ready > 0 && read(fd, a, sizeof *a) == (ssize_t)sizeof *a;
    if (heard || ready == 0)
        kill(pid, SIGKILL); /* closing the device is not worth waiting for */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (ready == 0)
        snprintf(how, size, "it took more than %.0f seconds", patience);
    else if (!heard && WIFSIGNALED(status))
        snprintf(how, size, "the driver crashed: %s", strsignal(WTERMSIG(status)));
    else if (!heard)
        snprintf(how, size, "the driver ended the process with status %d", WEXITSTATUS(status));
    return heard;
}

static pipe_status ask(const task *w, answer *out, bool *heard, pipe_error *err)
{
    const pid_t parent = getpid();
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return pipe_fail(err, PIPE_EIO, "no pipe to a process that measures: %s", strerror(errno));
    fflush(NULL); /* or both would print what is buffered */
    const pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        child(w, ends[1], parent);
    }
    const int code = errno;
    close(ends[1]);
    if (pid > 0)
        *heard = wait_for(pid, ends[0], w->t->patience, out, out->message, sizeof out->message);
    close(ends[0]);
    return pid > 0 ? PIPE_OK : pipe_fail(err, PIPE_EIO, "no process that measures: %s", strerror(code));
}

pipe_status tune_identify(tune *t, pipe_error *err)
{
    answer a = {0};
    bool heard = false;

    PIPE_TRY(ask(&(task){.t = t}, &a, &heard, err));
    if (!heard || a.status != PIPE_OK)
        return pipe_fail(err, heard ? a.status : PIPE_EDEVICE, "%s", a.message);
    t->cpu = a.cpu;
    t->info = a.info;
    return PIPE_OK;
}

pipe_status tune_measure(const tune *t, const pipei_tuning *parameters, const tune_problem *p, bool all,
                         tune_result *out, pipe_error *err)
{
    answer a = {0};
    bool heard = false;

    PIPE_TRY(ask(&(task){t, parameters, p, all}, &a, &heard, err));
    *out = (tune_result){.right = heard && a.status == PIPE_OK, .seconds = a.seconds};
    if (!out->right)
        memcpy(out->why, a.message, sizeof out->why);
    return PIPE_OK;
}
