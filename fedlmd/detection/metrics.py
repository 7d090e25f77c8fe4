"""How well scores separate unknown images from known ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Separation:
    """Threshold-free figures of a detector, unknown images being the positives.

    Args:
        auroc: chance that an unknown image scores above a known one, ties counting half; in [0, 1].
        aupr: average precision (area under precision against recall); in [0, 1].
        fpr95: share of known images that are flagged when 95% of the unknown ones are; in [0, 1].
    """

    auroc: float
    aupr: float
    fpr95: float


def separation(known: Float[Tensor, " n"], unknown: Float[Tensor, " m"]) -> Separation:
    """Evaluate the scores of known and unknown images; the unknown ones should score higher.

    Raises:
        ValueError: when one side is empty or a score is not finite.
    """
    negatives, positives = known.double().numpy(), unknown.double().numpy()
    if not len(negatives) or not len(positives):
        raise ValueError("known and unknown scores are both needed; one of them is empty")
    if not (np.isfinite(negatives).all() and np.isfinite(positives).all()):
        raise ValueError("a score is not finite; the detector or its weights are broken")
    scores = np.concatenate([negatives, positives])
    # One point per distinct score, strictest threshold first: ties are flagged together.
    thresholds, index = np.unique(-scores, return_inverse=True)
    is_unknown = np.arange(len(scores)) >= len(negatives)
    true = np.bincount(index, weights=is_unknown, minlength=len(thresholds)).cumsum()
    false = np.bincount(index, weights=~is_unknown, minlength=len(thresholds)).cumsum()
    recall, fall_out = true / len(positives), false / len(negatives)
    auroc = np.trapezoid(np.r_[0, true], np.r_[0, false]) / (len(positives) * len(negatives))
    aupr = np.sum(np.diff(np.r_[0, recall]) * true / (true + false))
    fpr95 = fall_out[np.argmax(recall >= 0.95)]
    return Separation(float(auroc), float(aupr), float(fpr95))
