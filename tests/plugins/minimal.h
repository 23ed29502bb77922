/* The smallest sampler that passes every check. */
#ifndef TESTS_PLUGINS_MINIMAL_H
#define TESTS_PLUGINS_MINIMAL_H

#include <pipe/pipe.h>

typedef struct {
    double strength;
    pipe_ints sizes;
    int64_t mode;
    pipe_denoiser *helper;
} state;

static const char *const modes[] = {"soft", "hard", NULL};

__attribute__((unused)) static const pipe_param params[] = {
    PIPE_FLOAT(state, strength, 0.5, 0.0, 1.0, "parts", "how much; higher is more"),
    PIPE_INTS(state, sizes, "[1, 2, 3]", 1, 64, "pixels", "sizes; more of them are slower"),
    PIPE_CHOICE(state, mode, "soft", modes, "how"),
    PIPE_PARAM_END};

static const pipe_input inputs[] = {
    PIPE_INPUT_OPTIONAL(state, helper, PIPE_KIND_DENOISER, "asked first"),
    PIPE_INPUT_END};

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    (void)self;
    s->x = pipe_predict_x0(s, s->x);
    return pipe_check(s->x, err);
}

#define MINIMAL_BUT_NAME                                                                             \
    .version = "1.0.0", .summary = "a sampler for the tests", .help = "First paragraph.\n\nSecond.", \
    .citation = "arXiv:0000.00000", .licence = "MIT", .example = "solver: {plugin: test.good}",      \
    .params = params, .inputs = inputs, .state_size = sizeof(state),                                 \
    .sampler = {.step = step, .order = 1, .calls_per_step = 1}
#define MINIMAL(name_) PIPE_ABI(PIPE_KIND_SAMPLER), .name = (name_), MINIMAL_BUT_NAME

#endif
