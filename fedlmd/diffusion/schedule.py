"""The noise schedule of a variance-preserving diffusion, and what follows from it in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fedlmd.choices import between, one_of

ScheduleKind = Literal["cosine", "linear"]


@dataclass(frozen=True)
class ScheduleConfig:
    """Which noise levels there are.

    Args:
        steps: number of noise levels T, at least 2; the levels are 0 ... T-1.
        kind: "cosine" (Nichol & Dhariwal 2021, eq. 17) or "linear" (Ho et al. 2020: beta from 1e-4 to 0.02 at T=1000).
    """

    steps: int = 1000
    kind: ScheduleKind = "cosine"

    def __post_init__(self) -> None:
        between(self, 2, math.inf, "steps")
        one_of(self, ScheduleKind, "kind")


class Schedule:
    """Forward process x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) n (Ho et al. 2020, eq. 4).

    The network predicts the velocity v = sqrt(abar_t) n - sqrt(1 - abar_t) x_0 (Salimans & Ho 2022, appendix D): its
    target keeps unit scale at every noise level, from which both x_0 and n follow.

    Args:
        config: which noise levels there are.
        limit: clean images lie in [-limit, limit].

    Attributes:
        abars: abar_t as numbers.
        alphas_cumprod: abar_t, float64 (T,), falling from near 1 to near 0. At the lowest levels 1 - abar_t would have
            three digits in single precision.
    """

    def __init__(self, config: ScheduleConfig | None = None, limit: float = 1.0) -> None:
        self.config = config = config or ScheduleConfig()
        self.limit = limit
        self.alphas_cumprod: Float[Tensor, " T"] = torch.cumprod(1 - betas(config), dim=0)
        self.abars: list[float] = self.alphas_cumprod.tolist()
        # The last column is the clean image, so that -1 is its index.
        abar = torch.cat([self.alphas_cumprod, torch.ones(1, dtype=torch.float64)])
        self.signals: Float[Tensor, "2 T+1"] = torch.stack([abar.sqrt(), (1 - abar).sqrt()]).float()

    def __len__(self) -> int:
        return self.config.steps

    def signal(self, t: Int[Tensor, " b"]) -> tuple[Float[Tensor, "b 1 1 1"], Float[Tensor, "b 1 1 1"]]:
        """The factors of image and noise at t, sqrt(abar_t) and sqrt(1 - abar_t); t = -1 is the clean image."""
        alpha, sigma = self.signals.to(t.device)[:, t].reshape(2, -1, 1, 1, 1)
        return alpha, sigma

    def add_noise(
        self, x_0: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], t: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """x_t for given noise; t = -1 returns x_0."""
        alpha, sigma = self.signal(t)
        return alpha * x_0 + sigma * noise

    def velocity(
        self, x_0: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], t: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """The network's target v."""
        alpha, sigma = self.signal(t)
        return alpha * noise - sigma * x_0

    def denoised(
        self, x_t: Float[Tensor, "b c h w"], v: Float[Tensor, "b c h w"], t: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """The image x_0 that a velocity implies."""
        alpha, sigma = self.signal(t)
        return alpha * x_t - sigma * v

    def clean(
        self, x_t: Float[Tensor, "b c h w"], v: Float[Tensor, "b c h w"], t: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """The image x_0 that a velocity implies, clipped to where clean images lie."""
        return self.denoised(x_t, v, t).clamp(-self.limit, self.limit)

    def noise(
        self, x_t: Float[Tensor, "b c h w"], v: Float[Tensor, "b c h w"], t: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """The noise n that a velocity implies."""
        alpha, sigma = self.signal(t)
        return sigma * x_t + alpha * v


def betas(config: ScheduleConfig) -> Float[Tensor, " T"]:
    """The variances beta_t, in double precision so that their product is exact."""
    if config.kind == "linear":
        return torch.linspace(1e-4, 0.02, config.steps, dtype=torch.float64)
    levels = torch.linspace(0, 1, config.steps + 1, dtype=torch.float64)
    abar = torch.cos((levels + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - abar[1:] / abar[:-1]).clamp(max=0.999)
