"""Small random distortions of training images, within the variation of handwriting."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fedlmd.choices import between


@dataclass(frozen=True)
class AugmentationConfig:
    """Bounds of the affine distortion that each image gets; all 0 leaves images as they are.

    Args:
        turn: degrees, 0 to 45.
        zoom: share of the size by which an image grows or shrinks, in [0, 0.5].
        shear: how far the bottom moves against the top, as a share of the height, in [0, 0.5].
        shift: share of the size by which an image moves along each axis, in [0, 0.5].
    """

    turn: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        between(self, 0, 45, "turn")
        between(self, 0, 0.5, "zoom", "shear", "shift")


def augment(
    images: Float[Tensor, "b c h w"], config: AugmentationConfig, generator: torch.Generator
) -> Float[Tensor, "b c h w"]:
    """Distort each image by its own affine map, all four parts drawn uniformly; the border is repeated."""
    if config == AugmentationConfig():
        return images

    def drawn(most: float) -> Float[Tensor, " b"]:
        return (2 * torch.rand(len(images), generator=generator) - 1) * most

    angle, scale, shear = drawn(math.radians(config.turn)), 1 + drawn(config.zoom), drawn(config.shear)
    # In the map's coordinates the image reaches from -1 to 1, so that a share of its size counts twice.
    x, y = drawn(2 * config.shift), drawn(2 * config.shift)
    rows = [scale * angle.cos(), shear - scale * angle.sin(), x, scale * angle.sin(), scale * angle.cos(), y]
    grid = F.affine_grid(torch.stack(rows, 1).reshape(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
