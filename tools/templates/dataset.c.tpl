/* @NAME@: points on a circle, in two classes (the upper and the lower half).
 * Replace describe() and read() by your own; <pipe/dataset.h> says what they are
 * asked. */
#include <pipe/pipe.h>

#include <math.h>
#include <string.h>

typedef struct {
    int64_t count;
    double radius;
} state;

/* Default, range and help of a parameter stand here and nowhere else. */
static const pipe_param params[] = {
    PIPE_INT(state, count, 1000, 1, 1000000000, "samples", "how many points there are"),
    PIPE_FLOAT(state, radius, 1.0, 0.0, 1e6, NULL, "of the circle; larger is further apart"),
    PIPE_PARAM_END
};

enum { X, LABEL };

static pipe_status describe(void *self, pipe_dataset_info *info, pipe_error *err)
{
    const state *st = self;

    (void)err;
    info->count = (uint64_t)st->count;
    info->n_fields = 2;
    info->field[X] = (pipe_field){.name = "x", .shape = PIPE_SHAPE(2), .dtype = PIPE_F32};
    info->field[LABEL] = (pipe_field){.name = "label", .dtype = PIPE_I32, .classes = 2};
    return PIPE_OK;
}

/* Field k of r->n samples, packed.  What is asked for exists. */
static pipe_status read(void *self, const pipe_dataset_request *r, size_t k, void *out, pipe_error *err)
{
    const state *st = self;
    const double turn = 2.0 * acos(-1.0);

    (void)err;
    for (size_t j = 0; j < r->n; j++) {
        const double angle = turn * ((double)r->index[j] + 0.5) / (double)st->count;
        if (k == X) {
            const float x[2] = {(float)(st->radius * cos(angle)), (float)(st->radius * sin(angle))};
            memcpy((float *)out + 2 * j, x, sizeof x);
        } else {
            ((int32_t *)out)[j] = sin(angle) < 0.0;
        }
    }
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_DATASET),
    .name = "@NAME@",
    .version = "0.1.0",
    .summary = "one line about it",
    .help = "What it does, when to use it.",
    .citation = NULL,
    .licence = NULL,
    .example = "data: {plugin: @NAME@, count: 1000}",
    .params = params,
    .state_size = sizeof(state),
    .dataset = {.describe = describe, .read = read},
};
