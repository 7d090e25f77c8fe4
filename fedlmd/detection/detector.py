"""The contract of all detectors."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Detector(Protocol):
    """Gives OOD scores."""

    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Scores of images in [-1, 1], higher for unknown ones. The same image always gets the same score."""
