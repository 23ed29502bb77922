/* RES, multistep: Zhang et al. 2023, arXiv:2308.02157, the exponential solver of two
 * values; with eta the ancestral form of ComfyUI's res_multistep_ancestral: a step
 * goes to less noise than asked for, rho_down, and noise makes up for it.  Without
 * eta it is DPM-Solver++(2M) with exact weights. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    double eta, noise;
    pipe_tensor *previous; /* x0 predicted one step ago; NULL at the start */
    double reached; /* lambda that the last step went to before its noise */
} state;

static const pipe_param params[] = {
    PIPE_FLOAT(state, eta, 0.0, 0.0, 1.0, NULL,
               "fresh noise per step: 0 none (deterministic), 1 as much as DDPM"),
    PIPE_FLOAT(state, noise, 1.0, 0.0, 2.0, NULL,
               "factor of the added noise; slightly above 1 makes up for detail that a network smooths away"),
    PIPE_PARAM_END};

static void end(void *self)
{
    pipe_keep(&((state *)self)->previous, NULL);
}

static pipe_status begin(void *self, pipe_sampling *s, pipe_error *err)
{
    (void)s;
    (void)err;
    end(self);
    return PIPE_OK;
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    state *st = self;
    const size_t i = s->i, j = i + 1;
    /* rho = sigma / alpha; written so that alpha_i may be 0 */
    const double rho = s->sigma[j] / s->alpha[j], shrink = rho * s->alpha[i] / s->sigma[i];
    const double fresh = st->eta * rho * sqrt(1.0 - shrink * shrink);
    const double down = sqrt(fmax(0.0, rho * rho - fresh * fresh)), h = -log(down) - s->lambda[i];
    const size_t n = st->previous && isfinite(h) ? 2 : 1;
    double u[2] = {0.0}, moment[2], c[4] = {s->alpha[j] * down / s->sigma[i]};
    pipe_tensor *x0 = pipe_predict_x0(s, s->x), *t[4] = {s->x, x0, st->previous};

    pipe_solver_data_moments(h, n, moment);
    if (n == 2)
        u[1] = (s->lambda[i - 1] - st->reached) / h;
    pipe_solver_weights(u, moment, n, c + 1);
    for (size_t k = 1; k <= n; k++)
        c[k] *= s->alpha[j];
    if (fresh > 0.0) {
        t[n + 1] = pipe_sampling_noise(s, 0);
        c[n + 1] = s->alpha[j] * fresh * st->noise;
    }
    s->x = pipe_linear(c, t, fresh > 0.0 ? n + 2 : n + 1);
    pipe_keep(&st->previous, s->alpha[i] > 0.0 ? x0 : NULL); /* lambda of pure noise is no node */
    st->reached = -log(down);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.res-multistep",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "exponential solver of two values, optionally ancestral",
    .citation = "arXiv:2308.02157",
    .example = "solver: {plugin: sampler.res-multistep, steps: 20}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.begin = begin, .step = step, .end = end, .order = 2, .calls_per_step = 1},
};
