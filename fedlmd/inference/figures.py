"""Pictures: PNG bytes, heat-maps, and an overview of what the detector computed for an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fedlmd.data import to_pixels, to_unit_range
from fedlmd.inference.nearest import NearestImage
from fedlmd.inference.prediction import Explanation, Prediction, Redrawings

Pixels = UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]

# Anchors of "inferno" (Smith & van der Walt 2015), evenly spaced from 0 to 1: its lightness rises evenly.
INFERNO = np.array(
    [
        (0, 0, 4), (27, 12, 65), (74, 12, 107), (120, 28, 109), (165, 44, 96), (207, 68, 70), (237, 105, 37),
        (251, 155, 6), (247, 209, 61), (252, 255, 164),
    ],
    dtype=np.float64,
)  # fmt: skip

# Heat that is drawn brightest: an additional stroke has 1 to 2, the worst pixel of most known images less than 0.7.
BRIGHTEST = 1.0

WHITE, INK, FAINT = (255, 255, 255), (24, 28, 38), (104, 112, 128)
BADGES = {"known": (22, 128, 78), "uncertain": (156, 112, 0), "unknown": (196, 62, 24)}
HIDDEN = np.array((52, 74, 128), np.uint8)

# Pixels that a caption takes at most.
WIDEST_CAPTION = 880
# In pixels.
MARGIN, GAP, LARGE, SMALL, TILE = 28, 6, 252, 112, 148
# At most so many of an image's reconstructions, or of known images near it, are drawn.
SHOWN = 4


@dataclass(frozen=True)
class Row:
    """The contents of one row of a gallery.

    Args:
        image: (C, H, W) in [-1, 1].
        explanation: masks, reconstructions and heat-map of the image.
        prediction: of the image.
        title: a heading; empty for none.
        nearest: known images that are drawn beside it.
    """

    image: Float[Tensor, "c h w"]
    explanation: Explanation
    prediction: Prediction
    title: str = ""
    nearest: Sequence[NearestImage] = ()


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


def gallery(rows: Sequence[Row]) -> Image.Image:
    """Several images, one below the other, each with its masks, reconstructions, heat-map and verdict.

    Raises:
        ValueError: without a row.
    """
    if not rows:
        raise ValueError("a gallery needs at least one row")
    strips = [strip(row) for row in rows]
    width = max(drawn.width for drawn in strips)
    height = sum(drawn.height + MARGIN for drawn in strips)
    picture = Image.new("RGB", (width + 2 * MARGIN, MARGIN + height), WHITE)
    draw, top = ImageDraw.Draw(picture), MARGIN
    for drawn in strips:
        if top > MARGIN:
            draw.line([(MARGIN, top - MARGIN // 2), (MARGIN + width, top - MARGIN // 2)], (226, 229, 235), 1)
        picture.paste(drawn, (MARGIN, top))
        top += drawn.height + MARGIN
    return picture


def strip(row: Row) -> Image.Image:
    """One image's part of a gallery, without margins."""
    columns = with_redrawings(row) if row.explanation.redrawings else with_heat(row)
    width = max(WIDEST_CAPTION, sum(column.width + MARGIN for column in columns.values()) - MARGIN)
    above, below = 26 + (36 if row.title else 0), 52
    height = max(column.height for column in columns.values())
    picture = Image.new("RGB", (width, above + height + below), WHITE)
    draw, left = ImageDraw.Draw(picture), 0
    draw.text((0, 0), row.title, INK, font(23))
    for heading, column in columns.items():
        draw.text((left, above - 8), heading, FAINT, font(16), anchor="ls")
        picture.paste(column, (left, above))
        left += column.width + MARGIN
    caption(picture, row, above + height + below - 18)
    return picture


def with_redrawings(row: Row) -> dict[str, Image.Image]:
    """The pictures of one image that was redrawn itself, by their headings."""
    image, explanation = rgb(row.image), row.explanation
    if explanation.redrawings is None:
        raise ValueError("the explanation has no redrawings")
    named = "for a known one" if explanation.redrawn_as is None else f"as {quoted(explanation.redrawn_as, 12)}"
    return {
        "the image": enlarged(image, LARGE),
        "parts are hidden (blue) …": tiles(explanation.redrawings, image),
        f"all in all, redrawn {named}": enlarged(rgb(explanation.redrawings.median), LARGE),
        "where the two differ": enlarged(heated(row.image, explanation), LARGE),
    }


