/* report.html: one file that a person opens, moves and keeps: no script, nothing
 * loaded from elsewhere, pictures as data URIs, curves as inline SVG. */
#include "core/run/session.h"
#include "core/run/json.h"
#include <pipe/plot.h>

#include <inttypes.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    PICTURE_MAX = 4 << 20,
    PICTURES_MAX = 24 << 20, /* bytes embedded: one, all */
    BUCKETS = 400 /* of a curve, each its smallest and its largest value */
};

static const char style[] =
    ":root{--ink:#1b1f24;--soft:#59636e;--line:#d8dee4;--card:#fff;--page:#f5f7f9;--good:#1a7f37;--bad:#"
    "c1242d;"
    "--warn:#9a6700;--accent:#0072b2}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--soft:#9aa4ae;--line:#343b43;--card:#1d2329;--"
    "page:#14181c;"
    "--good:#4cc26d;--bad:#ff7b80;--warn:#e0b341;--accent:#5bb5ec}}"
    "*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);"
    "font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif}"
    "main{max-width:1120px;margin:0 auto;padding:28px 20px "
    "60px}h1{font-size:26px;margin:0;letter-spacing:-.01em}"
    "h2{font-size:17px;margin:34px 0 10px}h3{font-size:14px;margin:0 0 6px;color:var(--soft);font-weight:600}"
    ".top{display:flex;gap:14px;align-items:center;flex-wrap:wrap}"
    ".badge{padding:2px "
    "11px;border-radius:12px;font-size:13px;font-weight:600;color:#fff;background:var(--soft)}"
    ".badge.complete{background:#1a7f37}.badge.failed{background:#c1242d}.badge.interrupted{background:#"
    "9a6700}"
    "dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:10px 22px;margin:18px 0 0}"
    "dt{color:var(--soft);font-size:12.5px}dd{margin:0;overflow-wrap:anywhere}"
    ".card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px 16px;margin:0 "
    "0 14px}"
    ".grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));gap:14px}.grid "
    ".card{margin:0}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14px}"
    "th{text-align:left;font-weight:600;color:var(--soft);font-size:12.5px;padding:5px 12px 5px "
    "0;white-space:nowrap}"
    "td{border-top:1px solid var(--line);padding:6px 12px 6px 0;vertical-align:top}"
    ".n{font-variant-numeric:tabular-nums;white-space:nowrap}.good{color:var(--good);font-weight:600}"
    ".bad{color:var(--bad);font-weight:600}.soft{color:var(--soft)}code,pre{font:13px/1.45 "
    "ui-monospace,'DejaVu Sans "
    "Mono',monospace}pre{overflow-x:auto;margin:8px 0 0}summary{cursor:pointer;font-weight:600}"
    ".plot{background:#fff;border-radius:4px}.plot svg{display:block;width:100%;height:auto}"
    "img{width:100%;max-width:760px;image-rendering:pixelated;border-radius:4px;display:block}a{color:var(--"
    "accent)}"
    ".error{border-left:4px solid var(--bad)}.error pre{white-space:pre-wrap}";

static void escape(pipe_text *out, const char *s)
{
    for (; *s; s++) {
        switch (*s) {
        case '<': pipe_text_add(out, "&lt;"); break;
        case '>': pipe_text_add(out, "&gt;"); break;
        case '&': pipe_text_add(out, "&amp;"); break;
        case '"': pipe_text_add(out, "&quot;"); break;
        case '\'': pipe_text_add(out, "&#39;"); break;
        default: pipe_text_add_bytes(out, s, 1);
        }
    }
}

/* In an href: what is not plain is written as %XX. */
static void escape_url(pipe_text *out, const char *s)
{
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                           strchr("/._-", c);
        if (plain)
            pipe_text_add_bytes(out, s, 1);
        else
            pipe_text_addf(out, "%%%02X", c);
    }
}

