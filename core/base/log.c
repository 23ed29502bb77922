/* The log: levels by part of the engine, stderr and a run's log.txt.
 *
 * One mutex guards everything.  The highest enabled level is also kept in an
 * atomic, so that a disabled pipe_log(DEBUG) in a loop costs one load. */
#include "core/base/log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_RULES = 32, WHO = 64 };

typedef struct rule {
    char who[WHO];
    pipe_log_level level;
} rule;

static const char *const level_names[] = {"error", "warn", "info", "debug", "trace"};
enum { LEVELS = sizeof level_names / sizeof level_names[0] };

/* Process-wide by nature: there is one stderr. */
static struct {
    pthread_mutex_t lock;
    pthread_once_t once;
    pipe_log_level level;
    rule rules[MAX_RULES];
    size_t rule_count;
    atomic_int highest;             /* of level, rules and the attached file */
    pipei_color color;
    FILE *file;
    void (*clear)(void *), (*redraw)(void *);
    void *progress;
} state = {
    .lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT, .level = PIPE_LOG_INFO,
};

const char *pipei_log_level_name(pipe_log_level level)
{
    return (unsigned)level < LEVELS ? level_names[level] : "unknown";
}

bool pipei_log_level_parse(const char *name, size_t n, pipe_log_level *out)
{
    for (int k = 0; k < LEVELS; k++)
        if (strlen(level_names[k]) == n && memcmp(level_names[k], name, n) == 0) {
            *out = (pipe_log_level)k;
            return true;
        }
    return false;
}

static void update_highest(void)
{
    int highest = (int)state.level;
    for (size_t k = 0; k < state.rule_count; k++)
        if ((int)state.rules[k].level > highest)
            highest = (int)state.rules[k].level;
    if (state.file && highest < PIPE_LOG_INFO)
        highest = PIPE_LOG_INFO;
    atomic_store(&state.highest, highest);
}

static pipe_status parse_rules(const char *text, pipe_log_level *level, rule *rules, size_t *count,
                               pipe_error *err)
{
    for (const char *p = text; *p; ) {
        const size_t n = strcspn(p, ",");
        const char *colon = memchr(p, ':', n);
        const char *name = colon ? colon + 1 : p;
        const size_t length = n - (size_t)(name - p);
        pipe_log_level parsed;
        if (n > 0) {
            if (!pipei_log_level_parse(name, length, &parsed)) {
                char word[32];
                snprintf(word, sizeof word, "%.*s", (int)(length < 31 ? length : 31), name);
                const char *near = pipe_nearest(word, level_names, LEVELS);
                return pipe_fail(err, PIPE_EINVAL, "log level \"%s\" is unknown: error, warn, info, debug "
                                 "or trace%s%s%s", word, near ? " (did you mean " : "", near ? near : "",
                                 near ? "?)" : "");
            }
            if (!colon) {
                *level = parsed;
            } else {
                const size_t who = (size_t)(colon - p);
                if (who == 0 || who >= WHO || *count == MAX_RULES)
                    return pipe_fail(err, PIPE_EINVAL,
                                     "log rule \"%.*s\": a name of 1 to %d letters before the "
                                     "colon, at most %d rules", (int)n, p, WHO - 1, MAX_RULES);
                memcpy(rules[*count].who, p, who);
                rules[*count].who[who] = '\0';
                rules[(*count)++].level = parsed;
            }
        }
        p += n;
        if (*p == ',')
            p++;
    }
    return PIPE_OK;
}

static pipe_status apply_rules(const char *text, pipe_error *err)
{
    pipe_log_level level = state.level;
    rule rules[MAX_RULES];
    size_t count = 0;
    PIPE_TRY(parse_rules(text, &level, rules, &count, err));
    pipei_log_lock();
    state.level = level;
    memcpy(state.rules, rules, count * sizeof rules[0]);
    state.rule_count = count;
    update_highest();
    pipei_log_unlock();
    return PIPE_OK;
}

static void start(void)
{
    const char *text = getenv("PIPE_LOG");
    pipe_error err = PIPE_ERROR_INIT;
    update_highest();
    if (text && *text && apply_rules(text, &err) != PIPE_OK)
        fprintf(stderr, "warn: PIPE_LOG: %s\n", err.message);
}

static void ready(void)
{
    pthread_once(&state.once, start);
}

pipe_status pipei_log_set_rules(const char *rules, pipe_error *err)
{
    ready();
    return apply_rules(rules, err);
}

void pipei_log_lock(void)
{
    pthread_mutex_lock(&state.lock);
}

