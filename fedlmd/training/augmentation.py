"""Small random distortions of training images or latents, within the variation of handwriting and photographs."""

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
    """Bounds of the distortion that each image gets; all 0 leaves images as they are.

    Half of the images are mirrored, then the affine map follows, then noise.

    Args:
        turn: degrees, 0 to 45.
        zoom: share of the size by which an image grows or shrinks, in [0, 0.5].
        shear: how far the bottom moves against the top, as a share of the height, in [0, 0.5].
        shift: share of the size by which an image moves along each axis, in [0, 0.5].
        mirror: whether half of the images are mirrored, left to right.
        noise: largest standard deviation of added Gaussian noise, in [0, 2]; each image draws its own below it. The
            standard deviation of latents is 1.
    """

    turn: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    mirror: bool = False
    noise: float = 0.0

    def __post_init__(self) -> None:
        between(self, 0, 45, "turn")
        between(self, 0, 0.5, "zoom", "shear", "shift")
        between(self, 0, 2, "noise")

    @property
    def is_affine(self) -> bool:
        """Whether images are moved, turned or scaled."""
        return any((self.turn, self.zoom, self.shear, self.shift))


def augment(
    images: Float[Tensor, "b c h w"], config: AugmentationConfig, generator: torch.Generator
) -> Float[Tensor, "b c h w"]:
    """Distort each image in its own way."""
    if config.mirror:
        mirrored = torch.rand(len(images), generator=generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    if config.is_affine:
        images = moved(images, config, generator)
    if config.noise:
        amount = config.noise * torch.rand(len(images), 1, 1, 1, generator=generator)
        images = images + amount * torch.randn(images.shape, generator=generator)
    return images


def moved(
    images: Float[Tensor, "b c h w"], config: AugmentationConfig, generator: torch.Generator
) -> Float[Tensor, "b c h w"]:
    """Distort each image by its own affine map, all four parts drawn uniformly; the border is repeated."""

    def drawn(most: float) -> Float[Tensor, " b"]:
        return (2 * torch.rand(len(images), generator=generator) - 1) * most

    angle, scale, shear = drawn(math.radians(config.turn)), 1 + drawn(config.zoom), drawn(config.shear)
    # In the map's coordinates the image reaches from -1 to 1, so that a share of its size counts twice.
    x, y = drawn(2 * config.shift), drawn(2 * config.shift)
    rows = [scale * angle.cos(), shear - scale * angle.sin(), x, scale * angle.sin(), scale * angle.cos(), y]
    grid = F.affine_grid(torch.stack(rows, 1).reshape(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
