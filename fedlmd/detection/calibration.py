"""From scores to a verdict: common scale, one fused score, a threshold at a chosen false-alarm rate.

Everything is made from in-domain images that no network was trained on, and everything that leaves a site is a few
numbers: count, mean and deviation of each score, then quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["LEVELS", "CalibrationError", "Moments", "Sketch", "fuse", "moments", "pooled"]

# Levels of a sketch: percent by percent, and a tenth of a percent near 1, where thresholds lie.
LEVELS: tuple[float, ...] = tuple(round(i / 100, 2) for i in range(95)) + tuple(
    round(0.95 + i / 1000, 3) for i in range(51)
)


class CalibrationError(ValueError):
    """Too few or broken scores to calibrate with."""


@dataclass(frozen=True)
class Moments:
    """Count, mean and standard deviation of one score over in-domain images."""

    count: int
    mean: float
    std: float

    def __post_init__(self) -> None:
        """Refuse broken moments."""
        if self.count < 1 or not math.isfinite(self.mean) or not 0 <= self.std < math.inf:
            raise CalibrationError(f"moments are finite and of at least 1 image, not {self}")


def moments(scores: Float[Tensor, " n"]) -> Moments:
    """The moments of a site's own scores.

    Raises:
        CalibrationError: with fewer than 2 scores, or one that is not finite.
    """
    if len(scores) < 2:
        raise CalibrationError(f"{len(scores)} in-domain images to calibrate with; at least 2 are needed")
    if not torch.isfinite(scores).all():
        raise CalibrationError("an in-domain score is not finite; the weights are broken")
    values = scores.double()
    return Moments(len(values), float(values.mean()), float(values.std(correction=0)))


def pooled(parts: Sequence[Moments]) -> Moments:
    """The moments of all sites' scores together, from each site's own: exact, as if the scores had been pooled."""
    count = sum(part.count for part in parts)
    mean = sum(part.count * part.mean for part in parts) / count
    square = sum(part.count * (part.std**2 + (part.mean - mean) ** 2) for part in parts) / count
    return Moments(count, mean, math.sqrt(square))


def fuse(scores: Mapping[str, Float[Tensor, " n"]], scale: Mapping[str, Moments]) -> Float[Tensor, " n"]:
    """Sum of the scores of ``scale``, each in standard deviations from its in-domain mean."""
    parts = [(scores[name] - of.mean) / max(of.std, 1e-12) for name, of in scale.items()]
    return torch.stack(parts).sum(0)


@dataclass(frozen=True)
class Sketch:
    """A score's in-domain distribution in few numbers: its quantiles at ``LEVELS``.

    Args:
        count: how many images it was made from.
        values: quantiles, rising, one for each of ``LEVELS``.
    """

    count: int
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse a broken sketch."""
        rising = np.isfinite(self.values).all() and (np.diff(self.values) >= 0).all()
        if len(self.values) != len(LEVELS) or not rising or self.count < 1:
            raise CalibrationError(f"a sketch holds {len(LEVELS)} finite, rising quantiles of at least 1 image")

    @classmethod
    def of(cls, scores: Float[Tensor, " n"]) -> Sketch:
        """The sketch of a site's scores; each quantile is an observed score or above (never between two)."""
        values = np.quantile(scores.double().numpy(), LEVELS, method="higher")
        return cls(len(scores), tuple(float(value) for value in values))

    def threshold(self, alpha: float) -> float:
        """The score that a share ``alpha`` of in-domain images exceeds: the (1 - alpha) (n + 1) / n quantile.

        The factor (n + 1) / n is split conformal prediction's (Vovk et al. 2005): it makes up for the threshold
        being estimated, so that the false-alarm rate on new images is at most alpha on average.

        Raises:
            CalibrationError: when alpha is out of (0, 1).
        """
        if not 0 < alpha < 1:
            raise CalibrationError(f"the false-alarm rate is {alpha}; it lies strictly between 0 and 1")
        level = (1 - alpha) * (self.count + 1) / self.count
        # With too few images for this alpha no finite threshold keeps the promise.
        return math.inf if level > 1 else float(np.interp(level, LEVELS, self.values))

    def p_value(self, score: float) -> float:
        """Share of in-domain images at least as strange as this score, in (0, 1]."""
        # np.interp takes the last of repeated quantiles. Mirrored it takes the first, as images equally strange count.
        level = 1 - float(np.interp(-score, np.negative(self.values[::-1]), np.subtract(1, LEVELS[::-1])))
        return (1 + self.count * (1 - level)) / (1 + self.count)
