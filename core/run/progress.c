/* Progress: a bar on a terminal, a plain line every 10 s elsewhere, JSON lines.
 *
 * The rate is that of the last RATE_WINDOW seconds or so: an exponential average,
 * so that the time left follows a change of speed (the first steps compile
 * kernels and would spoil an average over everything). */
#include "core/run/progress.h"
#include "core/base/log.h"
#include "core/run/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define REDRAW 0.1
#define PLAIN 10.0
#define RATE_WINDOW 5.0

typedef enum mode { BAR, PLAIN_LINES, JSON_LINES, SILENT } mode;

struct pipei_progress {
    mode mode;
    char node[64], unit[24], detail[128];
    uint64_t done, total;
    double rate;                    /* per second; 0: not known yet */
    double sampled_at;              /* when the rate was last updated */
    uint64_t sampled_done;
    double drawn_at;
    bool resumed;                   /* the next update says where an earlier run ended */
    bool running, visible;          /* visible: the bar stands on the terminal's last line */
};

static void clear_line(void *data)
{
    pipei_progress *p = data;

    if (p->visible)
        fputs("\r\033[K", stderr);
    p->visible = false;
}

static unsigned terminal_columns(void)
{
    struct winsize size;

    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

static void add_bar(double fraction, pipe_text *out)
{
    enum { WIDTH = 20 };
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    const unsigned filled = (unsigned)(fraction * WIDTH * 8);

    for (unsigned k = 0; k < WIDTH; k++) {
        if (k < filled / 8)
            pipe_text_add(out, "█");
        else if (k == filled / 8 && filled % 8)
            pipe_text_add(out, eighths[filled % 8]);
        else
            pipe_text_add(out, "·");
    }
}

/* Cuts to `columns` characters, counting UTF-8 sequences as one. */
static void cut(pipe_text *t, size_t from, unsigned columns)
{
    unsigned used = 0;

    for (size_t k = from; k < t->length; k++) {
        const bool starts = ((unsigned char)t->data[k] & 0xc0) != 0x80;
        if (starts && used++ == columns) {
            t->length = k;
            t->data[k] = '\0';
            return;
        }
    }
}

void pipei_progress_line(const char *node, uint64_t done, uint64_t total, const char *unit,
                         const char *detail, double rate, unsigned columns, bool bar, pipe_text *out)
{
    const size_t from = out->length;
    const double fraction = total ? fmin((double)done / (double)total, 1.0) : 0.0;

    pipe_text_addf(out, "%s ", node);
    if (bar && total) {
        add_bar(fraction, out);
        pipe_text_add(out, " ");
    }
    if (total)
        pipe_text_addf(out, "%" PRIu64 "/%" PRIu64, done, total);
    else
        pipe_text_addf(out, "%" PRIu64, done);
    if (unit && *unit)
        pipe_text_addf(out, " %s", unit);
    if (rate > 0) {
        if (rate >= 1.0)
            pipe_text_addf(out, "  %.*f/s", rate < 100 ? 1 : 0, rate);
        else
            pipe_text_addf(out, "  %.1f s each", 1.0 / rate);
    }
    if (detail && *detail)
        pipe_text_addf(out, "  %s", detail);
    if (rate > 0 && total > done) {
        char left[48];
        pipei_duration_text((double)(total - done) / rate, left, sizeof left);
        pipe_text_addf(out, "  %s left", left);
    }
    if (columns)
        cut(out, from, columns);
}

/* With the log's lock held. */
static void draw(void *data)
{
    pipei_progress *p = data;
    PIPE_CLEANUP(pipe_text_free) pipe_text line = {0};

    if (!p->running || p->mode != BAR)
        return;
    pipei_progress_line(p->node, p->done, p->total, p->unit, p->detail, p->rate, terminal_columns() - 1, true,
                        &line);
    fprintf(stderr, "\r%s\033[K", line.data);
    fflush(stderr);
    p->visible = true;
}

pipe_status pipei_progress_new(const char *name, pipei_progress **out, pipe_error *err)
{
    static const char *const names[] = {"auto", "bar", "plain", "json", "none"};
    const bool quiet = pipei_log_level() < PIPE_LOG_INFO;
    size_t k = 0;

    while (name && k < 5 && strcmp(name, names[k]) != 0)
        k++;
    if (k == 5) {
        const char *near = pipe_nearest(name, names, 5);
        return pipe_fail(err, PIPE_EINVAL, "progress \"%s\" is unknown: auto, bar, plain, json or none%s%s%s",
                         name, near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
    }
    pipei_progress *p = pipe_alloc(sizeof *p);
    if (k == 0)
        p->mode = quiet ? SILENT : isatty(STDERR_FILENO) == 1 ? BAR : PLAIN_LINES;
    else
        p->mode = (mode)(k - 1);
    if (p->mode == BAR)
        pipei_log_set_progress(clear_line, draw, p);
    *out = p;
    return PIPE_OK;
}

void pipei_progress_free(pipei_progress *p)
{
    if (!p)
        return;
    pipei_progress_end(p);
    if (p->mode == BAR)
        pipei_log_set_progress(NULL, NULL, NULL);
    pipe_free(p);
}

static void copy_text(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from ? from : "");
}

void pipei_progress_begin(pipei_progress *p, const char *node)
{
    pipei_log_lock();
    copy_text(p->node, sizeof p->node, node);
    p->unit[0] = p->detail[0] = '\0';
    p->done = p->total = p->sampled_done = 0;
    p->rate = 0;
    p->sampled_at = pipei_clock();
    p->drawn_at = p->mode == BAR ? 0.0 : p->sampled_at;
    p->running = p->resumed = false; /* nothing to draw before the first update */
    pipei_log_unlock();
}

void pipei_progress_resume(pipei_progress *p)
{
    p->resumed = true;
}

static void sample_rate(pipei_progress *p, double now)
{
    const double elapsed = now - p->sampled_at;

    if (p->done <= p->sampled_done || elapsed < 0.05)
        return;
    const double rate = (double)(p->done - p->sampled_done) / elapsed;
    const double keep = p->rate > 0 ? exp(-elapsed / RATE_WINDOW) : 0.0;
    p->rate = keep * p->rate + (1.0 - keep) * rate;
    p->sampled_at = now;
    p->sampled_done = p->done;
}

static void print_json(const pipei_progress *p)
{
    json_t *j = json_object();

    json_object_set_new(j, "event", json_string("progress"));
    pipei_json_set_text(j, "node", p->node);
    json_object_set_new(j, "done", json_integer((json_int_t)p->done));
    json_object_set_new(j, "total", json_integer((json_int_t)p->total));
    pipei_json_set_text(j, "unit", p->unit);
    if (p->detail[0])
        pipei_json_set_text(j, "detail", p->detail);
    if (p->rate > 0)
        json_object_set_new(j, "rate", json_real(p->rate));
    PIPE_CLEANUP(pipe_free_ptr) char *line = pipei_json_line(j);
    json_decref(j);
    fprintf(stderr, "%s\n", line);
    fflush(stderr);
}

void pipei_progress_update(pipei_progress *p, const char *node, uint64_t done, uint64_t total,
                           const char *unit, const char *detail)
{
    if (p->mode == SILENT)
        return;
    const double now = pipei_clock();
    const double interval = p->mode == PLAIN_LINES ? PLAIN : REDRAW;
    const bool last = total && done >= total && p->mode == JSON_LINES;

    p->done = done;
    if (p->resumed) {
        p->resumed = false;
        p->sampled_at = now;
        p->sampled_done = done;
    }
    if (now - p->drawn_at < interval && !last)
        return;
    pipei_log_lock();
    copy_text(p->node, sizeof p->node, node);
    copy_text(p->unit, sizeof p->unit, unit);
    copy_text(p->detail, sizeof p->detail, detail);
    p->total = total;
    p->drawn_at = now;
    p->running = true;
    sample_rate(p, now);
    if (p->mode == BAR) {
        draw(p);
    } else if (p->mode == JSON_LINES) {
        print_json(p);
    } else {
        PIPE_CLEANUP(pipe_text_free) pipe_text line = {0};
        pipei_progress_line(p->node, done, total, unit, detail, p->rate, 0, false, &line);
        fprintf(stderr, "%s\n", line.data);
        fflush(stderr);
    }
    pipei_log_unlock();
}

void pipei_progress_end(pipei_progress *p)
{
    pipei_log_lock();
    clear_line(p);
    fflush(stderr);
    p->running = false;
    pipei_log_unlock();
}
