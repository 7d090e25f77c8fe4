"""Count, mean and standard deviation of a score, and how those of several workers are pooled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

HEAT = "heat"
"""Name of the moments of the heat of known images' cells, see ``fedlmd.inference.heat_of_cells``."""

RIGHT = "right"
"""Name of the moments, beside those of the scores, of whether the classifier was right about a held-back image."""


class CalibrationError(ValueError):
    """Too few or broken scores to calibrate with."""


@dataclass(frozen=True)
class Moments:
    """Count, mean and standard deviation of one score over known images."""

    count: int
    mean: float
    std: float

    def __post_init__(self) -> None:
        if self.count < 1 or not math.isfinite(self.mean) or not 0 <= self.std < math.inf:
            raise CalibrationError(f"moments are finite and of at least 1 image, not {self}")


def right_of(detector: str) -> str:
    """Name of the moments of whether a held-back image's nearest class, by a detector's Gaussians, was its own."""
    return f"{detector}-{RIGHT}"


def pool_moments(moments: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Moments of all scores from each worker's, by detector: exactly those of all scores together.

    The variance is the mean of the workers' variances plus the variance of their means, both weighted by count.
    """
    pooled = {}
    for name in moments[0]:
        count, mean, std = (np.array([each[name][key] for each in moments]) for key in ("count", "mean", "std"))
        centre = float((count * mean).sum() / count.sum())
        variance = float((count * (std**2 + (mean - centre) ** 2)).sum() / count.sum())
        pooled[name] = {"count": int(count.sum()), "mean": centre, "std": math.sqrt(variance)}
    return pooled
