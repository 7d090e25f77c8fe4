"""Settings of a run's parts that no part can hold itself: where images come from, which scores decide, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fedlmd.data import PartitionConfig
from fedlmd.detection import FAST, LMDConfig, OneStepConfig, SiteCalibration

__all__ = ["SCORES", "CalibrationConfig", "DataConfig", "DetectorConfig", "ModelConfig"]

SCORES = ("max-logit", "mahalanobis", "one-step", "lmd")


@dataclass(frozen=True)
class DataConfig:
    """Where a site's images come from.

    Args:
        source: "mnist", a folder of ``<label>/*.png``, or an .npz file; see ``fedlmd.data.load``.
        held_back: share of the training images kept from training, to calibrate with; in (0, 0.5].
        partition: this site's share of the source, when several sites divide one.
    """

    source: str = "mnist"
    held_back: float = 0.1
    partition: PartitionConfig = field(default_factory=PartitionConfig)

    def __post_init__(self) -> None:
        """Refuse values out of range, with the range."""
        if not 0 < self.held_back <= 0.5:
            raise ValueError(f"held_back is {self.held_back}; it lies in (0, 0.5]")


@dataclass(frozen=True)
class ModelConfig:
    """Widths of the two networks; images, channels and labels are the run's.

    Args:
        classifier: channels of the classifier's stages.
        denoiser: channels of the denoiser's resolutions.
        blocks: residual blocks of each of the denoiser's resolutions.
        views: views that the classifier tells apart, 1, 4 or 8.
        head: the classifier's last layer is "fixed" as it begins, or "learned".
    """

    classifier: tuple[int, ...] = (32, 64, 96)
    denoiser: tuple[int, ...] = (64, 64)
    blocks: int = 1
    views: int = 4
    head: Literal["fixed", "learned"] = "fixed"


@dataclass(frozen=True)
class DetectorConfig:
    """Which scores make the verdict, and how each is made.

    Args:
        verdict: scores whose standardised sum decides: any of "max-logit", "mahalanobis", "one-step", "lmd". The
            others are computed only when they are asked for.
        feature_stages: stages of the classifier whose maps the distance "features" compares, 0 being the finest and
            -1 the last.
        lmd: settings of LMD; in TOML, ``preset = "paper"`` or ``"fast"`` under the table's own keys.
        one_step: settings of one-step denoising.
        shrinkage: of the covariances behind Mahalanobis distances, in (0, 1].
    """

    verdict: tuple[str, ...] = ("mahalanobis", "one-step")
    feature_stages: tuple[int, ...] = (-1,)
    lmd: LMDConfig = FAST
    one_step: OneStepConfig = field(default_factory=OneStepConfig)
    shrinkage: float = 0.1

    def __post_init__(self) -> None:
        """Refuse unknown scores."""
        if not self.verdict or not set(self.verdict) <= set(SCORES):
            raise ValueError(f"verdict is {list(self.verdict)}; name one or more of {', '.join(SCORES)}")
        if not 0 < self.shrinkage <= 1:
            raise ValueError(f"shrinkage is {self.shrinkage}; it lies in (0, 1]")


@dataclass(frozen=True)
class CalibrationConfig:
    """How the threshold is set.

    Args:
        alpha: share of known images that may be called unknown, in (0, 1).
        images: at most so many held-back images are scored at each site.
        described: at most so many training images of each site are summed up in the Gaussians of the embeddings.
        sites: whose images a site compares its own with: "pooled" (those of all sites alike), "own", or "shrunk" (its
            own, and those of all others together as ten more); see ``fedlmd.detection.reference``.
        alpha_uncertain: an image that is not unknown is called known only when its p-value exceeds this, in (0, 1).
    """

    alpha: float = 0.05
    images: int = 500
    described: int = 8000
    sites: SiteCalibration = "shrunk"
    alpha_uncertain: float = 0.2

    def __post_init__(self) -> None:
        """Refuse values out of range, with the range."""
        for name in ("alpha", "alpha_uncertain"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it lies strictly between 0 and 1")
        if self.images < 2:
            raise ValueError(f"images is {self.images}; at least 2 are needed")
        if self.described < 1:
            raise ValueError(f"described is {self.described}; at least 1 is needed")
