/* Rectified flow: alpha = 1 - u, sigma = u (Liu et al. 2022, arXiv:2209.03003;
 * Lipman et al. 2022), with the shift of Esser et al. 2024 (arXiv:2403.03206,
 * equation 23): u = k t / (1 + (k - 1) t).  The shift may depend on the resolution:
 * mu is linear in the number of tokens and k = exp(mu), or mu itself. */
#include <pipe/pipe.h>

#include <math.h>

enum { EXPONENTIAL, LINEAR };

typedef struct {
    double shift, mu_min, mu_max, k;
    int64_t tokens, tokens_min, tokens_max, form;
} state;

static const char *const forms[] = {"exponential", "linear", NULL};

static const pipe_param params[] = {
    PIPE_FLOAT(state, shift, 1.0, 0.01, 100.0, NULL,
               "above 1 spends more of the time at high noise (larger images want it), below 1 less; without "
               "`tokens`"),
    PIPE_INT(state, tokens, 0, 0, 100000000, "tokens",
             "of one sample: the shift grows with them, as of Flux and SD 3; 0: `shift`"),
    PIPE_FLOAT(state, mu_min, 0.5, -100.0, 100.0, NULL, "mu at tokens_min; higher shifts more"),
    PIPE_FLOAT(state, mu_max, 1.15, -100.0, 100.0, NULL, "mu at tokens_max; higher shifts more"),
    PIPE_INT(state, tokens_min, 256, 1, 100000000, "tokens", "where mu is mu_min"),
    PIPE_INT(state, tokens_max, 4096, 1, 100000000, "tokens", "where mu is mu_max"),
    PIPE_CHOICE(state, form, "exponential", forms,
                "shift from mu: exponential (its exponential), linear (mu)"),
    PIPE_PARAM_END};

static pipe_status create(void *self, pipe_context *ctx, pipe_error *err)
{
    state *st = self;

    (void)ctx;
    st->k = st->shift;
    if (st->tokens == 0)
        return PIPE_OK;
    if (st->shift != 1.0)
        return pipe_fail(err, PIPE_EINVAL, "`shift` and `tokens` exclude each other: give one of them");
    if (st->tokens_min >= st->tokens_max)
        return pipe_fail(err, PIPE_EINVAL, "tokens_min %lld must be below tokens_max %lld",
                         (long long)st->tokens_min, (long long)st->tokens_max);
    const double mu = st->mu_min + (st->mu_max - st->mu_min) * (double)(st->tokens - st->tokens_min) /
                                       (double)(st->tokens_max - st->tokens_min);
    st->k = st->form == EXPONENTIAL ? exp(mu) : mu;
    if (!(st->k > 0.0 && isfinite(st->k)))
        return pipe_fail(err, PIPE_EDOMAIN, "%lld tokens give mu = %g, a shift of %g; it must be above 0",
                         (long long)st->tokens, mu, st->k);
    return PIPE_OK;
}

static pipe_status describe(void *self, pipe_schedule_info *info, pipe_error *err)
{
    (void)self;
    (void)info; /* continuous on [0, 1], as set by the core; velocity and v are determined at t = 1 too */
    (void)err;
    return PIPE_OK;
}

static void at(void *self, pipe_schedule_point *p)
{
    const double k = ((state *)self)->k, d = 1.0 + (k - 1.0) * p->t;

    p->sigma = k * p->t / d;
    p->alpha = (1.0 - p->t) / d; /* 1 - sigma, without its cancellation near t = 1 */
    p->dsigma = k / (d * d);
    p->dalpha = -p->dsigma;
}

static double time_of(void *self, double lambda)
{
    return 1.0 / (1.0 + ((state *)self)->k * exp(lambda)); /* rho = k t / (1 - t) */
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SCHEDULE),
    .name = "schedule.flow",
    .version = "1.1.0",
    .licence = "MIT",
    .summary = "rectified flow: straight lines from data to noise",
    .citation = "arXiv:2209.03003",
    .example = "noise: {plugin: schedule.flow, shift: 3.0}",
    .params = params,
    .state_size = sizeof(state),
    .create = create,
    .schedule = {.describe = describe, .at = at, .time_of = time_of},
};
