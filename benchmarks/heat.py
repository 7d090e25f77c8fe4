"""Whether a heat-map shows what is wrong: a patch of another image is pasted in, and heat should lie on it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fedlmd.inference import Predictor
from fedlmd.progress import Progress

# A patch is drawn so many times at most until it differs enough.
DRAWS = 1000


@dataclass(frozen=True)
class HeatConfig:
    """How patches are pasted.

    Args:
        side: of the square patch, as a share of the image's side, in (0, 1); 10 of 28 pixels.
        difference: mean squared difference in the patch, at least, between what it hides and what it shows, of 4 at
            most: a patch that changes nothing cannot be detected.
        seed: of places and donors.
    """

    side: float = 10 / 28
    difference: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range, with the range."""
        if not 0 < self.side < 1:
            raise ValueError(f"side is {self.side}; it lies strictly between 0 and 1")
        if not 0 <= self.difference < 4:
            raise ValueError(f"difference is {self.difference}; it lies in [0, 4)")


@dataclass(frozen=True)
class Pasted:
    """Images with a patch of another one.

    Args:
        images: (N, C, H, W) in [-1, 1].
        places: row and column of each patch's upper left corner.
        side: of a patch, in pixels.
    """

    images: Float[Tensor, "n c h w"]
    places: list[tuple[int, int]]
    side: int


@dataclass(frozen=True)
class PatchHeat:
    """How much of each image's heat lies in the patch, as a multiple of the patch's share of the area.

    Args:
        pasted: of the images with a patch.
        before: in the same places of the same images without it: strokes in the middle of an image are hot anyway.
    """

    pasted: Float[Tensor, " n"]
    before: Float[Tensor, " n"]

    @property
    def figures(self) -> dict[str, float]:
        """Means over the images, and the share of images with at least twice as much heat as chance has."""
        return {
            "heat_in_patch_over_chance": float(self.pasted.mean()),
            "heat_before_over_chance": float(self.before.mean()),
            "images_twice_over_chance": float((self.pasted >= 2).float().mean()),
        }


def heat_in_patches(
    predictor: Predictor, images: Float[Tensor, "n c h w"], config: HeatConfig | None = None
) -> Generator[Progress, None, PatchHeat]:
    """Measure a release's heat-maps.

    Args:
        predictor: of the release.
        images: in-domain images that it was not trained on, in [-1, 1]; their order counts.
        config: how patches are pasted.

    Raises:
        ValueError: when the images are too much alike, or fewer than two.
    """
    pasted = paste(images, config or HeatConfig())
    shares: tuple[list[float], list[float]] = ([], [])
    for number, place in enumerate(pasted.places):
        for batch, values in zip((pasted.images, images), shares, strict=True):
            values.append(over_chance(predictor.explain(batch[number : number + 1]).heat, place, pasted.side))
        yield Progress("heat", number + 1, len(images))
    return PatchHeat(torch.tensor(shares[0]), torch.tensor(shares[1]))


def paste(images: Float[Tensor, "n c h w"], config: HeatConfig) -> Pasted:
    """Paste into each image a patch that another of the images has in the same place.

    Raises:
        ValueError: when the images are too much alike, or fewer than two.
    """
    if len(images) < 2:
        raise ValueError("a patch comes from another image; give two images or more")
    side = max(1, round(config.side * min(images.shape[2:])))
    generator = torch.Generator().manual_seed(config.seed)
    places, pasted = [], images.clone()
    for number in range(len(images)):
        donor, (y, x) = different_patch(images, number, side, config.difference, generator)
        pasted[number, :, y : y + side, x : x + side] = donor
        places.append((y, x))
    return Pasted(pasted, places, side)


def different_patch(
    images: Float[Tensor, "n c h w"], number: int, side: int, difference: float, generator: torch.Generator
) -> tuple[Float[Tensor, "c side side"], tuple[int, int]]:
    """A patch of any other image, and its place, that differs enough from what an image has there."""
    count, _, height, width = images.shape
    for _ in range(DRAWS):
        donor = (number + int(torch.randint(1, count, (), generator=generator))) % count
        y = int(torch.randint(height - side + 1, (), generator=generator))
        x = int(torch.randint(width - side + 1, (), generator=generator))
        hidden, shown = (images[each, :, y : y + side, x : x + side] for each in (number, donor))
        if float((hidden - shown).square().mean()) >= difference:
            return shown, (y, x)
    raise ValueError(f"in {DRAWS} draws no patch differed by {difference} from image {number}; give other images")


def over_chance(heat: Float[Tensor, "h w"], place: tuple[int, int], side: int) -> float:
    """The share of an image's heat in a square, over the square's share of the area; 0 where there is no heat."""
    y, x = place
    inside, whole = float(heat[y : y + side, x : x + side].sum()), float(heat.sum())
    return inside / whole * heat.numel() / side**2 if whole > 0 else 0.0
