/* DPM-Solver++(2M): Lu et al. 2022, arXiv:2211.01095, algorithm 2,
 * with their lambda = log(alpha / sigma), half the log-SNR. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    pipe_tensor *previous; /* x0 predicted one step ago; NULL at the start */
    bool lower_order_final;
} state;

static const pipe_param params[] = {
    PIPE_BOOL(state, lower_order_final, true, "take the last step at first order: steadier below 15 steps"),
    PIPE_PARAM_END};

/* Called before every batch: nothing of the last one may be left over. */
static pipe_status begin(void *self, pipe_sampling *s, pipe_error *err)
{
    (void)s;
    (void)err;
    pipe_keep(&((state *)self)->previous, NULL);
    return PIPE_OK;
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    state *st = self;
    const size_t i = s->i;
    const double h = s->lambda[i + 1] -
                     s->lambda[i]; /* infinite when it ends at sigma = 0 or starts at alpha = 0 */
    const bool first_order = !st->previous || isinf(h) || (st->lower_order_final && i + 1 == s->steps);
    pipe_tensor *x0 = pipe_predict_x0(s, s->x), *d = x0;

    if (!first_order) {
        const double r = (s->lambda[i] - s->lambda[i - 1]) / h; /* infinite after a start at alpha = 0 */
        d = pipe_axpby(1.0 + 0.5 / r, x0, -0.5 / r, st->previous);
    }
    pipe_keep(&st->previous, x0);
    s->x = pipe_axpby(s->sigma[i + 1] / s->sigma[i], s->x, -s->alpha[i + 1] * expm1(-h), d);
    return pipe_check(s->x, err);
}

static void end(void *self)
{
    pipe_keep(&((state *)self)->previous, NULL);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.dpmpp-2m",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "DPM-Solver++, second order, multistep",
    .citation = "arXiv:2211.01095",
    .example = "solver: {plugin: sampler.dpmpp-2m, steps: 20}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.begin = begin, .step = step, .end = end, .order = 2, .calls_per_step = 1},
};
