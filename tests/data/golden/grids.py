"""Time grids of diffusers' schedulers: sigma / alpha at every point.

    python tests/data/golden/grids.py tests/data/golden/grids.safetensors

made the file beside this one, with diffusers 0.42.1.  tests/kinds/grid.c names the
parameters that must reproduce each of them.  What is given by a scheduler of sigma =
s / (1 - s) (flow) is converted; points where alpha is 0 are infinite.
"""
import sys

import numpy as np
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LMSDiscreteScheduler,
    SASolverScheduler,
    UniPCMultistepScheduler,
)
from safetensors.numpy import save_file


def ratios(scheduler, n, **given):
    scheduler.set_timesteps(n, **given)
    return scheduler.sigmas.double().numpy()


def flow(scheduler, n, **given):
    s = ratios(scheduler, n, **given)
    with np.errstate(divide="ignore"):
        return s / (1.0 - s)


def by_index(scheduler, n, final=None):
    """Schedulers without sigmas: from alphas_cumprod at the timesteps."""
    scheduler.set_timesteps(n)
    bar = scheduler.alphas_cumprod.double().numpy()[scheduler.timesteps.numpy()]
    with np.errstate(divide="ignore"):
        rho = np.sqrt((1.0 - bar) / bar)
    return np.append(rho, 0.0)


def heun(scheduler, n):
    """Every point but the first and last is listed twice."""
    s = ratios(scheduler, n)
    return np.concatenate([s[:1], s[1::2]])


SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
LINEAR = dict(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
SNR0 = dict(rescale_betas_zero_snr=True)
AYS = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.0]
MU = 0.5 + (1.15 - 0.5) * (1024 - 256) / (4096 - 256)

GRIDS = {
    "euler-linspace": ratios(EulerDiscreteScheduler(timestep_spacing="linspace"), 10),
    "euler-leading": ratios(EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1), 7),
    "euler-trailing": ratios(EulerDiscreteScheduler(timestep_spacing="trailing"), 30),
    "euler-karras": ratios(EulerDiscreteScheduler(use_karras_sigmas=True), 10),
    "euler-exponential": ratios(EulerDiscreteScheduler(use_exponential_sigmas=True), 10),
    "euler-beta": ratios(EulerDiscreteScheduler(use_beta_sigmas=True), 12),
    "euler-log-linear": ratios(EulerDiscreteScheduler(interpolation_type="log_linear"), 10)[:-1],
    "euler-sigma-min": ratios(EulerDiscreteScheduler(timestep_spacing="trailing", final_sigmas_type="sigma_min"), 9),
    "euler-karras-sd": ratios(EulerDiscreteScheduler(use_karras_sigmas=True, **SD), 10),
    "euler-ays-sd": ratios(EulerDiscreteScheduler(**SD), None, sigmas=AYS),
    "euler-zero-snr": ratios(EulerDiscreteScheduler(timestep_spacing="trailing", **SD, **SNR0), 10),
    "heun-linspace": heun(HeunDiscreteScheduler(), 10),
    "lms-linspace-sd": ratios(LMSDiscreteScheduler(**SD), 15),
    "dpm-linspace": ratios(DPMSolverMultistepScheduler(), 13),
    "dpm-leading": ratios(DPMSolverMultistepScheduler(timestep_spacing="leading", steps_offset=1), 13),
    "dpm-trailing": ratios(DPMSolverMultistepScheduler(timestep_spacing="trailing"), 13),
    "dpm-lu": ratios(DPMSolverMultistepScheduler(use_lu_lambdas=True), 10),
    "dpm-cosine-clipped": ratios(
        DPMSolverMultistepScheduler(beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1), 10
    ),
    "unipc-beta-sd": ratios(UniPCMultistepScheduler(use_beta_sigmas=True, **SD), 10),
    "deis-karras": ratios(DEISMultistepScheduler(use_karras_sigmas=True), 10)[:-1],
    "ddim-leading-sd": by_index(DDIMScheduler(steps_offset=1, **SD), 20),
    "ddim-zero-snr": by_index(DDIMScheduler(timestep_spacing="trailing", **SD, **SNR0), 8),
    "ddpm-linspace": by_index(DDPMScheduler(timestep_spacing="linspace"), 11),
    "ddpm-sigmoid": by_index(DDPMScheduler(beta_schedule="sigmoid", timestep_spacing="trailing"), 9),
    "edm-karras": ratios(EDMEulerScheduler(), 18),
    "edm-exponential": ratios(EDMEulerScheduler(sigma_schedule="exponential"), 18),
    "dpm-karras": ratios(DPMSolverMultistepScheduler(use_karras_sigmas=True), 12),
    "dpm-exponential": ratios(DPMSolverMultistepScheduler(use_exponential_sigmas=True), 12),
    "dpm-beta": ratios(DPMSolverMultistepScheduler(use_beta_sigmas=True), 12),
    "single-karras-sd": ratios(DPMSolverSinglestepScheduler(use_karras_sigmas=True, **SD), 9),
    "single-beta": ratios(DPMSolverSinglestepScheduler(use_beta_sigmas=True), 9),
    "unipc-karras": ratios(UniPCMultistepScheduler(use_karras_sigmas=True), 8),
    "unipc-exponential-sd": ratios(UniPCMultistepScheduler(use_exponential_sigmas=True, **SD), 8),
    "sa-karras-sd": ratios(SASolverScheduler(use_karras_sigmas=True, **SD), 11)[:-1],
    "heun-karras": heun(HeunDiscreteScheduler(use_karras_sigmas=True, **LINEAR), 10),
    "heun-exponential-sd": heun(HeunDiscreteScheduler(use_exponential_sigmas=True, **SD), 10),
    "heun-beta": heun(HeunDiscreteScheduler(use_beta_sigmas=True, **LINEAR), 10),
    "lms-karras": ratios(LMSDiscreteScheduler(use_karras_sigmas=True), 15),
    "lms-beta-sd": ratios(LMSDiscreteScheduler(use_beta_sigmas=True, **SD), 15),
    "edm-dpm-karras": ratios(EDMDPMSolverMultistepScheduler(), 14),
    "flow-euler-exponential": flow(FlowMatchEulerDiscreteScheduler(use_exponential_sigmas=True), 10),
    "flow-euler": flow(FlowMatchEulerDiscreteScheduler(), 10),
    "flow-euler-shift": flow(FlowMatchEulerDiscreteScheduler(shift=3.0), 28),
    "flow-euler-dynamic": flow(FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), 12, mu=MU),
    "flow-euler-linear": flow(
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type="linear"), 12, mu=MU
    ),
    "flow-euler-terminal": flow(
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.1), 12, mu=MU
    ),
    "flow-euler-karras": flow(FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True), 10),
    "flow-euler-beta": flow(FlowMatchEulerDiscreteScheduler(use_beta_sigmas=True), 10),
    "flow-unipc": flow(UniPCMultistepScheduler(use_flow_sigmas=True, flow_shift=3.0), 10),
    "flow-dpm": flow(DPMSolverMultistepScheduler(use_flow_sigmas=True, flow_shift=3.0), 10),
}

if __name__ == "__main__":
    save_file(GRIDS, sys.argv[1])
    for name, rho in GRIDS.items():
        print(name, len(rho), rho[:3], rho[-3:])
