"""From scores to a verdict: common scale, one fused score, a threshold at a chosen false-alarm rate.

Everything is made from in-domain images that no network was trained on, and everything that leaves a site is a few
numbers: count, mean and deviation of each score (3 numbers), then a sketch of it (its count and ``len(LEVELS)``
numbers). The sketch of a site with ``FEW`` images or more holds at most ``len(LEVELS)`` of its scores, each as it was
measured; that of a site with fewer holds at most four. Each score is sorted by itself, so that no number tells which
image it belongs to, nor which numbers of two scores belong to the same image. That is few numbers, not differential
privacy: the highest score of an image leaves its site.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

__all__ = [
    "FEW",
    "LEVELS",
    "CalibrationError",
    "Moments",
    "Sketch",
    "fuse",
    "moments",
    "p_value_at",
    "pooled",
    "threshold_at",
]

FEW = 20
"""With fewer images a site gives a coarse sketch."""

COARSE = 4
"""Different numbers that a coarse sketch holds, at most."""


LEVELS = tuple(i / 100 for i in range(90)) + tuple(i / 1000 for i in range(900, 1001))
"""Levels of a sketch: finest near 1, where thresholds lie."""


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


def threshold_at(points: Float64[np.ndarray, " k"], tails: Float64[np.ndarray, " k"], alpha: float) -> float:
    """The lowest of the points above which every score has a p-value of at most ``alpha``; infinite without one.

    Args:
        points: scores, rising.
        tails: p-value of the scores right above each point, falling.
        alpha: the false-alarm rate.

    Raises:
        CalibrationError: when alpha is out of (0, 1).
    """
    if not 0 < alpha < 1:
        raise CalibrationError(f"the false-alarm rate is {alpha}; it lies strictly between 0 and 1")
    first = np.flatnonzero(tails <= alpha)
    return float(points[first[0]]) if len(first) else math.inf


def p_value_at(
    points: Float64[np.ndarray, " k"], tails: Float64[np.ndarray, " k"], scores: Float[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "*shape"]:
    """The p-values of scores, by the steps that ``threshold_at`` looks at: so the two can never disagree."""
    below = np.searchsorted(points, scores, side="left")
    return np.asarray(np.concatenate([[1.0], tails])[below])


@dataclass(frozen=True)
class Sketch:
    """A score's in-domain distribution in few numbers, from which conformal p-values are made.

    **What it promises.** If the images that it was made from and a new known image are exchangeable (drawn alike: same
    site, same camera, same mix of labels, in any order), then over all draws of both the new image's p-value is at
    most alpha with a probability of at most alpha, for every alpha, every count and every kind of score (Vovk et al.
    2005; Bates et al. 2023, section 2). ``p_value`` is (1 + number of calibration images at least as strange) /
    (1 + count); where the sketch does not tell that number, it takes the highest that the sketch allows. That holds on
    average over calibrations: the rate of a given one is drawn from Beta(k, count + 1 - k), k = floor(alpha (count +
    1)), which for 200 images and an alpha of 0.05 lies between 0.019 and 0.097 in 99 of 100 cases. Strictly, the score
    must not depend on these images, but ``fuse`` takes its scale from those of all sites: simulated, that raised an
    alpha of 0.05 by 0.005 with 20 images in all, and by less than 0.001 with 200.

    Args:
        count: how many images it was made from.
        values: rising, one for each of ``LEVELS``; at least ``ranks[i]`` of the images score no higher than
            ``values[i]``.
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
        """The sketch of a site's scores; each value is an observed score.

        With fewer than ``FEW`` scores only the highest of each quarter are told: p-values and thresholds become higher
        than from all of them, never lower.
        """
        count = len(scores)
        ranks = ranks_at(LEVELS, count)
        if count < FEW:
            size = -(-count // COARSE)
            ranks = np.minimum(-(-ranks // size) * size, count)
        values = scores.double().sort().values.numpy()[ranks - 1]
        return cls(count, tuple(float(value) for value in values))

    @property
    def ranks(self) -> Int64[np.ndarray, " k"]:
        """How many of the images score no higher than each value, at least."""
        return ranks_at(LEVELS, self.count)

    @property
    def points(self) -> Float64[np.ndarray, " k"]:
        """The values as an array."""
        return np.asarray(self.values, dtype=np.float64)

    @property
    def tails(self) -> Float64[np.ndarray, " k"]:
        """The p-value of the scores right above each value."""
        return np.asarray((1 + self.count - self.ranks) / (1 + self.count))

    def above(self, points: Float64[np.ndarray, " k"]) -> Int64[np.ndarray, " k"]:
        """How many of the images score higher than each of some points, at most."""
        upto = np.searchsorted(self.points, points, side="right")
        return self.count - np.concatenate([[0], self.ranks])[upto]

    def threshold(self, alpha: float) -> float:
        """The score above which the p-value is at most ``alpha``: infinite with fewer than 1 / alpha - 1 images.

        Raises:
            CalibrationError: when alpha is out of (0, 1).
        """
        return threshold_at(self.points, self.tails, alpha)

    def p_value(self, score: float) -> float:
        """Share of in-domain images at least as strange as this score, itself counted, in (0, 1].

        It is at most alpha exactly where the score exceeds ``threshold(alpha)``.
        """
        return float(p_value_at(self.points, self.tails, np.asarray(score, dtype=np.float64)))


def ranks_at(levels: tuple[float, ...], count: int) -> Int64[np.ndarray, " k"]:
    """The ranks from 1 to ``count`` that stand for levels: the lowest score for 0, the highest for 1, rounded up."""
    # A rank that rounding alone lifts over a whole number must not be the next one.
    return np.ceil(np.round(np.asarray(levels) * (count - 1), 9)).astype(np.int64) + 1
