"""Sizes of the two networks, as a run sets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedlmd.models.registry import CLASSIFIERS, DENOISERS


@dataclass(frozen=True)
class ModelConfig:
    """Which networks, and their widths; images, channels and labels are the run's.

    Args:
        classifier: channels of the classifier's stages.
        denoiser: channels of the denoiser's resolutions.
        blocks: residual blocks of each of the denoiser's resolutions.
        views: views that the classifier distinguishes, 1 or 4.
        head: the classifier's last layer is "fixed" as it begins, or "learned".
        classifier_network: a name of ``fedlmd.models.CLASSIFIERS``.
        denoiser_network: a name of ``fedlmd.models.DENOISERS``.
    """

    classifier: tuple[int, ...] = (32, 64, 96)
    denoiser: tuple[int, ...] = (64, 64)
    blocks: int = 1
    views: int = 4
    head: Literal["fixed", "learned"] = "fixed"
    classifier_network: str = "cnn"
    denoiser_network: str = "unet"

    def __post_init__(self) -> None:
        CLASSIFIERS.check(self.classifier_network)
        DENOISERS.check(self.denoiser_network)
