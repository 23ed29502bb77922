"""What samplers.py computes with diffusers' schedulers, and how.

The model is the exact denoiser of a mixture of Gaussians in the plane, evaluated in
double precision at the noise level that the scheduler holds for the step (not at a
rounded timestep), and given in the parameterization that the configuration asks for.
diffusers computes its tables and updates in single precision; here its modules see
double precision under that name, so that the numbers are those of its formulas.

A file holds for each configuration
    sampler, schedule   plugin and parameters of pipe; a sampler without `grid` is
                        given the points of `ratios` as a custom grid
    prediction          what the denoiser predicts
    variance            what it says of the variance besides (not in every file): "range", tanh(x), or "log",
                        tanh(x) / 2 - 3
    state               what diffusers integrates: "x", or "x/alpha" (k-diffusion's)
    ratios              sigma / alpha at the N + 1 grid points; null: alpha is 0
    timesteps           that the scheduler hands to the model (not in every file)
    start               the state at the first point; 2 samples of 2 numbers
    noise               [step][draw], or [step]{draw}: what the scheduler drew
    inverse             true: from data to noise, the points rise
    image, mask         of an inpainting: the known samples, and 1 where they are
    x                   [step]: the state after each step
"""

import importlib
import json
import math
import pathlib
import sys

import diffusers.schedulers
import numpy
import torch

torch.set_default_dtype(torch.float64)

MIXTURE = {
    "dimension": 2,
    "means": [-1.0, 0.5, 0.6, -0.4, 0.2, 1.1],
    "covariances": [0.04, 0.01, 0.01, 0.09, 0.16, -0.03, -0.03, 0.05, 0.02, 0.0, 0.0, 0.02],
    "weights": [0.4, 0.35, 0.25],
}
STEPS = 8
SAMPLES = 2
FOLDER = pathlib.Path(__file__).parent / "samplers"
SCHEDULERS = {}


def scheduler(name):
    def register(function):
        SCHEDULERS[name] = function
        return function

    return register


# ---- the model ----
def clean(x, alpha, sigma):
    """E[x0 | x] at x = alpha x0 + sigma eps."""
    d = MIXTURE["dimension"]
    weights = torch.tensor(MIXTURE["weights"])
    means = torch.tensor(MIXTURE["means"]).reshape(-1, d)
    covariances = torch.tensor(MIXTURE["covariances"]).reshape(-1, d, d)
    logs, x0s = [], []
    for w, m, c in zip(weights, means, covariances):
        v = alpha**2 * c + sigma**2 * torch.eye(d)
        away = x - alpha * m
        solved = torch.linalg.solve(v, away.T).T
        logs.append(w.log() - 0.5 * (away * solved).sum(1) - 0.5 * torch.logdet(v))
        x0s.append(m + alpha * solved @ c)
    share = torch.softmax(torch.stack(logs), 0)
    return (share[:, :, None] * torch.stack(x0s)).sum(0)


def model(prediction, x, alpha, sigma, sigma_data):
    """The prediction under pipe's name for it."""
    x0 = clean(x, alpha, sigma)
    eps = (x - alpha * x0) / sigma
    norm = math.hypot(alpha, sigma)  # of a variance-exploding state: v is defined on x / norm
    rho = sigma / alpha if alpha > 0 else math.inf
    if prediction == "x0":
        return x0
    if prediction == "eps":
        return eps
    if prediction == "v":
        return (alpha * eps - sigma * x0) / norm
    if prediction == "flow":
        return eps - x0
    if prediction == "edm":
        total = rho**2 + sigma_data**2
        return (x0 - sigma_data**2 / total * x / alpha) * math.sqrt(total) / (rho * sigma_data)
    raise ValueError(prediction)


def with_variance(out, x, kind):
    """diffusers' `learned` takes the variance itself where pipe takes its logarithm."""
    said = torch.tanh(x)
    return torch.cat([out, said if kind == "range" else torch.exp(said / 2 - 3)], dim=1)


