"""Every image of a source in a few numbers: read once, one by one, and none of them kept."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray
from PIL import Image

from fedlmd.data.catalogue import Catalogue, FilesPart, Part, PassedOver, held_out
from fedlmd.data.decoding import DAMAGED
from fedlmd.data.facts import Look, eight_bits, look
from fedlmd.data.formats import Decoded, Raw, from_array, open_image
from fedlmd.data.images import DataError
from fedlmd.data.pixel_rules import windowed
from fedlmd.data.survey import SAMPLE
from fedlmd.progress import Progress

STATISTICS = ("brightness", "contrast", "sharpness", "side", "aspect", "colour")
"""What is measured of each image, see ``Measured``; by these numbers two parts of a source are compared."""

ROW = np.dtype(
    [
        ("readable", np.bool_),
        ("evaluation", np.bool_),
        ("blank", np.bool_),
        ("label", np.int64),
        ("mode", np.int32),
        ("suffix", np.int32),
        ("width", np.int32),
        ("height", np.int32),
        ("pixels", np.uint64),
        *((name, np.float32) for name in STATISTICS),
    ]
)
"""What is kept of an image: some 60 bytes."""

LEVELS = np.arange(256) / 255
"""Grey levels as shares of white."""

MIDDLE = 128
"""Side of the middle of an image in which sharpness is measured, in pixels."""

CHUNK = 32
"""Images between two steps of progress."""


@dataclass(frozen=True)
class Measured:
    """One image in numbers.

    Args:
        look: what it looks like.
        pixels: 64-bit hash of its pixels: the same for a copy in any format that keeps every pixel.
        numbers: by ``STATISTICS``: mean and standard deviation of the grey levels, in [0, 1]; the mean absolute
            Laplacian of its middle over the standard deviation there, 0 where that is nearly constant; the shorter side
            in pixels; the base-2 logarithm of width over height; the mean difference of the largest and the smallest
            channel, in [0, 1].
    """

    look: Look
    pixels: int
    numbers: tuple[float, ...]


@final
@dataclass
class Measurements:
    """All images of a source in numbers, in the order of the catalogue's parts.

    Args:
        catalogue: the source.
        images: all of them, to be read again.
        rows: (N,) of ``ROW``. ``mode`` and ``suffix`` are indices into the two lists; of an image that cannot be
            decoded only the label, the part and the suffix hold.
        modes: Pillow's names of modes, or types of numbers for images with more than 8 bits.
        suffixes: ends of files' names in lower case; "" where images are no files of their own.
        damaged: images that cannot be decoded.
        looks: those of the seeded sample that ``fedlmd.data.survey`` looks at.
    """

    catalogue: Catalogue
    images: Part
    rows: NDArray[Any]
    modes: list[str] = field(default_factory=list)
    suffixes: list[str] = field(default_factory=list)
    damaged: PassedOver = field(default_factory=PassedOver)
    looks: list[Look] = field(default_factory=list)

    def add(self, position: int, *, is_file: bool, sampled: bool) -> None:
        """Read an image and write its row."""
        row, name = self.rows[position], self.images.name(position)
        row["suffix"] = number_of(self.suffixes, Path(name).suffix.casefold() if is_file else "")
        try:
            measured = measure(self.images.raw(position))
        except DataError as error:
            self.damaged.add(f"{DAMAGED} ({error})", name)
            return
        seen = measured.look
        row["readable"], row["blank"], row["pixels"] = True, seen.blank, measured.pixels
        row["mode"] = number_of(self.modes, seen.mode)
        row["width"], row["height"] = seen.size
        for name, value in zip(STATISTICS, measured.numbers, strict=True):
            row[name] = value
        if sampled:
            self.looks.append(seen)


def measure_all(catalogue: Catalogue, evaluation: float) -> Generator[Progress, None, Measurements]:
    """Read and decode every image of a source once.

    Args:
        catalogue: the source.
        evaluation: the share that is split off where the source has no part to evaluate on.

    Yields:
        One step for each ``CHUNK`` images.
    """
    rows = rows_of(catalogue, evaluation)
    result, total = Measurements(catalogue, catalogue.part("all", evaluation), rows), len(rows)
    # The same sample as that of ``survey``, so that the same rules are chosen as in a run.
    sampled = np.zeros(total, dtype=np.bool_)
    sampled[np.random.default_rng(0).permutation(total)[:SAMPLE]] = True
    files = (isinstance(part, FilesPart) for part in catalogue.parts.values() for _ in range(len(part)))
    for position, is_file in enumerate(files):
        result.add(position, is_file=is_file, sampled=bool(sampled[position]))
        if (position + 1) % CHUNK == 0 or position + 1 == total:
            yield Progress("images", position + 1, total)
    return result


def rows_of(catalogue: Catalogue, evaluation: float) -> NDArray[Any]:
    """A row for each image, with its label and part alone."""
    labels = np.concatenate([part.labels for part in catalogue.parts.values()])
    rows = np.zeros(len(labels), dtype=ROW)
    rows["label"] = labels
    rows["evaluation"] = np.concatenate(
        [
            held_out(part.labels, evaluation) if split == "all" else np.full(len(part), split == "eval")
            for split, part in catalogue.parts.items()
        ]
    )
    return rows


def number_of(names: list[str], name: str) -> int:
    """The index of a name in a list, which gets it if it is new."""
    if name not in names:
        names.append(name)
    return names.index(name)


def measure(raw: Raw) -> Measured:
    """One image in numbers. Raises ImageError where ``convert`` does."""
    image = open_image(raw) if isinstance(raw, bytes) else from_array(raw)
    if isinstance(image, np.ndarray):
        windowed(image, None)  # refuses values that are not finite
    pixels = same_form(image)
    # ``look`` takes the decoded pixels: a second decoding of a photograph takes as long as all else.
    seen = look(pixels)
    mode = str(image.dtype) if isinstance(image, np.ndarray) else image.mode
    return Measured(replace(seen, mode=mode), pixel_hash(pixels), numbers_of(pixels, seen))


def same_form(image: Decoded) -> NDArray[Any]:
    """Pixels in a form that does not depend on how a file keeps them: grey, grey with alpha, RGB, RGB with alpha."""
    if isinstance(image, np.ndarray):
        return image
    if image.mode in ("L", "LA", "RGB", "RGBA") and "transparency" not in image.info:
        pixels = np.asarray(image)
    elif image.mode == "1":
        pixels = np.asarray(image.convert("L"))
    else:
        pixels = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    # The first row alone tells that most images in colour are no grey ones.
    if pixels.shape[2:] == (3,) and all((rows == rows[..., :1]).all() for rows in (pixels[0], pixels)):
        return pixels[..., 0]
    return pixels


def pixel_hash(pixels: NDArray[Any]) -> int:
    """A 64-bit hash of pixels, their shape and their type."""
    digest = hashlib.blake2b(f"{pixels.shape} {pixels.dtype.str}".encode(), digest_size=8)
    digest.update(np.ascontiguousarray(pixels).data)
    return int.from_bytes(digest.digest(), "little")


def numbers_of(pixels: NDArray[Any], seen: Look) -> tuple[float, ...]:
    """The statistics of an image, see ``Measured``."""
    picture = eight_bits(from_array(pixels), seen.low, seen.high)
    if picture.has_transparency_data:
        page = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(page, picture.convert("RGBA")).convert("RGB")
    grey = picture.convert("L")
    # From the histogram: a photograph as floats would take eight times its memory.
    shares = np.asarray(grey.histogram(), dtype=np.float64) / (grey.width * grey.height)
    mean = float(shares @ LEVELS)
    deviation = float(np.sqrt(max(0.0, float(shares @ LEVELS**2) - mean**2)))
    colour = 0.0
    if seen.colour:
        small = np.asarray(picture.convert("RGB").resize((16, 16), Image.Resampling.BOX), dtype=np.float64)
        colour = float((small.max(-1) - small.min(-1)).mean()) / 255
    aspect = float(np.log2(grey.width / grey.height))
    return mean, deviation, sharpness(np.asarray(middle(grey)) / 255), float(seen.side), aspect, colour


def middle(grey: Image.Image) -> Image.Image:
    """The middle of an image, at most ``MIDDLE`` pixels wide and high."""
    width, height = min(MIDDLE, grey.width), min(MIDDLE, grey.height)
    left, top = (grey.width - width) // 2, (grey.height - height) // 2
    return grey.crop((left, top, left + width, top + height))


def sharpness(values: Float64[np.ndarray, "h w"]) -> float:
    """The mean absolute Laplacian of grey levels over their standard deviation."""
    deviation = float(values.std())
    if min(values.shape) < 3 or deviation < 0.01:
        return 0.0
    inner = values[1:-1, 1:-1]
    laplacian = 4 * inner - values[:-2, 1:-1] - values[2:, 1:-1] - values[1:-1, :-2] - values[1:-1, 2:]
    return float(np.abs(laplacian).mean()) / deviation
