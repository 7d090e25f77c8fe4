"""Small images and files that the tests of this folder share."""

from io import BytesIO

import numpy as np
from PIL import Image

from fedlmd.data import load

RAMP = np.linspace(0, 255, 28 * 28).astype(np.uint8).reshape(28, 28)
"""Every grey level, in rising order."""

COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=-1)
"""The same in colour."""


def encode(image, file_format="PNG", **options):
    """The bytes of an image file."""
    buffer = BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def paint(path, value=255, size=(28, 28), mode="L"):
    """A file of one flat colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)
    return path


def glyph(side=28):
    """Where the ink of a character is: a bar and a dot."""
    ink = np.zeros((side, side), dtype=bool)
    ink[side // 4 : side // 2, side // 4 : -side // 4] = True
    ink[-side // 4 :, side // 2] = True
    return ink


def on_transparent(ink, mode="RGBA"):
    """A file with a character of one grey level on a transparent page."""
    alpha = np.where(glyph(), 255, 0).astype(np.uint8)
    grey = np.full_like(alpha, ink)
    if mode == "P":
        image = Image.fromarray((~glyph()).astype(np.uint8)).convert("P")
        image.putpalette([ink] * 6)
        return encode(image, transparency=bytes([255, 0]))
    if mode == "L":  # one grey level is transparent, the ink is another
        image = Image.fromarray(np.where(glyph(), ink, 128).astype(np.uint8))
        return encode(image, transparency=128)
    if mode == "1":  # two levels alone: the transparent one and the ink
        return encode(Image.fromarray(np.where(glyph(), ink, 255 - ink) > 0), transparency=int(ink == 0))
    return encode(Image.fromarray(np.dstack([grey, alpha] if mode == "LA" else [grey, grey, grey, alpha])))


def shades(images):
    """The grey level in the corner of each image of a set."""
    return images.pixels[:, 0, 0, 0].tolist()


def tree(folder, files):
    """Write files: whole numbers as flat grey images of that level, text and bytes as they are, None as folders."""
    for place, content in files.items():
        path = folder / place
        if content is None:
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, int):
            Image.new("L", (28, 28), content).save(path, format=None if path.suffix else "PNG")
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def content(source, split, **options):
    """The grey levels of a split's images by label."""
    images = load(str(source), split, **options)
    by_label = {name: [] for name in images.names}
    for shade, label in zip(shades(images), images.labels.tolist(), strict=True):
        by_label[images.names[label]].append(shade)
    return {name: levels for name, levels in by_label.items() if levels}


def both(source, **options):
    """The grey levels of the images to train on and to evaluate on, by label."""
    return content(source, "train", **options), content(source, "eval", **options)
