"""Scores of many images: by every detector, batch by batch, and on one common scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from fedlmd.calibration import CalibrationError, Moments
from fedlmd.detection.detector import Detector


@torch.inference_mode()
def in_batches(
    function: Callable[[Tensor], Tensor], images: Float[Tensor, "n c h w"], batch_size: int = 64
) -> Float[Tensor, "n ..."]:
    """What a function gives for many images, computed batch by batch."""
    return torch.cat([function(batch) for batch in torch.split(images, batch_size)])


def scored(
    detectors: Mapping[str, Detector], images: Float[Tensor, "n c h w"], batch_size: int = 64
) -> dict[str, Float[Tensor, " n"]]:
    """Scores of many images by each detector, batch by batch, on the processor."""
    parts = [
        # All detectors get the same tensor, so that its embedding is computed once.
        {name: detector.score(batch).cpu() for name, detector in detectors.items()}
        for batch in torch.split(images, batch_size)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in detectors}


def moments_of(scores: Float[Tensor, " n"]) -> Moments:
    """The moments of a worker's scores.

    Raises:
        CalibrationError: with fewer than 2 scores, or one that is not finite.
    """
    if len(scores) < 2:
        raise CalibrationError(f"{len(scores)} known images to calibrate with; at least 2 are needed")
    if not torch.isfinite(scores).all():
        raise CalibrationError("a score of a known image is not finite; the weights are broken")
    values = scores.double()
    return Moments(len(values), float(values.mean()), float(values.std(correction=0)))


def fuse(scores: Mapping[str, Float[Tensor, " n"]], scale: Mapping[str, Moments]) -> Float[Tensor, " n"]:
    """Sum of the scores of ``scale``, each in standard deviations from its mean over known images."""
    parts = [(scores[name] - moments.mean) / max(moments.std, 1e-12) for name, moments in scale.items()]
    return torch.stack(parts).sum(0)
