/* Kernels compiled ahead, in processes of their own.
 *
 * PoCL compiles a kernel when it is launched first, one at a time per process, and keeps
 * the result in a cache on the disk that all processes share.  So where a program, or the
 * first launch of a plan's kernel, takes so long that it was not there, helpers and this
 * process share the programs and kernels that are still to come.  They launch kernels without
 * memory: the guard that these begin with (source.c) returns at once.  Then all are in the cache.
 *
 * A helper is the program itself (pipei_ahead_helper()).  It finds what there is to do, a
 * `job_list` with jobs and programs behind it, on descriptor 3 and which of it is its own,
 * one number after the other, on descriptor 4, from which all helpers read.  Nothing here
 * fails: a kernel that no helper has compiled is compiled where it is needed, with the
 * message that belongs to it. */
#include "core/base/file.h"
#include "core/tensor/build.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    MOST_ARGS = 128,
    MOST_JOBS = 8192,                  /* a pipe holds twice as many numbers */
    MOST_HELPERS = 7,
    FEW_PROGRAMS = 3,                  /* a helper's first program takes as long as these */
    MANY = 4,                          /* more jobs take long enough to say so */
    LIST_FD = 3,
    NUMBERS_FD = 4,
    FREE_FD = 10                       /* from here on, descriptors do not stand in the way of these */
};

#define POCL "Portable Computing Language"

typedef struct job {
    char kernel[256];                  /* "": the program alone */
    uint64_t global[3], local[3];
    uint32_t program, dims, n_args;
    uint8_t arg_bytes[MOST_ARGS];      /* 0: a buffer */
} job;

typedef struct job_list {
    char device[sizeof((pipei_device_info *)0)->selector];
    uint32_t n_programs, n_jobs;       /* n_jobs jobs follow, then the programs' sources, each with its NUL */
} job_list;

/* ---- whoever works ---- */

static bool next_number(int numbers, uint32_t *out)
{
    ssize_t n;
    do
        n = read(numbers, out, sizeof *out);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof *out;
}

/* Without memory: see above. */
static void launch_empty(pipei_device *d, cl_program program, const job *j)
{
    static const cl_ulong zero;
    const size_t global[3] = {j->global[0], j->global[1], j->global[2]};
    const size_t local[3] = {j->local[0], j->local[1], j->local[2]};
    cl_int code = CL_SUCCESS;
    cl_kernel kernel = clCreateKernel(program, j->kernel, &code);

    for (uint32_t k = 0; k < j->n_args && code == CL_SUCCESS; k++)
        code = j->arg_bytes[k] ? clSetKernelArg(kernel, k, j->arg_bytes[k], &zero)
                               : clSetKernelArg(kernel, k, sizeof(cl_mem), NULL);
    if (code == CL_SUCCESS)
        code = clEnqueueNDRangeKernel(pipei_device_queue(d), kernel, j->dims, NULL, global, local, 0, NULL, NULL);
    if (code == CL_SUCCESS)
        code = clFinish(pipei_device_queue(d));
    if (kernel)
        clReleaseKernel(kernel);
}

/* What is wrong with a program or a kernel, who needs it will say. */
static void work_off(pipei_device *d, const job *jobs, uint32_t n_jobs, const char *const *sources, int numbers)
{
    for (uint32_t k; next_number(numbers, &k);) {
        pipe_error err = PIPE_ERROR_INIT;
        cl_program program = NULL;
        if (k < n_jobs && pipei_program_get(d, sources[jobs[k].program], &program, &err) == PIPE_OK &&
            jobs[k].kernel[0])
            launch_empty(d, program, &jobs[k]);
    }
}

/* ---- the helper ---- */

static bool fits(const job *j, const job_list *list)
{
    bool fit = memchr(j->kernel, '\0', sizeof j->kernel) && j->program < list->n_programs && j->dims >= 1 &&
               j->dims <= 3 && j->n_args <= MOST_ARGS;
    for (uint32_t k = 0; fit && k < j->n_args; k++)
        fit = j->arg_bytes[k] <= sizeof(cl_ulong);
    return fit;
}

/* The sources behind the jobs; false: the list is not whole. */
static bool find_sources(const job_list *list, const char *at, const char *end, const char **sources)
{
    for (uint32_t k = 0; k < list->n_programs; k++) {
        const char *past = at < end ? memchr(at, '\0', (size_t)(end - at)) : NULL;
        if (!past)
            return false;
        sources[k] = at;
        at = past + 1;
    }
    return true;
}

