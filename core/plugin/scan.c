/* Opens a shared object in a child process and reports what it is.
 *
 * Opening runs the file's constructors, and reading a bad descriptor follows its
 * pointers: either may crash, exit, loop, print or eat all memory.  One process for
 * each file, forked without exec, so that neither a crash nor damage done without
 * one touches the parent or the next file (one process for many files was dropped:
 * it has to be started again behind each bad one, and blames the wrong file for
 * damaged memory).  A child costs about a millisecond, and only for files that are
 * new or changed.
 *
 *     child                                   parent
 *     'l'  about to open                      reads until a result, the death of
 *     'd'  open, about to read                the child, or the time limit
 *     'p' n bytes   a good descriptor
 *     'n'           no entry symbol
 *     'b' n bytes   broken: the reason
 */
#include "core/plugin/scan.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    CPU_SECONDS = 3, /* of processor time: does not depend on the load of the machine */
    WALL_SECONDS = 20, /* for those that sleep */
    MAX_REPORT = 4 * 1024 * 1024
};
#define MAX_MEMORY ((rlim_t)4 << 30) /* address space beyond what the parent has */

/* ---- the child ---- */

static void put(int fd, const void *data, size_t n)
{
    if (!pipei_fd_write(fd, data, n))
        _exit(0);
}

static void report(int fd, char what, const void *data, size_t n)
{
    const uint32_t size = (uint32_t)n;
    put(fd, &what, 1);
    put(fd, &size, sizeof size);
    put(fd, data, n);
    _exit(0); /* without destructors: the file has had its turn */
}

static void limit(int resource, rlim_t value)
{
    struct rlimit r;
    if (getrlimit(resource, &r) == 0 && (r.rlim_cur == RLIM_INFINITY || r.rlim_cur > value)) {
        r.rlim_cur = value;
        setrlimit(resource, &r);
    }
}

static void limit_memory(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return;
    if (fscanf(f, "%lu", &pages) == 1)
        limit(RLIMIT_AS, (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + MAX_MEMORY);
    fclose(f);
}

/* No terminal, no signals of the parent's, no core files, not for long. */
static void confine(pid_t parent)
{
    static const int usual[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGXCPU, SIGALRM, SIGTERM, SIGCHLD};
    sigset_t none;
    const int null = open("/dev/null", O_RDWR);
    for (int fd = 0; null >= 0 && fd < 3; fd++)
        dup2(null, fd);
    for (size_t k = 0; k < sizeof usual / sizeof usual[0]; k++)
        signal(usual[k], SIG_DFL);
    signal(SIGINT, SIG_IGN); /* Ctrl-C is for the parent, which ends us as it goes */
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_CPU, CPU_SECONDS);
    limit_memory();
}

static void child(const char *path, int fd)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_text blob = {0};

    put(fd, "l", 1);
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *why = dlerror();
        report(fd, 'b', why ? why : "the loader gives no reason", why ? strlen(why) : 26);
    }
    put(fd, "d", 1);
    const pipe_plugin *p = dlsym(handle, PIPE_ENTRY_SYMBOL);
    if (!p)
        report(fd, 'n', "", 0);
    if (pipei_plugin_check(p, &err) != PIPE_OK)
        report(fd, 'b', err.message, strlen(err.message));
    pipei_plugin_encode(p, &blob);
    report(fd, 'p', blob.data, blob.length);
}

/* ---- the parent ---- */

typedef struct talk {
    pid_t child;
    int fd;
    pipe_text heard;
    bool ended; /* the other end is closed */
    bool dead; /* and `status` is known */
    int status;
} talk;

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Reads what is there; waits up to `ms`. */
static void listen_for(talk *t, int ms)
{
    char buffer[16 * 1024];
    struct pollfd p = {.fd = t->ended ? -1 : t->fd, .events = POLLIN}; /* -1: sleeps only */
    if (poll(&p, 1, ms) <= 0)
        return;
    const ssize_t n = read(t->fd, buffer, sizeof buffer);
    if (n > 0)
        pipe_text_add_bytes(&t->heard, buffer, (size_t)n);
    else if (n == 0 || (errno != EINTR && errno != EAGAIN))
        t->ended = true;
}

static void reap(talk *t, bool wait)
{
    pid_t got;
    if (t->dead)
        return;
    do
        got = waitpid(t->child, &t->status, wait ? 0 : WNOHANG);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        t->status = 0; /* somebody else's handler took it: how it died is not known */
    t->dead = got != 0;
}