# ---- the noise level of a call of the model: alpha, sigma of the state ----
def level_vp(s, call, timestep):
    rho = float(s.sigmas[call])
    return 1 / math.sqrt(1 + rho**2), rho / math.sqrt(1 + rho**2)


def level_ve(s, call, timestep):
    return 1.0, float(s.sigmas[call])


def level_flow(s, call, timestep):
    return 1 - float(s.sigmas[call]), float(s.sigmas[call])


def level_index(s, call, timestep):
    bar = float(s.alphas_cumprod[int(timestep)])
    return math.sqrt(bar), math.sqrt(1 - bar)


def level_angle(s, call, timestep):
    t = float(timestep)
    return math.sin((1 - t) * math.pi / 2), math.sin(t * math.pi / 2)  # exactly 0 at either end


def ratio(level):
    return level[1] / level[0] if level[0] > 0 else None


def last_sigma(kind):
    """The last grid point of the classes that hold sigmas."""
    return lambda s: ratio(kind(s, len(s.sigmas) - 1, None))


def last_index(s):
    """The last grid point of the classes that step to `final_alpha_cumprod` (or to 1)."""
    bar = float(getattr(s, "final_alpha_cumprod", torch.tensor(1.0)))
    return math.sqrt((1 - bar) / bar)


LEVELS = {
    "vp": (level_vp, last_sigma(level_vp), "x"),
    "ve": (level_ve, last_sigma(level_ve), "x/alpha"),
    "flow": (level_flow, last_sigma(level_flow), "x"),
    "index": (level_index, last_index, "x"),
    "angle": (level_angle, lambda s: 0.0, "x"),
}


def configuration(options, sampler, schedule, prediction="eps", level="vp", steps=STEPS, step_options=None,
                  timesteps=True, set_options=None, sigma_data=0.5, prepare=None, whole=None, known=None,
                  inverse=False, variance=None):
    """One configuration.

    options       of the scheduler's constructor
    sampler       {"plugin": "sampler.x", ...}: pipe's equivalent; without `grid` the scheduler's points
    schedule      {"plugin": "schedule.x", ...}
    prediction    what the model predicts, under pipe's name
    level         of a call: a key of LEVELS
    step_options  keyword arguments of step(); set_options: of set_timesteps(), which
                  is given `steps` unless they name sigmas or timesteps
    timesteps     whether the file lists them
    prepare       called with the scheduler and the source of noise after set_timesteps()
    whole         of a scheduler that is called several times for a step: tells from
                  (scheduler, call) whether a call ended one
    inverse       of a scheduler from data to noise
    variance      "range" or "log": the model says that of the variance too
    known         {"image": ..., "mask": ...} of an inpainting
    """
    return {k: v for k, v in locals().items()}


# ---- double precision inside diffusers ----
class Double:
    """A module whose float32 is float64."""

    def __init__(self, module):
        self._module = module

    def __getattr__(self, name):
        return getattr(self._module, "float64" if name == "float32" else name)


def make_double(cls):
    module = importlib.import_module(cls.__module__)
    module.torch = Double(torch)
    if hasattr(module, "np"):
        module.np = Double(numpy)
    return module


