"""DICOM files, where the package ``pydicom`` is installed."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedlmd.data.images import ImageError

MAGIC = slice(128, 132)

DEFLATED = tuple(f"1.2.840.10008.1.2.{end}".encode() for end in ("1.99", "4.95", "4.205", "8.1"))
"""Transfer syntaxes that pack a file or a frame by zlib: a few bytes could unpack to any amount of memory."""


def is_dicom(data: bytes) -> bool:
    """Whether the bytes begin as a DICOM file does: 128 bytes of any content, then "DICM" (PS3.10, section 7.1)."""
    return data[MAGIC] == b"DICM"


def read_dicom(data: bytes, check_size: Callable[[int, int], None]) -> NDArray[Any]:
    """The values of a DICOM image, as its modality defines them.

    The rescale slope and intercept of the file are applied (PS3.3, section C.11.1), so that values of different
    scanners mean the same, such as Hounsfield units. Before that, stored values of MONOCHROME1, where low values are
    bright, are mirrored in the range that they can have. The window of the file's own display settings is not applied:
    one window holds for a whole release.

    Args:
        data: the file's bytes.
        check_size: raises ImageError for a width and height that are too large; called before pixels are decoded.

    Returns:
        (H, W) or (H, W, 3).

    Raises:
        ImageError: without ``pydicom``; no single frame; compressed by a method that is not installed; damaged.
    """
    try:
        import pydicom  # noqa: PLC0415 - an extra
    except ImportError:
        raise ImageError("a DICOM file needs the package pydicom: pip install 'fedlmd[dicom]'") from None
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut  # noqa: PLC0415 - as above

    if any(syntax in data for syntax in DEFLATED):
        raise ImageError("the DICOM file is deflated; save it uncompressed, or as PNG")
    try:
        file = pydicom.dcmread(BytesIO(data))
        check_size(int(file.Columns), int(file.Rows))
        if int(file.get("NumberOfFrames") or 1) != 1:
            raise ImageError(f"the DICOM file has {file.NumberOfFrames} frames; give a single frame")
        values = file.pixel_array  # colour of video (YBR) is RGB already
        kind = str(file.PhotometricInterpretation)
        if kind == "PALETTE COLOR":
            values = apply_color_lut(values, file)
        if kind == "MONOCHROME1":
            values = -1 - values if file.PixelRepresentation else 2 ** int(file.BitsStored) - 1 - values
        if values.ndim == 2:
            values = apply_modality_lut(values, file)
        return np.asarray(values)
    except ImageError:
        raise
    except Exception as error:  # a parser of hostile bytes: what it may raise is not a closed list
        reason = str(error).partition("\n")[0].rstrip(": ")
        raise ImageError(f"the DICOM file cannot be read ({reason}); save it uncompressed, or as PNG") from error
