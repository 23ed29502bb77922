/* DEIS: Zhang and Chen 2022, arXiv:2204.13902: exponential Adams-Bashforth on eps,
 * interpolated in log rho (as released in diffusers), in rho or in t. */
#include <pipe/pipe.h>

typedef struct {
    pipe_multistep solver; /* first: see PIPE_MULTISTEP_STATE */
    int64_t order, variable;
} state;

enum { LOG_RHO, RHO, TIME };

static const char *const variables[] = {"log-rho", "rho", "time", NULL};

static const pipe_param params[] = {
    PIPE_INT(state, order, 3, 1, 4, "values",
             "combined by a step; more follow a smooth path better and a rough one worse"),
    PIPE_CHOICE(state, variable, "log-rho", variables,
                "in which eps is interpolated: log-rho, rho (sigma / alpha) or the schedule's time; log-rho "
                "suits grids dense near the data, time those uniform in it"),
    PIPE_MULTISTEP_LOWER_ORDER_FINAL, PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;

    (void)ctx;
    (void)err;
    st->solver.form = st->variable == LOG_RHO ? PIPE_SOLVER_NOISE
                      : st->variable == RHO   ? PIPE_SOLVER_RHO
                                              : PIPE_SOLVER_TIME;
    st->solver.predictor = st->order;
    return PIPE_OK;
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.deis",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "exponential Adams-Bashforth on eps, order 1 to 4",
    .citation = "arXiv:2204.13902",
    .example = "solver: {plugin: sampler.deis, steps: 10}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .sampler = {PIPE_MULTISTEP_STATE, .order = 3},
};
