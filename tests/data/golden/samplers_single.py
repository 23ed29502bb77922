"""Schedulers for samplers.py: solvers without a memory of earlier steps, and the stochastic ones."""

import functools
import math

import torch

import samplers_engine
from samplers_engine import (
    COSINE, COSINE_OPTIONS, FLOW, LINEAR, configuration, level_index, level_ve, model, ratio, scheduler)

VE = {"plugin": "schedule.edm"}
VP = {"plugin": "schedule.vp"}
TRIGFLOW = {"plugin": "schedule.trigflow"}
BETAS = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}


# ---- more levels ----
def level_geometric(s, call, timestep):
    """KDPM2: the second stage is at the interpolated sigma."""
    return 1.0, float((s.sigmas if s.state_in_first_order else s.sigmas_interpol)[call])


def level_ancestral(s, call, timestep):
    """KDPM2Ancestral: the same, one place earlier."""
    return 1.0, float(s.sigmas[call] if s.state_in_first_order else s.sigmas_interpol[call - 1])


def level_middle(s, call, timestep):
    return 1.0, float(s.sigmas[call] if s.state_in_first_order else s.mid_point_sigma)


def level_trigflow(s, call, timestep):
    return math.cos(timestep), 0.5 * math.sin(timestep)


def level_continuous_cosine(s, call, timestep):
    bar = float(s._alpha_cumprod(torch.as_tensor(timestep).reshape(1), "cpu"))
    return math.sqrt(bar), math.sqrt(1 - bar)


def level_before(s, call, timestep):
    """DDIMInverse: a step ends at its timestep."""
    before = int(timestep) - s.config.num_train_timesteps // s.num_inference_steps
    bar = float(s.alphas_cumprod[before] if before >= 0 else s.initial_alpha_cumprod)
    return math.sqrt(bar), math.sqrt(1 - bar)


def level_decoder(s, call, timestep):
    return float(s.sqrt_alphas_cumprod[int(timestep)]), float(s.sqrt_one_minus_alphas_cumprod[int(timestep)])


def level_score_vp(s, call, timestep):
    t = float(timestep)
    log = -0.25 * t**2 * (s.config.beta_max - s.config.beta_min) - 0.5 * t * s.config.beta_min
    return math.exp(log), math.sqrt(-math.expm1(2 * log))


def level_score_ve(s, call, timestep):
    return 1.0, float(s.discrete_sigmas[-1 - call])


def level_karras_ve(s, call, timestep):
    return 1.0, float(s.schedule[int(timestep)])


def first_index(s):
    return ratio(level_index(s, 0, 0))


samplers_engine.LEVELS.update({
    "geometric": (level_geometric, lambda s: float(s.sigmas[-1]), "x/alpha"),
    "geometric, ancestral": (level_ancestral, lambda s: float(s.sigmas[-1]), "x/alpha"),
    "middle": (level_middle, lambda s: float(s.sigmas[-1]), "x/alpha"),
    "trigflow": (level_trigflow, lambda s: 0.0, "x"),
    "wuerstchen": (level_continuous_cosine, lambda s: ratio(level_continuous_cosine(s, 0, s.end)), "x"),
    "to first index": (level_index, first_index, "x"),
    "to zero": (level_index, lambda s: 0.0, "x"),
    "before": (level_before, lambda s: ratio(level_index(s, 0, s.timesteps[-1])), "x"),
    "decoder": (level_decoder, lambda s: 0.0, "x"),
    "consistency": (level_ve, lambda s: 0.0, "x/alpha"),
    "score vp": (level_score_vp, lambda s: 0.0, "x"),
    "score ve": (level_score_ve, lambda s: 0.0, "x"),
    "karras ve": (level_karras_ve, lambda s: 0.0, "x"),
})


# ---- the schedulers ----
EULER = {"plugin": "sampler.euler"}
CHURNED = {**EULER, "compat": "released", "churn": 3.0, "churn_min": 0.1, "churn_max": 9.0, "churn_noise": 1.003}
CHURN = {"s_churn": 3.0, "s_tmin": 0.1, "s_tmax": 9.0, "s_noise": 1.003}


