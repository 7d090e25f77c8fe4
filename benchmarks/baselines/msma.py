"""Multiscale score matching (Mahmood, Oliva & Styner, ICLR 2021): the norm of the score at many noise levels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.baselines.density import GaussianMixture, MixtureConfig
from fedlmd.detection import in_batches
from fedlmd.diffusion import Denoiser, Schedule


@dataclass(frozen=True)
class MSMAConfig:
    """The settings of MSMA.

    Args:
        levels: noise levels, 1 or more; one network evaluation each.
        lowest: smallest standard deviation of the noise, above 0, for an image that spans 2 (from -1 to 1). The paper
            takes 0.01 for images that span 1.
        highest: largest standard deviation, at least ``lowest``; the paper takes 1 for images that span 1. The levels
            lie geometrically between the two.
        mixture: the density of the norms.
    """

    levels: int = 10
    lowest: float = 0.02
    highest: float = 2.0
    mixture: MixtureConfig = field(default_factory=MixtureConfig)

    def __post_init__(self) -> None:
        """Refuse values out of range, with the range."""
        if self.levels < 1:
            raise ValueError(f"levels is {self.levels}; at least 1 is needed")
        if not 0 < self.lowest <= self.highest < math.inf:
            raise ValueError(
                f"lowest is {self.lowest} and highest is {self.highest}; standard deviations of noise lie above 0, in "
                "this order"
            )


@final
class MSMA:
    """Negative log density of the norms of the score at several noise levels (Mahmood et al. 2021).

    The norms are those of ``sigma * score(x, sigma)``, which for a variance-preserving model with x_t = alpha x is the
    predicted noise, sigma being the noise's standard deviation in units of the image. As in the authors' code no noise
    is added: the score is that of the image itself under the densities at each noise level.

    Args:
        denoiser: the diffusion model; called without a label.
        schedule: its noise levels.
        in_domain: images that no network was trained on; they alone fit the density.
        config: the settings.

    Raises:
        ValueError: when the schedule is too coarse for so many levels, or the density cannot be fitted.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: Schedule,
        in_domain: Float[Tensor, "n c h w"],
        config: MSMAConfig | None = None,
    ) -> None:
        self.denoiser, self.schedule = denoiser, schedule
        self.config = config or MSMAConfig()
        self.steps = nearest_steps(schedule, self.config)
        self.density = GaussianMixture(in_batches(self.norms, in_domain), self.config.mixture)

    @property
    def evaluations(self) -> int:
        """Network evaluations per image (NFE)."""
        return self.config.levels

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Minus the log density of the norms."""
        return self.density.negative_log_density(self.norms(images))

    @torch.inference_mode()
    def norms(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b l"]:
        """Euclidean norms of the scores, each times its sigma, from the lowest noise level to the highest."""
        count, b = len(self.steps), len(images)
        t = self.steps.repeat_interleave(b).to(images.device)
        repeated = images.repeat(count, 1, 1, 1)
        x_t = self.schedule.add_noise(repeated, torch.zeros_like(repeated), t)
        predicted = self.schedule.noise(x_t, self.denoiser(x_t, t, None), t)
        return predicted.square().sum((1, 2, 3)).sqrt().reshape(count, b).T


def nearest_steps(schedule: Schedule, config: MSMAConfig) -> Tensor:
    """The schedule's noise levels nearest to the wanted standard deviations, lowest first."""
    abar = schedule.alphas_cumprod.double()
    available = ((1 - abar) / abar).log() / 2
    wanted = torch.linspace(math.log(config.lowest), math.log(config.highest), config.levels, dtype=torch.float64)
    steps = (wanted[:, None] - available).abs().argmin(1)
    different = len(set(steps.tolist()))
    if different < config.levels:
        raise ValueError(
            f"{config.levels} noise levels from {config.lowest:g} to {config.highest:g}, but the schedule has only "
            f"{different} different ones there; take fewer or spread them wider"
        )
    return steps
