"""The one contract of all detectors, and the simplest of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Detector", "MaxLogit", "in_batches", "scored"]


@runtime_checkable
class Detector(Protocol):
    """Tells how strange images are."""

    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Scores of images in [-1, 1]; higher is stranger. The same image always gets the same score."""
        ...


@final
class MaxLogit:
    """The classifier's largest logit, negated (Vaze et al. 2022; MLS): it shrinks on images unlike the training's.

    Args:
        classifier: images to logits (B, K).
    """

    def __init__(self, classifier: Callable[[Tensor], Tensor]) -> None:
        self.classifier = classifier

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Minus the largest logit."""
        return -self.classifier(images).max(1).values


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
        # All detectors see the very same batch, so that what they share is computed once.
        {name: detector.score(batch).cpu() for name, detector in detectors.items()}
        for batch in torch.split(images, batch_size)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in detectors}
