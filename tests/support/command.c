#include "support/command.h"

#include "core/base/file.h"
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void child(const char *folder, const char *cache, const char *line, int out, int err)
{
    signal(SIGINT, SIG_DFL); /* ignored where the suite runs in the background of a shell */
    if (folder && chdir(folder) != 0)
        _exit(126);
    if (cache)
        setenv("PIPE_CACHE_DIR", cache, 1);
    setenv("PIPE", TEST_BUILDDIR "/pipe", 1);
    setenv("TOP", TEST_TOPDIR, 1);
    unsetenv("PIPE_LOG");
    dup2(open("/dev/null", O_RDONLY), 0);
    dup2(out, 1);
    dup2(err, 2);
    execl("/bin/sh", "sh", "-c", line, (char *)NULL);
    _exit(127);
}

static char *drain(FILE *f)
{
    pipe_text text = {0};
    char buffer[4096];
    size_t n;

    rewind(f);
    while ((n = fread(buffer, 1, sizeof buffer, f)) > 0)
        pipe_text_add_bytes(&text, buffer, n);
    fclose(f);
    return text.data ? text.data : pipe_strdup("");
}

command command_run(const char *folder, const char *cache, const char *line)
{
    FILE *out = tmpfile(), *err = tmpfile();
    int status = 0;
    pid_t pid;

    cr_assert(out && err, "no temporary file");
    fflush(NULL);
    pid = fork();
    cr_assert(pid >= 0, "fork failed");
    if (pid == 0)
        child(folder, cache, line, fileno(out), fileno(err));
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return (command){.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
                     .out = drain(out),
                     .err = drain(err)};
}

pid_t command_start(const char *folder, const char *cache, const char *line)
{
    const int null = open("/dev/null", O_WRONLY);
    const pid_t pid = fork();

    cr_assert(pid >= 0, "fork failed");
    if (pid == 0)
        child(folder, cache, line, null, null);
    close(null);
    return pid;
}

void command_free(command *c)
{
    pipe_free(c->out);
    pipe_free(c->err);
}

void command_expect(const command *c, int status, const char *why)
{
    cr_expect(c->status == status, "%s: exit status %d, not %d\n--- stdout\n%s\n--- stderr\n%s", why,
              c->status, status, c->out, c->err);
}
