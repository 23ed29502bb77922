/* Whole pipelines through the program, on real data: what a user does, small. */
#include "support/command.h"
#include "support/data.h"
#include "support/folder.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static const char tiny[] =
    "pipeline: tiny\n"
    "seed: 3\n"
    "vars: {steps: 12}\n"
    "nodes:\n"
    "  data:   {plugin: dataset.idx, path: " FASHION_MNIST ", split: test}\n"
    "  unet:   {plugin: denoiser.unet, channels: 8, multipliers: [1, 2], blocks: 1, attention: [], groups: 4,"
    " classes: 10}\n"
    "  ddpm:   {plugin: objective.denoise, schedule: cosine, predict: v, label_dropout: 0.1}\n"
    "  model:  {plugin: fit, model: unet, objective: ddpm, data: data, steps: \"${steps}\", batch: 8,"
    " log_every: 4, checkpoint_every: 4, ema: 0.9, clip: 1.0}\n"
    "  guided: {plugin: guidance.cfg, denoiser: model, scale: 2.0}\n"
    "  solver: {plugin: sampler.ddim, steps: 4}\n"
    "  images: {plugin: generate, denoiser: guided, sampler: solver, count: 20, batch: 10, labels: each}\n"
    "  grid:   {plugin: sink.png, images: images, columns: 10}\n"
    "  file:   {plugin: sink.safetensors, value: images}\n"
    "  weights: {plugin: sink.safetensors, value: model}\n"
    "  table:  {plugin: sink.csv, value: model.metrics}\n"
    "  chart:  {plugin: sink.plot, value: model.metrics, names: [loss]}\n"
    "expect:\n"
    "  grid.written: {min: 20, max: 20}\n"
    "  model.loss: {max: 2.0}\n";

static void write_file(const char *folder, const char *name, const char *text)
{
    char *path = pipe_format("%s/%s", folder, name);
    FILE *f = fopen(path, "w");

    cr_assert(f && fputs(text, f) >= 0 && fclose(f) == 0, "%s", path);
    pipe_free(path);
}

/* Runs a line and fails the test unless it ends with `status`. */
static void shell(const char *folder, const char *cache, const char *line, int status)
{
    command c = command_run(folder, cache, line);

    command_expect(&c, status, line);
    command_free(&c);
}

typedef struct {
    char *folder, *cache;
} place;

static place place_make(void)
{
    place p = {.folder = folder_make()};

    p.cache = pipe_format("%s/cache", p.folder);
    write_file(p.folder, "tiny.yaml", tiny);
    return p;
}

static void place_drop(place *p)
{
    folder_drop(&p->folder);
    pipe_free(p->cache);
}

Test(pipelines, a_model_is_trained_and_draws)
{
    need_fashion_mnist();
    place p = place_make();

    shell(p.folder, p.cache, "$PIPE run tiny.yaml -o out", 0);
    shell(p.folder, p.cache,
          "cd out/tiny/latest && test -s outputs/grid/0000.png && test -s outputs/file/0000.safetensors &&"
          " test -s outputs/table/0000.csv && test -s outputs/chart/0000.svg && test -s report.html &&"
          " test -s manifest.json && test -s metrics.jsonl && test -s resolved.yaml && cmp -s pipeline.yaml "
          "../../../tiny.yaml",
          0);
    /* what was resolved runs to the same files */
    shell(p.folder, p.cache, "$PIPE run --no-cache out/tiny/latest/resolved.yaml -o again", 0);
    shell(p.folder, p.cache,
          "cmp out/tiny/latest/outputs/file/0000.safetensors again/*/latest/outputs/file/0000.safetensors",
          0);
    place_drop(&p);
}