@scheduler("DDIMScheduler")
def ddim():
    plain = {"clip_sample": False}
    yield configuration(plain, {"plugin": "sampler.ddim"}, LINEAR, level="index")
    yield configuration({**plain, **COSINE_OPTIONS, "prediction_type": "v_prediction",
                         "timestep_spacing": "trailing"},
                        {"plugin": "sampler.ddim", "eta": 1.0}, COSINE, "v", level="index",
                        step_options={"eta": 1.0})
    yield configuration({**plain, "set_alpha_to_one": False, "steps_offset": 1, "prediction_type": "sample"},
                        {"plugin": "sampler.ddim", "eta": 0.3}, LINEAR, "x0", level="index",
                        step_options={"eta": 0.3})
    for spacing in "linspace", "trailing":  # steps of 1000 // 7, which do not lead from one point to the next
        yield configuration({**plain, "timestep_spacing": spacing}, {"plugin": "sampler.ddim", "stride": 142}, LINEAR,
                            level="index", steps=7)


@scheduler("DDIMParallelScheduler")
def ddim_parallel():
    for eta, kind, prediction in (0.0, "epsilon", "eps"), (1.0, "v_prediction", "v"), (0.5, "sample", "x0"):
        yield configuration({"clip_sample": False, "prediction_type": kind}, {"plugin": "sampler.ddim", "eta": eta},
                            LINEAR, prediction, level="index", step_options={"eta": eta})


@scheduler("DDIMInverseScheduler")
def ddim_inverse():
    def without_first(s, *_):
        s.timesteps = s.timesteps[1:]  # from training step 0 to itself

    plain, sampler = {"clip_sample": False, "set_alpha_to_one": False}, {"plugin": "sampler.ddim"}
    yield configuration(plain, sampler, LINEAR, level="before", timesteps=False, prepare=without_first, inverse=True)
    yield configuration({**plain, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}, sampler, LINEAR,
                        "v", level="before", timesteps=False, inverse=True)
    yield configuration({**plain, "steps_offset": 1, "prediction_type": "sample"}, sampler, LINEAR, "x0",
                        level="before", timesteps=False, inverse=True)


@scheduler("DDPMScheduler")
def ddpm():
    plain = {"clip_sample": False}
    yield configuration(plain, {"plugin": "sampler.ddpm"}, LINEAR, level="index")
    yield configuration({**plain, "variance_type": "fixed_large"},
                        {"plugin": "sampler.ddpm", "variance": "large"}, LINEAR, level="index")
    yield configuration({**plain, "variance_type": "fixed_small_log"}, {"plugin": "sampler.ddpm"}, LINEAR,
                        level="index")
    yield configuration({**plain, **COSINE_OPTIONS, "prediction_type": "v_prediction",
                         "timestep_spacing": "trailing"}, {"plugin": "sampler.ddpm"}, COSINE, "v", level="index")
    for kind, variance in ("learned_range", "range"), ("learned", "log"):
        yield configuration({**plain, "variance_type": kind}, {"plugin": "sampler.ddpm", "variance": "learned"},
                            LINEAR, level="index", variance=variance)


@scheduler("DDPMParallelScheduler")
def ddpm_parallel():
    yield from ddpm()


