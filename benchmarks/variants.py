"""The detector's choices, each varied by itself while all others stay what the release has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, final, get_args

from jaxtyping import Float
from torch import Tensor

from benchmarks.baselines.factory import MeasuredDetector
from fedlmd.detection import LMD, Detector, DetectorConfig, LMDConfig, MaskKind, build_detectors
from fedlmd.inference import Predictor, detector_inputs

# Without the distance "lpips": it needs a package and weights that do not come with this one.
COMPARED = {"distance": ("mse", "ssim", "features", "embedding"), "condition": ("none", "predicted")}

ONE_STEP: Mapping[str, tuple[Any, ...]] = {
    "levels": (*((level,) for level in (0.5, 0.65, 0.75, 0.8, 0.85, 0.9, 0.95)), (0.75, 0.8, 0.85), (0.6, 0.75, 0.9)),
    **COMPARED,
}

REPEATED: Mapping[str, tuple[Any, ...]] = {
    "steps": (2, 4, 8, 16),
    "reconstructions": (1, 2, 6, 10),
    "mask": get_args(MaskKind),
    "cells": (2, 4, 7, 8),
    "start": (1.0, 0.85, 0.7),
    **COMPARED,
}

SUMMARIES = ("median", "mean", "minimum")

WHOLE_START = 0.85
"""Where a mask that hides everything starts from: a start from pure noise would not depend on the image."""

SUMS: tuple[tuple[str, ...], ...] = (
    *((name,) for name in ("mahalanobis", "one-step", "max-logit", "lmd")),
    ("mahalanobis", "one-step"),
    ("mahalanobis", "one-step", "max-logit"),
    ("mahalanobis", "one-step", "lmd"),
    ("max-logit", "one-step"),
    ("lmd", "one-step"),
    ("lmd", "mahalanobis"),
    ("mahalanobis", "one-step", "max-logit", "lmd"),
)
"""Scores whose sum could be the verdict."""


@final
class LMDBy:
    """LMD with another summary of its distances than their median.

    Args:
        lmd: reconstructs and compares.
        summary: "mean" or "minimum".
    """

    def __init__(self, lmd: LMD, summary: str) -> None:
        if summary not in SUMMARIES[1:]:
            raise ValueError(f"summary is {summary!r}; choose one of {', '.join(SUMMARIES[1:])}")
        self.lmd, self.summary, self.config = lmd, summary, (lmd.config, summary)

    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """The summary of the distances to the reconstructions."""
        distances = self.lmd.distances(images, self.lmd.reconstruct(images))
        return distances.mean(0) if self.summary == "mean" else distances.amin(0)


@dataclass(frozen=True)
class Variant:
    """One way to make one score.

    Args:
        score: which: "max-logit", "mahalanobis", "one-step" or "lmd".
        settings: of all scores, of which one choice differs from the release's.
        choice: which; empty for a score without a varied choice.
        value: what was chosen, in words.
        default: whether the release has chosen so.
        summary: of LMD's distances.
    """

    score: str
    settings: DetectorConfig
    choice: str = ""
    value: str = ""
    default: bool = True
    summary: str = "median"

    @property
    def name(self) -> str:
        """A name for files, the same for all variants that are the release's own score."""
        if self.default:
            return self.score
        return "-".join([self.score, self.choice, self.value.replace(",", "").replace(" ", "-")])

    @property
    def evaluations(self) -> int:
        """Evaluations of the denoiser per image."""
        counts = {"one-step": len(self.settings.one_step.levels), "lmd": self.settings.lmd.evaluations}
        return counts.get(self.score, 0)


def variants(own: DetectorConfig) -> Iterator[Variant]:
    """All variants, choice by choice; each choice's values, the release's own among them.

    Args:
        own: the settings of the release.
    """
    for score in own.calibrated:
        yield Variant(score, own)
    for choice, values in ONE_STEP.items():
        default = getattr(own.one_step, choice)
        for value in dict.fromkeys((*values, default)):
            changed = replace(own, one_step=replace(own.one_step, **{choice: value}))
            yield Variant("one-step", changed, choice, in_words(value), value == default)
    for choice, values in REPEATED.items():
        default = getattr(own.lmd.inpainting if choice in ("steps", "start") else own.lmd, choice)
        for value in dict.fromkeys((*values, default)):
            lmd = own.lmd if value == default else lmd_with(own.lmd, choice, value)
            moved = choice == "mask" and lmd.inpainting != own.lmd.inpainting
            words = in_words(value) + (f", start {lmd.inpainting.start:g}" if moved else "")
            yield Variant("lmd", replace(own, lmd=lmd), choice, words, value == default)
    for summary in SUMMARIES:
        yield Variant("lmd", own, "summary", summary, summary == "median", summary)


def lmd_with(config: LMDConfig, choice: str, value: Any) -> LMDConfig:  # noqa: ANN401 - of any setting
    """LMD's settings with one of them changed; a mask that hides everything starts from ``WHOLE_START`` at most."""
    inpainting = config.inpainting
    if choice in ("steps", "start"):
        return replace(config, inpainting=replace(inpainting, **{choice: value}))
    if choice == "mask" and value == "whole":
        inpainting = replace(inpainting, start=min(inpainting.start, WHOLE_START))
    return replace(config, inpainting=inpainting, **{choice: value})


def in_words(value: Any) -> str:  # noqa: ANN401 - of any setting
    """A setting's value: several levels with a plus between them, numbers without needless digits."""
    if isinstance(value, tuple):
        return "+".join(in_words(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def detector_of(variant: Variant, predictor: Predictor) -> MeasuredDetector:
    """The detector of a variant, on a release's networks.

    Raises:
        ValueError: when the networks, or their images, do not take the variant's settings.
        KeyError: when the release has no such score.
    """
    settings = replace(predictor.settings, detector=variant.settings)
    inputs = detector_inputs(settings, predictor.networks, predictor.release.weights)
    detector: Detector = build_detectors([variant.score], inputs)[variant.score]
    if variant.summary != "median":
        detector = LMDBy(detector, variant.summary)  # type: ignore[arg-type]
    # What a detector's own settings do not include.
    shared = repr((variant.settings.feature_stages, variant.settings.shrinkage))
    return MeasuredDetector(detector, variant.evaluations, settings=shared)
