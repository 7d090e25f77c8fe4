"""The classifier's largest logit as an OOD score."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor


@final
class MaxLogit:
    """The classifier's largest logit, negated (Vaze et al. 2022; MLS): it is smaller for images unlike the training's.

    Args:
        classifier: images to logits (B, K).
    """

    def __init__(self, classifier: Callable[[Tensor], Tensor]) -> None:
        self.classifier = classifier

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Minus the largest logit."""
        return -self.classifier(images).max(1).values