/* "<td>" text "</td>": every text from outside passes through escape(). */
static void cell(pipe_text *out, const char *class, const char *text)
{
    pipe_text_addf(out, class ? "<td class=\"%s\">" : "<td>", class);
    escape(out, text);
    pipe_text_add(out, "</td>");
}

static void fact(pipe_text *out, const char *name, const char *value)
{
    pipe_text_addf(out, "<div><dt>%s</dt><dd>", name);
    escape(out, value);
    pipe_text_add(out, "</dd></div>");
}

/* ---- the head ---- */

static void add_head(const pipei_session *s, pipe_text *out)
{
    char started[32], took[48];
    const bool worked = s->env->engine != NULL;

    pipei_time_text(s->started, started);
    started[19] = '\0';
    started[10] = ' ';
    pipei_duration_text(s->ended - s->started, took, sizeof took);
    pipe_text_add(out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                       "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>");
    escape(out, s->graph->name);
    pipe_text_addf(out, "</title><style>%s</style></head><body><main>\n<div class=\"top\"><h1>", style);
    escape(out, s->graph->name);
    pipe_text_addf(out, "</h1><span class=\"badge %s\">%s</span></div>\n<dl>", s->state, s->state);
    PIPE_CLEANUP(pipe_free_ptr) char *when = pipe_format("%s UTC", started);
    PIPE_CLEANUP(pipe_free_ptr) char *seed = pipe_format("%" PRIu64, s->graph->seed);
    PIPE_CLEANUP(pipe_free_ptr) char *version = pipe_format("pipe %s", pipe_version());
    fact(out, "Started", when);
    fact(out, "Took", took);
    fact(out, "Device", worked ? pipei_device_describe(pipei_engine_device(s->env->engine))->name
                               : "none: nothing had to be computed");
    fact(out, "Seed", seed);
    fact(out, "Made with", version);
    fact(out, "Run", pipei_path_name(s->folder.final));
    pipe_text_add(out, "</dl>\n");
    if (s->error) {
        pipe_text_add(out, "<h2>What went wrong</h2><div class=\"card error\"><pre>");
        escape(out, s->error);
        pipe_text_add(out, "</pre></div>\n");
    }
}

static void add_expectations(const pipei_session *s, pipe_text *out)
{
    if (s->graph->n_expects == 0 || !s->expected[0].claim)
        return;
    pipe_text_add(out,
                  "<h2>Expectations</h2><div class=\"card scroll\"><table><tr><th>Number</th><th>Value</th>"
                  "<th>Bound</th><th></th></tr>\n");
    for (size_t k = 0; k < s->graph->n_expects; k++) {
        const pipei_expect *e = &s->graph->expect[k];
        const pipei_expected *x = &s->expected[k];
        PIPE_CLEANUP(pipe_free_ptr) char *name = pipe_format("%s.%s", e->node->name, e->metric);
        pipe_text_add(out, "<tr>");
        cell(out, NULL, name);
        pipe_text_addf(
            out, x->reported ? "<td class=\"n\">%.6g</td><td class=\"n\">" : "<td>-</td><td class=\"n\">",
            x->value);
        if (e->has_min)
            pipe_text_addf(out, "at least %.6g", e->min);
        if (e->has_max)
            pipe_text_addf(out, "%sat most %.6g", e->has_min ? ", " : "", e->max);
        pipe_text_addf(out, "</td><td class=\"%s\">%s</td></tr>\n", x->met ? "good" : "bad",
                       !x->reported ? "never reported" : x->met ? "met" : "not met");
    }
    pipe_text_add(out, "</table></div>\n");
}

/* ---- pictures and files ---- */

static const char *picture_type(const char *name)
{
    const char *e = pipei_path_extension(name);

    return strcmp(e, "png") == 0 ? "image/png" : strcmp(e, "svg") == 0 ? "image/svg+xml" : NULL;
}

