"""Golden values of samplers that only k-diffusion has, in the format of samplers.py:

    python tests/data/golden/samplers_kdiffusion.py [FUNCTION ...]

pip install torch diffusers scipy tqdm; pip install --no-deps k-diffusion: only its
sampling.py is used.

An adaptive sampler has one step from the first of `ratios` to the last; `noise` is
numbered by attempts, of which rejected ones draw none.  It is given one sample,
because k-diffusion takes norms over the whole batch.
"""

import importlib.metadata
import importlib.util
import sys
import types

import torch

import samplers_engine
from samplers_engine import LINEAR, listed

VE = {"plugin": "schedule.edm"}


def load():
    """sampling.py without what it imports for other functions."""
    folder = importlib.util.find_spec("k_diffusion").submodule_search_locations[0]
    stand_in = {"torchdiffeq": {"odeint": None}, "torchsde": {}, "k_diffusion": {"__path__": [folder]},
                "k_diffusion.utils": {"append_dims": lambda x, n: x[(...,) + (None,) * (n - x.ndim)]}}
    for name, members in stand_in.items():
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__dict__.update(members)
    return importlib.import_module("k_diffusion.sampling")


def dpm_adaptive(sampling, schedule, low, high, points=101, **options):
    generator = torch.Generator().manual_seed(0)
    start = high * torch.randn(1, samplers_engine.MIXTURE["dimension"], generator=generator)
    noise, drawn, attempts = samplers_engine.Noise(1), [], []

    def noise_sampler(*_):
        drawn.append(noise(start.shape))
        return drawn[-1]

    def callback(info):
        accepted = info["n_accept"] > sum(kept for kept, _ in attempts)
        attempts.append((accepted, drawn[-1] if accepted and options.get("eta") else None))

    # k-diffusion multiplies by the noise even where its factor is 0
    end, info = sampling.sample_dpm_adaptive(
        lambda x, sigma: samplers_engine.clean(x, 1.0, float(sigma)), start, low, high, disable=True, callback=callback,
        noise_sampler=noise_sampler, return_info=True, **options)
    assert end.dtype == torch.float64
    assert info["steps"] == len(attempts) < points
    print(f"  {options}: {info['n_accept']} accepted, {info['n_reject']} rejected")
    names = {"h_init": "first", "pcoeff": "p", "icoeff": "i", "dcoeff": "d", "accept_safety": "accept",
             "s_noise": "noise"}
    c = {
        "configuration": ", ".join(f"{k}={v}" for k, v in options.items()) or "defaults",
        "sampler": {"plugin": "sampler.dpm-adaptive", **{names.get(k, k): v for k, v in options.items()}},
        "schedule": schedule,
        "prediction": "eps",
        "state": "x/alpha",
        "ratios": listed([high * (low / high) ** (k / (points - 1)) for k in range(points)]),
        "start": listed(start),
        "x": listed([end]),
    }
    if options.get("eta"):
        c["noise"] = listed([[torch.zeros_like(start) if z is None else z] for _, z in attempts])
    return c


def on_grid(sampling, function, sampler, schedule, high, low, steps, power=7.0, **options):
    """A sampler with two samples on Karras's grid, with 0 behind it; the states are what it calls back with."""
    names = {"s_noise": "noise"}
    sigmas = sampling.get_sigmas_karras(steps, low, high, power)
    generator = torch.Generator().manual_seed(0)
    start = sigmas[0] * torch.randn(samplers_engine.SAMPLES, samplers_engine.MIXTURE["dimension"], generator=generator)
    noise, states = samplers_engine.Noise(1), []

    def callback(info):
        states.append(info["x"])
        noise.steps.append([])

    noise.steps = []
    end = function(lambda x, sigma: samplers_engine.clean(x, 1.0, float(sigma[0])), start, sigmas, disable=True,
                   callback=callback, noise_sampler=lambda *_: noise(start.shape), **options)
    assert end.dtype == torch.float64
    return {
        "configuration": ", ".join(f"{k}={v}" for k, v in options.items()) or "defaults",
        "sampler": {**sampler, **{names.get(k, k): v for k, v in options.items()}},
        "schedule": schedule,
        "prediction": "eps",
        "state": "x/alpha",
        "ratios": listed(sigmas),
        "start": listed(start),
        **({"noise": listed(noise.steps)} if any(noise.steps) else {}),
        "x": listed(states[1:] + [end]),
    }


