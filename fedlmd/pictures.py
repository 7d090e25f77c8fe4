"""Pictures for people: PNG bytes, heat-maps, and one picture of all that the detector saw of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fedlmd.answer import Answer, Explanation
from fedlmd.data import to_pixels

__all__ = ["BADGES", "Pixels", "Row", "channels_last", "gallery", "heat_map", "overview", "png"]

Pixels = UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]

# Anchors of "inferno" (Smith & van der Walt 2015), evenly spaced from 0 to 1: its lightness rises evenly.
INFERNO = np.array(
    [
        (0, 0, 4), (27, 12, 65), (74, 12, 107), (120, 28, 109), (165, 44, 96), (207, 68, 70), (237, 105, 37),
        (251, 155, 6), (247, 209, 61), (252, 255, 164),
    ],
    dtype=np.float64,
)  # fmt: skip

# Heat that is drawn brightest: a stroke too many has 1 to 2, the worst pixel of most known images less than 0.7.
BRIGHTEST = 1.0

WHITE, INK, FAINT = (255, 255, 255), (24, 28, 38), (104, 112, 128)
BADGES = {"known": (22, 128, 78), "uncertain": (156, 112, 0), "unknown": (196, 62, 24)}
HIDDEN = (52, 74, 128)

# In pixels.
MARGIN, GAP, LARGE, SMALL = 28, 6, 252, 112
# At most so many of an image's reconstructions are drawn.
SHOWN = 4


@dataclass(frozen=True)
class Row:
    """What a picture shows of one image.

    Args:
        image: (C, H, W) in [-1, 1].
        explanation: what the diffusion model makes of it.
        answer: what the program said of it.
        title: a heading; empty for none.
    """

    image: Float[Tensor, "c h w"]
    explanation: Explanation
    answer: Answer
    title: str = ""


def png(picture: Pixels | Image.Image) -> bytes:
    """A picture as a PNG file; the array is grey (H, W) or RGB (H, W, 3)."""
    file = BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def channels_last(image: UInt8[np.ndarray, "c h w"]) -> Pixels:
    """From a network's (C, H, W) to a picture's (H, W) or (H, W, 3)."""
    return image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))


def heat_map(heat: Float[np.ndarray, "h w"], brightest: float = BRIGHTEST) -> UInt8[np.ndarray, "h w 3"]:
    """Colours for heat, dark to bright.

    The scale is the same for all images, so that two heat-maps can be compared.

    Args:
        heat: squared differences, 0 or more.
        brightest: the heat that is drawn brightest; larger ones look the same.
    """
    # The root brings out faint differences: it is linear in grey levels rather than in their squares.
    level = np.sqrt(np.clip(heat / brightest, 0, 1))
    anchors = np.linspace(0, 1, len(INFERNO))
    bands = [np.interp(level, anchors, INFERNO[:, band]) for band in range(3)]
    return np.stack(bands, axis=-1).round().astype(np.uint8)


def overview(row: Row) -> Image.Image:
    """One picture of all that the detector saw of an image, and what came of it."""
    return gallery([row])


def gallery(rows: Sequence[Row]) -> Image.Image:
    """Several images, one below the other, each with its masks, reconstructions, heat-map and verdict.

    Raises:
        ValueError: without a row.
    """
    if not rows:
        raise ValueError("a gallery needs at least one row")
    strips = [strip(row) for row in rows]
    width = max(drawn.width for drawn in strips)
    height = sum(drawn.height for drawn in strips)
    picture = Image.new("RGB", (width + 2 * MARGIN, height + (len(strips) + 1) * MARGIN), WHITE)
    draw, top = ImageDraw.Draw(picture), MARGIN
    for number, drawn in enumerate(strips):
        picture.paste(drawn, (MARGIN, top))
        top += drawn.height + MARGIN
        if number < len(strips) - 1:
            draw.line([(MARGIN, top - MARGIN // 2), (MARGIN + width, top - MARGIN // 2)], (226, 229, 235), 1)
    return picture


def strip(row: Row) -> Image.Image:
    """One image's part of a gallery, without margins."""
    image = rgb(row.image)
    seen = row.explanation
    heat = overlay(image, heat_map(seen.heat.numpy()))
    columns = [enlarged(image, LARGE), tiles(row, image), enlarged(rgb(seen.median), LARGE), enlarged(heat, LARGE)]
    named = "for a known one" if seen.redrawn_as is None else f"as {quoted(seen.redrawn_as, 12)}"
    headings = ["the image", "parts are hidden (blue) …", f"all in all, redrawn {named}", "where the two differ"]
    width = sum(column.width for column in columns) + (len(columns) - 1) * MARGIN
    above, below = 26 + (36 if row.title else 0), 52
    height = max(column.height for column in columns)
    picture = Image.new("RGB", (width, above + height + below), WHITE)
    draw = ImageDraw.Draw(picture)
    if row.title:
        draw.text((0, 0), row.title, INK, font(23))
    left = 0
    for column, heading in zip(columns, headings, strict=True):
        draw.text((left, above - 8), heading, FAINT, font(16), anchor="ls")
        picture.paste(column, (left, above))
        left += column.width + MARGIN
    caption(picture, row, above + height + below - 18)
    return picture


