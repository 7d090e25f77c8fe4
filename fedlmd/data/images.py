"""The image contract: labelled uint8 images in memory, float32 (B, C, H, W) in [-1, 1] for every model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image, ImageOps
from torch import Tensor

IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
"""What ``decode_image`` reads, by Pillow's names; every further format would be a further parser of hostile bytes."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
"""The same formats as file names end, in lower case."""

MAX_PIXELS = 20_000_000
"""Largest image that is decoded, width times height."""

MAX_SIDE = 32_768
"""Longest side that is decoded, in pixels: Pillow takes tens of bytes for each row, however short."""

ACCEPTED = f"a file in one of the formats {', '.join(IMAGE_FORMATS)}"
TOO_LARGE = f"the image has more than {MAX_PIXELS:,} pixels or a side above {MAX_SIDE:,}; scale it down first"

Indices = Sequence[int] | np.ndarray | Tensor
"""Positions of images, each 0 to N - 1; no boolean masks."""

MODES = {1: "L", 3: "RGB"}


class DataError(ValueError):
    """A data set, label or file is not what it must be; the message is one sentence for the user."""


class ImageError(DataError):
    """Bytes that are not an acceptable image."""


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with one label each, kept as bytes: 60,000 MNIST digits take 47 MB.

    Args:
        pixels: uint8 (N, C, H, W), 0 (black) to 255.
        labels: int64 (N,), each an index into ``names``.
        names: the label of each index. A worker that holds only some labels keeps all names, so that an index means
            the same on every worker.

    Raises:
        DataError: the three do not fit together.
    """

    pixels: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4:
            raise DataError(f"pixels must be uint8 (N, C, H, W), not {self.pixels.dtype} {tuple(self.pixels.shape)}")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.pixels.shape[:1]:
            raise DataError(
                f"labels must be int64 ({len(self.pixels)},), one for each image, "
                f"not {self.labels.dtype} {tuple(self.labels.shape)}"
            )
        if len(set(self.names)) < len(self.names):
            raise DataError(f"each name may occur once, but names are {', '.join(self.names)}")
        if len(self.labels) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.names):
            raise DataError(f"labels must be 0 to {len(self.names) - 1}, one index for each of the names")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Indices) -> LabelledImages:
        """The images at these positions, in this order, under the same names."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return LabelledImages(self.pixels[chosen], self.labels[chosen], self.names)

    def select(self, labels: Sequence[str], names: Sequence[str] | None = None) -> LabelledImages:
        """Keep only the images of some labels, in their present order.

        Args:
            labels: the labels to keep.
            names: what the indices of the result refer to, a superset of ``labels``; ``labels`` itself by default.

        Raises:
            DataError: a label is unknown, is given twice, has no image, or is missing in ``names``.
        """
        names = tuple(labels if names is None else names)
        check_labels(labels, self.names)
        check_labels(labels, names)
        renumbered = torch.full((len(self.names),), -1, dtype=torch.int64)
        for label in labels:
            old = self.names.index(label)
            if not bool((self.labels == old).any()):
                raise DataError(f"label {label!r} has no image; leave it out, or add images of it")
            renumbered[old] = names.index(label)
        new = renumbered[self.labels]
        return LabelledImages(self.pixels[new >= 0], new[new >= 0], names)

    def images(self, indices: Indices | None = None) -> Float[Tensor, "b c h w"]:
        """All images, or those at these positions, as float32 in [-1, 1]."""
        pixels = self.pixels if indices is None else self.pixels[torch.as_tensor(indices, dtype=torch.int64)]
        return to_unit_range(pixels)


def some(dataset: LabelledImages, most: int, seed: int = 0) -> LabelledImages:
    """At most so many images, drawn at random."""
    return dataset.take(torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))[:most])


def check_labels(labels: Sequence[str], known: Collection[str]) -> None:
    """Refuse a list of labels that is empty, repeats one or names an unknown one.

    Raises:
        DataError: with the label, and with those that exist.
    """
    if not labels:
        raise DataError(f"the list of labels is empty; choose at least one of {', '.join(known)}")
    for position, label in enumerate(labels):
        if label not in known:
            raise DataError(f"there is no label {label!r}; there are {', '.join(known) or 'none'}")
        if label in labels[:position]:
            raise DataError(f"label {label!r} is listed twice; list each label once")


