"""One-step denoising: a diffusion score that takes a few network evaluations per image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from fedlmd.choices import one_of
from fedlmd.detection.distances import Distance, DistanceKind
from fedlmd.detection.lmd import Classify, Condition, each_repeated, fixed_noise, label_source
from fedlmd.diffusion import Denoiser, Schedule


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
        if not self.levels or not all(0 < level < 1 for level in self.levels):
            raise ValueError(f"levels is {self.levels}; give at least one, each in (0, 1)")
        one_of(self, DistanceKind, "distance")
        one_of(self, Condition, "condition")


@final
class OneStep:
    """Mean log distance between an image and its posterior means, each denoised from high noise in a single step.

    The posterior mean E[x_0 | x_t] at several noise levels, after Graham et al. 2023 (who run whole reverse
    trajectories from many levels): at high levels only the coarse strokes are left, and the network adds what known
    images, or those of the predicted class, have there.

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
        classify: Classify | None = None,
    ) -> None:
        self.denoiser, self.schedule, self.distance = denoiser, schedule, distance
        self.config = config or OneStepConfig()
        self.classify = label_source(self.config.condition, classify)

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Mean over the noise levels of the logarithm of the distance to the posterior mean.

        Logarithms, so that the ratio of two distances counts alike at every level.
        """
        count, b = len(self.config.levels), images.shape[0]
        steps = torch.tensor([round(level * len(self.schedule)) - 1 for level in self.config.levels]).clamp(min=0)
        t = each_repeated(steps, b).to(images.device)
        repeated = images.repeat(count, 1, 1, 1)
        noise = fixed_noise(self.config.seed, range(count))(repeated.shape).to(images.device)
        x_t = self.schedule.add_noise(repeated, noise, t)
        label = None if self.classify is None else self.classify(images).repeat(count)
        x_0 = self.schedule.clean(x_t, self.denoiser(x_t, t, label), t)
        distances = torch.stack([self.distance(images, copy) for copy in x_0.reshape(count, *images.shape)])
        # A distance can be exactly 0.
        return distances.clamp(min=1e-8).log().mean(0)
