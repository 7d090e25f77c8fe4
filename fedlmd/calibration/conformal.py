"""Whose images a new one is compared with: all workers', one worker's, or one worker's and a few of the others'."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Float, Float64

from fedlmd.calibration.moments import CalibrationError
from fedlmd.calibration.sketch import Sketch

ComparedImages = Literal["pooled", "own", "shrunk"]
"""Whose images a worker compares new ones with."""

Verdict = Literal["known", "unknown", "uncertain"]

KAPPA = 10.0
"""How many images the other workers together count for.

Few, so that a worker whose images differ from the others' keeps nearly its own false-alarm rate.
"""


@final
@dataclass(frozen=True, eq=False)
class Reference:
    """What a new score is compared with, as steps: the sketches of one or several workers, each image with a weight.

    The p-value of a score is (1 + weight of the images that score no lower) / (1 + weight of all images): with equal
    weights split conformal prediction, with other fixed weights of at most 1 that of Barber et al. 2023 ("Conformal
    prediction beyond exchangeability", section 4.1), which keeps alpha where all workers are alike.

    Args:
        points: scores, rising.
        tails: p-value of the scores right above each point, falling.
        count: the weights of all images added up, rounded down.
    """

    points: Float64[np.ndarray, " k"]
    tails: Float64[np.ndarray, " k"]
    count: int

    @classmethod
    def of(cls, parts: Sequence[tuple[Sketch, float]]) -> Reference:
        """The reference of sketches, each with the weight of one of its images."""
        points = np.unique(np.concatenate([sketch.points for sketch, _ in parts]))
        above = np.sum([weight * sketch.above(points) for sketch, weight in parts], axis=0)
        total = sum(weight * sketch.count for sketch, weight in parts)
        return cls(points, (1 + above) / (1 + total), int(total))

    @classmethod
    def of_sketch(cls, sketch: Sketch) -> Reference:
        """The reference of a single sketch, each of its images counting once."""
        return cls.of([(sketch, 1.0)])

    def threshold(self, alpha: float) -> float:
        """The score above which the p-value is at most ``alpha``; infinite where there are too few images for that.

        Raises:
            CalibrationError: when alpha is out of (0, 1).
        """
        if not 0 < alpha < 1:
            raise CalibrationError(f"the false-alarm rate is {alpha}; it lies strictly between 0 and 1")
        first = np.flatnonzero(self.tails <= alpha)
        return float(self.points[first[0]]) if len(first) else math.inf

    def p_value(self, score: float) -> float:
        """The p-value of a score, in (0, 1]: at most alpha exactly where the score exceeds ``threshold(alpha)``."""
        return float(self.p_values(np.asarray(score, dtype=np.float64)))

    def p_values(self, scores: Float[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
        """The p-values of many scores, in their shape, by the same steps as ``threshold``."""
        below = np.searchsorted(self.points, scores, side="left")
        return np.asarray(np.concatenate([[1.0], self.tails])[below])


def reference(
    sketches: Mapping[str, Sketch], worker: str | None, how: ComparedImages = "shrunk", kappa: float = KAPPA
) -> Reference:
    """What new images at a worker are compared with.

    A worker has its own mix of labels and its own camera. New images there are exchangeable with its own held-back
    images, and with the others' only where all workers are alike:

    - ``"own"``: its own images. False alarms at the worker: at most alpha, whatever the others hold. A worker with
      fewer than 1 / alpha - 1 images calls nothing unknown.
    - ``"pooled"``: all images alike. At most alpha for images that are mixed from all workers in proportion to their
      counts (Lu et al. 2023, "Federated conformal predictors", have this and its weighted form); no bound for a single
      worker.
    - ``"shrunk"``: F = (n F_own + kappa F_others) / (n + kappa), as each of the worker's n images counts for 1 and all
      the others' together for kappa (Shahid 2026, arXiv 2606.20115, shrinks risk curves so). At most alpha where all
      workers are alike. And whatever the others hold, at most alpha (1 + kappa / (n + 1)): the p-value is never smaller
      than that of the worker's images divided by this factor, which is 1.05 with 200 images and kappa = 10.

    Args:
        sketches: of one score, by the worker's name.
        worker: its name; for None, or one without a sketch, all images count alike.
        how: whose images are taken.
        kappa: how many images the others together count for, 0 or more; each counts for 1 at most.
    """
    if worker is None or worker not in sketches or how == "pooled":
        return Reference.of([(sketch, 1.0) for sketch in sketches.values()])
    others = [sketch for name, sketch in sketches.items() if name != worker] if how == "shrunk" else []
    weight = min(1.0, kappa / max(sum(sketch.count for sketch in others), 1))
    return Reference.of([(sketches[worker], 1.0), *((sketch, weight) for sketch in others)])


def decide(p_value: float, alpha: float, alpha_uncertain: float, plausible: int) -> Verdict:
    """The verdict on an image.

    - ``"unknown"``: p-value <= alpha. Of known images at most a share alpha is called unknown.
    - ``"known"``: p-value > ``alpha_uncertain`` (and alpha), and exactly one label is plausible. Of known images at
      most a share alpha is called known under a wrong label, and about ``alpha_uncertain`` are not called known. The
      share of unknown images that are called known has no such bound; it is measured (``python -m benchmarks
      verdict``).
    - ``"uncertain"``: all else; a person should look.

    Args:
        p_value: of the image's score.
        alpha: the false-alarm rate.
        alpha_uncertain: up to this p-value an image is not called known.
        plausible: how many labels are in the image's conformal label set, which misses the true one for at most a
            share alpha of known images.
    """
    if p_value <= alpha:
        return "unknown"
    return "known" if p_value > alpha_uncertain and plausible == 1 else "uncertain"
