/* Gradient estimation: Permenter and Yuan 2023, arXiv:2306.04848, section 4: Euler's
 * method along gamma times the current eps and 1 - gamma times the last one. */
#include <pipe/pipe.h>

typedef struct {
    pipe_multistep solver; /* first: see PIPE_MULTISTEP_STATE */
    double gamma;
    double fixed[3];
} state;

static const pipe_param params[] = {
    PIPE_FLOAT(
        state, gamma, 2.0, 1.0, 5.0, NULL,
        "weight of the current eps against the last: 1 is Euler's method, 1.5 two-step Adams-Bashforth on "
        "even grids, higher reacts faster and overshoots"),
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;

    (void)ctx;
    (void)err;
    st->fixed[0] = 1.0;
    st->fixed[1] = st->gamma;
    st->fixed[2] = 1.0 - st->gamma;
    st->solver.form = PIPE_SOLVER_RHO;
    st->solver.fixed = st->fixed;
    return PIPE_OK;
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    state *st = self;

    st->solver.predictor = s->sigma[s->i + 1] > 0.0 ? 2 : 1; /* a step into sigma = 0 gives x0 */
    return pipe_multistep_step(&st->solver, s, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.gradient-estimation",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "Euler with the error of eps estimated from two steps",
    .citation = "arXiv:2306.04848",
    .example = "solver: {plugin: sampler.gradient-estimation, steps: 20}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .sampler = {.begin = pipe_multistep_state_begin,
                .step = step,
                .end = pipe_multistep_state_end,
                .order = 1,
                .calls_per_step = 1},
};
