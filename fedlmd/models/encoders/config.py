"""Which encoder a run has."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from fedlmd.choices import between
from fedlmd.models.encoders.files import check_name
from fedlmd.models.encoders.registry import ENCODERS

FROM_FILES = ("torchscript", "onnx", "timm", "transformers")
"""Encoders whose weights are the user's own."""

COMPLETE = ("auto", "pixels", "efficientnet-lite0")
"""Encoders that take no file."""

MODEL = re.compile(r"[\w.-]+", re.ASCII)
"""A name of timm; those with a colon would be downloaded."""

DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class EncoderConfig:
    """What turns images into the maps that both networks work on.

    Args:
        name: "auto", decided by the images; "pixels", the images themselves; "efficientnet-lite0"; "torchscript",
            "onnx", "timm" or "transformers" with weights of the user's own; or a name of an installed package.
        model: name of timm's model, such as "resnet18".
        weights: name of a file (of a folder for transformers) inside the folder of encoders.
        layers: numbers of the layers whose maps are concatenated, ascending; empty for the encoder's default.
        channels: of the maps after whitening; 0 for the encoder's default.
        digest: SHA-256 of the weights; empty until a run begins.
        features: channels of the maps before whitening; 0 until a run begins.
        leading: so many of the first features are whitened, the descriptor has all; 0 for all, -1 for the encoder's
            default.
        side: height and width of the maps; 0 until a run begins.
        thumbnail: height and width of a small copy of the image that the classifier gets beside the maps, in pixels, a
            multiple of ``side``; 0 for none, -1 for the encoder's default.

    Raises:
        ValueError: naming the field and what is allowed.
    """

    name: str = "auto"
    model: str = ""
    weights: str = ""
    layers: tuple[int, ...] = ()
    channels: int = 0
    digest: str = ""
    features: int = 0
    leading: int = -1
    side: int = 0
    thumbnail: int = -1

    def __post_init__(self) -> None:
        ENCODERS.check(self.name)
        between(self, 0, math.inf, "channels", "features", "side")
        between(self, -1, math.inf, "leading", "thumbnail")
        if self.side and self.thumbnail > 0 and self.thumbnail % self.side:
            raise ValueError(f"thumbnail is {self.thumbnail}; it is a multiple of {self.side}, the side of the maps")
        if self.side and not self.channels:
            raise ValueError("channels is 0; where the side of the maps is known it is 1 or more")
        check_name(self.weights)
        if self.name in FROM_FILES and not self.weights:
            raise ValueError(f"weights is empty; the encoder {self.name!r} needs a file of the folder of encoders")
        if self.name in COMPLETE and self.weights:
            raise ValueError(f"weights is {self.weights!r}; the encoder {self.name!r} takes none, leave it empty")
        if self.name == "timm" and not MODEL.fullmatch(self.model):
            raise ValueError(f"model is {self.model!r}; the encoder 'timm' needs a name such as 'resnet18'")
        if self.name in (*FROM_FILES, *COMPLETE) and self.name != "timm" and self.model:
            raise ValueError(f"model is {self.model!r}; the encoder {self.name!r} takes none, leave it empty")
        if min(self.layers, default=0) < 0 or list(self.layers) != sorted(set(self.layers)):
            raise ValueError(f"layers is {self.layers}; they are numbers from 0 on, each once, in ascending order")
        if self.digest and not DIGEST.fullmatch(self.digest):
            raise ValueError(f"digest is {self.digest!r}; it is empty or a SHA-256 of 64 hexadecimal digits")

    @property
    def thumbnail_channels(self) -> int:
        """Channels that hold the thumbnail of an RGB image, each cell its square of pixels; 0 where there is none."""
        return 3 * (self.thumbnail // self.side) ** 2 if self.side and self.thumbnail > 0 else 0