static bool add_picture(const char *path, const char *type, size_t *embedded, pipe_text *out)
{
    PIPE_CLEANUP(pipei_map_close) pipei_map map = {0};

    if (pipei_map_open(path, &map, NULL) != PIPE_OK || map.size == 0 || map.size > PICTURE_MAX ||
        *embedded + map.size > PICTURES_MAX)
        return false;
    *embedded += map.size;
    PIPE_CLEANUP(pipe_free_ptr) unsigned char *text = pipe_alloc(4 * ((map.size + 2) / 3) + 1);
    EVP_EncodeBlock(text, map.data, (int)map.size);
    pipe_text_addf(out, "<img alt=\"\" src=\"data:%s;base64,%s\">", type, (const char *)text);
    return true;
}

static void add_link(const pipei_task *t, const char *file, pipe_text *out)
{
    pipe_text_add(out, "<a href=\"outputs/");
    escape_url(out, t->node->name);
    pipe_text_add(out, "/");
    escape_url(out, file);
    pipe_text_add(out, "\">");
    escape(out, file);
    pipe_text_add(out, "</a>");
}

/* Is there the same as SVG?  sink.plot writes both. */
static bool has_svg_twin(const pipe_context *ctx, const char *png)
{
    const size_t stem = strlen(png) - strlen(pipei_path_extension(png));

    for (size_t i = 0; i < ctx->n_files; i++)
        if (strncmp(ctx->file[i], png, stem) == 0 && strcmp(ctx->file[i] + stem, "svg") == 0)
            return true;
    return false;
}

static void add_pictures(const pipei_session *s, pipe_text *out)
{
    size_t embedded = 0, shown = 0;

    for (size_t k = 0; k < s->n; k++) {
        const pipei_task *t = &s->task[k];
        for (size_t i = 0; i < t->ctx->n_files; i++) {
            const char *type = picture_type(t->ctx->file[i]);
            if (!type || (strcmp(type, "image/png") == 0 && has_svg_twin(t->ctx, t->ctx->file[i])))
                continue;
            PIPE_CLEANUP(pipe_text_free) pipe_text picture = {0};
            if (!add_picture(t->ctx->file_path[i], type, &embedded, &picture))
                continue;
            if (shown++ == 0)
                pipe_text_add(out, "<h2>Pictures</h2><div class=\"grid\">\n");
            pipe_text_add(out, "<div class=\"card\"><h3>");
            escape(out, t->node->name);
            pipe_text_add(out, " / ");
            add_link(t, t->ctx->file[i], out);
            pipe_text_addf(out, "</h3>%s</div>\n", picture.data);
        }
    }
    if (shown)
        pipe_text_add(out, "</div>\n");
}

/* ---- curves ---- */

/* So many points that a screen can show: the smallest and the largest of every bucket. */
static size_t thin(const pipei_series *m, double *x, double *y)
{
    if (m->n <= 2 * BUCKETS) {
        memcpy(x, m->step, m->n * sizeof *x);
        memcpy(y, m->value, m->n * sizeof *y);
        return m->n;
    }
    size_t n = 0;
    for (size_t b = 0; b < BUCKETS; b++) {
        const size_t from = b * m->n / BUCKETS, to = (b + 1) * m->n / BUCKETS;
        size_t low = from, high = from;
        for (size_t i = from; i < to; i++) {
            if (m->value[i] < m->value[low])
                low = i;
            if (m->value[i] > m->value[high])
                high = i;
        }
        const size_t first = low < high ? low : high, second = low < high ? high : low;
        x[n] = m->step[first];
        y[n++] = m->value[first];
        if (second != first) {
            x[n] = m->step[second];
            y[n++] = m->value[second];
        }
    }
    return n;
}

static bool spans_decades(const double *y, size_t n)
{
    double low = INFINITY, high = 0.0;

    for (size_t k = 0; k < n; k++) {
        low = fmin(low, y[k]);
        high = fmax(high, y[k]);
    }
    return low > 0.0 && high > 30.0 * low;
}