static pipe_status help(const pipei_map *map, pipe_error *err)
{
    static const char broken[] = "the list of kernels to compile is not whole";
    job_list list;

    if (map->size < sizeof list)
        return pipe_fail(err, PIPE_EFORMAT, broken);
    memcpy(&list, map->data, sizeof list);
    if (list.n_jobs == 0 || list.n_jobs > MOST_JOBS || list.n_programs > MOST_JOBS ||
        !memchr(list.device, '\0', sizeof list.device) || (map->size - sizeof list) / sizeof(job) < list.n_jobs)
        return pipe_fail(err, PIPE_EFORMAT, broken);
    const char *end = (const char *)map->data + map->size, *behind = (const char *)map->data + sizeof list;
    PIPE_CLEANUP(pipe_free_ptr) const char **sources = pipe_alloc_array(list.n_programs + 1, sizeof *sources);
    PIPE_CLEANUP(pipe_free_ptr) job *jobs = pipe_alloc_array(list.n_jobs, sizeof *jobs);
    memcpy(jobs, behind, list.n_jobs * sizeof *jobs);
    bool whole = find_sources(&list, behind + list.n_jobs * sizeof *jobs, end, sources);
    for (uint32_t k = 0; whole && k < list.n_jobs; k++)
        whole = fits(&jobs[k], &list);
    if (!whole)
        return pipe_fail(err, PIPE_EFORMAT, broken);

    pipei_device *d = NULL;
    PIPE_TRY(pipei_device_open(list.device, NULL, &d, err));
    work_off(d, jobs, list.n_jobs, sources, NUMBERS_FD);
    pipei_device_close(d);
    return PIPE_OK;
}

int pipei_ahead_main(void)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(pipei_map_close) pipei_map map = {0};

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pipe_status status = pipei_map_open("/proc/self/fd/3", &map, &err);
    if (status == PIPE_OK)
        status = help(&map, &err);
    if (status != PIPE_OK)
        fprintf(stderr, "pipe: helper: %s\n", err.message);
    return status == PIPE_OK ? 0 : 1;
}

/* ---- who asks ---- */

static const char *helper; /* set once, before engines are opened */

void pipei_ahead_helper(const char *program) { helper = program; }

typedef struct asking {
    job *jobs;
    const char **sources;
    uint64_t *identities;              /* of the jobs' launches */
    uint32_t n_jobs, n_programs;
} asking;

static asking asking_new(pipe_arena *a, size_t most)
{
    return (asking){.jobs = pipe_arena_alloc(a, (most + 1) * sizeof(job)),
                    .sources = pipe_arena_alloc(a, (most + 1) * sizeof(char *)),
                    .identities = pipe_arena_alloc(a, (most + 1) * sizeof(uint64_t))};
}

static uint32_t program_number(asking *a, const char *text)
{
    for (uint32_t k = 0; k < a->n_programs; k++)
        if (a->sources[k] == text)
            return k;
    a->sources[a->n_programs] = text;
    return a->n_programs++;
}

static bool is_among(uint64_t x, const uint64_t *list, size_t n)
{
    for (size_t k = 0; k < n; k++)
        if (list[k] == x)
            return true;
    return false;
}

static void add_launch(asking *a, const pipei_device *d, const launch *l)
{
    job *j = &a->jobs[a->n_jobs];
    cl_program program = NULL;

    *j = (job){.dims = l->dims, .n_args = l->n_args};
    if (!l->guarded || l->n_args > MOST_ARGS || a->n_jobs == MOST_JOBS ||
        clGetKernelInfo(l->kernel, CL_KERNEL_PROGRAM, sizeof(cl_program), &program, NULL) != CL_SUCCESS ||
        clGetKernelInfo(l->kernel, CL_KERNEL_FUNCTION_NAME, sizeof j->kernel, j->kernel, NULL) != CL_SUCCESS)
        return;
    for (uint32_t k = 0; k < l->dims; k++) {
        j->global[k] = l->global[k];
        j->local[k] = l->local[k];
    }
    memcpy(j->arg_bytes, l->arg_bytes, l->n_args);
    j->program = program_number(a, pipei_program_source(d, program));
    a->identities[a->n_jobs++] = l->identity;
}

static bool put_list(int fd, const pipei_device_info *device, const asking *a)
{
    job_list list = {.n_programs = a->n_programs, .n_jobs = a->n_jobs};
    snprintf(list.device, sizeof list.device, "%s", device->selector);
    bool done = pipei_fd_write(fd, &list, sizeof list) && pipei_fd_write(fd, a->jobs, a->n_jobs * sizeof(job));
    for (uint32_t k = 0; done && k < a->n_programs; k++)
        done = pipei_fd_write(fd, a->sources[k], strlen(a->sources[k]) + 1);
    return done;
}

