/* iPNDM: Zhang and Chen 2022, arXiv:2204.13902, section 3 (after Liu et al. 2022,
 * arXiv:2202.09778): the mean of the last values of eps with the weights of
 * Adams-Bashforth on even grids, then the step of DDIM.  On uneven grids it is of
 * second order at most; made for grids that are even in the angle of (alpha, sigma). */
#include <pipe/pipe.h>

typedef struct {
    pipe_multistep solver; /* first: see PIPE_MULTISTEP_STATE */
    int64_t order, compat;
} state;

enum { EXACT, RELEASED };

static const char *const compats[] = {"exact", "released", NULL};

static const pipe_param params[] = {
    PIPE_INT(state, order, 4, 1, 4, "values",
             "combined by a step; more follow a smooth path better and a rough one worse"),
    PIPE_CHOICE(state, compat, "exact", compats,
                "a step from alpha = 0: exact, or released: without the x0 that is predicted there, as "
                "diffusers does"),
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;

    (void)ctx;
    (void)err;
    st->solver.form = PIPE_SOLVER_RHO;
    st->solver.predictor = st->order;
    st->solver.fixed = pipe_adams_bashforth;
    return PIPE_OK;
}

static bool skips_pure_noise(void *self)
{
    return ((const state *)self)->compat == RELEASED;
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    state *st = self;
    pipe_tensor *eps;

    if (!skips_pure_noise(self) || s->alpha[s->i] > 0.0)
        return pipe_multistep_step(&st->solver, s, err);
    eps = pipe_scale(s->x, 1.0 / s->sigma[s->i]);
    pipe_multistep_remember(&st->solver, eps, s->i);
    s->x = pipe_scale(eps, s->sigma[s->i + 1]);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.ipndm",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "Adams-Bashforth with fixed weights on eps, then DDIM's step",
    .citation = "arXiv:2204.13902",
    .example = "solver: {plugin: sampler.ipndm, steps: 20}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .sampler = {.begin = pipe_multistep_state_begin,
                .step = step,
                .end = pipe_multistep_state_end,
                .skips_pure_noise = skips_pure_noise,
                .order = 2,
                .calls_per_step = 1},
};
