/* Pipelines in files: includes, relative paths, missing files. */
#include "graph/support.h"

#include <unistd.h>

static char *write_file(const char *folder, const char *name, const char *text)
{
    pipe_error err = PIPE_ERROR_INIT;
    char *path = pipe_format("%s/%s", folder, name);
    char *parent = pipei_path_folder(path);
    MUST(pipei_make_folders(parent, &err));
    MUST(pipei_file_write(path, text, strlen(text), &err));
    pipe_free(parent);
    return path;
}

/* Names in messages without the temporary folder. */
static char *shown(const loaded *l, const char *folder)
{
    pipe_text raw = {0}, t = {0};
    pipei_diagnostics_print(&l->diag, &raw, false);
    pipe_text_add(&raw, "");
    pipe_text_add(&t, "");
    for (const char *p = raw.data; *p; ) {
        const size_t n = strlen(folder);
        if (strncmp(p, folder, n) == 0)
            p += n + (p[n] == '/');
        else
            pipe_text_add_bytes(&t, p++, 1);
    }
    pipe_text_free(&raw);
    return t.data;
}

Test(graph, includes_add_nodes)
{
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    pipe_free(write_file(folder, "data.bin", "x"));
    pipe_free(
        write_file(folder, "lib/nets.yaml",
                   "vars: {width: 8, deep: 2}\npipeline: lib\nseed: 5\ninclude: solvers.yaml\nnodes:\n"
                   "  unet: {plugin: denoiser.unet, channels: \"${width}\", multipliers: [\"${deep}\"]}\n"
                   "  spare: {plugin: denoiser.unet, channels: 1}\n"
                   "  data: {plugin: dataset.idx, path: ../data.bin}\n"));
    pipe_free(write_file(folder, "lib/solvers.yaml", "nodes: {solver: {plugin: sampler.ddim, steps: 3}}\n"));
    char *path = write_file(folder, "main.yaml",
                            "include: [lib/nets.yaml, lib/solvers.yaml]\nvars: {width: 16}\nnodes:\n"
                            "  g: {plugin: generate, denoiser: unet, sampler: solver}\n"
                            "  own: {plugin: dataset.idx, path: ./data.bin}\n"
                            "  p: {plugin: pass, value: data}\n  q: {plugin: pass, value: own}\n");
    loaded l = load_file(path, NULL);
    MUST_LOAD(l);
    P("unet", "channels", "16", "the including file's variable wins");
    P("unet", "multipliers", "2", "the included file's variable");
    cr_expect_str_eq(l.graph->name, "lib", "inherited");
    cr_expect_eq(l.graph->seed, 5);
    char *data = pipe_format("%s/lib/../data.bin", folder), *own = pipe_format("%s/data.bin", folder);
    P("data", "path", data, "relative to the file that names it");
    P("own", "path", own, "relative to the file that names it");
    pipe_free(data);
    pipe_free(own);
    cr_expect_eq(l.diag.n, 0, "an included file may have more nodes than are used");
    unload(&l);
    pipe_free(path);
}

Test(graph, the_including_file_changes_what_is_claimed_and_swept)
{
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    pipe_free(write_file(folder, "base.yaml", BASE "expect: {images.n: {min: 1}, model.loss: {max: 2}}\n"
                         "sweep: {solver.steps: [1, 2]}\n"));
    char *path = write_file(folder, "main.yaml", "include: base.yaml\nexpect: {images.n: {min: 5}}\n"
                            "sweep: {solver.steps: [1, 2, 3]}\n");
    loaded l = load_file(path, NULL);
    MUST_LOAD(l);
    cr_assert_eq(l.graph->n_expects, 2);
    cr_expect_eq(l.graph->expect[0].min, 5);
    cr_expect_str_eq(l.graph->expect[1].metric, "loss");
    cr_expect_eq(pipei_graph_members(l.graph), 3);
    cr_expect_str_eq(l.graph->name, "main");
    unload(&l);
    pipe_free(path);
}

Test(graph, paths_of_overrides_start_at_the_working_directory)
{
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    pipe_free(write_file(folder, "cwd/x", "x"));
    pipe_free(write_file(folder, "y", "y"));
    pipe_free(write_file(folder, "main.yaml", "vars: {v: y}\nnodes:\n  d: {plugin: dataset.idx, path: y}\n"
                         "  e: {plugin: dataset.idx, path: \"${v}\"}\n"
                         "  p: {plugin: pass, value: d}\n  q: {plugin: pass, value: e}\n"));
    char *cwd = pipe_format("%s/cwd", folder);
    cr_assert_eq(chdir(cwd), 0);
    loaded l = load_file("../main.yaml", (const char *[]){"d.path=x", "vars.v=x", NULL});
    MUST_LOAD(l);
    char *expected = pipe_format("%s/x", cwd);
    P("d", "path", expected, "a parameter");
    P("e", "path", expected, "a variable");
    unload(&l);
    l = load_file("../main.yaml", (const char *[]){"vars.v=zz", NULL});
    cr_assert_eq(l.diag.n, 1);
    cr_expect_str_eq(l.diag.v[0].at.file, "--set: vars.v=zz");
    unload(&l);
    cr_assert_eq(chdir("/"), 0);
    pipe_free(expected);
    pipe_free(cwd);
}