static pipe_status add_curve(const pipei_task *t, const pipei_series *m, pipe_text *out, pipe_error *err)
{
    double x[2 * BUCKETS], y[2 * BUCKETS];
    const size_t n = thin(m, x, y);
    const pipe_series line = {.x = x, .y = y, .count = n};
    pipe_plot plot = PIPE_PLOT_INIT;

    plot.x_label = "step";
    plot.series = &line;
    plot.series_count = 1;
    plot.log_y = spans_decades(y, n);
    plot.width = 480;
    plot.height = 290;
    pipe_text_add(out, "<div class=\"card\"><h3>");
    escape(out, t->node->name);
    pipe_text_add(out, ".");
    escape(out, m->name);
    pipe_text_addf(out, " <span class=\"soft\">last %.5g</span></h3><div class=\"plot\">",
                   m->value[m->n - 1]);
    PIPE_TRY(pipe_plot_svg(&plot, out, err));
    pipe_text_add(out, "</div></div>\n");
    return PIPE_OK;
}

static pipe_status add_curves(const pipei_session *s, pipe_text *out, pipe_error *err)
{
    size_t shown = 0;

    for (size_t k = 0; k < s->n; k++)
        for (size_t i = 0; i < s->task[k].ctx->metrics.n; i++) {
            const pipei_series *m = &s->task[k].ctx->metrics.v[i];
            if (!m->curve || m->n < 2)
                continue;
            if (shown++ == 0)
                pipe_text_add(out, "<h2>Curves</h2><div class=\"grid\">\n");
            PIPE_TRY(add_curve(&s->task[k], m, out, err));
        }
    if (shown)
        pipe_text_add(out, "</div>\n");
    return PIPE_OK;
}

/* ---- steps, parameters ---- */

static void add_numbers(const pipei_task *t, pipe_text *out)
{
    pipe_text_add(out, "<td class=\"n\">");
    for (size_t i = 0; i < t->ctx->metrics.n; i++) {
        const pipei_series *m = &t->ctx->metrics.v[i];
        pipe_text_add(out, i ? "<br>" : "");
        escape(out, m->name);
        pipe_text_addf(out, " %.5g", m->value[m->n - 1]);
    }
    pipe_text_add(out, "</td>");
}

static void add_files(const pipei_task *t, pipe_text *out)
{
    enum { SHOWN = 8 };

    pipe_text_add(out, "<td>");
    for (size_t i = 0; i < t->ctx->n_files && i < SHOWN; i++) {
        pipe_text_add(out, i ? "<br>" : "");
        add_link(t, t->ctx->file[i], out);
    }
    if (t->ctx->n_files > SHOWN)
        pipe_text_addf(out, "<br><span class=\"soft\">and %zu more</span>", t->ctx->n_files - SHOWN);
    pipe_text_add(out, "</td>");
}

static void add_steps(const pipei_session *s, pipe_text *out)
{
    pipe_text_add(
        out, "<h2>Steps</h2><div class=\"card scroll\"><table><tr><th>Step</th><th>Plugin</th><th>State</th>"
             "<th>Time</th><th>Numbers</th><th>Files</th></tr>\n");
    for (size_t k = 0; k < s->n; k++) {
        const pipei_task *t = &s->task[k];
        const bool bad = t->state == PIPEI_FAILED || t->state == PIPEI_SKIPPED || t->state == PIPEI_STOPPED;
        char took[48] = "";
        if (!t->node->plugin->step)
            continue;
        if (t->seconds > 0)
            pipei_duration_text(t->seconds, took, sizeof took);
        pipe_text_add(out, "<tr>");
        cell(out, NULL, t->node->name);
        cell(out, NULL, t->node->plugin->meta.name);
        pipe_text_addf(out, "<td%s>%s%s", bad ? " class=\"bad\"" : "",
                       t->state == PIPEI_DONE ? "run" : pipei_task_state_name(t->state),
                       t->why && !bad ? "<br><span class=\"soft\">" : "");
        if (t->why && !bad) {
            escape(out, t->why);
            pipe_text_add(out, "</span>");
        }
        pipe_text_addf(out, "</td><td class=\"n%s\">%s</td>", t->state == PIPEI_CACHED ? " soft" : "", took);
        add_numbers(t, out);
        add_files(t, out);
        pipe_text_add(out, "</tr>\n");
    }
    pipe_text_add(out, "</table></div>\n");
}

