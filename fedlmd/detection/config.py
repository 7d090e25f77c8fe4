"""Which scores make the verdict, and how each is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fedlmd.choices import between
from fedlmd.detection.lmd import FAST, LMDConfig
from fedlmd.detection.one_step import OneStepConfig


@dataclass(frozen=True)
class DetectorConfig:
    """Which scores make the verdict, and how each is made.

    Args:
        verdict: the calibrated detectors whose standardised sum decides. The others are computed only on request.
        feature_stages: stages of the classifier whose maps the distance "features" compares, 0 being the finest and
            -1 the last.
        lmd: settings of LMD; in TOML, ``preset = "paper"`` or ``"fast"`` under the table's own keys.
        one_step: settings of one-step denoising.
        shrinkage: of the covariances behind Mahalanobis distances, in (0, 1].
        calibrated: detectors that a release is calibrated for, names of ``fedlmd.detection.DETECTORS``.
        options: settings of detectors of other packages, by the detector's name.
    """

    verdict: tuple[str, ...] = ("mahalanobis", "one-step")
    feature_stages: tuple[int, ...] = (-1,)
    lmd: LMDConfig = FAST
    one_step: OneStepConfig = field(default_factory=OneStepConfig)
    shrinkage: float = 0.1
    calibrated: tuple[str, ...] = ("max-logit", "one-step", "lmd", "mahalanobis")
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.verdict or not set(self.verdict) <= set(self.calibrated):
            raise ValueError(f"verdict is {list(self.verdict)}; name one or more of {', '.join(self.calibrated)}")
        between(self, 0, 1, "shrinkage", open_low=True)
