"""Schedulers for samplers.py: solvers that keep values of earlier steps."""

from samplers_engine import (
    COSINE, COSINE_OPTIONS, FLOW, LINEAR, MIXTURE, SAMPLES, STEPS, configuration, scheduler)


LOW_STEPS_FINAL = {"final_sigmas_type": "sigma_min", "lower_order_final": False}


@scheduler("DPMSolverMultistepScheduler")
def dpmsolver_multistep():
    final = {"lower_order_final": False}
    sde = {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True}
    two = {"plugin": "sampler.dpmpp-2m"}
    three = {"plugin": "sampler.dpmpp-3m", "compat": "released", "weights": "midpoint"}
    noise = {"plugin": "sampler.dpm-solver", "compat": "released"}
    yield configuration({}, two, LINEAR)
    yield configuration({"use_karras_sigmas": True, "prediction_type": "v_prediction"}, two, LINEAR, "v")
    yield configuration(LOW_STEPS_FINAL, {**two, **final}, LINEAR)
    yield configuration({"solver_type": "heun", **COSINE_OPTIONS, "prediction_type": "v_prediction"},
                        {**two, "weights": "exact"}, COSINE, "v")
    yield configuration({"solver_order": 3, "use_karras_sigmas": True}, three, LINEAR)
    yield configuration({"solver_order": 3, **LOW_STEPS_FINAL}, {**three, **final}, LINEAR)
    yield configuration({"solver_order": 2, "use_flow_sigmas": True, "flow_shift": 3.0,
                         "prediction_type": "flow_prediction"}, two, FLOW, "flow", level="flow")
    for order in 1, 2, 3:
        yield configuration({"solver_order": order, "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
                            {**noise, "order": order}, LINEAR)
    yield configuration({"algorithm_type": "dpmsolver", "solver_type": "heun", **LOW_STEPS_FINAL},
                        {**noise, **final, "weights": "exact"}, LINEAR)
    yield configuration(sde, {"plugin": "sampler.dpmpp-2m-sde"}, LINEAR)
    yield configuration({**sde, "solver_type": "heun", "prediction_type": "sample"},
                        {"plugin": "sampler.dpmpp-2m-sde", "weights": "exact"}, LINEAR, "x0")
    yield configuration({"algorithm_type": "sde-dpmsolver++", "solver_order": 3, **LOW_STEPS_FINAL},
                        {**three, "plugin": "sampler.dpmpp-3m-sde", **final}, LINEAR)
    yield configuration({"algorithm_type": "sde-dpmsolver", "final_sigmas_type": "sigma_min"},
                        {**noise, "eta": 1.0}, LINEAR)
    yield configuration({"algorithm_type": "sde-dpmsolver", "solver_type": "heun", **LOW_STEPS_FINAL},
                        {**noise, **final, "eta": 1.0, "weights": "exact"}, LINEAR)


@scheduler("DPMSolverMultistepInverseScheduler")
def dpmsolver_multistep_inverse():
    two, three = {"plugin": "sampler.dpmpp-2m"}, {"plugin": "sampler.dpmpp-3m", "compat": "released",
                                                  "weights": "midpoint"}
    yield configuration({}, two, LINEAR, inverse=True)
    yield configuration({"timestep_spacing": "leading", "steps_offset": 1, "prediction_type": "v_prediction",
                         "solver_type": "heun"}, {**two, "weights": "exact"}, LINEAR, "v", inverse=True)
    yield configuration({"solver_order": 3}, three, LINEAR, inverse=True)


@scheduler("CogVideoXDPMScheduler")
def cogvideox_dpm():
    def prepare(s, noise):
        """It is handed what its pipeline keeps; of two draws of a step it uses the last."""
        step, kept = s.step, {"x0": None, "t": None}

        def with_memory(out, t, x, **options):
            x, kept["x0"] = step(out, kept["x0"], int(t), kept["t"], x, **options)
            kept["t"] = int(t)
            del noise.steps[-1][:-1]
            return [x]

        s.step = with_memory

    plain = {"clip_sample": False, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02,
             "timestep_spacing": "leading", "snr_shift_scale": 1.0}
    for kind, prediction in ("epsilon", "eps"), ("v_prediction", "v"), ("sample", "x0"):
        yield configuration({**plain, "prediction_type": kind}, {"plugin": "sampler.dpmpp-2m-sde"}, LINEAR, prediction,
                            level="index", timesteps=False, prepare=prepare)


@scheduler("EDMDPMSolverMultistepScheduler")
def edm_dpmsolver_multistep():
    final = {"lower_order_final": False}
    yield configuration({}, {"plugin": "sampler.dpmpp-2m"}, FLOW, "edm", level="ve", timesteps=False)
    yield configuration({"solver_type": "heun", "sigma_schedule": "exponential", **final},
                        {"plugin": "sampler.dpmpp-2m", "weights": "exact", **final}, FLOW, "edm", level="ve",
                        timesteps=False)
    yield configuration({"solver_order": 3, "sigma_data": 1.0},
                        {"plugin": "sampler.dpmpp-3m", "compat": "released", "weights": "midpoint"}, FLOW, "edm", level="ve",
                        timesteps=False, sigma_data=1.0)
    yield configuration({"algorithm_type": "sde-dpmsolver++"}, {"plugin": "sampler.dpmpp-2m-sde"}, FLOW, "edm",
                        level="ve", timesteps=False)


@scheduler("CosineDPMSolverMultistepScheduler")
def cosine_dpmsolver_multistep():
    def prepare(s, noise):  # in place of its Brownian tree, whose increments are of unit variance
        s.noise_sampler = lambda *_: noise((SAMPLES, MIXTURE["dimension"]))

    def of(options, sampler, prediction="v", **more):
        return configuration(options, {"plugin": "sampler.dpmpp-2m-sde", **sampler}, FLOW, prediction, level="ve",
                             timesteps=False, prepare=prepare, **more)

    yield of({}, {})
    yield of({"solver_type": "heun", "sigma_schedule": "karras", "sigma_min": 0.03, "sigma_max": 80.0},
             {"weights": "exact"})
    yield of({"prediction_type": "epsilon", "sigma_data": 0.5, "lower_order_final": False},
             {"lower_order_final": False}, "edm")


@scheduler("UniPCMultistepScheduler")
def unipc_multistep():
    sampler = {"plugin": "sampler.unipc"}
    yield configuration({}, sampler, LINEAR)
    yield configuration({"solver_type": "bh1", "solver_order": 2, "final_sigmas_type": "sigma_min"},
                        {**sampler, "weights": "bh1"}, LINEAR)
    yield configuration({"solver_order": 3, "use_karras_sigmas": True, "prediction_type": "v_prediction"},
                        {**sampler, "order": 3}, LINEAR, "v")
    yield configuration({"solver_order": 3, "predict_x0": False, "final_sigmas_type": "sigma_min"},
                        {**sampler, "order": 3, "predict": "eps"}, LINEAR)
    yield configuration({"solver_type": "bh1", "predict_x0": False, "final_sigmas_type": "sigma_min"},
                        {**sampler, "weights": "bh1", "predict": "eps"}, LINEAR)
    yield configuration({"solver_order": 3, "disable_corrector": list(range(STEPS)), **LOW_STEPS_FINAL},
                        {**sampler, "order": 3, "corrector": False, "lower_order_final": False}, LINEAR)
    yield configuration({"solver_order": 5, "prediction_type": "sample", **LOW_STEPS_FINAL},
                        {**sampler, "order": 5, "lower_order_final": False}, LINEAR, "x0")


@scheduler("DEISMultistepScheduler")
def deis_multistep():
    sampler = {"plugin": "sampler.deis"}
    yield configuration({}, {**sampler, "order": 2}, LINEAR)
    yield configuration({"solver_order": 3, "prediction_type": "v_prediction"}, {**sampler, "order": 3}, LINEAR, "v")
    yield configuration({"solver_order": 3, "lower_order_final": False},
                        {**sampler, "order": 3, "lower_order_final": False}, LINEAR)


@scheduler("SASolverScheduler")
def sa_solver():
    def sampler(tau=1.0, between=(0.2005, 0.8015), **more):
        # timestep 200 is t = 0.201
        return {"plugin": "sampler.sa-solver", "tau": tau, "tau_from": between[0], "tau_to": between[1],
                "compat": "released", **more}

    yield configuration({}, sampler(), LINEAR)
    yield configuration({"predictor_order": 3, "corrector_order": 4, "tau_func": lambda t: 0.6},
                        sampler(0.6, (0, 1), predictor=3, corrector=4), LINEAR)
    yield configuration({"algorithm_type": "noise_prediction", "predictor_order": 2, "corrector_order": 3,
                         "prediction_type": "v_prediction"}, sampler(predictor=2, corrector=3, predict="eps"),
                        LINEAR, "v")
    yield configuration({"predictor_order": 4, "corrector_order": 1, "lower_order_final": False,
                         "tau_func": lambda t: 0}, sampler(0.0, predictor=4, corrector=1, lower_order_final=False),
                        LINEAR)


@scheduler("LMSDiscreteScheduler")
def lms_discrete():
    sampler = {"plugin": "sampler.lms"}
    beta = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
    yield configuration(beta, sampler, LINEAR, level="ve")
    yield configuration({**beta, "use_karras_sigmas": True, "prediction_type": "v_prediction"}, sampler, LINEAR, "v",
                        level="ve")
    yield configuration({**beta, "timestep_spacing": "leading", "steps_offset": 1, "prediction_type": "sample"},
                        {**sampler, "order": 2}, LINEAR, "x0", level="ve", step_options={"order": 2})


@scheduler("PNDMScheduler")
def pndm():
    sampler = {"plugin": "sampler.pndm"}
    beta = {"beta_start": 1e-4, "beta_end": 0.02}
    plms = {"whole": lambda s, call: call != 0}

    def runge_kutta(s, call):
        return call >= 12 or call % 4 == 3

    yield configuration({**beta, "skip_prk_steps": True, "set_alpha_to_one": True}, sampler, LINEAR, level="index",
                        **plms)
    # v_prediction is not here: the class takes the mean of v, not that of eps
    yield configuration({**beta, "skip_prk_steps": True, "steps_offset": 1}, sampler, LINEAR, level="index", **plms)
    yield configuration({**beta, "set_alpha_to_one": True}, {**sampler, "warm_up": "runge-kutta"}, LINEAR,
                        level="index", steps=10, whole=runge_kutta)


@scheduler("IPNDMScheduler")
def ipndm():
    # its model predicts v; alpha is 0 at the first point
    circle = {"plugin": "schedule.trigflow", "sigma_data": 1.0}
    for steps in 4, 8, 13:
        yield configuration({}, {"plugin": "sampler.ipndm", "compat": "released"}, circle, "v", level="angle",
                            steps=steps, timesteps=False)
