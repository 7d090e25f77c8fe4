"""Inpainting: redraw the hidden part of an image so that it fits the visible part and the learned distribution."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fedlmd.diffusion.samplers import Denoiser, Noise, reverse_step, timesteps
from fedlmd.diffusion.schedule import Schedule

__all__ = ["InpaintingConfig", "inpaint"]


@dataclass(frozen=True)
class InpaintingConfig:
    """How an image is redrawn.

    Args:
        steps: network evaluations per reconstruction; with ``steps`` equal to the schedule's and ``eta`` 1 this is
            the ancestral sampler that the paper's setting calls for.
        eta: fresh noise per step, 0 (deterministic) to 1 (ancestral).
        start: noise level at which the hidden part starts, as a fraction of the schedule, in (0, 1]. At 1 nothing of
            it is left, as in the paper; lower values keep its coarse shape.
    """

    steps: int = 10
    eta: float = 1.0
    start: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values out of range, with the range."""
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; at least one step is needed")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is {self.eta}; it lies in [0, 1]")
        if not 0 < self.start <= 1:
            raise ValueError(f"start is {self.start}; it lies in (0, 1]")


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

    At every noise level the visible pixels are replaced by the image's own, noised to that level, so that the hidden
    ones are drawn to go with them.

    Args:
        denoiser: the trained or exact denoiser.
        schedule: the schedule that it was trained with.
        images: images in [-1, 1].
        keep: True where a pixel stays visible.
        config: steps, eta and starting level.
        noise: the source of all noise.
        label: the class to redraw as; None redraws as any.

    Returns:
        Images in [-1, 1] that equal the input wherever ``keep`` is True.
    """

    def drawn() -> Float[Tensor, "b c h w"]:
        return noise(images.shape).to(images.device)

    def noised(level: int) -> Float[Tensor, "b c h w"]:
        return schedule.add_noise(images, drawn(), torch.full((len(images),), level, device=images.device))

    levels = timesteps(schedule, config.steps, config.start)
    x = noised(levels[0])
    if config.start == 1.0:
        x = torch.where(keep, x, drawn())
    for t, s in pairwise(levels):
        v = denoiser(x, torch.full((len(x),), t, device=x.device), label)
        redrawn = reverse_step(schedule, x, v, t, s, eta=config.eta, noise=drawn())
        x = torch.where(keep, noised(s), redrawn)
    return x
