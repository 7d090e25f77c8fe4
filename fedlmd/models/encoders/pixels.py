"""Encoders without weights: the images themselves, and the choice that a run has not made yet."""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor

from fedlmd.models.encoders.encoder import Encoder, EncoderError, EncoderSource


@final
class Pixels:
    """The identity: the maps of an image are its colours."""

    digest = ""

    def __call__(self, images: Float[Tensor, "b c s s"]) -> Float[Tensor, "b c s s"]:
        """The images themselves."""
        return images


def pixels(source: EncoderSource) -> Encoder:  # noqa: ARG001 - as all builders
    """The identity."""
    return Pixels()


def undecided(source: EncoderSource) -> Encoder:  # noqa: ARG001 - as all builders
    """Refuse to build the encoder "auto". Raises EncoderError."""
    raise EncoderError(
        "the encoder 'auto' is decided by a run's images; resolve the run's settings before it is loaded"
    )
