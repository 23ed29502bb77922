/* Multistep sampling of latent consistency models: Luo et al. 2023, arXiv:2310.04378,
 * algorithm 3.  Each step predicts clean data and noises them again, to the next
 * point.  The prediction is made a consistency function by scalings that are the
 * identity at time 0; under a flow schedule without them (timestep_scaling 0) this
 * is diffusers' FlowMatchLCM. */
#include <pipe/pipe.h>

#include <math.h>

typedef struct {
    double timestep_scaling, sigma_data;
} state;

static const pipe_param params[] = {
    PIPE_FLOAT(
        state, timestep_scaling, 10.0, 0.0, 1e6, NULL,
        "factor of the training timestep in c_skip and c_out; higher trusts the network nearer to the data; "
        "0: no scalings"),
    PIPE_FLOAT(state, sigma_data, 0.5, 1e-6, 1e6, NULL, "standard deviation of the data in c_skip and c_out"),
    PIPE_PARAM_END};

/* c_skip x + c_out x0 */
static pipe_tensor *consistency(const state *st, pipe_sampling *s, pipe_tensor *x0, pipe_error *err)
{
    pipe_schedule_info info;
    double scaled, skip;

    if (!(st->timestep_scaling > 0.0))
        return x0;
    if (pipe_schedule_describe(s->schedule, &info, err) != PIPE_OK)
        return NULL;
    /* the network's timestep: the index of a discrete schedule, else thousandths of the path */
    scaled = st->timestep_scaling * (info.discrete > 0 ? s->t[s->i] * (double)info.discrete - 1.0
                                                       : 1000.0 * s->t[s->i] / info.t_max);
    skip = st->sigma_data * st->sigma_data / (scaled * scaled + st->sigma_data * st->sigma_data);
    return pipe_axpby(skip, s->x, sqrt(1.0 - skip), x0);
}

static pipe_status step(void *self, pipe_sampling *s, pipe_error *err)
{
    const size_t j = s->i + 1;
    pipe_tensor *x = consistency(self, s, pipe_predict_x0(s, s->x), err);

    if (!x)
        return err->status;
    s->x = j == s->steps ? x : pipe_step_add_noise(s, pipe_scale(x, s->alpha[j]), s->sigma[j], 0);
    return pipe_check(s->x, err);
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_SAMPLER),
    .name = "sampler.lcm",
    .version = "1.0.0",
    .licence = "MIT",
    .summary = "multistep sampling of latent consistency models, stochastic",
    .citation = "arXiv:2310.04378",
    .example = "solver: {plugin: sampler.lcm, steps: 4}",
    .params = params,
    .state_size = sizeof(state),
    .sampler = {.step = step, .order = 0, .calls_per_step = 1, .stochastic = true},
};
