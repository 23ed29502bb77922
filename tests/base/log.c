/* The log: levels, rules, colour, log.txt, the progress line. */
#include "support/folder.h"
#include "core/base/log.h"

#include <pthread.h>
#include <unistd.h>

/* Runs `body` with stderr in a file and returns what was written. */
static char *captured(void (*body)(void))
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "stderr");
    fflush(stderr);
    const int saved = dup(STDERR_FILENO);
    FILE *f = fopen(path, "w");
    cr_assert_not_null(f);
    dup2(fileno(f), STDERR_FILENO);
    fclose(f);
    body();
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    char *text;
    size_t n;
    MUST(pipei_file_read(path, 1 << 24, &text, &n, &err));
    return text;
}

static void say_all(void)
{
    pipe_log(PIPE_LOG_ERROR, "fit", "e%d", 1);
    pipe_log(PIPE_LOG_WARN, NULL, "w");
    pipe_log(PIPE_LOG_INFO, "fit", "i");
    pipe_log(PIPE_LOG_DEBUG, "graph", "d");
    pipe_log(PIPE_LOG_TRACE, "graph.parse", "t");
}

static const struct {
    const char *rules, *expected, *why;
} level_cases[] = {
    {"", "error: fit: e1\nwarn: w\nfit: i\n", "info by default"},
    {"error", "error: fit: e1\n", "only errors"},
    {"info,graph:debug", "error: fit: e1\nwarn: w\nfit: i\ndebug: graph: d\n", "one part in detail"},
    {"error,graph:trace", "error: fit: e1\ndebug: graph: d\ntrace: graph.parse: t\n",
        "a rule covers what is under it"},
    {"trace,graph:error,graph.parse:trace", "error: fit: e1\nwarn: w\nfit: i\ntrace: graph.parse: t\n",
     "the longest rule wins"},
    {"error,gra:trace", "error: fit: e1\n", "a rule is not a prefix of letters"},
};

Test(log, levels)
{
    unsetenv("PIPE_LOG");
    for (size_t k = 0; k < sizeof level_cases / sizeof level_cases[0]; k++) {
        pipe_error err = PIPE_ERROR_INIT;
        pipei_log_set_level(PIPE_LOG_INFO);
        MUST(pipei_log_set_rules(level_cases[k].rules, &err));
        PIPE_CLEANUP(pipe_free_ptr) char *text = captured(say_all);
        cr_expect_str_eq(text, level_cases[k].expected, "%s", level_cases[k].why);
    }
}

Test(log, environment_sets_the_rules)
{
    setenv("PIPE_LOG", "warn,graph:trace", 1);
    PIPE_CLEANUP(pipe_free_ptr) char *text = captured(say_all);
    cr_expect_str_eq(text, "error: fit: e1\nwarn: w\ndebug: graph: d\ntrace: graph.parse: t\n");
}

Test(log, a_wrong_environment_is_reported_and_ignored)
{
    setenv("PIPE_LOG", "inof", 1);
    PIPE_CLEANUP(pipe_free_ptr) char *text = captured(say_all);
    cr_expect_str_eq(text, "warn: PIPE_LOG: log level \"inof\" is unknown: error, warn, info, debug or trace "
                           "(did you mean info?)\nerror: fit: e1\nwarn: w\nfit: i\n");
}

Test(log, wrong_rules_change_nothing)
{
    pipe_error err = PIPE_ERROR_INIT;
    unsetenv("PIPE_LOG");
    MUST(pipei_log_set_rules("error", &err));
    check_failure(pipei_log_set_rules("trace,graph:loud", &err), PIPE_EINVAL, &err, "loud|trace",
                  "unknown level");
    check_failure(pipei_log_set_rules(":info", &err), PIPE_EINVAL, &err, ":info", "no name");
    cr_expect_eq(pipei_log_level(), PIPE_LOG_ERROR);
}

Test(log, colour)
{
    unsetenv("PIPE_LOG");
    unsetenv("NO_COLOR");
    pipei_log_set_color(PIPEI_COLOR_ALWAYS);
    PIPE_CLEANUP(pipe_free_ptr) char *colored = captured(say_all);
    cr_expect_not_null(strstr(colored, "\033[1;31merror:\033[0m fit"), "no red error");
    pipei_log_set_color(PIPEI_COLOR_AUTO);
    PIPE_CLEANUP(pipe_free_ptr) char *plain = captured(say_all);
    cr_expect_null(strchr(plain, '\033'), "a file is no terminal");
}

static int events;
static char order[16];

static void cleared(void *data)
{
    cr_expect_eq(data, order);
    order[events++] = 'c';
}

static void redrawn(void *data)
{
    cr_expect_eq(data, order);
    order[events++] = 'r';
}

Test(log, progress_makes_room)
{
    unsetenv("PIPE_LOG");
    pipei_log_set_progress(cleared, redrawn, order);
    PIPE_CLEANUP(pipe_free_ptr) char *text = captured(say_all);
    pipei_log_set_progress(NULL, NULL, NULL);
    cr_expect_str_eq(order, "crcrcr", "once around each of the three messages");
}

Test(log, file_keeps_what_quiet_hides)
{
    pipe_error err = PIPE_ERROR_INIT;
    unsetenv("PIPE_LOG");
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "log.txt");
    FILE *f = fopen(path, "w");
    cr_assert_not_null(f);
    pipei_log_set_level(PIPE_LOG_ERROR);
    pipei_log_attach(f);
    cr_expect(pipe_log_enabled(PIPE_LOG_INFO, "fit"));
    PIPE_CLEANUP(pipe_free_ptr) char *text = captured(say_all);
    pipei_log_attach(NULL);
    fclose(f);
    cr_expect_not(pipe_log_enabled(PIPE_LOG_INFO, "fit"));
    cr_expect_str_eq(text, "error: fit: e1\n");
    char *log;
    size_t n;
    MUST(pipei_file_read(path, 1 << 20, &log, &n, &err));
    cr_expect_not_null(strstr(log, "Z error fit: e1\n"), "%s", log);
    cr_expect_not_null(strstr(log, "Z info  fit: i\n"), "%s", log);
    cr_expect_null(strstr(log, "graph"), "%s", log);
    cr_expect_eq(log[10], 'T', "an ISO date comes first");
    pipe_free(log);
}

static void *chatter(void *data)
{
    char text[2000];
    memset(text, *(const char *)data, sizeof text);
    text[sizeof text - 1] = '\0';
    for (int k = 0; k < 50; k++)
        pipe_log(PIPE_LOG_INFO, NULL, "%s", text);
    return NULL;
}

static void chatter_in_threads(void)
{
    pthread_t threads[4];
    for (int k = 0; k < 4; k++)
        cr_assert_eq(pthread_create(&threads[k], NULL, chatter, (void *)(uintptr_t)&"abcd"[k]), 0);
    for (int k = 0; k < 4; k++)
        pthread_join(threads[k], NULL);
}

Test(log, lines_of_threads_do_not_mix)
{
    unsetenv("PIPE_LOG");
    PIPE_CLEANUP(pipe_free_ptr) char *text = captured(chatter_in_threads);
    size_t lines = 0;
    for (const char *p = text; *p; lines++) {
        const size_t n = strcspn(p, "\n");
        cr_assert_eq(n, 1999, "line %zu has %zu letters", lines, n);
        for (size_t k = 1; k < n; k++)
            cr_assert_eq(p[k], p[0]);
        p += n + 1;
    }
    cr_assert_eq(lines, 200);
}