void pipei_log_unlock(void)
{
    pthread_mutex_unlock(&state.lock);
}

void pipei_log_set_level(pipe_log_level level)
{
    ready();
    pipei_log_lock();
    state.level = level;
    update_highest();
    pipei_log_unlock();
}

pipe_log_level pipei_log_level(void)
{
    ready();
    pipei_log_lock();
    const pipe_log_level level = state.level;
    pipei_log_unlock();
    return level;
}

void pipei_log_set_color(pipei_color mode)
{
    pipei_log_lock();
    state.color = mode;
    pipei_log_unlock();
}

static bool color_wanted(int fd)
{
    if (state.color != PIPEI_COLOR_AUTO)
        return state.color == PIPEI_COLOR_ALWAYS;
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    if ((no && *no) || (term && strcmp(term, "dumb") == 0))
        return false;
    return isatty(fd) == 1;
}

bool pipei_color_wanted(int fd)
{
    pipei_log_lock();
    const bool wanted = color_wanted(fd);
    pipei_log_unlock();
    return wanted;
}

void pipei_log_attach(FILE *file)
{
    ready();
    pipei_log_lock();
    if (state.file)
        fflush(state.file);
    state.file = file;
    update_highest();
    pipei_log_unlock();
}

void pipei_log_set_progress(void (*clear)(void *), void (*redraw)(void *), void *data)
{
    pipei_log_lock();
    state.clear = clear;
    state.redraw = redraw;
    state.progress = data;
    pipei_log_unlock();
}

/* The longest rule that is `who` or its beginning up to a dot or slash. */
static pipe_log_level level_of(const char *who)
{
    pipe_log_level level = state.level;
    size_t longest = 0;
    for (size_t k = 0; who && k < state.rule_count; k++) {
        const size_t n = strlen(state.rules[k].who);
        if (n > longest && strncmp(who, state.rules[k].who, n) == 0 &&
            (who[n] == '\0' || who[n] == '.' || who[n] == '/')) {
            longest = n;
            level = state.rules[k].level;
        }
    }
    return level;
}

bool pipe_log_enabled(pipe_log_level level, const char *who)
{
    ready();
    if ((int)level > atomic_load_explicit(&state.highest, memory_order_relaxed))
        return false;
    pipei_log_lock();
    const bool enabled = level <= level_of(who) || (state.file && level <= PIPE_LOG_INFO);
    pipei_log_unlock();
    return enabled;
}

static void print_terminal(pipe_log_level level, const char *who, const char *text)
{
    static const char *const colors[] = {"\033[1;31m", "\033[1;33m", "", "\033[2m", "\033[2m"};
    const bool color = color_wanted(STDERR_FILENO);
    const char *on = color ? colors[level] : "", *off = color && *on ? "\033[0m" : "";
    if (state.clear)
        state.clear(state.progress);
    /* Information needs no label; the rest says how bad it is. */
    if (level == PIPE_LOG_INFO)
        fprintf(stderr, "%s%s%s\n", who ? who : "", who ? ": " : "", text);
    else
        fprintf(stderr, "%s%s:%s %s%s%s\n", on, level_names[level], off, who ? who : "", who ? ": " : "",
                text);
    fflush(stderr);
    if (state.redraw)
        state.redraw(state.progress);
}

static void print_file(pipe_log_level level, const char *who, const char *text)
{
    struct timespec now;
    struct tm utc;
    char stamp[32] = "";
    clock_gettime(CLOCK_REALTIME, &now);
    if (gmtime_r(&now.tv_sec, &utc))
        strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    fprintf(state.file, "%s.%03ldZ %-5s %s%s%s\n", stamp, now.tv_nsec / 1000000, level_names[level],
            who ? who : "", who ? ": " : "", text);
    fflush(state.file);             /* a crash right after must not lose the reason */
}

void pipe_log(pipe_log_level level, const char *who, const char *fmt, ...)
{
    if ((unsigned)level >= LEVELS || !pipe_log_enabled(level, who))
        return;
    char small[512];
    char *text = small, *large = NULL;
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    const int n = vsnprintf(small, sizeof small, fmt, args);
    va_end(args);
    if (n >= (int)sizeof small) {
        text = large = pipe_alloc((size_t)n + 1);
        vsnprintf(large, (size_t)n + 1, fmt, again);
    }
    va_end(again);

    pipei_log_lock();
    if (level <= level_of(who))
        print_terminal(level, who, text);
    if (state.file)
        print_file(level, who, text);
    pipei_log_unlock();
    pipe_free(large);
}
