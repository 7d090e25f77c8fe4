"""Inpainting: redraw the hidden part of an image so that it fits the visible part and the learned distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fedlmd.choices import between
from fedlmd.diffusion.samplers import Denoiser, Noise, reverse_step, timesteps
from fedlmd.diffusion.schedule import Schedule


@dataclass(frozen=True)
class InpaintingConfig:
    """How an image is redrawn.

    Args:
        steps: network evaluations per reconstruction; with ``steps`` equal to the schedule's and ``eta`` 1 this is
            the ancestral sampler of the paper.
        eta: fresh noise per step, 0 (deterministic) to 1 (ancestral).
        start: noise level at which the hidden part starts, as a fraction of the schedule, in (0, 1]. At 1 nothing of
            it is left, as in the paper; lower values keep its coarse shape.
    """

    steps: int = 10
    eta: float = 1.0
    start: float = 1.0

    def __post_init__(self) -> None:
        between(self, 1, math.inf, "steps")
        between(self, 0, 1, "eta")
        between(self, 0, 1, "start", open_low=True)


@torch.inference_mode()
def inpaint(
    denoiser: Denoiser,
    schedule: Schedule,
    images: Float[Tensor, "b c h w"],
    keep: Bool[Tensor, "b 1 h w"],
    *,
    config: InpaintingConfig,
    noise: Noise,
    label: Int[Tensor, " b"] | None = None,
) -> Float[Tensor, "b c h w"]:
    """Redraw what ``keep`` hides (Liu et al. 2023, section 3.2; the projection of Song et al. 2021, appendix I.2).

    At every noise level the visible pixels are replaced by the image's, noised to that level, so that the hidden ones
    are drawn to fit them.

    Images are in [-1, 1]; the result equals them wherever ``keep`` is True. ``label`` is the class to redraw as; None
    redraws as any. ``noise`` is the source of all noise.
    """

    def drawn() -> Float[Tensor, "b c h w"]:
        return noise(images.shape).to(images.device)

    def noised(level: int) -> Float[Tensor, "b c h w"]:
        return schedule.add_noise(images, drawn(), torch.full((images.shape[0],), level, device=images.device))

    levels = timesteps(schedule, config.steps, config.start)
    x = noised(levels[0])
    if config.start == 1.0:
        x = torch.where(keep, x, drawn())
    for t, s in pairwise(levels):
        v = denoiser(x, torch.full((x.shape[0],), t, device=x.device), label)
        redrawn = reverse_step(schedule, x, v, t, s, eta=config.eta, noise=drawn())
        x = torch.where(keep, noised(s), redrawn)
    return x