def with_heat(row: Row) -> dict[str, Image.Image]:
    """The pictures of one image whose latents were redrawn, by their headings."""
    columns = {
        "the image": enlarged(rgb(row.image), LARGE),
        "where it differs": enlarged(heated(row.image, row.explanation), LARGE),
    }
    return columns | ({"the nearest known images": nearest(row.nearest)} if row.nearest else {})


def nearest(known: Sequence[NearestImage]) -> Image.Image:
    """Known images side by side, with their labels and distances below."""
    shown = known[:SHOWN]
    picture = Image.new("RGB", (len(shown) * (TILE + GAP) - GAP, TILE + 50), WHITE)
    draw = ImageDraw.Draw(picture)
    for number, each in enumerate(shown):
        left = number * (TILE + GAP)
        tile = Image.fromarray(rgb(to_unit_range(each.pixels))).resize((TILE, TILE), Image.Resampling.BICUBIC)
        picture.paste(tile, (left, 0))
        draw.text((left, TILE + 18), quoted(each.label, 14), INK, font(16), anchor="ls")
        draw.text((left, TILE + 40), f"distance {each.distance:.2f}", FAINT, font(16), anchor="ls")
    return picture


def heated(image: Float[Tensor, "c h w"], explanation: Explanation) -> UInt8[np.ndarray, "h w 3"]:
    """The heat-map over its dimmed image: the brighter of the two shows in each pixel and band."""
    heat = heat_map(explanation.heat.numpy(), explanation.brightest)
    over: UInt8[np.ndarray, "h w 3"] = np.maximum(
        heat, (rgb(image) * (0.4 if explanation.redrawings else 0.6)).astype(np.uint8)
    )
    return over


def tiles(explanation: Redrawings, image: UInt8[np.ndarray, "h w 3"]) -> Image.Image:
    """Each attempt's masked image above its reconstruction; as high as the large pictures beside it."""
    number, side = min(SHOWN, len(explanation.keep)), enlarged(image, SMALL).width
    lower = max(enlarged(image, LARGE).height - side, side + 28)
    picture = Image.new("RGB", (number * (side + GAP) - GAP, lower + side), WHITE)
    draw = ImageDraw.Draw(picture)
    for i in range(number):
        masked = np.where(explanation.keep[i, 0, :, :, None].numpy(), image, HIDDEN)
        picture.paste(enlarged(masked, SMALL), (i * (side + GAP), 0))
        picture.paste(enlarged(rgb(explanation.reconstructions[i]), SMALL), (i * (side + GAP), lower))
    draw.text((0, lower - 9), "… and redrawn", FAINT, font(16), anchor="ls")
    return picture


def caption(picture: Image.Image, row: Row, middle: int) -> None:
    """The verdict and the figures behind it, on one line."""
    verdict = row.prediction.verdict
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
    """The texts of the caption beside the verdict."""
    prediction, redrawn = row.prediction, row.explanation.redrawn_as
    side = "above" if prediction.is_ood else "within"
    limit = "without a threshold" if prediction.threshold is None else f"{side} threshold {prediction.threshold:.2f}"
    return [
        f"looks like {quoted(prediction.label)} ({100 * prediction.probabilities[prediction.label]:.0f}%)",
        *([] if redrawn is None else [f"redrawn as {quoted(redrawn)}"]),
        f"score {prediction.score:.2f}, {limit}",
        f"p-value {prediction.p_value:.2g}",
    ]


def pill(text: str, colour: tuple[int, int, int]) -> Image.Image:
    """A word on a rounded background, drawn large and scaled down, as Pillow's shapes are not antialiased."""
    times, height = 4, 30
    width = int(font(17).getlength(text)) + 28
    large = Image.new("RGB", (times * width, times * height), WHITE)
    draw = ImageDraw.Draw(large)
    draw.rounded_rectangle([0, 0, times * width - 1, times * height - 1], times * height // 2, colour)
    draw.text((times * width / 2, times * height / 2), text, WHITE, font(times * 17), anchor="mm")
    return large.resize((width, height), Image.Resampling.LANCZOS)


def quoted(label: str, most: int = 24) -> str:
    """A label in quotation marks, cut to ``most`` letters."""
    return f"“{label if len(label) <= most else label[: most - 1] + '…'}”"


def rgb(image: Float[Tensor, "c h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A network's image in colours."""
    pixels = to_pixels(image).numpy().transpose(1, 2, 0)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def enlarged(image: UInt8[np.ndarray, "h w 3"], side: int) -> Image.Image:
    """By the largest whole factor that stays within ``side`` pixels, each pixel a sharp square."""
    factor = max(1, side // max(image.shape[:2]))
    picture = Image.fromarray(image)
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: the same on every machine."""
    return ImageFont.load_default(size)