def to_unit_range(pixels: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Bytes 0 to 255 as float32 -1 to 1."""
    return pixels.to(torch.float32) / 127.5 - 1


def to_pixels(images: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """The inverse of ``to_unit_range``: rounded to the nearest byte; what lies outside [-1, 1] is clipped."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def decode_image(data: bytes, size: int, channels: int) -> UInt8[Tensor, "c h w"]:
    """Turn untrusted bytes into one image of the wanted shape.

    An image that already has the shape and mode keeps every pixel. Otherwise: EXIF orientation is applied; 16-bit grey
    is scaled to 8 bits; transparency is composited over black, the background of the digits; grey and RGB are
    converted into each other; other sizes are fitted into the square, with black bars to keep the aspect ratio.

    Args:
        data: a whole PNG, JPEG, BMP, WebP or single-frame GIF file.
        size: height and width of the result, in pixels.
        channels: 1 (grey) or 3 (RGB).

    Returns:
        uint8 (channels, size, size).

    Raises:
        ImageError: empty, no image of these formats, truncated, animated, or above ``MAX_PIXELS`` or ``MAX_SIDE``. The
            size is read from the header, before any memory is spent on pixels.
    """
    check_shape(size, channels)
    if not data:
        raise ImageError(f"the image is empty (0 bytes); give {ACCEPTED}")
    try:
        image = Image.open(BytesIO(data), formats=IMAGE_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(TOO_LARGE) from error
    except Exception as error:  # a parser of hostile bytes: what it may raise is not a closed list
        raise ImageError(f"the data is not a readable image; give {ACCEPTED}") from error
    try:
        with image:
            refuse_unusable(image)
            image.load()
            return tensor(fit(ImageOps.exif_transpose(image), size, channels))
    except ImageError:
        raise
    except Exception as error:  # as above
        raise ImageError(f"the {image.format} image is truncated or damaged; send the whole file again") from error


def fit_pixels(pixels: UInt8[Tensor, "n c h w"], size: int, channels: int) -> UInt8[Tensor, "n d s s"]:
    """Bring decoded images to a shape by the rules of ``decode_image``; as they are if they have it already.

    Raises:
        DataError: images with neither 1 nor 3 channels, or such a shape is wanted.
    """
    check_shape(size, channels)
    if pixels.shape[1] not in MODES:
        raise DataError(f"images must have 1 or 3 channels, not {pixels.shape[1]}")
    if pixels.shape[1:] == (channels, size, size):
        return pixels
    fitted = pixels.new_empty((len(pixels), channels, size, size))
    for position, image in enumerate(pixels):
        fitted[position] = tensor(fit(picture(image), size, channels))
    return fitted


def check_shape(size: int, channels: int) -> None:
    """Refuse an impossible size or number of channels. Raises DataError."""
    if size < 1 or channels not in MODES:
        raise DataError(f"an image needs a size of 1 pixel or more and 1 or 3 channels, not {size} and {channels}")


def refuse_unusable(image: Image.Image) -> None:
    """Refuse an image that is too large or animated. Raises ImageError."""
    if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
        raise ImageError(TOO_LARGE)
    # A camera's MPO is a JPEG with further views behind it: its first picture is the photograph.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise ImageError("the image is animated; give a single frame")


def fit(image: Image.Image, size: int, channels: int) -> Image.Image:
    """An image in the wanted mode, fitted into a square with black bars."""
    mode = MODES[channels]
    flat = flatten(image).convert(mode)
    if flat.size == (size, size):
        return flat
    # Bars are added after the resizing: a 1 x 30,000 image must not become a square of that side.
    scale = size / max(flat.size)
    width, height = (max(1, round(side * scale)) for side in flat.size)
    # Filters without negative lobes: ringing would leave grey pixels on the black around each stroke.
    resample = Image.Resampling.HAMMING if scale < 1 else Image.Resampling.BILINEAR
    square = Image.new(mode, (size, size))
    resized = flat.resize((width, height), resample, reducing_gap=3.0)
    square.paste(resized, ((size - width) // 2, (size - height) // 2))
    return square


def flatten(image: Image.Image) -> Image.Image:
    """Eight bits for each channel, and no transparency."""
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip at 255
        values = np.asarray(image).clip(0, 65535).astype(np.uint32)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")
    return image


def picture(pixels: UInt8[Tensor, "c h w"]) -> Image.Image:
    """An image with 1 or 3 channels, for Pillow."""
    array = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def tensor(image: Image.Image) -> UInt8[Tensor, "c h w"]:
    """The inverse of ``picture``."""
    array = np.array(image)
    return torch.from_numpy(array.reshape(image.height, image.width, -1)).permute(2, 0, 1).contiguous()
