"""A verdict in two stages: LMD is computed only where a cheap first score is uncertain, until its error is small."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fedlmd.calibration import Moments, Reference
from fedlmd.detection import LMD, Detector


@dataclass(frozen=True)
class TwoStageConfig:
    """Which images go to the second stage, and how long it is.

    Args:
        p_unknown: up to this p-value of the first score an image is out-of-distribution without the second stage.
        p_known: above this p-value it is known without it.
        tolerance: no more reconstructions are drawn once the standard error of their mean distance is below so many
            in-domain standard deviations of LMD's score.
        at_once: reconstructions drawn before that error is computed again; of an alternating mask, two cover an image.
    """

    p_unknown: float = 0.01
    p_known: float = 0.3
    tolerance: float = 0.5
    at_once: int = 2

    def __post_init__(self) -> None:
        """Refuse values out of range, with the range."""
        if not 0 < self.p_unknown < self.p_known < 1:
            raise ValueError(f"p_unknown is {self.p_unknown}, p_known {self.p_known}; they rise between 0 and 1")
        if not self.tolerance >= 0 or self.at_once < 1:
            raise ValueError(f"tolerance is {self.tolerance}, at_once {self.at_once}; at least 0 and 1 are needed")


class TwoStageScores(NamedTuple):
    """Scores, and how many reconstructions each image took: 0 of one that the first stage decided."""

    scores: Float[Tensor, " b"]
    drawn: Int[Tensor, " b"]


@final
class TwoStage:
    """A first score, to which LMD's is added where the first is uncertain.

    What is added moves an image within the uncertain band only: the sum is compressed into it, x / (1 + |x|) of its
    half width, so that uncertain images are ordered by the sum, and none of them passes a certain one.

    Args:
        first: the first score, in in-domain standard deviations or a sum of such.
        reference: what it is compared with; its p-values decide which images are uncertain.
        lmd: the second stage.
        scale: in-domain moments of LMD's score.
        config: the settings.

    Raises:
        ValueError: when the reference is of too few images for the p-values that bound the band.
    """

    def __init__(
        self, first: Detector, reference: Reference, lmd: LMD, scale: Moments, config: TwoStageConfig | None = None
    ) -> None:
        self.first, self.lmd, self.scale = first, lmd, scale
        self.config = config or TwoStageConfig()
        self.low, self.high = (reference.threshold(rate) for rate in (self.config.p_known, self.config.p_unknown))
        if not self.low < self.high < math.inf:
            raise ValueError(
                f"{reference.count} in-domain images leave no band of p-values between {self.config.p_unknown} and "
                f"{self.config.p_known}; calibrate with more"
            )

    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """The scores alone."""
        return self.both_stages(images).scores

    @torch.inference_mode()
    def both_stages(self, images: Float[Tensor, "b c h w"]) -> TwoStageScores:
        """Scores, and how many reconstructions each took."""
        scores = self.first.score(images).cpu()
        drawn = torch.zeros(len(scores), dtype=torch.int64)
        places = torch.nonzero(self.uncertain(scores)).flatten()
        if len(places):
            distances = self.distances(images[places.to(images.device)])
            second = (distances.nanquantile(0.5, dim=0) - self.scale.mean) / max(self.scale.std, 1e-12)
            scores = scores.index_copy(0, places, self.compressed(scores[places] + second))
            drawn[places] = distances.isfinite().sum(0)
        return TwoStageScores(scores, drawn)

    def uncertain(self, scores: Float[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """Which first scores have p-values above ``p_unknown`` and at most ``p_known``."""
        values = scores.double()
        return (values > self.low) & (values <= self.high)

    def compressed(self, scores: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Scores within the uncertain band, in the order of those that are given."""
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        away = (scores.double() - middle) / half
        return (middle + half * away / (1 + away.abs())).to(scores.dtype)

    def distances(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "r b"]:
        """Distance of each reconstruction; not a number where an image needed no more of them."""
        most, at_once = self.lmd.config.reconstructions, self.config.at_once
        distances = torch.full((most, len(images)), math.nan)
        left = torch.arange(len(images))
        for start in range(0, most, at_once):
            which, batch = range(start, min(start + at_once, most)), images[left.to(images.device)]
            distances[start : which.stop, left] = self.lmd.distances(batch, self.lmd.reconstruct(batch, which)).cpu()
            so_far = distances[: which.stop, left]
            # A single one has no standard error.
            error = so_far.std(0) / math.sqrt(len(so_far)) if len(so_far) > 1 else so_far[0] * math.inf
            left = left[error >= self.config.tolerance * self.scale.std]
            if not len(left):
                break
        return distances