def tiles(row: Row, image: UInt8[np.ndarray, "h w 3"]) -> Image.Image:
    """Above what each attempt was shown, below what it made of it; as high as the large pictures beside it."""
    seen = row.explanation
    number = min(SHOWN, len(seen.keep))
    masked = [enlarged(cover(image, seen.keep[i, 0].numpy()), SMALL) for i in range(number)]
    redrawn = [enlarged(rgb(seen.reconstructions[i]), SMALL) for i in range(number)]
    side = masked[0].width
    lower = max(enlarged(image, LARGE).height - side, side + 28)
    picture = Image.new("RGB", (number * (side + GAP) - GAP, lower + side), WHITE)
    draw = ImageDraw.Draw(picture)
    for i in range(number):
        picture.paste(masked[i], (i * (side + GAP), 0))
        picture.paste(redrawn[i], (i * (side + GAP), lower))
    draw.text((0, lower - 9), "… and redrawn", FAINT, font(16), anchor="ls")
    return picture


def caption(picture: Image.Image, row: Row, middle: int) -> None:
    """The verdict and the figures behind it, on one line."""
    verdict = row.answer.verdict
    badge, draw = pill(verdict.upper(), BADGES[verdict]), ImageDraw.Draw(picture)
    picture.paste(badge, (0, middle - badge.height // 2))
    left = float(badge.width + 16)
    for number, fact in enumerate(facts(row)):
        if number:
            draw.text((left, middle), "·", FAINT, font(18), anchor="lm")
            left += 17
        draw.text((left, middle), fact, INK, font(18), anchor="lm")
        left += draw.textlength(fact, font(18)) + 12


def facts(row: Row) -> list[str]:
    """What the caption says beside the verdict."""
    answer, redrawn = row.answer, row.explanation.redrawn_as
    side = "above" if answer.is_ood else "within"
    limit = f"{side} threshold {answer.threshold:.2f}" if math.isfinite(answer.threshold) else "without a threshold"
    return [
        f"looks like {quoted(answer.prediction)} ({100 * answer.probabilities[answer.prediction]:.0f}%)",
        *([] if redrawn is None else [f"redrawn as {quoted(redrawn)}"]),
        f"score {answer.score:.2f}, {limit}",
        f"p-value {answer.p_value:.2g}",
    ]


def pill(text: str, colour: tuple[int, int, int]) -> Image.Image:
    """A word on a rounded ground, drawn large and made small, since Pillow's shapes have hard edges."""
    times, height = 4, 30
    width = int(font(17).getlength(text)) + 28
    large = Image.new("RGB", (times * width, times * height), WHITE)
    draw = ImageDraw.Draw(large)
    draw.rounded_rectangle([0, 0, times * width - 1, times * height - 1], times * height // 2, colour)
    draw.text((times * width / 2, times * height / 2), text, WHITE, font(times * 17), anchor="mm")
    return large.resize((width, height), Image.Resampling.LANCZOS)


def quoted(label: str, most: int = 24) -> str:
    """A label in a sentence, cut where it has more than so many letters."""
    return f"“{label if len(label) <= most else label[: most - 1] + '…'}”"


def rgb(image: Float[Tensor, "c h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A network's image in colours."""
    pixels = to_pixels(image).numpy().transpose(1, 2, 0)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def cover(image: UInt8[np.ndarray, "h w 3"], keep: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The image with what was hidden painted over."""
    covered: np.ndarray = image.copy()
    covered[~keep] = HIDDEN
    return covered


def overlay(image: UInt8[np.ndarray, "h w 3"], heat: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Heat over the image, dimmed: the brighter of the two shows in each pixel and band."""
    laid: np.ndarray = np.maximum(heat, (image * 0.4).astype(np.uint8))
    return laid


def enlarged(image: UInt8[np.ndarray, "h w 3"], side: int) -> Image.Image:
    """By the largest whole factor that stays within ``side`` pixels, each pixel a sharp square."""
    factor = max(1, side // max(image.shape[:2]))
    picture = Image.fromarray(image)
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: the same on every machine."""
    return ImageFont.load_default(size)