Test(pipelines, one_seed_gives_the_same_bits_and_another_does_not)
{
    need_fashion_mnist();
    place p = place_make();

    shell(p.folder, p.cache, "$PIPE run --no-cache tiny.yaml -o a --no-metadata", 0);
    shell(p.folder, p.cache, "$PIPE run --no-cache tiny.yaml -o b --no-metadata", 0);
    shell(p.folder, p.cache, "$PIPE run --no-cache tiny.yaml -o c --no-metadata seed=4", 0);
    shell(p.folder, p.cache,
          "for f in weights/0000.safetensors file/0000.safetensors grid/0000.png table/0000.csv; do"
          " cmp a/tiny/latest/outputs/$f b/tiny/latest/outputs/$f || exit 1;"
          " cmp -s a/tiny/latest/outputs/$f c/tiny/latest/outputs/$f && exit 1; done; exit 0",
          0);
    place_drop(&p);
}

Test(pipelines, another_sampler_trains_nothing_again)
{
    need_fashion_mnist();
    place p = place_make();

    shell(p.folder, p.cache, "$PIPE run tiny.yaml -o out", 0);
    shell(p.folder, p.cache, "$PIPE run -n tiny.yaml solver.plugin=sampler.heun -o out > plan.txt", 0);
    shell(p.folder, p.cache, "grep -Eq 'model.*cached' plan.txt && grep -Eq 'images.*run' plan.txt", 0);
    shell(p.folder, p.cache, "$PIPE run tiny.yaml solver.plugin=sampler.heun -o out", 0);
    shell(p.folder, p.cache,
          "$PIPE run tiny.yaml -o out && $PIPE run -n tiny.yaml -o out > plan.txt && grep -q ': 0 of ' "
          "plan.txt",
          0);
    place_drop(&p);
}

/* Killed in the middle of training, a run goes on to the bits of one that was not. */
Test(pipelines, a_killed_run_resumes_to_the_same_bits)
{
    need_fashion_mnist();
    place p = place_make();
    char *other = pipe_format("%s/other", p.folder);
    char *line = pipe_strdup("exec $PIPE run tiny.yaml -o out vars.steps=400 --no-metadata");
    int status;

    shell(p.folder, other, "$PIPE run tiny.yaml -o whole vars.steps=400 --no-metadata", 0);
    const pid_t pid = command_start(p.folder, p.cache, line);
    /* wait until it has saved once, then kill it for good */
    command saved = command_run(
        p.folder, p.cache,
        "for i in $(seq 1200); do find cache out -name 'step-*.safetensors' 2>/dev/null |"
        " grep -q . && exit 0; sleep 0.05; done; exit 1");
    command_expect(&saved, 0, "a checkpoint appears");
    command_free(&saved);
    cr_assert_eq(kill(pid, SIGKILL), 0);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFSIGNALED(status), "the run ended before it could be killed");
    shell(p.folder, p.cache, "$PIPE run tiny.yaml -o out vars.steps=400 --no-metadata --resume 2> log.txt",
          0);
    shell(p.folder, p.cache,
          "grep -q 'continues from the checkpoint' log.txt && cmp "
          "out/tiny/latest/outputs/weights/0000.safetensors "
          "whole/tiny/latest/outputs/weights/0000.safetensors",
          0);
    pipe_free(line);
    pipe_free(other);
    place_drop(&p);
}

Test(pipelines, an_interrupted_run_saves_and_says_130)
{
    need_fashion_mnist();
    place p = place_make();
    int status;
    const pid_t pid = command_start(p.folder, p.cache, "exec $PIPE run tiny.yaml -o out vars.steps=100000");

    shell(p.folder, p.cache,
          "for i in $(seq 1200); do find cache out -name 'step-*.safetensors' 2>/dev/null | grep -q . && "
          "exit 0;"
          " sleep 0.05; done; exit 1",
          0);
    cr_assert_eq(kill(pid, SIGINT), 0);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 130, "status %x", (unsigned)status);
    place_drop(&p);
}

Test(pipelines, an_expectation_not_met_is_status_1)
{
    need_fashion_mnist();
    place p = place_make();

    write_file(p.folder, "claim.yaml",
               "include: tiny.yaml\npipeline: claim\nexpect: {grid.written: {min: 21}}\n");
    shell(p.folder, p.cache, "$PIPE run claim.yaml -o out vars.steps=4 > out.txt", 1);
    shell(p.folder, p.cache, "grep -Eq 'grid.written.*min 21.*NOT MET' out.txt", 0);
    place_drop(&p);
}

