/* A folder given as an input file belongs to the cache key with all its content. */
#include "support/command.h"
#include "data-plugins/data-test.h"

static void line(const char *folder, const char *cache, const char *text)
{
    command c = command_run(folder, cache, text);

    command_expect(&c, 0, text);
    command_free(&c);
}

Test(dataset, a_changed_file_in_a_folder_makes_steps_stale)
{
    static const unsigned char labels[] = {0, 0, 8, 1, 0, 0, 0, 2, 0, 1};
    unsigned char images[16 + 32] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 4};
    static const char yaml[] = "pipeline: small\nnodes:\n"
                               "  data: {plugin: dataset.idx, path: mnist}\n"
                               "  table: {plugin: sink.csv, value: data}\n";
    char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *cache = pipe_format("%s/cache", folder);
    PIPE_CLEANUP(pipe_free_ptr) char *file = pipe_format("%s/p.yaml", folder);
    PIPE_CLEANUP(pipe_free_ptr) char *x = pipe_format("%s/mnist/train-images-idx3-ubyte", folder);
    PIPE_CLEANUP(pipe_free_ptr) char *y = pipe_format("%s/mnist/train-labels-idx1-ubyte", folder);

    line(folder, cache, "mkdir mnist");
    data_write(file, yaml, sizeof yaml - 1);
    data_write(x, images, sizeof images);
    data_write(y, labels, sizeof labels);
    line(folder, cache, "$PIPE run p.yaml -o out");
    line(folder, cache, "$PIPE run -n p.yaml -o out > plan.txt && grep -Eq 'table.*cached' plan.txt");
    line(folder, cache,
         "touch mnist/train-images-idx3-ubyte && $PIPE run -n p.yaml -o out > plan.txt &&"
         " grep -Eq 'table.*cached' plan.txt");
    images[20] = 200; /* as many bytes as before */
    data_write(x, images, sizeof images);
    line(folder, cache,
         "$PIPE run -n p.yaml -o out > plan.txt && cat plan.txt && grep -Eq 'table.*run' plan.txt &&"
         " grep -q 'content of `path` has changed' plan.txt");
    line(folder, cache, "$PIPE run p.yaml -o out");
    line(folder, cache,
         "mv mnist/train-labels-idx1-ubyte mnist/other && $PIPE run -n p.yaml -o out > plan.txt &&"
         " grep -Eq 'table.*run' plan.txt");
    folder_drop(&folder);
}
