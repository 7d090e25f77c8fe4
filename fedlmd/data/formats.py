"""From the bytes of an image file, which are never trusted, to pixels of whatever size, mode and depth it has."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fedlmd.data.dicom import is_dicom, read_dicom
from fedlmd.data.images import ImageError

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
"""What is read, by Pillow's names; every further format would be a further parser of hostile bytes."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".dcm")
"""The same formats and DICOM as file names end, in lower case."""

MAX_PIXELS = 20_000_000
"""Largest image that is decoded, width times height."""

MAX_SIDE = 32_768
"""Longest side that is decoded, in pixels: Pillow takes tens of bytes for each row, however short."""

ACCEPTED = f"a file in one of the formats {', '.join(FORMATS)} or DICOM"
TOO_LARGE = f"the image has more than {MAX_PIXELS:,} pixels or a side above {MAX_SIDE:,}; scale it down first"

Raw = bytes | NDArray[Any]
"""One image as it comes: the bytes of a file, or an array (H, W) or (H, W, C)."""

Decoded = Image.Image | NDArray[Any]
"""A picture with 8 bits for each channel; or, where there are more, the values as an array (H, W) or (H, W, C)."""


def open_image(raw: Raw, enough: int | None = None) -> Decoded:
    """Decode a whole PNG, JPEG, BMP, WebP, or single-frame GIF, TIFF or DICOM file; EXIF orientation is applied.

    Args:
        raw: the file's bytes; or an array, see ``from_array``.
        enough: shortest side that is needed, in pixels: a JPEG file may be decoded at a fraction of its size, down to
            this. None decodes every pixel.

    Raises:
        ImageError: empty, no image of these formats, truncated, of several frames, or above ``MAX_PIXELS`` or
            ``MAX_SIDE``. The size is read from the header, before any memory is spent on pixels.
    """
    if not isinstance(raw, bytes):
        return from_array(raw)
    if not raw:
        raise ImageError(f"the image is empty (0 bytes); give {ACCEPTED}")
    if is_dicom(raw):
        return from_array(read_dicom(raw, refuse_large))
    try:
        image = Image.open(BytesIO(raw), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(TOO_LARGE) from error
    except Exception as error:  # a parser of hostile bytes: what it may raise is not a closed list
        raise ImageError(f"the data is not a readable image; give {ACCEPTED}") from error
    try:
        with image:
            refuse_large(image.width, image.height)
            refuse_frames(image)
            if enough is not None:
                image.draft(None, (enough, enough))
            deep_colour = not image.mode.startswith("I") and ";16" in str(image.tile)
            image.load()
            if deep_colour:
                refuse_dim(image)
            return deep_or_picture(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except Exception as error:  # as above
        raise ImageError(f"the {image.format} image is truncated or damaged; send the whole file again") from error


def refuse_large(width: int, height: int) -> None:
    """Refuse an image that takes too much memory. Raises ImageError."""
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ImageError(TOO_LARGE)


def refuse_frames(image: Image.Image) -> None:
    """Refuse an image of several frames. Raises ImageError."""
    # A camera's MPO is a JPEG with further views behind it: its first picture is the photograph.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise ImageError("the image is animated or has several pages; give a single frame")


def refuse_dim(image: Image.Image) -> None:
    """Refuse colours of 16 bits that fill a part of their range: Pillow keeps the upper 8 bits. Raises ImageError."""
    if np.asarray(image.convert("RGB")).max() < 64:
        raise ImageError(
            "the image has 16 bits for each colour and uses less than a quarter of their range; save it with 8 bits"
        )


def deep_or_picture(image: Image.Image) -> Decoded:
    """Grey values of more than 8 bits as an array; every other image as it is. Raises ImageError."""
    if image.mode.startswith(("I", "F")):
        return np.asarray(image)
    if image.mode == "LAB":
        raise ImageError("the image is in the colour space LAB; save it as RGB")
    return image


def from_array(array: NDArray[Any]) -> Decoded:
    """One image of an array file: bool or uint8 as a picture, everything else as the values that it has.

    Args:
        array: (H, W) or (H, W, C), with 1 to 4 channels: grey, grey and alpha, RGB, RGB and alpha.

    Raises:
        ImageError: above ``MAX_PIXELS`` or ``MAX_SIDE``.
    """
    refuse_large(array.shape[1], array.shape[0])
    flat = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    if flat.dtype == np.bool_:
        flat = flat.astype(np.uint8) * 255
    return Image.fromarray(np.ascontiguousarray(flat)) if flat.dtype == np.uint8 else flat
