"""Is the promised false-alarm rate kept on other known images, and are there enough images to promise one?

With n calibration scores and m scores of images that are exchangeable with them, the number K of those that a threshold
calls unknown does not depend on how the scores are distributed: where r - 1 of the n lie above the threshold, K follows
the beta-binomial distribution BetaBin(m, r, n + 1 - r) (Vovk 2012, "Conditional validity of inductive conformal
predictors"; Angelopoulos & Bates 2021, "A gentle introduction to conformal prediction", section 3.2). For a false-alarm
rate alpha, r = floor(alpha (n + 1)). A K in its tails says that the images are drawn otherwise: by another device,
another hand, with another mix of labels, or, of too few alarms, that copies of training images are among them.

Where scores tie, K is stochastically lower. A K that is low by ties alone cannot be distinguished from one that is low
because the images are easier.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64

from fedlmd.calibration.conformal import Reference
from fedlmd.calibration.sketch import Sketch

EVALUATION = "evaluation"
"""The name, beside those of the scores, under which a worker sends the sketch of its evaluation images' verdict."""

LEVEL = 0.001
"""Chance that images drawn as those of the calibration are reported as drawn otherwise, at most."""


@dataclass(frozen=True)
class PromiseCheck:
    """Whether known images that the calibration has not seen are called unknown as often as it promises.

    Args:
        images: how many known images were scored.
        false_alarms: how many of them were called unknown.
        expected: the false-alarm rate that was chosen, alpha.
        low: the lowest share of false alarms that chance allows at ``LEVEL``, in [0, 1].
        high: the highest.
        p: two-sided p-value of the number of false alarms.
        kept: whether the share lies within the range.
    """

    images: int
    false_alarms: int
    expected: float
    low: float
    high: float
    p: float
    kept: bool

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> PromiseCheck:
        """The check that a card or an event holds, beside other entries. Raises KeyError where it is none."""
        return cls(**{name: entry[name] for name in cls.__dataclass_fields__})

    @property
    def rate(self) -> float:
        """Share of the images that were called unknown."""
        return self.false_alarms / self.images

    @property
    def sentence(self) -> str:
        """The result for a person to read."""
        promised = f"{self.low:.1%} to {self.high:.1%}"
        counted = f"false alarms on evaluation images: {self.rate:.1%} of {self.images}"
        if self.kept:
            return f"{counted}, as promised (alpha {percent(self.expected)} allows {promised})"
        cause = "are drawn otherwise than those that the release was calibrated on (another device, another hand?)"
        if self.rate < self.low:
            cause = (
                "are easier than those that the release was calibrated on (no hard cases, or copies of training "
                "images?), so that its threshold may pass more unknown images than it should"
            )
        return (
            f"{counted}, where alpha {percent(self.expected)} promises {promised}: the evaluation images {cause}; "
            "calibrate on images like those that it will meet"
        )


def percent(share: float) -> str:
    """A share as a percentage without needless digits."""
    return f"{100 * share:.3g}%"


def check_scores(reference: Reference, alpha: float, scores: Float[np.ndarray, " m"]) -> PromiseCheck:
    """Check the promise with scores of known images that were not calibrated with.

    Args:
        reference: what the scores are compared with.
        alpha: the false-alarm rate that was chosen, in (0, 1).
        scores: of one image or more.
    """
    alarms = int((np.asarray(scores, dtype=np.float64) > reference.threshold(alpha)).sum())
    return check_alarms(reference, alpha, len(scores), alarms, alarms)


def check_sketches(reference: Reference, alpha: float, sketches: Sequence[Sketch]) -> PromiseCheck:
    """Check the promise with sketches of such scores, each of another worker's images.

    Where the sketches leave the number of false alarms open, it is the one that agrees best with the promise.
    """
    threshold = reference.threshold(alpha)
    fewest = sum(sketch.beyond(threshold) for sketch in sketches)
    most = sum(int(sketch.above(np.asarray([threshold], dtype=np.float64))[0]) for sketch in sketches)
    return check_alarms(reference, alpha, sum(sketch.count for sketch in sketches), fewest, most)


