"""Images in the forms that Python users have them: arrays, PIL images, paths, bytes, and collections of these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from fedlmd.data import DataError, PixelRules, Raw, decode_image

MOST_BYTES = 2**28
"""Largest file that is read, as by ``fedlmd infer``."""

CHANNELS = (1, 2, 3, 4)

SINGLE = (str, PathLike, bytes, bytearray, memoryview, Image.Image)

AS_ARRAYS = ("1", "L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
"""Modes of Pillow whose arrays hold all that the image has."""


def each_image(images: Any, rules: PixelRules) -> Iterator[Any]:  # noqa: ANN401 - whatever a user has
    """The single images of one image or several, see ``ReleaseEstimator``.

    Raises:
        DataError: it is neither.
    """
    if isinstance(images, SINGLE):
        yield images
    elif isinstance(images, list | tuple | Iterator):
        yield from images
    elif hasattr(images, "__array__"):
        yield from each_of_array(np.asarray(images), rules)
    elif isinstance(images, Iterable) and not isinstance(images, Mapping | Set):
        yield from images
    else:
        raise DataError(
            f"images are given as {type(images).__name__}; give a path, a PIL image, bytes, an array or a list of these"
        )


def each_of_array(array: NDArray[Any], rules: PixelRules) -> Iterator[Any]:
    """The single images of an array. Raises DataError for one of another shape."""
    if array.dtype.kind in "OUS" and array.ndim == 1:
        yield from (item.decode() if isinstance(item, np.bytes_) else item for item in array.tolist())
        return
    is_one = array.ndim == 2 and array.shape[1] != flat_length(rules)
    is_one |= array.ndim == 3 and array.shape[2] in CHANNELS
    if is_one:
        yield array
    elif array.ndim in (2, 3) or (array.ndim == 4 and array.shape[3] in CHANNELS):
        yield from array
    elif array.ndim == 4 and array.shape[1] in CHANNELS:
        raise DataError(
            f"the array {array.shape} has its channels in front; channels come last: X.transpose(0, 2, 3, 1)"
        )
    else:
        raise DataError(
            f"the array has the shape {array.shape}; give (H, W), (H, W, C), (N, H, W), (N, H, W, C) with C of 1 to 4, "
            f"or flat images (N, {flat_length(rules)})"
        )


def decoded(image: Any, number: int, rules: PixelRules) -> UInt8[Tensor, "c s s"]:  # noqa: ANN401
    """One image by the rules for pixels.

    Raises:
        DataError: with the image's number, from 0, and its path where it has one.
    """
    name = f"image {number} ({image})" if isinstance(image, str | PathLike) else f"image {number}"
    try:
        return decode_image(raw(image, rules), rules)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def raw(image: Any, rules: PixelRules) -> Raw:  # noqa: ANN401
    """One image as a file's bytes or an array (H, W) or (H, W, C). Raises DataError."""
    if isinstance(image, str | PathLike):
        return file_bytes(Path(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, Image.Image):
        return of_picture(image)
    if hasattr(image, "__array__"):
        return of_array(np.asarray(image), rules)
    raise DataError(f"it is given as {type(image).__name__}; give a path, a PIL image, bytes or an array")


def file_bytes(path: Path) -> bytes:
    """The content of an image file. Raises DataError."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
        raise DataError(f"it cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > MOST_BYTES:
        raise DataError(f"it has more than {MOST_BYTES // 2**20} MiB; scale it down first")
    return data


def of_picture(image: Image.Image) -> Raw:
    """A PIL image as an array, or as a PNG file where that holds more: a palette, or a transparent colour."""
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise DataError("the image is animated or has several pages; give a single frame")
    upright = ImageOps.exif_transpose(image)
    if upright.mode in AS_ARRAYS and "transparency" not in upright.info:
        return np.asarray(upright)
    if upright.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    file = BytesIO()
    upright.save(file, "PNG", compress_level=0)
    return file.getvalue()


def of_array(array: NDArray[Any], rules: PixelRules) -> NDArray[Any]:
    """An array as one image (H, W) or (H, W, C). Raises DataError for another shape, or values of unclear meaning."""
    side, channels = rules.size, rules.channels
    if array.ndim == 1 and len(array) == flat_length(rules):
        array = array.reshape(side, side, channels)
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS)
    if not is_image or not array.size:
        raise DataError(
            f"the array has the shape {array.shape}; one image is (H, W), (H, W, C) with C of 1 to 4, "
            f"or flat ({flat_length(rules)},)"
        )
    if array.dtype.kind not in "buif":
        raise DataError(f"the array holds {array.dtype}; give uint8, uint16, bool or floats in [0, 1]")
    if rules.window is None:
        refuse_unclear(array)
    return array


def refuse_unclear(array: NDArray[Any]) -> None:
    """Refuse numbers whose black and white are not known. Raises DataError."""
    if array.dtype.kind in "iu" and array.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"the array holds {array.dtype}, of which black and white are not known; give uint8 (0 to 255) or uint16 "
            "(0 to 65,535)"
        )
    if array.dtype.kind == "f" and np.isfinite(array).all() and not 0 <= array.min() <= array.max() <= 1:
        raise DataError(
            f"the array holds floats from {array.min():g} to {array.max():g}; floats lie in [0, 1] (0 is black): "
            "scale them, or give uint8"
        )


def flat_length(rules: PixelRules) -> int:
    """The length of a flat image of the rules' size and channels."""
    return rules.size**2 * rules.channels
