/* pipe new-plugin: a plugin that compiles outside the tree, from the templates of
 * tools/templates (the build turns them into strings). */
#include "core/plugin/scan.h"
#include "cli.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define TEMPLATES(X) \
    X(sampler_c) \
    X(sampler_yaml) X(sampler_runs) X(schedule_c) X(schedule_yaml) X(schedule_runs) X(dataset_c) \
        X(dataset_yaml) X(dataset_runs) X(Makefile) X(test_sh) X(README_md) X(gitignore)
#define DECLARE(name) extern const char pipe_template_##name[];
TEMPLATES(DECLARE)

static const cli_option options[] = {
    {"overwrite", 0, NULL, "write into a folder that exists, over files of the same names"}, {NULL}};

/* What differs from kind to kind. */
static const struct kind {
    const char *name, *source, *pipeline, *runs;
} kinds[] = {
    {PIPE_KIND_SAMPLER, pipe_template_sampler_c, pipe_template_sampler_yaml, pipe_template_sampler_runs},
    {PIPE_KIND_SCHEDULE, pipe_template_schedule_c, pipe_template_schedule_yaml, pipe_template_schedule_runs},
    {PIPE_KIND_DATASET, pipe_template_dataset_c, pipe_template_dataset_yaml, pipe_template_dataset_runs},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static const struct kind *find_kind(const cli_args *a, const char *name)
{
    const char *names[KINDS];
    for (size_t k = 0; k < KINDS; k++) {
        names[k] = kinds[k].name;
        if (strcmp(kinds[k].name, name) == 0)
            return &kinds[k];
    }
    for (size_t k = 0; pipei_kind_at(k); k++)
        if (strcmp(pipei_kind_at(k), name) == 0) {
            cli_fail(EXIT_USAGE, "there is no template for the kind %s yet: sampler, schedule or dataset",
                     name);
            return NULL;
        }
    const char *near = pipe_nearest(name, names, KINDS);
    cli_usage(a->verb, "there is no kind %s%s%s%s: sampler, schedule or dataset", name,
              near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    return NULL;
}

/* ---- writing ---- */

typedef struct plan {
    const char *folder, *name;
    const struct kind *kind;
} plan;

static void fill(const plan *p, const char *text, pipe_text *out)
{
    const struct {
        const char *mark, *text;
    } fields[] = {{"@NAME@", p->name}, {"@KIND@", p->kind->name}, {"@RUNS@\n", p->kind->runs}};
    while (*text) {
        size_t k = 0, n = strcspn(text, "@");
        pipe_text_add_bytes(out, text, n);
        text += n;
        while (k < 3 && strncmp(text, fields[k].mark, strlen(fields[k].mark)) != 0)
            k++;
        if (k < 3) {
            pipe_text_add(out, fields[k].text);
            text += strlen(fields[k].mark);
        } else if (*text) {
            pipe_text_add_bytes(out, text++, 1);
        }
    }
}

static pipe_status put(const plan *p, const char *name, const char *text, bool executable, pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text out = {0};
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(p->folder, name);
    fill(p, text, &out);
    PIPE_TRY(pipei_file_write(path, out.data, out.length, err));
    if (executable && chmod(path, 0755) < 0)
        return pipei_fail_errno(err, errno, "%s", path);
    return PIPE_OK;
}

static pipe_status put_all(const plan *p, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *source = pipe_format("%s.c", p->name);
    PIPE_TRY(pipei_make_folders(p->folder, err));
    PIPE_TRY(put(p, source, p->kind->source, false, err));
    PIPE_TRY(put(p, "Makefile", pipe_template_Makefile, false, err));
    PIPE_TRY(put(p, "test.yaml", p->kind->pipeline, false, err));
    PIPE_TRY(put(p, "test.sh", pipe_template_test_sh, true, err));
    PIPE_TRY(put(p, ".gitignore", pipe_template_gitignore, false, err));
    return put(p, "README.md", pipe_template_README_md, false, err);
}

static int run(const cli_args *a)
{
    pipe_error err = PIPE_ERROR_INIT;
    if (!cli_operands(a, 2, 3, "KIND or NAME"))
        return EXIT_USAGE;
    plan p = {.name = a->operand[1], .folder = a->operand[a->n_operands - 1]};
    p.kind = find_kind(a, a->operand[0]);
    if (!p.kind)
        return EXIT_USAGE;
    if (pipei_plugin_name_check(p.name, p.kind->name, &err) != PIPE_OK)
        return cli_fail(EXIT_USAGE, "%s", err.message);
    if (pipei_path_exists(p.folder) && !cli_flag(a, "overwrite"))
        return cli_fail(EXIT_USAGE, "%s exists: name another folder, or --overwrite replaces its files",
                        p.folder);
    if (put_all(&p, &err) != PIPE_OK)
        return cli_fail_error(err.status, &err);
    printf("%s/%s.c is a %s that works. Next:\n  cd %s && make && make check\n", p.folder, p.name,
           p.kind->name, p.folder);
    return 0;
}

const cli_verb cli_verb_new_plugin = {
    .name = "new-plugin",
    .summary = "Writes a plugin of your own, to start from",
    .usage = "[OPTIONS] KIND NAME [DIR]",
    .help = "KIND is sampler, schedule or dataset; NAME is vendor.word, as in my.sampler, or begins with the "
            "kind. "
            "DIR (default: NAME) gets the source, a Makefile that needs only `pkg-config pipe`, a test and a "
            "README.\n"
            "\n"
            "  pipe new-plugin sampler my.sampler\n"
            "  cd my.sampler && make && make check",
    .options = options,
    .run = run,
};
