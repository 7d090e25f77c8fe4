"""DDPM-OOD (Graham et al. 2023): reconstructions from many noise levels, compared with those of in-domain images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from fedlmd.detection import Distance, fixed_noise, in_batches
from fedlmd.diffusion import Denoiser, Schedule, reverse_step, timesteps

# A noise level from which every in-domain image is reconstructed equally well has no scale of its own.
SMALLEST_STD = 1e-6


@dataclass(frozen=True)
class DDPMOODConfig:
    """The settings of DDPM-OOD.

    Args:
        levels: noise levels to reconstruct from, evenly spread over the schedule, 1 to ``steps``. The authors' code
            takes 25 with 100 steps.
        steps: steps of the sampler over the whole schedule, 1 or more; a lower level takes its share of them.
        seed: of the noise.
    """

    levels: int = 10
    steps: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range, with the range."""
        if not 1 <= self.levels <= self.steps:
            raise ValueError(f"levels is {self.levels}; with {self.steps} steps it lies between 1 and {self.steps}")

    @property
    def lengths(self) -> tuple[int, ...]:
        """Steps of each reconstruction, from the longest to the shortest: the middles of equal parts of the way."""
        width = self.steps / self.levels
        return tuple(math.ceil((i + 0.5) * width) for i in reversed(range(self.levels)))

    @property
    def evaluations(self) -> int:
        """Network evaluations per image (NFE)."""
        return sum(self.lengths)


@final
class DDPMOOD:
    """Mean z-score of reconstruction errors from all noise levels in all distances (Graham et al. 2023).

    Deterministic DDIM (Song et al. 2021) stands in for the authors' PLMS sampler.

    Args:
        denoiser: the diffusion model; called without a label.
        schedule: its noise levels.
        distances: compare image and reconstruction, at least one; the paper takes the mean squared error and LPIPS.
        in_domain: images that no network was trained on, 2 or more; they alone give the errors' moments.
        config: the settings.

    Raises:
        ValueError: when there is no distance, or there are fewer than 2 in-domain images.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: Schedule,
        distances: Sequence[Distance],
        in_domain: Float[Tensor, "n c h w"],
        config: DDPMOODConfig | None = None,
    ) -> None:
        if not distances or len(in_domain) < 2:
            raise ValueError(
                f"{len(distances)} distances and {len(in_domain)} in-domain images; at least 1 and 2 are needed"
            )
        self.denoiser, self.schedule, self.distances = denoiser, schedule, tuple(distances)
        self.config = config or DDPMOODConfig()
        errors = in_batches(self.errors, in_domain)
        self.mean, self.std = errors.mean(0), errors.std(0).clamp(min=SMALLEST_STD)

    @property
    def evaluations(self) -> int:
        """Network evaluations per image (NFE)."""
        return self.config.evaluations

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Mean of the z-scores over noise levels and distances."""
        return ((self.errors(images) - self.mean) / self.std).mean((1, 2))

    @torch.inference_mode()
    def errors(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b l d"]:
        """Distances of the reconstructions, from the highest noise level to the lowest."""
        reconstructions = self.reconstructions(images)
        return torch.stack(
            [torch.stack([distance(images, copy) for distance in self.distances], dim=1) for copy in reconstructions],
            dim=1,
        )

    @torch.inference_mode()
    def reconstructions(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "l b c h w"]:
        """Each image reconstructed from every noise level, from the highest to the lowest.

        All are denoised together: at each level that is reconstructed from, the images noised to it join the batch.
        """
        levels, b = timesteps(self.schedule, self.config.steps), len(images)
        shape = (self.config.levels * b, *images.shape[1:])
        noise = fixed_noise(self.config.seed, range(self.config.levels))(shape)
        noises = iter(noise.to(images.device).reshape(self.config.levels, *images.shape))
        x = images[:0]
        for left, (t, s) in zip(range(self.config.steps, 0, -1), pairwise(levels), strict=True):
            if left in self.config.lengths:
                at_t = torch.full((b,), t, device=images.device)
                x = torch.cat([x, self.schedule.add_noise(images, next(noises), at_t)])
            if len(x):
                v = self.denoiser(x, torch.full((len(x),), t, device=x.device), None)
                x = reverse_step(self.schedule, x, v, t, s, eta=0.0, noise=torch.zeros_like(x))
        return x.reshape(self.config.levels, *images.shape)
