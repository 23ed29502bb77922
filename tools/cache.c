/* pipe cache */
#include "core/run/run.h"
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const cli_option options[] = {
    {"max-size", 0, "SIZE", "gc: how much to keep, such as 500M or 20G (default 10G)"},
    {"json", 0, NULL, "list: print one JSON document"},
    {NULL}
};

/* "500M": powers of 1024. */
static bool parse_size(const char *text, uint64_t *out)
{
    static const char units[] = "KMGT";
    char *end;
    errno = 0;
    const double v = strtod(text, &end);
    const char *unit = *end ? strchr(units, *end) : NULL;
    if (end == text || errno || !(v >= 0) || (*end && !unit) ||
        (unit && end[1] && strcmp(end + 1, "iB") != 0))
        return false;
    double bytes = v;
    for (const char *u = units; unit && u <= unit; u++)
        bytes *= 1024.0;
    if (bytes > 1e18)
        return false;
    *out = (uint64_t)bytes;
    return true;
}

static int run(const cli_args *a)
{
    static const char *const actions[] = {"list", "gc", "clear", "verify"};
    PIPE_CLEANUP(pipe_text_free) pipe_text t = {0};
    pipe_error err = PIPE_ERROR_INIT;
    uint64_t keep = (uint64_t)10 << 30;
    size_t bad = 0;
    if (!cli_operands(a, 0, 1, "action"))
        return EXIT_USAGE;
    const char *action = a->n_operands ? a->operand[0] : "list", *size = cli_value(a, "max-size");
    pipe_status status;
    if (size && !parse_size(size, &keep))
        return cli_usage(a->verb, "--max-size=%s: a number of bytes, such as 500M or 20G", size);
    if (strcmp(action, "list") == 0) {
        status = pipei_cache_list(&t, cli_flag(a, "json"), &err);
    } else if (strcmp(action, "gc") == 0) {
        status = pipei_cache_gc(keep, &t, &err);
    } else if (strcmp(action, "clear") == 0) {
        status = pipei_cache_clear(&t, &err);
    } else if (strcmp(action, "verify") == 0) {
        status = pipei_cache_verify(&t, &bad, &err);
    } else {
        const char *near = pipe_nearest(action, actions, 4);
        return cli_usage(a->verb, "%s: list, gc, clear or verify%s%s%s", action,
                         near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    }
    if (status != PIPE_OK)
        return cli_fail_error(status, &err);
    cli_output(a, &t);
    return bad ? cli_fail(EXIT_RUN, "%zu cached result%s damaged", bad, bad == 1 ? " is" : "s are") : 0;
}

const cli_verb cli_verb_cache = {
    .name = "cache",
    .summary = "Lists, checks or empties the cache of step results",
    .usage = "[OPTIONS] [list|gc|clear|verify]",
    .help =
        "list shows what is there; gc removes what was not used for longest until --max-size is kept; clear "
        "removes everything; verify reads all results again and compares their checksums. Results that a run "
        "is using are left alone.",
    .options = options,
    .run = run,
};