/* A descriptor out of the way of those that helpers read from; closes `fd`. */
static int moved(int fd)
{
    const int to = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FREE_FD);
    if (fd >= 0)
        close(fd);
    return to;
}

/* All numbers of jobs, to be read by whoever is idle; never waits for room. */
static int open_numbers(uint32_t n)
{
    int ends[2];
    bool done = pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0;

    if (!done)
        return -1;
    for (uint32_t k = 0; k < n && done; k++)
        done = pipei_fd_write(ends[1], &k, sizeof k);
    close(ends[1]);
    const int numbers = moved(ends[0]);
    if (!done && numbers >= 0)
        close(numbers);
    return done ? numbers : -1;
}

static bool start(int list, int numbers, pid_t *out)
{
    char *const args[] = {(char *)"pipe", (char *)PIPEI_AHEAD_OPTION, NULL};
    posix_spawn_file_actions_t files;

    if (posix_spawn_file_actions_init(&files) != 0)
        return false;
    int code = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (code == 0)
        code = posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (code == 0 && !pipe_log_enabled(PIPE_LOG_DEBUG, "engine"))
        code = posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    if (code == 0)
        code = posix_spawn_file_actions_adddup2(&files, list, LIST_FD);
    if (code == 0)
        code = posix_spawn_file_actions_adddup2(&files, numbers, NUMBERS_FD);
    if (code == 0)
        code = posix_spawn(out, helper, &files, NULL, args, environ);
    posix_spawn_file_actions_destroy(&files);
    return code == 0;
}

/* Starts helpers for all cores but one, works itself, and waits for them. */
static void ask(pipe_engine *e, const asking *a, const char *what)
{
    const pipei_device_info *device = pipei_device_describe(e->device);
    const double since = pipei_seconds();
    pid_t children[MOST_HELPERS];
    uint32_t n = 0;

    if (!helper || a->n_jobs < 2 || device->compute_units < 2 || strcmp(device->platform, POCL) != 0)
        return;
    if (a->n_jobs > MANY)
        pipei_say_compiling(e);
    int list = memfd_create("kernels", MFD_CLOEXEC);
    const bool written = list >= 0 && put_list(list, device, a);
    list = moved(list);
    const int numbers = open_numbers(a->n_jobs);
    if (written && list >= 0 && numbers >= 0)
        while (n < MOST_HELPERS && n + 1 < device->compute_units && n + 1 < a->n_jobs &&
               start(list, numbers, &children[n]))
            n++;
    if (n > 0)
        work_off(e->device, a->jobs, a->n_jobs, a->sources, numbers);
    if (list >= 0)
        close(list);
    if (numbers >= 0)
        close(numbers);
    for (uint32_t k = 0; k < n; k++) {
        int status = 0;
        while (waitpid(children[k], &status, 0) < 0 && errno == EINTR)
            ;
        if (status != 0)
            pipe_log(PIPE_LOG_DEBUG, "engine", "a helper ended early, with wait status %d", status);
    }
    if (n > 0)
        pipe_log(PIPE_LOG_DEBUG, "engine", "%u processes compiled %u %s in %.1f s", n + 1, a->n_jobs, what,
                 pipei_seconds() - since);
}

void pipei_ahead_programs(pipe_engine *e, const char *const *sources, size_t n)
{
    asking a = asking_new(e->arena, n);
    for (size_t k = 0; k < n && k < MOST_JOBS; k++)
        a.jobs[a.n_jobs++] = (job){.dims = 1, .program = program_number(&a, sources[k])};
    if (a.n_jobs > FEW_PROGRAMS)
        ask(e, &a, "programs");
}

void pipei_ahead_kernels(pipe_engine *e, const launch *launches, size_t n)
{
    asking a = asking_new(e->arena, n);
    for (size_t k = 0; k < n; k++)
        if (launches[k].kernel && !is_among(launches[k].identity, e->compiled, e->n_compiled) &&
            !is_among(launches[k].identity, a.identities, a.n_jobs))
            add_launch(&a, e->device, &launches[k]);
    ask(e, &a, "kernels");
}

void pipei_ahead_compiled(pipe_engine *e, const launch *l)
{
    if (!l->kernel || is_among(l->identity, e->compiled, e->n_compiled))
        return;
    if (e->n_compiled == e->compiled_capacity) {
        e->compiled_capacity = e->compiled_capacity ? 2 * e->compiled_capacity : 256;
        e->compiled = pipe_realloc(e->compiled, e->compiled_capacity * sizeof *e->compiled);
    }
    e->compiled[e->n_compiled++] = l->identity;
}
