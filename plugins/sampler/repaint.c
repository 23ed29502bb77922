/* RePaint: Lugmayr et al. 2022, arXiv:2201.09865, algorithm 1.  An ancestral sampler whose
 * loop puts the known part in after every step (the mask of a request); what is made does
 * not know of it before.  So at every `jump_length`-th grid point, counted from the end, the
 * samples are noised up by `jump_length` points and come down again, `jump_n_sample` - 1
 * times: known and made parts agree better each time.
 *
 * The way up is one draw: alpha' / alpha x + sqrt(sigma'^2 - (alpha' / alpha sigma)^2) z,
 * which is what the forward process makes of x in several steps. */
#include <pipe/pipe.h>
#include <pipe/steps.h>

#include <math.h>

typedef struct {
    double eta;
    int64_t jump_length, jump_n_sample;
    pipe_tensor *x; /* between the evaluations of one step */
} state;

/* Every visit of a step has two draws, the way up to it another one: all below
 * PIPE_SAMPLING_MASK_DRAW, which is the loop's. */
enum { VISITS = 20 };
enum { FRESH, KNOWN, DRAWS_PER_VISIT, UP = DRAWS_PER_VISIT * VISITS };

static const pipe_param params[] = {
    PIPE_FLOAT(state, eta, 1.0, 0.0, 1.0, NULL,
               "fresh noise per step down: 1 as much as DDPM (the paper), 0 none (diffusers' default)"),
    PIPE_INT(state, jump_length, 10, 1, 100000, "steps",
             "between two points to go back from, and how far back; more lets larger structures change"),
    PIPE_INT(state, jump_n_sample, 10, 1, VISITS, "times",
             "that every step is taken; more makes known and made parts agree better and takes as many times "
             "the calls; 1: no way back"),
    PIPE_PARAM_END};

/* From grid point s->i to the next. */
static void descend(const state *st, pipe_sampling *s, int64_t visit)
{
    const pipe_schedule_point from = pipe_grid_point(s, s->i), to = pipe_grid_point(s, s->i + 1);
    pipe_schedule_point kept;
    const double fresh = pipe_step_split(&from, &to, st->eta, PIPE_SPLIT_VARIANCE, &kept);

    s->x = pipe_step_add_noise(s, pipe_step_to(s->x, pipe_predict_x0(s, s->x), &from, &kept), fresh,
                               (uint32_t)(DRAWS_PER_VISIT * visit + FRESH));
}

/* Puts the known part in at the point behind s->i, where a step of the loop does not end. */
static pipe_status settle(state *st, pipe_sampling *s, int64_t visit, pipe_error *err)
{
    s->x = pipe_sampling_known(s, s->x, s->i + 1, (uint32_t)(DRAWS_PER_VISIT * visit + KNOWN));
    PIPE_TRY(pipe_check(s->x, err));
    pipe_keep(&st->x, s->x);
    return pipe_eval(s->engine, err);
}

static void ascend(pipe_sampling *s, size_t to, int64_t visit)
{
    const size_t from = s->i + 1;
    const double decay = s->alpha[to] / s->alpha[from], old = decay * s->sigma[from];

    s->x = pipe_axpby(decay, s->x, sqrt(fmax(0.0, s->sigma[to] * s->sigma[to] - old * old)),
                      pipe_sampling_noise(s, (uint32_t)(UP + visit)));
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    state *st = self;
    const size_t i = s->i, left = s->steps - (i + 1), length = (size_t)st->jump_length;
    const bool back = left % length == 0 && left + length < s->steps; /* never to the first point */

    descend(st, s, 0);
    for (int64_t visit = 1; back && visit < st->jump_n_sample; visit++) {
        PIPE_TRY(settle(st, s, visit - 1, err));
        ascend(s, i + 1 - length, visit);
        for (s->i = i + 1 - length; s->i < i; s->i++) {
            descend(st, s, visit);
            PIPE_TRY(settle(st, s, visit, err));
        }
        descend(st, s, visit);
    }
    return pipe_check(s->x, err);
}

static void end(void *self)
{
    pipe_keep(&((state *)self)->x, NULL);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.repaint",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "DDPM or DDIM that goes back and forth, to fill in what a mask leaves open",
    .help =
        "For `generate` with `images` and `mask`; without a mask it samples anew what it has sampled. It takes "
        "about `steps` times `jump_n_sample` calls of the denoiser.",
    .citation = "arXiv:2201.09865",
    .example = "solver: {plugin: sampler.repaint, steps: 250, jump_length: 10, jump_n_sample: 10}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.step = step, .end = end, .order = 0, .calls_per_step = 0, .stochastic = true},
};
