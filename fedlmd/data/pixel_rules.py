"""How pixels are made of an image: the same at every worker and for every prediction, as a release holds the rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fedlmd.data.formats import Decoded, Raw, open_image
from fedlmd.data.images import DataError, ImageError, picture, tensor

MODES = {1: "L", 3: "RGB"}
FILL = {"black": 0, "white": 255}

COLOUR = "in colour, read as grey"
SCALED = "scaled"
PADDED, CROPPED, STRETCHED = "not square, padded", "not square, cut to the centre", "not square, stretched"
WINDOWED, CLIPPED = "more than 8 bits, brought to 8", "values outside of the window, made black or white"


@dataclass(frozen=True)
class PixelRules:
    """How pixels are made of an image, in this order: window, background, channels, fit, inversion.

    Args:
        size: height and width of the result, in pixels.
        channels: 1 (grey) or 3 (RGB).
        background: "black" or "white": what transparent images are laid over, and what fills bars.
        window: the two values that become black and white, where an image has more than 8 bits for each channel; None
            for the whole range of its type: 0 to 65,535 for whole numbers, 0 to 1 for others.
        fit: how an image that is not square becomes one: "pad", "crop" (to the centre) or "stretch".
        invert: whether black and white are exchanged at the end.

    Raises:
        DataError: an impossible size or number of channels.
    """

    size: int = 28
    channels: int = 1
    background: str = "black"
    window: tuple[float, float] | None = None
    fit: str = "pad"
    invert: bool = False

    def __post_init__(self) -> None:
        if self.size < 1 or self.channels not in MODES:
            raise DataError(
                "an image needs a size of 1 pixel or more and 1 or 3 channels, "
                f"not a size of {self.size} and {self.channels} channels"
            )


class Converted(NamedTuple):
    """An image by the rules.

    Args:
        pixels: uint8 (C, S, S).
        changes: what was changed, in a few words each; nothing where every pixel was kept.
    """

    pixels: UInt8[Tensor, "c s s"]
    changes: tuple[str, ...]


def decode_image(raw: Raw, rules: PixelRules) -> UInt8[Tensor, "c s s"]:
    """Turn one untrusted image into pixels by the rules; see ``convert``."""
    return convert(raw, rules).pixels


def convert(raw: Raw, rules: PixelRules) -> Converted:
    """Turn one untrusted image into pixels by the rules, and say what was changed.

    Args:
        raw: the bytes of an image file of one of ``fedlmd.data.formats.FORMATS`` or DICOM, or an array.
        rules: the rules. An image that has their size and mode already keeps every pixel.

    Raises:
        ImageError: no acceptable image, see ``open_image``.
    """
    # Three times the final size keeps what the final resizing needs of a photograph.
    flat, changes = flatten(open_image(raw, 3 * rules.size), rules)
    if rules.channels == 1 and has_colour(flat):
        changes += (COLOUR,)
    fitted, change = fit(flat.convert(MODES[rules.channels]), rules)
    pixels = tensor(fitted)
    return Converted(255 - pixels if rules.invert else pixels, changes + change)


def convert_array(pixels: UInt8[Tensor, "n c h w"], rules: PixelRules) -> UInt8[Tensor, "n d s s"]:
    """Bring decoded images to the rules' form.

    Raises:
        DataError: images with neither 1 nor 3 channels.
    """
    if pixels.shape[1] not in MODES:
        raise DataError(f"images must have 1 or 3 channels, not {pixels.shape[1]}")
    fitted = pixels
    if pixels.shape[1:] != (rules.channels, rules.size, rules.size):
        fitted = pixels.new_empty((len(pixels), rules.channels, rules.size, rules.size))
        for position, image in enumerate(pixels):
            fitted[position] = tensor(fit(picture(image).convert(MODES[rules.channels]), rules)[0])
    return 255 - fitted if rules.invert else fitted


def flatten(image: Decoded, rules: PixelRules) -> tuple[Image.Image, tuple[str, ...]]:
    """Eight bits for each channel and no transparency; and what that changed."""
    changes: tuple[str, ...] = ()
    if isinstance(image, np.ndarray):
        values, clipped = windowed(image, rules.window)
        image = Image.fromarray(values)
        changes = (WINDOWED, CLIPPED) if clipped else (WINDOWED,)
    if image.has_transparency_data:
        over = image.convert("RGBA")
        page = Image.new("RGBA", image.size, (FILL[rules.background],) * 3 + (255,))
        image = Image.alpha_composite(page, over).convert("RGB")
        blank = ", and blank there" if is_hidden(over, image) else ""
        changes += (f"transparent, laid over {rules.background}{blank}",)
    return image, changes


def is_hidden(over: Image.Image, image: Image.Image) -> bool:
    """Whether something was drawn on a transparent page, and nothing of it can be seen on the background."""
    low, high = over.getchannel("A").getextrema()
    return low != high and image.getcolors(1) is not None


def windowed(values: NDArray[Any], window: tuple[float, float] | None) -> tuple[UInt8[np.ndarray, "h w *c"], bool]:
    """Values brought to 0 to 255, rounded; and whether some lay outside of the window.

    Raises:
        ImageError: a value is not a finite number.
    """
    refuse_infinite(values)
    low, high = full_window(values) if window is None else window
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    pixels = np.floor(scaled.clip(0, 255) + 0.5).astype(np.uint8)
    return pixels, bool((scaled < -0.5).any() or (scaled > 255.5).any())


def refuse_infinite(values: NDArray[Any]) -> None:
    """Refuse values that are not finite numbers. Raises ImageError."""
    if not np.isfinite(values).all():
        raise ImageError("some of its values are not finite numbers; replace them")


def full_window(values: NDArray[Any]) -> tuple[float, float]:
    """The range of a type: 16 bits for whole numbers, 0 to 1 for others."""
    return (0.0, 65535.0) if values.dtype.kind in "iu" else (0.0, 1.0)


def has_colour(image: Image.Image) -> bool:
    """Whether an image loses something when it becomes grey."""
    if image.mode in ("1", "L", "LA"):
        return False
    small = image.convert("RGB")
    small.thumbnail((32, 32))
    channels = np.asarray(small).astype(np.int16)
    # JPEG's rounding leaves differences of a few levels between the channels of a grey photograph.
    return bool((channels.max(-1) - channels.min(-1)).max() > 12)


def fit(image: Image.Image, rules: PixelRules) -> tuple[Image.Image, tuple[str, ...]]:
    """An image of the wanted mode as a square of the wanted size; and what that changed."""
    size = rules.size
    if image.size == (size, size):
        return image, ()
    if image.width == image.height:
        return resized(image, (size, size)), (SCALED,)
    if rules.fit == "stretch":
        return resized(image, (size, size)), (STRETCHED,)
    if rules.fit == "crop":
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        return resized(image.crop((left, top, left + side, top + side)), (size, size)), (CROPPED,)
    # Bars are added after the resizing: a 1 x 30,000 image must not become a square of that side.
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    square = Image.new(image.mode, (size, size), (FILL[rules.background],) * len(image.getbands()))
    square.paste(resized(image, (width, height)), ((size - width) // 2, (size - height) // 2))
    return square, (PADDED,)


def resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An image at another size."""
    shrinks = size[0] * size[1] < image.width * image.height
    # Filters without negative lobes: ringing would leave grey pixels on the black around each stroke.
    resample = Image.Resampling.HAMMING if shrinks else Image.Resampling.BILINEAR
    return image.resize(size, resample, reducing_gap=3.0)