/* ---- what goes wrong, as a user sees it ---- */
typedef struct {
    const char *why, *line;
    int status;
    const char *says; /* an extended regular expression of stderr */
} mistake;

Test(pipelines, mistakes_are_one_clear_message)
{
    need_fashion_mnist();
    static const mistake mistakes[] = {
        {"a missing data file", "$PIPE run tiny.yaml data.path=/nowhere -o out", 2, "/nowhere"},
        {"a truncated gzip",
         "mkdir -p cut && head -c 20000 " FASHION_MNIST
         "/t10k-images-idx3-ubyte.gz > cut/t10k-images-idx3-ubyte.gz &&"
         " cp " FASHION_MNIST "/t10k-labels-idx1-ubyte.gz cut/ && $PIPE run tiny.yaml data.path=$PWD/cut -o out",
         3, "t10k-images-idx3-ubyte.gz.*(truncated|ends)"},
        {"a wrong magic",
         "mkdir -p odd && printf 'hello, this is no IDX file' > odd/t10k-images-idx3-ubyte &&"
         " $PIPE run tiny.yaml data.path=$PWD/odd -o out",
         3, "t10k-images-idx3-ubyte"},
        {"10,000 nested lists",
         "{ printf 'nodes: '; head -c 10000 /dev/zero | tr '\\0' '['; } > deep.yaml; $PIPE run deep.yaml", 2,
         "deep.yaml:1:.*(64|deep)"},
        {"a billion laughs",
         "{ echo 'a: &a [x,x,x,x,x,x,x,x,x,x]'; p=a; for n in b c d e f g h i; do"
         " echo \"$n: &$n [*$p,*$p,*$p,*$p,*$p,*$p,*$p,*$p,*$p,*$p]\"; p=$n; done; } > laughs.yaml;"
         " $PIPE run laughs.yaml",
         2, "laughs.yaml:.*10,?000"},
        {"a duplicate key", "printf 'seed: 1\\nseed: 2\\nnodes: {}\\n' > twice.yaml; $PIPE run twice.yaml", 2,
         "twice.yaml:2:1:.*seed"},
        {"shapes that do not fit",
         "sed 's/data: data, steps/data: {plugin: dataset.pad, data: data, size: 20}, steps/' tiny.yaml > "
         "shape.yaml;"
         " $PIPE run shape.yaml -o out",
         3, "data have shape \\[28, 28, 1\\]"},
        {"no OpenCL platform", "mkdir -p none; OCL_ICD_VENDORS=$PWD/none $PIPE run tiny.yaml -o out", 3,
         "pocl-opencl-icd"},
        {"a run folder that is a file", "touch plain; $PIPE run tiny.yaml -o plain", 3, "plain"},
        {"an unknown plugin", "$PIPE run tiny.yaml solver.plugin=sampler.heum", 2, "sampler.heun"},
        {"out of range", "$PIPE run tiny.yaml solver.steps=0", 2, "below the minimum 1"},
        {"no such file", "$PIPE run nowhere.yaml", 2, "nowhere.yaml"},
    };
    place p = place_make();

    for (size_t k = 0; k < sizeof mistakes / sizeof *mistakes; k++) {
        const mistake *m = &mistakes[k];
        char *line = pipe_format("(%s) 2> err.txt", m->line);
        char *look = pipe_format("cat err.txt; grep -Eq '%s' err.txt", m->says);
        command c = command_run(p.folder, p.cache, line), d;
        cr_expect(c.status == m->status, "%s: exit status %d, not %d", m->why, c.status, m->status);
        d = command_run(p.folder, p.cache, look);
        cr_expect(d.status == 0, "%s: nothing like '%s' in:\n%s", m->why, m->says, d.out);
        command_free(&c);
        command_free(&d);
        pipe_free(line);
        pipe_free(look);
    }
    /* none of them left a finished run behind */
    shell(p.folder, p.cache, "! find out -name report.html 2>/dev/null | grep -v partial | grep .", 0);
    place_drop(&p);
}
