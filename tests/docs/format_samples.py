"""One file of each format that is read, and of each that is not."""

import numpy as np
from PIL import Image

from tests.data.samples import COLOURS, RAMP, encode, glyph, on_transparent
from tests.data.test_dicom import dicom


def ramp(top, dtype, low=0):
    """A square of rising values."""
    return np.linspace(low, top, 4096).reshape(64, 64).astype(dtype)


ROTATED = Image.Exif()
ROTATED[0x0112] = 6

GREY, COLOUR = Image.fromarray(RAMP), Image.fromarray(COLOURS)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))

FORMATS = {
    "PNG, grey, 8 bits": encode(GREY),
    "PNG, colour": encode(COLOUR),
    "PNG, black and white": encode(Image.fromarray(RAMP > 127)),
    "PNG, palette": encode(COLOUR.quantize(9)),
    "PNG, black ink on a transparent page": on_transparent(0),
    "PNG, white ink on a transparent page": on_transparent(255),
    "PNG, grey with transparency, black ink": on_transparent(0, "LA"),
    "PNG, palette with transparency, black ink": on_transparent(0, "P"),
    "PNG, black and white, black ink on a transparent page": on_transparent(0, "1"),
    "PNG, 16 bits": encode(Image.fromarray(ramp(65535, np.uint16))),
    "PNG, 16 bits that hold 12": encode(Image.fromarray(ramp(4095, np.uint16))),
    "JPEG (.jpg, .jpeg, .jpe, .jfif)": encode(COLOUR, "JPEG", quality=95),
    "JPEG, grey": encode(GREY, "JPEG", quality=95),
    "JPEG, CMYK": encode(COLOUR.convert("CMYK"), "JPEG"),
    "JPEG with an EXIF orientation, which is applied": encode(NOISE.resize((28, 28)), "JPEG", exif=ROTATED),
    "MPO: the first view": encode(COLOUR, "MPO", save_all=True, append_images=[COLOUR]),
    "BMP": encode(COLOUR, "BMP"),
    "GIF of one frame": encode(GREY, "GIF"),
    "WebP": encode(COLOUR, "WEBP", lossless=True),
    "TIFF (.tif, .tiff)": encode(GREY, "TIFF"),
    "TIFF, 10 bits in 16": encode(Image.fromarray(ramp(1023, np.uint16)), "TIFF"),
    "TIFF, whole numbers of 32 bits": encode(Image.fromarray(ramp(70_000, np.int32)), "TIFF"),
    "TIFF, floats 0 to 1": encode(Image.fromarray(ramp(1, np.float32)), "TIFF"),
    "TIFF, floats 0 to 255": encode(Image.fromarray(ramp(255, np.float32)), "TIFF"),
    "TIFF, floats below 0": encode(Image.fromarray(ramp(3071, np.float32, -1024)), "TIFF"),
    "DICOM, 8 bits (`pip install 'fedlmd[dicom]'`)": dicom(RAMP),
    "DICOM, 12 bits": dicom(ramp(4095, np.uint16), bits=12),
    "DICOM, Hounsfield units": dicom(ramp(4095, np.uint16), bits=12, RescaleSlope="1", RescaleIntercept="-1024"),
    "DICOM, colour": dicom(COLOURS, kind="RGB"),
    "a photograph that is not square": encode(NOISE),
    "black ink on a white page that is not square": encode(
        Image.fromarray(np.pad(np.where(glyph(), 0, 255).astype(np.uint8), ((0, 0), (8, 8)), constant_values=255))
    ),
}


FRAMES = {"save_all": True, "append_images": [Image.fromarray(255 - RAMP)]}

PASSED_OVER = {
    "an animated GIF or WebP": ("a.gif", encode(GREY, "GIF", **FRAMES)),
    "a TIFF of several pages": ("a.tif", encode(GREY, "TIFF", **FRAMES)),
    "an empty file": ("a.png", b""),
    "another format under the name of an image": ("a.png", b"<svg/>"),
    "a truncated file": ("a.png", encode(COLOUR)[:-100]),
    "an image that is too large": ("a.tif", encode(Image.new("1", (40_000, 1)), "TIFF")),
    "the colour space LAB": ("a.tif", encode(Image.new("LAB", (28, 28)), "TIFF")),
    "values that are no numbers": ("a.tif", encode(Image.fromarray(np.full((28, 28), np.nan, np.float32)), "TIFF")),
    "a DICOM file of several frames": ("a.dcm", dicom(np.stack([RAMP] * 3), NumberOfFrames="3")),
    "a file of another kind": ("notes.txt", b"x"),
}
