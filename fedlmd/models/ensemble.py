"""Several workers' denoisers in one network, for releases whose denoisers were not averaged."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedlmd.models.denoiser import DenoiserConfig
from fedlmd.models.registry import DENOISERS


class Ensemble(nn.Module):
    """The denoisers of several workers, and figures of each worker. ``Mixture`` and ``Union`` combine them.

    Attributes:
        members: one network for each worker.
        shares: (K, C), the share of each label's images that each worker holds.
        means: (K, D), of the scores of each worker's held-back images by the detectors that use its denoiser.
        stds: (K, D), their standard deviations.

    Args:
        config: shape of every member.
        members: their number K.
        detectors: number D of detectors that use a denoiser.
    """

    def __init__(self, config: DenoiserConfig, members: int, detectors: int) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(DENOISERS[config.network](config) for _ in range(members))
        self.shares: Float[Tensor, "k c"]
        self.means: Float[Tensor, "k d"]
        self.stds: Float[Tensor, "k d"]
        self.register_buffer("shares", torch.full((members, config.classes), 1 / members))
        self.register_buffer("means", torch.zeros(members, detectors))
        self.register_buffer("stds", torch.ones(members, detectors))
