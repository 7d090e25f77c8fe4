"""How thresholds are set."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedlmd.calibration.conformal import ComparedImages
from fedlmd.choices import between


@dataclass(frozen=True)
class CalibrationConfig:
    """How the threshold is set.

    Args:
        alpha: share of known images that may be called unknown, in (0, 1).
        images: at most so many held-back images are scored at each worker.
        described: at most so many training images of each worker are used for the Gaussians of the embeddings.
        sites: whose images a worker compares new ones with: "pooled" (those of all workers alike), "own", or "shrunk"
            (its own, and those of all others together as ten more); see ``fedlmd.calibration.reference``.
        alpha_uncertain: an image that is not unknown is called known only when its p-value exceeds this, in (0, 1).
    """

    alpha: float = 0.05
    images: int = 500
    described: int = 8000
    sites: ComparedImages = "shrunk"
    alpha_uncertain: float = 0.2

    def __post_init__(self) -> None:
        between(self, 0, 1, "alpha", "alpha_uncertain", open_low=True, open_high=True)
        between(self, 2, math.inf, "images")
        between(self, 1, math.inf, "described")