def check_alarms(reference: Reference, alpha: float, images: int, fewest: int, most: int) -> PromiseCheck:
    """Check the promise with a number of false alarms that is known to lie between two numbers.

    Raises:
        ValueError: when there are no images.
    """
    if images < 1:
        raise ValueError("the promise is checked on one image or more; there are none")
    p_values = two_sided(alarm_chances(alarm_rank(reference, alpha), reference.count, images))
    alarms = fewest + int(p_values[fewest : most + 1].argmax())
    allowed = np.flatnonzero(p_values >= LEVEL)
    p = float(p_values[alarms])
    low, high = float(allowed[0]) / images, float(allowed[-1]) / images
    return PromiseCheck(images, alarms, alpha, low, high, p, bool(p >= LEVEL))


def alarm_rank(reference: Reference, alpha: float) -> float:
    """1 + the number of calibration images above the threshold: floor(alpha (n + 1)) of n different scores.

    0 where the threshold is infinite. A sketch of few images has a coarser threshold, which this accounts for.
    """
    threshold = reference.threshold(alpha)
    if threshold == math.inf:
        return 0.0
    return round(reference.p_value(math.nextafter(threshold, math.inf)) * (reference.count + 1), 6)


def alarm_chances(rank: float, count: int, images: int) -> Float64[np.ndarray, " k"]:
    """The chance of each number of false alarms from 0 to ``images``: BetaBin(images, rank, count + 1 - rank).

    Args:
        rank: 1 + the number of calibration images above the threshold; 0 where there is no threshold.
        count: of calibration images.
        images: that are scored.
    """
    k, other = np.arange(images), count + 1 - rank
    if rank <= 0:
        return np.concatenate([[1.0], np.zeros(images)])
    # Each chance is the one before it times this quotient.
    steps = np.log((images - k) * (k + rank) / ((k + 1) * (images - k - 1 + other)))
    first = log_beta(rank, images + other) - log_beta(rank, other)
    chances: np.ndarray = np.exp(np.concatenate([[first], first + steps.cumsum()]))
    return chances


def log_beta(a: float, b: float) -> float:
    """The logarithm of the beta function."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def two_sided(chances: Float64[np.ndarray, " k"]) -> Float64[np.ndarray, " k"]:
    """The two-sided p-value of each number: twice the chance of it or one further out on its side, 1 at most."""
    upto, from_on = chances.cumsum(), chances[::-1].cumsum()[::-1]
    p_values: np.ndarray = np.minimum(2 * np.minimum(upto, from_on), 1)
    return p_values


def needed(alpha: float) -> int:
    """How many calibration images a false-alarm rate needs: with fewer no p-value is as low as that.

    ceil(1 / alpha) - 1, compared as ``Reference.threshold`` compares, so that rounding makes no difference.

    Args:
        alpha: in (0, 1).
    """
    most = math.ceil(1 / alpha)
    return next((count for count in range(max(1, most - 2), most) if 1 / (1 + count) <= alpha), most)


def too_few(count: int, alpha: float, *, images: int | None = None, held_back: float | None = None) -> str | None:
    """Why so many calibration images are too few for a false-alarm rate, and how to mend it; None where they suffice.

    Args:
        count: of calibration images, over all workers.
        alpha: in (0, 1).
        images: at most so many are scored at each worker; None for no such limit.
        held_back: the share of the training images that they are, where that is the same for all.
    """
    least = needed(alpha)
    if count >= least:
        return None
    limited = images is not None and count >= images
    scored = f" (at most {images} at each worker, as calibration.images says)" if limited else ""
    share = "data.held_back" if held_back is None else f"data.held_back (now {held_back:g})"
    # Rounded up: the alpha that is advised must suffice.
    rate = f", or take an alpha of {math.ceil(1000 / (1 + count)) / 1000:g} or more" if count else ""
    return (
        f"there are {count} images to calibrate with{scored}, and a calibration.alpha of {alpha:g} needs {least}: with "
        f"fewer no image could ever be called unknown; add training images or raise {share}, the share of them that is "
        f"kept for calibration{rate}"
    )
