"""What images look like, in numbers: from which the rules for pixels are chosen where a run leaves them open."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fedlmd.data.formats import Decoded, from_array, open_image
from fedlmd.data.images import DataError
from fedlmd.data.pixel_rules import Raw, full_window, has_colour, refuse_infinite, windowed

LIGHT = 160
"""Grey level from which a border is called light."""


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
        plain: share of images whose border has one colour.
        deep: share of images with more than 8 bits for each channel.
        whole: whether the values of those are whole numbers.
        low: lowest value of those.
        high: highest value of those.

    Raises:
        DataError: a value is not a finite number in its range.
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
    whole: bool = True
    low: float = 0.0
    high: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise DataError(f"{field.name} of the images is {value!r}; it is a finite number")
        shares = ("oblong", "colour", "transparent", "dark_ink", "light", "plain", "deep")
        if any(not 0 <= getattr(self, name) <= 1 for name in shares) or not 0 <= self.images <= 10**9:
            raise DataError("shares of images lie in [0, 1], and their number in [0, 1e9]")
        if not 1 <= self.side <= 100_000 or not -1e9 <= self.low <= self.high <= 1e9:
            raise DataError("sides of images lie in [1, 100,000] and their values in [-1e9, 1e9]")

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> Facts:
        """Facts from a message. Raises DataError."""
        names = {field.name for field in fields(cls)}
        # JSON from a worker can hold NaN, and whole numbers that no float can hold: int() and float() would raise.
        finite = all(isinstance(value, int | float) and abs(value) <= 1e12 for value in entries.values())
        if not entries.keys() <= names or not finite:
            raise DataError(f"the facts of a worker's images are not finite numbers named {', '.join(sorted(names))}")
        exact: dict[str, Any] = {"images": int, "whole": bool}
        return cls(**{name: exact.get(name, float)(value) for name, value in entries.items()})

    def to_json(self) -> dict[str, Any]:
        """The facts as JSON has them."""
        return asdict(self)


@dataclass(frozen=True)
class Look:
    """What one image looks like; the same words as in ``Facts``."""

    side: int
    oblong: bool
    colour: bool
    transparent: bool
    dark_ink: bool
    light: bool
    plain: bool
    deep: bool
    whole: bool
    low: float
    high: float
    mode: str
    size: tuple[int, int]
    blank: bool


def look(raw: Raw) -> Look:
    """What one image looks like. Raises ImageError as ``convert`` does."""
    image = open_image(raw) if isinstance(raw, bytes) else from_array(raw)
    deep = isinstance(image, np.ndarray)
    low, high, whole = value_range(image)
    picture = eight_bits(image, low, high)
    transparent = picture.has_transparency_data
    dark = transparent and dark_ink(picture)
    page = Image.new("RGBA", picture.size, (255,) * 4 if dark else (0, 0, 0, 255))
    flat = Image.alpha_composite(page, picture.convert("RGBA")) if transparent else picture
    grey = np.asarray(flat.convert("L"))
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]).astype(np.int16)
    plain = float(np.mean(np.abs(border - np.median(border)) <= 8)) > 0.9
    mode = f"{image.dtype}" if isinstance(image, np.ndarray) else picture.mode
    return Look(
        side=min(picture.size),
        oblong=picture.width != picture.height,
        colour=has_colour(flat),
        transparent=transparent,
        dark_ink=dark,
        light=bool(np.median(border) > LIGHT),
        plain=plain,
        deep=deep,
        whole=whole,
        low=low,
        high=high,
        mode=mode,
        size=picture.size,
        blank=deviation(grey) < 2.0,
    )


def deviation(grey: UInt8[np.ndarray, "h w"]) -> float:
    """The standard deviation of grey levels, from their histogram: a photograph as floats would take much memory."""
    shares = np.bincount(grey.ravel(), minlength=256) / grey.size
    levels = np.arange(256)
    variance = float(shares @ levels**2 - (shares @ levels) ** 2)
    return math.sqrt(max(0.0, variance))


def value_range(image: Decoded) -> tuple[float, float, bool]:
    """Lowest and highest value of a deep image, and whether all are whole numbers; 0 and 255 of every other.

    Raises:
        ImageError: a value is not a finite number.
    """
    if not isinstance(image, np.ndarray):
        return 0.0, 255.0, True
    refuse_infinite(image)
    whole = image.dtype.kind != "f" or bool((image == np.floor(image)).all())
    return float(image.min()), float(image.max()), whole


def eight_bits(image: Decoded, low: float, high: float) -> Image.Image:
    """An image with 8 bits for each channel, from its own lowest value to its highest; for looking at it alone."""
    if not isinstance(image, np.ndarray):
        return image
    window = (low, high) if low < high else full_window(image)
    return Image.fromarray(windowed(image, window)[0])


def dark_ink(picture: Image.Image) -> bool:
    """Whether the visible parts of a transparent image are dark."""
    array = np.asarray(picture.convert("RGBA")).astype(np.float64)
    weight = array[..., 3]
    grey = array[..., :3] @ np.array([0.299, 0.587, 0.114])
    return bool((grey * weight).sum() < 127.5 * max(weight.sum(), 1.0))


def facts_of(looks: Sequence[Look]) -> Facts:
    """The facts of a sample of images."""
    if not looks:
        return Facts()
    deep = [each for each in looks if each.deep]

    def share(name: str, among: Sequence[Look] = looks) -> float:
        return float(sum(getattr(each, name) for each in among) / max(1, len(among)))

    return Facts(
        images=len(looks),
        side=float(np.median([each.side for each in looks])),
        oblong=share("oblong"),
        colour=share("colour"),
        transparent=share("transparent"),
        dark_ink=share("dark_ink", [each for each in looks if each.transparent]),
        light=share("light"),
        plain=share("plain"),
        deep=share("deep"),
        whole=all(each.whole for each in deep),
        low=min((max(each.low, -1e9) for each in deep), default=0.0),
        high=max((min(each.high, 1e9) for each in deep), default=0.0),
    )


def pooled(facts: Sequence[Facts]) -> Facts:
    """The facts of several workers' images: means weighted by images, and the widest range of values."""
    known = [each for each in facts if each.images]
    if not known:
        return Facts()
    total = sum(each.images for each in known)
    transparent = sum(each.images * each.transparent for each in known)
    deep = [each for each in known if each.deep > 0]

    def mean(name: str) -> float:
        return float(sum(each.images * getattr(each, name) for each in known) / total)

    shares = {name: mean(name) for name in ("oblong", "colour", "transparent", "light", "plain", "deep")}
    ink = sum(each.images * each.transparent * each.dark_ink for each in known) / transparent if transparent else 0.0
    return Facts(
        images=total,
        side=mean("side"),
        dark_ink=min(1.0, ink),
        whole=all(each.whole for each in deep),
        low=min((each.low for each in deep), default=0.0),
        high=max((each.high for each in deep), default=0.0),
        **{name: min(1.0, value) for name, value in shares.items()},
    )
