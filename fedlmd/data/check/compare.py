"""Is the part to evaluate on drawn otherwise than the part to train on: another device, another hand, other shares?

Each statistic of the images is compared by the two-sample test of Kolmogorov and Smirnov, whose D, the largest distance
of the two distribution functions, is the size of the effect as well. Images to train on are weighted so that their
labels have the shares that they have among those to evaluate on: a rare label must not look like another device. The
shares of labels are compared by Pearson's chi-square test; the size of that effect is the total variation distance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from fedlmd.data.check.measure import STATISTICS

LEVEL = 0.001
"""Chance that parts drawn alike are called different in any of the comparisons, at most."""

SMALLEST = 0.1
"""Effects below this are not reported, however certain: of 60,000 images every trifle is certain."""

LABELS = "label shares"


@dataclass(frozen=True)
class Comparison:
    """One statistic of the images of both parts.

    Args:
        name: one of ``STATISTICS``, or ``LABELS``.
        train: its median among the images to train on; of label shares 0.
        evaluation: the same of those to evaluate on.
        effect: how far the distributions are apart, in [0, 1].
        p: p-value of the hypothesis that they are one.
        differs: whether they are clearly different: p below ``LEVEL`` over the number of comparisons, and an effect of
            ``SMALLEST`` or more.
    """

    name: str
    train: float
    evaluation: float
    effect: float
    p: float
    differs: bool


def compare(rows: NDArray[Any]) -> tuple[Comparison, ...]:
    """Compare the images to train on with those to evaluate on; nothing where either part has none.

    Args:
        rows: (N,) of ``fedlmd.data.check.measure.ROW``.
    """
    readable = rows[rows["readable"]]
    train, evaluation = readable[~readable["evaluation"]], readable[readable["evaluation"]]
    if not len(train) or not len(evaluation):
        return ()
    size = int(readable["label"].max()) + 1
    in_train, in_evaluation = (
        np.bincount(part["label"], minlength=size).astype(np.float64) for part in (train, evaluation)
    )
    results = [compared(LABELS, (0.0, 0.0), *chi_square(in_train, in_evaluation))]
    both = (in_train > 0) & (in_evaluation > 0)
    train, evaluation = train[both[train["label"]]], evaluation[both[evaluation["label"]]]
    if not len(train):
        return tuple(results)
    weights = (in_evaluation / np.maximum(in_train, 1))[train["label"]]
    for name in STATISTICS:
        first, second = train[name].astype(np.float64), evaluation[name].astype(np.float64)
        medians = (weighted_median(first, weights), float(np.median(second)))
        results.append(compared(name, medians, *kolmogorov_smirnov(first, weights, second)))
    return tuple(results)


def compared(name: str, medians: tuple[float, float], effect: float, p: float) -> Comparison:
    """The result of one comparison."""
    differs = effect >= SMALLEST and p < LEVEL / (len(STATISTICS) + 1)
    return Comparison(name, *medians, effect, p, differs)


def kolmogorov_smirnov(
    first: Float64[np.ndarray, " n"], weights: Float64[np.ndarray, " n"], second: Float64[np.ndarray, " m"]
) -> tuple[float, float]:
    """D and its asymptotic p-value (Stephens 1970), with weights for the first sample.

    The weighted sample counts as (sum of weights)^2 / sum of squared weights values (Kish). Ties make p larger.
    """
    order = np.argsort(first)
    values = np.concatenate([first, second])
    rising = np.concatenate([[0.0], np.cumsum(weights[order])])
    below = rising[np.searchsorted(first[order], values, side="right")] / rising[-1]
    distance = float(np.abs(below - np.searchsorted(np.sort(second), values, side="right") / len(second)).max())
    size = float(weights.sum() ** 2 / (weights**2).sum())
    effective = math.sqrt(size * len(second) / (size + len(second)))
    scaled = (effective + 0.12 + 0.11 / effective) * distance
    if scaled < 0.2:  # the series below converges slowly there, and p is 1 to twelve digits
        return distance, 1.0
    k = np.arange(1, 101)
    return distance, float(np.clip(2 * ((-1.0) ** (k - 1) * np.exp(-2 * (k * scaled) ** 2)).sum(), 0, 1))


def chi_square(first: Float64[np.ndarray, " k"], second: Float64[np.ndarray, " k"]) -> tuple[float, float]:
    """Total variation distance of the shares of two counts, and the p-value of Pearson's test.

    The tail of the chi-square distribution is that of Wilson and Hilferty (1931).
    """
    counts = np.stack([first, second])[:, first + second > 0]
    sizes, total = counts.sum(axis=1, keepdims=True), counts.sum(axis=0)
    distance = float(np.abs(np.diff(counts / sizes, axis=0)).sum()) / 2
    freedom = len(total) - 1
    if not freedom:
        return distance, 1.0
    expected = sizes * total / total.sum()
    statistic = float(((counts - expected) ** 2 / expected).sum())
    scale = 2 / (9 * freedom)
    return distance, 0.5 * math.erfc(((statistic / freedom) ** (1 / 3) - 1 + scale) / math.sqrt(2 * scale))


def weighted_median(values: Float64[np.ndarray, " n"], weights: Float64[np.ndarray, " n"]) -> float:
    """The smallest value below or at which half of the weight lies."""
    order = np.argsort(values)
    rising = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(rising, rising[-1] / 2)])


def difference_sentence(comparisons: tuple[Comparison, ...]) -> str | None:
    """What is to be said where the parts are clearly different; None where they are not."""
    images = [each for each in comparisons if each.differs and each.name != LABELS]
    shares = next((each for each in comparisons if each.differs and each.name == LABELS), None)
    parts = []
    if images:
        # The largest differences say most.
        worst = sorted(images, key=lambda each: -each.effect)[:3]
        figures = ", ".join(
            f"{each.name} {shown(each, each.evaluation)} against {shown(each, each.train)}" for each in worst
        )
        parts.append(f"its images look otherwise (medians: {figures}): another device, another hand?")
    if shares is not None:
        parts.append(f"{shares.effect:.0%} of its images would need another label for the same shares of labels;")
    if not parts:
        return None
    return (
        f"the evaluation part is drawn otherwise than the training part: {' '.join(parts)} the false-alarm rate is "
        "promised for images like those to train on, and may be off there (docs/calibration.md)"
    )


def shown(comparison: Comparison, value: float) -> str:
    """A median as a reader knows it."""
    if comparison.name == "aspect":
        return f"{2**value:.2f}"
    return f"{value:.0f} pixels" if comparison.name == "side" else f"{value:.2f}"
