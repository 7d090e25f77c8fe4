"""The energy of the classifier's logits as an OOD score."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor


@final
class Energy:
    """Minus the log of the summed exponentials of the logits (Liu et al. 2020, eq. 4, at temperature 1).

    Args:
        classifier: images to logits (B, K).
    """

    def __init__(self, classifier: Callable[[Tensor], Tensor]) -> None:
        self.classifier = classifier

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """The energy."""
        return -self.classifier(images).logsumexp(1)
