"""Where a worker's images come from, and how pixels are made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from fedlmd.choices import between, one_of
from fedlmd.data.partition import PartitionConfig

Background = Literal["auto", "black", "white"]
Fit = Literal["auto", "pad", "crop", "stretch"]
Announced = Literal["counts", "labels", "nothing"]

AUTO = "auto"

MOST_SHOWN = 20
"""Images that a worker shows at most beside another."""


@dataclass(frozen=True)
class ImagesConfig:
    """How pixels are made of images. All of it is part of a release: the same at every worker and for every prediction.

    "auto" is replaced before training by what the images of all workers suggest; a release holds no "auto".

    Args:
        background: what transparent images are laid over and what fills the bars beside an image that is not square.
        window: the two values that become black and white, in images with more than 8 bits for each channel; "full" for
            the whole range of their type. Images with 8 bits are not changed.
        fit: how an image that is not square becomes one: "pad" with bars, "crop" to the centre, or "stretch".
        invert: whether black and white are exchanged, such as for black ink on white paper.
    """

    background: Background = "auto"
    window: str | tuple[float, ...] = AUTO
    fit: Fit = "auto"
    invert: bool = False

    def __post_init__(self) -> None:
        one_of(self, Background, "background")
        one_of(self, Fit, "fit")
        if isinstance(self.window, str):
            valid = self.window in (AUTO, "full")
        else:
            valid = len(self.window) == 2 and all(map(math.isfinite, self.window)) and self.window[0] < self.window[1]
        if not valid:
            raise ValueError(
                f'window is {self.window!r}; it is "auto", "full" or two rising numbers, such as [0, 4095]'
            )


@dataclass(frozen=True)
class DataConfig:
    """Where a worker's images come from.

    Args:
        source: "mnist", "sign-digits", a folder of images, or an .npz file; see ``fedlmd.data.load``.
        held_back: share of the training images kept from training, to calibrate with; in (0, 0.5].
        evaluation: share of each label that is split off to evaluate on, where a source has no such part; in (0, 0.5].
        strict: whether a source is refused when any of its files would be passed over.
        announce: what a worker lets the server know of its images: the labels with their "counts", the "labels" alone,
            or "nothing".
        nearest: how many of its training images, those nearest to an image that it is asked about, a worker shows with
            an explanation; 0 shows none. They never leave the worker in any other way.
        partition: this worker's share of the source, when several workers divide one.
    """

    source: str = "mnist"
    held_back: float = 0.1
    evaluation: float = 0.2
    strict: bool = False
    announce: Announced = "counts"
    nearest: int = 0
    partition: PartitionConfig = field(default_factory=PartitionConfig)

    def __post_init__(self) -> None:
        between(self, 0, 0.5, "held_back", "evaluation", open_low=True)
        between(self, 0, MOST_SHOWN, "nearest")
        one_of(self, Announced, "announce")
