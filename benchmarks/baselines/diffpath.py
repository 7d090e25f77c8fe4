"""DiffPath (Heng, Thiery & Soh, NeurIPS 2024): rate of change and curvature of the path from an image to noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.baselines.density import GaussianMixture, MixtureConfig
from fedlmd.detection import in_batches
from fedlmd.diffusion import Denoiser, Schedule


@dataclass(frozen=True)
class DiffPathConfig:
    """The settings of DiffPath.

    Args:
        steps: steps from image to noise, 2 or more; one network evaluation each (the paper: 10).
        mixture: the density of the statistics. The authors choose among 50 and 100 Gaussians, for 50,000 images.
    """

    steps: int = 10
    mixture: MixtureConfig = field(
        default_factory=lambda: MixtureConfig(covariances=("full", "tied", "diag", "spherical"))
    )

    def __post_init__(self) -> None:
        """Refuse values out of range, with the range."""
        if self.steps < 2:
            raise ValueError(f"steps is {self.steps}; a rate of change needs at least 2")


@final
class DiffPath:
    """Negative log density of six statistics of the path from image to noise: DiffPath-6D (Heng et al. 2024).

    The statistics are the sums, over steps and pixels, of the first three powers of the predicted noise and of its
    time derivative. Odd powers keep their sign, as in the authors' code.

    Args:
        denoiser: the diffusion model; called without a label.
        schedule: its noise levels.
        in_domain: images that no network was trained on; they alone fit the density.
        config: the settings.

    Raises:
        ValueError: when there are more steps than noise levels, or the density cannot be fitted.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: Schedule,
        in_domain: Float[Tensor, "n c h w"],
        config: DiffPathConfig | None = None,
    ) -> None:
        self.denoiser, self.schedule = denoiser, schedule
        self.config = config or DiffPathConfig()
        if self.config.steps > len(schedule):
            raise ValueError(f"{self.config.steps} steps; the schedule has {len(schedule)} levels: take 2 to that many")
        self.density = GaussianMixture(in_batches(self.statistics, in_domain), self.config.mixture)

    @property
    def evaluations(self) -> int:
        """Network evaluations per image (NFE)."""
        return self.config.steps

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Minus the log density of the six statistics."""
        return self.density.negative_log_density(self.statistics(images))

    @torch.inference_mode()
    def statistics(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 6"]:
        """Sums of the noise, its square and its cube, then the same of its derivative; the whole path lasts 1."""
        path = torch.stack(list(self.path(images)), dim=1).double().flatten(2)
        rate = path.diff(dim=1) * self.config.steps
        return torch.stack([(part**power).sum((1, 2)) for part in (path, rate) for power in (1, 2, 3)], dim=1).float()

    def path(self, images: Float[Tensor, "b c h w"]) -> Iterator[Float[Tensor, "b c h w"]]:
        """The predicted noise at every level that deterministic DDIM visits from image to noise (Song et al. 2021).

        The implied image is clipped to [-1, 1], as in the authors' code.
        """
        stride = len(self.schedule) // self.config.steps
        x_0, noise = images, torch.zeros_like(images)
        for level in range(0, stride * self.config.steps, stride):
            t = torch.full((len(images),), level, device=images.device)
            x_t = self.schedule.add_noise(x_0, noise, t)
            x_0 = self.schedule.denoised(x_t, self.denoiser(x_t, t, None), t).clamp(-1, 1)
            alpha, sigma = self.schedule.signal(t)
            noise = (x_t - alpha * x_0) / sigma
            yield noise