def stochastic(sampling, function, sampler):
    yield on_grid(sampling, function, sampler, VE, 60.0, 0.02, 8)
    yield on_grid(sampling, function, sampler, LINEAR, 100.0, 0.03, 8, eta=0.5, s_noise=1.003)
    yield on_grid(sampling, function, sampler, LINEAR, 30.0, 0.03, 12, power=3.0, eta=0.0)


def sample_dpmpp_2s_ancestral(sampling):
    return stochastic(sampling, sampling.sample_dpmpp_2s_ancestral, {"plugin": "sampler.dpmpp-2s-ancestral"})


def sample_dpmpp_3m_sde(sampling):
    return stochastic(sampling, sampling.sample_dpmpp_3m_sde,
                      {"plugin": "sampler.dpmpp-3m-sde", "compat": "k-diffusion", "lower_order_final": False})


def sample_dpm_adaptive(sampling):
    # above some 10 the error of a first step of 0.05 is rounding in single precision
    yield dpm_adaptive(sampling, VE, 0.02, 8.0)
    yield dpm_adaptive(sampling, VE, 0.05, 60.0, order=2, rtol=0.02)
    yield dpm_adaptive(sampling, LINEAR, 0.02, 100.0, rtol=0.01, atol=0.002, h_init=2.0)
    yield dpm_adaptive(sampling, LINEAR, 0.1, 30.0, order=2, pcoeff=0.2, icoeff=0.7, dcoeff=0.05, accept_safety=0.9)
    yield dpm_adaptive(sampling, VE, 0.02, 8.0, eta=1.0)
    yield dpm_adaptive(sampling, LINEAR, 0.1, 30.0, order=2, eta=0.5, s_noise=1.003, h_init=1.0)


def dpm_fast(sampling, schedule, low, high, evaluations, **options):
    """Steps of equal length in ln sigma, of orders 3, 3, ..., and 2, 1 or 1 or 2 at the end."""
    names = {"s_noise": "noise"}
    generator = torch.Generator().manual_seed(0)
    start = high * torch.randn(samplers_engine.SAMPLES, samplers_engine.MIXTURE["dimension"], generator=generator)
    noise, states = samplers_engine.Noise(1), []
    noise.steps = []

    def callback(info):
        states.append(info["x"])
        noise.steps.append([])

    # k-diffusion multiplies by the noise even where its factor is 0
    end = sampling.sample_dpm_fast(lambda x, sigma: samplers_engine.clean(x, 1.0, float(sigma[0])), start, low, high,
                                   evaluations, disable=True, callback=callback,
                                   noise_sampler=lambda *_: noise(start.shape), **options)
    assert end.dtype == torch.float64
    steps, rest = evaluations // 3 + 1, evaluations % 3
    assert len(states) == steps
    return {
        "configuration": ", ".join([f"n={evaluations}"] + [f"{k}={v}" for k, v in options.items()]),
        "sampler": {"plugin": "sampler.dpm-solver-singlestep", "order": 3, "predict": "eps", "grid": "log-snr",
                    "final": "none", "ratio_min": low, "ratio_max": high, "final_orders": [rest] if rest else [2, 1],
                    **{names.get(k, k): v for k, v in options.items()}},
        "schedule": schedule,
        "prediction": "eps",
        "state": "x/alpha",
        "ratios": listed([high * (low / high) ** (k / steps) for k in range(steps + 1)]),
        "start": listed(start),
        **({"noise": listed(noise.steps)} if options.get("eta") else {}),
        "x": listed(states[1:] + [end]),
    }


def sample_dpm_fast(sampling):
    yield dpm_fast(sampling, VE, 0.02, 60.0, 18)
    yield dpm_fast(sampling, LINEAR, 0.03, 100.0, 13)
    yield dpm_fast(sampling, LINEAR, 0.1, 30.0, 11)
    yield dpm_fast(sampling, VE, 0.02, 60.0, 2)
    yield dpm_fast(sampling, VE, 0.02, 60.0, 18, eta=1.0)
    yield dpm_fast(sampling, LINEAR, 0.1, 30.0, 13, eta=0.5, s_noise=1.003)


FUNCTIONS = [sample_dpm_fast, sample_dpmpp_2s_ancestral, sample_dpmpp_3m_sde, sample_dpm_adaptive]


def main():
    sampling = load()
    for function in FUNCTIONS:
        if function.__name__ in (sys.argv[1:] or [function.__name__]):
            samplers_engine.store(function.__name__, list(function(sampling)), {
                "k-diffusion": importlib.metadata.version("k-diffusion"), "function": function.__name__})


if __name__ == "__main__":
    main()
