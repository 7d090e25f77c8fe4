"""Sketches: a score's distribution in few numbers, for thresholds at a chosen false-alarm rate.

All are made from known images that no network was trained on. A worker sends a few numbers: count, mean and standard
deviation of each score, then a sketch of it (its count and ``len(LEVELS)`` numbers). The sketch of a worker with
``FEW`` images or more holds at most ``len(LEVELS)`` of its scores, each as it was measured; that of a worker with fewer
holds at most four. Each score is sorted by itself, so that no number shows which image it belongs to, nor which numbers
of two scores belong to the same image. This is no differential privacy: a worker sends its highest score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike

from fedlmd.calibration.moments import CalibrationError

FEW = 20
"""With fewer images a worker sends a coarse sketch."""

COARSE = 4
"""Different numbers that a coarse sketch holds, at most."""

LEVELS = tuple(i / 100 for i in range(90)) + tuple(i / 1000 for i in range(900, 1001))
"""Levels of a sketch: finest near 1, where thresholds lie."""


@dataclass(frozen=True)
class Sketch:
    """A score's distribution over known images in few numbers, from which conformal p-values are made.

    If the images that it was made from and a new known image are exchangeable (drawn alike: same worker, same camera,
    same mix of labels, in any order), then over all draws of both the new image's p-value is at most alpha with a
    probability of at most alpha, for every alpha, every count and every kind of score (Vovk et al. 2005; Bates et al.
    2023, section 2). The p-value is (1 + number of calibration images that score no lower) / (1 + count); where the
    sketch leaves that number open, it takes the highest possible one. That holds on average over calibrations: the rate
    of a given one is drawn from Beta(k, count + 1 - k), k = floor(alpha (count + 1)), which for 200 images and an alpha
    of 0.05 lies between 0.019 and 0.097 in 99 of 100 cases. Strictly, the score must not depend on these images, but
    ``fuse`` takes its scale from those of all workers: simulated, that raised an alpha of 0.05 by 0.005 with 20 images
    in all, and by less than 0.001 with 200.

    Args:
        count: how many images it was made from.
        values: rising, one for each of ``LEVELS``; at least ``ranks[i]`` of the images score no higher than
            ``values[i]``.
    """

    count: int
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = np.isfinite(self.values).all() and (np.diff(self.values) >= 0).all()
        if len(self.values) != len(LEVELS) or not rising or self.count < 1:
            raise CalibrationError(f"a sketch holds {len(LEVELS)} finite, rising quantiles of at least 1 image")

    @classmethod
    def of(cls, scores: ArrayLike) -> Sketch:
        """The sketch of a worker's scores; each value is an observed score.

        With fewer than ``FEW`` scores it holds only the highest of each quarter: p-values and thresholds are then
        higher than from all of them, never lower.
        """
        rising = np.sort(np.asarray(scores, dtype=np.float64))
        count = len(rising)
        ranks = ranks_at(LEVELS, count)
        if count < FEW:
            size = -(-count // COARSE)
            ranks = np.minimum(-(-ranks // size) * size, count)
        values = rising[ranks - 1]
        return cls(count, tuple(float(value) for value in values))

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Sketch:
        """The sketch that a card or a message holds. Raises KeyError or TypeError where it is none."""
        return cls(entry["count"], tuple(entry["values"]))

    @property
    def ranks(self) -> Int64[np.ndarray, " k"]:
        """How many of the images score no higher than each value, at least."""
        return ranks_at(LEVELS, self.count)

    @property
    def points(self) -> Float64[np.ndarray, " k"]:
        """The values as an array."""
        return np.asarray(self.values, dtype=np.float64)

    def above(self, points: Float64[np.ndarray, " k"]) -> Int64[np.ndarray, " k"]:
        """How many of the images score higher than each of some points, at most."""
        upto = np.searchsorted(self.points, points, side="right")
        return self.count - np.concatenate([[0], self.ranks])[upto]

    def beyond(self, point: float) -> int:
        """How many of the images score higher than a point, at least."""
        values = self.points
        higher = int(np.searchsorted(values, point, side="right"))
        if higher == len(values):
            return 0
        # Of a coarse sketch the last of equal values has the rank of the score that they hold.
        last = int(np.searchsorted(values, values[higher], side="right")) - 1
        return self.count + 1 - int(self.ranks[last])


def ranks_at(levels: tuple[float, ...], count: int) -> Int64[np.ndarray, " k"]:
    """The ranks from 1 to ``count`` that stand for levels: the lowest score for 0, the highest for 1, rounded up."""
    # A rank above a whole number by rounding alone must not become the next one.
    return np.ceil(np.round(np.asarray(levels) * (count - 1), 9)).astype(np.int64) + 1


def pool_sketches(sketches: Sequence[Mapping[str, Any]], levels: Sequence[float]) -> dict[str, dict[str, Any]]:
    """The sketch of all scores from each worker's, by detector; all have values for the same levels, from 0 to 1."""
    pooled = {}
    for name in sketches[0]:
        counts = [sketch[name]["count"] for sketch in sketches]
        values = mixture_quantiles(counts, [sketch[name]["values"] for sketch in sketches], levels)
        pooled[name] = {"count": int(sum(counts)), "values": values.tolist()}
    return pooled


def mixture_quantiles(
    counts: Sequence[int | float], quantiles: Sequence[Sequence[float]], levels: Sequence[float]
) -> np.ndarray:
    """Quantiles of all scores from each worker's: inverts the count-weighted mixture of their distributions.

    A worker's distribution function rises in straight lines through its quantiles, and jumps where they repeat. So does
    the mixture, between the union of their points; its quantile at a level is the lowest score at which it reaches it.

    Args:
        counts: number of scores of each worker.
        quantiles: each worker's at ``levels``, as the result is.
        levels: rising from 0 (a worker's lowest score) to 1 (its highest).
    """
    grid = np.asarray(levels, dtype=np.float64)
    shares = np.asarray(counts, dtype=np.float64) / np.sum(counts)
    rows = [np.asarray(row, dtype=np.float64) for row in quantiles]
    points = np.unique(np.concatenate(rows))
    below, upto = np.zeros_like(points), np.zeros_like(points)
    for share, row in zip(shares, rows, strict=True):
        # np.interp takes the last of repeated points: P(score <= point). Mirrored, it gives P(score < point).
        upto += share * np.interp(points, row, grid)
        below += share * (1.0 - np.interp(-points, -row[::-1], 1.0 - grid[::-1]))
    # A height that differs from a level by rounding alone must not move the quantile across the next gap.
    heights = np.round(np.maximum.accumulate(np.stack([below, upto], axis=1).ravel()), 12)
    places = np.repeat(points, 2)
    # Mirrored again, for the lowest of all scores with the same height.
    inverse: np.ndarray = -np.interp(-grid, -heights[::-1], -places[::-1])
    return inverse