Test(graph, errors_in_included_files_name_both)
{
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    pipe_free(
        write_file(folder, "lib/a.yaml", "include: b.yaml\nnodes:\n  s: {plugin: sampler.ddim, steps: 0}\n"));
    pipe_free(write_file(folder, "lib/b.yaml",
                         "nodes:\n  s: {plugin: sampler.heun}\n  t: {plugin: sampler.hen}\n"));
    char *path =
        write_file(folder, "main.yaml", "include: lib/a.yaml\nnodes:\n  p: {plugin: pass, value: s}\n");
    loaded l = load_file(path, NULL);
    char *text = shown(&l, folder);
    cr_expect_str_eq(text,
                     "lib/a.yaml:3:36: error: s.steps: 0 is below the minimum 1\n"
                     "    s: {plugin: sampler.ddim, steps: 0}\n"
                     "                                     ^\n"
                     "help: sampler.ddim steps: integer, 1 to 1000, default 50, steps\n"
                     "note: included from main.yaml:1:10\n"
                     "lib/b.yaml:2:3: error: nodes: s is already defined at lib/a.yaml:3:3\n"
                     "    s: {plugin: sampler.heun}\n"
                     "    ^\n"
                     "note: included from lib/a.yaml:1:10, included from main.yaml:1:10\n"
                     "lib/b.yaml:3:15: error: there is no plugin sampler.hen\n"
                     "    t: {plugin: sampler.hen}\n"
                     "                ^~~~~~~~~~~\n"
                     "help: did you mean sampler.heun?\n"
                     "note: included from lib/a.yaml:1:10, included from main.yaml:1:10\n", "%s", text);
    pipe_free(text);
    pipe_free(path);
    unload(&l);
}

Test(graph, include_mistakes)
{
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    pipe_free(write_file(folder, "a.yaml", "include: [b.yaml]\nnodes: {x: {plugin: pass}}\n"));
    pipe_free(write_file(folder, "b.yaml", "include: a.yaml\nnodes: {y: {plugin: pass}}\n"));
    pipe_free(write_file(folder, "self.yaml", "include: self.yaml\nnodes: {x: {plugin: pass}}\n"));
    pipe_free(write_file(folder, "none.yaml", "include: nowhere.yaml\nnodes: {x: {plugin: pass}}\n"));
    pipe_free(write_file(folder, "folder.yaml", "include: [.]\nnodes: {x: {plugin: pass}}\n"));
    pipe_free(write_file(folder, "map.yaml", "include: {a: b}\nnodes: {x: {plugin: pass}}\n"));
    static const struct {
        const char *file, *parts;
    } tests[] = {
        {"a.yaml", "b.yaml:1:10: error: |a.yaml includes itself through |note: included from |a.yaml:1:11"},
        {"self.yaml", "self.yaml:1:10: error: |self.yaml includes itself"},
        {"none.yaml",
         "none.yaml:1:10: error: include: |nowhere.yaml: No such file|help: include is relative to"},
        {"folder.yaml", "folder.yaml:1:11: error: include: |is a folder, not a pipeline"},
        {"map.yaml", "map.yaml:1:10: error: include takes a file name or a list of them"},
    };
    for (size_t k = 0; k < sizeof tests / sizeof tests[0]; k++) {
        char *path = pipe_format("%s/%s", folder, tests[k].file);
        loaded l = load_file(path, NULL);
        char *text = shown(&l, folder);
        pipe_error err = PIPE_ERROR_INIT;
        pipe_fail(&err, l.status, "%s", text);
        cr_expect_eq(l.diag.errors, 1, "%s", text);
        check_failure(l.status, PIPE_EPIPELINE, &err, tests[k].parts, tests[k].file);
        pipe_free(text);
        pipe_free(path);
        unload(&l);
    }
}

Test(graph, a_file_that_is_not_there)
{
    loaded l = load_file("/nonexistent/q.yaml", NULL);
    check_failure(l.status, PIPE_ENOTFOUND, &l.err, "/nonexistent/q.yaml", "missing");
    cr_expect_eq(l.diag.n, 0);
    unload(&l);
    l = load_file("/", NULL);
    check_failure(l.status, PIPE_EINVAL, &l.err, "/ is a folder, not a pipeline", "a folder");
    unload(&l);
}

Test(graph, a_missing_file_shows_its_neighbour)
{
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    pipe_free(write_file(folder, "train-images", "x"));
    char *path = write_file(folder, "q.yaml", "nodes:\n  d: {plugin: dataset.idx, path: train-imags}\n"
                            "  p: {plugin: pass, value: d}\n");
    loaded l = load_file(path, NULL);
    char *text = shown(&l, folder);
    cr_expect_str_eq(text, "q.yaml:2:34: error: d.path: train-imags does not exist\n"
                     "    d: {plugin: dataset.idx, path: train-imags}\n"
                     "                                   ^~~~~~~~~~~\n"
                     "help:  has train-images\n", "%s", text);
    pipe_free(text);
    pipe_free(path);
    unload(&l);
}