/* The result among what was heard: its letter, or 0 while it is not complete. */
static char result_of(const talk *t, const char **data, size_t *n)
{
    for (size_t k = 0; k < t->heard.length; k++) {
        const char what = t->heard.data[k];
        uint32_t size;
        if (what == 'l' || what == 'd')
            continue;
        if (t->heard.length - k - 1 < sizeof size)
            return 0;
        memcpy(&size, t->heard.data + k + 1, sizeof size);
        if (t->heard.length - k - 1 - sizeof size < size)
            return 0;
        *data = t->heard.data + k + 1 + sizeof size;
        *n = size;
        return what;
    }
    return 0;
}

static const char *doing(const talk *t)
{
    return t->heard.data && strchr(t->heard.data, 'd') ? "while its descriptor was read"
                                                       : "while it was opened (by one of its constructors)";
}

static const char *death(const talk *t, bool late, pipe_arena *a)
{
    if (late)
        return pipe_arena_format(a, "did not come to an end within %d seconds %s", WALL_SECONDS, doing(t));
    if (WIFSIGNALED(t->status) && WTERMSIG(t->status) == SIGXCPU)
        return pipe_arena_format(a, "did not come to an end within %d seconds of processor time %s",
                                 CPU_SECONDS, doing(t));
    if (WIFSIGNALED(t->status))
        return pipe_arena_format(a, "crashed %s: %s (signal %d)", doing(t), strsignal(WTERMSIG(t->status)),
                                 WTERMSIG(t->status));
    return pipe_arena_format(a, "ended the process with status %d %s", WEXITSTATUS(t->status), doing(t));
}

static void broken(pipei_record *out, const char *reason)
{
    out->found = PIPEI_FOUND_BROKEN;
    out->reason = reason;
}

/* For reasons that say nothing of the file: it is tried again the next time. */
static void untried(pipei_record *out, const char *reason)
{
    broken(out, reason);
    out->transient = true;
}

static void understand(const talk *t, bool late, pipe_arena *a, pipei_record *out)
{
    const char *data = NULL;
    size_t n = 0;
    switch (result_of(t, &data, &n)) {
    case 'p': {
        char *blob = pipe_arena_alloc(a, n + 1);
        memcpy(blob, data, n);
        out->found = PIPEI_FOUND_PLUGIN;
        out->blob = blob;
        out->blob_size = n;
        break;
    }
    case 'n': out->found = PIPEI_FOUND_LIBRARY; break;
    case 'b': broken(out, pipe_arena_strndup(a, data, n)); break;
    default:
        broken(out, death(t, late, a));
        out->transient = late; /* on a machine that is busy enough, anything is late */
    }
}

static bool complete(const talk *t)
{
    const char *data;
    size_t n;
    return result_of(t, &data, &n) != 0 || t->heard.length > MAX_REPORT;
}

/* Until there is a result or the child is dead; true: neither in time.  The end of
 * the pipe is no sign of death, nor the reverse: a constructor may have closed our
 * end, or started a process of its own that holds it open. */
static bool listen(talk *t)
{
    const int64_t deadline = now_ms() + 1000 * WALL_SECONDS;
    while (!complete(t) && !t->dead && now_ms() < deadline) {
        listen_for(t, 50);
        reap(t, false);
    }
    size_t before;
    do { /* what it said last */
        before = t->heard.length;
        listen_for(t, 0);
    } while (t->dead && !t->ended && t->heard.length > before && !complete(t));
    return !complete(t) && !t->dead;
}

void pipei_scan_file(const char *path, pipe_arena *a, pipei_record *out)
{
    int ends[2];
    talk t = {0};
    const pid_t parent = getpid();

    if (pipe2(ends, O_CLOEXEC) < 0) {
        untried(out, pipe_arena_format(a, "could not be scanned: no pipe: %s", strerror(errno)));
        return;
    }
    fflush(NULL); /* or a child that calls exit() would print our buffers again */
    t.child = fork();
    if (t.child < 0) {
        untried(out, pipe_arena_format(a, "could not be scanned: no child process: %s", strerror(errno)));
        close(ends[0]);
        close(ends[1]);
        return;
    }
    if (t.child == 0) {
        close(ends[0]);
        confine(parent);
        child(path, ends[1]);
        _exit(0);
    }
    close(ends[1]);
    t.fd = ends[0];
    const bool late = listen(&t);
    if (!t.dead)
        kill(t.child, SIGKILL);
    reap(&t, true);
    close(t.fd);
    understand(&t, late, a, out);
    pipe_text_free(&t.heard);
}
