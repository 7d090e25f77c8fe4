"""What images look like, in numbers: from which the rules for pixels are chosen where a run leaves them open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from PIL import Image, ImageStat

from fedlmd.data.formats import Decoded, Raw, open_image
from fedlmd.data.images import DataError
from fedlmd.data.pixel_rules import full_window, has_colour, refuse_infinite, windowed

LIGHT = 160
"""Grey level from which a border is called light."""

FARTHEST = 1e15
"""Values of images are looked at up to this distance from 0, far beyond whole numbers of 32 bits."""


@dataclass(frozen=True)
class Facts:
    """What a sample of images looks like. Numbers only; a worker sends them to the server.

    Args:
        images: how many were looked at.
        side: median of their shorter sides, in pixels.
        oblong: share of images that are not square.
        colour: share of images in colour.
        transparent: share of images with transparent parts.
        dark_ink: share of images with transparent parts whose visible parts are dark.
        light: share of images whose border is light.
        plain: share of images that are not square whose border has one colour.
        deep: share of images with more than 8 bits for each channel.
        low: lowest value of those.
        high: highest value of those.

    Raises:
        DataError: a value is out of its range.
    """

    images: int = 0
    side: float = 28.0
    oblong: float = 0.0
    colour: float = 0.0
    transparent: float = 0.0
    dark_ink: float = 0.0
    light: float = 0.0
    plain: float = 0.0
    deep: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def __post_init__(self) -> None:
        shares = ("oblong", "colour", "transparent", "dark_ink", "light", "plain", "deep")
        if any(not 0 <= getattr(self, name) <= 1 for name in shares) or not 0 <= self.images <= 10**9:
            raise DataError("shares of images lie in [0, 1], and their number in [0, 1e9]")
        if not 1 <= self.side <= 100_000 or not -FARTHEST <= self.low <= self.high <= FARTHEST:
            raise DataError(f"sides of images lie in [1, 100,000] and their values in [-{FARTHEST:g}, {FARTHEST:g}]")

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> Facts:
        """Facts from a message. Raises DataError."""
        names = {field.name for field in fields(cls)}
        # JSON from a worker can hold NaN, and whole numbers that no float can hold: int() and float() would raise.
        finite = all(isinstance(value, int | float) and abs(value) <= FARTHEST for value in entries.values())
        if not entries.keys() <= names or not finite:
            raise DataError(f"the facts of a worker's images are not finite numbers named {', '.join(sorted(names))}")
        values: dict[str, Any] = {name: float(value) for name, value in entries.items()}
        return cls(**values | {"images": int(entries.get("images", 0))})

    def to_json(self) -> dict[str, Any]:
        """The facts as JSON has them."""
        return asdict(self)


@dataclass(frozen=True)
class Look(Facts):
    """What one image looks like: the same words for it alone, each share 0 or 1.

    Args:
        mode: Pillow's name of its mode, or its type where it has more than 8 bits.
        size: width and height, in pixels.
        blank: whether it has one colour.
    """

    mode: str = "L"
    size: tuple[int, int] = (28, 28)
    blank: bool = False


def look(raw: Raw) -> Look:
    """What one image looks like. Raises ImageError as ``convert`` does."""
    image = open_image(raw)
    deep = isinstance(image, np.ndarray)
    low, high = value_range(image)
    picture = eight_bits(image, low, high)
    transparent = picture.has_transparency_data
    dark = transparent and dark_ink(picture)
    page = Image.new("RGBA", picture.size, (255,) * 4 if dark else (0, 0, 0, 255))
    flat = Image.alpha_composite(page, picture.convert("RGBA")) if transparent else picture
    grey = flat.convert("L")
    levels = np.asarray(grey)
    border = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]]).astype(np.int16)
    middle = np.median(border)
    return Look(
        images=1,
        side=float(min(picture.size)),
        oblong=float(picture.width != picture.height),
        colour=float(has_colour(flat)),
        transparent=float(transparent),
        dark_ink=float(dark),
        light=float(middle > LIGHT),
        plain=float(np.mean(np.abs(border - middle) <= 8) > 0.9),
        deep=float(deep),
        low=float(np.clip(low, -FARTHEST, FARTHEST)),
        high=float(np.clip(high, -FARTHEST, FARTHEST)),
        mode=str(image.dtype) if isinstance(image, np.ndarray) else image.mode,
        size=picture.size,
        blank=ImageStat.Stat(grey).stddev[0] < 2.0,
    )


def value_range(image: Decoded) -> tuple[float, float]:
    """Lowest and highest value of a deep image; 0 and 255 of every other.

    Raises:
        ImageError: a value is not a finite number.
    """
    if not isinstance(image, np.ndarray):
        return 0.0, 255.0
    refuse_infinite(image)
    return float(image.min()), float(image.max())


def eight_bits(image: Decoded, low: float, high: float) -> Image.Image:
    """An image with 8 bits for each channel, from its own lowest value to its highest; for looking at it alone."""
    if not isinstance(image, np.ndarray):
        return image
    window = (low, high) if low < high else full_window(image)
    return Image.fromarray(windowed(image, window)[0])


def dark_ink(picture: Image.Image) -> bool:
    """Whether the visible parts of a transparent image are dark."""
    image = picture.convert("RGBA")
    weight = np.asarray(image.getchannel("A"), dtype=np.float64)
    return bool((np.asarray(image.convert("L")) * weight).sum() < 127.5 * max(weight.sum(), 1.0))


def facts_of(looks: Sequence[Look]) -> Facts:
    """The facts of a sample of images."""
    return replace(pooled(looks), side=float(np.median([each.side for each in looks]))) if looks else Facts()


def pooled(facts: Sequence[Facts]) -> Facts:
    """The facts of several workers' images: means weighted by images, and the widest range of values."""
    known = [each for each in facts if each.images]
    if not known:
        return Facts()
    deep = [each for each in known if each.deep > 0]
    images = np.array([each.images for each in known], dtype=np.float64)

    def mean(name: str, among: str | None = None) -> float:
        weights = images * [getattr(each, among) for each in known] if among else images
        return float(weights @ [getattr(each, name) for each in known] / max(weights.sum(), 1e-9))

    shares = {name: min(1.0, mean(name)) for name in ("oblong", "colour", "transparent", "light", "deep")}
    return Facts(
        images=sum(each.images for each in known),
        side=mean("side"),
        dark_ink=min(1.0, mean("dark_ink", "transparent")),
        plain=min(1.0, mean("plain", "oblong")),
        low=min((each.low for each in deep), default=0.0),
        high=max((each.high for each in deep), default=0.0),
        **shares,
    )