class Noise:
    """Stands for randn_tensor(): draws, and remembers the draws of each step."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)
        self.steps = [[]]

    def __call__(self, shape, **_):
        z = torch.randn(tuple(shape), generator=self.generator)
        self.steps[-1].append(z)
        return z


def rounded(x):
    return None if x is None else float(f"{float(x):.9g}")


def listed(x):
    if isinstance(x, dict):
        return {k: listed(v) for k, v in x.items()}
    return [listed(v) for v in x] if isinstance(x, (list, torch.Tensor)) and not (
        isinstance(x, torch.Tensor) and x.ndim == 0) else rounded(x)


def ends_step(s, call):
    """Two-stage schedulers are called twice for a step, but once for the last."""
    return getattr(s, "state_in_first_order", True)


def run(cls, c):
    module = make_double(cls)
    noise = Noise(1)
    module.randn_tensor = noise
    level, last, state = LEVELS[c["level"]]
    s = cls(**c["options"])
    options = dict(c["set_options"] or {})
    if not {"sigmas", "timesteps"} & set(options):
        options["num_inference_steps"] = c["steps"]
    s.set_timesteps(**options)
    if hasattr(s, "set_begin_index"):
        s.set_begin_index(0)
    if c["prepare"]:
        c["prepare"](s, noise)

    generator = torch.Generator().manual_seed(0)
    alpha, sigma = level(s, 0, s.timesteps[0])
    start = x = sigma * torch.randn(SAMPLES, MIXTURE["dimension"], generator=generator)
    ratios, timesteps, states, whole = [], [], [], True
    for call, t in enumerate(s.timesteps):
        if whole:
            ratios.append(ratio(level(s, call, t)))
            timesteps.append(t)
        alpha, sigma = level(s, call, t)
        if hasattr(s, "scale_model_input"):
            s.scale_model_input(x, t)  # some classes find their place in it; the model here needs no scaling
        out = model(c["prediction"], x, alpha, sigma, c["sigma_data"])
        if c["variance"]:
            out = with_variance(out, x, c["variance"])
        x = s.step(out, t, x, **(c["step_options"] or {}))[0]
        assert x.dtype == torch.float64, "a single-precision number crept in"
        whole = (c["whole"] or ends_step)(s, call) or call + 1 == len(s.timesteps)
        if whole:
            states.append(x)
            noise.steps.append([])
    ratios.append(last(s))

    name = ", ".join(f"{k}={'a function' if callable(v) else v}" for k, v in {**c["options"], **(c["step_options"] or {})}.items())
    result = {
        "configuration": name or "defaults",
        "sampler": c["sampler"],
        "schedule": c["schedule"],
        "prediction": c["prediction"],
        "state": state,
        "ratios": listed(ratios),
        "timesteps": listed(timesteps),
        "start": listed(start),
        **listed(c["known"] or {}),
        **({"inverse": True} if c["inverse"] else {}),
        **({"variance": c["variance"]} if c["variance"] else {}),
        "noise": listed(noise.steps[: len(states)]),
        "x": listed(states),
    }
    if not c["timesteps"]:
        del result["timesteps"]
    if not any(result["noise"]):
        del result["noise"]
    return result


def write(name):
    cls = getattr(diffusers.schedulers, name)
    store(name, [run(cls, c) for c in SCHEDULERS[name]()], {"diffusers": diffusers.__version__, "class": name})


def store(name, configurations, source):
    assert len(configurations) >= 3, name
    text = ",\n".join(
        "    {" + ",\n     ".join(f'"{k}": {json.dumps(v)}' for k, v in c.items()) + "}" for c in configurations)
    head = {"command": f"python tests/data/golden/{pathlib.Path(sys.argv[0]).name} {name}", **source,
            "mixture": MIXTURE}
    lines = ",\n".join(f'  "{k}": {json.dumps(v)}' for k, v in head.items())
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(f'{{\n{lines},\n  "configurations": [\n{text}\n  ]\n}}\n')


def main():
    unknown = [name for name in sys.argv[1:] if name not in SCHEDULERS]
    if unknown:
        sys.exit(f"{', '.join(unknown)}: not here; known are {', '.join(SCHEDULERS)}")
    for name in sys.argv[1:] or SCHEDULERS:
        write(name)
        print(name)


# ---- what several configurations share ----
LINEAR = {"plugin": "schedule.linear", "beta_start": 1e-4, "beta_end": 0.02}
COSINE = {"plugin": "schedule.cosine"}
FLOW = {"plugin": "schedule.flow"}
COSINE_OPTIONS = {"beta_schedule": "squaredcos_cap_v2"}
