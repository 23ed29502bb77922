"""Guided predictions of diffusers' guiders, from fixed conditional and unconditional ones.

    python tests/data/golden/guiders.py tests/data/golden/guiders.safetensors

made the file beside this one, with diffusers 0.42.1 and, for fdg, kornia 0.9.0.  Arrays are
[step, sample, height, width, channels]; tests/guidance/guidance.c names the parameters that
must reproduce each.  Those of fdg are of one step and of pictures whose sides can be halved:
others its class pads, and returns larger than they were; and for a scale of 1 it takes the level above.
"""
import sys

import torch
from diffusers.guiders import (
    AdaptiveProjectedGuidance,
    AdaptiveProjectedMixGuidance,
    AutoGuidance,
    ClassifierFreeGuidance,
    ClassifierFreeZeroStarGuidance,
    FrequencyDecoupledGuidance,
    MagnitudeAwareGuidance,
    TangentialClassifierFreeGuidance,
)
from diffusers.guiders import adaptive_projected_guidance, adaptive_projected_guidance_mix
from safetensors.torch import save_file

STEPS, SHAPE = 3, (2, 3, 4, 5)  # samples, channels, height, width

generator = torch.Generator().manual_seed(21)
cond = torch.randn((STEPS, *SHAPE), generator=generator)
uncond = 0.7 * cond + 0.5 * torch.randn((STEPS, *SHAPE), generator=generator)


def with_momentum(guider, module, momentum):
    guider.momentum_buffer = module.MomentumBuffer(momentum)
    return guider


guiders = {
    "cfg": ClassifierFreeGuidance(guidance_scale=3.0),
    "cfg.original": ClassifierFreeGuidance(guidance_scale=2.0, use_original_formulation=True),
    "cfg.rescale": ClassifierFreeGuidance(guidance_scale=3.0, guidance_rescale=0.7),
    "cfg.interval": ClassifierFreeGuidance(guidance_scale=3.0, start=0.34, stop=0.67),
    "auto": AutoGuidance(guidance_scale=2.5, dropout=0.1, auto_guidance_layers=0),
    "zero": ClassifierFreeZeroStarGuidance(guidance_scale=4.0, zero_init_steps=1),
    "tcfg": TangentialClassifierFreeGuidance(guidance_scale=3.0),
    "mambo": MagnitudeAwareGuidance(guidance_scale=5.0, alpha=2.0),
    "apg.released": with_momentum(
        AdaptiveProjectedGuidance(guidance_scale=4.0, adaptive_projected_guidance_rescale=3.0, eta=0.25),
        adaptive_projected_guidance, -0.5),
    "apg.paper": with_momentum(
        AdaptiveProjectedGuidance(guidance_scale=3.0, adaptive_projected_guidance_rescale=3.0, eta=0.0,
                                  use_original_formulation=True),
        adaptive_projected_guidance, -0.5),
    "apg.mix": with_momentum(
        AdaptiveProjectedMixGuidance(guidance_scale=2.0, adaptive_projected_guidance_scale=6.0,
                                     adaptive_projected_guidance_rescale=3.0,
                                     adaptive_projected_guidance_start_step=0),
        adaptive_projected_guidance_mix, -0.5),
}

arrays = {"conditional": cond, "unconditional": uncond}
for name, guider in guiders.items():
    out = []
    for step in range(STEPS):
        guider.set_state(step, STEPS, torch.tensor([0]))
        c, u = cond[step], uncond[step]
        if name == "mambo":  # its norm refuses tensors of more than three axes
            c, u = c.flatten(2), u.flatten(2)
        out.append(guider.forward(c, u).pred.reshape(SHAPE))
    arrays[name] = torch.stack(out)
pyramids = {
    "fdg": FrequencyDecoupledGuidance(guidance_scales=[10.0, 5.0]),
    "fdg.levels": FrequencyDecoupledGuidance(guidance_scales=[6.0, 1.5, 2.0]),
    "fdg.parallel": FrequencyDecoupledGuidance(guidance_scales=[6.0, 2.0], parallel_weights=[0.25, 1.5]),
}
arrays["fdg.conditional"] = torch.randn((1, 2, 3, 8, 12), generator=generator)
arrays["fdg.unconditional"] = 0.7 * arrays["fdg.conditional"] + 0.5 * torch.randn((1, 2, 3, 8, 12), generator=generator)
for name, guider in pyramids.items():
    guider.set_state(0, 1, torch.tensor([0]))
    arrays[name] = guider.forward(arrays["fdg.conditional"][0], arrays["fdg.unconditional"][0]).pred[None]
save_file({k: v.permute(0, 1, 3, 4, 2).contiguous() for k, v in arrays.items()}, sys.argv[1])
