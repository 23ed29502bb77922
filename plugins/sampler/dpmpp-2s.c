/* DPM-Solver++(2S): Lu et al. 2022, arXiv:2211.01095, algorithm 1 with r = 1/2. */
#include <pipe/pipe.h>

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const pipe_schedule_point from = pipe_grid_point(s, s->i), to = pipe_grid_point(s, s->i + 1);

    (void)self;
    s->x = pipe_step_half_way(s, &from, &to);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.dpmpp-2s",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "DPM-Solver++, second order, single step",
    .citation = "arXiv:2211.01095",
    .example = "solver: {plugin: sampler.dpmpp-2s, steps: 15}",
    .sampler = {.step = step, .order = 2, .calls_per_step = 2},
};