static void add_parameters(const pipei_session *s, pipe_text *out)
{
    pipe_arena *a = pipe_arena_new();

    pipe_text_add(out,
                  "<h2>Parameters</h2><div class=\"card scroll\"><table><tr><th>Node</th><th>Plugin</th>"
                  "<th>Inputs</th><th>Parameters <span class=\"soft\">(defaults in grey)</span></th></tr>\n");
    for (size_t k = 0; k < s->n; k++) {
        const pipei_node *n = s->task[k].node;
        pipe_text_add(out, "<tr>");
        cell(out, NULL, n->name);
        cell(out, NULL, n->plugin->meta.name);
        pipe_text_add(out, "<td>");
        for (size_t i = 0; i < n->n_inputs; i++)
            for (size_t j = 0; j < n->input_count[i]; j++) {
                pipe_text_addf(out, "%s: ", n->plugin->meta.inputs[i].name);
                escape(out, n->input[i][j].from->name);
                pipe_text_add(out, "<br>");
            }
        pipe_text_add(out, "</td><td>");
        for (size_t i = 0; i < n->n_params; i++) {
            const pipe_param *row = pipei_node_row(n, i);
            pipe_text_addf(out, "%s<span%s>%s ", i ? " · " : "", n->param[i] ? "" : " class=\"soft\"",
                           row->name);
            escape(out, pipei_param_canonical(row, n->param[i], a));
            pipe_text_add(out, "</span>");
        }
        pipe_text_add(out, "</td></tr>\n");
    }
    pipe_text_add(out, "</table></div>\n");
    pipe_arena_free(a);
}

static void add_details(const pipei_session *s, pipe_text *out)
{
    json_t *file;
    size_t k;

    if (json_array_size(s->data)) {
        pipe_text_add(out, "<h2>Data</h2><div class=\"card scroll\"><table><tr><th>Node</th><th>Path</th>"
                           "<th>SHA-256</th></tr>\n");
        json_array_foreach(s->data, k, file) {
            pipe_text_add(out, "<tr>");
            cell(out, NULL, pipei_json_text(file, "node"));
            cell(out, NULL, pipei_json_text(file, "path"));
            cell(out, "soft", pipei_json_text(file, "sha256"));
            pipe_text_add(out, "</tr>\n");
        }
        pipe_text_add(out, "</table></div>\n");
    }
    pipe_text_add(out, "<h2>Pipeline</h2><div class=\"card\"><details><summary>As written</summary><pre>");
    if (s->graph->text) {
        PIPE_CLEANUP(pipe_text_free) pipe_text copy = {0};
        pipe_text_add_bytes(&copy, s->graph->text, s->graph->text_length);
        escape(out, copy.data);
    }
    pipe_text_add(out,
                  "</pre></details></div><div class=\"card\"><details><summary>Resolved: everything explicit"
                  "</summary><pre>");
    escape(out, s->resolved.data ? s->resolved.data : "");
    pipe_text_add(out, "</pre></details></div>\n</main></body></html>\n");
}

pipe_status pipei_report_write(const pipei_session *s, pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text out = {0};
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(s->folder.partial, "report.html");

    add_head(s, &out);
    add_expectations(s, &out);
    add_pictures(s, &out);
    PIPE_TRY(add_curves(s, &out, err));
    add_steps(s, &out);
    add_parameters(s, &out);
    add_details(s, &out);
    return pipei_file_write(path, out.data, out.length, err);
}
