"""Reverse steps from noise to image, in any number of steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fedlmd.diffusion.schedule import Schedule

# Draws standard normal noise of a shape. Randomness is an argument everywhere, so that a caller can share or fix it.
Noise = Callable[[tuple[int, ...]], Tensor]


@runtime_checkable
class Denoiser(Protocol):
    """Predicts the velocity v of noisy images; label None means unconditional."""

    def __call__(
        self, x_t: Float[Tensor, "b c h w"], t: Int[Tensor, " b"], label: Int[Tensor, " b"] | None = None, /
    ) -> Float[Tensor, "b c h w"]:
        """The velocities v at levels t (B,)."""


def timesteps(schedule: Schedule, steps: int, start: float = 1.0) -> list[int]:
    """Noise levels that a sampler visits, highest first, evenly spaced and ending with -1, the clean image.

    Args:
        schedule: the schedule of the training.
        steps: number of network evaluations, 1 to ``start`` times the schedule's steps.
        start: highest level as a fraction of the schedule, in (0, 1]; 1 starts from pure noise.

    Raises:
        ValueError: when there are more steps than noise levels.
    """
    levels = round(start * len(schedule))
    if not 1 <= steps <= levels:
        raise ValueError(
            f"{steps} sampling steps; the schedule has {levels} levels up to {start:g}: take 1 to {levels}"
        )
    return [round((i + 1) * levels / steps) - 1 for i in reversed(range(steps))] + [-1]


def reverse_step(
    schedule: Schedule,
    x_t: Float[Tensor, "b c h w"],
    v: Float[Tensor, "b c h w"],
    t: int,
    s: int,
    *,
    eta: float = 1.0,
    noise: Float[Tensor, "b c h w"],
) -> Float[Tensor, "b c h w"]:
    """One step from level t to the lower level s (DDIM: Song et al. 2021, eq. 12 and 16), s = -1 being the image.

    ``eta = 0`` is deterministic DDIM; ``eta = 1`` with s = t - 1 is DDPM's ancestral step (Ho et al. 2020, eq. 11)
    with the posterior variance. The implied image is clipped to where clean images lie.
    """
    abar_t, abar_s = (1.0 if level < 0 else schedule.abars[level] for level in (t, s))
    alpha_t, sigma_t = math.sqrt(abar_t), math.sqrt(1 - abar_t)
    x_0 = schedule.clean(x_t, v, torch.full((x_t.shape[0],), t, device=x_t.device))
    implied = (x_t - alpha_t * x_0) / sigma_t
    fresh = eta * math.sqrt((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s))
    kept = math.sqrt(max(0.0, 1 - abar_s - fresh**2))
    return math.sqrt(abar_s) * x_0 + kept * implied + fresh * noise
