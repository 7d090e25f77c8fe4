"""The contact sheet of a source: images as they are in their files, and beside each as the networks see it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fedlmd.data.check.copies import Copies
from fedlmd.data.check.measure import Measurements
from fedlmd.data.decoding import DAMAGED
from fedlmd.data.facts import eight_bits, value_range
from fedlmd.data.formats import Raw, from_array, open_image
from fedlmd.data.images import picture
from fedlmd.data.pixel_rules import PixelRules, decode_image
from fedlmd.progress import Progress

ROWS, COLUMNS = 20, 10
"""At most so many labels are shown, and so many images of each."""

LINES = 8
"""At most so many files that cannot be decoded are named."""

CELL, INNER, OUTER, MARGIN, SIDE = 64, 4, 18, 28, 190
"""Pixels: a picture's side, the gaps within and between pairs, the sheet's margin, the width of a row's title."""

PAIR = 2 * CELL + INNER
PAPER, INK, GREY, RULE, MAT = "#ffffff", "#1a1c20", "#6b7078", "#e3e5e9", "#f2f3f5"
"""Colours of the paper, of titles, of captions, of the lines between rows, and behind pictures."""

FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "arial.ttf")
"""Fonts of systems, for characters that Pillow's own lacks."""

Caption = tuple[str, str]


@dataclass(frozen=True)
class Line:
    """One row of the sheet.

    Args:
        title: at its left.
        captions: below the title.
        pairs: pictures, two side by side.
        below: two lines below each picture of each pair, or none.
        texts: in place of pictures.
    """

    title: str
    captions: tuple[str, ...] = ()
    pairs: list[tuple[Image.Image, Image.Image]] = field(default_factory=list)
    below: tuple[tuple[Caption, Caption], ...] = ()
    texts: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        """Pixels that the row takes."""
        return max(CELL + (34 if self.below else 0), 20 * len(self.texts)) + OUTER


def draw_sheet(
    measured: Measurements, copies: Copies, rules: PixelRules, file: Path
) -> Generator[Progress, None, None]:
    """Draw the contact sheet: a row for each label, and rows of nearly blank images, of copies and of damaged files.

    The images of a label are a seeded sample, the same every time. At most ``ROWS`` labels are shown, spread evenly
    over all of them.

    Args:
        measured: the images; only those that are shown are read again.
        copies: images with the same pixels.
        rules: by which the networks see images.
        file: PNG file to write.

    Yields:
        One step for each label.

    Raises:
        OSError: the file cannot be written.
    """
    labels = np.arange(len(measured.catalogue.labels))
    if len(labels) > ROWS:
        labels = labels[np.linspace(0, len(labels) - 1, ROWS).round().astype(np.int64)]
    lines: list[Line] = []
    for done, label in enumerate(labels.tolist(), start=1):
        lines.append(label_line(measured, label, rules))
        yield Progress("sheet", done, len(labels))
    lines += other_lines(measured, copies, rules)
    shown = "" if len(labels) == len(measured.catalogue.labels) else f", {len(labels)} of them shown"
    name, count = Path(measured.catalogue.name).resolve().name, len(measured.catalogue.labels)
    title = f"{name}: {len(measured.rows):,} images, {count:,} labels{shown}"
    seen = f"{rules.size} x {rules.size} pixels, {'grey' if rules.channels == 1 else 'RGB'}"
    page(title, f"left: as in the file; right: as the networks see it, {seen}", lines).save(file, "PNG")


def label_line(measured: Measurements, label: int, rules: PixelRules) -> Line:
    """The row of a label."""
    rows = measured.rows
    members = np.flatnonzero((rows["label"] == label) & rows["readable"])
    evaluated = int(rows["evaluation"][members].sum())
    sample = np.sort(np.random.default_rng([0, label]).permutation(members)[:COLUMNS])
    captions = (f"{len(members) - evaluated:,} to train on", f"{evaluated:,} to evaluate on")
    return Line(shown_label(measured, label), captions, [pair(measured, place, rules) for place in sample.tolist()])


def other_lines(measured: Measurements, copies: Copies, rules: PixelRules) -> Iterator[Line]:
    """The rows of images that are nearly blank, copies of others, or damaged."""
    blank = np.flatnonzero(measured.rows["blank"])
    if len(blank):
        pairs = [pair(measured, place, rules) for place in blank[:COLUMNS].tolist()]
        yield Line("nearly blank", (f"{len(blank):,} of the images",), pairs)
    twins = [*copies.contradictory_examples, *copies.leaked_examples, *copies.repeated_examples]
    if twins:
        chosen = list(dict.fromkeys(twins))[:COLUMNS]
        raw = measured.images.raw
        pairs = [(as_in_file(raw(first)), as_in_file(raw(second))) for first, second in chosen]
        below = tuple((label_and_part(measured, first), label_and_part(measured, second)) for first, second in chosen)
        yield Line("same pixels", (f"{copies.groups:,} groups", "both as in the file"), pairs, below)
    if len(measured.damaged):
        causes = {file: reason[len(DAMAGED) + 2 : -1] for reason, file in measured.damaged.examples.items()}
        texts = tuple(f"{file}: {cause}" for file, cause in causes.items())[:LINES]
        yield Line("not decoded", (f"{len(measured.damaged):,} of the images",), texts=texts)