@scheduler("HeunDiscreteScheduler")
def heun():
    sampler = {"plugin": "sampler.heun"}
    yield configuration({"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}, sampler, LINEAR,
                        level="ve")
    yield configuration({"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02,
                         "use_karras_sigmas": True, "prediction_type": "v_prediction"}, sampler, LINEAR, "v",
                        level="ve")
    yield configuration({"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02,
                         "timestep_spacing": "trailing", "prediction_type": "sample"}, sampler, LINEAR, "x0",
                        level="ve")


@scheduler("EulerDiscreteScheduler")
def euler():
    yield configuration(BETAS, EULER, LINEAR, level="ve")
    yield configuration({**BETAS, "use_karras_sigmas": True, "prediction_type": "v_prediction"}, EULER, LINEAR,
                        "v", level="ve")
    yield configuration({**BETAS, "timestep_spacing": "leading", "steps_offset": 1, "final_sigmas_type": "sigma_min"},
                        EULER, LINEAR, level="ve")
    # eps does not determine x0 in single precision where alpha is 5e-5: v does
    yield configuration({**COSINE_OPTIONS, "timestep_spacing": "trailing", "prediction_type": "v_prediction"},
                        EULER, COSINE, "v", level="ve")
    yield configuration(BETAS, CHURNED, LINEAR, level="ve", step_options=CHURN)
    yield configuration({**BETAS, "prediction_type": "v_prediction"}, CHURNED, LINEAR, "v", level="ve",
                        step_options=CHURN)


@scheduler("EulerAncestralDiscreteScheduler")
def euler_ancestral():
    sampler = {"plugin": "sampler.euler-ancestral"}
    yield configuration(BETAS, sampler, LINEAR, level="ve")
    yield configuration({**BETAS, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}, sampler,
                        LINEAR, "v", level="ve")
    yield configuration({**BETAS, "timestep_spacing": "leading", "steps_offset": 1}, sampler, LINEAR, level="ve")


@scheduler("KDPM2DiscreteScheduler")
def dpm2():
    sampler = {"plugin": "sampler.dpm2"}
    yield configuration(BETAS, sampler, LINEAR, level="geometric", timesteps=False)
    yield configuration({**BETAS, "use_karras_sigmas": True, "prediction_type": "v_prediction"}, sampler, LINEAR,
                        "v", level="geometric", timesteps=False)
    yield configuration({**BETAS, "timestep_spacing": "trailing"}, sampler, LINEAR, level="geometric",
                        timesteps=False)


@scheduler("KDPM2AncestralDiscreteScheduler")
def dpm2_ancestral():
    sampler = {"plugin": "sampler.dpm2-ancestral"}
    yield configuration(BETAS, sampler, LINEAR, level="geometric, ancestral", timesteps=False)
    yield configuration({**BETAS, "use_karras_sigmas": True, "prediction_type": "v_prediction"}, sampler, LINEAR,
                        "v", level="geometric, ancestral", timesteps=False)
    yield configuration({**BETAS, "timestep_spacing": "trailing"}, sampler, LINEAR, level="geometric, ancestral",
                        timesteps=False)


class Path:
    """In place of the Brownian tree, whose package need not be there."""

    def __init__(self, noise):
        self.noise = noise

    def __call__(self, *_):
        return self.noise((samplers_engine.SAMPLES, samplers_engine.MIXTURE["dimension"]))


@scheduler("DPMSolverSDEScheduler")
def dpmpp_sde():
    def prepare(s, noise):
        s.noise_sampler = Path(noise)

    sampler = {"plugin": "sampler.dpmpp-sde"}
    yield configuration(BETAS, sampler, LINEAR, level="middle", timesteps=False, prepare=prepare)
    yield configuration({**BETAS, "use_karras_sigmas": True, "prediction_type": "v_prediction"}, sampler, LINEAR,
                        "v", level="middle", timesteps=False, prepare=prepare)
    yield configuration({**BETAS, "timestep_spacing": "trailing"}, {**sampler, "noise": 1.003}, LINEAR,
                        level="middle", timesteps=False, prepare=prepare, step_options={"s_noise": 1.003})


@scheduler("DPMSolverSinglestepScheduler")
def dpm_solver_singlestep():
    """Its steps on a grid of 8, 9 and 10 points end with 3, 2; 2, 1; and 1."""
    sampler = {"plugin": "sampler.dpm-solver-singlestep", "inner": "grid", "weights": "released"}
    exact, noise = {**sampler, "weights": "exact"}, {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}
    fill = {**BETAS, "lower_order_final": True}
    yield configuration(fill, sampler, LINEAR)
    yield configuration({**fill, "solver_type": "heun", "prediction_type": "v_prediction"}, exact, LINEAR, "v", steps=7)
    yield configuration({**fill, "use_karras_sigmas": True, "prediction_type": "v_prediction", "solver_order": 3},
                        {**sampler, "order": 3}, LINEAR, "v", steps=10)
    for steps in 8, 9, 10:
        yield configuration({**fill, **noise, "solver_order": 3}, {**sampler, "order": 3, "predict": "eps"}, LINEAR,
                            steps=steps)
    yield configuration({**fill, **noise, "solver_order": 3, "solver_type": "heun"},
                        {**exact, "order": 3, "predict": "eps"}, LINEAR, steps=9)
    yield configuration({**fill, **noise}, {**sampler, "predict": "eps"}, LINEAR)
    yield configuration({**fill, **noise, "solver_order": 1}, {**sampler, "order": 1, "predict": "eps"}, LINEAR)


@scheduler("EDMEulerScheduler")
def edm_euler():
    yield configuration({}, EULER, VE, "edm", level="ve", timesteps=False)
    yield configuration({"sigma_schedule": "exponential", "sigma_min": 0.01, "sigma_max": 20.0}, EULER, VE, "edm",
                        level="ve", timesteps=False)
    yield configuration({"sigma_max": 40.0}, CHURNED, VE, "edm", level="ve", timesteps=False, step_options=CHURN)


@scheduler("FlowMatchEulerDiscreteScheduler")
def flow_match_euler():
    yield configuration({}, EULER, FLOW, "flow", level="flow", timesteps=False)
    yield configuration({"shift": 3.0}, EULER, {**FLOW, "shift": 3.0}, "flow", level="flow", timesteps=False)
    yield configuration({"stochastic_sampling": True}, {"plugin": "sampler.consistency", "epsilon": 0.0}, FLOW,
                        "flow", level="flow", timesteps=False)


@scheduler("FlowMapEulerDiscreteScheduler")
def flow_map_euler():
    for shift in 1.0, 3.0, 0.5:
        yield configuration({"shift": shift}, EULER, FLOW, "flow", level="flow", timesteps=False)


@scheduler("MiniMaxH3Scheduler")
def minimax_h3():
    def prepare(s, *_):
        """The scheduler takes the velocity towards the data."""
        step = s.step
        s.step = lambda v, t, x, **options: step(-v, t, x, **options)

    for shift in 1.0, 3.0, 12.0:
        yield configuration({"shift": shift}, EULER, FLOW, "flow", level="flow", timesteps=False, prepare=prepare)


@scheduler("FlowMatchHeunDiscreteScheduler")
def flow_match_heun():
    sampler = {"plugin": "sampler.heun", "variable": "time"}
    for shift in 1.0, 3.0, 0.5:
        yield configuration({"shift": shift}, sampler, FLOW, "flow", level="flow", timesteps=False)


@scheduler("LTXEulerAncestralRFScheduler")
def euler_ancestral_rf():
    def prepare(s, *_):
        s.timesteps = s.timesteps[:-1]  # the last one is the end, where nothing is left to do

    sampler = {"plugin": "sampler.euler-ancestral", "split": "time"}
    for eta in 1.0, 0.5, 0.0:
        yield configuration({"eta": eta}, {**sampler, "eta": eta}, FLOW, "flow", level="flow", timesteps=False,
                            prepare=prepare, set_options={"sigmas": [1.0, 0.9, 0.75, 0.6, 0.4, 0.25, 0.1, 0.0]})


@scheduler("LCMScheduler")
def lcm():
    plain = {"clip_sample": False, **BETAS}
    sampler = {"plugin": "sampler.lcm"}
    yield configuration(plain, sampler, LINEAR, level="to zero", steps=4)
    yield configuration({**plain, "timestep_scaling": 0.01, "prediction_type": "v_prediction"},
                        {**sampler, "timestep_scaling": 0.01}, LINEAR, "v", level="to zero", steps=4)
    yield configuration({**plain, "timestep_scaling": 0.002, "prediction_type": "sample"},
                        {**sampler, "timestep_scaling": 0.002}, LINEAR, "x0", level="to zero")


@scheduler("FlowMatchLCMScheduler")
def flow_match_lcm():
    sampler = {"plugin": "sampler.lcm", "timestep_scaling": 0.0}
    for shift in 1.0, 3.0, 0.5:
        yield configuration({"shift": shift}, sampler, FLOW, "flow", level="flow", timesteps=False)


@scheduler("TCDScheduler")
def tcd():
    plain = {"clip_sample": False, **BETAS}
    for eta, kind, prediction in (0.3, "epsilon", "eps"), (0.8, "v_prediction", "v"), (0.0, "sample", "x0"):
        yield configuration({**plain, "prediction_type": kind}, {"plugin": "sampler.tcd", "gamma": eta}, LINEAR,
                            prediction, level="to first index", steps=4, step_options={"eta": eta})


@scheduler("SCMScheduler")
def scm():
    def prepare(s, *_):
        """The model predicts x0; the scheduler takes F with x0 = cos x - sin F."""
        step = s.step
        s.timesteps, ends = s.timesteps[:-1], s.timesteps

        def converted(x0, t, x, **options):
            s.timesteps = ends
            out = step((torch.cos(t) * x - x0) / torch.sin(t), t, x, **options)
            s.timesteps = ends[:-1]
            return out

        s.step = converted

    for steps, most in (2, 1.5), (4, 1.5), (8, 1.57):
        yield configuration({"sigma_data": 0.5}, {"plugin": "sampler.consistency", "epsilon": 0.0}, TRIGFLOW, "x0",
                            level="trigflow", timesteps=False, prepare=prepare, steps=steps,
                            set_options={"num_inference_steps": steps, "max_timesteps": most,
                                         "intermediate_timesteps": 1.3 if steps == 2 else None})


@scheduler("CMStochasticIterativeScheduler")
def consistency():
    def prepare(s, *_):
        """The model predicts x0; the scheduler takes F with x0 = c_out F + c_skip x."""
        step = s.step

        def converted(x0, t, x, **options):
            skip, out = s.get_scalings_for_boundary_condition(s.sigmas[s.step_index or 0])
            return step((x0 - skip * x) / out, t, x, **options)

        s.step = converted

    sampler = {"plugin": "sampler.consistency"}
    plain = {"clip_denoised": False}
    yield configuration(plain, sampler, VE, "x0", level="consistency", timesteps=False, prepare=prepare, steps=2)
    yield configuration({**plain, "s_noise": 0.9, "rho": 5.0}, {**sampler, "noise": 0.9}, VE, "x0",
                        level="consistency", timesteps=False, prepare=prepare, steps=4)
    yield configuration({**plain, "sigma_min": 0.01}, {**sampler, "epsilon": 0.01}, VE, "x0", level="consistency",
                        timesteps=False, prepare=prepare, steps=8)


@scheduler("ConsistencyDecoderScheduler")
def consistency_decoder():
    for sigma_data in 0.5, 0.3, 1.0:
        yield configuration({"sigma_data": sigma_data}, {"plugin": "sampler.consistency", "epsilon": 0.0},
                            {**COSINE, "timesteps": 1024}, "edm", level="decoder", timesteps=False, steps=2,
                            sigma_data=sigma_data)


@scheduler("UnCLIPScheduler")
def unclip():
    def prepare(s, *_):
        step, later = s.step, [int(t) for t in s.timesteps[1:]]

        def whole_step(out, t, x, **options):
            return step(out, int(t), x, prev_timestep=later.pop(0) if later else -1, **options)

        s.step = whole_step

    # eps does not determine x0 in single precision where alpha is 5e-5
    for steps in 4, 8, 16:
        yield configuration({"clip_sample": False, "prediction_type": "sample"}, {"plugin": "sampler.ddpm"}, COSINE,
                            "x0", level="to zero", prepare=prepare, steps=steps)


@scheduler("DDPMWuerstchenScheduler")
def wuerstchen():
    def prepare(s, *_):
        """The model predicts x0, for the scheduler takes eps, which does not determine x0 at the start.
        The last step is left out: it goes to a level of its own, without the noise of that level."""
        s.timesteps, ends, step = s.timesteps[:-2], s.timesteps, s.step
        s.end = ends[-2]

        def each(x0, t, x, **options):
            s.timesteps = ends
            alpha, sigma = level_continuous_cosine(s, 0, t)
            done = step((x - alpha * x0) / sigma, t.expand(len(x)), x, **options)
            s.timesteps = ends[:-2]
            return done

        s.step = each

    for steps in 4, 8, 16:
        yield configuration({}, {"plugin": "sampler.ddpm"}, COSINE, "x0", level="wuerstchen", timesteps=False,
                            prepare=prepare, steps=steps)


@scheduler("CogVideoXDDIMScheduler")
def cogvideox_ddim():
    plain = {"clip_sample": False, **BETAS, "timestep_spacing": "leading"}
    for kind, prediction in ("epsilon", "eps"), ("v_prediction", "v"), ("sample", "x0"):
        yield configuration({**plain, "prediction_type": kind}, {"plugin": "sampler.ddim"}, LINEAR, prediction,
                            level="index", timesteps=False)


@scheduler("RePaintScheduler")
def repaint():
    """A step here is all that leads to the next lower level for good, as its pipeline has it: also the ways
    up and down again.  With as many steps as training steps: with fewer the class noises from one level to
    another than its own next one.  Draws are numbered as in repaint.c."""
    image, mask = torch.tensor([[0.3, -0.8], [0.9, 0.4]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    count = 8

    def prepare(length, visits, s, noise):
        step, draws = s.step, []
        s.timesteps = torch.arange(count - 1, -1, -1)

        def level(point):
            return level_index(s, 0, count - 1 - point) if point < count else (1.0, 0.0)

        def down(point, visit, last, x):
            x = step(model("eps", x, *level(point), 0.5), count - 1 - point, x, image, mask)[0]
            z = noise.steps[-1].pop()  # the class has it for the known part too
            draws[point].update({f"{2 * visit}": z, "63" if last else f"{2 * visit + 1}": z})
            return x

        def up(point, to, visit, x):
            (a, b), (c, d), before = level(point), level(to), x
            for t in range(count - point, count - to):
                x = s.undo_step(x, t)
            noise.steps[-1].clear()
            draws[point - 1][f"{40 + visit}"] = (x - c / a * before) / math.sqrt(d**2 - (c / a * b) ** 2)
            return x

        def whole(out, t, x, **_):
            end = count - int(t)
            again = visits if (count - end) % length == 0 and count - end + length < count else 1
            draws.append({})
            x = down(end - 1, 0, again == 1, x)
            for visit in range(1, again):
                x = up(end, end - length, visit, x)
                for point in range(end - length, end):
                    x = down(point, visit, point == end - 1 and visit == again - 1, x)
            noise.steps[-1] = draws[-1]
            return [x]

        s.step = whole

    for eta, length, visits in (0.0, 2, 3), (1.0, 3, 4), (0.4, 1, 2):
        yield configuration({"num_train_timesteps": count, "beta_start": 0.05, "beta_end": 0.6, "eta": eta,
                             "clip_sample": False},
                            {"plugin": "sampler.repaint", "eta": eta, "jump_length": length, "jump_n_sample": visits},
                            {**LINEAR, "beta_start": 0.05, "beta_end": 0.6, "timesteps": count}, level="index",
                            steps=count, prepare=functools.partial(prepare, length, visits),
                            known={"image": image, "mask": mask})


def one_sample(configurations):
    """diffusers takes norms in the mean over the batch, pipe per sample."""
    many = samplers_engine.SAMPLES
    samplers_engine.SAMPLES = 1
    yield from configurations
    samplers_engine.SAMPLES = many


@scheduler("ScoreSdeVpScheduler")
def score_sde_vp():
    def prepare(s, *_):
        left = [len(s.timesteps)]

        def step(out, t, x):
            left[0] -= 1
            return s.step_pred(out, x, t)[0 if left[0] else 1],  # the last one without its noise

        s.step = step

    released = {"plugin": "sampler.euler-maruyama", "compat": "released"}
    for options, steps in ({}, 8), ({}, 16), ({"sampling_eps": 1e-2, "beta_max": 12.0}, 8):
        yield configuration(options, released, {**VP, "beta_max": options.get("beta_max", 20.0)}, level="score vp",
                            timesteps=False, prepare=prepare, steps=steps)


@scheduler("ScoreSdeVeScheduler")
def score_sde_ve():
    def prepare(s, *_):
        """The model predicts eps, the scheduler takes the score; it is corrected before each step."""
        s.set_sigmas(len(s.timesteps))
        place = [0]

        def step(out, t, x):
            sigma = float(s.discrete_sigmas[-1 - place[0]])
            place[0] += 1
            for _ in range(s.config.correct_steps):
                x = s.step_correct(-out / sigma, x).prev_sample
                out = model("eps", x, 1.0, sigma, None)
            return s.step_pred(-out / sigma, t, x, return_dict=False)[int(place[0] == len(s.timesteps))],

        s.step = step

    for snr, correct, most in (0.15, 1, 50.0), (0.1, 2, 20.0), (0.15, 0, 80.0):
        yield from one_sample([configuration(
            {"snr": snr, "correct_steps": correct, "sigma_max": most},
            {"plugin": "sampler.pc", "snr": snr, "corrector": correct}, VE, level="score ve", timesteps=False,
            prepare=prepare)])


@scheduler("KarrasVeScheduler")
def karras_ve():
    def prepare(s, *_):
        """The model predicts eps; the scheduler takes -eps at the raised level."""
        euler = s.step

        def step(_, t, x):
            sigma, end = float(s.schedule[int(t)]), float(s.schedule[int(t) - 1]) if t > 0 else 0.0
            raised, level = s.add_noise_to_input(x, sigma)
            out = -model("eps", raised, 1.0, level, None)
            x, slope = euler(out, level, end, raised, return_dict=False)
            if end > 0:
                out = -model("eps", x, 1.0, end, None)
                x = s.step_correct(out, level, end, raised, x, slope, return_dict=False)[0]
            return x,

        s.step = step

    for churn, noise, most, between in (0.0, 1.007, 8.0, (0.0, 50.0)), (3.0, 1.007, 8.0, (0.05, 50.0)), (
            80.0, 1.0, 6.0, (0.1, 30.0)):
        yield configuration(
            {"sigma_min": 0.1, "sigma_max": most, "s_churn": churn, "s_noise": noise, "s_min": between[0],
             "s_max": between[1]},
            {"plugin": "sampler.heun", "churn": churn, "churn_noise": noise, "churn_min": between[0],
             "churn_max": between[1]}, VE, level="karras ve", timesteps=False, prepare=prepare)
