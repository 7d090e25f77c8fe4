"""One-step denoising: the cheapest question to a diffusion model, at a handful of network evaluations per image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fedlmd.detection.distances import Distance
from fedlmd.detection.lmd import Condition, DistanceKind, fixed_noise
from fedlmd.diffusion import Denoiser, Schedule

__all__ = ["OneStep", "OneStepConfig"]


@dataclass(frozen=True)
class OneStepConfig:
    """The settings of one-step denoising.

    Args:
        levels: noise levels as fractions of the schedule, each in (0, 1); one network evaluation each.
        distance: as in ``LMDConfig``.
        condition: as in ``LMDConfig``.
        seed: of the noise.
    """

    levels: tuple[float, ...] = (0.75, 0.8, 0.85)
    distance: DistanceKind = "embedding"
    condition: Condition = "predicted"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range, with the range."""
        if not self.levels or not all(0 < level < 1 for level in self.levels):
            raise ValueError(f"levels is {self.levels}; give at least one, each in (0, 1)")
        for name, value, kind in (
            ("distance", self.distance, DistanceKind),
            ("condition", self.condition, Condition),
        ):
            if value not in get_args(kind):
                raise ValueError(f"{name} is {value!r}; choose one of {', '.join(get_args(kind))}")


@final
class OneStep:
    """Mean log distance between an image and what the denoiser makes of it from high noise in a single step.

    The posterior mean E[x_0 | x_t] at several noise levels, in the manner of Graham et al. 2023 (who run whole
    reverse trajectories from many levels): at high levels only the coarse strokes survive, and the network fills in
    what its domain, or the predicted class, has there.

    Args:
        denoiser: the diffusion model.
        schedule: its noise levels.
        distance: compares image and posterior mean.
        config: the settings.
        classify: images to class indices (B,), needed when conditioned on the predicted class.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: Schedule,
        distance: Distance,
        config: OneStepConfig | None = None,
        classify: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.config = config or OneStepConfig()
        if self.config.condition == "predicted" and classify is None:
            raise ValueError("condition 'predicted' needs a classifier; give one or set the condition to 'none'")
        self.denoiser, self.schedule, self.distance, self.classify = denoiser, schedule, distance, classify

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Mean over the noise levels of the logarithm of the distance to the posterior mean.

        Logarithms, as a distance that is twice another's says as much at a level where both are large.
        """
        count, b = len(self.config.levels), len(images)
        steps = torch.tensor([round(level * len(self.schedule)) - 1 for level in self.config.levels]).clamp(min=0)
        t = steps.repeat_interleave(b).to(images.device)
        repeated = images.repeat(count, 1, 1, 1)
        noise = fixed_noise(self.config.seed, range(count))(repeated.shape).to(images.device)
        x_t = self.schedule.add_noise(repeated, noise, t)
        conditioned = self.config.condition == "predicted" and self.classify is not None
        label = self.classify(images).repeat(count) if conditioned and self.classify else None
        x_0 = self.schedule.denoised(x_t, self.denoiser(x_t, t, label), t).clamp(-1, 1)
        distances = torch.stack([self.distance(images, copy) for copy in torch.split(x_0, b)])
        # Two images can be the same to the last digit.
        return distances.clamp(min=1e-8).log().mean(0)