def label_and_part(measured: Measurements, position: int) -> Caption:
    """An image's label and part."""
    row = measured.rows[position]
    return shown_label(measured, int(row["label"])), "evaluation" if row["evaluation"] else "training"


def shown_label(measured: Measurements, label: int) -> str:
    """A label's name, or its number where no font has all of its characters."""
    name = measured.catalogue.labels[label]
    return name if any(has_all(font, name) for font in fonts(19)) else f"label {label + 1}"


def pair(measured: Measurements, position: int, rules: PixelRules) -> tuple[Image.Image, Image.Image]:
    """An image as it is in its file, and as the networks see it."""
    raw = measured.images.raw(position)
    return as_in_file(raw), in_cell(picture(decode_image(raw, rules)))


def as_in_file(raw: Raw) -> Image.Image:
    """An image as it is in its file; one with more than 8 bits from its lowest value to its highest."""
    decoded = open_image(raw, 2 * CELL) if isinstance(raw, bytes) else from_array(raw)
    return in_cell(eight_bits(decoded, *value_range(decoded)))


def in_cell(image: Image.Image) -> Image.Image:
    """An image in the middle of a square of ``CELL`` pixels, transparent parts on a chequered ground."""
    kept, longest = image.convert("RGBA"), max(image.size)
    scale = CELL / longest if longest > CELL else CELL // longest
    size = (max(1, round(kept.width * scale)), max(1, round(kept.height * scale)))
    filtered = Image.Resampling.LANCZOS if longest > CELL else Image.Resampling.NEAREST
    kept = kept.resize(size, filtered, reducing_gap=3.0)
    cell = Image.new("RGB", (CELL, CELL), MAT)
    left, top = (CELL - kept.width) // 2, (CELL - kept.height) // 2
    if np.asarray(kept.getchannel("A")).min() < 255:
        cell.paste(chequered(kept.size), (left, top))
    cell.paste(kept, (left, top), kept)
    return cell


def chequered(size: tuple[int, int]) -> Image.Image:
    """Squares of two light greys."""
    rows, columns = np.indices((size[1], size[0])) // 8
    return Image.fromarray(np.where((rows + columns) % 2, 255, 214).astype(np.uint8)).convert("RGB")


def page(title: str, subtitle: str, lines: Sequence[Line]) -> Image.Image:
    """The sheet."""
    most = max([6, *(COLUMNS if line.texts else len(line.pairs) for line in lines)])
    width = 2 * MARGIN + SIDE + most * (PAIR + OUTER) - OUTER
    top = MARGIN + 74
    sheet = Image.new("RGB", (width, top + sum(line.height + OUTER for line in lines) + MARGIN - OUTER), PAPER)
    draw = ImageDraw.Draw(sheet)
    write(draw, (MARGIN, MARGIN - 4), title, 24, INK, width - 2 * MARGIN)
    write(draw, (MARGIN, MARGIN + 32), subtitle, 15, GREY, width - 2 * MARGIN)
    for line in lines:
        draw.line([(MARGIN, top - OUTER // 2), (width - MARGIN, top - OUTER // 2)], fill=RULE)
        draw_line(sheet, draw, line, top + OUTER // 2, width)
        top += line.height + OUTER
    return sheet


def draw_line(sheet: Image.Image, draw: ImageDraw.ImageDraw, line: Line, top: int, width: int) -> None:
    """One row of the sheet."""
    write(draw, (MARGIN, top), line.title, 19, INK, SIDE - OUTER)
    for number, caption in enumerate(line.captions):
        write(draw, (MARGIN, top + 26 + 18 * number), caption, 13, GREY, SIDE - OUTER)
    for column, two in enumerate(line.pairs):
        left = MARGIN + SIDE + column * (PAIR + OUTER)
        for number, image in enumerate(two):
            at = left + number * (CELL + INNER)
            sheet.paste(image, (at, top))
            for row, caption in enumerate(line.below[column][number] if line.below else ()):
                write(draw, (at, top + CELL + 4 + 15 * row), caption, 12, GREY, CELL)
    for number, text in enumerate(line.texts):
        write(draw, (MARGIN + SIDE, top + 2 + 20 * number), text, 14, INK, width - 2 * MARGIN - SIDE)


def write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, colour: str, width: int) -> None:
    """A text in one line, shortened to a width."""
    whole = shown = "".join(character if character.isprintable() else "?" for character in text)
    font = next((font for font in fonts(size) if has_all(font, whole)), fonts(size)[0])
    while whole and draw.textlength(shown, font=font) > width:
        whole = whole[:-1]
        shown = f"{whole}..."
    draw.text(at, shown, fill=colour, font=font)


@cache
def fonts(size: int) -> list[ImageFont.FreeTypeFont]:
    """Pillow's font, which has ASCII characters alone, and those of ``FONTS`` that there are."""
    kept = []
    for name in FONTS:
        # A system without the font: labels in its script are then shown by their number.
        with suppress(OSError):
            kept.append(ImageFont.truetype(name, size))
    default = ImageFont.load_default(size)
    return [default, *kept] if isinstance(default, ImageFont.FreeTypeFont) else kept


def has_all(font: ImageFont.FreeTypeFont, text: str) -> bool:
    """Whether a font has the characters of a text: each looks otherwise than one that no font has."""
    missing = bytes(font.getmask("\uffff"))
    return all(bytes(font.getmask(character)) != missing for character in text if character.isprintable())
