"""Which scores make the verdict, and how each is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fedlmd.calibration import RIGHT, Moments, right_of
from fedlmd.choices import between, one_of
from fedlmd.detection.lmd import FAST, LMDConfig
from fedlmd.detection.one_step import OneStepConfig

AUTO = "auto"

IMAGES: dict[str, tuple[str, ...] | str] = {
    "embedding": "head",
    "verdict": ("mahalanobis", "one-step"),
    "calibrated": ("max-logit", "one-step", "lmd", "mahalanobis"),
}
LATENTS: dict[str, tuple[str, ...] | str] = {
    "embedding": "stages",
    "verdict": ("mahalanobis", "descriptor"),
    "calibrated": ("max-logit", "one-step", "lmd", "mahalanobis", "descriptor"),
}
"""What "auto" stands for, by what the networks work on."""

THUMBNAIL = "thumbnail"
"""The detector that comes to both lists where the classifier gets thumbnails beside latents."""

WEIGHED = (THUMBNAIL,)
"""The detectors whose weight in a verdict falls with the errors of their Gaussians, see ``competence``."""

SMOOTHING = 0.05
"""Share of errors that is added to both where they are compared, as few images are held back."""

ONE_STEP_OF_LATENTS = OneStepConfig(levels=(0.7, 0.8, 0.9), distance="mahalanobis")
LMD_OF_LATENTS = replace(FAST, distance="mahalanobis")
WEIGHTS_OF_LATENTS = {"descriptor": 0.25, THUMBNAIL: 2.0}
"""What takes the place of the defaults on latents: chosen on other labels than those that results are given of, but for
the weight of the descriptor, which followed the demo of photographs. The verdict has no score of the denoiser: it made
the detection of unknown tiles and signs worse."""


@dataclass(frozen=True)
class DetectorConfig:
    """Which scores make the verdict, and how each is made.

    Args:
        verdict: the calibrated detectors whose standardised sum decides. The others are computed only on request.
            "auto" stands for what suits a run's encoder, and so does that of ``calibrated``; see ``chosen``.
        feature_stages: stages of the classifier whose maps the distance "features" compares, 0 being the finest and
            -1 the last.
        lmd: settings of LMD; in TOML, ``preset = "paper"`` or ``"fast"`` under the table's own keys.
        one_step: settings of one-step denoising.
        embedding: what Mahalanobis distances are of: the L2-normalised input of the classifier's "head", or the pooled
            maps of all its "stages".
        shrinkage: of the covariances behind Mahalanobis distances, in (0, 1].
        descriptor_shrinkage: of those behind the distances of an encoder's descriptors, in (0, 1].
        calibrated: detectors that a release is calibrated for, names of ``fedlmd.detection.DETECTORS``.
        weights: of the scores in the verdict's sum, above 0, by the detector's name; 1 where none is given.
        options: settings of detectors of other packages, by the detector's name.
    """

    verdict: tuple[str, ...] | str = AUTO
    feature_stages: tuple[int, ...] = (-1,)
    lmd: LMDConfig = FAST
    one_step: OneStepConfig = field(default_factory=OneStepConfig)
    embedding: Literal["auto", "head", "stages"] = "auto"
    shrinkage: float = 0.1
    descriptor_shrinkage: float = 0.02
    calibrated: tuple[str, ...] | str = AUTO
    weights: dict[str, float] = field(default_factory=dict)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("verdict", "calibrated"):
            if isinstance(value := getattr(self, name), str) and value != AUTO:
                raise ValueError(f'{name} is {value!r}; it is a list of detectors or "auto"')
        known = (*LATENTS["calibrated"], THUMBNAIL) if isinstance(self.calibrated, str) else self.calibrated
        if not isinstance(self.verdict, str) and (not self.verdict or not set(self.verdict) <= set(known)):
            raise ValueError(f"verdict is {list(self.verdict)}; name one or more of {', '.join(known)}")
        between(self, 0, 1, "shrinkage", "descriptor_shrinkage", open_low=True)
        one_of(self, Literal["auto", "head", "stages"], "embedding")
        if any(not 0 < weight < math.inf for weight in self.weights.values()):
            raise ValueError(f"weights is {self.weights}; each is above 0")

    def scaled(self, scale: Mapping[str, Moments]) -> dict[str, Moments]:
        """The moments by which ``fuse`` standardises the verdict's scores, each std divided by its score's weight.

        Those of ``WEIGHED`` weigh less the more often a held-back image's nearest class is not its own, see
        ``competence``.
        """
        weights = {name: self.weights.get(name, 1.0) for name in self.verdict}
        for name in set(WEIGHED) & weights.keys():
            if {RIGHT, right_of(name)} <= scale.keys():
                weights[name] *= competence(scale[RIGHT].mean, scale[right_of(name)].mean)
        weighted = {name: (scale[name], weight) for name, weight in weights.items()}
        return {name: replace(moments, std=moments.std / weight) for name, (moments, weight) in weighted.items()}

    def chosen(self, *, latents: bool, thumbnails: bool = False, gaussians: bool = True) -> DetectorConfig:
        """The same without "auto".

        Args:
            latents: whether the networks work on an encoder's latents or on images.
            thumbnails: whether the classifier gets thumbnails beside latents.
            gaussians: whether those of known images are fitted before a score of the denoiser is computed.

        Raises:
            ValueError: a distance needs Gaussians that are not there.
        """
        for name, kind in {"lmd": self.lmd.distance, "one_step": self.one_step.distance}.items():
            if kind == "mahalanobis" and not gaussians:
                raise ValueError(
                    f'distance of {name} is "mahalanobis", which needs the Gaussians of known images; with this merge '
                    'of denoisers they are not fitted in time: take "embedding", or the merge "rounds"'
                )
        given: dict[str, Any] = {
            name: value for name, value in (LATENTS if latents else IMAGES).items() if getattr(self, name) == AUTO
        }
        if thumbnails:
            given |= {name: (*given[name], THUMBNAIL) for name in ("verdict", "calibrated") if name in given}
        if "calibrated" in given and not isinstance(self.verdict, str):
            given["calibrated"] = tuple(dict.fromkeys([*given["calibrated"], *self.verdict]))
        if latents and self.one_step == OneStepConfig():
            given["one_step"] = ONE_STEP_OF_LATENTS if gaussians else OneStepConfig(levels=(0.5, 0.6, 0.7, 0.8))
        if latents and gaussians and self.lmd == FAST:
            given["lmd"] = LMD_OF_LATENTS
        if latents and isinstance(self.verdict, str) and not self.weights:
            given["weights"] = WEIGHTS_OF_LATENTS
        return replace(self, **given)


def competence(right: float, nearest_right: float) -> float:
    """The square of the classifier's share of errors over that of a detector's Gaussians, at most 1.

    Where what a detector looks at shows too little to tell known classes apart, it does not show unknown ones either.

    Args:
        right: share of held-back images that the classifier classifies correctly, in [0, 1].
        nearest_right: share whose nearest class by the detector's Gaussians is their own, in [0, 1].
    """
    # The shares come from workers, who may lie.
    errors, nearest_errors = (max(0.0, 1 - share) + SMOOTHING for share in (right, nearest_right))
    return min(1.0, errors / nearest_errors) ** 2
